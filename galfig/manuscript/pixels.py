"""Comparing two PDF figures as a reader sees them: text, and pixels within a tolerance."""

from pathlib import Path

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


def compare_figures(found: Path, expected: Path) -> str:
    """Describe how two PDF figures differ for a reader.

    Parameters
    ----------
    found, expected : Path
        PDF files.

    Returns
    -------
    str
        The first difference: number of pages, text, size, or the largest RMS over squares of a
        fifth of an inch, if it exceeds `MAX_RMS`. "" if the figures agree.
    """
    try:
        pages, wanted = _read_pages(found), _read_pages(expected)
    except pdfium.PdfiumError as exc:
        return f"not a PDF that can be read ({exc})"
    if len(pages) != len(wanted):
        return f"{len(pages)} pages, expected {len(wanted)}"
    for (words, pixels), (wanted_words, wanted_pixels) in zip(pages, wanted, strict=True):
        if words != wanted_words:
            return _describe_words(words, wanted_words)
        if pixels.shape != wanted_pixels.shape:
            sizes = [
                " × ".join(f"{n / DPI:.2f}" for n in p.shape[1::-1])
                for p in (pixels, wanted_pixels)
            ]
            return f"{sizes[0]} inch, expected {sizes[1]}"
        rms = measure_rms(pixels, wanted_pixels)
        if rms > MAX_RMS:
            return f"pixels differ, RMS {rms:.1f} of 255"
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


def _read_pages(path: Path) -> list[tuple[list[str], NDArray[np.uint8]]]:
    """Read the words and the pixels, (H, W, 3), of each page."""
    with pdfium.PdfDocument(path.read_bytes()) as document:
        pages = []
        for page in document:
            words = page.get_textpage().get_text_bounded().split()
            pixels = page.render(scale=DPI / 72, rev_byteorder=True).to_numpy()[..., :3]
            pages.append((words, pixels.copy()))
        return pages


def _describe_words(words: list[str], wanted: list[str]) -> str:
    """Describe the first words that differ."""
    for word, other in zip(words, wanted, strict=False):
        if word != other:
            return f"says {word!r}, expected {other!r}"
    return f"{len(words)} words, expected {len(wanted)}"
