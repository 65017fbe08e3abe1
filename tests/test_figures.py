"""Figures of statistics: the right numbers on the axes, and errors where a store lacks them."""

import json

import numpy as np
import pytest
from pypdf import PdfReader
from sklearn.metrics import auc, confusion_matrix, roc_auc_score

from galfig.errors import FigureError, SelectionError
from galfig.figures.confusion_matrix import count_classes, make_confusion_matrix
from galfig.figures.learning_rate import make_learning_rate
from galfig.figures.registry import FIGURES, render_figure
from galfig.figures.roc import compute_roc, make_roc
from galfig.figures.training_curves import make_training_curves
from galfig.selection import Query
from galfig.store import open_store

HISTORY = [
    {"train_loss": 0.7, "valid_loss": 0.6, "accuracy": 0.6, "roc_auc": 0.7, "f1": 0.55},
    {"train_loss": 0.5, "valid_loss": 0.5, "accuracy": 0.8, "roc_auc": 0.9, "f1": 0.79},
]
RATES = np.geomspace(1e-7, 10, 100)
LOSSES = 0.7 - 0.3 * np.exp(-((np.log10(RATES) + 1) ** 2)) + np.maximum(0, RATES - 3)


@pytest.fixture
def trained_store(make_store):
    training = {
        "arch": "conv3",
        "n_train": {"low": 20, "high": 22},
        "simulated": True,
        "history": HISTORY,
        "lr": 0.01,
        "lr_finder": {"lr": RATES.tolist(), "loss": LOSSES.tolist()},
    }
    return make_store(attrs={"training": json.dumps(training)})


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_written_with_its_caption(trained_store, tmp_path, name):
    """Each draws from the store alone, the same bytes twice, TrueType only, a caption beside it."""
    files = []
    for folder in ("one", "two"):
        path = tmp_path / folder / f"{name}.pdf"
        written = render_figure(name, trained_store, Query(n=None), path)
        files.append([file.read_bytes() for file in written])
    assert files[0] == files[1]
    page = PdfReader(path).pages[0]
    assert float(page.mediabox.width) <= 7.1 * 72 + 0.1
    fonts = [font.get_object()["/Subtype"] for font in page["/Resources"]["/Font"].values()]
    assert set(fonts) == {"/Type0"}
    words = path.with_suffix(".txt").read_text()
    assert "simulated" in words
    assert words.endswith("\n")
    assert all(line.endswith(".") for line in words.splitlines())
    assert PdfReader(path).metadata["/Keywords"].startswith(f'{{"figure": "{name}"')


def test_unknown_figure_lists_the_known(trained_store, tmp_path):
    """A misspelt name is answered with all names."""
    with pytest.raises(FigureError, match="expected one of panels, training-curves"):
        render_figure("rocs", trained_store, Query(), tmp_path / "f.pdf")


def test_training_curves_show_the_history():
    """Two losses and three metrics, an epoch a point."""
    losses, metrics = make_training_curves(HISTORY).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in [*losses.lines, *metrics.lines]}
    assert drawn == {
        "training": [0.7, 0.5],
        "validation": [0.6, 0.5],
        "accuracy": [0.6, 0.8],
        "ROC AUC": [0.7, 0.9],
        "F1": [0.55, 0.79],
    }
    assert list(losses.lines[0].get_xdata()) == [1, 2]
    assert losses.get_ylim()[0] == 0


def test_learning_rate_marks_the_rate_on_the_curve():
    """The chosen rate lies on the curve, and the explosion does not flatten it."""
    (ax,) = make_learning_rate(RATES, LOSSES, 0.01).axes
    curve, point = ax.lines
    np.testing.assert_array_equal(curve.get_ydata(), LOSSES)
    assert point.get_xdata()[0] == 0.01
    assert point.get_ydata()[0] == pytest.approx(np.interp(0.01, RATES, LOSSES), abs=2e-3)
    assert ax.get_xscale() == "log"
    assert ax.get_ylim()[1] < 2


