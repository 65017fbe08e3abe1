"""Checkpoints: a network and a record of its training, in one safetensors file."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from galfig.errors import CheckpointError, ConfigError
from galfig.networks.architectures import build_network, describe_layer, find_layer, try_images
from galfig.networks.families import OWN, build_own
from galfig.records import CheckpointRecord, describe_invalid
from galfig.runtime.documents import load_json
from galfig.runtime.files import ErrorOrReplace, replace_file
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import CHECKSUM_MISMATCH, one_line, quote, shorten

logger = logging.getLogger(__name__)
CHECKPOINT_FORMAT = 1
# Largest file that is read [byte].
MAX_BYTES = 1 << 34
# What the metadata say of the layer, where it is so.
LAYER_FLAGS = ("layer_channels_last", "layer_is_bypassed")
# Longest header that the safetensors library reads [byte].
MAX_HEADER = 100_000_000


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
    ensemble : tuple of Checkpoint
        The networks, if this stands for several; see `galfig.networks.ensemble.join_networks`.
    """

    model: nn.Module
    class_names: tuple[str, ...]
    layer_name: str
    metadata: dict[str, Any] = field(repr=False)
    digest: str = ""
    ensemble: tuple["Checkpoint", ...] = field(default=(), repr=False)

    @property
    def networks(self) -> tuple["Checkpoint", ...]:
        """The networks of an ensemble; of one network, itself alone."""
        return self.ensemble or (self,)

    def __repr__(self) -> str:
        record = self.record
        several = f"{len(self.ensemble)} networks, " if self.ensemble else ""
        return (
            f"<Checkpoint: {several}{record.arch} for {', '.join(self.class_names)}, explains "
            f"layer {self.layer_name}, images of {record.image_size} pixels>"
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

        Raises
        ------
        CheckpointError
            If the images have another number of channels than the network sees.
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
        raise ConfigError(f"`{key.partition('.')[0]}`: {reason}") from exc
    if model.training:
        raise ConfigError("`model`: in training mode, expected evaluation mode; call model.eval()")
    if next(model.parameters(), None) is None:
        raise ConfigError("`model`: has no parameters, expected a trained network")
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if name := _find_not_finite(tensors):
        raise ConfigError(f"`model`: {name} contains non-finite numbers, expected finite weights")
    metadata |= _examine(model, record)
    check_meaning(model, record)
    digest = digest_content(metadata, tensors)
    return Checkpoint(model, record.class_names, str(metadata["layer"]), metadata, digest)


def _examine(model: nn.Module, record: CheckpointRecord) -> dict[str, Any]:
    """Check that a network is what its record says; return what the metadata say of its layer.

    The network may be on the "meta" device, where nothing is computed.
    """
    n_channels = len(record.mean)
    _check_logits(model, record)
    name, _ = find_layer(model, record.layer, record.image_size, record.arch, n_channels)
    traits = describe_layer(model, name, record.image_size, record.arch, n_channels)
    flags = dict(zip(LAYER_FLAGS, (traits.channels_last, traits.is_bypassed), strict=True))
    # Only what is unusual is recorded.
    return {"layer": name, **{key: True for key, value in flags.items() if value}}


def _check_logits(model: nn.Module, record: CheckpointRecord) -> None:
    """Raise ConfigError if a network does not return one logit for each class."""
    n_images = 2
    logits = try_images(model, n_images, record.image_size, record.arch, len(record.mean))
    expected = (n_images, len(record.class_names))
    if not isinstance(logits, Tensor) or logits.shape != expected:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(
            f"`model`: gives {found} for {n_images} images, expected logits {expected}, one for "
            "each of `class_names`"
        )


def check_meaning(model: nn.Module, record: CheckpointRecord) -> None:
    """Refuse a network that ends in a softmax; warn of one that seems to normalise by itself.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode.
    record : CheckpointRecord
        What is said of it.

    Raises
    ------
    ConfigError
        If its outputs are those of a softmax or a log_softmax.
    """
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (record.mean, record.std))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(8, len(record.mean), *[record.image_size] * 2, generator=generator)
    # Dark images and bright ones, in the units that the network was trained with.
    images = (pixels * torch.linspace(0.1, 1, 8).reshape(-1, 1, 1, 1) - mean) / std
    # One at a time, which takes the least memory.
    with torch.no_grad():
        rows = [model(image[None].to(next(model.parameters()))) for image in images]
    logits = torch.cat(rows).double()
    ends_in = ""
    if logits.min() >= 0 and torch.allclose(logits.sum(dim=1), logits.new_ones(8), atol=1e-3):
        ends_in = "a softmax"
    elif torch.allclose(logits.exp().sum(dim=1), logits.new_ones(8), atol=1e-3):
        ends_in = "a log_softmax"
    if ends_in:
        raise ConfigError(
            f"`model`: its outputs are those of {ends_in}, expected logits, which any numbers can "
            "be; pass the network without its last step"
        )
    if logits.min() >= 0 and logits.max() <= 1 and _ends_in(model, nn.Sigmoid):
        logger.warning(
            "`model`: ends in a sigmoid, expected logits, of which galfig takes the softmax: "
            "probabilities would be wrong; pass the network without its last step"
        )
    if name := _find_normalisation(model):
        logger.warning(
            "`model`: %s seems to normalise images, and `mean` and `std` do so before it; if it "
            "expects pixel values in [0, 1], pass mean 0 and std 1, and if it expects values up to "
            "255, mean 0 and std 1/255",
            name,
        )


