"""Writing: the parts of a store, one per shard, and what parts and stores have in common."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.config import Form
from galfig.store.checksums import seal_file
from galfig.store.chunks import Encoded, write_chunks
from galfig.store.forms import get_map_type, name_divisor
from galfig.store.hdf5 import create_hdf5, encode_texts, set_attributes
from galfig.store.schema import DESCRIPTIONS, MISSING_INTEGER

if TYPE_CHECKING:
    # pandas is slow to import.
    import pandas as pd


class Remark(NamedTuple):
    """Something that is said of some galaxies, once.

    Attributes
    ----------
    n : int
        How many these are.
    first : str
        The identifier of the first.
    """

    n: int
    first: str


# Attributes of a column of the catalog, where the catalog gives them.
COLUMN_WORDS = ("unit", "description")


@dataclass(frozen=True)
class Part:
    """The galaxies of one shard, ready to be written.

    Attributes
    ----------
    arrays : dict of str to ndarray
        ``objid``, ``image_digest``, ``redshift``, ``label``, ``split``, ``value``, ``logits``,
        ``probs`` and, where known, ``pixel_scale``, ``north_angle``, ``east_angle`` and
        ``kpc_per_arcsec``; (N, ...). Other forms than the full one have others; see
        `galfig.store.forms`. ``features``, where they are kept.
    images : sequence of Encoded
        Maps and cutouts of the N galaxies, from `galfig.store.chunks.encode_galaxy`; empty for
        statistics.
    map_shape : (C, h, w)
        Shape of the maps of one galaxy.
    cutout_shape : (H, W, 3) or (H, W, 1)
        Shape of one cutout.
    rejected : dict of str to str
        Reason why each rejected galaxy of the shard is not among the N, by objid.
    rejected_digests : dict of str to int
        Digest of the image of each rejected galaxy, by objid, where its file could be read.
    spread_shapes : dict of str to tuple of int
        Shape (n, h, w) of the standard deviations of one galaxy's maps over the networks of an
        ensemble, by dataset; empty for one network.
    form : {"full", "native", "statistics"}
        What is stored of each galaxy.
    remarks : dict of str to list of str
        Identifiers of galaxies of which something is to be said when the store is complete, by
        what that is; see `galfig.pipeline.placement.place_cutouts`.
    """

    arrays: dict[str, NDArray[Any]]
    images: Sequence[Encoded]
    map_shape: tuple[int, ...]
    cutout_shape: tuple[int, ...]
    rejected: Mapping[str, str]
    rejected_digests: Mapping[str, int] = field(default_factory=dict)
    spread_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    form: Form = "full"
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)


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
        if part.form != "full":
            set_attributes(file, {"store": part.form})
        if part.remarks:
            counted = {what: (len(objids), objids[0]) for what, objids in part.remarks.items()}
            set_attributes(file, {"remarks": json.dumps(counted, sort_keys=True)})
        arrays = {**part.arrays, **_collect_divisors(part)}
        for name, array in arrays.items():
            dataset = write_array(file, name, array)
            set_attributes(dataset, {"description": DESCRIPTIONS[name]})
        _write_images(file, part)
        write_rejected(file, part.rejected, part.rejected_digests)
        seal_file(file)


def _collect_divisors(part: Part) -> dict[str, NDArray[np.float32]]:
    """Return by what the maps of a part are divided, by dataset."""
    if part.form == "statistics":
        return {}
    scales = [galaxy.cam_scale for galaxy in part.images]
    found = {name_divisor("cams", part.form): _stack_scales(scales, part.map_shape)}
    for name, shape in part.spread_shapes.items():
        scales = [galaxy.spreads[name].scale for galaxy in part.images]
        found[name_divisor(name, part.form)] = _stack_scales(scales, shape)
    return found


def _write_images(file: h5py.File, part: Part) -> None:
    """Write the maps and cutouts of a part, as far as its form has them."""
    if part.form == "statistics":
        return
    dtype = get_map_type(part.form)
    write_chunks(file, "cams", [g.cams for g in part.images], part.map_shape, dtype)
    if part.form == "full":
        write_chunks(file, "cutouts", [g.cutout for g in part.images], part.cutout_shape, np.uint8)
    for name, shape in part.spread_shapes.items():
        chunks = [galaxy.spreads[name].data for galaxy in part.images]
        write_chunks(file, name, chunks, shape, dtype)


def _stack_scales(
    scales: Sequence[NDArray[np.float32]], shape: Sequence[int]
) -> NDArray[np.float32]:
    return np.stack(scales) if scales else np.empty((0, shape[0]), np.float32)


def write_array(file: h5py.File, name: str, array: NDArray[Any]) -> h5py.Dataset:
    """Write an array as a contiguous dataset."""
    data = encode_texts(list(array)) if array.dtype == object else array
    return file.create_dataset(name, data=data)


def write_catalog(file: h5py.File, catalog: "pd.DataFrame") -> None:
    """Write every column of the catalog into the group ``catalog``, under an escaped name.

    The units and descriptions in its ``attrs`` become attributes; see
    `galfig.catalog.tables.make_frame`.
    """
    group = file.create_group("catalog")
    keys = {str(column): _as_key(str(column)) for column in catalog.columns}
    for column, key in keys.items():
        _write_column(group, key, catalog[column])
        words = {
            name: str(catalog.attrs.get(f"{name}s", {}).get(column) or "") for name in COLUMN_WORDS
        }
        set_attributes(group[key], {name: text for name, text in words.items() if text})
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
    elif isinstance(series.dtype, pd.StringDtype):
        group.create_dataset(key, data=encode_texts(series.fillna("").tolist()))
    else:
        # A Parquet cell may be a list, for which pandas.isna returns an array.
        text = ["" if is_scalar(cell) and pd.isna(cell) else str(cell) for cell in series]
        group.create_dataset(key, data=encode_texts(text))


def write_rejected(
    file: h5py.File, rejected: Mapping[str, str], digests: Mapping[str, int]
) -> None:
    """Write why galaxies were rejected into the group ``rejected``, with the digests of images."""
    group = file.create_group("rejected")
    for name, values in (("objid", rejected.keys()), ("reason", rejected.values())):
        group.create_dataset(name, data=encode_texts(list(values)))
    found = [digests.get(objid, 0) for objid in rejected]
    group.create_dataset("image_digest", data=np.array(found, np.uint64))


def _as_key(column: str) -> str:
    """Escape a column name for HDF5, where '/' and a name made only of dots are special."""
    key = column.replace("%", "%25").replace("/", "%2F")
    return key.replace(".", "%2E") if set(key) == {"."} else key
