"""The main job: load or train a network, and write every map of every galaxy."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from torch import nn

from galfig.attribution.methods import find_method
from galfig.catalog.frames import report_frames
from galfig.catalog.galaxies import Galaxies
from galfig.catalog.sample import load_catalog
from galfig.config import PIXEL_METHODS, Settings, load_settings
from galfig.errors import ConfigError
from galfig.images.cutouts import choose_decoding
from galfig.networks.accuracy import check_accuracy
from galfig.networks.checkpoint import Checkpoint, wrap_network
from galfig.networks.device import choose_device
from galfig.networks.ensemble import list_files, load_networks
from galfig.networks.memory import check_memory, measure_explaining
from galfig.networks.recipe import warn_of_mismatch
from galfig.networks.shift import compare_images, warn_of_shift
from galfig.networks.training import load_or_train
from galfig.pipeline.build import build_store, explain_chosen
from galfig.pipeline.mirror import mirror_parts
from galfig.pipeline.parts import Parts
from galfig.pipeline.plan import describe_plan, make_plan
from galfig.pipeline.shards import check_shards, choose_shards
from galfig.runtime.files import IfExists, check_apart, check_output
from galfig.runtime.messages import require_choice
from galfig.runtime.options import DEFAULT_RUN, Device, RunOptions, Split
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
    split: Split | None = None,
    if_exists: IfExists = "error",
    device: Device = "auto",
    workers: int | None = None,
    takeover: bool = False,
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
    split : {"valid", "train", "test", "all"}, optional
        Galaxies to explain, by how the training of the network used them. By default, the
        validation set if this catalog trained the network, and otherwise all.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the network or the store exists. "error" and "update" reuse a file that was
        made from the same inputs; for another file "error" raises and "update" replaces it.
        "replace" makes both again.
    device : {"auto", "cpu", "cuda"}, default "auto"
        Where the network runs; "auto" takes CUDA where there is one.
    workers : int, optional
        Number of threads that decode images; default one per processor.
    takeover : bool, default False
        Take over a stale lock from another host.
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
    galaxies = load_catalog(catalog) if isinstance(catalog, Path | str) else catalog
    settings, path = galaxies.settings, Path(out)
    if layer is not None or method is not None:
        settings = load_settings(settings, {("maps", "layer"): layer, ("maps", "method"): method})
    description = {"mean": mean, "std": std, "cutout_size": cutout_size}
    if not isinstance(model, Path | str | Checkpoint | nn.Module | None):
        raise TypeError(
            f"build_maps: `model` is a {type(model).__name__}, expected a checkpoint, its path or "
            "a torch.nn.Module"
        )
    if isinstance(model, nn.Module):
        lacking = [name for name, value in description.items() if value is None]
        if lacking:
            raise TypeError(f"build_maps: a module as `model` needs `{lacking[0]}` as well")
        model = wrap_network(
            model,
            class_names=galaxies.class_names if class_names is None else class_names,
            mean=() if mean is None else tuple(mean),
            std=() if std is None else tuple(std),
            cutout_size=cutout_size or 0,
            image_size=image_size,
            layer=settings.maps.layer,
        )
    elif any(value is not None for value in (class_names, image_size, *description.values())):
        raise TypeError("build_maps: a checkpoint has its own classes, statistics and sizes")
    run_main_job(
        galaxies,
        settings,
        path,
        model=Path(model) if isinstance(model, str) else model,
        arch=arch,
        split=split,
        if_exists=if_exists,
        run=RunOptions(device, workers, takeover, storage=_parse_storage(storage)),
    )
    return open_store(path)


def build_parts(
    catalog: Galaxies | Path | str,
    out: Path | str = "maps.h5",
    *,
    shards: str,
    model: Path | str | Checkpoint,
    arch: str | None = None,
    layer: str | None = None,
    method: str | None = None,
    split: Split | None = None,
    if_exists: IfExists = "error",
    device: Device = "auto",
    workers: int | None = None,
    takeover: bool = False,
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
    arch, layer, method, split, device, workers, takeover, storage
        As of `galfig.build_maps`.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do if the store exists, or the folder holds parts of another catalog, network or
        settings. A store or parts that were made from the same inputs are kept.

    Raises
    ------
    GalfigError
        As `galfig.build_maps`; and if another process is making one of these parts.
    """
    galaxies = load_catalog(catalog) if isinstance(catalog, Path | str) else catalog
    settings = galaxies.settings
    if layer is not None or method is not None:
        settings = load_settings(settings, {("maps", "layer"): layer, ("maps", "method"): method})
    run_main_job(
        galaxies,
        settings,
        Path(out),
        model=Path(model) if isinstance(model, str) else model,
        arch=arch,
        split=split,
        if_exists=if_exists,
        run=RunOptions(device, workers, takeover, storage=_parse_storage(storage)),
        shards=shards,
    )


