"""Usage errors of all commands and groups, which suggest only similar names."""

import traceback
from collections.abc import Iterable
from typing import Any

import click

from galfig.cli.messages import translate
from galfig.errors import GalfigError
from galfig.runtime.messages import one_line, suggest

_EXIT_FAILED = 1


class Command(click.Command):
    """A command that suggests the most similar option if it does not have the one given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options; see `click.Command.parse_args`."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            switches = [
                switch
                for parameter in self.get_params(ctx)
                for switch in (*parameter.opts, *parameter.secondary_opts)
                if switch.startswith("--")
            ]
            words = _refuse("option", exc.option_name, switches)
            raise click.UsageError(words, exc.ctx) from exc

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see `click.Command.invoke`.

        An error while options are turned into what the command takes, such as settings and lists
        of galaxies, is reported in one line, as those of the command itself are.
        """
        try:
            return super().invoke(ctx)
        except GalfigError as exc:
            if ctx.params.get("debug"):
                traceback.print_exc()
            click.echo(f"galfig: error: {translate(one_line(exc), ctx)}", err=True)
            ctx.exit(_EXIT_FAILED)


class Group(Command, click.Group):
    """A group that suggests the most similar command, and whose commands suggest options."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; see `click.Group.resolve_command`."""
        name = args[0]
        is_option = not name[:1].isalnum()
        if is_option or ctx.resilient_parsing or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        raise click.UsageError(_refuse("command", name, self.list_commands(ctx)), ctx)


def _refuse(kind: str, name: str, known: Iterable[str]) -> str:
    """Compose click's message about an unknown option or command, with a suggestion."""
    hint = suggest(name, known)
    return f"No such {kind} {name!r}. {hint[:1].upper()}{hint[1:]}".strip()
