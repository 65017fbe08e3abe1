"""The store: one HDF5 file with the maps, probabilities and cutouts of many galaxies.

Schema 1. h5py or h5dump alone are enough to use it: every dataset says in its attribute
``description`` what it holds. Parts have the same layout, so that merging is copying.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import deflate
import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.cosmology import kpc_per_arcsec
from galfig.errors import StoreError
from galfig.hdf5 import (
    READING_ERRORS,
    create_hdf5,
    encode_texts,
    open_hdf5,
    read_attributes,
    read_texts,
    set_attributes,
)
from galfig.seal import find_damage, seal_file

if TYPE_CHECKING:
    # Most figures do without its import.
    import pandas as pd

SCHEMA_VERSION = 1

# Every HDF5 reader has them; the last is a checksum, which readers compare without being asked.
_FILTERS = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
_DESCRIPTIONS = {
    "objid": "identifier of each galaxy, as in the catalog",
    "redshift": "redshift, NaN where unknown",
    "label": "true class as position in the attribute class_names, -1 where unknown",
    "value": "the number that was binned into classes, NaN where the classes are text",
    "logits": "output of the network (N, C), before the softmax",
    "probs": "softmax of the logits (N, C)",
    "cams": "signed Grad-CAM (N, C, h, w); multiply by cam_scale (N, C) to have logits",
    "cam_scale": "power of two by which each map was divided to lie within [-1, 1]",
    "cutouts": "central cutout (N, H, W, RGB or one band), rows from the top of the image",
    "pixel_scale": "pixel scale of each cutout [arcsec/pixel], NaN where unknown",
    "kpc_per_arcsec": "proper length of an arcsec (Planck Collaboration 2020), NaN where unknown",
}
_N_AXES = {"logits": 2, "probs": 2, "cam_scale": 2, "cams": 4, "cutouts": 4}
_OPTIONAL = ("pixel_scale", "kpc_per_arcsec")
# Marks an empty cell in a column of integers, which HDF5 has no notion of.
_MISSING_INTEGER = np.iinfo(np.int64).min


class Encoded(NamedTuple):
    """Maps and cutout of one galaxy, compressed as the store's chunks are."""

    cams: bytes
    cam_scale: NDArray[np.float32]
    cutout: bytes


@dataclass(frozen=True)
class Part:
    """The galaxies of one shard, as they are written.

    Attributes
    ----------
    arrays : dict of str to ndarray
        ``objid``, ``redshift``, ``label``, ``value``, ``logits``, ``probs`` and, where known,
        ``pixel_scale`` and ``kpc_per_arcsec``; (N, ...).
    images : sequence of Encoded
        Maps and cutouts of the N galaxies, by `encode_galaxy`.
    map_shape : (C, h, w)
        Of the maps of a galaxy.
    cutout_shape : (H, W, 3) or (H, W, 1)
        Of a cutout.
    rejected : dict of str to str
        Reason why a galaxy of the shard is not among the N, by objid.
    """

    arrays: dict[str, NDArray[Any]]
    images: Sequence[Encoded]
    map_shape: tuple[int, ...]
    cutout_shape: tuple[int, ...]
    rejected: Mapping[str, str]


def encode_galaxy(cams: NDArray[np.float32], cutout: NDArray[np.uint8]) -> Encoded:
    """Compress the maps (C, h, w) and the cutout (H, W, channels) of a galaxy.

    Made for threads: compression leaves Python, and HDF5 with its lock, aside. The bytes are
    those of HDF5's own filters shuffle, gzip and Fletcher-32, which every reader has.
    """
    scale = _power_of_two_scale(cams)
    scaled = (cams / scale[:, None, None]).astype(np.float16)
    return Encoded(_compress(scaled), scale, _compress(cutout))


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
            return _read_rejected(self._file)

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
            _check_schema(file, path)
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
            _check_schema(file, path)
        try:
            return list(find_damage(file))
        except READING_ERRORS as exc:
            return [f"cannot be read ({' '.join(str(exc).split())})"]


