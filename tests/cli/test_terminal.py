"""The terminal: no text of a file acts on it, whichever command shows the text."""

import json

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from galfig.cli import main
from galfig.figures.registry import render_figure
from galfig.runtime.messages import find_unprintable
from galfig.store.checksums import seal_file
from galfig.store.selection import Query

ESCAPE = "\x1b]0;title\x07\x1b[2J\x9b"


@pytest.fixture
def hostile(store_path):
    """Write escapes of terminals wherever a store may hold any text."""
    with h5py.File(store_path, "r+") as file:
        del file["rejected"]
        file["rejected/objid"] = np.array([f"{ESCAPE}x".encode()])
        file["rejected/reason"] = np.array([f"{ESCAPE}gone\u2028again\n".encode()])
        file["catalog/other"] = np.zeros(12)
        columns = json.loads(file["catalog"].attrs["columns"])
        file["catalog"].attrs["columns"] = json.dumps({**columns, ESCAPE: "other"})
        file.attrs["more"] = ESCAPE
        config = json.loads(file.attrs["config"])
        config["catalog"] = {"path": ESCAPE}
        file.attrs["config"] = json.dumps({**config, ESCAPE: 1})
        seal_file(file)
    return store_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["info"],
        ["info", "--json"],
        ["info", "--rejected"],
        ["verify"],
        ["render", "--objid", ESCAPE],
        ["render", "--true", ESCAPE],
        ["render", "--where", f"`{ESCAPE}` > 1 and nothing > 1"],
        ["figure", "--where", ESCAPE],
    ],
)
def test_escapes_are_shown_and_never_sent(hostile, arguments):
    """On stdout and on stderr; JSON stays JSON."""
    command, *options = arguments
    names = ["panels"] if command == "figure" else []
    done = CliRunner().invoke(main, [command, *names, str(hostile), *options])
    assert done.exit_code in (0, 1), done.output
    for line in done.output.splitlines():
        assert find_unprintable(line) == "", ascii(line)
    if options == ["--json"]:
        assert json.loads(done.stdout)["more"] == ESCAPE


def test_file_with_an_escape_in_its_name(hostile):
    """The name of a downloaded file is a stranger's text, too."""
    path = hostile.rename(hostile.with_name("\x1b[2J.h5"))
    for command in ("info", "verify", "render"):
        done = CliRunner().invoke(
            main, [command, str(path), *["--true", "x"][: 2 * (command[0] == "r")]]
        )
        assert "\x1b" not in done.output


@pytest.mark.parametrize("attribute", ["target_layer", "class_names", "split", "galfig_version"])
def test_names_that_figures_draw_are_refused(store_path, attribute):
    """Escaping would be another name: the store is not opened."""
    value = json.dumps([ESCAPE, "b"]) if attribute == "class_names" else ESCAPE
    with h5py.File(store_path, "r+") as file:
        file.attrs[attribute] = value
        seal_file(file)
    done = CliRunner().invoke(main, ["info", str(store_path)])
    assert done.exit_code == 1
    assert f"its attribute {attribute}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.output


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_control_characters_of_a_condition_stay_out_of_figures(store_path, tmp_path, suffix):
    """They may be part of a condition, which the caption and the metadata quote."""
    import xml.dom.minidom

    path = tmp_path / f"figure{suffix}"
    query = Query(n=1, where="objID != '\x01\x0b'", zmax=float("inf"))
    render_figure("panels", store_path, query, path)
    for caption in (path.with_suffix(".txt"), path.with_suffix(".tex")):
        for line in caption.read_text().splitlines():
            assert find_unprintable(line) == ""
    if suffix == ".svg":
        xml.dom.minidom.parse(str(path))
    if suffix == ".png":

        def refuse(constant):
            raise ValueError(constant)

        with Image.open(path) as image:
            found = json.loads(image.text["Comment"], parse_constant=refuse)
        assert found["selection"]["zmax"] is None


@pytest.mark.parametrize(
    "words",
    ["x = " + "[" * 20_000 + "]" * 20_000, "x = " + "9" * 5000, 'classes.name = "\\u001b"'],
    ids=["deep", "digits", "escape"],
)
def test_settings_of_any_depth_end_in_one_line(tmp_path, monkeypatch, words):
    """As those of a stranger's manuscript."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "galfig.toml").write_text(words)
    (tmp_path / "manuscript.toml").write_text(words)
    for arguments in (["train", "--out", "m.safetensors"], ["manuscript", "list", "."]):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 1, done.output
        assert isinstance(done.exception, SystemExit)
        assert len(done.output.splitlines()) == 1
