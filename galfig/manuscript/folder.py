"""Files of a manuscript: read and written below its folder, without following symbolic links.

A manuscript may come from a stranger, who may have put a link at any place. Every name is therefore
looked up part by part from the folder's own descriptor, and a part that is a link is refused. The
folder itself may be a link, since the user named it.
"""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from galfig.errors import ManuscriptError, OutputError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Opening a named pipe would wait for ever without O_NONBLOCK.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_file(folder: Path, name: str, max_bytes: int) -> bytes | None:
    """Read a file of a manuscript.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    name : str
        The file, relative to the folder.
    max_bytes : int
        Size of the largest file that is read [byte].

    Returns
    -------
    bytes or None
        The content; None if there is no such file.

    Raises
    ------
    ManuscriptError
        If the file or a folder on the way is a link, the file is no regular file, is larger than
        ``max_bytes``, or cannot be read.
    """
    with _open_file(folder, name) as file:
        if file is None:
            return None
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ManuscriptError(
            f"{folder / name}: larger than {max_bytes} bytes, expected a file that galfig wrote"
        )
    return data


def digest_file(folder: Path, name: str) -> str | None:
    """Return the SHA-256 of a file of a manuscript as hexadecimal digits; None if it is missing.

    Raises ManuscriptError where `read_file` does, for a file of any size.
    """
    with _open_file(folder, name) as file:
        if file is None:
            return None
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_file(folder: Path, name: str) -> bool:
    """Return whether a manuscript has a file; raise ManuscriptError where `read_file` does."""
    with _open_file(folder, name) as file:
        return file is not None


@contextmanager
def replace_file(folder: Path, name: str) -> Iterator[BinaryIO]:
    """Provide a new file in a manuscript, which gets its name when the block succeeds.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    name : str
        The file, relative to the folder. Its folders are created if they are missing.

    Yields
    ------
    BinaryIO
        The new file, under a temporary name beside the final one.

    Raises
    ------
    OutputError
        If the file or a folder on the way is a link, the file exists and is no regular file, or it
        cannot be written.
    """
    path = PurePosixPath(name)
    temporary = f".{path.name}.{secrets.token_hex(4)}.tmp{path.suffix}"
    try:
        with _open_parent(folder, path, create=True) as parent:
            _require_plain(parent, path.name, folder / name)
            try:
                with os.fdopen(os.open(temporary, _NEW_FILE, 0o666, dir_fd=parent), "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, path.name, src_dir_fd=parent, dst_dir_fd=parent)
            finally:
                _remove(temporary, parent)
    except ManuscriptError as exc:
        raise OutputError(str(exc)) from exc
    except OSError as exc:
        if isinstance(exc, OutputError):
            raise
        raise OutputError(f"{folder / name}: cannot be written ({exc.strerror})") from exc


def require_own(folder: Path, name: str, *, recursive: bool = False) -> None:
    """Raise ManuscriptError if a name in a manuscript leads through a link or to a special file.

    Nothing needs to exist: what is missing leads nowhere.

    Parameters
    ----------
    folder : Path
        The manuscript's folder.
    name : str
        A file or folder, relative to the manuscript's folder.
    recursive : bool, default False
        Also look at everything below it.
    """
    path = PurePosixPath(name)
    try:
        with _open_parent(folder, path) as parent:
            kind = _require_plain(parent, path.name, folder / name)
            if not recursive or kind is None or not stat.S_ISDIR(kind):
                return
            handle = os.open(path.name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
            try:
                names = [entry.name for entry in os.scandir(handle)]
            finally:
                os.close(handle)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise ManuscriptError(f"{folder / name}: cannot be read ({exc.strerror})") from exc
    for below in names:
        require_own(folder, f"{name}/{below}", recursive=True)


@contextmanager
def _open_file(folder: Path, name: str) -> Iterator[BufferedReader | None]:
    """Open a regular file for reading; None if there is none."""
    path = PurePosixPath(name)
    try:
        with _open_parent(folder, path) as parent:
            _require_plain(parent, path.name, folder / name, only_file=True)
            file = os.fdopen(os.open(path.name, _FILE, dir_fd=parent), "rb")
    except FileNotFoundError:
        yield None
        return
    except OSError as exc:
        raise ManuscriptError(f"{folder / name}: cannot be read ({exc.strerror})") from exc
    with file:
        yield file


@contextmanager
def _open_parent(folder: Path, path: PurePosixPath, *, create: bool = False) -> Iterator[int]:
    """Give a descriptor of the folder that holds a path, and refuse links on the way to it."""
    handle = os.open(folder, _FOLDER)
    try:
        for number, part in enumerate(path.parts[:-1], 1):
            if create:
                _make_folder(part, handle)
            try:
                below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            except OSError as exc:
                # Linux says of a link that it is no folder, other systems that it is a link.
                if exc.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EMLINK):
                    raise
                where = folder.joinpath(*path.parts[:number])
                _require_plain(handle, part, where)
                raise ManuscriptError(f"{where}: is a file, expected a folder") from exc
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _require_plain(parent: int, name: str, where: Path, *, only_file: bool = False) -> int | None:
    """Return the mode of a file or folder, None if absent; refuse links and special files."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(mode):
        raise ManuscriptError(
            f"{where}: is a symbolic link, which a manuscript may not contain there; put the file "
            "or folder itself in its place"
        )
    if not stat.S_ISREG(mode) and (only_file or not stat.S_ISDIR(mode)):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise ManuscriptError(f"{where}: is {kind}, expected a file")
    return mode


def _make_folder(name: str, parent: int) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        # What exists is opened as a folder next, which fails if it is something else.
        return


def _remove(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
