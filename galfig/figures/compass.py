"""Compass: arrows to the north and the east on cutouts that lie otherwise than maps of the sky."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from numpy.typing import NDArray

from galfig.config import StyleSettings
from galfig.figures.style import plot_outlined_text
from galfig.store.reader import Store

# Angles from these directions [deg] within which north counts as up and east as to the left, and
# within which a caption need not say so.
TOLERANCE, ROUNDING = 1.0, 0.05
UP, LEFT = 0.0, 90.0
# Relative difference of pixel scales that counts as none.
SAME_SCALE = 0.01
# Length of an arrow: in units of the side of a panel, and at least [inch].
LENGTH, LEAST = 0.14, 0.15
# Width of an arrow and of its head, length of its head, and width of its outline [pt].
SHAFT, HEAD, POINT, OUTLINE = 1.0, 4.0, 4.5, 1.6
# Distance of the arrows from the edge of a panel, in units of its side.
MARGIN = 0.055


class Compass(NamedTuple):
    """Directions of north and east on a cutout [deg], counterclockwise from up."""

    north: float
    east: float


def read_orientations(
    store: Store, indices: Sequence[int] | NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the directions of north and east on cutouts.

    Parameters
    ----------
    store : Store
        An open store.
    indices : sequence of int
        Positions of n galaxies in the store.

    Returns
    -------
    (n, 2) ndarray of float64
        Angles [deg], counterclockwise from up; NaN where unknown.
    """
    rows = np.asarray(indices, np.intp)
    return np.stack([store.north_angle[rows], store.east_angle[rows]], axis=-1).astype(np.float64)


def find_compasses(angles: NDArray[np.float64], style: StyleSettings) -> list[Compass | None]:
    """Choose the cutouts of a figure that have a compass.

    Where the style does not say, these are all cutouts of known orientation, unless north is up
    and east to the left in each of them.

    Parameters
    ----------
    angles : (n, 2) ndarray of float64
        From `read_orientations`.
    style : StyleSettings
        Its ``compass`` counts.

    Returns
    -------
    list of Compass or None
        For each cutout.
    """
    is_drawn = style.compass
    if is_drawn is None:
        is_drawn = not _measure_tilt(angles) <= TOLERANCE
    return [
        Compass(*pair) if is_drawn and np.isfinite(pair).all() else None for pair in angles.tolist()
    ]


def _measure_tilt(angles: NDArray[np.float64]) -> float:
    """Return the largest angle of north from up or of east from the left; 0 if none is known."""
    known = angles[np.isfinite(angles).all(axis=1)]
    off = (known - np.array([UP, LEFT]) + 180) % 360 - 180
    return float(np.abs(off).max(initial=0.0))


def describe_orientation(angles: NDArray[np.float64], style: StyleSettings) -> str:
    """Say in a caption where north and east are, as far as it is known.

    Parameters
    ----------
    angles : (n, 2) ndarray of float64
        From `read_orientations`, of all cutouts of the figure.
    style : StyleSettings
        As of `find_compasses`.

    Returns
    -------
    str
        "" if there is nothing to say.
    """
    n, n_known = len(angles), int(np.isfinite(angles).all(axis=1).sum())
    if not n_known:
        return ""
    others = "other" if n - n_known == 1 else "others"
    some = f" in {n_known} of {n} cutouts; the orientation of the {others} is unknown"
    where = some if n_known < n else ""
    if any(find_compasses(angles, style)):
        return f"Arrows point to the north (N) and the east (E){where}."
    if (tilt := _measure_tilt(angles)) > TOLERANCE:
        return ""
    within = ", to within a degree," if tilt > ROUNDING else ""
    return f"North is up and east to the left{within if where else within.rstrip(',')}{where}."


