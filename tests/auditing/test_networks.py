"""Measures of the networks themselves: what their maps add up to, see, follow and agree on."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from samples import make_tiny_cnn
from torch import nn

from galfig.auditing import completeness, receptive_field, sanity, seeds, symmetry
from galfig.auditing.completeness import contrast
from galfig.auditing.estimates import Estimate
from galfig.auditing.sample import Sample
from galfig.auditing.sanity import iter_randomised, list_steps
from galfig.errors import ConfigError
from galfig.metrics import compute_losses

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


@pytest.mark.parametrize("n_classes", [2, 3])
def test_evidence_is_complete(make_sample, n_classes):
    """Maps of evidence add up to contrasts of the logits, but for those of the biases."""
    names = ("a", "b", "c")[:n_classes]
    sample = make_sample(n=12, class_names=names)
    cams = sample.store.evidence(slice(None))
    if n_classes == 2:
        cams = np.stack([-cams, cams], axis=1)
    options = {"class_names": names, "attrs": {"method": "evidence"}}
    found = completeness.measure(make_sample(n=12, cams=cams, **options))
    assert found.numbers["largest error"].value < 1e-3
    # The maps of the classes themselves are none of evidence.
    found = completeness.measure(make_sample(n=12, **options))
    assert found.numbers["largest error"].value > 1e-3


def test_evidence_of_several_networks_is_not_compared(make_sample):
    """Of more than two classes, each network has weights of its own."""
    networks = [make_tiny_cnn(3), make_tiny_cnn(3)]
    options = {"class_names": ("a", "b", "c"), "attrs": {"method": "evidence"}}
    found = completeness.measure(make_sample(*networks, n=12, **options))
    assert found.numbers == {}
    assert "own probabilities" in found.notes[0]


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


def test_a_head_is_not_blamed_for_what_the_method_does(make_sample):
    """Maps that are not linear in the output add up to none, behind pooling and a linear layer."""
    attrs = {
        "method": "layer-cam",
        "config": json.dumps({"maps": {"method": "layer-cam"}}),
    }
    found = completeness.measure(make_sample(n=12, attrs=attrs))
    assert not found.numbers
    assert "layer-cam add up to no output of the network, whatever its head" in found.notes[0]
    assert "HiResCAM" not in found.not_supported


def test_contrasts_are_the_odds():
    """For two classes, the difference; a constant added to all changes nothing."""
    values = np.random.default_rng(0).normal(size=(5, 3))
    assert contrast(values[:, :2], values[:, :2])[:, 0] == pytest.approx(
        values[:, 0] - values[:, 1]
    )
    assert contrast(values + 7, values) == pytest.approx(contrast(values, values))


def test_the_field_is_that_of_the_layers(make_sample):
    """Two layers of three pixels see five; a layer of one pixel sees one."""
    sample = make_sample(n=12)
    found = receptive_field.measure(sample)
    assert found.numbers["side"].value == 5
    assert found.numbers["side_arcsec"].value == pytest.approx(5 * 0.396)
    kpc = np.median(sample.store.kpc_per_arcsec)
    assert found.numbers["side_kpc"].value == pytest.approx(5 * 0.396 * kpc)
    assert "radial profile" in found.not_supported
    assert 0 < found.numbers["energy_inside"].value < 1
    assert found.controls["area_inside"].value == pytest.approx(25 / 576)
    assert receptive_field.measure(make_sample(make_colour_network())).numbers["side"].value == 1


def test_the_field_of_scaled_cutouts_is_that_of_the_cutouts(make_sample):
    """A pixel of images of half the side is two of the cutout, and so a share twice as large."""
    sample = make_sample(n=12)
    metadata = {**sample.checkpoint.metadata, "image_size": 12}
    small = dataclasses.replace(sample.checkpoint, metadata=metadata)
    sample = Sample(sample.store, (small,), sample.rows, 0, "cpu")
    found = receptive_field.measure(sample)
    assert found.numbers["side"].value == 10
    assert found.numbers["side_share"].value == pytest.approx(5 / 12)
    assert found.controls["area_inside"].value == pytest.approx(25 / 144, rel=0.2)


def test_energy_inside_is_that_around_the_brightest_cell(make_sample):
    """Of the squared gradient, in the square of five pixels, as far as the image reaches."""
    sample = make_sample(n=10)
    expected = []
    for number, target in enumerate(sample.predicted):
        image = sample.images([number]).requires_grad_()
        (gradient,) = torch.autograd.grad(sample.checkpoint.model(image)[0, target], image)
        energy = (gradient[0].double() ** 2).sum(dim=0).numpy()
        row, column = np.unravel_index(sample.read_maps([number])[0].argmax(), (24, 24))
        inside = energy[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        expected.append(inside.sum() / energy.sum())
    found = receptive_field.measure(sample).per_galaxy["energy_inside_field"]
    assert found == pytest.approx(expected, rel=1e-4)


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


def test_the_border_is_as_wide_as_padding_reaches(make_sample):
    """Two pixels of a field of five: a map of nothing else has all its sum on 176 of 576."""
    cams = np.ones((10, 2, 24, 24), np.float32)
    cams[..., 2:-2, 2:-2] = 0
    found = symmetry.measure(make_sample(n=10, cams=cams))
    assert found.numbers["border"].value == pytest.approx(576 / 176, rel=1e-6)
    assert found.controls["border of the light"].value < 1


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


def test_uncertainty_is_that_of_student(make_sample):
    """Of three networks, the interval of the mean is 4.30 standard deviations over root three."""
    networks = [make_tiny_cnn(3) for _ in range(3)]
    for number, model in enumerate(networks[1:], 1):
        generator = torch.Generator().manual_seed(number)
        for parameter in model.parameters():
            parameter.data += 0.012 * torch.randn(parameter.shape, generator=generator)
    sample = make_sample(*networks, n=10, class_names=("a", "b", "c"))
    found = seeds.measure(sample)
    logits = sample.predict_logits(sample.images(slice(0, 10))).astype(np.float64)
    cams = [batch.cams.double().numpy() for batch in sample.explain_each(sample.images(slice(10)))]
    shares, energies = [], []
    for number, target in enumerate(sample.predicted):
        q = np.exp(logits[number])
        q[target] = 0
        q /= q.sum()
        maps = np.stack([one[number, target] - np.tensordot(q, one[number], 1) for one in cams])
        mean = maps.mean(axis=0)
        is_open = np.abs(mean) <= 4.302653 * maps.std(axis=0, ddof=1) / np.sqrt(3)
        shares.append(is_open.mean())
        energies.append((mean[is_open] ** 2).sum() / (mean**2).sum())
    assert 0.1 < np.mean(shares) < 0.9
    assert found.numbers["uncertain_pixels"].value == pytest.approx(np.mean(shares), abs=1e-3)
    assert found.numbers["uncertain_energy"].value == pytest.approx(np.mean(energies), rel=1e-2)


def test_networks_with_constant_maps_have_no_agreement(make_sample):
    """A dead network has no correlation with the others, which is not passed over."""
    dead = copy.deepcopy(make_tiny_cnn())
    for values in dead.parameters():
        values.data.zero_()
    found = seeds.measure(make_sample(make_tiny_cnn(), dead, n=12))
    assert not found.numbers
    assert "constant" in found.notes[0]
    assert not seeds.measure(make_sample(make_tiny_cnn(), make_tiny_cnn(), dead, n=12)).numbers


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
    state = torch.get_rng_state()
    again = list(iter_randomised(model, steps, seed=0))[-1]
    assert torch.equal(again[4].weight, changed[4].weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


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
        assert "not clearly better" in found.not_supported


def test_a_network_that_is_too_sure_has_skill():
    """Its cross-entropy is above that of a guess, though it is right for nine in ten."""
    labels = np.arange(200) % 2
    answers = np.where(np.arange(200) % 20 < 2, 1 - labels, labels)
    logits = 30.0 * np.stack([1 - answers, answers], axis=1)
    assert compute_losses(logits, labels).mean() > np.log(2)
    found = sanity.soften(logits, labels)
    # The least cross-entropy of answers right for 90 % is the entropy of being right.
    least = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert compute_losses(found, labels).mean() == pytest.approx(least, rel=1e-6)
    unsure = logits / 300
    np.testing.assert_array_equal(sanity.soften(unsure, labels), unsure)
    guesses = np.random.default_rng(0).normal(0, 30, (200, 2))
    assert np.ptp(sanity.soften(guesses, np.argmin(guesses, axis=1)), axis=1).max() < 1e-2


@pytest.mark.parametrize(
    ("skill", "chance", "passes"),
    [
        ((0.04, 0.5), (-1.0, -0.5), False),
        ((0.3, 0.5), (0.1, 0.4), False),
        ((0.3, 0.5), (0.1, 0.2), True),
    ],
)
def test_skill_is_judged_by_its_interval(make_sample, monkeypatch, skill, chance, passes):
    """Above a least skill and above all that random weights may have."""
    skill, chance = (
        Estimate(value=sum(ends) / 2, low=ends[0], high=ends[1], n=10) for ends in (skill, chance)
    )
    monkeypatch.setattr(sanity, "_measure_skill", lambda *args: (skill, chance))
    monkeypatch.setattr(sanity, "INDEPENDENT", 1.01)
    assert sanity.measure(make_sample(make_colour_network(), n=10)).passes is passes


def test_dependence_is_judged_by_its_interval(make_sample, monkeypatch):
    """A correlation that may be on both sides of the limit does not pass."""
    sample = make_sample(n=10)
    name = sanity._name_step(list_steps(sample.checkpoint.model), 2)
    last = sanity.measure(sample).numbers[name]
    assert last.low < last.high
    for limit, depends in (((last.low + last.high) / 2, False), (last.high + 0.01, True)):
        monkeypatch.setattr(sanity, "INDEPENDENT", limit)
        found = sanity.measure(sample)
        assert found.numbers[name] == last
        assert ("show the image" not in found.not_supported) is depends


def test_the_best_random_network_is_the_control(make_sample):
    """The skill is 1 less cross-entropy over entropy; of random networks, the best counts."""
    sample = make_sample(make_colour_network(), n=10)
    good = np.where(np.arange(10)[:, None] % 2 == np.arange(2), 3.0, 0.0).astype(np.float32)
    bad = np.zeros((10, 2), np.float32)
    skill, chance = sanity._measure_skill(sample, range(10), [bad, good, bad])
    loss = np.log1p(np.exp(-3.0))
    assert chance.value == pytest.approx(1 - loss / np.log(2))
    z = sample.store.logits.astype(np.float64)
    losses = np.log1p(np.exp(-np.where(np.arange(10) % 2, 1, -1) * (z[:, 1] - z[:, 0])))
    assert skill.value == pytest.approx(1 - losses.mean() / np.log(2), rel=1e-5)


def test_sanity_of_constant_maps_is_undecided(make_sample):
    """They cannot change; where some have structure, only these are compared."""
    still = make_colour_network()
    with torch.no_grad():
        still[0].weight.zero_()
    found = sanity.measure(make_sample(still, n=10))
    assert found.passes is None
    assert "All maps are constant" in found.notes[0]
    cutouts = draw_cutouts(np.arange(10) % 2)
    cutouts[:4] = 0
    found = sanity.measure(
        make_sample(make_colour_network(), label=np.arange(10) % 2, cutouts=cutouts)
    )
    assert {one.n for name, one in found.numbers.items() if "from the top" in name} == {6}


def test_sanity_without_classes_is_undecided(make_sample):
    """It may fail by its maps, but does not pass."""
    found = sanity.measure(make_sample(make_colour_network(), label=np.full(12, -1)))
    assert found.passes is not True
    assert "skill" not in found.numbers


@pytest.mark.parametrize("sign", [1, -1])
def test_an_edge_detector_fails_sanity(make_sample, monkeypatch, sign):
    """Maps that do not change when all weights are random, but for their sign, show the image."""

    def keep(model, steps, seed):
        model = copy.deepcopy(model)
        with torch.no_grad():
            model[3].weight.mul_(sign)
        return [model] * len(steps)

    monkeypatch.setattr(sanity, "iter_randomised", keep)
    found = sanity.measure(make_sample(make_colour_network(60.0), n=30))
    assert found.passes is False
    assert "show the image" in found.not_supported


def test_maps_of_pixels_are_measured_without_a_layer(make_sample):
    """No head completes them, and a field would say the contrary of what they depend on."""
    method = "input-x-gradient"
    attrs = {"method": method, "config": json.dumps({"maps": {"method": method}})}
    sample = make_sample(n=12, attrs={**attrs, "target_layer": ""})
    found = completeness.measure(sample)
    assert not found.numbers
    assert "explain pixels and no layer" in found.notes[0]
    with pytest.raises(ConfigError, match="leave out the measure receptive-field"):
        receptive_field.measure(sample)
    found = symmetry.measure(sample)
    assert np.isfinite(found.numbers["orientations"].value)
    assert "border" not in found.numbers
    assert "no border of a layer is told" in " ".join(found.notes)
