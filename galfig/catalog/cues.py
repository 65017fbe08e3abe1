"""Cues: simulated galaxies whose class one known component decides, with masks of the component.

The galaxies are those of `galfig.catalog.simulate`, drawn without regard to their class. Then the
light of one component takes a tint: more green and less red and blue for one class, the opposite
for the other, at the same intensity. Nothing else depends on the class. Outside the masks, not one
pixel of a galaxy changes when its class does; images are PNG, so that this also holds for the
files. What a network learns beyond chance, it has therefore learnt inside the masks.

The cues follow Arras et al. 2022 (CLEVR-XAI, arXiv:2003.07258), where masks are the truth of maps,
and Clark et al. 2024 (XAI-TRIS, arXiv:2306.12816), from which the suppressor is taken.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from galfig.catalog.simulate import (
    BAND_SCALES,
    CUTOUT_SIZE,
    METALLICITY_EDGES,
    PIXEL_SCALE,
    SKY_NOISE,
    add_noise,
    draw_scene,
    make_rgb,
    measure_disk_radius,
    project_disk,
    simulate_catalog,
)
from galfig.errors import CatalogError, OutputError
from galfig.records import TRUTH_FILE, TruthRecord
from galfig.runtime.files import ErrorOrReplace, check_home, replace_file
from galfig.runtime.messages import require_choice
from galfig.runtime.options import Cue
from galfig.runtime.progress import track

CUE_SIZE = 96
"""Side of the cutouts [pixels], the centre of those of `galfig.catalog.simulate`."""
CLASS_NAMES = ("low", "high")
SETTINGS_FILE = "cue.toml"

TINT = 0.6
"""Share by which the green of a component's light differs from grey, up or down."""
SUPPRESSOR_SHIFT, SUPPRESSOR_RANGE = 0.3, 0.6
"""Tint of the class, and largest tint that the signal shares with the suppressor. Of the signal
alone, no network can classify more than 1 - (1 - 0.3 / 0.6) / 2 = 75 % correctly."""

CORE_RADIUS = 6.0
DISK_REACH = (0.7, 1.7)
"""Inner and outer radius of the tinted disk, in half-light radii of the galaxy."""
MIN_DISK_RADIUS = 4.0
BLOB_RADIUS = 6.0
BLOB_OFFSETS = (34.0, 39.0)
"""Least and largest distance of a blob from the centre, along rows and along columns [pixels]."""
N_KNOTS = 6
KNOT_RADIUS = 4.0

# The bands are i, r, g, shown as red, green and blue. A tint adds to r what it takes from i and g,
# so that the mean of the three as shown, from which an image takes its brightness, stays.
_GREEN = np.array([-1.0, 1.0, -1.0])
_GREEN[[0, 2]] *= BAND_SCALES[1] / (BAND_SCALES[0] + BAND_SCALES[2])
# Light of a blob at its centre, in units of the noise of the sky in r.
_BLOB_PEAK, _KNOT_PEAK = 10.0, 16.0

COMPONENTS: dict[Cue, dict[str, bool]] = {
    "core": {"core": True},
    "disk": {"disk": True},
    "knots": {"knots": True},
    "corner": {"corner": True},
    "conjunction": {"first": True, "second": True},
    "suppressor": {"signal": True, "suppressor": False},
}
"""Components of each cue, and whether a map may light them up."""

EPOCHS: dict[Cue, int] = {"conjunction": 16, "suppressor": 16}
"""Epochs in the settings of a cue, where 8 do not suffice to learn it."""


@dataclass(frozen=True)
class Component:
    """The light of a component, which takes the tint of the class.

    Attributes
    ----------
    light : (3, 96, 96) ndarray of float64
        Light without tint in i, r, g [nanomaggies/pixel].
    mask : (96, 96) ndarray of bool
        True where the light is not zero: the component.
    is_added : bool
        Whether the light comes on top of the galaxy's; otherwise it is part of it.
    """

    light: NDArray[np.float64]
    mask: NDArray[np.bool_]
    is_added: bool


