"""Engines: what is refused before anything is read, and what their names open."""

import importlib.util
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import galfig
from galfig.cli import main
from galfig.errors import ConfigError
from galfig.pipeline import engines
from galfig.pipeline.engines import _JobExecutor, check_engine, count_threads, open_engine
from galfig.runtime.options import RunOptions


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"engine": "spark"}, "`engine` 'spark': expected one of 'local', 'dask', 'ray', 'slurm'"),
        ({"address": "tcp://a:1"}, 'the engine "local" has none'),
        ({"engine": "dask", "executor": ThreadPoolExecutor(1)}, "given beside `engine`"),
        ({"address": "a", "executor": ThreadPoolExecutor(1)}, "given beside `engine`"),
        ({"executor": 3}, "is a int, expected what has the methods of concurrent.futures.Executor"),
    ],
)
def test_options_that_contradict_each_other(options, expected):
    """In one line, whichever of them is one too many."""
    with pytest.raises(ConfigError) as caught:
        check_engine(RunOptions(**options))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "name"), [("dask", "Dask"), ("ray", "Ray"), ("slurm", "submitit")]
)
def test_an_engine_that_is_not_installed(engine, name, monkeypatch):
    """Before the catalog is read, with the extra to install, in Python and in the terminal."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    expected = f"needs {name}, which is not installed; pip install 'galfig[{engine}]'"
    with pytest.raises(ConfigError) as caught:
        galfig.build_maps("absent.csv", engine=engine)
    assert str(caught.value) == f'`engine="{engine}"`: {expected}'
    found = CliRunner().invoke(main, ["build-maps", "--catalog", "a.csv", "--engine", engine])
    assert found.exit_code == 1
    assert found.stderr == f"galfig: error: --engine {engine}: {expected}\n"


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, (16, {})),
        ("local,jobs=3", (3, None)),
        (
            "partition=gpu, time=120,--cpus-per-task=8,gres=gpu:1,jobs=40",
            (
                40,
                {
                    "partition": "gpu",
                    "time": 120,
                    "cpus_per_task": 8,
                    "gres": "gpu:1",
                },
            ),
        ),
    ],
)
def test_addresses_of_slurm(address, expected):
    """Options of sbatch by their names, and the number of jobs."""
    assert engines._read_options(address) == expected


@pytest.mark.slurm
@pytest.mark.parametrize(
    "address",
    [
        "partition",
        "setup=rm",
        "srun_args=a",
        "additional-parameters=a",
        "jobs=0",
        "jobs=many",
        "local,time=3",
        "a b=3",
        "nodes=2",
    ],
)
def test_other_addresses_of_slurm(address):
    """What would run a command, or is no option, is refused in one line."""
    pytest.importorskip("submitit")
    with pytest.raises(ConfigError, match="`address`"):
        check_engine(RunOptions(engine="slurm", address=address))


def test_an_executor_of_the_users_stays_open(tmp_path):
    """It is taken as it is, and not shut down."""
    with ThreadPoolExecutor(1) as pool:
        with open_engine(RunOptions(executor=pool), tmp_path / "maps.h5") as opened:
            assert (opened.executor, opened.name) == (pool, "ThreadPoolExecutor")
        assert pool.submit(int, "3").result() == 3


def test_threads_of_a_worker(monkeypatch):
    """One for an executor that does not say; what Dask says of its worker."""
    monkeypatch.delitem(sys.modules, "distributed", raising=False)
    assert count_threads("local") == 1
    said = SimpleNamespace(state=SimpleNamespace(nthreads=3))
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(get_worker=lambda: said))
    assert count_threads("local") == count_threads("dask") == 3
    monkeypatch.setattr(engines, "count_processors", lambda: 5)
    assert count_threads("slurm") == 5


class Job:
    """A job that ends when it is told to."""

    def __init__(self, answer):
        self.answer = answer
        self.ended, self.cancelled = threading.Event(), threading.Event()

    def done(self):
        return self.ended.is_set()

    def result(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def cancel(self, check=True):
        self.cancelled.set()


def test_jobs_become_futures(monkeypatch):
    """They answer, fail and are cancelled like those of the standard library."""
    monkeypatch.setattr(engines, "_LOOK", 0.01)
    jobs = [Job(7), Job(OSError("lost")), Job(None), Job(None)]
    executor = _JobExecutor(SimpleNamespace(submit=lambda fn, job: job))
    futures = [executor.submit(int, job) for job in jobs]
    assert all(isinstance(future, Future) and not future.done() for future in futures)
    jobs[0].ended.set()
    jobs[1].ended.set()
    assert futures[0].result(timeout=5) == 7
    with pytest.raises(OSError, match="lost"):
        futures[1].result(timeout=5)
    assert futures[2].cancel()
    assert jobs[2].cancelled.wait(timeout=5)
    executor.shutdown(cancel_futures=True)
    assert jobs[3].cancelled.is_set()
    assert not jobs[0].cancelled.is_set()
