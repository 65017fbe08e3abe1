"""Images in arrays: read in place, one at a time, and nothing that runs or leads out."""

import io
import pickle

import h5py
import numpy as np
import pytest
from PIL import Image

from galfig.errors import CatalogError, CutoutError
from galfig.images.arrays import Element, choose_array, describe_arrays, read_columns
from galfig.images.cutouts import Decoding, decode_image
from galfig.images.identity import NO_DIGEST, digest_files
from galfig.images.stretch import stretch_image


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)


@pytest.fixture
def h5(tmp_path, images):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, chunks=(2, 20, 24, 3), compression="gzip")
        file["flux"] = np.moveaxis(images[..., :2], -1, 1).astype(np.float32)
        file["ans"] = np.arange(5, dtype=np.uint8)
        file["name"] = np.array([b"a", b"b", b"c", b"d", b"e"])
        file["group/more"] = images[:, :, :, 0]
    return path


def test_every_element_is_the_image_of_its_row(tmp_path, h5, images):
    """Bytes are pixels as they are; numpy's files and HDF5 give the same."""
    np.save(tmp_path / "a.npy", images)
    for row in range(5):
        for source in (Element(h5, "images", row), Element(tmp_path / "a.npy", "", row)):
            np.testing.assert_array_equal(decode_image(source), images[row])
    grey = decode_image(Element(h5, "group/more", 2), Decoding(1))
    np.testing.assert_array_equal(grey[..., 0], images[2, :, :, 0])


def test_fluxes_are_stretched_with_channels_before_or_behind(h5, images):
    """As those of FITS are; an array of two channels, the channels first."""
    pixels = decode_image(Element(h5, "flux", 1), Decoding(2))
    expected = stretch_image(np.moveaxis(images[1, ..., :2], -1, 0).astype(np.float64))
    np.testing.assert_array_equal(pixels, expected)


def test_single_image_in_a_file_of_numpy(tmp_path, images):
    """An image per galaxy in numpy's format is a format like any other."""
    np.save(tmp_path / "one.npy", images[0])
    np.testing.assert_array_equal(decode_image(tmp_path / "one.npy"), images[0])


def test_arrays_that_may_be_images_are_found(tmp_path, h5, images):
    """One is taken by itself; of several, one must be named."""
    assert set(describe_arrays(h5)) == {"images", "flux", "group/more"}
    assert choose_array(h5, "images") == ("images", 5)
    with pytest.raises(CatalogError, match=r"expected one array of images.*set \[catalog\] array"):
        choose_array(h5, None)
    with pytest.raises(CatalogError, match="array 'nosuch' of images"):
        choose_array(h5, "nosuch")
    np.save(tmp_path / "a.npy", images)
    assert choose_array(tmp_path / "a.npy", None) == ("", 5)
    assert set(read_columns(h5, 5)) == {"ans", "name"}


def test_nothing_is_unpickled(tmp_path):
    """An array of objects in numpy's format is a pickle, which can run any code."""

    class Bomb:
        def __reduce__(self):
            return (print, ("run",))

    path = tmp_path / "a.npy"
    np.save(path, np.array([Bomb()] * 3, dtype=object), allow_pickle=True)
    with pytest.raises(CatalogError, match="an array of object, expected numbers"):
        describe_arrays(path)
    with pytest.raises(CutoutError, match="expected numbers"):
        decode_image(Element(path, "", 0))
    path.write_bytes(pickle.dumps(1))
    with pytest.raises(CutoutError, match="no header of numpy's"):
        decode_image(Element(path, "", 0))


