"""Training: a network made once of galaxies and settings, and kept as a checkpoint."""

import logging
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

import galfig
from galfig.catalog.galaxies import Galaxies, describe_rejected, report_rejected
from galfig.catalog.sample import load_catalog
from galfig.config import Settings, load_settings
from galfig.errors import CatalogError, CheckpointError, GalfigError
from galfig.images.cutouts import Decoding, load_cutouts
from galfig.networks.architectures import build_network, find_layer
from galfig.networks.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from galfig.networks.device import choose_device
from galfig.networks.recipe import describe_difference, describe_recipe
from galfig.networks.resume import load_progress, resume_path, save_progress
from galfig.networks.shift import describe_images
from galfig.runtime.files import ErrorOrReplace, IfExists, check_output, remove_leftovers
from galfig.runtime.lock import hold_lock
from galfig.runtime.options import DEFAULT_RUN, Device, RunOptions

logger = logging.getLogger(__name__)

# Whether to go on with a run that was stopped: not at all; where it is one of the same recipe; or
# in any case, where one of another recipe is an error.
Resume = Literal["never", "if_same", "always"]


def train(
    catalog: Galaxies | Path | str,
    out: Path | str = "model.safetensors",
    *,
    if_exists: ErrorOrReplace = "error",
    resume: Resume = "never",
    device: Device = "auto",
    takeover: bool = False,
    **training: Any,
) -> Checkpoint:
    """Train a classifier on the galaxies of a catalog, and write its checkpoint.

    Parameters
    ----------
    catalog : Galaxies, Path or str
        By `galfig.load_catalog`, or its ``path``.
    out : Path or str, default "model.safetensors"
        The checkpoint; it appears when it is complete.
    if_exists : {"error", "replace"}, default "error"
        What to do where a file is there.
    resume : {"never", "if_same", "always"}, default "never"
        Whether to go on from the last epoch of a run that was stopped: never; where it was one of
        the same recipe; or else fail.
    device : {"auto", "cpu", "cuda"}, default "auto"
        Where to train.
    takeover : bool, default False
        Go on with the work of a process of another host that is gone.
    **training
        Keys of the table ``training`` of the settings, such as ``epochs=10``, laid over those of
        the catalog.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode; ``metadata["metrics"]`` are those of the validation set.

    Raises
    ------
    ConfigError
        A setting that is unknown or of the wrong type.
    CatalogError
        A class without a galaxy in the training set, or an empty validation set.
    OutputError
        The file is there and not to be replaced, or it cannot be written.
    """
    galaxies = load_catalog(catalog) if isinstance(catalog, Path | str) else catalog
    overrides = {("training", key): value for key, value in training.items()}
    path, settings = Path(out), load_settings(galaxies.settings, overrides)
    check_output(path, if_exists=if_exists)
    run = RunOptions(device=device, takeover=takeover)
    return train_checkpoint(galaxies, settings, path, if_exists=if_exists, resume=resume, run=run)


