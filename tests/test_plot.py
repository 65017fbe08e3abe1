"""Figures from Python: shown, described, saved, and drawn on a caller's axes."""

import inspect
import io
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from samples import HISTORY, write_small_audit

from galfig import plot
from galfig.errors import ConfigError, FigureError, OutputError
from galfig.figures.registry import FIGURES, render_figure
from galfig.store.reader import open_store
from galfig.store.selection import Query

# Figures of an audit are tried in tests/figures/test_audits.py.
OF_STORE = [name for name, kind in FIGURES.items() if kind.source == "store"]
ON_AXES = [name for name in OF_STORE if FIGURES[name].takes_axes]
PANELS = [name for name in OF_STORE if FIGURES[name].takes_panels]
SEVERAL = [name for name in OF_STORE if name not in (*ON_AXES, *PANELS)]
RATES = np.geomspace(1e-7, 1, 60).tolist()


@pytest.fixture
def store(make_store):
    """Open a store that has all that any figure shows."""
    training = {
        "arch": "conv3",
        "n_train": {"low": 20, "high": 22},
        "simulated": True,
        "history": HISTORY,
        "lr": 0.01,
        "lr_finder": {"lr": RATES, "loss": [1 - rate for rate in RATES]},
    }
    with open_store(make_store(attrs={"training": json.dumps(training)})) as opened:
        yield opened


@pytest.fixture
def draw(other_store, tmp_path):
    """Give a function that draws a figure by its name in the registry."""
    with open_store(other_store) as other:

        def call(name, store, *args, **options):
            function = getattr(plot, name.replace("-", "_"))
            second = {"other": other} if name == "compare" else {}
            if name == "attribution-vs":
                audit = write_small_audit(tmp_path / "a.h5")
                second = {"audit": audit, "column": "z"}
            return function(store, *args, **second, **options)

        yield call


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_STORE)
def test_every_figure_is_one_of_python(store, draw, other_store, name, tmp_path):
    """Shown, described, tabulated; and saved, after that, as galfig figure writes it."""
    found = draw(name, store)
    picture = Image.open(io.BytesIO(found._repr_png_()))
    assert min(picture.size) > 200
    assert len(np.unique(np.asarray(picture))) > 20
    files = found.save(tmp_path / "f.png")
    assert found.caption == (tmp_path / "f.txt").read_text().strip()
    assert found.alt == (tmp_path / "f.alt.txt").read_text().strip()
    assert len(found.data)
    assert set(found.data.attrs["descriptions"]) == set(found.data.columns)
    assert found.caption.splitlines()[0] in repr(found)

    given = {"other": other_store} if name == "compare" else {}
    if name == "attribution-vs":
        given = {"audit": tmp_path / "a.h5", "column": "z"}
    if name != "atlas":
        expected = render_figure(name, store.path, Query(n=None), tmp_path / "e.png", **given)
        for one, another in zip(files, expected, strict=True):
            assert one.read_bytes() == another.read_bytes(), one


