"""Locks: only one process at a time makes a file, and other processes are told which one.

The lock of ``maps.h5`` is the file ``maps.h5.lock``. It names its holder and carries a token, a
random number of that holder. Three things protect the file:

- ``flock``, which the kernel releases however the holder ends. Some file systems lack it, and on
  some only one host sees it.
- The record of the holder. On the same kernel it proves whether that process still runs. Elsewhere
  the modification time of the lock shows it, which the holder renews every ``BEAT`` seconds.
- The token. A holder that was stopped for long, and taken for dead, finds another token in the
  lock when it goes on. It calls `Lock.check` before each of its files appears, and writes no more.

The library filelock offers either kind of lock, but not both together, and no token.
"""

import fcntl
import json
import logging
import os
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from galfig.errors import LockError, OutputError
from galfig.runtime.documents import load_json
from galfig.runtime.files import check_home
from galfig.runtime.messages import quote
from galfig.runtime.process import Process, describe_process, is_gone

logger = logging.getLogger(__name__)

# Seconds between two renewals, and seconds without one after which a lock counts as stale.
BEAT, SILENCE = 15.0, 120.0
# Longest record that is read [byte], and largest process identifier.
_MAX_RECORD, _MAX_PID = 4096, 2**31 - 1
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


class _Holder(NamedTuple):
    process: Process
    token: str
    # Whether the process held a flock on the file.
    has_flock: bool


class Lock:
    """A lock that this process holds; `hold_lock` makes it.

    Attributes
    ----------
    path : Path
        The file to be made.
    file : Path
        The file of the lock.
    token : str
        Random hexadecimal digits, which tell this holder from any later one.
    """

    def __init__(self, path: Path, file: Path, token: str) -> None:
        self.path = path
        self.file = file
        self.token = token

    def check(self) -> None:
        """Check that no other process has taken over; call it before a file appears.

        Raises
        ------
        LockError
            If the lock is gone, or is another process's.
        OutputError
            If the lock cannot be read.
        """
        try:
            holder = _read_named(self.file)
        except FileNotFoundError:
            self._refuse(f"its lock {self.file.name} was removed")
        except OSError as exc:
            raise OutputError(f"{self.file}: cannot be read ({exc.strerror})") from exc
        if holder is None or holder.token != self.token:
            self._refuse(f"{_describe(holder)} has taken over")

    def _refuse(self, reason: str) -> None:
        raise LockError(
            f"{self.path}: {reason} while this process was making it; this process stops here, "
            "and has not replaced anything of the other's"
        )

    def _is_held(self) -> bool:
        try:
            self.check()
        except (LockError, OutputError) as exc:
            logger.debug("%s", exc)
            return False
        return True


@contextmanager
def hold_lock(path: Path, *, takeover: bool = False) -> Iterator[Lock]:
    """Keep other processes from making a file while the block runs.

    Parameters
    ----------
    path : Path
        The file to be made.
    takeover : bool, default False
        Take over a stale lock of a process that cannot be seen from here. A lock whose process is
        known to be gone is always taken over.

    Yields
    ------
    Lock
        The lock. Check it before each file appears, since another process may have taken it over.

    Raises
    ------
    LockError
        If another process is making the file, or may be.
    OutputError
        If the folder cannot be written, or the lock is no regular file.
    """
    check_home(path)
    file = path.with_name(f"{path.name}.lock")
    lock = Lock(path, file, secrets.token_hex(16))
    handle = _acquire(lock, takeover)
    try:
        with _show_life(lock, handle):
            yield lock
    finally:
        # Remove the file before unlocking it. A process that opened it meanwhile then sees that
        # the name no longer refers to its file.
        if lock._is_held():
            file.unlink(missing_ok=True)
        os.close(handle)


def _acquire(lock: Lock, takeover: bool) -> int:
    """Make the lock file this process's, and return it open."""
    while True:
        try:
            lock.file.parent.mkdir(parents=True, exist_ok=True)
            opened = _open(lock.file)
        except OutputError:
            raise
        except OSError as exc:
            raise OutputError(f"{lock.file}: cannot be written ({exc.strerror})") from exc
        if opened is None:
            continue
        handle, is_new = opened
        try:
            if _take(handle, lock, is_new=is_new, takeover=takeover):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _open(file: Path) -> tuple[int, bool] | None:
    """Open the lock file, and return whether it is new; None if its holder just removed it."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        pass
    try:
        # Opening a device can have effects, so look before.
        _check_regular(file.lstat(), file)
        return os.open(file, flags), False
    except FileNotFoundError:
        return None


def _check_regular(status: os.stat_result, file: Path) -> None:
    """Raise OutputError for a file whose content may belong to somebody else."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
    if stat.S_ISREG(status.st_mode):
        if status.st_nlink <= 1:
            return
        kind = "a file with a second name"
    raise OutputError(f"{file}: is {kind}, expected a lock of galfig; move it away")


def _take(handle: int, lock: Lock, *, is_new: bool, takeover: bool) -> bool:
    """Make an open lock file this process's; return False if it must be opened again."""
    _check_regular(os.fstat(handle), lock.file)
    has_flock = _try_flock(handle, lock)
    if not _is_still(lock.file, handle):
        return False
    if not is_new:
        _check_holder(handle, lock, has_flock=has_flock, takeover=takeover)
        if not has_flock:
            # Here only the creation of a file is exclusive.
            _move_aside(handle, lock)
            return False
    _write_holder(handle, lock, has_flock=has_flock)
    return _is_still(lock.file, handle)


