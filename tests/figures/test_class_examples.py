"""Class examples: galaxies of each class, named."""

import numpy as np
import pytest

from galfig.errors import FigureError
from galfig.figures.captions import PLAIN
from galfig.figures.class_examples import draw as draw_examples
from galfig.figures.drawing import DrawOptions
from galfig.figures.registry import draw_figure
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies


def test_class_examples_are_of_their_class(trained_store):
    """Each row shows galaxies of one true class, named, at most six."""
    with open_store(trained_store) as store:
        drawing = draw_examples(store, select_galaxies(store, Query(n=None)), DrawOptions())
        (fig,) = drawing.pages
        shown = [ax.texts[1].get_text().replace("\n", "") for ax in fig.axes]
        label = dict(zip(store.objid, store.label, strict=True))
    assert len(shown) == 12
    assert [label[objid] for objid in shown] == [0] * 6 + [1] * 6
    rows = [text.get_text() for text in fig.texts]
    assert rows == ["low-metallicity", "high-metallicity"]


def test_classes_without_galaxies_have_no_row(make_store):
    """They are named in the caption, and the figure is as tall as its rows."""
    path = make_store(class_names=("a", "b", "c"), quantity="")
    with draw_figure("class-examples", path, Query(n=None, true="b")) as (drawing, _):
        words, alt, (fig,) = drawing.describe(PLAIN), drawing.alt, drawing.pages
    assert ": 4 of 4 b.\nNone of them is of class a or c.\n" in words
    assert alt == "A row of cutouts of galaxies of true class b."
    assert [text.get_text() for text in fig.texts] == ["b"]
    assert fig.get_figheight() < 1.5
    with draw_figure("class-examples", path, Query(n=None)) as (drawing, _):
        assert "None of them" not in drawing.describe(PLAIN)
        assert drawing.alt.endswith("a row for each true class: a, b and c.")
    many = tuple("abcdefghijkl")
    path = make_store("many.h5", class_names=many, quantity="")
    with draw_figure("class-examples", path, Query(n=None, where="z < 0.04")) as (drawing, _):
        assert "\nNone of them is of class c, d, e, f, g, h, i, j or 2 more.\n" in drawing.describe(
            PLAIN
        )
    label = np.array([0, -1] * 6, np.int16)
    path = make_store("some.h5", label=label)
    query = Query(objids=("1237665024900858101",))
    with (
        pytest.raises(FigureError, match="none of these galaxies has a true class"),
        draw_figure("class-examples", path, query),
    ):
        pass
