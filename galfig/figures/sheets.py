"""Style sheets: galfig's own, and those of the user on top of them."""

import re
from ast import literal_eval
from collections.abc import Collection
from importlib.resources import as_file, files
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.colors import to_hex
from matplotlib.font_manager import get_font_names

from galfig.config import StyleSettings
from galfig.errors import FigureError
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import one_line, quote, suggest

# Sheets by name, each on top of the first.
SHEETS = ("journal", "talk", "poster")
# The font of "journal", which also draws what another font lacks, and its size [pt].
FONT, FONT_SIZE = "DejaVu Sans", 8.0
_KNOWN: Collection[str] = mpl.rcParamsDefault.keys()
# Largest style sheet [byte].
MAX_BYTES = 100_000
# What a sheet may say: how a figure looks. All else is refused: a sheet may be anybody's, and
# others name programs, files or code that matplotlib would use, such as those of LaTeX.
FAMILIES = (
    *("axes", "boxplot", "contour", "errorbar", "figure", "font", "grid", "hatch", "hist"),
    *("image", "legend", "lines", "markers", "mathtext", "patch", "scatter", "xtick", "ytick"),
)
# Of these families, what names code.
REFUSED = ("figure.hooks",)
ALLOWED = ("text.color", "savefig.dpi", "savefig.facecolor", "savefig.edgecolor", "polaraxes.grid")
# Longest side of a page [inch], and highest resolution [dots/inch].
MAX_PAGE, MAX_DPI = 20.0, 1200
# Least and largest numbers by the end of a key, and what they are in; those of no other number.
_LIMITS = {
    "dpi": (10, MAX_DPI, "dots per inch"),
    **dict.fromkeys(("labelsize", "titlesize", "fontsize", "font.size"), (1, 200, "points")),
    "alpha": (0, 1, "as an opacity"),
    **dict.fromkeys(("subplot.left", "subplot.bottom"), (0, 0.49, "of the figure")),
    **dict.fromkeys(("subplot.right", "subplot.top"), (0.5, 1, "of the figure")),
    **dict.fromkeys(("numpoints", "scatterpoints"), (1, 20, "points")),
    "_pattern": (0.1, 1000, "line widths"),
    **dict.fromkeys(("pad", "titley", "formatter.limits"), (-1000, 1000, "")),
    "": (0, 1000, ""),
}
# Families that matplotlib has fonts for.
_GENERIC = ("serif", "sans-serif", "cursive", "fantasy", "monospace")
# A cycle of colours, and the list of them.
_CYCLE = re.compile(r"""cycler\(\s*(?:"color"|'color'|color\s*=)\s*,?\s*(\[[^\[\]()]*\])\s*\)""")


def read_sheets(settings: StyleSettings) -> dict[str, Any]:
    """Return what a style says, by the names of matplotlib.

    Parameters
    ----------
    settings : StyleSettings
        The sheet, and the font on top of it.

    Returns
    -------
    dict
        Values of `matplotlib.rcParams`.

    Raises
    ------
    FigureError
        As of `galfig.figures.style.paper_style`.
    """
    found = _read_own("journal")
    if settings.sheet in SHEETS[1:]:
        found |= _read_own(settings.sheet)
    elif settings.sheet not in SHEETS:
        found |= _read_file(settings.sheet)
    if settings.font is not None:
        found["font.family"] = list(dict.fromkeys((_find_font(settings.font), FONT)))
    if settings.font_size is not None:
        found |= _scale(found, settings.font_size)
    return found


def _read_own(name: str) -> dict[str, Any]:
    file = "paper" if name == "journal" else name
    with as_file(files("galfig.figures") / f"{file}.mplstyle") as sheet:
        return _list_values(mpl.rc_params_from_file(sheet, use_default_template=False))


def _list_values(parameters: Any) -> dict[str, Any]:
    """Return parameters as a plain dict; matplotlib's own type knows each key by itself."""
    return dict(parameters)


