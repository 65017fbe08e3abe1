"""Evidence: one row per galaxy, its cutout and its signed map of the log-odds of a class."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from galfig.config import StyleSettings
from galfig.figures.captions import (
    PLAIN,
    Markup,
    count_rows,
    describe_scale,
    describe_training,
    join_lines,
    list_galaxies,
    list_words,
    name_classes,
    order_rows,
)
from galfig.figures.choice import find_classes
from galfig.figures.compass import (
    Compass,
    describe_orientation,
    find_compasses,
    read_orientations,
)
from galfig.figures.cubes import iter_cubes
from galfig.figures.drawing import Drawing, DrawOptions, name_galaxies
from galfig.figures.meaning import (
    Evidence,
    choose_evidence,
    describe_evidence,
    describe_field,
    describe_networks,
    describe_signs,
    describe_sums,
    find_unit,
    introduce_evidence,
    label_evidence,
    name_evidence,
    read_evidence,
    tabulate_evidence,
)
from galfig.figures.rows import (
    COLORBAR_GAP,
    COLORBAR_WIDTH,
    GAP,
    add_axes,
    check_panels,
    choose_side,
    find_extent,
    find_room,
    hide_frame,
    measure_colorbar,
    plot_cutout,
    plot_frame,
    plot_heading,
    plot_references,
    plot_signed_bar,
)
from galfig.figures.style import (
    COLUMN_WIDTH,
    MIN_FONT_SIZE,
    find_ink,
    find_page,
    fit_font_size,
    paper_style,
    plot_outlined_text,
    scale_font,
)
from galfig.store.reader import Store
from galfig.store.selection import Selection

logger = logging.getLogger(__name__)

COLORMAP = "RdBu_r"
COLOR_WORDS = ("red", "blue")
# Levels of the contours of light, between the median of a cutout and its maximum.
LEVELS = (0.2, 0.5, 0.8)
# The light is smoothed by a Gaussian of this standard deviation before [share of the side].
SMOOTHING = 0.015
# Distance of the lines of the hatching, and their width [pt].
HATCH_SPACING, HATCH_WIDTH = 3.6, 0.45
# The colour bar is no longer than this [inch].
LONGEST_BAR = 3.0
UNITS = {"arcsec": "log-odds / arcsec²", "pix": "log-odds / pixel"}
INK = {"color": "black", "outline": "white"}


@dataclass(frozen=True)
class EvidencePanel:
    """A map of one class, with the text on it.

    Attributes
    ----------
    heading, footing : str
        Text at the top, from data, and at the bottom, which may contain mathematics.
    values : (h, w) ndarray of float64
        The signed map, in the unit of the figure.
    is_uncertain : (h, w) ndarray of bool or None
        Cells that are hatched.
    is_predicted : bool
        Whether to mark the map as that of the predicted class.
    """

    heading: str
    footing: str
    values: NDArray[np.float64]
    is_uncertain: NDArray[np.bool_] | None = None
    is_predicted: bool = False


@dataclass(frozen=True)
class EvidenceRow:
    """One galaxy: its cutout, and its maps.

    Attributes
    ----------
    title : str
        Heading of the cutout.
    cutout : (H, W, 3) ndarray of uint8
        The first panel; contours of its light lie over the maps.
    panels : sequence of EvidencePanel
        The maps, (M,).
    pixel_scale : float
        Pixel scale of the cutout [arcsec/pixel]; NaN where unknown.
    kpc_per_arcsec : float
        Proper length of one arcsec at the galaxy [kpc/arcsec]; NaN where unknown.
    compass : Compass or None
        Where arrows on the cutout point; None for no arrows.
    """

    title: str
    cutout: NDArray[np.uint8]
    panels: Sequence[EvidencePanel]
    pixel_scale: float = float("nan")
    kpc_per_arcsec: float = float("nan")
    compass: Compass | None = None


def make_evidence(
    rows: Sequence[EvidenceRow],
    width: float | None = None,
    *,
    unit: str = "log-odds / pixel",
    cmap: str | None = None,
) -> Figure:
    """Draw cutouts and signed maps on one colour scale, symmetric about zero.

    Parameters
    ----------
    rows : sequence of EvidenceRow
        The rows from top to bottom, all with the same number of maps.
    width : float, optional
        Width of the figure [inch]; default 3.39, one column of AASTeX, for one map, and 7.1, two
        columns, for several.
    unit : str, optional
        Unit of the values, for the colour bar.
    cmap : str, optional
        Diverging colour map. Default "RdBu_r", whose ends colour-blind readers can tell apart.

    Returns
    -------
    Figure

    Raises
    ------
    FigureError
        If the width is too small for readable panels.
    """
    n_rows, n_columns = len(rows), 1 + len(rows[0].panels)
    with paper_style():
        if find_page() is None and width is None and n_columns == 2:
            width = COLUMN_WIDTH
        width, page_height = find_room(width)
        check_panels(n_columns - 1, width)
        side = choose_side(n_rows, n_columns, width, page_height)
        tall = n_rows * (side + GAP) - GAP + 0.04
        height = tall if find_page() is None else max(tall, page_height)
        top = height - (height - tall) / 2
        fig = Figure(figsize=(width, height))
        content = n_columns * (side + GAP) + measure_colorbar()
        left = max(0.02, (width - content) / 2)
        vmax = max(float(np.abs(panel.values).max()) for row in rows for panel in row.panels)
        for number, row in enumerate(rows):
            bottom = top - 0.02 - (number + 1) * side - number * GAP
            first, *rest = (
                add_axes(fig, left + column * (side + GAP), bottom, side, side)
                for column in range(n_columns)
            )
            _plot_cutout(row, first, side)
            for ax, panel in zip(rest, row.panels, strict=True):
                _plot_panel(panel, row.cutout, ax, side, vmax or 1.0, cmap or COLORMAP)
        length = min(LONGEST_BAR, tall - 0.4)
        start = left + n_columns * (side + GAP) + COLORBAR_GAP
        bar = add_axes(fig, start, (height - length) / 2, COLORBAR_WIDTH, length)
        colors = mpl.colormaps[cmap or COLORMAP]
        plot_signed_bar(vmax, ax=bar, cmap=colors, unit=unit, length=length)
        return fig


def plot_evidence(
    values: NDArray[np.floating],
    cutout: NDArray[np.uint8],
    *,
    ax: Axes,
    vmax: float,
    cmap: str = COLORMAP,
) -> AxesImage:
    """Draw a signed map on the extent of its cutout, cell by cell.

    The cells are not interpolated: they show how fine the map is, and add up to what it adds up to.

    Parameters
    ----------
    values : (h, w) ndarray of float
        The map.
    cutout : (H, W, 3) ndarray of uint8
        The cutout.
    ax : Axes
        Axes to draw on.
    vmax : float
        Upper end of the colour scale, of which the lower end is the negative; above zero.
    cmap : str, default "RdBu_r"
        Diverging colour map.

    Returns
    -------
    AxesImage
    """
    hide_frame(ax)
    return ax.imshow(
        values,
        extent=find_extent(cutout),
        cmap=mpl.colormaps[cmap],
        vmin=-vmax,
        vmax=vmax,
        interpolation="nearest",
    )


def find_levels(
    cutout: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smoothed luminance of a cutout (H, W), and the levels of its contours.

    A cutout that is nowhere brighter than its median by one grey level has no contour.
    """
    # scipy takes as long to import as a figure to draw.
    from scipy.ndimage import gaussian_filter

    light = gaussian_filter(
        cutout.astype(np.float64) @ (0.2126, 0.7152, 0.0722),
        SMOOTHING * max(cutout.shape[:2]),
        mode="nearest",
    )
    sky, peak = float(np.median(light)), float(light.max())
    if peak - sky < 1:
        return light, np.empty(0)
    return light, sky + np.array(LEVELS) * (peak - sky)


