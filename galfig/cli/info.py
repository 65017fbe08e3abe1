"""``galfig info``."""

from pathlib import Path

import click

from galfig.cli.options import standard_options
from galfig.cli.usage import Command
from galfig.runtime.messages import make_printable, wrap_item


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--rejected",
    is_flag=True,
    help="List the galaxies that were left out of a store, with the reasons, and exit.",
)
@standard_options
def info(file: Path, as_json: bool, rejected: bool) -> None:
    """Describe a store, a checkpoint, an audit or a figure.

    Print what FILE holds and what it was made from.

    \b
    Examples:
      galfig info maps.h5
      galfig info maps.safetensors --json
      galfig info maps.audit.h5
      galfig info panels.pdf
      galfig info maps.h5 --rejected
    """
    from galfig.info import describe_file, list_rejected
    from galfig.runtime.documents import dump_json

    if rejected:
        for objid, reason in list_rejected(file).items():
            click.echo(make_printable(f"{objid}  {reason}"))
        return
    facts = describe_file(file)
    if as_json:
        click.echo(dump_json(facts, indent=2, sort_keys=False))
        return
    verdict = facts.pop("verdict", ())
    width = max(map(len, facts))
    for name, value in facts.items():
        words = value if isinstance(value, str) else dump_json(value, sort_keys=False)
        click.echo(make_printable(f"{name:{width}}  {words}"))
    for sentence in verdict:
        click.echo(wrap_item(make_printable(sentence)))
