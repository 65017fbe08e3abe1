"""The documentation follows the code."""

import importlib.util
import json
import re
from pathlib import Path

import click
import h5py
import pytest
from test_architecture import TIERS

import galfig
from galfig.cli import COMMANDS, main
from galfig.config import Settings
from galfig.figures.registry import FIGURES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "benchmarks" / "README.md",
    ROOT / "data" / "README.md",
]


def load_hook(name):
    """Import a module of the documentation site, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("table", Settings.model_fields)
def test_every_setting_is_documented(table):
    """docs/settings.md has a row for each key, and no row for a key that is gone."""
    words = (ROOT / "docs" / "settings.md").read_text()
    section = re.split(r"^## ", words, flags=re.MULTILINE)
    (rows,) = [part for part in section if part.startswith(f"`[{table}]`")]
    documented = re.findall(r"^\| `(\w+)` \|", rows, flags=re.MULTILINE)
    fields = type(getattr(Settings(), table)).model_fields
    assert sorted(documented) == sorted(fields)
    assert all(field.description for field in fields.values())


def test_every_dataset_is_documented(store_path):
    """docs/store.md names each dataset and each root attribute of a store."""
    words = (ROOT / "docs" / "store.md").read_text()
    with h5py.File(store_path) as file:
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        names += list(file.attrs)
        assert json.loads(file["catalog"].attrs["columns"])
    for name in names:
        assert f"`{name}`" in words, name


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_commands_that_are_shown_exist(page):
    """Every galfig command that a listing shows is one, with options that it has."""
    listings = "".join(re.findall(r"^```sh$(.*?)^```$", (ROOT / page).read_text(), re.M | re.S))
    shown = re.findall(r"^galfig ([a-z-]+)([^#\n]*)", listings, flags=re.MULTILINE)
    assert {"build-maps", "render"} <= {command for command, _ in shown}
    for command, arguments in shown:
        assert command in COMMANDS
        loaded = main.get_command(None, command)
        known = {option for parameter in loaded.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", arguments)) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Relative links name files that are there."""
    for target in re.findall(r"\]\(([^)#:]+)[)#]", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", ["docs/robustness.md", "SECURITY.md", "CONTRIBUTING.md"])
def test_tests_that_are_named_exist(page):
    """A promise names the test that tries it, and the test is there."""
    named = set(re.findall(r"\b(test_\w+\.py)", (ROOT / page).read_text()))
    assert len(named) >= 4
    assert named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_figure_is_in_the_gallery():
    """docs/figures.md shows each kind of figure with its name."""
    (gallery,) = re.findall(
        r"^## Gallery$.*", (ROOT / "docs" / "figures.md").read_text(), re.M | re.S
    )
    for name in FIGURES:
        assert re.search(rf"!\[[^]]+\]\(images/{name}\.png\) `{name}`", gallery), name


def test_architecture_is_that_of_the_code():
    """docs/architecture.md has the arrows that the tests hold, every package and every module."""
    words = (ROOT / "docs" / "architecture.md").read_text()
    (listing,) = re.findall(r"```text\n(.*?)```", words, flags=re.DOTALL)
    assert tuple(tuple(line.split()) for line in listing.splitlines()) == TIERS
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", words, flags=re.MULTILINE))
    packages = {path.parent.name: path.parent for path in ROOT.glob("galfig/*/__init__.py")}
    assert set(rows) == set(packages)
    for name in set(packages) - {"cli", "figures"}:
        modules = {path.stem for path in packages[name].glob("*.py")} - {"__init__"}
        assert set(re.findall(r"`(\w+)`", rows[name])) == modules, name


def test_citation_is_of_this_version():
    """CITATION.cff names the version of the package."""
    assert f"\nversion: {galfig.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_command_reference_has_every_option():
    """The page made from click names each command, below groups too, and all of its options."""
    words = load_hook("pages").describe_commands()
    sections = re.split(r"^#{2,3} (galfig .*)$", words, flags=re.MULTILINE)
    documented = dict(zip(sections[1::2], sections[2::2], strict=True))
    found = set()

    def visit(command, path):
        if path != "galfig":
            found.add(path)
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    assert all(name in documented[path] for name in parameter.opts), path
        for name, below in getattr(command, "commands", {}).items():
            visit(below, f"{path} {name}")

    for name in COMMANDS:
        visit(main.get_command(None, name), f"galfig {name}")
    assert set(documented) == found
    assert "galfig manuscript check" in found
    # Examples are code, and no cell of a table ends early.
    assert "\ngalfig render --n 5 --zmin 0.05 --zmax 0.08\n" in documented["galfig render"]
    assert "text\\|INCHES" in documented["galfig figure"]


@pytest.mark.parametrize(
    ("target", "source", "led_to"),
    [
        ("settings.md", "docs/method.md", "settings.md"),
        ("../data/README.md", "docs/index.md", "data.md"),
        ("../benchmarks/results.json", "docs/performance.md", "benchmarks/results.json"),
        ("docs/settings.md", "SECURITY.md", "settings.md"),
        ("../docs/method.md", "data/README.md", "method.md"),
        # mkdocs names it, as it does any page that is not there.
        ("../galfig/config.py", "docs/method.md", "../galfig/config.py"),
    ],
)
def test_links_lead_to_the_same_on_the_site(target, source, led_to):
    """Where a page lies elsewhere on the site than in the repository, its links follow."""
    pages = load_hook("pages")
    where = pages.ELSEWHERE.get(source, source.removeprefix("docs/"))
    assert pages.resolve_link(target, ROOT / source, where) == led_to


def test_docstrings_become_markdown():
    """Formulas, references and names that numpydoc marks; what is code stays so."""
    pytest.importorskip("griffe", reason="no griffe (extra docs)")
    translate = load_hook("docstrings").translate
    places = {"Store": "galfig.store.reader.Store", "SHARDS": None}
    words = "By `Store` [1]_, ``Store`` and `SHARDS`: :math:`A^k`.\n\n.. math:: x\n\n.. [1] Wu"
    assert translate(words, places.get) == (
        "By [`Store`][galfig.store.reader.Store] [1], ``Store`` and `SHARDS`: $A^k$.\n\n$$x$$\n\n"
        "\n[1] Wu"
    )
    choices = (
        'split : {"valid", "train", "all"}, default "valid"\nwidth : "text" or float, optional'
    )
    assert translate(choices, places.get) == (
        'split : either "valid", "train" or "all", default "valid"\n'
        'width : either "text" or float, optional'
    )
    session = ">>> import galfig\n>>> f()    # doctest: +SKIP\n"
    assert translate(session, places.get) == "```pycon\n>>> import galfig\n>>> f()\n```\n"
