"""Sources: the images of many galaxies, each made when it is asked for."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galfig.config import CatalogSettings
from galfig.images.arrays import Element
from galfig.images.sources import (
    BandFiles,
    ElementSources,
    FileSources,
    JoinedSources,
    find_stretch,
    take_sources,
)


def make_files(*names):
    return FileSources(Path("root"), [pa.array(one, pa.large_string()) for one in names])


def test_sources_are_a_sequence():
    """They count, slice and end as a tuple does, and know a file of one band from several."""
    sources, paths = make_files(["a.jpg", "b/c.jpg"]), (Path("root/a.jpg"), Path("root/b/c.jpg"))
    assert (len(sources), tuple(sources), sources[-1]) == (2, paths, paths[1])
    assert tuple(sources[:1]) == paths[:1]
    assert sources[np.int64(1)] == paths[1]
    assert paths[1] in sources
    assert tuple(sources.take(np.array([1, 1, 0]))) == (paths[1], paths[1], paths[0])
    assert tuple(take_sources(paths, np.array([1]))) == paths[1:]
    with pytest.raises(IndexError):
        sources[2]
    two = make_files(["a_g.fits"], ["a_r.fits"])
    assert two[0] == BandFiles((Path("root/a_g.fits"), Path("root/a_r.fits")))
    assert "2 images" in repr(sources)
    assert repr(sources[:0]) == "<0 images>"


def test_joined_sources_are_those_of_their_parts():
    """Any choice and order of the images is what it would be of a list of them."""
    parts = [
        make_files(["a.jpg", "b.jpg"]),
        make_files([]),
        ElementSources(Path("x.npy"), "", np.arange(5)),
    ]
    joined, plain = JoinedSources(parts), [image for part in parts for image in part]
    assert list(joined) == plain
    assert joined[4] == Element(Path("x.npy"), "", 2)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = rng.integers(0, len(plain), rng.integers(0, 9))
        again = rng.integers(0, max(len(rows), 1), 4 if len(rows) else 0)
        taken = joined.take(rows).take(again)
        assert list(taken) == [plain[rows[row]] for row in again]


def test_a_shard_is_small_wherever_it_is_sent():
    """What is taken keeps nothing of the others."""
    names = [f"{number:020d}.jpg" for number in range(20_000)]
    joined = JoinedSources([make_files(names), make_files(names)])
    assert len(pickle.dumps(joined[100:110])) < 5000
    assert list(pickle.loads(pickle.dumps(joined[100:110]))) == list(joined)[100:110]


def test_the_stretch_follows_from_the_names_as_from_the_paths():
    """One FITS image among many is found, in any case and packing, and in any band."""
    catalog = CatalogSettings()
    for name in ("a.fits", "a.FIT", "a.fts", "a.Fits.gz", "a.fit.gz", "a.fits.fz"):
        for names in ([name], ["b.jpg", name]):
            assert find_stretch(make_files(names), catalog) == "sky"
            assert find_stretch(tuple(make_files(names)), catalog) == "sky"
        assert find_stretch(make_files(["b.jpg"], [name]), catalog) == "sky"
        assert find_stretch(JoinedSources([make_files(["b.jpg"]), make_files([name])]), catalog)
    for name in ("a.jpg", "a.fits.jpg", "fits", "a.fts.gz", "afits", "a.fit.fz"):
        assert find_stretch(make_files([name]), catalog) == ""
        assert find_stretch(tuple(make_files([name])), catalog) == ""
    assert find_stretch(ElementSources(Path("x.npy"), "", np.arange(2)), catalog) == "sky"
