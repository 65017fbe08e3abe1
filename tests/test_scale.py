"""What is read of a store of many galaxies, and the benchmark that measures it."""

import json
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from benchmarks.scale import COMMANDS, PAGE, RESULTS, insert_table, measure, write_table
from benchmarks.synthetic import make_columns, write_catalog, write_store
from galfig.figures.radial_profile import measure_profiles
from galfig.figures.registry import render_figure
from galfig.figures.stacked_maps import stack_maps
from galfig.info import describe_file
from galfig.store.reader import open_store, verify_store
from galfig.store.selection import Query
from galfig.store.texts import TextColumn

N = 20_000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Write a store of 20 000 galaxies once."""
    path = tmp_path_factory.mktemp("large") / "maps.h5"
    write_store(path, N)
    return path


@pytest.fixture
def read(monkeypatch):
    """Count the bytes that are read of each dataset, and the cells that become text."""
    counts = Counter()
    getitem, decode = h5py.Dataset.__getitem__, TextColumn.decode

    def count_bytes(dataset, rows):
        values = getitem(dataset, rows)
        counts[dataset.name.lstrip("/")] += np.asarray(values).nbytes
        return values

    def count_texts(column, *rows):
        found = decode(column, *rows)
        counts["texts"] += len(found)
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", count_bytes)
    monkeypatch.setattr(TextColumn, "decode", count_texts)
    return counts


@pytest.mark.parametrize(
    ("zmin", "zmax", "where"), [(None, None, None), (0.05, 0.08, "lgm_tot_p50 > 10.5")]
)
def test_rows_read_what_they_show(large, tmp_path, read, zmin, zmax, where):
    """Five rows need the columns of their conditions and caption, and few maps and names."""
    query = Query(n=5, zmin=zmin, zmax=zmax, where=where)
    render_figure("panels", large, query, tmp_path / "rows.pdf")
    assert 5 <= read.pop("texts") <= 50
    maps, cutouts = read.pop("cams"), read.pop("cutouts")
    # Each galaxy is read for its row and for the numbers of its caption, with some others.
    assert 5 * 2 * 24 * 24 * 2 <= maps <= 200 * 2 * 24 * 24 * 2
    assert 5 * 96 * 96 * 3 <= cutouts <= 20 * 96 * 96 * 3
    columns = {name for name in read if "/" in name}
    assert columns == ({"catalog/lgm_tot_p50"} if where else set())
    assert "image_digest" not in read
    assert "value" not in read
    assert sum(read.values()) <= 80 * N


def test_info_reads_no_map_and_no_name(large, read):
    """Labels, splits and probabilities are enough."""
    assert describe_file(large)["galaxies"] == N
    assert not {"cams", "cutouts", "objid", "texts"} & set(read)
    assert not any("/" in name for name in read)


def test_one_column_of_the_catalog(large, read):
    """The radius of a profile, or the column of a trend, comes without the other columns."""
    with open_store(large) as store:
        read.clear()
        radius = store.column("petroRad_r")
        assert set(read) == {"catalog/petroRad_r"}
        assert radius.equals(store.catalog["petroRad_r"])


@pytest.mark.parametrize("measured", [measure_profiles, stack_maps])
def test_memory_of_statistics_does_not_grow(large, measured):
    """Means over maps take them one by one."""
    with open_store(large) as store:
        peaks = []
        for n in (50, 800):
            measured(store, np.arange(10))
            tracemalloc.start()
            measured(store, np.arange(n))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # 750 cutouts are 20 MB, and their maps 3.5 MB.
    assert peaks[1] - peaks[0] < 4e5


def test_a_synthetic_store_is_intact(large, tmp_path):
    """Its schema and digests are right; galaxies differ as their numbers say."""
    write_store(tmp_path / "small.h5", 300)
    assert verify_store(tmp_path / "small.h5") == []
    with open_store(large) as store:
        assert len(set(store.objid)) == N
        assert store.accuracy == pytest.approx(0.875, abs=0.01)
        expected = pd.DataFrame(make_columns(np.arange(N)))
        np.testing.assert_array_equal(store.catalog["oh_p50"], expected["oh_p50"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_synthetic_catalog_is_read(tmp_path, suffix):
    """All rows have an image; those between the classes are left out."""
    from benchmarks.catalogs import read

    write_catalog(tmp_path / f"catalog{suffix}", 200)
    read(tmp_path / f"catalog{suffix}")
    assert len(list((tmp_path / "images").iterdir())) == 64


def test_a_command_is_measured():
    """Time, memory, and why it failed or was stopped."""
    done = measure([sys.executable, "-c", "x = bytearray(200_000_000)"], 30)
    assert done.failed == ""
    # A child begins with the memory of its parent, which is large here.
    assert done.peak_mb > 200
    assert 0 < done.cpu_seconds < done.seconds + 1
    done = measure([sys.executable, "-c", "raise SystemExit('no galaxy')"], 30)
    assert done.failed == "no galaxy"
    done = measure([sys.executable, "-c", "import time; time.sleep(30)"], 0.2)
    assert done.failed == "stopped after 0.2 s"


def test_the_page_shows_what_was_measured():
    """The table is that of scale.json, whose rows are commands that there are."""
    results = json.loads(Path(RESULTS).read_text("utf-8"))
    page = PAGE.read_text("utf-8")
    assert insert_table(page, write_table(results)) == page
    assert set(results["commands"]) <= set(COMMANDS)
    for asked in ("read", "plan", "info", "render", "radial-profile", "verify"):
        assert any(asked in name for name in results["commands"])
