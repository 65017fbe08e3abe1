"""Several processes, as `accelerate launch` starts them: one checkpoint, one log, one error."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from samples import make_settings

from galfig.catalog.galaxies import load_galaxies
from galfig.networks.checkpoint import load_checkpoint
from galfig.networks.main import train_checkpoint
from galfig.networks.resume import resume_path

pytestmark = pytest.mark.slow

SETTINGS = """
[catalog]
path = "galaxies/catalog.csv"

[training]
epochs = {epochs}
batch_size = 9
cutout_size = 32
crop_margin = 2
class_weights = "balanced"
label_smoothing = 0.1
threads = 2
"""


@pytest.fixture
def folder(galaxy_folder, monkeypatch):
    """Give the folder of the settings, in which the commands run."""
    pytest.importorskip("accelerate")
    monkeypatch.chdir(galaxy_folder.parent)
    Path("galfig.toml").write_text(SETTINGS.format(epochs=2))
    return galaxy_folder.parent


def start(*words, n_processes=2, port):
    """Start a command in processes, as a user does who has no GPU."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", str(n_processes), "--main_process_port", str(port)]
    return subprocess.Popen(
        [*command, "-m", "galfig", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


def launch(*words, **options):
    """Run a command in processes; return its exit code, what it printed, and its log."""
    process = start(*words, **options)
    out, log = process.communicate(timeout=300)
    return process.returncode, out, log


def list_ranks(launcher):
    """Return the processes that a launcher started, by their rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_bytes().split(b"\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        ranks = [int(word[5:]) for word in words if word.startswith(b"RANK=")]
        if ranks and parent == launcher.pid:
            found[ranks[0]] = int(path.parent.name)
    return found


def test_two_processes_train_the_network_of_one(folder):
    """Metrics agree to the rounding, and weights far better than those of two seeds."""
    code, out, log = launch("train", "--out", "two.safetensors", "--device", "cpu", port=29621)
    assert code == 0, log
    assert len(out.splitlines()) == 1
    assert out.startswith("two.safetensors: accuracy ")
    assert log.count("2 processes train together") == 1
    assert [log.count(f"epoch {number}:") for number in (1, 2, 3)] == [1, 1, 0]
    assert sorted(path.name for path in folder.glob("two*")) == ["two.safetensors"]

    two = load_checkpoint("two.safetensors")
    assert two.metadata["processes"] == two.record.processes == 2
    one, other = (train_alone(seed, folder / f"{seed}.safetensors") for seed in (256, 7))
    assert "processes" not in one.metadata
    assert two.metadata["recipe"] == one.metadata["recipe"]
    for mine, theirs in zip(one.metadata["history"], two.metadata["history"], strict=True):
        assert mine == pytest.approx(theirs, abs=2e-3)
    assert measure_distance(one, two) < 0.02 * measure_distance(one, other)


def train_alone(seed, path):
    settings = make_settings(
        path.parent / "galaxies",
        epochs=2,
        batch_size=9,
        crop_margin=2,
        class_weights="balanced",
        label_smoothing=0.1,
        threads=2,
        seed=seed,
    )
    return train_checkpoint(load_galaxies(settings), settings, path)


def measure_distance(one, other):
    """Return the norm of the difference of the weights of two networks."""
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    with torch.no_grad():
        return float(sum((mine - theirs).square().sum() for mine, theirs in pairs)) ** 0.5


def test_interrupted_training_goes_on(folder):
    """Whichever process is killed: all end, and the same command with --resume finishes."""
    Path("galfig.toml").write_text(SETTINGS.format(epochs=60))
    words = ("train", "--out", "m.safetensors", "--device", "cpu")
    path = resume_path(Path("m.safetensors"))
    process = start(*words, port=29622)
    deadline = time.monotonic() + 240
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(list_ranks(process)[1], signal.SIGKILL)
    _, log = process.communicate(timeout=120)
    assert process.returncode != 0
    assert log.count("galfig: error:") + log.count("interrupted; run the same command") == 1
    assert path.exists()
    assert not Path("m.safetensors").exists()
    code, out, log = launch(*words, "--resume", port=29623)
    assert code == 0, log
    assert log.count("resuming: ") == 1
    assert out.startswith("m.safetensors: accuracy ")
    assert len(load_checkpoint("m.safetensors").metadata["history"]) == 60
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["train", "--out", "galaxies/catalog.csv"], "already exists; use --overwrite"),
        (["train", "--epochs", "x"], "Invalid value for '--epochs'"),
        (["train", "--batch-size", "3"], "4 processes for batches of 3 galaxies"),
        (["train", "--arch", "conv4"], "conv4"),
        (["build-maps", "--out", "m.h5"], "build-maps: in one of 4 processes"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_refusal_is_said_once(folder, words, error):
    """All processes end, and one says why."""
    code, out, log = launch(*words, "--device", "cpu", n_processes=4, port=29624)
    assert code != 0
    assert out == ""
    assert log.count(error) == 1
    assert "Traceback" not in log.partition("torch/distributed/elastic")[0]
    assert not list(folder.glob("*.safetensors"))
