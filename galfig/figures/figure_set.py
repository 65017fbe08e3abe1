r"""A figure of many pages as a figure set of the AAS journals: a file for each page, and macros.

The journals show one page in the article, and all of them online. AASTeX has macros for it, in this
order: ``\figsetstart``, ``\figsetnum`` and ``\figsettitle``; for each page ``\figsetgrpstart``,
``\figsetgrpnum``, ``\figsetgrptitle``, ``\figsetplot``, ``\figsetgrpnote`` and ``\figsetgrpend``;
and ``\figsetend``.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from galfig.errors import FigureError, OutputError
from galfig.figures.captions import LATEX, PLAIN, Markup
from galfig.figures.drawing import Drawing
from galfig.figures.latex import escape_latex
from galfig.figures.save import (
    FORMATS,
    check_format,
    describe_beside,
    find_new_texts,
    save_figure,
    write_data,
    write_texts,
)
from galfig.runtime.files import ErrorOrReplace, check_output
from galfig.runtime.messages import quote
from galfig.runtime.progress import track
from galfig.tables.formats import check_table


def write_figure_set(
    drawing: Drawing,
    provenance: Mapping[str, Any],
    path: Path,
    number: str,
    *,
    data: Path | None = None,
    if_exists: ErrorOrReplace = "error",
) -> list[Path]:
    """Write each page of a figure to a file of its own, and the macros of a figure set.

    Parameters
    ----------
    drawing : Drawing
        The figure, whose pages have captions of their own: an atlas.
    provenance : mapping
        What the figure was made from; the metadata of each page also give its number.
    path : Path
        Name of the set, with the suffix of its pages: ``atlas.pdf`` makes ``atlas-01.pdf``, ... and
        ``atlas.set.tex``. It consists of letters, digits, ``.``, ``_`` and ``-``.
    number : str
        Number of the figure in the paper, such as "4" or "A1".
    data : Path, optional
        Table to write with the numbers that the figure shows: .ecsv.
    if_exists : {"error", "replace"}, default "error"
        What to do if a file already exists.

    Returns
    -------
    list of Path
        The pages, the macros, the captions and alternative text of the figure, and the table.

    Raises
    ------
    FigureError
        If the figure has no pages of their own, or the number is none.
    OutputError
        If a file has another suffix or name, already exists, or cannot be written.
    """
    if drawing.describe_page is None:
        raise FigureError(f"figure {drawing.name!r}: takes no `figure_set`, it is for atlas")
    check_number(number)
    check_format(path)
    check_table(data)
    if not re.fullmatch(r"[A-Za-z0-9._-]+", path.name):
        raise OutputError(
            f"{path}: cannot name the files of a figure set, expected letters, digits, '.', '_' "
            "and '-'"
        )
    n_digits = len(str(drawing.n_pages))
    pages = [
        path.with_name(f"{path.stem}-{page:0{n_digits}}{path.suffix}")
        for page in range(1, drawing.n_pages + 1)
    ]
    tables = [] if data is None else [data]
    for file in (*pages, *tables):
        check_output(file, if_exists=if_exists)
    texts = {
        path.with_suffix(".set.tex"): _write_macros(
            drawing.title, drawing.describe_page, [page.name for page in pages], number
        ),
        **describe_beside(drawing, path),
    }
    drawn = [pages[0].with_suffix(suffix) for suffix in FORMATS]
    new = find_new_texts(texts, path, drawn, if_exists=if_exists)
    for index, figure in enumerate(track(drawing.pages, "drawing", drawing.n_pages, "pages")):
        title, caption = drawing.describe_page(index + 1, PLAIN)
        save_figure(
            [figure],
            pages[index],
            title=f"{drawing.title}. {title}",
            description=caption,
            provenance={**provenance, "page": index + 1, "pages": drawing.n_pages},
            style=drawing.style,
            if_exists=if_exists,
        )
    write_texts(new)
    for file in tables:
        write_data(file, drawing, provenance, if_exists=if_exists)
    return [*pages, *texts, *tables]


def check_number(number: str) -> None:
    """Raise FigureError if a number of a figure is none, such as "4" or, in an appendix, "A1"."""
    if not re.fullmatch(r"[A-Z]?[1-9][0-9]{0,3}", number):
        raise FigureError(
            f"`figure_set` {quote(number)}, expected the number of the figure in the paper, such "
            "as 4 or A1"
        )


def _write_macros(
    title: str, describe: Callable[[int, Markup], tuple[str, str]], files: list[str], number: str
) -> str:
    lines = [
        "% Written by galfig: a figure set of the AAS journals. The article shows one of its",
        "% pages in a figure, whose caption says that all are in the figure set.",
        r"\figsetstart",
        rf"\figsetnum{{{number}}}",
        rf"\figsettitle{{{escape_latex(title)}}}",
    ]
    for page, file in enumerate(files, 1):
        name, caption = describe(page, LATEX)
        lines += [
            "",
            r"\figsetgrpstart",
            rf"\figsetgrpnum{{{number}.{page}}}",
            rf"\figsetgrptitle{{{name}}}",
            rf"\figsetplot{{{file}}}",
            rf"\figsetgrpnote{{{caption}}}",
            r"\figsetgrpend",
        ]
    return "\n".join([*lines, "", r"\figsetend", ""])
