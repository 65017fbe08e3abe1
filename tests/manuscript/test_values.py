"""Values: macros that TeX takes, with the numbers of the store."""

import numpy as np
import pytest

from galfig.manuscript.values import describe_store, write_macros
from galfig.store.reader import open_store

pytestmark = pytest.mark.slow


def test_macros_are_letters_and_say_what_the_store_holds(paper):
    """TeX takes no digit or hyphen in a name; numbers are those of the store."""
    with open_store(paper / "maps.h5") as store:
        values = describe_store("colour", store)
        assert values["colourN"] == "12"
        assert values["colourNLow"] == str(np.sum(store.label == 0))
        assert values["colourNTrain"] == "42"
        assert values["colourAccuracy"] == f"{100 * store.accuracy:.1f}"
        assert float(values["colourAucLow"]) <= float(values["colourAuc"])
        assert values["colourZMin"] == "0.020"
        assert all(name.isalpha() for name in values)
        lines = write_macros({"colour": store}).splitlines()
    assert r"\newcommand{\colourN}{12}" in lines


def test_class_names_become_macros(make_store):
    """Odd names keep their letters, and digits are spelled."""
    path = make_store(class_names=("z<0.1", "S0/a_b", "é"), quantity="")
    with open_store(path) as store:
        values = describe_store("x", store)
    assert {"xNZZeroOne", "xNSZeroAB", "xN"} <= set(values)
