"""The code behind a figure: the modules that it imports, by which it is found out of date."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import galfig
from galfig.figures.registry import find_figure

_ROOT = Path(galfig.__file__).parent
_STYLE_SHEET = _ROOT / "figures" / "paper.mplstyle"


@cache
def digest_code(figure: str) -> str:
    """Return a digest of all that decides what a figure looks like: galfig's modules, matplotlib.

    Parameters
    ----------
    figure : str
        A name that `galfig.figures.registry.find_figure` knows.

    Returns
    -------
    str
        SHA-256. A figure is out of date when it is another.
    """
    roots = (f"galfig.figures.{find_figure(figure).module}", "galfig.figures.save", __name__)
    digest = hashlib.sha256(version("matplotlib").encode())
    for source in (*map(_find_source, list_modules(*roots)), _STYLE_SHEET):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def list_modules(*roots: str) -> list[str]:
    """Return galfig's modules that these import, directly or not, and these; sorted by name.

    Found in the source, so that imports inside functions count and nothing has to be imported.
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
    """Give galfig's modules that a module imports; those for type checkers alone are left out."""
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
    """Give the nodes of a tree without those below ``if TYPE_CHECKING``."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    for child in ast.iter_child_nodes(node):
        yield from _walk_executed(child)


def _is_module(name: str) -> bool:
    return name.partition(".")[0] == "galfig" and _find_source(name).is_file()


def _find_source(module: str) -> Path:
    """Return the file of a module of galfig, or of a package."""
    path = _ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
