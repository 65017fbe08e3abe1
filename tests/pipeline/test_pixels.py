"""Pixels: what the device looks up is what the processor computes, to the last bit."""

import numpy as np
import pytest
import torch
from samples import make_checkpoint

from galfig.pipeline.pixels import Normaliser

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n_channels", [1, 3, 5])
def test_every_value_of_every_channel_keeps_its_bits(tmp_path, n_channels, device):
    """All 256 of them, and images of any shape."""
    checkpoint = make_checkpoint(tmp_path / "a.safetensors", n_channels=n_channels)
    # Statistics that are no round numbers.
    checkpoint.metadata["mean"] = [0.1 + 0.071 * channel for channel in range(n_channels)]
    checkpoint.metadata["std"] = [0.31 / (1 + channel) for channel in range(n_channels)]
    rng = np.random.default_rng(0)
    for pixels in (
        np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(n_channels, axis=3),
        rng.integers(0, 256, (3, 7, 5, n_channels), np.uint8),
    ):
        expected = checkpoint.normalise(pixels)
        normalise = Normaliser(checkpoint, torch.device(device))
        found = normalise(torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2))
        assert found.dtype == torch.float32
        assert torch.equal(found.cpu(), expected)
