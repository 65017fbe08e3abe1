"""Radial profile: mean Grad-CAM against the distance from the galaxy's centre."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.captions import Markup, describe_sample, describe_training, name_classes
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.style import (
    COLORS,
    LINE_STYLES,
    chart_size,
    escape_math,
    find_figure,
    format_power,
    open_axes,
    plot_legend,
    wrap_words,
)
from galfig.runtime.messages import shorten
from galfig.store.reader import Store
from galfig.store.selection import Selection

N_BINS = 24
N_RESAMPLES = 500
LEVEL = 0.68
# Cutouts reach different distances in units of a radius. Profiles end where less than this
# fraction of the galaxies lie within their cutout.
COVERAGE = 0.9


class Profiles(NamedTuple):
    """Mean maps in annuli, galaxy by galaxy.

    Attributes
    ----------
    values : (n, C, B) ndarray of float64
        Mean signed map [logit]; NaN where a galaxy has no pixel in an annulus.
    edges : (B + 1,) ndarray of float64
        Radii of the annuli [pixels of the cutout, or units of each galaxy's radius].
    """

    values: NDArray[np.float64]
    edges: NDArray[np.float64]


def bin_radii(
    map_shape: tuple[int, int], cutout_size: int, edges: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Assign the pixels of a map to annuli around the centre of its cutout.

    Parameters
    ----------
    map_shape : (h, w)
        Shape of the map, which covers the whole cutout.
    cutout_size : int
        Side of the cutout [pixels].
    edges : (B + 1,) ndarray of float
        Radii of the annuli [pixels of the cutout].

    Returns
    -------
    (h, w) ndarray of int
        Annulus of each pixel; B for pixels beyond the last annulus.
    """
    y, x = (
        (np.arange(length) + 0.5) * cutout_size / length - cutout_size / 2 for length in map_shape
    )
    radius = np.hypot(y[:, None], x)
    return np.minimum(np.searchsorted(edges, radius, side="right") - 1, len(edges) - 1)


def measure_profiles(
    store: Store, indices: NDArray[np.intp], radius: NDArray[np.float64] | None = None
) -> Profiles:
    """Measure the mean signed map of each galaxy in annuli.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Positions of the galaxies in the store.
    radius : (n,) ndarray of float, optional
        Radius of each galaxy [pixels of the cutout], used as its unit of distance.

    Returns
    -------
    Profiles
        Profiles out to half the side of the cutout. In units of a radius, they extend as far as
        90 % of the galaxies still lie within their cutout.
    """
    size = store.record.cutout_size
    n_bins = max(1, min(N_BINS, min(store.map_shape) // 2))
    unit = np.ones(len(indices)) if radius is None else radius
    edges = np.linspace(0, np.quantile(size / 2 / unit, 1 - COVERAGE), n_bins + 1)
    values = np.full((len(indices), len(store.class_names), n_bins), np.nan)
    flat = None
    for row, index in enumerate(indices):
        if flat is None or radius is not None:
            flat = bin_radii(store.map_shape, size, edges * unit[row]).ravel()
            counts = np.bincount(flat, minlength=n_bins + 1)[:n_bins]
            # Only the corners of the cutout contribute to an annulus that extends beyond it.
            is_inside = (counts > 0) & (edges[1:] * unit[row] <= size / 2 * (1 + 1e-9))
        for class_idx, cam in enumerate(store.cams(int(index))):
            sums = np.bincount(flat, weights=cam.ravel(), minlength=n_bins + 1)[:n_bins]
            values[row, class_idx, is_inside] = sums[is_inside] / counts[is_inside]
    return Profiles(values, edges)


def bootstrap_mean(
    profiles: NDArray[np.float64], seed: int = 256
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean over galaxies and its bootstrap percentile interval.

    NaN is ignored; the results are NaN where there is nothing else.

    Parameters
    ----------
    profiles : (n, ...) ndarray of float
        One profile per galaxy.
    seed : int, default 256
        Seed of the bootstrap samples.

    Returns
    -------
    mean, low, high : (...) ndarrays of float64
        The mean, and the ends of its 68 % interval.
    """
    rng = np.random.default_rng(seed)
    n = len(profiles)
    means = np.stack([_mean(profiles[rng.integers(0, n, n)]) for _ in range(N_RESAMPLES)])
    is_known = ~np.isnan(means).all(axis=0)
    low, high = np.full((2, *is_known.shape), np.nan)
    low[is_known], high[is_known] = np.nanquantile(
        means[:, is_known], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0
    )
    return _mean(profiles), low, high


def make_radial_profile(
    profiles: Profiles,
    class_names: tuple[str, ...],
    *,
    label: str = "Distance from the centre [pixels]",
    pixel_scale: float = float("nan"),
    width: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the mean profile of each class with its bootstrap band.

    Parameters
    ----------
    profiles : Profiles
        The result of `measure_profiles`.
    class_names : tuple of str
        Name of each class, (C,).
    label : str, optional
        Label of the lower axis.
    pixel_scale : float, optional
        Pixel scale [arcsec/pixel]. If it is given, an upper axis shows arcsec; the radii must then
        be in pixels.
    width : float, optional
        Width of the figure [inch]; default one column.
    ax : Axes, optional
        Axes to draw on; a new figure by default.

    Returns
    -------
    Figure
    """
    with open_axes(ax, chart_size(width, 0.77)) as axes:
        fig = find_figure(axes)
        plot_radial_profile(profiles, class_names, ax=axes)
        axes.set_xlabel(wrap_words(label, 0.8 * fig.get_figwidth(), 8))
        if np.isfinite(pixel_scale):
            to_arcsec = partial(np.multiply, pixel_scale)
            to_pixels = partial(np.multiply, 1 / pixel_scale)
            top = axes.secondary_xaxis("top", functions=(to_arcsec, to_pixels))
            top.set_xlabel("Distance from the centre [arcsec]")
        return fig


def plot_radial_profile(profiles: Profiles, class_names: tuple[str, ...], *, ax: Axes) -> None:
    """Draw mean profiles and their bootstrap bands against radius."""
    values, edges = profiles
    # The label takes the power of ten, since matplotlib's offset text would overlap the upper axis.
    peak = float(np.nanmax(np.abs(_mean(values)), initial=0.0))
    exponent = int(np.floor(np.log10(peak))) if peak > 0 else 0
    mean, low, high = bootstrap_mean(values / 10.0**exponent)
    radius = (edges[:-1] + edges[1:]) / 2
    ax.axhline(0, color="0.6", linewidth=0.6)
    lines = []
    for class_idx in range(len(class_names)):
        color = COLORS[class_idx % len(COLORS)]
        style = LINE_STYLES[class_idx % len(LINE_STYLES)]
        ax.fill_between(
            radius, low[class_idx], high[class_idx], color=color, alpha=0.25, linewidth=0
        )
        lines += ax.plot(radius, mean[class_idx], color=color, linestyle=style)
    ax.set_xlim(0, edges[-1])
    power = f"{format_power(exponent)} " if exponent else ""
    ax.set_ylabel(f"Mean Grad-CAM [{power}logit]")
    plot_legend(lines, class_names, ax=ax)


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the profiles of the galaxies of a selection."""
    if min(store.map_shape) < 4:
        raise FigureError(
            f"{store.path}: maps of {store.map_shape[0]} pixels, expected at least 4 for a "
            "profile; build it again with an earlier `layer`"
        )
    indices, radius, scale = selection.indices, None, float("nan")
    label, unit = "Distance from the centre [pixels]", "pixel"
    if options.unit is not None:
        radius = _read_radius(store, selection.indices, options.unit)
        indices, radius = indices[radius > 0], radius[radius > 0]
        label, unit = f"Distance from the centre / {escape_math(options.unit)}", options.unit
    else:
        scales = np.unique(store.pixel_scale[indices])
        scale = float(scales[0]) if len(scales) == 1 else float("nan")
    profiles = measure_profiles(store, indices, radius)
    names = name_classes(store)
    return Drawing(
        "radial-profile",
        "Radial profile of the maps",
        (
            make_radial_profile(
                profiles,
                names,
                label=label,
                pixel_scale=scale,
                width=options.width,
                ax=options.ax,
            ),
        ),
        partial(_describe, store, selection, len(indices), options.unit),
        f"Mean Grad-CAM of {' and '.join(names)} against the distance from the centre, with "
        f"bootstrap bands, of {len(indices)} galaxies.",
        partial(_tabulate, profiles, store.class_names, unit),
    )


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the first axis, ignoring NaN; NaN where there is nothing else."""
    is_known = ~np.isnan(values)
    n = is_known.sum(axis=0)
    total = np.where(is_known, values, 0.0).sum(axis=0)
    return np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)


def _read_radius(store: Store, indices: NDArray[np.intp], column: str) -> NDArray[np.float64]:
    """Convert a radius of the catalog [arcsec] to pixels of the cutouts; 0 where unknown."""
    if column not in store.catalog:
        raise FigureError(
            f"{store.path}: `unit` {column!r}, expected a column of the catalog: "
            f"{shorten([*store.catalog.columns])}"
        )
    arcsec = pd.to_numeric(store.catalog[column], errors="coerce").to_numpy(float, na_value=np.nan)
    pixels = arcsec[indices] / store.pixel_scale[indices]
    pixels = np.where(np.isfinite(pixels) & (pixels > 0), pixels, 0.0)
    if not pixels.any():
        raise FigureError(
            f"{store.path}: no galaxy has a radius {column!r} above zero and a pixel scale, "
            "expected both for `unit`; name a column of numbers [arcsec], or set [catalog] "
            "pixel_scale and rebuild"
        )
    return pixels


def _tabulate(profiles: Profiles, class_names: tuple[str, ...], unit: str) -> dict[str, Column]:
    mean, low, high = bootstrap_mean(profiles.values)
    n_classes, n_bins = mean.shape
    length = "pixel" if unit == "pixel" else ""
    words = "annulus" if unit == "pixel" else f"annulus in units of {unit}"
    return {
        "class": Column(np.repeat(class_names, n_bins), "class that is explained"),
        "inner": Column(np.tile(profiles.edges[:-1], n_classes), f"inner radius, {words}", length),
        "outer": Column(np.tile(profiles.edges[1:], n_classes), f"outer radius, {words}", length),
        "mean": Column(mean.ravel(), "mean Grad-CAM [logit]"),
        "low": Column(low.ravel(), f"lower end of the {100 * LEVEL:.0f} % interval [logit]"),
        "high": Column(high.ravel(), f"upper end of the {100 * LEVEL:.0f} % interval [logit]"),
    }


def _describe(store: Store, selection: Selection, n: int, unit: str | None, markup: Markup) -> str:
    distance = ""
    if unit is not None:
        n_unknown = len(selection.indices) - n
        left_out = f"; the {n_unknown} without one are left out" if n_unknown else ""
        distance = f"Distances are in units of each galaxy's {markup.text(unit)}{left_out}.\n"
    return (
        f"Mean Grad-CAM of each class against the distance from the centre of the cutout, for "
        f"{describe_sample(store, selection, markup)}.\n"
        f"{distance}"
        "Signed maps are averaged in annuli for each galaxy and then over galaxies. Bands are "
        f"{100 * LEVEL:.0f}{markup.percent} intervals from {N_RESAMPLES} bootstrap samples of the "
        "galaxies.\n" + describe_training(store, markup)
    )
