"""Ensembles: the time that mean, scatter and agreement of several networks take beside their maps.

``python -m benchmarks.ensembles`` explains the same images with one network and with five, in turn
for several rounds, and prints the time of five in units of five times one. In memory, one network
only computes its maps, so that all that is added counts against the five. From image files to a
closed store, images are decoded once instead of five times.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data import find_small
from galfig.attribution.engine import Engine, make_engine, open_workers
from galfig.catalog.galaxies import Galaxies, load_galaxies
from galfig.config import Settings
from galfig.images.cutouts import iter_cutouts
from galfig.networks.architectures import build_network, find_layer
from galfig.networks.checkpoint import Checkpoint, wrap_network
from galfig.networks.ensemble import join_networks
from galfig.pipeline.build import build_store
from galfig.pipeline.plan import make_plan
from galfig.pipeline.spread import combine_networks

N_NETWORKS = 5


def make_networks(arch: str, size: int, n_networks: int = N_NETWORKS) -> list[Checkpoint]:
    """Return networks of random weights, which does not affect the speed."""
    networks = []
    for seed in range(n_networks):
        torch.manual_seed(seed)
        model = build_network(arch, 2, 3).eval()
        layer, _ = find_layer(model, "auto", size, arch, 3)
        statistics = {"mean": [0.2] * 3, "std": [0.1] * 3}
        names = ("low", "high")
        networks.append(
            wrap_network(model, class_names=names, cutout_size=size, layer=layer, **statistics)
        )
    return networks


def explain(engines: Sequence[Engine], images: torch.Tensor) -> float:
    """Explain images in the threads of a build, and combine what several networks give; [s]."""
    size = engines[0].choose_micro_batch(images.shape[1:])

    def explain_batch(batch: torch.Tensor) -> None:
        found = [engine.explain(batch) for engine in engines]
        if len(found) == 1:
            return
        cams = np.stack([one.cams.numpy() for one in found], axis=1)
        logits = np.stack([one.logits.numpy() for one in found], axis=1)
        for galaxy in zip(cams, logits, strict=True):
            combine_networks(*galaxy)

    with open_workers() as pool:
        start = time.perf_counter()
        list(pool.map(explain_batch, images.split(size)))
        return time.perf_counter() - start


def time_in_memory(
    networks: Sequence[Checkpoint], cutouts: NDArray[np.uint8], n_rounds: int
) -> dict[str, float]:
    """Return the time per galaxy of one network [ms], and of all in units of so many times one."""
    images = networks[0].normalise(cutouts)
    engines = [
        make_engine(one.model, one.model.get_submodule(one.layer_name), shape=images.shape[1:])
        for one in networks
    ]
    explain(engines, images)
    pairs = [(explain(engines[:1], images), explain(engines, images)) for _ in range(n_rounds)]
    return {
        "one_ms": 1e3 * statistics.median(one for one, _ in pairs) / len(images),
        "ratio": statistics.median(all_ / (len(networks) * one) for one, all_ in pairs),
    }


def build(networks: Checkpoint, galaxies: Galaxies, settings: Settings) -> tuple[float, float]:
    """Build a store; return the time [s] and the size per galaxy [byte]."""
    plan = make_plan(galaxies, settings, networks, "all")
    with tempfile.TemporaryDirectory() as folder:
        path, start = Path(folder) / "maps.h5", time.perf_counter()
        build_store(plan, networks, path)
        return time.perf_counter() - start, path.stat().st_size / len(galaxies)


def time_builds(
    networks: Sequence[Checkpoint], galaxies: Galaxies, settings: Settings, n_rounds: int
) -> dict[str, float]:
    """Return the same ratio from files to a store, and the sizes per galaxy [byte]."""
    joined, ratios, sizes = join_networks(networks), [], (0.0, 0.0)
    for _ in range(n_rounds):
        (one, small), (several, large) = (
            build(network, galaxies, settings) for network in (networks[0], joined)
        )
        ratios.append(several / (len(networks) * one))
        sizes = small, large
    return {
        "ratio": statistics.median(ratios),
        "bytes_per_galaxy": sizes[0],
        "bytes_per_galaxy_with_error_bars": sizes[1],
    }


def main() -> None:
    """Time networks of each architecture, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", nargs="+", default=["conv3", "xresnet34"])
    parser.add_argument("--n", type=int, default=256, help="number of galaxies")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    small = find_small(asked.n)
    settings = Settings(catalog={"path": str(small.catalog)})
    galaxies = load_galaxies(settings, labelled=False)
    galaxies = galaxies.take(np.arange(min(asked.n, len(galaxies))))
    cutouts = np.stack(list(iter_cutouts(galaxies.paths, small.cutout_size)))
    for arch in asked.archs:
        networks = make_networks(arch, small.cutout_size)
        found: dict[str, Any] = {
            "arch": arch,
            "maps": time_in_memory(networks, cutouts, asked.rounds),
            "build": time_builds(networks, galaxies, settings, asked.rounds),
        }
        sys.stdout.write(f"{json.dumps(found)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
