"""Drawing: the wall time of ``galfig render``; the rate and the memory of a large atlas."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from galfig.cosmology import kpc_per_arcsec
from galfig.store.chunks import encode_galaxy
from galfig.store.merging import merge_parts
from galfig.store.outline import Outline, write_outline
from galfig.store.writer import Part, write_part

N_ATLAS = 2000


def time_drawing() -> dict[str, float]:
    """Return the time of five rows [s], the rate of an atlas [galaxies/s], and its memory [MB].

    The memory is what an atlas of `N_ATLAS` galaxies needs beyond one of a quarter as many.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = _write_store(folder, N_ATLAS)
        render = [sys.executable, "-m", "galfig", "render", str(store), "--n", "5", "--overwrite"]
        render += ["--out", str(folder / "panels.pdf"), "-q"]
        seconds = [_run(render) for _ in range(4)][1:]
        atlas = [sys.executable, "-m", "galfig", "figure", "atlas", str(store), "-q"]
        atlas += ["--out", str(folder / "atlas.pdf"), "--overwrite"]
        some = _measure_memory([*atlas, "--n", str(N_ATLAS // 4)])
        return {
            "render_seconds": statistics.median(seconds),
            "atlas_per_second": N_ATLAS / _run(atlas),
            "atlas_memory_mb": _measure_memory(atlas) - some,
        }


def _run(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _measure_memory(command: list[str]) -> float:
    """Return the largest resident memory of a process [MB]."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(status, command)
    # In kilobytes on Linux.
    return usage.ru_maxrss / 1e3


def _write_store(folder: Path, n: int) -> Path:
    """Write a store of galaxies and maps that compress about as well as real ones."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96] - 47.5
    images = []
    for width in rng.uniform(6, 14, n):
        light = np.exp(-0.5 * (x**2 + y**2) / width**2)
        cutout = np.clip(200 * light[..., None] + rng.normal(10, 1.2, (96, 96, 3)), 0, 255)
        cams = 1e-3 * np.stack([light - 0.3, 0.3 - light]).astype(np.float32)
        images.append(encode_galaxy(cams, cutout.astype(np.uint8)))
    objid = np.array([str(1237665024900858100 + index) for index in range(n)], dtype=object)
    logits = rng.normal(0, 2, (n, 2)).astype(np.float32)
    arrays = {
        "objid": objid,
        "image_digest": np.arange(1, n + 1, dtype=np.uint64),
        "redshift": rng.uniform(0.02, 0.2, n),
        "label": rng.integers(0, 2, n).astype(np.int16),
        "split": np.full(n, "valid", dtype=object),
        "value": rng.uniform(8.1, 9.3, n),
        "logits": logits,
        "kpc_per_arcsec": kpc_per_arcsec(np.full(n, 0.05)),
        "probs": (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32),
    }
    write_part(folder / "part.h5", Part(arrays, images, (2, 96, 96), (96, 96, 3), {}), "digest")
    table = pd.DataFrame({"objID": objid, "z": arrays["redshift"]}, index=objid)
    attrs = {
        "galfig_version": "0",
        "plan_digest": "digest",
        "catalog_sha256": "0",
        "checkpoint_sha256": "0",
        "class_names": '["low", "high"]',
        "target_layer": "conv3",
        "split": "all",
        "cutout_size": 96,
        "pixel_scale": 0.396,
        "simulated": True,
        "config": '{"classes": {"name": "metallicity"}}',
        "training": '{"arch": "conv3", "n_train": {"low": 1, "high": 1}, "simulated": true}',
    }
    outline = folder / "outline.h5"
    write_outline(outline, Outline(attrs, n, n, ""), objid.tolist(), table, {})
    merge_parts(folder / "maps.h5", [folder / "part.h5"], outline)
    return folder / "maps.h5"
