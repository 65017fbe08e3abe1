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


@pytest.mark.parametrize(
    "words",
    [
        b"\xff\xfe not a style",
        b"backend: module://evil\ntext.usetex: True\nfont.family: nothing\nsavefig.dpi: 7\n",
        None,
    ],
    ids=["damaged", "hostile", "pipe"],
)
def test_matplotlibrc_does_not_matter(store_path, tmp_path, words):
    """In the working directory, where matplotlib looks first; the figure is the same."""
    plain, other = tmp_path / "plain", tmp_path / "other"
    plain.mkdir()
    other.mkdir()
    expected = draw(store_path, plain)
    if words is None:
        os.mkfifo(other / "matplotlibrc")
    else:
        (other / "matplotlibrc").write_bytes(words)
    assert draw(store_path, other) == expected


@pytest.mark.parametrize("backend", ["Qt4Agg", "module://gone.backend"])
def test_backend_of_the_shell_does_not_matter(store_path, tmp_path, backend):
    """A profile may still set one that matplotlib no longer has, or one that needs a display."""
    draw(store_path, tmp_path, MPLBACKEND=backend, DISPLAY="")


@pytest.mark.parametrize("place", ["MATPLOTLIBRC", "MPLCONFIGDIR"])
def test_settings_elsewhere_do_not_matter(store_path, tmp_path, place):
    """Neither a file that the shell names nor that of the user's own folder is read."""
    (tmp_path / "rc").mkdir()
    (tmp_path / "rc" / "matplotlibrc").write_bytes(b"\xff\xfe")
    draw(store_path, tmp_path, **{place: str(tmp_path / "rc")})


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
