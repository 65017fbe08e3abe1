"""Signals: a stopped command ends soon, prints one line, and exits as shells expect."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

# Seconds that a command has to clean up before the process is ended.
GRACE = 1.5
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Raised when a signal asks the command to end.

    It is a BaseException so that no ``except Exception`` can catch it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def stop_on_signals(words: str) -> Iterator[None]:
    """Raise `Stopped` in the block on Ctrl-C and SIGTERM.

    If the block does not end within `GRACE` seconds, the process ends after writing ``words``.
    A signal that the process was started to ignore stays ignored.

    Parameters
    ----------
    words : str
        The last line on stderr; "" for none.

    Raises
    ------
    Stopped
        If a signal arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, partial(_stop, words))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_farewell(words: str) -> None:
    """Write the last line of a stopped command to stderr; "" is none."""
    if words:
        sys.stderr.write(f"\ngalfig: {words}\n")
    sys.stderr.flush()


def _stop(words: str, number: int, frame: FrameType | None) -> None:
    # Python raises only when a computation in C returns, and then waits for threads. The watchdog
    # limits that time.
    watchdog = threading.Timer(GRACE, _end, [words, 128 + number])
    watchdog.daemon = True
    watchdog.start()
    raise Stopped(number)


def _end(words: str, exit_code: int) -> None:
    write_farewell(words)
    os._exit(exit_code)
