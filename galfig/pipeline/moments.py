"""Moments: where the map of a galaxy lies, how concentrated it is, and what it adds up to."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from galfig.metrics import contrast_with_rest
from galfig.pipeline.spread import is_contrasted
from galfig.store.chunks import round_maps
from galfig.store.forms import STATISTICS

Numbers = Mapping[str, NDArray[np.float32] | float]


def measure_maps(
    cams: NDArray[np.float32], logits: NDArray[np.float32], method: str, cutout_size: int
) -> dict[str, NDArray[np.float32] | float]:
    """Measure the numbers that a store of statistics holds of the maps of a galaxy.

    Parameters
    ----------
    cams : (C, h, w) ndarray of float32
        Signed map of each class [logit].
    logits : (C,) ndarray of float32
        Logits.
    method : str
        Method of the maps.
    cutout_size : int
        Side of the cutout under them [pixel].

    Returns
    -------
    dict of str to float or (C,) ndarray of float32
        By dataset, one of `galfig.store.forms.STATISTICS`; of the maps as a full store returns
        them, after rounding to float16.
    """
    return measure_rounded(round_maps(cams), logits, method, cutout_size)


def measure_rounded(
    maps: NDArray[np.float32], logits: NDArray[np.float32], method: str, cutout_size: int
) -> dict[str, NDArray[np.float32] | float]:
    """Measure the same numbers of maps as a store returns them.

    Parameters
    ----------
    maps : (C, h, w) ndarray of float32
        Signed map of each class [logit].
    logits, method, cutout_size
        As of `measure_maps`.

    Returns
    -------
    dict of str to float or (C,) ndarray of float32
        As of `measure_maps`.
    """
    evidence = _choose_map(maps, logits, method)
    size = np.abs(evidence)
    x, y = find_centroid(size)
    total = size.sum()
    return {
        "cam_total": maps.sum(axis=(1, 2), dtype=np.float64).astype(np.float32),
        "cam_peak": maps.max(axis=(1, 2)),
        "centroid_x": x * cutout_size / maps.shape[2],
        "centroid_y": y * cutout_size / maps.shape[1],
        "concentration": measure_gini(size.ravel()),
        "positive_share": float(evidence.clip(min=0).sum() / total) if total > 0 else np.nan,
    }


def collect_statistics(
    numbers: Sequence[Numbers], n_classes: int
) -> dict[str, NDArray[np.float32]]:
    """Return the numbers of N galaxies as arrays, by dataset.

    Parameters
    ----------
    numbers : sequence of dict
        Those of `measure_maps`, of each galaxy; there may be none.
    n_classes : int
        Number of classes, C.

    Returns
    -------
    dict of str to (N,) or (N, C) ndarray of float32
    """
    return {
        name: np.array([one[name] for one in numbers], np.float32).reshape(
            len(numbers), *((n_classes,) if name.startswith("cam_") else ())
        )
        for name in STATISTICS
    }


def _choose_map(
    cams: NDArray[np.float32], logits: NDArray[np.float32], method: str
) -> NDArray[np.float64]:
    """Return the map under test of an audit: the evidence for the predicted class.

    It is the map of that class where this is evidence already, or none follows from it.
    """
    predicted = int(logits.argmax())
    if not is_contrasted(method) or len(cams) < 2:
        return cams[predicted].astype(np.float64)
    if len(cams) == 2:
        return (cams[predicted] - cams[1 - predicted]).astype(np.float64)
    return contrast_with_rest(cams, logits)[predicted].astype(np.float64)


def find_centroid(size: NDArray[np.float64]) -> tuple[float, float]:
    """Return the centroid of an array from its centre.

    Parameters
    ----------
    size : (h, w) ndarray of float64
        Values that are not negative.

    Returns
    -------
    x, y : float
        To the right and downwards [cell]; NaN if all cells are 0.
    """
    total = size.sum()
    if total == 0:
        return float("nan"), float("nan")
    y, x = (locate_cells(n) for n in size.shape)
    return float((size.sum(axis=0) * x).sum() / total), float((size.sum(axis=1) * y).sum() / total)


def locate_cells(n: int) -> NDArray[np.float64]:
    """Return the coordinate of each of n cells from the centre between them [cell]."""
    return np.arange(n, dtype=np.float64) - (n - 1) / 2


def measure_gini(size: NDArray[np.float64]) -> float:
    r"""Return the Gini coefficient of some cells.

    Parameters
    ----------
    size : (n,) ndarray of float64
        Values that are not negative.

    Returns
    -------
    float
        0 where all cells are equal, 1 where one holds all; NaN if all are 0, or for one cell.

    Notes
    -----
    That of n cells with the values :math:`x_1 \le x_2 \le \ldots` is
    :math:`\sum_i (2 i - n - 1) x_i / (\bar{x} n (n - 1))` [1]_.

    References
    ----------
    .. [1] Lotz, Primack & Madau 2004, AJ 128, 163, equation 6
    """
    n, total = size.size, size.sum()
    if n < 2 or total == 0:
        return float("nan")
    rank = np.arange(1, n + 1)
    return float(((2 * rank - n - 1) * np.sort(size)).sum() / (total * (n - 1)))
