"""Pooling: the mean over a feature map, whose gradient lies in memory as the map does."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from galfig.networks.device import replacing_forward


@contextmanager
def pooling_in_place(model: nn.Module) -> Iterator[None]:
    """Have global average pooling be fast on a processor while a network trains.

    torch gives the gradient of the mean in another order in memory than a channels-last map has,
    so that the ReLU before it reads the two against each other. It also copies a map of bfloat16
    to float32 before it adds it up. Where a network pools large maps, as ``conv3`` does, the two
    take a third of the time of a training in bfloat16.

    Parameters
    ----------
    model : torch.nn.Module
        The network. Until the block ends, its `torch.nn.AdaptiveAvgPool2d` of one pixel compute by
        `pool_map`.
    """
    with ExitStack() as replaced:
        for module in model.modules():
            if type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1)):
                replaced.enter_context(replacing_forward(module, pool_map))
        yield


def pool_map(features: Tensor) -> Tensor:
    """Return the mean over the pixels of feature maps.

    Parameters
    ----------
    features : (N, K, h, w) tensor of float
        The maps.

    Returns
    -------
    (N, K, 1, 1) tensor
        Of the same dtype. Of bfloat16, the sum is that of float32, rounded.
    """
    pooled: Tensor = _MeanOverPixels.apply(features)
    return pooled


class _MeanOverPixels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.like = torch.empty_like(features, device="meta")
        if features.dtype is not torch.bfloat16:
            return features.mean(dim=(2, 3), keepdim=True)
        # torch adds up in float32, here without a copy of the maps.
        return features.sum(dim=(2, 3), keepdim=True) / features[0, 0].numel()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        each = gradient / ctx.like[0, 0].numel()
        return torch.empty_like(ctx.like, device=gradient.device).copy_(each.expand_as(ctx.like))
