"""Catalogs: tables of galaxies, their classes, their image files and their split.

Messages count *rows* from 1, the first galaxy below the header.
"""

import dataclasses
import hashlib
import itertools
import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.catalog.arrays import ImageArray, find_array, read_array_table
from galfig.catalog.arrow import Wanted
from galfig.catalog.columns import (
    EMPTY_CELLS,
    read_classes,
    read_numbers,
    read_texts,
)
from galfig.catalog.formats import OnTable, check_choice, is_parquet, read_file, read_table
from galfig.catalog.identifiers import find_bad_objids, find_doubled
from galfig.catalog.origin import read_origin
from galfig.catalog.partitions import read_partitions
from galfig.catalog.paths import (
    Listing,
    Template,
    check_templates,
    locate_images,
    note_reasons,
    parse_templates,
)
from galfig.config import CatalogFile, ClassSettings, Settings, SplitSettings
from galfig.errors import CatalogError
from galfig.images.sources import JoinedSources, Source, Sources, take_sources
from galfig.records import FetchRecord
from galfig.runtime.messages import find_near, list_some, quote, shorten
from galfig.runtime.storage import Address

logger = logging.getLogger(__name__)

# Words for the split of a galaxy, and what catalogs also write for them.
SPLITS = ("train", "valid", "test")
NO_SPLIT = tuple(text.lower() for text in EMPTY_CELLS)
SYNONYMS = {"val": "valid", "validation": "valid", "training": "train", "testing": "test"}
# Local Group galaxies have redshifts down to -0.001, and the farthest known ones about 14. Catalogs
# write -9999, 99 or 9999 for unknown.
MIN_REDSHIFT, MAX_REDSHIFT = -0.01, 20.0
# Classes that labels of 16 bits can tell apart.
MAX_CLASSES = 2**15 - 1
# Number of class names that are compared with each other.
MAX_COMPARED = 100


@dataclass(frozen=True, repr=False)
class Galaxies:
    """Galaxies to train a network on or to explain; each array has one entry per galaxy.

    Attributes
    ----------
    table : DataFrame
        Every column of the catalog, N rows.
    objid : (N,) array of str
        Identifiers.
    paths : sequence of Path, BandFiles or Element
        N images: a file each, several files, or an element of an array.
    redshift : (N,) array of float64
        Redshifts, NaN where unknown.
    value : (N,) array of float64
        The quantity that was binned, in the unit of its column; NaN where the classes are text.
    label : (N,) array of int16
        Position in ``class_names``, -1 where unknown.
    split : (N,) array of str
        "train", "valid" or "test", as a training on these galaxies uses them; "" for galaxies
        without classes, unless a column of the catalog gives the split.
    pixel_scale : (N,) array of float64 or None
        Pixel scale of each image [arcsec/pixel], NaN where unknown: that of the settings or, where
        these say nothing, that of the cutouts that were fetched.
    class_names : tuple of str
        The classes kept, in the order of the settings.
    class_counts : dict of str to int
        Number of galaxies of each class of the catalog, including classes that are not kept.
    rejected : dict of str to str
        Why a galaxy of a kept or unknown class was left out, by objid; by the row of the catalog,
        such as "row 13", if it has no identifier of its own.
    catalog_sha256 : str
        SHA-256 of the catalog file; of several files together, or of a table in a file and its
        choice.
    simulated : bool
        True if the catalog marks any galaxy as simulated.
    settings : Settings
        The settings that the catalog was read with.
    origin : FetchRecord or None
        Where catalog and images were fetched from; None if that is not recorded.
    have_headers : bool
        Whether any image is FITS, whose header may say how it lies on the sky.
    """

    table: pd.DataFrame
    objid: NDArray[np.object_]
    paths: Sequence[Source]
    redshift: NDArray[np.float64]
    value: NDArray[np.float64]
    label: NDArray[np.int16]
    split: NDArray[np.object_]
    pixel_scale: NDArray[np.float64] | None
    class_names: tuple[str, ...]
    class_counts: dict[str, int]
    rejected: dict[str, str]
    catalog_sha256: str
    simulated: bool
    settings: Settings
    origin: FetchRecord | None = None
    have_headers: bool = False

    def __len__(self) -> int:
        return len(self.objid)

    @property
    def is_north_up(self) -> bool:
        """Whether the images were fetched with north up and east to the left."""
        return self.origin is not None and self.origin.is_north_up

    @property
    def in_train(self) -> NDArray[np.bool_]:
        """True for galaxies of the training set, (N,)."""
        return np.asarray(self.split == "train", dtype=bool)

    @property
    def in_valid(self) -> NDArray[np.bool_]:
        """True for galaxies of the validation set, (N,)."""
        return np.asarray(self.split == "valid", dtype=bool)

    def __repr__(self) -> str:
        classes = ", ".join(
            f"{int(np.sum(self.label == index))} {name}"
            for index, name in enumerate(self.class_names)
        )
        n_train, n_valid, n_test = (int(np.sum(self.split == word)) for word in SPLITS)
        tested = f" and {n_test} to test" if n_test else ""
        return (
            f"<Galaxies: {len(self)} ({classes}), {n_train} to train and {n_valid} to validate"
            f"{tested}, {len(self.rejected)} left out>"
        )

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> "Galaxies":
        """Return some of the galaxies.

        Parameters
        ----------
        rows : (M,) array of int, or (N,) array of bool
            Their positions, or a mask.

        Returns
        -------
        Galaxies
        """
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.intp)
        scale = self.pixel_scale
        return dataclasses.replace(
            self,
            table=self.table.iloc[rows],
            objid=self.objid[rows],
            paths=take_sources(self.paths, rows),
            redshift=self.redshift[rows],
            value=self.value[rows],
            label=self.label[rows],
            split=self.split[rows],
            pixel_scale=None if scale is None else scale[rows],
        )

    def drop(self, objids: Container[str]) -> "Galaxies":
        """Return the galaxies without those of some identifiers.

        Parameters
        ----------
        objids : container of str
            The identifiers to leave out.

        Returns
        -------
        Galaxies
        """
        return self.take(np.array([objid not in objids for objid in self.objid], dtype=bool))

    def reject(self, reasons: Mapping[int, str]) -> "Galaxies":
        """Move galaxies to ``rejected``.

        Parameters
        ----------
        reasons : mapping of int to str
            The reason for each galaxy, by its position.

        Returns
        -------
        Galaxies
            The remaining galaxies.
        """
        if not reasons:
            return self
        stays = np.ones(len(self), dtype=bool)
        stays[list(reasons)] = False
        more = {self.objid[row]: reason for row, reason in reasons.items()}
        return dataclasses.replace(self.take(stays), rejected={**self.rejected, **more})


