"""Removal: the probability of a class as the pixels of an image go, or come, in some order."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from torch import Tensor

from galfig.auditing.estimates import Estimate, Measured, bootstrap
from galfig.auditing.fills import (
    Fill,
    fill_linearly,
    fill_with,
    make_blurred_image,
    make_sky_image,
)
from galfig.auditing.orders import BRIGHTNESS, CONTROLS, MAP, RANDOM, rank_pixels, score_pixels
from galfig.auditing.sample import Progress, Sample, spread_evenly
from galfig.auditing.sky import find_regions, measure_sky
from galfig.figures.audits import format_estimate

# Shares of the pixels that are gone (or there). The curves change most at their beginning.
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
# Galaxies from which the typical sky is measured, those on which the other fills are tried, and
# those on which all controls are. The random order and brightness, which the excess over light
# needs, have all galaxies.
N_SKY, N_OTHER, N_CONTROLS = 200, 40, 100
SKY, BLUR, LINEAR = "sky", "blur", "linear imputation"
EVIDENCE = "evidence"

Predict = Callable[[Tensor], NDArray[np.float64]]


def follow_removal(
    predict: Predict,
    fill: Fill,
    orders: Mapping[str, NDArray[np.intp]],
    shares: tuple[float, ...] = SHARES,
    *,
    is_insertion: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Follow the output of a network as pixels of one image are removed, or inserted.

    Parameters
    ----------
    predict : callable
        Returns a number for each image, (m,).
    fill : Fill
        Gives the images that keep the pixels of masks.
    orders : mapping of str to (H, W) ndarray of int
        The place of each pixel in each order, from `galfig.auditing.orders.rank_pixels`.
    shares : tuple of float
        Shares of the pixels that are removed (inserted), from 0 to 1.
    is_insertion : bool, default False
        Whether the first pixels of the order come, instead of go.

    Returns
    -------
    dict of str to (len(shares),) ndarray of float64
        For each order. All orders share the points at 0 and 1.
    """
    some = next(iter(orders.values()))
    ends = torch.zeros((2, *some.shape), dtype=torch.bool)
    ends[1 if is_insertion else 0] = True
    masks = [ends]
    for ranks in orders.values():
        is_first = np.stack([ranks < round(share * ranks.size) for share in shares[1:-1]])
        masks.append(torch.from_numpy(is_first if is_insertion else ~is_first))
    found = predict(fill(torch.cat(masks)))
    inner = found[2:].reshape(len(orders), -1)
    return {
        name: np.concatenate([found[:1], values, found[1:2]])
        for name, values in zip(orders, inner, strict=True)
    }


def compute_areas(
    curves: NDArray[np.floating], shares: tuple[float, ...] = SHARES
) -> NDArray[np.float64]:
    """Return the area under each curve over the shares, by the trapezoidal rule.

    Parameters
    ----------
    curves : (..., len(shares)) ndarray of float
        The curves.
    shares : tuple of float
        The abscissa, from 0 to 1.

    Returns
    -------
    (...) ndarray of float64
    """
    return np.asarray(trapezoid(curves, shares, axis=-1))


def estimate_excess(
    of_map: NDArray[np.floating],
    of_light: NDArray[np.floating],
    of_random: NDArray[np.floating],
    *,
    seed: int,
) -> tuple[Estimate | None, Estimate]:
    r"""Estimate the share of the map's lead over random that sorting by brightness does not have.

    It is :math:`E = (D_\mathrm{light} - D_M) / (D_\mathrm{random} - D_M)`, with the areas averaged
    over galaxies before they are divided: 1 where brightness does no better than random, 0 where it
    does as well as the map, negative where it does better.

    Parameters
    ----------
    of_map, of_light, of_random : (n,) ndarray of float
        Areas of each galaxy under the curves of removal. For curves of insertion, in which high
        areas are good, give their negatives.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    excess : Estimate or None
        None unless the map leads over random: unless the whole interval of the lead is positive.
    lead : Estimate
        The lead of the map over random, :math:`D_\mathrm{random} - D_M`.
    """
    pairs = np.stack([of_light - of_map, of_random - of_map], axis=1)
    lead = bootstrap(pairs[:, 1], seed=seed)
    if lead.low <= 0:
        return None, lead
    return bootstrap(pairs, _divide_means, seed=seed), lead


def _divide_means(values: NDArray[np.float64]) -> float:
    numerator, denominator = values.mean(axis=0)
    return float(numerator / denominator) if denominator > 0 else float("nan")


