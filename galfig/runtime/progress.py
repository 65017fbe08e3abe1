"""Progress of long tasks: a bar on a terminal, and otherwise occasional lines in the log.

Progress is shown if galfig's logger is enabled for INFO. A bar that is redrawn would clutter the
log of a cluster job. Without a terminal, a line every so often gives the share done, the rate and
the time left.
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

# Seconds until the first line of a log, and between lines.
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
    """Show the progress of a block.

    Parameters
    ----------
    task : str
        Name of the task, such as "explaining".
    total : int
        Number of items.
    unit : str
        Kind of items, in the plural, such as "galaxies".
    initial : int, default 0
        Number of items that an earlier run has done. The rate counts this run only.
    leave : bool, default True
        Leave the bar on the terminal when the block ends.
    clock : callable, optional
        Returns the time [s], for lines in a log.

    Yields
    ------
    callable
        Call it with the number of items just done, in the thread of the block.
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
    """Iterate over items and show progress.

    Parameters
    ----------
    items : iterable
        The items.
    task, total, unit, leave, clock
        See `show_progress`.

    Yields
    ------
    object
        Each item.
    """
    with show_progress(task, total, unit, leave=leave, clock=clock) as advance:
        for item in items:
            yield item
            advance(1)


def write_line(words: str) -> None:
    """Write a line to stderr, above the progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(words, file=sys.stderr)


class _Lines:
    """Logs a line whenever one is due, and a last line at the end if it logged any before."""

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
        # After the last item, the line at the end says more.
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
        per_second = format_rate(rate)
        return f"{self._task}: {done} of {total} {self._unit} ({share} %), {per_second}/s"


def format_rate(rate: float) -> str:
    """Format a rate with sensible precision: 1 200, 80, 0.25."""
    return _describe_number(rate) if rate >= 10 else f"{rate:.2g}"


def _describe_number(number: float) -> str:
    """Format a number in groups of three digits: 1 200."""
    return f"{number:,.0f}".replace(",", " ")


def _describe_time(seconds: float) -> str:
    """Format a duration with sensible precision: 47 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _is_terminal() -> bool:
    """Return whether stderr is a terminal; it may be closed, or None if it was closed at start."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:
        return False
