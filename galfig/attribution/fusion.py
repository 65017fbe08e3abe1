"""Fusion: layers of a network merged or rearranged, for the same output in less time."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Usage:
    """How often the modules of a network are used; only what has a single use may be fused.

    Attributes
    ----------
    places : Counter of torch.nn.Module
        In how many places each module is.
    runs : Counter of torch.nn.Module
        How often each module runs in a forward pass.
    gelus : mapping of torch.nn.Module to torch.nn.Module
        The GELU behind a convolution, where nothing else reads the output of that. The two need
        not be neighbours in a sequence.
    """

    places: Counter[nn.Module]
    runs: Counter[nn.Module]
    gelus: Mapping[nn.Module, nn.Module]

    def is_whole(self, steps: nn.Sequential, *children: nn.Module) -> bool:
        """Return whether children are only in this sequence, and run whenever it does.

        They are not if a ``forward`` loops over the sequence, slices it, or calls one of them.
        """
        return self.runs[steps] > 0 and all(
            self.places[child] == 1 and self.runs[child] == self.runs[steps] for child in children
        )


def count_uses(model: nn.Module, images: Tensor) -> Usage:
    """Count in how many places each module of a network is, and how often it runs.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode.
    images : (N, n_channels, H, W) Tensor
        Images to run it on.

    Returns
    -------
    Usage
    """
    places = Counter(
        child
        for parent in model.modules()
        for child in parent._modules.values()
        if child is not None
    )
    runs: Counter[nn.Module] = Counter()

    def note(module: nn.Module, inputs: tuple[object, ...]) -> None:
        runs[module] += 1

    readers = _Readers()
    # Before the hooks below, which would look like those of somebody else.
    gelus = [module for module in model.modules() if _is_gelu(module)]
    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    handles += [
        module.register_forward_hook(readers.note_output)
        for module in model.modules()
        if type(module) is nn.Conv2d
    ]
    handles += [module.register_forward_pre_hook(readers.note_gelu) for module in gelus]
    try:
        with torch.no_grad(), readers:
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    followed = {
        conv: gelu
        for conv, gelu in readers.gelus.items()
        if runs[conv] == runs[gelu] == readers.n_reads[conv] == 1
        and places[conv] == places[gelu] == 1
    }
    return Usage(places, runs, followed)


class _Readers(TorchFunctionMode):
    """Notes which functions of torch read the outputs of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        # By the identity of the tensor, which is kept, so that no other takes it.
        self._outputs: dict[int, tuple[nn.Module, Tensor]] = {}
        self.n_reads: Counter[nn.Module] = Counter()
        self.gelus: dict[nn.Module, nn.Module] = {}

    def note_output(self, module: nn.Module, inputs: object, found: object) -> None:
        if isinstance(found, Tensor):
            self._outputs[id(found)] = module, found

    def note_gelu(self, module: nn.Module, inputs: tuple[object, ...]) -> None:
        if len(inputs) == 1 and id(inputs[0]) in self._outputs:
            self.gelus[self._outputs[id(inputs[0])][0]] = module

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # Attributes, such as the shape, are no values.
        if getattr(func, "__name__", "") != "__get__":
            for value in (*args, *(kwargs or {}).values()):
                for one in value if isinstance(value, list | tuple) else (value,):
                    if id(one) in self._outputs:
                        self.n_reads[self._outputs[id(one)][0]] += 1
        return func(*args, **(kwargs or {}))


def _is_gelu(module: nn.Module) -> bool:
    """Return whether a module is the exact GELU of torch, or of a library such as timm."""
    if type(module).__name__ != "GELU" or [*module.parameters(), *module.children()]:
        return False
    values = torch.linspace(-6, 6, 101)
    return not is_altered(module) and torch.equal(module(values), nn.functional.gelu(values))


def fold_batch_norms(model: nn.Module, layer: nn.Module, usage: Usage) -> int:
    """Fold batch norms into the convolutions before them, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode; it is modified.
    layer : torch.nn.Module
        Layer to explain, whose output must not change.
    usage : Usage
        From `count_uses`, of this network.

    Returns
    -------
    int
        Number of batch norms folded.
    """
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
                and usage.is_whole(steps, conv, norm)
                and not is_altered(conv)
                and not is_altered(norm)
            ):
                steps[index] = fuse_conv_bn_eval(conv, norm)
                steps[index + 1] = nn.Identity()
                n_fused += 1
    return n_fused


