"""Rows: a cutout and, over it, some maps on one colour scale, row below row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.style import (
    MIN_FONT_SIZE,
    TEXT_WIDTH,
    fit_words,
    format_power,
    paper_style,
    plot_outlined_text,
)

# Of a page of AASTeX, less what is left to the caption [inch].
PAGE_HEIGHT = 8.2
# Side below which the words on a panel would run into each other [inch].
MIN_PANEL, SMALLEST_PANEL = 1.3, 0.8
GAP, FOOTER = 0.05, 0.22
COLORBAR_WIDTH, COLORBAR_GAP, COLORBAR_LABELS = 0.08, 0.04, 0.56

COLORMAP = "inferno"
DIMMED = 0.45
# Share of the scale below which a map lets the cutout through.
FADE = 0.25


@dataclass(frozen=True)
class MapLabel:
    """What stands on a map: a heading, bold or not, and a footing that may hold mathematics."""

    heading: str
    footing: str = ""
    is_bold: bool = False


@dataclass(frozen=True)
class Row:
    """One row of panels.

    Attributes
    ----------
    title : str
        Heading of the cutout.
    cutout : (H, W, 3) ndarray of uint8
        The first panel, and below each map.
    cams : (K, h, w) ndarray of float32
        The maps, signed.
    labels : sequence of MapLabel
        What stands on each map, (K,).
    pixel_scale : float
        Pixel scale of the cutout [arcsec/pixel]; NaN where unknown.
    kpc_per_arcsec : float
        Proper length of an arcsec at the galaxy; NaN where unknown.
    letter : str
        Letter of the row, such as "a"; may be empty.
    """

    title: str
    cutout: NDArray[np.uint8]
    cams: NDArray[np.float32]
    labels: Sequence[MapLabel]
    pixel_scale: float = float("nan")
    kpc_per_arcsec: float = float("nan")
    letter: str = ""


def make_rows(
    rows: Sequence[Row],
    width: float | None = None,
    *,
    n_abreast: int = 1,
    n_slots: int | None = None,
    footer: str = "",
    cmap: str | None = None,
) -> Figure:
    """Draw rows of panels.

    The maps of a row share one linear colour scale, from zero to the largest value among them,
    which the bar at its end gives. Negative values of the maps are left out (ReLU).

    Parameters
    ----------
    rows : sequence of Row
        From top to bottom, with the same number of maps each.
    width : float, optional
        Width of the figure [inch]; default 7.1.
    n_abreast : int, default 1
        How many rows stand side by side; the first column is filled first.
    n_slots : int, optional
        Rows that there is room for; default as many as there are.
    footer : str, optional
        Words below all rows.
    cmap : str, optional
        Colour map of the maps, dark where they are small; default "inferno".

    Returns
    -------
    Figure
        At full width up to six rows fit on a page.

    Raises
    ------
    FigureError
        A width at which the words on the panels could not be read.
    """
    width = width or TEXT_WIDTH
    with paper_style():
        n_rows, n_columns = -(-(n_slots or len(rows)) // n_abreast), 1 + len(rows[0].labels)
        block = width / n_abreast
        side = _panel_side(n_rows, n_columns, block)
        if side < SMALLEST_PANEL:
            raise FigureError(
                f"`width` {width:g} inches: panels of {side:.2f} inches, expected at least "
                f"{SMALLEST_PANEL}; draw it wider"
            )
        margin = FOOTER if footer else 0.02
        height = n_rows * side + (n_rows - 1) * GAP + 0.02 + margin
        fig = Figure(figsize=(width, height))
        content = n_columns * (side + GAP) + COLORBAR_GAP + COLORBAR_WIDTH + COLORBAR_LABELS
        for number, row in enumerate(rows):
            left = number // n_rows * block + max(0.02, (block - content) / 2)
            down = number % n_rows
            bottom = height - 0.02 - (down + 1) * side - down * GAP
            axes = [
                _add_axes(fig, left + column * (side + GAP), bottom, side, side)
                for column in range(n_columns)
            ]
            start = left + n_columns * (side + GAP) + COLORBAR_GAP
            bar = _add_axes(fig, start, bottom + 0.1 * side, COLORBAR_WIDTH, 0.8 * side)
            _plot_row(row, axes=axes, bar=bar, side=side, cmap=cmap or COLORMAP)
        if footer:
            fig.text(0.5, 0.25 * FOOTER / height, footer, ha="center", fontsize=7, parse_math=False)
        return fig


def plot_cutout(cutout: NDArray[np.uint8], *, ax: Axes, brightness: float = 1.0) -> AxesImage:
    """Draw a cutout (H, W, 3); its pixel (y, x) is centred on (x, y)."""
    _hide_frame(ax)
    shade = np.clip(cutout * brightness, 0, 255).astype(np.uint8)
    return ax.imshow(shade, extent=_extent(cutout), interpolation="nearest")


def plot_map(
    cam: NDArray[np.float32],
    cutout: NDArray[np.uint8],
    *,
    ax: Axes,
    vmax: float,
    cmap: str = COLORMAP,
) -> AxesImage:
    """Draw the positive part of a map (h, w) over its dimmed cutout (H, W, 3).

    Both cover the same extent, whatever their resolution. Where the map is zero the cutout is
    seen, and from a quarter of ``vmax`` on the colour alone.
    """
    plot_cutout(cutout, ax=ax, brightness=DIMMED)
    positive = np.maximum(cam, 0.0)
    return ax.imshow(
        positive,
        extent=_extent(cutout),
        cmap=cmap,
        vmin=0.0,
        vmax=vmax,
        alpha=np.clip(positive / (FADE * vmax), 0.0, 1.0),
        interpolation="bilinear",
    )


def plot_scale_bar(
    width: int, pixel_scale: float, *, ax: Axes, size: float, kpc_per_arcsec: float = float("nan")
) -> float:
    """Draw a bar of a round angle near a fifth of the cutout's width; return it [arcsec].

    Where ``kpc_per_arcsec`` is known it says the length in kpc too.
    """
    wanted = 0.2 * width * pixel_scale
    decade = 10.0 ** np.floor(np.log10(wanted))
    length = float(decade * max(step for step in (1, 2, 5) if step * decade <= wanted * 1.0001))
    share = length / (width * pixel_scale)
    for color, linewidth in (("black", 2.8), ("white", 1.4)):
        ax.plot(
            [0.06, 0.06 + share],
            [0.06, 0.06],
            color=color,
            linewidth=linewidth,
            solid_capstyle="butt",
            transform=ax.transAxes,
        )
    words = f"{length:g}″"
    if np.isfinite(kpc_per_arcsec):
        kpc = length * kpc_per_arcsec
        words += f" = {kpc:.1f} kpc" if kpc < 9.95 else f" = {kpc:.0f} kpc"
    plot_outlined_text(0.06, 0.085, words, ax=ax, size=size, va="bottom", ha="left")
    return length


def _plot_row(row: Row, *, axes: list[Axes], bar: Axes, side: float, cmap: str) -> None:
    """Draw the panels of one row, and its colour bar."""
    peak = float(row.cams.max(initial=0.0))
    vmax = peak if peak > 0 else 1.0
    size = float(np.clip(4.6 * side, 6.5, 9.0))
    room = 0.94 * side
    first, *rest = axes

    plot_cutout(row.cutout, ax=first)
    title = f"({row.letter}) {row.title}" if row.letter else row.title
    _plot_heading(title, ax=first, room=room, size=size)
    if np.isfinite(row.pixel_scale):
        bar_size = max(MIN_FONT_SIZE, 0.85 * size)
        plot_scale_bar(
            row.cutout.shape[1],
            row.pixel_scale,
            ax=first,
            size=bar_size,
            kpc_per_arcsec=row.kpc_per_arcsec,
        )

    for ax, cam, label in zip(rest, row.cams, row.labels, strict=True):
        weight = "bold" if label.is_bold else "normal"
        plot_map(cam, row.cutout, ax=ax, vmax=vmax, cmap=cmap)
        _plot_heading(label.heading, ax=ax, room=room, size=size, weight=weight)
        if label.footing:
            plot_outlined_text(0.5, 0.05, label.footing, ax=ax, size=size, va="bottom")
    _plot_colorbar(peak, ax=bar, cmap=cmap, label="Grad-CAM [logit]" if side > 1.1 else "logit")


def _plot_heading(
    words: str, *, ax: Axes, room: float, size: float, weight: str = "normal"
) -> None:
    words, size = fit_words(words, room, size, weight)
    plot_outlined_text(
        0.5, 0.955, words, ax=ax, size=size, va="top", weight=weight, parse_math=False
    )


def _plot_colorbar(peak: float, *, ax: Axes, cmap: str, label: str) -> None:
    """Draw the colours of a row as they look over a dark cutout, from zero to its peak."""
    ramp = np.linspace(0.0, 1.0, 256)[:, None]
    ax.imshow(np.zeros((256, 1, 3)), extent=(0, 1, 0, 1), aspect="auto", origin="lower")
    ax.imshow(
        ramp,
        extent=(0, 1, 0, 1),
        cmap=cmap,
        vmin=0.0,
        vmax=1.0,
        alpha=np.clip(ramp / FADE, 0.0, 1.0),
        aspect="auto",
        origin="lower",
    )
    ax.set_xticks([])
    ax.yaxis.tick_right()
    ax.set_yticks([0, 1] if peak > 0 else [0])
    ax.set_yticklabels(["0", format_number(peak)] if peak > 0 else ["0"], fontsize=6.5)
    ax.tick_params(length=1.5, pad=1.5)
    ax.text(1.6, 0.5, label, fontsize=6.5, rotation=90, ha="left", va="center")


def format_number(number: float) -> str:
    """Write a positive number with two figures: 0.0016 as 1.6 × 10⁻³."""
    exponent = int(np.floor(np.log10(number)))
    if -2 <= exponent < 3:
        return f"{number:.2g}"
    mantissa = f"{number / 10.0**exponent:.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    return f"{mantissa} × {format_power(exponent)}"


def fit_panel(n_columns: int, width: float) -> float:
    """Return the side [inch] of so many panels and a colour bar that fill a width [inch]."""
    bar = COLORBAR_GAP + COLORBAR_WIDTH + COLORBAR_LABELS
    return (width - 0.04 - bar) / n_columns - GAP


def _panel_side(n_rows: int, n_columns: int, width: float) -> float:
    """Return the side of a panel [inch]: as wide as the page allows, then as high."""
    by_width = fit_panel(n_columns, width)
    by_height = (PAGE_HEIGHT - 0.04) / n_rows - GAP
    return min(by_width, max(by_height, MIN_PANEL))


def _add_axes(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches."""
    full_width, full_height = fig.get_size_inches()
    return fig.add_axes(
        (left / full_width, bottom / full_height, width / full_width, height / full_height)
    )


def _extent(cutout: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Return left, right, bottom, top in pixels, whole pixels at the edges."""
    height, width = cutout.shape[:2]
    return (-0.5, width - 0.5, height - 0.5, -0.5)


def _hide_frame(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
