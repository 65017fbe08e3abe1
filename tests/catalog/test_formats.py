"""Formats of a catalog: the same table from each, and damage in one line."""

import gzip
import os
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from samples import OBJID

from galfig.catalog.arrow import Wanted
from galfig.catalog.formats import read_file, read_table
from galfig.errors import CatalogError

SUFFIXES = (
    *(".csv", ".csv.gz", ".tsv", ".dat", ".txt", ".mrt", ".tbl", ".ecsv", ".vot", ".vot.gz"),
    *(".xml", ".fits", ".fits.gz", ".parquet", ".feather", ".arrow", ".h5"),
)


def write_table(path, ids, other, z, types):
    """Write a table of two columns of integers, one of numbers and one of text; None is empty."""
    suffix = "".join(path.suffixes).removesuffix(".gz")
    mask = [cell is None for cell in other]
    filled = [0 if cell is None else cell for cell in other]
    table = Table({"objID": np.array(ids)})
    table["other"] = MaskedColumn(filled, mask=mask, dtype=np.int64)
    table["z"] = MaskedColumn([0 if cell is None else cell for cell in z])
    table["z"].mask = [cell is None for cell in z]
    table["type"] = types
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    cells = list(zip(ids, other, z, types, strict=True))
    if suffix in (".csv", ".tsv", ".dat", ".txt"):
        mark, nothing = {".csv": (",", ""), ".tsv": ("\t", "")}.get(suffix, ("  ", "--"))
        lines = [["objID", "other", "z", "type"], *cells]
        words = [mark.join(nothing if c is None else str(c) for c in line) for line in lines]
        plain.write_text("# a catalog\n" * (suffix == ".dat") + "\n".join(words) + "\n")
    elif suffix in (".parquet", ".feather", ".arrow"):
        numbers = [np.nan if cell is None else cell for cell in z]
        columns = {"objID": ids, "other": pd.array(other, dtype="Int64"), "z": numbers}
        frame = pd.DataFrame({**columns, "type": types})
        if suffix == ".arrow":
            whole = pa.Table.from_pandas(frame)
            with pa.ipc.new_stream(plain, whole.schema) as stream:
                stream.write_table(whole)
        else:
            getattr(frame, f"to_{suffix[1:]}")(plain)
    elif suffix == ".h5":
        table.write(plain, path="galaxies", serialize_meta=True)
    elif suffix in (".vot", ".xml"):
        table.write(plain, format="votable")
    elif suffix in (".mrt", ".tbl"):
        table.write(plain, format={".mrt": "ascii.mrt", ".tbl": "ascii.ipac"}[suffix])
    else:
        table.write(plain)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.filterwarnings("ignore:Attribute `mask`:UserWarning")
def test_identifiers_are_exact_in_every_format(tmp_path, suffix):
    """19 digits come back as text from integers, beside integers of which one is masked."""
    path = tmp_path / f"catalog{suffix}"
    ids = [int(OBJID), int(OBJID) + 1, 7]
    types = ["Sb", "E", "Sb"]
    write_table(path, ids, [int(OBJID), None, 6], [0.1, None, 0.3], types)
    table = read_table(path, "objID")
    assert table["objID"].tolist() == [OBJID, str(int(OBJID) + 1), "7"]
    assert int(table["other"][0]) == int(OBJID)
    assert table["other"].isna().tolist() == [False, True, False]
    assert table["z"].isna().tolist() == [False, True, False]
    assert table["z"][0] == 0.1
    assert table["type"].tolist() == types


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.filterwarnings("ignore:Attribute `mask`:UserWarning")
def test_one_masked_identifier_rounds_no_other(tmp_path, suffix):
    """A column of identifiers with a gap is neither floats nor refused: the gap is empty."""
    path = tmp_path / f"catalog{suffix}"
    other = [int(OBJID), None, int(OBJID) + 2]
    write_table(path, [1, 2, 3], other, [0.1, 0.2, 0.3], ["Sb", "E", "Sb"])
    expected = [OBJID, "", str(int(OBJID) + 2)]
    found = read_table(path, "other")["other"].tolist()
    # Without columns of fixed width, only a sign can stand for an empty cell.
    assert found == [text or ("--" if suffix in (".dat", ".txt") else "") for text in expected]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.filterwarnings("ignore:Attribute `mask`:UserWarning")
