r"""Alternative texts in a paper: the macro by which it includes a figure, with the text for it.

``\galfigFigure[width=...]{panels}`` is ``\includegraphics`` with the file of the figure "panels"
and its alternative text as the key ``alt``. ``\galfigAlt{panels}`` is the text alone, for papers
that name their files themselves.
"""

from collections.abc import Iterable
from typing import NamedTuple

from galfig.figures.latex import escape_latex

# The macros, which no store or audit may make, too.
NAMES = ("galfigAlt", "galfigFigure")
# A macro that is not defined would stop LaTeX elsewhere, with a message that names no figure.
# Before 2021, graphicx had no key for alternative texts; then there is none in the file.
_MACROS = r"""% \galfigFigure[options]{NAME}: a figure of manuscript.toml with its alternative text.
% \galfigAlt{NAME}: that text alone, for \includegraphics[alt={\galfigAlt{NAME}}]{...}.
\newcommand{\galfigAlt}[1]{\csname galfig.alt.#1\endcsname}
\newcommand{\galfigFigure}[2][]{\ifcsname galfig.file.#2\endcsname
  \includegraphics[alt={\galfigAlt{#2}},#1]{\csname galfig.file.#2\endcsname}\else
  \PackageError{galfig}{no figure '#2' in manuscript.toml}{}\fi}
\AtBeginDocument{\ifcsname KV@Gin@alt\endcsname\else
  \expandafter\let\csname KV@Gin@alt\expandafter\endcsname\csname @gobble\endcsname\fi}"""


class FigureText(NamedTuple):
    """A figure as LaTeX includes it.

    Attributes
    ----------
    name : str
        Its name in the paper: letters, digits and hyphens.
    path : str
        Its file, relative to the manuscript's folder.
    alt : str
        Alternative text, of any characters.
    """

    name: str
    path: str
    alt: str


def write_alternatives(figures: Iterable[FigureText]) -> str:
    """Compose the macros that include figures with their alternative texts.

    Parameters
    ----------
    figures : iterable of FigureText
        The figures of a paper.

    Returns
    -------
    str
        LaTeX for the preamble, of ASCII characters.
    """
    lines = [_MACROS]
    for figure in figures:
        alt = escape_latex(" ".join(figure.alt.split()))
        for kind, words in (("file", figure.path), ("alt", alt)):
            macro = f"\\csname galfig.{kind}.{figure.name}\\endcsname"
            lines.append(f"\\expandafter\\def{macro}{{{words}}}")
    return "\n".join([*lines, ""])
