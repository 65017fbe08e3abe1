"""Locks: one process at a time makes a file, and the next is told who does.

The lock of ``maps.h5`` is the file ``maps.h5.lock``, which says who holds it, locked by ``flock``:
the kernel frees it when its holder ends, however that happens. On file systems where other hosts
do not see that lock, the file's time of change tells whether its holder lives: it is renewed every
``BEAT`` seconds.
"""

import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from galfig.errors import LockError, OutputError

logger = logging.getLogger(__name__)

# Seconds between two signs of life, and without one until a holder counts as gone.
BEAT, SILENCE = 15.0, 120.0


class _Holder(NamedTuple):
    host: str
    pid: int


@contextmanager
def hold_lock(path: Path, *, takeover: bool = False) -> Iterator[None]:
    """Keep other processes from making a file for as long as the block runs.

    Parameters
    ----------
    path : Path
        The file that is made.
    takeover : bool, default False
        Go on where the lock of another host is left behind by a process that shows no sign of
        life; one of this host is known to be gone, and needs no such word.

    Raises
    ------
    LockError
        Somebody else makes it, or may do so.
    OutputError
        The folder cannot be written.
    """
    lock = path.with_name(f"{path.name}.lock")
    handle = _acquire(lock, path)
    try:
        _check_holder(handle, path, takeover)
        try:
            _write_holder(handle, lock)
            with _show_life(lock):
                yield
        finally:
            # Gone before it is free: who waits for it then finds another file, or none.
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _acquire(lock: Path, path: Path) -> int:
    """Open and lock the file; raise LockError where a living process has it."""
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as exc:
            raise OutputError(f"{lock}: cannot be written ({exc.strerror})") from exc
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(handle)
            os.close(handle)
            raise LockError(
                f"{path}: is being made by {_describe(holder)}; wait for it, or stop it first"
            ) from None
        except OSError as exc:
            # A file system without locks: signs of life must do.
            logger.debug("%s: no file locks (%s)", lock, exc.strerror)
        if _is_still(lock, handle):
            return handle
        os.close(handle)


def _is_still(lock: Path, handle: int) -> bool:
    """Tell whether a name still means the file that was opened: its holder may have removed it."""
    try:
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _check_holder(handle: int, path: Path, takeover: bool) -> None:
    """Raise LockError where the process that a free lock names may still be alive."""
    holder = _read_holder(handle)
    if holder is None:
        return
    if holder.host == socket.gethostname():
        logger.info("%s: process %d, which was making it, is gone; going on", path, holder.pid)
        return
    silent = time.time() - os.fstat(handle).st_mtime
    if silent < SILENCE:
        raise LockError(
            f"{path}: is being made by {_describe(holder)}, active {silent:.0f} s ago; wait for "
            "it, or stop it first"
        )
    if not takeover:
        raise LockError(
            f"{path}: is locked by {_describe(holder)}, inactive for {silent:.0f} s; if that "
            "process is gone, use `takeover=True` to go on"
        )
    logger.warning("%s: taken over from %s", path, _describe(holder))


@contextmanager
def _show_life(lock: Path) -> Iterator[None]:
    """Renew the time of the lock from a thread of its own."""
    is_over = threading.Event()

    def renew() -> None:
        while not is_over.wait(BEAT):
            try:
                os.utime(lock)
            except OSError as exc:
                logger.debug("%s: cannot be renewed (%s)", lock, exc.strerror)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _write_holder(handle: int, lock: Path) -> None:
    holder = _Holder(socket.gethostname(), os.getpid())
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder._asdict()).encode(), 0)
    except OSError as exc:
        raise OutputError(f"{lock}: cannot be written ({exc.strerror})") from exc


def _read_holder(handle: int) -> _Holder | None:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
        return _Holder(str(found["host"]), int(found["pid"]))
    except (ValueError, KeyError, TypeError):
        return None


def _describe(holder: _Holder | None) -> str:
    return "another process" if holder is None else f"process {holder.pid} on {holder.host}"
