"""Building a manuscript: its stores made, its figures drawn anew where they are out of date."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galfig.errors import FigureError, ManuscriptError, SelectionError
from galfig.figures.captions import LATEX, PLAIN
from galfig.figures.registry import draw_figure
from galfig.figures.save import save_figure
from galfig.manuscript.code import digest_code
from galfig.manuscript.manifest import FigureSpec, Manifest, load_manifest
from galfig.manuscript.record import (
    DrawnFigure,
    Record,
    describe_spec,
    digest_file,
    identify,
    load_record,
    save_record,
)
from galfig.manuscript.steps import find_stale, run_steps
from galfig.manuscript.values import write_galaxies, write_macros
from galfig.runtime.files import replace_file
from galfig.runtime.progress import track
from galfig.store.reader import Store, open_store

logger = logging.getLogger(__name__)

VALUES, GALAXIES = "values.tex", "galaxies.tex"


@dataclass(frozen=True)
class State:
    """A file of a manuscript, and why it is out of date; "" where it is not."""

    path: str
    reason: str


def build_manuscript(
    folder: Path, *, retrain: bool = False, only_stores: bool = False
) -> list[State]:
    """Make the stores that are absent or of another recipe, and draw what is out of date.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    retrain : bool, default False
        Make what is kept with the paper, such as its network, anew too.
    only_stores : bool, default False
        Draw nothing: for a check of what is there against stores made on this machine.

    Returns
    -------
    list of State
        Each file that was made or looked at, with the reason for which it was made; "" where it
        was up to date.

    Raises
    ------
    ManuscriptError
        A manifest that is wrong, a step that failed, or a store that is absent.
    """
    manifest, before = load_manifest(folder), load_record(folder)
    made, reasons = run_steps(folder, manifest.steps, before.made, retrain=retrain)
    states = [State(path, reasons.get(path, "")) for path in made]
    if only_stores:
        return states
    # Whatever fails from here on, what took longest is known.
    save_record(folder, before.model_copy(update={"made": made}))
    identities = identify_stores(folder, manifest)
    figures: dict[str, DrawnFigure] = {}
    for spec in track(manifest.figure, "drawing", len(manifest.figure), "figures"):
        reason = find_reason(folder, spec, before.figures.get(spec.name), identities)
        states.append(State(spec.path, reason))
        if reason:
            logger.debug("%s: %s", spec.path, reason)
            try:
                figures[spec.name] = draw_spec(folder, manifest, spec, folder, identities)
            except (FigureError, SelectionError) as exc:
                raise ManuscriptError(f"{folder}: figure {spec.name!r}: {exc}") from exc
        else:
            figures[spec.name] = before.figures[spec.name]
    texts = write_texts(folder, manifest, figures)
    digests: dict[str, str] = {}
    for path, words in texts.items():
        reason = _write_text(folder / path, words)
        states.append(State(path, reason))
        digests[path] = digest_file(folder / path)
    save_record(folder, Record(made=made, figures=figures, texts=digests))
    return states


def list_states(folder: Path) -> list[State]:
    """Return each file of a manuscript, and why `build_manuscript` would make it; make nothing."""
    manifest, record = load_manifest(folder), load_record(folder)
    stale = find_stale(folder, manifest.steps, record.made)
    states = [State(step.makes, stale.get(step.makes, "")) for step in manifest.steps]
    identities = {name: identify(folder / path) or "" for name, path in manifest.stores.items()}
    for spec in manifest.figure:
        made_anew = [manifest.stores[name] for name in _stores_of(spec)]
        reason = find_reason(folder, spec, record.figures.get(spec.name), identities)
        if any(path in stale for path in made_anew):
            reason = "store to be made"
        states.append(State(spec.path, reason))
    for path in (VALUES, GALAXIES):
        reason = "missing" if not (folder / path).is_file() else ""
        if not reason and digest_file(folder / path) != record.texts.get(path):
            reason = "file edited by hand"
        states.append(State(path, reason))
    return states


def find_reason(
    folder: Path,
    spec: FigureSpec,
    before: DrawnFigure | None,
    identities: Mapping[str, str],
) -> str:
    """Say why a figure is out of date; "" where it is what would be drawn again."""
    files = _files_of(spec)
    if before is None:
        return "new"
    missing = [path for path in files if not (folder / path).is_file()]
    if missing:
        return f"missing: {missing[0]}"
    changed = find_changes(spec, before, identities)
    if changed:
        return changed
    edited = [path for path in files if digest_file(folder / path) != before.files.get(path)]
    return f"file edited by hand: {edited[0]}" if edited else ""


def find_changes(spec: FigureSpec, before: DrawnFigure, identities: Mapping[str, str]) -> str:
    """Say which of a figure's inputs changed since it was drawn; "" where none did."""
    now = describe_spec(spec)
    keys = [key for key in now if now[key] != before.spec.get(key)]
    if keys:
        details = ", ".join(_describe_change(key, before.spec.get(key), now[key]) for key in keys)
        return f"settings changed: {details}"
    for name in _stores_of(spec):
        if identities[name] != before.stores.get(name):
            return f"store changed: {name}"
    return "galfig or matplotlib changed" if digest_code(spec.figure) != before.code else ""


