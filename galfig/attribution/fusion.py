"""Fusion: layers of a network merged or rearranged, for the same output in less time."""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(model: nn.Module, layer: nn.Module) -> int:
    """Fold batch norms into the convolutions before them, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode; it is modified.
    layer : torch.nn.Module
        Layer to explain, whose output must not change.

    Returns
    -------
    int
        Number of batch norms folded.
    """
    uses = Counter(
        id(child)
        for parent in model.modules()
        for child in parent._modules.values()
        if child is not None
    )
    n_fused = 0
    for steps in _iter_sequentials(model):
        for index, (conv, norm) in enumerate(itertools.pairwise(list(steps))):
            # The explained layer must keep its output, and a shared layer its other uses.
            # Subclasses and hooks, such as weight norm, may compute something else.
            if (
                type(conv) is nn.Conv2d
                and type(norm) is nn.BatchNorm2d
                and norm.track_running_stats
                and conv is not layer
                and uses[id(conv)] == uses[id(norm)] == 1
                and not is_altered(conv)
                and not is_altered(norm)
            ):
                steps[index] = fuse_conv_bn_eval(conv, norm)
                steps[index + 1] = nn.Identity()
                n_fused += 1
    return n_fused


def write_in_place(model: nn.Module, layer: nn.Module) -> None:
    """Make each ReLU after a convolution overwrite its input, which nothing else reads.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode; it is modified.
    layer : torch.nn.Module
        Layer to explain, whose output must not be overwritten.
    """
    for steps in _iter_sequentials(model):
        for _, activation in _iter_activated(steps, layer):
            cast("nn.ReLU", steps[activation]).inplace = True


def pack_convolutions(model: nn.Module, layer: nn.Module) -> int:
    """Store the weights of each convolution in the layout of oneDNN.

    Otherwise oneDNN rearranges the weights at each call, which takes a tenth of the time for a
    network with large weights and small images. A ReLU after a convolution is computed together
    with it. The function has no effect where PyTorch was built without oneDNN.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode, on a CPU; it is modified.
    layer : torch.nn.Module
        Layer to explain, which stays as it is.

    Returns
    -------
    int
        Number of convolutions packed.
    """
    if not (
        torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    ):
        return 0
    n_packed = 0
    for steps in _iter_sequentials(model):
        for position, activation in list(_iter_activated(steps, layer)):
            conv = cast("nn.Conv2d", steps[position])
            is_free = steps[activation] is not layer and not is_altered(steps[activation])
            if is_free and _can_be_packed(conv, layer):
                steps[position] = PackedConvolution(conv, with_relu=True)
                steps[activation] = nn.Identity()
                n_packed += 1
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if _can_be_packed(child, layer):
                setattr(parent, name, PackedConvolution(cast("nn.Conv2d", child)))
                n_packed += 1
    return n_packed


