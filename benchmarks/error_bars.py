"""Error bars: does the interval of several networks hold what one more network says?

``python -m benchmarks.error_bars FOLDER --config galfig.toml`` takes the networks of a folder from
``galfig train --networks 6 --out FOLDER``, and the galaxies of their validation set. It leaves out
each network in turn, and counts the pixels at which the evidence of that network lies within the
95 % prediction interval of the others.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.attribution.engine import make_engine
from galfig.catalog.galaxies import Galaxies
from galfig.catalog.sample import load_catalog
from galfig.config import load_settings
from galfig.images.cutouts import choose_decoding, iter_cutouts, scale_cutout
from galfig.metrics import compute_interval_factor, median_correlation
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.ensemble import load_networks


class Honesty(NamedTuple):
    """How far the intervals of networks can be trusted.

    Attributes
    ----------
    coverage : (K,) ndarray of float64
        Share of the pixels of each network within the 95 % prediction interval of the others.
    coverage_two_sigma : (K,) ndarray of float64
        The same for their mean ± 2 s.
    agreement : (N,) ndarray of float64
        Median over pairs of networks of the Spearman correlation of their maps of each galaxy.
    share_open, energy_open : float
        Share of the pixels at which the 95 % interval of the mean of all networks holds zero, and
        their share of the sum of squares of the mean map.
    """

    coverage: NDArray[np.float64]
    coverage_two_sigma: NDArray[np.float64]
    agreement: NDArray[np.float64]
    share_open: float
    energy_open: float


def measure_honesty(evidence: NDArray[np.floating]) -> Honesty:
    """Leave out each network in turn, and compare it with the interval of the others.

    Parameters
    ----------
    evidence : (K, N, h, w) ndarray of float
        Evidence maps of at least three networks for N galaxies.

    Returns
    -------
    Honesty
    """
    n_networks = len(evidence)
    shares = []
    for left in range(n_networks):
        others = np.delete(evidence, left, axis=0)
        distance = np.abs(evidence[left] - others.mean(axis=0))
        sd = others.std(axis=0, ddof=1)
        factors = (compute_interval_factor(n_networks - 1, "next"), 2.0)
        shares.append([float(np.mean(distance <= factor * sd)) for factor in factors])
    coverage, coverage_two_sigma = np.array(shares).T
    mean, sd = evidence.mean(axis=0), evidence.std(axis=0, ddof=1)
    is_open = np.abs(mean) <= compute_interval_factor(n_networks, "mean") * sd
    maps = np.moveaxis(evidence, 1, 0).reshape(evidence.shape[1], n_networks, -1)
    return Honesty(
        coverage,
        coverage_two_sigma,
        np.array([median_correlation(galaxy) for galaxy in maps]),
        float(is_open.mean()),
        float(np.sum(mean[is_open] ** 2) / np.sum(mean**2)),
    )


def explain_all(networks: Checkpoint, galaxies: Galaxies) -> NDArray[np.float32]:
    """Return the evidence maps (K, N, h, w) of each network of two classes, as a build has them."""
    decoding = choose_decoding(galaxies.settings.catalog, networks.n_channels)
    cutouts = iter_cutouts(galaxies.paths, networks.cutout_size, decoding)
    readable = [cutout for cutout in cutouts if isinstance(cutout, np.ndarray)]
    images = networks.normalise(
        np.stack([scale_cutout(cutout, networks.image_size) for cutout in readable])
    )
    found = []
    for network in networks.networks:
        engine = make_engine(network.model, network.model.get_submodule(network.layer_name))
        cams = engine(images).cams.numpy()
        found.append(cams[:, 1] - cams[:, 0])
    return np.stack(found)


def describe(honesty: Honesty) -> dict[str, Any]:
    """Return the numbers, ready for JSON."""
    low, median, high = np.nanpercentile(honesty.agreement, [10, 50, 90])
    return {
        "n_networks": len(honesty.coverage),
        "coverage": float(honesty.coverage.mean()),
        "coverage_by_network": honesty.coverage.round(4).tolist(),
        "coverage_two_sigma": float(honesty.coverage_two_sigma.mean()),
        "agreement": {"median": float(median), "10 %": float(low), "90 %": float(high)},
        "share_of_pixels_open": honesty.share_open,
        "their_share_of_energy": honesty.energy_open,
    }


def main() -> None:
    """Measure the networks of a folder, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the networks")
    parser.add_argument("--config", type=Path, help="settings that they were trained with")
    asked = parser.parse_args()
    galaxies = load_catalog(settings=load_settings(asked.config))
    evidence = explain_all(load_networks(asked.folder), galaxies.take(galaxies.in_valid))
    sys.stdout.write(f"{json.dumps(describe(measure_honesty(evidence)), indent=1)}\n")


if __name__ == "__main__":
    main()