def _read_file(name: str) -> dict[str, Any]:
    """Read a style sheet of the user, which may say only how a figure looks."""
    if not name.endswith(".mplstyle"):
        hint = suggest(name, list(SHEETS), f"expected {', '.join(SHEETS)} or FILE.mplstyle")
        raise FigureError(f"`style` {quote(name)}: unknown; {hint}")
    try:
        words = read_regular(name, MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise FigureError(f"{name}: no text in UTF-8, expected a style sheet") from exc
    except OSError as exc:
        reason = one_line(exc.strerror or exc)
        raise FigureError(f"{name}: cannot be read ({reason}), expected a style sheet") from exc
    found: dict[str, Any] = {}
    for number, line in enumerate(words.splitlines(), 1):
        key, colon, value = (part.strip() for part in _strip_comment(line).partition(":"))
        where = f"{name}, line {number}"
        if not key:
            continue
        if not colon or key not in _KNOWN:
            hint = suggest(key, list(_KNOWN), "see matplotlib.rcParams")
            raise FigureError(f"{where}: {quote(key)}: expected 'key: value' of matplotlib; {hint}")
        if key in REFUSED or not (key.split(".")[0] in FAMILIES or key in ALLOWED):
            raise FigureError(
                f"{where}: {quote(key)} is not about how a figure looks, expected keys of "
                f"{', '.join((*FAMILIES, *ALLOWED))}"
            )
        try:
            if key == "axes.prop_cycle":
                found[key] = _parse_cycle(value)
            else:
                found |= _list_values(mpl.RcParams({key: value.strip("\"'")}))
            _check_size(key, found[key])
        except (ValueError, KeyError, TypeError, SyntaxError) as exc:
            raise FigureError(f"{where}: {quote(key)}: {one_line(exc)}") from exc
    if "font.family" in found:
        families = [one if one in _GENERIC else _find_font(one) for one in found["font.family"]]
        found["font.family"] = list(dict.fromkeys((*families, FONT)))
    return found


def _check_size(key: str, value: Any) -> None:
    """Raise ValueError for a page, a resolution or a number that cannot be drawn.

    Some would take all memory, and others stop matplotlib only when it draws.
    """
    if key == "figure.figsize" and not all(1 <= side <= MAX_PAGE for side in value):
        raise ValueError(f"{value}, expected two sides from 1 to {MAX_PAGE:g} inches")
    low, high, unit = next(_LIMITS[end] for end in _LIMITS if key.endswith(end))
    numbers = [one for one in _list_parts(value) if _is_number(one)]
    # Of NaN, no comparison holds.
    if not all(low <= one <= high for one in numbers):
        raise ValueError(f"{value}, expected {low:g} to {high:g} {unit}".rstrip())


def _list_parts(value: Any) -> list[Any]:
    """Return what a value consists of, such as the numbers of dashes; itself if it is one."""
    if isinstance(value, list | tuple):
        return [part for one in value for part in _list_parts(one)]
    return [value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parse_cycle(words: str) -> Any:
    """Return a cycle of colours; matplotlib would evaluate the words as code."""
    found = _CYCLE.fullmatch(words)
    colors = [] if found is None else [_find_color(one) for one in literal_eval(found[1])]
    if not colors:
        raise ValueError(f"{words!r}, expected cycler('color', ['...', '...'])")
    return cycler(color=colors)


def _find_color(word: str) -> str:
    """Return a colour as matplotlib writes it; sheets leave out the '#', which begins a comment."""
    return to_hex(f"#{word}" if re.fullmatch("([0-9a-fA-F]{3}){1,2}", word) else word)


def _strip_comment(line: str) -> str:
    """Remove what is behind the first '#' outside of double quotes, as matplotlib does."""
    quoted = False
    for position, char in enumerate(line):
        quoted ^= char == '"'
        if char == "#" and not quoted:
            return line[:position]
    return line


def _find_font(name: str) -> str:
    known = get_font_names()
    if name not in known:
        hint = suggest(name, known, f"such as {', '.join(sorted(known)[:5])}")
        raise FigureError(f"`font` {quote(name)}: not installed; {hint}")
    return name


def _scale(found: dict[str, Any], size: float) -> dict[str, Any]:
    """Return the sizes of text of a sheet, for another size of its font."""
    keys = [
        *("axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize"),
        *("legend.fontsize", "font.size"),
    ]
    return {
        key: found[key] * size / found["font.size"]
        for key in keys
        if isinstance(found.get(key), int | float)
    }
