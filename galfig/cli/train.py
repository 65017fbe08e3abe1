"""``galfig train``."""

from pathlib import Path
from typing import Any

import click

from galfig.cli import options
from galfig.runtime.files import ErrorOrReplace, check_output
from galfig.runtime.malloc import keep_freed_memory
from galfig.runtime.options import Device, RunOptions


class _LearningRate(click.ParamType):  # type: ignore[type-arg]
    """A positive number or 'auto'."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        try:
            return "auto" if value == "auto" else float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'auto'", param, ctx)


@click.command()
@options.config_option
@options.catalog_option
@options.images_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="model.safetensors",
    show_default=True,
    help="Checkpoint to write.",
)
@click.option("--arch", help="conv3, xresnet18, xresnet34, xresnet50 or a timm model.")
@click.option("--epochs", type=int, help="Passes over the training set.")
@click.option("--lr", type=_LearningRate(), help="Peak learning rate, or 'auto' to find it.")
@click.option("--schedule", type=click.Choice(["one-cycle", "flat-cos"]), help="Its course.")
@click.option("--batch-size", type=int, help="Galaxies a step.")
@click.option("--cutout-size", type=int, help="Central crop or pad [pixels].")
@click.option("--image-size", type=int, help="Then scaled to this [pixels].")
@click.option("--class-weights", type=click.Choice(["none", "balanced"]), help="In the loss.")
@click.option("--label-smoothing", type=float, help="Of the loss.")
@click.option("--sampler", type=click.Choice(["none", "balanced"]), help="Draw classes evenly.")
@click.option("--seed", type=int, help="Seed of the split and of the training.")
@options.grayscale_option
@options.layer_option
@options.device_option
@options.if_exists_options()
@click.option("--resume", is_flag=True, help="Go on from the last epoch of a run that was stopped.")
@options.takeover_option
@options.standard_options
def train(
    config: Path | None,
    catalog: Path | None,
    images: Path | None,
    out: Path,
    seed: int | None,
    layer: str | None,
    device: Device,
    if_exists: ErrorOrReplace,
    resume: bool,
    takeover: bool,
    **recipe: Any,
) -> None:
    """Train a classifier and write its checkpoint.

    Options override the settings file; their defaults are its own.

    \b
    Examples:
      galfig train --out model.safetensors
      galfig train --catalog galaxies.csv --arch xresnet18 --epochs 10 --lr auto
      galfig train --catalog galaxies.csv --arch xresnet18 --epochs 10 --lr auto --resume
    """
    from galfig.config import load_settings

    overrides = {
        ("catalog", "path"): catalog,
        ("catalog", "images_dir"): images,
        ("split", "seed"): seed,
        ("training", "seed"): seed,
        ("maps", "layer"): layer,
        **{("training", key): value for key, value in recipe.items()},
    }
    settings = load_settings(config, overrides)
    check_output(out, if_exists=if_exists)

    from galfig.catalog.sample import load_sample

    # Torch takes seconds to import: what is wrong with the catalog is said before.
    galaxies = load_sample(settings)

    from galfig.networks.training import train_checkpoint

    keep_freed_memory()
    checkpoint = train_checkpoint(
        galaxies,
        settings,
        out,
        if_exists=if_exists,
        resume="always" if resume else "never",
        run=RunOptions(device, takeover=takeover),
    )
    metrics = checkpoint.metadata["metrics"]
    words = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    click.echo(f"{out}: {words}")
