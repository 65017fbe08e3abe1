"""Writing a store: what comes back is what went in, and shards do not show."""

import h5py
import numpy as np
import pandas as pd
import pytest
from samples import Galaxies, draw_galaxies, join_parts, make_attributes, merge

from galfig.errors import DamagedPartError
from galfig.store import merging
from galfig.store.reader import open_store, verify_store


def test_round_trip(tmp_path):
    """What two parts hold comes back as one store, in order, with the rejected of both."""
    parts = [draw_galaxies(0, 5, rejected={"bad1": "truncated"}), draw_galaxies(5, 8)]
    with open_store(merge(tmp_path, parts)) as store:
        assert len(store) == 8
        assert store.objid.tolist() == [f"g{index}" for index in range(8)]
        assert store.class_names == ("a", "b")
        assert store.rejected == {"early": "no class", "bad1": "truncated"}
        assert store.catalog["objID"].tolist() == store.objid.tolist()
        for name in ("redshift", "label", "logits", "probs"):
            expected = np.concatenate([part.arrays[name] for part in parts])
            np.testing.assert_array_equal(getattr(store, name), expected)
        for index in (0, 4, 5, 7, -1):
            part, row = (parts[0], index) if 0 <= index < 5 else (parts[1], index % 8 - 5)
            np.testing.assert_array_equal(store.cutouts(index), part.arrays["cutouts"][row])
            assert store.cams(index).dtype == np.float32
            np.testing.assert_allclose(
                store.cams(index), part.cams[row], atol=2**-11 * np.abs(part.cams[row]).max()
            )


def test_catalog_columns_are_exact(tmp_path):
    """Integers of 19 digits, empty cells, text, truth values and odd names come back."""
    part = draw_galaxies(0, 3)
    table = pd.DataFrame(
        {
            "specObjID": pd.array([1237665024900858129, None, -3], dtype="Int64"),
            "plain": [1, 2, 3],
            "value": [0.1, np.nan, np.inf],
            "class": ["spiral", None, "élliptique"],
            "simulated": [True, False, True],
            "day": pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
            "kind": pd.Categorical(["a", "b", "a"]),
            "list": [[1, 2], None, []],
            "a/b": [1.0, 2.0, 3.0],
            ".": [4.0, 5.0, 6.0],
        },
        index=part.arrays["objid"],
    )
    with open_store(merge(tmp_path, [part], table)) as store:
        found = store.catalog
    assert list(found.columns) == list(table.columns)
    assert found["specObjID"].tolist()[::2] == [1237665024900858129, -3]
    assert found["specObjID"].isna().tolist() == [False, True, False]
    assert found["class"].isna().tolist() == [False, True, False]
    assert found["class"][2] == "élliptique"
    np.testing.assert_array_equal(found["value"], table["value"])
    assert found["day"].tolist()[::2] == ["2020-01-01 00:00:00", "2020-01-03 00:00:00"]
    assert found["kind"].tolist() == ["a", "b", "a"]
    assert found["list"][0] == "[1, 2]"
    for name in ("plain", "simulated", "a/b", "."):
        assert found[name].tolist() == table[name].tolist()


def test_same_part_same_bytes(tmp_path):
    """Writing a shard twice gives the same file."""
    for name in ("one.h5", "two.h5"):
        draw_galaxies(0, 4).write(tmp_path / name)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_shards_do_not_show(tmp_path):
    """One part of eight, or two of four, give the same datasets."""
    whole = draw_galaxies(0, 8)
    halves = [
        Galaxies({name: a[rows] for name, a in whole.arrays.items()}, whole.cams[rows], {})
        for rows in (slice(0, 4), slice(4, 8))
    ]
    paths = [merge(tmp_path, [whole], name="one.h5"), merge(tmp_path, halves, name="two.h5")]
    with h5py.File(paths[0]) as one, h5py.File(paths[1]) as two:
        for name in one:
            if isinstance(one[name], h5py.Dataset):
                np.testing.assert_array_equal(one[name][:], two[name][:])
                assert one[name].chunks == two[name].chunks


