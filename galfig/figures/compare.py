"""Compare: the same galaxies explained by two networks, one row above the other."""

import string
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from galfig.config import StyleSettings
from galfig.errors import FigureError
from galfig.figures.annotations import list_words
from galfig.figures.captions import (
    PLAIN,
    Markup,
    count_rows,
    define_symbols,
    describe_choice_of_maps,
    describe_classes,
    describe_doubts,
    describe_drawing,
    describe_facts,
    describe_frames,
    describe_layer,
    describe_maps,
    describe_network,
    describe_reading,
    describe_sample,
    describe_scale,
    join_lines,
    list_galaxies,
    list_letters,
    name_block,
    name_classes,
    order_rows,
)
from galfig.figures.choice import choose_maps, find_classes
from galfig.figures.compass import describe_orientation, find_compasses, read_orientations
from galfig.figures.drawing import Column, Drawing, DrawOptions, name_galaxies, tabulate_galaxies
from galfig.figures.layout import Arrangement, make_pages, settle, warn_if_tall
from galfig.figures.methods import find_words
from galfig.figures.panels import make_row
from galfig.figures.rows import Row
from galfig.store.reader import Store
from galfig.store.selection import Selection, count_splits, find_in_split, find_shared

# Galaxies by how the training of one network or of both used them, after the noun.
_USED = {
    "valid": "in the validation set of {}",
    "test": "in the test set of {}",
    "train": "that trained {}",
    "": "whose part in the training of {} is unknown",
}


def draw(store: Store, selection: Selection, options: DrawOptions) -> Drawing:
    """Draw each galaxy of a selection from the first store, and below it from the second."""
    other = options.other
    if other is None:
        raise FigureError("compare: one store, expected two; name the second with `other`")
    if name_classes(other) != name_classes(store):
        raise FigureError(
            f"{other.path}: its classes are {', '.join(name_classes(other))}, expected the classes "
            f"of {store.path}: {', '.join(name_classes(store))}"
        )
    if 2 * len(selection.indices) > len(string.ascii_lowercase) and not options.style.pages:
        raise FigureError(
            f"compare: {len(selection.indices)} galaxies, expected at most 13; draw fewer (`n`) "
            "or several pages (`pages=True`)"
        )
    shown = store.objids(selection.indices)
    below = other.names.find([*shown])
    if (below < 0).any():
        stranger = shown[int(np.argmax(below < 0))]
        raise FigureError(f"{other.path}: no galaxy {stranger!r}, expected it in both stores")
    other.announce(below)
    if _is_same(store, selection.indices, other, below):
        raise FigureError(
            f"{other.path}: holds the same maps as {store.path}, expected those of another network "
            "or layer"
        )
    units = [find_words(one.record).unit for one in (store, other)]
    if options.style.scale == "figure" and units[0] != units[1]:
        raise FigureError(
            f"compare: maps in {units[0]} and in {units[1]}, expected one unit for all of them on "
            'one colour scale; use `scale="row"`'
        )
    chosen = find_classes(store, options.classes)
    style = options.style
    rows = _pair_rows(store, selection.indices, other, below, chosen, style)
    pages = make_pages(
        rows, options.width, cmap=options.cmap, style=style, group=2, axes=options.axes
    )
    warn_if_tall("compare", pages.arrangement)
    style = settle(style, pages.arrangement)
    block = name_block(style)
    return Drawing(
        "compare",
        "Two networks compared",
        pages.figures,
        partial(
            _describe,
            *(store, selection, other, below),
            chosen=chosen,
            style=style,
            arrangement=pages.arrangement,
        ),
        f"{count_rows(len(below), rows='pair', of=f'of {block}s')}: cutout and "
        f"{_name_methods(store, other)} maps for "
        f"{describe_choice_of_maps(store, PLAIN, chosen)} by the first network, and "
        f"{_name_beside(style)} it by the second.",
        partial(_tabulate, store, selection.indices, other, below),
        len(pages),
        galaxies=name_galaxies(store, selection.indices),
    )


def _is_same(store: Store, above: NDArray[np.intp], other: Store, below: NDArray[np.intp]) -> bool:
    """Tell whether two stores hold the same maps of the same galaxies."""
    return store.map_shape == other.map_shape and all(
        np.array_equal(store.cams(int(a)), other.cams(int(b)))
        for a, b in zip(above, below, strict=True)
    )


