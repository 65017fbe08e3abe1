"""The outline of a store: all of it but its galaxies' numbers and maps, which the parts hold.

It lies beside the parts. Whoever has it and all the parts can make the store, without the catalog,
the images and the network.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from galfig.errors import StoreError
from galfig.runtime.messages import CHECKSUM_MISMATCH, one_line
from galfig.store.checksums import read_digests, seal_file
from galfig.store.gate import check_contents
from galfig.store.hdf5 import (
    READING_ERRORS,
    create_hdf5,
    encode_texts,
    open_hdf5,
    read_attributes,
    set_attributes,
)
from galfig.store.schema import check_catalog, check_rejected
from galfig.store.writer import write_catalog, write_rejected

if TYPE_CHECKING:
    # pandas is slow to import.
    import pandas as pd

# Root attributes of an outline that do not enter the store.
_SHARD_SIZE, _ENGINE = "shard_size", "engine_way"


@dataclass(frozen=True)
class Outline:
    """What an outline says of the parts.

    Attributes
    ----------
    attrs : mapping of str to str, int, float or bool
        Root attributes of the store, except ``schema_version``.
    n_galaxies : int
        Number of galaxies of all parts, with those that could not be explained.
    shard_size : int
        Number of galaxies of each part; the last may have fewer.
    engine : str
        How the maps are computed; see `galfig.pipeline.plan.Plan`.
    """

    attrs: Mapping[str, Any]
    n_galaxies: int
    shard_size: int
    engine: str

    @property
    def plan_digest(self) -> str:
        """Digest of the plan that the parts belong to."""
        return str(self.attrs["plan_digest"])

    @property
    def shards(self) -> tuple[slice, ...]:
        """The range of galaxies of each part."""
        starts = range(0, self.n_galaxies, self.shard_size)
        return tuple(
            slice(start, min(start + self.shard_size, self.n_galaxies)) for start in starts
        )

    @property
    def part_digests(self) -> list[str]:
        """The digest of the inputs of each part."""
        return [digest_part(self.plan_digest, shard, self.engine) for shard in self.shards]


def digest_part(plan_digest: str, shard: slice, engine: str) -> str:
    """Return a digest of the inputs of a part.

    Parameters
    ----------
    plan_digest : str
        Digest of the plan.
    shard : slice
        The range of its galaxies that the part holds.
    engine : str
        How the maps are computed.

    Returns
    -------
    str
        SHA-256, as hexadecimal digits.
    """
    inputs = f"{plan_digest} {shard.start} {shard.stop} {engine}"
    return hashlib.sha256(inputs.encode()).hexdigest()


def write_outline(
    path: Path,
    outline: Outline,
    objid: Sequence[str],
    catalog: "pd.DataFrame",
    rejected: Mapping[str, str],
) -> None:
    """Write the outline of a store.

    Parameters
    ----------
    path : Path
        The file to write, empty or absent.
    outline : Outline
        What it says of the parts.
    objid : sequence of str
        N identifiers, of the galaxies of all parts in their order.
    catalog : DataFrame
        Every column of the catalog, N rows.
    rejected : mapping of str to str
        Reason for each galaxy that was left out before sharding, by objid.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    # In memory first: where the disk is full, HDF5 would print so as it closes a small dataset.
    buffer = io.BytesIO()
    with create_hdf5(buffer) as file:
        set_attributes(file, outline.attrs)
        set_attributes(file, {_SHARD_SIZE: outline.shard_size, _ENGINE: outline.engine})
        file.create_dataset("objid", data=encode_texts(objid))
        write_catalog(file, catalog)
        write_rejected(file, rejected, {})
        seal_file(file)
    path.write_bytes(buffer.getbuffer())


@contextmanager
def open_outline(path: Path) -> Iterator[tuple[h5py.File, Outline]]:
    """Open an outline, and check that it is whole before anything in it is used.

    Parameters
    ----------
    path : Path
        A file written by `write_outline`.

    Yields
    ------
    file : h5py.File
        The file, open for reading.
    outline : Outline
        What it says of the parts.

    Raises
    ------
    OSError
        If there is none, or it cannot be opened.
    StoreError
        If it is no outline, or was changed since it was written.
    """
    with open_hdf5(path) as file:
        check_contents(file, path)
        try:
            outline = _read(file, path)
        except StoreError:
            raise
        except READING_ERRORS as exc:
            raise StoreError(f"{path}: cannot be read ({one_line(exc)})") from exc
        yield file, outline


def _read(file: h5py.File, path: Path) -> Outline:
    if read_digests(file) is None:
        raise StoreError(f"{path}: {CHECKSUM_MISMATCH}")
    attrs = read_attributes(file)
    size, engine = attrs.pop(_SHARD_SIZE, None), attrs.pop(_ENGINE, None)
    del attrs["seal"]
    objid = file.get("objid")
    is_whole = (
        (type(size) is int and size >= 1)
        and all(isinstance(words, str) for words in (engine, attrs.get("plan_digest")))
        and isinstance(objid, h5py.Dataset)
        and (objid.ndim == 1 and len(objid) > 0)
        and h5py.check_string_dtype(objid.dtype) is not None
    )
    if not is_whole:
        raise StoreError(f"{path}: not the outline of a store; remove it and build again")
    check_catalog(file["catalog"], path, len(objid))
    check_rejected(file["rejected"], path)
    return Outline(attrs, len(objid), size, engine)
