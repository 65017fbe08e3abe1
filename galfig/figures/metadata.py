"""Reading what a figure says of itself: the metadata that `galfig.figures.save` wrote into it.

A figure may be anybody's file. Only its metadata are read, nothing of it is drawn, and what is not
as galfig writes it counts as no record.
"""

import struct
import zlib
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

from galfig.errors import FigureError
from galfig.runtime.documents import load_json
from galfig.runtime.inputs import open_regular

# An SVG begins with its metadata, and a PNG has them before its pixels. The record of the largest
# selection that is listed has less than 1 MB [byte].
MAX_METADATA = 1 << 24
_BLOCK = 1 << 16
_CREATOR = "galfig "
_PDF, _PNG = b"%PDF-", b"\x89PNG\r\n\x1a\n"
# Keys of the texts of a PNG, of which nothing else is unpacked or kept.
_PNG_KEYS = {"Title", "Description", "Comment", "Software"}
# Elements of an SVG by their path from the root, without namespaces.
_SVG_KEYS = {
    ("svg", "metadata", "RDF", "Work", "title"): "Title",
    ("svg", "metadata", "RDF", "Work", "description"): "Description",
    ("svg", "metadata", "RDF", "Work", "creator", "Agent", "title"): "Creator",
    ("svg", "metadata", "RDF", "Work", "subject", "Bag", "li"): "Keywords",
}


class FigureRecord(NamedTuple):
    """What a figure says of itself.

    Attributes
    ----------
    format : {"PDF", "PNG", "SVG"}
        The format of its file.
    title, caption : str
        Its title, and its caption as plain text.
    creator : str
        The version of galfig that wrote it: 'galfig 0.1.0'.
    provenance : dict
        What it was made from; see `galfig.figures.save.describe_provenance`.
    """

    format: str
    title: str
    caption: str
    creator: str
    provenance: dict[str, Any]


def read_record(path: Path) -> FigureRecord | None:
    """Read what a figure was made from.

    Parameters
    ----------
    path : Path
        A file, possibly of a stranger.

    Returns
    -------
    FigureRecord or None
        None if the file is no PDF, PNG or SVG, or none that galfig wrote.

    Raises
    ------
    FigureError
        If galfig wrote the file, and its record is damaged.
    OSError
        If the file cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        beginning = file.read(512) or b""
        file.seek(0)
        if beginning.startswith(_PDF):
            kind, found = "PDF", _read_pdf(file)
        elif beginning.startswith(_PNG):
            kind, found = "PNG", _read_png(file)
        elif b"<svg" in beginning or b"<!DOCTYPE svg" in beginning:
            kind, found = "SVG", _read_svg(file)
        else:
            return None
    creator = found.get("Creator", found.get("Software", ""))
    if not creator.startswith(_CREATOR):
        return None
    try:
        provenance = load_json(found.get("Keywords", found.get("Comment", "")))
    except ValueError as exc:
        raise FigureError(
            f"{path}: a figure whose record is {exc}, expected that of galfig"
        ) from exc
    if not isinstance(provenance, dict):
        raise FigureError(f"{path}: a figure whose record is no object of JSON, expected one")
    caption = found.get("Subject", found.get("Description", ""))
    return FigureRecord(kind, found.get("Title", ""), caption, creator, provenance)


def _read_pdf(file: FileIO) -> Mapping[str, str]:
    import pypdfium2 as pdfium

    try:
        with pdfium.PdfDocument(file) as document:
            return {str(key): str(value) for key, value in document.get_metadata_dict().items()}
    except pdfium.PdfiumError:
        return {}


def _read_png(file: FileIO) -> Mapping[str, str]:
    """Read the texts before the pixels, which are not decoded."""
    found: dict[str, str] = {}
    file.seek(len(_PNG))
    n_read = 0
    # Each key is unpacked once, so that all texts together are bounded.
    left = set(_PNG_KEYS)
    while len(head := file.read(8) or b"") == 8:
        length, kind = struct.unpack(">I4s", head)
        n_read += length
        if kind == b"IDAT" or n_read > MAX_METADATA:
            break
        data = (file.read(length + 4) or b"")[:-4]
        if len(data) != length:
            break
        try:
            if kind in (b"tEXt", b"iTXt", b"zTXt"):
                key = data.partition(b"\0")[0].decode("latin-1")
                if key in left:
                    left.remove(key)
                    words = _decode_text(kind, data)
                    found[key] = words.decode("utf-8" if kind == b"iTXt" else "latin-1")
        except (ValueError, zlib.error):
            continue
    return found


def _decode_text(kind: bytes, data: bytes) -> bytes:
    """Return the words of a text chunk of a PNG; ValueError and zlib.error if it is damaged."""
    words = data.split(b"\0", 1)[1]
    if kind == b"tEXt":
        return words
    if kind == b"zTXt":
        return _inflate(words[1:])
    is_packed = words[:1] == b"\1"
    # Behind the two bytes on compression lie the language and the keyword in it.
    words = words[2:].split(b"\0", 2)[2] if words[2:].count(b"\0") >= 2 else b""
    return _inflate(words) if is_packed else words


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, MAX_METADATA)


class _Finished(Exception):
    """The metadata of an SVG have been read, or are none that galfig writes."""


def _read_svg(file: FileIO) -> Mapping[str, str]:
    """Read the metadata at the beginning; what declares entities is none of galfig's files."""
    found: dict[str, list[str]] = {}
    where: list[str] = []

    def begin(name: str, _: Mapping[str, str]) -> None:
        if len(where) > len(max(_SVG_KEYS, key=len)):
            raise _Finished
        where.append(name.rpartition(" ")[2])

    def end(_: str) -> None:
        if where.pop() == "metadata":
            raise _Finished

    def take(words: str) -> None:
        if key := _SVG_KEYS.get(tuple(where)):
            found.setdefault(key, []).append(words)

    def refuse(*_: object) -> None:
        found.clear()
        raise _Finished

    # That of galfig, and not one of which a stranger gives the name.
    parser = expat.ParserCreate("utf-8", namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = take, refuse
    try:
        for _ in range(MAX_METADATA // _BLOCK):
            chunk = file.read(_BLOCK) or b""
            parser.Parse(chunk, not chunk)
            if not chunk:
                break
    except (_Finished, expat.ExpatError):
        pass
    return {key: "".join(words) for key, words in found.items()}
