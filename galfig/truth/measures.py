"""Measures: how much of a map lies on the component that decides, and what trivial maps reach."""

import numpy as np
from numpy.typing import NDArray

MEASURES = ("mass accuracy", "rank accuracy", "pointing game")
BASELINES = ("centre dot", "brightness", "random")
DOT_SIGMA = 1 / 16
"""Standard deviation of the centre dot, in sides of the map."""


def score_map(attribution: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    r"""Score a map against the mask of what decides.

    *Mass accuracy* is :math:`\sum_\mathrm{mask} R^+ / \sum R^+`. *Rank accuracy* is the share of
    the :math:`k` highest pixels that lie in the mask, where :math:`k` is its size [1]_. The
    *pointing game* is won if the highest pixel does [2]_. Pixels of equal value count as if they
    were drawn in random order, so that a constant map scores as a random one. A map without
    positive values says nothing, and has the mass accuracy of a constant one.

    Parameters
    ----------
    attribution : (H, W) ndarray of float
        The map, R.
    mask : (H, W) ndarray of bool
        True inside; neither empty nor full.

    Returns
    -------
    (3,) ndarray of float64
        The `MEASURES`, 0 to 1.

    References
    ----------
    .. [1] Arras, Osman & Samek 2022, Information Fusion 81, 14, arXiv:2003.07258
    .. [2] Zhang et al. 2018, IJCV 126, 1084, arXiv:1608.00507
    """
    flat = np.asarray(attribution, np.float64).ravel()
    inside = mask.ravel()
    k = int(inside.sum())
    area = k / flat.size
    positive = np.maximum(flat, 0)
    total = positive.sum()
    mass = positive[inside].sum() / total if total > 0 else area
    return np.array([mass, _share_of_top(flat, inside, k), _share_of_top(flat, inside, 1)])


def _share_of_top(values: NDArray[np.float64], inside: NDArray[np.bool_], k: int) -> float:
    """Return the share of the k highest values that are inside, with ties in random order."""
    least = np.partition(values, -k)[-k]
    is_above, is_tied = values > least, values == least
    n_free = k - is_above.sum()
    return float(
        ((is_above & inside).sum() + n_free * (is_tied & inside).sum() / is_tied.sum()) / k
    )


def draw_baselines(cutout: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Return maps that know nothing of the network.

    Parameters
    ----------
    cutout : (H, W, B) ndarray of uint8
        The image.

    Returns
    -------
    dict of str to (H, W) ndarray of float64
        ``centre dot``: a Gaussian at the centre, with a standard deviation of a sixteenth of the
        side. ``brightness``: the mean of the channels above its median over the image. ``random``:
        a constant, which scores as the mean of all random maps does: the mask's share of the area.
    """
    height, width = cutout.shape[:2]
    y, x = (np.arange(side) - (side - 1) / 2 for side in (height, width))
    squared = y[:, None] ** 2 + x**2
    light = cutout.mean(axis=2)
    return {
        "centre dot": np.exp(-0.5 * squared / (DOT_SIGMA * height) ** 2),
        "brightness": light - np.median(light),
        "random": np.ones((height, width)),
    }


def share_inside(attribution: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    r"""Return the share of attribution of either sign in a mask.

    Parameters
    ----------
    attribution : (H, W) ndarray of float
        The map, R.
    mask : (H, W) ndarray of bool
        True inside.

    Returns
    -------
    float
        :math:`\sum_\mathrm{mask} |R| / \sum |R|`; the mask's share of the area for a map of zeros.
    """
    size = np.abs(np.asarray(attribution, np.float64))
    total = size.sum()
    return float(size[mask].sum() / total) if total > 0 else float(mask.mean())


def fit_map(attribution: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    """Bring a map to the resolution of the masks, which cover the same area of the image.

    Parameters
    ----------
    attribution : (h, w) ndarray of float
        The map.
    side : int
        Side of the masks [pixels].

    Returns
    -------
    (side, side) ndarray of float64
        Coarser maps are interpolated linearly between the centres of their pixels, as by torch's
        ``interpolate`` without ``align_corners``; finer ones are averaged over each pixel.
    """
    rows, columns = (weigh_pixels(length, side) for length in attribution.shape)
    return rows @ np.asarray(attribution, np.float64) @ columns.T


def weigh_pixels(n_old: int, n_new: int) -> NDArray[np.float64]:
    """Return the weight of each old pixel in each new one, along one axis.

    Parameters
    ----------
    n_old, n_new : int
        Numbers of pixels that cover the same length.

    Returns
    -------
    (n_new, n_old) ndarray of float64
        Rows sum to 1.
    """
    old, new = np.arange(n_old), np.arange(n_new)
    if n_new >= n_old:
        center = np.clip((new + 0.5) * n_old / n_new - 0.5, 0, n_old - 1)
        return np.maximum(1 - np.abs(center[:, None] - old), 0)
    # The overlap of each pair of pixels.
    step = n_old / n_new
    low = np.maximum(new[:, None] * step, old)
    high = np.minimum((new[:, None] + 1) * step, old + 1)
    return np.maximum(high - low, 0) / step
