"""Methods: how maps follow from feature maps and gradients; all by name, in `METHODS`."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from galfig.attribution.evidence import contrast, explain_differences
from galfig.attribution.gradcam import (
    CamBatch,
    Output,
    Tokens,
    explain_layer,
    grad_cam,
    weighted_sum,
)
from galfig.attribution.pixels import input_x_gradient, integrated_gradients


@dataclass(frozen=True)
class Method:
    """A method of attribution, as the engine needs it.

    Attributes
    ----------
    explain : callable
        The exact function, with the parameters and the result of
        `galfig.attribution.gradcam.grad_cam`.
    combine_uniform : callable or None
        The maps (N, C, h, w) for feature maps (N, K, h, w) and gradients (C, K) that are the same
        everywhere: those of pooling and one linear layer, which are their weights over h × w. None
        if no layer is explained.
    of_differences : bool
        Whether ``explain`` gives maps of the differences of logits from the first.
    of_pixels : bool
        Whether the pixels of the image are explained, in place of a layer.
    is_proportional : bool
        Whether a map is proportional to the gradient where that is scaled by a positive number, so
        that maps of orientations may be averaged.
    proven_by : str
        Name of a quicker method by which an engine is proven, where that runs the network in the
        same way; "" for the method itself.
    finish : callable
        What remains to be done with what ``explain`` gives.
    """

    explain: Callable[..., CamBatch]
    combine_uniform: Callable[[Tensor, Tensor], Tensor] | None
    of_differences: bool = False
    of_pixels: bool = False
    is_proportional: bool = True
    proven_by: str = ""
    finish: Callable[[CamBatch], CamBatch] = lambda batch: batch


def find_method(name: str) -> Method:
    """Return a method by its name.

    Parameters
    ----------
    name : str
        A key of `METHODS`.

    Returns
    -------
    Method

    Raises
    ------
    ValueError
        If there is no method of this name, or it needs captum, which is not installed.
    """
    if name not in METHODS:
        raise ValueError(f"method: {name!r} is unknown, expected one of {', '.join(METHODS)}")
    method = METHODS[name]
    if method.of_pixels and importlib.util.find_spec("captum") is None:
        raise ValueError(f"method: {name!r} needs captum; pip install 'galfig[captum]'")
    return method


def hires_cam(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    *,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    r"""Compute the HiResCAM map of every image for every class.

    The map of class :math:`c` is :math:`\sum_k \partial y^c / \partial A^k \odot A^k` [1]_. Where a
    piecewise linear head without biases follows ``layer``, it sums to the logit. Behind pooling and
    one linear layer the gradient is the same everywhere, and the map is that of Grad-CAM.

    Parameters
    ----------
    model, images, layer, channels_last, tokens, output
        As for `galfig.attribution.gradcam.grad_cam`.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, w), signed, in logits: the ReLU of the paper is applied only when a map
        is drawn; ``logits`` (N, C).

    Raises
    ------
    ValueError
        As for `galfig.attribution.gradcam.grad_cam`.

    References
    ----------
    .. [1] Draelos & Carin 2020, arXiv:2011.08891
    """
    return explain_layer(
        model, images, layer, _multiply, channels_last=channels_last, tokens=tokens, output=output
    )


def grad_cam_plus_plus(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    *,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    r"""Compute the Grad-CAM++ map of every image for every class.

    With the gradient :math:`g^k_{ij} = \partial y^c / \partial A^k_{ij}`, the map of class
    :math:`c` is :math:`\sum_k w_k A^k`, where

    .. math:: w_k = \sum_{ij} \frac{g_{ij}^2}{2 g_{ij}^2 + g_{ij}^3 \sum_{ab} A^k_{ab}}
              \max(g_{ij}, 0) = \sum_{ij} \frac{\max(g_{ij}, 0)}{2 + g_{ij} \sum_{ab} A^k_{ab}}

    (equations 7 and 19 of the paper [1]_, whose score is :math:`\exp y^c`). The ReLU of the
    gradient belongs to the weights and stays. Negative gradients therefore do not count, and the
    map is no sum of evidence [2]_; it has the sign of the feature maps.

    Parameters
    ----------
    model, images, layer, channels_last, tokens, output
        As for `galfig.attribution.gradcam.grad_cam`.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, w), without a unit; ``logits`` (N, C).

    Raises
    ------
    ValueError
        As for `galfig.attribution.gradcam.grad_cam`.

    References
    ----------
    .. [1] Chattopadhyay et al. 2018, WACV, arXiv:1710.11063
    .. [2] Lerma & Lucas 2022, arXiv:2205.10838
    """
    return explain_layer(
        model,
        images,
        layer,
        _weight_plus_plus,
        channels_last=channels_last,
        tokens=tokens,
        output=output,
    )


def layer_cam(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    *,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    r"""Compute the LayerCAM map of every image for every class.

    The map of class :math:`c` is
    :math:`\sum_k \max(\partial y^c / \partial A^k, 0) \odot A^k` [1]_. The ReLU of the gradient
    belongs to the weights and stays: what speaks against a class is not shown.

    Parameters
    ----------
    model, images, layer, channels_last, tokens, output
        As for `galfig.attribution.gradcam.grad_cam`.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, w), in logits, with the sign of the feature maps; ``logits`` (N, C).

    Raises
    ------
    ValueError
        As for `galfig.attribution.gradcam.grad_cam`.

    References
    ----------
    .. [1] Jiang et al. 2021, IEEE Transactions on Image Processing 30, 5875
    """
    return explain_layer(
        model,
        images,
        layer,
        _multiply_positive,
        channels_last=channels_last,
        tokens=tokens,
        output=output,
    )


def x_grad_cam(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    *,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    r"""Compute the XGrad-CAM map of every image for every class.

    The map of class :math:`c` is :math:`\sum_k w_k A^k`, where the gradient is averaged with the
    feature map itself for a weight [1]_:

    .. math:: w_k = \frac{\sum_{ij} A^k_{ij} \, \partial y^c / \partial A^k_{ij}}
              {\sum_{ij} A^k_{ij}} .

    It has the same sum as the map of HiResCAM. The weight of a feature map that adds up to zero is
    zero. Near that, as with feature maps of both signs, it may be large for no reason.

    Parameters
    ----------
    model, images, layer, channels_last, tokens, output
        As for `galfig.attribution.gradcam.grad_cam`.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, w), signed, in logits: the ReLU of the paper is applied only when a map
        is drawn; ``logits`` (N, C).

    Raises
    ------
    ValueError
        As for `galfig.attribution.gradcam.grad_cam`.

    References
    ----------
    .. [1] Fu et al. 2020, BMVC, arXiv:2008.02312
    """
    return explain_layer(
        model,
        images,
        layer,
        _weight_by_activation,
        channels_last=channels_last,
        tokens=tokens,
        output=output,
    )


def _multiply(maps: Tensor, gradient: Tensor) -> Tensor:
    return (gradient * maps).sum(dim=1)


def _multiply_positive(maps: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.clamp(min=0) * maps).sum(dim=1)


def _weight_plus_plus(maps: Tensor, gradient: Tensor) -> Tensor:
    totals = maps.sum(dim=(2, 3), keepdim=True)
    return weighted_sum(maps, _divide_plus_plus(gradient, totals).sum(dim=(2, 3)))


def _weight_by_activation(maps: Tensor, gradient: Tensor) -> Tensor:
    totals, products = maps.sum(dim=(2, 3)), (gradient * maps).sum(dim=(2, 3))
    return weighted_sum(maps, torch.where(totals == 0, 0, products / totals))


def _convolve(maps: Tensor, gradients: Tensor) -> Tensor:
    # The maps of all classes are a 1×1 convolution with the gradients.
    return nn.functional.conv2d(maps, gradients[:, :, None, None])


def _convolve_positive(maps: Tensor, gradients: Tensor) -> Tensor:
    return _convolve(maps, gradients.clamp(min=0))


def _divide_plus_plus(gradient: Tensor, totals: Tensor) -> Tensor:
    # The squares of the gradient cancel, which would underflow. Where it is negative, the divisor
    # may be zero: to the eight bits of bfloat16, it often is.
    return torch.where(gradient > 0, gradient / (2 + gradient * totals), 0)


def _convolve_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    n_images, n_maps, height, width = maps.shape
    totals = maps.sum(dim=(2, 3))
    weights = height * width * _divide_plus_plus(gradients, totals[:, None])
    cams = torch.bmm(weights, maps.reshape(n_images, n_maps, height * width))
    return cams.reshape(n_images, -1, height, width)


METHODS: Mapping[str, Method] = {
    "grad-cam": Method(grad_cam, _convolve),
    "hires-cam": Method(hires_cam, _convolve),
    "grad-cam++": Method(grad_cam_plus_plus, _convolve_plus_plus, is_proportional=False),
    "layer-cam": Method(layer_cam, _convolve_positive),
    "x-grad-cam": Method(x_grad_cam, _convolve),
    "evidence": Method(explain_differences, _convolve, of_differences=True, finish=contrast),
    "integrated-gradients": Method(
        integrated_gradients, None, of_pixels=True, proven_by="input-x-gradient"
    ),
    "input-x-gradient": Method(input_x_gradient, None, of_pixels=True),
}
"""All methods, by the name that settings and options use."""
