"""Pixels: images normalised where they are, to the bits that a processor computes."""

import numpy as np
import torch
from torch import Tensor

from galfig.networks.checkpoint import Checkpoint


class Normaliser:
    """Turns pixels into the input of a network, on any device, by looking each value up.

    A pixel has 256 values. What each of them becomes is computed once, on the processor, so that
    the arithmetic of a device cannot change a bit; and a quarter of the bytes go to the device.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network, for its statistics.
    device : torch.device
        Where the images are.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        n_channels = checkpoint.n_channels
        values = np.arange(256, dtype=np.uint8)[None, :, None, None]
        table = checkpoint.normalise(np.repeat(values, n_channels, axis=3))
        self._table = table[0, :, :, 0].flatten().to(device)
        self._starts = 256 * torch.arange(n_channels, dtype=torch.int32, device=device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalise images.

        Parameters
        ----------
        pixels : (N, n_channels, H, W) Tensor of uint8
            Images, on the device.

        Returns
        -------
        (N, n_channels, H, W) Tensor of float32
            Exactly the numbers of `galfig.networks.checkpoint.Checkpoint.normalise`, channels-last.
        """
        # Channels come last in memory, as images are decoded.
        rows = pixels.permute(0, 2, 3, 1).int() + self._starts
        return self._table.index_select(0, rows.flatten()).view(rows.shape).permute(0, 3, 1, 2)
