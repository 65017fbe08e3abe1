"""Radial profile: mean attribution against the distance from the galaxy's centre."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.captions import Markup, describe_sample, describe_training, name_classes
from galfig.errors import FigureError
from galfig.figures.save import Drawing
from galfig.figures.style import COLORS, COLUMN_WIDTH, LINE_STYLES, escape_math, paper_style
from galfig.selection import Selection
from galfig.store import Store

N_BINS = 24
N_RESAMPLES = 500
LEVEL = 0.68


def bin_radii(
    map_shape: tuple[int, int], cutout_size: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Sort the pixels of a map into annuli around the centre of its cutout.

    Parameters
    ----------
    map_shape : (h, w)
        Of the map, which covers the whole cutout.
    cutout_size : int
        Side of the cutout [pixels].

    Returns
    -------
    annulus : (h, w) ndarray of int
        Annulus of each pixel; B for those beyond the last.
    edges : (B + 1,) ndarray of float
        Radii [pixels of the cutout], out to half its side.
    """
    n_bins = max(1, min(N_BINS, min(map_shape) // 2))
    edges = np.linspace(0, cutout_size / 2, n_bins + 1)
    y, x = (
        (np.arange(length) + 0.5) * cutout_size / length - cutout_size / 2 for length in map_shape
    )
    radius = np.hypot(y[:, None], x)
    return np.minimum(np.searchsorted(edges, radius, side="right") - 1, n_bins), edges


def measure_profiles(
    store: Store, indices: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure the mean signed map of each galaxy in annuli.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Galaxies.

    Returns
    -------
    profiles : (n, C, B) ndarray of float64
        Mean of each map in each annulus [logit]; NaN where no map pixel falls into it.
    edges : (B + 1,) ndarray of float64
        Radii of the annuli [pixels of the cutout].
    """
    annulus, edges = bin_radii(store.map_shape, int(store.attrs["cutout_size"]))
    n_bins = len(edges) - 1
    flat = annulus.ravel()
    counts = np.bincount(flat, minlength=n_bins + 1)[:n_bins]
    profiles = np.full((len(indices), len(store.class_names), n_bins), np.nan)
    filled = counts > 0
    for row, index in enumerate(indices):
        for class_idx, cam in enumerate(store.cams(int(index))):
            sums = np.bincount(flat, weights=cam.ravel(), minlength=n_bins + 1)[:n_bins]
            profiles[row, class_idx, filled] = sums[filled] / counts[filled]
    return profiles, edges


def bootstrap_mean(
    profiles: NDArray[np.float64], seed: int = 256
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean over galaxies (first axis) and its percentile interval, by drawing them."""
    rng = np.random.default_rng(seed)
    n = len(profiles)
    means = np.stack([profiles[rng.integers(0, n, n)].mean(axis=0) for _ in range(N_RESAMPLES)])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return profiles.mean(axis=0), low, high


def make_radial_profile(
    profiles: NDArray[np.float64],
    edges: NDArray[np.float64],
    class_names: tuple[str, ...],
    pixel_scale: float = float("nan"),
) -> Figure:
    """Draw the mean profile of each class, with bands; one column wide."""
    with paper_style():
        fig = Figure(figsize=(COLUMN_WIDTH, 2.6), layout="constrained")
        ax = fig.subplots()
        plot_radial_profile(profiles, edges, class_names, ax=ax)
        if np.isfinite(pixel_scale):
            to_arcsec = partial(np.multiply, pixel_scale)
            to_pixels = partial(np.multiply, 1 / pixel_scale)
            top = ax.secondary_xaxis("top", functions=(to_arcsec, to_pixels))
            top.set_xlabel("Distance from the centre [arcsec]")
        return fig


def plot_radial_profile(
    profiles: NDArray[np.float64],
    edges: NDArray[np.float64],
    class_names: tuple[str, ...],
    *,
    ax: Axes,
) -> None:
    """Draw mean profiles (n, C, B) and their bootstrap bands against radius [pixels]."""
    # The power of ten goes into the label: matplotlib's own place for it is the upper axis'.
    peak = float(np.abs(profiles.mean(axis=0)).max())
    exponent = int(np.floor(np.log10(peak))) if peak > 0 else 0
    mean, low, high = bootstrap_mean(profiles / 10.0**exponent)
    radius = (edges[:-1] + edges[1:]) / 2
    ax.axhline(0, color="0.6", linewidth=0.6)
    for class_idx, name in enumerate(class_names):
        color = COLORS[class_idx % len(COLORS)]
        style = LINE_STYLES[class_idx % len(LINE_STYLES)]
        ax.fill_between(
            radius, low[class_idx], high[class_idx], color=color, alpha=0.25, linewidth=0
        )
        ax.plot(radius, mean[class_idx], color=color, linestyle=style, label=escape_math(name))
    ax.set_xlim(0, edges[-1])
    ax.set_xlabel("Distance from the centre [pixels]")
    ax.set_ylabel(
        f"Mean Grad-CAM [$10^{{{exponent}}}$ logit]" if exponent else "Mean Grad-CAM [logit]"
    )
    ax.legend()


def draw(store: Store, selection: Selection) -> Drawing:
    """Draw the profiles of the galaxies of a selection."""
    if min(store.map_shape) < 4:
        raise FigureError(
            f"{store.path}: maps of {store.map_shape[0]} pixels, expected at least 4 for a "
            "profile; explain an earlier layer with --layer"
        )
    profiles, edges = measure_profiles(store, selection.indices)
    scales = np.unique(store.pixel_scale[selection.indices])
    scale = float(scales[0]) if len(scales) == 1 else float("nan")
    return Drawing(
        "radial-profile",
        "Radial profile of the maps",
        make_radial_profile(profiles, edges, name_classes(store), scale),
        partial(_describe, store, selection),
    )


def _describe(store: Store, selection: Selection, markup: Markup) -> str:
    return (
        f"Mean Grad-CAM of each class against the distance from the centre of the cutout, for "
        f"{describe_sample(store, selection, markup)}.\n"
        "Signed maps are averaged in annuli, galaxy by galaxy, and then over galaxies; bands hold "
        f"{100 * LEVEL:.0f}{markup.percent} of {N_RESAMPLES} bootstrap samples of the galaxies.\n"
        + describe_training(store, markup)
    )
