"""Receptive field: how much of an image a cell of the maps sees, and the logit depends on."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from galfig.auditing.estimates import Estimate, Measured, bootstrap
from galfig.auditing.sample import Progress, Sample
from galfig.errors import ConfigError
from galfig.networks.receptive import SHARE

# Galaxies for which the gradient of the logit is taken.
N_GRADIENTS = 100
# A cell that sees less of the side of an image cannot know where in the galaxy it lies.
LOCAL = 0.5


def measure(sample: Sample, *, progress: Progress = lambda n: None) -> Measured:
    r"""Measure the receptive field of a cell of the maps, and what of the logit lies inside it.

    The side is that of the square around the central cell of the maps that holds every pixel on
    which the cell depends, as far as the image reaches; its core holds 95 % of the absolute
    gradient [1]_. The measured share is that of :math:`(\partial z_c / \partial x)^2`, for the
    predicted class :math:`c`, inside the square around the brightest cell of the map. Its control
    is the share of the area.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    progress : callable, optional
        Called with the number of galaxies done since the last call.

    Returns
    -------
    Measured
        ``side`` and ``core`` [pixels of the cutout], ``side_share`` of the side of the cutout;
        ``side_arcsec`` and ``side_kpc``, medians over galaxies, where scales and redshifts are
        known; ``energy_inside``. Those without scatter have no width.

    Raises
    ------
    ConfigError
        If the maps explain pixels, and no layer.

    References
    ----------
    .. [1] Luo et al. 2016, NeurIPS, arXiv:1701.04128
    """
    if sample.is_of_pixels:
        raise ConfigError(
            f"{sample.store.path}: its maps explain pixels, of which each sees itself and depends "
            "on all, expected maps of a layer; leave out the measure receptive-field"
        )
    one, field = sample.checkpoint, sample.field
    zoom = one.cutout_size / one.image_size
    n = len(sample)
    numbers = {
        "side": _exactly(field.side * zoom, n, "pixels"),
        "core": _exactly(field.core * zoom, n, "pixels"),
        "side_share": _exactly(field.side / one.image_size, n),
    }
    scale = sample.store.pixel_scale[sample.rows]
    arcsec = field.side * zoom * scale
    kpc = arcsec * sample.store.kpc_per_arcsec[sample.rows]
    for unit, values in (("arcsec", arcsec), ("kpc", kpc)):
        if np.isfinite(values).any():
            median = bootstrap(values, _median, seed=sample.seed)
            numbers[f"side_{unit}"] = median.model_copy(update={"unit": unit})
    inside, area = np.full(n, np.nan), np.full(n, np.nan)
    chosen = sample.spread(N_GRADIENTS)
    for number in chosen:
        image = sample.images([number])
        energy = measure_energy(one.model, image, int(sample.predicted[number]))
        window = find_window(sample.read_maps([number])[0], energy.shape, field.side)
        total = energy.sum()
        inside[number] = energy[window].sum() / total if total > 0 else np.nan
        area[number] = energy[window].size / energy.size
        progress(1)
    progress(n - len(chosen))
    controls = {"area_inside": bootstrap(area, seed=sample.seed)}
    if np.isfinite(inside).any():
        numbers["energy_inside"] = bootstrap(inside, seed=sample.seed)
    is_local = field.side < LOCAL * one.image_size
    where = f"{field.side * zoom:.0f} of {one.cutout_size} pixels"
    beyond = "nothing outside" if zoom == 1 else "the next pixels, which scaling blends with it"
    return Measured(
        name="receptive-field",
        numbers=numbers,
        controls=controls,
        per_galaxy={"energy_inside_field": tuple(inside.tolist())},
        notes=(
            f"The core holds {SHARE:.0%} of the absolute gradient of the central cell. The energy "
            f"was measured on {len(chosen)} galaxies"
            + (", for the first network." if len(sample.networks) > 1 else "."),
        ),
        supports=(
            f"Each cell of the maps describes a patch of {where} of the side, and {beyond}."
            if is_local
            else ""
        ),
        not_supported=(
            "A cell does not know where in the galaxy its patch lies, so that a radial profile of "
            "the maps does not show that the network uses radius."
            if is_local
            else f"A cell of the maps sees {where} of the side, so that a bright cell does not say "
            "that the evidence lies in its place."
        ),
    )


def measure_energy(model: nn.Module, image: Tensor, target: int) -> NDArray[np.float64]:
    """Return the squared gradient of a logit by the pixels, summed over the channels.

    Parameters
    ----------
    model : torch.nn.Module
        The network, in evaluation mode, on any device.
    image : (1, n_channels, H, W) Tensor of float32
        The normalised image.
    target : int
        Class of the logit.

    Returns
    -------
    (H, W) ndarray of float64
    """
    device = next(model.parameters()).device
    leaf = image.to(device).clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(leaf)[0, target], leaf)
    return gradient[0].double().square().sum(dim=0).cpu().numpy()


def find_window(
    cam: NDArray[np.floating], shape: tuple[int, ...], side: int
) -> tuple[slice, slice]:
    """Return the square around the brightest cell of a map, as far as it lies in the image.

    Parameters
    ----------
    cam : (h, w) ndarray of float
        The map.
    shape : tuple of int
        Height and width of the image [pixels].
    side : int
        Side of the square [pixels].

    Returns
    -------
    tuple of slice
        Rows and columns of the image.
    """
    cell = np.unravel_index(int(np.argmax(cam)), cam.shape)
    # Of a cell between two pixels, the field of a layer begins on the left, as its padding does.
    starts = [
        math.floor((int(at) + 0.5) * n / n_cells - side / 2)
        for at, n, n_cells in zip(cell, shape, cam.shape, strict=True)
    ]
    rows, columns = (
        slice(max(0, start), min(n, start + side)) for start, n in zip(starts, shape, strict=True)
    )
    return rows, columns


def _exactly(value: float, n: int, unit: str = "") -> Estimate:
    return Estimate(value=value, low=value, high=value, n=n, unit=unit)


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values))
