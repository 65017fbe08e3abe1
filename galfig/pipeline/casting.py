"""Casting: maps scaled and rounded to 16 bits on a device, if that gives the same bits."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galfig.store.chunks import LARGEST, scale_maps


def scale_on_device(cams: Tensor) -> tuple[Tensor, Tensor]:
    """Divide each map by its scale and round it, as `galfig.store.chunks.scale_maps` does.

    Parameters
    ----------
    cams : (N, C, h, w) Tensor of float32
        Maps, on any device.

    Returns
    -------
    data : (N, C, h, w) Tensor of float16
        The maps, divided by ``scale``.
    scale : (N, C) Tensor of float32
        Power of two by which each map was divided; NaN if the map is not finite.
    """
    peak = cams.abs().amax(dim=(2, 3))
    mantissa, _ = torch.frexp(peak)
    # Exact, where a function of the exponent may be rounded on a device.
    scale = (peak / mantissa).clamp(max=2.0**127)
    scale = torch.where(peak > 0, scale, torch.ones_like(scale))
    scaled = (cams / scale[:, :, None, None]).clamp(-LARGEST, LARGEST)
    return scaled.half(), torch.where(peak.isfinite(), scale, torch.full_like(scale, torch.nan))


@cache
def casts_exactly(device: torch.device) -> bool:
    """Return whether `scale_on_device` gives the bits that a processor stores.

    Parameters
    ----------
    device : torch.device
        The device, on which it tries maps of all sizes, with numbers between those of 16 bits.

    Returns
    -------
    bool
    """
    maps = _make_tough_maps()
    data, scale = scale_on_device(torch.from_numpy(maps).to(device))
    expected = [scale_maps(galaxy) for galaxy in maps]
    return all(
        np.array_equal(found.view(np.uint16), one.data.view(np.uint16))
        and np.array_equal(divisor, one.scale)
        for found, divisor, one in zip(
            data.cpu().numpy(), scale.cpu().numpy(), expected, strict=True
        )
    )


def _make_tough_maps() -> NDArray[np.float32]:
    """Return maps (N, 1, 8, 32) of every power of two, the smallest and the largest among them."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (279, 1, 8, 32))
    # Halfway between two numbers of 16 bits, and next to that; and numbers of few bits of those.
    values[:, 0, 0] = (1024 + 0.5 + np.arange(32)) / 2048
    values[:, 0, 1] = np.nextafter(np.float32(values[:, 0, 0]), np.float32(2))
    values[:, 0, 2] = 2.0 ** -np.arange(32) * rng.choice([-1, 1], (279, 32))
    values[:, 0, 3] = 0
    exponents = np.arange(-150, 129)
    with np.errstate(over="ignore", under="ignore"):
        maps = np.ldexp(values, exponents[:, None, None, None])
        largest = float(np.finfo(np.float32).max)
        return np.clip(maps, -largest, largest).astype(np.float32)
