"""``galfig merge``."""

from pathlib import Path

import click

from galfig.cli import options
from galfig.cli.usage import Command
from galfig.runtime.files import IfExists


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--virtual",
    is_flag=True,
    help="Leave maps and cutouts in the parts, where they are too large to copy: STORE.parts then "
    "belongs to the store, and moves with it.",
)
@options.storage_option
@options.if_exists_options(with_update=True)
@options.takeover_option
@options.standard_options
def merge(
    store: Path, virtual: bool, storage: str | None, if_exists: IfExists, takeover: bool
) -> None:
    """Make STORE from the parts that 'galfig build-maps --shards' wrote.

    The parts are in the folder STORE.parts. If some are missing, their numbers are printed as
    --shards takes them. Neither the catalog nor the images nor the network are needed.

    \b
    Examples:
      galfig build-maps --model model.safetensors --shards 1/2
      galfig build-maps --model model.safetensors --shards 2/2
      galfig merge maps.h5
      galfig merge maps.h5 --virtual
    """
    from galfig.info import summarise
    from galfig.pipeline.merge import merge_maps

    merge_maps(
        store, virtual=virtual, storage=storage, if_exists=if_exists, takeover=takeover
    ).close()
    click.echo(summarise(store))
