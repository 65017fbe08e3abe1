"""Benchmarks on a GPU: ``python -m benchmarks.gpu``; prints a table, writes JSON and a figure.

``make bench-gpu`` runs the tests that need a GPU before it. ``--device cpu`` runs the same code on
a processor, to try it; its results are not those of a GPU, and nothing is written unless ``--out``
says where.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data import Sample, find_small
from benchmarks.draw import draw_rates
from benchmarks.machine import describe_machine, name_device
from benchmarks.maps import ARCHS, N_CLASSES, time_maps
from benchmarks.roofline import PRECISIONS, count_work, find_ceiling, measure_roofline
from benchmarks.whole import time_build
from galfig.attribution.engine import open_workers
from galfig.catalog.formats import read_table
from galfig.catalog.galaxies import Galaxies, load_galaxies
from galfig.config import Settings
from galfig.errors import ConfigError
from galfig.images.cutouts import iter_cutouts, read_cutout, scale_cutout
from galfig.images.sources import Source
from galfig.networks.architectures import build_network
from galfig.networks.device import choose_device
from galfig.runtime.machine import count_processors
from galfig.store.chunks import encode_galaxy

EAGER, LOOP = "eager forward pass alone", "the tutorial's loop"
# What plain PyTorch computes convolutions in on CUDA, and so all libraries.
USUAL = "tf32"
OUT = Path(__file__).parent / "gpu.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmarks, print the table, and write the results and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only-check", action="store_true", help="Say which device would be used.")
    parser.add_argument("--archs", nargs="+", default=ARCHS)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--n", type=int, default=20_000, help="Galaxies from JPEG to store.")
    parser.add_argument("--n-files", type=int, default=2000, help="Different JPEGs among them.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--roofline", type=int, default=8192, help="Size of its matrices.")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(argv)
    try:
        device = choose_device(asked.device)
    except ConfigError as exc:
        sys.exit(f"benchmarks.gpu: {exc}")
    sys.stdout.write(f"{name_device(device)}\n")
    if asked.only_check:
        return
    results = measure(asked, device)
    sys.stdout.write(f"{write_table(results)}\n")
    out = asked.out or (OUT if device.type == "cuda" else None)
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        usual = {arch: found[USUAL] for arch, found in results["maps"].items()}
        draw_rates({"maps": usual}, out.with_suffix(".png"), f"{results['device']}, TF32")


def measure(asked: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure maps in memory, stores from JPEGs, and the ceilings of both."""
    start = time.perf_counter()

    def report(task: str) -> None:
        sys.stderr.write(f"{time.perf_counter() - start:5.0f} s  {task}\n")

    small = find_small(asked.n_files)
    settings = Settings(catalog={"path": str(small.catalog)})
    galaxies = load_galaxies(settings, labelled=False)
    galaxies = galaxies.take(np.arange(min(asked.n_files, len(galaxies))))
    paths = galaxies.paths
    found = [one for one in iter_cutouts(paths, small.cutout_size) if isinstance(one, np.ndarray)]
    few = [scale_cutout(one, small.image_size) for one in found]
    cutouts = np.stack([few[i % len(few)] for i in range(asked.batch)])
    report("roofline")
    roofline = measure_roofline(device, asked.roofline)
    results: dict[str, Any] = {
        "device": name_device(device),
        "machine": describe_machine(device),
        "data": small.name,
        "roofline": roofline,
        "maps": {},
        "build": {},
    }
    for arch in asked.archs:
        flops, numbers = count_work(
            build_network(arch, N_CLASSES).eval(),
            torch.zeros(2, 3, small.image_size, small.image_size),
        )
        results["maps"][arch] = {}
        for precision in PRECISIONS:
            report(f"{arch}, {precision}, in memory")
            timed = time_maps(
                arch,
                cutouts,
                asked.repeats,
                device=device,
                precision=precision,
                chosen=None if precision == USUAL else (EAGER, "galfig"),
                min_seconds=asked.seconds,
            )
            ceiling = find_ceiling(roofline, precision, flops, numbers)
            rates = timed["galaxies_per_second"]
            timed["ceiling"] = ceiling
            timed["share_of_roofline"] = rates["galfig"] / min(ceiling.values())
            if LOOP in rates:
                timed["over_loop"] = rates["galfig"] / rates[LOOP]
            results["maps"][arch][precision] = timed
    report("decoding and compressing by themselves")
    results["threads"] = measure_threads(paths, small, found, few)
    with tempfile.TemporaryDirectory() as name:
        catalog = repeat_files(small, galaxies, asked.n, Path(name))
        for arch in asked.archs:
            report(f"{arch}, JPEG to store")
            built = time_build(
                catalog,
                "{objID}.jpg",
                asked.n,
                small.cutout_size,
                small.image_size,
                arch=arch,
                device=asked.device,
                n_in_memory=asked.batch,
            )
            stages = {"in memory": built["in_memory_per_second"], **results["threads"]}
            built["slowest_stage"] = min(stages, key=stages.__getitem__)
            built["over_slowest_stage"] = built["galaxies_per_second"] / min(stages.values())
            results["build"][arch] = built
    results["seconds"] = time.perf_counter() - start
    results["rows"] = judge(results)
    return results


