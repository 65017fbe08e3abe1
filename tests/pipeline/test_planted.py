"""Pickles planted under every name that galfig reads: refused in one line, and never run."""

import io
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from click.testing import CliRunner

from galfig.cli import main
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import load_checkpoint

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
MARKER = "a pickle was run"


class Bomb:
    """Writes a file into the working directory when it is unpickled."""

    def __reduce__(self):
        return open, (MARKER, "w")


def plant(protocol):
    return pickle.dumps({"model": Bomb(), "weights": [1.0, 2.0]}, protocol)


def plant_torch(folder="archive"):
    """Make by hand what torch.save writes, a zip archive around a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", plant(2))
        archive.writestr(f"{folder}/version", "3\n")
        archive.writestr(f"{folder}/data/0", bytes(64))
    return stream.getvalue()


def plant_legacy_torch():
    """Make what torch.save wrote before 1.6: pickles one behind the other."""
    magic, protocol, system = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}
    return b"".join(pickle.dumps(part, 2) for part in (magic, protocol, system)) + plant(2)


BOMBS = {
    **{f"protocol {number}": plant(number) for number in range(pickle.HIGHEST_PROTOCOL + 1)},
    "torch": plant_torch(),
    "torch before 1.6": plant_legacy_torch(),
    "fastai export": plant_torch("export"),
}


IMPORT = (
    *("--arch", "conv3", "--classes", "low,high", "--cutout-size", "32"),
    *("--mean", "0.1,0.1,0.1", "--std", "0.2,0.2,0.2", "--out", "x.safetensors"),
)


def refuse(*args):
    """Run a command that must fail with one line, and run nothing; return the line."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    assert not Path(MARKER).exists()
    # A run that gets as far as a network says first what galaxies there are.
    last = result.stderr.splitlines()[-1]
    assert last.startswith("galfig: error: ")
    assert result.stderr.count("galfig: error: ") == 1
    return last.removeprefix("galfig: error: ")


def test_bombs_go_off():
    """The tests below could fail: whoever unpickles one of these runs it."""
    for name, data in BOMBS.items():
        if "torch before" in name:
            continue
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read(archive.namelist()[0])
        pickle.loads(data)["model"].close()
        assert Path(MARKER).exists(), name
        Path(MARKER).unlink()


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("name", ["model.safetensors", "model.pkl", "maps.h5"])
def test_planted_checkpoints_and_stores(campaign, galaxy_folder, monkeypatch, kind, name):
    """As a network, a store or both stores of a comparison, whatever the file is called."""
    monkeypatch.chdir(galaxy_folder)
    planted = Path(name)
    planted.write_bytes(BOMBS[kind])
    commands = {
        ("build-maps", "--catalog", "catalog.csv", "--model", name, "--out", "x.h5"): "checkpoint",
        ("import-model", name, *IMPORT): "weights",
        ("train", "--catalog", "catalog.csv", "--init", name, "--out", "x.safetensors"): "weights",
        ("info", name): "file",
        ("render", name): "store",
        ("figure", "roc", name): "store",
        ("figure", "compare", name, "--with", name): "store",
    }
    for command, what in commands.items():
        with campaign.trial(f"planted pickle: {what}"):
            line = refuse(*command)
            assert line.startswith(f"{name}: ")
            if what == "checkpoint":
                assert "'galfig import-model'" in line
            assert planted.read_bytes() == BOMBS[kind]
            assert not Path("x.h5").exists()


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".fits", ".ecsv"])
def test_planted_catalogs(campaign, galaxy_folder, monkeypatch, kind, suffix):
    """As a table of any kind."""
    monkeypatch.chdir(galaxy_folder)
    planted = Path(f"planted{suffix}")
    planted.write_bytes(BOMBS[kind])
    with campaign.trial("planted pickle: catalog"):
        line = refuse("train", "--catalog", planted)
        assert line.startswith(f"{planted}: ")
        assert not Path("model.safetensors").exists()


