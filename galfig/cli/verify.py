"""``galfig verify``."""

import sys
from pathlib import Path

import click

from galfig.cli.messages import translate
from galfig.cli.options import EXIT_FAILED, images_option, standard_options
from galfig.cli.usage import Command
from galfig.runtime.messages import one_line


@click.command(cls=Command)
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    help="Also compare the images of this catalog with those that each store was made from.",
)
@images_option
@standard_options
def verify(files: tuple[Path, ...], catalog: Path | None, images: Path | str | None) -> None:
    """Compare stores, checkpoints, audits and manuscripts with their own digests.

    FILE is a store, a checkpoint, an audit or the folder of a manuscript. Every map and cutout is
    read. The exit status is 1 if a file is missing or differs from what was written; then copy it
    again from its source, or make it again. A digest tells damage, and not who wrote the file.

    \b
    Examples:
      galfig verify maps.h5 maps.safetensors
      galfig verify manuscripts/grad-cam-metallicity
      galfig verify maps.h5 --catalog galaxies.csv
    """
    from galfig.verify import describe_scope, verify_images, verify_path

    if images is not None and catalog is None:
        raise click.UsageError("--images has no effect without --catalog")
    is_sound = True
    for file in files:
        damage = verify_path(file)
        if not damage and catalog is not None:
            damage = verify_images(file, catalog, images)
        is_sound &= not damage
        for words in damage or [f"intact: {describe_scope(file, with_images=catalog is not None)}"]:
            words = translate(words, click.get_current_context())
            click.echo(one_line(f"{file}: {words}"))
    if not is_sound:
        sys.exit(EXIT_FAILED)
