"""Options that are made from the settings, and choices that are declared once."""

import re
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from galfig.attribution.engine import PRECISIONS
from galfig.cli import main
from galfig.config import Precision, Settings
from galfig.runtime.options import Split
from galfig.store.selection import Sort

# Options of a command that are settings, by the name of both.
SETTINGS = {
    "train": {
        "training": [
            *("arch", "epochs", "lr", "schedule", "batch_size", "cutout_size", "image_size"),
            *("class_weights", "label_smoothing", "sampler", "seed", "grayscale"),
        ],
        "maps": ["layer"],
    },
    "build-maps": {"training": ["grayscale"], "maps": ["layer", "precision", "shard_size"]},
}
OPTIONS = [
    (command, table, key)
    for command, tables in SETTINGS.items()
    for table, keys in tables.items()
    for key in keys
]


def find_option(command, name):
    """Return an option of a command."""
    loaded = main.get_command(click.Context(main), command)
    (option,) = [parameter for parameter in loaded.params if parameter.name == name]
    return option


def show(command):
    """Return the help of a command, each option in one line."""
    words = CliRunner().invoke(main, [command, "--help"], terminal_width=100).stdout
    return " ".join(words.split())


@pytest.mark.parametrize(("command", "table", "key"), OPTIONS)
def test_options_are_those_of_the_settings(command, table, key):
    """Name, description and default are declared in Settings alone; without it None is passed."""
    field = type(getattr(Settings(), table)).model_fields[key]
    option = find_option(command, key)
    assert option.opts == [f"--{key.replace('_', '-')}"]
    loaded = main.get_command(click.Context(main), command)
    assert loaded.make_context(command, []).params[key] is None
    if key != "seed":
        assert option.help.startswith(field.description)
    if field.annotation is not bool and field.default is not None:
        assert f"[default: {field.default}" in show(command)


@pytest.mark.parametrize(
    ("command", "name", "choices"),
    [
        ("build-maps", "precision", get_args(Precision)),
        ("build-maps", "split", get_args(Split)),
        ("train", "schedule", ("one-cycle", "flat-cos")),
        ("train", "sampler", ("none", "balanced")),
        ("render", "split", get_args(Split)),
        ("figure", "split", get_args(Split)),
        ("render", "sort", get_args(Sort)),
        ("figure", "sort", get_args(Sort)),
    ],
)
def test_choices_are_declared_once(command, name, choices):
    """What may be chosen is what the library declares, in its order."""
    assert tuple(find_option(command, name).type.choices) == choices


def test_precisions_of_the_engine_are_those_of_the_settings():
    """The engine knows torch alone, and the settings must not: two lists, held equal here.

    Only a build, which has galaxies to compare, can choose by itself.
    """
    assert get_args(Precision) == (*PRECISIONS, "auto")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "0"], "0 is not in the range 1<=x<=1000000."),
        (["--cutout-size", "7"], "7 is not in the range 8<=x<=8192."),
        (["--seed", "-1"], "-1 is not in the range 0<=x<4294967296."),
        (["--label-smoothing", "1"], "1.0 is not in the range 0<=x<1."),
        (["--lr", "0"], "0.0 is not in the range x>0."),
        (["--lr", "fast"], "'fast' is neither a number nor 'auto'."),
        (["--epochs", "many"], "'many' is not a valid integer."),
        (["--schedule", "cosine"], "'cosine' is not one of 'one-cycle', 'flat-cos'."),
    ],
)
def test_bounds_are_those_of_the_settings(options, words):
    """A value out of range is a mistake in the command line, with exit status 2."""
    found = CliRunner().invoke(main, ["train", *options])
    assert found.exit_code == 2
    assert words in found.stderr.splitlines()[-1]


@pytest.mark.parametrize(("given", "value"), [("auto", "auto"), ("1e-2", 0.01), ("0.5", 0.5)])
def test_learning_rate_is_a_number_or_a_word(given, value):
    """auto stays a word."""
    assert find_option("train", "lr").type.convert(given, None, None) == value


