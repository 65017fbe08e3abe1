"""Programs: every method and every architecture that galfig builds has its papers."""

import pytest
from torchvision import models

from galfig.attribution import methods
from galfig.citing.programs import METHODS, PROGRAMS, find_architecture, is_of_imagenet
from galfig.networks.architectures import _VARIANTS, XRESNETS, list_libraries
from galfig.networks.families import FAMILIES


def test_every_method_has_a_paper():
    """A new method needs an entry."""
    assert METHODS.keys() == methods.METHODS.keys()


@pytest.mark.parametrize("arch", [f"{base}{end}" for base in XRESNETS for end in _VARIANTS])
def test_every_xresnet_has_its_papers(arch):
    """ResNet, the tricks of xresnet, and those of the variant."""
    keys = find_architecture(arch).keys
    assert keys[:2] == ("He2016", "He2019")
    assert ("Misra2019" in keys) == ("mish" in arch)
    assert ("Zhang2019" in keys) == arch.endswith("_sa")


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_network_of_torchvision_has_a_paper(name):
    """By its name."""
    found = find_architecture(f"torchvision:{name}")
    assert found.keys
    assert not found.note
    assert found.libraries == ("torchvision",)


@pytest.mark.parametrize(
    ("arch", "keys"),
    [
        ("conv3", ()),
        ("resnet18", ("He2016",)),
        ("timm:resnext50_32x4d", ("Xie2017",)),
        ("timm:convnextv2_nano", ("Woo2023",)),
        ("timm:convnext_nano.in12k_ft_in1k", ("Liu2022",)),
        ("timm:tf_efficientnetv2_s", ("Tan2021",)),
        ("timm:swinv2_tiny_window8_256", ("Liu2022Swin",)),
        ("timm:vit_small_patch16_224", ("Dosovitskiy2021",)),
        ("timm:deit_tiny_patch16_224", ("Touvron2021",)),
        ("fastai:resnet34,lin_ftrs=256", ("He2016",)),
        ("fastai:timm:resnet18", ("He2016",)),
        ("fastai:xresnet50", ("He2016", "He2019")),
        ("zoobot:convnext_nano", ("Walmsley2023", "Liu2022")),
    ],
)
def test_architectures_by_name(arch, keys):
    """Of each family, by the libraries that build it."""
    found = find_architecture(arch)
    assert (found.keys, found.note) == (keys, "")
    assert set(found.libraries) <= set(list_libraries(arch))
    assert found.libraries[0] == list_libraries(arch)[0]


def test_every_family_is_known():
    """A new family of networks needs a rule."""
    for family in FAMILIES:
        found = find_architecture(f"{family}:resnet18")
        assert "He2016" in found.keys
        assert found.libraries
        assert set(found.libraries) <= set(PROGRAMS)


def test_what_is_not_known_is_said():
    """Rather than a paper that may be another's."""
    assert "knows no paper on the architecture levit_128" in find_architecture("levit_128").note
    assert "code of your own" in find_architecture("python:my.networks:make").note


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("timm resnet18.a1_in1k", True),
        ("timm convnext_nano.in12k_ft_in1k", True),
        ("torchvision ResNet18_Weights.IMAGENET1K_V1", True),
        ("timm vit_base_patch32_clip_224.laion2b", False),
        ("main1k.safetensors", False),
    ],
)
def test_weights_of_imagenet(source, expected):
    """By the names that the libraries give them."""
    assert is_of_imagenet(source) == expected
