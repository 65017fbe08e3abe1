"""Grad-CAM of a batch of images, for every class, from one forward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from galfig.attribution.devices import is_out_of_memory, wake_device

# Where the logits are in what a network returns: a key, an index, or a function of it.
Output = str | int | Callable[[Any], Tensor] | None
# Makes the map (N, h, w) of a class, of feature maps (N, K, h, w) and the gradient of their shape.
Combine = Callable[[Tensor, Tensor], Tensor]
# Differences of logits up to this, relative to the largest, are rounding.
ROUNDING = 1e-4


class Tokens(NamedTuple):
    """Where the elements of a transformer's sequence (N, T, K) lie in the image.

    Attributes
    ----------
    n_prefix : int
        Number of elements at the beginning that lie nowhere, such as the class token and registers.
        Maps leave them out.
    height, width : int
        Sides h and w of the grid of the other elements, row by row; T = n_prefix + h·w.
    """

    n_prefix: int
    height: int
    width: int


@dataclass(frozen=True)
class CamBatch:
    """The maps of a batch of galaxies.

    Attributes
    ----------
    cams : (N, C, h, w) Tensor of float32
        Signed map of every image for every class, in logits.
    logits : (N, C) Tensor of float32
        Output of the network, before the softmax.
    features : (N, K) Tensor of float32 or None
        Mean over its pixels of each feature map of the layer that is explained; None where no layer
        is.
    """

    cams: Tensor
    logits: Tensor
    features: Tensor | None = None


def map_batches(change: Callable[..., Tensor], *batches: CamBatch) -> CamBatch:
    """Make a batch of others by what is done with their maps, their logits and their features.

    Parameters
    ----------
    change : callable
        Called with a tensor of each batch, such as the maps of each; returns one.
    *batches : CamBatch
        The batches.

    Returns
    -------
    CamBatch
        Without features, if one of the batches has none.
    """
    found = [batch.features for batch in batches]
    features = [one for one in found if one is not None]
    return CamBatch(
        cams=change(*(batch.cams for batch in batches)),
        logits=change(*(batch.logits for batch in batches)),
        features=change(*features) if len(features) == len(found) else None,
    )


def join_batches(batches: Sequence[CamBatch]) -> CamBatch:
    """Return several batches of images as one."""
    return map_batches(lambda *tensors: torch.cat(tensors), *batches)


def grad_cam(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    *,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    r"""Compute the Grad-CAM map of every image for every class.

    The map of class :math:`c` is :math:`\sum_k \alpha_k^c A^k`, where
    :math:`\alpha_k^c` is the spatial mean of :math:`\partial y^c / \partial A^k` [1]_.
    The map is signed: the ReLU of the paper is applied only when a map is drawn.

    The network runs once. No graph is recorded up to ``layer``, and the gradient of each class is
    taken only through the layers above it, also where the network runs ``layer`` and those after
    it under ``torch.no_grad()``. Hooks, ``.grad``, ``requires_grad`` and training flags are left
    unchanged. Numbers that are not finite stay with the image that causes them.

    A network that mixes the images of a batch is noticed here only by its batch norms;
    `galfig.attribution.probe.check_function_of_one_image` notices any.

    Parameters
    ----------
    model : torch.nn.Module
        Classifier in evaluation mode; returns logits of shape (N, C). It may be wrapped by
        ``torch.compile`` or ``DataParallel``: then the network inside runs.
    images : (N, n_channels, H, W) Tensor of float32
        Normalised cutouts, on the device of ``model``.
    layer : torch.nn.Module
        Submodule whose output, (N, K, h, w), is explained.
    channels_last : bool, optional
        Whether the output of ``layer`` is (N, h, w, K). By default it is taken as (N, K, h, w),
        and refused if it fits the shape of the images only the other way round.
    tokens : Tokens, optional
        Where the elements lie, if the output of ``layer`` is a sequence (N, T, K).
        `galfig.networks.tokens.find_tokens` finds it.
    output : str, int or callable, optional
        Where the logits are in the output of ``model``: a key, an index, or a function of that
        output. By default, the output is the logits.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, w), signed, in logits; ``logits`` (N, C).

    Raises
    ------
    ValueError
        If ``model`` is in training mode, has batch norm without running statistics, is traced or
        partly compiled, draws random numbers that change the logits, or does not return logits
        (N, C); or if ``layer`` is not part of ``model``, does not run exactly once, does not return
        feature maps of the N images, or does not affect the logits in a way that torch can
        differentiate.

    References
    ----------
    .. [1] Selvaraju et al. 2017, ICCV, arXiv:1610.02391
    """
    return explain_layer(
        model,
        images,
        layer,
        average_gradients,
        channels_last=channels_last,
        tokens=tokens,
        output=output,
    )


def average_gradients(maps: Tensor, gradient: Tensor) -> Tensor:
    """Weight feature maps with the spatial means of a gradient, as Grad-CAM does.

    Parameters
    ----------
    maps, gradient : (N, K, h, w) Tensor of float
        Feature maps, and the gradient of a class with respect to them.

    Returns
    -------
    (N, h, w) Tensor of float
    """
    return weighted_sum(maps, gradient.mean(dim=(2, 3)))


def explain_layer(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    combine: Combine,
    *,
    of_differences: bool = False,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    """Compute the map of every image for every class by any method that needs gradients of a layer.

    The network is run and left as `grad_cam` says, which is the example of a method.

    Parameters
    ----------
    model, images, layer, channels_last, tokens, output
        As for `grad_cam`.
    combine : callable
        Makes a map (N, h, w) of the feature maps and of the gradient of a class, each (N, K, h, w).
    of_differences : bool, default False
        Whether to explain :math:`y^c - y^0` in place of the logit :math:`y^c` of each class. The
        map of class 0 is then zero.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, w), signed; ``logits`` (N, C), never of differences.

    Raises
    ------
    ValueError
        As for `grad_cam`.
    """
    model, layer = unwrap(model), unwrap(layer)
    check_explainable(model, layer)
    with torch.inference_mode(False), torch.no_grad():
        if images.is_inference():
            # Such a tensor must not enter a graph, which it might on a skip connection.
            images = images.clone()
        random_state = _read_random_state(images.device)
        with steady_norms(model, len(images)):
            found, leaves = _run(model, images, layer, tokens)
        logits = take_logits(found, len(images), output)
        if not torch.equal(random_state, _read_random_state(images.device)):
            _check_not_random(model, images, logits, output)
        if len(leaves) != 1:
            raise ValueError(f"layer: ran {len(leaves)} times in a forward pass, expected 1")
        leaf = leaves[0]
        arrange = _choose_arrangement(leaf, images, channels_last, tokens)
        maps = arrange(leaf.detach())
        cams = []
        for gradient in _iter_gradients(logits, leaf, of_differences=of_differences):
            if gradient is None:
                raise ValueError(_find_why_no_gradient(model, images, layer, logits, output))
            cams.append(combine(maps, arrange(gradient)))
        if of_differences:
            # With a single class, there is nothing to differ from.
            cams.insert(0, torch.zeros_like(cams[0]) if cams else maps.new_zeros(maps[:, 0].shape))
    # In bfloat16, a sum over the pixels would lose most of its digits.
    features = maps.mean(dim=(2, 3), dtype=torch.promote_types(maps.dtype, torch.float32))
    return CamBatch(
        cams=torch.stack(cams, dim=1).float(),
        logits=logits.detach().float(),
        features=features.float(),
    )


def arrange_maps(
    found: Tensor, *, channels_last: bool = False, tokens: Tokens | None = None
) -> Tensor:
    """Arrange the output of a layer as feature maps; its gradient likewise.

    Parameters
    ----------
    found : (N, K, h, w), (N, h, w, K) or (N, T, K) Tensor
        Output of a layer.
    channels_last : bool, default False
        Whether it is (N, h, w, K).
    tokens : Tokens, optional
        Where its elements lie, if it is a sequence (N, T, K).

    Returns
    -------
    (N, K, h, w) Tensor
        A view.
    """
    if tokens is not None:
        grid = (tokens.height, tokens.width)
        return found[:, tokens.n_prefix :].movedim(-1, 1).unflatten(2, grid)
    return found.movedim(-1 if channels_last else 1, 1)


def weighted_sum(activations: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the feature maps of each image.

    Parameters
    ----------
    activations : (N, K, h, w) Tensor of float
        Feature maps.
    weights : (N, K) Tensor of float
        Weight of each map.

    Returns
    -------
    (N, h, w) Tensor of float
    """
    n_images, n_maps, height, width = activations.shape
    cams = torch.bmm(weights[:, None, :], activations.reshape(n_images, n_maps, height * width))
    return cams.reshape(n_images, height, width)


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module inside the wrappers of ``torch.compile`` and of parallel training.

    Parameters
    ----------
    module : torch.nn.Module
        A network or a layer.

    Returns
    -------
    torch.nn.Module
        The module itself if it is not wrapped.
    """
    while True:
        if _is_compiled(module):
            module = cast("nn.Module", module._orig_mod)
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = cast("nn.Module", module.module)
        else:
            return module


def check_explainable(model: nn.Module, layer: nn.Module) -> None:
    """Check what can be seen of a model without running it, and that a layer is part of it.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    layer : torch.nn.Module
        The layer to explain.

    Raises
    ------
    ValueError
        If a module is in training mode, is batch norm without running statistics, or is traced,
        scripted or compiled; or if the layer is not a submodule of the model.
    """
    for name, module in model.named_modules():
        where = name or "it"
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"model: {where} normalises with the statistics of the batch, so that the map of "
                "a galaxy would depend on the others, expected running statistics; train it with "
                "track_running_stats=True, or with GroupNorm"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"model: {where} is a traced or scripted network (TorchScript), whose layers "
                "cannot be looked into; pass the network that it was made from"
            )
        if _is_compiled(module) or module._compiled_call_impl is not None:
            raise ValueError(
                f"model: {where} is compiled, so that its layers cannot be looked into; pass the "
                "network as it was before torch.compile"
            )
        # Last, since the wrapper of a compiled network may be in training mode by itself.
        if module.training:
            raise ValueError(
                f"model: {where} is in training mode, expected evaluation mode; call model.eval()"
            )
    if not any(module is layer for module in model.modules()):
        raise ValueError("layer: not a submodule of the model, expected one of model.modules()")


def take_logits(found: Any, n_images: int, output: Output = None) -> Tensor:
    """Return the logits in the output of a network.

    Parameters
    ----------
    found : object
        What the network returned for N images.
    n_images : int
        N.
    output : str, int or callable, optional
        A key, an index, or a function of the output; by default, the output is the logits.

    Returns
    -------
    (N, C) Tensor of float

    Raises
    ------
    ValueError
        If this is not a tensor of N rows.
    """
    if callable(output):
        logits = output(found)
    elif output is None:
        logits = found
    else:
        try:
            logits = found[output]
        except (KeyError, IndexError, TypeError) as exc:
            raise ValueError(
                f"model: its output, a {type(found).__name__}, has no {output!r}, expected logits "
                "(N, C) there"
            ) from exc
    if not isinstance(logits, Tensor):
        holds = f" of {', '.join(map(str, logits))}" if isinstance(logits, dict) else ""
        raise ValueError(
            f"model: output is a {type(logits).__name__}{holds}, expected a tensor of logits "
            "(N, C); say where they are by output=, a key, an index or a function"
        )
    if logits.ndim != 2 or len(logits) != n_images:
        raise ValueError(
            f"model: output of shape {tuple(logits.shape)} for {n_images} images, expected logits "
            f"(N, C), a row for each image"
        )
    return logits


def differ(found: Tensor, expected: Tensor, floor: float = 0.0) -> float:
    """Return the largest difference, relative to the largest expected value.

    Parameters
    ----------
    found, expected : Tensor of float
        Numbers of one shape. Those that are not finite must be in the same places.
    floor : float, default 0
        Smallest value that differences are relative to.

    Returns
    -------
    float
        Infinite if the shapes or those places differ, or if all expected values are zero and
        those found are not.
    """
    if found.shape != expected.shape or not torch.equal(found.isfinite(), expected.isfinite()):
        return float("inf")
    difference = (found - expected).double().abs().nan_to_num(0, 0, 0).max()
    largest = expected.double().abs().nan_to_num(0, 0, 0).max()
    return float(difference / largest.clamp(min=floor)) if difference > 0 else 0.0


def _is_compiled(module: nn.Module) -> bool:
    # The class itself lies in torch._dynamo, which takes a second to import.
    return type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules


def _run(
    model: nn.Module, images: Tensor, layer: nn.Module, tokens: Tokens | None
) -> tuple[Any, list[Tensor]]:
    """Run a network with gradients from a layer on; return its output, and the layer's outputs."""
    try:
        with torch.no_grad(), _cut_at(layer, tokens) as leaves:
            found = model(images)
            if torch.is_grad_enabled() or not leaves:
                return found, leaves
    except RuntimeError as exc:
        if "no_grad mode" not in str(exc):
            _refuse_if_gradients_are_the_reason(exc, model, images)
            raise
    # The network runs the layer under a torch.no_grad() of its own, at whose end gradients were
    # disabled again; or it modifies a view that it made below the layer. Both work if gradients
    # are enabled below, too. Without parameters, still no graph is recorded there.
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    try:
        with torch.enable_grad(), _cut_at(layer, tokens) as leaves:
            return torch.func.functional_call(model, parameters, (images,)), leaves
    except RuntimeError as exc:
        _refuse_if_gradients_are_the_reason(exc, model, images)
        raise


