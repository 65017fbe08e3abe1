"""Dispatch: shards given to the workers of an engine, and those of lost workers to others."""

import logging
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    wait,
)
from dataclasses import replace
from itertools import pairwise
from os import getpid
from pathlib import Path

import galfig.errors
from galfig.errors import ConfigError, EngineError, GalfigError
from galfig.pipeline.engines import Opened, open_engine
from galfig.pipeline.plan import Plan
from galfig.pipeline.portion import cut_portion, take_first
from galfig.pipeline.proof import N_FIRST
from galfig.pipeline.shards import describe_shards
from galfig.pipeline.tasks import Job, NetworkFile, Outcome, explain_portion
from galfig.pipeline.work import Work, find_missing
from galfig.runtime.lock import BEAT, SILENCE, hold_lock
from galfig.runtime.messages import one_line, quote
from galfig.runtime.progress import format_rate, show_progress
from galfig.store.reader import read_digest

logger = logging.getLogger(__name__)

# How often a shard may lose its worker.
MAX_LOSSES = 5
# Tasks that wait or run at a time: their galaxies are in memory, here and in the engine.
MAX_TASKS = 500
# Seconds between two looks at parts that other processes are making, and after which their makers
# have shown no life for long enough to be taken for dead.
_PAUSE, _PATIENCE = 5.0, SILENCE + 3 * BEAT
# Seconds before each look at parts that workers have made: other machines may see them later.
_LOOKS = (0.0, 1.0, 5.0, 30.0)
# A pool of the standard library that has lost a worker takes no more tasks.
_BROKEN = "has lost a worker and is broken"
# What says that a network, or another part of a task, cannot be sent.
_UNSENDABLE = re.compile(
    r"\w*PicklingError\b|\w+: (can't|cannot|could not) (pickle|serialize)\b", re.I
)
# Longest reason that an engine gives for the loss of a worker [characters].
_MAX_REASON = 300


def explain_elsewhere(
    work: Work, plan: Plan, numbers: Sequence[int], network: NetworkFile | None
) -> None:
    """Make the parts that are missing by the workers of an engine, or of the user's executor.

    The outline of the store must be there.

    Parameters
    ----------
    work : Work
        How to explain.
    plan : Plan
        What to explain; that of the work.
    numbers : sequence of int
        The numbers of the shards.
    network : NetworkFile or None
        Where the workers find the network; if None, it is sent to them with each task.

    Raises
    ------
    EngineError
        If the engine cannot be reached, has lost the worker of one shard `MAX_LOSSES` times, or
        its workers compute in another way than this process.
    ConfigError
        If there is no such engine, its library is not installed, or the executor is none.
    LockError, OutputError, LostCutoutError, CheckpointError
        As `galfig.pipeline.work.explain_shards`; what a worker meets is raised here.
    """
    numbers = list(numbers)
    todo = find_missing(work, numbers)
    if not todo:
        return
    n_galaxies, n_todo = plan.count(numbers), plan.count(todo)
    job = _describe_job(work, plan, network)
    path = work.parts.folder
    on_gpu = work.engines[0].device.type == "cuda"
    with open_engine(work.run, path, on_gpu=on_gpu) as opened:
        start = time.perf_counter()
        logger.debug("%s: %d shards", opened.name, len(todo))
        with show_progress(
            "explaining", n_galaxies, "galaxies", initial=n_galaxies - n_todo
        ) as advance:
            _Dispatch(work, plan, job, opened, advance).run(_group(todo, opened.n_tasks))
        _check_made(work, todo, opened.name)
        seconds = time.perf_counter() - start
    rate = format_rate(n_todo / seconds)
    logger.info("explained %d galaxies by %s, %s galaxies/s", n_todo, opened.name, rate)


def _check_made(work: Work, numbers: Sequence[int], name: str) -> None:
    """Raise EngineError if parts are not in the folder, which workers elsewhere may not share."""
    for pause in _LOOKS:
        time.sleep(pause)
        # After this, a network file system asks again for names that were not there before.
        list(work.parts.folder.iterdir())
        missing = [
            number
            for number in numbers
            if read_digest(work.parts.name(number)) != work.plan.digest_part(number)
        ]
        if not missing:
            return
    raise EngineError(
        f"{name} says that shards {describe_shards(missing)} are done, and their parts are not in "
        f"{work.parts.folder}; expected workers that have the same folder under this name"
    )


def _describe_job(work: Work, plan: Plan, network: NetworkFile | None) -> Job:
    return Job(
        token=secrets.token_hex(16),
        folder=Path.cwd(),
        pid=getpid(),
        network=network or work.checkpoint,
        network_digest=work.checkpoint.digest,
        first=take_first(plan.galaxies, 8 * N_FIRST),
        settings=plan.settings,
        layer_name=plan.layer_name,
        layer=plan.layer,
        precision=work.engines[0].precision,
        way=plan.engine,
        plan_digest=plan.digest,
        parts=work.parts,
        run=replace(work.run, executor=None, address=None),
        root=work.root,
    )


