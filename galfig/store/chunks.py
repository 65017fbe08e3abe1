"""Chunks: images compressed in threads, outside HDF5, to the format of HDF5's own filters."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import deflate
import h5py
import numpy as np
from numpy.typing import NDArray

from galfig.config import Form
from galfig.errors import StoreError
from galfig.runtime.messages import one_line
from galfig.store.checksums import digest_chunk, read_chunk, record_chunks
from galfig.store.forms import quantise
from galfig.store.hdf5 import READING_ERRORS, set_attributes
from galfig.store.schema import DESCRIPTIONS

# Every HDF5 reader has these filters. Readers verify the Fletcher-32 checksum automatically.
FILTERS = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
# The float16 before 2.
LARGEST = 2 - 2**-10


class ScaledMaps(NamedTuple):
    """Some maps of one galaxy, as a store holds them.

    Attributes
    ----------
    data : (n, h, w) ndarray of float16
        The maps, divided by ``scale``.
    scale : (n,) ndarray of float32
        Power of two by which each map was divided.
    """

    data: NDArray[np.float16]
    scale: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, h, w) of the maps."""
        return self.data.shape


class EncodedMaps(NamedTuple):
    """Some maps of one galaxy, compressed as a chunk of the store.

    Attributes
    ----------
    data : bytes
        The maps, (n, h, w) float16 or, for a native store, int8; divided by ``scale``.
    scale : (n,) ndarray of float32
        By what each map was divided: a power of two or, for int8, any number.
    """

    data: bytes
    scale: NDArray[np.float32]


class Encoded(NamedTuple):
    """Maps and cutout of one galaxy, compressed as chunks of the store.

    Attributes
    ----------
    cams : bytes
        The maps, (C, h, w), as the ``data`` of `EncodedMaps`.
    cam_scale : (C,) ndarray of float32
        By what each map was divided, as its ``scale``.
    cutout : bytes
        The cutout, (H, W, channels) uint8; b"" for a native store.
    spreads : mapping of str to EncodedMaps
        Standard deviations of maps over the networks of an ensemble, by dataset; none of one
        network.
    """

    cams: bytes
    cam_scale: NDArray[np.float32]
    cutout: bytes
    spreads: Mapping[str, EncodedMaps] = MappingProxyType({})


def encode_galaxy(
    cams: NDArray[np.float32] | ScaledMaps,
    cutout: NDArray[np.uint8],
    spreads: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
    form: Form = "full",
) -> Encoded:
    """Compress the maps and the cutout of a galaxy.

    Call this from threads: it releases the interpreter lock while it compresses, and it does not
    take HDF5's global lock. The bytes have the format of HDF5's own filters shuffle, gzip and
    Fletcher-32, which every reader has.

    Parameters
    ----------
    cams : (C, h, w) ndarray of float32, or ScaledMaps
        Signed map of each class [logit], or those divided by their scale already.
    cutout : (H, W, 3) or (H, W, 1) ndarray of uint8
        The cutout, in colour or in one band.
    spreads : mapping of str to (n, h, w) ndarray of float32, optional
        Standard deviations of maps over the networks of an ensemble, by dataset.
    form : {"full", "native"}, default "full"
        What the store holds; see `galfig.store.forms`.

    Returns
    -------
    Encoded
        The compressed maps and cutout, and the scale of each map.
    """
    maps = _encode_maps(cams, form)
    encoded = {name: _encode_maps(spread, form) for name, spread in spreads.items()}
    return Encoded(maps.data, maps.scale, _compress(cutout) if form == "full" else b"", encoded)


def scale_maps(maps: NDArray[np.float32]) -> ScaledMaps:
    """Divide maps by their scale, and round them to 16 bits.

    Parameters
    ----------
    maps : (n, h, w) ndarray of float32
        Maps of one galaxy.

    Returns
    -------
    ScaledMaps
    """
    scale = _power_of_two_scale(maps)
    scaled = maps / scale[:, None, None]
    # float16 would round the largest float32 to 2, times 2^127: no float32. This keeps 11 bits.
    return ScaledMaps(np.clip(scaled, -LARGEST, LARGEST).astype(np.float16), scale)


def _encode_maps(maps: NDArray[np.float32] | ScaledMaps, form: Form) -> EncodedMaps:
    if isinstance(maps, ScaledMaps):
        return EncodedMaps(_compress(maps.data), maps.scale)
    values, scale = quantise(maps) if form == "native" else scale_maps(maps)
    return EncodedMaps(_compress(values), scale)


