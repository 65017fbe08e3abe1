"""Arrow: lists in cells, and files that decode to more than the memory."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather
from samples import OBJID

from galfig.catalog.formats import read_table
from galfig.errors import CatalogError


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_lists_of_one_length_become_columns(tmp_path, suffix):
    """Lists of other lengths stay what they are."""
    table = pd.DataFrame(
        {
            "objID": [int(OBJID), 7],
            "mag": [np.array([1.5, 2.5]), np.array([3.5, 4.5])],
            "odd": [np.array([1.0]), np.array([1.0, 2.0])],
        }
    )
    path = tmp_path / f"a{suffix}"
    getattr(table, f"to_{suffix[1:]}")(path)
    read = read_table(path, "objID")
    assert read.columns.tolist() == ["objID", "mag[0]", "mag[1]", "odd"]
    assert read["mag[1]"].tolist() == [2.5, 4.5]
    assert read["objID"].tolist() == [OBJID, "7"]


def test_feather_of_version_two_is_read(tmp_path):
    """Numbers and texts with empty cells are kept; the first version is refused in a line."""
    table = pa.table({"objID": [int(OBJID), 7], "z": [0.1, None], "kind": ["01", None]})
    feather.write_feather(table, tmp_path / "a.feather")
    read = read_table(tmp_path / "a.feather", "objID")
    assert read["objID"].tolist() == [OBJID, "7"]
    assert read["z"].isna().tolist() == read["kind"].isna().tolist() == [False, True]
    assert read["kind"][0] == "01"
    (tmp_path / "b.feather").write_bytes(b"FEA1" + bytes(100))
    with pytest.raises(CatalogError, match="Feather of version 1, expected version 2"):
        read_table(tmp_path / "b.feather", "objID")


def test_feather_that_decodes_to_more_than_the_memory(tmp_path, monkeypatch):
    """Rows that share one long text are counted as if each had its own."""
    monkeypatch.setattr("galfig.catalog.limits.find_memory", lambda: 8 * 10_000_000)
    n = 20_000
    for size in (10, 1000):
        text = pa.array(["x" * size] * n).dictionary_encode()
        table = pa.table({"objID": [str(index) for index in range(n)], "note": text})
        feather.write_feather(table, tmp_path / f"{size}.feather", compression="zstd")
    assert len(read_table(tmp_path / "10.feather", "objID")) == n
    with pytest.raises(CatalogError, match=r"more than 0\.0 GB decoded, expected less"):
        read_table(tmp_path / "1000.feather", "objID")
