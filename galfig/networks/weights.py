"""Weights: the tensors of a network, from files of other programs, and matched to a network's own.

Nothing in a file is executed: ``torch.load`` reads with ``weights_only=True`` alone.
"""

import io
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from galfig.errors import CheckpointError
from galfig.runtime.inputs import is_shortage, read_regular
from galfig.runtime.messages import list_some, one_line, quote

# Largest file that is read [byte].
MAX_BYTES = 1 << 34
# Where files keep the tensors of a network, beside those of the optimiser.
_TABLES = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
# What wrappers put between the names of modules, and no network does.
_WRAPPER = "_orig_mod."
# PyTorch itself supplies these counters, which no output depends on.
_COUNTER = "num_batches_tracked"
# Modules that are no part of a network, by what is in their name.
_BESIDE = re.compile("loss|criterion|metric|accuracy|auroc|confusion|ema|teacher", re.IGNORECASE)
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")
# Modules of Python whose objects files of weights do hold. All others call what no file should.
_HARMLESS = ("argparse", "collections", "datetime", "decimal", "enum", "pathlib", "uuid")
# Plain values that files hold beside tensors: fastai's lists and learning rates in the state of the
# optimiser, paths and namespaces among Lightning's settings.
_PLAIN = (
    "fastcore.foundation.L",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float32", "Float64", "Int32", "Int64", "Bool")),
    "_codecs.encode",
    "argparse.Namespace",
    *(f"pathlib.{kind}" for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "Path")),
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
Shapes = Mapping[str, tuple[int, ...]]


class Weights(NamedTuple):
    """The tensors of a file.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Tensors on the CPU, in the order of the file.
    sha256 : str
        Digest of the file.
    """

    tensors: dict[str, Tensor]
    sha256: str


class Match(NamedTuple):
    """How the tensors of a file fit a network by name.

    Attributes
    ----------
    prefix : str
        What the file puts before each name, such as "model.".
    missing : list of str
        Names of the network that the file lacks.
    left_over : list of str
        Names of the file, below the prefix, that the network does not have.
    unlike : list of str
        Names of tensors of another shape.
    outside : list of str
        Names of the file that do not begin with the prefix, or are those of a loss, a metric or
        a moving average.
    """

    prefix: str
    missing: list[str]
    left_over: list[str]
    unlike: list[str]
    outside: list[str]

    @property
    def fits(self) -> bool:
        """Whether the file has a tensor of the right shape for each name, and no others."""
        return not (self.missing or self.left_over or self.unlike)


def read_weights(path: Path) -> Weights:
    """Read the tensors of a network; nothing in the file is executed.

    Parameters
    ----------
    path : Path
        A safetensors file, or one that ``torch.save`` wrote: a ``state_dict``, or a dict with one,
        as fastai's ``Learner.save`` and Lightning write it.

    Returns
    -------
    Weights

    Raises
    ------
    CheckpointError
        If the file cannot be read, needs code to be read, or holds no tensors by name.
    """
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc
    if data[8:9] == b"{":
        try:
            tensors: object = load_tensors(data)
        except SafetensorError as exc:
            raise CheckpointError(
                f"{path}: truncated or damaged ({one_line(exc)}); copy it again from its source"
            ) from exc
    else:
        tensors = _find_tensors(_load_saved(path, data))
    return Weights(_check_tensors(path, tensors), sha256(data).hexdigest())


