"""The schema of a store: its datasets, their shapes, and the checks on a file that is opened."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pydantic import ValidationError

from galfig.errors import StoreError
from galfig.records import StoreRecord, describe_invalid, read_store_record
from galfig.store.hdf5 import read_attributes

SCHEMA_VERSION = 2
# Earlier versions that can still be read, and what they lack.
_LACKING = {1: ("split",), SCHEMA_VERSION: ()}
DESCRIPTIONS = {
    "objid": "identifier of each galaxy, as in the catalog",
    "redshift": "redshift, NaN where unknown",
    "label": "true class as position in the attribute class_names, -1 where unknown",
    "split": "train, valid or test: how training used each galaxy; empty where unknown",
    "value": "the number that was binned into classes, NaN where the classes are text",
    "logits": "output of the network (N, C), before the softmax",
    "probs": "softmax of the logits (N, C)",
    "cams": "signed Grad-CAM (N, C, h, w); multiply by cam_scale (N, C) to have logits",
    "cam_scale": "power of two by which each map was divided to lie within [-1, 1]",
    "cutouts": "central cutout (N, H, W, RGB or one band), rows from the top of the image",
    "pixel_scale": "pixel scale of each cutout [arcsec/pixel], NaN where unknown",
    "kpc_per_arcsec": "proper length of an arcsec (Planck Collaboration 2020), NaN where unknown",
}
_N_AXES = {"logits": 2, "probs": 2, "cam_scale": 2, "cams": 4, "cutouts": 4}
_OPTIONAL = ("pixel_scale", "kpc_per_arcsec")
# Marks an empty cell in an integer column, since HDF5 has no missing values.
MISSING_INTEGER = np.iinfo(np.int64).min


def check_schema(file: h5py.File, path: Path) -> None:
    """Check that a file is a store of this schema.

    Parameters
    ----------
    file : h5py.File
        The file, open for reading.
    path : Path
        Its name, for messages.

    Raises
    ------
    StoreError
        If the file is not a store, has another schema version, lacks a dataset, or has datasets
        whose shapes do not agree.
    """
    attrs = read_attributes(file)
    found = attrs.get("schema_version")
    if found is None:
        raise StoreError(
            f"{path}: an HDF5 file without schema_version, expected a store; it is another "
            "file, or damaged"
        )
    if found not in _LACKING:
        raise StoreError(
            f"{path}: schema version {found}, expected {SCHEMA_VERSION} or before; another version "
            "of galfig wrote it: use that one, or update galfig"
        )
    optional = (*_OPTIONAL, *_LACKING[found])
    lacking = [name for name in DESCRIPTIONS if name not in file and name not in optional]
    if lacking:
        raise StoreError(
            f"{path}: no dataset {lacking[0]!r}, expected a complete store; edited or damaged, "
            "build it again"
        )
    n_galaxies, n_classes = file["label"].shape[0], len(json.loads(attrs["class_names"]))
    for name in DESCRIPTIONS:
        if name in file:
            _check_shape(path, name, file[name], n_galaxies, n_classes)
    for key, column in file["catalog"].items():
        _check_shape(path, f"catalog/{key}", column, n_galaxies, n_classes)


def read_record(attrs: Mapping[str, Any], path: Path) -> StoreRecord:
    """Parse the root attributes of a store.

    Parameters
    ----------
    attrs : mapping
        The root attributes; see `galfig.store.hdf5.read_attributes`.
    path : Path
        The file, for messages.

    Returns
    -------
    StoreRecord
        What the store says about itself.

    Raises
    ------
    StoreError
        If an attribute is missing or not valid.
    """
    try:
        return read_store_record(attrs)
    except ValidationError as exc:
        key, reason = describe_invalid(exc)
        raise StoreError(
            f"{path}: its attribute {key}: {reason}; edited or damaged, build it again"
        ) from exc


def _check_shape(
    path: Path, name: str, dataset: h5py.Dataset, n_galaxies: int, n_classes: int
) -> None:
    """Raise StoreError if a dataset has the wrong shape, or declares data that it lacks."""
    expected: tuple[int, ...] = (n_galaxies,)
    if name in ("logits", "probs", "cams", "cam_scale"):
        expected += (n_classes,)
    if dataset.shape[: len(expected)] != expected or dataset.ndim != _N_AXES.get(name, 1):
        raise StoreError(
            f"{path}: {name} of shape {dataset.shape}, expected one that begins with {expected}, "
            "as labels and classes say; edited or damaged, build it again"
        )
    # A damaged file of a few bytes may declare an array that fits in no memory.
    if not dataset.chunks and dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize:
        raise StoreError(
            f"{path}: {name} declares {dataset.size} numbers, and holds fewer; edited or "
            "damaged, build it again"
        )
