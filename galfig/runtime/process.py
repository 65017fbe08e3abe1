"""Processes: which one wrote a file, and whether it is still alive.

A host name does not tell: a container gets a new one whenever it starts, and several machines may
share one. A process identifier is used again after the process has ended. The kernel's boot, the
namespace of process identifiers, the identifier and the time at which the process started
together belong to one process only.
"""

import os
import socket
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
# Position of the state and of the start time in /proc/PID/stat, counted after the name, which is
# in parentheses and may hold blanks and parentheses itself.
_STATE, _START = 0, 19
_ENDED = ("Z", "X")


class Process(NamedTuple):
    """A process, as it can be recognised later and from elsewhere.

    Attributes
    ----------
    host : str
        Name of its host, for messages only.
    kernel : str
        Identifier of the kernel's boot; the name of the host where the system has none.
    namespace : str
        Namespace of its identifier; "" where the system has none.
    pid : int
        Its identifier.
    start : int or None
        When it started [clock ticks since boot]; None where the system does not say.
    """

    host: str
    kernel: str
    namespace: str
    pid: int
    start: int | None


def describe_process() -> Process:
    """Describe the running process.

    Returns
    -------
    Process
    """
    host, pid = socket.gethostname(), os.getpid()
    try:
        kernel = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        kernel, namespace = host, ""
    return Process(host, kernel, namespace, pid, _read_start(pid))


def is_gone(process: Process) -> bool | None:
    """Return whether a process has ended.

    Parameters
    ----------
    process : Process
        The process, as it described itself.

    Returns
    -------
    bool or None
        None if it ran under another kernel or in another container, where this process cannot see
        it.
    """
    here = describe_process()
    if (process.kernel, process.namespace) != (here.kernel, here.namespace):
        return None
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    found = _read_stat(process.pid)
    if found is None:
        # The system hides the processes of other users.
        return False
    return found[_STATE] in _ENDED or (
        process.start is not None and int(found[_START]) != process.start
    )


def _read_start(pid: int) -> int | None:
    found = _read_stat(pid)
    return None if found is None else int(found[_START])


def _read_stat(pid: int) -> list[str] | None:
    """Return what the kernel says of a process after its name; None if it does not say."""
    try:
        words = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return words[words.rindex(")") + 1 :].split()
