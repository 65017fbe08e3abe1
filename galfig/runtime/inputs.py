"""Inputs: only regular files are opened, no more than a limit is read, and faults are told apart.

Every file that galfig reads goes through this module. Opening a named pipe would wait for ever, and
reading a device such as ``/dev/zero`` would fill the memory.
"""

import errno
import os
import stat
from io import FileIO
from pathlib import Path
from typing import BinaryIO

# Some regular files of /proc would wait for more to read. The path may also have become a named
# pipe or a terminal since it was examined.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_FLAGS |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# What an error number says of the file itself, and not of the machine or its network.
_FAULTS_OF_FILES = {errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
# Parts of the messages, without a number, of errors of a machine that is short of something.
_SHORTAGES = (
    "can't start new thread",
    "Cannot allocate memory",
    "can't allocate memory",
    "out of memory",
    "failed to map segment",
    "Too many open files",
)


class UnusableFileError(OSError):
    """A file is not a regular one, or larger than what is read; ``strerror`` says which."""


def open_regular(path: Path | str) -> FileIO:
    """Open a regular file for reading, without waiting.

    Parameters
    ----------
    path : Path or str
        The file; symbolic links are followed.

    Returns
    -------
    FileIO
        The file, unbuffered. Parse and digest what this one descriptor gives, since another file
        may have the name by then.

    Raises
    ------
    UnusableFileError
        If the path is a named pipe, a socket or a device.
    OSError
        If the file cannot be opened; ``IsADirectoryError`` for a folder.
    """
    # Opening a device can have effects of its own, so that it is examined before.
    _check_mode(os.stat(path).st_mode, path)  # noqa: PTH116
    handle = os.open(path, _FLAGS)
    try:
        _check_mode(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb", buffering=0)
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path | str, max_bytes: int) -> bytes:
    """Read a whole regular file.

    Parameters
    ----------
    path : Path or str
        The file; symbolic links are followed.
    max_bytes : int
        Size of the largest file that is read [byte].

    Returns
    -------
    bytes
        What the file held.

    Raises
    ------
    UnusableFileError
        If the path is no regular file, or the file is larger.
    OSError
        If the file cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise _make_too_large(size, max_bytes, path)
        # A file of /proc has no size, and any file may grow while it is read.
        chunks, n_read = [], 0
        while chunk := _read_some(file, max(size - n_read, 0) + (1 << 16)):
            chunks.append(chunk)
            n_read += len(chunk)
            if n_read > max_bytes:
                raise _make_too_large(n_read, max_bytes, path)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def is_fault_of_machine(exc: BaseException) -> bool:
    """Return whether an error says something of the machine, and nothing of a file's content.

    Parameters
    ----------
    exc : BaseException
        What reading or decoding a file raised.

    Returns
    -------
    bool
        True if the memory, the processes or the open files are exhausted, and for every error of
        the operating system, such as a permission, a disk or a network that fails; another day the
        same file may be read. False for a file that is no regular one, and for errors without a
        number, with which decoders report bytes that they cannot decode.
    """
    if isinstance(exc, UnusableFileError):
        return False
    # Decoders import modules when they first need them.
    if isinstance(exc, ImportError) or is_shortage(exc):
        return True
    number = exc.errno if isinstance(exc, OSError) else None
    return number is not None and number not in _FAULTS_OF_FILES


def is_shortage(exc: BaseException) -> bool:
    """Return whether an error without a number says that memory, threads or files are exhausted.

    Parameters
    ----------
    exc : BaseException
        Any error, such as that of a library that cannot be loaded.

    Returns
    -------
    bool
    """
    is_told = isinstance(exc, ImportError | RuntimeError)
    return isinstance(exc, MemoryError) or (
        is_told and any(words in str(exc) for words in _SHORTAGES)
    )


def _check_mode(mode: int, path: Path | str) -> None:
    """Raise an error that says what a path is, if it is no regular file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "a special file")
        raise UnusableFileError(errno.EINVAL, f"{kind}, expected a regular file", str(path))


def _read_some(file: BinaryIO, n_bytes: int) -> bytes:
    # A raw file returns None where it would have to wait.
    chunk: bytes | None = file.read(n_bytes)
    if chunk is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), file.name)
    return chunk


def _make_too_large(size: int, max_bytes: int, path: Path | str) -> UnusableFileError:
    found, limit = _write_size(size), _write_size(max_bytes)
    return UnusableFileError(errno.EFBIG, f"{found}, expected at most {limit}", str(path))


def _write_size(n_bytes: int) -> str:
    """Write a size in the unit that suits it."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if n_bytes >= 10**power:
            return f"{n_bytes / 10**power:.1f} {unit}"
    return f"{n_bytes} bytes"
