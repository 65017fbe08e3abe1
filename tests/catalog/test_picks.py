"""Picks in tables, as TOPCAT and astropy save them."""

from pathlib import Path

import pytest
from astropy.table import Table

from galfig.catalog.picks import is_table, read_objids
from galfig.errors import CatalogError

NAMES = ("1237665024900858105", "1237665024900858101")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("p.csv", "ascii.csv"),
        ("p.ecsv", "ascii.ecsv"),
        ("p.fits", "fits"),
        ("p.vot", "votable"),
        ("p.tsv", "ascii.tab"),
    ],
)
@pytest.mark.parametrize("is_number", [True, False])
@pytest.mark.parametrize("column", ["objid", "objID"])
def test_identifiers_of_a_table(tmp_path, name, form, is_number, column):
    """All digits, whether they were saved as text or as 64-bit integers."""
    table = Table({"z": [0.1, 0.2], column: [int(n) for n in NAMES] if is_number else NAMES})
    table.write(tmp_path / name, format=form)
    assert is_table(tmp_path / name)
    assert read_objids(tmp_path / name) == NAMES


def test_a_table_without_identifiers(tmp_path):
    """It is said which column was looked for, and what to do."""
    path = tmp_path / "p.csv"
    path.write_text("name,z\na,1\n")
    with pytest.raises(CatalogError, match=r"no column 'objid' or 'objID', expected .* file .txt"):
        read_objids(path)
    with pytest.raises(CatalogError, match="no such file"):
        read_objids(tmp_path / "q.csv")


def test_a_list_is_no_table():
    """By its suffix."""
    assert [is_table(Path(name)) for name in ("p.txt", "p", "p.dat", "p.CSV", "p.fits.gz")] == [
        *(False, False, False, True, True)
    ]
