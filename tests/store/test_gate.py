"""The gate: what lies in other files, leads in circles or declares too much is not read."""

import contextlib
import zlib

import h5py
import numpy as np
import pytest

from galfig.errors import StoreError
from galfig.store.checksums import seal_file
from galfig.store.gate import check_contents
from galfig.store.reader import open_store, verify_store
from galfig.store.schema import open_part

SECRET = b"aws_secret_access_key=HUNTER2"
TEXT = h5py.string_dtype("utf-8", 64)


@pytest.fixture
def secret(tmp_path):
    """Write a file that no store may show, and the same bytes as an HDF5 file."""
    texts = [SECRET.ljust(64, b"."), *(b"g%d" % index for index in range(1, 12))]
    (tmp_path / "credentials").write_bytes(b"".join(text.ljust(64, b"\0") for text in texts))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["texts"] = np.array(texts, TEXT)
    return tmp_path


def lie_outside(file, folder):
    file.create_dataset("objid", (12,), TEXT, external=[(str(folder / "credentials"), 0, 768)])


def link_outside(file, folder):
    file["objid"] = h5py.ExternalLink(str(folder / "other.h5"), "/texts")


def link_to_a_link(file, folder):
    file["objid"] = h5py.SoftLink("/catalog/objID")


def be_virtual(file, folder):
    layout = h5py.VirtualLayout((12,), TEXT)
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "texts", (12,))
    file.create_virtual_dataset("objid", layout)


def be_virtual_of_itself(file, folder):
    """Refuse even one that stays in the file: it could name any other when it is edited."""
    layout = h5py.VirtualLayout((12,), "f8")
    layout[:] = h5py.VirtualSource(".", "redshift", (12,))
    del file["value"]
    file.create_virtual_dataset("value", layout)
    file["objid"] = np.array([b"g%d" % index for index in range(12)], TEXT)


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (lie_outside, "'objid' are in another file"),
        (link_outside, "'objid' in '/' is a link to another place or file"),
        (link_to_a_link, "'objid' in '/' is a link to another place or file"),
        (be_virtual, "'objid' are in another file"),
        (be_virtual_of_itself, "'value' are in another file"),
    ],
)
def test_data_of_other_files_are_refused(campaign, store_path, secret, put, words):
    """An identifier is never the text of another file, and verify does not call it sound."""
    with h5py.File(store_path, "r+") as file:
        del file["objid"]
        put(file, secret)
        with contextlib.suppress(OSError):
            seal_file(file)
    with campaign.trial("HDF5 that reads other files"):
        for read in (open_store, verify_store):
            with pytest.raises(StoreError, match=words):
                read(store_path)


@pytest.mark.parametrize("name", ["objid", "cams", "catalog/z", "rejected/reason"])
@pytest.mark.parametrize("place", ["root", "group"])
def test_link_to_nowhere_is_refused(campaign, store_path, name, place):
    """Whichever dataset it replaces; a link in a circle is one to nowhere."""
    target = {"root": "/nothing", "group": name}[place]
    with h5py.File(store_path, "r+") as file:
        del file[name]
        file[name] = h5py.SoftLink(target)
    with campaign.trial("HDF5 links"), pytest.raises(StoreError, match="is a link"):
        open_store(store_path)


def declare(name, **options):
    """Declare ten million rows and store none."""

    def edit(file):
        source = file[name]
        shape, dtype = (10**7, *source.shape[1:]), source.dtype
        del file[name]
        file.create_dataset(name, shape, dtype, **options)

    return edit


@pytest.mark.parametrize("name", ["objid", "label", "probs", "catalog/z", "rejected/reason"])
@pytest.mark.parametrize("options", [{}, {"chunks": True}, {"chunks": True, "compression": "gzip"}])
def test_arrays_that_are_declared_only_are_refused(campaign, store_path, name, options):
    """Neither in one piece nor in chunks that nobody wrote."""
    with h5py.File(store_path, "r+") as file:
        declare(name, **options)(file)
    with (
        campaign.trial("HDF5 that declares too much"),
        pytest.raises(StoreError, match=r"and holds fewer|is in chunks|has chunks of"),
    ):
        open_store(store_path)


def test_images_that_are_declared_only_are_refused(campaign, store_path):
    """Maps of a galaxy that was written, and of ten million that were not."""
    with h5py.File(store_path, "r+") as file:
        del file["cams"]
        cams = file.create_dataset("cams", (10**7, 2, 24, 24), "f2", chunks=(1, 2, 24, 24))
        cams[0] = 1
    with (
        campaign.trial("HDF5 that declares too much"),
        pytest.raises(StoreError, match=r"'cams' declares 11520000000 numbers"),
    ):
        open_store(store_path)


