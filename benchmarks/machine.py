"""The machine that measures."""

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import galfig


def describe_machine() -> dict[str, Any]:
    """Return the processor, the number of its cores that torch uses, the date, and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.is_file() else [])
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu; CUDA: not measured",
        "date": time.strftime("%Y-%m-%d"),
        "galfig": galfig.__version__,
        **{name: version(name) for name in ("torch", "captum", "torchcam", "grad-cam", "timm")},
    }
