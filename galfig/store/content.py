"""The content of a store: digests of what figures are drawn from, whenever and by whatever made.

The seal of a store covers everything, the time of its creation and the versions of libraries among
it. These digests do not, so that a store that is built again from the same inputs is known to be
the same; and they follow from the stored values rather than from the plan, which does not know the
pixels of the images.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from galfig.store.forms import STATISTICS
from galfig.store.hdf5 import READING_ERRORS
from galfig.store.reader import Store, open_store
from galfig.store.virtual import VirtualDataset

# Parts of a store, from cause to effect, with their root attributes and datasets.
PARTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "catalog": (
        ("catalog_sha256", "class_counts", "fetched", "simulated", "subset"),
        (
            *("objid", "redshift", "label", "value", "split", "pixel_scale", "kpc_per_arcsec"),
            *("north_angle", "east_angle", "catalog", "rejected"),
        ),
    ),
    "network": (("checkpoint_sha256", "n_networks", "networks", "training"), ()),
    "settings": (
        (
            *("config", "class_names", "target_layer", "method", "split"),
            *("cutout_size", "pixel_scale", "receptive_field"),
            *("store", "n_channels", "map_shape"),
        ),
        (),
    ),
    "images": (("image_shift", "stretch"), ("image_digest", "cutouts", "image")),
    "maps": (
        (),
        (
            *("logits", "probs", "cams", "cam_scale", "features"),
            *("logits_sd", "log_odds_sd", "cams_sd", "cams_sd_scale"),
            *("evidence_sd", "evidence_sd_scale", "agreement"),
            *("cam_step", "cams_sd_step", "evidence_sd_step"),
            *STATISTICS,
        ),
    ),
}
# Length of the checksum with which HDF5 ends each chunk [byte].
_FLETCHER32 = 4


def read_content(path: Path) -> dict[str, str] | None:
    """Digest each part of a store.

    Parameters
    ----------
    path : Path
        The store.

    Returns
    -------
    dict of str to str
        SHA-256 by part: "catalog", "network", "settings", "images" and "maps". None if the file is
        not a store, or cannot be read.
    """
    try:
        # Opening it as a store bounds what its datasets may declare.
        with open_store(path) as store, path.open("rb") as raw:
            return {part: _digest_part(store, raw.fileno(), part) for part in PARTS}
    except READING_ERRORS:
        return None


def _digest_part(store: Store, raw: int, part: str) -> str:
    (keys, names), attrs, file = PARTS[part], store.attrs, store._file
    digest = hashlib.sha256()
    described = {key: _strip(key, attrs[key]) for key in keys if key in attrs}
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    for name in names:
        item = file.get(name)
        if isinstance(item, h5py.Dataset):
            _add_dataset(digest, name, store._dataset(name), raw)
        elif isinstance(item, h5py.Group):
            for key, dataset in sorted(item.items()):
                _add_dataset(digest, f"{name}/{key}", dataset, raw)
    return digest.hexdigest()


def _strip(key: str, value: Any) -> Any:
    """Leave out versions of libraries, and of a fetch what no figure says, such as its days."""
    if key == "training":
        training = json.loads(value)
        return {name: training[name] for name in training if name != "versions"}
    if key == "fetched":
        fetched = json.loads(value)
        return {name: fetched.get(name) for name in ("service", "release", "address", "is_mirror")}
    return value


def _add_dataset(
    digest: "hashlib._Hash", name: str, dataset: h5py.Dataset | VirtualDataset, raw: int
) -> None:
    digest.update(f"{name} {dataset.dtype} {dataset.shape}".encode())
    if isinstance(dataset, VirtualDataset):
        for piece in dataset.iter_pieces():
            _add_checksums(digest, piece.dataset, piece.dataset.file.id.get_vfd_handle())
    elif dataset.chunks:
        _add_checksums(digest, dataset, raw)
    elif h5py.check_string_dtype(dataset.dtype):
        for text in dataset[()]:
            digest.update(b"%d:%s" % (len(text), text))
    else:
        digest.update(np.ascontiguousarray(dataset[()]).tobytes())


def _add_checksums(digest: "hashlib._Hash", dataset: h5py.Dataset, raw: int) -> None:
    """Add HDF5's own checksum of each chunk (one galaxy each), which is quicker than its data."""
    origin = (0,) * (dataset.ndim - 1)
    for row in range(dataset.shape[0]):
        if dataset.fletcher32:
            info = dataset.id.get_chunk_info_by_coord((row, *origin))
            start = info.byte_offset + info.size - _FLETCHER32
            digest.update(os.pread(raw, _FLETCHER32, start))
        else:
            digest.update(dataset.id.read_direct_chunk((row, *origin))[1])
