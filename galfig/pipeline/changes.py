"""Changes: which images are not those that a store was made from."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from galfig.catalog.galaxies import Galaxies
from galfig.images.identity import digest_files
from galfig.runtime.messages import quote


def find_changed(
    galaxies: Galaxies, recorded: Mapping[str, int], n_workers: int | None = None
) -> NDArray[np.object_]:
    """Find the galaxies whose image is not the one that was recorded.

    Every image is read, but not decoded: its size and time would not tell it from one that was
    copied in its place together with its time.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies, with their images as they are now.
    recorded : mapping of str to int
        Digest of the image of each galaxy, by objid, from
        `galfig.store.reader.read_image_digests`.
    n_workers : int, optional
        Number of threads that read.

    Returns
    -------
    (n,) array of str
        Their identifiers. A galaxy without a recorded digest is among them.

    Raises
    ------
    LostCutoutError
        If an image has disappeared since the catalog was read.
    """
    known = np.array([objid in recorded for objid in galaxies.objid], dtype=bool)
    if not known.all():
        # No image needs to be read to know that.
        return galaxies.objid[~known]
    before = np.array([recorded[objid] for objid in galaxies.objid], dtype=np.uint64)
    return galaxies.objid[digest_files(galaxies.paths, n_workers=n_workers) != before]


def describe_changed(objid: NDArray[np.object_]) -> str:
    """Say that images of galaxies changed, how many, and of which galaxy the first."""
    what = "the image of 1 galaxy" if len(objid) == 1 else f"images of {len(objid)} galaxies"
    return f"{what} changed since it was made, first: {quote(objid[0])}"
