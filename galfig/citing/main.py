"""Citing: collect what a paper with figures of some stores must cite, from what they record."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from galfig.citing.bibliography import Entry, Words, load_acknowledgements, load_bibliography
from galfig.citing.programs import METHODS, PROGRAMS, find_architecture, is_of_imagenet
from galfig.citing.surveys import Survey, find_columns, find_source, find_survey, makes_cuts
from galfig.config import Settings, load_settings
from galfig.errors import ConfigError
from galfig.runtime.messages import quote
from galfig.store.reader import Store, open_store
from galfig.store.summary import describe_source


@dataclass(frozen=True)
class Reference:
    """A paper or program to cite.

    Attributes
    ----------
    entry : Entry
        The entry of the bibliography.
    reasons : tuple of str
        Why it is cited, each a clause that follows "because".
    """

    entry: Entry
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A program that made a store, or draws its figures.

    Attributes
    ----------
    name : str
        Name of its distribution.
    versions : tuple of str
        The versions that made the stores; empty if none is recorded.
    keys : tuple of str
        Entries to cite for it; empty where its authors ask for none that galfig knows.
    """

    name: str
    versions: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Acknowledgement:
    """A text that a survey or a service asks papers to print.

    Attributes
    ----------
    words : Words
        Whom it is of, and the text.
    reasons : tuple of str
        Why it is to be printed, each a clause that follows "because".
    """

    words: Words
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Citations:
    """What a paper with figures of some stores must cite.

    Attributes
    ----------
    stores : tuple of str
        Names of the stores.
    references : tuple of Reference
        What to cite, each once.
    software : tuple of Program
        The programs that made the stores.
    acknowledgements : tuple of Acknowledgement
        What to print.
    notes : tuple of str
        What is not known, and must be looked up.
    """

    stores: tuple[str, ...]
    references: tuple[Reference, ...]
    software: tuple[Program, ...]
    acknowledgements: tuple[Acknowledgement, ...]
    notes: tuple[str, ...]

    @property
    def bibtex(self) -> str:
        """The entries in BibTeX."""
        return "\n".join(reference.entry.bibtex for reference in self.references)

    def record(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "stores": list(self.stores),
            "references": [
                {
                    "key": one.entry.key,
                    "label": one.entry.label,
                    "title": one.entry.title,
                    "address": one.entry.address or None,
                    "because": list(one.reasons),
                    "bibtex": one.entry.bibtex,
                }
                for one in self.references
            ],
            "software": [
                {"name": one.name, "versions": list(one.versions), "cite": list(one.keys)}
                for one in self.software
            ],
            "acknowledgements": [
                {"name": one.words.name, "text": one.words.text, "because": list(one.reasons)}
                for one in self.acknowledgements
            ],
            "notes": list(self.notes),
        }


