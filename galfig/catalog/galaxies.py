"""Catalogs: tables of galaxies, their classes, their image files and their split.

Messages count *rows* from 1, the first galaxy below the header.
"""

import dataclasses
import hashlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galfig.catalog.arrays import find_array, read_array_table
from galfig.catalog.columns import read_numbers, read_texts, require_column
from galfig.catalog.formats import read_file, read_table
from galfig.catalog.identifiers import check_objids
from galfig.catalog.paths import locate_images, note_reasons, parse_templates
from galfig.config import ClassSettings, Settings, SplitSettings
from galfig.errors import CatalogError
from galfig.images.sources import Source
from galfig.runtime.messages import find_near, list_some, quote, shorten

logger = logging.getLogger(__name__)

# Words for the split of a galaxy, and what catalogs also write for them.
SPLITS = ("train", "valid", "test")
_SYNONYMS = {"val": "valid", "validation": "valid", "training": "train", "testing": "test"}
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
    paths : tuple of Path, BandFiles or Element
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
        Pixel scale of each image [arcsec/pixel], NaN where unknown.
    class_names : tuple of str
        The classes kept, in the order of the settings.
    class_counts : dict of str to int
        Number of galaxies of each class of the catalog, including classes that are not kept.
    rejected : dict of str to str
        Why a galaxy of a kept or unknown class was left out, by objid.
    catalog_sha256 : str
        SHA-256 of the catalog file.
    simulated : bool
        True if the catalog marks any galaxy as simulated.
    settings : Settings
        The settings that the catalog was read with.
    """

    table: pd.DataFrame
    objid: NDArray[np.object_]
    paths: tuple[Source, ...]
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

    def __len__(self) -> int:
        return len(self.objid)

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


class _Labels(NamedTuple):
    """Labels of every row of a catalog, by `_label_rows`."""

    label: NDArray[np.int16]
    value: NDArray[np.float64]
    rejected: NDArray[np.object_]
    is_kept: NDArray[np.bool_]
    class_names: tuple[str, ...]
    counts: dict[str, int]


def load_galaxies(settings: Settings, *, labelled: bool = True) -> Galaxies:
    """Read the catalog, assign the classes, find the images and draw the split.

    Parameters
    ----------
    settings : Settings
        The settings; the tables ``catalog``, ``classes`` and ``split`` are used.
    labelled : bool, default True
        If False, a catalog without the class column is accepted: every galaxy is kept, with
        label -1.

    Returns
    -------
    Galaxies
        In the order of the catalog; ``rejected`` lists the galaxies that were left out, and why.

    Raises
    ------
    CatalogError
        If the table cannot be read; a column is missing; an identifier is empty, duplicated,
        rounded or not a plain file name; a value has the wrong type; a class has no galaxies; or
        the column of the split holds another word than 'train', 'valid' and 'test'.
    """
    path = settings.catalog_path
    array = find_array(settings)
    templates = [] if array is not None else parse_templates(settings.catalog)
    if array is not None and array.is_catalog:
        table, digest = read_array_table(array, settings.catalog.id)
    else:
        fields = [column for template in templates for column in template.columns]
        data = read_file(path)
        table = read_table(path, settings.catalog.id, fields, data=data)
        digest = hashlib.sha256(data).hexdigest()
    objid = table[settings.catalog.id].to_numpy(dtype=object)
    check_objids(objid, path, settings.catalog.id)

    labels = _label_rows(table, settings.classes, path, labelled)
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
    if array is not None:
        images = array.locate(len(table), path)
    else:
        images, lost = locate_images(table, templates, settings.images_dir, path, is_used)
        note_reasons(rejected, lost)
    split = assign_splits(table, labels, settings.split, path)

    rows = np.flatnonzero(labels.is_kept & (rejected == ""))
    _check_what_is_left(labels, rows, path)
    flag = table.get("simulated")
    return Galaxies(
        table=table.iloc[rows],
        objid=objid[rows],
        paths=tuple(images[row] for row in rows),
        redshift=_read_redshift(table, settings, path)[rows],
        value=labels.value[rows],
        label=labels.label[rows],
        split=split[rows],
        pixel_scale=_read_pixel_scale(table, settings, path, rows),
        class_names=labels.class_names,
        class_counts=labels.counts,
        rejected={objid[row]: rejected[row] for row in np.flatnonzero(rejected != "")},
        catalog_sha256=digest,
        simulated=flag is not None and bool((flag.astype(str).str.lower() == "true").any()),
        settings=settings,
    )


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
        If the column is missing, or holds text where numbers are expected or the reverse.
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
    # A galaxy outside every bin has index -1, which picks the last name: "".
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


def assign_splits(
    table: pd.DataFrame, labels: _Labels, split: SplitSettings, path: Path
) -> NDArray[np.object_]:
    """Decide which rows train the network, which validate it, and which are held out as a test.

    A column of the catalog may say so. Otherwise the sets are drawn at random from the galaxies
    that are kept and not rejected, unless these have no classes.

    Parameters
    ----------
    table : DataFrame
        The catalog, with N rows.
    labels : _Labels
        The labels of its rows. Their ``rejected`` is updated in place: a kept galaxy whose cell in
        the column is empty is rejected.
    split : SplitSettings
        Column of the split; or fractions and seed of the draw.
    path : Path
        Path of the catalog, for messages.

    Returns
    -------
    (N,) array of str
        "train", "valid" or "test"; "" for rows that are not used or have no split.

    Raises
    ------
    CatalogError
        If the column is missing, or holds another word.
    """
    found = np.full(len(table), "", dtype=object)
    if split.column is not None:
        return _read_splits(table, labels, split.column, path)
    if labels.counts:
        rows = np.flatnonzero(labels.is_kept & (labels.rejected == ""))
        order = np.random.default_rng(split.seed).permutation(rows)
        n_valid = max(1, round(split.valid_fraction * len(rows)))
        n_test = round(split.test_fraction * len(rows))
        found[rows] = "train"
        found[order[:n_valid]] = "valid"
        found[order[n_valid : n_valid + n_test]] = "test"
    return found


def _read_splits(
    table: pd.DataFrame, labels: _Labels, column: str, path: Path
) -> NDArray[np.object_]:
    """Read the split of each row from a column, and reject the kept galaxies without one."""
    cells = read_texts(table, column, path, "[split] column")
    words = np.array([cell.strip().lower() for cell in cells], dtype=object)
    words = np.array([_SYNONYMS.get(word, word) for word in words], dtype=object)
    is_used = labels.is_kept & (labels.rejected == "")
    strange = np.flatnonzero(is_used & ~np.isin(words, [*SPLITS, ""]))
    if len(strange):
        row = strange[0]
        raise CatalogError(
            f"{path}: row {row + 1}, column {column!r}: {quote(cells[row])}, expected 'train', "
            "'valid' or 'test'"
        )
    labels.rejected[is_used & (words == "")] = f"no {column}"
    return np.where(np.isin(words, SPLITS), words, "").astype(object)


def _label_rows(table: pd.DataFrame, classes: ClassSettings, path: Path, labelled: bool) -> _Labels:
    """Label each row; a row of a class that is not kept is neither kept nor rejected."""
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
    runs = f", values run from {known.min():g} to {known.max():g}" if len(known) else ""
    advice = f"change [classes] {'column or' if classes.edges is None else 'edges or'} keep"
    if not labelled:
        advice = 'to explain galaxies without classes set [classes] column = ""'
    _check_classes(class_names, counts, path, classes.column, f"{runs}; {advice}")
    position = {name: index for index, name in enumerate(class_names)}
    label = np.array([position.get(name, -1) for name in names], dtype=np.int16)
    return _Labels(label, value, rejected, (label >= 0) | (rejected != ""), class_names, counts)


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
    redshift = read_numbers(table, column, path, "[catalog] redshift")
    # Local Group galaxies have redshifts down to -0.001. Catalogs write -9999 or inf for unknown.
    is_wrong = np.isinf(redshift) | (redshift <= -1)
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        logger.warning(
            "%s: column %r: %d redshifts are -1 or less, or infinite, and treated as unknown, "
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
