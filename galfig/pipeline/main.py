"""The main job: load or train a network, and write every map of every galaxy."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from galfig.attribution.methods import find_method
from galfig.catalog.frames import report_frames
from galfig.catalog.galaxies import Galaxies
from galfig.catalog.sample import load_sample, name_catalog
from galfig.config import PIXEL_METHODS, Form, Settings, load_settings
from galfig.errors import ConfigError
from galfig.images.cutouts import choose_decoding
from galfig.networks.accuracy import check_accuracy
from galfig.networks.checkpoint import Checkpoint, wrap_network
from galfig.networks.device import choose_device
from galfig.networks.ensemble import list_files, load_networks
from galfig.networks.main import check_training, load_or_train
from galfig.networks.memory import check_memory, measure_explaining
from galfig.networks.processes import refuse_processes
from galfig.networks.recipe import warn_of_mismatch
from galfig.networks.shift import compare_images, warn_of_shift
from galfig.pipeline.build import build_store, explain_chosen
from galfig.pipeline.engines import check_engine
from galfig.pipeline.mirror import mirror_parts
from galfig.pipeline.parts import Parts
from galfig.pipeline.plan import Plan, describe_plan, make_plan
from galfig.pipeline.shards import check_shards, choose_shards
from galfig.pipeline.tasks import NetworkFile
from galfig.runtime.files import IfExists, check_apart, check_output
from galfig.runtime.messages import require_choice
from galfig.runtime.options import DEFAULT_RUN, Device, EngineName, RunOptions, Split
from galfig.runtime.storage import Address, parse_address
from galfig.store.reader import Store, open_store, read_digest
from galfig.store.summary import list_doubts

logger = logging.getLogger(__name__)


def build_maps(
    catalog: Galaxies | Path | str,
    out: Path | str = "maps.h5",
    *,
    model: Path | str | Checkpoint | nn.Module | None = None,
    arch: str | None = None,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    cutout_size: int | None = None,
    image_size: int | None = None,
    layer: str | None = None,
    method: str | None = None,
    store: Form | None = None,
    features: bool | None = None,
    split: Split | None = None,
    if_exists: IfExists = "error",
    device: Device = "auto",
    workers: int | None = None,
    takeover: bool = False,
    engine: EngineName = "local",
    address: str | None = None,
    executor: Executor | None = None,
    storage: str | None = None,
) -> Store:
    """Explain every galaxy for every class, write the store, and open it.

    Parameters
    ----------
    catalog : Galaxies, Path or str
        The galaxies, from `galfig.load_catalog`, or the path of a catalog.
    out : Path or str, default "maps.h5"
        The store. If a network is trained, it is kept beside the store as ``<stem>.safetensors``;
        several, as ``[training] networks`` says, are kept in the folder ``<stem>.networks``.
    model : Path, str, Checkpoint or torch.nn.Module, optional
        A checkpoint, a folder of several of one recipe, which are explained together (see
        `galfig.networks.ensemble.load_networks`), or any module in evaluation mode that takes
        normalised images (N, n_channels, H, W) and returns logits (N, C). By default, a network is
        trained with the settings of the catalog, or several are.
    arch : str, optional
        The architecture of a checkpoint that the user's own code builds, such as
        "python:package.module:function"; that code runs.
    class_names : sequence of str, optional
        Class of each logit, (C,); only for a module. Default the classes of the catalog.
    mean, std : sequence of float, optional
        Mean and standard deviation that normalised each channel in training, for values in
        [0, 1]: 3 numbers for RGB or 1 for one band. Required for a module, and only for one.
    cutout_size : int, optional
        Side of the central crop of each image [pixels]. Required for a module, and only for one.
    image_size : int, optional
        Side of the crop after scaling [pixels]; only for a module. By default, the crop is not
        scaled.
    layer : str, optional
        Name of the layer to explain. By default, that of the settings or of the checkpoint, and
        otherwise the last layer that returns feature maps.
    method : str, optional
        Method of attribution, one of `galfig.attribution.methods.METHODS`: "grad-cam",
        "hires-cam", "grad-cam++", "layer-cam", "x-grad-cam", "evidence", and, with the extra
        captum, "integrated-gradients" and "input-x-gradient". By default, that of the settings.
    store : {"full", "native", "statistics"}, optional
        What is stored of each galaxy: its maps and cutout; "native", maps of 8 bits and no cutout;
        or "statistics", numbers only. `galfig.explain_again` makes again what is not stored. By
        default, that of the settings.
    features : bool, optional
        Whether to store features of each galaxy, too: the mean of each feature map of the layer.
        By default, as the settings say.
    split : {"valid", "train", "test", "all"}, optional
        Galaxies to explain, by how the training of the network used them. By default, the
        validation set if this catalog trained the network, and otherwise all.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the network or the store exists. "error" and "update" reuse a file that was
        made from the same inputs; for another file "error" raises and "update" replaces it.
        "replace" makes both again.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, default "auto"
        Where the network runs; "auto" takes CUDA where there is one.
    workers : int, optional
        Number of threads that decode images; default one per processor, but no more than four for a
        GPU. Of another engine, the threads of each of its workers; by default, as many as the
        engine gives a worker.
    takeover : bool, default False
        Take over a stale lock from another host.
    engine : {"local", "dask", "ray", "slurm"}, default "local"
        What explains the galaxies: threads of this process; or workers of Dask, Ray or, by
        submitit, Slurm, which need the extra of that name and the same folders as this process.
    address : str, optional
        Where the engine is. Of Dask and Ray, the address of a scheduler that runs; by default,
        workers are started on this machine. Of Slurm, options of sbatch and a number of jobs, such
        as "partition=gpu,time=120,jobs=16", or "local" for processes on this machine.
    executor : concurrent.futures.Executor, optional
        What explains the galaxies in place of an engine, such as a ProcessPoolExecutor, or
        ``client.get_executor()`` of Dask. It stays open. A module or Checkpoint as ``model`` is
        sent with each task, and must be one that the executor can send.
    storage : str, optional
        An address such as ``"s3://bucket/run"``, where parts are kept as they are made. Another
        machine that is given it goes on with them.

    Returns
    -------
    Store
        The store, open for reading.

    Raises
    ------
    GalfigError
        If a setting, catalog, checkpoint or output cannot be used; see ``galfig.errors`` for its
        subclasses.
    TypeError
        If ``mean``, ``std`` or ``cutout_size`` is missing for a module, or an argument that is
        only for a module is given without one.
    """
    described = name_catalog(catalog) if isinstance(catalog, Path | str) else catalog.settings
    settings, path = (
        _choose_maps(described, layer=layer, method=method, store=store, features=features),
        Path(out),
    )
    needed = {"mean": mean, "std": std, "cutout_size": cutout_size}
    _check_model(model, needed, class_names, image_size)
    model = Path(model) if isinstance(model, str) else model
    place = _parse_storage(storage)
    run = RunOptions(device, workers, takeover, engine, address, executor, storage=place)
    options: dict[str, Any] = {"arch": arch, "split": split, "if_exists": if_exists, "run": run}
    checked = check_before(settings, path, model=model, **options)
    galaxies = load_sample(described) if isinstance(catalog, Path | str) else catalog
    if isinstance(model, nn.Module):
        model = wrap_network(
            model,
            class_names=galaxies.class_names if class_names is None else class_names,
            mean=() if mean is None else tuple(mean),
            std=() if std is None else tuple(std),
            cutout_size=cutout_size or 0,
            image_size=image_size,
            layer=settings.maps.layer,
        )
        checked = replace(checked, checkpoint=model)
    run_main_job(galaxies, settings, path, model=model, checked=checked, **options)
    return open_store(path)


def _check_model(model: object, needed: Mapping[str, object], *further: object) -> None:
    """Raise TypeError if a network is none, or comes without what describes it or with too much."""
    if not isinstance(model, Path | str | Checkpoint | nn.Module | None):
        raise TypeError(
            f"build_maps: `model` is a {type(model).__name__}, expected a checkpoint, its path or "
            "a torch.nn.Module"
        )
    if isinstance(model, nn.Module):
        for name, value in needed.items():
            if value is None:
                raise TypeError(f"build_maps: a module as `model` needs `{name}` as well")
    elif any(value is not None for value in (*needed.values(), *further)):
        raise TypeError("build_maps: a checkpoint has its own classes, statistics and sizes")


def _choose_maps(settings: Settings, **asked: str | bool | None) -> Settings:
    """Return the settings with other keys of ``[maps]``, where they are given."""
    if all(value is None for value in asked.values()):
        return settings
    return load_settings(settings, {("maps", key): value for key, value in asked.items()})


def build_parts(
    catalog: Galaxies | Path | str,
    out: Path | str = "maps.h5",
    *,
    shards: str,
    model: Path | str | Checkpoint,
    arch: str | None = None,
    layer: str | None = None,
    method: str | None = None,
    store: Form | None = None,
    features: bool | None = None,
    split: Split | None = None,
    if_exists: IfExists = "error",
    device: Device = "auto",
    workers: int | None = None,
    takeover: bool = False,
    engine: EngineName = "local",
    address: str | None = None,
    executor: Executor | None = None,
    storage: str | None = None,
) -> None:
    """Explain some of the galaxies, as one of many processes that make a store together.

    Galaxies are explained in shards, each of which becomes a file in the folder ``<out>.parts``.
    Processes on machines that share that folder may each take some shards. When all are done,
    `galfig.merge_maps` makes the store.

    Parameters
    ----------
    catalog : Galaxies, Path or str
        The galaxies, from `galfig.load_catalog`, or the path of a catalog; the same for all
        processes.
    out : Path or str, default "maps.h5"
        The store, which is not written here.
    shards : str
        Numbers and ranges of shards, which count from 0 and include their ends, such as "120-239"
        or "7,9-12"; or a share such as "3/16", the third of sixteen.
    model : Path, str or Checkpoint
        The trained network, or a folder of several.
    arch, layer, method, store, features, split, device
        As of `galfig.build_maps`.
    workers, takeover, engine, address, executor, storage
        As of `galfig.build_maps`.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the store exists, or the folder holds parts of another catalog, network or
        settings. A store or parts that were made from the same inputs are kept.

    Raises
    ------
    GalfigError
        As `galfig.build_maps`; and if another process is making one of these parts.
    """
    described = name_catalog(catalog) if isinstance(catalog, Path | str) else catalog.settings
    settings, path = (
        _choose_maps(described, layer=layer, method=method, store=store, features=features),
        Path(out),
    )
    model = Path(model) if isinstance(model, str) else model
    place = _parse_storage(storage)
    options: dict[str, Any] = {
        "model": model,
        "arch": arch,
        "split": split,
        "if_exists": if_exists,
        "run": RunOptions(device, workers, takeover, engine, address, executor, storage=place),
        "shards": shards,
    }
    checked = check_before(settings, path, **options)
    galaxies = load_sample(described) if isinstance(catalog, Path | str) else catalog
    run_main_job(galaxies, settings, path, **options, checked=checked)


def _parse_storage(words: str | None) -> Address | None:
    return None if words is None else parse_address(words, "storage")


def _name_trained(path: Path, *, several: bool) -> Path:
    """Return where a network that is trained on the way to a store is kept, or several are."""
    return path.with_suffix(".networks" if several else ".safetensors")


@dataclass(frozen=True)
class Checked:
    """What is known of a job before its galaxies are read.

    Attributes
    ----------
    device : torch.device
        Where the network runs.
    kept : Path
        The file of the network, or the folder of several; also where one that is trained is kept.
    checkpoint : Checkpoint or None
        The network; None if it is loaded or trained for the galaxies, or is not a checkpoint yet.
    """

    device: torch.device
    kept: Path
    checkpoint: Checkpoint | None


def check_before(
    settings: Settings,
    path: Path,
    *,
    model: Path | Checkpoint | nn.Module | None = None,
    arch: str | None = None,
    split: Split | None = None,
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
    shards: str | None = None,
) -> Checked:
    """Refuse whatever of a job can be refused before its catalog and its images are read.

    Parameters
    ----------
    settings, path, model, arch, split, if_exists, run, shards
        As of `run_main_job`; ``model`` may be a network that is no checkpoint yet.

    Returns
    -------
    Checked

    Raises
    ------
    ConfigError, CheckpointError, OutputError
        As `run_main_job`.
    """
    refuse_processes(
        "build-maps", "train with 'accelerate launch -m galfig train', then build with `model`"
    )
    require_choice("if_exists", if_exists, get_args(IfExists))
    if split is not None:
        require_choice("split", split, get_args(Split))
    if arch is not None and not isinstance(model, Path):
        raise ConfigError("`arch`: only with the file of a network as `model`")
    try:
        find_method(settings.maps.method)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    if shards is not None:
        check_shards(shards)
        if model is None:
            raise ConfigError(
                "`shards` without `model`: each process would train a network of its own; train "
                "one first with 'galfig train', and give it to all"
            )
    check_engine(run)
    device = choose_device(run.device)
    several = settings.training.networks > 1
    kept = model if isinstance(model, Path) else _name_trained(path, several=several)
    check_apart(path, [*settings.input_files, *list_files(kept)])
    if read_digest(path) is None:
        # Only a store may turn out to be the one that is wanted, or may be updated.
        allowed: IfExists = "replace" if if_exists == "replace" else "error"
        check_output(path, if_exists=allowed)
    if isinstance(model, Path):
        return Checked(device, kept, load_networks(model, arch=arch))
    if model is None and not kept.exists():
        check_output(path, if_exists=if_exists)
    if model is None and (if_exists == "replace" or not kept.exists()):
        check_training(settings, kept, if_exists=if_exists, resume="if_same", run=run)
    return Checked(device, kept, model if isinstance(model, Checkpoint) else None)


def run_main_job(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    model: Path | Checkpoint | None = None,
    arch: str | None = None,
    split: Split | None = None,
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
    shards: str | None = None,
    checked: Checked | None = None,
) -> bool:
    """Do the main job: from galaxies to a store with every map, or to some parts of it.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies, from `galfig.catalog.sample.load_sample`.
    settings : Settings
        How to train and explain.
    path : Path
        The store. If a network is trained, it is kept beside the store as ``<stem>.safetensors``;
        several, as ``[training] networks`` says, are kept in the folder ``<stem>.networks``.
    model : Path or Checkpoint, optional
        A trained network, or a folder of several of one recipe; by default, networks are trained.
    arch : str, optional
        The architecture of a checkpoint that the user's own code builds; see `build_maps`.
    split : {"valid", "train", "test", "all"}, optional
        Galaxies to explain; see `build_maps`.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the network or the store exists. "error" and "update" reuse a file that was
        made from the same inputs; for another file "error" raises and "update" replaces it.
        "replace" makes both again.
    run : RunOptions, optional
        Device, threads, whether to take over from a process on another host, and the engine.
    shards : str, optional
        Make the parts of these shards only, and no store; see
        `galfig.pipeline.shards.choose_shards`. Needs ``model``.
    checked : Checked, optional
        What `check_before` returned for the same arguments; by default, it is called here.

    Returns
    -------
    bool
        False if the store existed already and nothing had to be done.

    Raises
    ------
    ConfigError
        If the device, the engine or the layer does not exist, the method or the engine needs a
        library that is not installed, the memory cannot hold the images, ``arch`` is given without
        a file, or ``shards`` without a network or with numbers that the plan does not have.
    CheckpointError
        If the network cannot be used, or was trained by another recipe and must not be replaced.
    CatalogError
        If the split holds no galaxy, a class has none to train on, or none could be explained.
    OutputError
        If another file exists and must not be replaced, or an output cannot be written.
    LockError
        If another process is making the same file.
    LostCutoutError
        If an image has disappeared since the catalog was read.
    EngineError
        If the workers of the engine are lost or cannot be used.
    """
    checked = checked or check_before(
        settings,
        path,
        model=model,
        arch=arch,
        split=split,
        if_exists=if_exists,
        run=run,
        shards=shards,
    )
    kept, checkpoint = checked.kept, checked.checkpoint
    if checkpoint is None:
        checkpoint = load_or_train(galaxies, settings, kept, if_exists=if_exists, run=run)
    elif isinstance(model, Path):
        warn_of_mismatch(checkpoint, galaxies, settings, model)
    _check_memory(checkpoint, settings, checked.device)
    plan = make_plan(galaxies, settings, checkpoint, split)
    logger.info("%s", describe_plan(plan))
    options: dict[str, Any] = {
        "if_exists": if_exists,
        "run": run,
        "network": None if isinstance(model, Checkpoint) else NetworkFile(kept, arch),
        **_compare(plan, checkpoint, kept, is_given=model is not None),
    }
    n_shards = len(plan.shards)
    numbers = range(n_shards) if shards is None else choose_shards(shards, n_shards)
    storage = None if read_digest(path) == plan.digest else run.storage
    with mirror_parts(Parts.beside(path), storage, numbers):
        if shards is not None:
            return explain_chosen(plan, checkpoint, path, shards, **options) is not None
        is_new = build_store(plan, checkpoint, path, **options)
    # A training has said it already.
    if is_new and model is not None:
        with open_store(path) as store:
            for doubt in list_doubts(store):
                logger.warning("%s: %s", path, doubt)
    return is_new


def _check_memory(checkpoint: Checkpoint, settings: Settings, device: torch.device) -> None:
    """Raise ConfigError if the memory cannot hold what explaining an image takes."""
    size = checkpoint.image_size
    check_memory(
        f"{checkpoint.record.arch}, explaining images of {size} pixels",
        measure_explaining(
            checkpoint.model,
            (checkpoint.n_channels, size, size),
            of_pixels=settings.maps.method in PIXEL_METHODS,
        ),
        device,
        "use a network that takes smaller images, or a machine with more memory",
    )


def _compare(plan: Plan, checkpoint: Checkpoint, kept: Path, *, is_given: bool) -> dict[str, Any]:
    """Compare images and answers with those of the training; return what the store records.

    A network that was trained here, or by this recipe, is the one that its record is about; and its
    training has said already how much of each image is used.
    """
    settings, galaxies = plan.settings, plan.galaxies
    decoding = choose_decoding(settings.catalog, checkpoint.n_channels)
    if is_given:
        sized = (settings.catalog, checkpoint.cutout_size, settings.catalog_path)
        report_frames(galaxies, *sized, is_chosen=True)
    shift = compare_images(checkpoint, galaxies, decoding, kept)
    warn_of_shift(checkpoint, shift, kept)
    accuracy = check_accuracy(checkpoint, galaxies, decoding, kept) if is_given else None
    return {"image_shift": shift, "accuracy_check": accuracy}