def plot_light(cutout: NDArray[np.uint8], *, ax: Axes) -> NDArray[np.float64]:
    """Draw contours of the luminance of a cutout, at `LEVELS` between its median and its maximum.

    Parameters
    ----------
    cutout : (H, W, 3) ndarray of uint8
        The cutout. The luminance, by the weights of Rec. 709, is smoothed first.
    ax : Axes
        Axes to draw on, which have the extent of the cutout.

    Returns
    -------
    (n,) ndarray of float64
        The luminances of the contours, 0 to 255; none for a cutout of one colour.
    """
    light, levels = find_levels(cutout)
    if not len(levels):
        return levels
    for color, linewidth in (("white", 1.1), ("0.25", 0.5)):
        ax.contour(light, levels=levels, colors=color, linewidths=linewidth)
    return levels


def plot_hatching(
    mask: NDArray[np.bool_], cutout: NDArray[np.uint8], *, ax: Axes, side: float
) -> LineCollection:
    """Hatch the cells of a map with diagonal lines at a fixed distance on paper.

    They are lines, not a pattern, so that they look the same in each file format, and their
    distance does not depend on that of the cells.

    Parameters
    ----------
    mask : (h, w) ndarray of bool
        The cells to hatch.
    cutout : (H, W, 3) ndarray of uint8
        The cutout, which the map covers.
    ax : Axes
        Axes to draw on.
    side : float
        Side of the panel on paper [inch].

    Returns
    -------
    LineCollection
    """
    left, right, bottom, top = find_extent(cutout)
    origin, size = np.array([left, top]), np.array([right - left, bottom - top])
    segments = [
        origin + segment * size for segment in _cross_cells(mask, HATCH_SPACING / (72 * side))
    ]
    lines = LineCollection(segments, colors="0.35", linewidths=HATCH_WIDTH, capstyle="butt")
    ax.add_collection(lines, autolim=False)
    return lines


