"""Building a manuscript: make its stores, and redraw the figures that are out of date."""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from galfig.errors import FigureError, ManuscriptError, SelectionError
from galfig.figures.captions import LATEX, PLAIN
from galfig.figures.registry import Opener, draw_figure
from galfig.figures.save import save_figure
from galfig.manuscript.alternatives import FigureText, write_alternatives
from galfig.manuscript.code import digest_code
from galfig.manuscript.folder import digest_file, has_file, read_file, replace_file
from galfig.manuscript.manifest import (
    GALAXIES,
    VALUES,
    FigureSpec,
    Manifest,
    load_manifest,
)
from galfig.manuscript.pixels import compare_figures
from galfig.manuscript.record import (
    DrawnFigure,
    Record,
    StoreIdentity,
    describe_spec,
    identify_audit,
    identify_store,
    load_record,
    save_record,
)
from galfig.manuscript.steps import find_stale, run_steps
from galfig.manuscript.values import write_galaxies, write_macros
from galfig.runtime.progress import track
from galfig.store.audits import open_audit
from galfig.store.picks import MARK, expand_objids, parse_picks
from galfig.store.picks import MAX_BYTES as MAX_LIST_BYTES
from galfig.store.reader import Store, open_store

logger = logging.getLogger(__name__)

# Captions, macros and table that are larger were not written by galfig [byte].
MAX_BYTES = 1 << 26


@dataclass(frozen=True)
class State:
    """A file of a manuscript, and whether it is up to date.

    Attributes
    ----------
    path : str
        The file, relative to the manuscript's folder.
    reason : str
        Why the file is out of date; "" if it is up to date.
    """

    path: str
    reason: str


def build_manuscript(
    folder: Path,
    *,
    retrain: bool = False,
    only_stores: bool = False,
    opener: Opener = open_store,
) -> list[State]:
    """Make the stores that are missing or have another recipe, and redraw outdated figures.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    retrain : bool, default False
        Also remake the files that are kept with the paper, such as its network.
    only_stores : bool, default False
        Draw nothing. `galfig.manuscript.check.check_manuscript` can then compare the existing
        figures with stores made on this machine.
    opener : callable, optional
        Opens each store of a figure; see `galfig.figures.registry.render_figure`.

    Returns
    -------
    list of State
        Each file that was made or checked, with the reason why it was made.

    Raises
    ------
    ManuscriptError
        If the manifest is not valid, a step fails, a store is missing, or a figure cannot be drawn.
    """
    manifest, before = load_manifest(folder), load_record(folder)
    made, reasons = run_steps(folder, manifest.steps, before.made, retrain=retrain)
    states = [State(path, reasons.get(path, "")) for path in made]
    if only_stores:
        return states
    # Record the stores, which took longest to make, in case a figure fails.
    save_record(folder, before.model_copy(update={"made": made}))
    identities = identify_stores(folder, manifest)
    figures: dict[str, DrawnFigure] = {}
    for spec in track(manifest.figure, "drawing", len(manifest.figure), "figures"):
        last = before.figures.get(spec.name)
        reason = find_reason(folder, spec, last, identities)
        if reason:
            logger.debug("%s: %s", spec.path, reason)
            figures[spec.name], is_kept = _redraw(folder, manifest, spec, identities, last, opener)
            reason = "" if is_kept else reason
        else:
            figures[spec.name] = before.figures[spec.name]
        states.append(State(spec.path, reason))
    texts = write_texts(folder, manifest, figures, folder)
    digests: dict[str, str] = {}
    for path, words in texts.items():
        reason = _write_text(folder, path, words)
        states.append(State(path, reason))
        digests[path] = digest_file(folder, path) or ""
    save_record(folder, Record(made=made, figures=figures, texts=digests))
    return states


