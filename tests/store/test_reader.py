"""Reading a store: maps, cutouts and table; files that are refused; and closing it."""

import gc
import json
import os
import warnings

import h5py
import numpy as np
import pandas as pd
import pytest

from galfig.errors import SelectionError, StoreError
from galfig.store.checksums import seal_file
from galfig.store.hdf5 import encode_texts
from galfig.store.reader import open_store, read_digest, read_image_digests, verify_store


def test_other_files_are_refused(tmp_path, store_path):
    """Missing, not HDF5, another HDF5 file, another schema, or incomplete: one line each."""

    def refuse(path, message):
        with pytest.raises(StoreError, match=message) as caught, open_store(path):
            pass
        assert "\n" not in str(caught.value)

    refuse(tmp_path / "absent.h5", "no such file")
    (tmp_path / "text.h5").write_text("not HDF5")
    refuse(tmp_path / "text.h5", "not an HDF5 file")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    refuse(tmp_path / "other.h5", "without schema_version")
    with h5py.File(store_path, "r+") as file:
        del file["logits"]
    refuse(store_path, "no dataset 'logits'")
    with h5py.File(store_path, "r+") as file:
        file.attrs["schema_version"] = 99
    refuse(store_path, "schema version 99, expected 2 or before; another version of galfig")
    store_path.write_bytes(store_path.read_bytes()[:2000])
    refuse(store_path, "cut off, expected a whole store")
    (tmp_path / "model.h5").write_bytes(b"\x02" + bytes(7) + b"{}")
    refuse(tmp_path / "model.h5", "a checkpoint, expected a store")


def test_read_digest_of_anything(tmp_path, store_path):
    """A digest is told where there is one, and its absence is no error."""
    assert read_digest(store_path) == "digest"
    assert read_digest(tmp_path / "absent.h5") is None
    (tmp_path / "text.h5").write_text("not HDF5")
    assert read_digest(tmp_path / "text.h5") is None


def test_shapes_and_dtypes(store, make_store):
    """As the docstrings say, also for three classes."""
    assert store.cams([0, 1]).shape == (2, 2, 24, 24)
    assert store.cams([0, 1]).dtype == np.float32
    assert store.evidence([0, 1]).shape == (2, 24, 24)
    assert store.cutouts([0, 1]).shape == (2, 24, 24, 3)
    assert store.cutouts([0, 1]).dtype == np.uint8
    with open_store(make_store("three.h5", class_names=("a", "b", "c"))) as three:
        assert three.evidence(0).shape == (3, 24, 24)
        assert three.evidence([0, 1]).shape == (2, 3, 24, 24)


def test_evidence_is_the_contrast_of_the_maps(store, make_store):
    """By hand: against the other class or, of more, against the rest in their proportion."""
    cams = store.cams(3)
    np.testing.assert_array_equal(store.evidence(3), cams[1] - cams[0])
    with open_store(make_store("three.h5", class_names=("a", "b", "c"))) as three:
        cams, p = three.cams(3), three.probs[3].astype(np.float64)
        expected = [
            cams[c] - sum(p[j] * cams[j] for j in range(3) if j != c) / (1 - p[c]) for c in range(3)
        ]
        np.testing.assert_allclose(three.evidence(3), expected, atol=1e-6 * np.abs(cams).max())
        np.testing.assert_array_equal(three.evidence([5, 3])[1], three.evidence(3))


def test_log_odds_are_those_of_the_logits(store):
    """One column per class; of two classes, the difference of the logits and its negative."""
    logits = store.logits.astype(np.float64)
    np.testing.assert_array_equal(store.log_odds[:, 1], logits[:, 1] - logits[:, 0])
    np.testing.assert_array_equal(store.log_odds[:, 0], -store.log_odds[:, 1])


def test_identifiers_of_some_galaxies(store):
    """They are those of the whole column, however the galaxies are named."""
    assert store.objids(3) == store.objid[3]
    assert store.objids([5, 2]).tolist() == store.objid[[5, 2]].tolist()
    assert store.objids(slice(4)).tolist() == store.objid[:4].tolist()
    assert isinstance(store.objids(np.int64(3)), str)


