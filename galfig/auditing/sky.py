"""Sky: which pixels of a cutout are the galaxy, which are other sources, and which are sky."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Standard deviation of the Gaussian that smooths the light [pixels], and the level above the sky
# [standard deviations of the smoothed sky] at which a source begins.
SMOOTHING, THRESHOLD = 1.5, 3.0
# Pixels by which sources are widened, since their light goes on below the threshold.
MARGIN = 3
# A cutout of which less is sky is filled by its galaxy.
MIN_SKY = 0.02
# Standard deviations above the typical sky of a sample at which a cutout shows no sky.
UNUSUAL = 5.0
# Most pixels of the sky of a sample, and most of one cutout's, that are kept.
N_POOL, N_EACH = 20_000, 200
# Radius of the core, relative to the radius of a disk of the galaxy's area.
CORE = 0.5


class Level(NamedTuple):
    """Level of the sky, and its standard deviation, both of smoothed light [grey levels]."""

    value: float
    scatter: float


class Sky(NamedTuple):
    """The typical sky of a sample of cutouts.

    Attributes
    ----------
    level : Level
        Its median level; the scatter is that within a cutout and between cutouts.
    pool : (m, n_channels) ndarray of uint8
        Pixels of it.
    """

    level: Level
    pool: NDArray[np.uint8]


class Regions(NamedTuple):
    """The regions of a cutout.

    Attributes
    ----------
    light : (H, W) ndarray of float64
        Mean over the channels.
    galaxy : (H, W) ndarray of bool
        The source at the centre; empty where no source is found.
    sky : (H, W) ndarray of bool
        What belongs to no source; empty where the galaxy fills the cutout.
    """

    light: NDArray[np.float64]
    galaxy: NDArray[np.bool_]
    sky: NDArray[np.bool_]

    @property
    def is_filled(self) -> bool:
        """Whether the galaxy fills the cutout."""
        return not self.sky.any()


def find_regions(pixels: NDArray[np.uint8], typical: Level | None = None) -> Regions:
    """Tell the galaxy of a cutout from the sky.

    The light is the mean over the channels. Its sky has the level and the scatter of the pixels
    that remain when all above three standard deviations are left out again and again, with the
    scatter measured below the median, where no source adds to it. What is three standard deviations
    above that in the smoothed light, widened by `MARGIN` pixels, is a source. The galaxy is the
    source that holds the centre, or the nearest to it.

    A galaxy that fills its cutout leaves no sky to measure: its own outskirts would be taken for
    it. Where the level is more than `UNUSUAL` standard deviations above that of the sample, the
    level of the sample is taken instead.

    Parameters
    ----------
    pixels : (H, W, n_channels) ndarray of uint8
        The cutout.
    typical : Level, optional
        The sky of the sample, from `measure_sky`.

    Returns
    -------
    Regions
    """
    light = pixels.mean(axis=2, dtype=np.float64)
    smooth = ndimage.gaussian_filter(light, SMOOTHING, mode="nearest")
    level = _measure_level(smooth)
    if typical is not None and level.value > typical.value + UNUSUAL * typical.scatter:
        level = typical
    is_source = smooth > level.value + THRESHOLD * level.scatter
    galaxy = _widen(_find_central(is_source))
    sky = ~_widen(is_source)
    return Regions(light, galaxy, sky & (sky.mean() >= MIN_SKY))


def measure_sky(cutouts: Iterable[NDArray[np.uint8]], rng: np.random.Generator) -> Sky:
    """Measure the typical sky of a sample of cutouts.

    Parameters
    ----------
    cutouts : iterable of (H, W, n_channels) ndarray of uint8
        The cutouts, at least one.
    rng : numpy.random.Generator
        Draws the pixels that are kept.

    Returns
    -------
    Sky
        If each galaxy fills its cutout, this is the sky of none: it is what is faint in them.
    """
    levels, drawn = [], []
    for pixels in cutouts:
        light = pixels.mean(axis=2, dtype=np.float64)
        smooth = ndimage.gaussian_filter(light, SMOOTHING, mode="nearest")
        levels.append(_measure_level(smooth))
        sky = pixels[~_widen(smooth > levels[-1].value + THRESHOLD * levels[-1].scatter)]
        drawn.append(rng.permutation(sky)[:N_EACH])
    values = np.array([level.value for level in levels])
    value = float(np.median(values))
    between = 1.4826 * float(np.median(np.abs(values - value)))
    within = float(np.median([level.scatter for level in levels]))
    typical = Level(value, float(np.hypot(within, between)))
    limit = value + UNUSUAL * typical.scatter
    pool = np.concatenate([one for one, at in zip(drawn, values, strict=True) if at <= limit])
    return Sky(typical, rng.permutation(pool)[:N_POOL])


def _find_central(is_source: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the source that holds the centre, or the nearest to it."""
    labels, n_sources = ndimage.label(is_source)
    if not n_sources:
        return is_source
    indices = ndimage.distance_transform_edt(
        ~is_source, return_distances=False, return_indices=True
    )
    centre = tuple(side // 2 for side in is_source.shape)
    return labels == labels[tuple(axis[centre] for axis in indices)]


def find_core(regions: Regions) -> NDArray[np.bool_]:
    """Return the core of the galaxy: a disk of half its radius around the centre of its light.

    Parameters
    ----------
    regions : Regions
        From `find_regions`.

    Returns
    -------
    (H, W) ndarray of bool
        At least one pixel; around the centre of the cutout where no galaxy was found.
    """
    height, width = regions.light.shape
    y, x = np.mgrid[:height, :width]
    if regions.galaxy.any():
        weight = np.where(regions.galaxy, regions.light, 0.0) + 1e-9 * regions.galaxy
        centre = [float((axis * weight).sum() / weight.sum()) for axis in (y, x)]
        radius = np.sqrt(regions.galaxy.sum() / np.pi)
    else:
        centre, radius = [(height - 1) / 2, (width - 1) / 2], min(height, width) / 4
    away = np.hypot(y - centre[0], x - centre[1])
    return away <= max(CORE * radius, away.min())


def _measure_level(smooth: NDArray[np.float64]) -> Level:
    """Return the level and the scatter of the sky in smoothed light."""
    values = smooth.ravel()
    while True:
        level = float(np.median(values))
        below = values[values <= level] - level
        scatter = float(np.sqrt(np.mean(below**2)))
        kept = values[values <= level + THRESHOLD * scatter]
        if len(kept) == len(values):
            # A sky of one grey level has no scatter; eight bits tell half a level.
            return Level(level, max(scatter, 0.5 / THRESHOLD))
        values = kept


def _widen(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ndimage.binary_dilation(region, iterations=MARGIN)
