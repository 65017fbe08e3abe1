"""Captions: probabilities that do not lie, and words that are safe in LaTeX."""

import json
import re

import h5py
import numpy as np
import pytest
from samples import FETCHED, list_figures

from galfig.errors import FigureError
from galfig.figures.captions import (
    LATEX,
    PLAIN,
    describe_network,
    describe_panels,
    describe_training,
    format_probability,
    name_classes,
)
from galfig.figures.latex import escape_latex
from galfig.figures.registry import draw_figure
from galfig.store.reader import open_store
from galfig.store.selection import Query, Selection, select_galaxies

OF_STORE = list_figures()


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


def test_caption_says_where_the_training_started(trained_store):
    """Words of a file, which may hold anything, are escaped."""
    with open_store(trained_store) as store:
        assert "starting" not in describe_network(store, LATEX)
    with h5py.File(trained_store, "r+") as file:
        training = json.loads(file.attrs["training"])
        training["start"] = {"source": "mass_1.safetensors", "sha256": "a" * 64}
        file.attrs["training"] = json.dumps(training)
    with open_store(trained_store) as store:
        words = describe_network(store, LATEX)
    assert r", starting from the weights of mass\_1.safetensors" in words


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
        "trained on 42 simulated galaxies, and of the galaxies of the validation set it classifies "
        f"{n_right} of 12 correctly (" in words
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Cutouts: SDSS DR18."),
        ({"release": "18"}, "Cutouts: SDSS DR18."),
        ({"service": "legacy", "release": "ls-dr10"}, "Cutouts: Legacy Surveys DR10."),
        (
            {"service": "legacy", "release": "unwise-neo7"},
            "Cutouts: Legacy Surveys viewer, layer unwise-neo7.",
        ),
        (
            {"service": "hips", "release": "CDS/P/SDSS9/color"},
            "Cutouts: HiPS CDS/P/SDSS9/color by hips2fits of CDS.",
        ),
        # A local server may serve anything.
        (
            {"is_mirror": True, "address": "http://127.0.0.1:8000/a_b"},
            "Cutouts: from http://127.0.0.1:8000/a_b.",
        ),
    ],
)
def test_where_cutouts_are_from(make_store, changes, words):
    """A survey is named only where its own service was asked."""
    training = '{"arch": "conv3", "n_train": {"a": 3}, "simulated": false}'
    fetched = json.dumps({**FETCHED, **changes})
    attrs = {"simulated": False, "training": training, "fetched": fetched}
    with open_store(make_store("f.h5", attrs=attrs)) as store:
        shown = select_galaxies(store, Query(n=2))
        assert words in describe_training(store, PLAIN)
        assert words in describe_panels(store, shown, PLAIN)
        assert escape_latex(words) in describe_panels(store, shown, LATEX)
    attrs["simulated"] = True
    with open_store(make_store("s.h5", attrs=attrs)) as store:
        assert "Cutouts" not in describe_training(store, PLAIN)
    del attrs["fetched"]
    with open_store(make_store("u.h5", attrs={**attrs, "simulated": False})) as store:
        assert "Cutouts" not in describe_training(store, PLAIN)


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


BINS = {
    "column": "oh_p50",
    "edges": [8.1, 8.7, 9.1, 9.3],
    "labels": ["low", "medium", "high"],
    "name": "metallicity",
}
ALL = Query(n=None)
MIXED = np.array(["train"] * 6 + ["valid"] * 3 + ["test"] * 2 + [""], dtype=object)


def describe(store_path, name, query=ALL, other=None):
    """Return the plain caption of a figure."""
    with draw_figure(name, store_path, query, other=other) as (drawing, _):
        return drawing.describe(PLAIN)


