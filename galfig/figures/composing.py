"""Panels as pixels: a cutout and its maps composed as one image, drawn as rows draw them."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from galfig.figures.rows import (
    BRIGHTNESS,
    COLORMAP,
    FADE,
    SHINING,
    Look,
    choose_signed,
    find_peak,
    list_colors,
    list_levels,
)

# Width of the frames of the predicted and of the true class, and their distance from the edge; and
# length of a dash and of the gap behind it [pixels].
FRAME, INSET, DASH = 3, 3, 9
# Side of the mark of a right or wrong prediction, and widths of its lines and of lines at levels,
# on a dark edge [pixels].
MARK, STROKE, EDGE = 26, 4, 10
LEVEL, LEVEL_EDGE = 2, 5
# Positive values over the dimmed cutout, and signed maps in the colours of evidence.
PLAIN_LOOK = Look(None, is_signed=False, overlay="opaque", scale="row")
SIGNED_LOOK = PLAIN_LOOK._replace(is_signed=True)
# Lines are drawn so much larger, to be smooth.
_FINER = 2


def compose_galaxy(
    cutout: NDArray[np.uint8],
    cams: NDArray[np.float32],
    side: int,
    look: Look | None = None,
    *,
    peaks: Sequence[float] | None = None,
    predicted: int | None = None,
    true: int | None = None,
) -> NDArray[np.uint8]:
    """Draw a cutout and its maps side by side as an image.

    Parameters
    ----------
    cutout : (H, W, 3) ndarray of uint8
        The cutout.
    cams : (M, h, w) ndarray of float32
        Its signed maps.
    side : int
        Side of each panel [pixels].
    look : Look, optional
        Colour map, overlay, and whether negative values are drawn; by default, positive values over
        the dimmed cutout.
    peaks : (M,) sequence of float, optional
        Where the colour scale of each map ends; by default, all at the largest value among them.
    predicted, true : int, optional
        Maps of the predicted and of the true class. The first has a frame and, if ``true`` is
        given, a mark that says whether both are the same; the second has a dashed frame where it is
        another. -1 is a class without a map; None is unknown.

    Returns
    -------
    (side, (1 + M) * side, 3) ndarray of uint8
    """
    look = look or PLAIN_LOOK
    if peaks is None:
        peaks = [find_peak(cams, look.is_signed)] * len(cams)
    # Compose at the resolution of the cutout, then enlarge without interpolation: the result
    # compresses fast, and the pixels are too small to see in print.
    if cutout.shape[0] > side:
        cutout = np.asarray(Image.fromarray(cutout).resize((side, side), Image.Resampling.BILINEAR))
    panels = [cutout]
    for cam, peak in zip(cams, peaks, strict=True):
        panels.append(compose_map(cam, cutout, peak, look))
    row = Image.fromarray(np.concatenate(panels, axis=1))
    image = np.array(row.resize((len(panels) * side, side), Image.Resampling.NEAREST))
    for number, (cam, peak) in enumerate(zip(cams, peaks, strict=True)):
        panel = image[:, (1 + number) * side : (2 + number) * side]
        if look.overlay == "contour" and peak > 0:
            _draw_levels(panel, cam, peak, look)
        if number == predicted:
            _draw_frame(panel)
            if true is not None:
                _draw_mark(panel, is_right=number == true)
        elif number == true:
            _draw_frame(panel, is_dashed=True)
    return image


def compose_map(
    cam: NDArray[np.float32], cutout: NDArray[np.uint8], peak: float, look: Look
) -> NDArray[np.uint8]:
    """Draw a map over its cutout, without lines at levels.

    Parameters
    ----------
    cam : (h, w) ndarray of float32
        The signed map.
    cutout : (H, W, 3) ndarray of uint8
        The cutout.
    peak : float
        End of the colour scale, in the unit of the map; 0 if it has none.
    look : Look
        Colour map, overlay, and whether negative values are drawn.

    Returns
    -------
    (H, W, 3) ndarray of uint8
        As `galfig.figures.rows.plot_map` draws it, at the resolution of the cutout.
    """
    ground = cutout * np.float32(BRIGHTNESS[look.overlay])
    if look.overlay == "contour":
        return ground.astype(np.uint8)
    share = cam / np.float32(peak if peak > 0 else 1.0)
    share = share if look.is_signed else np.maximum(share, 0.0)
    size = cutout.shape[1::-1]
    share = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR))
    share = np.clip(share, -1.0, 1.0)
    # The map covers the cutout, which shows through where the map is faint.
    alpha = np.minimum(np.abs(share) / np.float32(FADE), 1.0)[..., None]
    if look.overlay == "blend":
        alpha = alpha * np.float32(SHINING)
    place = (share + 1) / 2 if look.is_signed else share
    colors = tabulate_colors(look.cmap, is_signed=look.is_signed)[(place * 255).astype(np.uint8)]
    blended: NDArray[np.uint8] = (ground + alpha * (colors - ground)).astype(np.uint8)
    return blended


def compose_scale(look: Look, width: int = 256, height: int = 16) -> NDArray[np.uint8]:
    """Draw the colours of a scale over black sky, from its lower to its upper end.

    Parameters
    ----------
    look : Look
        As of `compose_map`.
    width, height : int
        Size [pixels].

    Returns
    -------
    (height, width, 3) ndarray of uint8
    """
    ramp = np.linspace(-1.0 if look.is_signed else 0.0, 1.0, width, dtype=np.float32)
    sky = np.zeros((height, width, 3), np.uint8)
    return compose_map(np.broadcast_to(ramp, (height, width)).copy(), sky, 1.0, look)


@cache
def tabulate_colors(cmap: str | None, *, is_signed: bool = False) -> NDArray[np.float32]:
    """Return the colours of a scale, (256, 3), as numbers from 0 to 255.

    Parameters
    ----------
    cmap : str or None
        Name of a colour map; None for the default.
    is_signed : bool, default False
        Whether the scale runs from the negative of its end, and not from zero.
    """
    colors = choose_signed(cmap) if is_signed else list_colors(cmap or COLORMAP)
    return (255 * colors(np.linspace(0.0, 1.0, 256))[:, :3]).astype(np.float32)


def _draw_frame(panel: NDArray[np.uint8], *, is_dashed: bool = False) -> None:
    """Draw a white frame with a dark outline just inside a panel."""
    for outer, color in ((INSET - 1, 0), (INSET, 255)):
        width = FRAME + 2 * (INSET - outer)
        inside = panel[outer : len(panel) - outer, outer : len(panel) - outer]
        is_frame = np.ones(inside.shape[:2], bool)
        is_frame[width:-width, width:-width] = False
        if is_dashed and color:
            rows, columns = np.indices(is_frame.shape)
            is_frame &= (rows + columns) // DASH % 2 == 0
        inside[is_frame] = color


def _draw_mark(panel: NDArray[np.uint8], *, is_right: bool) -> None:
    """Draw a tick or a cross in the upper right corner of a panel."""
    side = len(panel)
    size = min(MARK, 0.3 * side)
    top = INSET + FRAME + 0.4 * size
    left = side - top - size
    tick = [[(0.0, 0.55), (0.38, 0.95), (1.0, 0.05)]]
    cross = [[(0.05, 0.05), (0.95, 0.95)], [(0.05, 0.95), (0.95, 0.05)]]
    strokes = [
        [(left + x * size, top + y * size) for x, y in line]
        for line in (tick if is_right else cross)
    ]
    _draw_lines(panel, [(line, (255, 255, 255)) for line in strokes], STROKE, EDGE)


def _draw_levels(
    panel: NDArray[np.uint8], cam: NDArray[np.float32], peak: float, look: Look
) -> None:
    """Draw lines of a map at shares of the end of its scale; those below zero are dashed."""
    if min(cam.shape) < 2:
        return
    rows, columns = (len(panel) * (np.arange(n) + 0.5) / n for n in cam.shape)
    lines = contour_generator(columns, rows, cam.astype(np.float64))
    colors = tabulate_colors(look.cmap, is_signed=look.is_signed)
    low = -peak if look.is_signed else 0.0
    strokes = []
    for level in list_levels((low, peak)):
        color = tuple(int(c) for c in colors[int(255 * (level - low) / (peak - low))])
        for line in lines.lines(level):
            points = [(float(x), float(y)) for x, y in np.asarray(line)]
            strokes += [(part, color) for part in (_dash(points) if level < 0 else [points])]
    _draw_lines(panel, strokes, LEVEL, LEVEL_EDGE)


def _dash(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Cut a line into dashes."""
    line = np.asarray(points)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    dashes = []
    for start in np.arange(0.0, along[-1], 2 * DASH):
        stops = np.linspace(start, min(start + DASH, along[-1]), DASH)
        x, y = (np.interp(stops, along, line[:, axis]) for axis in (0, 1))
        dashes.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    return dashes


def _draw_lines(
    panel: NDArray[np.uint8],
    strokes: Sequence[tuple[Sequence[tuple[float, float]], tuple[int, ...]]],
    width: int,
    edge: int,
) -> None:
    """Draw lines on a dark edge, which sets them off from what lies below them."""
    side = len(panel)
    canvas = Image.new("RGBA", (_FINER * side, _FINER * side), (0, 0, 0, 0))
    pen = ImageDraw.Draw(canvas)
    for breadth in (edge, width):
        for line, color in strokes:
            if len(line) > 1:
                pen.line(
                    [(_FINER * x, _FINER * y) for x, y in line],
                    fill=(*(color if breadth == width else (0, 0, 0)), 255),
                    width=_FINER * breadth,
                    joint="curve",
                )
    small = np.asarray(canvas.resize((side, side), Image.Resampling.BOX), np.float32)
    alpha = small[..., 3:] / 255
    # Behind the box filter, colours of covered pixels alone count.
    panel[:] = (panel + alpha * (small[..., :3] - panel)).astype(np.uint8)
