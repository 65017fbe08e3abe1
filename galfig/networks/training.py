"""Training: a network fitted to galaxies, resumed where it stopped, and saved as a checkpoint."""

import json
import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import galfig
from galfig.catalog.galaxies import Galaxies
from galfig.catalog.sets import check_sets, count_classes
from galfig.config import Settings, TrainingSettings
from galfig.errors import CheckpointError, ConfigError, GalfigError
from galfig.images.cutouts import choose_decoding
from galfig.metrics import Accuracy, describe_baseline, rate_accuracy
from galfig.networks.architectures import build_network, find_layer
from galfig.networks.checkpoint import MAX_BYTES, Checkpoint, save_checkpoint
from galfig.networks.device import choose_device, computing_with
from galfig.networks.membership import record_members
from galfig.networks.memory import check_memory, measure_training
from galfig.networks.normalisation import normalising_together
from galfig.networks.pooling import pooling_in_place
from galfig.networks.precision import choose_precision, computing_in
from galfig.networks.processes import ALONE, Processes, join_processes
from galfig.networks.resume import load_progress, resume_path, save_progress
from galfig.networks.shift import describe_images
from galfig.networks.training_set import Labelled, channel_statistics, take_centres
from galfig.networks.transfer import Start, load_start, name_head
from galfig.runtime.files import ErrorOrReplace
from galfig.runtime.inputs import read_regular
from galfig.runtime.launch import find_place
from galfig.runtime.machine import count_processors
from galfig.runtime.options import DEFAULT_RUN, RunOptions

logger = logging.getLogger(__name__)

# Whether to resume an interrupted run: never; if its recipe is the same; or always, where another
# recipe is an error.
Resume = Literal["never", "if_same", "always"]


def train_network(
    galaxies: Galaxies,
    cutouts: NDArray[np.uint8],
    settings: Settings,
    path: Path,
    *,
    members: Mapping[str, str] | None = None,
    recipe: Mapping[str, Any] | None = None,
    if_exists: ErrorOrReplace = "error",
    resume: Resume = "never",
    start: Start | None = None,
    run: RunOptions = DEFAULT_RUN,
    check: Callable[[], object] = lambda: None,
    is_shown: bool = True,
) -> Checkpoint:
    """Train a classifier on the training set and write its checkpoint.

    Parameters
    ----------
    galaxies : Galaxies
        Training and validation set.
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Their images, from `galfig.networks.training_set.read_training_set`.
    settings : Settings
        The table ``training`` describes the network and its training; all tables are recorded.
    path : Path
        The checkpoint, a safetensors file; it appears when it is complete.
    members : mapping of str to str, optional
        Which galaxies train, validate and test the network, from
        `galfig.networks.membership.record_members`; by default, that of these galaxies.
    recipe : mapping, optional
        All that the checkpoint depends on; it is recorded, so that the same recipe is trained only
        once.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file exists.
    resume : {"never", "if_same", "always"}, default "never"
        Whether to resume an interrupted run after its last complete epoch. If that run had
        another recipe, "if_same" trains from the start, and "always" raises.
    start : Start, optional
        The weights to start from; by default, what `galfig.networks.transfer.load_start` loads
        for these settings, or random ones.
    run : RunOptions, optional
        Only ``device`` is used.
    check : callable, optional
        Called before each file appears, which is after each epoch; whatever it raises ends the
        training. See `galfig.runtime.lock.Lock.check`.
    is_shown : bool, default True
        Show the progress over the steps.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode. The same seed on the same kind of processor gives the same
        bytes, whether the run was interrupted or not, and however many processors there are.

    Raises
    ------
    CatalogError
        If a class has no galaxy in the training set, or none in the validation set (which the
        setting ``[split] allow_missing`` permits), or a channel is the same in every pixel.
    ConfigError
        If the architecture or the layer is unknown, or this machine lacks the device.
    CheckpointError
        If ``resume`` is "always" and the interrupted run had another recipe, or the trained
        weights are not finite.
    GalfigError
        If the validation loss is not finite at the end.
    OutputError
        If the file exists and ``if_exists`` is "error", or the file cannot be written.
    """
    processes = join_processes(run.device)
    device = choose_device(run.device) if processes.count == 1 else processes.device
    with processes.together():
        check_sets(galaxies, settings.split)
        precision = choose_precision(settings.training.precision, device)
        if start is None:
            start = load_start(settings, len(galaxies.class_names))
    progress = resume_path(path)
    follows_from = _describe_run(galaxies, settings, recipe or {}, device, precision, processes)

    def keep(state: dict[str, Any]) -> None:
        check()
        if processes.is_main:
            save_progress(progress, follows_from, state)

    before = _share_progress(progress, follows_from, resume, processes)
    model, fitted = fit_model(
        galaxies,
        cutouts,
        settings,
        start=start,
        device=device,
        before=before,
        keep=keep,
        is_shown=is_shown,
        processes=processes,
    )
    saved = None
    with processes.together():
        if processes.is_main:
            _check_loss(fitted)
            metadata = {
                **_describe_inputs(galaxies, settings),
                **({} if start is None else {"start": start.origin}),
                **fitted,
                "metrics": _describe_metrics(galaxies, fitted["history"][-1]),
                "members": dict(members or record_members(galaxies)),
                "recipe": dict(recipe or {}),
                "versions": _list_versions(),
            }
            metadata["images"] = _describe_seen(model, metadata, galaxies, settings)
            check()
            saved = save_checkpoint(path, model, metadata, if_exists=if_exists)
            progress.unlink(missing_ok=True)
            rated = _rate(galaxies, metadata["history"][-1])
            if doubt := describe_baseline(rated, galaxies.class_names):
                logger.warning("%s: validation set: %s", path, doubt)
    return _share_checkpoint(saved, model, processes)


