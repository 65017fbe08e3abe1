"""Spread: means and standard deviations over networks, held against float64 and scipy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from galfig.pipeline.spread import combine_networks, list_spreads, mix_classes


def draw(n_networks=5, n_classes=2, scale=1.0, seed=0):
    """Draw the maps (K, C, h, w) and logits of some networks for one galaxy."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n_classes, 9, 7))
    cams = scale * (shared + 0.5 * rng.normal(size=(n_networks, n_classes, 9, 7)))
    logits = rng.normal(0, 2, (n_networks, n_classes))
    return cams.astype(np.float32), logits.astype(np.float32)


def contrast(cams, logits, at):
    """Return the evidence of each class in float64, as the contract of the maps defines it."""
    p = np.exp(at - at.max())
    p /= p.sum()
    maps = []
    for label in range(len(p)):
        q = p / (1 - p[label])
        others = [j for j in range(len(p)) if j != label]
        maps.append(cams[:, label] - sum(q[j] * cams[:, j] for j in others))
    return np.stack(maps, axis=1)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("n_networks", [2, 5])
def test_numbers_are_those_of_float64(n_networks, n_classes):
    """Of maps, evidence, logits and log-odds, computed another way."""
    cams, logits = draw(n_networks, n_classes)
    found = combine_networks(cams, logits)
    wide, z = cams.astype(np.float64), logits.astype(np.float64)
    np.testing.assert_allclose(found.cams, wide.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.logits, z.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.spreads["cams_sd"], wide.std(axis=0, ddof=1), rtol=1e-5)
    evidence = contrast(wide, z, z.mean(axis=0))
    if n_classes == 2:
        evidence = evidence[:, 1:]
        np.testing.assert_allclose(evidence[:, 0], wide[:, 1] - wide[:, 0], rtol=1e-12)
    expected = evidence.std(axis=0, ddof=1)
    np.testing.assert_allclose(found.spreads["evidence_sd"], expected, rtol=1e-4)
    np.testing.assert_allclose(found.numbers["logits_sd"], z.std(axis=0, ddof=1), rtol=1e-6)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    odds = np.log(p / (1 - p))[:, 1:] if n_classes == 2 else np.log(p / (1 - p))
    np.testing.assert_allclose(found.numbers["log_odds_sd"], odds.std(axis=0, ddof=1), rtol=1e-5)
    shown = evidence[:, 0 if n_classes == 2 else z.mean(axis=0).argmax()].reshape(n_networks, -1)
    pairs = [
        spearmanr(shown[one], shown[other]).statistic
        for one in range(n_networks)
        for other in range(one)
    ]
    np.testing.assert_allclose(found.numbers["agreement"], np.median(pairs), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_squares_of_any_unit_are_finite(scale):
    """The square of 1e-25 is no float32, and a standard deviation of zero would look certain."""
    cams, logits = draw(scale=scale)
    found = combine_networks(cams, logits).spreads["cams_sd"]
    np.testing.assert_allclose(found, cams.std(axis=0, ddof=1, dtype=np.float64), rtol=1e-5)


def test_what_all_classes_share_does_not_scatter():
    """The random initialisation that all class maps of a network carry is no evidence."""
    cams, logits = draw(3, 4)
    shift = np.random.default_rng(1).integers(-8, 8, (3, 1, 9, 7)).astype(np.float32)
    plain, shifted = (combine_networks(maps, logits) for maps in (cams, cams + shift))
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(
        shifted.spreads["evidence_sd"], plain.spreads["evidence_sd"], **tolerance
    )
    np.testing.assert_allclose(shifted.numbers["agreement"], plain.numbers["agreement"], atol=1e-4)
    assert shifted.spreads["cams_sd"].mean() > 3 * plain.spreads["cams_sd"].mean()


def test_a_sure_network_mixes_the_other_classes():
    """With p of 1 to float64's last digit, the others still share the weight of one."""
    mixing = mix_classes(np.array([60.0, 1.0, 1.0], np.float32))
    np.testing.assert_allclose(mixing, [[1, -0.5, -0.5], [-1, 1, 0], [-1, 0, 1]], atol=1e-6)


def test_maps_without_contrast():
    """Of maps that are no gradients of logits, only their own scatter is known."""
    cams, logits = draw(4, 3)
    found = combine_networks(cams, logits, has_contrast=False)
    assert set(found.spreads) == {"cams_sd"} == set(list_spreads((3, 9, 7), has_contrast=False))
    label = logits.mean(axis=0).argmax()
    flat = cams[:, label].reshape(4, -1)
    pairs = [spearmanr(flat[i], flat[j]).statistic for i in range(4) for j in range(i)]
    np.testing.assert_allclose(found.numbers["agreement"], np.median(pairs), rtol=1e-5)


def test_the_shapes_are_known_before():
    """So that a part without any galaxy has the datasets of the others."""
    for n_classes in (2, 3):
        found = combine_networks(*draw(2, n_classes)).spreads
        assert {name: maps.shape for name, maps in found.items()} == list_spreads((n_classes, 9, 7))


def test_constant_and_infinite_maps():
    """A map of zeros agrees with nothing; a map that is not finite makes the mean not finite."""
    cams, logits = draw()
    cams[2] = 0
    found = combine_networks(cams, logits)
    assert np.isnan(found.numbers["agreement"])
    assert np.isfinite(found.spreads["evidence_sd"]).all()
    blank = combine_networks(np.zeros_like(cams), logits)
    assert not blank.spreads["cams_sd"].any()
    cams[1, 0, 3, 3] = np.inf
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(combine_networks(cams, logits).cams).all()
