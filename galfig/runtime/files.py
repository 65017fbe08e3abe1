"""Files that are either complete or absent.

What is being written has the name ``.<name>.<random>.tmp<suffix>`` in the same folder.
"""

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from galfig.errors import OutputError

# What to do where a file is there already: refuse; replace one that was made from something else
# and keep one that was not; replace any.
IfExists = Literal["error", "update", "replace"]
# The same for a file that does not say what it was made from.
ErrorOrReplace = Literal["error", "replace"]


@contextmanager
def replace_file(path: Path, *, if_exists: ErrorOrReplace = "error") -> Iterator[Path]:
    """Give a temporary path beside ``path``, and rename it into place when the block succeeds.

    Parameters
    ----------
    path : Path
        The final name; its folder is made if it is absent.
    if_exists : {"error", "replace"}, default "error"
        What to do where a file is there.

    Yields
    ------
    Path
        A new empty file with the same suffix; removed if the block fails.

    Raises
    ------
    OutputError
        The file is there and not to be replaced, or the folder or file cannot be written.
    """
    path = Path(path)
    check_output(path, if_exists=if_exists)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _create_beside(path)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror})") from exc
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except OSError as exc:
        if exc.errno is None:
            raise
        raise OutputError(f"{path}: cannot be written ({exc.strerror})") from exc
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed left half-written beside a file.

    Only for who knows that nobody else writes it: see `galfig.runtime.lock`.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp{glob.escape(path.suffix)}"):
        leftover.unlink(missing_ok=True)


def check_output(
    path: Path,
    *,
    if_exists: IfExists = "error",
    advice: str = 'use `if_exists="replace"` to replace it',
) -> None:
    """Raise OutputError where a file is there that must not be replaced."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected a file name")
    if path.exists() and if_exists == "error":
        raise OutputError(f"{path}: already exists; {advice}")


def _create_beside(path: Path) -> Path:
    """Create an empty file under a random name, as readable as any new file of this process.

    tempfile's are the owner's alone; and whoever asks for the umask, to widen them, has to set it
    for all threads.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _flush(path: Path) -> None:
    """Have the disk hold a file's content before the file gets its name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
