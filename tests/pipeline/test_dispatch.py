"""Executors: the same store from any of them, whatever they lose on the way."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from itertools import chain

import pytest
from samples import build_with, load_with_settings, make_tiny_cnn, note_progress

import galfig
from galfig.errors import ConfigError, EngineError, LockError, LostCutoutError, OutputError
from galfig.pipeline import dispatch, tasks
from galfig.pipeline.dispatch import MAX_LOSSES, _group
from galfig.pipeline.merge import merge_maps
from galfig.runtime.lock import hold_lock


@pytest.fixture(autouse=True)
def _same_time(monkeypatch):
    """Have every store say that it was made at one time, in workers too."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(scope="module")
def expected(tmp_path_factory, drawn_galaxies, untrained):
    """Return the bytes of the store that the threads of this process write."""
    path = tmp_path_factory.mktemp("expected") / "maps.h5"
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(path.parent):
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        build_with(path, drawn_galaxies, untrained[1])
    return path.read_bytes()


class Direct(Executor):
    """Runs each task at once, unless it is told to lose it.

    ``faults`` are what the tasks of a shard come to, by turns: exceptions that the future raises,
    before the task is done, or after it (``late``). Then all goes well.
    """

    def __init__(self, faults=None, *, late=False):
        self.faults, self.late = faults or {}, late
        self.sent = []

    def submit(self, fn, /, *args, **kwargs):
        numbers = list(args[1].shards)
        self.sent.append(numbers)
        left = self.faults.get(numbers[0])
        fault = left.pop(0) if left else None
        future = Future()
        outcome = fn(*args, **kwargs) if fault is None or self.late else None
        if fault is None:
            future.set_result(outcome)
        else:
            future.set_exception(fault)
        return future


def test_any_executor_makes_the_same_store(galaxy_folder, tmp_path, checkpoint, expected):
    """One that knows nothing but to submit, and one whose workers are threads."""
    direct = Direct()
    assert build_with(tmp_path / "direct.h5", galaxy_folder, checkpoint, executor=direct)
    assert (tmp_path / "direct.h5").read_bytes() == expected
    assert direct.sent == [[0], [1], [2], [3], [4]]
    with ThreadPoolExecutor(3) as pool:
        assert build_with(tmp_path / "threads.h5", galaxy_folder, checkpoint, executor=pool)
    assert (tmp_path / "threads.h5").read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir() if ".h5" in path.name) == [
        "direct.h5",
        "threads.h5",
    ]


def test_one_progress_bar(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """Counts each galaxy once, whether its worker was lost before or after its part was there."""
    shown = note_progress(monkeypatch, dispatch)
    for name, late in {"a.h5": False, "b.h5": True}.items():
        executor = Direct({1: [OSError("lost")], 4: [OSError("lost")]}, late=late)
        build_with(tmp_path / name, galaxy_folder, checkpoint, executor=executor)
    assert shown == 2 * [{"task": "explaining", "total": 24, "initial": 0, "done": 24}]


def test_shards_of_lost_workers_are_done_again(
    galaxy_folder, tmp_path, checkpoint, expected, caplog
):
    """By another worker, with the reason in the log; a part that is there already is kept."""
    caplog.set_level(logging.INFO)
    executor = Direct({1: [RuntimeError("the node\nis gone")]})
    assert build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=executor)
    assert (tmp_path / "maps.h5").read_bytes() == expected
    assert sorted(chain(*executor.sent)) == [0, 1, 1, 2, 3, 4]
    assert (
        "Direct: lost the worker of shards 1 (RuntimeError: the node is gone); explaining them "
        "again" in caplog.messages
    )
    late = Direct({1: [RuntimeError("gone")]}, late=True)
    assert build_with(tmp_path / "late.h5", galaxy_folder, checkpoint, executor=late)
    assert (tmp_path / "late.h5").read_bytes() == expected
    assert late.sent == [[0], [1], [2], [3], [4]]


def test_a_lost_job_may_speak_of_pickles(galaxy_folder, tmp_path, checkpoint):
    """As submitit does, whose jobs leave their answers in a pickle: it is a loss like any other."""
    fault = RuntimeError("Job 7 with path 7_result.pkl has no pickle")
    executor = Direct({1: [fault]})
    assert build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=executor)
    assert sorted(chain(*executor.sent)) == [0, 1, 1, 2, 3, 4]


def test_a_shard_that_ends_every_worker(galaxy_folder, tmp_path, checkpoint, expected):
    """Is not tried for ever; the others are kept, and the next run needs no more than it."""
    executor = Direct({2: [MemoryError(f"{n} GB") for n in range(20)]})
    with pytest.raises(EngineError) as caught:
        build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=executor)
    assert str(caught.value).startswith(f"Direct has lost the worker of shard 2 {MAX_LOSSES} times")
    assert "(MemoryError: " in str(caught.value)
    assert str(caught.value).endswith("the parts that are done are kept, run this again to go on")
    again = Direct()
    assert build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=again)
    assert again.sent == [[2]]
    assert (tmp_path / "maps.h5").read_bytes() == expected


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (BrokenExecutor("a child died"), "Direct has lost a worker and is broken"),
        (CancelledError(), "Direct cancelled a task (CancelledError)"),
        (
            AttributeError("Can't pickle local object 'f.<locals>.Net'"),
            "Direct cannot send a task to its workers (AttributeError: Can't pickle",
        ),
    ],
)
def test_an_executor_that_cannot_go_on(galaxy_folder, tmp_path, checkpoint, fault, words):
    """Is the user's, and galfig cannot repair it: it says so at once, in one line."""
    executor = Direct({1: [fault]})
    with pytest.raises(EngineError) as caught:
        build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=executor)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "maps.h5.parts" / "000000.h5").is_file()


