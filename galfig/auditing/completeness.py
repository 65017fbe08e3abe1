"""Completeness: whether maps add up to the logits, and how far Grad-CAM is from HiResCAM."""

import numpy as np
from numpy.typing import NDArray

from galfig.attribution.head import measure_head
from galfig.auditing.estimates import Estimate, Measured, bootstrap
from galfig.auditing.sample import Progress, Sample
from galfig.config import NONLINEAR_METHODS
from galfig.metrics import contrast_with_rest

# Maps are stored as float16, whose rounding is 2^-11 of a value at most.
COMPLETE = 1e-3
# Galaxies for which Grad-CAM is compared with HiResCAM, one at a time.
N_COMPARED = 100


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    r"""Measure by how much the maps as stored, and the bias, miss the logits.

    The error of a galaxy is :math:`\max_c |\Sigma L_c + b_c - z_c| / \max(|z_c|, 1)`, with
    :math:`\Sigma` over the cells of the map. For maps of evidence, :math:`b_c` and :math:`z_c`
    are contrasted as the maps are: with their mean over the other classes, weighted by the
    probabilities. Where the head is not pooling and one linear layer, no bias completes the maps;
    the relative distance of Grad-CAM from HiResCAM is given instead [1]_.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured
        ``error``, the mean over galaxies, and ``largest error`` of these galaxies, which has no
        width; or ``distance from HiResCAM``, for maps of HiResCAM the control ``distance of
        Grad-CAM``. Nothing for methods that are not linear in the output, or explain pixels.

    References
    ----------
    .. [1] Draelos & Carin 2020, arXiv:2011.08891
    """
    if sample.method in NONLINEAR_METHODS or sample.is_of_pixels:
        return _describe_others(sample)
    recorded = sample.store.record.head_bias
    bias = _find_bias(sample) if recorded is None else np.array(recorded)
    if bias is None:
        return _compare_with_hires(sample, progress)
    if sample.method == "evidence" and len(sample.networks) > 1 and len(sample.class_names) > 2:
        return Measured(
            name="completeness",
            notes=(
                "Each network weights the other classes by its own probabilities, so that the mean "
                "of its evidence over networks cannot be compared with the mean logits.",
            ),
        )
    errors = []
    for chunk in sample.iter_chunks():
        rows = sample.rows[chunk]
        totals = sample.store.cams(rows).sum(axis=(2, 3), dtype=np.float64)
        logits = sample.store.logits[rows].astype(np.float64)
        offsets = np.broadcast_to(bias, logits.shape)
        if sample.method == "evidence":
            logits, offsets = contrast(logits, logits), contrast(offsets, logits)
        error = np.abs(totals + offsets - logits) / np.maximum(np.abs(logits), 1)
        errors.append(error.max(axis=1))
        progress(len(rows))
    found = np.concatenate(errors)
    # The largest of some galaxies says nothing of the largest of others: it has no interval.
    top = float(found.max())
    largest = Estimate(value=top, low=top, high=top, n=len(found))
    is_complete = largest.value <= COMPLETE
    return Measured(
        name="completeness",
        numbers={"error": bootstrap(found, seed=sample.seed), "largest error": largest},
        per_galaxy={"completeness_error": tuple(found.tolist())},
        notes=(f"Maps are stored as float16, so that errors up to {COMPLETE:g} are rounding.",),
        supports=(
            "Each map adds up to its logit less a constant, so that its parts are shares of it."
            if is_complete
            else ""
        ),
        not_supported=(
            ""
            if is_complete
            else f"The maps miss the logits by up to {largest.value:.2g} of them, so that parts of "
            "a map are not shares of the prediction."
        ),
    )


def _describe_others(sample: Sample) -> Measured:
    """Say why nothing can be measured of maps that are not those of a linear head."""
    note = f"Maps by {sample.method} add up to no output of the network, whatever its head."
    if sample.is_of_pixels:
        note = (
            f"Maps by {sample.method} explain pixels and no layer, so that no bias of a head "
            "completes them."
        )
    return Measured(
        name="completeness",
        notes=(note,),
        not_supported="Parts of a map are not shares of the prediction.",
    )


def contrast(values: NDArray[np.float64], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return :math:`v_c - \sum_{j \ne c} q_j v_j`, with :math:`q_j = p_j / (1 - p_c)`.

    Parameters
    ----------
    values : (n, C) ndarray of float64
        A value for each class.
    logits : (n, C) ndarray of float64
        Whose softmax is :math:`p`.

    Returns
    -------
    (n, C) ndarray of float64
    """
    return np.stack([contrast_with_rest(*row) for row in zip(values, logits, strict=True)])


def _find_bias(sample: Sample) -> NDArray[np.float64] | None:
    """Measure the mean bias of the networks on a few galaxies; None where there is none."""
    images, found = sample.images(slice(0, 4)), []
    for one, traits in sample.iter_layers():
        head = measure_head(
            one.model,
            images.to(next(one.model.parameters()).device),
            one.model.get_submodule(sample.layer_name),
            channels_last=traits.channels_last,
        )
        if head.bias is None:
            return None
        found.append(head.bias.cpu().numpy().astype(np.float64))
    return np.mean(found, axis=0)


def _compare_with_hires(sample: Sample, progress: Progress) -> Measured:
    one, traits = next(sample.iter_layers())
    layer = one.model.get_submodule(sample.layer_name)
    distances = np.full(len(sample), np.nan)
    chosen = sample.spread(N_COMPARED)
    for number in chosen:
        image = sample.images([number]).to(next(one.model.parameters()).device)
        head = measure_head(one.model, image, layer, channels_last=traits.channels_last)
        distances[number] = head.hires_distance
        progress(1)
    progress(len(sample) - len(chosen))
    if not np.isfinite(distances).any():
        return Measured(name="completeness", notes=("All maps are zero.",))
    distance = bootstrap(distances, seed=sample.seed)
    return Measured(
        name="completeness",
        numbers={} if sample.method == "hires-cam" else {"distance from HiResCAM": distance},
        controls={"distance of Grad-CAM": distance} if sample.method == "hires-cam" else {},
        per_galaxy={"hires_distance": tuple(distances.tolist())},
        notes=(
            "The head is not pooling and one linear layer, so that no constant makes the maps add "
            f"up to the logits. {len(chosen)} galaxies were compared, with the first network.",
        ),
        not_supported=(
            f"Grad-CAM differs from HiResCAM by {distance.value:.0%} of it, and only the latter "
            'adds up to what the layers above see; build the maps with `method="hires-cam"`.'
            if sample.method != "hires-cam"
            else ""
        ),
        supports=(
            "The maps are those of HiResCAM, which is faithful to this head."
            if sample.method == "hires-cam"
            else ""
        ),
    )
