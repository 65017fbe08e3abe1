"""Captions of figures, as plain text and as LaTeX."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galfig.figures.latex import escape_latex
from galfig.store.reader import Store
from galfig.store.selection import Query, Selection, describe_conditions

_SPLITS = {"valid": "validation set", "train": "training set", "all": "catalog"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


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

    def math(self, formula: str) -> str:
        """Return a formula that contains no LaTeX command, such as '0.05 < z < 0.08'."""
        return f"${formula}$" if self.is_latex else formula

    def times(self, first: int, second: int) -> str:
        """Return a product of two numbers."""
        return rf"${first}\times{second}$" if self.is_latex else f"{first} × {second}"

    def power(self, exponent: int) -> str:
        """Return a power of ten."""
        return f"$10^{{{exponent}}}$" if self.is_latex else f"1e{exponent}"

    @property
    def percent(self) -> str:
        """The percent sign, preceded by a thin space in LaTeX."""
        return r"\,\%" if self.is_latex else " %"


PLAIN, LATEX = Markup(is_latex=False), Markup(is_latex=True)


def describe_panels(store: Store, selection: Selection, markup: Markup) -> str:
    """Write the caption of the panels, one sentence per line.

    Parameters
    ----------
    store : Store
        An open store.
    selection : Selection
        The galaxies shown, from top to bottom.
    markup : Markup
        ``PLAIN`` or ``LATEX``.

    Returns
    -------
    str
        The galaxies and how they were chosen, the panels, the definition of p, the network and
        its accuracy, a list of the galaxies, and whether they are simulated.
    """
    names = [markup.text(name) for name in name_classes(store)]
    cutout = store.cutouts(int(selection.indices[0]))
    sentences = [
        _describe_choice(store, selection, markup),
        f"Each row shows one galaxy: the cutout ({describe_size(store, cutout.shape, markup)}), "
        f"then its Grad-CAM {_plural('map', len(names))} for {_join(names)}, drawn over the dimmed "
        "cutout; the name of the predicted class is in bold.",
        describe_maps(store, markup),
        f"The probability {markup.math('p')} is the softmax of the network's output.",
        describe_scale(store, selection.indices, markup),
        describe_network(store, markup),
        describe_shift(store, markup),
        list_galaxies(store, selection.indices, markup),
        _describe_origin(store),
    ]
    return "\n".join(sentence for sentence in sentences if sentence) + "\n"


def describe_maps(store: Store, markup: Markup) -> str:
    """Describe the maps and how they are drawn."""
    layer = markup.text(store.record.target_layer)
    return (
        f"The maps (Selvaraju et al. 2017) explain layer {layer}, have "
        f"{markup.times(*store.map_shape)} pixels and are interpolated bilinearly. Only positive "
        "values are shown, on one linear colour scale per row from zero to the largest value in "
        "the row, which the colour bar gives in logits."
    )


def describe_scale(store: Store, indices: NDArray[np.intp], markup: Markup) -> str:
    """Describe the scale bars; "" if there are none."""
    if not np.isfinite(store.pixel_scale[indices]).any():
        return ""
    if not np.isfinite(store.kpc_per_arcsec[indices]).any():
        return "The scale bar is in arcsec."
    return (
        "The scale bar gives the angle in arcsec and the proper length at the galaxy's redshift, "
        "in the cosmology of Planck Collaboration (2020)."
    )


def describe_sample(
    store: Store, selection: Selection, markup: Markup, n: int | None = None
) -> str:
    """Describe the sample of a figure, such as 'the full validation set (76 galaxies)'.

    Parameters
    ----------
    store : Store
        An open store.
    selection : Selection
        The galaxies of the figure.
    markup : Markup
        ``PLAIN`` or ``LATEX``.
    n : int, optional
        Size of the sample, if it differs from the number of galaxies shown.

    Returns
    -------
    str
        A noun phrase.
    """
    n, query = len(selection.indices) if n is None else n, selection.query
    galaxies = f"{n} {'simulated ' if store.record.simulated else ''}{_plural('galaxy', n)}"
    whole = _SPLITS[store.record.split]
    if query.objids:
        return f"{galaxies} of the {whole}, chosen individually"
    if n == len(store):
        return f"the full {whole} ({galaxies})"
    conditions = describe_conditions(query, markup.text, markup.math)
    words = f"{galaxies} of the {whole}{f' {conditions}' if conditions else ''}"
    return f"the {words}" if n == selection.n_candidates else f"{words}, {describe_order(query)}"


def describe_order(query: Query) -> str:
    """Describe how galaxies were picked from the candidates: 'drawn at random (seed 256)'."""
    if query.objids:
        return "in the order given"
    return {
        "random": f"drawn at random (seed {query.seed})",
        "loss": "those with the largest loss",
        "p": "those classified with the highest probability",
        "redshift": "those at the lowest redshift",
    }[query.sort]


def describe_training(store: Store, markup: Markup) -> str:
    """Describe the training of the network and its accuracy, in lines that end any caption."""
    lines = [
        describe_network(store, markup),
        describe_shift(store, markup),
        _describe_origin(store),
    ]
    return "\n".join(line for line in lines if line) + "\n"


def name_classes(store: Store) -> tuple[str, ...]:
    """Return the names of the classes in figures, (C,), such as 'low-metallicity'."""
    quantity = store.settings.classes.name
    return tuple(f"{name}-{quantity}" if quantity else name for name in store.class_names)


def format_probability(p: float) -> str:
    """Return '= 0.973', or an inequality if three decimals would round p to 0 or 1."""
    words = f"{p:.3f}"
    return {"1.000": "> 0.999", "0.000": "< 0.001"}.get(words, f"= {words}")


def _describe_choice(store: Store, selection: Selection, markup: Markup) -> str:
    """Describe, in a sentence, the galaxies in the panels and how they were chosen."""
    n, query = len(selection.indices), selection.query
    kind = "simulated " if store.record.simulated else ""
    galaxies = f"{kind}{_plural('galaxy', n)}"
    if n == len(store) and not query.objids:
        return f"Grad-CAM maps of {describe_sample(store, selection, markup)}."
    count = _NUMBERS[n] if n < len(_NUMBERS) else str(n)
    what = f"Grad-CAM maps of {count} {galaxies} of the {_SPLITS[store.record.split]}"
    if query.objids:
        return f"{what}, chosen individually."
    conditions = describe_conditions(query, markup.text, markup.math)
    if n == selection.n_candidates:
        return f"{what}, the only {'one' if n == 1 else 'ones'} {conditions}."
    among = f"{selection.n_candidates}{f' {conditions}' if conditions else ''}"
    joint = "from" if query.sort == "random" else "of"
    return f"{what}, {describe_order(query)} {joint} the {among}."


def describe_size(store: Store, shape: tuple[int, ...], markup: Markup) -> str:
    """Describe the size of a cutout: in pixels, and in arcsec if all share one pixel scale."""
    size = f"{markup.times(shape[1], shape[0])} pixels"
    scales = np.unique(store.pixel_scale[np.isfinite(store.pixel_scale)])
    if len(scales) != 1:
        return size
    side = shape[1] * scales[0]
    return f"{size} of {scales[0]:g} arcsec, {side:.3g} arcsec on a side"


def describe_network(store: Store, markup: Markup, subject: str = "The network") -> str:
    """Describe, in a sentence, the training set and the accuracy of a network."""
    training = store.training
    words = f"{subject}, {markup.text(training.arch)}, "
    if training.n_train is None:
        words += "was not trained by galfig"
    else:
        words += (
            f"was trained on {sum(training.n_train.values())}"
            f"{' simulated' if training.simulated else ''} galaxies"
            f"{' in one band' if store.is_gray else ''}"
        )
    question = _describe_question(store, markup)
    n_labelled = int(np.sum(store.label >= 0))
    if store.accuracy is None:
        return f"{words}{question}."
    n_right = round(store.accuracy * n_labelled)
    return (
        f"{words}{f'{question},' if question else ''} and correctly classifies {n_right} of the "
        f"{n_labelled} {_plural('galaxy', n_labelled)} of the {_SPLITS[store.record.split]} "
        f"({100 * store.accuracy:.1f}{markup.percent})."
    )


def _describe_question(store: Store, markup: Markup) -> str:
    """State the classes of the training, if they differ from those of the store; else ""."""
    if store.training.settings is None:
        return ""
    trained, now = store.training.settings.classes, store.settings.classes
    if (trained.column, trained.edges) == (now.column, now.edges):
        return ""
    by = [
        markup.text(f"{classes.column} {list(classes.edges or ()) or ''}".strip())
        for classes in (trained, now)
    ]
    return f", classified by {by[0]} rather than, as here, by {by[1]}"


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


def list_galaxies(store: Store, indices: Iterable[int], markup: Markup) -> str:
    """List galaxies, with redshift and true class if they are known."""
    names = name_classes(store)
    items = []
    for index in indices:
        facts = []
        if np.isfinite(store.redshift[index]):
            facts.append(markup.math(f"z = {store.redshift[index]:.3f}"))
        if store.label[index] >= 0:
            facts.append(f"true class: {markup.text(names[store.label[index]])}")
        objid = markup.text(str(store.objid[index]))
        items.append(f"{objid} ({', '.join(facts)})" if facts else objid)
    order = "From top to bottom: " if len(items) > 1 else "The galaxy is "
    return f"{order}{'; '.join(items)}."


def _describe_origin(store: Store) -> str:
    """State what is simulated; "" if everything is real."""
    if store.record.simulated:
        return "All images and labels are simulated; no real galaxy is shown."
    if store.training.simulated:
        return "The galaxies shown are real; those that trained the network are simulated."
    return ""


def _plural(noun: str, n: int) -> str:
    if n == 1:
        return noun
    return re.sub("y$", "ie", noun) + "s"


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
