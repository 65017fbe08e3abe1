"""Dask: a cluster that runs already, by its address or by an executor of the user's."""

import pytest
from samples import build_with

from galfig.errors import EngineError

pytestmark = [pytest.mark.slow, pytest.mark.dask]


def test_a_cluster_of_the_users(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """Serves by its executor and by its address, and goes on afterwards."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path = tmp_path / "maps.h5"
    assert build_with(path, galaxy_folder, checkpoint)
    expected = path.read_bytes()
    with (
        distributed.LocalCluster(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        for options in (
            {"executor": client.get_executor(pure=False)},
            {"engine": "dask", "address": cluster.scheduler_address},
        ):
            path.unlink()
            assert build_with(path, galaxy_folder, checkpoint, **options)
            assert path.read_bytes() == expected
        assert client.submit(int, "3").result() == 3


def test_an_address_where_nobody_answers(galaxy_folder, tmp_path, checkpoint):
    """Is one line, and says what is missing."""
    pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    options = {"engine": "dask", "address": "tcp://127.0.0.1:9"}
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "500ms"}),
        pytest.raises(EngineError, match="no scheduler of Dask answers") as caught,
    ):
        build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, **options)
    assert "\n" not in str(caught.value)