@pytest.mark.parametrize("missing", ["history", "lr_finder"])
def test_network_without_a_history_says_so(make_store, tmp_path, missing):
    """What the checkpoint does not record cannot be drawn."""
    name = {"history": "training-curves", "lr_finder": "learning-rate"}[missing]
    with pytest.raises(FigureError, match="expected one by"):
        render_figure(name, make_store(), Query(n=None), tmp_path / "f.pdf")


def test_confusion_matrix_counts_as_scikit_learn():
    """Rows are true classes, columns predicted ones; fields give count and share of the row."""
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    counts = count_classes(labels, predicted, 3)
    np.testing.assert_array_equal(counts, confusion_matrix(labels, predicted))
    (ax,) = make_confusion_matrix(counts, ["E", "S$0$", "Sp"], "Z").axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Predicted Z", "True Z")
    share = 100 * counts[0, 1] / counts[0].sum()
    assert ax.texts[1].get_text() == f"{counts[0, 1]}\n{share:.0f}%"
    assert ax.images[0].get_clim() == (0, 1)
    np.testing.assert_allclose(ax.images[0].get_array().sum(axis=1), 1)


def test_class_without_galaxies_has_no_shares():
    """An empty row of a confusion matrix is zeros, not a division by zero."""
    (ax,) = make_confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"]).axes
    assert [text.get_text() for text in ax.texts] == ["3\n75%", "1\n25%", "0", "0"]
    assert ax.get_xlabel() == "Predicted"


def test_roc_area_and_its_interval():
    """The area is scikit-learn's and the curve's; the interval covers a known truth."""
    rng = np.random.default_rng(1)
    is_class = np.repeat([True, False], 200)
    p = np.where(is_class, rng.normal(1, 1, 400), rng.normal(0, 1, 400))
    curve = compute_roc("high", is_class, p)
    assert curve.area == pytest.approx(roc_auc_score(is_class, p))
    area = auc(curve.false_positive_rate, curve.true_positive_rate)
    assert area == pytest.approx(curve.area)
    # Two unit normals a standard deviation apart: Phi(1 / sqrt 2) = 0.760.
    assert curve.low < 0.760 < curve.high
    assert 0.05 < curve.high - curve.low < 0.13
    assert compute_roc("high", is_class, p).low == curve.low
    (ax,) = make_roc([curve]).axes
    assert ax.get_legend().get_texts()[0].get_text().startswith(f"high: {curve.area:.3f} [")


def test_roc_of_two_classes_is_one_curve_and_of_three_are_three(make_store, tmp_path):
    """Beyond two classes, each has its own curve against the rest."""
    two = make_store("two.h5")
    three = make_store("three.h5", class_names=("a", "b", "c"), quantity="")
    for store, n_areas in ((two, 1), (three, 3)):
        render_figure("roc", store, Query(n=None), tmp_path / f"{n_areas}.pdf")
        words = (tmp_path / f"{n_areas}.txt").read_text()
        assert words.count(" to 1.000)") + words.count(" to 0.") == n_areas


def test_statistics_follow_the_selection(trained_store, tmp_path):
    """A condition changes the galaxies that are counted, and the caption says which."""
    render_figure("confusion-matrix", trained_store, Query(n=None, zmin=0.05), tmp_path / "f.pdf")
    with open_store(trained_store) as store:
        n = int(np.sum(store.redshift > 0.05))
    words = (tmp_path / "f.txt").read_text()
    assert f"the {n} simulated galaxies of the validation set with 0.05 < z." in words
    with pytest.raises(FigureError, match="no galaxy of class 'high-metallicity' is chosen"):
        render_figure("roc", trained_store, Query(n=None, true="low"), tmp_path / "r.pdf")


def test_unlabelled_store_has_no_statistics(make_store, tmp_path):
    """Without true classes there is nothing to count."""
    store = make_store(label=np.full(12, -1, np.int16))
    for name in ("roc", "confusion-matrix"):
        with pytest.raises(SelectionError, match="no galaxy has a true class"):
            render_figure(name, store, Query(n=None), tmp_path / "f.pdf")
