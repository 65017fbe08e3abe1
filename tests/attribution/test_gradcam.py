"""Grad-CAM: exactness first, then what must not be disturbed."""

import warnings

import pytest
import torch
from captum.attr import LayerGradCam
from reference import make_cases, make_residual, reference_cams, relative_error
from torch import nn

from galfig.attribution.gradcam import grad_cam
from galfig.networks.architectures import build_network, find_layer

CASES = make_cases()


@pytest.fixture
def images():
    return torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("case", CASES)
def test_maps_equal_the_float64_reference(case, images):
    """In float32, one batch is the per-image float64 reference to 1e-5."""
    model, layer_name = CASES[case]
    found = grad_cam(model, images, model.get_submodule(layer_name))
    expected = reference_cams(model, images, layer_name)
    assert found.cams.shape == expected.shape
    assert found.cams.dtype == torch.float32
    assert relative_error(found.cams, expected) <= 1e-5


@pytest.mark.parametrize("case", ["pooling and linear", "middle layer", "two linear layers"])
def test_maps_equal_captum(case, images):
    """Captum's LayerGradCam, class by class and signed, gives the same maps."""
    model, layer_name = CASES[case]
    layer = model.get_submodule(layer_name)
    found = grad_cam(model, images, layer)
    for class_idx in range(found.logits.shape[1]):
        expected = LayerGradCam(model, layer).attribute(images, target=class_idx)
        assert relative_error(found.cams[:, class_idx], expected[:, 0].detach()) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["conv3", "xresnet18"])
def test_maps_of_real_architectures(arch):
    """conv3 and a residual network of fastai agree with captum and with the reference."""
    torch.manual_seed(0)
    model = build_network(arch, 2).eval()
    images = torch.randn(2, 3, 64, 64)
    layer_name, layer = find_layer(model, "auto", 64)
    found = grad_cam(model, images, layer)
    assert relative_error(found.cams, reference_cams(model, images, layer_name)) <= 1e-5
    expected = LayerGradCam(model, layer).attribute(images, target=1)
    assert relative_error(found.cams[:, 1], expected[:, 0].detach()) <= 1e-5


def test_pooling_and_linear_have_a_closed_form(tiny_cnn, images):
    """The map is W_ck A_k / (h w), and it sums to the logit without its bias."""
    found = grad_cam(tiny_cnn, images, tiny_cnn[1])
    with torch.no_grad():
        activations = tiny_cnn[:2](images)
        linear = tiny_cnn[-1]
        closed = torch.einsum("ck,nkhw->nchw", linear.weight, activations) / 24**2
    assert relative_error(found.cams, closed) <= 1e-5
    totals = found.cams.sum(dim=(2, 3)) + linear.bias.detach()
    torch.testing.assert_close(totals, found.logits)


def test_batch_equals_one_by_one(images):
    """Other galaxies of a batch change nothing."""
    model = make_residual()
    together = grad_cam(model, images, model[3]).cams
    alone = torch.cat([grad_cam(model, image[None], model[3]).cams for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-7)


def test_shifted_galaxy_shifts_its_map(tiny_cnn):
    """Away from the edges, the map follows the galaxy pixel by pixel."""
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 12:16, 12:16] = 2.0
    shifted = torch.roll(image, (5, -3), dims=(2, 3))
    before = grad_cam(tiny_cnn, image, tiny_cnn[1]).cams[..., 8:20, 8:20]
    after = grad_cam(tiny_cnn, shifted, tiny_cnn[1]).cams[..., 13:25, 5:17]
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-8)


def test_one_forward_pass_serves_every_class(images):
    """The network runs once, whatever the number of classes."""
    model = make_residual()
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    assert grad_cam(model, images, model[3]).cams.shape[1] == 3
    assert len(calls) == 1


