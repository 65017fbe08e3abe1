"""Families: networks of other libraries and of one's own, by names such as ``timm:resnet18``.

A name is that of a family, a colon, that of a network, and options after commas, such as
``fastai:resnet34,lin_ftrs=256``. A checkpoint records it, and may be anybody's: each option is one
of a few, and nothing is downloaded.
"""

import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

from galfig.errors import ConfigError
from galfig.runtime.messages import one_line, suggest

OWN = "python:"
"""How the names of networks that the user's own code builds begin."""
# Widest layer of a head: a file may name any number.
_MAX_WIDTH = 1 << 16


class Name(NamedTuple):
    """The name of an architecture of a family, in parts.

    Attributes
    ----------
    family : str
        A key of `FAMILIES`.
    network : str
        Name of the network in its library.
    options : dict
        Values of the options, by name.
    """

    family: str
    network: str
    options: dict[str, Any]


def build_member(arch: str, n_classes: int, n_channels: int = 3) -> nn.Module:
    """Build an untrained network of a family.

    Parameters
    ----------
    arch : str
        Such as ``timm:resnet18``, ``torchvision:resnet18``, ``fastai:resnet34,lin_ftrs=256`` or
        ``zoobot:convnext_nano``.
    n_classes : int
        Number of logits, C.
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    torch.nn.Module
        In training mode; takes images (N, n_channels, H, W) and returns logits (N, C).

    Raises
    ------
    ConfigError
        If the family, the network or an option is unknown, or its library is not installed; or if
        the name is that of the user's own code, which only `build_own` imports.
    """
    if arch.startswith(OWN):
        raise ConfigError(
            f"arch {arch!r}: code of your own, which galfig imports only where you name it "
            "yourself, and never because a file does; pass `arch` as well"
        )
    name = parse_arch(arch)
    try:
        with warnings.catch_warnings():
            # Libraries say how they will initialise weights one day.
            warnings.simplefilter("ignore")
            return FAMILIES[name.family].build(name, n_classes, n_channels)
    except ConfigError:
        raise
    # Not every network takes every option, nor has every body that fastai can cut.
    except Exception as exc:
        reason = f"{type(exc).__name__}: {one_line(exc)[:200]}"
        raise ConfigError(
            f"arch {arch!r}: cannot be built ({reason}); choose another network or other options"
        ) from exc


def build_own(arch: str, n_classes: int, n_channels: int = 3) -> nn.Module:
    """Build a network with the user's own code, which is imported and run.

    Call this only with a name that the user has given, never with one from a file.

    Parameters
    ----------
    arch : str
        ``python:package.module:function``. The module is looked for as Python does, and in the
        working directory. The function gets ``n_classes`` and ``n_channels`` as keywords if it has
        parameters of these names, and returns the network.
    n_classes : int
        Number of logits, C.
    n_channels : int, default 3
        Channels of the images.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ConfigError
        If the name is not of this form, there is no such module or function, the function fails,
        or it returns something else.
    """
    module_name, _, function_name = arch.removeprefix(OWN).partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), function_name]):
        raise ConfigError(f"arch {arch!r}: expected python:package.module:function")
    try:
        with _finding_modules_here():
            module = importlib.import_module(module_name)
        function = getattr(module, function_name, None)
        if not callable(function):
            names = [key for key, value in vars(module).items() if inspect.isfunction(value)]
            hint = suggest(function_name, names, f"it has {', '.join(names) or 'none'}")
            raise ConfigError(f"arch {arch!r}: no function {function_name!r} there; {hint}")
        given = {"n_classes": n_classes, "n_channels": n_channels}
        known = inspect.signature(function).parameters
        network = function(**{key: value for key, value in given.items() if key in known})
    except ConfigError:
        raise
    # The user's code may raise anything.
    except Exception as exc:
        reason = f"{type(exc).__name__}: {one_line(exc)[:200]}"
        raise ConfigError(f"arch {arch!r}: cannot be built ({reason})") from exc
    if not isinstance(network, nn.Module):
        found = type(network).__name__
        raise ConfigError(f"arch {arch!r}: gives a {found}, expected a torch.nn.Module")
    return network


@contextmanager
def _finding_modules_here() -> Iterator[None]:
    """Have Python look for modules in the working directory as well, within the block."""
    here = str(Path.cwd())
    is_new = here not in sys.path
    if is_new:
        sys.path.append(here)
    try:
        yield
    finally:
        if is_new:
            sys.path.remove(here)


