"""Pixels: methods that explain the image itself in place of a layer, by captum."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from galfig.attribution.gradcam import (
    CamBatch,
    Output,
    Tokens,
    check_explainable,
    steady_norms,
    take_logits,
    unwrap,
)

# Points of the quadrature of Gauss and Legendre along the path.
N_STEPS = 50


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module | None = None,
    *,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    r"""Compute the integrated gradients of every image for every class.

    The map of class :math:`c` is the gradient along the straight path from a baseline
    :math:`x'` to the image :math:`x`, summed over the channels :math:`b` [1]_:

    .. math:: \sum_b (x_b - x'_b) \int_0^1
              \frac{\partial y^c(x' + t (x - x'))}{\partial x_b} \, dt .

    The baseline is zero in normalised images: the mean pixel of the training set, the same
    everywhere. The map sums to :math:`y^c(x) - y^c(x')`, but for the error of the quadrature, 50
    points of Gauss and Legendre by captum [2]_.

    Parameters
    ----------
    model, images, output
        As for `galfig.attribution.gradcam.grad_cam`.
    layer, channels_last, tokens : optional
        Not used.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, H, W), signed, in logits; ``logits`` (N, C).

    Raises
    ------
    ValueError
        If ``model`` is in training mode, has batch norm without running statistics, is traced or
        compiled, or does not return logits (N, C); or if the logits have no gradient.
    ImportError
        If captum is not installed.

    References
    ----------
    .. [1] Sundararajan et al. 2017, ICML, arXiv:1703.01365
    .. [2] Kokhlikyan et al. 2020, arXiv:2009.07896
    """
    from captum.attr import IntegratedGradients

    def attribute(run: Callable[[Tensor], Tensor], class_idx: int) -> Tensor:
        return IntegratedGradients(run).attribute(
            images,
            baselines=0,
            target=class_idx,
            n_steps=N_STEPS,
            method="gausslegendre",
            # A step at a time: all of them together would take fifty times the memory.
            internal_batch_size=len(images),
        )

    return _explain_pixels(model, images, attribute, output)


def input_x_gradient(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module | None = None,
    *,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    r"""Compute the product of every image with its gradient, for every class.

    The map of class :math:`c` is :math:`\sum_b x_b \, \partial y^c / \partial x_b`, summed over the
    channels :math:`b` [1]_, by captum. Pixels are normalised: zero is the mean pixel of the
    training set. The map is local: the image is all that is looked at, and it sums to nothing in
    particular unless the network is piecewise linear without biases.

    Parameters
    ----------
    model, images, output
        As for `galfig.attribution.gradcam.grad_cam`.
    layer, channels_last, tokens : optional
        Not used.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, H, W), signed, in logits; ``logits`` (N, C).

    Raises
    ------
    ValueError, ImportError
        As for `integrated_gradients`.

    References
    ----------
    .. [1] Shrikumar et al. 2016, arXiv:1605.01713
    """
    from captum.attr import InputXGradient

    def attribute(run: Callable[[Tensor], Tensor], class_idx: int) -> Tensor:
        return InputXGradient(run).attribute(leaf, target=class_idx)

    # captum warns of an image that has no gradient yet.
    leaf = images.detach().clone().requires_grad_()
    return _explain_pixels(model, images, attribute, output)


def _explain_pixels(
    model: nn.Module,
    images: Tensor,
    attribute: Callable[[Callable[[Tensor], Tensor], int], Tensor],
    output: Output,
) -> CamBatch:
    """Collect the attributions of all classes, summed over channels."""
    model = unwrap(model)
    check_explainable(model, model)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def run(batch: Tensor) -> Tensor:
        # A network may write to its input, which must then not be a leaf.
        found = torch.func.functional_call(model, parameters, (batch.clone(),))
        return take_logits(found, len(batch), output)

    with torch.inference_mode(False), _refuse_without_gradient(), steady_norms(model, len(images)):
        with torch.no_grad():
            logits = run(images)
        with torch.enable_grad():
            cams = [
                attribute(run, class_idx).detach().sum(dim=1)
                for class_idx in range(logits.shape[1])
            ]
    return CamBatch(cams=torch.stack(cams, dim=1).float(), logits=logits.float())


@contextmanager
def _refuse_without_gradient() -> Iterator[None]:
    try:
        yield
    except RuntimeError as exc:
        if "does not require grad" not in str(exc) and "not have been used" not in str(exc):
            raise
        raise ValueError(
            "model: the logits have no gradient with respect to the image; the network runs under "
            "torch.no_grad(), or detaches it"
        ) from exc
