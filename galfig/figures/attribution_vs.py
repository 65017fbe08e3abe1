"""A statistic of each galaxy's map against a column of the catalog."""

import re
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import binom, norm, spearmanr

from galfig.config import NONLINEAR_METHODS
from galfig.errors import FigureError
from galfig.figures.captions import (
    PLAIN,
    Markup,
    count_noun,
    describe_sample,
    describe_training,
    introduce_column,
    join_lines,
    name_axis,
    name_column,
)
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.labels import escape_label, fit_label
from galfig.figures.style import (
    chart_size,
    find_figure,
    find_ink,
    open_axes,
    plot_legend,
    scale_font,
)
from galfig.runtime.messages import shorten, suggest
from galfig.store.audits import TEXTS, Audit
from galfig.store.reader import Store
from galfig.store.selection import Selection

DEFAULT = "brightness_correlation"
# Galaxies in a bin, and the most bins; fewer galaxies give no interval of a median.
_IN_BIN, _MAX_BINS, _MIN_GALAXIES = 20, 8, 10


class Trend(NamedTuple):
    """A statistic y against a column x.

    Attributes
    ----------
    x, median, low, high : (B,) ndarray of float64
        Median of x of each bin; median of y with its 95 % interval.
    n : (B,) ndarray of int
        Galaxies in each bin.
    correlation, correlation_low, correlation_high : float
        Spearman's rank correlation of x and y with its 95 % interval; NaN where one is constant.
    """

    x: NDArray[np.float64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: NDArray[np.intp]
    correlation: float
    correlation_low: float
    correlation_high: float


def measure_trend(x: NDArray[np.float64], y: NDArray[np.float64]) -> Trend:
    r"""Bin galaxies by x into bins of equal numbers, and take the median of y in each.

    Parameters
    ----------
    x, y : (n,) ndarray of float64
        Finite numbers, at least 10.

    Returns
    -------
    Trend

    Notes
    -----
    The interval of a median is between two of the sorted values, chosen by the binomial
    distribution, and so free of assumptions on that of y. The interval of the correlation r is
    symmetric in :math:`\operatorname{artanh} r`, with the standard error
    :math:`\sqrt{(1 + r^2 / 2) / (n - 3)}` [1]_.

    References
    ----------
    .. [1] Bonett & Wright 2000, Psychometrika 65, 23
    """
    n_bins = int(np.clip(len(x) // _IN_BIN, 1, _MAX_BINS))
    bins = np.array_split(np.argsort(x, kind="stable"), n_bins)
    median, low, high = np.array([_find_median(y[rows]) for rows in bins]).T
    return Trend(
        np.array([np.median(x[rows]) for rows in bins]),
        median,
        low,
        high,
        np.array([len(rows) for rows in bins]),
        *_correlate(x, y),
    )


def _find_median(y: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the median and its interval; that of the extremes where there are few values."""
    ordered, n = np.sort(y), len(y)
    # At most 2.5 % of samples have as few as `rank` values below their median.
    rank = int(binom.ppf(0.025, n, 0.5))
    rank = max(rank - 1 if binom.cdf(rank, n, 0.5) > 0.025 else rank, 0)
    return float(np.median(y)), float(ordered[rank]), float(ordered[n - 1 - rank])


def _correlate(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float, float]:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan"), float("nan"), float("nan")
    r = float(spearmanr(x, y).statistic)
    if abs(r) >= 1:
        return r, r, r
    error = norm.ppf(0.975) * np.sqrt((1 + r**2 / 2) / (len(x) - 3))
    low, high = np.tanh(np.arctanh(r) + np.array([-error, error]))
    return r, float(low), float(high)


def make_attribution_vs(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    trend: Trend,
    labels: tuple[str, str],
    width: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a statistic of maps against a column, with the medians of bins.

    Parameters
    ----------
    x, y : (n,) ndarray of float64
        The galaxies.
    trend : Trend
        The result of `measure_trend`.
    labels : (str, str)
        Labels of the axes, in which ``$...$`` is mathematics.
    width : float, optional
        Width of the figure [inch]; default one column.
    ax : Axes, optional
        Axes to draw on; a new figure by default.

    Returns
    -------
    Figure
    """
    with open_axes(ax, chart_size(width, 0.77)) as axes:
        plot_attribution_vs(x, y, trend, ax=axes)
        fig = find_figure(axes)
        room = 0.75 * fig.get_figwidth()
        axes.set_xlabel(fit_label(labels[0], room, scale_font(8)))
        axes.set_ylabel(fit_label(labels[1], 0.75 * fig.get_figheight(), scale_font(8)))
        return fig


def plot_attribution_vs(
    x: NDArray[np.float64], y: NDArray[np.float64], trend: Trend, *, ax: Axes
) -> None:
    """Draw galaxies as dots, and the median of each bin with its 95 % interval."""
    ax.plot(
        x, y, ".", color=find_ink(0.6), markersize=3, markeredgewidth=0, zorder=1, rasterized=True
    )
    errors = np.stack([trend.median - trend.low, trend.high - trend.median])
    drawn = ax.errorbar(
        trend.x,
        trend.median,
        yerr=errors,
        color="#0072B2",
        marker="o",
        markersize=3.5,
        linewidth=1,
        elinewidth=1,
        zorder=2,
    )
    if np.isfinite(trend.correlation):
        value, low, high = _format_correlation(trend)
        words = f"Spearman {value} [{low}, {high}]"
        plot_legend([drawn], [words], ax=ax, loc="best")


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies of a selection that an audit of the store measured."""
    audit, column, statistic = options.audit, options.column, options.statistic or DEFAULT
    if audit is None or column is None:
        raise FigureError("attribution-vs: expected an `audit` and a `column`")
    if audit.record.store.plan_digest not in (store.record.plan_digest, store.whole_digest):
        raise FigureError(
            f"{audit.path}: an audit of another store than {store.path}; audit this one"
        )
    x_all = _read_column(store, column)
    position = store.names.find([*audit.objid])
    row_of = np.full(len(store), -1, np.intp)
    row_of[position[position >= 0]] = np.flatnonzero(position >= 0)
    indices = selection.indices[row_of[selection.indices] >= 0]
    n_audited = len(indices)
    x = x_all[indices]
    y = _read_statistic(audit, statistic)[row_of[indices]]
    is_known = np.isfinite(x) & np.isfinite(y)
    x, y, indices = x[is_known], y[is_known], indices[is_known]
    if len(x) < _MIN_GALAXIES:
        raise FigureError(
            f"attribution-vs: {count_noun(len(x))} with both {column!r} and {statistic!r}, "
            f"expected at least {_MIN_GALAXIES}; select more, or audit with a larger `n`"
        )
    trend = measure_trend(x, y)
    unit = audit.columns[statistic].unit
    own = f"{statistic.replace('_', ' ')}{f' [{unit}]' if unit else ''}"
    labels = (name_axis(store, column), store.labels.get(statistic, escape_label(own)))
    words = tuple(PLAIN.label(name_column(store, name)) for name in (statistic, column))
    return Drawing(
        "attribution-vs",
        " against ".join(words),
        (make_attribution_vs(x, y, trend, labels, options.width, options.ax),),
        partial(_describe, store, selection, audit, trend, (column, statistic), n_audited),
        f"The statistic {words[0]} of the maps against {words[1]} of {count_noun(len(x))}"
        + (
            ": Spearman correlation {}, from {} to {}.".format(*_format_correlation(trend))
            if np.isfinite(trend.correlation)
            else "; one of the two is constant."
        ),
        partial(_tabulate, store.objids(indices), x, y, (column, statistic), audit),
    )


def _format_correlation(trend: Trend) -> tuple[str, str, str]:
    """Write the correlation and the ends of its interval; what rounds to zero has no sign."""
    numbers = (trend.correlation, trend.correlation_low, trend.correlation_high)
    value, low, high = (f"{number:.2f}".replace("-0.00", "0.00") for number in numbers)
    return value, low, high


def _read_column(store: Store, column: str) -> NDArray[np.float64]:
    columns = store.column_names
    if column not in columns:
        hint = suggest(column, columns, f"expected one of {shorten(columns)}")
        raise FigureError(f"{store.path}: `column` {column!r}: no column of the catalog; {hint}")
    numbers = pd.to_numeric(store.column(column), errors="coerce")
    found = numbers.to_numpy(np.float64, na_value=np.nan)
    if not np.isfinite(found).any():
        raise FigureError(f"{store.path}: `column` {column!r} holds no number, expected some")
    return np.asarray(found, np.float64)


def _read_statistic(audit: Audit, statistic: str) -> NDArray[np.float64]:
    known = [name for name in audit.columns if name not in TEXTS]
    if statistic not in known:
        hint = suggest(statistic, known, f"expected one of {', '.join(known)}")
        raise FigureError(f"{audit.path}: `statistic` {statistic!r}: no column of numbers; {hint}")
    return np.asarray(audit.columns[statistic].values, np.float64)


def _tabulate(
    objid: NDArray[np.object_],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    names: tuple[str, str],
    audit: Audit,
) -> Mapping[str, Column]:
    found = audit.columns[names[1]]
    return {
        "objid": Column(objid.astype(str), "identifier, as in the catalog"),
        f"x_{names[0]}": Column(x, f"column {names[0]} of the catalog"),
        f"y_{names[1]}": Column(y, found.description, found.unit),
    }


def _define_map(audit: Audit) -> str:
    """Say which map of a galaxy statistics are of."""
    method = audit.record.store.method
    if method in NONLINEAR_METHODS:
        return "M is the map of the predicted class."
    return "M is the evidence map of the predicted class."


def _describe(
    store: Store,
    selection: Selection,
    audit: Audit,
    trend: Trend,
    names: tuple[str, str],
    n_audited: int,
    markup: Markup,
) -> str:
    column = introduce_column(store, names[0], markup)
    statistic = markup.label(name_column(store, names[1]))
    n = int(trend.n.sum())
    n_absent, n_unknown = len(selection.indices) - n_audited, n_audited - n
    left_out = [
        f"{count_noun(number)} {words}"
        for number, words in (
            (n_absent, "that the audit did not measure"),
            (n_unknown, "without finite values of both"),
        )
        if number
    ]
    nearly = "nearly " if np.ptp(trend.n) else ""
    points = (
        f"points are medians of {len(trend.n)} bins of {nearly}equal numbers of galaxies, with "
        f"95{markup.percent} intervals"
        if len(trend.n) > 1
        else f"the point is the median of all, with a 95{markup.percent} interval"
    )
    value, low, high = _format_correlation(trend)
    correlation = (
        f"Spearman's correlation is {value}, with a 95{markup.percent} interval from {low} to "
        f"{high} ({markup.text('Bonett & Wright')} 2000)."
        if np.isfinite(trend.correlation)
        else "One of the two is constant, so that no correlation is defined."
    )
    description = audit.columns[names[1]].description
    return join_lines(
        f"{statistic} ({markup.text(description)}) against {column}, for "
        f"{describe_sample(store, selection, markup)}.",
        f"Of these, {n} are shown; left out are {' and '.join(left_out)}." if left_out else "",
        _define_map(audit) if "M" in re.findall(r"\w+", description) else "",
        f"Dots are galaxies; {points} between order statistics.",
        correlation,
        "A trend says what the statistic goes with, and not what the network uses.",
        describe_training(store, markup),
    )
