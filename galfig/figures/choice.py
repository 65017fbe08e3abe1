"""The choice of maps: the classes whose maps a row of panels shows."""

from collections.abc import Sequence

import numpy as np

from galfig.errors import FigureError
from galfig.runtime.messages import quote, suggest
from galfig.store.reader import Store

# With more classes than this, a row shows two maps unless others are chosen.
MAX_MAPS = 4


def find_classes(store: Store, names: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of classes that are chosen by name.

    Parameters
    ----------
    store : Store
        An open store.
    names : sequence of str
        Names of classes, or several of them with commas between; nothing for no choice.

    Returns
    -------
    tuple of int

    Raises
    ------
    FigureError
        If a name is not that of a class.
    """
    words = [
        word.strip()
        for name in names
        for word in ([name] if store.find_class(name) is not None else name.split(","))
    ]
    found = []
    for word in words:
        index = store.find_class(word)
        if index is None:
            known = store.class_names
            hint = suggest(word, known, f"expected some of {', '.join(known)}")
            raise FigureError(f"`classes` {quote(word)}: not a class of {store.path}; {hint}")
        found.append(index)
    return tuple(dict.fromkeys(found))


def choose_maps(store: Store, index: int, chosen: Sequence[int]) -> list[int]:
    """Choose the classes whose maps are shown of a galaxy.

    Parameters
    ----------
    store : Store
        An open store.
    index : int
        Position of the galaxy.
    chosen : sequence of int
        The classes to show; nothing for the default.

    Returns
    -------
    list of int
        By default, all of up to `MAX_MAPS` classes. Of more, the true and the predicted class;
        where they are the same, or the true class is unknown, the predicted class and the one of
        the next largest probability.
    """
    n_classes = len(store.class_names)
    if chosen:
        return list(chosen)
    if n_classes <= MAX_MAPS:
        return list(range(n_classes))
    predicted, true = int(store.predicted[index]), int(store.label[index])
    if true >= 0 and true != predicted:
        return [true, predicted]
    others = np.array(store.probs[index], dtype=np.float64)
    others[predicted] = -1
    return [predicted, int(others.argmax())]
