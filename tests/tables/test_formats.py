"""Tables: what astropy, pandas and pyarrow read back of each format."""

import csv
import json
import logging
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.io.votable import parse
from astropy.table import Table as AstropyTable
from astropy.units import UnitsWarning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from galfig.catalog.formats import read_table
from galfig.errors import OutputError
from galfig.tables.columns import Column, Table, make_distinct, name_in_ascii, read_cells
from galfig.tables.formats import SUFFIXES, check_table, write_table
from galfig.tables.images import Image

IDS = ["1237665024900858129", "1237665024900858130", "0042", "NGC 5194"]
# Quotation marks, separators, ends of lines, blanks, and what programs take for something else.
TEXTS = ['say "x", y', "tab\there", "", " padded "]
LETTERS = ["Übergang", "α–ω ☾", "10′ × 2″", "plain"]
FORMULAS = ["=1+1", "+HYPERLINK(1)", "-2", "@SUM(A1)"]
NUMBERS = np.array([1 / 3, np.nan, -1e-300, 2.5e12])
SHORT = np.array([0.1, np.nan, 1e-20, -12345.678], np.float32)
WHOLE = np.ma.MaskedArray([2**62 + 1, 999999, 0, -5], mask=[False, False, True, False])
COLUMNS = {
    "objid": Column(np.array(IDS, dtype=object), "identifier, as in the catalog"),
    "ra": Column(np.array([10.5, 200.25, 359.999999999, 0.0]), "right ascension", "deg"),
    "mass": Column(NUMBERS, "stellar mass", "log(solMass)"),
    "short": Column(SHORT, "flux $x^2$ with {braces} " + "and many words " * 12, "mJy"),
    "whole": Column(WHOLE, "a count"),
    "truth": Column(np.array([True, False, True, False]), "whether it is"),
    "text": Column(np.ma.MaskedArray(TEXTS, mask=[0, 0, 1, 0], dtype=object), "words"),
}
META = {"galfig_version": "0.1.0", "store": {"plan_digest": "ab" * 32}, "n": 4, "words": "Ü"}
TABLE = Table("Galaxies of a store", COLUMNS, META, "GALAXIES")
LETTER = st.characters(codec="utf-8", exclude_characters="\0")
PLAIN = [suffix for suffix in SUFFIXES if suffix != ".mrt"]


def write(folder, suffix, table=TABLE):
    path = folder / f"table{suffix}"
    write_table(path, table)
    return path


