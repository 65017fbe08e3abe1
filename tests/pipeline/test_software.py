"""Software: a store names the programs that made it, and no others."""

import pytest

from galfig.networks.architectures import list_libraries


@pytest.mark.parametrize(
    ("arch", "libraries"),
    [
        ("conv3", ("fastai",)),
        ("xresnet34_mish_sa", ("fastai",)),
        ("resnet18", ("timm",)),
        ("timm:convnext_nano", ("timm",)),
        ("torchvision:resnet18", ("torchvision",)),
        ("fastai:resnet34,lin_ftrs=256", ("fastai", "torchvision")),
        ("fastai:timm:resnet18", ("fastai", "timm")),
        ("fastai:xresnet50", ("fastai",)),
        ("zoobot:convnext_nano", ("timm",)),
        ("python:my.networks:make", ()),
    ],
)
def test_libraries_of_an_architecture(arch, libraries):
    """Those whose networks and layers it is made of."""
    assert list_libraries(arch) == libraries
