"""Precision: bfloat16 only where it is faster, and agrees on galaxies of the plan."""

import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import build_at, explain_at, load_with_settings, make_tiny_cnn

from galfig.attribution.engine import make_engine
from galfig.errors import OutputError
from galfig.images.cutouts import RGB
from galfig.info import describe_file
from galfig.pipeline import precision
from galfig.pipeline.parts import Parts
from galfig.pipeline.precision import (
    Compared,
    bound_changes,
    choose_precision,
    judge,
    measure_gain,
    summarise,
)
from galfig.store.outline import open_outline
from galfig.store.reader import open_store


@pytest.fixture
def compare_few(monkeypatch):
    """Compare the galaxies of a test, which are few, on any processor."""
    monkeypatch.setattr(precision, "LEAST_GALAXIES", 10)
    monkeypatch.setattr(precision, "LARGEST_CHANGED", 0.1)
    monkeypatch.setattr(precision, "measure_gain", lambda engine, images: 2.0)


def read_maps(path):
    with open_store(path) as store:
        rows = range(len(store))
        return np.asarray(store.cams(rows)), store.logits


def test_few_changes_are_bounded_by_margins():
    """The bound holds in 95 % of samples, by a share that is known, and is far below 3/n."""
    rng = np.random.default_rng(0)
    width, error, n = 2.0, 0.01, 512
    # Margins |N(0, width)| have this density at zero, and half of the losses N(0, error) count.
    share = math.sqrt(2 / math.pi) / width * error / math.sqrt(2 * math.pi)
    bounds = [
        bound_changes(np.abs(rng.normal(0, width, n)), rng.normal(0, error, n)) for _ in range(400)
    ]
    assert np.mean(np.array(bounds) >= share) > 0.92
    assert np.median(bounds) < 0.5 * 3 / n
    # Checked by brute force.
    margins, lost = np.abs(rng.normal(0, width, 10**6)), rng.normal(0, error, 10**6)
    assert np.mean(lost > margins) == pytest.approx(share, rel=0.1)


def test_bound_holds_where_all_logits_shift():
    """Rounded weights shift all logits towards one class; most galaxies are of it, few change."""
    rng = np.random.default_rng(0)
    shift, n = 0.02, 512
    differences = rng.normal(2, 2, (400, n))
    share = shift * math.exp(-0.5) / math.sqrt(2 * math.pi) / 2
    assert np.mean(np.sign(differences) != np.sign(differences + shift)) == pytest.approx(
        share, rel=0.15
    )
    bounds = [bound_changes(np.abs(one), shift * np.sign(one)) for one in differences]
    assert np.mean(np.array(bounds) >= share) > 0.92


def test_bound_is_never_zero():
    """Not even of galaxies that lose nothing; of galaxies that all lie at the border it is 1."""
    n = 512
    assert bound_changes(np.full(n, 3.0), np.zeros(n)) == pytest.approx(3 / 64 / n, rel=0.01)
    assert bound_changes(np.full(2, 0.01), np.ones(2)) == pytest.approx(6.3 / 128, rel=0.01)


def test_summary_of_known_numbers():
    """Two of three classes count: the third may change as it likes."""
    exact = np.array([[3.0, 1.0, -5.0], [0.0, 2.0, -5.0], [1.0, 0.9, -5.0]])
    other = np.array([[3.1, 1.0, -4.0], [0.0, 1.8, -5.0], [0.9, 1.0, -5.0]])
    found = summarise(Compared(exact, other, np.array([0.01, 0.02, 0.3])))
    assert (found["n"], found["n_changed"]) == (3, 1)
    assert found["logit_error"] == pytest.approx(1.0)
    assert found["map_error"] == pytest.approx(0.02)
    assert found["largest_map_error"] == pytest.approx(0.3)
    # Margins 2, 2, 0.1 lose -0.1, 0.2, 0.2: all lie within 64 times the mean of what is lost.
    assert found["changed_at_most"] == pytest.approx(7.754 / (64 * 3), rel=1e-3)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, ""),
        ({"n_changed": 1}, "too many classes"),
        ({"changed_at_most": 0.0011}, "near the border"),
        ({"map_error_95": 0.06}, "maps too much"),
    ],
)
def test_verdict(changed, words):
    """Each number by itself forbids it."""
    numbers = {"n": 512, "n_changed": 0, "changed_at_most": 0.0009, "map_error_95": 0.02}
    reason = judge(numbers | changed)
    assert words in reason if words else reason == ""


def test_gain_is_measured_on_the_network():
    """At both precisions."""
    model = make_tiny_cnn()
    engine = make_engine(model, model[1])
    assert 0 < measure_gain(engine, torch.randn(4, 3, 24, 24)) < 100


