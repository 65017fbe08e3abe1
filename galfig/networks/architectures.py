"""Architectures by name, and the layer of a network to explain."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from galfig.attribution.gradcam import Tokens, grad_cam
from galfig.errors import ConfigError
from galfig.networks.families import FAMILIES, build_member, import_fastai, list_bodies
from galfig.networks.layers import Output, find_bottlenecks, sees_past, trace_outputs
from galfig.networks.tokens import (
    LEAST_TOKENS,
    MOVED,
    UNREAD,
    Located,
    find_in_place,
    find_reach,
    find_tokens,
)
from galfig.runtime.messages import one_line, suggest

# Networks for images of a fixed size report another size by different exceptions.
_REFUSALS = (RuntimeError, AssertionError, ValueError, TypeError, IndexError)
# Layers that one message names.
N_LISTED = 16
XRESNETS = ("xresnet18", "xresnet34", "xresnet50")
# What may follow their names.
_VARIANTS = ("", "_mish", "_sa", "_mish_sa")


def build_network(arch: str, n_classes: int, n_channels: int = 3) -> nn.Module:
    """Build an untrained network.

    Parameters
    ----------
    arch : str
        ``conv3``, one of fastai's xresnets, the name of a timm model, or the name of a network of
        a family, such as ``torchvision:resnet18``; see `galfig.networks.families`. ``conv3`` is
        the network of Wu's tutorial of 2020: three convolutions with 32, 64 and 128 maps, each
        with batch norm and ReLU, then pooling and one linear layer. Behind the name of an xresnet,
        ``_mish`` stands for Mish instead of ReLU [1]_, ``_sa`` for self-attention at the end of
        the first stage, and ``_mish_sa`` for both.
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
        If the name is unknown, timm is not installed, or the name is that of the user's own code.

    References
    ----------
    .. [1] Misra 2019, arXiv:1908.08681
    """
    if ":" in arch:
        return build_member(arch, n_classes, n_channels)
    if arch == "conv3":
        layers = import_fastai("layers")
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
    base, underscore, variant = arch.partition("_")
    if base in XRESNETS and underscore + variant in _VARIANTS:
        return _build_xresnet(base, variant.split("_"), n_classes, n_channels)
    return _build_timm(arch, n_classes, n_channels)


def list_libraries(arch: str) -> tuple[str, ...]:
    """List the libraries whose layers or networks an architecture is made of, besides torch.

    Parameters
    ----------
    arch : str
        Its name, as of `build_network`; it need not be a known one.

    Returns
    -------
    tuple of str
        Of "fastai", "timm" and "torchvision"; empty if the network is the user's own.
    """
    family, colon, rest = arch.partition(":")
    if not colon:
        is_ours = arch == "conv3" or arch.partition("_")[0] in XRESNETS
        return ("fastai",) if is_ours else ("timm",)
    if family == "fastai":
        return ("fastai", *list_bodies(rest.partition(",")[0]))
    return {"timm": ("timm",), "torchvision": ("torchvision",), "zoobot": ("timm",)}.get(family, ())


def check_arch(arch: str, n_classes: int = 2, n_channels: int = 3) -> None:
    """Check that a network can be built, without memory for its weights.

    Parameters
    ----------
    arch, n_classes, n_channels
        As of `build_network`.

    Raises
    ------
    ConfigError
        As `build_network`.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        build_network(arch, n_classes, n_channels)


def find_layer(
    model: nn.Module, name: str, image_size: int, arch: str = "", n_channels: int = 3
) -> tuple[str, nn.Module]:
    """Return the name and the module of the layer to explain.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode, on any device including "meta".
    name : str
        Name of the layer, as in ``model.named_modules()``; "auto" is the last module that returns
        feature maps, (N, K, h, w) or (N, h, w, K), of more than one pixel and past which the
        logits do not see the image; see `galfig.networks.layers.sees_past`. Of a transformer, it is
        the last sequence (N, T, K) whose elements lie in the image and change the logits, behind
        the norm through which the last attention reads it if there is a class token; see
        `galfig.networks.tokens.find_tokens`.
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
        The layer. A layer that was named may be one past which the logits see the image, or one
        with maps of a single pixel; `describe_layer` says so.

    Raises
    ------
    ConfigError
        If the name is not that of a layer with feature maps (the message lists these layers), the
        layer cannot be explained, "auto" finds none, or the network does not take images of this
        size.
    """
    try_images(model, 1, image_size, arch, n_channels)
    outputs = trace_outputs(model, image_size, n_channels)
    if name == "auto":
        name = _choose_layer(model, outputs, image_size, arch, n_channels)
    else:
        output = _find_named(outputs, name, arch)
        tokens = _locate(model, output, outputs, image_size, n_channels)
        _probe(model, output, (1, n_channels, image_size, image_size), tokens)
    return name, model.get_submodule(name)


