"""The machine: how much memory and how many processors this process may use."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Files with a limit of memory [byte], of control groups of version 2 and of version 1.
_MEMORY_FILES = {"": ("memory.max", "memory.high"), "memory": ("memory.limit_in_bytes",)}


def find_memory() -> int:
    """Return the memory that this process may use.

    Returns
    -------
    int
        The least [byte] of the memory of the machine, of the control groups that hold the process
        (containers and batch systems set them), and of its limits for address space and data
        (``ulimit -v`` and ``-d``).
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for controller, names in _MEMORY_FILES.items():
        for folder in _iter_groups(controller):
            limits += [limit for name in names if (limit := _read_number(folder / name))]
    return min(limits + _read_rlimits())


def count_processors() -> int:
    """Return the number of processors that this process may use, at least 1.

    Returns
    -------
    int
        Those of its affinity (``taskset``), no more than the quota of its control groups rounded
        up.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    n_allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    quotas = [quota for controller in ("", "cpu") for quota in _iter_quotas(controller)]
    return max(1, min([n_allowed, *quotas]))


class MemoryBudget:
    """Memory that threads share: who needs more than is left waits until others are done.

    Parameters
    ----------
    n_bytes : int
        The budget [byte].
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = self._n_left = n_bytes
        self._changed = threading.Condition()

    @contextmanager
    def take(self, n_bytes: int) -> Iterator[None]:
        """Take some of the budget for a block; do not nest.

        Parameters
        ----------
        n_bytes : int
            Memory that the block needs [byte]. More than the whole budget is granted to one
            thread at a time.

        Raises
        ------
        MemoryError
            If the process may not use so much at all.
        """
        if n_bytes > self._n_bytes and n_bytes > (memory := find_memory()):
            raise MemoryError(f"{n_bytes / 1e9:.1f} GB needed, {memory / 1e9:.1f} GB allowed")
        share = min(n_bytes, self._n_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._n_left >= share)
            self._n_left -= share
        try:
            yield
        finally:
            with self._changed:
                self._n_left += share
                self._changed.notify_all()


def _iter_quotas(controller: str) -> Iterator[int]:
    """Give the quotas of the control groups, in processors, rounded up."""
    for folder in _iter_groups(controller):
        if controller:
            numbers = [
                _read_number(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            ]
        else:
            words = _read_words(folder / "cpu.max")
            numbers = [_as_number(word) for word in words] if len(words) == 2 else [0, 0]
        quota, period = numbers
        if quota and period:
            yield -(-quota // period)


def _iter_groups(controller: str) -> Iterator[Path]:
    """Give the folders of the process's control group and of those around it.

    ``controller`` is "" for version 2. In a container, the path that the kernel gives may start
    outside of what the container sees; its own group is then the root.
    """
    try:
        lines = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    root = _CGROUPS / controller
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(",") or ".." in path.split("/"):
            continue
        folder = root / path.strip("/")
        while folder != root:
            yield folder
            folder = folder.parent
        yield root


def _read_rlimits() -> list[int]:
    try:
        import resource
    except ImportError:
        # Windows has no such limits.
        return []
    found = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return [limit for limit in found if limit != resource.RLIM_INFINITY]


def _read_number(path: Path) -> int:
    """Return the number in a file; 0 if there is none, or no limit."""
    words = _read_words(path)
    return _as_number(words[0]) if words else 0


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []


def _as_number(word: str) -> int:
    return int(word) if word.isdecimal() else 0
