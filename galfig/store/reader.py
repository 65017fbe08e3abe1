"""The store: one HDF5 file with the maps, probabilities and cutouts of many galaxies.

Schema 1. h5py or h5dump alone are enough to use it: every dataset says in its attribute
``description`` what it holds. Parts have the same layout, so that merging is copying.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.cosmology import kpc_per_arcsec
from galfig.errors import StoreError
from galfig.metrics import compute_losses
from galfig.runtime.messages import one_line
from galfig.store.checksums import find_damage
from galfig.store.hdf5 import (
    READING_ERRORS,
    open_hdf5,
    read_attributes,
    read_texts,
)

if TYPE_CHECKING:
    # Most figures do without its import.
    import pandas as pd

from galfig.store.schema import check_schema


class Store:
    """An open store, read-only; made by `open_store`."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file = file
        self.path = path
        self.attrs = read_attributes(file)

    def __len__(self) -> int:
        return int(self._file["label"].shape[0])

    def _read(self, name: str, rows: int | slice = slice(None)) -> Any:
        """Read a dataset, or a row of it; damage is one line."""
        with _name_damage(self.path, name if isinstance(rows, slice) else f"{name}, row {rows}"):
            dataset = self._file[name]
            is_text = h5py.check_string_dtype(dataset.dtype)
            return read_texts(dataset, rows) if is_text else dataset[rows]

    @cached_property
    def objid(self) -> NDArray[np.object_]:
        """Identifiers, (N,) array of str."""
        return self._read("objid")

    @cached_property
    def redshift(self) -> NDArray[np.float64]:
        """Redshifts, (N,), NaN where unknown."""
        return self._read("redshift")

    @cached_property
    def label(self) -> NDArray[np.int16]:
        """True class of each galaxy, (N,), as position in `class_names`; -1 where unknown."""
        return self._read("label")

    @cached_property
    def value(self) -> NDArray[np.float64]:
        """The number that was binned, (N,); NaN where the classes are text."""
        return self._read("value")

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """Outputs of the network, (N, C)."""
        return self._read("logits")

    @cached_property
    def probs(self) -> NDArray[np.float32]:
        """Probabilities, (N, C)."""
        return self._read("probs")

    @cached_property
    def pixel_scale(self) -> NDArray[np.float64]:
        """Pixel scale of each cutout [arcsec/pixel], (N,); NaN where unknown."""
        if "pixel_scale" in self._file:
            return self._read("pixel_scale")
        return np.full(len(self), self.attrs.get("pixel_scale", np.nan))

    @cached_property
    def kpc_per_arcsec(self) -> NDArray[np.float64]:
        """Proper length of an arcsec at each galaxy [kpc], (N,); NaN where unknown."""
        if "kpc_per_arcsec" in self._file:
            return self._read("kpc_per_arcsec")
        return kpc_per_arcsec(self.redshift)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Class of each logit."""
        return tuple(json.loads(self.attrs["class_names"]))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that the store was built with."""
        return json.loads(self.attrs["config"])

    @cached_property
    def training(self) -> dict[str, Any]:
        """How the network was trained: history, metrics and what else its checkpoint says."""
        return json.loads(self.attrs["training"])

    @cached_property
    def image_shift(self) -> dict[str, Any] | None:
        """How unlike the images are those that trained the network; None where not compared."""
        return json.loads(self.attrs.get("image_shift", "null"))

    @cached_property
    def catalog(self) -> "pd.DataFrame":
        """Every column of the catalog, (N rows)."""
        import pandas as pd

        with _name_damage(self.path, "catalog"):
            group = self._file["catalog"]
            columns = json.loads(read_attributes(group)["columns"])
            return pd.DataFrame(
                {column: _read_column(group[key]) for column, key in columns.items()}
            )

    @cached_property
    def rejected(self) -> dict[str, str]:
        """Reason why a galaxy is not in the store, by objid."""
        with _name_damage(self.path, "rejected"):
            return read_rejected(self._file)

    @property
    def map_shape(self) -> tuple[int, int]:
        """Height and width (h, w) of the maps [pixels of the explained layer]."""
        height, width = self._file["cams"].shape[2:]
        return int(height), int(width)

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled galaxies that are classified rightly; None without labels."""
        is_labelled = self.label >= 0
        if not is_labelled.any():
            return None
        return float(np.mean(self.predicted[is_labelled] == self.label[is_labelled]))

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """Most probable class of each galaxy, (N,), as position in `class_names`."""
        return self.probs.argmax(axis=1)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """Cross-entropy of each galaxy, (N,); NaN where its true class is unknown."""
        return compute_losses(self.logits, self.label)

    def cams(self, index: int) -> NDArray[np.float32]:
        """Return the signed maps (C, h, w) of one galaxy, in logits."""
        scale = self._read("cam_scale", index)
        return self._read("cams", index).astype(np.float32) * scale[:, None, None]

    def cutout(self, index: int) -> NDArray[np.uint8]:
        """Return the cutout (H, W, 3) of one galaxy; one band gives grey."""
        cutout = self._read("cutouts", index)
        return cutout if cutout.shape[2] == 3 else np.repeat(cutout, 3, axis=2)

    @property
    def is_gray(self) -> bool:
        """Whether the cutouts are of one band."""
        return int(self._file["cutouts"].shape[3]) == 1


@contextmanager
def open_store(path: Path | str) -> Iterator[Store]:
    """Open a store for reading.

    Parameters
    ----------
    path : Path or str
        A file that ``galfig build-maps`` wrote.

    Yields
    ------
    Store
        Arrays are read when they are first asked for, maps and cutouts galaxy by galaxy.

    Raises
    ------
    StoreError
        A file that is missing, not HDF5, not a store of this schema version, or whose datasets do
        not fit each other.
    """
    path = Path(path)
    with _open_file(path) as file:
        with _name_damage(path, "the store"):
            check_schema(file, path)
            store = Store(file, path)
        yield store


def verify_store(path: Path) -> list[str]:
    """Compare a store with its own digests; return a line for each thing that is damaged.

    Raises
    ------
    StoreError
        A file that is missing, not HDF5, or not a store.
    """
    with _open_file(path) as file:
        with _name_damage(path, "the store"):
            check_schema(file, path)
        try:
            return list(find_damage(file))
        except READING_ERRORS as exc:
            return [f"cannot be read ({one_line(exc)})"]


@contextmanager
def _name_damage(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises at a damaged file into one line."""
    try:
        yield
    except StoreError:
        raise
    except READING_ERRORS as exc:
        raise StoreError(
            f"{path}: {what}: damaged ({one_line(exc)}); 'galfig verify {path}' says what is"
        ) from exc


