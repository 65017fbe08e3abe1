"""What captions say of an audit, and how its estimates are drawn."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from galfig.errors import FigureError
from galfig.figures.captions import Markup, count_noun, join_lines
from galfig.figures.methods import METHODS
from galfig.figures.style import find_ground, find_ink, list_curve_colors
from galfig.records import Estimate, Measured
from galfig.store.audits import Audit


def describe_audited(audit: Audit, markup: Markup) -> str:
    """Describe what was audited, in sentences that end the caption of a figure of an audit.

    Parameters
    ----------
    audit : Audit
        The audit.
    markup : Markup
        ``PLAIN`` or ``LATEX``.

    Returns
    -------
    str
        The galaxies, the network, the maps, and how the intervals were made.
    """
    store, record = audit.record.store, audit.record
    kind = "simulated galaxy" if store.simulated else "galaxy"
    known = "that did not train the network"
    if record.n_unknown:
        known = (
            f"{known}, as far as is known ({record.n_unknown} of unknown split)"
            if record.n_unknown < len(audit)
            else "whose part in the training is unknown"
        )
    n_all = store.n_galaxies - record.n_trained
    measured, drawn = count_noun(len(audit), kind), ""
    if len(audit) < n_all:
        measured = f"{len(audit)} of the {count_noun(n_all, kind)}"
        drawn = f", drawn at random (seed {record.seed})"
    n_networks = len(record.checkpoints)
    networks = "the network" if n_networks == 1 else f"the mean of {n_networks} networks"
    words = METHODS.get(store.method)
    method = markup.text(words.name if words else store.method)
    # Methods that explain pixels explain no layer.
    layer = markup.text(store.target_layer)
    explained = f"layer {layer}" if layer else "the pixels of the image"
    return join_lines(
        f"The audit measured {measured} {known}{drawn}.{_count_fewer(audit)}",
        f"The {method} maps explain {explained}, by {networks} "
        f"({markup.text(store.arch)}; classes {markup.text(', '.join(store.class_names))}).",
        f"Intervals are 95{markup.percent} bootstrap intervals over galaxies{_name_others(audit)}.",
    )


def _name_others(audit: Audit) -> str:
    """Name the numbers whose intervals are no bootstrap: AUCs of two classes."""
    shortcuts = audit.measures.get("shortcuts")
    has_auc = shortcuts is not None and any(
        name.endswith("_auc") for name in (*shortcuts.numbers, *shortcuts.controls)
    )
    return ", but for AUCs of two classes (Newcombe 2006)" if has_auc else ""


def _count_fewer(audit: Audit) -> str:
    """Say that some numbers are of fewer galaxies; "" if all are of the same."""
    counts = [
        one.n
        for found in audit.measures.values()
        for one in (*found.numbers.values(), *found.controls.values())
    ]
    if not counts or min(counts) == len(audit):
        return ""
    return f" Some of its numbers are of fewer, of {min(counts)} at least."


def require_measure(audit: Audit, names: Sequence[str], figure: str) -> dict[str, Measured]:
    """Return those of some measures that an audit holds.

    Parameters
    ----------
    audit : Audit
        The audit.
    names : sequence of str
        The measures that a figure shows.
    figure : str
        Its name, for messages.

    Returns
    -------
    dict of str to Measured
        At least one.

    Raises
    ------
    FigureError
        If the audit holds none of them.
    """
    found = {name: audit.measures[name] for name in names if name in audit.measures}
    if not found:
        raise FigureError(
            f"{figure}: {audit.path} holds {', '.join(audit.measures) or 'no measure'}, expected "
            f"{' or '.join(names)}; audit the store with "
            f'`measures="{",".join(names)}"`'
        )
    return found


def format_numbers(estimate: Estimate) -> tuple[str, str, str]:
    """Write a number and the ends of its interval, all with as many decimals.

    Parameters
    ----------
    estimate : Estimate
        The number.

    Returns
    -------
    value, low, high : str
        Such as "0.461", "0.447" and "0.475", or "2.1e-07". What rounds to zero has no sign. Whole
        numbers have no decimals, such as a side in pixels.
    """
    numbers = (estimate.value, estimate.low, estimate.high)
    largest = max(map(abs, numbers))
    if estimate.unit and all(number.is_integer() for number in numbers) and largest < 1e5:
        value, low, high = (f"{number:.0f}" for number in numbers)
        return value, low, high
    form = f".{3 if largest < 10 else 1}f" if not largest or 1e-3 <= largest < 1e5 else ".1e"
    value, low, high = (_write(number, form) for number in numbers)
    return value, low, high


def format_estimate(estimate: Estimate) -> str:
    """Write a number with its interval, such as 0.461 [0.447, 0.475]; exact ones without."""
    value, low, high = format_numbers(estimate)
    return value if estimate.low == estimate.high else f"{value} [{low}, {high}]"


def name_number(key: str, estimate: Estimate) -> str:
    """Write the name of a number as words, with its unit, such as "side [arcsec]"."""
    if not estimate.unit:
        return key.replace("_", " ")
    return f"{key.removesuffix(f'_{estimate.unit}').replace('_', ' ')} [{estimate.unit}]"


def _write(number: float, form: str) -> str:
    words = f"{number:{form}}"
    return words.removeprefix("-") if float(words) == 0 else words


def plot_estimates(
    estimates: Sequence[Estimate], *, ax: Axes, rows: Sequence[float], is_control: Sequence[bool]
) -> None:
    """Draw estimates as points with their intervals, one in a row; controls are hollow."""
    for estimate, row, hollow in zip(estimates, rows, is_control, strict=True):
        color = find_ink(0.45) if hollow else list_curve_colors()[0]
        ax.plot([estimate.low, estimate.high], [row, row], color=color, linewidth=1.2)
        ax.plot(
            [estimate.value],
            [row],
            marker="o",
            markersize=3.4,
            color=color,
            markerfacecolor=find_ground() if hollow else color,
            markeredgewidth=0.9,
            linestyle="none",
        )


def span_of(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Return limits of an axis with room around estimates and their intervals."""
    ends = np.array([[one.value, one.low, one.high] for one in estimates])
    low, high = float(ends.min()), float(ends.max())
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin
