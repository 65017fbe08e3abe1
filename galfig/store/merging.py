"""Merging: the store, made from its outline and its parts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.errors import DamagedPartError, StoreError
from galfig.runtime.documents import load_json
from galfig.runtime.messages import CHECKSUM_MISMATCH, one_line, quote
from galfig.store.checksums import (
    digest_chunks,
    is_sound,
    read_digests,
    read_seal,
    read_sound,
    read_values,
    record_chunks,
    seal_file,
)
from galfig.store.chunks import FILTERS, copy_chunks
from galfig.store.hdf5 import (
    READING_ERRORS,
    create_hdf5,
    encode_texts,
    read_attribute,
    read_attributes,
    set_attributes,
)
from galfig.store.outline import open_outline
from galfig.store.schema import (
    DESCRIPTIONS,
    MISSING_INTEGER,
    SCHEMA_VERSION,
    open_part,
    read_columns,
)
from galfig.store.spans import SEALS, write_spans
from galfig.store.texts import TextColumn
from galfig.store.writer import COLUMN_WORDS, Remark, write_array, write_rejected

# How chunks are compressed that are copied as they are.
_KEPT = tuple(FILTERS[key] for key in ("compression", "shuffle", "fletcher32"))


class Merged(NamedTuple):
    """What is said of a store when it is complete.

    Attributes
    ----------
    n_stored : int
        Number of galaxies in the store.
    failed : dict of str to str
        Reason for each galaxy of the parts that was rejected, by objid.
    remarks : dict of str to Remark
        What else is to be said of some galaxies, by what that is; see `galfig.store.writer.Part`.
    """

    n_stored: int
    failed: dict[str, str]
    remarks: dict[str, Remark]


class _Kind(NamedTuple):
    """What a dataset of a part has in common with those of all others."""

    dtype: np.dtype[Any] | None
    row: tuple[int, ...]
    is_kept: bool


def merge_parts(
    path: Path,
    parts: Sequence[Path],
    outline: Path,
    *,
    digests: Sequence[str] | None = None,
    is_virtual: bool = False,
) -> Merged:
    """Merge parts into one store; compressed chunks are copied unchanged.

    All that is copied is compared with the digests that the parts had in the beginning. A part
    that another process replaces meanwhile can therefore not enter the store. In a virtual store,
    maps and cutouts stay in the parts, and are not read here.

    Parameters
    ----------
    path : Path
        The file to write, empty or absent.
    parts : sequence of Path
        Files from `galfig.store.writer.write_part`, in the order of the shards.
    outline : Path
        The file from `galfig.store.outline.write_outline`.
    digests : sequence of str, optional
        What `galfig.store.writer.write_part` was given for each part; by default, this is not
        compared.
    is_virtual : bool, default False
        Whether maps and cutouts stay in the parts. Then all parts must be in the folder
        ``<store>.parts`` beside the store.

    Returns
    -------
    Merged

    Raises
    ------
    OSError
        If the file cannot be written.
    StoreError
        If the outline is damaged.
    DamagedPartError
        If a part cannot be read, changes meanwhile, or was written for another plan.
    """
    expected: Sequence[str | None] = digests or [None] * len(parts)
    with open_outline(outline) as (source, described), create_hdf5(path) as file:
        set_attributes(file, {"schema_version": SCHEMA_VERSION, **described.attrs})
        counts: list[int] = []
        failed: dict[str, str] = {}
        remarks: dict[str, Remark] = {}
        images: dict[str, int] = {}
        filled: dict[Path, dict[str, str]] = {}
        seals: list[str] = []
        kinds: dict[str, _Kind] = {}
        if not is_sound(source, "objid"):
            raise StoreError(f"{outline}: objid: {CHECKSUM_MISMATCH}")
        listed, n_listed = TextColumn(source["objid"][()]), 0
        for name, digest in zip(parts, expected, strict=True):
            with _blame(name), open_part(name) as part:
                recorded = _read_recorded(part, name, digest)
                counts.append(part["label"].shape[0])
                reasons, found = _read_rejected(part, name, recorded)
                objid = read_values(part["objid"], recorded["objid"])
                if objid is None:
                    raise DamagedPartError(name, f"objid: {CHECKSUM_MISMATCH}")
                n_listed += _check_galaxies(objid, reasons, listed, n_listed, name)
                failed |= reasons
                for what, (n, first) in _read_remarks(part, name).items():
                    before = remarks.get(what, Remark(0, first))
                    remarks[what] = before._replace(n=before.n + n)
                images |= found
                if counts[-1]:
                    here = _describe(part, name, recorded)
                    kinds = kinds or here
                    _check_alike(here, kinds, name)
                    filled[name] = recorded
                    seals.append(read_seal(part))
        if n_listed != described.n_galaxies:
            words = f"{n_listed} of {described.n_galaxies} galaxies"
            raise DamagedPartError(parts[-1], f"is the last, and all parts hold {words}")
        spans = [(name, n) for name, n in zip(parts, counts, strict=True) if n]
        for dataset, kind in kinds.items():
            if is_virtual and kind.is_kept:
                write_spans(file, dataset, spans, kind.row, kind.dtype)
                set_attributes(file[dataset], {"description": DESCRIPTIONS[dataset]})
            else:
                _merge_dataset(file, dataset, filled, sum(counts))
        if is_virtual and any(kind.is_kept for kind in kinds.values()):
            write_array(file, SEALS, np.array(seals, object))
            set_attributes(file[SEALS], {"description": DESCRIPTIONS[SEALS]})
        _copy_catalog(source, file, failed)
        _copy_rejected(source, file, failed, images)
        seal_file(file)
    return Merged(sum(counts), failed, remarks)


def read_whole(source: h5py.File, name: str) -> Any:
    """Read a dataset of an outline or a store; raise StoreError if it is not what was written."""
    values = read_sound(source, name)
    if values is None:
        raise StoreError(f"{source.filename}: {name}: {CHECKSUM_MISMATCH}")
    return values


def _copy_catalog(source: h5py.File, file: h5py.File, left_out: Collection[str]) -> None:
    """Copy the catalog of an outline, a column at a time, without some galaxies."""
    objid = read_whole(source, "objid")
    kept = np.array([one not in left_out for one in objid], bool) if left_out else slice(None)
    copy_columns(source, file, kept)


def copy_columns(source: h5py.File, file: h5py.File, kept: NDArray[Any] | slice) -> None:
    """Copy the catalog of an outline or a store, a column at a time.

    Parameters
    ----------
    source : h5py.File
        The outline or store, open for reading.
    file : h5py.File
        The store that is written.
    kept : (N,) ndarray of bool, (n,) ndarray of int, or slice
        The rows to copy, in this order.

    Raises
    ------
    StoreError
        If a column is not what was written.
    """
    group = file.create_group("catalog")
    for key in read_columns(source["catalog"], Path(source.filename)).values():
        column = source["catalog"][key]
        data = read_whole(source, f"catalog/{key}")[kept]
        is_text = h5py.check_string_dtype(column.dtype) is not None
        dataset = group.create_dataset(key, data=encode_texts(data.tolist()) if is_text else data)
        if "missing_value" in column.attrs and (data == MISSING_INTEGER).any():
            set_attributes(dataset, {"missing_value": MISSING_INTEGER})
        attrs = read_attributes(column)
        set_attributes(dataset, {name: attrs[name] for name in COLUMN_WORDS if name in attrs})
    set_attributes(group, {"columns": read_attribute(source["catalog"], "columns")})


def _copy_rejected(
    source: h5py.File, file: h5py.File, failed: Mapping[str, str], images: Mapping[str, int]
) -> None:
    """Write why galaxies were rejected: before sharding, as the outline says, and in the parts."""
    names = (read_whole(source, f"rejected/{name}") for name in ("objid", "reason"))
    write_rejected(file, {**dict(zip(*names, strict=True)), **failed}, images)


@contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Turn whatever h5py raises while a part is read into a DamagedPartError."""
    try:
        yield
    except DamagedPartError:
        raise
    except READING_ERRORS as exc:
        reason = one_line(exc).removeprefix(f"{path}: ")
        raise DamagedPartError(path, f"cannot be read ({reason})") from exc


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


