"""What a file is, and what a store or a checkpoint says of itself."""

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np

from galfig.errors import StoreError
from galfig.store.reader import Store, open_store

Kind = Literal["store", "checkpoint", "manuscript"]
EXPECTED = "a store, a checkpoint or the folder of a manuscript"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# The longest header that safetensors itself reads [byte].
_MAX_HEADER = 100_000_000
_RESUME = b'{"__metadata__":{"galfig-resume"'
# What is about a galaxy or a paper as well, by how it begins.
_OTHERS = (
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"SIMPLE  =", "a FITS file"),
    (b"PAR1", "a Parquet file"),
)
# Where damage hides what a file was.
_SUFFIXES: dict[str, Kind] = {".h5": "store", ".hdf5": "store", ".safetensors": "checkpoint"}


def find_kind(path: Path) -> Kind:
    """Tell what a file is by its content, whatever it is called.

    Only a binary file that begins like nothing known is taken for what its suffix says: it may
    be damaged, and whoever reads it can say how.

    Parameters
    ----------
    path : Path
        A file or a folder.

    Returns
    -------
    {"store", "checkpoint", "manuscript"}
        A checkpoint may be one of another program: it is safetensors, or pickled.

    Raises
    ------
    StoreError
        It is something else, or absent; the message says what.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(512)
    except IsADirectoryError:
        return _find_kind_of_folder(path)
    except FileNotFoundError as exc:
        raise StoreError(f"{path}: no such file, expected {EXPECTED}") from exc
    except OSError as exc:
        raise StoreError(f"{path}: cannot be read ({exc.strerror}), expected {EXPECTED}") from exc
    if beginning.startswith(_HDF5):
        return "store"
    if beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") <= _MAX_HEADER:
        if beginning[8:].startswith(_RESUME):
            advice = "`resume` goes on with it"
            raise StoreError(f"{path}: an unfinished training, expected {EXPECTED}; {advice}")
        return "checkpoint"
    # Refused by who reads checkpoints, with the reason.
    if beginning.startswith((b"\x80", b"PK\x03\x04")):
        return "checkpoint"
    other = _name_other(beginning)
    if other is None and path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    raise StoreError(f"{path}: {other or f'begins with {beginning[:12]!r}'}, expected {EXPECTED}")


def _find_kind_of_folder(path: Path) -> Kind:
    # Its import brings matplotlib's, for the figures that a manifest may name.
    from galfig.manuscript.manifest import FILE_NAME

    if (path / FILE_NAME).is_file():
        return "manuscript"
    raise StoreError(f"{path}: a folder without {FILE_NAME}, expected {EXPECTED}")


def _name_other(beginning: bytes) -> str | None:
    """Say what begins like this, None where that is not known."""
    if not beginning:
        return "an empty file"
    for magic, name in _OTHERS:
        if beginning.startswith(magic):
            return name
    if b"<svg" in beginning:
        return "an SVG image"
    # The end of the part that was read may cut a character.
    text = beginning.decode("utf-8", "replace").removesuffix("\ufffd")
    is_text = all(letter.isprintable() or letter in "\t\n\r\f\ufeff" for letter in text)
    return "a text file" if is_text and "\ufffd" not in text else None


def describe_file(path: Path) -> dict[str, Any]:
    """Return the facts about a store or a checkpoint.

    Parameters
    ----------
    path : Path
        A file by ``galfig build-maps`` or ``galfig train``.

    Returns
    -------
    dict
        What JSON can hold, in the order in which a reader wants it; None where a number is not
        finite.

    Raises
    ------
    StoreError, CheckpointError
        A file that is neither, or damaged.
    """
    kind = find_kind(path)
    if kind == "manuscript":
        raise StoreError(
            f"{path}: a manuscript, expected a store or a checkpoint; 'galfig manuscript list "
            f"{path}' lists its files, 'galfig verify {path}' compares them with their record"
        )
    if kind == "checkpoint":
        return _without_nan(_describe_checkpoint(path))
    with open_store(path) as store:
        return _without_nan(_describe_store(store))


def list_rejected(path: Path) -> dict[str, str]:
    """Return why galaxies of the catalog are not in a store, by objid; raises StoreError."""
    with open_store(path) as store:
        return store.rejected


def summarise(path: Path) -> str:
    """Say in one line what a store holds."""
    with open_store(path) as store:
        words = [f"{len(store)} galaxies of split {store.record.split!r}"]
        if store.accuracy is not None:
            words.append(f"accuracy {store.accuracy:.3f}")
        if store.rejected:
            words.append(f"{len(store.rejected)} left out")
        words.append(f"{path.stat().st_size / 1e6:.1f} MB")
        return f"{path}: {', '.join(words)}"


def _describe_store(store: Store) -> dict[str, Any]:
    known = store.redshift[np.isfinite(store.redshift)]
    names = store.class_names
    return {
        "kind": "store",
        "galaxies": len(store),
        "classes": {name: int(np.sum(store.label == i)) for i, name in enumerate(names)},
        "accuracy": store.accuracy,
        "redshift": [float(known.min()), float(known.max())] if len(known) else None,
        "rejected": len(store.rejected),
        "arch": store.training.arch,
        "map_shape": list(store.map_shape),
        **{key: value for key, value in store.attrs.items() if not _is_json(value)},
        **{
            key: json.loads(store.attrs[key])
            for key in ("image_shift", "config", "training")
            if key in store.attrs
        },
    }


def _describe_checkpoint(path: Path) -> dict[str, Any]:
    from galfig.networks.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    n_parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    return {
        "kind": "checkpoint",
        "parameters": n_parameters,
        "checkpoint_sha256": checkpoint.digest,
        **checkpoint.metadata,
        "images": _describe_images(checkpoint.metadata.get("images")),
    }


def _without_nan(value: Any) -> Any:
    """Return facts with None in the place of NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _describe_images(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what training images were like, without the hundreds of numbers to compare with."""
    return record and {key: value for key, value in record.items() if key != "reference"}


def _is_json(value: Any) -> bool:
    """Tell an attribute that holds JSON, and is given in full elsewhere."""
    return isinstance(value, str) and (value.startswith(("{", "[")) or value == "null")