@dataclass(frozen=True)
class LayerTraits:
    """What must be known of a layer to explain it, and to read its maps.

    Attributes
    ----------
    channels_last : bool
        Whether its maps are (N, h, w, K), not (N, K, h, w).
    is_bypassed : bool
        Whether the image also reaches the logits past it, or past the elements of its sequence that
        lie in the image.
    warning : str
        One line about what limits its maps; "" if there is nothing to say.
    tokens : Tokens or None
        Where the elements of its sequence (N, T, K) lie; None if its output are maps.
    """

    channels_last: bool = False
    is_bypassed: bool = False
    warning: str = ""
    tokens: Tokens | None = None


def describe_layer(
    model: nn.Module, name: str, image_size: int, arch: str = "", n_channels: int = 3
) -> LayerTraits:
    """Describe a layer that `find_layer` accepted.

    Parameters
    ----------
    model, name, image_size, arch, n_channels
        As for `find_layer`; the name is that of a layer.

    Returns
    -------
    LayerTraits
    """
    outputs = trace_outputs(model, image_size, n_channels)
    kinds = {output.name: output.kind for output in outputs}
    tokens = None
    if kinds.get(name) == "tokens":
        output = next(output for output in outputs if output.name == name)
        tokens = find_tokens(model, output, outputs, image_size, n_channels).tokens
    is_bypassed = sees_past(model, model.get_submodule(name), image_size, n_channels)
    where, warning = f"layer {name!r} of {arch or 'the model'}", ""
    if (
        tokens is not None
        and tokens.n_prefix
        and find_reach(model, {name: tokens}, image_size, n_channels)[name].prefix
    ):
        is_bypassed = True
        warning = (
            f"{where}: the image also reaches the logits through the first {tokens.n_prefix} of "
            "its tokens, which lie nowhere in the image, so that its maps show only part of the "
            "evidence"
        )
    elif is_bypassed:
        warning = (
            f"{where}: the image also reaches the logits past it, so that its maps show only the "
            'part of the evidence that flows through it; `layer="auto"` finds a layer through '
            "which all of it flows, if there is one"
        )
    elif kinds.get(name) == "pooled":
        warning = (
            f"{where}: its maps have a single pixel for images of {image_size} pixels, so that "
            'they cannot show where the evidence is; use `layer="auto"` or a larger `image_size`'
        )
    return LayerTraits(kinds.get(name) == "channels last", is_bypassed, warning, tokens)


def locate_layers(
    model: nn.Module, outputs: Sequence[Output], image_size: int, n_channels: int = 3
) -> dict[str, Located]:
    """Find where the elements of all sequences of a network lie, and which can be explained.

    Parameters
    ----------
    model, image_size, n_channels
        As for `find_layer`.
    outputs : sequence of Output
        What its submodules return; see `galfig.networks.layers.trace_outputs`.

    Returns
    -------
    dict of str to Located
        By the name of the layer; with the reason where it cannot be explained.
    """
    found: dict[str, Located] = {}
    by_length: dict[int, Located] = {}
    for output in outputs:
        if output.kind != "tokens" or output.n_runs != 1:
            continue
        n_tokens = output.shape[1]
        if n_tokens not in by_length:
            by_length[n_tokens] = find_tokens(model, output, outputs, image_size, n_channels)
        found[output.name] = by_length[n_tokens]
    layers = {name: one.tokens for name, one in found.items() if one.tokens is not None}
    in_place = find_in_place(model, layers, image_size, n_channels)
    reach = find_reach(model, layers, image_size, n_channels)
    for name in layers:
        if name not in in_place:
            found[name] = Located(None, MOVED)
        elif not reach[name].grid:
            found[name] = Located(None, UNREAD)
    return found


