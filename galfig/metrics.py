"""Scores of a classifier, on plain arrays: losses, confusions, ROC curves, reliability.

Their libraries are imported where they are called: scikit-learn and astropy take as long to import
as a figure takes to draw.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Bootstrap samples of a ROC curve, and the share of them that its interval holds.
N_RESAMPLES = 1000
LEVEL = 0.95
# Bins of a reliability diagram.
N_BINS = 8


class RocCurve(NamedTuple):
    """ROC curve of one class against the rest.

    Attributes
    ----------
    false_positive_rate, true_positive_rate : (n,) ndarray of float64
        The curve.
    area : float
        The area below it.
    low, high : float
        Bootstrap interval of the area.
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    area: float
    low: float
    high: float


def score(probs: NDArray[np.floating], labels: NDArray[np.integer]) -> dict[str, float]:
    """Return accuracy, ROC AUC and F1 of a set of galaxies.

    Parameters
    ----------
    probs : (N, C) ndarray of float
        Probabilities.
    labels : (N,) ndarray of int
        True classes.

    Returns
    -------
    dict
        ``accuracy``; ``roc_auc``, of the one pair for two classes, the unweighted mean of one
        against the rest beyond, NaN where a class is absent; ``f1``, the unweighted mean over
        the classes, so that no class is singled out as the positive one.
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
            # In float64 the rows sum to one closely enough for scikit-learn.
            rows = probs.astype(np.float64)
            rows /= rows.sum(axis=1, keepdims=True)
            roc_auc = float(roc_auc_score(labels, rows, multi_class="ovr", labels=every_class))
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "roc_auc": roc_auc,
        "f1": float(
            f1_score(labels, predicted, labels=every_class, average="macro", zero_division=0)
        ),
    }


def compute_losses(
    logits: NDArray[np.floating], labels: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the cross-entropy of each galaxy: minus the logarithm of p of its true class.

    From the logits, since a p of 0 in float32 would make the loss infinite.

    Parameters
    ----------
    logits : (N, C) ndarray of float
        Outputs of the network before the softmax.
    labels : (N,) ndarray of int
        True classes, negative where unknown.

    Returns
    -------
    (N,) ndarray of float64
        NaN where the true class is unknown.
    """
    from scipy.special import log_softmax

    log_p = log_softmax(np.asarray(logits, np.float64), axis=1)
    losses = -log_p[np.arange(len(labels)), np.maximum(labels, 0)]
    return np.where(labels >= 0, losses, np.nan)


def count_confusions(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], n_classes: int
) -> NDArray[np.int64]:
    """Count galaxies by true class (rows) and predicted class (columns), (C, C)."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=list(range(n_classes))).astype(np.int64)


def compute_roc(is_class: NDArray[np.bool_], p: NDArray[np.floating], seed: int = 256) -> RocCurve:
    """Compute a ROC curve, and a percentile interval of its area.

    Parameters
    ----------
    is_class : (N,) ndarray of bool
        Which galaxies are of the class; both kinds must be there.
    p : (N,) ndarray of float
        Probability of the class.
    seed : int, default 256
        Seed of the bootstrap, which draws galaxies within each kind (Efron & Tibshirani 1993).
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    false_positive, true_positive, _ = roc_curve(is_class, p, drop_intermediate=False)
    rng = np.random.default_rng(seed)
    inside, outside = p[is_class], p[~is_class]
    truth = np.repeat([True, False], [len(inside), len(outside)])
    areas = [
        roc_auc_score(
            truth,
            np.concatenate([rng.choice(inside, len(inside)), rng.choice(outside, len(outside))]),
        )
        for _ in range(N_RESAMPLES)
    ]
    low, high = np.quantile(areas, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    area = float(roc_auc_score(is_class, p))
    return RocCurve(false_positive, true_positive, area, float(low), float(high))


def count_reliability(
    p: NDArray[np.floating], is_right: NDArray[np.bool_], n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the galaxies, and those classified correctly, in bins of the predicted class's p.

    Parameters
    ----------
    p : (N,) ndarray of float
        Probability of the predicted class, at least 1 / C.
    is_right : (N,) ndarray of bool
        Whether that class is the true one.
    n_classes : int
        Number of classes, C.

    Returns
    -------
    mean_p, n, n_right : (B,) ndarrays
        Mean p, galaxies, and galaxies classified correctly of each bin that is not empty.
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
    """Return the 68 % interval of a share, one sigma to each side (Wilson 1927, JASA 22, 209)."""
    from astropy.stats import binom_conf_interval

    # What a normal distribution holds within one sigma; astropy's own default rounds it.
    low, high = binom_conf_interval(n_right, n, math.erf(math.sqrt(0.5)), interval="wilson")
    return low, high
