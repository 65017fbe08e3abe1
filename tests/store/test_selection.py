"""Selection: strict ranges, a draw that does not depend on order, rows named in many ways."""

import logging
import re

import numpy as np
import pandas as pd
import pytest

from galfig.errors import SelectionError
from galfig.store.reader import open_store
from galfig.store.selection import (
    Query,
    Rows,
    count_splits,
    describe_range,
    find_positions,
    find_shared,
    select_galaxies,
)

READERS = ("cams", "evidence", "cutouts")


def test_range_is_strict(make_store):
    """As in the tutorial, zmin < z < zmax: the ends themselves are out, and NaN is."""
    redshift = np.array([0.05, 0.06, 0.07, 0.08, np.nan, 0.5])
    with open_store(make_store(n=6, redshift=redshift)) as store:
        selection = select_galaxies(store, Query(n=9, zmin=0.05, zmax=0.08))
        assert sorted(selection.indices) == [1, 2]
        assert sorted(select_galaxies(store, Query(n=9, zmin=0.07)).indices) == [3, 5]
        assert len(select_galaxies(store, Query(n=9)).indices) == 6
        with pytest.raises(SelectionError, match=r"`zmin` 0\.2 is not below `zmax` 0\.1"):
            select_galaxies(store, Query(zmin=0.2, zmax=0.1))


def test_draw_is_by_seed_and_without_repeats(store_path):
    """The same seed draws the same galaxies, another seed others, none twice."""
    with open_store(store_path) as store:
        first, again, other = (select_galaxies(store, Query(n=5, seed=seed)) for seed in (1, 1, 2))
    assert first.indices.tolist() == again.indices.tolist() != other.indices.tolist()
    assert len(set(first.indices)) == 5
    assert first.n_candidates == 12


def test_draw_does_not_depend_on_the_order_of_the_store(make_store):
    """A store with its galaxies in another order gives the same galaxies in the same order."""
    objid = np.array([f"g{index:02d}" for index in range(12)], dtype=object)
    drawn = []
    for name, order in (("a.h5", np.arange(12)), ("b.h5", np.arange(12)[::-1])):
        with open_store(make_store(name, objid=objid[order])) as store:
            drawn.append(store.objid[select_galaxies(store, Query(n=5)).indices].tolist())
    assert drawn[0] == drawn[1]


def test_fewer_than_asked_are_drawn_and_said(store_path, caplog):
    """Where there are fewer than n, all are drawn and a warning says how many."""
    with open_store(store_path) as store, caplog.at_level(logging.WARNING, "galfig"):
        logging.getLogger("galfig").propagate = True
        selection = select_galaxies(store, Query(n=5, zmin=0.02, zmax=0.045))
    assert len(selection.indices) == 2
    assert "5 galaxies requested, only 2 found with 0.02 < z < 0.045" in caplog.text


def test_empty_range_gives_the_range_that_exists(store_path):
    """None at all is an error that says where the redshifts are."""
    with (
        open_store(store_path) as store,
        pytest.raises(
            SelectionError, match=r"no galaxy with 1 < z < 2; its redshifts run from 0\.02 to 0\.13"
        ),
    ):
        select_galaxies(store, Query(zmin=1, zmax=2))


def test_without_redshifts(make_store):
    """Without redshifts a range is an error, and a draw is not."""
    with open_store(make_store(redshift=np.full(12, np.nan))) as store:
        with pytest.raises(SelectionError, match="no galaxy has a redshift"):
            select_galaxies(store, Query(zmax=0.1))
        assert len(select_galaxies(store, Query(n=3)).indices) == 3


def test_named_galaxies_in_the_order_named(store_path):
    """objids gives just these, in this order; a stranger is an error."""
    with open_store(store_path) as store:
        names = [store.objid[7], store.objid[2]]
        selection = select_galaxies(store, Query(objids=tuple(names)))
        assert selection.indices.tolist() == [7, 2]
        assert selection.query.objids == tuple(names)
        with pytest.raises(SelectionError, match="no galaxy '42'"):
            select_galaxies(store, Query(objids=("42",)))
        with pytest.raises(SelectionError, match="no other condition"):
            select_galaxies(store, Query(objids=tuple(names), zmin=0.1))


@pytest.mark.parametrize(
    ("zmin", "zmax", "words"),
    [
        (0.05, 0.08, "0.05 < z < 0.08"),
        (0.05, None, "0.05 < z"),
        (None, 1, "z < 1"),
        (None, None, ""),
    ],
)
def test_range_in_words(zmin, zmax, words):
    """A range reads as an inequality, open where an end is."""
    assert describe_range(zmin, zmax) == words


