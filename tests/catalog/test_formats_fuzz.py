"""Catalogs as archives, spreadsheets and accidents make them: the right result, or one line."""

import csv
import datetime
import gzip
import io
import re
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from galfig.catalog.formats import read_table
from galfig.catalog.galaxies import Galaxies, load_galaxies
from galfig.config import load_settings
from galfig.errors import CatalogError

pytestmark = pytest.mark.faults

OBJID = 1237665024900858129


class Row(NamedTuple):
    """A galaxy as the file writes it, and what the numbers mean."""

    objid: str
    z: str
    oh: str
    redshift: float
    value: float
    has_image: bool


# Two galaxies of the low and two of the high class, which every table begins with.
KNOWN = [
    Row(str(OBJID + index), "0.05", oh, 0.05, float(oh), True)
    for index, oh in enumerate(["8.4", "9.2", "8.5", "9.25"])
]


@contextmanager
def make_catalog(words: bytes, suffix: str = ".csv", rows: Sequence[Row] = ()) -> Iterator[Path]:
    """Write a catalog beside the images of its galaxies, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for row in [*KNOWN, *rows]:
            if row.has_image:
                (images / f"{row.objid}.jpg").touch()
        path = Path(folder) / f"catalog{suffix}"
        path.write_bytes(words)
        yield path


def load(path: Path, **catalog: object) -> Galaxies:
    overrides = {("catalog", key): value for key, value in catalog.items()}
    return load_galaxies(load_settings(None, {("catalog", "path"): str(path), **overrides}))


def read_line(error: CatalogError, path: Path) -> str:
    """Return what an error says behind the path; it must be one line, and not a long one."""
    line = str(error)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert "\r" not in line
    assert len(line) < len(str(path)) + 1000
    return line.removeprefix(f"{path}: ")


def refuse(path: Path, **catalog: object) -> str:
    """Load a catalog that must be refused; return its line."""
    with pytest.raises(CatalogError) as caught:
        load(path, **catalog)
    return read_line(caught.value, path)


def count_rows(galaxies: Galaxies) -> int:
    """Add up what became of every row: here, rejected, or of a class that is not kept."""
    others = set(galaxies.class_counts) - set(galaxies.class_names)
    n_others = sum(galaxies.class_counts[name] for name in others)
    return len(galaxies) + len(galaxies.rejected) + n_others


def write_csv(rows: Sequence[Sequence[str]], **dialect: object) -> str:
    stream = io.StringIO()
    csv.writer(stream, **{"lineterminator": "\n", **dialect}).writerows(rows)
    return stream.getvalue()


def is_rounded(name: str) -> bool:
    """Say in the test's own words what a float or a spreadsheet makes of an identifier."""
    head, sign, tail = name.replace(",", "").lower().partition("e")
    is_number = re.fullmatch(r"[+-]?\d+(\.\d*)?", head) is not None
    if sign:
        return is_number and tail[:1] in ("+", "-")
    return is_number and ("," in name or re.search(r"\.0*$", head) is not None)


def has_letter(name: str) -> bool:
    """Say whether a name has a letter or a digit: punctuation and marks alone are no name."""
    return any(letter.isalnum() for letter in name)


# Pairs of what a cell says and what it means.
oh_numbers = st.floats(8, 9.4).map(lambda number: (repr(number), number))
numbers = st.one_of(
    oh_numbers,
    st.floats().map(lambda number: (repr(number), number)),
    st.integers(-(10**25), 10**25).map(lambda number: (str(number), float(number))),
    st.tuples(
        st.sampled_from(["%.3e", "%+.17G", "%015.4f", " %g ", "%.40f"]), st.floats(-1e4, 1e4)
    ).map(lambda pair: (pair[0] % pair[1], float(pair[0] % pair[1]))),
    st.sampled_from(["", " ", "NA", "nan", "NaN", "null", "--"]).map(lambda text: (text, np.nan)),
    st.sampled_from([("1e400", np.inf), ("-Infinity", -np.inf), (".5", 0.5), ("5.", 5.0)]),
)
letters = st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\")
plain_ids = st.one_of(
    st.integers(10**17, 10**19).map(str),
    st.text(letters, min_size=1, max_size=20),
    st.sampled_from(
        [
            *("SDSS J0915+4419", "NA", "nan", "con", "-1", "--help", "007", "#7", "a,b", 'say "a"'),
            *("é", "שלום", "银河", "x" * 250, "é" * 120, "1e10", "12.5", "C:x", "{objID}", "=1+1"),
        ]
    ),
).filter(
    lambda name: ".." not in name and name != "." and not is_rounded(name) and has_letter(name)
)


