"""Catalogs whose images are an array: labels beside them, or in a table of their own."""

import h5py
import numpy as np
import pandas as pd
import pytest

from galfig.catalog.arrays import find_array
from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import CatalogError
from galfig.images.arrays import Element


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)


def test_images_and_labels_in_one_file(tmp_path, images):
    """Without identifiers, a galaxy is called by its position; labels may be numbers or texts."""
    path = tmp_path / "Galaxy10.h5"
    with h5py.File(path, "w") as file:
        file["images"], file["ans"] = images, np.arange(12) % 2
        file["kind"] = np.array([b"disc", b"smooth"] * 6)
        file["z"] = np.linspace(0.01, 0.1, 12)
    for column, names in (("ans", ("0", "1")), ("kind", ("disc", "smooth"))):
        settings = {"catalog": {"path": str(path), "id": "index"}, "classes": {"column": column}}
        galaxies = load_galaxies(load_settings(settings))
        assert galaxies.class_names == names
        assert galaxies.objid.tolist() == [str(row) for row in range(12)]
        assert galaxies.paths[3] == Element(path, "images", 3)
        assert galaxies.redshift[11] == pytest.approx(0.1)


def test_an_array_beside_a_table(tmp_path, images):
    """Rows and images are in one order, and there must be as many of each."""
    np.save(tmp_path / "images.npy", images)
    table = pd.DataFrame({"name": [f"a{i}" for i in range(12)], "kind": ["x", "y"] * 6})
    table.to_csv(tmp_path / "cat.csv", index=False)
    settings = {
        "catalog": {"path": str(tmp_path / "cat.csv"), "id": "name", "images": "images.npy"},
        "classes": {"column": "kind"},
    }
    galaxies = load_galaxies(load_settings(settings))
    assert galaxies.paths[11] == Element(tmp_path / "images.npy", "", 11)
    table[:-1].to_csv(tmp_path / "cat.csv", index=False)
    with pytest.raises(CatalogError, match=r"12 images, expected one for each of the 11 rows"):
        load_galaxies(load_settings(settings))


def test_a_column_of_images_in_parquet(tmp_path, images):
    """Only where the settings name it: tables hold bytes of other kinds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": one.tobytes(), "path": None} for one in images]
    table = {"image": cells, "kind": ["x", "y"] * 6, "name": [f"a{i}" for i in range(12)]}
    path = tmp_path / "shard.parquet"
    pq.write_table(pa.table(table), path)
    catalog = {"path": str(path), "id": "name"}
    settings = {"catalog": {**catalog, "array": "image"}, "classes": {"column": "kind"}}
    galaxies = load_galaxies(load_settings(settings))
    assert galaxies.objid[5] == "a5"
    assert galaxies.paths[5] == Element(path, "image", 5)
    assert find_array(load_settings({**settings, "catalog": catalog})) is None


def test_a_table_in_hdf5_is_no_array_of_images(tmp_path):
    """Spectra and matrices of each galaxy are no images."""
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["spectra"], file["matrix"] = np.zeros((12, 2, 4000)), np.zeros((12, 3, 3))
        file["z"] = np.zeros(12)
    assert find_array(load_settings({"catalog": {"path": str(path), "id": "z"}})) is None


def test_damaged_labels_are_one_line(tmp_path, images):
    """What HDF5 says of a chunk that does not inflate, with the name of the file."""
    path = tmp_path / "Galaxy10.h5"
    with h5py.File(path, "w") as file:
        file["images"] = images
        file.create_dataset("ans", data=np.arange(12), chunks=(12,), compression="gzip")
        start = file["ans"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[start : start + 8] = bytes(8)
    path.write_bytes(data)
    settings = {"catalog": {"path": str(path), "id": "index"}, "classes": {"column": "ans"}}
    with pytest.raises(CatalogError, match=r"Galaxy10\.h5: cannot be read \("):
        load_galaxies(load_settings(settings))
