"""The record of a build: what each file of a manuscript was made from."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from galfig.errors import ManuscriptError
from galfig.manuscript.folder import digest_file, read_file, replace_file
from galfig.manuscript.manifest import RECORD, FigureSpec
from galfig.store.audits import is_audit, read_audit_identity
from galfig.store.content import read_content
from galfig.store.reader import read_digest

# An atlas of a million galaxies, each of which the record names, has less [byte].
MAX_BYTES = 1 << 26


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
        Plan digest of each of its stores, and digest of each of its audits, by name; and the
        SHA-256 of each list of galaxies, by ``@FILE``.
    content : dict of str to dict of str to str
        Digest of each part of the content of its stores, by name and part; see
        `galfig.store.content`. Empty in the records of older versions.
    code : str
        Digest of the code that drew it; see `galfig.manuscript.code.digest_code`.
    galaxies : tuple of str
        Identifiers of the galaxies that the figure shows individually.
    files : dict of str to str
        SHA-256 of each file that was written, by path.
    """

    spec: dict[str, Any]
    stores: dict[str, str]
    content: dict[str, dict[str, str]] = {}
    code: str
    galaxies: tuple[str, ...]
    files: dict[str, str]


class StoreIdentity(NamedTuple):
    """What identifies a store or an audit.

    Attributes
    ----------
    plan : str
        Its plan digest; the digest of what an audit was made from.
    content : dict of str to str
        Digest of each part of its content; see `galfig.store.content.read_content` and
        `galfig.store.audits.read_audit_identity`.
    """

    plan: str
    content: dict[str, str]


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
        If the file is not a record, or a symbolic link.
    """
    data = read_file(folder, RECORD, MAX_BYTES)
    if data is None:
        return Record()
    try:
        return Record.model_validate_json(data)
    except ValidationError as exc:
        raise ManuscriptError(
            f"{folder / RECORD}: not a galfig record; remove it and build the manuscript again"
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
    with replace_file(folder, RECORD) as file:
        file.write(f"{words}\n".encode())


def identify(folder: Path, name: str) -> str | None:
    """Return the identity of a file of a manuscript.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    name : str
        The file, relative to the folder.

    Returns
    -------
    str or None
        The plan digest of a store, what an audit was made from, or the SHA-256 of any other file.
        None if the file is missing, or is a store or an audit that cannot be read.

    Raises
    ------
    ManuscriptError
        If the name leads through a symbolic link, and is not that of a store, which is only read.
    """
    path = folder / name
    if path.suffix in (".h5", ".hdf5"):
        if not path.is_file():
            return None
        found = read_audit_identity(path) if is_audit(path) else None
        return found[0] if found else read_digest(path)
    return digest_file(folder, name)


def identify_store(folder: Path, name: str) -> StoreIdentity | None:
    """Return the identity of a store of a manuscript; None if it is missing or cannot be read.

    A store may be a symbolic link, such as one to another disk: it is only read.
    """
    path = folder / name
    plan = read_digest(path) if path.is_file() else None
    content = None if plan is None else read_content(path)
    return None if plan is None or content is None else StoreIdentity(plan, content)


def identify_audit(folder: Path, name: str) -> StoreIdentity | None:
    """Return the identity of an audit of a manuscript; None if it is missing or cannot be read."""
    path = folder / name
    found = read_audit_identity(path) if path.is_file() else None
    return None if found is None else StoreIdentity(*found)


def describe_spec(spec: FigureSpec) -> dict[str, Any]:
    """Return a figure's entry in the manifest as JSON can hold it."""
    # Records from before these settings of a figure were there stay up to date.
    new = ("classes", "audit", "column", "statistic", "map")
    left_out = {key for key in new if not getattr(spec, key)}
    style = spec.style.model_dump(mode="json", exclude_defaults=True)
    return spec.model_dump(mode="json", exclude={*left_out, "style"}) | (
        {"style": style} if style else {}
    )
