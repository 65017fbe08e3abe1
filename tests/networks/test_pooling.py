"""Pooling: the numbers of torch, and a gradient that lies in memory as the map does."""

import pytest
import torch
from torch import nn

from galfig.networks.pooling import pool_map, pooling_in_place

LAYOUTS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}


def run(pool, features):
    """Return pooled features and the gradient of a sum of them, weighted by map and galaxy."""
    pooled = pool(features)
    weights = torch.arange(pooled.numel(), dtype=torch.float32).reshape(pooled.shape).sin()
    (gradient,) = torch.autograd.grad((pooled.float() * weights).sum(), features)
    return pooled, gradient


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_bits_are_those_of_torch(layout):
    """So that networks of float32 are those that they were."""
    features = torch.rand(3, 5, 7, 9).to(memory_format=layout).requires_grad_()
    for found, expected in zip(
        run(pool_map, features), run(nn.AdaptiveAvgPool2d(1), features), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_gradient_lies_as_the_map_does(layout, dtype):
    features = torch.rand(3, 5, 7, 9, dtype=dtype).to(memory_format=layout).requires_grad_()
    pooled, gradient = run(pool_map, features)
    assert pooled.dtype == gradient.dtype == dtype
    assert gradient.stride() == features.stride()


def test_bfloat16_adds_up_in_float32():
    """The sum of 96 × 96 pixels of one sign would otherwise stop growing at 256 of them."""
    features = torch.rand(2, 4, 96, 96).to(torch.bfloat16).requires_grad_()
    pooled, gradient = run(pool_map, features)
    exact = features.detach().double().mean(dim=(2, 3), keepdim=True)
    assert torch.allclose(pooled.detach().double(), exact, rtol=2**-7, atol=0)
    _, expected = run(lambda maps: maps.double().mean(dim=(2, 3), keepdim=True), features)
    assert torch.allclose(gradient.double(), expected.double(), rtol=2**-7, atol=0)


def test_gradient_agrees_with_finite_differences():
    assert torch.autograd.gradcheck(pool_map, torch.rand(2, 3, 4, 5).double().requires_grad_())


def test_only_global_average_pooling_is_replaced():
    """Within the block, and in no network that pools otherwise."""
    model = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveMaxPool2d(1),
        nn.Sequential(nn.AdaptiveAvgPool2d(1)),
    )

    def list_replaced():
        return [name for name, module in model.named_modules() if "forward" in vars(module)]

    with pooling_in_place(model):
        assert list_replaced() == ["0", "1", "4.0"]
        assert model[0].forward is pool_map
    assert list_replaced() == []
