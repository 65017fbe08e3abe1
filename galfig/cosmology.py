"""Proper lengths at a redshift.

astropy is imported where it is called: its import takes as long as drawing a figure.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def kpc_per_arcsec(redshift: ArrayLike) -> NDArray[np.float64]:
    """Return the proper length that one arcsec subtends at a redshift [kpc/arcsec].

    The cosmology is that of Planck Collaboration (2020), ``Planck18`` in astropy [1]_.

    Parameters
    ----------
    redshift : (N,) array_like of float
        Redshifts, NaN where unknown; a single number is taken as an array of one.

    Returns
    -------
    (N,) ndarray of float64
        Lengths [kpc/arcsec], NaN where the redshift is unknown or not above zero.

    References
    ----------
    .. [1] Planck Collaboration 2020, A&A 641, A6, arXiv:1807.06209
    """
    redshift = np.atleast_1d(np.asarray(redshift, dtype=np.float64))
    lengths = np.full(redshift.shape, np.nan)
    is_known = redshift > 0
    if is_known.any():
        from astropy.cosmology import Planck18

        lengths[is_known] = Planck18.kpc_proper_per_arcmin(redshift[is_known]).value / 60
    return lengths
