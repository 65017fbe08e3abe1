"""Transfer: what is taken from other weights, what is frozen, and what does not fit."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from samples import CPU, make_checkpoint, make_settings, train

from galfig.catalog.galaxies import load_galaxies
from galfig.config import Settings, TrainingSettings
from galfig.errors import CheckpointError, ConfigError
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import load_checkpoint
from galfig.networks.main import load_or_train, train_checkpoint
from galfig.networks.recipe import describe_difference
from galfig.networks.transfer import load_start, name_head, read_start

HEAD = {"linear.weight", "linear.bias"}
CONV3 = Settings(training=TrainingSettings())


@pytest.fixture
def source(tmp_path):
    """Write the checkpoint of a conv3 for three classes."""
    path = tmp_path / "deep" / "source.safetensors"
    path.parent.mkdir()
    make_checkpoint(path, ("a", "b", "c"))
    return path


def state_of(path):
    return load_checkpoint(path).model.state_dict()


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("conv3", HEAD),
        ("xresnet18_mish_sa", {"11.weight", "11.bias"}),
        ("timm:resnet18", {"fc.weight", "fc.bias"}),
        ("torchvision:squeezenet1_1", {"classifier.1.weight", "classifier.1.bias"}),
        ("zoobot:test_resnet", {"head.linear.weight", "head.linear.bias"}),
    ],
)
def test_last_layer_is_what_follows_from_the_classes(arch, expected):
    """Its tensors are found by their shapes, whatever a library calls them."""
    assert name_head(Settings(training=TrainingSettings(arch=arch)), 2) == expected


def test_body_is_taken_and_last_layer_is_new(source):
    """Each tensor below the last layer is that of the file, which has other classes."""
    start = read_start(source, CONV3, 2)
    model = build_network("conv3", 2)
    random = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start.load_into(model)
    before, after = state_of(source), model.state_dict()
    assert set(start.tensors) == set(after) - HEAD
    for name in after:
        assert torch.equal(after[name], random[name] if name in HEAD else before[name])
    digest = load_checkpoint(source).digest
    assert start.origin == {"source": "source.safetensors", "sha256": digest, "arch": "conv3"}
    assert start.mean == (0.2, 0.2, 0.2)


@pytest.mark.parametrize("kind", ["plain", "prefix", "nested", "without its last layer", "tensors"])
def test_state_dicts_are_read(tmp_path, source, kind):
    """From torch.save and safetensors, with what wrappers put before the names."""
    expected = state_of(source)
    path, found = tmp_path / "weights.pt", dict(expected)
    if kind == "prefix":
        found = {f"model.{name}": tensor for name, tensor in found.items()}
    if kind == "without its last layer":
        found = {name: tensor for name, tensor in found.items() if name not in HEAD}
    if kind == "tensors":
        save_file(found, path)
    else:
        torch.save({"state_dict": found, "epoch": 3} if kind == "nested" else found, path)
    start = read_start(path, CONV3, 2)
    assert set(start.tensors) == set(expected) - HEAD
    assert all(torch.equal(tensor, expected[name]) for name, tensor in start.tensors.items())
    assert start.mean is None


def lose_filters(tensors):
    del tensors["conv2.0.weight"]


def add_filters(tensors):
    tensors["conv4.0.weight"] = torch.zeros(3)


def lose_channels(tensors):
    tensors["conv1.0.weight"] = torch.zeros(32, 1, 3, 3)


def spoil(tensors):
    tensors["conv1.0.weight"] = torch.full((32, 3, 3, 3), float("nan"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lose_filters, "1 missing: 'conv2.0.weight'"),
        (add_filters, "1 left over: 'conv4.0.weight'"),
        (lose_channels, r"'conv1.0.weight' is \(32, 1, 3, 3\), expected \(32, 3, 3, 3\)"),
        (spoil, "'conv1.0.weight' contains non-finite numbers"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, source, change, words):
    """The line says what is missing or left over; nothing is left at random in silence."""
    tensors = {name: tensor.clone() for name, tensor in state_of(source).items()}
    change(tensors)
    torch.save(tensors, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=words):
        read_start(tmp_path / "weights.pt", CONV3, 2)


def test_another_architecture_is_named(source):
    """A checkpoint says what it is of."""
    with pytest.raises(CheckpointError, match="a network conv3, expected xresnet18; set `arch="):
        read_start(source, Settings(training=TrainingSettings(arch="xresnet18")), 2)


def test_missing_file_and_whole_networks_are_refused(tmp_path, source):
    """Nothing is ever unpickled."""
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_start(tmp_path / "nosuch.pt", CONV3, 2)
    torch.save(load_checkpoint(source).model, tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match="only code could restore"):
        read_start(tmp_path / "whole.pt", CONV3, 2)


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"pretrained": True, "init": "a.pt"}, "exclude each other"),
        ({"freeze": 1}, "would keep random weights"),
        ({"freeze": 6, "init": "a.pt"}, "freeze 6 is more than epochs 5"),
        ({"body_lr_ratio": 0}, "greater than 0"),
        ({"body_lr_ratio": 1.5}, "less than or equal to 1"),
        ({"crop_margin": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(galaxy_folder, training, words):
    """Before anything is read."""
    with pytest.raises(ConfigError, match=words):
        make_settings(galaxy_folder, epochs=5, **training)


def test_network_of_several_outputs_is_refused(galaxy_folder, tmp_path):
    """GoogLeNet gives auxiliary logits in training, of which the loss knows nothing."""
    settings = make_settings(galaxy_folder, arch="torchvision:googlenet", image_size=64)
    with pytest.raises(ConfigError, match="gives a GoogLeNetOutputs in training, expected logits"):
        train_checkpoint(load_galaxies(settings), settings, tmp_path / "m.safetensors", run=CPU)


@pytest.mark.slow
def test_frozen_body_does_not_change(galaxy_folder, source, tmp_path):
    """Neither weights nor statistics of batch norm; with an epoch more, both do."""
    before, after = state_of(source), {}
    for n_epochs in (2, 3):
        settings = make_settings(galaxy_folder, init=source, freeze=2, epochs=n_epochs)
        path = tmp_path / f"{n_epochs}.safetensors"
        checkpoint = train(load_galaxies(settings), settings, path)
        assert len(checkpoint.metadata["history"]) == n_epochs
        after[n_epochs] = checkpoint.model.state_dict()
    body = [name for name in before if name not in HEAD]
    assert all(torch.equal(before[name], after[2][name]) for name in body)
    start = read_start(source, settings, 2)
    torch.manual_seed(0)
    assert not torch.equal(after[2]["linear.weight"], build_network("conv3", 2).linear.weight)
    assert set(start.tensors) == set(body)
    moved = [name for name in body if not torch.equal(before[name], after[3][name])]
    assert {"conv1.0.weight", "conv1.1.running_mean", "conv3.1.weight"} <= set(moved)


@pytest.mark.slow
def test_finder_leaves_a_frozen_body_alone(galaxy_folder, source, tmp_path):
    """It looks for the rate of the last layer, with the body as it is."""
    settings = make_settings(galaxy_folder, init=source, freeze=1, lr="auto")
    after = train(load_galaxies(settings), settings, tmp_path / "m.safetensors")
    before = state_of(source)
    assert all(
        torch.equal(before[name], tensor)
        for name, tensor in after.model.state_dict().items()
        if name not in HEAD
    )
    assert after.metadata["lr_finder"] is not None


def test_start_is_recorded(galaxy_folder, source, tmp_path):
    """With its digest and its normalisation, and without the folder that it lay in."""
    settings = make_settings(galaxy_folder, init=source)
    path = tmp_path / "m.safetensors"
    metadata = train_checkpoint(load_galaxies(settings), settings, path, run=CPU).metadata
    digest = load_checkpoint(source).digest
    assert metadata["start"]["sha256"] == metadata["recipe"]["init_digest"] == digest
    assert metadata["mean"] == [0.2, 0.2, 0.2]
    assert metadata["settings"]["training"]["init"] == "source.safetensors"
    assert metadata["recipe"]["training"]["init"] == "source.safetensors"
    assert b"deep" not in path.read_bytes()


def test_plain_training_records_none_of_it(galaxy_folder, tmp_path):
    """So that checkpoints of before stay up to date, to the byte."""
    settings = make_settings(galaxy_folder)
    recorded = settings.record()["training"]
    new = {"pretrained", "init", "freeze", "body_lr_ratio", "crop_margin"}
    assert not new & set(recorded)
    assert load_start(settings, 2) is None
    metadata = train(load_galaxies(settings), settings, tmp_path / "m.safetensors").metadata
    assert "start" not in metadata


@pytest.mark.slow
def test_other_weights_make_another_recipe(galaxy_folder, source, tmp_path):
    """The same file is trained from once; another under its name is noticed."""
    settings = make_settings(galaxy_folder, init=source)
    galaxies, path = load_galaxies(settings), tmp_path / "m.safetensors"
    first = load_or_train(galaxies, settings, path, run=CPU)
    assert load_or_train(galaxies, settings, path, run=CPU).digest == first.digest
    make_checkpoint(source.with_name("x.safetensors"), ("d", "e"))
    source.with_name("x.safetensors").replace(source)
    with pytest.raises(CheckpointError, match="the weights to start from are another file"):
        load_or_train(galaxies, settings, path, run=CPU)
    recipes = {"init_digest": "a"}, {"init_digest": "b"}
    assert "another file" in describe_difference(*recipes)


@pytest.mark.slow
def test_validation_galaxies_that_trained_the_weights_are_told(galaxy_folder, tmp_path, caplog):
    """Their accuracy is not that of galaxies which the network never saw."""
    settings = make_settings(galaxy_folder)
    first = tmp_path / "first.safetensors"
    train_checkpoint(load_galaxies(settings), settings, first, run=CPU)
    for seed, is_told in ((256, False), (1, True)):
        caplog.clear()
        again = make_settings(galaxy_folder, init=first)
        tables = again.model_dump(exclude_unset=True)
        tables["split"] = {"seed": seed}
        tables["catalog"]["path"] = str(again.catalog_path)
        tables["training"]["init"] = str(first)
        again = type(again).model_validate(tables)
        with caplog.at_level(logging.WARNING, "galfig"):
            path = tmp_path / f"{seed}.safetensors"
            train_checkpoint(load_galaxies(again), again, path, run=CPU)
        told = [words for words in caplog.messages if "trained these weights" in words]
        assert bool(told) == is_told


def test_body_has_a_rate_of_its_own(galaxy_folder):
    """A tenth of that of the last layer, through the whole schedule."""
    from galfig.networks.learner import make_learner
    from galfig.networks.training_set import read_training_set

    settings = make_settings(galaxy_folder, body_lr_ratio=0.1)
    galaxies, cutouts = read_training_set(load_galaxies(settings), settings)
    model = build_network("conv3", 2)
    learner = make_learner(
        model, galaxies, cutouts, settings.training, [0.2] * 3, [0.1] * 3, head=HEAD
    )
    learner.fit_one_cycle(1, slice(0.01, 0.1))
    body, head = learner.opt.param_lists
    assert [id(one) for one in head] == [id(one) for one in model.linear.parameters()]
    assert len(body) + len(head) == len(list(model.parameters()))
    rates = [group["lr"] for group in learner.opt.hypers]
    np.testing.assert_allclose(rates[0], rates[1] / 10)
    assert Path("models").exists() is False
