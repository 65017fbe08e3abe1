"""Roofline: how fast a device multiplies and moves bytes, and what a network needs of each."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import synchronise
from benchmarks.maps import computing_in

PRECISIONS = ("float32", "tf32", "bfloat16")
ITEMSIZE = {"float32": 4, "tf32": 4, "bfloat16": 2}


def measure_roofline(device: torch.device, size: int = 8192) -> dict[str, float]:
    """Measure the arithmetic of a device, and the rate at which it moves bytes.

    Parameters
    ----------
    device : torch.device
        The device.
    size : int, default 8192
        Rows and columns of the matrices; copies are of as many numbers of four bytes.

    Returns
    -------
    dict of str to float
        ``gflops_<precision>``, the faster of a matrix product and a convolution of 3 × 3 [GFLOP/s];
        ``memory_gb_per_s``, bytes read and written by a copy on the device [GB/s];
        ``send_gb_per_s`` and ``fetch_gb_per_s``, copies from and to pinned memory [GB/s].
    """
    a, b, product = (torch.randn(size, size, device=device) for _ in range(3))
    n_maps, side = max(8, size // 32), max(8, size // 128)
    # As many operations as the product, for large matrices.
    n_images = max(1, size**2 // (18 * n_maps * side**2) * 16)
    pixels = torch.randn(n_images, n_maps, side, side, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    weights = torch.randn(n_maps, n_maps, 3, 3, device=device)
    weights = weights.contiguous(memory_format=torch.channels_last)
    n_convolved = 18 * n_images * n_maps**2 * side**2
    found = {}
    with torch.inference_mode():
        for precision in PRECISIONS:
            with computing_in(precision, device):
                rates = [
                    2 * size**3 / _time(lambda: a @ b, device),
                    n_convolved
                    / _time(lambda: nn.functional.conv2d(pixels, weights, padding=1), device),
                ]
            found[f"gflops_{precision}"] = max(rates) / 1e9
    n_bytes = a.numel() * a.element_size()
    host = torch.empty(size, size, pin_memory=device.type == "cuda")
    copies: dict[str, tuple[int, Callable[[], object]]] = {
        "memory_gb_per_s": (2, lambda: product.copy_(a)),
        "send_gb_per_s": (1, lambda: product.copy_(host, non_blocking=True)),
        "fetch_gb_per_s": (1, lambda: host.copy_(product, non_blocking=True)),
    }
    for name, (n_passes, copy) in copies.items():
        found[name] = n_passes * n_bytes / _time(copy, device) / 1e9
    return found


def count_work(model: nn.Module, images: Tensor) -> tuple[float, float]:
    """Count what a forward pass does to an image.

    Parameters
    ----------
    model : torch.nn.Module
        Classifier in evaluation mode.
    images : (N, n_channels, H, W) Tensor
        A few images.

    Returns
    -------
    flops : float
        Floating-point operations of convolutions and matrix products.
    numbers : float
        Numbers that the convolutions read and write, if all else is computed along with them.
    """
    sizes = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(inputs[0].numel() + output.numel())

    layers = [one for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return counter.get_total_flops() / len(images), sum(sizes) / len(images)


def find_ceiling(
    roofline: dict[str, float], precision: str, flops: float, numbers: float
) -> dict[str, float]:
    """Return how many galaxies a second the arithmetic and the memory of a device permit."""
    return {
        "by_arithmetic": 1e9 * roofline[f"gflops_{precision}"] / flops,
        "by_bytes": 1e9 * roofline["memory_gb_per_s"] / (numbers * ITEMSIZE[precision]),
    }


def _time(work: Callable[[], object], device: torch.device) -> float:
    """Return the median time of a call [s]."""
    times = []
    for _ in range(6):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - start)
    # The first prepares what the others use.
    return statistics.median(times[1:])