def _list_versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("torch", "torchvision", "fastai")}
    return {"galfig": galfig.__version__, **libraries}


def _describe_run(
    galaxies: Galaxies,
    settings: Settings,
    recipe: Mapping[str, Any],
    device: torch.device,
    precision: str,
    processes: Processes,
) -> dict[str, Any]:
    """Return all that the epochs of a training follow from, so that no other run goes on with it.

    What one process left in float32 says nothing of precision and processes.
    """
    return {
        **recipe,
        "settings": settings.record(),
        "objid": list(galaxies.objid),
        "versions": _list_versions(),
        # Of several devices of one kind, any may go on.
        "device": device.type,
        **_describe_computing(precision, processes),
    }


def _describe_computing(precision: str, processes: Processes) -> dict[str, Any]:
    """Return the precision, unless it is float32, and the number of processes, unless it is one."""
    return {
        **({} if precision == "float32" else {"precision": precision}),
        **({} if processes.count == 1 else {"processes": processes.count}),
    }


def _check_loss(fitted: Mapping[str, Any]) -> None:
    """Raise GalfigError if the training diverged."""
    loss = fitted["history"][-1]["valid_loss"]
    if not np.isfinite(loss):
        raise GalfigError(
            f"training: the validation loss is {loss}, expected a finite number; try a "
            f"learning rate below {fitted['lr']:g}"
        )


def _describe_seen(
    model: nn.Module, metadata: dict[str, Any], galaxies: Galaxies, settings: Settings
) -> dict[str, Any]:
    """Describe the images that trained a network, with which new ones will be compared."""
    decoding = choose_decoding(settings.catalog, settings.n_channels)
    trained = Checkpoint(model, galaxies.class_names, metadata["layer"], metadata)
    return describe_images(trained, galaxies, decoding)


def _share_checkpoint(
    saved: Checkpoint | None, model: nn.Module, processes: Processes
) -> Checkpoint:
    """Return the checkpoint that process 0 saved; the others have its network already."""
    words = {} if saved is None else {"digest": saved.digest, "metadata": saved.metadata}
    found = json.loads(processes.send(json.dumps(words).encode()))
    if saved is not None:
        return saved
    metadata = found["metadata"]
    names = tuple(metadata["class_names"])
    return Checkpoint(model.cpu(), names, metadata["layer"], metadata, found["digest"])