@dataclass(frozen=True)
class _Followed:
    """Curves of the galaxies that one fill was tried on, by order.

    Attributes
    ----------
    curves : dict of str to (n, len(SHARES)) ndarray of float64
        NaN where an order was not followed.
    """

    curves: dict[str, NDArray[np.float64]]

    def area(self, name: str) -> NDArray[np.float64]:
        """Return the area of each galaxy, (n,); NaN where the order was not followed."""
        return compute_areas(self.curves[name])


def measure_removal(sample: Sample, *, is_insertion: bool, progress: Progress) -> Measured:
    """Measure deletion or insertion; see the modules `deletion` and `insertion` beside this one.

    Parameters
    ----------
    sample : Sample
        The galaxies.
    is_insertion : bool
        Whether pixels come, instead of go.
    progress : callable
        Called with the number of galaxies done since the last call; a galaxy counts when its last
        fill is done.

    Returns
    -------
    Measured
    """
    name, sign = ("insertion", -1) if is_insertion else ("deletion", 1)
    found, n_filled = _follow_sample(sample, is_insertion, progress)
    numbers: dict[str, Estimate] = {}
    controls: dict[str, Estimate] = {}
    curves: dict[str, tuple[float, ...]] = {"share": SHARES}
    notes: list[str] = []
    for fill, followed in found.items():
        suffix = "" if fill == SKY else f", {fill}"
        areas = {order: followed.area(order) for order in followed.curves}
        excess, lead = estimate_excess(
            sign * areas[MAP], sign * areas[BRIGHTNESS], sign * areas[RANDOM], seed=sample.seed
        )
        numbers[f"area{suffix}"] = bootstrap(areas[MAP], seed=sample.seed)
        numbers[f"lead over random{suffix}"] = lead
        if excess is None:
            notes.append(
                f"With {_name_fill(fill)}, the lead of the map over a random order is not clearly "
                f"positive ({format_estimate(lead)}), so that no excess over light is given."
            )
        else:
            numbers[f"excess over light{suffix}"] = excess
        for order in areas:
            curves |= _describe_curves(_name_curve(order) + suffix, followed.curves[order])
            if order != MAP:
                controls[_name_curve(order) + suffix] = bootstrap(areas[order], seed=sample.seed)
    main = found[SKY]
    lead_of = {order: sign * (main.area(order) - main.area(MAP)) for order in main.curves}
    notes += _describe_fills(sample, n_filled)
    supports, not_supported = _judge(name, numbers, lead_of, sample.seed)
    return Measured(
        name=name,
        numbers=numbers,
        controls=controls,
        curves=curves,
        per_galaxy={
            f"{name}_area": tuple(main.area(MAP).tolist()),
            f"{name}_over_random": tuple(lead_of[RANDOM].tolist()),
            f"{name}_over_light": tuple(lead_of[BRIGHTNESS].tolist()),
        },
        notes=tuple(notes),
        supports=supports,
        not_supported=not_supported,
    )


def _describe_curves(name: str, curves: NDArray[np.float64]) -> dict[str, tuple[float, ...]]:
    """Return the mean of curves (n, m), and 1.96 standard errors below and above it, by name."""
    curves = curves[np.isfinite(curves[:, 0])]
    mean = curves.mean(axis=0)
    error = 1.96 * curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
    described = {name: mean, f"{name} low": mean - error, f"{name} high": mean + error}
    return {key: tuple(values.tolist()) for key, values in described.items()}


