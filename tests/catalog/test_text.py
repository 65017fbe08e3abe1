"""Catalogs of text, as archives, programs and people lay them out."""

import logging

import pytest
from samples import OBJID

from galfig.catalog.formats import read_table
from galfig.errors import CatalogError


def read(tmp_path, words, name="a.csv", id_column="objID", **options):
    """Write a file and read it as a catalog."""
    (tmp_path / name).write_text(words)
    return read_table(tmp_path / name, id_column, **options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hsc.csv", f"# objID,z,type\n{OBJID},0.1,Sb\n"),
        ("hsc2.csv", f"# HSC-SSP, third release\n#\n#objID,z,type\n{OBJID},0.1,Sb\n"),
        ("tabs.tsv", f"objID\tz\ttype\n{OBJID}\t0.1\tSb\n"),
        ("tabs.dat", f"objID\tz\ttype\n{OBJID}\t0.1\tSb\n"),
        ("commas.txt", f"objID,z,type\n{OBJID},0.1,Sb\n"),
        ("bars.txt", f"objID|z|type\n{OBJID}|0.1|Sb\n"),
        ("semicolons.tsv", f"objID;z;type\n{OBJID};0.1;Sb\n"),
        ("blanks.dat", f"  objID    z   type\n{OBJID}  0.1 Sb  \n"),
        ("comment.txt", f"# objID z type\n# second line\n{OBJID} 0.1 Sb\n# end\n"),
        ("quotes.txt", f'objID z type\n{OBJID} 0.1 "Sb"\n'),
        ("savetxt.dat", f"# objID z type\n{OBJID} 1.000000000000000056e-01 Sb\n"),
        (
            "rule.txt",
            "objID                z    type\n==================== ==== ====\n"
            f"{OBJID}  0.1  Sb\n",
        ),
        ("fixed.txt", f"|objID               |z   |type|\n|{OBJID} |0.1 |Sb  |\n"),
        ("markdown.txt", f"|objID|z|type|\n|:---|---|---|\n|{OBJID}|0.1|Sb|\n".replace(":", "-")),
        (
            "ipac.tbl",
            "\\fixlen = T\n|objID               |z     |type|\n"
            f"|long                |double|char|\n {OBJID}  0.1    Sb  \n",
        ),
        ("se.cat", f"#   1 objID   Number\n#   2 z   Redshift\n#   3 type\n{OBJID} 0.1 Sb\n"),
    ],
)  # fmt: skip
def test_layouts_are_found(tmp_path, name, words):
    """One galaxy comes out of each layout with the same three cells."""
    words += words.splitlines()[-1].replace(OBJID, "7") + "\n" if "# end" not in words else ""
    table = read(tmp_path, words, name)
    assert table["objID"][0] == OBJID
    assert table["z"][0] == 0.1
    assert table["type"].tolist()[0] == "Sb"
    assert table.columns.tolist() == ["objID", "z", "type"]


@pytest.mark.parametrize(
    "below",
    [
        "---,---,---\n",
        ",deg,\n---,---,---\n",
        ",,\n",
        ",mag,\n",
        "char,double,char\n",
        ",arcsec,\n",
        ',"[log(solMass)]",\n',
        "long,float64,str\n,km/s,\n",
        "-------------------,----,---\n",
    ],
)
def test_units_and_rules_below_the_header_are_passed_over(tmp_path, caplog, below):
    """They are no galaxies, and that they go is said; row 1 is the first galaxy."""
    table = read(tmp_path, f"objID,z,type\n{below}{OBJID},0.1,Sb\n7,0.2,E\n")
    assert table["objID"].tolist() == [OBJID, "7"]
    assert table["z"].tolist() == [0.1, 0.2]
    (message,) = caplog.messages
    assert "passed over what looks like units or a rule below the header: " in message


@pytest.mark.parametrize("first", ["a,high,Sb\n", "--,0.1,E\n", "m,0.3,s\n", "a,NA,Sb\n", "a,,\n"])
def test_galaxies_with_odd_cells_are_no_units(tmp_path, caplog, first):
    """Neither a word in a column of numbers nor an empty cell makes a unit of a galaxy."""
    table = read(tmp_path, f"objID,z,type\n{first}b,0.1,Sb\nc,0.2,E\n")
    assert len(table) == 3
    assert not caplog.records


def test_vizier_s_table_of_tabs_is_read(tmp_path):
    """Comments, header, units, a rule, and rows with blanks around the cells."""
    words = (
        "#RESOURCE=yCat_36730001\n#Name: J/A+A/673/1\n#Column\tobjID\t(I19)\n\n"
        'objID\tRAJ2000\tz\n \t"h:m:s"\tkm/s\n-------------------\t-----------\t-----\n'
        f"{OBJID}\t10 12 13.1\t 0.10\n7\t10 12 14.1\t\n\n"
    )
    table = read(tmp_path, words, "a.tsv")
    assert table["objID"].tolist() == [OBJID, "7"]
    assert table["z"].isna().tolist() == [False, True]


