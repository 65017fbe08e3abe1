"""Selection: strict ranges, a draw that does not depend on order, errors that help."""

import logging

import numpy as np
import pytest

from galfig.errors import SelectionError
from galfig.selection import describe_range, select_galaxies
from galfig.store import open_store


def test_range_is_strict(make_store):
    """As in the tutorial, zmin < z < zmax: the ends themselves are out, and NaN is."""
    redshift = np.array([0.05, 0.06, 0.07, 0.08, np.nan, 0.5])
    with open_store(make_store(n=6, redshift=redshift)) as store:
        selection = select_galaxies(store, n=9, zmin=0.05, zmax=0.08)
        assert sorted(selection.indices) == [1, 2]
        assert sorted(select_galaxies(store, n=9, zmin=0.07).indices) == [3, 5]
        assert len(select_galaxies(store, n=9).indices) == 6
        with pytest.raises(SelectionError, match=r"--zmin 0\.2: not below --zmax 0\.1"):
            select_galaxies(store, zmin=0.2, zmax=0.1)


def test_draw_is_by_seed_and_without_repeats(store_path):
    """The same seed draws the same galaxies, another seed others, none twice."""
    with open_store(store_path) as store:
        first, again, other = (select_galaxies(store, n=5, seed=seed) for seed in (1, 1, 2))
    assert first.indices.tolist() == again.indices.tolist() != other.indices.tolist()
    assert len(set(first.indices)) == 5
    assert first.n_candidates == 12


def test_draw_does_not_depend_on_the_order_of_the_store(make_store):
    """A store with its galaxies in another order gives the same galaxies in the same order."""
    objid = np.array([f"g{index:02d}" for index in range(12)], dtype=object)
    drawn = []
    for name, order in (("a.h5", np.arange(12)), ("b.h5", np.arange(12)[::-1])):
        with open_store(make_store(name, objid=objid[order])) as store:
            drawn.append(store.objid[select_galaxies(store, n=5).indices].tolist())
    assert drawn[0] == drawn[1]


def test_fewer_than_asked_are_drawn_and_said(store_path, caplog):
    """Where there are fewer than n, all are drawn and a warning says how many."""
    with open_store(store_path) as store, caplog.at_level(logging.WARNING, "galfig"):
        logging.getLogger("galfig").propagate = True
        selection = select_galaxies(store, n=5, zmin=0.02, zmax=0.045)
    assert len(selection.indices) == 2
    assert "2 galaxies with 0.02 < z < 0.045, 5 were asked for" in caplog.text


def test_empty_range_gives_the_range_that_exists(store_path):
    """None at all is an error that says where the redshifts are."""
    with (
        open_store(store_path) as store,
        pytest.raises(
            SelectionError, match=r"no galaxy with 1 < z < 2; its redshifts run from 0\.02 to 0\.13"
        ),
    ):
        select_galaxies(store, zmin=1, zmax=2)


def test_without_redshifts(make_store):
    """Without redshifts a range is an error, and a draw is not."""
    with open_store(make_store(redshift=np.full(12, np.nan))) as store:
        with pytest.raises(SelectionError, match="no galaxy has a redshift"):
            select_galaxies(store, zmax=0.1)
        assert len(select_galaxies(store, n=3).indices) == 3


def test_named_galaxies_in_the_order_named(store_path):
    """--objid gives just these, in this order; a stranger is an error."""
    with open_store(store_path) as store:
        names = [store.objid[7], store.objid[2]]
        selection = select_galaxies(store, objids=names)
        assert selection.indices.tolist() == [7, 2]
        assert selection.seed is None
        with pytest.raises(SelectionError, match="no galaxy '42'"):
            select_galaxies(store, objids=["42"])
        with pytest.raises(SelectionError, match="one or the other"):
            select_galaxies(store, objids=names, zmin=0.1)


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
