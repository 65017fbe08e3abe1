"""Storage: objects that are no files of this machine, by addresses such as ``s3://bucket/cutouts``.

fsspec knows the protocols. galfig opens an address only where the user typed it. What a file says
(settings, catalogs, stores, manuscripts) never is one.
"""

import errno
import importlib.util
import os
import posixpath
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from galfig.errors import ConfigError
from galfig.runtime.files import replace_file
from galfig.runtime.inputs import UnusableFileError
from galfig.runtime.messages import one_line, quote

# A protocol of two letters or more: one would be a drive of Windows.
_ADDRESS = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
# What may be a password or a key: before "@", also with a slash in it, and behind "?".
_SECRET = re.compile(r"://[^/]*@|://[^/]*:(?!\d+(?:/|$))[^@]*@|\?")
# How often an object is asked for, and the wait before the second time [s]; each wait is four times
# that before it. The clients of object stores try several times themselves.
_N_TRIES, _WAIT = 3, 0.25


@dataclass(frozen=True)
class Address:
    """An object, or a folder of objects.

    Attributes
    ----------
    root : str
        The address that the user typed.
    path : str
        The place below it; "" for the root itself.
    """

    root: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.root}/{self.path}" if self.path else self.root

    def __truediv__(self, other: str) -> "Address":
        path = posixpath.normpath(posixpath.join(self.path, other.lstrip("/")))
        if path == ".." or path.startswith("../"):
            raise ValueError(f"{quote(other)} leads out of {self.root}")
        return Address(self.root, "" if path == "." else path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path) or posixpath.basename(self.root)

    @property
    def parent(self) -> "Address":
        """The folder that the object is in; the root is its own."""
        return Address(self.root, posixpath.dirname(self.path))


def is_address(words: object) -> bool:
    """Return whether a text is an address, and not a path."""
    return isinstance(words, str) and _ADDRESS.fullmatch(words) is not None


def quote_address(words: str) -> str:
    """Return an address for a message, without what may be a password or a key."""
    return f"{words.partition(':')[0]}://..." if _SECRET.search(words) else quote(words)


def find_folder(words: Path | str, parameter: str) -> Path | Address:
    """Return the folder that the user typed, which may be an address.

    Parameters
    ----------
    words : Path or str
        A path, or an address such as ``s3://bucket/cutouts``.
    parameter : str
        The parameter, for messages.

    Returns
    -------
    Path or Address

    Raises
    ------
    ConfigError
        As of `find_place`.
    """
    return find_place(str(words), parameter) if is_address(words) else Path(words)


def find_place(words: str, parameter: str) -> Path | Address:
    """Return what an address that the user typed leads to.

    Parameters
    ----------
    words : str
        Such as ``s3://bucket/cutouts``.
    parameter : str
        The parameter, for messages.

    Returns
    -------
    Path or Address
        A path for ``file:///folder``, which is one of this machine, with its links.

    Raises
    ------
    ConfigError
        As of `parse_address`.
    """
    protocol, _, rest = words.partition("://")
    if protocol.lower() not in ("file", "local"):
        return parse_address(words, parameter)
    if not rest.startswith("/"):
        raise ConfigError(
            f"`{parameter}` {quote(words)}: expected a path from the root on, such as "
            "file:///data/cutouts"
        )
    return Path(rest)


def parse_address(words: str, parameter: str) -> Address:
    """Parse an address that the user typed.

    Parameters
    ----------
    words : str
        Such as ``s3://bucket/cutouts``.
    parameter : str
        The parameter, for messages.

    Returns
    -------
    Address

    Raises
    ------
    ConfigError
        If it holds a password or a key, or several addresses; or if its protocol is unknown or
        needs a library that is not installed. A password is not repeated in the message.
    """
    if _SECRET.search(words):
        raise ConfigError(
            f"`{parameter}`: an address with a name, password or key in it (before '@' or behind "
            "'?'), expected none; give it to the library of that storage by its own variables or "
            "files"
        )
    found = _ADDRESS.fullmatch(words)
    if found is None or not words.isprintable():
        raise ConfigError(f"`{parameter}` {quote(words)}: expected an address such as s3://bucket")
    rest = found["rest"]
    if "::" in words or not rest.strip("/") or ".." in rest.split("/"):
        raise ConfigError(
            f"`{parameter}` {quote(words)}: expected one address, such as s3://bucket"
        )
    if importlib.util.find_spec("fsspec") is None:
        raise ConfigError(f"`{parameter}` needs fsspec; pip install 'galfig[storage]'")
    address = Address(words.rstrip("/"))
    _open_storage(address.root, os.getpid(), parameter)
    return address


