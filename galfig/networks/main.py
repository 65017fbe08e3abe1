"""The training job: images are read, and one network or several are trained once and kept."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from galfig.catalog.frames import report_frames
from galfig.catalog.galaxies import Galaxies, report_rejected
from galfig.catalog.sample import load_sample, name_catalog
from galfig.config import MAX_NETWORKS, Settings, load_settings
from galfig.errors import CheckpointError, OutputError
from galfig.images.sources import Source
from galfig.networks.architectures import check_arch
from galfig.networks.checkpoint import Checkpoint, load_checkpoint
from galfig.networks.device import choose_device
from galfig.networks.ensemble import (
    SUFFIX,
    describe_accuracies,
    join_networks,
    list_networks,
    name_network,
)
from galfig.networks.membership import find_splits, record_members
from galfig.networks.precision import choose_precision
from galfig.networks.processes import Processes, join_processes
from galfig.networks.recipe import (
    describe_difference,
    describe_recipe,
    is_same_recipe,
    restore_recipe,
)
from galfig.networks.training import Resume, check_trainable, train_network
from galfig.networks.training_set import digest_training_set, read_training_set, take_used
from galfig.networks.transfer import Start, digest_init, load_start
from galfig.runtime.files import (
    ErrorOrReplace,
    IfExists,
    check_apart,
    check_home,
    check_output,
    remove_leftovers,
)
from galfig.runtime.lock import hold_lock
from galfig.runtime.messages import require_choice
from galfig.runtime.options import DEFAULT_RUN, Device, RunOptions
from galfig.runtime.progress import show_progress

logger = logging.getLogger(__name__)


def train(
    catalog: Galaxies | Path | str,
    out: Path | str | None = None,
    *,
    if_exists: ErrorOrReplace = "error",
    resume: Resume = "never",
    device: Device = "auto",
    takeover: bool = False,
    **training: Any,
) -> Checkpoint:
    """Train a classifier on the galaxies of a catalog, and write its checkpoint.

    With ``networks=5``, five networks are trained with other seeds into a folder; see
    `train_networks`. In a program that ``accelerate launch`` started, all its processes train
    together; each of them must call this.

    Parameters
    ----------
    catalog : Galaxies, Path or str
        The galaxies, from `galfig.load_catalog`, or the path of a catalog.
    out : Path or str, optional
        The checkpoint; it appears when it is complete. Of several networks, their folder. By
        default "model.safetensors", or "networks".
    if_exists : {"error", "replace"}, default "error"
        What to do if the file exists.
    resume : {"never", "if_same", "always"}, default "never"
        Whether to resume an interrupted run after its last complete epoch. If that run had
        another recipe, "if_same" trains from the start, and "always" raises.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, default "auto"
        Where to train; "auto" takes CUDA where there is one.
    takeover : bool, default False
        Take over a stale lock from another host.
    **training
        Keys of the table ``training`` of the settings, such as ``epochs=10``; they override those
        of the catalog.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode. ``metadata["metrics"]`` holds the metrics of the validation
        set. Of several networks, ``networks`` holds each of them.

    Raises
    ------
    ConfigError
        If a setting is unknown or has the wrong type, or this machine lacks the device.
    CatalogError
        If the catalog cannot be used, or a class has no galaxy in the training set, or none in
        the validation set (which the setting ``[split] allow_missing`` permits).
    CheckpointError
        If ``resume`` is "always" and the interrupted run had another recipe.
    OutputError
        If the file exists and ``if_exists`` is "error", or the file cannot be written.
    LockError
        If another process is making the same file.
    LostCutoutError
        If an image has disappeared since the catalog was read.
    ElsewhereError
        If ``accelerate launch`` started several processes, of which another failed.
    GalfigError
        If the validation loss is not finite at the end.
    """
    run = RunOptions(device=device, takeover=takeover)

    def read() -> tuple[Galaxies, Settings, Path]:
        require_choice("if_exists", if_exists, get_args(ErrorOrReplace))
        require_choice("resume", resume, get_args(Resume))
        overrides = {("training", key): value for key, value in training.items()}
        found = name_catalog(catalog) if isinstance(catalog, Path | str) else catalog.settings
        settings = load_settings(found, overrides)
        path = Path(settings.training.output if out is None else out)
        check_training(settings, path, if_exists=if_exists, resume=resume, run=run)
        galaxies = load_sample(found) if isinstance(catalog, Path | str) else catalog
        return galaxies, settings, path

    galaxies, settings, path = join_processes(device).take_turns(read)
    options: dict[str, Any] = {"if_exists": if_exists, "resume": resume, "run": run}
    if settings.training.networks > 1:
        return train_networks(galaxies, settings, path, **options)
    return train_checkpoint(galaxies, settings, path, **options)


def load_or_train(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
) -> Checkpoint:
    """Load the checkpoint of these galaxies and settings, or train it.

    Parameters
    ----------
    galaxies : Galaxies
        Training and validation set.
    settings : Settings
        The settings; if they ask for several networks, these are an ensemble.
    path : Path
        The checkpoint, or the folder of the networks.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the checkpoint exists. "error" and "update" load a checkpoint of the same
        recipe; for one of another recipe "error" raises and "update" replaces it. "replace"
        trains again.
    run : RunOptions, optional
        Device, threads, and whether to take over from a process on another host.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode.

    Raises
    ------
    CheckpointError
        If the file cannot be used, or was trained by another recipe and ``if_exists`` is "error".
    GalfigError
        As `train_checkpoint`.
    """
    if settings.training.networks > 1:
        return train_networks(
            galaxies, settings, path, if_exists=if_exists, resume="if_same", run=run
        )
    allowed: ErrorOrReplace = "replace" if if_exists == "replace" else "error"
    if path.exists() and if_exists != "replace":
        checkpoint = load_checkpoint(path)
        images = partial(digest_training_set, galaxies, n_workers=run.n_workers)
        difference = _find_difference(checkpoint, galaxies, settings, digest_init(settings), images)
        if not difference:
            logger.info("%s: already trained with this recipe", path)
            return checkpoint
        if if_exists == "error":
            raise CheckpointError(
                f"{path}: was trained with another recipe ({difference}); "
                f'use `if_exists="replace"` to train again, or `model` {path} to explain that '
                "network"
            )
        allowed = "replace"
    return train_checkpoint(
        galaxies,
        settings,
        path,
        if_exists=allowed,
        # The same command, run again, resumes where it stopped.
        resume="if_same",
        run=run,
    )


def _find_difference(
    checkpoint: Checkpoint,
    galaxies: Galaxies,
    settings: Settings,
    init_digest: str | None,
    digest_images: Callable[[], str],
) -> str:
    """Describe how a checkpoint's recipe differs from that of galaxies and settings; "" if not."""
    found = restore_recipe(checkpoint.metadata.get("recipe", {}))
    wanted = describe_recipe(galaxies, settings, init_digest=init_digest)
    if is_same_recipe(found, wanted) and "image_digest" in found:
        # Only now, since all images must be read for it.
        wanted = describe_recipe(galaxies, settings, digest_images(), init_digest)
    return "" if is_same_recipe(found, wanted) else describe_difference(found, wanted)


