"""What a store shows of itself."""

import json

import numpy as np
from PIL import Image

from galfig.store.reader import open_store
from galfig.store.summary import N_THUMBNAILS


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
    """Without labels there is none; of all galaxies, it says that some trained the network."""
    unknown = np.full(12, -1, np.int16)
    with open_store(make_store("unknown.h5", label=unknown)) as store:
        assert "; accuracy" not in repr(store)
        assert "12 of unknown class" in repr(store)
    with open_store(make_store("all.h5", attrs={"split": "all"})) as store:
        assert "include the training set" in repr(store)


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
