"""The main job: a network loaded or trained, and every map of every galaxy."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from galfig.catalog.galaxies import Galaxies
from galfig.catalog.sample import load_catalog
from galfig.config import Settings, Split, load_settings
from galfig.images.cutouts import Decoding
from galfig.networks.checkpoint import Checkpoint, load_checkpoint, wrap_network
from galfig.networks.device import choose_device
from galfig.networks.recipe import warn_of_mismatch
from galfig.networks.shift import compare_images, warn_of_shift
from galfig.networks.training import load_or_train
from galfig.pipeline.build import build_store
from galfig.pipeline.plan import make_plan
from galfig.runtime.files import IfExists, check_output
from galfig.runtime.options import DEFAULT_RUN, Device, RunOptions
from galfig.store.reader import Store, open_store


def build_maps(
    catalog: Galaxies | Path | str,
    out: Path | str = "maps.h5",
    *,
    model: Path | str | Checkpoint | nn.Module | None = None,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    cutout_size: int | None = None,
    image_size: int | None = None,
    layer: str | None = None,
    split: Split | None = None,
    if_exists: IfExists = "error",
    device: Device = "auto",
    workers: int | None = None,
    takeover: bool = False,
) -> Store:
    """Explain every galaxy for every class, write the store, and open it.

    Parameters
    ----------
    catalog : Galaxies, Path or str
        By `galfig.load_catalog`, or its ``path``.
    out : Path or str, default "maps.h5"
        The store. A network that is trained is kept beside it, as ``<stem>.safetensors``.
    model : Path, str, Checkpoint or torch.nn.Module, optional
        A checkpoint, or any network in evaluation mode that takes normalised images and returns
        logits (N, C), which needs no conversion; default train one as the settings say.
    class_names : sequence of str
        Of a network that is a module: class of each logit; default the classes of the catalog.
    mean, std : sequence of float
        Of a network that is a module: by which each channel was normalised in training, for values
        in [0, 1]; 3 for RGB or 1 for one band.
    cutout_size : int
        Of a network that is a module: side of the central crop of each image [pixels].
    image_size : int, optional
        Of a network that is a module: what the crop is scaled to [pixels]; default not.
    layer : str, optional
        Layer to explain, by name; default that of the settings or the checkpoint, and else the
        last that gives feature maps.
    split : {"valid", "train", "all"}, optional
        Galaxies to explain; default "valid", and "all" for a module, which was trained elsewhere.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do where a network or a store is there: use what was made from the same, and refuse
        what was not; replace what was not; or make both anew.
    device : {"auto", "cpu", "cuda"}, default "auto"
        Where the network runs.
    workers : int, optional
        Threads that decode images; default one a processor.
    takeover : bool, default False
        Go on with the work of a process of another host that is gone.

    Returns
    -------
    Store
        Open for reading.

    Raises
    ------
    GalfigError
        A setting, catalog, checkpoint or output that cannot be used.
    TypeError
        ``mean``, ``std`` or ``cutout_size`` of a module missing, or given with a checkpoint.
    """
    galaxies = load_catalog(catalog) if isinstance(catalog, Path | str) else catalog
    settings, path = galaxies.settings, Path(out)
    if layer is not None:
        settings = load_settings(settings, {("maps", "layer"): layer})
    description = {"mean": mean, "std": std, "cutout_size": cutout_size}
    if isinstance(model, nn.Module):
        lacking = [name for name, value in description.items() if value is None]
        if lacking:
            raise TypeError(f"build_maps: a module as `model` needs `{lacking[0]}` as well")
        model = wrap_network(
            model,
            class_names=galaxies.class_names if class_names is None else class_names,
            mean=mean or (),
            std=std or (),
            cutout_size=cutout_size or 0,
            image_size=image_size,
            layer=settings.maps.layer,
        )
        split = split or "all"
    elif any(value is not None for value in (class_names, image_size, *description.values())):
        raise TypeError("build_maps: a checkpoint has its own classes, statistics and sizes")
    run_main_job(
        galaxies,
        settings,
        path,
        model=Path(model) if isinstance(model, str) else model,
        split=split or "valid",
        if_exists=if_exists,
        run=RunOptions(device=device, n_workers=workers, takeover=takeover),
    )
    return open_store(path)


def run_main_job(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    model: Path | Checkpoint | None = None,
    split: Split = "valid",
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
) -> bool:
    """Do the main job: from galaxies to a store with every map.

    Parameters
    ----------
    galaxies : Galaxies
        From `galfig.catalog.sample.load_sample`.
    settings : Settings
        What to do.
    path : Path
        The store. A network that is trained is kept beside it, as ``<stem>.safetensors``.
    model : Path or Checkpoint, optional
        A network that is trained already; default train one.
    split : {"valid", "train", "all"}, default "valid"
        Galaxies to explain.
    if_exists : {"error", "update", "replace"}, default "error"
        What to do where a network or a store is there: use what was made from the same, and refuse
        what was not; replace what was not; or make both anew.
    run : RunOptions, optional
        Device, threads, and whether to take over from a process of another host.

    Returns
    -------
    bool
        False where the store is there already and nothing was left to do.
    """
    # What cannot be used is said before hours of work, not after them.
    choose_device(run.device)
    kept = model if isinstance(model, Path) else path.with_suffix(".safetensors")
    if model is None and not kept.exists():
        check_output(path, if_exists=if_exists)
    if isinstance(model, Checkpoint):
        checkpoint = model
    elif model is not None:
        checkpoint = load_checkpoint(model)
        warn_of_mismatch(checkpoint, galaxies, settings, model)
    else:
        checkpoint = load_or_train(galaxies, settings, kept, if_exists=if_exists, run=run)
    plan = make_plan(galaxies, settings, checkpoint, split)
    decoding = Decoding(checkpoint.n_channels, settings.catalog.fits_range)
    shift = compare_images(checkpoint, plan.galaxies, decoding, kept)
    warn_of_shift(checkpoint, shift, kept)
    return build_store(
        plan,
        checkpoint,
        path,
        if_exists=if_exists,
        run=run,
        image_shift=shift,
    )
