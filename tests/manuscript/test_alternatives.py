"""Alternative texts in LaTeX: each figure is included with its own, whatever its characters."""

import shutil
import string
import subprocess

import pypdfium2
import pytest
from paper import build, check, replace_in

from galfig.errors import ManuscriptError
from galfig.manuscript.alternatives import FigureText, write_alternatives
from galfig.manuscript.latex import compile_paper
from galfig.manuscript.values import write_macros
from galfig.store.reader import open_store

pytestmark = pytest.mark.slow

has_latex = pytest.mark.skipif(
    shutil.which("latexmk") is None or shutil.which("kpsewhich") is None, reason="no latexmk"
)
SYMBOLS = "[]a=b,c; «é ñ ø ß œ å Å ł ş ő» ° ± × − ≤ ≥ ☉ α Σ Å ″ – — ‘’ “” … 星 \u0627 🌌"
# Says in the log what reaches graphicx. Without the key, graphicx of before 2021 would stop.
TELL = r"\makeatletter\define@key{Gin}{alt}{\typeout{ALT=#1.}}\makeatother"
FORGET = r"\makeatletter\expandafter\let\csname KV@Gin@alt\endcsname\@undefined\makeatother"
PAPER = r"""\documentclass{CLASS}
\usepackage{graphicx}
\input{values}
\begin{document}
\title{Words}\author{A. Author}AFFILIATION
BEFORE
\begin{figure}
\galfigFigure[width=1in]{panels}
\caption{\protect\input{captions/panels}}
\end{figure}
\begin{figure}\includegraphics[alt={\galfigAlt{confusion}}]{figures/confusion}\end{figure}
\noindent\galfigAlt{panels}
\end{document}
"""


def has_tex(name):
    """Tell whether TeX has a file."""
    return not subprocess.run(["kpsewhich", name], capture_output=True, check=False).returncode


def read_words(pdf):
    with pypdfium2.PdfDocument(pdf) as document:
        pages = [page.get_textpage().get_text_bounded() for page in document]
    return " ".join(" ".join(pages).split())


def write_paper(folder, before="", name="article"):
    is_aas = name.startswith("aastex")
    author = r"\affiliation{Here}\email{a@example.org}" if is_aas else ""
    source = PAPER.replace("CLASS", name).replace("AFFILIATION", author)
    (folder / "paper.tex").write_text(source.replace("BEFORE", before))


@has_latex
@pytest.mark.parametrize("name", ["article", "aastex631", "aastex701"])
def test_figures_are_included_with_their_texts(paper, name):
    """The key ``alt`` of graphicx gets the text of each figure, and a page shows the figure."""
    if not has_tex(f"{name}.cls"):
        pytest.skip(f"no {name}")
    build(paper)
    write_paper(paper, before=TELL, name=name)
    pdf, _ = compile_paper(paper, "paper.tex")
    log = (paper / "build/paper.log").read_text(errors="replace")
    # A log breaks its lines after 79 characters.
    told = log.replace("\n", "")
    for figure in ("panels", "confusion"):
        alt = (paper / f"captions/{figure}.alt.txt").read_text().strip()
        assert f"ALT={alt}".replace("%", r"\%") in told
    assert "1237665024900858109" in read_words(pdf)


@has_latex
def test_graphicx_without_the_key_takes_figures(paper):
    """As it was before 2021: there is no text in the file, and no error."""
    build(paper)
    write_paper(paper)
    replace_in(paper / "paper.tex", r"\input{values}", FORGET + r"\input{values}")
    compile_paper(paper, "paper.tex")
    # Without what the macros add, it would be an error.
    replace_in(paper / "values.tex", r"KV@Gin@alt\expandafter", r"KV@Gin@other\expandafter")
    with pytest.raises(ManuscriptError, match="alt undefined"):
        compile_paper(paper, "paper.tex")


@has_latex
def test_a_figure_that_is_not_in_the_manifest_is_named(paper):
    """LaTeX stops in one line that names it."""
    build(paper)
    write_paper(paper)
    replace_in(paper / "paper.tex", "{panels}\n", "{pannels}\n")
    with pytest.raises(ManuscriptError, match=r"no figure .pannels. in manuscript\.toml"):
        compile_paper(paper, "paper.tex")


@has_latex
@pytest.mark.parametrize("setup", ["", r"\usepackage[T1]{fontenc}\usepackage[german]{babel}"])
def test_texts_of_any_characters(tmp_path, setup):
    """What is special to TeX, to the key or to a language is printed as it is written."""
    if setup and not has_tex("ngermanb.ldf"):
        setup = r"\usepackage[T1]{fontenc}"
    words = f"{string.printable} {SYMBOLS} end"
    figure = tmp_path / "figures"
    figure.mkdir()
    shutil.copyfile(make_figure(tmp_path), figure / "odd-1_x.pdf")
    macros = write_alternatives([FigureText("odd-1", "figures/odd-1_x.pdf", words)])
    assert macros.isascii()
    (tmp_path / "values.tex").write_text(macros)
    source = PAPER.replace("CLASS", "article").replace("AFFILIATION", setup and r"\maketitle")
    source = source.replace("BEFORE", "").replace(r"\input{values}", rf"{setup}\input{{values}}")
    source = source.replace(r"\protect\input{captions/panels}", r"\galfigAlt{panels}")
    source = source.replace("panels", "odd-1").replace("confusion", "odd-1")
    (tmp_path / "paper.tex").write_text(source.replace("figures/odd-1", "figures/odd-1_x"))
    pdf, _ = compile_paper(tmp_path, "paper.tex")
    found = read_words(pdf).replace(" ", "")
    # The text twice: in the caption, and below.
    for part in (string.digits + string.ascii_letters + "!", "#$%&", "()*+,-./:;<=>?@[\\]"):
        assert found.count(part) == 2
    for part in ("[]a=b,c;U+00AB", "±×−≤≥⊙αΣ", "U+661FU+0627U+1F30Cend"):
        assert found.count(part) == 2
    if setup:
        assert found.count("".join(string.printable.split())) == 2


def make_figure(folder):
    """Write a page that shows a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([0, 1])
    figure.savefig(folder / "line.pdf")
    return folder / "line.pdf"


def test_a_text_edited_by_hand_is_written_anew(paper):
    """The macros follow the figures, not what a file beside them says."""
    build(paper)
    assert check(paper) == []
    first = (paper / "values.tex").read_text()
    (paper / "captions/panels.alt.txt").write_text("Nothing to see.\n")
    assert check(paper) == [("captions/panels.alt.txt", "file edited by hand")]
    build(paper)
    assert (paper / "values.tex").read_text() == first
    replace_in(paper / "values.tex", "cutout", "picture")
    assert check(paper) == [("values.tex", "file edited by hand")]


def test_no_number_takes_the_name_of_these_macros(make_store, monkeypatch):
    """A store whose numbers would be among them is refused, with both names."""
    from galfig.manuscript import values

    monkeypatch.setattr(values, "describe_store", lambda prefix, store: {f"{prefix}Alt": "1"})
    with open_store(make_store()) as store:
        assert r"\newcommand{\oneAlt}{1}" in write_macros({"one": store})
        with pytest.raises(ManuscriptError, match=r"both make the macro \\galfigAlt"):
            write_macros({"galfig": store})