def test_conditions_on_classes(store_path):
    """true, predicted and correct keep just those galaxies."""
    with open_store(store_path) as store:
        predicted, label = store.predicted, store.label
        for query, is_meant in [
            (Query(n=None, true="high"), label == 1),
            (Query(n=None, predicted="low"), predicted == 0),
            (Query(n=None, correct=True), predicted == label),
            (Query(n=None, correct=False, true="low"), (predicted != label) & (label == 0)),
        ]:
            found = select_galaxies(store, query).indices
            assert sorted(found) == np.flatnonzero(is_meant).tolist()
        with pytest.raises(SelectionError, match="`true` 'hihg', expected one of low, high"):
            select_galaxies(store, Query(true="hihg"))


def test_condition_on_a_column(store_path):
    """where looks at the catalog, and says so where nothing is left."""
    with open_store(store_path) as store:
        found = select_galaxies(store, Query(n=None, where="z > 0.1"))
        assert sorted(found.indices) == np.flatnonzero(store.redshift > 0.1).tolist()
        with pytest.raises(SelectionError, match=r"no galaxy with z < 0\.1, where 'z > 0\.2'"):
            select_galaxies(store, Query(zmax=0.1, where="z > 0.2"))


def test_sorted_galaxies(store_path):
    """Most wrong, most certain and nearest first."""
    with open_store(store_path) as store:
        losses = store.losses
        p_true = store.probs[np.arange(12), store.label].astype(float)
        np.testing.assert_allclose(losses, -np.log(p_true), rtol=1e-5)
        by_loss = select_galaxies(store, Query(n=4, sort="loss")).indices
        assert by_loss.tolist() == np.argsort(-losses)[:4].tolist()
        by_p = select_galaxies(store, Query(n=12, sort="p")).indices
        assert (np.diff(store.probs.max(axis=1)[by_p]) <= 0).all()
        assert select_galaxies(store, Query(n=3, sort="redshift")).indices.tolist() == [0, 1, 2]


def test_probabilities_that_round_to_one_are_told_apart(make_store):
    """By the logits: 20 and 40 above the other class both give p = 1 in float32."""
    logits = np.zeros((12, 2), np.float32)
    logits[:, 1] = np.linspace(40, 20, 12)[::-1]
    probs = np.tile(np.array([0, 1], np.float32), (12, 1))
    with open_store(make_store(logits=logits, probs=probs)) as store:
        found = select_galaxies(store, Query(n=5, sort="p")).indices
        np.testing.assert_array_equal(found, [11, 10, 9, 8, 7])


@pytest.mark.parametrize("sort", ["random", "loss", "p", "redshift"])
@pytest.mark.parametrize("n", [1, 3, 11, 12, None])
def test_few_are_the_first_of_all(make_store, sort, n):
    """Draws, ties and unknown values stand as in a list of all galaxies that Python sorted."""
    logits = np.array([[0, 2], [0, 2], [0, -1], [3, 3]] * 3, np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = np.array([0, 0, 1, -1] * 3, np.int16)
    redshift = np.array([np.nan, 0.1, 0.05, 0.1] * 3)
    names = np.array([f"g{number * 7 % 12}" for number in range(12)], dtype=object)
    path = make_store(objid=names, logits=logits, probs=probs, label=label, redshift=redshift)
    with open_store(path) as store:
        by_name = sorted(range(12), key=store.objid.__getitem__)
        key = {
            "loss": -store.losses,
            "p": -store.probs.max(axis=1).astype(float),
            "redshift": store.redshift,
        }
        if sort == "random":
            expected = np.random.default_rng(256).permutation(by_name).tolist()
        else:
            last = np.where(np.isnan(key[sort]), np.inf, key[sort])
            expected = sorted(by_name, key=last.__getitem__)
        assert store.select(sort=sort, n=n).tolist() == expected[:n]


def test_loss_of_certainty_is_finite(make_store):
    """A galaxy that the network is wholly wrong about has a large loss, not an infinite one."""
    logits = np.tile(np.float32([[300, -300]]), (12, 1))
    with open_store(make_store(logits=logits)) as store:
        np.testing.assert_allclose(store.losses[:2], [0, 600])


def test_galaxies_of_two_stores_are_in_the_split_of_both(make_store):
    """By name, whatever the order; a store of training galaxies alone offers those."""
    first = make_store("a.h5", split=np.array(["train"] * 5 + ["valid"] * 7, dtype=object))
    with open_store(first) as store:
        objid = store.objid[::-1].copy()
    objid[0] = "1"
    # From the last galaxy of the first store, which is not here, to its first.
    split = np.array(["valid"] * 3 + ["train"] * 6 + ["valid"] * 3, dtype=object)
    second = make_store("b.h5", objid=objid, split=split)
    third = make_store("c.h5", split=np.full(12, "train", dtype=object))
    with open_store(first) as store, open_store(second) as other, open_store(third) as trained:
        for words, expected in (
            (None, [9, 10]),
            ("valid", [9, 10]),
            ("train", [3, 4]),
            ("all", range(11)),
            ("test", []),
        ):
            assert np.flatnonzero(find_shared(store, other, words)).tolist() == list(expected)
        assert np.flatnonzero(find_shared(store, trained)).tolist() == list(range(5, 12))
        selection = select_galaxies(store, Query(n=5), other=other)
        assert selection.is_shared
        assert sorted(selection.indices) == [9, 10]
        assert selection.n_candidates == 2
        # All other conditions are of the first store.
        assert select_galaxies(store, Query(zmin=0.115), other=other).indices.tolist() == [10]
        assert not select_galaxies(store, Query()).is_shared


def test_unlabelled_galaxies_are_neither_right_nor_wrong(make_store):
    """Without a true class there is no loss and no being correct."""
    with open_store(make_store(label=np.full(12, -1, np.int16))) as store:
        assert np.isnan(store.losses).all()
        for query in (Query(correct=True), Query(sort="loss")):
            with pytest.raises(SelectionError, match="no galaxy has a true class"):
                select_galaxies(store, query)


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


def test_rows_know_how_they_were_chosen_until_they_are_changed(store):
    """What is cut out of a selection is another choice, of which the query would not be true."""
    rows = store.select(true="high", n=3)
    assert rows.selection.query.true == "high"
    assert rows.selection.n_candidates == 6
    for changed in (rows[:2], rows + 0, np.sort(rows), rows[[1, 0]]):
        assert not isinstance(changed, Rows) or changed.selection is None
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        rows.sort()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n": 0}, "`n` 0"),
        ({"n": -3}, "`n` -3"),
        ({"n": 2.5}, "`n` 2.5"),
        ({"seed": -1}, "`seed` -1"),
        ({"sort": "z"}, "`sort` 'z'"),
        ({"zmin": "near"}, "`zmin` 'near'"),
        ({"correct": "perhaps"}, "`correct` 'perhaps'"),
        ({"where": 3}, "`where` 3"),
        ({"objids": []}, "`objids` is empty"),
    ],
)
def test_what_cannot_be_asked_is_named(store, asked, words):
    """Before anything is selected: a wrong type, a number out of range, an unknown order."""
    with pytest.raises(SelectionError, match=re.escape(words)):
        store.select(**asked)


