"""``galfig layers``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galfig.cli.options import own_code_option, standard_options
from galfig.cli.usage import Command
from galfig.runtime.messages import make_printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from galfig.networks.receptive import LayerFacts

# Layers that are named in one line; the others are counted.
N_NAMED = 4


@click.command(cls=Command)
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@own_code_option
@click.option("--all", "with_all", is_flag=True, help="List also those within branches.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@standard_options
def layers(model: Path, arch: str | None, with_all: bool, as_json: bool) -> None:
    """List the layers of MODEL that can be explained.

    MODEL is a checkpoint. Each layer is listed with the shape of its maps and the receptive field
    of their central pixel: the side of the square of pixels on which it depends, and in which 95 %
    of that dependence lies. The tokens of a transformer are listed as the grid that they are; where
    they are none, a line says why. Layers within branches, past which part of the image flows, show
    only part of the evidence.

    \b
    Examples:
      galfig layers model.safetensors
      galfig layers model.safetensors --json
    """
    from galfig.networks.checkpoint import load_checkpoint
    from galfig.networks.receptive import list_layers
    from galfig.runtime.documents import dump_json

    checkpoint = load_checkpoint(model, arch=arch)
    every = list_layers(checkpoint)
    chosen = [layer for layer in every if with_all or layer.is_default or not layer.is_bypassed]
    if as_json:
        click.echo(dump_json([asdict(layer) for layer in chosen], indent=2, sort_keys=False))
        return
    found = [layer for layer in chosen if not layer.refusal]
    width = max([len("layer"), *(len(layer.name) for layer in found)])
    click.echo(f"{'layer':{width}}  {'maps':>14}  {'field [px]':>10}  {'95 % [px]':>9}")
    for layer in found:
        click.echo(make_printable(_write_row(layer, width, checkpoint.image_size)))
    if n_left := len(every) - len(chosen):
        click.echo(f"and {n_left} within branches, which --all lists")
    for line in _write_refusals(chosen):
        click.echo(make_printable(line))


def _write_row(layer: "LayerFacts", width: int, image_size: int) -> str:
    """Return the row of a layer in the table."""
    maps = " × ".join(map(str, layer.shape))
    field, core = _write_field(layer, image_size)
    notes = []
    why = "the last that all of the image flows through"
    if layer.tokens:
        n_prefix = layer.tokens.n_prefix
        notes.append(f"tokens, the first {n_prefix} left out" if n_prefix else "tokens")
    if layer.is_auto and layer.is_bypassed:
        why = "the last whose tokens in the image change the logits"
    if layer.is_default:
        notes.append(f"default: {why if layer.is_auto else 'as the checkpoint says'}")
    elif layer.is_auto:
        notes.append(f"auto: {why}")
    if layer.is_bypassed:
        notes.append("part of the image flows past it")
    return f"{layer.name:{width}}  {maps:>14}  {field:>10}  {core:>9}  {'; '.join(notes)}".rstrip()


def _write_field(layer: "LayerFacts", image_size: int) -> tuple[str, str]:
    """Return the two sides of a receptive field."""
    if layer.field is None:
        return "", ""
    side = f"≥ {layer.field.side}" if layer.field.side >= image_size else str(layer.field.side)
    return side, str(layer.field.core)


def _write_refusals(layers: "Iterable[LayerFacts]") -> "Iterator[str]":
    """Yield a line for each reason for which sequences cannot be explained."""
    names: dict[str, list[str]] = {}
    for layer in layers:
        if layer.refusal:
            names.setdefault(layer.refusal, []).append(layer.name)
    for reason, group in names.items():
        rest = f" and {len(group) - N_NAMED} more" if len(group) > N_NAMED else ""
        yield f"cannot be explained: {', '.join(group[:N_NAMED])}{rest}, whose tokens {reason}"
