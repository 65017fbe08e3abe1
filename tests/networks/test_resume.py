"""Resuming: a run that was stopped after any epoch ends as one that was not."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save
from samples import CPU, make_checkpoint, note_progress

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import CheckpointError
from galfig.networks import learner
from galfig.networks.checkpoint import digest_content
from galfig.networks.resume import load_progress, resume_path, save_progress
from galfig.networks.training import train_network
from galfig.networks.training_set import read_training_set


def make_settings(folder, **training):
    training = {"epochs": 3, "batch_size": 8, "cutout_size": 32, **training}
    overrides = {("training", key): value for key, value in training.items()}
    return load_settings(None, {("catalog", "path"): folder / "catalog.csv", **overrides})


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"schedule": "flat-cos", "sampler": "balanced"},
        {"lr": "auto", "epochs": 2},
        {"init": "source.safetensors", "freeze": 2, "epochs": 4, "body_lr_ratio": 0.5},
        {"crop_margin": 4},
    ],
    ids=["one-cycle", "flat-cos, balanced", "auto", "two parts", "random crops"],
)
def test_stopped_run_ends_as_one_that_was_not(galaxy_folder, tmp_path, monkeypatch, recipe):
    """Stopped after each of its epochs, and resumed: the same checkpoint to the byte."""
    make_checkpoint(galaxy_folder / "source.safetensors", ("a", "b", "c"))
    if "init" in recipe:
        recipe = {**recipe, "init": galaxy_folder / recipe["init"]}
    settings = make_settings(galaxy_folder, **recipe)
    data = read_training_set(load_galaxies(settings), settings)
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    train_network(*data, settings, whole, run=CPU)

    class Stop(BaseException):
        pass

    def save_and_stop(*arguments):
        save_progress(*arguments)
        raise Stop

    noted = note_progress(monkeypatch, learner)
    for _ in range(settings.training.epochs - 1):
        monkeypatch.setattr("galfig.networks.training.save_progress", save_and_stop)
        with pytest.raises(Stop):
            train_network(*data, settings, broken, run=CPU, resume="always")
        assert resume_path(broken).exists()
        assert not broken.exists()
        torch.rand(5)
    monkeypatch.setattr("galfig.networks.training.save_progress", save_progress)
    train_network(*data, settings, broken, run=CPU, resume="always")
    assert broken.read_bytes() == whole.read_bytes()
    # Each run counts the epochs before it as done, and does one.
    begun_at = [2 * epoch for epoch in range(settings.training.epochs)]
    assert [shown["initial"] for shown in noted] == begun_at
    assert [shown["done"] for shown in noted] == [n + 2 for n in begun_at]
    assert {shown["total"] for shown in noted} == {2 * settings.training.epochs}
    assert not resume_path(broken).exists()


def test_run_of_another_recipe_is_not_resumed(galaxy_folder, tmp_path):
    """Another seed would go on with another network; without --resume it starts anew."""
    path = tmp_path / "m.safetensors"
    settings = make_settings(galaxy_folder, epochs=1)
    data = read_training_set(load_galaxies(settings), settings)
    save_progress(resume_path(path), {"settings": "others"}, {"history": []})
    with pytest.raises(CheckpointError, match="training with another recipe"):
        train_network(*data, settings, path, run=CPU, resume="always")
    train_network(*data, settings, path, run=CPU, resume="if_same")
    assert not resume_path(path).exists()
    save_progress(resume_path(path), {"settings": "others"}, {"history": []})
    train_network(*data, settings, path, run=CPU, if_exists="replace")
    assert not resume_path(path).exists()


def test_state_comes_back_as_it_was(tmp_path):
    """Tensors in any layout, shared ones, numbers and text, nested."""
    image = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    state = {"a": [image, image], "b": {"c": (1, 2.5, None, "words", True)}, "d": np.arange(3)}
    path = resume_path(tmp_path / "m.safetensors")
    save_progress(path, {"x": (1, 2)}, state)
    found = load_progress(path, {"x": [1, 2]})
    assert torch.equal(found["a"][0], image)
    assert torch.equal(found["a"][1], image)
    assert found["b"] == {"c": [1, 2.5, None, "words", True]}
    assert found["d"] == [0, 1, 2]


def test_a_damaged_state_is_not_resumed(tmp_path):
    """A flipped bit in a tensor, or in the numbers, would go on with another network."""
    path = resume_path(tmp_path / "m.safetensors")
    save_progress(path, {}, {"weight": torch.ones(3), "epoch": 17})
    sound = path.read_bytes()
    for damaged in (sound[:-1] + b"\x00", sound.replace(b"17", b"19")):
        assert damaged != sound
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="checksum mismatch"):
            load_progress(path, {})


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x02" + bytes(7) + b"{}", b"PK\x03\x04"])
def test_other_files_are_refused(tmp_path, data):
    """A damaged state is one line."""
    path = tmp_path / "m.resume.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="not the state of a training"):
        load_progress(path, {})


@pytest.mark.parametrize("key", ["format", "recipe", "state"])
@pytest.mark.parametrize("value", [None, 7])
def test_state_without_its_parts_is_refused(tmp_path, key, value):
    """Whoever writes such a file can also write its digest."""
    found = {"format": 1, "recipe": {}, "state": {}}
    if value is None:
        del found[key]
    elif key != "state":
        found[key] = value
    found["digest"] = digest_content(found, {})
    path = tmp_path / "m.resume.safetensors"
    path.write_bytes(save({}, {"galfig-resume": json.dumps(found)}))
    if key == "state" and value:
        assert load_progress(path, {}) == {}
        return
    with pytest.raises(CheckpointError, match="state of a training"):
        load_progress(path, {})
