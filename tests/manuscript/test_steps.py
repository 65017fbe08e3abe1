"""Steps: run where their file is not what they make, and named where they fail."""

import logging
import subprocess

import pytest
from paper import STEPS, build, replace_in

from galfig.errors import ManuscriptError
from galfig.manuscript.build import build_manuscript, list_states
from galfig.manuscript.manifest import Step
from galfig.manuscript.steps import run_steps

pytestmark = pytest.mark.slow


def test_steps_run_where_their_file_is_not_what_they_make(paper):
    """Absent, of another recipe, or touched since: made again; otherwise left alone."""
    with (paper / "manuscript.toml").open("a") as file:
        file.write(STEPS)
    catalog = paper / "data/catalog.csv"
    assert {s.path: s.reason for s in list_states(paper)}["data/catalog.csv"] == "absent"
    assert build(paper)["data/catalog.csv"] == "absent"
    made = catalog.read_bytes()
    assert build(paper)["data/catalog.csv"] == ""
    catalog.write_bytes(made + b"x")
    assert build(paper)["data/catalog.csv"] == "not what its recipe made"
    assert catalog.read_bytes() == made
    replace_in(paper / "manuscript.toml", "--n 3", "--n 4")
    assert build(paper)["data/catalog.csv"] == "recipe changed"
    assert len(catalog.read_text().splitlines()) == 5


def test_step_that_fails_or_makes_nothing_is_named(paper):
    """The command is in the message, and nothing is drawn."""
    text = (paper / "manuscript.toml").read_text()
    for command, words in (
        ("galfig simulate data --n 0", "failed with exit status 2"),
        ("galfig simulate data --n 2", "did not write"),
    ):
        step = f'[[steps]]\ncommand = "{command}"\nmakes = "absent.csv"\n'
        (paper / "manuscript.toml").write_text(text + step)
        with pytest.raises(ManuscriptError, match=words) as caught:
            build_manuscript(paper)
        assert command in str(caught.value)
    assert not (paper / "figures").exists()


def test_file_that_was_there_before_is_taken_as_it_is(paper):
    """Days of work are not done again because nothing recorded them."""
    step = '[[steps]]\ncommand = "galfig build-maps --out maps.h5"\nmakes = "maps.h5"\n'
    with (paper / "manuscript.toml").open("a") as file:
        file.write(step)
    assert build(paper)["maps.h5"] == ""
    assert build(paper)["maps.h5"] == ""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("galfig build-maps --out a.h5", ["--update"]),
        ("galfig build-maps --out a.h5 --overwrite", ["--overwrite"]),
        ("galfig build-maps --update --out a.h5", ["--update"]),
        ("galfig train --out a.safetensors", ["--overwrite"]),
    ],
)
@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_a_step_says_once_what_to_do_with_its_file(
    tmp_path, monkeypatch, caplog, command, expected, level
):
    """A store of this recipe stays, unless the step itself says otherwise; -q is passed on."""
    commands = []

    def note(command, **options):
        commands.append(command)
        (tmp_path / "made.csv").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", note)
    with caplog.at_level(level, "galfig"):
        run_steps(tmp_path, (Step(command=command, makes="made.csv"),), {})
    assert ("--quiet" in commands[0]) == (level == logging.ERROR)
    assert [word for word in commands[0] if word in ("--update", "--overwrite")] == expected
