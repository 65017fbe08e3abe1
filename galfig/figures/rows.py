"""Rows of panels: a cutout, then maps drawn over it on one colour scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from galfig.config import DEFAULT_STYLE, StyleSettings
from galfig.errors import FigureError
from galfig.figures.methods import METHODS, MethodWords
from galfig.figures.style import (
    MAX_WIDTH,
    MIN_FONT_SIZE,
    TEXT_WIDTH,
    find_page,
    fit_font_size,
    fit_words,
    format_power,
    paper_style,
    plot_outlined_text,
    scale_font,
)
from galfig.runtime.options import Overlay, Scale

# Height of an AASTeX page, less the room for the caption [inch].
PAGE_HEIGHT = 8.2
# Panels shrink to fit the height of a page, but not below MIN_PANEL. A figure whose panels would be
# smaller than SMALLEST_PANEL is refused, because the text on them would overlap [inch].
MIN_PANEL, SMALLEST_PANEL = 1.3, 0.8
GAP, FOOTER = 0.05, 0.22
COLORBAR_WIDTH, COLORBAR_GAP, COLORBAR_LABELS = 0.08, 0.04, 0.56

COLORMAP = "inferno"
# Brightness of the cutout below a map.
DIMMED = 0.45
# Fraction of the scale below which the cutout shows through a map.
FADE = 0.1
# Colours of signed maps over a dark sky, from the most negative value: blue and orange, which
# colour-blind readers can tell apart.
SIGNED_COLORS = ("#c6e9ff", "#56b4e9", "#0b4a75", "#7a3f00", "#e69f00", "#fff0b8")
# Where the scale begins in the colour map. The colours below are as dark as the sky, so that faint
# values would not be seen.
START = 0.25
# Opacity of a map that lets the galaxy shine through it, and brightness of the cutout below a map.
SHINING = 0.55
_BRIGHTNESS = {"opaque": DIMMED, "blend": 1.0, "contour": 1.0, "side": 0.0}
# Where lines are drawn, as shares of the end of the colour scale.
LEVELS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class MapLabel:
    """Text on a map.

    Attributes
    ----------
    heading : str
        Text at the top.
    footing : str
        Text at the bottom, which may contain mathematics.
    is_predicted : bool
        Whether the map is that of the predicted class. Its heading is then bold, and the map has a
        frame, so that a reader does not take the brightest map for it.
    """

    heading: str
    footing: str = ""
    is_predicted: bool = False


@dataclass(frozen=True)
class Row:
    """One row of panels.

    Attributes
    ----------
    title : str
        Heading of the cutout.
    cutout : (H, W, 3) ndarray of uint8
        The first panel, and the background of each map.
    cams : (M, h, w) ndarray of float32
        The signed maps of M classes.
    labels : sequence of MapLabel
        Text on each map, (M,).
    pixel_scale : float
        Pixel scale of the cutout [arcsec/pixel]; NaN where unknown.
    kpc_per_arcsec : float
        Proper length of one arcsec at the galaxy [kpc/arcsec]; NaN where unknown.
    letter : str
        Letter of the row, such as "a"; may be empty.
    method : MethodWords
        What to call the maps on the colour bar.
    """

    title: str
    cutout: NDArray[np.uint8]
    cams: NDArray[np.float32]
    labels: Sequence[MapLabel]
    pixel_scale: float = float("nan")
    kpc_per_arcsec: float = float("nan")
    letter: str = ""
    method: MethodWords = METHODS["grad-cam"]


def make_rows(
    rows: Sequence[Row],
    width: float | None = None,
    *,
    n_abreast: int = 1,
    n_slots: int | None = None,
    footer: str = "",
    cmap: str | None = None,
    is_signed: bool = False,
    style: StyleSettings = DEFAULT_STYLE,
) -> Figure:
    """Draw rows of panels.

    The maps of a row share one linear colour scale, from zero to the largest value among them. The
    colour bar at the end of the row gives that value. Negative values are set to zero (ReLU),
    unless maps are signed: then the scale runs to the largest absolute value on both sides of zero.
    Where each panel has a scale of its own, each says how far it runs.

    Parameters
    ----------
    rows : sequence of Row
        The rows from top to bottom, all with the same number of maps.
    width : float, optional
        Width of the figure [inch]; default 7.1.
    n_abreast : int, default 1
        Number of rows side by side; the first column is filled first.
    n_slots : int, optional
        Number of rows to leave room for; by default, the number of ``rows``.
    footer : str, optional
        Text below all rows.
    cmap : str, optional
        Colour map of the maps; it should be dark at zero. Default "inferno", or one of blue and
        orange where maps are signed.
    is_signed : bool, default False
        Whether negative values are drawn in any case, as of evidence.
    style : StyleSettings, optional
        How a map lies over its cutout, which maps share a colour scale, and whether negative values
        are drawn, too.

    Returns
    -------
    Figure
        At full width, up to six rows fit on a page.

    Raises
    ------
    FigureError
        If the width is too small for readable text on the panels.
    """
    with paper_style():
        width, page_height = find_room(width)
        n_rows, n_columns = -(-(n_slots or len(rows)) // n_abreast), 1 + len(rows[0].labels)
        block = width / n_abreast
        check_panels(len(rows[0].labels), block)
        side = choose_side(n_rows, n_columns, block, page_height)
        margin = FOOTER if footer else 0.02
        content = n_rows * side + (n_rows - 1) * GAP + 0.02 + margin
        height = content if find_page() is None else max(content, page_height)
        top = height - (height - content) / 2
        fig = Figure(figsize=(width, height))
        breadth = n_columns * (side + GAP) + measure_colorbar()
        is_signed = is_signed or style.negative
        look = Look(cmap, is_signed, style.overlay, style.scale)
        shared = max(_find_peak(row.cams, is_signed) for row in rows)
        for number, row in enumerate(rows):
            left = number // n_rows * block + max(0.02, (block - breadth) / 2)
            down = number % n_rows
            bottom = top - 0.02 - (down + 1) * side - down * GAP
            axes = [
                add_axes(fig, left + column * (side + GAP), bottom, side, side)
                for column in range(n_columns)
            ]
            start = left + n_columns * (side + GAP) + COLORBAR_GAP
            bar = add_axes(fig, start, bottom + 0.1 * side, COLORBAR_WIDTH, 0.8 * side)
            _plot_row(row, axes=axes, bar=bar, side=side, look=look, shared=shared)
        if footer:
            fig.text(
                *(0.5, (top - content + 0.25 * FOOTER) / height, footer),
                ha="center",
                fontsize=scale_font(7),
                parse_math=False,
            )
        return fig


class Look(NamedTuple):
    """How the maps of rows look.

    Attributes
    ----------
    cmap : str or None
        Colour map; None for the default.
    is_signed : bool
        Whether negative values are drawn, too.
    overlay : {"opaque", "blend", "contour", "side"}
        How a map lies over its cutout.
    scale : {"row", "panel", "figure"}
        Which maps share a colour scale.
    """

    cmap: str | None
    is_signed: bool
    overlay: Overlay
    scale: Scale


def plot_cutout(cutout: NDArray[np.uint8], *, ax: Axes, brightness: float = 1.0) -> AxesImage:
    """Draw a cutout.

    Parameters
    ----------
    cutout : (H, W, 3) ndarray of uint8
        The cutout. Its pixel (y, x) is centred on the point (x, y) of the axes.
    ax : Axes
        Axes to draw on.
    brightness : float, default 1
        Factor on the pixel values.

    Returns
    -------
    AxesImage
    """
    hide_frame(ax)
    shade = np.clip(cutout * brightness, 0, 255).astype(np.uint8)
    return ax.imshow(shade, extent=find_extent(cutout), interpolation="nearest")


def plot_map(
    cam: NDArray[np.float32],
    cutout: NDArray[np.uint8],
    *,
    ax: Axes,
    vmax: float,
    cmap: str = COLORMAP,
    overlay: Overlay = "opaque",
) -> None:
    """Draw the positive part of a map over its cutout, or beside it.

    Both cover the same extent, whatever their resolution. Only the cutout is visible where the map
    is not positive.

    Parameters
    ----------
    cam : (h, w) ndarray of float32
        The signed map.
    cutout : (H, W, 3) ndarray of uint8
        The cutout.
    ax : Axes
        Axes to draw on.
    vmax : float
        Upper end of the colour scale, in the unit of the map; above zero.
    cmap : str, default "inferno"
        Colour map.
    overlay : {"opaque", "blend", "contour", "side"}, default "opaque"
        "opaque" hides the dimmed cutout where the map exceeds a tenth of ``vmax``; "blend" lets the
        undimmed cutout shine through all of it; "contour" draws lines at `LEVELS` of ``vmax`` over
        the undimmed cutout; "side" draws no cutout.
    """
    _plot_over(np.maximum(cam, 0.0), cutout, list_colors(cmap), (0.0, vmax), ax=ax, overlay=overlay)


def plot_signed_map(
    cam: NDArray[np.float32],
    cutout: NDArray[np.uint8],
    *,
    ax: Axes,
    vmax: float,
    cmap: str | None = None,
    overlay: Overlay = "opaque",
) -> None:
    """Draw a signed map over its cutout, which shows through where the map is near zero.

    Parameters
    ----------
    cam : (h, w) ndarray of float32
        The signed map.
    cutout : (H, W, 3) ndarray of uint8
        The cutout.
    ax : Axes
        Axes to draw on.
    vmax : float
        Upper end of the colour scale, of which the lower end is the negative; above zero.
    cmap : str, optional
        Diverging colour map, dark at zero. By default, one from blue to orange.
    overlay : {"opaque", "blend", "contour", "side"}, default "opaque"
        As of `plot_map`; lines are drawn for negative values, too.
    """
    _plot_over(cam, cutout, _choose_signed(cmap), (-vmax, vmax), ax=ax, overlay=overlay)


def _plot_over(
    cam: NDArray[np.float32],
    cutout: NDArray[np.uint8],
    cmap: Colormap,
    limits: tuple[float, float],
    *,
    ax: Axes,
    overlay: Overlay,
) -> None:
    """Draw a map with the colours of its values between two limits."""
    extent, vmax = find_extent(cutout), limits[1]
    plot_cutout(cutout, ax=ax, brightness=_BRIGHTNESS[overlay])
    if overlay == "contour":
        _plot_contours(cam, extent, cmap, limits, ax=ax)
        return
    alpha = np.clip(np.abs(cam) / (FADE * vmax), 0.0, 1.0)
    ax.imshow(
        cam,
        extent=extent,
        cmap=cmap,
        vmin=limits[0],
        vmax=vmax,
        alpha=SHINING * alpha if overlay == "blend" else alpha,
        interpolation="bilinear",
    )


def _plot_contours(
    cam: NDArray[np.float32],
    extent: tuple[float, float, float, float],
    cmap: Colormap,
    limits: tuple[float, float],
    *,
    ax: Axes,
) -> None:
    """Draw lines between the centres of cells, on a dark edge that sets them off from a galaxy."""
    levels = _list_levels(limits)
    # Of a map without one of these values, matplotlib would warn that there is nothing to draw.
    if min(cam.shape) < 2 or not any(cam.min() < level < cam.max() for level in levels):
        return
    left, right, bottom, top = extent
    rows, columns = ((np.arange(n) + 0.5) / n for n in cam.shape)
    x, y = left + (right - left) * columns, top + (bottom - top) * rows
    drawn = ax.contour(
        *(x, y, cam),
        levels=levels,
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
        linewidths=1.0,
        linestyles=["--" if level < 0 else "-" for level in levels],
    )
    drawn.set_path_effects([Stroke(linewidth=2.2, foreground="black"), Normal()])


def _list_levels(limits: tuple[float, float]) -> list[float]:
    """Return the values at which lines are drawn, from the smallest."""
    above = [limits[1] * level for level in LEVELS]
    return [*(-level for level in reversed(above)), *above] if limits[0] < 0 else above


def _find_peak(cams: NDArray[np.float32], is_signed: bool) -> float:
    """Return the largest value of maps, or the largest absolute value of signed ones."""
    return float((np.abs(cams) if is_signed else cams).max(initial=0.0))


def _choose_signed(name: str | None) -> Colormap:
    """Return a colour map for signed maps: a named one, or that of `SIGNED_COLORS`."""
    if name is not None:
        return mpl.colormaps[name]
    return LinearSegmentedColormap.from_list("blue-orange", SIGNED_COLORS, 256)


@cache
def list_colors(name: str) -> ListedColormap:
    """Return the part of a colour map in which maps are drawn.

    Parameters
    ----------
    name : str
        Name of a colour map of matplotlib.

    Returns
    -------
    ListedColormap
        256 colours, from `START` to the end of the map, under the same name.
    """
    return ListedColormap(mpl.colormaps[name](np.linspace(START, 1.0, 256)), name=name)


def plot_scale_bar(
    width: int, pixel_scale: float, *, ax: Axes, size: float, kpc_per_arcsec: float = float("nan")
) -> float:
    """Draw a scale bar of a round angle, up to a fifth of the width of the cutout.

    Parameters
    ----------
    width : int
        Width of the cutout [pixels].
    pixel_scale : float
        Pixel scale of the cutout [arcsec/pixel].
    ax : Axes
        Axes to draw on.
    size : float
        Font size of the label [pt].
    kpc_per_arcsec : float, optional
        Proper length of one arcsec [kpc/arcsec]. If it is given, the label also states the length
        in kpc.

    Returns
    -------
    float
        Length of the bar [arcsec].
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


