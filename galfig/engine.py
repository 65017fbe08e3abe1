"""The engine: a network made fast for explaining, with the same maps and logits."""

import contextlib
import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from galfig.errors import ConfigError
from galfig.gradcam import CamBatch, check_explainable, grad_cam

PRECISIONS = ("float32", "tf32", "bfloat16")
MICRO_BATCH = 8


class Engine:
    """A network prepared for one layer; made by `make_engine`, called with batches of images.

    Attributes
    ----------
    path : str
        What explains: "closed form" or "cut graph".
    n_fused : int
        Batch norms folded into the convolution before them.
    """

    def __init__(
        self,
        explain: Callable[[Tensor], CamBatch],
        *,
        path: str,
        n_fused: int,
        micro_batch: int | None,
        precision: str,
        device: torch.device,
    ) -> None:
        self._explain = explain
        self._micro_batch = micro_batch
        self._precision = precision
        self.device = device
        self.path = path
        self.n_fused = n_fused

    def __call__(self, images: Tensor) -> CamBatch:
        """Explain a batch (N, 3, H, W); the maps and logits are on the engine's device."""
        size = self._micro_batch or max(1, len(images))
        with _arithmetic(self._precision, self.device):
            batches = [self._explain(batch.to(self.device)) for batch in images.split(size)]
        return CamBatch(
            cams=torch.cat([batch.cams for batch in batches]),
            logits=torch.cat([batch.logits for batch in batches]),
        )


def make_engine(model: nn.Module, layer: nn.Module, *, precision: str = "float32") -> Engine:
    r"""Prepare a network for explaining many galaxies.

    Works on a copy: batch norm is folded into the convolution before it where the two are
    neighbours in an ``nn.Sequential``. Where only pooling and one linear layer :math:`W` follow
    ``layer``, the gradient is :math:`W_{ck} / (hw)` everywhere and no backward pass is needed:
    the trunk runs channels-last, a few images at a time. Elsewhere the graph above the layer is
    used as in `galfig.gradcam.grad_cam`.

    Parameters
    ----------
    model : torch.nn.Module
        Classifier in evaluation mode; returns logits of shape (N, C).
    layer : torch.nn.Module
        Submodule whose output, (N, K, h, w), is explained.
    precision : {"float32", "tf32", "bfloat16"}, default "float32"
        Arithmetic of the convolutions; tf32 is float32 where there is no CUDA.

    Returns
    -------
    Engine
        Called with normalised images (N, 3, H, W), gives the `CamBatch` of ``grad_cam``, to a
        relative error of 1e-5 in float32.

    Raises
    ------
    ValueError
        In training mode, for a layer that is no part of the model, or an unknown precision.
    """
    check_explainable(model, layer)
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r}, expected one of {', '.join(PRECISIONS)}")
    name = next(name for name, module in model.named_modules() if module is layer)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model = copy.deepcopy(model)
    layer = model.get_submodule(name)
    n_fused = _fuse_batch_norms(model, layer)
    # A batch norm that is explained is now an identity, with the same output.
    layer = model.get_submodule(name)
    options: dict[str, Any] = {"n_fused": n_fused, "precision": precision, "device": device}
    closed_form = _split_at_linear_head(model.eval(), layer)
    if closed_form is None:
        explain = partial(grad_cam, model, layer=layer)
        return Engine(explain, path="cut graph", micro_batch=None, **options)
    trunk, linear = closed_form
    return Engine(
        partial(_explain_linear_head, trunk.to(memory_format=torch.channels_last), linear),
        path="closed form",
        # The activations of a few images stay in a processor's cache; CUDA wants many.
        micro_batch=None if device.type == "cuda" else MICRO_BATCH,
        **options,
    )


def choose_device(name: str) -> torch.device:
    """Return the device called "auto" (CUDA where there is one), "cpu" or "cuda"."""
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError("--device cuda: no CUDA device found; use --device auto or cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and has_cuda) else "cpu")


def _explain_linear_head(trunk: nn.Module, linear: nn.Linear, images: Tensor) -> CamBatch:
    """Explain through pooling + linear, whose gradient is the weight itself."""
    with torch.no_grad():
        activations = trunk(images.contiguous(memory_format=torch.channels_last))
        height, width = activations.shape[2:]
        logits = linear(activations.mean(dim=(2, 3)))
        weights = linear.weight / (height * width)
        # The maps of all classes are a 1×1 convolution with the weights of the head.
        cams = nn.functional.conv2d(activations, weights[:, :, None, None].to(activations.dtype))
    return CamBatch(cams=cams.float().contiguous(), logits=logits.float())


def _split_at_linear_head(
    model: nn.Module, layer: nn.Module
) -> tuple[nn.Sequential, nn.Linear] | None:
    """Return trunk and linear layer where just pooling and flattening lie between them."""
    if not _is_sequential(model) or _has_hooks(model):
        return None
    # Not children(), which leaves out a module that is there for the second time.
    steps = list(cast("nn.Sequential", model))
    positions = [index for index, step in enumerate(steps) if step is layer]
    if len(positions) != 1:
        return None
    cut = positions[0] + 1
    head = [step for step in steps[cut:] if not isinstance(step, nn.Dropout | nn.Identity)]
    if len(head) != 3 or any(_has_hooks(step) for step in steps[cut:]):
        return None
    pool, flatten, linear = head
    if (
        type(pool) is nn.AdaptiveAvgPool2d
        and pool.output_size in (1, (1, 1))
        # fastai has a Flatten of its own, which may flatten the batch too.
        and type(flatten).__name__ == "Flatten"
        and getattr(flatten, "start_dim", 1) == 1
        and not getattr(flatten, "full", False)
        and type(linear) is nn.Linear
    ):
        return nn.Sequential(*steps[:cut]), linear
    return None


def _fuse_batch_norms(model: nn.Module, layer: nn.Module) -> int:
    """Fold batch norms into the convolutions before them; return how many were."""
    uses = Counter(
        id(child)
        for parent in model.modules()
        for child in parent._modules.values()
        if child is not None
    )
    n_fused = 0
    for parent in list(model.modules()):
        if not _is_sequential(parent):
            continue
        steps = cast("nn.Sequential", parent)
        for index, (conv, norm) in enumerate(itertools.pairwise(list(steps))):
            # The explained layer must keep its output, and a shared layer its other uses.
            # Subclasses and hooks, as of weight norm, may compute something else.
            if (
                type(conv) is nn.Conv2d
                and type(norm) is nn.BatchNorm2d
                and norm.track_running_stats
                and conv is not layer
                and uses[id(conv)] == uses[id(norm)] == 1
                and not _has_hooks(conv)
                and not _has_hooks(norm)
            ):
                steps[index] = fuse_conv_bn_eval(conv, norm)
                steps[index + 1] = nn.Identity()
                n_fused += 1
    return n_fused


def _is_sequential(model: nn.Module) -> bool:
    """Tell whether a module is an ``nn.Sequential`` that runs its children in order."""
    return isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


@contextlib.contextmanager
def _arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Set the arithmetic of convolutions and products, and put back what was set."""
    if precision == "bfloat16":
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    wanted = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
