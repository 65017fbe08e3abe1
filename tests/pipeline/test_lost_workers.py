"""Lost workers, for real: those of Dask, Ray and submitit are killed, and no galaxy is lost."""

import contextlib
import os
import random
import signal
import threading

import pytest
from samples import build_with, make_checkpoint

from galfig.catalog.simulate import write_simulated
from galfig.store.reader import open_store

pytestmark = pytest.mark.slow

# The library of each engine, words of the command lines of its workers, and its address.
ENGINES = {
    "dask": ("distributed", "multiprocessing.spawn", None),
    "ray": ("ray", "ray::explain_portion", None),
    "slurm": ("submitit", "submitit.core._submit", "local,jobs=2"),
}


@pytest.fixture(autouse=True)
def _same_time(monkeypatch):
    """Have every store say that it was made at one time."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory, drawn_galaxies, untrained, request):
    """Give galaxies, more than 2000 in the long campaign; a network; and the size of shards."""
    folder = tmp_path_factory.mktemp("many")
    checkpoint = make_checkpoint(folder / "model.safetensors")
    if request.config.getoption("--campaign") == "full":
        # A third of them has a class that is not kept.
        write_simulated(folder / "galaxies", 3200)
        return folder / "galaxies", checkpoint, 32
    (folder / "galaxies").symlink_to(drawn_galaxies)
    return folder / "galaxies", checkpoint, 2


@pytest.fixture(scope="module")
def expected(tmp_path_factory, galaxies):
    """Return the bytes of the store that the threads of this process write."""
    folder, checkpoint, shard_size = galaxies
    path = tmp_path_factory.mktemp("expected") / "maps.h5"
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(path.parent):
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        build_with(path, folder, checkpoint, shard_size=shard_size)
    return path.read_bytes()


def find_children(words):
    """Return the processes below this one whose command line has some words."""
    psutil = pytest.importorskip("psutil")
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if words in " ".join(process.cmdline()):
                found.append(process)
    return found


@contextlib.contextmanager
def killing(words, path, after):
    """Kill a worker, any of them, whenever so many parts are there; give those that were killed."""
    killed, is_over = [], threading.Event()
    folder, choose = path.with_name(f"{path.name}.parts"), random.Random(0).choice

    def watch():
        for n_parts in after:
            while len(list(folder.glob("0*.h5"))) < n_parts or not (
                workers := find_children(words)
            ):
                if is_over.wait(0.02):
                    return
            process = choose(workers)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ENGINES]
)
def test_workers_are_killed_and_no_galaxy_is_lost(galaxies, tmp_path, expected, campaign, engine):
    """Complete, nothing lost, nothing double, and the bytes of a build that lost nothing."""
    library, words, address = ENGINES[engine]
    pytest.importorskip(library)
    folder, checkpoint, shard_size = galaxies
    path = tmp_path / "maps.h5"
    options = {"shard_size": shard_size, "engine": engine, "address": address}
    after = campaign.n([3], list(range(4, 60, 7)))
    with campaign.trial(f"workers of {engine}, SIGKILL"):
        with killing(words, path, after) as killed:
            assert build_with(path, folder, checkpoint, **options)
        assert len(killed) == len(after)
        assert path.read_bytes() == expected
        with open_store(path) as store:
            assert len(set(store.objid)) == len(store)
        # Neither locks nor parts nor what the jobs wrote are left.
        assert [one.name for one in tmp_path.iterdir()] == ["maps.h5"]
