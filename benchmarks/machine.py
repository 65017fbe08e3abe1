"""The machine that measures."""

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import galfig


def synchronise(device: torch.device) -> None:
    """Wait until a device has done what it was told; a processor always has."""
    getattr(torch, device.type).synchronize()


def name_device(device: torch.device) -> str:
    """Return the name of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe_machine(device: torch.device | None = None) -> dict[str, Any]:
    """Return the processor, the number of its cores that torch uses, the date, and versions.

    Parameters
    ----------
    device : torch.device, optional
        What computes; default the processor.

    Returns
    -------
    dict
    """
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.is_file() else [])
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": torch.get_num_threads(),
        "device": "cpu; CUDA: not measured" if device is None else name_device(device),
        "date": time.strftime("%Y-%m-%d"),
        "galfig": galfig.__version__,
        **{name: version(name) for name in ("torch", "captum", "torchcam", "grad-cam", "timm")},
    }
