"""Batches: images out of an array, many at a time, as fastai's loaders hand them on.

fastai would send each galaxy through its pipelines by itself, which takes half a millisecond: as
long as a GPU needs for many.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from fastai.data.load import DataLoader
from fastai.torch_core import TensorCategory, TensorImage, TensorImageBW
from numpy.typing import NDArray

from galfig.config import TrainingSettings
from galfig.networks.processes import Processes
from galfig.networks.training_set import crop_at


@dataclass(frozen=True)
class Batches:
    """The images and labels of a training or validation set.

    Attributes
    ----------
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Images of both sets.
    labels : (N,) ndarray of int
        Position of the class of each.
    rows : (n,) ndarray of int
        Those of this set.
    training : TrainingSettings
        Margin of random crops, and sizes.
    is_valid : bool
        Whether this is the validation set, whose crops are central.
    """

    cutouts: NDArray[np.uint8]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    training: TrainingSettings
    is_valid: bool

    def take(self, indices: list[int], own: slice) -> tuple[TensorImage, TensorCategory]:
        """Return images and labels of a batch, or of a part of it.

        Parameters
        ----------
        indices : list of int
            Positions in ``rows``, of the whole batch. Crops are drawn for all of it, so that what
            is drawn next does not depend on the part.
        own : slice
            The part.

        Returns
        -------
        images : (n, n_channels, H, W) TensorImage of uint8
        labels : (n,) TensorCategory of int64
        """
        corners = self.draw(len(indices))
        rows = self.rows[indices[own]]
        if corners:
            pairs = zip(rows, corners[own], strict=True)
            pixels = np.stack([crop_at(self.cutouts[row], at, self.training) for row, at in pairs])
        else:
            pixels = self.cutouts[rows]
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        kind = TensorImage if images.shape[1] == 3 else TensorImageBW
        return kind(images), TensorCategory(torch.from_numpy(self.labels[rows]))

    def draw(self, n_images: int) -> list[tuple[int, int]]:
        """Return the first pixel (y, x) of the crop of each image; none without a margin."""
        margin = self.training.crop_margin
        if not margin:
            return []
        if self.is_valid:
            return [(margin, margin)] * n_images
        return [
            (random.randint(0, 2 * margin), random.randint(0, 2 * margin)) for _ in range(n_images)
        ]


def iter_batches(
    loader: DataLoader, batches: Batches, processes: Processes, indices: Iterable[int]
) -> Iterator[tuple[TensorImage, TensorCategory]]:
    """Give the batches of a process, in place of fastai's ``DataLoader.create_batches``.

    Of each batch of the training it has a part; the batches of the validation are dealt out, since
    the mean loss of a batch follows from all of its galaxies.

    Parameters
    ----------
    loader : DataLoader
        Its batch size is that of all processes together.
    batches : Batches
        The images of the set.
    processes : Processes
        The processes.
    indices : iterable of int
        Positions in the set, in the order of the epoch.

    Yields
    ------
    images, labels
        See `Batches.take`.
    """
    remaining = iter(indices)
    for number in range(len(loader) + 1):
        batch = list(islice(remaining, loader.bs))
        if loader.drop_last and len(batch) < loader.bs:
            # As fastai, which drops an incomplete batch after its crops are drawn.
            batches.draw(len(batch))
            return
        if not batch:
            return
        if loader.drop_last:
            yield batches.take(batch, processes.share(len(batch)))
        elif number % processes.count == processes.rank:
            yield batches.take(batch, slice(None))
