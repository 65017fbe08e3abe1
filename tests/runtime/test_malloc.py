"""Memory: told to the C library, where there is one to tell."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import galfig
from galfig.runtime import malloc


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_blocks_are_not_zeroed_again():
    """With glibc, a large block taken twice faults its pages once."""
    code = (
        "import ctypes, resource, sys\n"
        "from galfig.runtime.malloc import keep_freed_memory\n"
        "if not keep_freed_memory(): sys.exit('mallopt refused')\n"
        "libc = ctypes.CDLL('libc.so.6')\n"
        "libc.malloc.restype = ctypes.c_void_p\n"
        "libc.free.argtypes = [ctypes.c_void_p]\n"
        "faults = []\n"
        "for _ in range(3):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    block = libc.malloc(ctypes.c_size_t(1 << 26))\n"
        "    ctypes.memset(block, 1, 1 << 26)\n"
        "    libc.free(block)\n"
        "    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
        "sys.exit(0 if faults[0] > 10 * max(faults[1], 1) else str(faults))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_elsewhere_nothing_happens(monkeypatch):
    """Without glibc the answer is no, and no error."""
    monkeypatch.setattr(malloc.sys, "platform", "darwin")
    assert malloc.keep_freed_memory() is False


def test_only_the_commands_that_run_networks_set_it():
    """And their workers. A notebook that imports the library keeps those of its own process."""
    root = Path(galfig.__file__).parent
    callers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if "keep_freed_memory()" in path.read_text(encoding="utf-8")
    }
    commands = {"cli/audit.py", "cli/build_maps.py", "cli/train.py"}
    assert callers == {*commands, "pipeline/tasks.py", "runtime/malloc.py"}