def read(path):
    """Read a table with astropy, text as str."""
    form = {".mrt": "ascii.mrt", ".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".xml": "votable"}
    with warnings.catch_warnings():
        # Units that are not of the standard of the format are kept all the same.
        warnings.simplefilter("ignore", UnitsWarning)
        warnings.filterwarnings("ignore", message=".*Invalid unit string.*")
        # By default, columns of VOTable have their IDs, in which names are changed.
        by_name = {"use_names_over_ids": True} if path.suffix in (".vot", ".xml") else {}
        found = AstropyTable.read(path, format=form.get(path.suffix), **by_name)
    found.convert_bytestring_to_unicode()
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_astropy_reads_every_number_again(tmp_path, suffix):
    """The same bits, and what was missing is missing."""
    found = read(write(tmp_path, suffix))
    assert [str(one) for one in found["objid"]] == IDS
    np.testing.assert_array_equal(found["ra"], COLUMNS["ra"].values)
    assert [str(one) == "True" for one in found["truth"]] == [True, False, True, False]
    numbers = np.ma.filled(np.ma.asarray(found["mass"], dtype=float), np.nan)
    np.testing.assert_array_equal(numbers, NUMBERS)
    short = np.ma.filled(np.ma.asarray(found["short"], dtype=np.float32), np.nan)
    np.testing.assert_array_equal(short, SHORT)
    if suffix == ".parquet":
        # The reader of astropy knows no missing integers; see the test of Arrow.
        return
    assert np.ma.getmaskarray(found["whole"]).tolist() == [False, False, True, False]
    assert [int(found["whole"][row]) for row in (0, 1, 3)] == [2**62 + 1, 999999, -5]


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".csv"])
def test_units_and_descriptions_are_in_the_file(tmp_path, suffix):
    """As given, also where a format does not know a unit; CSV has no place for them."""
    path = write(tmp_path, suffix)
    found = read(path)
    assert str(found["ra"].unit) == "deg"
    assert str(found["short"].unit) == "mJy"
    for name, column in COLUMNS.items():
        words = " ".join(str(found[name].description).split())
        # What may be missing has a mark in MRT.
        assert words.removeprefix("? ").startswith(column.description.strip()), name
    if suffix == ".mrt":
        assert "stellar mass [log(solMass)]" in path.read_text()
    else:
        assert str(found["mass"].unit) == "log(solMass)"


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".csv"])
def test_where_a_table_is_from_is_in_the_file(tmp_path, suffix):
    """What it was made from; MRT, which journals set, says only by what."""
    path = write(tmp_path, suffix)
    if suffix == ".fits":
        header = fits.getheader(path)
        assert (header["TITLE"], header["CREATOR"]) == ("Galaxies of a store", "galfig 0.1.0")
        words = "".join(header["HISTORY"])
        assert json.loads(words.removeprefix("galfig: ")) == META
    elif suffix == ".ecsv":
        assert AstropyTable.read(path).meta == {"title": TABLE.title, "galfig": META}
    elif suffix == ".parquet":
        metadata = parquet.read_schema(path).metadata
        assert metadata[b"title"].decode() == TABLE.title
        assert json.loads(metadata[b"galfig"]) == META
    elif suffix == ".mrt":
        assert path.read_text().startswith("Title: Galaxies of a store\nAuthors:\n")
        assert "Written by galfig 0.1.0" in path.read_text()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            resource = parse(path).resources[0]
        infos = {info.name: info.value for info in resource.infos}
        assert infos["creator"] == "galfig 0.1.0"
        assert json.loads(infos["galfig"]) == META
        assert resource.description == TABLE.title


@pytest.mark.parametrize("suffix", PLAIN)
@pytest.mark.parametrize("texts", [TEXTS, LETTERS, FORMULAS, ["a\nb", "c\r\nd", "\x1b[1m", "#"]])
def test_texts_stay_as_they_are(tmp_path, suffix, texts, caplog):
    """Marks, letters of any alphabet, what looks like a formula, and several lines."""
    columns = {"objid": COLUMNS["objid"], "text": Column(np.array(texts, dtype=object), "words")}
    path = write(tmp_path, suffix, Table("t", columns))
    if suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            found = [row["text"] for row in csv.DictReader(file)]
    elif suffix == ".parquet":
        found = parquet.read_table(path)["text"].to_pylist()
    else:
        found = ["" if one is np.ma.masked else str(one) for one in read(path)["text"]]
    expected = texts
    if suffix in (".vot", ".xml"):
        # XML has neither control characters nor other ends of lines than \n.
        expected = [text.replace("\r\n", "\n").replace("\x1b", "\\x1b") for text in texts]
    if suffix == ".fits":
        # FITS has no blanks at the end of text, and the readers of astropy none around it.
        expected = [text.rstrip(" ") for text in texts]
    elif suffix in (".vot", ".xml", ".ecsv"):
        expected = [text.replace("\r\n", "\n").strip(" ") for text in expected]
    assert found == expected


def test_pandas_reads_csv_and_parquet(tmp_path):
    """Identifiers of 19 digits stay exact, and missing integers do not round the others."""
    ids = Column(np.array(IDS[:2] * 2, dtype=object), "identifier")
    table = Table("t", {**COLUMNS, "objid": ids})
    found = pd.read_csv(write(tmp_path, ".csv", table))
    assert found["objid"].astype(str).tolist() == IDS[:2] * 2
    np.testing.assert_array_equal(found["mass"], NUMBERS)
    np.testing.assert_array_equal(found["short"].astype(np.float32), SHORT)
    assert found["text"].isna().tolist() == [False, False, True, False]
    exact = pd.read_csv(tmp_path / "table.csv", dtype={"objid": str, "whole": "Int64"})
    assert exact["objid"].tolist() == IDS[:2] * 2
    assert exact["whole"].tolist()[0] == 2**62 + 1
    found = pd.read_parquet(write(tmp_path, ".parquet", table), dtype_backend="numpy_nullable")
    assert found["objid"].tolist() == IDS[:2] * 2
    assert found["whole"].tolist()[:2] == [2**62 + 1, 999999]
    assert found["whole"].isna().tolist() == [False, False, True, False]
    assert found["truth"].tolist() == [True, False, True, False]


