"""Fusion: the same output from fewer, or better laid out, layers."""

import copy
import types

import pytest
import torch
from reference import relative_error
from torch import nn

from galfig.attribution.engine import make_engine
from galfig.attribution.fusion import (
    PackedConvolution,
    count_uses,
    fold_batch_norms,
    pack_convolutions,
    separate_rows,
)

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN"
)


def make_sequential(*steps):
    torch.manual_seed(0)
    return nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()


def is_same(model, fused, size=17, n=3):
    images = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return relative_error(fused(images), copy.deepcopy(model).double()(images.double())) <= 1e-5


def count(model, size=30):
    return count_uses(model, torch.zeros(1, 3, size, size))


class Mlp(nn.Module):
    """Convolutions with a GELU between them, which are no neighbours in a sequence."""

    def __init__(self, kind="", gelu=None):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.first, self.act = nn.Conv2d(3, 8, 3), gelu or nn.GELU()
        self.second = nn.Conv2d(8, 8, 1)

    def forward(self, images):
        maps = self.first(images)
        found = self.act(maps)
        if self.kind == "gated":
            found = found * maps
        if self.kind == "joined":
            found = torch.cat([found, maps], dim=1)[:, :8]
        if self.kind == "twice":
            found = self.act(found)
        found = self.second(found).relu()
        return found.mean(dim=(2, 3))[:, : maps.shape[1]]


@needs_onednn
def test_gelu_is_computed_with_the_convolution_before_it():
    """Wherever it is in the network; with a gradient or in bfloat16 as PyTorch computes it."""
    model = Mlp().eval()
    packed = copy.deepcopy(model)
    assert pack_convolutions(packed, nn.Identity(), count(packed)) == 2
    assert packed.first.with_gelu
    assert type(packed.act) is nn.Identity
    assert is_same(model, packed)
    images = torch.randn(2, 3, 17, 17)
    assert torch.equal(packed(images), model(images))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(packed(images), model(images))


@needs_onednn
@pytest.mark.parametrize(
    "model",
    [
        Mlp("gated"),
        Mlp("joined"),
        Mlp("twice"),
        Mlp(gelu=nn.GELU(approximate="tanh")),
        Mlp(gelu=nn.SiLU()),
    ],
    ids=["gated", "joined", "twice", "tanh", "SiLU"],
)
def test_gelu_that_is_not_alone_stays(model):
    """The output of the convolution is read elsewhere, the GELU runs twice, or is another one."""
    packed = copy.deepcopy(model.eval())
    assert pack_convolutions(packed, nn.Identity(), count(packed)) == 2
    assert not packed.first.with_gelu
    assert is_same(model, packed)


@needs_onednn
@pytest.mark.parametrize("name", ["first", "act"])
def test_gelu_that_is_explained_stays(name):
    """So does one behind the explained layer, whose output it must not change."""
    packed = Mlp().eval()
    pack_convolutions(packed, packed.get_submodule(name), count(packed))
    assert type(packed.act) is nn.GELU


@needs_onednn
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(3, 8, (5, 3), stride=(2, 1), padding=(0, 2), bias=False),
        nn.Conv2d(3, 8, 3, dilation=2),
        nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 3, groups=2)),
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 7, padding=3, groups=8)),
    ],
    ids=["3 × 3", "stride", "dilation", "groups", "depthwise"],
)
def test_packed_convolutions_compute_the_same(conv):
    """Of any geometry, for any number and size of images, with a gradient or without."""
    model = make_sequential(conv, nn.ReLU())
    packed = copy.deepcopy(model)
    n_convs = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert pack_convolutions(packed, packed[-1], count(packed)) == n_convs
    for size, n in ((17, 3), (17, 1), (30, 2), (17, 3)):
        assert is_same(model, packed, size, n)
    images = torch.randn(2, 3, 17, 17, requires_grad=True)
    (gradient,) = torch.autograd.grad(packed(images).sum(), images)
    (expected,) = torch.autograd.grad(model(images).sum(), images)
    torch.testing.assert_close(gradient, expected)
    assert is_same(model, copy.deepcopy(packed))


@needs_onednn
def test_what_is_no_plain_convolution_is_left_alone():
    """Padding that is no zeros, hooks, subclasses, double precision, and the explained layer."""

    class Doubled(nn.Conv2d):
        def forward(self, images):
            return 2 * super().forward(images)

    hooked = nn.Conv2d(8, 8, 3)
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)
    explained = nn.Conv2d(8, 8, 1)
    model = make_sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"),
        *(nn.Conv2d(8, 8, 3, padding="same"), Doubled(8, 8, 3), hooked, explained, nn.ReLU()),
    )
    packed = copy.deepcopy(model)
    assert pack_convolutions(packed, packed[4], count(packed)) == 0
    assert is_same(model, packed)
    usage = count(model)
    assert pack_convolutions(model.double(), model[-1], usage) == 0


@needs_onednn
def test_relu_is_computed_with_its_convolution_where_nobody_else_reads():
    """A ReLU that is explained or has a hook stays a module of its own."""
    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda module, inputs, output: output - 1)
    steps = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()]
    model = make_sequential(*steps, nn.Conv2d(8, 8, 3), hooked)
    packed = copy.deepcopy(model)
    assert pack_convolutions(packed, packed[3], count(packed)) == 3
    assert [step.with_relu for step in packed if isinstance(step, PackedConvolution)] == [
        True,
        False,
        False,
    ]
    assert isinstance(packed[3], nn.ReLU)
    assert is_same(model, packed)


@needs_onednn
def test_packed_convolution_looks_like_the_one_it_replaces():
    """A network may read its layers' parameters: they are the same objects."""
    conv = nn.Conv2d(3, 8, 3, stride=2)
    model = make_sequential(conv)
    pack_convolutions(model, model[-1], count(model))
    assert isinstance(model[0], PackedConvolution)
    assert model[0].weight is conv.weight
    assert model[0].bias is conv.bias
    assert model[0].stride == (2, 2)
    assert set(model.state_dict()) == {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_batch_norm_is_folded_once():
    """Into the convolution before it; not into one that two places share."""
    shared = nn.Conv2d(3, 3, 1)
    model = make_sequential(
        *(shared, nn.BatchNorm2d(3), shared, nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    )
    model[1].running_mean.normal_()
    model[4].running_var.uniform_(0.5, 2)
    folded = copy.deepcopy(model)
    assert fold_batch_norms(folded, folded[-1], count(folded)) == 1
    assert is_same(model, folded)


@pytest.mark.parametrize("place", [(4,), (0, 0), (1, 0)])
def test_a_forward_replaced_on_the_object_is_kept(tiny_cnn, place):
    """Of a linear layer or a convolution: no fused layer takes its place."""
    module = tiny_cnn
    for index in place:
        module = module[index]
    images = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    plain = tiny_cnn(images).detach()
    module.forward = types.MethodType(_double, module)
    expected = tiny_cnn(images).detach()
    assert relative_error(plain, expected) > 1e-2
    engine = make_engine(tiny_cnn, tiny_cnn[1])
    assert relative_error(engine(images).logits, expected) <= 1e-5


def _double(module, inputs):
    return 2 * type(module).forward(module, inputs)


def test_backward_hooks_keep_a_layer_as_it_is(tiny_cnn):
    """They change gradients, which a layer in its place would not pass them."""
    tiny_cnn[4].register_full_backward_hook(lambda module, grad_in, grad_out: None)
    separate_rows(tiny_cnn, tiny_cnn[1])
    assert type(tiny_cnn[4]) is torch.nn.Linear
