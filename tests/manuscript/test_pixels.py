"""Figures compared as their readers see them."""

import resource
import weakref
import zlib

import numpy as np
import pytest
from matplotlib.figure import Figure
from pypdf import PdfReader, PdfWriter

from galfig.figures.style import paper_style
from galfig.manuscript import pixels
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


def make_pdf(width, height, n_pages, content=b""):
    """Write a PDF by hand: empty pages of a size [pt], or pages that share one content stream."""
    kids = " ".join(f"{number + 4} 0 R" for number in range(n_pages))
    stream = zlib.compress(content)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {n_pages}/Kids[{kids}]/MediaBox[0 0 {width} {height}]>>".encode(),
        b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        *[b"<</Type/Page/Parent 2 0 R/Contents 3 0 R>>"] * n_pages,
    ]
    data, starts = b"%PDF-1.4\n", []
    for number, words in enumerate(objects, 1):
        starts.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, words)
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
    size = len(objects) + 1
    head = b"xref\n0 %d\n0000000000 65535 f \n" % size
    return data + head + table + trailer % (size, len(data))


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1_000_000, 1_000_000, 1), "inch, expected 3.00 × 2.00"),
        ((14400, 14400, 1), "200.00 × 200.00 inch, expected"),
        ((216, 144, 3000), "3000 pages, expected 1"),
    ],
)
def test_pages_that_are_not_expected_are_not_drawn(tmp_path, monkeypatch, campaign, size, words):
    """A file of a few kB may have pages of gigabytes."""
    good = draw_pdf(tmp_path / "a.pdf").read_bytes()
    monkeypatch.setattr(pixels, "_draw", None)
    with campaign.trial("manuscript of a stranger: figure"):
        assert words in compare_figures(make_pdf(*size), good)


def test_a_page_of_much_text_takes_little_memory(tmp_path, campaign):
    """Nor does one whose content is small only while it is compressed."""
    good = draw_pdf(tmp_path / "a.pdf").read_bytes()
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (b"0 0 m 9 9 l S\n" * 300_000, b" " * 100_000_000, b"q " * 3_000_000):
        with campaign.trial("manuscript of a stranger: figure"):
            assert compare_figures(make_pdf(216, 144, 1, content), good)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started < 1_500_000


def test_pages_are_compared_one_by_one(tmp_path, monkeypatch):
    """Of an atlas, no more than a pair is in memory."""
    path = tmp_path / "a.pdf"
    writer = PdfWriter()
    for _ in range(5):
        writer.append(draw_pdf(path))
    writer.write(path)
    alive, most = weakref.WeakSet(), []
    draw = pixels._draw

    def note(page):
        alive.add(page)
        most.append(len(alive))
        return draw(page)

    monkeypatch.setattr(pixels, "_draw", note)
    assert compare_figures(path.read_bytes(), path.read_bytes()) == ""
    assert len(most) == 10
    assert max(most) <= 4