def test_planted_where_a_network_and_parts_are_kept(campaign, galaxy_folder, monkeypatch):
    """Beside the store, where build-maps looks for its own network, and among its parts."""
    monkeypatch.chdir(galaxy_folder)
    Path("galfig.toml").write_text(
        '[catalog]\npath = "catalog.csv"\n'
        "[training]\nepochs = 1\nbatch_size = 8\ncutout_size = 32\n"
    )
    for kind in ("protocol 4", "torch"):
        with campaign.trial("planted pickle: kept network"):
            Path("maps.safetensors").write_bytes(BOMBS[kind])
            assert "never loads pickles" in refuse("build-maps")
            Path("maps.safetensors").unlink()
    with campaign.trial("planted pickle: part"):
        Path("maps.h5.parts").mkdir()
        Path("maps.h5.parts/000000.h5").write_bytes(BOMBS["protocol 4"])
        done = CliRunner().invoke(main, ["build-maps"])
        assert done.exit_code == 0, done.output
        assert not Path(MARKER).exists()


def test_planted_images(campaign, galaxy_folder, monkeypatch):
    """As images: those galaxies are left out, with the reason."""
    monkeypatch.chdir(galaxy_folder)
    paths = sorted(Path("images").iterdir())
    bombs = list(BOMBS.values())
    for number, path in enumerate(paths):
        path.write_bytes(bombs[number % len(bombs)])
    with campaign.trial("planted pickle: images"):
        refuse("train", "--catalog", "catalog.csv", "-q")


def test_planted_in_the_schema_of_a_parquet_file(campaign, galaxy_folder, monkeypatch):
    """A column of an extension type, which old versions of pyarrow unpickled when they read it."""
    monkeypatch.chdir(galaxy_folder)
    table = pd.read_csv("catalog.csv", dtype={"objID": str})
    bomb = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": plant(4),
    }
    arrow = pa.Table.from_pandas(table)
    fields = [field.with_metadata(bomb) if field.name == "z" else field for field in arrow.schema]
    pyarrow.parquet.write_table(arrow.cast(pa.schema(fields)), "catalog.parquet")
    with campaign.trial("planted pickle: Parquet schema"):
        CliRunner().invoke(main, ["train", "--catalog", "catalog.parquet", "--epochs", "1", "-q"])
        assert not Path(MARKER).exists()


def test_planted_in_the_metadata_of_a_store(campaign, store_path, monkeypatch, tmp_path):
    """Attributes and opaque data of HDF5, as PyTables pickles objects, are text or nothing."""
    monkeypatch.chdir(tmp_path)
    with h5py.File(store_path, "r+") as file:
        file.attrs["planted"] = np.void(plant(2))
        file["catalog"].attrs["planted"] = plant(0)
    with campaign.trial("planted pickle: attribute"):
        done = CliRunner().invoke(main, ["render", str(store_path), "--n", "2"])
        assert done.exit_code == 0, done.output
        assert not Path(MARKER).exists()


def test_weights_without_names_are_imported_by_order(galaxy_folder, monkeypatch):
    """Plain weights, of a network that was put together without names, explain galaxies."""
    monkeypatch.chdir(galaxy_folder)
    torch.manual_seed(3)
    weights = build_network("conv3", 2).state_dict()
    torch.save({f"{n}.x": tensor for n, tensor in enumerate(weights.values())}, "weights.pt")
    command = ["import-model", "weights.pt", *IMPORT[:-1], "model.safetensors"]
    assert "do not fit conv3 by name" in refuse(*command)
    done = CliRunner().invoke(main, [*command, "--by-order"])
    assert done.exit_code == 0, done.output
    converted = load_checkpoint(Path("model.safetensors"))
    for name, tensor in converted.model.state_dict().items():
        assert torch.equal(tensor, weights[name])
    options = ["--catalog", "catalog.csv", "--model", "model.safetensors", "--split", "all"]
    done = CliRunner().invoke(main, ["build-maps", *options])
    assert done.exit_code == 0, done.output
    # These weights were never trained, which is all that is said.
    warnings = [line for line in done.stderr.splitlines() if "warning" in line]
    assert all("is no better than a guess" in line for line in warnings), warnings
    for command in (["render", "--n", "2"], ["info", "maps.h5"], ["info", "model.safetensors"]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