def _plot_row(
    row: Row, *, axes: list[Axes], bar: Axes, side: float, look: Look, shared: float
) -> None:
    """Draw the panels and the colour bar of one row; ``shared`` is the peak of all rows."""
    cmap, is_signed = look.cmap, look.is_signed
    peak = shared if look.scale == "figure" else _find_peak(row.cams, is_signed)
    size = scale_font(float(np.clip(4.6 * side, 6.5, 9.0)))
    room = 0.94 * side
    first, *rest = axes

    plot_cutout(row.cutout, ax=first)
    title = f"({row.letter}) {row.title}" if row.letter else row.title
    plot_heading(title, ax=first, room=room, size=size)
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
        weight = "bold" if label.is_predicted else "normal"
        footing, own = label.footing, peak
        if look.scale == "panel":
            own = _find_peak(cam, is_signed)
            footing = f"{footing}\n{_name_end(own, is_signed)}".strip()
        vmax = own if own > 0 else 1.0
        if is_signed:
            plot_signed_map(cam, row.cutout, ax=ax, vmax=vmax, cmap=cmap, overlay=look.overlay)
        else:
            plot_map(cam, row.cutout, ax=ax, vmax=vmax, cmap=cmap or COLORMAP, overlay=look.overlay)
        plot_heading(label.heading, ax=ax, room=room, size=size, weight=weight)
        if footing:
            plot_outlined_text(0.5, 0.05, footing, ax=ax, size=size, va="bottom")
        if label.is_predicted:
            plot_frame(ax, side)
    words = row.method.label if side > 1.1 else row.method.unit
    if look.scale == "panel":
        # Each panel says how far its own scale runs.
        peak, words = 1.0, "share of peak" if side > 1.1 else "of peak"
    if is_signed:
        plot_signed_bar(
            peak,
            ax=bar,
            cmap=_choose_signed(cmap),
            unit="of the peak" if look.scale == "panel" else row.method.unit,
            length=0.8 * side,
            is_faded=look.overlay != "contour",
        )
    else:
        _plot_colorbar(peak, ax=bar, cmap=cmap or COLORMAP, label=words)
    if look.overlay == "contour":
        _plot_levels(peak, ax=bar, is_signed=is_signed)