def test_arrow_reads_types_and_fields(tmp_path):
    """Numbers in their own type, NaN apart from null, units and descriptions of the fields."""
    found = parquet.read_table(write(tmp_path, ".parquet"))
    types = [str(field.type) for field in found.schema]
    assert types == ["string", "double", "double", "float", "int64", "bool", "string"]
    assert found["whole"].to_pylist() == [2**62 + 1, 999999, None, -5]
    assert found["text"].to_pylist() == [*TEXTS[:2], None, TEXTS[3]]
    assert found["mass"].null_count == 0
    field = found.schema.field("ra")
    assert field.metadata == {b"unit": b"deg", b"description": b"right ascension"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_galfig_reads_its_own_tables_as_catalogs(tmp_path, suffix):
    """Whoever edits a table can build a store from it."""
    found = read_table(write(tmp_path, suffix), "objid")
    assert found["objid"].tolist() == IDS
    assert found["ra"].astype(float).tolist() == COLUMNS["ra"].values.tolist()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_of_columns(tmp_path, suffix, caplog):
    """Of classes of any alphabet; FITS and MRT change them where they must, and say so."""
    names = ["objid", "p_Übergang", "p_a b", "z", "Z"]
    columns = {name: Column(COLUMNS["ra"].values, name) for name in names[1:]}
    columns = {"objid": COLUMNS["objid"], **columns}
    with caplog.at_level(logging.WARNING, "galfig"):
        found = read(write(tmp_path, suffix, Table("t", columns))).colnames
    if suffix == ".fits":
        assert found == ["objid", "p_Ubergang", "p_a b", "z", "Z_2"]
        assert "'p_Übergang', 'Z'" in caplog.text
    elif suffix == ".mrt":
        assert found == ["objid", "p_Ubergang", "p_a_b", "z", "Z_2"]
        assert "'p_Übergang', 'p_a b', 'Z'" in caplog.text
    else:
        assert found == names
        assert caplog.text == ""


def test_the_description_of_mrt_fits_its_lines(tmp_path):
    """As the journals want it: no line beyond 80 characters above the data, and ASCII."""
    path = write(tmp_path, ".mrt")
    head = path.read_text(encoding="ascii").rpartition("-" * 80)[0]
    assert max(map(len, head.split("\n"))) <= 80
    rows = path.read_text().rpartition("-" * 80)[2].strip("\n").split("\n")
    assert len(rows) == 4
    for words in ("F13.9 deg", "I19", "A19", "? stellar mass"):
        assert words in " ".join(head.split()), words


def test_text_that_mrt_cannot_hold_is_told(tmp_path, caplog):
    """Accents and ends of lines; a line of the log names the column."""
    columns = {"objid": COLUMNS["objid"], "text": Column(np.array(LETTERS, dtype=object), "w")}
    with caplog.at_level(logging.WARNING, "galfig"):
        path = write(tmp_path, ".mrt", Table("t", columns))
    found = [str(one) for one in read(path)["text"]]
    assert found == ["Ubergang", "___ _", "10_ _ 2__", "plain"]
    assert "text is ASCII in one line; changed in: 'text'" in caplog.text


def test_formulas_are_told(tmp_path, caplog):
    """They are not changed: a name that begins with + is a name. A number is none."""
    columns = {
        "name": Column(np.array(FORMULAS, dtype=object), "w"),
        "number": Column(np.array(["-1", "+2.5", "1e3", ""], dtype=object), "w"),
    }
    with caplog.at_level(logging.WARNING, "galfig"):
        write(tmp_path, ".csv", Table("t", columns))
    assert caplog.messages == ["CSV: spreadsheet programs may take text in it for formulas: 'name'"]


def test_names_of_columns_that_are_formulas_are_told(tmp_path, caplog):
    """They are in the first line of the file."""
    names = ["objid", "=cmd|x!A0", "@a", "-1", "a=b"]
    with caplog.at_level(logging.WARNING, "galfig"):
        write(tmp_path, ".csv", Table("t", {name: COLUMNS["ra"] for name in names}))
    words = "CSV: spreadsheet programs may take names of columns for formulas"
    assert caplog.messages == [f"{words}: '=cmd|x!A0', '@a'"]


def test_names_that_are_too_long_for_fits(tmp_path, caplog):
    """They are cut off, stay distinct, and the description begins with the full one."""
    long = ["x" * 68, "x" * 69, "x" * 255, "p_" + "é" * 253, "'" * 68]
    columns = {name: Column(np.arange(4.0) + at, "words") for at, name in enumerate(long)}
    with caplog.at_level(logging.WARNING, "galfig"):
        path = write(tmp_path, ".fits", Table("t", columns))
    with fits.open(path) as hdus:
        hdus.verify("exception")
        found, header = hdus[1].columns.names, hdus[1].header
        assert [float(hdus[1].data[name][0]) for name in found] == [0, 1, 2, 3, 4]
        assert len({name.casefold() for name in found}) == len(long)
        assert found[:3] == ["x" * 68, "x" * 66 + "_2", "x" * 66 + "_3"]
        assert all(len(name.replace("'", "''")) <= 68 for name in found)
        assert header["TCOMM1"] == "words"
        assert header["TCOMM3"] == f"{'x' * 255}: words"
        assert header["TCOMM4"] == f"p_{'e' * 253}: words"
    assert AstropyTable.read(path)[found[2]].description == f"{'x' * 255}: words"
    assert "names of columns have at most 68 characters" in caplog.text
    assert "'xxxx" in caplog.text


def test_fits_has_room_for_999_columns(tmp_path):
    """More are refused in one line; other formats take them."""
    columns = {f"c{number}": COLUMNS["ra"] for number in range(1000)}
    with pytest.raises(OutputError, match=r"t\.fits: 1000 columns, expected at most 999 in FITS"):
        write_table(tmp_path / "t.fits", Table("t", columns))
    assert not list(tmp_path.iterdir())
    write_table(tmp_path / "t.csv", Table("t", columns))
    columns.popitem()
    write_table(tmp_path / "t.fits", Table("t", columns))
    assert len(fits.getdata(tmp_path / "t.fits").names) == 999


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_without_rows_or_without_a_value(tmp_path, suffix):
    """A column of which nothing is known, and one galaxy."""
    columns = {
        "objid": Column(np.array(["a"], dtype=object), "identifier"),
        "x": Column(np.array([np.nan]), "unknown", "deg"),
        "n": Column(np.ma.MaskedArray([0], mask=[True]), "unknown"),
        "t": Column(np.ma.MaskedArray([""], mask=[True], dtype=object), "unknown"),
    }
    found = read(write(tmp_path, suffix, Table("t", columns)))
    assert len(found) == 1
    assert str(found["objid"][0]) == "a"
    assert np.isnan(np.ma.filled(np.ma.asarray(found["x"], dtype=float), np.nan)[0])


def test_words_that_look_like_records(tmp_path):
    """A name such as 'Unnamed: 158', which pandas gives, is no keyword of FITS with a number."""
    words = "Unnamed: 158"
    columns = {"objid": COLUMNS["objid"], words: Column(WHOLE, words, words)}
    image = Image("A", np.zeros((2, 3), np.float32), (("OBJECT", words, words),), 1)
    path = tmp_path / "t.fits"
    write_table(path, Table(words, columns), images=[image])
    found = read(path)
    assert found.colnames == ["objid", "Unnamed:158"]
    assert found["Unnamed:158"][1] == 999999
    assert found["Unnamed:158"].description == "Unnamed:158"
    assert fits.getheader(path, "A")["OBJECT"] == "Unnamed:158"
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        assert hdus["A"].data.shape == (2, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_runs_give_the_same_bytes(tmp_path, suffix):
    """No date, no random name, no name of the file in the file."""
    first, second = tmp_path / f"a{suffix}", tmp_path / "ö" / f"b{suffix}"
    for path in (first, second):
        write_table(path, TABLE)
    assert first.read_bytes() == second.read_bytes()
    assert b"updated" not in first.read_bytes()


def test_checksums_of_fits_are_right(tmp_path):
    """Of each HDU, as FITS checks them itself."""
    path = write(tmp_path, ".fits")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True) as hdus:
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "GALAXIES"]
            assert all("DATASUM" in hdu.header for hdu in hdus)
            hdus.verify("exception")


