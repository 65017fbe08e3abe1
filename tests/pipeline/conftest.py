"""Stores for the tests of builds by several processes."""

import contextlib

import pytest
from samples import build_at


@pytest.fixture
def at_one_time(monkeypatch, tmp_path):
    """Have all stores be made at the same time, and no settings of the working directory."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, drawn_galaxies, untrained):
    """Build the store of 24 galaxies in five shards in one process, once."""
    path = tmp_path_factory.mktemp("whole") / "maps.h5"
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(path.parent):
        patch.setenv("SOURCE_DATE_EPOCH", "0")
        build_at(path, drawn_galaxies, untrained[1], shard_size=5)
    return path
