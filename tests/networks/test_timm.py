"""The default layer of many architectures of timm, by what their authors say of their strides."""

import pytest
import timm
import torch

from galfig.networks.architectures import describe_layer, find_layer

pytestmark = pytest.mark.slow

# Networks whose last stage is 32 times as coarse as the image, and each stage before it twice as
# fine. Of 96 pixels the default maps have 3 × 3 pixels. Of 32 pixels the last stage has 1 × 1, so
# that those of the stage before, or of its transition, are the last with more: 2 × 2.
BY_32 = """
resnet18 resnet50 resnext50_32x4d wide_resnet50_2 seresnet50 resnet50d ecaresnet26t skresnet18
resnest14d res2net50_26w_4s regnetx_002 regnety_002 densenet121 dla34 dpn68 darknet17 cspdarknet53
convnext_atto convnextv2_atto efficientnet_b0 efficientnet_lite0 tf_efficientnetv2_b0 mixnet_s
mobilenetv2_100 mobilenetv3_small_100 mnasnet_100 lcnet_050 tinynet_e ghostnet_100 hardcorenas_a
rexnet_100 gernet_s repvgg_a0 mobileone_s0 fasternet_t0 edgenext_xx_small poolformer_s12
ese_vovnet19b_dw xception41 legacy_xception davit_tiny focalnet_tiny_srf fastvit_t8
""".split()  # noqa: SIM905  (one name a line would fill a page)
# Side of the maps of other networks, for one size of image.
OTHERS = {
    # Convolutions without padding: 96 pixels become 47, 45, 22, 20, 9, then 4 in Mixed_6e. Mixed_7a
    # makes a single pixel of them.
    ("inception_v3", 96): 4,
    # Patches of 14 pixels, and no stage is coarser.
    ("convmixer_1024_20_ks9_p14", 224): 16,
    ("vgg11", 96): 3,
    # The channels come last.
    ("swin_tiny_patch4_window7_224", 224): 7,
    ("mambaout_femto", 224): 7,
    # Patches of 7 pixels, then twice as large. It looks at each row pixel by pixel, which is slow.
    ("sequencer2d_s", 56): 4,
}
# Transformers that end in a sequence: the default layer, and its tokens without a place.
SEQUENCES = {
    "vit_tiny_patch16_224": ("blocks.11.norm1", 1),
    "deit_tiny_patch16_224": ("blocks.11.norm1", 1),
    "deit_tiny_distilled_patch16_224": ("blocks.11.norm1", 2),
    "vit_small_patch16_dinov3": ("norm", 5),
    "mixer_s16_224": ("norm", 0),
    # Their stems shift all places by half a cell.
    "xcit_nano_12_p16_224": ("cls_attn_blocks.1.norm1", 1),
    "pit_ti_distilled_224": ("transformers.2.blocks.3.norm1", 2),
    "efficientformer_l1": ("norm", 0),
}
# Side of their grids, where it is not that of patches of 16 pixels.
SIDES = {"pit_ti_distilled_224": 7, "efficientformer_l1": 7, "vit_small_patch16_dinov3": 16}


def make_skeleton(arch):
    with torch.device("meta"):
        return timm.create_model(arch, num_classes=2).eval().requires_grad_(False)


def find_side(arch, size):
    """Return the side of the default maps; check by gradients that nothing flows past them."""
    model = make_skeleton(arch)
    name, layer = find_layer(model, "auto", size, arch)
    last = describe_layer(model, name, size, arch).channels_last
    shapes = []

    def detach(module, inputs, output):
        shapes.append(output.shape)
        return output.detach()

    layer.register_forward_hook(detach)
    images = torch.zeros(1, 3, size, size, device="meta", requires_grad=True)
    assert not model(images).requires_grad, f"{arch}: the image flows past {name}"
    (shape,) = shapes
    assert shape[1] == shape[2] if last else shape[2] == shape[3]
    return shape[2]


@pytest.mark.parametrize("arch", BY_32)
def test_default_maps_are_the_coarsest_of_more_than_a_pixel(arch):
    """At 96 and at 32 pixels."""
    assert [find_side(arch, size) for size in (96, 32)] == [3, 2]


@pytest.mark.parametrize(("arch", "size"), OTHERS)
def test_default_maps_of_other_networks(arch, size):
    """Networks without padding, with other strides, and with the channels last."""
    assert find_side(arch, size) == OTHERS[arch, size]


@pytest.mark.parametrize("arch", SEQUENCES)
def test_sequences_are_a_grid(arch):
    """Of the last block whose patches reach the logits; nobody means the patch embedding."""
    model, (expected, n_prefix) = make_skeleton(arch), SEQUENCES[arch]
    name, _ = find_layer(model, "auto", 224 if "dinov3" not in arch else 256, arch)
    assert name == expected
    tokens = describe_layer(model, name, 224 if "dinov3" not in arch else 256, arch).tokens
    assert tokens.n_prefix == n_prefix
    assert tokens.height == tokens.width == SIDES.get(arch, 14)