def test_other_suffixes_are_refused(tmp_path):
    """In one line, before anything is drawn; capitals do not matter."""
    for name in ("t.txt", "t", "t.xlsx", "t.fits.gz"):
        with pytest.raises(OutputError, match=r"suffix .* expected .fits, .csv, .ecsv, .vot"):
            check_table(tmp_path / name)
    for name in ("t.FITS", "t.fit", "t.pq", "t.votable", "t.XML"):
        check_table(tmp_path / name)
        write_table(tmp_path / name, TABLE)
    with pytest.raises(OutputError, match="already exists"):
        write_table(tmp_path / "t.pq", TABLE)


def test_halves_of_characters_are_written_as_codes():
    """A name of a file that is no UTF-8 comes as such; no format could hold it."""
    cells = read_cells(Column(np.array(["a\udcff", None], dtype=object), "w"))
    assert cells.values.tolist() == ["a\\udcff", ""]
    assert cells.is_missing.tolist() == [False, True]


def test_names_in_ascii():
    """Readable where letters have a relative, and never empty."""
    assert [name_in_ascii(text) for text in ("Ünïcode", "☾", "", "a\nb")] == [
        *("Unicode", "_", "_", "a_b")
    ]
    assert make_distinct(["z", "Z", "z_2", "Z"]) == ["z", "Z_2", "z_2_2", "Z_3"]


