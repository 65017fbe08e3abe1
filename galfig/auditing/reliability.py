"""Reliability: whether measures agree on which galaxies have good maps."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from galfig.auditing.estimates import Estimate, Measured, bootstrap
from galfig.auditing.sample import Progress, Sample
from galfig.errors import ConfigError

# Columns of galaxies by which maps are scored, and whether a high score is good (1) or bad (-1).
SCORES = {
    "deletion_over_random": 1,
    "insertion_over_random": 1,
    "symmetry": 1,
    "shift_symmetry": 1,
    "seed_agreement": 1,
    "evidence_overlap": 1,
    "sanity_correlation": -1,
    "energy_inside_field": 1,
    "outside_share": -1,
}
# Alpha from which Krippendorff would draw conclusions.
RELIABLE = 0.667


def measure(
    sample: Sample,
    *,
    measures: Mapping[str, Measured] | None = None,
    progress: Progress = lambda n: None,
) -> Measured:
    """Measure the agreement of the scores of single galaxies between measures.

    Each column of `SCORES` is ranked over the galaxies, with the good at the top. Krippendorff's
    alpha [1]_ of these ranks is 1 where all measures rank the galaxies alike, and 0 where they
    agree no more than by chance. So it was measured for metrics of saliency maps [2]_.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    measures : mapping of str to Measured
        What the other measures found.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured
        ``alpha`` of all scores, and of deletion and insertion alone as the control.

    Raises
    ------
    ConfigError
        If fewer than two of the scores were measured.

    References
    ----------
    .. [1] Krippendorff 2011, Computing Krippendorff's alpha-reliability,
       https://repository.upenn.edu/asc_papers/43
    .. [2] Tomsett et al. 2020, AAAI, arXiv:1912.01451
    """
    columns = {
        name: np.asarray(values, np.float64)
        for measured in (measures or {}).values()
        for name, values in measured.per_galaxy.items()
        if name in SCORES
    }
    # A score that is the same for all galaxies ranks none.
    columns = {
        name: SCORES[name] * values
        for name, values in columns.items()
        if np.unique(values[np.isfinite(values)]).size > 1
    }
    if len(columns) < 2:
        raise ConfigError(
            f"{sample.store.path}: {len(columns)} scores of single galaxies, expected at least 2 "
            "to compare; measure deletion and insertion, too"
        )
    ranks = rank_columns(np.stack(list(columns.values()), axis=1))
    alpha = bootstrap_alpha(ranks, seed=sample.seed)
    progress(len(sample))
    controls = {}
    pair = [name for name in ("deletion_over_random", "insertion_over_random") if name in columns]
    if len(pair) == 2 < len(columns):
        two = rank_columns(np.stack([columns[name] for name in pair], axis=1))
        controls["deletion and insertion"] = bootstrap_alpha(two, seed=sample.seed)
    is_reliable = alpha.low >= RELIABLE
    return Measured(
        name="reliability",
        numbers={"alpha": alpha},
        controls=controls,
        notes=(f"The scores are {', '.join(columns)}.",),
        supports=(
            f"The measures rank the maps of single galaxies alike (alpha {alpha.value:.2f})."
            if is_reliable
            else ""
        ),
        not_supported=(
            ""
            if is_reliable
            else f"The measures rank the maps of single galaxies differently (alpha "
            f"{alpha.value:.2f}), so that none of them tells good from bad maps."
        ),
    )


def bootstrap_alpha(ranks: NDArray[np.float64], *, seed: int) -> Estimate:
    """Estimate alpha over the galaxies that at least two measures scored."""
    used = ranks[np.isfinite(ranks).sum(axis=1) >= 2]
    # Rows with NaN are left out by `bootstrap`, so that positions are drawn, not rows.
    positions = np.arange(len(used), dtype=np.float64)
    return bootstrap(positions, lambda drawn: compute_alpha(used[drawn.astype(np.intp)]), seed=seed)


def rank_columns(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank each column, from 0 to 1; equal scores share a rank, and NaN has none.

    Parameters
    ----------
    scores : (n, k) ndarray of float64
        Scores of n galaxies by k measures.

    Returns
    -------
    (n, k) ndarray of float64
    """
    ranks = rankdata(scores, axis=0, nan_policy="omit")
    return (ranks - 1) / np.maximum(np.isfinite(scores).sum(axis=0) - 1, 1)


def compute_alpha(values: NDArray[np.float64]) -> float:
    r"""Compute Krippendorff's alpha of numbers on a scale of intervals.

    It is :math:`1 - D_o / D_e`: the observed mean squared difference of two values of one galaxy,
    over that of any two values [1]_.

    Parameters
    ----------
    values : (n, k) ndarray of float64
        Values of n galaxies by k measures, NaN where there is none. Galaxies with fewer than two
        are left out.

    Returns
    -------
    float
        NaN if fewer than two values differ.

    References
    ----------
    .. [1] Krippendorff 2011, https://repository.upenn.edu/asc_papers/43
    """
    is_there = np.isfinite(values)
    counts = is_there.sum(axis=1)
    values, is_there, counts = (one[counts >= 2] for one in (values, is_there, counts))
    if not len(values):
        return float("nan")
    filled = np.where(is_there, values, 0.0)
    total, squares = filled.sum(axis=1), (filled**2).sum(axis=1)
    # Sum over ordered pairs of (a - b)^2 is twice (count × sum of squares - square of the sum).
    observed = (2 * (counts * squares - total**2) / (counts - 1)).sum() / counts.sum()
    n_all = counts.sum()
    expected = 2 * (n_all * squares.sum() - total.sum() ** 2) / (n_all * (n_all - 1))
    return float(1 - observed / expected) if expected > 0 else float("nan")