CDS = f"""Title: A table
================================================================================
Byte-by-byte Description of file: table.dat
--------------------------------------------------------------------------------
 Bytes Format Units  Label     Explanations
--------------------------------------------------------------------------------
 1-19  I19    ---    objID   Identifier
21-24  F4.2   ---    z       ?=9.99 Redshift
26-27  I2     ---    code    ? Class
29-47  I19    ---    other   ?=-1 Another identifier
49-52  A4     ---    bar     Bar
--------------------------------------------------------------------------------
{OBJID} 0.02 01 {OBJID} None
1237665024900858130 9.99                     -1 weak
1237665024900858131 0.04 02 1237665024900858132
"""


@pytest.mark.parametrize("name", ["a.mrt", "a.dat", "a.txt"])
def test_tables_of_cds_keep_every_sign(tmp_path, name):
    """Identifiers, codes with a zero in front, and the values that stand for an empty cell."""
    table = read(tmp_path, CDS, name, text_columns=["code", "bar"])
    assert table["objID"].tolist() == [str(int(OBJID) + index) for index in range(3)]
    assert table["code"].tolist() == ["01", "", "02"]
    assert table["bar"].tolist() == ["None", "weak", ""]
    assert table["z"].isna().tolist() == [False, True, False]
    assert table["other"].isna().tolist() == [False, True, False]
    assert table["other"].tolist()[2] == 1237665024900858132


def test_a_readme_describes_the_tables_beside_it(tmp_path):
    """Each by its name, or by a pattern; with names of the columns, it is not asked."""
    head, rows = CDS.rsplit("-" * 80 + "\n", 1)
    table, other = head.replace("table.dat", "table2.dat refs*.dat"), "1- 4 A4 --- name Name\n"
    rule = "-" * 80 + "\n"
    first = (
        f"Byte-by-byte Description of file: table1.dat\n{rule} Bytes Format\n{rule}{other}{rule}"
    )
    (tmp_path / "ReadMe").write_text(f"J/A+A/1/1\n\n{first}\n{table}{rule}\n(End)\n")
    for name in ("table2.dat", "refs7.dat"):
        (tmp_path / name).write_text(rows)
        found = read_table(tmp_path / name, "objID", ["code"])
        assert found["objID"].tolist() == [str(int(OBJID) + index) for index in range(3)]
        assert found["code"].tolist() == ["01", "", "02"]
    with pytest.raises(CatalogError, match="the first line looks like a galaxy"):
        read(tmp_path, "1 2\n3 4\n", "unknown.dat")
    names = ("objID", "z")
    assert len(read(tmp_path, "1 0.1\n3 0.4\n", "table2.dat", names=names)) == 2


def test_columns_of_fixed_width_may_hold_blanks(tmp_path):
    """A text of several words is one cell where the columns lie below each other."""
    words = (
        "objID  z     type\n"
        "a1     0.10  Compact, not star\n"
        "a2           E\n"
        "a3     0.25  late type\n"
    )  # fmt: skip
    table = read(tmp_path, words, "a.txt")
    assert table["type"].tolist() == ["Compact, not star", "E", "late type"]
    assert table["z"].tolist()[::2] == [0.1, 0.25]
    assert table["z"].isna().tolist() == [False, True, False]
    right = "  objID     z         type\n     a1   0.1  not a star\n    a22  0.25           E\n"
    assert read(tmp_path, right, "c.dat")["type"].tolist() == ["not a star", "E"]
    with pytest.raises(CatalogError, match="different numbers of cells, and columns that do not"):
        read(tmp_path, "objID z type\na1 0.1 late type\na2 E\nb33333 0.25 Sb\n", "b.txt")


def test_a_file_without_header_needs_names(tmp_path):
    """The line says what the first one looks like; names make a table of it."""
    words = "g00,0.68,0.68,smooth\ng01,0.7,0.1,disc\n"
    with pytest.raises(CatalogError) as caught:
        read(tmp_path, words)
    assert str(caught.value).endswith(
        "the first line looks like a galaxy, not like the names of columns: 'g00', '0.68', "
        "'0.68', 'smooth'; give the names in [catalog] names, or write them above it"
    )
    table = read(tmp_path, words, names=("objID", "p", "q", "type"))
    assert table["objID"].tolist() == ["g00", "g01"]
    assert table["type"].tolist() == ["smooth", "disc"]
    with pytest.raises(CatalogError, match=r"4 cells in the first line, and .* names has 2"):
        read(tmp_path, words, names=("objID", "type"))
    two = "# no names\ng00.fits Sd\ng01.fits Compact,-not-star\n"
    with pytest.raises(CatalogError, match=r"it has 'g00.fits', 'Sd'; if these are no names but"):
        read(tmp_path, two, "a.dat")
    table = read(tmp_path, two, "a.dat", names=("objID", "type"))
    assert table["type"].tolist() == ["Sd", "Compact,-not-star"]


