"""Head: where maps add up to the logits, and how far Grad-CAM is from HiResCAM elsewhere."""

import math

import pytest
import torch
from reference import make_cases, make_residual, make_two_linear
from torch import nn

from galfig.attribution.gradcam import grad_cam
from galfig.attribution.head import measure_head
from galfig.attribution.methods import hires_cam


@pytest.fixture
def images():
    return torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Pooling and one linear layer that are no steps of an nn.Sequential."""

    def __init__(self):
        super().__init__()
        self.body, self.fc = make_residual()[:4], nn.Linear(10, 3)

    def forward(self, x):
        return self.fc(self.body(x).mean(dim=(2, 3)))


def test_bias_of_pooling_and_linear_is_found(tiny_cnn, images):
    """Whether the network is an nn.Sequential or not."""
    residual = Residual().eval()
    for model, layer, linear in (
        (tiny_cnn, tiny_cnn[1], tiny_cnn[-1]),
        (residual, residual.body, residual.fc),
    ):
        head = measure_head(model, images, layer)
        torch.testing.assert_close(head.bias, linear.bias.detach())
        assert head.hires_distance < 1e-5


class Bypassed(Residual):
    """The same, with the mean of the image added to the logits."""

    def forward(self, x):
        return super().forward(x) + x.mean(dim=(2, 3))


def test_what_depends_on_the_image_is_no_bias(images):
    """Maps and the rest add up to the logits of each image, but the rest is not the same."""
    model = Bypassed().eval()
    assert measure_head(model, images, model.body).bias is None
    # Of one image, the two cannot be told apart.
    assert measure_head(model, images[:1], model.body).bias is not None


class Normed(Residual):
    """The same, with the channels of each pixel normalised before they are pooled."""

    def forward(self, x):
        maps = self.body(x).movedim(1, -1)
        return self.fc(nn.functional.layer_norm(maps, (10,)).mean(dim=(1, 2)))


def test_hires_cam_below_a_norm_of_channels_is_rounding(images):
    """The gradient is at right angles to the feature maps, so that no distance can be given."""
    model = Normed().eval()
    head = measure_head(model, images, model.body)
    assert math.isnan(head.hires_distance)
    assert head.bias is None


@pytest.mark.parametrize("case", ["middle layer", "two linear layers", "three classes"])
def test_other_heads_have_none(case, images):
    """Then Grad-CAM and HiResCAM differ, and by how much is what a reader must know."""
    model, name = make_cases()[case]
    layer = model.get_submodule(name)
    head = measure_head(model, images, layer)
    assert head.bias is None
    distances = [
        float((one - other).norm() / other.norm())
        for pair in zip(
            grad_cam(model, images, layer).cams, hires_cam(model, images, layer).cams, strict=True
        )
        for one, other in zip(*pair, strict=True)
    ]
    assert min(distances) <= head.hires_distance <= max(distances)
    assert head.hires_distance > 0.1


def test_a_linear_layer_over_all_pixels_is_no_pooling(images):
    """HiResCAM adds up to its logits, Grad-CAM does not."""
    model = make_two_linear()[:4]
    model.extend([nn.Flatten(), nn.Linear(96, 2)]).eval()
    head = measure_head(model, images, model[2])
    assert head.bias is None
    totals = hires_cam(model, images, model[2]).cams.sum(dim=(2, 3)) + model[-1].bias
    torch.testing.assert_close(totals, model(images))
