"""Columns of text, kept as the bytes of the file until somebody looks at some of their cells.

A million identifiers are 19 MB in a file, and 76 MB as text of Python, of which each has to be
made. A figure of five galaxies needs five, and their order among the others, which is that of the
bytes: UTF-8 sorts as the characters do.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Cells that are looked through at once.
_BLOCK = 1 << 16


class TextColumn:
    """A column of text.

    Attributes
    ----------
    cells : (N,) ndarray of bytes or of object
        The text in UTF-8, as HDF5 stores it with fixed or with variable length.
    """

    def __init__(self, cells: NDArray[Any]) -> None:
        self.cells = cells
        self._matched: tuple[TextColumn, NDArray[np.intp]] | None = None

    @property
    def width(self) -> int:
        """Number of bytes that the longest cell may have; of variable length, that it has."""
        if self.cells.dtype.kind == "S":
            return int(self.cells.dtype.itemsize)
        return max(map(len, self.cells.tolist()), default=0)

    def __len__(self) -> int:
        return len(self.cells)

    def decode(self, rows: NDArray[np.intp] | slice = slice(None)) -> NDArray[np.object_]:
        """Return the text of some cells, or of all, (n,) array of str."""
        cells = self.cells[rows]
        decoded: NDArray[np.object_] = np.empty(len(cells), dtype=object)
        decoded[:] = [cell.decode("utf-8", "surrogateescape") for cell in cells.tolist()]
        return decoded

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Positions of the cells in the order of their text, (N,); equal ones as they come."""
        return np.argsort(self.cells, kind="stable")

    @property
    def is_unique(self) -> bool:
        """Whether no two cells hold the same text."""
        # A sorted copy of the whole column is not needed.
        return all(
            not np.any(self.cells[here[1:]] == self.cells[here[:-1]])
            for start in range(0, len(self), _BLOCK)
            for here in [self.order[start : start + _BLOCK + 1]]
        )

    @property
    def is_plain(self) -> bool:
        """Whether all cells are certain to hold printable ASCII, and not nothing."""
        if self.cells.dtype.kind != "S":
            return False
        octets = self.cells.view(np.uint8).reshape(len(self), -1)
        return all(
            bool(_is_plain(octets[start : start + _BLOCK])) for start in range(0, len(self), _BLOCK)
        )

    def find(self, texts: Sequence[str]) -> NDArray[np.intp]:
        """Find the cells that hold some texts.

        Parameters
        ----------
        texts : sequence of str
            n texts.

        Returns
        -------
        (n,) ndarray of int
            The position of each; -1 where no cell holds it.
        """
        return self._find(_as_array([_encode(text) for text in texts]))

    def match(self, other: "TextColumn") -> NDArray[np.intp]:
        """Find the cells that hold the text of those of another column.

        Parameters
        ----------
        other : TextColumn
            n cells.

        Returns
        -------
        (n,) ndarray of int
            The position here of the text of each cell of the other column; -1 where it is absent.
        """
        if self._matched is None or self._matched[0] is not other:
            # In their order, neighbours are found next to each other.
            found = np.empty(len(other), np.intp)
            found[other.order] = self._find(other.cells[other.order])
            found.setflags(write=False)
            self._matched = other, found
        return self._matched[1]

    def _find(self, keys: NDArray[Any]) -> NDArray[np.intp]:
        if not len(keys) or not len(self):
            return np.full(len(keys), -1, np.intp)
        cells = self.cells
        if cells.dtype.kind != keys.dtype.kind:
            cells, keys = cells.astype(object), keys.astype(object)
        at = np.searchsorted(cells, keys, sorter=self.order)
        positions = self.order[np.minimum(at, len(self) - 1)]
        return np.where(cells[positions] == keys, positions, -1)


def _is_plain(octets: NDArray[np.uint8]) -> bool:
    """Tell whether rows of octets are printable ASCII, with zeros behind it alone."""
    is_end = octets == 0
    is_printable = (octets >= 0x20) & (octets < 0x7F)
    has_gap = is_end[:, :-1] & ~is_end[:, 1:]
    return bool((is_printable | is_end).all() and not has_gap.any() and not is_end[:, 0].any())


def _encode(text: str) -> bytes:
    """Encode a text as the cells are; what no cell can hold becomes nothing."""
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b""
    # numpy takes zeros at the end for padding.
    return b"" if b"\0" in encoded else encoded


def _as_array(texts: Sequence[bytes]) -> NDArray[Any]:
    return np.array(texts, dtype="S") if texts else np.empty(0, "S1")
