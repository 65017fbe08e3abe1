"""Identifiers: exact, and names that stay in their folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import OBJID

from galfig.catalog.identifiers import find_bad_objids, find_doubled, is_plain_name
from galfig.errors import CatalogError


@given(st.text(max_size=12))
def test_plain_names_stay_in_their_folder(name):
    """A name that is allowed is one part of a path, directly inside the folder."""
    if is_plain_name(name):
        path = Path("/folder") / f"{name}.jpg"
        assert path.parent == Path("/folder")
        assert path.name == f"{name}.jpg"
        assert "\0" not in name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a\0", "a\nb", "..\\a"])
def test_names_that_are_paths_are_refused(name):
    """Separators, dots and control characters have no place in an identifier."""
    assert not is_plain_name(name)


@pytest.mark.parametrize(
    "objid",
    ["1237665024900858129.0", "1.23767E+18", "1,23767E+18", "1e+18", "123.", "1,237,665"],
)
def test_rounded_identifiers_are_found(objid):
    """What a spreadsheet or a float makes of a number is left out, with what to do about it."""
    reasons = find_bad_objids(["SDSS 1.0", objid], Path("a.csv"), "objID")
    assert list(reasons) == [1]
    assert reasons[1].startswith(f"objID '{objid}' looks rounded")
    assert reasons[1].endswith("export this column as text")


def test_numbers_rounded_to_fifteen_digits_are_refused():
    """Zeros at the end of all long numbers are a spreadsheet's; of some, or of a few, chance."""
    rounded = ["1237665024900850000", "1237665024900860000"]
    with pytest.raises(CatalogError, match="every number ends in zeros after 15 digits"):
        find_bad_objids([*rounded, "7"], Path("a.csv"), "objID")
    for fine in (
        [*rounded, OBJID],
        ["1237665024900850", "1237665024900860"],
        ["000000000000000010", "000000000000000020"],
    ):
        assert find_bad_objids(fine, Path("a.csv"), "objID") == {}


def test_plausible_identifiers_are_fine():
    """Hexadecimal numbers, coordinates and versions only look a little like rounded numbers."""
    names = ["1e10", "123e4567", "J0915.44", "150.25", "v1.0", "-7"]
    assert find_bad_objids(names, Path("a.csv"), "objID") == {}


def test_rows_of_one_identifier_are_found_together():
    """All rows of each, in order; rows without an identifier share none."""
    assert find_doubled(["a", "", "b", "a", "", "c", "b", "a"]) == [[0, 3, 7], [2, 6]]
    assert find_doubled(["a", "b"]) == []


def test_two_spellings_of_one_name_are_doubled():
    """An accent in its letter or behind it is one file name on some systems."""
    assert find_doubled(["\u00e9", "e\u0301", "e"]) == [[0, 1]]


def test_long_names_are_described_in_a_short_line():
    """No file can have a name of more than 255 bytes, and no line should show it."""
    assert find_bad_objids(["x" * 255], Path("a.csv"), "objID") == {}
    for name in ("x" * 256, "\u00e9" * 128, "x" * 100_000):
        (reason,) = find_bad_objids([name], Path("a.csv"), "objID").values()
        assert "... is not a plain file name" in reason
        assert "255 bytes" in reason
        assert len(reason) < 300
