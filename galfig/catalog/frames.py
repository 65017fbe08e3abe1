"""Frames: what share of the images is used, said before a network sees them."""

import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galfig.catalog.galaxies import Galaxies
from galfig.config import CatalogSettings
from galfig.images.ahead import map_ahead
from galfig.images.fits import Choice, is_companion
from galfig.images.survey import Frame, measure_frame
from galfig.runtime.machine import count_processors
from galfig.runtime.messages import quote, shorten

logger = logging.getLogger(__name__)

# Images whose headers are read, evenly over the catalog.
N_SURVEYED = 200
# Less of the images than this is used only by mistake.
LEAST_USED = 0.5
# Classes whose cutouts differ by this share of black frame can be told apart by it; and the fewest
# images of a class to say so.
FRAME_DIFFERENCE, N_OF_CLASS = 0.1, 5


def report_frames(
    galaxies: Galaxies,
    catalog: CatalogSettings,
    cutout_size: int,
    path: Path,
    *,
    is_chosen: bool = False,
    surveyed: Sequence[tuple[int, Frame]] | None = None,
) -> None:
    """Log, once, what share of the images is used, and what of their files is not.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies; a sample of their images is read.
    catalog : CatalogSettings
        The settings of the images.
    cutout_size : int
        Side of the cutouts [pixels].
    path : Path
        Path of the catalog, for messages.
    is_chosen : bool, default False
        Whether somebody chose this side, so that a small part of large images is meant.
    surveyed : sequence of (int, Frame), optional
        What `survey_frames` found in the headers; by default, it is called here.
    """
    found = survey_frames(galaxies, catalog) if surveyed is None else surveyed
    if not found:
        return
    frames = [frame for _, frame in found]
    _report_unused(frames, path)
    sides = np.array([frame[:2] for frame in frames])
    if catalog.scale == "pixels":
        _report_sizes(sides, cutout_size, path, is_chosen)
        _report_padding(galaxies, np.array([row for row, _ in found]), sides, cutout_size, path)
    elif (sides[:, 0] != sides[:, 1]).any():
        n = int((sides[:, 0] != sides[:, 1]).sum())
        logger.info("%s: %d of %d images are not square; their centre is used", path, n, len(sides))


def choose_evenly(n: int, n_wanted: int = N_SURVEYED) -> NDArray[np.intp]:
    """Return the positions of some of n galaxies, evenly over all; all, if fewer are there."""
    return np.unique(np.linspace(0, n - 1, n_wanted if n else 0).astype(np.intp))


def survey_frames(galaxies: Galaxies, catalog: CatalogSettings) -> list[tuple[int, Frame]]:
    """Read the headers of some images, evenly over all galaxies.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies; `N_SURVEYED` of their images are read.
    catalog : CatalogSettings
        The settings of the images.

    Returns
    -------
    list of (int, Frame)
        Position of the galaxy, and what the header says, of each image that could be read.
    """
    rows = choose_evenly(len(galaxies))
    measure = partial(measure_frame, choice=Choice(catalog.extensions, catalog.planes))
    with ThreadPoolExecutor(count_processors()) as pool:
        measured = map_ahead(pool, measure, [galaxies.paths[row] for row in rows], n_ahead=16)
        return [(row, frame) for row, frame in zip(rows, measured, strict=True) if frame]


def _report_unused(frames: Sequence[Frame], path: Path) -> None:
    counts = Counter(frame.unused for frame in frames if frame.unused)
    if not counts:
        return
    names, n = counts.most_common(1)[0]
    words = (
        "%s: %d of %d files hold further images that are not used (%s); to use them, set [catalog] "
        "extensions"
    )
    is_more = any(not is_companion(name) for name in names)
    level = logging.WARNING if is_more else logging.INFO
    logger.log(level, words, path, n, len(frames), shorten(list(names)))


def _report_sizes(sides: NDArray[np.intp], size: int, path: Path, is_chosen: bool) -> None:
    """Say how the images compare with the cutout, if they are of another size."""
    inside = np.minimum(sides, size).prod(axis=1)
    used, filled = inside / sides.prod(axis=1), inside / size**2
    if (sides == size).all():
        return
    least, most = sides.min(axis=0), sides.max(axis=0)
    words = _write_size(least)
    words = f"images are {words}" if (least == most).all() else f"images are {words} to "
    words += "" if (least == most).all() else _write_size(most)
    n_padded, n = int((filled < 1).sum()), len(sides)
    parts = []
    if n_padded:
        share = f"{_range(filled)} of a cutout is image"
        parts.append(f"{_count(n_padded, n)} padded with black to {size} × {size} ({share})")
    if n_cropped := int((used < 1).sum()):
        which = "each" if n_cropped == n else f"{n_cropped} of {n}"
        parts.append(f"the central {size} × {size} of {which} is used ({_range(used)})")
    is_odd = n_padded or (np.median(used) < LEAST_USED and not is_chosen)
    advice = '; set [training] cutout_size, or [catalog] scale = "whole"' if is_odd else ""
    logger.log(
        logging.WARNING if is_odd else logging.INFO,
        "%s: %s pixels; %s%s",
        path,
        words,
        ", ".join(parts),
        advice,
    )


def _count(n_some: int, n: int) -> str:
    return "all" if n_some == n else f"{n_some} of {n}"


def _range(shares: NDArray[np.float64]) -> str:
    shares = shares[shares < 1]
    low, high = f"{100 * shares.min():.0f}", f"{100 * shares.max():.0f}"
    return f"{low} %" if low == high else f"{low} to {high} %"


def _write_size(sides: NDArray[np.intp]) -> str:
    return f"{sides[1]} × {sides[0]}"


def _report_padding(
    galaxies: Galaxies, rows: NDArray[np.intp], sides: NDArray[np.intp], size: int, path: Path
) -> None:
    """Warn if the black frame tells classes apart: a network would learn it."""
    padding = 1 - np.minimum(sides, size).prod(axis=1) / size**2
    labels = galaxies.label[rows]
    means = {
        name: float(padding[labels == index].mean())
        for index, name in enumerate(galaxies.class_names)
        if np.sum(labels == index) >= N_OF_CLASS
    }
    if len(means) < 2 or max(means.values()) - min(means.values()) < FRAME_DIFFERENCE:
        return
    words = ", ".join(f"{quote(name)} {100 * share:.0f} %" for name, share in means.items())
    logger.warning(
        "%s: the black frame around images differs between classes (%s of the cutout), and the "
        'network may learn it; set [catalog] scale = "whole", or a smaller [training] cutout_size',
        path,
        words,
    )
