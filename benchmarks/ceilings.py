"""Ceilings of the machine: its rates of arithmetic, memory and disk, for comparison."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch


def measure_ceilings() -> dict[str, float]:
    """Measure the rates of two matrix products, a memory copy and a file write.

    The second product is a 1 × 1 convolution, which oneDNN computes. On some processors it is
    faster than the library behind ``torch.mm``.

    Returns
    -------
    dict of str to float
        Rates [GFLOP/s] of the products, and [GB/s] of the copy and the write.
    """
    a, b, product = (torch.randn(2048, 2048) for _ in range(3))
    pixels = torch.randn(1, 512, 64, 64).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(512, 512, 1, 1)
    source = torch.zeros(1 << 26)
    target = torch.empty_like(source)
    data = os.urandom(1 << 26)

    def write() -> None:
        with tempfile.TemporaryDirectory() as folder, Path(folder, "a").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    return {
        "matrix_product_gflops": 2 * 2048**3 / _time(lambda: torch.mm(a, b, out=product)) / 1e9,
        "convolution_gflops": 2
        * 512**2
        * 64**2
        / _time(lambda: torch.nn.functional.conv2d(pixels, weights))
        / 1e9,
        "memory_copy_gb_per_s": 4 * len(source) / _time(lambda: target.copy_(source)) / 1e9,
        "file_write_gb_per_s": len(data) / _time(write) / 1e9,
    }


def count_conv3_flops(size: int) -> float:
    """Return the floating-point operations of a forward pass of conv3 on size × size pixels."""
    return sum(2 * 9 * size**2 * k * m for k, m in ((3, 32), (32, 64), (64, 128)))


def _time(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
