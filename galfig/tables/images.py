"""Images: arrays for extensions of FITS, with the cards of their headers."""

from typing import Any, NamedTuple

from numpy.typing import NDArray


class Image(NamedTuple):
    """An image of a file of FITS.

    Attributes
    ----------
    name : str
        Name of the extension, ``EXTNAME``.
    values : ndarray
        The values, of an unsigned byte or a float; rows from the bottom, as FITS has them.
    cards : tuple of (str, value, str)
        Keyword, value and comment of further cards. Text becomes ASCII.
    version : int or None
        ``EXTVER``, which tells extensions of one name apart.
    """

    name: str
    values: NDArray[Any]
    cards: tuple[tuple[str, Any, str], ...] = ()
    version: int | None = None
