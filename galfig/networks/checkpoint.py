"""Checkpoints: a network and what it was made from, in one safetensors file."""

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
from galfig.records import CheckpointRecord
from galfig.runtime.files import ErrorOrReplace, replace_file
from galfig.runtime.messages import CHECKSUM_MISMATCH, one_line

CHECKPOINT_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what it was made from.

    Attributes
    ----------
    model : torch.nn.Module
        In evaluation mode; takes normalised images, returns logits (N, C).
    class_names : tuple of str
        Class of each logit.
    layer_name : str
        Name of the layer that is explained by default.
    metadata : dict
        Architecture, sizes, statistics, settings, history, metrics, digests, seeds, versions.
    digest : str
        SHA-256 of the file; "" for one that was not read from a file.
    """

    model: nn.Module
    class_names: tuple[str, ...]
    layer_name: str
    metadata: dict[str, Any] = field(repr=False)
    digest: str = ""

    @cached_property
    def record(self) -> CheckpointRecord:
        """What is needed to use the network, by name."""
        return CheckpointRecord.model_validate(self.metadata)

    @property
    def cutout_size(self) -> int:
        """Side of the central crop of each image [pixels]."""
        return self.record.cutout_size

    @property
    def image_size(self) -> int:
        """Side of what the network sees, after scaling the cutout [pixels]."""
        return self.record.image_size

    @property
    def n_channels(self) -> int:
        """Channels that the network sees: 3 for RGB, 1 for one band."""
        return len(self.record.mean)

    def normalise(self, cutouts: NDArray[np.uint8]) -> Tensor:
        """Turn uint8 cutouts (N, H, W, n_channels) into the network's input, float32."""
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
    """Take a network of any origin as it is, to be explained.

    Parameters
    ----------
    model : torch.nn.Module
        Classifier in evaluation mode; takes normalised images (N, n_channels, H, W), returns
        logits (N, C).
    class_names : sequence of str
        Class of each logit, (C,).
    mean, std : sequence of float
        By which each channel was normalised in training, for values in [0, 1]; (n_channels,), 3
        for RGB or 1 for one band.
    cutout_size : int
        Side of the central crop of each image [pixels].
    image_size : int, optional
        What the crop is scaled to [pixels]; default not.
    layer : str, default "auto"
        Name of the layer to explain; "auto" is the last that gives feature maps.

    Returns
    -------
    Checkpoint
        It holds the model itself, and no claim about how it was trained.

    Raises
    ------
    ConfigError
        In training mode; numbers that do not fit each other or the network; a layer that it does
        not have.
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
        error = exc.errors()[0]
        place = ".".join(map(str, error["loc"]))
        raise ConfigError(f"`{place}`: {error['msg'].lower()}") from exc
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
    """Raise ConfigError where a network does not give a logit for each class."""
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
    """Scale uint8 cutouts (N, H, W, n_channels) to [0, 1], then to zero mean and unit variance.

    Parameters
    ----------
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Images.
    mean, std : list of float
        Statistics of each channel of the training set, in [0, 1].

    Returns
    -------
    (N, n_channels, H, W) Tensor of float32
        The very numbers that fastai's ``IntToFloatTensor`` and ``Normalize`` give.
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
    """Write a network's tensors and metadata as one safetensors file.

    The metadata are JSON under the one key ``galfig`` of the file's header: several keys would
    be written in an order of their own each time. The file appears under its name when complete.

    Raises
    ------
    CheckpointError
        A tensor is not finite; nothing is written.
    OutputError
        The file is there and not to be replaced, or it cannot be written.
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
        A file that is missing, not safetensors, not galfig's, not what was written, or whose
        tensors do not fit the architecture it names or are not finite.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc
    metadata = _read_metadata(path, data)
    try:
        tensors = load_tensors(data)
        digest = metadata.get("digest")
        if digest is not None and digest != digest_content(metadata, tensors):
            raise CheckpointError(f"{path}: {CHECKSUM_MISMATCH}; copy it again from its source")
        # The random weights that are about to be replaced must not cost the caller a draw.
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
    """Return the name of the first tensor that holds NaN or infinity; "" where none does."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return ""


def read_header(data: bytes) -> dict[str, str]:
    """Return the texts in the header of a safetensors file: 8 bytes of length, then JSON.

    Raises
    ------
    ValueError, KeyError, TypeError, RecursionError
        Other bytes.
    """
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length])["__metadata__"])


def _read_metadata(path: Path, data: bytes) -> dict[str, Any]:
    """Return what a checkpoint says of itself, as far as it is needed to use it."""
    # The JSON of a safetensors header begins at byte 8; its length, before it, can look like
    # the first bytes of anything.
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
        error = exc.errors()[0]
        key = ".".join(map(str, error["loc"]))
        raise CheckpointError(f"{path}: its metadata {key}: {error['msg'].lower()}") from exc
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise CheckpointError(
            f"{path}: not a galfig checkpoint, expected one from 'galfig train'; "
            "docs/checkpoints.md says how to convert others"
        ) from exc
    return dict(metadata)


def digest_content(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of metadata, and of names, shapes and bytes of tensors."""
    rest = {key: value for key, value in metadata.items() if key != "digest"}
    digest = sha256(json.dumps(rest, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
