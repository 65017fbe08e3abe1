"""Building a store: plan, explain each shard, merge."""

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
import torch

import galfig
from galfig.attribution.engine import make_engine, open_workers
from galfig.errors import (
    CatalogError,
    OutputError,
)
from galfig.images.cutouts import Decoding
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.device import choose_device
from galfig.pipeline.explain import explain_galaxies
from galfig.pipeline.plan import Plan, digest_part
from galfig.runtime.files import (
    ErrorOrReplace,
    IfExists,
    check_output,
    remove_leftovers,
    replace_file,
)
from galfig.runtime.lock import hold_lock
from galfig.runtime.options import DEFAULT_RUN, RunOptions
from galfig.runtime.progress import show_progress
from galfig.runtime.timing import Stopwatch
from galfig.store.reader import read_digest
from galfig.store.writer import Part, merge_parts, write_part

logger = logging.getLogger(__name__)
# What of a checkpoint's metadata tells how its network came to be; kept in the store.
_TRAINING_KEYS = (
    "arch",
    "history",
    "lr",
    "lr_finder",
    "metrics",
    "n_train",
    "n_valid",
    "seeds",
    "settings",
    "simulated",
    "versions",
)


def build_store(
    plan: Plan,
    checkpoint: Checkpoint,
    path: Path,
    *,
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
    image_shift: Mapping[str, Any] | None = None,
) -> bool:
    """Explain every galaxy of a plan and write the store.

    Shards are written to ``<path>.parts/`` and renamed into place, so that a build that was
    killed goes on where it was; at the end they become the store and are removed.

    Parameters
    ----------
    plan : Plan
        What to explain.
    checkpoint : Checkpoint
        The network.
    path : Path
        The store; it appears when it is complete.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do where a file is there: refuse all but a store of this plan, which is complete;
        replace a store of another plan; or replace any file.
    run : RunOptions, optional
        Device, threads, and whether to take over from a process of another host.
    image_shift : mapping, optional
        By `galfig.networks.shift.compare_images`, to be recorded.

    Returns
    -------
    bool
        False where the store is there already and nothing was left to do.

    Raises
    ------
    LockError
        Another process builds this store.
    OutputError
        Another file is there and not to be replaced, or the disk refuses.
    CatalogError
        Not one galaxy could be explained.
    LostCutoutError
        An image that was there when the build was planned is there no longer; the shards that
        are written stay for the next build.
    """
    with hold_lock(path, takeover=run.takeover):
        remove_leftovers(path)
        folder = path.with_name(path.name + ".parts")
        allowed = _check_store(path, plan, if_exists)
        if allowed is None:
            # A build may have been killed between the two last steps.
            _remove_parts(folder)
            return False
        parts = [folder / f"{index:06d}.h5" for index in range(len(plan.shards))]
        _explain_shards(plan, checkpoint, parts, run)
        attrs = _describe_store(plan, checkpoint, image_shift)
        failed = _merge(plan, attrs, parts, path, allowed)
        try:
            _remove_parts(folder)
        except OutputError as exc:
            logger.warning("%s: is complete, but %s; remove it by hand", path, exc)
    if failed:
        logger.warning(
            "%s: %d of %d cutouts could not be explained, first: %s; `rejected` lists them",
            path,
            len(failed),
            len(plan.galaxies),
            next(iter(failed)),
        )
    return True


def _merge(
    plan: Plan, attrs: Mapping[str, Any], parts: list[Path], path: Path, if_exists: ErrorOrReplace
) -> dict[str, str]:
    """Make the store of its parts; return why galaxies could not be explained, by objid."""
    with replace_file(path, if_exists=if_exists) as temporary:
        needed, free = sum(part.stat().st_size for part in parts), disk_usage(path.parent).free
        if free < needed:
            raise OutputError(
                f"{path}: needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB left; "
                "free some space and build it again, all galaxies are already explained"
            )
        n_stored, failed = merge_parts(
            temporary,
            parts,
            plan.galaxies.table.set_axis(plan.galaxies.objid),
            attrs,
            plan.galaxies.rejected,
        )
        if not n_stored:
            # Once the images are mended the next build must look at them again.
            _remove_parts(parts[0].parent)
            objid, reason = next(iter(failed.items()))
            raise CatalogError(
                f"{path}: none of {len(plan.galaxies)} galaxies could be explained, first: "
                f"{objid} ({reason})"
            )
    return failed


def _check_store(path: Path, plan: Plan, if_exists: IfExists) -> ErrorOrReplace | None:
    """Return how the store may be written; None where one of this plan is there, and stays.

    Raises OutputError where another file is there and stays.
    """
    found = read_digest(path)
    if found == plan.digest and if_exists != "replace":
        return None
    if found is not None and if_exists == "error":
        raise OutputError(
            f"{path}: was built from another catalog, network or settings (see 'galfig info {path}'"
            '); use `if_exists="replace"` to replace it, or another `path` to keep both'
        )
    if if_exists == "update":
        # A file that is no store was not made from other ingredients: it is something else.
        if_exists = "error" if found is None else "replace"
    check_output(path, if_exists=if_exists)
    return if_exists