def test_only_columns_that_are_asked_for(tmp_path, suffix):
    """In the order of the file, with the same cells as if all were read; a typo is an error."""
    path = tmp_path / f"catalog{suffix}"
    write_table(path, [int(OBJID), 7, 9], [1, None, 6], [0.1, None, 0.3], ["Sb", "E", "Sb"])
    whole = read_table(path, "objID")
    table = read_table(path, "objID", wanted=Wanted(("type", "other"), {"objID", "nosuch"}))
    pd.testing.assert_frame_equal(table, whole[["objID", "other", "type"]])
    with pytest.raises(CatalogError, match=r"no column 'typ', asked for .*; did you mean 'type'"):
        read_table(path, "objID", wanted=Wanted(("typ",), {"objID"}))
    with pytest.raises(CatalogError, match="no column 'ID', expected by"):
        read_table(path, "ID", wanted=Wanted((), {"ID", "type"}))


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".ecsv"])
def test_identifiers_may_be_text(tmp_path, suffix):
    """Text stays as it is, whether the format keeps it as bytes or as characters."""
    path = tmp_path / f"catalog{suffix}"
    # FITS knows the letters of ASCII alone.
    names = ["NA", "SDSS J0915+4419", "银河" if suffix != ".fits" else "Milky Way"]
    if suffix == ".parquet":
        pd.DataFrame({"objID": names}).to_parquet(path)
    else:
        Table({"objID": names}).write(path)
    assert read_table(path, "objID")["objID"].tolist() == names


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".fits", lambda words: words[:-2880]),
        (".fits", lambda words: words[:5000]),
        (".fits", lambda words: words.replace(b"TTYPE2  = 'z", b"TTYPE2  = #z")),
        (".fits.gz", lambda words: words[:-8] + bytes(8)),
        (".parquet", lambda words: words[:-20]),
        (".ecsv", lambda words: words[:60]),
    ],
    ids=["lost rows", "lost header", "bad card", "bad checksum", "lost footer", "lost columns"],
)
def test_damaged_files_are_one_line(tmp_path, suffix, damage):
    """A file cut short or spoilt is named, without the warnings of the library that reads it."""
    path = tmp_path / f"catalog{suffix}"
    columns = {"objID": np.arange(400) + int(OBJID), "z": np.linspace(0, 1, 400)}
    if suffix == ".parquet":
        pd.DataFrame(columns).to_parquet(path)
    else:
        Table(columns).write(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CatalogError, match="cannot be read") as caught:
        read_table(path, "objID")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        f"\ufeffobjID,z\n{OBJID},0.1\n",
        f"objID,z\r\n{OBJID},0.1\r\n",
        f"#Table1\nobjID,z\n{OBJID},0.1\n",
        f'"objID", "z"\n"{OBJID}" , 0.1\n',
    ],
    ids=["BOM", "CRLF", "SkyServer", "quotes and blanks"],
)
def test_csv_of_many_makers(tmp_path, words):
    """Byte-order marks, CRLF, SkyServer's first line, quotes and blanks change nothing."""
    (tmp_path / "a.csv").write_text(words, encoding="utf-8", newline="")
    table = read_table(tmp_path / "a.csv", "objID")
    assert table["objID"].tolist() == [OBJID]
    assert table["z"].tolist() == [0.1]


def test_galaxy_called_na_keeps_its_name(tmp_path):
    """What pandas would take for an empty cell is an identifier like any other."""
    (tmp_path / "a.csv").write_text("objID,z\nNA,1\nnull,NA\n")
    table = read_table(tmp_path / "a.csv", "objID")
    assert table["objID"].tolist() == ["NA", "null"]
    assert table["z"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "empty, expected a header line with column names"),
        ("objID\n", "no rows"),
        ("objID,z,z\n1,2,3\n", "two columns named 'z'"),
        ("objID,z\n1,2,3\n", "row 1: 3 cells, expected 2 as in the header"),
        ("objID,z\n1,2\n1,2,3,4\n", "row 2: 4 cells, expected 2 as in the header"),
        ("objID,z\n1,2\n3\n", "row 2: 1 cell, expected 2 as in the header"),
        ('objID,z\n"1,2\n', "row 1: 1 cell, expected 2 as in the header"),
        ("OBJID,z\n1,2\n", r"no column 'objID', expected by \[catalog\] id; did you mean 'OBJID'"),
        ("objId,z\n1,2\n", r"no column 'objID', expected by \[catalog\] id; did you mean 'objId'"),
    ],
)
def test_bad_csv_is_one_line(tmp_path, words, message):
    """Files that are no table, or not the table meant, say so in a line."""
    (tmp_path / "a.csv").write_text(words)
    with pytest.raises(CatalogError, match=message) as caught:
        read_table(tmp_path / "a.csv", "objID")
    assert "\n" not in str(caught.value)


