"""Options that several commands share, as the commands get them."""

import click
import pytest
from click.testing import CliRunner

from galfig.cli import main
from galfig.cli.options import if_exists_options


@pytest.mark.parametrize(
    ("with_update", "given", "expected"),
    [
        (False, [], "error"),
        (False, ["--overwrite"], "replace"),
        (True, [], "error"),
        (True, ["--overwrite"], "replace"),
        (True, ["--update"], "update"),
    ],
)
def test_what_to_do_with_files_that_are_there_is_one_word(with_update, given, expected):
    """The library takes one word; the command line has a flag for each that is not the default."""

    @click.command()
    @if_exists_options(with_update=with_update)
    def command(if_exists: str) -> None:
        click.echo(if_exists)

    result = CliRunner().invoke(command, given)
    assert (result.exit_code, result.stdout) == (0, f"{expected}\n")


@pytest.mark.parametrize("command", ["simulate", "train", "render", "figure"])
def test_only_what_knows_its_ingredients_is_updated(command):
    """--update is an option of build-maps alone."""
    result = CliRunner().invoke(main, [command, "--update"])
    assert result.exit_code == 2
    assert "--update" in result.stderr.splitlines()[-1]


def test_two_words_for_one_file_are_refused(tmp_path):
    """Replace all, or replace what is out of date: both at once is a usage error."""
    result = CliRunner().invoke(main, ["build-maps", "--overwrite", "--update"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "Error: --overwrite and --update exclude each other; give one"
    )
