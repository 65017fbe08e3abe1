"""JPEG: a faster decoder, simplejpeg, where it is installed and gives the pixels of Pillow.

Both contain libjpeg-turbo, but Pillow copies its rows twice. Pillow reads the header in any case,
and decodes whatever simplejpeg refuses, so that an image is used, or refused with the same words,
whichever is installed.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

# Images of each kind that Pillow decodes as well. Pillow may be built with another libjpeg, some of
# which enlarge colours otherwise.
N_COMPARED = 4


class Header(Protocol):
    """What Pillow read of a JPEG, a `PIL.JpegImagePlugin.JpegImageFile`.

    Attributes
    ----------
    mode : str
        "RGB" for colours.
    info : dict
        Adobe's transformation and whether the file is progressive, among others.
    layer : list of tuple
        Identifier, horizontal and vertical sampling of each component, and its table.
    """

    mode: str
    info: dict[Any, Any]
    layer: list[tuple[int, int, int, int]]


class JpegDecoder:
    """Decodes JPEGs of colours by simplejpeg, after a few of each kind by Pillow as well.

    Parameters
    ----------
    decode : callable, optional
        Returns the pixels (H, W, 3) of uint8 of a file; raises ValueError if it cannot, or for
        whatever is odd in it.
    """

    def __init__(self, decode: Callable[[bytes], NDArray[np.uint8]] | None) -> None:
        self._decode = decode
        # How many images of each kind agreed so far; N_COMPARED are enough, and -1 is never.
        self._n_agreed: dict[tuple[object, ...], int] = {}

    def decode(
        self, header: Header, data: bytes, decode_slowly: Callable[[], NDArray[np.uint8]]
    ) -> NDArray[np.uint8]:
        """Decode a file.

        Parameters
        ----------
        header : Header
            Its header.
        data : bytes
            The file.
        decode_slowly : callable
            Returns the pixels by Pillow, or raises its error.

        Returns
        -------
        (H, W, 3) ndarray of uint8
            The pixels, not oriented.
        """
        if self._decode is None or header.mode != "RGB":
            return decode_slowly()
        kind = (
            tuple(component[1:3] for component in header.layer),
            bool(header.info.get("progressive")),
            header.info.get("adobe_transform"),
        )
        n_agreed = self._n_agreed.get(kind, 0)
        if n_agreed < 0:
            return decode_slowly()
        try:
            pixels = self._decode(data)
        except ValueError:
            # Damaged, or of a kind that it does not know.
            return decode_slowly()
        if n_agreed >= N_COMPARED:
            return pixels
        expected = decode_slowly()
        does_agree = np.array_equal(pixels, expected)
        if not does_agree:
            logger.debug("simplejpeg gives other pixels than Pillow (%s); not used", kind)
        self._n_agreed[kind] = n_agreed + 1 if does_agree else -1
        return expected


@cache
def find_decoder() -> JpegDecoder:
    """Return the decoder, which all threads share; without simplejpeg it is Pillow alone."""
    try:
        import simplejpeg
    except Exception as exc:
        # One that was built for another numpy may raise anything.
        logger.debug("simplejpeg is not used (%s)", exc)
        return JpegDecoder(None)

    def decode(data: bytes) -> NDArray[np.uint8]:
        # Strict: a warning of libjpeg, which Pillow may not share, is an error.
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
        return pixels

    return JpegDecoder(decode)
