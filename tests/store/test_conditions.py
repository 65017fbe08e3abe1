"""Conditions on columns: read, never run."""

import numpy as np
import pandas as pd
import pytest

from galfig.errors import SelectionError
from galfig.store.conditions import find_where


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "objID": pd.array(["1237665024900858129", "b", "c", "d"], dtype="string"),
            "z": [0.05, 0.06, np.nan, 0.08],
            "n": pd.array([1, None, 3, 1237665024900858129], dtype="Int64"),
            "type": pd.array(["Sb", "E", None, "Sc"], dtype="string"),
            "flag": [True, False, True, False],
            "12 + log(O/H)": [8.0, 9.0, 9.2, 9.3],
        }
    )


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("z > 0.05", [1, 3]),
        ("0.05 < z < 0.08", [1]),
        ("0.05 <= z <= 0.08", [0, 1, 3]),
        ("not z > 0.05", [0, 2]),
        ("z != 0.05", [1, 3]),
        ("z > -1", [0, 1, 3]),
        ("type == 'Sb' or type == 'E'", [0, 1]),
        ("type in ['Sb', 'Sc'] and z < 0.07", [0]),
        ("type not in ('Sb',)", [1, 3]),
        ("type != 'Sb'", [1, 3]),
        ("flag", [0, 2]),
        ("not flag and n == 1237665024900858129", [3]),
        ("objID == '1237665024900858129'", [0]),
        ("`12 + log(O/H)` > 9.15", [2, 3]),
        ("n < `12 + log(O/H)`", [0, 2]),
        ("n in [1, 3]", [0, 2]),
    ],
)
def test_rows_for_which_a_condition_holds(table, condition, rows):
    """Comparisons, chains, lists and their joining; empty cells fulfil none of them."""
    assert np.flatnonzero(find_where(condition, table, len(table))).tolist() == rows


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("redshift > 1", "no column 'redshift', expected .* there are 'objID', 'z', 'n'"),
        ("tipe == 'E'", "no column 'tipe', expected .* did you mean 'type'"),
        ("type > 3", "compares text with a number"),
        ("z == 'a'", "compares text with a number"),
        ("z >", "cannot be read"),
        ("", "cannot be read"),
        ("z", "'z' is not understood"),
        ("`z` + 1 > 2", r"'`z` \+ 1' is not understood"),
        ("z + 1 > 2", r"'z \+ 1' is not understood"),
        ("z is None", "is not understood"),
        ("z in type", "'type' is not understood"),
        ("__import__('os').system('false')", "is not understood"),
        ("z.__class__ == 1", "is not understood"),
        ("[x for x in 'ab'] == 1", "is not understood"),
        ("(lambda: 1)() == 1", "is not understood"),
        ("z > (1 if flag else 2)", "is not understood"),
    ],
)
def test_anything_else_is_refused(table, condition, message):
    """Unknown columns, mixed kinds and whatever could run are answered in one line."""
    with pytest.raises(SelectionError, match=message) as caught:
        find_where(condition, table, len(table))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "condition",
    [
        "not " * 5000 + "(z > 0)",
        "z > " + "-" * 5000 + "1",
        "(" * 300 + "z > 0" + ")" * 300,
        "z > " + "9" * 5000,
        "z" + " + z" * 5000 + " > 0",
        " or ".join(["(" * 50 + "z > 0" + ")" * 50] * 100) + " and no",
    ],
)
def test_conditions_of_any_depth_end_in_one_short_line(table, condition):
    """A stranger's manuscript may hold thousands of signs."""
    with pytest.raises(SelectionError, match="`where`") as found:
        find_where(condition, table, len(table))
    assert len(str(found.value)) < 1000


@pytest.mark.parametrize("column", ["n", "z"])
@pytest.mark.parametrize("exponent", [63, 64, 400])
def test_integers_beyond_every_column(table, column, exponent):
    """They are above or below all numbers, and equal to none."""
    known = table[column].notna().to_numpy()
    assert (find_where(f"{column} < {2**exponent}", table, len(table)) == known).all()
    assert (find_where(f"{column} > -{2**exponent + 1}", table, len(table)) == known).all()
    assert not find_where(f"{column} == {2**exponent}", table, len(table)).any()
