"""Batches: out of the array as a whole, they are what fastai makes galaxy by galaxy."""

import random

import pytest
import torch
from samples import make_settings

from galfig.catalog.galaxies import load_galaxies
from galfig.networks.architectures import build_network
from galfig.networks.learner import make_learner
from galfig.networks.training_set import (
    channel_statistics,
    read_training_set,
    take_centres,
)


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"crop_margin": 3},
        {"crop_margin": 3, "image_size": 20, "batch_size": 7},
        {"grayscale": True, "sampler": "balanced"},
    ],
    ids=str,
)
def test_batches_are_those_of_fastai(galaxy_folder, recipe):
    """The same pixels, labels and types, and the same random numbers afterwards."""
    settings = make_settings(galaxy_folder, **recipe)
    training = settings.training
    galaxies, cutouts = read_training_set(load_galaxies(settings), settings)
    mean, std = channel_statistics(take_centres(cutouts, training), galaxies.in_train)
    model = build_network("conv3", 2, settings.n_channels)
    learner = make_learner(model, galaxies, cutouts, training, mean, std)
    for loader in learner.dls.loaders:
        indices = loader.get_idxs()
        found = []
        for make in (type(loader).create_batches.__get__(loader), loader.create_batches):
            random.seed(3)
            found.append((list(make(indices)), random.random()))
        (expected, after), (batches, after_too) = found
        assert len(expected) == len(batches) == len(loader)
        assert after == after_too
        for (images, labels), (own_images, own_labels) in zip(expected, batches, strict=True):
            assert type(images) is type(own_images)
            assert type(labels) is type(own_labels)
            assert images.dtype == own_images.dtype == torch.uint8
            assert torch.equal(torch.as_tensor(images), torch.as_tensor(own_images))
            assert torch.equal(torch.as_tensor(labels), torch.as_tensor(own_labels))
