r"""Labels: what axes and captions call a column of the catalog, such as '12 + log(O/H)'.

A label is text, in which ``$...$`` is mathematics and ``\$`` is the sign. Mathematics may hold only
what matplotlib and plain LaTeX both know: captions are LaTeX, and a label may be anybody's.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from matplotlib.mathtext import MathTextParser

from galfig.errors import FigureError
from galfig.figures.latex import GREEK, escape_latex
from galfig.figures.style import escape_math
from galfig.runtime.messages import quote, suggest

# Columns of the value-added catalogs of SDSS, whose names are found nowhere else, on axes.
KNOWN: Final = {
    "oh_p50": "12 + log(O/H)",
    "lgm_tot_p50": "log M★ [M☉]",
    "sfr_tot_p50": "log SFR [M☉ yr⁻¹]",
    "specsfr_tot_p50": "log sSFR [yr⁻¹]",
}
# Commands of mathematics, and what stands for them in plain text.
_COMMANDS: Final = {
    **{name: letter for letter, name in map(str.split, GREEK)},
    **{"odot": "☉", "star": "★", "ast": "*", "circ": "°", "times": "×", "cdot": "·", "pm": "±"},
    **{
        "sim": "~",
        "approx": "≈",
        "leq": "≤",
        "geq": "≥",
        "log": "log ",
        "ln": "ln ",
        "exp": "exp ",
    },
    **{
        "langle": "⟨",
        "rangle": "⟩",
        "prime": "′",
        "infty": "∞",
        "ell": "ℓ",
        "frac": "",
        "sqrt": "√",
    },
    **dict.fromkeys(("mathrm", "mathit", "mathbf", "rm", "left", "right", "bar", "dot", "hat"), ""),
    **{" ": " ", ",": " ", ";": " ", ":": " ", "!": ""},
}
_COMMAND = re.compile(r"\\([A-Za-z]+|.)")
_CHARACTERS = re.compile(r"[A-Za-z0-9 +\-*/=()\[\].,:;<>|!'^_{}\\]+")
# Largest depth of braces; the parser of matplotlib calls itself for each.
MAX_DEPTH: Final = 8
# A group without another in it, and a second superscript behind a prime or before one, which stops
# LaTeX: "x^2'".
_GROUP = re.compile(r"\{[^{}]*\}")
_ARGUMENT = r"\s*(?:\\[A-Za-z]+|\\.|[^\s\\])\s*"
_DOUBLE = re.compile(
    rf"\^{_ARGUMENT}(?:_{_ARGUMENT})?'|'(?:\s+|\s*_{_ARGUMENT})'|'\s*_{_ARGUMENT}\^"
)


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise FigureError unless the mathematics of labels can be drawn and typeset.

    Parameters
    ----------
    labels : mapping of str to str
        Labels by column.
    """
    for column, words in labels.items():
        reason = _find_fault(words)
        if reason:
            raise FigureError(f"`labels` {quote(column)} {quote(words)}: {reason}")


def escape_label(words: str) -> str:
    r"""Return text as a label that holds no mathematics: its ``$`` becomes ``\$``."""
    return words.replace("$", r"\$")


def write_label(words: str, *, is_latex: bool) -> str:
    """Return a label for a caption: as LaTeX, or as plain text without commands."""
    parts = []
    for part, is_math in _split(words):
        if is_math:
            parts.append(f"${part}$" if is_latex else _spell(part))
        else:
            parts.append(escape_latex(part) if is_latex else part)
    return "".join(parts)


def fit_label(words: str, width: float, size: float) -> str:
    """Return a label for an axis, in lines that fit a width [inch] at a font size [pt].

    What is no mathematics is escaped. Lines end at blanks, and a longer word is broken.
    """
    # A character is about 0.6 of the font size wide.
    room = max(4, int(72 * width / (0.6 * size)))
    lines: list[str] = []
    left = 0
    for atom, length in _list_atoms(words, room):
        if lines and length + 1 <= left:
            lines[-1] += f" {atom}"
            left -= length + 1
        else:
            lines.append(atom)
            left = room - length
    return "\n".join(lines)


def strip_unit(words: str) -> str:
    """Return a label without the unit in brackets behind it, for what is named and not measured."""
    return re.sub(r"\s*\[[^\[\]]*\]$", "", words) or words


def _list_atoms(words: str, room: int) -> Iterable[tuple[str, int]]:
    """Return the parts of a label between blanks, ready to be drawn, and their lengths."""
    atom, length = "", 0
    for part, is_math in _split(words):
        if is_math:
            atom, length = f"{atom}${part}$", length + len(_spell(part))
            continue
        first, *rest = part.split(" ")
        for number, word in enumerate((first, *rest)):
            if number and atom:
                yield atom, length
            if number:
                atom, length = "", 0
            while len(word) > room:
                yield escape_math(word[:room]), room
                word = word[room:]
            atom, length = atom + escape_math(word), length + len(word)
    if atom:
        yield atom, length


def _split(words: str) -> list[tuple[str, bool]]:
    """Return the parts of a label, and which of them are mathematics; none if a ``$`` is alone."""
    parts = re.split(r"(?<!\\)\$", words)
    if len(parts) % 2 == 0 or _find_fault(words):
        return [(words.replace(r"\$", "$"), False)]
    return [
        (part if number % 2 else part.replace(r"\$", "$"), bool(number % 2))
        for number, part in enumerate(parts)
        if part
    ]


def _find_fault(words: str) -> str:
    """Say why a label cannot be drawn or typeset; "" if it can."""
    parts = re.split(r"(?<!\\)\$", words)
    if len(parts) % 2 == 0:
        return r"a '$' without another, expected '$...$' around mathematics, or '\$' for the sign"
    for math in parts[1::2]:
        if not math.strip():
            return "no mathematics between two '$', expected some"
        if not _CHARACTERS.fullmatch(math):
            wrong = _CHARACTERS.sub("", math)[0]
            return (
                f"{quote(wrong)} in '$...$', expected letters, digits, '+-*/=()[].,:;<>|^_{{}}' "
                r"and commands such as \odot"
            )
        for name in _COMMAND.findall(math):
            if name not in _COMMANDS and name not in "{}|":
                hint = suggest(name, _COMMANDS, f"expected one such as \\{', '.join(_SOME)}")
                return f"{quote(chr(92) + name)} is not known to both matplotlib and LaTeX; {hint}"
        reason = _find_unsafe(math)
        if reason:
            return reason
        try:
            MathTextParser("path").parse(f"${math}$")
        except (ValueError, RecursionError):
            return f"{quote(math)} is no mathematics that matplotlib can draw"
    return ""


def _find_unsafe(math: str) -> str:
    """Say which mathematics would exhaust matplotlib or stop LaTeX; "" for none."""
    # Groups are taken away from the inside, and leave one character each.
    left = re.sub(r"\\[{}]", "|", math)
    for _ in range(MAX_DEPTH + 1):
        if _DOUBLE.search(left):
            return f"{quote(math)} has two superscripts, expected one, such as x'^2 or {{x^2}}'"
        inside = _GROUP.sub("x", left)
        if inside == left:
            return ""
        left = inside
    return f"braces in more than {MAX_DEPTH} levels, expected fewer"


_SOME = (r"mathrm", r"\log", r"\odot", r"\alpha")


def _spell(math: str) -> str:
    """Return mathematics as plain text: 'M_☉' for 'M_\\odot'."""
    words = _COMMAND.sub(lambda found: _COMMANDS.get(found[1], found[1]), math)
    return re.sub(" +", " ", re.sub("[{}]", "", words)).strip()
