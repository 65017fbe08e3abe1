"""Identity: which images a result was made from, by the content of their files.

Names and times do not tell: an image may be replaced under its name by one with an older time. The
digest of an image is the first 8 bytes, big-endian, of the SHA-256 of its file. That of an image
of several files is of all of them, and that of an element of an array is of its values.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from galfig.errors import LostCutoutError
from galfig.images.ahead import map_ahead
from galfig.images.cutouts import N_AHEAD
from galfig.images.fits import MAX_BYTES
from galfig.images.sources import Source, join_parts, read_parts
from galfig.runtime.inputs import is_fault_of_machine
from galfig.runtime.progress import track

# Of an image that is empty, or is no file that can be read; a digest is zero once in 2^64.
NO_DIGEST = 0


def digest_image(data: bytes) -> int:
    """Return the digest of an image.

    Parameters
    ----------
    data : bytes
        Its file.

    Returns
    -------
    int
        From 0 to 2^64 - 1.
    """
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") if data else NO_DIGEST


def note_digest(found: dict[Source, int], path: Source, data: bytes) -> None:
    """Add the digest of an image to those found; for `galfig.images.cutouts.read_cutout`."""
    found[path] = digest_image(data)


def digest_files(paths: Sequence[Source], *, n_workers: int | None = None) -> NDArray[np.uint64]:
    """Read image files, without decoding them, and return their digests.

    Parameters
    ----------
    paths : sequence of Path, BandFiles or Element
        N images.
    n_workers : int, optional
        Number of threads; default `N_AHEAD`, since most of the time they wait for files.

    Returns
    -------
    (N,) ndarray of uint64
        The digests; `NO_DIGEST` where a file is empty, too large or no regular file.

    Raises
    ------
    LostCutoutError
        If a file is missing, or cannot be read for a reason that is not its own.
    """
    digests = np.zeros(len(paths), np.uint64)
    n_workers = n_workers or N_AHEAD
    with (
        ThreadPoolExecutor(n_workers) as pool,
        closing(map_ahead(pool, _digest_file, paths, n_ahead=N_AHEAD * n_workers)) as found,
    ):
        tracked = track(found, "comparing images", len(paths), "images", leave=False)
        for row, digest in enumerate(tracked):
            digests[row] = digest
    return digests


def combine_digests(objid: Sequence[str], digests: Sequence[int]) -> str:
    """Return one digest of many images and of the galaxies that they belong to.

    Parameters
    ----------
    objid : sequence of str
        Identifiers of N galaxies.
    digests : sequence of int
        Digests of their images.

    Returns
    -------
    str
        SHA-256, as hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, number in zip(objid, digests, strict=True):
        digest.update(f"{len(name)}:{name} {number:016x} ".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _digest_file(path: Source) -> int:
    try:
        return digest_image(join_parts(read_parts(path, MAX_BYTES)))
    except ValueError:
        return NO_DIGEST
    except OSError as exc:
        if not is_fault_of_machine(exc):
            return NO_DIGEST
        raise LostCutoutError(
            f"{path}: lost ({exc.strerror}), expected the image that was listed; when it is back, "
            "run this again, or remove the file to leave out its galaxy"
        ) from exc
