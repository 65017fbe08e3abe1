"""What evidence maps mean, measured on a store: their sums, their unit, and the words for both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galfig.config import DEFAULT_STYLE, PIXEL_METHODS, StyleSettings
from galfig.figures.captions import (
    SAME_LOGIT,
    Markup,
    describe_bypass,
    describe_choice_of_maps,
    describe_mean,
    describe_omitted,
    describe_rounding,
    describe_sample,
    describe_size,
    find_scaled_size,
    format_probability,
    join_lines,
    name_classes,
    name_next,
)
from galfig.figures.choice import choose_maps
from galfig.figures.drawing import Column, tabulate_galaxies
from galfig.figures.methods import METHODS, describe_faithfulness, find_words
from galfig.metrics import compute_interval_factor, compute_log_odds, compute_offsets
from galfig.store.reader import Store
from galfig.store.selection import Selection

# Fewer galaxies cannot tell whether sums and log-odds differ by a constant.
MIN_COMPARED = 3
# What differs by less is the same in two decimals.
CONSTANT = 0.01


@dataclass(frozen=True)
class Evidence:
    """The evidence maps of one galaxy for some classes, and what the network makes of them.

    Attributes
    ----------
    classes : (M,) tuple of int
        Positions of the classes.
    maps : (M, h, w) ndarray of float64
        The map of each class against the rest [log-odds per pixel of the map].
    log_odds : (M,) ndarray of float64
        The log-odds of each class in the prediction [nat].
    margins : (M,) ndarray of float64 or None
        Half the width of the 95 % interval of their mean over the networks; None for one network.
    is_uncertain : (M, h, w) ndarray of bool or None
        Where the 95 % interval of the mean of a map holds zero, or would but for the rounding to
        8 bits; None for one network.
    """

    classes: tuple[int, ...]
    maps: NDArray[np.float64]
    log_odds: NDArray[np.float64]
    margins: NDArray[np.float64] | None
    is_uncertain: NDArray[np.bool_] | None

    @property
    def sums(self) -> NDArray[np.float64]:
        """Sum of each map over its pixels [log-odds], (M,)."""
        return self.maps.sum(axis=(1, 2))


def choose_evidence(store: Store, index: int, chosen: Sequence[int] = ()) -> tuple[int, ...]:
    """Choose the classes whose evidence is shown of a galaxy.

    Parameters
    ----------
    store : Store
        An open store.
    index : int
        Position of the galaxy.
    chosen : sequence of int, optional
        The classes to show; nothing for the default.

    Returns
    -------
    tuple of int
        By default, the second of two classes, whose map is that of the first with its signs turned;
        of more classes, those of `galfig.figures.choice.choose_maps`.
    """
    if not chosen and len(store.class_names) == 2:
        return (1,)
    return tuple(choose_maps(store, index, chosen))


def read_evidence(store: Store, index: int, classes: Sequence[int]) -> Evidence:
    """Read the evidence maps of a galaxy, with their error bars if there are several networks.

    Parameters
    ----------
    store : Store
        An open store.
    index : int
        Position of the galaxy.
    classes : sequence of int
        Positions of the classes.

    Returns
    -------
    Evidence
    """
    chosen = list(classes)
    maps = _by_class(store, store.evidence(index), [-1, 1])[chosen]
    log_odds = store.log_odds[index][chosen]
    if store.n_networks == 1 or store.log_odds_sd is None:
        return Evidence(tuple(chosen), maps, log_odds, None, None)
    factor = compute_interval_factor(store.n_networks)
    spread = _by_class(store, store.evidence_sd(index), [1, 1])[chosen]
    margins = np.broadcast_to(store.log_odds_sd[index], len(store.class_names))[chosen]
    # In a native store, faint cells may have been rounded to a spread of zero.
    of_maps, of_spread = (
        np.broadcast_to(values, len(store.class_names))[chosen, None, None]
        for values in store.evidence_rounding(index)
    )
    return Evidence(
        tuple(chosen),
        maps,
        log_odds,
        factor * margins.astype(np.float64),
        np.abs(maps) <= factor * (spread + of_spread) + of_maps,
    )


def _by_class(store: Store, maps: NDArray[np.float32], signs: Sequence[int]) -> NDArray[np.float64]:
    """Return one map per class, (C, h, w), where a store of two classes has one in all."""
    if len(store.class_names) > 2:
        return maps.astype(np.float64)
    return np.stack([sign * maps.astype(np.float64) for sign in signs])


def find_offsets(store: Store, indices: NDArray[np.intp]) -> NDArray[np.float64] | None:
    """Find what the log-odds of galaxies hold beside the sums of their evidence maps.

    This has a meaning only where pooling and one linear layer follow the layer explained. A store
    that records the biases of this layer is held against them. Of any other store, the rest must be
    the same for all galaxies, some others than those given among them: of two classes, that of the
    log-odds; of more, that of each logit.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Positions of galaxies.

    Returns
    -------
    (n, C) ndarray of float64 or None
        The offsets [nat]; None where sums and log-odds have no such relation, or too few galaxies
        are there to tell.
    """
    every, compared = range(len(store.class_names)), store.compared
    if compared.sums is None:
        return None
    shown = [read_evidence(store, int(row), every).sums for row in indices]
    logits = np.concatenate([store.logits[indices].astype(np.float64), compared.logits])
    others = compute_log_odds(np.array(compared.logits, np.float32))
    log_odds = np.concatenate([store.log_odds[indices], others])
    rest = log_odds - np.concatenate([shown, compared.sums])
    bias = store.record.head_bias
    if bias is not None:
        expected = np.stack([compute_offsets(np.asarray(bias), one) for one in logits])
        is_right = np.abs(rest - expected) <= SAME_LOGIT * np.abs(log_odds).max()
    elif store.whole.n_galaxies < MIN_COMPARED:
        return None
    elif len(every) == 2:
        is_right = np.ptp(rest, axis=0) <= SAME_LOGIT * np.ptp(log_odds, axis=0)
    elif store.method == "evidence":
        return None
    else:
        totals = np.concatenate([store.totals(indices), compared.totals])
        is_right = np.ptp(logits - totals, axis=0) <= SAME_LOGIT * np.ptp(logits, axis=0)
    return rest[: len(indices)] if is_right.all() else None


def find_unit(store: Store, indices: NDArray[np.intp]) -> tuple[NDArray[np.float64], str]:
    """Find the unit in which evidence maps of some galaxies are shown, and the factors to it.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Positions of the galaxies.

    Returns
    -------
    factors : (n,) ndarray of float64
        What a value per pixel of the map is multiplied by.
    unit : str
        "arcsec" for log-odds per arcsec², if the pixel scale of every galaxy is known; "pix" for
        log-odds per pixel of the cutout.
    """
    height, width = store.map_shape
    # A map covers the cutout, whatever its own resolution.
    size = store.cutout_shape
    per_pixel = height * width / (size[0] * size[1])
    scales = store.pixel_scale[indices].astype(np.float64)
    if np.isfinite(scales).all():
        return per_pixel / scales**2, "arcsec"
    return np.full(len(indices), per_pixel), "pix"


def describe_evidence(store: Store, markup: Markup) -> str:
    """Say what an evidence map is, of which layer, and what its signs and its zero mean."""
    names = [markup.text(name) for name in name_classes(store)]
    # Maps of evidence are made of those of Grad-CAM.
    words = METHODS["grad-cam"] if store.method == "evidence" else find_words(store.record)
    method = markup.text(f"{words.name} maps" + (f" ({words.source})" if words.source else ""))
    if len(names) == 2:
        about = (
            f"An evidence map explains the log-odds of one class against the other: it is the "
            f"difference of their {method}."
        )
    else:
        about = (
            "An evidence map explains the log-odds of a class against all others: it is, of the "
            f"{method}, that of the class less the mean of the others, weighted by their "
            "probabilities."
        )
    grid = markup.times(*store.map_shape)
    if store.method in PIXEL_METHODS:
        return (
            f"{about} Maps have {grid} pixels, as the network sees{describe_mean(store)}. "
            f"{find_words(store.record).note}"
        ).strip()
    layer = markup.text(store.record.target_layer)
    faithful = markup.text(describe_faithfulness(store.record))
    return " ".join(
        filter(
            None,
            (
                f"{about} Maps have {grid} cells, those of layer {layer}{describe_mean(store)}.",
                f"{faithful[0].upper()}{faithful[1:]}." if faithful else "",
                describe_bypass(store),
                describe_rounding(store),
            ),
        )
    )


def describe_sums(store: Store, shown: Sequence[Evidence], indices: NDArray[np.intp]) -> str:
    """Say what the log-odds are, and whether the maps add up to them."""
    words = "The log-odds are those of the class in the prediction, by the natural logarithm"
    offsets = find_offsets(store, indices)
    if offsets is None:
        return f"{words}. {_explain_gap(store)}"
    of_biases = store.record.head_bias is not None and store.method not in PIXEL_METHODS
    if len(store.class_names) == 2:
        what = "the difference of the biases of the classes" if of_biases else "a constant"
        values = offsets[:, sorted({c for one in shown for c in one.classes})]
        if np.ptp(values, axis=0).max() < CONSTANT:
            amount = " or ".join(map(format_signed, values.mean(axis=0).tolist()))
        else:
            # Integrals are sums of a few steps, and maps of 8 bits are rounded.
            is_rounded = store.form == "native"
            what = f"{what} and the rounding of the map" if is_rounded else f"nearly {what}"
            ends = zip(values.min(axis=0), values.max(axis=0), strict=True)
            amount = " or ".join(
                f"{format_signed(float(low))} to {format_signed(float(high))}" for low, high in ends
            )
    else:
        what = "an offset that depends on the probabilities"
        what += " and the biases of the classes" if of_biases else ""
        values = np.concatenate([offsets[row, list(one.classes)] for row, one in enumerate(shown)])
        bounds = (format_signed(float(value)) for value in (values.min(), values.max()))
        amount = " to ".join(dict.fromkeys(bounds))
    return f"{words}: the sum of a map over the cutout plus {what}, here {amount}."


def _explain_gap(store: Store) -> str:
    """Say why the sums of maps and their offsets are not the log-odds, as far as is known."""
    record = store.record
    if record.head_bias is not None:
        # Pooling and one linear layer follow: each network's maps add up to its own log-odds.
        if store.method == "evidence" and (store.n_networks > 1 or store.settings.maps.tta):
            return (
                "The maps do not add up to them: they are means of maps that weight the other "
                "classes by different probabilities."
            )
        return "The maps do not add up to them, as they are stored."
    if record.hires_distance is None and store.whole.n_galaxies < MIN_COMPARED:
        return "Whether the maps add up to them is not known."
    if store.method in PIXEL_METHODS:
        return "The maps do not add up to them."
    return (
        "The maps do not add up to them: other layers contribute, or do more than pool and weight "
        "this one."
    )


def format_signed(value: float) -> str:
    """Write a number with its sign and two decimals: '−0.42'."""
    words = f"{value:+.2f}"
    return "0.00" if float(words) == 0 else words.replace("-", "−")


def describe_field(store: Store, indices: NDArray[np.intp]) -> str:
    """Say how much of the image a cell of a map depends on; "" where the store does not know."""
    field = store.record.receptive_field
    if field is None:
        return ""
    if field.side_px is None:
        return "Each cell depends on nearly all of the cutout, wherever it lies."
    sizes = []
    arcsec = field.side_px * store.pixel_scale[indices].astype(np.float64)
    kpc = arcsec * store.kpc_per_arcsec[indices]
    for values, unit in ((arcsec, "arcsec"), (kpc, "kpc")):
        if np.isfinite(values).all():
            low, high = (_format_size(value) for value in (values.min(), values.max()))
            sizes.append(f"{low if low == high else f'{low} to {high}'} {unit}")
    side = f"a square of {_format_size(field.side_px, digits=3)} pixels of the cutout"
    if sizes:
        side += f" ({', '.join(sizes)})"
    weights = _describe_weights(store)
    verb, on = ("shows features", "of") if weights else ("depends", "on")
    beyond = "nothing beyond"
    if find_scaled_size(store) is not None:
        beyond = "the next ones, which scaling blends with them"
    return f"Each cell {verb} {on} {side}, and {on} {beyond}{weights}."


def _describe_weights(store: Store) -> str:
    """Say what features are weighted by, where that depends on the whole image; else "".

    Behind pooling and one linear layer, gradients are the same for all images. The probabilities
    that weight the other classes never are, and two classes need none.
    """
    weights = []
    if store.record.hires_distance is not None:
        weights.append("the gradients")
    if len(store.class_names) > 2:
        weights.append("the probabilities of the other classes")
    if not weights:
        return ""
    return f"; what weights them, {' and '.join(weights)}, depends on all of the cutout"


def _format_size(value: float, digits: int = 2) -> str:
    """Write a length with so many significant digits, without a power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.{digits}g}"