def _pair_rows(
    store: Store,
    above: NDArray[np.intp],
    other: Store,
    below: NDArray[np.intp],
    chosen: Sequence[int],
    style: StyleSettings,
) -> list[Row]:
    letters = list_letters(2 * len(above))
    # The rows of the first store have every other letter, and those of the second the others.
    words = [
        list_words(source, indices, style, letters[first::2])
        for first, (source, indices) in enumerate(((store, above), (other, below)))
    ]
    compasses = iter(find_compasses(_read_orientations(store, above, other, below), style))
    return [
        make_row(
            source, int(index), choose_maps(source, int(index), chosen), own, style, next(compasses)
        )
        for pair, own_pair in zip(
            zip(above, below, strict=True), zip(*words, strict=True), strict=True
        )
        for source, index, own in zip((store, other), pair, own_pair, strict=True)
    ]


def _read_orientations(
    store: Store, above: NDArray[np.intp], other: Store, below: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return directions on the cutouts of pairs, (2n, 2): of both stores in turn."""
    pairs = (read_orientations(store, above), read_orientations(other, below))
    return np.stack(pairs, axis=1).reshape(-1, 2)


def _name_beside(style: StyleSettings) -> str:
    """Say where the panels of the second store stand."""
    return "beside" if style.layout == "grid" else "below"


def _tabulate(
    store: Store, above: NDArray[np.intp], other: Store, below: NDArray[np.intp]
) -> dict[str, Column]:
    first, second = tabulate_galaxies(store, above), tabulate_galaxies(other, below)
    number = np.repeat([1, 2], len(above))
    return {"network": Column(number, "1: that of the first store, 2: that of the second")} | {
        name: Column(
            np.concatenate([np.asarray(column.values), np.asarray(second[name].values)]),
            column.description,
            column.unit,
        )
        for name, column in first.items()
    }


def _describe(
    store: Store,
    selection: Selection,
    other: Store,
    below: NDArray[np.intp],
    markup: Markup,
    chosen: Sequence[int],
    style: StyleSettings,
    arrangement: Arrangement,
) -> str:
    n = len(selection.indices)
    block = name_block(style)
    rows = [block if n == 1 else f"{block}s"] * 2
    for number, start in enumerate((0, 1)):
        letters = ", ".join(f"({letter})" for letter in list_letters(2 * n)[start::2])
        rows[number] += f" {letters}"
    sources = ((rows[0], store, selection.indices), (rows[1], other, below))
    shown = [
        [(int(i), choose_maps(source, int(i), chosen)) for i in indices]
        for _, source, indices in sources
    ]
    frames = [
        describe_frames(source, own, style)
        for (_, source, _), own in zip(sources, shown, strict=True)
    ]
    first = f"the network of {rows[0]}"
    pool = _describe_pool(store, selection, other, first)
    return join_lines(
        f"{_describe_maps(store, other)} of the same galaxies by "
        f"{_describe_difference(store, other)}: "
        f"{describe_sample(store, selection, markup, pool=pool, network=first)}.",
        _describe_omitted(store, selection, other),
        *(
            line
            for words, source, indices in sources
            for line in (
                describe_network(source, markup, f"The network of {words}"),
                _describe_trained(source, indices, words),
                describe_doubts(source, markup, f"the network of {words}"),
            )
        ),
        f"{arrangement.each} shows the cutout that the network saw and its maps for "
        f"{describe_choice_of_maps(store, markup, chosen)}; "
        f"{max(frames, key=len)}.",
        describe_facts(store, selection.indices, markup, style),
        describe_classes(store, markup),
        _describe_layers(sources, markup, style),
        _define_symbols(store, other, markup, style),
        *(
            f"{words[0].upper()}{words[1:]}: {describe_reading(source, own, markup, style)}"
            for (words, source, _), own in zip(sources, shown, strict=True)
        ),
        f"{describe_scale(store, selection.indices, markup)} "
        + describe_orientation(_read_orientations(store, selection.indices, other, below), style),
        list_galaxies(
            *(store, selection.indices, markup, order_rows(selection, first)),
            style=style.model_copy(update={"letters": False}),
            arrangement=arrangement,
        ),
        _describe_origins(sources),
    )


def _describe_pool(store: Store, selection: Selection, other: Store, first: str) -> str:
    """Say, after the noun, from which galaxies the query chose; "" of single galaxies."""
    query = selection.query
    if not (query.objids or selection.is_shared):
        # The galaxies were selected from the first store, without regard to the second.
        words = set(count_splits(store, np.flatnonzero(find_in_split(store, query.split))))
        if len(words) == 1:
            return _USED[words.pop()].format(first)
        if "train" in words:
            return f"of the store of {first}"
        return f"that are not known to have trained {first}"
    if query.objids:
        pool = np.isin(np.arange(len(store)), selection.indices)
    else:
        pool = find_shared(store, other, query.split)
    words = _list_splits(store, other, pool)
    if len(words) == 1:
        return _USED[words.pop()].format("both networks")
    if query.objids:
        return ""
    if "train" in words:
        return "that both stores hold"
    if "" in words:
        return "of both stores that are not known to have trained either network"
    return "of both stores that trained neither network"


def _list_splits(store: Store, other: Store, pool: NDArray[np.bool_]) -> set[str]:
    """Return how the training of one network or the other used galaxies of a pool."""
    there = other.names.match(store.names)[pool]
    used = (count_splits(store, np.flatnonzero(pool)), count_splits(other, there))
    return {word for counts in used for word in counts}


def _describe_omitted(store: Store, selection: Selection, other: Store) -> str:
    """Say which galaxies were not candidates, apart from the conditions; "" if all were."""
    query = selection.query
    if query.objids or not selection.is_shared:
        return ""
    pool, shared = find_shared(store, other, query.split), find_shared(store, other, "all")
    sentences = []
    n_train = int(np.sum(shared & ~pool))
    if query.split is None and n_train and "train" not in _list_splits(store, other, pool):
        sentences.append(
            f"{'The galaxy' if n_train == 1 else f'The {n_train} galaxies'} of both stores that "
            f"trained one of the networks or both {'is' if n_train == 1 else 'are'} not shown."
        )
    n_single = len(store) + len(other) - 2 * int(np.sum(shared))
    if n_single:
        sentences.append(
            f"{'The galaxy' if n_single == 1 else f'The {n_single} galaxies'} that only one of the "
            f"stores holds {'is' if n_single == 1 else 'are'} not shown."
        )
    return " ".join(sentences)


def _describe_layers(
    sources: Sequence[tuple[str, Store, NDArray[np.intp]]], markup: Markup, style: StyleSettings
) -> str:
    """Describe the maps, of each network where they differ in layer or size."""
    _, store, _ = sources[0]
    words = [describe_layer(source, markup) for _, source, _ in sources]
    if words[0] == words[1]:
        return describe_maps(store, markup, style)
    subjects = (f"The maps of {sources[0][0]}", f"Those of {sources[1][0]}")
    methods = [source.method for _, source, _ in sources]
    each = [
        describe_layer(source, markup, subject, is_cited=source.method in methods[:number])
        for number, ((_, source, _), subject) in enumerate(zip(sources, subjects, strict=True))
    ]
    units = {find_words(source.record).units for _, source, _ in sources}
    named = units.pop() if len(units) == 1 else "in the unit of each network's maps"
    return f"{' '.join(each)} {describe_drawing(store, style, named)}"


def _name_methods(store: Store, other: Store) -> str:
    """Name the method of both stores, or both: 'Grad-CAM and HiResCAM'."""
    return " and ".join(dict.fromkeys(find_words(one.record).name for one in (store, other)))


def _describe_maps(store: Store, other: Store) -> str:
    names = _name_methods(store, other)
    return f"{names[0].upper()}{names[1:]} maps"


def _describe_difference(store: Store, other: Store) -> str:
    """Say what differs between two stores."""
    is_same = store.record.checkpoint_sha256 == other.record.checkpoint_sha256
    return "two methods" if is_same and store.method != other.method else "two networks"


def _define_symbols(store: Store, other: Store, markup: Markup, style: StyleSettings) -> str:
    """Say what the numbers on maps are, whose units may differ."""
    first, second = (define_symbols(one, markup, style) for one in (store, other))
    if first == second:
        return first
    units = [find_words(one.record).units for one in (store, other)]
    words = ("on the left", "on the right") if style.layout == "grid" else ("above", "below")
    return first.replace(units[0], f"{units[0]} {words[0]} and {units[1]} {words[1]}")


def _describe_trained(source: Store, indices: NDArray[np.intp], words: str) -> str:
    """Say how many of the galaxies shown trained a network, or may have; "" if none has."""
    sentences = []
    for split, verb in (("train", "trained"), ("", "may have trained")):
        n = int(np.sum(source.split[indices] == split))
        galaxies = f"{n} of the galaxies"
        if n == len(indices):
            galaxies = "The galaxy" if n == 1 else "The galaxies"
        if n:
            sentences.append(f"{galaxies} shown {verb} the network of {words}.")
    return " ".join(sentences)


def _describe_origins(sources: Iterable[tuple[str, Store, NDArray[np.intp]]]) -> str:
    """State which of the images are simulated; "" if none is."""
    simulated = [words for words, source, _ in sources if source.record.simulated]
    if len(simulated) == 1:
        return f"The images and labels of {simulated[0]} are simulated."
    return "All images and labels are simulated; no real galaxy is shown." if simulated else ""
