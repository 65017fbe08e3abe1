"""Third-party decoders: their warnings are hidden, and their exceptions become ValueError."""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from galfig.runtime.messages import one_line

DECODERS = r"(PIL|astropy)\b"
# The entry that `warnings.filterwarnings` adds for these modules.
_FILTER = ("ignore", None, Warning, re.compile(DECODERS), 0)

# Pillow logs some errors that it also raises. Without a handler, Python would print them.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnusableError(ValueError):
    """An image is intact, but of a kind that galfig does not use."""


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
    """
    try:
        with SILENCE:
            yield
    except UnusableError:
        raise
    except Exception as exc:
        reason = one_line(exc) or type(exc).__name__
        raise ValueError(f"cannot be decoded ({reason})") from exc