def _group(numbers: Sequence[int], n_groups: int | None) -> list[list[int]]:
    """Divide shards into groups of nearly equal size; by default, each is one."""
    n = min(n_groups or len(numbers), len(numbers))
    bounds = [len(numbers) * index // n for index in range(n + 1)]
    return [list(numbers[low:high]) for low, high in pairwise(bounds)]


class _Dispatch:
    """Gives groups of shards to workers until the parts of all are there."""

    def __init__(
        self,
        work: Work,
        plan: Plan,
        job: Job,
        opened: Opened,
        progress: Callable[[int], object],
    ) -> None:
        self._work = work
        self._plan = plan
        self._job = job
        self._opened = opened
        self._progress = progress
        self._waiting: deque[list[int]] = deque()
        self._running: dict[Future[Outcome], list[int]] = {}
        # Shards whose part another process is making: since when [s], and when to look again.
        self._busy: dict[int, float] = {}
        self._next_look = 0.0
        self._losses: Counter[int] = Counter()

    def run(self, groups: Sequence[list[int]]) -> None:
        self._waiting.extend(groups)
        try:
            while self._waiting or self._running or self._busy:
                self._retry_busy()
                while self._waiting and len(self._running) < MAX_TASKS:
                    self._submit(self._waiting.popleft())
                if not self._running:
                    time.sleep(max(0.0, self._next_look - time.monotonic()))
                    continue
                done, _ = wait(self._running, timeout=_PAUSE, return_when=FIRST_COMPLETED)
                # By shard, so that of several errors it is always the same that ends the build.
                for future in sorted(done, key=lambda one: self._running[one]):
                    self._collect(future, self._running.pop(future))
        finally:
            # What runs already cannot be stopped by all executors, and is kept when it is done.
            for future in self._running:
                future.cancel()

    def _submit(self, numbers: list[int]) -> None:
        portion = cut_portion(self._plan, numbers)
        try:
            future = self._opened.executor.submit(explain_portion, self._job, portion)
        except BrokenExecutor as exc:
            raise self._make_error(_BROKEN, exc) from exc
        except Exception as exc:
            raise self._make_error("takes no more tasks", exc) from exc
        if not isinstance(future, Future):
            raise ConfigError(
                f"`executor`: {self._opened.name}.submit gives a {type(future).__name__}, expected "
                "a concurrent.futures.Future, which submitit's executors do not give; use "
                '`engine="slurm"` for those'
            )
        self._running[future] = numbers

    def _collect(self, future: Future[Outcome], numbers: list[int]) -> None:
        exc: BaseException | None
        try:
            # Not `result`, which would raise the SystemExit of a worker in this process.
            exc = future.exception()
        except CancelledError as cancelled:
            exc = cancelled
        if isinstance(exc, CancelledError):
            raise self._make_error("cancelled a task", exc) from exc
        if isinstance(exc, BrokenExecutor):
            raise self._make_error(_BROKEN, exc) from exc
        if exc is not None:
            # A task returns what goes wrong in it. This is a fault of the engine.
            if _UNSENDABLE.match(f"{type(exc).__name__}: {exc}"):
                raise self._make_error("cannot send a task to its workers", exc) from exc
            self._lose(numbers, exc)
            return
        outcome = future.result()
        if not isinstance(outcome, Outcome):
            raise EngineError(
                f"{self._opened.name} answers with {quote(type(outcome).__name__)}, expected what "
                "the task returned; give an executor that returns results as they are"
            )
        self._work.guard()
        if outcome.message:
            raise _restore_error(outcome)
        self._progress(outcome.n_galaxies)
        now = time.monotonic()
        for number in outcome.busy:
            self._busy.setdefault(number, now)
        for number in set(numbers) - set(outcome.busy):
            self._busy.pop(number, None)

    def _lose(self, numbers: list[int], exc: BaseException) -> None:
        """Give the shards of a lost worker to others, unless it was one loss too many."""
        plan = self._plan
        left = [
            number
            for number in numbers
            if read_digest(self._work.parts.name(number)) != plan.digest_part(number)
        ]
        self._progress(plan.count(numbers) - plan.count(left))
        if not left:
            return
        # A worker makes its parts in order: it was lost with the first that is missing.
        self._losses[left[0]] += 1
        if self._losses[left[0]] >= MAX_LOSSES:
            raise self._make_error(
                f"has lost the worker of shard {left[0]} {MAX_LOSSES} times", exc
            ) from exc
        reason = one_line(exc)[:_MAX_REASON]
        logger.info(
            "%s: lost the worker of shards %s (%s: %s); explaining them again",
            self._opened.name,
            describe_shards(left),
            type(exc).__name__,
            reason,
        )
        self._waiting.appendleft(left)

    def _retry_busy(self) -> None:
        """Look again at the parts that other processes are making, which may have been killed."""
        now = time.monotonic()
        if not self._busy or now < self._next_look:
            return
        self._next_look = now + _PAUSE
        under_way = {number for numbers in self._running.values() for number in numbers}
        under_way.update(number for numbers in self._waiting for number in numbers)
        for number in self._busy.keys() - under_way:
            if now - self._busy[number] > _PATIENCE:
                # This says who is making it.
                with hold_lock(self._work.parts.name(number), takeover=self._work.run.takeover):
                    pass
            self._waiting.append([number])

    def _make_error(self, what: str, exc: BaseException) -> EngineError:
        reason = one_line(exc)[:_MAX_REASON]
        words = f"{type(exc).__name__}: {reason}" if reason else type(exc).__name__
        return EngineError(
            f"{self._opened.name} {what} ({words}); the parts that are done are kept, run this "
            "again to go on"
        )


def _restore_error(outcome: Outcome) -> Exception:
    """Return the error that a worker met."""
    kind = getattr(galfig.errors, outcome.error, None) if outcome.error else None
    if isinstance(kind, type) and issubclass(kind, GalfigError):
        return kind(outcome.message)
    return RuntimeError(outcome.message)
