"""Pretrained weights: what timm and torchvision offer, downloaded by these libraries."""

import logging
import os
from dataclasses import dataclass, field

import torch
from torch import Tensor

from galfig.errors import ConfigError
from galfig.networks.families import Name, import_timm, parse_arch
from galfig.runtime.messages import one_line
from galfig.runtime.options import OFFLINE

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """Weights that a library offers, as they were loaded.

    Attributes
    ----------
    tensors : dict of str to Tensor
        All tensors, by the names of the network's ``state_dict``; those of the last layer may be
        for other classes, or random.
    source : str
        The library and its name of the weights.
    mean, std : tuple of float
        The normalisation of each channel with which they were trained, for values in [0, 1].
    """

    tensors: dict[str, Tensor] = field(repr=False)
    source: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def fetch_weights(arch: str, n_classes: int, n_channels: int) -> Pretrained:
    """Fetch the weights that timm or torchvision offers for an architecture.

    The library keeps what it downloaded in its own cache. It checks the digest that it knows, and
    reads tensors only.

    Parameters
    ----------
    arch : str
        ``timm:NAME``, ``torchvision:NAME``, or the plain name of a timm model.
    n_classes : int
        Number of classes of the new network, C.
    n_channels : int
        Channels of its images. timm adapts its weights to them; those of torchvision are for 3.

    Returns
    -------
    Pretrained

    Raises
    ------
    ConfigError
        If nobody offers weights for the architecture, or they cannot be downloaded.
    """
    logger.info("asking for the pretrained weights of %s, which may be downloaded now", arch)
    name = parse_arch(arch) if ":" in arch else Name("timm", arch, {})
    if arch == "conv3" or arch.startswith("xresnet") or name.family not in ("timm", "torchvision"):
        raise _refuse(arch, "is no network of timm or torchvision, which offer the weights")
    if os.environ.get(OFFLINE):
        raise ConfigError(
            f"`pretrained`: nothing is downloaded here ({OFFLINE} is set, as in the steps of a "
            "manuscript); train once outside, and give the checkpoint by `init`"
        )
    try:
        if name.family == "torchvision":
            return _fetch_torchvision(name, n_channels)
        # Building draws random weights.
        with torch.random.fork_rng(devices=[]):
            return _fetch_timm(name, n_classes, n_channels)
    except ConfigError:
        raise
    except Exception as exc:
        # A network that fails gives errors of the library, of its client and of the system.
        reason = one_line(exc)[:160].rstrip(". ")
        raise ConfigError(
            f"`pretrained`: the weights of {arch} could not be downloaded, and this machine has no "
            f"copy of them ({reason}); train once where there is a network, or give a file by "
            "`init`"
        ) from exc


def _refuse(arch: str, reason: str) -> ConfigError:
    return ConfigError(
        f"`pretrained`: {arch} {reason}; choose another `arch`, timm:NAME or torchvision:NAME, or "
        "give a file by `init`"
    )


def _fetch_timm(name: Name, n_classes: int, n_channels: int) -> Pretrained:
    timm, network = import_timm(f"timm:{name.network}"), name.network
    bare, _, tag = network.partition(".")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{bare}.*")]
    if tag and tag not in tags:
        offer = ", ".join(tags) or "none"
        raise _refuse(f"timm:{network}", f"has no weights of this tag, only {offer}")
    known = timm.get_pretrained_cfg(network)
    if not known.has_weights:
        raise _refuse(f"timm:{network}", "has no weights in timm")
    model = timm.create_model(
        network, pretrained=True, num_classes=n_classes, in_chans=n_channels, **name.options
    )
    source = f"timm {known.architecture}.{known.tag}"
    return Pretrained(dict(model.state_dict()), source, tuple(known.mean), tuple(known.std))


def _fetch_torchvision(name: Name, n_channels: int) -> Pretrained:
    from torchvision.models import get_model_weights

    arch = f"torchvision:{name.network}"
    offered = get_model_weights(name.network)
    if not list(offered):
        raise _refuse(arch, "has no weights in torchvision")
    if n_channels != 3:
        raise _refuse(arch, f"has weights for images of 3 channels, not of {n_channels}")
    weights = offered.DEFAULT
    tensors = weights.get_state_dict(
        progress=False, check_hash=True, map_location="cpu", weights_only=True
    )
    transforms = weights.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    return Pretrained(dict(tensors), f"torchvision {weights}", mean, std)
