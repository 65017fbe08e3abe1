"""The record of a build: what each file of a manuscript was made from."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from galfig.errors import ManuscriptError
from galfig.manuscript.manifest import FigureSpec
from galfig.runtime.files import replace_file
from galfig.store.reader import read_digest

FILE_NAME = "manuscript.lock"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MadeFile(_Table):
    """A file that a step made.

    Attributes
    ----------
    recipe : str
        Digest of the recipe; see `galfig.manuscript.steps`.
    identity : str
        Identity of the file at that time; see `identify`.
    """

    recipe: str
    identity: str


class DrawnFigure(_Table):
    """A figure that was drawn, with its inputs and outputs.

    Attributes
    ----------
    spec : dict
        The figure's entry in the manifest.
    stores : dict of str to str
        Plan digest of each of its stores, by name.
    code : str
        Digest of the code that drew it; see `galfig.manuscript.code.digest_code`.
    galaxies : tuple of str
        Identifiers of the galaxies that the figure shows individually.
    files : dict of str to str
        SHA-256 of each file that was written, by path.
    """

    spec: dict[str, Any]
    stores: dict[str, str]
    code: str
    galaxies: tuple[str, ...]
    files: dict[str, str]


class Record(_Table):
    """The content of ``manuscript.lock``.

    Attributes
    ----------
    made : dict of str to MadeFile
        Files that steps made, by path.
    figures : dict of str to DrawnFigure
        Figures, by name.
    texts : dict of str to str
        SHA-256 of ``values.tex`` and ``galaxies.tex``, by path.
    """

    made: dict[str, MadeFile] = {}
    figures: dict[str, DrawnFigure] = {}
    texts: dict[str, str] = {}


def load_record(folder: Path) -> Record:
    """Read the record of a manuscript.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.

    Returns
    -------
    Record
        The record; an empty one if nothing has been built yet.

    Raises
    ------
    ManuscriptError
        If the file is not a record.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return Record()
    try:
        return Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as exc:
        raise ManuscriptError(
            f"{path}: not a galfig record; remove it and build the manuscript again"
        ) from exc


def save_record(folder: Path, record: Record) -> None:
    """Write the record of a manuscript, with the same bytes for the same content.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    record : Record
        The record.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    words = json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True)
    with replace_file(folder / FILE_NAME, if_exists="replace") as temporary:
        temporary.write_text(f"{words}\n", encoding="utf-8")


def identify(path: Path) -> str | None:
    """Return the identity of a file.

    Parameters
    ----------
    path : Path
        A file.

    Returns
    -------
    str or None
        The plan digest of a store, or the SHA-256 of any other file. None if the file is missing,
        or is a store that cannot be read.
    """
    if not path.is_file():
        return None
    if path.suffix == ".h5":
        return read_digest(path)
    return digest_file(path)


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_spec(spec: FigureSpec) -> dict[str, Any]:
    """Return a figure's entry in the manifest as JSON can hold it."""
    return spec.model_dump(mode="json")
