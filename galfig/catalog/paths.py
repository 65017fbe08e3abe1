"""Paths: templates of image paths, filled from the cells of a catalog, and the files they name.

A catalog may be anybody's. What a cell says is followed only to files below the folder of the
images: a galaxy whose path leads out of it is left out, with the reason.
"""

import errno
import itertools
import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.catalog.columns import read_texts
from galfig.catalog.identifiers import MAX_NAME
from galfig.config import CatalogSettings
from galfig.errors import CatalogError
from galfig.images.sources import BandFiles, Source
from galfig.runtime.messages import quote
from galfig.runtime.storage import Address, is_address, list_objects

# Suffixes of image files, longest first.
SUFFIXES = (
    *(".fits.gz", ".fits.fz", ".fit.gz", ".jpeg", ".fits", ".tiff", ".webp"),
    *(".jpg", ".png", ".tif", ".gif", ".bmp", ".fit", ".fts", ".npy"),
)
# At the end of a template: any of these.
ANY_SUFFIX = ".*"
# The longest path that a cell may hold [byte].
MAX_PATH = 1024
_ITEM = re.compile(r"(?P<column>.+?)\[(?P<start>-?\d*):(?P<stop>-?\d*)\]", re.DOTALL)
_WIDTH = re.compile(r"0(?P<width>[1-9]\d?)d?")


@dataclass(frozen=True)
class Slot:
    """A place in a template that the cell of a column fills.

    Attributes
    ----------
    column : str
        Name of the column.
    start, stop : int or None
        The part of the cell that is used, as in Python's slices.
    width : int
        Number of digits, filled up with zeros from the left; 0 for the cell as it is.
    """

    column: str
    start: int | None = None
    stop: int | None = None
    width: int = 0

    def take(self, cell: str) -> str:
        """Return the part of a cell that the place shows."""
        return cell.zfill(self.width)[self.start : self.stop]


@dataclass(frozen=True)
class Template:
    """A template of image paths, parsed.

    Attributes
    ----------
    words : str
        The template itself.
    parts : tuple of (str, Slot or None)
        Pairs of a literal text and the place that follows it, None at the end.
    """

    words: str
    parts: tuple[tuple[str, Slot | None], ...]

    @property
    def columns(self) -> list[str]:
        """The columns that the template names."""
        return [slot.column for _, slot in self.parts if slot is not None]

    @property
    def folder(self) -> str:
        """The constant folder before the first place; "" if there is none."""
        return self.parts[0][0].rpartition("/")[0] or ("/" if self.words.startswith("/") else "")


def parse_template(words: str, setting: str = "[catalog] images") -> Template:
    """Parse a template of image paths.

    Parameters
    ----------
    words : str
        Such as ``images/{objID}.jpg``, ``{iauname[:4]}/{iauname}.png``, ``{plate:04}/{objID}.*``.
    setting : str, default "[catalog] images"
        The setting, for messages.

    Returns
    -------
    Template

    Raises
    ------
    CatalogError
        If the text is not a template, or names no column.
    """
    try:
        found = list(string.Formatter().parse(words))
        parts = tuple(
            (text, None if field is None else _parse_slot(field, spec or "", conversion))
            for text, field, spec, conversion in found
        )
    except ValueError as exc:
        raise CatalogError(f"{setting}: {words!r} is not a valid template ({exc})") from exc
    if not any(slot for _, slot in parts):
        raise CatalogError(
            f"{setting}: {words!r}, expected a template such as 'images/{{objID}}.jpg' with names "
            "of columns in braces"
        )
    return Template(words, parts)


