"""Sources: what the image of a galaxy is made from, and the bytes of it.

Most images are a file, here or in another storage. Some are several files, one per band, and some
an element of an array that holds those of many galaxies.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from galfig.config import CatalogSettings
from galfig.images.arrays import Element, read_element
from galfig.runtime.inputs import read_regular
from galfig.runtime.storage import Address, read_object

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class BandFiles:
    """An image of several files, one per band.

    Attributes
    ----------
    paths : tuple of Path or Address
        A file for each channel, in the order of the channels.
    """

    paths: tuple[Path | Address, ...]

    @property
    def name(self) -> str:
        """Names of the files, without their folders."""
        return " + ".join(path.name for path in self.paths)

    def __str__(self) -> str:
        return " + ".join(map(str, self.paths))


Source = Path | BandFiles | Element | Address
"""What an image is made from."""


FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fits.fz")
# The same at the end of a name, in any case.
_FITS = (
    r"\.(?:[fF][iI][tT][sS]?|[fF][tT][sS]|[fF][iI][tT][sS]?\.[gG][zZ]|[fF][iI][tT][sS]\.[fF][zZ])$"
)


class Sources(Sequence[Source]):
    """The images of many galaxies, each made when it is asked for.

    A million paths as objects take half a gigabyte; as names in one array, a tenth of that.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _make(self, row: int) -> Source:
        """Return an image by its position, which is from 0 to N - 1."""

    @abstractmethod
    def take(self, rows: NDArray[np.intp]) -> "Sources":
        """Return the images of some positions, (M,) array of int."""

    @property
    @abstractmethod
    def are_fluxes(self) -> bool:
        """True if any of them is FITS or an element of an array."""

    @property
    @abstractmethod
    def have_headers(self) -> bool:
        """True if any of them is FITS, whose header may say how it lies on the sky."""

    def count_shared(self) -> int:
        """Return how many of the images are the same file as an earlier one."""
        return len(self) - len({str(one) for one in self})

    @overload
    def __getitem__(self, index: int) -> Source: ...

    @overload
    def __getitem__(self, index: slice) -> "Sources": ...

    def __getitem__(self, index: int | slice) -> "Source | Sources":
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        # As a list does, for numbers of numpy's as well.
        return self._make(range(len(self))[index])

    def __repr__(self) -> str:
        first = f", first {self[0]}" if len(self) else ""
        return f"<{len(self)} images{first}>"


class FileSources(Sources):
    """Images that are files, or several files each, one per band.

    Parameters
    ----------
    root : Path or Address
        Folder or address that the names are relative to.
    names : sequence of (N,) Arrow array of text
        Names of the files, for each band; or of the only ones.
    """

    def __init__(self, root: Path | Address, names: "Sequence[pa.LargeStringArray]") -> None:
        self._root, self._names = root, tuple(names)

    def __len__(self) -> int:
        return len(self._names[0])

    def _make(self, row: int) -> Source:
        paths = tuple(self._root / names[row].as_py() for names in self._names)
        return paths[0] if len(paths) == 1 else BandFiles(paths)

    def count_shared(self) -> int:
        import pyarrow as pa
        from pyarrow import compute

        names = self._names[0]
        if len(self._names) > 1:
            # No path holds a NUL.
            names = compute.binary_join_element_wise(
                *self._names, pa.scalar("\0", pa.large_string())
            )
        return len(self) - int(compute.count_distinct(names).as_py())

    def take(self, rows: NDArray[np.intp]) -> "FileSources":
        return FileSources(self._root, [names.take(rows) for names in self._names])

    @property
    def are_fluxes(self) -> bool:
        from pyarrow import compute

        return any(
            compute.any(compute.match_substring_regex(names, _FITS)).as_py()
            for names in self._names
        )

    @property
    def have_headers(self) -> bool:
        return self.are_fluxes


class ElementSources(Sources):
    """Images that are elements of an array.

    Parameters
    ----------
    path : Path
        File that holds the array.
    array : str
        Name of the array within the file.
    rows : (N,) array of int
        Position of each image in the array.
    """

    def __init__(self, path: Path, array: str, rows: NDArray[np.intp]) -> None:
        self._path, self._array, self._rows = path, array, rows

    def __len__(self) -> int:
        return len(self._rows)

    def _make(self, row: int) -> Source:
        return Element(self._path, self._array, int(self._rows[row]))

    def take(self, rows: NDArray[np.intp]) -> "ElementSources":
        return ElementSources(self._path, self._array, self._rows[rows])

    @property
    def are_fluxes(self) -> bool:
        return len(self) > 0

    @property
    def have_headers(self) -> bool:
        return False


