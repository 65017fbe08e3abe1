"""Addresses: where the images of a store are that does not hold them, and whether they changed.

A store may be anybody's. Where the user names no folder, an image is read only if it lies below the
folder of the store, after all links; and no address leads out of the folder that the user names.
"""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galfig.errors import CutoutError, GalfigError, LostCutoutError, StoreError
from galfig.images.arrays import Element
from galfig.images.cutouts import Decoding, choose_decoding, read_cutout
from galfig.images.identity import note_digest
from galfig.images.sources import BandFiles, Source
from galfig.runtime.messages import quote
from galfig.runtime.storage import Address
from galfig.store.forms import BETWEEN
from galfig.store.reader import Store

# An element of an array, as `galfig.images.arrays.Element` writes itself.
_ELEMENT = re.compile(r"(?P<file>.+\.\w+):(?P<array>[^:\[\]]*)\[(?P<row>\d{1,15})\]")


def find_root(sources: Sequence[Source], images_dir: Path | Address) -> Path | Address:
    """Return the folder, or place in a storage, that the addresses of images are relative to.

    Parameters
    ----------
    sources : sequence of Path, BandFiles, Element or Address
        The images of all galaxies of a plan.
    images_dir : Path or Address
        The folder that the settings name, or the place in a storage that the user typed.

    Returns
    -------
    Path or Address
        That folder if all images are below it; otherwise, the lowest that holds all of them.
    """
    if isinstance(images_dir, Address):
        # Nothing leads out of it.
        return images_dir
    files = (file for source in sources for file in _list_files(source))
    folders = {file.parent for file in files if isinstance(file, Path)}
    if all(_is_below(folder, images_dir) for folder in folders):
        return images_dir
    return Path(os.path.commonpath([_normalise(folder) for folder in folders]))


def write_address(source: Source, root: Path | Address | None) -> str:
    """Write the address of an image.

    Parameters
    ----------
    source : Path, BandFiles, Element or Address
        The image.
    root : Path, Address or None
        The folder from `find_root`.

    Returns
    -------
    str
        Its path relative to that folder; of several bands, a line each; ``FILE:ARRAY[ROW]`` for an
        element of an array. It does not say in which storage the image is.
    """
    paths = [_shorten(path, root) for path in _list_files(source)]
    if isinstance(source, Element):
        return f"{paths[0]}:{source.array}[{source.row}]"
    return BETWEEN.join(paths)


def describe_root(root: Path | Address, store: Path) -> str | None:
    """Return the folder of the images relative to that of a store.

    Parameters
    ----------
    root : Path or Address
        The folder of the images.
    store : Path
        The store.

    Returns
    -------
    str or None
        None if it is not below: a store says nothing of the machine that built it.
    """
    if isinstance(root, Address):
        return None
    path = os.path.relpath(_normalise(root), _normalise(store.parent))
    return None if ".." in Path(path).parts else path


