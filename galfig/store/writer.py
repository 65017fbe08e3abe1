"""Writing a store: parts, one a shard, and the store that they are merged into."""

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
    open_hdf5,
    read_attributes,
    read_texts,
    set_attributes,
)

if TYPE_CHECKING:
    # Most figures do without its import.
    import pandas as pd

from galfig.store.chunks import FILTERS, Encoded, copy_chunks, write_chunks
from galfig.store.reader import read_rejected
from galfig.store.schema import DESCRIPTIONS, MISSING_INTEGER, SCHEMA_VERSION


@dataclass(frozen=True)
class Part:
    """The galaxies of one shard, as they are written.

    Attributes
    ----------
    arrays : dict of str to ndarray
        ``objid``, ``redshift``, ``label``, ``value``, ``logits``, ``probs`` and, where known,
        ``pixel_scale`` and ``kpc_per_arcsec``; (N, ...).
    images : sequence of Encoded
        Maps and cutouts of the N galaxies, by `galfig.store.chunks.encode_galaxy`.
    map_shape : (C, h, w)
        Of the maps of a galaxy.
    cutout_shape : (H, W, 3) or (H, W, 1)
        Of a cutout.
    rejected : dict of str to str
        Reason why a galaxy of the shard is not among the N, by objid.
    """

    arrays: dict[str, NDArray[Any]]
    images: Sequence[Encoded]
    map_shape: tuple[int, ...]
    cutout_shape: tuple[int, ...]
    rejected: Mapping[str, str]


def write_part(path: Path, part: Part, plan_digest: str) -> None:
    """Write the galaxies of one shard as a small file of the store's own layout.

    Parameters
    ----------
    path : Path
        An empty or absent file.
    part : Part
        What was computed.
    plan_digest : str
        Digest of the plan that the shard belongs to.
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
    """Make one store of the parts; compressed chunks are copied as they are.

    Parameters
    ----------
    path : Path
        The file to write, empty or absent.
    parts : sequence of Path
        Files by `write_part`, in the order of the shards.
    catalog : DataFrame
        Every column of the catalog, indexed by objid, for all galaxies of all shards.
    attrs : mapping of str to str, int, float or bool
        Root attributes of the schema, but for ``schema_version``.
    rejected : mapping of str to str
        Galaxies left out before there were shards; those of the parts are added.

    Returns
    -------
    n_stored : int
        Galaxies in the store.
    failed : dict of str to str
        Why a galaxy of the shards is not there, by objid.
    """
    with create_hdf5(path) as file:
        set_attributes(file, {"schema_version": SCHEMA_VERSION, **attrs})
        counts: list[int] = []
        failed: dict[str, str] = {}
        for source in parts:
            with open_hdf5(source) as part:
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
    with open_hdf5(part) as file:
        return [name for name, item in file.items() if isinstance(item, h5py.Dataset)]


def _merge_dataset(file: h5py.File, name: str, parts: Sequence[Path], total: int) -> None:
    """Copy a dataset of all parts, one behind the other.

    One dataset after the other, and text in one piece: the bytes of the store then do not depend
    on how many parts there are.
    """
    start, arrays = 0, []
    attrs: dict[str, Any] = {}
    for path in parts:
        with open_hdf5(path) as part:
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
    """Write an array, contiguous."""
    data = encode_texts(list(array)) if array.dtype == object else array
    return file.create_dataset(name, data=data)


def _write_catalog(file: h5py.File, catalog: "pd.DataFrame") -> None:
    group = file.create_group("catalog")
    keys = {str(column): _as_key(str(column)) for column in catalog.columns}
    for column, key in keys.items():
        _write_column(group, key, catalog[column])
    set_attributes(group, {"columns": json.dumps(keys)})


def _write_column(group: h5py.Group, key: str, series: "pd.Series") -> None:
    """Write a column of the catalog as int64, float64, bool or text, none of it rounded."""
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
        # A cell may be a list, in Parquet, of which pandas tells no truth value.
        text = ["" if is_scalar(cell) and pd.isna(cell) else str(cell) for cell in series]
        group.create_dataset(key, data=encode_texts(text))


def _write_rejected(file: h5py.File, rejected: Mapping[str, str]) -> None:
    group = file.create_group("rejected")
    for name, values in (("objid", rejected.keys()), ("reason", rejected.values())):
        group.create_dataset(name, data=encode_texts(list(values)))


def _as_key(column: str) -> str:
    """Return a column's name as HDF5 can hold it: '/' and a lone '.' mean something else there."""
    key = column.replace("%", "%25").replace("/", "%2F")
    return key.replace(".", "%2E") if set(key) == {"."} else key