def test_rows_of_another_store_are_refused(store, make_store):
    """Also what was cut out of them: the positions would name other galaxies."""
    rows = store.select(n=3)
    with open_store(make_store("other.h5", attrs={"plan_digest": "another"})) as other:
        for wrong in (rows, rows[:2]):
            with pytest.raises(SelectionError, match="selected from another store"):
                other.cams(wrong)


def test_a_mask_of_pandas_is_put_in_order(store):
    """A table that was sorted gives the same galaxies; one of other galaxies is refused."""
    table = store.table.sort_values("loss")
    np.testing.assert_array_equal(
        find_positions(store, table["z"] > 0.1), np.flatnonzero(store.redshift > 0.1)
    )
    plain = store.catalog["z"] > 0.1
    np.testing.assert_array_equal(
        find_positions(store, plain), np.flatnonzero(store.redshift > 0.1)
    )
    with pytest.raises(IndexError, match="a mask for other galaxies"):
        find_positions(store, (table["z"] > 0.1).iloc[:5])


def test_an_identifier_as_a_number_is_told(store):
    """SDSS's are numbers of 19 digits, and text here."""
    with pytest.raises(IndexError, match="identifiers are text: put it in quotes"):
        store.cams(int(store.objid[0]))


SPLIT = np.array(["train", "valid", "test", ""] * 3, dtype=object)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (None, SPLIT != "train"),
        ("all", SPLIT == SPLIT),
        ("train", SPLIT == "train"),
        ("valid", SPLIT == "valid"),
        ("test", SPLIT == "test"),
    ],
)
def test_galaxies_that_trained_are_asked_for_by_name(make_store, split, expected):
    """By default only those that did not train the network, or may not have, are counted."""
    with open_store(make_store(split=SPLIT)) as store:
        rows = store.select(split=split, sort="redshift")
        assert rows.tolist() == np.flatnonzero(expected).tolist()
        counts = {
            word: int(np.sum(SPLIT[expected] == word)) for word in ("train", "valid", "test", "")
        }
        assert count_splits(store, rows) == {word: n for word, n in counts.items() if n}
        # A galaxy that is asked for by its own name is shown, whatever it did.
        assert store.select(objids=store.objid[0]).tolist() == [0]


def test_a_store_of_training_galaxies_shows_those(make_store):
    """Nothing else is there; another split is refused, with what there is."""
    with open_store(make_store(split=np.full(12, "train", dtype=object))) as store:
        assert len(store.select()) == 12
        assert count_splits(store) == {"train": 12}
        with pytest.raises(SelectionError, match=r"no galaxy in split 'valid'.* it holds 12 train"):
            store.select(split="valid")
