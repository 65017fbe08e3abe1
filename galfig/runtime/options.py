"""How a job runs: device, threads, engine, whether it may take over a lock; galaxies and maps."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from galfig.runtime.storage import Address

if TYPE_CHECKING:
    from concurrent.futures import Executor

# Where a network runs: "auto", "cpu", "cuda", or "cuda:1" for one device of several.
Device = str
_DEVICE = re.compile(r"auto|cpu|cuda(:(0|[1-9]\d{0,3}))?")
DEVICES = "'auto', 'cpu', 'cuda', or 'cuda:1' for one device of several"
# What explains the shards of a plan; see `galfig.pipeline.engines`.
EngineName = Literal["local", "dask", "ray", "slurm"]
# Galaxies, by how the training of a network used them. It is declared here, since the help of the
# command line needs it, and the settings import pydantic.
Split = Literal["valid", "train", "test", "all"]
# What a training may have done with a galaxy; "" where this is unknown.
SPLITS = ("", "train", "valid", "test")
# What decides the class of simulated galaxies; see `galfig.catalog.cues`.
Cue = Literal["core", "disk", "knots", "corner", "conjunction", "suppressor"]
# What maps panels show, if not those of the store's method.
MapKind = Literal["grad-cam", "evidence"]
# How rows of panels show maps, and which of them share a colour scale.
Overlay = Literal["opaque", "blend", "contour", "side"]
Scale = Literal["row", "panel", "figure"]
# How features are projected to a plane.
Projection = Literal["pca", "umap"]
# Where the panels of a galaxy stand: beside each other, or below each other; and what they say.
Layout = Literal["rows", "grid"]
Annotation = Literal["objid", "name", "z", "value", "true", "p", "sum"]
# Keys of the style that only some figures take.
STYLED = (
    *("overlay", "scale", "negative", "layout", "columns", "pages", "annotate", "designation"),
    *("title", "letters", "compass"),
)
# Variable of the environment: if it is set, nothing is downloaded.
OFFLINE = "GALFIG_OFFLINE"


@dataclass(frozen=True)
class RunOptions:
    """How a job runs on this machine. These options are not part of the recipe of its results.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, default "auto"
        Where the network runs; "auto" uses CUDA if it is available. Results differ between devices
        by rounding.
    n_workers : int, optional
        Number of threads that decode images; by default one per processor, but no more than four
        for a GPU.
    takeover : bool, default False
        Take over a stale lock from another host; see `galfig.runtime.lock.hold_lock`.
    engine : {"local", "dask", "ray", "slurm"}, default "local"
        What explains the shards: threads of this process, or workers of Dask, Ray or Slurm.
    address : str, optional
        Where the engine is; see `galfig.pipeline.engines.open_engine`.
    executor : concurrent.futures.Executor, optional
        What explains the shards in place of an engine.
    storage : Address, optional
        Where parts of stores are kept besides; see `galfig.pipeline.mirror`.
    """

    device: Device = "auto"
    n_workers: int | None = None
    takeover: bool = False
    engine: EngineName = "local"
    address: str | None = None
    executor: "Executor | None" = field(default=None, repr=False)
    storage: Address | None = None


DEFAULT_RUN = RunOptions()


def is_device(name: object) -> bool:
    """Return whether a name is one of a device, which this machine may lack."""
    return isinstance(name, str) and _DEVICE.fullmatch(name) is not None
