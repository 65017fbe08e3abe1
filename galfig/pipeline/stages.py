"""Stages: threads decode and compress while a device that they share computes large batches.

A processor does better if each thread takes a few galaxies through all stages, as
`galfig.pipeline.explain` does: their pixels stay in its cache. A GPU wants hundreds at a time.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
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


class _Computed(NamedTuple):
    """A batch that the device has been told to compute, and the cutouts of its groups."""

    fetched: Fetched | None
    cutouts: Sequence[Sequence[Cutout | str]]


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
    waiting: deque[_Computed] = deque()
    finishing: deque[Future[list[Kept | str]]] = deque()

    def decode(group: _Group) -> tuple[_Group, Sequence[Cutout | str]]:
        cutouts = stages.decode(group.paths)
        pixels = group.pixels[group.first : group.first + len(cutouts)].numpy()
        for row, cutout in zip(pixels, cutouts, strict=True):
            row[...] = 0 if isinstance(cutout, str) else stages.scale(cutout)
        return group, cutouts

    def finish(
        fetched: Fetched | None, first: int, cutouts: Sequence[Cutout | str]
    ) -> list[Kept | str]:
        readable = [first + i for i, one in enumerate(cutouts) if not isinstance(one, str)]
        if fetched is None or not readable:
            return [str(one) for one in cutouts]
        arrays = [tensor.numpy() for tensor in fetched.tensors]
        rows = [[array[row] for row in readable] for array in arrays]
        images = [one for one in cutouts if not isinstance(one, str)]
        found = iter(stages.finish(rows, images))
        return [one if isinstance(one, str) else next(found) for one in cutouts]

    def start_finishing() -> None:
        computed, first = waiting.popleft(), 0
        if computed.fetched is not None:
            with stopwatch.time("compute"):
                computed.fetched.wait()
        for cutouts in computed.cutouts:
            finishing.append(pool.submit(finish, computed.fetched, first, cutouts))
            first += len(cutouts)

    n_groups = -(-n_batch // GROUP_SIZE)
    n_ahead = N_BATCHES_AHEAD * n_groups
    groups = _iter_groups(paths, transfer, n_batch, shape)
    cutouts: list[Sequence[Cutout | str]] = []
    try:
        with closing(map_ahead(pool, decode, groups, n_ahead=n_ahead)) as decoded:
            for group, found in decoded:
                cutouts.append(found)
                if group.first + len(found) < len(group.pixels):
                    continue
                with stopwatch.time("compute"):
                    fetched = _compute(stages, transfer, group.pixels, cutouts)
                waiting.append(_Computed(fetched, cutouts))
                cutouts = []
                # The device has this batch to do while the maps of the one before arrive.
                if len(waiting) > 1:
                    start_finishing()
                while len(finishing) > n_ahead:
                    yield finishing.popleft().result()
            while waiting:
                start_finishing()
            while finishing:
                yield finishing.popleft().result()
    finally:
        for future in finishing:
            future.cancel()


def _iter_groups(
    paths: Sequence[Source], transfer: Transfer, n_batch: int, shape: tuple[int, int, int]
) -> Iterator[_Group]:
    """Yield the groups of all batches, with memory for the pixels of each batch."""
    for start in range(0, len(paths), n_batch):
        batch = paths[start : start + n_batch]
        pixels = transfer.allocate((len(batch), *shape), torch.uint8)
        for first in range(0, len(batch), GROUP_SIZE):
            yield _Group(pixels, first, batch[first : first + GROUP_SIZE])


def _compute(
    stages: Stages[Kept],
    transfer: Transfer,
    pixels: Tensor,
    cutouts: Sequence[Sequence[Cutout | str]],
) -> Fetched | None:
    """Tell the device to explain a batch; None if it has no image that can be decoded."""
    if all(isinstance(one, str) for group in cutouts for one in group):
        return None
    return transfer.fetch(stages.explain(transfer.send(pixels)))