@pytest.mark.parametrize(
    ("split", "query", "words"),
    [
        ("valid", Query(n=None), "Confusion matrix of the 12 galaxies of the validation set."),
        ("test", Query(n=None), "Confusion matrix of the 12 galaxies of the test set."),
        ("train", Query(n=None), "Confusion matrix of the 12 galaxies that trained the network."),
        ("", Query(n=None), "of the 12 galaxies whose part in the training is unknown."),
        (
            "valid",
            Query(n=4, sort="loss"),
            "of 4 of the 12 galaxies of the validation set, those with the largest loss.",
        ),
        (
            MIXED,
            Query(n=None),
            "of the 6 galaxies that are not known to have trained the network (3 of the validation "
            "set, 2 of the test set, 1 whose part in the training is unknown).\nThe 6 galaxies of "
            "the store that trained the network are not counted.",
        ),
        (
            MIXED,
            Query(n=None, zmax=0.1, split="all"),
            "of the 8 galaxies of the store with z < 0.1 (6 that trained the network, 2 of the "
            "validation set).",
        ),
        (MIXED, Query(n=None, split="valid"), "of the 3 galaxies of the validation set."),
    ],
)
def test_caption_says_which_galaxies_were_counted(make_store, split, query, words):
    """By what the training did with them, and how many it left out."""
    splits = np.full(12, split, dtype=object) if isinstance(split, str) else split
    path = make_store(split=splits, attrs={"simulated": False, "split": "all"})
    assert words in describe(path, "confusion-matrix", query)


def test_accuracy_stands_beside_its_baselines(make_store):
    """Once in a caption, with what the largest class alone would give."""
    label = np.array([0] * 9 + [1] * 3, np.int16)
    path = make_store(label=label)
    for name in ("confusion-matrix", "reliability", "roc", "panels"):
        words = describe(path, name)
        with open_store(path) as store:
            score = store.score()
        assert words.count(f"{score.n_right} of 12 correctly") == 1
        assert "always predicting low-metallicity would give 75.0 %" in words
        balanced = f"{100 * score.balanced_accuracy:.1f} %, where any guess has 50.0 %)"
        assert f"the balanced accuracy is {balanced}" in words


def test_network_from_elsewhere_has_no_sets(make_store):
    """No validation set is invented, nor a number of training galaxies."""
    attrs = {"training": json.dumps({"arch": "resnet18"}), "split": "all", "simulated": False}
    path = make_store(split=np.full(12, "", dtype=object), attrs=attrs)
    for name in ("panels", "roc", "atlas"):
        words = describe(path, name)
        assert (
            "The network, resnet18, was not trained by galfig, and of the galaxies whose" in words
        )
        assert "validation" not in words
        assert "trained on" not in words


def test_unlabelled_galaxies_are_not_classified_by_nothing(make_store):
    """Without a column of classes, there is no other question to tell apart."""
    training = {"arch": "conv3", "n_train": {"low": 1}, "settings": {"classes": BINS}}
    path = make_store(
        label=np.full(12, -1, np.int16),
        quantity="",
        attrs={
            "training": json.dumps(training),
            "config": json.dumps({"classes": {"column": ""}}),
        },
    )
    words = describe(path, "panels")
    assert "classified by" not in words
    # The classes of the training are the only ones there are.
    assert (
        "The network, conv3, was trained on 1 galaxy to tell low-metallicity (8.1, 8.7] from "
        "high-metallicity (9.1, 9.3] in oh_p50." in words
    )
    assert "maps for low-metallicity and high-metallicity, drawn" in words
    some = np.array([0, 1, -1] * 4, np.int16)
    words = describe(make_store("some.h5", label=some), "confusion-matrix")
    assert "Of these, 4 without a true class are not counted." in words
    assert " of 8 correctly" in words


