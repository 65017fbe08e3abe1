"""The numbers in a paper's text, as LaTeX macros, and the table of the galaxies in its figures.

The name of a macro is the store's name and a word from this module. For one class, seed or library
``Of`` and its letters follow: ``\\colourAucFrom`` is an end of an interval, ``\\colourNOfFrom`` the
number of galaxies of a class "from". No word of this module contains ``Of``, so that no two macros
of a store have the same name.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

import galfig
from galfig.errors import ManuscriptError
from galfig.figures.audits import format_numbers
from galfig.figures.captions import LATEX, format_probability, name_classes
from galfig.manuscript.alternatives import NAMES
from galfig.metrics import compute_roc
from galfig.store.audits import Audit
from galfig.store.reader import Store
from galfig.store.selection import find_in_split

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
# The macros whose numbers the caption of a figure states too, if it shows all galaxies.
STATED = {
    "roc": ("Auc", "AucFrom", "AucTo"),
    "confusion-matrix": ("NRight", "NCounted", "Accuracy", "MajorityShare"),
}


class _Latex(str):
    """LaTeX that this module composed; any other value of a macro is escaped."""

    __slots__ = ()


def describe_store(prefix: str, store: Store) -> dict[str, str]:
    """Return the numbers that a paper states about a store.

    They count the galaxies that did not train the network, as figures do. Only if the store holds
    no others do they count those that did.

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
    classes = _name_parts(store.class_names, "Class")
    values = {
        **_count_galaxies(store, classes),
        **_measure(store, classes),
        **_describe_training(store, classes),
        "MapSize": _Latex(LATEX.times(*store.map_shape)),
        "CutoutSize": store.record.cutout_size,
        "Arch": store.training.arch,
        **_describe_networks(store),
        "Layer": store.record.target_layer,
    }
    return {
        f"{prefix}{name}": value if isinstance(value, _Latex) else LATEX.text(str(value))
        for name, value in values.items()
    }


def _describe_networks(store: Store) -> dict[str, str | int]:
    """Count the networks of an ensemble, and say how far they agree in the median."""
    if store.agreement is None:
        return {}
    values: dict[str, str | int] = {"NNetworks": store.n_networks}
    agreement = store.whole.agreement
    if np.isfinite(agreement):
        values["Agreement"] = f"{agreement:.2f}"
    return values


def _count_galaxies(store: Store, classes: Sequence[str]) -> dict[str, str | int]:
    """Count the galaxies of a store and of its classes, and give their range of redshift."""
    is_counted = find_in_split(store)
    label, redshift = store.label[is_counted], store.redshift[is_counted]
    values: dict[str, str | int] = {
        "N": int(is_counted.sum()),
        "NStored": len(store),
        "NNotCounted": int((~is_counted).sum()),
        "NRejected": len(store.rejected),
    }
    if store.is_subset:
        values["NWhole"] = store.whole.n_galaxies
    for index, letters in enumerate(classes):
        values[f"NOf{letters}"] = int(np.sum(label == index))
    known = redshift[np.isfinite(redshift)]
    if len(known):
        values |= {"ZMin": f"{known.min():.3f}", "ZMax": f"{known.max():.3f}"}
    return values


def _measure(store: Store, classes: Sequence[str]) -> dict[str, str | int]:
    """Measure accuracy with its baselines, and areas under ROC curves, where they are defined."""
    values: dict[str, str | int] = {}
    score = store.score()
    if score is None:
        return values
    values["NCounted"], values["NRight"] = score.n, score.n_right
    values["Accuracy"] = f"{100 * score.accuracy:.1f}"
    values["MajorityShare"] = f"{100 * score.majority_share:.1f}"
    values["MajorityClass"] = store.class_names[score.majority]
    if np.isfinite(score.balanced_accuracy):
        values["BalancedAccuracy"] = f"{100 * score.balanced_accuracy:.1f}"
    if store.is_subset:
        # The accuracy is that of the whole store, of which a subset does not know the curves.
        return values
    chosen = find_in_split(store) & (store.label >= 0)
    label, probs = store.label[chosen], store.probs[chosen]
    for index, letters in enumerate(classes):
        if len(classes) == 2 and index == 0:
            # With two classes, the curve of the first is the mirror image of the second.
            continue
        is_class = label == index
        if is_class.any() and not is_class.all():
            curve = compute_roc(is_class, probs[:, index])
            of_class = "" if len(classes) == 2 else f"Of{letters}"
            values[f"Auc{of_class}"] = f"{curve.area:.3f}"
            values[f"AucFrom{of_class}"] = f"{curve.low:.3f}"
            values[f"AucTo{of_class}"] = f"{curve.high:.3f}"
    return values


def _describe_training(store: Store, classes: Sequence[str]) -> dict[str, str | int]:
    """Say how the network was trained, as far as it is known."""
    training = store.training
    values: dict[str, str | int] = {}
    if training.n_train:
        values["NTrain"] = sum(training.n_train.values())
        for name, letters in zip(store.class_names, classes, strict=True):
            values[f"NTrainOf{letters}"] = training.n_train.get(name, 0)
    if training.settings is not None:
        values["Epochs"] = training.settings.training.epochs
        values["BatchSize"] = training.settings.training.batch_size
    if training.lr is not None:
        values["LearningRate"] = _Latex(LATEX.scientific(training.lr))
    for kind, found in (("Seed", training.seeds), ("Version", training.versions)):
        names = _name_parts(list(found or ()), kind)
        for letters, value in zip(names, (found or {}).values(), strict=True):
            values[f"{kind}Of{letters}"] = str(value)
    return values