def train_network(
    galaxies: Galaxies,
    cutouts: NDArray[np.uint8],
    settings: Settings,
    path: Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    if_exists: ErrorOrReplace = "error",
    resume: Resume = "never",
    run: RunOptions = DEFAULT_RUN,
) -> Checkpoint:
    """Train a classifier on the training set and write its checkpoint.

    Parameters
    ----------
    galaxies : Galaxies
        Training and validation set.
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Their images, as the network sees them, by `read_training_set`.
    settings : Settings
        Table ``training`` says how; all of them are recorded.
    path : Path
        The checkpoint, a safetensors file; it appears when it is complete.
    recipe : mapping, optional
        What the checkpoint follows from, recorded so that it need not be trained twice.
    if_exists : {"error", "replace"}, default "error"
        What to do where a file is there.
    resume : {"never", "if_same", "always"}, default "never"
        Go on from the last epoch of a run that was stopped. Where that was a run of another
        recipe, "if_same" forgets it and starts anew, and "always" is an error.
    run : RunOptions, optional
        Where to train: its ``device``.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode. The same seed on the same machine gives the same bytes,
        whether the run was stopped or not.

    Raises
    ------
    CatalogError
        A class without a galaxy in the training set, or an empty validation set.
    ConfigError
        An unknown architecture or layer, or a device that this machine lacks.
    CheckpointError
        The run that was stopped was one of another recipe.
    """
    how = settings.training
    device = choose_device(run.device)
    _check_sets(galaxies)
    versions = {
        "galfig": galfig.__version__,
        **{name: version(name) for name in ("torch", "torchvision", "fastai")},
    }
    progress = resume_path(path)
    follows_from = {
        **(recipe or {}),
        "settings": settings.record(),
        "objid": list(galaxies.objid),
        "versions": versions,
        "device": str(device),
    }
    before = _load_progress(progress, follows_from, resume)
    mean, std = channel_statistics(cutouts, ~galaxies.in_valid)
    # fastai takes seconds to import, and is only needed where a network is trained.
    from galfig.networks.learner import METRICS, fit_network, make_learner, seeded

    with seeded(how.seed):
        model = build_network(how.arch, len(galaxies.class_names), how.n_channels)
        layer_name, _ = find_layer(
            model.eval(), settings.maps.layer, how.network_size, how.arch, how.n_channels
        )
        learner = make_learner(
            model.train(),
            galaxies,
            cutouts,
            how,
            mean,
            std,
            device=device,
            # On a processor putting batches together is a small share of the time.
            n_workers=torch.get_num_threads() if device.type == "cuda" else 0,
        )
        keep = partial(save_progress, progress, follows_from)
        history, lr, finder = fit_network(learner, how, before, keep)
    if not np.isfinite(history[-1]["valid_loss"]):
        raise GalfigError(
            f"training: the validation loss is {history[-1]['valid_loss']}, expected a finite "
            f"number; try a learning rate below {lr:g}"
        )
    metadata = {
        **_describe_inputs(galaxies, settings),
        "layer": layer_name,
        "mean": mean,
        "std": std,
        "recipe": dict(recipe or {}),
        "lr": lr,
        "lr_finder": finder,
        "history": history,
        "metrics": {name: history[-1][name] for name in ("valid_loss", *METRICS)},
        "versions": versions,
    }
    trained = Checkpoint(learner.model.eval(), galaxies.class_names, layer_name, metadata)
    decoding = Decoding(how.n_channels, settings.catalog.fits_range)
    metadata["images"] = describe_images(trained, galaxies, decoding)
    checkpoint = save_checkpoint(path, trained.model, metadata, if_exists=if_exists)
    progress.unlink(missing_ok=True)
    return checkpoint


def _describe_inputs(galaxies: Galaxies, settings: Settings) -> dict[str, Any]:
    """Return what a checkpoint says of the galaxies and the settings that it was made from."""
    how = settings.training
    return {
        "arch": how.arch,
        "class_names": list(galaxies.class_names),
        "cutout_size": how.cutout_size,
        "image_size": how.network_size,
        "settings": settings.record(),
        "n_train": _count(galaxies, ~galaxies.in_valid),
        "n_valid": _count(galaxies, galaxies.in_valid),
        "catalog_sha256": galaxies.catalog_sha256,
        "simulated": galaxies.simulated,
        "seeds": {"split": settings.split.seed, "training": how.seed},
    }


def _load_progress(
    path: Path, follows_from: Mapping[str, Any], resume: Resume
) -> dict[str, Any] | None:
    """Return where a run that was stopped stands; None where there is none to go on with."""
    if not path.exists():
        if resume == "always":
            logger.info("%s: no unfinished training found; training from the start", path)
        return None
    if resume == "never":
        logger.info(
            "%s: left by an unfinished training; training from the start (stop, and use `resume` "
            "to go on with it)",
            path,
        )
        return None
    try:
        return load_progress(path, follows_from)
    except CheckpointError as exc:
        if resume == "always":
            raise CheckpointError(f"{exc}; train without `resume` to start over") from exc
        logger.info("%s; training from the start", exc)
        return None


def read_training_set(
    galaxies: Galaxies, settings: Settings, *, n_workers: int | None = None
) -> tuple[Galaxies, NDArray[np.uint8]]:
    """Decode every image once, and move the galaxies whose image fails to ``rejected``.

    One truncated file would otherwise end the training loop in its middle.

    Returns
    -------
    galaxies : Galaxies
        Those whose image is readable.
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Their images, as the network sees them.
    """
    how = settings.training
    decoding = Decoding(how.n_channels, settings.catalog.fits_range)
    cutouts, reasons = load_cutouts(
        galaxies.paths, how.cutout_size, how.network_size, decoding, n_workers=n_workers
    )
    stays = [row for row in range(len(galaxies)) if row not in reasons]
    for row, source in enumerate(stays if reasons else ()):
        # In place: they may be more than the memory holds twice.
        cutouts[row] = cutouts[source]
    return galaxies.reject(reasons), cutouts[: len(stays)]


