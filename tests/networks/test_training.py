"""Training: what the network is shown, the metrics, and the same bytes for the same seed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import CPU, make_checkpoint
from sklearn.metrics import roc_auc_score

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import CatalogError, CheckpointError
from galfig.images.cutouts import Decoding, read_cutout, scale_cutout
from galfig.metrics import score
from galfig.networks.checkpoint import save_checkpoint
from galfig.networks.learner import find_lr, make_learner
from galfig.networks.recipe import describe_recipe
from galfig.networks.training import (
    channel_statistics,
    load_or_train,
    read_training_set,
    train_network,
)


@pytest.fixture
def settings(galaxy_folder):
    return make_settings(galaxy_folder)


def make_settings(folder, **training):
    overrides = {("catalog", "path"): folder / "catalog.csv"}
    training = {"epochs": 1, "batch_size": 8, "cutout_size": 32, **training}
    overrides |= {("training", key): value for key, value in training.items()}
    return load_settings(None, overrides)


def learner_of(settings, galaxies):
    from galfig.networks.architectures import build_network

    training = settings.training
    galaxies, cutouts = read_training_set(galaxies, settings)
    mean, std = channel_statistics(cutouts, ~galaxies.in_valid)
    model = build_network(training.arch, len(galaxies.class_names), training.n_channels)
    return make_learner(model, galaxies, cutouts, training, mean, std)


def train(galaxies, settings, path):
    """Read the images and train."""
    return train_network(*read_training_set(galaxies, settings), settings, path, run=CPU)


def test_statistics_are_those_of_the_whole_training_set(settings):
    """Mean and standard deviation are exact over every pixel of every training cutout."""
    galaxies, cutouts = read_training_set(load_galaxies(settings), settings)
    train = galaxies.take(~galaxies.in_valid)
    mean, std = channel_statistics(cutouts, ~galaxies.in_valid)
    pixels = np.stack([read_cutout(path, 32) for path in train.paths]) / 255.0
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), rtol=1e-9)


@pytest.mark.parametrize("grayscale", [False, True])
@pytest.mark.parametrize("image_size", [None, 20])
def test_validation_batch_is_what_is_explained(galaxy_folder, image_size, grayscale):
    """fastai's validation images are, number by number, those that explaining computes."""
    from galfig.networks.checkpoint import normalise

    settings = make_settings(galaxy_folder, image_size=image_size, grayscale=grayscale)
    galaxies = load_galaxies(settings)
    learner = learner_of(settings, galaxies)
    batch, labels = learner.dls.valid.one_batch()
    valid = galaxies.take(galaxies.in_valid)
    size = settings.training.network_size
    decoding = Decoding(settings.training.n_channels)
    cutouts = np.stack(
        [scale_cutout(read_cutout(path, 32, decoding), size) for path in valid.paths]
    )
    _, read = read_training_set(galaxies, settings)
    assert np.array_equal(read[galaxies.in_valid], cutouts)
    mean, std = channel_statistics(read, ~galaxies.in_valid)
    # fastai resamples validation images on an identical grid, which rounds in the sixth digit.
    torch.testing.assert_close(
        torch.Tensor(batch), normalise(cutouts, mean, std), rtol=0, atol=5e-6
    )
    assert list(learner.dls.vocab) == ["low", "high"]
    assert labels.tolist() == valid.label.tolist()


def test_score_of_two_classes_is_the_binary_area():
    """For two classes ROC AUC is scikit-learn's binary form, and accuracy counts."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    p = np.clip(0.3 + 0.4 * labels + rng.normal(0, 0.2, 200), 0.01, 0.99)
    found = score(np.stack([1 - p, p], axis=1), labels)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, p))
    assert found["accuracy"] == pytest.approx(np.mean((p > 0.5) == labels))


def test_score_of_three_classes_is_one_against_the_rest():
    """Beyond two classes the areas of one against the rest are averaged."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    probs = rng.dirichlet([1, 1, 1], 300)
    probs[np.arange(300), labels] += 0.5
    probs /= probs.sum(axis=1, keepdims=True)
    areas = [roc_auc_score(labels == c, probs[:, c]) for c in range(3)]
    assert score(probs.astype(np.float32), labels)["roc_auc"] == pytest.approx(np.mean(areas))


def test_score_without_one_class_has_no_area():
    """A validation set with one class has an accuracy but no ROC AUC, and does not fail."""
    found = score(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    assert found["accuracy"] == 0.5
    assert np.isnan(found["roc_auc"])


def test_swapping_the_classes_swaps_no_metric():
    """No class is the positive one: metrics do not depend on their order."""
    rng = np.random.default_rng(0)
    labels, probs = rng.integers(0, 2, 100), rng.dirichlet([1, 1], 100)
    assert score(probs, labels) == pytest.approx(score(probs[:, ::-1], 1 - labels))


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
        channel_statistics(cutouts, ~galaxies.in_valid)


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
    assert set(metadata["metrics"]) == {"valid_loss", "accuracy", "roc_auc", "f1"}
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


def test_class_weights_balance_the_loss(galaxy_folder):
    """Three low galaxies to one high: the weights are 2/3 and 2."""
    settings = make_settings(galaxy_folder, class_weights="balanced")
    galaxies = load_galaxies(settings)
    low = np.flatnonzero((galaxies.label == 0) & ~galaxies.in_valid)[:6]
    high = np.flatnonzero((galaxies.label == 1) & ~galaxies.in_valid)[:2]
    valid = np.flatnonzero(galaxies.in_valid)
    few = galaxies.take(np.concatenate([low, high, valid]))
    weights = learner_of(settings, few).loss_func.func.weight
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 2.0]))


@pytest.mark.slow
def test_learning_rate_finder(galaxy_folder, tmp_path):
    """'auto' takes the valley of a curve that is kept, and puts the weights back."""
    settings = make_settings(galaxy_folder, lr="auto")
    galaxies = load_galaxies(settings)
    learner = learner_of(settings, galaxies)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    lr, curve = find_lr(learner)
    assert 1e-6 < lr < 1
    assert len(curve["lr"]) == len(curve["loss"]) > 20
    after = learner.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    metadata = train(galaxies, settings, tmp_path / "m.safetensors").metadata
    assert metadata["lr"] != "auto"
    assert len(metadata["lr_finder"]["lr"]) > 20
    assert not list(Path().glob("models"))


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
