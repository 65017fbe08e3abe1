"""Arrow: lists in cells, and files that decode to more than the memory."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather
from samples import OBJID

from galfig.catalog.arrow import read_parquet
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


def make_frames():
    """Give tables of every type that pandas writes, with indexes of every kind."""
    frame = pd.DataFrame(
        {
            "objID": np.arange(5) + 2**60,
            "z": [0.1, np.nan, 0.3, np.inf, 0],
            "f": np.array([1, 2, 3, 4, 5], np.float32),
            "h": np.arange(5, dtype=np.float16),
            "i": np.array([1, 2, 3, 4, 5], np.int8),
            "u": np.array([2**63] * 5, np.uint64),
            "n": pd.array([1, None, 3, 4, 5], dtype="Int64"),
            "b": [True, False, True, True, False],
            "m": pd.array([True, None, False, True, True], dtype="boolean"),
            "s": ["a", "é", None, "", "x"],
            "t": pd.to_datetime(["2020-01-01"] * 5),
            "c": pd.Categorical(list("aabba")),
            "o": [1, 2, 3, 4, None],
        }
    )
    return {
        "plain": frame,
        "identifiers": frame.set_index("objID"),
        "two levels": frame.set_index(["objID", "s"]),
        "named range": frame.rename_axis("row"),
        "reversed": frame.iloc[::-1],
        "numbers": frame[["z", "f"]],
        "texts": frame[["s"]],
        "text and number": frame.set_index("s")[["z"]],
        "nameless": frame[["z"]].set_index(pd.Index(list("abcde"))),
        "empty": frame.iloc[:0],
        "with a point": frame[["objID"]].rename(columns={"objID": "a.b"}),
    }


@pytest.mark.parametrize("name", make_frames())
def test_tables_are_what_pandas_makes_of_them(name):
    """Column for column, whatever the index, though numbers are converted one by one."""
    stream = io.BytesIO()
    make_frames()[name].to_parquet(stream, row_group_size=2)
    expected = pd.read_parquet(io.BytesIO(stream.getvalue()), dtype_backend="numpy_nullable")
    expected = expected.reset_index(drop=expected.index.names == [None])
    found = read_parquet(stream.getvalue(), Path("a.parquet"))
    assert found.dtypes.tolist() == expected.dtypes.tolist()
    pd.testing.assert_frame_equal(found, expected, check_column_type=False)
