"""``galfig verify``."""

import sys
from pathlib import Path

import click

from galfig.cli.messages import translate
from galfig.cli.options import EXIT_FAILED, standard_options
from galfig.cli.usage import Command
from galfig.runtime.messages import one_line


@click.command(cls=Command)
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@standard_options
def verify(files: tuple[Path, ...]) -> None:
    """Compare stores, checkpoints and manuscripts with their own digests.

    FILE is a store, a checkpoint or the folder of a manuscript. Every map and cutout is read. The
    exit status is 1 if a file is missing or differs from what was written; then copy it again from
    its source, or make it again. A digest tells damage, and not who wrote the file.

    \b
    Examples:
      galfig verify maps.h5 maps.safetensors
      galfig verify manuscripts/grad-cam-metallicity
    """
    from galfig.verify import describe_scope, verify_path

    is_sound = True
    for file in files:
        damage = verify_path(file)
        is_sound &= not damage
        for words in damage or [f"intact: {describe_scope(file)}"]:
            words = translate(words, click.get_current_context())
            click.echo(one_line(f"{file}: {words}"))
    if not is_sound:
        sys.exit(EXIT_FAILED)
