"""Estimates: numbers with their 95 % interval over galaxies."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galfig.records import Estimate as Estimate
from galfig.records import Measured as Measured

# Probability of the intervals, and number of times that the galaxies are drawn again.
LEVEL = 0.95
N_RESAMPLES = 1000

Statistic = Callable[[NDArray[np.float64]], float]


def bootstrap(
    values: ArrayLike,
    statistic: Statistic | None = None,
    *,
    seed: int,
    n_resamples: int = N_RESAMPLES,
) -> Estimate:
    """Estimate a statistic and its 95 % interval by drawing the galaxies again with replacement.

    The bounds are percentiles of the statistic of the resamples [1]_. For fewer than about twenty
    galaxies, such an interval is too narrow.

    Parameters
    ----------
    values : (n,) or (n, k) array_like of float
        One row for each galaxy. Rows with a value that is not finite are left out.
    statistic : callable, optional
        Takes the values of a resample, of the shape of ``values``, and returns a number; the mean
        by default. A resample of which it is not finite is left out.
    seed : int
        Seed of the draws.
    n_resamples : int, default 1000
        Number of resamples.

    Returns
    -------
    Estimate
        Its ``n`` counts the rows that were used.

    Raises
    ------
    ValueError
        If no row is finite, or the statistic is not.

    References
    ----------
    .. [1] Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13
    """
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found).reshape(len(found), -1).all(axis=1)]
    n = len(found)
    if not n:
        raise ValueError("no galaxy with a finite value, expected at least one")
    rng = np.random.default_rng(seed)
    compute = statistic or _mean
    value = float(compute(found))
    drawn = np.array([compute(found[rng.integers(n, size=n)]) for _ in range(n_resamples)])
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(drawn):
        raise ValueError(f"the statistic of {n} galaxies is {value}, expected a finite number")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high), n=n)


def bootstrap_known(columns: Mapping[str, ArrayLike], *, seed: int) -> dict[str, Estimate]:
    """Estimate the mean of those columns that have a finite value.

    Parameters
    ----------
    columns : mapping of str to (n,) array_like of float
        Values of galaxies, by the name of the number.
    seed : int
        Seed of the draws.

    Returns
    -------
    dict of str to Estimate
        Without the columns of which nothing is known, such as correlations of constant maps.
    """
    return {
        name: bootstrap(values, seed=seed)
        for name, values in columns.items()
        if np.isfinite(np.asarray(values, np.float64)).any()
    }


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rank correlation of each pair of maps.

    Parameters
    ----------
    first, second : (..., h, w) ndarray of float
        Maps.

    Returns
    -------
    (...) ndarray of float64
        Spearman's coefficient over the pixels; NaN where a map is constant.

    Notes
    -----
    It is Pearson's correlation of the ranks, of which equal values share the mean [1]_.

    References
    ----------
    .. [1] Spearman 1904, American Journal of Psychology 15, 72
    """
    from scipy.stats import rankdata

    shape = np.broadcast_shapes(first.shape, second.shape)
    ranks = [rankdata(maps.reshape(*maps.shape[:-2], -1), axis=-1) for maps in (first, second)]
    centred = [rank - rank.mean(axis=-1, keepdims=True) for rank in ranks]
    product = (centred[0] * centred[1]).sum(axis=-1)
    power = np.sqrt((centred[0] ** 2).sum(axis=-1) * (centred[1] ** 2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.broadcast_to(np.where(power > 0, product / power, np.nan), shape[:-2]).copy()
