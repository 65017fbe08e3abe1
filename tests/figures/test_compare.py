"""Comparison of two stores: the same galaxies, by name."""

import numpy as np
import pytest

from galfig.errors import FigureError, SelectionError
from galfig.figures.captions import PLAIN
from galfig.figures.compare import draw as draw_compare
from galfig.figures.drawing import DrawOptions
from galfig.figures.registry import draw_figure, render_figure
from galfig.plot import compare
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
        selection = select_galaxies(store, Query(n=3), other=other)
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
    assert (
        "3 of the 10 simulated galaxies in the validation set of both networks, drawn at random "
        "(seed 256).\nThe 4 galaxies that only one of the stores holds are not shown.\n" in words
    )
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
    assert "The galaxies shown may have trained the network of rows (b), (d)." in words
    assert "have trained the network of rows (a)" not in words


@pytest.fixture
def apart(make_store):
    """Give two stores of the same galaxies, whose networks were trained on different ones."""
    first = np.array(["train"] * 5 + ["valid"] * 7, dtype=object)
    second = np.array(["valid"] * 2 + ["train"] * 6 + ["test"] + ["valid"] * 3, dtype=object)
    # Wrong for both: 8 and 9. Wrong for the second alone: 10.
    label = (np.arange(12) % 2).astype(np.int16)
    logits = [np.where(np.arange(2) == label[:, None], 2.0, 0.0) for _ in range(2)]
    for index, wrong in zip(range(2), ([8, 9], [8, 9, 10]), strict=True):
        logits[index][wrong] = logits[index][wrong, ::-1]
    logits = [values.astype(np.float32) for values in logits]
    probs = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in logits]
    real = {"simulated": False}
    return tuple(
        make_store(name, split=split, logits=x, probs=p, seed=seed, attrs=real)
        for name, split, x, p, seed in zip(
            ("a.h5", "b.h5"), (first, second), logits, probs, (0, 1), strict=True
        )
    )


def describe(stores, query):
    """Return the plain caption of a comparison."""
    with draw_figure("compare", stores[0], query, other=stores[1]) as (drawing, _):
        return drawing.describe(PLAIN)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        # 8 is of one test set and one validation set, 9 to 11 of both validation sets.
        (
            Query(n=2),
            "2 of the 4 galaxies of both stores that trained neither network, drawn at random "
            "(seed 256).\nThe 8 galaxies of both stores that trained one of the networks or both "
            "are not shown.\n",
        ),
        (Query(n=1, split="valid"), "1 of the 3 galaxies in the validation set of both networks,"),
        (Query(n=2, split="train"), "2 of the 3 galaxies that trained both networks, drawn"),
        (Query(n=2, split="all"), "2 of the 12 galaxies that both stores hold, drawn at random"),
        (
            Query(n=2, split="all", zmin=0.1),
            "2 of the 3 galaxies that both stores hold, with 0.1 < z, drawn",
        ),
    ],
)
def test_pool_is_what_both_networks_have_in_common(apart, query, words):
    """A caption once said that both stores hold 11 galaxies, of 352: those that trained neither."""
    assert words in describe(apart, query)


def test_galaxies_of_unknown_part_are_not_said_to_have_trained_nothing(make_store, apart):
    """A network from elsewhere may have been trained on any of them."""
    unknown = make_store("u.h5", seed=2, split=np.full(12, "", dtype=object))
    words = describe((unknown, apart[0]), Query(n=2))
    assert "of both stores that are not known to have trained either network, drawn" in words
    assert "The 5 galaxies of both stores that trained one of the networks or both are" in words


def test_conditions_on_the_output_name_their_network(apart):
    """The only galaxies that one network misclassifies are not those of the other."""
    words = describe(apart, Query(n=None, correct=False))
    by = "by the network of rows (a), (c)"
    assert (
        f"the 2 galaxies of both stores that trained neither network, classified incorrectly {by}"
        in words
    )
    words = describe(apart, Query(n=1, predicted="low"))
    assert "classified as low by the network of row (a)" in words
    words = describe(apart, Query(n=2, sort="loss"))
    assert "those with the largest loss of the network of rows (a), (c)." in words
    assert "From top to bottom, by decreasing loss of the network of rows (a), (c): " in words
    words = describe(apart, Query(n=1, sort="p"))
    assert "the one classified with the highest probability by the network of row (a)." in words
    words = describe(apart, Query(n=2, sort="redshift"))
    assert "those at the lowest redshift.\n" in words
    assert "From top to bottom, by increasing redshift: " in words


def test_galaxies_shared_by_no_split_are_explained(apart):
    """Both stores hold them; what is lacking is the split."""
    query = Query(split="test")
    with (
        pytest.raises(
            SelectionError, match="no galaxy that both stores hold in the test set of both"
        ),
        draw_figure("compare", apart[1], query, other=apart[0]),
    ):
        pass
    query = Query(n=2, where="objID == '1237665024900858100'")
    with (
        pytest.raises(
            SelectionError, match="that both stores hold and that trained neither net"
        ) as caught,
        draw_figure("compare", apart[0], query, other=apart[1]),
    ):
        pass
    assert "; 1 that trained one of the networks would be found" in str(caught.value)


def test_rows_of_one_store_are_told_as_such(apart):
    """In Python, galaxies may be selected before the second store is named."""
    with open_store(apart[0]) as store, open_store(apart[1]) as other:
        words = compare(store, store.select(n=2), other=other).caption
        assert (
            "2 of the 7 galaxies in the validation set of the network of rows (a), (c), dr" in words
        )
        words = compare(store, [9, 10], other=other).caption
        assert "2 galaxies in the validation set of both networks, chosen individually." in words
        words = compare(store, [0, 10], other=other).caption
        assert "2 galaxies, chosen individually." in words
        assert "1 of the galaxies shown trained the network of rows (a), (c)." in words
