"""Training: fastai's data block and learner, around galfig's galaxies and checkpoints."""

import copy
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

import galfig
from galfig.catalog import Galaxies, describe_rejected
from galfig.config import Settings, TrainingSettings
from galfig.cutouts import Decoding, load_cutouts
from galfig.errors import CatalogError, CheckpointError, GalfigError
from galfig.network import Checkpoint, build_network, find_layer, save_checkpoint
from galfig.resume import load_progress, resume_path, save_progress
from galfig.shift import describe_images

with warnings.catch_warnings():
    # fastai decorates functions in a way that torch deprecates.
    warnings.simplefilter("ignore")
    import fastai.callback.data  # noqa: F401  (adds DataBlock.weighted_dataloaders)
    from fastai.callback.core import Callback, CancelEpochException
    from fastai.callback.progress import ProgressCallback
    from fastai.callback.schedule import LRFinder, ParamScheduler, valley
    from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
    from fastai.data.core import DataLoaders
    from fastai.data.transforms import ColReader, ColSplitter, IntToFloatTensor, Normalize
    from fastai.learner import Learner
    from fastai.losses import CrossEntropyLossFlat
    from fastai.metrics import AccumMetric
    from fastai.optimizer import ranger
    from fastai.torch_core import (
        TensorImage,
        TensorImageBW,
        get_random_states,
        no_random,
        set_random_states,
    )
    from fastai.vision.augment import aug_transforms

logger = logging.getLogger(__name__)

METRICS = ("accuracy", "roc_auc", "f1")
# Of fastai's random states, those that training moves on.
_RANDOM_STATES = ("random_state", "numpy_state", "torch_state", "torch_cuda_state")


