"""Lengths at a redshift, by astropy, whose import takes as long as drawing a figure."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def kpc_per_arcsec(redshift: ArrayLike) -> NDArray[np.float64]:
    """Return the proper length [kpc] of an arcsec, in the cosmology of Planck Collaboration (2020).

    Parameters
    ----------
    redshift : array_like of float
        Redshifts.

    Returns
    -------
    ndarray of float64
        NaN where the redshift is unknown or not above zero.
    """
    redshift = np.atleast_1d(np.asarray(redshift, dtype=np.float64))
    lengths = np.full(redshift.shape, np.nan)
    is_known = redshift > 0
    if is_known.any():
        from astropy.cosmology import Planck18

        lengths[is_known] = Planck18.kpc_proper_per_arcmin(redshift[is_known]).value / 60
    return lengths