def train_checkpoint(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    if_exists: ErrorOrReplace = "error",
    resume: Resume = "never",
    run: RunOptions = DEFAULT_RUN,
) -> Checkpoint:
    """Train a network on the galaxies whose image is readable, and write its checkpoint.

    Only one process at a time makes a checkpoint; see `galfig.runtime.lock.hold_lock`.

    Parameters
    ----------
    galaxies : Galaxies
        Training and validation set.
    settings : Settings
        The settings.
    path : Path
        The checkpoint; it appears when it is complete.
    if_exists : {"error", "replace"}, default "error"
        What to do if the file exists.
    resume : {"never", "if_same", "always"}, default "never"
        Whether to resume an interrupted run; see `train_network`.
    run : RunOptions, optional
        Device, threads, and whether to take over from a process on another host.

    Returns
    -------
    Checkpoint
        On the CPU, in evaluation mode.

    Raises
    ------
    ConfigError
        If the memory cannot hold a step of the training.
    LockError
        If another process is making the same file.
    LostCutoutError
        If an image has disappeared since the catalog was read.
    GalfigError
        As `train_network`.
    """
    processes = join_processes(run.device)
    with processes.together():
        prepared = _prepare(galaxies, settings, run)
    with _hold_lock(path, run, processes) as check:
        if processes.is_main:
            remove_leftovers(path)
        return prepared.train(
            settings, path, if_exists=if_exists, resume=resume, run=run, check=check
        )


