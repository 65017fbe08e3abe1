"""Deletion and insertion: the probability as pixels go or come, by the map and by each control."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.figures.audits import describe_audited, format_numbers, require_measure
from galfig.figures.captions import Markup, count_noun, join_lines
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.rows import find_room
from galfig.figures.style import (
    LINE_STYLES,
    fill_page,
    find_ink,
    list_curve_colors,
    paper_style,
    scale_font,
    spell_missing,
)
from galfig.records import Measured
from galfig.store.audits import Audit

MEASURES = ("deletion", "insertion")
_LABELS = {"deletion": "Share of pixels removed", "insertion": "Share of pixels inserted"}
_SHARE, _LOW, _HIGH, _MAP = "share", " low", " high", "map"


def make_audit_curves(measures: Mapping[str, Measured], width: float | None = None) -> Figure:
    """Draw mean curves of the probability, one panel for each measure.

    Parameters
    ----------
    measures : mapping of str to Measured
        Deletion, insertion or both, by name.
    width : float, optional
        Width of the figure [inch]; default the text.

    Returns
    -------
    Figure
        The curve of the map is thick; bands are 1.96 standard errors of the mean.
    """
    n_curves = max(len(list_curves(found)) for found in measures.values())
    with paper_style():
        asked, (width, _) = width, find_room(width)
        is_wide = width > 5 and len(measures) > 1
        shape = (1, len(measures)) if is_wide else (len(measures), 1)
        height = shape[0] * 0.72 * width / shape[1] + 0.16 * -(-n_curves // (3 if width > 5 else 2))
        fig = Figure(figsize=fill_page(asked, (width, height)), layout="constrained")
        panels = fig.subplots(*shape, squeeze=False, sharey=is_wide).ravel()
        lines: dict[str, Any] = {}
        for (name, found), ax in zip(measures.items(), panels, strict=True):
            lines |= plot_audit_curves(found, ax=ax)
            ax.set_xlabel(_LABELS.get(name, _SHARE))
            ax.set_title(name.capitalize(), fontsize=scale_font(8))
        for ax in panels[:: len(panels) if is_wide else 1]:
            ax.set_ylabel("Probability of the predicted class")
        fig.legend(
            lines.values(),
            [spell_missing(name) for name in lines],
            loc="outside lower center",
            ncols=3 if width > 5 else 2,
            fontsize=scale_font(7),
        )
    return fig


def plot_audit_curves(measured: Measured, *, ax: Axes) -> dict[str, Any]:
    """Draw the curves of a measure that were made with its main fill; return its lines by name."""
    share = np.array(measured.curves[_SHARE])
    lines, colors = {}, list_curve_colors()
    for number, (name, (mean, low, high)) in enumerate(list_curves(measured).items()):
        is_map = name == _MAP
        style: dict[str, Any] = {
            "color": find_ink() if is_map else colors[(number - 1) % len(colors)],
            "linestyle": "-" if is_map else LINE_STYLES[(number - 1) % len(LINE_STYLES)],
            "linewidth": 1.8 if is_map else 1.0,
        }
        if low is not None and high is not None:
            ax.fill_between(share, low, high, color=style["color"], alpha=0.18, linewidth=0)
        (lines[name],) = ax.plot(share, mean, zorder=3 if is_map else 2, **style)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    return lines


_Band = NDArray[np.float64] | None


def list_curves(
    measured: Measured, *, with_fills: bool = False
) -> dict[str, tuple[NDArray[np.float64], _Band, _Band]]:
    """Return the curves of deletion or insertion with their bands, that of the map first.

    Parameters
    ----------
    measured : Measured
        What the measure found. The names of curves of other than its main fill have a comma.
    with_fills : bool, default False
        Whether to return those, too.

    Returns
    -------
    dict of str to (mean, low, high)
        The mean over galaxies, and 1.96 standard errors below and above it, or None.
    """
    curves = measured.curves
    bands = {f"{name}{end}" for name in curves for end in (_LOW, _HIGH)}
    names = [
        name
        for name in curves
        if name != _SHARE and name not in bands and (with_fills or "," not in name)
    ]

    def get(name: str) -> _Band:
        return np.array(curves[name], np.float64) if name in curves else None

    names.sort(key=lambda name: name != _MAP)
    return {
        name: (np.array(curves[name], np.float64), get(f"{name}{_LOW}"), get(f"{name}{_HIGH}"))
        for name in names
    }


def draw(audit: Audit, options: DrawOptions) -> Drawing:
    """Draw the curves of the deletion and the insertion of an audit."""
    found = require_measure(audit, MEASURES, "audit-curves")
    shown = require_measure(audit, [name for name in found if found[name].curves], "audit-curves")
    return Drawing(
        "audit-curves",
        "Deletion and insertion",
        (make_audit_curves(shown, options.width),),
        partial(_describe, audit, shown),
        f"Mean probability of the predicted class of {count_noun(len(audit))} against the share of "
        f"pixels for {' and '.join(shown)}, by the order of the map and of its controls. "
        + " ".join(_state_excess(name, one) for name, one in shown.items()),
        partial(_tabulate, shown),
    )


def _state_excess(name: str, measured: Measured) -> str:
    """State the excess over light of a measure; "" where it was not given."""
    excess = measured.numbers.get("excess over light")
    if excess is None:
        return ""
    value, low, high = format_numbers(excess)
    return f"The excess over light of the {name} is {value}, from {low} to {high}."


def _state_subset(measures: Mapping[str, Measured]) -> str:
    """Say which curves are of some of the galaxies only; "" where all are of the same."""
    n_of = {
        name: measured.controls[name].n
        for measured in measures.values()
        for name in list_curves(measured)
        if name in measured.controls
    }
    fewer = [name for name, n in n_of.items() if n < max(n_of.values())]
    if not fewer:
        return ""
    words = fewer[0] if len(fewer) == 1 else f"{', '.join(fewer[:-1])} and {fewer[-1]}"
    n = min(n_of[name] for name in fewer)
    return f"The curves {words} are of {n} of the galaxies, spread evenly over them."


def _tabulate(measures: Mapping[str, Measured]) -> dict[str, Column]:
    rows: list[tuple[str, str, float, float, float, float]] = []
    for measure, found in measures.items():
        share = found.curves[_SHARE]
        for name, (mean, low, high) in list_curves(found, with_fills=True).items():
            bands = [np.full(len(share), np.nan) if band is None else band for band in (low, high)]
            rows += [
                (measure, name, *numbers)
                for numbers in zip(share, mean.tolist(), *(b.tolist() for b in bands), strict=True)
            ]
    columns = list(zip(*rows, strict=True))
    described = {
        "measure": "deletion or insertion",
        "order": "by what pixels are ordered, and the fill where it is not sky",
        "share": "share of the pixels that are removed or inserted",
        "p": "mean probability of the predicted class",
        "low": "1.96 standard errors of the mean below it, NaN where unknown",
        "high": "1.96 standard errors of the mean above it, NaN where unknown",
    }
    return {
        name: Column(list(values), words)
        for (name, words), values in zip(described.items(), columns, strict=True)
    }


def _describe(audit: Audit, measures: Mapping[str, Measured], markup: Markup) -> str:
    has_bands = any(
        low is not None for found in measures.values() for _, low, _ in list_curves(found).values()
    )
    parts = {
        "deletion": "as pixels are removed (lower is better)",
        "insertion": "as pixels are inserted (higher is better)",
    }
    what = " and ".join(words for name, words in parts.items() if name in measures)
    return join_lines(
        f"Mean probability of the predicted class {what}, in the order of the maps and of their "
        "controls.",
        "Shuffled pixels of the sky of the same cutout, or of others where the galaxy fills its "
        "own, stand for what is not there.",
        "Bands extend 1.96 standard errors of the mean over galaxies to each side."
        if has_bands
        else "",
        _state_subset(measures),
        *(_state_excess(name, found) for name, found in measures.items()),
        "It is the share of the maps' lead over a random order that sorting pixels by brightness "
        "does not have: none at 0, and all at 1; below 0, brightness is better than the maps, and "
        "above 1 it is worse than a random order."
        if any("excess over light" in found.numbers for found in measures.values())
        else "",
        "Orders by brightness, edges or distance from the centre need no network: what they reach "
        "is no merit of the maps.",
        describe_audited(audit, markup),
    )