def test_no_gradient_below_the_layer(tiny_cnn, images):
    """Below the layer no graph is recorded, and nothing is differentiated."""

    class Forbidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise AssertionError("differentiated below the layer")

    graphs = []

    def spy(module, inputs, output):
        graphs.append(output.requires_grad)
        return Forbidden.apply(output)

    tiny_cnn[0].register_forward_hook(spy)
    grad_cam(tiny_cnn, images, tiny_cnn[1])
    assert graphs == [False]


def test_model_is_left_as_it_was_found(tiny_cnn, images):
    """Hooks, .grad, requires_grad, training flags, weights and the gradient mode survive."""
    tiny_cnn[0][0].weight.requires_grad_(False)
    tiny_cnn[4].weight.grad = torch.ones_like(tiny_cnn[4].weight)
    seen = []
    tiny_cnn[1].register_forward_hook(lambda *_: seen.append(1))
    before = {name: tensor.clone() for name, tensor in tiny_cnn.state_dict().items()}
    hooks = [dict(module._forward_hooks) for module in tiny_cnn.modules()]
    flags = [parameter.requires_grad for parameter in tiny_cnn.parameters()]

    grad_cam(tiny_cnn, images, tiny_cnn[1])

    assert [dict(module._forward_hooks) for module in tiny_cnn.modules()] == hooks
    assert [parameter.requires_grad for parameter in tiny_cnn.parameters()] == flags
    assert torch.equal(tiny_cnn[4].weight.grad, torch.ones_like(tiny_cnn[4].weight))
    assert tiny_cnn[4].bias.grad is None
    assert not any(module.training for module in tiny_cnn.modules())
    assert all(torch.equal(before[name], t) for name, t in tiny_cnn.state_dict().items())
    assert torch.is_grad_enabled()
    assert seen == [1]


def test_hook_is_removed_after_a_failure(tiny_cnn):
    """An image of the wrong shape leaves no hook and no gradient mode behind."""
    with pytest.raises(RuntimeError):
        grad_cam(tiny_cnn, torch.zeros(1, 5, 24, 24), tiny_cnn[1])
    assert not tiny_cnn[1]._forward_hooks
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(tiny_cnn, images, mode):
    """A caller's no_grad or inference_mode does not matter."""
    expected = grad_cam(tiny_cnn, images, tiny_cnn[0]).cams
    with mode():
        found = grad_cam(tiny_cnn, images.clone(), tiny_cnn[0]).cams
    assert torch.equal(found, expected)


def test_training_mode_is_refused(tiny_cnn, images):
    """One batch norm in training mode would mix the galaxies of a batch."""
    tiny_cnn[0][1].train()
    with pytest.raises(ValueError, match=r"0\.1 is in training mode"):
        grad_cam(tiny_cnn, images, tiny_cnn[1])


def test_wrong_layers_are_refused(tiny_cnn, images):
    """A stranger, a vector, a layer that runs twice, and one off the way to the logits."""
    with pytest.raises(ValueError, match="not a submodule"):
        grad_cam(tiny_cnn, images, nn.ReLU())
    with pytest.raises(ValueError, match=r"expected feature maps"):
        grad_cam(tiny_cnn, images, tiny_cnn[4])

    shared = nn.ReLU()
    twice = nn.Sequential(nn.Conv2d(3, 4, 1), shared, shared, *list(tiny_cnn)[2:4], nn.Linear(4, 2))
    with pytest.raises(ValueError, match="ran 2 times"):
        grad_cam(twice.eval(), images, shared)

    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.main, self.side = make_residual(), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            self.side(x)
            return self.main(x)

    aside = Aside().eval()
    with pytest.raises(ValueError, match="do not depend on it"):
        grad_cam(aside, images, aside.side)


class Tokens(nn.Module):
    """Batch norm, and a head that sums over tokens (N, T, K)."""

    def __init__(self, norm):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.norm, self.fc = nn.Conv2d(3, 8, 3), norm, nn.Linear(8, 2)

    def forward(self, x):
        tokens = nn.functional.gelu(self.norm(self.body(x))).flatten(2).transpose(1, 2)
        return self.fc((tokens.softmax(1) * tokens).sum(1))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(8), nn.InstanceNorm2d(8, affine=True)])