def measure_threads(
    paths: Sequence[Source],
    sample: Sample,
    cutouts: Sequence[NDArray[np.uint8]],
    scaled: Sequence[NDArray[np.uint8]],
) -> dict[str, float]:
    """Return how many galaxies a second all threads decode, and how many they compress.

    Parameters
    ----------
    paths : sequence of Path, BandFiles or Element
        Images.
    sample : Sample
        Their sizes.
    cutouts, scaled : sequence of ndarray of uint8
        Their cutouts, and what the network sees of them, from which smooth maps are made.

    Returns
    -------
    dict of str to float
        Galaxies per second, by stage.
    """
    maps = [
        np.stack([one[..., 0], 255 - one[..., 1]]).astype(np.float32) * np.float32(1e-5)
        for one in scaled
    ]
    rates = {}
    with open_workers(count_processors()) as pool:
        start = time.perf_counter()
        list(pool.map(lambda path: read_cutout(path, sample.cutout_size), paths))
        rates["decoding"] = len(paths) / (time.perf_counter() - start)
        start = time.perf_counter()
        list(pool.map(encode_galaxy, maps, cutouts))
        rates["compressing"] = len(maps) / (time.perf_counter() - start)
    return rates


def repeat_files(sample: Sample, galaxies: Galaxies, n: int, folder: Path) -> Path:
    """Make many galaxies of a few, by links to their images, and return the catalog.

    Parameters
    ----------
    sample : Sample
        Its catalog has what else is known of them.
    galaxies : Galaxies
        The few, whose images are files.
    n : int
        Number of galaxies to make.
    folder : Path
        Where the catalog and the links go.

    Returns
    -------
    Path
    """
    rows = np.arange(n) % len(galaxies)
    table = read_table(sample.catalog, "objID").set_index("objID", drop=False)
    repeated = table.loc[galaxies.objid[rows]].assign(objID=[str(10**18 + i) for i in range(n)])
    for objid, row in zip(repeated["objID"], rows, strict=True):
        (folder / f"{objid}.jpg").symlink_to(Path(str(galaxies.paths[row])).resolve())
    repeated.to_csv(folder / "catalog.csv", index=False)
    return folder / "catalog.csv"


def judge(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the results with the goals of a GPU."""
    rows = []
    for arch, found in results["maps"].items():
        usual = found[USUAL]
        rows += [
            (f"{arch}: ÷ the tutorial's loop", usual["over_loop"], 100.0),
            (f"{arch}: ÷ the fastest library", usual["over_fastest_library"], 3.0),
        ]
    for arch, found in results["build"].items():
        what = f"{arch}: JPEG to store ÷ {found['slowest_stage']} alone"
        rows.append((what, found["over_slowest_stage"], 0.5))
    return [
        {"what": what, "found": found, "bound": f"≥ {bound:g}", "is_met": found >= bound}
        for what, found, bound in rows
    ]


def write_table(results: dict[str, Any]) -> str:
    """Return the results as a plain-text table."""
    lines = [f"{results['device']}; {results['data']}; {results['seconds']:.0f} s", ""]
    lines += [f"  {name:20} {value:12.1f}" for name, value in results["roofline"].items()]
    for arch, by_precision in results["maps"].items():
        for precision, found in by_precision.items():
            share, rates = found["share_of_roofline"], found["galaxies_per_second"]
            lines.append(f"{arch}, {precision}, in memory: {share:.2f} of the roofline")
            for name, rate in rates.items():
                error = found["disagreement"].get(name)
                note = "" if error is None else f"  off by {error:.0e}"
                over = rate / rates[EAGER]
                lines.append(f"  {name:30} {rate:10.0f} gal/s  {over:6.2f} × eager{note}")
    threads = ", ".join(f"{name} {rate:.0f}" for name, rate in results["threads"].items())
    lines.append(f"threads by themselves [gal/s]: {threads}")
    for arch, found in results["build"].items():
        lines.append(
            f"{arch}, JPEG to store: {found['galaxies_per_second']:.0f} gal/s, in memory "
            f"{found['in_memory_per_second']:.0f}"
        )
    lines.append("")
    for row in results["rows"]:
        met = "met" if row["is_met"] else "NOT MET"
        lines.append(f"{row['what']:58} {row['found']:8.2f}  {row['bound']:7} {met}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
