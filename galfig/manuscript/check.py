"""Checking a manuscript: redraw everything in a temporary folder and compare it."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from galfig.errors import FigureError, ManuscriptError, SelectionError
from galfig.figures.registry import Opener
from galfig.manuscript.build import (
    draw_spec,
    find_changes,
    identify_stores,
    limit_size,
    write_texts,
)
from galfig.manuscript.folder import digest_file, read_file
from galfig.manuscript.manifest import VALUES, Manifest, load_manifest
from galfig.manuscript.pixels import compare_figures
from galfig.manuscript.record import DrawnFigure, load_record
from galfig.manuscript.values import find_unstated
from galfig.runtime.progress import track
from galfig.store.reader import open_store
from galfig.store.selection import Query

EDITED = "file edited by hand"
SAME_WORDS = "reads the same, but the bytes differ"
# The reason if no recorded input has changed: the cause is then something that is not recorded.
ELSEWHERE = "drawn differently here: another processor or library"


@dataclass(frozen=True)
class Difference:
    """A difference between a manuscript and its inputs.

    Attributes
    ----------
    path : str
        The file, relative to the manuscript's folder.
    what : str
        How the file differs.
    reason : str
        Why it differs.
    """

    path: str
    what: str
    reason: str


def check_manuscript(
    folder: Path, *, exact: bool = False, opener: Opener = open_store
) -> list[Difference]:
    """Redraw all figures, captions and values, and compare them with the existing files.

    Parameters
    ----------
    folder : Path
        The manuscript's folder; nothing in it is changed.
    exact : bool, default False
        Compare bytes. Otherwise compare what a reader sees; see `galfig.manuscript.pixels`.
    opener : callable, optional
        Opens each store of a figure; see `galfig.figures.registry.render_figure`.

    Returns
    -------
    list of Difference
        The differences; empty if everything agrees.

    Raises
    ------
    ManuscriptError
        If the manifest is not valid, a store is missing, or there is no record of a build.
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
                drawn[spec.name] = draw_spec(folder, manifest, spec, temporary, identities, opener)
            except (FigureError, SelectionError) as exc:
                # Continue with the other figures.
                differences.append(Difference(spec.path, f"cannot be drawn: {exc}", reason))
                continue
            recorded = {} if before is None else before.files
            for path in drawn[spec.name].files:
                sha256 = recorded.get(path)
                differences += _check_file(folder, temporary, path, sha256, reason, exact=exact)
        texts = write_texts(folder, manifest, drawn, temporary)
        differences += _compare_numbers(manifest, drawn, temporary, texts[VALUES])
    reason = next((difference.reason for difference in differences), "") or ELSEWHERE
    for path, words in texts.items():
        differences += _check_text(folder, path, words, record.texts.get(path), reason)
    return differences


def _compare_numbers(
    manifest: Manifest, drawn: Mapping[str, DrawnFigure], folder: Path, macros: str
) -> list[Difference]:
    """Compare the numbers of the text with those of captions that state them of all galaxies."""
    found = []
    for spec in manifest.figure:
        if spec.name in drawn and spec.store and spec.selection == Query(n=None):
            caption = (folder / spec.caption_path).read_text(encoding="utf-8")
            for clause in find_unstated(spec.figure, spec.store, macros, caption):
                what = f"{clause}, expected that number in the caption"
                found.append(Difference(spec.caption_path, what, "figure and text differ"))
    return found


def _check_file(
    folder: Path, drawn: Path, path: str, sha256: str | None, reason: str, *, exact: bool
) -> list[Difference]:
    """Compare a file of a figure with its redrawn copy."""
    expected = (drawn / path).read_bytes()
    try:
        found = read_file(folder, path, limit_size(expected))
        is_edited = sha256 is not None and digest_file(folder, path) != sha256
    except ManuscriptError as exc:
        return [Difference(path, str(exc).removeprefix(f"{folder / path}: "), EDITED)]
    if found is None:
        return [Difference(path, "missing", reason or "file removed")]
    if found == expected:
        return []
    if exact:
        what = "the bytes differ"
    elif path.endswith(".pdf"):
        what = compare_figures(found, expected)
    else:
        what = _compare_lines(found, expected)
    if is_edited:
        return [Difference(path, what or SAME_WORDS, EDITED)]
    return [Difference(path, what, reason or ELSEWHERE)] if what else []


def _check_text(
    folder: Path, path: str, expected: str, sha256: str | None, reason: str
) -> list[Difference]:
    """Compare macros or a table line by line, and report each line that differs."""
    wanted = expected.encode()
    try:
        found = read_file(folder, path, limit_size(wanted))
        is_edited = digest_file(folder, path) != sha256
    except ManuscriptError as exc:
        return [Difference(path, str(exc).removeprefix(f"{folder / path}: "), EDITED)]
    if found is None:
        return [Difference(path, "missing", "file removed")]
    if found == wanted:
        return []
    if is_edited:
        reason = EDITED
    lines, others = _split_lines(found), _split_lines(wanted)
    if len(lines) != len(others):
        return [Difference(path, _compare_lines(found, wanted), reason)]
    differences = [
        Difference(path, _contrast(line, other), reason)
        for line, other in zip(lines, others, strict=True)
        if line != other
    ]
    # What is left are the ends of lines, such as those that git may write on Windows.
    return differences or ([Difference(path, SAME_WORDS, EDITED)] if is_edited else [])


def _split_lines(data: bytes) -> list[str]:
    """Split a file into lines as TeX does, for which nothing but CR and LF ends a line.

    Python also splits at others, such as U+2028, behind which a comment of TeX goes on. Bytes that
    are not UTF-8 stay apart from all characters.
    """
    words = data.decode("utf-8", "surrogateescape")
    return words.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _compare_lines(found: bytes, expected: bytes) -> str:
    """Describe the first line that differs; "" if none does."""
    lines, wanted = _split_lines(found), _split_lines(expected)
    for line, other in zip(lines, wanted, strict=False):
        if line != other:
            return _contrast(line, other)
    return f"{len(lines)} lines, expected {len(wanted)}" if len(lines) != len(wanted) else ""


def _contrast(line: str, other: str) -> str:
    """Quote two lines from shortly before the point where they diverge."""
    n_equal = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(line, other, strict=False))
    )
    start = max(0, n_equal - 25)
    found, expected = (f"{'...' * (start > 0)}{words[start:]}" for words in (line, other))
    return f"says '{_shorten(found)}', expected '{_shorten(expected)}'"


def _shorten(words: str, n: int = 60) -> str:
    """Return the first characters of a line, with those that a terminal would obey spelled out."""
    printable = "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in words[: n + 1]
    )
    return printable if len(printable) <= n else f"{printable[: n - 3].rstrip()}..."
