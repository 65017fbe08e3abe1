"""Statistics of the map of one galaxy: where it lies, how concentrated it is, what it follows."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.auditing.estimates import spearman
from galfig.pipeline.moments import find_centroid, locate_cells, measure_gini


class MapStatistics(NamedTuple):
    """Statistics of a signed map M; NaN where one is not defined.

    Attributes
    ----------
    centroid_x, centroid_y : float
        Centroid of ``|M|`` from the centre of the cutout, right and down [pixel of the cutout].
    centroid_distance : float
        Its distance from the centre [pixel of the cutout].
    concentration : float
        Gini coefficient of ``|M|``: 0 where all cells are equal, 1 where one cell holds all.
    positive_to_negative : float
        Sum of the positive cells over that of the absolute negative ones; infinite without any.
    brightness_correlation : float
        Spearman correlation of M with the brightness of the cutout.
    """

    centroid_x: float
    centroid_y: float
    centroid_distance: float
    concentration: float
    positive_to_negative: float
    brightness_correlation: float


DESCRIPTIONS = {
    "centroid_x": ("centroid of |M| from the centre of the cutout, to the right", "pix"),
    "centroid_y": ("centroid of |M| from the centre of the cutout, downwards", "pix"),
    "centroid_distance": ("distance of the centroid of |M| from the centre of the cutout", "pix"),
    "concentration": ("Gini coefficient of |M|: 0 even, 1 all in one cell", ""),
    "positive_to_negative": ("sum of positive over sum of absolute negative cells of M", ""),
    "brightness_correlation": ("Spearman correlation of M with the cutout's brightness", ""),
    "share_r50": ("share of |M| within R50 of the centre of the cutout", ""),
    "share_r90": ("share of |M| within R90 of the centre of the cutout", ""),
    "agreement": ("median Spearman correlation between the maps of the networks", ""),
}
"""Description and unit of each statistic."""


def measure_map(evidence: NDArray[np.floating], cutout: NDArray[np.number]) -> MapStatistics:
    """Measure the map of a galaxy.

    Parameters
    ----------
    evidence : (h, w) ndarray of float
        Signed map M, such as the evidence for the predicted class.
    cutout : (H, W) or (H, W, B) ndarray
        Cutout under the whole of the map; its brightness is the mean over bands.

    Returns
    -------
    MapStatistics
    """
    values = np.asarray(evidence, np.float64)
    size = np.abs(values)
    x, y = find_centroid(size)
    height, width = values.shape
    x, y = x * cutout.shape[1] / width, y * cutout.shape[0] / height
    positive, negative = values.clip(min=0).sum(), -values.clip(max=0).sum()
    no_ratio = np.inf if positive > 0 else np.nan
    return MapStatistics(
        x,
        y,
        float(np.hypot(x, y)),
        measure_gini(size.ravel()),
        float(positive / negative) if negative > 0 else no_ratio,
        float(spearman(values, measure_brightness(cutout, values.shape))),
    )


def measure_brightness(cutout: NDArray[np.number], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Average the brightness of a cutout over the cells of a map.

    Parameters
    ----------
    cutout : (H, W) or (H, W, B) ndarray
        Pixels; with bands, their mean counts.
    shape : (h, w)
        Shape of the map, which lies over the whole cutout.

    Returns
    -------
    (h, w) ndarray of float64
        Mean of the pixels under each cell, where those at its edge count by their part in it.
    """
    pixels = np.asarray(cutout, np.float64)
    pixels = pixels.mean(axis=-1) if pixels.ndim == 3 else pixels
    rows, columns = (_make_overlap(n, m) for n, m in zip(shape, pixels.shape, strict=True))
    brightness: NDArray[np.float64] = rows @ pixels @ columns.T
    return brightness


def measure_share(evidence: NDArray[np.floating], radius: float, side: int) -> float:
    """Return the share of a map's absolute values within a circle around its centre.

    Parameters
    ----------
    evidence : (h, w) ndarray of float
        Signed map.
    radius : float
        Radius of the circle [pixel of the cutout].
    side : int
        Side of the cutout [pixel].

    Returns
    -------
    float
        Share of the cells whose centres are inside; NaN for an unknown radius or an empty map.
    """
    size = np.abs(np.asarray(evidence, np.float64))
    total = size.sum()
    if not np.isfinite(radius) or radius <= 0 or total == 0:
        return float("nan")
    y, x = (locate_cells(n) * side / n for n in size.shape)
    is_inside = np.hypot(x[None, :], y[:, None]) <= radius
    return float(size[is_inside].sum() / total)


def _make_overlap(n_cells: int, n_pixels: int) -> NDArray[np.float64]:
    """Return which part of each cell lies over each pixel of an axis, (n_cells, n_pixels)."""
    edges = np.linspace(0, n_pixels, n_cells + 1)
    pixels = np.arange(n_pixels)
    low = np.maximum(edges[:-1, None], pixels[None, :])
    high = np.minimum(edges[1:, None], pixels[None, :] + 1)
    parts: NDArray[np.float64] = (high - low).clip(min=0) * n_cells / n_pixels
    return parts
