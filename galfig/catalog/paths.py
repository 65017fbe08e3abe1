"""Paths: templates of image paths, filled from the cells of a catalog, and the files they name.

A catalog may be anybody's. What a cell says is followed only to files below the folder of the
images: a galaxy whose path leads out of it is left out, with the reason.
"""

import errno
import itertools
import os
import re
import string
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from galfig.catalog.columns import find_strings, read_texts, require_column
from galfig.catalog.identifiers import MAX_NAME
from galfig.config import CatalogSettings
from galfig.errors import CatalogError
from galfig.images.sources import FileSources
from galfig.runtime.messages import quote
from galfig.runtime.storage import Address, is_address, list_objects, quote_address

# Suffixes of image files, longest first.
SUFFIXES = (
    *(".fits.gz", ".fits.fz", ".fit.gz", ".jpeg", ".fits", ".tiff", ".webp"),
    *(".jpg", ".png", ".tif", ".gif", ".bmp", ".fit", ".fts", ".npy"),
)
# At the end of a template: any of these.
ANY_SUFFIX = ".*"
# Names that are faster looked up one by one.
_FEW = 1000
# The longest path that a cell may hold [byte].
MAX_PATH = 1024
_ITEM = re.compile(r"(?P<column>.+?)\[(?P<start>-?\d*):(?P<stop>-?\d*)\]", re.DOTALL)
_WIDTH = re.compile(r"0(?P<width>[1-9]\d?)d?")
# A path below a folder in which nothing can lead out of it, and a cell without a sign.
_PLAIN = r"[\w+-][\w.+-]*(?:/[\w+-][\w.+-]*)*"
_UNSIGNED = r"^[\w/][!-~]*$"


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


def check_templates(templates: Sequence[Template], root: Path | Address) -> None:
    """Raise CatalogError if a template leads out of the address that the user typed.

    Parameters
    ----------
    templates : sequence of Template
        The templates.
    root : Path or Address
        The folder that they are relative to, which a template may lead out of; or the address.
    """
    if not isinstance(root, Address):
        return
    for template in templates:
        if template.words.startswith("/") or ".." in template.words.split("/"):
            raise CatalogError(
                f"[catalog] images: {template.words!r} leads out of {root}, expected a template "
                "below that address"
            )


