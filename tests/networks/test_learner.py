"""The learner: what the network is shown, its loss and its learning rate."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import make_settings, train

from galfig.catalog.galaxies import load_galaxies
from galfig.images.cutouts import Decoding, read_cutout, scale_cutout
from galfig.networks.learner import find_lr, make_learner
from galfig.networks.training_set import (
    channel_statistics,
    crop_at,
    read_training_set,
    take_centres,
)


def learner_of(settings, galaxies):
    from galfig.networks.architectures import build_network

    training = settings.training
    galaxies, cutouts = read_training_set(galaxies, settings)
    mean, std = channel_statistics(take_centres(cutouts, training), galaxies.in_train)
    model = build_network(training.arch, len(galaxies.class_names), settings.n_channels)
    return make_learner(model, galaxies, cutouts, training, mean, std)


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
    decoding = Decoding(settings.n_channels)
    cutouts = np.stack(
        [scale_cutout(read_cutout(path, 32, decoding), size) for path in valid.paths]
    )
    _, read = read_training_set(galaxies, settings)
    assert np.array_equal(read[galaxies.in_valid], cutouts)
    mean, std = channel_statistics(read, galaxies.in_train)
    # fastai resamples validation images on an identical grid, which rounds in the sixth digit.
    torch.testing.assert_close(
        torch.Tensor(batch), normalise(cutouts, mean, std), rtol=0, atol=5e-6
    )
    assert list(learner.dls.vocab) == ["low", "high"]
    assert labels.tolist() == valid.label.tolist()


def test_class_weights_balance_the_loss(galaxy_folder):
    """Three low galaxies to one high: the weights are 2/3 and 2."""
    settings = make_settings(galaxy_folder, class_weights="balanced")
    galaxies = load_galaxies(settings)
    low = np.flatnonzero((galaxies.label == 0) & galaxies.in_train)[:6]
    high = np.flatnonzero((galaxies.label == 1) & galaxies.in_train)[:2]
    valid = np.flatnonzero(galaxies.in_valid)
    few = galaxies.take(np.concatenate([low, high, valid]))
    weights = learner_of(settings, few).loss_func.func.weight
    torch.testing.assert_close(weights, torch.tensor([2 / 3, 2.0]))


@pytest.mark.parametrize("image_size", [None, 20])
def test_random_crops_are_windows_of_a_wider_image(galaxy_folder, image_size):
    """In training, they lie at any place within the margin; in validation, at the centre."""
    plain = make_settings(galaxy_folder, image_size=image_size)
    settings = make_settings(galaxy_folder, image_size=image_size, crop_margin=3)
    galaxies, training = load_galaxies(settings), settings.training
    _, wide = read_training_set(galaxies, settings)
    _, expected = read_training_set(galaxies, plain)
    assert wide.shape[1:] == (38, 38, 3)
    assert np.array_equal(take_centres(wide, training), expected)
    assert take_centres(expected, plain.training) is expected
    learner = learner_of(settings, galaxies)
    in_train, in_valid = np.flatnonzero(galaxies.in_train), np.flatnonzero(galaxies.in_valid)
    corners = [(y, x) for y in range(7) for x in range(7)]
    windows = [crop_at(wide[in_train[0]], corner, training).tobytes() for corner in corners]
    random.seed(0)
    drawn = {to_bytes(learner.dls.train_ds[0][0]) for _ in range(100)}
    assert drawn <= set(windows)
    places = [divmod(windows.index(one), 7) for one in drawn]
    assert {y for y, _ in places} == {x for _, x in places} == set(range(7))
    for index, row in enumerate(in_valid):
        assert to_bytes(learner.dls.valid_ds[index][0]) == expected[row].tobytes()


def to_bytes(image):
    return torch.as_tensor(image).permute(1, 2, 0).numpy().tobytes()


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
