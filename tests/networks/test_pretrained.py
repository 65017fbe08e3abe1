"""Pretrained weights: taken as their library gives them, or refused in a line."""

from urllib.error import URLError

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from samples import make_settings, train
from torchvision import models

from galfig.catalog.galaxies import load_galaxies
from galfig.errors import ConfigError
from galfig.networks.pretrained import fetch_weights
from galfig.networks.transfer import load_start
from galfig.runtime.options import OFFLINE

# Mean of each channel in the training of the weights.
IMAGENET, HALF = (0.485, 0.456, 0.406), (0.5, 0.5, 0.5)


@pytest.fixture(autouse=True)
def without_network(tmp_path, monkeypatch):
    """Leave both libraries nothing but their caches, which are empty."""

    def refuse(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def cache_torchvision(folder, name):
    """Write random weights where torchvision looks for its own; return them."""
    torch.manual_seed(1)
    tensors = models.get_model(name).state_dict()
    file = (
        folder / "torch/hub/checkpoints" / models.get_model_weights(name).DEFAULT.url.split("/")[-1]
    )
    file.parent.mkdir(parents=True)
    torch.save(tensors, file)
    return tensors


def cache_timm(folder, name):
    """Write random weights where timm looks for its own; return them."""
    torch.manual_seed(1)
    tensors = timm.create_model(name).state_dict()
    owner, repository = timm.get_pretrained_cfg(name).hf_hub_id.split("/")
    repo = folder / "hub" / f"models--{owner}--{repository}"
    commit = "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    save_file(tensors, repo / "snapshots" / commit / "model.safetensors")
    return tensors


@pytest.mark.parametrize(
    ("arch", "source", "head"),
    [
        (
            "torchvision:squeezenet1_1",
            "torchvision SqueezeNet1_1_Weights.IMAGENET1K_V1",
            "classifier.1",
        ),
        ("timm:test_resnet", "timm test_resnet.r160_in1k", "fc"),
        ("test_resnet", "timm test_resnet.r160_in1k", "fc"),
        ("timm:test_resnet.r160_in1k", "timm test_resnet.r160_in1k", "fc"),
    ],
)
def test_weights_are_those_of_the_library(tmp_path, galaxy_folder, arch, source, head):
    """All but the last layer, with their digest and the normalisation of their training."""
    cache = cache_torchvision if arch.startswith("torchvision") else cache_timm
    expected = cache(tmp_path, "squeezenet1_1" if head != "fc" else "test_resnet")
    start = load_start(make_settings(galaxy_folder, arch=arch, pretrained=True), 2)
    assert set(start.tensors) == set(expected) - {f"{head}.weight", f"{head}.bias"}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in start.tensors.items())
    assert start.origin["source"] == source
    assert len(start.origin["sha256"]) == 64
    assert start.mean == (HALF if head == "fc" else IMAGENET)


def test_digest_is_that_of_the_tensors(tmp_path, galaxy_folder):
    """Other weights under the same name have another."""
    settings = make_settings(galaxy_folder, arch="timm:test_resnet", pretrained=True)
    cache_timm(tmp_path, "test_resnet")
    file = next((tmp_path / "hub").rglob("model.safetensors"))
    digests = {load_start(settings, n).origin["sha256"] for n in (2, 2, 3)}
    tensors = timm.create_model("test_resnet").state_dict()
    save_file(tensors, file)
    assert len(digests) == 1
    assert load_start(settings, 2).origin["sha256"] not in digests


def test_timm_adapts_its_weights_to_one_band(tmp_path, galaxy_folder):
    """The first filters are summed over the colours; the statistics are those of the images."""
    expected = cache_timm(tmp_path, "test_resnet")
    settings = make_settings(
        galaxy_folder, arch="timm:test_resnet", pretrained=True, grayscale=True
    )
    start = load_start(settings, 2)
    first = next(name for name, one in expected.items() if one.dim() == 4)
    torch.testing.assert_close(start.tensors[first], expected[first].sum(dim=1, keepdim=True))
    assert start.mean is None


@pytest.mark.parametrize(
    ("arch", "n_channels", "words"),
    [
        ("conv3", 3, "conv3 is no network of timm or torchvision"),
        ("xresnet18_mish", 3, "is no network of timm"),
        ("zoobot:resnet18", 3, "is no network of timm"),
        ("timm:darknet17", 3, "has no weights in timm"),
        ("timm:resnet18.nosuch", 3, "no weights of this tag, only a1_in1k"),
        ("torchvision:mnasnet0_5", 1, "weights for images of 3 channels, not of 1"),
        ("timm:test_resnet", 3, "could not be downloaded.*train once where there is a network"),
        ("torchvision:squeezenet1_1", 3, "could not be downloaded.*no network"),
    ],
)
def test_what_cannot_be_had_is_refused(arch, n_channels, words):
    """One line says whether nobody has weights, or whether they cannot be reached."""
    with pytest.raises(ConfigError, match=words):
        fetch_weights(arch, 2, n_channels)


def test_nothing_is_downloaded_where_that_is_forbidden(tmp_path, monkeypatch):
    """As in the steps of a manuscript, whose settings may be anybody's; a cache does not matter."""
    cache_timm(tmp_path, "test_resnet")
    monkeypatch.setenv(OFFLINE, "1")
    with pytest.raises(ConfigError, match=r"nothing is downloaded here \(GALFIG_OFFLINE is set"):
        fetch_weights("timm:test_resnet", 2, 3)


@pytest.mark.slow
def test_pretrained_network_is_trained(tmp_path, galaxy_folder):
    """From the cache to a checkpoint, which says where it started."""
    cache_timm(tmp_path, "test_resnet")
    settings = make_settings(
        galaxy_folder, arch="timm:test_resnet", pretrained=True, freeze=1, epochs=2, image_size=64
    )
    metadata = train(load_galaxies(settings), settings, tmp_path / "m.safetensors").metadata
    assert metadata["start"]["source"] == "timm test_resnet.r160_in1k"
    assert metadata["mean"] == list(HALF)
    assert metadata["settings"]["training"]["pretrained"] is True
