"""Figures compared as their readers see them."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from pypdf import PdfReader, PdfWriter

from galfig.figures.style import paper_style
from galfig.manuscript.pixels import MAX_RMS, compare_figures, measure_rms

pytestmark = pytest.mark.slow


def draw_pdf(path, words="p = 0.973", x=0.5):
    with paper_style():
        fig = Figure(figsize=(3, 2))
        ax = fig.subplots()
        ax.plot([0, 1], [0, 1])
        ax.plot(x, 0.2, "o", markersize=3)
        ax.text(0.1, 0.8, words)
        fig.savefig(path)
    return path


def test_readers_see_words_and_points_but_no_bytes(tmp_path):
    """Another file of the same look is equal; another number, or a point moved, is not."""
    first = draw_pdf(tmp_path / "a.pdf")
    good = first.read_bytes()
    rewritten = tmp_path / "b.pdf"
    writer = PdfWriter(clone_from=PdfReader(first))
    writer.add_metadata({"/Title": "another"})
    writer.write(rewritten)
    assert rewritten.read_bytes() != first.read_bytes()
    assert compare_figures(rewritten.read_bytes(), good) == ""
    number = draw_pdf(tmp_path / "c.pdf", words="p = 0.974")
    assert compare_figures(number.read_bytes(), good) == "says '0.974', expected '0.973'"
    point = draw_pdf(tmp_path / "d.pdf", x=0.55)
    assert compare_figures(point.read_bytes(), good).startswith("pixels differ, RMS ")


def test_rms_is_that_of_the_worst_square():
    """A change in one place is not lost in a large figure; rounding is."""
    image = np.full((200, 200, 3), 200, np.uint8)
    noisy = image + np.random.default_rng(0).integers(0, 2, image.shape, dtype=np.uint8)
    assert 0 < measure_rms(image, noisy) < 1 < MAX_RMS
    marked = image.copy()
    marked[40:44, 40:44] = 0
    assert measure_rms(image, marked) == pytest.approx(200 * 4 / 20)