def fit_model(
    galaxies: Labelled,
    cutouts: NDArray[np.uint8],
    settings: Settings,
    *,
    start: Start | None = None,
    device: torch.device | str = "cpu",
    before: dict[str, Any] | None = None,
    keep: Callable[[dict[str, Any]], None] = lambda state: None,
    n_workers: int | None = None,
    is_shown: bool = True,
    is_logged: bool = True,
    processes: Processes = ALONE,
) -> tuple[nn.Module, dict[str, Any]]:
    """Fit a network, and write no file.

    Parameters
    ----------
    galaxies : Galaxies or Labelled
        Training and validation set, N galaxies: all that are not of the validation set train.
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Their images, as from `galfig.networks.training_set.read_training_set`.
    settings : Settings
        The table ``training`` describes the network and its training.
    start : Start, optional
        The weights to start from; random ones by default.
    device : torch.device or str, default "cpu"
        Where to train.
    before : dict, optional
        State of an interrupted run, as it was passed to ``keep``; None to train from the start.
    keep : callable, optional
        Called after each epoch but the last with a dict of all that the next epoch depends on.
    n_workers : int, optional
        Processes that assemble batches, 0 for none beside this one; by default, 0 except for
        random crops on a GPU.
    is_shown : bool, default True
        Show the progress over the steps.
    is_logged : bool, default True
        Log the metrics of each epoch.
    processes : Processes, optional
        Those that train together, each with its share of a batch, and each of which calls this.
        They divide the threads as well.

    Returns
    -------
    model : nn.Module
        The network in evaluation mode, on ``device``. Where the training diverged, the last
        ``valid_loss`` of the history is not finite.
    metadata : dict
        Its ``layer``, the ``mean`` and ``std`` that normalise its images, and how the training
        went: ``lr``, ``lr_finder`` and ``history``, the ``precision`` if it is not float32, and
        the number of ``processes`` if there are several.

    Raises
    ------
    CatalogError
        If a channel is the same in every pixel.
    ConfigError
        If the architecture or the layer is unknown, the environment forbids the threads, or this
        machine the precision.
    """
    # fastai takes seconds to import, and only training needs it.
    from galfig.networks.learner import fit_network, make_learner, seeded

    training, n_classes = settings.training, len(galaxies.class_names)
    mean, std = _choose_statistics(galaxies, cutouts, training, start)
    head = name_head(settings, n_classes)
    if n_workers is None:
        n_workers = _count_workers(training, device)
    precision = choose_precision(training.precision, device)
    n_threads = _count_threads(training, precision, processes)
    with seeded(training.seed), computing_with(n_threads):
        model = build_network(training.arch, n_classes, settings.n_channels)
        if start is not None:
            start.load_into(model)
        layer, _ = find_layer(
            model.eval(),
            settings.maps.layer,
            training.network_size,
            training.arch,
            settings.n_channels,
        )
        learner = make_learner(
            model.train(),
            galaxies,
            cutouts,
            training,
            mean,
            std,
            head=head,
            device=device,
            n_workers=n_workers,
            processes=processes,
        )
        processes.copy_main(list(model.state_dict().values()))
        with (
            computing_in(model, precision, device),
            normalising_together(model, processes),
            pooling_in_place(model),
        ):
            history, lr, finder = fit_network(
                learner, training, before, keep, head, is_shown=is_shown, is_logged=is_logged
            )
    metadata = {
        "layer": layer,
        "mean": mean,
        "std": std,
        "lr": lr,
        "lr_finder": finder,
        "history": history,
        **_describe_computing(precision, processes),
    }
    return learner.model.eval(), metadata


def _choose_statistics(
    galaxies: Labelled, cutouts: NDArray[np.uint8], training: TrainingSettings, start: Start | None
) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each channel, by which images are normalised."""
    mean, std = channel_statistics(take_centres(cutouts, training), galaxies.in_train)
    if start is not None and start.mean is not None and start.std is not None:
        # The filters were trained for images that were normalised so.
        return list(start.mean), list(start.std)
    return mean, std


def _count_workers(training: TrainingSettings, device: torch.device | str) -> int:
    """Return how many processes assemble batches."""
    # It takes a small fraction of the time, except for crops beside a GPU.
    is_slow = torch.device(device).type == "cuda" and training.crop_margin > 0
    return torch.get_num_threads() if is_slow else 0


def _count_threads(training: TrainingSettings, precision: str, processes: Processes) -> int:
    """Return with how many threads a process computes."""
    n_threads = max(1, training.threads // processes.n_local)
    # In bfloat16, oneDNN's threads wait for each other without giving way. Those that share a
    # processor then take ten times as long.
    return n_threads if precision == "float32" else min(n_threads, count_processors())


def _describe_metrics(galaxies: Galaxies, epoch: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of an epoch, with the share of the majority class beside them."""
    from galfig.networks.learner import METRICS

    return {
        **{name: epoch[name] for name in ("valid_loss", *METRICS)},
        "majority_share": _rate(galaxies, epoch).majority_share,
    }


