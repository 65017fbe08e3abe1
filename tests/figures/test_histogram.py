"""Histogram: the classes as they were binned."""

import json

import numpy as np
import pytest

from galfig.errors import FigureError
from galfig.figures.histogram import _bins_between, make_histogram
from galfig.figures.registry import render_figure
from galfig.store.selection import Query


def test_histogram_counts_as_pandas_cuts():
    """A value on an edge is counted below it; bins are of one width and none crosses an edge."""
    edges, labels = [8.1, 8.7, 9.1, 9.3], ["low", "medium", "high"]
    value = np.array([8.1, 8.2, 8.7, 8.7000001, 9.1, 9.2, 9.3, 9.4])
    (ax,) = make_histogram(value, edges, labels, "O/H").axes
    counts = {}
    for container in ax.containers:
        low = min(bar.get_x() for bar in container if bar.get_height())
        counts[round(low, 1)] = sum(bar.get_height() for bar in container)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "low (2)",
        "medium (2)",
        "high (2)",
    ]
    assert sorted(counts.values()) == [2, 2, 2]
    # Edges do not run through its samples.
    assert ax.get_legend().get_frame().get_alpha() == 1
    assert ax.get_legend().get_frame().get_visible()
    bars = ax.containers[0]
    widths = [bar.get_width() for bar in bars]
    np.testing.assert_allclose(widths, widths[0])
    starts = [bar.get_x() for bar in bars]
    for edge in edges[:-1]:
        assert np.min(np.abs(np.array(starts) - edge)) < 1e-9
    assert ax.get_xlabel() == "O/H"


def test_bins_of_very_many_galaxies_are_not_more():
    """Twice the root of the number up to 10 000 galaxies; a million have as many bars as those."""
    edges = [8.1, 8.7, 9.1, 9.3]
    n_bins = [len(_bins_between(edges, n)) - 1 for n in (100, 1000, 10_000, 10**6, 10**7)]
    assert n_bins[0] < n_bins[1] < n_bins[2] == n_bins[3] == n_bins[4]
    assert n_bins[2] == pytest.approx(200, rel=0.1)


def test_histogram_needs_numbers(make_store, tmp_path):
    """Classes of text have no histogram."""
    attrs = {"config": json.dumps({"classes": {"column": "morphology"}})}
    store = make_store(attrs=attrs, value=np.full(12, np.nan))
    with pytest.raises(FigureError, match="no number was binned"):
        render_figure("histogram", store, Query(n=None), tmp_path / "f.pdf")
