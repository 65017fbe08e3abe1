"""Virtual stores: the same as copied ones, and never a number from elsewhere or from nowhere."""

import contextlib
import os
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
from samples import draw_galaxies, join_parts, make_attributes

from galfig.errors import StoreError
from galfig.store import virtual
from galfig.store.checksums import seal_file
from galfig.store.content import read_content
from galfig.store.hdf5 import FORMAT
from galfig.store.reader import open_store, verify_store
from galfig.store.spans import read_spans
from galfig.store.virtual import is_virtual

SIZES = (5, 1, 4)
VIRTUAL = ("cams", "cutouts")


def make_pair(folder, name="maps.h5", sizes=SIZES, number=0):
    """Write parts, a virtual store over them, and the store that copies them."""
    parts, objids, start = [], [], 0
    home = folder / f"{name}.parts"
    home.mkdir(parents=True)
    for size in sizes:
        part = draw_galaxies(start, start + size)
        # The numbers of parts without galaxies are left out.
        parts.append(home / f"{number + 2 * len(parts):06d}.h5")
        part.write(parts[-1])
        objids += part.arrays["objid"].tolist()
        start += size
    table = pd.DataFrame({"objID": objids, "z": np.linspace(0, 1, start)}, index=objids)
    attrs = make_attributes(("a", "b"), size=10)
    join_parts(folder / "copied.h5", parts, table, attrs)
    join_parts(folder / name, parts, table, attrs, is_virtual=True)
    return SimpleNamespace(virtual=folder / name, copied=folder / "copied.h5", parts=parts)


@pytest.fixture
def pair(tmp_path):
    """Write the two stores of ten galaxies in three parts."""
    return make_pair(tmp_path / "data")


