"""Batches: how many images a device computes at a time, found by trying where memory is short."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from galfig.attribution.devices import TooLargeError, is_out_of_memory, release_memory
from galfig.attribution.gradcam import CamBatch, join_batches, map_batches

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


class BatchLimit:
    """The most images that a device is given at a time; smaller each time that it lacks memory.

    Attributes
    ----------
    device : torch.device
        The device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._largest: int | None = None
        self._lock = threading.Lock()

    def cap(self, n_images: int) -> int:
        """Return a number of images, or the limit where that is smaller."""
        largest = self._largest
        return n_images if largest is None else min(n_images, largest)

    def attempt(self, compute: Callable[[], Result], n_images: int) -> Result | None:
        """Compute something of some images; halve the limit if that runs out of memory.

        Parameters
        ----------
        compute : callable
            What to do; it must return something.
        n_images : int
            Number of images that it computes at a time.

        Returns
        -------
        object or None
            What ``compute`` returns; None if there was not enough memory.

        Raises
        ------
        TooLargeError
            If it is a single image that does not fit.
        """
        try:
            return compute()
        except Exception as exc:
            if not is_out_of_memory(exc):
                raise
            self._halve(n_images, exc)
        # Only here, where the error is gone, and with it all tensors that its traceback held.
        release_memory(self.device)
        return None

    def _halve(self, n_images: int, exc: Exception) -> None:
        if n_images == 1:
            raise TooLargeError(self.device, exc) from exc
        with self._lock:
            # Other threads may have run out of memory at the same time, of the same size.
            if self.cap(n_images) == n_images:
                self._largest = n_images // 2
                logger.warning(
                    "%s: out of memory with %d images at a time; going on with %d",
                    self.device,
                    n_images,
                    self._largest,
                )


def explain_in_batches(
    explain: Callable[[Tensor], CamBatch], images: Tensor, size: int, limit: BatchLimit
) -> CamBatch:
    """Explain images in batches of one size, or of less where the memory does not suffice.

    The last batch is filled with zeros: of another number of images, kernels may sum in another
    order, and each shape would need a preparation of its own.

    Parameters
    ----------
    explain : callable
        Explains a batch on the device of the limit.
    images : (N, n_channels, H, W) Tensor
        Images, on any device.
    size : int
        Number of images of a batch.
    limit : BatchLimit
        What the memory permits; it learns from what is tried here.

    Returns
    -------
    CamBatch
        Of all images.

    Raises
    ------
    TooLargeError
        If a single image does not fit in the memory.
    """
    found: list[CamBatch] = []
    start = 0
    # Of no images, an empty batch has the right shape.
    while start < len(images) or not found:
        size = limit.cap(size)
        batch = images[start : start + size].to(limit.device, non_blocking=True)
        explained = limit.attempt(partial(_explain_filled, explain, batch, size), size)
        if explained is not None:
            found.append(explained)
            start += size
    return join_batches(found)


def _explain_filled(explain: Callable[[Tensor], CamBatch], batch: Tensor, size: int) -> CamBatch:
    """Explain a batch with images of zeros behind its own, up to a size."""
    n_images = len(batch)
    if n_images < size:
        batch = torch.cat([batch, batch.new_zeros(size - n_images, *batch.shape[1:])])
    return map_batches(lambda tensor: tensor[:n_images], explain(batch))
