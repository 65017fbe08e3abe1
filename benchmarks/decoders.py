"""JPEG decoders: their speed, and whether their pixels agree."""

import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
import torchvision
from PIL import Image


def time_decoders(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Time decoders in turn on the same files.

    Parameters
    ----------
    paths : sequence of Path
        JPEG files.

    Returns
    -------
    dict
        For each decoder, the median ``milliseconds`` per file, and ``same_pixels``: whether all
        pixels equal those of Pillow.
    """
    files = [path.read_bytes() for path in paths]
    decoders = {
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
        "simplejpeg": simplejpeg.decode_jpeg,
        "torchvision": lambda data: (
            torchvision.io.decode_jpeg(
                torch.frombuffer(bytearray(data), dtype=torch.uint8),
                torchvision.io.ImageReadMode.RGB,
            )
            .permute(1, 2, 0)
            .numpy()
        ),
    }
    reference = [decoders["Pillow"](data) for data in files]
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    equal = {}
    for _ in range(5):
        for name, decode in decoders.items():
            start = time.perf_counter()
            pixels = [decode(data) for data in files]
            seconds[name].append((time.perf_counter() - start) / len(files))
            pairs = zip(pixels, reference, strict=True)
            equal[name] = all(np.array_equal(*pair) for pair in pairs)
    return {
        name: {"milliseconds": 1e3 * statistics.median(each), "same_pixels": equal[name]}
        for name, each in seconds.items()
    }
