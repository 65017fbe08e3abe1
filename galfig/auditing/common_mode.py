"""Common mode: the share of the maps that is the same for every class."""

import numpy as np
from numpy.typing import NDArray

from galfig.auditing.estimates import Measured, bootstrap, bootstrap_known, spearman
from galfig.auditing.sample import Progress, Sample
from galfig.config import NONLINEAR_METHODS
from galfig.errors import ConfigError

# Share of the pixels whose overlap is measured.
BRIGHTEST = 0.1


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    r"""Measure the part that the maps of all classes share.

    The share of galaxy :math:`i` is :math:`\|\bar L\|^2 / \langle \|L_c\|^2 \rangle_c`, with
    :math:`\bar L` the mean of its maps over the classes. The prediction does not depend on
    :math:`\bar L`: a softmax is unchanged by a number that is added to all logits [1]_. The share
    of the sample is the ratio of the means over galaxies of the two energies.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured
        ``share``; ``overlap`` is the intersection over union of the brightest tenth of the pixels
        of the map of the predicted class with those of its contrast with the mean map, and
        ``correlation`` is Spearman's between these two maps. A note gives the share
        that independent maps of equal energy would have, 1 / C.

    Raises
    ------
    ConfigError
        If the store holds maps of evidence, in which nothing is common to the classes, or those of
        a method that is not linear in the output.

    References
    ----------
    .. [1] Srinivas & Fleuret 2020, arXiv:2006.09128
    """
    _refuse_others(sample)
    energies, overlaps, correlations = [], [], []
    for chunk in sample.iter_chunks():
        cams = sample.store.cams(sample.rows[chunk]).astype(np.float64)
        mean = cams.mean(axis=1)
        energies.append(
            np.stack([(mean**2).sum(axis=(1, 2)), (cams**2).sum(axis=(2, 3)).mean(axis=1)], axis=1)
        )
        shown = cams[np.arange(len(cams)), sample.predicted[chunk]]
        overlaps.append(overlap_brightest(shown, shown - mean))
        correlations.append(spearman(shown, shown - mean))
        progress(len(cams))
    energy = np.concatenate(energies)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(energy[:, 1] > 0, energy[:, 0] / energy[:, 1], np.nan)
    overlap, correlation = np.concatenate(overlaps), np.concatenate(correlations)
    if not energy[:, 1].any():
        return Measured(name="common-mode", notes=("All maps are zero, so no share can be given.",))
    share = bootstrap(energy, _compute_ratio, seed=sample.seed)
    n_classes = len(sample.class_names)
    return Measured(
        name="common-mode",
        numbers={
            "share": share,
            # No correlation where maps are constant, as those of one pixel are, or all the same.
            **bootstrap_known({"overlap": overlap, "correlation": correlation}, seed=sample.seed),
        },
        per_galaxy={
            "common_mode_share": tuple(shares.tolist()),
            "evidence_overlap": tuple(overlap.tolist()),
        },
        notes=(
            f"Independent maps of equal energy would share {1 / n_classes:.2f} by chance, which "
            "is one over the number of classes.",
        ),
        supports=(
            f"{1 - share.value:.1%} of the energy of the maps belongs to the prediction, since it "
            "differs between the classes."
        ),
        not_supported=(
            f"{share.value:.1%} of the energy is common to all classes and says nothing of the "
            "prediction; draw the evidence instead of the map of a class."
        ),
    )


def _refuse_others(sample: Sample) -> None:
    if sample.method == "evidence":
        raise ConfigError(
            f"{sample.store.path}: its maps are evidence, in which nothing is common to the "
            "classes, expected maps of classes; leave out the measure common-mode"
        )
    if sample.method in NONLINEAR_METHODS:
        raise ConfigError(
            f"{sample.store.path}: its maps are by {sample.method}, of which a part that all "
            "classes share may count, expected those of a method that is linear in the output; "
            "leave out the measure common-mode"
        )


def _compute_ratio(values: NDArray[np.float64]) -> float:
    numerator, denominator = values.mean(axis=0)
    return float(numerator / denominator) if denominator > 0 else float("nan")


def overlap_brightest(
    first: NDArray[np.floating], second: NDArray[np.floating], share: float = BRIGHTEST
) -> NDArray[np.float64]:
    """Return the intersection over union of the brightest pixels of two maps.

    Parameters
    ----------
    first, second : (n, h, w) ndarray of float
        Maps.
    share : float
        Share of the pixels that count as brightest; at least one pixel does.

    Returns
    -------
    (n,) ndarray of float64
    """
    k = max(1, round(share * first[0].size))
    chosen = []
    for maps in (first, second):
        flat = maps.reshape(len(maps), -1)
        is_bright = np.zeros(flat.shape, bool)
        order = np.argsort(-flat, axis=1, kind="stable")[:, :k]
        np.put_along_axis(is_bright, order, True, axis=1)
        chosen.append(is_bright)
    both = (chosen[0] & chosen[1]).sum(axis=1)
    return both / (2 * k - both)