def test_help_shows_default_and_range_together():
    """In one pair of brackets, and NUMBER|auto where both may stand."""
    words = "or decode them for a GPU. [default: one per core, at most four for a GPU; x>=1]"
    assert f"--workers INTEGER Threads that explain galaxies on a CPU, {words}" in show(
        "build-maps"
    )
    assert "--n INTEGER Number of galaxies. [default: all; x>=1]" in show("figure")
    words = show("train")
    assert "--lr NUMBER|auto Peak learning rate" in words
    assert "Passes over the training set. [default: 5; 1<=x<=1000000]" in words
    assert "Learning-rate schedule. [default: one-cycle]" in words
    assert "Label-smoothing factor. [default: 0.0; 0<=x<1]" in words
    assert (
        "Resize cutouts to this [pixels]. [default: the size of the cutouts; 8<=x<=8192]" in words
    )


@pytest.mark.parametrize("flags", [["--correct", "--wrong"], ["--wrong", "--correct"]])
@pytest.mark.parametrize("command", [["render"], ["figure", "roc"]])
def test_opposite_flags_exclude_each_other(store_path, command, flags):
    """The last one does not win in silence; one alone, given twice, is one."""
    found = CliRunner().invoke(main, [*command, str(store_path), *flags])
    assert found.exit_code == 2
    assert "--correct and --wrong exclude each other; give one" in found.stderr
    twice = ["render", str(store_path), flags[0], flags[0], "--n", "1", "-q"]
    assert CliRunner().invoke(main, twice).exit_code == 0


@pytest.mark.parametrize("command", ["build-maps", "train", "audit"])
def test_devices_have_numbers(command):
    """Names of devices are checked before anything is imported; which exist is not known then."""
    option = find_option(command, "device")
    for name in ("auto", "cpu", "cuda", "cuda:0", "cuda:12"):
        assert option.type.convert(name, option, None) == name
    for name in ("gpu", "cuda:", "cuda:-1", "cuda:01", "CUDA", "cuda:1 "):
        with pytest.raises(click.BadParameter, match="expected 'auto', 'cpu', 'cuda'"):
            option.type.convert(name, option, None)
    assert "--device [auto|cpu|cuda|cuda:N]" in show(command)


@pytest.mark.parametrize("name", ["picks.txt", "picks", "picks.csv", "picks.fits"])
def test_galaxies_of_a_file(store_path, tmp_path, name):
    """--objid @FILE takes a list or a table, in its order, also beside an identifier."""
    from astropy.table import Table

    names = ["1237665024900858105", "1237665024900858101"]
    path = tmp_path / name
    if path.suffix in (".csv", ".fits"):
        Table({"objid": names, "z": [0.1, 0.2]}).write(path)
    else:
        path.write_text("# by eye\n{}\r\n{}\n".format(*names))
    out = tmp_path / "p.png"
    words = ["render", str(store_path), "--objid", f"@{path}", "--out", str(out)]
    found = CliRunner().invoke(main, [*words, "--objid", "1237665024900858103"])
    assert found.exit_code == 0, found.output
    shown = re.findall(r"(\d{19}) \(", out.with_suffix(".txt").read_text())
    assert shown == [*names, "1237665024900858103"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--objid", "@no.txt"], "no.txt: no such file, expected text with one identifier"),
        (["--objid", "@no.csv"], "no.csv: no such file, expected a catalog"),
        (["--config", "no.toml"], "no.toml: cannot be read (No such file or directory)"),
    ],
)
def test_errors_of_options_are_one_line(store_path, words, expected):
    """Files that options name are read before the command runs; --debug shows where."""
    found = CliRunner().invoke(main, ["render", str(store_path), *words])
    assert found.exit_code == 1
    assert found.stderr == f"galfig: error: {expected}" + found.stderr.partition(expected)[2]
    assert found.stderr.count("\n") == 1
    debugged = CliRunner().invoke(main, ["render", str(store_path), *words, "--debug"])
    assert debugged.exit_code == 1
    assert debugged.stderr.startswith("Traceback (most recent call last)")
    assert debugged.stderr.endswith(found.stderr)
