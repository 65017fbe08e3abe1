"""Grad-CAM of a batch of images, for every class, from one forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class CamBatch:
    """The maps of a batch of galaxies.

    Attributes
    ----------
    cams : (N, C, h, w) Tensor of float32
        Signed Grad-CAM map of every image for every class, in logits.
    logits : (N, C) Tensor of float32
        Output of the network, before the softmax.
    """

    cams: Tensor
    logits: Tensor


def grad_cam(model: nn.Module, images: Tensor, layer: nn.Module) -> CamBatch:
    r"""Compute the Grad-CAM map of every image for every class.

    The map of class :math:`c` is :math:`\sum_k \alpha_k^c A^k`, where
    :math:`\alpha_k^c` is the spatial mean of :math:`\partial y^c / \partial A^k` [1]_.
    The map is signed: the ReLU of the paper is applied only when a map is drawn.

    The network runs once. No graph is recorded up to ``layer``, and the gradient of each class is
    taken only through the layers above it. Hooks, ``.grad``, ``requires_grad`` and training flags
    are left unchanged.

    Parameters
    ----------
    model : torch.nn.Module
        Classifier in evaluation mode; returns logits of shape (N, C).
    images : (N, n_channels, H, W) Tensor of float32
        Normalised cutouts, on the device of ``model``.
    layer : torch.nn.Module
        Submodule whose output, (N, K, h, w), is explained.

    Returns
    -------
    CamBatch
        ``cams`` (N, C, h, w), signed, in logits; ``logits`` (N, C).

    Raises
    ------
    ValueError
        If ``model`` is in training mode, where batch statistics mix the galaxies of a batch, or
        does not return logits (N, C); or if ``layer`` is not part of ``model``, does not run
        exactly once, does not return feature maps, or does not affect the logits.

    References
    ----------
    .. [1] Selvaraju et al. 2017, ICCV, arXiv:1610.02391
    """
    check_explainable(model, layer)
    with torch.inference_mode(False), torch.no_grad():
        with _cut_at(layer) as activations:
            logits = model(images)
        if len(activations) != 1:
            raise ValueError(f"layer: ran {len(activations)} times in a forward pass, expected 1")
        if logits.ndim != 2:
            raise ValueError(f"model: output of shape {tuple(logits.shape)}, expected (N, C)")
        maps = activations[0]
        cams = [
            weighted_sum(maps, _mean_gradient(logits, maps, class_idx))
            for class_idx in range(logits.shape[1])
        ]
    return CamBatch(cams=torch.stack(cams, dim=1).float(), logits=logits.detach().float())


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


def check_explainable(model: nn.Module, layer: nn.Module) -> None:
    """Check that a model is in evaluation mode and that a layer is part of it.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    layer : torch.nn.Module
        The layer to explain.

    Raises
    ------
    ValueError
        If a module is in training mode, or the layer is not a submodule of the model.
    """
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(
                f"model: {name or 'it'} is in training mode, expected evaluation mode; "
                "call model.eval()"
            )
    if not any(module is layer for module in model.modules()):
        raise ValueError("layer: not a submodule of the model, expected one of model.modules()")


@contextmanager
def _cut_at(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Make each output of a layer the leaf of a new graph, and collect these leaves."""
    activations: list[Tensor] = []

    def cut(module: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layer: output {found}, expected feature maps (N, K, h, w)")
        # Two copies, since networks modify tensors in place. The first must survive what is done
        # to the layer's input, and the layers above may not write to a leaf.
        leaf = output.detach().clone().requires_grad_()
        activations.append(leaf)
        torch.set_grad_enabled(True)
        return leaf.clone()

    handle = layer.register_forward_hook(cut)
    try:
        yield activations
    finally:
        handle.remove()
        torch.set_grad_enabled(False)


def _mean_gradient(logits: Tensor, activations: Tensor, class_idx: int) -> Tensor:
    """Return the spatial means (N, K) of one class's gradients.

    Images do not mix in evaluation mode, so one backward pass gives the gradient of each.
    """
    chosen = torch.zeros_like(logits)
    chosen[:, class_idx] = 1.0
    # The graph is kept for the remaining classes.
    is_last = class_idx == logits.shape[1] - 1
    gradients = None
    if logits.requires_grad:
        (gradients,) = torch.autograd.grad(
            logits, activations, chosen, retain_graph=not is_last, allow_unused=True
        )
    if gradients is None:
        raise ValueError("layer: the logits do not depend on it, expected a layer on the way")
    return gradients.mean(dim=(2, 3))