def separate_rows(model: nn.Module, layer: nn.Module) -> None:
    """Make each linear layer compute every image separately; see `RowLinear`.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode; it is modified.
    layer : torch.nn.Module
        Layer to explain, which stays as it is.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear and child is not layer and not is_altered(child):
                setattr(parent, name, RowLinear(child))


def _can_be_packed(conv: nn.Module, layer: nn.Module) -> bool:
    return (
        type(conv) is nn.Conv2d
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and conv.weight.dtype is torch.float32
        and conv is not layer
        and not is_altered(conv)
    )


class PackedConvolution(nn.Conv2d):
    """A convolution, optionally with a ReLU after it, with weights in the layout of oneDNN.

    The layout depends on the shape of the images, and is kept for the next call with the same
    shape. Where a gradient or another precision is needed, PyTorch computes as usual.

    Parameters
    ----------
    conv : torch.nn.Conv2d
        In float32, on a CPU, padded with zeros; its parameters are shared.
    with_relu : bool, default False
        Whether a ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d, *, with_relu: bool = False) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            cast("tuple[int, int]", conv.kernel_size),
            stride=cast("tuple[int, int]", conv.stride),
            padding=cast("tuple[int, int]", conv.padding),
            dilation=cast("tuple[int, int]", conv.dilation),
            groups=conv.groups,
            bias=conv.bias is not None,
            # Its own parameters are never filled.
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.with_relu = with_relu
        self._packed: tuple[torch.Size, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the packed weights, which cannot be copied and can be made again."""
        return {**self.__dict__, "_packed": None}

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images, and apply the ReLU if there is one.

        Parameters
        ----------
        images : (N, n_channels, H, W) Tensor of float
            Images, or feature maps of the layer before.

        Returns
        -------
        (N, K, h, w) Tensor of float
            Feature maps.
        """
        if (
            torch.is_grad_enabled()
            or torch.is_autocast_enabled("cpu")
            or images.dtype is not torch.float32
        ):
            maps = super().forward(images)
            return nn.functional.relu(maps) if self.with_relu else maps
        geometry = list(self.padding), list(self.stride), list(self.dilation)
        packed = self._packed
        if packed is None or packed[0] != images.shape:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight.detach(), *geometry, self.groups, list(images.shape)
            )
            # A single assignment is atomic; threads share the module.
            self._packed = packed = images.shape, weight
        after = "relu" if self.with_relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(
            images, packed[1], self.bias, *geometry, self.groups, after, [], ""
        )


class RowLinear(nn.Linear):
    """A linear layer that computes every row of a batch (N, K) separately.

    A matrix product may sum different rows in different orders. On some processors the logits of a
    galaxy would then depend on its place in the batch.

    Parameters
    ----------
    linear : torch.nn.Linear
        Its parameters are shared.
    """

    def __init__(self, linear: nn.Linear) -> None:
        # Its own parameters are never filled.
        super().__init__(
            linear.in_features, linear.out_features, linear.bias is not None, device="meta"
        )
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, features: Tensor) -> Tensor:
        """Apply the layer to a batch.

        Parameters
        ----------
        features : (N, K) Tensor of float
            Inputs; for another number of axes PyTorch computes as usual.

        Returns
        -------
        (N, C) Tensor of float
            Outputs.
        """
        if features.ndim != 2:
            return super().forward(features)
        rows = torch.bmm(features[:, None], self.weight.t().expand(len(features), -1, -1))[:, 0]
        return rows if self.bias is None else rows + self.bias


def is_sequential(model: nn.Module) -> bool:
    """Return whether a module is an ``nn.Sequential`` that runs its children in order.

    Parameters
    ----------
    model : torch.nn.Module
        The module.

    Returns
    -------
    bool
        False for a subclass with its own ``forward``.
    """
    return isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward


def is_altered(module: nn.Module) -> bool:
    """Return whether a module may compute something other than its class does.

    By a hook, forward or backward, or by a ``forward`` that was replaced on the object.

    Parameters
    ----------
    module : torch.nn.Module
        The module; its children do not count.

    Returns
    -------
    bool
    """
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
    )


def _iter_sequentials(model: nn.Module) -> Iterator[nn.Sequential]:
    """Yield the modules that only run their children in order, so that children can be replaced."""
    for parent in list(model.modules()):
        if is_sequential(parent):
            yield cast("nn.Sequential", parent)


def _iter_activated(steps: nn.Sequential, layer: nn.Module) -> Iterator[tuple[int, int]]:
    """Yield the positions of each convolution and of the ReLU after it, its only reader."""
    # Identities between them remain from folding.
    positions = [
        position
        for position, step in enumerate(steps)
        if not isinstance(step, nn.Identity) or step is layer or is_altered(step)
    ]
    for position, following in itertools.pairwise(positions):
        conv = steps[position]
        if (
            type(conv) is nn.Conv2d
            and type(steps[following]) is nn.ReLU
            and conv is not layer
            and not is_altered(conv)
        ):
            yield position, following
