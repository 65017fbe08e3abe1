"""Checkpoints: a network and a record of its training, in one safetensors file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from galfig.errors import CheckpointError, ConfigError
from galfig.networks.architectures import build_network, find_layer
from galfig.records import CheckpointRecord, describe_invalid
from galfig.runtime.files import ErrorOrReplace, replace_file
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import CHECKSUM_MISMATCH, one_line

CHECKPOINT_FORMAT = 1
# Largest file that is read [byte].
MAX_BYTES = 1 << 34


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A trained network and a record of its training.

    Attributes
    ----------
    model : torch.nn.Module
        The network, in evaluation mode; takes normalised images (N, n_channels, H, W) and returns
        logits (N, C).
    class_names : tuple of str
        Class of each logit, (C,).
    layer_name : str
        Name of the layer that is explained by default.
    metadata : dict
        Architecture, sizes, statistics, settings, history, metrics, digests, seeds, versions.
    digest : str
        SHA-256 of the file, or of the contents of a network that `wrap_network` wrapped; "" for a
        network that has no file yet.
    """

    model: nn.Module
    class_names: tuple[str, ...]
    layer_name: str
    metadata: dict[str, Any] = field(repr=False)
    digest: str = ""

    def __repr__(self) -> str:
        record = self.record
        return (
            f"<Checkpoint: {record.arch} for {', '.join(self.class_names)}, explains layer "
            f"{self.layer_name}, images of {record.image_size} pixels>"
        )

    @cached_property
    def record(self) -> CheckpointRecord:
        """The part of the metadata that is needed to use the network."""
        return CheckpointRecord.model_validate(self.metadata)

    @property
    def cutout_size(self) -> int:
        """Side of the central crop of each image [pixels]."""
        return self.record.cutout_size

    @property
    def image_size(self) -> int:
        """Side of the image that the network sees, after scaling the cutout [pixels]."""
        return self.record.image_size

    @property
    def n_channels(self) -> int:
        """Number of channels that the network sees: 3 for RGB, 1 for one band."""
        return len(self.record.mean)

    def normalise(self, cutouts: NDArray[np.uint8]) -> Tensor:
        """Turn cutouts into the input of the network.

        Parameters
        ----------
        cutouts : (N, H, W, n_channels) ndarray of uint8
            Images.

        Returns
        -------
        (N, n_channels, H, W) Tensor of float32
        """
        return normalise(cutouts, self.record.mean, self.record.std)


def wrap_network(
    model: nn.Module,
    *,
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    cutout_size: int,
    image_size: int | None = None,
    layer: str = "auto",
) -> Checkpoint:
    """Wrap a network that was trained elsewhere, so that galfig can explain it.

    Parameters
    ----------
    model : torch.nn.Module
        Classifier in evaluation mode; takes normalised images (N, n_channels, H, W) and returns
        logits (N, C).
    class_names : sequence of str
        Class of each logit, (C,).
    mean, std : (n_channels,) sequence of float
        Mean and standard deviation that normalised each channel in training, for values in
        [0, 1]: 3 numbers for RGB or 1 for one band.
    cutout_size : int
        Side of the central crop of each image [pixels].
    image_size : int, optional
        Side of the crop after scaling [pixels]; by default, the crop is not scaled.
    layer : str, default "auto"
        Name of the layer to explain; "auto" is the last one that returns feature maps.

    Returns
    -------
    Checkpoint
        It holds the model itself, and no record of its training.

    Raises
    ------
    ConfigError
        If the model is in training mode, the numbers do not fit each other or the model, or the
        model does not have the layer.
    """
    metadata = {
        "arch": type(model).__name__,
        "class_names": list(class_names),
        "cutout_size": cutout_size,
        "image_size": image_size or cutout_size,
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
        "layer": layer,
    }
    try:
        record = CheckpointRecord.model_validate(metadata)
    except ValidationError as exc:
        key, reason = describe_invalid(exc)
        raise ConfigError(f"`{key}`: {reason}") from exc
    n_channels = len(record.mean)
    if n_channels not in (1, 3) or len(record.std) != n_channels:
        raise ConfigError(
            f"`mean` and `std`: {n_channels} and {len(record.std)} numbers, expected one for each "
            "of three channels, or of one band"
        )
    if model.training:
        raise ConfigError("`model`: in training mode, expected evaluation mode; call model.eval()")
    metadata["layer"], _ = find_layer(model, layer, record.image_size, record.arch, n_channels)
    _check_logits(model, record)
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    digest = digest_content(metadata, tensors)
    return Checkpoint(model, tuple(record.class_names), str(metadata["layer"]), metadata, digest)


def _check_logits(model: nn.Module, record: CheckpointRecord) -> None:
    """Raise ConfigError if a network does not return one logit for each class."""
    side = record.image_size
    with torch.no_grad():
        logits = model(next(model.parameters()).new_zeros(1, len(record.mean), side, side))
    expected = (1, len(record.class_names))
    if not isinstance(logits, Tensor) or logits.shape != expected:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(
            f"`model`: gives {found} for one image, expected logits {expected}, one for each of "
            "`class_names`"
        )


def normalise(cutouts: NDArray[np.uint8], mean: list[float], std: list[float]) -> Tensor:
    """Scale cutouts to [0, 1], then to zero mean and unit variance over the training set.

    Parameters
    ----------
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Images.
    mean, std : (n_channels,) list of float
        Mean and standard deviation of each channel over the training set, for values in [0, 1].

    Returns
    -------
    (N, n_channels, H, W) Tensor of float32
        Exactly the numbers that fastai's ``IntToFloatTensor`` and ``Normalize`` return.
    """
    images = torch.from_numpy(cutouts).permute(0, 3, 1, 2).float().div_(255.0)
    mean_, std_ = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (mean, std))
    return images.sub_(mean_).div_(std_)


