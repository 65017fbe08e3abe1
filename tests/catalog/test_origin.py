"""Origin: the record of a fetch counts for the catalog and the cutouts that were fetched."""

import json
import logging
import os

import pytest
from samples import FETCHED

from galfig.catalog.galaxies import load_galaxies
from galfig.catalog.origin import read_origin
from galfig.config import load_settings
from galfig.records import FETCH_FILE, FetchRecord


def write_record(folder, **changes):
    """Write a record of a fetch with some values changed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FETCH_FILE).write_text(json.dumps({**FETCHED, **changes}), encoding="utf-8")


def read(folder, **catalog):
    """Read the origin of a catalog in a folder."""
    tables = {"catalog": {"path": str(folder / "catalog.csv"), **catalog}}
    return read_origin(load_settings(tables))


def test_the_record_of_the_catalog_is_read(tmp_path):
    """What was fetched is what the settings name."""
    write_record(tmp_path)
    assert read(tmp_path) == FetchRecord.model_validate(FETCHED)
    assert read(tmp_path, images_dir=str(tmp_path / "." / "images" / "..")) is not None
    assert read(tmp_path, images="images/{objID}.*") is not None


def test_without_a_record_nothing_is_known(tmp_path, caplog):
    """Most catalogs were not fetched, which is worth no word."""
    caplog.set_level(logging.DEBUG)
    assert read(tmp_path) is None
    assert read(tmp_path / "absent") is None
    assert not caplog.records


@pytest.mark.parametrize(
    "catalog",
    [
        {"images": "pictures/{objID}.jpg"},
        {"images": "images/{objID}.*.jpg"},
        {"images": "images/*.jpg"},
        {"images_dir": "elsewhere"},
        {"bands": ["images/{objID}_g.fits", "images/{objID}_r.fits"]},
    ],
)
def test_other_cutouts_have_no_origin(tmp_path, catalog):
    """Cutouts of another place may come from anywhere."""
    write_record(tmp_path)
    assert read(tmp_path, **catalog) is None


def test_another_catalog_has_no_origin(tmp_path):
    """The record is of one catalog; of several files, none can be told from it."""
    write_record(tmp_path, catalog="other.csv")
    assert read(tmp_path) is None
    write_record(tmp_path)
    tables = {
        "catalog": {"path": str(tmp_path / "catalog.csv")},
        "split": {"test": str(tmp_path / "test.csv")},
    }
    assert read_origin(load_settings(tables)) is None


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({**FETCHED, "pixel_scale": -1}).encode(),
        json.dumps({**FETCHED, "release": "dr18\x1b[2J"}).encode(),
        json.dumps({**FETCHED, "service": "evil\x1b[2J"}).encode(),
        b" " * 2_000_000,
    ],
)
def test_a_broken_record_warns_in_one_line(tmp_path, caplog, words):
    """The maps do not follow from it, so that it stops nothing."""
    (tmp_path / FETCH_FILE).write_bytes(words)
    assert read(tmp_path) is None
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path / FETCH_FILE}: ")
    assert message.endswith("; where the galaxies come from is not recorded")
    assert message.isprintable()


def test_a_named_pipe_is_not_waited_for(tmp_path, caplog):
    """Whatever has the name of the record."""
    os.mkfifo(tmp_path / FETCH_FILE)
    assert read(tmp_path) is None
    assert "a named pipe, expected a regular file" in caplog.text


def test_galaxies_know_their_origin(tmp_path, caplog):
    """It is read once, with the catalog."""
    write_record(tmp_path)
    (tmp_path / "catalog.csv").write_text("objID,oh_p50\n1,8.2\n2,9.2\n3,8.9\n")
    (tmp_path / "images").mkdir()
    for objid in (1, 2, 3):
        (tmp_path / "images" / f"{objid}.jpg").touch()
    settings = load_settings({"catalog": {"path": str(tmp_path / "catalog.csv")}})
    assert load_galaxies(settings).origin == FetchRecord.model_validate(FETCHED)
    (tmp_path / FETCH_FILE).write_text("{")
    caplog.clear()
    assert load_galaxies(settings).origin is None
    assert caplog.text.count(FETCH_FILE) == 1
