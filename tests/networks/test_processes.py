"""Processes: each has its share, all fail together, and what cannot be shared is refused."""

import json
import logging
import subprocess
import sys

import pytest
import torch

from galfig.errors import ConfigError, ElsewhereError
from galfig.networks import processes as module
from galfig.networks.processes import (
    ALONE,
    Processes,
    check_gpus,
    join_processes,
    refuse_processes,
)

# What each of three processes does in the test below; the error in one of them reaches all.
PROGRAM = """
import json, sys, torch
from galfig.errors import ConfigError, ElsewhereError
from galfig.networks.processes import join_processes

together = join_processes("cpu")
rank = together.rank
tensors = [torch.full((2,), rank + 1.0), torch.tensor(float(rank))]
together.add_up(tensors)
weights = [torch.full((3,), float(rank))]
together.copy_main(weights)
found = {
    "rank": rank,
    "count": together.count,
    "sums": [tensor.tolist() for tensor in tensors],
    "rows": together.gather(torch.arange(rank, dtype=torch.float32)[:, None]).flatten().tolist(),
    "sent": together.send(b"of process %d" % rank).decode(),
    "empty": together.send(b"").decode(),
    "weights": weights[0].tolist(),
}
try:
    with together.together():
        if rank:
            raise ConfigError(f"the fault of {rank}")
except (ConfigError, ElsewhereError) as exc:
    found["error"] = [type(exc).__name__, str(exc)]
turns = []
together.take_turns(lambda: turns.append(rank))
found["turns"] = turns
sys.stdout.write(json.dumps(found) + "\\n")
"""


@pytest.mark.parametrize("n_processes", [1, 2, 3, 8])
def test_shares_are_whole_and_apart(n_processes):
    for n in range(30):
        things = list(range(n))
        shares = [things[Processes(rank, n_processes).share(n)] for rank in range(n_processes)]
        assert [thing for share in shares for thing in share] == things
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_talks_to_nobody():
    numbers = [torch.ones(2)]
    ALONE.add_up(numbers)
    ALONE.copy_main(numbers)
    assert numbers[0].tolist() == [1, 1]
    assert ALONE.gather(numbers[0]) is numbers[0]
    assert ALONE.send(b"words") == b"words"
    assert ALONE.take_turns(lambda: "found") == "found"
    with pytest.raises(ConfigError, match="as it was"), ALONE.together():
        raise ConfigError("as it was")
    assert join_processes("cpu") is ALONE


def launch(monkeypatch, rank):
    for name, value in {
        "RANK": rank,
        "WORLD_SIZE": 2,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": 1,
    }.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(("rank", "error"), [(0, ConfigError), (1, ElsewhereError)])
def test_what_all_lack_is_said_once(monkeypatch, rank, error):
    launch(monkeypatch, rank)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(error, match=r"need accelerate: pip install 'galfig\[accelerate\]'"):
        join_processes("cpu")
    with pytest.raises(error, match="build-maps: in one of 2 processes, expected a single one; do"):
        refuse_processes("build-maps", "do so first")


def test_one_process_refuses_nothing():
    refuse_processes("build-maps", "do so first")


def test_no_gpu_is_shared():
    check_gpus(2, 2)
    with pytest.raises(ConfigError, match="3 processes were started on a machine with 2 GPUs"):
        check_gpus(3, 2)


def test_single_process_where_several_were_asked_for_is_warned_of(monkeypatch, caplog):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with caplog.at_level(logging.WARNING, "galfig"):
        assert join_processes("cpu") is ALONE
    assert "started one process" in caplog.text
    assert "--multi_gpu --num_processes N" in caplog.text


def test_lost_process_is_one_line():
    def talk():
        raise RuntimeError("[/some/where/pair.cc:561] Connection closed by peer [::1]:9. Check it")

    with pytest.raises(
        module.GalfigError, match=r"^training: lost one of the 2 .*\(.*\)$"
    ) as found:
        module._talk(talk, Processes(0, 2))
    assert "Check it" not in str(found.value)
    assert "/some/where" not in str(found.value)
    with pytest.raises(ElsewhereError):
        module._talk(talk, Processes(1, 2))


@pytest.mark.slow
def test_three_processes(tmp_path):
    """Sums, rows and bytes reach all; only the first process that fails has the error itself."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3"]
    done = subprocess.run(
        [*command, "--master-port", "29611", str(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = {one["rank"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert sorted(found) == [0, 1, 2]
    for rank, one in found.items():
        assert one["count"] == 3
        assert one["sums"] == [[6, 6], 3]
        assert one["rows"] == [0, 0, 1]
        assert (one["sent"], one["empty"]) == ("of process 0", "")
        assert one["weights"] == [0, 0, 0]
        assert one["turns"] == [rank]
    assert found[1]["error"] == ["ConfigError", "the fault of 1"]
    elsewhere = ["ElsewhereError", "process 1 of this training failed, and says why"]
    assert found[0]["error"] == found[2]["error"] == elsewhere
