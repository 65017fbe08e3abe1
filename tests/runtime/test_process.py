"""Processes: whether the one that left a record still runs."""

import os
import subprocess
import sys

import pytest

from galfig.runtime.process import describe_process, is_gone

SLEEP = "import sys, time; print(flush=True); time.sleep(600)"


@pytest.fixture
def here():
    return describe_process()


def test_process_is_gone_when_it_has_ended(here):
    """Alive, then killed but not yet waited for, then gone."""
    with subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        process = here._replace(pid=child.pid, start=None)
        assert is_gone(process) is False
        child.kill()
        # A zombie: its parent has not asked how it ended.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(process) is True
    assert is_gone(process) is True


def test_identifier_of_a_later_process_is_not_the_process(here):
    """The start tells two processes with one identifier apart."""
    assert is_gone(here) is False
    assert is_gone(here._replace(start=here.start - 1)) is True


@pytest.mark.parametrize("key", ["kernel", "namespace"])
def test_process_elsewhere_cannot_be_judged(here, key):
    """Its identifier means nothing here."""
    assert is_gone(here._replace(**{key: "another"})) is None


def test_process_of_another_user_is_alive(here, monkeypatch):
    """It may not be signalled, and the system may hide all else."""

    def refuse(*args):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr("galfig.runtime.process._read_stat", lambda pid: None)
    assert is_gone(here._replace(pid=1)) is False


def test_name_with_parentheses_and_blanks_is_read_over(here):
    """The kernel writes the name of a program as it is."""
    rename = f"import ctypes; ctypes.CDLL(None).prctl(15, b'a) Z (b', 0, 0, 0); {SLEEP}"
    with subprocess.Popen([sys.executable, "-c", rename], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert is_gone(here._replace(pid=child.pid, start=None)) is False
        child.kill()


def test_system_without_proc_goes_by_host_name(monkeypatch, tmp_path):
    """Elsewhere than on Linux there is neither boot nor start, but processes can be seen."""
    monkeypatch.setattr("galfig.runtime.process._PROC", tmp_path)
    here = describe_process()
    assert here[1:] == (here.host, "", os.getpid(), None)
    assert is_gone(here) is False