def test_images_that_expand_without_end_are_refused(campaign, store_path):
    """A chunk of some bytes that declares 128 MB; what zlib really can do is accepted."""
    with h5py.File(store_path, "r+") as file:
        del file["cutouts"]
        shape = (12, 6000, 6000, 3)
        cutouts = file.create_dataset("cutouts", shape, "u1", chunks=(1, *shape[1:]), compression=4)
        for row in range(12):
            cutouts.id.write_direct_chunk((row, 0, 0, 0), zlib.compress(bytes(1000)))
        file.attrs["cutout_size"] = 6000
    with (
        campaign.trial("HDF5 that declares too much"),
        pytest.raises(StoreError, match="'cutouts' declares"),
    ):
        open_store(store_path)
    with h5py.File(store_path, "r+") as file:
        chunk = zlib.compress(bytes(6000 * 6000 * 3), 9)
        for row in range(12):
            file["cutouts"].id.write_direct_chunk((row, 0, 0, 0), chunk)
    with open_store(store_path) as store:
        assert not store.cutouts(3).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"compression": "lzf"}, "filters"),
        ({"scaleoffset": 2}, "filters"),
        ({"chunks": (3, 24, 24, 3)}, "expected one galaxy in each"),
    ],
)
def test_other_filters_and_chunks_are_refused(store_path, options, words):
    """A filter may be a plugin; a chunk of many galaxies is read whole for one of them."""
    with h5py.File(store_path, "r+") as file:
        pixels = file["cutouts"][()]
        del file["cutouts"]
        file.create_dataset("cutouts", data=pixels, **{"chunks": (1, 24, 24, 3), **options})
    with pytest.raises(StoreError, match=words):
        open_store(store_path)


def test_deflate_twice_is_refused(store_path):
    """Two filters multiply what a chunk may expand to."""
    with h5py.File(store_path, "r+") as file:
        del file["cutouts"]
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((1, 24, 24, 3))
        layout.set_deflate(9)
        layout.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
        space = h5py.h5s.create_simple((12, 24, 24, 3))
        h5py.h5d.create(file.id, b"cutouts", h5py.h5t.STD_U8LE, space, layout)
        file["cutouts"][:] = 0
    with pytest.raises(StoreError, match=r"filters \[1, 1\]"):
        open_store(store_path)


def test_texts_of_variable_length_are_read_and_bounded(campaign, store_path):
    """galfig writes them for columns of very long cells; a thousand references to one are not."""
    texts = ["x" * 10_000, *map(str, range(11))]
    with h5py.File(store_path, "r+") as file:
        del file["catalog/objID"]
        file["catalog"].create_dataset("objID", data=texts, dtype=h5py.string_dtype())
    with open_store(store_path) as store:
        assert list(store.catalog["objID"]) == texts
    with h5py.File(store_path) as file:
        offset = file["catalog/objID"].id.get_offset()
    with store_path.open("r+b") as stream:
        stream.seek(offset)
        reference = stream.read(16)
        stream.seek(offset)
        stream.write(12 * reference)
    assert store_path.stat().st_size < 120_000
    with (
        campaign.trial("HDF5 that declares too much"),
        pytest.raises(StoreError, match="its datasets hold"),
    ):
        open_store(store_path)


def test_datasets_that_share_their_bytes_are_refused(campaign, tmp_path):
    """A file of many names for one array would be read over and over."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["catalog/a"] = np.zeros(10_000)
        for index in range(50):
            file[f"catalog/{index}"] = file["catalog/a"]
    with (
        campaign.trial("HDF5 that declares too much"),
        h5py.File(path) as file,
        pytest.raises(StoreError, match=r"hold \d+ bytes, and the file has"),
    ):
        check_contents(file, path)


def test_huge_attribute_is_not_read(campaign, store_path):
    """A hundred megabytes where a word is expected."""
    with h5py.File(store_path, "r+", libver="latest") as file:
        file.attrs["split"] = np.zeros(10**8 // 8)
    with (
        campaign.trial("HDF5 that declares too much"),
        pytest.raises(StoreError, match="attribute 'split' of shape"),
    ):
        open_store(store_path)


def test_crowds_are_refused(store_path):
    """More datasets in the root, and more attributes, than any store has."""
    with h5py.File(store_path, "r+") as file:
        for index in range(100):
            file[f"more{index}"] = np.arange(1)
    with pytest.raises(StoreError, match="members of '/', expected at most 64"):
        open_store(store_path)


def test_part_passes_the_same_gate(campaign, tmp_path, secret):
    """A part whose identifiers lie in another file is not merged."""
    from samples import draw_galaxies

    path = tmp_path / "part.h5"
    draw_galaxies(0, 12).write(path)
    with open_part(path) as part:
        assert part["label"].shape == (12,)
    with h5py.File(path, "r+") as file:
        del file["objid"]
        lie_outside(file, secret)
    with (
        campaign.trial("HDF5 that reads other files"),
        pytest.raises(StoreError, match="in another file"),
        open_part(path),
    ):
        pass


def test_what_was_checked_is_what_is_read(store_path, make_store):
    """The file is replaced after it was opened: the store goes on with the one that was checked."""
    with open_store(store_path) as store:
        make_store("other.h5", class_names=("a", "b")).replace(store_path)
        assert store.objid[0] == "1237665024900858100"
        assert store.class_names == ("low", "high")
