"""All of build-maps, from image files to a closed store, in a separate process."""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def time_build(
    catalog: Path,
    images: str,
    n: int,
    cutout_size: int,
    image_size: int,
    *,
    arch: str = "conv3",
    device: str = "cpu",
    n_in_memory: int = 128,
) -> dict[str, Any]:
    """Build a store of the first galaxies of a catalog in a temporary folder, and time it.

    Parameters
    ----------
    catalog : Path
        The catalog.
    images : str
        Template of the paths of its images.
    n : int
        Number of galaxies.
    cutout_size, image_size : int
        Side of the cutouts, and side to which they are scaled [pixels].
    arch : str, default "conv3"
        Name of the network, whose weights are random.
    device : {"cpu", "cuda"}, default "cpu"
        What computes.
    n_in_memory : int, default 128
        Number of images that are explained in memory, for comparison.

    Returns
    -------
    dict
        Number of galaxies, time [s], rates [galaxies/s], peak memory [MB] and size of the store
        [bytes per galaxy].
    """
    command = [sys.executable, "-m", "benchmarks.whole", str(catalog), images, str(n)]
    command += [str(cutout_size), str(image_size)]
    command += ["--arch", arch, "--device", device, "--n-in-memory", str(n_in_memory)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _read_peak_memory() -> float:
    """Return the largest resident memory of this process [MB].

    getrusage is not used, because its peak includes that of the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return float(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1e3


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("catalog", type=Path)
    parser.add_argument("images")
    for name in ("n", "cutout_size", "image_size"):
        parser.add_argument(name, type=int)
    parser.add_argument("--arch", default="conv3")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--n-in-memory", type=int, default=128)
    asked = parser.parse_args()

    import numpy as np
    import torch

    from benchmarks.machine import synchronise
    from galfig.attribution.engine import make_engine
    from galfig.catalog.formats import read_table
    from galfig.catalog.galaxies import load_galaxies
    from galfig.config import Settings
    from galfig.images.cutouts import iter_cutouts, scale_cutout
    from galfig.networks.architectures import build_network, find_layer
    from galfig.networks.checkpoint import save_checkpoint
    from galfig.networks.device import choose_device
    from galfig.pipeline.build import build_store
    from galfig.pipeline.plan import make_plan
    from galfig.runtime.malloc import keep_freed_memory
    from galfig.runtime.options import RunOptions

    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = read_table(asked.catalog, "objID")
        table.head(asked.n).to_csv(folder / "catalog.csv", index=False)
        settings = Settings(
            catalog={
                "path": str(folder / "catalog.csv"),
                "images_dir": str(asked.catalog.resolve().parent),
                "images": asked.images,
            }
        )
        galaxies = load_galaxies(settings, labelled=False)
        torch.manual_seed(0)
        network = build_network(asked.arch, 2)
        layer, _ = find_layer(network.eval(), "auto", asked.image_size, asked.arch)
        metadata = {
            "arch": asked.arch,
            "class_names": ["low", "high"],
            "layer": layer,
            "cutout_size": asked.cutout_size,
            "image_size": asked.image_size,
            "mean": [0.1] * 3,
            "std": [0.1] * 3,
            "n_train": {"low": 1, "high": 1},
            "simulated": False,
        }
        checkpoint = save_checkpoint(folder / "m.safetensors", network, metadata)

        device = choose_device(asked.device)
        model = checkpoint.model.to(device)
        engine = make_engine(model, model.get_submodule(checkpoint.layer_name))
        cutouts = [
            scale_cutout(cutout, asked.image_size)
            for cutout in iter_cutouts(galaxies.paths[: asked.n_in_memory], asked.cutout_size)
            if isinstance(cutout, np.ndarray)
        ]
        images = checkpoint.normalise(np.stack(cutouts)).to(device)

        def measure_rate() -> float:
            times = []
            for _ in range(5):
                start = time.perf_counter()
                engine(images)
                synchronise(device)
                times.append(time.perf_counter() - start)
            return len(images) / statistics.median(times)

        measure_rate()
        before = measure_rate()
        start = time.perf_counter()
        plan = make_plan(galaxies, settings, checkpoint, "all")
        build_store(plan, checkpoint, folder / "maps.h5", run=RunOptions(device=asked.device))
        seconds = time.perf_counter() - start
        in_memory = statistics.mean([before, measure_rate()])
        rate = len(galaxies) / seconds
        sys.stdout.write(
            json.dumps(
                {
                    "n": len(galaxies),
                    "seconds": seconds,
                    "galaxies_per_second": rate,
                    "in_memory_per_second": in_memory,
                    "over_in_memory": rate / in_memory,
                    "peak_memory_mb": _read_peak_memory(),
                    "bytes_per_galaxy": (folder / "maps.h5").stat().st_size / len(galaxies),
                }
            )
        )


if __name__ == "__main__":
    _main()