def test_one_image_below_tokens_and_a_norm(images, norm):
    """Torch 2.14 itself gives wrong gradients there, for a single image only."""
    model = Tokens(norm).eval()
    together = grad_cam(model, images, model.body).cams
    alone = torch.cat([grad_cam(model, image[None], model.body).cams for image in images])
    # Before an instance norm maps are zero but for rounding; a logit over the pixels is 1e-3.
    expected = reference_cams(model, images, "body")
    for found in (alone, together):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-8)


class Wrapped(nn.Module):
    """A convolution and pooling; what is returned is wrapped."""

    def __init__(self, wrap, run=lambda body, x: body(x)):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc, self.wrap, self.run = nn.Conv2d(3, 8, 3), nn.Linear(8, 2), wrap, run

    def forward(self, x):
        return self.wrap(self.fc(self.run(self.body, x).relu().mean((2, 3))))


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda y: (y, None), 0),
        (lambda y: {"logits": y, "loss": 0}, "logits"),
        (lambda y: [[y]], lambda found: found[0][0]),
    ],
)
def test_logits_may_be_somewhere_in_the_output(images, wrap, output):
    """By index, key or function; without it the error says how."""
    model, plain = Wrapped(wrap).eval(), Wrapped(lambda y: y).eval()
    found = grad_cam(model, images, model.body, output=output)
    assert torch.equal(found.cams, grad_cam(plain, images, plain.body).cams)
    with pytest.raises(ValueError, match=r"model: output is a .* expected a tensor of logits"):
        grad_cam(model, images, model.body)
    with pytest.raises(ValueError, match="has no 'elsewhere'"):
        grad_cam(model, images, model.body, output="elsewhere")


@pytest.mark.parametrize(
    "wrap", [lambda y: y[:, 0], lambda y: y[:1], lambda y: y[..., None], lambda y: None]
)
def test_output_must_be_logits_of_each_image(images, wrap):
    """A column, one row for all, three axes, nothing."""
    model = Wrapped(wrap).eval()
    with pytest.raises(ValueError, match="model: output"):
        grad_cam(model, images, model.body)


def run_frozen(body, x):
    with torch.no_grad():
        return body(x) * 1


def run_switched(body, x):
    with torch.set_grad_enabled(torch.is_grad_enabled()):
        return body(x) * 1


def run_ghost(body, x):
    part = (x[:, :1] * torch.ones(1, 8, 1, 1))[:, :, 1:-1, 1:-1]
    part += body(x)
    return part


@pytest.mark.parametrize("run", [run_frozen, run_switched, run_ghost])
def test_gradient_modes_of_the_network_do_not_matter(images, run):
    """A backbone under no_grad, and a view from below the layer that is written to above it."""
    model = Wrapped(lambda y: y, run).eval()
    expected = reference_cams(
        Wrapped(lambda y: y, {run_ghost: run_ghost}.get(run, lambda body, x: body(x))).eval(),
        images,
        "body",
    )
    assert relative_error(grad_cam(model, images, model.body).cams, expected) <= 1e-5
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (lambda body, x: body(x).detach(), "have no gradient"),
        (lambda body, x: body(x).argmax(1, keepdim=True).float(), "have no gradient"),
        (lambda body, x: torch.inference_mode()(body)(x), "inference_mode"),
        (lambda body, x: body(x).exp_().mul_(2), "torch cannot take gradients"),
        (lambda body, x: body(x.flatten(0, 1)[:, None].repeat(1, 3, 1, 1))[:4], "12, 8, 22, 22"),
    ],
)
def test_layers_without_a_gradient_are_refused_for_the_true_reason(images, run, reason):
    """Detached, in inference mode, overwritten, or of windows."""
    model = Wrapped(lambda y: y, run).eval()
    model.fc = nn.LazyLinear(2)
    model(images)
    with pytest.raises(ValueError, match=reason):
        grad_cam(model.eval(), images, model.body)


