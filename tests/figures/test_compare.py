"""Comparison of two stores: the same galaxies, by name."""

import numpy as np
import pytest

from galfig.errors import FigureError, SelectionError
from galfig.figures.captions import PLAIN
from galfig.figures.compare import draw as draw_compare
from galfig.figures.drawing import DrawOptions
from galfig.figures.registry import draw_figure, render_figure
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies


@pytest.mark.slow
def test_compare_pairs_the_same_galaxies(make_store, tmp_path):
    """By name, not by position; only galaxies of both stores; letters from top to bottom."""
    first = make_store("first.h5")
    with open_store(first) as store:
        objid, cutouts = store.objid, np.stack([store.cutouts(i) for i in range(12)])
    shifted = np.roll(objid, 4)
    shifted[:2] = ["1", "2"]
    second = make_store("second.h5", objid=shifted, cutouts=cutouts[..., :1])
    with open_store(first) as store, open_store(second) as other:
        selection = select_galaxies(store, Query(n=3), among=set(other.objid))
        assert selection.n_candidates == 10
        (fig,) = draw_compare(store, selection, DrawOptions(other=other)).pages
        titles = [ax.texts[1].get_text() for ax in fig.axes[::4]]
        chosen = [store.objid[index] for index in selection.indices]
        pairs = [objid for objid in chosen for _ in range(2)]
        expected = [f"({letter}) {o}" for letter, o in zip("abcdef", pairs, strict=True)]
        assert titles == expected
        for row, objid in zip(fig.axes[4::8], chosen, strict=True):
            (index,) = np.flatnonzero(other.objid == objid)
            np.testing.assert_array_equal(row.images[0].get_array(), other.cutouts(index))
    render_figure("compare", first, Query(n=3), tmp_path / "f.pdf", other=second)
    words = (tmp_path / "f.txt").read_text()
    assert "3 of the 10 simulated galaxies of the validation set, drawn at random" in words
    assert "(seed 256), among those that both stores hold.\n" in words
    assert (
        "The network of rows (b), (d), (f), conv3, was trained on 42 simulated galaxies in" in words
    )


def test_compare_needs_two_stores_of_the_same_classes(make_store, tmp_path):
    """One store, other classes, a galaxy of one store alone, and a needless store are refused."""
    first = make_store("first.h5")
    other = make_store("other.h5", class_names=("spiral", "elliptical"))
    far = make_store("far.h5", objid=np.array([f"x{i}" for i in range(12)], dtype=object))
    path = tmp_path / "f.pdf"
    for options, query, words in (
        ({}, Query(), "one store, expected two; name the second with `other`"),
        ({"other": other}, Query(), "expected the classes of"),
        ({"other": far}, Query(), "no galaxy that both stores hold"),
        ({"other": far}, Query(objids=("1237665024900858100",)), "not in the other store"),
    ):
        with pytest.raises((FigureError, SelectionError), match=words):
            render_figure("compare", first, query, path, **options)
    with pytest.raises(FigureError, match="takes no `other`, it is for compare"):
        render_figure("roc", first, Query(), path, other=first)
    with pytest.raises(FigureError, match="takes no `unit`, it is for radial-profile"):
        render_figure("roc", first, Query(), path, unit="z")


@pytest.mark.slow
def test_galaxies_that_trained_either_network_are_not_drawn(make_store):
    """Unless they are asked for by name, or by their split."""
    split = np.array(["train"] * 5 + ["valid"] * 7, dtype=object)
    first = make_store("a.h5", split=split)
    second = make_store("b.h5", split=split[::-1], seed=1)
    objid = [str(1237665024900858100 + index) for index in range(12)]
    for query, expected in (
        (Query(n=2), objid[5:7]),
        (Query(objids=(objid[0],)), objid[:1]),
        (Query(n=12, split="all"), objid),
    ):
        with draw_figure("compare", first, query, other=second) as (_, provenance):
            drawn = provenance["objid"]
            assert sorted(objid if drawn == "all" else drawn) == expected


def test_each_network_has_its_own_maps(make_store):
    """Layer and size of the second are not those of the first, and may show only a part."""
    first = make_store("a.h5")
    unknown = np.full(12, "", dtype=object)
    attrs = {"target_layer": "body.3", "layer_is_bypassed": True}
    second = make_store("b.h5", seed=1, map_size=6, attrs=attrs, split=unknown)
    with draw_figure("compare", first, Query(n=2), other=second) as (drawing, _):
        words = drawing.describe(PLAIN)
    assert "The maps of rows (a), (c) (Selvaraju et al. 2017) explain layer" in words
    assert (
        "Those of rows (b), (d) explain layer body.3 and have 6 × 6 pixels. The image also reaches "
        "the output of the network past this layer, so that these maps show only part of the "
        "evidence. Maps are interpolated" in words
    )
    assert words.count("Selvaraju") == words.count("only part of the evidence") == 1
    assert "2 galaxies of those shown may have trained the network of rows (b), (d)." in words
    assert "have trained the network of rows (a)" not in words
