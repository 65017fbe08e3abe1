"""Mirror: the parts of a store, kept in a storage that machines without a common folder share.

The folder of the parts stays where it is. Parts are fetched into it before, and put into the
storage as they appear. A storage has no locks: two machines that are given the same shard both
explain it. That costs time only, since both write the same bytes, and each object appears at once.
"""

import logging
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from galfig.errors import OutputError
from galfig.pipeline.parts import Parts
from galfig.runtime.files import replace_file
from galfig.runtime.messages import one_line
from galfig.runtime.progress import track
from galfig.runtime.storage import Address, fetch_object, list_objects, put_object

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{6,9}|outline)\.h5")
# How often the folder is looked through [s].
_PERIOD = 2.0


def fetch_parts(parts: Parts, storage: Address, numbers: Iterable[int] | None = None) -> None:
    """Fetch the outline and parts that are in a storage and not in the folder.

    Parameters
    ----------
    parts : Parts
        The folder.
    storage : Address
        The address that the user gave; parts are in a folder below, with the name of theirs here.
    numbers : iterable of int, optional
        The numbers of the parts to fetch; by default, all.

    Raises
    ------
    OutputError
        If an object cannot be fetched.
    """
    remote = storage / parts.folder.name
    wanted = None if numbers is None else {parts.name(number).name for number in numbers}
    try:
        there = [name for name in sorted(list_objects(remote)) if _NAME.fullmatch(name)]
        lacking = [
            name
            for name in there
            if name == parts.outline.name
            or ((wanted is None or name in wanted) and not (parts.folder / name).exists())
        ]
        for name in track(lacking, "fetching", len(lacking), "parts", leave=False):
            with replace_file(parts.folder / name, if_exists="replace") as temporary:
                fetch_object(remote / name, temporary)
    except OSError as exc:
        raise _blame(remote, "fetched from", exc) from exc


@contextmanager
def mirror_parts(parts: Parts, storage: Address | None, numbers: Iterable[int]) -> Iterator[None]:
    """Fetch what is there of some parts, and put all parts that appear into the storage.

    Parameters
    ----------
    parts : Parts
        The folder of the parts.
    storage : Address or None
        The address that the user gave; None to do nothing.
    numbers : iterable of int
        The numbers of the parts to fetch.

    Raises
    ------
    OutputError
        If a part cannot be fetched, or the storage does not take one at the end. Until then it is
        tried again and again, while others are made.
    """
    if storage is None:
        yield
        return
    fetch_parts(parts, storage, numbers)
    mirror = _Mirror(parts.folder, storage / parts.folder.name)
    watcher = threading.Thread(target=mirror.watch, daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:
        # A job whose time is up leaves what it has made.
        mirror.stop(watcher)
        mirror.try_put()
        raise
    mirror.stop(watcher)
    mirror.put_new()


class _Mirror:
    """Puts the files of a folder into a storage."""

    def __init__(self, folder: Path, remote: Address) -> None:
        self._folder = folder
        self._remote = remote
        self._stopped = threading.Event()
        # What the storage has already.
        sizes = list_objects(remote)
        self._done = {state for state in self._list() if sizes.get(state[0]) == state[1]}

    def put_new(self) -> None:
        """Put the files that are new; raise OutputError where that fails."""
        for state in self._list():
            if state in self._done:
                continue
            try:
                put_object(self._folder / state[0], self._remote / state[0])
            except FileNotFoundError:
                # The build has merged the parts meanwhile, and needs them no more.
                continue
            except OSError as exc:
                raise _blame(self._remote, "written to", exc) from exc
            self._done.add(state)

    def try_put(self) -> None:
        """Put the files that are new; say where that fails."""
        try:
            self.put_new()
        except OutputError as exc:
            logger.warning("%s; trying again", exc)

    def watch(self) -> None:
        """Put files as they appear, until stopped."""
        while not self._stopped.wait(_PERIOD):
            self.try_put()

    def stop(self, watcher: threading.Thread) -> None:
        """Stop to watch, and wait for the file that is being put."""
        self._stopped.set()
        watcher.join()

    def _list(self) -> list[tuple[str, int, int]]:
        """Return name, size and time of each part, of which a new one has another time."""
        found: list[tuple[str, int, int]] = []
        try:
            paths = sorted(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return found
        for path in paths:
            # The build may merge and remove the parts meanwhile.
            with suppress(FileNotFoundError):
                state = path.lstat()
                if _NAME.fullmatch(path.name) and stat.S_ISREG(state.st_mode):
                    found.append((path.name, state.st_size, state.st_mtime_ns))
        return found


def _blame(remote: Address, what: str, exc: OSError) -> OutputError:
    return OutputError(f"{remote}: cannot be {what} ({one_line(exc.strerror or exc)})")
