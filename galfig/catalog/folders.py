"""Folders: a catalog of images that are sorted into folders, one for each class.

This is the convention of torchvision, fastai and Keras: ``spiral/a.jpg``, or with the splits above,
``train/spiral/a.jpg``.
"""

import csv
import io
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from galfig.catalog.galaxies import SPLITS, SYNONYMS
from galfig.catalog.identifiers import is_plain_name
from galfig.errors import CatalogError
from galfig.runtime.files import ErrorOrReplace, replace_file
from galfig.runtime.messages import shorten

logger = logging.getLogger(__name__)

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".gif", ".bmp", ".webp"),
    *(".fits", ".fit", ".fts", ".fits.gz", ".fits.fz"),
)


class _Image(NamedTuple):
    """An image of a class, and of a split or ""."""

    split: str
    class_name: str
    file: str


def catalog_from_folders(
    folder: Path | str, out: Path | str = "catalog.csv", *, if_exists: ErrorOrReplace = "error"
) -> dict[str, dict[str, Any]]:
    """Write a catalog of the images in the folders of a folder.

    Parameters
    ----------
    folder : Path or str
        It holds a folder of images for each class; or ``train``, ``valid`` and ``test`` (also
        ``training``, ``val``, ``validation``, ``testing``) with these folders in each.
    out : Path or str, default "catalog.csv"
        The catalog to write, a CSV file with the columns ``objID``, ``class`` and ``file``, and
        ``split`` where the folders say it. The identifier is the name of the file without its
        suffix, with class and split before it unless these names are unique.
    if_exists : {"error", "replace"}, default "error"
        What to do if the catalog exists.

    Returns
    -------
    dict
        Settings with which the catalog is read, as in ``galfig.toml``.

    Raises
    ------
    CatalogError
        If the folder cannot be read, or does not hold two classes.
    OutputError
        If the catalog cannot be written.
    """
    folder, out = Path(folder), Path(out)
    images, n_strays = _list_images(folder)
    if n_strays:
        logger.warning(
            "%s: %d images are not directly in a folder of a class, and left out", folder, n_strays
        )
    classes = {image.class_name for image in images}
    if len(classes) < 2:
        raise CatalogError(
            f"{folder}: folders of images for the classes [{shorten(sorted(classes))}], expected "
            "a folder for each of two classes or more, such as spiral/a.jpg or train/spiral/a.jpg"
        )
    has_splits = bool(images[0].split)
    words = io.StringIO()
    writer = csv.writer(words, lineterminator="\n")
    kept = slice(0 if has_splits else 1, None)
    writer.writerow(["objID", *("split", "class", "file")[kept]])
    for objid, image in zip(_name(images), images, strict=True):
        writer.writerow([objid, *image[kept]])
    with replace_file(out, if_exists=if_exists) as temporary:
        temporary.write_text(words.getvalue(), encoding="utf-8")
    template = "{split}/{class}/{file}" if has_splits else "{class}/{file}"
    settings: dict[str, dict[str, Any]] = {
        "catalog": {"path": str(out), "images": template, "images_dir": str(folder)},
        "classes": {"column": "class"},
    }
    return settings | ({"split": {"column": "split"}} if has_splits else {})


def _list_images(folder: Path) -> tuple[list[_Image], int]:
    """List the images of each class, and count those elsewhere."""
    tops = _list_folders(folder)
    found: list[_Image] = []
    n_strays = len(_list_files(folder)[0])
    # With any other folder among them, "test" may be the name of a class.
    has_splits = bool(tops) and all(SYNONYMS.get(t.lower(), t.lower()) in SPLITS for t in tops)
    for top in tops:
        places = [(top, name) for name in _list_folders(folder / top)] if has_splits else []
        n_strays += len(_list_files(folder / top)[0]) if has_splits else 0
        for split, class_name in places or ([] if has_splits else [("", top)]):
            place = folder / split / class_name
            files, n_odd = _list_files(place)
            found += [_Image(split, class_name, file) for file in files]
            n_strays += n_odd + sum(
                len(_list_files(place / name)[0]) for name in _list_folders(place)
            )
    return found, n_strays


def _list_folders(folder: Path) -> list[str]:
    """List the folders in a folder, without links, hidden ones, and names of no plain text."""
    return [
        entry.name
        for entry in _scan(folder)
        if entry.is_dir(follow_symlinks=False)
        and not entry.name.startswith(".")
        and is_plain_name(entry.name)
    ]


def _list_files(folder: Path) -> tuple[list[str], int]:
    """List the images in a folder, and count those whose name cannot be used."""
    names = [
        entry.name
        for entry in _scan(folder)
        if entry.name.lower().endswith(SUFFIXES)
        and not entry.name.startswith(".")
        and entry.is_file()
    ]
    fine = [name for name in names if is_plain_name(name)]
    return fine, len(names) - len(fine)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as exc:
        raise CatalogError(f"{folder}: cannot be read ({exc.strerror})") from exc


def _name(images: list[_Image]) -> list[str]:
    """Return an identifier for each image: as much of its path as makes all of them unique."""
    names = [_strip_suffix(image.file) for image in images]
    for level in ("class_name", "split"):
        if len(set(names)) < len(names):
            parts = [getattr(image, level) for image in images]
            names = [f"{part}_{name}".lstrip("_") for part, name in zip(parts, names, strict=True)]
    counts = Counter(names)
    # One name with two suffixes: the suffix tells them apart.
    return [
        name if counts[name] == 1 else f"{name}{image.file.removeprefix(_strip_suffix(image.file))}"
        for name, image in zip(names, images, strict=True)
    ]


def _strip_suffix(file: str) -> str:
    longest = max((s for s in SUFFIXES if file.lower().endswith(s)), key=len)
    return file[: -len(longest)] or file