@contextmanager
def _hold_lock(path: Path, run: RunOptions, processes: Processes) -> Iterator[Callable[[], object]]:
    """Hold a lock in process 0; return what checks that it is held."""
    with ExitStack() as stack:
        check: Callable[[], object] = lambda: None  # noqa: E731
        with processes.together():
            if processes.is_main:
                check = stack.enter_context(hold_lock(path, takeover=run.takeover)).check
        yield check


@dataclass(frozen=True)
class _Prepared:
    """A training set in memory, and what networks that it trains follow from."""

    galaxies: Galaxies
    readable: Galaxies
    cutouts: NDArray[np.uint8]
    members: dict[str, str]
    image_digest: str
    init_digest: str | None
    start: Start | None

    def train(self, settings: Settings, path: Path, **options: Any) -> Checkpoint:
        """Train a network; see `train_network` for the options."""
        return train_network(
            self.readable,
            self.cutouts,
            settings,
            path,
            members=self.members,
            recipe=describe_recipe(self.galaxies, settings, self.image_digest, self.init_digest),
            start=self.start,
            **options,
        )


def _prepare(galaxies: Galaxies, settings: Settings, run: RunOptions) -> _Prepared:
    """Read the images of a training set, after all that can be checked without them."""
    # Report a missing device, one that is too small, and weights that do not fit before the images
    # are read, not after.
    device = choose_device(run.device)
    choose_precision(settings.training.precision, device)
    check_trainable(galaxies, settings, device)
    start = load_start(settings, len(galaxies.class_names))
    init_digest = None
    if start is not None:
        init_digest = start.origin["sha256"] if settings.training.init is not None else None
        _warn_of_overlap(start, galaxies)
    report_frames(
        take_used(galaxies),
        settings.catalog,
        settings.cutout_size,
        settings.catalog_path,
        is_chosen="cutout_size" in settings.training.model_fields_set,
    )
    digests: dict[Source, int] = {}
    readable, cutouts = read_training_set(
        galaxies, settings, n_workers=run.n_workers, digests=digests
    )
    image_digest = digest_training_set(galaxies, known=digests)
    if len(readable.rejected) > len(galaxies.rejected):
        report_rejected(readable, settings.catalog_path, n_known=len(galaxies.rejected))
    members = record_members(galaxies.drop(readable.rejected), known=digests)
    return _Prepared(galaxies, readable, cutouts, members, image_digest, init_digest, start)


def _warn_of_overlap(start: Start, galaxies: Galaxies) -> None:
    """Warn of galaxies of the validation set that already trained the weights to start from."""
    if start.checkpoint is None or start.checkpoint.record.members is None:
        return
    is_valid = galaxies.in_valid
    n_seen = int(np.sum(is_valid & (find_splits(start.checkpoint, galaxies) == "train")))
    if n_seen:
        logger.warning(
            "%s: %d of the %d galaxies of the validation set trained these weights, so that its "
            "accuracy says less of galaxies that the network never saw; choose another split",
            start.origin["source"],
            n_seen,
            int(np.sum(is_valid)),
        )