def read_digest(path: Path) -> str | None:
    """Return the plan digest of a store or part; None where the file is no such thing."""
    try:
        with open_hdf5(path) as file:
            return str(read_attributes(file)["plan_digest"])
    except (OSError, KeyError):
        return None


def _read_column(dataset: h5py.Dataset) -> "pd.Series":
    import pandas as pd

    if h5py.check_string_dtype(dataset.dtype):
        return pd.Series(read_texts(dataset), dtype="string").replace("", pd.NA)
    values = dataset[:]
    if "missing_value" in dataset.attrs:
        series = pd.Series(values, dtype="Int64")
        return series.mask(values == dataset.attrs["missing_value"])
    return pd.Series(values)


def read_rejected(file: h5py.File) -> dict[str, str]:
    group = file["rejected"]
    return dict(zip(read_texts(group["objid"]), read_texts(group["reason"]), strict=True))


def _open_file(path: Path) -> h5py.File:
    if not path.is_file():
        raise StoreError(
            f"{path}: no such file, expected a store; make it with 'galfig build-maps'"
        )
    try:
        return open_hdf5(path)
    except OSError as exc:
        raise StoreError(f"{path}: {_describe_unreadable(path, one_line(exc))}") from exc


def _describe_unreadable(path: Path, reason: str) -> str:
    """Say what a file is that HDF5 cannot open."""
    if "truncated" in reason:
        return "cut off, expected a whole store; copy it again, or build it again"
    with path.open("rb") as file:
        if file.read(9)[8:] == b"{":
            return "a checkpoint, expected a store; 'galfig build-maps' makes one with it"
    return f"not an HDF5 file that can be read, expected a store ({reason})"
