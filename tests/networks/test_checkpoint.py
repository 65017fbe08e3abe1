"""Checkpoints: what is loaded is what was saved, and no code is ever run."""

import json
import logging
import pickle
import resource

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from galfig.errors import CheckpointError, ConfigError, OutputError
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import (
    digest_content,
    load_checkpoint,
    normalise,
    save_checkpoint,
    wrap_network,
)

METADATA = {
    "arch": "conv3",
    "class_names": ["low", "high"],
    "layer": "conv3",
    "cutout_size": 96,
    "image_size": 64,
    "mean": [0.1, 0.2, 0.3],
    "std": [0.2, 0.2, 0.1],
}


@pytest.fixture
def checkpoint_path(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, build_network("conv3", 2), METADATA)
    return path


def test_normalise_is_fastai():
    """The network sees the very numbers that fastai's transforms gave it in training."""
    from fastai.data.transforms import IntToFloatTensor, Normalize
    from fastai.torch_core import TensorImage

    cutouts = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    batch = TensorImage(torch.from_numpy(cutouts).permute(0, 3, 1, 2))
    mean, std = METADATA["mean"], METADATA["std"]
    expected = Normalize.from_stats(mean, std, cuda=False)(IntToFloatTensor()(batch))
    assert torch.equal(normalise(cutouts, mean, std), torch.Tensor(expected))


@pytest.mark.parametrize("n_channels", [1, 3, 5])
def test_images_of_other_channels_are_not_normalised(n_channels):
    """torch would repeat one channel, and name shapes otherwise."""
    cutouts = np.zeros((2, 8, 8, n_channels), np.uint8)
    with pytest.raises(CheckpointError, match=f"cutouts of {n_channels} channels, expected 4"):
        normalise(cutouts, [0.2] * 4, [0.1] * 4)


def test_checkpoint_round_trip(checkpoint_path):
    """What is loaded is what was saved: tensors, metadata, evaluation mode."""
    torch.manual_seed(0)
    saved = build_network("conv3", 2)
    loaded = load_checkpoint(checkpoint_path)
    assert loaded.class_names == ("low", "high")
    assert loaded.layer_name == "conv3"
    assert (loaded.cutout_size, loaded.image_size) == (96, 64)
    assert loaded.metadata == {**METADATA, "format": 1, "digest": loaded.metadata["digest"]}
    assert not any(module.training for module in loaded.model.modules())
    assert all(
        torch.equal(tensor, saved.state_dict()[name])
        for name, tensor in loaded.model.state_dict().items()
    )


def test_checkpoint_bytes_are_the_same_each_time(tmp_path, checkpoint_path):
    """Saving the same network again gives the same bytes; a file is not replaced unasked."""
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, load_checkpoint(checkpoint_path).model, METADATA)
    assert again.read_bytes() == checkpoint_path.read_bytes()
    with pytest.raises(OutputError, match='use `if_exists="replace"`'):
        save_checkpoint(again, build_network("conv3", 2), METADATA)


class _Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was run')",))


@pytest.mark.parametrize("kind", ["pickle", "torch", "text", "no metadata", "missing", "format"])
def test_other_files_are_refused(tmp_path, kind):
    """Pickles are refused unread, with the reason; so are other files."""
    path = tmp_path / "model.safetensors"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(_Bomb()))
    elif kind == "torch":
        torch.save({"a": torch.zeros(1)}, path)
    elif kind == "text":
        path.write_text("hello, this is no model")
    elif kind == "no metadata":
        save_file({"a": torch.zeros(1)}, path)
    elif kind == "format":
        save_file({"a": torch.zeros(1)}, path, {"galfig": json.dumps({"format": 99})})
    message = {
        "pickle": "never loads pickles",
        "torch": "never loads pickles",
        "missing": "No such file",
        "format": "format 99, expected 1",
    }.get(kind, "not a galfig checkpoint")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_tensors_of_another_network_are_refused(tmp_path):
    """Tensors that do not fit the architecture named in the header are refused in one line."""
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="do not fit conv3") as caught:
        save_checkpoint(path, build_network("conv3", 5), METADATA)
    assert "\n" not in str(caught.value)


def write_by_hand(path, metadata, tensors=None):
    """Write a checkpoint as anyone can, sealed, without any check."""
    if tensors is None:
        tensors = {
            name: tensor.contiguous()
            for name, tensor in build_network("conv3", 2).state_dict().items()
        }
    metadata = {"format": 1, **metadata}
    metadata["digest"] = digest_content(metadata, tensors)
    save_file(tensors, path, {"galfig": json.dumps(metadata)})
    return path


