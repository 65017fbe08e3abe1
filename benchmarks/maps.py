"""Maps in memory: all contenders in turn on the same batch, several times."""

import statistics
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.contenders import Contender, make_contenders, measure_disagreement
from benchmarks.machine import synchronise
from galfig.attribution.gradcam import grad_cam
from galfig.networks.architectures import build_network, find_layer
from galfig.networks.checkpoint import normalise

ARCHS = ("conv3", "xresnet34", "convnext_nano")
N_CLASSES = 2
CPU = torch.device("cpu")
# Shortest measurement of a contender [s]. A tenth of a second would mostly measure other processes
# on the machine.
MIN_SECONDS = 0.5


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Compute at a precision within the block, as a user of plain PyTorch would set it."""
    if precision == "bfloat16":
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
        return
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, products.allow_tf32
    cudnn.allow_tf32 = products.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        cudnn.allow_tf32, products.allow_tf32 = before


def time_maps(
    arch: str,
    cutouts: NDArray[np.uint8],
    n_repeats: int,
    *,
    device: torch.device = CPU,
    precision: str = "float32",
    chosen: Collection[str] | None = None,
    min_seconds: float = MIN_SECONDS,
) -> dict[str, Any]:
    """Time all contenders for a network, interleaved.

    Parameters
    ----------
    arch : str
        Name of the architecture. Its weights are random, which does not affect the speed.
    cutouts : (N, H, W, 3) ndarray of uint8
        The batch.
    n_repeats : int
        Number of rounds; the result is their median.
    device : torch.device, optional
        What computes; default the processor.
    precision : {"float32", "tf32", "bfloat16"}, default "float32"
        Arithmetic of all contenders.
    chosen : collection of str, optional
        Names of the contenders; default all.
    min_seconds : float, default `MIN_SECONDS`
        Shortest measurement of a contender [s].

    Returns
    -------
    dict
        ``galaxies_per_second``, ``disagreement`` (relative to float64) and the ``seconds`` of all
        rounds, by contender; the rate of galfig ``over_eager`` and ``over_fastest_library``.
    """
    torch.manual_seed(0)
    model = build_network(arch, N_CLASSES).eval()
    _, layer = find_layer(model, "auto", cutouts.shape[1], arch)
    model.to(device)
    images = normalise(cutouts, [0.1] * 3, [0.1] * 3).to(device)
    contenders = [
        one
        for one in make_contenders(model, layer, N_CLASSES, precision)
        if chosen is None or one.name in chosen
    ]
    few = images[:4]
    exact = grad_cam(model.double(), few.double(), layer).cams
    model.float()
    disagreement = {}
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    with computing_in(precision, device):
        for contender in contenders:
            found = contender.run(few)
            if found is not None:
                exact = exact.to(found.device)
                disagreement[contender.name] = measure_disagreement(contender, found, exact)
            # Whatever is prepared once for a shape.
            contender.run(images[: contender.n_most])
        for _ in range(n_repeats):
            for contender in contenders:
                seconds[contender.name].append(_time(contender, images, min_seconds))
    rates = {name: len(images) / statistics.median(each) for name, each in seconds.items()}
    libraries = [rates[contender.name] for contender in contenders if contender.is_library]
    over_library = {"over_fastest_library": rates["galfig"] / max(libraries)} if libraries else {}
    return {
        "galaxies_per_second": rates,
        "disagreement": disagreement,
        "over_eager": rates["galfig"] / rates["eager forward pass alone"],
        **over_library,
        "seconds": seconds,
    }


def _time(contender: Contender, images: Tensor, min_seconds: float) -> float:
    """Return the mean time of a run over a batch [s], over at least a given time."""
    few = images[: contender.n_most]
    synchronise(images.device)
    start, n_runs = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < min_seconds or not n_runs:
        contender.run(few)
        synchronise(images.device)
        n_runs += 1
    return passed / n_runs * len(images) / len(few)
