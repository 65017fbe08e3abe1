"""Catalogs: tables of galaxies, their classes, their image files and their split.

A *row* in a message counts from 1 at the first galaxy, below the header.
"""

import csv
import dataclasses
import difflib
import gzip
import hashlib
import io
import os
import string
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.config import ClassSettings, Settings, SplitSettings
from galfig.errors import CatalogError

FORMATS = ".csv, .csv.gz, .parquet, .fits, .fits.gz or .ecsv"
# What pandas, astropy, pyarrow, gzip and csv raise at damaged files.
_READING_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    csv.Error,
    zlib.error,
    pd.errors.ParserWarning,
)
EMPTY_CELLS = ["", "NA", "N/A", "n/a", "nan", "NaN", "-nan", "null", "NULL", "None", "<NA>", "--"]


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
        A table that cannot be read; a missing column; an identifier that is empty, doubled or
        not a plain file name; a value of the wrong type; a class without galaxies.
    """
    path = settings.catalog_path
    table = read_table(path, settings.catalog.id)
    objid = table[settings.catalog.id].to_numpy(dtype=object)
    check_objids(objid, path, settings.catalog.id)

    labels = _label_rows(table, settings.classes, path, labelled)
    rejected = labels.rejected
    is_used = labels.is_kept & (rejected == "")
    paths = image_paths(table, settings, path)
    lost = is_used & ~_find_files(paths)
    rejected[lost] = [f"no image {paths[row]}" for row in np.flatnonzero(lost)]
    in_valid = draw_split(table, labels.is_kept, rejected, settings.split, path)

    rows = np.flatnonzero(labels.is_kept & (rejected == ""))
    _check_what_is_left(labels, rows, path)
    flag = table.get("simulated")
    return Galaxies(
        table=table.iloc[rows],
        objid=objid[rows],
        paths=tuple(paths[row] for row in rows),
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


def read_table(path: Path, id_column: str) -> pd.DataFrame:
    """Read a catalog whole, the identifiers as text from the first byte.

    Parameters
    ----------
    path : Path
        CSV (also gzipped), Parquet, FITS or ECSV, told apart by suffix.
    id_column : str
        Column with the identifiers. As a float64, 1237665024900858129 is off by 17, so a column
        of floats is refused.

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
            table = _read_csv(path, id_column)
        elif suffixes.endswith((".parquet", ".pq")):
            table = pd.read_parquet(path, dtype_backend="numpy_nullable")
        elif suffixes.endswith((".fits", ".fit", ".fits.gz", ".ecsv")):
            table = _read_astropy(path, "ascii.ecsv" if suffixes.endswith(".ecsv") else "fits")
        else:
            raise CatalogError(f"{path}: unknown suffix {path.suffix!r}, expected {FORMATS}")
    except FileNotFoundError as exc:
        raise CatalogError(f"{path}: no such file, expected a catalog") from exc
    except CatalogError:
        raise
    except _READING_ERRORS as exc:
        raise CatalogError(f"{path}: cannot be read ({_first_line(exc)})") from exc
    require_column(table, id_column, path)
    if table.empty:
        raise CatalogError(f"{path}: no rows, expected at least one galaxy")
    if table[id_column].dtype.kind == "f":
        raise CatalogError(
            f"{path}: column {id_column!r} holds floating-point numbers, which cannot hold every "
            "objid exactly; write it as text or as 64-bit integers"
        )
    table[id_column] = [_as_text(objid) for objid in table[id_column]]
    return table.reset_index(drop=True)