def write_in_place(model: nn.Module, layer: nn.Module, usage: Usage) -> None:
    """Make each ReLU after a convolution overwrite its input, which nothing else reads.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode; it is modified.
    layer : torch.nn.Module
        Layer to explain, whose output must not be overwritten.
    usage : Usage
        From `count_uses`, of this network before it was modified.
    """
    for steps in _iter_sequentials(model):
        for _, activation in _iter_activated(steps, layer, usage):
            cast("nn.ReLU", steps[activation]).inplace = True


def pack_convolutions(model: nn.Module, layer: nn.Module, usage: Usage) -> int:
    """Store the weights of each convolution in the layout of oneDNN.

    Otherwise oneDNN rearranges the weights at each call, which takes a tenth of the time for a
    network with large weights and small images. A ReLU or GELU after a convolution is computed
    together with it. The function has no effect where PyTorch was built without oneDNN.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode, on a CPU; it is modified.
    layer : torch.nn.Module
        Layer to explain, which stays as it is.
    usage : Usage
        From `count_uses`, of this network before it was modified.

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
        for position, activation in list(_iter_activated(steps, layer, usage)):
            conv = cast("nn.Conv2d", steps[position])
            if steps[activation] is not layer and _can_be_packed(conv, layer):
                steps[position] = PackedConvolution(conv, with_relu=True)
                steps[activation] = nn.Identity()
                n_packed += 1
    gelus = {
        conv: gelu
        for conv, gelu in usage.gelus.items()
        if gelu is not layer and _can_be_packed(conv, layer)
    }
    done = set(gelus.values())
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child in done:
                setattr(parent, name, nn.Identity())
            elif _can_be_packed(child, layer):
                conv = cast("nn.Conv2d", child)
                setattr(parent, name, PackedConvolution(conv, with_gelu=child in gelus))
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
    """A convolution, optionally with a ReLU or GELU after it, with weights in oneDNN's layout.

    The layout depends on the shape of the images, and is kept for the next call with the same
    shape. Where a gradient or another precision is needed, PyTorch computes as usual.

    Parameters
    ----------
    conv : torch.nn.Conv2d
        In float32, on a CPU, padded with zeros; its parameters are shared.
    with_relu, with_gelu : bool, default False
        Whether a ReLU or a GELU follows.
    """

    def __init__(
        self, conv: nn.Conv2d, *, with_relu: bool = False, with_gelu: bool = False
    ) -> None:
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
        self.with_relu, self.with_gelu = with_relu, with_gelu
        self._packed = _Packed()

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images, and apply the ReLU or GELU if there is one.

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
            if self.with_gelu:
                return nn.functional.gelu(maps)
            return nn.functional.relu(maps) if self.with_relu else maps
        geometry = list(self.padding), list(self.stride), list(self.dilation)
        shape, weight = self._packed.weight
        if shape != images.shape:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight.detach(), *geometry, self.groups, list(images.shape)
            )
            self._packed.weight = images.shape, weight
        after = "gelu" if self.with_gelu else "relu" if self.with_relu else "none"
        # The exact GELU, not its approximation by a tanh.
        kind = "none" if self.with_gelu else ""
        return torch.ops.mkldnn._convolution_pointwise(
            images, weight, self.bias, *geometry, self.groups, after, [], kind
        )


class _Packed:
    """Packed weights for one shape of images, which all copies of a convolution share."""

    def __init__(self) -> None:
        # A single assignment is atomic; threads share this object.
        self.weight: tuple[torch.Size | None, Tensor | None] = (None, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Packed":
        return self


class RowLinear(nn.Linear):
    """A linear layer that computes every row of a batch (N, K) separately.

    A matrix product may sum different rows in different orders. On some processors the logits of a
    galaxy would then depend on its place in the batch. Its few numbers keep their precision where
    the convolutions before it compute in another.

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
        device = features.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self.forward(features.to(self.weight.dtype))
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
        if is_sequential(parent) and "forward" not in vars(parent):
            yield cast("nn.Sequential", parent)


def _iter_activated(
    steps: nn.Sequential, layer: nn.Module, usage: Usage
) -> Iterator[tuple[int, int]]:
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
            and not is_altered(steps[following])
            and usage.is_whole(steps, steps[following])
            # One that was not counted was made by folding.
            and (usage.places[conv] == 0 or usage.is_whole(steps, conv))
        ):
            yield position, following
