"""The work of a build: to explain shards, each of which becomes a part."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from galfig.attribution.engine import Engine, open_workers
from galfig.errors import LockError
from galfig.images.cutouts import choose_decoding
from galfig.networks.checkpoint import Checkpoint
from galfig.pipeline.changes import describe_changed, find_changed
from galfig.pipeline.explain import explain_galaxies
from galfig.pipeline.parts import Parts
from galfig.pipeline.plan import Plan
from galfig.pipeline.portion import Portion
from galfig.runtime.files import replace_file
from galfig.runtime.lock import Lock, hold_lock
from galfig.runtime.machine import count_processors
from galfig.runtime.options import RunOptions
from galfig.runtime.progress import format_rate, show_progress
from galfig.runtime.storage import Address
from galfig.runtime.timing import Stopwatch
from galfig.store.reader import read_digest, read_image_digests
from galfig.store.writer import Part, write_part

logger = logging.getLogger(__name__)
# Parts that are made at a time where threads take turns at a device: while one is decoded, another
# is computed, and one more compressed.
N_LANES = 3
# Threads that decode and compress for a GPU. More of them take turns at Python's lock for nothing:
# on sixteen processors, 4 made 1.3 times as many galaxies a second as 16.
MAX_THREADS_OF_GPU = 4


@dataclass(frozen=True)
class Work:
    """All that it takes to make the parts of a store.

    Attributes
    ----------
    plan : Plan or Portion
        What to explain, with the ``engine`` of the plan.
    checkpoint : Checkpoint
        The network, or an ensemble of several.
    engines : sequence of Engine
        The engine of each network.
    parts : Parts
        Where the parts go.
    run : RunOptions
        Device and threads.
    guard : callable
        Called before each part appears. It raises if this process should make no more of them.
    root : Path or Address, optional
        The folder that the addresses of images are relative to, where the store holds them.
    """

    plan: Plan | Portion
    checkpoint: Checkpoint
    engines: Sequence[Engine]
    parts: Parts
    run: RunOptions
    guard: Callable[[], object]
    root: Path | Address | None = None


def explain_shards(work: Work, numbers: Iterable[int]) -> None:
    """Make the parts that are missing; each is written while the next is computed.

    A part is made by one process at a time. Those that other processes are making are looked at
    again when all others are done.

    Parameters
    ----------
    work : Work
        What to explain, and how.
    numbers : iterable of int
        The numbers of the shards.

    Raises
    ------
    LockError
        If another process is still making one of these parts at the end, or has taken over.
    OutputError
        If a part cannot be written.
    LostCutoutError
        If an image has disappeared since the build was planned.
    """
    numbers = list(numbers)
    todo = find_missing(work, numbers)
    if not todo:
        return
    n_galaxies, n_todo = work.plan.count(numbers), work.plan.count(todo)
    stopwatch, start = Stopwatch(), time.perf_counter()
    with (
        show_progress("explaining", n_galaxies, "galaxies", initial=n_galaxies - n_todo) as advance,
        open_workers(work.run.n_workers or count_threads_by_default(work.engines[0])) as pool,
        ThreadPoolExecutor(1) as writer,
    ):
        make = partial(make_parts, work, pool=pool, writer=writer, stopwatch=stopwatch)
        n_lanes = N_LANES if work.engines[0].takes_turns else 1
        if busy := _make_side_by_side(partial(make, is_patient=True), todo, advance, n_lanes):
            make(busy, advance, is_patient=False)
    size = (work.checkpoint.n_channels, work.checkpoint.image_size, work.checkpoint.image_size)
    logger.debug(
        "engine: %d images at a time, %s",
        work.engines[0].choose_micro_batch(size),
        work.engines[0].precision,
    )
    logger.info(
        "explained %d galaxies, %s galaxies/s; time: %s",
        n_todo,
        format_rate(n_todo / (time.perf_counter() - start)),
        stopwatch,
    )


def count_threads_by_default(engine: Engine) -> int | None:
    """Return how many threads decode and compress, where nobody says.

    Parameters
    ----------
    engine : Engine
        What explains; of several, any.

    Returns
    -------
    int or None
        None for one per processor.
    """
    return min(count_processors(), MAX_THREADS_OF_GPU) if engine.takes_turns else None


def find_missing(work: Work, numbers: Sequence[int]) -> list[int]:
    """Return the numbers of the shards whose part is missing.

    Parameters
    ----------
    work : Work
        What to explain, and how.
    numbers : sequence of int
        The numbers of the shards.

    Returns
    -------
    list of int
        A part that was made from other images than those that are there now is missing as well.

    Raises
    ------
    LostCutoutError
        If an image has disappeared since the build was planned.
    """
    reasons = {number: _find_reason(work, number) for number in numbers}
    for number, reason in reasons.items():
        if reason:
            part = work.parts.name(number)
            logger.info("%s: %s; explaining its galaxies again", part, reason)
    missing = [number for number, reason in reasons.items() if reason is not None]
    if len(missing) < len(numbers):
        logger.info("resuming: %d of %d shards are done", len(numbers) - len(missing), len(numbers))
    return missing


def _find_reason(work: Work, number: int) -> str | None:
    """Return why a part must be made: "" where there is none, None where it is as it should be."""
    part = work.parts.name(number)
    if read_digest(part) != work.plan.digest_part(number):
        return ""
    recorded = read_image_digests(part) or {}
    changed = find_changed(work.plan.take(number), recorded, work.run.n_workers)
    return describe_changed(changed) if len(changed) else None


def _make_side_by_side(
    make: Callable[[Iterable[int], Callable[[int], object]], list[int]],
    numbers: Sequence[int],
    progress: Callable[[int], object],
    n_lanes: int,
) -> list[int]:
    """Make several parts at a time, so that a device has another to do when one is decoded.

    Return the numbers of those that other processes are making.
    """
    if n_lanes == 1:
        return make(numbers, progress)
    remaining, lock = deque(numbers), threading.Lock()

    def advance(n_done: int) -> None:
        with lock:
            progress(n_done)

    with open_workers(n_lanes) as lanes:
        try:
            makers = [lanes.submit(make, _take(remaining), advance) for _ in range(n_lanes)]
            wait(makers, return_when=FIRST_EXCEPTION)
            # One that failed would otherwise be heard of when those before it are done.
            remaining.clear()
            return sorted(number for maker in makers for number in maker.result())
        finally:
            # If the build is interrupted, no further part is begun.
            remaining.clear()


def _take(numbers: deque[int]) -> Iterator[int]:
    """Yield numbers that no other thread takes."""
    with suppress(IndexError):
        while True:
            yield numbers.popleft()


def make_parts(
    work: Work,
    numbers: Iterable[int],
    progress: Callable[[int], object],
    *,
    pool: ThreadPoolExecutor,
    writer: ThreadPoolExecutor,
    stopwatch: Stopwatch,
    is_patient: bool,
) -> list[int]:
    """Make parts, each of which is written while the next is computed.

    Parameters
    ----------
    work : Work
        What to explain, and how.
    numbers : sequence of int
        The numbers of the shards.
    progress : callable
        Called with the number of galaxies done since the last call.
    pool : ThreadPoolExecutor
        The threads that explain, from `galfig.attribution.engine.open_workers`.
    writer : ThreadPoolExecutor
        The thread that writes.
    stopwatch : Stopwatch
        Adds up the time of each stage.
    is_patient : bool
        Pass over parts that other processes are making.

    Returns
    -------
    list of int
        The numbers of the parts that were passed over.

    Raises
    ------
    LockError
        If another process is making one of these parts, unless ``is_patient``; or as ``guard``.
    OutputError
        If a part cannot be written.
    LostCutoutError
        If an image has disappeared since the build was planned.
    """
    busy: list[int] = []
    written: Future[None] | None = None
    for number in numbers:
        part = work.parts.name(number)
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(hold_lock(part, takeover=work.run.takeover))
            except LockError as exc:
                if not is_patient:
                    raise
                logger.debug("%s", exc)
                busy.append(number)
                continue
            if _find_reason(work, number) is None:
                # Another process has made it meanwhile.
                progress(work.plan.count([number]))
                continue
            explained = _explain_shard(work, number, pool, progress, stopwatch)
            if written is not None:
                written.result()
            # The lock is held until the part is there.
            kept = stack.pop_all()
            written = writer.submit(_write, work, number, explained, lock, kept, stopwatch)
    if written is not None:
        written.result()
    return busy


def _explain_shard(
    work: Work,
    number: int,
    pool: ThreadPoolExecutor,
    progress: Callable[[int], object],
    stopwatch: Stopwatch,
) -> Part:
    settings = work.plan.settings
    return explain_galaxies(
        work.plan.take(number),
        work.checkpoint,
        work.engines,
        choose_decoding(settings.catalog, work.checkpoint.n_channels),
        pool=pool,
        tta=settings.maps.tta,
        form=settings.maps.store,
        with_features=settings.maps.features,
        root=work.root,
        progress=progress,
        stopwatch=stopwatch,
    )


def _write(
    work: Work, number: int, part: Part, lock: Lock, held: ExitStack, stopwatch: Stopwatch
) -> None:
    """Write a part, and let go of its lock."""
    path = work.parts.name(number)
    with held, stopwatch.time("write"), replace_file(path, if_exists="replace") as temporary:
        write_part(temporary, part, work.plan.digest_part(number))
        lock.check()
        work.guard()
