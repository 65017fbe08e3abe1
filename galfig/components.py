"""Components: the space of the features of galaxies, on plain arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Size of a component, relative to the first, below which it is rounding.
LEAST = 1e-6


class Components(NamedTuple):
    """Galaxies at the principal components of their features.

    Attributes
    ----------
    scores : (N, m) ndarray of float64
        Position along each component, whitened: of mean 0 and standard deviation 1 (divisor
        N - 1).
    shares : (m,) ndarray of float64
        Fraction of the variance of the features that each component holds, in decreasing order.
    """

    scores: NDArray[np.float64]
    shares: NDArray[np.float64]


def find_components(features: NDArray[np.floating], n_components: int = 3) -> Components:
    r"""Find the first principal components of features, and the galaxies in their space.

    The features are centred and not scaled: their singular value decomposition is
    :math:`X = U S V^\top`, the whitened scores are :math:`\sqrt{N - 1}\, U`, and a component holds
    :math:`S_j^2 / \sum_i S_i^2` of the variance [1]_. A component has the sign by which its largest
    loading in :math:`V`, by absolute value, is positive, so that it does not depend on the library
    of linear algebra.

    Parameters
    ----------
    features : (N, K) ndarray of float
        Finite features of galaxies.
    n_components : int, default 3
        The most components to find.

    Returns
    -------
    Components
        Those that hold more than the rounding of float32; there are fewer than ``n_components`` of
        few galaxies or of features that depend on each other, and none of features that are the
        same for all galaxies.

    References
    ----------
    .. [1] Jolliffe & Cadima 2016, Phil. Trans. R. Soc. A 374, 20150202
    """
    n_galaxies, n_features = features.shape
    if not features.size:
        return Components(np.empty((n_galaxies, 0)), np.empty(0))
    centred = features.astype(np.float64)
    rounding = np.finfo(np.float32).eps * np.abs(centred).max() * np.sqrt(n_galaxies)
    centred -= centred.mean(axis=0)
    if n_galaxies > n_features:
        # Several times as fast for many galaxies, and as exact for the first components.
        squares, vectors = np.linalg.eigh(centred.T @ centred)
        sizes, loadings = np.sqrt(squares[::-1].clip(min=0)), vectors.T[::-1]
    else:
        _, sizes, loadings = np.linalg.svd(centred, full_matrices=False)
    n_found = min(n_components, int(np.sum(sizes > max(rounding, LEAST * sizes[0]))))
    loadings = loadings[:n_found].copy()
    largest = np.abs(loadings).argmax(axis=1)
    loadings *= np.sign(loadings[np.arange(n_found), largest])[:, None]
    scores = centred @ loadings.T * (np.sqrt(n_galaxies - 1) / sizes[:n_found])
    return Components(scores, sizes[:n_found] ** 2 / np.sum(sizes**2))


def measure_distances(
    features: NDArray[np.floating], reference: NDArray[np.floating]
) -> NDArray[np.float64]:
    r"""Return the cosine distance between features of galaxies and those of another.

    It is :math:`1 - f \cdot g / (|f| |g|)`, as in searches for galaxies that look alike [1]_: 0 for
    features in the same ratios, whatever their size. It depends on no other galaxy.

    Parameters
    ----------
    features : (N, K) ndarray of float
        Finite features.
    reference : (K,) ndarray of float
        Those of the other galaxy.

    Returns
    -------
    (N,) ndarray of float64
        From 0 to 2; 1 where one of the two has no feature but zeros, which have no direction.

    References
    ----------
    .. [1] Stein et al. 2021, arXiv:2110.13151
    """
    wide, other = features.astype(np.float64), reference.astype(np.float64)
    sizes = np.linalg.norm(wide, axis=1) * np.linalg.norm(other)
    # A matrix product may round otherwise for another number of galaxies.
    products = np.einsum("nk,k->n", wide, other)
    cosines = np.divide(products, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    return 1 - np.clip(cosines, -1, 1)