def describe_networks(
    store: Store, shown: Sequence[Evidence], markup: Markup, *, are_hatched: bool = True
) -> str:
    """Say of several networks what their intervals are, and how much of the maps is hatched."""
    if store.n_networks == 1:
        return ""
    percent = markup.percent
    words = (
        f"Log-odds are given with the 95{percent} interval of their mean over networks of this "
        "recipe (Student's t)."
    )
    is_binary = len(store.class_names) == 2
    if not is_binary:
        # The log-odds of mean logits are not the mean of the log-odds.
        words = (
            f"Log-odds are those of the mean logits, with half the width of the 95{percent} "
            "interval of the mean log-odds over networks of this recipe (Student's t)."
        )
    if not are_hatched:
        return words
    fixed = ""
    if not is_binary and store.method != "evidence":
        fixed = ", with the probabilities of the mean logits for all networks"
    rounded = ", widened by the rounding of the maps," if store.form == "native" else ""
    pairs = [(one.is_uncertain, np.abs(one.maps)) for one in shown if one.is_uncertain is not None]
    n_hatched = sum(int(mask.sum()) for mask, _ in pairs)
    hatched = sum(float(size[mask].sum()) for mask, size in pairs)
    total = sum(float(size.sum()) for _, size in pairs)
    n_cells = sum(mask.size for mask, _ in pairs)
    return (
        f"{words} Where such an interval of a cell{rounded} holds zero{fixed}, the cell is "
        "hatched: "
        f"{_format_share(n_hatched / n_cells)}{percent} of the cells, with "
        f"{_format_share(hatched / total if total else 0)}{percent} of the absolute evidence. "
        f"Each cell is tested by itself: of cells without evidence, 5{percent} are not hatched."
    )