def _parse_slot(field: str, spec: str, conversion: str | None) -> Slot:
    width = _WIDTH.fullmatch(spec)
    if conversion or not field or (spec and not width):
        raise ValueError(
            "expected columns in braces, such as {objID}, a part of their text, such as "
            "{objID[:4]}, or a number of digits, such as {plate:04}"
        )
    n_digits = int(width["width"]) if width else 0
    if item := _ITEM.fullmatch(field):
        start, stop = (int(item[name]) if item[name] else None for name in ("start", "stop"))
        return Slot(item["column"], start, stop, n_digits)
    return Slot(field, width=n_digits)


def parse_templates(catalog: CatalogSettings) -> list[Template]:
    """Parse the templates of the settings: one of a file per galaxy, or one per band.

    Parameters
    ----------
    catalog : CatalogSettings
        The settings.

    Returns
    -------
    list of Template

    Raises
    ------
    CatalogError
        If a template is not valid.
    """
    if catalog.bands is None:
        return [parse_template(catalog.images)]
    return [parse_template(words, "[catalog] bands") for words in catalog.bands]


def fill_template(
    table: pd.DataFrame, template: Template, path: Path, *, base: str = ""
) -> tuple[list[str], dict[int, str]]:
    """Fill a template of image paths for every row.

    Parameters
    ----------
    table : DataFrame
        The catalog, with N rows.
    template : Template
        The template.
    path : Path
        Path of the catalog, for messages.
    base : str, optional
        The address that the images are below; a cell may begin with it.

    Returns
    -------
    names : list of str
        N image paths, relative to the images' folder; "" where a row has none.
    reasons : dict of int to str
        Why a row has none: an empty cell, or one that does not name a file below that folder.

    Raises
    ------
    CatalogError
        If the template names a column that the catalog lacks.
    """
    reasons: dict[int, str] = {}
    columns: list[Iterable[str]] = []
    for text, slot in template.parts:
        columns.append(itertools.repeat(text, len(table)))
        if slot is None:
            continue
        cells = read_texts(table, slot.column, path, "[catalog] images")
        taken = [slot.take(cell) if cell else "" for cell in cells]
        if base and not text:
            taken = [cell.removeprefix(f"{base}/") for cell in taken]
        for row, cell in enumerate(taken):
            if row not in reasons and (why := _find_fault(cell)):
                reasons[row] = f"{slot.column} {why}" if cells[row] else f"no {slot.column}"
        columns.append(taken)
    names = ["".join(parts) for parts in zip(*columns, strict=True)]
    for row, name in enumerate(names):
        if row not in reasons and (why := _find_escape(name, template.folder)):
            reasons[row] = why
    return ["" if row in reasons else _shorten(name) for row, name in enumerate(names)], reasons


def _find_fault(cell: str) -> str:
    """Say why a cell cannot be part of a path; "" if it can."""
    if not cell:
        return "is empty"
    if is_address(cell):
        return (
            f"{quote(cell)} is an address, expected a path below the folder of the images, or one "
            "below the address that is given for them"
        )
    if cell.startswith("/") or re.match(r"[A-Za-z]:[\\/]", cell):
        return (
            f"{quote(cell)} is an absolute path, expected one below the folder of the images; cut "
            "the beginning off with a slice such as {column[20:]}"
        )
    if "\\" in cell or not cell.isprintable():
        return f"{quote(cell)} holds '\\' or invisible characters, expected '/' between folders"
    parts = cell.split("/")
    if len(cell.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in parts):
        return f"{quote(cell)} is longer than a path can be"
    return f"{quote(cell)} {_LEADS_OUT}" if ".." in parts else ""


_LEADS_OUT = "leads out of the folder of the images, expected a file below it"


def _find_escape(name: str, folder: str) -> str:
    """Say why a filled template names no file below its constant folder; "" if it does."""
    parts = name[len(folder) :].split("/")
    if ".." in parts:
        return f"{quote(name[len(folder) :].lstrip('/'))} {_LEADS_OUT}"
    return "" if parts[-1] not in ("", ".") else f"{quote(name)} names a folder, expected a file"