def fill_template(
    table: pd.DataFrame, template: Template, path: Path, *, base: str = ""
) -> tuple[pa.LargeStringArray, dict[int, str]]:
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
    names : (N,) array of text
        N image paths, relative to the images' folder; "" where a row has none.
    reasons : dict of int to str
        Why a row has none: an empty cell, or one that does not name a file below that folder.

    Raises
    ------
    CatalogError
        If the template names a column that the catalog lacks.
    """
    for column in template.columns:
        require_column(table, column, path, "[catalog] images")
    strings = {column: find_strings(table, column) for column in template.columns}
    cells = {column: found for column, found in strings.items() if found is not None}
    if len(cells) < len(strings) or "//" in template.words:
        texts = {column: read_texts(table, column, path, "[catalog] images") for column in strings}
        names, reasons = _fill_exactly(texts, template, base)
        return pa.array(names, pa.large_string()), reasons
    filled = _fill_plain(cells, template, base)
    rows = np.flatnonzero(filled.is_null().to_numpy(zero_copy_only=False))
    texts = {
        column: [cell.strip() for cell in found.take(rows).to_pylist()]
        for column, found in cells.items()
    }
    names, reasons = _fill_exactly(texts, template, base)
    return (
        _replace(filled, rows.tolist(), names),
        {int(rows[index]): reason for index, reason in reasons.items()},
    )


def _fill_plain(
    cells: Mapping[str, pa.LargeStringArray], template: Template, base: str
) -> pa.LargeStringArray:
    """Fill a template at once for rows whose cells are plain letters and digits, as most are.

    The names of the other rows are null.
    """
    text, folder = pa.large_string(), template.folder
    literals = [literal for literal, _ in template.parts]
    # The constant folder may hold "..", which the rest may not.
    literals[0] = literals[0][len(folder) :].removeprefix("/")
    pieces: list[Any] = []
    is_plain: Any = pa.scalar(True)
    for literal, (words, slot) in zip(literals, template.parts, strict=True):
        pieces.append(pa.scalar(literal, text))
        if slot is None:
            continue
        taken = cells[slot.column]
        if slot.width or (slot.start, slot.stop) != (None, None):
            # Zeros are filled in behind a sign.
            is_plain = compute.and_(is_plain, compute.match_substring_regex(taken, _UNSIGNED))
            taken = compute.utf8_lpad(taken, slot.width, "0")
            taken = compute.utf8_slice_codeunits(taken, slot.start or 0, slot.stop)
        if base and not words:
            below = compute.utf8_slice_codeunits(taken, len(base) + 1)
            taken = compute.if_else(compute.starts_with(taken, f"{base}/"), below, taken)
        is_plain = compute.and_(is_plain, compute.match_substring_regex(taken, f"^{_PLAIN}$"))
        pieces.append(taken)
    rest = compute.binary_join_element_wise(*pieces, pa.scalar("", text))
    for is_so in (
        compute.match_substring_regex(rest, rf"^{_PLAIN}(?:\.\*)?$"),
        compute.less_equal(compute.binary_length(rest), MAX_NAME),
    ):
        is_plain = compute.and_(is_plain, is_so)
    start = pa.scalar(_join(folder, "x")[:-1], text)
    names = compute.binary_join_element_wise(start, rest, pa.scalar("", text))
    return compute.if_else(is_plain, names, pa.scalar(None, text))


def _replace(
    names: pa.LargeStringArray, rows: Sequence[int], texts: Sequence[str]
) -> pa.LargeStringArray:
    """Return texts of which those in some rows are others."""
    if not rows:
        return names
    found = names.to_numpy(zero_copy_only=False).tolist()
    for row, text in zip(rows, texts, strict=True):
        found[row] = text
    return pa.array(found, pa.large_string())


def _fill_exactly(
    cells: Mapping[str, Sequence[str]], template: Template, base: str
) -> tuple[list[str], dict[int, str]]:
    """Fill a template row by row, and say why a row has no path."""
    reasons: dict[int, str] = {}
    columns: list[Iterable[str]] = []
    for text, slot in template.parts:
        if slot is None:
            columns.append(itertools.repeat(text))
            continue
        found = cells[slot.column]
        taken = [slot.take(cell) if cell else "" for cell in found]
        if base and not text:
            taken = [cell.removeprefix(f"{base}/") for cell in taken]
        for row, cell in enumerate(taken):
            if row not in reasons and (why := _find_fault(cell)):
                reasons[row] = f"{slot.column} {why}" if found[row] else f"no {slot.column}"
        columns += [itertools.repeat(text), taken]
    # The cells of at least one column end it.
    names = ["".join(parts) for parts in zip(*columns, strict=False)]
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
            f"{quote_address(cell)} is an address, expected a path below the folder of the images, "
            "or one below the address that is given for them"
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
    listed: "dict[Path | Address, Listing] | None" = None,
) -> tuple[FileSources, dict[int, str]]:
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
    listed : dict of Path or Address to Listing, optional
        What is in the folders that are listed already; those that are listed here are added.

    Returns
    -------
    sources : FileSources
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
    found: list[pa.LargeStringArray] = []
    base = str(root) if isinstance(root, Address) else ""
    listed = {} if listed is None else listed
    for template in templates:
        names, why = fill_template(table, template, path, base=base)
        folders = _Folders(root, template.folder, listed)
        names, lost = _find_files(names, template, root, is_used, folders)
        found.append(names)
        reasons = {**lost, **why, **reasons}
    reasons = {row: reasons[row] for row in sorted(reasons) if is_used[row]}
    return FileSources(root, found), reasons


def _find_files(
    names: pa.LargeStringArray,
    template: Template,
    root: Path | Address,
    is_used: NDArray[np.bool_],
    folders: "_Folders",
) -> tuple[pa.LargeStringArray, dict[int, str]]:
    """Return the files that exist, and why a row that is used has none.

    Each folder is listed only once. Rows without a name are passed over.
    """
    has_name = compute.not_equal(names, "").to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(is_used & has_name)
    reasons: dict[int, str] = {}
    others: dict[int, str] = {}
    for row in _list_doubtful(names, rows, folders).tolist():
        name = names[row].as_py()
        head, tail = os.path.split(name)
        file, reason = folders.find(head, tail)
        if file != tail:
            others[row] = _join(head, file)
        if reason:
            reasons[row] = reason
    if len(rows) and len(reasons) == len(rows):
        _check_some(names[int(rows[0])].as_py(), template, root, folders)
    return _replace(names, [*others], [*others.values()]), reasons


def _list_doubtful(
    names: pa.LargeStringArray, rows: NDArray[np.intp], folders: "_Folders"
) -> NDArray[np.intp]:
    """Return the rows whose file is not simply there, in the folder that it is looked for in."""
    parts = compute.extract_regex(names.take(rows), r"^(?P<head>(?s:.*/)?)(?P<tail>(?s:[^/]*))$")
    heads = parts.field("head").dictionary_encode()
    tails = parts.field("tail")
    codes = heads.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(heads.dictionary) + 1))
    is_there = np.zeros(len(rows), dtype=bool)
    for code, head in enumerate(heads.dictionary.to_pylist()):
        group = order[bounds[code] : bounds[code + 1]]
        # As os.path.split does.
        head = head.rstrip("/") or head
        is_there[group] = folders.have(head, tails.take(group))
    return rows[~is_there]


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

    def __init__(
        self, root: Path | Address, base: str, listed: "dict[Path | Address, Listing]"
    ) -> None:
        self._root, self._base = root, "" if base in ("", ".") else str(PurePosixPath(base))
        self._real_base = None if isinstance(root, Address) else os.path.realpath(root / base)
        self._listed = listed
        self._listings: dict[str, Listing] = {}
        self._inside: dict[str, bool] = {}

    def have(self, head: str, tails: pa.LargeStringArray) -> NDArray[np.bool_]:
        """Return which of some names (n,) are files of a folder, and no links to be followed."""
        if not self._is_inside(head, ""):
            return np.zeros(len(tails), dtype=bool)
        listing = self._list(head)
        names = listing.names if head == self._base else listing.names - listing.links
        if len(tails) < _FEW:
            return np.array([tail in names for tail in tails.to_pylist()], dtype=bool)
        # What is no Unicode is in no catalog.
        there = pa.array([name for name in names if name.isascii()], pa.large_string())
        return np.asarray(compute.is_in(tails, there).to_numpy(zero_copy_only=False))

    def find(self, head: str, tail: str) -> tuple[str, str]:
        """Return the file that a name means in a folder, and why there is none."""
        shown = _join(head, tail)
        if not self._is_inside(head, ""):
            return tail, f"{_hide_folder(shown)} {_LEADS_OUT}"
        if tail.endswith(ANY_SUFFIX):
            others = self.list_alike(head, tail)
            if len(others) == 1:
                tail, shown = others[0], _join(head, others[0])
            else:
                several = f", expected one: {', '.join(sorted(others))}" if others else ""
                return tail, f"{len(others) or 'no'} images {_hide_folder(shown)}{several}"
        elif tail not in self._list(head).names:
            others = self.list_alike(head, tail)
            hint = f"; {others[0]} is there" if others else ""
            return tail, f"no image {_hide_folder(shown)}{hint}"
        if head != self._base and not self._is_inside(head, tail):
            return tail, f"{_hide_folder(shown)} {_LEADS_OUT}"
        return tail, ""

    def list_alike(self, head: str, tail: str) -> list[str]:
        """Return the files of a folder that have a name with another suffix, or without one."""
        listing = self._list(head)
        stem = tail.removesuffix(ANY_SUFFIX)
        stem = stem if tail.endswith(ANY_SUFFIX) else _split_suffix(tail)[0]
        # An identifier may have the suffix of its file already.
        return listing.list_images(stem) or (
            [stem] if stem in listing.names and stem != tail else []
        )

    def are_empty(self) -> bool:
        """Return whether no folder that was asked for holds anything."""
        return not any(listing.names for listing in self._listings.values())

    def _list(self, head: str) -> "Listing":
        if head not in self._listings:
            folder = self._root / head
            if folder not in self._listed:
                self._listed[folder] = _list_folder(folder)
            self._listings[head] = self._listed[folder]
        return self._listings[head]

    def _is_inside(self, head: str, tail: str) -> bool:
        """Return whether a path leads below the template's folder, after all links.

        What the settings name may be a link to anywhere, and so may the files in the folder that
        they name. A path from a cell is somebody else's.
        """
        if head == self._base:
            return True
        # A file that is no link lies where its folder does.
        if tail and tail in self._list(head).links:
            return self._leads_inside(self._root / head / tail)
        if head not in self._inside:
            self._inside[head] = self._leads_inside(self._root / head)
        return self._inside[head]

    def _leads_inside(self, path: Path | Address) -> bool:
        if self._real_base is None or isinstance(path, Address):
            # An object store has no links, and `Address` no way out.
            return True
        return Path(os.path.realpath(path)).is_relative_to(self._real_base)


class Listing:
    """The names in a folder without broken links, and which of them are links."""

    def __init__(self, names: set[str], links: set[str]) -> None:
        self.names, self.links = names, links
        self._sorted: list[str] | None = None

    def list_images(self, stem: str) -> list[str]:
        """Return the files that are named by a stem and the suffix of an image, sorted."""
        if self._sorted is None:
            self._sorted = sorted(self.names)
        # All suffixes begin with a point.
        start = bisect_left(self._sorted, f"{stem}.")
        near = itertools.takewhile(
            lambda name: name.startswith(f"{stem}."), itertools.islice(self._sorted, start, None)
        )
        return [name for name in near if _split_suffix(name)[0] == stem]


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


def _list_folder(folder: Path | Address) -> Listing:
    """List a folder; there is nothing in it if there is no folder."""
    names: set[str] = set()
    links: set[str] = set()
    try:
        if isinstance(folder, Address):
            # An object store has no links.
            names.update(list_objects(folder))
        elif folder.is_dir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        if not _leads_to_file(entry):
                            continue
                        links.add(entry.name)
                    names.add(entry.name)
    except OSError as exc:
        raise CatalogError(f"{folder}: cannot be read ({exc.strerror})") from exc
    return Listing(names, links)


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
