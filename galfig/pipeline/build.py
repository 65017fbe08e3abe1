"""Build a store: explain each shard of a plan, then merge the shards."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from galfig.errors import DamagedPartError, LockError, OutputError, StoreError
from galfig.images.cutouts import choose_decoding
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.memory import refusing_too_large
from galfig.pipeline.addresses import find_root
from galfig.pipeline.attributes import describe_form, describe_store
from galfig.pipeline.changes import describe_changed, find_changed
from galfig.pipeline.dispatch import explain_elsewhere
from galfig.pipeline.merge import merge_store, remove_parts, tidy_up
from galfig.pipeline.parts import Parts
from galfig.pipeline.plan import Plan
from galfig.pipeline.precision import choose_precision
from galfig.pipeline.proof import name_way, prove_engines, read_proof_images
from galfig.pipeline.shards import choose_shards
from galfig.pipeline.tasks import NetworkFile
from galfig.pipeline.work import Work, explain_shards
from galfig.runtime.clock import now
from galfig.runtime.files import (
    ErrorOrReplace,
    IfExists,
    check_output,
    remove_leftovers,
    replace_file,
)
from galfig.runtime.lock import hold_lock
from galfig.runtime.messages import quote
from galfig.runtime.options import DEFAULT_RUN, RunOptions
from galfig.runtime.storage import Address
from galfig.store.outline import Outline, open_outline, write_outline
from galfig.store.reader import is_whole, read_digest, read_image_digests
from galfig.store.virtual import is_virtual

logger = logging.getLogger(__name__)
# How often a process looks whether another has written the outline, and seconds between the looks:
# that of ten million galaxies takes half a minute.
_N_LOOKS, _PAUSE = 600, 0.2


def build_store(
    plan: Plan,
    checkpoint: Checkpoint,
    path: Path,
    *,
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
    image_shift: Mapping[str, Any] | None = None,
    accuracy_check: Mapping[str, Any] | None = None,
    network: NetworkFile | None = None,
) -> bool:
    """Explain every galaxy of a plan and write the store.

    Each shard is written to ``<path>.parts/`` and appears when it is complete, so that an
    interrupted build resumes where it stopped. At the end the shards are merged and removed.

    Parameters
    ----------
    plan : Plan
        What to explain.
    checkpoint : Checkpoint
        The network.
    path : Path
        The store; it appears when it is complete.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the file exists. A store of this plan is kept, unless "replace". "error"
        raises for any other file, "update" replaces a store of another plan, and "replace"
        replaces any file. A store whose images were replaced since counts as one of another plan.
    run : RunOptions, optional
        Device, threads, whether to take over from a process on another host, and the engine whose
        workers explain the shards.
    image_shift : mapping, optional
        The result of `galfig.networks.shift.compare_images`, recorded in the store.
    accuracy_check : mapping, optional
        The result of `galfig.networks.accuracy.check_accuracy`, recorded in the store.
    network : NetworkFile, optional
        Where workers of another engine find the network; by default, it is sent to them.

    Returns
    -------
    bool
        False if the store existed already and nothing had to be done.

    Raises
    ------
    LockError
        If another process is building this store.
    OutputError
        If another file exists and must not be replaced, or the disk is full or not writable.
    CatalogError
        If no galaxy could be explained.
    CheckpointError
        If the network is not a function of one image, or cannot be explained; see
        `galfig.attribution.engine.Engine.verify`.
    LostCutoutError
        If an image has disappeared since the build was planned; the finished shards are kept for
        the next build.
    EngineError
        If the workers of the engine are lost or cannot be used; the finished shards are kept.
    """
    with hold_lock(path, takeover=run.takeover) as lock:
        remove_leftovers(path)
        parts = Parts.beside(path)
        allowed = _check_store(path, plan, if_exists, run)
        if allowed is None:
            # An earlier build may have been killed between its last two steps.
            remove_parts(path, parts)
            return False
        stays_virtual = _keep_virtual(path, parts, plan, if_exists)
        work, plan, outline = _prepare(
            plan, checkpoint, path, parts, run, image_shift, accuracy_check
        )
        work = replace(work, guard=lock.check)
        _write_outline(work, plan, outline)
        _explain(work, plan, range(len(plan.shards)), network)
        redone: set[Path] = set()
        while True:
            try:
                failed = merge_store(path, parts, outline, allowed, lock, virtual=stays_virtual)
                break
            except DamagedPartError as exc:
                if exc.part in redone:
                    raise
                lock.check()
                logger.warning("%s; explaining its galaxies again", exc)
                redone.add(exc.part)
                exc.part.unlink(missing_ok=True)
                _explain(work, plan, range(len(plan.shards)), network)
        tidy_up(path, parts, failed, len(plan.galaxies))
    return True


def explain_chosen(
    plan: Plan,
    checkpoint: Checkpoint,
    path: Path,
    chosen: str,
    *,
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
    image_shift: Mapping[str, Any] | None = None,
    accuracy_check: Mapping[str, Any] | None = None,
    network: NetworkFile | None = None,
) -> Sequence[int] | None:
    """Explain some shards of a plan, and leave the merging of the store to another process.

    Any number of processes may do so at once, on machines that share the folder of the store.

    Parameters
    ----------
    plan : Plan
        What to explain.
    checkpoint : Checkpoint
        The network.
    path : Path
        The store, which this does not write; the parts go to ``<path>.parts/``.
    chosen : str
        The shards; see `galfig.pipeline.shards.choose_shards`.
    if_exists : {"error", "update", "replace"}, default "error"
        What may happen to a store that exists, as of `build_store`; and whether the parts of
        another plan are replaced.
    run, image_shift, accuracy_check, network
        As of `build_store`.

    Returns
    -------
    sequence of int or None
        The numbers of the shards, all of whose parts are there now: none for a share of more
        processes than there are shards. None if the store itself is there.

    Raises
    ------
    ConfigError
        If the plan does not have these shards.
    LockError
        If another process is making one of these parts.
    OutputError
        If a part cannot be written, the folder holds parts of another plan, or parts whose maps
        were computed in another way, such as on another kind of processor; or as of `build_store`.
    CheckpointError, LostCutoutError, EngineError
        As of `build_store`.
    """
    numbers = choose_shards(chosen, len(plan.shards))
    parts = Parts.beside(path)
    if _check_store(path, plan, if_exists, run) is None:
        return None
    if not numbers:
        logger.warning(
            "%s: the build has %s, and this share %s has none; use fewer shares, or a "
            "`shard_size` below %d in all of them",
            path,
            "1 shard" if len(plan.shards) == 1 else f"{len(plan.shards)} shards",
            chosen,
            plan.settings.maps.shard_size,
        )
    if is_virtual(path) and read_digest(path) != plan.digest:
        logger.warning(
            "%s: is virtual, and its parts are replaced: it can be read again when the new ones "
            "are merged",
            path,
        )
    work, plan, outline = _prepare(plan, checkpoint, path, parts, run, image_shift, accuracy_check)
    _settle_outline(work, plan, outline, if_exists)
    work = replace(work, guard=partial(parts.check_plan, outline.plan_digest))
    _explain(work, plan, numbers, network)
    return numbers


def _explain(work: Work, plan: Plan, numbers: Sequence[int], network: NetworkFile | None) -> None:
    """Make the parts that are missing, in this process or by the workers of an engine."""
    if work.run.engine == "local" and work.run.executor is None:
        explain_shards(work, numbers)
    else:
        explain_elsewhere(work, plan, numbers, network)


def _prepare(
    plan: Plan,
    checkpoint: Checkpoint,
    path: Path,
    parts: Parts,
    run: RunOptions,
    image_shift: Mapping[str, Any] | None,
    accuracy_check: Mapping[str, Any] | None,
) -> tuple[Work, Plan, Outline]:
    """Prepare the networks; return the work, the plan with its engine, and the store's outline."""
    # Before the work of hours, not after it: SOURCE_DATE_EPOCH may be no number.
    now()
    images = read_proof_images(plan.galaxies, checkpoint, plan.settings)
    with refusing_too_large(checkpoint.record.arch):
        engines = prove_engines(checkpoint, images, plan.settings, plan.layer_name, plan.layer, run)
    # So that no parts are reused whose maps another build computed in another way.
    precision = None
    if plan.settings.maps.precision == "auto":
        decoding = choose_decoding(plan.settings.catalog, checkpoint.n_channels)
        precision = choose_precision(engines, checkpoint, plan.galaxies, decoding)
    plan = replace(plan, engine=name_way(engines, plan.settings))
    attrs = describe_store(
        plan,
        checkpoint,
        engines,
        images,
        image_shift=image_shift,
        accuracy_check=accuracy_check,
        precision_check=precision,
    )
    root = _choose_root(plan)
    attrs |= describe_form(plan, checkpoint, engines[0], images, path, root)
    work = Work(plan, checkpoint, engines, parts, run, guard=lambda: None, root=root)
    outline = Outline(attrs, len(plan.galaxies), plan.settings.maps.shard_size, plan.engine)
    return work, plan, outline


