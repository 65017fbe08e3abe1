"""The main job: a network loaded or trained, and every map of every galaxy."""

from pathlib import Path

from galfig.catalog.galaxies import Galaxies
from galfig.config import Settings
from galfig.images.cutouts import Decoding
from galfig.networks.checkpoint import load_checkpoint
from galfig.networks.device import choose_device
from galfig.networks.recipe import warn_of_mismatch
from galfig.networks.shift import compare_images, warn_of_shift
from galfig.networks.training import load_or_train
from galfig.pipeline.build import build_store
from galfig.pipeline.plan import make_plan
from galfig.runtime.files import IfExists, check_output
from galfig.runtime.malloc import keep_freed_memory
from galfig.runtime.options import DEFAULT_RUN, RunOptions


def run_main_job(
    galaxies: Galaxies,
    settings: Settings,
    path: Path,
    *,
    model: Path | None = None,
    split: str = "valid",
    if_exists: IfExists = "error",
    run: RunOptions = DEFAULT_RUN,
    quiet: bool = False,
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
    if_exists : {"error", "update", "replace"}, default "error"
        What to do where a network or a store is there: use what was made from the same, and refuse
        what was not; replace what was not; or make both anew.
    run : RunOptions, optional
        Device, threads, and whether to take over from a process of another host.
    quiet : bool, default False
        Without progress bars.

    Returns
    -------
    bool
        False where the store is there already and nothing was left to do.
    """
    keep_freed_memory()
    # What cannot be used is said before hours of work, not after them.
    choose_device(run.device)
    kept = model or path.with_suffix(".safetensors")
    if not kept.exists():
        check_output(path, if_exists=if_exists)
    if model is not None:
        checkpoint = load_checkpoint(model)
        warn_of_mismatch(checkpoint, galaxies, settings, model)
    else:
        checkpoint = load_or_train(
            galaxies, settings, kept, if_exists=if_exists, run=run, quiet=quiet
        )
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
        quiet=quiet,
    )
