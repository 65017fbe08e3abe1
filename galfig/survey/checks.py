"""Checks: whether an answer is the cutout that was asked for."""

import numpy as np
from numpy.typing import NDArray

from galfig.images.raster import FORMATS, HTML, decode_raster, measure_raster
from galfig.runtime.messages import one_line, quote
from galfig.survey.service import Answer, RefusedAnswerError

# Of 9071 real cutouts of SDSS of 128 pixels, the faintest spans 20 levels in its widest channel,
# and 0.73 of the pixels of the most uniform have one colour. A stamp of a server without data is of
# one colour (after JPEG, of a few levels), with or without some words on it.
MAX_FLAT = 8
# What servers also call these.
_ALSO = {"image/jpeg": ("image/jpg",)}
MAX_SHARE = 0.9


def accept_jpeg(answer: Answer, size: int) -> bytes:
    """Check that an answer is a JPEG of some sky; see `accept_raster`."""
    return accept_raster(answer, size, "image/jpeg")


def accept_raster(answer: Answer, size: int, content_type: str) -> bytes:
    """Check that an answer is a picture of some sky, of the size that was asked for.

    Parameters
    ----------
    answer : Answer
        The answer.
    size : int
        Side of the cutout [pixels].
    content_type : {"image/jpeg", "image/png"}
        What the service calls such pictures.

    Returns
    -------
    bytes
        The file, as it came.

    Raises
    ------
    RefusedAnswerError
        If it is something else, of another size, damaged, or without sky.
    """
    check_type(answer, content_type, *_ALSO.get(content_type, ()))
    name = content_type.removeprefix("image/").upper()
    if not answer.data.startswith(FORMATS[name]):
        raise RefusedAnswerError(f"begins with {quote(answer.data[:8])}, expected a {name}")
    try:
        # Its header may state more pixels than the memory holds.
        height, width = measure_raster(answer.data)
        if (height, width) != (size, size):
            raise RefusedAnswerError(
                f"{width} × {height} pixels, expected {size} × {size}", is_final=True
            )
        pixels = decode_raster(answer.data)
    except ValueError as exc:
        raise RefusedAnswerError(f"cannot be decoded ({one_line(exc)})") from exc
    if is_without_sky(pixels):
        raise RefusedAnswerError("a picture without sky, outside the survey", is_final=True)
    return answer.data


def check_type(answer: Answer, *expected: str) -> None:
    """Check the media type of an answer, and say what a page of text says.

    Parameters
    ----------
    answer : Answer
        The answer.
    *expected : str
        Media types that are accepted.

    Raises
    ------
    RefusedAnswerError
        If it is of another type, or begins like HTML whatever its type.
    """
    begins = answer.data[:256].lstrip(b"\xef\xbb\xbf\t\r\n ").lower()
    if begins.startswith(HTML) or answer.content_type in ("text/html", "text/plain"):
        raise RefusedAnswerError(f"a page in place of the file: {describe_page(answer.data)}")
    if answer.content_type not in expected:
        found = quote(answer.content_type) if answer.content_type else "no type"
        raise RefusedAnswerError(f"is of {found}, expected {' or '.join(expected)}")


def is_without_sky(pixels: NDArray[np.uint8]) -> bool:
    """Return whether a picture is of one colour, but for a few words at most.

    A cutout of faint sky is not: its noise spreads over more levels than that.

    Parameters
    ----------
    pixels : (H, W, 3) ndarray of uint8
        RGB.
    """
    spans = pixels.max(axis=(0, 1)).astype(int) - pixels.min(axis=(0, 1))
    if spans.max() <= MAX_FLAT:
        return True
    wide = pixels.astype(np.uint32)
    colors = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    counts = np.unique(colors, return_counts=True)[1]
    return bool(counts.max() >= MAX_SHARE * colors.size)


def describe_page(data: bytes, n: int = 200) -> str:
    """Quote what a page of HTML or text says, without its markup, in one line."""
    import html
    import re

    text = data[:20_000].decode("utf-8", errors="replace")
    text = re.sub(r"(?is)<(script|style)\b.*?(</\1\s*>|$)", " ", text)
    text = html.unescape(re.sub(r"<[^<>]*(>|$)", " ", text))
    return quote(" ".join(text.split()), n) if text.strip() else "empty"
