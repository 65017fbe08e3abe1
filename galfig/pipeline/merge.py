"""Merging: the store, made from its parts when all of them are there."""

import logging
from collections.abc import Mapping
from pathlib import Path
from shutil import disk_usage
from typing import Any

from galfig.errors import CatalogError, OutputError, StoreError
from galfig.pipeline.mirror import fetch_parts
from galfig.pipeline.parts import Parts
from galfig.pipeline.placement import report_remarks
from galfig.pipeline.shards import describe_shards
from galfig.runtime.files import (
    ErrorOrReplace,
    IfExists,
    check_output,
    remove_leftovers,
    replace_file,
)
from galfig.runtime.lock import Lock, hold_lock
from galfig.runtime.messages import quote
from galfig.runtime.storage import parse_address
from galfig.store.hdf5 import open_hdf5
from galfig.store.merging import merge_parts
from galfig.store.outline import Outline, open_outline
from galfig.store.reader import Store, is_whole, open_store, read_digest
from galfig.store.schema import check_schema
from galfig.store.virtual import is_virtual

logger = logging.getLogger(__name__)


def merge_maps(
    out: Path | str = "maps.h5",
    *,
    virtual: bool = False,
    storage: str | None = None,
    if_exists: IfExists = "error",
    takeover: bool = False,
) -> Store:
    """Make a store from the parts that `galfig.build_parts` wrote, and open it.

    Neither the catalog nor the images nor the network are needed. The bytes of the store are those
    that one process would have written. The parts are removed when it is complete, unless they are
    to stay.

    Parameters
    ----------
    out : Path or str, default "maps.h5"
        The store; its parts are in the folder ``<out>.parts``.
    virtual : bool, default False
        Leave maps and cutouts in the parts, which then belong to the store and must be moved with
        it. A virtual store of these parts becomes one file if this is False, and one that was
        renamed together with its folder is written again under its new name if it is True.
    storage : str, optional
        The address that `galfig.build_parts` was given; parts that are there are
        fetched first.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the store exists. One that has the plan of the parts is kept, unless
        "replace". For another file "error" raises, "update" replaces a store, and "replace" any.
    takeover : bool, default False
        Take over a stale lock from another host.

    Returns
    -------
    Store
        The store, open for reading.

    Raises
    ------
    OutputError
        If parts are missing (the message says which), the disk is full or not writable, or another
        file exists and must not be replaced.
    StoreError
        If the outline of the parts is damaged.
    DamagedPartError
        If a part is damaged.
    CatalogError
        If no galaxy could be explained.
    LockError
        If another process is making the store.
    """
    path = Path(out)
    address = None if storage is None else parse_address(storage, "storage")
    with hold_lock(path, takeover=takeover) as lock:
        remove_leftovers(path)
        parts = Parts.beside(path)
        if address is not None and not (path.exists() and if_exists == "error"):
            fetch_parts(parts, address)
        outline = _read_outline(path, parts)
        found = read_digest(path)
        is_same = outline is None or found == outline.plan_digest
        if is_same and if_exists != "replace" and _is_as_asked(path, virtual=virtual):
            remove_parts(path, parts)
            if virtual and not is_virtual(path):
                logger.warning(
                    "%s: is complete in one file, without parts, and stays so; a virtual store "
                    "is made while the parts are there",
                    path,
                )
            return open_store(path)
        if outline is None:
            raise OutputError(
                f"{parts.outline}: no such file, which is needed to merge the parts of {path} "
                "again; copy it here, or build the store again"
            )
        allowed: ErrorOrReplace = "error" if if_exists == "error" and not is_same else "replace"
        if if_exists == "update" and found is None:
            # An update replaces stores only: any other file was not built from older inputs.
            allowed = "error"
        check_output(path, if_exists=allowed)
        if missing := parts.list_missing(outline):
            raise OutputError(
                f"{path}: {len(missing)} of {len(outline.shards)} parts are missing: "
                f'{describe_shards(missing)}; make them with `shards="{describe_shards(missing)}"` '
                "and else the options of the others"
            )
        if virtual and path.is_symlink():
            raise OutputError(
                f"{path}: is a symbolic link, expected the store itself beside its parts; name "
                "the file that it leads to, or remove the link"
            )
        failed = merge_store(path, parts, outline, allowed, lock, virtual=virtual)
        tidy_up(path, parts, failed, outline.n_galaxies)
    return open_store(path)


