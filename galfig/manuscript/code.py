"""The code behind a figure: a digest of its modules tells when the figure is out of date."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import galfig
from galfig.figures.registry import find_figure

_ROOT = Path(galfig.__file__).parent
_STYLE_SHEET = _ROOT / "figures" / "paper.mplstyle"


@cache
def digest_code(figure: str) -> str:
    """Return a digest of all code that determines what a figure looks like.

    The digest covers the modules of galfig that the figure imports, the style sheet, and the
    version of matplotlib.

    Parameters
    ----------
    figure : str
        A name that `galfig.figures.registry.find_figure` knows.

    Returns
    -------
    str
        SHA-256. A figure is out of date when this digest changes.
    """
    roots = (f"galfig.figures.{find_figure(figure).module}", "galfig.figures.save", __name__)
    digest = hashlib.sha256(version("matplotlib").encode())
    for source in (*map(_find_source, list_modules(*roots)), _STYLE_SHEET):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def list_modules(*roots: str) -> list[str]:
    """List modules of galfig and everything in galfig that they import, directly or indirectly.

    The imports are read from the source. Imports inside functions therefore count, and no module
    has to be imported.

    Parameters
    ----------
    *roots : str
        Names of modules in galfig.

    Returns
    -------
    list of str
        Names of modules, including the roots, sorted.
    """
    found: set[str] = set()
    pending = list(roots)
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending += _iter_imports(module)
    return sorted(found)


def _iter_imports(module: str) -> Iterator[str]:
    """Yield the modules of galfig that a module imports, except for type checking."""
    for node in _walk_executed(ast.parse(_find_source(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [node.module, *(name for name in inside if _is_module(name))]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] == "galfig")


def _walk_executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree, except those below ``if TYPE_CHECKING``."""
    yield node
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        children = node.orelse
    for child in children:
        yield from _walk_executed(child)


def _is_module(name: str) -> bool:
    return name.partition(".")[0] == "galfig" and _find_source(name).is_file()


def _find_source(module: str) -> Path:
    """Return the source file of a module or package of galfig."""
    path = _ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
