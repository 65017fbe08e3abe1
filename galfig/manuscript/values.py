"""The numbers in a paper's text, as LaTeX macros, and the table of the galaxies in its figures."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

import galfig
from galfig.figures.captions import LATEX, format_probability, name_classes
from galfig.metrics import compute_roc
from galfig.store.reader import Store

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def describe_store(prefix: str, store: Store) -> dict[str, str]:
    """Return the numbers that a paper states about a store.

    Parameters
    ----------
    prefix : str
        Letters that begin the name of each macro.
    store : Store
        An open store.

    Returns
    -------
    dict of str to str
        LaTeX text of each number, by name of macro.
    """
    training = store.training
    n_train = training.n_train or {}
    n_labelled = int(np.sum(store.label >= 0))
    values = {
        "N": str(len(store)),
        "NRejected": str(len(store.rejected)),
        **({"NTrain": str(sum(n_train.values()))} if n_train else {}),
        "MapSize": LATEX.times(*store.map_shape),
        "CutoutSize": str(store.record.cutout_size),
        "Arch": LATEX.text(training.arch),
        "Layer": LATEX.text(store.record.target_layer),
    }
    classes = _name_classes(store.class_names)
    for index, (name, letters) in enumerate(zip(store.class_names, classes, strict=True)):
        values[f"N{letters}"] = str(int(np.sum(store.label == index)))
        if n_train:
            values[f"NTrain{letters}"] = str(n_train.get(name, 0))
    known = store.redshift[np.isfinite(store.redshift)]
    if len(known):
        values |= {"ZMin": f"{known.min():.3f}", "ZMax": f"{known.max():.3f}"}
    if store.accuracy is not None:
        values["Accuracy"] = f"{100 * store.accuracy:.1f}"
        values["NRight"] = str(round(store.accuracy * n_labelled))
    for index in range(len(store.class_names)):
        is_class = (store.label == index)[store.label >= 0]
        if len(store.class_names) == 2 and index == 0:
            # With two classes, the curve of the first is the mirror image of the second.
            continue
        if is_class.any() and not is_class.all():
            curve = compute_roc(is_class, store.probs[store.label >= 0, index])
            of_class = "" if len(store.class_names) == 2 else classes[index]
            values[f"Auc{of_class}"] = f"{curve.area:.3f}"
            values[f"AucLow{of_class}"] = f"{curve.low:.3f}"
            values[f"AucHigh{of_class}"] = f"{curve.high:.3f}"
    if training.settings is not None:
        values["Epochs"] = str(training.settings.training.epochs)
        values["BatchSize"] = str(training.settings.training.batch_size)
    if training.lr is not None:
        values["LearningRate"] = f"{training.lr:.2g}"
    for name, seed in (training.seeds or {}).items():
        values[f"Seed{_as_letters(name)}"] = str(seed)
    for name, number in (training.versions or {}).items():
        values[f"{_as_letters(name)}Version"] = LATEX.text(str(number))
    return {f"{prefix}{name}": value for name, value in values.items()}


def write_macros(stores: Mapping[str, Store]) -> str:
    """Compose ``values.tex``: a macro for each number of each store, and galfig's version.

    Parameters
    ----------
    stores : mapping of str to Store
        Open stores, by the prefix of their macros.

    Returns
    -------
    str
        LaTeX, one macro per line.
    """
    values = {"galfigVersion": galfig.__version__}
    for prefix, store in stores.items():
        values |= describe_store(prefix, store)
    lines = [f"\\newcommand{{\\{name}}}{{{value}}}" for name, value in values.items()]
    return "\n".join(["% Written by galfig from the stores; do not edit.", *lines, ""])


def write_galaxies(rows: Iterable[tuple[Store, str, list[str]]]) -> str:
    """Compose ``galaxies.tex``: a table of galaxies and of the figures that show them.

    Parameters
    ----------
    rows : iterable of (Store, str, list of str)
        For each galaxy: its open store, its identifier, and the labels of the figures.

    Returns
    -------
    str
        A ``deluxetable*`` of AASTeX with the label ``tab:galaxies``.
    """
    lines = []
    for store, objid, labels in rows:
        index = int(np.flatnonzero(store.objid == objid)[0])
        names = name_classes(store)
        redshift, label = store.redshift[index], int(store.label[index])
        figures = ", ".join(f"\\ref{{fig:{label}}}" for label in labels)
        cells = [
            LATEX.text(objid),
            f"{redshift:.3f}" if np.isfinite(redshift) else r"\nodata",
            LATEX.text(names[label]) if label >= 0 else r"\nodata",
            LATEX.text(names[store.predicted[index]]),
            f"${format_probability(store.probs[index].max()).removeprefix('= ')}$",
            figures,
        ]
        lines.append(" & ".join(cells))
    heads = ("Identifier", "$z$", "True class", "Predicted class", "$p$", "Figures")
    return "\n".join(
        [
            "% Written by galfig from the stores; do not edit.",
            r"\begin{deluxetable*}{lccccc}",
            r"\tablecaption{Galaxies shown one by one\label{tab:galaxies}}",
            r"\tablehead{" + " & ".join(f"\\colhead{{{head}}}" for head in heads) + "}",
            r"\startdata",
            " \\\\\n".join(lines),
            r"\enddata",
            r"\tablecomments{$p$ is the probability of the predicted class, by the network of the "
            r"figure named first.}",
            r"\end{deluxetable*}",
            "",
        ]
    )


def _name_classes(class_names: Sequence[str]) -> list[str]:
    """Return the part of a macro's name that stands for each class.

    Letters alone may not identify a class. A class without letters would overwrite the macro of the
    total, and two classes that differ in other characters would share a macro. Such a class is
    named by its number.
    """
    names = [_as_letters(name) for name in class_names]
    # Readers of the settings file count classes from 1.
    return [
        name if name and names.count(name) == 1 else f"Class{_as_letters(str(number))}"
        for number, name in enumerate(names, 1)
    ]


def _as_letters(name: str) -> str:
    """Reduce a name to letters for a macro: capitalise words and spell out digits."""
    name = unicodedata.normalize("NFKD", name)
    name = "".join(char for char in name if not unicodedata.combining(char))
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in name).split()
    capital = "".join(word[0].upper() + word[1:] for word in words)
    return "".join(_DIGITS[int(char)] if char.isdigit() else char for char in capital)