def parse_arch(arch: str) -> Name:
    """Take the name of an architecture of a family apart.

    Parameters
    ----------
    arch : str
        Such as ``fastai:resnet34,lin_ftrs=256``.

    Returns
    -------
    Name

    Raises
    ------
    ConfigError
        If the family or an option is unknown, or the value of an option is not of its kind.
    """
    family, _, rest = arch.partition(":")
    if family not in FAMILIES:
        known = [*FAMILIES, "python"]
        hint = suggest(family, known, f"expected one of {', '.join(known)} before the colon")
        raise ConfigError(f"arch {arch!r}: unknown family {family!r}; {hint}")
    network, *settings = rest.split(",")
    readers = FAMILIES[family].options
    options = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in readers:
            hint = suggest(key, readers, f"expected one of {', '.join(readers) or 'none'}")
            raise ConfigError(f"arch {arch!r}: unknown option {key!r} of {family}; {hint}")
        try:
            options[key] = readers[key](text)
        except ValueError as exc:
            raise ConfigError(f"arch {arch!r}: option {key} is {text!r}, expected {exc}") from exc
    return Name(family, network, options)


def list_relatives(arch: str, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Give names of architectures that weights may be of, if not of the one that was named.

    Parameters
    ----------
    arch : str
        The architecture that was named.
    shapes : mapping of str to tuple of int
        Shape of each tensor, by name.

    Yields
    ------
    str
        Names, some of which are not those of any network.
    """
    family, _, network = arch.rpartition(":")
    network = network.partition(",")[0]
    if family.startswith("fastai"):
        yield from _list_heads(network, shapes)
    for other in FAMILIES:
        if other != family:
            yield f"{other}:{network}"
    if not family.startswith("fastai"):
        yield from _list_heads(network, shapes)


def _list_heads(network: str, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Give the names of fastai's networks with every head of the widths that the tensors have."""
    if not any(name.startswith("1.") for name in shapes):
        return
    widths = [shape[0] for name, shape in shapes.items() if name[:2] == "1." and len(shape) == 2]
    lin_ftrs = "x".join(map(str, widths[:-1])) or "none"
    choices = {
        "concat_pool": ("", "false"),
        "ps": ("", "0"),
        "first_bn": ("", "false"),
        "bn_final": ("", "true"),
        "lin_first": ("", "true"),
    }
    body = f"timm:{network}" if any(name.startswith("0.model.") for name in shapes) else network
    for values in product(*choices.values()):
        options = dict(zip(choices, values, strict=True))
        if lin_ftrs != "512":
            options["lin_ftrs"] = lin_ftrs
        parts = [f"{key}={value}" for key, value in options.items() if value]
        yield ",".join([f"fastai:{body}", *parts])


def import_fastai(module: str) -> ModuleType:
    """Import a module of fastai, without the warnings about features that torch deprecates.

    Parameters
    ----------
    module : str
        Its name within fastai.

    Returns
    -------
    module
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"fastai.{module}")


def import_timm(arch: str) -> ModuleType:
    """Import timm.

    Parameters
    ----------
    arch : str
        The architecture that needs it, for the message.

    Returns
    -------
    module

    Raises
    ------
    ConfigError
        If timm is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"arch {arch!r}: needs timm, which is not installed: pip install 'galfig[timm]'"
        ) from exc


def _find_timm_name(arch: str, network: str) -> str:
    """Return the name of a network of timm without the tag of its weights, such as ``.a1_in1k``.

    Other names, such as ``hf-hub:owner/name``, would be downloaded.
    """
    timm = import_timm(arch)
    bare = network.partition(".")[0]
    if bare not in timm.list_models():
        hint = suggest(bare, timm.list_models(), "expected a name of timm.list_models()")
        raise ConfigError(f"arch {arch!r}: unknown to timm; {hint}")
    return bare


def _write(name: Name) -> str:
    return f"{name.family}:{name.network}"


def _build_timm(name: Name, n_classes: int, n_channels: int) -> nn.Module:
    network = _find_timm_name(_write(name), name.network)
    return import_timm(_write(name)).create_model(
        network, pretrained=False, num_classes=n_classes, in_chans=n_channels, **name.options
    )


def _find_torchvision_maker(network: str) -> Callable[..., nn.Module] | None:
    models = importlib.import_module("torchvision.models")
    if network not in models.list_models(module=models):
        return None
    return models.get_model_builder(network)


def _build_torchvision(name: Name, n_classes: int, n_channels: int) -> nn.Module:
    make = _find_torchvision_maker(name.network)
    if make is None:
        models = importlib.import_module("torchvision.models")
        known = models.list_models(module=models)
        hint = suggest(name.network, known, "expected a name of torchvision.models")
        raise ConfigError(f"arch {_write(name)!r}: unknown to torchvision; {hint}")
    options = dict(name.options)
    if "init_weights" in inspect.signature(_find_class(make)).parameters:
        # Their weights are replaced; to draw them takes half a minute.
        options["init_weights"] = False
    model = make(weights=None, num_classes=n_classes, **options)
    return _set_channels(model, n_channels)


def _find_class(make: Callable[..., nn.Module]) -> Callable[..., Any]:
    """Return the class that a function of torchvision builds, where its annotation says so."""
    found = inspect.signature(make).return_annotation
    return found if inspect.isclass(found) else make


