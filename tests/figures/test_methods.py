"""Methods in words: every figure says which method made its maps, and says the truth of it."""

import importlib
import re

import h5py
import matplotlib as mpl
import numpy as np
import pytest

from galfig import plot
from galfig.config import NONLINEAR_METHODS, PIXEL_METHODS, StyleSettings
from galfig.errors import FigureError
from galfig.figures.captions import LATEX, PLAIN
from galfig.figures.drawing import DrawOptions
from galfig.figures.methods import METHODS, describe_faithfulness
from galfig.store.reader import open_store
from galfig.store.selection import make_query, select_galaxies
from galfig.store.summary import describe_html, list_warnings

# Figures of maps, and how they name the maps of a method.
OF_MAPS = ("panels", "top-losses", "stacked-maps", "radial-profile", "atlas")


def make_methods_store(make_store, method, name="maps.h5", **attrs):
    found = {} if method == "grad-cam" else {"method": method}
    if method in PIXEL_METHODS:
        found["target_layer"] = ""
    return open_store(make_store(name, attrs={**found, **attrs}))


def draw(store, name, **options):
    selection = select_galaxies(store, make_query(n=3))
    module = importlib.import_module(f"galfig.figures.{name.replace('-', '_')}")
    return module.draw(store, selection, DrawOptions(**options))


def test_all_methods_have_words():
    """Those that the settings know, in the same order, and each has its own name and source."""
    from galfig.attribution.methods import METHODS as COMPUTED

    assert list(METHODS) == list(COMPUTED)
    assert len({words.name for words in METHODS.values()}) == len(METHODS)
    assert len({words.source for words in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *(("panels", method) for method in METHODS),
        *((name, method) for name in OF_MAPS[1:] for method in ("evidence", "input-x-gradient")),
        ("radial-profile", "grad-cam++"),
    ],
)
def test_every_figure_follows_the_method(make_store, name, method):
    """Its caption, alternative text and axes name it, and no other; most cite it."""
    words = METHODS[method]
    with make_methods_store(make_store, method) as store:
        drawing = draw(store, name)
        caption = drawing.describe(PLAIN)
        assert words.name.lower() in f"{caption} {drawing.alt}".lower()
        if name != "radial-profile":
            assert f"({words.source})" in caption
            assert words.units in caption
        others = {other.name for other in METHODS.values()} - {words.name}
        said = f"{caption} {drawing.alt} {drawing.title}".replace(f"({words.source})", "")
        if method != "evidence":
            said = re.sub("more evidence|the evidence", "", said)
        for other in others:
            assert not re.search(rf"(?<![\w-]){re.escape(other)}(?![\w+-])", said), other
        if method in PIXEL_METHODS:
            assert "explain layer" not in caption
        labels = [
            text.get_text()
            for figure in drawing.pages
            for text in figure.findobj(mpl.text.Text)
            if re.search(r"\[(?!pixels|arcsec)", text.get_text())
        ]
        assert labels
        assert all(words.unit in label for label in labels)
        assert drawing.describe(LATEX)


@pytest.mark.parametrize("method", METHODS)
def test_sums_are_said_to_be_what_they_are(make_store, method):
    """The logit, or the log-odds, less a constant; or neither."""
    rng = np.random.default_rng(0)
    cams = rng.normal(size=(12, 2, 24, 24)).astype(np.float32)
    cams += rng.normal(size=(12, 2, 1, 1)).astype(np.float32) / 10
    totals = cams.sum(axis=(2, 3))
    if method == "evidence":
        cams[:, 0] = -cams[:, 1]
        totals[:, 0] = 0
        totals[:, 1] = cams[:, 1].sum(axis=(1, 2))
    logits = totals + np.float32([0.3, -0.2])
    found = {} if method == "grad-cam" else {"method": method}
    path = make_store("sums.h5", cams=cams, logits=logits.astype(np.float32), attrs=found)
    with open_store(path) as store:
        caption = draw(store, "panels").describe(PLAIN)
    if method in NONLINEAR_METHODS:
        assert "Σ is not the logit of the class." in caption
    else:
        what = "log-odds" if method == "evidence" else "logit"
        assert f"Here Σ is the {what} of the class, less a constant for each class." in caption


