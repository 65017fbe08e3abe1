"""Precision: the arithmetic in which a network trains, in float32 or partly in bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from galfig.config import TrainingPrecision
from galfig.errors import ConfigError
from galfig.networks.device import replacing_forward

# Features of a CPU that multiply numbers of bfloat16; elsewhere they are converted to float32 and
# back, which takes longer than float32 alone. ARM names its own "bf16".
_CPU_FEATURES = ("amx_bf16", "avx512_bf16", "bf16")
# The first generation of GPUs that multiplies numbers of bfloat16 (Ampere).
_CUDA_CAPABILITY = (8, 0)


def choose_precision(
    name: TrainingPrecision, device: torch.device | str = "cpu"
) -> Literal["float32", "bfloat16"]:
    """Return the arithmetic that a setting stands for on a device.

    Parameters
    ----------
    name : {"float32", "bfloat16", "auto"}
        "auto" is bfloat16 where the device multiplies its numbers by itself, and float32 elsewhere.
    device : torch.device or str, default "cpu"
        Where the network trains.

    Returns
    -------
    {"float32", "bfloat16"}

    Raises
    ------
    ConfigError
        If it is "bfloat16", and the device would have to imitate it.
    """
    if name == "float32":
        return "float32"
    if multiplies_bfloat16(torch.device(device)):
        return "bfloat16"
    if name == "auto":
        return "float32"
    lacking = (
        "a GPU of the generation Ampere or later"
        if torch.device(device).type == "cuda"
        else "a processor with AVX512-BF16 or AMX, such as Intel's Xeon from 2023"
    )
    raise ConfigError(
        f'`precision="bfloat16"`: this machine would imitate it, slowly, expected {lacking}; use '
        '`precision="auto"` or `precision="float32"`'
    )


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies numbers of bfloat16 by itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _CUDA_CAPABILITY
    features = _list_cpu_features()
    return any(features.get(name, False) for name in _CPU_FEATURES)


def _list_cpu_features() -> dict[str, Any]:
    """Return what torch says of the processor; an older torch says nothing."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return {}
    return dict(torch.cpu.get_capabilities())


@contextmanager
def computing_in(
    model: nn.Module, precision: Literal["float32", "bfloat16"], device: torch.device | str = "cpu"
) -> Iterator[None]:
    """Have a network compute in a precision while it trains.

    In bfloat16, convolutions and products of matrices take numbers rounded to 8 bits, and add in
    float32; statistics, and all else that needs more digits, stay in float32 [1]_. Weights and
    logits are float32 throughout. bfloat16 has the range of float32, so that small gradients do
    not vanish, as they would in float16 without scaling the loss.

    Validation computes in float32 in any case: its metrics are those of the network as it is used
    later.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    precision : {"float32", "bfloat16"}
        From `choose_precision`.
    device : torch.device or str, default "cpu"
        Where the network trains.

    References
    ----------
    .. [1] https://pytorch.org/docs/stable/amp.html
    """
    if precision == "float32":
        yield
        return
    kind, forward = torch.device(device).type, model.forward

    def forward_mixed(*images: torch.Tensor) -> torch.Tensor:
        # Frozen layers are in evaluation mode while the last one trains.
        if not (model.training or torch.is_grad_enabled()):
            return forward(*images)
        with torch.autocast(kind, dtype=torch.bfloat16):
            logits = forward(*images)
        return logits.float()

    with replacing_forward(model, forward_mixed):
        yield
