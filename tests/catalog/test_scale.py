"""Scale: what reading, selecting and planning take for each row of a large catalog."""

import gc
import time
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import OBJID, make_checkpoint

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.pipeline.plan import make_plan

# What Python allocates for each row at most [byte]: 24 numbers that may be missing take 216, the
# identifier 150. An object for each image would take 200 more.
LARGEST = 550


def write_catalog(folder, n):
    """Write n galaxies with 25 columns, and an array of images that takes no room on disk."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    columns = {f"mag_{number}": rng.normal(18, 2, n) for number in range(22)}
    columns |= {"z": rng.uniform(0, 0.3, n), "oh_p50": rng.uniform(8.2, 9.2, n)}
    ids = int(OBJID) + 7 * np.arange(n)
    pq.write_table(pa.table({"objID": ids, **columns}), folder / "catalog.parquet")
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (n, 32, 32))
    images.flush()
    return load_settings(
        {
            "catalog": {"path": str(folder / "catalog.parquet"), "images": "images.npy"},
            "classes": {"column": "oh_p50", "edges": [8, 8.7, 9.5], "labels": ["low", "high"]},
        }
    )


@pytest.mark.slow
def test_time_and_memory_grow_with_the_rows(tmp_path):
    """Ten times the rows take no more of either for each: neither loops in loops nor objects."""
    checkpoint = make_checkpoint(tmp_path / "m.safetensors")
    seconds, sizes = [], []
    for n in (30_000, 300_000):
        settings = write_catalog(tmp_path / str(n), n)
        gc.collect()
        start = time.process_time()
        plan = make_plan(load_galaxies(settings), settings, checkpoint, "all")
        seconds.append((time.process_time() - start) / n)
        assert len(plan.galaxies) == n
        del plan
        tracemalloc.start()
        plan = make_plan(load_galaxies(settings), settings, checkpoint, "all")
        sizes.append(tracemalloc.get_traced_memory()[1] / n)
        tracemalloc.stop()
        del plan
    assert seconds[1] < 1.5 * seconds[0]
    assert seconds[1] < 30e-6
    assert sizes[1] < LARGEST
