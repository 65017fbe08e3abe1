"""Accuracy: does a network classify labelled galaxies as its record says it did?

A network explains any galaxy, also with its class names in the wrong order, or with images that
are normalised in another way than those that trained it. Labels tell, before hours of work.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest, fisher_exact

from galfig.catalog.galaxies import Galaxies
from galfig.images.cutouts import Decoding
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.shift import draw_rows, read_batches

logger = logging.getLogger(__name__)

# Galaxies that are classified; enough to tell 0.94 from 0.74 beyond doubt, in about a second.
N_CHECKED = 256
# Chance of a warning where nothing is wrong, in each of the three tests.
P_NOISE = 1e-3
# Accuracies that differ by less are alike enough, even if the difference is significant.
LEAST_LOSS = 0.05


def check_accuracy(
    checkpoint: Checkpoint,
    galaxies: Galaxies,
    decoding: Decoding,
    path: Path | str = "checkpoint",
) -> dict[str, Any] | None:
    """Classify some labelled galaxies that did not train a network, and warn if it does badly.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network; its model may be on any device. The logits of an ensemble are averaged.
    galaxies : Galaxies
        The galaxies, labelled in the order of the network's classes, with their split. At most
        `N_CHECKED` are used, always the same for the same galaxies.
    decoding : Decoding
        How the files become pixels.
    path : Path or str, optional
        Path of the checkpoint, for messages.

    Returns
    -------
    dict or None
        The result of `judge_accuracy`. None if no galaxy is labelled, all trained the network, or
        no image can be decoded.

    Raises
    ------
    LostCutoutError
        If an image has disappeared.
    """
    sample = galaxies.take(
        draw_rows((galaxies.label >= 0) & (galaxies.split != "train"), N_CHECKED)
    )
    models = [network.model for network in checkpoint.networks]
    device = next(models[0].parameters()).device
    rows: list[int] = []
    predicted: list[int] = []
    for found, _, cutouts in read_batches(sample.paths, checkpoint, decoding):
        with torch.inference_mode():
            images = checkpoint.normalise(cutouts).to(device)
            logits = torch.stack([model(images) for model in models]).mean(dim=0)
        rows += found
        predicted += logits.argmax(dim=1).tolist()
    if not rows:
        return None
    metadata = checkpoint.metadata
    found_out = judge_accuracy(
        sample.label[rows],
        np.array(predicted),
        checkpoint.class_names,
        recorded=_recall_accuracy(checkpoint),
        n_recorded=sum((metadata.get("n_valid") or {}).values()),
        is_held_out=bool((sample.split[rows] != "").all()),
    )
    if found_out["warning"]:
        logger.warning("%s: %s", path, found_out["warning"])
    return found_out


def _recall_accuracy(checkpoint: Checkpoint) -> float | None:
    """Return the accuracy after the training; of an ensemble, the mean over its networks."""
    recorded = [(one.metadata.get("metrics") or {}).get("accuracy") for one in checkpoint.networks]
    known = [accuracy for accuracy in recorded if accuracy is not None]
    return float(np.mean(known)) if len(known) == len(recorded) else None


def judge_accuracy(
    label: NDArray[np.integer],
    predicted: NDArray[np.integer],
    class_names: Sequence[str],
    *,
    recorded: float | None = None,
    n_recorded: int = 0,
    is_held_out: bool = True,
) -> dict[str, Any]:
    r"""Compare an accuracy with a recorded one, with chance, and with other orders of the classes.

    There are three tests, each of which fails by chance with a probability of `P_NOISE` at most,
    for a network whose accuracy is the recorded one and at least half way between that of the most
    frequent class alone and 1. The accuracy is lower than the recorded one by Fisher's exact test
    of two binomial samples [1]_. It is no better than that of the most frequent class alone, and
    lower than half way to 1 by a binomial test. Or the classes in another order agree with the
    labels: of the galaxies that are right in only one of the two orders, more are right in the
    other one, by a sign test with the threshold divided by the number of orders, :math:`C!`.

    Parameters
    ----------
    label, predicted : (N,) array of int
        True and predicted class of each galaxy.
    class_names : sequence of str
        Names of the classes, (C,).
    recorded : float, optional
        Accuracy that was measured after the training.
    n_recorded : int, default 0
        Number of galaxies that it was measured on; 0 where it is unknown.
    is_held_out : bool, default True
        Whether all of the galaxies are known not to have trained the network, for the warning.

    Returns
    -------
    dict
        Values ready for JSON: ``n``; ``accuracy``; ``majority_share``, the accuracy of always
        naming the most frequent class; ``recorded``; ``warning``, a clause, or "" if there is
        nothing to warn of; and ``class_order``, the names in the order that agrees, or None.

    References
    ----------
    .. [1] Fisher 1922, Journal of the Royal Statistical Society 85, 87
    """
    n_classes, n = len(class_names), len(label)
    counts = np.zeros((n_classes, n_classes), int)
    np.add.at(counts, (label, predicted), 1)
    per_class = counts.sum(axis=1)
    n_right, n_majority = int(np.trace(counts)), int(per_class.max())
    order = _find_order(counts)
    n_ordered = int(counts[order, np.arange(n_classes)].sum())
    if recorded is not None and not math.isfinite(recorded):
        recorded = None
    reasons = []
    names = [class_names[index] for index in order]
    is_moved = names != list(class_names)
    if is_moved:
        reasons.append(
            f"named in the order {', '.join(names)}, it would classify {n_ordered} of them: the "
            "names of the classes seem to be in the wrong order"
        )
    if recorded is not None and _is_lower(n_right, n, recorded, n_recorded):
        reasons.append(
            f"its record says {recorded:.1%}: the classes, the mean and std, or the images may not "
            "be those that it was trained with"
        )
    if _is_no_better(n_right, n, n_majority) and np.count_nonzero(per_class) > 1:
        majority = class_names[int(per_class.argmax())]
        reasons.append(f"always saying {majority} would be right for {n_majority}")
    warning = ""
    if reasons:
        warning = (
            f"classifies {n_right} of {n} labelled galaxies"
            f"{' that did not train it' if is_held_out else ''} ({n_right / n:.1%}), "
            f"but {'; and '.join(reasons)}"
        )
    return {
        "n": n,
        "accuracy": n_right / n,
        "majority_share": n_majority / n,
        "recorded": recorded,
        "warning": warning,
        "class_order": names if is_moved else None,
    }


def _find_order(counts: NDArray[np.integer]) -> list[int]:
    """Return which class each logit stands for; 0 to C - 1 unless another order agrees better.

    ``counts`` (C, C) are the galaxies by true and predicted class.
    """
    n_classes = len(counts)
    same = list(range(n_classes))
    true, logit = linear_sum_assignment(counts, maximize=True)
    order = [int(index) for index in true[np.argsort(logit)]]
    moved = [index for index in same if order[index] != index]
    n_gained = int(sum(counts[order[index], index] for index in moved))
    n_lost = int(sum(counts[index, index] for index in moved))
    if not n_gained + n_lost:
        return same
    # Beyond 20 classes, the number of orders is beyond any sample anyway.
    threshold = P_NOISE / math.factorial(min(n_classes, 20))
    found = binomtest(n_gained, n_gained + n_lost, 0.5, alternative="greater")
    return order if found.pvalue < threshold else same


def _is_lower(n_right: int, n: int, recorded: float, n_recorded: int) -> bool:
    """Return whether an accuracy is lower than the recorded one, beyond chance."""
    if recorded - n_right / n < LEAST_LOSS:
        return False
    if not n_recorded:
        found = binomtest(n_right, n, min(recorded, 1.0), alternative="less")
        return bool(found.pvalue < P_NOISE)
    before = round(recorded * n_recorded)
    table = [[n_right, n - n_right], [before, n_recorded - before]]
    return bool(fisher_exact(table, alternative="less").pvalue < P_NOISE)


def _is_no_better(n_right: int, n: int, n_majority: int) -> bool:
    """Return whether an accuracy is that of always saying one class, and not so by chance."""
    middle = (1 + n_majority / n) / 2
    return n_right <= n_majority and bool(
        binomtest(n_right, n, middle, alternative="less").pvalue < P_NOISE
    )
