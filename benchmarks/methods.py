"""The speed of each method, on the same images in turn: ``python -m benchmarks.methods``."""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

from galfig.attribution.engine import make_engine
from galfig.attribution.methods import METHODS
from galfig.networks.architectures import build_network, find_layer

ARCHS = ("conv3", "xresnet34")
N_CLASSES = 2
SIZE = 96
# Integrated gradients takes as long for one image as Grad-CAM for a hundred.
N_OF_PIXELS = 2


def main() -> None:
    """Time all methods, print a table, and write the rates as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--archs", nargs="+", default=ARCHS)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rates = {arch: time_methods(arch, asked.batch, asked.repeats) for arch in asked.archs}
    for arch, found in rates.items():
        for method, rate in found.items():
            sys.stdout.write(f"{arch:12} {method:22} {rate:10.3g} galaxies/s\n")
    if asked.out is not None:
        asked.out.write_text(json.dumps(rates, indent=1) + "\n", encoding="utf-8")


def time_methods(arch: str, n_images: int, n_repeats: int) -> dict[str, float]:
    """Time all methods for a network, in the engine and for all classes, interleaved.

    Parameters
    ----------
    arch : str
        Name of the architecture. Its weights are random, which does not affect the speed.
    n_images : int
        Number of images of 96 pixels; at most `N_OF_PIXELS` for integrated gradients.
    n_repeats : int
        Number of rounds; the result is their median.

    Returns
    -------
    dict of str to float
        Galaxies per second by method.
    """
    torch.manual_seed(0)
    model = build_network(arch, N_CLASSES).eval()
    _, layer = find_layer(model, "auto", SIZE, arch)
    images = torch.randn(n_images, 3, SIZE, SIZE)
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    # Where images are computed two at a time, none are added to fill a batch.
    sizes = {"integrated-gradients": N_OF_PIXELS}
    engines = {
        name: make_engine(model, layer, method=name, micro_batch=sizes.get(name))
        for name in METHODS
    }
    for name, engine in engines.items():
        engine(images[: sizes.get(name, 1)])
    for _ in range(n_repeats):
        for name, engine in engines.items():
            batch = images[: sizes.get(name, n_images)]
            start = time.perf_counter()
            engine(batch)
            seconds[name].append((time.perf_counter() - start) / len(batch))
    return {name: 1 / statistics.median(each) for name, each in seconds.items()}


if __name__ == "__main__":
    main()