def describe_parts(path: Path) -> dict[str, Any]:
    """Return the facts about the parts of a store that is not made yet; empty if there are none.

    Parameters
    ----------
    path : Path
        The store.

    Returns
    -------
    dict of str to str or int
        How many parts the store is to have, how many are made and how many are missing, and the
        numbers of the missing shards, as `galfig.build_parts` takes them, if there are any.

    Raises
    ------
    OutputError
        If the folder of the parts is a link.
    StoreError
        If their outline is damaged.
    """
    parts = Parts.beside(path)
    if not parts.outline.exists() or (outline := _read_outline(path, parts)) is None:
        return {}
    missing = parts.list_missing(outline)
    n_parts = len(outline.shards)
    return {
        "kind": "parts of a store that is not made yet",
        "parts": n_parts,
        "made": n_parts - len(missing),
        "missing": len(missing),
        **({"missing_shards": describe_shards(missing)} if missing else {}),
        "galaxies": outline.n_galaxies,
        "shard_size": outline.shard_size,
        "engine": outline.engine,
        "plan_digest": outline.plan_digest,
    }


def _is_as_asked(path: Path, *, virtual: bool) -> bool:
    """Return whether a complete store is of the kind asked for, and has all of its parts."""
    # A store in one file needs no parts, whatever is asked for.
    return not is_virtual(path) or (virtual and is_whole(path))


def _read_outline(path: Path, parts: Parts) -> Outline | None:
    """Return the outline of the parts; None if there is none, but the store."""
    try:
        with open_outline(parts.outline) as (_, outline):
            return outline
    except FileNotFoundError as exc:
        if read_digest(path) is not None:
            return None
        raise OutputError(
            f"{path}: no {parts.outline} beside it, expected the parts of a store; make them with "
            '`shards="1/2"` and `shards="2/2"`, for two processes'
        ) from exc
    except OSError as exc:
        if isinstance(exc, StoreError):
            raise
        raise StoreError(f"{parts.outline}: cannot be read ({exc.strerror or exc})") from exc


def merge_store(
    path: Path,
    parts: Parts,
    outline: Outline,
    if_exists: ErrorOrReplace,
    lock: Lock,
    *,
    virtual: bool,
) -> dict[str, str]:
    """Merge the parts into the store.

    Parameters
    ----------
    path : Path
        The store.
    parts : Parts
        The folder of its parts, all of which are there.
    outline : Outline
        What its outline says.
    if_exists : {"error", "replace"}
        What to do if the file exists.
    lock : Lock
        The lock of the store.
    virtual : bool
        Whether maps and cutouts stay in the parts.

    Returns
    -------
    dict of str to str
        Why galaxies could not be explained, by objid.

    Raises
    ------
    OutputError
        If the store cannot be written, or the disk has too little space.
    CatalogError
        If no galaxy could be explained; then the parts are removed.
    DamagedPartError
        If a part is not what was written.
    StoreError
        If the outline is damaged, or what it says makes no store.
    """
    numbers = range(len(outline.shards))
    with replace_file(path, if_exists=if_exists) as temporary:
        needed, free = parts.measure(numbers), disk_usage(path.parent).free
        if free < needed and not virtual:
            raise OutputError(
                f"{path}: needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB left; "
                "free some space and build it again, all galaxies are already explained; or leave "
                "the maps in the parts with `virtual=True`"
            )
        n_stored, failed, remarks = merge_parts(
            temporary,
            [parts.name(number) for number in numbers],
            parts.outline,
            digests=outline.part_digests,
            is_virtual=virtual,
        )
        if not n_stored:
            # The next build must read the images again, since they may be repaired by then.
            parts.remove()
            objid, reason = next(iter(failed.items()))
            raise CatalogError(
                f"{path}: none of {outline.n_galaxies} galaxies could be explained, first: "
                f"{quote(objid)} ({reason})"
            )
        with open_hdf5(temporary) as file:
            # Before it replaces another store, and its parts are removed.
            check_schema(file, path)
        lock.check()
    report_remarks(path, remarks, n_stored)
    return failed


def remove_parts(path: Path, parts: Parts) -> None:
    """Remove the parts of a complete store, unless it is virtual: then they are its maps.

    Raises
    ------
    OutputError
        If the folder cannot be removed.
    """
    if not is_virtual(path):
        parts.remove()


def tidy_up(path: Path, parts: Parts, failed: Mapping[str, str], n_galaxies: int) -> None:
    """Remove the parts of a complete store, and say which galaxies could not be explained."""
    try:
        remove_parts(path, parts)
    except OutputError as exc:
        logger.warning("%s: is complete, but %s; remove it by hand", path, exc)
    if failed:
        logger.warning(
            "%s: %d of %d cutouts could not be explained, first: %s; `rejected` lists them",
            path,
            len(failed),
            n_galaxies,
            next(iter(failed)),
        )
