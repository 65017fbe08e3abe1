"""Few and many classes: every figure is drawn, or says in one line what it cannot show."""

import json
from itertools import pairwise

import numpy as np
import pytest
from pypdf import PdfReader

from galfig.errors import FigureError
from galfig.figures.choice import choose_maps, find_classes
from galfig.figures.confusion_matrix import make_confusion_matrix
from galfig.figures.histogram import make_histogram
from galfig.figures.registry import FIGURES, find_figure, render_figure
from galfig.store.reader import open_store
from galfig.store.selection import Query

OF_GALAXIES = [
    name
    for name, kind in FIGURES.items()
    if kind.shows_galaxies and name not in ("compare", "histogram", "attribution-vs")
]


@pytest.fixture
def make_classified(make_store):
    """Give a function that writes a store with C classes, each with some galaxies."""

    def make(n_classes):
        rng = np.random.default_rng(0)
        n = max(2 * n_classes, 12)
        label = (np.arange(n) % n_classes).astype(np.int16)
        logits = rng.normal(0, 1, (n, n_classes)).astype(np.float32)
        logits[np.arange(n), label] += 3 * rng.random(n).astype(np.float32)
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        names = tuple(f"bin {number}" for number in range(n_classes))
        return make_store(
            f"{n_classes}.h5",
            n=n,
            size=12,
            map_size=6,
            class_names=names,
            quantity="",
            attrs={"class_counts": json.dumps(dict.fromkeys(names, 2))},
            logits=logits,
            probs=probs,
        )

    return make


@pytest.mark.parametrize("n_classes", [2, 3, 10, 43, 50, 180])
def test_confusion_matrix_is_drawn_for_any_number(n_classes):
    """Cells hold numbers while they are large enough; names never run into each other."""
    counts = np.random.default_rng(0).integers(0, 5, (n_classes, n_classes))
    fig = make_confusion_matrix(counts, [f"bin {number}" for number in range(n_classes)])
    fig.canvas.draw()
    ax = fig.axes[0]
    assert bool(ax.texts) == (n_classes <= 10)
    for labels, low, high in (
        (ax.get_xticklabels(), "x0", "x1"),
        (ax.get_yticklabels(), "y0", "y1"),
    ):
        assert 2 <= len(labels) <= 50
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda b: b.x0 + b.y0)
        if high == "y1":
            boxes = sorted(boxes, key=lambda box: box.y0)
        for one, another in pairwise(boxes):
            assert getattr(one, high) <= getattr(another, low) + 1
    if n_classes <= 10:
        widths = [text.get_window_extent().width for text in ax.texts]
        assert max(widths) < ax.bbox.width / n_classes


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 3, 10, 50, 180, 1000])
def test_each_figure_is_drawn_or_refused_in_a_line(make_classified, tmp_path, n_classes):
    """Two classes: all. More: what a page holds, and otherwise what would be."""
    store = make_classified(n_classes)
    refused = {}
    for name in OF_GALAXIES:
        n = find_figure(name).n or (3 if name == "atlas" else None)
        try:
            render_figure(name, store, Query(n=n), tmp_path / f"{name}.pdf")
            (page,) = PdfReader(tmp_path / f"{name}.pdf").pages
            assert float(page.mediabox.height) < 72 * 9.3
            assert len((tmp_path / f"{name}.txt").read_text()) < 4000
        except FigureError as exc:
            refused[name] = str(exc)
    assert all("\n" not in words and "expected" in words for words in refused.values())
    always = {"confusion-matrix", "reliability", "top-losses", "panels", "evidence"}
    always.add("feature-space")
    assert not always & set(refused)
    if n_classes <= 3:
        assert not refused
    if n_classes >= 50:
        assert set(refused) == set(OF_GALAXIES) - always
        assert "'panels' shows two maps of each galaxy" in refused["stacked-maps"]


def test_wider_panels_are_named_where_they_help(make_classified, tmp_path):
    """The width that the message asks for is one at which the figure is drawn."""
    store = make_classified(10)
    every_class = [f"bin {number}" for number in range(10)]
    with pytest.raises(FigureError, match=r"draw it ([\d.]+) inches wide") as caught:
        render_figure("panels", store, Query(n=1), tmp_path / "p.png", classes=every_class)
    width = str(caught.value).split("draw it ")[1].split()[0]
    out = tmp_path / "p.png"
    render_figure("panels", store, Query(n=1), out, width=width, classes=every_class)


def test_histogram_of_many_bins_has_no_legend():
    """Nine classes could not be told apart; all galaxies are drawn all the same."""
    value = np.random.default_rng(0).uniform(0, 1, 500)
    for n_classes in (8, 9, 180):
        edges = np.linspace(0, 1, n_classes + 1).round(6)
        fig = make_histogram(value, edges, list(map(str, range(n_classes))), "z")
        (ax,) = fig.axes
        assert (ax.get_legend() is None and not fig.legends) == (n_classes > 8)
        assert sum(bar.get_height() for c in ax.containers for bar in c) == 500


@pytest.mark.slow
def test_a_pile_of_confusions_reads_each_galaxy_once(make_classified, tmp_path, monkeypatch):
    """Pairs of classes that are not drawn are not averaged."""
    path = make_classified(5)
    with open_store(path) as store:
        kind = type(store)
    read = []
    cams = kind.cams
    monkeypatch.setattr(kind, "cams", lambda store, rows: read.append(rows) or cams(store, rows))
    render_figure("stacked-maps", path, Query(n=None), tmp_path / "s.pdf")
    assert len(read) == len(set(read)) <= 12


def test_rows_of_many_classes_show_two_maps(make_classified, tmp_path):
    """Beyond four classes, the true and the predicted one; or those that are asked for."""
    path = make_classified(10)
    with open_store(path) as store:
        wrong = int(np.flatnonzero(store.predicted != store.label)[0])
        right = int(np.flatnonzero(store.predicted == store.label)[0])
        assert choose_maps(store, wrong, ()) == [store.label[wrong], store.predicted[wrong]]
        runner_up = int(np.argsort(store.probs[right])[-2])
        assert choose_maps(store, right, ()) == [store.predicted[right], runner_up]
        assert find_classes(store, ["bin 3,bin 1", "bin 3"]) == (3, 1)
        with pytest.raises(FigureError, match="`classes` 'bin 33': not a class"):
            find_classes(store, ["bin 33"])
    out = tmp_path / "p.png"
    render_figure("panels", path, Query(n=3), out)
    words = out.with_suffix(".txt").read_text()
    assert "maps for two of the 10 classes: the true and the predicted one" in words
    render_figure(
        "panels", path, Query(n=3), out, classes=["bin 2", "bin 0", "bin 9"], if_exists="replace"
    )
    assert "maps for bin 2, bin 0 and bin 9, drawn" in out.with_suffix(".txt").read_text()
    with pytest.raises(FigureError, match="takes no `classes`"):
        render_figure("roc", path, Query(), tmp_path / "roc.png", classes=["bin 2"])
