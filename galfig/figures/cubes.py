"""Cubes: cutouts and maps of galaxies as images of FITS, each where it lies on the cutout."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.config import NONLINEAR_METHODS
from galfig.figures.methods import METHODS, find_words
from galfig.store.reader import Store
from galfig.tables.images import Image

Card = tuple[str, Any, str]
_COLORS = ("red", "green", "blue")
# A difference from no rotation that moves no corner of a cutout by a tenth of a pixel.
NEGLIGIBLE = 1e-5


class Sky(NamedTuple):
    """Where galaxies are, for images that have them in the centre.

    Attributes
    ----------
    ra, dec : (N,) ndarray of float64
        Right ascension and declination of all galaxies of a store [deg], NaN where unknown.
    is_oriented : bool
        Whether images whose orientation the store does not know have north up and east to the left.
        Without an orientation, headers have no sky coordinates but those of the galaxy alone.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    is_oriented: bool = False


def iter_cubes(store: Store, indices: Iterable[int], sky: Sky | None = None) -> Iterator[Image]:
    """Yield the cutout and the maps of galaxies.

    Parameters
    ----------
    store : Store
        An open store.
    indices : iterable of int
        Positions of galaxies; ``EXTVER`` counts them from 1.
    sky : Sky, optional
        Where the galaxies are.

    Yields
    ------
    Image
        Of each galaxy ``CUTOUT``, (B, H, W) or (H, W) of uint8; ``MAPS``, (C, h, w) of float32, the
        values of `Store.cams`; ``EVIDENCE``, (h, w) or, of more than two classes, (C, h, w), where
        the maps are no evidence already and give some; of an ensemble also ``MAPS_SD`` and
        ``EVIDENCE_SD``. Rows are from the bottom, so that viewers of FITS show them as figures do.
    """
    for version, index in enumerate(map(int, indices), 1):
        about = _describe_galaxy(store, index, sky)
        for name, values, cards in _iter_arrays(store, index):
            place = describe_place(store, index, values.shape, sky)
            flipped = np.ascontiguousarray(values[..., ::-1, :])
            yield Image(name, flipped, (*cards, *about, *place), version)


def _iter_arrays(store: Store, index: int) -> Iterator[tuple[str, NDArray[Any], tuple[Card, ...]]]:
    """Yield name, values with rows from the top, and cards of each array of a galaxy."""
    pixels = np.moveaxis(store.pixels(index), -1, 0)
    bands = _name_bands(store)
    yield "CUTOUT", pixels[0] if len(pixels) == 1 else pixels, _list_axis("BAND", bands)
    classes = _list_axis("CLASS", store.class_names)
    words = find_words(store.record)
    unit = ("BUNIT", words.unit, f"{words.name} maps")
    yield "MAPS", store.cams(index), (unit, *classes)
    if store.n_networks > 1:
        yield "MAPS_SD", store.cams_sd(index), (unit, *classes)
    n_classes = len(store.class_names)
    if store.method == "evidence" or store.method in NONLINEAR_METHODS or n_classes < 2:
        return
    of_two: tuple[Card, ...] = (
        ("CLASS", store.class_names[-1], "class that positive values speak for"),
        ("AGAINST", store.class_names[0], "class that negative values speak for"),
    )
    cards = (("BUNIT", METHODS["evidence"].unit, "evidence maps"), *classes)
    if n_classes == 2:
        cards = (cards[0], *of_two)
    yield "EVIDENCE", store.evidence(index), cards
    if store.n_networks > 1:
        yield "EVIDENCE_SD", store.evidence_sd(index), cards


def _name_bands(store: Store) -> list[str]:
    """Name the channels of cutouts, and say which colour they are shown in."""
    n_channels, shown = store.n_channels, store.shown_channels
    if n_channels == 1:
        return []
    if n_channels == 3 and shown == (0, 1, 2):
        return list(_COLORS)
    known = store.record.settings.catalog.channel_names
    names = known if len(known) == n_channels else [f"channel {n}" for n in range(n_channels)]
    colors = dict(zip(reversed(shown), reversed(_COLORS), strict=True)) if n_channels > 2 else {}
    return [
        f"{name}, shown in {colors[number]}" if number in colors else name
        for number, name in enumerate(names)
    ]


def _list_axis(kind: str, names: Sequence[str]) -> tuple[Card, ...]:
    """Name the planes of a cube: CLASS1, CLASS2, ..."""
    words = "map" if kind == "CLASS" else "plane"
    return tuple(
        (f"{kind}{number}", name, f"{kind.lower()} of {words} {number}")
        for number, name in enumerate(names, 1)
    )