@pytest.mark.parametrize("fault", [SystemExit(0), KeyboardInterrupt()], ids=repr)
def test_a_worker_that_ends_does_not_end_this_process(
    galaxy_folder, tmp_path, checkpoint, expected, fault
):
    """A task that is left by `sys.exit` is one that was lost."""
    executor = Direct({1: [fault]})
    assert build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=executor)
    assert executor.sent.count([1]) == 2
    assert (tmp_path / "maps.h5").read_bytes() == expected


@pytest.mark.parametrize("answer", [None, "done", {}], ids=repr)
def test_an_executor_that_answers_anything(galaxy_folder, tmp_path, checkpoint, answer):
    """What is no answer of a task is not taken for one."""

    class Odd(Direct):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.set_result(answer)
            return future

    with pytest.raises(EngineError, match=r"Odd answers with '(NoneType|str|dict)', expected"):
        build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=Odd())
    assert not (tmp_path / "maps.h5").exists()


@pytest.mark.parametrize("chosen", [None, "1-2"])
def test_workers_of_another_folder(galaxy_folder, tmp_path, checkpoint, monkeypatch, chosen):
    """They say that all is done, and nothing is in the folder of this process."""
    monkeypatch.setattr(dispatch, "_LOOKS", (0.0, 0.01))

    class Far(Direct):
        def submit(self, fn, /, *args, **kwargs):
            future = Future()
            future.set_result(tasks.Outcome(n_galaxies=len(args[1].shards)))
            return future

    shards = chosen or "0-4"
    with pytest.raises(EngineError, match=f"Far says that shards {shards} are done, and their"):
        build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=Far(), chosen=chosen)


