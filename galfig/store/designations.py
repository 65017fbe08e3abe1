"""Names of galaxies by their position on the sky, as the IAU asks: 'J012345.67+012345.6'.

The digits are cut off and not rounded, so that a name always is that of a small field which holds
the galaxy. Before the "J" stands the survey. A store does not know it, so that the user says it.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from galfig.errors import StoreError
from galfig.sky import match_sky_columns

if TYPE_CHECKING:
    from galfig.store.reader import Store

# Beginning of a name that claims no survey: the equinox alone.
PREFIX = "J"
# Units of the last digits: hundredths of a second of time, and tenths of an arcsecond. What
# rounding of a float64 [deg] may take from a position is less than this share of one.
_PER_DEGREE = (24_000, 36_000)
_SLACK = 1e-5


def find_sky_columns(store: "Store") -> tuple[str, str]:
    """Return the names of the columns with right ascension and declination.

    Parameters
    ----------
    store : Store
        An open store.

    Returns
    -------
    (str, str)

    Raises
    ------
    StoreError
        If the catalog of the store has no such columns.
    """
    if found := match_sky_columns(store.column_names):
        return found
    raise StoreError(
        f"{store.path}: no position of its galaxies, expected the columns 'ra' and 'dec' [deg] of "
        "the catalog for names such as J012345.67+012345.6"
    )


def name_by_position(
    store: "Store", indices: NDArray[np.intp], prefix: str = PREFIX
) -> tuple[str, ...]:
    """Name galaxies of a store by their positions.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Positions in the store.
    prefix : str, default "J"
        What stands before the coordinates, such as "SDSS J".

    Returns
    -------
    tuple of str
        The names, (n,); "" for a galaxy without coordinates.

    Raises
    ------
    StoreError
        If the catalog of the store has no columns with positions, or they hold no numbers.
    """
    ra, dec = (_read_degrees(store, name)[indices] for name in find_sky_columns(store))
    return designate(ra, dec, prefix)


def _read_degrees(store: "Store", name: str) -> NDArray[np.float64]:
    try:
        return store.column(name).to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as exc:
        raise StoreError(
            f"{store.path}: column {name!r} holds text, expected degrees as numbers"
        ) from exc


def designate(ra: ArrayLike, dec: ArrayLike, prefix: str = PREFIX) -> tuple[str, ...]:
    """Write positions as names, by the rules of the IAU.

    Parameters
    ----------
    ra, dec : (n,) array_like of float
        Right ascension and declination, equinox J2000 [deg].
    prefix : str, default "J"
        What stands before the coordinates, such as "SDSS J".

    Returns
    -------
    tuple of str
        Such as 'SDSS J094235.76+241231.3', with digits cut off rather than rounded, (n,); "" where
        a coordinate is not finite, or is none of the sky.
    """
    pairs = zip(np.ravel(ra).astype(float), np.ravel(dec).astype(float), strict=True)
    return tuple(_designate(*pair, prefix) for pair in pairs)


def _designate(ra: float, dec: float, prefix: str) -> str:
    if not (np.isfinite(ra) and np.isfinite(dec) and abs(dec) <= 90 and -360 <= ra <= 720):
        return ""
    time = int(ra % 360 * _PER_DEGREE[0] + _SLACK) % (360 * _PER_DEGREE[0])
    arc = int(abs(dec) * _PER_DEGREE[1] + _SLACK)
    sign = "-" if dec < 0 else "+"
    seconds, hundredths = divmod(time, 100)
    arcseconds, tenths = divmod(arc, 10)
    return (
        f"{prefix}{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}.{hundredths:02d}"
        f"{sign}{arcseconds // 3600:02d}{arcseconds // 60 % 60:02d}{arcseconds % 60:02d}.{tenths}"
    )
