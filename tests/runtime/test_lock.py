"""Locks: one process at a time, and the next is told who."""

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from galfig.errors import LockError, OutputError
from galfig.runtime import lock as lock_module
from galfig.runtime.lock import SILENCE, hold_lock
from galfig.runtime.process import describe_process

NO_FLOCK = (
    "import errno, fcntl\ndef refuse(*args): raise OSError(errno.ENOSYS, 'not implemented')\n"
)
NO_FLOCK += "fcntl.flock = refuse\n"
HOLD = "import sys, time; from pathlib import Path; from galfig.runtime.lock import hold_lock\n"
HOLD += "with hold_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "maps.h5"


def leave_lock(path, host, pid, age=0.0, **record):
    """Leave a lock as a process would that ended without a word."""
    lock = path.with_name(path.name + ".lock")
    lock.write_text(json.dumps({"host": host, "pid": pid, **record}))
    os.utime(lock, (time.time() - age,) * 2)
    return lock


def leave_own_lock(path, **changes):
    """Leave a lock of this very process, but for some changes."""
    record = {"token": "old", "has_flock": True, **describe_process()._asdict(), **changes}
    return leave_lock(path, **record)


@pytest.fixture
def no_flock(monkeypatch):
    def refuse(*args):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)


def test_lock_says_who_holds_it_and_is_gone_afterwards(path):
    """While it is held its file names the process and its token; afterwards there is none."""
    lock = path.with_name("maps.h5.lock")
    with hold_lock(path) as held:
        found = json.loads(lock.read_text())
        assert found["host"] == socket.gethostname()
        assert found["pid"] == os.getpid()
        assert found["has_flock"]
        assert found["token"] == held.token
        held.check()
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


def test_file_system_without_locks_goes_by_signs_of_life(path, no_flock):
    """flock may be refused, as on some network file systems: one may work there all the same."""
    with hold_lock(path):
        pass
    assert not path.with_name("maps.h5.lock").exists()
    leave_lock(path, "elsewhere", 17)
    with pytest.raises(LockError, match="elsewhere"), hold_lock(path):
        pass


