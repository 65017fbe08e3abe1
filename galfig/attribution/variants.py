"""Variants: the ways in which the engine can run a network, from the fastest to the plainest."""

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from galfig.attribution.fusion import (
    RowLinear,
    count_uses,
    fold_batch_norms,
    is_altered,
    is_sequential,
    pack_convolutions,
    separate_rows,
    write_in_place,
)
from galfig.attribution.gradcam import CamBatch, Output, Tokens
from galfig.attribution.methods import METHODS, Method

Explain = Callable[[Tensor], CamBatch]


@dataclass(frozen=True)
class Variant:
    """A way to run a network.

    Attributes
    ----------
    path : {"closed form", "cut graph", "plain"}
        How maps are computed. "plain" is the method's own function on the network as it is.
    layout : {"channels-last", "contiguous"}
        Memory layout of images and weights.
    folds : bool
        Whether batch norms are folded into convolutions.
    packs : bool
        Whether convolutions keep their weights in the layout of oneDNN, and compute the ReLU
        behind them.
    copies : bool
        Whether the engine works on copies. If the network cannot be copied, it works on the
        network itself, in one thread at a time.
    """

    path: str
    layout: str
    folds: bool = False
    packs: bool = False
    copies: bool = True

    def __str__(self) -> str:
        words = [self.path, self.layout]
        words += ["batch norms folded"] * self.folds + ["convolutions packed"] * self.packs
        words += ["not copied"] * (not self.copies)
        return ", ".join(words)


def list_variants(method: Method = METHODS["grad-cam"]) -> list[Variant]:
    """Return all variants, in the order in which the engine tries them.

    Parameters
    ----------
    method : Method, optional
        The method; default Grad-CAM.

    Returns
    -------
    list of Variant
        The last two run the method's own function, such as `grad_cam`, on a copy of the network
        and on the network. If the method explains the pixels of the image, there are no others.
    """
    variants = (
        []
        if method.of_pixels
        else [
            Variant(path, layout, folds, packs)
            for layout in ("channels-last", "contiguous")
            for path in ("closed form", "cut graph")
            for folds, packs in ((True, True), (True, False), (False, False))
        ]
    )
    plain = Variant("plain", "contiguous")
    return [*variants, plain, Variant("plain", "contiguous", copies=False)]


class Copy(NamedTuple):
    """A copy of a prepared network, for one thread at a time.

    Attributes
    ----------
    model : torch.nn.Module
        The copy.
    explain : callable
        Explains a batch of images with it.
    """

    model: nn.Module
    explain: Explain


@dataclass(frozen=True)
class Prepared:
    """A network prepared to run in one variant.

    Attributes
    ----------
    variant : Variant
        The variant.
    model : torch.nn.Module
        The prepared network.
    make_copy : callable
        Makes a `Copy` of it.
    n_fused : int
        Number of batch norms folded into the convolution before them.
    n_packed : int
        Number of convolutions packed; 0 on CUDA.
    """

    variant: Variant
    model: nn.Module
    make_copy: Callable[[], Copy]
    n_fused: int
    n_packed: int


