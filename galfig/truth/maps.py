"""Maps to be scored: those of a store, of numpy's files or of an array.

Nothing is unpickled, and no header is believed before the file is seen to be as long as it says.
"""

import math
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from galfig.errors import ScoreError
from galfig.images.arrays import MAX_HEADER, NPY_MAGIC
from galfig.runtime.inputs import open_regular
from galfig.runtime.messages import one_line, quote, shorten
from galfig.store.reader import Store, open_store

# Largest array of maps that is read [byte], and longest list of identifiers [byte].
MAX_BYTES, MAX_OBJID_BYTES = 4_000_000_000, 1_000_000_000
# More maps than any simulation has galaxies, and the longest side of one [pixels].
MAX_MAPS, MAX_SIDE = 10_000_000, 8192
MAPS, OBJID = "maps", "objid"
_ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class Maps:
    """Maps of galaxies, one after the other.

    Attributes
    ----------
    objid : list of str or None
        Identifier of the galaxy of each map; None if they are in the order of the catalog.
    shape : tuple of int
        (n, h, w) for one map per galaxy, (n, C, h, w) for one per class.
    read : callable
        Takes a position, and returns (h, w) or (C, h, w).
    class_names : tuple of str or None
        Class of each map of a galaxy; None if unknown.
    cutout_size : int or None
        Side of the part of the image that they cover [pixels]; None if unknown.
    store : Store or None
        The open store that they are read from, if they are of one.
    """

    objid: list[str] | None
    shape: tuple[int, ...]
    read: Callable[[int], NDArray[np.floating]]
    class_names: tuple[str, ...] | None = None
    cutout_size: int | None = None
    store: Store | None = None

    def close(self) -> None:
        """Close the store that they are read from, if they are of one."""
        if self.store is not None:
            self.store.close()


def load_maps(
    source: Path | str | NDArray[np.floating], objid: Sequence[str] | None = None
) -> Maps:
    """Load maps to be scored.

    Parameters
    ----------
    source : Path, str or (n, h, w) or (n, C, h, w) ndarray of float
        A store of galfig; a file of numpy's, ``.npy``, with one array in the order of the catalog;
        a ``.npz`` with the arrays ``maps`` and ``objid``; or the maps themselves.
    objid : (n,) sequence of str, optional
        Identifiers, of maps that are given as an array or a ``.npy``.

    Returns
    -------
    Maps
        Those of a store are read when they are needed: close them afterwards.

    Raises
    ------
    ScoreError
        If a file cannot be read, or does not hold maps and identifiers that fit them.
    StoreError
        If a store is damaged.
    """
    if isinstance(source, np.ndarray):
        return _make_maps("maps", source, objid)
    path = Path(source)
    try:
        with open_regular(path) as file:
            head = file.read(8)
            file.seek(0)
            if head.startswith(NPY_MAGIC):
                found = _read_array(file, os.fstat(file.fileno()).st_size, MAX_BYTES)
                return _make_maps(path, found, objid)
            if head.startswith(_ZIP_MAGIC):
                if objid is not None:
                    raise ScoreError(f"{path}: has identifiers of its own, expected no `objid`")
                return _make_maps(path, *_read_zip(file))
    except MemoryError as exc:
        raise ScoreError(f"{path}: maps do not fit into the memory, expected fewer") from exc
    except (OSError, ValueError) as exc:
        if isinstance(exc, ScoreError):
            raise
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else one_line(exc)
        raise ScoreError(f"{path}: maps cannot be read ({reason})") from exc
    if path.suffix.lower() in (".npy", ".npz"):
        raise ScoreError(f"{path}: begins with {head!r}, expected a file of numpy's")
    store = open_store(path)
    n, n_classes = store.logits.shape
    is_whole = store.settings.catalog.scale == "whole"
    return Maps(
        objid=store.objid.tolist(),
        shape=(n, n_classes, *store.map_shape),
        read=store.cams,
        class_names=store.class_names,
        cutout_size=None if is_whole else store.settings.training.cutout_size,
        store=store,
    )


def _make_maps(
    where: Path | str, maps: NDArray[Any], objid: Sequence[Any] | NDArray[Any] | None
) -> Maps:
    if maps.ndim not in (3, 4) or maps.dtype.kind not in "fiu" or 0 in maps.shape:
        raise ScoreError(
            f"{where}: an array {maps.shape} of {maps.dtype}, expected numbers of the shape "
            "(n, h, w) for one map per galaxy, or (n, C, h, w) for one per class"
        )
    if len(maps) > MAX_MAPS or max(maps.shape[1:]) > MAX_SIDE:
        raise ScoreError(
            f"{where}: an array {maps.shape}, expected at most {MAX_MAPS} maps, with sides of at "
            f"most {MAX_SIDE} pixels"
        )
    if objid is not None and len(objid) != len(maps):
        raise ScoreError(f"{where}: {len(maps)} maps, but {len(objid)} identifiers")
    names = None if objid is None else [_as_text(name) for name in objid]
    return Maps(names, maps.shape, maps.__getitem__)


def _as_text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _read_zip(file: IO[bytes]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read the two arrays of a ``.npz``."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            lacking = {MAPS, OBJID} - set(members)
            if lacking:
                raise ValueError(
                    f"arrays {shorten(list(members))}, expected {MAPS!r} and {OBJID!r}"
                )
            found = []
            for name, limit in ((MAPS, MAX_BYTES), (OBJID, MAX_OBJID_BYTES)):
                with archive.open(members[name]) as member:
                    found.append(_read_array(member, members[name].file_size, limit))
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as exc:
        # zipfile and the decompressors raise errors of many kinds.
        raise ValueError(f"a damaged .npz: {one_line(exc)}") from exc
    maps, objid = found
    if objid.ndim != 1 or objid.dtype.kind not in "USiu":
        raise ValueError(
            f"{OBJID!r} is an array {objid.shape} of {objid.dtype}, expected a list of texts"
        )
    return maps, objid


def _read_array(file: IO[bytes], size: int, max_bytes: int) -> NDArray[Any]:
    """Read an array of numbers or texts from a file, or a member of one, of ``size`` bytes."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(file, max_header_size=MAX_HEADER)
    except Exception as exc:
        # The header is the text of a dict, which can fail in any way.
        raise ValueError(f"no header of numpy's ({one_line(exc)})") from exc
    if dtype.hasobject or dtype.kind not in "USiuf":
        raise ValueError(f"an array of {quote(str(dtype))}, expected numbers; nothing is unpickled")
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > max_bytes:
        raise ValueError(f"an array {shape} of {dtype}, expected at most {max_bytes // 10**6} MB")
    if file.tell() + n_bytes != size:
        raise ValueError("an array that is truncated, or followed by other bytes")
    data = bytearray()
    while len(data) < n_bytes and (chunk := file.read(min(n_bytes - len(data), 1 << 24))):
        data += chunk
    if len(data) < n_bytes:
        raise ValueError("an array that is truncated")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")
