"""Arrays as catalogs: images, and often labels, that are arrays of one file.

Galaxy10 and GalaxyMNIST are such files. The images stay where they are; see
`galfig.images.arrays`.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from galfig.catalog.partitions import list_partitions
from galfig.config import Settings
from galfig.errors import CatalogError
from galfig.images.arrays import (
    ARRAY_SUFFIXES,
    choose_array,
    describe_arrays,
    read_columns,
)
from galfig.images.parquet import SUFFIXES as PARQUET_SUFFIXES
from galfig.images.sources import ElementSources, JoinedSources, Sources
from galfig.runtime.inputs import open_regular
from galfig.runtime.messages import one_line
from galfig.runtime.storage import Address


class ImageArray(NamedTuple):
    """An array that holds the images of a catalog.

    Attributes
    ----------
    path : Path
        Its file.
    name : str
        Its name in the file.
    n_images : int
        Number of images.
    is_catalog : bool
        Whether the other arrays of the file are the columns of the catalog.
    parts : tuple of (Path, int)
        The files of a folder, and the number of images in each; empty for a single file.
    """

    path: Path
    name: str
    n_images: int
    is_catalog: bool
    parts: tuple[tuple[Path, int], ...] = ()

    @property
    def is_parquet(self) -> bool:
        """Whether the images are in a column of Parquet."""
        return bool(self.parts) or self.path.name.lower().endswith(PARQUET_SUFFIXES)

    def locate(self, n_rows: int, path: Path) -> Sources:
        """Return the image of each row, which is that of the same position.

        Raises
        ------
        CatalogError
            If the catalog has another number of rows than the array has images.
        """
        if n_rows != self.n_images:
            raise CatalogError(
                f"{self.path}: {self.n_images} images, expected one for each of the {n_rows} rows "
                f"of {path}, in their order"
            )
        files = self.parts or ((self.path, self.n_images),)
        found = [ElementSources(file, self.name, np.arange(count)) for file, count in files]
        return found[0] if len(found) == 1 else JoinedSources(found)


def find_array(settings: Settings) -> ImageArray | None:
    """Return the array that the settings name as the images: of the catalog itself, or beside it.

    Parameters
    ----------
    settings : Settings
        The settings.

    Returns
    -------
    ImageArray or None
        None if the images are files.

    Raises
    ------
    CatalogError
        If the file cannot be read, or has no such array.
    """
    catalog, path = settings.catalog, settings.catalog_path
    words = catalog.images
    if "{" not in words and words.lower().endswith(ARRAY_SUFFIXES):
        folder = settings.images_dir
        if isinstance(folder, Address):
            raise CatalogError(
                f"{folder}: an address, expected a folder, since [catalog] images is an array of "
                f"images, {words!r}; copy it here"
            )
        beside = folder / words
        return ImageArray(beside, *choose_array(beside, catalog.array), beside == path)
    if path.is_dir():
        return None if catalog.array is None else _find_in_folder(path, catalog.array)
    if not path.name.lower().endswith(ARRAY_SUFFIXES) or catalog.bands is not None:
        return None
    if path.name.lower().endswith(PARQUET_SUFFIXES) and catalog.array is None:
        # Tables hold bytes and lists of other kinds, too.
        return None
    has_images = bool(describe_arrays(path))
    # A table in HDF5, whose images are files, has no array of images.
    if not has_images and catalog.array is None and path.suffix.lower() != ".npy":
        return None
    return ImageArray(path, *choose_array(path, catalog.array), True)


def _find_in_folder(path: Path, name: str) -> ImageArray:
    """Return the column of images of a folder of Parquet."""
    files = [partition.path for partition in list_partitions(path)]
    counts = [choose_array(file, name)[1] for file in files]
    return ImageArray(path, name, sum(counts), True, tuple(zip(files, counts, strict=True)))


def read_array_table(array: ImageArray, id_column: str) -> tuple[pd.DataFrame, str]:
    """Read the columns beside an array of images.

    Parameters
    ----------
    array : ImageArray
        The array.
    id_column : str
        Column of the identifiers. If there is none, they are the positions, from 0.

    Returns
    -------
    table : DataFrame
        A row for each image.
    digest : str
        SHA-256 of the file, as hexadecimal digits.

    Raises
    ------
    CatalogError
        If the file cannot be read.
    """
    is_bare = array.path.suffix.lower() == ".npy"
    try:
        columns = {} if is_bare else read_columns(array.path, array.n_images)
    except (OSError, ValueError, RuntimeError, KeyError) as exc:
        raise CatalogError(f"{array.path}: cannot be read ({one_line(exc)})") from exc
    numbers = np.array([str(row) for row in range(array.n_images)], dtype=object)
    found = {
        name: pd.Series(list(values), dtype=object) if values.dtype.kind == "S" else values
        for name, values in columns.items()
    }
    identifiers = found.pop(id_column, numbers)
    texts = [
        one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
        for one in identifiers
    ]
    table = pd.DataFrame({id_column: pd.Series(texts, dtype=object), **found})
    return table, _digest_file(array.path)


def _digest_file(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise CatalogError(f"{path}: cannot be read ({exc.strerror})") from exc
