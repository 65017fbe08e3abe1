"""A stopwatch: the time that a job spends in each stage, summed over its threads."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Sums the time that threads spend in named stages.

    Attributes
    ----------
    seconds : dict of str to float
        Time in each stage [s].
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Time a block as part of a stage; blocks in different threads may overlap."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            with self._lock:
                self.seconds[stage] += elapsed

    def __str__(self) -> str:
        """Return the share of each stage: 'decode 2 %, compute 95 %'."""
        total = sum(self.seconds.values()) or 1.0
        return ", ".join(f"{name} {100 * t / total:.0f} %" for name, t in self.seconds.items())