def _load_saved(path: Path, data: bytes) -> object:
    """Return what ``torch.save`` wrote, if reading it needs no code."""
    _check_packed(path, data)
    try:
        with _standing_in(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # On a damaged file, torch raises errors of any kind.
    except Exception as exc:
        if is_shortage(exc):
            raise
        if found := _REFUSED.search(str(exc)):
            raise CheckpointError(_explain_refusal(path, found[1].rstrip("."))) from exc
        raise CheckpointError(
            f"{path}: cannot be read as weights ({_shorten(exc)}), "
            "expected a state dict written by torch.save, fastai's Learner.save, Lightning, or "
            "safetensors"
        ) from exc


def _shorten(exc: Exception) -> str:
    """Return the reason in torch's message, without its advice to read the file in another way."""
    reason = re.split(" Please | Check ", one_line(exc).rpartition("error: ")[2])[0]
    return f"{type(exc).__name__}: {reason[:120]}"


def _check_packed(path: Path, data: bytes) -> None:
    """Raise CheckpointError if a file unpacks to more than it holds; torch.save never packs."""
    if not data.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as exc:
        raise CheckpointError(
            f"{path}: truncated or damaged ({one_line(exc)}); copy it again from its source"
        ) from exc
    if size > len(data):
        raise CheckpointError(f"{path}: unpacks to {size} bytes, expected what torch.save writes")


def _explain_refusal(path: Path, name: str) -> str:
    """Say that a file holds objects that only code could restore, and how to get a state dict."""
    module = name.partition(".")[0]
    # torch may leave out the module of builtins; "commands" was that of subprocess in Python 2.
    is_of_python = "." not in name or module in (*sys.stdlib_module_names, "commands")
    if is_of_python and module not in _HARMLESS:
        return f"{path}: calls {name!r}, expected tensors and plain values; do not load it"
    taken, where = ".state_dict()", "a whole network"
    if path.suffix == ".pkl":
        taken, where = ".model.state_dict()", "a whole learner"
    elif path.suffix == ".ckpt" or not name.startswith("torch."):
        taken = f"[{'state_dict' if path.suffix == '.ckpt' else 'model'!r}]"
        where = f"an object ({name})"
    return (
        f"{path}: holds {where}, which only code could restore, expected tensors and plain values; "
        'if you made the file yourself, run where you made it: python -c "import torch; '
        f"torch.save(torch.load({str(path)!r}, weights_only=False){taken}, 'weights.pt')\", and "
        "import weights.pt"
    )


class _Nothing:
    """What takes the place of an object that is no tensor: it keeps nothing and does nothing."""

    def __init__(self, *given: object) -> None:
        """Ignore what the object would be made of."""

    def __setstate__(self, state: object) -> None:
        """Ignore what the object would hold."""

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore an item of the object."""


def _make_stand(name: str) -> type[_Nothing]:
    """Return a class that torch takes for the one of this name."""
    module, _, word = name.rpartition(".")
    return type(word, (_Nothing,), {"__module__": module})


@contextmanager
def _standing_in() -> Iterator[None]:
    """Let torch read past plain values that are no tensors; nothing of their libraries runs."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([_make_stand(name) for name in _PLAIN])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _find_tensors(found: object) -> object:
    """Return the table of tensors in what a file holds."""
    if not isinstance(found, Mapping):
        return found
    for key in _TABLES:
        table = found.get(key)
        if isinstance(table, Mapping) and any(isinstance(one, Tensor) for one in table.values()):
            return table
    return found


def _check_tensors(path: Path, found: object) -> dict[str, Tensor]:
    """Return the tensors of a table by name, without what wrappers put between."""
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"{path}: holds a {type(found).__name__}, expected tensors by name (a state dict); "
            "save model.state_dict()"
        )
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        # Lightning's modules may keep settings there, as `get_extra_state`.
        if not isinstance(name, str) or not isinstance(value, Tensor):
            continue
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise CheckpointError(
                f"{path}: {quote(name)} is sparse, quantised or empty, expected plain numbers"
            )
        tensors[name.replace(_WRAPPER, "")] = value.detach()
    if not tensors:
        keys = list_some([quote(key) for key in found], 5) or "nothing"
        raise CheckpointError(
            f"{path}: holds no tensors by name, expected a state dict; it holds {keys}"
        )
    return tensors


def match_names(found: Shapes, expected: Shapes) -> Match:
    """Compare the tensors of a file with those of a network by name and shape.

    Parameters
    ----------
    found : mapping of str to tuple of int
        Shapes of the tensors of the file, by name.
    expected : mapping of str to tuple of int
        Shapes of the tensors of the network, by name.

    Returns
    -------
    Match
        For the prefix below which most names agree.
    """
    prefix = _find_prefix(found, expected)
    inside = {
        name[len(prefix) :]: shape
        for name, shape in found.items()
        if name.startswith(prefix) and not _is_beside(name[len(prefix) :], expected)
    }
    return Match(
        prefix,
        [name for name in expected if name not in inside and not name.endswith(_COUNTER)],
        [name for name in inside if name not in expected and not name.endswith(_COUNTER)],
        [name for name in inside if name in expected and inside[name] != expected[name]],
        [name for name in found if name[len(prefix) :] not in inside],
    )


