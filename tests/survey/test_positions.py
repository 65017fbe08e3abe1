"""Positions of a user's catalog: read from any format, and refused with the reason."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from galfig.config import load_settings
from galfig.errors import CatalogError, ConfigError
from galfig.survey.positions import choose_catalog, read_positions

OBJID = "1237665024900858129"


def read(words, name="cat.csv", **catalog):
    """Write a catalog and read its positions."""
    columns = {key: catalog.pop(key) for key in ("ra", "dec") if key in catalog}
    Path(name).write_text(words)
    return read_positions(load_settings({"catalog": {"path": name, **catalog}}), **columns)


def test_identifiers_and_positions_are_read():
    """Every digit of the identifier, and right ascensions from 0 to 360."""
    found = read(f"objID,ra,dec,class\n{OBJID},359.5,-12.25,a\ng2,-0.5,90,b\n")
    assert found.objid == (OBJID, "g2")
    np.testing.assert_array_equal(found.ra, [359.5, 359.5])
    np.testing.assert_array_equal(found.dec, [-12.25, 90.0])
    assert found.faults == {}
    assert found.content == Path("cat.csv").read_bytes()


@pytest.mark.parametrize("name", ["cat.fits", "cat.vot", "cat.parquet", "cat.ecsv", "cat.txt"])
def test_any_format_that_galfig_reads(name):
    """Written by astropy or pandas, with VizieR's names of the columns."""
    table = Table({"name": ["a", "b"], "_RAJ2000": [1.5, 2.5], "_DEJ2000": [3.5, 4.5]})
    if name.endswith("parquet"):
        pd.DataFrame({key: list(table[key]) for key in table.colnames}).to_parquet(name)
    else:
        kinds = {
            "cat.vot": "votable",
            "cat.ecsv": "ascii.ecsv",
            "cat.txt": "ascii.commented_header",
        }
        table.write(name, format=kinds.get(name))
    found = read_positions(load_settings({"catalog": {"path": name, "id": "name"}}))
    assert found.objid == ("a", "b")
    np.testing.assert_array_equal(found.ra, [1.5, 2.5])
    np.testing.assert_array_equal(found.dec, [3.5, 4.5])


def test_columns_are_named_where_their_names_are_others():
    """Both of them; one alone is no position."""
    words = "objID,alpha,delta\na,1,2\n"
    found = read(words, ra="alpha", dec="delta")
    assert (found.ra[0], found.dec[0]) == (1.0, 2.0)
    for columns, message in (
        ({}, r"cat.csv: no columns of right ascension and declination, expected ra and dec, raj2"),
        ({"ra": "alpha"}, r"`ra` is given without `dec`, expected both columns or none"),
        ({"dec": "delta"}, r"`dec` is given without `ra`"),
        ({"ra": "alpa", "dec": "delta"}, r"no column 'alpa', expected by `ra`; did you mean 'alph"),
        ({"ra": "delta", "dec": "delta"}, r"`ra` and `dec` are column 'delta', expected two"),
    ):
        with pytest.raises(CatalogError, match=message):
            read(words, **columns)


@pytest.mark.parametrize("cell", ["12:34:56.7", "12h34m56.7s", "12 34 56.7", "12 34", "12h34m"])
def test_sexagesimal_positions_are_refused(cell):
    """They would otherwise be hours taken for degrees."""
    with pytest.raises(CatalogError, match=r"row 2, column 'ra': '12.*', expected degrees"):
        read(f"objID;ra;dec\na;1.5;2\nb;{cell};+1\n", "cat.txt")


def test_rows_that_cannot_be_asked_for_are_named_with_the_reason():
    """Not finite, out of range, no number, no identifier, and no plain name of a file."""
    rows = ["a,1,2", "b,nan,2", "c,361,2", "d,1,-90.5", "e,-9999,2", "f,x,2", ",1,2", "g/h,1,2"]
    rows += ["h,inf,2", f"{'k' * 240},1,2", "i,3,", *(f"n{n},{n},{n}" for n in range(5))]
    found = read("objID,ra,dec\n" + "\n".join(rows) + "\n")
    assert found.objid == ("a", "n0", "n1", "n2", "n3", "n4")
    reasons = found.faults
    assert reasons["b"] == "no ra"
    assert reasons["c"] == "ra 361, expected -180 to 360 degrees"
    assert reasons["d"] == "dec -90.5, expected -90 to 90 degrees"
    assert reasons["e"] == "ra -9999, expected -180 to 360 degrees"
    assert reasons["f"] == "ra 'x' is no number, expected degrees"
    assert reasons["h"] == "ra inf, expected -180 to 360 degrees"
    assert reasons["i"] == "no dec"
    assert reasons["row 7"] == "no objID"
    assert reasons["g/h"].startswith("objID 'g/h' is not a plain file name")
    assert "too long for the name of its file" in reasons["k" * 240]
    assert len(reasons) == 10


def test_rows_that_share_an_identifier():
    """One position is asked for once; of two, only the user knows which."""
    words = "objID,ra,dec\na,1,2\nb,3,4\na,1,2\nc,5,6\nb,3,5\n"
    found = read(words)
    assert found.objid == ("a", "c")
    assert found.faults == {"b": "objID 'b' is also in row 5"}
    found = read(words, duplicates="first")
    assert found.objid == ("a", "b", "c")
    assert found.faults == {}


def test_a_catalog_without_any_position_is_refused():
    """With the first reasons."""
    with pytest.raises(CatalogError, match=r"no galaxy has an identifier and a position.*a: no ra"):
        read("objID,ra,dec\na,,1\nb,,2\n")


def test_real_catalog_of_sdss_is_read(real_data):
    """The positions of its galaxies, by pandas."""
    path = real_data("sdss-z-mass") / "catalog.csv"
    found = read_positions(load_settings({"catalog": {"path": str(path)}}))
    table = pd.read_csv(path, dtype={"objID": str}).drop_duplicates("objID").set_index("objID")
    assert set(found.objid) | set(found.faults) >= set(table.index)
    np.testing.assert_allclose(found.ra, table.ra[[*found.objid]])
    np.testing.assert_allclose(found.dec, table.dec[[*found.objid]])


def test_catalog_settings_are_used(tmp_path):
    """The table of a file, and names of the columns of text without a header."""
    Path("cat.txt").write_text("a 1 2\nb 3 4\n")
    catalog = {"path": "cat.txt", "id": "name", "names": ["name", "ra", "dec"]}
    assert read_positions(load_settings({"catalog": catalog})).objid == ("a", "b")


def test_a_catalog_must_be_named():
    """The default of galfig is simulated galaxies, and of several files one must be meant."""
    with pytest.raises(ConfigError, match="`catalog`: none is given, expected a table"):
        choose_catalog(None)
    files = {"split": {"files": {"train": "a.csv", "test": "b.csv"}}}
    with pytest.raises(ConfigError, match=r"\[split\] files: 'a.csv', 'b.csv', expected one cata"):
        choose_catalog(None, files)
    assert choose_catalog("c.csv", files).catalog_path == Path("c.csv")
    assert choose_catalog(None, {"catalog": {"path": "d.csv"}}).catalog_path == Path("d.csv")
