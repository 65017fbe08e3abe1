"""Writing a store: one part per shard, then the store that the parts are merged into."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.store.checksums import seal_file
from galfig.store.hdf5 import (
    create_hdf5,
    encode_texts,
    read_attributes,
    read_texts,
    set_attributes,
)

if TYPE_CHECKING:
    # pandas is slow to import.
    import pandas as pd

from galfig.store.chunks import FILTERS, Encoded, copy_chunks, write_chunks
from galfig.store.reader import read_rejected
from galfig.store.schema import DESCRIPTIONS, MISSING_INTEGER, SCHEMA_VERSION, open_part


@dataclass(frozen=True)
class Part:
    """The galaxies of one shard, ready to be written.

    Attributes
    ----------
    arrays : dict of str to ndarray
        ``objid``, ``redshift``, ``label``, ``value``, ``logits``, ``probs`` and, where known,
        ``pixel_scale`` and ``kpc_per_arcsec``; (N, ...).
    images : sequence of Encoded
        Maps and cutouts of the N galaxies, from `galfig.store.chunks.encode_galaxy`.
    map_shape : (C, h, w)
        Shape of the maps of one galaxy.
    cutout_shape : (H, W, 3) or (H, W, 1)
        Shape of one cutout.
    rejected : dict of str to str
        Reason why each rejected galaxy of the shard is not among the N, by objid.
    """

    arrays: dict[str, NDArray[Any]]
    images: Sequence[Encoded]
    map_shape: tuple[int, ...]
    cutout_shape: tuple[int, ...]
    rejected: Mapping[str, str]


def write_part(path: Path, part: Part, plan_digest: str) -> None:
    """Write the galaxies of one shard to a small file with the layout of a store.

    Parameters
    ----------
    path : Path
        The file to write, empty or absent.
    part : Part
        The galaxies of the shard.
    plan_digest : str
        Digest of the plan that the shard belongs to.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    with create_hdf5(path) as file:
        set_attributes(file, {"plan_digest": plan_digest})
        scales = [galaxy.cam_scale for galaxy in part.images]
        no_scales = np.empty((0, part.map_shape[0]), np.float32)
        arrays = {**part.arrays, "cam_scale": np.stack(scales) if scales else no_scales}
        for name, array in arrays.items():
            dataset = _write_array(file, name, array)
            set_attributes(dataset, {"description": DESCRIPTIONS[name]})
        write_chunks(file, "cams", [g.cams for g in part.images], part.map_shape, np.float16)
        write_chunks(file, "cutouts", [g.cutout for g in part.images], part.cutout_shape, np.uint8)
        _write_rejected(file, part.rejected)


def merge_parts(
    path: Path,
    parts: Sequence[Path],
    catalog: "pd.DataFrame",
    attrs: Mapping[str, Any],
    rejected: Mapping[str, str],
) -> tuple[int, dict[str, str]]:
    """Merge parts into one store; compressed chunks are copied unchanged.

    Parameters
    ----------
    path : Path
        The file to write, empty or absent.
    parts : sequence of Path
        Files from `write_part`, in the order of the shards.
    catalog : DataFrame
        Every column of the catalog, indexed by objid, for all galaxies of all shards.
    attrs : mapping of str to str, int, float or bool
        Root attributes of the schema, except ``schema_version``.
    rejected : mapping of str to str
        Reason for each galaxy that was left out before sharding, by objid. The rejected galaxies
        of the parts are added.

    Returns
    -------
    n_stored : int
        Number of galaxies in the store.
    failed : dict of str to str
        Reason for each galaxy of the parts that was rejected, by objid.

    Raises
    ------
    OSError
        If the file cannot be written or a part cannot be read.
    StoreError
        If a part is not as `write_part` writes it.
    """
    with create_hdf5(path) as file:
        set_attributes(file, {"schema_version": SCHEMA_VERSION, **attrs})
        counts: list[int] = []
        failed: dict[str, str] = {}
        for source in parts:
            with open_part(source) as part:
                counts.append(part["label"].shape[0])
                failed |= read_rejected(part)
        filled = [source for source, count in zip(parts, counts, strict=True) if count]
        for name in _list_datasets(filled[0]) if filled else ():
            _merge_dataset(file, name, filled, sum(counts))
        _write_catalog(file, catalog.drop(index=list(failed)))
        _write_rejected(file, {**rejected, **failed})
        seal_file(file)
    return sum(counts), failed


def _list_datasets(part: Path) -> list[str]:
    with open_part(part) as file:
        return [name for name, item in file.items() if isinstance(item, h5py.Dataset)]


def _merge_dataset(file: h5py.File, name: str, parts: Sequence[Path], total: int) -> None:
    """Concatenate a dataset over all parts.

    The store is written dataset by dataset, and text in one piece, so that its bytes do not depend
    on the number of parts.
    """
    start, arrays = 0, []
    attrs: dict[str, Any] = {}
    for path in parts:
        with open_part(path) as part:
            source, attrs = part[name], read_attributes(part[name])
            if not source.chunks:
                is_text = h5py.check_string_dtype(source.dtype)
                arrays.append(read_texts(source) if is_text else source[:])
                continue
            if name not in file:
                shape = (total, *source.shape[1:])
                file.create_dataset(name, shape, source.dtype, chunks=source.chunks, **FILTERS)
            copy_chunks(source, file[name], start)
            start += source.shape[0]
    if arrays:
        _write_array(file, name, np.concatenate(arrays))
    set_attributes(file[name], attrs)


def _write_array(file: h5py.File, name: str, array: NDArray[Any]) -> h5py.Dataset:
    """Write an array as a contiguous dataset."""
    data = encode_texts(list(array)) if array.dtype == object else array
    return file.create_dataset(name, data=data)


def _write_catalog(file: h5py.File, catalog: "pd.DataFrame") -> None:
    group = file.create_group("catalog")
    keys = {str(column): _as_key(str(column)) for column in catalog.columns}
    for column, key in keys.items():
        _write_column(group, key, catalog[column])
    set_attributes(group, {"columns": json.dumps(keys)})


def _write_column(group: h5py.Group, key: str, series: "pd.Series") -> None:
    """Write a catalog column as int64, float64, bool or text, without rounding."""
    import pandas as pd
    from pandas.api.types import is_scalar

    kind, has_missing = series.dtype.kind, bool(series.isna().any())
    if kind in "iu" and str(series.dtype).lower() != "uint64":
        data = series.astype("Int64").to_numpy(np.int64, na_value=MISSING_INTEGER)
        dataset = group.create_dataset(key, data=data)
        if has_missing:
            set_attributes(dataset, {"missing_value": MISSING_INTEGER})
    elif kind == "f":
        group.create_dataset(key, data=series.to_numpy(np.float64, na_value=np.nan))
    elif kind == "b" and not has_missing:
        group.create_dataset(key, data=series.to_numpy(bool))
    else:
        # A Parquet cell may be a list, for which pandas.isna returns an array.
        text = ["" if is_scalar(cell) and pd.isna(cell) else str(cell) for cell in series]
        group.create_dataset(key, data=encode_texts(text))


def _write_rejected(file: h5py.File, rejected: Mapping[str, str]) -> None:
    group = file.create_group("rejected")
    for name, values in (("objid", rejected.keys()), ("reason", rejected.values())):
        group.create_dataset(name, data=encode_texts(list(values)))


def _as_key(column: str) -> str:
    """Escape a column name for HDF5, where '/' and a name made only of dots are special."""
    key = column.replace("%", "%25").replace("/", "%2F")
    return key.replace(".", "%2E") if set(key) == {"."} else key