def _name_end(peak: float, is_signed: bool) -> str:
    """Say where the colour scale of a panel ends."""
    return f"{'±' if is_signed else 'to '}{format_number(peak) if peak > 0 else '0'}"


def _plot_levels(peak: float, *, ax: Axes, is_signed: bool) -> None:
    """Mark in a colour bar the values at which lines are drawn."""
    low, high = ax.get_ylim()
    for level in _list_levels((-high, high) if is_signed else (0.0, high)):
        if low < level < high and peak > 0:
            ax.axhline(level, color="black", linewidth=1.6)
            ax.axhline(level, color="white", linewidth=0.6)


def plot_heading(
    words: str, *, ax: Axes, room: float, size: float, weight: str = "normal", **style: str
) -> None:
    """Write the heading of a panel into a room of a width [inch], in two lines if it must."""
    words, size = fit_words(words, room, size, weight)
    plot_outlined_text(
        0.5, 0.955, words, ax=ax, size=size, va="top", weight=weight, parse_math=False, **style
    )


def plot_frame(ax: Axes, side: float, color: str = "white", outline: str = "black") -> None:
    """Draw a frame with an outline just inside a panel of a side [inch]."""
    inset = 0.03 / side
    for shade, linewidth in ((outline, 2.4), (color, 1.2)):
        ax.add_patch(
            Rectangle(
                (inset, inset),
                1 - 2 * inset,
                1 - 2 * inset,
                transform=ax.transAxes,
                fill=False,
                edgecolor=shade,
                linewidth=linewidth,
            )
        )