def try_images(
    model: nn.Module, n_images: int, image_size: int, arch: str = "", n_channels: int = 3
) -> object:
    """Return what a network gives for black images.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode, on any device including "meta".
    n_images : int
        Number of images.
    image_size : int
        Side of the images [pixels].
    arch : str, optional
        Name of the architecture, for messages.
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    object
        Logits (N, C), if the network is one that galfig can explain.

    Raises
    ------
    ConfigError
        If the network does not take such images.
    """
    where = arch or "model"

    def run(n: int) -> object:
        with torch.no_grad():
            return model(next(model.parameters()).new_zeros(n_images, n, image_size, image_size))

    try:
        return run(n_channels)
    except _REFUSALS as exc:
        for other in {1, 3, _count_channels(model)} - {n_channels}:
            if _runs(partial(run, other)):
                raise ConfigError(
                    f"{where}: takes images of {_write_channels(other)}, but `mean` and `std` "
                    f"have {n_channels}; it needs a mean and a std for each channel"
                ) from exc
        raise ConfigError(
            f"{where}: cannot take images of {image_size} pixels "
            f"({one_line(exc)[:200] or type(exc).__name__}); choose another `image_size`"
        ) from exc


def _runs(run: Callable[[], object]) -> bool:
    try:
        run()
    except _REFUSALS:
        return False
    return True


def _count_channels(model: nn.Module) -> int:
    """Return the number of channels of the first convolution; 3 if there is none."""
    kernels = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return next((kernel.in_channels for kernel in kernels), 3)


def _write_channels(n: int) -> str:
    return "one band" if n == 1 else f"{n} channels"


def _choose_layer(
    model: nn.Module, outputs: list[Output], image_size: int, arch: str, n_channels: int
) -> str:
    """Return the last layer through which all of the image flows while it is still an image."""
    where = arch or "model"
    every, located = outputs, dict[int, Located]()
    outputs = [one for one in outputs if one.kind not in ("other", "pooled") and one.n_runs == 1]
    names = [output.name for output in outputs]
    bottlenecks = find_bottlenecks(model, names, image_size, n_channels)
    # What may be named in place of the layer that is not found.
    choices = outputs
    for output in reversed(outputs):
        if output.name not in bottlenecks:
            continue
        if sees_past(model, model.get_submodule(output.name), image_size, n_channels):
            continue
        tokens = None
        if output.kind == "tokens":
            n_tokens = output.shape[1]
            # Class tokens alone, behind an attention that reads the image for them.
            if n_tokens < LEAST_TOKENS:
                choices = [one for one in choices if one.shape != output.shape]
                continue
            if n_tokens not in located:
                located[n_tokens] = find_tokens(model, output, every, image_size, n_channels)
            tokens, reason = located[n_tokens]
            if tokens is not None:
                layers = {output.name: tokens}
                if not find_reach(model, layers, image_size, n_channels)[output.name].grid:
                    choices = [one for one in choices if one is not output]
                    continue
                if tokens.n_prefix:
                    output = _find_norm_behind(model, outputs, output)
                if not find_in_place(model, {output.name: tokens}, image_size, n_channels):
                    reason = MOVED
            # Earlier maps are no more than the patch embedding of a transformer.
            if reason:
                choices = [one for one in choices if one.shape[1:-1] != output.shape[1:-1]]
                raise ConfigError(
                    f"{where}: does not end in feature maps (N, K, h, w) but in the sequence "
                    f"(N, T, K) of {output.name!r}, whose tokens {reason}; "
                    f"{_list_choices(choices, bottlenecks)}"
                )
        _probe(model, output, (1, n_channels, image_size, image_size), tokens)
        return output.name
    if outputs:
        raise ConfigError(
            f"{where}: has no layer with feature maps (N, K, h, w) of images of {image_size} "
            f"pixels through which all of the image flows; {_list_choices(choices, bottlenecks)}"
        )
    raise ConfigError(
        f"{where}: no layer gives feature maps (N, K, h, w) of more than one pixel of images of "
        f"{image_size} pixels, expected one; choose another `arch` or `image_size`"
    )


