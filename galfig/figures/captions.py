"""Captions of figures, as plain text and as LaTeX."""

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice, pairwise, product
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.config import (
    DEFAULT_STYLE,
    NONLINEAR_METHODS,
    PIXEL_METHODS,
    ClassSettings,
    StyleSettings,
)
from galfig.figures.choice import MAX_MAPS, choose_maps
from galfig.figures.compass import describe_orientation, read_orientations
from galfig.figures.labels import KNOWN, escape_label, write_label
from galfig.figures.latex import escape_latex
from galfig.figures.methods import describe_faithfulness, find_words
from galfig.metrics import Accuracy, rate_accuracy
from galfig.store.designations import name_by_position
from galfig.store.forms import N_STEPS
from galfig.store.reader import Store
from galfig.store.selection import (
    Query,
    Selection,
    count_splits,
    describe_conditions,
    find_in_split,
)
from galfig.store.summary import describe_source

if TYPE_CHECKING:
    from galfig.figures.layout import Arrangement

# Galaxies by how the training of the network used them, after the noun.
_SPLITS = {
    "valid": "of the validation set",
    "test": "of the test set",
    "train": "that trained the network",
    "": "whose part in the training is unknown",
}
# With more classes, captions do not name each.
MAX_NAMES = 8
# Correlation below which the two maps of a galaxy are called mirror images, where most rows are.
MIRROR = -0.9
# Longer units of columns are not shown [characters].
MAX_UNIT = 30
# The total of a map is said to be the logit where the two differ by a constant, up to this
# fraction of the range of the logits. Maps are stored as float16.
SAME_LOGIT = 0.02

# How a figure orders its galaxies.
ORDERS: Final = {
    "random": "in a random order",
    "loss": "by decreasing loss",
    "p": "by decreasing probability of the predicted class",
    "redshift": "by increasing redshift",
}
# The order of galaxies that are alike to one.
LIKE: Final = "by increasing distance of features from the first"


# How maps lie over their cutouts, in words, and where lines are drawn.
PLACES = {
    "opaque": "drawn over the dimmed cutout",
    "blend": "drawn over the cutout, which shines through",
    "contour": "drawn as lines over the cutout",
    "side": "drawn beside the cutout",
}
_BEHIND = {
    "opaque": "; below a tenth of it, the cutout shows through",
    "blend": "; the cutout shines through all of it",
    "contour": "",
    "side": "; no cutout lies behind it",
}
_LEVELS = "0.25, 0.5 and 0.75"


@dataclass(frozen=True)
class Markup:
    """The markup of a caption: plain text or LaTeX.

    Attributes
    ----------
    is_latex : bool
        Whether the caption is LaTeX.
    """

    is_latex: bool

    def text(self, words: str) -> str:
        """Return text that comes from data, escaped for this markup."""
        return escape_latex(words) if self.is_latex else words

    def label(self, words: str) -> str:
        """Return what a column is called, escaped for this markup but for its ``$...$``."""
        return write_label(words, is_latex=self.is_latex)

    def math(self, formula: str) -> str:
        """Return a formula that contains no LaTeX command, such as '0.05 < z < 0.08'."""
        return f"${formula}$" if self.is_latex else formula

    def times(self, first: int, second: int) -> str:
        """Return a product of two numbers."""
        return rf"${first}\times{second}$" if self.is_latex else f"{first} × {second}"

    def scientific(self, number: float) -> str:
        """Return a positive number with two significant figures: '0.003', '2.5e-07'."""
        words = f"{number:.2g}"
        if not self.is_latex or "e" not in words:
            return words
        mantissa, exponent = words.split("e")
        factor = "" if mantissa == "1" else rf"{mantissa}\times"
        return f"${factor}10^{{{int(exponent)}}}$"

    @property
    def sigma(self) -> str:
        """The symbol of the sum of a map."""
        return r"$\Sigma$" if self.is_latex else "Σ"

    @property
    def percent(self) -> str:
        """The percent sign, preceded by a thin space in LaTeX."""
        return r"\,\%" if self.is_latex else " %"


class MapPair(NamedTuple):
    """How the two maps of a galaxy compare.

    Attributes
    ----------
    correlation : float
        Over their pixels; 0 if one map is constant.
    n_positive : int
        Number of positive pixels of the two maps together.
    n_opposite : int
        Number of those that are negative in the other map.
    """

    correlation: float
    n_positive: int
    n_opposite: int


PLAIN, LATEX = Markup(is_latex=False), Markup(is_latex=True)


def describe_panels(
    store: Store,
    selection: Selection,
    markup: Markup,
    chosen: Sequence[int] = (),
    style: StyleSettings = DEFAULT_STYLE,
    arrangement: "Arrangement | None" = None,
) -> str:
    """Write the caption of the panels, one sentence per line.

    Parameters
    ----------
    store : Store
        An open store.
    selection : Selection
        The galaxies shown, from top to bottom.
    markup : Markup
        ``PLAIN`` or ``LATEX``.
    chosen : sequence of int, optional
        The classes whose maps are shown; see `galfig.figures.choice.choose_maps`.
    style : StyleSettings, optional
        How the maps lie over the cutouts, which share a colour scale, and what stands on them.
    arrangement : Arrangement, optional
        Where the panels stand; by default, in rows one below another.

    Returns
    -------
    str
        The galaxies and how they were chosen, the panels, how to read them, the network and its
        accuracy, a list of the galaxies, and whether they are simulated.
    """
    cutout = store.cutouts(int(selection.indices[0]))
    indices = map(int, selection.indices)
    shown = [(index, choose_maps(store, index, chosen)) for index in indices]
    what = "map" if len(chosen or store.class_names) == 1 else "maps"
    method = find_words(store.record)
    return join_lines(
        f"{method.title} maps of {describe_sample(store, selection, markup)}.",
        describe_omitted(store, selection, "shown"),
        f"{'Each row' if arrangement is None else arrangement.each} shows one galaxy: the cutout "
        f"({describe_size(store, cutout.shape, markup)}), {name_next(style)} its {method.name} "
        f"{what} for {describe_choice_of_maps(store, markup, chosen)}, "
        f"{name_place(style)}; {describe_frames(store, shown, style)}.",
        describe_facts(store, selection.indices, markup, style),
        describe_maps(store, markup, style),
        f"{define_symbols(store, markup, style)} {describe_reading(store, shown, markup, style)}",
        f"{describe_scale(store, selection.indices, markup)} "
        f"{describe_orientation(read_orientations(store, selection.indices), style)}",
        describe_classes(store, markup),
        describe_network(store, markup),
        describe_doubts(store, markup),
        list_galaxies(
            *(store, selection.indices, markup, order_rows(selection)),
            style=style,
            arrangement=arrangement,
        ),
        _describe_origin(store, markup),
    )