def _parse_storage(words: str | None) -> Address | None:
    return None if words is None else parse_address(words, "storage")


def _name_trained(path: Path, *, several: bool) -> Path:
    """Return where a network that is trained on the way to a store is kept, or several are."""
    return path.with_suffix(".networks" if several else ".safetensors")


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
        Device, threads, and whether to take over from a process on another host.
    shards : str, optional
        Make the parts of these shards only, and no store; see
        `galfig.pipeline.shards.choose_shards`. Needs ``model``.

    Returns
    -------
    bool
        False if the store existed already and nothing had to be done.

    Raises
    ------
    ConfigError
        If the device or the layer does not exist, the method needs a library that is not
        installed, the memory cannot hold the images, ``arch`` is given without a file, or
        ``shards`` without a network or with numbers that the plan does not have.
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
    """
    # Report what cannot be used before hours of work, not after them.
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
    device = choose_device(run.device)
    several = settings.training.networks > 1
    kept = model if isinstance(model, Path) else _name_trained(path, several=several)
    check_apart(path, [*settings.input_files, *list_files(kept)])
    if model is None and not kept.exists():
        check_output(path, if_exists=if_exists)
    if isinstance(model, Checkpoint):
        checkpoint = model
    elif model is not None:
        checkpoint = load_networks(model, arch=arch)
        warn_of_mismatch(checkpoint, galaxies, settings, model)
    else:
        checkpoint = load_or_train(galaxies, settings, kept, if_exists=if_exists, run=run)
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
    plan = make_plan(galaxies, settings, checkpoint, split)
    logger.info("%s", describe_plan(plan))
    decoding = choose_decoding(settings.catalog, checkpoint.n_channels)
    if model is not None:
        # A training has said it already.
        sized = (settings.catalog, checkpoint.cutout_size, settings.catalog_path)
        report_frames(plan.galaxies, *sized, is_chosen=True)
    shift = compare_images(checkpoint, plan.galaxies, decoding, kept)
    warn_of_shift(checkpoint, shift, kept)
    # A network that was trained here, or by this recipe, is the one that its record is about.
    accuracy = (
        check_accuracy(checkpoint, plan.galaxies, decoding, kept) if model is not None else None
    )
    checks = {"image_shift": shift, "accuracy_check": accuracy}
    n_shards = len(plan.shards)
    numbers = range(n_shards) if shards is None else choose_shards(shards, n_shards)
    storage = None if read_digest(path) == plan.digest else run.storage
    with mirror_parts(Parts.beside(path), storage, numbers):
        if shards is not None:
            made = explain_chosen(
                plan, checkpoint, path, shards, if_exists=if_exists, run=run, **checks
            )
            return bool(made)
        is_new = build_store(plan, checkpoint, path, if_exists=if_exists, run=run, **checks)
    # A training has said it already.
    if is_new and model is not None:
        with open_store(path) as store:
            for doubt in list_doubts(store):
                logger.warning("%s: %s", path, doubt)
    return is_new