def train_network(
    galaxies: Galaxies,
    cutouts: NDArray[np.uint8],
    settings: Settings,
    path: Path,
    *,
    recipe: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
    n_workers: int = 0,
    quiet: bool = False,
    overwrite: bool = False,
    resume: bool | None = False,
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
    device : torch.device or str, default "cpu"
        Where to train.
    n_workers : int, default 0
        Processes that put batches together; 0 does it in this one. Without effect on the result.
    quiet : bool, default False
        Without the progress bar and the metrics of each epoch.
    overwrite : bool, default False
        Replace a file that is there.
    resume : bool or None, default False
        Go on from the last epoch that a run of the same recipe, which was stopped, came to. With
        None a run of another recipe is no error, and forgotten.

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
        An unknown architecture or layer.
    CheckpointError
        The run that was stopped was one of another recipe.
    """
    how = settings.training
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
    with no_random(how.seed, reproducible=True):
        model = build_network(how.arch, len(galaxies.class_names), how.n_channels)
        layer_name, _ = find_layer(
            model.eval(), settings.maps.layer, how.network_size, how.arch, how.n_channels
        )
        learner = make_learner(
            model.train(), galaxies, cutouts, how, mean, std, device=device, n_workers=n_workers
        )
        keep = partial(save_progress, progress, follows_from)
        history, lr, finder = _fit(learner, how, before, keep, quiet)
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
    checkpoint = save_checkpoint(path, trained.model, metadata, overwrite=overwrite)
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
    path: Path, follows_from: Mapping[str, Any], resume: bool | None
) -> dict[str, Any] | None:
    """Return where a run that was stopped stands; None where there is none to go on with."""
    if not path.exists():
        if resume:
            logger.info("%s: nothing to go on with; training from the start", path)
        return None
    if resume is False:
        logger.info(
            "%s: a training that was not finished, stop and use --resume to go on with it; "
            "training from the start",
            path,
        )
        return None
    try:
        return load_progress(path, follows_from)
    except CheckpointError as exc:
        if resume:
            raise CheckpointError(f"{exc}; train without --resume to start anew") from exc
        logger.info("%s; training from the start", exc)
        return None


def _fit(
    learner: Learner,
    how: TrainingSettings,
    before: dict[str, Any] | None,
    keep: Callable[[dict[str, Any]], None],
    quiet: bool,
) -> tuple[list[dict[str, float]], float, dict[str, list[float]] | None]:
    """Train, or go on with it; return the history, the rate, and the finder's curve if it ran."""
    if before is not None:
        lr, finder = before["lr"], before["finder"]
        logger.info("resuming: %d of %d epochs are done", len(before["history"]), how.epochs)
    elif how.lr == "auto":
        lr, finder = find_lr(learner)
        logger.info("learning rate from the finder: %.2g", lr)
    else:
        lr, finder = how.lr, None
    keeper = _Keeper(before, lambda state: keep({**state, "lr": lr, "finder": finder}))
    with _progress_bar(learner, how.epochs, quiet):
        fit = learner.fit_one_cycle if how.schedule == "one-cycle" else learner.fit_flat_cos
        fit(how.epochs, lr, cbs=[keeper, _SettleBatchNorm()])
    return keeper.history, lr, finder


def read_training_set(
    galaxies: Galaxies, settings: Settings, *, n_workers: int | None = None, quiet: bool = False
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
        galaxies.paths,
        how.cutout_size,
        how.network_size,
        decoding,
        n_workers=n_workers,
        quiet=quiet,
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
            "every pixel of every image, expected images of galaxies; look at one, and at "
            "[catalog] images and fits_range"
        )
    return (mean / 255).tolist(), (np.sqrt(variance) / 255).tolist()


def _name_channel(channel: int, n_channels: int) -> str:
    return ("red", "green", "blue")[channel] if n_channels == 3 else "the band"


def make_learner(
    model: nn.Module,
    galaxies: Galaxies,
    cutouts: NDArray[np.uint8],
    how: TrainingSettings,
    mean: list[float],
    std: list[float],
    *,
    device: torch.device | str = "cpu",
    n_workers: int = 0,
) -> Learner:
    """Make fastai's learner: the tutorial's data block, ranger and cross-entropy."""
    dls = _make_dataloaders(galaxies, cutouts, how, mean, std, device, n_workers)
    weights = None
    if how.class_weights == "balanced":
        weights = torch.tensor(_balanced_weights(galaxies), dtype=torch.float32, device=device)
    learner = Learner(
        dls,
        # In this layout processors and tensor cores convolve fastest.
        model.to(memory_format=torch.channels_last),
        loss_func=CrossEntropyLossFlat(weight=weights, label_smoothing=how.label_smoothing),
        opt_func=ranger,
        metrics=[_as_metric(name) for name in METRICS],
        cbs=_ChannelsLast(),
    )
    learner.remove_cb(ProgressCallback)
    learner.logger = lambda row: None
    return learner


def find_lr(learner: Learner) -> tuple[float, dict[str, list[float]]]:
    """Run fastai's learning-rate finder; return the rate that it suggests, and its curve.

    The suggestion is fastai's "valley"; network and optimiser are put back as they were.
    """
    n_steps = 100
    finder = _LRFinder(num_it=n_steps)
    learner.fit(n_steps // len(learner.dls.train) + 1, cbs=finder)
    lrs, losses = list(learner.recorder.lrs), [float(loss) for loss in learner.recorder.losses]
    learner.opt = None
    # As in Learner.lr_find: the first steps are noise, and at the end the loss explodes.
    rates, curve = torch.tensor(lrs[n_steps // 10 : -5]), torch.tensor(losses[n_steps // 10 : -5])
    is_finite = torch.isfinite(curve)
    suggestion, _ = valley(rates[is_finite], curve[is_finite], n_steps)
    return float(suggestion), {"lr": lrs, "loss": losses}


def score(probs: NDArray[np.floating], labels: NDArray[np.integer]) -> dict[str, float]:
    """Return accuracy, ROC AUC and F1 of a set of galaxies.

    Parameters
    ----------
    probs : (N, C) ndarray of float
        Probabilities.
    labels : (N,) ndarray of int
        True classes.

    Returns
    -------
    dict
        ``accuracy``; ``roc_auc``, of the one pair for two classes, the unweighted mean of one
        against the rest beyond, NaN where a class is absent; ``f1``, the unweighted mean over
        the classes, so that no class is singled out as the positive one.
    """
    from sklearn.metrics import f1_score, roc_auc_score

    n_classes = probs.shape[1]
    every_class = list(range(n_classes))
    predicted = probs.argmax(axis=1)
    roc_auc = float("nan")
    if len(np.unique(labels)) == n_classes and np.isfinite(probs).all():
        if n_classes == 2:
            roc_auc = float(roc_auc_score(labels, probs[:, 1]))
        else:
            # In float64 the rows sum to one closely enough for scikit-learn.
            rows = probs.astype(np.float64)
            rows /= rows.sum(axis=1, keepdims=True)
            roc_auc = float(roc_auc_score(labels, rows, multi_class="ovr", labels=every_class))
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "roc_auc": roc_auc,
        "f1": float(
            f1_score(labels, predicted, labels=every_class, average="macro", zero_division=0)
        ),
    }


def _make_dataloaders(
    galaxies: Galaxies,
    cutouts: NDArray[np.uint8],
    how: TrainingSettings,
    mean: list[float],
    std: list[float],
    device: torch.device | str,
    n_workers: int,
) -> DataLoaders:
    names = galaxies.class_names
    table = pd.DataFrame(
        {
            "row": np.arange(len(galaxies)),
            "class": [names[label] for label in galaxies.label],
            "is_valid": galaxies.in_valid,
        }
    )
    block = DataBlock(
        # The order of the classes is the settings' own: sorted, high would come before low.
        blocks=(
            TransformBlock(batch_tfms=IntToFloatTensor),
            CategoryBlock(vocab=list(names), sort=False),
        ),
        get_x=partial(_get_image, cutouts),
        get_y=ColReader("class"),
        splitter=ColSplitter("is_valid"),
        batch_tfms=[
            *aug_transforms(max_zoom=1, flip_vert=True, max_lighting=0, max_warp=0),
            Normalize.from_stats(mean, std, cuda=False),
        ],
    )
    n_train = int(np.sum(~galaxies.in_valid))
    # The last, incomplete batch of an epoch is dropped; a small set is one whole batch.
    options = {
        "bs": min(how.batch_size, n_train),
        "num_workers": n_workers,
        "device": torch.device(device),
    }
    if how.sampler == "balanced":
        weights = np.array(_balanced_weights(galaxies))[galaxies.label]
        return block.weighted_dataloaders(table, weights, **options)
    return block.dataloaders(table, **options)


def _get_image(cutouts: NDArray[np.uint8], row: pd.Series) -> TensorImage:
    """Return the image of a row, (n_channels, H, W)."""
    image = torch.from_numpy(cutouts[row["row"]]).permute(2, 0, 1)
    return TensorImage(image) if len(image) == 3 else TensorImageBW(image)


def _balanced_weights(galaxies: Galaxies) -> list[float]:
    """Return the weight of each class, N / (C N_c), over the training set."""
    labels = galaxies.label[~galaxies.in_valid]
    counts = np.bincount(labels, minlength=len(galaxies.class_names))
    return (len(labels) / (len(counts) * counts)).tolist()


def _as_metric(name: str) -> AccumMetric:
    """Make one of `score`'s numbers a metric of fastai, over the whole validation set."""

    def metric(logits: torch.Tensor, labels: torch.Tensor) -> float:
        probs = torch.softmax(torch.as_tensor(logits).double(), dim=1)
        return score(probs.cpu().numpy(), torch.as_tensor(labels).cpu().numpy())[name]

    return AccumMetric(metric, flatten=False, name=name)


def _read_epoch(learner: Learner) -> dict[str, float]:
    """Return losses and metrics of the epoch that ended."""
    names = ["train_loss", "valid_loss", *METRICS]
    return dict(zip(names, map(float, learner.recorder.values[-1]), strict=True))


def _check_sets(galaxies: Galaxies) -> None:
    """Raise CatalogError where a class has no galaxy to train on, or none is left to validate."""
    advice = "change the split or its seed"
    if galaxies.rejected:
        advice = f"{describe_rejected(galaxies.rejected)}: mend these, or {advice}"
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


@contextmanager
def _progress_bar(learner: Learner, epochs: int, quiet: bool) -> Iterator[None]:
    """Show one bar over all steps, and a line of metrics after each epoch."""
    with tqdm(
        total=epochs * len(learner.dls.train), desc="training", disable=quiet, file=sys.stderr
    ) as bar:
        reporter = _Reporter(bar)
        learner.add_cb(reporter)
        try:
            yield
        finally:
            learner.remove_cb(reporter)


class _ChannelsLast(Callback):
    """Lays the images of a batch out as the network's weights are."""

    def before_batch(self) -> None:
        self.learn.xb = tuple(_as_channels_last(images) for images in self.xb)


def _as_channels_last(images: torch.Tensor) -> torch.Tensor:
    return images.as_subclass(torch.Tensor).contiguous(memory_format=torch.channels_last)


class _SettleBatchNorm(Callback):
    """Takes the running statistics of batch norm anew, with the final weights.

    They are means over the last steps, of which a small catalog has a dozen: they lag behind
    weights that still change, and the accuracy then jumps from epoch to epoch.
    """

    def after_train(self) -> None:
        if self.epoch == self.n_epoch - 1:
            images = (_as_channels_last(batch[0]) for batch in self.dls.train)
            update_bn(images, self.learn.model)


class _Keeper(Callback):
    """Keeps the history, and after each epoch all that the next one follows from.

    Parameters
    ----------
    before : dict, optional
        What was kept of a run that was stopped: its epochs are passed over.
    keep : callable
        Takes what is to be kept.
    """

    # Behind the recorder, whose numbers are kept.
    order = 55

    def __init__(
        self, before: dict[str, Any] | None, keep: Callable[[dict[str, Any]], None]
    ) -> None:
        self.before = before
        self.keep = keep
        self.history: list[dict[str, float]] = [] if before is None else list(before["history"])
        self.n_done = len(self.history)

    def before_epoch(self) -> None:
        # fastai's own start_epoch is lost on the way through fit_flat_cos.
        if self.epoch < self.n_done:
            raise CancelEpochException()

    def before_train(self) -> None:
        if self.before is not None and self.epoch == self.n_done:
            self._restore(self.before)

    def after_epoch(self) -> None:
        if self.epoch < self.n_done:
            return
        self.history.append(_read_epoch(self.learn))
        if self.epoch < self.n_epoch - 1:
            self.keep(self._describe())

    def _describe(self) -> dict[str, Any]:
        loss = self.recorder.smooth_loss
        states = get_random_states()
        return {
            "history": self.history,
            "model": self.model.state_dict(),
            "optimizer": self.opt.state_dict(),
            "loss": {"count": loss.count, "val": loss.val},
            "random": {key: states[key] for key in _RANDOM_STATES},
            "loaders": [loader.rng.getstate() for loader in self.dls.loaders],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.opt.load_state_dict(_to_device(state["optimizer"], self.dls.device))
        self.recorder.smooth_loss.count = state["loss"]["count"]
        self.recorder.smooth_loss.val = state["loss"]["val"]
        version, numbers, gauss = state["random"]["random_state"]
        name, keys, *rest = state["random"]["numpy_state"]
        set_random_states(
            **{
                **get_random_states(),
                **state["random"],
                "random_state": (version, tuple(numbers), gauss),
                "numpy_state": (name, np.array(keys, np.uint32), *rest),
            }
        )
        for loader, (version, numbers, gauss) in zip(
            self.dls.loaders, state["loaders"], strict=True
        ):
            loader.rng.setstate((version, tuple(numbers), gauss))


def _to_device(state: Any, device: torch.device) -> Any:
    """Move the tensors of a nested state to a device."""
    if isinstance(state, torch.Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: _to_device(value, device) for key, value in state.items()}
    return [_to_device(value, device) for value in state] if isinstance(state, list) else state


class _Reporter(Callback):
    """Moves the progress bar and writes the metrics of each epoch."""

    # After the recorder, which collects what is reported.
    order = 60

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar

    def after_batch(self) -> None:
        if self.training:
            self.bar.update()

    def after_epoch(self) -> None:
        if self.bar.disable or not self.recorder.values[-1]:
            return
        row = _read_epoch(self.learn)
        words = ", ".join(f"{name} {value:.3f}" for name, value in row.items())
        self.bar.write(f"epoch {self.epoch + 1}: {words}", file=sys.stderr)


class _LRFinder(LRFinder):
    """The finder, with the network kept in memory: fastai's own pickles it to a file."""

    def before_fit(self) -> None:
        ParamScheduler.before_fit(self)
        self.weights = copy.deepcopy(self.learn.model.state_dict())
        self.best_loss = float("inf")

    def after_fit(self) -> None:
        self.learn.opt.zero_grad()
        self.learn.model.load_state_dict(self.weights)
