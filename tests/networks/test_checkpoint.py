"""Checkpoints: what is loaded is what was saved, and no code is ever run."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from galfig.errors import CheckpointError, OutputError
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import load_checkpoint, normalise, save_checkpoint

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
