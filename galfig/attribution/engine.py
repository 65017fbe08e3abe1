"""Engine: a network prepared to explain many images fast, with the same maps and logits."""

import contextlib
import copy
import math
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from galfig.attribution.fusion import (
    RowLinear,
    fold_batch_norms,
    is_altered,
    is_sequential,
    pack_convolutions,
    separate_rows,
    write_in_place,
)
from galfig.attribution.gradcam import CamBatch, check_explainable, grad_cam

PRECISIONS = ("float32", "tf32", "bfloat16")
# Assumed cache size where the system does not report one [byte].
DEFAULT_CACHE = 1 << 25
MAX_MICRO_BATCH = 32
# Enough to keep a GPU busy, at a fraction of its memory.
CUDA_BATCH = 256


class Engine:
    """A network prepared to explain one layer; `make_engine` makes it, batches of images call it.

    Attributes
    ----------
    path : str
        How the maps are computed: "closed form" or "cut graph".
    n_fused : int
        Number of batch norms folded into the convolution before them.
    n_packed : int
        Number of convolutions whose weights are stored in the layout of oneDNN; 0 on CUDA.
    device : torch.device
        Device of the network.
    """

    def __init__(
        self,
        model: nn.Module,
        make_explain: Callable[[], Callable[[Tensor], CamBatch]],
        *,
        path: str,
        n_fused: int,
        n_packed: int,
        micro_batch: int | None,
        precision: str,
        device: torch.device,
    ) -> None:
        self._model = model
        self._make_explain = make_explain
        self._micro_batch = micro_batch
        self._precision = precision
        # Functions that no thread uses at the moment. Two threads cannot share one, since it cuts
        # the graph by hooks on its network.
        self._idle: queue.SimpleQueue[Callable[[Tensor], CamBatch]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        self.device = device
        self.path = path
        self.n_fused = n_fused
        self.n_packed = n_packed

    def __call__(self, images: Tensor) -> CamBatch:
        """Explain a batch of images; on a CPU, threads share its micro-batches.

        Parameters
        ----------
        images : (N, n_channels, H, W) Tensor of float32
            Normalised cutouts, on any device.

        Returns
        -------
        CamBatch
            ``cams`` (N, C, h, w) and ``logits`` (N, C) in float32, on the device of the engine.
        """
        size = self.choose_micro_batch(images.shape[1:])
        if self.device.type != "cpu":
            return self.explain(images)
        with _computing_alone() as n_threads:
            batches = list(self._start_workers(n_threads).map(self.explain, images.split(size)))
        return CamBatch(
            cams=torch.cat([batch.cams for batch in batches]),
            logits=torch.cat([batch.logits for batch in batches]),
        )

    def _start_workers(self, n_workers: int) -> ThreadPoolExecutor:
        """Return the engine's own threads, which live as long as it does.

        They keep their memory: new threads would request it from the kernel at each call.
        """
        with self._lock:
            if self._workers is None:
                self._workers = _make_workers(n_workers)
                weakref.finalize(self, self._workers.shutdown, wait=False)
            return self._workers

    def explain(self, images: Tensor) -> CamBatch:
        """Explain a batch in the calling thread, which is one of `open_workers`.

        Parameters
        ----------
        images : (N, n_channels, H, W) Tensor of float32
            Normalised cutouts, on any device.

        Returns
        -------
        CamBatch
            ``cams`` (N, C, h, w) and ``logits`` (N, C) in float32, on the device of the engine.
        """
        size = self.choose_micro_batch(images.shape[1:])
        cams, logits = [], []
        with self._borrow() as explain, _arithmetic(self._precision, self.device):
            for batch in images.split(size):
                n_images = len(batch)
                if n_images < size and self.device.type == "cpu":
                    # Padded to full size: kernels may sum in another order for fewer images.
                    empty = batch.new_zeros(size - n_images, *batch.shape[1:])
                    batch = torch.cat([batch, empty])
                found = explain(batch.to(self.device, non_blocking=True))
                cams.append(found.cams[:n_images])
                logits.append(found.logits[:n_images])
        return CamBatch(cams=torch.cat(cams), logits=torch.cat(logits))

    def choose_micro_batch(self, shape: Sequence[int]) -> int:
        """Return how many images are computed at a time.

        On a CPU it is the power of two at which the input and output of the widest module fill
        about half of the last-level cache; on CUDA it is `CUDA_BATCH`. The first call decides
        for all later ones.

        Parameters
        ----------
        shape : sequence of int
            Shape (n_channels, H, W) of an image.

        Returns
        -------
        int
        """
        if self.device.type != "cpu":
            return self._micro_batch or CUDA_BATCH
        with self._lock:
            if self._micro_batch is None:
                footprint = measure_footprint(self._model, shape)
                fitting = math.log2(max(1.0, read_cache_size() / 2 / footprint))
                self._micro_batch = min(MAX_MICRO_BATCH, 2 ** round(fitting))
            return self._micro_batch

    @contextlib.contextmanager
    def _borrow(self) -> Iterator[Callable[[Tensor], CamBatch]]:
        """Lend a function that no other thread uses; on CUDA, to one thread at a time."""
        with self._lock if self.device.type == "cuda" else contextlib.nullcontext():
            try:
                explain = self._idle.get_nowait()
            except queue.Empty:
                explain = self._make_explain()
            try:
                yield explain
            finally:
                self._idle.put(explain)


@contextlib.contextmanager
def open_workers(n_workers: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Open threads in each of which torch computes single-threaded.

    Many small computations in parallel wait for each other less than one computation that is
    split among processors. The number of threads then cannot change the order of a sum.

    Parameters
    ----------
    n_workers : int, optional
        Number of threads; default torch's own number of threads.

    Yields
    ------
    ThreadPoolExecutor
        The threads; when the block ends, calls that have not started are cancelled.
    """
    with _computing_alone() as n_threads:
        pool = _make_workers(n_workers or n_threads)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _computing_alone() -> Iterator[int]:
    """Make torch compute single-threaded; yield the number of threads that was set before."""
    before = torch.get_num_threads()
    # OpenMP keeps this number for each thread; other libraries share one among all threads.
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def _make_workers(n_workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,))


def read_cache_size() -> int:
    """Return the size of the CPU's last-level cache.

    Returns
    -------
    int
        Size [byte]; `DEFAULT_CACHE` if the system does not report it.
    """
    try:
        return os.sysconf("SC_LEVEL3_CACHE_SIZE") or DEFAULT_CACHE
    except (ValueError, OSError, AttributeError):
        return DEFAULT_CACHE


def measure_footprint(model: nn.Module, shape: Sequence[int]) -> int:
    """Return the largest size of a module's input and output together, for one image.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    shape : sequence of int
        Shape (n_channels, H, W) of an image.

    Returns
    -------
    int
        Size [byte] over all modules without children.
    """
    sizes = [1]

    def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        tensors = [value for value in (*inputs, output) if isinstance(value, Tensor)]
        sizes.append(sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    parameter = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            model(parameter.new_zeros(1, *shape))
    finally:
        for handle in handles:
            handle.remove()
    return max(sizes)


def make_engine(
    model: nn.Module,
    layer: nn.Module,
    *,
    precision: str = "float32",
    micro_batch: int | None = None,
) -> Engine:
    r"""Prepare a network to explain many galaxies.

    The engine works on a copy of the network. Batch norm is folded into the convolution before it
    where the two are neighbours in an ``nn.Sequential``; see `galfig.attribution.fusion`. The copy
    runs channels-last, on a few images at a time.

    Where only pooling and one linear layer :math:`W` follow ``layer``, the gradient is
    :math:`W_{ck} / (hw)` everywhere and no backward pass is needed. Otherwise the gradient is
    taken through the graph above the layer, as in `galfig.attribution.gradcam.grad_cam`.

    Parameters
    ----------
    model : torch.nn.Module
        Classifier in evaluation mode; returns logits of shape (N, C).
    layer : torch.nn.Module
        Submodule whose output, (N, K, h, w), is explained.
    precision : {"float32", "tf32", "bfloat16"}, default "float32"
        Arithmetic of the convolutions; without CUDA, tf32 is the same as float32.
    micro_batch : int, optional
        Number of images computed at a time; default by `Engine.choose_micro_batch`.

    Returns
    -------
    Engine
        Called with normalised images (N, n_channels, H, W), it returns the `CamBatch` of
        ``grad_cam`` to a relative error of 1e-5 in float32. On a CPU the result is bit-identical
        for any number of images and of threads.

    Raises
    ------
    ValueError
        If the model is in training mode, the layer is not part of it, or the precision is
        unknown.
    """
    check_explainable(model, layer)
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r}, expected one of {', '.join(PRECISIONS)}")
    name = next(name for name, module in model.named_modules() if module is layer)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model = copy.deepcopy(model)
    layer = model.get_submodule(name)
    n_fused = fold_batch_norms(model, layer)
    # If the layer is a batch norm that was folded, an identity with the same output replaces it.
    layer = model.get_submodule(name)
    write_in_place(model, layer)
    n_packed = 0
    if device.type == "cpu":
        n_packed = pack_convolutions(model, layer)
        separate_rows(model, layer)
    model = model.eval().to(memory_format=torch.channels_last)
    options: dict[str, Any] = {
        "n_fused": n_fused,
        "n_packed": n_packed,
        "micro_batch": micro_batch,
        "precision": precision,
        "device": device,
    }
    closed_form = _split_at_linear_head(model, layer)
    if closed_form is None:
        return Engine(model, partial(_copy_cut_graph, model, name), path="cut graph", **options)
    explain = partial(_explain_linear_head, *closed_form)
    return Engine(model, lambda: explain, path="closed form", **options)


def _copy_cut_graph(model: nn.Module, name: str) -> Callable[[Tensor], CamBatch]:
    """Return a function that explains through a cut graph, on its own copy of a network."""
    model = copy.deepcopy(model)
    layer = model.get_submodule(name)

    def explain(images: Tensor) -> CamBatch:
        return grad_cam(model, images.contiguous(memory_format=torch.channels_last), layer)

    return explain


def _explain_linear_head(trunk: nn.Module, linear: nn.Linear, images: Tensor) -> CamBatch:
    """Explain through pooling and a linear layer, whose gradient is its weight over h × w."""
    with torch.inference_mode():
        activations = trunk(images.contiguous(memory_format=torch.channels_last))
        height, width = activations.shape[2:]
        logits = linear(activations.mean(dim=(2, 3)))
        weights = linear.weight / (height * width)
        # The maps of all classes are a 1×1 convolution with the weights of the head.
        cams = nn.functional.conv2d(activations, weights[:, :, None, None].to(activations.dtype))
    return CamBatch(cams=cams.float().contiguous(), logits=logits.float())


def _split_at_linear_head(
    model: nn.Module, layer: nn.Module
) -> tuple[nn.Sequential, nn.Linear] | None:
    """Return the trunk and the linear layer if only pooling and flattening lie between them."""
    if not is_sequential(model) or is_altered(model):
        return None
    # children() would skip a module that appears for the second time.
    steps = list(cast("nn.Sequential", model))
    positions = [index for index, step in enumerate(steps) if step is layer]
    if len(positions) != 1:
        return None
    cut = positions[0] + 1
    head = [step for step in steps[cut:] if not isinstance(step, nn.Dropout | nn.Identity)]
    if len(head) != 3 or any(is_altered(step) for step in steps[cut:]):
        return None
    pool, flatten, linear = head
    if (
        type(pool) is nn.AdaptiveAvgPool2d
        and pool.output_size in (1, (1, 1))
        # fastai has its own Flatten, which can also flatten the batch axis.
        and type(flatten).__name__ == "Flatten"
        and getattr(flatten, "start_dim", 1) == 1
        and not getattr(flatten, "full", False)
        and isinstance(linear, nn.Linear)
        and type(linear) in (nn.Linear, RowLinear)
    ):
        return nn.Sequential(*steps[:cut]), linear
    return None


@contextlib.contextmanager
def _arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Set the arithmetic of convolutions and matrix products, and restore it afterwards."""
    if precision == "bfloat16":
        with torch.autocast(device.type, dtype=torch.bfloat16):
            yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    wanted = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
