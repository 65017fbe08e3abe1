"""Catalogs: tables of galaxies, their classes, their image files and their split.

A *row* in a message counts from 1 at the first galaxy, below the header.
"""

import contextlib
import csv
import dataclasses
import difflib
import gzip
import hashlib
import io
import itertools
import logging
import os
import re
import string
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.config import ClassSettings, Settings, SplitSettings
from galfig.errors import CatalogError
from galfig.messages import list_some, quote, shorten

logger = logging.getLogger(__name__)

FORMATS = ".csv, .csv.gz, .parquet, .fits, .fits.gz or .ecsv"
EMPTY_CELLS = ["", "NA", "N/A", "n/a", "nan", "NaN", "-nan", "null", "NULL", "None", "<NA>", "--"]
# The longest name that a file may have on common file systems [bytes].
MAX_NAME = 255
# An identifier after a float or a spreadsheet: 1.23765E+18, 1237648720693755918.0, 1,237,648.
_ROUNDED = re.compile(r"[+-]?\d+([.,]\d*)?[eE][+-]\d+|[+-]?\d+\.0*|\d{1,3}(,\d{3})+(\.0*)?")
# Digits that a spreadsheet keeps of a number; it writes zeros for those behind.
_SPREADSHEET_DIGITS = 15

# Pairs of a text and the column whose cell follows it, if any.
Template = list[tuple[str, str | None]]