def write_cue(
    folder: Path, cue: Cue, n: int = 600, seed: int = 0, *, if_exists: ErrorOrReplace = "error"
) -> Path:
    """Write galaxies whose class one component decides, with the masks of the component.

    ``images/<objID>.png`` are the cutouts, ``masks/<component>/<objID>.png`` the masks, 255 inside
    the component. ``truth.json`` says what they are, with a digest of all pixels; ``cue.toml`` are
    settings to train with. ``catalog.csv`` is written last, so an existing catalog belongs to a
    complete set.

    Parameters
    ----------
    folder : Path
        Output folder, created if needed.
    cue : {"core", "disk", "knots", "corner", "conjunction", "suppressor"}
        What decides the class; see `simulate_cue`.
    n : int, default 600
        Number of galaxies.
    seed : int, default 0
        Galaxy ``i`` depends only on ``(cue, seed, i)``.
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
    ConfigError
        If there is no such cue.
    OutputError
        If the folder or a file cannot be written.
    ValueError
        If ``n`` is less than 1, or ``seed`` is not from 0 to 2**64 - 1.
    """
    path = Path(folder) / "catalog.csv"
    check_home(path)
    if path.exists() and if_exists == "error":
        raise CatalogError(f'{path}: already exists; use `if_exists="replace"` to replace it')
    catalog = simulate_cue_catalog(cue, n, seed)
    digest = hashlib.sha256()
    rows: Iterable[Any] = track(catalog.to_dict("records"), "simulating", n, "galaxies")
    try:
        folders = {name: path.parent / "masks" / name for name in COMPONENTS[cue]}
        for one in (path.parent / "images", *folders.values()):
            one.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        for i, galaxy in enumerate(rows):
            cutout, masks = simulate_cue(galaxy, (seed, i, 1))
            name = f"{galaxy['objID']}.png"
            Image.fromarray(cutout).save(path.parent / "images" / name)
            for component, mask in masks.items():
                Image.fromarray(mask).save(folders[component] / name)
            digest.update(digest_galaxy(galaxy["objID"], galaxy["class"], cutout, masks))
    except OSError as exc:
        raise OutputError(f"{exc.filename or path}: cannot be written ({exc.strerror})") from exc
    truth = TruthRecord(
        cue=cue,
        seed=seed,
        n=n,
        size=CUE_SIZE,
        class_names=CLASS_NAMES,
        components=COMPONENTS[cue],
        digest=digest.hexdigest(),
    )
    words = json.dumps(truth.model_dump(), indent=1)
    for file, text in ((TRUTH_FILE, words), (SETTINGS_FILE, _write_settings(cue))):
        with replace_file(path.parent / file, if_exists="replace") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    with replace_file(path, if_exists=if_exists) as temporary:
        catalog.to_csv(temporary, index=False)
    return path


def digest_galaxy(
    objid: str, class_name: str, cutout: NDArray[np.uint8], masks: Mapping[str, NDArray[np.bool_]]
) -> bytes:
    """Return the SHA-256 of a galaxy's identifier, class, pixels and masks.

    Parameters
    ----------
    objid : str
        Identifier.
    class_name : str
        Name of the class.
    cutout : (H, W, 3) ndarray of uint8
        RGB.
    masks : mapping of str to (H, W) ndarray of bool
        Mask of each component, in the order of `COMPONENTS`.

    Returns
    -------
    bytes
        32 bytes.
    """
    digest = hashlib.sha256(f"{objid} {class_name}".encode())
    digest.update(cutout.tobytes())
    for name, mask in masks.items():
        digest.update(name.encode())
        digest.update(np.packbits(mask).tobytes())
    return digest.digest()


