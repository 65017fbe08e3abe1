"""Radial profile: mean Grad-CAM against the distance from the galaxy's centre."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from galfig.errors import FigureError
from galfig.figures.captions import (
    Markup,
    count_noun,
    describe_limits,
    describe_omitted,
    describe_sample,
    describe_training,
    join_lines,
    list_classes,
    name_classes,
    name_column,
)
from galfig.figures.compass import describe_differences
from galfig.figures.drawing import Column, Drawing, DrawOptions
from galfig.figures.labels import fit_label, strip_unit
from galfig.figures.methods import METHODS, MethodWords, find_words
from galfig.figures.style import (
    MAX_CURVES,
    chart_size,
    choose_curve_style,
    find_figure,
    find_ink,
    format_power,
    move_legend,
    open_axes,
    plot_legend,
    scale_font,
)
from galfig.runtime.messages import shorten
from galfig.store.reader import Store
from galfig.store.selection import Selection

N_BINS = 24
# Cutouts reach different distances in units of a radius. Profiles end where less than this
# fraction of the galaxies lie within their cutout.
COVERAGE = 0.9


class Profiles(NamedTuple):
    """Mean maps in annuli, averaged over galaxies.

    Attributes
    ----------
    mean : (C, B) ndarray of float64
        Mean over the galaxies of the mean signed map in an annulus; NaN where no galaxy
        has a pixel in it.
    error : (C, B) ndarray of float64
        Standard error of that mean; NaN for fewer than two galaxies.
    n : (B,) ndarray of int64
        Number of galaxies with a pixel in each annulus.
    edges : (B + 1,) ndarray of float64
        Radii of the annuli [pixels of the cutout, or units of each galaxy's radius].
    """

    mean: NDArray[np.float64]
    error: NDArray[np.float64]
    n: NDArray[np.int64]
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
    """Measure the mean signed map in annuli, for each galaxy and then over galaxies.

    Galaxies are read one by one in the order of the store, so that the memory does not grow with
    their number, and the result does not depend on the order of ``indices``.

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
    n_classes = len(store.class_names)
    n = np.zeros(n_bins, np.int64)
    mean, squares = np.zeros((2, n_classes, n_bins))
    for number, row in enumerate(np.argsort(indices, kind="stable")):
        if not number or radius is not None:
            flat = bin_radii(store.map_shape, size, edges * unit[row]).ravel()
            counts = np.bincount(flat, minlength=n_bins + 1)[:n_bins]
            # Only the corners of the cutout contribute to an annulus that extends beyond it.
            inside = np.flatnonzero((counts > 0) & (edges[1:] * unit[row] <= size / 2 * (1 + 1e-9)))
            # The annuli of each class have numbers of their own, to be added up together.
            places = (flat + (n_bins + 1) * np.arange(n_classes)[:, None]).ravel()
        n[inside] += 1
        weights = store.cams(int(indices[row])).ravel()
        sums = np.bincount(places, weights, n_classes * (n_bins + 1)).reshape(n_classes, -1)
        # Welford's update of the mean and of the sum of squared deviations.
        step = sums[:, inside] / counts[inside] - mean[:, inside]
        mean[:, inside] += step / n[inside]
        squares[:, inside] += step**2 * (1 - 1 / n[inside])
    mean[:, n == 0] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(n > 1, np.sqrt(squares / ((n - 1) * n)), np.nan)
    return Profiles(mean, error, n, edges)


def make_radial_profile(
    profiles: Profiles,
    class_names: tuple[str, ...],
    *,
    label: str = "Distance from the centre [pixels]",
    pixel_scale: float = float("nan"),
    width: float | None = None,
    ax: Axes | None = None,
    method: MethodWords = METHODS["grad-cam"],
) -> Figure:
    """Draw the mean profile of each class, with a band of one standard error to each side.

    Parameters
    ----------
    profiles : Profiles
        The result of `measure_profiles`.
    class_names : tuple of str
        Name of each class, (C,).
    label : str, optional
        Label of the lower axis, in which ``$...$`` is mathematics.
    pixel_scale : float, optional
        Pixel scale [arcsec/pixel]. If it is given, an upper axis shows arcsec; the radii must then
        be in pixels.
    width : float, optional
        Width of the figure [inch]; default one column.
    ax : Axes, optional
        Axes to draw on; a new figure by default.
    method : MethodWords, optional
        What to call the maps; default Grad-CAM.

    Returns
    -------
    Figure
    """
    with open_axes(ax, chart_size(width, 0.77)) as axes:
        fig = find_figure(axes)
        plot_radial_profile(profiles, class_names, ax=axes, method=method)
        axes.set_xlabel(fit_label(label, 0.8 * fig.get_figwidth(), scale_font(8)))
        if np.isfinite(pixel_scale):
            to_arcsec = partial(np.multiply, pixel_scale)
            to_pixels = partial(np.multiply, 1 / pixel_scale)
            top = axes.secondary_xaxis("top", functions=(to_arcsec, to_pixels))
            top.set_xlabel("Distance from the centre [arcsec]")
        if ax is None:
            move_legend(axes, width)
        return fig


def plot_radial_profile(
    profiles: Profiles,
    class_names: tuple[str, ...],
    *,
    ax: Axes,
    method: MethodWords = METHODS["grad-cam"],
) -> None:
    """Draw mean profiles against radius, with bands of one standard error to each side."""
    # The label takes the power of ten, since matplotlib's offset text would overlap the upper axis.
    peak = float(np.nanmax(np.abs(profiles.mean), initial=0.0))
    exponent = int(np.floor(np.log10(peak))) if peak > 0 else 0
    mean, error = (values / 10.0**exponent for values in (profiles.mean, profiles.error))
    edges = profiles.edges
    radius = (edges[:-1] + edges[1:]) / 2
    ax.axhline(0, color=find_ink(0.6), linewidth=0.6)
    lines = []
    for class_idx in range(len(class_names)):
        style = choose_curve_style(class_idx)
        low, high = mean[class_idx] - error[class_idx], mean[class_idx] + error[class_idx]
        ax.fill_between(radius, low, high, color=style["color"], alpha=0.25, linewidth=0)
        lines += ax.plot(radius, mean[class_idx], **style)
    ax.set_xlim(0, edges[-1])
    power = f"{format_power(exponent)} " if exponent else ""
    ax.set_ylabel(f"Mean {method.name} [{power}{method.unit}]")
    plot_legend(lines, class_names, ax=ax)


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw the profiles of the galaxies of a selection."""
    if len(store.class_names) > MAX_CURVES:
        raise FigureError(
            f"radial-profile: {len(store.class_names)} classes, expected at most {MAX_CURVES}, "
            "whose curves can be told apart"
        )
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
        label = f"Distance from the centre / {strip_unit(name_column(store, options.unit))}"
        unit = options.unit
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
                method=find_words(store.record),
            ),
        ),
        partial(_describe, store, selection, profiles, len(indices), options.unit),
        f"Mean {find_words(store.record).name} of {list_classes(store)} against the distance from "
        f"the centre, with bands of one standard error, of {count_noun(len(indices))}.",
        partial(_tabulate, profiles, store.class_names, unit, find_words(store.record)),
    )


def _read_radius(store: Store, indices: NDArray[np.intp], column: str) -> NDArray[np.float64]:
    """Convert a radius of the catalog [arcsec] to pixels of the cutouts; 0 where unknown."""
    if column not in store.columns:
        raise FigureError(
            f"{store.path}: `unit` {column!r}, expected a column of the catalog: "
            f"{shorten([*store.columns])}"
        )
    arcsec = pd.to_numeric(store.columns[column], errors="coerce").to_numpy(float, na_value=np.nan)
    pixels = arcsec[indices] / store.pixel_scale[indices]
    pixels = np.where(np.isfinite(pixels) & (pixels > 0), pixels, 0.0)
    if not pixels.any():
        raise FigureError(
            f"{store.path}: no galaxy has a radius {column!r} above zero and a pixel scale, "
            "expected both for `unit`; name a column of numbers [arcsec], or set [catalog] "
            "pixel_scale and rebuild"
        )
    return pixels


def _tabulate(
    profiles: Profiles, class_names: tuple[str, ...], unit: str, method: MethodWords
) -> dict[str, Column]:
    n_classes, n_bins = profiles.mean.shape
    length = "pixel" if unit == "pixel" else ""
    words = "annulus" if unit == "pixel" else f"annulus in units of {unit}"
    return {
        "class": Column(np.repeat(class_names, n_bins), "class that is explained"),
        "inner": Column(np.tile(profiles.edges[:-1], n_classes), f"inner radius, {words}", length),
        "outer": Column(np.tile(profiles.edges[1:], n_classes), f"outer radius, {words}", length),
        "mean": Column(profiles.mean.ravel(), f"mean {method.name} [{method.unit}]"),
        "error": Column(profiles.error.ravel(), f"standard error of the mean [{method.unit}]"),
        "n": Column(np.tile(profiles.n, n_classes), "galaxies with a pixel in the annulus"),
    }


def _describe(
    store: Store, selection: Selection, profiles: Profiles, n: int, unit: str | None, markup: Markup
) -> str:
    # A ring has no direction.
    distance = describe_differences(store, selection.indices, with_directions=False)
    distance = distance.replace("Their pixels", "The pixels of the cutouts", 1)
    if unit is not None:
        n_unknown = len(selection.indices) - n
        left_out = (
            f"; {count_noun(n_unknown)} without one {'is' if n_unknown == 1 else 'are'} left out"
            if n_unknown
            else ""
        )
        name = markup.label(strip_unit(name_column(store, unit)))
        distance = f"Distances are in units of each galaxy's {name}{left_out}."
    n_outer = int(profiles.n[-1])
    fewer = (
        f"An annulus that extends beyond a galaxy's cutout leaves that galaxy out; the outermost "
        f"averages {n_outer} of {count_noun(n)}."
        if n_outer < n
        else ""
    )
    return join_lines(
        f"Mean {find_words(store.record).name} of {list_classes(store, markup)} against the "
        f"distance from the centre of the cutout, for {describe_sample(store, selection, markup)}.",
        describe_omitted(store, selection),
        distance,
        "Each curve is of the maps for one class, in all of these galaxies, whatever their own "
        "class. Signed maps are averaged in annuli for each galaxy and then over galaxies."
        + (" Bands extend one standard error of the mean to each side." if n > 1 else ""),
        fewer,
        describe_limits(store, markup),
        describe_training(store, markup),
    )
