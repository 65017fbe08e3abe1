"""Progress of long work: a bar on a terminal; elsewhere a line in the log now and then.

Shown where galfig's logger lets INFO through. A bar that is redrawn would fill the log of a cluster
job, which is read later: there a line says what is done, how fast, and how long it still takes.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Clock = Callable[[], float]

# Seconds to the first line of a log, and from each line to the next.
FIRST, EVERY = 10.0, 30.0


@contextmanager
def show_progress(
    task: str,
    total: int,
    unit: str,
    *,
    initial: int = 0,
    leave: bool = True,
    clock: Clock = time.monotonic,
) -> Iterator[Callable[[int], object]]:
    """Show how far a block has come.

    Parameters
    ----------
    task : str
        What is done, such as "explaining".
    total : int
        How much there is to do.
    unit : str
        Of what, in the plural, such as "galaxies".
    initial : int, default 0
        How much of it an earlier run has done; the rate is that of this run alone.
    leave : bool, default True
        Let a bar stay on the terminal when the block ends.
    clock : callable, optional
        Gives the time [s], for the lines of a log.

    Yields
    ------
    callable
        To be called, in the thread of the block, with how much more is done.
    """
    if not logger.isEnabledFor(logging.INFO):
        yield lambda n: None
    elif _is_terminal():
        from tqdm import tqdm

        with tqdm(
            desc=task,
            total=total,
            unit=f" {unit}",
            initial=initial,
            leave=leave,
            file=sys.stderr,
        ) as bar:
            yield bar.update
    else:
        lines = _Lines(task, total, unit, initial, clock)
        yield lines.update
        lines.end()


def track(
    items: Iterable[Item],
    task: str,
    total: int,
    unit: str,
    *,
    leave: bool = True,
    clock: Clock = time.monotonic,
) -> Iterator[Item]:
    """Iterate, and show how many of ``total`` items are done; see `show_progress`."""
    with show_progress(task, total, unit, leave=leave, clock=clock) as advance:
        for item in items:
            yield item
            advance(1)


def write_line(words: str) -> None:
    """Write a line to stderr, above a bar where there is one."""
    from tqdm import tqdm

    tqdm.write(words, file=sys.stderr)


class _Lines:
    """Logs a line when one is due, and one at the end if there was any."""

    def __init__(self, task: str, total: int, unit: str, initial: int, clock: Clock) -> None:
        self._task = task
        self._total = total
        self._unit = unit
        self._initial = self._done = initial
        self._clock = clock
        self._start = clock()
        self._due = self._start + FIRST
        self._has_begun = False

    def update(self, n: int) -> None:
        self._done += n
        now = self._clock()
        # Of the last one, the line at the end says more.
        if now >= self._due and self._done < self._total:
            self._due = now + EVERY
            self._has_begun = True
            rate = self._measure_rate(now)
            left = f", {_describe_time((self._total - self._done) / rate)} left" if rate else ""
            logger.info(f"{self._describe(rate)}{left}")

    def end(self) -> None:
        if self._has_begun:
            now = self._clock()
            took = _describe_time(now - self._start)
            logger.info(f"{self._describe(self._measure_rate(now))}, took {took}")

    def _measure_rate(self, now: float) -> float:
        return (self._done - self._initial) / (now - self._start)

    def _describe(self, rate: float) -> str:
        done, total = _describe_number(self._done), _describe_number(self._total)
        share = 100 * self._done // self._total
        per_second = _describe_number(rate) if rate >= 10 else f"{rate:.2g}"
        return f"{self._task}: {done} of {total} {self._unit} ({share} %), {per_second}/s"


def _describe_number(number: float) -> str:
    """Write a number in groups of three digits: 1 200."""
    return f"{number:,.0f}".replace(",", " ")


def _describe_time(seconds: float) -> str:
    """Write a duration as coarsely as one reads it: 47 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _is_terminal() -> bool:
    """Tell whether stderr is one; it may be closed, or None where it was when Python began."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False