def _format_share(share: float) -> str:
    """Write a share in percent as a whole number, without rounding to 0 or 100."""
    return f"{100 * share:.0f}" if share in (0, 1) else f"{np.clip(100 * share, 1, 99):.0f}"


def name_evidence(store: Store, markup: Markup, chosen: Sequence[int] = ()) -> str:
    """Say what is evidence for what: 'high-mass against low-mass', or of more classes 'a and b'."""
    names = [markup.text(name) for name in name_classes(store)]
    if len(names) == 2 and len(chosen) < 2:
        index = (*chosen, 1)[0]
        return f"{names[index]} against {names[1 - index]}"
    return describe_choice_of_maps(store, markup, chosen)


def introduce_evidence(
    store: Store,
    selection: Selection,
    shown: Sequence[Evidence],
    chosen: Sequence[int],
    markup: Markup,
    how: str,
    style: StyleSettings = DEFAULT_STYLE,
    each: str = "Each row",
) -> str:
    """Say which galaxies rows show, evidence for what, and how it is drawn; in lines."""
    cutout = store.cutouts(int(selection.indices[0]))
    of, is_binary = name_evidence(store, markup, chosen), len(store.class_names) == 2
    frame = "" if is_binary else "; the predicted class is in bold, and its map has a frame"
    return join_lines(
        f"Evidence for {of if is_binary else 'classes, each against the rest,'} in "
        f"{describe_sample(store, selection, markup)}.",
        describe_omitted(store, selection, "shown"),
        f"{each} shows one galaxy: the cutout ({describe_size(store, cutout.shape, markup)}), "
        f"{name_next(style)} its evidence {'map' if len(shown[0].classes) == 1 else 'maps'} for "
        f"{of}, {how}"
        f"{frame}. {_describe_numbers(markup, style)}",
    )