def _shorten(name: str) -> str:
    """Return a path without "." and doubled slashes, which do not matter."""
    return str(PurePosixPath(name))


def locate_images(
    table: pd.DataFrame,
    templates: Sequence[Template],
    root: Path | Address,
    path: Path,
    is_used: NDArray[np.bool_],
) -> tuple[list[Source], dict[int, str]]:
    """Find the image of each row that is used.

    Parameters
    ----------
    table : DataFrame
        The catalog, with N rows.
    templates : sequence of Template
        One template, or one per band.
    root : Path or Address
        Folder or address that the templates are relative to.
    path : Path
        Path of the catalog, for messages.
    is_used : (N,) ndarray of bool
        False for rows whose image does not matter.

    Returns
    -------
    sources : list of Path, Address or BandFiles
        N images; those of rows that are not used, or have none, mean nothing.
    reasons : dict of int to str
        Why a row that is used has no image.

    Raises
    ------
    CatalogError
        If a template names a column that the catalog lacks, a folder cannot be read, or there is
        no image at all.
    """
    reasons: dict[int, str] = {}
    found: list[list[str]] = []
    base = str(root) if isinstance(root, Address) else ""
    for template in templates:
        parts = template.words.split("/")
        if base and (template.words.startswith("/") or ".." in parts):
            raise CatalogError(
                f"[catalog] images: {template.words!r} leads out of {base}, expected a template "
                "below that address"
            )
        names, why = fill_template(table, template, path, base=base)
        names, lost = _find_files(names, template, root, is_used)
        found.append(names)
        reasons = {**lost, **why, **reasons}
    reasons = {row: reasons[row] for row in sorted(reasons) if is_used[row]}
    if len(found) == 1:
        return [root / name for name in found[0]], reasons
    files = zip(*found, strict=True)
    return [BandFiles(tuple(root / name for name in names)) for names in files], reasons


def _find_files(
    names: list[str], template: Template, root: Path | Address, is_used: NDArray[np.bool_]
) -> tuple[list[str], dict[int, str]]:
    """Return the files that exist, and why a row that is used has none.

    Each folder is listed only once. Rows without a name are passed over.
    """
    rows = [row for row in np.flatnonzero(is_used).tolist() if names[row]]
    folders = _Folders(root, template.folder)
    reasons: dict[int, str] = {}
    found = list(names)
    for row in rows:
        head, tail = os.path.split(names[row])
        name, reason = folders.find(head, tail)
        found[row] = _join(head, name)
        if reason:
            reasons[row] = reason
    if rows and len(reasons) == len(rows):
        _check_some(names[rows[0]], template, root, folders)
    return found, reasons


def _check_some(name: str, template: Template, root: Path | Address, folders: "_Folders") -> None:
    """Raise CatalogError if the template is at fault for every image that is missing."""
    head, tail = os.path.split(name)
    if folders.are_empty():
        first = root / name
        raise CatalogError(
            f"{first.parent}: no images found, expected files such as {first.name}; set [catalog] "
            "images or `images_dir`"
        )
    if others := folders.list_alike(head, tail):
        stem = _split_suffix(template.words.removesuffix(ANY_SUFFIX))[0]
        suffix = _split_suffix(others[0])[1]
        # An identifier may have the suffix of its file already.
        better = stem if others[0] == _split_suffix(tail)[0] else f"{stem}{suffix}"
        advice = f"; set [catalog] images = {better!r}" if better != template.words else ""
        raise CatalogError(f"{root / name}: no such image, but {others[0]} is there{advice}")


