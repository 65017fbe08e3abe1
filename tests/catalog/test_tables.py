"""Tables of astropy: several in a file, columns of arrays, and XML that asks for more."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.io.votable.tree import Resource, VOTableFile
from astropy.table import MaskedColumn, Table
from samples import OBJID

from galfig.catalog.formats import read_table
from galfig.errors import CatalogError

GALAXIES = {"objID": [int(OBJID), 7], "z": [0.1, 0.2]}


@pytest.fixture
def ldac(tmp_path):
    """Write FITS as LDAC is: a header in a table, then two tables of objects."""
    hdus = [
        fits.PrimaryHDU(),
        fits.BinTableHDU(Table({"Field Header Card": ["SIMPLE"]}), name="LDAC_IMHEAD"),
        fits.BinTableHDU(Table(GALAXIES), name="LDAC_OBJECTS"),
        fits.BinTableHDU(Table({"objID": [8, 9, 10]}), name="STARS"),
    ]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    return tmp_path / "a.fits"


def test_a_table_of_several_is_chosen_by_name_or_number(ldac, caplog):
    """Without a choice, the first with the identifiers is read, and the others are named."""
    for chosen in ("LDAC_OBJECTS", "ldac_objects", "2"):
        assert read_table(ldac, "objID", chosen=chosen)["objID"].tolist() == [OBJID, "7"]
    assert len(read_table(ldac, "objID", chosen="3")) == 3
    assert not caplog.records
    assert len(read_table(ldac, "objID")) == 2
    (message,) = caplog.messages
    assert message == (
        f"{ldac}: holds several tables with a column 'objID' and table 2 'LDAC_OBJECTS' is read; "
        "name another as 'a.fits[NAME or number]': 1 'LDAC_IMHEAD', 2 'LDAC_OBJECTS', 3 'STARS'"
    )


def test_a_table_that_is_not_there_is_answered_with_those_that_are(ldac):
    """Also where none of them has the column of the identifiers."""
    there = "1 'LDAC_IMHEAD', 2 'LDAC_OBJECTS', 3 'STARS'"
    with pytest.raises(CatalogError, match=f"no table 'OBJECTS', expected one of {there}"):
        read_table(ldac, "objID", chosen="OBJECTS")
    with pytest.raises(
        CatalogError, match=r"none of its tables has .* 'NUMBER' .*; they are " + there
    ):
        read_table(ldac, "NUMBER")
    (ldac.parent / "a.csv").write_text("objID\n1\n")
    with pytest.raises(CatalogError, match=r"table 'X' is chosen, but a \.csv file holds one"):
        read_table(ldac.parent / "a.csv", "objID", chosen="X")


def test_fits_under_the_suffix_of_source_extractors_is_read(ldac):
    """What the file begins with tells FITS from text."""
    path = ldac.rename(ldac.with_name("a.cat"))
    assert read_table(path, "objID", chosen="STARS")["objID"].tolist() == ["8", "9", "10"]


def test_names_are_for_text(ldac):
    """A format that names its columns needs no other names."""
    with pytest.raises(CatalogError, match=r"\[catalog\] names is for text without a header line"):
        read_table(ldac, "objID", names=("objID", "z"))


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".vot", ".h5"])
def test_columns_of_arrays_become_a_column_for_each_element(tmp_path, suffix):
    """NAME[4] is the fifth element, exact and with its own empty cells."""
    mags = np.arange(10).reshape(2, 5) / 7
    ids = np.array([[int(OBJID), int(OBJID) + 1], [5, 6]])
    table = Table({**GALAXIES, "mag": mags, "ids": MaskedColumn(ids)})
    if suffix == ".ecsv":
        table["ids"] = MaskedColumn(ids, mask=[[False, True], [False, False]])
    options = {"path": "t", "serialize_meta": True} if suffix == ".h5" else {}
    form = {".vot": "votable"}.get(suffix)
    table.write(tmp_path / f"a{suffix}", **options, **({"format": form} if form else {}))
    read = read_table(tmp_path / f"a{suffix}", "objID")
    names = ["objID", "z", *(f"mag[{i}]" for i in range(5)), "ids[0]", "ids[1]"]
    assert read.columns.tolist() == names
    np.testing.assert_array_equal(read["mag[4]"], mags[:, 4])
    assert read["ids[0]"].tolist() == ids[:, 0].tolist()
    assert read["ids[1]"].isna().tolist() == [suffix == ".ecsv", False]
    assert read_table(tmp_path / f"a{suffix}", "ids[0]")["ids[0]"].tolist() == [OBJID, "5"]


def write_votable(path, tables):
    """Write a VOTable of several tables, by name."""
    file = VOTableFile()
    for name, columns in tables.items():
        resource = Resource()
        made = from_table(Table(columns)).get_first_table()
        made.name = name
        made.ID = f"id_{name}"
        resource.tables.append(made)
        file.resources.append(resource)
    file.to_xml(str(path))


def test_votables_hold_several_tables(tmp_path):
    """They are chosen by name, by ID or by number."""
    path = tmp_path / "a.xml"
    write_votable(path, {"stars": {"starID": [1, 2, 3]}, "galaxies": GALAXIES})
    for chosen in (None, "galaxies", "id_galaxies", "1"):
        assert read_table(path, "objID", chosen=chosen)["objID"].tolist() == [OBJID, "7"]
    with pytest.raises(CatalogError, match="no table 'quasars', expected one of 0 'stars', 1 'gal"):
        read_table(path, "objID", chosen="quasars")


@pytest.mark.parametrize("form", ["tabledata", "binary2"])
def test_votables_of_each_serialization_are_exact(tmp_path, form):
    """Numbers in bytes have no other digits than numbers in text."""
    # astropy 6 does not write masked integers as bytes.
    mask = [False, form == "tabledata", False]
    ids = MaskedColumn([int(OBJID), 1, int(OBJID) + 2], mask=mask)
    table = Table({"objID": ["a", "b", "c"], "other": ids})
    table.write(tmp_path / "a.vot", format="votable", tabledata_format=form)
    read = read_table(tmp_path / "a.vot", "other")
    gap = "" if form == "tabledata" else "1"
    assert read["other"].tolist() == [OBJID, gap, str(int(OBJID) + 2)]
    assert read["objID"].tolist() == ["a", "b", "c"]


def test_tables_of_text_in_fits_are_exact(tmp_path):
    """The ASCII tables of FITS hold numbers of any length."""
    columns = [
        fits.Column("objID", "A19", array=[OBJID, "7"]),
        fits.Column("z", "D25.17", array=[0.1, 0.2]),
    ]
    fits.TableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    read = read_table(tmp_path / "a.fits", "objID")
    assert read["objID"].tolist() == [OBJID, "7"]
    assert read["z"].tolist() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("<TABLEDATA>", '<BINARY><STREAM href="file:///etc/passwd"/>'),
            "its data lie elsewhere",
        ),
        (
            lambda text: text.replace("?>", '?><!DOCTYPE a [<!ENTITY b "boom">]>', 1),
            "declares XML entities",
        ),
        (lambda text: text[: len(text) // 2], "cannot be read"),
    ],
    ids=["elsewhere", "entities", "half"],
)
def test_votables_ask_for_nothing_outside(tmp_path, change, message):
    """Data at an address, entities that grow, and half a file are each refused in a line."""
    path = tmp_path / "a.vot"
    Table(GALAXIES).write(path, format="votable")
    path.write_text(change(path.read_text()))
    with pytest.raises(CatalogError, match=message) as caught:
        read_table(path, "objID")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".fits", ".vot", ".h5", ".parquet"])
def test_texts_and_flags_are_the_same_in_each_format(tmp_path, suffix):
    """Text in bytes or characters, and logical values, are read alike."""
    table = Table({"objID": ["a", "b"], "kind": ["None", "01"], "bar": [True, False]})
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        table.to_pandas().to_parquet(path)
    else:
        options = {".h5": {"path": "t"}, ".vot": {"format": "votable"}}.get(suffix, {})
        table.write(path, **options)
    read = read_table(path, "objID")
    assert read["objID"].tolist() == ["a", "b"]
    assert read["kind"].tolist() == ["None", "01"]
    assert read["bar"].tolist() == [True, False]
