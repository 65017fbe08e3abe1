"""HDF5 catalogs: tables and groups of columns, and files that reach for others."""

import h5py
import numpy as np
import pytest
from astropy.table import Table
from samples import OBJID

from galfig.catalog.formats import read_table
from galfig.errors import CatalogError

IDS = np.array([int(OBJID), 7])


def test_groups_of_columns_are_tables(tmp_path):
    """One dataset for each column; images beside them are left alone."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["survey/objID"] = IDS
        file["survey/kind"] = ["disc", "smooth"]
        file["survey/mag"] = np.arange(6.0).reshape(2, 3)
        file["survey/images"] = np.zeros((2, 4, 4, 3), np.uint8)
        file["other/numbers"] = np.arange(5)
    for chosen in (None, "survey", "/survey/"):
        table = read_table(path, "objID", chosen=chosen)
        assert table["objID"].tolist() == [OBJID, "7"]
        assert table["kind"].tolist() == ["disc", "smooth"]
        assert table["mag[2]"].tolist() == [2, 5]
        assert len(table.columns) == 5
    with h5py.File(path, "w") as file:
        file["objID"] = IDS
        file["z"] = [0.1, 0.2]
    assert read_table(path, "objID", chosen="/")["z"].tolist() == [0.1, 0.2]


def test_tables_of_named_columns_may_hold_texts_of_any_length(tmp_path, monkeypatch):
    """They are measured while they are read: many rows may refer to one long text."""
    kind = np.dtype([("objID", "<i8"), ("note", h5py.string_dtype())])
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data/galaxies"] = np.array([(IDS[0], "a" * 50_000), (7, "b")], dtype=kind)
    table = read_table(path, "objID", chosen="data/galaxies")
    assert table["objID"].tolist() == [OBJID, "7"]
    assert [len(text) for text in table["note"]] == [50_000, 1]
    monkeypatch.setattr("galfig.catalog.limits.find_memory", lambda: 8 * 40_000)
    data = path.read_bytes()
    with pytest.raises(CatalogError, match=r"more than 0\.0 GB unpacked, expected less"):
        read_table(path, "objID", data=data)


def write_external_link(file, elsewhere):
    file["g/objID"] = h5py.ExternalLink(str(elsewhere), "t/objID")
    file["g/z"] = h5py.ExternalLink(str(elsewhere), "t/z")


def write_soft_link(file, elsewhere):
    file["objID"] = IDS
    file["g/objID"] = h5py.SoftLink("/objID")
    file["g/z"] = h5py.SoftLink("/objID")


def write_external_data(file, elsewhere):
    file.create_dataset("g/objID", (2,), "i8", external=[(str(elsewhere), 0, 16)])
    file["g/z"] = [0.1, 0.2]


def write_virtual(file, elsewhere):
    layout = h5py.VirtualLayout((2,), "i8")
    layout[:] = h5py.VirtualSource(str(elsewhere), "t/objID", (2,))
    file.create_virtual_dataset("g/objID", layout)
    file["g/z"] = [0.1, 0.2]


def write_meta_elsewhere(file, elsewhere):
    file["t"] = np.array([(1, 0.1), (2, 0.2)], dtype=[("objID", "i8"), ("z", "f8")])
    file["t.__table_column_meta__"] = h5py.ExternalLink(str(elsewhere), "t/objID")


def write_bomb(file, elsewhere):
    file.create_dataset("g/objID", (1 << 40,), "i8", chunks=(1 << 20,), compression="gzip")
    file.create_dataset("g/z", (1 << 40,), "f8", chunks=(1 << 20,), compression="gzip")


def write_crowd(file, elsewhere):
    group = file
    for index in range(20):
        group = group.create_group(f"g{index}")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_external_link, "it holds no table"),
        (write_soft_link, "it holds no table"),
        (write_external_data, "lies in another file, expected all data in this one"),
        (write_virtual, "lies in another file, expected all data in this one"),
        (write_meta_elsewhere, "lies elsewhere, expected all data in this one"),
        (write_bomb, "GB unpacked, expected less"),
        (write_crowd, "groups deeper than 8, expected tables"),
    ],
)
def test_nothing_outside_the_file_is_read(tmp_path, write, message):
    """Links and data that lie elsewhere are not followed, and claims are not believed."""
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["t/objID"] = IDS
        file["t/z"] = [0.1, 0.2]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file, tmp_path / "elsewhere.h5")
    with pytest.raises(CatalogError, match=message):
        read_table(tmp_path / "a.h5", "objID")


def test_masks_of_astropy_are_restored(tmp_path):
    """What astropy wrote beside the table tells empty cells from zeros."""
    table = Table({"objID": IDS, "other": np.ma.array([1, 2], mask=[True, False])}, masked=True)
    table.write(tmp_path / "a.h5", path="a/b", serialize_meta=True)
    read = read_table(tmp_path / "a.h5", "objID")
    assert read["other"].isna().tolist() == [True, False]


def test_what_pandas_pickled_is_refused(tmp_path):
    """The line says what to write instead."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("df")
        group.attrs["pandas_type"] = "frame"
        group["axis0"] = np.array([b"objID"])
        group["block0_values"] = np.zeros((2, 1))
    with pytest.raises(
        CatalogError, match="written by to_hdf of pandas, which pickles parts of it"
    ):
        read_table(tmp_path / "a.h5", "objID")
