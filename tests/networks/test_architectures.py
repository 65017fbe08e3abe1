"""Architectures: built by name, and explained at their last feature maps."""

import pytest
import torch
from torch import nn

from galfig.errors import ConfigError
from galfig.networks.architectures import build_network, find_layer


@pytest.mark.parametrize(
    ("arch", "layer", "shape"),
    [
        ("conv3", "conv3", (128, 64, 64)),
        ("xresnet18", "7", (512, 2, 2)),
        ("resnet18", "layer4", (512, 2, 2)),
        ("convnext_atto", "stages", (320, 2, 2)),
    ],
)
def test_default_layer_is_the_last_maps(arch, layer, shape):
    """Each architecture is explained at its last feature maps unless told otherwise."""
    model = build_network(arch, 2).eval()
    name, module = find_layer(model, "auto", 64)
    assert name == layer
    outputs = []
    module.register_forward_hook(lambda m, i, output: outputs.append(output.shape))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
    assert tuple(outputs[0][1:]) == shape


def test_wrong_layer_lists_the_right_ones():
    """A misspelt layer is answered with the nearest and with all there are."""
    model = build_network("conv3", 2).eval()
    with pytest.raises(ConfigError, match=r"'conv4'.*did you mean 'conv\d'.*conv1\.0.*conv3"):
        find_layer(model, "conv4", 96, "conv3")
    with pytest.raises(ConfigError, match="'linear': not a layer of conv3 with feature maps"):
        find_layer(model, "linear", 96, "conv3")


def test_transformer_is_not_explained_unasked():
    """A vision transformer's only maps are its patch embedding, which nobody means by 'auto'."""
    model = build_network("vit_tiny_patch16_224", 2).eval()
    with pytest.raises(ConfigError, match=r"does not end in feature maps.*patch_embed\.proj"):
        find_layer(model, "auto", 224)


def test_what_a_network_cannot_take_is_said():
    """Images of another size than its own, and a layer that runs more than once."""
    model = build_network("vit_tiny_patch16_224", 2).eval()
    with pytest.raises(ConfigError, match=r"vit: cannot take images of 96 pixels \(.*`image_size`"):
        find_layer(model, "patch_embed", 96, "vit")
    relu = nn.ReLU()
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    twice = nn.Sequential(nn.Conv2d(3, 4, 1), relu, relu, *head).eval()
    with pytest.raises(ConfigError, match=r"layer '1': ran 2 times in a forward pass, expected 1"):
        find_layer(twice, "1", 8)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)).eval()
    with pytest.raises(ConfigError, match=r"no layer gives feature maps .* images of 8 pixels"):
        find_layer(flat, "auto", 8)


def test_unknown_architecture_names_the_nearest():
    """A misspelt architecture is answered with the nearest name."""
    with pytest.raises(ConfigError, match="did you mean 'xresnet34'"):
        build_network("xresnet43", 2)