def list_states(folder: Path) -> list[State]:
    """List the files that `build_manuscript` would make or check, without making any.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.

    Returns
    -------
    list of State
        Each file, with the reason why it would be made.

    Raises
    ------
    ManuscriptError
        If the manifest or the record is not valid.
    """
    manifest, record = load_manifest(folder), load_record(folder)
    stale = find_stale(folder, manifest.steps, record.made)
    states = [State(step.makes, stale.get(step.makes, "")) for step in manifest.steps]
    absent = StoreIdentity("", {})
    files = {**manifest.stores, **manifest.audits}
    identities = {name: _identify_source(folder, manifest, name) or absent for name in files}
    identities |= {name: _identify_list(folder, name) or absent for name in manifest.lists}
    for spec in manifest.figure:
        made_anew = [files[name] for name in spec.sources]
        reason = find_reason(folder, spec, record.figures.get(spec.name), identities)
        if any(path in stale for path in made_anew):
            reason = "store to be made"
        states.append(State(spec.path, reason))
    for path in (VALUES, GALAXIES):
        found = digest_file(folder, path)
        reason = "missing" if found is None else ""
        if not reason and found != record.texts.get(path):
            reason = "file edited by hand"
        states.append(State(path, reason))
    return states


def find_reason(
    folder: Path,
    spec: FigureSpec,
    before: DrawnFigure | None,
    identities: Mapping[str, StoreIdentity],
) -> str:
    """Determine why a figure is out of date.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    spec : FigureSpec
        The figure's entry in the manifest.
    before : DrawnFigure or None
        The record of the last drawing; None if there is none.
    identities : mapping of str to StoreIdentity
        Identity of each store, by name.

    Returns
    -------
    str
        The reason; "" if the figure is up to date.
    """
    files = _files_of(spec)
    if before is None:
        return "new"
    missing = [path for path in files if not has_file(folder, path)]
    if missing:
        return f"missing: {missing[0]}"
    changed = find_changes(spec, before, identities)
    if changed:
        return changed
    edited = [path for path in files if digest_file(folder, path) != before.files.get(path)]
    return f"file edited by hand: {edited[0]}" if edited else ""


def find_changes(
    spec: FigureSpec, before: DrawnFigure, identities: Mapping[str, StoreIdentity]
) -> str:
    """Determine which input of a figure has changed since it was drawn.

    Parameters
    ----------
    spec : FigureSpec
        The figure's entry in the manifest.
    before : DrawnFigure
        The record of the last drawing.
    identities : mapping of str to StoreIdentity
        Identity of each store, by name.

    Returns
    -------
    str
        The settings, the store or the code that has changed; "" if nothing has.
    """
    # A setting that is new in galfig is absent from an older record, and None where it is not used.
    now, was = _drop_none(describe_spec(spec)), _drop_none(before.spec)
    keys = [key for key in {**was, **now} if now.get(key) != was.get(key)]
    if keys:
        details = ", ".join(_describe_change(key, was.get(key), now.get(key)) for key in keys)
        return f"settings changed: {details}"
    for name in spec.lists:
        if identities[name].plan != before.stores.get(name):
            return f"list of galaxies changed: {name.removeprefix(MARK)}"
    for name in spec.sources:
        recorded, content = before.content.get(name, {}), identities[name].content
        parts = [part for part in content if content[part] != recorded.get(part)]
        if parts and recorded:
            return f"store changed: {name} ({', '.join(parts)})"
        if identities[name].plan != before.stores.get(name):
            return f"store changed: {name}"
        if parts:
            return f"content of the store not recorded: {name}"
    return "galfig or matplotlib changed" if digest_code(spec.figure) != before.code else ""


def write_texts(
    folder: Path, manifest: Manifest, figures: Mapping[str, DrawnFigure], drawn: Path
) -> dict[str, str]:
    """Compose ``values.tex`` and ``galaxies.tex``.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    manifest : Manifest
        Its manifest.
    figures : mapping of str to DrawnFigure
        The figures that were drawn, by name.
    drawn : Path
        Folder that holds their alternative texts.

    Returns
    -------
    dict of str to str
        Content of each file, by its path in the folder.
    """
    audits = {name: open_audit(folder / path) for name, path in manifest.audits.items()}
    with open_stores(folder, manifest) as stores:
        shown: dict[str, tuple[Store, list[str]]] = {}
        for spec in manifest.figure:
            for objid in figures[spec.name].galaxies if spec.name in figures else ():
                # Only figures of a store show galaxies one by one.
                _, labels = shown.setdefault(objid, (stores[spec.store or ""], []))
                labels.append(spec.name)
        rows = [(store, objid, labels) for objid, (store, labels) in shown.items()]
        macros = write_macros(stores, audits)
        texts = [
            FigureText(
                spec.name, spec.path, (read_file(drawn, spec.alt_path, MAX_BYTES) or b"").decode()
            )
            for spec in manifest.figure
            if spec.name in figures
        ]
        return {VALUES: macros + write_alternatives(texts), GALAXIES: write_galaxies(rows)}


