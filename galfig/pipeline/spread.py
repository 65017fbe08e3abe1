"""Spread: the mean of the maps of several networks, their standard deviation and agreement.

All of it is computed in float32, before a store rounds means and standard deviations to float16.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.config import NONLINEAR_METHODS
from galfig.metrics import compute_log_odds, compute_rest_shares, median_correlation
from galfig.store.schema import count_evidence

# Of smaller or larger variances, the squares leave the range in which float32 is accurate.
_LEAST, _LARGEST = 1e-24, 1e30


class Combined(NamedTuple):
    """The maps and logits of K networks for one galaxy, combined.

    Attributes
    ----------
    cams : (C, h, w) ndarray of float32
        Mean of the maps of the networks [logit].
    logits : (C,) ndarray of float32
        Mean of their logits.
    spreads : dict of str to (n, h, w) ndarray of float32
        Standard deviations of maps over the networks, by dataset of a store: ``cams_sd`` for each
        class [logit] and, where the evidence is a contrast of the maps, ``evidence_sd`` for each
        evidence map [log-odds].
    numbers : dict of str to float or ndarray of float32
        Further datasets: ``logits_sd`` (C,) and ``log_odds_sd`` (E,), the standard deviations;
        and ``agreement``, NaN where a map is constant. With ``features``, where these are kept.
    """

    cams: NDArray[np.float32]
    logits: NDArray[np.float32]
    spreads: dict[str, NDArray[np.float32]]
    numbers: dict[str, NDArray[np.float32] | float]


def is_contrasted(method: str) -> bool:
    """Return whether the evidence for a class is a contrast of the maps of a method.

    It is not where maps are not linear in the output that they explain, or are evidence themselves.

    Parameters
    ----------
    method : str
        One of `galfig.attribution.methods.METHODS`.

    Returns
    -------
    bool
    """
    return method != "evidence" and method not in NONLINEAR_METHODS


def combine(
    cams: Sequence[NDArray[np.float32]],
    logits: Sequence[NDArray[np.float32]],
    *,
    has_contrast: bool = True,
) -> Combined:
    """Combine what one network or several give for a galaxy; one network alone has no spread.

    Parameters
    ----------
    cams : sequence of (C, h, w) ndarray of float32
        Map of each class [logit], by network. Those of one network are returned as they come.
    logits : sequence of (C,) ndarray of float32
        Logits, by network.
    has_contrast : bool, default True
        See `combine_networks`.

    Returns
    -------
    Combined
    """
    if len(cams) == 1:
        return Combined(cams[0], logits[0], {}, {})
    return combine_networks(np.stack(cams), np.stack(logits), has_contrast=has_contrast)


def combine_networks(
    cams: NDArray[np.float32], logits: NDArray[np.float32], *, has_contrast: bool = True
) -> Combined:
    r"""Combine the maps and logits of K networks for one galaxy.

    The standard deviations are over the networks, with the divisor :math:`K - 1`. The evidence of a
    network is, for two classes, the map :math:`L_1 - L_0`; for more classes, it is
    :math:`L_c - \sum_{j \neq c} q_j L_j` with :math:`q_j = p_j / (1 - p_c)`, where :math:`p` are
    the probabilities of the mean logits, and so the same for all networks. The log-odds are those
    of each network by itself. The agreement is the median over pairs of networks of the Spearman
    correlation of their evidence maps; of more than two classes, that of the predicted class.

    Parameters
    ----------
    cams : (K, C, h, w) ndarray of float32
        Maps of at least two networks [logit].
    logits : (K, C) ndarray of float32
        Their logits.
    has_contrast : bool, default True
        Whether the evidence is such a contrast of the maps. It is not where maps are not linear in
        the output that they explain, or are evidence themselves; then the agreement is that of the
        maps of the same class.

    Returns
    -------
    Combined
        Not finite where a map or a logit is not.
    """
    mean, mean_logits = cams.mean(axis=0), logits.mean(axis=0)
    deviations = cams - mean
    spreads = {"cams_sd": _measure_spread(deviations)}
    if has_contrast:
        mixing = mix_classes(mean_logits)
        spreads["evidence_sd"] = _measure_spread(_contrast(deviations, mixing))
    shown = 1 if len(mean_logits) == 2 else int(mean_logits.argmax())
    if has_contrast:
        evidence = _contrast(cams, mixing[[shown if len(mixing) > 1 else 0]])
    else:
        evidence = cams[:, [shown]]
    wide = logits.astype(np.float64)
    # Of two classes, those of the first are the opposite.
    log_odds = compute_log_odds(wide)[:, -count_evidence(len(mean_logits)) :]
    numbers = {
        "logits_sd": wide.std(axis=0, ddof=1).astype(np.float32),
        "log_odds_sd": log_odds.std(axis=0, ddof=1).astype(np.float32),
        "agreement": median_correlation(evidence.reshape(len(cams), -1)),
    }
    return Combined(mean, mean_logits, spreads, numbers)


def collect_numbers(
    numbers: Sequence[Mapping[str, NDArray[np.float32] | float]], n_classes: int
) -> dict[str, NDArray[np.float32]]:
    """Return the ``numbers`` of N galaxies as arrays, by dataset.

    Parameters
    ----------
    numbers : sequence of dict
        Those of `Combined`, of each galaxy; there may be none.
    n_classes : int
        Number of classes, C.

    Returns
    -------
    dict of str to (N, ...) ndarray of float32
    """
    widths = {"logits_sd": (n_classes,), "log_odds_sd": (count_evidence(n_classes),)}
    return {
        name: np.array([one[name] for one in numbers], np.float32).reshape(
            len(numbers), *widths.get(name, ())
        )
        for name in (*widths, "agreement")
    }


def list_spreads(
    map_shape: tuple[int, ...], *, has_contrast: bool = True
) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each of the ``spreads`` of a galaxy.

    Parameters
    ----------
    map_shape : (C, h, w)
        Shape of the maps of one galaxy.
    has_contrast : bool, default True
        See `combine_networks`.

    Returns
    -------
    dict of str to (n, h, w)
        By dataset.
    """
    shapes = {"cams_sd": map_shape}
    if has_contrast:
        shapes["evidence_sd"] = (count_evidence(map_shape[0]), *map_shape[1:])
    return shapes


def mix_classes(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return by how much the map of each class counts in each evidence map of a galaxy.

    Parameters
    ----------
    logits : (C,) ndarray of float
        The logits, whose probabilities weight the classes.

    Returns
    -------
    (E, C) ndarray of float32
        Each row adds up to zero.
    """
    n_classes = len(logits)
    if n_classes == 2:
        return np.array([[-1, 1]], np.float32)
    return (np.eye(n_classes) - compute_rest_shares(logits)).astype(np.float32)


def _contrast(maps: NDArray[np.float32], mixing: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return evidence maps (K, E, h, w) of the maps (K, C, h, w)."""
    if maps.shape[1] == 2:
        return maps[:, 1:] - maps[:, :1]
    n_networks, n_classes, height, width = maps.shape
    flat = np.matmul(mixing, maps.reshape(n_networks, n_classes, -1))
    return flat.reshape(n_networks, len(mixing), height, width)


def _measure_spread(deviations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard deviation along the first axis, from deviations from the mean."""
    variance = np.einsum("k...,k...->...", deviations, deviations)
    if not _LEAST < variance.max() < _LARGEST:
        wide = deviations.astype(np.float64)
        variance = np.einsum("k...,k...->...", wide, wide)
    return np.sqrt(variance / (len(deviations) - 1)).astype(np.float32)