def test_one_column_is_that_of_the_table(make_store):
    """Those of the network and of the catalog, also where both have one of a name."""
    catalog = {"loss": np.arange(12.0), "type": ["E", ""] * 6, "n": [1, None] * 6}
    with open_store(make_store(catalog=catalog)) as store:
        assert list(store.column_names) == list(store.table.columns)
        assert "catalog_loss" in store.column_names
        for name in store.column_names:
            expected = store.table[name].reset_index(drop=True)
            pd.testing.assert_series_equal(store.column(name), expected, check_names=False)
        for absent in ("catalog_z", "colour"):
            with pytest.raises(SelectionError, match=f"no column {absent!r}"):
                store.column(absent)


@pytest.mark.parametrize(
    ("name", "texts", "words"),
    [
        ("objid", ["a", "b", "a"], "the same identifier twice"),
        ("objid", ["a", "", "c"], "expected an identifier that can be printed"),
        ("objid", ["a", "b\N{RIGHT-TO-LEFT OVERRIDE}", "c"], "can be printed"),
        ("objid", ["a", "b\x7f", "c"], "can be printed"),
        ("objid", ["a", "b" * 256, "c"], "can be printed"),
        ("split", ["valid", "trained", ""], "split holds 'trained', expected train, valid, test"),
    ],
)
def test_text_that_cannot_be_is_told_when_it_is_read(make_store, name, texts, words):
    """Doubled and unprintable identifiers, and splits that there are not; verify says the same."""
    path = make_store(n=3)
    with h5py.File(path, "r+", locking=False) as file:
        attrs = dict(file[name].attrs)
        del file[name]
        file[name] = encode_texts(texts)
        file[name].attrs.update(attrs)
    with open_store(path) as store, pytest.raises(StoreError, match=words):
        store.select(n=1)
    assert any(words in line for line in verify_store(path))


def test_one_class_has_no_evidence(make_store):
    """There is nothing for it to be evidence against, and the store says so."""
    one = open_store(make_store("one.h5", class_names=("a",)))
    with one, pytest.raises(StoreError, match="one class, expected two or more"):
        one.evidence(0)


