"""The stopwatch: stages add up, over threads."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from galfig.runtime.timing import Stopwatch


def test_stages_add_up_and_failures_count():
    """Each stage has the sum of its blocks, those that raise included."""
    stopwatch = Stopwatch()

    def work(stage):
        with stopwatch.time(stage):
            time.sleep(0.02)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, ["decode", "compute", "compute", "compute"]))
    with pytest.raises(RuntimeError), stopwatch.time("decode"):
        raise RuntimeError
    assert stopwatch.seconds["compute"] >= 0.06
    assert stopwatch.seconds["decode"] >= 0.02
    decode, compute = str(stopwatch).replace(" %", "").split(", ")
    shares = [int(words.split()[1]) for words in sorted((decode, compute))]
    assert abs(sum(shares) - 100) <= 1


def test_nothing_was_done():
    """Without any stage there is no share."""
    assert str(Stopwatch()) == ""
