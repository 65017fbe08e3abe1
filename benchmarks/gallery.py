"""The page of a gallery: its weight, and how fast a browser opens, filters, sorts and scrolls it.

``python -m benchmarks.gallery maps.h5 --sizes 1e4 1e5`` makes galleries of that many galaxies of a
store, of which each may appear several times, and opens them from the disk in Chromium.
"""

import argparse
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from galfig.gallery.main import make_gallery
from galfig.store.reader import Store, open_store

IS_DRAWN = (
    "(() => { const all = [...document.querySelectorAll('[role=gridcell] canvas')];"
    "return all.length > 0 && all.every((canvas) => canvas.dataset.drawn); })()"
)
# Each returns the milliseconds until the page has its new layout.
TIMED = """(act) => {
  const start = performance.now();
  act();
  document.getElementById("grid").getBoundingClientRect();
  return performance.now() - start;
}"""
FILTERS = """() => {
  const time = %s;
  const p = [[0.9, null], [0.5, 0.7], [0.99, null], [0.6, 0.95]];
  const times = p.map((range) => time(() => state.setFilter("p", range)));
  times.push(time(() => state.setFilter("predicted", [galfigGallery.meta.classes[0]])));
  times.push(time(() => state.clear()));
  return times;
}"""
SORTS = """() => {
  const time = %s;
  return ["p", "peak", "objid"].map((id) => time(() => state.setSort(id, true)));
}"""


def main() -> None:
    """Make and open galleries of some sizes, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--browser", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--keep", type=Path, help="folder that keeps the galleries")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, open_store(asked.store) as store:
        for size in map(int, asked.sizes):
            folder = (asked.keep or Path(temporary)) / f"gallery-{size}"
            found = _make(store, size, folder) if not folder.exists() else {}
            found |= _weigh(folder, size) | _browse(folder, asked.browser, asked.repeats)
            sys.stdout.write(json.dumps({"galaxies": size, **found}, indent=1) + "\n")
            sys.stdout.flush()


def _make(store: Store, size: int, folder: Path) -> dict[str, Any]:
    rows = np.resize(np.arange(len(store)), size)
    start = time.perf_counter()
    make_gallery(store, folder, rows)
    return {
        "made_s": round(time.perf_counter() - start, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _weigh(folder: Path, size: int) -> dict[str, Any]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    weight = sum(path.stat().st_size for path in files)
    return {"bytes_per_galaxy": round(weight / size), "files": len(files)}


def _browse(folder: Path, browser: str, repeats: int) -> dict[str, Any]:
    """Open a gallery some times, and return the medians and the slowest."""
    from playwright.sync_api import sync_playwright

    times: dict[str, list[float]] = {"opened": [], "filtered": [], "sorted": [], "jumped": []}
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic"]
    with sync_playwright() as driver:
        for _ in range(repeats):
            chromium = driver.chromium.launch(executable_path=browser, args=flags)
            page = chromium.new_page(viewport={"width": 1280, "height": 800})
            start = time.perf_counter()
            page.goto((folder.resolve() / "index.html").as_uri())
            times["opened"].append(_wait(page, start))
            times["filtered"] += page.evaluate(FILTERS % TIMED)
            times["sorted"] += page.evaluate(SORTS % TIMED)
            start = time.perf_counter()
            page.evaluate("grid.element.scrollTop = grid.element.scrollHeight / 2")
            page.wait_for_timeout(20)
            times["jumped"].append(_wait(page, start))
            version = chromium.version
            chromium.close()
    return {
        "chromium": version,
        **{
            f"{name}_ms": {"median": round(statistics.median(found)), "slowest": round(max(found))}
            for name, found in times.items()
        },
    }


def _wait(page: Any, start: float) -> float:
    """Wait until all galaxies in sight are drawn; return the milliseconds since the start."""
    while not page.evaluate(IS_DRAWN):
        page.wait_for_timeout(10)
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