@contextmanager
def open_stores(folder: Path, manifest: Manifest) -> Iterator[dict[str, Store]]:
    """Open all stores of a manuscript, by name."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(open_store(folder / path))
            for name, path in manifest.stores.items()
        }


def _redraw(
    folder: Path,
    manifest: Manifest,
    spec: FigureSpec,
    identities: Mapping[str, StoreIdentity],
    before: DrawnFigure | None,
    opener: Opener,
) -> tuple[DrawnFigure, bool]:
    """Draw a figure elsewhere and copy it to its place; return whether the old one could stay.

    It can where it looks the same. Maps that another processor computed differ in the sixth digit,
    for which the files of a paper need not change.
    """
    with tempfile.TemporaryDirectory(prefix="galfig-") as name:
        drawn = Path(name)
        try:
            figure = draw_spec(folder, manifest, spec, drawn, identities, opener)
        except (FigureError, SelectionError) as exc:
            raise ManuscriptError(f"{folder}: figure {spec.name!r}: {exc}") from exc
        if before is not None and _looks_the_same(folder, drawn, figure, before):
            return figure.model_copy(update={"files": before.files}), True
        for path in figure.files:
            with (drawn / path).open("rb") as source, replace_file(folder, path) as target:
                shutil.copyfileobj(source, target)
    return figure, False


def _looks_the_same(folder: Path, drawn: Path, figure: DrawnFigure, before: DrawnFigure) -> bool:
    """Return whether files that only the content of a store made out of date can stay."""
    # The plan digests are in the metadata of the figure, which then stay true.
    if (figure.spec, figure.stores, figure.code) != (before.spec, before.stores, before.code):
        return False
    for path in figure.files:
        found = digest_file(folder, path)
        if found is None or found != before.files.get(path):
            return False
        expected = (drawn / path).read_bytes()
        data = read_file(folder, path, limit_size(expected))
        is_same = data == expected
        if data is not None and not is_same and path.endswith(".pdf"):
            is_same = not compare_figures(data, expected)
        if not is_same:
            return False
    return True


def limit_size(expected: bytes) -> int:
    """Return the size that a file may have which should be equal to another [byte]."""
    return 2 * len(expected) + (1 << 20)


def draw_spec(
    folder: Path,
    manifest: Manifest,
    spec: FigureSpec,
    out: Path,
    identities: Mapping[str, StoreIdentity],
    opener: Opener = open_store,
) -> DrawnFigure:
    """Draw a figure of the manifest, with its caption and alternative text.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    manifest : Manifest
        Its manifest.
    spec : FigureSpec
        The figure's entry in it.
    out : Path
        Folder of galfig's own to write to; the paths in it are those of the manuscript's folder.
    identities : mapping of str to StoreIdentity
        Identity of each store, by name.
    opener : callable, optional
        Opens each store; see `galfig.figures.registry.render_figure`.

    Returns
    -------
    DrawnFigure
        The record of the figure.

    Raises
    ------
    FigureError, SelectionError
        If the figure cannot be drawn from its store.
    """
    chosen = expand_objids(spec.selection.objids, partial(_read_list, folder))
    with draw_figure(
        spec.figure,
        folder / _find_source(manifest, spec),
        replace(spec.selection, objids=chosen),
        width=spec.width,
        unit=spec.unit,
        other=None if spec.other is None else folder / manifest.stores[spec.other],
        classes=spec.classes,
        audit=folder / manifest.audits[spec.audit] if spec.store and spec.audit else None,
        column=spec.column,
        statistic=spec.statistic,
        map=spec.map,
        cutouts=bool(spec.cutouts),
        projection=spec.projection,
        style=spec.style,
        opener=opener,
    ) as (drawing, provenance):
        save_figure(
            drawing.pages,
            out / spec.path,
            title=drawing.title,
            description=drawing.describe(PLAIN).strip(),
            provenance=provenance,
            style=drawing.style,
            if_exists="replace",
        )
        _write_text(out, spec.caption_path, drawing.describe(LATEX))
        _write_text(out, spec.alt_path, f"{drawing.alt}\n")
    return DrawnFigure(
        spec=describe_spec(spec),
        stores={name: identities[name].plan for name in (*spec.sources, *spec.lists)},
        content={name: identities[name].content for name in spec.sources},
        code=digest_code(spec.figure),
        galaxies=drawing.galaxies,
        files={path: digest_file(out, path) or "" for path in _files_of(spec)},
    )


def identify_stores(folder: Path, manifest: Manifest) -> dict[str, StoreIdentity]:
    """Identify each store and each audit.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    manifest : Manifest
        Its manifest.

    Returns
    -------
    dict of str to StoreIdentity
        Identities by name; also of each list of galaxies, by ``@FILE``.

    Raises
    ------
    ManuscriptError
        If a store, an audit or a list is missing or cannot be read.
    """
    identities = {}
    for name, path in {**manifest.stores, **manifest.audits}.items():
        identity = _identify_source(folder, manifest, name)
        kind = "store" if name in manifest.stores else "audit"
        if identity is None and (folder / path).is_file():
            raise ManuscriptError(
                f"{folder / path}: cannot be read, expected the {kind} {name!r}; 'galfig verify "
                f"{folder / path}' says why"
            )
        if identity is None:
            raise ManuscriptError(
                f"{folder / path}: no such file, expected the {kind} {name!r}; add the step that "
                "makes it to manuscript.toml, or copy it there"
            )
        identities[name] = identity
    for name in manifest.lists:
        identity = _identify_list(folder, name)
        if identity is None:
            raise ManuscriptError(
                f"{folder / name.removeprefix(MARK)}: no such file, expected identifiers of "
                "galaxies, one per line"
            )
        identities[name] = identity
    return identities


def _identify_list(folder: Path, name: str) -> StoreIdentity | None:
    """Identify a list of galaxies of a manuscript by its content; None if it is missing."""
    digest = digest_file(folder, name.removeprefix(MARK))
    return None if digest is None else StoreIdentity(digest, {})


def _read_list(folder: Path, name: str) -> tuple[str, ...]:
    """Read the identifiers that a file of a manuscript lists."""
    data = read_file(folder, name, MAX_LIST_BYTES)
    return parse_picks(data or b"", folder / name)


def _find_source(manifest: Manifest, spec: FigureSpec) -> str:
    """Return the file that a figure is drawn from: its store, or its audit if it has none."""
    if spec.store is not None:
        return manifest.stores[spec.store]
    return manifest.audits[spec.audit or ""]


def _identify_source(folder: Path, manifest: Manifest, name: str) -> StoreIdentity | None:
    """Identify a store or an audit of a manuscript; None if it cannot be read."""
    if name in manifest.stores:
        return identify_store(folder, manifest.stores[name])
    return identify_audit(folder, manifest.audits[name])


def _files_of(spec: FigureSpec) -> tuple[str, str, str]:
    return spec.path, spec.caption_path, spec.alt_path


def _drop_none(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings, and settings within them, without those that are None."""
    return {
        key: _drop_none(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if value is not None
    }


def _describe_change(key: str, before: Any, now: Any) -> str:
    """Describe a changed setting: 'selection n 5 → 3'."""
    if isinstance(before, dict) and isinstance(now, dict):
        return ", ".join(
            f"{key} {name} {before.get(name)} → {now.get(name)}"
            for name in {**before, **now}
            if before.get(name) != now.get(name)
        )
    return f"{key} {before} → {now}"


def _write_text(folder: Path, path: str, words: str) -> str:
    """Write a text file unless it has this content already; return why it was written."""
    found = read_file(folder, path, MAX_BYTES)
    if found == words.encode():
        return ""
    with replace_file(folder, path) as file:
        file.write(words.encode())
    return "missing" if found is None else "changed"