def _describe_numbers(markup: Markup, style: StyleSettings) -> str:
    """Say which numbers stand on a map of evidence; "" if there are none."""
    p = f"the probability {markup.math('p')} of its class, the softmax of the network's output"
    if "p" not in style.annotate:
        return "On a map are the log-odds of its class." if "sum" in style.annotate else ""
    return f"On a map {f'are {p}, and its log-odds' if 'sum' in style.annotate else f'is {p}'}."


def describe_signs(positive: str = "", negative: str = "") -> str:
    """Say what the signs of evidence mean, and what zero does; the words name their colours."""
    return (
        f"Positive values{positive} count for the class that is named on the map, negative "
        f"ones{negative} against it. Zero is no evidence either way, which the sky need not be."
    )


def label_evidence(store: Store, evidence: Evidence, index: int) -> list[tuple[str, str, bool]]:
    """Return heading, footing and whether it is that of the predicted class, for each map.

    Of two classes, the sign of the log-odds tells the predicted one.
    """
    names = name_classes(store)
    labels = []
    for row, c in enumerate(evidence.classes):
        odds = f"log-odds {format_signed(evidence.log_odds[row])}"
        if evidence.margins is not None:
            odds += f" ± {evidence.margins[row]:.2f}"
        is_predicted = bool(len(names) > 2 and c == store.predicted[index])
        footing = f"$p {format_probability(store.probs[index, c])}$\n{odds}"
        labels.append((names[c], footing, is_predicted))
    return labels


