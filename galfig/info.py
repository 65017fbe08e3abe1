"""What a store or a checkpoint says of itself."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from galfig.store.reader import Store, is_hdf5, open_store


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
        A file that is neither.
    """
    if path.suffix == ".safetensors" or (path.is_file() and not is_hdf5(path)):
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
