"""Reading a store: one HDF5 file with the maps, probabilities and cutouts of many galaxies.

Schema 1. h5py or h5dump alone are enough to use it: every dataset says in its attribute
``description`` what it holds.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.cosmology import kpc_per_arcsec
from galfig.errors import StoreError
from galfig.metrics import compute_losses
from galfig.records import StoreRecord, Training
from galfig.runtime.messages import one_line
from galfig.store.checksums import find_damage
from galfig.store.hdf5 import READING_ERRORS, open_hdf5, read_attributes, read_texts
from galfig.store.schema import check_schema, read_record
from galfig.store.selection import Query, Rows, RowsLike, Sort, find_positions, select_galaxies

if TYPE_CHECKING:
    # Most figures do without its import.
    import pandas as pd

    from galfig.config import Settings


class Store:
    """An open store, read-only; made by `open_store`.

    Arrays over all galaxies are attributes, read when they are first asked for and kept. Maps and
    cutouts are read galaxy by galaxy, by `cams`, `evidence` and `cutouts`, which take the
    galaxies as ``rows``: a position, a slice, an array of positions or of truth values, an
    identifier or several. One position or identifier gives the array of that galaxy, anything
    else an array with the galaxies along its first axis.

    A store closes itself when nothing refers to it any longer, or at the end of a ``with`` block.

    Attributes
    ----------
    path : Path
        The file.
    record : StoreRecord
        What the store says of itself: network, layer, split, settings, digests.
    attrs : dict
        The attributes of the file's root as they are.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.path = path
        self.attrs = read_attributes(file)
        self.record: StoreRecord = read_record(self.attrs, path)
        self._handle: h5py.File | None = file

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was read before stays."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    @property
    def is_closed(self) -> bool:
        """Whether the file is closed."""
        return self._handle is None

    @property
    def _file(self) -> h5py.File:
        if self._handle is None:
            raise StoreError(f"{self.path}: the store is closed; open it again with open_store")
        return self._handle

    def __len__(self) -> int:
        return int(self._file["label"].shape[0])

    def __repr__(self) -> str:
        from galfig.store.summary import describe

        return describe(self)

    def _repr_html_(self) -> str:
        from galfig.store.summary import describe_html

        return describe_html(self)

    def _name_classes(self, positions: NDArray[np.integer]) -> "pd.Categorical[str]":
        """Return classes by name; position -1, an unknown class, is a missing category."""
        import pandas as pd

        codes = positions.astype(np.intp)
        return pd.Categorical.from_codes(codes, pd.Index(list(self.class_names)))

    def _read(self, name: str, rows: int | slice = slice(None)) -> Any:
        """Read a dataset, or a row of it; damage is one line."""
        file = self._file
        with _name_damage(self.path, name if isinstance(rows, slice) else f"{name}, row {rows}"):
            dataset = file[name]
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
        """Outputs of the network before the softmax, (N, C)."""
        return self._read("logits")

    @cached_property
    def probs(self) -> NDArray[np.float32]:
        """Probabilities, (N, C)."""
        return self._read("probs")

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """Most probable class of each galaxy, (N,), as position in `class_names`."""
        return self.probs.argmax(axis=1)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """Cross-entropy of each galaxy, (N,); NaN where its true class is unknown."""
        return compute_losses(self.logits, self.label)

    @cached_property
    def pixel_scale(self) -> NDArray[np.float64]:
        """Pixel scale of each cutout [arcsec/pixel], (N,); NaN where unknown."""
        if "pixel_scale" in self._file:
            return self._read("pixel_scale")
        scale = self.record.pixel_scale
        return np.full(len(self), np.nan if scale is None else scale)

    @cached_property
    def kpc_per_arcsec(self) -> NDArray[np.float64]:
        """Proper length of an arcsec at each galaxy [kpc], (N,); NaN where unknown."""
        if "kpc_per_arcsec" in self._file:
            return self._read("kpc_per_arcsec")
        return kpc_per_arcsec(self.redshift)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class of each logit."""
        return self.record.class_names

    @property
    def settings(self) -> "Settings":
        """The settings that the store was built with."""
        return self.record.settings

    @property
    def training(self) -> Training:
        """How the network was trained."""
        return self.record.training

    @cached_property
    def catalog(self) -> "pd.DataFrame":
        """Every column of the catalog, (N rows)."""
        import pandas as pd

        file = self._file
        with _name_damage(self.path, "catalog"):
            group = file["catalog"]
            columns = json.loads(read_attributes(group)["columns"])
            return pd.DataFrame(
                {column: _read_column(group[key]) for column, key in columns.items()}
            )

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The catalog and what the network made of it, (N rows), indexed by objid.

        Behind the columns of the catalog stand ``split`` ("valid" or "train"), ``true`` and
        ``predicted`` class (categories, in the order of `class_names`), ``p``, the probability of
        the predicted class, and ``loss``, the cross-entropy. What is unknown is missing. A column
        of the catalog that has one of these names is called ``catalog_<name>`` here.
        """
        import pandas as pd

        # A store of all galaxies does not say which of them trained the network.
        split = pd.NA if self.record.split == "all" else self.record.split
        found = {
            "split": pd.Series([split] * len(self), dtype="string"),
            "true": self._name_classes(self.label),
            "predicted": self._name_classes(self.predicted),
            "p": self.probs.max(axis=1),
            "loss": self.losses,
        }
        names = {name: f"catalog_{name}" for name in found}
        table = self.catalog.rename(columns=names).assign(**found)
        return table.set_index(pd.Index(self.objid, name="objid"))

    @cached_property
    def rejected(self) -> dict[str, str]:
        """Reason why a galaxy is not in the store, by objid."""
        file = self._file
        with _name_damage(self.path, "rejected"):
            return read_rejected(file)

    @property
    def map_shape(self) -> tuple[int, int]:
        """Height and width (h, w) of the maps [pixels of the explained layer]."""
        height, width = self._file["cams"].shape[2:]
        return int(height), int(width)

    @property
    def is_gray(self) -> bool:
        """Whether the cutouts are of one band."""
        return int(self._file["cutouts"].shape[3]) == 1

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled galaxies that are classified correctly; None without labels."""
        is_labelled = self.label >= 0
        if not is_labelled.any():
            return None
        return float(np.mean(self.predicted[is_labelled] == self.label[is_labelled]))

    def cams(self, rows: RowsLike) -> NDArray[np.float32]:
        """Return the signed maps of galaxies, in logits.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (C, h, w) or (n, C, h, w) ndarray of float32
            The map of each class.

        Raises
        ------
        SelectionError
            An identifier that the store does not hold.
        IndexError
            A position beyond its galaxies.
        """
        positions = find_positions(self, rows)
        if isinstance(positions, int):
            scale = self._read("cam_scale", positions)
            return self._read("cams", positions).astype(np.float32) * scale[:, None, None]
        shape = (len(positions), *self._file["cams"].shape[1:])
        return _stack((self.cams(int(row)) for row in positions), shape, np.float32)

    def evidence(self, rows: RowsLike) -> NDArray[np.float32]:
        r"""Return contrast maps of galaxies: what speaks for one class against the others.

        Of two classes, the map :math:`L_1 - L_0` of the second against the first, in log-odds. Of
        more, for each class :math:`c` the map :math:`L_c - \sum_j p_j L_j`, in logits above their
        mean weighted by the probabilities :math:`p`. Grad-CAM is linear in what it explains, so
        that these are the Grad-CAM maps of the difference of the logits. A part that the maps of
        all classes share cancels: the prediction does not depend on it (Srinivas & Fleuret 2020,
        arXiv:2006.09128).

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (h, w) or (n, h, w) ndarray of float32; beyond two classes (C, h, w) or (n, C, h, w)
            As exact as the maps are stored, in half precision.
        """
        cams = self.cams(rows)
        if len(self.class_names) == 2:
            return cams[..., 1, :, :] - cams[..., 0, :, :]
        p = self.probs[find_positions(self, rows)]
        return cams - np.einsum("...c,...chw->...hw", p, cams)[..., None, :, :]

    def cutouts(self, rows: RowsLike) -> NDArray[np.uint8]:
        """Return the cutouts of galaxies; one band gives grey.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (H, W, 3) or (n, H, W, 3) ndarray of uint8
            (y, x), RGB last.

        Raises
        ------
        SelectionError
            An identifier that the store does not hold.
        IndexError
            A position beyond its galaxies.
        """
        positions = find_positions(self, rows)
        if isinstance(positions, int):
            cutout = self._read("cutouts", positions)
            return cutout if cutout.shape[2] == 3 else np.repeat(cutout, 3, axis=2)
        shape = (len(positions), *self._file["cutouts"].shape[1:3], 3)
        return _stack((self.cutouts(int(row)) for row in positions), shape, np.uint8)

    def select(
        self,
        where: str | None = None,
        *,
        n: int | None = None,
        zmin: float | None = None,
        zmax: float | None = None,
        objids: tuple[str, ...] = (),
        true: str | None = None,
        predicted: str | None = None,
        correct: bool | None = None,
        sort: Sort = "random",
        seed: int = 256,
    ) -> Rows:
        """Choose galaxies, as the options of the command line do.

        Parameters
        ----------
        where : str, optional
            A condition on columns of the catalog, such as ``"oh_p50 > 9.15"``; see
            `galfig.store.conditions.find_where`.
        n : int, optional
            How many galaxies; default all that fulfil the conditions.
        zmin, zmax : float, optional
            Only redshifts strictly between these.
        objids : tuple of str, optional
            These galaxies, in this order, and nothing else.
        true, predicted : str, optional
            Only galaxies of this class, or classified as it.
        correct : bool, optional
            Only galaxies that are classified correctly, or only those that are not.
        sort : {"random", "loss", "p", "redshift"}, default "random"
            Which come first: drawn by ``seed``, most wrong, most certain, nearest.
        seed : int, default 256
            Seed of the draw, which does not depend on the order of the store.

        Returns
        -------
        Rows
            Positions in the store, an integer array that also knows how they were chosen, for
            captions.

        Raises
        ------
        SelectionError
            No galaxy fulfils the conditions; an unknown identifier, class or column; what needs
            redshifts or labels without them.
        """
        query = Query(
            n=n,
            zmin=zmin,
            zmax=zmax,
            objids=(objids,) if isinstance(objids, str) else tuple(objids),
            true=true,
            predicted=predicted,
            correct=correct,
            where=where,
            sort=sort,
            seed=seed,
        )
        return Rows.of(select_galaxies(self, query), self.record.plan_digest)


def open_store(path: Path | str) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path : Path or str
        A file that ``galfig build-maps`` or `galfig.build_maps` wrote.

    Returns
    -------
    Store
        Arrays are read when they are first asked for, maps and cutouts galaxy by galaxy. It closes
        itself, or at the end of a ``with`` block.

    Raises
    ------
    StoreError
        A file that is missing, not HDF5, not a store of this schema version, or whose datasets do
        not fit each other.
    """
    path = Path(path)
    file = _open_file(path)
    try:
        with _name_damage(path, "the store"):
            check_schema(file, path)
            return Store(file, path)
    except BaseException:
        file.close()
        raise


def _stack(arrays: Iterator[NDArray[Any]], shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """Return arrays, one for each galaxy, along a new first axis."""
    stacked: NDArray[Any] = np.empty(shape, dtype)
    for row, array in enumerate(arrays):
        stacked[row] = array
    return stacked


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