def test_floating_identifiers_are_refused(tmp_path):
    """A float64 has lost the last digits already, wherever it comes from."""
    pd.DataFrame({"objID": [1.237665024900858e18]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(CatalogError, match="floating-point numbers"):
        read_table(tmp_path / "a.parquet", "objID")


def test_identifiers_may_be_the_index_of_parquet(tmp_path):
    """What pandas keeps as an index is a column like any other; a count of rows is none."""
    table = pd.DataFrame({"z": [0.1, 0.2]}, index=pd.Index([int(OBJID), 7], name="objID"))
    table.to_parquet(tmp_path / "a.parquet")
    read = read_table(tmp_path / "a.parquet", "objID")
    assert read["objID"].tolist() == [OBJID, "7"]
    table.reset_index().set_axis([5, 6]).to_parquet(tmp_path / "b.parquet")
    assert read_table(tmp_path / "b.parquet", "objID").columns.tolist() == ["objID", "z"]


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        ([[1, 2], [3]], r"array\(\[1, 2\]\)"),
        ([{"a": 1}, {"a": 2}], r"\{'a': 1\}"),
        ([b"\xff\xfe", b"ok"], r"b'\\xff\\xfe'"),
    ],
    ids=["list", "struct", "bytes"],
)
def test_nested_identifiers_are_refused(tmp_path, cells, shown):
    """A cell of Parquet may be a table of its own, or bytes of no alphabet."""
    pd.DataFrame({"objID": cells}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(CatalogError, match=f"row 1, column 'objID': {shown}, expected text"):
        read_table(tmp_path / "a.parquet", "objID")


def test_long_arrays_in_cells_are_left_out_with_a_warning(tmp_path, caplog):
    """A spectrum in each cell is no column of a flat table; that it goes is said."""
    columns = {"objID": [int(OBJID), 7], "flux": np.zeros((2, 4000)), "z": [0.1, 0.2]}
    Table(columns).write(tmp_path / "a.fits")
    assert read_table(tmp_path / "a.fits", "objID").columns.tolist() == ["objID", "z"]
    assert caplog.messages == [
        f"{tmp_path / 'a.fits'}: columns of long arrays, times or coordinates are left out: 'flux'"
    ]


def test_nul_in_a_text_is_refused(tmp_path):
    """The store cannot hold it, which is better known before hours of work than after."""
    (tmp_path / "a.csv").write_text("objID,note\n1,fine\n2,a\0b\n")
    with pytest.raises(
        CatalogError, match=r"row 2, column 'note': 'a\\x00b', expected text without NUL"
    ):
        read_table(tmp_path / "a.csv", "objID")


def test_columns_without_a_text_for_a_name_get_one(tmp_path):
    """A number is its digits and nothing is its place, so that the store can name each column."""
    table = pd.DataFrame({7: ["a"], 2020: [1.5]})
    table.to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", "7").columns.tolist() == ["7", "2020"]
    pd.DataFrame({"objID": ["a"], "": [2.5]}).to_parquet(tmp_path / "b.parquet")
    assert read_table(tmp_path / "b.parquet", "objID").columns.tolist() == ["objID", "Unnamed: 1"]
    (tmp_path / "c.csv").write_text(",objID \n0,a\n")
    assert read_table(tmp_path / "c.csv", "objID").columns.tolist() == ["Unnamed: 0", "objID"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_that_were_read_are_the_catalog(tmp_path, suffix):
    """A file that is replaced after it was read is not looked at again."""
    path = tmp_path / f"a{suffix}"
    write_table(path, [11, 12], [1, 2], [0.1, 0.2], ["first", "second"])
    data = read_file(path)
    path.write_bytes(b"something else")
    assert read_table(path, "objID", data=data)["type"].tolist() == ["first", "second"]


def read_whole_parquet(path, table, **options):
    """Write a table whose text cells are stored once each, and read it as a catalog."""
    pq.write_table(table, path, compression="zstd", **options)
    return read_table(path, "objID")


def test_parquet_that_decodes_to_more_than_the_memory(tmp_path, monkeypatch):
    """Rows that share one long text, and numbers that repeat, are counted before they are made."""
    monkeypatch.setattr("galfig.catalog.limits.find_memory", lambda: 8 * 10_000_000)
    path, n = tmp_path / "a.parquet", 20_000
    objid = pa.array([str(index) for index in range(n)])
    few = pa.table({"objID": objid, "note": pa.array(["x" * 10] * n)})
    assert len(read_whole_parquet(path, few)) == n
    lists = pa.table({"objID": objid, "note": [["a", "b"]] * n, "kind": pa.array(["E"] * n)})
    assert len(read_whole_parquet(path, lists)) == n
    text = pa.table({"objID": objid, "note": pa.array(["x" * 1000] * n)})
    numbers = pa.table({"objID": pa.array(["1"] * 2_000_000), "z": pa.array([0.1] * 2_000_000)})
    for table in (text, numbers):
        with pytest.raises(CatalogError, match=r"more than 0\.0 GB decoded, expected less"):
            read_whole_parquet(path, table)
        assert path.stat().st_size < 200_000


def test_gzip_that_unpacks_to_more_than_the_memory(tmp_path, monkeypatch):
    """The limit holds for the sum of all its streams; the streams themselves are all read."""
    monkeypatch.setattr("galfig.catalog.limits.find_memory", lambda: 8_000_000)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"objID\na\n") + gzip.compress(b"b\n") + bytes(512))
    assert read_table(path, "objID")["objID"].tolist() == ["a", "b"]
    for bomb in (gzip.compress(bytes(2_000_000)), gzip.compress(bytes(100_000)) * 20):
        path.write_bytes(bomb)
        with pytest.raises(CatalogError, match=r"more than 0\.0 GB unpacked, expected less"):
            read_table(path, "objID")
    path.write_bytes(gzip.compress(b"objID\na\n") + b"more")
    with pytest.raises(CatalogError, match="bytes behind the gzip data, expected none"):
        read_table(path, "objID")
    path.write_bytes(gzip.compress(b"objID\na\n")[:-3])
    with pytest.raises(CatalogError, match="gzip data that is truncated"):
        read_table(path, "objID")