def test_data_in_other_files_are_not_followed(tmp_path, h5, images):
    """Links, external storage and virtual arrays would show any file that the reader may read."""
    path = tmp_path / "evil.h5"
    with h5py.File(path, "w") as file:
        file["soft"] = h5py.SoftLink("/images")
        file["outside"] = h5py.ExternalLink(str(h5), "/images")
        file.create_dataset("raw", (5, 20, 24), "u1", external=[(str(h5), 0, h5py.h5f.UNLIMITED)])
        layout = h5py.VirtualLayout((5, 20, 24, 3), "u1")
        layout[...] = h5py.VirtualSource(str(h5), "images", (5, 20, 24, 3))
        file.create_virtual_dataset("virtual", layout)
    assert describe_arrays(path) == {}
    for name in ("soft", "outside", "raw", "virtual"):
        with pytest.raises(CutoutError, match="no such element"):
            decode_image(Element(path, name, 0))


@pytest.mark.parametrize("change", ["short", "gone", "fortran", "damaged"])
def test_damage_leaves_one_image_out(tmp_path, images, change):
    """The reason names file, array and row."""
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(images) if change == "fortran" else images)
    if change == "short":
        path.write_bytes(path.read_bytes()[:-10])
    if change == "damaged":
        path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': __impo" + bytes(99))
    element = Element(path, "", 9 if change == "gone" else 4)
    with pytest.raises(CutoutError, match=r"a\.npy:\["):
        decode_image(element)
    assert digest_files([element]).tolist() == [NO_DIGEST]


def test_identity_is_that_of_the_values(tmp_path, h5, images):
    """Each element has its own digest, which follows from its values."""
    digests = digest_files([Element(h5, "images", row) for row in range(5)])
    assert len(set(digests)) == 5
    changed = images.copy()
    changed[3, 5, 5, 0] ^= 1
    np.save(tmp_path / "b.npy", changed)
    others = digest_files([Element(tmp_path / "b.npy", "", row) for row in range(5)])
    assert (digests == others).tolist() == [True, True, True, False, True]


def test_one_image_at_a_time(tmp_path, images, monkeypatch):
    """A file of numpy's is read only where the element is."""
    np.save(tmp_path / "a.npy", images)
    read = []

    class Watched(io.FileIO):
        def read(self, size=-1):
            chunk = super().read(size)
            read.append(len(chunk))
            return chunk

    monkeypatch.setattr("galfig.images.arrays.open_regular", lambda path: Watched(path))
    decode_image(Element(tmp_path / "a.npy", "", 4))
    assert sum(read) < 2 * images[0].nbytes


@pytest.fixture
def table_of_images(tmp_path, images):
    """Image files in a struct, as bytes, and fluxes as lists; two groups of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = []
    for pixels in images:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        files.append(stream.getvalue())
    flux = np.moveaxis(images[..., :2], -1, 1).astype(np.float32)
    table = pa.table(
        {
            "image": [{"bytes": data, "path": None} for data in files],
            "raw": [*files[:4], None],
            "cube": [{"band": ["g", "r"], "flux": one.tolist()} for one in flux],
            "object_id": [1237665024900858129 + row for row in range(5)],
            "kind": ["a", None, "a", "b", "b"],
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=3)
    return path


def test_columns_of_parquet(table_of_images, images):
    """Image files and fluxes, whatever their group of rows."""
    path = table_of_images
    assert describe_arrays(path) == {"image": (5,), "raw": (5,), "cube": (5,)}
    for row in range(5):
        np.testing.assert_array_equal(decode_image(Element(path, "image", row)), images[row])
    expected = stretch_image(np.moveaxis(images[4, ..., :2], -1, 0).astype(np.float64))
    np.testing.assert_array_equal(decode_image(Element(path, "cube", 4), Decoding(2)), expected)


def test_cells_of_parquet_without_an_image(table_of_images, monkeypatch):
    """Empty cells leave one galaxy out; a huge group of rows is refused before it is read."""
    with pytest.raises(CutoutError, match="an empty cell, expected an image"):
        decode_image(Element(table_of_images, "raw", 4))
    with pytest.raises(CutoutError, match="no such row"):
        decode_image(Element(table_of_images, "raw", 5))
    monkeypatch.setattr("galfig.images.parquet.MAX_GROUP", 10)
    with pytest.raises(CutoutError, match=r"a group of rows of .* GB, expected at most"):
        decode_image(Element(table_of_images, "image", 0))
