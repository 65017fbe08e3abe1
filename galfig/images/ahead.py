"""Threads that decode images a few ahead of whoever asks for them, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

from galfig.images.decoders import SILENCE

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, n_ahead: int
) -> Generator[Result, None, None]:
    """Call a function that decodes images in the threads of a pool, some calls ahead.

    Parameters
    ----------
    pool : Executor
        The threads; it is left open.
    function : callable
        Takes an item. What it raises is raised here when its result is due.
    items : iterable
        Such as paths; read no further ahead than the calls.
    n_ahead : int
        Calls that have begun, or wait for a thread, or whose result waits to be asked for; this
        bounds the memory.

    Yields
    ------
    object
        The results, in the order of the items. Warnings of the decoders are hidden until the last
        one. Calls that have not begun when the generator is closed never do.
    """
    remaining = iter(items)
    ahead: deque[Future[Result]] = deque()
    try:
        with SILENCE:
            ahead.extend(pool.submit(function, item) for item in islice(remaining, n_ahead))
            while ahead:
                yield ahead.popleft().result()
                ahead.extend(pool.submit(function, item) for item in islice(remaining, 1))
    finally:
        for future in ahead:
            future.cancel()
