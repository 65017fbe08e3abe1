"""The report of a catalog in a terminal: 80 columns, bars that do not lie, nothing that acts."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from galfig.catalog.check import check_catalog
from galfig.catalog.sample import simulate
from galfig.catalog.terminal import make_ascii
from galfig.runtime.messages import WIDTH, find_unprintable

EIGHTHS = " ▏▎▍▌▋▊▉█"
BAR = re.compile(r"([▏▎▍▌▋▊▉█]+)")


def read(folder):
    return pd.read_csv(folder / "catalog.csv", dtype={"objID": str})


def measure(line):
    """Return the length of the bar in a line, in columns."""
    found = BAR.search(line)
    return sum(EIGHTHS.index(one) for one in found[1]) / 8 if found else 0


@pytest.mark.parametrize("n", [24, 400, 12345])
def test_bars_are_as_long_as_their_counts(galaxy_folder, n):
    """From zero, in eighths of a column of a whole number of rows; the longest fits the line."""
    values = np.random.default_rng(n).normal(8.8, 0.2, n).round(4)
    table = pd.DataFrame({"objID": range(10, n + 10), "oh_p50": values, "z": 0.1})
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    check = check_catalog(galaxy_folder / "catalog.csv")
    lines = str(check).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("oh_p50: each █ is "))
    each = int(re.search(r"is (\d+) row", lines[start])[1])
    assert str(each)[0] in "125"
    assert set(str(each)[1:]) <= {"0"}
    bars = [line for line in lines[start + 1 :] if re.match(r" +[\d.]+ to ", line)][:12]
    counts = [int(line.split()[3]) for line in bars]
    assert counts == list(check.histogram.counts)
    for line, count in zip(bars, counts, strict=True):
        length = measure(line)
        assert abs(length - count / each) <= 1 / 8
        assert (length > 0) == (count > 0)
    assert max(map(len, lines[1:-1])) <= WIDTH
    assert each == 1 or max(counts) / each > 12
    # Names stand where a class begins.
    assert [line.split()[-1] for line in bars if line[-1].isalpha()] == ["low", "kept", "high"]


def test_a_class_of_one_galaxy_is_seen_beside_a_large_one(galaxy_folder):
    """A bar too short for an eighth is one eighth, and the count stands beside it."""
    kinds = ["elliptical"] * 5000 + ["ring"]
    table = pd.DataFrame({"objID": range(10, 5011), "kind": kinds})
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    check = check_catalog(galaxy_folder / "catalog.csv", settings={"classes": {"column": "kind"}})
    line = next(one for one in str(check).splitlines() if one.split()[:1] == ["ring"])
    assert measure(line) == 1 / 8
    assert line.split()[1] == "1"


def test_a_report_fits_a_terminal(galaxy_folder):
    """Long names and values are cut, and many columns and classes are counted."""
    table = read(galaxy_folder)
    table = table.assign(**{f"a column with a long name {i}": f"word {i} " * 20 for i in range(99)})
    table["kind"] = [f"a class with a name that is much too long {i % 12}" for i in range(24)]
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    check = check_catalog(galaxy_folder / "catalog.csv", settings={"classes": {"column": "kind"}})
    lines = str(check).splitlines()
    assert [line for line in lines[1:-1] if len(line) > WIDTH] == []
    assert "  and 73 more, kept in the store" in lines
    assert len(check.columns) == 103


def test_no_text_of_a_table_acts_on_the_terminal(galaxy_folder):
    """Escapes, line breaks and bidirectional marks, in names, cells, classes and identifiers."""
    bad = "\x1b]0;title\x07\x9b2J\u202e\r\n"
    table = read(galaxy_folder)
    table[f"col{bad}"] = f"cell{bad}"
    table["kind"] = [f"one{bad}", "two"] * 12
    table.loc[3, "objID"] = f"12{bad}"
    table.to_csv(galaxy_folder / f"cat{bad}.csv", index=False)
    for column in ("kind", "none"):
        check = check_catalog(
            galaxy_folder / f"cat{bad}.csv", settings={"classes": {"column": column}}
        )
        assert len(check.columns) == 5
        assert check.refusal
        for words in (*str(check).split("\n"), *repr(check).split("\n")):
            assert find_unprintable(words) == "", ascii(words)
    assert "<pre>" in check._repr_html_()


def test_notebooks_show_text_and_no_markup(galaxy_folder):
    """A name of a column is no HTML."""
    table = read(galaxy_folder).assign(**{"<script>": 1})
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    shown = check_catalog(galaxy_folder / "catalog.csv")._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown


def test_terminals_without_blocks_have_bars(galaxy_folder):
    """Of ASCII."""
    words = make_ascii(str(check_catalog(galaxy_folder / "catalog.csv")))
    assert words.isascii()
    assert "each # is 1 row" in words
    assert re.search(r"\d  #+", words)


def test_the_report_of_the_documentation_is_a_real_one(tmp_path, monkeypatch):
    """Line by line, but for the columns that are left out there."""
    monkeypatch.chdir(tmp_path)
    words = (Path(__file__).parents[2] / "docs" / "catalogs.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(sky/catalog\.csv: .*?)```", words, flags=re.DOTALL)
    before, after = (part.strip().splitlines() for part in shown.split("  …\n"))
    simulate("sky", 100)
    lines = str(check_catalog("sky/catalog.csv", decode="all")).split("\n")
    assert lines[: len(before)] == before
    assert lines[-len(after) :] == after
