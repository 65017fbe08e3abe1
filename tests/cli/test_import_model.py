"""import-model and layers as their users meet them."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torchvision.transforms.functional import normalize, to_tensor

from galfig.cli import main
from galfig.networks.architectures import build_network

STATISTICS = ["--mean", "0.3,0.3,0.3", "--std", "0.2,0.2,0.2", "--cutout-size", 48]


def run(*args, code=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def weights(galaxy_folder, monkeypatch):
    """Write weights of conv3 and its probabilities, and work in their folder."""
    torch.manual_seed(0)
    model = build_network("conv3", 2).eval()
    model.linear.weight.data *= 10
    torch.save({"state_dict": model.state_dict()}, galaxy_folder / "weights.ckpt")
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype=str)[["objID"]]
    files = [galaxy_folder / "images" / f"{name}.jpg" for name in table["objID"]]
    images = torch.stack(
        [normalize(to_tensor(Image.open(file)), [0.3] * 3, [0.2] * 3) for file in files]
    )
    with torch.no_grad():
        table[["blue", "red"]] = model(images).softmax(dim=1).numpy()
    table.to_csv(galaxy_folder / "original.csv", index=False)
    monkeypatch.chdir(galaxy_folder)
    return "weights.ckpt"


def test_from_weights_to_layers(weights):
    """One command imports, and says on stdout how it was checked; a second lists the layers."""
    arguments = [weights, "--arch", "conv3", "--classes", "blue,red", *STATISTICS]
    result = run("import-model", *arguments, "--check", "original.csv", "--n-train", "10,12")
    assert result.stdout.startswith(
        "model.safetensors: conv3 for blue, red, explains layer conv3; agrees with the original "
        "for 24 galaxies, to "
    )
    described = json.loads(run("info", "model.safetensors", "--json").stdout)
    assert described["imported"]["n_checked"] == 24
    assert described["n_train"] == {"blue": 10, "red": 12}
    words = run("layers", "model.safetensors").stdout.splitlines()
    assert words[0].split() == ["layer", "maps", "field", "[px]", "95", "%", "[px]"]
    (default,) = [line for line in words if "default" in line]
    assert default.startswith("conv3 ")
    assert "128 × 48 × 48" in default
    listed = json.loads(run("layers", "model.safetensors", "--json").stdout)
    assert [layer["field"]["side"] for layer in listed if layer["is_default"]] == [7]
    refused = run("import-model", *arguments, code=1)
    assert "already exists; use --overwrite" in refused.stderr


def test_a_wrong_order_ends_in_one_line(weights):
    """With the option and its value that make it right."""
    result = run(
        *("import-model", weights, "--arch", "conv3", "--classes", "red,blue", *STATISTICS),
        *("--check", "original.csv", "-q"),
        code=1,
    )
    assert result.stderr.count("\n") == 1
    assert "with the classes in the order --classes blue,red" in result.stderr


def test_without_check_a_warning(weights):
    """On stderr, and on stdout."""
    result = run("import-model", weights, "--arch", "conv3", "--classes", "blue,red", *STATISTICS)
    assert "warning: model.safetensors: not checked against the original network" in result.stderr
    assert result.stdout.endswith("; not checked\n")


def test_numbers_are_checked(weights):
    """Words for numbers, and counts for another number of classes."""
    arguments = ["import-model", weights, "--arch", "conv3", "--classes", "blue,red"]
    result = run(*arguments, "--mean", "a,b", "--std", "1,1,1", "--cutout-size", 48, code=2)
    assert "'a,b' are not numbers with commas between them" in result.stderr
    result = run(*arguments, *STATISTICS, "--n-train", "3", code=2)
    assert "--n-train: 1 numbers for 2 classes" in result.stderr
    result = run(*arguments, *STATISTICS, "--n-train", "3,2.5", code=2)
    assert "--n-train: expected whole numbers" in result.stderr


OWN = """
from galfig.networks.architectures import build_network

def make(n_classes):
    return build_network("conv3", n_classes)
"""


def test_own_code_is_named_again(weights):
    """layers and build-maps ask for it, in one line; verify and info need it not."""
    Path("code_of_mine.py").write_text(OWN)
    arch = ["--arch", "python:code_of_mine:make"]
    run("import-model", weights, *arch, "--classes", "blue,red", *STATISTICS)
    for command in (
        ["layers", "model.safetensors"],
        ["build-maps", "--model", "model.safetensors"],
    ):
        more = [] if command[0] == "layers" else ["--catalog", "catalog.csv"]
        result = run(*command, *more, code=1)
        assert "if it is your code, give it again as --arch" in result.stderr
    assert "default" in run("layers", "model.safetensors", *arch).stdout
    described = json.loads(run("info", "model.safetensors", "--json").stdout)
    assert described["arch"] == "python:code_of_mine:make"
    assert run("verify", "model.safetensors").exit_code == 0
