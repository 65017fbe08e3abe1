"""Processes: several that train one network together, started by ``accelerate launch``.

Each process has the whole network, and takes its share of every batch. All draw the same random
numbers, and add up gradients, losses and statistics, so that a training is that of one process to
the rounding of sums. Process 0 reports, holds the lock and writes the files.

torch's DistributedDataParallel, which accelerate would wrap around the network, is not used. It
means gradients over processes whatever their shares, and would have to be made anew whenever layers
are frozen. fastai's ``DistributedTrainer`` pads an epoch with galaxies that it shows twice, and
works on GPUs only.
"""

import atexit
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed as dist

from galfig.errors import ConfigError, ElsewhereError, GalfigError
from galfig.networks.device import choose_device
from galfig.runtime.launch import find_place, is_alone_unasked
from galfig.runtime.messages import one_line
from galfig.runtime.options import Device

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
# How long the others wait for one of them, which may read a catalog or write a file alone.
_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Processes:
    """The processes that train together, seen from one of them.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    count : int
        Number of processes.
    n_local : int
        How many of them run on this machine.
    device : torch.device
        The device of this process.
    """

    rank: int = 0
    count: int = 1
    n_local: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process reports, holds the lock and writes the files."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return which of n things are this process's: each is that of exactly one process."""
        return slice(self.rank * n // self.count, (self.rank + 1) * n // self.count)

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors, in place, by their sums over all processes.

        Parameters
        ----------
        tensors : sequence of Tensor
            Of the same shapes in each process.
        """
        if self.count == 1 or not tensors:
            return
        # One message, since each has its own delay.
        flat = torch.cat([tensor.detach().reshape(-1).to(torch.float32) for tensor in tensors])
        flat = flat.to(self.device)
        _talk(lambda: dist.all_reduce(flat), self)
        sums = flat.split([tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.detach().copy_(total.view_as(tensor))

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows of all processes, in their order.

        Parameters
        ----------
        rows : (n, ...) Tensor
            Rows of this process, of which it may have none. All else of their shape, and their
            type, is the same in each process.
        """
        if self.count == 1:
            return rows
        counts = self._gather_number(len(rows))
        # Processes may only send tensors of one shape.
        sent = torch.zeros(max(counts), *rows.shape[1:], dtype=rows.dtype, device=self.device)
        sent[: len(rows)] = rows
        found = [torch.empty_like(sent) for _ in counts]
        _talk(lambda: dist.all_gather(found, sent), self)
        joined = [one[:n] for one, n in zip(found, counts, strict=True)]
        return torch.cat(joined).to(rows.device)

    def send(self, data: bytes) -> bytes:
        """Return the bytes of process 0; those of the others do not count."""
        if self.count == 1:
            return data
        n = self._gather_number(len(data))[0]
        sent = torch.zeros(n, dtype=torch.uint8)
        if self.is_main:
            sent = torch.frombuffer(bytearray(data or b""), dtype=torch.uint8) if n else sent
        sent = sent.to(self.device)
        if n:
            _talk(lambda: dist.broadcast(sent, 0), self)
        return sent.cpu().numpy().tobytes()

    def copy_main(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors, in place, by those of process 0."""
        if self.count == 1:
            return
        for tensor in tensors:
            sent = tensor.detach().to(self.device).contiguous()
            _talk(lambda sent=sent: dist.broadcast(sent, 0), self)  # type: ignore[misc]
            tensor.detach().copy_(sent)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have the block fail in all processes if it fails in one of them.

        Only the first process that fails has the error itself; nothing in the block may wait for
        other processes.

        Raises
        ------
        ElsewhereError
            If another process reports the error.
        """
        if self.count == 1:
            yield
            return
        failure: Exception | None = None
        try:
            yield
        except Exception as exc:
            failure = exc
        failed = self._gather_number(failure is not None)
        if not any(failed):
            return
        first = failed.index(1)
        if failure is not None and first == self.rank:
            raise failure
        raise ElsewhereError(f"process {first} of this training failed, and says why")

    def take_turns(self, function: Callable[[], Result]) -> Result:
        """Call a function in process 0, and then in the others, which may read what it wrote.

        Parameters
        ----------
        function : callable
            Nothing in it may wait for other processes.

        Returns
        -------
        object
            What it returns in this process.
        """
        found: list[Result] = []
        for is_turn in (self.is_main, not self.is_main) if self.count > 1 else (True,):
            with self.together():
                if is_turn:
                    found.append(function())
        return found[0]

    def _gather_number(self, number: int) -> list[int]:
        """Return a number of each process."""
        sent = torch.tensor([number], dtype=torch.int64, device=self.device)
        found = [torch.empty_like(sent) for _ in range(self.count)]
        _talk(lambda: dist.all_gather(found, sent), self)
        return [int(one) for one in found]


ALONE = Processes()


def join_processes(device: Device) -> Processes:
    """Find the other processes of this job, if ``accelerate launch`` started several.

    They stay joined until this process ends. All but process 0 log nothing but errors from then on.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        Where to train; with "auto" and "cuda", each process of a machine has a GPU of its own.

    Returns
    -------
    Processes
        `ALONE` where there are no others.

    Raises
    ------
    ConfigError
        If accelerate is not installed, this machine lacks the device, or has fewer GPUs than
        processes.
    ElsewhereError
        In any other process than 0, for the same reasons.
    GalfigError
        If the processes do not find each other.
    """
    place = find_place()
    if place.n_processes == 1:
        if is_alone_unasked():
            logger.warning(
                "accelerate started one process, since it starts several on CPUs by MPI only; for "
                "several, use 'accelerate launch --multi_gpu --num_processes N -m galfig train "
                "--device cpu'"
            )
        return ALONE
    try:
        chosen = _check_machine(device)
    except ConfigError as exc:
        # All processes find the same.
        raise exc if place.is_main else ElsewhereError(str(exc)) from exc
    from accelerate import PartialState

    processes = Processes(place.rank, place.n_processes, _count_local(), chosen)
    is_first = not dist.is_initialized()
    state = _talk(lambda: PartialState(cpu=chosen.type == "cpu", timeout=_PATIENCE), processes)
    if not place.is_main:
        logging.getLogger("galfig").setLevel(logging.ERROR)
    if is_first:
        atexit.register(state.destroy_process_group)
        logger.info("%d processes train together, each on its share of a batch", place.n_processes)
    return replace(processes, device=state.device)


def _check_machine(device: Device) -> torch.device:
    """Return the kind of device, after what can be checked before the processes are joined."""
    chosen = choose_device(device)
    try:
        import accelerate  # noqa: F401
    except ModuleNotFoundError as exc:
        raise ConfigError(
            "several processes were started, which need accelerate: pip install "
            "'galfig[accelerate]'"
        ) from exc
    if chosen.type == "cuda":
        check_gpus(_count_local(), torch.cuda.device_count())
    return chosen


def _count_local() -> int:
    """Return how many processes of the job run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def check_gpus(n_processes: int, n_gpus: int) -> None:
    """Refuse to share a GPU.

    Parameters
    ----------
    n_processes, n_gpus : int
        Number of processes and of GPUs of this machine.

    Raises
    ------
    ConfigError
        If there are more processes than GPUs.
    """
    if n_processes > n_gpus:
        raise ConfigError(
            f"{n_processes} processes were started on a machine with {n_gpus} GPUs, expected one "
            "GPU for each; start fewer"
        )


def refuse_processes(task: str, advice: str) -> None:
    """Refuse work that several processes cannot share.

    Parameters
    ----------
    task : str
        What they were started for.
    advice : str
        What to do instead.

    Raises
    ------
    ConfigError
        In process 0, if there are others.
    ElsewhereError
        In the others.
    """
    place = find_place()
    if place.n_processes > 1:
        words = f"{task}: in one of {place.n_processes} processes, expected a single one; {advice}"
        raise ConfigError(words) if place.is_main else ElsewhereError(words)


def _talk(function: Callable[[], Result], processes: Processes) -> Result:
    """Call a function of torch.distributed, whose errors mean that another process is gone."""
    try:
        return function()
    except RuntimeError as exc:
        # gloo begins with a place in its own source, and ends with advice.
        reason = one_line(exc).rpartition("] ")[2].partition(". ")[0][:120]
        words = f"training: lost one of the {processes.count} processes that share it ({reason})"
        raise GalfigError(words) if processes.is_main else ElsewhereError(words) from exc
