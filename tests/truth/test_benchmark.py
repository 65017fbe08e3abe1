"""The league table explains the same network, wherever it is cut."""

import pytest
import torch

from galfig.attribution.gradcam import grad_cam
from galfig.networks.architectures import build_network, find_layer


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["conv3", "xresnet18"])
def test_methods_of_a_cut_network_are_those_of_the_whole(arch):
    """The libraries' Grad-CAM is galfig's on the network as it was, up to ReLU and scale."""
    for library in ("captum", "torchcam", "pytorch_grad_cam"):
        pytest.importorskip(library)
    from benchmarks.known_truth import cut, list_methods

    torch.manual_seed(0)
    model = build_network(arch, 2).eval()
    name, layer = find_layer(model, "auto", 48, arch)
    body, head = cut(model, name)
    images, target = torch.rand(3, 3, 48, 48), torch.tensor([0, 1, 1])
    whole = grad_cam(model, images, layer)
    with torch.no_grad():
        features = body(images)
        torch.testing.assert_close(head(features), whole.logits)
    expected = whole.cams[torch.arange(3), target]
    scale = expected.abs().amax()
    of_layer, of_pixels = list_methods(model, head, 2)
    for key in (("galfig", "grad-cam"), ("galfig", "hires-cam"), ("captum", "LayerGradCam")):
        found = of_layer[key](features.clone(), target)
        torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)
    found = of_layer["torch-cam", "GradCAM"](features.clone(), target)
    torch.testing.assert_close(found / scale, expected.relu() / scale, atol=1e-5, rtol=0)
    for key, explain in {**of_layer, **of_pixels}.items():
        given = images if key in of_pixels else features
        assert explain(given.clone(), target).shape[0] == 3, key