def test_brightness_is_not_probability(make_store):
    """Rows whose brightest pixel deceives are counted, mirrored maps are called so."""
    rng = np.random.default_rng(0)
    cam = rng.normal(0, 1, (12, 24, 24))
    cams = np.stack([-cam, cam], axis=1).astype(np.float32)
    # The total is the logit but for a constant, yet one pixel outshines it in every fourth galaxy.
    cams[::4, 0, 0, 0], cams[::4, 1, 0, 0] = 50, -50
    logits = cams.sum(axis=(2, 3)) + np.array([3.0, -1.0], np.float32)
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    peaks = cams.max(axis=(2, 3)).argmax(axis=1)
    n_deceptive = int(np.sum(peaks != logits.argmax(axis=1)))
    assert 0 < n_deceptive < 12
    path = make_store(cams=cams, logits=logits, probs=probs)
    words = describe(path, "panels", Query(n=12))
    assert "the brightness of a map is not p." in words
    assert f"In {n_deceptive} of the 12 rows, the brightest pixel is not on the map of the" in words
    assert (
        "In each of the 12 rows, the two maps are nearly mirror images, with a correlation below "
        "-0.9; of the pixels that are positive in one, 100 % are negative, and so not drawn, in"
        in words
    )
    assert "Here Σ is the logit of the class, less a constant for each class." in words
    others = describe(make_store("o.h5"), "panels", Query(n=12))
    assert "mirror" not in others
    assert "Here Σ is not the logit of the class" in others


def test_one_of_anything_is_singular(make_store, tmp_path):
    """'1 galaxies' and '1 pages' were written before."""
    path = make_store(n=1, split=np.array(["valid"], dtype=object))
    # One galaxy spans no plane.
    others = {"compare", "roc", "training-curves", "learning-rate", "histogram", "feature-space"}
    for name in OF_STORE:
        if name in others:
            continue
        with draw_figure(name, path, Query(n=None)) as (drawing, _):
            for words in (drawing.describe(PLAIN), drawing.alt):
                assert not re.search(r"\b1 (galaxies|pages|rows|pairs)\b", words)


def test_histogram_says_which_classes_it_leaves_out(make_store):
    """The store holds the classes that the network tells apart, and counts the rest."""
    attrs = {
        "config": json.dumps({"classes": BINS}),
        "class_counts": json.dumps({"low": 6, "medium": 31, "high": 6}),
    }
    words = describe(make_store(attrs=attrs), "histogram")
    assert (
        "Not drawn are the catalog's 31 galaxies of class medium, which the network does not tell"
        in words
    )


def test_scaled_cutouts_say_so(make_store):
    """What the network saw has other pixels than what is drawn."""
    tables = {"classes": BINS, "training": {"cutout_size": 24, "image_size": 12}}
    training = {"arch": "conv3", "n_train": {"low": 1}, "settings": tables}
    path = make_store(attrs={"training": json.dumps(training)})
    assert "on a side; scaled to 12 × 12 pixels for the network" in describe(path, "panels")
    assert "scaled to" not in describe(make_store("o.h5"), "panels")


def test_scale_bars_are_explained(make_store):
    """Wherever there is one: kiloparsecs where the redshift is known."""
    unknown = np.full(12, np.nan)
    some = np.where(np.arange(12) < 6, 0.1, np.nan)
    for redshift, words in (
        (unknown, "The scale bar gives the angle in arcsec."),
        (some, "in arcsec and, where the redshift is known, the proper length"),
    ):
        path = make_store(f"{redshift[0]}.h5", redshift=redshift)
        assert words in describe(path, "class-examples")
    assert "The scale bar gives the angle in arcsec." in describe(path, "stacked-maps")
    bare = make_store("bare.h5", attrs={"pixel_scale": float("nan")})
    assert "scale bar" not in describe(bare, "stacked-maps")
    redshifts = {"unknown": unknown, "some": some}
    for name, words in (
        ("unknown", "identifier, the true class, the peak"),
        ("some", "identifier, the redshift where it is known, the true class"),
    ):
        atlas = describe(make_store(f"{name}.h5", redshift=redshifts[name]), "atlas")
        assert f"The labels give the {words}" in atlas


def test_maps_are_not_compared_with_themselves(make_store, other_store):
    """Two files of one network say nothing; another network of the same galaxies does."""
    path = make_store()
    with pytest.raises(FigureError, match="holds the same maps as"):
        describe(path, "compare", Query(n=3), other=path)
    words = describe(path, "compare", Query(n=3, sort="p"), other=other_store)
    assert (
        "3 of the 12 simulated galaxies in the validation set of both networks, those classified "
        "with the highest probability by the network of rows (a), (c), (e)." in words
    )


