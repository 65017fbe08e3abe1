"""Signals: a command that is stopped ends soon, in one line, with the exit code of shells."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

# Seconds that a command has to put down what it holds, before it ends all the same.
GRACE = 1.5
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked the command to end; no ``except Exception`` may keep it from that."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def stop_on_signals(words: str) -> Iterator[None]:
    """Raise `Stopped` in the block at Ctrl-C and SIGTERM; end the process soon, whatever it does.

    Where the block does not end, the process does, with ``words`` as its farewell.
    A signal that whoever started the process has it ignore stays ignored.
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
    """Say on stderr that the command was stopped."""
    sys.stderr.write(f"\ngalfig: {words}\n")
    sys.stderr.flush()


def _stop(words: str, number: int, frame: FrameType | None) -> None:
    # A computation in C returns when it is done, and threads are waited for: not for long.
    watchdog = threading.Timer(GRACE, _end, [words, 128 + number])
    watchdog.daemon = True
    watchdog.start()
    raise Stopped(number)


def _end(words: str, exit_code: int) -> None:
    write_farewell(words)
    os._exit(exit_code)