def test_layout_is_asked_for_where_the_shape_tells_it(images):
    """Maps (N, h, w, K) are refused, unless it is said what they are."""

    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.last, self.fc = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 2)

        def forward(self, x):
            maps = self.last(self.conv(x).permute(0, 2, 3, 1))
            return self.fc(nn.functional.gelu(maps).mean((1, 2)))

    model = Pixels().eval()
    with pytest.raises(ValueError, match="channels_last=True"):
        grad_cam(model, images, model.last)
    found = grad_cam(model, images, model.last, channels_last=True).cams
    kept = {}
    handle = model.last.register_forward_hook(lambda m, i, o: kept.update(maps=o))
    logits = model(images)
    handle.remove()
    for class_idx in range(2):
        (gradient,) = torch.autograd.grad(
            logits[:, class_idx].sum(), kept["maps"], retain_graph=True
        )
        expected = (gradient.mean((1, 2), keepdim=True) * kept["maps"]).sum(-1)
        assert relative_error(found[:, class_idx], expected.detach()) <= 1e-5
    assert grad_cam(model, images, model.last, channels_last=False).cams.shape == (4, 2, 22, 8)


def test_compiled_and_traced_networks(tiny_cnn, images):
    """What wraps a network is taken off; what hides its layers is refused by name."""
    expected = grad_cam(tiny_cnn, images, tiny_cnn[1]).cams
    for wrap in (torch.compile, nn.DataParallel):
        assert torch.equal(grad_cam(wrap(tiny_cnn), images, tiny_cnn[1]).cams, expected)
    with warnings.catch_warnings():
        # Some versions of torch deprecate it.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(tiny_cnn, images)
    with pytest.raises(ValueError, match="traced or scripted"):
        grad_cam(traced, images, tiny_cnn[1])
    partly = nn.Sequential(tiny_cnn[0], torch.compile(tiny_cnn[1]), *tiny_cnn[2:]).eval()
    with pytest.raises(ValueError, match="1 is compiled"):
        grad_cam(partly, images, tiny_cnn[0])
    tiny_cnn[0].compile()
    with pytest.raises(ValueError, match="0 is compiled"):
        grad_cam(tiny_cnn, images, tiny_cnn[1])


def test_batch_statistics_are_refused(images):
    """Batch norm without running statistics, in evaluation mode."""
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(ValueError, match=r"1 normalises with the statistics of the batch"):
        grad_cam(model, images, model[0])


def test_chance_is_noticed_by_the_generator(images):
    """Dropout that stays on is refused; numbers that change nothing are not."""
    model = Wrapped(lambda y: nn.functional.dropout(y, 0.5)).eval()
    with pytest.raises(ValueError, match="each time for the same image"):
        grad_cam(model, images, model.body)
    model = Wrapped(lambda y: y + 0 * torch.rand_like(y)).eval()
    assert grad_cam(model, images, model.body).cams.shape == (4, 2, 22, 22)


def test_numbers_that_are_not_finite_stay_with_their_image(tiny_cnn, images):
    """One image of infinities leaves the maps of the others alone."""
    expected = grad_cam(tiny_cnn, images, tiny_cnn[0]).cams
    images[2] = torch.inf
    found = grad_cam(tiny_cnn, images, tiny_cnn[0]).cams
    assert not found[2].isfinite().any()
    assert torch.equal(found[[0, 1, 3]], expected[[0, 1, 3]])


@pytest.mark.gpu
def test_cuda_gives_the_same_maps(images):
    """On CUDA the maps are those of the processor, to 1e-3."""
    model = make_residual()
    expected = grad_cam(model, images, model[3])
    model.cuda()
    found = grad_cam(model, images.cuda(), model[3])
    assert found.cams.is_cuda
    assert relative_error(found.cams.cpu(), expected.cams) <= 1e-3
