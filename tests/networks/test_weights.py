"""Weights: read from every container without running anything, and matched by name."""

import argparse
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from galfig.errors import CheckpointError
from galfig.networks.weights import (
    describe_match,
    match_names,
    read_weights,
    take_by_name,
    take_by_order,
)

TENSORS = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}
SHAPES = {name: tuple(one.shape) for name, one in TENSORS.items()}


class _Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was run')",))


class _Settings:
    """An object that only its own code could restore."""


def make_opt():
    """Return the state of an optimiser as fastai keeps it: lists of its own, numbers of numpy."""
    from fastcore.foundation import L

    return {"state": [{"step": np.float64(1)}], "hypers": L({"lr": np.float64(1e-3)})}


CONTAINERS = {
    "state dict": lambda: TENSORS,
    "fastai": lambda: {"model": TENSORS, "opt": make_opt()},
    "lightning": lambda: {
        "state_dict": TENSORS,
        "hyper_parameters": {"path": Path("x"), "all": argparse.Namespace(lr=1)},
        "epoch": 3,
    },
    "compiled": lambda: {f"_orig_mod.{name}": one for name, one in TENSORS.items()},
    "with settings": lambda: {**TENSORS, "_extra_state": {"a": 1}},
}


@pytest.mark.parametrize("kind", [*CONTAINERS, "safetensors"])
def test_the_tensors_of_every_container_are_found(tmp_path, kind):
    """Whatever lies beside them, and in the order of the file."""
    path = tmp_path / "weights.pt"
    if kind == "safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(CONTAINERS[kind](), path)
    allowed = torch.serialization.get_safe_globals()
    found = read_weights(path)
    assert set(found.tensors) == set(TENSORS)
    assert all(torch.equal(found.tensors[name], TENSORS[name]) for name in TENSORS)
    assert len(found.sha256) == 64
    # What galfig lets torch read past is forgotten.
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


def pack(path):
    """Write an archive that unpacks to a thousand times its size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)


REFUSED = {
    "bomb": ({"state_dict": {**TENSORS, "x": _Bomb()}}, "calls '.*exec'.*do not load it"),
    "settings": (
        {"state_dict": TENSORS, "hyper_parameters": _Settings()},
        r"holds an object \(.*_Settings\), which only code.*\['state_dict'\], 'weights.pt'",
    ),
    "whole network": (torch.nn.Linear(2, 2), r"holds a whole network.*\.state_dict\(\)"),
    "no tensors": ({"epoch": 1}, "holds no tensors by name.*'epoch'"),
    "a list": ([1, 2], "holds a list, expected tensors by name"),
    "sparse": ({"a": torch.eye(2).to_sparse()}, "'a' is sparse"),
    "meta": ({"a": torch.ones(2, device="meta")}, "'a' is sparse, quantised or empty"),
}


@pytest.mark.parametrize(
    "function",
    [os.system, subprocess.Popen, shutil.rmtree, eval, sys.exit],
    ids=lambda function: function.__name__,
)
def test_a_file_that_calls_functions_is_not_to_be_loaded_at_all(tmp_path, function):
    """No advice says how to load it all the same."""

    class Call:
        def __reduce__(self):
            return function, ("true",)

    path = tmp_path / "weights.ckpt"
    torch.save({"state_dict": {**TENSORS, "x": Call()}}, path)
    with pytest.raises(CheckpointError, match=r"calls '.*'.*do not load it") as caught:
        read_weights(path)
    assert "weights_only=False" not in str(caught.value)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_state_dict_is_refused_in_one_line(tmp_path, kind):
    """Nothing is run; the line says what was found, and how to get a state dict."""
    path, (saved, words) = tmp_path / "weights.ckpt", REFUSED[kind]
    path = path.with_suffix(".pt") if kind == "whole network" else path
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path):
    """Text, half a file, an archive that unpacks to more than it holds, and no file at all."""
    path = tmp_path / "weights.pt"
    path.write_text("hello, these are no weights")
    with pytest.raises(CheckpointError, match="weights"):
        read_weights(path)
    buffer = io.BytesIO()
    torch.save(TENSORS, buffer)
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_weights(path)
    pack(path)
    with pytest.raises(CheckpointError, match="unpacks to 1000000 bytes"):
        read_weights(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_weights(tmp_path / "none.pt")


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "encoder.", "net.backbone.model."])
def test_prefixes_are_found_by_themselves(prefix):
    """And what a training keeps beside the network is told apart."""
    found = {f"{prefix}{name}": shape for name, shape in SHAPES.items()}
    match = match_names({**found, "criterion.weight": (2,)}, SHAPES)
    assert match.fits
    assert match.prefix == prefix
    assert match.outside == ["criterion.weight"]
    tensors = {f"{prefix}{name}": tensor for name, tensor in TENSORS.items()}
    assert set(take_by_name(tensors, match, SHAPES)) == set(SHAPES)


def test_the_network_itself_comes_before_its_moving_average():
    """Both fit; the shorter name is taken."""
    found = {f"{p}.{name}": shape for p in ("ema_model", "model") for name, shape in SHAPES.items()}
    assert match_names(found, SHAPES).prefix == "model."


def test_what_does_not_fit_is_listed():
    """By name: missing, left over, of another shape; the counters of batch norm do not count."""
    found = {"conv.weight": (5, 3), "norm.weight": (2,), "norm.num_batches_tracked": ()}
    expected = {**SHAPES, "bn.num_batches_tracked": ()}
    match = match_names(found, expected)
    assert not match.fits
    assert describe_match(match, found, expected) == (
        "1 missing: 'conv.bias'; 1 left over: 'norm.weight'; 1 of another shape: "
        "'conv.weight' is (5, 3), expected (2, 3)"
    )


def test_by_order_needs_equal_shapes():
    """Names do not count, nor do counters."""
    tensors = {
        "a": TENSORS["conv.weight"],
        "n.num_batches_tracked": torch.tensor(0),
        "b": torch.ones(2),
    }
    taken = take_by_order(tensors, SHAPES)
    assert list(taken) == list(SHAPES)
    assert torch.equal(taken["conv.weight"], TENSORS["conv.weight"])
    assert take_by_order({"a": torch.ones(2)}, SHAPES).startswith("'a' is (2,), where")
    assert take_by_order({"a": TENSORS["conv.weight"]}, SHAPES) == "1 tensors, expected 2"
