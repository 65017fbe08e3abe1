"""Pages of the site that are not in docs/: commands, Python, notebooks, files from elsewhere.

mkdocs calls the functions ``on_*``. Commands are described by click itself; the pages on Python
only name modules and objects, whose docstrings mkdocstrings reads.
"""

import html
import os
import re
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING

import click

import galfig
from galfig.cli import main

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
# Where files that lie outside docs/ are on the site.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/known_truth.json": "benchmarks/known_truth.json",
    "benchmarks/known_truth.png": "benchmarks/known_truth.png",
    "benchmarks/results.json": "benchmarks/results.json",
    "benchmarks/results.png": "benchmarks/results.png",
    "data/README.md": "data.md",
    "data/wu-boada-2019.sql": "data/wu-boada-2019.sql",
}
LINK = re.compile(r"(?<=\]\()[^)\s:#]+(?=[)#])")
MATH = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
DRAWING = re.compile(r'<img [^>]*src="[^"]*?(images/[\w-]+\.svg)"[^>]*>')


def on_config(config: "MkDocsConfig") -> None:
    """Put the pages on Python where the navigation says ``api``."""
    pages = [{title: page} for title, page, _ in list_api_pages()]
    config.nav = [
        {title: pages if where == "api" else where}
        for entry in config.nav
        for title, where in entry.items()
    ]


def on_files(files: "Files", config: "MkDocsConfig") -> None:
    """Add the pages and files that are not in docs/."""
    from mkdocs.structure.files import File

    for source, page in ELSEWHERE.items():
        if page != "index.md":
            files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "commands.md", content=describe_commands()))
    for _, page, words in list_api_pages():
        files.append(File.generated(config, page, content=words))
    for name, content in convert_notebooks().items():
        files.append(File.generated(config, f"notebooks/{name}", content=content))


def on_page_markdown(
    markdown: str, page: "Page", config: "MkDocsConfig", files: "Files"
) -> str | None:
    """Let the links of a file lead on the site to where they lead in the repository."""
    source = page.file.abs_src_path
    if source is None:
        return None
    return LINK.sub(lambda found: resolve_link(found[0], Path(source), page.file.src_uri), markdown)


def on_page_content(content: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Set formulas as MathML, and drawings inline, where they take the colours of the page."""
    content = MATH.sub(lambda found: set_formula(found[2], is_block=found[1] == "div"), content)
    return DRAWING.sub(lambda found: (ROOT / "docs" / found[1]).read_text("utf-8"), content)


def convert_notebooks() -> dict[str, str | bytes]:
    """Return each notebook as a page, and the pictures that it shows, by file name."""
    from nbconvert import MarkdownExporter

    found: dict[str, str | bytes] = {}
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        page, resources = MarkdownExporter().from_filename(str(path))
        found |= {f"{path.stem}.md": page, **resources["outputs"]}
    return found


def resolve_link(target: str, source: Path, page: str) -> str:
    """Return where a relative link of a file leads, seen from its page on the site."""
    place = os.path.relpath(source.parent / target, ROOT).replace(".ipynb", ".md")
    if place not in ELSEWHERE and not place.startswith("docs/"):
        # mkdocs says which page has a link that leads nowhere.
        return target
    where = ELSEWHERE.get(place, place.removeprefix("docs/"))
    return os.path.relpath(where, Path(page).parent)


def set_formula(tex: str, *, is_block: bool) -> str:
    """Return a formula in TeX, escaped as HTML is, as MathML."""
    from latex2mathml.converter import convert

    return convert(html.unescape(tex), display="block" if is_block else "inline")


def describe_commands() -> str:
    """Return the page with every command, its usage, and all of its options."""
    head = (
        "# Commands\n\n"
        "What `galfig COMMAND --help` prints, for every command. No command replaces a file that "
        "is there, unless an option says so.\n"
    )
    return "\n".join([head, *describe_command(main, "galfig", None)])


def describe_command(
    command: click.Command, name: str, parent: click.Context | None, level: int = 1
) -> Iterator[str]:
    """Give the parts of the page for a command, and for those below it."""
    context = click.Context(command, parent, name, **command.context_settings)
    if level > 1:
        yield f"{'#' * level} {context.command_path}\n"
        yield describe_usage(context)
        yield describe_options(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from describe_command(found, below, context, level + 1)


def describe_usage(context: click.Context) -> str:
    """Return the usage of a command and its help, the examples as code."""
    usage = context.command.get_usage(context).removeprefix("Usage: ")
    words, _, examples = cleandoc(context.command.help or "").partition("\b\nExamples:\n")
    listing = "\n".join(line.strip() for line in examples.splitlines())
    shown = f"\n```sh\n{listing.strip()}\n```\n" if listing else ""
    return f"```text\n{usage}\n```\n\n{html.escape(words, quote=False)}\n{shown}"


def describe_options(context: click.Context) -> str:
    """Return a table of the options of a command, in the words of its ``--help``."""
    records = [option.get_help_record(context) for option in context.command.get_params(context)]
    rows = [
        f"| <code>{escape_cell(names)}</code> | {escape_cell(meaning)} |"
        for names, meaning in filter(None, records)
        if meaning
    ]
    return "\n".join(["| option | meaning |", "| --- | --- |", *rows, ""])


def escape_cell(words: str) -> str:
    """Return words for a cell of a table."""
    return re.sub(r"([|*_`\[\]\\])", r"\\\1", html.escape(words, quote=False))


def list_api_pages() -> list[tuple[str, str, str]]:
    """Return title, file and text of the pages on Python: what galfig exports, then its parts."""
    exports = [name for name in galfig.__all__ if not name.startswith("_")]
    rooms = list_rooms()
    # Functions before classes, which are what they return.
    objects = sorted(
        (f"galfig.{name}" for name in exports if name not in rooms),
        key=lambda name: name.removeprefix("galfig.")[0].isupper(),
    )
    face = document("galfig", is_head=True) + "\n" + "\n".join(map(document, objects))
    pages = [("galfig", "api/index.md", f"# galfig\n\n{face}")]
    # Modules that galfig exports come before those that stand behind them.
    for name in sorted(rooms, key=lambda name: (name not in exports, name)):
        head = f"# galfig.{name}\n\n" + document(f"galfig.{name}", is_head=True)
        inside = "\n".join(document(f"galfig.{name}.{module}") for module in rooms[name])
        pages.append((f"galfig.{name}", f"api/{name}.md", f"{head}\n{inside}"))
    return pages


def list_rooms() -> dict[str, list[str]]:
    """Return the modules of each package of galfig, and its modules, which have none; no cli."""
    rooms = {}
    for path in (ROOT / "galfig").iterdir():
        if path.suffix == ".py" and not path.name.startswith("__"):
            rooms[path.stem] = []
        elif (path / "__init__.py").exists() and path.name != "cli":
            rooms[path.name] = sorted(
                inside.stem for inside in path.glob("*.py") if inside.stem != "__init__"
            )
    return rooms


def document(name: str, *, is_head: bool = False) -> str:
    """Return what tells mkdocstrings to document an object, or the module that a page is about."""
    # What galfig itself exports, the pages of packages show where it is defined.
    members = ", members: false" if name == "galfig" else ""
    options = f"    options: {{show_root_heading: false, show_root_toc_entry: false{members}}}\n"
    return f"::: {name}\n" + (options if is_head else "")
