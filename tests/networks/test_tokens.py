"""Tokens: the grid of a transformer is found, and its maps are those of another library."""

import numpy as np
import pytest
import torch
from reference import relative_error
from torch import nn

from galfig.attribution.engine import make_engine
from galfig.attribution.gradcam import Tokens, grad_cam
from galfig.attribution.methods import METHODS
from galfig.errors import ConfigError
from galfig.networks.architectures import LayerTraits, describe_layer, find_layer
from galfig.networks.layers import trace_outputs
from galfig.networks.tokens import find_in_place, find_reach, find_tokens

SIZE = 32


class Block(nn.Module):
    """Attention and a residual connection, as in a transformer."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x):
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]


class Transformer(nn.Module):
    """A vision transformer that classifies by its first token, or by the mean of its patches."""

    def __init__(self, n_prefix=1, patch=8, pools=False, order=None):
        super().__init__()
        torch.manual_seed(0)
        patch = (patch, patch) if isinstance(patch, int) else patch
        n_patches = (SIZE // patch[0]) * (SIZE // patch[1])
        self.patches = nn.Conv2d(3, 8, patch, patch)
        self.prefix = nn.Parameter(torch.randn(1, n_prefix, 8))
        self.places = nn.Parameter(torch.randn(1, n_prefix + n_patches, 8))
        self.first = nn.LayerNorm(8)
        self.blocks = nn.ModuleList(Block(8) for _ in range(2))
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)
        self.n_prefix, self.pools, self.order = n_prefix, pools, order

    def join(self, x):
        return torch.cat([self.prefix.expand(len(x), -1, -1), x], dim=1)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        if self.order is not None:
            x = x[:, self.order]
        x = self.join(x) + self.places
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        x = self.last(x)
        return self.head(x[:, self.n_prefix :].mean(dim=1) if self.pools else x[:, 0])


def locate(model, name):
    outputs = trace_outputs(model, SIZE)
    return find_tokens(model, next(one for one in outputs if one.name == name), outputs, SIZE)


@pytest.mark.parametrize(("n_prefix", "patch"), [(0, 8), (1, 8), (1, 4), (5, 8), (8, 16)])
def test_grid_is_found(n_prefix, patch):
    """Whatever the number of tokens that lie nowhere: 4 + 5 might as well be 9 in a grid."""
    model = Transformer(n_prefix, patch, pools=True).eval()
    side = SIZE // patch
    assert locate(model, "blocks.0") == (Tokens(n_prefix, side, side), "")


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (torch.arange(16).reshape(4, 4).T, "run column by column"),
        (torch.arange(16).reshape(4, 4).flip(1), "run from right to left"),
        (torch.arange(16).reshape(4, 4).flip(0), "run from the bottom to the top"),
        (torch.arange(16).flip(0), "run backwards"),
        # In windows of 2 × 2, as Swin has them.
        (
            torch.arange(16).reshape(2, 2, 2, 2).transpose(1, 2),
            "are no grid of the image",
        ),
        (torch.randperm(16, generator=torch.Generator().manual_seed(0)), "are no grid"),
    ],
)
def test_other_orders_are_not_guessed(order, reason):
    """They are named where they have a name."""
    model = Transformer(order=order.flatten()).eval()
    tokens, found = locate(model, "blocks.0")
    assert tokens is None
    assert found.startswith(reason)
    with pytest.raises(ConfigError, match=f"whose tokens {reason}"):
        find_layer(model, "auto", SIZE)
    with pytest.raises(ConfigError, match=f"whose tokens {reason}.*a grid of the image, row by"):
        find_layer(model, "blocks.0", SIZE)


def test_two_by_two_is_told_from_its_transpose():
    """No element of a grid so small lies more than one cell from any place."""
    assert locate(Transformer(2, 16).eval(), "blocks.0").tokens == Tokens(2, 2, 2)
    for order in ([0, 2, 1, 3], [1, 0, 3, 2], [3, 2, 1, 0]):
        assert locate(Transformer(2, 16, order=order).eval(), "blocks.0").tokens is None


@pytest.mark.parametrize("patch", [(4, 8), (8, 4), (16, 4)])
def test_patches_may_be_longer_than_wide(patch):
    """Then the grid has other rows than columns, which are not exchanged."""
    sides = (SIZE // patch[0], SIZE // patch[1])
    model = Transformer(1, patch).eval()
    name, layer = find_layer(model, "auto", SIZE)
    tokens = describe_layer(model, name, SIZE).tokens
    assert tokens == Tokens(1, *sides)
    found = grad_cam(model, torch.randn(1, 3, SIZE, SIZE), layer, tokens=tokens)
    assert found.cams.shape == (1, 3, *sides)


def test_a_class_token_at_the_end_is_not_taken_for_a_patch():
    """Nor the first patch for a class token, which would shift all others by one."""

    class Last(Transformer):
        def join(self, x):
            return torch.cat([x, self.prefix.expand(len(x), -1, -1)], dim=1)

    for patch in (4, 8):
        found = locate(Last(1, patch).eval(), "blocks.0")
        assert found == (None, "lie nowhere in the image at the end, the last 1 of them")


def test_patches_that_overlap_are_located():
    """The middle of where an element looks is its place, though its neighbours look there too."""

    class Overlapping(Transformer):
        def __init__(self):
            super().__init__(0, 4, pools=True)
            self.patches = nn.Conv2d(3, 8, 15, 4, padding=7)

    assert locate(Overlapping().eval(), "blocks.0").tokens == Tokens(0, 8, 8)


def test_a_shift_of_half_a_cell_does_not_cost_the_first_row():
    """A stem that looks half a cell up and left; the rows of a smaller grid would fit as well."""

    class Strided(Transformer):
        def __init__(self):
            super().__init__(0, 8, pools=True)
            self.patches = nn.Conv2d(3, 8, 15, 8, padding=7)

    assert locate(Strided().eval(), "blocks.0").tokens == Tokens(0, 4, 4)


def test_elements_that_move_on_the_way_are_noticed():
    """They are in their places at first, and sorted into windows below the layer explained."""

    class Sorting(Transformer):
        def forward(self, images):
            order = torch.arange(64).reshape(4, 2, 4, 2).transpose(1, 2).flatten()

            def sort(module, inputs, output):
                return output[:, order]

            handle = self.blocks[0].register_forward_hook(sort)
            try:
                return super().forward(images)
            finally:
                handle.remove()

    model = Sorting(0, 4, pools=True).eval()
    assert locate(model, "last").tokens == Tokens(0, 8, 8)
    layers = dict.fromkeys(("first", "last"), Tokens(0, 8, 8))
    assert find_in_place(model, layers, SIZE) == {"first"}
    assert find_in_place(Transformer(0, 4, pools=True).eval(), layers, SIZE) == set(layers)
    for name in ("auto", "last"):
        with pytest.raises(ConfigError, match="are not, or not measurably, where they began"):
            find_layer(model, name, SIZE)


def test_a_prefix_that_nothing_reads_hides_nothing():
    """Behind the last attention, a mean over patches leaves the class token out: all is shown."""
    model = Transformer(pools=True).eval()
    assert describe_layer(model, "last", SIZE) == LayerTraits(tokens=Tokens(1, 4, 4))
    layers = dict.fromkeys(("blocks.0", "last"), Tokens(1, 4, 4))
    expected = {"blocks.0": (True, True), "last": (False, True)}
    assert find_reach(model, layers, SIZE) == expected
    assert describe_layer(model, "blocks.0", SIZE).is_bypassed
    expected = {"blocks.0": (True, True), "last": (True, False)}
    assert find_reach(Transformer().eval(), layers, SIZE) == expected


def test_layer_is_the_last_whose_patches_reach_the_logits():
    """The last block of a class token has none; a mean over patches, the last norm."""
    model = Transformer().eval()
    name, layer = find_layer(model, "auto", SIZE)
    assert name == "blocks.1.norm"
    traits = describe_layer(model, name, SIZE)
    assert traits.tokens == Tokens(1, 4, 4)
    assert traits.is_bypassed
    assert "through the first 1 of its tokens" in traits.warning
    images = torch.randn(2, 3, SIZE, SIZE)
    found = {name: METHODS[name].explain for name in ("grad-cam", "hires-cam")}
    for explain in found.values():
        assert explain(model, images, layer, tokens=traits.tokens).cams.abs().max() > 1e-5
    # What a norm reads is at right angles to its gradient.
    before = found["hires-cam"](model, images, model.blocks[0], tokens=traits.tokens)
    assert before.cams.abs().max() < 1e-5
    with pytest.raises(ConfigError, match="do not change the logits where they lie in the image"):
        find_layer(model, "blocks.1", SIZE)
    pooled = Transformer(0, pools=True).eval()
    assert find_layer(pooled, "auto", SIZE)[0] == "last"
    assert not describe_layer(pooled, "last", SIZE).is_bypassed


@pytest.mark.slow
def test_skeletons_give_the_same_layer():
    """A training looks at a network without weights, before it begins."""
    with torch.device("meta"):
        model = Transformer().eval()
    assert find_layer(model, "auto", SIZE)[0] == "blocks.1.norm"
    assert describe_layer(model, "blocks.1.norm", SIZE).tokens == Tokens(1, 4, 4)


def test_untrained_heads_of_zeros_hide_nothing():
    """As timm makes some of them."""
    model = Transformer().eval()
    nn.init.zeros_(model.head.weight)
    assert find_layer(model, "auto", SIZE)[0] == "blocks.1.norm"


def explain_by_the_book(method, model, images):
    """Run the transformer in float64, and take the patches of its last norm for maps."""
    model = Transformer().double().eval()
    prefix, side, cams = 1, 4, []
    for image in images.double():
        kept = {}

        def keep(module, inputs, output, kept=kept):
            kept["tokens"] = output
            return output.clone()

        handle = model.blocks[1].norm.register_forward_hook(keep)
        logits = model(image[None])[0]
        handle.remove()
        found = []
        for y in logits:
            (gradient,) = torch.autograd.grad(y, kept["tokens"], retain_graph=True)
            a = kept["tokens"][0, prefix:].detach().T.reshape(-1, side, side)
            g = gradient[0, prefix:].T.reshape(-1, side, side)
            weights = g.mean(dim=(1, 2), keepdim=True) if method == "grad-cam" else g
            found.append((weights * a).sum(dim=0))
        cams.append(torch.stack(found))
    return torch.stack(cams)


@pytest.mark.parametrize("method", ["grad-cam", "hires-cam"])
def test_maps_equal_the_float64_reference(method):
    """Of patches alone; and the engine gives the same."""
    model = Transformer().eval()
    images = torch.randn(3, 3, SIZE, SIZE)
    expected = explain_by_the_book(method, model, images)
    tokens = Tokens(1, 4, 4)
    found = METHODS[method].explain(model, images, model.blocks[1].norm, tokens=tokens)
    assert relative_error(found.cams, expected) <= 1e-5
    engine = make_engine(model, model.blocks[1].norm, method=method, tokens=tokens)
    assert relative_error(engine(images).cams, expected) <= 1e-5


def test_wrong_grids_are_refused():
    """With what was found and what was expected."""
    model, images = Transformer().eval(), torch.randn(2, 3, SIZE, SIZE)
    with pytest.raises(ValueError, match=r"\(2, 17, 8\) for 2 images, expected 0 \+ 4 × 4 tokens"):
        grad_cam(model, images, model.blocks[0], tokens=Tokens(0, 4, 4))
    with pytest.raises(ValueError, match=r"expected tokens \(N, T, K\)"):
        grad_cam(model, images, model.patches, tokens=Tokens(0, 4, 4))


@pytest.mark.slow
@pytest.mark.parametrize("n_registers", [0, 4])
@pytest.mark.parametrize("method", ["grad-cam", "hires-cam", "x-grad-cam", "layer-cam"])
def test_maps_of_timm_equal_pytorch_grad_cam(method, n_registers):
    """A small vision transformer of timm, through the library's reshape_transform."""
    library = pytest.importorskip("pytorch_grad_cam")
    timm = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    options = {"img_size": SIZE, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
    model = timm.VisionTransformer(num_classes=2, reg_tokens=n_registers, **options).eval()
    nn.init.normal_(model.head.weight)
    name, layer = find_layer(model, "auto", SIZE)
    assert name == "blocks.2.norm1"
    tokens = describe_layer(model, name, SIZE).tokens
    assert tokens == Tokens(1 + n_registers, 4, 4)
    model, images = model.double(), torch.randn(2, 3, SIZE, SIZE).double()
    found = METHODS[method].explain(model, images, layer, tokens=tokens).cams

    def reshape(tensor):
        return tensor[:, 1 + n_registers :].reshape(len(tensor), 4, 4, -1).permute(0, 3, 1, 2)

    kinds = {"grad-cam": "GradCAM", "hires-cam": "HiResCAM"}
    kinds |= {"x-grad-cam": "XGradCAM", "layer-cam": "LayerCAM"}
    for class_idx in range(2):
        with getattr(library, kinds[method])(model, [layer], reshape) as cam:
            kept = cam.activations_and_grads
            kept(images.requires_grad_())[:, class_idx].sum().backward()
            maps, gradients = (
                np.asarray(values[0].detach()) for values in (kept.activations, kept.gradients)
            )
            raw = cam.get_cam_image(images, layer, None, maps, gradients, False)
        assert relative_error(found[:, class_idx], torch.from_numpy(np.array(raw))) <= 1e-5
