"""Build a store: explain each shard of a plan, then merge the shards."""

import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
import torch

import galfig
from galfig.attribution.engine import Engine, EngineRecord, make_engine, open_workers
from galfig.attribution.head import measure_head
from galfig.attribution.methods import METHODS
from galfig.attribution.variants import set_arithmetic
from galfig.config import NONLINEAR_METHODS
from galfig.errors import (
    CatalogError,
    CheckpointError,
    DamagedPartError,
    OutputError,
)
from galfig.images.cutouts import choose_decoding
from galfig.images.sources import find_stretch
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.device import choose_device
from galfig.networks.receptive import describe_field
from galfig.pipeline.changes import describe_changed, find_changed
from galfig.pipeline.explain import explain_galaxies, read_first_images
from galfig.pipeline.forms import choose_root, describe_form
from galfig.pipeline.plan import Plan, digest_part
from galfig.runtime.clock import now
from galfig.runtime.documents import dump_json
from galfig.runtime.files import (
    ErrorOrReplace,
    IfExists,
    check_output,
    check_parts,
    remove_leftovers,
    replace_file,
)
from galfig.runtime.lock import Lock, hold_lock
from galfig.runtime.options import DEFAULT_RUN, RunOptions
from galfig.runtime.progress import show_progress
from galfig.runtime.timing import Stopwatch
from galfig.store.reader import read_digest, read_image_digests
from galfig.store.writer import Part, merge_parts, write_part

logger = logging.getLogger(__name__)
# The name of a part, and of an unfinished one; see `galfig.runtime.files`.
_PART = re.compile(r"\d{6,}\.h5|\.\d{6,}\.h5\.[0-9a-f]+\.tmp\.h5")
# Keys of a checkpoint's metadata that describe the training; the store keeps them.
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
# Of these, the keys that are of each network of an ensemble by itself; and its seeds.
_NETWORK_KEYS = ("history", "lr", "lr_finder", "metrics", "seeds")