def _set_channels(model: nn.Module, n_channels: int) -> nn.Module:
    """Have the first convolution of a network take another number of channels."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != n_channels:
                parent, _, child = name.rpartition(".")
                first = nn.Conv2d(
                    n_channels,
                    module.out_channels,
                    module.kernel_size,  # type: ignore[arg-type]
                    module.stride,  # type: ignore[arg-type]
                    module.padding,  # type: ignore[arg-type]
                    module.dilation,  # type: ignore[arg-type]
                    bias=module.bias is not None,
                )
                setattr(model.get_submodule(parent), child, first)
            break
    return model


def list_bodies(network: str) -> tuple[str, ...]:
    """Return the library from which fastai takes the body of a network; nothing for its own."""
    if _find_torchvision_maker(network) is not None:
        return ("torchvision",)
    return () if network.startswith("xresnet") else ("timm",)


def _build_fastai(name: Name, n_classes: int, n_channels: int) -> nn.Module:
    """Build what ``vision_learner`` trains: a body without its head, and fastai's own head."""
    learner = import_fastai("vision.learner")
    options = dict(name.options)
    library, _, network = name.network.rpartition(":")
    if library not in ("", "timm"):
        raise ConfigError(f"arch {_write(name)!r}: expected fastai:NAME or fastai:timm:NAME")
    make = None if library else _find_torchvision_maker(network)
    if make is None and not library and network.startswith("xresnet"):
        make = getattr(import_fastai("vision.models.xresnet"), network, None)
    if make is not None:
        return learner.create_vision_model(
            make, n_classes, pretrained=False, n_in=n_channels, **options
        )
    network = _find_timm_name(_write(name), network)
    return learner.create_timm_model(
        network, n_classes, pretrained=False, n_in=n_channels, **options
    )[0]


class _LinearHead(nn.Module):
    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)


class EncoderAndHead(nn.Module):
    """An encoder that returns features, and a linear head, as Zoobot names and joins them [1]_.

    Parameters
    ----------
    encoder : torch.nn.Module
        Takes images (N, n_channels, H, W) and returns features (N, F).
    n_features : int
        Number of features, F.
    n_classes : int
        Number of logits, C.

    References
    ----------
    .. [1] Walmsley et al. 2023, Journal of Open Source Software 8, 5312
    """

    def __init__(self, encoder: nn.Module, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = _LinearHead(n_features, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, C) of images (N, n_channels, H, W)."""
        return self.head(self.encoder(images))


def _build_zoobot(name: Name, n_classes: int, n_channels: int) -> nn.Module:
    network = _find_timm_name(_write(name), name.network)
    encoder = import_timm(_write(name)).create_model(
        network, pretrained=False, num_classes=0, in_chans=n_channels, **name.options
    )
    # Some networks have a layer of another width between the pooling and the head.
    n_features = getattr(encoder, "head_hidden_size", None) or encoder.num_features
    return EncoderAndHead(encoder, n_features, n_classes)


def _read_truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def _read_widths(text: str) -> list[int]:
    if text == "none":
        return []
    widths = [int(part) if part.isdecimal() else 0 for part in text.split("x")]
    if len(widths) > 8 or not all(0 < width <= _MAX_WIDTH for width in widths):
        raise ValueError(f"widths such as 512 or 512x128, each at most {_MAX_WIDTH}, or none")
    return widths


def _read_share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ValueError("a number from 0 to 1")
    return share


def _read_pool(text: str) -> str:
    kinds = ("avg", "max", "avgmax", "catavgmax")
    if text not in kinds:
        raise ValueError(f"one of {', '.join(kinds)}")
    return text


def _read_cut(text: str) -> int:
    if not text.removeprefix("-").isdecimal():
        raise ValueError("a whole number")
    return int(text)


class Family(NamedTuple):
    """A library of networks.

    Attributes
    ----------
    build : callable
        Builds a network from its `Name`, the number of classes and that of channels.
    options : dict of str to callable
        Reads the value of each option; raises ValueError with what is expected.
    """

    build: Callable[[Name, int, int], nn.Module]
    options: dict[str, Callable[[str], Any]]


FAMILIES: dict[str, Family] = {
    "timm": Family(_build_timm, {"global_pool": _read_pool}),
    "torchvision": Family(
        _build_torchvision, {"transform_input": _read_truth, "aux_logits": _read_truth}
    ),
    "fastai": Family(
        _build_fastai,
        {
            "concat_pool": _read_truth,
            "lin_ftrs": _read_widths,
            "ps": _read_share,
            "first_bn": _read_truth,
            "bn_final": _read_truth,
            "lin_first": _read_truth,
            "cut": _read_cut,
        },
    ),
    "zoobot": Family(_build_zoobot, {"global_pool": _read_pool}),
}
"""Each family, by the word before the colon."""
