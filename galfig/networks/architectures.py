"""Architectures by name, and the layer of a network to explain."""

import importlib
import warnings
from collections import OrderedDict
from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn

from galfig.attribution.gradcam import grad_cam
from galfig.errors import ConfigError
from galfig.runtime.messages import one_line, suggest

XRESNETS = ("xresnet18", "xresnet34", "xresnet50")


def build_network(arch: str, n_classes: int, n_channels: int = 3) -> nn.Module:
    """Build an untrained network.

    Parameters
    ----------
    arch : str
        ``conv3``, one of fastai's xresnets, or the name of a timm model. ``conv3`` is the network
        of Wu's tutorial of 2020: three convolutions with 32, 64 and 128 maps, each with batch norm
        and ReLU, then pooling and one linear layer.
    n_classes : int
        Number of logits, C.
    n_channels : int, default 3
        Channels of the images: 3 for RGB, 1 for one band.

    Returns
    -------
    torch.nn.Module
        In training mode; takes images (N, n_channels, H, W) and returns logits (N, C).

    Raises
    ------
    ConfigError
        If the name is unknown, or timm is not installed.
    """
    if arch == "conv3":
        layers = _import_fastai("layers")
        return nn.Sequential(
            OrderedDict(
                conv1=layers.ConvLayer(n_channels, 32),
                conv2=layers.ConvLayer(32, 64),
                conv3=layers.ConvLayer(64, 128),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                linear=nn.Linear(128, n_classes),
            )
        )
    if arch in XRESNETS:
        xresnet = _import_fastai("vision.models.xresnet")
        return getattr(xresnet, arch)(pretrained=False, n_out=n_classes, c_in=n_channels)
    return _build_timm(arch, n_classes, n_channels)


def find_layer(
    model: nn.Module, name: str, image_size: int, arch: str = "", n_channels: int = 3
) -> tuple[str, nn.Module]:
    """Return the name and the module of the layer to explain.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode.
    name : str
        Name of the layer, as in ``model.named_modules()``; "auto" is the last module that returns
        feature maps (N, K, h, w).
    image_size : int
        Side of the images that the network takes [pixels].
    arch : str, optional
        Name of the architecture, for messages.
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    name : str
        Name of the layer.
    layer : torch.nn.Module
        The layer.

    Raises
    ------
    ConfigError
        If the name is not that of a layer with feature maps (the message lists these layers), the
        layer cannot be explained, or the network does not take images of this size.
    """
    shape = (1, n_channels, image_size, image_size)
    try:
        shapes = _trace_shapes(model, shape)
    # Networks for images of a fixed size report another size by different exceptions.
    except (RuntimeError, AssertionError, ValueError) as exc:
        raise ConfigError(
            f"{arch or 'model'}: cannot take images of {image_size} pixels "
            f"({one_line(exc)[:200]}); choose another `image_size`"
        ) from exc
    layers = [layer for layer, shape in shapes.items() if _is_feature_map(shape)]
    if name == "auto":
        # Where tokens (N, T, K) follow the last map, as in a transformer, that map is only the
        # patch embedding, which is not a useful default.
        deep = [
            layer for layer, shape in shapes.items() if _is_feature_map(shape) or len(shape) == 3
        ]
        if not layers:
            raise ConfigError(
                f"{arch or 'model'}: no layer gives feature maps (N, K, h, w) of images of "
                f"{image_size} pixels, expected one; choose another `arch` or `image_size`"
            )
        if deep[-1] not in layers:
            raise ConfigError(
                f"{arch or 'model'}: does not end in feature maps (N, K, h, w); choose a "
                f"`layer` from {', '.join(layers)}"
            )
        name = deep[-1]
    elif name not in layers:
        hint = f"{suggest(name, layers)} it has {', '.join(layers)}".strip()
        raise ConfigError(
            f"layer {name!r}: not a layer of {arch or 'the model'} with feature maps; {hint}"
        )
    else:
        _probe(model, name, shape)
    return name, model.get_submodule(name)


def _probe(model: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    """Raise ConfigError if a layer cannot be explained, before any long work begins."""
    images = next(model.parameters()).new_zeros(shape)
    try:
        grad_cam(model, images, model.get_submodule(name))
    except ValueError as exc:
        reason = str(exc).removeprefix("layer: ")
        raise ConfigError(f"layer {name!r}: {reason}; choose another `layer`") from exc


def _is_feature_map(shape: torch.Size) -> bool:
    """Return whether a shape is of maps (N, K, h, w), not of pixels (N, h, w, K) or pooled maps."""
    return len(shape) == 4 and shape[2] == shape[3] > 1


def _trace_shapes(model: nn.Module, shape: tuple[int, ...]) -> dict[str, torch.Size]:
    """Return the shape of each submodule's output, in the order in which the submodules finish.

    A container finishes after its contents, so the last submodule is the outermost block.
    """
    shapes: dict[str, torch.Size] = {}

    def note(name: str, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        # An identity only repeats the output of the layer before it.
        if isinstance(output, Tensor) and not isinstance(module, nn.Identity):
            shapes[name] = output.shape

    handles = [
        module.register_forward_hook(partial(note, name))
        for name, module in model.named_modules()
        if name
    ]
    parameter = next(model.parameters())
    try:
        with torch.no_grad():
            model(parameter.new_zeros(shape))
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _import_fastai(module: str) -> ModuleType:
    """Import a module of fastai, without the warnings about features that torch deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"fastai.{module}")


def _build_timm(arch: str, n_classes: int, n_channels: int) -> nn.Module:
    known = "conv3, " + ", ".join(XRESNETS)
    try:
        import timm
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"arch {arch!r}: not one of {known}; for timm's models: pip install 'galfig[timm]'"
        ) from exc
    if arch not in timm.list_models():
        names = [*timm.list_models(), *XRESNETS, "conv3"]
        hint = suggest(arch, names, f"expected {known} or a timm name")
        raise ConfigError(f"arch {arch!r}: unknown; {hint}")
    return timm.create_model(arch, pretrained=False, num_classes=n_classes, in_chans=n_channels)
