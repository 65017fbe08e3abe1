"""Locks: only one process at a time makes a file, and other processes are told which one.

The lock of ``maps.h5`` is the file ``maps.h5.lock``. It names its holder and is locked with
``flock``, which the kernel releases however the holder ends. On file systems where other hosts do
not see that lock, the modification time of the file shows whether the holder is alive: the holder
renews it every ``BEAT`` seconds. The library filelock offers either kind of lock, but not both
together.
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
from galfig.runtime.documents import load_json

logger = logging.getLogger(__name__)

# Seconds between two renewals, and seconds without one after which a lock counts as stale.
BEAT, SILENCE = 15.0, 120.0


class _Holder(NamedTuple):
    host: str
    pid: int


@contextmanager
def hold_lock(path: Path, *, takeover: bool = False) -> Iterator[None]:
    """Keep other processes from making a file while the block runs.

    Parameters
    ----------
    path : Path
        The file to be made.
    takeover : bool, default False
        Take over a stale lock from another host. A stale lock from this host is always taken over,
        since its process is known to be gone.

    Raises
    ------
    LockError
        If another process is making the file, or may be.
    OutputError
        If the folder cannot be written.
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
            # Remove the file before unlocking it. A process that opened it meanwhile then sees that
            # the name no longer refers to its file.
            lock.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _acquire(lock: Path, path: Path) -> int:
    """Open and lock the lock file; raise LockError if a live process holds it."""
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
            # The file system has no locks, so only the modification time protects the file.
            logger.debug("%s: no file locks (%s)", lock, exc.strerror)
        if _is_still(lock, handle):
            return handle
        os.close(handle)


def _is_still(lock: Path, handle: int) -> bool:
    """Return whether a name still refers to the open file, which its holder may have removed."""
    try:
        return os.path.samestat(lock.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _check_holder(handle: int, path: Path, takeover: bool) -> None:
    """Raise LockError if the process named in an unlocked file may still be alive."""
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
    """Renew the modification time of the lock file from a separate thread."""
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
        found = load_json(os.pread(handle, 4096, 0))
        return _Holder(str(found["host"]), int(found["pid"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _describe(holder: _Holder | None) -> str:
    return "another process" if holder is None else f"process {holder.pid} on {holder.host}"