class _Folders:
    """The folders of images: what each holds, and whether it is below that of the template."""

    def __init__(self, root: Path | Address, base: str) -> None:
        self._root, self._base = root, "" if base in ("", ".") else str(PurePosixPath(base))
        self._real_base = None if isinstance(root, Address) else os.path.realpath(root / base)
        self._names: dict[str, set[str]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}

    def find(self, head: str, tail: str) -> tuple[str, str]:
        """Return the file that a name means in a folder, and why there is none."""
        shown = _join(head, tail)
        if not self._is_inside(head, ""):
            return tail, f"{_hide_folder(shown)} {_LEADS_OUT}"
        others = self.list_alike(head, tail)
        if tail.endswith(ANY_SUFFIX):
            if len(others) == 1:
                tail, shown = others[0], _join(head, others[0])
            else:
                several = f", expected one: {', '.join(sorted(others))}" if others else ""
                return tail, f"{len(others) or 'no'} images {_hide_folder(shown)}{several}"
        elif tail not in self._list(head):
            hint = f"; {others[0]} is there" if others else ""
            return tail, f"no image {_hide_folder(shown)}{hint}"
        if head != self._base and not self._is_inside(head, tail):
            return tail, f"{_hide_folder(shown)} {_LEADS_OUT}"
        return tail, ""

    def list_alike(self, head: str, tail: str) -> list[str]:
        """Return the files of a folder that have a name with another suffix, or without one."""
        names = self._list(head)
        stem = tail.removesuffix(ANY_SUFFIX)
        stem = stem if tail.endswith(ANY_SUFFIX) else _split_suffix(tail)[0]
        alike = self._stems[head].get(stem, [])
        # An identifier may have the suffix of its file already.
        return sorted(alike) or ([stem] if stem in names and stem != tail else [])

    def are_empty(self) -> bool:
        """Return whether no folder that was asked for holds anything."""
        return not any(self._names.values())

    def _list(self, head: str) -> set[str]:
        if head not in self._names:
            names = self._names[head] = _list_folder(self._root / head)
            stems = self._stems[head] = {}
            for name in names:
                stem, suffix = _split_suffix(name)
                if suffix:
                    stems.setdefault(stem, []).append(name)
        return self._names[head]

    def _is_inside(self, head: str, tail: str) -> bool:
        """Return whether a path leads below the template's folder, after all links.

        What the settings name may be a link to anywhere, and so may the files in the folder that
        they name. A path from a cell is somebody else's.
        """
        if head == self._base or self._real_base is None or isinstance(self._root, Address):
            # An object store has no links, and `Address` no way out.
            return True
        real = Path(os.path.realpath(self._root / head / tail))
        return real.is_relative_to(self._real_base)


def _join(head: str, tail: str) -> str:
    return str(PurePosixPath(head, tail))


def _split_suffix(name: str) -> tuple[str, str]:
    """Split a name from the suffix of an image; "" if it has none of them."""
    lower = name.lower()
    suffix = next((one for one in SUFFIXES if lower.endswith(one)), "")
    end = len(name) - len(suffix)
    return name[:end], name[end:]


def _hide_folder(name: str) -> str:
    """Return the path of an image below its folder, or its name; stores record it."""
    path = PurePath(name)
    return path.name if path.is_absolute() or ".." in path.parts else name


def _list_folder(folder: Path | Address) -> set[str]:
    """Return the names in a folder without broken links; an empty set if there is no folder."""
    try:
        if isinstance(folder, Address):
            return set(list_objects(folder))
        if not folder.is_dir():
            return set()
        with os.scandir(folder) as entries:
            return {
                entry.name for entry in entries if not entry.is_symlink() or _leads_to_file(entry)
            }
    except OSError as exc:
        raise CatalogError(f"{folder}: cannot be read ({exc.strerror})") from exc


def _leads_to_file(link: os.DirEntry[str]) -> bool:
    """Return whether a symbolic link leads somewhere; raise OSError if that cannot be told."""
    try:
        link.stat()
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return False
    return True


def note_reasons(rejected: NDArray[np.object_], reasons: Mapping[int, str]) -> None:
    """Add reasons, by row, to those of all rows (N,), where there is none yet."""
    for row, reason in reasons.items():
        rejected[row] = rejected[row] or reason
