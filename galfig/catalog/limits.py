"""Limits: how much memory a catalog may take, packed and unpacked."""

import io
import zlib
from pathlib import Path

from galfig.errors import CatalogError
from galfig.runtime.machine import find_memory

# Largest catalog, also unpacked [byte], and largest fraction of the memory that it may take.
MAX_BYTES, MEMORY_SHARE = 1 << 36, 0.125
GZIP_MAGIC = b"\x1f\x8b"


def find_limit() -> int:
    """Return the largest size of a catalog [byte] on this machine."""
    return min(MAX_BYTES, int(MEMORY_SHARE * find_memory()))


def check_size(n_bytes: int, path: Path, state: str) -> None:
    """Raise CatalogError if a catalog takes too much memory.

    Parameters
    ----------
    n_bytes : int
        What it takes [byte].
    path : Path
        Path of the catalog, for the message.
    state : str
        When it takes that, such as "unpacked", for the message.
    """
    if n_bytes > (limit := find_limit()):
        raise CatalogError(
            f"{path}: more than {limit / 1e9:.1f} GB {state}, expected less; leave out columns (of "
            "Parquet, by [catalog] columns), or use a machine with more memory"
        )


def unpack(data: bytes, path: Path) -> bytes:
    """Undo gzip, which may consist of several streams, up to the largest size of a catalog.

    Parameters
    ----------
    data : bytes
        The packed file.
    path : Path
        Its path, for messages.

    Returns
    -------
    bytes

    Raises
    ------
    CatalogError
        If the data are truncated, followed by others, or too large unpacked.
    """
    # astropy may read damaged gzip forever. Unpacking it first verifies the checksum.
    plain, limit = io.BytesIO(), find_limit()
    while data:
        if not data.startswith(GZIP_MAGIC) and plain.tell():
            # Padding, which gzip ignores too.
            if data.strip(b"\0"):
                raise CatalogError(f"{path}: bytes behind the gzip data, expected none")
            break
        stream = zlib.decompressobj(wbits=31)
        plain.write(stream.decompress(data, limit - plain.tell() + 1))
        check_size(plain.tell(), path, "unpacked")
        if not stream.eof:
            raise CatalogError(f"{path}: gzip data that is truncated, expected all of it")
        data = stream.unused_data
    return plain.getvalue()
