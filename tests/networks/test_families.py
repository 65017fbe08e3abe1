"""Families: networks of other libraries by name, and code of one's own only on request."""

import sys

import pytest
import torch

from galfig.errors import ConfigError
from galfig.networks.architectures import build_network
from galfig.networks.families import (
    build_member,
    build_own,
    import_fastai,
    list_relatives,
    parse_arch,
)

OWN = """
import torch
from torch import nn

def make(n_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, n_classes))

def number(): return 3

def fails(): raise OSError("no such weights")
"""


def shapes(model):
    return {name: tuple(one.shape) for name, one in model.state_dict().items()}


def test_fastai_is_what_vision_learner_makes():
    """Body, concatenated pooling and two linear layers, with the names of the original."""
    from torchvision.models import squeezenet1_1

    create_vision_model = import_fastai("vision.learner").create_vision_model

    with torch.device("meta"):
        ours = build_member("fastai:squeezenet1_1,lin_ftrs=64,ps=0.1,bn_final=true", 2)
        theirs = create_vision_model(
            squeezenet1_1, 2, pretrained=False, lin_ftrs=[64], bn_final=True
        )
    assert shapes(ours) == shapes(theirs)
    assert [type(one).__name__ for one in ours[1]][:2] == ["AdaptiveConcatPool2d", "Flatten"]


@pytest.mark.parametrize(
    "options", ["", ",lin_ftrs=none", ",ps=0,concat_pool=false", ",lin_first=true"]
)
def test_the_head_of_a_learner_follows_from_its_weights(options):
    """Among the relatives of the plain name is the one with the right head."""
    with torch.device("meta"):
        found = shapes(build_member(f"fastai:squeezenet1_1{options}", 3))
        relatives = [
            name for name in list_relatives("fastai:squeezenet1_1", found) if name[:7] == "fastai:"
        ]
        fitting = [name for name in relatives if shapes(build_member(name, 3)) == found]
    assert fitting
    assert parse_arch(fitting[0]).options == parse_arch(f"fastai:squeezenet1_1{options}").options


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("torchvison:resnet18", "unknown family 'torchvison'; did you mean 'torchvision'"),
        ("torchvision:resnet19", "unknown to torchvision; did you mean 'resnet1"),
        ("timm:resnet19", "unknown to timm"),
        ("timm:hf-hub:someone/network", "unknown to timm"),
        ("zoobot:hf_hub:mwalmsley/zoobot", "unknown to timm"),
        ("timm:resnet18,pretrained=true", "unknown option 'pretrained' of timm"),
        ("timm:resnet18,checkpoint_path=x.pth", "unknown option 'checkpoint_path'"),
        ("fastai:resnet18,lin_ftrs=1e9", "option lin_ftrs is '1e9', expected widths"),
        ("fastai:resnet18,lin_ftrs=999999", "expected widths such as 512"),
        ("fastai:resnet18,concat_pool=no", "expected true or false"),
        ("fastai:nothing:resnet18", "expected fastai:NAME or fastai:timm:NAME"),
        ("torchvision:resnet18,transform_input=true", "cannot be built"),
        ("timm:", "unknown to timm"),
        ("python:os:getcwd", "galfig imports only where you name it yourself"),
    ],
)
def test_other_names_are_refused(arch, words):
    """With what is known; nothing is downloaded, and no code of one's own is imported."""
    with pytest.raises(ConfigError, match=words):
        build_network(arch, 2)


def test_tags_of_timms_weights_are_no_other_network():
    """resnet18.a1_in1k is a resnet18."""
    with torch.device("meta"):
        assert shapes(build_member("timm:resnet18.a1_in1k", 2)) == shapes(
            build_network("resnet18", 2)
        )


@pytest.mark.parametrize(
    "arch", ["torchvision:resnet18", "fastai:resnet18", "timm:resnet18", "zoobot:resnet18"]
)
def test_one_band(arch):
    """The first convolution takes as many channels as the images have."""
    model = build_member(arch, 2, 1).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 2)


def test_own_code_is_found_in_the_working_directory(tmp_path, monkeypatch):
    """It gets the number of classes, and the path of modules is left as it was."""
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    model = build_own("python:own_networks:make", 5)
    assert sys.path == before
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
    for name, words in {
        "python:own_networks:mak": "no function 'mak' there; did you mean 'make'",
        "python:own_networks:number": "gives a int, expected a torch.nn.Module",
        "python:own_networks:fails": r"cannot be built \(OSError: no such weights\)",
        "python:no_such_module:make": "cannot be built.*No module named",
        "python:own_networks": "expected python:package.module:function",
        "python:../x:make": "expected python:package.module:function",
    }.items():
        with pytest.raises(ConfigError, match=words):
            build_own(name, 2)
