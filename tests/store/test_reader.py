"""The store: round trip, precision, plain HDF5, and refusals."""

import subprocess
import sys
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import pytest
from samples import make_attributes, make_part

from galfig.errors import StoreError
from galfig.store.reader import open_store, read_digest
from galfig.store.writer import merge_parts, write_part


class Galaxies(NamedTuple):
    """The plain arrays that a part is made of."""

    arrays: dict
    cams: np.ndarray
    rejected: dict

    def write(self, path):
        write_part(path, make_part(*self), "digest")


def draw_galaxies(start, stop, *, rejected=None, scale=1.0):
    n = stop - start
    rng = np.random.default_rng(start)
    arrays = {
        "objid": np.array([f"g{index}" for index in range(start, stop)], dtype=object),
        "redshift": np.arange(start, stop) / 100,
        "label": np.zeros(n, np.int16),
        "value": np.full(n, np.nan),
        "logits": rng.normal(size=(n, 2)).astype(np.float32),
        "probs": np.full((n, 2), 0.5, np.float32),
        "cutouts": rng.integers(0, 256, (n, 10, 10, 3), dtype=np.uint8),
    }
    cams = (scale * rng.normal(size=(n, 2, 6, 6))).astype(np.float32)
    return Galaxies(arrays, cams, rejected or {})


def merge(tmp_path, parts, catalog=None, name="maps.h5"):
    paths = []
    for index, part in enumerate(parts):
        paths.append(tmp_path / f"{name}-{index}.h5")
        part.write(paths[-1])
    objid = [objid for part in parts for objid in [*part.arrays["objid"], *part.rejected]]
    table = pd.DataFrame({"objID": objid}, index=objid) if catalog is None else catalog
    attrs = make_attributes(("a", "b"))
    merge_parts(tmp_path / name, paths, table, attrs, {"early": "no class"})
    return tmp_path / name


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


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 1e6, 1e30])
def test_float16_is_safe_at_any_scale(tmp_path, scale):
    """Maps far beyond float16's own range keep eleven bits of their largest values."""
    part = draw_galaxies(0, 3, scale=scale)
    with open_store(merge(tmp_path, [part])) as store:
        for index in range(3):
            peak = np.abs(part.cams[index]).max(axis=(1, 2), keepdims=True)
            error = np.abs(store.cams(index) - part.cams[index]) / peak
            assert error.max() <= 2**-11


def test_zero_map_stays_zero(tmp_path):
    """A map without any attribution is exactly zero again."""
    part = draw_galaxies(0, 2, scale=0.0)
    with open_store(merge(tmp_path, [part])) as store:
        assert not store.cams(1).any()


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


def test_plain_h5py_is_enough(store_path):
    """Without galfig, in a process of its own, h5py reads the maps by what the file says."""
    code = f"""
import h5py, json, numpy as np
with h5py.File({str(store_path)!r}) as f:
    assert f.attrs["schema_version"] == 1
    names = json.loads(f.attrs["class_names"])
    assert "multiply by cam_scale" in f["cams"].attrs["description"].decode()
    cams = f["cams"][3].astype("f4") * f["cam_scale"][3][:, None, None]
    assert cams.shape == (2, 24, 24) and len(names) == 2
    assert f["objid"].asstr()[0] == "1237665024900858100"
    assert f["cams"].chunks == (1, 2, 24, 24) and f["cams"].compression == "gzip"
    assert f["cams"].shuffle and f["cutouts"].dtype == "u1"
    assert {{"catalog", "rejected"}} <= set(f)
    print(float(abs(cams).max()))
"""
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    with open_store(store_path) as store:
        assert float(result.stdout) == pytest.approx(float(np.abs(store.cams(3)).max()))


def test_other_files_are_refused(tmp_path, store_path):
    """Missing, not HDF5, another HDF5 file, another schema, or incomplete: one line each."""

    def refuse(path, message):
        with pytest.raises(StoreError, match=message) as caught, open_store(path):
            pass
        assert "\n" not in str(caught.value)

    refuse(tmp_path / "absent.h5", "no such file")
    (tmp_path / "text.h5").write_text("not HDF5")
    refuse(tmp_path / "text.h5", "not an HDF5 file")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    refuse(tmp_path / "other.h5", "without schema_version")
    with h5py.File(store_path, "r+") as file:
        del file["logits"]
    refuse(store_path, "no dataset 'logits'")
    with h5py.File(store_path, "r+") as file:
        file.attrs["schema_version"] = 99
    refuse(store_path, "schema version 99, expected 1; another version of galfig")
    store_path.write_bytes(store_path.read_bytes()[:2000])
    refuse(store_path, "cut off, expected a whole store")
    (tmp_path / "model.h5").write_bytes(b"\x02" + bytes(7) + b"{}")
    refuse(tmp_path / "model.h5", "a checkpoint, expected a store")


def test_read_digest_of_anything(tmp_path, store_path):
    """A digest is told where there is one, and its absence is no error."""
    assert read_digest(store_path) == "digest"
    assert read_digest(tmp_path / "absent.h5") is None
    (tmp_path / "text.h5").write_text("not HDF5")
    assert read_digest(tmp_path / "text.h5") is None
