"""RO-Crate: a store and what belongs to it in one folder or ZIP, with a description for archives.

The description, ``ro-crate-metadata.json``, names authors, licence and DOI from the settings, each
file with its size and digest, what was made from what, and the versions of the programs; see
`galfig.export.description`.
"""

import hashlib
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple, get_args

from galfig.config import PublicationSettings, Settings, load_settings
from galfig.errors import ConfigError, OutputError, StoreError
from galfig.export.description import (
    HDF5,
    METADATA,
    Entity,
    Origins,
    complete_file,
    compose,
    describe_context,
    describe_file,
    describe_store,
    find_store,
)
from galfig.manuscript.folder import has_file, read_file
from galfig.manuscript.manifest import AUX, FILE_NAME, GALAXIES, RECORD, VALUES, load_manifest
from galfig.runtime.documents import dump_json
from galfig.runtime.files import (
    ErrorOrReplace,
    check_apart,
    check_home,
    check_named,
    check_output,
    replace_file,
)
from galfig.runtime.inputs import open_regular
from galfig.runtime.messages import make_printable, require_choice
from galfig.runtime.progress import track
from galfig.store.reader import Store, open_store, verify_store

# What `galfig.config.PublicationSettings` need not hold, and what is published must have.
_NEEDED = ("title", "authors", "license")
# The largest file of a manuscript that is taken along; stores and data are not [byte].
_MAX_BYTES = 1 << 28
_BLOCK = 1 << 20
# Beside the files that a manifest names, those with which a paper is compiled and read.
_SUFFIXES = {".tex", ".bib", ".bst", ".cls", ".sty", ".toml", ".pdf", ".txt", ".md"}
# The time of every file in a ZIP, so that two runs give the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)

Add = Callable[[str, IO[bytes]], tuple[int, str]]
"""Puts a file into a crate; returns its size [byte] and its SHA-256."""


class _Item(NamedTuple):
    """A file of a crate: its name there, how it is opened, and what is known of it."""

    name: str
    open: Callable[[], IO[bytes]]
    about: Entity


def write_crate(
    store: Path | str,
    path: Path | str,
    include: Iterable[Path | str] = (),
    *,
    settings: Path | str | Mapping[str, Any] | Settings | None = None,
    if_exists: ErrorOrReplace = "error",
) -> Path:
    """Put a store and what belongs to it into an RO-Crate, for an archive such as Zenodo.

    Parameters
    ----------
    store : Path or str
        The store.
    path : Path or str
        The crate: a file ``.zip``, or a new folder.
    include : iterable of Path or str, optional
        Files that belong to it, such as checkpoint, audit and figures, and folders of manuscripts,
        of which the paper, its figures and its record are taken, but no stores or data.
    settings : Path, str, mapping or Settings, optional
        As in `galfig.load_settings`; ``[publication]`` gives title, authors and licence.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file already exists. A folder that is not empty is never replaced.

    Returns
    -------
    Path
        The crate.

    Raises
    ------
    ConfigError
        If the settings lack title, authors or licence.
    StoreError, AuditError, FigureError, ManuscriptError
        If a file is damaged, or the maps of the store are in parts.
    OutputError
        If two files would have one name, or the crate exists already or cannot be written.
    """
    require_choice("if_exists", if_exists, get_args(ErrorOrReplace))
    store, path, paths = Path(store), Path(path), [Path(one) for one in include]
    publication = load_settings(settings).publication
    _check_publication(publication)
    _check_path(path, [store, *paths], if_exists)
    for one in (store, *filter(find_store, paths)):
        _check_store(one)
    with open_store(store) as opened:
        items = _list_items(opened, store, paths)
        context = describe_context(opened, store.name, publication)
    _check_names(items)
    with _open_crate(path, if_exists) as add:
        files = []
        for item in track(items, "copying", len(items), "files"):
            with item.open() as source:
                files.append(complete_file(item.name, item.about, *add(item.name, source)))
        document = dump_json(compose(files, context, publication), indent=2, sort_keys=False)
        add(METADATA, BytesIO(f"{document}\n".encode()))
    return path


def _check_publication(publication: PublicationSettings) -> None:
    lacking = [key for key in _NEEDED if not getattr(publication, key)]
    if lacking:
        raise ConfigError(
            f"[publication] lacks {', '.join(lacking)}, expected {', '.join(_NEEDED)} for what is "
            "published; put them into the settings"
        )


def _check_store(path: Path) -> None:
    """Check that a store is undamaged and holds its maps."""
    if damage := verify_store(path):
        raise StoreError(f"{path}: {damage[0]}; a damaged store is not published")
    with open_store(path) as store:
        if store.n_parts:
            raise StoreError(
                f"{path}: its maps are in {store.n_parts} parts, expected a store that holds them; "
                "merge its parts into one file"
            )


