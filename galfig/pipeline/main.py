"""The main job: a network loaded or trained, and every map of every galaxy."""

from pathlib import Path

from galfig.catalog.galaxies import Galaxies
from galfig.config import Device, Settings, Split
from galfig.images.cutouts import Decoding
from galfig.networks.checkpoint import load_checkpoint
from galfig.networks.device import choose_device
from galfig.networks.recipe import warn_of_mismatch
from galfig.networks.shift import compare_images, warn_of_shift
from galfig.networks.training import load_or_train
from galfig.pipeline.build import build_store
from galfig.pipeline.plan import make_plan
from galfig.runtime.files import check_output
from galfig.runtime.malloc import keep_freed_memory


def run_main_job(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    model: Path | None = None,
    split: Split = "valid",
    device: Device = "auto",
    n_workers: int | None = None,
    quiet: bool = False,
    overwrite: bool = False,
    update: bool = False,
    takeover: bool = False,
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
    model : Path, optional
        Checkpoint of a network that is trained already.
    split : {"valid", "train", "all"}, default "valid"
        Galaxies to explain.
    device : {"auto", "cpu", "cuda"}, default "auto"
        Where the network runs.
    n_workers : int, optional
        Threads that decode images; default one a processor.
    quiet : bool, default False
        Without progress bars.
    overwrite : bool, default False
        Train again, and replace any store that is there.
    update : bool, default False
        Replace what was made from something else, and leave the rest.
    takeover : bool, default False
        Go on with the work of a process of another host that is gone.

    Returns
    -------
    bool
        False where the store is there already and nothing was left to do.
    """
    keep_freed_memory()
    chosen = choose_device(device)
    kept = model or path.with_suffix(".safetensors")
    if not kept.exists():
        # Before hours of training, not after them.
        check_output(path, overwrite=overwrite or update)
    if model is not None:
        checkpoint = load_checkpoint(model)
        warn_of_mismatch(checkpoint, galaxies, settings, model)
    else:
        checkpoint = load_or_train(
            galaxies,
            settings,
            kept,
            device=chosen,
            quiet=quiet,
            overwrite=overwrite,
            update=update,
            takeover=takeover,
        )
    plan = make_plan(galaxies, settings, checkpoint, split)
    decoding = Decoding(checkpoint.n_channels, settings.catalog.fits_range)
    shift = compare_images(checkpoint, plan.galaxies, decoding, kept)
    warn_of_shift(checkpoint, shift, kept)
    return build_store(
        plan,
        checkpoint,
        path,
        device=chosen,
        n_workers=n_workers,
        quiet=quiet,
        overwrite=overwrite,
        update=update,
        takeover=takeover,
        image_shift=shift,
    )
