"""Measures of the networks themselves: what their maps add up to, see, follow and agree on."""

import copy

import numpy as np
import pytest
import torch
from samples import make_tiny_cnn
from torch import nn

from galfig.auditing import completeness, receptive_field, sanity, seeds, symmetry
from galfig.auditing.completeness import contrast
from galfig.auditing.sanity import iter_randomised, list_steps
from galfig.errors import ConfigError

from .conftest import MEAN, STD, draw_cutouts, make_colour_network


def test_maps_of_a_linear_head_are_complete(make_sample):
    """To the rounding of float16; a map that lost a tenth is not."""
    sample = make_sample(n=12)
    found = completeness.measure(sample)
    assert found.numbers["largest error"].value < 1e-3
    assert "adds up" in found.supports
    cams = 0.9 * sample.store.cams(slice(None))
    found = completeness.measure(make_sample(n=12, cams=cams))
    assert found.numbers["largest error"].value > 1e-3
    assert "miss the logits" in found.not_supported


def test_another_head_is_compared_with_hires_cam(make_sample):
    """Behind a head with a hidden layer, no constant completes the maps."""
    tiny = make_tiny_cnn()
    torch.manual_seed(0)
    model = nn.Sequential(
        tiny[0], tiny[1], nn.Conv2d(12, 4, 24), nn.Flatten(), nn.ReLU(), nn.Linear(4, 2)
    ).eval()
    found = completeness.measure(make_sample(model, n=12))
    assert found.numbers["distance from HiResCAM"].value > 0.05
    assert "hires-cam" in found.not_supported


def test_contrasts_are_the_odds():
    """For two classes, the difference; a constant added to all changes nothing."""
    values = np.random.default_rng(0).normal(size=(5, 3))
    assert contrast(values[:, :2], values[:, :2])[:, 0] == pytest.approx(
        values[:, 0] - values[:, 1]
    )
    assert contrast(values + 7, values) == pytest.approx(contrast(values, values))


def test_the_field_is_that_of_the_layers(make_sample):
    """Two layers of three pixels see five; a layer of one pixel sees one."""
    found = receptive_field.measure(make_sample(n=12))
    assert found.numbers["side"].value == 5
    assert found.numbers["side_arcsec"].value == pytest.approx(5 * 0.396)
    assert found.numbers["side_kpc"].low > 0
    assert "radial profile" in found.not_supported
    assert 0 < found.numbers["energy_inside"].value < 1
    assert found.controls["area_inside"].value == pytest.approx(25 / 576)
    assert receptive_field.measure(make_sample(make_colour_network())).numbers["side"].value == 1


