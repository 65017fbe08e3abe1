"""Galaxies of a store named by position, slice, truth values or identifier; and closing it."""

import gc
import warnings

import h5py
import numpy as np
import pandas as pd
import pytest

from galfig.errors import SelectionError, StoreError
from galfig.store.reader import open_store
from galfig.store.selection import Rows

READERS = ("cams", "evidence", "cutouts")


@pytest.fixture
def store(store_path):
    """Open the small store of twelve galaxies."""
    with open_store(store_path) as opened:
        yield opened


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([3, 0, 3], [3, 0, 3]),
        (np.array([5, -1]), [5, 11]),
        (slice(2, 9, 3), [2, 5, 8]),
        (slice(None, None, -1), list(range(11, -1, -1))),
        (np.arange(12) % 5 == 1, [1, 6, 11]),
        (["1237665024900858103", "1237665024900858100"], [3, 0]),
        (pd.Series(["1237665024900858107"]), [7]),
        ([], []),
        (range(4, 6), [4, 5]),
    ],
)
def test_several_galaxies_are_those_one_by_one(store, read, rows, expected):
    """Each way to name several gives the stack of what each gives alone."""
    found = getattr(store, read)(rows)
    assert len(found) == len(expected)
    for one, row in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, getattr(store, read)(row))


@pytest.mark.parametrize("read", READERS)
def test_one_galaxy_has_no_axis_for_it(store, read):
    """A position, of Python or of numpy, from either end, or an identifier: the same array."""
    expected = getattr(store, read)(4)
    assert getattr(store, read)([4]).shape == (1, *expected.shape)
    for row in (np.int64(4), -8, np.array(4), "1237665024900858104"):
        np.testing.assert_array_equal(getattr(store, read)(row), expected)


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
    """By hand; and a part that the maps of all classes share leaves no trace in it."""
    cams = store.cams(3)
    np.testing.assert_array_equal(store.evidence(3), cams[1] - cams[0])
    with open_store(make_store("three.h5", class_names=("a", "b", "c"))) as three:
        cams, p = three.cams(3), three.probs[3].astype(np.float64)
        expected = [cams[c] - sum(p[j] * cams[j] for j in range(3)) for c in range(3)]
        np.testing.assert_allclose(three.evidence(3), expected, atol=1e-9)
        # Weighted by the probabilities the contrasts cancel.
        total = np.einsum("c,chw->hw", p, three.evidence(3))
        assert np.abs(total).max() < 1e-6 * np.abs(cams).max()


@pytest.mark.parametrize("read", READERS)
def test_unknown_galaxies_are_named(store, read):
    """The identifier, or the position and what there is."""
    with pytest.raises(SelectionError, match="no galaxy 'NGC 1'"):
        getattr(store, read)("NGC 1")
    with pytest.raises(SelectionError, match="no galaxy 'NGC 1'"):
        getattr(store, read)(["1237665024900858104", "NGC 1"])
    with pytest.raises(IndexError, match="no galaxy 12, expected one from 0 to 11"):
        getattr(store, read)([0, 12])
    with pytest.raises(IndexError, match="5 truth values for 12 galaxies"):
        getattr(store, read)(np.ones(5, bool))
    for strange in (1.5, [1.0, 2.0], [[1, 2]], None, {"a": 1}):
        with pytest.raises(TypeError, match="expected positions, identifiers"):
            getattr(store, read)(strange)


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


def test_rows_know_how_they_were_chosen_until_they_are_changed(store):
    """What is cut out of a selection is another choice, of which the query would not be true."""
    rows = store.select(true="high", n=3)
    assert rows.selection.query.true == "high"
    assert rows.selection.n_candidates == 6
    for changed in (rows[:2], rows + 0, np.sort(rows), rows[[1, 0]]):
        assert not isinstance(changed, Rows) or changed.selection is None


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
    with open_store(make_store(label=label, attrs={"split": "all"})) as store:
        table = store.table
    assert table["true"].isna().tolist() == [False, True, False] * 4
    assert table["loss"].isna().tolist() == [False, True, False] * 4
    assert table["split"].isna().all()


def test_columns_of_the_catalog_keep_apart(make_store):
    """A catalog with a column 'p' of its own does not lose it, nor hide the probability."""
    with open_store(make_store(catalog={"p": np.arange(12.0), "split": ["x"] * 12})) as store:
        assert store.table["catalog_p"].tolist() == list(range(12))
        assert store.table["catalog_split"].tolist() == ["x"] * 12
        assert store.table["p"].between(0.5, 1).all()
