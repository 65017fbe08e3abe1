"""Third-party decoders: bounded, silenced, and their exceptions turned into ValueError."""

import io
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from galfig.runtime.inputs import is_fault_of_machine
from galfig.runtime.machine import MemoryBudget, find_memory
from galfig.runtime.messages import one_line

DECODERS = r"(PIL|astropy|erfa)\b"
# Largest amount of memory [byte], and fraction of what there is, that threads decode large images
# in at the same time.
MAX_TOGETHER, MEMORY_SHARE = 1 << 30, 0.25
# How often a decoder may read beside what the size of the file accounts for, and how many times
# it may read the whole file.
MAX_READS, MAX_PASSES = 10_000, 8
# The entry that `warnings.filterwarnings` adds for these modules.
_FILTER = ("ignore", None, Warning, re.compile(DECODERS), 0)

# Pillow logs some errors that it also raises. Without a handler, Python would print them.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnusableError(ValueError):
    """An image is intact, but of a kind that galfig does not use."""


class MeteredBytes(io.BytesIO):
    """The bytes of a file, for a decoder that must not read them for ever.

    Files of few megabytes can hold a million frames, text chunks or headers, each of which takes a
    decoder a step in Python, or tags that each claim the whole file.

    Parameters
    ----------
    data : bytes
        The file.
    bytes_per_read : int, default 512
        The decoder may read once for this many bytes of the file [byte].
    """

    def __init__(self, data: bytes, bytes_per_read: int = 512) -> None:
        super().__init__(data)
        self._reads_left = MAX_READS + len(data) // bytes_per_read
        self._bytes_left = MAX_PASSES * len(data) + (1 << 20)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `io.BytesIO.read` does; raise UnusableError beyond the limits.

        astropy takes the error for the end of the file.
        """
        chunk = super().read(size)
        self._reads_left -= 1
        self._bytes_left -= len(chunk)
        if self._reads_left < 0 or self._bytes_left < 0:
            raise UnusableError("too many parts for its size, expected one image")
        return chunk


@cache
def decoding_memory() -> MemoryBudget:
    """Return the memory that images are decoded in, which all threads share."""
    return MemoryBudget(min(MAX_TOGETHER, int(MEMORY_SHARE * find_memory())))


class _Silence:
    """Hides the warnings of Pillow and astropy while any thread decodes.

    `warnings.catch_warnings` changes the filters of the whole process. Where two threads overlap,
    the last to leave restores the filters of the other, for good. Here the first thread to enter
    adds one filter, and the last to leave removes it. Nested use only moves a counter.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._n_inside == 0:
                warnings.filterwarnings("ignore", module=DECODERS)
            self._n_inside += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                with suppress(ValueError):
                    # The stub declares a Sequence, but it is a list.
                    warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]


SILENCE = _Silence()


@contextmanager
def guard_decoder() -> Iterator[None]:
    """Silence a decoder, and turn any exception that it raises into a one-line ValueError.

    Raises
    ------
    UnusableError
        If the block raised it.
    ValueError
        If the block raised anything else: damaged bytes can make a decoder raise any exception.
    MemoryError, OSError, ImportError, RuntimeError
        If the machine is at fault; see `galfig.runtime.inputs.is_fault_of_machine`.
    """
    try:
        with SILENCE:
            yield
    except UnusableError:
        raise
    except Exception as exc:
        if is_fault_of_machine(exc):
            raise
        reason = one_line(exc) or type(exc).__name__
        raise ValueError(f"cannot be decoded ({reason})") from exc
