"""What a store shows of itself."""

import html
import json

import numpy as np
import pytest
from PIL import Image

from galfig.store.reader import open_store
from galfig.store.summary import N_THUMBNAILS, describe_splits


def test_repr_says_what_it_holds(store_path):
    """Galaxies, classes, maps, the accuracy and the galaxies that it was measured on."""
    with open_store(store_path) as store:
        words = repr(store)
        accuracy = store.accuracy
    assert "12 galaxies (6 low, 6 high)" in words
    assert "maps of 24 × 24 pixels of layer conv3" in words
    assert f"accuracy {accuracy:.3f} on 12 galaxies of the validation set" in words
    assert "galaxies are simulated" in words


def test_repr_invents_no_accuracy(make_store):
    """Without labels there is none; galaxies that trained the network are counted apart."""
    unknown = np.full(12, -1, np.int16)
    with open_store(make_store("unknown.h5", label=unknown)) as store:
        assert "; accuracy" not in repr(store)
        assert "12 of unknown class" in repr(store)
    split = np.array(["train"] * 6 + ["valid"] * 4 + ["", ""], dtype=object)
    with open_store(make_store("all.h5", split=split, attrs={"split": "all"})) as store:
        counted = np.mean(store.predicted[6:] == store.label[6:])
        assert store.accuracy == counted
        assert (
            f"accuracy {counted:.3f} on 4 galaxies of the validation set and 2 that may have "
            "trained the network, always 'low' would give 0.500"
        ) in repr(store)
        assert "6 galaxies that trained the network are not counted" in repr(store)
        assert store.score(split == "train").n == 6
    seen = np.full(12, "train", dtype=object)
    with open_store(make_store("train.h5", split=seen)) as store:
        assert "on 12 galaxies that trained the network, always" in repr(store)


def test_repr_says_what_an_accuracy_is_worth(make_store):
    """Few galaxies, or an accuracy that a guess would reach, in both forms."""
    training = {"arch": "conv3", "n_train": {"low": 4, "high": 1}, "n_valid": {"low": 1, "high": 0}}
    label = np.zeros(12, np.int16)
    attrs = {"training": json.dumps(training)}
    with open_store(make_store(label=label, attrs=attrs)) as store:
        for words in (repr(store), html.unescape(store._repr_html_())):
            assert "only 5 'low', 1 'high' to train and validate, expected 20 of a class" in words
            assert "only 1 'low', 0 'high' to validate, expected 5 of a class" in words
            assert "is no better than a guess: always 'low' gives 1.000" in words


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"valid": 104}, "104 galaxies of the validation set"),
        ({"valid": 1}, "1 galaxy of the validation set"),
        ({"test": 2, "": 1}, "2 galaxies of the test set and 1 that may have trained the network"),
        ({"train": 9}, "9 galaxies that trained the network"),
    ],
)
def test_splits_in_words(counts, words):
    """How many galaxies, and what training did with them."""
    assert describe_splits(counts) == words


def test_notebooks_see_a_table_and_cutouts(make_store):
    """The same facts, warnings, and a row of images with names."""
    shift = {"is_unlike": True, "measure": "brightness", "value": 2.0, "threshold": 0.8}
    attrs = {"image_shift": json.dumps(shift)}
    with open_store(make_store(attrs=attrs)) as store:
        page = store._repr_html_()
        first = store.objid[0]
    assert page.count("<img ") == N_THUMBNAILS
    assert f"alt='{first}'" in page
    assert "images unlike those that trained the network: brightness is 2" in page


def test_names_of_strangers_are_escaped(make_store):
    """A class or an identifier is text, whatever it looks like."""
    names = ("<script>alert(1)</script>", "b")
    objid = np.array([f"'><b>{n}" for n in range(12)], dtype=object)
    with open_store(make_store(class_names=names, objid=objid)) as store:
        page = store._repr_html_()
    assert "<script>" not in page
    assert "<b>0" not in page


def test_one_band_is_shown_grey(make_store):
    """A thumbnail of one band has three equal channels."""
    cutouts = np.arange(12 * 24 * 24, dtype=np.int64).reshape(12, 24, 24, 1) % 251
    with open_store(make_store(cutouts=cutouts.astype(np.uint8))) as store:
        assert "<img " in store._repr_html_()
        assert Image.fromarray(store.cutouts(0)).mode == "RGB"
