"""Confusion matrix: counts, and shares of the true class."""

import numpy as np
from sklearn.metrics import confusion_matrix

from galfig.figures.confusion_matrix import make_confusion_matrix
from galfig.metrics import count_confusions


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
