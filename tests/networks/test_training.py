"""Training: exact statistics, what is set aside, and the same bytes for the same seed."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from samples import make_checkpoint, make_settings, train

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import CatalogError, CheckpointError
from galfig.images.cutouts import read_cutout
from galfig.info import describe_file
from galfig.networks.checkpoint import save_checkpoint
from galfig.networks.recipe import describe_recipe
from galfig.networks.training import channel_statistics, load_or_train, read_training_set


@pytest.fixture
def settings(galaxy_folder):
    return make_settings(galaxy_folder)


def test_statistics_are_those_of_the_whole_training_set(settings):
    """Mean and standard deviation are exact over every pixel of every training cutout."""
    galaxies, cutouts = read_training_set(load_galaxies(settings), settings)
    train = galaxies.take(galaxies.in_train)
    mean, std = channel_statistics(cutouts, galaxies.in_train)
    pixels = np.stack([read_cutout(path, 32) for path in train.paths]) / 255.0
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), rtol=1e-9)


def test_unreadable_images_are_set_aside(galaxy_folder, settings):
    """A truncated JPEG is rejected by name, and training goes on without it."""
    galaxies = load_galaxies(settings)
    path = galaxies.paths[3]
    path.write_bytes(path.read_bytes()[:300])
    readable, cutouts = read_training_set(galaxies, settings)
    assert len(readable) == len(galaxies) - 1 == len(cutouts)
    assert np.array_equal(cutouts[3], read_cutout(readable.paths[3], 32))
    assert list(readable.rejected) == [galaxies.objid[3]]
    assert path.name in readable.rejected[galaxies.objid[3]]


def test_blank_images_are_refused(galaxy_folder, settings):
    """Images of one colour have no standard deviation to divide by."""
    for path in (galaxy_folder / "images").iterdir():
        Image.new("RGB", (48, 48)).save(path)
    galaxies, cutouts = read_training_set(load_galaxies(settings), settings)
    with pytest.raises(CatalogError, match="same in every pixel"):
        channel_statistics(cutouts, galaxies.in_train)


def test_same_seed_same_bytes(galaxy_folder, tmp_path):
    """One seed gives one checkpoint to the byte, whatever was drawn before; another differs."""
    paths = [tmp_path / f"{index}.safetensors" for index in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        torch.rand(3)
        settings = make_settings(galaxy_folder, seed=seed)
        train(load_galaxies(settings), settings, path)
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second
    assert first != third


def test_training_leaves_the_random_state(galaxy_folder, settings, tmp_path):
    """A caller's own random numbers are those it would have had."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(load_galaxies(settings), settings, tmp_path / "m.safetensors")
    assert torch.equal(torch.rand(3), expected)


def test_checkpoint_says_what_it_was_made_from(galaxy_folder, settings, tmp_path):
    """History, metrics, counts, settings, digest, seeds and versions are in the header."""
    galaxies = load_galaxies(settings)
    metadata = train(galaxies, settings, tmp_path / "m.safetensors").metadata
    assert metadata["class_names"] == ["low", "high"]
    assert metadata["layer"] == "conv3"
    assert len(metadata["history"]) == 1
    assert set(metadata["metrics"]) == {
        "valid_loss",
        "accuracy",
        "roc_auc",
        "f1",
        "balanced_accuracy",
        "majority_share",
    }
    assert metadata["metrics"]["majority_share"] == max(metadata["n_valid"].values()) / 5
    assert sum(metadata["n_train"].values()) + sum(metadata["n_valid"].values()) == 24
    assert metadata["settings"] == settings.record()
    assert metadata["catalog_sha256"] == galaxies.catalog_sha256
    assert metadata["seeds"] == {"split": 256, "training": 256}
    assert {"galfig", "torch", "torchvision", "fastai"} <= set(metadata["versions"])


@pytest.mark.parametrize(
    "recipe",
    [
        {"schedule": "flat-cos"},
        {"class_weights": "balanced", "label_smoothing": 0.1},
        {"sampler": "balanced"},
        {"arch": "xresnet18"},
        {"batch_size": 512},
    ],
    ids=lambda recipe: next(iter(recipe)),
)
def test_every_option_trains(galaxy_folder, tmp_path, recipe):
    """Each option changes the network that comes out, and a batch may exceed the set."""
    plain, other = (
        train(load_galaxies(settings), settings, tmp_path / f"{name}.safetensors")
        for name, settings in (
            ("plain", make_settings(galaxy_folder)),
            ("other", make_settings(galaxy_folder, **recipe)),
        )
    )
    assert np.isfinite(other.metadata["metrics"]["valid_loss"])
    before, after = plain.model.state_dict(), other.model.state_dict()
    assert before.keys() != after.keys() or any(
        not torch.equal(before[name], after[name]) for name in before
    )