@st.composite
def right_rows(draw: st.DrawFn) -> list[Row]:
    """Draw galaxies, each identifier once, the known ones first."""
    drawn = draw(st.lists(st.tuples(plain_ids, numbers, numbers, st.booleans()), max_size=8))
    rows = {row.objid: row for row in KNOWN}
    for objid, (z, redshift), (oh, value), has_image in drawn:
        key = unicodedata.normalize("NFC", objid)
        rows.setdefault(key, Row(objid, z, oh, redshift, value, has_image))
    return list(rows.values())


@st.composite
def csv_files(draw: st.DrawFn, rows: Sequence[Sequence[str]]) -> tuple[bytes, str]:
    """Draw the bytes and the suffix of a CSV file as one program or another writes it."""
    # Python quotes an end of line within a cell only where it is the one that it writes.
    is_quoted = draw(st.booleans()) or any("\n" in c or "\r" in c for row in rows for c in row)
    words = write_csv(
        rows,
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        quoting=csv.QUOTE_ALL if is_quoted else csv.QUOTE_MINIMAL,
    )
    if draw(st.booleans()):
        words = words.rstrip("\r\n")
    words = draw(st.sampled_from(["", "#Table1\n", "# it's \"5\n#\n", "\n\n"])) + words
    data = words.encode(draw(st.sampled_from(["utf-8", "utf-8-sig"])))
    return (gzip.compress(data), ".csv.gz") if draw(st.booleans()) else (data, ".csv")


def check_right(galaxies: Galaxies, rows: Sequence[Row]) -> None:
    """Assert that each row is where it belongs, with the numbers it means."""
    assert count_rows(galaxies) == len(rows)
    assert len(galaxies.in_valid) == len(galaxies.label) == len(galaxies)
    place = {objid: index for index, objid in enumerate(galaxies.objid)}
    for row in rows:
        is_low, is_high = 8.1 < row.value <= 8.7, 9.1 < row.value <= 9.3
        if (is_low or is_high) and row.has_image:
            index = place.pop(row.objid)
            has_redshift = -0.01 <= row.redshift <= 20
            expected = row.redshift if has_redshift else np.nan
            np.testing.assert_array_equal(galaxies.redshift[index], expected)
            assert galaxies.value[index] == row.value
            assert galaxies.label[index] == int(is_high)
            assert galaxies.paths[index].is_file()
        elif is_low or is_high:
            assert galaxies.rejected[row.objid].startswith("no image ")
        elif not 8.7 < row.value <= 9.1:
            reason = "no oh_p50" if np.isnan(row.value) else f"oh_p50 = {row.value:g} outside"
            assert galaxies.rejected[row.objid].startswith(reason)
    assert not place


def test_right_csv_is_read_exactly(campaign):
    """Every id to the last digit, every number to the last bit, and every row accounted for."""

    @tries(max_examples=campaign.n(100, 1200), deadline=None, derandomize=True)
    @given(right_rows(), st.data())
    def read(rows, data):
        header = ("objID", "z", "oh_p50")
        words, suffix = data.draw(csv_files([header, *(row[:3] for row in rows)]))
        with (
            campaign.trial("table: right, oddly written"),
            make_catalog(words, suffix, rows) as path,
        ):
            table = read_table(path, "objID")
            assert table["objID"].tolist() == [row.objid for row in rows]
            check_right(load(path), rows)

    read()