def _describe_galaxy(store: Store, index: int, sky: Sky | None) -> tuple[Card, ...]:
    """Say which galaxy an image is of, and what the network makes of it."""
    label, predicted = int(store.label[index]), int(store.predicted[index])
    cards: list[Card] = [("OBJECT", str(store.objids(index)), "identifier, as in the catalog")]
    if sky is not None and np.isfinite([sky.ra[index], sky.dec[index]]).all():
        cards.append(("RA", float(sky.ra[index]), "[deg] right ascension of the galaxy"))
        cards.append(("DEC", float(sky.dec[index]), "[deg] declination of the galaxy"))
    if label >= 0:
        cards.append(("TRUECLS", store.class_names[label], "true class"))
    cards.append(("PREDCLS", store.class_names[predicted], "class of largest probability"))
    cards.append(("PROB", float(store.probs[index, predicted]), "probability of that class"))
    return tuple(cards)


def describe_place(
    store: Store, index: int, shape: tuple[int, ...], sky: Sky | None
) -> tuple[Card, ...]:
    """Return the world coordinates of an image that covers the cutout of a galaxy.

    Parameters
    ----------
    store : Store
        An open store.
    index : int
        Position of the galaxy.
    shape : tuple of int
        Shape of the image, (..., h, w).
    sky : Sky, optional
        Where the galaxies are.

    Returns
    -------
    tuple of (str, value, str)
        Cards. Sky coordinates, where orientation, position and pixel scale are known. Otherwise,
        offsets from the centre of the cutout, to the right and upwards, in arcsec if the pixel
        scale is known and else in pixels of the cutout.
    """
    height, width = shape[-2:]
    # A map covers the cutout, whatever its own resolution.
    steps = [store.record.cutout_size / n for n in (width, height)]
    scale = float(store.pixel_scale[index])
    axes, values, unit = ("XOFFSET", "YOFFSET"), (0.0, 0.0), "pixel"
    name = "offset from the centre, right and up"
    if np.isfinite(scale):
        steps, unit = [scale * step for step in steps], "arcsec"
    matrix = None
    if unit == "arcsec" and sky is not None:
        center = float(sky.ra[index]), float(sky.dec[index])
        matrix = _find_matrix(store, index, sky)
        if np.isfinite(center).all() and matrix is not None:
            axes, values, unit, name = ("RA---TAN", "DEC--TAN"), center, "deg", "sky"
            # Of each pair of a coordinate and an axis of pixels.
            turned = matrix * steps / 3600
            steps = [-steps[0] / 3600, steps[1] / 3600]
            matrix = turned / np.array(steps)[:, None]
    cards: list[Card] = [("WCSAXES", len(shape), ""), ("WCSNAME", name, "")]
    for number, n in enumerate((width, height), 1):
        cards += [
            (f"CTYPE{number}", axes[number - 1], ""),
            (f"CUNIT{number}", unit, ""),
            (f"CRPIX{number}", (n + 1) / 2, "centre of the cutout"),
            (f"CRVAL{number}", values[number - 1], ""),
            (f"CDELT{number}", steps[number - 1], ""),
        ]
    if unit == "deg" and matrix is not None and np.abs(matrix - np.eye(2)).max() > NEGLIGIBLE:
        cards += [
            (f"PC{row + 1}_{column + 1}", float(matrix[row, column]), "")
            for row in range(2)
            for column in range(2)
        ]
    if len(shape) == 3:
        cards += [("CTYPE3", "PLANE", "counted from 1"), ("CRPIX3", 1.0, "")]
        cards += [("CRVAL3", 1.0, ""), ("CDELT3", 1.0, "")]
    return tuple(cards)


def _find_matrix(store: Store, index: int, sky: Sky) -> NDArray[np.float64] | None:
    """Return what leads from pixels to the right and upwards to the east and to the north.

    None where the orientation of the cutout is unknown.
    """
    angles = np.radians([store.east_angle[index], store.north_angle[index]], dtype=np.float64)
    if not np.isfinite(angles).all():
        return np.diag([-1.0, 1.0]) if sky.is_oriented else None
    # The columns are the directions of east and north in pixels.
    directions = np.stack([-np.sin(angles), np.cos(angles)])
    if abs(np.linalg.det(directions)) < 0.5:
        return None
    matrix: NDArray[np.float64] = np.linalg.inv(directions)
    return matrix
