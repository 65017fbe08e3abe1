"""Engine: a network prepared to explain many images fast, which proves that its maps are right."""

import contextlib
import logging
import math
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from galfig.attribution.batches import BatchLimit, explain_in_batches
from galfig.attribution.devices import TooLargeError, is_out_of_memory, wake_device
from galfig.attribution.gradcam import (
    CamBatch,
    Output,
    Tokens,
    check_explainable,
    join_batches,
    map_batches,
    unwrap,
)
from galfig.attribution.methods import METHODS, Method, find_method
from galfig.attribution.orientations import explain_averaged
from galfig.attribution.probe import (
    AGREEMENT,
    check_function_of_one_image,
    explain_one_by_one,
    find_disagreement,
    make_probes,
    measure_interference,
    measure_kinks,
)
from galfig.attribution.variants import (
    Explain,
    Prepared,
    Variant,
    list_variants,
    prepare,
    set_arithmetic,
)

Normalise = Callable[[Tensor], Tensor]
logger = logging.getLogger(__name__)
PRECISIONS = ("float32", "tf32", "bfloat16")
# Assumed cache size where the system does not report one [byte].
DEFAULT_CACHE = 1 << 25
MAX_MICRO_BATCH = 32
# Enough to keep a GPU busy, at a fraction of its memory.
CUDA_BATCH = 256


@dataclass(frozen=True)
class EngineRecord:
    """How an engine computes maps, and why not faster.

    Attributes
    ----------
    path : {"closed form", "cut graph", "plain"}
        "closed form" takes the weights of the linear layer for gradients, "cut graph" takes
        gradients from the logits back to the layer, "plain" is the method's own function, such as
        ``grad_cam``, on the network as it is.
    layout : {"channels-last", "contiguous"}
        Memory layout of images and weights.
    n_fused : int
        Number of batch norms folded into the convolution before them.
    n_packed : int
        Number of convolutions whose weights are stored in the layout of oneDNN; 0 on CUDA.
    copies : bool
        Whether each thread has a copy of the network. If it cannot be copied, the threads take
        turns.
    reasons : tuple of str
        Each faster way that was tried, and how its maps or logits differed from those of the
        method's own function.
    """

    path: str
    layout: str
    n_fused: int
    n_packed: int
    copies: bool
    reasons: tuple[str, ...] = ()

    @property
    def way(self) -> str:
        """What decides in which order it computes, in words."""
        fused = f"{self.n_fused} batch norms folded"
        return f"{self.path}, {self.layout}, {fused}, {self.n_packed} convolutions packed"


class _Runner:
    """A prepared network, and the functions that no thread uses at the moment."""

    def __init__(
        self, prepared: Prepared, *, is_shared: bool, proof: "_Runner | None" = None
    ) -> None:
        self.prepared = prepared
        # Runs what the network is proven by, if that is not the method itself.
        self.proof = proof or self
        # Where threads take turns, nothing can happen in the middle of a run.
        self.is_independent = is_shared
        # Two threads cannot share a function, since it cuts the graph by hooks on its network.
        self._idle: queue.SimpleQueue[Explain] = queue.SimpleQueue()
        self._turn = threading.Lock() if is_shared else contextlib.nullcontext()

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Explain]:
        """Lend a function that no other thread uses; where they are shared, one at a time."""
        with self._turn:
            try:
                explain = self._idle.get_nowait()
            except queue.Empty:
                explain = self.prepared.make_copy().explain
            try:
                yield explain
            finally:
                self._idle.put(explain)