def test_arrays_that_share_a_heap_are_counted(tmp_path, monkeypatch):
    """Each cell of a column of arrays may claim the whole heap of a FITS table."""
    path = tmp_path / "a.fits"
    arrays = np.array([np.arange(3, dtype=np.uint8), np.arange(4, dtype=np.uint8)], dtype=object)
    columns = [
        fits.Column("objID", "K", array=[1, 2]),
        fits.Column("spectrum", "PB()", array=arrays),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    assert read_table(path, "objID")["objID"].tolist() == ["1", "2"]
    data = path.read_bytes()
    claim = struct.pack(">ii", 3, 0)
    assert data.count(claim) == 1
    path.write_bytes(data.replace(claim, struct.pack(">ii", 1 << 30, 0)))
    monkeypatch.setattr("galfig.catalog.limits.find_memory", lambda: 8 << 30)
    with pytest.raises(CatalogError, match=r"more than 1\.1 GB in arrays of variable length"):
        read_table(path, "objID")


def test_names_and_cells_of_great_length_are_named(tmp_path):
    """A quote that is never closed, or another file under the catalog's name."""
    path = tmp_path / "a.csv"
    path.write_text(f"objID,{'n' * 1001}\n1,2\n")
    with pytest.raises(CatalogError, match=r"the name of a column, 'n+\.\.\., is longer"):
        read_table(path, "objID")
    path.write_text(f"objID,note\n1,\n2,{'x' * 200_000}\n")
    with pytest.raises(CatalogError, match="line 2 after the header: a cell of more than 131072"):
        read_table(path, "objID")
    columns = [f"column {index}" for index in range(3000)]
    path.write_text(f"objID,{','.join(columns)}\n1{',2' * 3000}\n")
    assert read_table(path, "objID").shape == (1, 3001)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "large"])
def test_what_is_no_catalog_file_is_refused_at_once(tmp_path, monkeypatch, kind):
    """Nothing is waited for, and no more is read than the memory holds."""
    path = tmp_path / "a.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(bytes(2000))
        monkeypatch.setattr("galfig.catalog.limits.find_memory", lambda: 8000)
    words = {"folder": "Is a directory", "large": "2.0 kB, expected at most 1.0 kB"}
    words = words.get(kind, f"a {'named pipe' if kind == 'pipe' else kind}, expected a regular")
    with pytest.raises(CatalogError, match=rf"a\.csv: cannot be read \({words}"):
        read_table(path, "objID")


def test_memory_that_runs_out_is_said(tmp_path, monkeypatch):
    """A reader that fails for want of memory does not make the file a bad one."""

    def fail(*args, **options):
        raise MemoryError

    (tmp_path / "a.csv").write_text("objID\n1\n")
    monkeypatch.setattr("pandas.read_csv", fail)
    with pytest.raises(CatalogError, match=r"a\.csv: cannot be read \(out of memory\)"):
        read_table(tmp_path / "a.csv", "objID")
