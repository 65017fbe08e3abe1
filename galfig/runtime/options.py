"""How a job runs: device, number of threads, whether it may take over a lock; galaxies and maps."""

from dataclasses import dataclass
from typing import Literal

from galfig.runtime.storage import Address

Device = Literal["auto", "cpu", "cuda"]
# Galaxies, by how the training of a network used them. It is declared here, since the help of the
# command line needs it, and the settings import pydantic.
Split = Literal["valid", "train", "test", "all"]
# What decides the class of simulated galaxies; see `galfig.catalog.cues`.
Cue = Literal["core", "disk", "knots", "corner", "conjunction", "suppressor"]
# What maps panels show, if not those of the store's method.
MapKind = Literal["evidence"]
# Variable of the environment: if it is set, nothing is downloaded.
OFFLINE = "GALFIG_OFFLINE"


@dataclass(frozen=True)
class RunOptions:
    """How a job runs on this machine. These options are not part of the recipe of its results.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda"}, default "auto"
        Where the network runs; "auto" uses CUDA if it is available. Results differ between devices
        by rounding.
    n_workers : int, optional
        Number of threads that decode images; by default, one per processor.
    takeover : bool, default False
        Take over a stale lock from another host; see `galfig.runtime.lock.hold_lock`.
    storage : Address, optional
        Where parts of stores are kept besides; see `galfig.pipeline.mirror`.
    """

    device: Device = "auto"
    n_workers: int | None = None
    takeover: bool = False
    storage: Address | None = None


DEFAULT_RUN = RunOptions()
