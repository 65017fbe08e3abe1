"""Engines: what Dask and Ray cost beside the threads of one process, their start apart.

``python -m benchmarks.engines`` builds one store of the same galaxies by the local engine with two
threads, and by Dask and Ray with two workers of one thread each, in turn for several rounds. It
prints the time of the local engine in units of theirs, which should be at least `GOAL`. Before the
first round each worker has imported torch. That each loads and proves the network again for every
build, and that the parts are merged at the end, counts.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.data import find_small
from benchmarks.machine import describe_machine
from galfig.catalog.galaxies import Galaxies, load_galaxies
from galfig.config import Settings
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import Checkpoint, save_checkpoint
from galfig.pipeline.build import build_store
from galfig.pipeline.engines import open_engine
from galfig.pipeline.plan import make_plan
from galfig.pipeline.tasks import NetworkFile
from galfig.runtime.malloc import keep_freed_memory
from galfig.runtime.options import EngineName, RunOptions

N_WORKERS = 2
GOAL = 0.8
ENGINES: tuple[EngineName, ...] = ("dask", "ray")


def make_network(path: Path, size: int) -> Checkpoint:
    """Write a conv3 of random weights, which does not affect the speed."""
    torch.manual_seed(0)
    metadata = {
        "arch": "conv3",
        "class_names": ["low", "high"],
        "layer": "conv3",
        "cutout_size": size,
        "image_size": size,
        "mean": [0.1] * 3,
        "std": [0.1] * 3,
        "n_train": {"low": 1, "high": 1},
        "simulated": False,
    }
    return save_checkpoint(path, build_network("conv3", 2), metadata)


@contextmanager
def open_warm(engine: EngineName, folder: Path) -> Iterator[Executor]:
    """Open an engine whose workers have imported what they need, as the command does itself."""
    run = RunOptions(device="cpu", n_workers=1, engine=engine)
    with open_engine(run, folder / "maps.h5") as opened:
        seen: set[int] = set()
        while len(seen) < N_WORKERS:
            futures = [opened.executor.submit(warm_up) for _ in range(4 * N_WORKERS)]
            seen.update(future.result() for future in futures)
        yield opened.executor


def warm_up() -> int:
    """Do in a worker what it does but once; return its process."""
    import galfig.pipeline.tasks  # noqa: F401

    keep_freed_memory()
    time.sleep(0.2)
    return os.getpid()


def build(
    folder: Path, checkpoint: Checkpoint, galaxies: Galaxies, executor: Executor | None
) -> tuple[float, bytes]:
    """Build the store; return the time [s] and the bytes."""
    plan = make_plan(galaxies, galaxies.settings, checkpoint, "all")
    n_threads = N_WORKERS if executor is None else 1
    run = RunOptions(device="cpu", n_workers=n_threads, executor=executor)
    path, network = folder / "maps.h5", NetworkFile(folder / "model.safetensors")
    start = time.perf_counter()
    build_store(plan, checkpoint, path, if_exists="replace", run=run, network=network)
    return time.perf_counter() - start, path.read_bytes()


def main() -> None:
    """Time the engines, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000, help="number of galaxies")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard-size", type=int, default=512)
    asked = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    keep_freed_memory()
    small = find_small(asked.n)
    settings = Settings(
        catalog={"path": str(small.catalog), "images": small.images},
        maps={"shard_size": asked.shard_size},
    )
    galaxies = load_galaxies(settings, labelled=False)
    galaxies = galaxies.take(np.arange(min(asked.n, len(galaxies))))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        checkpoint = make_network(folder / "model.safetensors", small.cutout_size)
        executors: dict[str, Executor | None] = {"local": None}
        started = {"local": 0.0}
        for engine in ENGINES:
            start = time.perf_counter()
            executors[engine] = stack.enter_context(open_warm(engine, folder))
            started[engine] = time.perf_counter() - start
        times: dict[str, list[float]] = {engine: [] for engine in executors}
        stores = set()
        for _ in range(asked.rounds):
            for engine, executor in executors.items():
                seconds, store = build(folder, checkpoint, galaxies, executor)
                times[engine].append(seconds)
                stores.add(store)
    found = {
        "machine": describe_machine(),
        "data": small.name,
        "n": len(galaxies),
        "shard_size": asked.shard_size,
        "seconds": {engine: statistics.median(one) for engine, one in times.items()},
        "start_seconds": started,
        "over_local": {
            engine: statistics.median(
                local / other for local, other in zip(times["local"], times[engine], strict=True)
            )
            for engine in ENGINES
        },
        "goal": GOAL,
        "same_bytes": len(stores) == 1,
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
