"""The main job: a network loaded or trained, and every map of every galaxy."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from galfig.build import build_store, make_plan
from galfig.catalog import Galaxies
from galfig.config import Settings
from galfig.cutouts import Decoding
from galfig.engine import choose_device
from galfig.errors import CheckpointError
from galfig.files import check_output, remove_leftovers
from galfig.lock import hold_lock
from galfig.memory import keep_freed_memory
from galfig.network import Checkpoint, load_checkpoint
from galfig.recipe import describe_difference, describe_recipe
from galfig.sample import report_rejected
from galfig.shift import compare_images, describe_geometry

logger = logging.getLogger(__name__)


def run_main_job(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    model: Path | None = None,
    split: str = "valid",
    device: str = "auto",
    n_workers: int | None = None,
    quiet: bool = False,
    overwrite: bool = False,
    update: bool = False,
    takeover: bool = False,
) -> bool:
    """Do the main job: from galaxies to a store with every map.

    Parameters
    ----------
    galaxies : Galaxies
        From `galfig.sample.load_sample`.
    settings : Settings
        What to do.
    path : Path
        The store. A network that is trained is kept beside it, as ``<stem>.safetensors``.
    model : Path, optional
        Checkpoint of a network that is trained already.
    split : {"valid", "train", "all"}, default "valid"
        Galaxies to explain.
    device : {"auto", "cpu", "cuda"}, default "auto"
        Where the network runs.
    n_workers : int, optional
        Threads that decode images; default one a processor.
    quiet : bool, default False
        Without progress bars.
    overwrite : bool, default False
        Train again, and replace any store that is there.
    update : bool, default False
        Replace what was made from something else, and leave the rest.
    takeover : bool, default False
        Go on with the work of a process of another host that is gone.

    Returns
    -------
    bool
        False where the store is there already and nothing was left to do.
    """
    keep_freed_memory()
    chosen = choose_device(device)
    kept = model or path.with_suffix(".safetensors")
    if not kept.exists():
        # Before hours of training, not after them.
        check_output(path, overwrite=overwrite or update)
    if model is not None:
        checkpoint = load_checkpoint(model)
        warn_of_mismatch(checkpoint, galaxies, settings, model)
    else:
        checkpoint = load_or_train(
            galaxies,
            settings,
            kept,
            device=chosen,
            quiet=quiet,
            overwrite=overwrite,
            update=update,
            takeover=takeover,
        )
    plan = make_plan(galaxies, settings, checkpoint, split)
    decoding = Decoding(checkpoint.n_channels, settings.catalog.fits_range)
    shift = compare_images(checkpoint, plan.galaxies, decoding, kept)
    warn_of_shift(checkpoint, shift, kept)
    return build_store(
        plan,
        checkpoint,
        path,
        device=chosen,
        n_workers=n_workers,
        quiet=quiet,
        overwrite=overwrite,
        update=update,
        takeover=takeover,
        image_shift=shift,
    )


def load_or_train(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    device: torch.device,
    quiet: bool = False,
    overwrite: bool = False,
    update: bool = False,
    takeover: bool = False,
) -> Checkpoint:
    """Return the network that these settings make of these galaxies.

    A checkpoint that is there and was trained by the same recipe is used as it is; with
    ``update`` another is replaced.

    Raises
    ------
    CheckpointError
        The file there was trained by another recipe and ``overwrite`` is false.
    """
    if path.exists() and not overwrite:
        checkpoint = load_checkpoint(path)
        found, wanted = checkpoint.metadata.get("recipe", {}), describe_recipe(galaxies, settings)
        if found == wanted:
            logger.info("%s: trained by this recipe already", path)
            return checkpoint
        overwrite = update
        if not update:
            raise CheckpointError(
                f"{path}: was trained by another recipe ({describe_difference(found, wanted)}); "
                f"use --overwrite to train again, or --model {path} to explain that network"
            )
    return train_checkpoint(
        galaxies,
        settings,
        path,
        device=device,
        quiet=quiet,
        overwrite=overwrite,
        # The same command, run again, goes on where it was.
        resume=None,
        takeover=takeover,
    )


def train_checkpoint(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    device: torch.device,
    quiet: bool = False,
    overwrite: bool = False,
    resume: bool | None = False,
    takeover: bool = False,
) -> Checkpoint:
    """Set unreadable images aside, train a network on the others, and write its checkpoint.

    One process at a time does; see `galfig.lock.hold_lock`, also for ``takeover``.
    """
    keep_freed_memory()
    # fastai takes seconds to import, and is only needed where a network is trained.
    from galfig.training import read_training_set, train_network

    readable, cutouts = read_training_set(galaxies, settings, quiet=quiet)
    if len(readable) < len(galaxies):
        report_rejected(readable, settings.catalog_path, n_known=len(galaxies.rejected))
    with hold_lock(path, takeover=takeover):
        remove_leftovers(path)
        return train_network(
            readable,
            cutouts,
            settings,
            path,
            recipe=describe_recipe(galaxies, settings),
            device=device,
            # On a processor putting batches together is a small share of the time.
            n_workers=torch.get_num_threads() if device.type == "cuda" else 0,
            quiet=quiet,
            overwrite=overwrite,
            resume=resume,
        )


def warn_of_mismatch(
    checkpoint: Checkpoint, galaxies: Galaxies, settings: Settings, path: Path
) -> None:
    """Warn where a network was trained for another question, or perhaps on these galaxies."""
    if settings.training.grayscale and checkpoint.n_channels != 1:
        logger.warning("%s: was trained on RGB, and RGB is explained; --grayscale is idle", path)
    if "settings" not in checkpoint.metadata:
        return
    try:
        trained = Settings.model_validate(checkpoint.metadata["settings"])
    except ValidationError:
        logger.warning(
            "%s: was trained by another version of galfig, whose settings cannot be read here; "
            "compare its classes and its split yourself ('galfig info %s')",
            path,
            path,
        )
        return
    for key in ("column", "edges"):
        before, now = getattr(trained.classes, key), getattr(settings.classes, key)
        if before != now and galaxies.class_counts:
            logger.warning(
                "%s: was trained on classes by %s %s, these galaxies have them by %s; captions say "
                "so, and the accuracy is that of a network that was asked something else",
                path,
                key,
                before,
                now,
            )
            return
    is_same_catalog = checkpoint.metadata.get("catalog_sha256") == galaxies.catalog_sha256
    if is_same_catalog and trained.split != settings.split:
        logger.warning(
            "%s: was trained with another split of this catalog, so that galaxies that trained it "
            "may be among those of validation; set [split] as 'galfig info %s' says",
            path,
            path,
        )


def warn_of_shift(checkpoint: Checkpoint, shift: Mapping[str, Any] | None, path: Path) -> None:
    """Warn, in one line, where images are unlike those that trained a network."""
    if shift is None or not shift["is_unlike"]:
        return
    geometry = describe_geometry(checkpoint.metadata["images"], shift)
    logger.warning(
        "%s: these images are unlike those that trained it, so its answers may mean little: "
        "%s is %.2f, expected at most %.2f%s; train on images made like these, or make these like "
        "those",
        path,
        shift["measure"],
        shift["value"],
        shift["threshold"],
        f" ({geometry})" if geometry else "",
    )