LIES = {
    "layer misspelt": ({"layer": "conv4"}, r"layer 'conv4': not a layer of conv3.*did you mean"),
    "layer without maps": ({"layer": "linear"}, r"layer 'linear': not a layer of conv3 with"),
    "layer of no name": ({"layer": ""}, "its metadata layer: "),
    "five bands": (
        {"mean": [0.1] * 5, "std": [0.1] * 5},
        r"conv1.0.weight .*expected \(32, 5, 3, 3\)",
    ),
    "two bands": (
        {"mean": [0.1] * 2, "std": [0.1] * 2},
        r"conv1.0.weight .*expected \(32, 2, 3, 3\)",
    ),
    "one band": ({"mean": [0.1], "std": [0.1]}, r"conv1.0.weight is .*\(32, 3, 3, 3\)"),
    "unequal lengths": ({"std": [0.1]}, "metadata std: 1 numbers, expected 3, as many as mean"),
    "mean up to 255": ({"mean": [120.0] * 3}, r"metadata mean.0: 120, .*divide by 255"),
    "deviation up to 255": ({"std": [58.4] * 3}, r"metadata std.0: 58.4, .*divide by 255"),
    "huge mean": ({"mean": [1e308] * 3}, "metadata mean.0: "),
    "tiny deviation": ({"std": [1e-300] * 3}, "metadata std.0: "),
    "numbers as text": ({"mean": ["0.1"] * 3}, "metadata mean.0: "),
    "one class": ({"class_names": ["low"]}, "metadata class_names: "),
    "classes of one name": ({"class_names": ["low", "low"]}, "class_names: the same name twice"),
    "a blank name": ({"class_names": ["low", " "]}, "class_names: a name of blanks"),
    "an escape in a name": ({"class_names": ["\x1b]0;x\x07", "b"]}, r"class_names.0: holds"),
    "three classes": ({"class_names": ["a", "b", "c"]}, r"linear.(weight|bias) is \(2,"),
    "a hundred thousand classes": (
        {"class_names": [str(i) for i in range(10**5)]},
        "class_names: ",
    ),
    "no size": ({"cutout_size": 0}, "metadata cutout_size: "),
    "half a pixel": ({"image_size": 64.5}, "metadata image_size: "),
    "too large": ({"image_size": 10**9}, "metadata image_size: "),
    "an architecture of gigabytes": ({"arch": "vit_gigantic_patch14_224"}, "tensors are missing"),
    "an architecture elsewhere": ({"arch": "hf-hub:evil/model"}, "arch 'hf-hub:evil/model': unkn"),
    "architectures": ({"arch": ["conv3"]}, "metadata arch: "),
    "galaxies in words": ({"n_train": "many"}, "metadata n_train: "),
    "settings in words": ({"settings": "x"}, "metadata settings: "),
    "settings out of range": ({"settings": {"training": {"epochs": "x"}}}, "settings.training.ep"),
    "history in words": ({"history": "x"}, "metadata history: "),
    "a rate of 4000 digits": ({"lr": 10**4000}, "metadata lr: "),
    "images as a list": ({"images": [1]}, "metadata images: "),
    "deep": ({"history": json.loads("[" * 900 + "]" * 900)}, "not a galfig checkpoint"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_file_says_of_itself_is_checked_before_use(tmp_path, campaign, lie):
    """Metadata that cannot be true end in one line, when they are read and when written."""
    changed, message = LIES[lie]
    path = write_by_hand(tmp_path / "model.safetensors", {**METADATA, **changed})
    with campaign.trial("checkpoint that says what is not so"):
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        if lie == "deep":
            return
        with pytest.raises(CheckpointError, match=message):
            save_checkpoint(tmp_path / "new", build_network("conv3", 2), {**METADATA, **changed})
        assert not (tmp_path / "new").exists()


def test_small_file_allocates_nothing_large(tmp_path, campaign):
    """A file of a few kB names an architecture of 7 GB; it is refused by the shapes alone."""
    tensors = {"x": torch.zeros(1)}
    lie = {**METADATA, "arch": "vit_gigantic_patch14_224"}
    path = write_by_hand(tmp_path / "model.safetensors", lie, tensors)
    assert path.stat().st_size < 10_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        campaign.trial("checkpoint that says what is not so"),
        pytest.raises(CheckpointError, match=r"do not fit vit_gigantic_patch14_224 .*missing"),
    ):
        load_checkpoint(path)
    # In kB; the network itself has 1.8e9 numbers of 4 bytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_length_of_the_header_is_not_believed(tmp_path):
    """A header that claims to be longer than the file, or than any header."""
    for length in (200, 1 << 62):
        path = tmp_path / "model.safetensors"
        path.write_bytes(length.to_bytes(8, "little") + b'{"__metadata__":{}}')
        with pytest.raises(CheckpointError, match="not a galfig checkpoint"):
            load_checkpoint(path)


def test_tensors_of_another_implementation_are_named(tmp_path):
    """Names that are not those of the architecture, as from another library."""
    other = {
        f"backbone.{name}": one for name, one in build_network("conv3", 2).state_dict().items()
    }
    path = write_by_hand(tmp_path / "model.safetensors", METADATA, other)
    with pytest.raises(CheckpointError, match=r"17 tensors are missing.*another implementation\?"):
        load_checkpoint(path)


def test_layer_auto_is_resolved(tmp_path):
    """When a checkpoint is written, and where a file says so itself."""
    metadata = {**METADATA, "layer": "auto"}
    path = tmp_path / "model.safetensors"
    saved = save_checkpoint(path, build_network("conv3", 2), metadata)
    assert saved.layer_name == saved.metadata["layer"] == "conv3"
    assert load_checkpoint(write_by_hand(tmp_path / "hand", metadata)).layer_name == "conv3"


@pytest.mark.slow
def test_layer_within_a_branch_is_recorded(tmp_path):
    """A layer that only a part of the image flows through is taken, and the file says so."""
    model, metadata = build_network("xresnet18", 2), {**METADATA, "arch": "xresnet18"}
    saved = save_checkpoint(tmp_path / "m", model, {**metadata, "layer": "7.1.convpath"})
    assert saved.metadata["layer_is_bypassed"] is True
    assert saved.record.layer_is_bypassed
    again = {**saved.metadata, "layer": "7"}
    del again["digest"]
    saved = save_checkpoint(tmp_path / "n", saved.model, again)
    assert "layer_is_bypassed" not in saved.metadata


def make_module(*tail, n_channels=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(n_channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 2), *tail
    ).eval()  # fmt: skip


WRAPPED = {"class_names": ["a", "b"], "mean": [0.1] * 3, "std": [0.2] * 3, "cutout_size": 16}


@pytest.mark.parametrize(
    ("model", "changed", "message"),
    [
        (make_module(nn.Softmax(1)), {}, "`model`: its outputs are those of a softmax"),
        (make_module(nn.LogSoftmax(1)), {}, "`model`: its outputs are those of a log_softmax"),
        (make_module(n_channels=1), {}, r"takes images of one band, but `mean` and `std` have 3"),
        (make_module(n_channels=5), {}, r"takes images of 5 channels, but `mean` and `std` have 3"),
        (make_module(), {"mean": [123.7] * 3}, "`mean`: 123.7, .*divide by 255"),
        (make_module(), {"std": [0.2]}, "`std`: 1 numbers, expected 3"),
        (make_module(), {"class_names": ["a"]}, "`class_names`: "),
        (make_module(), {"class_names": ["a", "b", "c"]}, r"gives \(2, 2\) for 2 images, expected"),
        (make_module(), {"layer": "4"}, "layer '4': not a layer of Sequential"),
    ],
)
def test_module_that_is_not_what_it_is_taken_for_is_refused(model, changed, message):
    """Own networks are checked as files are, by a few images; the advice fits the fault."""
    with pytest.raises(ConfigError, match=message):
        wrap_network(model, **{**WRAPPED, **changed})


class Normalising(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 120.0))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 60.0))
        self.network = make_module()

    def forward(self, images):
        return self.network((images - self.mean) / self.std)


def test_module_that_does_more_than_it_should_is_warned_of(caplog):
    """A sigmoid at its end, or a normalisation of its own; sound modules give no warning."""
    with caplog.at_level(logging.WARNING, "galfig"):
        wrap_network(make_module(), **WRAPPED)
        assert caplog.messages == []
        wrap_network(make_module(nn.Sigmoid()), **WRAPPED)
        wrap_network(Normalising().eval(), **WRAPPED)
    first, second = caplog.messages
    assert "ends in a sigmoid" in first
    assert "Normalising seems to normalise images" in second
    assert "std 1/255" in second
