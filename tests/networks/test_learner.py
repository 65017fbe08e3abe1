"""The learner: what the network is shown, its loss and its learning rate."""

from pathlib import Path

import numpy as np
import pytest
import torch
from samples import make_settings, train

from galfig.catalog.galaxies import load_galaxies
from galfig.images.cutouts import Decoding, read_cutout, scale_cutout
from galfig.networks.learner import find_lr, make_learner
from galfig.networks.training_set import channel_statistics, read_training_set


def learner_of(settings, galaxies):
    from galfig.networks.architectures import build_network

    training = settings.training
    galaxies, cutouts = read_training_set(galaxies, settings)
    mean, std = channel_statistics(cutouts, galaxies.in_train)
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