class Engine:
    """A network prepared to explain one layer; `make_engine` makes it, batches of images call it.

    For each shape of images, the engine takes the fastest way of computing whose maps and logits
    agree with those of the method's own function, such as `grad_cam`; `verify` says how they are
    compared.

    Attributes
    ----------
    method : str
        Name of the method, one of `galfig.attribution.methods.METHODS`.
    device : torch.device
        Device of the network.
    takes_turns : bool
        Whether threads take turns at the device, each with a large batch. They do but on a
        processor, where each computes small batches by itself.
    record : EngineRecord or None
        How maps are computed, and why not faster; None before the first images.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module,
        *,
        method: str = "grad-cam",
        precision: str = "float32",
        micro_batch: int | None = None,
        channels_last: bool | None = None,
        tokens: Tokens | None = None,
        output: Output = None,
    ) -> None:
        self.method = method
        self._method = METHODS[method]
        self._proof = METHODS[self._method.proven_by or method]
        self._model = model
        self._layer = layer
        self._precision = precision
        self._micro_batch = micro_batch
        self._output = output
        self._channels_last = channels_last
        self._tokens = tokens
        self._like = next(model.parameters(), torch.empty(0))
        self._variants = iter(list_variants(self._method))
        self._reasons: list[str] = []
        # Prepared for the fastest variant that has not been wrong yet.
        self._fastest: _Runner | None = None
        # By the shape of the images: how they are explained, and those whose maps are known.
        self._runners: dict[torch.Size, _Runner] = {}
        self._known: dict[torch.Size, list[tuple[Tensor, CamBatch]]] = {}
        self._lock = threading.RLock()
        self._workers: ThreadPoolExecutor | None = None
        self.device = self._like.device
        self.takes_turns = self.device.type != "cpu"
        self._limit = BatchLimit(self.device)
        self.record: EngineRecord | None = None

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
        if self.takes_turns:
            return self.explain(images)
        with _computing_alone() as n_threads:
            batches = list(self._start_workers(n_threads).map(self.explain, images.split(size)))
        return join_batches(batches)

    def set_precision(self, precision: str) -> None:
        """Set the arithmetic of later calls; see `make_engine`.

        Parameters
        ----------
        precision : {"float32", "tf32", "bfloat16"}
            The arithmetic.

        Raises
        ------
        ValueError
            If it is unknown.
        """
        _check_precision_name(precision)
        self._precision = precision

    @property
    def precision(self) -> str:
        """Arithmetic of the convolutions, one of `PRECISIONS`."""
        return self._precision

    def _start_workers(self, n_workers: int) -> ThreadPoolExecutor:
        """Return the engine's own threads, which live as long as it does.

        They keep their memory: new threads would request it from the kernel at each call.
        """
        with self._lock:
            if self._workers is None:
                self._workers = _make_workers(n_workers)
                weakref.finalize(self, self._workers.shutdown, wait=False)
            return self._workers

    def explain(self, images: Tensor, normalise: Normalise | None = None) -> CamBatch:
        """Explain a batch in the calling thread, which is one of `open_workers`.

        Parameters
        ----------
        images : (N, n_channels, H, W) Tensor of float32
            Normalised cutouts, on any device.
        normalise : callable, optional
            Normalises images of another type on the device, as many as are computed at a time.

        Returns
        -------
        CamBatch
            ``cams`` (N, C, h, w) and ``logits`` (N, C) in float32, on the device of the engine.
        """
        return self._method.finish(self._explain_parts(images, normalise))

    def explain_averaged(self, images: Tensor, normalise: Normalise | None = None) -> CamBatch:
        """Explain the network averaged over the eight orientations of each image.

        Parameters
        ----------
        images : (N, n_channels, H, H) Tensor of float32
            Normalised cutouts, on any device.
        normalise : callable, optional
            As in `explain`.

        Returns
        -------
        CamBatch
            ``cams`` (N, C, h, h) and ``logits`` (N, C), as
            `galfig.attribution.orientations.explain_averaged` defines them.

        Raises
        ------
        ValueError
            If the maps of the averaged network are not the average of those of the orientations,
            because the method is not proportional to the gradient, as with Grad-CAM++.
        """
        if not self._method.is_proportional:
            raise ValueError(f"method: {self.method} has no maps of a network averaged over turns")
        # Evidence is contrasted with the probabilities of the averaged network.
        explain = partial(self._explain_parts, normalise=normalise)
        return self._method.finish(explain_averaged(explain, images))

    def _explain_parts(self, images: Tensor, normalise: Normalise | None) -> CamBatch:
        size = self.choose_micro_batch(images.shape[1:])
        runner = self._find_runner(images.shape[1:])
        return self._explain(runner, images, size, self._precision, normalise)

    def prove(self, shape: Sequence[int]) -> None:
        """Choose how images of a shape are explained, by images of noise; see `verify`.

        Parameters
        ----------
        shape : sequence of int
            Shape (n_channels, H, W) of an image.

        Raises
        ------
        ValueError
            As in `verify`.
        """
        self._find_runner(torch.Size(shape))

    def verify(self, images: Tensor) -> None:
        """Compare the engine with its method on some images; slow down until they agree.

        The method's own function, such as `grad_cam`, runs on the untouched network, on one image
        at a time; the engine as it runs later, but in float32. Maps and logits agree as defined by
        `galfig.attribution.probe.find_disagreement`. If they do not, or if the engine raises, it
        takes the next slower way: the gradients of the graph in place of the closed form, no packed
        and no folded weights, contiguous in place of channels-last tensors, and at last that
        function itself. So it does if two copies of the network disturb each other, as they do if a
        function that was put on a module keeps something for later. The first images of each shape
        are preceded by a few images of noise, so that calling this is optional.

        All of this runs in one thread, so that on one machine the same images always lead to the
        same choice.

        Parameters
        ----------
        images : (N, n_channels, H, W) Tensor of float32
            Normalised cutouts, on any device. A few are enough.

        Raises
        ------
        ValueError
            If the logits of an image depend on other images or on chance, if the method refuses
            the network or the layer, or if no way of computing agrees with it.
        """
        with self._lock, _computing_alone(), torch.inference_mode(False):
            self._find_runner(images.shape[1:])
            self._compare(images)

    def _find_runner(self, shape: torch.Size) -> _Runner:
        """Return how images of a shape are explained; at first, prove it by images of noise."""
        with self._lock:
            if shape not in self._runners:
                with _computing_alone(), torch.inference_mode(False):
                    self._compare(make_probes(shape, self._like))
            return self._runners[shape]

    def _compare(self, images: Tensor) -> None:
        """Keep or replace the way in which images of this shape are explained, as in `verify`."""
        wake_device(self.device)
        try:
            with set_arithmetic("float32", self.device):
                self._compare_on_device(images.to(self.device))
        except Exception as exc:
            if not is_out_of_memory(exc) or isinstance(exc, TooLargeError):
                raise
            raise TooLargeError(self.device, exc) from exc

    def _check_function_of_one_image(self, images: Tensor) -> None:
        """Check the network on these images, on fewer of them where they do not fit in the memory.

        One image at a time depends on no other.
        """
        check = partial(check_function_of_one_image, self._model, output=self._output)
        while len(images) > 1:
            if self._limit.attempt(partial(check, images), len(images)) is not None:
                return
            images = images[: self._limit.cap(len(images))]

    def _compare_on_device(self, images: Tensor) -> None:
        shape = images.shape[1:]
        self._check_function_of_one_image(images)
        known = [*self._known.get(shape, []), (images, self._explain_exactly(images))]
        runner = self._runners.get(shape, self._fastest)
        while runner is None or (reason := self._find_disagreement(runner.proof, known)):
            if runner is not None:
                self._reasons.append(f"{runner.prepared.variant}: {reason}")
                logger.debug("engine: %s", self._reasons[-1])
            runner = self._fastest = self._prepare_next(images)
        self._check_precision(runner.proof, images)
        self._known[shape], self._runners[shape] = known, runner
        prepared = runner.prepared
        record = EngineRecord(
            path=prepared.variant.path,
            layout=prepared.variant.layout,
            n_fused=prepared.n_fused,
            n_packed=prepared.n_packed,
            copies=prepared.variant.copies,
            reasons=tuple(self._reasons),
        )
        if record != self.record:
            logger.info("engine: %s", _describe(record))
        self.record = record

    def _prepare_next(self, images: Tensor) -> _Runner:
        """Prepare the network for the next variant that changes anything."""
        for variant in self._variants:
            try:
                runner = self._make_runner(variant, images[:1])
            except Exception as exc:
                self._reasons.append(f"{variant}: {_describe_failure(exc)}")
                continue
            if runner is not None:
                return runner
        raise ValueError(
            f"model: no way of computing many maps agrees with {self.method} on one image at a "
            f"time; {self._reasons[-1]}"
        )

    def _make_runner(self, variant: Variant, images: Tensor) -> _Runner | None:
        is_shared = self.takes_turns or not variant.copies
        prepared, proof = self._prepare(variant, images, self._method), None
        if prepared is None:
            return None
        if self._proof is not self._method and (
            examined := self._prepare(variant, images, self._proof)
        ):
            proof = _Runner(examined, is_shared=is_shared)
        return _Runner(prepared, is_shared=is_shared, proof=proof)

    def _prepare(self, variant: Variant, images: Tensor, method: Method) -> Prepared | None:
        name = next(name for name, module in self._model.named_modules() if module is self._layer)
        return prepare(
            self._model,
            name,
            variant,
            images,
            method=method,
            channels_last=self._channels_last,
            tokens=self._tokens,
            output=self._output,
        )

    def _explain_exactly(self, images: Tensor) -> CamBatch:
        return explain_one_by_one(
            self._model,
            images,
            self._layer,
            explain=self._proof.explain,
            channels_last=self._channels_last,
            tokens=self._tokens,
            output=self._output,
        )

    def _find_disagreement(self, runner: _Runner, known: list[tuple[Tensor, CamBatch]]) -> str:
        """Return how a runner differs from the exact maps of some images, or why it fails."""
        for images, expected in known:
            try:
                size = self._micro_batch or self._fit_cache(runner, images.shape[1:])
                # In reverse, since a network that remembers the last run of another copy is right
                # about the same images in the same order.
                found = self._explain(runner, images.flip(0), size, "float32")
            except Exception as exc:
                return _describe_failure(exc)
            found = map_batches(lambda tensor: tensor.flip(0), found)
            reason = find_disagreement(
                found,
                expected,
                partial(measure_kinks, self._explain_exactly, self._model, images, expected),
                dtype=self._like.dtype if self._like.is_floating_point() else torch.float32,
                is_plain=runner.prepared.variant.path == "plain",
            )
            if reason:
                return reason
        return self._find_dependence(runner, known[0][0])

    def _find_dependence(self, runner: _Runner, images: Tensor) -> str:
        """Return how two copies of a network disturb each other, or "" if they do not."""
        if runner.is_independent:
            return ""
        copies = runner.prepared.make_copy(), runner.prepared.make_copy()
        try:
            change = measure_interference(*copies, images)
        except Exception as exc:
            return f"two copies of the network at a time: {_describe_failure(exc)}"
        runner.is_independent = change <= AGREEMENT
        if runner.is_independent:
            return ""
        return (
            f"maps of one copy of the network change by {change:.2g} of the largest if another "
            "copy runs at the same time"
        )

    def _check_precision(self, runner: _Runner, images: Tensor) -> None:
        """Raise ValueError if the network cannot run at the precision that was asked for."""
        if self._precision == "float32":
            return
        try:
            size = self._micro_batch or self._fit_cache(runner, images.shape[1:])
            self._explain(runner, images, size, self._precision)
        except Exception as exc:
            raise ValueError(
                f"precision: the network does not run in {self._precision} "
                f'({_describe_failure(exc)}); use precision="float32"'
            ) from exc

    def _explain(
        self,
        runner: _Runner,
        images: Tensor,
        size: int,
        precision: str,
        normalise: Normalise | None = None,
    ) -> CamBatch:
        wake_device(self.device)
        with runner.borrow() as explain, set_arithmetic(precision, self.device):

            def run(batch: Tensor) -> CamBatch:
                return explain(batch if normalise is None else normalise(batch))

            return explain_in_batches(run, images, size, self._limit)

    def choose_micro_batch(self, shape: Sequence[int]) -> int:
        """Return how many images are computed at a time.

        On a CPU it is the power of two at which the input and output of the widest module fill
        about half of the last-level cache; on CUDA it is `CUDA_BATCH`. The first call decides
        for all later ones. If the memory does not suffice for as many, fewer are computed.

        Parameters
        ----------
        shape : sequence of int
            Shape (n_channels, H, W) of an image.

        Returns
        -------
        int
        """
        with self._lock:
            if self._micro_batch is None:
                runner = self._find_runner(torch.Size(shape))
                self._micro_batch = self._fit_cache(runner, shape)
            return self._micro_batch

    def _fit_cache(self, runner: _Runner, shape: Sequence[int]) -> int:
        if self.takes_turns:
            return CUDA_BATCH
        footprint = measure_footprint(runner.prepared.model, shape)
        fitting = math.log2(max(1.0, read_cache_size() / 2 / footprint))
        return min(MAX_MICRO_BATCH, 2 ** round(fitting))


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
    method: str = "grad-cam",
    shape: Sequence[int] | None = None,
    precision: str = "float32",
    micro_batch: int | None = None,
    channels_last: bool | None = None,
    tokens: Tokens | None = None,
    output: Output = None,
) -> Engine:
    r"""Prepare a network to explain many galaxies.

    The engine works on a copy of the network. Batch norm is folded into the convolution before it
    where the two are neighbours in an ``nn.Sequential``; see `galfig.attribution.fusion`. The copy
    runs channels-last, on a few images at a time.

    Where only pooling and one linear layer :math:`W` follow ``layer``, the gradient is
    :math:`W_{ck} / (hw)` everywhere and no backward pass is needed. Otherwise the gradient is
    taken through the graph above the layer, as in `galfig.attribution.gradcam.grad_cam`. Methods
    that explain the pixels of the image run the network as it is.

    None of this is taken on trust. Before the engine explains images of a shape for the first time,
    it compares itself with the method's own function, such as ``grad_cam``, on a few images of
    noise, and leaves out what makes a difference; `Engine.verify` does the same on images of your
    own. `Engine.record` and the log
    (level INFO) say what remains, and why.

    Parameters
    ----------
    model : torch.nn.Module
        Classifier in evaluation mode; returns logits of shape (N, C).
    layer : torch.nn.Module
        Submodule whose output, (N, K, h, w), is explained. Methods that explain the pixels do not
        use it.
    method : str, default "grad-cam"
        One of `galfig.attribution.methods.METHODS`.
    shape : sequence of int, optional
        Shape (n_channels, H, W) of an image. With it, the engine is proven here; without it, by the
        first images.
    precision : {"float32", "tf32", "bfloat16"}, default "float32"
        Arithmetic of the convolutions; without CUDA, tf32 is the same as float32. The proof is
        in float32, and the network only has to run at another precision.
    micro_batch : int, optional
        Number of images computed at a time; default by `Engine.choose_micro_batch`.
    channels_last, tokens, output : optional
        Layout of the output of ``layer``, where its tokens lie, and where the logits are in the
        output of ``model``; see ``grad_cam``.

    Returns
    -------
    Engine
        Called with normalised images (N, n_channels, H, W), it returns the `CamBatch` of the
        method's own function: in float32 to a relative error of about 1e-5, except where an
        activation is so close to the kink of a ReLU that rounding decides its gradient. On a CPU
        the result is bit-identical for any number of images and of threads, unless the record says
        "plain".

    Raises
    ------
    ValueError
        If the model is in training mode, the layer is not part of it, or the method or the
        precision is unknown; if the logits of an image depend on other images or on chance; or if
        the method refuses the network or the layer. Without ``shape``, some of this is only found
        by the first images.
    """
    model, layer = unwrap(model), unwrap(layer)
    check_explainable(model, layer)
    _check_precision_name(precision)
    find_method(method)
    engine = Engine(
        model,
        layer,
        method=method,
        precision=precision,
        micro_batch=micro_batch,
        channels_last=channels_last,
        tokens=tokens,
        output=output,
    )
    if shape is not None:
        engine.prove(shape)
    return engine


def _check_precision_name(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r}, expected one of {', '.join(PRECISIONS)}")


def _describe(record: EngineRecord) -> str:
    """Say how maps are computed, and why not faster."""
    turns = "" if record.copies else ", not copied, so that threads take turns"
    return record.way + turns + "".join(f"; not {reason}" for reason in record.reasons)


def _describe_failure(exc: Exception) -> str:
    """Say why a variant failed; raise what is not its fault."""
    if is_out_of_memory(exc):
        raise exc
    return f"{type(exc).__name__}: {str(exc).strip().partition(chr(10))[0][:200]}"
