"""The depfile: what make reads."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from paper import build

from galfig.manuscript.depfile import write_depfile

# It builds a manuscript, with figures.
pytestmark = pytest.mark.slow


def test_depfile_is_what_make_reads(paper):
    """make runs the rule when the manifest is newer than the figures, and not otherwise."""
    if shutil.which("make") is None:
        pytest.skip("no make")
    build(paper)
    odd = paper.rename(paper.with_name("my paper"))
    write_depfile(odd, Path("paper.d"))
    target = str(Path(os.path.relpath(odd / "values.tex"))).replace(" ", "\\ ")
    Path("Makefile").write_text(f"{target}:\n\t@echo built\ninclude paper.d\n")
    for path, now in ((odd / "values.tex", 2000), (odd / "manuscript.toml", 1000)):
        os.utime(path, (now, now))
    os.utime(odd / "maps.h5", (1000, 1000))
    command = ["make", os.path.relpath(odd / "values.tex")]
    assert "built" not in subprocess.run(command, capture_output=True, text=True).stdout
    os.utime(odd / "manuscript.toml", (3000, 3000))
    assert "built" in subprocess.run(command, capture_output=True, text=True).stdout
    assert "figures/panels.pdf" in Path("paper.d").read_text()