def _try_flock(handle: int, lock: Lock) -> bool:
    """Lock an open file; return False on a file system without such locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _refuse(lock, _read_holder(handle))
    except OSError as exc:
        logger.debug("%s: no file locks (%s)", lock.file, exc.strerror)
        return False
    return True


def _is_still(file: Path, handle: int) -> bool:
    """Return whether a name still refers to the open file, which its holder may have removed."""
    try:
        return os.path.samestat(file.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _check_holder(handle: int, lock: Lock, *, has_flock: bool, takeover: bool) -> None:
    """Raise LockError if the process named in a lock may still be alive."""
    holder = _read_holder(handle)
    if holder is None:
        # Without flock, another process may be about to write its record.
        if not has_flock and (silent := _measure_silence(handle, lock.file)) < SILENCE:
            _refuse(lock, None, silent)
        return
    gone = is_gone(holder.process)
    if gone is None and has_flock and holder.has_flock:
        # Another container of the same kernel would still hold the flock. Another machine may not
        # see it.
        gone = holder.process.kernel == describe_process().kernel or None
    if gone:
        logger.info("%s: %s, which was making it, is gone; going on", lock.path, _describe(holder))
        return
    if gone is False:
        _refuse(lock, holder)
    silent = _measure_silence(handle, lock.file)
    if silent < SILENCE:
        _refuse(lock, holder, silent)
    if not takeover and not (has_flock and holder.has_flock):
        raise LockError(
            f"{lock.path}: is locked by {_describe(holder)}, inactive for {silent:.0f} s; if that "
            "process is gone, use `takeover=True` to go on"
        )
    logger.warning("%s: taken over from %s", lock.path, _describe(holder))


def _refuse(lock: Lock, holder: _Holder | None, silent: float | None = None) -> NoReturn:
    activity, advice = "", ""
    if silent is not None:
        activity = f", active {silent:.0f} s ago"
        advice = f"; if it was killed, run this again in {SILENCE - silent:.0f} s"
    raise LockError(
        f"{lock.path}: is being made by {_describe(holder)}{activity}; wait for it, or stop it "
        f"first{advice}"
    )


def _measure_silence(handle: int, file: Path) -> float:
    """Return how long ago the holder showed life [s], by the clock of the file system.

    The clock of this machine may differ from that of the holder, or of a server.
    """
    seen = os.fstat(handle).st_mtime
    try:
        with tempfile.TemporaryFile(dir=file.parent) as touched:
            silent = os.fstat(touched.fileno()).st_mtime - seen
    except OSError as exc:
        raise OutputError(f"{file.parent}: cannot be written ({exc.strerror})") from exc
    if silent > -SILENCE:
        return max(silent, 0.0)
    # A clock was changed, or the file system takes the time from each machine.
    logger.info("%s: was renewed in the future; watching it for %.0f s", file, 2 * BEAT)
    time.sleep(2 * BEAT)
    try:
        # Opened again, since a network file system may answer for an open file from memory.
        return SILENCE if _stat_named(file).st_mtime == seen else 0.0
    except FileNotFoundError:
        return SILENCE


def _move_aside(handle: int, lock: Lock) -> None:
    """Remove a stale lock, unless another process has replaced it since it was read."""
    aside = lock.file.with_name(f".{lock.file.name}.{lock.token[:8]}")
    with suppress(FileNotFoundError):
        lock.file.rename(aside)
        if not _is_still(aside, handle):
            # That was the new lock of another process.
            with suppress(OSError):
                os.link(aside, lock.file)
        aside.unlink()


@contextmanager
def _show_life(lock: Lock, handle: int) -> Iterator[None]:
    """Renew the modification time of the lock file from a separate thread."""
    is_over = threading.Event()

    def renew() -> None:
        while not is_over.wait(BEAT):
            try:
                if lock._is_held():
                    os.utime(handle)
            except OSError as exc:
                logger.debug("%s: cannot be renewed (%s)", lock.file, exc.strerror)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _write_holder(handle: int, lock: Lock, *, has_flock: bool) -> None:
    process = describe_process()._asdict()
    record = {**process, "token": lock.token, "has_flock": has_flock}
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(record).encode(), 0)
    except OSError as exc:
        # Without a record the lock names nobody, and no process would remove it.
        if _is_still(lock.file, handle):
            lock.file.unlink(missing_ok=True)
        raise OutputError(f"{lock.file}: cannot be written ({exc.strerror})") from exc


def _read_named(file: Path) -> _Holder | None:
    """Read the lock that has this name now."""
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _read_holder(handle)
    finally:
        os.close(handle)


def _stat_named(file: Path) -> os.stat_result:
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.fstat(handle)
    finally:
        os.close(handle)


def _read_holder(handle: int) -> _Holder | None:
    """Read the record of the holder; None if there is none that can be understood.

    An older galfig wrote only host and pid.
    """
    try:
        found = load_json(os.pread(handle, _MAX_RECORD, 0))
        pid, start = int(found["pid"]), found.get("start")
        if not 0 < pid <= _MAX_PID or not isinstance(start, int | None):
            return None
        texts = {key: str(found.get(key, "")) for key in ("host", "kernel", "namespace", "token")}
        process = Process(texts["host"], texts["kernel"], texts["namespace"], pid, start)
        return _Holder(process, texts["token"], found.get("has_flock") is True)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _describe(holder: _Holder | None) -> str:
    if holder is None:
        return "another process"
    host = holder.process.host
    # The record may come from anyone who can write the folder.
    return f"process {holder.process.pid} on {host if host.isprintable() else quote(host)}"
