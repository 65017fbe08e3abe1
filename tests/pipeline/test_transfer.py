"""Transfer: the order in which copies and computing wait for each other, on any device."""

import threading
from contextlib import contextmanager

import pytest
import torch

from galfig.attribution.devices import wake_device
from galfig.pipeline.transfer import Cuda, Processor, Transfer, choose_backend

CPU = torch.device("cpu")


class Noted:
    """A device whose queues, "in", "out" and "compute", note what they are told."""

    pins = False

    def __init__(self):
        self.names, self.current, self.notes = iter(("in", "out")), "compute", []

    def make_stream(self):
        return NotedStream(next(self.names), self)

    def get_stream(self):
        return NotedStream(self.current, self)

    @contextmanager
    def using(self, stream):
        before, self.current = self.current, stream.name
        yield
        self.current = before

    def make_event(self):
        return NotedEvent(self)

    def keep(self, tensor, stream):
        self.notes.append(f"keep for {stream.name}")


class NotedStream:
    def __init__(self, name, device):
        self.name, self.device = name, device

    def wait_stream(self, other):
        self.device.notes.append(f"{self.name} waits for {other.name}")


class NotedEvent:
    def __init__(self, device):
        self.device = device

    def record(self):
        self.device.notes.append(f"event on {self.device.current}")

    def synchronize(self):
        self.device.notes.append("host waits")


def test_processor_gives_back_what_it_was_sent():
    """The same steps as on a GPU, with nothing to wait for."""
    transfer = Transfer(CPU)
    pixels = transfer.allocate((2, 3), torch.uint8)
    pixels[:] = torch.arange(6).reshape(2, 3)
    found = transfer.fetch([transfer.send(pixels).float() / 2]).wait()
    assert found[0].tolist() == [[0, 0.5, 1], [1.5, 2, 2.5]]
    assert isinstance(choose_backend(CPU), Processor)


def test_computing_waits_for_what_is_sent():
    """And the memory on the device is kept until the computing is done with it."""
    device = Noted()
    Transfer(CPU, device).send(torch.zeros(3))
    assert device.notes == ["compute waits for in", "keep for compute"]


def test_what_is_fetched_waits_for_the_computing():
    """The event is behind the copy, and the host waits for it before it reads."""
    device = Noted()
    transfer = Transfer(CPU, device)
    fetched = transfer.fetch([torch.ones(3), torch.zeros(2)])
    assert device.notes == ["out waits for compute", "event on out", *["keep for out"] * 2]
    assert [tensor.tolist() for tensor in fetched.wait()] == [[1, 1, 1], [0, 0]]
    assert device.notes[-1] == "host waits"


@pytest.mark.gpu
def test_copies_of_cuda_are_complete():
    """Many batches in flight, of memory that is used again: each comes back as it was."""
    device = torch.device("cuda")
    transfer = Transfer(device)
    assert isinstance(choose_backend(device), Cuda)
    kept, slow = [], torch.randn(2048, 2048, device=device)
    for number in range(40):
        pixels = transfer.allocate((256, 96, 96, 3), torch.uint8)
        assert pixels.is_pinned()
        pixels[:] = number
        sent = transfer.send(pixels)
        # The computing lags behind the copies.
        slow = (slow @ slow).clamp(-1, 1)
        kept.append(transfer.fetch([sent + 1]))
        if len(kept) > 3:
            assert bool((kept.pop(0).wait()[0] == number - 2).all())


@pytest.mark.gpu
def test_cuda_wakes_in_a_new_thread(recwarn):
    """cuBLAS does not warn of a thread that has no context."""

    def work():
        wake_device(torch.device("cuda"))
        weights = torch.randn(8, 8, device="cuda", requires_grad=True)
        torch.autograd.grad((weights @ weights).sum(), weights)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not [one for one in recwarn if "context" in str(one.message)]