class _Part(NamedTuple):
    """One file of the catalog, by `_read_part`; each array has an entry per row."""

    file: CatalogFile
    sha256: str
    table: pd.DataFrame
    objid: NDArray[np.object_]
    rejected: NDArray[np.object_]


class _Labels(NamedTuple):
    """Labels of every row of a catalog, by `_label_rows`."""

    label: NDArray[np.int16]
    value: NDArray[np.float64]
    rejected: NDArray[np.object_]
    is_kept: NDArray[np.bool_]
    class_names: tuple[str, ...]
    counts: dict[str, int]


@dataclass
class Reading:
    """What is known of a catalog while `load_galaxies` reads it, which fills it in as it goes.

    After an error, it holds what was understood before. Arrays have an entry per row of all files,
    in their order.

    Attributes
    ----------
    table : DataFrame or None
        The rows of all files; of the file that is being read, until all are.
    rows : dict of CatalogFile to int
        The number of rows of each file that was read.
    objid : (N,) array of str or None
        Identifiers, usable or not.
    unusable : (N,) array of str or None
        Why the identifier of a row cannot be used, "" where it can.
    rejected : (N,) array of str or None
        Why a row is left out, as far as that is known; "" for others.
    label : (N,) array of int16 or None
        Position of the class of each row among those that are kept, -1 for others.
    value : (N,) array of float64 or None
        The number that was binned.
    counts : dict of str to int or None
        Number of rows of each class.
    class_names : tuple of str
        The classes kept.
    images : Sources or None
        The image of each row; it means nothing for rows that are left out.
    lost : dict of int to str
        Why a row that is used has no image, by its position.
    """

    table: pd.DataFrame | None = None
    rows: dict[CatalogFile, int] = dataclasses.field(default_factory=dict)
    objid: NDArray[np.object_] | None = None
    unusable: NDArray[np.object_] | None = None
    rejected: NDArray[np.object_] | None = None
    label: NDArray[np.int16] | None = None
    value: NDArray[np.float64] | None = None
    counts: dict[str, int] | None = None
    class_names: tuple[str, ...] = ()
    images: Sources | None = None
    lost: dict[int, str] = dataclasses.field(default_factory=dict)

    def show(self, table: pd.DataFrame) -> None:
        """Take the table of the file that is being read."""
        self.table = table


