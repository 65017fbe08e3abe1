"""Reading a store: one HDF5 file with the maps, probabilities and cutouts of many galaxies.

This is schema version 2. The file can also be read with h5py or h5dump alone: the attribute
``description`` of each dataset says what the dataset holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.config import NONLINEAR_METHODS, Form
from galfig.cosmology import kpc_per_arcsec
from galfig.errors import SelectionError, StoreError
from galfig.metrics import (
    Accuracy,
    compute_log_odds,
    compute_losses,
    compute_rest_shares,
    contrast_with_rest,
    measure_accuracy,
)
from galfig.records import Comparison, StoreRecord, Training, Whole, recall_split
from galfig.runtime.messages import (
    find_unprintable,
    make_printable,
    one_line,
    quote,
    shorten,
    suggest,
)
from galfig.runtime.options import SPLITS, Split
from galfig.store.checksums import find_damage
from galfig.store.forms import STATISTICS, name_divisor
from galfig.store.gate import check_contents
from galfig.store.hdf5 import (
    READING_ERRORS,
    open_hdf5,
    read_attribute,
    read_attributes,
    read_texts,
)
from galfig.store.picks import expand_objids, read_picks
from galfig.store.renaming import check_names, list_others, rename_store
from galfig.store.schema import (
    check_schema,
    count_evidence,
    find_contradiction,
    find_invalid,
    read_columns,
)
from galfig.store.selection import (
    Rows,
    RowsLike,
    Sort,
    find_positions,
    make_query,
    select_galaxies,
)
from galfig.store.supply import Supply
from galfig.store.texts import TextColumn
from galfig.store.virtual import PartFiles, VirtualDataset
from galfig.store.whole import measure_compared, measure_whole, rate_whole

# Galaxies whose features are read at a time.
N_BLOCK = 16_384
# The columns of a table that say what the network made of a galaxy.
_DERIVED = ("split", "true", "predicted", "p", "loss")

if TYPE_CHECKING:
    # pandas is slow to import, and most figures do not need it.
    import pandas as pd

    from galfig.config import Settings


class ColumnWords(NamedTuple):
    """What a catalog says of one of its columns.

    Attributes
    ----------
    unit, description : str
        As the catalog gives them; "" where it gives none.
    """

    unit: str = ""
    description: str = ""


class Store:
    """An open store, read-only; use `open_store` to create one.

    Arrays over all galaxies are attributes. They are read on first access and then cached. Maps
    and cutouts are read galaxy by galaxy, with `cams`, `evidence` and `cutouts`; `objids` and
    `column` give identifiers of some galaxies, and one column of the catalog. These methods take
    ``rows``: a position, a slice, an array of positions, a Boolean mask, an identifier, or several
    identifiers. One position or identifier returns the array of that galaxy. Everything else
    returns an array with the galaxies along its first axis.

    A store that was built without maps or cutouts makes them again where it is told how; see
    `galfig.explain_again`.

    A store closes at the end of a ``with`` block, or when it is garbage-collected.

    Attributes
    ----------
    path : Path
        The file.
    record : StoreRecord
        What the store says about itself: network, layer, split, settings, digests.
    attrs : dict
        The root attributes of the file, unparsed.
    original_names : (C,) tuple of str
        Names of the classes in the file; `class_names` may be others, see `renamed`.
    new_names, labels : mapping of str to str
        What figures call classes and columns of the catalog, by their names in the file.
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.path = path
        self.record: StoreRecord = check_schema(file, path)
        self.attrs = read_attributes(file)
        self.original_names = self.record.class_names
        self._parts = PartFiles(file, path)
        self._handle: h5py.File | None = file
        # To look a dataset up by its name takes longer than to read a galaxy from it.
        self._datasets: dict[str, h5py.Dataset | VirtualDataset] = {}
        self._supply: Supply | None = None
        # What figures call classes and columns, where not by their own names; see `renamed`.
        self.new_names: Mapping[str, str] = {}
        self.labels: Mapping[str, str] = {}

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
        """Close the file; arrays that were already read stay available."""
        if self._handle is not None:
            self._datasets.clear()
            self._parts.close()
            self._handle.close()
            self._handle = None
        self._supply = None

    @property
    def is_closed(self) -> bool:
        """Whether the file is closed."""
        # It may have been closed by a view of the same file.
        return not self._handle

    @property
    def _file(self) -> h5py.File:
        if not self._handle:
            raise StoreError(f"{self.path}: the store is closed; open it again with open_store")
        return self._handle

    def _dataset(self, name: str) -> h5py.Dataset | VirtualDataset:
        if name not in self._datasets:
            self._datasets[name] = self._parts.get(name) or self._file[name]
        return self._datasets[name]

    @property
    def n_parts(self) -> int:
        """Number of parts of a virtual store, which hold its maps and cutouts; 0 for others."""
        return len(self._parts.spans)

    def __len__(self) -> int:
        return int(self._dataset("label").shape[0])

    def __repr__(self) -> str:
        from galfig.store.summary import describe

        return describe(self)

    def _repr_html_(self) -> str:
        from galfig.store.summary import describe_html

        return describe_html(self)

    @property
    def form(self) -> Form:
        """What is stored of each galaxy: "full", "native" or "statistics".

        A native store has maps of 8 bits and no cutouts, one of statistics has neither; see
        `galfig.explain_again`.
        """
        return self.record.form

    def attach(self, supply: Supply) -> None:
        """Have maps and cutouts made again instead of read; see `galfig.explain_again`.

        Parameters
        ----------
        supply : Supply
            Makes them; see `galfig.store.supply`.
        """
        self._supply = supply

    def announce(self, rows: NDArray[np.integer]) -> None:
        """Say which galaxies will be read, so that what is not stored is made for many at once.

        Parameters
        ----------
        rows : (n,) ndarray of int
            Positions, in the order in which they will be read.
        """
        if self._supply is not None:
            self._supply.announce(np.asarray(rows, np.intp))

    def _is_supplied(self, name: str) -> bool:
        return self._supply is not None and name in self._supply.names

    def _supply_row(self, name: str, row: int) -> NDArray[Any]:
        """Return maps or a cutout of a galaxy that are made again."""
        if self._supply is None or name not in self._supply.names:
            what = "cutouts" if name == "cutouts" else "maps"
            raise StoreError(
                f"{self.path}: holds no {what}, since it was built with [maps] store = "
                f"{self.form!r}, expected a store with {what}; 'galfig render', 'galfig figure' "
                "and galfig.explain_again make them again from the images"
            )
        return self._supply.read(name, row)

    def _name_classes(self, positions: NDArray[np.integer]) -> "pd.Categorical[str]":
        """Return classes by name; -1, an unknown class, becomes a missing value."""
        import pandas as pd

        codes = positions.astype(np.intp)
        return pd.Categorical.from_codes(codes, pd.Index(list(self.class_names)))

    def _read(self, name: str, rows: int | slice = slice(None)) -> Any:
        """Read and check a dataset or some rows of it; report damage as a one-line StoreError."""
        where = name if isinstance(rows, slice) else f"{name}, row {rows}"
        with _name_damage(self.path, where):
            dataset = self._dataset(name)
            is_text = isinstance(dataset, h5py.Dataset) and h5py.check_string_dtype(dataset.dtype)
            values = read_texts(dataset, rows) if is_text else dataset[rows]
        self._check(name, values, where)
        if isinstance(values, np.ndarray):
            # Kept and shared: what a caller changed would end in captions.
            values.setflags(write=False)
        return values

    def _read_texts(self, name: str) -> TextColumn:
        """Read and check a dataset of text."""
        with _name_damage(self.path, name):
            column = TextColumn(self._dataset(name)[:])
        self._check(name, column, name)
        return column

    def _check(self, name: str, values: Any, where: str) -> None:
        if invalid := find_invalid(name, values, len(self.class_names)):
            raise StoreError(f"{self.path}: {where}: {invalid}; edited or damaged, build it again")

    @cached_property
    def names(self) -> TextColumn:
        """The identifiers, (N,), as the file holds them: to find some, and to put them in order."""
        return self._read_texts("objid")

    @cached_property
    def objid(self) -> NDArray[np.object_]:
        """Identifier of each galaxy, (N,) array of str; `objids` gives those of some."""
        objid = self.names.decode()
        objid.setflags(write=False)
        return objid

    def objids(self, rows: RowsLike) -> Any:
        """Return the identifiers of galaxies, without making those of all others text.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        str or (n,) ndarray of str
            As in the catalog.

        Raises
        ------
        SelectionError
            If the store does not hold an identifier.
        IndexError
            If a position is out of range.
        StoreError
            If the store is closed or damaged.
        """
        positions = find_positions(self, rows)
        found = self.names.decode(np.atleast_1d(positions))
        return found[0] if isinstance(positions, int) else found

    @cached_property
    def redshift(self) -> NDArray[np.float64]:
        """Redshift of each galaxy, (N,); NaN where unknown."""
        return self._read("redshift")

    @cached_property
    def label(self) -> NDArray[np.int16]:
        """True class of each galaxy, (N,), as an index into `class_names`; -1 where unknown."""
        return self._read("label")

    @cached_property
    def split(self) -> NDArray[np.object_]:
        """How training used each galaxy, (N,) array of str: "train", "valid" or "test".

        It is "" for galaxies of which this is unknown: for all of them if the store lacks the
        dataset. A store of schema version 1 knows it only if its network was trained with the
        settings that the store was built with.
        """
        split = np.array(SPLITS, dtype=object)[self.split_idx]
        split.setflags(write=False)
        return split

    @cached_property
    def split_idx(self) -> NDArray[np.int8]:
        """The same as a position in `galfig.runtime.options.SPLITS`, (N,)."""
        if "split" not in self._file:
            has_recorded = self._file.attrs["schema_version"] > 1
            split = "" if has_recorded else recall_split(self.record)
            return np.full(len(self), SPLITS.index(split), np.int8)
        cells = self._read_texts("split").cells
        found = np.zeros(len(self), np.int8)
        for index, word in enumerate(SPLITS):
            found[cells == word.encode()] = index
        return found

    @cached_property
    def image_digest(self) -> NDArray[np.uint64] | None:
        """Digest of each galaxy's image, (N,): the first 8 bytes of the SHA-256 of its file.

        None for a store that does not record them, such as those of schema version 1.
        """
        return self._read("image_digest") if "image_digest" in self._file else None

    @cached_property
    def value(self) -> NDArray[np.float64]:
        """Quantity that was binned into classes, (N,); NaN where the classes are text."""
        return self._read("value")

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """Output of the network before the softmax, (N, C)."""
        return self._read("logits")

    @cached_property
    def probs(self) -> NDArray[np.float32]:
        """Probability of each class, (N, C)."""
        if self.form != "statistics":
            return self._read("probs")
        shifted = self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True)
        odds = np.exp(shifted)
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)

    @cached_property
    def log_odds(self) -> NDArray[np.float64]:
        """Log-odds of each class against the rest [nat], (N, C)."""
        return compute_log_odds(self.logits)

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """Most probable class of each galaxy, (N,), as an index into `class_names`."""
        return self.probs.argmax(axis=1)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """Cross-entropy loss of each galaxy, (N,); NaN where its true class is unknown."""
        return compute_losses(self.logits, self.label)

    @property
    def n_networks(self) -> int:
        """Number of networks, K, of which maps and logits are the mean; 1 unless it is an ensemble.

        The probabilities are those of the mean logits.
        """
        return self.record.n_networks

    @cached_property
    def logits_sd(self) -> NDArray[np.float32] | None:
        """Standard deviation over the networks of each logit, (N, C); None for one network."""
        return self._read("logits_sd") if self.n_networks > 1 else None

    @cached_property
    def log_odds_sd(self) -> NDArray[np.float32] | None:
        """Standard deviation over the networks of the log-odds, (N, E); None for one network.

        E is 1 for two classes, the second against the first. For more classes, E is C, each class
        against the rest.
        """
        return self._read("log_odds_sd") if self.n_networks > 1 else None

    @cached_property
    def agreement(self) -> NDArray[np.float32] | None:
        """How far the networks agree about each galaxy, (N,); None for one network.

        This is the median over pairs of networks of the Spearman correlation of their evidence
        maps; of more than two classes, of those of the predicted class. It is NaN where a map is
        constant. It bounds what can be read from a map.
        """
        return self._read("agreement") if self.n_networks > 1 else None

    @cached_property
    def pixel_scale(self) -> NDArray[np.float64]:
        """Pixel scale of each cutout [arcsec/pixel], (N,); NaN where unknown."""
        if "pixel_scale" in self._file:
            return self._read("pixel_scale")
        scale = self.record.pixel_scale
        return np.full(len(self), np.nan if scale is None else scale)

    @cached_property
    def north_angle(self) -> NDArray[np.float32]:
        """Direction of north at the centre of each cutout [deg], (N,); NaN where unknown.

        Counterclockwise from up, as the cutout is drawn, from -180 to 180.
        """
        return self._read_angle("north_angle")

    @cached_property
    def east_angle(self) -> NDArray[np.float32]:
        """The same of east: 90 where north is up and east to the left."""
        return self._read_angle("east_angle")

    def _read_angle(self, name: str) -> NDArray[np.float32]:
        if name in self._file:
            return self._read(name)
        return np.full(len(self), np.nan, np.float32)

    @cached_property
    def kpc_per_arcsec(self) -> NDArray[np.float64]:
        """Proper length of one arcsec at each galaxy [kpc/arcsec], (N,); NaN where unknown."""
        if "kpc_per_arcsec" in self._file:
            return self._read("kpc_per_arcsec")
        return kpc_per_arcsec(self.redshift)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of the class of each logit, (C,)."""
        return self.record.class_names

    def find_class(self, name: str) -> int | None:
        """Return the position of a class, by its name in the file or its new one; None if unknown.

        A name that the file uses means its class there, whatever classes are renamed.
        """
        for names in (self.original_names, self.class_names):
            if name in names:
                return names.index(name)
        return None

    def renamed(
        self, class_names: Mapping[str, str], labels: Mapping[str, str] | None = None
    ) -> "Store":
        """Return a view of this store with other names for classes and columns, for figures.

        The file is the same, and is closed with either of them. Arrays, identifiers and the columns
        of the catalog stay as they are.

        Parameters
        ----------
        class_names : mapping of str to str
            New names of classes, by their names in the file. Of the classes of the catalog, those
            that the network does not know may be among them.
        labels : mapping of str to str, optional
            What axes and captions call columns of the catalog, by their names.

        Returns
        -------
        Store

        Raises
        ------
        FigureError
            If a class is unknown, or two classes would have the same name.
        """
        if not class_names and not labels:
            return self
        check_names(class_names, self.class_names, list_others(self.record), self.path)
        view = copy(self)
        # These name classes.
        for name in ("table", "statistics"):
            view.__dict__.pop(name, None)
        view.record = rename_store(self.record, class_names)
        view.new_names = {**self.new_names, **class_names}
        view.labels = {**self.labels, **(labels or {})}
        return view

    @property
    def method(self) -> str:
        """Method of attribution of the maps: "grad-cam", "evidence", ..."""
        return self.record.method

    @property
    def settings(self) -> "Settings":
        """Settings that the store was built with."""
        return self.record.settings

    @property
    def training(self) -> Training:
        """How the network was trained."""
        return self.record.training

    @cached_property
    def catalog(self) -> "pd.DataFrame":
        """Every column of the catalog, N rows; `column` reads one."""
        import pandas as pd

        return pd.DataFrame({name: self.columns[name] for name in self.columns})

    @cached_property
    def columns(self) -> Mapping[str, "pd.Series"]:
        """The columns of the catalog by name, of which each is read when it is looked up."""
        return _Columns(self)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns of `table`."""
        renamed = (f"catalog_{name}" if name in _DERIVED else name for name in self.columns)
        return (*renamed, *_DERIVED)

    def column(self, name: str) -> "pd.Series":
        """Read one column of `table`, without the others.

        Parameters
        ----------
        name : str
            One of `column_names`.

        Returns
        -------
        Series
            N rows, numbered from 0.

        Raises
        ------
        SelectionError
            If there is no such column.
        StoreError
            If the store is closed or damaged.
        """
        import pandas as pd

        if name in _DERIVED:
            return pd.Series(self._derive(name))
        found = name if name in self.columns else name.removeprefix("catalog_")
        if name not in self.column_names or found not in self.columns:
            raise SelectionError(
                f"{self.path}: no column {quote(name)}; "
                + suggest(name, self.column_names, f"there are {shorten([*self.column_names])}")
            )
        return self.columns[found]

    def describe_column(self, name: str) -> "ColumnWords":
        """Return the unit and the description of a column of the catalog.

        Parameters
        ----------
        name : str
            One of `columns`.

        Returns
        -------
        ColumnWords
            As the catalog gave them; "" where it gave none.

        Raises
        ------
        StoreError
            If the store is closed or damaged.
        """
        with _name_damage(self.path, "catalog"):
            key = read_columns(self._file["catalog"], self.path)[name]
            attrs = read_attributes(self._file["catalog"][key])
        unit, description = (attrs.get(word, "") for word in ("unit", "description"))
        if not (isinstance(unit, str) and isinstance(description, str)):
            return ColumnWords()
        return ColumnWords(make_printable(unit), make_printable(description))

    def _derive(self, name: str) -> Any:
        """Return a column of `table` that is not of the catalog."""
        import pandas as pd

        if name == "split":
            return pd.Series(self.split, dtype="string").replace("", pd.NA)
        if name in ("true", "predicted"):
            return self._name_classes(self.label if name == "true" else self.predicted)
        return self.probs.max(axis=1) if name == "p" else self.losses

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The catalog with the network's predictions, N rows, indexed by objid.

        Five columns follow those of the catalog: ``split`` ("train", "valid" or "test"), the
        ``true`` and ``predicted`` class (categories, in the order of `class_names`), the
        probability ``p`` of the predicted class, and the cross-entropy ``loss``. Unknown values are
        missing. A catalog column with one of these names is renamed to ``catalog_<name>``.
        """
        import pandas as pd

        found = {name: self._derive(name) for name in _DERIVED}
        names = {name: f"catalog_{name}" for name in found}
        table = self.catalog.rename(columns=names).assign(**found)
        return table.set_index(pd.Index(self.objid, name="objid"))

    @cached_property
    def rejected(self) -> dict[str, str]:
        """Reason why each rejected galaxy is not in the store, by objid."""
        file = self._file
        with _name_damage(self.path, "rejected"):
            return read_rejected(file)

    @cached_property
    def statistics(self) -> "pd.DataFrame | None":
        """Numbers that a store of statistics holds of each map, N rows by objid; None for others.

        ``total_<class>`` and ``peak_<class>`` are the sum and the largest value of the map of each
        class [logit]. The other columns are of the evidence M for the predicted class, or of its
        map where the method gives no evidence: ``centroid_x`` and ``centroid_y`` of ``|M|`` from
        the centre [pixel of the cutout], its ``concentration`` (Gini coefficient), and
        ``positive_share``, the sum of the positive cells of M over that of ``|M|``.
        """
        import pandas as pd

        if self.form != "statistics":
            return None
        columns: dict[str, Any] = {}
        for name in STATISTICS:
            values = self._read(name)
            if values.ndim == 1:
                columns[name] = values
                continue
            for c, class_name in enumerate(self.class_names):
                columns[f"{name.removeprefix('cam_')}_{class_name}"] = values[:, c]
        return pd.DataFrame(columns, index=pd.Index(self.objid, name="objid"))

    @property
    def n_rejected(self) -> int:
        """Number of galaxies of the catalog that could not be used."""
        return int(self._dataset("rejected/objid").shape[0])

    @property
    def map_shape(self) -> tuple[int, int]:
        """Height and width (h, w) of the maps [pixels of the explained layer]."""
        if self.form != "statistics":
            height, width = self._dataset("cams").shape[2:]
            return int(height), int(width)
        if self.record.map_shape is None:
            height, width = self._supply_row("cams", 0).shape[1:]
            return int(height), int(width)
        return self.record.map_shape

    @property
    def is_gray(self) -> bool:
        """Whether the cutouts have one band instead of three."""
        return self.n_channels == 1

    @property
    def accuracy(self) -> float | None:
        """Fraction classified correctly of the galaxies that did not train the network.

        It is that of `score` without arguments; None if none of these galaxies has a true class.
        """
        score = self.score()
        return None if score is None else score.accuracy

    def score(self, rows: RowsLike | None = None) -> Accuracy | None:
        """Count how many galaxies are classified correctly, and how many a guess would get right.

        Parameters
        ----------
        rows : int, str, slice or array_like, optional
            Which galaxies; see `Store`. By default, all that did not train the network or, if the
            store holds no others, those that did; of a subset, those of the whole store.

        Returns
        -------
        Accuracy or None
            The counts, the accuracy, and its baselines; None if no true class is known.

        Raises
        ------
        SelectionError
            If the store does not hold an identifier.
        IndexError
            If a position is out of range.
        """
        if rows is None:
            return self._score
        return self._measure(rows)

    @cached_property
    def whole(self) -> Whole:
        """What is said of all galaxies of the store or, of a subset, of the store that it is of."""
        return measure_whole(self) if self.record.subset is None else self.record.subset.whole

    @cached_property
    def compared(self) -> Comparison:
        """Some galaxies of the store or, of a subset, of the store that it is of."""
        return measure_compared(self) if self.record.subset is None else self.record.subset.compared

    @property
    def is_subset(self) -> bool:
        """Whether the store is a part of a larger one; see `galfig.subset`."""
        return self.record.subset is not None

    @property
    def chosen(self) -> NDArray[np.object_]:
        """Identifiers of the galaxies, (N,), in the order in which a subset was asked for them."""
        subset = self.record.subset
        if subset is None or not subset.order:
            return self.objid
        return self.objid[list(subset.order)]

    @property
    def whole_digest(self) -> str:
        """Plan digest by which the maps were made: of a subset, that of the whole store."""
        subset = self.record.subset
        return self.record.plan_digest if subset is None else subset.plan_digest

    @cached_property
    def _score(self) -> Accuracy | None:
        return rate_whole(self.whole)

    def _measure(self, rows: RowsLike) -> Accuracy | None:
        positions = np.atleast_1d(find_positions(self, rows))
        predicted, labels = self.predicted[positions], self.label[positions]
        return measure_accuracy(predicted, labels, len(self.class_names))

    def cams(self, rows: RowsLike) -> NDArray[np.float32]:
        """Return the signed maps of galaxies, made by `method`.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (C, h, w) or (n, C, h, w) ndarray of float32
            The map of each class [logit]; evidence is in log-odds.

        Raises
        ------
        SelectionError
            If the store does not hold an identifier.
        IndexError
            If a position is out of range.
        StoreError
            If the store is closed or damaged.
        """
        return self._read_maps("cams", rows)

    def cams_sd(self, rows: RowsLike) -> NDArray[np.float32]:
        """Return the standard deviations of maps over the networks of an ensemble.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (C, h, w) or (n, C, h, w) ndarray of float32
            For the map of each class [logit], with the divisor K - 1. The error of the mean is
            smaller; see `galfig.metrics.compute_interval_factor`.

        Raises
        ------
        SelectionError
            If the store does not hold an identifier.
        IndexError
            If a position is out of range.
        StoreError
            If the maps are those of one network, or the store is closed or damaged.
        """
        self._require_ensemble()
        return self._read_maps("cams_sd", rows)

    def evidence_sd(self, rows: RowsLike) -> NDArray[np.float32]:
        """Return the standard deviations of evidence maps over the networks of an ensemble.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (h, w) or (n, h, w) ndarray of float32; (C, h, w) or (n, C, h, w) for C > 2
            For each map that `evidence` returns [log-odds], with the divisor K - 1. Every network
            is taken with the probabilities of the mean logits.

        Raises
        ------
        SelectionError
            If the store does not hold an identifier.
        IndexError
            If a position is out of range.
        StoreError
            If the maps are those of one network, their method gives no evidence, or the store is
            closed or damaged.
        """
        self._require_ensemble()
        is_binary = len(self.class_names) == 2
        if self.method == "evidence":
            spread = self.cams_sd(rows)
            return spread[..., 1, :, :] if is_binary else spread
        is_there = "evidence_sd" in self._file
        if self.form == "statistics":
            is_there = self.method not in NONLINEAR_METHODS
        if not is_there:
            raise StoreError(
                f"{self.path}: no error bars of evidence, which maps by {self.method} do not give; "
                "build it by another method"
            )
        spread = self._read_maps("evidence_sd", rows)
        return spread[..., 0, :, :] if is_binary else spread

    def rounding(self, name: str, row: int) -> NDArray[np.float64]:
        """Return how far the rounding to 8 bits may have moved the maps of a galaxy.

        Parameters
        ----------
        name : {"cams", "cams_sd", "evidence_sd"}
            Which maps.
        row : int
            Its position.

        Returns
        -------
        (M,) ndarray of float64
            Largest change of a value of each map, in the unit of the maps. Zero unless the store is
            native, and its maps are not made again. Rounding to float16 is not counted.

        Raises
        ------
        StoreError
            If the store is closed or damaged.
        """
        n_classes = len(self.class_names)
        n_maps = count_evidence(n_classes) if name == "evidence_sd" else n_classes
        if self.form != "native" or self._is_supplied(name) or name not in self._file:
            return np.zeros(n_maps)
        return np.asarray(self._read(name_divisor(name, self.form), row), np.float64) / 2

    def evidence_rounding(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how far the rounding to 8 bits may have moved the evidence maps of a galaxy.

        Parameters
        ----------
        row : int
            Its position.

        Returns
        -------
        maps, spread : (E,) ndarray of float64
            Largest change of a value of each map that `evidence` returns, and of its standard
            deviation [log-odds]; E is 1 for two classes, and C for more. Zero as for `rounding`.

        Raises
        ------
        StoreError
            If the store is closed or damaged.
        """
        n_maps, of_maps = count_evidence(len(self.class_names)), self.rounding("cams", row)
        if self.method == "evidence":
            return of_maps[-n_maps:], self.rounding("cams_sd", row)[-n_maps:]
        if n_maps > 1:
            of_maps = of_maps + compute_rest_shares(self.logits[row]) @ of_maps
        else:
            of_maps = of_maps.sum(keepdims=True)
        return of_maps, self.rounding("evidence_sd", row)

    def _require_ensemble(self) -> None:
        if self.n_networks == 1:
            raise StoreError(
                f"{self.path}: maps of one network, expected several for error bars; train with "
                "`networks=5`, and build it from that folder"
            )

    def _read_maps(self, name: str, rows: RowsLike) -> NDArray[np.float32]:
        """Read maps of galaxies, and multiply them by their scales."""
        positions = find_positions(self, rows)
        if isinstance(positions, int):
            if self.form == "statistics" or self._is_supplied(name):
                return self._supply_row(name, positions)
            scale = self._read(name_divisor(name, self.form), positions)
            return self._read(name, positions).astype(np.float32) * scale[:, None, None]
        self.announce(positions)
        n_maps = len(self.class_names)
        if name == "evidence_sd":
            n_maps = count_evidence(n_maps)
        maps = (self._read_maps(name, int(row)) for row in positions)
        return _stack(maps, (len(positions), n_maps, *self.map_shape), np.float32)

    def evidence(self, rows: RowsLike) -> NDArray[np.float32]:
        r"""Return contrast maps of galaxies: the evidence for one class against the others.

        With two classes, this is the map :math:`L_1 - L_0` of the second class against the first.
        With more classes, it is the map :math:`E_c = L_c - \sum_{j \ne c} q_{cj} L_j` of each class
        :math:`c` against the rest, where :math:`q_{cj} = p_j / (1 - p_c)`. The maps are linear in
        the output that they explain, so this is the map of the log-odds of :math:`c`. Any part that
        the maps of all classes share cancels, and the prediction does not depend on it [1]_. Where
        pooling and one linear layer follow the layer explained, the sum of a map over its pixels,
        plus an offset from the biases of that layer, is the log-odds; see
        `galfig.metrics.contrast_with_rest`.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (h, w) or (n, h, w) ndarray of float32; (C, h, w) or (n, C, h, w) for C > 2
            Signed maps [log-odds per pixel of the map], with the precision of the stored maps
            (float16).

        Raises
        ------
        SelectionError
            If the store does not hold an identifier.
        IndexError
            If a position is out of range.
        StoreError
            If the store is closed or damaged, or has one class only; or if its method is not
            linear in the output, so that the difference of two maps is not the map of a difference.

        References
        ----------
        .. [1] Srinivas & Fleuret 2020, arXiv:2006.09128
        """
        n_classes = len(self.class_names)
        if self.method in NONLINEAR_METHODS:
            raise StoreError(
                f"{self.path}: maps by {self.method}, whose differences are not evidence, expected "
                'those of another method; build it with `method="evidence"`'
            )
        if n_classes < 2:
            raise StoreError(
                f"{self.path}: one class, expected two or more; evidence is for a class against "
                "the others"
            )
        positions = find_positions(self, rows)
        if isinstance(positions, int):
            return self.contrast(positions, self.cams(positions))
        self.announce(positions)
        per_galaxy = self.map_shape if n_classes == 2 else (n_classes, *self.map_shape)
        shape = (len(positions), *per_galaxy)
        return _stack((self.evidence(int(row)) for row in positions), shape, np.float32)

    def contrast(self, row: int, cams: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the contrast maps of a galaxy whose maps were read before.

        Parameters
        ----------
        row : int
            Its position, in a store for which there are such maps; see `evidence`.
        cams : (C, h, w) ndarray of float32
            Its maps.

        Returns
        -------
        (h, w) ndarray of float32; (C, h, w) for C > 2
            What `evidence` returns.
        """
        is_binary = len(self.class_names) == 2
        if self.method == "evidence":
            return cams[1] if is_binary else cams
        if is_binary:
            return cams[1] - cams[0]
        return contrast_with_rest(cams, self.logits[row]).astype(np.float32, copy=False)

    def totals(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the sum of each map of some galaxies over its pixels.

        Parameters
        ----------
        rows : (n,) ndarray of int
            Positions of galaxies.

        Returns
        -------
        (n, C) ndarray of float64
            Sums [logit]; a store of statistics holds them, others sum up their maps.
        """
        if self.form == "statistics":
            return self._read("cam_total")[rows].astype(np.float64)
        return np.stack([self.cams(int(row)).sum(axis=(1, 2), dtype=np.float64) for row in rows])

    @property
    def has_features(self) -> bool:
        """Whether the store holds `features`, or something supplies them."""
        return "features" in self._file or self._is_supplied("features")

    @property
    def n_features(self) -> int | None:
        """Number of features that are stored of each galaxy; None in a store without."""
        return int(self._dataset("features").shape[1]) if "features" in self._file else None

    def features(self, rows: RowsLike) -> NDArray[np.float32]:
        """Return the features of galaxies: the mean of each feature map of the explained layer.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (K,) or (n, K) ndarray of float32
            Activations of the layer, averaged over its pixels; without unit. Those of several
            networks are side by side.

        Raises
        ------
        SelectionError
            If the store does not hold an identifier.
        IndexError
            If a position is out of range.
        StoreError
            If the store is closed or damaged; or if it holds no features, and nothing supplies
            them.
        """
        positions = find_positions(self, rows)
        if isinstance(positions, int):
            return self._find_features(np.array([positions]))[0].copy()
        return self._find_features(positions)

    def _find_features(self, positions: NDArray[np.intp]) -> NDArray[np.float32]:
        if "features" not in self._file:
            if not self._is_supplied("features"):
                raise StoreError(
                    f"{self.path}: holds no features, expected those of layer "
                    f"{quote(self.record.target_layer)}; build it with `features=True`, or name "
                    "its network with `model`"
                )
            self.announce(positions)
            found = [self._supply_row("features", int(row)) for row in positions]
            return np.array(found, np.float32).reshape(len(found), -1)
        # A block at a time: those of all galaxies may be more than the memory holds.
        n_features = self._dataset("features").shape[1]
        features = np.empty((len(positions), n_features), np.float32)
        for start in range(0, len(self), N_BLOCK):
            inside = (positions >= start) & (positions < start + N_BLOCK)
            if inside.any():
                block = self._read("features", slice(start, start + N_BLOCK))
                features[inside] = block[positions[inside] - start]
        return features

    @property
    def n_channels(self) -> int:
        """Number of channels of the cutouts."""
        if self.form == "full":
            return int(self._dataset("cutouts").shape[3])
        return self.record.n_channels or 3

    @property
    def shown_channels(self) -> tuple[int, ...]:
        """Channels that are shown as red, green and blue; one or two channels are shown as grey.

        These are the first three, unless `[catalog] rgb` named others when the store was built.
        """
        rgb = self.record.settings.catalog.rgb
        if rgb is not None and max(rgb) < self.n_channels:
            return rgb
        return (0, 1, 2) if self.n_channels >= 3 else (0, 0, 0)

    @property
    def cutout_shape(self) -> tuple[int, int, int]:
        """Shape (H, W, 3) of a cutout as it is shown."""
        return self.record.cutout_size, self.record.cutout_size, 3

    def read_address(self, row: int) -> str:
        """Read the address of an image, as `galfig.pipeline.addresses` wrote it.

        Parameters
        ----------
        row : int
            Position of a galaxy in a store that is not full.

        Returns
        -------
        str
        """
        return str(self._read("image", row))

    def cutouts(self, rows: RowsLike) -> NDArray[np.uint8]:
        """Return the cutouts of galaxies as they are shown; see `Store.shown_channels`.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (H, W, 3) or (n, H, W, 3) ndarray of uint8
            Pixels in the order (y, x), with RGB last.

        Raises
        ------
        SelectionError
            If the store does not hold an identifier.
        IndexError
            If a position is out of range.
        StoreError
            If the store is closed or damaged.
        """
        positions = find_positions(self, rows)
        if isinstance(positions, int):
            pixels, shown = self.pixels(positions), self.shown_channels
            # Most cutouts are shown as they are, and to choose channels takes as long as to read.
            if shown == tuple(range(pixels.shape[-1])):
                return pixels.copy()
            return np.ascontiguousarray(pixels[..., list(shown)])
        shape = (len(positions), *self.cutout_shape)
        return _stack((self.cutouts(int(row)) for row in positions), shape, np.uint8)

    def pixels(self, rows: RowsLike) -> NDArray[np.uint8]:
        """Return the cutouts of galaxies with all their channels, as the network was given them.

        Parameters
        ----------
        rows : int, str, slice or array_like
            Which galaxies; see `Store`.

        Returns
        -------
        (H, W, n_channels) or (n, H, W, n_channels) ndarray of uint8
            Pixels in the order (y, x), in the order of the channels of the network.

        Raises
        ------
        SelectionError
            If the store does not hold an identifier.
        IndexError
            If a position is out of range.
        StoreError
            If the store is closed or damaged.
        """
        positions = find_positions(self, rows)
        if isinstance(positions, int):
            if self.form == "full":
                return self._read("cutouts", positions)
            return self._supply_row("cutouts", positions)
        side = self.record.cutout_size
        shape = (len(positions), side, side, self.n_channels)
        return _stack((self.pixels(int(row)) for row in positions), shape, np.uint8)

    def select(
        self,
        where: str | None = None,
        *,
        split: Split | None = None,
        n: int | None = None,
        zmin: float | None = None,
        zmax: float | None = None,
        objids: str | Path | Sequence[str] | None = None,
        true: str | None = None,
        predicted: str | None = None,
        correct: bool | None = None,
        sort: Sort = "random",
        seed: int = 256,
        like: str | None = None,
    ) -> Rows:
        """Select galaxies, with the same options as on the command line.

        Parameters
        ----------
        where : str, optional
            A condition on columns of the catalog, such as ``"oh_p50 > 9.15"``; see
            `galfig.store.conditions.find_where`.
        split : {"valid", "train", "test", "all"}, optional
            Galaxies to choose from. By default, all that did not train the network or, if the
            store holds no others, those that did.
        n : int, optional
            Number of galaxies; by default, all that satisfy the conditions.
        zmin, zmax : float, optional
            Keep only redshifts strictly between these limits.
        objids : str, Path or sequence of str, optional
            Select these galaxies, in this order; no other condition may be given. A path, or text
            that begins with ``@``, is a file with one identifier per line, such as
            ``"@picks.txt"``; see `galfig.store.picks.parse_picks`.
        true, predicted : str, optional
            Keep only galaxies with this true class, or with this predicted class.
        correct : bool, optional
            Keep only galaxies that are classified correctly (True) or incorrectly (False).
        sort : {"random", "loss", "p", "redshift"}, default "random"
            Order: a random draw, largest loss first, highest probability first, or lowest
            redshift first.
        seed : int, default 256
            Seed of the random draw, which does not depend on the order of the store.
        like : str, optional
            Select this galaxy and those whose features are most alike to its own, nearest first;
            see `galfig.components.measure_distances`. All but itself satisfy the conditions.

        Returns
        -------
        Rows
            Positions in the store, (n,). This integer array also records how the galaxies were
            selected, for captions.

        Raises
        ------
        SelectionError
            If no galaxy satisfies the conditions; if an identifier, class or column is unknown;
            or if a condition needs redshifts, labels or features that the store lacks; or if a
            file of identifiers cannot be read.
        """
        if isinstance(objids, Path):
            objids = read_picks(objids)
        elif isinstance(objids, str):
            objids = (objids,)
        if objids is not None and not len(objids):
            raise SelectionError("`objids` is empty, expected identifiers, or None for any galaxy")
        query = make_query(
            split=split,
            n=n,
            zmin=zmin,
            zmax=zmax,
            objids=expand_objids(map(str, () if objids is None else objids)),
            true=true,
            predicted=predicted,
            correct=correct,
            where=where,
            sort=sort,
            seed=seed,
            like=like,
        )
        return Rows.of(select_galaxies(self, query), self.record.plan_digest)


def open_store(path: Path | str) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path : Path or str
        A file written by ``galfig build-maps`` or `galfig.build_maps`.

    Returns
    -------
    Store
        The open store. Arrays are read on first access, maps and cutouts galaxy by galaxy. The
        store closes at the end of a ``with`` block, or when it is garbage-collected.

    Raises
    ------
    StoreError
        If the file is missing, is not HDF5, is not a store of this schema version, or has datasets
        whose shapes do not agree.
    """
    path = Path(path)
    file = _open_file(path)
    try:
        with _name_damage(path, "the store"):
            return Store(file, path)
    except BaseException:
        file.close()
        raise


def _stack(arrays: Iterator[NDArray[Any]], shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """Stack one array per galaxy along a new first axis."""
    stacked: NDArray[Any] = np.empty(shape, dtype)
    for row, array in enumerate(arrays):
        stacked[row] = array
    return stacked


def verify_store(path: Path) -> list[str]:
    """Compare a store with its own digests, and all of its values with the schema.

    Parameters
    ----------
    path : Path
        The store.

    Returns
    -------
    list of str
        One line for each item that is damaged or cannot be true; empty if the store is intact.

    Raises
    ------
    StoreError
        If the file is missing, is not HDF5, or is not a store.
    """
    with open_store(path) as store:
        n_classes = len(store.class_names)

        def find(name: str, values: Any) -> str:
            return find_invalid(name, values, n_classes)

        try:
            found = [*find_damage(store._file, find), *store._parts.find_damage(find)]
            if not found:
                found = [line for line in [find_contradiction(store.logits, store.probs)] if line]
        except READING_ERRORS as exc:
            return [f"cannot be read ({one_line(exc)})"]
        return found


@contextmanager
def _name_damage(path: Path, what: str) -> Iterator[None]:
    """Turn any exception that h5py raises for a damaged file into a one-line StoreError."""
    try:
        yield
    except StoreError:
        raise
    except READING_ERRORS as exc:
        raise StoreError(
            f"{path}: {what}: damaged ({one_line(exc)}); 'galfig verify {path}' says what is"
        ) from exc


def read_digest(path: Path) -> str | None:
    """Read the plan digest of a store or of a part.

    Parameters
    ----------
    path : Path
        Any file.

    Returns
    -------
    str or None
        The digest; None if the file is not a store or a part, or cannot be read.
    """
    try:
        with open_hdf5(path) as file:
            digest = read_attribute(file, "plan_digest")
    except READING_ERRORS:
        return None
    return digest if isinstance(digest, str) and not find_unprintable(digest) else None


def read_image_digests(path: Path) -> dict[str, int] | None:
    """Read the digest of the image of each galaxy of a store or of a part.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to int, or None
        Digests by objid. Galaxies that were rejected after their image was read are among them.
        None if the file does not record them, or cannot be read.
    """
    try:
        with open_hdf5(path) as file:
            # A part of the user's own plan may still be anybody's file.
            check_contents(file, path, may_span=True)
            found: dict[str, int] = {}
            for group in (file, file["rejected"]):
                objid, digests = read_texts(group["objid"]), group["image_digest"][:]
                found |= dict(zip(objid.tolist(), digests.tolist(), strict=True))
            return found
    except READING_ERRORS:
        return None


class _Columns(Mapping[str, "pd.Series"]):
    """The columns of a catalog by name, of which none is read before it is looked up."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with _name_damage(store.path, "catalog"):
            self._keys = read_columns(store._file["catalog"], store.path)

    def __getitem__(self, name: str) -> "pd.Series":
        key = self._keys[name]
        file = self._store._file
        with _name_damage(self._store.path, "catalog"):
            return _read_column(file["catalog"][key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def is_whole(path: Path) -> bool:
    """Return whether a store has all its data: those of a virtual one are in its parts.

    Parameters
    ----------
    path : Path
        The store.

    Returns
    -------
    bool
        False if it cannot be read, or if a part is missing or another one than before.
    """
    try:
        with open_store(path) as store:
            return not store._parts.list_lost()
    except StoreError:
        return False


def _read_column(dataset: h5py.Dataset) -> "pd.Series":
    import pandas as pd

    if h5py.check_string_dtype(dataset.dtype):
        return pd.Series(read_texts(dataset), dtype="string").replace("", pd.NA)
    values = dataset[:]
    attrs = read_attributes(dataset)
    if "missing_value" in attrs:
        series = pd.Series(values, dtype="Int64")
        return series.mask(values == attrs["missing_value"])
    return pd.Series(values)


def read_rejected(file: h5py.File) -> dict[str, str]:
    """Read why galaxies were rejected, by objid, from an open store or part.

    Both may quote a cell or the name of a file, of which any character is possible.
    """
    group = file["rejected"]
    objids, reasons = (read_texts(group[name]) for name in ("objid", "reason"))
    return {
        make_printable(objid): make_printable(reason)
        for objid, reason in zip(objids, reasons, strict=True)
    }


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
    """Describe a file that HDF5 cannot open."""
    if "truncated" in reason:
        return "cut off, expected a whole store; copy it again, or build it again"
    with path.open("rb") as file:
        if file.read(9)[8:] == b"{":
            return "a checkpoint, expected a store; 'galfig build-maps' makes one with it"
    return f"not an HDF5 file that can be read, expected a store ({reason})"
