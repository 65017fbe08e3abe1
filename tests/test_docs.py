"""The documentation follows the code."""

import json
import re
from pathlib import Path

import h5py
import pytest

from galfig.cli import COMMANDS
from galfig.config import Settings

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("table", Settings.model_fields)
def test_every_setting_is_documented(table):
    """docs/settings.md has a row for each key, and no row for a key that is gone."""
    words = (ROOT / "docs" / "settings.md").read_text()
    section = re.split(r"^## ", words, flags=re.MULTILINE)
    (rows,) = [part for part in section if part.startswith(f"`[{table}]`")]
    documented = re.findall(r"^\| `(\w+)` \|", rows, flags=re.MULTILINE)
    fields = type(getattr(Settings(), table)).model_fields
    assert sorted(documented) == sorted(fields)
    assert all(field.description for field in fields.values())


def test_every_dataset_is_documented(store_path):
    """docs/store.md names each dataset and each root attribute of a store."""
    words = (ROOT / "docs" / "store.md").read_text()
    with h5py.File(store_path) as file:
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        names += list(file.attrs)
        assert json.loads(file["catalog"].attrs["columns"])
    for name in names:
        assert f"`{name}`" in words, name


def test_commands_of_the_readme_exist():
    """Every galfig command that the README shows is one, with options that it has."""
    words = (ROOT / "README.md").read_text()
    shown = re.findall(r"^galfig ([a-z-]+)([^#\n]*)", words, flags=re.MULTILINE)
    assert {"train", "build-maps", "render"} <= {command for command, _ in shown}
    for command, arguments in shown:
        assert command in COMMANDS
        module, function = COMMANDS[command].split(":")
        loaded = getattr(__import__(module, fromlist=[function]), function)
        known = {option for parameter in loaded.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", arguments)) <= known


def test_links_of_the_docs_lead_somewhere():
    """Relative links of README and docs name files that are there."""
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
