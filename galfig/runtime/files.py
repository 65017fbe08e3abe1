"""Files that are either complete or absent.

What is being written has the name ``.<name>.<random>.tmp<suffix>`` in the same folder.
"""

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from galfig.errors import OutputError


@contextmanager
def replace_file(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``, and rename it into place when the block succeeds.

    Parameters
    ----------
    path : Path
        The final name; its folder is made if it is absent.
    overwrite : bool, default True
        Without, a file that is there is left alone.

    Yields
    ------
    Path
        A new empty file with the same suffix; removed if the block fails.

    Raises
    ------
    OutputError
        The file is there and ``overwrite`` is false, or the folder or file cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=f".tmp{path.suffix}", dir=path.parent
        )
        os.close(handle)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be written ({exc.strerror})") from exc
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp keeps others out; a finished file is as readable as any new file.
        temporary.chmod(0o666 & ~_umask())
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
    path: Path, *, overwrite: bool, advice: str = 'use `if_exists="replace"` to replace it'
) -> None:
    """Raise OutputError where a file is there that must not be replaced."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected a file name")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: already exists; {advice}")


def _flush(path: Path) -> None:
    """Have the disk hold a file's content before the file gets its name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