def _explain_shards(
    plan: Plan,
    checkpoint: Checkpoint,
    parts: list[Path],
    run: RunOptions,
) -> None:
    """Write the parts that are not there yet; a part is written while the next is computed."""
    todo = _find_missing(plan, parts)
    if not todo:
        return
    n_galaxies = len(plan.galaxies)
    n_todo = sum(shard.stop - shard.start for shard, _, _ in todo)
    model = checkpoint.model.to(choose_device(run.device))
    engine = make_engine(
        model,
        model.get_submodule(plan.layer_name),
        precision=plan.settings.maps.precision,
        micro_batch=plan.settings.maps.micro_batch,
    )
    decoding = Decoding(checkpoint.n_channels, plan.settings.catalog.fits_range)
    stopwatch, start = Stopwatch(), time.perf_counter()
    with (
        show_progress("explaining", n_galaxies, "galaxies", initial=n_galaxies - n_todo) as advance,
        open_workers(run.n_workers) as pool,
        ThreadPoolExecutor(1) as writer,
    ):
        written: Future[None] | None = None
        for shard, part, digest in todo:
            galaxies = plan.galaxies.take(np.arange(shard.start, shard.stop))
            explained = explain_galaxies(
                galaxies,
                checkpoint,
                engine,
                decoding,
                pool=pool,
                progress=advance,
                stopwatch=stopwatch,
            )
            if written is not None:
                written.result()
            written = writer.submit(_write_shard, part, explained, digest, stopwatch)
        if written is not None:
            written.result()
    size = (checkpoint.n_channels, checkpoint.image_size, checkpoint.image_size)
    logger.debug(
        "engine: %s, %d batch norms folded, %d convolutions packed, %d images at a time, %s",
        engine.path,
        engine.n_fused,
        engine.n_packed,
        engine.choose_micro_batch(size),
        plan.settings.maps.precision,
    )
    logger.info(
        "explained %d galaxies, %.0f galaxies/s; time: %s",
        n_todo,
        n_todo / (time.perf_counter() - start),
        stopwatch,
    )


def _find_missing(plan: Plan, parts: Sequence[Path]) -> list[tuple[slice, Path, str]]:
    """Return the shards whose part is not there yet, each with its path and its digest."""
    jobs = [
        (shard, part, digest_part(plan, shard))
        for shard, part in zip(plan.shards, parts, strict=True)
    ]
    missing = [job for job in jobs if read_digest(job[1]) != job[2]]
    if len(missing) < len(jobs):
        logger.info("resuming: %d of %d shards are done", len(jobs) - len(missing), len(jobs))
    return missing


def _write_shard(path: Path, part: Part, digest: str, stopwatch: Stopwatch) -> None:
    with stopwatch.time("write"), replace_file(path, if_exists="replace") as temporary:
        write_part(temporary, part, digest)


def _describe_store(
    plan: Plan, checkpoint: Checkpoint, image_shift: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the root attributes of the schema."""
    galaxies = plan.galaxies
    attrs: dict[str, Any] = {
        "galfig_version": galfig.__version__,
        "torch_version": str(torch.__version__),
        "created": _now(),
        "plan_digest": plan.digest,
        "catalog_sha256": galaxies.catalog_sha256,
        "checkpoint_sha256": checkpoint.digest,
        "class_names": json.dumps(checkpoint.class_names),
        "class_counts": json.dumps(galaxies.class_counts),
        "target_layer": plan.layer_name,
        "split": plan.split,
        "cutout_size": checkpoint.cutout_size,
        "simulated": galaxies.simulated,
        "config": json.dumps(plan.settings.record(), sort_keys=True),
        "training": json.dumps(
            {key: checkpoint.metadata.get(key) for key in _TRAINING_KEYS}, sort_keys=True
        ),
        "image_shift": json.dumps(image_shift, sort_keys=True),
    }
    if isinstance(plan.settings.catalog.pixel_scale, float):
        attrs["pixel_scale"] = plan.settings.catalog.pixel_scale
    return attrs


def _now() -> str:
    """Return the time (UTC), which SOURCE_DATE_EPOCH pins for reproducible builds."""
    pinned = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(pinned), UTC) if pinned else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")


def _remove_parts(folder: Path) -> None:
    """Remove the parts, and what a killed build may have left half-written beside them."""
    if not folder.exists():
        return
    try:
        # pathlib's star stands for hidden names too, unlike that of shells.
        for part in folder.glob("*.h5"):
            part.unlink()
        folder.rmdir()
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be removed ({exc.strerror})") from exc
