"""Verifying stores, checkpoints and manuscripts against their own digests."""

from pathlib import Path

from galfig.errors import CheckpointError, GalfigError, OutputError
from galfig.info import EXPECTED, find_kind
from galfig.runtime.messages import CHECKSUM_MISMATCH
from galfig.store.reader import verify_store


def verify_path(path: Path) -> list[str]:
    """Verify a store, a checkpoint or a manuscript's folder against its own digests.

    Parameters
    ----------
    path : Path
        A file written by ``galfig build-maps`` or ``galfig train``, or the folder of a manuscript.

    Returns
    -------
    list of str
        One line for each item that differs from what was written; empty if everything matches.

    Raises
    ------
    OutputError
        If there is no such file.
    """
    if not path.exists():
        raise OutputError(f"{path}: no such file, expected {EXPECTED}")
    try:
        kind = find_kind(path)
        if kind == "manuscript":
            return _verify_manuscript(path)
        return verify_store(path) if kind == "store" else _verify_checkpoint(path)
    except GalfigError as exc:
        # The advice to run this command would be circular here.
        advice = f"; 'galfig verify {path}' says what is"
        return [str(exc).removeprefix(f"{path}: ").removesuffix(advice)]


def _verify_checkpoint(path: Path) -> list[str]:
    # torch takes seconds to import, and only checkpoints need it.
    from galfig.networks.checkpoint import load_checkpoint

    if load_checkpoint(path).record.digest is None:
        raise CheckpointError(f"{path}: no digest, expected one; it was trained by an older galfig")
    return []


def _verify_manuscript(folder: Path) -> list[str]:
    """Compare the files of a manuscript with the record of its build; stores may be missing."""
    from galfig.manuscript.folder import digest_file
    from galfig.manuscript.record import identify, load_record

    record = load_record(folder)
    if not record.figures:
        return [f"no record of a build, expected one; run 'galfig manuscript build {folder}'"]
    recorded = dict(record.texts)
    for figure in record.figures.values():
        recorded |= figure.files
    found = []
    for name, sha256 in recorded.items():
        digest = digest_file(folder, name)
        if digest is None:
            found.append(f"{name}: missing")
        elif digest != sha256:
            found.append(f"{name}: {CHECKSUM_MISMATCH}")
    for name, made in record.made.items():
        # A file that a recipe can make again may be missing.
        if (folder / name).is_file() and identify(folder, name) != made.identity:
            found.append(f"{name}: not what its recipe made")
    return found
