"""Receptive fields: what is measured is what follows from kernels and strides."""

import pytest
import torch
from torch import nn

from galfig.attribution.gradcam import Tokens
from galfig.networks.architectures import LayerTraits
from galfig.networks.checkpoint import wrap_network
from galfig.networks.receptive import (
    Field,
    LayerFacts,
    describe_field,
    list_layers,
    measure_fields,
)


def make_network():
    """Return convolutions of known kernels and strides, with an identity past one of them."""
    torch.manual_seed(0)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 6, 5, padding=2)
            self.pool = nn.MaxPool2d(2)
            self.inner = nn.Conv2d(6, 6, 3, padding=1)
            self.last = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU())
            self.head = nn.Linear(6, 2)

        def forward(self, images):
            x = self.pool(torch.relu(self.first(images)))
            return self.head(self.last(x + self.inner(x)).mean(dim=(2, 3)))

    return Network().eval()


def test_fields_follow_from_kernels_and_strides():
    """5; then 5 + 1 = 6 with a stride of 2; then 6 + 2 × 2 = 10 pixels."""
    model = make_network()
    layers = dict.fromkeys(("first", "pool", "inner", "last"), LayerTraits())
    before = {name: one.clone() for name, one in model.state_dict().items()}
    fields = measure_fields(model, layers, 48)
    assert [field.side for field in fields.values()] == [5, 6, 10, 10]
    assert all(0 < field.core <= field.side for field in fields.values())
    # The network is as it was.
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert all(one.dtype == torch.float32 for one in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_delta_has_a_field_of_one_pixel():
    """Weights count, not only the sizes of kernels: what is zero sees nothing."""
    conv = nn.Conv2d(3, 2, 7, padding=3)
    nn.init.zeros_(conv.weight)
    conv.weight.data[:, :, 3, 3] = 1
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    assert measure_fields(model, {"0": LayerTraits()}, 16) == {"0": Field(1, 1)}


def test_layers_are_listed_with_the_default_marked():
    """Those with maps, in their order; and which of them the image flows past."""
    checkpoint = wrap_network(
        make_network(),
        class_names=["low", "high"],
        mean=[0.1] * 3,
        std=[0.2] * 3,
        cutout_size=48,
    )
    found = {layer.name: layer for layer in list_layers(checkpoint)}
    assert list(found) == ["first", "pool", "inner", "last.0", "last.1", "last"]
    assert found["first"].shape == (6, 48, 48)
    assert found["last"].shape == (6, 24, 24)
    assert [name for name, layer in found.items() if layer.is_default] == ["last"]
    assert [name for name, layer in found.items() if layer.is_auto] == ["last"]
    assert [name for name, layer in found.items() if layer.is_bypassed] == ["inner"]


class Sequence(nn.Module):
    """Patches of 8 pixels, a class token before them or behind them, and a mean over all."""

    def __init__(self, is_first=True):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 4, 8, 8)
        self.prefix = nn.Parameter(torch.randn(1, 1, 4))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)
        self.is_first = is_first

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        parts = (self.prefix.expand(len(x), -1, -1), x)
        x = self.norm(torch.cat(parts if self.is_first else parts[::-1], dim=1))
        return self.head(x.mean(dim=1))


def test_tokens_are_listed_as_their_grid():
    """With the field of a patch; the class token reaches the logits past them."""
    checkpoint = wrap_network(
        Sequence().eval(), class_names=["a", "b"], mean=[0.1] * 3, std=[0.2] * 3, cutout_size=24
    )
    *_, found = list_layers(checkpoint)
    tokens = Tokens(1, 3, 3)
    assert found == LayerFacts("norm", (4, 3, 3), Field(8, 8), True, True, True, tokens)
    traits = LayerTraits(tokens=tokens)
    assert describe_field(checkpoint, "norm", traits) == {"side_px": 8.0}


def test_tokens_that_cannot_be_explained_are_listed_with_the_reason():
    """Not in silence: they are part of the network that the user looks at."""
    checkpoint = wrap_network(
        Sequence(is_first=False).eval(),
        class_names=["a", "b"],
        mean=[0.1] * 3,
        std=[0.2] * 3,
        cutout_size=24,
        layer="patches",
    )
    first, last = list_layers(checkpoint)
    assert (first.name, first.is_default, first.is_auto) == ("patches", True, False)
    assert (last.name, last.shape, last.field, last.tokens) == ("norm", (10, 4), None, None)
    assert last.refusal == "lie nowhere in the image at the end, the last 1 of them"


@pytest.mark.parametrize(
    ("cutout_size", "image_size", "layer", "side"),
    [(48, 48, "first", 5.0), (96, 48, "last", 20.0), (8, 8, "last", None)],
)
def test_a_store_records_the_field_in_pixels_of_its_cutouts(cutout_size, image_size, layer, side):
    """Those that the network scales down are larger there; a field up to the edge is no number."""
    checkpoint = wrap_network(
        make_network(),
        class_names=["low", "high"],
        mean=[0.1] * 3,
        std=[0.2] * 3,
        cutout_size=cutout_size,
        image_size=image_size,
    )
    assert describe_field(checkpoint, layer, LayerTraits()) == {"side_px": side}


def test_a_field_that_cannot_be_measured_is_not_known():
    """A network that computes in float32 whatever it is given; the build goes on without."""

    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, images):
            return self.conv(images.float()).mean(dim=(2, 3))

    checkpoint = wrap_network(
        Single().eval(), class_names=["a", "b"], mean=[0.1] * 3, std=[0.2] * 3, cutout_size=16
    )
    assert describe_field(checkpoint, "conv", LayerTraits()) is None


@pytest.mark.parametrize("size", [16, 17])
def test_a_field_larger_than_the_image_is_the_image(size):
    """Global pooling in a gate sees all of it."""

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.out = nn.ReLU()
            self.head = nn.Linear(4, 2)

        def forward(self, images):
            x = self.conv(images)
            return self.head(self.out(x * x.mean(dim=(2, 3), keepdim=True)).mean(dim=(2, 3)))

    torch.manual_seed(0)
    fields = measure_fields(Gate().eval(), dict.fromkeys(("conv", "out"), LayerTraits()), size)
    assert fields["conv"].side == 3
    assert fields["out"].side == size