def test_an_executor_that_was_shut_down(galaxy_folder, tmp_path, checkpoint):
    """Takes no tasks."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(EngineError, match=r"takes no more tasks .*after shutdown"):
        build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=pool)


def test_an_executor_of_another_kind(galaxy_folder, tmp_path, checkpoint):
    """As those of submitit are, whose jobs are no futures."""

    class Other:
        def submit(self, fn, *args):
            return 3

    with pytest.raises(ConfigError, match=r"Other.submit gives a int, expected a concurrent"):
        build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=Other())


def test_a_failing_shard_is_the_line_of_the_local_engine(galaxy_folder, tmp_path, checkpoint):
    """The same error in the same words; when it is mended, the next run goes on."""
    galaxies, _ = load_with_settings(galaxy_folder)
    data, errors = galaxies.paths[17].read_bytes(), []
    for number, options in enumerate([{}, {"executor": Direct()}]):
        with pytest.raises(LostCutoutError) as caught:
            build_with(tmp_path / f"{number}.h5", galaxy_folder, checkpoint, lost=17, **options)
        errors.append(str(caught.value))
        galaxies.paths[17].write_bytes(data)
    assert errors[0] == errors[1]
    again = Direct()
    assert build_with(tmp_path / "1.h5", galaxy_folder, checkpoint, executor=again)
    assert again.sent == [[3]]


def test_a_full_disk_is_the_line_of_the_local_engine(
    galaxy_folder, tmp_path, checkpoint, monkeypatch
):
    """Where a worker cannot write its part."""

    def write(path, *args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("galfig.pipeline.work.write_part", write)
    errors = []
    for options in ({}, {"executor": Direct()}):
        with pytest.raises(OutputError) as caught:
            build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, **options)
        errors.append(str(caught.value))
    part = tmp_path / "maps.h5.parts" / "000000.h5"
    assert errors == 2 * [f"{part}: cannot be written (No space left on device)"]


def test_a_defect_in_a_worker_comes_with_its_traceback(
    galaxy_folder, tmp_path, checkpoint, monkeypatch
):
    """What is no error of galfig is not tried again, and is not hidden."""

    def fail(*args, **options):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(tasks, "make_parts", fail)
    executor = Direct()
    with pytest.raises(RuntimeError, match=r"(?s)worker \d+ on .*Traceback.*ZeroDivisionError"):
        build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=executor)
    assert executor.sent == [[0], [1], [2], [3], [4]]


def test_an_interruption_cancels_what_waits(galaxy_folder, tmp_path, checkpoint):
    """What has not begun never does, and the executor is free for other work."""
    begun, go = [], threading.Event()

    class Slow(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            if len(begun) == 1:
                signal.raise_signal(signal.SIGINT)

            def run():
                begun.append(list(args[1].shards))
                go.wait(10)
                return fn(*args, **kwargs)

            future = super().submit(run)
            while not begun:
                time.sleep(0.01)
            return future

    with Slow(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=pool)
        go.set()
    assert begun == [[0]]
    # What had begun is kept.
    assert (tmp_path / "maps.h5.parts" / "000000.h5").is_file()


def test_a_part_that_another_process_makes_is_waited_for(
    galaxy_folder, tmp_path, checkpoint, expected, monkeypatch
):
    """As one of a worker that was taken for lost; the others go on meanwhile."""
    monkeypatch.setattr(dispatch, "_PAUSE", 0.05)
    path = tmp_path / "maps.h5"
    holding = contextlib.ExitStack()

    class Held(Direct):
        def submit(self, fn, /, *args, **kwargs):
            if not self.sent:
                holding.enter_context(hold_lock(path.with_name("maps.h5.parts") / "000001.h5"))
            if len(self.sent) == 7:
                holding.close()
            return super().submit(fn, *args, **kwargs)

    executor = Held()
    assert build_with(path, galaxy_folder, checkpoint, executor=executor)
    assert executor.sent[:5] == [[0], [1], [2], [3], [4]]
    assert executor.sent[5:] == [[1]] * 3
    assert path.read_bytes() == expected


def test_a_part_that_another_process_makes_for_ever(
    galaxy_folder, tmp_path, checkpoint, monkeypatch
):
    """Ends the build with the line that says who makes it."""
    monkeypatch.setattr(dispatch, "_PAUSE", 0.05)
    monkeypatch.setattr(dispatch, "_PATIENCE", 0.1)
    path = tmp_path / "maps.h5"
    with (
        hold_lock(path.with_name("maps.h5.parts") / "000001.h5"),
        pytest.raises(LockError, match=f"is being made by process {os.getpid()}"),
    ):
        build_with(path, galaxy_folder, checkpoint, executor=Direct())


def test_some_shards_by_an_executor(galaxy_folder, tmp_path, checkpoint, expected):
    """``shards`` and an engine go together; another process makes the rest."""
    path = tmp_path / "maps.h5"
    first = Direct()
    assert build_with(path, galaxy_folder, checkpoint, chosen="1/2", executor=first) == range(2)
    assert first.sent == [[0], [1]]
    build_with(path, galaxy_folder, checkpoint, chosen="2-4", executor=Direct())
    with merge_maps(path):
        pass
    assert path.read_bytes() == expected


def test_what_waits_is_bounded(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """The galaxies of all shards are never sent at once."""
    monkeypatch.setattr(dispatch, "MAX_TASKS", 2)
    waiting = []

    class Counting(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            waiting[:] = [future for future in waiting if not future.done()]
            assert len(waiting) < 2
            waiting.append(super().submit(fn, *args, **kwargs))
            return waiting[-1]

    with Counting(2) as pool:
        assert build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=pool)


@pytest.mark.parametrize(
    ("n", "n_groups", "sizes"),
    [(5, None, [1] * 5), (5, 2, [2, 3]), (5, 9, [1] * 5), (16, 16, [1] * 16)],
)
def test_groups_of_shards(n, n_groups, sizes):
    """Nearly equal, in order, and none empty."""
    groups = _group(range(10, 10 + n), n_groups)
    assert [len(group) for group in groups] == sizes
    assert list(chain(*groups)) == list(range(10, 10 + n))


def test_a_module_is_sent_as_it_is(galaxy_folder, tmp_path):
    """A network without a file travels with the tasks, in whatever way the executor sends it."""
    described = {"mean": [0.2] * 3, "std": [0.1] * 3, "cutout_size": 32, "layer": "1"}
    stores = []
    for name, executor in {"local": None, "direct": Direct()}.items():
        path = tmp_path / f"{name}.h5"
        galaxies, _ = load_with_settings(galaxy_folder)
        with galfig.build_maps(
            galaxies, path, model=make_tiny_cnn(), executor=executor, device="cpu", **described
        ):
            stores.append(path.read_bytes())
    assert stores[0] == stores[1]
    assert isinstance(executor, Direct)
    assert executor.sent == [[0]]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork"])
# Since Python 3.12, a fork of a process with threads is warned of.
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_processes_of_the_standard_library(galaxy_folder, tmp_path, checkpoint, expected, method):
    """Two that were started afresh, and two that were forked from this one."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert build_with(tmp_path / "maps.h5", galaxy_folder, checkpoint, executor=pool)
    assert (tmp_path / "maps.h5").read_bytes() == expected


@pytest.mark.slow
def test_a_killed_process_breaks_the_pool_and_loses_nothing(
    galaxy_folder, tmp_path, checkpoint, expected
):
    """The pool of the standard library cannot be repaired; another one goes on."""
    path = tmp_path / "maps.h5"
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.raises(EngineError, match=r"ProcessPoolExecutor .*broken"):
            build_with(path, galaxy_folder, checkpoint, shard_size=2, executor=pool)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        build_with(path, galaxy_folder, checkpoint, shard_size=2, executor=pool)
    assert path.read_bytes() == expected
