"""Changes: which images are not those that a store was made from."""

import os

import pytest
from samples import load_with_settings

from galfig.images.identity import digest_files
from galfig.pipeline.changes import describe_changed, find_changed


@pytest.fixture
def galaxies(galaxy_folder):
    return load_with_settings(galaxy_folder)[0]


def test_changed_images_are_named(galaxies):
    """Their size and time may be what they were."""
    recorded = dict(zip(galaxies.objid, digest_files(galaxies.paths).tolist(), strict=True))
    assert not len(find_changed(galaxies, recorded))
    for row in (3, 7):
        before = galaxies.paths[row].stat()
        data = bytearray(galaxies.paths[row].read_bytes())
        data[-5] ^= 1
        galaxies.paths[row].write_bytes(data)
        os.utime(galaxies.paths[row], ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = find_changed(galaxies, recorded, n_workers=2)
    assert changed.tolist() == galaxies.objid[[3, 7]].tolist()
    first = galaxies.objid[3]
    assert (
        describe_changed(changed)
        == f"images of 2 galaxies changed since it was made, first: '{first}'"
    )
    assert describe_changed(changed[:1]).startswith("the image of 1 galaxy changed")


def test_galaxy_that_was_not_recorded_has_changed(galaxies, monkeypatch):
    """No image is read to find that out."""
    monkeypatch.setattr("galfig.pipeline.changes.digest_files", lambda *args, **options: 1 / 0)
    assert find_changed(galaxies, {}).tolist() == galaxies.objid.tolist()
