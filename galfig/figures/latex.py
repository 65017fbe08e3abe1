"""Escaping text that comes from data: special characters of LaTeX, and those that fonts lack."""

import unicodedata
from typing import Final

_CHARACTERS: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # Some languages of babel use it as an accent.
    '"': r"\char34{}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
}
_LETTERS: Final = {
    "ß": "ss",
    "æ": "ae",
    "Æ": "AE",
    "œ": "oe",
    "Œ": "OE",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "ı": "i",
    "å": "aa",
    "Å": "AA",
}
_ACCENTS: Final = {
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~",
    "\N{COMBINING MACRON}": "=",
    "\N{COMBINING DOT ABOVE}": ".",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING BREVE}": "u",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": "H",
    "\N{COMBINING CARON}": "v",
    "\N{COMBINING DOT BELOW}": "d",
    "\N{COMBINING MACRON BELOW}": "b",
    "\N{COMBINING CEDILLA}": "c",
}
GREEK: Final = (
    *("α alpha", "β beta", "γ gamma", "δ delta", "ε epsilon", "ζ zeta", "η eta", "θ theta"),
    *("ι iota", "κ kappa", "λ lambda", "μ mu", "ν nu", "ξ xi", "π pi", "ρ rho", "σ sigma"),
    *("τ tau", "υ upsilon", "φ phi", "χ chi", "ψ psi", "ω omega", "Γ Gamma", "Δ Delta"),
    *("Θ Theta", "Λ Lambda", "Ξ Xi", "Π Pi", "Σ Sigma", "Φ Phi", "Ψ Psi", "Ω Omega"),
)
# Symbols of astronomical names and units that plain LaTeX provides.
_MATHEMATICS: Final = {
    "°": r"^{\circ}",
    "±": r"\pm",
    "×": r"\times",
    "·": r"\cdot",
    "−": "-",
    "′": "'",
    "″": "''",
    "≤": r"\leq",
    "≥": r"\geq",
    "≈": r"\approx",
    "∼": r"\sim",
    "≠": r"\neq",
    "∞": r"\infty",
    "→": r"\rightarrow",
    "←": r"\leftarrow",
    "☉": r"\odot",
    "⊙": r"\odot",
    "★": r"\star",
    "µ": r"\mu",
    **{letter: rf"\{name}" for letter, name in map(str.split, GREEK)},
    **{char: f"^{{{n}}}" for n, char in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{char: f"_{{{n}}}" for n, char in enumerate("₀₁₂₃₄₅₆₇₈₉")},
}


def escape_latex(words: str) -> str:
    r"""Return text as LaTeX that prints it with any engine, font encoding and language.

    Special characters are escaped. Accented letters become accent commands. Greek letters and
    symbols of units are typeset in math mode, because pdflatex stops at characters that its fonts
    lack. A character that plain LaTeX cannot express is written as its code point, as in figures:
    ``U+661F``.

    Parameters
    ----------
    words : str
        Any text.

    Returns
    -------
    str
        ASCII.
    """
    return "".join(map(_escape_character, unicodedata.normalize("NFC", words)))


def spell_character(char: str) -> str:
    """Return the code point of a character that no font can draw, such as 'U+661F'."""
    return f"U+{ord(char):04X}"


def _escape_character(char: str) -> str:
    if char in _CHARACTERS:
        return _CHARACTERS[char]
    if " " <= char <= "~":
        return char
    if char in _LETTERS:
        return rf"\{_LETTERS[char]}{{}}"
    if char in _MATHEMATICS:
        return f"${_MATHEMATICS[char]}$"
    parts = unicodedata.normalize("NFD", char)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS:
        return rf"\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return spell_character(char)
