"""Commands of a recipe: those that stay inside, and no others."""

import importlib

import click
import pytest

from galfig.manuscript.commands import (
    FLAGS,
    PATHS,
    REFUSED,
    SWITCHES,
    VALUES,
    normalise,
    parse_command,
)

MODULES = {"simulate": "simulate", "train": "train", "build-maps": "build_maps", "audit": "audit"}


@pytest.mark.parametrize("name", VALUES)
def test_each_option_of_the_commands_is_known(name):
    """An option that is added to a command must be judged here, and a path is known as one."""
    module = importlib.import_module(f"galfig.cli.{MODULES[name]}")
    command = getattr(module, MODULES[name])
    expected = {"flags": set(), "values": set(), "paths": set()}
    for option in command.params:
        if isinstance(option, click.Option):
            kind = "values"
            if option.is_flag or option.count:
                kind = "flags"
            elif isinstance(option.type, click.Path):
                kind = "paths"
            expected[kind] |= {*option.opts, *option.secondary_opts}
    refused = set(REFUSED.get(name, ()))
    assert refused <= expected["flags"] | expected["values"]
    assert expected["flags"] - refused == {*FLAGS, *SWITCHES[name]}
    assert expected["values"] - refused == set(VALUES[name])
    assert expected["paths"] <= set(PATHS)


@pytest.mark.parametrize(
    ("command", "outputs"),
    [
        ("galfig simulate data/ --n 3", {"data/catalog.csv", "data/images"}),
        ("galfig train", {"model.safetensors", "model.safetensors.lock"}),
        (
            "galfig train --out=a/./b.safetensors --lr auto -v",
            {"a/b.safetensors", "a/b.safetensors.lock", "a/b.resume.safetensors"},
        ),
        ("galfig build-maps --model m.safetensors", {"maps.h5", "maps.h5.lock", "maps.h5.parts"}),
        ("galfig build-maps --networks 5", {"maps.h5", "maps.networks", "maps.networks.lock"}),
        ("galfig build-maps --out x.h5 --update", {"x.h5", "x.safetensors", "x.safetensors.lock"}),
        (
            "galfig audit a.h5 --model m.safetensors",
            {"a.audit.h5", "a.audit.h5.lock", "a.audit.h5.parts", "a.audit.ecsv"},
        ),
        ("galfig audit a.h5 --model m --out b.h5 --n 9", {"b.h5", "b.parquet", "b.ecsv"}),
    ],
)
def test_what_a_command_writes_is_known(command, outputs):
    """Its file, the lock and the parts beside it, and a network that is trained on the way."""
    assert outputs <= set(parse_command(command).outputs)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rm -rf x", "expected one of galfig simulate"),
        ("galfig", "expected one of galfig simulate"),
        ("galfig render maps.h5", "expected one of galfig simulate"),
        ("galfig manuscript build .", "expected one of galfig simulate"),
        ("galfig simulate ../x", "leaves the folder"),
        ("galfig simulate /tmp/x", "leaves the folder"),
        ("galfig simulate .", "leaves the folder"),
        ("galfig simulate", "expected one folder"),
        ("galfig simulate a b", "expected one folder"),
        ("galfig train data", "expected options only"),
        ("galfig audit --model m.safetensors", "expected one store"),
        ("galfig audit ../a.h5 --model m.safetensors", "leaves the folder"),
        ("galfig audit a.h5 --model /m.safetensors", "leaves the folder"),
        ("galfig audit a.h5 --out paper.tex", "expected .h5 or .hdf5"),
        ("galfig audit a.h5 --catalog c.csv", "'--catalog', expected one of"),
        ("galfig audit a.h5 --arch python:a:b", "'--arch', expected one of"),
        ("galfig fetch sdss sky", "expected one of galfig simulate, galfig train"),
        ("galfig train --config ../galfig.toml", "leaves the folder"),
        ("galfig train --catalog=/etc/passwd", "leaves the folder"),
        ("galfig build-maps --images a/../../b", "leaves the folder"),
        ("galfig build-maps --model ~/m.safetensors", "begins with a letter"),
        ("galfig build-maps --out .github/x.h5", "begins with a letter"),
        ("galfig build-maps --out 'a\nb.h5'", "begins with a letter"),
        ("galfig build-maps --out --overwrite", "begins with a letter"),
        ("galfig build-maps --out", "has no value"),
        ("galfig train --out references.bib", "writes 'references.bib', expected .safetensors"),
        ("galfig build-maps --out paper.tex", "expected .h5 or .hdf5"),
        ("galfig train --model m.safetensors", "'--model', expected one of"),
        ("galfig train --log x", "'--log', expected one of"),
        ("galfig train --networks 5", "'--networks', expected one of"),
        ("galfig build-maps --model m.safetensors --arch python:a:b", "'--arch', expected one of"),
        ("galfig train -- x", "'--', expected one of"),
        ("galfig train --overwrite=x", "'--overwrite', expected one of"),
        ("galfig train 'x", "No closing quotation"),
    ],
)
def test_other_commands_are_refused(command, words):
    """Before anything runs, with what was found and expected."""
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        parse_command(command)


@pytest.mark.parametrize("path", ["a.pdf", "figures/Fig 1.pdf", "grün/_x+y-2.h5", "./a//b.h5"])
def test_plain_paths_are_accepted(path):
    """Letters of any script among them."""
    assert normalise(path).split("/")[-1] == path.split("/")[-1]


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "/a", "a/..", "a\\b", "-a", "a/-b", ".git/x", "a/.b", "a ", "a.", " a"),
        *("a\nb", "a\tb", "a\x1b[2Jb", "a\u2028b", "a:b", "$(x)", "`x`", "a;b", "a%b", "a#b"),
        *("a'b", 'a"b', "a|b", "a&b", "a*b", "a?b", "~a", "{a}", "a\x00b", "a" * 201, "\ud800"),
    ],
)
def test_other_paths_are_refused(path):
    """make, TeX, shells and terminals give a meaning to what is in them."""
    with pytest.raises(ValueError, match="expected"):
        normalise(path)
