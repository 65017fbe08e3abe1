"""Virtual stores: maps and cutouts are read from the parts, each through the same gate.

HDF5 itself returns fill values, and no error, for rows whose file is missing or is another one than
before. It looks for the file in several places, some of which the environment names. Nothing here
has HDF5 follow a virtual dataset, therefore: a part is opened by its name in the store's own
folder, and is used only if it has the seal that the store recorded.
"""

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.errors import StoreError
from galfig.runtime.messages import list_some, one_line
from galfig.store.checksums import find_damage, read_digests, read_seal
from galfig.store.hdf5 import READING_ERRORS, open_hdf5, read_texts
from galfig.store.schema import open_part
from galfig.store.spans import (
    PARTS_SUFFIX,
    SEALS,
    Span,
    is_virtual_dataset,
    read_spans,
    resolve_store,
)

# Parts that are open at a time: fewer than the files that a process may have open.
_MAX_OPEN = 32
_ADVICE = "run 'galfig build-maps' again with the same inputs, which makes what is missing"


class Piece(NamedTuple):
    """What a part holds of a dataset.

    Attributes
    ----------
    start : int
        The row of the store that its first row is.
    dataset : h5py.Dataset
        The dataset of the part.
    """

    start: int
    dataset: h5py.Dataset


class VirtualDataset:
    """A dataset of a virtual store, which is read as one of h5py.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    """

    def __init__(self, dataset: h5py.Dataset, name: str, parts: "PartFiles") -> None:
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        self._name = name
        self._parts = parts

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | NDArray[np.integer]) -> NDArray[Any]:
        if isinstance(rows, int | np.integer):
            row = range(len(self))[rows]
            return self._parts.read(self._name, self, row)
        chosen = np.arange(len(self))[rows]
        values: NDArray[Any] = np.empty((len(chosen), *self.shape[1:]), self.dtype)
        for index, row in enumerate(chosen.tolist()):
            values[index] = self[row]
        return values

    def locate(self, row: int) -> tuple[h5py.Dataset, int]:
        """Return the dataset of the part that holds a row, and the row in it.

        Raises
        ------
        StoreError
            If the part is missing, or is not the one that the store was made of.
        """
        return self._parts.locate(self._name, self, row)

    def iter_pieces(self) -> Iterator[Piece]:
        """Yield what each part holds; it may be read until the next is asked for.

        Raises
        ------
        StoreError
            If a part is missing, or is not the one that the store was made of.
        """
        yield from self._parts.iter_pieces(self._name, self)


