"""Rows of panels: a cutout, then maps drawn over it on one colour scale.

`galfig.figures.layout` says where rows stand on a page.
"""

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

from galfig.errors import FigureError
from galfig.figures.compass import MARGIN, Compass, place_compass, plot_compass
from galfig.figures.methods import METHODS, MethodWords
from galfig.figures.style import (
    MAX_WIDTH,
    MIN_FONT_SIZE,
    TEXT_WIDTH,
    find_page,
    fit_font_size,
    fit_words,
    format_power,
    measure_words,
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
BRIGHTNESS = {"opaque": DIMMED, "blend": 1.0, "contour": 1.0, "side": 0.0}
# What stands before the name of the predicted class, where it is the true one and where it is not;
# both weights of the font have them.
RIGHT, WRONG = "✓", "✗"
# Width of the text on a panel, where it begins at the top, and largest share of the height of a
# cutout that it may cover, in units of the side; more where it has no other place.
ROOM, TOP, COVERED, CROWDED = 0.94, 0.955, 0.4, 0.65
# Height of a line of text, in units of its size.
LINE = 1.2
# Where the label of a scale bar stands, in units of the side.
BAR_LABEL = 0.085
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
    is_true : bool or None
        Whether the map is that of the true class; None where that is not said. The heading of the
        predicted class then begins with a tick or a cross, and where it is another, the map of the
        true class has a dashed frame.
    """

    heading: str
    footing: str = ""
    is_predicted: bool = False
    is_true: bool | None = None

    @property
    def words(self) -> str:
        """The heading, with a mark where the class is predicted and the true one is known."""
        if not self.is_predicted or self.is_true is None:
            return self.heading
        return f"{RIGHT if self.is_true else WRONG}\N{NO-BREAK SPACE}{self.heading}"


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
    facts : sequence of str
        What else is said of the galaxy, a line each, below its heading.
    compass : Compass or None
        Where arrows on the cutout point; None for no arrows.
    """

    title: str
    cutout: NDArray[np.uint8]
    cams: NDArray[np.float32]
    labels: Sequence[MapLabel]
    pixel_scale: float = float("nan")
    kpc_per_arcsec: float = float("nan")
    letter: str = ""
    method: MethodWords = METHODS["grad-cam"]
    facts: Sequence[str] = ()
    compass: Compass | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Heading and facts, without those that are empty."""
        letter = f"({self.letter})" if self.letter else ""
        heading = " ".join(filter(None, (letter, self.title)))
        return tuple(filter(None, (heading, *self.facts)))


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
    _plot_over(cam, cutout, choose_signed(cmap), (-vmax, vmax), ax=ax, overlay=overlay)


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
    plot_cutout(cutout, ax=ax, brightness=BRIGHTNESS[overlay])
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
    levels = list_levels(limits)
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


def list_levels(limits: tuple[float, float]) -> list[float]:
    """Return the values at which lines are drawn, from the smallest."""
    above = [limits[1] * level for level in LEVELS]
    return [*(-level for level in reversed(above)), *above] if limits[0] < 0 else above


def find_peak(cams: NDArray[np.float32], is_signed: bool) -> float:
    """Return the largest value of maps, or the largest absolute value of signed ones.

    Parameters
    ----------
    cams : (M, h, w) ndarray of float32
        The maps.
    is_signed : bool
        Whether negative values are drawn, too.

    Returns
    -------
    float
        Where a colour scale ends, in the unit of the maps; zero or more.
    """
    return float((np.abs(cams) if is_signed else cams).max(initial=0.0))


def choose_signed(name: str | None) -> Colormap:
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
    room = 0.9 * ax.bbox.width / ax.figure.dpi
    words = f"{length:g}″"
    if np.isfinite(kpc_per_arcsec):
        kpc = length * kpc_per_arcsec
        words += f" = {kpc:.1f} kpc" if kpc < 9.95 else f" = {kpc:.0f} kpc"
    size = fit_font_size(words, room, size)
    plot_outlined_text(0.06, BAR_LABEL, words, ax=ax, size=size, va="bottom", ha="left")
    return length


def plot_references(
    width: int,
    pixel_scale: float,
    compass: Compass | None,
    *,
    ax: Axes,
    side: float,
    size: float,
    kpc_per_arcsec: float = float("nan"),
) -> None:
    """Draw the scale bar of a cutout and its compass, as far as there are any.

    Parameters
    ----------
    width : int
        Width of the cutout [pixels].
    pixel_scale : float
        Pixel scale of the cutout [arcsec/pixel]; NaN where unknown.
    compass : Compass or None
        Where arrows point; None for no arrows.
    ax : Axes
        Axes to draw on.
    side : float
        Side of the panel [inch].
    size : float
        Font size of the labels [pt].
    kpc_per_arcsec : float, optional
        As of `plot_scale_bar`.
    """
    if np.isfinite(pixel_scale):
        plot_scale_bar(width, pixel_scale, ax=ax, size=size, kpc_per_arcsec=kpc_per_arcsec)
    if compass is not None:
        bottom = _find_bottom(pixel_scale, side, size)
        plot_compass(compass, ax=ax, side=side, size=size, bottom=bottom)


def _find_bottom(pixel_scale: float, side: float, size: float) -> float:
    """Return where a compass begins: above the label of a scale bar, which may be that wide."""
    return BAR_LABEL + LINE * size / (72 * side) if np.isfinite(pixel_scale) else MARGIN


def plot_row(
    row: Row,
    *,
    axes: Sequence[Axes],
    bar: Axes | None,
    side: float,
    look: Look,
    shared: float,
    has_words: bool = True,
    is_level: bool = False,
) -> None:
    """Draw the panels of one row, and its colour bar.

    Parameters
    ----------
    row : Row
        What is drawn.
    axes : sequence of Axes
        Axes of the cutout and of each map, (1 + M,).
    bar : Axes or None
        Axes of the colour bar. Without one, each map says how far the scale runs.
    side : float
        Side of a panel [inch].
    look : Look
        How the maps look.
    shared : float
        The peak of all rows, see `find_peak`; it counts where they share a scale.
    has_words : bool, default True
        Whether heading and facts stand on the cutout.
    is_level : bool, default False
        Whether the colour bar lies below the panels.
    """
    peak = shared if look.scale == "figure" else find_peak(row.cams, look.is_signed)
    size = choose_size(side)
    first, *rest = axes
    plot_cutout(row.cutout, ax=first)
    small = max(min(size, MIN_FONT_SIZE), 0.85 * size)
    if has_words:
        floor = 0.0
        if row.compass is not None:
            bottom = _find_bottom(row.pixel_scale, side, small)
            floor = place_compass(row.compass, side, small, bottom).top
        _plot_words(row.words, ax=first, side=side, size=size, floor=floor)
    plot_references(
        row.cutout.shape[1],
        row.pixel_scale,
        row.compass,
        ax=first,
        side=side,
        size=small,
        kpc_per_arcsec=row.kpc_per_arcsec,
    )
    for ax, cam, label in zip(rest, row.cams, row.labels, strict=True):
        own = find_peak(cam, look.is_signed) if look.scale == "panel" else peak
        _plot_in(cam, row.cutout, own if own > 0 else 1.0, ax=ax, look=look)
        is_named = look.scale == "panel" or bar is None
        end = name_end(own, look.is_signed) if is_named else ""
        _plot_label(label, end, ax=ax, side=side, size=size)
    if bar is not None:
        _plot_bar(row.method, peak, ax=bar, side=side, look=look, is_level=is_level)


def _plot_in(
    cam: NDArray[np.float32], cutout: NDArray[np.uint8], vmax: float, *, ax: Axes, look: Look
) -> None:
    """Draw a map with or without its negative values."""
    cmap, overlay = look.cmap, look.overlay
    if look.is_signed:
        plot_signed_map(cam, cutout, ax=ax, vmax=vmax, cmap=cmap, overlay=overlay)
    else:
        plot_map(cam, cutout, ax=ax, vmax=vmax, cmap=cmap or COLORMAP, overlay=overlay)


def choose_size(side: float) -> float:
    """Return the size of the text [pt] on a panel of a side [inch]."""
    return scale_font(float(np.clip(4.6 * side, 6.5, 9.0)))


def fit_on_cutout(words: Sequence[str], side: float, size: float) -> tuple[list[str], float] | None:
    """Fit heading and facts of a galaxy onto its cutout.

    Parameters
    ----------
    words : sequence of str
        The heading, which stays in one line, and facts, which may take two.
    side : float
        Side of the panel [inch].
    size : float
        Largest font size [pt].

    Returns
    -------
    words : list of str
        The same in lines.
    size : float
        Font size [pt].
        None if they would be too small to read or cover too much of the galaxy.
    """
    room = ROOM * side
    if not words:
        return [], size
    if measure_words(words[0], min(size, MIN_FONT_SIZE)) > room:
        return None
    fitted = [fit_words(one, room, size, n_lines=2 if k else 1) for k, one in enumerate(words)]
    lines, size = [one for one, _ in fitted], min(size for _, size in fitted)
    n_lines = sum(1 + one.count("\n") for one in lines)
    is_cut = any(one.endswith("…") for one in lines)
    # A heading alone is read on a panel of any size.
    is_short = n_lines == 1 or n_lines * LINE * size / 72 <= COVERED * side
    return (lines, size) if is_short and not is_cut else None


def _plot_words(
    words: Sequence[str], *, ax: Axes, side: float, size: float, floor: float = 0.0
) -> None:
    """Write heading and facts of a galaxy at the top of its cutout, and not below a floor."""
    fitted = fit_on_cutout(words, side, size)
    lines, size = _squeeze(words, side, size, TOP - floor) if fitted is None else fitted
    top = TOP
    for line in lines:
        plot_outlined_text(0.5, top, line, ax=ax, size=size, va="top", parse_math=False)
        top -= (1 + line.count("\n")) * LINE * size / (72 * side)


def _squeeze(
    words: Sequence[str], side: float, size: float, height: float
) -> tuple[list[str], float]:
    """Fit as many words onto a cutout as have room there, where they have no other place."""
    cut = [fit_words(one, ROOM * side, size, n_lines=2) for one in words]
    size = min(size for _, size in cut)
    room = int(min(CROWDED, height) * side * 72 / (LINE * size))
    kept, n_lines = [], 0
    for one, _ in cut:
        n_lines += 1 + one.count("\n")
        if n_lines > room:
            break
        kept.append(one)
    return kept, size


def _plot_label(label: MapLabel, end: str, *, ax: Axes, side: float, size: float) -> None:
    """Write heading and footing on a map, and frame it."""
    # Words stay inside of a frame, whether the map has one or not.
    room, weight = min(ROOM * side, side - 0.11), "bold" if label.is_predicted else "normal"
    footing = "\n".join(filter(None, (label.footing, end)))
    lines = footing.replace("$", "").splitlines()
    # The footing shrinks until a line of the heading fits above it, and to the width.
    height = min((2 * TOP - 1) * side, side - 0.13) * 72 / LINE
    small = min([size, height / (1 + len(lines)), *(fit_font_size(x, room, size) for x in lines)])
    small = max(small, min(size, MIN_FONT_SIZE))
    n_lines = max(1, int((height - len(lines) * small) / size))
    heading, size = fit_words(label.words, room, size, weight, max(n_lines, 1))
    # A frame is as far from the edge of a small panel as of a large one.
    margin = max(1 - TOP, 0.06 / side)
    plot_outlined_text(
        0.5, 1 - margin, heading, ax=ax, size=size, va="top", weight=weight, parse_math=False
    )
    if footing:
        plot_outlined_text(0.5, max(0.05, 0.055 / side), footing, ax=ax, size=small, va="bottom")
    if label.is_predicted:
        plot_frame(ax, side)
    elif label.is_true:
        plot_frame(ax, side, linestyle="--")


def _plot_bar(
    method: MethodWords, peak: float, *, ax: Axes, side: float, look: Look, is_level: bool
) -> None:
    """Draw the colour bar of a row, with the values of lines where maps are lines."""
    words, unit = (method.label, method.unit), method.unit
    if look.scale == "panel":
        # Each panel says how far its own scale runs.
        peak, words, unit = 1.0, ("share of peak", "of peak"), "of the peak"
    cmap = choose_signed(look.cmap) if look.is_signed else list_colors(look.cmap or COLORMAP)
    length = ax.bbox.height / ax.figure.dpi
    if is_level:
        _plot_level_bar(peak, ax=ax, cmap=cmap, unit=unit, side=side, look=look)
    elif look.is_signed:
        plot_signed_bar(
            peak,
            ax=ax,
            cmap=cmap,
            unit=unit,
            length=length,
            is_faded=look.overlay != "contour",
        )
    else:
        _plot_colorbar(peak, ax=ax, cmap=cmap, words=words, length=length)
    if look.overlay == "contour":
        _plot_levels(peak, ax=ax, is_signed=look.is_signed, is_level=is_level)


def name_end(peak: float, is_signed: bool) -> str:
    """Say where the colour scale of a panel ends."""
    return f"{'±' if is_signed else 'to '}{format_number(peak) if peak > 0 else '0'}"


def _plot_levels(peak: float, *, ax: Axes, is_signed: bool, is_level: bool) -> None:
    """Mark in a colour bar the values at which lines are drawn."""
    low, high = ax.get_xlim() if is_level else ax.get_ylim()
    plot = ax.axvline if is_level else ax.axhline
    for level in list_levels((-high, high) if is_signed else (0.0, high)):
        if low < level < high and peak > 0:
            plot(level, color="black", linewidth=1.6)
            plot(level, color="white", linewidth=0.6)


def plot_heading(
    words: str, *, ax: Axes, room: float, size: float, weight: str = "normal", **style: str
) -> None:
    """Write the heading of a panel into a room of a width [inch], in two lines if it must."""
    words, size = fit_words(words, room, size, weight)
    plot_outlined_text(
        0.5, 0.955, words, ax=ax, size=size, va="top", weight=weight, parse_math=False, **style
    )


def plot_frame(
    ax: Axes, side: float, color: str = "white", outline: str = "black", linestyle: str = "-"
) -> None:
    """Draw a frame with an outline just inside a panel of a side [inch]."""
    inset = 0.03 / side
    for shade, linewidth, dashes in ((outline, 2.4, "-"), (color, 1.2, linestyle)):
        ax.add_patch(
            Rectangle(
                (inset, inset),
                1 - 2 * inset,
                1 - 2 * inset,
                transform=ax.transAxes,
                fill=False,
                edgecolor=shade,
                linewidth=linewidth,
                linestyle=dashes,
                # Above the lines of maps.
                zorder=2.5,
            )
        )


def _plot_colorbar(
    peak: float, *, ax: Axes, cmap: Colormap, words: Sequence[str], length: float
) -> None:
    """Draw a colour bar of a length [inch], from zero to a peak, as it looks over a dark cutout.

    Its label is the first of some words that fits between the numbers.
    """
    ramp = np.linspace(0.0, 1.0, 256)[:, None]
    _plot_ramp(ramp, (0, 1, 0, 1), ax=ax, cmap=cmap, is_faded=True)
    ax.yaxis.tick_right()
    size = scale_font(6.5)
    ax.set_yticks([0, 1] if peak > 0 else [0])
    ax.set_yticklabels(["0", format_number(peak)] if peak > 0 else ["0"], fontsize=size)
    ax.tick_params(length=1.5, pad=1.5)
    room = length - LINE * size / 72
    fitting = [one for one in words if measure_words(one, size) <= room]
    label = fitting[0] if fitting else words[-1]
    size = fit_font_size(label, room, size)
    ax.text(1.6, 0.5, label, fontsize=size, rotation=90, ha="left", va="center")


def _plot_ramp(
    ramp: NDArray[np.float64],
    extent: tuple[float, float, float, float],
    *,
    ax: Axes,
    cmap: Colormap,
    is_faded: bool,
) -> None:
    """Fill a colour bar with the colours of a scale; faded ones lie over a dark cutout."""
    end = float(np.abs(ramp).max())
    if is_faded:
        ax.imshow(np.zeros((*ramp.shape, 3)), extent=extent, aspect="auto", origin="lower")
    ax.imshow(
        ramp,
        extent=extent,
        cmap=cmap,
        vmin=float(ramp.min()),
        vmax=end,
        alpha=np.clip(np.abs(ramp) / (FADE * end), 0.0, 1.0) if is_faded else None,
        aspect="auto",
        origin="lower",
    )
    ax.set_xticks([])
    ax.set_yticks([])


def _plot_level_bar(
    peak: float, *, ax: Axes, cmap: Colormap, unit: str, side: float, look: Look
) -> None:
    """Draw a colour bar below the panels, with the ends of the scale below it."""
    low = -1.0 if look.is_signed else 0.0
    ramp = np.linspace(low, 1.0, 256)[None, :]
    is_faded = look.overlay != "contour" or not look.is_signed
    _plot_ramp(ramp, (low, 1, 0, 1), ax=ax, cmap=cmap, is_faded=is_faded)
    size = scale_font(6.5)
    number = format_number(peak) if peak > 0 else "0"
    first = f"−{number}" if look.is_signed and peak > 0 else "0"
    last = f"+{number}" if look.is_signed and peak > 0 else number
    # Where the unit has no room behind the number, it stands below it.
    room = side - 0.06
    is_one = measure_words(f"{first}{last} {unit}", size) <= room
    words = f"{last} {unit}" if is_one else f"{last}\n{unit}"
    size = min(
        fit_font_size(first + words.split("\n")[0], room, size), fit_font_size(unit, room, size)
    )
    shown = ((0, "left", first), (1, "right", words)) if peak > 0 else ((0, "left", "0"),)
    for x, align, one in shown:
        ax.text(x, -0.4, one, fontsize=size, ha=align, va="top", transform=ax.transAxes)


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
    ramp = np.linspace(-1, 1, 256)[:, None]
    _plot_ramp(ramp, (0, 1, -end, end), ax=ax, cmap=cmap, is_faded=is_faded)
    ax.axhline(0, color="white" if is_faded else "black", linewidth=0.6)
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


def measure_bar(side: float, *, is_signed: bool = False) -> float:
    """Return the length [inch] of a colour bar beside panels of a side [inch]."""
    # Words stand above and below a signed one.
    margin = 0.06 + scale_font(MIN_FONT_SIZE) / 72
    return side - 2 * (max(0.1 * side, margin) if is_signed else 0.1 * side)


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
