"""Values: macros that TeX takes, with the numbers of the store, under names that cannot clash."""

import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galfig.errors import ManuscriptError
from galfig.manuscript import values
from galfig.manuscript.values import describe_store, find_unstated, write_macros
from galfig.store.reader import open_store

pytestmark = pytest.mark.slow


def describe(path, prefix="x"):
    with open_store(path) as store:
        return describe_store(prefix, store)


def test_macros_are_letters_and_say_what_the_store_holds(paper):
    """TeX takes no digit or hyphen in a name; numbers are those of the store."""
    with open_store(paper / "maps.h5") as store:
        found = describe_store("colour", store)
        assert found["colourN"] == found["colourNStored"] == "12"
        assert found["colourNNotCounted"] == "0"
        assert found["colourNOfLow"] == str(np.sum(store.label == 0))
        assert found["colourNTrain"] == "42"
        assert found["colourNTrainOfHigh"] == "22"
        assert found["colourAccuracy"] == f"{100 * store.accuracy:.1f}"
        assert found["colourNRight"] == str(np.sum(store.predicted == store.label))
        assert found["colourMajorityShare"] == "50.0"
        assert found["colourBalancedAccuracy"] == found["colourAccuracy"]
        area, low, high = (float(found[f"colourAuc{end}"]) for end in ("", "From", "To"))
        assert low <= area <= high
        assert found["colourZMin"] == "0.020"
        assert all(name.isalpha() for name in found)
        lines = write_macros({"colour": store}).splitlines()
    assert r"\newcommand{\colourN}{12}" in lines


def test_galaxies_that_trained_the_network_are_not_counted(make_store):
    """They are in the store, and their number is told; everything else is of the others."""
    split = np.array(["train"] * 4 + ["valid"] * 8, dtype=object)
    path = make_store(split=split)
    found = describe(path)
    with open_store(path) as store:
        label, predicted = store.label[4:], store.predicted[4:]
        assert found["xZMin"] == f"{store.redshift[4:].min():.3f}"
    assert (found["xN"], found["xNStored"], found["xNNotCounted"]) == ("8", "12", "4")
    assert (found["xNCounted"], found["xNRight"]) == ("8", str(np.sum(label == predicted)))
    assert found["xNOfLow"] == str(np.sum(label == 0))


@pytest.mark.parametrize(
    "class_names",
    [("left", "right"), ("accepted", "rejected"), ("test", "train"), ("low", "high")],
)
def test_a_class_shares_no_macro_with_another_number(make_store, class_names):
    """The classes are counted under their own names, and the totals stay what they are."""
    first, second = (name.capitalize() for name in class_names)
    label = np.array([0] * 5 + [1] * 7, dtype=np.int16)
    training = {"arch": "conv3", "n_train": {class_names[0]: 20, class_names[1]: 22}}
    attrs = {"training": json.dumps(training)}
    found = describe(make_store(class_names=class_names, label=label, attrs=attrs))
    assert (found[f"xNOf{first}"], found[f"xNOf{second}"]) == ("5", "7")
    assert (found[f"xNTrainOf{first}"], found[f"xNTrainOf{second}"]) == ("20", "22")
    assert (found["xNTrain"], found["xNRejected"]) == ("42", "0")


def test_class_names_become_macros(make_store):
    """Odd names keep their letters, and digits are spelled; without letters there is a number."""
    found = describe(make_store(class_names=("z<0.1", "S0/a_b", "é", "星"), quantity=""))
    assert {"xNOfZZeroOne", "xNOfSZeroAB", "xNOfE", "xNOfClassFour"} <= set(found)


@given(st.lists(st.text(max_size=12), min_size=2, max_size=8, unique=True))
def test_any_names_have_parts_that_differ(names):
    """Of whatever characters: as many parts as names, all of letters."""
    parts = values._name_parts([*names, "class one", "Class Two"], "Class")
    assert len(set(parts)) == len(names) + 2
    assert all(part.isascii() and part.isalpha() for part in parts)


def test_no_word_of_a_macro_holds_its_separator(make_store):
    """So that a name can be read in one way only: the word ends where ``Of`` first begins."""
    attrs = {
        "training": json.dumps(
            {"arch": "a", "n_train": {"of": 1, "Of": 2}, "lr": 0.1, "seeds": {"Of": 3}}
        )
    }
    found = describe(make_store(class_names=("of", "ofOf"), attrs=attrs))
    words = {name.removeprefix("x").partition("Of")[0] for name in found}
    assert {"N", "NTrain", "Seed", "Auc"} <= words
    for one, other in itertools.permutations(words, 2):
        assert not one.startswith(f"{other}Of")


def test_macros_of_two_stores_that_are_equal_are_refused(make_store):
    """A store ``a`` with a class "N", and a store ``aNOf``: \\aNOfN would have two meanings."""
    with open_store(make_store("one.h5", class_names=("N", "b"))) as one:
        assert write_macros({"a": one, "b": one})
        with pytest.raises(ManuscriptError, match=r"'a' and 'aNOf': both make the macro \\aNOfN"):
            write_macros({"a": one, "aNOf": one})


def test_values_of_a_stranger_are_escaped(make_store):
    """Whatever text a store holds is printed and never obeyed."""
    evil = r"\input{/etc/passwd}"
    training = {"arch": evil, "versions": {"torch": evil}, "seeds": {"split": 3}}
    attrs = {"target_layer": evil, "training": json.dumps(training)}
    path = make_store(class_names=(evil, "b"), attrs=attrs)
    with open_store(path) as store:
        words = write_macros({"x": store})
    assert words.count(r"\textbackslash{}input\{/etc/passwd\}") >= 3
    assert r"\input" not in words


def test_numbers_that_a_caption_does_not_state_are_named():
    """An area that was computed otherwise for the figure than for the text."""
    macros = "\n".join(
        rf"\newcommand{{\{name}}}{{{value}}}"
        for name, value in {"aAuc": "0.973", "aAucFrom": "0.95", "aN": "7", "bAuc": "0.5"}.items()
    )
    assert find_unstated("roc", "a", macros, "area 0.973 (0.95 to 0.99).") == []
    assert find_unstated("roc", "a", macros, "area 0.974 (0.95 to 0.99).") == [r"\aAuc says 0.973"]
    assert find_unstated("panels", "a", macros, "") == []
    by_class = macros.replace("aAuc}", "aAucOfLow}")
    assert find_unstated("roc", "a", by_class, "0.95") == [r"\aAucOfLow says 0.973"]
    assert re.search(r"\\aAuc}", macros)
