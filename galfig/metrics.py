"""Scores of a classifier, on plain arrays: losses, confusion matrix, ROC curves, reliability.

scikit-learn, scipy and astropy are imported where they are called: their imports take as long as
drawing a figure.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Probability that the interval of the area under a ROC curve contains the true area.
LEVEL = 0.95
# Bins of a reliability diagram.
N_BINS = 8
# A classifier is better than chance if chance would do as well with at most this probability.
SIGNIFICANCE = 0.05
# With fewer galaxies in a class, or in its part of the validation set, metrics mean little.
MIN_IN_CLASS, MIN_IN_VALID = 20, 5


class RocCurve(NamedTuple):
    """ROC curve of one class against the rest.

    Attributes
    ----------
    false_positive_rate, true_positive_rate : (n,) ndarray of float64
        The curve, from (0, 0) to (1, 1).
    area : float
        Area under the curve.
    low, high : float
        Bounds of the 95 % interval of the area; see `area_interval`.
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    area: float
    low: float
    high: float


def score(probs: NDArray[np.floating], labels: NDArray[np.integer]) -> dict[str, float]:
    """Return the accuracy, the ROC AUC, the F1 score and the balanced accuracy of some galaxies.

    Parameters
    ----------
    probs : (N, C) ndarray of float
        Predicted probability of each class.
    labels : (N,) ndarray of int
        Index of the true class, 0 to C - 1.

    Returns
    -------
    dict of str to float
        ``accuracy``, the fraction classified correctly. ``roc_auc``, the area under the ROC
        curve; for more than two classes, the unweighted mean over each class against the rest.
        It is NaN where a class is absent or a probability is not finite. ``f1``, the unweighted
        mean over the classes, so that no class is singled out as the positive one.
        ``balanced_accuracy``, see `Accuracy`.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    n_classes = probs.shape[1]
    every_class = list(range(n_classes))
    predicted = probs.argmax(axis=1)
    roc_auc = float("nan")
    if len(np.unique(labels)) == n_classes and np.isfinite(probs).all():
        if n_classes == 2:
            roc_auc = float(roc_auc_score(labels, probs[:, 1]))
        else:
            # scikit-learn rejects rows whose sum in float32 is too far from one.
            rows = probs.astype(np.float64)
            rows /= rows.sum(axis=1, keepdims=True)
            roc_auc = float(roc_auc_score(labels, rows, multi_class="ovr", labels=every_class))
    accuracy = measure_accuracy(predicted, labels, n_classes)
    return {
        "accuracy": float("nan") if accuracy is None else accuracy.accuracy,
        "roc_auc": roc_auc,
        "f1": float(
            f1_score(labels, predicted, labels=every_class, average="macro", zero_division=0)
        ),
        "balanced_accuracy": float("nan") if accuracy is None else accuracy.balanced_accuracy,
    }


class Accuracy(NamedTuple):
    """How many galaxies are classified correctly, and how many would be without any network.

    Attributes
    ----------
    n : int
        Number of galaxies whose true class is known; at least one.
    n_right : int
        Number of those that are classified correctly.
    accuracy : float
        Their ratio.
    majority : int
        Index of the true class that most of these galaxies have; the first of several.
    majority_share : float
        Its share: the accuracy of always predicting this class.
    balanced_accuracy : float
        The unweighted mean over the classes of the fraction classified correctly; 1 / C for any
        prediction that ignores the galaxy. It is NaN where a class has no galaxy.
    """

    n: int
    n_right: int
    accuracy: float
    majority: int
    majority_share: float
    balanced_accuracy: float

    @property
    def p_chance(self) -> float:
        """Probability that a guess would be right so often.

        It is that of at least ``n_right`` galaxies classified correctly if each were with the
        probability ``majority_share``: the p-value of a one-sided binomial test.
        """
        # Only where it is asked for: to import scipy takes longer than all other numbers here.
        from scipy.special import bdtrc

        # The probability of more galaxies than the first argument.
        return float(bdtrc(self.n_right - 1, self.n, self.majority_share))

    @property
    def is_above_majority(self) -> bool:
        """Whether the accuracy is above the majority share by more than chance explains (5 %)."""
        return self.p_chance <= SIGNIFICANCE


def measure_accuracy(
    predicted: NDArray[np.integer], labels: NDArray[np.integer], n_classes: int
) -> Accuracy | None:
    """Measure the accuracy of a classifier, and of the majority class beside it.

    Parameters
    ----------
    predicted : (N,) ndarray of int
        Index of the predicted class.
    labels : (N,) ndarray of int
        Index of the true class; negative where it is unknown, and the galaxy is not counted.
    n_classes : int
        Number of classes, C.

    Returns
    -------
    Accuracy or None
        None if no true class is known.
    """
    is_labelled = labels >= 0
    labels, predicted = labels[is_labelled], predicted[is_labelled]
    if not len(labels):
        return None
    n_in_class = np.bincount(labels, minlength=n_classes)
    n_right = np.bincount(labels[predicted == labels], minlength=n_classes)
    balanced = float(np.mean(n_right / n_in_class)) if (n_in_class > 0).all() else float("nan")
    return rate_accuracy(int(n_right.sum()), n_in_class.tolist(), balanced)


def rate_accuracy(
    n_right: int, n_in_class: Sequence[int], balanced_accuracy: float = float("nan")
) -> Accuracy:
    """Rate a number of galaxies classified correctly against the majority class.

    Parameters
    ----------
    n_right : int
        Number of galaxies that are classified correctly.
    n_in_class : sequence of int
        Number of galaxies of each true class, (C,); not all zero.
    balanced_accuracy : float, optional
        Where it is known.

    Returns
    -------
    Accuracy
    """
    n, most = sum(n_in_class), max(n_in_class)
    majority = list(n_in_class).index(most)
    return Accuracy(n, n_right, n_right / n, majority, most / n, balanced_accuracy)


def describe_baseline(accuracy: Accuracy, class_names: Sequence[str]) -> str:
    """Say that an accuracy is not above the majority share; "" if it is.

    Parameters
    ----------
    accuracy : Accuracy
        From `measure_accuracy`.
    class_names : (C,) sequence of str
        Names of the classes.

    Returns
    -------
    str
        A clause with the numbers.
    """
    if accuracy.is_above_majority:
        return ""
    always = f"always {class_names[accuracy.majority]!r} gives {accuracy.majority_share:.3f}"
    found = f"the accuracy {accuracy.accuracy:.3f} on {accuracy.n} galaxies"
    if accuracy.accuracy <= accuracy.majority_share:
        return f"{found} is no better than a guess: {always}"
    return f"{found} may be chance (p = {accuracy.p_chance:.2f}): {always}"


def describe_few(n_train: Mapping[str, int], n_valid: Mapping[str, int]) -> list[str]:
    """Say which classes have too few galaxies for their metrics to mean much.

    Parameters
    ----------
    n_train, n_valid : mapping of str to int
        Number of galaxies of each class in the training and validation set.

    Returns
    -------
    list of str
        A clause for each kind of shortage; empty if there is none.
    """
    few = {name: n + n_valid.get(name, 0) for name, n in n_train.items()}
    few = {name: n for name, n in few.items() if n < MIN_IN_CLASS}
    few_valid = {name: n for name, n in n_valid.items() if n < MIN_IN_VALID}
    clauses = []
    if few:
        counts = ", ".join(f"{n} {name!r}" for name, n in few.items())
        clauses.append(f"only {counts} to train and validate, expected {MIN_IN_CLASS} of a class")
    if few_valid:
        counts = ", ".join(f"{n} {name!r}" for name, n in few_valid.items())
        clauses.append(f"only {counts} to validate, expected {MIN_IN_VALID} of a class")
    return clauses


def compute_losses(
    logits: NDArray[np.floating], labels: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the cross-entropy of each galaxy: minus the log-probability of its true class.

    It is computed from the logits, since a probability that float32 rounds to zero would make the
    loss infinite.

    Parameters
    ----------
    logits : (N, C) ndarray of float
        Outputs of the network before the softmax.
    labels : (N,) ndarray of int
        Index of the true class, negative where unknown.

    Returns
    -------
    (N,) ndarray of float64
        Losses [nat], NaN where the true class is unknown.
    """
    from scipy.special import log_softmax

    log_p = log_softmax(np.asarray(logits, np.float64), axis=1)
    losses = -log_p[np.arange(len(labels)), np.maximum(labels, 0)]
    return np.where(labels >= 0, losses, np.nan)


