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

import h5py
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from galfig.cosmology import kpc_per_arcsec
from galfig.errors import StoreError

if TYPE_CHECKING:
    # Most figures do without its import.
    import pandas as pd

SCHEMA_VERSION = 1

_TEXT = h5py.string_dtype("utf-8")
_FILTERS = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
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
    those of HDF5's own filters shuffle and gzip, which every reader has.
    """
    scale = _power_of_two_scale(cams)
    scaled = (cams / scale[:, None, None]).astype(np.float16)
    return Encoded(_compress(scaled), scale, _compress(cutout))


class Store:
    """An open store, read-only; made by `open_store`."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file = file
        self.path = path
        self.attrs: dict[str, Any] = {key: _plain(value) for key, value in file.attrs.items()}

    def __len__(self) -> int:
        return int(self._file["label"].shape[0])

    @cached_property
    def objid(self) -> NDArray[np.object_]:
        """Identifiers, (N,) array of str."""
        return self._file["objid"].asstr()[:]

    @cached_property
    def redshift(self) -> NDArray[np.float64]:
        """Redshifts, (N,), NaN where unknown."""
        return self._file["redshift"][:]

    @cached_property
    def label(self) -> NDArray[np.int16]:
        """True class of each galaxy, (N,), as position in `class_names`; -1 where unknown."""
        return self._file["label"][:]

    @cached_property
    def value(self) -> NDArray[np.float64]:
        """The number that was binned, (N,); NaN where the classes are text."""
        return self._file["value"][:]

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """Outputs of the network, (N, C)."""
        return self._file["logits"][:]

    @cached_property
    def probs(self) -> NDArray[np.float32]:
        """Probabilities, (N, C)."""
        return self._file["probs"][:]

    @cached_property
    def pixel_scale(self) -> NDArray[np.float64]:
        """Pixel scale of each cutout [arcsec/pixel], (N,); NaN where unknown."""
        if "pixel_scale" in self._file:
            return self._file["pixel_scale"][:]
        return np.full(len(self), self.attrs.get("pixel_scale", np.nan))

    @cached_property
    def kpc_per_arcsec(self) -> NDArray[np.float64]:
        """Proper length of an arcsec at each galaxy [kpc], (N,); NaN where unknown."""
        if "kpc_per_arcsec" in self._file:
            return self._file["kpc_per_arcsec"][:]
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

        group = self._file["catalog"]
        columns = json.loads(group.attrs["columns"])
        return pd.DataFrame({column: _read_column(group[key]) for column, key in columns.items()})

    @cached_property
    def rejected(self) -> dict[str, str]:
        """Reason why a galaxy is not in the store, by objid."""
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
        scale = self._file["cam_scale"][index]
        return self._file["cams"][index].astype(np.float32) * scale[:, None, None]

    def cutout(self, index: int) -> NDArray[np.uint8]:
        """Return the cutout (H, W, 3) of one galaxy; one band gives grey."""
        cutout = self._file["cutouts"][index]
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
        A file that is missing, not HDF5, or not a store of this schema version.
    """
    path = Path(path)
    with _open_file(path) as file:
        found = file.attrs.get("schema_version")
        if found is None:
            raise StoreError(f"{path}: an HDF5 file without schema_version, expected a store")
        if found != SCHEMA_VERSION:
            raise StoreError(
                f"{path}: schema version {found}, expected {SCHEMA_VERSION}; "
                "rebuild it with 'galfig build-maps --overwrite'"
            )
        lacking = [name for name in _DESCRIPTIONS if name not in file and name not in _OPTIONAL]
        if lacking:
            raise StoreError(f"{path}: no dataset {lacking[0]!r}, expected a complete store")
        yield Store(file, path)


def is_hdf5(path: Path) -> bool:
    """Tell whether a file is HDF5, by its first bytes."""
    return path.is_file() and bool(h5py.is_hdf5(path))


def read_digest(path: Path) -> str | None:
    """Return the plan digest of a store or part; None where the file is no such thing."""
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs["plan_digest"])
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
    with h5py.File(path, "w") as file:
        file.attrs["plan_digest"] = plan_digest
        scales = [galaxy.cam_scale for galaxy in part.images]
        no_scales = np.empty((0, part.map_shape[0]), np.float32)
        arrays = {**part.arrays, "cam_scale": np.stack(scales) if scales else no_scales}
        for name, array in arrays.items():
            _write_dataset(file, name, array)
        _write_chunks(file, "cams", [g.cams for g in part.images], part.map_shape, np.float16)
        _write_chunks(file, "cutouts", [g.cutout for g in part.images], part.cutout_shape, np.uint8)
        _write_rejected(file, part.rejected)


def merge_parts(
    path: Path,
    parts: Sequence[Path],
    catalog: "pd.DataFrame",
    attrs: Mapping[str, Any],
    rejected: Mapping[str, str],
) -> tuple[int, int]:
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
    n_stored, n_failed : int
        Galaxies in the store, and galaxies of the shards that are not.
    """
    with h5py.File(path, "w") as file:
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs.update(attrs)
        counts: list[int] = []
        failed: dict[str, str] = {}
        for source in parts:
            with h5py.File(source, "r") as part:
                counts.append(part["label"].shape[0])
                failed |= _read_rejected(part)
        starts = np.concatenate([[0], np.cumsum(counts)])
        for source, start, count in zip(parts, starts[:-1], counts, strict=True):
            if not count:
                continue
            with h5py.File(source, "r") as part:
                _append(file, part, int(start), int(starts[-1]))
        _write_catalog(file, catalog.drop(index=list(failed)))
        _write_rejected(file, {**rejected, **failed})
    return int(starts[-1]), len(failed)


