"""The schema: plain HDF5 that says what it holds."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from galfig.errors import StoreError
from galfig.store.checksums import seal_file
from galfig.store.reader import open_store, verify_store
from galfig.store.schema import DESCRIPTIONS, RULES, find_contradiction, find_invalid


def test_plain_h5py_is_enough(store_path):
    """Without galfig, in a process of its own, h5py reads the maps by what the file says."""
    code = f"""
import h5py, json, numpy as np
with h5py.File({str(store_path)!r}) as f:
    assert f.attrs["schema_version"] == 2
    names = json.loads(f.attrs["class_names"])
    assert "multiply by cam_scale" in f["cams"].attrs["description"].decode()
    cams = f["cams"][3].astype("f4") * f["cam_scale"][3][:, None, None]
    assert cams.shape == (2, 24, 24) and len(names) == 2
    assert f["objid"].asstr()[0] == "1237665024900858100"
    assert f["cams"].chunks == (1, 2, 24, 24) and f["cams"].compression == "gzip"
    assert f["cams"].shuffle and f["cutouts"].dtype == "u1"
    assert {{"catalog", "rejected"}} <= set(f)
    print(float(abs(cams).max()))
"""
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    with open_store(store_path) as store:
        assert float(result.stdout) == pytest.approx(float(np.abs(store.cams(3)).max()))


def test_every_dataset_has_a_rule():
    """One that is described and not checked would bring a stranger's numbers anywhere."""
    assert set(RULES) == set(DESCRIPTIONS)


@pytest.mark.parametrize(
    ("name", "row", "value", "words"),
    [
        ("label", 3, 2, "label holds 2, expected the position of a class, or -1"),
        ("label", 3, -2, "label holds -2"),
        ("redshift", 0, -1.0, "redshift holds -1.0, expected a redshift above -1, or NaN"),
        ("redshift", 0, np.inf, "redshift holds inf"),
        ("probs", 5, np.nan, "probs holds nan, expected a probability"),
        ("probs", 5, 0.9, "probs do not add up to 1"),
        ("logits", 11, np.inf, "logits holds inf, expected a finite number"),
        ("pixel_scale", 2, 0.0, "pixel_scale holds 0.0, expected a positive number, or NaN"),
        ("kpc_per_arcsec", 2, np.inf, "kpc_per_arcsec holds inf"),
        ("north_angle", 2, 181, "north_angle holds 181.0, expected an angle from -180 to 180"),
        ("east_angle", 2, np.inf, "east_angle holds inf, expected an angle from -180 to 180"),
        ("split", 2, "mine", "split holds 'mine', expected train, valid, test or nothing"),
        ("objid", 2, "\x1b[2J", "objid holds '\\\\x1b\\[2J'"),
        ("objid", 2, "1237665024900858100", "the same identifier twice"),
    ],
)
def test_values_are_checked_when_they_are_read(make_store, name, row, value, words):
    """Opening reads no array; whoever reads one, and verify, say what is wrong with it."""
    angles = np.zeros(12, np.float32)
    path = make_store(
        pixel_scale=np.full(12, 0.4),
        kpc_per_arcsec=np.ones(12),
        north_angle=angles,
        east_angle=angles,
    )
    with h5py.File(path, "r+") as file:
        file[name][row] = value
        seal_file(file)
    with open_store(path) as store, pytest.raises(StoreError, match=words):
        getattr(store, name)
    assert any(name in line for line in verify_store(path))


@pytest.mark.parametrize("scale", [0, -1, 3, np.nan, np.inf, 1e-46])
def test_scale_of_a_map_is_a_power_of_two(store_path, scale):
    """Only the galaxy whose scale is wrong cannot be read."""
    with h5py.File(store_path, "r+") as file:
        file["cam_scale"][4, 1] = scale
    with open_store(store_path) as store:
        assert np.isfinite(store.cams(3)).all()
        with pytest.raises(
            StoreError, match=r"cam_scale, row 4: cam_scale holds .* a power of two"
        ):
            store.cams(4)


def test_chunk_that_is_not_finite_is_refused(store_path):
    """The map is read with the others, and verify names its galaxy."""
    with h5py.File(store_path, "r+") as file:
        file["cams"][6, 1, 3, 3] = np.nan
        seal_file(file)
    with open_store(store_path) as store:
        assert np.isfinite(store.cams(5)).all()
        with pytest.raises(StoreError, match="cams, row 6: cams holds nan"):
            store.cams(slice(None))
    assert any(
        "galaxy '1237665024900858106' (number 7): cams" in n for n in verify_store(store_path)
    )


def test_probabilities_follow_from_logits(store_path):
    """Swapped probabilities are valid numbers, and not the softmax."""
    with h5py.File(store_path, "r+") as file:
        file["probs"][2] = file["probs"][2][::-1]
        seal_file(file)
    assert verify_store(store_path) == [
        "probs of galaxy number 3 are not the softmax of its logits"
    ]


def test_cells_of_a_catalog_are_text(make_store):
    """A column that nobody can read is found, although it has the digest that the file states."""
    path = make_store(catalog={"objID": np.arange(12), "note": ["a"] * 12})
    with h5py.File(path, "r+") as file:
        del file["catalog/note"], file.attrs["seal"]
        cells = np.array([b"a\xff", *[b"b"] * 11], dtype="S2")
        file["catalog"].create_dataset("note", data=cells, dtype=h5py.string_dtype("ascii", 2))
        seal_file(file)
    with open_store(path) as store, pytest.raises(StoreError, match="damaged"):
        _ = store.columns["note"]
    assert verify_store(path) == ["catalog/note holds b'a\\xff', expected text in UTF-8"]


def test_digits_that_float32_rounds_are_no_contradiction():
    """Neither extreme logits nor many classes make a sound store suspicious."""
    rng = np.random.default_rng(0)
    logits = np.vstack([rng.normal(0, 60, (100, 40)), np.full((1, 40), -1e30)]).astype(np.float32)
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probs = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    assert find_invalid("probs", probs, 40) == ""
    assert find_invalid("logits", logits, 40) == ""
    assert find_contradiction(logits, probs) == ""


def make_version_1(path):
    """Make a store of schema version 1 of one of version 2."""
    with h5py.File(path, "r+") as file:
        del file["split"]
        if "image_digest" in file:
            del file["image_digest"]
        file.attrs["schema_version"] = 1
        seal_file(file)


def test_version_1_is_still_read_and_verified(store_path):
    """Without what version 2 added."""
    make_version_1(store_path)
    with open_store(store_path) as store:
        assert len(store.split) == 12
    assert verify_store(store_path) == []


@pytest.mark.parametrize("version", [0, 3, 1.0, "1", True])
def test_other_versions_are_refused(store_path, version):
    """One version is one number."""
    with h5py.File(store_path, "r+") as file:
        file.attrs["schema_version"] = version
    with pytest.raises(StoreError, match="schema version"):
        open_store(store_path)


def test_records_that_are_null_are_unknown(make_store):
    """JSON has no NaN: null stands for a metric that is not defined."""
    epoch = {"train_loss": 0.7, "valid_loss": None, "accuracy": 0.6, "roc_auc": None, "f1": 0.5}
    training = {"arch": "conv3", "history": [epoch]}
    with open_store(make_store(attrs={"training": json.dumps(training)})) as store:
        (found,) = store.training.history
    assert found.accuracy == 0.6
    assert np.isnan([found.valid_loss, found.roc_auc]).all()