def _plot_colorbar(peak: float, *, ax: Axes, cmap: str, label: str) -> None:
    """Draw the colour bar of a row, from zero to its peak, as it looks over a dark cutout."""
    ramp = np.linspace(0.0, 1.0, 256)[:, None]
    ax.imshow(np.zeros((256, 1, 3)), extent=(0, 1, 0, 1), aspect="auto", origin="lower")
    ax.imshow(
        ramp,
        extent=(0, 1, 0, 1),
        cmap=list_colors(cmap),
        vmin=0.0,
        vmax=1.0,
        alpha=np.clip(ramp / FADE, 0.0, 1.0),
        aspect="auto",
        origin="lower",
    )
    ax.set_xticks([])
    ax.yaxis.tick_right()
    ax.set_yticks([0, 1] if peak > 0 else [0])
    ax.set_yticklabels(["0", format_number(peak)] if peak > 0 else ["0"], fontsize=scale_font(6.5))
    ax.tick_params(length=1.5, pad=1.5)
    ax.text(1.6, 0.5, label, fontsize=scale_font(6.5), rotation=90, ha="left", va="center")


def plot_signed_bar(
    vmax: float, *, ax: Axes, cmap: Colormap, unit: str, length: float, is_faded: bool = False
) -> None:
    """Draw a colour bar from -vmax to vmax, with zero marked.

    Parameters
    ----------
    vmax : float
        Upper end; if it is zero, the bar says only that.
    ax : Axes
        Axes of the bar.
    cmap : Colormap
        Colour map.
    unit : str
        Unit of the values.
    length : float
        Length of the bar [inch].
    is_faded : bool, default False
        Whether to draw it as `plot_signed_map` does, over a dark cutout.
    """
    exponent = int(np.floor(np.log10(vmax))) if vmax > 0 else 0
    power = exponent if exponent < -1 or exponent > 2 else 0
    end = vmax / 10.0**power if vmax > 0 else 1.0
    ramp, extent = np.linspace(-1, 1, 256)[:, None], (0, 1, -end, end)
    alpha = np.clip(np.abs(ramp) / FADE, 0.0, 1.0) if is_faded else None
    if is_faded:
        ax.imshow(np.zeros((256, 1, 3)), extent=extent, aspect="auto", origin="lower")
    ax.imshow(ramp, extent=extent, cmap=cmap, alpha=alpha, aspect="auto", origin="lower")
    ax.axhline(0, color="white" if is_faded else "black", linewidth=0.6)
    ax.set_xticks([])
    ax.yaxis.tick_right()
    found = MaxNLocator(6, steps=[1, 2, 5, 10], symmetric=True).tick_values(-end, end)
    ticks = [float(tick) for tick in found if abs(tick) <= end] if vmax > 0 else [0.0]
    ax.set_yticks(
        ticks, [f"{tick:g}".replace("-", "−") for tick in ticks], fontsize=scale_font(6.5)
    )
    ax.tick_params(length=1.5, pad=1.5)
    label = f"{format_power(power)} {unit}" if power else unit
    size = fit_font_size(label, length + 0.3, scale_font(6.5))
    ax.text(
        5.6,
        0.5,
        label,
        fontsize=size,
        rotation=90,
        ha="center",
        va="center",
        transform=ax.transAxes,
    )
    for y, word, va in ((1, "for", "bottom"), (0, "against", "top")):
        shift = 0.03 / length
        ax.text(
            0,
            y + (shift if y else -shift),
            word,
            fontsize=MIN_FONT_SIZE,
            ha="left",
            va=va,
            transform=ax.transAxes,
        )


