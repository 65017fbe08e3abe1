"""Summary of an audit: every number with its interval, and its controls beside it."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations, pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from galfig.errors import FigureError
from galfig.figures.audits import (
    describe_audited,
    format_numbers,
    name_number,
    plot_estimates,
    span_of,
)
from galfig.figures.captions import Markup, count_noun, join_lines, list_words
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.rows import find_room
from galfig.figures.style import (
    MIN_FONT_SIZE,
    escape_math,
    find_ink,
    find_page,
    paper_style,
    scale_font,
)
from galfig.records import Estimate, Measured
from galfig.store.audits import Audit

# Of the variants of a number, such as those with another fill, only these are shown.
_ALL_VARIANTS = "excess over light"
# Height of a row, and of the title and axis of a measure [inch].
_ROW, _FRAME = 0.155, 0.52


def make_audit_summary(measures: Mapping[str, Measured], width: float | None = None) -> Figure:
    """Draw the numbers of measures, one panel each, with an axis of its own.

    Parameters
    ----------
    measures : mapping of str to Measured
        What each measure found, by name; those without numbers are not shown.
    width : float, optional
        Width of the figure [inch]; default the text.

    Returns
    -------
    Figure
        Numbers are filled points, controls hollow ones below them; bars are their intervals.
    """
    shown = {name: _choose_main(found) for name, found in measures.items() if found.numbers}
    with paper_style():
        is_slide, (width, page_height) = find_page() is not None, find_room(width)
        n_columns = 2 if width > 5 else 1
        columns = _share_out(shown, n_columns)
        if is_slide and _measure_tallest(columns) > page_height:
            columns = _share_out(shown, n_columns + 1)
        heights = [sum(map(_measure_height, column)) for column in columns]
        height = max(heights)
        if is_slide:
            # What is too much for a slide is drawn on a larger one of the same shape.
            larger = max(1.0, height / page_height)
            width, height = larger * width, larger * page_height
        fig = Figure(figsize=(width, height), layout="constrained")
        parts = fig.subfigures(1, len(columns), squeeze=False)[0]
        for part, column, height in zip(parts, columns, heights, strict=True):
            ratios = [_measure_height(found) for found in column]
            spare = max(heights) - height
            # A shorter column is filled up, so that rows are equally high in both.
            grid = part.add_gridspec(
                len(column) + (spare > 0), 1, height_ratios=[*ratios, *([spare] if spare else [])]
            )
            for row, found in enumerate(column):
                _plot_measure(found, width / len(columns), ax=part.add_subplot(grid[row]))
    return fig


def draw(audit: Audit, options: DrawOptions) -> Drawing:
    """Draw the numbers of an audit."""
    if not any(found.numbers for found in audit.measures.values()):
        raise FigureError(
            f"audit-summary: {audit.path} holds no number, expected those of some measures"
        )
    n_numbers = sum(len(found.numbers) for found in audit.measures.values())
    n_measures = sum(bool(found.numbers) for found in audit.measures.values())
    verdict = " ".join(audit.verdict)
    return Drawing(
        "audit-summary",
        "Summary of an audit",
        (make_audit_summary(audit.measures, options.width),),
        partial(_describe, audit),
        f"{count_noun(n_numbers, 'number')} of {count_noun(n_measures, 'measure')} with 95 % "
        f"intervals, beside their controls, of {count_noun(len(audit))}. {verdict}",
        partial(_tabulate, audit.measures),
    )


def _choose_main(measured: Measured) -> Measured:
    """Leave out the variants of numbers and controls, named "NUMBER, VARIANT"."""

    def is_shown(name: str) -> bool:
        base, _, variant = name.partition(", ")
        return (
            not variant
            or base not in {**measured.numbers, **measured.controls}
            or (base == _ALL_VARIANTS)
        )

    return measured.model_copy(
        update={
            "numbers": {key: one for key, one in measured.numbers.items() if is_shown(key)},
            "controls": {key: one for key, one in measured.controls.items() if is_shown(key)},
        }
    )


def _share_out(measures: Mapping[str, Measured], n_columns: int) -> list[list[Measured]]:
    """Share measures out to columns of about the same height, in their order."""
    found = list(measures.values())
    n_columns = min(n_columns, len(found))
    cuts = combinations(range(1, len(found)), n_columns - 1)
    return min(
        ([found[a:b] for a, b in pairwise((0, *ends, len(found)))] for ends in cuts),
        key=_measure_tallest,
    )


def _measure_tallest(columns: Sequence[Sequence[Measured]]) -> float:
    """Return the height of the tallest of some columns [inch]."""
    return max(sum(map(_measure_height, column)) for column in columns)


def _measure_height(measured: Measured) -> float:
    """Return the height of the panel of a measure [inch]."""
    return _FRAME + _ROW * (len(measured.numbers) + len(measured.controls))


def _plot_measure(measured: Measured, width: float, *, ax: Axes) -> None:
    items = [*measured.numbers.items(), *measured.controls.items()]
    estimates = [estimate for _, estimate in items]
    is_control = [number >= len(measured.numbers) for number in range(len(items))]
    plot_estimates(estimates, ax=ax, rows=range(len(items)), is_control=is_control)
    ax.set_ylim(len(items) - 0.5, -0.5)
    ax.set_xlim(*span_of(estimates))
    names = [
        f"{_fit_name(name_number(name, estimate), 0.55 * width)}  {format_numbers(estimate)[0]}"
        for name, estimate in items
    ]
    ax.set_yticks(range(len(items)), names)
    for label, hollow in zip(ax.get_yticklabels(), is_control, strict=True):
        label.set_color(find_ink(0.35 if hollow else 0))
        label.set_fontsize(MIN_FONT_SIZE)
    ax.tick_params(axis="x", labelsize=MIN_FONT_SIZE)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.get_offset_text().set_fontsize(MIN_FONT_SIZE)
    if ax.get_xlim()[0] < 0 < ax.get_xlim()[1]:
        ax.axvline(0, color=find_ink(0.6), linewidth=0.6, linestyle=":", zorder=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    outcome = {None: "", True: " (passes)", False: " (fails)"}[measured.passes]
    ax.set_title(f"{measured.name}{outcome}", loc="left", fontsize=scale_font(7), weight="bold")


def _fit_name(name: str, width: float) -> str:
    """Write the name of a number on one line, shortened if it is too long."""
    n_characters = int(72 * width / (0.6 * MIN_FONT_SIZE))
    return escape_math(textwrap.shorten(name, n_characters, placeholder="..."))


def _tabulate(measures: Mapping[str, Measured]) -> dict[str, Column]:
    rows: list[tuple[str, str, str, Estimate]] = []
    for name, found in measures.items():
        rows += [(name, "number", key, one) for key, one in found.numbers.items()]
        rows += [(name, "control", key, one) for key, one in found.controls.items()]
    estimates = [row[3] for row in rows]
    return {
        "measure": Column([row[0] for row in rows], "measure of the audit"),
        "kind": Column([row[1] for row in rows], "number, or a control of the measure"),
        "name": Column([row[2] for row in rows], "what was measured"),
        "value": Column([one.value for one in estimates], "estimate"),
        "low": Column([one.low for one in estimates], "lower end of the 95 % interval"),
        "high": Column([one.high for one in estimates], "upper end of the 95 % interval"),
        "n": Column([one.n for one in estimates], "number of galaxies"),
        "unit": Column([one.unit for one in estimates], "unit of the estimate and its interval"),
    }


def _describe_variants(measures: Mapping[str, Measured]) -> str:
    """Say that some numbers are not shown; "" if all are."""
    n_hidden = sum(
        len({**found.numbers, **found.controls})
        - len({**_choose_main(found).numbers, **_choose_main(found).controls})
        for found in measures.values()
    )
    if not n_hidden:
        return ""
    return (
        f"The audit holds {count_noun(n_hidden, 'more number')} with other fills, not shown here."
    )


def _describe(audit: Audit, markup: Markup) -> str:
    failed = [name for name, found in audit.measures.items() if found.passes is False]
    return join_lines(
        "What the maps are worth, by the measures of an audit: each number is a filled point, its "
        f"controls are hollow ones below it, and bars are 95{markup.percent} intervals.",
        "Each measure has an axis of its own, and the estimates stand behind the names.",
        _describe_variants(audit.measures),
        f"The maps fail {list_words(failed)}." if failed else "",
        describe_audited(audit, markup),
        *(markup.text(sentence) for sentence in audit.verdict),
    )
