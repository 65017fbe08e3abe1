"""A portion of a plan: some of its shards, small enough to be sent to another process."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from galfig.catalog.galaxies import Galaxies
from galfig.config import Settings
from galfig.images.sources import BandFiles, Source
from galfig.pipeline.plan import Plan
from galfig.runtime.storage import Address


@dataclass(frozen=True)
class Portion:
    """Some shards of a plan.

    Attributes
    ----------
    settings : Settings
        The settings of the plan.
    shards : dict of int to Galaxies
        The galaxies of each shard, without the columns of the catalog.
    digests : dict of int to str
        The digest of the inputs of each part.
    """

    settings: Settings
    shards: Mapping[int, Galaxies]
    digests: Mapping[int, str]

    def take(self, number: int) -> Galaxies:
        """Return the galaxies of a shard."""
        return self.shards[number]

    def count(self, numbers: Iterable[int]) -> int:
        """Return the number of galaxies of some shards."""
        return sum(len(self.shards[number]) for number in numbers)

    def digest_part(self, number: int) -> str:
        """Return the digest of the inputs of a part."""
        return self.digests[number]

    def anchor(self, folder: Path) -> "Portion":
        """Return the portion with relative paths of images taken from a folder."""
        shards = {number: anchor_images(one, folder) for number, one in self.shards.items()}
        return replace(self, shards=shards)


def cut_portion(plan: Plan, numbers: Iterable[int]) -> Portion:
    """Return some shards of a plan.

    Parameters
    ----------
    plan : Plan
        The plan, with its ``engine``.
    numbers : iterable of int
        The numbers of the shards.

    Returns
    -------
    Portion
    """
    numbers = list(numbers)
    return Portion(
        plan.settings,
        {number: strip(plan.take(number)) for number in numbers},
        {number: plan.digest_part(number) for number in numbers},
    )


def strip(galaxies: Galaxies) -> Galaxies:
    """Return galaxies without what is not needed to explain them, such as columns of the catalog.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies.

    Returns
    -------
    Galaxies
    """
    table = pd.DataFrame(index=pd.RangeIndex(len(galaxies)))
    return replace(galaxies, table=table, class_counts={}, rejected={})


def take_first(galaxies: Galaxies, n: int) -> Galaxies:
    """Return the first of some galaxies, without the columns of the catalog."""
    return strip(galaxies.take(np.arange(min(n, len(galaxies)))))


def anchor_images(galaxies: Galaxies, folder: Path) -> Galaxies:
    """Return galaxies with the relative paths of their images taken from a folder.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies.
    folder : Path
        An absolute path.

    Returns
    -------
    Galaxies
    """
    return replace(galaxies, paths=tuple(_anchor(source, folder) for source in galaxies.paths))


def _anchor(source: Source, folder: Path) -> Source:
    if isinstance(source, Path):
        return folder / source
    if isinstance(source, Address):
        return source
    if isinstance(source, BandFiles):
        paths = (path if isinstance(path, Address) else folder / path for path in source.paths)
        return replace(source, paths=tuple(paths))
    return replace(source, path=folder / source.path)
