"""The device: where a network runs."""

import torch

from galfig.errors import ConfigError
from galfig.runtime.options import Device


def choose_device(name: Device) -> torch.device:
    """Return the device called "auto" (CUDA where there is one), "cpu" or "cuda"."""
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise ConfigError(
            '`device="cuda"`: no CUDA device found; use `device="auto"` or `device="cpu"`'
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and has_cuda) else "cpu")
