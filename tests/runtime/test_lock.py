"""Locks: one process at a time, and the next is told who."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from galfig.errors import LockError, OutputError
from galfig.runtime.lock import SILENCE, hold_lock

HOLD = "import sys, time; from pathlib import Path; from galfig.runtime.lock import hold_lock\n"
HOLD += "with hold_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "maps.h5"


def leave_lock(path, host, pid, age=0.0):
    """Leave a lock as a process would that ended without a word."""
    lock = path.with_name(path.name + ".lock")
    lock.write_text(json.dumps({"host": host, "pid": pid}))
    os.utime(lock, (time.time() - age,) * 2)
    return lock


def test_lock_says_who_holds_it_and_is_gone_afterwards(path):
    """While it is held its file names host and process; afterwards there is none."""
    lock = path.with_name("maps.h5.lock")
    with hold_lock(path):
        assert json.loads(lock.read_text()) == {"host": socket.gethostname(), "pid": os.getpid()}
    assert not lock.exists()
    with pytest.raises(ZeroDivisionError), hold_lock(path):
        raise ZeroDivisionError
    assert not lock.exists()


@pytest.mark.parametrize("takeover", [False, True])
def test_living_process_keeps_others_out_until_it_is_killed(path, takeover):
    """A second process is refused with host and process; once the first is killed it goes on."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(LockError, match=f"process {first.pid} on {socket.gethostname()}"),
            hold_lock(path, takeover=takeover),
        ):
            pass
        assert path.with_name("maps.h5.lock").exists()
        first.kill()
    with hold_lock(path):
        pass
    assert not path.with_name("maps.h5.lock").exists()


def test_other_host_keeps_others_out_while_it_shows_life(path):
    """Where the kernel's lock is not seen, the time of the file tells, takeover or not."""
    lock = leave_lock(path, "elsewhere", 17, age=SILENCE / 2)
    for takeover in (False, True):
        with (
            pytest.raises(LockError, match="process 17 on elsewhere, active 6"),
            hold_lock(path, takeover=takeover),
        ):
            pass
    assert lock.exists()


def test_silent_host_is_taken_over_on_word_alone(path):
    """A lock of another host without a sign of life is taken over only where that is asked for."""
    lock = leave_lock(path, "elsewhere", 17, age=2 * SILENCE)
    with (
        pytest.raises(LockError, match=r"inactive for 2\d\d s; .* use `takeover=True`"),
        hold_lock(path),
    ):
        pass
    assert json.loads(lock.read_text())["host"] == "elsewhere"
    with hold_lock(path, takeover=True):
        assert json.loads(lock.read_text())["host"] == socket.gethostname()
    assert not lock.exists()


def test_holder_shows_life(path, monkeypatch):
    """The time of the lock is renewed for as long as it is held."""
    monkeypatch.setattr("galfig.runtime.lock.BEAT", 0.02)
    lock = path.with_name("maps.h5.lock")
    with hold_lock(path):
        os.utime(lock, (0, 0))
        deadline = time.monotonic() + 10
        while lock.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - lock.stat().st_mtime < 10


def test_unreadable_lock_is_nobodys(path):
    """Garbage in a lock file that nobody holds is overwritten."""
    path.with_name("maps.h5.lock").write_text("not JSON")
    with hold_lock(path):
        assert json.loads(path.with_name("maps.h5.lock").read_text())["pid"] == os.getpid()


def test_file_system_without_locks_goes_by_signs_of_life(path, monkeypatch):
    """flock may be refused, as on some network file systems: one may work there all the same."""

    def refuse(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with hold_lock(path):
        pass
    leave_lock(path, "elsewhere", 17)
    with pytest.raises(LockError, match="elsewhere"), hold_lock(path):
        pass


def test_folder_that_cannot_be_written_is_named(tmp_path):
    """A file where the folder should be."""
    (tmp_path / "blocked").write_text("")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        hold_lock(tmp_path / "blocked" / "maps.h5"),
    ):
        pass
