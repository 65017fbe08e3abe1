"""Small networks that Grad-CAM must get right, and the reference it is held against."""

import copy

import torch
from samples import make_tiny_cnn
from torch import Tensor, nn

from galfig.attribution.gradcam import CamBatch


class InPlaceBlock(nn.Module):
    """A residual block whose ReLUs write over their input, as torchvision's do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x))
        y = nn.functional.relu(y, inplace=True)
        y = self.norm2(self.conv2(y))
        y += x
        return self.relu(y)


def make_residual() -> nn.Sequential:
    """Stem, two residual blocks with in-place ReLUs, pooling and one linear layer."""
    return _seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 10, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            InPlaceBlock(10),
            InPlaceBlock(10),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(10, 3),
        )
    )


def make_two_linear() -> nn.Sequential:
    """A head of two linear layers, the first of them over all pixels of the maps."""
    return _seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(96, 20),
            nn.ReLU(),
            nn.Linear(20, 2),
        )
    )


def make_shared_relu() -> nn.Sequential:
    """One ReLU object in three places: before a batch norm, so that nothing may be folded."""

    def build() -> nn.Sequential:
        relu = nn.ReLU()
        return nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), relu),
            *(nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 8, 3), relu, nn.BatchNorm2d(8)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)),
        )

    return _seeded(build)


def make_cases() -> dict[str, tuple[nn.Module, str]]:
    """Return name → (network, layer to explain)."""
    return {
        "pooling and linear": (make_tiny_cnn(), "1"),
        "middle layer": (make_tiny_cnn(), "0"),
        "layer before its batch norm": (make_tiny_cnn(), "0.0"),
        "layer that is a batch norm": (make_tiny_cnn(), "0.1"),
        "shared ReLU": (make_shared_relu(), "3"),
        "residual with in-place ReLUs": (make_residual(), "3"),
        "in-place ReLU right behind the layer": (make_residual(), "2.norm2"),
        "layer that is an in-place ReLU": (make_residual(), "1"),
        "two linear layers": (make_two_linear(), "2"),
        "three classes": (make_residual(), "2"),
    }


def reference_cams(model: nn.Module, images: Tensor, layer_name: str) -> Tensor:
    """Compute Grad-CAM by the book, on a copy in float64."""
    model = copy.deepcopy(model).double().eval()
    return explain_by_the_book(model, images.double(), model.get_submodule(layer_name)).cams


def explain_by_the_book(
    model: nn.Module, images: Tensor, layer: nn.Module, *, output: object = None
) -> CamBatch:
    """Compute Grad-CAM one image and one class at a time, by a full backward pass.

    Each image is there twice, since torch computes wrong gradients of norms for a single one.
    """
    all_cams, all_logits = [], []
    for image in images:
        cams, n_classes, class_idx = [], 1, 0
        while class_idx < n_classes:
            kept: dict[str, Tensor] = {}

            def keep(
                module: nn.Module, inputs: object, output: Tensor, kept: dict = kept
            ) -> Tensor:
                kept["values"] = output.detach().clone()
                output.register_hook(lambda gradient: kept.update(gradients=gradient.clone()))
                # A copy, so that what the head does in place is not done to the layer's output.
                return output.clone()

            handle = layer.register_forward_hook(keep)
            try:
                found = model(torch.stack([image, image]).requires_grad_())
            finally:
                handle.remove()
            logits = (
                found if output is None else output(found) if callable(output) else found[output]
            )
            n_classes = logits.shape[1]
            logits[0, class_idx].backward()
            weights = kept["gradients"].mean(dim=(2, 3), keepdim=True)
            cams.append((weights * kept["values"]).sum(dim=1)[0])
            class_idx += 1
        all_cams.append(torch.stack(cams))
        all_logits.append(logits[:1].detach())
    return CamBatch(torch.stack(all_cams), torch.cat(all_logits))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference over the largest expected value."""
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


def _seeded(build) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
    return model.eval()