def test_indices_that_pandas_wrote_get_names(tmp_path):
    """An index that was read and written again is there twice."""
    table = read(tmp_path, f",Unnamed: 0,objID,\n0,0,{OBJID},\n1,1,7,\n")
    assert table.columns.tolist() == ["Unnamed: 0.1", "Unnamed: 0", "objID", "Unnamed: 3"]
    table = read(tmp_path, f"Unnamed: 0,Unnamed: 0,objID\n0,0,{OBJID}\n", "b.csv")
    assert table.columns.tolist() == ["Unnamed: 0", "Unnamed: 0.1", "objID"]


def test_blanks_and_doubled_quotes_of_sparcfire(tmp_path):
    """Blanks after commas and behind texts are no part of them, and '' is nothing."""
    words = (
        "name, mask, axis , kind\n"
        f"{OBJID}, none , 1.5 , S-wise \n7,none ,'',Z-wise\n8, none ,2.5 , ''\n"
    )
    table = read(tmp_path, words, id_column="name", text_columns=["kind"])
    assert table["name"].tolist() == [OBJID, "7", "8"]
    assert table["mask"].tolist() == ["none"] * 3
    assert table["axis"].tolist()[::2] == [1.5, 2.5]
    assert table["axis"].isna().tolist() == [False, True, False]


def test_rows_of_another_length_are_left_out_and_named(tmp_path):
    """Each costs one galaxy; most of them, or an open quote, cost the catalog."""
    words = "objID,z\na,0.1\nb,0.2,5\nc\nd,0.4\ne,0.5\n"
    faults = {}
    table = read(tmp_path, words, faults=faults)
    assert table["objID"].tolist() == ["a", "", "", "d", "e"]
    assert table["z"].tolist()[3:] == [0.4, 0.5]
    assert faults == {
        2: "3 cells, expected 2 as in the header",
        3: "1 cell, expected 2 as in the header",
    }
    for bad, message in [
        (words, "row 2: 3 cells, expected 2 as in the header"),
        ("objID,z\na,0.1,2\nb,0.2,5\nd,0.4\n", "row 1: 3 cells, expected 2"),
        (f'{words}f,"0.1\ng,2\n', r"row 6: .*expected|close every quote"),
        (f"{words}f", "row 6: 1 cell, expected 2 as in the header; the file seems to be cut sh"),
    ]:
        with pytest.raises(CatalogError, match=message):
            read(tmp_path, bad, faults=None if bad == words else {})


@pytest.mark.parametrize("name", ["a.dat", "a.tsv"])
def test_one_bad_row_hides_no_delimiter(tmp_path, name):
    """The others tell how the cells are separated, and the bad one is left out."""
    mark = "\t" if name == "a.tsv" else " "
    lines = [f"g{index}{mark}0.{index}{mark}Sb" for index in range(20)]
    lines[7] += f"{mark}more"
    faults = {}
    header = mark.join(["objID", "redshift", "type"])
    table = read(tmp_path, "\n".join([header, *lines, ""]), name, faults=faults)
    assert faults == {8: "4 cells, expected 3 as in the header"}
    assert table["objID"].tolist() == [f"g{i}" if i != 7 else "" for i in range(20)]
    names = ("objID", "z", "type")
    found = read(tmp_path, "\n".join([*lines, ""]), name, names=names, faults=faults)
    assert found["z"].tolist()[6] == 0.6
    with pytest.raises(CatalogError, match=r"3 cells in the first line, and .* names has 4"):
        read(tmp_path, "\n".join([*lines, ""]), name, names=(*names, "more"))


def test_the_delimiter_is_the_one_that_shows_the_identifiers(tmp_path):
    """Decimal commas are as even as the semicolons between the columns."""
    table = read(tmp_path, "objID;z;w\na;0,1;2,5\nb;0,2;3,5\n", "a.txt")
    assert table["objID"].tolist() == ["a", "b"]
    assert table["z"].tolist() == ["0,1", "0,2"]


def test_what_is_said_of_no_galaxy_warns_of_nothing(tmp_path, caplog):
    """A plain file is read without a word."""
    caplog.set_level(logging.DEBUG)
    read(tmp_path, f"objID,z\n{OBJID},0.1\n")
    assert not caplog.records
