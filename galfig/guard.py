"""Other people's decoders: whatever damaged bytes make them say becomes one ValueError."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Pillow logs some errors that it also raises; with no handler at all, Python would print them.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class _Silence:
    """Hides the warnings of Pillow and astropy while any thread decodes.

    `warnings.catch_warnings` belongs to the process: where two threads overlap, the one that
    leaves last puts back the filters of the other, for good. Here only the first to come and the
    last to go touch them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._n_inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|astropy)\b")
            self._n_inside += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._filters.__exit__(None, None, None)


_SILENCE = _Silence()


@contextmanager
def guard_decoder() -> Iterator[None]:
    """Keep a decoder quiet, and make any error of its a ValueError of one line.

    Raises
    ------
    ValueError
        The decoder raised: bytes that are damaged can make it raise anything.
    """
    try:
        with _SILENCE:
            yield
    except Exception as exc:
        reason = " ".join(str(exc).split()) or type(exc).__name__
        raise ValueError(f"cannot be decoded ({reason})") from exc