def _rate(galaxies: Galaxies, epoch: Mapping[str, float]) -> Accuracy:
    """Rate the accuracy of an epoch against the majority class of the validation set."""
    n_in_class = list(count_classes(galaxies, galaxies.in_valid).values())
    n_right = round(epoch["accuracy"] * sum(n_in_class))
    return rate_accuracy(n_right, n_in_class, epoch["balanced_accuracy"])


def _describe_inputs(galaxies: Galaxies, settings: Settings) -> dict[str, Any]:
    """Return the metadata that describe the galaxies and the settings of a training."""
    training = settings.training
    return {
        "arch": training.arch,
        "class_names": list(galaxies.class_names),
        "cutout_size": settings.cutout_size,
        "image_size": training.network_size,
        "settings": settings.record(),
        "n_train": count_classes(galaxies, galaxies.in_train),
        "n_valid": count_classes(galaxies, galaxies.in_valid),
        "catalog_sha256": galaxies.catalog_sha256,
        "simulated": galaxies.simulated,
        "seeds": {"split": settings.split.seed, "training": training.seed},
    }


def _load_progress(
    path: Path, follows_from: Mapping[str, Any], resume: Resume
) -> dict[str, Any] | None:
    """Return the state of an interrupted run, or None if there is none to resume."""
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


def _share_progress(
    path: Path, follows_from: Mapping[str, Any], resume: Resume, processes: Processes
) -> dict[str, Any] | None:
    """Return what `_load_progress` does in process 0, which alone may see the file."""
    before, data = None, b""
    with processes.together():
        if processes.is_main:
            before = _load_progress(path, follows_from, resume)
            if before is not None and processes.count > 1:
                data = read_regular(path, MAX_BYTES)
    if processes.count == 1:
        return before
    data = processes.send(data)
    with processes.together():
        if data and not processes.is_main:
            before = load_progress(path, follows_from, data)
    return before


def check_trainable(galaxies: Labelled, settings: Settings, device: torch.device) -> None:
    """Check that a network can be trained, before any image is read.

    Parameters
    ----------
    galaxies : Galaxies or Labelled
        Training and validation set.
    settings : Settings
        The table ``training`` describes the network and its training.
    device : torch.device
        Where to train.

    Raises
    ------
    ConfigError
        If the architecture is unknown, does not return logits alone in training, a step of the
        training cannot fit in the memory, or there are more processes than images in a batch.
    """
    training = settings.training
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        skeleton = build_network(training.arch, len(galaxies.class_names), settings.n_channels)
    shape = (settings.n_channels, training.network_size, training.network_size)
    n_images = min(training.batch_size, int(np.sum(galaxies.in_train)))
    n_processes = find_place().n_processes
    if n_images < n_processes:
        raise ConfigError(
            f"training: {n_processes} processes for batches of {n_images} galaxies, expected a "
            "galaxy for each at least; start fewer processes, or choose a larger `batch_size`"
        )
    n_images = -(-n_images // n_processes)
    try:
        logits = skeleton(torch.zeros(2, *shape, device="meta"))
        needed = measure_training(skeleton, shape, max(n_images, 1))
    except Exception:
        # A network that cannot take such images is refused by `find_layer`, which says why.
        return
    if not isinstance(logits, torch.Tensor):
        raise ConfigError(
            f"{training.arch}: gives a {type(logits).__name__} in training, expected logits alone; "
            "choose another `arch`, or switch further outputs off where it has an option for that"
        )
    check_memory(
        f"{training.arch}, training on {n_images} images of {shape[-1]} pixels at a time",
        needed,
        device,
        "choose a smaller `image_size` or `batch_size`",
    )
