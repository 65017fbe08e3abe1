"""Receptive fields: which pixels of an image a layer's maps depend on, by measuring it."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from galfig.attribution.gradcam import Tokens, arrange_maps
from galfig.errors import ConfigError
from galfig.networks.architectures import LayerTraits, find_layer, locate_layers
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.layers import Output, find_bottlenecks, trace_outputs
from galfig.networks.tokens import find_reach
from galfig.runtime.messages import one_line

logger = logging.getLogger(__name__)

# Random images that are tried: a maximum or a ReLU passes only some of the pixels of each.
N_IMAGES = 4
# Share of the gradient in the smaller of the two sides that are measured.
SHARE = 0.95


@dataclass(frozen=True)
class Field:
    """The receptive field of the central pixel of a layer's maps.

    Attributes
    ----------
    side : int
        Side of the square around it that holds every pixel of the image on which it depends, as
        far as the image reaches [pixels].
    core : int
        Side of the square around it that holds `SHARE` of the sum of absolute gradients [pixels].
    reaches_edge : bool
        Whether the first square ends at an edge of the image, and would be larger without it.
    """

    side: int
    core: int
    reaches_edge: bool = False


@dataclass(frozen=True)
class LayerFacts:
    """A layer that can be explained.

    Attributes
    ----------
    name : str
        Its name, as ``layer`` takes it.
    shape : tuple of int
        Number of maps K, and their height h and width w. Of a sequence that cannot be explained,
        its length T and K.
    field : Field or None
        Receptive field of the central pixel of the maps; None if there are none.
    is_default : bool
        Whether it is the layer that the checkpoint explains by default.
    is_auto : bool
        Whether it is the last with maps of more than a pixel through which all of the image flows,
        which is what ``layer="auto"`` means.
    is_bypassed : bool
        Whether the image also reaches the logits past it, or through elements of a sequence that
        lie nowhere in the image.
    tokens : Tokens or None
        Where the elements of its sequence (N, T, K) lie; None if its output are maps.
    refusal : str
        Why it cannot be explained, to follow "whose tokens"; "" if it can.
    """

    name: str
    shape: tuple[int, ...]
    field: Field | None
    is_default: bool
    is_auto: bool
    is_bypassed: bool
    tokens: Tokens | None = None
    refusal: str = ""


def list_layers(checkpoint: Checkpoint) -> list[LayerFacts]:
    """List the layers of a network that can be explained, with their receptive fields.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network.

    Returns
    -------
    list of LayerFacts
        In the order in which they finish; the deepest is the last. Sequences that cannot be
        explained are among them, with the reason.
    """
    model, size, n = checkpoint.model, checkpoint.image_size, checkpoint.n_channels
    every = trace_outputs(model, size, n)
    outputs = [
        output
        for output in every
        if output.kind in ("maps", "channels last", "tokens") and output.n_runs == 1
    ]
    bottlenecks = find_bottlenecks(model, [output.name for output in outputs], size, n)
    located = locate_layers(model, every, size, n)
    traits = {
        output.name: LayerTraits(output.kind == "channels last", tokens=where and where.tokens)
        for output in outputs
        if not (where := located.get(output.name)) or where.tokens
    }
    fields = measure_fields(model, traits, size, n)
    tokens = {name: one.tokens for name, one in traits.items() if one.tokens}
    reach = find_reach(model, tokens, size, n)
    auto = _find_auto(checkpoint)
    return [
        LayerFacts(
            output.name,
            _find_shape(output, traits.get(output.name)),
            fields.get(output.name),
            output.name == checkpoint.layer_name,
            output.name == auto,
            output.name not in bottlenecks or (output.name in reach and reach[output.name].prefix),
            tokens.get(output.name),
            "" if output.name in traits else located[output.name].reason,
        )
        for output in outputs
    ]


def _find_shape(output: Output, traits: LayerTraits | None) -> tuple[int, ...]:
    """Return the number of maps, their height and width; or the length and width of a sequence."""
    if traits is None:
        return output.shape[1:]
    if traits.tokens is not None:
        return output.shape[2], traits.tokens.height, traits.tokens.width
    if traits.channels_last:
        return output.shape[3], *output.shape[1:3]
    return output.shape[1:]


def _find_auto(checkpoint: Checkpoint) -> str:
    """Return the name of the layer that "auto" finds; "" if it finds none."""
    arch = checkpoint.record.arch
    try:
        name, _ = find_layer(
            checkpoint.model, "auto", checkpoint.image_size, arch, checkpoint.n_channels
        )
    except ConfigError:
        return ""
    return name


def measure_fields(
    model: nn.Module, layers: Mapping[str, LayerTraits], image_size: int, n_channels: int = 3
) -> dict[str, Field]:
    r"""Measure the receptive field of the central pixel of several layers' maps.

    The field is where :math:`\partial \sum_k s_k A^k_{ij} / \partial x` is not zero, with
    random signs :math:`s_k`, for any of a few random images :math:`x` [1]_. It is computed in
    float64 with the network's own weights.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode; a copy of it runs on the CPU.
    layers : mapping of str to LayerTraits
        Names of submodules that return maps or tokens, and how these lie in memory.
    image_size : int
        Side of the images [pixels].
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    dict of str to Field

    References
    ----------
    .. [1] Luo et al. 2016, NeurIPS, arXiv:1701.04128
    """
    model = copy.deepcopy(model).cpu().double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    shape = (N_IMAGES, n_channels, image_size, image_size)
    images = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    outputs: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
        # A view would change with what the next layer writes into it.
        outputs[name] = output.clone()

    handles = [
        model.get_submodule(name).register_forward_hook(partial(note, name)) for name in layers
    ]
    try:
        with torch.enable_grad():
            model(images.clone())
    finally:
        for handle in handles:
            handle.remove()
    fields = {}
    for name, traits in layers.items():
        maps = arrange_maps(outputs[name], channels_last=traits.channels_last, tokens=traits.tokens)
        centre = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]
        signs = torch.randint(0, 2, centre.shape, generator=generator) * 2 - 1
        (gradient,) = torch.autograd.grad((centre * signs).sum(), images, retain_graph=True)
        fields[name] = _measure(gradient.abs().sum(dim=(0, 1)))
    return fields


def describe_field(
    checkpoint: Checkpoint, layer_name: str, traits: LayerTraits
) -> dict[str, float | None] | None:
    """Describe the receptive field of a layer as a store records it.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network.
    layer_name : str
        The layer.
    traits : LayerTraits
        How its maps lie in memory.

    Returns
    -------
    dict or None
        ``side_px``: the side of the square on which a pixel of the maps depends [pixels of the
        cutout]; None where that of the central pixel reaches an edge of the image, so that it is
        nearly all of it. None instead of the dict if the field cannot be measured, as in a network
        that computes in float32 only.
    """
    size = checkpoint.image_size
    layers = {layer_name: traits}
    try:
        field = measure_fields(checkpoint.model, layers, size, checkpoint.n_channels)[layer_name]
    except (RuntimeError, TypeError) as exc:
        logger.debug("receptive field of %s: not measured (%s)", layer_name, one_line(exc))
        return None
    if field.reaches_edge:
        return {"side_px": None}
    return {"side_px": field.side * checkpoint.cutout_size / size}


def _measure(weight: Tensor) -> Field:
    """Return the sides of the squares that hold all and most of a gradient (H, W)."""
    size = weight.shape[0]
    inside = torch.nonzero(weight)
    if not len(inside):
        return Field(0, 0)
    first, last = inside.min(dim=0).values, inside.max(dim=0).values
    side = int((last - first).max()) + 1
    # Distance of each pixel from the centre of the field, in squares.
    middle = (first + last).double() / 2
    axis = torch.arange(size, dtype=torch.float64)
    away = torch.maximum((axis - middle[0]).abs()[:, None], (axis - middle[1]).abs()[None, :])
    order = torch.argsort(away.flatten(), stable=True)
    total = torch.cumsum(weight.flatten()[order], 0)
    reach = away.flatten()[order][int(torch.searchsorted(total, SHARE * total[-1]))]
    reaches_edge = bool((first == 0).any() or (last == size - 1).any())
    return Field(side, min(side, int(2 * float(reach)) + 1), reaches_edge)
