"""Headers: whether a dataset is virtual, told from the bytes of the file before HDF5 opens it.

HDF5 keeps the sources of a virtual dataset in a block of its global heap. It reads that block as
soon as the dataset is opened and before it compares the checksum: one flipped bit ends the process,
or makes it run for ever. So the way to the block is walked here first, by the file format
specification (version 3.0, sections IV.A.1, IV.A.2.i, III.E), and the block is left to HDF5 only
if it is exactly of the form that `galfig.store.spans` expects.
"""

import os
from collections.abc import Iterator

_CONTINUATION, _LAYOUT = 0x10, 0x08
_VIRTUAL = 3
# More pieces than a header of galfig has, and larger ones than its attributes are [byte].
_MAX_CHUNKS, _MAX_CHUNK = 64, 1 << 27
# More than the sources of ten million parts take [byte].
_MAX_HEAP = 1 << 31


def read_sources(handle: int, address: int) -> bytes | None:
    """Read the block with the sources of a virtual dataset.

    Parameters
    ----------
    handle : int
        Descriptor of the file.
    address : int
        Where the header of the dataset is.

    Returns
    -------
    bytes or None
        None if the object is no virtual dataset.

    Raises
    ------
    ValueError
        If the way to the block is not as the specification says.
    """
    is_new = _read(handle, address, 4) == b"OHDR"
    walk = _iter_messages if is_new else _iter_old_messages
    layouts = [data for kind, data in walk(handle, address) if kind == _LAYOUT]
    # Version and class; from version 3 on, these are the first two bytes.
    if not any(data[1:2] == bytes([_VIRTUAL]) and data[0] > 2 for data in layouts):
        return None
    if len(layouts) != 1 or len(layouts[0]) < 14:
        raise ValueError("several layouts, or one that is too short")
    return _read_object(handle, _int(layouts[0][2:10]), _int(layouts[0][10:14]))


def _iter_messages(handle: int, address: int) -> Iterator[tuple[int, bytes]]:
    """Yield the messages of a header of version 2: kind and data."""
    start = _read(handle, address, 6)
    flags = start[5]
    offset = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    size = _int(_read(handle, offset, width))
    todo = [(offset + width, size)]
    # Kind, size, flags and, where it is kept, the order of creation.
    head = 6 if flags & 0x04 else 4
    for n_chunks in range(_MAX_CHUNKS):
        if n_chunks == len(todo):
            return
        offset, size = todo[n_chunks]
        if size > _MAX_CHUNK:
            raise ValueError("a header that is too long")
        chunk, place = _read(handle, offset, size), 0
        while place + head <= len(chunk):
            kind, length = chunk[place], _int(chunk[place + 1 : place + 3])
            data = chunk[place + head : place + head + length]
            if len(data) < length:
                raise ValueError("a message that is longer than its header")
            if kind == _CONTINUATION and length >= 16:
                # Without its signature and its checksum.
                todo.append((_int(data[:8]) + 4, max(_int(data[8:16]) - 8, 0)))
            yield kind, data
            place += head + length
    raise ValueError("a header in too many pieces")


def _iter_old_messages(handle: int, address: int) -> Iterator[tuple[int, bytes]]:
    """Yield the messages of a header of version 1, which other programs than galfig write."""
    start = _read(handle, address, 16)
    if start[0] != 1:
        raise ValueError("a header of an unknown version")
    todo = [(address + 16, _int(start[8:12]))]
    for n_chunks in range(_MAX_CHUNKS):
        if n_chunks == len(todo):
            return
        offset, size = todo[n_chunks]
        if size > _MAX_CHUNK:
            raise ValueError("a header that is too long")
        chunk, place = _read(handle, offset, size), 0
        while place + 8 <= len(chunk):
            kind, length = _int(chunk[place : place + 2]), _int(chunk[place + 2 : place + 4])
            data = chunk[place + 8 : place + 8 + length]
            if len(data) < length:
                raise ValueError("a message that is longer than its header")
            if kind == _CONTINUATION and length >= 16:
                todo.append((_int(data[:8]), _int(data[8:16])))
            yield kind, data
            place += 8 + length
    raise ValueError("a header in too many pieces")


def _read_object(handle: int, address: int, index: int) -> bytes:
    """Return an object of a collection of the global heap, all of which is walked through."""
    head = _read(handle, address, 16)
    size = _int(head[8:])
    if head[:5] != b"GCOL\x01" or not 16 <= size <= _MAX_HEAP:
        raise ValueError("no collection of a heap")
    collection, place, found = _read(handle, address, size), 16, None
    while place + 16 <= size:
        number, length = (
            _int(collection[place : place + 2]),
            _int(collection[place + 8 : place + 16]),
        )
        if number == 0:
            # Free space, whose length includes its head, is the rest.
            if length != size - place:
                raise ValueError("a heap with a gap")
            place = size
            break
        if number == index:
            found = collection[place + 16 : place + 16 + length]
        place += 16 + (length + 7) // 8 * 8
    if place > size or found is None:
        raise ValueError("a heap without the object, or with one that is too long")
    return found


def _read(handle: int, offset: int, n_bytes: int) -> bytes:
    # Before memory is set apart for it.
    if offset + n_bytes > os.fstat(handle).st_size:
        raise ValueError("an address out of the file")
    data = os.pread(handle, n_bytes, offset)
    if len(data) < n_bytes:
        raise ValueError("an address out of the file")
    return data


def _int(data: bytes) -> int:
    return int.from_bytes(data, "little")
