"""All figures: written with caption, alternative text and table; names; what they need."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from click.testing import CliRunner
from pypdf import PdfReader
from samples import write_small_audit

import galfig
from galfig.cli import main
from galfig.errors import FigureError, OutputError, SelectionError
from galfig.figures.registry import FIGURES, find_figure, render_figure
from galfig.manuscript.code import digest_code
from galfig.manuscript.manifest import FigureSpec
from galfig.store.reader import open_store
from galfig.store.selection import Query
from galfig.tables.formats import SUFFIXES

OF_STORE = [name for name, kind in FIGURES.items() if kind.source == "store"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_STORE)
def test_every_figure_is_written_with_its_caption(trained_store, other_store, tmp_path, name):
    """Each draws from the store alone, the same bytes twice, and beside it what it says in words
    and in numbers.
    """
    files = []
    options = {"other": other_store} if name == "compare" else {}
    if name == "attribution-vs":
        write_small_audit(tmp_path / "a.h5")
        options = {"audit": tmp_path / "a.h5", "column": "z"}
    for folder in ("one", "two"):
        path = tmp_path / folder / f"{name}.pdf"
        data = path.with_suffix(".ecsv")
        written = render_figure(name, trained_store, Query(n=None), path, data=data, **options)
        files.append([file.read_bytes() for file in written])
    assert files[0] == files[1]
    table = Table.read(data)
    assert len(table) > 0
    assert all(column.description for column in table.itercols())
    assert table.meta["galfig"]["figure"] == name
    (alt,) = path.with_suffix(".alt.txt").read_text().splitlines()
    assert alt.endswith(".")
    words = path.with_suffix(".txt").read_text()
    assert "simulated" in words
    assert words.endswith("\n")
    assert all(line.endswith(".") for line in words.splitlines())
    assert json.loads(PdfReader(path).metadata["/Keywords"])["figure"] == name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_numbers_of_a_figure_in_every_format(trained_store, tmp_path, suffix):
    """--data takes what export takes; another suffix is refused before anything is drawn."""
    path, data = tmp_path / "roc.pdf", tmp_path / f"roc{suffix}"
    render_figure("roc", trained_store, Query(n=None), path, data=data)
    form = {".mrt": "ascii.mrt", ".xml": "votable", ".csv": "ascii.csv"}.get(suffix)
    found, expected = Table.read(data, format=form), galfig.plot.roc(open_store(trained_store)).data
    assert found.colnames == list(expected.columns)
    np.testing.assert_allclose(found["true_positive_rate"], expected["true_positive_rate"])
    with pytest.raises(OutputError, match=r"suffix '.xlsx', expected .fits"):
        render_figure("roc", trained_store, Query(), tmp_path / "b.pdf", data=path / "b.xlsx")
    assert not (tmp_path / "b.pdf").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rocs", r"unknown; did you mean 'roc'\?"),
        ("spectrum", "expected one of panels, evidence, histogram"),
    ],
)
def test_unknown_figure_is_answered_with_the_known(trained_store, tmp_path, name, words):
    """A slip with the name that was meant, another word with all names."""
    with pytest.raises(FigureError, match=words):
        render_figure(name, trained_store, Query(), tmp_path / "f.pdf")


@pytest.mark.slow
def test_former_name_draws_the_same_figure(trained_store, tmp_path, monkeypatch):
    """The histogram of any quantity was once called that of metallicity; manifests still say so."""
    monkeypatch.chdir(tmp_path)
    captions = []
    for name in ("histogram", "metallicity-histogram"):
        found = CliRunner().invoke(main, ["figure", name, str(trained_store)])
        assert found.stdout.split()[0] == f"{name}.pdf"
        # What was asked for is recorded: papers drawn before have the same bytes.
        assert f'"figure": "{name}"' in PdfReader(f"{name}.pdf").metadata["/Keywords"]
        captions.append(Path(f"{name}.tex").read_text())
        assert FigureSpec(name="h", figure=name, store="colour").figure == name
    assert captions[0] == captions[1]
    assert find_figure("metallicity-histogram") is FIGURES["histogram"]
    assert digest_code("metallicity-histogram") == digest_code("histogram")
    assert "metallicity-histogram" not in CliRunner().invoke(main, ["figure", "--list"]).stdout


@pytest.mark.parametrize("missing", ["history", "lr_finder"])
def test_network_without_a_history_says_so(make_store, tmp_path, missing):
    """What the checkpoint does not record cannot be drawn."""
    name = {"history": "training-curves", "lr_finder": "learning-rate"}[missing]
    with pytest.raises(FigureError, match="expected one from"):
        render_figure(name, make_store(), Query(n=None), tmp_path / "f.pdf")


def test_statistics_follow_the_selection(trained_store, tmp_path):
    """A condition changes the galaxies that are counted, and the caption says which."""
    render_figure("confusion-matrix", trained_store, Query(n=None, zmin=0.05), tmp_path / "f.pdf")
    with open_store(trained_store) as store:
        n = int(np.sum(store.redshift > 0.05))
    words = (tmp_path / "f.txt").read_text()
    assert f"the {n} simulated galaxies of the validation set with 0.05 < z." in words
    with pytest.raises(FigureError, match="no galaxy of class 'high-metallicity' is selected"):
        render_figure("roc", trained_store, Query(n=None, true="low"), tmp_path / "r.pdf")


def test_unlabelled_store_has_no_statistics(make_store, tmp_path):
    """Without true classes there is nothing to count."""
    store = make_store(label=np.full(12, -1, np.int16))
    for name in ("roc", "confusion-matrix"):
        with pytest.raises(SelectionError, match="no galaxy has a true class"):
            render_figure(name, store, Query(n=None), tmp_path / "f.pdf")
