"""Sharing: fastai's loaders, losses and metrics where several processes train one network."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import AvgLoss, AvgSmoothLoss, Learner
from fastai.metrics import AccumMetric
from fastai.torch_core import find_bs, to_detach
from fastai.vision.augment import AffineCoordTfm

from galfig.networks.processes import Processes


def share_loaders(dls: DataLoaders, processes: Processes) -> None:
    """Have the loaders augment this process's share of each batch as a single process would.

    Every process draws the random numbers of the whole batch, so that all stay in step.

    Parameters
    ----------
    dls : DataLoaders
        Training and validation set, which give this process its share; see
        `galfig.networks.batches.iter_batches`.
    processes : Processes
        The processes.
    """
    transforms = {id(one): one for loader in dls.loaders for one in loader.after_batch.fs}
    for transform in transforms.values():
        if isinstance(transform, AffineCoordTfm):
            transform.before_call = partial(
                _draw_for_all, transform, processes, transform.before_call, dls.train.bs
            )
    for loader in dls.loaders:
        # fastai would gather what each process has, at moments when others have nothing.
        loader.to_detach = _detach


def _draw_for_all(
    transform: AffineCoordTfm,
    processes: Processes,
    draw: Callable[..., None],
    n_images: int,
    batch: Any,
    split_idx: int,
) -> None:
    """Draw turns and flips for the images of all processes, and keep those of this one's."""
    images = batch
    while isinstance(images, tuple):
        images = images[0]
    if split_idx:
        draw(batch, split_idx)
        return
    # Only their number, type and device count.
    draw(images[:1].expand(n_images, *images.shape[1:]), split_idx)
    transform.mat = transform.mat[processes.share(n_images)]


def _detach(values: Any, cpu: bool = True, gather: bool = True) -> Any:
    return to_detach(values, cpu=cpu, gather=False)


class SharedSteps(Callback):
    """Adds up losses and gradients over the processes, so that each step is one of all galaxies.

    Parameters
    ----------
    processes : Processes
        The processes.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    def after_loss(self) -> None:
        if not self.training:
            return
        # The loss of a batch is a mean, in which a galaxy may weigh more than another.
        weights, labels = self.loss_func.func.weight, self.y.as_subclass(torch.Tensor)
        own = self.loss_grad.new_tensor(len(labels)) if weights is None else weights[labels].sum()
        both = torch.stack([own.as_subclass(torch.Tensor).float(), own * self.loss_grad.detach()])
        self.processes.add_up([both])
        self.learn.loss_grad = self.loss_grad * (own / both[0])
        self.learn.loss = both[1] / both[0]

    def after_backward(self) -> None:
        named = self.learn.model.parameters()
        self.processes.add_up([one.grad for one in named if one.grad is not None])


class SharedSmoothLoss(AvgSmoothLoss):
    """The mean training loss over recent steps, which every process knows already."""

    def accumulate(self, learn: Learner) -> None:
        """Add the loss of a step."""
        self.count += 1
        loss: torch.Tensor = to_detach(learn.loss.mean(), gather=False)
        self.val: torch.Tensor = torch.lerp(loss, self.val, self.beta)


class SharedLoss(AvgLoss):
    """The mean validation loss over all processes.

    Parameters
    ----------
    processes : Processes
        The processes.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    def accumulate(self, learn: Learner) -> None:
        """Add the loss of a batch."""
        n_galaxies = find_bs(learn.yb)
        self.total += float(learn.loss.mean()) * n_galaxies
        self.count += n_galaxies

    @property
    def value(self) -> torch.Tensor:
        """The mean; every process must ask for it."""
        rows = torch.tensor([[self.total, self.count]], dtype=torch.float64)
        total, count = self.processes.gather(rows).sum(dim=0)
        return total / count


class SharedMetric(AccumMetric):
    """A metric of the validation set of all processes.

    Parameters
    ----------
    metric : callable
        Takes logits (N, C) and labels (N,), and returns a number.
    name : str
        Its name.
    n_classes : int
        Number of classes, C.
    processes : Processes
        The processes.
    """

    def __init__(
        self, metric: Callable[..., float], name: str, n_classes: int, processes: Processes
    ) -> None:
        super().__init__(metric, flatten=False, name=name)
        self.n_classes, self.processes = n_classes, processes

    @property
    def value(self) -> float:
        """The number; every process must ask for it."""
        # This process may have no batch.
        logits = [torch.zeros(0, self.n_classes), *(torch.Tensor(one) for one in self.preds)]
        labels = [torch.zeros(0, dtype=torch.int64), *(one.long() for one in self.targs)]
        gather = self.processes.gather
        return self.func(gather(torch.cat(logits)), gather(torch.cat(labels)))