def _choose_root(plan: Plan) -> Path | Address | None:
    """Return the folder that the addresses of images are relative to; None for a full store."""
    if plan.settings.maps.store == "full":
        return None
    return find_root(plan.galaxies.paths, plan.settings.images_dir)


def _write_outline(work: Work, plan: Plan, outline: Outline) -> None:
    galaxies = plan.galaxies
    with replace_file(work.parts.outline, if_exists="replace") as temporary:
        write_outline(
            temporary, outline, galaxies.objid.tolist(), galaxies.table, galaxies.rejected
        )
        work.guard()


def _settle_outline(work: Work, plan: Plan, outline: Outline, if_exists: IfExists) -> None:
    """Write the outline, unless one of the processes that began together has written it."""
    for is_last in (*[False] * _N_LOOKS, True):
        try:
            with hold_lock(work.parts.outline, takeover=work.run.takeover):
                if not _is_outlined(work.parts, outline, if_exists):
                    _write_outline(work, plan, outline)
                return
        except LockError:
            if is_last:
                raise
            time.sleep(_PAUSE)


def _is_outlined(parts: Parts, outline: Outline, if_exists: IfExists) -> bool:
    """Return whether the outline of these parts is there; refuse that of others."""
    try:
        with open_outline(parts.outline) as (_, found):
            pass
    except (OSError, StoreError) as exc:
        logger.debug("%s", exc)
        return False
    if found.part_digests == outline.part_digests:
        return True
    if if_exists != "error":
        return False
    if found.shard_size != outline.shard_size:
        raise OutputError(
            f"{parts.folder}: holds parts of {found.shard_size} galaxies each, expected "
            f"{outline.shard_size}; use `shard_size={found.shard_size}`, "
            '`if_exists="replace"` to replace them, or another `out` to keep both'
        )
    if found.plan_digest == outline.plan_digest:
        raise OutputError(
            f"{parts.folder}: holds parts whose maps were computed in another way (here: "
            f"{outline.engine}; there: {quote(found.engine)}), expected one kind of processor for "
            "all parts of a store; use such machines only, or another `out`"
        )
    raise OutputError(
        f"{parts.folder}: holds parts of another catalog, network or settings; use "
        '`if_exists="replace"` to replace them, or another `out` to keep both'
    )


