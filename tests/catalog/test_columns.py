"""Columns of a catalog: numbers that are exact, and cells that are no number."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galfig.catalog.columns import read_numbers
from galfig.errors import CatalogError


@pytest.mark.parametrize(
    "cell",
    [True, pd.Timestamp("2020-01-01"), [1.0], 1j, "1,234.5", "1_000", "0x10", "8.9 dex", b"\xff"],
)
def test_what_is_no_number_is_refused(cell):
    """Not every cell that a library would turn into a number is meant as one."""
    table = pd.DataFrame({"z": pd.Series([0.1, cell], dtype=object)})
    with pytest.raises(CatalogError, match=r"^a\.csv: row 2, column 'z': .*, expected a number"):
        read_numbers(table, "z", Path("a.csv"), "[catalog] redshift")


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_numbers_as_text_are_exact(values):
    """Text of Parquet or FITS is read to the last bit, empty cells and all."""
    table = pd.DataFrame({"z": [*map(repr, values), " ", "NA", None]})
    expected = [*values, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(
        read_numbers(table, "z", Path("a.csv"), "[catalog] redshift"), expected
    )
