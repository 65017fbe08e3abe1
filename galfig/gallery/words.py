"""What the page says of its maps: what is shown, on which scale, and what it does not mean."""

import numpy as np

from galfig.config import StyleSettings
from galfig.figures.captions import (
    PLAIN,
    count_noun,
    define_symbols,
    describe_channels,
    describe_choice_of_maps,
    describe_layer,
    describe_omitted,
    describe_sample,
    describe_size,
    describe_training,
    list_names,
    name_classes,
)
from galfig.figures.methods import find_words
from galfig.gallery.sprites import EVIDENCE, Measured, Sheets
from galfig.runtime.messages import make_printable
from galfig.store.reader import Store
from galfig.store.selection import Selection


def describe_gallery(
    store: Store,
    selection: Selection,
    chosen: tuple[int, ...],
    sheets: Sheets,
    measured: Measured,
    style: StyleSettings,
) -> list[str]:
    """Write the sentences of the page's legend.

    Parameters
    ----------
    store : Store
        An open store.
    selection : Selection
        The galaxies.
    chosen : tuple of int
        The classes whose maps are shown; nothing for the default.
    sheets : Sheets
        How the thumbnails were made.
    measured : Measured
        Numbers of their maps.
    style : StyleSettings
        How they look.

    Returns
    -------
    list of str
        Paragraphs, of which none is empty.
    """
    method = find_words(store.record)
    size = describe_size(store, store.cutout_shape, PLAIN)
    smaller = "" if sheets.side == store.record.cutout_size else f", shown at {sheets.side} pixels"
    paragraphs = [
        f"{method.title} maps of {describe_sample(store, selection, PLAIN)}. "
        f"{describe_omitted(store, selection, 'shown')}",
        f"Each galaxy has its cutout ({size}{smaller}) and its {method.name} maps for "
        f"{describe_choice_of_maps(store, PLAIN, chosen)}, drawn over the dimmed cutout. "
        "Thumbnails are compressed with loss: measure on the store, not on them.",
        f"{describe_layer(store, PLAIN)} Maps are interpolated bilinearly. Only positive values "
        "are shown, on one linear colour scale per galaxy, which its maps share, from zero to the "
        "largest value among them; below a tenth of it, the cutout shows through. Maps of one "
        "galaxy can therefore be compared by brightness, those of two galaxies cannot.",
        define_symbols(store, PLAIN) + _describe_brightest(measured),
        _describe_evidence(store, sheets),
        describe_channels(store, PLAIN),
        describe_training(store, PLAIN),
    ]
    return [make_printable(words.strip().replace("\n", " ")) for words in paragraphs if words]


def _describe_brightest(measured: Measured) -> str:
    """Warn that the brightest map is not the prediction, and say how often it is not."""
    n, n_compared = len(measured.peak), int(np.sum(measured.is_compared))
    if not n_compared:
        return ""
    galaxies = count_noun(n_compared)
    if n_compared < n:
        galaxies = f"the {galaxies} with the map of the predicted class beside another"
    return (
        f" In {int(np.sum(measured.is_deceptive))} of {galaxies}, the brightest pixel is not on "
        "the map of the predicted class."
    )


def _describe_evidence(store: Store, sheets: Sheets) -> str:
    """Say what the signed map is; "" without one."""
    if EVIDENCE not in sheets.slots:
        return ""
    names = name_classes(store)
    if len(names) == 2:
        what = f"the map of {names[1]} less that of {names[0]}"
    else:
        what = "the map of the log-odds of the predicted class against the rest"
    return (
        f"Evidence is {what} [log-odds]: orange speaks for "
        f"{names[1] if len(names) == 2 else 'that class'}, blue against it. Its scale, from minus "
        "to plus its largest absolute value, is another for each galaxy."
    )


def describe_maps_briefly(store: Store) -> str:
    """Return a line for the head of the page: method, layer and network."""
    method, layer = find_words(store.record), store.record.target_layer
    where = f"of layer {layer}" if layer else "of the pixels"
    several = f", {store.n_networks} networks" if store.n_networks > 1 else ""
    return make_printable(
        f"{method.title} maps {where} of {store.training.arch}{several}, for "
        f"{list_names(name_classes(store))}"
    )
