"""Columns of text, kept as the bytes of the file until somebody looks at some of their cells.

A million identifiers are 19 MB in a file, and 76 MB as text of Python, of which each has to be
made. A figure of five galaxies needs five, and their order among the others, which is that of the
bytes: UTF-8 sorts as the characters do.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Cells that are looked through at once, and as many as are found faster without an order of all.
_BLOCK, _FEW = 1 << 14, 32
# Octets of a number.
_WORD = 8


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

    def sort(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return some positions in the order of their text; equal ones as they come."""
        return rows[np.argsort(self.cells[rows], kind="stable")]

    def select(self, rows: NDArray[np.intp], places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return what is at some places of `sort`, without sorting where they are few.

        Parameters
        ----------
        rows : (n,) ndarray of int
            Positions, ascending.
        places : (m,) ndarray of int
            Places in their order, from 0 to n - 1.

        Returns
        -------
        (m,) ndarray of int
            The positions there.
        """
        if self.cells.dtype.kind != "S" or len(places) > _FEW:
            return self.sort(rows)[places]
        return self._select(rows, places, 0)

    def _select(
        self, rows: NDArray[np.intp], places: NDArray[np.intp], start: int
    ) -> NDArray[np.intp]:
        """Select by the text from an octet on, eight at a time; that before is the same."""
        if start >= self.width or len(rows) == 1:
            return rows[places]
        words = _read_words(self._octets[rows, start : start + _WORD])
        values = np.partition(words, places)[places]
        chosen = np.empty(len(places), np.intp)
        for value in np.unique(values):
            is_here = values == value
            n_below = np.count_nonzero(words < value)
            chosen[is_here] = self._select(
                rows[words == value], places[is_here] - n_below, start + _WORD
            )
        return chosen

    @property
    def _octets(self) -> NDArray[np.uint8]:
        """The text as numbers, (N, width), with zeros behind it."""
        return self.cells.view(np.uint8).reshape(len(self), -1)

    @cached_property
    def is_unique(self) -> bool:
        """Whether no two cells hold the same text."""
        if self.cells.dtype.kind == "S":
            digests = np.concatenate([np.empty(0, np.uint64), *map(_digest, self._iter_blocks())])
            digests.sort()
            if not np.any(digests[1:] == digests[:-1]):
                return True
        ordered = self.cells[self.order]
        return not np.any(ordered[1:] == ordered[:-1])

    @property
    def is_plain(self) -> bool:
        """Whether all cells are certain to hold printable ASCII, and not nothing."""
        return self.cells.dtype.kind == "S" and all(map(_is_plain, self._iter_blocks()))

    def _iter_blocks(self) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(self), _BLOCK):
            yield self._octets[start : start + _BLOCK]

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
        encoded = {at: key for at, text in enumerate(texts) if (key := _encode(text)) is not None}
        if len(encoded) <= _FEW:
            places = (np.flatnonzero(self.cells == key) for key in encoded.values())
            positions = [here[0] if len(here) else -1 for here in places]
        else:
            positions = self._find(np.array([*encoded.values()], dtype="S")).tolist()
        found = np.full(len(texts), -1, np.intp)
        found[[*encoded]] = positions
        return found

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
    # What is below the blank becomes large.
    is_printable = octets - np.uint8(0x20) < 0x5F
    if is_printable.all():
        return True
    is_end = octets == 0
    has_gap = is_end[:, :-1] & ~is_end[:, 1:]
    return bool((is_printable | is_end).all() and not has_gap.any() and not is_end[:, 0].any())


def _read_words(octets: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return rows of up to eight octets as numbers, (n,), in whose order the rows are."""
    padded = np.zeros((len(octets), _WORD), np.uint8)
    padded[:, : octets.shape[1]] = octets
    return padded.view(">u8").ravel().astype(np.uint64)


def _digest(octets: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a number for each row, (n,), that different rows hardly ever share."""
    found = np.zeros(len(octets), np.uint64)
    for start in range(0, octets.shape[1], _WORD):
        found ^= _read_words(octets[:, start : start + _WORD])
        # A step of splitmix64 (Steele et al. 2014, OOPSLA), which can be undone.
        found += np.uint64(0x9E3779B97F4A7C15)
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found ^= found >> np.uint64(31)
    return found


def _encode(text: str) -> bytes | None:
    """Encode a text as the cells are; None if no cell can hold it."""
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
    # numpy takes zeros at the end for padding.
    return None if b"\0" in encoded else encoded