def test_class_without_training_galaxies_is_refused(galaxy_folder, settings, tmp_path):
    """A split that leaves a class out of training says which."""
    galaxies = load_galaxies(settings)
    lopsided = galaxies.take((galaxies.label == 0) | galaxies.in_valid)
    with pytest.raises(CatalogError, match=r"training set: no galaxy of class 'high'.*; change"):
        train(lopsided, settings, tmp_path / "m.safetensors")
    for path in galaxies.paths:
        path.write_text("<html>")
    with pytest.raises(
        CatalogError, match=r"training set: no galaxy of class 'low'.*24 galaxies left"
    ):
        train(galaxies, settings, tmp_path / "m.safetensors")


def test_class_without_validation_galaxies_is_refused(galaxy_folder, settings, tmp_path):
    """Its metrics would not be defined, unless that is wanted."""
    galaxies = load_galaxies(settings)
    lopsided = galaxies.take((galaxies.label == 0) | galaxies.in_train)
    with pytest.raises(CatalogError, match=r"validation set: no galaxy of class 'high'.*allow_mis"):
        train(lopsided, settings, tmp_path / "m.safetensors")
    allowed = load_settings(settings, {("split", "allow_missing"): True})
    metrics = train(lopsided, allowed, tmp_path / "m.safetensors").metadata["metrics"]
    assert np.isnan(metrics["balanced_accuracy"])
    assert metrics["majority_share"] == 1


def test_few_galaxies_are_warned_of(galaxy_folder, settings, tmp_path, caplog):
    """Twenty-four galaxies say little, whatever the accuracy: in the log, class by class."""
    galaxies = load_galaxies(settings)
    with caplog.at_level(logging.WARNING, "galfig"):
        train(galaxies, settings, tmp_path / "m.safetensors")
    assert "few galaxies: only 12 'low', 12 'high' to train and validate" in caplog.text
    assert "to validate, expected 5 of a class" in caplog.text
    facts = describe_file(tmp_path / "m.safetensors")
    assert facts["members"] == {"train": 19, "valid": 5, "test": 0}
    assert any("only 12 'low', 12 'high'" in doubt for doubt in facts["warnings"])


@pytest.mark.parametrize(
    ("if_exists", "recipe", "expected"),
    [
        ("error", "this", "used"),
        ("error", "another", "refused"),
        ("error", "none", "error"),
        ("update", "this", "used"),
        ("update", "another", "replace"),
        ("update", "none", "error"),
        ("replace", "this", "replace"),
        ("replace", "another", "replace"),
        ("replace", "none", "replace"),
    ],
)
def test_network_that_is_there_is_used_or_trained_anew(
    settings, tmp_path, monkeypatch, if_exists, recipe, expected
):
    """What is done with a network of this recipe, of another, and where there is none."""
    galaxies, path = load_galaxies(settings), tmp_path / "m.safetensors"
    if recipe != "none":
        written = make_checkpoint(path)
        ingredients = describe_recipe(galaxies, settings) if recipe == "this" else {}
        metadata = {**written.metadata, "recipe": ingredients}
        save_checkpoint(path, written.model, metadata, if_exists="replace")

    trained = []

    def note(*args, if_exists, resume, **options):
        assert resume == "if_same"
        trained.append(if_exists)

    monkeypatch.setattr("galfig.networks.training.train_checkpoint", note)
    if expected == "refused":
        with pytest.raises(CheckpointError, match="was trained with another recipe"):
            load_or_train(galaxies, settings, path, if_exists=if_exists)
    else:
        load_or_train(galaxies, settings, path, if_exists=if_exists)
    assert trained == ([] if expected in ("used", "refused") else [expected])


@pytest.mark.slow
def test_real_galaxies_are_told_apart(real_data, tmp_path):
    """On real SDSS galaxies the default recipe reaches what was asked of it, over two seeds."""
    reached = []
    for seed in range(2):
        settings = load_settings(
            None,
            {
                ("catalog", "path"): real_data("sdss-oh") / "catalog.csv",
                ("training", "batch_size"): 16,
                ("training", "seed"): seed,
                ("split", "seed"): seed,
            },
        )
        checkpoint = train(load_galaxies(settings), settings, tmp_path / f"{seed}.safetensors")
        reached.append(checkpoint.metadata["metrics"])
    assert np.mean([metrics["accuracy"] for metrics in reached]) >= 0.90
    assert np.mean([metrics["roc_auc"] for metrics in reached]) >= 0.95
