"""Normalisation: batch norm over a batch whose images are spread over several processes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from galfig.networks.device import replacing_forward
from galfig.networks.processes import Processes


@contextmanager
def normalising_together(model: nn.Module, processes: Processes) -> Iterator[None]:
    """Have the batch norm of a network in training see the images of all processes.

    The statistics of a share of the batch scatter more, so that the network would be another one
    for each number of processes. Every layer is meant that calls
    `torch.nn.functional.batch_norm`, also those of timm, which torch's ``SyncBatchNorm`` would not
    replace; that one works on GPUs only.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    processes : Processes
        The processes, in which the network runs in step while it trains.
    """
    if processes.count == 1:
        yield
        return
    forward = model.forward

    def forward_together(*images: Tensor) -> Any:
        # A validation is not in step: a process may have fewer batches than another.
        if not (model.training or torch.is_grad_enabled()):
            return forward(*images)
        with _Together(processes):
            return forward(*images)

    with replacing_forward(model, forward_together):
        yield


class _Together(TorchFunctionMode):
    """Replaces torch's batch norm by one over all processes."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is functional.batch_norm:
            return self._normalise(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _normalise(
        self,
        images: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Do as `torch.nn.functional.batch_norm` does."""
        if not training:
            return functional.batch_norm(
                images, running_mean, running_var, weight, bias, False, momentum, eps
            )
        mean, var, count = measure(images.detach(), self._processes)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * count / (count - 1)).to(running_var), momentum)
        found: Tensor = _Normalise.apply(
            images, weight, bias, mean, var, count, eps, self._processes
        )
        return found


def measure(images: Tensor, processes: Processes) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, variance and number of values of each channel over all processes.

    Parameters
    ----------
    images : (N, K, ...) Tensor
        Feature maps of this process.
    processes : Processes
        The processes, each of which calls this.

    Returns
    -------
    mean, var : (K,) Tensor of float32
        The variance is that of the values themselves: the sum of squares over their number.
    count : () Tensor of float32
        Number of values of each channel.
    """
    values = images.float()
    axes = [axis for axis in range(values.ndim) if axis != 1]
    count = values.new_tensor(float(values.numel() // values.shape[1]))
    total = values.sum(axes)
    processes.add_up([count, total])
    mean = total / count
    # In a second turn, since the difference of two large sums would lose digits.
    squares = (values - _spread(mean, values)).square().sum(axes)
    processes.add_up([squares])
    return mean, squares / count, count


def _spread(channels: Tensor, images: Tensor) -> Tensor:
    """Give values of channels the axes of images."""
    return channels.reshape(1, -1, *[1] * (images.ndim - 2))


class _Normalise(torch.autograd.Function):
    r"""Batch norm by given statistics, of which each value of all processes is a part.

    With :math:`y = w\,\hat x + b`, :math:`\hat x = (x - \mu) / \sigma` and means over all N values
    of a channel, :math:`\partial L / \partial x = (w / \sigma)\,(g - \langle g \rangle -
    \hat x \langle g \hat x \rangle)`, where :math:`g = \partial L / \partial y` [1]_.

    References
    ----------
    .. [1] Ioffe & Szegedy 2015, arXiv:1502.03167
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
        processes: Processes,
    ) -> Tensor:
        ctx.save_for_backward(images, weight, mean, torch.rsqrt(var + eps), count)
        ctx.processes = processes
        return functional.batch_norm(images, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, inverse, count = ctx.saved_tensors
        gradient = gradients[0].float()
        axes = [axis for axis in range(images.ndim) if axis != 1]
        normed = (images.float() - _spread(mean, images)) * _spread(inverse, images)
        of_bias, of_weight = gradient.sum(axes), (gradient * normed).sum(axes)
        # The gradients of the parameters stay those of this process: they are added up later.
        both = [of_bias.clone(), of_weight.clone()]
        ctx.processes.add_up(both)
        mean_gradient, mean_product = (_spread(total / count, images) for total in both)
        scale = inverse if weight is None else inverse * weight
        found = _spread(scale, images) * (gradient - mean_gradient - normed * mean_product)
        has_weight, has_bias = ctx.needs_input_grad[1:3]
        return (
            found.to(images.dtype),
            of_weight if has_weight else None,
            of_bias if has_bias else None,
            *[None] * 5,
        )
