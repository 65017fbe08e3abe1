"""Confusion matrix: counts, and shares of the true class."""

import numpy as np
from sklearn.metrics import confusion_matrix

from galfig.figures.captions import PLAIN
from galfig.figures.confusion_matrix import make_confusion_matrix
from galfig.figures.registry import draw_figure
from galfig.metrics import count_confusions
from galfig.store.selection import Query


def test_confusion_matrix_counts_as_scikit_learn():
    """Rows are true classes, columns predicted ones; fields give count and share of the row."""
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    counts = count_confusions(labels, predicted, 3)
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
    # The row is not shaded as 0 % is, but left blank and hatched.
    assert ax.images[0].get_array().mask.tolist() == [[False, False], [True, True]]
    (hatched,) = ax.patches
    assert hatched.get_hatch()
    assert hatched.get_bbox().bounds == (-0.5, 0.5, 2, 1)


def test_caption_names_classes_without_galaxies(make_store):
    """Their shares are not defined, in the figure, its caption and its table."""
    path = make_store()
    with draw_figure("confusion-matrix", path, Query(n=None, true="low")) as (drawing, _):
        words, table = drawing.describe(PLAIN), drawing.tabulate()
    assert (
        "No galaxy is of true class high-metallicity: its row is hatched, since no share is"
        in words
    )
    share = dict(zip(table["true"].values, table["share"].values, strict=True))
    assert np.isnan(share["high"])
    assert np.isfinite(share["low"])
    with draw_figure("confusion-matrix", path, Query(n=None)) as (drawing, _):
        assert "hatched" not in drawing.describe(PLAIN)
        assert not drawing.pages[0].axes[0].patches
