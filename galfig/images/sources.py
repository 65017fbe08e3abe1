"""Sources: what the image of a galaxy is made from, and the bytes of it.

Most images are a file, here or in another storage. Some are several files, one per band, and some
an element of an array that holds those of many galaxies.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from galfig.config import CatalogSettings
from galfig.images.arrays import Element, read_element
from galfig.runtime.inputs import read_regular
from galfig.runtime.storage import Address, read_object


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
        "range", "sky" or "percentiles"; "" if no image is FITS or an element of an array.
    """
    for source in sources:
        paths = source.paths if isinstance(source, BandFiles) else (source,)
        if any(
            isinstance(one, Element) or one.name.lower().endswith(FITS_SUFFIXES) for one in paths
        ):
            return "range" if catalog.fits_range else catalog.stretch
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
