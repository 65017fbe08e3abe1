"""Portions: some shards of a plan, without what a worker does not need."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import load_with_settings

from galfig.images.arrays import Element
from galfig.images.sources import BandFiles
from galfig.pipeline.plan import make_plan
from galfig.pipeline.portion import anchor_images, cut_portion, take_first


@pytest.fixture
def plan(galaxy_folder, checkpoint):
    """Plan to explain 24 galaxies in five shards."""
    galaxies, settings = load_with_settings(galaxy_folder, shard_size=5)
    return make_plan(galaxies, settings, checkpoint, "all")


def test_a_portion_answers_like_its_plan(plan):
    """Its shards have the galaxies, the numbers and the digests that they have there."""
    portion = cut_portion(plan, [1, 4])
    for number in (1, 4):
        expected, found = plan.take(number), portion.take(number)
        for name in ("objid", "redshift", "value", "label", "split"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert [*found.paths] == [*expected.paths]
        assert portion.digest_part(number) == plan.digest_part(number)
        # What `take` of some rows needs of a table, and none of its columns.
        assert found.take(np.array([0, 2])).table.shape == (2, 0)
    assert portion.count([1, 4]) == plan.count([1, 4]) == 9
    with pytest.raises(KeyError):
        portion.take(2)


def test_a_portion_is_small(plan):
    """What is sent for one shard does not grow with the catalog, nor with what it rejected."""
    large = plan.galaxies.table.assign(note="x" * 10_000)
    rejected = {str(index): "no image" for index in range(1000)}
    heavy = replace(plan, galaxies=replace(plan.galaxies, table=large, rejected=rejected))
    sizes = [len(pickle.dumps(cut_portion(one, [0]))) for one in (plan, heavy)]
    assert sizes[1] <= sizes[0] < 20_000


def test_relative_paths_are_taken_from_a_folder(plan):
    """Of files, files by band, and arrays; absolute ones stay."""
    first = take_first(plan.galaxies, 4)
    assert len(take_first(first, 9)) == 4
    band = BandFiles((Path("g.fits"), Path("/r.fits")))
    sources = (Path("a/b.jpg"), Path("/c.jpg"), band, Element(Path("e.h5"), "images", 3))
    moved = anchor_images(replace(first, paths=sources), Path("/there"))
    assert moved.paths == (
        Path("/there/a/b.jpg"),
        Path("/c.jpg"),
        BandFiles((Path("/there/g.fits"), Path("/r.fits"))),
        Element(Path("/there/e.h5"), "images", 3),
    )