bad_ids = st.one_of(
    st.sampled_from(
        [
            *("../x", "..", ".", "a/b", "/etc/passwd", "C:\\x", "a\0", "a\nb", "a\rb", "a\u200bb"),
            *("\u202ea", "a\u00a0b", "a\ufeff", "x" * 256, "é" * 128, "x" * 100_000),
        ]
    ),
    st.text(min_size=1, max_size=9).map(lambda text: f"{text}/x"),
    st.sampled_from(["1237665024900858129.0", "1.23765E+18", "1,237665E+18", "1.2376650249e+18"]),
    st.sampled_from(["123.", "123.00", "1,237,665,024,900,858,129", "-1e+05"]),
    st.floats(1e17, 1e20).map(lambda number: f"{number:.10e}"),
    st.integers(2**53, 2**63).map(lambda number: str(float(number))),
    st.sampled_from(["", " ", "\t", KNOWN[0].objid, f" {KNOWN[0].objid} "]),
).filter(lambda text: not any(0xD800 <= ord(sign) <= 0xDFFF for sign in text))
bad_numbers = st.one_of(
    st.sampled_from(
        ["1,234.5", "0,05", "high", "8.9?", "1_000", "٨.٩", "0x10", "8.9 dex", "<8.9", "1e"]
    ),
    st.sampled_from(
        ["True", "2020-01-01", "1+1j", "8..9", "--8", "[8.9]", "\0", "8.9\n9.1", "8.9" * 9999]
    ),
)


def test_bad_cells_leave_out_their_rows_alone(campaign):
    """A cell that cannot be what its column is for costs its galaxy, or only its redshift."""

    @tries(max_examples=campaign.n(80, 1000), deadline=None, derandomize=True)
    @given(right_rows(), st.data())
    def spoil(rows, data):
        column = data.draw(st.integers(0, 2))
        place = data.draw(st.integers(1, len(rows) - 1))
        cells = [list(row[:3]) for row in rows]
        cells[place][column] = data.draw(bad_numbers if column else bad_ids)
        words, suffix = data.draw(csv_files([("objID", "z", "oh_p50"), *cells]))
        with campaign.trial("table: one bad cell"), make_catalog(words, suffix, rows) as path:
            try:
                galaxies = load(path)
            except CatalogError as exc:
                # Where most numbers of a column are none, or a class is left without galaxies.
                read_line(exc, path)
                return
            assert count_rows(galaxies) == len(rows)
            assert len(dict.fromkeys(galaxies.objid)) == len(galaxies)
            if column == 0:
                key = f"row {place + 1}"
                reason = galaxies.rejected[key]
                assert "objID" in reason or "NUL" in reason or reason.startswith("the same as ")
                assert len(reason) < 400
            elif column == 2 or "\0" in cells[place][column]:
                assert {rows[place].objid, f"row {place + 1}"} & set(galaxies.rejected)
            elif rows[place].objid in galaxies.objid:
                assert np.isnan(galaxies.redshift[galaxies.objid == rows[place].objid]).all()

    spoil()


def double_column(words: str) -> bytes:
    return words.replace("oh_p50", "z", 1).encode()


