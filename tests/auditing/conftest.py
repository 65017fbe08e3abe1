"""Cutouts, networks and samples for the tests of the audit."""

import itertools

import numpy as np
import pytest
from samples import draw_galaxy, make_tiny_cnn

MEAN, STD = [0.1] * 3, [0.2] * 3


def draw_cutout(size=48, seed=0, **options):
    """Draw a galaxy on a noisy sky, (size, size, 3) uint8."""
    noise = np.random.default_rng(seed).normal(0, 2, (size, size, 3))
    return np.clip(draw_galaxy(size, **options) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def draw():
    """Give a function that draws a galaxy on a noisy sky."""
    return draw_cutout


def draw_cutouts(label, size=24, seed=0, corner=False):
    """Draw galaxies that are blue or red by class; or whose class shows in a corner alone."""
    rng = np.random.default_rng(seed)
    cutouts = []
    for number, c in enumerate(label):
        red = 1.0 if corner else (0.6, 1.6, 1.0)[c]
        cutout = draw_cutout(size, seed + number, width=rng.uniform(1.5, 2.2), red=red)
        if corner and c == 1:
            cutout[1:4, 1:4] = np.minimum(cutout[1:4, 1:4].astype(int) + 40, 255)
        cutouts.append(cutout)
    return np.stack(cutouts)


def make_colour_network(gain=8.0):
    """Return a network whose logits are plus and minus red less blue, which sees single pixels."""
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0, -1], [-1, 0, 1]]).reshape(2, 3, 1, 1))
        model[0].bias.zero_()
        model[3].weight.copy_(gain * torch.tensor([[-0.5, 0.5], [0.5, -0.5]]))
        model[3].bias.copy_(torch.tensor([0.25, -0.5]))
    return model.eval()


@pytest.fixture
def make_sample(make_store):
    """Give a function that makes a store with the maps of a network, and draws all of it."""
    numbers = itertools.count()

    def make(
        model=None, *others, n=24, corner=False, label=None, layer="", cutouts=None, **options
    ):
        import torch

        from galfig.attribution.gradcam import grad_cam
        from galfig.auditing.sample import Sample, draw_sample
        from galfig.networks.checkpoint import wrap_network
        from galfig.store.reader import open_store

        names = options.get("class_names", ("low", "high"))
        model = model or make_tiny_cnn(len(names))
        layer = layer or ("0" if len(model) == 4 else "1")
        label = np.arange(n) % len(names) if label is None else label
        cutouts = draw_cutouts(np.maximum(label, 0), corner=corner) if cutouts is None else cutouts
        networks = [
            wrap_network(one, class_names=names, mean=MEAN, std=STD, cutout_size=24, layer=layer)
            for one in (model, *others)
        ]
        batches = [
            grad_cam(one.model, one.normalise(cutouts), one.model.get_submodule(layer))
            for one in networks
        ]
        logits = torch.stack([batch.logits for batch in batches]).mean(dim=0)
        replaced = {
            "cutouts": cutouts,
            "label": label.astype(np.int16),
            "logits": logits.numpy(),
            "probs": logits.softmax(dim=1).numpy(),
            "cams": torch.stack([batch.cams for batch in batches]).mean(dim=0).numpy(),
        }
        attrs = {"target_layer": layer, **options.pop("attrs", {})}
        # Each has a file of its own, since the others may be open.
        name = f"maps-{next(numbers)}.h5"
        path = make_store(name, n=len(label), attrs=attrs, **{**replaced, **options})
        store = open_store(path)
        if others:
            # The store itself says nothing of several networks.
            return Sample(store, tuple(networks), np.arange(len(store)), 0, "cpu")
        return draw_sample(store, networks, n=None, seed=0, device="cpu")

    return make