def _is_beside(name: str, expected: Shapes) -> bool:
    """Return whether a tensor belongs to what a training keeps beside its network."""
    return name not in expected and _BESIDE.search(name.partition(".")[0]) is not None


def _find_prefix(found: Shapes, expected: Shapes) -> str:
    """Return what a file puts before the names of a network, as far as most names agree."""
    counts: dict[str, int] = {}
    for name in found:
        parts = name.split(".")
        for n in range(len(parts)):
            if ".".join(parts[n:]) in expected:
                prefix = "".join(f"{part}." for part in parts[:n])
                counts[prefix] = counts.get(prefix, 0) + 1
    # The shortest of those that fit equally well: "model." rather than "ema_model.".
    prefix = min(counts, key=lambda prefix: (-counts[prefix], len(prefix)), default="")
    return prefix if 2 * counts.get(prefix, 0) > len(expected) else ""


def describe_match(match: Match, found: Shapes, expected: Shapes) -> str:
    """List what does not fit; "" if all does.

    Parameters
    ----------
    match : Match
        The result of `match_names`.
    found, expected : mapping of str to tuple of int
        What it compared.

    Returns
    -------
    str
        A clause.
    """
    parts = []
    if match.missing:
        parts.append(f"{len(match.missing)} missing: {_list(match.missing)}")
    if match.left_over:
        parts.append(f"{len(match.left_over)} left over: {_list(match.left_over)}")
    if match.unlike:
        shapes = [
            f"{quote(name)} is {found[match.prefix + name]}, expected {expected[name]}"
            for name in match.unlike
        ]
        parts.append(f"{len(shapes)} of another shape: {list_some(shapes, 3)}")
    return "; ".join(parts)


def _list(names: list[str]) -> str:
    return list_some([quote(name) for name in names], 4)


def take_by_name(tensors: Mapping[str, Tensor], match: Match, expected: Shapes) -> dict[str, Any]:
    """Return the tensors of a network from those of a file, by name.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Those of the file.
    match : Match
        How they fit; nothing may be missing or of another shape.
    expected : mapping of str to tuple of int
        Shapes of the tensors of the network, by name.

    Returns
    -------
    dict of str to Tensor
        Without the counters of batch norms that the file lacks.
    """
    return {
        name: tensors[match.prefix + name] for name in expected if match.prefix + name in tensors
    }


def take_by_order(tensors: Mapping[str, Tensor], expected: Shapes) -> dict[str, Tensor] | str:
    """Return the tensors of a network from those of a file, in their order.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Those of the file, in its order.
    expected : mapping of str to tuple of int
        Shapes of the tensors of the network, in its order.

    Returns
    -------
    dict of str to Tensor, or str
        A clause that says what does not fit, if the shapes do not. The counters of batch norms are
        left out on both sides.
    """
    ours = [name for name in expected if not name.endswith(_COUNTER)]
    theirs = [name for name in tensors if not name.endswith(_COUNTER)]
    found = _pair(ours, theirs, tensors, expected)
    if isinstance(found, str) and len(tensors) == len(expected):
        # Without names, counters look like other tensors; they may all be there.
        whole = _pair(list(expected), list(tensors), tensors, expected)
        return found if isinstance(whole, str) else whole
    return found


def _pair(
    ours: list[str], theirs: list[str], tensors: Mapping[str, Tensor], expected: Shapes
) -> dict[str, Tensor] | str:
    """Pair tensors one by one, or say which is the first that does not fit."""
    for name, other in zip(ours, theirs, strict=False):
        shape = tuple(tensors[other].shape)
        if shape != expected[name]:
            return f"{quote(other)} is {shape}, where {name!r} is {expected[name]}"
    if len(ours) != len(theirs):
        return f"{len(theirs)} tensors, expected {len(ours)}"
    return {name: tensors[other] for name, other in zip(ours, theirs, strict=True)}
