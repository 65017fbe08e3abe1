"""SDSS: a catalog by SQL and cutouts, from a local server that speaks as SkyServer does."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from surveys import Sky, SkyServer, SurveyServer, cut, endless, fail, page, redirect, resize, slow

import galfig
from galfig.cli import main
from galfig.errors import ConfigError, OutputError, SurveyError
from galfig.survey.client import Patience
from galfig.survey.download import Manners
from galfig.survey.sdss import plan_sdss

QUICK = Patience(attempts=4, base=0.01, longest=0.05, total=2.0, failures=8)


@pytest.fixture(scope="module")
def sky():
    """Forty galaxies."""
    return Sky(40)


@pytest.fixture
def skyserver(sky):
    """Give the dialect of SkyServer."""
    return SkyServer(sky)


@pytest.fixture
def server(skyserver):
    """Serve it."""
    with SurveyServer(skyserver) as running:
        yield running


def fetch(server, folder, n=12, *, rate=50, patience=QUICK, max_failed=0.05, **given):
    """Fetch from the server, fast."""
    manners = Manners(rate=rate, patience=patience, max_failed=max_failed)
    return plan_sdss(folder, n, base_url=server.address, manners=manners, **given).run()


def read(path):
    """Read a CSV file as a list of dicts."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_filled(server, sky, tmp_path):
    """Catalog, cutouts, manifest and record are there, and say the same."""
    path = fetch(server, tmp_path / "sky")
    rows = read(path)
    assert path == tmp_path / "sky" / "catalog.csv"
    assert len(rows) == 12
    truth = sky.table.set_index("objID")
    for row in rows:
        assert float(row["z"]) == truth.loc[row["objID"], "z"]
        assert float(row["oh_p50"]) == truth.loc[row["objID"], "oh_p50"]
    files = {path.stem for path in (tmp_path / "sky" / "images").iterdir()}
    assert files == {row["objID"] for row in rows}
    assert {row["objID"] for row in read(tmp_path / "sky" / "manifest.csv")} == files
    record = json.loads((tmp_path / "sky" / "fetch.json").read_text())
    assert record["service"] == "sdss"
    assert record["release"] == "DR18"
    assert (record["n"], record["n_failed"]) == (12, 0)
    assert (record["size"], record["pixel_scale"]) == (128, 0.396)
    assert record["is_mirror"] is True
    assert "galSpecExtra" in record["query"]
    left = {path.name for path in (tmp_path / "sky").iterdir()}
    assert left == {"catalog.csv", "fetch.json", "images", "manifest.csv"}