def round_maps(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps as they are read from a full store, which holds them in float16.

    Parameters
    ----------
    maps : (n, h, w) ndarray of float32
        Signed maps.

    Returns
    -------
    (n, h, w) ndarray of float32
        The same, with the 11 bits that the store keeps.
    """
    values, scale = scale_maps(maps)
    return values.astype(np.float32) * scale[:, None, None]


def copy_chunks(source: h5py.Dataset, target: h5py.Dataset, start: int) -> bytes:
    """Copy compressed chunks from one dataset to another without decompressing them.

    Parameters
    ----------
    source, target : h5py.Dataset
        Datasets with one chunk per galaxy and the same filters.
    start : int
        Row of ``target`` that receives the first chunk.

    Returns
    -------
    bytes
        The digest of each chunk, one after the other; see `galfig.store.checksums.digest_chunk`.

    Raises
    ------
    StoreError
        If a chunk of ``source`` cannot be read.
    """
    origin, digests = (0,) * (source.ndim - 1), []
    for index in range(source.shape[0]):
        try:
            mask, chunk = read_chunk(source, index)
        except READING_ERRORS as exc:
            raise StoreError(f"{source.name}, row {index}: {one_line(exc)}") from exc
        target.id.write_direct_chunk((start + index, *origin), chunk, mask)
        digests.append(digest_chunk(mask, chunk))
    return b"".join(digests)


def write_chunks(
    file: h5py.File, name: str, chunks: Sequence[bytes], shape: tuple[int, ...], dtype: type
) -> None:
    """Write a dataset from compressed images, with one chunk per galaxy.

    Parameters
    ----------
    file : h5py.File
        The file, open for writing.
    name : str
        Name of the new dataset, a key of `galfig.store.schema.DESCRIPTIONS`.
    chunks : sequence of bytes
        One compressed image per galaxy, from `encode_galaxy`.
    shape : tuple of int
        Shape of one image.
    dtype : type
        Type of its elements.
    """
    # h5py refuses chunks longer than the dataset, and a shard without galaxies has length zero.
    options: dict[str, Any] = {"chunks": (1, *shape), **FILTERS} if chunks else {}
    dataset = file.create_dataset(name, (len(chunks), *shape), dtype, **options)
    origin = (0,) * len(shape)
    for index, chunk in enumerate(chunks):
        dataset.id.write_direct_chunk((index, *origin), chunk)
    set_attributes(dataset, {"description": DESCRIPTIONS[name]})
    if chunks:
        record_chunks(dataset, b"".join(digest_chunk(0, chunk) for chunk in chunks))


def _compress(image: NDArray[Any]) -> bytes:
    """Apply HDF5's filters to a chunk: shuffle, zlib and checksum.

    Shuffle stores the first byte of every number, then the second byte, and so on. libdeflate is
    twice as fast as zlib at the same size. isal is faster by another factor of two, but for about
    one image in ten thousand it returns different bytes for the same pixels.
    """
    size = image.dtype.itemsize
    octets = np.ascontiguousarray(image).view(np.uint8).reshape(-1, size)
    compressed = bytes(deflate.zlib_compress(np.ascontiguousarray(octets.T), 1))
    return compressed + fletcher32(compressed).to_bytes(4, "little")


def fletcher32(data: bytes) -> int:
    """Return the checksum that HDF5's Fletcher-32 filter appends to a chunk.

    The data are read as big-endian 16-bit words. The low half of the checksum is the sum of the
    words, and the high half is the sum of all partial sums [1]_. Both are modulo 65535, except that
    a nonzero sum which is a multiple of 65535 gives 65535 instead of 0, as in ``H5checksum.c``.
    numcodecs has the same checksum, but these five lines do not justify another dependency.

    Parameters
    ----------
    data : bytes
        The compressed chunk; an odd length is padded with a zero byte.

    Returns
    -------
    int
        The 32-bit checksum.

    References
    ----------
    .. [1] Fletcher 1982, IEEE Trans. Commun. 30, 247
    """
    words = np.frombuffer(data + bytes(len(data) % 2), ">u2").astype(np.uint64)
    weights = np.arange(len(words), 0, -1, dtype=np.uint64)
    low, high = int(words.sum()), int((words * weights).sum())
    return (high and (high - 1) % 65535 + 1) << 16 | (low and (low - 1) % 65535 + 1)


def _power_of_two_scale(cams: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scale (C,) that brings each map (C, h, w) into [-1, 1].

    The scale is a power of two, so the division is exact. float16 then keeps 11 bits of the
    largest values and resolves 6e-8 of the scale at the faint end, whatever the unit of the map.
    """
    peak = np.abs(cams).max(axis=(1, 2), initial=0.0)
    _, exponent = np.frexp(peak)
    # Maps with values above 2^127, the largest power of two in float32, lie within [-2, 2].
    return np.where(peak > 0, np.exp2(np.minimum(exponent, 127)), 1.0).astype(np.float32)
