"""Writing: citations as text, BibTeX or LaTeX."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from galfig.citing.main import Citations, Program
from galfig.figures.latex import escape_latex
from galfig.runtime.documents import dump_json
from galfig.runtime.files import ErrorOrReplace, replace_file
from galfig.runtime.messages import WIDTH, make_printable, require_choice, wrap_item

Format = Literal["text", "bibtex", "latex", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {".bib": "bibtex", ".tex": "latex", ".json": "json"}
"""Formats by the suffix of a file; any other is text."""


def write_citations(citations: Citations, format: Format = "text") -> str:
    """Write citations.

    Parameters
    ----------
    citations : Citations
        What `galfig.citing.main.cite` returns.
    format : {"text", "bibtex", "latex", "json"}, default "text"
        ``bibtex`` are the entries, each below the reason for it; ``latex`` has the citations, the
        list of programs and the acknowledgements for the paper, by the keys of these entries.

    Returns
    -------
    str
        Lines, the last with its line break.

    Raises
    ------
    ConfigError
        If there is no such format.
    """
    require_choice("format", format, FORMATS)
    if format == "json":
        return f"{dump_json(citations.record(), indent=2, sort_keys=False)}\n"
    write = {"text": _write_text, "bibtex": _write_bibtex, "latex": _write_latex}[format]
    return "\n".join(write(citations)) + "\n"


def save_citations(
    citations: Citations,
    path: Path | str,
    format: Format | None = None,
    *,
    if_exists: ErrorOrReplace = "error",
) -> Path:
    """Write citations into a file.

    Parameters
    ----------
    citations : Citations
        What `galfig.citing.main.cite` returns.
    path : Path or str
        The file.
    format : {"text", "bibtex", "latex", "json"}, optional
        As of `write_citations`; by default, by the suffix of the file: .bib, .tex or .json.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file exists.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigError
        If there is no such format.
    OutputError
        If the file exists and ``if_exists`` is "error", or cannot be written.
    """
    path = Path(path)
    words = write_citations(citations, format or SUFFIXES.get(path.suffix.lower(), "text"))
    with replace_file(path, if_exists=if_exists) as temporary:
        temporary.write_text(words, encoding="utf-8")
    return path


def _write_text(citations: Citations) -> list[str]:
    lines = ["To cite:"]
    for one in citations.references:
        entry = one.entry
        place = ". ".join(filter(None, (entry.title, entry.place, entry.address)))
        lines += ["", f"{entry.label}  [{entry.key}]"]
        lines += _indent(place)
        lines += _indent(_explain(one.reasons))
    programs = ", ".join(_name(program) for program in citations.software)
    lines += ["", *textwrap.wrap(f"Software: {make_printable(programs)}", WIDTH)]
    for text in citations.acknowledgements:
        lines += ["", *textwrap.wrap(f"To print for {text.words.name}, {_explain(text.reasons)}:")]
        for paragraph in text.words.text.splitlines():
            lines += _indent(paragraph)
    if citations.notes:
        lines += ["", "Notes:"]
        lines += [wrap_item(make_printable(note)) for note in citations.notes]
    return lines


def _write_bibtex(citations: Citations) -> list[str]:
    lines = _comment(_introduce(citations))
    for one in citations.references:
        lines += ["", *_comment([_explain(one.reasons)]), one.entry.bibtex.rstrip()]
    return lines + _comment_notes(citations)


def _write_latex(citations: Citations) -> list[str]:
    of_programs = {key for program in citations.software for key in program.keys}
    others = [one for one in citations.references if one.entry.key not in of_programs]
    lines = _comment([*_introduce(citations), "The entries are those of the format bibtex."])
    lines += ["", *_comment(["Cite in the text, each where its reason is mentioned:"])]
    for one in others:
        lines.append(f"\\citep{{{one.entry.key}}}% {_escape_comment(_explain(one.reasons))}")
    lines += ["", "\\software{" + ",\n  ".join(map(_write_program, citations.software)) + "}"]
    if citations.acknowledgements:
        lines += ["", "\\begin{acknowledgments}"]
        for text in citations.acknowledgements:
            lines += _comment([f"{text.words.name}: {_explain(text.reasons)}"])
            lines.append(
                "\n\n".join(
                    textwrap.fill(escape_latex(paragraph), 100, break_on_hyphens=False)
                    for paragraph in text.words.text.splitlines()
                )
            )
        lines.append("\\end{acknowledgments}")
    return lines + _comment_notes(citations)


def _write_program(program: Program) -> str:
    cited = f" \\citep{{{','.join(program.keys)}}}" if program.keys else ""
    return f"{escape_latex(_name(program))}{cited}"


def _name(program: Program) -> str:
    return " ".join((program.name, " and ".join(program.versions))).strip()


def _introduce(citations: Citations) -> list[str]:
    return [f"What a paper with figures of {', '.join(citations.stores)} is to cite, by galfig."]


def _comment_notes(citations: Citations) -> list[str]:
    return ["", *_comment(citations.notes)] if citations.notes else []


def _explain(reasons: Iterable[str]) -> str:
    return f"because {'; '.join(reasons)}"


def _indent(words: str) -> list[str]:
    return textwrap.wrap(
        make_printable(words),
        WIDTH,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _comment(sentences: Iterable[str]) -> list[str]:
    return [
        line
        for words in sentences
        for line in textwrap.wrap(
            _escape_comment(words), 100, initial_indent="% ", subsequent_indent="% "
        )
    ]


def _escape_comment(words: str) -> str:
    # BibTeX takes this sign, wherever it stands, for the beginning of an entry.
    return make_printable(words).replace("@", "(at)")
