"""Checking a manuscript: everything drawn again elsewhere, and compared with what is there."""

import tempfile
import textwrap
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from galfig.errors import FigureError, ManuscriptError, SelectionError
from galfig.manuscript.build import (
    draw_spec,
    find_changes,
    identify_stores,
    write_texts,
)
from galfig.manuscript.manifest import load_manifest
from galfig.manuscript.pixels import compare_figures
from galfig.manuscript.record import DrawnFigure, digest_file, load_record
from galfig.runtime.progress import track

EDITED = "file edited by hand"
# Where all that is recorded is as it was: then it is what nobody records.
ELSEWHERE = "drawn differently here: another processor or library"


@dataclass(frozen=True)
class Difference:
    """What no longer agrees: in which file, how, and why."""

    path: str
    what: str
    reason: str


def check_manuscript(folder: Path, *, exact: bool = False) -> list[Difference]:
    """Draw all figures, captions and values again, and compare them with those that are there.

    Parameters
    ----------
    folder : Path
        The manuscript's folder; nothing in it is changed.
    exact : bool, default False
        Compare bytes; otherwise what a reader sees, see `galfig.manuscript.pixels`.

    Returns
    -------
    list of Difference
        Empty where all agree.

    Raises
    ------
    ManuscriptError
        A manifest that is wrong, a store that is absent, or no record of a build.
    """
    manifest, record = load_manifest(folder), load_record(folder)
    if not record.figures:
        raise ManuscriptError(
            f"{folder}: no record of a build, expected one; run 'galfig manuscript build {folder}'"
        )
    identities = identify_stores(folder, manifest)
    with tempfile.TemporaryDirectory(prefix="galfig-") as name:
        temporary = Path(name)
        drawn: dict[str, DrawnFigure] = {}
        differences: list[Difference] = []
        for spec in track(manifest.figure, "checking", len(manifest.figure), "figures"):
            before = record.figures.get(spec.name)
            reason = "new" if before is None else find_changes(spec, before, identities)
            try:
                drawn[spec.name] = draw_spec(folder, manifest, spec, temporary, identities)
            except (FigureError, SelectionError) as exc:
                # The other figures are compared all the same.
                differences.append(Difference(spec.path, f"cannot be drawn: {exc}", reason))
                continue
            recorded = {} if before is None else before.files
            for path in drawn[spec.name].files:
                sha256 = recorded.get(path)
                differences += _check_file(folder, temporary, path, sha256, reason, exact=exact)
        texts = write_texts(folder, manifest, drawn)
    reason = next((difference.reason for difference in differences), "") or ELSEWHERE
    for path, words in texts.items():
        differences += _check_text(folder / path, path, words, record.texts.get(path), reason)
    return differences


def _check_file(
    folder: Path, drawn: Path, path: str, sha256: str | None, reason: str, *, exact: bool
) -> list[Difference]:
    """Compare a file of a figure with the one drawn again."""
    found, expected = folder / path, drawn / path
    if not found.is_file():
        return [Difference(path, "missing", reason or "file removed")]
    is_edited = sha256 is not None and digest_file(found) != sha256
    if found.read_bytes() == expected.read_bytes():
        return []
    if exact:
        what = "the bytes differ"
    elif path.endswith(".pdf"):
        what = compare_figures(found, expected)
    else:
        what = _compare_lines(found.read_text("utf-8", "replace"), expected.read_text("utf-8"))
    if is_edited:
        return [Difference(path, what or "reads the same, but the bytes differ", EDITED)]
    return [Difference(path, what, reason or ELSEWHERE)] if what else []


def _check_text(
    found: Path, path: str, expected: str, sha256: str | None, reason: str
) -> list[Difference]:
    """Compare macros or a table line by line, and name each that differs."""
    if not found.is_file():
        return [Difference(path, "missing", "file removed")]
    if digest_file(found) != sha256:
        reason = EDITED
    words = found.read_text("utf-8", "replace")
    lines, wanted = words.splitlines(), expected.splitlines()
    if len(lines) != len(wanted):
        what = _compare_lines(words, expected)
        return [Difference(path, what, reason)]
    return [
        Difference(path, _contrast(line, other), reason)
        for line, other in zip(lines, wanted, strict=True)
        if line != other
    ]


def _compare_lines(words: str, expected: str) -> str:
    """Name the first line that differs; "" where none does."""
    lines, wanted = words.splitlines(), expected.splitlines()
    for line, other in zip(lines, wanted, strict=False):
        if line != other:
            return _contrast(line, other)
    return f"{len(lines)} lines, expected {len(wanted)}" if len(lines) != len(wanted) else ""


def _contrast(line: str, other: str) -> str:
    """Quote two lines from a little before where they part."""
    n_equal = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(line, other, strict=False))
    )
    start = max(0, n_equal - 25)
    found, expected = (f"{'...' * (start > 0)}{words[start:]}" for words in (line, other))
    return f"says '{textwrap.shorten(found, 60)}', expected '{textwrap.shorten(expected, 60)}'"
