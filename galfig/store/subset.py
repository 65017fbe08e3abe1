"""Subsets: small stores with some galaxies of a larger one, from which figures are drawn again."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.errors import StoreError
from galfig.records import Subset
from galfig.runtime.documents import dump_json
from galfig.runtime.messages import CHECKSUM_MISMATCH
from galfig.store.checksums import (
    digest_chunk,
    is_sound,
    read_chunk,
    read_digests,
    record_chunks,
    seal_file,
)
from galfig.store.chunks import FILTERS
from galfig.store.hdf5 import create_hdf5, read_attributes, set_attributes
from galfig.store.merging import copy_columns, read_whole
from galfig.store.reader import Store
from galfig.store.spans import SEALS
from galfig.store.virtual import VirtualDataset
from galfig.store.writer import write_array, write_rejected

# Attributes of a dataset or of the root that follow from what is written.
_DIGESTS = ("sha256", "seal")


def write_subset(
    path: Path,
    store: Store,
    rows: NDArray[np.intp],
    changed: Mapping[str, str | None] | None = None,
) -> None:
    """Write a store with some galaxies of another one; maps and cutouts keep every bit.

    It records what captions say of all galaxies of the whole store, and which store that is. A
    subset of a subset is one of the whole store.

    Parameters
    ----------
    path : Path
        The file to write, empty or absent.
    store : Store
        An open store.
    rows : (n,) ndarray of int
        Positions of the galaxies. The new store holds each once, in the order of the old one, on
        which the last digit of a mean may depend; it records the order given here.
    changed : mapping of str to str or None, optional
        Root attributes that differ from those of the whole store; None for those that it lacks.

    Raises
    ------
    OSError
        If the file cannot be written.
    StoreError
        If the store is damaged.
    """
    source = store._file
    if read_digests(source) is None:
        raise StoreError(
            f"{store.path}: its attributes are not those that were sealed, expected an intact "
            f"store; 'galfig verify {store.path}' says more"
        )
    once = rows[np.sort(np.unique(rows, return_index=True)[1])]
    rows = np.sort(once)
    order = np.searchsorted(rows, once)
    described = Subset(
        plan_digest=store.whole_digest,
        whole=store.whole,
        compared=store.compared,
        order=() if np.array_equal(once, rows) else tuple(order.tolist()),
    )
    attrs: dict[str, Any] = {
        **{key: value for key, value in store.attrs.items() if key not in _DIGESTS},
        "plan_digest": _digest_subset(store, once),
        "subset": dump_json(described.model_dump(mode="python")),
        **(changed or {}),
    }
    with create_hdf5(path) as file:
        # In one order, so that the bytes do not depend on how many cuts were made.
        set_attributes(file, {key: attrs[key] for key in sorted(attrs) if attrs[key] is not None})
        for name, item in source.items():
            if isinstance(item, h5py.Dataset) and name != SEALS:
                _copy_rows(store, file, name, rows)
        copy_columns(source, file, rows)
        _copy_rejected(source, file)
        seal_file(file)


def _digest_subset(store: Store, rows: NDArray[np.intp]) -> str:
    """Return the plan digest of a subset, other than that of any other choice of galaxies."""
    digest = hashlib.sha256(f"subset of {store.whole_digest}\n".encode())
    digest.update("\n".join(store.objids(rows).tolist()).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _copy_rows(store: Store, file: h5py.File, name: str, rows: NDArray[np.intp]) -> None:
    """Copy what a dataset holds of some galaxies; all of one that is not of galaxies."""
    dataset, declared = store._dataset(name), store._file[name]
    if dataset.shape[:1] != (len(store),):
        # Of later versions: something that all galaxies share.
        store._file.copy(name, file)
        return
    attrs = {key: one for key, one in read_attributes(declared).items() if key not in _DIGESTS}
    if isinstance(dataset, VirtualDataset) or dataset.chunks:
        first = dataset.locate(0)[0] if isinstance(dataset, VirtualDataset) else dataset
        filters = {key: getattr(first, key) for key in FILTERS}
        shape = (len(rows), *dataset.shape[1:])
        file.create_dataset(name, shape, dataset.dtype, chunks=(1, *shape[1:]), **filters)
        _copy_chunks(store, file, name, rows)
    elif not is_sound(store._file, name):
        raise StoreError(f"{store.path}: {name}: {CHECKSUM_MISMATCH}")
    elif h5py.check_string_dtype(dataset.dtype):
        write_array(file, name, store._read_texts(name).decode(rows))
    else:
        write_array(file, name, dataset[()][rows])
    set_attributes(file[name], attrs)


def _copy_chunks(store: Store, file: h5py.File, name: str, rows: NDArray[np.intp]) -> None:
    """Copy compressed chunks as they are, after HDF5 has compared their checksums."""
    dataset, digests = store._dataset(name), []
    origin = (0,) * (dataset.ndim - 1)
    for new, row in enumerate(rows.tolist()):
        # This also compares the values with the schema.
        store._read(name, row)
        found = dataset.locate(row) if isinstance(dataset, VirtualDataset) else (dataset, row)
        mask, chunk = read_chunk(*found)
        file[name].id.write_direct_chunk((new, *origin), chunk, mask)
        digests.append(digest_chunk(mask, chunk))
    record_chunks(file[name], b"".join(digests))


def _copy_rejected(source: h5py.File, file: h5py.File) -> None:
    """Copy why galaxies of the catalog are in neither store."""
    group = source["rejected"]
    objid, reason = (read_whole(source, f"rejected/{name}") for name in ("objid", "reason"))
    images: dict[str, int] = {}
    if "image_digest" in group:
        digests = read_whole(source, "rejected/image_digest")
        images = dict(zip(objid, digests.tolist(), strict=True))
    write_rejected(file, dict(zip(objid, reason, strict=True)), images)
