"""A stopwatch: where the time of a job went, stage by stage, over all of its threads."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the seconds that threads spend in named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Time a block; blocks of several threads may overlap."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            with self._lock:
                self.seconds[stage] += elapsed

    def __str__(self) -> str:
        """Say the share of each stage: 'decode 2 %, compute 95 %'."""
        total = sum(self.seconds.values()) or 1.0
        return ", ".join(f"{name} {100 * t / total:.0f} %" for name, t in self.seconds.items())
