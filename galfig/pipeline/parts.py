"""The folder of the parts of a store that is being made: names, what is missing, removal."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from galfig.errors import DamagedPartError, LockError, OutputError
from galfig.runtime.files import check_parts
from galfig.store.outline import Outline
from galfig.store.reader import read_digest

# The name of a part or of the outline, of its lock, and of an unfinished one; see
# `galfig.runtime.files`.
_OWN = re.compile(r"(\d{6,}|outline)\.h5(\.lock)?|\.(\d{6,}|outline)\.h5\.[0-9a-f]+\.tmp\.h5")


@dataclass(frozen=True)
class Parts:
    """The folder of the parts of a store.

    Attributes
    ----------
    folder : Path
        It need not exist.
    """

    folder: Path

    @classmethod
    def beside(cls, path: Path) -> "Parts":
        """Return the folder of the parts of a store, ``<path>.parts``.

        Raises
        ------
        OutputError
            If it is a link or a file, which may be anybody's, or holds a link, a folder or a pipe
            under the name of a part.
        """
        folder = path.with_name(path.name + ".parts")
        check_parts(folder)
        _check_files(folder)
        return cls(folder)

    @property
    def outline(self) -> Path:
        """The outline of the store; see `galfig.store.outline`."""
        return self.folder / "outline.h5"

    def name(self, number: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"{number:06d}.h5"

    def measure(self, numbers: Iterable[int]) -> int:
        """Return the size of some parts together [byte].

        Raises
        ------
        DamagedPartError
            If one is gone.
        """
        size = 0
        for part in map(self.name, numbers):
            try:
                size += part.stat().st_size
            except OSError as exc:
                raise DamagedPartError(part, f"cannot be read ({exc.strerror})") from exc
        return size

    def list_missing(self, outline: Outline) -> list[int]:
        """Return the numbers of the parts that are not there, or are of another plan."""
        return [
            number
            for number, digest in enumerate(outline.part_digests)
            if read_digest(self.name(number)) != digest
        ]

    def check_plan(self, plan_digest: str) -> None:
        """Check that the outline is still that of a plan; call it before a part appears.

        Raises
        ------
        LockError
            If another process has merged or replaced the parts meanwhile.
        """
        if read_digest(self.outline) != plan_digest:
            raise LockError(
                f"{self.folder}: was merged or replaced by another process meanwhile; this process "
                "stops here"
            )

    def remove(self) -> None:
        """Remove the parts, and what a killed build may have left beside them.

        Raises
        ------
        OutputError
            If the folder cannot be removed, or holds another file, which stays.
        """
        folder = self.folder
        try:
            # By the folder's descriptor, so that a link in its place is not followed.
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise OutputError(f"{folder}: cannot be removed ({exc.strerror})") from exc
        try:
            for name in filter(_OWN.fullmatch, os.listdir(handle)):  # noqa: PTH208 (no Path has a descriptor)
                os.unlink(name, dir_fd=handle)
            folder.rmdir()
        except OSError as exc:
            raise OutputError(f"{folder}: cannot be removed ({exc.strerror})") from exc
        finally:
            os.close(handle)


def _check_files(folder: Path) -> None:
    """Raise OutputError if a part or the outline is no regular file.

    What a link leads to would be read as a part, and replaced by one.
    """
    try:
        with os.scandir(folder) as entries:
            names = [one.name for one in entries if not one.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be read ({exc.strerror})") from exc
    for name in sorted(filter(_OWN.fullmatch, names)):
        path = folder / name
        kind = "a symbolic link" if path.is_symlink() else "no regular file"
        raise OutputError(f"{path}: is {kind}, expected a part of the store; move it away")
