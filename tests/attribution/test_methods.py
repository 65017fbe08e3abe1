"""Methods: each against a float64 reference of its paper, and against other libraries."""

import copy
from typing import get_args

import numpy as np
import pytest
import torch
from reference import make_cases, make_residual, make_two_linear, relative_error
from samples import make_tiny_cnn
from torch import nn

from galfig.attribution.engine import make_engine
from galfig.attribution.gradcam import explain_layer, grad_cam
from galfig.attribution.methods import METHODS, find_method
from galfig.attribution.orientations import ORIENTATIONS
from galfig.attribution.pixels import N_STEPS
from galfig.config import NONLINEAR_METHODS, PIXEL_METHODS, Method

CASES = {
    name: make_cases()[name]
    for name in ("pooling and linear", "middle layer", "two linear layers", "three classes")
}
# An engine that proves itself takes hundreds of backward passes for one of them.
QUICK = [
    pytest.param(name, marks=pytest.mark.slow) if name == "integrated-gradients" else name
    for name in METHODS
]
LAYER_METHODS = [name for name in METHODS if name not in (*PIXEL_METHODS, "evidence")]


@pytest.fixture
def images():
    return torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def take_gradients(model, images, name):
    """The feature maps and the gradient of each class, in float64, one image at a time."""
    model = copy.deepcopy(model).double().eval()
    layer, maps, gradients = model.get_submodule(name), [], []
    for image in images.double():
        kept = {}

        def keep(module, inputs, output, kept=kept):
            kept["maps"] = output
            return output.clone()

        handle = layer.register_forward_hook(keep)
        logits = model(image[None].clone().requires_grad_())[0]
        handle.remove()
        found = [torch.autograd.grad(y, kept["maps"], retain_graph=True)[0][0] for y in logits]
        maps.append(kept["maps"][0].detach().clone())
        gradients.append(torch.stack(found))
    return torch.stack(maps), torch.stack(gradients)


def combine_by_the_book(method, maps, gradients):
    """The formulas of the papers, with their quotients, for maps (N, K, h, w)."""
    a, g = maps[:, None], gradients
    if method == "grad-cam":
        return (g.mean(dim=(3, 4), keepdim=True) * a).sum(dim=2)
    if method == "hires-cam":
        return (g * a).sum(dim=2)
    if method == "layer-cam":
        return (g.relu() * a).sum(dim=2)
    total = a.sum(dim=(3, 4), keepdim=True)
    if method == "x-grad-cam":
        weights = torch.where(total == 0, 0, a / total * g).sum(dim=(3, 4), keepdim=True)
        return (weights * a).sum(dim=2)
    alpha = torch.where(g == 0, 0, g**2 / (2 * g**2 + total * g**3))
    return ((alpha * g.relu()).sum(dim=(3, 4), keepdim=True) * a).sum(dim=2)


