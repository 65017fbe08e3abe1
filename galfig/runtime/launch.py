"""Launch: which of several processes of one job this is, as the program that started them says."""

import os
from collections.abc import Mapping
from typing import NamedTuple

# What accelerate and torchrun tell each process, so that all of them can find each other.
_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


class Place(NamedTuple):
    """The place of this process among those of one job.

    Attributes
    ----------
    rank : int
        Its number, from 0.
    n_processes : int
        Number of processes; 1 where nobody started several.
    """

    rank: int
    n_processes: int

    @property
    def is_main(self) -> bool:
        """Whether this is the process that reports, and writes files."""
        return self.rank == 0


def find_place(environment: Mapping[str, str] = os.environ) -> Place:
    """Return the place of this process among those that ``accelerate launch`` started.

    Parameters
    ----------
    environment : mapping of str to str, optional
        The environment.

    Returns
    -------
    Place
        The only one, unless the environment says all that processes need to find each other.
    """
    numbers = [environment.get(name, "").strip() for name in _NUMBERS]
    has_address = all(environment.get(name) for name in _ADDRESS)
    if not has_address or not all(number.isdecimal() for number in numbers):
        return Place(0, 1)
    rank, n_processes, _ = map(int, numbers)
    return Place(rank, n_processes) if rank < n_processes else Place(0, 1)


def is_alone_unasked(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether accelerate was asked for several processes on CPUs, and started one.

    On CPUs, ``accelerate launch`` leaves the starting to MPI [1]_. Without MPI it starts a single
    process, and says nothing.

    Parameters
    ----------
    environment : mapping of str to str, optional
        The environment.

    References
    ----------
    .. [1] https://github.com/huggingface/accelerate/issues/2741
    """
    is_asked = "ACCELERATE_USE_CPU" in environment and "MASTER_PORT" in environment
    return is_asked and "RANK" not in environment
