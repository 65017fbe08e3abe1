"""Dependency files: the products of a build and their inputs, in the syntax of make."""

import os
from pathlib import Path

from galfig.config import DEFAULT_FILE
from galfig.errors import OutputError
from galfig.manuscript.manifest import FILE_NAME, GALAXIES, VALUES, load_manifest
from galfig.runtime.files import replace_file
from galfig.store.picks import MARK


def write_depfile(folder: Path, path: Path) -> None:
    """Write a dependency file in the syntax of make, with paths relative to the working directory.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    path : Path
        The file to write; an existing file is replaced.

    Raises
    ------
    ManuscriptError
        If the manifest is not valid.
    OutputError
        If the file cannot be written, or the folder's path has a character that make cannot read.
    """
    manifest = load_manifest(folder)
    made = {step.makes for step in manifest.steps if not step.kept}
    targets = [VALUES, GALAXIES]
    for spec in manifest.figure:
        targets += [spec.path, spec.caption_path]
    named = {path for step in manifest.steps for path in step.parsed.paths.values()}
    lists = (name.removeprefix(MARK) for name in manifest.lists)
    sources = {FILE_NAME, DEFAULT_FILE, *named, *manifest.stores.values(), *lists} - made
    present = [name for name in sorted(sources) if (folder / name).is_file()]
    words = f"{_join(folder, targets)}: {_join(folder, present)}\n"
    with replace_file(path, if_exists="replace") as temporary:
        temporary.write_text(words, encoding="utf-8")


def _join(folder: Path, names: list[str]) -> str:
    """Escape and join paths for make, to which blanks, dollars and hashes are special."""
    escaped = []
    for name in names:
        word = os.path.relpath(folder / name)
        if not word.isprintable() or set(word) & set(":;%|'\"\\"):
            raise OutputError(
                f"{folder}: path {word!r}, expected none of the characters : ; % | ' \" \\ and no "
                "line break, which make cannot read"
            )
        for char, escape in (("$", "$$"), (" ", "\\ "), ("#", "\\#")):
            word = word.replace(char, escape)
        escaped.append(word)
    return " \\\n  ".join(escaped)