class _Found:
    """What was found so far, in order, each with its reasons."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, None]] = {}
        self.versions: dict[str, dict[str, None]] = {}
        self.acknowledgements: dict[str, dict[str, None]] = {}
        self.notes: dict[str, None] = {}

    def cite(self, keys: Iterable[str], reason: str) -> None:
        for key in keys:
            self.keys.setdefault(key, {})[reason] = None

    def use(self, name: str, version: str = "") -> None:
        self.versions.setdefault(name, {}).update({version: None} if version else {})

    def add(self, survey: Survey, reason: str) -> None:
        self.cite(survey.keys, reason)
        for name in survey.acknowledgements:
            self.acknowledgements.setdefault(name, {})[reason] = None
        self.notes.update(dict.fromkeys(survey.notes))


def cite(
    stores: Store | Path | str | Sequence[Store | Path | str],
    surveys: Sequence[str] = (),
    *,
    settings: Settings | Mapping[str, Any] | Path | str | None = None,
) -> Citations:
    """Collect what a paper with figures of some stores must cite, and why.

    Parameters
    ----------
    stores : Store, Path or str, or sequence of these
        The stores.
    surveys : sequence of str, optional
        Surveys that the galaxies come from, besides those of ``[publication] surveys`` and those
        that the stores record, such as "sdss-dr17"; see `galfig.citing.surveys.KNOWN`.
    settings : Settings, mapping, Path or str, optional
        Settings, or the path of their file. By default, ``galfig.toml`` of the working directory
        where there is one.

    Returns
    -------
    Citations
        Only what the stores record, and what was named. What is not known stands in its ``notes``.

    Raises
    ------
    ConfigError
        If a survey is unknown, or no store is given.
    StoreError
        If a file is not a store, or is damaged.
    """
    sources = [stores] if isinstance(stores, Store | Path | str) else list(stores)
    if not sources:
        raise ConfigError("`stores`: none, expected at least one")
    named = dict.fromkeys((*load_settings(settings).publication.surveys, *surveys))
    chosen = {name: find_survey(name) for name in named}
    found = _Found()
    names: dict[str, None] = {}
    is_real = False
    for source in sources:
        with _opened(source) as store:
            names[store.path.name] = None
            _add_store(found, store)
            is_real |= not store.record.simulated
            _add_galaxies(found, store, chosen)
    for name, survey in chosen.items() if is_real else ():
        found.add(survey, f"the survey {name} is named in the settings or the command")
    return _compose(found, tuple(names))


@contextmanager
def _opened(source: Store | Path | str) -> Iterator[Store]:
    """Open a store for as long as it is needed; one that is open stays so."""
    if isinstance(source, Store):
        yield source
        return
    with open_store(source) as store:
        yield store


def _add_store(found: _Found, store: Store) -> None:
    """Add how the maps of a store were made."""
    record, training = store.record, store.training
    found.cite(PROGRAMS["galfig"], "galfig made the maps")
    found.cite(["Wu2020"], "the figures of galfig follow it")
    found.cite(METHODS.get(record.method, ()), f"the method is {record.method}")
    if record.method not in METHODS:
        found.notes[f"the method {quote(record.method)} is not known to this version"] = None
    architecture = find_architecture(training.arch)
    found.cite(architecture.keys, f"the network is {training.arch}")
    if architecture.note:
        found.notes[architecture.note] = None
    for library in architecture.libraries:
        found.use(library)
    _add_training(found, store)
    software = record.software or {
        "galfig": record.galfig_version,
        "torch": str(store.attrs.get("torch_version") or ""),
    }
    for name, version in software.items():
        found.use(name, version)
    # Every figure is drawn with it, by a version that a store cannot know.
    found.use("matplotlib")
    if np.isfinite(store.kpc_per_arcsec).any():
        found.cite(["Planck2020"], "figures show lengths in kpc, in its cosmology")


def _add_training(found: _Found, store: Store) -> None:
    """Add what trained the network, and where it started."""
    training = store.training
    for name in ("torch", "fastai"):
        if version := (training.versions or {}).get(name):
            found.use(name, version)
    if training.imported is not None:
        found.notes[
            f"{store.path.name}: the network was trained by another program: cite its source"
        ] = None
    if source := (training.start or {}).get("source", ""):
        library, _, weights = source.partition(" ")
        if weights and library in ("timm", "torchvision"):
            found.use(library)
        if is_of_imagenet(source):
            found.cite(["Russakovsky2015"], f"the weights {source} were trained on ImageNet")
        else:
            found.notes[
                f"{store.path.name}: the training started from the weights {quote(source)}, whose "
                "own source galfig does not know: cite it"
            ] = None


def _add_galaxies(found: _Found, store: Store, named: Mapping[str, Survey]) -> None:
    """Add where the galaxies come from, as far as that is recorded or named."""
    record, name = store.record, store.path.name
    if record.simulated:
        found.notes[f"{name}: the galaxies are simulated, so that there is no survey to cite"] = (
            None
        )
        return
    fetched = record.fetched
    if fetched is None:
        if not named:
            found.notes[
                f"{name}: where the galaxies come from is not recorded; name the survey with "
                "`surveys`"
            ] = None
    else:
        for survey in find_source(fetched):
            found.add(survey, f"the cutouts are from {describe_source(fetched)}")
    is_sdss = fetched is not None and fetched.service == "sdss" and not fetched.is_mirror
    if not is_sdss and not any(survey.startswith("sdss-") for survey in named):
        return
    if columns := find_columns([*store.columns]):
        found.add(
            find_survey("mpa-jhu"), f"the column {columns[0]} is one of the MPA-JHU catalog of SDSS"
        )
    if fetched is not None and is_sdss and makes_cuts(fetched.query):
        found.cite(["Wu2019"], "the galaxies were chosen by its cuts")


def _compose(found: _Found, names: tuple[str, ...]) -> Citations:
    software = []
    # What is named first is what users know, then by the alphabet.
    for name in sorted(found.versions, key=lambda name: (name not in ("galfig", "python"), name)):
        keys = PROGRAMS.get(name, ())
        software.append(Program(name, tuple(found.versions[name]), keys))
        made = "the figures are drawn" if name == "matplotlib" else "store or network was made"
        found.cite(keys if name != "galfig" else (), f"{made} with {name}")
    entries, words = load_bibliography(), load_acknowledgements()
    return Citations(
        names,
        tuple(Reference(entries[key], tuple(why)) for key, why in found.keys.items()),
        tuple(software),
        tuple(
            Acknowledgement(words[name], tuple(why)) for name, why in found.acknowledgements.items()
        ),
        tuple(found.notes),
    )
