"""Other people's decoders: whatever damaged bytes make them say becomes one ValueError."""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from galfig.runtime.messages import one_line

DECODERS = r"(PIL|astropy)\b"
# What `warnings.filterwarnings` makes of them.
_FILTER = ("ignore", None, Warning, re.compile(DECODERS), 0)

# Pillow logs some errors that it also raises; with no handler at all, Python would print them.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnusableError(ValueError):
    """An image is whole, but not of a kind that is used."""


class _Silence:
    """Hides the warnings of Pillow and astropy while any thread decodes.

    `warnings.catch_warnings` belongs to the process: where two threads overlap, the one that
    leaves last puts back the filters of the other, for good. Here the first to come adds one
    filter, and the last to go takes it away; whoever stays inside meanwhile makes it cheap.
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
                    # A list, whatever its stub says.
                    warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]


SILENCE = _Silence()


@contextmanager
def guard_decoder() -> Iterator[None]:
    """Keep a decoder quiet, and make any error it raises a ValueError of one line.

    Raises
    ------
    UnusableError
        As it was raised.
    ValueError
        The decoder raised: bytes that are damaged can make it raise anything.
    """
    try:
        with SILENCE:
            yield
    except UnusableError:
        raise
    except Exception as exc:
        reason = one_line(exc) or type(exc).__name__
        raise ValueError(f"cannot be decoded ({reason})") from exc
