"""Orders: by which pixels of an image are removed, that of the map and those beside it."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Standard deviation of the Gaussian that blurs the map, relative to the side of the image, and of
# that within the Laplacian [pixels].
BLUR, EDGES = 1 / 24, 1.0
MAP, RANDOM, BRIGHTNESS = "map", "random", "brightness"
CONTROLS = (RANDOM, "distance from the centre", BRIGHTNESS, "blurred map", "edges")


def score_pixels(
    cam: NDArray[np.floating], light: NDArray[np.floating]
) -> dict[str, NDArray[np.float64]]:
    """Score the pixels of an image by its map and by all controls but the random one.

    Parameters
    ----------
    cam : (h, w) ndarray of float
        The map under test; it is scaled bilinearly to the image.
    light : (H, W) ndarray of float
        The mean of the image over its channels.

    Returns
    -------
    dict of str to (H, W) ndarray of float64
        By the name of the order; the pixel with the highest score is removed first. The controls
        are nearness to the centre, the light, the map blurred, and the absolute Laplacian of the
        light smoothed by a pixel, which finds edges.
    """
    height, width = light.shape
    scaled = scale_map(cam, light.shape)
    y, x = np.mgrid[:height, :width]
    away = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    blurred = ndimage.gaussian_filter(scaled, BLUR * max(height, width), mode="nearest")
    edges = np.abs(ndimage.gaussian_laplace(light.astype(np.float64), EDGES, mode="nearest"))
    return {
        MAP: scaled,
        "distance from the centre": -away,
        BRIGHTNESS: light.astype(np.float64),
        "blurred map": blurred,
        "edges": edges,
    }


def scale_map(cam: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Scale a map bilinearly to the pixels of an image, as figures draw it.

    Parameters
    ----------
    cam : (h, w) ndarray of float
        The map.
    shape : tuple of int
        Height and width of the image [pixels].

    Returns
    -------
    (H, W) ndarray of float64
    """
    found = np.asarray(cam, np.float64)
    if found.shape == shape:
        return found
    # The centre of pixel i of n, in the pixels of the map, which covers the same area.
    axes = [
        (np.arange(n) + 0.5) * side / n - 0.5 for n, side in zip(shape, found.shape, strict=True)
    ]
    grid = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(found, grid, order=1, mode="nearest")


def rank_pixels(score: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the place of each pixel in the order of its score; equal scores in random order.

    Parameters
    ----------
    score : (H, W) ndarray of float
        The score.
    rng : numpy.random.Generator
        Breaks ties.

    Returns
    -------
    (H, W) ndarray of int
        0 for the pixel with the highest score.
    """
    flat = score.ravel()
    order = np.lexsort((rng.random(flat.size), -flat))
    ranks = np.empty(flat.size, np.intp)
    ranks[order] = np.arange(flat.size)
    return ranks.reshape(score.shape)