def tabulate_evidence(
    store: Store, indices: NDArray[np.intp], chosen: Sequence[int] = ()
) -> dict[str, Column]:
    """Tabulate galaxies, and numbers of their evidence maps.

    Parameters
    ----------
    store : Store
        An open store.
    indices : (n,) ndarray of int
        Positions of the galaxies.
    chosen : sequence of int, optional
        Classes whose maps are shown; see `choose_evidence`.

    Returns
    -------
    dict of str to Column
        The columns of `galfig.figures.drawing.tabulate_galaxies` but the peaks; for each class its
        log-odds, the sum and the range of its map and, where they are known, the offset between
        sum and log-odds, the interval of the mean over networks, and the share of uncertain cells.
        What a figure does not show of a galaxy is NaN.
    """
    indices = np.asarray(indices, np.intp)
    shown = [read_evidence(store, int(i), choose_evidence(store, int(i), chosen)) for i in indices]
    factors, unit = find_unit(store, indices)
    per = "1 / arcsec2" if unit == "arcsec" else "1 / pix2"
    described = {
        "log_odds": ("log-odds of {} [nat]", ""),
        "margin": ("half the 95 % interval of their mean over the networks [nat]", ""),
        "sum": ("sum of the evidence map of {} [nat]", ""),
        "offset": ("log-odds less that sum [nat]", ""),
        "lowest": ("lowest value of that map [log-odds per area]", per),
        "highest": ("highest value of that map [log-odds per area]", per),
        "hatched": ("share of its cells whose interval holds zero", ""),
    }
    numbers = [_measure(one, float(factor)) for one, factor in zip(shown, factors, strict=True)]
    offsets = find_offsets(store, indices)
    if offsets is not None:
        for row, of_galaxy in enumerate(numbers):
            for c, found in of_galaxy.items():
                found["offset"] = float(offsets[row, c])
    columns = {
        name: column
        for name, column in tabulate_galaxies(store, indices).items()
        if not name.startswith("peak_")
    }
    for c in sorted({c for one in shown for c in one.classes}):
        name = store.class_names[c]
        for key, (words, of) in described.items():
            values = [of_galaxy.get(c, {}).get(key, np.nan) for of_galaxy in numbers]
            if not np.isnan(values).all():
                columns[f"{key}_{name}"] = Column(values, words.format(name), of)
    if store.agreement is not None:
        columns["agreement"] = Column(
            store.agreement[indices],
            "median Spearman correlation of the evidence maps of two networks",
        )
    return columns


def _measure(evidence: Evidence, factor: float) -> dict[int, dict[str, float]]:
    """Return numbers of the maps of a galaxy, by class and by name."""
    found = {}
    for row, c in enumerate(evidence.classes):
        found[c] = {
            "log_odds": float(evidence.log_odds[row]),
            "sum": float(evidence.sums[row]),
            "lowest": factor * float(evidence.maps[row].min()),
            "highest": factor * float(evidence.maps[row].max()),
        }
        if evidence.margins is not None and evidence.is_uncertain is not None:
            found[c]["margin"] = float(evidence.margins[row])
            found[c]["hatched"] = float(evidence.is_uncertain[row].mean())
    return found
