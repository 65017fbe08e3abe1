"""Chunks: images compressed as HDF5's own filters do, in threads and outside of HDF5."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import deflate
import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.store.hdf5 import set_attributes

if TYPE_CHECKING:
    # Most figures do without its import.
    pass

from galfig.store.schema import DESCRIPTIONS

# Every HDF5 reader has them; the last is a checksum, which readers compare without being asked.
FILTERS = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}


class Encoded(NamedTuple):
    """Maps and cutout of one galaxy, compressed as the store's chunks are."""

    cams: bytes
    cam_scale: NDArray[np.float32]
    cutout: bytes


def encode_galaxy(cams: NDArray[np.float32], cutout: NDArray[np.uint8]) -> Encoded:
    """Compress the maps (C, h, w) and the cutout (H, W, channels) of a galaxy.

    Made for threads: compression leaves Python, and HDF5 with its lock, aside. The bytes are
    those of HDF5's own filters shuffle, gzip and Fletcher-32, which every reader has.
    """
    scale = _power_of_two_scale(cams)
    scaled = (cams / scale[:, None, None]).astype(np.float16)
    return Encoded(_compress(scaled), scale, _compress(cutout))


def copy_chunks(source: h5py.Dataset, target: h5py.Dataset, start: int) -> None:
    """Copy compressed chunks, a galaxy each, behind those that are there."""
    origin = (0,) * (source.ndim - 1)
    for index in range(source.shape[0]):
        mask, chunk = source.id.read_direct_chunk((index, *origin))
        target.id.write_direct_chunk((start + index, *origin), chunk, mask)


def write_chunks(
    file: h5py.File, name: str, chunks: Sequence[bytes], shape: tuple[int, ...], dtype: type
) -> None:
    """Write images that are compressed already, a chunk a galaxy."""
    # Without any galaxy there is nothing to lay out in chunks.
    options: dict[str, Any] = {"chunks": (1, *shape), **FILTERS} if chunks else {}
    dataset = file.create_dataset(name, (len(chunks), *shape), dtype, **options)
    origin = (0,) * len(shape)
    for index, chunk in enumerate(chunks):
        dataset.id.write_direct_chunk((index, *origin), chunk)
    set_attributes(dataset, {"description": DESCRIPTIONS[name]})


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


def _power_of_two_scale(cams: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scale (C,) that brings each map into [-1, 1].

    A power of two, so that scaling rounds nothing; float16 then keeps 11 bits of the largest
    values and 6e-8 of the scale at the faint end, whatever the map's unit.
    """
    peak = np.abs(cams).max(axis=(1, 2), initial=0.0)
    _, exponent = np.frexp(peak)
    return np.where(peak > 0, np.exp2(exponent), 1.0).astype(np.float32)
