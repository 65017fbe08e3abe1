"""The seal: HDF5's own checksum, and damage found and named."""

import json

import h5py
import numpy as np
import pytest

from galfig.errors import StoreError
from galfig.store.checksums import find_damage, seal_file
from galfig.store.chunks import fletcher32
from galfig.store.reader import open_store, verify_store


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 10,
        b"\xff" * 131072,
        b"a",
        b"abc",
        np.random.default_rng(0).integers(0, 256, 40001, np.uint8).tobytes(),
        np.random.default_rng(1).integers(0, 256, 722, np.uint8).tobytes(),
    ],
    ids=["empty", "zeros", "ones", "one byte", "odd", "random odd", "two blocks"],
)
def test_checksum_is_that_of_hdf5(tmp_path, data):
    """HDF5 appends the same four bytes to a chunk."""
    if data:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            dataset = file.create_dataset(
                "a", data=np.frombuffer(data, np.uint8), chunks=(len(data),), fletcher32=True
            )
            _, chunk = dataset.id.read_direct_chunk((0,))
        assert chunk == data + fletcher32(data).to_bytes(4, "little")
    assert fletcher32(b"") == 0


def test_new_store_is_as_it_was_written(store_path):
    """Nothing is found in a store that nobody touched."""
    assert verify_store(store_path) == []


def change(path, name, edit):
    with h5py.File(path, "r+") as file:
        edit(file[name] if name else file)


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("redshift", lambda d: d.write_direct(np.full(12, 0.5)), "redshift: checksum mismatch"),
        ("objid", lambda d: d.__setitem__(3, "1237"), "objid: checksum mismatch"),
        ("catalog/z", lambda d: d.__setitem__(0, 0.5), "catalog/z: checksum mismatch"),
        ("", lambda f: f.attrs.__setitem__("split", "train"), "attributes"),
        ("probs", lambda d: d.attrs.__setitem__("description", "odds"), "attributes"),
        ("", lambda f: f.__delitem__("kpc_per_arcsec"), "the list of datasets"),
        (
            "cams",
            lambda d: d.id.write_direct_chunk((4, 0, 0, 0), b"xxxx"),
            "galaxy '1237665024900858104' (number 5)",
        ),
    ],
)
def test_each_change_is_found_and_named(make_store, name, edit, words):
    """A number, a text, an attribute, a dataset or a map that was changed."""
    path = make_store(kpc_per_arcsec=np.ones(12))
    change(path, name, edit)
    (found,) = verify_store(path)
    assert words in found


def test_map_with_a_flipped_bit_is_named_by_whoever_reads_it(store_path):
    """Reading the galaxy fails in one line; the others are read as ever."""
    with h5py.File(store_path) as file:
        info = file["cams"].id.get_chunk_info(7)
    data = bytearray(store_path.read_bytes())
    data[info.byte_offset + 11] ^= 4
    store_path.write_bytes(data)
    with open_store(store_path) as store:
        store.cams(6)
        with pytest.raises(StoreError, match=r"cams, row 7: damaged .*galfig verify"):
            store.cams(7)


def test_store_without_a_seal_cannot_be_verified(store_path):
    """One by an older galfig says so."""
    change(store_path, "", lambda file: file.attrs.__delitem__("seal"))
    (found,) = verify_store(store_path)
    assert "older galfig" in found


def test_texts_are_told_apart(tmp_path):
    """Moving a letter from one text to the next changes the digest."""
    seals = []
    for texts in (["ab", "c"], ["a", "bc"]):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("objid", data=texts, dtype=h5py.string_dtype())
            seal_file(file)
            assert list(find_damage(file)) == []
            seals.append(file.attrs["seal"])
    assert seals[0] != seals[1]


@pytest.mark.parametrize(
    ("name", "replaced", "words"),
    [
        (
            "probs",
            np.zeros((11, 2), np.float32),
            r"probs of shape \(11, 2\), expected \(12, 2\)",
        ),
        ("logits", np.zeros((12, 3), np.float32), r"logits of shape \(12, 3\)"),
        ("redshift", np.zeros((12, 1)), r"redshift of shape \(12, 1\)"),
        ("catalog/z", np.zeros(13), r"catalog/z of shape \(13,\)"),
    ],
)
def test_datasets_that_do_not_fit_are_refused(store_path, name, replaced, words):
    """Maps, numbers and catalog of different length."""

    def edit(file):
        del file[name]
        file[name] = replaced

    change(store_path, "", edit)
    with pytest.raises(StoreError, match=words), open_store(store_path):
        pass


def test_declared_shape_is_not_believed(tmp_path, store_path):
    """A thousand million galaxies in a small file: refused without reserving memory for them."""
    n = 10**9

    def edit(file):
        for name in [name for name, item in file.items() if isinstance(item, h5py.Dataset)]:
            source = file[name]
            shape, dtype, chunks = (n, *source.shape[1:]), source.dtype, source.chunks
            del file[name]
            file.create_dataset(name, shape, dtype, chunks=chunks)
        del file["catalog"]
        file.create_group("catalog").attrs["columns"] = json.dumps({})

    change(store_path, "", edit)
    assert store_path.stat().st_size < 10**6
    with pytest.raises(StoreError, match=r"declares [12]000000000 numbers, and holds fewer"):
        open_store(store_path).__enter__()
