"""Tasks: what the workers of an engine are sent, and what they do with it.

A task is some shards of a plan. The worker makes their parts in the folder of parts, which it
shares with the process that sent the task, and returns only how many galaxies are done.
"""

import logging
import os
import socket
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from galfig.attribution.engine import Engine, open_workers
from galfig.catalog.galaxies import Galaxies
from galfig.config import Settings
from galfig.errors import CheckpointError, EngineError, GalfigError
from galfig.networks.architectures import LayerTraits
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.device import computing_with
from galfig.networks.ensemble import load_networks
from galfig.pipeline.engines import count_threads
from galfig.pipeline.parts import Parts
from galfig.pipeline.portion import Portion, anchor_images
from galfig.pipeline.proof import name_way, prove_engines, read_proof_images
from galfig.pipeline.work import Work, make_parts
from galfig.runtime.malloc import keep_freed_memory
from galfig.runtime.messages import quote
from galfig.runtime.options import RunOptions
from galfig.runtime.storage import Address
from galfig.runtime.timing import Stopwatch


@dataclass(frozen=True)
class NetworkFile:
    """Where the workers of an engine find the network.

    Attributes
    ----------
    path : Path
        The file, or the folder of several.
    arch : str or None
        The architecture, if the user's own code builds it.
    """

    path: Path
    arch: str | None = None


@dataclass(frozen=True)
class Job:
    """What the tasks of one build have in common.

    Attributes
    ----------
    token : str
        Tells this build from others: a worker prepares once for each.
    folder : Path
        The working directory, from which relative paths lead on.
    pid : int
        The process that sends the tasks.
    network : NetworkFile or Checkpoint
        The network.
    network_digest : str
        Its digest.
    first : Galaxies
        The first galaxies of the plan, on whose images the network is examined.
    settings : Settings
        How to explain.
    layer_name : str
        The layer to explain.
    layer : LayerTraits
        What is known of it.
    precision : str
        The precision that the sender computes at, which may have been chosen by measuring.
    way : str
        How the maps are to be computed; see `galfig.pipeline.proof.name_way`.
    plan_digest : str
        The digest of the plan.
    parts : Parts
        Where the parts go.
    run : RunOptions
        Device and threads.
    root : Path, Address or None
        The folder that the addresses of images are relative to, where the store holds them.
    """

    token: str
    folder: Path
    pid: int
    network: NetworkFile | Checkpoint
    network_digest: str
    first: Galaxies
    settings: Settings
    layer_name: str
    layer: LayerTraits
    precision: str
    way: str
    plan_digest: str
    parts: Parts
    run: RunOptions
    root: Path | Address | None

    def anchor(self, folder: Path) -> "Job":
        """Return the job with its relative paths taken from a folder."""
        network = self.network
        if isinstance(network, NetworkFile):
            network = replace(network, path=folder / network.path)
        return replace(
            self,
            network=network,
            first=anchor_images(self.first, folder),
            parts=Parts(folder / self.parts.folder),
            root=folder / self.root if isinstance(self.root, Path) else self.root,
        )


@dataclass(frozen=True)
class Outcome:
    """What a worker answers.

    Attributes
    ----------
    n_galaxies : int
        Number of galaxies of the shards whose parts are there now.
    busy : tuple of int
        Numbers of the shards whose parts another process is making.
    error : str
        Name of the error that ended the task, as in ``galfig.errors``; "" without one, and where it
        was none that galfig raises on purpose.
    message : str
        What it says; "" without an error. Of an unexpected one, the traceback.
    """

    n_galaxies: int = 0
    busy: tuple[int, ...] = ()
    error: str = ""
    message: str = ""


# What a worker warns of, the process that sent the task has said already.
_QUIET = logging.NullHandler()
# One task at a time in a process, so that the memory is that of one, and its threads are enough.
_TURN = threading.Lock()
# The token of the last build, and the networks that were prepared for it.
_PREPARED: dict[str, tuple[Checkpoint, list[Engine]]] = {}


def explain_portion(job: Job, portion: Portion) -> Outcome:
    """Make the parts of some shards; this runs in a worker.

    Every exception becomes part of the answer. What a future raises besides is therefore a fault
    of the engine, such as the loss of its worker.

    Parameters
    ----------
    job : Job
        What to do.
    portion : Portion
        The shards.

    Returns
    -------
    Outcome
    """
    if os.getpid() != job.pid:
        logging.getLogger("galfig").addHandler(_QUIET)
        if job.run.engine != "local":
            # As the command itself does; the process of an executor may have other things to do.
            keep_freed_memory()
    try:
        if Path.cwd() != job.folder:
            # Paths that need not be changed are as short in messages as the user wrote them.
            portion, job = portion.anchor(job.folder), job.anchor(job.folder)
        with _TURN:
            return _explain(job, portion)
    except GalfigError as exc:
        return Outcome(error=type(exc).__name__, message=str(exc))
    except Exception:
        return Outcome(message=f"{_name_worker()}:\n{traceback.format_exc()}")


def _explain(job: Job, portion: Portion) -> Outcome:
    # Nothing may appear in the folder of parts once they are merged, not even a lock.
    guard = partial(job.parts.check_plan, job.plan_digest)
    guard()
    checkpoint, engines = _prepare(job)
    work = Work(portion, checkpoint, engines, job.parts, job.run, guard, job.root)
    numbers = list(portion.shards)
    ignore: Callable[[int], object] = lambda n: None  # noqa: E731
    with (
        open_workers(job.run.n_workers or count_threads(job.run.engine)) as pool,
        ThreadPoolExecutor(1) as writer,
    ):
        busy = make_parts(
            work, numbers, ignore, pool=pool, writer=writer, stopwatch=Stopwatch(), is_patient=True
        )
    done = [number for number in numbers if number not in busy]
    return Outcome(portion.count(done), tuple(busy))


def _prepare(job: Job) -> tuple[Checkpoint, list[Engine]]:
    """Load and prove the networks, once for each build."""
    if job.token in _PREPARED:
        return _PREPARED[job.token]
    checkpoint = job.network
    if isinstance(checkpoint, NetworkFile):
        path = checkpoint.path
        checkpoint = load_networks(path, arch=checkpoint.arch)
        if checkpoint.digest != job.network_digest:
            raise CheckpointError(
                f"{path}: {_name_worker()} finds another network there than the one that the build "
                "began with, expected the same file for all workers"
            )
    # A process that was forked has none of the threads with which torch could compute.
    with computing_with(1):
        images = read_proof_images(job.first, checkpoint, job.settings)
        engines = prove_engines(
            checkpoint, images, job.settings, job.layer_name, job.layer, job.run
        )
    for engine in engines:
        engine.set_precision(job.precision)
    if (way := name_way(engines, job.settings)) != job.way:
        raise EngineError(
            f"{_name_worker()} computes maps in another way (there: {quote(way)}; here: "
            f"{quote(job.way)}), expected one kind of processor for all parts of a store; start "
            "the build on such a machine, or use such workers only"
        )
    _PREPARED.clear()
    _PREPARED[job.token] = checkpoint, engines
    return _PREPARED[job.token]


def _name_worker() -> str:
    return f"worker {os.getpid()} on {quote(socket.gethostname())}"