def compute_log_odds(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""Return the log-odds of each class against the rest.

    They are :math:`\log p_c - \log(1 - p_c)`, computed from the logits, so that they stay finite
    where a probability is 0 or 1 to the precision of its type. With two classes they are the
    difference of the two logits.

    Parameters
    ----------
    logits : (N, C) ndarray of float
        Outputs of the network before the softmax, for two classes or more.

    Returns
    -------
    (N, C) ndarray of float64
        Log-odds [nat].
    """
    from scipy.special import log_softmax, logsumexp

    logits = np.asarray(logits, np.float64)
    if logits.shape[1] == 2:
        # Exactly opposite, as rounding in a softmax would not leave them.
        difference = logits[:, 1] - logits[:, 0]
        return np.stack([-difference, difference], axis=1)
    log_p = log_softmax(logits, axis=1)
    p = np.exp(log_p)
    # The largest probability may be so close to one that the rest must be added up by itself.
    top = logits.argmax(axis=1)[:, None]
    np.put_along_axis(p, top, 0.0, axis=1)
    log_odds = log_p - np.log1p(-p)
    others = logits.copy()
    np.put_along_axis(others, top, -np.inf, axis=1)
    largest = np.take_along_axis(logits, top, axis=1) - logsumexp(others, axis=1, keepdims=True)
    np.put_along_axis(log_odds, top, largest, axis=1)
    return log_odds


def compute_rest_shares(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""Return how the probability of all other classes is shared among them.

    For class :math:`c`, the share of class :math:`j \ne c` is :math:`q_{cj} = p_j / (1 - p_c)`,
    the softmax of the logits without that of :math:`c`.

    Parameters
    ----------
    logits : (C,) ndarray of float
        Logits of one galaxy, for two classes or more.

    Returns
    -------
    (C, C) ndarray of float64
        The shares :math:`q_{cj}`, each row with the sum 1 and zero on the diagonal.
    """
    from scipy.special import softmax

    rivals = np.tile(np.asarray(logits, np.float64), (len(logits), 1))
    np.fill_diagonal(rivals, -np.inf)
    return np.asarray(softmax(rivals, axis=1), np.float64)


def contrast_with_rest(
    values: NDArray[np.floating], logits: NDArray[np.floating]
) -> NDArray[np.floating]:
    r"""Return values of each class less those of the rest.

    For maps :math:`L_c`, this is the evidence :math:`E_c = L_c - \sum_{j \ne c} q_{cj} L_j`, with
    the shares :math:`q` of `compute_rest_shares`: the map of the gradient of the log-odds of
    :math:`c` against the rest. A part that all classes share cancels; the prediction does not
    depend on it [1]_. With two classes, it is the difference of the two maps.

    Where pooling and one linear layer with the biases :math:`b` follow the layer explained,
    the sum of :math:`L_c` over its pixels is :math:`z_c - b_c`. The sum of :math:`E_c` is then the
    log-odds, less the same contrast of the biases and plus the entropy :math:`H(q_c)`, which is
    zero for two classes; see `compute_offsets`.

    Parameters
    ----------
    values : (C, ...) ndarray of float
        A map, or any other value, of each class of one galaxy.
    logits : (C,) ndarray of float
        Its logits.

    Returns
    -------
    (C, ...) ndarray of float
        The contrasts, in the type of ``values``.

    References
    ----------
    .. [1] Srinivas & Fleuret 2020, arXiv:2006.09128
    """
    if len(values) == 2:
        difference = values[1] - values[0]
        return np.stack([-difference, difference])
    shares = compute_rest_shares(logits).astype(values.dtype)
    return values - np.tensordot(shares, values, axes=1)


def compute_offsets(
    head_bias: NDArray[np.floating], logits: NDArray[np.floating]
) -> NDArray[np.float64]:
    r"""Return what the log-odds of each class hold beside the sum of its evidence map.

    It is :math:`b_c - \sum_{j \ne c} q_{cj} b_j - H(q_c)`, where :math:`H` is the entropy of the
    shares of `compute_rest_shares`. With two classes, only the difference of the biases is left.

    Parameters
    ----------
    head_bias : (C,) ndarray of float
        Biases :math:`b` of the linear layer after the pooling.
    logits : (C,) ndarray of float
        Logits of one galaxy.

    Returns
    -------
    (C,) ndarray of float64
        The offsets [nat].
    """
    from scipy.special import entr

    bias = contrast_with_rest(np.asarray(head_bias, np.float64), logits)
    return np.asarray(bias - entr(compute_rest_shares(logits)).sum(axis=1), np.float64)


def count_confusions(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """Count galaxies by true class and predicted class.

    Parameters
    ----------
    labels : (N,) ndarray of int
        Index of the true class, 0 to C - 1.
    predicted : (N,) ndarray of int
        Index of the predicted class.
    n_classes : int
        Number of classes, C.

    Returns
    -------
    (C, C) ndarray of int64
        The confusion matrix: true classes in rows, predicted classes in columns.
    """
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=list(range(n_classes))).astype(np.int64)


def compute_roc(is_class: NDArray[np.bool_], p: NDArray[np.floating]) -> RocCurve:
    """Compute a ROC curve, its area, and an interval of the area.

    The galaxies are sorted once. The results are exact counts and closed formulas, so that they do
    not depend on the order of the galaxies or on a seed.

    Parameters
    ----------
    is_class : (N,) ndarray of bool
        True for galaxies of the class; at least one galaxy must be inside it and one outside.
    p : (N,) ndarray of float
        Predicted probability of the class.

    Returns
    -------
    RocCurve
        The points of the curve at which its direction changes, and the area with its interval.
    """
    order = np.argsort(-np.asarray(p, np.float64), kind="stable")
    ranked = p[order]
    # The last galaxy of each group of equal p.
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    n_true = np.append(0, np.cumsum(is_class[order])[ends])
    n_false = np.append(0, ends + 1) - n_true
    m, n = int(n_true[-1]), int(n_false[-1])
    # Half of the pairs with equal p count as ordered. The sum is over whole numbers.
    area = int(np.sum(np.diff(n_false) * (n_true[1:] + n_true[:-1]))) / (2 * m * n)
    variance = _area_variance(n_true, n_false, area)
    low, high = area_interval(area, variance, m, n)
    is_corner = np.full(len(n_true), True)
    rise, run = np.diff(n_true), np.diff(n_false)
    is_corner[1:-1] = rise[:-1] * run[1:] != rise[1:] * run[:-1]
    return RocCurve(n_false[is_corner] / n, n_true[is_corner] / m, area, low, high)


def _area_variance(
    n_true: NDArray[np.int64], n_false: NDArray[np.int64], area: float
) -> float | None:
    """Estimate the variance of the area under a ROC curve as DeLong et al. (1988) do.

    ``n_true`` and ``n_false`` count the galaxies inside and outside the class down to each
    probability. None where one galaxy alone is inside or outside.
    """
    m, n = int(n_true[-1]), int(n_false[-1])
    if min(m, n) < 2:
        return None
    # For a galaxy of the class, the share of the others that it precedes; and the reverse.
    precedes = 1 - (n_false[1:] + n_false[:-1]) / (2 * n)
    follows = (n_true[1:] + n_true[:-1]) / (2 * m)
    inside = np.sum(np.diff(n_true) * (precedes - area) ** 2) / (m - 1)
    outside = np.sum(np.diff(n_false) * (follows - area) ** 2) / (n - 1)
    return float(inside / m + outside / n)


def area_interval(area: float, variance: float | None, m: int, n: int) -> tuple[float, float]:
    r"""Return the 95 % interval of the area under a ROC curve.

    The bounds are the areas :math:`x` at which the area measured lies 1.96 standard deviations
    away: :math:`(A - x)^2 = 1.96^2\, r\, V(x)`. With :math:`V`, the variance of Hanley & McNeil
    [1]_ in the form of Newcombe, this is his method 5 [2]_, which holds for small numbers and does
    not degenerate where the area is 0 or 1. His :math:`V` assumes that the probabilities inside and
    outside the class scatter alike. The factor :math:`r` is the ratio of the variance measured as
    by DeLong et al. [3]_ to :math:`V(A)`, and corrects for that. A ratio below one is not trusted
    where hardly any galaxy is misplaced: it is drawn towards one with weight :math:`2 / (2 + E)`
    for :math:`E = \min(m, n) \min(A, 1 - A)`. It is one where the variance cannot be measured, or
    :math:`A` is 0 or 1.

    Simulations with 3 to 1000 galaxies inside and outside the class, areas from 0.5 to 0.999, and
    scatters that differ threefold, give a mean coverage of 96 %. It is below 88 % for three
    against three galaxies alone. A bootstrap covers 47 % of the cases with five against five
    galaxies at an area of 0.95.

    Parameters
    ----------
    area : float
        Area measured, 0 to 1.
    variance : float or None
        Its variance by DeLong et al.; None if it cannot be measured.
    m, n : int
        Number of galaxies inside and outside the class.

    Returns
    -------
    low, high : float
        Bounds of the area.

    References
    ----------
    .. [1] Hanley & McNeil 1982, Radiology 143, 29
    .. [2] Newcombe 2006, Statistics in Medicine 25, 559
    .. [3] DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, 837
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    model = _model_variance(area, m, n)
    ratio = variance / model if variance is not None and model > 0 else 1.0
    if ratio < 1:
        n_misplaced = min(m, n) * min(area, 1 - area)
        ratio += (1 - ratio) * 2 / (2 + n_misplaced)
    z = ndtri((1 + LEVEL) / 2)

    def excess(x: float) -> float:
        return float((area - x) ** 2 - z**2 * ratio * _model_variance(x, m, n))

    # At an area of 0 or 1 the variance vanishes, and the area itself solves the equation too.
    below, above = min(area, 1 - 1e-12), max(area, 1e-12)
    low = brentq(excess, 0.0, below, xtol=1e-12) if area > 0 else 0.0
    high = brentq(excess, above, 1.0, xtol=1e-12) if area < 1 else 1.0
    return float(low), float(high)


def _model_variance(area: float, m: int, n: int) -> float:
    """Return the variance of an area for m and n galaxies, as Newcombe (2006) models it."""
    half = (m + n) / 2 - 1
    spread = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
    return area * (1 - area) * spread / (m * n)


def count_reliability(
    p: NDArray[np.floating], is_right: NDArray[np.bool_], n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Count all galaxies and those classified correctly, in bins of predicted probability.

    The `N_BINS` bins have equal widths between 1 / C and 1.

    Parameters
    ----------
    p : (N,) ndarray of float
        Probability of the predicted class, at least 1 / C.
    is_right : (N,) ndarray of bool
        True where the predicted class is the true class.
    n_classes : int
        Number of classes, C.

    Returns
    -------
    mean_p : (B,) ndarray of float64
        Mean probability in each bin that is not empty.
    n : (B,) ndarray of int64
        Number of galaxies in each of these bins.
    n_right : (B,) ndarray of int64
        Number of galaxies classified correctly in each of these bins.
    """
    edges = np.linspace(1 / n_classes, 1, N_BINS + 1)
    index = np.clip(np.digitize(p, edges) - 1, 0, N_BINS - 1)
    n = np.bincount(index, minlength=N_BINS)
    n_right = np.bincount(index, weights=is_right, minlength=N_BINS).astype(np.int64)
    total = np.bincount(index, weights=p.astype(np.float64), minlength=N_BINS)
    filled = n > 0
    return total[filled] / n[filled], n[filled], n_right[filled]


def wilson_interval(
    n_right: NDArray[np.int64], n: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 68 % (1 sigma) Wilson interval of a binomial proportion [1]_.

    Parameters
    ----------
    n_right : (B,) ndarray of int64
        Number of successes.
    n : (B,) ndarray of int64
        Number of trials, above zero.

    Returns
    -------
    low, high : (B,) ndarray of float64
        Bounds of the proportion.

    References
    ----------
    .. [1] Wilson 1927, JASA 22, 209
    """
    from astropy.stats import binom_conf_interval

    # The exact probability within one sigma of a normal distribution; astropy's default rounds it.
    low, high = binom_conf_interval(n_right, n, math.erf(math.sqrt(0.5)), interval="wilson")
    return low, high


def compute_interval_factor(n_networks: int, of: Literal["mean", "next"] = "mean") -> float:
    r"""Return how many standard deviations the 95 % interval over networks reaches to each side.

    With the standard deviation :math:`s` of K networks, divisor :math:`K - 1`, the interval of the
    mean of all networks of the recipe is the mean :math:`\pm\, t\, s / \sqrt K`, and the prediction
    interval of one more network is the mean :math:`\pm\, t\, s \sqrt{1 + 1/K}`. The quantile
    :math:`t` is Student's [1]_, for :math:`K - 1` degrees of freedom: 2.78 of five networks, where
    1.96 would be that of many.

    Parameters
    ----------
    n_networks : int
        Number of networks, K, at least two.
    of : {"mean", "next"}, default "mean"
        The interval of the mean, or the prediction interval of one more network.

    Returns
    -------
    float
        The factor of :math:`s`.

    Raises
    ------
    ValueError
        If there are fewer than two networks, whose scatter is unknown, or ``of`` is neither.

    References
    ----------
    .. [1] Student 1908, Biometrika 6, 1
    """
    from scipy.special import stdtrit

    if n_networks < 2:
        raise ValueError(f"n_networks: {n_networks}, expected at least 2, whose scatter is known")
    widths = {"mean": 1 / n_networks, "next": 1 + 1 / n_networks}
    if of not in widths:
        raise ValueError(f"of: {of!r}, expected 'mean' or 'next'")
    return float(stdtrit(n_networks - 1, (1 + LEVEL) / 2)) * math.sqrt(widths[of])


def median_correlation(maps: NDArray[np.floating]) -> float:
    """Return the median over all pairs of maps of their Spearman rank correlation [1]_.

    Parameters
    ----------
    maps : (K, n) ndarray of float
        At least two maps of n pixels each.

    Returns
    -------
    float
        -1 to 1; NaN if a map is constant or not finite, so that its ranks say nothing.

    References
    ----------
    .. [1] Spearman 1904, American Journal of Psychology 15, 72
    """
    ranks = np.stack([_rank(values) for values in maps])
    ranks -= (maps.shape[1] - 1) / 2
    norms = np.linalg.norm(ranks, axis=1)
    if not norms.all() or not np.isfinite(maps).all():
        return float("nan")
    ranks /= norms[:, None]
    pairs = (ranks @ ranks.T)[np.triu_indices(len(maps), 1)]
    return float(np.clip(np.median(pairs), -1, 1))


def _rank(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rank values from 0; equal ones share their mean rank.

    This is `scipy.stats.rankdata`, in a fifth of its time.
    """
    order = np.argsort(values)
    ordered = values[order]
    is_new = ordered[1:] != ordered[:-1]
    ranks = np.empty(len(values))
    if is_new.all():
        ranks[order] = np.arange(len(values))
        return ranks
    ends = np.append(np.flatnonzero(is_new), len(values) - 1)
    starts = np.append(0, ends[:-1] + 1)
    ranks[order] = np.repeat((starts + ends) / 2, ends - starts + 1)
    return ranks
