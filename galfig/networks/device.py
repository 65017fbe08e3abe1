"""Device: where a network runs, with how many threads, and in which memory layout it trains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import environ
from typing import Any

import torch
from torch import nn

from galfig.errors import ConfigError
from galfig.runtime.messages import quote
from galfig.runtime.options import DEVICES, Device, is_device


def choose_device(name: Device) -> torch.device:
    """Return the device that a name stands for.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda", "cuda:1", ...}
        "auto" is CUDA where there is a CUDA device, and the CPU otherwise. Numbers count the
        devices that this process may see: CUDA_VISIBLE_DEVICES of the environment chooses them.

    Returns
    -------
    torch.device

    Raises
    ------
    ConfigError
        If the name is none of these, or there is no such CUDA device.
    """
    if not is_device(name):
        raise ConfigError(f"`device` {name!r}: expected {DEVICES}")
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if n_devices else "cpu")
    device = torch.device(name)
    if device.type != "cuda":
        return device
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    where = "" if visible is None else f", with CUDA_VISIBLE_DEVICES={quote(visible)}"
    if not n_devices:
        raise ConfigError(
            f'`device="{name}"`: no CUDA device found{where}; use `device="auto"` or `device="cpu"`'
        )
    if (device.index or 0) >= n_devices:
        there = "cuda:0" if n_devices == 1 else f"cuda:0 to cuda:{n_devices - 1}"
        raise ConfigError(
            f'`device="{name}"`: no such CUDA device, expected {there}{where}; numbers count from 0'
        )
    return device


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


@contextmanager
def replacing_forward(model: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Have a network compute by another function, and keep the names of its weights.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    forward : callable
        What it computes within the block, most likely by means of its own ``forward``.
    """
    before = vars(model).get("forward")
    model.forward = forward
    try:
        yield
    finally:
        if before is None:
            # The method of its class shows again.
            del model.forward
        else:
            model.forward = before


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


def choose_layout(
    model: nn.Module, shape: tuple[int, ...], device: torch.device | str = "cpu"
) -> torch.memory_format:
    """Return the memory layout in which a network trains fast and safely.

    CPUs and tensor cores convolve fastest channels-last. It is taken only where all that convolves
    is known to work so: every parameter with three axes or more belongs to a 2-D convolution, and
    the network runs on an image in this layout. Some need contiguous tensors, for a ``.view``. On a
    CPU, no convolution may have a 1 x 1 kernel and a stride: the gradient of its weights makes
    oneDNN write beyond its memory if there are few channels [1]_.

    Parameters
    ----------
    model : torch.nn.Module
        The network, on any device. Its parameters are left in the layout that is returned.
    shape : tuple of int
        Shape (n_channels, H, W) of an image.
    device : torch.device or str, default "cpu"
        Where the network will train.

    Returns
    -------
    torch.memory_format
        ``torch.channels_last`` or ``torch.contiguous_format``.

    References
    ----------
    .. [1] https://github.com/uxlfoundation/oneDNN/issues/6035
    """
    is_cpu = torch.device(device).type == "cpu"
    if _convolves_safely(model, is_cpu=is_cpu) and _runs_channels_last(model, shape):
        return torch.channels_last
    model.to(memory_format=torch.contiguous_format)
    return torch.contiguous_format


def _convolves_safely(model: nn.Module, *, is_cpu: bool) -> bool:
    """Return whether all convolutions are known to work channels-last."""
    kernels = 0
    for module in model.modules():
        if not isinstance(module, nn.Conv2d):
            kernels += sum(parameter.ndim > 2 for parameter in module.parameters(recurse=False))
        elif is_cpu and set(module.kernel_size) == {1} and set(module.stride) != {1}:
            return False
    return kernels == 0


def _runs_channels_last(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Convert the parameters, and return whether the network runs on an image so converted."""
    model.to(memory_format=torch.channels_last)
    modes = {module: module.training for module in model.modules()}
    # In evaluation mode, neither statistics nor random states change.
    model.eval()
    try:
        with torch.no_grad():
            image = next(model.parameters()).new_zeros(1, *shape)
            model(image.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    finally:
        for module, mode in modes.items():
            module.training = mode
    return True
