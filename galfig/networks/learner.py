"""Learner: fastai's data block, callbacks and training loop, applied to galfig's galaxies."""

import copy
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import update_bn

from galfig.config import TrainingSettings

with warnings.catch_warnings():
    # Importing fastai uses features that torch deprecates.
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
        get_random_states,
        no_random,
        set_random_states,
        trainable_params,
    )
    from fastai.vision.augment import aug_transforms

    from galfig.networks.batches import Batches, iter_batches
    from galfig.networks.sharing import (
        SharedLoss,
        SharedMetric,
        SharedSmoothLoss,
        SharedSteps,
        share_loaders,
    )

from galfig.metrics import score
from galfig.networks.device import choose_layout
from galfig.networks.processes import ALONE, Processes
from galfig.networks.training_set import Labelled
from galfig.runtime.progress import show_progress

logger = logging.getLogger(__name__)

METRICS = ("accuracy", "roc_auc", "f1", "balanced_accuracy")
# The random states of fastai that training changes.
_RANDOM_STATES = ("random_state", "numpy_state", "torch_state", "torch_cuda_state")


def fit_network(
    learner: Learner,
    training: TrainingSettings,
    before: dict[str, Any] | None,
    keep: Callable[[dict[str, Any]], None],
    head: Collection[str] = (),
    *,
    is_shown: bool = True,
    is_logged: bool = True,
) -> tuple[list[dict[str, float]], float, dict[str, list[float]] | None]:
    """Train a network, or resume its training.

    Parameters
    ----------
    learner : Learner
        From `make_learner`.
    training : TrainingSettings
        Epochs, learning rates and schedule. The epochs that train the last layer alone and the
        others have a schedule each.
    before : dict, optional
        State of an interrupted run, as it was passed to ``keep``; None to train from the start.
    keep : callable
        Called after each epoch but the last with a dict of all that the next epoch depends on.
    head : collection of str, optional
        Names of the parameters of the last layer, from `galfig.networks.transfer.name_head`; they
        are needed with ``freeze`` only.
    is_shown : bool, default True
        Show the progress over the steps.
    is_logged : bool, default True
        Log the metrics of each epoch.

    Returns
    -------
    history : list of dict of str to float
        Losses and metrics after each epoch.
    lr : float
        Peak learning rate.
    finder : dict of str to list of float, or None
        The ``loss`` at each ``lr`` of the learning-rate finder, if it ran.
    """
    if before is not None:
        lr, finder = before["lr"], before["finder"]
        logger.info("resuming: %d of %d epochs are done", len(before["history"]), training.epochs)
    elif training.lr == "auto":
        with learner.added_cbs([_Freezer(head)] if training.freeze else []):
            lr, finder = find_lr(learner)
        logger.info("learning rate from the finder: %.2g", lr)
    else:
        lr, finder = training.lr, None
    history = [] if before is None else list(before["history"])
    n_frozen, n_epochs = training.freeze, training.epochs
    parts = [(0, n_frozen, _Freezer(head)), (n_frozen, n_epochs, _SettleBatchNorm())]
    rates = slice(lr * training.body_lr_ratio, lr) if training.body_lr_ratio < 1 else lr
    fit = learner.fit_one_cycle if training.schedule == "one-cycle" else learner.fit_flat_cos

    def keep_all(state: dict[str, Any]) -> None:
        if len(history) < n_epochs:
            keep({**state, "lr": lr, "finder": finder})

    with _report(learner, n_epochs, history, is_shown=is_shown, is_logged=is_logged):
        for start, stop, callback in parts:
            if max(start, len(history)) < stop:
                keeper = _Keeper(before, keep_all, history, start)
                fit(stop - start, rates, cbs=[keeper, callback])
    return history, lr, finder


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the weights, the order and the augmentation; restore the caller's random states after.

    Parameters
    ----------
    seed : int
        Seed of the random states of Python, numpy and torch within the block.
    """
    with no_random(seed, reproducible=True):
        yield


def make_learner(
    model: nn.Module,
    galaxies: Labelled,
    cutouts: NDArray[np.uint8],
    training: TrainingSettings,
    mean: list[float],
    std: list[float],
    *,
    head: Collection[str] = (),
    device: torch.device | str = "cpu",
    n_workers: int = 0,
    processes: Processes = ALONE,
) -> Learner:
    """Make fastai's learner, with the tutorial's data block, ranger and cross-entropy.

    Parameters
    ----------
    model : torch.nn.Module
        Untrained network, in training mode.
    galaxies : Galaxies or Labelled
        Training and validation set, N galaxies.
    cutouts : (N, H, W, n_channels) ndarray of uint8
        Their images, from `galfig.networks.training_set.read_training_set`.
    training : TrainingSettings
        Margin of random crops, batch size, sampler, class weights and label smoothing.
    mean, std : (n_channels,) list of float
        Mean and standard deviation that normalise each channel, for values in [0, 1].
    head : collection of str, optional
        Names of the parameters of the last layer, from `galfig.networks.transfer.name_head`; they
        are needed with ``body_lr_ratio`` only.
    device : torch.device or str, default "cpu"
        Where to train.
    n_workers : int, default 0
        Processes that assemble batches; 0 for none beside this one.
    processes : Processes, optional
        Those that train together, each with its share of a batch.

    Returns
    -------
    Learner
    """
    dls = _make_dataloaders(galaxies, cutouts, training, mean, std, device, n_workers, processes)
    weights = None
    if training.class_weights == "balanced":
        weights = torch.tensor(_balanced_weights(galaxies), dtype=torch.float32, device=device)
    size = training.network_size
    layout = choose_layout(model, (cutouts.shape[-1], size, size), device)
    has_parts = training.body_lr_ratio < 1
    learner = Learner(
        dls,
        model,
        loss_func=CrossEntropyLossFlat(weight=weights, label_smoothing=training.label_smoothing),
        opt_func=ranger,
        splitter=partial(_split_parameters, head) if has_parts else trainable_params,
        metrics=[_as_metric(name) for name in METRICS],
        cbs=_Layout(layout),
    )
    learner.remove_cb(ProgressCallback)
    learner.logger = lambda row: None
    if processes.count > 1:
        _share(learner, len(galaxies.class_names), processes)
    return learner


def _share(learner: Learner, n_classes: int, processes: Processes) -> None:
    """Have a learner work on this process's share, with losses and metrics of all processes."""
    share_loaders(learner.dls, processes)
    learner.add_cb(SharedSteps(processes))
    learner.metrics = [
        SharedMetric(partial(_measure, name), name, n_classes, processes) for name in METRICS
    ]
    learner.recorder.loss = SharedLoss(processes)
    learner.recorder.smooth_loss = SharedSmoothLoss()


