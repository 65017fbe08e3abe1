"""Tokens: where the elements of a transformer's sequence lie in the image, found by trying."""

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor, nn

from galfig.attribution.gradcam import Tokens, explain_layer
from galfig.attribution.variants import copy_network
from galfig.networks.layers import Output

# The most elements that lie nowhere: a class token, one of distillation, and registers.
MAX_PREFIX = 16


def find_tokens(
    model: nn.Module,
    output: Output,
    outputs: Sequence[Output],
    image_size: int,
    n_channels: int = 3,
) -> Tokens | None:
    """Find where the elements of a sequence lie, by changing patches of an image.

    The first sequence of the network that is as long is looked at, before attention mixes its
    elements: what changes most there is the element of the patch. Later elements are taken to
    stay in their places, as they do along the residual stream.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode. On the "meta" device, a copy with random weights runs.
    output : Output
        What the layer returns, a sequence (N, T, K).
    outputs : sequence of Output
        What all submodules return; see `galfig.networks.layers.trace_outputs`.
    image_size : int
        Side of the images [pixels].
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    Tokens or None
        None if the elements are no square grid, row by row, behind a few that lie nowhere.
    """
    n_tokens = output.shape[1]
    first = next(
        one.name
        for one in outputs
        if one.kind == "tokens" and one.n_runs == 1 and one.shape[1] == n_tokens
    )
    if next(model.parameters()).is_meta:
        model = fill_weights(model)
    # Patches that overlap may change the element beside the one that is meant even more.
    best, least = None, 1
    for side in range(isqrt(n_tokens), 1, -1):
        n_prefix = n_tokens - side**2
        if n_prefix > MAX_PREFIX:
            break
        cells = [(0, 0), (0, side - 1), (side - 1, 0), (side - 1, side - 1), (side // 3, side // 2)]
        images = _change_cells(cells, side, (n_channels, image_size, image_size))
        found = [divmod(index - n_prefix, side) for index in _find_changed(model, first, images)]
        away = max(
            max(abs(row - wanted[0]), abs(column - wanted[1]))
            for (row, column), wanted in zip(found, cells, strict=True)
        )
        if away < least or (away == least and best is None):
            best, least = Tokens(n_prefix, side, side), away
    return best


def reaches_logits(
    model: nn.Module, name: str, tokens: Tokens, image_size: int, n_channels: int = 3
) -> bool:
    """Return whether the elements of a sequence that lie in the image change the logits.

    Behind the last attention of a transformer with a class token, they do not.

    Parameters
    ----------
    model : torch.nn.Module
        The network, as for `find_tokens`.
    name : str
        Name of the layer that returns the sequence.
    tokens : Tokens
        Where its elements lie.
    image_size, n_channels : int
        As for `find_tokens`.

    Returns
    -------
    bool
    """

    def add_up(maps: Tensor, gradient: Tensor) -> Tensor:
        return gradient.abs().sum(dim=1)

    # The last layer of an untrained network may be zero.
    own = [] if next(model.parameters()).is_meta else [lambda: model]
    for make in (*own, lambda: fill_weights(model)):
        network = make()
        images = _change_cells([], 1, (n_channels, image_size, image_size))
        images = images.to(next(network.parameters()))
        layer = network.get_submodule(name)
        found = explain_layer(network, images, layer, add_up, tokens=tokens)
        if (found.cams > 0).any():
            return True
    return False


def fill_weights(model: nn.Module) -> nn.Module:
    """Return a copy of a network, which may be on the "meta" device, with random weights."""
    model = copy_network(model).to_empty(device="cpu").requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.1, generator=generator)
            # Norms and scales, which would otherwise leave little of a signal.
            if parameter.ndim == 1 and not name.endswith("bias"):
                parameter.add_(1)
        for name, buffer in model.named_buffers():
            buffer.fill_(1 if name.endswith("running_var") else 0)
    return model


def _change_cells(
    cells: Sequence[tuple[int, int]], side: int, shape: tuple[int, int, int]
) -> Tensor:
    """Return an image of noise, and copies of it of which each has other noise in one cell."""
    generator = torch.Generator().manual_seed(0)
    image, other = torch.randn(2, *shape, generator=generator)
    images = [image]
    for row, column in cells:
        changed = image.clone()
        top, bottom = (i * shape[1] // side for i in (row, row + 1))
        left, right = (i * shape[2] // side for i in (column, column + 1))
        changed[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        images.append(changed)
    return torch.stack(images)


def _find_changed(model: nn.Module, name: str, images: Tensor) -> list[int]:
    """Return which element of a sequence differs most from that of the first image, for each."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[object, ...], found: Tensor) -> None:
        kept.append(found.detach().float().clone())

    handle = model.get_submodule(name).register_forward_hook(keep)
    try:
        with torch.no_grad():
            model(images.to(next(model.parameters())))
    finally:
        handle.remove()
    return [int(index) for index in (kept[0][1:] - kept[0][:1]).norm(dim=2).argmax(dim=1)]