@pytest.mark.parametrize("name", ["training-curves", "learning-rate"])
def test_figures_of_the_training_take_no_galaxies(trained_store, name):
    """A condition that changes nothing would be believed."""
    with pytest.raises(FigureError, match="expected no selection of galaxies; leave out `n`, `zm"):
        describe(trained_store, name, Query(n=3, zmin=0.1))


def test_loss_beyond_the_axis_is_told_only_where_it_is(trained_store, make_store):
    """A curve that never leaves the axes is not cut."""
    assert "lie beyond the axis" in describe(trained_store, "learning-rate")
    finder = {"lr": [1e-7, 1e-3, 1.0], "loss": [0.7, 0.5, 0.4]}
    training = {"arch": "conv3", "n_train": {"low": 1}, "lr": 0.01, "lr_finder": finder}
    words = describe(make_store(attrs={"training": json.dumps(training)}), "learning-rate")
    assert "beyond" not in words
    assert "from 1e-07 to 1 (" in words


def test_classes_are_defined_once(make_store):
    """Readers would take 'low' and 'high' for halves of the sample, while its middle is missing."""
    attrs = {
        "config": json.dumps({"classes": BINS}),
        "class_counts": json.dumps({"low": 6, "medium": 31, "high": 6}),
    }
    path = make_store(attrs=attrs)
    words = (
        "The classes are intervals of 12 + log(O/H) (oh_p50): low-metallicity (8.1, 8.7] and high-"
        "metallicity (9.1, 9.3], without the catalog's 31 galaxies of class medium."
    )
    for name in ("panels", "roc", "confusion-matrix", "atlas", "top-losses"):
        assert describe(path, name).count(words) == 1
    assert "The classes are intervals" not in describe(path, "histogram")
    unlabelled = make_store("u.h5", label=np.full(12, -1, np.int16), attrs=attrs)
    assert "The classes are" not in describe(unlabelled, "panels")


@pytest.mark.parametrize(
    "name", ["panels", "top-losses", "stacked-maps", "atlas", "radial-profile"]
)
def test_maps_past_which_the_image_flows_say_so(make_store, name):
    """The image also reaches the logits past the layer, so that maps are only a part."""
    words = "these maps show only part of the evidence"
    assert describe(make_store(attrs={"layer_is_bypassed": True}), name).count(words) == 1
    assert words not in describe(make_store("o.h5"), name)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (
            {"accuracy": 0.25, "majority_share": 0.5, "recorded": 0.875},
            "In a check of 40 labelled galaxies, the network was right for 25.0 %, where its "
            "record says 87.5 %, so its predictions may be unreliable.",
        ),
        (
            {"accuracy": 0.25, "majority_share": 0.5},
            "right for 25.0 %, no more often than a guess, so its predictions may be unreliable.",
        ),
        (
            {"accuracy": 0.75, "majority_share": 0.5, "class_order": ["high", "low_%"]},
            "75.0 %; its classes seem to be named in the wrong order (right: high, low_%).",
        ),
    ],
)
def test_captions_tell_of_a_failed_check(make_store, check, words):
    """Beside the accuracy, in every figure, and escaped in LaTeX."""
    record = {"n": 40, "warning": "does badly", **check}
    path = make_store(attrs={"accuracy_check": json.dumps(record)})
    for name in ("panels", "roc", "confusion-matrix", "atlas"):
        assert describe(path, name).count(words) == 1
    with open_store(path) as store:
        assert r"low\_\%" in describe_training(store, LATEX) or "order" not in words
    record["warning"] = ""
    fine = make_store("fine.h5", attrs={"accuracy_check": json.dumps(record)})
    assert "In a check" not in describe(fine, "roc")