def find_lr(learner: Learner) -> tuple[float, dict[str, list[float]]]:
    """Run fastai's learning-rate finder.

    The network and the optimiser are restored afterwards.

    Parameters
    ----------
    learner : Learner
        From `make_learner`.

    Returns
    -------
    lr : float
        The rate that fastai's "valley" suggests.
    curve : dict of str to list of float
        The ``loss`` at each ``lr`` that was tried.
    """
    n_steps = 100
    finder = _LRFinder(num_it=n_steps)
    learner.fit(n_steps // len(learner.dls.train) + 1, cbs=finder)
    lrs, losses = list(learner.recorder.lrs), [float(loss) for loss in learner.recorder.losses]
    learner.opt = None
    # As in Learner.lr_find: the first steps are noisy, and the loss diverges in the last ones.
    rates, curve = torch.tensor(lrs[n_steps // 10 : -5]), torch.tensor(losses[n_steps // 10 : -5])
    is_finite = torch.isfinite(curve)
    suggestion, _ = valley(rates[is_finite], curve[is_finite], n_steps)
    return float(suggestion), {"lr": lrs, "loss": losses}


def _make_dataloaders(
    galaxies: Labelled,
    cutouts: NDArray[np.uint8],
    training: TrainingSettings,
    mean: list[float],
    std: list[float],
    device: torch.device | str,
    n_workers: int,
    processes: Processes,
) -> DataLoaders:
    names = galaxies.class_names
    everything, labels = np.arange(len(galaxies)), galaxies.label.astype(np.int64)
    sets = [Batches(cutouts, labels, everything, training, is_valid) for is_valid in (False, True)]
    table = pd.DataFrame(
        {
            "row": everything,
            "class": [names[label] for label in galaxies.label],
            "is_valid": galaxies.in_valid,
        }
    )
    block = DataBlock(
        # Classes keep the order of the settings; sorted, high would come before low.
        blocks=(
            TransformBlock(batch_tfms=IntToFloatTensor),
            CategoryBlock(vocab=list(names), sort=False),
        ),
        get_x=partial(_get_image, sets),
        get_y=ColReader("class"),
        splitter=ColSplitter("is_valid"),
        batch_tfms=[
            *aug_transforms(max_zoom=1, flip_vert=True, max_lighting=0, max_warp=0),
            Normalize.from_stats(mean, std, cuda=False),
        ],
    )
    n_train = int(np.sum(galaxies.in_train))
    # fastai drops the last, incomplete batch of an epoch, so a small set must be one full batch.
    options = {
        "bs": min(training.batch_size, n_train),
        "num_workers": n_workers,
        "device": torch.device(device),
    }
    if training.sampler == "balanced":
        weights = np.array(_balanced_weights(galaxies))[galaxies.label]
        dls = block.weighted_dataloaders(table, weights, **options)
    else:
        dls = block.dataloaders(table, **options)
    for loader, batches in zip(dls.loaders, sets, strict=True):
        own = replace(batches, rows=np.flatnonzero(galaxies.in_valid == batches.is_valid))
        loader.create_batches = partial(iter_batches, loader, own, processes)
    return dls


def _get_image(sets: Sequence[Batches], row: pd.Series) -> TensorImage:
    """Return the image of a row, (n_channels, H, W), as it is in a batch."""
    return sets[int(row["is_valid"])].take([row["row"]], slice(None))[0][0]


def _split_parameters(head: Collection[str], model: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters below the last layer, and those of the last layer."""
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    return [[one for name, one in named if (name in head) == is_head] for is_head in (False, True)]


def _balanced_weights(galaxies: Labelled) -> list[float]:
    """Return the weight N / (C N_c) of each class, over the training set."""
    labels = galaxies.label[galaxies.in_train]
    counts = np.bincount(labels, minlength=len(galaxies.class_names))
    return (len(labels) / (len(counts) * counts)).tolist()


def _as_metric(name: str) -> AccumMetric:
    """Make a fastai metric of one of the numbers of `score`, over the whole validation set."""
    return AccumMetric(partial(_measure, name), flatten=False, name=name)


def _measure(name: str, logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return one of the numbers of `score` for the logits and labels of a validation set."""
    probs = torch.softmax(torch.as_tensor(logits).double(), dim=1)
    return score(probs.cpu().numpy(), torch.as_tensor(labels).cpu().numpy())[name]


def _read_epoch(learner: Learner) -> dict[str, float]:
    """Return the losses and metrics of the epoch that just ended."""
    names = ["train_loss", "valid_loss", *METRICS]
    return dict(zip(names, map(float, learner.recorder.values[-1]), strict=True))


@contextmanager
def _report(
    learner: Learner, epochs: int, history: Sized, *, is_shown: bool, is_logged: bool
) -> Iterator[None]:
    """Show the progress over all steps, and log the metrics of each epoch."""
    n_steps = len(learner.dls.train)
    n_done = len(history) * n_steps
    shown = show_progress("training", epochs * n_steps, "steps", initial=n_done)
    with shown if is_shown else nullcontext(lambda n: None) as advance:
        reporter = _Reporter(advance, history, is_logged=is_logged)
        learner.add_cb(reporter)
        try:
            yield
        finally:
            learner.remove_cb(reporter)


class _Layout(Callback):
    """Converts each batch to the memory layout of the network's weights."""

    def __init__(self, layout: torch.memory_format) -> None:
        self.layout = layout

    def before_batch(self) -> None:
        self.learn.xb = tuple(self.convert(images) for images in self.xb)

    def convert(self, images: torch.Tensor) -> torch.Tensor:
        return images.as_subclass(torch.Tensor).contiguous(memory_format=self.layout)


class _SettleBatchNorm(Callback):
    """Recomputes the running statistics of batch norm with the weights after the last epoch.

    These statistics are means over recent steps. A small catalog has only a dozen, so they lag
    behind the changing weights, and the accuracy would jump from epoch to epoch.
    """

    def after_train(self) -> None:
        if self.epoch == self.n_epoch - 1:
            layout = next(callback for callback in self.learn.cbs if isinstance(callback, _Layout))
            images = (layout.convert(batch[0]) for batch in self.dls.train)
            update_bn(images, self.learn.model)


class _Freezer(Callback):
    """Keeps all below the last layer as it is, also the statistics of batch norm.

    Parameters
    ----------
    head : collection of str
        Names of the parameters of the last layer.
    """

    def __init__(self, head: Collection[str]) -> None:
        self.head = frozenset(head)
        self.frozen: list[nn.Parameter] = []

    def before_fit(self) -> None:
        named = self.learn.model.named_parameters()
        self.frozen = [one for name, one in named if name not in self.head and one.requires_grad]
        for one in self.frozen:
            one.requires_grad_(False)
            # Otherwise the optimiser would still apply its weight decay.
            one.grad = None

    def before_train(self) -> None:
        self.learn.model.eval()
        for name in self.head:
            self.learn.model.get_submodule(name.rpartition(".")[0]).train()

    def after_fit(self) -> None:
        for one in self.frozen:
            one.requires_grad_(True)


class _Keeper(Callback):
    """Keeps the history, and after each epoch all that the next one depends on.

    Parameters
    ----------
    before : dict, optional
        State of an interrupted run, whose epochs are skipped.
    keep : callable
        Called with the state after each epoch.
    history : list of dict of str to float
        Losses and metrics after each epoch that is done; it grows.
    start : int
        Number of epochs before this part of the training.
    """

    # After the recorder, whose numbers are kept.
    order = 55

    def __init__(
        self,
        before: dict[str, Any] | None,
        keep: Callable[[dict[str, Any]], None],
        history: list[dict[str, float]],
        start: int,
    ) -> None:
        self.before = before
        self.keep = keep
        self.history = history
        # Of this part; below zero if the interrupted run did not reach it.
        self.n_done = (0 if before is None else len(before["history"])) - start

    def before_epoch(self) -> None:
        # fit_flat_cos does not pass fastai's own start_epoch on.
        if self.epoch < self.n_done:
            raise CancelEpochException()

    def before_train(self) -> None:
        if self.before is not None and self.epoch == self.n_done:
            self._restore(self.before)

    def after_epoch(self) -> None:
        if self.epoch < self.n_done:
            return
        self.history.append(_read_epoch(self.learn))
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
        # Each part of a training begins a smooth loss of its own.
        if self.epoch > 0:
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
    """Counts the finished steps, and logs the metrics of each epoch."""

    # After the recorder, which collects what is reported.
    order = 60

    def __init__(
        self, advance: Callable[[int], object], history: Sized, *, is_logged: bool
    ) -> None:
        self.advance = advance
        self.history = history
        self.is_logged = is_logged

    def after_batch(self) -> None:
        if self.training:
            self.advance(1)

    def after_epoch(self) -> None:
        # A skipped epoch has no metrics.
        if self.is_logged and self.recorder.values[-1]:
            row = _read_epoch(self.learn)
            words = ", ".join(f"{name} {value:.3f}" for name, value in row.items())
            logger.info("epoch %d: %s", len(self.history), words)


class _LRFinder(LRFinder):
    """The learning-rate finder, with the network kept in memory; fastai pickles it to a file."""

    def before_fit(self) -> None:
        ParamScheduler.before_fit(self)
        self.weights = copy.deepcopy(self.learn.model.state_dict())
        self.best_loss = float("inf")

    def after_fit(self) -> None:
        self.learn.opt.zero_grad()
        self.learn.model.load_state_dict(self.weights)