def require_column(table: pd.DataFrame, name: str, path: Path) -> None:
    """Raise CatalogError, with the nearest name there is, where a column is missing."""
    if name not in table.columns:
        columns = [str(column) for column in table.columns]
        near = difflib.get_close_matches(name, columns, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {_shorten(columns)}"
        raise CatalogError(f"{path}: no column {name!r}; {hint}")


def check_objids(objid: Iterable[str], path: Path, column: str) -> None:
    """Raise CatalogError where an identifier is empty, doubled or not a plain file name."""
    first_row: dict[str, int] = {}
    for row, name in enumerate(objid, start=1):
        where = f"{path}: row {row}, column {column!r}"
        if not name:
            raise CatalogError(f"{where}: empty, expected an identifier")
        if not is_plain_name(name):
            raise CatalogError(
                f"{where}: {name!r} is not a plain file name, "
                "expected one without '/', '\\', '..' or control characters"
            )
        if name in first_row:
            raise CatalogError(
                f"{where}: {name!r} is there already in row {first_row[name]}, "
                "expected each identifier once"
            )
        first_row[name] = row


def is_plain_name(text: str) -> bool:
    """Tell whether a text can be part of a file name without leaving its folder."""
    return (
        text not in {"", ".", ".."}
        and not any(sign in text for sign in "/\\")
        and ".." not in text
        and text.isprintable()
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
    require_column(table, classes.column, path)
    series = table[classes.column]
    if classes.edges is None:
        if series.dtype.kind == "f":
            raise CatalogError(
                f"{path}: column {classes.column!r} holds numbers, expected classes as text; "
                "set [classes] edges and labels to bin them"
            )
        names = np.array([_as_text(name) for name in series], dtype=object)
        rejected = np.where(names == "", f"no {classes.column}", "").astype(object)
        return names, np.full(len(table), np.nan), rejected
    value = read_numbers(table, classes.column, path)
    bins = pd.cut(value, bins=list(classes.edges), labels=list(classes.labels or ()))
    names = np.array(["" if pd.isna(name) else str(name) for name in bins], dtype=object)
    rejected = np.full(len(table), "", dtype=object)
    for row in np.flatnonzero(names == ""):
        if np.isnan(value[row]):
            rejected[row] = f"no {classes.column}"
        else:
            low, high = classes.edges[0], classes.edges[-1]
            rejected[row] = f"{classes.column} = {value[row]:g} outside ({low:g}, {high:g}]"
    return names, value, rejected


def read_numbers(table: pd.DataFrame, column: str, path: Path) -> NDArray[np.float64]:
    """Return a column as float64, NaN where a cell is empty; text is refused by row."""
    require_column(table, column, path)
    series = table[column]
    numbers = pd.to_numeric(series, errors="coerce").astype("Float64")
    wrong = (numbers.isna() & series.notna() & (series.astype(str).str.lower() != "nan")).to_numpy()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise CatalogError(
            f"{path}: row {row + 1}, column {column!r}: {series.iloc[row]!r}, expected a number"
        )
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def image_paths(table: pd.DataFrame, settings: Settings, path: Path) -> list[Path]:
    """Fill the template of image paths for every row.

    Raises
    ------
    CatalogError
        A template that names no column of the catalog, or a cell that is not a plain file name.
    """
    template = settings.catalog.images
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise CatalogError(f"[catalog] images: {template!r} is not a template ({exc})") from exc
    fields = [field for _, field, _, _ in parts if field is not None]
    if any(spec or conversion for _, _, spec, conversion in parts) or not fields:
        raise CatalogError(
            f"[catalog] images: {template!r}, expected a template such as 'images/{{objID}}.jpg'"
        )
    cells: dict[str, list[str]] = {}
    for field in fields:
        require_column(table, field, path)
        cells[field] = [_as_text(cell) for cell in table[field]]
        for row, cell in enumerate(cells[field], start=1):
            if cell and not is_plain_name(cell):
                raise CatalogError(
                    f"{path}: row {row}, column {field!r}: {cell!r} is not a plain file name"
                )
    names = [
        "".join(
            text + (cells[field][row] if field is not None else "") for text, field, _, _ in parts
        )
        for row in range(len(table))
    ]
    return [settings.images_dir / name for name in names]


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
    require_column(table, split.column, path)
    words = np.array([_as_text(word).lower() for word in table[split.column]], dtype=object)
    if not np.isin(words, ["train", "valid"]).any():
        raise CatalogError(
            f"{path}: column {split.column!r} holds {_shorten(sorted(set(words)))}, "
            "expected 'train' and 'valid'"
        )
    stray = is_kept & (rejected == "") & ~np.isin(words, ["train", "valid"])
    rejected[stray] = [f"{split.column} is {words[row]!r}" for row in np.flatnonzero(stray)]
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
    counts = {name: int(np.sum(names == name)) for name in order}
    class_names = classes.keep or order
    _check_classes(class_names, counts, path, classes.column)
    position = {name: index for index, name in enumerate(class_names)}
    label = np.array([position.get(name, -1) for name in names], dtype=np.int16)
    return _Labels(label, value, rejected, (label >= 0) | (rejected != ""), class_names, counts)


def _read_csv(path: Path, id_column: str) -> pd.DataFrame:
    """Read a CSV file; SkyServer's leading '#Table1' line is passed over."""
    n_comments, header = 0, []
    with _open_text(path) as stream:
        for line in stream:
            if not line.startswith("#"):
                header = next(csv.reader([line], skipinitialspace=True))
                break
            n_comments += 1
    doubled = [name for name in header if header.count(name) > 1]
    if doubled:
        raise CatalogError(f"{path}: two columns {doubled[0]!r}, expected each name once")
    with _open_text(path) as stream, warnings.catch_warnings():
        # A row longer than the header would otherwise lose its last cells in a warning.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            stream,
            skiprows=n_comments,
            index_col=False,
            skipinitialspace=True,
            converters={id_column: str.strip},
            # Named column by column, so that a galaxy called 'NA' keeps its name.
            keep_default_na=False,
            na_values={name: EMPTY_CELLS for name in header if name != id_column},
            dtype_backend="numpy_nullable",
        )


def _open_text(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read_astropy(path: Path, format: str) -> pd.DataFrame:
    """Read FITS or ECSV through astropy; columns of vectors have no place in a flat table."""
    from astropy.io.fits.verify import VerifyError
    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning

    # On damaged gzip astropy may read without end; unpacked first, the checksum is compared.
    is_packed = path.suffix.lower() == ".gz"
    source = io.BytesIO(gzip.decompress(path.read_bytes())) if is_packed else path
    with warnings.catch_warnings():
        # A damaged file is one line, by the error that follows.
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            table = Table.read(source, format=format)
        except VerifyError as exc:
            raise CatalogError(f"{path}: cannot be read ({_first_line(exc)})") from exc
    flat = [name for name in table.colnames if table[name].ndim == 1]
    frame = table[flat].to_pandas(use_nullable_int=True)
    for name in frame.columns[[dtype.kind == "O" for dtype in frame.dtypes]]:
        frame[name] = [cell.decode() if isinstance(cell, bytes) else cell for cell in frame[name]]
    return frame


def _as_text(cell: object) -> str:
    """Return a cell as text without surrounding blanks, "" where it is empty."""
    if cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    if isinstance(cell, bytes):
        return cell.decode().strip()
    return str(cell).strip()


def _check_classes(
    class_names: Sequence[str], counts: dict[str, int], path: Path, column: str
) -> None:
    if len(class_names) < 2:
        raise CatalogError(
            f"{path}: column {column!r} holds the classes {list(class_names)}, "
            "expected at least two"
        )
    for name in class_names:
        if not counts.get(name):
            there = ", ".join(f"{key} ({count})" for key, count in counts.items())
            raise CatalogError(
                f"{path}: column {column!r}: class {name!r} is empty, "
                f"expected galaxies in each class kept; there are {there}"
            )


def _check_what_is_left(labels: _Labels, rows: NDArray[np.intp], path: Path) -> None:
    """Raise CatalogError where no galaxy of a class, or none at all, can be used."""
    reasons = [reason for reason in labels.rejected if reason]
    why = f"{len(reasons)} left out, first: {reasons[0]}" if reasons else "none was left out"
    if not len(rows):
        raise CatalogError(f"{path}: no galaxy is left; {why}")
    for index, name in enumerate(labels.class_names if labels.counts else ()):
        if not np.any(labels.label[rows] == index):
            raise CatalogError(
                f"{path}: class {name!r} has no galaxy left, expected at least one; {why}"
            )


def _find_files(paths: Sequence[Path]) -> NDArray[np.bool_]:
    """Tell which files are there, by listing each folder once."""
    folders: dict[Path, set[str]] = {}
    for folder in {path.parent for path in paths}:
        try:
            names = _list_folder(folder) if folder.is_dir() else set()
        except OSError as exc:
            raise CatalogError(f"{folder}: cannot be read ({exc.strerror})") from exc
        folders[folder] = names
    if not any(folders.values()):
        raise CatalogError(
            f"{paths[0].parent}: no images there, expected such as {paths[0].name}; "
            "set --images or [catalog] images"
        )
    return np.array([path.name in folders[path.parent] for path in paths], dtype=bool)


def _list_folder(folder: Path) -> set[str]:
    """Return the names in a folder, without the links that lead nowhere."""
    with os.scandir(folder) as entries:
        # Unlike that of Path, this exists() is also False where it may not look.
        return {
            entry.name
            for entry in entries
            if not entry.is_symlink() or os.path.exists(entry)  # noqa: PTH110
        }


def _read_redshift(table: pd.DataFrame, settings: Settings, path: Path) -> NDArray[np.float64]:
    column = settings.catalog.redshift
    is_named = "redshift" in settings.catalog.model_fields_set
    # Only a column that the settings name must be there: not every catalog has redshifts.
    if column is None or (column not in table and not is_named):
        return np.full(len(table), np.nan)
    return read_numbers(table, column, path)


def _read_pixel_scale(
    table: pd.DataFrame, settings: Settings, path: Path, rows: NDArray[np.intp]
) -> NDArray[np.float64] | None:
    scale = settings.catalog.pixel_scale
    if scale is None:
        return None
    if isinstance(scale, str):
        scales = read_numbers(table, scale, path)
        wrong = rows[scales[rows] <= 0]
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


def _shorten(names: Sequence[str], n: int = 8) -> str:
    """Join names for a message, the first n of them."""
    quoted: Iterator[str] = (repr(name) for name in names[:n])
    return ", ".join(quoted) + (f" and {len(names) - n} more" if len(names) > n else "")