def _ends_in(model: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether the last module without children is of a kind."""
    leaves = [module for module in model.modules() if not list(module.children())]
    return isinstance(leaves[-1], kind)


def _find_normalisation(model: nn.Module) -> str:
    """Return the name of a module with fixed means and deviations of channels, or ""."""
    for name, module in model.named_modules():
        fixed = [getattr(module, key, None) for key in ("mean", "std")]
        if all(isinstance(value, Tensor | list | tuple) for value in fixed):
            return name or type(module).__name__
    return ""


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

    Raises
    ------
    CheckpointError
        If the images have another number of channels than there are means.
    """
    if cutouts.shape[-1] != len(mean):
        raise CheckpointError(
            f"cutouts of {cutouts.shape[-1]} channels, expected {len(mean)}, on which the network "
            "was trained"
        )
    # torch warns of memory that it may not write to, such as that of an image of Pillow.
    images = (
        torch.from_numpy(np.require(cutouts, requirements="W"))
        .permute(0, 3, 1, 2)
        .float()
        .div_(255.0)
    )
    mean_, std_ = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (mean, std))
    return images.sub_(mean_).div_(std_)


def save_checkpoint(
    path: Path,
    model: nn.Module,
    metadata: Mapping[str, Any],
    *,
    arch: str | None = None,
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
    arch : str, optional
        The architecture of the metadata, given by the user; needed where it is their own code.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file exists.

    Returns
    -------
    Checkpoint
        Read back from the file.

    Raises
    ------
    CheckpointError
        If a tensor is not finite, the metadata are not valid, or the network is not the one that
        they describe; nothing is written.
    OutputError
        If the file exists and ``if_exists`` is "error", or the file cannot be written.
    """
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    if name := _find_not_finite(tensors):
        raise CheckpointError(
            f"{path}: not written, {name} contains non-finite numbers; train with a lower `lr`"
        )
    metadata = {"format": CHECKPOINT_FORMAT, **metadata}
    for key in LAYER_FLAGS:
        metadata.pop(key, None)
    record = _validate(path, metadata)
    shapes = {name: tuple(one.shape) for name, one in tensors.items()}
    metadata |= _compare(path, record, shapes, arch)
    metadata["digest"] = digest_content(metadata, tensors)
    data = save_tensors(tensors, {"galfig": json.dumps(metadata, sort_keys=True)})
    with replace_file(path, if_exists=if_exists) as temporary:
        temporary.write_bytes(data)
    return load_checkpoint(path, arch=arch)


def load_checkpoint(path: Path | str, *, arch: str | None = None) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Parameters
    ----------
    path : Path or str
        A file that ``galfig train``, ``galfig build-maps`` or ``galfig import-model`` wrote.
    arch : str, optional
        The architecture, if the user's own code builds it: ``python:package.module:function``, as
        it was imported. That code runs, so that it must be named here and not only in the file.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file is missing, is not a galfig checkpoint, fails its checksum, holds tensors that
        are not finite or do not fit its architecture, or was made for another architecture than
        ``arch``.
    """
    path = Path(path)
    file = _open(path)
    record = file.record
    _check_arch(path, record, arch)
    layer = _compare(path, record, file.shapes, arch)
    tensors = _load_verified(path, file)
    try:
        # Building draws random weights, which are replaced at once. The caller's random state
        # must not change.
        with torch.random.fork_rng(devices=[]):
            model = _build(record, arch)
        model.load_state_dict(tensors)
    except ConfigError as exc:
        raise CheckpointError(f"{path}: {exc}") from exc
    except RuntimeError as exc:
        reason = one_line(exc).partition(": ")[2]
        raise CheckpointError(
            f"{path}: its tensors do not fit {record.arch} with {len(record.class_names)} classes "
            f"({reason[:200]}); see docs/checkpoints.md"
        ) from exc
    return Checkpoint(
        model=model.eval(),
        class_names=record.class_names,
        layer_name=layer["layer"],
        metadata=file.metadata,
        digest=sha256(file.data).hexdigest(),
    )


def read_metadata(path: Path) -> tuple[CheckpointRecord, dict[str, Any]]:
    """Read what a checkpoint says of itself, and compare its tensors with its digest.

    No network is built, so that this also reads the checkpoint of somebody's own code.

    Parameters
    ----------
    path : Path
        The checkpoint.

    Returns
    -------
    record : CheckpointRecord
        The part of the metadata that is needed to use the network.
    metadata : dict
        All of it, and ``checkpoint_sha256``, the digest of the file.

    Raises
    ------
    CheckpointError
        If the file is missing, is not a galfig checkpoint, fails its checksum, or holds tensors
        that are not finite.
    """
    file = _open(path)
    _load_verified(path, file)
    return file.record, {"checkpoint_sha256": sha256(file.data).hexdigest(), **file.metadata}


class _File(NamedTuple):
    """The bytes of a checkpoint, and what its header says."""

    data: bytes
    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    record: CheckpointRecord


def _open(path: Path) -> _File:
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc
    metadata, shapes = _read_metadata(path, data)
    return _File(data, metadata, shapes, _validate(path, metadata))


def _load_verified(path: Path, file: _File) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, which are finite and those of its digest."""
    try:
        tensors = load_tensors(file.data)
    except SafetensorError as exc:
        raise CheckpointError(
            f"{path}: truncated or damaged ({exc}); copy it again from its source"
        ) from exc
    digest = file.metadata.get("digest")
    if digest is not None and digest != digest_content(file.metadata, tensors):
        raise CheckpointError(f"{path}: {CHECKSUM_MISMATCH}; copy it again from its source")
    if name := _find_not_finite(tensors):
        raise CheckpointError(
            f"{path}: {name} contains non-finite numbers, expected finite weights; train it again"
        )
    return tensors


def _validate(path: Path, metadata: Mapping[str, Any]) -> CheckpointRecord:
    """Raise CheckpointError unless metadata are those of a network that galfig can use."""
    try:
        return CheckpointRecord.model_validate(metadata)
    except ValidationError as exc:
        key, reason = describe_invalid(exc)
        raise CheckpointError(f"{path}: its metadata {key}: {reason}") from exc


def _check_arch(path: Path, record: CheckpointRecord, arch: str | None) -> None:
    """Raise CheckpointError if the architecture that the user gave is not that of a file.

    Code of the user's own runs only if they name it: a file, which may be anybody's, does not do.
    """
    if arch is None and record.arch.startswith(OWN):
        raise CheckpointError(
            f"{path}: code of its maker's own builds the network, {quote(record.arch)}, which "
            "galfig runs only where you name it; if it is your code, give it again as `arch`"
        )
    if arch not in (None, record.arch):
        raise CheckpointError(
            f"{path}: its network is {quote(record.arch)}, but `arch` is {arch!r}; give the one "
            "that it was imported with"
        )


def _build(record: CheckpointRecord, arch: str | None) -> nn.Module:
    """Build the network of a record; the user's own code only if they gave its name."""
    build = build_own if arch is not None and arch.startswith(OWN) else build_network
    return build(record.arch if arch is None else arch, len(record.class_names), len(record.mean))


def _compare(
    path: Path,
    record: CheckpointRecord,
    shapes: Mapping[str, tuple[int, ...]],
    arch: str | None = None,
) -> dict[str, Any]:
    """Check that a file's tensors and layer fit its architecture; return what it says of the layer.

    The network is built on the "meta" device, where it takes no memory: the file, which may be
    anybody's, chooses the architecture. The user's own code may do what that device cannot.
    """
    device = "cpu" if arch is not None and arch.startswith(OWN) else "meta"
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            skeleton = _build(record, arch).eval()
        expected = {name: tuple(one.shape) for name, one in skeleton.state_dict().items()}
        if difference := _describe_difference(shapes, expected):
            raise CheckpointError(
                f"{path}: its tensors do not fit {record.arch} with {len(record.class_names)} "
                f"classes ({difference}); see docs/checkpoints.md"
            )
        return _examine(skeleton, record)
    except ConfigError as exc:
        raise CheckpointError(f"{path}: {exc}") from exc


def _describe_difference(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> str:
    """Describe how tensors differ from those of a network by name or shape; "" if they fit."""
    # PyTorch itself supplies these counters, which checkpoints of old versions lack.
    missing = [
        name for name in expected if name not in found and not name.endswith("num_batches_tracked")
    ]
    unknown = [name for name in found if name not in expected]
    if missing and unknown:
        return (
            f"{len(missing)} tensors are missing, such as {quote(missing[0])}, and {len(unknown)} "
            f"are not its own, such as {quote(unknown[0])}: are they of another implementation?"
        )
    if missing or unknown:
        which = "are missing" if missing else "are not its own"
        return f"{len(missing or unknown)} tensors {which}: {shorten(missing or unknown, 3)}"
    wrong = [name for name in found if found[name] != expected[name]]
    if wrong:
        name = wrong[0]
        return f"{len(wrong)} of another shape: {name} is {found[name]}, expected {expected[name]}"
    return ""


def _find_not_finite(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the name of the first tensor that holds NaN or infinity, or "" if none does."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return ""


def read_header(data: bytes) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Read the header of a safetensors file: 8 bytes of length, then JSON.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    metadata : dict of str to str
        Texts, by key.
    shapes : dict of str to tuple of int
        Shape of each tensor, by name.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError
        If the bytes are not a safetensors file with metadata.
    """
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, MAX_HEADER):
        raise ValueError(f"a header of {length} bytes, expected one within the file")
    header = load_json(data[8 : 8 + length])
    metadata = dict(header.pop("__metadata__"))
    return metadata, {name: tuple(entry["shape"]) for name, entry in header.items()}


def _read_metadata(path: Path, data: bytes) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return the metadata of a checkpoint and the shapes of its tensors, from its header."""
    # The JSON of a safetensors header begins at byte 8. The length before it can look like the
    # first bytes of any other format.
    if data[8:9] != b"{" and data.startswith((b"\x80", b"PK\x03\x04")):
        raise CheckpointError(
            f"{path}: a pickled file, expected safetensors; galfig never loads pickles, which can "
            "run any code; 'galfig import-model' reads the weights of your own network"
        )
    try:
        header, shapes = read_header(data)
        metadata = dict(load_json(header["galfig"]))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CheckpointError(
            f"{path}: not a galfig checkpoint, expected one from 'galfig train'; "
            "'galfig import-model' makes one of the weights of your own network"
        ) from exc
    if metadata.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {quote(metadata.get('format'))}, expected "
            f"{CHECKPOINT_FORMAT}; another version of galfig wrote it: use that one, or update "
            "galfig"
        )
    return metadata, shapes


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
