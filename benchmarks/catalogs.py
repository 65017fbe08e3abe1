"""Read a catalog, or plan a build from it: ``python -m benchmarks.catalogs read|plan FILE``.

`benchmarks.scale` runs this in processes of its own, on catalogs of `benchmarks.synthetic`.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from galfig.config import Settings


def read(path: Path) -> None:
    """Read a catalog as `galfig.load_catalog` does: every check, the classes and the images."""
    from galfig.catalog.galaxies import load_galaxies

    load_galaxies(_make_settings(path))


def plan(path: Path) -> None:
    """Read a catalog, and plan to explain all of its galaxies."""
    import torch

    from galfig.catalog.galaxies import load_galaxies
    from galfig.networks.architectures import build_network
    from galfig.networks.checkpoint import wrap_network
    from galfig.pipeline.plan import make_plan

    torch.manual_seed(0)
    network = wrap_network(
        build_network("conv3", 2, 3).eval(),
        class_names=("low", "high"),
        cutout_size=96,
        layer="conv3",
        mean=[0.2] * 3,
        std=[0.1] * 3,
    )
    settings = _make_settings(path)
    make_plan(load_galaxies(settings), settings, network, "all")


def _make_settings(path: Path) -> "Settings":
    from galfig.config import Settings

    return Settings(catalog={"path": str(path), "images": "images/{image}.jpg"})


if __name__ == "__main__":
    {"read": read, "plan": plan}[sys.argv[1]](Path(sys.argv[2]))