SPOILT = {
    "empty": (lambda _: b"", "empty, expected a header line"),
    "blank": (lambda _: b" \n\r\n\t\n", "empty, expected a header line"),
    "only a comment": (lambda _: b"#Table1\n", "empty, expected a header line"),
    "header only": (lambda words: words.splitlines()[0].encode(), "no rows, expected"),
    "doubled column": (double_column, "two columns named 'z', expected each name once"),
    "semicolons": (
        lambda words: words.replace(",", ";").encode(),
        "one column 'objID;z;oh_p50', expected commas between columns, not ';'",
    ),
    "tabs": (
        lambda words: words.replace(",", "\t").encode(),
        r"one column 'objID\tz\toh_p50', expected commas between columns, not '\t'",
    ),
    "blanks": (
        lambda words: words.replace(",", " ").encode(),
        "one column 'objID z oh_p50', expected commas between columns, not ' '",
    ),
    "UTF-16": (lambda words: words.encode("utf-16"), "line 1 is not UTF-8, expected"),
    "UTF-16, no mark": (
        lambda words: words.encode("utf-16-le"),
        "NUL bytes in column names",
    ),
    "Latin-1": (
        lambda words: (words + "5,é,8.9\n").encode("latin-1"),
        "line 6 is not UTF-8, expected comma-separated",
    ),
    "PNG": (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "line 1 is not UTF-8"),
    "gzip": (lambda words: gzip.compress(words.encode()), "line 1 is not UTF-8"),
    "zeros": (lambda _: bytes(5000), "NUL bytes in column names"),
    "long rows": (
        lambda words: words.replace("\n", ",8\n").replace("50,8\n", "50\n").encode(),
        "row 1: 4 cells, expected 3",
    ),
    "short rows": (lambda words: (words + "5,6\n" * 5).encode(), "row 5: 2 cells, expected 3"),
    "cut short": (lambda words: words.encode()[:-12], "row 4: 1 cell, expected 3"),
    "open quote": (lambda words: f'{words}"5,6,7\n'.encode(), "row 5: 1 cell, expected 3"),
    "rounded ids": (
        lambda words: re.sub(r"\d{4},", "0000,", words, count=0).encode(),
        "no galaxy is left, expected at least one; 4 left out, first: objID '1237665024900850000' "
        "is also in row 2",
    ),
    "no header": (
        lambda words: words.split("\n", 1)[1].encode(),
        "the first line looks like a galaxy, not like the names of columns: '1237665024900858129'",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_bad_csv_files_say_what_they_are(campaign, kind):
    """Each way not to be a CSV file with commas has a line of its own."""
    spoil, line = SPOILT[kind]
    words = write_csv([("objID", "z", "oh_p50"), *(row[:3] for row in KNOWN)])
    with campaign.trial("table: not a CSV file"), make_catalog(spoil(words)) as path:
        assert refuse(path).startswith(line)


def write_binary(columns: dict[str, object], suffix: str) -> bytes:
    """Write columns in a format of typed columns, or as text; None stands for an empty cell."""
    if suffix in (".parquet", ".feather"):
        stream = io.BytesIO()
        getattr(pd.DataFrame(columns), f"to_{suffix[1:]}")(stream)
        return stream.getvalue()
    table = Table()
    for name, cells in columns.items():
        kind = getattr(cells, "dtype", None)
        if isinstance(kind, pd.Int64Dtype | pd.UInt64Dtype):
            dtype = kind.numpy_dtype
            table[name] = MaskedColumn(cells.to_numpy(dtype, na_value=0), mask=cells.isna())
        else:
            table[name] = cells
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        form = {".vot": "votable", ".dat": "ascii.basic", ".tsv": "ascii.tab", ".h5": "hdf5"}
        form |= {".mrt": "ascii.mrt", ".tbl": "ascii.ipac"}
        options = {"path": "galaxies", "serialize_meta": True} if suffix == ".h5" else {}
        table.write(path, **options, **({"format": form[suffix]} if suffix in form else {}))
        return path.read_bytes()


@st.composite
def typed_ids(draw: st.DrawFn, suffix: str) -> tuple[object, list[str]]:
    """Draw a column of identifiers by one type or another, and the text that they are."""
    # VOTable has no unsigned integers of 64 bits.
    kind = draw(st.sampled_from(["Int64", "text"] + ["UInt64"] * (suffix != ".vot")))
    top = {"Int64": 2**63 - 1, "UInt64": 2**64 - 1, "text": 10**30}[kind]
    drawn = draw(st.lists(st.integers(2**53, top), max_size=6, unique=True))
    texts = list(dict.fromkeys([row.objid for row in KNOWN] + [str(number) for number in drawn]))
    if kind == "text":
        return np.array(texts), texts
    # Of a list, pandas would take the larger numbers through float64.
    whole = np.array([int(text) for text in texts], dtype=kind.lower())
    return pd.array(whole, dtype=kind), texts


@pytest.mark.parametrize(
    "suffix", [".parquet", ".feather", ".fits", ".fits.gz", ".ecsv", ".vot", ".h5"]
)
def test_right_typed_tables_are_read_exactly(campaign, suffix):
    """Integers of 64 bits, signed or not, text and masked cells, by whichever format."""

    @tries(max_examples=campaign.n(20, 150), deadline=None, derandomize=True)
    @given(typed_ids(suffix), st.data())
    def read(ids, data):
        column, texts = ids
        values = data.draw(st.lists(st.floats(), min_size=len(texts), max_size=len(texts)))
        values[:4] = [row.value for row in KNOWN]
        masked = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
        flags = pd.array([None if mask else OBJID for mask in masked], dtype="Int64")
        words = write_binary({"objID": column, "oh_p50": values, "flag": flags}, suffix)
        rows = [
            Row(text, "", "", np.nan, value, text in [row.objid for row in KNOWN])
            for text, value in zip(texts, values, strict=True)
        ]
        with campaign.trial(f"table: right {suffix}"), make_catalog(words, suffix) as path:
            table = read_table(path, "objID")
            assert table["objID"].tolist() == texts
            assert table["flag"].isna().tolist() == masked
            assert set(table["flag"].dropna()) <= {OBJID}
            check_right(load(path), rows)

    read()


_DAY = datetime.datetime(2020, 1, 1)
ODD_TYPES = {
    "list": pa.array([[1], [2, 3], [], None]),
    "struct": pa.array([{"a": 1}, {"a": 2}, None, {"a": 4}]),
    "map": pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64())),
    "bytes": pa.array([b"a", b"\xff\xfe", b"", None]),
    "bool": pa.array([True, False, None, True]),
    "date": pa.array([_DAY.date(), None, datetime.date(9999, 12, 31), datetime.date(1, 1, 1)]),
    "time": pa.array([datetime.time(1, 2), None, datetime.time(3), datetime.time(4)]),
    "timestamp": pa.array([_DAY, None, _DAY, datetime.datetime(9999, 12, 31)], pa.timestamp("s")),
    "duration": pa.array([1, 2, None, 2**62], pa.duration("s")),
    "decimal": pa.array([Decimal("8.4"), None, Decimal("9.2"), Decimal("12345678901234567890.5")]),
    "half float": pa.array(np.array([8.4, 9.2, np.nan, np.inf], np.float16)),
    "null": pa.nulls(4),
    "category": pa.array(["8.4", "9.2", None, "8.4"]).dictionary_encode(),
    "category of numbers": pa.array([8.4, 9.2, None, 8.4]).dictionary_encode(),
    "large text": pa.array(["8.4", "9.2", None, "é"], pa.large_string()),
    "int8": pa.array([1, None, 3, -4], pa.int8()),
    "uint64": pa.array([2**64 - 1, 2**63, None, 9], pa.uint64()),
}


