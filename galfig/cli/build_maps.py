"""``galfig build-maps``."""

from pathlib import Path
from typing import Any, get_args

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import IfExists
from galfig.runtime.malloc import keep_freed_memory
from galfig.runtime.options import Device, EngineName, RunOptions, Split
from galfig.runtime.storage import parse_address


@click.command("build-maps", cls=Command)
@options.config_option
@options.catalog_option
@options.images_option
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="Checkpoint of a trained network, or the folder of several of one recipe.  [default: "
    "train, and keep what was trained beside the store]",
)
@options.own_code_option
@click.option(
    "--split",
    type=click.Choice(get_args(Split)),
    help="Galaxies to explain.  [default: valid, or all where the network was trained on others]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="maps.h5",
    show_default=True,
    help="Store to write.",
)
@options.setting("training", "networks")
@options.setting("training", "grayscale")
@options.setting("maps", "method")
@options.setting("maps", "layer")
@options.device_option
@options.setting("maps", "precision")
@options.setting("maps", "shard_size")
@options.setting("maps", "tta")
@options.setting("maps", "store")
@options.setting("maps", "features")
@click.option(
    "--workers",
    cls=options.BracketedOption,
    type=options.Integer(min=1),
    help="Threads that explain galaxies on a CPU, or decode them for a GPU.  [default: one per "
    "core, at most four for a GPU]",
)
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    default="local",
    show_default=True,
    help="What explains the galaxies: this process, or workers of Dask, Ray or Slurm, with as many "
    "threads each as --workers says.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="Scheduler of Dask or Ray; for Slurm, options of sbatch and the number of jobs, such as "
    "partition=gpu,time=120,jobs=16.  [default: workers on this machine; for Slurm, 16 jobs]",
)
@click.option(
    "--shards",
    metavar="RANGES|K/N",
    help="Make the parts of these shards only, such as 120-239, or 3/16, the third of sixteen "
    "shares; 'galfig merge' makes the store of all parts.",
)
@options.storage_option
@options.if_exists_options(with_update=True)
@options.takeover_option
@options.standard_options
def build_maps(
    config: Path | None,
    catalog: Path | None,
    images: Path | str | None,
    model: Path | None,
    arch: str | None,
    split: Split | None,
    out: Path,
    networks: int | None,
    grayscale: bool | None,
    method: str | None,
    layer: str | None,
    device: Device,
    precision: str | None,
    shard_size: int | None,
    tta: bool | None,
    store: str | None,
    features: bool | None,
    workers: int | None,
    engine: EngineName,
    address: str | None,
    shards: str | None,
    storage: str | None,
    if_exists: IfExists,
    takeover: bool,
) -> None:
    """Explain every galaxy for every class, and write the store.

    Without --model a network is trained first; without a catalog the built-in sample is
    simulated. Run the same command again to continue an interrupted build.

    \b
    Examples:
      galfig build-maps
      galfig build-maps --catalog galaxies.csv --out galaxies.h5
      galfig build-maps --model model.safetensors --split all --device cuda
      galfig build-maps --networks 5 --out error-bars.h5
      galfig build-maps --method evidence --out evidence.h5
      galfig build-maps --model model.safetensors --shards 3/16
      galfig build-maps --store statistics --out statistics.h5
      galfig build-maps --model model.safetensors --engine dask
    """
    from galfig.config import load_settings
    from galfig.pipeline.engines import check_engine
    from galfig.pipeline.shards import check_shards

    _check_together(model, networks, shards)
    place = None if storage is None else parse_address(storage, "storage")
    run = RunOptions(device, workers, takeover, engine, address, storage=place)
    if shards is not None:
        check_shards(shards)
    check_engine(run)
    overrides = {
        ("catalog", "path"): catalog,
        ("catalog", "images_dir"): images,
        ("training", "networks"): networks,
        ("training", "grayscale"): grayscale,
        ("maps", "method"): method,
        ("maps", "layer"): layer,
        ("maps", "precision"): precision,
        ("maps", "shard_size"): shard_size,
        ("maps", "tta"): tta,
        ("maps", "store"): store,
        ("maps", "features"): features,
    }
    settings = load_settings(config, overrides)

    from galfig.catalog.sample import load_sample
    from galfig.info import summarise
    from galfig.pipeline.main import check_before, run_main_job

    keep_freed_memory()
    job: dict[str, Any] = {
        "model": model,
        "arch": arch,
        "split": split,
        "if_exists": if_exists,
        "run": run,
        "shards": shards,
    }
    checked = check_before(settings, out, **job)
    galaxies = load_sample(settings, labelled=model is None)
    is_new = run_main_job(galaxies, settings, out, **job, checked=checked)
    if is_new and shards is not None:
        click.echo(
            f"{out}: the parts of {shards} are made; when all are, 'galfig merge {out}' makes the "
            "store of them"
        )
        return
    click.echo(summarise(out) if is_new else f"{out}: already complete, nothing to do")


def _check_together(model: Path | None, networks: int | None, shards: str | None) -> None:
    """Raise UsageError for options that do not go together."""
    if networks is not None and model is not None:
        raise click.UsageError(
            "--networks says how many networks to train, and --model names what is trained; give "
            "one of them"
        )
    if shards is not None and model is None:
        raise click.UsageError(
            "--shards needs --model, since each process would train a network of its own; "
            "train one first with 'galfig train'"
        )