def _follow_sample(
    sample: Sample, is_insertion: bool, progress: Progress
) -> tuple[dict[str, _Followed], int]:
    """Follow each galaxy with each fill; return curves by fill, and how many fill their cutouts.

    Each galaxy has its own random numbers, so that deletion and insertion compare the same.
    """
    found: dict[str, list[dict[str, NDArray[np.float64]]]] = {SKY: [], BLUR: [], LINEAR: []}
    n_filled = 0
    sky = measure_sky(_iter_pixels(sample, N_SKY), sample.make_rng("sky"))
    # Subsets, so that each fill compares all orders on the same galaxies.
    with_controls = sample.spread(N_CONTROLS)
    with_fills = {with_controls[i] for i in spread_evenly(len(with_controls), N_OTHER)}
    for chunk in sample.iter_chunks():
        pixels, cams = sample.read_pixels(chunk), sample.read_maps(chunk)
        evidence = sample.read_evidence(chunk)
        images = sample.checkpoint.normalise(pixels)
        for i, number in enumerate(range(chunk.start, chunk.stop)):
            rng = sample.make_rng(f"removal {number}")
            regions = find_regions(pixels[i], sky.level)
            n_filled += regions.is_filled
            scores = score_pixels(cams[i], regions.light)
            scores[RANDOM] = rng.random(regions.light.shape)
            if evidence is not None:
                scores[EVIDENCE] = score_pixels(evidence[i], regions.light)[MAP]
            followed = scores if number in with_controls else (MAP, RANDOM, BRIGHTNESS)
            orders = {order: rank_pixels(scores[order], rng) for order in followed}
            target = int(sample.predicted[number])

            def predict(batch: Tensor, target: int = target) -> NDArray[np.float64]:
                return sample.predict(batch)[:, target]

            dark = make_sky_image(pixels[i], regions, sky, rng)
            replaced = [dark, make_blurred_image(pixels[i])]
            new = sample.checkpoint.normalise(np.stack(replaced))
            fills: dict[str, Fill] = {SKY: fill_with(images[i], new[0])}
            if number in with_fills:
                fills[BLUR] = fill_with(images[i], new[1])
                # The imputed pixels scatter as the sky does.
                fills[LINEAR] = fill_linearly(
                    images[i], new[0] - new[0].mean(dim=(1, 2), keepdim=True)
                )
            for name, fill in fills.items():
                found[name].append(follow_removal(predict, fill, orders, is_insertion=is_insertion))
            progress(1)
    return {fill: _Followed(_stack(curves)) for fill, curves in found.items()}, n_filled


def _iter_pixels(sample: Sample, n: int) -> Iterator[NDArray[np.uint8]]:
    """Iterate over the images of n galaxies, spread evenly over the sample."""
    for number in sample.spread(n):
        yield sample.read_pixels([number])[0]


def _stack(curves: list[dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """Stack the curves of galaxies by order; NaN where an order was not followed."""
    lacking = np.full(len(SHARES), np.nan)
    # The first galaxy has all orders.
    return {order: np.stack([one.get(order, lacking) for one in curves]) for order in curves[0]}


def _name_curve(order: str) -> str:
    if order == MAP:
        return MAP
    return "random order" if order == RANDOM else f"order by {order}"


def _name_fill(fill: str) -> str:
    return {SKY: "sky pixels in place of the image", BLUR: "a blurred image in its place"}.get(
        fill, "linear imputation (ROAD)"
    )


def _describe_fills(sample: Sample, n_filled: int) -> list[str]:
    notes = [
        "Removed pixels are replaced by shuffled pixels of the sky of the same cutout. The other "
        f"fills were tried on {min(N_OTHER, len(sample))} galaxies. An image with removed pixels "
        "is no image of a galaxy, and the network was not trained on any such."
    ]
    if len(sample) > N_CONTROLS:
        notes.append(
            f"Orders other than those of the map, of brightness and at random were tried on "
            f"{N_CONTROLS} of the galaxies."
        )
    if n_filled:
        notes.append(
            f"{n_filled} of {len(sample)} galaxies fill their cutouts; sky pixels of the other "
            "cutouts replace theirs."
        )
    return notes


def _judge(
    name: str,
    numbers: Mapping[str, Estimate],
    lead_of: Mapping[str, NDArray[np.float64]],
    seed: int,
) -> tuple[str, str]:
    """Say what the leads of the map over its controls support, and what they do not."""
    verb = "inserting" if name == "insertion" else "removing"
    over = {order: bootstrap(lead_of[order], seed=seed) for order in CONTROLS}
    beaten = [order for order in CONTROLS if over[order].low > 0]
    others = [order for order in CONTROLS if over[order].low <= 0]
    supports = not_supported = ""
    if beaten:
        supports = (
            f"On the average galaxy, {verb} pixels in the order of the map changes the probability "
            f"sooner than {_list(beaten)}."
        )
    if others:
        not_supported = (
            f"The map is not clearly better than {_list(others)} when it comes to {verb} pixels, "
            "so that it is not shown to tell what the network uses beyond that."
        )
    if excess := numbers.get("excess over light"):
        share = 1 - excess.value
        if share > 0:
            not_supported += f"{' ' if not_supported else ''}" + (
                f"{min(share, 1):.0%} of the map's lead over a random order is had by sorting "
                f"pixels by brightness alone (E = {excess.value:.2f} "
                f"[{excess.low:.2f}, {excess.high:.2f}])."
            )
    return supports, not_supported


def _list(orders: list[str]) -> str:
    names = ["a random order" if one == RANDOM else f"an order by {one}" for one in orders]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