def save_checkpoint(
    path: Path,
    model: nn.Module,
    metadata: Mapping[str, Any],
    *,
    if_exists: ErrorOrReplace = "error",
) -> Checkpoint:
    """Write the tensors and metadata of a network as one safetensors file.

    The metadata are JSON under the single key ``galfig`` of the header, since safetensors writes
    several keys in an order that varies. The file appears when it is complete.

    Parameters
    ----------
    path : Path
        The checkpoint.
    model : torch.nn.Module
        The network.
    metadata : mapping
        Values that JSON can hold; see `CheckpointRecord` for the keys that are needed.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file exists.

    Returns
    -------
    Checkpoint
        Read back from the file.

    Raises
    ------
    CheckpointError
        If a tensor is not finite; nothing is written.
    OutputError
        If the file exists and ``if_exists`` is "error", or the file cannot be written.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    if name := _find_not_finite(tensors):
        raise CheckpointError(
            f"{path}: not written, {name} contains non-finite numbers; train with a lower `lr`"
        )
    metadata = {"format": CHECKPOINT_FORMAT, **metadata}
    metadata["digest"] = digest_content(metadata, tensors)
    data = save_tensors(tensors, {"galfig": json.dumps(metadata, sort_keys=True)})
    with replace_file(path, if_exists=if_exists) as temporary:
        temporary.write_bytes(data)
    return load_checkpoint(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Parameters
    ----------
    path : Path
        A file that ``galfig train`` or ``galfig build-maps`` wrote.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file is missing, is not a galfig checkpoint, fails its checksum, or holds tensors
        that are not finite or do not fit its architecture.
    """
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc
    metadata = _read_metadata(path, data)
    try:
        tensors = load_tensors(data)
        digest = metadata.get("digest")
        if digest is not None and digest != digest_content(metadata, tensors):
            raise CheckpointError(f"{path}: {CHECKSUM_MISMATCH}; copy it again from its source")
        # Building draws random weights, which are replaced at once. The caller's random state
        # must not change.
        with torch.random.fork_rng(devices=[]):
            model = build_network(
                metadata["arch"], len(metadata["class_names"]), len(metadata["mean"])
            )
        model.load_state_dict(tensors)
    except SafetensorError as exc:
        raise CheckpointError(
            f"{path}: truncated or damaged ({exc}); copy it again from its source"
        ) from exc
    except RuntimeError as exc:
        reason = one_line(exc).partition(": ")[2]
        raise CheckpointError(
            f"{path}: its tensors do not fit {metadata['arch']} with "
            f"{len(metadata['class_names'])} classes ({reason[:200]}); see docs/checkpoints.md"
        ) from exc
    if name := _find_not_finite(tensors):
        raise CheckpointError(
            f"{path}: {name} contains non-finite numbers, expected finite weights; train it again"
        )
    return Checkpoint(
        model=model.eval(),
        class_names=tuple(metadata["class_names"]),
        layer_name=metadata["layer"],
        metadata=metadata,
        digest=sha256(data).hexdigest(),
    )


def _find_not_finite(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the name of the first tensor that holds NaN or infinity, or "" if none does."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return ""


def read_header(data: bytes) -> dict[str, str]:
    """Return the metadata in the header of a safetensors file: 8 bytes of length, then JSON.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    dict of str to str
        The metadata, by key.

    Raises
    ------
    ValueError, KeyError, TypeError, RecursionError
        If the bytes are not a safetensors file with metadata.
    """
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length])["__metadata__"])


def _read_metadata(path: Path, data: bytes) -> dict[str, Any]:
    """Return the metadata of a checkpoint; check those that are needed to use it."""
    # The JSON of a safetensors header begins at byte 8. The length before it can look like the
    # first bytes of any other format.
    if data[8:9] != b"{" and data.startswith((b"\x80", b"PK\x03\x04")):
        raise CheckpointError(
            f"{path}: a pickled file, expected safetensors; galfig never loads pickles, which can "
            "run any code; docs/checkpoints.md says how to convert your own"
        )
    try:
        metadata = json.loads(read_header(data)["galfig"])
        if metadata.get("format") != CHECKPOINT_FORMAT:
            raise CheckpointError(
                f"{path}: checkpoint format {metadata.get('format')!r}, expected "
                f"{CHECKPOINT_FORMAT}; another version of galfig wrote it: use that one, or "
                "update galfig"
            )
        CheckpointRecord.model_validate(metadata)
    except ValidationError as exc:
        key, reason = describe_invalid(exc)
        raise CheckpointError(f"{path}: its metadata {key}: {reason}") from exc
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise CheckpointError(
            f"{path}: not a galfig checkpoint, expected one from 'galfig train'; "
            "docs/checkpoints.md says how to convert others"
        ) from exc
    return dict(metadata)


def digest_content(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of metadata and tensors.

    Parameters
    ----------
    metadata : mapping
        Values that JSON can hold; the key ``digest`` is left out.
    tensors : mapping of str to Tensor
        Tensors on the CPU; their names, types, shapes and bytes count, but not their order.

    Returns
    -------
    str
        SHA-256, as hexadecimal digits.
    """
    rest = {key: value for key, value in metadata.items() if key != "digest"}
    digest = sha256(json.dumps(rest, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