@lru_cache(maxsize=16)
def _open_storage(root: str, pid: int, parameter: str = "storage") -> tuple[Any, str]:
    """Return the file system of an address, and its path there, for one process.

    The connections of a process do not serve one that was forked from it.
    """
    from fsspec.core import url_to_fs

    try:
        storage, path = url_to_fs(root)
    except ImportError as exc:
        raise ConfigError(
            f"`{parameter}` {quote(root)}: {one_line(exc)}; pip install 'galfig[storage]', or the "
            "library of that protocol"
        ) from exc
    except Exception as exc:
        # Each protocol has errors of its own.
        raise ConfigError(
            f"`{parameter}` {quote(root)}: cannot be opened ({one_line(exc)})"
        ) from exc
    return storage, str(path).rstrip("/")


def list_objects(folder: Address) -> dict[str, int]:
    """Return the names and sizes of the objects in a folder; nothing if there is no such folder.

    Parameters
    ----------
    folder : Address
        The folder. It is listed at once: an object store gives a thousand names per request.

    Returns
    -------
    dict of str to int
        Sizes by name [byte]; -1 where the storage does not say it.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """

    def ask(storage: Any, path: str) -> Any:
        try:
            return storage.ls(path, detail=True, refresh=True)
        except TypeError:
            # Not all file systems of fsspec have a cache to refresh.
            return storage.ls(path, detail=True)

    try:
        entries = _ask(folder, ask)
    except FileNotFoundError:
        return {}
    found = {
        one["name"].rstrip("/").rpartition("/")[2]: one.get("size")
        for one in entries
        if one["type"] == "file"
    }
    return {name: -1 if size is None else int(size) for name, size in found.items() if name}


def read_object(address: Address, max_bytes: int) -> bytes:
    """Read an object.

    Parameters
    ----------
    address : Address
        The object.
    max_bytes : int
        Size of the largest that is read [byte].

    Returns
    -------
    bytes

    Raises
    ------
    UnusableFileError
        If it is larger.
    OSError
        If it is missing, may not be read, or the storage does not answer after several tries.
    """

    def ask(storage: Any, path: str) -> Any:
        # One request, which asks for a byte more than may be there.
        return storage.cat_file(path, start=0, end=max_bytes + 1)

    try:
        data: bytes = _ask(address, ask)
    except OSError as exc:
        # Of an empty object there is no first byte.
        if isinstance(exc, FileNotFoundError | PermissionError) or _ask(address, _measure) != 0:
            raise
        return b""
    if len(data) > max_bytes:
        raise UnusableFileError(
            errno.EFBIG, f"more than {max_bytes} bytes, expected at most that many", str(address)
        )
    return data


def _measure(storage: Any, path: str) -> Any:
    return storage.size(path)


def _ask(address: Address, ask: Any) -> Any:
    """Ask a storage, several times where it fails; raise OSError with a number if it does not."""
    storage, root = _open_storage(address.root, os.getpid())
    path = f"{root}/{address.path}" if address.path else root
    for n_tries in range(1, _N_TRIES + 1):
        try:
            return ask(storage, path)
        except FileNotFoundError:
            _fail(errno.ENOENT, "no such object", address)
        except PermissionError as exc:
            _fail(errno.EACCES, one_line(exc), address)
        except Exception as exc:
            # Each protocol has errors of its own, and most pass.
            if n_tries == _N_TRIES:
                _fail(errno.EIO, f"the storage does not answer: {one_line(exc)}", address)
        time.sleep(_WAIT * 4 ** (n_tries - 1))
    raise AssertionError


def _fail(number: int, reason: str, address: Address) -> NoReturn:
    raise OSError(number, reason, str(address)) from None


def fetch_object(address: Address, path: Path) -> None:
    """Copy an object into a file; raise OSError as `read_object`, or if it cannot be written."""
    _ask(address, lambda storage, name: storage.get_file(name, str(path)))


def put_object(path: Path, address: Address) -> None:
    """Copy a file into a storage.

    In an object store and on this machine it appears when it is complete, and replaces one of its
    name at once.

    Parameters
    ----------
    path : Path
        The file.
    address : Address
        The object that it becomes.

    Raises
    ------
    OSError
        If the storage does not take it after several tries.
    """

    from fsspec.implementations.local import LocalFileSystem

    def put(storage: Any, name: str) -> None:
        if getattr(storage, "auto_mkdir", None) is False:
            # A file system; an object store has no folders to make.
            storage.makedirs(posixpath.dirname(name), exist_ok=True)
        if not isinstance(storage, LocalFileSystem):
            storage.put_file(str(path), name)
            return
        with replace_file(Path(name), if_exists="replace") as temporary:
            storage.put_file(str(path), str(temporary))

    _ask(address, put)