def load_galaxies(
    settings: Settings, *, labelled: bool = True, reading: Reading | None = None
) -> Galaxies:
    """Read the catalog, assign the classes, find the images and draw the split.

    Parameters
    ----------
    settings : Settings
        The settings; the tables ``catalog``, ``classes`` and ``split`` are used.
    labelled : bool, default True
        If False, a catalog without the class column is accepted: every galaxy is kept, with
        label -1.
    reading : Reading, optional
        Filled in with what is understood, also where an error follows.

    Returns
    -------
    Galaxies
        In the order of the catalog, and of its files; ``rejected`` lists the galaxies that were
        left out, and why.

    Raises
    ------
    CatalogError
        If the table cannot be read; a column is missing; no identifier is usable; most values of
        a column have the wrong type; a class has no galaxies; or most cells of the column of the
        split hold other words than 'train', 'valid' and 'test'.
    """
    path = settings.catalog_path
    array = find_array(settings)
    templates = [] if array is not None else parse_templates(settings.catalog)
    check_templates(templates, settings.images_dir)
    # A table that nobody asked for would stay in the memory beside the one that is made of it.
    on_table = None if reading is None else reading.show
    reading = Reading() if reading is None else reading
    parts: list[_Part] = []
    for file in settings.catalog_files:
        parts.append(_read_part(file, settings, templates, array, on_table))
        reading.show(parts[-1].table)
        reading.rows[file] = len(parts[-1].table)
    reading.table = table = _join([part.table for part in parts])
    reading.objid = objid = np.concatenate([part.objid for part in parts])
    unusable = np.concatenate([part.rejected for part in parts])
    reading.unusable = reading.rejected = unusable
    _reject_doubled(parts, table, unusable, settings)
    if np.all(unusable != ""):
        raise CatalogError(
            f"{path}: no galaxy is left, expected at least one; {_count_reasons(unusable)}"
        )

    labels = _label_rows(parts, unusable, settings, labelled)
    reading.label, reading.value, reading.counts = labels.label, labels.value, labels.counts
    reading.class_names, reading.rejected = labels.class_names, labels.rejected
    if labelled or _have_classes(parts, settings.classes):
        _check_labels(labels, unusable, settings, labelled=labelled)
    if alike := find_alike([*labels.counts]):
        pairs = "; ".join(f"{quote(a)} and {quote(b)}" for a, b in alike)
        logger.warning(
            "%s: column %r: classes with nearly the same name: %s; if they are one, correct the "
            "catalog or set [classes] keep",
            path,
            settings.classes.column,
            pairs,
        )
    rejected = labels.rejected
    is_used = labels.is_kept & (rejected == "")
    images: Sources
    if array is not None:
        images = array.locate(len(table), path)
    else:
        images, lost = _find_images(parts, settings, templates, is_used)
        note_reasons(rejected, lost)
        reading.lost = lost
    reading.images = images
    split = assign_splits(parts, labels, settings.split)

    rows = np.flatnonzero(labels.is_kept & (rejected == ""))
    _check_what_is_left(labels, rows, path)
    redshift = [_read_redshift(part.table, settings, part.file.path) for part in parts]
    scale, origin = _read_pixel_scale(parts, settings, rows), read_origin(settings)
    if scale is None and origin is not None:
        scale = np.full(len(rows), origin.pixel_scale)
    flag = table.get("simulated")
    left_out = {
        _name_row(parts, row) if unusable[row] else objid[row]: rejected[row]
        for row in np.flatnonzero(rejected != "").tolist()
    }
    return Galaxies(
        # A copy of the same rows would double the memory.
        table=table if len(rows) == len(table) else table.iloc[rows],
        objid=objid[rows],
        paths=images.take(rows),
        redshift=np.concatenate(redshift)[rows],
        value=labels.value[rows],
        label=labels.label[rows],
        split=split[rows],
        pixel_scale=scale,
        class_names=labels.class_names,
        class_counts=labels.counts,
        rejected=left_out,
        catalog_sha256=_digest_catalog(parts, settings),
        simulated=flag is not None and bool((flag.astype(str).str.lower() == "true").any()),
        settings=settings,
        origin=origin,
        have_headers=images.have_headers,
    )


