"""Compiling a paper with latexmk, and saying in one line what LaTeX found wrong."""

import re
import shutil
import subprocess
from pathlib import Path

from galfig.errors import ManuscriptError
from galfig.runtime.files import replace_file

PACKAGES = (
    "latexmk texlive-publishers texlive-latex-extra texlive-plain-generic texlive-fonts-recommended"
)
# Wider than this, words stick out of their column so that a reader sees it [pt].
MAX_OVERFULL = 2.0
AUX = "build"


def compile_paper(folder: Path, tex: str) -> tuple[Path, list[str]]:
    """Compile a paper; auxiliary files go to the folder ``build`` beside it.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    tex : str
        The paper, in that folder.

    Returns
    -------
    pdf : Path
        The compiled paper, beside the source.
    complaints : list of str
        What LaTeX warned of and a reader would see: undefined references and citations, labels
        that are there twice, and lines or figures that stick out.

    Raises
    ------
    ManuscriptError
        No LaTeX, or a paper that does not compile; the message gives LaTeX's first error.
    """
    if shutil.which("latexmk") is None or shutil.which("pdflatex") is None:
        raise ManuscriptError(
            f"latexmk or pdflatex: not found, expected LaTeX; on Debian install {PACKAGES}"
        )
    source = folder / tex
    if not source.is_file():
        raise ManuscriptError(f"{source}: no such file, expected the paper")
    # Without -g a paper that failed is not tried again until its source changes: a missing package
    # would be missing for ever.
    command = ["latexmk", "-g", "-pdf", "-norc", "-interaction=nonstopmode", "-halt-on-error"]
    command += ["-file-line-error", "-pdflatex=pdflatex -no-shell-escape %O %S"]
    finished = subprocess.run(
        [*command, f"-outdir={AUX}", tex], cwd=folder, capture_output=True, check=False
    )
    log = _read_log(folder / AUX / f"{source.stem}.log")
    made = folder / AUX / f"{source.stem}.pdf"
    if finished.returncode or not made.is_file():
        raise ManuscriptError(f"{source}: {_find_error(log, finished.stdout)}")
    pdf = source.with_suffix(".pdf")
    with replace_file(pdf, if_exists="replace") as temporary:
        shutil.copyfile(made, temporary)
    return pdf, find_complaints(log)


def find_complaints(log: str) -> list[str]:
    """Return what of a log of LaTeX a reader would see in print."""
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
    """Return the first error of a log, or the last words of latexmk."""
    match = re.search(r"^(?:! |[^\n:]+:\d+: )[^\n]*", log, re.MULTILINE)
    if match:
        return f"LaTeX says: {match.group()}"
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return f"latexmk says: {lines[-1]}" if lines else "latexmk failed"


def _read_log(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""