@pytest.mark.parametrize("kind", ODD_TYPES)
def test_no_type_brings_more_than_a_line(campaign, kind):
    """Whatever the type of a column of Parquet: each galaxy accounted for, or its column named."""
    right = {
        "objID": pa.array([row.objid for row in KNOWN]),
        "z": pa.array([row.redshift for row in KNOWN]),
        "oh_p50": pa.array([row.value for row in KNOWN]),
        "type": pa.array(["E", "Sb", "E", "Sb"]),
        "part": pa.array(["train", "valid"] * 2),
    }
    roles = {
        "objID": {},
        "z": {},
        "oh_p50": {},
        "type": {("classes", "column"): "type"},
        "part": {("split", "column"): "part"},
        "scale": {("catalog", "pixel_scale"): "scale"},
        "folder": {("catalog", "images"): "images/{folder}{objID}.jpg"},
        "note": {},
    }
    for role, overrides in roles.items():
        stream = io.BytesIO()
        pq.write_table(pa.table({**right, role: ODD_TYPES[kind]}), stream)
        with (
            campaign.trial("table: odd types, .parquet"),
            make_catalog(stream.getvalue(), ".parquet") as path,
        ):
            try:
                galaxies = load_galaxies(
                    load_settings(None, {("catalog", "path"): str(path), **overrides})
                )
            except CatalogError as exc:
                if "no images found" not in str(exc):
                    line = read_line(exc, path)
                    assert f"column {role!r}" in line or "left out, first: " in line
                assert role != "note"
            else:
                assert count_rows(galaxies) == len(KNOWN)


