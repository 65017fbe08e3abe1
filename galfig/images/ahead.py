"""Decode images in threads, some ahead of the consumer, and return them in order."""

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
        The threads; the pool is left open.
    function : callable
        Takes an item. An exception that it raises is raised again when its result is due.
    items : iterable
        Items, such as paths; read no further ahead than the calls.
    n_ahead : int
        Largest number of calls that wait for a thread, run, or hold a result; this bounds the
        memory.

    Yields
    ------
    object
        The results, in the order of the items. Warnings of the decoders are hidden until the last
        result. Calls that have not started when the generator is closed are cancelled.
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