def test_a_store_works_without_a_block(store_path):
    """It closes itself when nothing refers to it any longer; the file is free then."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = open_store(store_path)
        assert store.cams(0).shape == (2, 24, 24)
        del store
        gc.collect()
    with h5py.File(store_path, "r+", locking=False) as file:
        file.attrs["touched"] = 1


def test_a_closed_store_says_so(store_path):
    """Whatever is asked of it; what was read before stays."""
    with open_store(store_path) as store:
        redshift = store.redshift
    assert store.is_closed
    assert store.redshift is redshift
    assert "closed" in repr(store)
    assert "closed" in store._repr_html_()
    questions = (
        len,
        lambda s: s.cams(0),
        lambda s: s.cutouts([0]),
        lambda s: s.label,
        lambda s: s.table,
        lambda s: s.catalog,
        lambda s: s.map_shape,
        lambda s: s.rejected,
        lambda s: s.select(n=1),
    )
    for ask in questions:
        with pytest.raises(StoreError, match="is closed; open it again"):
            ask(store)
    store.close()


def test_a_file_that_is_refused_is_closed(store_path):
    """So that it can be written anew at once."""
    with h5py.File(store_path, "r+", locking=False) as file:
        file.attrs["split"] = "neither"
    with pytest.raises(StoreError, match="attribute split"):
        open_store(store_path)
    with h5py.File(store_path, "r+", locking=False) as file:
        file.attrs["split"] = "valid"
    open_store(store_path).close()


def test_select_chooses_as_the_command_line_does(store):
    """Positions in order, as an array of integers that pandas and numpy take."""
    rows = store.select("z < 0.1", true="high", sort="redshift", n=3)
    assert rows.tolist() == [1, 3, 5]
    assert store.table.iloc[rows]["true"].tolist() == ["high"] * 3
    assert store.cams(rows).shape == (3, 2, 24, 24)
    assert store.probs[rows].shape == (3, 2)
    assert len(store.select()) == 12
    assert store.select(objids="1237665024900858104").tolist() == [4]


def test_table_joins_catalog_and_network(store):
    """One row a galaxy, by identifier, with what is known of it."""
    table = store.table
    assert table.index.tolist() == store.objid.tolist()
    assert list(table.columns) == ["objID", "z", "split", "true", "predicted", "p", "loss"]
    assert (table["split"] == "valid").all()
    np.testing.assert_array_equal(table["true"].cat.codes, store.label)
    np.testing.assert_array_equal(table["p"], store.probs.max(axis=1))
    np.testing.assert_array_equal(table["loss"], store.losses)


def test_unknown_class_is_missing(make_store):
    """Never the last class, which position -1 of a list would be."""
    label = np.array([0, -1, 1] * 4, np.int16)
    split = np.array(["train", "", "test"] * 4, dtype=object)
    with open_store(make_store(label=label, split=split, attrs={"split": "all"})) as store:
        table = store.table
    assert table["true"].isna().tolist() == [False, True, False] * 4
    assert table["loss"].isna().tolist() == [False, True, False] * 4
    assert table["split"].isna().tolist() == [False, True, False] * 4
    assert table["split"].dropna().tolist() == ["train", "test"] * 4


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "valid"),
        ({"split": "train"}, "train"),
        ({"split": "all"}, ""),
        ({"training": {"arch": "conv3"}}, ""),
        ({"config": {"split": {"seed": 7}}}, ""),
        ({"config": {"catalog": {"path": "other.csv"}}}, ""),
    ],
)
def test_schema_version_1_is_read(make_store, changed, expected):
    """It has no split of each galaxy; only a network of the same catalog and draw tells it."""
    settings = {"classes": {"name": "metallicity"}}
    training = {"arch": "conv3", "n_train": {"low": 20}, "settings": settings}
    attrs = {"split": "valid", "config": settings, "training": training} | changed
    encoded = {k: v if isinstance(v, str) else json.dumps(v) for k, v in attrs.items()}
    path = make_store(attrs=encoded)
    with h5py.File(path, "r+", locking=False) as file:
        del file["split"]
        file.attrs["schema_version"] = 1
    with open_store(path) as store:
        assert store.split.tolist() == [expected] * 12
        assert len(store.select()) == 12


def test_a_store_without_splits_does_not_guess_them(make_store):
    """Settings tell the split of all galaxies in schema version 1 only."""
    settings = {"classes": {"name": "metallicity"}}
    training = {"arch": "conv3", "n_train": {"low": 20}, "settings": settings}
    attrs = {"split": "valid", "config": json.dumps(settings), "training": json.dumps(training)}
    path = make_store(attrs=attrs)
    with h5py.File(path, "r+", locking=False) as file:
        for name in ("split", "image_digest"):
            file.pop(name, None)
        seal_file(file)
    with open_store(path) as store:
        assert store.split.tolist() == [""] * 12
        assert store.image_digest is None
        assert len(store.select()) == 12
        assert store.table["split"].isna().all()
    assert verify_store(path) == []


@pytest.mark.parametrize("name", ["split", "image_digest"])
def test_a_dataset_that_was_taken_out_is_noticed(make_store, name):
    """A store may lack splits, but not one that was sealed with them."""
    path = make_store()
    with h5py.File(path, "r+", locking=False) as file:
        if name not in file:
            file[name] = np.ones(12, np.uint64)
        seal_file(file)
        del file[name]
    assert verify_store(path)


def test_columns_of_the_catalog_keep_apart(make_store):
    """A catalog with a column 'p' of its own does not lose it, nor hide the probability."""
    with open_store(make_store(catalog={"p": np.arange(12.0), "split": ["x"] * 12})) as store:
        assert store.table["catalog_p"].tolist() == list(range(12))
        assert store.table["catalog_split"].tolist() == ["x"] * 12
        assert store.table["p"].between(0.5, 1).all()


def test_arrays_of_a_store_are_read_only(store):
    """They are kept, and what was changed in one would be printed in captions."""
    for array in (store.redshift, store.label, store.objid, store.probs):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


def test_a_named_pipe_is_no_store_and_keeps_nobody_waiting(tmp_path):
    """HDF5 itself would wait until something is written to it."""
    path = tmp_path / "000000.h5"
    os.mkfifo(path)
    assert read_digest(path) is None
    assert read_image_digests(path) is None
    with pytest.raises(StoreError), open_store(path):
        pass
