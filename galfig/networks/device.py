"""Device: where a network runs, and with how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from typing import get_args

import torch

from galfig.errors import ConfigError
from galfig.runtime.messages import require_choice
from galfig.runtime.options import Device


def choose_device(name: Device) -> torch.device:
    """Return the device that a name stands for.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"}
        "auto" is CUDA where there is a CUDA device, and the CPU otherwise.

    Returns
    -------
    torch.device

    Raises
    ------
    ConfigError
        If the name is none of these, or "cuda" without a CUDA device.
    """
    require_choice("device", name, get_args(Device))
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError(
            '`device="cuda"`: no CUDA device found; use `device="auto"` or `device="cpu"`'
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and has_cuda) else "cpu")


@contextmanager
def computing_with(n_threads: int) -> Iterator[None]:
    """Have torch compute with a number of threads, whatever the processors and the environment.

    The threads share the sums of a convolution, so that their number determines the rounding. More
    threads than processors take turns, with the same results.

    Parameters
    ----------
    n_threads : int
        The number within the block.

    Raises
    ------
    ConfigError
        If the environment permits fewer threads. The kernels of torch would wait for the others
        for ever.
    """
    _check_environment(n_threads)
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_environment(n_threads: int) -> None:
    limit = environ.get("OMP_THREAD_LIMIT", "").strip()
    if limit.isdecimal() and int(limit) < n_threads:
        found = f"OMP_THREAD_LIMIT={limit}"
    elif n_threads > 1 and environ.get("OMP_DYNAMIC", "").strip().lower() == "true":
        found = "OMP_DYNAMIC=true"
    else:
        return
    raise ConfigError(
        f"{found}: permits fewer threads than the {n_threads} that a training computes with; unset "
        "it, or train with another number of [training] threads, which gives another network"
    )
