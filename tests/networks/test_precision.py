"""Precision: bfloat16 where the machine has it, and numbers that are those of the network."""

import numpy as np
import pytest
import torch
from samples import make_settings, train
from torch import nn

from galfig.catalog.galaxies import load_galaxies
from galfig.errors import CheckpointError, ConfigError
from galfig.info import describe_file
from galfig.networks import precision as module
from galfig.networks.checkpoint import load_checkpoint
from galfig.networks.main import load_or_train
from galfig.networks.precision import choose_precision, computing_in
from galfig.networks.training_set import read_training_set


@pytest.fixture
def processor(monkeypatch):
    """Give the processor features."""

    def give(**features):
        monkeypatch.setattr(module, "_list_cpu_features", lambda: features)

    return give


def test_precision_follows_the_processor(processor):
    for features in ({"amx_bf16": True}, {"avx512_bf16": True}, {"bf16": True}):
        processor(**features)
        assert choose_precision("auto") == choose_precision("bfloat16") == "bfloat16"
        assert choose_precision("float32") == "float32"
    for features in ({}, {"avx512_f": True, "avx512_bf16": False}):
        processor(**features)
        assert choose_precision("auto") == choose_precision("float32") == "float32"
        with pytest.raises(ConfigError, match='`precision="bfloat16"`: this machine would imitate'):
            choose_precision("bfloat16")


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((8, 0), "bfloat16")])
def test_precision_follows_the_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", "cuda") == expected


def test_training_rounds_and_validation_does_not():
    """Logits of a training step are rounded float32; those of a validation are exact."""
    torch.manual_seed(0)
    network, images = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()), torch.randn(2, 3, 8, 8)
    exact = network.train()(images).detach()
    with computing_in(network, "bfloat16"):
        rounded = network(images)
        assert rounded.dtype == torch.float32
        rounded.sum().backward()
        # A network whose lower layers are frozen is in evaluation mode while it trains.
        assert torch.equal(network.eval()(images), rounded)
        with torch.no_grad():
            assert torch.equal(network(images), exact)
    assert {one.dtype for one in network.parameters()} == {torch.float32}
    assert network[0].weight.grad.dtype == torch.float32
    error = float((rounded - exact).detach().abs().max())
    assert 1e-4 < error < 2e-2
    assert torch.equal(network.train()(images), exact)
    with computing_in(network, "float32"):
        assert "forward" not in vars(network)


def test_checkpoint_says_its_precision_and_its_metrics_are_its_own(
    galaxy_folder, tmp_path, processor
):
    """A network trained in bfloat16 is float32, and its accuracy that of its float32 logits."""
    processor(avx512_bf16=True)
    path, settings = tmp_path / "m.safetensors", make_settings(galaxy_folder, precision="bfloat16")
    plain = train(load_galaxies(settings), make_settings(galaxy_folder), tmp_path / "p.safetensors")
    assert "precision" not in plain.metadata
    assert "precision" not in plain.metadata["settings"]["training"]
    checkpoint = train(load_galaxies(settings), settings, path)
    assert checkpoint.metadata["precision"] == checkpoint.record.precision == "bfloat16"
    assert describe_file(path)["precision"] == "bfloat16"
    weights = checkpoint.model.state_dict()
    assert {one.dtype for one in weights.values() if one.is_floating_point()} == {torch.float32}
    assert not torch.equal(weights["linear.weight"], plain.model.state_dict()["linear.weight"])
    galaxies, cutouts = read_training_set(load_galaxies(settings), settings)
    with torch.no_grad():
        logits = checkpoint.model(checkpoint.normalise(cutouts[galaxies.in_valid])).double()
    labels = torch.tensor(galaxies.label[galaxies.in_valid].astype(np.int64))
    loss = float(nn.functional.cross_entropy(logits, labels))
    assert checkpoint.metadata["metrics"]["valid_loss"] == pytest.approx(loss, rel=1e-4)


def test_precision_is_part_of_the_recipe(galaxy_folder, tmp_path, processor):
    processor(avx512_bf16=True)
    path, settings = tmp_path / "m.safetensors", make_settings(galaxy_folder)
    galaxies = load_galaxies(settings)
    load_or_train(galaxies, settings, path)
    other = make_settings(galaxy_folder, precision="bfloat16")
    with pytest.raises(CheckpointError, match=r"\[training\] precision none, now 'bfloat16'"):
        load_or_train(galaxies, other, path)
    load_or_train(galaxies, other, path, if_exists="update")
    before = path.read_bytes()
    load_or_train(galaxies, other, path)
    assert path.read_bytes() == before
    assert load_checkpoint(path).record.settings.training.precision == "bfloat16"
