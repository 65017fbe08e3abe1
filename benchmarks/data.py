"""Galaxies for the benchmarks: real ones if they are available, otherwise simulated ones."""

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
    """Galaxies for the benchmarks.

    Attributes
    ----------
    name : str
        Name in the table.
    catalog : Path
        The catalog.
    cutout_size, image_size : int
        Side of the cutouts, and side to which they are scaled [pixels].
    images : str
        Template of the paths of the images.
    """

    name: str
    catalog: Path
    cutout_size: int
    image_size: int
    images: str = "images/{objID}.jpg"


def find_small(n: int) -> Sample:
    """Return a sample of images of about 128 × 128 pixels; n is the number to simulate."""
    catalog = REAL_DATA / "sdss-many" / "catalog.csv"
    if catalog.is_file():
        return Sample("SDSS, 128 × 128", catalog, 96, 96)
    folder = Path(tempfile.gettempdir()) / f"galfig-benchmark-{n}"
    if not (folder / "catalog.csv").is_file():
        write_simulated(folder, n, 0, if_exists="replace")
    return Sample("simulated, 160 × 160", folder / "catalog.csv", 96, 96)


def find_large() -> Sample | None:
    """Return a sample of images of 424 × 424 pixels; None if it is not available."""
    catalog = REAL_DATA / "gz2-spirals" / "catalog.csv"
    return Sample("Galaxy Zoo 2, 424 × 424", catalog, 207, 69) if catalog.is_file() else None
