"""docs/known-truth.md: its commands exist, and its lines run as written."""

import re
from pathlib import Path

import pytest

import galfig
from galfig.catalog.cues import COMPONENTS
from galfig.cli import COMMANDS, main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "known-truth.md"


def test_commands_that_are_shown_exist():
    """With the options that they have, and every cue is told."""
    words = PAGE.read_text()
    (listing,) = re.findall(r"^```sh$(.*?)^```$", words, re.M | re.S)
    shown = re.findall(r"^galfig ([a-z-]+)([^#\n]*)", listing, flags=re.MULTILINE)
    assert [command for command, _ in shown][-1] == "score"
    for command, arguments in shown:
        assert command in COMMANDS
        known = {one for each in main.get_command(None, command).params for one in each.opts}
        assert set(re.findall(r"--[a-z-]+", arguments)) <= known
    for cue in COMPONENTS:
        assert f"| `{cue}` |" in words


@pytest.mark.slow
def test_captum_is_scored_as_written(capsys):
    """On few galaxies and a network that has learnt nothing."""
    pytest.importorskip("captum")
    galfig.simulate("data/corner", 12, cue="corner")
    galfig.simulate("data/test", 6, 1, cue="corner")
    galaxies = galfig.load_catalog(settings="data/corner/cue.toml")
    galfig.train(galaxies, "corner.safetensors", epochs=1, batch_size=4)
    blocks = re.findall(r"^```python$(.*?)^```$", PAGE.read_text(), re.M | re.S)
    (lines,) = (block for block in blocks if "captum" in block)
    exec(compile(lines, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    assert "6 of 6 galaxies scored" in printed
    # The maps are those of galfig, which explains the same layer.
    maps = galfig.build_maps(
        galfig.load_catalog(settings="data/test/cue.toml"),
        "test.h5",
        model="corner.safetensors",
        split="all",
    )
    assert maps.map_shape == (48, 48)
    mine = galfig.score("test.h5", "data/test")
    theirs = galfig.score("captum.npz", "data/test")
    for name, found in mine.scores.items():
        assert found.value == pytest.approx(theirs.scores[name].value, abs=0.01)