@pytest.mark.parametrize("name", FIGURES)
def test_every_function_has_the_same_face(name):
    """The store, the galaxies, and axes by name."""
    function = getattr(plot, name.replace("-", "_"))
    parameters = inspect.signature(function).parameters
    is_of_store = FIGURES[name].source == "store"
    assert list(parameters)[: 1 + is_of_store] == (["store", "rows"] if is_of_store else ["audit"])
    assert parameters["ax"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "Parameters\n" in function.__doc__


@pytest.mark.parametrize("name", ON_AXES)
def test_axes_of_the_caller_are_drawn_on(store, draw, name):
    """In the caller's figure and style, beside other axes, which stay as they were."""
    with mpl.rc_context({"axes.facecolor": "0.9"}):
        fig = Figure(figsize=(6, 3))
        left, right = fig.subplots(1, 2)
    found = draw(name, store, ax=right)
    assert found.figure is fig
    assert found._repr_png_() is None
    assert right.has_data()
    assert right.get_xlabel()
    assert not left.has_data()
    assert right.get_facecolor() == mpl.colors.to_rgba("0.9")


@pytest.mark.parametrize("name", SEVERAL)
def test_figures_of_several_axes_take_none(store, draw, name):
    """They say so before anything is drawn."""
    ax = Figure().subplots()
    with pytest.raises(FigureError, match="has several axes, expected no `ax`"):
        draw(name, store, ax=ax)
    assert not ax.has_data()


@pytest.mark.parametrize("layout", ["rows", "grid"])
@pytest.mark.parametrize("name", PANELS)
def test_rows_are_drawn_on_axes_of_the_caller(store, draw, name, layout):
    """On an array of them: cutouts, maps and colour bars; of another number, none is touched."""
    plain = draw(name, store, style={"layout": layout})
    (page,) = plain._drawing.pages
    n = len(page.axes) // 4
    fig = Figure(figsize=(8, 2 * n) if layout == "rows" else (2 * n, 8))
    shape = (n, 4) if layout == "rows" else (4, n)
    axes = fig.subplots(*shape, squeeze=False)
    found = draw(name, store, ax=axes, style={"layout": layout, "scale": "row"})
    assert found.figure is fig
    assert found._repr_png_() is None
    assert all(ax.images for ax in axes.flat)
    assert found.alt == plain.alt
    other = Figure().subplots(n + 1, 4)
    with pytest.raises(FigureError, match=r"`ax`: axes in an array of .* expected \(\d+, \d+\)"):
        draw(name, store, ax=other, style={"layout": layout})
    assert not any(ax.has_data() for ax in other.flat)


def test_captions_say_how_galaxies_were_chosen(store):
    """By a selection its conditions; by hand that it was by hand; by default at random."""
    rows = store.select(true="high", n=3)
    assert "of true class high" in plot.panels(store, rows).caption
    by_hand = plot.panels(store, rows[:2]).caption
    assert "of true class" not in by_hand
    assert "chosen individually" in by_hand
    assert "chosen individually" in plot.panels(store, [0, 5]).caption
    assert "drawn at random (seed 256)" in plot.panels(store).caption
    assert plot.panels(store, "1237665024900858104").data["objid"].tolist() == [
        "1237665024900858104"
    ]


def test_rows_of_another_store_are_refused(store, make_store):
    """Their positions would name other galaxies."""
    rows = store.select(n=2)
    with (
        open_store(make_store("other.h5", attrs={"plan_digest": "another"})) as other,
        pytest.raises(FigureError, match="selected from another store"),
    ):
        plot.panels(other, rows)
    with pytest.raises(FigureError, match="hold no galaxy"):
        plot.panels(store, [])


def test_compare_names_a_galaxy_that_one_store_lacks(store, make_store):
    """Chosen by hand, it must be in both."""
    objid = np.array([f"g{n}" for n in range(12)], dtype=object)
    with (
        open_store(make_store("other.h5", objid=objid)) as other,
        pytest.raises(FigureError, match="expected it in both stores"),
    ):
        plot.compare(store, [0], other=other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["panels", "atlas", "confusion-matrix", "stacked-maps"])
def test_colour_map_is_an_argument(store, draw, name):
    """Another map gives other colours; an unknown one is named with the nearest."""
    plain, blue = (draw(name, store, cmap=cmap)._repr_png_() for cmap in (None, "viridis"))
    assert plain != blue
    with pytest.raises(FigureError, match="did you mean 'viridis'"):
        draw(name, store, cmap="virids")


def test_files_that_are_there_are_kept(store, tmp_path):
    """As on the command line."""
    found = plot.roc(store)
    found.save(tmp_path / "roc.pdf", data=tmp_path / "roc.ecsv")
    assert (tmp_path / "roc.ecsv").is_file()
    with pytest.raises(Exception, match="already exists"):
        found.save(tmp_path / "roc.pdf")


@pytest.mark.slow
def test_an_atlas_is_drawn_as_often_as_it_is_asked_for(store, tmp_path):
    """Shown first and saved after, with all of its pages."""
    found = plot.atlas(store)
    assert found._repr_png_() == found._repr_png_()
    found.save(tmp_path / "atlas.pdf")
    assert (tmp_path / "atlas.pdf").stat().st_size > 1000


def test_captions_of_galaxies_in_another_order_are_true(store):
    """The worst of a random draw are not the worst of all."""
    caption = plot.top_losses(store, store.select(n=4)).caption
    assert "loss among 4 of the 12 simulated galaxies of the validation set, drawn" in caption
    assert "among the 12 simulated galaxies of" in plot.top_losses(store).caption
    assert "down the columns, in the order given." in plot.atlas(store, [2, 0, 1]).caption


def test_caption_of_a_diagram_on_ones_own_axes_names_no_other_panel(store):
    """The numbers of galaxies are drawn on a figure of its own alone."""
    assert "Bottom: galaxies in each bin" in plot.reliability(store).caption
    own = plot.reliability(store, ax=Figure().subplots())
    assert "Bottom" not in own.caption
    assert "Below" not in own.alt


@pytest.mark.parametrize("word", ["overwrite", "skip", "update"])
def test_unknown_words_replace_nothing(store, tmp_path, word):
    """Only those that are documented."""
    found = plot.roc(store)
    (path, *_) = found.save(tmp_path / "roc.pdf")
    path.write_text("mine")
    with pytest.raises(ConfigError, match=f"`if_exists` '{word}': expected one of"):
        found.save(path, if_exists=word)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["a.txt", "a"])
def test_table_has_a_known_suffix_or_is_refused(store, tmp_path, name):
    """Nothing is written under a name that says nothing of its format."""
    drawn = plot.histogram(store)
    with pytest.raises(OutputError, match=r"suffix '.*', expected \.fits, \.csv, \.ecsv"):
        drawn.save(tmp_path / "new" / "a.pdf", data=tmp_path / "new" / name)
    assert not (tmp_path / "new").exists()
    with pytest.raises(OutputError, match="there is no folder '~' here"):
        drawn.save("~/a.pdf")
    assert not Path("~").exists()