class Images:
    """The images of the galaxies of a store.

    Attributes
    ----------
    root : Path or Address
        The folder that addresses are relative to.

    Parameters
    ----------
    store : Store
        An open store that is not full.
    folder : Path or Address, optional
        The folder of the images, or the place in a storage, that the user typed; by default, the
        one that the store names below its own.

    Raises
    ------
    StoreError
        If there is no such folder.
    """

    def __init__(self, store: Store, folder: Path | Address | None = None) -> None:
        self._store = store
        self._size = store.record.cutout_size
        self._is_named = folder is not None
        self.root = folder if folder is not None else _find_folder(store)
        if isinstance(self.root, Path) and not self.root.is_dir():
            raise StoreError(f"{self.root}: no such folder; {self._advise()}")
        self.decoding: Decoding = choose_decoding(store.settings.catalog, store.n_channels)

    def find(self, row: int) -> Source:
        """Return the image of a galaxy, by its position in the store.

        Raises
        ------
        StoreError
            If its address leads out of the folder.
        """
        source = parse_address(self._store.read_address(row), self.root)
        if not self._is_named:
            folder = Path(os.path.realpath(self._store.path.parent))
            for file in _list_files(source):
                if not _leads_below(file, folder):
                    raise StoreError(
                        f"{self._store.path}: the image of {self._name(row)} leads out of the "
                        f"folder of the store by a link; {self._advise()}"
                    )
        return source

    def read(self, row: int) -> NDArray[np.uint8]:
        """Read the cutout of a galaxy, and compare its image with the one that was explained.

        Parameters
        ----------
        row : int
            Its position in the store.

        Returns
        -------
        (H, W, n_channels) ndarray of uint8

        Raises
        ------
        StoreError
            If the image is missing, cannot be read, or is another one.
        """
        source, found = self.find(row), dict[Source, int]()
        try:
            cutout = read_cutout(
                source, self._size, self.decoding, on_bytes=partial(note_digest, found)
            )
        except (CutoutError, LostCutoutError) as exc:
            if source in found:
                self.check(row, found[source])
            raise self.refuse(row, exc) from exc
        self.check(row, found[source])
        return cutout

    def check(self, row: int, digest: int) -> None:
        """Raise StoreError if the image of a galaxy does not have the digest that it had."""
        recorded = self._store.image_digest
        if recorded is None or int(recorded[row]) != digest:
            raise StoreError(
                f"{self._store.path}: the image of {self._name(row)} is not the one that was "
                f"explained ({self._show(row)} changed); {self._advise()}"
            )

    def refuse(self, row: int, exc: GalfigError) -> StoreError:
        """Return the error for an image that cannot be read."""
        reason = str(exc).removeprefix(f"{self.find(row)}: ").partition(";")[0]
        return StoreError(
            f"{self._store.path}: the image of {self._name(row)}, {self._show(row)}: {reason}; "
            f"{self._advise()}"
        )

    def _name(self, row: int) -> str:
        return f"galaxy {quote(self._store.objid[row])}"

    def _show(self, row: int) -> str:
        return quote(self._store.read_address(row).replace(BETWEEN, " + "))

    def _advise(self) -> str:
        return "name the folder that this path starts from with `images`, or build the store again"


class StoredImages:
    """The cutouts that a full store holds, in place of the images of another one.

    Parameters
    ----------
    store : Store
        An open store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, row: int) -> NDArray[np.uint8]:
        """Read the cutout of a galaxy, (H, W, n_channels), by its position in the store."""
        return self._store.pixels(row)


def parse_address(address: str, root: Path | Address) -> Source:
    """Return the image that an address names.

    Parameters
    ----------
    address : str
        From `write_address`, checked by the schema of a store: no path in it is absolute or leads
        upwards.
    root : Path or Address
        The folder that it is relative to.

    Returns
    -------
    Path, BandFiles, Element or Address
    """
    paths = address.split(BETWEEN)
    if len(paths) > 1:
        return BandFiles(tuple(root / path for path in paths))
    element = _ELEMENT.fullmatch(address)
    if element is not None and isinstance(root, Path):
        return Element(root / element["file"], element["array"], int(element["row"]))
    return root / address


def _find_folder(store: Store) -> Path:
    """Return the folder that a store names for its images, below its own."""
    named = store.record.images_dir
    if named is None:
        raise StoreError(
            f"{store.path}: does not hold the images, and they were not below its folder when it "
            "was built; name the folder that they are in with `images`"
        )
    if Path(named).is_absolute() or ".." in Path(named).parts:
        raise StoreError(
            f"{store.path}: its attribute images_dir, {quote(named)}, leads out of its folder; "
            "name the folder of the images with `images`"
        )
    return store.path.parent / named


def _normalise(path: Path) -> str:
    """Return an absolute path without "..", and without following links."""
    return os.path.normpath(path.absolute())


def _list_files(source: Source) -> tuple[Path | Address, ...]:
    if isinstance(source, BandFiles):
        return source.paths
    return (source.path,) if isinstance(source, Element) else (source,)


def _is_below(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts


def _leads_below(file: Path | Address, folder: Path) -> bool:
    """Return whether a file is below a folder, after all links; no object of a storage is."""
    return isinstance(file, Path) and Path(os.path.realpath(file)).is_relative_to(folder)


def _shorten(path: Path | Address, root: Path | Address | None) -> str:
    """Return a path relative to the folder of the images."""
    if isinstance(path, Address):
        return path.path
    if isinstance(root, Address):
        raise TypeError(f"{path} is a file, expected an object below {root}")
    if root is None or _is_below(path, root):
        return str(path if root is None else path.relative_to(root))
    return os.path.relpath(_normalise(path), root)
