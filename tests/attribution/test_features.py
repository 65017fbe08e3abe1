"""Features: the mean of each feature map, in every way of computing and with every method."""

import copy

import numpy as np
import pytest
import torch
from samples import make_tiny_cnn
from torch import nn

from galfig.attribution.engine import make_engine
from galfig.attribution.gradcam import CamBatch, Tokens, grad_cam, join_batches, map_batches
from galfig.attribution.methods import METHODS

LAYER_METHODS = [name for name, method in METHODS.items() if not method.of_pixels]


def pool_by_hook(model, images, name):
    """Return what a plain hook sees of a layer in float64, averaged over its pixels."""
    seen, double = [], copy.deepcopy(model).double()
    double.get_submodule(name).register_forward_hook(
        lambda module, inputs, output: seen.append(output.detach().clone())
    )
    with torch.no_grad():
        double(images.double())
    return seen[0].numpy().mean(axis=(2, 3))


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(3).normal(size=(21, 3, 24, 24))).float()


@pytest.mark.parametrize("method", LAYER_METHODS)
@pytest.mark.parametrize("layer", ["0", "1", "1.0"])
def test_features_are_those_of_a_plain_hook(images, method, layer):
    """Whether the gradient is taken in closed form or not, with a batch norm behind the layer."""
    model = make_tiny_cnn(3)
    expected = pool_by_hook(model, images, layer)
    engine = make_engine(model, model.get_submodule(layer), method=method)
    found = engine(images)
    assert engine.record.path == ("closed form" if layer == "1" else "cut graph")
    assert found.features.shape == (21, 8 if layer == "0" else 12)
    np.testing.assert_allclose(found.features.numpy(), expected, rtol=2e-5, atol=2e-6)
    exact = METHODS[method].explain(model, images, model.get_submodule(layer))
    np.testing.assert_allclose(exact.features.numpy(), expected, rtol=2e-5, atol=2e-6)


def test_features_do_not_depend_on_other_images(images):
    """They are the same bits for any number of images."""
    model = make_tiny_cnn()
    engine = make_engine(model, model[0])
    together = engine(images).features
    assert torch.equal(torch.cat([engine(image[None]).features for image in images]), together)


def test_features_of_turned_images_are_the_same():
    """Of a network averaged over the eight orientations, up to the order of a sum."""
    model = make_tiny_cnn()
    engine = make_engine(model, model[0])
    images = torch.from_numpy(np.random.default_rng(3).normal(size=(4, 3, 24, 24))).float()
    found = engine.explain_averaged(images).features
    turned = engine.explain_averaged(torch.rot90(images.flip(-1), 1, (-2, -1))).features
    torch.testing.assert_close(turned, found, rtol=1e-5, atol=1e-6)
    alone = [torch.rot90(images, turn, (-2, -1)) for turn in range(4)]
    alone += [torch.rot90(images.flip(-1), turn, (-2, -1)) for turn in range(4)]
    mean = np.mean([pool_by_hook(model, one, "0") for one in alone], axis=0)
    np.testing.assert_allclose(found.numpy(), mean, rtol=2e-5, atol=2e-6)


def test_tokens_without_place_are_left_out():
    """The class token has no place in the image, and no part in the features."""

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Identity()
            self.linear = nn.Linear(3, 2)

        def forward(self, images):
            cells = nn.functional.avg_pool2d(images, 8).flatten(2).mT
            tokens = self.patches(torch.cat([torch.full_like(cells[:, :1], 9.0), cells], dim=1))
            return self.linear(tokens.mean(dim=1))

    model = Reader().eval()
    images = torch.from_numpy(np.random.default_rng(3).normal(size=(4, 3, 24, 16))).float()
    found = grad_cam(model, images, model.patches, tokens=Tokens(1, 3, 2)).features
    torch.testing.assert_close(found, images.mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)


def test_half_precision_is_summed_in_single_precision():
    """A sum of many pixels in bfloat16 would have two digits."""
    model = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    images = torch.full((2, 3, 64, 64), 1.0078125)
    found = grad_cam(model.eval().bfloat16(), images.bfloat16(), model[0])
    assert found.features.dtype == torch.float32
    assert torch.equal(found.features, images[:, :, 0, 0])


def test_pixels_have_no_features(images):
    """Nor has a batch that was joined with one that has none."""
    pytest.importorskip("captum")
    model = make_tiny_cnn()
    found = make_engine(model, model[0], method="input-x-gradient")(images[:2])
    assert found.features is None
    other = CamBatch(found.cams, found.logits, features=torch.ones(2, 4))
    assert join_batches([other, found]).features is None
    assert join_batches([other, other]).features.shape == (4, 4)
    assert map_batches(lambda tensor: tensor[:1], other).features.shape == (1, 4)
