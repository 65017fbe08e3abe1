"""Evidence: what speaks for a class and against the others, in log-odds."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from galfig.attribution.gradcam import CamBatch, Output, Tokens, average_gradients, explain_layer


def evidence(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    *,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    r"""Compute the evidence map of every image for every class.

    This is Grad-CAM of the log-odds of a class against the rest, :math:`\log p_c / (1 - p_c)`, in
    place of its logit. With the Grad-CAM maps :math:`D_c` of the differences :math:`y^c - y^0` and
    the probabilities :math:`q_j = p_j / (1 - p_c)` of the other classes, it is

    .. math:: E_c = D_c - \sum_{j \neq c} q_j D_j .

    The maps of all classes may share a part on which the prediction does not depend. In
    differences, it is never there: a constant that is added to all class weights changes
    nothing [1]_, [2]_. Zero means that a pixel speaks neither for the class nor against it.

    With two classes, :math:`E_1 = -E_0` is the map of :math:`y^1 - y^0`. Where pooling and one
    linear layer follow ``layer``, its sum and the difference of the biases are together the
    log-odds. With more classes, they are the log-odds plus the entropy of the :math:`q_j`.

    Parameters
    ----------
    model, images, layer, channels_last, tokens, output
        As for `galfig.attribution.gradcam.grad_cam`.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, w), signed, in log-odds; ``logits`` (N, C).

    Raises
    ------
    ValueError
        As for `galfig.attribution.gradcam.grad_cam`.

    References
    ----------
    .. [1] Srinivas & Fleuret 2020, arXiv:2006.09128
    .. [2] Wang & Wang 2022, NeurIPS, "Why not other classes?"
    """
    return contrast(
        explain_differences(
            model, images, layer, channels_last=channels_last, tokens=tokens, output=output
        )
    )


def explain_differences(
    model: nn.Module,
    images: Tensor,
    layer: nn.Module,
    *,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> CamBatch:
    """Compute Grad-CAM maps of the differences of all logits from the first.

    Parameters
    ----------
    model, images, layer, channels_last, tokens, output
        As for `galfig.attribution.gradcam.grad_cam`.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, w), signed, in logits, of which those of class 0 are zero; ``logits``
        (N, C).

    Raises
    ------
    ValueError
        As for `galfig.attribution.gradcam.grad_cam`.
    """
    return explain_layer(
        model,
        images,
        layer,
        average_gradients,
        of_differences=True,
        channels_last=channels_last,
        tokens=tokens,
        output=output,
    )


def contrast(batch: CamBatch) -> CamBatch:
    r"""Contrast the map of each class with those of the others, weighted by their probabilities.

    Parameters
    ----------
    batch : CamBatch
        Maps :math:`L_c`, (N, C, h, w), of a method that is linear in the explained output, or of
        the differences of logits; ``logits`` (N, C).

    Returns
    -------
    CamBatch
        ``cams`` :math:`E_c = L_c - \sum_{j \neq c} q_j L_j` with :math:`q_j = p_j / (1 - p_c)`, in
        log-odds, and the same logits.
    """
    cams, logits = batch.cams, batch.logits
    n_classes = logits.shape[1]
    if n_classes == 1:
        return batch
    if n_classes == 2:
        # The other class has all of the weight: nothing is rounded.
        return replace(batch, cams=cams - cams.flip(1))
    itself = torch.eye(n_classes, dtype=torch.bool, device=logits.device)
    # Axes: image, class, other class.
    weights = logits[:, None].masked_fill(itself, -torch.inf).softmax(dim=2)
    rest = torch.zeros_like(cams)
    # A matrix product may round otherwise for another number of images.
    for other in range(n_classes):
        rest += weights[:, :, other, None, None] * cams[:, other, None]
    return replace(batch, cams=cams - rest)
