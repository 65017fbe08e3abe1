"""Programs that compute Grad-CAM maps of a batch, each used as its documentation describes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM as PytorchGradCam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchcam.methods import GradCAM as TorchCam

from galfig.attribution.engine import make_engine


@dataclass(frozen=True)
class Contender:
    """One way to explain a batch.

    Attributes
    ----------
    name : str
        Name in the table.
    run : callable
        Takes normalised images (N, 3, H, W) and returns maps (N, C, h, w). A contender that only
        classifies returns None.
    is_library : bool
        Whether it is a library that galfig is compared with, used as documented.
    is_positive : bool
        Whether its maps lack negative values.
    is_scaled : bool
        Whether each map is scaled to [0, 1] and enlarged to the size of the image.
    n_most : int or None
        Number of images on which it is timed at most, if it explains one after the other.
    """

    name: str
    run: Callable[[Tensor], Tensor | None]
    is_library: bool = False
    is_positive: bool = False
    is_scaled: bool = False
    n_most: int | None = None


def make_contenders(
    model: nn.Module, layer: nn.Module, n_classes: int, precision: str = "float32"
) -> list[Contender]:
    """Prepare all contenders.

    Parameters
    ----------
    model : torch.nn.Module
        Classifier in evaluation mode; returns logits of shape (N, C).
    layer : torch.nn.Module
        Layer whose output, (N, K, h, w), is explained.
    n_classes : int
        Number of classes, C.
    precision : {"float32", "tf32", "bfloat16"}, default "float32"
        Arithmetic of galfig's engine; whoever runs the others sets theirs.

    Returns
    -------
    list of Contender
    """
    engine = make_engine(model, layer, precision=precision)
    captum = LayerGradCam(model, layer)

    def classify(images: Tensor) -> None:
        with torch.inference_mode():
            model(images)

    def explain(images: Tensor) -> Tensor:
        return engine(images).cams

    def loop(images: Tensor) -> Tensor:
        """Explain one galaxy at a time, with hooks and a full backward pass per class."""
        found = []
        for image in images:
            maps = []
            for class_idx in range(n_classes):
                kept: dict[str, Tensor] = {}
                forward = layer.register_forward_hook(
                    lambda module, inputs, output, kept=kept: kept.update(a=output)
                )
                backward = layer.register_full_backward_hook(
                    lambda module, given, out, kept=kept: kept.update(g=out[0])
                )
                model(image[None])[0, class_idx].backward()
                forward.remove()
                backward.remove()
                weights = kept["g"].mean(dim=(2, 3), keepdim=True)
                maps.append((weights * kept["a"]).sum(dim=1)[0].detach())
                model.zero_grad()
            found.append(torch.stack(maps))
        return torch.stack(found)

    def run_captum(images: Tensor) -> Tensor:
        maps = [captum.attribute(images, target=class_idx) for class_idx in range(n_classes)]
        return torch.cat(maps, dim=1).detach()

    def run_torchcam(images: Tensor) -> Tensor:
        """Use torch-cam as documented: one forward pass and one map per class."""
        maps = []
        for class_idx in range(n_classes):
            with TorchCam(model, target_layer=layer) as extractor:
                scores = model(images)
                maps += extractor([class_idx] * len(images), scores, normalized=False)
        return torch.stack(maps, dim=1).detach()

    def run_torchcam_once(images: Tensor) -> Tensor:
        """Use torch-cam better than documented: retain the graph for all classes."""
        with TorchCam(model, target_layer=layer) as extractor:
            scores = model(images)
            maps = [
                extractor(
                    [class_idx] * len(images),
                    scores,
                    normalized=False,
                    retain_graph=class_idx < n_classes - 1,
                )[0]
                for class_idx in range(n_classes)
            ]
        return torch.stack(maps, dim=1).detach()

    def run_pytorch_grad_cam(images: Tensor) -> Tensor:
        maps = []
        with PytorchGradCam(model=model, target_layers=[layer]) as cam:
            for class_idx in range(n_classes):
                targets = [ClassifierOutputTarget(class_idx)] * len(images)
                maps.append(cam(input_tensor=images, targets=targets))
        return torch.from_numpy(np.stack(maps, axis=1))

    return [
        Contender("eager forward pass alone", classify),
        Contender("galfig", explain),
        Contender("captum", run_captum, is_library=True),
        Contender("torch-cam", run_torchcam, is_library=True, is_positive=True),
        Contender("torch-cam, graph kept by hand", run_torchcam_once, is_positive=True),
        Contender(
            "pytorch-grad-cam",
            run_pytorch_grad_cam,
            is_library=True,
            is_positive=True,
            is_scaled=True,
        ),
        Contender("the tutorial's loop", loop, n_most=32),
    ]


def measure_disagreement(contender: Contender, found: Tensor, reference: Tensor) -> float:
    """Measure the largest difference from reference maps.

    The reference is first converted to what the contender returns: positive, scaled or enlarged.

    Parameters
    ----------
    contender : Contender
        The contender.
    found : (N, C, ...) Tensor
        Its maps.
    reference : (N, C, h, w) Tensor
        Signed reference maps.

    Returns
    -------
    float
        Largest absolute difference, relative to the largest absolute value of each map.
    """
    found, reference = found.double(), reference.double()
    if contender.is_positive:
        reference = reference.clamp(min=0)
    if contender.is_scaled:
        low = reference.amin(dim=(2, 3), keepdim=True)
        reference = (reference - low) / (1e-7 + (reference - low).amax(dim=(2, 3), keepdim=True))
        # The library enlarges with cv2.resize, which matches torch's bilinear mode without aligned
        # corners.
        size = found.shape[2:]
        reference = nn.functional.interpolate(reference, size, mode="bilinear")
    peak = reference.abs().amax(dim=(2, 3)).clamp(min=1e-30)
    return float(((found - reference).abs().amax(dim=(2, 3)) / peak).max())
