"""Dependency files: what a build makes and from what, for make, Snakemake and showyourwork."""

import os
from pathlib import Path

from galfig.config import DEFAULT_FILE
from galfig.manuscript.build import GALAXIES, VALUES
from galfig.manuscript.manifest import FILE_NAME, load_manifest
from galfig.runtime.files import replace_file


def write_depfile(folder: Path, path: Path) -> None:
    """Write a dependency file in make's syntax, its paths seen from the working directory.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    path : Path
        The file to write.
    """
    manifest = load_manifest(folder)
    made = {step.makes for step in manifest.steps if not step.kept}
    targets = [VALUES, GALAXIES]
    for spec in manifest.figure:
        targets += [spec.path, spec.caption_path]
    named = {word for step in manifest.steps for word in step.arguments}
    sources = {FILE_NAME, DEFAULT_FILE, *named, *manifest.stores.values()} - made
    present = [name for name in sorted(sources) if (folder / name).is_file()]
    words = f"{_join(folder, targets)}: {_join(folder, present)}\n"
    with replace_file(path, if_exists="replace") as temporary:
        temporary.write_text(words, encoding="utf-8")


def _join(folder: Path, names: list[str]) -> str:
    """Write paths as make reads them: blanks, dollars and hashes mean something to it."""
    escaped = []
    for name in names:
        word = os.path.relpath(folder / name)
        for sign, instead in (("$", "$$"), (" ", "\\ "), ("#", "\\#")):
            word = word.replace(sign, instead)
        escaped.append(word)
    return " \\\n  ".join(escaped)
