"""The manifest: which cutouts of a folder are there, as a CSV file that only grows.

Each line is written after its file got its name. A process that is killed may leave a last line
that is torn, which is cut off before the next is written, or a file without a line, which is
checked again.
"""

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from galfig.errors import OutputError, SurveyError
from galfig.runtime.files import check_output, replace_file
from galfig.runtime.inputs import read_regular
from galfig.survey.service import Target

MANIFEST, FAILED = "manifest.csv", "failed.csv"
_HEADER = ("objID", "file", "bytes", "sha256", "fetched")
_NUMBER, _DAY = re.compile(r"[0-9]{1,12}"), re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Lines of ten million galaxies.
MAX_BYTES = 2_000_000_000


class Entry(NamedTuple):
    """A file that was checked.

    Attributes
    ----------
    objid : str
        The galaxy.
    file : str
        Path of the file, relative to the folder.
    n_bytes : int
        Its size [byte].
    sha256 : str
        Its digest.
    fetched : str
        The day, as YYYY-MM-DD.
    """

    objid: str
    file: str
    n_bytes: int
    sha256: str
    fetched: str


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Read the manifest of a folder.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    dict of str to Entry
        The last entry of each file, by its path; nothing if there is no manifest. A line that is no
        entry is left out, so that its file is checked again.

    Raises
    ------
    SurveyError
        If the file cannot be read.
    """
    path = folder / MANIFEST
    try:
        data = read_regular(path, MAX_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise SurveyError(f"{path}: cannot be read ({exc.strerror})") from exc
    # What follows the last end of a line is torn.
    text = data[: data.rfind(b"\n") + 1].decode("utf-8", errors="replace")
    entries = map(_parse, text.split("\n"))
    return {entry.file: entry for entry in entries if entry is not None}


def is_manifest(folder: Path) -> bool:
    """Return whether a folder has a manifest that begins as those of galfig do.

    Parameters
    ----------
    folder : Path
        The folder.
    """
    header = _write_line(_HEADER)
    try:
        return read_regular(folder / MANIFEST, MAX_BYTES)[: len(header)] == header
    except OSError:
        return False


def _parse(line: str) -> Entry | None:
    """Return the entry of a line; None for one that is torn, or that galfig did not write."""
    try:
        # Each line by itself, so that a quote that is torn takes no line with it.
        row = next(csv.reader([line]), [])
    except csv.Error:
        return None
    is_entry = len(row) == len(_HEADER) and _NUMBER.fullmatch(row[2]) and _DAY.fullmatch(row[4])
    return Entry(row[0], row[1], int(row[2]), row[3], row[4]) if is_entry else None


class Manifest:
    """A manifest that is open to be added to; `open_manifest` opens it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def add(self, entry: Entry) -> None:
        """Write the line of a file that has its name."""
        os.write(self._handle, _write_line(entry))


@contextmanager
def open_manifest(folder: Path) -> Iterator[Manifest]:
    """Open the manifest of a folder to be added to, and cut off a last line that is torn.

    Parameters
    ----------
    folder : Path
        The folder, which exists.

    Yields
    ------
    Manifest

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = folder / MANIFEST
    check_output(path, if_exists="replace")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            end = _find_end(handle)
            os.ftruncate(handle, end)
            if end == 0:
                os.write(handle, _write_line(_HEADER))
            yield Manifest(handle)
        finally:
            os.close(handle)
    except OSError as exc:
        if exc.errno is None:
            raise
        raise OutputError(f"{path}: cannot be written ({exc.strerror})") from exc


def _find_end(handle: int, block: int = 1 << 16) -> int:
    """Return where the last whole line of a file ends."""
    end = os.lseek(handle, 0, os.SEEK_END)
    while end:
        start = max(0, end - block)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def write_failures(folder: Path, failures: Iterable[tuple[Target, str]]) -> None:
    """Write the galaxies whose cutout could not be fetched, and why; remove the file if none is.

    Parameters
    ----------
    folder : Path
        The folder.
    failures : iterable of (Target, str)
        Each galaxy with its reason; its position is NaN where the catalog has none.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    path = folder / FAILED
    lines = [
        _write_line((target.objid, *map(_write_degrees, target[1:]), reason))
        for target, reason in failures
    ]
    if not lines:
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise OutputError(f"{path}: cannot be removed ({exc.strerror})") from exc
        return
    with replace_file(path, if_exists="replace") as temporary:
        temporary.write_bytes(b"".join([_write_line(("objID", "ra", "dec", "reason")), *lines]))


def _write_degrees(value: float) -> float | str:
    """Return a coordinate, or nothing where the catalog has none."""
    return "" if math.isnan(value) else value


def _write_line(cells: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
