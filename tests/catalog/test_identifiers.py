"""Identifiers: exact, and names that stay in their folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import OBJID

from galfig.catalog.identifiers import check_objids, is_plain_name
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
def test_rounded_identifiers_are_refused(objid):
    """What a spreadsheet or a float makes of a number is refused, with what to do about it."""
    with pytest.raises(CatalogError, match=r"^a\.csv: row 2, column 'objID': .*export this column"):
        check_objids(["SDSS 1.0", objid], Path("a.csv"), "objID")


def test_numbers_rounded_to_fifteen_digits_are_refused():
    """Zeros at the end of all long numbers are a spreadsheet's; of some, or of a few, chance."""
    rounded = ["1237665024900850000", "1237665024900860000"]
    with pytest.raises(CatalogError, match="every number ends in zeros after 15 digits"):
        check_objids([*rounded, "7"], Path("a.csv"), "objID")
    check_objids([*rounded, OBJID], Path("a.csv"), "objID")
    check_objids(["1237665024900850", "1237665024900860"], Path("a.csv"), "objID")
    check_objids(["000000000000000010", "000000000000000020"], Path("a.csv"), "objID")


def test_plausible_identifiers_are_not_refused():
    """Hexadecimal numbers, coordinates and versions only look a little like rounded numbers."""
    check_objids(["1e10", "123e4567", "J0915.44", "150.25", "v1.0", "-7"], Path("a.csv"), "objID")


def test_two_spellings_of_one_name_are_doubled():
    """An accent in its letter or behind it is one file name on some systems."""
    with pytest.raises(CatalogError, match=r"row 2, .* is already in row 1"):
        check_objids(["\u00e9", "e\u0301"], Path("a.csv"), "objID")


def test_long_names_are_refused_in_a_short_line():
    """No file can have a name of more than 255 bytes, and no line should show it."""
    check_objids(["x" * 255], Path("a.csv"), "objID")
    for name in ("x" * 256, "\u00e9" * 128, "x" * 100_000):
        with pytest.raises(CatalogError, match=r"row 1, .*\.\.\. is not .* 255 bytes") as caught:
            check_objids([name], Path("a.csv"), "objID")
        assert len(str(caught.value)) < 300