def test_methods_are_compared_as_such(make_store):
    """Two stores of one network differ in the method, and each is cited."""
    with (
        make_methods_store(make_store, "grad-cam") as one,
        open_store(make_store("b.h5", seed=1, attrs={"method": "hires-cam"})) as other,
    ):
        caption = draw(one, "compare", other=other).describe(PLAIN)
    assert caption.startswith("Grad-CAM and HiResCAM maps of the same galaxies by two methods")
    assert "Selvaraju et al. 2017" in caption
    assert "Draelos & Carin 2020" in caption


def test_two_units_are_told_apart(make_store):
    """Where one store is in logits and the other in log-odds."""
    with (
        make_methods_store(make_store, "grad-cam") as one,
        open_store(make_store("b.h5", seed=1, attrs={"method": "evidence"})) as other,
    ):
        caption = draw(one, "compare", other=other).describe(PLAIN)
        # One colour scale for both would mean nothing.
        with pytest.raises(FigureError, match="maps in logit and in log-odds, expected one unit"):
            draw(one, "compare", other=other, style=StyleSettings(scale="figure"))
    assert "in logits above and in log-odds below" in caption
    assert "which the colour bar gives in the unit of each network's maps" in caption


def test_distance_from_hires_cam_is_said(make_store):
    """In captions and warnings, where it is more than rounding, and only then."""
    with make_methods_store(make_store, "grad-cam", hires_distance=0.464) as store:
        caption = draw(store, "panels").describe(PLAIN)
        assert "HiResCAM (Draelos & Carin 2020) is the faithful choice" in caption
        assert "Grad-CAM differs from it here by 46 % of its norm." in caption
        assert any("grad-cam differs by 46 %" in warning for warning in list_warnings(store))
        assert r"46 \%" in draw(store, "panels").describe(LATEX)
    for method, distance in (("grad-cam", 1e-6), ("hires-cam", 0.464)):
        with make_methods_store(make_store, method, "b.h5", hires_distance=distance) as store:
            assert describe_faithfulness(store.record) == ""
            assert not any("faithful" in warning for warning in list_warnings(store))


def test_methods_of_later_versions_are_named(make_store):
    """Though nothing else is known of them."""
    with make_methods_store(make_store, "future-cam") as store:
        caption = draw(store, "panels").describe(PLAIN)
        assert caption.startswith("Future-cam maps of")
        assert "Selvaraju" not in caption
        assert "future-cam maps" in repr(store)
        assert "future-cam" in describe_html(store)


def test_stores_without_a_method_are_of_grad_cam(store_path):
    """As those of older versions are."""
    with h5py.File(store_path) as file:
        assert "method" not in file.attrs
    with open_store(store_path) as store:
        assert store.method == "grad-cam"
        assert store.record.head_bias is None


def test_bias_has_a_number_for_each_class(make_store):
    """Or the file was edited."""
    from galfig.errors import StoreError

    with open_store(make_store(attrs={"head_bias": "[0.25, -1.5]"})) as store:
        assert store.record.head_bias == (0.25, -1.5)
    with pytest.raises(StoreError, match="head_bias: 3 numbers, expected one for each class"):
        open_store(make_store("b.h5", attrs={"head_bias": "[1.0, 2.0, 3.0]"}))


def test_grad_cam_can_be_insisted_on(make_store):
    """It changes nothing of a store of Grad-CAM, and refuses the maps of another method."""
    with make_methods_store(make_store, "grad-cam") as store:
        asked, plain = (plot.panels(store, [2], map=kind) for kind in ("grad-cam", None))
        assert asked.caption == plain.caption
    with (
        make_methods_store(make_store, "hirescam", "other.h5") as store,
        pytest.raises(FigureError, match='`map` is "grad-cam", but'),
    ):
        plot.panels(store, [2], map="grad-cam")