def list_galaxies(*objid):
    """Return a catalog of some galaxies, and the root attributes of their store."""
    return pd.DataFrame({"objID": objid}, index=objid), make_attributes(("a", "b"), size=10)


def rewrite(path, change):
    """Change a part as another program would, without sealing it again."""
    with h5py.File(path, "r+", locking=False) as file:
        change(file)


DAMAGES = {
    "values": lambda file: file["logits"].__setitem__((0, 0), 99.0),
    "text": lambda file: file["objid"].__setitem__(0, b"other"),
    "a reason": lambda file: file["rejected/reason"].__setitem__(0, b"fine"),
    "a chunk": lambda file: file["cams"].__setitem__(0, 0.5),
    "the plan": lambda file: file.attrs.__setitem__("plan_digest", b"another"),
    "a dataset": lambda file: file.__delitem__("probs"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_part_that_was_changed_does_not_enter_the_store(tmp_path, damage):
    """Each kind of content is compared with what was written, and the part is named."""
    parts = [tmp_path / "000000.h5", tmp_path / "000001.h5"]
    for path, rows in zip(parts, ((0, 3), (3, 6)), strict=True):
        draw_galaxies(*rows, rejected={f"bad{rows[0]}": "truncated"}).write(path)
    rewrite(parts[1], DAMAGES[damage])
    with pytest.raises(DamagedPartError, match=r"000001.h5: .*checksum mismatch") as caught:
        join_parts(
            tmp_path / "maps.h5",
            parts,
            *list_galaxies("g0", "g1", "g2", "bad0", "g3", "g4", "g5", "bad3"),
        )
    assert caught.value.part == parts[1]


def test_part_of_another_plan_does_not_enter_the_store(tmp_path):
    """It is intact, but was written for another network."""
    path = tmp_path / "000000.h5"
    draw_galaxies(0, 3).write(path)
    with pytest.raises(DamagedPartError, match="was written for another plan"):
        join_parts(tmp_path / "a.h5", [path], *list_galaxies("g0", "g1", "g2"), digests=["mine"])


@pytest.mark.parametrize("name", ["logits", "cams"])
def test_part_that_is_replaced_during_the_merge_does_not_enter_the_store(
    tmp_path, monkeypatch, name
):
    """Another build's part, intact and of the same galaxies, appears under its name."""
    part, other = tmp_path / "000000.h5", tmp_path / "other.h5"
    mine = draw_galaxies(0, 3)
    mine.write(part)
    arrays = {**mine.arrays, "logits": -mine.arrays["logits"]}
    mine._replace(arrays=arrays, cams=-mine.cams).write(other)
    merge_dataset = merging._merge_dataset

    def overtake(file, dataset, *args):
        if dataset == name:
            other.replace(part)
        return merge_dataset(file, dataset, *args)

    monkeypatch.setattr(merging, "_merge_dataset", overtake)
    with pytest.raises(DamagedPartError, match=f"000000.h5: {name}: checksum mismatch"):
        join_parts(tmp_path / "maps.h5", [part], *list_galaxies("g0", "g1", "g2"))


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(2000)])
def test_part_that_cannot_be_read_is_named(tmp_path, content):
    """It is the part's fault, not the disk's that is written to."""
    part = tmp_path / "000000.h5"
    part.write_bytes(content)
    with pytest.raises(DamagedPartError, match=r"000000\.h5: cannot be read") as caught:
        join_parts(tmp_path / "maps.h5", [part], *list_galaxies("g0", "g1", "g2"))
    assert caught.value.part == part


def test_swapped_maps_are_found(tmp_path):
    """Each chunk is intact by itself, but two galaxies have each other's maps."""
    path = merge(tmp_path, [draw_galaxies(0, 4)])
    assert verify_store(path) == []
    with h5py.File(path, "r+", locking=False) as file:
        cams, origin = file["cams"].id, (0, 0, 0)
        chunks = [cams.read_direct_chunk((row, *origin)) for row in (0, 1)]
        for row, (mask, chunk) in zip((1, 0), chunks, strict=True):
            cams.write_direct_chunk((row, *origin), chunk, mask)
    assert verify_store(path) == ["cams: checksum mismatch"]