def _cross_cells(mask: NDArray[np.bool_], spacing: float) -> list[NDArray[np.float64]]:
    """Return the parts of diagonal lines that lie in cells of a mask, as ends (2, xy) from 0 to 1.

    The lines x + y = c lie at a distance of ``spacing`` from each other.
    """
    height, width = mask.shape
    segments = []
    step = spacing * np.sqrt(2)
    for total in np.arange(step / 2, 2, step):
        # Along x, the line enters another cell at each edge in x, and where y is an edge.
        stops = np.union1d(np.arange(width + 1) / width, total - np.arange(height + 1) / height)
        stops = stops[(stops >= max(0.0, total - 1)) & (stops <= min(1.0, total))]
        if len(stops) < 2:
            continue
        middle = (stops[1:] + stops[:-1]) / 2
        columns = np.clip((middle * width).astype(int), 0, width - 1)
        rows = np.clip(((total - middle) * height).astype(int), 0, height - 1)
        change = np.diff(np.concatenate([[0], mask[rows, columns].astype(int), [0]]))
        for first, last in zip(
            np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True
        ):
            x = stops[[first, last]]
            segments.append(np.stack([x, total - x], axis=1))
    return segments


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the galaxies of a selection; see `make_evidence`."""
    chosen = find_classes(store, options.classes)
    indices = np.asarray(selection.indices, np.intp)
    shown = [read_evidence(store, int(i), choose_evidence(store, int(i), chosen)) for i in indices]
    factors, unit = find_unit(store, indices)
    style = options.style
    compasses = find_compasses(read_orientations(store, indices), style)
    rows = [
        _make_row(store, int(index), one, float(factor), compass)
        for index, one, factor, compass in zip(indices, shown, factors, compasses, strict=True)
    ]
    fig = make_evidence(rows, options.width, unit=UNITS[unit], cmap=options.cmap)
    if fig.get_figheight() > find_room(options.width)[1] + 0.1:
        logger.warning(
            "evidence: %.1f inches tall, taller than a page; draw fewer galaxies (`n`)",
            fig.get_figheight(),
        )
    return Drawing(
        "evidence",
        f"Evidence maps: {', '.join(name_classes(store))}",
        (fig,),
        partial(_describe, store, selection, shown, chosen, unit, options.cmap, style),
        _describe_alt(store, indices, chosen),
        partial(tabulate_evidence, store, indices, chosen),
        galaxies=name_galaxies(store, indices),
        images=partial(iter_cubes, store, indices),
    )


def _make_row(
    store: Store, index: int, evidence: Evidence, factor: float, compass: Compass | None
) -> EvidenceRow:
    """Return the row of one galaxy, its maps in the unit of the figure."""
    masks = evidence.is_uncertain
    panels = [
        EvidencePanel(
            heading,
            footing,
            factor * evidence.maps[row],
            None if masks is None else masks[row],
            is_predicted,
        )
        for row, (heading, footing, is_predicted) in enumerate(
            label_evidence(store, evidence, index)
        )
    ]
    return EvidenceRow(
        store.objids(index),
        store.cutouts(index),
        panels,
        float(store.pixel_scale[index]),
        float(store.kpc_per_arcsec[index]),
        compass,
    )


def _plot_cutout(row: EvidenceRow, ax: Axes, side: float) -> None:
    size = _choose_font_size(side)
    plot_cutout(row.cutout, ax=ax)
    plot_heading(row.title, ax=ax, room=0.94 * side, size=size)
    plot_references(
        row.cutout.shape[1],
        row.pixel_scale,
        row.compass,
        ax=ax,
        side=side,
        size=max(MIN_FONT_SIZE, 0.85 * size),
        kpc_per_arcsec=row.kpc_per_arcsec,
    )


def _plot_panel(
    panel: EvidencePanel,
    cutout: NDArray[np.uint8],
    ax: Axes,
    side: float,
    vmax: float,
    cmap: str,
) -> None:
    size, room = _choose_font_size(side), 0.94 * side
    plot_evidence(panel.values, cutout, ax=ax, vmax=vmax, cmap=cmap)
    if panel.is_uncertain is not None:
        plot_hatching(panel.is_uncertain, cutout, ax=ax, side=side)
    plot_light(cutout, ax=ax)
    weight = "bold" if panel.is_predicted else "normal"
    plot_heading(panel.heading, ax=ax, room=room, size=size, weight=weight, **INK)
    size = min(fit_font_size(line, room, size) for line in panel.footing.split("\n"))
    plot_outlined_text(0.5, 0.05, panel.footing, ax=ax, size=size, va="bottom", **INK)
    if panel.is_predicted:
        plot_frame(ax, side, **INK)
    for spine in ax.spines.values():
        # The sky is white there as the paper is.
        spine.set(visible=True, color=find_ink(0.6), linewidth=0.5)


def _choose_font_size(side: float) -> float:
    return scale_font(float(np.clip(4.6 * side, 6.5, 9.0)))


def _count_blank(store: Store, indices: NDArray[np.intp]) -> str:
    """Say how many galaxies have no contours; "" if all have."""
    n_blank = sum(not len(find_levels(store.cutouts(int(index)))[1]) for index in indices)
    if not n_blank:
        return ""
    which = "the cutout" if n_blank == len(indices) == 1 else f"{n_blank} of {len(indices)}"
    return f"; {which} shows no light above its median, and has none"


def _describe_alt(store: Store, indices: NDArray[np.intp], chosen: Sequence[int]) -> str:
    """Describe the figure in one sentence of alternative text."""
    return (
        f"{count_rows(len(indices))}: a cutout, then signed maps of the evidence for "
        f"{name_evidence(store, PLAIN, chosen)}, with contours of the light of the cutout, on one "
        "diverging colour scale."
    )


def _describe(
    store: Store,
    selection: Selection,
    shown: Sequence[Evidence],
    chosen: Sequence[int],
    unit: str,
    cmap: str | None,
    style: StyleSettings,
    markup: Markup,
) -> str:
    """Write the caption, one sentence or more per line."""
    indices = np.asarray(selection.indices, np.intp)
    colors = tuple(f" ({word})" for word in COLOR_WORDS) if cmap is None else ("", "")
    per = "arcsec²" if unit == "arcsec" else "pixel of the cutout"
    levels = list_words([f"{100 * level:.0f}" for level in LEVELS])
    return join_lines(
        introduce_evidence(store, selection, shown, chosen, markup, "below contours of its light"),
        describe_evidence(store, markup),
        f"{describe_signs(*colors)} All rows share one linear scale, in log-odds per {per}; cells "
        "are drawn as they are, without interpolation.",
        describe_sums(store, shown, indices),
        describe_field(store, indices),
        describe_networks(store, shown, markup),
        f"Contours: luminance of the cutout, smoothed, at {levels}{markup.percent} of the way from "
        f"its median to its maximum{_count_blank(store, indices)}.",
        f"{describe_scale(store, indices, markup)} "
        f"{describe_orientation(read_orientations(store, indices), style)}",
        list_galaxies(store, indices, markup, order_rows(selection)),
        describe_training(store, markup),
    )
