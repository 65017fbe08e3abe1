"""LaTeX: a paper compiles with what build writes, and its complaints are told."""

import shutil

import pypdfium2
import pytest
from paper import build

from galfig.errors import ManuscriptError
from galfig.manuscript import latex
from galfig.manuscript.latex import compile_paper, find_complaints

pytestmark = pytest.mark.slow

LOG = r"""
LaTeX Warning: Reference `fig:x' on page 1 undefined on input line 9.
Package natbib Warning: Citation `Wu2020' on page 1 undefined on input line 8.
Overfull \hbox (0.5pt too wide) in paragraph at lines 1--2
Overfull \hbox (12.3pt too wide) in paragraph at lines 3--4
LaTeX Warning: There were undefined references.
"""


def test_complaints_are_what_a_reader_would_see():
    """Undefined references and citations, and what sticks out by more than a hair."""
    found = find_complaints(LOG)
    assert len(found) == 4
    assert found[-1].startswith("Overfull hbox, 12 pt")
    assert find_complaints("LaTeX Font Warning: nothing") == []


def test_paper_without_latex_names_the_packages(paper, monkeypatch):
    """One line with what to install."""
    monkeypatch.setattr(latex.shutil, "which", lambda name: None)
    with pytest.raises(ManuscriptError, match="latexmk texlive-publishers"):
        compile_paper(paper, "paper.tex")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("latexmk") is None, reason="no latexmk")
def test_paper_compiles_with_figures_captions_and_macros(paper):
    """All that build writes is LaTeX; an error is told in one line."""
    build(paper)
    source = (
        "\\documentclass{article}\\usepackage{graphicx}\\input{values}\\begin{document}\n"
        "\\colourN{} galaxies\\begin{figure}\\includegraphics[width=1in]{figures/panels}\n"
        "\\caption{\\protect\\input{captions/panels}\\label{fig:panels}}\\end{figure}\\ref{fig:nowhere}\n"
        "\\end{document}\n"
    )
    (paper / "paper.tex").write_text(source)
    pdf, complaints = compile_paper(paper, "paper.tex")
    with pypdfium2.PdfDocument(pdf) as document:
        words = document[0].get_textpage().get_text_bounded()
    assert "12 galaxies" in words
    assert any("fig:nowhere" in complaint for complaint in complaints)
    (paper / "paper.tex").write_text(source.replace("\\ref", "\\undefinedmacro"))
    with pytest.raises(ManuscriptError, match="Undefined control sequence"):
        compile_paper(paper, "paper.tex")
