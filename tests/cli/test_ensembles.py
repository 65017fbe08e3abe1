"""Commands with several networks: train them, explain with all, and what is refused."""

import pytest
from click.testing import CliRunner

from galfig.cli import main
from galfig.store.reader import open_store

SETTINGS = """
[catalog]
path = "galaxies/catalog.csv"
[training]
epochs = 1
batch_size = 8
cutout_size = 32
threads = 1
"""


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def config(tmp_path, galaxy_folder, monkeypatch):
    """Work in a folder with galaxies and settings of a short training."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "galfig.toml").write_text(SETTINGS)
    return tmp_path


def test_from_training_to_error_bars(config):
    """Accuracies of each network and of all on stdout; the folder is then a model like any."""
    trained = run("train", "--networks", 2, "-q")
    assert trained.exit_code == 0, trained.stderr
    first, second, summary = trained.stdout.splitlines()
    assert first.startswith("networks/network-1.safetensors: accuracy ")
    assert first.endswith(", seed 256")
    assert second.startswith("networks/network-2.safetensors: ")
    assert summary.startswith("networks: 2 networks, accuracies ")
    assert "; always '" in summary
    again = run("train", "--networks", 2)
    assert again.exit_code == 1
    assert "networks: holds 2 networks already; use --resume to go on, or --overwrite" in (
        again.stderr
    )
    built = run("build-maps", "--model", "networks", "--split", "all", "-q")
    assert built.exit_code == 0, built.stderr
    assert "means over 2 networks" in built.stdout
    with open_store(config / "maps.h5") as store:
        assert store.n_networks == 2
    assert run("verify", "maps.h5").exit_code == 0
    assert run("info", "networks").exit_code == 0
    nothing = run("build-maps", "--model", "networks", "--split", "all")
    assert "already complete, nothing to do" in nothing.stdout


def test_the_main_job_trains_them(config):
    """Beside the store, and only once."""
    built = run("build-maps", "--networks", 2, "-q")
    assert built.exit_code == 0, built.stderr
    names = sorted(path.name for path in (config / "maps.networks").iterdir())
    assert names == ["network-1.safetensors", "network-2.safetensors"]
    assert "nothing to do" in run("build-maps", "--networks", 2).stdout


def test_what_is_refused(config):
    """In one line, before any work."""
    both = run("build-maps", "--networks", 2, "--model", "x.safetensors")
    assert both.exit_code == 2
    assert "--networks says how many networks to train, and --model names what is" in both.stderr
    for number in (0, 101):
        assert run("train", "--networks", number).exit_code == 2
    file = run("train", "--networks", 2, "--out", "model.safetensors")
    assert file.exit_code == 1
    assert "names a file, expected a folder for 2 networks; give another --out" in file.stderr
    (config / "empty").mkdir()
    empty = run("build-maps", "--model", "empty")
    assert empty.exit_code == 1
    assert "a folder with no network, expected several .safetensors files" in empty.stderr
