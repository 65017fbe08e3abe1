"""Comparing two PDF figures as a reader sees them: text, and pixels within a tolerance."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pypdfium2 as pdfium
from numpy.typing import NDArray

# Resolution at which any change that is visible in print affects many pixels [dots/inch].
DPI = 100
# Largest accepted RMS difference over the pixels and colours of a square, on a scale of 0 to 255.
# Another processor changes the sixth digit of the maps, which no pixel shows. A changed word or
# point gives an RMS of tens.
MAX_RMS = 4.0
# Side of a square [pixels].
SQUARE = 20
# Pages whose sides agree within this have the same size [pt].
_SAME = 0.01


def compare_figures(found: bytes, expected: bytes) -> str:
    """Describe how two PDF figures differ for a reader.

    The pages are compared one by one, and drawn only if their number and sizes are as expected, so
    that a file of a stranger takes no more memory than the figure it should be.

    Parameters
    ----------
    found, expected : bytes
        PDF files.

    Returns
    -------
    str
        The first difference: number of pages, size, text, or the largest RMS over squares of a
        fifth of an inch, if it exceeds `MAX_RMS`. "" if the figures agree.
    """
    try:
        with pdfium.PdfDocument(found) as one, pdfium.PdfDocument(expected) as other:
            if len(one) != len(other):
                return f"{len(one)} pages, expected {len(other)}"
            for number in range(len(other)):
                with _open_page(one, number) as page, _open_page(other, number) as wanted:
                    what = _compare_pages(page, wanted)
                if what:
                    return what
    except pdfium.PdfiumError as exc:
        return f"not a PDF that can be read ({exc})"
    return ""


def measure_rms(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Measure the largest root mean square difference over squares of two images.

    Parameters
    ----------
    first, second : (H, W, 3) ndarray of uint8
        The images.

    Returns
    -------
    float
        The largest RMS over squares of `SQUARE` pixels, on a scale of 0 to 255.
    """
    squares = (first.astype(np.float64) - second) ** 2
    height, width = (-(-length // SQUARE) * SQUARE for length in squares.shape[:2])
    padded = np.zeros((height, width, 3))
    padded[: squares.shape[0], : squares.shape[1]] = squares
    blocks = padded.reshape(height // SQUARE, SQUARE, width // SQUARE, SQUARE, 3)
    return float(np.sqrt(blocks.mean(axis=(1, 3, 4)).max()))


@contextmanager
def _open_page(document: pdfium.PdfDocument, number: int) -> Iterator[pdfium.PdfPage]:
    page = document[number]
    try:
        yield page
    finally:
        page.close()


def _compare_pages(page: pdfium.PdfPage, wanted: pdfium.PdfPage) -> str:
    """Describe how two pages differ; "" if they agree."""
    size, wanted_size = page.get_size(), wanted.get_size()
    if max(abs(a - b) for a, b in zip(size, wanted_size, strict=True)) > _SAME:
        found, expected = (
            " × ".join(f"{n / 72:.2f}" for n in pair) for pair in (size, wanted_size)
        )
        return f"{found} inch, expected {expected}"
    n_characters, n_wanted = (_count_characters(one) for one in (page, wanted))
    if n_characters > 2 * n_wanted + 1000:
        return f"{n_characters} characters, expected {n_wanted}"
    words, wanted_words = _read_words(page), _read_words(wanted)
    if words != wanted_words:
        return _describe_words(words, wanted_words)
    rms = measure_rms(_draw(page), _draw(wanted))
    return f"pixels differ, RMS {rms:.1f} of 255" if rms > MAX_RMS else ""


def _count_characters(page: pdfium.PdfPage) -> int:
    text = page.get_textpage()
    try:
        return int(text.count_chars())
    finally:
        text.close()


def _read_words(page: pdfium.PdfPage) -> list[str]:
    text = page.get_textpage()
    try:
        return str(text.get_text_bounded()).split()
    finally:
        text.close()


def _draw(page: pdfium.PdfPage) -> NDArray[np.uint8]:
    """Return the pixels of a page, (H, W, 3)."""
    bitmap = page.render(scale=DPI / 72, rev_byteorder=True)
    try:
        pixels: NDArray[np.uint8] = bitmap.to_numpy()[..., :3].copy()
        return pixels
    finally:
        bitmap.close()


def _describe_words(words: list[str], wanted: list[str]) -> str:
    """Describe the first words that differ."""
    for word, other in zip(words, wanted, strict=False):
        if word != other:
            return f"says {word!r}, expected {other!r}"
    return f"{len(words)} words, expected {len(wanted)}"