def _keep_virtual(path: Path, parts: Parts, plan: Plan, if_exists: IfExists) -> bool:
    """Return whether the store of this plan is virtual; remove the parts of one to be replaced."""
    if not is_virtual(path):
        return False
    if read_digest(path) == plan.digest and if_exists != "replace":
        return True
    logger.warning(
        "%s: is virtual, and its maps are in %s: they are removed now, and the store can be read "
        "again when the new one is complete",
        path,
        parts.folder,
    )
    parts.remove()
    return False


def _check_store(
    path: Path, plan: Plan, if_exists: IfExists, run: RunOptions
) -> ErrorOrReplace | None:
    """Return how the store may be written, or None if the store of this plan exists and is kept.

    Raises OutputError if another file exists and must not be replaced.
    """
    found = read_digest(path)
    if found == plan.digest and if_exists != "replace":
        changed = find_changed(plan.galaxies, read_image_digests(path) or {}, run.n_workers)
        if not len(changed):
            if not is_virtual(path) or is_whole(path):
                return None
            logger.info("%s: lacks some of its parts; making them again", path)
            return "replace"
        words = describe_changed(changed)
        if if_exists == "error":
            raise OutputError(f'{path}: {words}; use `if_exists="update"` to build it again')
        logger.info("%s: %s; building it again", path, words)
    if found is not None and if_exists == "error":
        raise OutputError(
            f"{path}: was built from another catalog, network or settings (see 'galfig info {path}'"
            '); use `if_exists="replace"` to replace it, or another `out` to keep both'
        )
    if if_exists == "update":
        # An update replaces stores only: any other file was not built from older inputs.
        if_exists = "error" if found is None else "replace"
    check_output(path, if_exists=if_exists)
    return if_exists
