"""Orientations: a network averaged over the eight orientations of an image, and its maps."""

import functools
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from galfig.attribution.gradcam import CamBatch, map_batches

# Quarter turns, and whether the image is mirrored before.
ORIENTATIONS = tuple(
    (n_turns, is_mirrored) for is_mirrored in (False, True) for n_turns in range(4)
)


def explain_averaged(explain: Callable[[Tensor], CamBatch], images: Tensor) -> CamBatch:
    r"""Explain the network that averages the logits over the eight orientations of an image.

    With the orientations :math:`g`, this network is
    :math:`\bar y^c(x) = \frac18 \sum_g y^c(g x)`. Its feature maps are those of all orientations,
    each turned back: :math:`g^{-1} A^k(g x)`. Grad-CAM of these is the average of the maps of the
    orientations, each turned back, since the gradient is linear in the logits and the spatial mean
    does not depend on the orientation. The map of a turned image is the turned map.

    Parameters
    ----------
    explain : callable
        Gives the maps of the network for images, such as `galfig.attribution.engine.Engine.explain`
        does.
    images : (N, n_channels, H, H) Tensor of float32
        Normalised cutouts, which are square.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, h), signed, in logits; ``logits`` (N, C); ``features`` (N, K), the mean
        over the orientations.
    """
    batches = []
    for n_turns, is_mirrored in ORIENTATIONS:
        turned = torch.rot90(images.flip(-1) if is_mirrored else images, n_turns, (-2, -1))
        batch = explain(turned.contiguous())
        cams = torch.rot90(batch.cams, -n_turns, (-2, -1))
        batches.append(replace(batch, cams=cams.flip(-1) if is_mirrored else cams))
    return map_batches(_average, *batches)


def _average(*tensors: Tensor) -> Tensor:
    """Return the mean of tensors, added up one after the other.

    torch.mean adds those elements in another order that are left over when a kernel has taken as
    many as it does at a time: an image would depend on how many others there are.
    """
    return functools.reduce(torch.add, tensors) / len(tensors)