def describe_audit(prefix: str, audit: Audit) -> dict[str, str]:
    """Return the numbers that a paper states about an audit.

    A number of a measure, such as excess_over_light of deletion, is ``DeletionExcessOverLight``,
    the ends of its interval end in ``From`` and ``To``; the name of a control begins with
    ``DeletionControl``.

    Parameters
    ----------
    prefix : str
        Letters that begin the name of each macro.
    audit : Audit
        The audit.

    Returns
    -------
    dict of str to str
        LaTeX text of each number, by name of macro.

    Raises
    ------
    ManuscriptError
        If two numbers of the audit have the same name.
    """
    values: dict[str, str] = {"N": str(len(audit)), "Seed": str(audit.record.seed)}
    for measure, found in audit.measures.items():
        head = _as_letters(measure)
        if found.passes is not None:
            values[f"{head}Passes"] = "passed" if found.passes else "failed"
        for kind, estimates in (("", found.numbers), ("Control", found.controls)):
            for key, estimate in estimates.items():
                name = f"{head}{kind}{_as_letters(key)}"
                numbers = format_numbers(estimate)
                for suffix, words in zip(("", "From", "To"), numbers, strict=True):
                    if f"{name}{suffix}" in values:
                        raise ManuscriptError(
                            f"{audit.path}: two numbers make the macro \\{prefix}{name}{suffix}, "
                            "expected names that differ"
                        )
                    values[f"{name}{suffix}"] = words
    return {f"{prefix}{name}": _write_number(words) for name, words in values.items()}


def _write_number(words: str) -> str:
    """Write a number for LaTeX, with its minus sign and power of ten."""
    mantissa, _, exponent = words.partition("e")
    if not mantissa.lstrip("-").replace(".", "").isdigit():
        return LATEX.text(words)
    if exponent:
        return f"\\ensuremath{{{mantissa}\\times10^{{{int(exponent)}}}}}"
    return f"\\ensuremath{{{words}}}" if words.startswith("-") else words


def write_macros(stores: Mapping[str, Store], audits: Mapping[str, Audit] | None = None) -> str:
    """Compose ``values.tex``: a macro for each number of stores and audits, and galfig's version.

    Parameters
    ----------
    stores : mapping of str to Store
        Open stores, by the prefix of their macros.
    audits : mapping of str to Audit, optional
        Audits, by the prefix of their macros.

    Returns
    -------
    str
        LaTeX, one macro per line.

    Raises
    ------
    ManuscriptError
        If the macros of two stores or audits have the same name.
    """
    values = {"galfigVersion": LATEX.text(galfig.__version__)}
    owners = dict.fromkeys((*values, *NAMES), "galfig")
    described = [(prefix, describe_store(prefix, store)) for prefix, store in stores.items()]
    described += [(prefix, describe_audit(prefix, one)) for prefix, one in (audits or {}).items()]
    for prefix, macros in described:
        for name, value in macros.items():
            if name in owners:
                raise ManuscriptError(
                    f"{owners[name]!r} and {prefix!r}: both make the macro \\{name}, "
                    "expected names that differ; rename one of them"
                )
            values[name], owners[name] = value, prefix
    lines = [f"\\newcommand{{\\{name}}}{{{value}}}" for name, value in values.items()]
    return "\n".join(["% Written by galfig from the stores; do not edit.", *lines, ""])


def find_unstated(kind: str, prefix: str, macros: str, caption: str) -> list[str]:
    """Find numbers of the text that the caption of a figure should state too, and does not.

    Parameters
    ----------
    kind : str
        Kind of figure, which shows all galaxies of its store.
    prefix : str
        Letters that begin the names of the store's macros.
    macros : str
        What `write_macros` composed.
    caption : str
        The caption, as LaTeX.

    Returns
    -------
    list of str
        A clause for each number, such as '\\colourAuc says 0.973'.
    """
    values = dict(re.findall(r"\\newcommand\{\\(\w+)\}\{(.*)\}", macros))
    stated = set(re.findall(r"\d+(?:\.\d+)?", caption))
    return [
        f"\\{name} says {value}"
        for name, value in values.items()
        if name.startswith(prefix)
        and name.removeprefix(prefix).partition("Of")[0] in STATED.get(kind, ())
        and value not in stated
    ]


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
        index = int(store.names.find([objid])[0])
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


def _name_parts(names: Sequence[str], kind: str) -> list[str]:
    """Return the part of a macro's name that stands for each class, seed or library.

    Letters alone may not identify it. A name without letters, one that shares its letters with
    another, and one that looks like a number of its kind are replaced by the kind and a number.
    """
    found = [_as_letters(name) for name in names]
    # Readers of the settings file count classes from 1.
    numbered = [f"{kind}{_as_letters(str(number))}" for number in range(1, len(names) + 1)]
    return [
        letters if letters and found.count(letters) == 1 and letters not in numbered else number
        for letters, number in zip(found, numbered, strict=True)
    ]


def _as_letters(name: str) -> str:
    """Reduce a name to letters for a macro: capitalise words and spell out digits."""
    name = unicodedata.normalize("NFKD", name)
    name = "".join(char for char in name if not unicodedata.combining(char))
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in name).split()
    capital = "".join(word[0].upper() + word[1:] for word in words)
    return "".join(_DIGITS[int(char)] if char.isdigit() else char for char in capital)
