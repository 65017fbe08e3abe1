"""Signs of words that come from data: LaTeX must print and not obey them, and fonts lack some."""

import unicodedata
from typing import Final

_SIGNS: Final = {
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
    # Some languages of babel make an accent of it.
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
_GREEK: Final = (
    *("α alpha", "β beta", "γ gamma", "δ delta", "ε epsilon", "ζ zeta", "η eta", "θ theta"),
    *("ι iota", "κ kappa", "λ lambda", "μ mu", "ν nu", "ξ xi", "π pi", "ρ rho", "σ sigma"),
    *("τ tau", "υ upsilon", "φ phi", "χ chi", "ψ psi", "ω omega", "Γ Gamma", "Δ Delta"),
    *("Θ Theta", "Λ Lambda", "Ξ Xi", "Π Pi", "Σ Sigma", "Φ Phi", "Ψ Psi", "Ω Omega"),
)
# Those that plain LaTeX has, of names and units in astronomy.
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
    **{letter: rf"\{name}" for letter, name in map(str.split, _GREEK)},
    **{sign: f"^{{{n}}}" for n, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{sign: f"_{{{n}}}" for n, sign in enumerate("₀₁₂₃₄₅₆₇₈₉")},
}


def escape_latex(words: str) -> str:
    r"""Return words as LaTeX that prints them, whatever its engine, font encoding and language.

    Signs that LaTeX acts upon are escaped. Letters with accents are composed, Greek letters and
    signs of units are mathematics; pdflatex would stop at those that its fonts lack. What has no
    name in plain LaTeX is written as its code point, as in figures: ``U+661F``.
    """
    return "".join(map(_escape_sign, unicodedata.normalize("NFC", words)))


def spell_sign(sign: str) -> str:
    """Return a sign's code point, such as 'U+661F', where no font has its shape."""
    return f"U+{ord(sign):04X}"


def _escape_sign(sign: str) -> str:
    if sign in _SIGNS:
        return _SIGNS[sign]
    if " " <= sign <= "~":
        return sign
    if sign in _LETTERS:
        return rf"\{_LETTERS[sign]}{{}}"
    if sign in _MATHEMATICS:
        return f"${_MATHEMATICS[sign]}$"
    parts = unicodedata.normalize("NFD", sign)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS:
        return rf"\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return spell_sign(sign)
