"""Galaxies to time with: real ones where they are at hand, simulated ones elsewhere."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from galfig.catalog.simulate import write_simulated

REAL_DATA = Path(
    os.environ.get("GALFIG_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


@dataclass(frozen=True)
class Sample:
    """Galaxies to time with: a catalog, the template of its images, and the sizes to use."""

    name: str
    catalog: Path
    cutout_size: int
    image_size: int
    images: str = "images/{objID}.jpg"


def find_small(n: int) -> Sample:
    """Return galaxies of about 128 × 128 pixels, n of them at the most."""
    catalog = REAL_DATA / "sdss-many" / "catalog.csv"
    if catalog.is_file():
        return Sample("SDSS, 128 × 128", catalog, 96, 96)
    folder = Path(tempfile.gettempdir()) / f"galfig-benchmark-{n}"
    if not (folder / "catalog.csv").is_file():
        write_simulated(folder, n, 0, if_exists="replace")
    return Sample("simulated, 160 × 160", folder / "catalog.csv", 96, 96)


def find_large() -> Sample | None:
    """Return galaxies of 424 × 424 pixels, where they are at hand."""
    catalog = REAL_DATA / "gz2-spirals" / "catalog.csv"
    return Sample("Galaxy Zoo 2, 424 × 424", catalog, 207, 69) if catalog.is_file() else None