class JoinedSources(Sources):
    """Images of several catalogs or files, in the order of their galaxies.

    Parameters
    ----------
    parts : sequence of Sources
        The images of each.
    rows : (N,) array of int, optional
        Position of each image in all parts together; default all of them.
    """

    def __init__(self, parts: Sequence[Sources], rows: NDArray[np.intp] | None = None) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self._rows = np.arange(self._starts[-1]) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def _make(self, row: int) -> Source:
        position = int(self._rows[row])
        index = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._parts[index][position - int(self._starts[index])]

    def take(self, rows: NDArray[np.intp]) -> "JoinedSources":
        # Only what is taken is kept, so that a shard is small wherever it is sent.
        positions = self._rows[rows]
        of_part = np.searchsorted(self._starts, positions, side="right") - 1
        parts: list[Sources] = []
        taken = np.empty(len(rows), dtype=np.intp)
        n_before = 0
        for index in np.unique(of_part).tolist():
            is_here = of_part == index
            parts.append(self._parts[index].take(positions[is_here] - self._starts[index]))
            taken[is_here] = n_before + np.arange(len(parts[-1]))
            n_before += len(parts[-1])
        return JoinedSources(parts, taken)

    @property
    def are_fluxes(self) -> bool:
        return any(part.are_fluxes for part in self._parts)

    @property
    def have_headers(self) -> bool:
        return any(part.have_headers for part in self._parts)


def take_sources(sources: Sequence[Source], rows: NDArray[np.intp]) -> Sequence[Source]:
    """Return the images of some positions.

    Parameters
    ----------
    sources : sequence of Path, BandFiles or Element
        N images.
    rows : (M,) array of int
        The positions.

    Returns
    -------
    sequence of Path, BandFiles or Element
    """
    if isinstance(sources, Sources):
        return sources.take(rows)
    return tuple(sources[row] for row in rows)


def find_stretch(sources: Iterable[Source], catalog: CatalogSettings) -> str:
    """Return what decides where black and white are in the images of galaxies.

    Parameters
    ----------
    sources : iterable of Path, BandFiles or Element
        The images.
    catalog : CatalogSettings
        The settings.

    Returns
    -------
    str
        "range", "sky", "percentiles" or "lupton"; "" if no image is FITS or an element of an array.
    """
    chosen = "range" if catalog.fits_range else catalog.stretch
    if isinstance(sources, Sources):
        return chosen if sources.are_fluxes else ""
    for source in sources:
        paths = source.paths if isinstance(source, BandFiles) else (source,)
        if any(
            isinstance(one, Element) or one.name.lower().endswith(FITS_SUFFIXES) for one in paths
        ):
            return chosen
    return ""


def read_parts(source: Source, max_bytes: int) -> list[bytes]:
    """Read the bytes that an image is made from.

    Parameters
    ----------
    source : Path, BandFiles or Element
        The image.
    max_bytes : int
        Size of the largest file that is read [byte].

    Returns
    -------
    list of bytes
        The content of each file. An element of an array is a file in numpy's format.

    Raises
    ------
    UnusableFileError
        If a path is no regular file, or a file is larger.
    OSError
        If a file cannot be read.
    ValueError
        If an array no longer has the element.
    """
    if isinstance(source, Element):
        return [read_element(source, max_bytes)]
    paths = source.paths if isinstance(source, BandFiles) else (source,)
    return [_read_file(path, max_bytes) for path in paths]


def _read_file(path: Path | Address, max_bytes: int) -> bytes:
    if isinstance(path, Address):
        return read_object(path, max_bytes)
    return read_regular(path, max_bytes)


def join_parts(parts: list[bytes]) -> bytes:
    """Return the parts of an image as one sequence of bytes, by which it can be identified.

    A single part stays as it is. Before each of several stands its length, so that bytes that move
    from one file to the next are noticed.
    """
    if len(parts) == 1 or not all(parts):
        return parts[0] if len(parts) == 1 else b""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
