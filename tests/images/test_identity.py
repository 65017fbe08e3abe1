"""Identity: images are told apart by the bytes that were decoded."""

import hashlib
import os

import numpy as np
import pytest
from samples import load_with_settings

from galfig.errors import CutoutError, LostCutoutError
from galfig.images.cutouts import load_cutouts, read_cutout
from galfig.images.identity import combine_digests, digest_files, digest_image


@pytest.fixture
def paths(galaxy_folder):
    return load_with_settings(galaxy_folder)[0].paths


def test_digest_is_the_beginning_of_the_sha256(paths):
    """As h5dump shows it, it can be compared with what sha256sum prints."""
    digits = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert f"{digest_image(paths[0].read_bytes()):016x}" == digits[:16]
    assert digest_files(paths[:1]).tolist() == [int(digits[:16], 16)]


def test_digest_is_of_the_bytes_that_were_decoded(paths, monkeypatch):
    """Each file is read once: what is replaced right after cannot be recorded as what was seen."""
    seen = {}

    def note(path, data):
        seen[path] = digest_image(data)
        path.write_bytes(b"replaced")

    before = digest_files(paths).tolist()
    cutouts, reasons = load_cutouts(paths, 32, 32, on_bytes=note)
    assert not reasons
    assert cutouts.any(axis=(1, 2, 3)).all()
    assert [seen[path] for path in paths] == before


def test_damaged_image_has_a_digest_too(paths):
    """When it is repaired, its galaxy is no longer the one that was rejected."""
    paths[0].write_bytes(b"no image")
    seen = {}
    with pytest.raises(CutoutError):
        read_cutout(paths[0], 32, on_bytes=seen.__setitem__)
    assert seen == {paths[0]: b"no image"}
    assert digest_files(paths[:1]) == digest_image(b"no image")


def test_what_cannot_be_read_has_none(tmp_path, paths):
    """An empty file, a folder and a pipe; but a file that is gone is not the galaxy's fault."""
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    odd = [tmp_path / "empty", tmp_path, tmp_path / "pipe"]
    assert digest_files([*odd, paths[0]])[:3].tolist() == [0, 0, 0]
    with pytest.raises(LostCutoutError, match="absent: lost"):
        digest_files([tmp_path / "absent"])


def test_one_digest_of_many(paths):
    """It follows from each image and from whose it is."""
    digests = digest_files(paths).tolist()
    names = [str(row) for row in range(len(paths))]
    found = {
        combine_digests(names, digests),
        combine_digests(names, [*digests[:-1], digests[-1] + 1]),
        combine_digests(names, [digests[1], digests[0], *digests[2:]]),
        combine_digests([*names[:-1], "x"], digests),
        combine_digests(names[:-1], digests[:-1]),
    }
    assert len(found) == 5
    assert combine_digests(names, np.array(digests, np.uint64).tolist()) in found
