"""Layers: what the submodules of a network return, and whether the image also flows past one."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["maps", "pooled", "channels last", "tokens", "other"]

# Images in the two batches of `trace_outputs`. Batches of windows have a multiple of these.
N_IMAGES, N_WIDE = 3, 2
# The images of the second batch are this much wider than high [pixels]: one map pixel more, where
# the network scales by 32 overall.
EXTRA_WIDTH = 32
# Two images count as equal for a network if their logits differ by less than this fraction of the
# difference between two other images.
_LEAST_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Output:
    """What a submodule returns for a batch of images.

    Attributes
    ----------
    name : str
        Name of the submodule.
    kind : {"maps", "pooled", "channels last", "tokens", "other"}
        Feature maps (N, K, h, w) of more than one pixel; maps (N, K, 1, 1); maps (N, h, w, K);
        a sequence (N, T, K); or anything else.
    shape : tuple of int
        Shape for ``N_IMAGES`` square images.
    n_runs : int
        How often the submodule runs in one forward pass.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    n_runs: int


def trace_outputs(model: nn.Module, image_size: int, n_channels: int = 3) -> list[Output]:
    """List what the submodules of a network return, in the order in which they finish.

    A container finishes after its contents, so the last submodule is the outermost block. To tell
    height and width from other axes, the network also runs on images that are wider than high.
    Many networks refuse such images. Then the outputs up to that point still count, and otherwise
    the shapes for square images must suffice.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode, on any device including "meta".
    image_size : int
        Side of the images [pixels].
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    list of Output
        One for each submodule that returns a tensor; identities are left out.

    Raises
    ------
    Exception
        Whatever the network raises for square images of this size.
    """
    square: dict[str, list[tuple[int, ...]]] = {}
    wide: dict[str, list[tuple[int, ...]]] = {}
    _note_shapes(model, (N_IMAGES, n_channels, image_size, image_size), square)
    # A network raises many kinds of errors for images of a size that it does not take.
    try:
        shape = (N_WIDE, n_channels, image_size, image_size + EXTRA_WIDTH)
        _note_shapes(model, shape, wide)
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError):
        pass
    return [
        Output(
            name,
            _classify(shapes[-1], wide[name][-1] if name in wide else None, image_size),
            shapes[-1],
            len(shapes),
        )
        for name, shapes in square.items()
    ]


def _note_shapes(
    model: nn.Module, shape: tuple[int, ...], shapes: dict[str, list[tuple[int, ...]]]
) -> None:
    """Run a network on black images, and note the shape of each output of each submodule."""

    def note(name: str, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        # An identity only repeats the output of the layer before it.
        if isinstance(output, Tensor) and not isinstance(module, nn.Identity):
            # The last run decides about the order.
            shapes[name] = [*shapes.pop(name, []), tuple(output.shape)]

    hooks = {module: partial(note, name) for name, module in model.named_modules() if name}
    with _hooked(hooks), torch.no_grad():
        model(next(model.parameters()).new_zeros(shape))


def _classify(square: tuple[int, ...], wide: tuple[int, ...] | None, image_size: int) -> Kind:
    """Return the kind of an output by its shapes for square images and for wide ones."""
    if square[:1] != (N_IMAGES,) or (wide is not None and wide[:1] != (N_WIDE,)):
        # Such as the windows of Swin, which are batched with the images.
        return "other"
    if len(square) == 3 and min(square[1:]) > 1:
        return "tokens"
    if len(square) != 4:
        return "other"
    if tuple(square[2:]) == (1, 1):
        return "pooled"
    if _is_image_plane(square, wide, (2, 3), image_size):
        return "maps"
    return "channels last" if _is_image_plane(square, wide, (1, 2), image_size) else "other"


def _is_image_plane(
    square: Sequence[int], wide: Sequence[int] | None, axes: tuple[int, int], image_size: int
) -> bool:
    """Return whether two axes are height and width, rather than, say, two axes of one length."""
    (height, width) = (square[axis] for axis in axes)
    if height != width or height == 1:
        return False
    if wide is not None:
        # An attention matrix is square for wide images too. A map of few pixels may not grow.
        grows = wide[axes[1]] > wide[axes[0]] or (
            wide[axes[0]] == height and wide[axes[1]] == width and height * EXTRA_WIDTH < image_size
        )
        return grows and wide[axes[0]] == height
    # A network for one size of images has patches of whole pixels.
    return image_size % height == 0


def sees_past(model: nn.Module, layer: nn.Module, image_size: int, n_channels: int = 3) -> bool:
    """Return whether the logits still see the image where the output of a layer is held fixed.

    Then the layer is inside one of several branches, and its maps show only what flows through
    that branch. Two tests must both find nothing. First, no path of the autograd graph may lead
    from the logits to the image except through the layer. Second, two different images must have
    the same logits if both are given the layer's output for the first; this also finds paths
    without gradients, and is left out on the "meta" device.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode, on any device including "meta".
    layer : torch.nn.Module
        A submodule that returns a tensor.
    image_size : int
        Side of the images [pixels].
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    bool
    """
    parameter = next(model.parameters())
    shape = (1, n_channels, image_size, image_size)
    if _has_path_past(model, layer, parameter.new_zeros(shape)):
        return True
    if parameter.is_meta:
        return False
    # The caller's random state must not change.
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *shape[1:], generator=generator).to(parameter)
    return _tells_images_apart(model, layer, images)