def test_store_says_what_was_chosen(galaxy_folder, tmp_path, checkpoint, compare_few, caplog):
    """Its maps are those of a build that was asked for bfloat16; `galfig info` gives the errors."""
    caplog.set_level(logging.INFO, "galfig")
    build_at(tmp_path / "auto.h5", galaxy_folder, checkpoint, precision="auto")
    build_at(tmp_path / "asked.h5", galaxy_folder, checkpoint, precision="bfloat16")
    build_at(tmp_path / "exact.h5", galaxy_folder, checkpoint)
    for found, expected in zip(
        read_maps(tmp_path / "auto.h5"), read_maps(tmp_path / "asked.h5"), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    with open_store(tmp_path / "auto.h5") as store:
        check = store.record.precision_check
        assert store.record.precision == check.chosen == "bfloat16"
        assert check.n == len(store)
    (cams, logits), (exact, exact_logits) = (
        read_maps(tmp_path / name) for name in ("auto.h5", "exact.h5")
    )
    errors = np.abs(cams - exact).max(axis=(1, 2, 3)) / np.abs(exact).max(axis=(1, 2, 3))
    # Maps of a store have 11 bits.
    assert check.largest_map_error == pytest.approx(errors.max(), rel=0.1)
    assert check.logit_error == pytest.approx(np.abs(logits - exact_logits).max(), rel=1e-5)
    assert describe_file(tmp_path / "auto.h5")["precision_check"]["chosen"] == "bfloat16"
    assert f"precision: bfloat16; on {check.n} galaxies" in caplog.text


def test_other_stores_are_as_they_were(galaxy_folder, tmp_path, checkpoint):
    """A store of the default says nothing of it, and neither do the digests of its parts."""
    explain_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, "0", shard_size=8)
    with open_outline(Parts.beside(tmp_path / "maps.h5").outline) as (_, outline):
        assert "precision_check" not in outline.attrs
        assert "float32" not in outline.engine


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_slow_bfloat16_is_not_taken(
    galaxy_folder, tmp_path, checkpoint, compare_few, monkeypatch, gain
):
    """Where it is emulated, the build is that of the default."""
    monkeypatch.setattr(precision, "measure_gain", lambda engine, images: gain)
    build_at(tmp_path / "auto.h5", galaxy_folder, checkpoint, precision="auto")
    build_at(tmp_path / "exact.h5", galaxy_folder, checkpoint)
    for found, expected in zip(
        read_maps(tmp_path / "auto.h5"), read_maps(tmp_path / "exact.h5"), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    with open_store(tmp_path / "auto.h5") as store:
        assert store.record.precision == "float32"
        assert "not faster" in store.record.precision_check.reason


def test_machines_that_choose_otherwise_do_not_mix(
    galaxy_folder, tmp_path, checkpoint, compare_few, monkeypatch
):
    """Parts in bfloat16 and parts in float32 belong to different stores."""
    options = {"precision": "auto", "shard_size": 8}
    explain_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, "0", **options)
    monkeypatch.setattr(precision, "measure_gain", lambda engine, images: 1.0)
    with pytest.raises(OutputError, match=r"here: float32; .* there: 'bfloat16; "):
        explain_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, "1", **options)


def choose(folder, checkpoint, engine):
    galaxies, _ = load_with_settings(folder)
    return choose_precision([engine], checkpoint, galaxies, RGB)


def prepare(checkpoint):
    return make_engine(checkpoint.model, checkpoint.model.get_submodule(checkpoint.layer_name))


def test_few_galaxies_are_not_compared(galaxy_folder, checkpoint):
    """That would take longer than it saves."""
    engine = prepare(checkpoint)
    found = choose(galaxy_folder, checkpoint, engine)
    assert found["chosen"] == engine.precision == "float32"
    assert found.keys() == {"chosen", "reason"}
    assert "longer than it saves" in found["reason"]


@pytest.mark.parametrize("failure", ["error", "nan", "wrong"])
def test_network_that_needs_float32(galaxy_folder, checkpoint, compare_few, monkeypatch, failure):
    """One that does not run, overflows or answers otherwise in bfloat16 stays in float32."""
    engine = prepare(checkpoint)
    explain = type(engine).__call__

    def fail(self, images):
        batch = explain(self, images)
        if self.precision == "float32":
            return batch
        if failure == "error":
            raise RuntimeError("not implemented for 'BFloat16'")
        return replace(batch, cams=batch.cams * (torch.nan if failure == "nan" else 1.2))

    monkeypatch.setattr(type(engine), "__call__", fail)
    found = choose(galaxy_folder, checkpoint, engine)
    assert found["chosen"] == engine.precision == "float32"
    words = {"error": "does not run", "nan": "not finite", "wrong": "maps too much"}[failure]
    assert words in found["reason"]
    json.dumps(found, allow_nan=False)


def test_images_that_cannot_be_read(galaxy_folder, checkpoint, compare_few):
    """Whoever explains them says what is wrong."""
    galaxies, _ = load_with_settings(galaxy_folder)
    for path in galaxies.paths:
        path.write_bytes(b"damaged")
    found = choose_precision([prepare(checkpoint)], checkpoint, galaxies, RGB)
    assert found == {"chosen": "float32", "reason": "no image can be read"}


def test_all_networks_of_an_ensemble_agree(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """One that is not faster keeps all in float32."""
    monkeypatch.setattr(precision, "LEAST_GALAXIES", 10)
    monkeypatch.setattr(precision, "LARGEST_CHANGED", 0.1)
    gains = iter([2.0, 1.0])
    monkeypatch.setattr(precision, "measure_gain", lambda engine, images: next(gains))
    engines = [prepare(checkpoint), prepare(checkpoint)]

    class Ensemble:
        networks = (checkpoint, checkpoint)

    galaxies, _ = load_with_settings(galaxy_folder)
    found = choose_precision(engines, Ensemble, galaxies, RGB)
    assert found["chosen"] == "float32"
    assert {engine.precision for engine in engines} == {"float32"}
