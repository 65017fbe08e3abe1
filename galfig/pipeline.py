"""The main job: data that are there or simulated, a network loaded or trained, every map."""

import logging
from pathlib import Path
from typing import Any

import torch

from galfig.build import build_store, make_plan
from galfig.catalog import Galaxies, load_galaxies
from galfig.config import CatalogSettings, Settings
from galfig.engine import choose_device
from galfig.errors import CheckpointError
from galfig.files import check_output
from galfig.network import Checkpoint, load_checkpoint

logger = logging.getLogger(__name__)

N_SIMULATED = 600


def load_data(settings: Settings, *, labelled: bool = True) -> Galaxies:
    """Load the galaxies; where the embedded default is asked for and absent, simulate it first.

    What was left out, and the counts of the classes before and after, are logged.
    """
    default = CatalogSettings.model_fields["path"].default
    if settings.catalog.path == default and not settings.catalog_path.exists():
        # Its import brings astropy's and matplotlib's, which a catalog of one's own does without.
        from galfig.simulate import write_simulated

        logger.info("%s is absent: simulating %d galaxies", settings.catalog_path, N_SIMULATED)
        write_simulated(settings.catalog_path.parent, N_SIMULATED)
    galaxies = load_galaxies(settings, labelled=labelled)
    report_counts(galaxies)
    report_rejected(galaxies, settings.catalog_path)
    return galaxies


def run_main_job(
    settings: Settings,
    path: Path,
    *,
    model: Path | None = None,
    split: str = "valid",
    device: str = "auto",
    n_workers: int | None = None,
    quiet: bool = False,
    overwrite: bool = False,
) -> bool:
    """Do the main job: from a catalog to a store with every map.

    Parameters
    ----------
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
        Train again, and replace a store of another plan.

    Returns
    -------
    bool
        False where the store is there already and nothing was left to do.
    """
    chosen = choose_device(device)
    kept = model or path.with_suffix(".safetensors")
    if not kept.exists():
        # Before hours of training, not after them.
        check_output(path, overwrite=overwrite)
    galaxies = load_data(settings, labelled=model is None)
    if model is not None:
        checkpoint = load_checkpoint(model)
        warn_of_mismatch(checkpoint, galaxies, settings, model)
    else:
        checkpoint = load_or_train(
            galaxies, settings, kept, device=chosen, quiet=quiet, overwrite=overwrite
        )
    plan = make_plan(galaxies, settings, checkpoint, split)
    return build_store(
        plan,
        checkpoint,
        path,
        device=chosen,
        n_workers=n_workers,
        quiet=quiet,
        overwrite=overwrite,
    )


def load_or_train(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    device: torch.device,
    quiet: bool = False,
    overwrite: bool = False,
) -> Checkpoint:
    """Return the network that these settings make of these galaxies.

    A checkpoint that is there and was trained by the same recipe is used as it is.

    Raises
    ------
    CheckpointError
        The file there was trained by another recipe and ``overwrite`` is false.
    """
    if path.exists() and not overwrite:
        checkpoint = load_checkpoint(path)
        found, wanted = checkpoint.metadata["recipe"], describe_recipe(galaxies, settings)
        if found == wanted:
            logger.info("%s: trained by this recipe already", path)
            return checkpoint
        raise CheckpointError(
            f"{path}: was trained by another recipe ({_describe_difference(found, wanted)}); "
            f"use --overwrite to train again, or --model {path} to explain that network"
        )
    return train_checkpoint(
        galaxies, settings, path, device=device, quiet=quiet, overwrite=overwrite
    )


def train_checkpoint(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    device: torch.device,
    quiet: bool = False,
    overwrite: bool = False,
) -> Checkpoint:
    """Set unreadable images aside, train a network on the others, and write its checkpoint."""
    # fastai takes seconds to import, and is only needed where a network is trained.
    from galfig.training import set_aside_unreadable, train_network

    readable = set_aside_unreadable(galaxies, quiet=quiet)
    if len(readable) < len(galaxies):
        report_rejected(readable, settings.catalog_path)
    return train_network(
        readable,
        settings,
        path,
        recipe=describe_recipe(galaxies, settings),
        device=device,
        # On a processor decoding is a small share of the time, and workers would compete.
        n_workers=torch.get_num_threads() if device.type == "cuda" else 0,
        quiet=quiet,
        overwrite=overwrite,
    )


def describe_recipe(galaxies: Galaxies, settings: Settings) -> dict[str, Any]:
    """Say what a checkpoint follows from: two equal recipes need be trained only once."""
    return {
        "catalog_sha256": galaxies.catalog_sha256,
        "images": settings.catalog.images,
        **{
            table: getattr(settings, table).model_dump(mode="json")
            for table in ("classes", "split", "training")
        },
    }


def warn_of_mismatch(
    checkpoint: Checkpoint, galaxies: Galaxies, settings: Settings, path: Path
) -> None:
    """Warn where a network was trained for another question, or perhaps on these galaxies."""
    trained = Settings.model_validate(checkpoint.metadata["settings"])
    for key in ("column", "edges"):
        before, now = getattr(trained.classes, key), getattr(settings.classes, key)
        if before != now and galaxies.class_counts:
            logger.warning(
                "%s: was trained on classes by %s %s, these galaxies have them by %s",
                path,
                key,
                before,
                now,
            )
            return
    is_same_catalog = checkpoint.metadata["catalog_sha256"] == galaxies.catalog_sha256
    if is_same_catalog and trained.split != settings.split:
        logger.warning(
            "%s: was trained with another split of this catalog; galaxies that trained it are "
            "among those of validation",
            path,
        )


def report_counts(galaxies: Galaxies) -> None:
    """Log how many galaxies each class has in the catalog, in training and in validation."""
    if not galaxies.class_counts:
        logger.info("%d galaxies without classes", len(galaxies))
        return
    width = max(len(name) for name in (*galaxies.class_counts, "class"))
    logger.info("%-*s  catalog  train  valid", width, "class")
    for name, n_catalog in galaxies.class_counts.items():
        if name in galaxies.class_names:
            is_class = galaxies.label == galaxies.class_names.index(name)
            n_valid = int((is_class & galaxies.in_valid).sum())
            n_train = int(is_class.sum()) - n_valid
            logger.info("%-*s  %7d  %5d  %5d", width, name, n_catalog, n_train, n_valid)
        else:
            logger.info("%-*s  %7d      -      -", width, name, n_catalog)


def report_rejected(galaxies: Galaxies, path: Path) -> None:
    """Warn once, with a count, about galaxies that were left out."""
    if galaxies.rejected:
        objid, reason = next(reversed(galaxies.rejected.items()))
        logger.warning(
            "%s: %d galaxies left out, such as %s (%s)",
            path,
            len(galaxies.rejected),
            objid,
            reason,
        )


def _describe_difference(found: dict[str, object], wanted: dict[str, object]) -> str:
    """Name the first ingredient in which two recipes differ."""
    for key in wanted:
        before, after = found.get(key), wanted[key]
        if before != after and isinstance(before, dict) and isinstance(after, dict):
            return f"[{key}] {_describe_difference(before, after)}"
        if before != after:
            return f"{key} {before!r}, now {after!r}"
    return "older format"
