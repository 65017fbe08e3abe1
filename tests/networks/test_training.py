"""Training: exact statistics, what is set aside, and the same bytes for the same seed."""

import contextlib
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from samples import CPU, make_settings, train

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import CatalogError, ConfigError, LockError
from galfig.images.cutouts import read_cutout
from galfig.info import describe_file
from galfig.networks import learner
from galfig.networks.device import computing_with
from galfig.networks.resume import resume_path
from galfig.networks.training import train_network
from galfig.networks.training_set import channel_statistics, read_training_set


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
    """Stamps of one colour are left out; a channel of one value has nothing to divide by."""
    paths = sorted((galaxy_folder / "images").iterdir())
    for path in paths:
        image = Image.new("RGB", (48, 48))
        if path != paths[0]:
            image.putpixel((20, 20), (200, 0, 0))
        image.save(path, "PNG")
    galaxies, cutouts = read_training_set(load_galaxies(settings), settings)
    assert len(galaxies) == len(paths) - 1
    assert "all pixels are the same" in next(iter(galaxies.rejected.values()))
    with pytest.raises(CatalogError, match="green is the same in every pixel"):
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


def test_number_of_threads_is_that_of_the_recipe(galaxy_folder, tmp_path, monkeypatch):
    """However many threads torch has outside: training has its own number, and gives it back."""
    settings, seen = make_settings(galaxy_folder, threads=3), []
    galaxies = load_galaxies(settings)
    before = torch.get_num_threads()
    try:
        for outside in (1, 2):
            torch.set_num_threads(outside)
            monkeypatch.setattr(learner, "fit_network", note_threads(learner.fit_network, seen))
            train(galaxies, settings, tmp_path / f"{outside}.safetensors")
            assert torch.get_num_threads() == outside
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {3}
    one, two = (tmp_path / f"{outside}.safetensors" for outside in (1, 2))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("variable", "value", "threads", "fits"),
    [
        ("OMP_THREAD_LIMIT", "2", 3, False),
        ("OMP_THREAD_LIMIT", "3", 3, True),
        ("OMP_DYNAMIC", "TRUE", 3, False),
        ("OMP_DYNAMIC", "TRUE", 1, True),
        ("OMP_DYNAMIC", "false", 3, True),
    ],
)
def test_environment_that_permits_fewer_threads_is_refused(
    monkeypatch, variable, value, threads, fits
):
    """torch would wait for ever for the threads that it does not get."""
    monkeypatch.setenv(variable, value)
    expected = pytest.raises(ConfigError, match=f"^{variable}={value.lower()}: permits fewer")
    with contextlib.nullcontext() if fits else expected, computing_with(threads):
        assert fits


def note_threads(function, seen):
    def call(*args, **options):
        seen.append(torch.get_num_threads())
        return function(*args, **options)

    return call


TRAINING = """
import os, sys
from pathlib import Path
if sys.argv[3] == "one processor" and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from samples import make_settings, train
from galfig.catalog.galaxies import load_galaxies
settings = make_settings(Path(sys.argv[1]), image_size=64)
train(load_galaxies(settings), settings, Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processors", "environment"),
    [
        ("one processor", {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}),
        ("all processors", {"OMP_NUM_THREADS": "7", "MKL_DYNAMIC": "TRUE"}),
    ],
)
def test_processors_and_environment_do_not_change_the_network(
    galaxy_folder, tmp_path, processors, environment
):
    """One processor or two, and whatever the libraries are told about threads: the same bytes."""
    here, there = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    settings = make_settings(galaxy_folder, image_size=64)
    train(load_galaxies(settings), settings, here)
    subprocess.run(
        [sys.executable, "-c", TRAINING, galaxy_folder, there, processors],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        check=True,
    )
    assert here.read_bytes() == there.read_bytes()


def test_training_whose_lock_was_taken_over_writes_nothing(galaxy_folder, tmp_path, monkeypatch):
    """Neither the state after an epoch nor the checkpoint appears."""
    settings, path = make_settings(galaxy_folder, epochs=2), tmp_path / "m.safetensors"
    for n_done in (0, 1):
        checks = []

        def check(checks=checks, n_done=n_done):
            checks.append(None)
            if len(checks) > n_done:
                raise LockError("taken over")

        data = read_training_set(load_galaxies(settings), settings)
        with pytest.raises(LockError):
            train_network(*data, settings, path, run=CPU, check=check)
        assert not path.exists()
        assert resume_path(path).exists() == (n_done == 1)


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
        pytest.param({"arch": "xresnet18"}, marks=pytest.mark.slow),
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
    assert any("only 12 'high', 12 'low'" in doubt for doubt in facts["warnings"])


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