ROWS = {
    "one": 6,
    "from the end": -1,
    "a slice": slice(3, 8),
    "in reverse": slice(None, None, -1),
    "some": [9, 0, 5, 5],
    "none": [],
    "all": slice(None),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_maps_and_cutouts_are_those_of_a_copy(pair, rows):
    """Bit for bit, however they are asked for."""
    with open_store(pair.virtual) as one, open_store(pair.copied) as other:
        assert (one.n_parts, other.n_parts) == (3, 0)
        for read in ("cams", "evidence", "cutouts", "pixels"):
            found, expected = getattr(one, read)(rows), getattr(other, read)(rows)
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            assert found.tobytes() == expected.tobytes()


def test_numbers_and_digests_are_those_of_a_copy(pair):
    """Every column, the identity of a manuscript, and what `verify` finds."""
    with open_store(pair.virtual) as one, open_store(pair.copied) as other:
        for name in ("objid", "redshift", "label", "split", "value", "logits", "probs"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        pd.testing.assert_frame_equal(one.table, other.table)
        assert one.rejected == other.rejected
    assert read_content(pair.virtual) == read_content(pair.copied) is not None
    assert verify_store(pair.virtual) == verify_store(pair.copied) == []
    assert is_virtual(pair.virtual)
    assert not is_virtual(pair.copied)
    assert not is_virtual(pair.parts[0])


def test_other_programs_read_the_same(pair):
    """It is a virtual dataset of HDF5, which h5py follows by itself."""
    with h5py.File(pair.virtual) as one, h5py.File(pair.copied) as other:
        for name in VIRTUAL:
            assert one[name].is_virtual
            np.testing.assert_array_equal(one[name][()], other[name][()])
        assert set(one) == {*other, "part_seal"}


def test_error_bars_stay_in_the_parts_too(make_store, tmp_path):
    """The maps of standard deviations of an ensemble are as large as the maps."""
    source = make_store("source.h5", n_networks=2)
    home = tmp_path / "maps.h5.parts"
    home.mkdir()
    with h5py.File(source) as whole, h5py.File(home / "000000.h5", "w") as part:
        for name, item in whole.items():
            if name != "catalog":
                whole.copy(item, part)
        part.attrs["plan_digest"] = "digest"
        seal_file(part)
    with h5py.File(source) as file:
        attrs = {key: value for key, value in file.attrs.items() if key != "seal"}
        attrs = {key: v.decode() if isinstance(v, bytes) else v for key, v in attrs.items()}
        objid = file["objid"].asstr()[()]
    attrs.pop("schema_version")
    table = pd.DataFrame({"objID": objid}, index=objid)
    join_parts(tmp_path / "maps.h5", [home / "000000.h5"], table, attrs, is_virtual=True)
    with open_store(tmp_path / "maps.h5") as one, open_store(source) as other:
        np.testing.assert_array_equal(one.cams_sd([1, 3]), other.cams_sd([1, 3]))
        np.testing.assert_array_equal(one.evidence_sd(2), other.evidence_sd(2))
    with h5py.File(tmp_path / "maps.h5") as file:
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        found = {name for name in names if file[name].is_virtual}
    assert found == {*VIRTUAL, "cams_sd", "evidence_sd"}


@pytest.mark.parametrize("name", ["maps.h5", "100% b%%.h5", "Карта звёзд.h5", "a.parts.h5"])
def test_folder_can_be_moved(tmp_path, name, monkeypatch):
    """Store and parts together, whatever they are called; and a link may lead to the store."""
    pair = make_pair(tmp_path / "data", name)
    with open_store(pair.copied) as store:
        expected = store.cams(slice(None))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    (tmp_path / "link.h5").symlink_to(tmp_path / "elsewhere" / name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "elsewhere" / name, tmp_path / "link.h5"):
        with open_store(os.path.relpath(path)) as store, contextlib.chdir("/"):
            np.testing.assert_array_equal(store.cams(slice(None)), expected)
    with h5py.File(tmp_path / "elsewhere" / name) as file:
        # In another order of the bytes, a percent sign would be a number for HDF5.
        assert np.isfinite(file["cams"][()]).all()


def test_store_that_was_renamed_says_so(pair):
    """HDF5 would look for the files by the old name, and show nothing."""
    new = pair.virtual.with_name("new.h5")
    pair.virtual.rename(new)
    with pytest.raises(
        StoreError, match=r"new\.h5: is virtual, and was written under .*'maps\.h5'"
    ):
        open_store(new)
    pair.virtual.with_name("maps.h5.parts").rename(new.with_name("new.h5.parts"))
    with pytest.raises(StoreError, match=r"'new\.h5\.parts' and merge the parts with `virtual="):
        open_store(new)


def remove_part(pair):
    pair.parts[1].unlink()


def remove_folder(pair):
    shutil.rmtree(pair.parts[0].parent)


def link_part(pair):
    pair.parts[1].rename(pair.parts[1].with_name("x"))
    pair.parts[1].symlink_to("x")


def link_folder(pair):
    home = pair.parts[0].parent
    home.rename(home.with_name("x"))
    home.symlink_to("x")


def pipe_part(pair):
    pair.parts[1].unlink()
    os.mkfifo(pair.parts[1])


@pytest.mark.parametrize(
    ("lose", "words"),
    [
        (remove_part, r"1 of 3 parts are missing .* in maps\.h5\.parts, .*: 000002\.h5; move"),
        (remove_folder, r"3 of 3 parts are missing .* 000000\.h5, 000002\.h5, 000004\.h5; move"),
        (link_part, r"1 of 3 parts are missing \(or are no regular files\)"),
        (link_folder, r"the folder of its parts maps\.h5\.parts is a symbolic link"),
        (pipe_part, r"1 of 3 parts are missing \(or are no regular files\)"),
    ],
)
def test_missing_parts_are_named_on_opening(pair, lose, words):
    """Not where HDF5 would fill in numbers."""
    lose(pair)
    for read in (open_store, verify_store):
        with pytest.raises(StoreError, match=words):
            read(pair.virtual)
    assert read_content(pair.virtual) is None


@pytest.mark.parametrize("lose", [remove_part, link_part])
def test_part_that_goes_missing_later_is_no_fill_value(pair, lose):
    """HDF5 would give NaN for maps and black for cutouts."""
    with open_store(pair.virtual) as store:
        lose(pair)
        assert np.isfinite(store.cams(0)).all()
        for read in (store.cams, store.cutouts):
            with pytest.raises(StoreError, match=r"its part maps\.h5\.parts/000002\.h5 is "):
                read(5)
    with h5py.File(pair.virtual) as file:
        if lose is remove_part:
            assert np.isnan(file["cams"][5]).all()


def exchange(pair):
    other = pair.parts[0].parent.parent / "other"
    make_pair(other, sizes=(5, 2, 4))
    shutil.copyfile(other / "maps.h5.parts" / "000002.h5", pair.parts[1])


def replace_by_its_like(pair):
    part = draw_galaxies(5, 6, scale=2.0)
    part.write(pair.parts[1])


def edit_and_seal(pair):
    with h5py.File(pair.parts[1], "r+") as file:
        file["logits"][0] += 1
        seal_file(file)


def edit(pair):
    with h5py.File(pair.parts[1], "r+") as file:
        file.attrs["plan_digest"] = "digest2"


def cut(pair):
    pair.parts[1].write_bytes(pair.parts[1].read_bytes()[:-50])


def put_the_store(pair):
    """A part that is virtual itself."""
    shutil.copyfile(pair.virtual, pair.parts[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (exchange, "is not the one that the store was made of"),
        (replace_by_its_like, "is not the one that the store was made of"),
        (edit_and_seal, "is not the one that the store was made of"),
        (edit, "is not the one that the store was made of"),
        (cut, "cannot be read"),
        (put_the_store, "cannot be read .* are in another file"),
    ],
)
def test_other_parts_are_refused(pair, change, words):
    """A part is known by its seal, which covers all that it holds."""
    change(pair)
    with (
        open_store(pair.virtual) as store,
        pytest.raises(StoreError, match=rf"its part maps\.h5\.parts/000002\.h5 {words}"),
    ):
        store.cams(5)
    (line,) = verify_store(pair.virtual)
    assert "its part maps.h5.parts/000002.h5" in line
    assert "'galfig build-maps' again" in line
    assert read_content(pair.virtual) is None


def test_verify_names_the_galaxy_in_the_part(pair):
    """A byte of one compressed map: its checksum does not agree."""
    with h5py.File(pair.parts[2]) as file:
        info = file["cams"].id.get_chunk_info(3)
        objid = file["objid"].asstr()[3]
    data = bytearray(pair.parts[2].read_bytes())
    data[info.byte_offset + info.size // 2] ^= 1
    pair.parts[2].write_bytes(data)
    (line,) = verify_store(pair.virtual)
    assert line.startswith(f"maps.h5.parts/000004.h5: cams: galaxy {objid!r} (number 4): ")
    assert line.endswith("which makes what is missing")
    with open_store(pair.virtual) as store, pytest.raises(StoreError, match="cams, row 9: damaged"):
        store.cams(9)


def rewrite(path, name, sources, shape=None, libver=FORMAT):
    """Give a dataset of a virtual store other sources, in the format of galfig or in an old one."""
    with h5py.File(path, "r+", libver=libver) as file:
        shape, dtype = shape or file[name].shape, file[name].dtype
        del file[name]
        layout = h5py.VirtualLayout(shape, dtype)
        for rows, source in sources:
            layout[rows] = source
        file.create_virtual_dataset(name, layout)
        seal_file(file)


def span(number, rows, source="maps.h5.parts/{:06d}.h5", name="cams"):
    size = rows.stop - rows.start
    return rows, h5py.VirtualSource(source.format(2 * number), name, (size, 2, 6, 6))


GOOD = (slice(0, 5), slice(5, 6), slice(6, 10))


def spans(source):
    """Lay the maps out over all parts, under other names."""
    return [span(number, rows, source) for number, rows in enumerate(GOOD)]


def take(file, rows, shape, chosen=slice(None)):
    return rows, h5py.VirtualSource(f"maps.h5.parts/{file}", "cams", shape)[chosen]


STRANGE = {
    "an absolute name": spans("/etc/maps.h5.parts/{:06d}.h5"),
    "out of the folder": spans("../maps.h5.parts/{:06d}.h5"),
    "dots within": spans("maps.h5.parts/../maps.h5.parts/{:06d}.h5"),
    "any file": spans("secret.h5"),
    "the store itself": [(slice(0, 10), h5py.VirtualSource(".", "cutouts", (10, 2, 6, 6)))],
    "another dataset": [span(i, rows, name="cutouts") for i, rows in enumerate(GOOD)],
    "not all rows": [span(0, GOOD[0]), span(1, GOOD[1])],
    "a gap": [span(0, GOOD[0]), span(2, GOOD[2])],
    "rows twice": [span(0, slice(0, 6)), span(1, GOOD[1]), span(2, GOOD[2])],
    "another order": [span(1, GOOD[0]), span(0, GOOD[1]), span(2, GOOD[2])],
    "a part twice": [span(0, GOOD[0]), span(0, GOOD[1]), span(2, GOOD[2])],
    "every other row": [
        take("000000.h5", slice(0, 10, 2), (5, 2, 6, 6)),
        take("000002.h5", slice(1, 10, 2), (5, 2, 6, 6)),
    ],
    "some columns": [take("000000.h5", (slice(0, 10), slice(0, 1)), (10, 1, 6, 6))],
    "some rows of a part": [
        span(0, GOOD[0]),
        take("000002.h5", GOOD[1], (9, 2, 6, 6), slice(3, 4)),
        span(2, GOOD[2]),
    ],
    "no part": [],
}


@pytest.mark.parametrize("libver", [FORMAT, None])
@pytest.mark.parametrize("kind", STRANGE)
def test_any_other_layout_is_refused(campaign, pair, kind, libver):
    """A store of a stranger shows nothing but its own parts, and these once and in order."""
    rewrite(pair.virtual, "cams", STRANGE[kind], libver=libver)
    with campaign.trial("HDF5 that reads other files"):
        for read in (open_store, verify_store):
            with pytest.raises(StoreError, match=r"not as galfig writes it|edited or damaged"):
                read(pair.virtual)


def test_a_pattern_of_names_is_refused(pair):
    """HDF5 fills in the numbers of files by itself, as many as it finds."""
    with h5py.File(pair.virtual, "r+", libver=FORMAT) as file:
        del file["cams"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        space = h5py.h5s.create_simple((10, 2, 6, 6), (h5py.h5s.UNLIMITED, 2, 6, 6))
        target = space.copy()
        target.select_hyperslab((0,) * 4, (h5py.h5s.UNLIMITED, 1, 1, 1), block=(5, 2, 6, 6),
                                stride=(5, 2, 6, 6))  # fmt: skip
        source = h5py.h5s.create_simple((5, 2, 6, 6))
        plist.set_virtual(target, b"maps.h5.parts/00000%b.h5", b"cams", source)
        h5py.h5d.create(file.id, b"cams", h5py.h5t.IEEE_F16LE, space, plist)
        seal_file(file)
    with pytest.raises(StoreError, match="'cams' is damaged, or virtual in an unknown way: a "):
        open_store(pair.virtual)


@pytest.mark.parametrize("name", ["logits", "objid", "catalog/z", "image_digest"])
def test_only_maps_may_be_virtual(pair, name):
    """Numbers and text are small, and always in the store."""
    with h5py.File(pair.virtual, "r+", libver=FORMAT) as file:
        dtype, shape = (file[name].dtype, file[name].shape) if name in file else ("u8", (10,))
        if name in file:
            del file[name]
        layout = h5py.VirtualLayout(shape, dtype)
        for number, rows in enumerate(GOOD):
            where = f"maps.h5.parts/{2 * number:06d}.h5"
            layout[rows] = h5py.VirtualSource(where, name, (rows.stop - rows.start, *shape[1:]))
        file.create_virtual_dataset(name, layout)
        with contextlib.suppress(OSError):
            seal_file(file)
    # A table of numbers passes the gate; the parts do not have one of galaxies.
    with pytest.raises(StoreError, match=r"in another file|holds no logits|no galaxies"):
        open_store(pair.virtual).logits  # noqa: B018


@pytest.mark.parametrize("name", ["part_seal", "cutouts"])
def test_a_virtual_store_has_all_of_its_seals(pair, name):
    """One per part, and one layout of all that is virtual; a store in one file has none."""
    with h5py.File(pair.virtual, "r+") as file:
        del file["part_seal"]
        file["part_seal"] = np.array([b"a" * 64] * (2 if name == "part_seal" else 3), "S64")
        seal_file(file)
    if name == "cutouts":
        rows = slice(0, 10)
        source = h5py.VirtualSource("maps.h5.parts/000000.h5", name, (10, 10, 10, 3))
        rewrite(pair.virtual, name, [(rows, source)])
    with pytest.raises(StoreError, match=r"layouts? .* seals of its parts|part_seal is"):
        open_store(pair.virtual)
    with h5py.File(pair.copied, "r+") as file:
        file["part_seal"] = np.array([b"a" * 64], h5py.string_dtype("utf-8", 64))
        seal_file(file)
    with pytest.raises(StoreError, match="seals of its parts"):
        open_store(pair.copied)


def test_headers_of_other_programs_are_read(pair):
    """A store that was edited with h5py has headers of an older version."""
    rewrite(pair.virtual, "cams", [span(number, rows) for number, rows in enumerate(GOOD)],
            libver=None)  # fmt: skip
    with open_store(pair.virtual) as one, open_store(pair.copied) as other:
        np.testing.assert_array_equal(one.cams(slice(None)), other.cams(slice(None)))


def test_a_part_with_other_maps_than_declared_is_refused(pair):
    """The store of a stranger declares maps that fit in no memory; its parts do not hold them."""
    huge = (10, 2, 1 << 20, 1 << 20)
    sources = [
        (
            rows,
            h5py.VirtualSource(
                f"maps.h5.parts/{2 * number:06d}.h5", "cams", (rows.stop - rows.start, *huge[1:])
            ),
        )
        for number, rows in enumerate(GOOD)
    ]
    rewrite(pair.virtual, "cams", sources, huge)
    with pytest.raises(StoreError, match=r"cams is float16 of shape \(5, 2, 6, 6\), expected"):
        open_store(pair.virtual)


def test_few_parts_are_open_at_a_time(tmp_path, monkeypatch):
    """A process may have about a thousand files open; a store may have more parts."""
    monkeypatch.setattr(virtual, "_MAX_OPEN", 2)
    pair = make_pair(tmp_path / "data", sizes=(2,) * 6)
    with open_store(pair.virtual) as one, open_store(pair.copied) as other:
        rows = np.random.default_rng(0).permutation(12)
        np.testing.assert_array_equal(one.cams(rows), other.cams(rows))
        assert len(one._parts._open) == 2
    assert not one._parts._open
    assert read_content(pair.virtual) == read_content(pair.copied)


def test_numbers_of_parts_have_as_many_digits_as_they_need(tmp_path):
    """Their order is that of the numbers, not that of the names."""
    pair = make_pair(tmp_path / "data", sizes=(2, 1, 2), number=999_998)
    with h5py.File(pair.virtual) as file:
        spans = read_spans(file["cams"], "cams", pair.virtual)
    assert [one.part for one in spans] == ["999998.h5", "1000000.h5", "1000002.h5"]
    assert verify_store(pair.virtual) == []


def test_a_flipped_bit_gives_no_wrong_number_and_no_crash(campaign, pair):
    """HDF5 reads the list of sources before it compares its checksum, and may not come back."""
    data = pair.virtual.read_bytes()
    with open_store(pair.copied) as store:
        expected = store.cams(slice(None)), store.cutouts(slice(None))
    rng = np.random.default_rng(5)
    heap = data.index(b"GCOL")
    end = data.index(b"cutouts", heap)
    places = [*rng.integers(0, len(data), 40), *range(heap, heap + 110), *range(end - 60, end, 5)]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        pair.virtual.write_bytes(damaged)
        with campaign.trial("a flipped bit of a virtual store"):
            try:
                with open_store(pair.virtual) as store:
                    found = store.cams(slice(None)), store.cutouts(slice(None))
            except StoreError:
                continue
            assert all(map(np.array_equal, found, expected))
