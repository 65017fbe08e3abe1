"""Usage errors: only what is near is suggested."""

import click
import pytest
from click.testing import CliRunner

from galfig.cli import COMMANDS, main
from galfig.cli.usage import Command, Group


def refuse(*args):
    """Run a command line that means nothing; return the last line of its error."""
    found = CliRunner().invoke(main, args)
    assert found.exit_code == 2
    assert found.stdout == ""
    return found.stderr.splitlines()[-1].removeprefix("Error: ")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["render", "--hue", "magma"], "No such option '--hue'."),
        (["render", "--color", "red"], "No such option '--color'."),
        (["render", "--caption", "Figure 1"], "No such option '--caption'."),
        (["render", "--zmn", "0.1"], "No such option '--zmn'. Did you mean '--zmin'?"),
        (["render", "--overwite"], "No such option '--overwite'. Did you mean '--overwrite'?"),
        (["render", "--Correct"], "No such option '--Correct'. Did you mean '--correct'?"),
        (["render", "--wron"], "No such option '--wron'. Did you mean '--wrong'?"),
        (["render", "-n", "5"], "No such option '-n'. Did you mean '--n'?"),
        (["render", "-x"], "No such option '-x'."),
        (["render", "--objids", "1"], "No such option '--objids'. Did you mean '--objid'?"),
        (["figure", "roc", "--widht", "3"], "No such option '--widht'. Did you mean '--width'?"),
        (["train", "--epoch", "3"], "No such option '--epoch'. Did you mean '--epochs'?"),
        (
            ["train", "--batchsize", "3"],
            "No such option '--batchsize'. Did you mean '--batch-size'?",
        ),
        (["train", "--dropout", "0.1"], "No such option '--dropout'."),
        (["build-maps", "--worker", "3"], "No such option '--worker'. Did you mean '--workers'?"),
        (["--verion"], "No such option '--verion'. Did you mean '--version'?"),
        (
            ["manuscript", "check", "--exakt", "."],
            "No such option '--exakt'. Did you mean '--exact'?",
        ),
        (["rendr"], "No such command 'rendr'. Did you mean 'render'?"),
        (["figures"], "No such command 'figures'. Did you mean 'figure'?"),
        (["build_maps"], "No such command 'build_maps'. Did you mean 'build-maps'?"),
        (["paint"], "No such command 'paint'."),
        (["manuscript", "chek", "."], "No such command 'chek'. Did you mean 'check'?"),
        (["manuscript", "watch", "."], "No such command 'watch'."),
    ],
)
def test_only_near_names_are_suggested(args, words):
    """A slip is named; a word that only shares letters with an option is not."""
    assert refuse(*args) == words


def test_the_help_of_an_audit_names_all_measures():
    """Nobody can ask for a measure whose name is not shown."""
    from galfig.auditing.main import MEASURES

    text = " ".join(CliRunner().invoke(main, ["audit", "--help"]).stdout.split())
    assert [name for name in MEASURES if name not in text] == []


def test_every_command_is_of_this_kind():
    """None falls back to click's own suggestions."""
    context = click.Context(main)
    commands = [main.get_command(context, name) for name in COMMANDS]
    for command in commands:
        assert isinstance(command, Command)
        if isinstance(command, click.Group):
            assert isinstance(command, Group)
            assert all(isinstance(inner, Command) for inner in command.commands.values())