def prepare(
    model: nn.Module,
    layer_name: str,
    variant: Variant,
    images: Tensor,
    *,
    method: Method = METHODS["grad-cam"],
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> Prepared | None:
    """Prepare a network to run in one variant.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode; it is not modified.
    layer_name : str
        Name of the layer to explain.
    variant : Variant
        The variant.
    images : (N, n_channels, H, W) Tensor
        Images on which the runs of modules are counted.
    method : Method, optional
        The method; default Grad-CAM.
    channels_last, tokens, output : optional
        As for `galfig.attribution.gradcam.grad_cam`.

    Returns
    -------
    Prepared or None
        None if the network has nothing that this variant changes: no head with a closed form, no
        batch norm to fold, no convolution to pack.
    """
    run = partial(method.explain, channels_last=channels_last, tokens=tokens, output=output)
    if not variant.copies:
        layer = model.get_submodule(layer_name)
        explain = partial(_explain_cut_graph, run, model, layer, torch.contiguous_format)
        return Prepared(variant, model, lambda: Copy(model, explain), 0, 0)
    model = copy_network(model)
    n_fused = n_packed = 0
    memory_format = torch.contiguous_format
    if variant.path != "plain":
        layer = model.get_submodule(layer_name)
        usage = count_uses(model, images)
        if variant.folds:
            n_fused = fold_batch_norms(model, layer, usage)
            # If the layer is a batch norm that was folded, an identity replaces it, with the same
            # output.
            layer = model.get_submodule(layer_name)
        is_on_cpu = images.device.type == "cpu"
        if variant.packs:
            write_in_place(model, layer, usage)
            n_packed = pack_convolutions(model, layer, usage) if is_on_cpu else 0
        elif variant.folds and not n_fused:
            return None
        if is_on_cpu:
            separate_rows(model, layer)
        # The layers that took the place of others are in training mode.
        model.eval()
        if variant.layout == "channels-last":
            memory_format = torch.channels_last
            model.to(memory_format=memory_format)
    if variant.path != "closed form":
        make_copy = partial(_copy_cut_graph, run, model, layer_name, memory_format)
    elif (
        method.combine_uniform is None
        or channels_last
        or tokens is not None
        or output is not None
        or not is_closed_form(model, layer_name)
    ):
        return None
    else:
        closed = (method.combine_uniform, method.of_differences)
        make_copy = partial(_copy_closed_form, *closed, model, layer_name, memory_format)
    return Prepared(variant, model, make_copy, n_fused, n_packed)


def copy_network(model: nn.Module) -> nn.Module:
    """Copy a network, with tensors that it computed and keeps, such as those of weight norm.

    Parameters
    ----------
    model : torch.nn.Module
        The network.

    Returns
    -------
    torch.nn.Module
        A copy that shares nothing with the network.
    """
    # torch refuses to copy tensors that belong to a graph.
    computed = {
        id(tensor): tensor.detach().clone()
        for tensor in _iter_tensors(model)
        if tensor.grad_fn is not None
    }
    return copy.deepcopy(model, cast("dict[int, object]", computed))


def _share_copy(model: nn.Module) -> nn.Module:
    """Copy the modules of a network, which share all their tensors with it."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in _iter_tensors(model)})


def _iter_tensors(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        for values in (module._parameters, module._buffers, vars(module)):
            yield from (value for value in values.values() if isinstance(value, Tensor))


def _copy_cut_graph(
    run: Callable[..., CamBatch],
    model: nn.Module,
    layer_name: str,
    memory_format: torch.memory_format,
) -> Copy:
    """Copy a network, to explain through a cut graph."""
    model = _share_copy(model)
    layer = model.get_submodule(layer_name)
    return Copy(model, partial(_explain_cut_graph, run, model, layer, memory_format))


def _explain_cut_graph(
    run: Callable[..., CamBatch],
    model: nn.Module,
    layer: nn.Module,
    memory_format: torch.memory_format,
    images: Tensor,
) -> CamBatch:
    return run(model, images.contiguous(memory_format=memory_format), layer)


def is_closed_form(model: nn.Module, layer_name: str) -> bool:
    """Return whether only pooling and one linear layer follow a layer.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    layer_name : str
        Name of the layer to explain.

    Returns
    -------
    bool
    """
    return _split_at_linear_head(model, model.get_submodule(layer_name)) is not None


def _copy_closed_form(
    combine: Callable[[Tensor, Tensor], Tensor],
    of_differences: bool,
    model: nn.Module,
    layer_name: str,
    memory_format: torch.memory_format,
) -> Copy:
    """Copy a network, to explain in closed form."""
    model = _share_copy(model)
    split = _split_at_linear_head(model, model.get_submodule(layer_name))
    trunk, linear = cast("tuple[nn.Module, nn.Linear]", split)
    run = partial(_explain_linear_head, combine, of_differences)
    return Copy(model, partial(run, trunk, linear, memory_format))


def _explain_linear_head(
    combine: Callable[[Tensor, Tensor], Tensor],
    of_differences: bool,
    trunk: nn.Module,
    linear: nn.Linear,
    memory_format: torch.memory_format,
    images: Tensor,
) -> CamBatch:
    """Explain through pooling and a linear layer, whose gradient is its weight over h × w."""
    with torch.inference_mode():
        activations = trunk(images.contiguous(memory_format=memory_format))
        height, width = activations.shape[2:]
        weights = linear.weight
        # Sums are cheap: in bfloat16, logits would have three digits, and margins fewer.
        pooled = activations.mean(dim=(2, 3), dtype=weights.dtype)
        with torch.autocast(images.device.type, enabled=False):
            logits = linear(pooled)
        if of_differences:
            # Subtracted first: what all classes share is then gone, to the last bit.
            weights = weights - weights[:1]
        weights = (weights / (height * width)).to(activations.dtype)
        cams = combine(activations, weights)
    return CamBatch(cams=cams.float().contiguous(), logits=logits.float(), features=pooled.float())


def _split_at_linear_head(
    model: nn.Module, layer: nn.Module
) -> tuple[nn.Sequential, nn.Linear] | None:
    """Return the trunk and the linear layer if only pooling and flattening lie between them."""
    if not is_sequential(model) or is_altered(model):
        return None
    # children() would skip a module that appears for the second time.
    steps = list(cast("nn.Sequential", model))
    positions = [index for index, step in enumerate(steps) if step is layer]
    if len(positions) != 1:
        return None
    cut = positions[0] + 1
    # A subclass of Dropout may stay on in evaluation mode.
    head = [step for step in steps[cut:] if type(step) not in (nn.Dropout, nn.Identity)]
    if len(head) != 3 or any(is_altered(step) for step in steps[cut:]):
        return None
    pool, flatten, linear = head
    if (
        type(pool) is nn.AdaptiveAvgPool2d
        and pool.output_size in (1, (1, 1))
        # fastai has its own Flatten, which can also flatten the batch axis.
        and type(flatten).__name__ == "Flatten"
        and getattr(flatten, "start_dim", 1) == 1
        and not getattr(flatten, "full", False)
        and isinstance(linear, nn.Linear)
        and type(linear) in (nn.Linear, RowLinear)
    ):
        return nn.Sequential(*steps[:cut]), linear
    return None


class _Arithmetic:
    """The settings of the whole process, as those who compute at the moment want them.

    Threads of several engines enter and leave in any order: the last that is inside decides, and
    the settings of before return when all have left.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: list[tuple[object, bool]] = []
        self._before = _read_settings()

    @contextlib.contextmanager
    def using(self, *, allow_tf32: bool) -> Iterator[None]:
        token = object()
        with self._lock:
            if not self._inside:
                self._before = _read_settings()
            self._inside.append((token, allow_tf32))
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                self._inside = [one for one in self._inside if one[0] is not token]
                self._apply()

    def _apply(self) -> None:
        if self._inside:
            allow_tf32 = self._inside[-1][1]
            # The same algorithm each time, none of which adds up in an order that is left to
            # chance.
            _write_settings(allow_tf32, allow_tf32, True, False)
        else:
            _write_settings(*self._before)


def _read_settings() -> tuple[bool, bool, bool, bool]:
    cudnn = torch.backends.cudnn
    tf32 = cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    return *tf32, cudnn.deterministic, cudnn.benchmark


def _write_settings(
    convolutions: bool, products: bool, is_deterministic: bool, is_benchmarked: bool
) -> None:
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.deterministic = is_deterministic
    torch.backends.cudnn.benchmark = is_benchmarked


_ARITHMETIC = _Arithmetic()


@contextlib.contextmanager
def set_arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Set the arithmetic of convolutions and matrix products, and restore it afterwards.

    On CUDA, the same images then give the same bits each time, as far as cuDNN decides it. A
    processor is not touched by these settings. An autocast around the block does not reach into it.

    Parameters
    ----------
    precision : {"float32", "tf32", "bfloat16"}
        The arithmetic.
    device : torch.device
        Where the network runs.
    """
    is_cast = precision == "bfloat16"
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_cast)
    with _ARITHMETIC.using(allow_tf32=precision == "tf32"), autocast:
        yield
