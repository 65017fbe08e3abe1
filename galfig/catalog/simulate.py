"""Simulated galaxies: SDSS-like gri cutouts and a catalog with known signs of metallicity.

Metal-rich galaxies have larger bulges and redder, smoother disks. Metal-poor galaxies have more
H II knots, farther from the centre. All of these depend on one latent number, the stage of a
galaxy, which is its metallicity with scatter. `STAGE_SCATTER` therefore sets how well the classes
can be separated.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from astropy.cosmology import Planck18
from astropy.visualization import make_lupton_rgb
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from galfig.errors import CatalogError, OutputError
from galfig.runtime.files import ErrorOrReplace, check_home, replace_file
from galfig.runtime.progress import track

CUTOUT_SIZE = 160
PIXEL_SCALE = 0.396
"""Pixel scale of SDSS [arcsec/pixel]."""
JPEG_QUALITY = 92

STAGE_SCATTER = 0.33
"""Scatter of the stage at a given metallicity, in units of `STAGE_WIDTH`."""
STAGE_CENTER = 8.9
STAGE_WIDTH = 0.3
"""Centre and width [dex] of the stage, which is (metallicity - centre) / width plus scatter."""

METALLICITY_EDGES = (8.0, 8.1, 8.7, 9.1, 9.3, 9.35)
METALLICITY_FRACTIONS = (0.013, 0.32, 0.342, 0.312, 0.013)
METALLICITY_SLOPES = (0.0, 0.75, 0.2, -0.3, 0.0)
"""Between two edges the density is linear, from 1 - slope on the left to 1 + slope on the right."""

REDSHIFT_RANGE = (0.01, 0.25)
REDSHIFT_MEDIAN = 0.082
REDSHIFT_SIGMA = 0.65
"""Standard deviation of the natural logarithm of redshift."""

# Every array of bands is in the order i, r, g, which become red, green and blue.
SKY_NOISE = np.array([0.040, 0.026, 0.018])
"""Standard deviation of the sky in i, r, g [nanomaggies/pixel]."""
ELECTRONS = np.array([650.0, 940.0, 1000.0])
"""Electrons per nanomaggy in i, r, g."""
BAND_SCALES = np.array([1.0, 1.2, 1.45])
"""Factors that turn i, r, g into red, green and blue."""
SEEING_RATIOS = np.array([0.96, 1.0, 1.08])
"""Width of the seeing in i, r, g, relative to r."""
DUST_LAW = np.array([0.75, 1.0, 1.3])
"""Optical depth in i, r, g, relative to r."""
ARM_CONTRASTS = np.array([0.85, 1.0, 1.2])
STRETCH = 0.62
"""Stretch of `make_rgb`; this and the next two are tuned by eye to the noise of SDSS cutouts."""
SOFTENING = 8.0
BLACK_POINT = -0.005

# Largest seed, which a record can name.
MAX_SEED = (1 << 64) - 1

# Sources are drawn on a wider grid: light from sources just outside the cutout spreads into it,
# and the margin takes what the Fourier transform wraps around.
_MARGIN = 16
_PADDED = CUTOUT_SIZE + 2 * _MARGIN
_MOFFAT_BETA = 3
_DISK_THICKNESS = 0.2
# The root of x^3 = x + 1; steps by its inverse powers fill a square most evenly.
_PLASTIC_NUMBER = 1.32471795724474602596

_UNIFORMS = (
    *("value", "ra", "dec", "inclination", "position_angle"),
    *("arms", "arm_phase", "winding", "lopsidedness"),
)
_NORMALS = (
    *("stage", "size", "brightness", "bulge_fraction", "bulge_size", "sersic"),
    *("disk_color", "bulge_color", "knot_fraction", "knots", "pitch", "arm_strength", "dust"),
)


def write_simulated(
    folder: Path,
    n: int = 600,
    seed: int = 0,
    *,
    if_exists: ErrorOrReplace = "error",
) -> Path:
    """Write simulated galaxies: first ``images/<objID>.jpg``, then ``catalog.csv``.

    The catalog is written last, so an existing catalog belongs to a complete set of images. When
    a set is replaced, old images that the new set does not overwrite are kept.

    Parameters
    ----------
    folder : Path
        Output folder, created if needed.
    n : int, default 600
        Number of galaxies.
    seed : int, default 0
        Galaxy ``i`` depends only on ``(seed, i)``, so a sample of ten is the first ten of 600.
    if_exists : {"error", "replace"}, default "error"
        What to do if the catalog exists.

    Returns
    -------
    Path
        Path of the catalog.

    Raises
    ------
    CatalogError
        If the catalog exists and ``if_exists`` is "error".
    OutputError
        If the folder or a file cannot be written.
    ValueError
        If ``n`` is less than 1, or ``seed`` is not from 0 to 2**64 - 1.
    """
    path = Path(folder) / "catalog.csv"
    check_home(path)
    if path.exists() and if_exists == "error":
        raise CatalogError(f'{path}: already exists; use `if_exists="replace"` to replace it')
    catalog = simulate_catalog(n, seed)
    images = path.parent / "images"
    galaxies: Iterable[Any] = track(catalog.to_dict("records"), "simulating", n, "galaxies")
    try:
        images.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        for i, galaxy in enumerate(galaxies):
            cutout = Image.fromarray(simulate_cutout(galaxy, (seed, i, 1)))
            cutout.save(images / f"{galaxy['objID']}.jpg", quality=JPEG_QUALITY)
    except OSError as exc:
        raise OutputError(f"{exc.filename or images}: cannot be written ({exc.strerror})") from exc
    with replace_file(path, if_exists=if_exists) as temporary:
        catalog.to_csv(temporary, index=False)
    return path


def simulate_catalog(n: int, seed: int) -> pd.DataFrame:
    """Draw the properties of galaxies: those that a survey lists, and those that shape the image.

    Redshift is independent of metallicity, and both are independent of position on the sky.

    Parameters
    ----------
    n : int
        Number of galaxies.
    seed : int
        Galaxy ``i`` depends only on ``(seed, i)``.

    Returns
    -------
    pandas.DataFrame
        One row per galaxy, with the columns ``objID``; ``ra``, ``dec`` [deg]; ``z``, the
        redshift; ``oh_p50`` = 12 + log(O/H) [dex]; ``r_mag`` [mag]; ``petroR50_r``, the
        half-light radius [arcsec]; ``r50_kpc``, the same [kpc]; ``inclination`` [deg];
        ``position_angle`` [deg], from up to the left; ``bulge_fraction`` of the r flux;
        ``bulge_r50`` [arcsec]; ``sersic_index`` of the bulge; ``disk_g_r``, ``bulge_g_r`` [mag];
        ``knot_fraction`` of the r flux of the disk; ``n_knots``; ``n_arms``; ``pitch_angle``,
        ``arm_phase`` [deg]; ``winding``, 1 or -1; ``arm_strength`` and ``lopsidedness``, 0 to 1;
        ``dust``, an optical depth in r; and ``simulated``, which is True.

    Raises
    ------
    ValueError
        If ``n`` is less than 1, or ``seed`` is not from 0 to 2**64 - 1.
    """
    if n < 1:
        raise ValueError(f"n: {n!r}, expected 1 or more")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed: {seed!r}, expected 0 to {MAX_SEED}")
    uniform, normal = _draw_variates(n, seed)
    metallicity = draw_metallicity(uniform["class"], uniform["value"])
    redshift = draw_redshift(uniform["redshift"])
    stage = (metallicity - STAGE_CENTER) / STAGE_WIDTH + STAGE_SCATTER * normal["stage"]

    r50_kpc, r50 = _draw_size(redshift, normal["size"])
    # Mean surface brightness within r50 [mag/arcsec^2], from which the magnitude follows.
    brightness = 20.95 - 0.1 * stage + 6 * (redshift - 0.08) + 0.38 * normal["brightness"]
    bulge_fraction = _logistic(-2.0 + 0.8 * stage + 0.7 * normal["bulge_fraction"])
    knot_fraction = 0.4 * _logistic(-1.3 - 0.7 * stage + 0.6 * normal["knot_fraction"])
    arm_strength = 0.75 * _logistic(0.5 + 0.3 * stage + normal["arm_strength"])
    reddening = 1.1 * (redshift - 0.08)
    catalog = pd.DataFrame(
        {
            "objID": [f"sim{seed}-{i:05d}" for i in range(n)],
            "ra": 120 + 120 * uniform["ra"],
            "dec": np.rad2deg(np.arcsin(uniform["dec"] * math.sin(math.radians(60)))),
            "z": redshift,
            "oh_p50": metallicity,
            "r_mag": brightness - 2.5 * np.log10(2 * np.pi * r50**2),
            "petroR50_r": r50,
            "r50_kpc": r50_kpc,
            "inclination": np.rad2deg(np.arccos(uniform["inclination"])),
            "position_angle": 180 * uniform["position_angle"],
            "bulge_fraction": bulge_fraction,
            "bulge_r50": r50 * np.clip(0.25 * np.exp(0.2 * normal["bulge_size"]), 0.15, 0.6),
            "sersic_index": np.clip(1.4 + 2.5 * bulge_fraction + 0.4 * normal["sersic"], 0.8, 4),
            "disk_g_r": 0.47 + 0.085 * stage + reddening + 0.045 * normal["disk_color"],
            "bulge_g_r": 0.83 + 0.045 * stage + reddening + 0.05 * normal["bulge_color"],
            "knot_fraction": knot_fraction,
            "n_knots": np.rint(np.exp(2.6 - 0.3 * stage + 0.4 * normal["knots"])).astype(int),
            "n_arms": np.digitize(uniform["arms"], [0.65, 0.85]) + 2,
            "pitch_angle": np.clip(19 - 2 * stage + 5 * normal["pitch"], 8, 35),
            "arm_phase": 360 * uniform["arm_phase"],
            "winding": np.where(uniform["winding"] < 0.5, -1, 1),
            "arm_strength": arm_strength,
            "lopsidedness": uniform["lopsidedness"] ** 2 * 0.6 * _logistic(-stage),
            "dust": 0.25 * np.exp(0.15 * stage + 0.4 * normal["dust"]),
            "simulated": True,
        }
    )
    # Rounded as the file stores it, so that a galaxy can be drawn again from its row.
    return catalog.round(5)


def simulate_cutout(galaxy: Mapping[str, Any], seed: int | Sequence[int]) -> NDArray[np.uint8]:
    """Draw a galaxy as SDSS would show it, with neighbours, stars and noise.

    Parameters
    ----------
    galaxy : mapping
        A row of `simulate_catalog`.
    seed : int or sequence of int
        Seed of everything that the row does not set: knots, neighbours, stars, seeing and noise.

    Returns
    -------
    (160, 160, 3) ndarray of uint8
        (y, x), RGB last; the centre of the galaxy is at (79.5, 79.5).
    """
    rng = np.random.default_rng(seed)
    image, _ = draw_scene(galaxy, rng)
    return make_rgb(add_noise(image, rng))


def draw_scene(
    galaxy: Mapping[str, Any], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw a galaxy with its knots, its neighbours and the stars before it, without noise.

    Parameters
    ----------
    galaxy : mapping
        A row of `simulate_catalog`.
    rng : numpy.random.Generator
        Source of everything that the row does not set.

    Returns
    -------
    image : (3, 160, 160) ndarray of float64
        i, r, g [nanomaggies/pixel], after seeing.
    fwhm : (3,) ndarray of float64
        Width of the seeing in i, r, g [pixels].
    """
    sources = draw_galaxy(galaxy)
    _add_knots(sources, galaxy, rng)
    _add_neighbours(sources, rng)
    fwhm = SEEING_RATIOS * np.clip(rng.normal(1.28, 0.09), 1.05, 1.6) / PIXEL_SCALE
    image = convolve_moffat(sources, fwhm)[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    _add_stars(image, fwhm, rng)
    return image, fwhm


def draw_metallicity(uniform_class: ArrayLike, uniform_value: ArrayLike) -> NDArray[np.float64]:
    """Turn uniform variates into metallicities.

    Parameters
    ----------
    uniform_class : (N,) array_like of float
        Variates in [0, 1) that choose the interval between two of `METALLICITY_EDGES`.
    uniform_value : (N,) array_like of float
        Variates in [0, 1) that choose the place within the interval.

    Returns
    -------
    (N,) ndarray of float64
        12 + log(O/H) [dex].
    """
    edges = np.array(METALLICITY_EDGES)
    cumulative = np.cumsum(METALLICITY_FRACTIONS) / np.sum(METALLICITY_FRACTIONS)
    interval = np.minimum(np.searchsorted(cumulative, uniform_class), len(edges) - 2)
    slope = np.array(METALLICITY_SLOPES)[interval]
    # The inverse of the cumulative distribution (1 - slope) x + slope x^2, never dividing by slope.
    root = np.sqrt((1 - slope) ** 2 + 4 * slope * np.asarray(uniform_value))
    position = 2 * np.asarray(uniform_value) / (1 - slope + root)
    return edges[interval] + position * np.diff(edges)[interval]


def draw_redshift(uniform: ArrayLike) -> NDArray[np.float64]:
    """Turn uniform variates into redshifts: log-normal, truncated to `REDSHIFT_RANGE`.

    Parameters
    ----------
    uniform : (N,) array_like of float
        Variates in [0, 1).

    Returns
    -------
    (N,) ndarray of float64
        Redshifts.
    """
    normal = NormalDist(math.log(REDSHIFT_MEDIAN), REDSHIFT_SIGMA)
    low, high = (normal.cdf(math.log(edge)) for edge in REDSHIFT_RANGE)
    return np.exp([normal.inv_cdf(low + (high - low) * u) for u in np.asarray(uniform)])


def draw_galaxy(galaxy: Mapping[str, Any]) -> NDArray[np.float64]:
    """Draw the disk, the spiral arms and the bulge of a galaxy, before seeing.

    Parameters
    ----------
    galaxy : mapping
        A row of `simulate_catalog`.

    Returns
    -------
    (3, 192, 192) ndarray of float64
        i, r, g [nanomaggies/pixel], 16 pixels wider than the cutout on each side.
    """
    axis = np.arange(_PADDED, dtype=np.float64) - (_PADDED - 1) / 2
    image = surface_brightness(galaxy, axis[:, None], axis)
    # The bulge varies within a pixel, so the centre is averaged over finer pixels.
    half, fine = 8, 6
    edge = _PADDED // 2 - half
    axis = (np.arange(2 * half * fine, dtype=np.float64) + 0.5) / fine - half
    center = surface_brightness(galaxy, axis[:, None], axis)
    center = center.reshape(3, 2 * half, fine, 2 * half, fine).mean(axis=(2, 4))
    image[:, edge:-edge, edge:-edge] = center
    return image


def surface_brightness(
    galaxy: Mapping[str, Any], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    r"""Compute the surface brightness of a galaxy, before seeing.

    The galaxy is the sum of a disk and a Sersic bulge. The disk is exponential, times
    :math:`1 + a (e^{k (\cos\psi - 1)} / \langle\cdot\rangle - 1)`, where :math:`\psi` is the phase
    of logarithmic spirals. Dust dims the whole galaxy more with increasing inclination, and most of
    all what lies behind the near half of the disk.

    Parameters
    ----------
    galaxy : mapping
        A row of `simulate_catalog`.
    y, x : ndarray of float64
        Offsets from the centre [pixels]; they broadcast to (H, W).

    Returns
    -------
    (3, H, W) ndarray of float64
        i, r, g [nanomaggies/pixel].
    """
    bulge_flux, disk_flux, _ = component_fluxes(galaxy)
    along, across = _rotate(y, x, galaxy["position_angle"])
    axis_ratio = _axis_ratio(galaxy["inclination"])
    scale = _disk_scale(galaxy)

    radius = np.hypot(along, across / axis_ratio)
    azimuth = np.arctan2(across / axis_ratio, along)
    disk = np.exp(-radius / scale) / (2 * np.pi * scale**2 * axis_ratio)
    offset = azimuth - math.radians(galaxy["arm_phase"])
    disk *= 1 + galaxy["lopsidedness"] * np.cos(offset) * radius / (radius + scale)
    sharpness = 1.8
    crest = np.exp(sharpness * (np.cos(_spiral_phase(galaxy, radius, azimuth)) - 1))
    crest /= np.i0(sharpness) * math.exp(-sharpness)
    # Arms vanish in the centre, and in disks that are seen edge-on.
    face_on = 1 - (1 - axis_ratio) ** 2
    arms = face_on * galaxy["arm_strength"] * (1 - np.exp(-((radius / scale) ** 2))) * (crest - 1)

    bulge_ratio = 1 - 0.5 * (1 - axis_ratio)
    bulge = _sersic(
        np.hypot(along, across / bulge_ratio) * math.sqrt(bulge_ratio),
        galaxy["bulge_r50"] / PIXEL_SCALE,
        galaxy["sersic_index"],
    )
    near_side = _logistic(across / axis_ratio / (0.4 * scale)) * np.exp(-radius / (2 * scale))
    depth = galaxy["dust"] * (0.4 * math.log(1 / axis_ratio) + 2 * (1 - axis_ratio) * near_side)

    bands = zip(bulge_flux, disk_flux, ARM_CONTRASTS, DUST_LAW, strict=True)
    return np.stack(
        [
            (b * bulge + d * disk * np.maximum(1 + contrast * arms, 0.05)) * np.exp(-law * depth)
            for b, d, contrast, law in bands
        ]
    )


def measure_disk_radius(
    galaxy: Mapping[str, Any], y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Measure the distance from the centre in the plane of the disk.

    Parameters
    ----------
    galaxy : mapping
        A row of `simulate_catalog`.
    y, x : ndarray of float64
        Offsets from the centre as seen [pixels]; they broadcast to (H, W).

    Returns
    -------
    (H, W) ndarray of float64
        Distances [pixels].
    """
    along, across = _rotate(y, x, galaxy["position_angle"])
    return np.hypot(along, across / _axis_ratio(galaxy["inclination"]))


def project_disk(
    galaxy: Mapping[str, Any], radius: NDArray[np.float64], azimuth: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Say where places in the plane of the disk are seen.

    Parameters
    ----------
    galaxy : mapping
        A row of `simulate_catalog`.
    radius : (K,) ndarray of float64
        Distances from the centre in the plane of the disk [pixels].
    azimuth : (K,) ndarray of float64
        Angles in the plane, from the major axis [rad].

    Returns
    -------
    y, x : (K,) ndarray of float64
        Offsets from the centre as seen [pixels].
    """
    along = radius * np.cos(azimuth)
    across = radius * np.sin(azimuth) * _axis_ratio(galaxy["inclination"])
    return _rotate_back(along, across, galaxy["position_angle"])


def component_fluxes(galaxy: Mapping[str, Any]) -> tuple[NDArray[np.float64], ...]:
    """Return the fluxes of the bulge, the smooth disk and the knots together.

    Parameters
    ----------
    galaxy : mapping
        A row of `simulate_catalog`.

    Returns
    -------
    bulge, disk, knots : (3,) ndarray of float64
        Fluxes in i, r, g [nanomaggies].
    """
    total = 10 ** (0.4 * (22.5 - galaxy["r_mag"]))
    bulge = total * galaxy["bulge_fraction"]
    knots = (total - bulge) * galaxy["knot_fraction"]
    disk = total - bulge - knots
    # H-alpha moves from r to i at a redshift of about 0.05, and the knots turn pink.
    knot_r_i = 0.12 if galaxy["z"] > 0.05 else -0.25
    return (
        bulge * _flux_ratios(galaxy["bulge_g_r"]),
        disk * _flux_ratios(galaxy["disk_g_r"]),
        knots * _flux_ratios(galaxy["disk_g_r"] - 0.42, knot_r_i),
    )


def convolve_moffat(image: NDArray[np.float64], fwhm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolve each band with a Moffat profile of unit sum.

    Parameters
    ----------
    image : (3, H, W) ndarray of float64
        Image. Its edges wrap around, and the profile is truncated at a radius of 16 pixels: leave
        a margin of that width.
    fwhm : (3,) ndarray of float64
        Full width at half maximum in each band [pixels].

    Returns
    -------
    (3, H, W) ndarray of float64
        Image after seeing, in the unit of ``image``.
    """
    y, x = (np.fft.fftfreq(length, 1 / length) for length in image.shape[1:])
    squared = y[:, None] ** 2 + x**2
    kernel = np.stack([moffat(squared, width) for width in fwhm])
    kernel *= squared <= _MARGIN**2
    kernel /= kernel.sum(axis=(1, 2), keepdims=True)
    product = np.fft.rfft2(image) * np.fft.rfft2(kernel)
    return np.fft.irfft2(product, s=image.shape[1:])


def moffat(squared_radius: NDArray[np.float64], fwhm: float) -> NDArray[np.float64]:
    """Return the Moffat profile of index 3 and unit flux.

    Parameters
    ----------
    squared_radius : (H, W) ndarray of float64
        Squared distance from the centre [pixels^2].
    fwhm : float
        Full width at half maximum [pixels].

    Returns
    -------
    (H, W) ndarray of float64
        Surface brightness [1/pixel].
    """
    core = (fwhm / 2) ** 2 / (2 ** (1 / _MOFFAT_BETA) - 1)
    return (_MOFFAT_BETA - 1) / (np.pi * core) / (1 + squared_radius / core) ** _MOFFAT_BETA


def add_noise(image: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Add sky noise and photon noise.

    The noise is correlated between neighbouring pixels, as in resampled survey images.

    Parameters
    ----------
    image : (3, H, W) ndarray of float64
        i, r, g [nanomaggies/pixel].
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    (3, H, W) ndarray of float64
        Noisy image [nanomaggies/pixel].
    """
    n_bands, height, width = image.shape
    noise = rng.standard_normal((n_bands, height + 2, width + 2))
    noise = (noise[:, :-2] + 2 * noise[:, 1:-1] + noise[:, 2:]) / 4
    noise = (noise[:, :, :-2] + 2 * noise[:, :, 1:-1] + noise[:, :, 2:]) / 4
    variance = SKY_NOISE[:, None, None] ** 2 + np.maximum(image, 0) / ELECTRONS[:, None, None]
    return image + noise * np.sqrt(variance)


def make_rgb(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Turn an image in i, r, g into RGB, as SDSS does [1]_.

    Parameters
    ----------
    image : (3, H, W) ndarray of float64
        i, r, g [nanomaggies/pixel].

    Returns
    -------
    (H, W, 3) ndarray of uint8
        RGB.

    References
    ----------
    .. [1] Lupton et al. 2004, PASP 116, 133, arXiv:astro-ph/0312483
    """
    scaled = image * BAND_SCALES[:, None, None]
    return make_lupton_rgb(*scaled, minimum=BLACK_POINT, stretch=STRETCH, Q=SOFTENING)


def _draw_variates(n: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw the uniform and the normal variates of every galaxy, each from its own generator.

    The variates of class and redshift follow a low-discrepancy sequence, so that even a small
    sample comes close to the intended fractions.
    """
    generators = [np.random.default_rng((seed, i, 0)) for i in range(n)]
    uniform = pd.DataFrame([rng.random(len(_UNIFORMS)) for rng in generators], columns=_UNIFORMS)
    normal = pd.DataFrame(
        [rng.standard_normal(len(_NORMALS)) for rng in generators], columns=_NORMALS
    )
    start = np.random.default_rng(seed).random(2)
    steps = np.arange(n)[:, None] / _PLASTIC_NUMBER ** np.array([1, 2])
    uniform[["class", "redshift"]] = (start + steps) % 1
    return uniform, normal


def _draw_size(
    redshift: NDArray[np.float64], normal: pd.Series
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw half-light radii [kpc], and their apparent size [arcsec].

    Galaxies are larger at higher redshift, as in a flux-limited sample. Apparent sizes are clipped
    to suit the cutout.
    """
    kpc_per_arcsec = 1e3 * np.deg2rad(Planck18.angular_diameter_distance(redshift).value) / 3600
    r50_kpc = 5.0 * (redshift / 0.08) ** 0.55 * np.exp(0.24 * normal.to_numpy())
    r50 = np.clip(r50_kpc / kpc_per_arcsec, 1.9, 7.5)
    return r50 * kpc_per_arcsec, r50


def _add_knots(
    sources: NDArray[np.float64], galaxy: Mapping[str, Any], rng: np.random.Generator
) -> None:
    n_knots = int(galaxy["n_knots"])
    _, _, flux = component_fluxes(galaxy)
    scale = _disk_scale(galaxy)
    # Galaxies with many knots, which tend to be metal-poor, have them farther from the centre.
    reach = 1 + 1.2 * galaxy["knot_fraction"]
    radius = np.minimum(rng.gamma(2, reach * scale, n_knots), rng.uniform(2.5, 4, n_knots) * scale)
    azimuth = rng.uniform(0, 2 * np.pi, n_knots)
    on_arm = rng.random(n_knots) < 0.25 + 0.75 * galaxy["arm_strength"]
    phase = _spiral_phase(galaxy, radius, azimuth)
    to_crest = (np.mod(phase + np.pi, 2 * np.pi) - np.pi + rng.normal(0, 0.5, n_knots)) / galaxy[
        "n_arms"
    ]
    azimuth -= np.where(on_arm, to_crest, 0)
    weight = np.exp(-radius / (4 * scale)) * (0.1 + rng.random(n_knots)) ** -0.8
    colors = 10 ** (0.4 * rng.normal(0, [[0.15], [0.0], [0.15]], (3, n_knots)))
    fluxes = flux[:, None] * weight / max(weight.sum(), 1e-9) * colors

    center = (_PADDED - 1) / 2
    y, x = project_disk(galaxy, radius, azimuth)
    # A knot is a cluster of points, so that it does not look like a star.
    n_points = 6
    spread = rng.normal(0, 0.16 * scale, (2, n_points, n_knots))
    y, x = center + (spread + np.stack([y, x])[:, None]).reshape(2, -1)
    _add_points(sources, y, x, np.tile(fluxes / n_points, n_points))


def _add_points(
    sources: NDArray[np.float64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    fluxes: NDArray[np.float64],
) -> None:
    """Add points at fractional positions to (3, H, W), each spread over the four nearest pixels."""
    height, width = sources.shape[1:]
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    inside = (row >= 0) & (row < height - 1) & (column >= 0) & (column < width - 1)
    y, x, row, column, fluxes = y[inside], x[inside], row[inside], column[inside], fluxes[:, inside]
    for i, share_y in enumerate((1 - (y - row), y - row)):
        for j, share_x in enumerate((1 - (x - column), x - column)):
            for band, flux in zip(sources, fluxes, strict=True):
                np.add.at(band, (row + i, column + j), flux * share_y * share_x)


def _add_neighbours(sources: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Add other galaxies, as exponential disks; no bright one lies near the centre."""
    n_neighbours = rng.poisson(4.5)
    for _ in range(n_neighbours):
        r_mag = max(22.6 - rng.exponential(1.1), 17.5)
        y, x = rng.uniform(0, _PADDED - 1, 2)
        scale = rng.uniform(0.3, 0.7) * 10 ** (0.12 * (22 - r_mag)) / PIXEL_SCALE
        axis_ratio, angle = rng.uniform(0.35, 1), rng.uniform(0, 180)
        g_r = np.clip(rng.normal(0.85, 0.35), 0.1, 1.7)
        distance = math.hypot(y - _PADDED / 2, x - _PADDED / 2)
        if r_mag < 20.5 and distance < 45:
            continue
        half = math.ceil(6 * scale) + 1
        rows = np.arange(max(int(y) - half, 0), min(int(y) + half + 1, _PADDED))
        columns = np.arange(max(int(x) - half, 0), min(int(x) + half + 1, _PADDED))
        along, across = _rotate(rows[:, None] - y, columns - x, angle)
        # Softened, so that the cusp of a small disk is not sampled.
        radius = np.sqrt(along**2 + (across / axis_ratio) ** 2 + 0.1)
        disk = np.exp(-radius / scale)
        flux = 10 ** (0.4 * (22.5 - r_mag)) * _flux_ratios(g_r)
        window = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        sources[window] += flux[:, None, None] * disk / (2 * np.pi * scale**2 * axis_ratio)


def _add_stars(
    image: NDArray[np.float64], fwhm: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Add foreground stars to (3, H, W) as exact profiles: the wings of bright ones are wide."""
    axis = np.arange(CUTOUT_SIZE)
    for _ in range(rng.poisson(3.2)):
        r_mag = max(22.3 - rng.exponential(1.5), 14.0)
        y, x = rng.uniform(-4, CUTOUT_SIZE + 3, 2)
        if rng.random() < 0.5:
            g_r, r_i = rng.normal(1.42, 0.08), rng.uniform(0.6, 1.6)
        else:
            g_r = rng.uniform(0.2, 1.0)
            r_i = 0.36 * g_r - 0.02
        distance = math.hypot(y - CUTOUT_SIZE / 2, x - CUTOUT_SIZE / 2)
        if r_mag < 19 and distance < 35:
            continue
        squared = (axis[:, None] - y) ** 2 + (axis - x) ** 2
        flux = 10 ** (0.4 * (22.5 - r_mag)) * _flux_ratios(g_r, r_i)
        for band, total, width in zip(image, flux, fwhm, strict=True):
            band += total * moffat(squared, width)


def _flux_ratios(g_r: float, r_i: float | None = None) -> NDArray[np.float64]:
    """Return fluxes in i, r, g for unit flux in r; by default r - i follows the galaxy locus."""
    r_i = 0.06 + 0.42 * g_r if r_i is None else r_i
    return 10 ** (0.4 * np.array([r_i, 0.0, -g_r]))


def _sersic(radius: NDArray[np.float64], half_light: float, index: float) -> NDArray[np.float64]:
    """Return the Sersic profile of unit flux, with b_n as in Ciotti & Bertin 1999."""
    b = 2 * index - 1 / 3 + 4 / (405 * index) + 46 / (25515 * index**2)
    flux = 2 * np.pi * half_light**2 * index * b ** (-2 * index) * math.gamma(2 * index)
    return np.exp(-b * (radius / half_light) ** (1 / index)) / flux


def _spiral_phase(
    galaxy: Mapping[str, Any], radius: NDArray[np.float64], azimuth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the phase of logarithmic spirals, 0 on the crest of an arm."""
    wound = np.log(radius / _disk_scale(galaxy) + 0.05) / math.tan(
        math.radians(galaxy["pitch_angle"])
    )
    turned = azimuth - math.radians(galaxy["arm_phase"])
    return galaxy["n_arms"] * (turned - galaxy["winding"] * wound)


def _disk_scale(galaxy: Mapping[str, Any]) -> float:
    """Return the scale length of the disk [pixels] that gives the galaxy its petroR50_r."""
    half_light = galaxy["petroR50_r"] * (1 + 0.55 * galaxy["bulge_fraction"])
    return half_light / 1.678 / PIXEL_SCALE


def _axis_ratio(inclination: float) -> float:
    cosine = math.cos(math.radians(inclination))
    return math.sqrt(_DISK_THICKNESS**2 + (1 - _DISK_THICKNESS**2) * cosine**2)


def _rotate(
    y: NDArray[np.float64], x: NDArray[np.float64], angle: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn offsets in y (down) and x into offsets along and across a position angle [deg]."""
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return -sine * x - cosine * y, cosine * x - sine * y


def _rotate_back(
    along: NDArray[np.float64], across: NDArray[np.float64], angle: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    return -cosine * along - sine * across, -sine * along + cosine * across


def _logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))