def train_networks(
    galaxies: Galaxies,
    settings: Settings,
    folder: Path,
    *,
    if_exists: IfExists = "error",
    resume: Resume = "never",
    run: RunOptions = DEFAULT_RUN,
) -> Checkpoint:
    """Train several networks by one recipe with other seeds, each to a file of a folder.

    The files are ``network-1.safetensors`` and so on, and each appears when it is complete. The
    first has the seed of the settings, and is the network that a single training gives; the others
    have seeds that `derive_seed` derives from it. All have the same split.

    Parameters
    ----------
    galaxies : Galaxies
        Training and validation set.
    settings : Settings
        The settings; ``[training] networks`` is the number of networks.
    folder : Path
        The folder, made if there is none.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if networks are there. With ``resume``, networks of this recipe are kept, unless
        it is "if_same" and ``if_exists`` is "replace". For any other network "error" raises, and
        the others train again.
    resume : {"never", "if_same", "always"}, default "never"
        Whether to go on with what an earlier run left; see `train_network` for a single network.
    run : RunOptions, optional
        Device, threads, and whether to take over from a process on another host.

    Returns
    -------
    Checkpoint
        The ensemble; see `galfig.networks.ensemble.join_networks`.

    Raises
    ------
    CheckpointError
        If a network that is there has another recipe and must not be replaced, or cannot be used.
    OutputError
        If networks are there and must not be replaced, or the folder holds others than these.
    LockError
        If another process is training into the folder.
    GalfigError
        As `train_checkpoint`.
    """
    check_trained(settings, folder, if_exists=if_exists, resume=resume)
    n_networks = settings.training.networks
    jobs = {
        name_network(folder, number): _choose_network(settings, number)
        for number in range(1, n_networks + 1)
    }
    processes = join_processes(run.device)
    with _hold_lock(folder, run, processes) as check:
        is_again = resume == "never" or (resume == "if_same" and if_exists == "replace")
        with processes.together():
            known = {} if is_again else _load_known(galaxies, jobs, if_exists, run)
        todo = [path for path in jobs if path not in known]
        if todo:
            if known:
                logger.info("%s: %d of %d networks are there", folder, len(known), n_networks)
            with processes.together():
                prepared = _prepare(galaxies, settings, run)
            n_epochs = settings.training.epochs
            total = n_networks * n_epochs
            with show_progress("training", total, "epochs", initial=len(known) * n_epochs) as step:
                for path in todo:
                    if processes.is_main:
                        remove_leftovers(path)
                    logger.info("%s: seed %d", path, jobs[path].training.seed)
                    counted = _CountedCheck(check, step)
                    known[path] = prepared.train(
                        jobs[path],
                        path,
                        if_exists="error" if if_exists == "error" else "replace",
                        resume=resume,
                        run=run,
                        check=counted,
                        is_shown=False,
                    )
                    # Those that an interrupted run had done.
                    step(n_epochs - counted.n_calls)
        with processes.together():
            check()
            for path in _list_further(folder, jobs) if processes.is_main else ():
                logger.info("%s: removed, since %d networks were asked for", path, n_networks)
                path.unlink()
    ensemble = join_networks([known[path] for path in jobs], [str(path) for path in jobs])
    logger.info("%s: %s", folder, describe_accuracies(ensemble))
    return ensemble


class _CountedCheck:
    """A check before each file of a training, which counts its epochs."""

    def __init__(self, check: Callable[[], object], step: Callable[[int], object]) -> None:
        self._check = check
        self._step = step
        self.n_calls = 0

    def __call__(self) -> None:
        self._check()
        self.n_calls += 1
        self._step(1)


def derive_seed(seed: int, number: int) -> int:
    """Return the seed of the training of a network of an ensemble.

    Consecutive seeds would make two ensembles share networks if their own seeds are consecutive.

    Parameters
    ----------
    seed : int
        The seed of the settings, below 2^32.
    number : int
        Number of the network, from 1.

    Returns
    -------
    int
        For the first network, the seed itself; for the others, the first 4 bytes, big-endian, of
        the SHA-256 of "SEED NUMBER".
    """
    if number == 1:
        return seed
    return int.from_bytes(sha256(f"{seed} {number}".encode()).digest()[:4], "big")


