"""Engines: what gives shards to workers, by name; each becomes a `concurrent.futures.Executor`."""

import importlib.util
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from galfig.errors import ConfigError, EngineError
from galfig.runtime.machine import count_processors
from galfig.runtime.messages import one_line, quote, require_choice
from galfig.runtime.options import EngineName, RunOptions

logger = logging.getLogger(__name__)

# The library of each engine, and how it calls itself; the extra has the name of the engine.
_LIBRARIES = {
    "dask": ("distributed", "Dask"),
    "ray": ("ray", "Ray"),
    "slurm": ("submitit", "submitit"),
}
# Memory that Ray sets apart for what workers are sent and answer [byte].
_RAY_STORE = 200_000_000
# Number of jobs of Slurm, and the time after which Slurm ends each [minutes]. What a job has not
# done by then, the next does.
_N_JOBS, _SLURM_TIME = 16, 60
# The address of submitit's engine on this machine, with the longest time of a job [minutes].
_HERE, _ENDLESS = "local", 100_000
# Options of sbatch that would run commands, and those that are galfig's to set.
_RESERVED = {
    *("setup", "teardown", "srun_args", "additional_parameters", "use_srun", "map_count"),
    *("nodes", "ntasks_per_node", "dependency", "job_name"),
}
# What workers of Dask on this machine run first. Ctrl-C reaches them too, but it is this process
# that stops them.
_IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
# Seconds between two looks at the jobs.
_LOOK = 0.5


@dataclass(frozen=True)
class Opened:
    """An engine that takes tasks.

    Attributes
    ----------
    executor : concurrent.futures.Executor
        What takes them.
    name : str
        Its name, for messages.
    n_tasks : int or None
        Number of tasks into which all shards are divided, where each task costs much; by default,
        each shard is a task.
    """

    executor: Executor
    name: str
    n_tasks: int | None = None


def check_engine(run: RunOptions) -> None:
    """Check that an engine can be opened, before there is anything to do.

    Parameters
    ----------
    run : RunOptions
        The engine, its address, and the executor in place of one.

    Raises
    ------
    ConfigError
        If there is no such engine, its library is not installed, or the address is not one of it.
    """
    require_choice("engine", run.engine, get_args(EngineName))
    if run.executor is not None:
        if run.engine != "local" or run.address is not None:
            raise ConfigError(
                "`executor`: given beside `engine` or `address`, expected one of them; an executor "
                "knows where its workers are"
            )
        if not callable(getattr(run.executor, "submit", None)):
            raise ConfigError(
                f"`executor`: is a {type(run.executor).__name__}, expected what has the methods of "
                "concurrent.futures.Executor, such as client.get_executor() of Dask"
            )
    if run.engine == "local":
        if run.address is not None:
            raise ConfigError(
                f'`address` {quote(run.address)}: the engine "local" has none; choose an `engine`'
            )
        return
    library, name = _LIBRARIES[run.engine]
    if importlib.util.find_spec(library) is None:
        raise ConfigError(
            f'`engine="{run.engine}"`: needs {name}, which is not installed; pip install '
            f"'galfig[{run.engine}]'"
        )
    if run.engine == "slurm":
        _read_options(run.address)


@contextmanager
def open_engine(run: RunOptions, path: Path, *, on_gpu: bool = False) -> Iterator[Opened]:
    """Open an engine, and close it when the block ends; an executor of the user's stays open.

    Parameters
    ----------
    run : RunOptions
        Its name, and its address: of Dask and Ray, that of a scheduler that runs (by default,
        workers are started on this machine, one for each processor); of Slurm, options of sbatch,
        such as "partition=gpu,time=120", with "jobs=16", or "local" for processes on this machine.
    path : Path
        The store; what submitit writes goes to a folder beside it.
    on_gpu : bool, default False
        Whether workers need a GPU each.

    Yields
    ------
    Opened

    Raises
    ------
    ConfigError
        As `check_engine`.
    EngineError
        If the engine cannot be reached.
    """
    check_engine(run)
    if run.executor is not None:
        yield Opened(run.executor, type(run.executor).__name__)
    elif run.engine == "dask":
        with _open_dask(run) as executor:
            yield Opened(executor, "Dask")
    elif run.engine == "ray":
        with _open_ray(run, on_gpu=on_gpu) as executor:
            yield Opened(executor, "Ray")
    else:
        n_jobs, options = _read_options(run.address)
        with _open_slurm(options, path) as executor:
            yield Opened(executor, "Slurm", n_jobs)


def count_threads(engine: EngineName) -> int:
    """Return the number of threads of a worker, which calls this.

    Parameters
    ----------
    engine : {"local", "dask", "ray", "slurm"}
        The engine; "local" where an executor is given in place of one, which may be Dask's.

    Returns
    -------
    int
        What the engine gives the worker: the threads of a worker of Dask, the processors of a task
        of Ray, those of a job of Slurm; 1 for any other executor, since it may have a worker for
        each processor.
    """
    if engine == "slurm":
        return count_processors()
    if engine == "ray":
        import ray

        return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
    # An executor may be one of Dask's; then a worker of Dask has imported its library.
    if "distributed" in sys.modules:
        from distributed import get_worker

        try:
            return int(get_worker().state.nthreads)
        except ValueError:
            pass
    return 1