def join_lines(*sentences: str) -> str:
    """Join the sentences of a caption, one per line, without those that are empty."""
    return "\n".join(sentence.strip() for sentence in sentences if sentence.strip()) + "\n"


def count_noun(n: int, noun: str = "galaxy") -> str:
    """Return a number and its noun: '1 galaxy', '5 galaxies', '2 pages'."""
    return f"{n} {_plural(noun, n)}"


def count_rows(n: int, noun: str = "galaxy", rows: str = "row", of: str = "of panels") -> str:
    """Count the rows of a figure in words for its alternative text.

    Parameters
    ----------
    n : int
        Number of rows, or of pairs of them.
    noun : str, default "galaxy"
        What each row shows.
    rows, of : str
        What is counted: 'row', 'of panels'.

    Returns
    -------
    str
        'Rows of panels, one for each of 5 galaxies', or 'A row of panels for 1 galaxy'.
    """
    if n == 1:
        return f"A {rows} {of} for 1 {noun}"
    return f"{_plural(rows, n).capitalize()} {of}, one for each of {count_noun(n, noun)}"


def list_classes(store: Store, markup: Markup = PLAIN, chosen: Sequence[int] = ()) -> str:
    """List classes by name, all or chosen ones: 'a, b and c'; 'each of the 50 classes'."""
    names = name_classes(store)
    if chosen and len(chosen) < len(names):
        return list_words([markup.text(names[index]) for index in chosen])
    if len(names) > MAX_NAMES:
        return f"each of the {len(names)} classes"
    return list_words([markup.text(name) for name in names])


def describe_choice_of_maps(store: Store, markup: Markup, chosen: Sequence[int] = ()) -> str:
    """Name the classes whose maps rows show, as `choose_maps` chooses them: 'a and b'."""
    n_classes, names = len(store.class_names), name_classes(store)
    if chosen:
        return list_words([markup.text(names[index]) for index in chosen])
    if n_classes <= MAX_MAPS:
        return list_classes(store, markup)
    return (
        f"two of the {n_classes} classes: the true and the predicted one or, where they are the "
        "same or the true class is unknown, the predicted one and the next in probability"
    )