@dataclass(frozen=True)
class Galaxies:
    """The galaxies that a network is trained on or explained for, one entry each.

    Attributes
    ----------
    table : DataFrame
        Every column of the catalog, (N rows).
    objid : (N,) array of str
        Identifiers.
    paths : tuple of Path
        Image files.
    redshift : (N,) array of float64
        NaN where unknown.
    value : (N,) array of float64
        The number that was binned; NaN where the classes are text.
    label : (N,) array of int16
        Position in ``class_names``; -1 where unknown.
    in_valid : (N,) array of bool
        True in the validation set, False in the training set.
    pixel_scale : (N,) array of float64 or None
        Pixel scale of each image [arcsec/pixel], NaN where unknown.
    class_names : tuple of str
        The classes kept, in the order of the settings.
    class_counts : dict of str to int
        Galaxies of each class of the catalog, those not kept among them.
    rejected : dict of str to str
        Reason why a galaxy of a kept or unknown class is not here, by objid.
    catalog_sha256 : str
        Digest of the catalog file.
    simulated : bool
        Whether the catalog says of any galaxy that it is simulated.
    """

    table: pd.DataFrame
    objid: NDArray[np.object_]
    paths: tuple[Path, ...]
    redshift: NDArray[np.float64]
    value: NDArray[np.float64]
    label: NDArray[np.int16]
    in_valid: NDArray[np.bool_]
    pixel_scale: NDArray[np.float64] | None
    class_names: tuple[str, ...]
    class_counts: dict[str, int]
    rejected: dict[str, str]
    catalog_sha256: str
    simulated: bool

    def __len__(self) -> int:
        return len(self.objid)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Galaxies":
        """Return the galaxies at these positions, or where this mask is true."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        scale = self.pixel_scale
        return dataclasses.replace(
            self,
            table=self.table.iloc[rows],
            objid=self.objid[rows],
            paths=tuple(self.paths[row] for row in rows),
            redshift=self.redshift[rows],
            value=self.value[rows],
            label=self.label[rows],
            in_valid=self.in_valid[rows],
            pixel_scale=None if scale is None else scale[rows],
        )

    def reject(self, reasons: Mapping[int, str]) -> "Galaxies":
        """Move galaxies, by position, to ``rejected`` with these reasons."""
        if not reasons:
            return self
        stays = np.ones(len(self), dtype=bool)
        stays[list(reasons)] = False
        more = {self.objid[row]: reason for row, reason in reasons.items()}
        return dataclasses.replace(self.take(stays), rejected={**self.rejected, **more})


def load_galaxies(settings: Settings, *, labelled: bool = True) -> Galaxies:
    """Read the catalog, name the classes, find the images and draw the split.

    Parameters
    ----------
    settings : Settings
        The tables ``catalog``, ``classes`` and ``split`` are used.
    labelled : bool, default True
        Without, a catalog that has no class column is taken whole, with labels of -1.

    Returns
    -------
    Galaxies
        In the order of the catalog. What was left out, and why, is in ``rejected``.

    Raises
    ------
    CatalogError
        A table that cannot be read; a missing column; an identifier that is empty, doubled,
        rounded or not a plain file name; a value of the wrong type; a class without galaxies.
    """
    path = settings.catalog_path
    template = parse_template(settings.catalog.images)
    fields = [field for _, field in template if field is not None]
    table = read_table(path, settings.catalog.id, fields)
    objid = table[settings.catalog.id].to_numpy(dtype=object)
    check_objids(objid, path, settings.catalog.id)

    labels = _label_rows(table, settings.classes, path, labelled)
    rejected = labels.rejected
    is_used = labels.is_kept & (rejected == "")
    names, root = image_names(table, template, path), settings.images_dir
    lost = is_used & ~_find_files(names, root)
    rejected[lost] = [f"no image {root / names[row]}" for row in np.flatnonzero(lost)]
    in_valid = draw_split(table, labels.is_kept, rejected, settings.split, path)

    rows = np.flatnonzero(labels.is_kept & (rejected == ""))
    _check_what_is_left(labels, rows, path)
    flag = table.get("simulated")
    return Galaxies(
        table=table.iloc[rows],
        objid=objid[rows],
        paths=tuple(root / names[row] for row in rows),
        redshift=_read_redshift(table, settings, path)[rows],
        value=labels.value[rows],
        label=labels.label[rows],
        in_valid=in_valid[rows],
        pixel_scale=_read_pixel_scale(table, settings, path, rows),
        class_names=labels.class_names,
        class_counts=labels.counts,
        rejected={objid[row]: rejected[row] for row in np.flatnonzero(rejected != "")},
        catalog_sha256=_digest(path),
        simulated=flag is not None and bool((flag.astype(str).str.lower() == "true").any()),
    )


def read_table(path: Path, id_column: str, text_columns: Collection[str] = ()) -> pd.DataFrame:
    """Read a catalog whole, the identifiers as text from the first byte.

    Parameters
    ----------
    path : Path
        CSV (also gzipped), Parquet, FITS or ECSV, told apart by suffix.
    id_column : str
        Column with the identifiers. As a float64, 1237665024900858129 is off by 17, so a column
        of floats is refused.
    text_columns : collection of str, optional
        Columns of a CSV file that are text too, whatever they look like: a plate called '0266'
        keeps its zero.

    Returns
    -------
    DataFrame
        Integers stay exact where cells are empty (pandas' nullable types).

    Raises
    ------
    CatalogError
        An unknown suffix, a file that cannot be read, a table without rows or without the
        identifiers' column.
    """
    suffixes = "".join(path.suffixes[-2:]).lower()
    try:
        if suffixes.endswith((".csv", ".csv.gz")):
            table = _read_csv(path, id_column, text_columns)
        elif suffixes.endswith((".parquet", ".pq")):
            table = _read_parquet(path)
        elif suffixes.endswith((".fits", ".fit", ".fits.gz", ".ecsv")):
            table = _read_astropy(path, "ascii.ecsv" if suffixes.endswith(".ecsv") else "fits")
        else:
            raise CatalogError(f"{path}: unknown suffix {path.suffix!r}, expected {FORMATS}")
    except FileNotFoundError as exc:
        raise CatalogError(f"{path}: no such file, expected a catalog") from exc
    except CatalogError:
        raise
    # At damaged files the four libraries behind this raise whatever their code runs into.
    except Exception as exc:
        raise CatalogError(f"{path}: cannot be read ({_first_line(exc)})") from exc
    table.columns = pd.Index(_name_columns(table.columns, path))
    require_column(table, id_column, path, "[catalog] id")
    if table.empty:
        raise CatalogError(f"{path}: no rows, expected at least one galaxy")
    if table[id_column].dtype.kind == "f":
        raise CatalogError(
            f"{path}: column {id_column!r} holds floating-point numbers, which cannot hold every "
            "objid exactly; write it as text or as 64-bit integers"
        )
    table = table.reset_index(drop=True)
    table[id_column] = pd.Series(read_texts(table, id_column, path, "[catalog] id"), dtype="string")
    _check_texts(table.drop(columns=id_column), path)
    return table


def require_column(table: pd.DataFrame, name: str, path: Path, setting: str) -> None:
    """Raise CatalogError, with the nearest name there is, where a column is missing.

    ``setting`` is where the name comes from, such as "[catalog] id".
    """
    if name not in table.columns:
        columns = [str(column) for column in table.columns]
        near = [column for column in columns if column.lower() == name.lower()]
        near = near or difflib.get_close_matches(name, columns, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {shorten(columns)}"
        raise CatalogError(f"{path}: no column {name!r}, as {setting} asks; {hint}")


def read_texts(table: pd.DataFrame, column: str, path: Path, setting: str) -> list[str]:
    """Return a column as text without surrounding blanks, "" where a cell is empty.

    ``setting`` is where its name comes from, for messages.

    Raises
    ------
    CatalogError
        A missing column, or a cell that is neither text nor a whole number.
    """
    require_column(table, column, path, setting)
    texts = []
    for row, cell in enumerate(table[column], start=1):
        try:
            texts.append(_as_text(cell))
        except (TypeError, UnicodeDecodeError) as exc:
            raise CatalogError(
                f"{path}: row {row}, column {column!r}: {quote(cell)}, "
                "expected text or a whole number"
            ) from exc
    return texts


def check_objids(objid: Iterable[str], path: Path, column: str) -> None:
    """Raise CatalogError where an identifier is empty, doubled, rounded or no plain file name."""
    first_row: dict[str, int] = {}
    for row, name in enumerate(objid, start=1):
        where = f"{path}: row {row}, column {column!r}"
        if not name:
            raise CatalogError(f"{where}: empty, expected an identifier")
        if not is_plain_name(name):
            raise CatalogError(
                f"{where}: {quote(name)} is not a plain file name, expected one without '/', "
                f"'\\', '..' or invisible characters, of {MAX_NAME} bytes at most"
            )
        if _ROUNDED.fullmatch(name):
            raise CatalogError(
                f"{where}: {quote(name)} is what a spreadsheet or a float makes of a number, "
                "expected every digit and nothing else; export this column as text"
            )
        # Two spellings of one accented letter are one file name on some systems.
        key = name if name.isascii() else unicodedata.normalize("NFC", name)
        if key in first_row:
            raise CatalogError(
                f"{where}: {quote(name)} is there already in row {first_row[key]}, "
                "expected each identifier once"
            )
        first_row[key] = row
    _check_digits(first_row, path, column)


def _check_digits(objid: Iterable[str], path: Path, column: str) -> None:
    """Raise CatalogError where every long number ends as a spreadsheet rounds it: in zeros."""
    numbers = (name.lstrip("0") for name in objid if name.isascii() and name.isdecimal())
    ends = [name[_SPREADSHEET_DIGITS:] for name in numbers if len(name) > _SPREADSHEET_DIGITS]
    # By chance six digits are zeros once in a million catalogs.
    if sum(map(len, ends)) >= 6 and not any(end.strip("0") for end in ends):
        raise CatalogError(
            f"{path}: column {column!r}: every number ends in zeros after {_SPREADSHEET_DIGITS} "
            "digits, which is how spreadsheets round, expected every digit; export this column "
            "as text"
        )


def is_plain_name(text: str) -> bool:
    """Tell whether a text can be part of a file name without leaving its folder."""
    return (
        text not in {"", ".", ".."}
        and "/" not in text
        and "\\" not in text
        and ".." not in text
        and text.isprintable()
        and len(text.encode()) <= MAX_NAME
    )


def assign_classes(
    table: pd.DataFrame, classes: ClassSettings, path: Path
) -> tuple[NDArray[np.object_], NDArray[np.float64], NDArray[np.object_]]:
    """Name the class of every row: the bin of a number, or the text of a column.

    Parameters
    ----------
    table : DataFrame
        The catalog.
    classes : ClassSettings
        Column, edges and labels; bins are closed on the right, as in ``pandas.cut``.
    path : Path
        The catalog's path, for messages.

    Returns
    -------
    names : (N,) array of str
        Class of each galaxy, "" where it has none.
    value : (N,) array of float64
        The number binned; NaN for text.
    rejected : (N,) array of str
        Why a galaxy has no class, "" where it has one.

    Raises
    ------
    CatalogError
        A missing column, text where numbers are expected or the reverse.
    """
    require_column(table, classes.column, path, "[classes] column")
    series = table[classes.column]
    if classes.edges is None:
        if series.dtype.kind == "f":
            raise CatalogError(
                f"{path}: column {classes.column!r} holds numbers, expected classes as text; "
                "set [classes] edges and labels to bin them"
            )
        names = np.array(read_texts(table, classes.column, path, "[classes] column"), dtype=object)
        rejected = np.where(names == "", f"no {classes.column}", "").astype(object)
        return names, np.full(len(table), np.nan), rejected
    value = read_numbers(table, classes.column, path, "[classes] column")
    bins = pd.cut(value, bins=list(classes.edges), labels=False)
    # Position -1, outside every bin, is the last one: "".
    bins = np.where(np.isnan(bins), -1, bins).astype(int)
    names = np.array([*(classes.labels or ()), ""], dtype=object)[bins]
    rejected = np.full(len(table), "", dtype=object)
    for row in np.flatnonzero(names == ""):
        if np.isnan(value[row]):
            rejected[row] = f"no {classes.column}"
        else:
            low, high = classes.edges[0], classes.edges[-1]
            rejected[row] = f"{classes.column} = {value[row]:g} outside ({low:g}, {high:g}]"
    return names, value, rejected


def read_numbers(table: pd.DataFrame, column: str, path: Path, setting: str) -> NDArray[np.float64]:
    """Return a column as float64, NaN where a cell is empty; anything else is refused by row.

    ``setting`` is where its name comes from, for messages.
    """
    require_column(table, column, path, setting)
    series = table[column]
    if series.dtype.kind in "iuf":
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
    numbers = np.empty(len(series))
    for row, cell in enumerate(series):
        try:
            numbers[row] = _as_number(cell)
        except (TypeError, ValueError, OverflowError) as exc:
            hint = ", with a point for decimals and no thousands separators"
            hint = hint if "," in str(cell) else ""
            raise CatalogError(
                f"{path}: row {row + 1}, column {column!r}: {quote(cell)}, expected a number{hint}"
            ) from exc
    return numbers


def parse_template(template: str) -> Template:
    """Split a template of image paths into its texts and columns.

    Raises
    ------
    CatalogError
        A text that is no template, or that names no column.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise CatalogError(f"[catalog] images: {template!r} is not a template ({exc})") from exc
    if any(spec or conversion for _, _, spec, conversion in parts) or not any(
        field for _, field, _, _ in parts
    ):
        raise CatalogError(
            f"[catalog] images: {template!r}, expected a template such as 'images/{{objID}}.jpg' "
            "with plain names of columns in braces"
        )
    return [(text, field) for text, field, _, _ in parts]


def image_names(table: pd.DataFrame, template: Template, path: Path) -> list[str]:
    """Fill the template of image paths for every row.

    Raises
    ------
    CatalogError
        A template that names no column of the catalog, or a cell that is not a plain file name.
    """
    columns: list[Iterable[str]] = []
    for text, field in template:
        columns.append(itertools.repeat(text, len(table)))
        if field is None:
            continue
        cells = read_texts(table, field, path, "[catalog] images")
        for row, cell in enumerate(cells, start=1):
            if cell and not is_plain_name(cell):
                raise CatalogError(
                    f"{path}: row {row}, column {field!r}: {quote(cell)} is not a plain file name; "
                    "of a folder and a file make two columns, '{folder}/{file}'"
                )
        columns.append(cells)
    return ["".join(parts) for parts in zip(*columns, strict=True)]


def draw_split(
    table: pd.DataFrame,
    is_kept: NDArray[np.bool_],
    rejected: NDArray[np.object_],
    split: SplitSettings,
    path: Path,
) -> NDArray[np.bool_]:
    """Say of every row whether it is in the validation set.

    The random draw is over the galaxies that are kept and not rejected. With a column of the
    split, a kept galaxy that is neither 'train' nor 'valid' is added to ``rejected``.
    """
    in_valid = np.zeros(len(table), dtype=bool)
    if split.column is None:
        rows = np.flatnonzero(is_kept & (rejected == ""))
        order = np.random.default_rng(split.seed).permutation(rows)
        in_valid[order[: max(1, round(split.valid_fraction * len(rows)))]] = True
        return in_valid
    cells = read_texts(table, split.column, path, "[split] column")
    words = np.array([word.lower() for word in cells], dtype=object)
    if not np.isin(words, ["train", "valid"]).any():
        raise CatalogError(
            f"{path}: column {split.column!r} holds {shorten(sorted(set(words)))}, "
            "expected 'train' and 'valid'"
        )
    stray = is_kept & (rejected == "") & ~np.isin(words, ["train", "valid"])
    rejected[stray] = [
        f"column {split.column!r} is {quote(words[row])}, expected 'train' or 'valid'"
        for row in np.flatnonzero(stray)
    ]
    return words == "valid"


class _Labels(NamedTuple):
    """What `_label_rows` says of every row of a catalog."""

    label: NDArray[np.int16]
    value: NDArray[np.float64]
    rejected: NDArray[np.object_]
    is_kept: NDArray[np.bool_]
    class_names: tuple[str, ...]
    counts: dict[str, int]


def _label_rows(table: pd.DataFrame, classes: ClassSettings, path: Path, labelled: bool) -> _Labels:
    """Give each row its label; rows of classes that are not kept are neither kept nor rejected."""
    n = len(table)
    if not labelled and classes.column not in table:
        return _Labels(
            label=np.full(n, -1, np.int16),
            value=np.full(n, np.nan),
            rejected=np.full(n, "", dtype=object),
            is_kept=np.ones(n, dtype=bool),
            class_names=classes.keep or (),
            counts={},
        )
    names, value, rejected = assign_classes(table, classes, path)
    order = classes.labels or tuple(sorted(set(names) - {""}))
    found = Counter(names)
    counts = {name: found[name] for name in order}
    class_names = classes.keep or order
    known = value[np.isfinite(value)]
    runs = f", its numbers run from {known.min():g} to {known.max():g}" if len(known) else ""
    advice = f"change [classes] {'column or' if classes.edges is None else 'edges or'} keep"
    if not labelled:
        advice = 'to explain galaxies without classes set [classes] column = ""'
    _check_classes(class_names, counts, path, classes.column, f"{runs}; {advice}")
    position = {name: index for index, name in enumerate(class_names)}
    label = np.array([position.get(name, -1) for name in names], dtype=np.int16)
    return _Labels(label, value, rejected, (label >= 0) | (rejected != ""), class_names, counts)


def _read_csv(path: Path, id_column: str, text_columns: Collection[str]) -> pd.DataFrame:
    """Read a CSV file; the lines that begin with '#' before the header are passed over."""
    try:
        with _open_text(path) as stream:
            header = _read_header(stream, path, id_column)
            n_rows = _count_rows(stream, len(header), path)
    except UnicodeDecodeError as exc:
        raise CatalogError(
            f"{path}: line {_find_undecodable(path)} is not in UTF-8, expected a text file in "
            "UTF-8 with commas; save it as such"
        ) from exc
    with _open_text(path) as stream:
        _read_header(stream, path, id_column)
        table = pd.read_csv(
            stream,
            header=None,
            names=header,
            index_col=False,
            skipinitialspace=True,
            dtype={name: "string" for name in header if name in {id_column, *text_columns}},
            # Named column by column, so that a galaxy called 'NA' keeps its name.
            keep_default_na=False,
            na_values={name: EMPTY_CELLS for name in header if name != id_column},
            dtype_backend="numpy_nullable",
            # One type a column, not one a chunk.
            low_memory=False,
        )
    if len(table) < n_rows:
        raise CatalogError(
            f"{path}: {len(table)} of {n_rows} rows can be read, expected each quote to be closed"
        )
    return table


def _read_header(stream: IO[str], path: Path, id_column: str) -> list[str]:
    """Return the names of the columns of a CSV file, and leave its rows in the stream."""
    line = "#"
    while line.startswith("#") or line.isspace():
        line = stream.readline()
    header = next(csv.reader(itertools.chain([line], stream), skipinitialspace=True), [])
    if not any(header):
        raise CatalogError(f"{path}: empty, expected a line with the names of the columns")
    names = _name_columns(header, path)
    sign = next((sign for sign in ";\t| " if sign in names[0]), None)
    if len(names) == 1 and sign is not None and id_column not in names:
        raise CatalogError(
            f"{path}: one column {quote(names[0])}, separated by {sign!r}?, expected commas"
        )
    return names


def _count_rows(stream: IO[str], n_columns: int, path: Path) -> int:
    """Count the rows of a CSV file; one with cells too many or too few is refused."""
    n_rows = 0
    for cells in csv.reader(stream, skipinitialspace=True):
        if len(cells) == n_columns and (n_columns > 1 or cells[0]):
            n_rows += 1
        elif len(cells) > 1 or any(cells):
            found = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            raise CatalogError(
                f"{path}: row {n_rows + 1}: {found}, expected {n_columns} as in the header"
            )
    return n_rows


def _name_columns(names: Iterable[object], path: Path) -> list[str]:
    """Return the names of columns as the store can hold them; Parquet may have numbers for them."""
    texts = [str(name).strip() or f"Unnamed: {index}" for index, name in enumerate(names)]
    for text, count in Counter(texts).items():
        if "\0" in text:
            raise CatalogError(f"{path}: NUL bytes in the names of columns, expected text in UTF-8")
        if count > 1:
            raise CatalogError(f"{path}: two columns {quote(text)}, expected each name once")
    return texts


def _check_texts(table: pd.DataFrame, path: Path) -> None:
    """Raise CatalogError where a text holds a NUL, which ends a text in the store."""
    for column in table.columns[[dtype.kind == "O" for dtype in table.dtypes]]:
        has_nul = [isinstance(cell, str) and "\0" in cell for cell in table[column]]
        if any(has_nul):
            row = has_nul.index(True)
            raise CatalogError(
                f"{path}: row {row + 1}, column {column!r}: {quote(table[column].iloc[row])}, "
                "expected no NUL"
            )


def _open_text(path: Path) -> IO[str]:
    return io.TextIOWrapper(_open_bytes(path), encoding="utf-8-sig", newline="")


def _open_unpacked(path: Path) -> IO[bytes]:
    # On damaged gzip astropy may read without end; unpacked first, the checksum is compared.
    is_packed = path.suffix.lower() == ".gz"
    return io.BytesIO(gzip.decompress(path.read_bytes())) if is_packed else path.open("rb")


def _open_bytes(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _find_undecodable(path: Path) -> int:
    """Return the number of the first line that is not UTF-8."""
    number = 0
    with _open_bytes(path) as stream, contextlib.suppress(UnicodeDecodeError):
        for line in stream:
            number += 1
            line.decode()
    return number


def _read_parquet(path: Path) -> pd.DataFrame:
    """Read Parquet; where the identifiers were the index of a data frame, they are a column."""
    table = pd.read_parquet(path, dtype_backend="numpy_nullable")
    return table.reset_index(drop=table.index.names == [None])


def _read_astropy(path: Path, format: str) -> pd.DataFrame:
    """Read FITS or ECSV through astropy; columns of vectors have no place in a flat table."""
    from astropy.table import Column, Table

    # A stream is closed where a path, of a damaged file, would be left open.
    with _open_unpacked(path) as stream, warnings.catch_warnings():
        # A damaged file is one line, by the error that follows.
        warnings.simplefilter("ignore")
        table = Table.read(stream, format=format)
        flat = [
            name
            for name in table.colnames
            if isinstance(table[name], Column) and table[name].ndim == 1
        ]
        frame = table[flat].to_pandas(use_nullable_int=True)
    left = [name for name in table.colnames if name not in flat]
    if left:
        logger.warning(
            "%s: columns of arrays, times or coordinates are left out: %s", path, shorten(left)
        )
    for name in frame.columns[[dtype.kind == "O" for dtype in frame.dtypes]]:
        frame[name] = [cell.decode() if isinstance(cell, bytes) else cell for cell in frame[name]]
    return frame


def _as_text(cell: Any) -> str:
    """Return a cell as text without surrounding blanks, "" where it is empty."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bytes):
        return cell.decode().strip()
    if not pd.api.types.is_scalar(cell):
        raise TypeError("neither text nor a number")
    if pd.isna(cell):
        return ""
    if isinstance(cell, float | np.floating):
        raise TypeError("a float has lost digits, or shows some that are not there")
    return str(cell).strip()


def _as_number(cell: Any) -> float:
    """Return a cell as a number, NaN where it is empty; text by Python's own exact parser."""
    if isinstance(cell, bytes):
        cell = cell.decode()
    if isinstance(cell, str):
        text = cell.strip()
        # Python's parser knows '1_000' and the digits of every script.
        if "_" in text or not text.isascii():
            raise ValueError("no number")
        return np.nan if not text or text in EMPTY_CELLS else float(text)
    if isinstance(cell, int | float | np.integer | np.floating | Decimal):
        if isinstance(cell, bool):
            raise TypeError("no number")
        return float(cell)
    if pd.api.types.is_scalar(cell) and pd.isna(cell):
        return np.nan
    raise TypeError("no number")


def _check_classes(
    class_names: Sequence[str], counts: dict[str, int], path: Path, column: str, hint: str
) -> None:
    if len(class_names) < 2:
        raise CatalogError(
            f"{path}: column {column!r} holds the classes [{shorten(class_names)}], "
            f"expected at least two{hint}"
        )
    for name in class_names:
        if not name.isprintable():
            raise CatalogError(
                f"{path}: column {column!r}: class {name!r}, expected no line breaks or control "
                "characters"
            )
        if not counts.get(name):
            there = list_some([f"{quote(key)} ({count})" for key, count in counts.items()])
            raise CatalogError(
                f"{path}: column {column!r}: class {quote(name)} is empty, "
                f"expected galaxies in each class kept; there are {there}{hint}"
            )


def _check_what_is_left(labels: _Labels, rows: NDArray[np.intp], path: Path) -> None:
    """Raise CatalogError where no galaxy of a class, or none at all, can be used."""
    if not len(rows):
        raise CatalogError(
            f"{path}: no galaxy is left, expected at least one; {_count_reasons(labels.rejected)}"
        )
    for index, name in enumerate(labels.class_names if labels.counts else ()):
        if not np.any(labels.label[rows] == index):
            why = _count_reasons(labels.rejected[labels.label == index])
            raise CatalogError(
                f"{path}: class {name!r} has no galaxy left, expected at least one; {why}"
            )


def _count_reasons(rejected: NDArray[np.object_]) -> str:
    reasons = [reason for reason in rejected if reason]
    return f"{len(reasons)} left out, first: {reasons[0]}" if reasons else "none was left out"


def describe_rejected(rejected: dict[str, str]) -> str:
    """Count galaxies that were left out, and give an example: the last that was found."""
    objid, reason = next(reversed(rejected.items()))
    galaxies = "galaxy" if len(rejected) == 1 else "galaxies"
    return f"{len(rejected)} {galaxies} left out, such as {objid} ({reason})"


def _find_files(names: Sequence[str], root: Path) -> NDArray[np.bool_]:
    """Tell which files, named from a root, are there, by listing each folder once."""
    places = [os.path.split(name) for name in names]
    folders = {head: _list_folder(root / head) for head in {head for head, _ in places}}
    if not any(folders.values()):
        first = root / names[0]
        raise CatalogError(
            f"{first.parent}: no images there, expected such as {first.name}; "
            "set --images or [catalog] images"
        )
    return np.array([tail in folders[head] for head, tail in places], dtype=bool)


def _list_folder(folder: Path) -> set[str]:
    """Return the names in a folder, without links that lead nowhere; none where it is not there."""
    try:
        if not folder.is_dir():
            return set()
        with os.scandir(folder) as entries:
            # Unlike that of Path, this exists() is also False where it may not look.
            return {
                entry.name
                for entry in entries
                if not entry.is_symlink() or os.path.exists(entry)  # noqa: PTH110
            }
    except OSError as exc:
        raise CatalogError(f"{folder}: cannot be read ({exc.strerror})") from exc


def _read_redshift(table: pd.DataFrame, settings: Settings, path: Path) -> NDArray[np.float64]:
    """Return redshifts, NaN where unknown; so are those that no galaxy has."""
    column = settings.catalog.redshift
    is_named = "redshift" in settings.catalog.model_fields_set
    # Only a column that the settings name must be there: not every catalog has redshifts.
    if column is None or (column not in table and not is_named):
        return np.full(len(table), np.nan)
    redshift = read_numbers(table, column, path, "[catalog] redshift")
    # The Local Group comes nearer, at -0.001; -9999 and inf are how catalogs say 'unknown'.
    is_wrong = np.isinf(redshift) | (redshift <= -1)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        logger.warning(
            "%s: column %r: %d redshifts are -1 or less, or infinite, and taken as unknown, "
            "first: %g in row %d",
            path,
            column,
            int(is_wrong.sum()),
            redshift[row],
            row + 1,
        )
    return np.where(is_wrong, np.nan, redshift)


def _read_pixel_scale(
    table: pd.DataFrame, settings: Settings, path: Path, rows: NDArray[np.intp]
) -> NDArray[np.float64] | None:
    scale = settings.catalog.pixel_scale
    if scale is None:
        return None
    if isinstance(scale, str):
        scales = read_numbers(table, scale, path, "[catalog] pixel_scale")
        wrong = rows[(scales[rows] <= 0) | np.isinf(scales[rows])]
        if len(wrong):
            row = wrong[0]
            raise CatalogError(
                f"{path}: row {row + 1}, column {scale!r}: {scales[row]:g}, expected a pixel "
                "scale above zero [arcsec/pixel]"
            )
        return scales[rows]
    return np.full(len(rows), scale)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _first_line(exc: BaseException) -> str:
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)