def write_texts(
    folder: Path, manifest: Manifest, figures: Mapping[str, DrawnFigure]
) -> dict[str, str]:
    """Return the content of ``values.tex`` and ``galaxies.tex``, of the figures that were drawn."""
    with open_stores(folder, manifest) as stores:
        shown: dict[str, tuple[Store, list[str]]] = {}
        for spec in manifest.figure:
            for objid in figures[spec.name].galaxies if spec.name in figures else ():
                _, labels = shown.setdefault(objid, (stores[spec.store], []))
                labels.append(spec.name)
        rows = [(store, objid, labels) for objid, (store, labels) in shown.items()]
        return {VALUES: write_macros(stores), GALAXIES: write_galaxies(rows)}


@contextmanager
def open_stores(folder: Path, manifest: Manifest) -> Iterator[dict[str, Store]]:
    """Open all stores of a manuscript, by name."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(open_store(folder / path))
            for name, path in manifest.stores.items()
        }


def draw_spec(
    folder: Path, manifest: Manifest, spec: FigureSpec, out: Path, identities: Mapping[str, str]
) -> DrawnFigure:
    """Draw a figure with its caption and alternative text into a folder ``out``."""
    with draw_figure(
        spec.figure,
        folder / manifest.stores[spec.store],
        spec.selection,
        width=spec.width,
        unit=spec.unit,
        other=None if spec.other is None else folder / manifest.stores[spec.other],
    ) as (drawing, provenance):
        save_figure(
            drawing.pages,
            out / spec.path,
            title=drawing.title,
            description=drawing.describe(PLAIN).strip(),
            provenance=provenance,
            if_exists="replace",
        )
        _write_text(out / spec.caption_path, drawing.describe(LATEX))
        _write_text(out / spec.alt_path, f"{drawing.alt}\n")
    return DrawnFigure(
        spec=describe_spec(spec),
        stores={name: identities[name] for name in _stores_of(spec)},
        code=digest_code(spec.figure),
        galaxies=drawing.galaxies,
        files={path: digest_file(out / path) for path in _files_of(spec)},
    )


def identify_stores(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Return the plan digest of each store, by name."""
    identities = {}
    for name, path in manifest.stores.items():
        identity = identify(folder / path)
        if identity is None and (folder / path).is_file():
            raise ManuscriptError(
                f"{folder / path}: cannot be read, expected the store {name!r}; 'galfig verify "
                f"{folder / path}' says why"
            )
        if identity is None:
            raise ManuscriptError(
                f"{folder / path}: no such file, expected the store {name!r}; add the step that "
                "makes it to manuscript.toml, or copy it there"
            )
        identities[name] = identity
    return identities


def _files_of(spec: FigureSpec) -> tuple[str, str, str]:
    return spec.path, spec.caption_path, spec.alt_path


def _stores_of(spec: FigureSpec) -> list[str]:
    return [name for name in (spec.store, spec.other) if name is not None]


def _describe_change(key: str, before: Any, now: Any) -> str:
    """Name what is different: 'selection n 5 → 3'."""
    if isinstance(before, dict) and isinstance(now, dict):
        return ", ".join(
            f"{key} {name} {before.get(name)} → {now[name]}"
            for name in now
            if before.get(name) != now[name]
        )
    return f"{key} {before} → {now}"


def _write_text(path: Path, words: str) -> str:
    """Write a text unless it is there already; return why it was written."""
    reason = "missing"
    if path.is_file():
        if path.read_bytes() == words.encode():
            return ""
        reason = "changed"
    with replace_file(path, if_exists="replace") as temporary:
        temporary.write_text(words, encoding="utf-8")
    return reason
