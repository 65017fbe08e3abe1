"""Picks: lists of galaxies in text files, as people and other programs write them."""

import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from galfig.errors import SelectionError
from galfig.store import picks
from galfig.store.picks import expand_objids, parse_picks, read_picks

FIRST, SECOND = "1237665024900858105", "1237665024900858101"


@pytest.mark.parametrize(
    "words",
    [
        f"{FIRST}\n{SECOND}\n",
        f"{FIRST}\r\n{SECOND}\r\n",
        f"{FIRST}\r{SECOND}",
        f"\ufeff{FIRST}\n\n   \n{SECOND}",
        f"# chosen by eye\n  {FIRST}\t# the bright one\n{SECOND}  #dim\n#",
        f'objid\n"{FIRST}"\n"{SECOND}"\n',
        f"OBJID\n{FIRST}\n{SECOND}\n{FIRST}\n",
    ],
    ids=["unix", "windows", "mac", "bom", "comments", "table", "repeated"],
)
def test_lists_that_people_write(words):
    """Ends of lines, byte order marks, comments and blanks do not become identifiers."""
    assert parse_picks(words.encode(), Path("p.txt")) == (FIRST, SECOND)


def test_names_stay_as_they_are():
    """Of other surveys: blanks, signs, letters beyond ASCII, and a # within a name."""
    names = ("NGC 5194", "J1234+56", "Ø-7", "a#1", "@odd", 'say "x"', "007")
    assert parse_picks("\n".join(names).encode(), Path("p.txt")) == names


def test_repeated_identifiers_are_counted(caplog):
    """Each is taken once, where it stands first."""
    with caplog.at_level(logging.WARNING, "galfig"):
        assert parse_picks(b"b\na\nb\nb\n", Path("p.txt")) == ("b", "a")
    assert caplog.messages == ["p.txt: 2 of 4 identifiers are repeated, taken once"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "holds no identifier"),
        (b"# nothing\n\n", "holds no identifier"),
        (b"objid\n", "holds no identifier"),
        (f"{FIRST}\n".encode("utf-16"), "not text in UTF-8"),
        (b"SIMPLE\0", "not text"),
        (b"\x89PNG\r\n\x1a\n", "not text in UTF-8"),
        (b"a\n" + b"b" * 256, "line 2 holds 'bbb.* 256 characters"),
    ],
)
def test_what_is_no_list_is_told(data, words):
    """In one line that says what was expected."""
    with pytest.raises(SelectionError, match=f"^p.txt: {words}.*one identifier per line$"):
        parse_picks(data, Path("p.txt"))


def test_files_that_are_none(tmp_path, monkeypatch):
    """A folder, a pipe, a missing file, and one that is too large: nothing waits or fills up."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_text("a\n" * 100)
    monkeypatch.setattr(picks, "MAX_BYTES", 199)
    for name, words in (
        ("missing", "no such file"),
        ("pipe", "named pipe, expected a regular file"),
        ("large", "200 bytes, expected at most 199 bytes"),
        (".", "Is a directory"),
    ):
        with pytest.raises(SelectionError, match=words):
            read_picks(tmp_path / name)


def test_python_takes_what_users_have(store, tmp_path, monkeypatch):
    """A path, its name behind @, beside identifiers, and columns of pandas and numpy."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "picks.txt"
    path.write_text(f"{FIRST}\n{SECOND}\n")
    for objids in (
        path,
        "@picks.txt",
        ["@picks.txt"],
        [FIRST, "@picks.txt"],
        np.array([FIRST, SECOND]),
        np.array([int(FIRST), int(SECOND)]),
        pd.Series([FIRST, SECOND], dtype="string"),
        pd.Series([int(FIRST), int(SECOND)]),
        pd.Index([FIRST, SECOND]),
    ):
        rows = store.select(objids=objids)
        assert rows.tolist() == [5, 1]
        assert rows.selection.query.objids == (FIRST, SECOND)


def test_a_file_among_names_is_read_where_it_stands():
    """Without a file, what is repeated stays repeated."""
    lists = {"p": ("b", "c")}
    assert expand_objids(["a", "@p", "c", "d"], lists.__getitem__) == ("a", "b", "c", "d")
    assert expand_objids(["a", "a", "@"], lists.__getitem__) == ("a", "a", "@")


def test_unknown_galaxies_are_counted(store):
    """The first few are named, and what became of them."""
    with pytest.raises(SelectionError) as caught:
        store.select(objids=[FIRST, "1", "2", "3", "4", "5"])
    assert str(caught.value) == (
        f"{store.path}: 5 of 6 galaxies are not there: '1', '2', '3' and 2 more; it holds 12 "
        "others, of split 'valid'; a store of split 'all' holds every one"
    )
