"""The machine: the least of its limits counts, whoever sets it."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from galfig.runtime import machine
from galfig.runtime.machine import MemoryBudget, count_processors, find_memory

UNLIMITED = 1 << 60


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Give a function that writes the membership and the files of control groups."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(machine, "_read_rlimits", list)
    monkeypatch.setattr("os.sysconf", lambda name: 4096 if "SIZE" in name else UNLIMITED // 4096)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))

    def write(membership, **files):
        (tmp_path / "membership").write_text(membership)
        for name, words in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(words)

    return write


@pytest.mark.parametrize(
    ("membership", "files", "memory"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "8000000\n"}, 8_000_000),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "5000000"}, 5_000_000),
        ("0::/a/b\n", {"a/b/memory.max": "9000000", "a/memory.max": "5000000"}, 5_000_000),
        ("0::/a\n", {"a/memory.max": "9000000", "a/memory.high": "7000000"}, 7_000_000),
        # A container sees its own group as the root, or is told of one that it cannot see.
        ("0::/\n", {"memory.max": "6000000"}, 6_000_000),
        ("0::/../../x\n", {"memory.max": "6000000"}, UNLIMITED),
        ("0::/gone\n", {"memory.max": "6000000"}, 6_000_000),
        (
            "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n",
            {"memory/job/memory.limit_in_bytes": "3000000\n"},
            3_000_000,
        ),
        (
            "4:memory:/job\n",
            {"memory/job/memory.limit_in_bytes": "9223372036854771712\n"},
            UNLIMITED,
        ),
        ("0::/a\n", {"a/memory.max": "nonsense"}, UNLIMITED),
        ("0::/a\n", {"a/memory.max": ""}, UNLIMITED),
        ("", {}, UNLIMITED),
    ],
)
def test_memory_of_control_groups(groups, membership, files, memory):
    """Both versions, and the groups around the process's own."""
    groups(membership, **files)
    assert find_memory() == memory


@pytest.mark.parametrize(
    ("membership", "files", "n"),
    [
        ("0::/a\n", {"a/cpu.max": "250000 100000\n"}, 3),
        ("0::/a\n", {"a/cpu.max": "max 100000\n"}, 16),
        ("0::/a\n", {"a/cpu.max": "1000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "800000 100000", "cpu.max": "400000 100000"}, 4),
        (
            "1:cpu,cpuacct:/job\n",
            {"cpu/job/cpu.cfs_quota_us": "200000\n", "cpu/job/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            "1:cpu,cpuacct:/job\n",
            {"cpu/job/cpu.cfs_quota_us": "-1\n", "cpu/job/cpu.cfs_period_us": "100000\n"},
            16,
        ),
        ("0::/a\n", {"a/cpu.max": "1"}, 16),
    ],
)
def test_processors_of_control_groups(groups, membership, files, n):
    """A quota is rounded up; without one, the affinity counts."""
    groups(membership, **files)
    assert count_processors() == n


def test_without_control_groups_the_machine_counts(groups):
    """Not every system has them."""
    assert find_memory() == UNLIMITED
    assert count_processors() == 16


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process(kind):
    """In a process with such a limit, it is the memory."""
    code = (
        "import resource; from galfig.runtime.machine import find_memory\n"
        f"limit = 3 << 30; resource.setrlimit(resource.{kind}, (limit, limit))\n"
        "print(find_memory())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(found.stdout) <= 3 << 30


def test_affinity_limits_the_processors():
    """As `taskset` sets it."""
    one = {min(os.sched_getaffinity(0))}
    code = (
        f"import os; os.sched_setaffinity(0, {one})\n"
        "from galfig.runtime.machine import count_processors\n"
        "print(count_processors())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


def test_threads_share_a_budget():
    """Together they never hold more than it, and more than all of it is held alone."""
    budget, lock, held, most = MemoryBudget(10), threading.Lock(), [], []

    def use(n):
        with budget.take(n):
            with lock:
                held.append(min(n, 10))
                most.append(sum(held))
            with lock:
                held.remove(min(n, 10))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, [3, 10, 4, 1, 25, 7] * 50))
    assert len(most) == 300
    assert max(most) <= 10


def test_a_block_that_fails_gives_back_its_share():
    """Otherwise the next would wait for ever."""
    budget = MemoryBudget(10)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), budget.take(10):
            raise ZeroDivisionError
    with pytest.raises(MemoryError), budget.take(1 << 62):
        pass