def _read_remarks(part: h5py.File, path: Path) -> dict[str, Remark]:
    """Return what is to be said of some galaxies of a part, which its seal covers."""
    try:
        found = load_json(read_attributes(part).get("remarks", "{}"))
        remarks = {what: Remark(*counted) for what, counted in found.items()}
        if all(type(one.n) is int and isinstance(one.first, str) for one in remarks.values()):
            return remarks
    except (AttributeError, TypeError, ValueError):
        pass
    raise DamagedPartError(path, "remarks: is not as galfig writes it")


def _check_galaxies(
    objid: NDArray[Any], rejected: Collection[str], listed: TextColumn, start: int, path: Path
) -> int:
    """Check that a part is about the next galaxies of the outline; return how many these are.

    The catalog of the store is that of the outline, so that its rows would otherwise be those of
    other galaxies.
    """
    n_galaxies = len(objid) + len(rejected)
    expected = listed.decode(slice(start, start + n_galaxies)).tolist()
    stored = [one for one in expected if one not in rejected]
    if len(expected) < n_galaxies or objid.tolist() != stored:
        raise DamagedPartError(path, "holds other galaxies than the outline lists for it")
    return n_galaxies


def _describe(part: h5py.File, path: Path, recorded: Collection[str]) -> dict[str, _Kind]:
    """Return what the datasets of a part must have in common with those of all others."""
    kinds: dict[str, _Kind] = {}
    # The groups, such as the rejected galaxies, are not concatenated.
    for name in [name for name in recorded if "/" not in name]:
        dataset = part[name]
        filters = dataset.compression, dataset.shuffle, dataset.fletcher32
        if name not in DESCRIPTIONS or (dataset.chunks and filters != _KEPT):
            raise DamagedPartError(path, f"{quote(name)}: is not as galfig writes it")
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        dtype = None if is_text else dataset.dtype
        kinds[name] = _Kind(dtype, dataset.shape[1:], bool(dataset.chunks))
    return kinds


def _check_alike(found: Mapping[str, _Kind], expected: Mapping[str, _Kind], path: Path) -> None:
    """Raise DamagedPartError for a dataset that is not like that of the other parts."""
    for name in sorted({*found} | {*expected}):
        if found.get(name) != expected.get(name):
            raise DamagedPartError(path, f"{name}: of another shape or type than in other parts")


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
        write_array(file, name, np.concatenate(arrays))
    else:
        record_chunks(file[name], b"".join(digests))
    set_attributes(file[name], {"description": DESCRIPTIONS[name]})