def test_grad_cam_plus_plus_is_finite_in_bfloat16(images):
    """Where two plus the product of gradient and total is zero to its eight bits, too."""
    tiny = make_tiny_cnn()
    torch.manual_seed(0)
    head = (nn.Conv2d(12, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(tiny[0], tiny[1], *head, nn.Linear(16, 2)).eval()
    with torch.no_grad():
        model[6].weight.copy_(30 * torch.randn(2, 16))
    engine = make_engine(model, model[1], method="grad-cam++", precision="bfloat16")
    assert engine(images).cams.isfinite().all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", LAYER_METHODS)
def test_maps_equal_the_float64_reference(method, case, images):
    """To 1e-5 in float32: the function of the method, and the engine on its fastest way."""
    model, name = CASES[case]
    layer = model.get_submodule(name)
    expected = combine_by_the_book(method, *take_gradients(model, images, name))
    found = METHODS[method].explain(model, images, layer)
    assert found.cams.dtype == torch.float32
    assert relative_error(found.cams, expected) <= 1e-5
    engine = make_engine(model, layer, method=method)
    assert relative_error(engine(images).cams, expected) <= 1e-5
    is_closed = case == "pooling and linear"
    assert engine.record.path == ("closed form" if is_closed else "cut graph")
    assert engine.record.reasons == ()


def test_one_forward_pass_serves_all_classes(images):
    """Whatever the method of a layer."""
    model, calls = make_residual(), []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    for method in (*LAYER_METHODS, "evidence"):
        calls.clear()
        METHODS[method].explain(model, images, model[2])
        assert len(calls) == 1, method


def test_behind_pooling_and_linear_three_methods_are_one(tiny_cnn, images):
    """Grad-CAM, HiResCAM and XGrad-CAM, where the gradient is the same everywhere."""
    expected = grad_cam(tiny_cnn, images, tiny_cnn[1]).cams
    for method in ("hires-cam", "x-grad-cam"):
        found = METHODS[method].explain(tiny_cnn, images, tiny_cnn[1]).cams
        assert relative_error(found, expected) <= 1e-5
    for method in ("grad-cam++", "layer-cam"):
        found = METHODS[method].explain(tiny_cnn, images, tiny_cnn[1]).cams
        assert relative_error(found, expected) > 0.1


def test_feature_maps_that_cancel_have_no_weight_in_x_grad_cam(images):
    """A sum of zero divides nothing; its map would otherwise be infinite."""

    class Cancel(nn.Module):
        def forward(self, x):
            return x - x.flip(-1)

    model = nn.Sequential(Cancel(), nn.Flatten(), nn.Linear(3 * 24 * 24, 2)).eval()
    whole = torch.round(images * 4)
    assert (METHODS["x-grad-cam"].explain(model, whole, model[0]).cams == 0).all()


# Other libraries, whose ReLU and scaling are left out where that is possible.


def run_torchcam(name, model, layer, images):
    methods = pytest.importorskip("torchcam.methods")
    kind = {"grad-cam": "GradCAM", "x-grad-cam": "XGradCAM", "layer-cam": "LayerCAM"}[name]
    found = []
    for class_idx in range(model(images).shape[1]):
        with getattr(methods, kind)(model, layer) as extractor:
            extractor._relu = False
            scores = model(images.clone().requires_grad_())
            cams = extractor.compute_cams([class_idx] * len(images), scores, normalized=False)
            found.append(cams[0].detach())
    return torch.stack(found, dim=1)


def run_pytorch_grad_cam(name, model, layer, images, reshape_transform=None):
    library = pytest.importorskip("pytorch_grad_cam")
    kind = {
        "grad-cam": "GradCAM",
        "hires-cam": "HiResCAM",
        "grad-cam++": "GradCAMPlusPlus",
        "x-grad-cam": "XGradCAM",
        "layer-cam": "LayerCAM",
    }[name]
    found = []
    for class_idx in range(model(images).shape[1]):
        cam = getattr(library, kind)(model, [layer], reshape_transform)
        with cam:
            outputs = cam.activations_and_grads(images.clone().requires_grad_())
            outputs[:, class_idx].sum().backward()
            maps, gradients = (
                np.asarray(kept[0].detach())
                for kept in (
                    cam.activations_and_grads.activations,
                    cam.activations_and_grads.gradients,
                )
            )
            raw = cam.get_cam_image(images, layer, None, maps, gradients, False)
        found.append(torch.from_numpy(np.ascontiguousarray(raw)))
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["grad-cam", "x-grad-cam", "layer-cam"])
def test_maps_equal_torchcam(method, case, images):
    """Signed, before its normalisation."""
    model, name = make_cases()[case]
    model = model.double()
    expected = run_torchcam(method, model, model.get_submodule(name), images.double())
    found = METHODS[method].explain(model.float(), images, model.get_submodule(name))
    assert relative_error(found.cams, expected) <= 1e-5


# The library alone takes seconds to import.
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", LAYER_METHODS)
def test_maps_equal_pytorch_grad_cam(method, case, images):
    """Signed, before its normalisation; in Grad-CAM++ it adds 1e-6 to the squares of gradients."""
    model, name = make_cases()[case]
    # Large gradients, beside which that is nothing.
    model[-1].weight.data *= 1e9
    model = model.double()
    expected = run_pytorch_grad_cam(method, model, model.get_submodule(name), images.double())
    found = METHODS[method].explain(model.float(), images, model.get_submodule(name))
    assert relative_error(found.cams, expected) <= 1e-5


@pytest.mark.parametrize("case", ["pooling and linear", "middle layer", "two linear layers"])
def test_grad_cam_is_that_of_captum_with_and_without_relu(case, images):
    """Ours is signed, as its attributions are unless it is told otherwise."""
    from captum.attr import LayerGradCam

    model, name = CASES[case]
    layer = model.get_submodule(name)
    found = METHODS["grad-cam"].explain(model, images, layer)
    for class_idx in range(found.logits.shape[1]):
        expected = LayerGradCam(model, layer).attribute(images, target=class_idx)[:, 0].detach()
        assert relative_error(found.cams[:, class_idx], expected) <= 1e-5
        drawn = LayerGradCam(model, layer).attribute(
            images, target=class_idx, relu_attributions=True
        )
        assert relative_error(found.cams[:, class_idx].relu(), drawn[:, 0].detach()) <= 1e-5


# Methods that explain pixels.


def integrate_by_the_book(model, images):
    """Integrated gradients from zero, in float64, by numpy's Gauss and Legendre points."""
    model = copy.deepcopy(model).double().eval()
    points, weights = np.polynomial.legendre.leggauss(N_STEPS)
    images, maps = images.double(), []
    for class_idx in range(model(images).shape[1]):
        total = torch.zeros_like(images)
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            leaf = (images * point).requires_grad_()
            (gradient,) = torch.autograd.grad(model(leaf)[:, class_idx].sum(), leaf)
            total += weight * gradient
        maps.append((images * total).sum(dim=1))
    return torch.stack(maps, dim=1)


class Smooth(nn.Module):
    """A network without kinks, whose integral the quadrature finds."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(self.body(x))


@pytest.mark.parametrize("make", [make_tiny_cnn, make_two_linear, Smooth])
def test_integrated_gradients_equal_the_float64_reference(make, images):
    """And captum's own, to 1e-5, on the image's own grid."""
    from captum.attr import IntegratedGradients

    model = make().eval()
    found = METHODS["integrated-gradients"].explain(model, images)
    assert found.cams.shape == (3, found.logits.shape[1], 24, 24)
    assert relative_error(found.cams, integrate_by_the_book(model, images)) <= 1e-5
    plain = IntegratedGradients(model).attribute(images, target=1).sum(dim=1)
    assert relative_error(found.cams[:, 1], plain.detach()) <= 1e-5


def test_integrated_gradients_add_up_to_the_change_of_the_logit(images):
    """From the mean pixel of the training set to the image."""
    model = Smooth().eval()
    found = METHODS["integrated-gradients"].explain(model, images)
    with torch.no_grad():
        change = model(images) - model(torch.zeros_like(images))
    torch.testing.assert_close(found.cams.sum(dim=(2, 3)), change, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [make_tiny_cnn, make_residual])
def test_input_x_gradient_equals_the_reference(make, images):
    """The product, in float64."""
    model = make()
    found = METHODS["input-x-gradient"].explain(model, images)
    book = copy.deepcopy(model).double()
    for class_idx in range(found.logits.shape[1]):
        leaf = images.double().requires_grad_()
        (gradient,) = torch.autograd.grad(book(leaf.clone())[:, class_idx].sum(), leaf)
        expected = (gradient * leaf.detach()).sum(dim=1)
        assert relative_error(found.cams[:, class_idx], expected) <= 1e-5


@pytest.mark.parametrize("method", QUICK[-2:])
def test_networks_are_left_as_they_were_by_methods_of_pixels(method, tiny_cnn, images):
    """No gradients, no hooks; where gradients are off, too; the engine gives the same maps."""
    before = copy.deepcopy(tiny_cnn.state_dict())
    with torch.inference_mode():
        found = METHODS[method].explain(tiny_cnn, images)
    assert all(parameter.grad is None for parameter in tiny_cnn.parameters())
    assert all(parameter.requires_grad for parameter in tiny_cnn.parameters())
    assert all(torch.equal(before[key], value) for key, value in tiny_cnn.state_dict().items())
    assert not any(module._forward_hooks for module in tiny_cnn.modules())
    engine = make_engine(tiny_cnn, tiny_cnn, method=method)
    assert relative_error(engine(images).cams, found.cams) <= 1e-5
    assert engine.record.path == "plain"


@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_networks_without_a_gradient_are_refused(method, images):
    """In one line that says why."""

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = make_tiny_cnn()

        def forward(self, x):
            with torch.no_grad():
                return self.body(x)

    with pytest.raises(ValueError, match="the logits have no gradient"):
        METHODS[method].explain(Hidden().eval(), images)


# All methods by name.


def test_settings_know_the_same_methods():
    """In the same order; and which of them are linear, or explain pixels."""
    assert get_args(Method) == tuple(METHODS)
    assert [name for name in METHODS if METHODS[name].of_pixels] == list(PIXEL_METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_linear_in_the_logits_or_known_not_to_be(method, images):
    """The map of a difference of logits is the difference of their maps, or the settings say so."""

    class Difference(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self, x):
            logits = self.body(x)
            return torch.stack([logits[:, 1] - logits[:, 0], logits[:, 0]], dim=1)

    model = make_two_linear()
    wrapped, explain = Difference(model).eval(), METHODS[method].explain
    maps = explain(model, images, model[2]).cams
    expected = explain(wrapped, images, model[2]).cams[:, 0]
    if method == "evidence":
        pytest.skip("of differences already")
    error = relative_error(maps[:, 1] - maps[:, 0], expected)
    assert (error > 1e-2) if method in NONLINEAR_METHODS else (error <= 1e-5)


def test_unknown_methods_are_refused(tiny_cnn):
    """With the nearest name."""
    with pytest.raises(ValueError, match="expected one of grad-cam"):
        find_method("gradcam")
    with pytest.raises(ValueError, match="expected one of grad-cam, hires-cam"):
        make_engine(tiny_cnn, tiny_cnn[1], method="lime")


def test_absent_captum_is_named(monkeypatch):
    """Only for methods that need it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    find_method("hires-cam")
    with pytest.raises(ValueError, match=r"needs captum; pip install 'galfig\[captum\]'"):
        find_method("integrated-gradients")


class Averaged(nn.Module):
    """The network averaged over orientations, in float64, whose feature maps lie in one layer."""

    def __init__(self, body, head):
        super().__init__()
        self.body, self.head, self.joint = body, head, nn.Identity()

    def forward(self, images):
        maps = []
        for n_turns, is_mirrored in ORIENTATIONS:
            turned = torch.rot90(images.flip(-1) if is_mirrored else images, n_turns, (-2, -1))
            back = torch.rot90(self.body(turned), -n_turns, (-2, -1))
            maps.append(back.flip(-1) if is_mirrored else back)
        joint = self.joint(torch.cat(maps, dim=1))
        logits = []
        for part, (n_turns, is_mirrored) in zip(joint.chunk(8, dim=1), ORIENTATIONS, strict=True):
            turned = torch.rot90(part.flip(-1) if is_mirrored else part, n_turns, (-2, -1))
            logits.append(self.head(turned))
        return torch.stack(logits).mean(dim=0)


@pytest.mark.parametrize("method", QUICK)
def test_maps_of_an_averaged_network(method, images):
    """They are the average of those of the orientations, or the method is refused."""
    torch.manual_seed(3)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Softplus())
    head = nn.Sequential(nn.Conv2d(4, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(300, 3))
    plain = nn.Sequential(body, head).eval()
    averaged = Averaged(body, head).eval()
    engine = make_engine(plain, body, method=method)
    is_of_pixels = METHODS[method].of_pixels
    exact = METHODS[method].explain(averaged, images, None if is_of_pixels else averaged.joint)
    expected = METHODS[method].finish(exact).cams
    if method == "grad-cam++":
        with pytest.raises(ValueError, match="averaged over turns"):
            engine.explain_averaged(images)
    else:
        assert relative_error(engine.explain_averaged(images).cams, expected) <= 1e-5


def test_methods_of_ones_own_need_one_function(tiny_cnn, images):
    """Of feature maps and a gradient; the rest is that of Grad-CAM."""
    found = explain_layer(tiny_cnn, images, tiny_cnn[1], lambda a, g: (a * g.abs()).sum(dim=1))
    assert found.cams.shape == (3, 2, 24, 24)