def test_energy_is_the_squared_gradient():
    """Of a linear network, it is the squared weights."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 9, 2))
    found = receptive_field.measure_energy(model, torch.zeros(1, 2, 3, 3), 1)
    expected = model[1].weight[1].detach().double().square().reshape(2, 3, 3).sum(dim=0)
    assert found == pytest.approx(expected.numpy())


def test_a_network_of_single_pixels_is_symmetric(make_sample):
    """Its maps turn and move with the image; those of a network with fixed filters do not turn."""
    found = symmetry.measure(make_sample(make_colour_network(), n=10))
    assert found.numbers["orientations"].value == pytest.approx(1, abs=1e-3)
    assert found.numbers["shifts"].value == pytest.approx(1, abs=1e-3)
    assert "border" not in found.numbers
    other = symmetry.measure(make_sample(n=10))
    assert other.numbers["orientations"].value < 0.95
    assert other.numbers["border"].value > 0
    assert "another galaxy" in other.controls


def test_agreement_of_seeds(make_sample):
    """A network that is nearly another agrees; the interval of the mean knows how nearly."""
    one = make_colour_network()
    near = copy.deepcopy(one)
    with torch.no_grad():
        near[3].weight.mul_(1.01)
    found = seeds.measure(make_sample(one, near, n=10))
    assert found.numbers["agreement"].value == pytest.approx(1, abs=1e-3)
    assert found.numbers["uncertain_pixels"].value < 0.2
    far = copy.deepcopy(one)
    with torch.no_grad():
        far[3].weight.mul_(-1)
    found = seeds.measure(make_sample(one, far, n=10))
    assert found.numbers["agreement"].value == pytest.approx(-1, abs=1e-3)
    assert found.numbers["uncertain_pixels"].value == pytest.approx(1)


def test_networks_with_constant_maps_have_no_agreement(make_sample):
    """A dead network has no correlation with another; of several, the others agree."""
    dead = copy.deepcopy(make_tiny_cnn())
    for values in dead.parameters():
        values.data.zero_()
    found = seeds.measure(make_sample(make_tiny_cnn(), dead, n=12))
    assert not found.numbers
    assert found.notes == ("The maps of the networks are constant, so no agreement can be given.",)
    found = seeds.measure(make_sample(make_tiny_cnn(), make_tiny_cnn(), dead, n=12))
    assert found.numbers["agreement"].value == pytest.approx(1)


def test_one_network_has_no_seeds(make_sample):
    """Which is said in one line."""
    with pytest.raises(ConfigError, match="made with one network"):
        seeds.measure(make_sample(n=10))


def test_layers_are_randomised_from_the_top():
    """Each step leaves those below as they are, and norms go with their layer."""
    model = make_tiny_cnn()
    steps = list_steps(model)
    assert steps == [["4"], ["1.0", "1.1"], ["0.0", "0.1"]]
    before = model.state_dict()
    for number, changed in enumerate(iter_randomised(model, steps, seed=0)):
        assert not changed.training
        is_same = {
            name: torch.equal(tensor, before[name])
            for name, tensor in changed.state_dict().items()
            if tensor.is_floating_point() and tensor.ndim > 1
        }
        assert list(is_same.values()) == [True] * (2 - number) + [False] * (number + 1)
    again = list(iter_randomised(model, steps, seed=0))[-1]
    assert torch.equal(again[4].weight, changed[4].weight)


def train_tiny(label, corrected):
    """Train a tiny CNN on galaxies of some classes, with the labels that it is told."""
    model = make_tiny_cnn()
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    cutouts = torch.from_numpy(draw_cutouts(label, seed=1000)).float() / 255
    images = ((cutouts - mean) / std).permute(0, 3, 1, 2).contiguous()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), torch.from_numpy(corrected)).backward()
        optimiser.step()
    return model.requires_grad_(False)


def test_sanity_separates_trained_permuted_and_random(make_sample):
    """The trained network passes; one of permuted labels and one of random weights fail."""
    label = np.arange(60) % 2
    cutouts = draw_cutouts(label)
    trained = sanity.measure(make_sample(train_tiny(label, label), label=label))
    assert trained.passes is True, trained
    assert trained.numbers["skill"].low > sanity.MIN_SKILL
    # In a catalog whose labels are permuted, so are those of the galaxies that are audited.
    first, second = (np.random.default_rng(seed).permutation(label) for seed in (1, 2))
    for model, known in ((train_tiny(label, first), second), (make_tiny_cnn(), label)):
        found = sanity.measure(make_sample(model, label=known, cutouts=cutouts))
        assert found.passes is False, found
        assert "no better" in found.not_supported


def test_sanity_without_classes_is_undecided(make_sample):
    """It may fail by its maps, but does not pass."""
    found = sanity.measure(make_sample(make_colour_network(), label=np.full(12, -1)))
    assert found.passes is not True
    assert "skill" not in found.numbers


def test_an_edge_detector_fails_sanity(make_sample, monkeypatch):
    """Maps that do not change when all weights are random show the image."""
    monkeypatch.setattr(sanity, "iter_randomised", lambda model, steps, seed: [model] * len(steps))
    found = sanity.measure(make_sample(make_colour_network(60.0), n=30))
    assert found.passes is False
    assert "show the image" in found.not_supported