def _choose_network(settings: Settings, number: int) -> Settings:
    """Return the settings of one network of an ensemble."""
    seed = derive_seed(settings.training.seed, number)
    training = settings.training.model_copy(update={"seed": seed, "networks": 1})
    return settings.model_copy(update={"training": training})


def _load_known(
    galaxies: Galaxies, jobs: Mapping[Path, Settings], if_exists: IfExists, run: RunOptions
) -> dict[Path, Checkpoint]:
    """Load the networks of an ensemble that are there by the right recipe.

    Raises CheckpointError for any other, unless it may be replaced.
    """
    digest_images = cache(partial(digest_training_set, galaxies, n_workers=run.n_workers))
    known = {}
    for path, settings in jobs.items():
        if not path.exists():
            continue
        checkpoint = load_checkpoint(path)
        init_digest = digest_init(settings)
        difference = _find_difference(checkpoint, galaxies, settings, init_digest, digest_images)
        if not difference:
            known[path] = checkpoint
        elif if_exists == "error":
            raise CheckpointError(
                f"{path}: was trained with another recipe ({difference}); use "
                '`if_exists="replace"` to train again, or another folder to keep both'
            )
    return known


def _list_further(folder: Path, wanted: Collection[Path]) -> list[Path]:
    """Return the networks of a folder that an ensemble of fewer does not have."""
    if not folder.is_dir():
        return []
    return [path for path in list_networks(folder) if path not in wanted]


def check_training(
    settings: Settings,
    path: Path,
    *,
    if_exists: IfExists = "error",
    resume: Resume = "never",
    run: RunOptions = DEFAULT_RUN,
) -> None:
    """Check all of a training that needs neither galaxies nor images, before these are read.

    Parameters
    ----------
    settings, path, if_exists, resume, run
        As of `train_checkpoint`.

    Raises
    ------
    ConfigError
        If this machine lacks the device, or the architecture is unknown.
    CheckpointError
        If the weights to start from cannot be read.
    OutputError
        As `check_trained`.
    """
    check_trained(settings, path, if_exists=if_exists, resume=resume)
    choose_device(run.device)
    check_arch(settings.training.arch, n_channels=settings.n_channels)
    digest_init(settings)


def check_trained(
    settings: Settings, path: Path, *, if_exists: IfExists = "error", resume: Resume = "never"
) -> None:
    """Check that what is trained may be written, before any work.

    Parameters
    ----------
    settings : Settings
        The settings; ``[training] networks`` is the number of networks.
    path : Path
        The checkpoint, or the folder of several.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if it exists.
    resume : {"never", "if_same", "always"}, default "never"
        Whether networks of a folder are kept.

    Raises
    ------
    OutputError
        If it exists and must not be replaced, is no file or no folder as it should be, or the
        folder holds networks that are not those of an ensemble of this number.
    """
    n_networks = settings.training.networks
    if n_networks == 1:
        check_apart(path, settings.input_files)
        check_output(path, if_exists=if_exists)
        return
    check_home(path)
    if path.suffix == SUFFIX or (path.exists() and not path.is_dir()):
        raise OutputError(
            f"{path}: names a file, expected a folder for {n_networks} networks; give another `out`"
        )
    found = list_networks(path) if path.is_dir() else []
    if found and if_exists == "error" and resume == "never":
        raise OutputError(
            f"{path}: holds {len(found)} networks already; use `resume` to go on, or "
            '`if_exists="replace"` to train all again'
        )
    own = [name_network(path, number) for number in range(1, MAX_NETWORKS + 1)]
    for file in found:
        if file not in own:
            raise OutputError(
                f"{file}: is none of the networks that are trained here, expected a folder without "
                "others; move it away, or give another `out`"
            )
        if file not in own[:n_networks] and if_exists == "error":
            raise OutputError(
                f"{path}: holds {file.name} as well, expected {n_networks} networks; use "
                f'`networks={len(found)}`, or `if_exists="replace"` to remove what is beyond'
            )