def _check_path(path: Path, inputs: Sequence[Path], if_exists: ErrorOrReplace) -> None:
    """Check that the crate may be written, and is no input and in none."""
    if path.suffix.lower() == ".zip":
        check_output(path, if_exists=if_exists)
        check_apart(path, inputs)
    else:
        check_home(path)
        check_named(path)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise OutputError(f"{path}: is no folder, expected a new folder or a file .zip")
        if path.is_dir() and any(path.iterdir()):
            raise OutputError(f"{path}: is not empty, expected a new folder; choose another")
    for one in inputs:
        if one.is_dir() and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(one)):
            raise OutputError(f"{path}: is in {one}, which it is to hold; choose another folder")


def _check_names(items: Sequence[_Item]) -> None:
    seen = {METADATA, "ro-crate-preview.html"}
    for item in items:
        # Other systems take a backslash for a folder, and a lone surrogate is no UTF-8.
        if make_printable(item.name) != item.name or "\\" in item.name:
            raise OutputError(
                f"{make_printable(item.name)}: a name with a character that archives do not take, "
                "expected printable text without backslashes; rename the file"
            )
        # Some file systems do not tell upper from lower case.
        if item.name.lower() in seen:
            raise OutputError(f"{item.name}: two files of the crate have this name; rename one")
        seen.add(item.name.lower())


def _list_items(store: Store, path: Path, include: Sequence[Path]) -> list[_Item]:
    """List the files of a crate, the store first, with what is known of each."""
    origins = _find_origins([path, *filter(find_store, include)])
    items = [_Item(path.name, partial(open_regular, path), describe_store(store, origins))]
    # Audits are made from stores, and figures from both.
    for one in sorted(
        include, key=lambda one: (one.suffix.lower() not in HDF5, not find_store(one))
    ):
        if one.is_dir():
            items += _list_manuscript(one, origins)
        else:
            about = describe_file(one, one.name, origins)
            items.append(_Item(one.name, partial(open_regular, one), about))
    return items


def _find_origins(paths: Sequence[Path]) -> Origins:
    """Find by which digests other files say that they are made from stores."""
    origins = Origins()
    for path in paths:
        with open_store(path) as store:
            origins.files.setdefault(store.record.plan_digest, path.name)
            if store.is_subset:
                is_only = store.whole_digest not in origins.subsets
                origins.subsets[store.whole_digest] = path.name if is_only else ""
    return origins


def _list_manuscript(folder: Path, origins: Origins) -> list[_Item]:
    """List the files of a manuscript that belong to the paper, without following links."""
    if not (folder / FILE_NAME).is_file():
        raise OutputError(f"{folder}: a folder without {FILE_NAME}, expected that of a manuscript")
    root, items = folder.resolve().name, []
    for name in _list_names(folder):
        if has_file(folder, name):
            about = describe_file(folder / name, f"{root}/{name}", origins)
            items.append(_Item(f"{root}/{name}", partial(_open_own, folder, name), about))
    return items


def _open_own(folder: Path, name: str) -> IO[bytes]:
    return BytesIO(read_file(folder, name, _MAX_BYTES) or b"")


def _list_names(folder: Path) -> list[str]:
    """List the paths of a paper's files: those of its manifest, and texts beside them."""
    manifest = load_manifest(folder)
    # Audits come first, since figures may be made from them.
    names = [*manifest.audits.values(), FILE_NAME, RECORD, VALUES, GALAXIES, manifest.tex]
    for spec in manifest.figure:
        names += [spec.path, spec.caption_path, spec.alt_path]
    names += [step.makes for step in manifest.steps if step.kept]
    for path in sorted(folder.iterdir()):
        is_plain = not path.name.startswith(".") and not path.is_symlink() and path.is_file()
        if is_plain and path.suffix.lower() in _SUFFIXES:
            names.append(path.name)
    return [name for name in dict.fromkeys(names) if not name.startswith(f"{AUX}/")]


@contextmanager
def _open_crate(path: Path, if_exists: ErrorOrReplace) -> Iterator[Add]:
    """Provide a function that adds a file; the crate appears when the block succeeds."""
    if path.suffix.lower() == ".zip":
        with (
            replace_file(path, if_exists=if_exists) as temporary,
            # HDF5 and PDF are compressed already.
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
        ):
            yield partial(_add_to_archive, archive)
        return
    folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        folder.mkdir(parents=True)
        yield partial(_add_to_folder, folder)
        # An empty folder is replaced.
        folder.replace(path)
    except OSError as exc:
        if exc.errno is None:
            raise
        raise OutputError(f"{path}: cannot be written ({exc.strerror})") from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _add_to_folder(folder: Path, name: str, source: IO[bytes]) -> tuple[int, str]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as target:
        found = _copy(source, target)
        target.flush()
        os.fsync(target.fileno())
    return found


def _add_to_archive(archive: zipfile.ZipFile, name: str, source: IO[bytes]) -> tuple[int, str]:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    with archive.open(entry, "w", force_zip64=True) as target:
        return _copy(source, target)


def _copy(source: IO[bytes], target: IO[bytes]) -> tuple[int, str]:
    """Copy a file; return its size [byte] and its SHA-256."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        digest.update(block)
        size += len(block)
        target.write(block)
    return size, digest.hexdigest()