class PartFiles:
    """The parts of a virtual store.

    Opening them is left until one of their rows is read, but all must be there.

    Parameters
    ----------
    file : h5py.File
        The store, open for reading, which has passed `galfig.store.gate.check_contents`.
    path : Path
        Its name.

    Raises
    ------
    StoreError
        If a part is missing or is no regular file; or if the virtual datasets are not all over
        the same parts, each of which has its seal.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._path = path
        whole = resolve_store(path)
        self._folder = whole.with_name(whole.name + PARTS_SUFFIX)
        names = [name for name, item in file.items() if is_virtual_dataset(item)]
        layouts = {tuple(read_spans(file[name], name, path)) for name in names}
        seals = read_texts(file[SEALS]).tolist() if SEALS in file else []
        spans = next(iter(layouts), ())
        if len(layouts) > 1 or len(seals) != len(spans):
            raise StoreError(
                f"{path}: {len(layouts)} layouts and {len(seals)} seals of its parts, expected one "
                f"layout of {len(spans)} parts; edited or damaged, build it again"
            )
        self.spans: tuple[Span, ...] = spans
        self._seals = seals
        self._starts = np.array([span.start for span in spans])
        self._datasets = {name: VirtualDataset(file[name], name, self) for name in names}
        # The last that was used is the last.
        self._open: OrderedDict[int, tuple[h5py.File, ExitStack]] = OrderedDict()
        self._lock = threading.RLock()
        self._check_folder()
        for name, dataset in self._datasets.items():
            # The rows of a part are there, which bounds what those of the store declare to be.
            self._find(0, name, dataset)

    def get(self, name: str) -> VirtualDataset | None:
        """Return a dataset if it is virtual."""
        return self._datasets.get(name)

    def close(self) -> None:
        """Close all parts."""
        with self._lock:
            while self._open:
                self._open.popitem()[1][1].close()

    def read(self, name: str, dataset: VirtualDataset, row: int) -> NDArray[Any]:
        """Read a row of a dataset from the part that has it."""
        with self._lock:
            found, at = self.locate(name, dataset, row)
            values: NDArray[Any] = found[at]
        return values

    def locate(self, name: str, dataset: VirtualDataset, row: int) -> tuple[h5py.Dataset, int]:
        """Return the dataset of the part that holds a row, and the row in it."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._lock:
            return self._find(number, name, dataset), row - int(self._starts[number])

    def iter_pieces(self, name: str, dataset: VirtualDataset) -> Iterator[Piece]:
        """Yield what each part holds of a dataset."""
        for number, span in enumerate(self.spans):
            with self._lock:
                yield Piece(span.start, self._find(number, name, dataset))

    def find_damage(self, find_invalid: Callable[[str, Any], str]) -> Iterator[str]:
        """Compare all parts with their digests, and yield a line for each mismatch.

        Parameters
        ----------
        find_invalid : callable
            As of `galfig.store.checksums.find_damage`.

        Yields
        ------
        str
            The part, and what is damaged.
        """
        for number, span in enumerate(self.spans):
            where = f"{self._folder.name}/{span.part}"
            try:
                with self._lock:
                    part = self._open_part(number)
                    for name, dataset in self._datasets.items():
                        self._find(number, name, dataset)
                    lines = list(find_damage(part, find_invalid))
            except READING_ERRORS as exc:
                yield one_line(exc).removeprefix(f"{self._path}: ")
                continue
            for line in lines:
                yield f"{where}: {line}; remove this file, and {_ADVICE}"

    def list_lost(self) -> list[str]:
        """Return the names of the parts that are not those that the store was made of."""
        lost = []
        for number, span in enumerate(self.spans):
            try:
                with self._lock:
                    self._open_part(number)
            except READING_ERRORS:
                lost.append(span.part)
        return lost

    def _check_folder(self) -> None:
        """Raise StoreError if parts are missing."""
        try:
            if stat.S_ISLNK(self._folder.lstat().st_mode):
                raise StoreError(
                    f"{self._path}: the folder of its parts {self._folder.name} is a symbolic "
                    "link, expected the folder itself; move it here"
                )
            with os.scandir(self._folder) as entries:
                there = {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}
        except FileNotFoundError:
            there = set()
        except OSError as exc:
            if isinstance(exc, StoreError):
                raise
            raise StoreError(
                f"{self._path}: the folder of its parts {self._folder.name} cannot be read "
                f"({one_line(exc.strerror)})"
            ) from exc
        missing = [span.part for span in self.spans if span.part not in there]
        if missing:
            raise StoreError(
                f"{self._path}: {len(missing)} of {len(self.spans)} parts are missing (or are no "
                f"regular files) in {self._folder.name}, which holds its maps: "
                f"{list_some(missing, 3)}; move that folder with the store, or {_ADVICE}"
            )

    def _find(self, number: int, name: str, dataset: VirtualDataset) -> h5py.Dataset:
        """Return what a part holds of a dataset."""
        span, part = self.spans[number], self._open_part(number)
        found = part.get(name)
        expected = (span.stop - span.start, *dataset.shape[1:])
        if not isinstance(found, h5py.Dataset) or not found.chunks:
            raise self._refuse(span, f"holds no {name}")
        if found.dtype != dataset.dtype or found.shape != expected:
            raise self._refuse(
                span,
                f"{name} is {found.dtype} of shape {found.shape}, expected {dataset.dtype} of "
                f"shape {expected}",
            )
        return found

    def _open_part(self, number: int) -> h5py.File:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number][0]
        span = self.spans[number]
        part = self._folder / span.part
        with ExitStack() as stack:
            try:
                if not stat.S_ISREG(part.lstat().st_mode):
                    raise self._refuse(span, "is no regular file")
                file = stack.enter_context(open_part(part))
                is_whole = read_digests(file) is not None and read_seal(file) == self._seals[number]
            except FileNotFoundError as exc:
                raise self._refuse(span, "is missing", _ADVICE) from exc
            except READING_ERRORS as exc:
                if isinstance(exc, StoreError) and str(exc).startswith(f"{self._path}: "):
                    raise
                reason = one_line(exc).removeprefix(f"{part}: ")
                raise self._refuse(span, f"cannot be read ({reason})") from exc
            if not is_whole:
                raise self._refuse(span, "is not the one that the store was made of")
            while len(self._open) >= _MAX_OPEN:
                self._open.popitem(last=False)[1][1].close()
            self._open[number] = file, stack.pop_all()
        return file

    def _refuse(
        self, span: Span, found: str, advice: str = f"remove that file, and {_ADVICE}"
    ) -> StoreError:
        return StoreError(
            f"{self._path}: its part {self._folder.name}/{span.part} {found}; {advice}"
        )


def is_virtual(path: Path) -> bool:
    """Return whether a file is a virtual store; False for one that cannot be read.

    Parameters
    ----------
    path : Path
        Any file.

    Returns
    -------
    bool
        True even if its parts are missing.
    """
    try:
        with open_hdf5(path) as file:
            return SEALS in file
    except READING_ERRORS:
        return False
