"""FITS: a table as a binary-table extension, and images behind it, with checksums."""

import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from galfig.runtime.documents import dump_json
from galfig.tables.columns import Table, make_distinct, name_in_ascii, read_cells
from galfig.tables.conversion import make_astropy, quiet
from galfig.tables.images import Image

# FITS files consist of blocks of so many bytes.
_BLOCK = 2880
# The value of a card has room for so many characters.
_LONGEST_NAME = 68
_RECORD = re.compile(r"(\w): +([+-]?[\d.])")


def write_fits(path: Path, table: Table, images: Iterable[Image] = ()) -> None:
    """Write a table as FITS, after an empty primary HDU, and then images, one at a time.

    Parameters
    ----------
    path : Path
        The file to write.
    table : Table
        The table.
    images : iterable of Image, optional
        What becomes an extension each, behind the table.
    """
    from astropy.io import fits

    primary = fits.PrimaryHDU()
    describe_origin(primary.header, table.title, table.meta)
    hdus = fits.HDUList([primary, _make_hdu(table, path)])
    for hdu in hdus:
        _sign(hdu)
    with quiet():
        hdus.writeto(path, overwrite=True)
    with path.open("ab") as file:
        for image in images:
            file.write(_encode(image))


def _sign(hdu: Any) -> None:
    """Add checksums to an HDU, without the date that astropy would put beside them."""
    with quiet():
        hdu.add_checksum(when="")


def _encode(image: Image) -> bytes:
    """Return an image as an extension of FITS."""
    from astropy.io import fits

    hdu = fits.ImageHDU(image.values, name=image.name)
    if image.version is not None:
        hdu.ver = image.version
    for key, value, comment in image.cards:
        words = _spell(value) if isinstance(value, str) and value else value
        hdu.header[key] = (words, comment)
    _sign(hdu)
    data = image.values.astype(image.values.dtype.newbyteorder(">")).tobytes()
    padding = b"\0" * (-len(data) % _BLOCK)
    return hdu.header.tostring().encode("ascii") + data + padding


def _make_hdu(table: Table, path: Path) -> Any:
    """Make the extension of a table.

    Parameters
    ----------
    table : Table
        The table. Text is written in UTF-8, as astropy does and reads it. Names become ASCII, and
        differ in more than capitals, since those of FITS must.
    path : Path
        The file that it is for, whose suffix warnings name.

    Returns
    -------
    astropy.io.fits.BinTableHDU
        Of each column, ``TUNITn`` is the unit and ``TCOMMn`` the description.
    """
    from astropy.io import fits

    from galfig.tables.formats import warn_of_change

    is_long = {name: len(_spell_name(name)) > _LONGEST_NAME for name in table.columns}
    names = make_distinct(map(_spell_name, table.columns), _LONGEST_NAME)
    # The full name of one that is cut off begins its description.
    described = {
        name: f"{name}: {column.description}".removesuffix(": ")
        if is_long[name]
        else column.description
        for name, column in table.columns.items()
    }
    cut = [name for name in table.columns if is_long[name]]
    words = f"names of columns have at most {_LONGEST_NAME} characters; cut off"
    warn_of_change(path, words, cut)
    changed = [
        name
        for name, new in zip(table.columns, names, strict=True)
        if name != new and not is_long[name]
    ]
    warn_of_change(path, "names of columns are ASCII, whatever their capitals; changed", changed)
    foreign = [name for name, column in table.columns.items() if not _is_ascii(column)]
    warn_of_change(path, "text beyond ASCII is written in UTF-8, which astropy reads", foreign)
    made = make_astropy(table, str.encode)
    made.meta.clear()
    for name, new in zip(list(made.colnames), names, strict=True):
        made[name].unit = None
        words = described[name]
        made[name].description = _spell(words) if words else None
        if name != new:
            made.rename_column(name, new)
    stream = io.BytesIO()
    with quiet():
        # astropy reads the descriptions from comments that only its own writer makes.
        made.write(stream, format="fits")
        stream.seek(0)
        with fits.open(stream, memmap=False) as hdus:
            hdu = hdus[1].copy()
        for number, (name, column) in enumerate(table.columns.items(), 1):
            for key, words in (("TCOMM", described[name]), ("TUNIT", column.unit)):
                if words:
                    after = f"TFORM{number}"
                    hdu.header.set(f"{key}{number}", _spell(words), after=after)
    hdu.name = table.name
    return hdu


def describe_origin(header: Any, title: str, meta: Mapping[str, Any]) -> None:
    """Add to a header what a file was made from: galfig's version, and all of it as JSON."""
    header["TITLE"] = _spell(title)
    header["CREATOR"] = f"galfig {meta.get('galfig_version', '')}".strip()
    # As JSON that escapes what is not ASCII.
    for line in _wrap(f"galfig: {json.dumps(json.loads(dump_json(meta)))}"):
        header.add_history(line)


def _spell(text: str) -> str:
    """Return a text in ASCII that astropy takes for text.

    A card with a word, a colon, a blank and a number is one of two keywords to it (Calabretta et
    al. 2004, "record-valued").
    """
    return _RECORD.sub(r"\1:\2", name_in_ascii(text))


def _spell_name(text: str) -> str:
    """Return the name of a column in ASCII, without the quotation mark, which FITS doubles."""
    return _spell(text).replace("'", "_")


def _wrap(words: str, width: int = 72) -> list[str]:
    """Break words into lines of which none ends in a blank, since FITS drops those."""
    lines = []
    while words:
        stop = len(words[:width].rstrip(" ")) if len(words) > width else len(words)
        lines.append(words[: stop or width])
        words = words[stop or width :]
    return lines


def _is_ascii(column: Any) -> bool:
    cells = read_cells(column)
    return cells.kind != "text" or all(text.isascii() for text in cells.values.tolist())