@contextmanager
def steady_norms(model: nn.Module, n_images: int) -> Iterator[None]:
    """Give norms their gradients in contiguous memory, within the block, where torch misreads them.

    On a processor, torch 2.14 computes wrong gradients below batch norm if those of a single image
    come from a head that works on tokens: it takes them for channels-last by their strides, of
    which the first means nothing for one image. To instance norm, all images are a single one.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    n_images : int
        Number of images that it is given at a time.
    """
    kinds = (_BatchNorm, _InstanceNorm) if n_images == 1 else (_InstanceNorm,)
    norms = [module for module in model.modules() if isinstance(module, kinds)]
    handles = [norm.register_forward_hook(_steady_gradient) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _steady_gradient(module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
    if output.requires_grad:
        output.register_hook(torch.Tensor.contiguous)


def _refuse_if_gradients_are_the_reason(
    exc: RuntimeError, model: nn.Module, images: Tensor
) -> None:
    """Raise ValueError for an error of torch if the network runs without gradients."""
    if is_out_of_memory(exc):
        return
    try:
        with torch.no_grad():
            model(images)
    except RuntimeError:
        return
    raise ValueError(f"layer: torch cannot take gradients down to it ({_one_line(exc)})") from exc


@contextmanager
def _cut_at(layer: nn.Module, tokens: Tokens | None) -> Iterator[list[Tensor]]:
    """Make each output of a layer the leaf of a new graph, and collect these leaves.

    The caller restores the gradient mode.
    """
    leaves: list[Tensor] = []
    n_axes, expected = (
        (4, "feature maps (N, K, h, w)") if tokens is None else (3, "tokens (N, T, K)")
    )

    def cut(module: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor:
        is_right = isinstance(output, Tensor) and output.ndim == n_axes
        if not isinstance(output, Tensor) or not is_right or not output.is_floating_point():
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layer: output {found}, expected {expected}")
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "model: runs the layer under torch.inference_mode(), in which no gradient can be "
                "taken; use torch.no_grad() there instead"
            )
        # Two copies, since networks modify tensors in place. The first must survive what is done
        # to the layer's input, and the layers above may not write to a leaf.
        torch.set_grad_enabled(True)
        leaf = output.detach().clone().requires_grad_()
        leaves.append(leaf)
        return leaf.clone()

    handle = layer.register_forward_hook(cut)
    try:
        yield leaves
    finally:
        handle.remove()


def _choose_arrangement(
    leaf: Tensor, images: Tensor, channels_last: bool | None, tokens: Tokens | None
) -> Callable[[Tensor], Tensor]:
    """Return what makes feature maps (N, K, h, w) of a layer's output, and of its gradient."""
    if tokens is None:
        is_last = _has_maps_last(leaf, images, channels_last)
        return partial(arrange_maps, channels_last=is_last)
    n_prefix, height, width = tokens
    if leaf.shape[:2] != (len(images), n_prefix + height * width):
        raise ValueError(
            f"layer: output {tuple(leaf.shape)} for {len(images)} images, expected "
            f"{n_prefix} + {height} × {width} tokens (N, T, K) of each image"
        )
    return partial(arrange_maps, tokens=tokens)


def _has_maps_last(leaf: Tensor, images: Tensor, channels_last: bool | None) -> bool:
    """Return whether a layer's output is (N, h, w, K); raise if it cannot be that of N images."""
    shape = tuple(leaf.shape)
    if len(leaf) != len(images):
        raise ValueError(
            f"layer: output {shape} for {len(images)} images, expected feature maps (N, K, h, w), "
            "those of one image at each index; windows or tokens are no maps of an image"
        )
    if channels_last is None and images.ndim == 4:
        height, width = images.shape[2:]
        is_first, is_last = (
            # A layer that halves the image rounds up or down.
            abs(h * width - w * height) <= max(height, width)
            for h, w in (shape[2:], shape[1:3])
        )
        if is_last and not is_first:
            raise ValueError(
                f"layer: output {shape} for images of {height} × {width} pixels is probably "
                "(N, h, w, K), expected (N, K, h, w); say which by channels_last=True or False"
            )
    return bool(channels_last)


def _iter_gradients(
    logits: Tensor, leaf: Tensor, *, of_differences: bool = False
) -> Iterator[Tensor | None]:
    """Yield the gradient of each class, of the shape of the leaf; None if there is no graph.

    Images do not mix in evaluation mode, so one backward pass gives the gradient of each. Of
    differences from class 0, that of class 0 is left out.
    """
    wake_device(logits.device)
    for class_idx in range(int(of_differences), logits.shape[1]):
        if not logits.requires_grad:
            yield None
            return
        chosen = torch.zeros_like(logits)
        chosen[:, class_idx] = 1.0
        if of_differences:
            chosen[:, 0] = -1.0
        # The graph is kept for the remaining classes.
        is_last = class_idx == logits.shape[1] - 1
        try:
            (gradient,) = torch.autograd.grad(
                logits, leaf, chosen, retain_graph=not is_last, allow_unused=True
            )
        except RuntimeError as exc:
            if is_out_of_memory(exc):
                raise
            raise ValueError(
                f"layer: torch cannot take gradients down to it ({_one_line(exc)})"
            ) from exc
        yield gradient


def _find_why_no_gradient(
    model: nn.Module, images: Tensor, layer: nn.Module, logits: Tensor, output: Output
) -> str:
    """Return why logits have no gradient: they do not change with the layer, or torch is told."""
    handle = layer.register_forward_hook(lambda module, inputs, found: torch.randn_like(found))
    try:
        changed = take_logits(model(images), len(images), output)
    finally:
        handle.remove()
    if differ(changed, logits.detach()) <= ROUNDING:
        return "layer: the logits do not depend on it, expected a layer on the way"
    return (
        "layer: the logits depend on it, but have no gradient; the network runs what follows the "
        "layer under torch.no_grad(), or detaches it"
    )


def _read_random_state(device: torch.device) -> Tensor:
    """Return the state of torch's generator of random numbers, which a random step changes."""
    if device.type == "cuda":
        return torch.cat([torch.get_rng_state(), torch.cuda.get_rng_state(device)])
    return torch.get_rng_state()


def _check_not_random(model: nn.Module, images: Tensor, logits: Tensor, output: Output) -> None:
    """Raise ValueError if a network, which drew random numbers, gives other logits this time."""
    again = take_logits(model(images), len(images), output)
    if differ(again, logits.detach()) > ROUNDING:
        raise ValueError(RANDOM)


# What to say of a network that gives other numbers each time.
RANDOM = (
    "model: gives other logits each time for the same image, expected the same; something random "
    "stays on in evaluation mode, such as functional.dropout without training=self.training"
)


def _one_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0][:200]