@pytest.mark.parametrize("name", ["confusion-matrix", "reliability", "roc"])
def test_galaxies_chosen_by_the_output_measure_nothing(make_store, name):
    """The worst six are all wrong, which does not say that the network is."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, (40, 2)).astype(np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    path = make_store(n=40, logits=logits, probs=probs)
    words = "These galaxies were chosen by the output of the network"
    for query in (
        Query(n=10, sort="loss"),
        Query(n=10, sort="p"),
        Query(n=None, correct=False),
        Query(n=None, predicted="low"),
    ):
        caption = describe(path, name, query)
        assert caption.count(words) == 1
        # The accuracy is that of all galaxies.
        assert caption.count(" of 40 correctly (") == 1
    for query in (ALL, Query(n=20), Query(n=None, sort="loss"), Query(n=None, zmax=0.1)):
        assert words not in describe(path, name, query)


def test_galaxies_of_one_class_have_no_baseline(make_store):
    """Always predicting it would give 100 %, which says nothing of the network."""
    words = describe(make_store(), "confusion-matrix", Query(n=None, true="low"))
    assert "; all are low-metallicity)." in words
    assert "always predicting" not in words.split("The network, ")[0]


def test_examples_are_counted_of_their_class(make_store):
    """Six shown of thirty are not said to be all, and an order that decides nothing is not told."""
    words = describe(make_store(n=60), "class-examples")
    assert "6 of 30 low-metallicity, 6 of 30 high-metallicity." in words
    assert "the first in a random order (seed 256)." in words
    words = describe(make_store("few.h5", n=6), "class-examples")
    assert "3 of 3 low-metallicity" in words
    assert "the first" not in words


def test_an_atlas_tells_its_order_once(make_store):
    """Where the choice of the galaxies is an order, it is not repeated."""
    path = make_store()
    assert "down the columns, in a random order (seed 256).\n" in describe(path, "atlas")
    words = describe(path, "atlas", Query(n=None, sort="p"))
    assert "down the columns, by decreasing probability of the predicted class.\n" in words
    words = describe(path, "atlas", Query(n=3, sort="loss"))
    assert "those with the largest loss, on 1 page, down the columns.\n" in words


def test_sum_and_logit_are_compared_beyond_the_rows_shown(make_store):
    """The answer depends on the network, and one row is too few to tell."""
    rng = np.random.default_rng(0)
    cams = rng.normal(0, 1, (12, 2, 24, 24)).astype(np.float32)
    logits = cams.sum(axis=(2, 3)) + np.float32(2)
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    path = make_store(cams=cams, logits=logits, probs=probs)
    assert "Here Σ is the logit of the class" in describe(path, "panels", Query(n=1))
    assert "Here Σ is not the logit" in describe(make_store("o.h5"), "panels", Query(n=1))


@pytest.mark.parametrize("figure", ["panels", "roc", "compare"])
def test_an_import_that_nobody_checked_is_said(make_store, other_store, figure):
    """In the captions of all figures; where it was checked, nothing is said."""
    sentence = "was not checked against the original network"
    for n_checked, is_said in ((0, True), (24, False)):
        imported = {"weights_sha256": "e" * 64, "n_checked": n_checked}
        training = json.dumps({"arch": "timm:resnet18", "imported": imported})
        path = make_store(attrs={"training": training})
        other = other_store if figure == "compare" else None
        assert (sentence in describe(path, figure, other=other)) is is_said


@pytest.mark.parametrize(
    ("classes", "names", "words"),
    [
        ({"column": "type"}, ("E", "S"), "to tell E from S by type."),
        (
            {"column": "type", "name": "kind"},
            ("a", "b", "c"),
            "to tell a-kind, b-kind and c-kind apart by type.",
        ),
        (
            {"column": "m", "edges": [0, 1, 2, 3], "labels": ["x", "y", "z"]},
            ("x", "y", "z"),
            "to tell x (0, 1], y (1, 2] and z (2, 3] apart in m.",
        ),
        ({"column": "type"}, tuple("abcdefghij"), "to tell 10 classes of type apart."),
    ],
)
def test_network_of_unlabelled_galaxies_says_what_it_tells_apart(make_store, classes, names, words):
    """Nothing else defines its classes; a catalog of labels that are all missing is the same."""
    training = {"arch": "conv3", "n_train": {"a": 3}, "settings": {"classes": classes}}
    for name, own in (("none.h5", {"column": ""}), ("missing.h5", classes)):
        attrs = {"training": json.dumps(training), "config": json.dumps({"classes": own})}
        unknown = np.full(12, -1, np.int16)
        path = make_store(name, class_names=names, label=unknown, attrs=attrs)
        with open_store(path) as store:
            assert (
                describe_network(store, PLAIN)
                == f"The network, conv3, was trained on 3 galaxies {words}"
            )


def test_mirrored_maps_are_counted_by_row(make_store):
    """A median is no statement on all rows, and a correlation none on signs."""
    rng = np.random.default_rng(0)
    one = rng.normal(0, 1, (4, 24, 24))
    other = -one
    # Shifted by a constant, the maps are correlated as before, but many signs are the same.
    other[0] += 0.5
    other[3] = rng.normal(0, 1, (24, 24))
    cams = np.stack([one, other], axis=1).astype(np.float32)
    words = describe(make_store(n=4, cams=cams), "panels", Query(n=4))
    first, second = cams[:3, 0], cams[:3, 1]
    n_opposite = np.sum((first > 0) & (second < 0)) + np.sum((first < 0) & (second > 0))
    share = n_opposite / (np.sum(first > 0) + np.sum(second > 0))
    assert 0.85 < share < 0.95
    assert (
        "In 3 of the 4 rows, the two maps are nearly mirror images, with a correlation below -0.9; "
        f"of the pixels that are positive in one, {100 * share:.0f} % are negative, and so" in words
    )
    cams[1:, 1] = rng.normal(0, 1, (3, 24, 24))
    assert "mirror" not in describe(make_store("o.h5", n=4, cams=cams), "panels", Query(n=4))


def test_order_of_rows_is_told_even_if_all_are_shown(make_store):
    """The rows of the worst galaxies are in an order, too, where there are no more of them."""
    path = make_store()
    words = describe(path, "panels", Query(n=None, correct=False, sort="loss"))
    assert "From top to bottom, by decreasing loss: " in words
    assert "From top to bottom: " in describe(path, "panels", Query(n=3))
    assert "by decreasing" not in describe(path, "panels", Query(n=3))
    assert "From top to bottom, by decreasing loss: " in describe(path, "top-losses", Query(n=3))


@pytest.mark.parametrize("name", ["panels", "top-losses", "stacked-maps", "compare"])
def test_one_row_is_one_row(make_store, other_store, name):
    """'One for each of 1 galaxy' was written before."""
    path = make_store(n=2)
    other = other_store if name == "compare" else None
    query = Query(n=1, split="valid")
    with draw_figure(name, path, query, other=other) as (drawing, _):
        assert drawing.alt.startswith("A pair of rows for 1" if other else "A row of panels for 1")


def test_a_map_that_is_not_shown_mirrors_nothing(make_store):
    """Of two classes, the map of one alone may be chosen."""
    one = np.random.default_rng(0).normal(0, 1, (12, 24, 24))
    path = make_store(cams=np.stack([one, -one], axis=1).astype(np.float32))
    for classes, says_so in (((), True), (("low",), False)):
        with draw_figure("panels", path, Query(n=2), classes=classes) as (drawing, _):
            assert ("mirror images" in drawing.describe(PLAIN)) == says_so


@pytest.mark.parametrize(("n", "words"), [(9, "those of 1 more class"), (10, "2 more classes")])
def test_one_class_that_is_not_named_is_one_class(make_store, n, words):
    """'Those of 1 more classes' was written before."""
    counts = {f"type {letter}": 3 for letter in "abcdefghijkl"[:n]}
    classes = {"column": "type", "keep": ["low", "high"]}
    attrs = {
        "class_counts": json.dumps({"low": 6, "high": 6, **counts}),
        "config": json.dumps({"classes": classes}),
    }
    assert words in describe(make_store(attrs=attrs), "panels", Query(n=1))
