"""Deletion and insertion, on networks whose answer is known."""

import numpy as np
import pytest
import torch
from scipy.stats import sem

from galfig.auditing import deletion, insertion, removal
from galfig.auditing.fills import fill_with
from galfig.auditing.orders import rank_pixels, scale_map, score_pixels
from galfig.auditing.removal import (
    SHARES,
    _describe_curves,
    compute_areas,
    estimate_excess,
    follow_removal,
)

from .conftest import make_colour_network


def follow(image, ranks, **options):
    """Follow the sum of an image over an empty one."""
    fill = fill_with(image, torch.zeros_like(image))
    found = follow_removal(
        lambda batch: batch.sum(dim=(1, 2, 3)).double().numpy(), fill, {"map": ranks}, **options
    )
    return found["map"]


def test_a_sum_falls_by_the_pixels_that_go():
    """The brightest of sixteen pixels go first; what remains is added up by hand."""
    image = torch.arange(16.0).reshape(1, 4, 4)
    ranks = rank_pixels(image[0].numpy(), np.random.default_rng(0))
    shares = (0.0, 0.25, 0.5, 1.0)
    assert follow(image, ranks, shares=shares) == pytest.approx([120, 66, 28, 0])
    assert follow(image, ranks, shares=shares, is_insertion=True) == pytest.approx([0, 54, 92, 120])


def test_insertion_is_deletion_backwards():
    """What is there when a share came in is what is left when the rest went, the last first."""
    image = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    ranks = rank_pixels(np.random.default_rng(1).random((6, 6)), np.random.default_rng(2))
    shares = (0.0, 0.25, 0.75, 1.0)
    came = follow(image, ranks, shares=shares, is_insertion=True)
    went = follow(image, 35 - ranks, shares=shares)
    assert came == pytest.approx(went[::-1])


def test_areas_are_those_of_numpy():
    """By the trapezoidal rule, over shares that are not evenly spaced."""
    curves = np.random.default_rng(0).random((5, len(SHARES)))
    assert compute_areas(curves) == pytest.approx(np.trapezoid(curves, SHARES, axis=1))
    assert compute_areas(np.ones(len(SHARES))) == pytest.approx(1)


def test_excess_is_the_ratio_of_means():
    """A quarter of the lead is left; a lead that may be none has no ratio."""
    rng = np.random.default_rng(0)
    of_map = rng.uniform(0, 1, 40)
    lead = rng.uniform(3, 5, 40)
    excess, found = estimate_excess(of_map, of_map + lead / 4, of_map + lead, seed=0)
    assert (excess.value, excess.low, excess.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.value == pytest.approx(lead.mean())
    noise = rng.normal(0, 1, 40)
    excess, found = estimate_excess(of_map, of_map, of_map + noise - noise.mean(), seed=0)
    assert excess is None
    assert found.low < 0 < found.high


def test_ranks_are_a_permutation_with_ties_at_random():
    """Equal scores do not come in the order of rows, which would be a pattern."""
    score = np.zeros((8, 8))
    score[3, 4] = 1
    ranks = rank_pixels(score, np.random.default_rng(0))
    assert sorted(ranks.ravel()) == list(range(64))
    assert ranks[3, 4] == 0
    assert abs(np.corrcoef(ranks.ravel(), np.arange(64))[0, 1]) < 0.5


def test_maps_are_scaled_over_the_area():
    """A map of half the size covers the same area; a map of the same size stays."""
    ramp = np.arange(4.0)[None].repeat(4, axis=0)
    assert np.array_equal(scale_map(ramp, (4, 4)), ramp)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(ramp)[None, None], size=(8, 8), mode="bilinear", align_corners=False
    )
    assert scale_map(ramp, (8, 8)) == pytest.approx(expected[0, 0].numpy())


def test_scores_are_what_they_are_called():
    """The centre is nearest to itself, and edges lie where the light changes."""
    light = np.zeros((21, 21))
    light[:, 10:] = 100
    scores = score_pixels(np.ones((21, 21)), light)
    assert np.unravel_index(scores["distance from the centre"].argmax(), (21, 21)) == (10, 10)
    assert set(np.unique(scores["edges"].argmax(axis=1))) <= {8, 9, 10, 11}
    assert np.array_equal(scores["brightness"], light)


@pytest.mark.parametrize("module", [deletion, insertion])
def test_a_map_that_is_the_evidence_leads_over_all(make_sample, module):
    """The network adds up red less blue, of which its map holds each pixel's share."""
    sample = make_sample(make_colour_network(), n=12)
    done = []
    found = module.measure(sample, progress=done.append)
    assert sum(done) == len(sample)
    assert found.numbers["lead over random"].low > 0
    assert found.numbers["excess over light"].high <= 1
    signed = -1 if module is insertion else 1
    for name in ("random order", "order by edges", "order by distance from the centre"):
        assert signed * (found.controls[name].value - found.numbers["area"].value) > 0
    assert "area, blur" in found.numbers
    assert "area, linear imputation" in found.numbers
    assert {len(curve) for curve in found.curves.values()} == {len(SHARES)}
    assert len(found.per_galaxy[f"{module.__name__.split('.')[-1]}_over_light"]) == len(sample)
    assert found.supports


def test_a_flat_map_has_no_excess(make_sample):
    """A map that is the same everywhere leads over nothing, which is said in place of a ratio."""
    sample = make_sample(make_colour_network(), n=10, cams=np.ones((10, 2, 24, 24), np.float32))
    found = deletion.measure(sample)
    assert "excess over light" not in found.numbers
    assert "not clearly positive" in " ".join(found.notes)
    assert "not clearly better than" in found.not_supported


def test_one_seed_gives_the_same_numbers(make_sample):
    """Everything that is drawn is drawn by the seed."""
    sample = make_sample(make_colour_network(), n=10)
    assert deletion.measure(sample) == deletion.measure(sample)


def test_curves_have_bands_of_their_standard_error():
    """Around the mean, as wide as scatter and number of the galaxies say."""
    curves = np.random.default_rng(3).normal(size=(40, 3))
    found = _describe_curves("map", curves)
    assert list(found) == ["map", "map low", "map high"]
    error = sem(curves, axis=0)
    assert found["map high"] == pytest.approx(curves.mean(axis=0) + 1.96 * error)
    assert found["map low"] == pytest.approx(curves.mean(axis=0) - 1.96 * error)


def test_some_controls_are_tried_on_some_galaxies(make_sample, monkeypatch):
    """What the excess over light needs has all galaxies; the rest has fewer, and says so."""
    sample = make_sample(make_colour_network(), n=12)
    everywhere = deletion.measure(sample)
    monkeypatch.setattr(removal, "N_CONTROLS", 5)
    monkeypatch.setattr(removal, "N_OTHER", 3)
    found = deletion.measure(sample)
    assert found.controls["order by edges"].n == 5
    assert found.controls["order by edges, blur"].n == 3
    assert found.controls["order by brightness"].n == found.controls["random order"].n == 12
    assert found.numbers["excess over light"].n == 12
    assert "tried on 5 of the galaxies" in " ".join(found.notes)
    assert "tried on 5 of" not in " ".join(everywhere.notes)
    # The map goes the same way, beside whatever it is followed.
    area = everywhere.per_galaxy["deletion_area"]
    assert found.per_galaxy["deletion_area"] == pytest.approx(area, abs=0.02)
    assert all(np.isfinite(curve).all() for curve in found.curves.values())
