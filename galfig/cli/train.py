"""``galfig train``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace, check_output
from galfig.runtime.launch import find_place
from galfig.runtime.malloc import keep_freed_memory
from galfig.runtime.options import Device, RunOptions

if TYPE_CHECKING:
    from galfig.catalog.galaxies import Galaxies
    from galfig.config import Settings


@click.command(cls=Command)
@options.config_option
@options.catalog_option
@options.images_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Checkpoint to write, or folder of several networks.  [default: model.safetensors, or "
    "networks]",
)
@options.setting("training", "networks")
@options.setting("training", "arch")
@options.setting("training", "pretrained")
@click.option(
    "--init",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Start from the weights of this checkpoint or state dict, with a new last layer.",
)
@options.setting("training", "freeze")
@options.setting("training", "body_lr_ratio")
@options.setting("training", "epochs")
@options.setting("training", "lr")
@options.setting("training", "schedule")
@options.setting("training", "batch_size")
@options.setting("training", "cutout_size")
@options.setting("training", "image_size", default="the size of the cutouts")
@options.setting("training", "crop_margin")
@options.setting("training", "class_weights")
@options.setting("training", "label_smoothing")
@options.setting("training", "sampler")
@options.setting("training", "seed", help="Seed of the split and of the training.")
@options.setting("training", "grayscale")
@options.setting("training", "precision")
@options.setting("maps", "layer")
@options.device_option
@options.if_exists_options()
@click.option("--resume", is_flag=True, help="Continue an interrupted run from its last epoch.")
@options.takeover_option
@options.standard_options
def train(
    config: Path | None,
    catalog: Path | None,
    images: Path | str | None,
    out: Path | None,
    seed: int | None,
    layer: str | None,
    device: Device,
    if_exists: ErrorOrReplace,
    resume: bool,
    takeover: bool,
    **recipe: Any,
) -> None:
    """Train a classifier and write its checkpoint.

    Options override the settings file, which overrides the defaults.

    \b
    Examples:
      galfig train --out model.safetensors
      galfig train --catalog galaxies.csv --arch xresnet18 --epochs 10 --lr auto
      galfig train --catalog galaxies.csv --arch xresnet18 --epochs 10 --lr auto --resume
      galfig train --catalog galaxies.csv --networks 5 --out networks
      accelerate launch --num_processes 4 -m galfig train --out model.safetensors
    """
    overrides = {
        ("catalog", "path"): catalog,
        ("catalog", "images_dir"): images,
        ("split", "seed"): seed,
        ("training", "seed"): seed,
        ("maps", "layer"): layer,
        **{("training", key): value for key, value in recipe.items()},
    }
    read = partial(_read, config, overrides, out, if_exists, resume=resume, device=device)
    if find_place().n_processes > 1:
        from galfig.networks.processes import join_processes

        settings, out, galaxies = join_processes(device).take_turns(read)
    else:
        settings, out, galaxies = read()

    from galfig.networks.ensemble import describe_accuracies
    from galfig.networks.main import train_checkpoint, train_networks

    keep_freed_memory()
    trained = (train_networks if settings.training.networks > 1 else train_checkpoint)(
        galaxies,
        settings,
        out,
        if_exists=if_exists,
        resume="always" if resume else "never",
        run=RunOptions(device, takeover=takeover),
    )
    if not find_place().is_main:
        return
    for number, network in enumerate(trained.networks, 1):
        metrics = network.metadata["metrics"]
        words = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        seeded = f", seed {network.metadata['seeds']['training']}" if trained.ensemble else ""
        where = out / f"network-{number}.safetensors" if trained.ensemble else out
        click.echo(f"{where}: {words}{seeded}")
    if trained.ensemble:
        click.echo(f"{out}: {describe_accuracies(trained)}")


def _read(
    config: Path | None,
    overrides: dict[tuple[str, str], Any],
    out: Path | None,
    if_exists: ErrorOrReplace,
    *,
    resume: bool,
    device: Device,
) -> tuple["Settings", Path, "Galaxies"]:
    """Read the settings and the catalog, after what can be checked without it."""
    from galfig.config import load_settings

    settings = load_settings(config, overrides)
    out = out or Path(settings.training.output)
    if settings.training.networks == 1:
        # Importing torch takes seconds.
        check_output(out, if_exists=if_exists)

    from galfig.catalog.sample import load_sample
    from galfig.networks.main import check_training

    check_training(
        settings,
        out,
        if_exists=if_exists,
        resume="always" if resume else "never",
        run=RunOptions(device),
    )
    return settings, out, load_sample(settings)
