"""Accuracy before a build: names in the wrong order and worse numbers are noticed, noise is not."""

import itertools
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import load_with_settings

from galfig.images.cutouts import Decoding
from galfig.networks.accuracy import check_accuracy, judge_accuracy

NAMES = ("low", "medium", "high")


def draw(n, accuracy, n_classes=2, seed=0, shares=None):
    """Draw labels, and predictions that are right with a probability."""
    rng = np.random.default_rng(seed)
    label = rng.choice(n_classes, n, p=shares)
    wrong = (label + rng.integers(1, n_classes, n)) % n_classes
    return label, np.where(rng.random(n) < accuracy, label, wrong)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_names_in_the_wrong_order_are_named_in_the_right_one(order):
    """Whatever the order, with a record or without one."""
    label, logit = draw(200, 0.9, 3)
    # Logit i stands for NAMES[order[i]], but is called NAMES[i].
    position = np.argsort(order)
    for recorded in (None, 0.9):
        found = judge_accuracy(label, position[logit], NAMES, recorded=recorded, n_recorded=200)
        if order == (0, 1, 2):
            assert found["class_order"] is None
            assert found["warning"] == ""
        else:
            assert found["class_order"] == [NAMES[index] for index in order]
            assert f"the order {', '.join(found['class_order'])}, it would" in found["warning"]


def test_wrong_normalisation_is_noticed():
    """0.94 on record, 0.74 on new galaxies: no order of the names, but far too few."""
    found = judge_accuracy(*draw(256, 0.74), NAMES[:2], recorded=0.94, n_recorded=200)
    assert found["class_order"] is None
    assert "its record says 94.0%" in found["warning"]
    assert found["warning"].startswith("classifies 1")


def test_accuracy_of_always_saying_one_class_is_noticed():
    """With shares of 0.74, 0.16 and 0.1, saying the first is right for 74 percent."""
    label, _ = draw(256, 1, 3, shares=[0.74, 0.16, 0.1])
    found = judge_accuracy(label, np.zeros(256, int), NAMES)
    assert found["accuracy"] == found["majority_share"] == np.mean(label == 0)
    assert "always saying low would be right for" in found["warning"]


@pytest.mark.parametrize(("n", "accuracy"), [(12, 0.9), (40, 0.8), (256, 0.94), (256, 0.8)])
def test_noise_does_not_warn(n, accuracy):
    """A thousand samples of a sound network: at most a few false alarms, as the threshold says."""
    warned = [
        judge_accuracy(*draw(n, accuracy, seed=seed), NAMES[:2], recorded=measured, n_recorded=60)
        for seed in range(1000)
        for measured in [np.random.default_rng(seed + 5000).binomial(60, accuracy) / 60]
    ]
    # Three tests of a thousandth each: 3 of 1000 on average, 10 or more once in a thousand.
    assert sum(bool(found["warning"]) for found in warned) < 10


def test_one_class_and_a_perfect_network_are_no_reason_to_warn():
    """All galaxies of one class say nothing of chance."""
    label = np.zeros(100, int)
    predicted = label.copy()
    predicted[:4] = 1
    assert judge_accuracy(label, predicted, NAMES[:2])["warning"] == ""
    assert judge_accuracy(label, label, NAMES[:2], recorded=float("nan"))["warning"] == ""


def test_galaxies_that_trained_the_network_do_not_count(galaxy_folder, checkpoint, caplog):
    """The sample is of the others, and the warning is one line that names the checkpoint."""
    galaxies, _ = load_with_settings(galaxy_folder)
    rng = np.random.default_rng(0)
    split = rng.permuted(np.array(["train"] * 8 + ["valid"] * 16, dtype=object))
    galaxies = replace(galaxies, split=split)
    # A network that always says the first class, though its record says it is nearly perfect.
    with torch.no_grad():
        checkpoint.model.linear.weight.zero_()
        checkpoint.model.linear.bias.copy_(torch.tensor([1.0, 0.0]))
    metadata = {**checkpoint.metadata, "metrics": {"accuracy": 0.98}, "n_valid": {"a": 50, "b": 50}}
    strange = replace(checkpoint, metadata=metadata)
    with caplog.at_level(logging.WARNING, "galfig"):
        found = check_accuracy(strange, galaxies, Decoding(3), "m.safetensors")
    n_low = int(np.sum((galaxies.label == 0) & (split == "valid")))
    assert (found["n"], found["accuracy"], found["recorded"]) == (16, n_low / 16, 0.98)
    (message,) = caplog.messages
    assert message.startswith(f"m.safetensors: classifies {n_low} of 16 labelled galaxies")
    none = replace(galaxies, split=np.full(24, "train", dtype=object))
    assert check_accuracy(strange, none, Decoding(3)) is None


def test_nothing_is_claimed_of_galaxies_of_unknown_split():
    """A network from elsewhere may have been trained on them."""
    label = np.arange(256) % 2
    words = "labelled galaxies that did not train it"
    assert words in judge_accuracy(label, 1 - label, NAMES[:2])["warning"]
    found = judge_accuracy(label, 1 - label, NAMES[:2], is_held_out=False)["warning"]
    assert found.startswith("classifies 0 of 256 labelled galaxies (0.0%), but ")
