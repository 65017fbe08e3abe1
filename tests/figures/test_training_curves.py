"""Training curves: the history, an epoch a point."""

import json

import pytest
from samples import HISTORY

from galfig.figures.captions import PLAIN, describe_smoothing
from galfig.figures.registry import draw_figure
from galfig.figures.training_curves import make_training_curves
from galfig.records import Epoch
from galfig.store.selection import Query

BINS = {
    "column": "oh_p50",
    "edges": [8.1, 8.7, 9.1, 9.3],
    "labels": ["low", "medium", "high"],
    "name": "metallicity",
}
TRAINING = {
    "arch": "conv3",
    "n_train": {"high": 36, "low": 47},
    "n_valid": {"high": 10, "low": 15},
    "simulated": False,
    "history": HISTORY,
    "metrics": {"accuracy": 0.8, "balanced_accuracy": 0.75},
    "settings": {"classes": BINS, "training": {"batch_size": 16}},
    "lr": 0.01,
    "lr_finder": {"lr": [1e-7, 1e-3, 1.0], "loss": [0.7, 0.5, 0.4]},
}


def describe(make_store, training, name="training-curves", **attrs):
    """Return the plain caption of a figure of the training."""
    path = make_store(attrs={"training": json.dumps(training), "simulated": False, **attrs})
    with draw_figure(name, path, Query(n=None)) as (drawing, _):
        return drawing.describe(PLAIN)


def test_training_curves_show_the_history():
    """Two losses and three metrics, an epoch a point."""
    losses, metrics = make_training_curves([Epoch(**row) for row in HISTORY]).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in [*losses.lines, *metrics.lines]}
    assert drawn == {
        "training": [0.7, 0.5],
        "validation": [0.6, 0.5],
        "accuracy": [0.6, 0.8],
        "ROC AUC": [0.7, 0.9],
        "F1": [0.55, 0.79],
    }
    assert list(losses.lines[0].get_xdata()) == [1, 2]
    assert losses.get_ylim()[0] == 0


@pytest.mark.parametrize("name", ["training-curves", "learning-rate"])
def test_caption_is_of_the_training_alone(make_store, name):
    """The galaxies of the store may be others, of other classes, that are unlike the training's."""
    attrs = {
        "config": json.dumps({"classes": {**BINS, "column": "logMstar", "name": "mass"}}),
        "class_counts": json.dumps({"low": 6, "medium": 31, "high": 6}),
        "image_shift": json.dumps(
            {"is_unlike": True, "measure": "offset", "value": 2.0, "threshold": 1.0}
        ),
        "accuracy_check": json.dumps(
            {"n": 12, "accuracy": 0.2, "majority_share": 0.5, "warning": "does badly"}
        ),
        "simulated": True,
    }
    words = describe(make_store, TRAINING, name, **attrs)
    assert words.endswith(
        "\nThe classes are intervals of oh_p50: low-metallicity (8.1, 8.7] and high-metallicity "
        "(9.1, 9.3], without galaxies of class medium.\nThe network, conv3, was trained on 83 "
        "galaxies, and of the galaxies of the validation set it classifies 20 of 25 correctly "
        "(80.0 %; always predicting low-metallicity would give 60.0 %, and the balanced accuracy "
        "is 75.0 %, where any guess has 50.0 %).\n"
    )
    for alien in ("mass", "logMstar", "31", "unlike", "In a check", "simulated"):
        assert alien not in words


def test_accuracy_is_that_of_the_record(make_store):
    """By the last epoch where there are no metrics, and none without a validation set."""
    training = {key: value for key, value in TRAINING.items() if key != "metrics"}
    words = describe(make_store, training)
    assert "it classifies 20 of 25 correctly (80.0 %; always predicting low-metallicity" in words
    assert "balanced" not in words
    words = describe(make_store, {**training, "n_valid": {}})
    assert words.endswith("The network, conv3, was trained on 83 galaxies.\n")
    words = describe(make_store, {**training, "simulated": True})
    assert "was trained on 83 simulated galaxies" in words
    assert words.endswith("All images and labels of the training are simulated.\n")


def test_smoothing_is_that_of_fastai():
    """An average over all steps, of which the last 50 have most of the weight."""
    learner = pytest.importorskip("fastai.learner")
    torch = pytest.importorskip("torch")

    class Step:
        loss = torch.tensor(0.0)

    weights = []
    for start in (0, 450):
        average, step = learner.AvgSmoothLoss(), Step()
        average.reset()
        for number in range(500):
            step.loss = torch.tensor(float(number >= start))
            average.accumulate(step)
        weights.append(float(average.value))
    assert weights[0] == pytest.approx(1)
    assert 0.6 < weights[1] < 0.7
    assert describe_smoothing(None) == describe_smoothing(51)
    assert describe_smoothing(50) == "an exponential average over all steps so far"


def test_smoothing_counts_the_steps_of_the_training(make_store):
    """Two epochs of five batches of 16 of 83 galaxies; smaller batches make more steps."""
    assert "is an exponential average over all steps so far, and so" in describe(
        make_store, TRAINING
    )
    for batch_size in (2, 3):
        settings = {"classes": BINS, "training": {"batch_size": batch_size}}
        words = describe(make_store, {**TRAINING, "settings": settings})
        assert "over all steps so far, mostly the last 50, and so lags behind." in words


def test_statistics_of_batch_norm_are_told_where_there_are_any(make_store):
    """The last point of a curve is of a network whose statistics were computed anew."""
    torch = pytest.importorskip("torch")
    from galfig.networks.architectures import build_network

    words = "before the last measurement, the statistics of batch norm are computed anew"
    for arch in ("conv3", "xresnet18"):
        kinds = [type(part) for part in build_network(arch, 2, 3).modules()]
        assert torch.nn.BatchNorm2d in kinds
        assert words in describe(make_store, {**TRAINING, "arch": arch})
    assert "batch norm, if the network has any, are computed anew" in describe(
        make_store, {**TRAINING, "arch": "convnext_tiny"}
    )


def test_parts_of_a_training_are_told(make_store):
    """The average begins anew where more than the last layer is trained, on random crops."""
    settings = {"classes": BINS, "training": {"epochs": 2, "freeze": 1, "pretrained": True}}
    settings["training"] |= {"crop_margin": 4, "arch": "timm:resnet18"}
    words = describe(make_store, {**TRAINING, "arch": "timm:resnet18", "settings": settings})
    assert "on galaxies that are cropped, turned and flipped at random, is" in words
    assert (
        "and so lags behind; it begins anew after the first epoch, which trains the last layer "
        "alone.\n" in words
    )
    assert "batch norm, if the network has any, are computed anew" in words
    settings["training"]["freeze"] = 2
    words = describe(make_store, {**TRAINING, "arch": "timm:resnet18", "settings": settings})
    assert "begins anew" not in words
    assert "computed anew" not in words
