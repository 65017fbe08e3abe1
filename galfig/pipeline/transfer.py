"""Transfer: images to a device and maps back, while the device computes."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor


class Event(Protocol):
    """A point in the work of a stream."""

    def record(self) -> object:
        """Put the point behind all that the current stream has been told to do."""

    def synchronize(self) -> object:
        """Wait until the stream has come there."""


class Stream(Protocol):
    """A queue of work of a device; queues run side by side."""

    def wait_stream(self, stream: "Stream") -> object:
        """Have this queue wait for all that another one has been told to do."""


class Backend(Protocol):
    """What `Transfer` needs of a device.

    Attributes
    ----------
    pins : bool
        Whether copies need memory that is not paged, to run beside the computing.
    """

    pins: bool

    def make_stream(self) -> Stream:
        """Return a new queue."""

    def get_stream(self) -> Stream:
        """Return the queue on which the calling thread computes."""

    def using(self, stream: Stream) -> AbstractContextManager[object]:
        """Put the work of a block on a queue."""

    def make_event(self) -> Event:
        """Return a new event."""

    def keep(self, tensor: Tensor, stream: Stream) -> None:
        """Keep the memory of a tensor until a queue has done what it has been told so far."""


class _Immediate:
    """The queue and the event of a processor, on which everything happens at once."""

    def wait_stream(self, stream: Stream) -> None:
        pass

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Processor:
    """A processor computes in the memory where the images are."""

    pins = False

    def make_stream(self) -> Stream:
        """Return a queue on which everything happens at once."""
        return _Immediate()

    get_stream = make_stream

    def using(self, stream: Stream) -> AbstractContextManager[object]:
        """Do nothing."""
        return nullcontext()

    def make_event(self) -> Event:
        """Return an event that has always happened."""
        return _Immediate()

    def keep(self, tensor: Tensor, stream: Stream) -> None:
        """Do nothing."""


class Cuda:
    """Streams and events of CUDA.

    Parameters
    ----------
    device : torch.device
        The device.
    """

    pins = True

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def make_stream(self) -> Stream:
        """Return a stream of the device."""
        return cast("Stream", torch.cuda.Stream(self._device))

    def get_stream(self) -> Stream:
        """Return the stream on which the calling thread computes."""
        return cast("Stream", torch.cuda.current_stream(self._device))

    def using(self, stream: Stream) -> AbstractContextManager[object]:
        """Put the work of a block on a stream."""
        return cast(
            "AbstractContextManager[object]", torch.cuda.stream(cast("torch.cuda.Stream", stream))
        )

    def make_event(self) -> Event:
        """Return an event on which a thread sleeps, and leaves the processor to others."""
        return cast("Event", torch.cuda.Event(blocking=True))

    def keep(self, tensor: Tensor, stream: Stream) -> None:
        """Tell torch that a stream uses the tensor, which was made on another."""
        tensor.record_stream(cast("torch.Stream", stream))


def choose_backend(device: torch.device) -> Backend:
    """Return what moves data to and from a device."""
    return Cuda(device) if device.type == "cuda" else Processor()


class Fetched(NamedTuple):
    """Tensors on their way back from a device.

    Attributes
    ----------
    tensors : sequence of Tensor
        They hold nothing before `wait` returns.
    arrival : Event
        Their arrival.
    """

    tensors: Sequence[Tensor]
    arrival: Event

    def wait(self) -> Sequence[Tensor]:
        """Return the tensors when they have arrived, in the memory of the processor."""
        self.arrival.synchronize()
        return self.tensors


class Transfer:
    """Copies to and from a device, which compute nothing and need not wait for what computes.

    Each direction has a queue of its own. What is sent is there before the computing goes on; what
    is fetched leaves when it has been computed. On a processor the same steps follow each other.

    Parameters
    ----------
    device : torch.device
        The device.
    backend : Backend, optional
        Its queues; by default, those of `choose_backend`.
    """

    def __init__(self, device: torch.device, backend: Backend | None = None) -> None:
        self.device = device
        self._backend = backend or choose_backend(device)
        self._inward, self._outward = self._backend.make_stream(), self._backend.make_stream()

    def allocate(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return a tensor in the memory of the processor, from which copies run by themselves.

        Parameters
        ----------
        shape : sequence of int
            Its shape.
        dtype : torch.dtype
            Its type.

        Returns
        -------
        Tensor
            Its values are whatever the memory holds.
        """
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=self._backend.pins)

    def send(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device.

        Parameters
        ----------
        tensor : Tensor
            From `allocate`; it may not change until what uses it has been fetched.

        Returns
        -------
        Tensor
            On the device, where all that the calling thread computes from now on finds it.
        """
        backend = self._backend
        with backend.using(self._inward):
            sent = tensor.to(self.device, non_blocking=True)
        computing = backend.get_stream()
        computing.wait_stream(self._inward)
        backend.keep(sent, computing)
        return sent

    def fetch(self, tensors: Sequence[Tensor]) -> Fetched:
        """Copy tensors back from the device.

        Parameters
        ----------
        tensors : sequence of Tensor
            What the calling thread has told the device to compute.

        Returns
        -------
        Fetched
        """
        backend, arrival = self._backend, self._backend.make_event()
        self._outward.wait_stream(backend.get_stream())
        with backend.using(self._outward):
            fetched = [
                self.allocate(tensor.shape, tensor.dtype).copy_(tensor, non_blocking=True)
                for tensor in tensors
            ]
            arrival.record()
        for tensor in tensors:
            backend.keep(tensor, self._outward)
        return Fetched(fetched, arrival)