@contextmanager
def _open_dask(run: RunOptions) -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    # Lost workers are said by galfig, where they matter.
    silent = logging.CRITICAL
    if run.address is None:
        n_threads = run.n_workers or 1
        with (
            LocalCluster(
                n_workers=max(1, count_processors() // n_threads),
                threads_per_worker=n_threads,
                processes=True,
                host="127.0.0.1",
                # No dashboard; the port of what serves it would else be one that may be in use.
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=None,
                silence_logs=silent,
                preload=[_IGNORE_INTERRUPTS],
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            try:
                yield client.get_executor(pure=False)
            except Exception:
                raise
            except BaseException:
                _kill_workers(cluster)
                raise
        return
    try:
        client = Client(run.address, set_as_default=False)
    except (OSError, ValueError) as exc:
        raise EngineError(
            f"`address` {quote(run.address)}: no scheduler of Dask answers ({one_line(exc)}); "
            "start one with 'dask scheduler' and give its address, such as tcp://host:8786"
        ) from exc
    with client:
        yield client.get_executor(pure=False)


def _kill_workers(cluster: Any) -> None:
    """End the workers of a cluster at once: an interrupted command has no seconds to wait."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
    for process in multiprocessing.active_children():
        if process.name.startswith("Dask Worker"):
            process.kill()


class _RayExecutor(Executor):
    """Tasks of Ray as the standard library's futures."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._remote: dict[Callable[..., Any], Any] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start a task; see `concurrent.futures.Executor.submit`."""
        import ray

        if fn not in self._remote:
            self._remote[fn] = ray.remote(**self._options)(fn)
        return self._remote[fn].remote(*args, **kwargs).future()


@contextmanager
def _open_ray(run: RunOptions, *, on_gpu: bool) -> Iterator[Executor]:
    # Ray would report what it is used for.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    is_own = not ray.is_initialized()
    if is_own:
        options: dict[str, Any] = {"address": run.address}
        if run.address is None:
            options = {
                "address": "local",
                "num_cpus": count_processors(),
                "include_dashboard": False,
                "object_store_memory": _RAY_STORE,
                "_node_ip_address": "127.0.0.1",
            }
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError, ValueError) as exc:
            raise EngineError(f"Ray cannot be reached or started ({one_line(exc)})") from exc
    try:
        # A lost task is galfig's to do again, which counts how often. Without `max_calls`, a worker
        # with a GPU would end after each task.
        yield _RayExecutor(
            num_cpus=run.n_workers or 1, num_gpus=int(on_gpu), max_retries=0, max_calls=0
        )
    finally:
        if is_own:
            ray.shutdown()


class _JobExecutor(Executor):
    """Jobs of submitit as the standard library's futures; a thread looks after them."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._jobs: dict[Future[Any], Any] = {}
        self._changed = threading.Lock()
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a job; see `concurrent.futures.Executor.submit`."""
        job = self._executor.submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        with self._changed:
            self._jobs[future] = job
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop looking after jobs, and cancel those that run if asked to."""
        if wait and not cancel_futures:
            while self._jobs:
                time.sleep(_LOOK)
        self._is_over.set()
        self._watcher.join()
        for job in self._jobs.values():
            job.cancel(check=False)

    def _watch(self) -> None:
        while not self._is_over.wait(_LOOK):
            with self._changed:
                jobs = dict(self._jobs)
            for future, job in jobs.items():
                if future.cancelled():
                    job.cancel(check=False)
                elif not job.done():
                    continue
                else:
                    _settle(future, job)
                with self._changed:
                    del self._jobs[future]


def _settle(future: Future[Any], job: Any) -> None:
    """Give a future what its job answered."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job.result())
    except Exception as exc:
        future.set_exception(exc)


@contextmanager
def _open_slurm(options: dict[str, Any] | None, path: Path) -> Iterator[Executor]:
    import submitit

    # It would write to stdout, which is for results.
    logging.getLogger("submitit").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".jobs", dir=path.parent))
    try:
        if options is None:
            jobs = submitit.LocalExecutor(folder)
            jobs.update_parameters(timeout_min=_ENDLESS)
        else:
            try:
                jobs = submitit.SlurmExecutor(folder, max_num_timeout=0)
                jobs.update_parameters(**{"time": _SLURM_TIME, "job_name": "galfig", **options})
            except (RuntimeError, ValueError) as exc:
                raise EngineError(f"Slurm cannot be used here ({one_line(exc)})") from exc
        executor = _JobExecutor(jobs)
        try:
            yield executor
        finally:
            executor.shutdown(cancel_futures=True)
    except Exception:
        logger.info("%s: what the jobs wrote", folder)
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _read_options(address: str | None) -> tuple[int, dict[str, Any] | None]:
    """Return the number of jobs, and options of sbatch; None for jobs on this machine."""
    options: dict[str, Any] = {}
    is_here = False
    for word in filter(None, (address or "").split(",")):
        key, is_given, value = word.strip().partition("=")
        key = key.removeprefix("--").replace("-", "_")
        if key == _HERE and not is_given:
            is_here = True
        elif not value or not key.isidentifier() or key in _RESERVED:
            raise ConfigError(
                f"`address` {quote(address)}: {quote(word)} is no option of sbatch that is taken "
                'here, expected "local", or such as "partition=gpu,time=120,jobs=16"'
            )
        else:
            options[key] = int(value) if value.isdecimal() else value
    n_jobs = options.pop("jobs", count_processors() if is_here else _N_JOBS)
    if not isinstance(n_jobs, int) or n_jobs < 1 or (is_here and options):
        raise ConfigError(
            f'`address` {quote(address)}: expected a number of jobs, such as "jobs=16", and with '
            '"local" nothing else'
        )
    return n_jobs, None if is_here else options
