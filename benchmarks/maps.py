"""Maps in memory: all contenders in turn on the same batch, several times."""

import statistics
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.contenders import Contender, make_contenders, measure_disagreement
from galfig.attribution.gradcam import grad_cam
from galfig.networks.architectures import build_network, find_layer
from galfig.networks.checkpoint import normalise

ARCHS = ("conv3", "xresnet34", "convnext_nano")
N_CLASSES = 2
# Shortest measurement of a contender [s]. A tenth of a second would mostly measure other processes
# on the machine.
MIN_SECONDS = 0.5


def time_maps(arch: str, cutouts: NDArray[np.uint8], n_repeats: int) -> dict[str, Any]:
    """Time all contenders for a network, interleaved.

    Parameters
    ----------
    arch : str
        Name of the architecture. Its weights are random, which does not affect the speed.
    cutouts : (N, H, W, 3) ndarray of uint8
        The batch.
    n_repeats : int
        Number of rounds; the result is their median.

    Returns
    -------
    dict
        ``galaxies_per_second``, ``disagreement`` (relative to float64) and the ``seconds`` of all
        rounds, by contender; the rate of galfig ``over_eager`` and ``over_fastest_library``.
    """
    torch.manual_seed(0)
    model = build_network(arch, N_CLASSES).eval()
    _, layer = find_layer(model, "auto", cutouts.shape[1], arch)
    images = normalise(cutouts, [0.1] * 3, [0.1] * 3)
    contenders = make_contenders(model, layer, N_CLASSES)
    few = images[:4]
    exact = grad_cam(model.double(), few.double(), layer).cams
    model.float()
    disagreement = {}
    for contender in contenders:
        found = contender.run(few)
        if found is not None:
            disagreement[contender.name] = measure_disagreement(contender, found, exact)
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(n_repeats):
        for contender in contenders:
            seconds[contender.name].append(_time(contender, images))
    rates = {name: len(images) / statistics.median(each) for name, each in seconds.items()}
    fastest = max(rates[contender.name] for contender in contenders if contender.is_library)
    return {
        "galaxies_per_second": rates,
        "disagreement": disagreement,
        "over_eager": rates["galfig"] / rates["eager forward pass alone"],
        "over_fastest_library": rates["galfig"] / fastest,
        "seconds": seconds,
    }


def _time(contender: Contender, images: Tensor) -> float:
    """Return the mean time of a run over a batch [s], over at least `MIN_SECONDS`."""
    start, n_runs = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < MIN_SECONDS:
        contender.run(images)
        n_runs += 1
    return passed / n_runs
