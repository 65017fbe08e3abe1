"""Atomic files and folders, which are either complete or absent.

While a file is being written, it is named ``.<name>.<random>.tmp<suffix>`` in the same folder; a
folder has no suffix.
"""

import glob
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from galfig.errors import OutputError
from galfig.runtime.messages import quote, require_choice

# What to do if a file already exists. "error" refuses. "update" replaces it only if its inputs have
# changed. "replace" always replaces it.
IfExists = Literal["error", "update", "replace"]
# The same for a file that does not record what it was made from.
ErrorOrReplace = Literal["error", "replace"]


@contextmanager
def replace_file(path: Path, *, if_exists: ErrorOrReplace = "error") -> Iterator[Path]:
    """Provide a temporary file beside ``path``, and rename it to ``path`` if the block succeeds.

    Parameters
    ----------
    path : Path
        The final name. Its folder is created if it is missing. If it is a symbolic link, the file
        that it leads to is replaced, and the link stays: it may lead to a larger disk.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file already exists.

    Yields
    ------
    Path
        A new empty file with the same suffix, which is removed if the block fails.

    Raises
    ------
    OutputError
        If the file exists and must not be replaced, or if the folder or file cannot be written.
    """
    path = Path(path)
    check_output(path, if_exists=if_exists)
    if path.is_symlink():
        # Unlike Path.resolve, this does not raise for a link to itself, which is then replaced.
        path = Path(os.path.realpath(path))
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


@contextmanager
def replace_folder(
    path: Path, *, find_foreign: Callable[[Path], str], if_exists: ErrorOrReplace = "error"
) -> Iterator[Path]:
    """Provide a temporary folder beside ``path``, and rename it to ``path`` if the block succeeds.

    An empty folder of that name may be anybody's, and is replaced in any case.

    Parameters
    ----------
    path : Path
        The final name. The folder around it is created if it is missing. If it is a symbolic link,
        the folder that it leads to is replaced, and the link stays.
    find_foreign : callable
        Takes a folder that would be replaced, and returns the name of something in it that the
        caller did not write; "" if there is nothing. Such a folder is never removed.
    if_exists : {"error", "replace"}, default "error"
        What to do if the folder already exists.

    Yields
    ------
    Path
        A new empty folder, which is removed if the block fails.

    Raises
    ------
    OutputError
        If the folder exists and must not be replaced, or cannot be written.
    """
    path = Path(path)
    check_folder(path, find_foreign=find_foreign, if_exists=if_exists)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    temporary, former = (
        path.with_name(f".{path.name}.{secrets.token_hex(4)}.{kind}") for kind in ("tmp", "old")
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        if path.exists() and any(path.iterdir()):
            path.rename(former)
        temporary.rename(path)
    except OSError as exc:
        if exc.errno is None:
            raise
        raise OutputError(f"{path}: cannot be written ({exc.strerror})") from exc
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if former.exists() and not path.exists():
            former.rename(path)
        shutil.rmtree(former, ignore_errors=True)


def check_folder(
    path: Path, *, find_foreign: Callable[[Path], str], if_exists: ErrorOrReplace = "error"
) -> None:
    """Check that a folder may be written.

    Parameters
    ----------
    path, find_foreign, if_exists
        See `replace_folder`.

    Raises
    ------
    OutputError
        If the path is no folder, holds what the caller did not write, exists and must not be
        replaced, or if the folder around it may not be written to; see also `check_home` and
        `check_named`.
    ConfigError
        If ``if_exists`` is none of its choices.
    """
    require_choice("if_exists", if_exists, get_args(ErrorOrReplace))
    check_home(path)
    check_named(path)
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"{path}: is no folder, expected the name of one")
    if path.is_dir() and any(path.iterdir()):
        if foreign := find_foreign(path):
            raise OutputError(
                f"{path}: holds {quote(foreign)}, which galfig did not write there; choose another "
                "`path`"
            )
        if if_exists == "error":
            raise OutputError(f'{path}: already exists; use `if_exists="replace"` to replace it')
    _check_around(path)


