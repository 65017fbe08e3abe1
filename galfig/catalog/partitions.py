"""Partitions: catalogs of Parquet, in one file or in the many of a folder.

A folder may be a catalog of HATS, as LSDB reads and writes it: its partitions lie in files such as
``dataset/Norder=2/Dir=0/Npix=45.parquet``, one for each pixel of the sky. Any other folder is the
catalog of the files of Parquet that lie directly in it.

A folder may be anybody's. No link is followed out of it.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from galfig.catalog.arrow import Wanted, make_frame, read_chosen
from galfig.catalog.formats import OnTable, blaming, finish_table, is_parquet, open_parquet
from galfig.catalog.text import name_columns
from galfig.errors import CatalogError
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import list_some, quote, shorten

if TYPE_CHECKING:
    import pyarrow as pa

# What tells a catalog of HATS, or of hipscat before it, from any other folder.
_PROPERTIES = ("properties", "hats.properties", "catalog_info.json")
_COLLECTION, _LISTING, _DATASET = "collection.properties", "partition_info.csv", "dataset"
# Where partitions lie: in "dataset" today, in the folder itself before.
_PLACE = re.compile(
    r"Norder=(?P<order>\d{1,2})/Dir=\d{1,20}/Npix=(?P<pixel>\d{1,20})(?P<rest>\..*|/.*)"
)
# Largest order of a pixel, of which there are 12 * 4^29, and largest list of partitions [byte].
_MAX_ORDER, _MAX_LISTING = 29, 1 << 28
# Partitions of one folder of HATS.
_N_IN_DIR = 10_000


class Partition(NamedTuple):
    """A file of a catalog.

    Attributes
    ----------
    path : Path
        The file.
    name : str
        Its path below the folder of the catalog, or its own name.
    """

    path: Path
    name: str


def read_partitions(
    path: Path,
    id_column: str,
    wanted: Wanted | None = None,
    *,
    has_images: bool = False,
    on_table: OnTable | None = None,
) -> tuple[pd.DataFrame, str]:
    """Read a catalog of Parquet: a file, or all files of a folder.

    Parameters
    ----------
    path : Path
        The file or the folder.
    id_column : str
        Column with the identifiers.
    wanted : Wanted, optional
        The columns to read; by default, all.
    has_images : bool, default False
        Whether the rows hold the images: of such a table, only columns of numbers, truth values
        and texts are read, and the identifiers are the positions, from 0, if it has none.
    on_table : callable, optional
        As of `galfig.catalog.formats.finish_table`.

    Returns
    -------
    table : DataFrame
        N rows, as `galfig.catalog.formats.read_table` returns them, in the order of the
        partitions.
    digest : str
        SHA-256 of the file, or of the folder: that of the lines that ``sha256sum`` writes of its
        partitions, in their order, with their paths below the folder.

    Raises
    ------
    CatalogError
        If a file cannot be read, is too large, or has other columns than the first; or as
        `list_partitions`.
    """
    partitions = list_partitions(path)
    digests: list[str] = []
    tables: list[pa.Table] = []
    n_bytes = 0
    for partition in partitions:
        with open_parquet(partition.path) as (file, digest), blaming(partition.path):
            table = read_chosen(file, partition.path, wanted, n_before=n_bytes, is_plain=has_images)
        if tables:
            table = _match_columns(table, tables[0], partition, partitions[0])
        digests.append(digest)
        tables.append(table)
        n_bytes += table.nbytes
        # Not twice: the list is used up.
        del table
    with blaming(path):
        frame = make_frame(tables)
        if has_images and id_column not in name_columns(frame.columns, path):
            frame.insert(0, id_column, np.arange(len(frame)))
        table = finish_table(frame, id_column, path, wanted, on_table=on_table)
    if not path.is_dir():
        return table, digests[0]
    lines = [f"{digest}  {one.name}\n" for digest, one in zip(digests, partitions, strict=True)]
    return table, hashlib.sha256("".join(lines).encode()).hexdigest()


def list_partitions(path: Path) -> list[Partition]:
    """List the files of a catalog of Parquet.

    Parameters
    ----------
    path : Path
        A file, or a folder.

    Returns
    -------
    list of Partition
        Those of HATS in increasing order of Norder and Npix, and of name within one pixel; other
        files in the order of their names.

    Raises
    ------
    CatalogError
        If a folder cannot be read or holds no catalog, a partition that it lists is missing, or a
        link leads out of it.
    """
    if not path.is_dir():
        return [Partition(path, path.name)]
    if (path / _COLLECTION).exists():
        inner = sorted(one.name for one in _scan(path) if _is_hats(path / one.name))
        advice = f"; give one of {shorten(inner)}" if inner else ""
        raise CatalogError(f"{path}: a collection of HATS catalogs, expected one of them{advice}")
    names = _list_hats(path) if _is_hats(path) else _list_plain(path)
    for name in names:
        _check_inside(path, name)
    return [Partition(path / name, name) for name in names]


def _check_inside(folder: Path, name: str) -> None:
    """Raise CatalogError if a path leads out of the folder of the catalog, by any link."""
    if not Path(os.path.realpath(folder / name)).is_relative_to(os.path.realpath(folder)):
        raise CatalogError(
            f"{folder}: {quote(name)} leads out of the folder of the catalog, expected a file in "
            "it; copy it there, or give the folder that it is in"
        )


def _is_hats(folder: Path) -> bool:
    marks = (*_PROPERTIES, _LISTING)
    return any((folder / mark).is_file() for mark in marks) or any(
        one.name.startswith("Norder=") for one in _scan(folder / _DATASET)
    )


def _list_hats(folder: Path) -> list[str]:
    """List the partitions of a catalog of HATS, and compare them with its own list."""
    found: dict[tuple[int, int], list[str]] = {}
    for name in _iter_files(folder, _DATASET if (folder / _DATASET).is_dir() else "", depth=4):
        place = _PLACE.fullmatch(name.removeprefix(f"{_DATASET}/"))
        if place is not None and is_parquet(Path(name)):
            found.setdefault((int(place["order"]), int(place["pixel"])), []).append(name)
    if not found:
        raise CatalogError(
            f"{folder}: a HATS catalog without partitions, expected files such as "
            f"{_DATASET}/Norder=0/Dir=0/Npix=4.parquet"
        )
    listing = folder / _LISTING
    _check_inside(folder, _LISTING)
    listed = _read_listing(listing) if listing.exists() else set(found)
    for pixels, what in ((listed - set(found), "missing"), (set(found) - listed, "not listed")):
        if pixels:
            order, pixel = min(pixels)
            start = pixel // _N_IN_DIR * _N_IN_DIR
            first = f"Norder={order}/Dir={start}/Npix={pixel}"
            raise CatalogError(
                f"{folder}: {len(pixels)} of {len(listed)} partitions are {what}, first: {first}; "
                f"expected those of {_LISTING}, which says what belongs to the catalog"
            )
    return [name for pixel in sorted(found) for name in sorted(found[pixel])]


def _read_listing(path: Path) -> set[tuple[int, int]]:
    """Read which pixels have a partition, as (Norder, Npix)."""
    try:
        text = read_regular(path, _MAX_LISTING).decode()
        rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        pixels = {(int(row["Norder"]), int(row["Npix"])) for row in rows}
    except OSError as exc:
        raise CatalogError(f"{path}: cannot be read ({exc.strerror})") from exc
    except (ValueError, KeyError, TypeError, csv.Error) as exc:
        raise CatalogError(
            f"{path}: cannot be read, expected whole numbers in the columns Norder and Npix"
        ) from exc
    for order, pixel in pixels:
        if not (0 <= order <= _MAX_ORDER and 0 <= pixel < 12 << 2 * order):
            raise CatalogError(
                f"{path}: Norder {order}, Npix {pixel}, expected orders up to {_MAX_ORDER} and "
                "pixels below 12 * 4^Norder"
            )
    return pixels


def _list_plain(folder: Path) -> list[str]:
    """List the files of Parquet in a folder that is no catalog of HATS."""
    entries = [one for one in _scan(folder) if not one.name.startswith(("_", "."))]
    files = sorted(
        one.name for one in entries if is_parquet(Path(one.name)) and not _is_folder(one)
    )
    deeper = sorted(
        one.name
        for one in entries
        if _is_folder(one)
        and any(is_parquet(Path(name)) for name in _iter_files(folder, one.name, depth=3))
    )
    if deeper:
        raise CatalogError(
            f"{folder}: holds files of Parquet in the folders {list_some([*map(quote, deeper)])}, "
            "expected a HATS catalog, or all files directly in one folder"
        )
    if not files:
        raise CatalogError(
            f"{folder}: is a folder, expected a catalog; a folder can be one of HATS, or of files "
            "of Parquet; 'galfig catalog from-folders' makes a catalog of folders of images"
        )
    return files


def _iter_files(folder: Path, inner: str, depth: int) -> Iterator[str]:
    """Give the paths of the files in a folder of the catalog and in those in it."""
    _check_inside(folder, inner)
    for entry in _scan(folder / inner):
        name = f"{inner}/{entry.name}" if inner else entry.name
        if entry.name.startswith(("_", ".")):
            continue
        if not _is_folder(entry):
            yield name
        elif depth > 1:
            yield from _iter_files(folder, name, depth - 1)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself, which cannot be opened either.
        return False


def _scan(folder: Path) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as exc:
        raise CatalogError(f"{folder}: cannot be read ({exc.strerror})") from exc


def _match_columns(
    table: "pa.Table", first: "pa.Table", partition: Partition, before: Partition
) -> "pa.Table":
    """Return a partition with its columns in the order of the first; refuse any other columns."""
    import pyarrow as pa

    names, expected = table.schema.names, first.schema.names
    for name in sorted({*names} ^ {*expected}):
        has = (
            f"lacks the column {quote(name)}, which"
            if name in expected
            else (f"has a column {quote(name)}, which not")
        )
        raise CatalogError(
            f"{partition.path}: {has} {before.name} has, expected the same columns in all "
            "partitions; name those to read in [catalog] columns"
        )
    table = table.select(expected)
    for field, other in zip(table.schema, first.schema, strict=True):
        # pandas writes a column without a value as one of no type.
        if field.type != other.type and pa.null() not in (field.type, other.type):
            raise CatalogError(
                f"{partition.path}: column {quote(field.name)} holds {field.type}, expected "
                f"{other.type} as in {before.name}"
            )
    return table