@pytest.mark.parametrize("takeover", [False, True])
def test_living_process_is_seen_without_flock(path, takeover, no_flock):
    """Where the file system has no locks, the kernel still knows which processes run."""
    command = [sys.executable, "-c", NO_FLOCK + HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        # However long it was not heard of.
        os.utime(path.with_name("maps.h5.lock"), (0, 0))
        with (
            pytest.raises(LockError, match=f"is being made by process {first.pid}"),
            hold_lock(path, takeover=takeover),
        ):
            pass
        first.kill()
    with hold_lock(path) as lock:
        lock.check()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("has_flock", [False, True])
def test_identifier_that_another_process_uses_now_keeps_nobody_out(path, has_flock, monkeypatch):
    """The identifier is this process's, but the holder started earlier."""
    if not has_flock:
        monkeypatch.setattr("fcntl.flock", lambda *args: (_ for _ in ()).throw(OSError(37, "no")))
    leave_own_lock(path, start=1, has_flock=has_flock)
    with hold_lock(path) as lock:
        lock.check()


def test_container_that_was_started_again_goes_on_where_flock_is_free(path):
    """Another host name and other process identifiers, but the kernel says that nobody holds it."""
    leave_own_lock(path, host="pod-1", namespace="pid:[1]")
    with hold_lock(path):
        pass


def test_container_that_was_started_again_waits_where_there_is_no_flock(path, no_flock):
    """The other container's processes cannot be seen, so that its signs of life decide."""
    leave_own_lock(path, host="pod-1", namespace="pid:[1]", has_flock=False)
    with pytest.raises(LockError, match="pod-1, active"), hold_lock(path, takeover=True):
        pass


def test_other_machine_that_held_flock_and_fell_silent_is_gone(path):
    """Two signs agree: the flock is free, and no renewal for two minutes."""
    leave_own_lock(path, host="node-7", kernel="another boot", age=SILENCE / 2)
    with pytest.raises(LockError, match="run this again in 60 s"), hold_lock(path):
        pass
    leave_own_lock(path, host="node-7", kernel="another boot", age=2 * SILENCE)
    with hold_lock(path):
        pass


@pytest.mark.parametrize("age", [SILENCE / 2, 2 * SILENCE])
def test_record_that_is_being_written_keeps_others_out_for_a_while(path, age, no_flock):
    """Without flock, an empty lock may be another process's that has just created it."""
    lock = path.with_name("maps.h5.lock")
    lock.touch()
    os.utime(lock, (time.time() - age,) * 2)
    if age < SILENCE:
        with pytest.raises(LockError, match="another process, active 6"), hold_lock(path):
            pass
    else:
        with hold_lock(path) as held:
            held.check()


def test_clock_of_this_machine_does_not_matter(path, monkeypatch):
    """Ages are counted by the clock of the file system, which wrote the time of the lock."""
    monkeypatch.setattr("time.time", lambda: 0.0)
    lock = leave_lock(path, "elsewhere", 17)
    now = lock.with_name("touched")
    now.touch()
    os.utime(lock, (now.stat().st_mtime - 2 * SILENCE,) * 2)
    with hold_lock(path, takeover=True):
        pass


def test_lock_from_the_future_is_watched(path, monkeypatch):
    """Renewed while it is watched, its holder lives; otherwise it can be taken over."""
    monkeypatch.setattr("galfig.runtime.lock.BEAT", 0.1)
    lock = leave_lock(path, "elsewhere", 17, age=-86400)
    watched = []

    def renew(seconds):
        watched.append(seconds)
        os.utime(lock, (time.time() + 86400 + len(watched),) * 2)

    with monkeypatch.context() as patch:
        patch.setattr("galfig.runtime.lock.time.sleep", renew)
        with pytest.raises(LockError, match="active 0 s ago"), hold_lock(path, takeover=True):
            pass
    assert watched == [0.2]
    with pytest.raises(LockError, match="use `takeover=True`"), hold_lock(path):
        pass
    with hold_lock(path, takeover=True):
        pass


@pytest.mark.parametrize("change", ["replaced", "removed", "rewritten"])
def test_holder_that_was_taken_for_dead_notices(path, change):
    """Its token is gone: it must not let a file appear, nor remove the other's lock."""
    lock = path.with_name("maps.h5.lock")
    with hold_lock(path) as held:
        if change != "rewritten":
            lock.unlink()
        if change != "removed":
            leave_own_lock(path, pid=17, token="another")
        with pytest.raises(LockError, match="while this process was making it"):
            held.check()
    assert lock.exists() == (change != "removed")


def test_holder_that_was_taken_for_dead_does_not_renew_the_other_lock(path, monkeypatch):
    """Another process wrote its record into the same file."""
    monkeypatch.setattr("galfig.runtime.lock.BEAT", 0.01)
    with hold_lock(path):
        lock = leave_lock(path, "elsewhere", 17, token="another", age=1000)
        before = lock.stat().st_mtime
        time.sleep(0.2)
        assert lock.stat().st_mtime == before


def test_two_that_take_over_at_once_do_not_both_go_on(path, no_flock, monkeypatch):
    """The second finds the new lock of the first where it expected the stale one."""
    leave_own_lock(path, start=1, has_flock=False)
    measure, first = lock_module._check_holder, []

    def overtake(*args, **options):
        measure(*args, **options)
        monkeypatch.setattr(lock_module, "_check_holder", measure)
        first.append(stack.enter_context(hold_lock(path)))

    monkeypatch.setattr(lock_module, "_check_holder", overtake)
    with contextlib.ExitStack() as stack:
        with pytest.raises(LockError, match=f"process {os.getpid()}"), hold_lock(path):
            pass
        first[0].check()


def test_what_is_no_lock_is_left_alone(path, tmp_path):
    """A link is not followed, and a folder, a pipe or a second name ends in one line."""
    lock, target = path.with_name("maps.h5.lock"), tmp_path / "notes.txt"
    target.write_text("mine")
    makers = {
        "a symbolic link": lambda: lock.symlink_to(target),
        "a folder": lock.mkdir,
        "a named pipe": lambda: os.mkfifo(lock),
        "a file with a second name": lambda: lock.hardlink_to(target),
    }
    for kind, make in makers.items():
        make()
        with pytest.raises(OutputError, match=f"maps.h5.lock: is {kind}, expected a lock"):
            hold_lock(path).__enter__()
        lock.rmdir() if kind == "a folder" else lock.unlink()
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    "record",
    ["[" * 4000, '{"pid": -1, "host": "a"}', '{"pid": 1e999, "host": "a"}', '{"pid": 99999999999}'],
)
def test_any_record_can_be_read(path, record):
    """A record that makes no sense names nobody."""
    path.with_name("maps.h5.lock").write_text(record)
    with hold_lock(path):
        pass


def test_host_name_cannot_write_to_the_terminal(path):
    """The record is anybody's who can write the folder."""
    leave_lock(path, "\x1b[2J", 17)
    with pytest.raises(LockError, match=r"on '\\x1b\[2J'"), hold_lock(path):
        pass


def test_folder_that_cannot_be_written_is_named(tmp_path):
    """A file where the folder should be."""
    (tmp_path / "blocked").write_text("")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        hold_lock(tmp_path / "blocked" / "maps.h5"),
    ):
        pass


def test_full_disk_leaves_no_lock(path, monkeypatch):
    """Its file takes no room, but its record does."""

    def refuse(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("galfig.runtime.lock.os.pwrite", refuse)
        with (
            pytest.raises(OutputError, match=r"maps\.h5\.lock: cannot be written \(No space left"),
            hold_lock(path),
        ):
            pass
    assert list(path.parent.iterdir()) == []
    with hold_lock(path):
        pass