def remove_leftovers(path: Path) -> None:
    """Remove incomplete files that killed processes left beside a file.

    Call this only while no other process can write the file; see `galfig.runtime.lock`.

    Parameters
    ----------
    path : Path
        The final name of the file.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp{glob.escape(path.suffix)}"):
        leftover.unlink(missing_ok=True)


def check_output(
    path: Path,
    *,
    if_exists: IfExists = "error",
    advice: str = 'use `if_exists="replace"` to replace it',
) -> None:
    """Check that a file may be written.

    Parameters
    ----------
    path : Path
        The file.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if it already exists.
    advice : str, optional
        What the caller can do about it, for the message.

    Raises
    ------
    OutputError
        If the path is a folder, a device, a pipe or a socket, the file exists and must not be
        replaced, or the folder around it may not be written to; see also `check_home`.
    ConfigError
        If ``if_exists`` is none of its choices.
    """
    require_choice("if_exists", if_exists, get_args(IfExists))
    check_home(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected a file name")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: is a device, pipe or socket, expected a file name")
    if path.exists() and if_exists == "error":
        raise OutputError(f"{path}: already exists; {advice}")
    _check_around(path)


def check_apart(path: Path, inputs: Iterable[Path]) -> None:
    """Check that a file to be written is none of those that it is made from.

    Parameters
    ----------
    path : Path
        The file.
    inputs : iterable of Path
        Files that are read.

    Raises
    ------
    OutputError
        If the path is one of them, by whatever name.
    """
    for one in inputs:
        try:
            is_same = path == one or path.samefile(one)
        except OSError:
            # Either is missing. Whoever reads or writes it says what is wrong.
            continue
        if is_same:
            raise OutputError(f"{path}: is one of the inputs, expected another file to write")


def check_parts(folder: Path) -> None:
    """Check that a folder of parts of an unfinished file may be written, and later removed.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist.

    Raises
    ------
    OutputError
        If it is a link or a file, which may be anybody's.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        kind = "a symbolic link" if folder.is_symlink() else "a file"
        raise OutputError(f"{folder}: is {kind}, expected a folder for parts; move it away")


def check_home(path: Path) -> None:
    """Check that a path does not begin with a '~' that only a shell would replace.

    Otherwise a folder of that name would be made in the working directory.

    Parameters
    ----------
    path : Path
        The file or folder to be made.

    Raises
    ------
    OutputError
        If the first part begins with '~', and there is no such folder.
    """
    first = path.parts[0] if len(path.parts) > 1 else ""
    if first.startswith("~") and not Path(first).is_dir():
        home = os.path.expanduser(path)  # noqa: PTH111
        raise OutputError(
            f"{path}: there is no folder {first!r} here, expected a path; only a shell takes '~' "
            f"for the home folder, write {home}"
        )


def check_named(path: Path) -> None:
    """Check that a folder is not the working directory or one around it, which none can rename.

    Parameters
    ----------
    path : Path
        The folder to be made, which is written beside its place and renamed.

    Raises
    ------
    OutputError
        If it is one of them, by whatever name.
    """
    if path.is_dir() and Path.cwd().is_relative_to(os.path.realpath(path)):
        raise OutputError(
            f"{path}: is the working directory or around it, expected another folder to write; "
            "name one, such as new"
        )


def _check_around(path: Path) -> None:
    """Raise OutputError if the folder around a path may not be written to."""
    # Folders that are missing are made in the nearest that is there.
    around = Path(os.path.realpath(path)).parents
    home = next((folder for folder in around if os.path.lexists(folder)), Path())
    if not home.is_dir():
        raise OutputError(f"{path}: cannot be written ({home} is no folder)")
    if not os.access(home, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be written (no permission to write in {home})")


def _create_beside(path: Path) -> Path:
    """Create an empty file under a random name, with the permissions that the umask allows.

    Files of `tempfile` are readable by their owner only. Widening their permissions needs the
    umask, which cannot be read without setting it for all threads.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return temporary


def _flush(path: Path) -> None:
    """Flush a file to disk, so that its content is safe before it gets its final name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
