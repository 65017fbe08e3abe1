"""Sanity: how much of the maps is left as the network is randomised from the top."""

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from galfig.errors import FigureError
from galfig.figures.audits import (
    describe_audited,
    format_numbers,
    plot_estimates,
    require_measure,
    span_of,
)
from galfig.figures.captions import Markup, count_noun, join_lines
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.style import (
    COLUMN_WIDTH,
    MIN_FONT_SIZE,
    escape_math,
    fill_page,
    find_figure,
    find_ink,
    open_axes,
    wrap_words,
)
from galfig.records import Estimate, Measured
from galfig.store.audits import Audit

# The number of the measure that is no correlation.
_SKILL = "skill"


def make_audit_sanity(
    measured: Measured, width: float | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the correlations of maps with those of randomised networks.

    Parameters
    ----------
    measured : Measured
        What the measure sanity found.
    width : float, optional
        Width of the figure [inch]; default one column.
    ax : Axes, optional
        Axes to draw on; a new figure by default.

    Returns
    -------
    Figure
    """
    n_rows = sum(map(len, _list_correlations(measured)))
    with open_axes(ax, fill_page(width, (width or COLUMN_WIDTH, 0.6 + 0.24 * n_rows))) as axes:
        plot_audit_sanity(measured, ax=axes)
        return find_figure(axes)


def plot_audit_sanity(measured: Measured, *, ax: Axes) -> None:
    """Draw each correlation as a point with its interval, in a row; controls are hollow."""
    numbers, controls = _list_correlations(measured)
    items = [*numbers.items(), *controls.items()]
    is_control = [row >= len(numbers) for row in range(len(items))]
    estimates = [estimate for _, estimate in items]
    ax.axvline(0, color=find_ink(0.6), linewidth=0.6, linestyle=":")
    plot_estimates(estimates, ax=ax, rows=range(len(items)), is_control=is_control)
    low, high = span_of(estimates)
    ax.set_xlim(min(low, -0.05), max(high, 1.05))
    ax.set_ylim(len(items) - 0.5, -0.5)
    room = 0.42 * find_figure(ax).get_figwidth()
    names = [wrap_words(escape_math(name), room, MIN_FONT_SIZE) for name, _ in items]
    ax.set_yticks(range(len(items)), names, fontsize=MIN_FONT_SIZE)
    ax.set_xlabel("Absolute Spearman correlation")


def draw(audit: Audit, options: DrawOptions) -> Drawing:
    """Draw the sanity check of an audit."""
    sanity = require_measure(audit, ("sanity",), "audit-sanity")["sanity"]
    if not _list_correlations(sanity)[0]:
        raise FigureError(
            f"audit-sanity: {audit.path} holds no number of the measure sanity; "
            f"{' '.join(sanity.notes)}"
        )
    n_compared = max(one.n for one in _list_correlations(sanity)[0].values())
    outcome = {True: "The maps pass.", False: "The maps fail.", None: ""}[sanity.passes]
    return Drawing(
        "audit-sanity",
        "Sanity of the maps",
        (make_audit_sanity(sanity, options.width, options.ax),),
        partial(_describe, audit, sanity, outcome),
        f"Absolute Spearman correlation of the maps of {count_noun(n_compared)} with those of the "
        "network after its layers are randomised from the top, with 95 % intervals. "
        f"{outcome}".strip(),
        partial(_tabulate, sanity),
    )


def _tabulate(measured: Measured) -> dict[str, Column]:
    numbers, controls = _list_correlations(measured)
    items = [*numbers.items(), *controls.items()]
    kinds = ["number"] * len(numbers) + ["control"] * len(controls)
    return {
        "kind": Column(kinds, "number, or a control of it"),
        "name": Column([name for name, _ in items], "what was randomised or compared"),
        "value": Column([one.value for _, one in items], "mean absolute Spearman correlation"),
        "low": Column([one.low for _, one in items], "lower end of the 95 % interval"),
        "high": Column([one.high for _, one in items], "upper end of the 95 % interval"),
        "n": Column([one.n for _, one in items], "number of galaxies"),
    }


def _list_correlations(measured: Measured) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Return the numbers and the controls that are correlations, and not the network's skill."""
    numbers, controls = (
        {name: one for name, one in estimates.items() if not name.startswith(_SKILL)}
        for estimates in (measured.numbers, measured.controls)
    )
    return numbers, controls


def _describe(audit: Audit, sanity: Measured, outcome: str, markup: Markup) -> str:
    skill = ""
    if _SKILL in sanity.numbers:
        value, low, high = format_numbers(sanity.numbers[_SKILL])
        skill = (
            f" The skill of the network is {value} ({low} to {high}), where 0 is that of the "
            "frequencies of the classes."
        )
    return join_lines(
        "Absolute Spearman correlation of the maps with those of the same network after its layers "
        "are randomised, cascading from the top (Adebayo et al. 2018); controls are hollow.",
        "Maps that stay the same show the images, and not what the network learned.",
        f"{outcome}{skill}",
        markup.text(sanity.not_supported) if sanity.passes is False else "",
        "This is passed or failed, and ranks nothing: maps without any structure would do best.",
        *(markup.text(note) for note in sanity.notes),
        describe_audited(audit, markup),
    )