WHOLE = write_csv([("objID", "z", "oh_p50"), *(row[:3] for row in KNOWN)]).encode()


@pytest.fixture(scope="module")
def whole_files():
    """Give a right file of each format."""
    columns = {
        "objID": pd.array([int(row.objid) for row in KNOWN], dtype="Int64"),
        "z": [row.redshift for row in KNOWN],
        "oh_p50": [row.value for row in KNOWN],
        "type": ["E", "Sb", "", "Sc"],
    }
    return {
        ".csv": WHOLE,
        ".csv.gz": gzip.compress(WHOLE),
        **{s: write_binary(columns, s) for s in (".parquet", ".feather", ".fits", ".fits.gz")},
        **{s: write_binary(columns, s) for s in (".ecsv", ".vot", ".h5")},
        **{s: write_binary(columns, s) for s in (".dat", ".tsv", ".mrt", ".tbl")},
    }


@st.composite
def damages(draw: st.DrawFn, words: bytes) -> bytes:
    """Draw what is left of a file after bytes were lost, doubled, overwritten or put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(words)))
        stop = start + draw(st.sampled_from([0, 1, 1, 2, 8, 80, 2880]))
        alien = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    [b"", b",", b'"', b"\n", b"\r", b"\0", b"#", b"\xef\xbb\xbf", b"nan"]
                ),
                st.just(words[start:stop] * 2),
            )
        )
        words = words[:start] + alien + words[stop:]
    return words


@pytest.mark.parametrize(
    "suffix",
    [
        *(".csv", ".csv.gz", ".tsv", ".dat", ".mrt", ".tbl", ".ecsv", ".vot"),
        *(".fits", ".fits.gz", ".parquet", ".feather", ".h5"),
    ],
)
def test_no_bytes_bring_more_than_a_line(campaign, whole_files, suffix):
    """Whatever the bytes: galaxies that are all accounted for, or a line that names the file."""

    @tries(max_examples=campaign.n(50, 500), deadline=None, derandomize=True)
    @given(st.one_of(damages(whole_files[suffix]), st.binary(max_size=200)))
    def try_bytes(words):
        with campaign.trial(f"table: any bytes, {suffix}"), make_catalog(words, suffix) as path:
            try:
                galaxies = load(path)
            except CatalogError as exc:
                # Where the ids are damaged, it is their images that are said to be missing.
                if "no images found" not in str(exc):
                    read_line(exc, path)
            else:
                assert count_rows(galaxies) == len(read_table(path, "objID", faults={}))

    try_bytes()


def test_a_million_rows(campaign, tmp_path):
    """A survey's catalog of which a handful has images: seconds, and every row accounted for."""
    n = campaign.n(20_000, 1_000_000)
    rng = np.random.default_rng(0)
    objid = OBJID + 37 * np.arange(n)
    # Written by hand: to_csv takes longer than what is tested.
    cells = zip(objid, rng.uniform(0, 0.3, n), rng.normal(8.9, 0.3, n), strict=True)
    path = tmp_path / "catalog.csv"
    path.write_text("objID,z,oh_p50\n" + "".join(f"{a},{b:.5f},{c:.3f}\n" for a, b, c in cells))
    (tmp_path / "images").mkdir()
    for name in objid[:50]:
        (tmp_path / "images" / f"{name}.jpg").touch()
    with campaign.trial("table: a million rows"):
        start = time.perf_counter()
        galaxies = load(path)
        assert time.perf_counter() - start < 3 + 60e-6 * n
        assert 10 < len(galaxies) <= 50
        assert set(galaxies.objid) <= set(objid[:50].astype(str))
        assert count_rows(galaxies) == n
        assert galaxies.table["objID"].tolist() == galaxies.objid.tolist()
