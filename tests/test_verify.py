"""Verifying files of every kind, in Python and from the command line."""

import hashlib
import json

import h5py
import pytest
import torch
from click.testing import CliRunner
from samples import METADATA, build_at, load_with_settings

from galfig.cli import main
from galfig.errors import CheckpointError
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import load_checkpoint, save_checkpoint
from galfig.store.checksums import seal_file
from galfig.store.reader import open_store


@pytest.fixture
def checkpoint_path(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, build_network("conv3", 2), METADATA)
    return path


def verify(*paths):
    return CliRunner().invoke(main, ["verify", *map(str, paths)])


def test_sound_files_are_said_to_be_so(store_path, checkpoint_path):
    """Exit 0, and a line each."""
    found = verify(store_path, checkpoint_path)
    assert found.exit_code == 0
    store_line, checkpoint_line = found.stdout.splitlines()
    assert store_line.startswith(f"{store_path}: intact: every map, cutout, number, text and")
    assert checkpoint_line.startswith(f"{checkpoint_path}: intact: weights and metadata have")


def test_damage_is_exit_1_and_the_others_are_verified_all_the_same(store_path, checkpoint_path):
    """One absent, one damaged, one sound: a line each."""
    data = bytearray(checkpoint_path.read_bytes())
    data[-100] ^= 1
    checkpoint_path.write_bytes(data)
    absent = store_path.with_name("absent.h5")
    found = verify(absent, checkpoint_path, store_path)
    assert found.exit_code == 1
    missing, damaged, sound = found.stdout.splitlines()
    assert missing.startswith(f"{absent}: no such file")
    assert "checksum mismatch" in damaged
    assert "intact" in sound


def test_galaxies_that_are_not_there_are_listed(make_store):
    """galfig info --rejected: a line each, with the reason."""
    with h5py.File(make_store(), "r+") as file:
        del file["rejected"]
        group = file.create_group("rejected")
        group["objid"], group["reason"] = ["12", "13"], ["no image", "cut off"]
        path = file.filename
    found = CliRunner().invoke(main, ["info", path, "--rejected"])
    assert found.stdout == "12  no image\n13  cut off\n"


def test_damaged_checkpoint_is_not_loaded(checkpoint_path):
    """Neither where a weight changed, nor where a word of its metadata did."""
    sound = checkpoint_path.read_bytes()
    load_checkpoint(checkpoint_path)
    # The metadata are JSON within JSON.
    word = rb"cutout_size\": 3"
    for old, new in ((word + b"2", word + b"3"), (sound[-8:], bytes(8))):
        changed = sound.replace(old, new)
        assert changed != sound
        checkpoint_path.write_bytes(changed)
        with pytest.raises(CheckpointError, match="checksum mismatch"):
            load_checkpoint(checkpoint_path)


def test_weights_that_are_not_numbers_are_refused(tmp_path, monkeypatch):
    """NaN in a tensor is named, when it is written and when it is read."""
    model = build_network("conv3", 2)
    path = tmp_path / "m.safetensors"
    with torch.no_grad():
        next(model.parameters())[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match="contains non-finite numbers"):
        save_checkpoint(path, model, METADATA)
    assert not path.exists()
    with monkeypatch.context() as unguarded:
        unguarded.setattr("galfig.networks.checkpoint._find_not_finite", lambda _: "")
        save_checkpoint(path, model, METADATA)
    with pytest.raises(CheckpointError, match="contains non-finite numbers"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arch", None),
        ("class_names", "low"),
        ("class_names", ["low"]),
        ("cutout_size", -5),
        ("mean", []),
        ("std", [0.1, 0.0, 0.1]),
    ],
)
def test_metadata_that_cannot_be_meant_are_named(tmp_path, key, value):
    """A checkpoint that somebody wrote by hand."""
    with pytest.raises(CheckpointError, match=f"its metadata {key}"):
        save_checkpoint(
            tmp_path / "m.safetensors", build_network("conv3", 2), {**METADATA, key: value}
        )


def test_manuscript_is_compared_with_its_record(tmp_path):
    """A file that was edited, one that is missing, and one that is as recorded."""
    folder = tmp_path / "paper"
    (folder / "figures").mkdir(parents=True)
    (folder / "manuscript.toml").write_text("")
    digests = {}
    for name in ("figures/a.pdf", "figures/b.pdf", "values.tex"):
        (folder / name).write_text(name)
        digests[name] = hashlib.sha256(name.encode()).hexdigest()
    figure = {"spec": {}, "stores": {}, "code": "", "galaxies": []}
    record = {
        "figures": {
            "a": {**figure, "files": {"figures/a.pdf": digests["figures/a.pdf"]}},
            "b": {**figure, "files": {"figures/b.pdf": digests["figures/b.pdf"]}},
        },
        "texts": {"values.tex": digests["values.tex"]},
    }
    (folder / "manuscript.lock").write_text(json.dumps(record))
    assert verify(folder).exit_code == 0
    (folder / "figures/b.pdf").unlink()
    (folder / "values.tex").write_text("edited")
    found = verify(folder)
    assert found.exit_code == 1
    assert found.stdout.splitlines() == [
        f"{folder}: values.tex: checksum mismatch",
        f"{folder}: figures/b.pdf: missing",
    ]


def test_images_are_compared_where_there_is_a_catalog(galaxy_folder, tmp_path, checkpoint):
    """Those that changed are named, those that are gone too; the store itself stays intact."""
    path, catalog = tmp_path / "maps.h5", galaxy_folder / "catalog.csv"
    galaxies, _ = load_with_settings(galaxy_folder)
    galaxies.paths[2].write_bytes(b"no image")
    build_at(path, galaxy_folder, checkpoint)
    sound = verify(path, "--catalog", catalog)
    assert sound.exit_code == 0
    assert sound.stdout.startswith(f"{path}: intact: ")
    assert sound.stdout.endswith("the images are those that it was made from\n")
    for row, source in ((4, 9), (2, 9)):
        galaxies.paths[row].write_bytes(galaxies.paths[source].read_bytes())
    galaxies.paths[7].unlink()
    found = verify(path, "--catalog", catalog)
    assert found.exit_code == 1
    two, four, seven = (repr(galaxies.objid[row]) for row in (2, 4, 7))
    assert found.stdout.splitlines() == [
        f"{path}: image changed of 2 galaxies: {two}, {four}",
        f"{path}: no image in {catalog} of 1 galaxy: {seven}",
    ]
    assert verify(path).exit_code == 0
    assert verify(path, "--images", galaxy_folder).exit_code == 2


def test_store_without_digests_of_images_says_so(galaxy_folder, store_path):
    """One of schema version 1: nothing can be compared."""
    with h5py.File(store_path, "r+", locking=False) as file:
        del file["image_digest"], file["rejected/image_digest"]
        file.attrs["schema_version"] = 1
        seal_file(file)
    found = verify(store_path, "--catalog", galaxy_folder / "catalog.csv")
    assert found.stdout.startswith(f"{store_path}: no digests of images, expected some")
    with open_store(store_path) as store:
        assert store.image_digest is None
