"""What a journal asks of a figure, checked on the files: widths, type sizes, fonts, resolution."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from pypdf import PdfReader
from pypdf.generic import ContentStream
from samples import list_figures

from galfig.errors import FigureError
from galfig.figures.registry import render_figure
from galfig.figures.rows import COLORMAP
from galfig.figures.style import COLORS, LINE_STYLES
from galfig.store.selection import Query

AASTEX = {"column": 3.39, "text": 7.10}
RATES = np.geomspace(1e-7, 10, 50)


@pytest.fixture
def printed(make_store, other_store, tmp_path):
    """Give a function that draws a figure of a store in which everything is known."""
    classes = {
        "column": "oh_p50",
        "edges": [8.1, 8.7, 9.1, 9.3],
        "labels": ["low", "medium", "high"],
        "name": "metallicity",
    }
    epoch = {"train_loss": 0.5, "valid_loss": 0.5, "accuracy": 0.8, "roc_auc": 0.9, "f1": 0.79}
    training = {
        "arch": "conv3",
        "n_train": {"low": 20, "high": 22},
        "simulated": True,
        "history": [epoch, epoch],
        "lr": 0.01,
        "lr_finder": {"lr": RATES.tolist(), "loss": np.linspace(0.7, 0.4, 50).tolist()},
    }
    store = make_store(
        attrs={"training": json.dumps(training), "config": json.dumps({"classes": classes})},
        size=96,
    )

    def draw(name, width=None):
        path = tmp_path / f"{name}-{width}.pdf"
        other = other_store if name == "compare" else None
        render_figure(name, store, Query(n=None), path, width=width, other=other)
        return path

    return draw


def read_page(page):
    """Return the sizes of all type [pt], and of all images the resolution [dpi]."""
    sizes, resolutions = [], []
    images = page["/Resources"].get("/XObject", {})
    matrices, current = [], np.eye(3)
    for operands, operator in ContentStream(page.get_contents(), page.pdf).operations:
        if operator == b"q":
            matrices.append(current)
        elif operator == b"Q":
            current = matrices.pop()
        elif operator == b"cm":
            a, b, c, d, e, f = map(float, operands)
            current = np.array([[a, b, 0], [c, d, 0], [e, f, 1]]) @ current
        elif operator == b"Tf":
            # Type of a rotated label is as large as that of a level one.
            sizes.append(float(operands[1]) * np.sqrt(abs(np.linalg.det(current))))
        elif operator == b"Do" and images[operands[0]].get("/Subtype") == "/Image":
            width = np.hypot(*current[0, :2]) / 72
            resolutions.append(float(images[operands[0]]["/Width"]) / width)
    return sizes, resolutions


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width", "inches"),
    [
        *((name, width, inches) for name in list_figures() for width, inches in AASTEX.items()),
        *((name, 5.0, 5.0) for name in ("panels", "atlas", "roc")),
    ],
)
def test_figure_is_as_the_journal_wants_it(printed, name, width, inches):
    """At each width: just so wide, type of 6 pt or more, TrueType embedded, 300 dpi or more."""
    path = printed(name, width)
    reader = PdfReader(path)
    for page in reader.pages:
        assert float(page.mediabox.width) / 72 == pytest.approx(inches, abs=0.005)
        assert float(page.mediabox.height) / 72 <= 9.25 or name == "compare"
        sizes, resolutions = read_page(page)
        assert min(sizes) >= 6.0 - 1e-6
        assert min(resolutions, default=300) >= 299.0
        fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
        assert fonts
        for font in fonts:
            assert font["/Subtype"] == "/Type0"
            (descendant,) = (entry.get_object() for entry in font["/DescendantFonts"])
            assert descendant["/Subtype"] == "/CIDFontType2"
            assert "/FontFile2" in descendant["/FontDescriptor"]


@pytest.mark.skipif(shutil.which("pdffonts") is None, reason="no pdffonts (poppler-utils)")
@pytest.mark.parametrize(
    "name",
    [pytest.param("panels", marks=pytest.mark.slow), "learning-rate", "radial-profile"],
)
def test_poppler_agrees_on_the_fonts(printed, name):
    """pdffonts finds TrueType only, embedded, as a subset, with a map to Unicode."""
    lines = subprocess.run(
        ["pdffonts", printed(name)], capture_output=True, text=True, check=True
    ).stdout.splitlines()[2:]
    assert lines
    for line in lines:
        assert "CID TrueType" in line
        assert line.split()[-5:-2] == ["yes", "yes", "yes"]


@pytest.mark.parametrize("width", ["wide", "0.5", "-3", "nan", "100"])
def test_width_that_no_page_has_is_refused(printed, width):
    """Words that are no width, and numbers that are none for a figure."""
    with pytest.raises(FigureError, match=r"expected column, text or inches from 1\.5 to 20"):
        printed("roc", width)


def luminance(rgb):
    """Return the relative luminance of sRGB colours (IEC 61966-2-1)."""
    rgb = np.asarray(rgb)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("name", [COLORMAP, "Blues"])
def test_colour_maps_are_read_in_grey(name):
    """Lightness goes one way only: order is kept in grey, and for colour-blind readers."""
    steps = np.diff(luminance(colormaps[name](np.linspace(0, 1, 64))[:, :3]))
    assert np.all(steps > 0) or np.all(steps < 0)


# Simulation of missing cones, linear RGB: Machado et al. (2009, IEEE TVCG 15, 1291), severity 1.
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]


@pytest.mark.parametrize("blindness", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_colours_of_two_classes_stay_apart(blindness):
    """The first two colours differ for every reader, and all lines differ by their dashes too."""
    first, second = (np.array(blindness) @ np.array(to_rgb(color)) for color in COLORS[:2])
    assert np.linalg.norm(first - second) > 0.4
    assert len(set(map(str, LINE_STYLES))) == len(COLORS)