@contextmanager
def _name_damage(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises at a damaged file into one line."""
    try:
        yield
    except StoreError:
        raise
    except READING_ERRORS as exc:
        reason = " ".join(str(exc).split())
        raise StoreError(
            f"{path}: {what}: damaged ({reason}); 'galfig verify {path}' says what is"
        ) from exc


def _check_schema(file: h5py.File, path: Path) -> None:
    """Raise StoreError where a file is not a store, or its datasets do not fit each other."""
    attrs = read_attributes(file)
    found = attrs.get("schema_version")
    if found is None:
        raise StoreError(
            f"{path}: an HDF5 file without schema_version, expected a store; it is another "
            "file, or damaged"
        )
    if found != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: schema version {found}, expected {SCHEMA_VERSION}; another version of galfig "
            "wrote it: use that one, or update galfig"
        )
    lacking = [name for name in _DESCRIPTIONS if name not in file and name not in _OPTIONAL]
    if lacking:
        raise StoreError(
            f"{path}: no dataset {lacking[0]!r}, expected a complete store; edited or damaged, "
            "build it again"
        )
    n_galaxies, n_classes = file["label"].shape[0], len(json.loads(attrs["class_names"]))
    for name in _DESCRIPTIONS:
        if name in file:
            _check_shape(path, name, file[name], n_galaxies, n_classes)
    for key, column in file["catalog"].items():
        _check_shape(path, f"catalog/{key}", column, n_galaxies, n_classes)


def _check_shape(
    path: Path, name: str, dataset: h5py.Dataset, n_galaxies: int, n_classes: int
) -> None:
    """Raise StoreError where a dataset holds another number of galaxies or classes, or nothing."""
    expected: tuple[int, ...] = (n_galaxies,)
    if name in ("logits", "probs", "cams", "cam_scale"):
        expected += (n_classes,)
    if dataset.shape[: len(expected)] != expected or dataset.ndim != _N_AXES.get(name, 1):
        raise StoreError(
            f"{path}: {name} of shape {dataset.shape}, expected {expected} and what follows, as "
            "labels and classes say; edited or damaged, build it again"
        )
    # A file of a few bytes may declare more than any memory holds.
    if not dataset.chunks and dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize:
        raise StoreError(
            f"{path}: {name} declares {dataset.size} numbers, and holds fewer; edited or "
            "damaged, build it again"
        )


def is_hdf5(path: Path) -> bool:
    """Tell whether a file is HDF5, by its first bytes."""
    return path.is_file() and bool(h5py.is_hdf5(path))


def read_digest(path: Path) -> str | None:
    """Return the plan digest of a store or part; None where the file is no such thing."""
    try:
        with open_hdf5(path) as file:
            return str(read_attributes(file)["plan_digest"])
    except (OSError, KeyError):
        return None


def write_part(path: Path, part: Part, plan_digest: str) -> None:
    """Write the galaxies of one shard as a small file of the store's own layout.

    Parameters
    ----------
    path : Path
        An empty or absent file.
    part : Part
        What was computed.
    plan_digest : str
        Digest of the plan that the shard belongs to.
    """
    with create_hdf5(path) as file:
        set_attributes(file, {"plan_digest": plan_digest})
        scales = [galaxy.cam_scale for galaxy in part.images]
        no_scales = np.empty((0, part.map_shape[0]), np.float32)
        arrays = {**part.arrays, "cam_scale": np.stack(scales) if scales else no_scales}
        for name, array in arrays.items():
            dataset = _write_array(file, name, array)
            set_attributes(dataset, {"description": _DESCRIPTIONS[name]})
        _write_chunks(file, "cams", [g.cams for g in part.images], part.map_shape, np.float16)
        _write_chunks(file, "cutouts", [g.cutout for g in part.images], part.cutout_shape, np.uint8)
        _write_rejected(file, part.rejected)


def merge_parts(
    path: Path,
    parts: Sequence[Path],
    catalog: "pd.DataFrame",
    attrs: Mapping[str, Any],
    rejected: Mapping[str, str],
) -> tuple[int, dict[str, str]]:
    """Make one store of the parts; compressed chunks are copied as they are.

    Parameters
    ----------
    path : Path
        The file to write, empty or absent.
    parts : sequence of Path
        Files by `write_part`, in the order of the shards.
    catalog : DataFrame
        Every column of the catalog, indexed by objid, for all galaxies of all shards.
    attrs : mapping of str to str, int, float or bool
        Root attributes of the schema, but for ``schema_version``.
    rejected : mapping of str to str
        Galaxies left out before there were shards; those of the parts are added.

    Returns
    -------
    n_stored : int
        Galaxies in the store.
    failed : dict of str to str
        Why a galaxy of the shards is not there, by objid.
    """
    with create_hdf5(path) as file:
        set_attributes(file, {"schema_version": SCHEMA_VERSION, **attrs})
        counts: list[int] = []
        failed: dict[str, str] = {}
        for source in parts:
            with open_hdf5(source) as part:
                counts.append(part["label"].shape[0])
                failed |= _read_rejected(part)
        filled = [source for source, count in zip(parts, counts, strict=True) if count]
        for name in _list_datasets(filled[0]) if filled else ():
            _merge_dataset(file, name, filled, sum(counts))
        _write_catalog(file, catalog.drop(index=list(failed)))
        _write_rejected(file, {**rejected, **failed})
        seal_file(file)
    return sum(counts), failed


def _list_datasets(part: Path) -> list[str]:
    with open_hdf5(part) as file:
        return [name for name, item in file.items() if isinstance(item, h5py.Dataset)]


def _merge_dataset(file: h5py.File, name: str, parts: Sequence[Path], total: int) -> None:
    """Copy a dataset of all parts, one behind the other.

    One dataset after the other, and text in one piece: the bytes of the store then do not depend
    on how many parts there are.
    """
    start, arrays = 0, []
    attrs: dict[str, Any] = {}
    for path in parts:
        with open_hdf5(path) as part:
            source, attrs = part[name], read_attributes(part[name])
            if not source.chunks:
                is_text = h5py.check_string_dtype(source.dtype)
                arrays.append(read_texts(source) if is_text else source[:])
                continue
            if name not in file:
                shape = (total, *source.shape[1:])
                file.create_dataset(name, shape, source.dtype, chunks=source.chunks, **_FILTERS)
            _copy_chunks(source, file[name], start)
            start += source.shape[0]
    if arrays:
        _write_array(file, name, np.concatenate(arrays))
    set_attributes(file[name], attrs)


def _copy_chunks(source: h5py.Dataset, target: h5py.Dataset, start: int) -> None:
    """Copy compressed chunks, a galaxy each, behind those that are there."""
    origin = (0,) * (source.ndim - 1)
    for index in range(source.shape[0]):
        mask, chunk = source.id.read_direct_chunk((index, *origin))
        target.id.write_direct_chunk((start + index, *origin), chunk, mask)


def _write_array(file: h5py.File, name: str, array: NDArray[Any]) -> h5py.Dataset:
    """Write an array, contiguous."""
    data = encode_texts(list(array)) if array.dtype == object else array
    return file.create_dataset(name, data=data)


def _write_chunks(
    file: h5py.File, name: str, chunks: Sequence[bytes], shape: tuple[int, ...], dtype: type
) -> None:
    """Write images that are compressed already, a chunk a galaxy."""
    # Without any galaxy there is nothing to lay out in chunks.
    options: dict[str, Any] = {"chunks": (1, *shape), **_FILTERS} if chunks else {}
    dataset = file.create_dataset(name, (len(chunks), *shape), dtype, **options)
    origin = (0,) * len(shape)
    for index, chunk in enumerate(chunks):
        dataset.id.write_direct_chunk((index, *origin), chunk)
    set_attributes(dataset, {"description": _DESCRIPTIONS[name]})


def _compress(image: NDArray[Any]) -> bytes:
    """Apply HDF5's filters to a chunk: shuffle (the first bytes of all numbers first), zlib, sum.

    By libdeflate, twice as fast as zlib for the same size. isal is twice as fast again, but once
    in some ten thousand images gives other bytes for the same pixels.
    """
    size = image.dtype.itemsize
    octets = np.ascontiguousarray(image).view(np.uint8).reshape(-1, size)
    compressed = bytes(deflate.zlib_compress(np.ascontiguousarray(octets.T), 1))
    return compressed + fletcher32(compressed).to_bytes(4, "little")


def fletcher32(data: bytes) -> int:
    """Return the checksum that HDF5's filter of that name appends to a chunk.

    Of 16-bit words, the first byte the higher: the low half is their sum and the high half the
    sum of all partial sums, both modulo 65535, where a sum that is not zero never becomes it
    (Fletcher 1982, IEEE Trans. Commun. 30, 247; ``H5checksum.c``).
    """
    words = np.frombuffer(data + bytes(len(data) % 2), ">u2").astype(np.uint64)
    weights = np.arange(len(words), 0, -1, dtype=np.uint64)
    low, high = int(words.sum()), int((words * weights).sum())
    return (high and (high - 1) % 65535 + 1) << 16 | (low and (low - 1) % 65535 + 1)


def _write_catalog(file: h5py.File, catalog: "pd.DataFrame") -> None:
    group = file.create_group("catalog")
    keys = {str(column): _as_key(str(column)) for column in catalog.columns}
    for column, key in keys.items():
        _write_column(group, key, catalog[column])
    set_attributes(group, {"columns": json.dumps(keys)})


def _write_column(group: h5py.Group, key: str, series: "pd.Series") -> None:
    """Write a column of the catalog as int64, float64, bool or text, none of it rounded."""
    import pandas as pd
    from pandas.api.types import is_scalar

    kind, has_missing = series.dtype.kind, bool(series.isna().any())
    if kind in "iu" and str(series.dtype).lower() != "uint64":
        data = series.astype("Int64").to_numpy(np.int64, na_value=_MISSING_INTEGER)
        dataset = group.create_dataset(key, data=data)
        if has_missing:
            set_attributes(dataset, {"missing_value": _MISSING_INTEGER})
    elif kind == "f":
        group.create_dataset(key, data=series.to_numpy(np.float64, na_value=np.nan))
    elif kind == "b" and not has_missing:
        group.create_dataset(key, data=series.to_numpy(bool))
    else:
        # A cell may be a list, in Parquet, of which pandas tells no truth value.
        text = ["" if is_scalar(cell) and pd.isna(cell) else str(cell) for cell in series]
        group.create_dataset(key, data=encode_texts(text))


def _read_column(dataset: h5py.Dataset) -> "pd.Series":
    import pandas as pd

    if h5py.check_string_dtype(dataset.dtype):
        return pd.Series(read_texts(dataset), dtype="string").replace("", pd.NA)
    values = dataset[:]
    if "missing_value" in dataset.attrs:
        series = pd.Series(values, dtype="Int64")
        return series.mask(values == dataset.attrs["missing_value"])
    return pd.Series(values)


def _write_rejected(file: h5py.File, rejected: Mapping[str, str]) -> None:
    group = file.create_group("rejected")
    for name, values in (("objid", rejected.keys()), ("reason", rejected.values())):
        group.create_dataset(name, data=encode_texts(list(values)))


def _read_rejected(file: h5py.File) -> dict[str, str]:
    group = file["rejected"]
    return dict(zip(read_texts(group["objid"]), read_texts(group["reason"]), strict=True))


def _power_of_two_scale(cams: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scale (C,) that brings each map into [-1, 1].

    A power of two, so that scaling rounds nothing; float16 then keeps 11 bits of the largest
    values and 6e-8 of the scale at the faint end, whatever the map's unit.
    """
    peak = np.abs(cams).max(axis=(1, 2), initial=0.0)
    _, exponent = np.frexp(peak)
    return np.where(peak > 0, np.exp2(exponent), 1.0).astype(np.float32)


def _as_key(column: str) -> str:
    """Return a column's name as HDF5 can hold it: '/' and a lone '.' mean something else there."""
    key = column.replace("%", "%25").replace("/", "%2F")
    return key.replace(".", "%2E") if set(key) == {"."} else key


def _open_file(path: Path) -> h5py.File:
    if not path.is_file():
        raise StoreError(
            f"{path}: no such file, expected a store; make it with 'galfig build-maps'"
        )
    try:
        return open_hdf5(path)
    except OSError as exc:
        reason = " ".join(str(exc).split())
        raise StoreError(f"{path}: {_describe_unreadable(path, reason)}") from exc


def _describe_unreadable(path: Path, reason: str) -> str:
    """Say what a file is that HDF5 cannot open."""
    if "truncated" in reason:
        return "cut off, expected a whole store; copy it again, or rebuild it with --overwrite"
    with path.open("rb") as file:
        if file.read(9)[8:] == b"{":
            return "a checkpoint, expected a store; make one with 'galfig build-maps --model'"
    return f"not an HDF5 file that can be read, expected a store ({reason})"
