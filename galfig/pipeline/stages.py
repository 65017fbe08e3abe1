"""Stages: threads decode and compress while a device that they share computes large batches.

A processor does better if each thread takes a few galaxies through all stages, as
`galfig.pipeline.explain` does: their pixels stay in its cache. A GPU wants hundreds at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galfig.images.ahead import map_ahead
from galfig.images.sources import Source
from galfig.pipeline.transfer import Fetched, Transfer
from galfig.runtime.timing import Stopwatch

Kept = TypeVar("Kept")
Cutout = NDArray[np.uint8]
Rows = NDArray[Any]
# Galaxies that a thread decodes or compresses at a time.
GROUP_SIZE = 8
# Batches that are decoded while one computes, and that are compressed.
N_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Stages(Generic[Kept]):
    """What happens to each galaxy.

    Attributes
    ----------
    decode : callable
        Called in a thread with a few sources; returns the cutout of each, (S, S, n_channels) of
        uint8, or why there is none.
    scale : callable
        Called in a thread; scales a cutout to the size that the network sees.
    explain : callable
        Called in one thread with pixels (N, H, W, n_channels) of uint8 on the device; returns
        tensors of N rows each, which the device may still compute.
    finish : callable
        Called in a thread with the rows of a few galaxies, by tensor, and their cutouts; returns
        what is kept of each, or why nothing is.
    """

    decode: Callable[[Sequence[Source]], Sequence[Cutout | str]]
    scale: Callable[[Cutout], Cutout]
    explain: Callable[[Tensor], Sequence[Tensor]]
    finish: Callable[[Sequence[Sequence[Rows]], Sequence[Cutout]], Sequence[Kept | str]]


class _Group(NamedTuple):
    """A few galaxies of a batch: their images, and their places in its pixels."""

    pixels: Tensor
    first: int
    paths: Sequence[Source]


class _Decoded(NamedTuple):
    """A group whose images are in the pixels of its batch, as far as there are cutouts."""

    group: _Group
    cutouts: Sequence[Cutout | str]

    @property
    def is_last(self) -> bool:
        """Whether the batch ends with this group."""
        return self.group.first + len(self.cutouts) == len(self.group.pixels)


class _Computed(NamedTuple):
    """A group of a batch that the device computes; None if no image of the batch is readable."""

    fetched: Fetched | None
    decoded: _Decoded


def explain_in_stages(
    paths: Sequence[Source],
    stages: Stages[Kept],
    transfer: Transfer,
    pool: ThreadPoolExecutor,
    *,
    n_batch: int,
    shape: tuple[int, int, int],
    stopwatch: Stopwatch,
) -> Iterator[list[Kept | str]]:
    """Take images through all stages; the threads decode and compress, the caller computes.

    The pixels of a batch are put together in one piece of memory by the threads that decode them.
    An image that cannot be decoded leaves zeros there, so that no batch waits for another image.

    Parameters
    ----------
    paths : sequence of Path, BandFiles or Element
        The N images.
    stages : Stages
        What happens to each.
    transfer : Transfer
        Moves pixels to the device and maps back.
    pool : ThreadPoolExecutor
        The threads.
    n_batch : int
        Number of images that the device computes at a time.
    shape : (H, W, n_channels)
        Shape of an image that the network sees.
    stopwatch : Stopwatch
        Adds up how long the calling thread has the device compute and waits for it.

    Yields
    ------
    list
        For each image of a few, in order, what is kept of it or why nothing is.
    """
    n_ahead = N_BATCHES_AHEAD * -(-n_batch // GROUP_SIZE)
    groups = _iter_groups(paths, transfer, n_batch, shape)
    with closing(map_ahead(pool, partial(_decode, stages), groups, n_ahead=n_ahead)) as decoded:
        computed = _iter_computed(decoded, stages, transfer, stopwatch)
        finish = partial(_finish, stages)
        with closing(map_ahead(pool, finish, computed, n_ahead=n_ahead)) as finished:
            yield from finished


def _iter_groups(
    paths: Sequence[Source], transfer: Transfer, n_batch: int, shape: tuple[int, int, int]
) -> Iterator[_Group]:
    """Yield the groups of all batches, with memory for the pixels of each batch."""
    for start in range(0, len(paths), n_batch):
        batch = paths[start : start + n_batch]
        pixels = transfer.allocate((len(batch), *shape), torch.uint8)
        for first in range(0, len(batch), GROUP_SIZE):
            yield _Group(pixels, first, batch[first : first + GROUP_SIZE])


def _decode(stages: Stages[Kept], group: _Group) -> _Decoded:
    """Decode a group into the pixels of its batch; this runs in a thread."""
    cutouts = stages.decode(group.paths)
    pixels = group.pixels[group.first : group.first + len(cutouts)].numpy()
    for row, cutout in zip(pixels, cutouts, strict=True):
        row[...] = 0 if isinstance(cutout, str) else stages.scale(cutout)
    return _Decoded(group, cutouts)


def _iter_computed(
    decoded: Iterable[_Decoded], stages: Stages[Kept], transfer: Transfer, stopwatch: Stopwatch
) -> Iterator[_Computed]:
    """Have the device compute each batch, and yield its groups when their maps have arrived."""
    before: list[_Computed] = []
    for batch in _iter_batches(decoded):
        with stopwatch.time("compute"):
            fetched = _compute(stages, transfer, batch)
        # The device has this batch to do while the maps of the one before arrive.
        yield from _await(before, stopwatch)
        before = [_Computed(fetched, one) for one in batch]
    yield from _await(before, stopwatch)


def _iter_batches(decoded: Iterable[_Decoded]) -> Iterator[list[_Decoded]]:
    batch: list[_Decoded] = []
    for one in decoded:
        batch.append(one)
        if one.is_last:
            yield batch
            batch = []


def _compute(stages: Stages[Kept], transfer: Transfer, batch: Sequence[_Decoded]) -> Fetched | None:
    """Tell the device to explain a batch; None if it has no image that can be decoded."""
    if all(isinstance(one, str) for decoded in batch for one in decoded.cutouts):
        return None
    return transfer.fetch(stages.explain(transfer.send(batch[0].group.pixels)))


def _await(batch: Sequence[_Computed], stopwatch: Stopwatch) -> Sequence[_Computed]:
    """Return the groups of a batch when its maps have arrived."""
    if batch and batch[0].fetched is not None:
        with stopwatch.time("compute"):
            batch[0].fetched.wait()
    return batch


def _finish(stages: Stages[Kept], computed: _Computed) -> list[Kept | str]:
    """Return what is kept of each galaxy of a group, or why nothing is; this runs in a thread."""
    fetched, (group, cutouts) = computed
    images = [one for one in cutouts if not isinstance(one, str)]
    if fetched is None or not images:
        return [str(one) for one in cutouts]
    readable = [group.first + i for i, one in enumerate(cutouts) if not isinstance(one, str)]
    arrays = [tensor.numpy() for tensor in fetched.tensors]
    found = iter(stages.finish([[array[row] for row in readable] for array in arrays], images))
    return [one if isinstance(one, str) else next(found) for one in cutouts]
