"""Galaxies that are like one: by the distance of their features, among those that are asked for."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from galfig.errors import FigureError, SelectionError
from galfig.figures.captions import PLAIN, describe_omitted, describe_sample
from galfig.figures.registry import draw_figure, render_figure
from galfig.store import selection
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies

SPLITS = np.array(["train"] * 5 + ["valid"] * 7, dtype=object)


def rank(store, row, among):
    """Return a galaxy and others by their distance, as scipy computes it."""
    features = store.features(slice(None)).astype(float)
    distance = cdist(features, features[row : row + 1], "cosine")[:, 0]
    others = [other for other in np.argsort(distance, kind="stable") if other in among]
    return [row, *(other for other in others if other != row)]


def test_nearest_come_first(store):
    """The galaxy itself, then the others by increasing distance; as many as asked for."""
    everyone = rank(store, 4, range(12))
    assert store.select(like=store.objid[4]).tolist() == everyone
    assert store.select(like=store.objid[4], n=3).tolist() == everyone[:3]
    assert store.select(like=store.objid[4], n=1).tolist() == [4]


def test_blocks_change_nothing(store, monkeypatch):
    """The features of a few galaxies are compared at a time."""
    expected = store.select(like=store.objid[4]).tolist()
    monkeypatch.setattr(selection, "N_BLOCK", 2)
    assert store.select(like=store.objid[4]).tolist() == expected


def test_other_conditions_hold_for_the_others(make_store):
    """The galaxy comes first even if it does not satisfy them."""
    with open_store(make_store(split=SPLITS)) as store:
        name = store.objid[2]
        valid = range(5, 12)
        assert store.select(like=name).tolist() == rank(store, 2, valid)
        assert store.select(like=name, split="all").tolist() == rank(store, 2, range(12))
        low = [row for row in valid if store.label[row] == 0]
        assert store.select(like=name, true="low").tolist() == rank(store, 2, low)
        assert store.select("z > 0.1", like=name).tolist() == rank(
            store, 2, np.flatnonzero(store.redshift > 0.1)
        )


def test_equal_distances_are_in_the_order_of_identifiers(make_store):
    """Of galaxies with the same features, whatever their order in the store."""
    objid = np.array(
        [f"g{number:02d}" for number in (7, 3, 9, 1, 5, 0, 2, 4, 6, 8, 10, 11)], object
    )
    with open_store(make_store(objid=objid, features=np.ones((12, 4), np.float32))) as store:
        found = store.objids(store.select(like="g05", n=5)).tolist()
    assert found == ["g05", "g00", "g01", "g02", "g03"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"like": "g1"}, "no galaxy 'g1'; it holds 12 others"),
        ({"like": "1237665024900858104", "sort": "loss"}, "`like` with `sort` 'loss'"),
        ({"like": "1237665024900858104", "objids": ["1237665024900858104"]}, "no other condition"),
        ({"like": 3}, "`like` 3: "),
        ({"like": "1237665024900858104", "zmin": 3.0}, "no galaxy with 3 < z"),
    ],
)
def test_what_cannot_be_is_refused(store, asked, words):
    """In one line that names the parameter."""
    with pytest.raises(SelectionError, match=words):
        store.select(**asked)


def test_store_without_features_is_refused(make_store):
    """With what to do."""
    words = r"holds no features.*`features=True`.*`model`"
    with open_store(make_store(features=None)) as store, pytest.raises(SelectionError, match=words):
        store.select(like=store.objid[0])


def test_galaxy_that_no_other_is_compared_with_is_refused(make_store):
    """Where it is the only one that satisfies the conditions."""
    split = np.array(["valid"] + ["train"] * 11, dtype=object)
    with (
        open_store(make_store(split=split)) as store,
        pytest.raises(SelectionError, match="no other galaxy; 11 that trained"),
    ):
        store.select(like=store.objid[0])


def test_choice_depends_on_the_network(store):
    """If galaxies were left out for their features; not if all are shown in this order."""
    query = Query(like=store.objid[4], n=3)
    assert select_galaxies(store, query).depends_on_output
    assert not select_galaxies(store, Query(like=store.objid[4], n=None)).depends_on_output


def test_captions_say_what_alike_means(make_store):
    """Which galaxy, how many of which others, by which distance of what; and what is left out."""
    with open_store(make_store(split=SPLITS)) as store:
        found = select_galaxies(store, Query(like=store.objid[2], n=4))
        words = describe_sample(store, found, PLAIN)
        assert words == (
            f"galaxy {store.objid[2]} and 3 of the 7 simulated galaxies besides it of the "
            "validation set, those of smallest cosine distance to it between features of the "
            "network (activations of layer conv3, averaged over its pixels; Stein et al. 2021) "
            "(shown: 3 of the validation set, 1 that trained the network)"
        ) or words.endswith("(shown: 1 that trained the network, 3 of the validation set)")
        omitted = describe_omitted(store, found, "shown")
        assert omitted == "The 4 galaxies of the store that trained the network are not shown."
        every = describe_sample(
            store, select_galaxies(store, Query(like=store.objid[8], n=7)), PLAIN
        )
        assert "and the 6 simulated galaxies besides it of the validation set, by inc" in every
        one = describe_sample(store, select_galaxies(store, Query(like=store.objid[8], n=1)), PLAIN)
        assert one == f"galaxy {store.objid[8]}"


def test_figures_take_it_but_those_with_an_order_of_their_own(store_path, tmp_path):
    """Rows say their order; the metadata record it, and nothing where it is not asked for."""
    with open_store(store_path) as store:
        name = store.objid[4]
    with draw_figure("panels", store_path, Query(n=3, like=name)) as (drawing, provenance):
        assert drawing.galaxies[0] == name
        assert "From top to bottom, by increasing distance of features from the first: " in (
            drawing.describe(PLAIN)
        )
        assert provenance["selection"]["like"] == name
    with draw_figure("panels", store_path, Query(n=3)) as (_, provenance):
        assert "like" not in provenance["selection"]
    with pytest.raises(FigureError, match="`like`: these are galaxies by loss"):
        render_figure("top-losses", store_path, Query(n=3, like=name), tmp_path / "t.pdf")


def test_second_store_must_hold_it(make_store):
    """Only galaxies of both stores are compared with it."""
    with open_store(make_store()) as store, open_store(make_store("o.h5", n=6, seed=1)) as other:
        found = select_galaxies(store, Query(like=store.objid[3], n=None), other=other)
        assert sorted(found.indices.tolist()) == list(range(6))
        with pytest.raises(SelectionError, match="not in the other store"):
            select_galaxies(store, Query(like=store.objid[9]), other=other)
