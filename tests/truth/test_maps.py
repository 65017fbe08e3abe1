"""Tests of galfig.truth.maps: what is read, and what is refused in one line."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from galfig.errors import ScoreError, StoreError
from galfig.store.reader import open_store
from galfig.truth.maps import load_maps

MAPS = np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype(np.float32)
NAMES = ["a", "b", "c"]


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", ["npy", "fortran", "npz", "compressed", "bytes", "numbers"])
def test_numpy_files_are_read(tmp_path, kind):
    """As numpy writes them, in either order, with identifiers of text, bytes or numbers."""
    path = tmp_path / ("maps.npy" if kind in ("npy", "fortran") else "maps.npz")
    names = {"bytes": np.array(NAMES, "S"), "numbers": np.arange(3)}.get(kind, np.array(NAMES))
    if path.suffix == ".npy":
        np.save(path, np.asfortranarray(MAPS) if kind == "fortran" else MAPS)
    elif kind == "compressed":
        np.savez_compressed(path, maps=MAPS, objid=names)
    else:
        write_npz(path, maps=MAPS, objid=names)
    found = load_maps(path)
    assert found.shape == (3, 2, 4, 5)
    np.testing.assert_array_equal(found.read(2), MAPS[2])
    expected = {"numbers": ["0", "1", "2"]}.get(kind, NAMES)
    assert found.objid == (None if path.suffix == ".npy" else expected)


def test_a_store_brings_all_it_knows(make_store):
    """Identifiers, classes, and the side of its cutouts."""
    path = make_store()
    store = open_store(path)
    found = load_maps(path)
    assert found.objid == store.objid.tolist()
    assert found.class_names == store.class_names
    assert found.cutout_size == store.settings.training.cutout_size
    np.testing.assert_array_equal(found.read(1), store.cams(1))
    found.close()
    assert found.store.is_closed


def make_bomb():
    """Claim more zeros than any machine has."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999, 999999), }"
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def save(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


class Planted:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("planted",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.npy", b"", "begins with b''"),
        ("m.npy", b"hello world", "begins with b'hello wo'"),
        ("m.npy", save(MAPS)[:-3], "truncated"),
        ("m.npy", save(MAPS) + b"x", "followed by other bytes"),
        ("m.npy", save(MAPS)[:20], "no header of numpy's"),
        ("m.npy", make_bomb(), "expected at most 4000 MB"),
        ("m.npy", save(MAPS[0, 0]), r"an array \(4, 5\) of float32"),
        ("m.npy", save(MAPS.astype(str)), "expected numbers of the shape"),
        ("m.npy", save(MAPS.astype(complex)), "expected numbers"),
        ("m.npy", save(MAPS[:0]), "expected numbers of the shape"),
        ("m.npz", b"PK\x03\x04 and so on", "damaged|not a zip file|cannot be read"),
    ],
)
def test_what_holds_no_maps_is_one_line(tmp_path, name, content, words):
    """Where, what was found, and what was expected."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScoreError, match=words) as found:
        load_maps(tmp_path / name)
    assert str(tmp_path / name) in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"cams": MAPS, "objid": NAMES}, r"arrays 'cams', 'objid', expected 'maps' and 'objid'"),
        ({"maps": MAPS}, "expected 'maps' and 'objid'"),
        ({"maps": MAPS, "objid": NAMES[:2]}, "3 maps, but 2 identifiers"),
        ({"maps": MAPS, "objid": [NAMES]}, r"'objid' is an array \(1, 3\)"),
        ({"maps": MAPS, "objid": [0.5, 1, 2]}, "of float64, expected a list of texts"),
    ],
)
def test_npz_without_its_arrays(tmp_path, arrays, words):
    """The message lists what is there."""
    with pytest.raises(ScoreError, match=words):
        load_maps(write_npz(tmp_path / "m.npz", **arrays))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_nothing_is_unpickled(tmp_path, suffix):
    """Arrays of objects hold code."""
    content = save(np.array([Planted()], dtype=object), allow_pickle=True)
    path = tmp_path / f"m.{suffix}"
    if suffix == "npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("maps.npy", save(MAPS))
            archive.writestr("objid.npy", content)
    with pytest.raises(ScoreError, match="nothing is unpickled"):
        load_maps(path)
    assert not Path("planted").exists()
    (tmp_path / "m.npy").write_bytes(pickle.dumps(Planted()))
    with pytest.raises(ScoreError):
        load_maps(tmp_path / "m.npy")
    assert not Path("planted").exists()


def test_a_small_archive_cannot_fill_the_memory(tmp_path):
    """The header is compared with the limit before anything is unpacked."""
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("maps.npy", make_bomb() + bytes(1 << 20))
        archive.writestr("objid.npy", save(np.array(NAMES)))
    with pytest.raises(ScoreError, match="expected at most 4000 MB"):
        load_maps(tmp_path / "m.npz")


def test_pipes_folders_and_files_that_are_gone(tmp_path):
    """None is waited for."""
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "other.h5").write_text("no store")
    for name, error, words in (
        ("pipe.npy", ScoreError, "a named pipe"),
        ("gone.npy", ScoreError, "No such file"),
        ("", ScoreError, "directory"),
        ("other.h5", StoreError, "other.h5"),
    ):
        with pytest.raises(error, match=words):
            load_maps(tmp_path / name)


@pytest.mark.parametrize("shape", [(1, 1, 9000), (10_000_001, 1, 1)])
def test_maps_of_absurd_shapes_are_refused(tmp_path, shape):
    """Bringing them to the masks, or listing them, would take more memory than there is."""
    np.save(tmp_path / "m.npy", np.zeros(shape, np.int8))
    with pytest.raises(ScoreError, match="expected at most 10000000 maps, with sides of at most"):
        load_maps(tmp_path / "m.npy")


def test_a_list_of_other_length_is_not_spelt_out(tmp_path, monkeypatch):
    """A small archive can hold a list that grows a hundredfold as text."""
    monkeypatch.setattr("galfig.truth.maps._as_text", pytest.fail)
    np.savez_compressed(tmp_path / "m.npz", maps=MAPS, objid=np.zeros(1000, np.int8))
    with pytest.raises(ScoreError, match="3 maps, but 1000 identifiers"):
        load_maps(tmp_path / "m.npz")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_lack_of_memory_is_named(tmp_path, monkeypatch, suffix):
    """It is no damage of the file."""

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("galfig.truth.maps.np.frombuffer", fail)
    path = tmp_path / f"m.{suffix}"
    if suffix == "npy":
        np.save(path, MAPS)
    else:
        write_npz(path, maps=MAPS, objid=NAMES)
    with pytest.raises(ScoreError, match="do not fit into the memory"):
        load_maps(path)
