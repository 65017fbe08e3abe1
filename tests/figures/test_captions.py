"""Captions: probabilities that do not lie, and words that are safe in LaTeX."""

import json

import numpy as np
import pytest

from galfig.figures.captions import (
    LATEX,
    PLAIN,
    describe_network,
    describe_panels,
    describe_training,
    format_probability,
    name_classes,
)
from galfig.store.reader import open_store
from galfig.store.selection import Query, Selection, select_galaxies


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.9996, "> 0.999"),
        (1.0, "> 0.999"),
        (0.99951, "> 0.999"),
        (0.9994, "= 0.999"),
        (0.5, "= 0.500"),
        (0.0006, "= 0.001"),
        (0.0003, "< 0.001"),
        (0.0, "< 0.001"),
    ],
)
def test_probability_to_three_decimals(p, words):
    """Three decimals, and never 1.000 or 0.000."""
    assert format_probability(p) == words


def test_no_probability_rounds_to_certainty():
    """Over the whole interval, in float32 too, neither 1.000 nor 0.000 is ever printed."""
    for p in np.concatenate([np.linspace(0, 1, 20001), np.float32([0.9995, 0.0005, 0.99949998])]):
        words = format_probability(p)
        assert words.split()[1] not in {"1.000", "0.000"}
        if words.startswith("="):
            assert abs(float(words.split()[1]) - p) <= 0.0005 + 1e-9


def test_caption_says_what_was_done(store_path):
    """How galaxies were chosen, what is shown, what p is, model, accuracy, N, simulated."""
    with open_store(store_path) as store:
        selection = select_galaxies(store, Query(n=3, zmin=0.03, zmax=0.12))
        words = describe_panels(store, selection, PLAIN)
        objids = store.objid[selection.indices]
        n_right = round(store.accuracy * 12)
    assert words.startswith(
        "Grad-CAM maps of 3 of the 8 simulated galaxies of the validation set with "
        "0.03 < z < 0.12, drawn at random (seed 256).\n"
    )
    assert "low-metallicity and high-metallicity, drawn over the dimmed cutout" in words
    assert "one linear colour scale per row" in words
    assert "The probability p is the softmax" in words
    assert (
        f"trained on 42 simulated galaxies, and of the galaxies of the validation set it classifies {n_right} of 12 correctly"
        in words
    )
    assert "24 × 24 pixels of 0.396 arcsec, 9.5 arcsec on a side" in words
    assert all(objid in words for objid in objids)
    assert words.rstrip().endswith("no real galaxy is shown.")


def test_caption_of_named_and_of_all_galaxies(store_path):
    """A choice by name says so, and so does a draw that took all there were."""
    with open_store(store_path) as store:
        named = select_galaxies(store, Query(objids=(store.objid[0],)))
        assert "1 simulated galaxy of the validation set, chosen individually" in describe_panels(
            store, named, PLAIN
        )
        everything = select_galaxies(store, Query(n=12))
        assert (
            "Grad-CAM maps of the 12 simulated galaxies of the validation set."
            in describe_panels(store, everything, PLAIN)
        )


def test_caption_of_real_galaxies(make_store):
    """Nothing is called simulated that is not."""
    training = '{"arch": "conv3", "n_train": {"a": 3}, "simulated": false}'
    path = make_store(attrs={"simulated": False, "training": training})
    with open_store(path) as store:
        words = describe_panels(store, select_galaxies(store, Query(n=2)), PLAIN)
    assert "simulated" not in words


def test_caption_says_that_images_are_unlike(make_store):
    """One sentence with the measure and what was expected, in the markup; none where alike."""
    shift = {"measure": "offset [100%]", "value": 1.4387, "threshold": 0.8, "is_unlike": True}
    paths = {
        is_unlike: make_store(
            f"{is_unlike}.h5", attrs={"image_shift": json.dumps({**shift, "is_unlike": is_unlike})}
        )
        for is_unlike in (True, False)
    }
    with open_store(paths[True]) as store:
        selection = select_galaxies(store, Query(n=2))
        plain = describe_panels(store, selection, PLAIN)
        latex = describe_panels(store, selection, LATEX)
        assert "unlike those that trained the network" in describe_training(store, PLAIN)
    assert (
        "\nThe images are unlike those that trained the network, so its predictions may be "
        "unreliable: the offset [100%] is 1.44, where at most 0.8 is expected.\n" in plain
    )
    assert r"the offset [100\%] is 1.44, where" in latex
    with open_store(paths[False]) as store:
        assert "unlike" not in describe_panels(store, selection, PLAIN)


def test_latex_escapes_what_comes_from_data(make_store):
    """Special characters of LaTeX in names are printed, not interpreted."""
    path = make_store(class_names=(r"50%_\{a}", "R&D $#^~"), quantity="")
    with open_store(path) as store:
        words = describe_panels(store, Selection(np.array([0]), 1), LATEX)
        plain = describe_panels(store, Selection(np.array([0]), 1), PLAIN)
    assert r"50\%\_\textbackslash{}\{a\}" in words
    assert r"R\&D \$\#\textasciicircum{}\textasciitilde{}" in words
    assert r"50%_\{a}" in plain
    assert r"$24\times24$" in words


def test_names_of_classes(make_store):
    """A quantity is joined to its class, and absent stays absent."""
    with open_store(make_store()) as store:
        assert name_classes(store) == ("low-metallicity", "high-metallicity")
    with open_store(make_store("other.h5", class_names=("spiral", "bar"), quantity="")) as store:
        assert name_classes(store) == ("spiral", "bar")


def test_network_that_was_asked_something_else_says_so(make_store):
    """Where the galaxies are classified by another column, or other edges, than the training's."""
    bins = {"edges": [8.1, 8.7, 9.1, 9.3], "labels": ["low", "medium", "high"]}
    trained = {"column": "oh_p50", **bins}
    training = {"arch": "conv3", "n_train": {"low": 1, "high": 1}, "simulated": False}
    training |= {"settings": {"classes": trained}}
    for column, says_so in (("oh_p50", False), ("logMstar", True)):
        classes = {"name": "mass", "column": column, **bins}
        attrs = {
            "config": json.dumps({"classes": classes}),
            "training": json.dumps(training),
        }
        with open_store(make_store(f"{column}.h5", attrs=attrs)) as store:
            words = describe_network(store, PLAIN)
            edges = "[8.1, 8.7, 9.1, 9.3]"
            question = f", classified by oh_p50 {edges} rather than, as here, by logMstar {edges}"
            assert (question in words) == says_so
