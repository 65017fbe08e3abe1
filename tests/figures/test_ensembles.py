"""Figures of several networks: captions say so, and curves are those of all of them."""

import json
import re

import numpy as np
import pytest
from samples import HISTORY, LOSSES, RATES, describe_networks

from galfig.figures.captions import PLAIN
from galfig.figures.registry import draw_figure
from galfig.manuscript.values import describe_store
from galfig.store.reader import open_store
from galfig.store.selection import Query

TRAINING = {"arch": "conv3", "n_train": {"low": 20, "high": 22}, "n_valid": {"low": 6, "high": 6}}


@pytest.fixture
def path(make_store):
    """Write the store of five networks, which found their learning rates."""
    attrs = describe_networks(5)
    networks = json.loads(attrs["networks"])
    for number, network in enumerate(networks):
        network["lr"] = 0.01 * (number + 1)
        network["lr_finder"] = {"lr": RATES.tolist(), "loss": LOSSES.tolist()}
    attrs["networks"] = json.dumps(networks)
    return make_store(
        "ensemble.h5", n_networks=5, attrs={**attrs, "training": json.dumps(TRAINING)}
    )


def draw(name, path):
    query = Query(n=None if name in ("training-curves", "learning-rate") else 3)
    with draw_figure(name, path, query) as (drawing, _):
        return drawing, drawing.describe(PLAIN)


@pytest.mark.parametrize("name", ["panels", "top-losses", "stacked-maps"])
def test_captions_say_what_maps_are_the_mean_of(path, store_path, name):
    """How many networks, how far they agree, and that their mean has the accuracy."""
    _, caption = draw(name, path)
    with open_store(path) as store:
        agreement = np.median(store.agreement)
    assert "; they are means over 5 networks, whose evidence maps of a galaxy have" in caption
    assert f"correlation of {agreement:.2f} in the median over pairs and galaxies." in caption
    assert "The network, conv3, averages the logits of 5 networks that were trained on" in caption
    assert re.search(r"with different seeds,? .*their mean classifies", caption)
    _, alone = draw(name, store_path)
    assert "means over" not in alone
    assert "averages the logits" not in alone


@pytest.mark.parametrize("name", ["roc", "confusion-matrix", "reliability", "histogram"])
def test_charts_are_of_the_averaged_network(path, name):
    """Its accuracy is that of the mean logits, and no single network's."""
    _, caption = draw(name, path)
    assert "averages the logits of 5 networks that were trained on" in caption


def test_training_curves_are_of_all_networks(path):
    """The first in full, the others as thin curves of its colours; the table has them all."""
    drawing, caption = draw("training-curves", path)
    losses, metrics = drawing.pages[0].axes
    first = [line for line in losses.lines if not line.get_label().startswith("_")]
    thin = [line for line in losses.lines if line.get_label().startswith("_")]
    assert [line.get_label() for line in first] == ["training", "validation"]
    assert len(thin) == 2 * 4
    expected = [row["train_loss"] + 0.04 for row in HISTORY]
    assert any(np.allclose(line.get_ydata(), expected) for line in thin)
    assert {line.get_color() for line in thin} == {line.get_color() for line in first}
    assert len(metrics.lines) == 3 * 5
    assert "of the first of 5 networks with different seeds, and, as thin curves, of the" in caption
    assert "they classify 80.0 to 84.0 % correctly, each by itself, and 82.0 %" in caption
    table = drawing.tabulate()
    assert list(table["network"].values) == [number for number in range(1, 6) for _ in HISTORY]


def test_learning_rate_is_that_of_the_first_network(path):
    """The caption gives the range of the others."""
    _, caption = draw("learning-rate", path)
    assert "The curve is that of the first of 5 networks with different seeds" in caption
    assert "lie between 0.01 and 0.05" in caption


def test_macros_of_a_manuscript(path, store_path):
    """Count the networks and give their agreement."""
    with open_store(path) as store:
        found = describe_store("x", store)
        assert found["xNNetworks"] == "5"
        assert found["xAgreement"] == f"{np.median(store.agreement):.2f}"
    with open_store(store_path) as store:
        assert "xNNetworks" not in describe_store("x", store)
