"""Seeds: how far networks that differ in the seed of their training agree in their maps."""

import numpy as np
from numpy.typing import NDArray

from galfig.auditing.estimates import Measured, bootstrap, bootstrap_known, spearman
from galfig.auditing.sample import Progress, Sample
from galfig.config import NONLINEAR_METHODS
from galfig.errors import ConfigError
from galfig.metrics import compute_interval_factor, compute_rest_shares, median_correlation

# Galaxies that all networks explain.
N_EXPLAINED = 200


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    r"""Measure how far the networks of an ensemble agree in the evidence for the predicted class.

    Of each galaxy, the agreement is the median over pairs of networks of the Spearman correlation
    of their maps. A pixel is uncertain where the 95 % interval of the mean over networks,
    :math:`\pm\, t\, s / \sqrt K` with Student's :math:`t`, holds zero. The maps are the evidence
    with the probabilities of the mean logits, or the maps as they are for a method that is not
    linear in the target [1]_.

    Parameters
    ----------
    sample : Sample
        The galaxies, with at least two networks.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured
        ``agreement``, the median over galaxies; ``uncertain_pixels``, the share of pixels, and
        ``uncertain_energy``, the share of the energy of the mean map that they hold. The control
        is the correlation of the maps of different galaxies by different networks.

    Raises
    ------
    ConfigError
        If there is one network only.

    References
    ----------
    .. [1] arXiv:2403.17224
    """
    n_networks = len(sample.networks)
    if n_networks < 2:
        raise ConfigError(
            f"{sample.store.path}: made with one network, expected several, trained with other "
            "seeds; build it with a folder of networks, or leave out the measure seeds"
        )
    n = len(sample)
    agreement, pixels, energy, other = (np.full(n, np.nan) for _ in range(4))
    factor = compute_interval_factor(n_networks, "mean")
    chosen = sample.spread(N_EXPLAINED)
    last: NDArray[np.float64] | None = None
    for number in chosen:
        maps = _explain_evidence(sample, number)
        agreement[number] = median_correlation(maps.reshape(n_networks, -1))
        mean, scatter = maps.mean(axis=0), maps.std(axis=0, ddof=1)
        is_uncertain = np.abs(mean) <= factor * scatter
        pixels[number] = is_uncertain.mean()
        total = (mean**2).sum()
        # A mean of nothing but zeros is uncertain, all of it.
        energy[number] = (mean[is_uncertain] ** 2).sum() / total if total > 0 else 1.0
        if last is not None:
            other[number] = spearman(maps[0], last)
        last = maps[1]
        progress(1)
    progress(n - len(chosen))
    if not np.isfinite(agreement).any():
        return Measured(
            name="seeds",
            notes=("A map of each galaxy is constant, so that no agreement can be given.",),
        )
    found = bootstrap(agreement, lambda values: float(np.median(values)), seed=sample.seed)
    uncertain = bootstrap(pixels, seed=sample.seed)
    held = bootstrap(energy, seed=sample.seed)
    return Measured(
        name="seeds",
        numbers={"agreement": found, "uncertain_pixels": uncertain, "uncertain_energy": held},
        controls=bootstrap_known({"another galaxy": other}, seed=sample.seed),
        per_galaxy={
            "seed_agreement": tuple(agreement.tolist()),
            "uncertain_pixels": tuple(pixels.tolist()),
        },
        notes=(f"{n_networks} networks explained {len(chosen)} galaxies.",),
        supports=(
            f"Networks that differ in their seed give maps of one galaxy that correlate by "
            f"{found.value:.2f}; {1 - uncertain.value:.0%} of the pixels have a sign on which "
            "their mean is certain."
        ),
        not_supported=(
            f"The sign of {uncertain.value:.0%} of the pixels, with {held.value:.1%} of the "
            "energy, is not certain; nothing finer than the agreement of the networks can be "
            "read from the maps."
        ),
    )


def _explain_evidence(sample: Sample, number: int) -> NDArray[np.float64]:
    """Return the maps (K, h, w) of one galaxy by each network."""
    batches = sample.explain_each(sample.images([number]))
    cams = np.concatenate([batch.cams.numpy() for batch in batches]).astype(np.float64)
    target = int(sample.predicted[number])
    if sample.method == "evidence" or sample.method in NONLINEAR_METHODS:
        return cams[:, target]
    logits = np.mean([batch.logits.numpy()[0] for batch in batches], axis=0).astype(np.float64)
    return cams[:, target] - np.tensordot(compute_rest_shares(logits)[target], cams, axes=(0, 1))
