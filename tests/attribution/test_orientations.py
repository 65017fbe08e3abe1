"""Orientations: the maps of a network averaged over turned and mirrored images."""

import pytest
import torch
from torch import nn

from galfig.attribution.gradcam import CamBatch, grad_cam
from galfig.attribution.orientations import ORIENTATIONS, explain_averaged


def turn(images, orientation):
    """Turn images; written anew, by transposing."""
    n_turns, is_mirrored = orientation
    images = images[..., ::1].flip(-1) if is_mirrored else images
    for _ in range(n_turns):
        images = images.transpose(-1, -2).flip(-2)
    return images


def turn_back(images, orientation):
    n_turns, is_mirrored = orientation
    for _ in range(n_turns):
        images = images.flip(-2).transpose(-1, -2)
    return images.flip(-1) if is_mirrored else images


class Averaged(nn.Module):
    """The averaged network as one function of an image, whose feature maps lie in one layer."""

    def __init__(self, body, head):
        super().__init__()
        self.body, self.head, self.joint = body, head, nn.Identity()

    def forward(self, images):
        maps = [turn_back(self.body(turn(images, one)), one) for one in ORIENTATIONS]
        joint = self.joint(torch.cat(maps, dim=1))
        parts = joint.chunk(len(ORIENTATIONS), dim=1)
        turned = [turn(part, one) for part, one in zip(parts, ORIENTATIONS, strict=True)]
        return torch.stack([self.head(part) for part in turned]).mean(dim=0)


@pytest.fixture
def network():
    torch.manual_seed(3)
    body = nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(5, 4, 3), nn.Tanh()
    )
    # The head is not linear, and does not pool alone.
    head = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 16, 3))
    return body.double().eval(), head.double().eval()


def test_maps_are_those_of_the_averaged_network(network):
    """In float64, against Grad-CAM of a module that holds all eight orientations."""
    body, head = network
    images = torch.randn(4, 3, 15, 15, dtype=torch.float64)
    plain, averaged = nn.Sequential(body, head).eval(), Averaged(body, head).eval()
    found = explain_averaged(lambda batch: grad_cam(plain, batch, body), images)
    expected = grad_cam(averaged, images, averaged.joint)
    torch.testing.assert_close(found.cams.double(), expected.cams.double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.logits.double(), averaged(images), rtol=0, atol=1e-6)
    assert (found.cams - grad_cam(plain, images, body).cams).abs().max() > 1e-3


def test_all_orientations_are_different():
    """Eight, and each is undone."""
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    turned = {tuple(turn(image, one).flatten().tolist()) for one in ORIENTATIONS}
    assert len(turned) == 8
    assert all(torch.equal(turn_back(turn(image, one), one), image) for one in ORIENTATIONS)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_maps_turn_with_the_image(network, orientation):
    """The logits do not change, whichever way up a galaxy lies."""
    body, head = network
    plain = nn.Sequential(body, head).eval()
    images = torch.randn(2, 3, 15, 15, dtype=torch.float64)

    def explain(batch):
        return grad_cam(plain, batch, body)

    first = explain_averaged(explain, images)
    second = explain_averaged(explain, turn(images, orientation))
    torch.testing.assert_close(second.logits, first.logits)
    torch.testing.assert_close(second.cams, turn(first.cams, orientation))


def test_neighbours_do_not_change_a_bit():
    """The average of an image is the same, of however many images at a time."""
    rng = torch.Generator().manual_seed(0)
    cams, logits = torch.randn(8, 7, 2, 6, 6, generator=rng), torch.randn(8, 7, 2, generator=rng)

    def average(n):
        batches = iter(zip(cams[:, :n], logits[:, :n], strict=True))
        return explain_averaged(lambda images: CamBatch(*next(batches)), torch.zeros(n, 3, 6, 6))

    whole = average(7)
    for n in range(1, 7):
        assert torch.equal(average(n).cams, whole.cams[:n])
        assert torch.equal(average(n).logits, whole.logits[:n])
