"""The commands of a manuscript: tables on stdout, and the exit status."""

import subprocess
import sys

import pytest
from paper import replace_in

# It builds a manuscript, with figures.
pytestmark = pytest.mark.slow


def test_command_line(paper, tmp_path):
    """build, list and check print tables; check exits with 1 and names the file."""

    def run(*arguments):
        command = [sys.executable, "-m", "galfig", "manuscript", *map(str, arguments), "-q"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first = run("build", paper, "--depfile", tmp_path / "paper.d")
    assert first.returncode == 0, first.stderr
    assert "figures/panels.pdf     new" in first.stdout
    assert (tmp_path / "paper.d").is_file()
    assert "up to date" in run("list", paper).stdout
    assert run("check", paper).returncode == 0
    replace_in(paper / "values.tex", "{12}", "{13}")
    failed = run("check", paper)
    assert failed.returncode == 1
    assert failed.stdout.startswith("values.tex  file edited by hand")
    assert failed.stderr.startswith("galfig: error: ")
