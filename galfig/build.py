"""Building a store: plan, explain each shard, merge."""

import hashlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from shutil import disk_usage
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import galfig
from galfig.catalog import Galaxies
from galfig.config import Settings
from galfig.cosmology import kpc_per_arcsec
from galfig.cutouts import Decoding, read_cutout, scale_cutout
from galfig.engine import Engine, make_engine, open_workers
from galfig.errors import (
    CatalogError,
    CheckpointError,
    CutoutError,
    LostCutoutError,
    OutputError,
)
from galfig.files import check_output, remove_leftovers, replace_file
from galfig.guard import SILENCE
from galfig.lock import hold_lock
from galfig.messages import shorten
from galfig.network import Checkpoint, find_layer
from galfig.stopwatch import Stopwatch
from galfig.store import (
    SCHEMA_VERSION,
    Encoded,
    Part,
    encode_galaxy,
    merge_parts,
    read_digest,
    write_part,
)

logger = logging.getLogger(__name__)

# Galaxies that a thread takes at a time, at least; and such groups ahead, per processor.
GROUP_SIZE = 8
N_AHEAD = 4
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


@dataclass(frozen=True)
class Plan:
    """What is to be explained, in which units.

    Attributes
    ----------
    galaxies : Galaxies
        The galaxies to explain, in the order of the store.
    shards : tuple of slice
        Consecutive runs of them.
    layer_name : str
        The layer explained.
    split : str
        "valid", "train" or "all".
    settings : Settings
        As recorded in the store.
    digest : str
        Equal for two plans that give the same store.
    """

    galaxies: Galaxies
    shards: tuple[slice, ...]
    layer_name: str
    split: str
    settings: Settings
    digest: str


class Explained(NamedTuple):
    """What came of one galaxy."""

    encoded: Encoded
    logits: NDArray[np.float32]
    map_shape: tuple[int, ...]


def make_plan(
    galaxies: Galaxies, settings: Settings, checkpoint: Checkpoint, split: str = "valid"
) -> Plan:
    """Lay out the work: pure, and the same for the same catalog, settings and checkpoint.

    Raises
    ------
    CatalogError
        No galaxy in the split.
    CheckpointError
        The network tells other classes apart than the catalog holds.
    ConfigError
        A layer that the network does not have.
    """
    galaxies = _match_classes(galaxies, checkpoint)
    in_split = {"valid": galaxies.in_valid, "train": ~galaxies.in_valid}.get(split)
    chosen = galaxies if in_split is None else galaxies.take(in_split)
    if not len(chosen):
        raise CatalogError(
            f"{settings.catalog_path}: no galaxy in split {split!r}, expected at least one; use "
            "--split all, or change [split]"
        )
    layer_name = checkpoint.layer_name
    if settings.maps.layer != "auto":
        layer_name, _ = find_layer(
            checkpoint.model,
            settings.maps.layer,
            checkpoint.image_size,
            checkpoint.metadata["arch"],
            checkpoint.n_channels,
        )
    size = settings.maps.shard_size
    shards = tuple(
        slice(start, min(start + size, len(chosen))) for start in range(0, len(chosen), size)
    )
    ingredients = {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": checkpoint.digest,
        "catalog": galaxies.catalog_sha256,
        "settings": settings.record(),
        "layer": layer_name,
        "split": split,
        "objid": list(chosen.objid),
    }
    digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()
    return Plan(chosen, shards, layer_name, split, settings, digest)


