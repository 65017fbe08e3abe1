"""Inputs: nothing but a regular file is opened, no more than a limit is read, nothing waits."""

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from galfig.runtime.inputs import (
    UnusableFileError,
    is_fault_of_machine,
    open_regular,
    read_regular,
)

LIMIT = 1000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"galaxy" * 100)
    return path


def within(seconds, function, *arguments):
    """Call a function in a thread; fail if it has not returned in time."""
    outcome = []

    def call():
        try:
            outcome.append(function(*arguments))
        except Exception as exc:
            outcome.append(exc)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, "still waiting"
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def test_a_regular_file_is_read_whole(path):
    """Its bytes, at the limit too, and through a link."""
    assert read_regular(path, LIMIT) == b"galaxy" * 100
    assert read_regular(path, 600) == b"galaxy" * 100
    link = path.with_name("link")
    link.symlink_to(path)
    with open_regular(link) as file:
        assert file.read() == b"galaxy" * 100


@pytest.mark.parametrize("size", [601, 70_000, 5_000_000])
def test_a_larger_file_is_refused(path, size):
    """One byte beyond the limit is too much."""
    path.write_bytes(b"x" * size)
    with pytest.raises(UnusableFileError, match=r"expected at most 600 bytes"):
        read_regular(path, 600)


def test_a_file_that_grows_is_no_endless_one(path, monkeypatch):
    """The size that a file states is not trusted."""
    real = os.fstat

    def shrink(handle):
        found = list(real(handle))
        found[6] = 10
        return os.stat_result(found)

    monkeypatch.setattr("os.fstat", shrink)
    path.write_bytes(b"x" * 200_000)
    assert len(read_regular(path, 300_000)) == 200_000
    with pytest.raises(UnusableFileError):
        read_regular(path, 100_000)


def test_a_file_without_a_size_is_read():
    """Files of the kernel state no size."""
    assert read_regular("/proc/self/status", 100_000).startswith(b"Name:")


@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a device"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind, linked):
    """A pipe that nobody writes to, a socket and an endless device, also behind a link."""
    target = tmp_path / "x"
    listener = socket.socket(socket.AF_UNIX)
    if kind == "a named pipe":
        os.mkfifo(target)
    elif kind == "a socket":
        listener.bind(os.path.relpath(target))
    else:
        target.symlink_to("/dev/zero")
    if linked:
        (tmp_path / "link").symlink_to(target)
        target = tmp_path / "link"
    with listener, pytest.raises(UnusableFileError) as caught:
        within(5, read_regular, target, LIMIT)
    assert caught.value.strerror == f"{kind}, expected a regular file"
    assert not is_fault_of_machine(caught.value)


def test_a_pipe_that_takes_the_place_of_a_file_is_refused(path, monkeypatch):
    """Between the look and the opening, another may replace the file."""
    found = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr("os.stat", lambda path: found)
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(UnusableFileError, match="a named pipe"):
        within(5, open_regular, path)
    assert len(list(Path("/proc/self/fd").iterdir())) == n_open


def test_folders_and_missing_files_keep_their_errors(tmp_path):
    """As `open` reports them."""
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")


@pytest.mark.parametrize(
    "exc",
    [
        MemoryError(),
        *(
            OSError(getattr(errno, name), name)
            for name in ("EACCES", "EPERM", "EIO", "ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM")
        ),
        *(
            OSError(getattr(errno, name), name)
            for name in ("ESTALE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN", "EAGAIN", "ENOENT")
        ),
        TimeoutError(errno.ETIMEDOUT, "timed out"),
        RuntimeError("can't start new thread"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        ImportError("libz.so: cannot open shared object file: Too many open files"),
    ],
    ids=repr,
)
def test_the_machine_is_blamed(exc):
    """What is exhausted, forbidden or out of reach says nothing of a file's content."""
    assert is_fault_of_machine(exc)


@pytest.mark.parametrize(
    "exc",
    [
        OSError("image file is truncated"),
        OSError(errno.ELOOP, "ELOOP"),
        IsADirectoryError(errno.EISDIR, "EISDIR"),
        ValueError("no"),
        RuntimeError("damaged"),
        RecursionError(),
        EOFError(),
    ],
    ids=repr,
)
def test_the_file_is_blamed(exc):
    """A decoder reports what it cannot decode without an error number."""
    assert not is_fault_of_machine(exc)
