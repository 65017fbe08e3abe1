"""``galfig import-model``."""

from pathlib import Path

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import ErrorOrReplace


@click.command("import-model", cls=Command)
@click.argument("weights", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--arch",
    required=True,
    help="Architecture: conv3, an xresnet, timm:NAME, torchvision:NAME, fastai:NAME (a "
    "vision_learner), zoobot:NAME, or python:MODULE:FUNCTION, your own code, which is run.",
)
@click.option(
    "--classes",
    "class_names",
    required=True,
    type=options.Words(),
    help="Classes in the order of the network's outputs, such as low,high.",
)
@click.option(
    "--mean",
    required=True,
    type=options.Numbers(),
    help="Mean that normalised each channel in training, for pixel values in [0, 1].",
)
@click.option(
    "--std",
    required=True,
    type=options.Numbers(),
    help="Standard deviation that normalised each channel, for pixel values in [0, 1].",
)
@click.option(
    "--cutout-size",
    required=True,
    type=options.Integer(min=8, max=8192),
    help="Central crop that the network was trained on [pixels].",
)
@click.option(
    "--image-size",
    cls=options.BracketedOption,
    type=options.Integer(min=8, max=8192),
    help="What the crop is scaled to [pixels].  [default: the size of the cutouts]",
)
@click.option(
    "--layer", default="auto", show_default=True, help="Layer to explain, as `galfig layers` lists."
)
@click.option(
    "--check",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Table with the original's probabilities: identifiers, and a column for each class.",
)
@click.option(
    "--images",
    help="Images of that table: their folder, or a template such as 'images/{objID}.jpg'.  "
    "[default: the folder images beside it]",
)
@click.option(
    "--id", "id_column", default="objID", show_default=True, help="Column of the identifiers."
)
@options.config_option
@click.option("--by-order", is_flag=True, help="Match the weights by their order, not by name.")
@click.option(
    "--n-train",
    type=options.Numbers(),
    help="Galaxies of each class that trained the network, in the order of the classes.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="model.safetensors",
    show_default=True,
    help="Checkpoint to write.",
)
@options.if_exists_options()
@options.standard_options
def import_model(
    weights: Path,
    arch: str,
    class_names: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    cutout_size: int,
    image_size: int | None,
    layer: str,
    check: Path | None,
    images: str | None,
    id_column: str,
    config: Path | None,
    by_order: bool,
    n_train: tuple[float, ...] | None,
    out: Path,
    if_exists: ErrorOrReplace,
) -> None:
    """Import a network that another program trained, and check it.

    WEIGHTS is a state dict that torch.save wrote, what fastai's Learner.save or Lightning wrote, or
    a safetensors file; nothing in it is run. With --check, the network must give the probabilities
    that the original gave. The settings say how its images become pixels.

    \b
    Examples:
      galfig import-model weights.pt --arch timm:resnet18 --classes low,high --mean 0.5,0.5,0.5
        --std 0.5,0.5,0.5 --cutout-size 128 --check original.csv --images images
      galfig import-model learn.pth --arch fastai:resnet34 --classes high,low
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --cutout-size 128 --image-size 224
    """
    counts = None
    if n_train is not None:
        if len(n_train) != len(class_names):
            found = f"{len(n_train)} numbers for {len(class_names)} classes"
            raise click.UsageError(f"--n-train: {found}")
        if not all(n.is_integer() and n >= 0 for n in n_train):
            raise click.UsageError("--n-train: expected whole numbers of galaxies")
        counts = dict(zip(class_names, map(int, n_train), strict=True))

    from galfig.networks.importing import import_model

    checkpoint = import_model(
        weights,
        out,
        arch=arch,
        class_names=class_names,
        mean=mean,
        std=std,
        cutout_size=cutout_size,
        image_size=image_size,
        layer=layer,
        check=check,
        images=images,
        id_column=id_column,
        by_order=by_order,
        n_train=counts,
        settings=config,
        if_exists=if_exists,
    )
    imported = checkpoint.metadata["imported"]
    proof = "not checked"
    if imported.get("n_checked"):
        n, difference = imported["n_checked"], imported["largest_difference"]
        proof = f"agrees with the original for {n} galaxies, to {difference:.1e}"
    arch, layer = checkpoint.record.arch, checkpoint.layer_name
    click.echo(f"{out}: {arch} for {', '.join(class_names)}, explains layer {layer}; {proof}")