def build_store(
    plan: Plan,
    checkpoint: Checkpoint,
    path: Path,
    *,
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
    image_shift: Mapping[str, Any] | None = None,
    accuracy_check: Mapping[str, Any] | None = None,
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
        Device, threads, and whether to take over from a process on another host.
    image_shift : mapping, optional
        The result of `galfig.networks.shift.compare_images`, recorded in the store.
    accuracy_check : mapping, optional
        The result of `galfig.networks.accuracy.check_accuracy`, recorded in the store.

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
    """
    with hold_lock(path, takeover=run.takeover) as lock:
        remove_leftovers(path)
        folder = path.with_name(path.name + ".parts")
        check_parts(folder)
        allowed = _check_store(path, plan, if_exists, run)
        if allowed is None:
            # An earlier build may have been killed between its last two steps.
            _remove_parts(folder)
            return False
        parts = [folder / f"{index:06d}.h5" for index in range(len(plan.shards))]
        # Before the work of hours, not after it: SOURCE_DATE_EPOCH may be no number.
        now()
        images = _read_first_images(plan, checkpoint)
        engines = [_prove_engine(plan, network, images, run) for network in checkpoint.networks]
        # So that no parts are reused whose maps another build computed in another way.
        plan = replace(plan, engine=", ".join(_name_way(engine.record) for engine in engines))
        _explain_shards(plan, checkpoint, engines, parts, run, lock)
        # Of several networks, the one that had most reasons not to be explained faster.
        record = max((one.record for one in engines), key=lambda found: len(_list_reasons(found)))
        attrs = _describe_store(plan, checkpoint, record, image_shift)
        heads = [_describe_head(plan, network, images) for network in checkpoint.networks]
        attrs |= _average_heads(heads)
        attrs |= describe_form(plan, checkpoint, engines[0], images, path)
        attrs["accuracy_check"] = dump_json(accuracy_check)
        redone: set[Path] = set()
        while True:
            try:
                failed = _merge(plan, attrs, parts, path, allowed, lock)
                break
            except DamagedPartError as exc:
                if exc.part in redone:
                    raise
                lock.check()
                logger.warning("%s; explaining its galaxies again", exc)
                redone.add(exc.part)
                exc.part.unlink(missing_ok=True)
                _explain_shards(plan, checkpoint, engines, parts, run, lock)
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
    plan: Plan,
    attrs: Mapping[str, Any],
    parts: list[Path],
    path: Path,
    if_exists: ErrorOrReplace,
    lock: Lock,
) -> dict[str, str]:
    """Merge the parts into the store; return why galaxies could not be explained, by objid."""
    with replace_file(path, if_exists=if_exists) as temporary:
        needed, free = _measure_parts(parts), disk_usage(path.parent).free
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
            plan_digests=[digest_part(plan, shard) for shard in plan.shards],
        )
        if not n_stored:
            # The next build must read the images again, since they may be repaired by then.
            _remove_parts(parts[0].parent)
            objid, reason = next(iter(failed.items()))
            raise CatalogError(
                f"{path}: none of {len(plan.galaxies)} galaxies could be explained, first: "
                f"{objid} ({reason})"
            )
        lock.check()
    return failed


def _measure_parts(parts: Sequence[Path]) -> int:
    """Return the size of all parts [byte]."""
    size = 0
    for part in parts:
        try:
            size += part.stat().st_size
        except OSError as exc:
            raise DamagedPartError(part, f"cannot be read ({exc.strerror})") from exc
    return size


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
            return None
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


def _read_first_images(plan: Plan, checkpoint: Checkpoint) -> torch.Tensor | None:
    """Read the images on which the network is examined; None if none can be read.

    They are always the first of the plan, so that a build that resumes chooses the same way of
    computing.
    """
    decoding = choose_decoding(plan.settings.catalog, checkpoint.n_channels)
    return read_first_images(plan.galaxies, checkpoint, decoding)


def _prove_engine(
    plan: Plan, checkpoint: Checkpoint, images: torch.Tensor | None, run: RunOptions
) -> Engine:
    """Prepare the network, and compare its maps with the exact ones on noise and on galaxies."""
    model = checkpoint.model.to(choose_device(run.device))
    try:
        engine = make_engine(
            model,
            model.get_submodule(plan.layer_name),
            method=plan.settings.maps.method,
            shape=(checkpoint.n_channels, checkpoint.image_size, checkpoint.image_size),
            precision=plan.settings.maps.precision,
            micro_batch=plan.settings.maps.micro_batch,
            channels_last=plan.layer.channels_last,
            tokens=plan.layer.tokens,
        )
        if images is not None:
            engine.verify(images)
    except ValueError as exc:
        raise CheckpointError(f"{checkpoint.record.arch}: cannot be explained; {exc}") from exc
    return engine


def _name_way(record: EngineRecord | None) -> str:
    """Return what decides in which order an engine computes, for the digests of parts."""
    if record is None:
        return ""
    return f"{record.path} {record.layout} {record.n_fused} {record.n_packed}"


def _list_reasons(record: EngineRecord | None) -> tuple[str, ...]:
    return () if record is None else record.reasons


def _explain_shards(
    plan: Plan,
    checkpoint: Checkpoint,
    engines: Sequence[Engine],
    parts: list[Path],
    run: RunOptions,
    lock: Lock,
) -> None:
    """Write the missing parts; each part is written while the next is computed."""
    todo = _find_missing(plan, parts, run)
    if not todo:
        return
    n_galaxies = len(plan.galaxies)
    n_todo = sum(shard.stop - shard.start for shard, _, _ in todo)
    decoding = choose_decoding(plan.settings.catalog, checkpoint.n_channels)
    stopwatch, start = Stopwatch(), time.perf_counter()
    root = choose_root(plan)
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
                engines,
                decoding,
                pool=pool,
                tta=plan.settings.maps.tta,
                has_contrast=plan.settings.maps.method not in (*NONLINEAR_METHODS, "evidence"),
                form=plan.settings.maps.store,
                root=root,
                progress=advance,
                stopwatch=stopwatch,
            )
            if written is not None:
                written.result()
            written = writer.submit(_write_shard, part, explained, digest, stopwatch, lock)
        if written is not None:
            written.result()
    size = (checkpoint.n_channels, checkpoint.image_size, checkpoint.image_size)
    logger.debug(
        "engine: %d images at a time, %s",
        engines[0].choose_micro_batch(size),
        plan.settings.maps.precision,
    )
    logger.info(
        "explained %d galaxies, %.0f galaxies/s; time: %s",
        n_todo,
        n_todo / (time.perf_counter() - start),
        stopwatch,
    )


def _find_missing(
    plan: Plan, parts: Sequence[Path], run: RunOptions
) -> list[tuple[slice, Path, str]]:
    """Return the shards whose part is missing, each with the path and digest of the part.

    A part that was made from other images than those that are there now is missing as well.
    """
    jobs = [
        (shard, part, digest_part(plan, shard))
        for shard, part in zip(plan.shards, parts, strict=True)
    ]
    missing = []
    for shard, part, digest in jobs:
        if read_digest(part) == digest:
            galaxies = plan.galaxies.take(np.arange(shard.start, shard.stop))
            changed = find_changed(galaxies, read_image_digests(part) or {}, run.n_workers)
            if not len(changed):
                continue
            logger.info("%s: %s; explaining its galaxies again", part, describe_changed(changed))
        missing.append((shard, part, digest))
    if len(missing) < len(jobs):
        logger.info("resuming: %d of %d shards are done", len(jobs) - len(missing), len(jobs))
    return missing


def _write_shard(path: Path, part: Part, digest: str, stopwatch: Stopwatch, lock: Lock) -> None:
    with stopwatch.time("write"), replace_file(path, if_exists="replace") as temporary:
        write_part(temporary, part, digest)
        lock.check()


def _describe_store(
    plan: Plan,
    checkpoint: Checkpoint,
    record: EngineRecord | None,
    image_shift: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the root attributes of the store."""
    galaxies = plan.galaxies
    attrs: dict[str, Any] = {
        "galfig_version": galfig.__version__,
        "torch_version": str(torch.__version__),
        "created": now().isoformat(timespec="seconds"),
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
        "training": dump_json(_describe_training(checkpoint.metadata)),
        "image_shift": dump_json(image_shift),
        "engine": dump_json(record and asdict(record)),
    }
    if checkpoint.ensemble:
        attrs |= _describe_ensemble(checkpoint)
    method = plan.settings.maps.method
    if method != "grad-cam":
        attrs["method"] = method
    # A pixel of the image sees itself.
    is_of_layer = not METHODS[method].of_pixels
    if is_of_layer and (field := describe_field(checkpoint, plan.layer_name, plan.layer)):
        attrs["receptive_field"] = json.dumps(field)
    if plan.layer.is_bypassed:
        attrs["layer_is_bypassed"] = True
    if stretch := find_stretch(galaxies.paths, plan.settings.catalog):
        attrs["stretch"] = stretch
    if isinstance(plan.settings.catalog.pixel_scale, float):
        attrs["pixel_scale"] = plan.settings.catalog.pixel_scale
    return attrs


def _describe_ensemble(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the root attributes of a store that say how the networks of an ensemble differ."""
    networks = [
        {
            "checkpoint_sha256": network.digest,
            **{key: network.metadata.get(key) for key in _NETWORK_KEYS},
        }
        for network in checkpoint.ensemble
    ]
    return {"n_networks": len(networks), "networks": dump_json(networks)}


def _describe_head(
    plan: Plan, checkpoint: Checkpoint, images: torch.Tensor | None
) -> dict[str, Any]:
    """Return the root attributes that say what maps add up to, and how far Grad-CAM is from it."""
    model, method = checkpoint.model, plan.settings.maps.method
    if images is None or METHODS[method].of_pixels:
        return {}
    layer = model.get_submodule(plan.layer_name)
    device = next(model.parameters()).device
    with set_arithmetic("float32", device):
        head = measure_head(
            model,
            images.to(device),
            layer,
            channels_last=plan.layer.channels_last,
            tokens=plan.layer.tokens,
        )
    attrs: dict[str, Any] = {}
    if head.bias is None and isfinite(head.hires_distance):
        attrs["hires_distance"] = head.hires_distance
    # The other methods do not add up to the logits.
    if head.bias is not None and method not in NONLINEAR_METHODS:
        attrs["head_bias"] = json.dumps(head.bias.tolist())
    return attrs


def _average_heads(heads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `_describe_head` says of the mean of maps, from what it says of each network."""
    if len(heads) == 1:
        return dict(heads[0])
    attrs: dict[str, Any] = {}
    if all("head_bias" in head for head in heads):
        biases = np.array([json.loads(head["head_bias"]) for head in heads])
        attrs["head_bias"] = json.dumps(biases.mean(axis=0).tolist())
    if all("hires_distance" in head for head in heads):
        attrs["hires_distance"] = float(np.mean([head["hires_distance"] for head in heads]))
    return attrs


def _describe_training(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a store says of the training of its network, or of its import."""
    training = {key: metadata.get(key) for key in _TRAINING_KEYS}
    if "start" in metadata:
        training["start"] = metadata["start"]
    if "imported" in metadata:
        training |= {"imported": metadata["imported"], "network_size": metadata["image_size"]}
    return training


def _remove_parts(folder: Path) -> None:
    """Remove the parts, and the unfinished files that a killed build may have left beside them."""
    try:
        # By the folder's descriptor, so that a link in its place is not followed.
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be removed ({exc.strerror})") from exc
    try:
        for name in filter(_PART.fullmatch, os.listdir(handle)):  # noqa: PTH208 (no Path has a descriptor)
            os.unlink(name, dir_fd=handle)
        folder.rmdir()
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be removed ({exc.strerror})") from exc
    finally:
        os.close(handle)