def _read_part(
    file: CatalogFile,
    settings: Settings,
    templates: Sequence[Template],
    array: ImageArray | None,
    on_table: OnTable | None,
) -> _Part:
    """Read a file of the catalog; rows without a usable identifier are rejected."""
    catalog, path = settings.catalog, file.path
    faults: dict[int, str] = {}
    wanted = _list_wanted(settings, templates)
    has_images = array is not None and array.is_catalog
    if path.is_dir() or is_parquet(path):
        check_choice(path, file.table, catalog.names)
        table, digest = read_partitions(
            path, catalog.id, wanted, has_images=has_images, on_table=on_table
        )
    elif has_images and array is not None:
        table, digest = read_array_table(array, catalog.id)
        table = table if wanted is None else wanted.drop_others(table, path)
    else:
        data = read_file(path, with_readme=catalog.names is None)
        digest = hashlib.sha256(data).hexdigest()
        table = read_table(
            path,
            catalog.id,
            _list_texts(settings, templates),
            data=data,
            chosen=file.table,
            names=catalog.names,
            faults=faults,
            wanted=wanted,
            on_table=on_table,
        )
        del data
    objid = table[catalog.id].to_numpy(dtype=object)
    bad = find_bad_objids(objid.tolist(), path, catalog.id)
    bad |= {row - 1: reason for row, reason in faults.items()}
    rejected = np.full(len(table), "", dtype=object)
    for row, reason in bad.items():
        rejected[row] = reason
    return _Part(file, digest, table, objid, rejected)


def _list_wanted(settings: Settings, templates: Sequence[Template]) -> Wanted | None:
    """Return the columns to read: those that the settings name, for the store and otherwise."""
    catalog, classes = settings.catalog, settings.classes
    if catalog.columns is None:
        return None
    others = {catalog.id, classes.column, *(classes.columns or ()), "simulated"}
    others |= {column for template in templates for column in template.columns}
    named = (settings.split.column, catalog.redshift, catalog.pixel_scale)
    others |= {name for name in named if isinstance(name, str)}
    return Wanted(catalog.columns, others)


def _list_texts(settings: Settings, templates: Sequence[Template]) -> set[str]:
    """Return the columns that are text from the first byte, whatever their cells look like."""
    classes = settings.classes
    texts = {column for template in templates for column in template.columns}
    if settings.split.column is not None:
        texts.add(settings.split.column)
    if classes.edges is None and classes.columns is None:
        texts.add(classes.column)
    return texts