def test_no_table_needs_the_libraries_of_another(tmp_path):
    """CSV is written where astropy and pyarrow are slow to import."""
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from galfig.tables.columns import Column, Table\n"
        "from galfig.tables.formats import write_table\n"
        "write_table(Path(sys.argv[1]), Table('t', {'a': Column(np.arange(3), 'a')}))\n"
        "sys.exit('pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.csv")], check=False)
    assert done.returncode == 0


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.floats(allow_infinity=False), min_size=1, max_size=6),
    st.lists(st.floats(allow_infinity=False, width=32), min_size=6, max_size=6),
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=6, max_size=6
    ),
)
def test_any_numbers_and_texts(tmp_path_factory, numbers, short, texts):
    """Of any size and sign, and of any characters, as they are read from CSV, MRT and Parquet."""
    folder, n = tmp_path_factory.mktemp("t"), len(numbers)
    columns = {
        "a": Column(np.array(numbers), "numbers"),
        "b": Column(np.array(short[:n], np.float32), "numbers"),
        "c": Column(np.array(texts[:n], dtype=object), "texts"),
    }
    table = Table("t", columns)
    for suffix in (".csv", ".mrt", ".parquet"):
        write_table(folder / f"t{suffix}", table)
    found = parquet.read_table(folder / "t.parquet")
    np.testing.assert_array_equal(found["a"], numbers)
    np.testing.assert_array_equal(found["b"], np.array(short[:n], np.float32))
    assert found["c"].to_pylist() == texts[:n]
    with (folder / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_array_equal([float(row["a"] or "nan") for row in rows], numbers)
    assert [row["c"] for row in rows] == texts[:n]
    mrt = read(folder / "t.mrt")
    for name, expected in (("a", np.array(numbers)), ("b", columns["b"].values)):
        values = np.ma.filled(np.ma.asarray(mrt[name], dtype=expected.dtype), np.nan)
        np.testing.assert_array_equal(values, expected)
