"""Transfer: a training that starts from the weights of another network, with a new last layer."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from galfig.config import Settings
from galfig.errors import CheckpointError
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import Checkpoint, digest_content, load_checkpoint, read_header
from galfig.networks.pretrained import fetch_weights
from galfig.networks.weights import (
    MAX_BYTES,
    Shapes,
    describe_match,
    match_names,
    read_weights,
    take_by_name,
)
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import quote, shorten

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """The weights that a training starts from.

    Attributes
    ----------
    tensors : dict of str to Tensor
        All tensors below the last layer, by the names of the network's ``state_dict``.
    origin : dict of str to str
        Where they come from, as the checkpoint records it: ``source``, ``sha256`` and, where it is
        known, ``arch``.
    mean, std : tuple of float, optional
        The normalisation of each channel with which they were trained, for values in [0, 1]; None
        where it is unknown.
    checkpoint : Checkpoint, optional
        The network that they come from, if galfig wrote the file.
    """

    tensors: dict[str, Tensor] = field(repr=False)
    origin: dict[str, str]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    checkpoint: Checkpoint | None = None

    def load_into(self, model: nn.Module) -> None:
        """Replace the weights of a network below its last layer.

        Parameters
        ----------
        model : torch.nn.Module
            A network of the architecture for which `load_start` checked the weights.
        """
        model.load_state_dict({**model.state_dict(), **self.tensors})


def load_start(settings: Settings, n_classes: int) -> Start | None:
    """Load the weights that the settings start a training from.

    Parameters
    ----------
    settings : Settings
        ``[training] init`` names a file, and ``pretrained`` asks timm or torchvision.
    n_classes : int
        Number of classes of the new network, C.

    Returns
    -------
    Start or None
        None if the training starts from random weights.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or does not fit the architecture; the message says what is
        missing or left over.
    ConfigError
        If the library offers no weights for the architecture, or they cannot be downloaded.
    """
    if settings.init_path is not None:
        start = read_start(settings.init_path, settings, n_classes)
    elif settings.training.pretrained:
        start = _fetch_start(settings, n_classes)
    else:
        return None
    origin = start.origin
    logger.info("starting from the weights of %s (SHA-256 %s)", origin["source"], origin["sha256"])
    return start


def digest_init(settings: Settings) -> str | None:
    """Return the SHA-256 of the file that ``[training] init`` names; None if it names none.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    str or None
        As hexadecimal digits.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    path = settings.init_path
    return None if path is None else sha256(_read_file(path)).hexdigest()


def read_start(path: Path, settings: Settings, n_classes: int) -> Start:
    """Read the weights of a file, and check that they fit.

    Parameters
    ----------
    path : Path
        A checkpoint of galfig, or what `galfig.networks.weights.read_weights` reads. Nothing in it
        is executed.
    settings : Settings
        Architecture and channels of the new network.
    n_classes : int
        Number of classes of the new network, C.

    Returns
    -------
    Start

    Raises
    ------
    CheckpointError
        If the file cannot be read, or does not fit the architecture by name and shape. Its last
        layer does not count.
    """
    if not _is_ours(_read_file(path)):
        weights = read_weights(path)
        body = _take_body(str(path), weights.tensors, settings, n_classes)
        return Start(body, {"source": path.name, "sha256": weights.sha256})
    checkpoint = load_checkpoint(path)
    record = checkpoint.record
    if record.arch != settings.training.arch:
        raise CheckpointError(
            f"{path}: a network {record.arch}, expected {settings.training.arch}; set "
            f"`arch={quote(record.arch)}` to start from it"
        )
    body = _take_body(str(path), checkpoint.model.state_dict(), settings, n_classes)
    origin = {"source": path.name, "sha256": checkpoint.digest, "arch": record.arch}
    return Start(body, origin, tuple(record.mean), tuple(record.std), checkpoint)


def name_head(settings: Settings, n_classes: int) -> frozenset[str]:
    """Name the tensors of the last layer: those whose shape follows from the number of classes.

    Parameters
    ----------
    settings : Settings
        Architecture and channels of the network.
    n_classes : int
        Number of classes, C.

    Returns
    -------
    frozenset of str
        Their names in the ``state_dict``.
    """
    one, other = (_list_shapes(settings, n) for n in (n_classes, n_classes + 1))
    return frozenset(name for name in one if one[name] != other[name])


def _read_file(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc


def _is_ours(data: bytes) -> bool:
    """Return whether galfig wrote a file."""
    try:
        return "galfig" in read_header(data)[0]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _fetch_start(settings: Settings, n_classes: int) -> Start:
    # Whether the network exists is known without a download.
    _list_shapes(settings, n_classes)
    weights = fetch_weights(settings.training.arch, n_classes, settings.n_channels)
    body = _take_body(weights.source, weights.tensors, settings, n_classes)
    origin = {
        "source": weights.source,
        "sha256": digest_content({}, body),
        "arch": settings.training.arch,
    }
    if settings.n_channels != 3:
        # The statistics are those of colour images.
        return Start(body, origin)
    return Start(body, origin, weights.mean, weights.std)


def _list_shapes(settings: Settings, n_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors, which take no memory here."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        skeleton = build_network(settings.training.arch, n_classes, settings.n_channels)
    return _measure(skeleton.state_dict())


def _measure(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _take_body(
    where: str, tensors: Mapping[str, Tensor], settings: Settings, n_classes: int
) -> dict[str, Tensor]:
    """Return the tensors below the last layer; raise CheckpointError unless they fit."""
    head = name_head(settings, n_classes)
    shapes, found = _list_shapes(settings, n_classes), _measure(tensors)
    # The last layer finds what stands before the names, and counts no further.
    prefix = match_names(found, shapes).prefix
    expected: Shapes = {name: shape for name, shape in shapes.items() if name not in head}
    found = {name: found[name] for name in found if name.removeprefix(prefix) not in head}
    match = match_names(found, expected)
    if not match.fits:
        raise CheckpointError(
            f"{where}: does not fit {settings.training.arch} below its last layer "
            f"({describe_match(match, found, expected)}); set the `arch` of these weights"
        )
    if match.outside:
        logger.warning(
            "%s: %d tensors are not those of %s and left out: %s",
            where,
            len(match.outside),
            settings.training.arch,
            shorten(match.outside, 3),
        )
    body = take_by_name(tensors, match, expected)
    for name, tensor in body.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{where}: {quote(name)} contains non-finite numbers")
    return body