def format_total(total: float) -> str:
    """Write the total of a map with its sign and two decimals: 'Σ = +0.42'."""
    if abs(total) >= 999.5:
        power = format_number(abs(total))
        return f"Σ = {'+' if total > 0 else '−'}{power}"
    words = f"{total:+.2f}" if abs(total) < 99.95 else f"{total:+.0f}"
    return f"Σ = {'0.00' if float(words) == 0 else words.replace('-', '−')}"


def format_number(number: float) -> str:
    """Write a positive number with two significant figures: 0.0016 as 1.6 × 10⁻³."""
    exponent = int(np.floor(np.log10(number)))
    if -2 <= exponent < 3:
        return f"{number:.2g}"
    mantissa = f"{number / 10.0**exponent:.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    return f"{mantissa} × {format_power(exponent)}"


def check_panels(n_maps: int, width: float) -> None:
    """Check that a cutout and its maps fit a width.

    Parameters
    ----------
    n_maps : int
        Number of maps of a row.
    width : float
        Width of the row [inch].

    Raises
    ------
    FigureError
        If the panels would be too small for readable text on them.
    """
    side = fit_panel(1 + n_maps, width)
    if side >= SMALLEST_PANEL:
        return
    needed = np.ceil(10 * (width + (1 + n_maps) * (SMALLEST_PANEL - side))) / 10
    advice = (
        f"draw it {needed:g} inches wide"
        if needed <= MAX_WIDTH
        else "'panels' shows two maps of each galaxy, or those of chosen `classes`"
    )
    raise FigureError(
        f"`width` {width:g} inches: {n_maps} maps in panels of {max(side, 0):.2f} inches, expected "
        f"at least {SMALLEST_PANEL}; {advice}"
    )


