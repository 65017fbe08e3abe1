"""Writing a store: one part per shard, then the store that the parts are merged into."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.errors import DamagedPartError, StoreError
from galfig.runtime.messages import CHECKSUM_MISMATCH, one_line
from galfig.store.checksums import (
    digest_chunks,
    read_digests,
    read_values,
    record_chunks,
    seal_file,
)
from galfig.store.hdf5 import (
    READING_ERRORS,
    create_hdf5,
    encode_texts,
    read_attributes,
    set_attributes,
)

if TYPE_CHECKING:
    # pandas is slow to import.
    import pandas as pd

from galfig.config import Form
from galfig.store.chunks import FILTERS, Encoded, copy_chunks, write_chunks
from galfig.store.forms import get_map_type, name_divisor
from galfig.store.schema import DESCRIPTIONS, MISSING_INTEGER, SCHEMA_VERSION, open_part


@dataclass(frozen=True)
class Part:
    """The galaxies of one shard, ready to be written.

    Attributes
    ----------
    arrays : dict of str to ndarray
        ``objid``, ``image_digest``, ``redshift``, ``label``, ``split``, ``value``, ``logits``,
        ``probs`` and, where known, ``pixel_scale`` and ``kpc_per_arcsec``; (N, ...). Other forms
        than the full one have others; see `galfig.store.forms`.
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
    """

    arrays: dict[str, NDArray[Any]]
    images: Sequence[Encoded]
    map_shape: tuple[int, ...]
    cutout_shape: tuple[int, ...]
    rejected: Mapping[str, str]
    rejected_digests: Mapping[str, int] = field(default_factory=dict)
    spread_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    form: Form = "full"


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
        arrays = {**part.arrays, **_collect_divisors(part)}
        for name, array in arrays.items():
            dataset = _write_array(file, name, array)
            set_attributes(dataset, {"description": DESCRIPTIONS[name]})
        _write_images(file, part)
        _write_rejected(file, part.rejected, part.rejected_digests)
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


def merge_parts(
    path: Path,
    parts: Sequence[Path],
    catalog: "pd.DataFrame",
    attrs: Mapping[str, Any],
    rejected: Mapping[str, str],
    *,
    plan_digests: Sequence[str] | None = None,
) -> tuple[int, dict[str, str]]:
    """Merge parts into one store; compressed chunks are copied unchanged.

    All that is copied is compared with the digests that the parts had in the beginning. A part
    that another process replaces meanwhile can therefore not enter the store.

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
    plan_digests : sequence of str, optional
        What `write_part` was given for each part; by default, this is not compared.

    Returns
    -------
    n_stored : int
        Number of galaxies in the store.
    failed : dict of str to str
        Reason for each galaxy of the parts that was rejected, by objid.

    Raises
    ------
    OSError
        If the file cannot be written.
    DamagedPartError
        If a part cannot be read, changes meanwhile, or was written for another plan.
    """
    expected: Sequence[str | None] = plan_digests or [None] * len(parts)
    with create_hdf5(path) as file:
        set_attributes(file, {"schema_version": SCHEMA_VERSION, **attrs})
        counts: list[int] = []
        failed: dict[str, str] = {}
        digests: dict[str, int] = {}
        filled: dict[Path, dict[str, str]] = {}
        for source, digest in zip(parts, expected, strict=True):
            with _blame(source), open_part(source) as part:
                recorded = _read_recorded(part, source, digest)
                counts.append(part["label"].shape[0])
                reasons, found = _read_rejected(part, source, recorded)
                failed |= reasons
                digests |= found
            if counts[-1]:
                filled[source] = recorded
        # The groups, such as the rejected galaxies, are not concatenated.
        for name in [name for name in next(iter(filled.values()), ()) if "/" not in name]:
            _merge_dataset(file, name, filled, sum(counts))
        _write_catalog(file, catalog.drop(index=list(failed)))
        _write_rejected(file, {**rejected, **failed}, digests)
        seal_file(file)
    return sum(counts), failed


@contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Turn whatever h5py raises while a part is read into a DamagedPartError."""
    try:
        yield
    except DamagedPartError:
        raise
    except READING_ERRORS as exc:
        raise DamagedPartError(path, f"cannot be read ({one_line(exc)})") from exc


def _read_recorded(part: h5py.File, path: Path, plan_digest: str | None) -> dict[str, str]:
    """Return the recorded digest of each dataset of a part."""
    recorded = read_digests(part)
    if recorded is None:
        raise DamagedPartError(path, CHECKSUM_MISMATCH)
    if plan_digest not in (None, read_attributes(part)["plan_digest"]):
        raise DamagedPartError(path, "was written for another plan")
    return recorded


def _read_rejected(
    part: h5py.File, path: Path, recorded: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, int]]:
    """Return why galaxies of a part were rejected, and the digests of their images, by objid."""
    names = [f"rejected/{name}" for name in ("objid", "reason", "image_digest")]
    objid, reason, digests = (read_values(part[name], recorded[name]) for name in names)
    if objid is None or reason is None or digests is None:
        raise DamagedPartError(path, f"rejected: {CHECKSUM_MISMATCH}")
    return dict(zip(objid, reason, strict=True)), dict(zip(objid, digests.tolist(), strict=True))


def _merge_dataset(
    file: h5py.File, name: str, parts: Mapping[Path, Mapping[str, str]], total: int
) -> None:
    """Concatenate a dataset over all parts, each of which comes with its recorded digests.

    The store is written dataset by dataset, and text in one piece, so that its bytes do not depend
    on the number of parts.
    """
    arrays, digests, start = [], [], 0
    for path, recorded in parts.items():
        with ExitStack() as stack:
            with _blame(path):
                source = stack.enter_context(open_part(path))[name]
                values = None if source.chunks else read_values(source, recorded[name])
            if not source.chunks:
                if values is None:
                    raise DamagedPartError(path, f"{name}: {CHECKSUM_MISMATCH}")
                arrays.append(values)
                continue
            if name not in file:
                shape = (total, *source.shape[1:])
                file.create_dataset(name, shape, source.dtype, chunks=source.chunks, **FILTERS)
            try:
                copied = copy_chunks(source, file[name], start)
            except StoreError as exc:
                raise DamagedPartError(path, str(exc)) from exc
            if digest_chunks(copied) != recorded[name]:
                raise DamagedPartError(path, f"{name}: {CHECKSUM_MISMATCH}")
            digests.append(copied)
            start += source.shape[0]
    if arrays:
        _write_array(file, name, np.concatenate(arrays))
    else:
        record_chunks(file[name], b"".join(digests))
    set_attributes(file[name], {"description": DESCRIPTIONS[name]})


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


def _write_rejected(
    file: h5py.File, rejected: Mapping[str, str], digests: Mapping[str, int]
) -> None:
    group = file.create_group("rejected")
    for name, values in (("objid", rejected.keys()), ("reason", rejected.values())):
        group.create_dataset(name, data=encode_texts(list(values)))
    found = [digests.get(objid, 0) for objid in rejected]
    group.create_dataset("image_digest", data=np.array(found, np.uint64))


def _as_key(column: str) -> str:
    """Escape a column name for HDF5, where '/' and a name made only of dots are special."""
    key = column.replace("%", "%25").replace("/", "%2F")
    return key.replace(".", "%2E") if set(key) == {"."} else key