def find_bottlenecks(
    model: nn.Module, names: Iterable[str], image_size: int, n_channels: int = 3
) -> set[str]:
    """Find submodules through whose output every path of the graph leads to the image.

    One forward pass finds what `sees_past` would need one pass per submodule for, except paths
    without gradients.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode, on any device including "meta".
    names : iterable of str
        Names of the submodules in question, each of which returns a tensor.
    image_size : int
        Side of the images [pixels].
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    set of str
        Some of the names; all of them if no gradient reaches the image at all.
    """
    nodes: dict[str, Any] = {}

    def note(name: str, module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
        nodes[name] = output.grad_fn

    hooks = {model.get_submodule(name): partial(note, name) for name in names}
    shape = (1, n_channels, image_size, image_size)
    leaf, logits = _run_with_graph(model, next(model.parameters()).new_zeros(shape), hooks)
    order = _sort_graph(logits.grad_fn) if isinstance(logits, Tensor) else []
    # A node lies on every path if as many paths lead through it as there are.
    below = dict.fromkeys(order, 0)
    for node in reversed(order):
        is_leaf = getattr(node, "variable", None) is leaf
        below[node] = is_leaf + sum(below[n] for n, _ in node.next_functions if n is not None)
    above = dict.fromkeys(order, 0)
    for node in order[:1]:
        above[node] = 1
    for node in order:
        for following, _ in node.next_functions:
            if following is not None:
                above[following] += above[node]
    n_paths = below[order[0]] if order else 0
    if not n_paths:
        return set(nodes)
    return {
        name for name, node in nodes.items() if above.get(node, 0) * below.get(node, 0) == n_paths
    }


def _sort_graph(root: Any) -> list[Any]:
    """Return the nodes of an autograd graph, each before those that it leads to."""
    order: list[Any] = []
    seen: set[Any] = set()
    waiting = [(root, False)] if root is not None else []
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(following, False) for following, _ in node.next_functions if following]
    return order[::-1]


def _run_with_graph(
    model: nn.Module, images: Tensor, hooks: Mapping[nn.Module, Callable[..., Tensor | None]]
) -> tuple[Tensor, Any]:
    """Run a network with gradients; return the leaf of the graph, and what the network returns."""
    with _hooked(hooks), torch.inference_mode(False), torch.enable_grad():
        leaf = images.detach().clone().requires_grad_()
        # A network may write to its input, which must then not be a leaf.
        return leaf, model(leaf.clone())


def _has_path_past(model: nn.Module, layer: nn.Module, images: Tensor) -> bool:
    """Return whether the graph leads from the logits to the images past a layer."""

    def detach(module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> Tensor:
        # Copied, since the layers above may write to it.
        return output.detach().clone()

    leaf, logits = _run_with_graph(model, images, {layer: detach})
    return isinstance(logits, Tensor) and any(
        getattr(node, "variable", None) is leaf for node in _sort_graph(logits.grad_fn)
    )


def _tells_images_apart(model: nn.Module, layer: nn.Module, images: Tensor) -> bool:
    """Return whether logits of two images differ where both have one's output of a layer."""

    def repeat_first(module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> Tensor:
        return output[:1].expand_as(output).clone()

    with torch.no_grad():
        free = model(images)
        with _hooked({layer: repeat_first}):
            held = model(images)
    if not isinstance(free, Tensor) or not free.is_floating_point():
        return False
    rounding = 100 * torch.finfo(free.dtype).eps * float(free.abs().max())
    least = max(_LEAST_DIFFERENCE * float((free[0] - free[1]).abs().max()), rounding)
    difference = float((held[0] - held[1]).abs().max())
    return math.isfinite(difference) and difference > least


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Callable[..., Tensor | None]]) -> Iterator[None]:
    """Call functions with the output of modules, within the block."""
    with ExitStack() as stack:
        for module, hook in hooks.items():
            stack.callback(module.register_forward_hook(hook).remove)
        yield