def simulate_cue_catalog(cue: Cue, n: int, seed: int) -> pd.DataFrame:
    """Draw galaxies, and classes that nothing of them depends on but the tint of a component.

    Parameters
    ----------
    cue : {"core", "disk", "knots", "corner", "conjunction", "suppressor"}
        What decides the class; see `simulate_cue`.
    n : int
        Number of galaxies.
    seed : int
        Galaxy ``i`` depends only on ``(cue, seed, i)``.

    Returns
    -------
    pandas.DataFrame
        One row per galaxy, with the columns of `galfig.catalog.simulate.simulate_catalog`. There,
        ``oh_p50`` alone depends on the class: it lies within 8.1 and 8.7 or within 9.1 and 9.3, the
        default classes "low" and "high". Of two galaxies in turn, one is of each class. New are the
        columns ``class``, the name of the class; ``cue``; and ``tint_<component>``, the share by
        which the component is greener than grey.

    Raises
    ------
    ConfigError
        If there is no such cue.
    ValueError
        If ``n`` is less than 1, or ``seed`` is not from 0 to 2**64 - 1.
    """
    require_choice("cue", cue, get_args(Cue))
    catalog = simulate_catalog(n, seed)
    catalog["objID"] = [f"{cue}{seed}-{i:05d}" for i in range(n)]
    stream = list(COMPONENTS).index(cue)
    # Two galaxies in turn are one of each class, in an order of their own.
    first = [np.random.default_rng((seed, i, 2, stream)).integers(2) for i in range((n + 1) // 2)]
    is_high = np.array([int(first[i // 2]) ^ (i % 2) for i in range(n)], dtype=bool)
    draws = np.array([np.random.default_rng((seed, i, 3, stream)).random(2) for i in range(n)])
    low, high = METALLICITY_EDGES[1:3], METALLICITY_EDGES[3:5]
    bounds = np.where(is_high[:, None], high, low)
    # Not on the edges, to which a bin belongs only in part.
    share = 0.02 + 0.96 * draws[:, 0]
    catalog["oh_p50"] = bounds[:, 0] + share * (bounds[:, 1] - bounds[:, 0])
    catalog["class"] = np.where(is_high, *CLASS_NAMES[::-1])
    catalog["cue"] = cue
    for component, tint in _draw_tints(cue, is_high, draws[:, 1]).items():
        catalog[f"tint_{component}"] = tint
    return catalog.round(5)


def simulate_cue(
    galaxy: Mapping[str, Any], seed: int | Sequence[int]
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.bool_]]]:
    """Draw a galaxy of a cue, and the masks of the components that are tinted.

    The cue is one of these. ``core``: the light within 6 pixels of the centre. ``disk``: the light
    between 0.7 and 1.7 half-light radii, in the plane of the disk. ``knots``: six clumps on the
    disk. ``corner``: a faint blob in one of the corners, away from the galaxy. ``conjunction``: two
    faint halves of a blob beside the galaxy, each of either tint; the class is "high" where they
    have the same. ``suppressor``: a blob, the signal, whose tint is that of the class plus a random
    one, and a wider blob in the opposite corner, the suppressor, which has the random one.

    Parameters
    ----------
    galaxy : mapping
        A row of `simulate_cue_catalog`.
    seed : int or sequence of int
        Seed of everything that the row does not set.

    Returns
    -------
    cutout : (96, 96, 3) ndarray of uint8
        (y, x), RGB last; the centre of the galaxy is at (47.5, 47.5).
    masks : dict of str to (96, 96) ndarray of bool
        Pixels that depend on the tint of each component. The masks do not depend on tints.
    """
    rng = np.random.default_rng(seed)
    scene, _ = draw_scene(galaxy, rng)
    center = slice((CUTOUT_SIZE - CUE_SIZE) // 2, (CUTOUT_SIZE + CUE_SIZE) // 2)
    image = scene[:, center, center]
    # A generator of its own, so that sky, noise and neighbours are those of every other tint.
    components = _place_components(galaxy, image, rng.spawn(1)[0])
    for name, component in components.items():
        tint = galaxy[f"tint_{name}"] * _GREEN[:, None, None]
        image += component.light * (tint + component.is_added)
    masks = {name: component.mask for name, component in components.items()}
    return make_rgb(add_noise(scene, rng))[center, center], masks


def _draw_tints(
    cue: Cue, is_high: NDArray[np.bool_], uniform: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the tint of each component, (N,), given the class and a uniform variate."""
    sign = np.where(is_high, 1.0, -1.0)
    if cue == "conjunction":
        first = np.where(uniform < 0.5, -1.0, 1.0)
        return {"first": TINT * first, "second": TINT * first * sign}
    if cue == "suppressor":
        shared = SUPPRESSOR_RANGE * (2 * uniform - 1)
        return {"signal": SUPPRESSOR_SHIFT * sign + shared, "suppressor": shared}
    return {component: TINT * sign for component in COMPONENTS[cue]}


def _place_components(
    galaxy: Mapping[str, Any], image: NDArray[np.float64], rng: np.random.Generator
) -> dict[str, Component]:
    """Place the components of a galaxy's cue on its image, (3, 96, 96), without noise."""
    axis = np.arange(CUE_SIZE, dtype=np.float64) - (CUE_SIZE - 1) / 2
    y, x = axis[:, None], axis[None, :]
    if galaxy["cue"] == "core":
        window = _taper(np.hypot(y, x) / CORE_RADIUS)
        return {"core": _tint_galaxy(image, window)}
    if galaxy["cue"] == "disk":
        radius = measure_disk_radius(galaxy, y, x) * PIXEL_SCALE / galaxy["petroR50_r"]
        outer = max(DISK_REACH[1], MIN_DISK_RADIUS * PIXEL_SCALE / galaxy["petroR50_r"])
        is_disk = (radius > DISK_REACH[0]) & (radius < outer)
        return {"disk": _tint_galaxy(image, is_disk.astype(np.float64))}
    if galaxy["cue"] == "knots":
        return {"knots": _add_knots(galaxy, y, x, rng)}
    corner = rng.choice([-1.0, 1.0], 2)
    offset = rng.uniform(*BLOB_OFFSETS, (2, 2)) * corner
    if galaxy["cue"] == "corner":
        return {"corner": _add_blob(y, x, offset[0])}
    if galaxy["cue"] == "suppressor":
        return {
            "signal": _add_blob(y, x, offset[0], peak=4 * _BLOB_PEAK),
            "suppressor": _add_blob(y, x, -offset[1], 8.0, sigma=3.5, peak=2 * _BLOB_PEAK),
        }
    blob = _add_blob(y, x, offset[0], sigma=2.6)
    angle = rng.uniform(0, 2 * np.pi)
    is_first = (y - offset[0, 0]) * math.sin(angle) + (x - offset[0, 1]) * math.cos(angle) < 0
    return {
        name: Component(blob.light * half, blob.mask & half, is_added=True)
        for name, half in (("first", is_first), ("second", ~is_first))
    }


def _tint_galaxy(image: NDArray[np.float64], window: NDArray[np.float64]) -> Component:
    """Have a part of the galaxy's own light take the tint: its mean over bands, in a window."""
    mean = np.maximum(image, 0).mean(axis=0) * window
    return Component(np.broadcast_to(mean, image.shape), window > 0, is_added=False)


def _add_blob(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    offset: NDArray[np.float64],
    edge: float = BLOB_RADIUS,
    *,
    sigma: float = 2.2,
    peak: float = _BLOB_PEAK,
) -> Component:
    """Add a Gaussian blob that ends at the radius ``edge``; its light is white as shown."""
    radius = np.hypot(y - offset[0], x - offset[1])
    light = peak * SKY_NOISE[1] * np.exp(-0.5 * (radius / sigma) ** 2)
    return _make_white(light * _taper(radius / edge))


def _add_knots(
    galaxy: Mapping[str, Any],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    rng: np.random.Generator,
) -> Component:
    """Add clumps to the disk, at random places between 0.7 and 1.7 half-light radii."""
    half_light = galaxy["petroR50_r"] / PIXEL_SCALE
    radius = np.maximum(rng.uniform(*DISK_REACH, N_KNOTS) * half_light, MIN_DISK_RADIUS)
    knot_y, knot_x = project_disk(galaxy, radius, rng.uniform(0, 2 * np.pi, N_KNOTS))
    distance = np.hypot(y - knot_y[:, None, None], x - knot_x[:, None, None])
    light = _KNOT_PEAK * SKY_NOISE[1] * np.exp(-0.5 * (distance / 1.6) ** 2)
    return _make_white(np.sum(light * _taper(distance / KNOT_RADIUS), axis=0))


def _make_white(light: NDArray[np.float64]) -> Component:
    """Give light, (96, 96) in r, the colour that is shown as grey."""
    white = BAND_SCALES[1] / BAND_SCALES
    return Component(light * white[:, None, None], light > 0, is_added=True)


def _taper(radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a window that is 1 up to two thirds of the radius, and 0 from the radius on."""
    return np.clip(3 * (1 - radius), 0, 1)


def _write_settings(cue: Cue) -> str:
    """Return the settings that train a network on the galaxies of a cue."""
    return (
        f"# The class is decided by the cue {cue!r} alone; see truth.json and masks.\n"
        "[catalog]\n"
        'path = "catalog.csv"\n'
        'images = "images/{objID}.png"\n'
        f"pixel_scale = {PIXEL_SCALE}\n\n"
        "[training]\n"
        'arch = "conv3"\n'
        f"epochs = {EPOCHS.get(cue, 8)}\n"
        f"cutout_size = {CUE_SIZE}\n"
        f"image_size = {CUE_SIZE // 2}\n"
    )
