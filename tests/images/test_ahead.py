"""The one loop that decodes ahead: order, bounds, and an early end."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from galfig.images.ahead import map_ahead


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_results_come_in_order_of_the_items(pool):
    """The first call is the last to end, and its result is the first all the same."""
    others_are_done = threading.Event()

    def double(n):
        if n == 0:
            assert others_are_done.wait(10)
        if n == 3:
            others_are_done.set()
        return 2 * n

    assert list(map_ahead(pool, double, range(20), n_ahead=4)) == list(range(0, 40, 2))


def test_no_more_is_read_than_is_ahead(pool):
    """Memory is bounded: items wait, unread, until results are asked for."""
    items = iter(range(100))
    with closing(map_ahead(pool, abs, items, n_ahead=5)) as results:
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        assert next(items) == 7


def test_closing_early_begins_nothing_more(pool):
    """Whoever stops need not wait for results that nobody wants."""
    begun, release = [], threading.Event()

    def note(n):
        begun.append(n)
        if n:
            assert release.wait(10)

    results = map_ahead(pool, note, range(100), n_ahead=50)
    next(results)
    results.close()
    release.set()
    pool.shutdown()
    # Both threads may have begun another one before.
    assert set(begun) <= {0, 1, 2}


def test_an_error_is_raised_in_its_turn_and_ends_the_others(pool):
    """What came before is still given; what waits for a thread is cancelled."""
    begun = []

    def invert(n):
        begun.append(n)
        return 1 / (3 - n)

    results = map_ahead(pool, invert, range(1000), n_ahead=4)
    assert [next(results) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    pool.shutdown()
    assert max(begun) < 8


def test_decoders_are_silent_until_the_end(pool):
    """One filter for the whole loop, gone with it."""
    before = list(warnings.filters)

    def warn(n):
        warnings.warn_explicit("odd", UserWarning, "file.py", 1, module="PIL.Image")
        return n

    results = map_ahead(pool, warn, range(3), n_ahead=2)
    assert next(results) == 0
    assert warnings.filters != before
    assert list(results) == [1, 2]
    assert warnings.filters == before
