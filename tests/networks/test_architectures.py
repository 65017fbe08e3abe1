"""Architectures: built by name, and explained at their last feature maps."""

import pytest
import torch
from torch import nn

from galfig.attribution.gradcam import grad_cam
from galfig.errors import ConfigError
from galfig.networks.architectures import LayerTraits, build_network, describe_layer, find_layer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "layer", "shape"),
    [
        ("conv3", "conv3", (128, 64, 64)),
        ("xresnet18", "7", (512, 2, 2)),
        ("xresnet18_mish", "7", (512, 2, 2)),
        ("xresnet18_mish_sa", "7", (512, 2, 2)),
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


@pytest.mark.slow
def test_transformer_is_explained_by_its_last_patches():
    """Not by its patch embedding, which is its only layer with feature maps."""
    model = build_network("vit_tiny_patch16_224", 2).eval()
    assert find_layer(model, "auto", 224)[0] == "blocks.11.norm1"


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


@pytest.mark.parametrize(
    ("arch", "size", "layer"),
    [
        # The last stage has 1 × 1 maps, and the last larger ones are within a block.
        ("resnet50", 32, "layer3"),
        # Mixed_7a joins three branches, after which the maps have a single pixel.
        pytest.param("inception_v3", 96, "Mixed_6e", marks=pytest.mark.slow),
    ],
)
def test_default_layer_is_never_within_a_branch(arch, size, layer):
    """All of the image flows through the default layer; one within a branch can still be named."""
    with torch.device("meta"):
        model = build_network(arch, 2).eval()
    assert find_layer(model, "auto", size, arch)[0] == layer
    within = {"resnet50": "layer3.5.conv3", "inception_v3": "Mixed_6e.branch1x1"}[arch]
    assert find_layer(model, within, size, arch)[0] == within
    traits = describe_layer(model, within, size, arch)
    assert traits.is_bypassed
    words = f"layer '{within}' of {arch}: the image also reaches the logits past it"
    assert traits.warning.startswith(words)
    assert describe_layer(model, layer, size, arch) == LayerTraits()


def test_maps_of_one_pixel_are_named_but_not_chosen():
    """A layer after the pooling is explained only if it is named, and then with a warning."""
    model = build_network("conv3", 2).eval()
    assert find_layer(model, "pool", 16, "conv3")[0] == "pool"
    traits = describe_layer(model, "pool", 16, "conv3")
    assert not traits.is_bypassed
    assert "its maps have a single pixel for images of 16 pixels" in traits.warning


class Grid(nn.Module):
    """A classifier of maps whose channels come last, or of a sequence."""

    def __init__(self, n_axes):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 2)
        self.n_axes = n_axes

    def forward(self, images):
        x = self.stem(images).permute(0, 2, 3, 1)
        x = self.norm(x if self.n_axes == 2 else x.flatten(1, 2))
        return self.head(x.flatten(1, -2).mean(1))


def test_maps_with_the_channels_last_are_known():
    """They are chosen, and explained along the right axes: 8 × 8 pixels, not 8 × 6."""
    model = Grid(2).eval()
    name, layer = find_layer(model, "auto", 8)
    assert name == "norm"
    assert describe_layer(model, name, 8) == LayerTraits(channels_last=True)
    assert grad_cam(model, torch.randn(2, 3, 8, 8), layer, channels_last=True).cams.shape[2:] == (
        8,
        8,
    )


def test_sequences_whose_order_is_not_known_are_refused():
    """Which element of a sequence lies where is not guessed, nor an earlier layer taken."""

    class Mirrored(Grid):
        def forward(self, images):
            return super().forward(images.flip(3))

    model = Mirrored(1).eval()
    with pytest.raises(
        ConfigError, match=r"layer 'norm': gives .*\(3, 64, 6\), whose tokens run from right"
    ):
        find_layer(model, "norm", 8)
    with pytest.raises(ConfigError, match=r"in the sequence \(N, T, K\) of 'norm'.*from stem"):
        find_layer(model, "auto", 8)
    assert describe_layer(Grid(1).eval(), "norm", 8).tokens == (0, 8, 8)


def test_network_of_branches_alone_has_no_default_layer():
    """Where the image flows past every layer with maps, the choice is the user's."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, images):
            return self.head(self.a(images).mean((2, 3)) + self.b(images).mean((2, 3)))

    with pytest.raises(ConfigError, match=r"through which all of the image flows.*from a, b$"):
        find_layer(Two().eval(), "auto", 8)


def test_unknown_architecture_names_the_nearest():
    """A misspelt architecture is answered with the nearest name."""
    with pytest.raises(ConfigError, match="did you mean 'xresnet34'"):
        build_network("xresnet43", 2)