def _find_norm_behind(model: nn.Module, outputs: list[Output], output: Output) -> Output:
    """Return the norm through which the next block reads a sequence, or the sequence itself.

    The gradient of what a norm reads is at right angles to it, so that HiResCAM and all that add
    up products with the gradient would be zero.
    """
    for following in outputs[outputs.index(output) + 1 :]:
        if following.shape != output.shape:
            break
        if "norm" in type(model.get_submodule(following.name)).__name__.lower():
            return following
    return output


def _list_choices(outputs: list[Output], bottlenecks: Collection[str]) -> str:
    names = _list_layers(outputs)
    # Those within branches only where there are no others.
    names = [name for name in names if name in bottlenecks] or names
    return f"choose a `layer` from {_write_names(names)}" if names else "choose another `arch`"


def _write_names(names: Sequence[str]) -> str:
    """Return the names of the deepest layers, and how many there are before them."""
    n_more = len(names) - N_LISTED
    return ", ".join(names[-N_LISTED:]) + (f" and {n_more} before them" if n_more > 0 else "")


def _list_layers(outputs: list[Output]) -> list[str]:
    return [output.name for output in outputs if output.kind in ("maps", "channels last", "tokens")]


def _find_named(outputs: list[Output], name: str, arch: str) -> Output:
    """Return the output of a layer that was named; raise ConfigError unless it is maps."""
    named = next((output for output in outputs if output.name == name), None)
    if named is not None and named.kind in ("maps", "channels last", "pooled", "tokens"):
        return named
    layers = _list_layers(outputs)
    hint = f"{suggest(name, layers)} it has {_write_names(layers) or 'none'}".strip()
    raise ConfigError(
        f"layer {name!r}: not a layer of {arch or 'the model'} with feature maps; {hint}"
    )


def _locate(
    model: nn.Module, output: Output, outputs: list[Output], image_size: int, n_channels: int
) -> Tokens | None:
    """Return where the tokens of a layer that was named lie, if it has any."""
    if output.kind != "tokens":
        return None
    tokens, reason = find_tokens(model, output, outputs, image_size, n_channels)
    if tokens is not None and not find_in_place(
        model, {output.name: tokens}, image_size, n_channels
    ):
        tokens, reason = None, MOVED
    if tokens is None:
        raise ConfigError(
            f"layer {output.name!r}: gives sequences {output.shape}, whose tokens {reason}, "
            "expected feature maps (N, K, h, w), or tokens that are a grid of the image, row by "
            "row; choose another `layer` or `arch`"
        )
    reach = find_reach(model, {output.name: tokens}, image_size, n_channels)
    if not reach[output.name].grid:
        raise ConfigError(
            f"layer {output.name!r}: gives sequences whose tokens {UNREAD}, "
            'so that its maps would be zero; use `layer="auto"`, or an earlier one'
        )
    return tokens


def _probe(
    model: nn.Module, output: Output, shape: tuple[int, ...], tokens: Tokens | None = None
) -> None:
    """Raise ConfigError if a layer cannot be explained, before any long work begins."""
    images = next(model.parameters()).new_zeros(shape)
    try:
        layer, is_last = model.get_submodule(output.name), output.kind == "channels last"
        grad_cam(model, images, layer, channels_last=is_last, tokens=tokens)
    except ValueError as exc:
        reason = str(exc).removeprefix("layer: ")
        raise ConfigError(f"layer {output.name!r}: {reason}; choose another `layer`") from exc


def _build_xresnet(base: str, options: Sequence[str], n_classes: int, n_channels: int) -> nn.Module:
    build = getattr(import_fastai("vision.models.xresnet"), base)
    given = {"act_cls": import_fastai("layers").Mish} if "mish" in options else {}
    return build(pretrained=False, n_out=n_classes, c_in=n_channels, sa="sa" in options, **given)


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
        families = ", ".join(f"{family}:NAME" for family in FAMILIES)
        hint = suggest(arch, names, f"expected {known}, a timm name, {families}")
        raise ConfigError(f"arch {arch!r}: unknown; {hint}")
    return timm.create_model(arch, pretrained=False, num_classes=n_classes, in_chans=n_channels)
