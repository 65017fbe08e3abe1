"""Queries: pages, the order of a sample, and answers."""

import csv
import re
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder
from scipy import stats

from galfig.errors import ConfigError
from galfig.survey.queries import (
    PRIME,
    Query,
    check_where,
    flatten,
    load_query,
    read_page,
    spread,
)
from galfig.survey.service import Answer, RefusedAnswerError


def test_the_default_query_has_the_cuts_of_wu_and_boada():
    """It is one statement in one line, with a name for each column."""
    query = load_query(None)
    assert "\n" not in query
    assert "--" not in query
    for cut in ("petroMag_r > 10", "petroMag_r < 18", "modelMag_u - g.modelMag_r > 0"):
        assert cut in query
    for cut in ("oh_p50 > 0", "s.z > 0.02", "s.rChi2 < 2", "s.zErr < 0.01"):
        assert cut in query
    names = re.findall(r"\w\.(\w+)", query.split(" FROM ")[0])
    assert len(set(map(str.lower, names))) == len(names) == 22


def test_the_order_of_a_sample_is_the_one_of_sql():
    """Python and a database compute the same, for the largest identifiers, too."""
    database = sqlite3.connect(":memory:")
    key = Query("x", n=5)._key
    for objid in (0, 1, 1237665024900858129, 2**62, 2**63 - 1, PRIME, PRIME - 1):
        (found,) = database.execute(f"SELECT {key} FROM (SELECT {objid} AS objID)").fetchone()
        assert found == spread(objid)
        # No product leaves 64 bits, where SQL Server would fail.
        assert objid % PRIME * 1_327_217_885 < 2**63


def test_a_sample_is_even_over_real_identifiers(real_data):
    """The places of 8000 real galaxies are uniform, and say nothing of their numbers."""
    with (real_data("sdss-many") / "catalog.csv").open() as file:
        ids = [int(row["objID"]) for row in csv.DictReader(file)]
    places = np.array([spread(objid) for objid in ids]) / PRIME
    assert stats.kstest(places, "uniform").pvalue > 0.001
    assert abs(stats.spearmanr(places, ids).statistic) < 0.04


def test_pages_go_on_where_the_last_ended():
    """By number, or by the place in the sample and then by number."""
    assert Query("Q").write_page(9, None) == "SELECT TOP 9 * FROM (Q) AS sample ORDER BY objID"
    assert " WHERE (z < 1) AND objID > 7 " in Query("Q", "z < 1").write_page(9, 7)
    page = Query("Q", n=5).write_page(5, 7)
    assert f"> {spread(7)} OR " in page
    assert "AND objID > 7)" in page


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("SELECT a -- b\n, c;\n", "SELECT a , c"),
        ("/* x\n y */ select 1 AS a", "select 1 AS a"),
        ("SELECT 'a -- b  c' AS x", "SELECT 'a -- b  c' AS x"),
        ("SELECT 'it''s; /* no */' AS x", "SELECT 'it''s; /* no */' AS x"),
        ("SELECT [a -- b] FROM t", "SELECT [a -- b] FROM t"),
        ("SELECT a FROM (SELECT TOP 5 * FROM t ORDER BY b) AS u", None),
    ],
)
def test_a_query_becomes_one_line(text, line):
    """Comments go, texts stay."""
    assert flatten(text, "x") == (text if line is None else line)


@pytest.mark.parametrize(
    "text", ["", "WITH a AS (SELECT 1) SELECT 2", "EXEC x", "SELECT 1; SELECT 2"]
)
def test_what_is_no_single_query_is_refused(text):
    """The message says what it becomes."""
    with pytest.raises(ConfigError, match="expected one query with SELECT; it becomes a table"):
        flatten(text, "x.sql")


def test_a_file_that_is_none(tmp_path):
    """Missing, or no text."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_query(tmp_path / "none.sql")
    (tmp_path / "a.sql").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        load_query(tmp_path / "a.sql")


@pytest.mark.parametrize("where", ["z < 1", "name = 'a;b -- c'", "(a OR b) AND c IN (1, 2)"])
def test_conditions(where):
    """What is one condition stays as it is."""
    assert check_where(where) == where


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"#Table1\nobjID,ra\n1,2\n3,4\n", [["1", "2"], ["3", "4"]]),
        (b"#Table1\r\nobjID,ra\r\n1,2\r\n", [["1", "2"]]),
        (b"\xef\xbb\xbf#Table1\nobjID,ra\n1, 2\n", [["1", "2"]]),
        (b"objID,ra\n1,2\n", [["1", "2"]]),
        (b"#Table1\nobjID,ra\n", []),
        (b"#Table1\n", []),
        (b"", []),
        (b"No objects have been found", []),
        # Perhaps torn: the second comes again with the next page.
        (b"#Table1\nobjID,ra\n1,2\n3,4", [["1", "2"]]),
        (b"#Table1\nobjID,ra\n1,2", [["1", "2"]]),
    ],
)
def test_pages_are_read(body, rows):
    """As SkyServer writes them, and as it may."""
    assert read_page(Answer("text/plain", body)).rows == rows


@pytest.mark.parametrize(
    ("body", "words", "is_final"),
    [
        (b"<html><title>Skyserver Error</title><b>Bad column</b></html>", "Bad column", True),
        (b"#Table1\nerror_message\nBad column\n", "Bad column", True),
        (b'{"ErrorCode": 500, "ErrorMessage": "Bad column"}', "Bad column", True),
        (b"<html>503 Service Unavailable</html>", "503 Service Unavailable", False),
        (b"Timeout expired", "Timeout expired", False),
        (b"#Table1\nobjID,ra\n1,2,3\n4,5\n", "row 1 of its table has 3 cells, expected 2", False),
    ],
)
def test_what_is_no_page_is_refused(body, words, is_final):
    """An error of SQL would come again; other pages may not."""
    with pytest.raises(RefusedAnswerError, match=words) as caught:
        read_page(Answer("text/plain", body))
    assert caught.value.is_final is is_final


def test_an_installed_galfig_brings_the_query(tmp_path):
    """The wheel holds the one copy of data/ beside the module that reads it."""
    root = Path(__file__).parents[2]
    (wheel,) = WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read("galfig/survey/wu-boada-2019.sql")
    assert packed == (root / "data" / "wu-boada-2019.sql").read_bytes()
    assert not (root / "galfig" / "survey" / "wu-boada-2019.sql").exists()


@pytest.mark.parametrize("cell", ["a" * 200_000, "\x1b[31mred", "\0", '"open'])
def test_a_cell_that_is_no_word_is_refused(cell):
    """Neither escapes of terminals nor endless cells reach the catalog."""
    table = f"#Table1\nobjID,ra,dec,name\n1,2,3,{cell}\n"
    with pytest.raises(RefusedAnswerError, match=r"expected plain text|no table of CSV"):
        read_page(Answer("text/plain", table.encode()))


@pytest.mark.parametrize(
    "words", ["name = '\udcff'", "name = '\x1b'", "z < 1 OR " * 5000 + "z < 2"]
)
def test_a_condition_that_no_record_could_keep_is_refused(words):
    """Bytes that are no text, escapes of terminals, and endless conditions."""
    with pytest.raises(ConfigError, match="expected one condition"):
        check_where(words)