def _join(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all files; a column that a file lacks is empty there."""
    if len(tables) == 1:
        return tables[0]
    # Beside a file that lacks the column, numpy's integers would become floats, and lose digits.
    exact = [
        table.astype(
            {
                name: pd.api.types.pandas_dtype(
                    f"{'U' * (dtype.kind == 'u')}Int{8 * dtype.itemsize}"
                )
                for name, dtype in table.dtypes.items()
                if isinstance(dtype, np.dtype) and dtype.kind in "iu"
            }
        )
        for table in tables
    ]
    with warnings.catch_warnings():
        # pandas 2 announces that empty columns will count for the type of the joined ones.
        warnings.simplefilter("ignore", FutureWarning)
        return pd.concat(exact, ignore_index=True)


def _digest_catalog(parts: Sequence[_Part], settings: Settings) -> str:
    """Return the SHA-256 of a file, or of all that tells several files, or a part of one."""
    first = parts[0]
    if len(parts) == 1 and first.file.table is None and settings.catalog.names is None:
        return first.sha256
    files = [(part.file.split, part.file.table, part.sha256) for part in parts]
    return hashlib.sha256(json.dumps([files, settings.catalog.names]).encode()).hexdigest()


def _place(parts: Sequence[_Part], position: int) -> tuple[_Part, int]:
    """Return the file of a row, and its number there from 1."""
    for part in parts:
        if position < len(part.table):
            return part, position + 1
        position -= len(part.table)
    raise IndexError(position)


def _name_row(parts: Sequence[_Part], position: int) -> str:
    """Return the name of a row, such as "row 13", or "row 13 of test.csv" of several files."""
    part, row = _place(parts, position)
    names = [_name_file(one.file) for one in parts]
    name = _name_file(part.file)
    # Files of one name may lie in different folders.
    of = name if names.count(name) == 1 else f"{part.file.split or 'train'}: {name}"
    return f"row {row}" if len(parts) == 1 else f"row {row} of {of}"


def _name_file(file: CatalogFile) -> str:
    return file.path.name + (f"[{file.table}]" if file.table is not None else "")


def _reject_doubled(
    parts: Sequence[_Part],
    table: pd.DataFrame,
    rejected: NDArray[np.object_],
    settings: Settings,
) -> None:
    """Reject rows that share an identifier; one of rows that are the same everywhere stays."""
    column, is_first_kept = settings.catalog.id, settings.catalog.duplicates == "first"
    objid = np.where(rejected == "", table[column].to_numpy(dtype=object), "").tolist()
    groups = find_doubled(objid)
    if not groups:
        return
    among = [row for rows in groups for row in rows]
    is_copy = dict(zip(among, table.iloc[among].astype(str).duplicated(), strict=True))
    n_copies, doubled = 0, []
    for rows in groups:
        first, *others = rows
        differ = [row for row in others if not is_copy[row]]
        for row in others:
            if is_copy[row]:
                rejected[row] = f"the same as {_name_row(parts, first)} in every column"
                n_copies += 1
            elif is_first_kept:
                rejected[row] = (
                    f"{column} {quote(objid[row])} is already in {_name_row(parts, first)}"
                )
        if differ:
            doubled.append((first, 1 + len(differ)))
        if differ and not is_first_kept:
            for row in (first, *differ):
                other = next(row2 for row2 in (first, *differ) if row2 != row)
                rejected[row] = f"{column} {quote(objid[row])} is also in {_name_row(parts, other)}"
    path = settings.catalog_path
    if n_copies:
        logger.warning(
            "%s: rows that repeat another one in every column count once: %d", path, n_copies
        )
    if doubled:
        advice = 'the first row of each is kept, as [catalog] duplicates = "first" asks'
        if not is_first_kept:
            advice = 'all are left out; [catalog] duplicates = "first" keeps the first row of each'
        logger.warning(
            "%s: column %r: %d rows share their identifier with another one: %s; %s",
            path,
            column,
            sum(n for _, n in doubled),
            shorten([objid[row] for row, _ in doubled]),
            advice,
        )


def _find_images(
    parts: Sequence[_Part],
    settings: Settings,
    templates: Sequence[Template],
    is_used: NDArray[np.bool_],
) -> tuple[Sources, dict[int, str]]:
    """Return the image of each row, and why a row that is used has none."""
    images: list[Sources] = []
    lost: dict[int, str] = {}
    start = 0
    # Many partitions may share a folder, and a bucket is listed by many requests.
    listed: dict[Path | Address, Listing] = {}
    for part in parts:
        table = part.table
        if np.any(part.rejected != ""):
            # An identifier that is not usable must not lead out of the folder of the images.
            usable = np.where(part.rejected == "", part.objid, "")
            table = table.assign(**{settings.catalog.id: usable})
        found, reasons = locate_images(
            table,
            templates,
            settings.find_images(part.file),
            part.file.path,
            is_used[start : start + len(table)],
            listed,
        )
        images.append(found)
        lost |= {start + row: reason for row, reason in reasons.items()}
        start += len(table)
    return images[0] if len(images) == 1 else JoinedSources(images), lost


def assign_classes(
    table: pd.DataFrame, classes: ClassSettings, path: Path
) -> tuple[NDArray[np.object_], NDArray[np.float64], NDArray[np.object_]]:
    """Assign a class to every row: the bin of a number, or the text of a column.

    Parameters
    ----------
    table : DataFrame
        The catalog, with N rows.
    classes : ClassSettings
        Column, edges and labels; bins are closed on the right, as in ``pandas.cut``.
    path : Path
        Path of the catalog, for messages.

    Returns
    -------
    names : (N,) array of str
        Class of each galaxy, "" where it has none.
    value : (N,) array of float64
        The number that was binned, in the unit of its column; NaN for text.
    rejected : (N,) array of str
        Why a galaxy has no class, "" where it has one.

    Raises
    ------
    CatalogError
        If a column is missing, or holds text where numbers are expected or the reverse.
    """
    if classes.columns is not None:
        return _assign_largest(table, classes, path)
    if classes.edges is None:
        names = np.array(read_classes(table, classes.column, path), dtype=object)
        rejected = np.where(names == "", f"no {classes.column}", "").astype(object)
        return names, np.full(len(table), np.nan), rejected
    bad: dict[int, str] = {}
    value = read_numbers(table, classes.column, path, "[classes] column", bad=bad)
    bins = pd.cut(value, bins=list(classes.edges), labels=False)
    # A galaxy outside every bin has index -1, which picks the last name: "".
    bins = np.where(np.isnan(bins), -1, bins).astype(int)
    names = np.array([*(classes.labels or ()), ""], dtype=object)[bins]
    rejected = np.full(len(table), "", dtype=object)
    for row in np.flatnonzero(names == "").tolist():
        if row in bad:
            rejected[row] = f"{classes.column} = {bad[row]}, expected a number"
        elif np.isnan(value[row]):
            rejected[row] = f"no {classes.column}"
        else:
            low, high = classes.edges[0], classes.edges[-1]
            rejected[row] = f"{classes.column} = {value[row]:g} outside ({low:g}, {high:g}]"
    return names, value, rejected


def _assign_largest(
    table: pd.DataFrame, classes: ClassSettings, path: Path
) -> tuple[NDArray[np.object_], NDArray[np.float64], NDArray[np.object_]]:
    """Assign the class whose column has the largest number, such as the fraction of votes."""
    columns = classes.columns or ()
    numbers: list[NDArray[np.float64]] = []
    reasons: dict[int, str] = {}
    for name in columns:
        bad: dict[int, str] = {}
        numbers.append(read_numbers(table, name, path, "[classes] columns", bad=bad))
        reasons |= {row: f"{name} = {cell}, expected a number" for row, cell in bad.items()}
    # A question that nobody was asked has no votes: the others decide.
    known = np.nan_to_num(np.stack(numbers, axis=1), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    largest = known.max(axis=1)
    names = np.array(classes.labels or columns, dtype=object)[known.argmax(axis=1)]
    rejected = np.full(len(table), "", dtype=object)
    least = -np.inf if classes.threshold is None else classes.threshold
    for row, value in enumerate(largest):
        if row in reasons:
            rejected[row] = reasons[row]
        elif value == -np.inf:
            rejected[row] = f"no {', '.join(columns)}"
        elif np.sum(known[row] == value) > 1:
            rejected[row] = f"no single largest value, {value:g} is there more than once"
        elif value < least:
            rejected[row] = f"{names[row]} = {value:g}, below the threshold {least:g}"
    names[rejected != ""] = ""
    return names, np.full(len(table), np.nan), rejected


def assign_splits(
    parts: Sequence[_Part], labels: _Labels, split: SplitSettings
) -> NDArray[np.object_]:
    """Decide which rows train the network, which validate it, and which are held out as a test.

    A file or a column of the catalog may say so. Otherwise the sets are drawn at random from the
    galaxies that are kept and not rejected, unless these have no classes.

    Parameters
    ----------
    parts : sequence of _Part
        The files of the catalog, N rows in all.
    labels : _Labels
        The labels of the rows. Their ``rejected`` is updated in place: a kept galaxy whose cell in
        the column is empty, or holds another word, is rejected.
    split : SplitSettings
        Column or files of the split; or fractions and seed of the draw.

    Returns
    -------
    (N,) array of str
        "train", "valid" or "test"; "" for rows that are not used or have no split.

    Raises
    ------
    CatalogError
        If the column is missing, or most of its cells hold another word.
    """
    first = parts[0]
    n_first = len(first.table)
    found = np.full(len(labels.label), "", dtype=object)
    said = [np.full(len(part.table), part.file.split, dtype=object) for part in parts[1:]]
    found[n_first:] = np.concatenate(said) if said else ""
    is_used = (labels.is_kept & (labels.rejected == ""))[:n_first]
    if split.column is not None:
        found[:n_first] = _read_splits(first, is_used, labels.rejected, split.column)
    elif labels.counts:
        rows = np.flatnonzero(is_used)
        order = np.random.default_rng(split.seed).permutation(rows)
        n_valid = max(1, round(split.valid_fraction * len(rows)))
        n_test = round(split.test_fraction * len(rows))
        # What has a catalog of its own is not drawn.
        n_valid = 0 if "valid" in split.catalogs else n_valid
        n_test = 0 if "test" in split.catalogs else n_test
        found[rows] = "train"
        found[order[:n_valid]] = "valid"
        found[order[n_valid : n_valid + n_test]] = "test"
    return found


def _read_splits(
    part: _Part, is_used: NDArray[np.bool_], rejected: NDArray[np.object_], column: str
) -> NDArray[np.object_]:
    """Read the split of each row from a column, and reject the kept galaxies without one."""
    path = part.file.path
    cells = read_texts(part.table, column, path, "[split] column")
    words = np.array([cell.strip().lower() for cell in cells], dtype=object)
    words = np.array([SYNONYMS.get(word, word) for word in words], dtype=object)
    strange = np.flatnonzero(is_used & ~np.isin(words, [*SPLITS, *NO_SPLIT]))
    if 2 * len(strange) > np.sum(is_used):
        row = strange[0]
        raise CatalogError(
            f"{path}: row {row + 1}, column {column!r}: {quote(cells[row])}, expected 'train', "
            "'valid' or 'test'"
        )
    for row in strange:
        rejected[row] = f"{column} = {quote(cells[row])}, expected 'train', 'valid' or 'test'"
    rejected[: len(words)][is_used & np.isin(words, NO_SPLIT)] = f"no {column}"
    return np.where(np.isin(words, SPLITS), words, "").astype(object)


def _label_rows(
    parts: Sequence[_Part], unusable: NDArray[np.object_], settings: Settings, labelled: bool
) -> _Labels:
    """Label each row; a row of a class that is not kept is neither kept nor rejected."""
    classes, n = settings.classes, len(unusable)
    if not labelled and not _have_classes(parts, classes):
        return _Labels(
            label=np.full(n, -1, np.int16),
            value=np.full(n, np.nan),
            rejected=unusable.copy(),
            is_kept=np.ones(n, dtype=bool),
            class_names=classes.keep or (),
            counts={},
        )
    assigned = [assign_classes(part.table, classes, part.file.path) for part in parts]
    names, value, rejected = (np.concatenate(arrays) for arrays in zip(*assigned, strict=True))
    names[unusable != ""] = ""
    rejected = np.where(unusable != "", unusable, rejected)
    order = classes.labels or classes.columns or tuple(sorted(set(names) - {""}))
    found = Counter(names)
    counts = {name: found[name] for name in order}
    class_names = classes.keep or order
    if len(class_names) > MAX_CLASSES:
        raise CatalogError(
            f"{settings.catalog_path}: column {classes.column!r} holds {len(class_names)} classes, "
            f"expected at most {MAX_CLASSES}; choose a column of classes, or set [classes] keep"
        )
    position = {name: index for index, name in enumerate(class_names)}
    label = np.array([position.get(name, -1) for name in names], dtype=np.int16)
    return _Labels(label, value, rejected, (label >= 0) | (rejected != ""), class_names, counts)


def _have_classes(parts: Sequence[_Part], classes: ClassSettings) -> bool:
    """Return whether any file has a column that the classes follow from."""
    needed = classes.columns or (classes.column,)
    return any(name in part.table for part in parts for name in needed)


def _check_labels(
    labels: _Labels, unusable: NDArray[np.object_], settings: Settings, *, labelled: bool
) -> None:
    """Raise CatalogError if there are fewer than two classes, or one that is kept is empty."""
    classes, path = settings.classes, settings.catalog_path
    known = labels.value[np.isfinite(labels.value)]
    runs = f", values run from {known.min():g} to {known.max():g}" if len(known) else ""
    advice = f"change [classes] {'column or' if classes.edges is None else 'edges or'} keep"
    if not labelled:
        advice = 'to explain galaxies without classes set [classes] column = ""'
    if np.any(unusable != ""):
        advice = f"{_count_reasons(unusable)}; {advice}"
    hint = f"{runs}; {advice}"
    _check_classes(labels.class_names, labels.counts, path, classes.column, hint)


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
                f"expected galaxies in every class kept; found {there}{hint}"
            )


def find_alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Find pairs of class names that may be one class, written in two ways.

    These are names that differ in case, spaces or punctuation only, and names of which one word of
    five letters or more is misspelt. Names that differ in numbers or in short words, such as types
    of galaxies, are different classes.

    Parameters
    ----------
    names : sequence of str
        The names.

    Returns
    -------
    list of (str, str)
        The pairs, in the order of the names.
    """
    # Beyond this, the classes are no longer a few words, and the pairs are too many to compare.
    names = names[:MAX_COMPARED]
    return [pair for pair in itertools.combinations(names, 2) if _is_alike(*pair)]


def _is_alike(first: str, second: str) -> bool:
    a, b = (re.findall(r"\w+", name.casefold().replace("_", " ")) for name in (first, second))
    if a and "".join(a) == "".join(b):
        return True
    differing = [pair for pair in zip(a, b, strict=False) if pair[0] != pair[1]]
    if len(a) != len(b) or len(differing) != 1:
        return False
    one, other = differing[0]
    is_text = one.isalpha() and other.isalpha() and min(len(one), len(other)) >= 5
    is_near = abs(len(one) - len(other)) <= 1
    return is_text and is_near and find_near(one, (other,), cutoff=0.8) is not None


def _check_what_is_left(labels: _Labels, rows: NDArray[np.intp], path: Path) -> None:
    """Raise CatalogError if no galaxy of a class, or no galaxy at all, can be used."""
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
    """Return the number of galaxies that were left out, with the last one as an example.

    Parameters
    ----------
    rejected : dict of str to str
        Why each galaxy was left out, by objid; at least one.

    Returns
    -------
    str
        Such as "12 galaxies left out, such as 1237 (no image images/1237.jpg)".
    """
    objid, reason = next(reversed(rejected.items()))
    galaxies = "galaxy" if len(rejected) == 1 else "galaxies"
    return f"{len(rejected)} {galaxies} left out, for example {objid} ({reason})"


def _read_redshift(table: pd.DataFrame, settings: Settings, path: Path) -> NDArray[np.float64]:
    """Return redshifts, NaN where they are unknown or impossible."""
    column = settings.catalog.redshift
    is_named = "redshift" in settings.catalog.model_fields_set
    # The default column may be missing, since not every catalog has redshifts.
    if column is None or (column not in table and not is_named):
        return np.full(len(table), np.nan)
    bad: dict[int, str] = {}
    redshift = read_numbers(table, column, path, "[catalog] redshift", bad=bad)
    is_wrong = (redshift < MIN_REDSHIFT) | (redshift > MAX_REDSHIFT)
    n_wrong = int(is_wrong.sum()) + len(bad)
    if n_wrong:
        row = min([*bad, *np.flatnonzero(is_wrong)[:1].tolist()])
        logger.warning(
            "%s: column %r: %d redshifts are below %g, above %g or not numbers, and treated as "
            "unknown, first: %s in row %d",
            path,
            column,
            n_wrong,
            MIN_REDSHIFT,
            MAX_REDSHIFT,
            bad.get(row) or f"{redshift[row]:g}",
            row + 1,
        )
    return np.where(is_wrong, np.nan, redshift)


def _read_pixel_scale(
    parts: Sequence[_Part], settings: Settings, rows: NDArray[np.intp]
) -> NDArray[np.float64] | None:
    """Return the pixel scales of some rows, NaN where they are unknown or impossible."""
    scale = settings.catalog.pixel_scale
    if scale is None:
        return None
    if not isinstance(scale, str):
        return np.full(len(rows), scale)
    found = [
        read_numbers(part.table, scale, part.file.path, "[catalog] pixel_scale") for part in parts
    ]
    scales = np.concatenate(found)[rows]
    is_wrong = (scales <= 0) | np.isinf(scales)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        part, number = _place(parts, int(rows[row]))
        logger.warning(
            "%s: column %r: %d pixel scales are not above zero [arcsec/pixel], and treated as "
            "unknown, first: %g in row %d",
            part.file.path,
            scale,
            int(is_wrong.sum()),
            scales[row],
            number,
        )
    return np.where(is_wrong, np.nan, scales)


def report_counts(galaxies: Galaxies, *, with_splits: bool = True) -> None:
    """Log the number of galaxies of each class in the catalog, and in each split.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies to count.
    with_splits : bool, default True
        False if the galaxies will not train a network, so that their splits mean nothing.
    """
    if not galaxies.class_counts:
        logger.info("%d galaxies without classes", len(galaxies))
        return
    width = max(len(name) for name in (*galaxies.class_counts, "class"))
    splits = [word for word in SPLITS if word != "test" or word in galaxies.split]
    columns = splits if with_splits else ["kept"]
    logger.info("%s", "  ".join([f"{'class':{width}}", "catalog", *(f"{c:>5}" for c in columns)]))
    for name, n_catalog in galaxies.class_counts.items():
        cells = ["-"] * len(columns)
        if name in galaxies.class_names:
            is_class = galaxies.label == galaxies.class_names.index(name)
            in_columns = [galaxies.split == word for word in splits] if with_splits else [True]
            cells = [str(np.sum(is_class & is_in)) for is_in in in_columns]
        words = [f"{name:{width}}", f"{n_catalog:7}", *(f"{cell:>5}" for cell in cells)]
        logger.info("%s", "  ".join(words))


def report_rejected(galaxies: Galaxies, path: Path, *, n_known: int = 0) -> None:
    """Log one warning with the number of galaxies that were left out.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies, with those that were left out in ``rejected``.
    path : Path
        Path of the catalog, for the message.
    n_known : int, default 0
        Number of rejected galaxies that were reported before; without others, nothing is logged.
    """
    if len(galaxies.rejected) > n_known:
        before = f", {n_known} of them reported before" if n_known else ""
        logger.warning("%s: %s%s", path, describe_rejected(galaxies.rejected), before)
