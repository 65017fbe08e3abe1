"""Training: a network trained once for given galaxies and settings, and kept as a checkpoint."""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import galfig
from galfig.catalog.frames import report_frames
from galfig.catalog.galaxies import Galaxies, describe_rejected, report_rejected
from galfig.catalog.sample import load_sample, name_catalog
from galfig.config import (
    MAX_NETWORKS,
    Settings,
    SplitSettings,
    TrainingSettings,
    load_settings,
)
from galfig.errors import CatalogError, CheckpointError, ConfigError, GalfigError, OutputError
from galfig.images.cutouts import choose_decoding
from galfig.images.sources import Source
from galfig.metrics import Accuracy, describe_baseline, describe_few, rate_accuracy
from galfig.networks.architectures import build_network, check_arch, find_layer
from galfig.networks.checkpoint import (
    MAX_BYTES,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from galfig.networks.device import choose_device, computing_with
from galfig.networks.ensemble import (
    SUFFIX,
    describe_accuracies,
    join_networks,
    list_networks,
    name_network,
)
from galfig.networks.membership import find_splits, record_members
from galfig.networks.memory import check_memory, measure_training
from galfig.networks.normalisation import normalising_together
from galfig.networks.precision import choose_precision, computing_in
from galfig.networks.processes import ALONE, Processes, join_processes
from galfig.networks.recipe import (
    describe_difference,
    describe_recipe,
    is_same_recipe,
    restore_recipe,
)
from galfig.networks.resume import load_progress, resume_path, save_progress
from galfig.networks.shift import describe_images
from galfig.networks.training_set import (
    Labelled,
    channel_statistics,
    digest_training_set,
    read_training_set,
    take_centres,
    take_used,
)
from galfig.networks.transfer import Start, digest_init, load_start, name_head
from galfig.runtime.files import (
    ErrorOrReplace,
    IfExists,
    check_apart,
    check_home,
    check_output,
    remove_leftovers,
)
from galfig.runtime.inputs import read_regular
from galfig.runtime.launch import find_place
from galfig.runtime.lock import hold_lock
from galfig.runtime.machine import count_processors
from galfig.runtime.messages import require_choice
from galfig.runtime.options import DEFAULT_RUN, Device, RunOptions
from galfig.runtime.progress import show_progress

logger = logging.getLogger(__name__)

# Whether to resume an interrupted run: never; if its recipe is the same; or always, where another
# recipe is an error.
Resume = Literal["never", "if_same", "always"]


def train(
    catalog: Galaxies | Path | str,
    out: Path | str | None = None,
    *,
    if_exists: ErrorOrReplace = "error",
    resume: Resume = "never",
    device: Device = "auto",
    takeover: bool = False,
    **training: Any,
) -> Checkpoint:
    """Train a classifier on the galaxies of a catalog, and write its checkpoint.

    With ``networks=5``, five networks are trained with other seeds into a folder; see
    `train_networks`. In a program that ``accelerate launch`` started, all its processes train
    together; each of them must call this.

    Parameters
    ----------
    catalog : Galaxies, Path or str
        The galaxies, from `galfig.load_catalog`, or the path of a catalog.
    out : Path or str, optional
        The checkpoint; it appears when it is complete. Of several networks, their folder. By
        default "model.safetensors", or "networks".
    if_exists : {"error", "replace"}, default "error"
        What to do if the file exists.
    resume : {"never", "if_same", "always"}, default "never"
        Whether to resume an interrupted run after its last complete epoch. If that run had
        another recipe, "if_same" trains from the start, and "always" raises.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, default "auto"
        Where to train; "auto" takes CUDA where there is one.
    takeover : bool, default False
        Take over a stale lock from another host.
    **training
        Keys of the table ``training`` of the settings, such as ``epochs=10``; they override those
        of the catalog.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode. ``metadata["metrics"]`` holds the metrics of the validation
        set. Of several networks, ``networks`` holds each of them.

    Raises
    ------
    ConfigError
        If a setting is unknown or has the wrong type, or this machine lacks the device.
    CatalogError
        If the catalog cannot be used, or a class has no galaxy in the training set, or none in
        the validation set (which the setting ``[split] allow_missing`` permits).
    CheckpointError
        If ``resume`` is "always" and the interrupted run had another recipe.
    OutputError
        If the file exists and ``if_exists`` is "error", or the file cannot be written.
    LockError
        If another process is making the same file.
    LostCutoutError
        If an image has disappeared since the catalog was read.
    ElsewhereError
        If ``accelerate launch`` started several processes, of which another failed.
    GalfigError
        If the validation loss is not finite at the end.
    """
    run = RunOptions(device=device, takeover=takeover)

    def read() -> tuple[Galaxies, Settings, Path]:
        require_choice("if_exists", if_exists, get_args(ErrorOrReplace))
        require_choice("resume", resume, get_args(Resume))
        overrides = {("training", key): value for key, value in training.items()}
        found = name_catalog(catalog) if isinstance(catalog, Path | str) else catalog.settings
        settings = load_settings(found, overrides)
        path = Path(settings.training.output if out is None else out)
        check_training(settings, path, if_exists=if_exists, resume=resume, run=run)
        galaxies = load_sample(found) if isinstance(catalog, Path | str) else catalog
        return galaxies, settings, path

    galaxies, settings, path = join_processes(device).take_turns(read)
    options: dict[str, Any] = {"if_exists": if_exists, "resume": resume, "run": run}
    if settings.training.networks > 1:
        return train_networks(galaxies, settings, path, **options)
    return train_checkpoint(galaxies, settings, path, **options)


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
        Their images, from `read_training_set`.
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
        _check_sets(galaxies, settings.split)
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
        with computing_in(model, precision, device), normalising_together(model, processes):
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
    n_in_class = list(_count(galaxies, galaxies.in_valid).values())
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
        "n_train": _count(galaxies, galaxies.in_train),
        "n_valid": _count(galaxies, galaxies.in_valid),
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


def _check_sets(galaxies: Galaxies, split: SplitSettings) -> None:
    """Raise CatalogError if a class has no galaxy to train on or to validate; warn of few."""
    advice = "change the split or its seed"
    if galaxies.rejected:
        advice = f"{describe_rejected(galaxies.rejected)}: fix these, or {advice}"
    for label, name in enumerate(galaxies.class_names):
        if not np.any((galaxies.label == label) & galaxies.in_train):
            raise CatalogError(
                f"training set: no galaxy of class {name!r}, expected at least one; {advice}"
            )
    if not galaxies.in_valid.any():
        raise CatalogError(f"validation set: no galaxy, expected at least one; {advice}")
    n_train, n_valid = (_count(galaxies, mask) for mask in (galaxies.in_train, galaxies.in_valid))
    lacking = [name for name, n in n_valid.items() if not n]
    if lacking and not split.allow_missing:
        raise CatalogError(
            f"validation set: no galaxy of class {lacking[0]!r}, expected some in each class, "
            f"without which its metrics are not defined; {advice}, or set [split] allow_missing = "
            "true"
        )
    for shortage in describe_few(n_train, n_valid):
        logger.warning("few galaxies: %s; the metrics mean little", shortage)


def _count(galaxies: Galaxies, mask: NDArray[np.bool_]) -> dict[str, int]:
    labels = galaxies.label[mask]
    return {name: int(np.sum(labels == i)) for i, name in enumerate(galaxies.class_names)}


def _warn_of_overlap(start: Start, galaxies: Galaxies) -> None:
    """Warn of galaxies of the validation set that already trained the weights to start from."""
    if start.checkpoint is None or start.checkpoint.record.members is None:
        return
    is_valid = galaxies.in_valid
    n_seen = int(np.sum(is_valid & (find_splits(start.checkpoint, galaxies) == "train")))
    if n_seen:
        logger.warning(
            "%s: %d of the %d galaxies of the validation set trained these weights, so that its "
            "accuracy says less of galaxies that the network never saw; choose another split",
            start.origin["source"],
            n_seen,
            int(np.sum(is_valid)),
        )


def load_or_train(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
) -> Checkpoint:
    """Load the checkpoint of these galaxies and settings, or train it.

    Parameters
    ----------
    galaxies : Galaxies
        Training and validation set.
    settings : Settings
        The settings; if they ask for several networks, these are an ensemble.
    path : Path
        The checkpoint, or the folder of the networks.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the checkpoint exists. "error" and "update" load a checkpoint of the same
        recipe; for one of another recipe "error" raises and "update" replaces it. "replace"
        trains again.
    run : RunOptions, optional
        Device, threads, and whether to take over from a process on another host.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file cannot be used, or was trained by another recipe and ``if_exists`` is "error".
    GalfigError
        As `train_checkpoint`.
    """
    if settings.training.networks > 1:
        return train_networks(
            galaxies, settings, path, if_exists=if_exists, resume="if_same", run=run
        )
    allowed: ErrorOrReplace = "replace" if if_exists == "replace" else "error"
    if path.exists() and if_exists != "replace":
        checkpoint = load_checkpoint(path)
        images = partial(digest_training_set, galaxies, n_workers=run.n_workers)
        difference = _find_difference(checkpoint, galaxies, settings, digest_init(settings), images)
        if not difference:
            logger.info("%s: already trained with this recipe", path)
            return checkpoint
        if if_exists == "error":
            raise CheckpointError(
                f"{path}: was trained with another recipe ({difference}); "
                f'use `if_exists="replace"` to train again, or `model` {path} to explain that '
                "network"
            )
        allowed = "replace"
    return train_checkpoint(
        galaxies,
        settings,
        path,
        if_exists=allowed,
        # The same command, run again, resumes where it stopped.
        resume="if_same",
        run=run,
    )


def _find_difference(
    checkpoint: Checkpoint,
    galaxies: Galaxies,
    settings: Settings,
    init_digest: str | None,
    digest_images: Callable[[], str],
) -> str:
    """Describe how a checkpoint's recipe differs from that of galaxies and settings; "" if not."""
    found = restore_recipe(checkpoint.metadata.get("recipe", {}))
    wanted = describe_recipe(galaxies, settings, init_digest=init_digest)
    if is_same_recipe(found, wanted) and "image_digest" in found:
        # Only now, since all images must be read for it.
        wanted = describe_recipe(galaxies, settings, digest_images(), init_digest)
    return "" if is_same_recipe(found, wanted) else describe_difference(found, wanted)


def train_checkpoint(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    if_exists: ErrorOrReplace = "error",
    resume: Resume = "never",
    run: RunOptions = DEFAULT_RUN,
) -> Checkpoint:
    """Train a network on the galaxies whose image is readable, and write its checkpoint.

    Only one process at a time makes a checkpoint; see `galfig.runtime.lock.hold_lock`.

    Parameters
    ----------
    galaxies : Galaxies
        Training and validation set.
    settings : Settings
        The settings.
    path : Path
        The checkpoint; it appears when it is complete.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file exists.
    resume : {"never", "if_same", "always"}, default "never"
        Whether to resume an interrupted run; see `train_network`.
    run : RunOptions, optional
        Device, threads, and whether to take over from a process on another host.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode.

    Raises
    ------
    ConfigError
        If the memory cannot hold a step of the training.
    LockError
        If another process is making the same file.
    LostCutoutError
        If an image has disappeared since the catalog was read.
    GalfigError
        As `train_network`.
    """
    processes = join_processes(run.device)
    with processes.together():
        prepared = _prepare(galaxies, settings, run)
    with _hold_lock(path, run, processes) as check:
        if processes.is_main:
            remove_leftovers(path)
        return prepared.train(
            settings, path, if_exists=if_exists, resume=resume, run=run, check=check
        )


@contextmanager
def _hold_lock(path: Path, run: RunOptions, processes: Processes) -> Iterator[Callable[[], object]]:
    """Hold a lock in process 0; return what checks that it is held."""
    with ExitStack() as stack:
        check: Callable[[], object] = lambda: None  # noqa: E731
        with processes.together():
            if processes.is_main:
                check = stack.enter_context(hold_lock(path, takeover=run.takeover)).check
        yield check


@dataclass(frozen=True)
class _Prepared:
    """A training set in memory, and what networks that it trains follow from."""

    galaxies: Galaxies
    readable: Galaxies
    cutouts: NDArray[np.uint8]
    members: dict[str, str]
    image_digest: str
    init_digest: str | None
    start: Start | None

    def train(self, settings: Settings, path: Path, **options: Any) -> Checkpoint:
        """Train a network; see `train_network` for the options."""
        return train_network(
            self.readable,
            self.cutouts,
            settings,
            path,
            members=self.members,
            recipe=describe_recipe(self.galaxies, settings, self.image_digest, self.init_digest),
            start=self.start,
            **options,
        )


def _prepare(galaxies: Galaxies, settings: Settings, run: RunOptions) -> _Prepared:
    """Read the images of a training set, after all that can be checked without them."""
    # Report a missing device, one that is too small, and weights that do not fit before the images
    # are read, not after.
    device = choose_device(run.device)
    choose_precision(settings.training.precision, device)
    check_trainable(galaxies, settings, device)
    start = load_start(settings, len(galaxies.class_names))
    init_digest = None
    if start is not None:
        init_digest = start.origin["sha256"] if settings.training.init is not None else None
        _warn_of_overlap(start, galaxies)
    report_frames(
        take_used(galaxies),
        settings.catalog,
        settings.cutout_size,
        settings.catalog_path,
        is_chosen="cutout_size" in settings.training.model_fields_set,
    )
    digests: dict[Source, int] = {}
    readable, cutouts = read_training_set(
        galaxies, settings, n_workers=run.n_workers, digests=digests
    )
    image_digest = digest_training_set(galaxies, known=digests)
    if len(readable.rejected) > len(galaxies.rejected):
        report_rejected(readable, settings.catalog_path, n_known=len(galaxies.rejected))
    members = record_members(galaxies.drop(readable.rejected), known=digests)
    return _Prepared(galaxies, readable, cutouts, members, image_digest, init_digest, start)


def train_networks(
    galaxies: Galaxies,
    settings: Settings,
    folder: Path,
    *,
    if_exists: IfExists = "error",
    resume: Resume = "never",
    run: RunOptions = DEFAULT_RUN,
) -> Checkpoint:
    """Train several networks by one recipe with other seeds, each to a file of a folder.

    The files are ``network-1.safetensors`` and so on, and each appears when it is complete. The
    first has the seed of the settings, and is the network that a single training gives; the others
    have seeds that `derive_seed` derives from it. All have the same split.

    Parameters
    ----------
    galaxies : Galaxies
        Training and validation set.
    settings : Settings
        The settings; ``[training] networks`` is the number of networks.
    folder : Path
        The folder, made if there is none.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if networks are there. With ``resume``, networks of this recipe are kept, unless
        it is "if_same" and ``if_exists`` is "replace". For any other network "error" raises, and
        the others train again.
    resume : {"never", "if_same", "always"}, default "never"
        Whether to go on with what an earlier run left; see `train_network` for a single network.
    run : RunOptions, optional
        Device, threads, and whether to take over from a process on another host.

    Returns
    -------
    Checkpoint
        The ensemble; see `galfig.networks.ensemble.join_networks`.

    Raises
    ------
    CheckpointError
        If a network that is there has another recipe and must not be replaced, or cannot be used.
    OutputError
        If networks are there and must not be replaced, or the folder holds others than these.
    LockError
        If another process is training into the folder.
    GalfigError
        As `train_checkpoint`.
    """
    check_trained(settings, folder, if_exists=if_exists, resume=resume)
    n_networks = settings.training.networks
    jobs = {
        name_network(folder, number): _choose_network(settings, number)
        for number in range(1, n_networks + 1)
    }
    processes = join_processes(run.device)
    with _hold_lock(folder, run, processes) as check:
        is_again = resume == "never" or (resume == "if_same" and if_exists == "replace")
        with processes.together():
            known = {} if is_again else _load_known(galaxies, jobs, if_exists, run)
        todo = [path for path in jobs if path not in known]
        if todo:
            if known:
                logger.info("%s: %d of %d networks are there", folder, len(known), n_networks)
            with processes.together():
                prepared = _prepare(galaxies, settings, run)
            n_epochs = settings.training.epochs
            total = n_networks * n_epochs
            with show_progress("training", total, "epochs", initial=len(known) * n_epochs) as step:
                for path in todo:
                    if processes.is_main:
                        remove_leftovers(path)
                    logger.info("%s: seed %d", path, jobs[path].training.seed)
                    counted = _CountedCheck(check, step)
                    known[path] = prepared.train(
                        jobs[path],
                        path,
                        if_exists="error" if if_exists == "error" else "replace",
                        resume=resume,
                        run=run,
                        check=counted,
                        is_shown=False,
                    )
                    # Those that an interrupted run had done.
                    step(n_epochs - counted.n_calls)
        with processes.together():
            check()
            for path in _list_further(folder, jobs) if processes.is_main else ():
                logger.info("%s: removed, since %d networks were asked for", path, n_networks)
                path.unlink()
    ensemble = join_networks([known[path] for path in jobs], [str(path) for path in jobs])
    logger.info("%s: %s", folder, describe_accuracies(ensemble))
    return ensemble


class _CountedCheck:
    """A check before each file of a training, which counts its epochs."""

    def __init__(self, check: Callable[[], object], step: Callable[[int], object]) -> None:
        self._check = check
        self._step = step
        self.n_calls = 0

    def __call__(self) -> None:
        self._check()
        self.n_calls += 1
        self._step(1)


def derive_seed(seed: int, number: int) -> int:
    """Return the seed of the training of a network of an ensemble.

    Consecutive seeds would make two ensembles share networks if their own seeds are consecutive.

    Parameters
    ----------
    seed : int
        The seed of the settings, below 2^32.
    number : int
        Number of the network, from 1.

    Returns
    -------
    int
        For the first network, the seed itself; for the others, the first 4 bytes, big-endian, of
        the SHA-256 of "SEED NUMBER".
    """
    if number == 1:
        return seed
    return int.from_bytes(sha256(f"{seed} {number}".encode()).digest()[:4], "big")


def _choose_network(settings: Settings, number: int) -> Settings:
    """Return the settings of one network of an ensemble."""
    seed = derive_seed(settings.training.seed, number)
    training = settings.training.model_copy(update={"seed": seed, "networks": 1})
    return settings.model_copy(update={"training": training})


def _load_known(
    galaxies: Galaxies, jobs: Mapping[Path, Settings], if_exists: IfExists, run: RunOptions
) -> dict[Path, Checkpoint]:
    """Load the networks of an ensemble that are there by the right recipe.

    Raises CheckpointError for any other, unless it may be replaced.
    """
    digest_images = cache(partial(digest_training_set, galaxies, n_workers=run.n_workers))
    known = {}
    for path, settings in jobs.items():
        if not path.exists():
            continue
        checkpoint = load_checkpoint(path)
        init_digest = digest_init(settings)
        difference = _find_difference(checkpoint, galaxies, settings, init_digest, digest_images)
        if not difference:
            known[path] = checkpoint
        elif if_exists == "error":
            raise CheckpointError(
                f"{path}: was trained with another recipe ({difference}); use "
                '`if_exists="replace"` to train again, or another folder to keep both'
            )
    return known


def _list_further(folder: Path, wanted: Collection[Path]) -> list[Path]:
    """Return the networks of a folder that an ensemble of fewer does not have."""
    if not folder.is_dir():
        return []
    return [path for path in list_networks(folder) if path not in wanted]


def check_training(
    settings: Settings,
    path: Path,
    *,
    if_exists: IfExists = "error",
    resume: Resume = "never",
    run: RunOptions = DEFAULT_RUN,
) -> None:
    """Check all of a training that needs neither galaxies nor images, before these are read.

    Parameters
    ----------
    settings, path, if_exists, resume, run
        As of `train_checkpoint`.

    Raises
    ------
    ConfigError
        If this machine lacks the device, or the architecture is unknown.
    CheckpointError
        If the weights to start from cannot be read.
    OutputError
        As `check_trained`.
    """
    check_trained(settings, path, if_exists=if_exists, resume=resume)
    choose_device(run.device)
    check_arch(settings.training.arch, n_channels=settings.n_channels)
    digest_init(settings)


def check_trained(
    settings: Settings, path: Path, *, if_exists: IfExists = "error", resume: Resume = "never"
) -> None:
    """Check that what is trained may be written, before any work.

    Parameters
    ----------
    settings : Settings
        The settings; ``[training] networks`` is the number of networks.
    path : Path
        The checkpoint, or the folder of several.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if it exists.
    resume : {"never", "if_same", "always"}, default "never"
        Whether networks of a folder are kept.

    Raises
    ------
    OutputError
        If it exists and must not be replaced, is no file or no folder as it should be, or the
        folder holds networks that are not those of an ensemble of this number.
    """
    n_networks = settings.training.networks
    if n_networks == 1:
        check_apart(path, settings.input_files)
        check_output(path, if_exists=if_exists)
        return
    check_home(path)
    if path.suffix == SUFFIX or (path.exists() and not path.is_dir()):
        raise OutputError(
            f"{path}: names a file, expected a folder for {n_networks} networks; give another `out`"
        )
    found = list_networks(path) if path.is_dir() else []
    if found and if_exists == "error" and resume == "never":
        raise OutputError(
            f"{path}: holds {len(found)} networks already; use `resume` to go on, or "
            '`if_exists="replace"` to train all again'
        )
    own = [name_network(path, number) for number in range(1, MAX_NETWORKS + 1)]
    for file in found:
        if file not in own:
            raise OutputError(
                f"{file}: is none of the networks that are trained here, expected a folder without "
                "others; move it away, or give another `out`"
            )
        if file not in own[:n_networks] and if_exists == "error":
            raise OutputError(
                f"{path}: holds {file.name} as well, expected {n_networks} networks; use "
                f'`networks={len(found)}`, or `if_exists="replace"` to remove what is beyond'
            )