def describe_differences(
    store: Store, indices: Sequence[int] | NDArray[np.intp], *, with_directions: bool = True
) -> str:
    """Say in the caption of a mean over cutouts that they lie unlike each other on the sky.

    Parameters
    ----------
    store : Store
        An open store.
    indices : sequence of int
        Positions of the galaxies in the store.
    with_directions : bool, default True
        Whether directions matter to the mean.

    Returns
    -------
    str
        "" if nothing is known to differ.
    """
    rows = np.asarray(indices, np.intp)
    scales = store.pixel_scale[rows]
    known = scales[np.isfinite(scales)]
    sentences = []
    if len(known) and known.max() > (1 + SAME_SCALE) * known.min():
        sentences.append(
            f"Their pixels are of {known.min():.3g} to {known.max():.3g} arcsec, so that a "
            "distance in the cutout is not the same angle in all of them."
        )
    if 0 < len(known) < len(scales):
        sentences.append(f"The pixel scale of {len(scales) - len(known)} of them is unknown.")
    angles = read_orientations(store, rows)
    angles = angles[np.isfinite(angles).all(axis=1)]
    if with_directions and len(angles):
        apart = (angles - angles[0] + 180) % 360 - 180
        if np.ptp(apart, axis=0).max() > TOLERANCE:
            sentences.append("North and east are in different directions in them.")
    return " ".join(sentences)


class Place(NamedTuple):
    """Where the arrows of a compass lie on a panel, in units of its side.

    Attributes
    ----------
    origin : (2,) ndarray of float64
        Where both begin, from the lower left corner.
    along : (2, 2) ndarray of float64
        Unit vectors along each, to the right and upwards.
    letters : (2, 2) ndarray of float64
        Centres of their letters.
    length : float
        Their length.
    top : float
        Where the highest of it all lies.
    """

    origin: NDArray[np.float64]
    along: NDArray[np.float64]
    letters: NDArray[np.float64]
    length: float
    top: float


def place_compass(compass: Compass, side: float, size: float, bottom: float = MARGIN) -> Place:
    """Place a compass in the lower right corner of a square panel.

    Parameters
    ----------
    compass : Compass
        Where its arrows point.
    side : float
        Side of the panel [inch].
    size : float
        Font size of the letters [pt].
    bottom : float
        Where the lowest of it lies, in units of the side.

    Returns
    -------
    Place
    """
    em = size / (72 * side)
    angles = np.radians(compass)
    along = np.stack([-np.sin(angles), np.cos(angles)], axis=-1)
    length = max(LENGTH, LEAST / side)
    # A letter is centred on a point beyond the tip of its arrow.
    letters = (length + 0.65 * em) * along
    reach = np.array([0.4, 0.45]) * em
    corners = np.concatenate([letters - reach, letters + reach, [(0.0, 0.0)]])
    origin = np.array([1 - MARGIN - corners[:, 0].max(), bottom - corners[:, 1].min()])
    top = float(origin[1] + corners[:, 1].max())
    return Place(origin, along, origin + letters, length, top)


def plot_compass(
    compass: Compass, *, ax: Axes, side: float, size: float, bottom: float = MARGIN
) -> None:
    """Draw arrows to the north and the east in the lower right corner of a cutout.

    Parameters
    ----------
    compass : Compass
        Where they point.
    ax : Axes
        Axes of the cutout, which are square.
    side, size, bottom : float
        As of `place_compass`.
    """
    place = place_compass(compass, side, size, bottom)
    arrows = [place.origin + _make_arrow(one, place.length, 1 / (72 * side)) for one in place.along]
    for shade, width in (("black", OUTLINE), ("white", 0.0)):
        for arrow in arrows:
            ax.add_patch(
                Polygon(
                    arrow,
                    transform=ax.transAxes,
                    facecolor=shade,
                    edgecolor=shade if width else "none",
                    linewidth=width,
                    joinstyle="miter",
                    # Above the lines of maps.
                    zorder=2.5,
                )
            )
    for (x, y), word in zip(place.letters, "NE", strict=True):
        plot_outlined_text(x, y, word, ax=ax, size=size, va="center")


def _make_arrow(along: NDArray[np.float64], length: float, point: float) -> NDArray[np.float64]:
    """Return the corners (7, 2) of an arrow from the origin, of which the fourth is its tip."""
    across = np.array([-along[1], along[0]])
    neck, shaft, head = length - POINT * point, SHAFT * point / 2, HEAD * point / 2
    ends = [(0.0, -shaft), (neck, -shaft), (neck, -head), (length, 0.0)]
    ends += [(neck, head), (neck, shaft), (0.0, shaft)]
    return np.array([forth * along + aside * across for forth, aside in ends])
