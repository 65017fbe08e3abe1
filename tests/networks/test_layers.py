"""Layers: kinds of outputs, and whether the logits see the image past a layer."""

import pytest
import torch
from torch import nn

from galfig.networks.layers import sees_past, trace_outputs


class Branches(nn.Module):
    """Two branches that are added, a pooling and a linear layer; the second may be odd."""

    def __init__(self, second="plain"):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 1)
        self.joined = nn.ReLU()
        self.head = nn.Linear(8, 2)
        self.kind = second

    def forward(self, images):
        # In place, as timm's networks do.
        x = self.stem(images.mul_(1.0))
        if self.kind == "none":
            other = 0
        elif self.kind == "detached":
            other = self.second(x).detach()
        elif self.kind == "without gradients":
            with torch.no_grad():
                other = self.second(x)
        elif self.kind == "rounded":
            other = (x > 0).float()
        else:
            other = self.second(x)
        return self.head(self.joined(self.first(x) + other).mean((2, 3)))


@pytest.mark.parametrize(
    ("second", "is_bypassed"),
    [
        ("plain", True),
        ("detached", True),
        ("without gradients", True),
        ("rounded", True),
        ("none", False),
    ],
)
def test_what_flows_past_a_branch_is_seen(second, is_bypassed):
    """The other branch counts even if no gradient flows through it."""
    torch.manual_seed(0)
    model = Branches(second).eval()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    assert sees_past(model, model.first, 16) is is_bypassed
    assert not sees_past(model, model.stem, 16)
    assert not sees_past(model, model.joined, 16)
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_branch_of_zero_weights_counts_before_training():
    """A branch that training will fill is seen by the graph, on the meta device as well."""
    model = Branches().eval()
    nn.init.zeros_(model.second.weight)
    nn.init.zeros_(model.second.bias)
    assert sees_past(model, model.first, 16)
    with torch.device("meta"):
        model = Branches().eval()
    assert sees_past(model, model.first, 16)
    assert not sees_past(model, model.joined, 16)


class Odd(nn.Module):
    """Outputs of every kind on the way to two logits; 8 channels and 8 × 8 maps of 16 pixels."""

    def __init__(self, *, takes_any_size=True):
        super().__init__()
        self.maps = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.channels_last = nn.LayerNorm(8)
        self.windows = nn.ReLU()
        self.tokens = nn.Linear(8, 8)
        self.attention = nn.Softmax(dim=-1)
        self.pooled = nn.AdaptiveAvgPool2d(1)
        self.few = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(8, 2)
        self.takes_any_size = takes_any_size

    def forward(self, images):
        x = self.maps(images)
        n, k, h, w = x.shape
        x = self.channels_last(x.permute(0, 2, 3, 1))
        if not self.takes_any_size:
            assert h == w == 8, "images of 16 pixels"
        x = self.windows(x.reshape(n, h // 4, 4, w // 4, 4, k).transpose(2, 3).flatten(0, 2))
        x = x.reshape(n, h // 4, w // 4, 4, 4, k).transpose(2, 3).reshape(n, h, w, k)
        tokens = self.tokens(x.reshape(n, h * w, k))
        heads = torch.stack([tokens, tokens.flip(1)], 1)
        tokens = (self.attention(heads @ heads.transpose(2, 3)) @ heads).sum(1)
        x = tokens.transpose(1, 2).reshape(n, k, h, w)
        return self.head((self.pooled(x) + self.few(x).mean((2, 3), keepdim=True)).flatten(1))


EXPECTED = {
    "maps": "maps",
    "channels_last": "channels last",
    "windows": "other",
    "tokens": "tokens",
    "attention": "other",
    "pooled": "pooled",
    "few": "other",
}


def test_axes_are_told_apart_though_they_have_equal_lengths():
    """8 channels beside 8 × 8 pixels, batched windows, attention matrices, fixed pooling."""
    kinds = {output.name: output.kind for output in trace_outputs(Odd().eval(), 16)}
    assert kinds.pop("head") == "other"
    assert kinds == EXPECTED


def test_outputs_before_a_network_refuses_a_size_count():
    """A network for one size of images still shows its first layers at another size."""
    kinds = {
        output.name: output.kind for output in trace_outputs(Odd(takes_any_size=False).eval(), 16)
    }
    assert kinds["channels_last"] == "channels last"
    # Beyond, (3, 2, 64, 64) cannot be maps of images of 16 pixels.
    assert kinds["attention"] == "other"
