"""The environment of a command, in a real process: nothing in it changes or ends the work."""

import os
import subprocess
import sys

import pytest

from galfig.cli.environment import settle_environment

pytestmark = pytest.mark.slow


def galfig(*args, cwd, limit=None, **environment):
    """Run a command in a process of its own; return its status and its two outputs."""
    return subprocess.run(
        [sys.executable, "-m", "galfig", *map(str, args)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )


def draw(store_path, folder, **environment):
    """Draw a figure in a folder; return its bytes."""
    found = galfig("render", store_path, "--n", "1", "--out", "y.png", cwd=folder, **environment)
    assert found.returncode == 0, found.stderr
    assert "rcParams" not in found.stderr
    return (folder / "y.png").read_bytes()


NO_STYLE = b"\xff\xfe not a style"
HOSTILE = b"backend: module://evil\ntext.usetex: True\nfont.family: nothing\nsavefig.dpi: 7\n"


def test_settings_of_matplotlib_do_not_matter(store_path, tmp_path):
    """Nor does its backend: where it looks first, in the shell, or in the user's own folder."""
    folders = {name: tmp_path / name for name in ("plain", "damaged", "hostile", "pipe", "rc")}
    for folder in folders.values():
        folder.mkdir()
    expected = draw(store_path, folders["plain"])
    (folders["damaged"] / "matplotlibrc").write_bytes(NO_STYLE)
    (folders["hostile"] / "matplotlibrc").write_bytes(HOSTILE)
    os.mkfifo(folders["pipe"] / "matplotlibrc")
    (folders["rc"] / "matplotlibrc").write_bytes(NO_STYLE)
    # A profile may still set a backend that matplotlib no longer has, or one that needs a display.
    for name, environment in (
        ("damaged", {"MPLBACKEND": "Qt4Agg", "DISPLAY": ""}),
        ("hostile", {"MPLBACKEND": "module://gone.backend"}),
        ("pipe", {"MPLCONFIGDIR": str(folders["rc"])}),
        ("plain", {"MATPLOTLIBRC": str(folders["rc"] / "matplotlibrc")}),
    ):
        (folders["plain"] / "y.png").unlink(missing_ok=True)
        assert draw(store_path, folders[name], **environment) == expected, name


def test_a_notebook_keeps_its_backend(monkeypatch):
    """Where matplotlib is there already, its user's environment is not touched."""
    monkeypatch.setenv("MPLBACKEND", "module://a.notebook")
    monkeypatch.delenv("MATPLOTLIBRC", raising=False)
    settle_environment()
    assert os.environ["MPLBACKEND"] == "module://a.notebook"
    assert "MATPLOTLIBRC" not in os.environ


@pytest.mark.parametrize("words", ["yesterday", "9" * 30])
def test_time_that_is_none_is_said_before_the_work(galaxy_folder, words):
    """One line, and no part is written."""
    found = galfig(
        "build-maps", "--catalog", "catalog.csv", cwd=galaxy_folder, SOURCE_DATE_EPOCH=words
    )
    assert found.returncode == 1
    assert found.stderr.startswith(f"galfig: error: SOURCE_DATE_EPOCH: {words!r}, expected a whole")
    assert found.stderr.count("\n") == 1
    assert sorted(path.name for path in galaxy_folder.iterdir()) == ["catalog.csv", "images"]


@pytest.mark.parametrize("megabytes", [400, 2000])
def test_memory_that_does_not_suffice_is_one_line(galaxy_folder, megabytes):
    """torch cannot even be loaded, or the work cannot be done."""
    resource = pytest.importorskip("resource")
    size = megabytes << 20
    found = galfig(
        *("train", "--catalog", "catalog.csv", "--epochs", "1", "-q", "--out", "n.safetensors"),
        cwd=galaxy_folder,
        limit=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
    )
    assert found.returncode in (0, 1), found.stderr
    assert "Traceback" not in found.stderr
    if found.returncode:
        (line,) = found.stderr.splitlines()
        assert line.startswith("galfig: error: not enough memory, threads or open files (")
