"""A planted shortcut is found, and none where there is none."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from galfig.auditing import shortcuts
from galfig.auditing.shortcuts import (
    _estimate_auc,
    _estimate_lead,
    choose_among,
    compute_auc,
    describe_cutout,
    find_position,
)
from galfig.auditing.sky import find_regions

from .conftest import make_colour_network


def test_a_planted_corner_is_told_from_the_sky(make_sample):
    """The class shows in a faint corner alone; colours and core say nothing of it."""
    found = shortcuts.measure(make_sample(n=40, corner=True))
    assert found.numbers["sky_auc"].value > 0.95
    assert found.numbers["sky_auc"].low > found.numbers["core_auc"].high
    assert "without the galaxy" in found.not_supported
    assert "surroundings" in found.not_supported


def test_colours_are_told_from_the_galaxy(make_sample):
    """Blue and red galaxies under one sky: the network needs no structure, and is told so."""
    found = shortcuts.measure(make_sample(make_colour_network(40.0), n=40))
    assert found.numbers["colours_auc"].value > 0.95
    assert found.controls["network_auc"].value > 0.95
    assert found.numbers["network_sky_auc"].value < 0.9
    assert "The network is not clearly better than colours alone" in found.not_supported
    lead = found.numbers["network_over_colours"]
    expected = found.controls["network_auc"].value - found.numbers["colours_auc"].value
    assert lead.value == pytest.approx(expected)


def test_perfect_order_of_few_galaxies_is_not_certain():
    """Ten galaxies that are all in order may be so by luck; the bootstrap has no width there."""
    codes = np.arange(10) % 2
    found = _estimate_auc(np.stack([1.0 - codes, codes], axis=1), codes, 0)
    assert (found.value, found.high, found.n) == (1, 1, 10)
    assert found.low < 0.8
    three = _estimate_auc(np.eye(3)[np.arange(30) % 3], np.arange(30) % 3, 0)
    assert three.value == 1


def test_a_lead_is_that_on_the_same_galaxies():
    """Two scores that err on the same galaxies differ by far less than each is uncertain."""
    rng = np.random.default_rng(1)
    codes = np.arange(80) % 2
    score = codes + rng.normal(0, 1, 80)
    other = score + rng.normal(0, 0.05, 80)
    one, two = (np.stack([-values, values], axis=1) for values in (score, other))
    lead = _estimate_lead(one, two, codes, 0)
    alone = _estimate_auc(one, codes, 0)
    assert lead.value == pytest.approx(roc_auc_score(codes, score) - roc_auc_score(codes, other))
    assert lead.high - lead.low < (alone.high - alone.low) / 5


def test_attribution_outside_is_counted(make_sample):
    """A map that lies in the corner lies outside; one that is flat has the share of the area."""
    cams = np.zeros((12, 2, 24, 24), np.float32)
    cams[:, :, :3, :3] = 1
    found = shortcuts.measure(make_sample(n=12, cams=cams))
    assert found.numbers["outside_share"].value == pytest.approx(1)
    found = shortcuts.measure(make_sample(n=12, cams=np.ones_like(cams)))
    area = found.controls["outside_area"].value
    assert found.numbers["outside_share"].value == pytest.approx(area)
    assert 0.2 < area < 0.95


def test_predicted_classes_stand_for_unknown_ones(make_sample):
    """As a note says; where they are all the same, there is nothing to tell."""
    found = shortcuts.measure(make_sample(label=np.full(12, -1)))
    assert "predicted class" in " ".join(found.notes) or "no AUC" in " ".join(found.notes)
    assert "network_auc" not in found.controls


def test_one_band_has_no_colours(draw):
    """But everything else that is measured in three."""
    pixels = draw(24)[:, :, :1]
    looks = describe_cutout(pixels, find_regions(pixels))
    assert looks.colours.shape == (0,)
    assert np.isfinite(looks.core).all()
    assert np.isfinite(looks.brightness).all()


def test_classes_that_are_left_out_take_no_part():
    """A galaxy is told from the others of its class whatever the third class is given."""
    probs = np.array([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1], [0.0, 0.0, 1.0]])
    found = choose_among(probs, np.array([0, 1]))
    assert found == pytest.approx(np.array([[1 / 3, 2 / 3], [5 / 9, 4 / 9], [0.5, 0.5]]))
    codes = np.array([1, 0])
    assert (compute_auc(found[:2], codes), compute_auc(probs[:2, :2], codes)) == (1, 0)
    assert choose_among(probs, np.arange(3)) is not probs
    assert choose_among(probs, np.arange(3)) == pytest.approx(probs, abs=0)


def test_auc_is_that_of_sklearn():
    """Two classes, and the mean over three, with ties."""
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 3
    probs = rng.integers(1, 6, (60, 3)).astype(float)
    probs /= probs.sum(axis=1, keepdims=True)
    expected = roc_auc_score(codes, probs, multi_class="ovr")
    assert compute_auc(probs, codes) == pytest.approx(expected)
    two = codes % 2
    assert compute_auc(probs[:, :2], two) == pytest.approx(roc_auc_score(two, probs[:, 1]))
    assert np.isnan(compute_auc(probs[:, :2], np.zeros(60, int)))


def test_positions_become_unit_vectors(make_sample):
    """North is north; without ra and dec there is none."""
    ra, dec = np.linspace(0, 300, 12), np.full(12, 90.0)
    sample = make_sample(n=12, catalog={"RA": ra, "Dec": dec})
    assert find_position(sample) == pytest.approx(np.tile([0, 0, 1], (12, 1)), abs=1e-12)
    on_the_equator = make_sample(n=12, catalog={"ra": ra, "dec": np.zeros(12)})
    expected = np.stack([np.cos(np.deg2rad(ra)), np.sin(np.deg2rad(ra)), np.zeros(12)], axis=1)
    assert find_position(on_the_equator) == pytest.approx(expected)
    assert find_position(make_sample(n=12)) is None
