"""Compiling a paper with latexmk, and reporting LaTeX's errors and warnings in one line each."""

import os
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

from galfig.errors import ManuscriptError
from galfig.manuscript.folder import has_file, read_file, replace_file, require_own
from galfig.manuscript.manifest import AUX

PACKAGES = (
    "latexmk texlive-publishers texlive-latex-extra texlive-plain-generic texlive-fonts-recommended"
)
# An overfull box that is wider than this is visible in print [pt].
MAX_OVERFULL = 2.0
# TeX may then neither read nor write hidden files, or files outside the folder and TeX's own trees.
CONFINED = {"openin_any": "p", "openout_any": "p", "shell_escape": "f"}
# A log or a paper that is larger is none that a reader could use [byte].
MAX_BYTES = 1 << 28


def compile_paper(folder: Path, tex: str) -> tuple[Path, list[str]]:
    """Compile a paper; auxiliary files go to the subfolder ``build``.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    tex : str
        The paper's source file, relative to that folder.

    Returns
    -------
    pdf : Path
        The compiled paper, beside the source.
    complaints : list of str
        Warnings of LaTeX whose effect a reader would see: undefined references and citations,
        duplicate labels, and overfull boxes.

    Raises
    ------
    ManuscriptError
        If LaTeX is not installed, the source is missing, or it does not compile. The message gives
        LaTeX's first error. Also if a symbolic link is in the way.
    """
    if shutil.which("latexmk") is None or shutil.which("pdflatex") is None:
        raise ManuscriptError(
            f"latexmk or pdflatex: not found, expected LaTeX; on Debian install {PACKAGES}"
        )
    source = folder / tex
    if not has_file(folder, tex):
        raise ManuscriptError(f"{source}: no such file, expected the paper")
    require_own(folder, AUX, recursive=True)
    # -norc: a latexmkrc in the folder is a program. Without -g, latexmk does not retry a failed
    # paper until its source changes, even after a missing package is installed.
    command = ["latexmk", "-norc", "-g", "-pdf", "-interaction=nonstopmode", "-halt-on-error"]
    command += ["-file-line-error", "-pdflatex=pdflatex -no-shell-escape %O %S"]
    finished = subprocess.run(
        [*command, f"-outdir={AUX}", f"./{tex}"],
        cwd=folder,
        env={**os.environ, **CONFINED},
        capture_output=True,
        check=False,
    )
    stem = f"{AUX}/{source.stem}"
    log = (read_file(folder, f"{stem}.log", MAX_BYTES) or b"").decode("utf-8", "replace")
    made = read_file(folder, f"{stem}.pdf", MAX_BYTES)
    if finished.returncode or made is None:
        raise ManuscriptError(f"{source}: {_find_error(log, finished.stdout)}")
    pdf = PurePosixPath(tex).with_suffix(".pdf")
    with replace_file(folder, str(pdf)) as file:
        file.write(made)
    return folder / pdf, find_complaints(log)


def find_complaints(log: str) -> list[str]:
    """Find the warnings in a log of LaTeX whose effect a reader would see in print.

    Parameters
    ----------
    log : str
        Content of the log.

    Returns
    -------
    list of str
        The warnings, without duplicates.
    """
    # A log breaks its lines after 79 characters.
    whole = re.sub(r"(?<=[^\n]{79})\n", "", log)
    complaints = re.findall(
        r"(?:LaTeX|Package natbib) Warning: ((?:Reference|Citation|Label|There were)[^\n]*)", whole
    )
    for kind, points, rest in re.findall(
        r"Overfull \\([hv]box) \(([\d.]+)pt too (?:wide|high)\)([^\n]*)", whole
    ):
        if float(points) > MAX_OVERFULL:
            complaints.append(f"Overfull {kind}, {float(points):.0f} pt,{rest}")
    return list(dict.fromkeys(words.strip() for words in complaints))


def _find_error(log: str, output: bytes) -> str:
    """Return the first error in a log, or else the last line of latexmk's output."""
    match = re.search(r"^(?:! |[^\n:]+:\d+: )[^\n]*", log, re.MULTILINE)
    if match:
        return f"LaTeX says: {match.group()}"
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return f"latexmk says: {lines[-1]}" if lines else "latexmk failed"
