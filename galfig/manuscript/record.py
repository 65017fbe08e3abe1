"""The record: what each file of a manuscript was made from, kept beside the manifest."""

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
    """A file that a step made: by which recipe, and what it then was."""

    recipe: str
    identity: str


class DrawnFigure(_Table):
    """A figure that was drawn: from what, and what came of it.

    Attributes
    ----------
    spec : dict
        Its entry of the manifest.
    stores : dict of str to str
        Plan digest of each of its stores, by name.
    code : str
        Digest of what draws; see `galfig.manuscript.code.digest_code`.
    galaxies : tuple of str
        Identifiers of the galaxies that it shows one by one.
    files : dict of str to str
        SHA-256 of each file, by its path.
    """

    spec: dict[str, Any]
    stores: dict[str, str]
    code: str
    galaxies: tuple[str, ...]
    files: dict[str, str]


class Record(_Table):
    """``manuscript.lock``."""

    made: dict[str, MadeFile] = {}
    figures: dict[str, DrawnFigure] = {}
    texts: dict[str, str] = {}


def load_record(folder: Path) -> Record:
    """Read the record of a manuscript; an empty one where nothing was built yet."""
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
    """Write the record, the same bytes for the same content."""
    words = json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True)
    with replace_file(folder / FILE_NAME, if_exists="replace") as temporary:
        temporary.write_text(f"{words}\n", encoding="utf-8")


def identify(path: Path) -> str | None:
    """Return what a file is: a store's plan digest, the SHA-256 of another; None where absent."""
    if not path.is_file():
        return None
    if path.suffix == ".h5":
        return read_digest(path)
    return digest_file(path)


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_spec(spec: FigureSpec) -> dict[str, Any]:
    """Return a figure's entry of the manifest as JSON holds it."""
    return spec.model_dump(mode="json")