def fit_panel(n_columns: int, width: float) -> float:
    """Return the side [inch] of ``n_columns`` panels that fill a width [inch] with a colour bar."""
    return (width - 0.04 - measure_colorbar()) / n_columns - GAP


def measure_colorbar() -> float:
    """Return the width [inch] of a colour bar with its labels."""
    return COLORBAR_GAP + COLORBAR_WIDTH + scale_font(COLORBAR_LABELS)


def choose_side(
    n_rows: int, n_columns: int, width: float, page_height: float = PAGE_HEIGHT
) -> float:
    """Return the side of a panel [inch] that fits the width and, if possible, the page height."""
    by_width = fit_panel(n_columns, width)
    by_height = (page_height - 0.04) / n_rows - GAP
    # A page of a journal has more below it; nobody sees what is below a slide.
    least = MIN_PANEL if find_page() is None else SMALLEST_PANEL
    return min(by_width, max(by_height, least))


def find_room(width: float | None) -> tuple[float, float]:
    """Return width and height [inch] of the page: of the style, or of AASTeX."""
    page = find_page()
    if page is None:
        return width or TEXT_WIDTH, PAGE_HEIGHT
    return width or page[0], page[1] * (width or page[0]) / page[0]


def add_axes(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a position given in inches."""
    full_width, full_height = fig.get_size_inches()
    return fig.add_axes(
        (left / full_width, bottom / full_height, width / full_width, height / full_height)
    )


def find_extent(cutout: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top in pixels, with pixel centres at whole numbers."""
    height, width = cutout.shape[:2]
    return (-0.5, width - 0.5, height - 0.5, -0.5)


def hide_frame(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
