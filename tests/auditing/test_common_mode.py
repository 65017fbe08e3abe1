"""The share of the maps that all classes have in common."""

import json

import numpy as np
import pytest

from galfig.auditing import common_mode
from galfig.auditing.sample import Sample
from galfig.errors import ConfigError
from galfig.store.reader import open_store


def measure(path):
    with open_store(path) as store:
        return common_mode.measure(Sample(store, (), np.arange(len(store)), 0))


def test_a_planted_share_is_found(make_store):
    """Two maps u + v and u - v share the energy of u."""
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 12, 24, 24))
    v *= np.sqrt((u**2).sum() / (v**2).sum())
    cams = np.stack([u / 2 + v, u / 2 - v], axis=1).astype(np.float32)
    found = measure(make_store(cams=cams))
    share = found.numbers["share"]
    # By the sign of v, that of the predicted class; u has half of the brightest pixels' say.
    overlaps = [common_mode.overlap_brightest(u / 2 + sign * v, sign * v) for sign in (1, -1)]
    assert min(map(np.min, overlaps)) <= found.numbers["overlap"].value <= np.max(overlaps) < 0.9
    assert share.value == pytest.approx(0.2, abs=1e-3)
    assert share.low <= share.value <= share.high
    assert share.n == 12


def test_opposite_maps_share_nothing(make_store):
    """Where one map is minus the other, its brightest pixels are those of the contrast."""
    v = np.random.default_rng(1).normal(size=(12, 24, 24))
    found = measure(make_store(cams=np.stack([v, -v], axis=1).astype(np.float32)))
    assert found.numbers["share"].value == pytest.approx(0, abs=1e-6)
    assert found.numbers["overlap"].value == pytest.approx(1)
    assert found.numbers["correlation"].value == pytest.approx(1)


def test_three_independent_maps_share_a_third(make_store):
    """As the note says, one over the number of classes by chance."""
    found = measure(make_store(class_names=("a", "b", "c")))
    assert found.numbers["share"].value == pytest.approx(1 / 3, abs=0.03)
    assert "0.33" in found.notes[0]


def test_maps_of_zero_have_no_share(make_store):
    """No number is better than one out of nothing."""
    found = measure(make_store(cams=np.zeros((12, 2, 24, 24), np.float32)))
    assert found.numbers == {}
    assert "zero" in found.notes[0]


def test_maps_that_are_all_the_same_share_everything(make_store):
    """Their contrast is zero, and a map without ranks has no correlation."""
    v = np.random.default_rng(2).normal(size=(12, 24, 24))
    found = measure(make_store(cams=np.stack([v, v], axis=1).astype(np.float32)))
    assert found.numbers["share"].value == pytest.approx(1)
    assert "correlation" not in found.numbers


def test_overlap_counts_pixels():
    """Half of the brightest pixels in common is an intersection over union of a third."""
    first = np.arange(20.0).reshape(1, 4, 5)
    second = first.copy()
    second[0, 3, 4] = -1
    assert common_mode.overlap_brightest(first, second) == pytest.approx(1 / 3)


def test_evidence_is_refused(make_store):
    """Maps of evidence have no common part to measure."""
    with (
        open_store(make_store(attrs={"method": "evidence"})) as store,
        pytest.raises(ConfigError, match="common-mode"),
    ):
        common_mode.measure(Sample(store, (), np.arange(12), 0))


def test_maps_of_one_pixel_have_no_correlation(make_store):
    """The share is known all the same."""
    cams = np.random.default_rng(0).normal(size=(12, 2, 1, 1)).astype(np.float32)
    found = measure(make_store(cams=cams))
    assert set(found.numbers) == {"share", "overlap"}


def test_maps_that_are_not_linear_have_no_common_mode(make_sample):
    """What their maps share may count for the prediction, so that nothing is said of it."""
    attrs = {"method": "grad-cam++", "config": json.dumps({"maps": {"method": "grad-cam++"}})}
    with pytest.raises(ConfigError, match="linear in the output; leave out the measure"):
        common_mode.measure(make_sample(n=12, attrs=attrs))
