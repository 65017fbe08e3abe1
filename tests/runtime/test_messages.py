"""How messages show what was found."""

import ast
from pathlib import Path

import numpy as np
import pytest

import galfig
from galfig.runtime.messages import (
    find_near,
    find_unprintable,
    list_some,
    make_printable,
    one_line,
    quote,
    shorten,
    suggest,
    wrap_item,
)

ROOT = Path(galfig.__file__).parent


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (OSError("no\n  such\tfile"), "no such file"),
        ("a\n\nb", "a b"),
        (ValueError(), ""),
    ],
)
def test_exceptions_become_one_line(found, words):
    """Line breaks, tabs and runs of blanks are one blank."""
    assert one_line(found) == words


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("high\nlow", r"'high\nlow'"),
        (np.float64(7.5), "7.5"),
        (np.str_("a"), "'a'"),
        ("x" * 80, "'" + "x" * 59 + "..."),
    ],
)
def test_what_was_found_is_quoted_shortly(found, words):
    """As Python writes it, not as numpy does, and cut after 60 characters."""
    assert quote(found) == words


def test_long_lists_are_counted():
    """Eight names, and how many more there are."""
    assert list_some(["a", "b"]) == "a, b"
    assert shorten(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("epoch", ["arch", "epochs"], "epochs"),
        ("oh_p50", ["z", "oh_p5O"], "oh_p5O"),
        ("OBJID", ["objID"], "objID"),
        ("objid", ["OBJID", "objIDs"], "OBJID"),
        ("cmap", ["zmax", "zmin", "where"], None),
        ("objID", ["name", "z", "oh_p50"], None),
        ("", ["a"], None),
    ],
)
def test_only_near_names_are_suggested(name, known, near):
    """A slip or another case is near; a word that shares two letters is not."""
    assert find_near(name, known) == near
    expected = "there is none" if near is None else f"did you mean {near!r}?"
    assert suggest(name, known, "there is none") == expected


def test_near_names_and_digests_are_worded_in_one_place():
    """No other module asks difflib, joins the lines of an error, or words a wrong digest."""
    own = ROOT / "runtime" / "messages.py"
    for path in set(ROOT.rglob("*.py")) - {own}:
        source = path.read_text(encoding="utf-8")
        words = [
            node.value
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert "difflib" not in source, path
        assert '" ".join(str(' not in source, path
        assert "' '.join(str(" not in source, path
        assert not [word for word in words if "checksum mismatch" in word], path
        assert not [word for word in words if "did you mean" in word.lower()], path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 星 😀 Hα\N{NO-BREAK SPACE}x", "plain é 星 😀 Hα\N{NO-BREAK SPACE}x"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b2J \x7f", r"\x9b2J \x7f"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u202eevil", r"\u202eevil"),
        ("\udcff", r"\udcff"),
        ("\uffff", r"\uffff"),
    ],
)
def test_text_of_a_file_cannot_act(text, shown):
    """Escapes of terminals, ends of lines and turned directions are shown, and others kept."""
    assert make_printable(text) == shown
    assert find_unprintable(shown) == ""
    assert (find_unprintable(text) == "") == (text == shown)


def test_an_item_of_a_list_fits_a_terminal():
    """Its lines are indented below the first word, and no word is lost."""
    words = "The maps point to pixels that matter beyond their brightness. " * 3
    lines = wrap_item(words).splitlines()
    assert [line[:2] for line in lines] == ["- ", *["  "] * (len(lines) - 1)]
    assert max(map(len, lines)) <= 80
    assert " ".join(line[2:] for line in lines) == words.strip()


def test_lines_are_joined_and_made_printable():
    """As every message is."""
    assert one_line("a\n b \x1b[0m\u2028c") == r"a b \x1b[0m c"
