"""Threads that take themselves for the processes of one training."""

import threading
from dataclasses import dataclass, field

import torch

from galfig.networks.processes import Processes


class Meeting:
    """Where threads that stand for processes add up their numbers."""

    def __init__(self, count):
        self.barrier = threading.Barrier(count, timeout=10)
        self.found = [None] * count

    def add_up(self, rank, tensors):
        self.found[rank] = [tensor.detach().clone() for tensor in tensors]
        self.barrier.wait()
        sums = [torch.stack(parts).sum(dim=0) for parts in zip(*self.found, strict=True)]
        self.barrier.wait()
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.detach().copy_(total)


@dataclass(frozen=True)
class Thread(Processes):
    """A process that is a thread of this one."""

    meeting: Meeting | None = field(default=None)

    def add_up(self, tensors):
        self.meeting.add_up(self.rank, tensors)


def run_together(count, function):
    """Call a function in threads that take themselves for processes; return what it returns."""
    meeting, found = Meeting(count), [None] * count

    def run(rank):
        found[rank] = function(Thread(rank, count, count, torch.device("cpu"), meeting))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(one is not None for one in found)
    return found
