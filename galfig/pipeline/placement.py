"""Placement: how cutouts lie on the sky, by the settings, the headers and what was fetched."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galfig.catalog.galaxies import Galaxies
from galfig.images.celestial import TOLERANCE, View
from galfig.runtime.messages import quote
from galfig.store.writer import Remark

logger = logging.getLogger(__name__)

_WORDS = {
    "unusable": "the sky coordinates in the FITS headers of %d of %d images cannot be used, first: "
    "%s; their orientation is unknown",
    "oblong": "by their FITS headers, %d of %d images have pixels that are not square, first: %s; "
    "for a scale bar, set [catalog] pixel_scale",
    "differing": "the FITS headers of %d of %d images give another pixel scale than [catalog] "
    "pixel_scale, by more than 1 %%, first: %s; that of the settings is used",
}


def place_cutouts(
    galaxies: Galaxies, views: Sequence[View]
) -> tuple[dict[str, NDArray[Any]], dict[str, list[str]]]:
    """Return the pixel scale of cutouts, and where north and east are.

    The scale is that of the settings; where these say nothing, of the FITS header; where that says
    nothing, of the record of what was fetched. Orientations are those of the header, or of that
    record.

    Parameters
    ----------
    galaxies : Galaxies
        The N galaxies. Whether there is an array does not depend on which of a catalog these are.
    views : sequence of View
        How the cutout of each lies on the sky by the header of its image, (N,).

    Returns
    -------
    arrays : dict of str to (N,) ndarray
        ``pixel_scale`` [arcsec/pixel], and ``north_angle`` and ``east_angle`` [deg]; see
        `galfig.store.schema.DESCRIPTIONS`. None of them if nothing can be known.
    remarks : dict of str to list of str
        Identifiers of galaxies whose header has a fault (see `galfig.images.celestial.View`), or
        gives another scale than the settings ("differing").
    """
    arrays: dict[str, NDArray[Any]] = {}
    known = np.full(len(views), np.nan)
    if galaxies.pixel_scale is not None:
        known = galaxies.pixel_scale * _collect(views, "zoom")
    seen, nothing = _collect(views, "pixel_scale"), np.full(len(views), np.nan)
    is_set = galaxies.settings.catalog.pixel_scale is not None
    chosen, fetched = (known, nothing) if is_set else (nothing, known)
    if galaxies.pixel_scale is not None or galaxies.have_headers:
        arrays["pixel_scale"] = _fill(_fill(chosen, seen), fetched)
    if galaxies.is_north_up or galaxies.have_headers:
        for key, usual in (("north_angle", 0.0), ("east_angle", 90.0)):
            angles = _fill(_collect(views, key), usual if galaxies.is_north_up else nothing)
            arrays[key] = angles.astype(np.float32)
    faults = {
        "unusable": np.array([view.fault == "unusable" for view in views], bool),
        # A scale that is chosen makes up for it.
        "oblong": np.array([view.fault == "oblong" for view in views], bool) & np.isnan(chosen),
        "differing": np.abs(seen / chosen - 1) > TOLERANCE,
    }
    remarks = {
        fault: galaxies.objid[is_faulty].tolist()
        for fault, is_faulty in faults.items()
        if is_faulty.any()
    }
    return arrays, remarks


def _collect(views: Sequence[View], key: str) -> NDArray[np.float64]:
    return np.array([getattr(view, key) for view in views], np.float64)


def _fill(values: NDArray[np.float64], others: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return values, with others where they are unknown."""
    return np.where(np.isfinite(values), values, others)


def report_remarks(path: Path, remarks: Mapping[str, Remark], n_galaxies: int) -> None:
    """Warn, once for each kind of fault, of headers that say less or other things than they seem.

    Parameters
    ----------
    path : Path
        The store.
    remarks : mapping of str to Remark
        How many galaxies of all parts a fault is of, and the first of them.
    n_galaxies : int
        Number of galaxies of the store.
    """
    for fault, words in _WORDS.items():
        if fault in remarks:
            n, first = remarks[fault]
            logger.warning(f"%s: {words}", path, n, n_galaxies, quote(first))
