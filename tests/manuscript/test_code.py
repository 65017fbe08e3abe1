"""The code behind a figure: found by its imports, so that no module is forgotten."""

import shutil
from pathlib import Path

import pytest

import galfig
from galfig.figures.registry import FIGURES
from galfig.manuscript import code


def test_modules_that_change_drawings_are_found():
    """Those of the store and the cosmology too, and what is imported inside a function."""
    modules = code.list_modules("galfig.figures.panels")
    for name in ("figures.rows", "figures.latex", "store.reader", "store.selection", "cosmology"):
        assert f"galfig.{name}" in modules
    # Imported where a condition is given, and where a store is printed.
    assert "galfig.store.conditions" in modules
    assert "galfig.store.summary" in modules
    assert modules == sorted(set(modules))


def test_figures_follow_from_what_they_import_alone():
    """The atlas is not redrawn for a change of the ROC curve, nor anything for the network's."""
    atlas = code.list_modules("galfig.figures.atlas")
    assert "galfig.figures.roc" not in atlas
    assert not [name for name in atlas if name.startswith(("galfig.networks", "galfig.cli"))]


def test_imports_for_type_checkers_do_not_count(tmp_path, monkeypatch):
    """They never run."""
    path = tmp_path / "a.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import galfig.networks.shift\n"
        "else:\n    import galfig.cosmology\n"
        "def f():\n    from galfig import errors\n"
    )
    find = code._find_source
    monkeypatch.setattr(code, "_find_source", lambda m: path if m == "galfig.a" else find(m))
    assert code.list_modules("galfig.a") == [
        "galfig",
        "galfig.a",
        "galfig.cosmology",
        "galfig.errors",
    ]


@pytest.mark.parametrize(
    ("changed", "is_another"),
    [("figures/rows.py", True), ("cosmology.py", True), ("figures/roc.py", False)],
)
def test_digest_follows_the_modules(tmp_path, monkeypatch, changed, is_another):
    """A change in a module that panels import gives another digest; in another it does not."""
    root = Path(galfig.__file__).parent
    shutil.copytree(root, tmp_path / "galfig", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "_ROOT", tmp_path / "galfig")
    monkeypatch.setattr(code, "_STYLE_SHEET", tmp_path / "galfig" / "figures" / "paper.mplstyle")
    before = code.digest_code.__wrapped__("panels")
    with (tmp_path / "galfig" / changed).open("a") as file:
        file.write("# changed\n")
    assert (code.digest_code.__wrapped__("panels") != before) == is_another


@pytest.mark.slow
def test_every_figure_has_a_digest():
    """And a former name that of the figure."""
    assert len({code.digest_code(name) for name in FIGURES}) == len(FIGURES)
    assert code.digest_code("metallicity-histogram") == code.digest_code("histogram")
