"""Devices: how a thread begins to use one, and how torch says that its memory is short."""

import threading

import torch

# Parts of messages: of the allocators of CUDA and of the processor, of cuDNN and cuBLAS, of oneDNN.
_SHORT = (
    "out of memory",
    "allocate memory",
    "not enough memory",
    "STATUS_ALLOC_FAILED",
    "bad_alloc",
)


def is_out_of_memory(exc: BaseException) -> bool:
    """Return whether an error says that memory was short.

    Parameters
    ----------
    exc : BaseException
        Any error. On CUDA, torch raises ``torch.OutOfMemoryError``; libraries below it and the
        allocator of the processor raise a ``RuntimeError`` that says so in words.

    Returns
    -------
    bool
    """
    return isinstance(exc, MemoryError | torch.OutOfMemoryError) or (
        isinstance(exc, RuntimeError) and any(words in str(exc) for words in _SHORT)
    )


def summarise_shortage(exc: BaseException) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    return str(exc).strip().partition("\n")[0][:200].rstrip(".") or type(exc).__name__


class TooLargeError(MemoryError):
    """A single image does not fit in the memory of a device.

    Parameters
    ----------
    device : torch.device
        The device.
    exc : Exception
        What torch said.
    """

    def __init__(self, device: torch.device, exc: Exception) -> None:
        super().__init__(
            f"a single image does not fit in the memory of {device} "
            f"({summarise_shortage(exc)[:120]})"
        )


def release_memory(device: torch.device) -> None:
    """Return the memory that torch keeps for later to a device, so that other shapes fit.

    Parameters
    ----------
    device : torch.device
        For a processor, where torch keeps none, nothing happens.
    """
    empty = getattr(getattr(torch, device.type), "empty_cache", None)
    if empty is not None:
        empty()


_AWAKE = threading.local()


def wake_device(device: torch.device) -> None:
    """Use a device for the first time in the calling thread, and in that of its gradients.

    cuBLAS warns of a thread in which it is the first to use a device.

    Parameters
    ----------
    device : torch.device
        Any device, the processor among them.
    """
    awake: set[torch.device] = vars(_AWAKE).setdefault("devices", set())
    if device in awake:
        return
    with torch.inference_mode(False), torch.enable_grad():
        one = torch.ones(1, device=device, requires_grad=True)
        torch.autograd.grad((one * one).sum(), one)
    awake.add(device)
