"""Symmetry: whether maps follow the image when it is turned, mirrored or shifted."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galfig.attribution.orientations import ORIENTATIONS
from galfig.auditing.estimates import Measured, bootstrap_known, spearman
from galfig.auditing.orders import scale_map
from galfig.auditing.sample import Progress, Sample

# Shifts down and to the right [pixels].
SHIFTS = tuple(shift for n in (1, 2, 3, 4) for shift in ((n, 0), (0, n)))
# Correlation from which maps follow the image well enough to hold nothing against them.
SYMMETRIC = 0.9
# Galaxies that are turned and shifted.
N_TURNED = 200


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    """Compare maps with those of the image turned, mirrored and shifted, each mapped back.

    A square has eight symmetries, and a galaxy has none: its class does not depend on how it lies.
    Maps of turned images are turned back cell by cell. Maps of images shifted by 1 to 4 pixels,
    whose border is repeated where nothing is known, are compared where both exist, at the
    resolution of the image. A strip along the border lies so close to it that its cells see the
    padding [1]_: its share of the sum of the absolute map, over its share of the area, is 1 where
    padding does nothing to a flat map.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured
        ``orientations`` and ``shifts``, mean Spearman correlations; ``border``, the ratio of
        shares. The controls are the correlation with the map of another galaxy, and the ratio for
        the light in place of the map.

    References
    ----------
    .. [1] Alsallakh et al. 2021, ICLR, arXiv:2010.02178
    """
    n = len(sample)
    turned, shifted, other = (np.full(n, np.nan) for _ in range(3))
    chosen = sample.spread(N_TURNED)
    for number, next_number in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        base, turned[number], shifted[number] = _move(sample, number)
        other[number] = _quiet(base, sample.read_maps([next_number]))[0]
        progress(1)
    border, light = _measure_border(sample)
    progress(n - len(chosen))
    found = {"orientations": turned, "shifts": shifted, "border": border}
    numbers = bootstrap_known(found, seed=sample.seed)
    compared = {"another galaxy": other, "border of the light": light}
    controls = bootstrap_known(compared, seed=sample.seed)
    notes = [f"Turned and shifted were {len(chosen)} galaxies."]
    if sample.is_of_pixels:
        notes.append("The maps explain pixels, so that no border of a layer is told.")
    elif "border" not in numbers:
        notes.append("Padding reaches the whole image, so that no border can be told.")
    if sample.has_averaged:
        notes.append("The maps are averaged over the orientations, so that they are symmetric.")
    supports = not_supported = ""
    if "orientations" in numbers:
        value = numbers["orientations"].value
        supports = (
            f"When the image is turned or mirrored, the map follows with a correlation of "
            f"{value:.2f}."
        )
        not_supported = (
            "What of a map is not seen again when the image is turned or mirrored is no property "
            "of the galaxy."
            if numbers["orientations"].high < SYMMETRIC
            else ""
        )
    return Measured(
        name="symmetry",
        numbers=numbers,
        controls=controls,
        per_galaxy={
            "symmetry": tuple(turned.tolist()),
            "shift_symmetry": tuple(shifted.tolist()),
            "border_excess": tuple(border.tolist()),
        },
        notes=tuple(notes),
        supports=supports,
        not_supported=not_supported,
    )


def _move(sample: Sample, number: int) -> tuple[NDArray[np.float32], float, float]:
    """Return the map of a galaxy, (1, h, w), and its mean correlations when turned and shifted."""
    image, target = sample.images([number]), int(sample.predicted[number])
    batch = torch.cat([*(_turn(image, way) for way in ORIENTATIONS), *_shift_all(image)])
    cams = sample.explain(batch).cams[:, target]
    base = cams[:1].numpy()
    back = [
        _turn_back(cam[None], way)
        for cam, way in zip(cams[1 : len(ORIENTATIONS)], ORIENTATIONS[1:], strict=True)
    ]
    turned = float(np.mean(_quiet(base, np.concatenate(back))))
    shape = (image.shape[2], image.shape[3])
    return base, turned, _compare_shifted(base[0], cams[len(ORIENTATIONS) :].numpy(), shape)


def _turn(image: Tensor, way: tuple[int, bool]) -> Tensor:
    n_turns, is_mirrored = way
    return torch.rot90(image.flip(-1) if is_mirrored else image, n_turns, (-2, -1)).contiguous()


def _turn_back(cam: Tensor, way: tuple[int, bool]) -> NDArray[np.float32]:
    n_turns, is_mirrored = way
    back = torch.rot90(cam, -n_turns, (-2, -1))
    return (back.flip(-1) if is_mirrored else back).numpy()


def _shift_all(image: Tensor) -> Sequence[Tensor]:
    """Shift an image by all of `SHIFTS`; the border that comes in repeats its edge."""
    height, width = image.shape[2:]
    rows, columns = np.arange(height), np.arange(width)
    return [
        image[:, :, np.maximum(rows - down, 0)][..., np.maximum(columns - right, 0)]
        for down, right in SHIFTS
    ]


def _compare_shifted(
    base: NDArray[np.float32], cams: NDArray[np.float32], shape: tuple[int, int]
) -> float:
    """Return the mean correlation of maps of shifted images with the map, where both exist."""
    still = scale_map(base, shape)
    found = []
    for cam, (down, right) in zip(cams, SHIFTS, strict=True):
        moved = scale_map(cam, shape)[down:, right:]
        kept = still[: shape[0] - down, : shape[1] - right]
        found.append(_quiet(kept[None], moved[None])[0])
    return float(np.mean(found))


def _quiet(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the correlations; 0 where a map is constant, in which nothing is seen again."""
    return np.nan_to_num(spearman(first, second))


def _measure_border(sample: Sample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ratio of shares of the border, of each map and of its light; NaN for none."""
    of_map, of_light = np.full((2, len(sample)), np.nan)
    if sample.is_of_pixels:
        return of_map, of_light
    reach, size = (sample.field.side - 1) // 2, sample.checkpoint.image_size
    if reach < 1 or 2 * reach >= size:
        return of_map, of_light
    is_border = np.ones((size, size), bool)
    is_border[reach : size - reach, reach : size - reach] = False
    for chunk in sample.iter_chunks():
        cams, pixels = sample.read_maps(chunk), sample.read_pixels(chunk)
        for number, cam, cutout in zip(range(chunk.start, chunk.stop), cams, pixels, strict=True):
            weights = np.abs(scale_map(cam, (size, size))), cutout.mean(axis=2)
            for ratios, weight in zip((of_map, of_light), weights, strict=True):
                total = weight.mean()
                ratios[number] = weight[is_border].mean() / total if total > 0 else np.nan
    return of_map, of_light
