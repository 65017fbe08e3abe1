"""Docstrings as numpydoc has them, for mkdocstrings, which expects Markdown inside the sections."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import griffe

# A name in single backquotes, which is that of an object; what is in double ones is code.
NAME = re.compile(r"(?<![`\w])`([A-Za-z][\w.]*)`(?!`)")
# The type of a parameter that has words among its values.
CHOICES = re.compile(r"^(\w+ : )(\{\".*\}|\".*?)(?=, default|, optional|$)", re.MULTILINE)
# Lines of a session, to which Markdown would give another meaning.
SESSION = re.compile(r"(?:^(?:>>>|\.\.\.) .*\n?)+", re.MULTILINE)


class Numpydoc(griffe.Extension):
    """Translates the docstrings that griffe has read."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        translate_object(pkg, loader)

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **_: Any) -> None:
        translate_object(obj, loader)


def translate_object(obj: griffe.Object, loader: griffe.GriffeLoader) -> None:
    """Translate the docstring of an object, where it has one."""
    if obj.docstring is not None:
        find = partial(find_object, scope=obj, loader=loader)
        obj.docstring.value = translate(obj.docstring.value, find)


def translate(docstring: str, find: Callable[[str], str | None]) -> str:
    """Return a docstring with formulas, references and names of objects in Markdown.

    Names become links to where ``find`` says that the object is; None for one without a place.
    """

    def link(found: re.Match[str]) -> str:
        place = find(found[1])
        return found[0] if place is None else f"[{found[0]}][{place}]"

    docstring = SESSION.sub(fence, docstring)
    docstring = CHOICES.sub(lambda found: found[1] + list_choices(found[2]), docstring)
    docstring = re.sub(r":math:`([^`]+)`", r"$\1$", docstring)
    docstring = re.sub(r"^\.\. math:: (.+)$", r"$$\1$$", docstring, flags=re.MULTILINE)
    # The number of a reference, where it is referred to and where it is.
    docstring = re.sub(r" (\[\d+\])_", r" \1", docstring)
    docstring = re.sub(r"^\.\. (\[\d+\]) ", r"\n\1 ", docstring, flags=re.MULTILINE)
    return NAME.sub(link, docstring)


def list_choices(choices: str) -> str:
    """Return words to choose from as text, in which griffe does not look for names of types."""
    if choices.startswith("{"):
        *others, last = choices.strip("{}").split(", ")
        choices = f"{', '.join(others)} or {last}"
    return f"either {choices}"


def fence(session: re.Match[str]) -> str:
    """Return the lines of a session as code, without what they tell doctest."""
    words = re.sub(r" *# doctest:.*", "", session[0]).strip()
    return f"```pycon\n{words}\n```\n"


def find_object(name: str, scope: griffe.Object, loader: griffe.GriffeLoader) -> str | None:
    """Return the path of an object that a docstring names.

    None where no page shows it: of other libraries, and of constants that have no docstring. Of a
    name that nothing has, the name itself, which mkdocs then finds nowhere.
    """
    first, _, rest = name.partition(".")
    try:
        path = name if first == "galfig" else ".".join(filter(None, [scope.resolve(first), rest]))
    except griffe.NameResolutionError:
        return None if rest else name
    if not path.startswith("galfig"):
        return None
    try:
        found = loader.modules_collection[path]
        target = found.final_target if found.is_alias else found
    except (griffe.AliasResolutionError, KeyError):
        return name
    return target.canonical_path if target.has_docstring else None
