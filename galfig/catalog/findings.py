"""Findings: what galfig understands of a catalog, as data."""

import dataclasses
import html
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "integer", "number", "truth value", "other", "empty"]


@dataclass(frozen=True)
class ColumnFacts:
    """A column of a catalog.

    Attributes
    ----------
    name : str
        Its name.
    kind : {"text", "integer", "number", "truth value", "other", "empty"}
        What its cells are, as they were read; "empty" if all are.
    unit, description : str
        What the table says of it; "" where it says nothing.
    n_empty : int
        Number of empty cells.
    n_distinct : int or None
        Number of different cells that are not empty; None where cells cannot be compared.
    low, high : int, float or None
        Least and largest number; None for other cells.
    first : tuple of str
        The first few different cells.
    roles : tuple of str
        What galfig takes it for, such as "identifier"; empty if it is only kept in the store.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    n_empty: int
    n_distinct: int | None
    low: int | float | None
    high: int | float | None
    first: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class AbsentColumn:
    """A column that the settings name and the catalog lacks.

    Attributes
    ----------
    name : str
        Its name.
    setting : str
        The setting that names it, such as "[catalog] id".
    is_needed : bool
        Whether galfig refuses the catalog without it.
    near : str or None
        A column that may be meant.
    """

    name: str
    setting: str
    is_needed: bool
    near: str | None


@dataclass(frozen=True)
class ClassFacts:
    """A class of a catalog.

    Attributes
    ----------
    name : str
        Its name.
    low, high : float or None
        Edges of its bin, (low, high]; None if the classes are not bins.
    n_rows : int
        Rows of the catalog with this class.
    is_kept : bool
        Whether a network separates it from others.
    n_used : int or None
        Galaxies that are left; None if that is unknown, since the catalog was refused before.
    n_train, n_valid, n_test : int or None
        Those of each split; None also where nothing is trained.
    """

    name: str
    low: float | None
    high: float | None
    n_rows: int
    is_kept: bool
    n_used: int | None
    n_train: int | None
    n_valid: int | None
    n_test: int | None


@dataclass(frozen=True)
class Histogram:
    """How often the numbers that classes are bins of occur.

    Attributes
    ----------
    edges : tuple of float
        Edges of the M bars, (a, b] each; M + 1 numbers, among which are the edges of the classes.
    counts : tuple of int
        Rows in each bar.
    classes : tuple of str
        The class of each bar.
    n_below, n_above : int
        Rows below the first edge or on it, and above the last.
    least, largest : float
        The smallest and the largest number.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    classes: tuple[str, ...]
    n_below: int
    n_above: int
    least: float
    largest: float


@dataclass(frozen=True)
class ImageFacts:
    """The images of a catalog.

    Attributes
    ----------
    templates : tuple of str
        Templates of their paths, one per band; empty for elements of an array.
    folder : str
        The folder, address or file that they are in.
    n_wanted, n_found : int
        Galaxies that are kept and need an image, and those that have one.
    absent : tuple of str
        Why the first of those without an image have none.
    n_shared : int
        Images that are the same file as that of an earlier galaxy.
    sizes : dict of str to int
        Images of each size [pixels], such as "128 × 128" (width × height), by number; of those
        whose header was read.
    n_measured, n_unmeasured : int
        Headers that were read, and those that could not be.
    n_decoded, n_damaged : int
        Images that were decoded, and those that could not be.
    n_channels : int
        Channels that a network sees.
    pixel_scale : str
        Where the pixel scale is taken from, and what it is where that is known [arcsec/pixel].
    origin : str
        Where the folder was fetched from; "" if that is not recorded.
    """

    templates: tuple[str, ...]
    folder: str
    n_wanted: int
    n_found: int
    absent: tuple[str, ...]
    n_shared: int
    sizes: dict[str, int]
    n_measured: int
    n_unmeasured: int
    n_decoded: int
    n_damaged: int
    n_channels: int
    pixel_scale: str
    origin: str


@dataclass(frozen=True)
class RedshiftFacts:
    """The redshifts of a catalog.

    Attributes
    ----------
    column : str
        The column.
    n_known, n_unknown : int
        Rows with a redshift that is possible, and without one.
    low, high : float or None
        The least and the largest of them.
    """

    column: str
    n_known: int
    n_unknown: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PositionFacts:
    """The columns of a catalog that are positions on the sky.

    Attributes
    ----------
    ra, dec : str
        Right ascension and declination.
    doubt : str
        Why they may not be degrees; "" if they look like degrees.
    """

    ra: str
    dec: str
    doubt: str


@dataclass(frozen=True)
class LeftOut:
    """Galaxies that are left out for one kind of reason.

    Attributes
    ----------
    reason : str
        The kind, without the names and numbers that differ between galaxies.
    n : int
        Their number.
    examples : dict of str to str
        The whole reason of the first few, by identifier, or by row such as "row 13".
    """

    reason: str
    n: int
    examples: dict[str, str]


@dataclass(frozen=True, repr=False)
class CatalogCheck:
    """What galfig understands of a catalog, from `check_catalog`.

    ``print(check)`` shows it in a terminal, and a notebook shows the same.

    Attributes
    ----------
    path : str
        The catalog.
    format : str
        Its format.
    files : dict of str to int
        Rows of each of its files.
    n_rows : int
        Rows that were read; 0 if none could be.
    columns : tuple of ColumnFacts
        The columns, in the order of the table.
    absent : tuple of AbsentColumn
        Columns that the settings name and the catalog lacks.
    class_column : str
        The column that the classes follow from.
    classes : tuple of ClassFacts
        The classes, in the order of the settings; empty if there are none or they are unknown.
    histogram : Histogram or None
        Of the numbers that are binned.
    n_distinct, n_unusable : int
        Different identifiers; and rows whose identifier cannot be used, which includes doubled
        ones.
    images : ImageFacts or None
        The images; None if none were looked for.
    redshift : RedshiftFacts or None
        The redshifts; None without a column of theirs.
    positions : PositionFacts or None
        The columns of positions; None without them.
    left_out : tuple of LeftOut
        What is left out, the most frequent reason first.
    n_left_out : int
        Galaxies that are left out.
    n_other_classes : int
        Galaxies of classes that are not kept.
    n_train, n_explained : int
        Galaxies that would train and validate a network, and those that would be explained.
    split : str
        Which galaxies would be explained: "valid", "train", "test" or "all".
    doubts : tuple of str
        What may be wrong, though nothing refuses it.
    refusal : str
        Why `galfig.build_maps` would refuse the catalog; "" if it would not.
    """

    path: str
    format: str
    files: dict[str, int]
    n_rows: int
    columns: tuple[ColumnFacts, ...]
    absent: tuple[AbsentColumn, ...]
    class_column: str
    classes: tuple[ClassFacts, ...]
    histogram: Histogram | None
    n_distinct: int
    n_unusable: int
    images: ImageFacts | None
    redshift: RedshiftFacts | None
    positions: PositionFacts | None
    left_out: tuple[LeftOut, ...]
    n_left_out: int
    n_other_classes: int
    n_train: int
    n_explained: int
    split: str
    doubts: tuple[str, ...]
    refusal: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything as nested dict and list, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        from galfig.catalog.terminal import write_check

        return write_check(self)

    def __repr__(self) -> str:
        from galfig.catalog.terminal import write_verdict

        return f"<CatalogCheck: {write_verdict(self)}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