def _append(file: h5py.File, part: h5py.File, start: int, total: int) -> None:
    """Copy the datasets of a part behind those of the parts before it."""
    for name, source in part.items():
        if not isinstance(source, h5py.Dataset):
            continue
        if name not in file:
            _create_like(file, name, source, total)
        target = file[name]
        if source.chunks:
            origin = (0,) * (source.ndim - 1)
            for index in range(source.shape[0]):
                mask, chunk = source.id.read_direct_chunk((index, *origin))
                target.id.write_direct_chunk((start + index, *origin), chunk, mask)
        else:
            target[start : start + source.shape[0]] = source[:]


def _create_like(file: h5py.File, name: str, source: h5py.Dataset, total: int) -> None:
    """Create a dataset of the same kind for all galaxies."""
    options: dict[str, Any] = {}
    if source.chunks:
        options = {"chunks": source.chunks, **_FILTERS}
    target = file.create_dataset(name, (total, *source.shape[1:]), source.dtype, **options)
    target.attrs.update(source.attrs)


def _write_dataset(file: h5py.File, name: str, array: NDArray[Any]) -> None:
    """Write one array, contiguous."""
    dtype = _TEXT if array.dtype == object else array.dtype
    dataset = file.create_dataset(name, array.shape, dtype)
    if array.size:
        dataset[...] = array
    dataset.attrs["description"] = _DESCRIPTIONS[name]


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
    dataset.attrs["description"] = _DESCRIPTIONS[name]


def _compress(image: NDArray[Any]) -> bytes:
    """Apply HDF5's filters to a chunk: shuffle (the first bytes of all numbers first), then zlib.

    By isal, five times as fast as zlib for the same size.
    """
    size = image.dtype.itemsize
    octets = np.ascontiguousarray(image).view(np.uint8).reshape(-1, size)
    return isal_zlib.compress(np.ascontiguousarray(octets.T), 1)


def _write_catalog(file: h5py.File, catalog: "pd.DataFrame") -> None:
    group = file.create_group("catalog")
    keys = {str(column): _as_key(str(column)) for column in catalog.columns}
    for column, key in keys.items():
        _write_column(group, key, catalog[column])
    group.attrs["columns"] = json.dumps(keys)


def _write_column(group: h5py.Group, key: str, series: "pd.Series") -> None:
    """Write a column of the catalog as int64, float64, bool or text, none of it rounded."""
    import pandas as pd
    from pandas.api.types import is_scalar

    kind, has_missing = series.dtype.kind, bool(series.isna().any())
    if kind in "iu" and str(series.dtype).lower() != "uint64":
        data = series.astype("Int64").to_numpy(np.int64, na_value=_MISSING_INTEGER)
        dataset = group.create_dataset(key, data=data)
        if has_missing:
            dataset.attrs["missing_value"] = _MISSING_INTEGER
    elif kind == "f":
        dataset = group.create_dataset(key, data=series.to_numpy(np.float64, na_value=np.nan))
    elif kind == "b" and not has_missing:
        dataset = group.create_dataset(key, data=series.to_numpy(bool))
    else:
        # A cell may be a list, in Parquet, of which pandas tells no truth value.
        text = ["" if is_scalar(cell) and pd.isna(cell) else str(cell) for cell in series]
        dataset = group.create_dataset(key, data=np.array(text, dtype=object), dtype=_TEXT)


def _read_column(dataset: h5py.Dataset) -> "pd.Series":
    import pandas as pd

    if h5py.check_string_dtype(dataset.dtype):
        return pd.Series(dataset.asstr()[:], dtype="string").replace("", pd.NA)
    values = dataset[:]
    if "missing_value" in dataset.attrs:
        series = pd.Series(values, dtype="Int64")
        return series.mask(values == dataset.attrs["missing_value"])
    return pd.Series(values)


def _write_rejected(file: h5py.File, rejected: Mapping[str, str]) -> None:
    group = file.create_group("rejected")
    for name, values in (("objid", rejected.keys()), ("reason", rejected.values())):
        group.create_dataset(name, data=np.array(list(values), dtype=object), dtype=_TEXT)


def _read_rejected(file: h5py.File) -> dict[str, str]:
    group = file["rejected"]
    return dict(zip(group["objid"].asstr()[:], group["reason"].asstr()[:], strict=True))


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
        return h5py.File(path, "r")
    except OSError as exc:
        reason = " ".join(str(exc).split())
        raise StoreError(f"{path}: not an HDF5 file that can be read ({reason})") from exc


def _plain(value: Any) -> Any:
    """Turn an attribute into a plain Python value."""
    return value.item() if isinstance(value, np.generic) else value
