"""Other names for the classes of a store or an audit, for figures alone: nothing is rebuilt."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from galfig.config import ClassSettings, Settings
from galfig.errors import FigureError
from galfig.records import AuditRecord, StoreRecord
from galfig.runtime.messages import quote, shorten, suggest


def check_names(
    names: Mapping[str, str], class_names: Sequence[str], others: Sequence[str], path: Path
) -> None:
    """Check new names of classes.

    Parameters
    ----------
    names : mapping of str to str
        New name of each class to be renamed, by its name in the store.
    class_names : sequence of str
        The classes of the network.
    others : sequence of str
        Further classes of the catalog, which the network does not know.
    path : Path
        The file, for messages.

    Raises
    ------
    FigureError
        If a class is unknown, or two classes would have the same name.
    """
    known = list(dict.fromkeys([*class_names, *others]))
    for old in names:
        if old not in known:
            hint = suggest(old, known, otherwise=f"its classes are {shorten(known)}")
            raise FigureError(f"{path}: `class_names` {quote(old)}: no class of it; {hint}")
    seen: dict[str, str] = {}
    for old in known:
        new = names.get(old, old)
        if new in seen:
            raise FigureError(
                f"{path}: `class_names` would name {quote(seen[new])} and {quote(old)} both "
                f"{quote(new)}, expected a name for each"
            )
        seen[new] = old


def list_others(record: StoreRecord) -> list[str]:
    """List the classes that settings and catalog of a store name beside those of its network."""
    classes = record.settings.classes
    named = (*(classes.labels or ()), *(classes.keep or ()), *record.class_counts)
    return [name for name in dict.fromkeys(named) if name not in record.class_names]


def rename_store(record: StoreRecord, names: Mapping[str, str]) -> StoreRecord:
    """Return the record of a store with other names of classes, wherever it names them.

    Parameters
    ----------
    record : StoreRecord
        The record.
    names : mapping of str to str
        New names by old ones; see `check_names`.

    Returns
    -------
    StoreRecord
    """
    training, check = record.training, record.accuracy_check
    settings = None if training.settings is None else _rename_settings(training.settings, names)
    training = training.model_copy(
        update={
            "n_train": _rename_keys(training.n_train, names),
            "n_valid": _rename_keys(training.n_valid, names),
            "settings": settings,
        }
    )
    if check is not None and check.class_order is not None:
        check = check.model_copy(update={"class_order": _rename(check.class_order, names)})
    return record.model_copy(
        update={
            "class_names": _rename(record.class_names, names),
            "class_counts": _rename_keys(record.class_counts, names),
            "settings": _rename_settings(record.settings, names),
            "training": training,
            "accuracy_check": check,
        }
    )


def rename_audit(record: AuditRecord, names: Mapping[str, str]) -> AuditRecord:
    """Return the record of an audit with other names of classes, also in its verdict.

    Parameters
    ----------
    record : AuditRecord
        The record.
    names : mapping of str to str
        New names by old ones; see `check_names`.

    Returns
    -------
    AuditRecord
    """
    store = record.store
    store = store.model_copy(update={"class_names": _rename(store.class_names, names)})
    # The one sentence of a verdict that names a class: what a guess would answer.
    old = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    verdict = tuple(
        re.sub(
            rf"(?<=always answering )({old})(?= would be for )",
            lambda found: names[found[0]],
            sentence,
        )
        for sentence in record.verdict
    )
    return record.model_copy(update={"store": store, "verdict": verdict})


def _rename(found: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(names.get(name, name) for name in found)


def _rename_keys(
    counts: Mapping[str, int] | None, names: Mapping[str, str]
) -> dict[str, int] | None:
    return None if counts is None else {names.get(name, name): n for name, n in counts.items()}


def _rename_settings(settings: Settings, names: Mapping[str, str]) -> Settings:
    classes: ClassSettings = settings.classes
    update = {
        key: None if found is None else _rename(found, names)
        for key, found in (("labels", classes.labels), ("keep", classes.keep))
    }
    return settings.model_copy(update={"classes": classes.model_copy(update=update)})
