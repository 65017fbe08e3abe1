"""Transfer: a training that starts from the weights of another network, with a new last layer."""

import io
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from galfig.config import Settings, TrainingSettings
from galfig.errors import CheckpointError
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import MAX_BYTES, Checkpoint, load_checkpoint
from galfig.networks.pretrained import fetch_weights
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import one_line, quote, shorten

logger = logging.getLogger(__name__)

# Under which keys training loops save a state dict beside other things.
_STATE_DICTS = ("state_dict", "model")
# PyTorch itself supplies these counters of batch norm, which files of old versions lack.
_COUNTER = "num_batches_tracked"


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
            The network of the architecture for which `load_start` checked the weights.
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
    training = settings.training
    if settings.init_path is not None:
        start = read_start(settings.init_path, training, n_classes)
    elif training.pretrained:
        start = _fetch_start(training, n_classes)
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


def read_start(path: Path, training: TrainingSettings, n_classes: int) -> Start:
    """Read the weights of a file, and check that they fit.

    Parameters
    ----------
    path : Path
        A checkpoint of galfig, or a state dict as safetensors or from ``torch.save``. Nothing in it
        is executed.
    training : TrainingSettings
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
    data = _read_file(path)
    origin = {"source": path.name, "sha256": sha256(data).hexdigest()}
    checkpoint = None
    if data[8:9] == b"{" and b'"galfig"' in data[: 8 + int.from_bytes(data[:8], "little")]:
        checkpoint = load_checkpoint(path)
        origin["arch"] = checkpoint.record.arch
        if checkpoint.record.arch != training.arch:
            raise CheckpointError(
                f"{path}: is a network {checkpoint.record.arch}, expected {training.arch} as "
                f"`arch` says; train with `arch={quote(checkpoint.record.arch)}`"
            )
        tensors = dict(checkpoint.model.state_dict())
    else:
        tensors = _read_state_dict(path, data)
    body = _take_body(str(path), tensors, training, n_classes)
    if checkpoint is None:
        return Start(body, origin)
    record = checkpoint.record
    return Start(body, origin, tuple(record.mean), tuple(record.std), checkpoint)


def name_head(training: TrainingSettings, n_classes: int) -> frozenset[str]:
    """Name the tensors of the last layer: those whose shape follows from the number of classes.

    Parameters
    ----------
    training : TrainingSettings
        Architecture and channels of the network.
    n_classes : int
        Number of classes, C.

    Returns
    -------
    frozenset of str
        Their names in the ``state_dict``.
    """
    one, other = (_list_shapes(training, n) for n in (n_classes, n_classes + 1))
    return frozenset(name for name in one if one[name] != other[name])


def _fetch_start(training: TrainingSettings, n_classes: int) -> Start:
    weights = fetch_weights(training.arch, n_classes, training.n_channels)
    body = _take_body(weights.source, weights.tensors, training, n_classes)
    origin = {"source": weights.source, "sha256": _digest(body), "arch": training.arch}
    # The statistics are those of colour images.
    is_rgb = training.n_channels == 3
    return Start(body, origin, *((weights.mean, weights.std) if is_rgb else ()))


def _read_file(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc


def _take_body(
    where: str, tensors: Mapping[str, Tensor], training: TrainingSettings, n_classes: int
) -> dict[str, Tensor]:
    """Return the tensors below the last layer; raise CheckpointError unless they fit."""
    head = name_head(training, n_classes)
    body = {name: tensor for name, tensor in tensors.items() if name not in head}
    shapes = _list_shapes(training, n_classes)
    expected = {name: shape for name, shape in shapes.items() if name not in head}
    if difference := _describe_misfit(body, expected):
        raise CheckpointError(
            f"{where}: does not fit {training.arch} below its last layer ({difference}); train "
            "with the `arch` of these weights"
        )
    return body


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors, with their names, types and shapes."""
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _list_shapes(training: TrainingSettings, n_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors, which take no memory here."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        skeleton = build_network(training.arch, n_classes, training.n_channels)
    return {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}


def _read_state_dict(path: Path, data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file that galfig did not write."""
    try:
        if data[8:9] == b"{":
            return load_tensors(data)
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as exc:
        raise CheckpointError(
            f"{path}: not a state dict, expected tensors by name in a safetensors file or from "
            f"torch.save(model.state_dict(), ...) ({one_line(exc)[:100]})"
        ) from exc
    for key in _STATE_DICTS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path}: holds {type(found).__name__}, expected tensors by name")
    strange = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(
            f"{path}: {quote(str(strange[0]))} is no tensor, expected a state dict"
        )
    return {str(name): tensor for name, tensor in found.items()}


def _describe_misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> str:
    """Describe how tensors differ from those of a network by name or shape; "" if they fit."""
    missing = [name for name in expected if name not in tensors and not name.endswith(_COUNTER)]
    left_over = [name for name in tensors if name not in expected]
    words = [
        f"{len(names)} tensors {what}: {shorten(names, 3)}"
        for names, what in ((missing, "are missing"), (left_over, "are left over"))
        if names
    ]
    if words:
        return "; ".join(words)
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected[name]:
            return f"{quote(name)} is {tuple(tensor.shape)}, expected {expected[name]}"
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return f"{quote(name)} contains non-finite numbers"
    return ""
