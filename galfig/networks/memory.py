"""Memory: what a network will need at least, told without computing anything."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from galfig.attribution.devices import is_out_of_memory, summarise_shortage
from galfig.attribution.engine import measure_footprint
from galfig.attribution.probe import N_PROBES
from galfig.attribution.variants import copy_network
from galfig.errors import ConfigError
from galfig.runtime.machine import find_memory

# A weight takes its own room, that of its gradient, and that of two moments in the optimiser.
_N_PER_WEIGHT = 4


def measure_training(model: nn.Module, shape: Sequence[int], n_images: int) -> int:
    """Return the memory that a step of training takes at least.

    Parameters
    ----------
    model : torch.nn.Module
        The network in training mode, on the "meta" device, where nothing is computed.
    shape : sequence of int
        Shape (n_channels, H, W) of an image.
    n_images : int
        Images in a step.

    Returns
    -------
    int
        Size [byte] of what the forward pass keeps for the gradients, and of the weights, their
        gradients and the state of the optimiser.
    """
    # Tensors that share their memory count once.
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    weights = list(model.parameters())
    for weight in weights:
        keep(weight)
    n_bytes = sum(storage.nbytes() for storage in kept.values())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(weights[0].new_zeros(n_images, *shape))
    return sum(storage.nbytes() for storage in kept.values()) + (_N_PER_WEIGHT - 1) * n_bytes


def measure_explaining(model: nn.Module, shape: Sequence[int], *, of_pixels: bool = False) -> int:
    """Return the memory that explaining images takes at least.

    Parameters
    ----------
    model : torch.nn.Module
        The network, on any device; only a copy of it runs, on the "meta" device.
    shape : sequence of int
        Shape (n_channels, H, W) of an image.
    of_pixels : bool, default False
        Whether gradients are taken all the way down to the image, for which the whole network
        keeps its feature maps.

    Returns
    -------
    int
        Size [byte] of input and output of the widest module for the images of noise on which the
        network is examined, which run together, or of all that is kept for their gradients; 0 if
        the network does not run without computing.
    """
    try:
        copied = copy_network(model).to("meta")
        if of_pixels:
            return measure_training(copied, shape, N_PROBES)
        return N_PROBES * measure_footprint(copied, shape)
    # A network from elsewhere may raise anything here, and still run.
    except Exception:
        return 0


def check_memory(where: str, n_bytes: int, device: torch.device, advice: str) -> None:
    """Refuse work that cannot fit in the memory, before it begins.

    Parameters
    ----------
    where : str
        What needs the memory, for the message.
    n_bytes : int
        What it needs at least [byte].
    device : torch.device
        Where it runs.
    advice : str
        What the user can do.

    Raises
    ------
    ConfigError
        If the memory that this process may use is smaller, or that of the GPU.
    """
    if device.type == "cuda":
        n_allowed, owner = torch.cuda.mem_get_info(device)[1], "the GPU has"
    else:
        n_allowed, owner = find_memory(), "this process may use"
    if n_bytes > n_allowed:
        raise ConfigError(
            f"{where}: needs {n_bytes / 1e9:.1f} GB of memory or more, {owner} "
            f"{n_allowed / 1e9:.1f} GB; {advice}"
        )


@contextmanager
def refusing_too_large(where: str) -> Iterator[None]:
    """Say in one line that the memory does not suffice for a block that explains images.

    Parameters
    ----------
    where : str
        What needs the memory.

    Raises
    ------
    ConfigError
        If the block runs out of memory with a single image, or before the first.
    """
    try:
        yield
    except Exception as exc:
        if not is_out_of_memory(exc):
            raise
        raise ConfigError(
            f"{where}: {summarise_shortage(exc)}; use a network that takes smaller images, or a "
            "machine with more memory"
        ) from exc
