"""Evidence: the log-odds as a map, and blind to what all classes share."""

import copy

import pytest
import torch
from reference import explain_by_the_book, make_residual, make_two_linear, relative_error
from samples import make_tiny_cnn
from torch import nn

from galfig.attribution.engine import make_engine
from galfig.attribution.evidence import contrast, evidence
from galfig.attribution.gradcam import CamBatch, grad_cam

CASES = {
    "pooling and linear": (make_tiny_cnn(), "1", "closed form"),
    "three classes": (make_residual(), "3", "closed form"),
    "middle layer": (make_tiny_cnn(), "0", "cut graph"),
    "two linear layers": (make_two_linear(), "2", "cut graph"),
    "three classes, middle layer": (make_residual(), "2", "cut graph"),
}


@pytest.fixture
def images():
    return torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))


class LogOdds(nn.Module):
    """A network whose outputs are the log-odds of each class against the rest."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, images):
        p = self.body(images).softmax(dim=1)
        return torch.log(p) - torch.log1p(-p)


@pytest.mark.parametrize("case", CASES)
def test_it_is_grad_cam_of_the_log_odds(case, images):
    """By the book, in float64, of a network that computes them; exactly and by the engine."""
    model, name, path = CASES[case]
    layer = model.get_submodule(name)
    book = copy.deepcopy(LogOdds(model)).double().eval()
    expected = explain_by_the_book(book, images.double(), book.body.get_submodule(name)).cams
    found = evidence(model, images, layer)
    assert relative_error(found.cams, expected) <= 1e-5
    engine = make_engine(model, layer, method="evidence")
    batch = engine(images)
    assert engine.record.path == path
    assert relative_error(batch.cams, expected) <= 1e-5
    torch.testing.assert_close(batch.logits, model(images).detach())


@pytest.mark.parametrize("n_classes", [2, 3])
def test_sum_and_bias_are_the_log_odds(images, n_classes):
    """To 1e-5 in float32, against float64; with three classes, but for the entropy of the rest."""
    model = make_tiny_cnn() if n_classes == 2 else make_residual()
    found = make_engine(model, model[-4], method="evidence")(images)
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(images.double())
    p = logits.softmax(dim=1)
    bias = model[-1].bias.detach().double()
    for c in range(n_classes):
        others = [j for j in range(n_classes) if j != c]
        q = p[:, others] / (1 - p[:, c, None])
        total = found.cams[:, c].double().sum(dim=(1, 2)) + bias[c] - q @ bias[others]
        entropy = -(q * q.log()).sum(dim=1)
        torch.testing.assert_close(
            total - entropy, torch.log(p[:, c] / (1 - p[:, c])), rtol=0, atol=1e-5
        )


def _make_exact(n_classes, *, hidden):
    """A network of small whole numbers, on which additions in float32 are exact."""
    generator = torch.Generator().manual_seed(n_classes)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()]
    if hidden:
        layers += [nn.Conv2d(4, 4, 1), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_classes)]
    model = nn.Sequential(*layers, *head).eval()
    for parameter in model.parameters():
        whole = torch.randint(-3, 4, parameter.shape, generator=generator)
        parameter.data = whole.to(torch.float32)
    images = torch.randint(-4, 5, (5, 3, 8, 8), generator=generator).float()
    return model, images


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_constant_added_to_all_classes_changes_no_bit(n_classes, hidden):
    """Neither in closed form nor in the graph, while the maps of Grad-CAM become others."""
    model, images = _make_exact(n_classes, hidden=hidden)
    moved = copy.deepcopy(model)
    moved[-1].weight.data += torch.tensor([5.0, -2.0, 7.0, 16.0])
    layer, other = model[1], moved[1]
    for before, after in (
        (evidence(model, images, layer), evidence(moved, images, other)),
        (
            make_engine(model, layer, method="evidence")(images),
            make_engine(moved, other, method="evidence")(images),
        ),
    ):
        assert torch.equal(before.cams, after.cams)
        assert before.cams.abs().max() > 0
    assert not torch.equal(grad_cam(model, images, layer).cams, grad_cam(moved, images, other).cams)


def test_two_classes_mirror_each_other(tiny_cnn, images):
    """To the last bit: what speaks for one speaks against the other."""
    cams = evidence(tiny_cnn, images, tiny_cnn[1]).cams
    assert torch.equal(cams[:, 0], -cams[:, 1])


def test_contrast_of_maps_is_that_of_differences(images):
    """Grad-CAM is linear in the target, so that stored maps give the same evidence."""
    model = make_residual()
    expected = evidence(model, images, model[3])
    found = contrast(grad_cam(model, images, model[3]))
    assert relative_error(found.cams, expected.cams) <= 1e-5


def test_odd_numbers_of_classes_and_of_logits():
    """A single class differs from nothing; a class that is certain has rivals all the same."""
    cams = torch.ones(1, 1, 2, 2)
    assert torch.equal(contrast(CamBatch(cams, torch.ones(1, 1))).cams, cams)
    cams = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = contrast(CamBatch(cams, torch.tensor([[1e4, 0.0, 0.0]]))).cams
    torch.testing.assert_close(found[0, 0], cams[0, 0] - (cams[0, 1] + cams[0, 2]) / 2)


def test_averaged_networks_are_contrasted_at_the_end(images):
    """With the probabilities of the averaged network, not with those of each orientation."""
    model = make_residual()
    engine = make_engine(model, model[2], method="evidence")
    found = engine.explain_averaged(images)
    expected = contrast(make_engine(model, model[2]).explain_averaged(images))
    assert relative_error(found.cams, expected.cams) <= 1e-5
    assert relative_error(engine(images).cams, expected.cams) > 1e-2