def build_store(
    plan: Plan,
    checkpoint: Checkpoint,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    n_workers: int | None = None,
    quiet: bool = False,
    overwrite: bool = False,
    update: bool = False,
    takeover: bool = False,
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
    device : torch.device or str, default "cpu"
        Where the network runs.
    n_workers : int, optional
        Threads that decode images; default one a processor.
    quiet : bool, default False
        Without the progress bar.
    overwrite : bool, default False
        Replace any store that is there.
    update : bool, default False
        Replace a store of another plan, and leave one of this plan.
    takeover : bool, default False
        Go on with the work of a process of another host that is gone; see `galfig.lock.hold_lock`.
    image_shift : mapping, optional
        By `galfig.shift.compare_images`, to be recorded.

    Returns
    -------
    bool
        False where the store is there already and nothing was left to do.

    Raises
    ------
    LockError
        Another process builds this store.
    OutputError
        Another file is there and ``overwrite`` is false, or the disk refuses.
    CatalogError
        Not one galaxy could be explained.
    LostCutoutError
        An image that was there when the build was planned is there no longer; the shards that
        are written stay for the next build.
    """
    with hold_lock(path, takeover=takeover):
        remove_leftovers(path)
        folder = path.with_name(path.name + ".parts")
        if update:
            overwrite = read_digest(path) not in (None, plan.digest)
        if _is_complete(path, plan, overwrite):
            # A build may have been killed between the two last steps.
            _remove_parts(folder)
            return False
        parts = [folder / f"{index:06d}.h5" for index in range(len(plan.shards))]
        _explain_shards(plan, checkpoint, parts, device, n_workers, quiet)
        attrs = _describe_store(plan, checkpoint, image_shift)
        failed = _merge(plan, attrs, parts, path, overwrite)
        try:
            _remove_parts(folder)
        except OutputError as exc:
            logger.warning("%s: is complete, but %s; remove it by hand", path, exc)
    if failed:
        logger.warning(
            "%d of %d cutouts could not be explained, first: %s; see 'galfig info %s --rejected'",
            len(failed),
            len(plan.galaxies),
            next(iter(failed)),
            path,
        )
    return True


def _merge(
    plan: Plan, attrs: Mapping[str, Any], parts: list[Path], path: Path, overwrite: bool
) -> dict[str, str]:
    """Make the store of its parts; return why galaxies could not be explained, by objid."""
    with replace_file(path, overwrite=overwrite) as temporary:
        needed, free = sum(part.stat().st_size for part in parts), disk_usage(path.parent).free
        if free < needed:
            raise OutputError(
                f"{path}: needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB left; make "
                "room and run the same command again: all galaxies are explained"
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
                f"{path}: not one of {len(plan.galaxies)} galaxies could be explained, first: "
                f"{objid} ({reason})"
            )
    return failed


def _is_complete(path: Path, plan: Plan, overwrite: bool) -> bool:
    """Tell whether a store of this plan is there; raise OutputError where another file is."""
    found = read_digest(path)
    if found == plan.digest and not overwrite:
        return True
    if found is not None and not overwrite:
        raise OutputError(
            f"{path}: was built from another catalog, network or other settings, see 'galfig info "
            f"{path}'; use --overwrite to replace it, or --out to keep both"
        )
    check_output(path, overwrite=overwrite)
    return False


def _explain_shards(
    plan: Plan,
    checkpoint: Checkpoint,
    parts: list[Path],
    device: torch.device | str,
    n_workers: int | None,
    quiet: bool,
) -> None:
    """Write the parts that are not there yet; a part is written while the next is computed."""
    todo = _find_missing(plan, parts)
    if not todo:
        return
    n_todo = sum(shard.stop - shard.start for shard, _, _ in todo)
    model = checkpoint.model.to(device)
    engine = make_engine(
        model,
        model.get_submodule(plan.layer_name),
        precision=plan.settings.maps.precision,
        micro_batch=plan.settings.maps.micro_batch,
    )
    decoding = Decoding(checkpoint.n_channels, plan.settings.catalog.fits_range)
    stopwatch, start = Stopwatch(), time.perf_counter()
    with (
        tqdm(
            total=len(plan.galaxies),
            initial=len(plan.galaxies) - n_todo,
            desc="explaining",
            disable=quiet,
            unit="gal",
        ) as bar,
        open_workers(n_workers) as pool,
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
                progress=bar.update,
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
        (shard, part, _digest_part(plan, shard))
        for shard, part in zip(plan.shards, parts, strict=True)
    ]
    missing = [job for job in jobs if read_digest(job[1]) != job[2]]
    if len(missing) < len(jobs):
        logger.info("resuming: %d of %d shards are there", len(jobs) - len(missing), len(jobs))
    return missing


def _digest_part(plan: Plan, shard: slice) -> str:
    """Return what a part is made from: the plan, and which of its galaxies."""
    return hashlib.sha256(f"{plan.digest} {shard.start} {shard.stop}".encode()).hexdigest()


def _write_shard(path: Path, part: Part, digest: str, stopwatch: Stopwatch) -> None:
    with stopwatch.time("write"), replace_file(path) as temporary:
        write_part(temporary, part, digest)


def explain_galaxies(
    galaxies: Galaxies,
    checkpoint: Checkpoint,
    engine: Engine,
    decoding: Decoding,
    *,
    pool: ThreadPoolExecutor,
    progress: Callable[[int], object] = lambda n: None,
    stopwatch: Stopwatch | None = None,
) -> Part:
    """Decode, crop, normalise, explain and compress some galaxies.

    Each thread takes a few galaxies all the way: while one waits for a file, or compresses,
    another computes.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies.
    checkpoint : Checkpoint
        The network, for its sizes and statistics.
    engine : Engine
        Of that network.
    decoding : Decoding
        How image files are read.
    pool : ThreadPoolExecutor
        From `galfig.engine.open_workers`.
    progress : callable, optional
        Called with the number of galaxies done.
    stopwatch : Stopwatch, optional
        Adds up the time of each stage.

    Returns
    -------
    Part
        Galaxies whose image cannot be decoded, or whose logits are not finite, are in
        ``rejected`` with the reason.
    """
    stopwatch = stopwatch or Stopwatch()
    size = (checkpoint.n_channels, checkpoint.image_size, checkpoint.image_size)
    n_group = max(GROUP_SIZE, engine.choose_micro_batch(size))
    starts = iter(range(0, len(galaxies), n_group))

    def submit(start: int) -> Future[list[Explained | str]]:
        paths = galaxies.paths[start : start + n_group]
        return pool.submit(_explain_group, paths, checkpoint, engine, decoding, stopwatch)

    explained: list[Explained | str] = []
    ahead = deque(submit(start) for start in islice(starts, N_AHEAD * (os.cpu_count() or 1)))
    while ahead:
        group = ahead.popleft().result()
        explained += group
        progress(len(group))
        ahead.extend(submit(start) for start in islice(starts, 1))
    return _make_part(galaxies, checkpoint, explained)


def _explain_group(
    paths: Sequence[Path],
    checkpoint: Checkpoint,
    engine: Engine,
    decoding: Decoding,
    stopwatch: Stopwatch,
) -> list[Explained | str]:
    """Explain some files in one thread: what came of each, or why nothing did."""
    with stopwatch.time("decode"), SILENCE:
        cutouts: list[NDArray[np.uint8] | str] = []
        for path in paths:
            try:
                cutouts.append(read_cutout(path, checkpoint.cutout_size, decoding))
            except LostCutoutError:
                # Recorded as rejected, the galaxy would stay so when the file is back.
                raise
            except CutoutError as exc:
                cutouts.append(str(exc))
    readable = [cutout for cutout in cutouts if not isinstance(cutout, str)]
    if not readable:
        return [str(cutout) for cutout in cutouts]
    with stopwatch.time("compute"):
        images = np.stack([scale_cutout(cutout, checkpoint.image_size) for cutout in readable])
        batch = engine.explain(checkpoint.normalise(images))
        cams, logits = batch.cams.cpu().numpy(), batch.logits.cpu().numpy()
    explained: list[Explained | str] = []
    numbers = zip(cams, logits, strict=True)
    with stopwatch.time("compress"):
        for cutout in cutouts:
            if isinstance(cutout, str):
                explained.append(cutout)
                continue
            cam, logit = next(numbers)
            if np.isfinite(logit).all() and np.isfinite(cam).all():
                explained.append(Explained(encode_galaxy(cam, cutout), logit, cam.shape))
            else:
                explained.append("the network gives numbers that are not finite")
    return explained


def _match_classes(galaxies: Galaxies, checkpoint: Checkpoint) -> Galaxies:
    """Count the labels as the network does, whatever the order of the settings."""
    names = checkpoint.class_names
    is_labelled = galaxies.label >= 0
    if not is_labelled.any() or galaxies.class_names == names:
        return galaxies
    if set(galaxies.class_names) != set(names):
        raise CheckpointError(
            f"the network tells {shorten(names)} apart, expected the classes of the settings, "
            f"{shorten(galaxies.class_names)}; set [classes] as 'galfig info' shows of the "
            'checkpoint, or column = "" to explain galaxies without classes'
        )
    position = np.array([names.index(name) for name in galaxies.class_names], dtype=np.int16)
    label = np.where(is_labelled, position[galaxies.label], np.int16(-1))
    return replace(galaxies, label=label, class_names=names)


def _make_part(
    galaxies: Galaxies, checkpoint: Checkpoint, explained: Sequence[Explained | str]
) -> Part:
    """Put the galaxies that were explained together, and name the others."""
    n_classes, size = len(checkpoint.class_names), checkpoint.cutout_size
    rows = np.array([i for i, found in enumerate(explained) if isinstance(found, Explained)], int)
    found = [one for one in explained if isinstance(one, Explained)]
    reasons = zip(galaxies.objid, explained, strict=True)
    rejected = {objid: reason for objid, reason in reasons if isinstance(reason, str)}
    stored = galaxies.take(rows)
    logits = np.array([one.logits for one in found], np.float32).reshape(-1, n_classes)
    arrays = {
        "objid": stored.objid,
        "redshift": stored.redshift,
        "label": stored.label,
        "value": stored.value,
        "logits": logits,
        "probs": _softmax(logits),
        "kpc_per_arcsec": kpc_per_arcsec(stored.redshift),
    }
    if stored.pixel_scale is not None:
        arrays["pixel_scale"] = stored.pixel_scale
    return Part(
        arrays,
        [one.encoded for one in found],
        # Without one readable image the size of the maps is unknown: there are none to store.
        found[0].map_shape if found else (n_classes, 1, 1),
        (size, size, checkpoint.n_channels),
        rejected,
    )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(shifted)
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)


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
