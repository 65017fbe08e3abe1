"""Head: what the layers behind the explained one do with its feature maps, measured on images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from galfig.attribution.gradcam import CamBatch, Output, differ, grad_cam, take_logits
from galfig.attribution.methods import hires_cam
from galfig.attribution.probe import explain_one_by_one

# Totals of maps and logits agree to this, relative to the larger, where they are the same.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Head:
    """What was measured.

    Attributes
    ----------
    bias : (C,) Tensor of float32 or None
        The logits without feature maps, if the logits of every image are these plus the totals of
        its Grad-CAM maps: so it is where pooling and one linear layer follow, whose bias it is.
        None otherwise.
    hires_distance : float
        By how much Grad-CAM differs from HiResCAM: the norm of their difference over that of
        HiResCAM, the median over all maps; NaN if all of these are zero.
    """

    bias: Tensor | None
    hires_distance: float


def measure_head(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    *,
    channels_last: bool | None = None,
    output: Output = None,
) -> Head:
    r"""Measure whether maps add up to the logits, and how far Grad-CAM is from HiResCAM.

    HiResCAM multiplies the gradient where it is, and Grad-CAM its spatial mean. Only behind pooling
    and one linear layer are they the same [1]_.

    Parameters
    ----------
    model, images, layer, channels_last, output
        As for `galfig.attribution.gradcam.grad_cam`.

    Returns
    -------
    Head

    Raises
    ------
    ValueError
        As for `galfig.attribution.gradcam.grad_cam`.

    References
    ----------
    .. [1] Draelos & Carin 2020, arXiv:2011.08891
    """
    # One image at a time, since a graph may fill the memory.
    found, exact = (
        explain_one_by_one(
            model, images, layer, explain=explain, channels_last=channels_last, output=output
        )
        for explain in (grad_cam, hires_cam)
    )
    norms = exact.cams.flatten(2).norm(dim=2)
    distances = (found.cams - exact.cams).flatten(2).norm(dim=2)[norms > 0] / norms[norms > 0]
    median = float(distances.median()) if len(distances) else float("nan")
    return Head(_find_bias(model, images, layer, found, output), median)


def _find_bias(
    model: nn.Module, images: Tensor, layer: nn.Module, found: CamBatch, output: Output
) -> Tensor | None:
    """Return the logits without feature maps, if the totals of maps are what they lack."""

    def empty(module: nn.Module, inputs: tuple[object, ...], maps: Tensor) -> Tensor:
        return torch.zeros_like(maps)

    handle = layer.register_forward_hook(empty)
    try:
        with torch.no_grad():
            bias = take_logits(model(images), len(images), output).float()
    finally:
        handle.remove()
    totals = found.cams.sum(dim=(2, 3))
    scale = float(found.cams.abs().sum(dim=(2, 3)).max())
    is_same = differ(bias + totals, found.logits, scale) <= ROUNDING
    is_constant = differ(bias, bias[:1].expand_as(bias), scale) <= ROUNDING
    return bias[0] if is_same and is_constant and bias.isfinite().all() else None
