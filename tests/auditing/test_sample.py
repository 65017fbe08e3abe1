"""The sample is drawn by a seed, explained as the store is, and belongs to its network."""

import numpy as np
import pytest
import torch
from samples import make_tiny_cnn

from galfig.auditing.sample import draw_sample
from galfig.errors import CheckpointError, SelectionError


def test_what_is_explained_again_is_what_is_stored(make_sample):
    """Maps and logits, to the rounding of float16."""
    sample = make_sample()
    chosen = slice(3, 9)
    images = sample.images(chosen)
    maps = sample.explain(images).cams.numpy()[np.arange(6), sample.predicted[chosen]]
    assert maps == pytest.approx(sample.read_maps(chosen), rel=2e-3, abs=1e-6)
    assert sample.predict_logits(images) == pytest.approx(sample.store.logits[3:9], abs=1e-4)
    assert sample.predict(images).sum(axis=1) == pytest.approx(1)


def test_a_draw_depends_on_its_seed_alone(make_sample):
    """In the order of the store, without one twice."""
    sample = make_sample()
    draws = [
        draw_sample(sample.store, sample.networks, n=12, seed=seed, device="cpu").rows
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert (np.diff(draws[0]) > 0).all()
    assert sample.make_rng("a").random() != sample.make_rng("b").random()
    assert sample.spread(4) == [0, 8, 15, 23]


def test_galaxies_that_trained_the_network_are_left_out(make_sample):
    """As in all numbers of the store."""
    split = np.array(["train", "valid"] * 12, object)
    sample = make_sample(split=split)
    assert set(sample.store.split[sample.rows]) == {"valid"}


def test_another_network_is_refused(make_sample):
    """By its logits, whatever its file is called."""
    sample = make_sample()
    other = make_tiny_cnn()
    with torch.no_grad():
        other[4].weight.mul_(-3)
    wrong = sample.checkpoint.__class__(
        other, sample.class_names, "1", sample.checkpoint.metadata, "x"
    )
    with pytest.raises(CheckpointError, match="other logits"):
        draw_sample(sample.store, [wrong], device="cpu")
    with pytest.raises(CheckpointError, match="made with 1 networks, found 2"):
        draw_sample(sample.store, [sample.checkpoint] * 2, device="cpu")


def test_too_few_galaxies_are_refused(make_sample):
    """An interval of a handful says nothing."""
    with pytest.raises(SelectionError, match="9 galaxies"):
        make_sample(n=9)
    with pytest.raises(SelectionError, match="at least 10"):
        draw_sample(make_sample().store, make_sample().networks, n=3, device="cpu")
