"""How a job runs: on what, with how many threads, and whether it may take over another's."""

from dataclasses import dataclass
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class RunOptions:
    """How a job runs on this machine; what it makes does not follow from it.

    Attributes
    ----------
    device : {"auto", "cpu", "cuda"}, default "auto"
        Where the network runs; "auto" takes CUDA where there is one. Its arithmetic rounds as
        that device does.
    n_workers : int, optional
        Threads that decode images; default one a processor.
    takeover : bool, default False
        Go on with the work of a process of another host that is gone; see
        `galfig.runtime.lock.hold_lock`.
    """

    device: Device = "auto"
    n_workers: int | None = None
    takeover: bool = False


DEFAULT_RUN = RunOptions()