def list_names(names: Sequence[str], word: str = "and") -> str:
    """List some classes: 'a, b and c'; of many, 'a, b, c, d, e, f, g, h and 42 more'."""
    more = [f"{len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
    return list_words([*names[:MAX_NAMES], *more], word)


def describe_maps(store: Store, markup: Markup, style: StyleSettings = DEFAULT_STYLE) -> str:
    """Describe the maps and how they are drawn."""
    return f"{describe_layer(store, markup)} {describe_drawing(store, style)}"


def describe_layer(
    store: Store, markup: Markup, subject: str = "The maps", *, is_cited: bool = False
) -> str:
    """Describe what maps explain, by which method unless it is cited, and how large they are."""
    cited = "" if is_cited else cite_method(store, markup)
    words = (
        f"{subject}{cited} explain {describe_explained(store, markup)} and "
        f"have {markup.times(*store.map_shape)} pixels{describe_mean(store)}. "
        f"{describe_limits(store, markup)}"
    )
    return words.strip()


def cite_method(store: Store, markup: Markup) -> str:
    """Cite the method of the maps, after a noun: ' (Selvaraju et al. 2017)'."""
    source = find_words(store.record).source
    return f" ({markup.text(source)})" if source else ""


def describe_explained(store: Store, markup: Markup) -> str:
    """Say what is explained: 'layer conv3', or 'the pixels of the image'."""
    layer = markup.text(store.record.target_layer)
    return f"layer {layer}" if layer else "the pixels of the image"


def describe_limits(store: Store, markup: Markup) -> str:
    """Say what a reader of maps would get wrong, in sentences; "" if there is nothing to say."""
    faithful = markup.text(describe_faithfulness(store.record))
    sentences = [
        find_words(store.record).note,
        f"{faithful[0].upper()}{faithful[1:]}." if faithful else "",
        describe_bypass(store),
        describe_rounding(store),
    ]
    return " ".join(filter(None, sentences))


def describe_rounding(store: Store) -> str:
    """Say how coarse maps of 8 bits are; "" of others."""
    if store.form != "native":
        return ""
    return f"Each map is stored in steps of 1/{N_STEPS} of its largest absolute value."


def describe_mean(store: Store) -> str:
    """Say that maps are means over networks, and how far those agree; "" of one network."""
    if store.agreement is None:
        return ""
    words = f"; they are means over {store.n_networks} networks"
    agreement = store.whole.agreement
    if not np.isfinite(agreement):
        return words
    # Maps that are not linear in the output give no evidence.
    what = "maps" if store.method in NONLINEAR_METHODS else "evidence maps"
    return (
        f"{words}, whose {what} of a galaxy have a rank correlation of "
        f"{agreement:.2f} in the median over pairs and galaxies"
    )


def name_place(style: StyleSettings) -> str:
    """Say how maps lie over their cutouts."""
    if style.overlay == "side" and style.layout == "grid":
        return "drawn without the cutout"
    return PLACES[style.overlay]


def name_block(style: StyleSettings) -> str:
    """Return what the panels of a galaxy make."""
    return "column" if style.layout == "grid" else "row"


def name_next(style: StyleSettings) -> str:
    """Return the word between a cutout and its maps."""
    return "below it" if style.layout == "grid" else "then"


def name_scale(style: StyleSettings, scale: str = "colour scale") -> str:
    """Say which maps share a colour scale."""
    block = name_block(style)
    return {
        "row": f"on one {scale} per {block}",
        "panel": f"each on a {scale} of its own",
        "figure": f"on one {scale} for all {block}s",
    }[style.scale]


def describe_frames(
    store: Store, shown: Sequence[tuple[int, Sequence[int]]], style: StyleSettings = DEFAULT_STYLE
) -> str:
    """Say how the map of the predicted class and that of the true one are marked.

    Parameters
    ----------
    store : Store
        An open store.
    shown : sequence of (int, sequence of int)
        For each row, the position of its galaxy and the classes whose maps it shows.
    style : StyleSettings, optional
        Whether the true class is marked.

    Returns
    -------
    str
        What follows a semicolon.
    """
    pairs = [(int(store.label[i]), int(store.predicted[i]), classes) for i, classes in shown]
    are_all = all(predicted in classes for _, predicted, classes in pairs)
    is_said = "true" in style.annotate and any(label >= 0 for label, _, _ in pairs)
    return mark_frames(
        any(label != predicted and label in classes for label, predicted, classes in pairs),
        is_said=is_said,
        are_all=are_all,
    )


def mark_frames(is_other: bool, *, is_said: bool = True, are_all: bool = True) -> str:
    """Say how the predicted class is marked and, where it is another, the map of the true one.

    Parameters
    ----------
    is_other : bool
        Whether there is the map of a true class that is not predicted.
    is_said : bool, default True
        Whether the figure says which class is the true one.
    are_all : bool, default True
        Whether the map of the predicted class is always among those shown.
    """
    where = "" if are_all else ", where its map is shown,"
    if not is_said:
        return f"the predicted class{where} is in bold, and its map has a white frame"
    words = (
        f"the predicted class{where} is in bold, with a tick where it is the true class and a "
        "cross where it is not, and its map has a white frame"
    )
    dashed = "the map of a true class that is another has a dashed frame"
    return f"{words}; {dashed}" if is_other else words


def describe_facts(
    store: Store,
    indices: NDArray[np.intp],
    markup: Markup,
    style: StyleSettings = DEFAULT_STYLE,
) -> str:
    """Say what the words beside the identifier of a galaxy are; "" where they say it."""
    words = []
    if "name" in style.annotate:
        words.append("names give the position in right ascension and declination")
    if "z" in style.annotate and np.isfinite(store.redshift[indices]).any():
        words.append(f"the redshift is {markup.math('z')}")
    return f"{words[0][0].upper()}{'; '.join(words)[1:]}." if words else ""


def describe_drawing(
    store: Store, style: StyleSettings = DEFAULT_STYLE, units: str | None = None
) -> str:
    """Describe how maps are drawn in rows; units as "in logits", by default those of the store."""
    units = units or find_words(store.record).units
    if style.negative:
        return f"Negative values are shown, too. {describe_signed_scale(style, units)}"
    end = {
        "row": f"from zero to the largest value in the {name_block(style)}, which the colour bar "
        f"gives {units}",
        "panel": f"from zero to its largest value, which it names {units}, so that two "
        "panels cannot be compared by brightness",
        "figure": f"from zero to the largest value in the figure, which the colour bars give "
        f"{units}",
    }[style.scale]
    if style.overlay == "contour":
        block = name_block(style)
        one = {
            "row": f"one per {block}",
            "panel": "one per panel",
            "figure": f"one for all {block}s",
        }
        return (
            f"Maps are linear between the centres of their cells. Lines stand at {_LEVELS} of a "
            f"linear scale, {one[style.scale]}, {end}."
        )
    linear = name_scale(style, "linear colour scale")
    return (
        f"Maps are interpolated bilinearly. Only positive values are shown, {linear} {end}"
        f"{_BEHIND[style.overlay]}."
    )


def describe_signed_scale(style: StyleSettings, units: str) -> str:
    """Describe the colour scale of signed maps in rows; units as "in logits"."""
    where = {
        "row": f"in the {name_block(style)}",
        "panel": "of the panel",
        "figure": "in the figure",
    }[style.scale]
    says = "which each panel names" if style.scale == "panel" else "which the colour bar gives"
    how = "Maps are interpolated bilinearly"
    if style.overlay == "contour":
        how = f"Lines stand at {_LEVELS} of the end of the colour scale, dashed below zero"
    return (
        f"{how}, {name_scale(style, 'linear colour scale')}, symmetric about zero, up to the "
        f"largest absolute value {where}, {says} {units}"
        f"{_BEHIND[style.overlay]}."
    )


def describe_bypass(store: Store) -> str:
    """Say that maps show only part of the evidence; "" where they show all of it."""
    if not store.record.layer_is_bypassed:
        return ""
    return (
        "The image also reaches the output of the network past this layer, so that these maps show "
        "only part of the evidence."
    )


def define_symbols(store: Store, markup: Markup, style: StyleSettings = DEFAULT_STYLE) -> str:
    """Say what the numbers on maps are, and that brightness is not probability."""
    p, units = markup.math("p"), find_words(store.record).units
    sentences = ["The brightness of a map is not the probability of its class."]
    if "p" in style.annotate:
        sentences = [
            f"The probability {p} is the softmax of the network's output; the brightness of a map "
            f"is not {p}."
        ]
    if "sum" in style.annotate:
        sentences.append(
            f"{markup.sigma} is the sum of a map over its pixels, negative ones included, {units}."
        )
    return " ".join(sentences)


def describe_reading(
    store: Store,
    shown: Sequence[tuple[int, Sequence[int]]],
    markup: Markup,
    style: StyleSettings = DEFAULT_STYLE,
) -> str:
    """Say how the maps of a figure compare with the output of the network.

    Parameters
    ----------
    store : Store
        An open store.
    shown : sequence of (int, sequence of int)
        For each row, the position of its galaxy and the classes whose maps it shows.
    markup : Markup
        ``PLAIN`` or ``LATEX``.
    style : StyleSettings, optional
        Which maps share a colour scale.

    Returns
    -------
    str
        Sentences: whether the sum of a map is the logit, in how many rows the brightest map is not
        that of the predicted class, and whether two maps mirror each other.
    """
    n_deceptive, n_predicted, pairs = 0, 0, []
    for index, classes in shown:
        cams = store.cams(index)
        peaks = cams.max(axis=(1, 2))
        brightest = max(classes, key=peaks.__getitem__)
        if store.predicted[index] in classes and len(classes) > 1:
            n_predicted += 1
            # What rounding may have made brighter is not called so.
            margin = store.rounding("cams", index)[[brightest, store.predicted[index]]].sum()
            lead = peaks[brightest] - peaks[store.predicted[index]]
            n_deceptive += int(peaks[brightest] > 0 and lead > margin)
        if len(cams) == len(classes) == 2:
            pairs.append(_compare_maps(cams[0], cams[1]))
    sentences = []
    if "sum" in style.annotate:
        sentences.append(_compare_with_logits(store, [index for index, _ in shown], markup))
    # Of a row without the map of the predicted class or without another, or whose panels have
    # scales of their own, there is nothing to say.
    if len(store.class_names) > 1 and n_predicted and style.scale != "panel" and not style.negative:
        n_other = len(shown) - n_predicted
        sentences.append(_describe_brightest(n_deceptive, n_predicted, name_block(style), n_other))
    sentences.append(
        _describe_mirrors(pairs, markup, name_block(style), is_hidden=not style.negative)
    )
    return " ".join(filter(None, sentences))


def _describe_brightest(n_deceptive: int, n: int, block: str = "row", n_other: int = 0) -> str:
    """Say in how many of n blocks the brightest pixel is not on the map of the predicted class.

    Others do not show that map.
    """
    if n == 1:
        words = (
            "the brightest pixel is not on the map of the predicted class"
            if n_deceptive
            else "no other map has a brighter pixel than that of the predicted class"
        )
        where = f"in the {block} that shows the map of the predicted class, " if n_other else ""
        words = f"{where}{words}."
        return words[0].upper() + words[1:]
    blocks = f"{n} {block}s" + (" that show the map of the predicted class" if n_other else "")
    if not n_deceptive:
        return (
            f"In none of the {blocks} does another map have a brighter pixel than that of the "
            "predicted class."
        )
    count = "each" if n_deceptive == n else str(n_deceptive)
    return (
        f"In {count} of the {blocks}, the brightest pixel is not on the map of the predicted class."
    )


def _describe_mirrors(
    pairs: Sequence[MapPair], markup: Markup, block: str, *, is_hidden: bool
) -> str:
    """Say in how many blocks the two maps mirror each other, and what of it is hidden."""
    mirrors = [pair for pair in pairs if pair.correlation < MIRROR]
    if not mirrors or 2 * len(mirrors) < len(pairs):
        return ""
    if len(pairs) == 1:
        value = markup.math(f"{mirrors[0].correlation:.3f}")
        words = f"The two maps are nearly mirror images, with a correlation of {value}"
    else:
        count = "each" if len(mirrors) == len(pairs) else str(len(mirrors))
        words = (
            f"In {count} of the {len(pairs)} {block}s, the two maps are nearly mirror images, with "
            f"a correlation below {markup.math(f'{MIRROR:g}')}"
        )
    # A correlation is blind to the means, so that the signs are counted.
    share = sum(pair.n_opposite for pair in mirrors) / max(1, sum(p.n_positive for p in mirrors))
    percent = f"{100 * share:.0f}" if share in (0, 1) else f"{np.clip(100 * share, 1, 99):.0f}"
    return (
        f"{words}; of the pixels that are positive in one, {percent}{markup.percent} are negative"
        f"{', and so not drawn,' if is_hidden else ''} in the other."
    )


def _compare_maps(one: NDArray[np.float32], other: NDArray[np.float32]) -> MapPair:
    a, b = (cam.astype(np.float64).ravel() - cam.mean(dtype=np.float64) for cam in (one, other))
    norm = np.sqrt((a @ a) * (b @ b))
    return MapPair(
        correlation=float(a @ b / norm) if norm > 0 else 0.0,
        n_positive=int(np.sum(one > 0) + np.sum(other > 0)),
        n_opposite=int(np.sum(((one > 0) & (other < 0)) | ((one < 0) & (other > 0)))),
    )


def _compare_with_logits(store: Store, shown: Sequence[int], markup: Markup) -> str:
    """Say how the totals of maps compare with the logits of their classes.

    The answer depends on the network alone, so that some other galaxies are compared, too.
    """
    n_galaxies = store.whole.n_galaxies
    if store.method == "evidence" and len(store.class_names) != 2:
        # Their difference is another for each galaxy: the entropy of the other classes.
        return (
            f"{markup.sigma} is less than the evidence of the network by what the biases and the "
            "choice among the other classes add."
        )
    if store.method in NONLINEAR_METHODS:
        return f"{markup.sigma} is not the logit of the class."
    what = "log-odds" if store.method == "evidence" else "logit"
    if n_galaxies < 3 and store.method in PIXEL_METHODS:
        return ""
    if n_galaxies < 3:
        return (
            f"{markup.sigma} is the {what} of the class, less a constant, only where pooling and "
            "one linear layer follow the layer explained."
        )
    indices, compared = np.asarray(shown, int), store.compared
    totals = np.concatenate([store.totals(indices), compared.totals])
    logits = np.concatenate([store.logits[indices].astype(np.float64), compared.logits])
    if store.method == "evidence":
        logits = logits - logits[:, ::-1]
    rest = logits - totals
    is_constant = np.ptp(rest, axis=0) <= SAME_LOGIT * np.ptp(logits, axis=0)
    if is_constant.all():
        rounded = " and the rounding of its map" if store.form == "native" else ""
        return (
            f"Here {markup.sigma} is the {what} of the class, less a constant for each "
            f"class{rounded}."
        )
    if store.method in PIXEL_METHODS:
        return f"Here {markup.sigma} is not the logit of the class."
    return (
        f"Here {markup.sigma} is not the {what} of the class, to which other layers contribute too."
    )


def describe_scale(store: Store, indices: NDArray[np.intp], markup: Markup) -> str:
    """Describe the channels that are shown and the scale bars; "" if neither needs words."""
    return f"{describe_channels(store, markup)} {_describe_bars(store, indices)}".strip()


def describe_channels(store: Store, markup: Markup) -> str:
    """Say which channels are shown as which colours; "" for images in colour or in one band."""
    shown, n_channels = store.shown_channels, store.n_channels
    if n_channels == 1 or (n_channels == 3 and shown == (0, 1, 2)):
        return ""
    names = store.record.settings.catalog.channel_names
    if len(names) != n_channels:
        names = tuple(f"channel {number}" for number in range(n_channels))
    words = [markup.text(names[channel]) for channel in shown]
    if len(set(words)) == 1:
        return f"Cutouts show {words[0]}, one of {n_channels} that the network sees, in grey."
    seen = f", of {n_channels} that the network sees" if n_channels > 3 else ""
    return f"Red, green and blue are {list_words(words)}{seen}."


def _describe_bars(store: Store, indices: NDArray[np.intp]) -> str:
    has_bar = np.isfinite(store.pixel_scale[indices])
    if not has_bar.any():
        return ""
    bars = "The scale bar" if has_bar.all() else "Where the pixel scale is known, a scale bar"
    has_length = np.isfinite(store.kpc_per_arcsec[indices]) & has_bar
    if not has_length.any():
        return f"{bars} gives the angle in arcsec."
    where = "" if (has_length == has_bar).all() else "where the redshift is known, "
    return (
        f"{bars} gives the angle in arcsec and, {where}the proper length at the galaxy's redshift, "
        "in the cosmology of Planck Collaboration (2020)."
    ).replace("and, the", "and the")


def describe_sample(
    store: Store,
    selection: Selection,
    markup: Markup,
    n: int | None = None,
    *,
    pool: str | None = None,
    network: str = "",
) -> str:
    """Describe the galaxies of a figure, their splits, and how they were chosen.

    Parameters
    ----------
    store : Store
        An open store.
    selection : Selection
        The galaxies of the figure.
    markup : Markup
        ``PLAIN`` or ``LATEX``.
    n : int, optional
        Number of galaxies to describe, if the figure shows fewer of them.
    pool : str, optional
        Words for the galaxies from which the query chose, after the noun; by default, what the
        training of the store's network did with them.
    network : str, optional
        Words for the network whose output the query is on, where the figure has several.

    Returns
    -------
    str
        A noun phrase: 'the 76 galaxies of the validation set', or '3 of the 40 galaxies of the
        validation set with 0.05 < z < 0.08, drawn at random (seed 256)'.
    """
    n, query = len(selection.indices) if n is None else n, selection.query
    kind = "simulated " if store.record.simulated else ""
    splits = count_splits(store, selection.indices) if pool is None else {}
    if query.objids:
        where = _SPLITS[next(iter(splits))] if len(splits) == 1 else pool
        galaxies = " ".join(filter(None, (f"{n} {kind}{_plural('galaxy', n)}", where)))
        return f"{galaxies}, chosen individually{_break(splits)}"
    conditions = describe_conditions(query, markup.text, markup.math, network)
    n_pool = selection.n_candidates
    if query.like is not None:
        # The galaxy itself is described by itself, whether it meets the conditions or not.
        n_pool -= 1
    if pool is not None:
        parts = (f"{pool},", conditions) if conditions else (pool,)
    else:
        pool = _describe_pool(store, query)
        # A relative clause comes last: 'with z < 0.1 that trained the network'.
        parts = (pool, conditions) if pool.startswith("of ") else (conditions, pool)
    count = "only" if n_pool == 1 else str(n_pool)
    parts = ("besides it" if query.like is not None else "", *parts, describe_subset(store))
    galaxies = " ".join(
        part for part in (f"{count} {kind}{_plural('galaxy', n_pool)}", *parts) if part
    )
    if query.like is not None:
        one = f"the {galaxies}" if n > n_pool else f"{n - 1} of the {galaxies}"
        words = _describe_alike(store, query, one if n > 1 else "", n > n_pool, network, markup)
        return words + _break(splits, "shown: ")
    if n != len(selection.indices):
        return f"the {galaxies}"
    if n == n_pool:
        return f"the {galaxies}{_break(splits)}"
    return f"{n} of the {galaxies}{_break(splits, 'shown: ')}, {describe_order(query, network, n)}"


def _describe_alike(
    store: Store, query: Query, others: str, are_all: bool, network: str, markup: Markup
) -> str:
    """Describe a galaxy and others that are alike to it, which a noun phrase counts."""
    itself = f"galaxy {markup.text(str(query.like))}"
    if not others:
        return itself
    which = "by increasing" if are_all else "those of smallest"
    of = network or ("the networks" if store.n_networks > 1 else "the network")
    layer = markup.text(store.record.target_layer)
    return (
        f"{itself} and {others}, {which} cosine distance to it between features of {of} "
        f"(activations of layer {layer}, averaged over its pixels; Stein et al. 2021)"
    )


def describe_subset(store: Store) -> str:
    """Say of which store a store is a subset, after its galaxies; "" of a whole store."""
    if not store.is_subset:
        return ""
    return f"in a subset of {len(store)} of {count_noun(store.whole.n_galaxies)}"


def _describe_pool(store: Store, query: Query) -> str:
    """Describe the galaxies from which a query chooses, by what the training did with them."""
    words = set(count_splits(store, np.flatnonzero(find_in_split(store, query.split))))
    if len(words) == 1:
        return _SPLITS[words.pop()]
    return "of the store" if "train" in words else "that are not known to have trained the network"


def _break(splits: Mapping[str, int], head: str = "") -> str:
    """List the splits of galaxies in parentheses, if there are several."""
    if len(splits) < 2:
        return ""
    return f" ({head}{', '.join(f'{n} {_SPLITS[word]}' for word, n in splits.items())})"


def describe_omitted(
    store: Store, selection: Selection, verb: str = "counted", *, needs_label: bool = False
) -> str:
    """Say which galaxies of the store a figure leaves out, apart from its conditions.

    Parameters
    ----------
    store : Store
        An open store.
    selection : Selection
        The galaxies of the figure.
    verb : str, default "counted"
        What is not done with those left out.
    needs_label : bool, default False
        Whether galaxies without a true class are left out.

    Returns
    -------
    str
        Sentences; "" if nothing is left out.
    """
    sentences, query = [], selection.query
    n_train = count_splits(store).get("train", 0)
    if query.like is not None:
        # The galaxy that the others are alike to is shown, whatever was done with it.
        n_train -= count_splits(store, selection.indices[:1]).get("train", 0)
    if query.split is None and not query.objids and n_train < len(store) and n_train:
        words = "The galaxy" if n_train == 1 else f"The {n_train} galaxies"
        sentences.append(
            f"{words} of the store that trained the network {_are(n_train)} not {verb}."
        )
    n_unknown = int(np.sum(store.label[selection.indices] < 0)) if needs_label else 0
    if n_unknown:
        sentences.append(
            f"Of these, {n_unknown} without a true class {_are(n_unknown)} not {verb}."
        )
    n_rejected = store.n_rejected
    if n_rejected and verb == "counted":
        sentences.append(
            f"{count_noun(n_rejected)} of the catalog could not be used; the store lists the "
            "reasons."
        )
    return " ".join(sentences)


def is_biased(store: Store, selection: Selection) -> bool:
    """Return whether numbers of these galaxies do not measure how well the network classifies.

    The output of the network chose them, or somebody chose those of a subset. Whoever names
    galaxies has chosen them, whatever file they come from.
    """
    is_part = store.is_subset and not selection.query.objids
    return selection.depends_on_output or is_part


def describe_choice(store: Store, selection: Selection) -> str:
    """Warn of numbers on galaxies that were chosen, as `is_biased` has it; "" of others."""
    if not is_biased(store, selection):
        return ""
    by = (
        "by the output of the network" if selection.depends_on_output else "for a subset of a store"
    )
    return (
        f"These galaxies were chosen {by}, so that the numbers do not measure how well the network "
        "classifies."
    )


def describe_order(query: Query, network: str = "", n: int = 2) -> str:
    """Describe how galaxies were picked from the candidates: 'drawn at random (seed 256)'."""
    if query.objids:
        return "in the order given"
    of, by = (f" {word} {network}" if network else "" for word in ("of", "by"))
    those = "the one" if n == 1 else "those"
    if query.like is not None:
        return LIKE
    return {
        "random": f"drawn at random (seed {query.seed})",
        "loss": f"{those} with the largest loss{of}",
        "p": f"{those} classified with the highest probability{by}",
        "redshift": f"{those} at the lowest redshift",
    }[query.sort]


def order_rows(selection: Selection, network: str = "") -> str:
    """Describe the order of rows, each a galaxy: 'by decreasing loss'; "" where it means nothing.

    Parameters
    ----------
    selection : Selection
        The galaxies.
    network : str, optional
        Words for the network whose output gives the order, where the figure has several.
    """
    query = selection.query
    if query.like is not None:
        return f"{LIKE}{f' of {network}' if network else ''}"
    if query.objids or query.sort == "random":
        return ""
    of = f" of {network}" if network and query.sort in ("loss", "p") else ""
    return f"{ORDERS[query.sort]}{of}"


def describe_training(
    store: Store, markup: Markup, *, with_accuracy: bool = True, with_classes: bool = True
) -> str:
    """Describe the classes, the network and its accuracy, in lines that end any caption."""
    return join_lines(
        describe_classes(store, markup) if with_classes else "",
        describe_network(store, markup, with_accuracy=with_accuracy),
        describe_doubts(store, markup),
        _describe_origin(store, markup),
    )


def describe_own_training(store: Store, markup: Markup) -> str:
    """Describe the training itself, in lines that end the caption of a figure of it alone.

    Everything is from the record of the training: the galaxies of the store, their classes and
    their images may be others.

    Parameters
    ----------
    store : Store
        An open store.
    markup : Markup
        ``PLAIN`` or ``LATEX``.

    Returns
    -------
    str
        The classes, the network, its accuracy on the validation set, and whether the galaxies were
        simulated.
    """
    training, names = store.training, store.class_names
    classes = None if training.settings is None else training.settings.classes
    sentences = [describe_network(store, markup, of_training=True)]
    if classes is not None and classes.column:
        column = markup.label(name_column(store, classes.column))
        bounds = _list_intervals(store, classes, markup)
        words = f"The classes are those of {column}"
        if bounds:
            words = f"The classes are intervals of {column}: {list_words(bounds)}"
        absent = [markup.text(label) for label in classes.labels or () if label not in names]
        without = ""
        if absent:
            what = "class" if len(absent) == 1 else "classes"
            without = f", without galaxies of {what} {list_names(absent)}"
        if bounds or absent:
            sentences.insert(0, f"{words}{without}.")
    if training.simulated:
        sentences.append("All images and labels of the training are simulated.")
    return join_lines(*sentences)


def describe_smoothing(n_steps: int | None) -> str:
    """Describe how fastai smooths the training loss, over so many steps if they are known.

    It is an exponential average with the factor 0.98 from the first step, corrected for its start:
    of many steps, the last 50 have 64 % of the weight.
    """
    words = "an exponential average over all steps so far"
    return words if n_steps is not None and n_steps <= 50 else f"{words}, mostly the last 50"


def _describe_own_accuracy(store: Store, markup: Markup) -> str:
    """State the accuracy on the validation set at the end of the training; "" if not known."""
    training, names = store.training, store.class_names
    n_valid = [(training.n_valid or {}).get(name, 0) for name in names]
    if store.n_networks > 1:
        return _describe_own_accuracies(store, sum(n_valid), markup)
    known = dict(training.metrics or {})
    if training.history:
        known = training.history[-1].model_dump() | known
    accuracy, balanced = known.get("accuracy"), known.get("balanced_accuracy")
    if not sum(n_valid) or accuracy is None or not np.isfinite(accuracy):
        return ""
    n_right = round(accuracy * sum(n_valid))
    score = rate_accuracy(n_right, n_valid, float("nan") if balanced is None else balanced)
    classes = None if training.settings is None else training.settings.classes
    shown = tuple(names) if classes is None else _name_by(store, classes)
    return (
        ", and of the galaxies of the validation set it classifies "
        f"{describe_accuracy(score, shown, markup)}"
    )


def _describe_own_accuracies(store: Store, n_valid: int, markup: Markup) -> str:
    """State the accuracies of several networks at the end of their trainings."""
    found = [(network.metrics or {}).get("accuracy", np.nan) for network in store.record.networks]
    if not found or not n_valid or not np.isfinite(found).all():
        return ""
    low, high, mean = (f"{100 * value:.1f}" for value in (min(found), max(found), np.mean(found)))
    return (
        f", and of the {count_noun(n_valid)} of the validation set they classify {low} to "
        f"{high}{markup.percent} correctly, each by itself, and {mean}{markup.percent} in the mean"
    )


def describe_classes(store: Store, markup: Markup) -> str:
    """Define the classes, and say which galaxies of the catalog belong to none of them.

    A reader would otherwise take "low" and "high" for the halves of the sample, although a network
    may know only its ends.

    Parameters
    ----------
    store : Store
        An open store.
    markup : Markup
        ``PLAIN`` or ``LATEX``.

    Returns
    -------
    str
        A sentence; "" if no galaxy has a true class, or if the names say it all.
    """
    if not any(store.whole.n_in_class):
        return ""
    classes = store.settings.classes
    column = introduce_column(store, classes.column, markup)
    words = f"The classes are those of {column}"
    bounds = _list_intervals(store, classes, markup)
    is_listed = bool(bounds)
    if bounds:
        words = f"The classes are intervals of {column}: {list_words(bounds)}"
    absent = describe_absent(store, markup)
    if not absent and not is_listed:
        return ""
    return f"{words}, without the catalog's {absent}." if absent else f"{words}."


def _list_intervals(store: Store, classes: ClassSettings, markup: Markup) -> list[str]:
    """List classes with their intervals: 'low-mass (8.5, 10.7]'; none where they are no bins."""
    names = store.class_names
    shown = dict(zip(names, _name_by(store, classes), strict=True))
    bounds = [
        f"{markup.text(shown[label])} {markup.math(f'({low:g}, {high:g}]')}"
        for label, (low, high) in zip(
            classes.labels or (), pairwise(classes.edges or ()), strict=False
        )
        if label in shown
    ]
    # Many classes are not listed, nor are those of a store whose settings name others.
    return bounds if len(bounds) == len(names) <= MAX_NAMES else []


def describe_absent(store: Store, markup: Markup) -> str:
    """List the classes of the catalog that the store does not hold; "" if it holds all."""
    counts = store.record.class_counts
    known = store.settings.classes.labels or tuple(counts)
    absent = [label for label in known if label not in store.class_names and counts.get(label, 1)]
    words = [
        f"{count_noun(counts[label])} of class {markup.text(label)}"
        if label in counts
        else f"galaxies of class {markup.text(label)}"
        for label in absent[:MAX_NAMES]
    ]
    more = len(absent) - MAX_NAMES
    if more > 0:
        words.append(f"those of {count_noun(more, 'more class')}")
    return list_words(words) if words else ""


def describe_accuracy(score: Accuracy, names: Sequence[str], markup: Markup) -> str:
    """Write an accuracy and its baselines, after 'classifies': '62 of 70 correctly (88.6 %; ...)'.

    Parameters
    ----------
    score : Accuracy
        The accuracy.
    names : (C,) sequence of str
        Names of the classes.
    markup : Markup
        ``PLAIN`` or ``LATEX``.

    Returns
    -------
    str
        The counts; in parentheses, the share, the share of the largest class and, where the classes
        are of unequal size, the balanced accuracy and that of a guess. If all are of one class,
        only that.
    """
    percent = markup.percent
    majority = markup.text(names[score.majority])
    words = f"{score.n_right} of {score.n} correctly ({100 * score.accuracy:.1f}{percent}; "
    if score.majority_share == 1:
        return f"{words}{'all are' if score.n > 1 else 'it is'} {majority})"
    words += f"always predicting {majority} would give {100 * score.majority_share:.1f}{percent}"
    is_unequal = score.majority_share * len(names) > 1 + 1e-9
    if is_unequal and np.isfinite(score.balanced_accuracy):
        words += (
            f", and the balanced accuracy is {100 * score.balanced_accuracy:.1f}{percent}, where "
            f"any guess has {100 / len(names):.1f}{percent}"
        )
    return f"{words})"


def name_classes(store: Store) -> tuple[str, ...]:
    """Return the names of the classes in figures, (C,), such as 'low-metallicity'.

    In a store without classes of its own, the quantity is that of the training.
    """
    classes, trained = store.settings.classes, store.training.settings
    if not classes.column and trained is not None:
        classes = trained.classes
    return _name_by(store, classes)


def _name_by(store: Store, classes: ClassSettings) -> tuple[str, ...]:
    """Return the names of the classes, with the quantity behind those that were not renamed."""
    own = set(store.new_names.values())
    return tuple(
        f"{name}-{classes.name}" if classes.name and name not in own else name
        for name in store.class_names
    )


def name_column(store: Store, column: str) -> str:
    """Return what axes and captions call a column of the catalog: its label, or its name."""
    return store.labels.get(column, escape_label(column))


def name_axis(store: Store, column: str) -> str:
    """Return what an axis calls a column: as labelled, as known, or by its name and unit."""
    if column in store.labels or column in KNOWN:
        return store.labels.get(column) or KNOWN[column]
    unit = store.describe_column(column).unit if column in store.column_names else ""
    # A unit is whatever a file says.
    is_short = 0 < len(unit) <= MAX_UNIT and unit.isprintable()
    return escape_label(f"{column} [{unit}]" if is_short else column)


def introduce_column(store: Store, column: str, markup: Markup) -> str:
    """Name a column as its axis does, and by its own name where that is another that is known."""
    words = name_axis(store, column)
    is_own = column in store.labels or column not in KNOWN
    return markup.label(words) + ("" if is_own else f" ({markup.text(column)})")


def format_probability(p: float) -> str:
    """Return '= 0.973', or an inequality if three decimals would round p to 0 or 1."""
    words = f"{p:.3f}"
    return {"1.000": "> 0.999", "0.000": "< 0.001"}.get(words, f"= {words}")


def find_scaled_size(store: Store) -> int | None:
    """Return the side to which cutouts are scaled for the network [pixel]; None if they are not."""
    trained = store.training.settings
    scaled = store.training.network_size if trained is None else trained.training.image_size
    return None if scaled == store.record.cutout_size else scaled


def describe_size(store: Store, shape: tuple[int, ...], markup: Markup) -> str:
    """Describe the size of a cutout in pixels, in arcsec, and as the network sees it."""
    size = f"{markup.times(shape[1], shape[0])} pixels"
    if store.record.settings.catalog.scale == "whole":
        size = f"the whole image, scaled to {size}"
    scale = store.whole.pixel_scale
    if np.isfinite(scale):
        side = shape[1] * scale
        size += f" of {scale:g} arcsec, {side:.3g} arcsec on a side"
    scaled = find_scaled_size(store)
    if scaled is not None:
        size += f"; scaled to {markup.times(scaled, scaled)} pixels for the network"
    return size


def describe_network(
    store: Store,
    markup: Markup,
    subject: str = "The network",
    *,
    with_accuracy: bool = True,
    of_training: bool = False,
) -> str:
    """Describe, in a sentence, the training set and the accuracy of a network.

    Parameters
    ----------
    store : Store
        An open store.
    markup : Markup
        ``PLAIN`` or ``LATEX``.
    subject : str, default "The network"
        Words for the network.
    with_accuracy : bool, default True
        Whether to state the accuracy on the galaxies of the store.
    of_training : bool, default False
        Whether to state instead that on the validation set, as the training recorded it.

    Returns
    -------
    str
    """
    training, pronoun, was, differing = store.training, "it", "was", ""
    words = f"{subject}, {markup.text(training.arch)}, "
    if store.n_networks > 1:
        words += f"averages the logits of {store.n_networks} networks that "
        pronoun, was = "their mean", "were"
        differing = ", with different seeds"
    if not training.n_train:
        words += f"{was} not trained by galfig"
    elif training.imported is not None:
        n_train = sum(training.n_train.values())
        words += f"{was} trained on {count_noun(n_train)}, not by galfig"
    else:
        n_train = sum(training.n_train.values())
        words += (
            f"{was} trained on {n_train}{' simulated' if training.simulated else ''} "
            f"{_plural('galaxy', n_train)}{' in one band' if store.is_gray else ''}"
            f"{differing}"
        )
        if training.start is not None and "source" in training.start:
            words += f", starting from the weights of {markup.text(training.start['source'])}"
    if of_training:
        return f"{words}{_describe_own_accuracy(store, markup)}."
    question = _describe_question(store, markup)
    if store.settings.maps.tta:
        question += ", is averaged here over the eight orientations of each image"
    score = store.score() if with_accuracy else None
    if score is None:
        return f"{words}{question}."
    splits = store.whole.scored
    if len(splits) == 1:
        galaxies = f"the galaxies {_SPLITS[next(iter(splits))]}"
    else:
        galaxies = list_words(
            [f"{n} {_plural('galaxy', n)} {_SPLITS[w]}" for w, n in splits.items()]
        )
    return (
        f"{words}{question}, and of {galaxies} {pronoun} classifies "
        f"{describe_accuracy(score, name_classes(store), markup)}."
    )


def _describe_question(store: Store, markup: Markup) -> str:
    """State the classes of the training, unless those of the store are the same and defined."""
    if store.training.settings is None:
        return ""
    trained, now = store.training.settings.classes, store.settings.classes
    if not now.column or not any(store.whole.n_in_class):
        return _describe_task(store, trained, markup)
    if (trained.column, trained.edges) == (now.column, now.edges):
        return ""
    by = [
        f"{markup.label(name_column(store, classes.column))} {list(classes.edges or ()) or ''}"
        for classes in (trained, now)
    ]
    by = [words.strip() for words in by]
    return f", classified by {by[0]} rather than, as here, by {by[1]}"


def describe_import(store: Store, markup: Markup, subject: str = "the network") -> str:
    """State that a network was imported without comparing it with the original; "" if it was.

    Parameters
    ----------
    store : Store
        An open store.
    markup : Markup
        ``PLAIN`` or ``LATEX``.
    subject : str, default "the network"
        Words for the network.

    Returns
    -------
    str
        A sentence.
    """
    imported = store.training.imported
    if imported is None or imported.n_checked:
        return ""
    return (
        f"The import of {subject} was not checked against the original network, so its predictions "
        "may differ from those."
    )


def _describe_task(store: Store, classes: ClassSettings, markup: Markup) -> str:
    """State what a network was trained for: ' to tell low (8.5, 10.7] from high ... in mass'."""
    if not classes.column:
        return ""
    column = markup.label(name_column(store, classes.column))
    if len(store.class_names) > MAX_NAMES:
        return f" to tell {len(store.class_names)} classes of {column} apart"
    bounds = _list_intervals(store, classes, markup)
    words = bounds or [markup.text(name) for name in _name_by(store, classes)]
    what = f"{words[0]} from {words[1]}" if len(words) == 2 else f"{list_words(words)} apart"
    return f" to tell {what} {'in' if bounds else 'by'} {column}"


def describe_shift(store: Store, markup: Markup, subject: str = "the network") -> str:
    """State that the images differ from those that trained a network; "" if they do not."""
    shift = store.record.image_shift
    if shift is None or not shift.is_unlike:
        return ""
    return (
        f"The images are unlike those that trained {subject}, so its predictions may be "
        f"unreliable: the {markup.text(shift.measure)} is {shift.value:.3g}, where at most "
        f"{shift.threshold:.3g} is expected."
    )


def describe_check(store: Store, markup: Markup, subject: str = "the network") -> str:
    """State that a network failed the check of its accuracy; "" if it did not.

    Parameters
    ----------
    store : Store
        An open store.
    markup : Markup
        ``PLAIN`` or ``LATEX``.
    subject : str, default "the network"
        Words for the network.

    Returns
    -------
    str
        A sentence with what was found before the maps were computed, and what was expected.
    """
    check = store.record.accuracy_check
    if check is None or not check.warning:
        return ""
    percent = markup.percent
    words = (
        f"In a check of {count_noun(check.n, 'labelled galaxy')}, {subject} was right for "
        f"{100 * check.accuracy:.1f}{percent}"
    )
    if check.recorded is not None and check.recorded > check.accuracy:
        words += f", where its record says {100 * check.recorded:.1f}{percent}"
    elif check.accuracy <= check.majority_share:
        words += ", no more often than a guess"
    if check.class_order:
        order = ", ".join(markup.text(name) for name in check.class_order[:MAX_NAMES])
        more = ", ..." if len(check.class_order) > MAX_NAMES else ""
        return f"{words}; its classes seem to be named in the wrong order (right: {order}{more})."
    return f"{words}, so its predictions may be unreliable."


def describe_doubts(store: Store, markup: Markup, subject: str = "the network") -> str:
    """State why the predictions of a network may be unreliable, in lines; "" if nothing is."""
    return join_lines(
        describe_import(store, markup, subject),
        describe_check(store, markup, subject),
        describe_shift(store, markup, subject),
    )


def list_galaxies(
    store: Store,
    indices: Iterable[int],
    markup: Markup,
    order: str = "",
    *,
    style: StyleSettings = DEFAULT_STYLE,
    arrangement: "Arrangement | None" = None,
) -> str:
    """List galaxies, with redshift and true class if they are known, and their order if it is.

    Parameters
    ----------
    store : Store
        An open store.
    indices : iterable of int
        Positions of the galaxies, in the order of the figure.
    markup : Markup
        ``PLAIN`` or ``LATEX``.
    order : str, optional
        How they are ordered.
    style : StyleSettings, optional
        Whether they are named by position, and have letters.
    arrangement : Arrangement, optional
        Where they stand; by default, one below another.

    Returns
    -------
    str
        A sentence.
    """
    names, rows = name_classes(store), np.fromiter(indices, np.intp)
    by_position = tuple("" for _ in rows)
    if "name" in style.annotate:
        by_position = name_by_position(store, rows, style.designation)
    letters = list_letters(len(rows)) if style.letters else ["" for _ in rows]
    items = []
    for index, name, letter in zip(rows, by_position, letters, strict=True):
        facts = []
        if np.isfinite(store.redshift[index]):
            facts.append(markup.math(f"z = {store.redshift[index]:.3f}"))
        if store.label[index] >= 0:
            facts.append(f"true class: {markup.text(names[store.label[index]])}")
        objid = markup.text(store.objids(int(index)))
        if name:
            objid, facts = markup.text(name), [objid, *facts]
        item = f"{objid} ({', '.join(facts)})" if facts else objid
        items.append(f"({letter}) {item}" if letter else item)
    if len(items) == 1:
        return f"The galaxy is {items[0]}."
    where = "From top to bottom" if arrangement is None else arrangement.order
    return f"{where}{f', {order}' if order else ''}: {'; '.join(items)}."


def list_letters(n: int) -> list[str]:
    """Return the letters of n rows: a to z, then aa, ab and so on."""
    letters = (
        "".join(one)
        for length in count(1)
        for one in product(string.ascii_lowercase, repeat=length)
    )
    return list(islice(letters, n))


def _describe_origin(store: Store, markup: Markup) -> str:
    """State what is simulated, and where cutouts are from, if that is recorded."""
    if store.record.simulated:
        return "All images and labels are simulated; no real galaxy is shown."
    fetched = store.record.fetched
    sentences = [] if fetched is None else [f"Cutouts: {markup.text(describe_source(fetched))}."]
    if store.training.simulated:
        sentences.append(
            "The galaxies shown are real; those that trained the network are simulated."
        )
    return " ".join(sentences)


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _plural(noun: str, n: int) -> str:
    if n == 1:
        return noun
    return re.sub("s$", "se", re.sub("y$", "ie", noun)) + "s"


def list_words(words: list[str], word: str = "and") -> str:
    """List some words: 'a, b and c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {word} {words[-1]}"
