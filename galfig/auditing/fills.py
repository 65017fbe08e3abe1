"""Fills: what takes the place of pixels that are removed from an image."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from galfig.auditing.sky import Regions, Sky

# Standard deviation of the Gaussian that blurs, relative to the side of the image.
BLUR = 0.1
# Neighbours that follow a pixel, row by row, and their weights in the imputation of Rong et al.
NEIGHBOURS = (((0, 1), 1 / 6), ((1, -1), 1 / 12), ((1, 0), 1 / 6), ((1, 1), 1 / 12))

# Gives the images (m, C, H, W) that keep the pixels of masks (m, H, W).
Fill = Callable[[Tensor], Tensor]


def make_sky_image(
    pixels: NDArray[np.uint8], regions: Regions, sky: Sky, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Make an image of sky pixels in a random order.

    Parameters
    ----------
    pixels : (H, W, n_channels) ndarray of uint8
        The cutout.
    regions : Regions
        Its regions; where the galaxy fills the cutout, pixels of the other cutouts' sky are taken.
    sky : Sky
        The sky of the sample.
    rng : numpy.random.Generator
        Draws the pixels, with replacement.

    Returns
    -------
    (H, W, n_channels) ndarray of uint8
        All channels of a pixel are those of one pixel of the sky.
    """
    own = sky.pool if regions.is_filled else pixels[regions.sky]
    return own[rng.integers(len(own), size=pixels.shape[:2])]


def make_blurred_image(pixels: NDArray[np.uint8], blur: float = BLUR) -> NDArray[np.uint8]:
    """Blur an image by a Gaussian.

    Parameters
    ----------
    pixels : (H, W, n_channels) ndarray of uint8
        The cutout.
    blur : float
        Standard deviation, relative to the side.

    Returns
    -------
    (H, W, n_channels) ndarray of uint8
    """
    sigma = blur * pixels.shape[0]
    found = ndimage.gaussian_filter(pixels.astype(np.float64), (sigma, sigma, 0), mode="nearest")
    return np.rint(found).astype(np.uint8)


def fill_with(image: Tensor, other: Tensor) -> Fill:
    """Return the fill that takes removed pixels from another image.

    Parameters
    ----------
    image, other : (n_channels, H, W) Tensor of float32
        The image, and what shows where it is removed.

    Returns
    -------
    Fill
    """

    def fill(is_kept: Tensor) -> Tensor:
        return torch.where(is_kept[:, None], image, other)

    return fill


def fill_linearly(image: Tensor, noise: Tensor) -> Fill:
    """Return the fill that imputes removed pixels from their neighbours, and adds noise [1]_.

    Parameters
    ----------
    image : (n_channels, H, W) Tensor of float32
        The image.
    noise : (n_channels, H, W) Tensor of float32
        What is added to the pixels that are imputed.

    Returns
    -------
    Fill
        See `impute`.

    References
    ----------
    .. [1] Rong et al. 2022, ICML, arXiv:2202.00449
    """

    def fill(is_kept: Tensor) -> Tensor:
        return impute(image, is_kept) + noise * ~is_kept[:, None]

    return fill


def impute(image: Tensor, is_kept: Tensor) -> Tensor:
    r"""Impute removed pixels as the weighted mean of their eight neighbours.

    The values solve :math:`\sum_j w_{ij} (x_i - x_j) = 0` for all removed pixels :math:`i`, with
    :math:`w = 1/6` for the four nearest neighbours and :math:`1/12` for those across corners, as in
    noisy linear imputation [1]_. The system is sparse and positive definite, and is solved exactly.

    Parameters
    ----------
    image : (n_channels, H, W) Tensor of float32
        The image.
    is_kept : (m, H, W) Tensor of bool
        Pixels that are kept.

    Returns
    -------
    (m, n_channels, H, W) Tensor of float32
        The image itself where it is kept. A mask that keeps nothing gives the mean of the image.

    References
    ----------
    .. [1] Rong et al. 2022, ICML, arXiv:2202.00449
    """
    values = image.numpy().astype(np.float64)
    found = [_impute_one(values, mask) for mask in is_kept.numpy()]
    return torch.where(is_kept[:, None], image, torch.from_numpy(np.stack(found)).float())


def _impute_one(image: NDArray[np.float64], is_kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    if is_kept.all():
        return image
    if not is_kept.any():
        return np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)
    height, width = is_kept.shape
    n_missing = int((~is_kept).sum())
    index = np.full(is_kept.shape, -1)
    index[~is_kept] = np.arange(n_missing)
    diagonal, right = np.zeros(n_missing), np.zeros((n_missing, len(image)))
    pairs: list[tuple[NDArray[np.intp], NDArray[np.intp], float]] = []
    for (down, along), weight in NEIGHBOURS:
        left, stop = max(0, -along), width - max(0, along)
        one = (slice(0, height - down), slice(left, stop))
        other = (slice(down, height), slice(left + along, stop + along))
        # Each pair counts for both of its pixels; at the border, fewer neighbours share the weight.
        for here, there in ((one, other), (other, one)):
            is_open = index[here] >= 0
            diagonal[index[here][is_open]] += weight
            is_known = is_open & is_kept[there]
            right[index[here][is_known]] += weight * image[:, *there][:, is_known].T
            is_pair = is_open & ~is_kept[there]
            pairs.append((index[here][is_pair], index[there][is_pair], -weight))
    every = np.arange(n_missing)
    rows = np.concatenate([every, *(pair[0] for pair in pairs)])
    columns = np.concatenate([every, *(pair[1] for pair in pairs)])
    entries = np.concatenate([diagonal, *(np.full(len(pair[0]), pair[2]) for pair in pairs)])
    matrix = sparse.csc_matrix((entries, (rows, columns)), shape=(n_missing, n_missing))
    # A symmetric order of elimination, and no pivots, since the matrix is positive definite.
    solver = splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True}
    )
    solved = solver.solve(right)
    found = image.copy()
    found[:, ~is_kept] = solved.T
    return found
