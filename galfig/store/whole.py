"""The whole store: what summaries and captions say of all its galaxies, also in a subset of it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galfig.config import NONLINEAR_METHODS
from galfig.metrics import Accuracy, contrast_with_rest, measure_accuracy, rate_accuracy
from galfig.records import Comparison, Whole
from galfig.store.selection import count_splits, find_in_split

if TYPE_CHECKING:
    from galfig.store.reader import Store

# Galaxies with which those of a figure are compared.
N_COMPARED = 16


def measure_whole(store: "Store") -> Whole:
    """Measure what is said of all galaxies of a store.

    Parameters
    ----------
    store : Store
        An open store.

    Returns
    -------
    Whole
    """
    n_classes, label = len(store.class_names), store.label
    is_scored = find_in_split(store) & (label >= 0)
    predicted, scored = store.predicted[is_scored], label[is_scored]
    accuracy = measure_accuracy(predicted, scored, n_classes)
    agreement = np.empty(0) if store.agreement is None else store.agreement
    known, scales = agreement[np.isfinite(agreement)], store.pixel_scale
    is_one = np.isfinite(scales).all() and len(np.unique(scales)) == 1
    return Whole(
        n_galaxies=len(store),
        n_in_class=_count(label[label >= 0], n_classes),
        splits=count_splits(store),
        scored=count_splits(store, np.flatnonzero(is_scored)),
        n_not_scored=int(np.sum((label >= 0) & ~is_scored)),
        n_right=0 if accuracy is None else accuracy.n_right,
        n_scored=_count(scored, n_classes),
        balanced_accuracy=np.nan if accuracy is None else accuracy.balanced_accuracy,
        agreement=float(np.median(known)) if len(known) else np.nan,
        pixel_scale=float(scales[0]) if is_one else np.nan,
    )


def _count(labels: NDArray[np.integer], n_classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(labels.astype(np.intp), minlength=n_classes).tolist())


def rate_whole(whole: Whole) -> Accuracy | None:
    """Return the accuracy of a store; None if no true class is known."""
    if not sum(whole.n_scored):
        return None
    return rate_accuracy(whole.n_right, whole.n_scored, whole.balanced_accuracy)


def measure_compared(store: "Store") -> Comparison:
    """Measure some galaxies of a store, evenly over all of it, to compare others with them.

    Parameters
    ----------
    store : Store
        An open store.

    Returns
    -------
    Comparison
    """
    rows = np.unique(np.linspace(0, len(store) - 1, N_COMPARED).astype(int))
    totals = store.totals(rows)
    sums = None
    if store.method not in NONLINEAR_METHODS and len(store.class_names) > 1:
        sums = _as_rows(
            [_sum_evidence(store, int(row), of) for row, of in zip(rows, totals, strict=True)]
        )
    return Comparison(logits=_as_rows(store.logits[rows]), totals=_as_rows(totals), sums=sums)


def _sum_evidence(store: "Store", row: int, totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the evidence map of a galaxy for each class, (C,)."""
    if store.form == "statistics":
        # The galaxy need not be explained again: these sums follow from those of each map.
        if store.method == "evidence":
            return totals
        return np.asarray(contrast_with_rest(totals, store.logits[row]), np.float64)
    maps = store.evidence(row).astype(np.float64)
    if maps.ndim == 2:
        maps = np.stack([-maps, maps])
    sums: NDArray[np.float64] = maps.sum(axis=(1, 2))
    return sums


def _as_rows(values: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, np.asarray(values, np.float64).tolist()))
