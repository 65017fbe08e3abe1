"""Stretch: fluxes become eight bits, from the sky to the brightest of the source."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from galfig.images.decoders import UnusableError

# Beyond this, the sum of three planes could exceed float64, and a pixel is white anyway.
LARGEST = 1e100
# Values stretched at a time, so that few are in double precision at once.
BLOCK = 1 << 20
# Fraction of a given range where the asinh stretch turns from linear to logarithmic.
SOFTENING = 0.1
# Percentiles of the pixels that are black and white in the stretch of that name.
PERCENTILES = (0.25, 99.75)
# Values that the sky is measured on, at most; more only take longer.
MAX_SKY = 1 << 18
# Noise level [sigma] beyond which pixels are not sky, and where the stretch from the sky turns
# from linear to logarithmic; and how far above the sky white is at least.
CLIP, SOFT_SIGMA, LEAST_PEAK = 3.0, 3.0, 10.0
# The softening is no smaller fraction of the range than this: an image without noise has no floor.
LEAST_SOFTENING = 1e-3
# Standard deviation of a normal distribution over its median absolute deviation.
MAD_TO_SIGMA = 1.4826
# White is the brightest of the source, less this fraction of the pixels, or this many: a cosmic
# ray or a hot pixel is no source.
OUTLIERS, MIN_OUTLIERS = 5e-4, 3


@dataclass(frozen=True)
class Lupton:
    """The parameters of `astropy.visualization.make_lupton_rgb`.

    Attributes
    ----------
    minimum : (float, float, float)
        Values of red, green and blue shown as black, in the unit of the image.
    stretch : float
        Brightness that a linear stretch would show as white, about, in the unit of the image.
    softening : float
        Q: the larger, the earlier the stretch turns from linear to logarithmic.
    """

    minimum: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stretch: float = 5.0
    softening: float = 8.0


@dataclass(frozen=True)
class Stretch:
    """How fluxes become pixels.

    Attributes
    ----------
    limits : (float, float) or None
        Values shown as black and as white, in the unit of the image.
    kind : {"sky", "percentiles", "lupton"}
        Where black and white lie in each image, without limits: at its sky and at the brightest of
        its source, or at two percentiles of its pixels; or the same for all images, as `Lupton`
        says.
    lupton : Lupton
        Parameters of the last of these.
    """

    limits: tuple[float, float] | None = None
    kind: Literal["sky", "percentiles", "lupton"] = "sky"
    lupton: Lupton = Lupton()


BY_SKY = Stretch()


def stretch_image(values: NDArray[Any], stretch: Stretch = BY_SKY) -> NDArray[np.uint8]:
    r"""Stretch one plane or several with an asinh, several with one factor for all planes.

    By default, black is the sky of each plane: the median of its pixels, less those that are
    brighter than three times the noise. The brightness :math:`I`, the mean over the planes above
    their sky, is shown as :math:`\mathrm{asinh}(I/\beta)/\mathrm{asinh}(I_1/\beta)`, where
    :math:`\beta` is three times its noise, from the median absolute deviation, and :math:`I_1` is
    the brightest of the central half of the image. Each plane is multiplied by the factor by which
    the brightness changes, so that colours are those of the fluxes [1]_. Where a plane would exceed
    white, all planes of the pixel are reduced.

    A `Lupton` stretch is that of astropy, with the parameters given and of three planes only.

    Parameters
    ----------
    values : (H, W) or (B, H, W) ndarray
        Fluxes; three planes are red, green and blue.
    stretch : Stretch, default `BY_SKY`
        Where black and white are.

    Returns
    -------
    (H, W) or (H, W, B) ndarray of uint8
        NaN is black.

    Raises
    ------
    UnusableError
        If no value is finite, or their range is beyond float64; or if other than three planes
        are to become colours.

    References
    ----------
    .. [1] Lupton et al. 2004, PASP 116, 133, arXiv:astro-ph/0312483
    """
    # The results below handle infinite values and their sums, so numpy need not warn of them.
    with np.errstate(all="ignore"):
        # From blue to red, the order of the files that this sum was first made for.
        intensity = values if values.ndim == 2 else values[::-1].mean(axis=0, dtype=np.float64)
        finite = intensity[np.isfinite(intensity)]
        if not len(finite):
            raise UnusableError("no finite value in the image")
        if stretch.limits is None and stretch.kind == "lupton":
            _check_colours(values)
            return _by_blocks(values, lambda block: _stretch_lupton(block, stretch.lupton))
        if stretch.limits is None and stretch.kind == "sky":
            del finite, intensity
            return _stretch_from_sky(values)
        low, high = stretch.limits or _find_percentiles(finite)
        del finite, intensity
        _check_range(low, high)
        if not high > low:
            low, high = low - 0.5, low + 0.5
        return _by_blocks(values, lambda block: _stretch(block, low, high))


def _check_range(low: float, high: float) -> None:
    if not math.isfinite(high - low):
        raise UnusableError(f"values from {low:.3g} to {high:.3g}, a range beyond float64")


def _by_blocks(values: NDArray[Any], stretch: Any) -> NDArray[np.uint8]:
    """Stretch an image, some rows at a time."""
    height, width = values.shape[-2:]
    pixels = np.empty((height, width, *values.shape[:-2]), np.uint8)
    n_rows = max(1, BLOCK // width)
    for start in range(0, height, n_rows):
        rows = slice(start, start + n_rows)
        pixels[rows] = stretch(values[..., rows, :].astype(np.float64))
    return pixels


def _stretch_from_sky(values: NDArray[Any]) -> NDArray[np.uint8]:
    planes = values if values.ndim == 3 else values[None]
    sky = np.array([measure_sky(plane)[0] for plane in planes])
    step = _choose_step(planes.shape[-2:])
    few = (planes[:, ::step, ::step].astype(np.float64) - sky[:, None, None]).mean(axis=0)
    _, noise = measure_sky(few)
    peak = _find_peak(planes, sky, noise)
    _check_range(float(sky.min()), float(sky.max()) + peak)
    soft = max(SOFT_SIGMA * noise, LEAST_SOFTENING * peak) if noise > 0 else SOFTENING * peak
    white = math.asinh(peak / soft)

    def stretch(block: NDArray[np.float64]) -> NDArray[np.uint8]:
        above = block.reshape(len(sky), *block.shape[-2:]) - sky[:, None, None]
        above = np.nan_to_num(above, nan=0.0, posinf=peak, neginf=0.0)
        light = above.mean(axis=0)
        shown = np.arcsinh(light / soft) / white
        # Where the brightness is that of the sky or less, all planes are black.
        factor = np.divide(shown, light, out=np.zeros_like(light), where=light > 0)
        scaled = np.maximum(above * factor, 0)
        scaled /= np.maximum(scaled.max(axis=0), 1)
        pixels = np.rint(255 * scaled).astype(np.uint8)
        return pixels[0] if block.ndim == 2 else np.moveaxis(pixels, 0, -1)

    return _by_blocks(values, stretch)


def _choose_step(shape: tuple[int, ...]) -> int:
    """Return every how many rows and columns to take, so that few enough pixels remain."""
    return max(1, math.isqrt(math.prod(shape) // MAX_SKY))


def measure_sky(plane: NDArray[Any]) -> tuple[float, float]:
    """Measure the level of the sky and its noise.

    Pixels more than three times the noise from the median are left out, and both are measured
    again, until no more are.

    Parameters
    ----------
    plane : (H, W) ndarray
        Fluxes.

    Returns
    -------
    sky, noise : float
        Median, and standard deviation from the median absolute deviation; zero without finite
        pixels.
    """
    step = _choose_step(plane.shape)
    values = plane[::step, ::step].astype(np.float64)
    values = values[np.isfinite(values)]
    sky = noise = 0.0
    for _ in range(10):
        if not len(values):
            return sky, noise
        sky = float(np.median(values))
        noise = MAD_TO_SIGMA * float(np.median(np.abs(values - sky)))
        is_sky = np.abs(values - sky) <= CLIP * noise
        if noise == 0 or is_sky.all():
            break
        values = values[is_sky]
    return sky, noise


def _find_peak(planes: NDArray[Any], sky: NDArray[np.float64], noise: float) -> float:
    """Return the brightness above the sky of the brightest of the source.

    It is looked for in the central half, where a star at the edge does not count; in the whole
    image, if the central half holds sky alone.
    """
    height, width = planes.shape[-2:]
    centre = (slice(height // 4, height - height // 4), slice(width // 4, width - width // 4))
    peak = 0.0
    for rows, columns in (centre, (slice(None), slice(None))):
        n_values, top = _find_brightest(planes[:, rows, columns], sky)
        if not n_values:
            continue
        n_out = min(max(MIN_OUTLIERS, int(OUTLIERS * n_values)), n_values - 1)
        peak = float(np.partition(top, -1 - n_out)[-1 - n_out])
        if peak > CLIP * noise and peak > 0:
            break
        # Without noise, a source of few pixels counts all the same.
        peak = float(top.max()) if noise == 0 else peak
        if noise == 0 and peak > 0:
            break
    return max(peak, LEAST_PEAK * noise, np.finfo(np.float64).tiny)


def _find_percentiles(values: NDArray[Any]) -> tuple[float, float]:
    """Return `PERCENTILES` as `numpy.percentile` does in double precision; reorders the values."""
    places = [(len(values) - 1) * (percentile / 100) for percentile in PERCENTILES]
    below = [math.floor(place) for place in places]
    above = [min(index + 1, len(values) - 1) for index in below]
    values.partition(sorted({*below, *above}))
    found = []
    for place, index, other in zip(places, below, above, strict=True):
        first, second, weight = float(values[index]), float(values[other]), place - index
        step = second - first
        found.append(first + step * weight if weight < 0.5 else second - step * (1 - weight))
    return found[0], found[1]


def _stretch(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """Map low to black and high to white; NaN and minus infinity are black."""
    from astropy.visualization import AsinhStretch, ManualInterval, make_lupton_rgb

    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if values.ndim == 2 or len(values) != 3:
        # More or fewer than three planes are no colours, and each has the whole range.
        scaled = AsinhStretch(SOFTENING)(ManualInterval(low, high)(values))
        pixels = np.rint(255 * scaled).astype(np.uint8)
        return pixels if pixels.ndim == 2 else np.moveaxis(pixels, 0, -1)
    # The same stretch of the intensity, expressed in the parameters of Lupton et al.
    strength = 10 * math.sinh(0.1 * math.asinh(1 / SOFTENING))
    red, green, blue = values
    # astropy divides by zero where the sky is black, and then replaces the result by zero.
    return make_lupton_rgb(
        red, green, blue, minimum=low, stretch=strength * SOFTENING * (high - low), Q=strength
    )


def _check_colours(values: NDArray[Any]) -> None:
    n_planes = 1 if values.ndim == 2 else len(values)
    if n_planes != 3:
        planes = "one plane" if n_planes == 1 else f"{n_planes} planes"
        raise UnusableError(
            f"{planes}, expected red, green and blue for the stretch of Lupton et al.; choose "
            'three with [catalog] planes, or set [catalog] stretch = "sky"'
        )


def _stretch_lupton(values: NDArray[np.float64], lupton: Lupton) -> NDArray[np.uint8]:
    """Stretch three planes as astropy does; NaN and minus infinity are black."""
    from astropy.visualization import make_lupton_rgb

    red, green, blue = (
        np.nan_to_num(np.clip(plane, -LARGEST, LARGEST), nan=black)
        for plane, black in zip(values, lupton.minimum, strict=True)
    )
    # astropy divides by zero where the sky is black, and then replaces the result by zero.
    return make_lupton_rgb(
        red,
        green,
        blue,
        minimum=list(lupton.minimum),
        stretch=lupton.stretch,
        Q=lupton.softening,
    )


def _find_brightest(
    planes: NDArray[Any], sky: NDArray[np.float64]
) -> tuple[int, NDArray[np.float64]]:
    """Return how many pixels are finite, and the brightest above the sky, by some rows at a time.

    They are enough to leave out the outliers among all.
    """
    height, width = planes.shape[-2:]
    n_kept = max(MIN_OUTLIERS, int(OUTLIERS * height * width)) + 1
    n_values, top = 0, np.empty(0)
    n_rows = max(1, BLOCK // width)
    for start in range(0, height, n_rows):
        block = planes[:, start : start + n_rows].astype(np.float64) - sky[:, None, None]
        light = block.mean(axis=0)
        light = light[np.isfinite(light)]
        n_values += len(light)
        top = np.concatenate([top, light])
        if len(top) > n_kept:
            top = np.partition(top, -n_kept)[-n_kept:]
    return n_values, top