def channel_statistics(
    cutouts: NDArray[np.uint8], in_train: NDArray[np.bool_]
) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel over the training set, in [0, 1].

    Sums of 8-bit integers, hence exact and independent of the order; over the whole training
    set, where fastai's ``Normalize`` would take one random batch.
    """
    n_channels, n_pixels = cutouts.shape[-1], 0
    total, squares = np.zeros(n_channels, np.int64), np.zeros(n_channels, np.int64)
    for row in np.flatnonzero(in_train):
        pixels = cutouts[row].reshape(-1, n_channels).astype(np.int64)
        total += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
        n_pixels += len(pixels)
    mean = total / n_pixels
    variance = squares / n_pixels - mean**2
    if np.any(variance <= 0):
        raise CatalogError(
            f"training set: {_name_channel(int(np.argmin(variance)), n_channels)} is the same in "
            "every pixel of every image, expected images of galaxies; check an image, and "
            "[catalog] images and fits_range"
        )
    return (mean / 255).tolist(), (np.sqrt(variance) / 255).tolist()


def _name_channel(channel: int, n_channels: int) -> str:
    return ("red", "green", "blue")[channel] if n_channels == 3 else "the band"


def _check_sets(galaxies: Galaxies) -> None:
    """Raise CatalogError where a class has no galaxy to train on, or none is left to validate."""
    advice = "change the split or its seed"
    if galaxies.rejected:
        advice = f"{describe_rejected(galaxies.rejected)}: fix these, or {advice}"
    for label, name in enumerate(galaxies.class_names):
        if not np.any((galaxies.label == label) & ~galaxies.in_valid):
            raise CatalogError(
                f"training set: no galaxy of class {name!r}, expected at least one; {advice}"
            )
    if not galaxies.in_valid.any():
        raise CatalogError(f"validation set: no galaxy, expected at least one; {advice}")


def _count(galaxies: Galaxies, mask: NDArray[np.bool_]) -> dict[str, int]:
    labels = galaxies.label[mask]
    return {name: int(np.sum(labels == i)) for i, name in enumerate(galaxies.class_names)}


def load_or_train(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
) -> Checkpoint:
    """Return the network that these settings make of these galaxies.

    A checkpoint that is there and was trained by the same recipe is used as it is, unless
    ``if_exists`` is "replace"; one of another recipe is replaced where it is "update".

    Raises
    ------
    CheckpointError
        The file there was trained by another recipe and is not to be replaced.
    """
    allowed: ErrorOrReplace = "replace" if if_exists == "replace" else "error"
    if path.exists() and if_exists != "replace":
        checkpoint = load_checkpoint(path)
        found, wanted = checkpoint.metadata.get("recipe", {}), describe_recipe(galaxies, settings)
        if found == wanted:
            logger.info("%s: already trained with this recipe", path)
            return checkpoint
        if if_exists == "error":
            raise CheckpointError(
                f"{path}: was trained with another recipe ({describe_difference(found, wanted)}); "
                f'use `if_exists="replace"` to train again, or `model` {path} to explain that '
                "network"
            )
        allowed = "replace"
    return train_checkpoint(
        galaxies,
        settings,
        path,
        if_exists=allowed,
        # The same command, run again, goes on where it was.
        resume="if_same",
        run=run,
    )


def train_checkpoint(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    if_exists: ErrorOrReplace = "error",
    resume: Resume = "never",
    run: RunOptions = DEFAULT_RUN,
) -> Checkpoint:
    """Set unreadable images aside, train a network on the others, and write its checkpoint.

    One process at a time does; see `galfig.runtime.lock.hold_lock`.
    """
    # What cannot be used is said before the images are read, not after.
    choose_device(run.device)
    readable, cutouts = read_training_set(galaxies, settings, n_workers=run.n_workers)
    if len(readable) < len(galaxies):
        report_rejected(readable, settings.catalog_path, n_known=len(galaxies.rejected))
    with hold_lock(path, takeover=run.takeover):
        remove_leftovers(path)
        return train_network(
            readable,
            cutouts,
            settings,
            path,
            recipe=describe_recipe(galaxies, settings),
            if_exists=if_exists,
            resume=resume,
            run=run,
        )
