"""The command line as its users meet it."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
import time
from pathlib import Path

import click
import h5py
import pytest
from click.testing import CliRunner

import galfig
from galfig.catalog import sample
from galfig.cli import COMMANDS, SUMMARIES, main
from galfig.store.reader import open_store


def run(*args, ok=True):
    """Run a command in this process; return its result."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if ok and result.exit_code:
        raise AssertionError(result.output) from result.exception
    return result


def write_settings(folder, **training):
    """Write a settings file for the fixture's galaxies, small and quick."""
    training = {"epochs": 1, "batch_size": 8, "cutout_size": 32, **training}
    lines = ["[catalog]", f'path = "{folder / "catalog.csv"}"', "pixel_scale = 0.4", "[training]"]
    lines += [f"{key} = {value}" for key, value in training.items()]
    path = folder / "galfig.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command):
    """Each command says what it does, documents each option, and gives an example."""
    words = run(command, "--help").stdout
    assert f"galfig {command}" in words
    assert "Examples:" in words
    loaded = main.get_command(click.Context(main), command)
    for parameter in loaded.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_help_lists_the_commands():
    """The group's help names every command with the line that its own help begins with."""
    words = run("--help").stdout
    assert list(SUMMARIES) == list(COMMANDS)
    for name, summary in SUMMARIES.items():
        command = main.get_command(click.Context(main), name)
        assert command.get_short_help_str(limit=100) == summary
        assert re.search(rf"^  {name} +{summary[:20]}", words, re.MULTILINE)


HEAVY = {"torch", "fastai", "matplotlib", "pandas", "h5py", "scipy", "sklearn", "astropy", "httpx"}


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY | {"numpy", "pydantic"}),
        *(([command, "--help"], HEAVY) for command in COMMANDS),
        (["fetch", "sdss", "--help"], HEAVY | {"numpy", "PIL"}),
        *((["manuscript", command, "--help"], HEAVY) for command in ("build", "check", "list")),
        (["render", "--help"], HEAVY | {"pydantic"}),
    ],
)
def test_help_imports_nothing_heavy(arguments, heavy):
    """No help waits for torch or pandas; the list of commands not even for pydantic."""
    code = (
        "import sys\nfrom galfig.cli import main\n"
        f"main({arguments}, standalone_mode=False)\n"
        f"loaded = {heavy} & set(sys.modules)\n"
        "sys.exit(str(loaded) if loaded else 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "Usage: " in found.stdout


def test_help_is_quick():
    """galfig --help answers in 0.3 s: the fastest of three, on a machine that does other things."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        command = [sys.executable, "-m", "galfig", "--help"]
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_python_m_galfig():
    """python -m galfig is the same program, and knows its version."""
    result = subprocess.run(
        [sys.executable, "-m", "galfig", "--version"], capture_output=True, text=True, check=True
    )
    assert galfig.__version__ in result.stdout


def test_simulate(tmp_path):
    """simulate writes a catalog and prints its path alone."""
    result = run("simulate", tmp_path / "sim", "--n", 3, "--seed", 4)
    assert result.stdout == f"{tmp_path / 'sim' / 'catalog.csv'}\n"
    assert len(list((tmp_path / "sim" / "images").iterdir())) == 3
    assert run("simulate", tmp_path / "sim", ok=False).exit_code == 1


def test_simulate_a_cue(tmp_path):
    """With --cue, the masks of the component that decides lie beside the catalog."""
    result = run("simulate", tmp_path / "sim", "--n", 2, "--cue", "knots")
    assert result.stdout.strip() == str(tmp_path / "sim" / "catalog.csv")
    names = {path.name for path in (tmp_path / "sim").iterdir()}
    assert names == {"catalog.csv", "cue.toml", "images", "masks", "truth.json"}
    assert len(list((tmp_path / "sim" / "masks" / "knots").iterdir())) == 2


def test_train_then_build_then_render(galaxy_folder, tmp_path, monkeypatch):
    """The four steps from one's own catalog to one's own figure."""
    monkeypatch.chdir(tmp_path)
    config = write_settings(galaxy_folder)
    trained = run("train", "--config", config, "--out", "m.safetensors")
    assert trained.stdout.startswith("m.safetensors: accuracy ")
    assert "epoch 1: train_loss" in trained.stderr
    assert "low " in trained.stderr

    built = run("build-maps", "--config", config, "--model", "m.safetensors", "--split", "all")
    assert built.stdout.startswith("maps.h5: 24 galaxies of split 'all', accuracy ")
    drawn = run("render", "--n", 2, "--zmin", 0.05, "--zmax", 0.08, "--out", "figure.png")
    assert drawn.stdout.split() == [
        "figure.png",
        "figure.tex",
        "figure.txt",
        "figure.alt.txt",
    ]
    assert "with 0.05 < z < 0.08" in Path("figure.txt").read_text()

    facts = json.loads(run("info", "maps.h5", "--json").stdout)
    assert facts["galaxies"] == 24
    assert facts["classes"] == {"low": 12, "high": 12}
    assert facts["config"]["training"]["epochs"] == 1
    assert facts["pixel_scale"] == 0.4
    assert "galaxies" in run("info", "maps.h5").stdout
    facts = json.loads(run("info", "m.safetensors", "--json").stdout)
    assert facts["arch"] == "conv3"


@pytest.mark.slow
def test_main_job_trains_once_and_resumes(galaxy_folder, tmp_path, monkeypatch):
    """Without --model a network is trained and kept; run again, nothing is left to do."""
    monkeypatch.chdir(tmp_path)
    config = write_settings(galaxy_folder)
    run("build-maps", "--config", config, "--out", "a.h5")
    before = Path("a.safetensors").read_bytes()
    again = run("build-maps", "--config", config, "--out", "a.h5")
    assert again.stdout == "a.h5: already complete, nothing to do\n"
    assert "already trained with this recipe" in again.stderr

    Path("a.h5").unlink()
    run("build-maps", "--config", config, "--out", "a.h5")
    assert Path("a.safetensors").read_bytes() == before

    write_settings(galaxy_folder, epochs=2)
    other = run("build-maps", "--config", config, "--out", "a.h5", ok=False)
    assert other.exit_code == 1
    assert "another recipe ([training] epochs 1, now 2)" in other.stderr
    run("build-maps", "--config", config, "--out", "a.h5", "--overwrite")
    assert Path("a.safetensors").read_bytes() != before
    with open_store("a.h5") as store:
        assert store.settings.training.epochs == 2


@pytest.mark.slow
def test_embedded_default(tmp_path, monkeypatch):
    """With no options and no data, galaxies are simulated, and everything says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sample, "N_SIMULATED", 60)
    Path("galfig.toml").write_text("[training]\nepochs = 1\nbatch_size = 16\n")
    built = run("build-maps")
    assert "data/simulated/catalog.csv is absent: simulating 60 galaxies" in built.stderr
    assert Path("data/simulated/catalog.csv").is_file()
    run("render", "--n", 2)
    assert "simulated galaxies" in Path("panels.txt").read_text()
    with h5py.File("maps.h5") as file:
        assert file.attrs["simulated"]


@pytest.mark.slow
def test_unlabelled_galaxies_are_explained(galaxy_folder, tmp_path, monkeypatch):
    """A trained network explains a catalog without classes: labels are -1, nothing is scored."""
    monkeypatch.chdir(tmp_path)
    config = write_settings(galaxy_folder)
    run("train", "--config", config, "--out", "m.safetensors", "-q")
    lines = (galaxy_folder / "catalog.csv").read_text().splitlines()
    (galaxy_folder / "bare.csv").write_text("\n".join(line.split(",")[0] for line in lines))
    built = run(
        "build-maps", "--catalog", galaxy_folder / "bare.csv", "--model", "m.safetensors",
        "--split", "all", "--out", "bare.h5",
    )  # fmt: skip
    assert "24 galaxies" in built.stdout
    assert "accuracy" not in built.stdout
    with open_store("bare.h5") as store:
        assert set(store.label) == {-1}
    run("render", "bare.h5", "--n", 1)
    assert "in truth" not in Path("panels.txt").read_text()


def test_quiet_says_nothing(galaxy_folder, tmp_path, monkeypatch):
    """-q leaves stderr empty; stdout still has the result."""
    monkeypatch.chdir(tmp_path)
    result = run("build-maps", "--config", write_settings(galaxy_folder), "-q")
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1


@pytest.mark.slow
def test_progress_is_a_bar_on_a_terminal_alone(tmp_path):
    """On a terminal a bar is redrawn; a log has no carriage returns, and no line for short work."""
    command = [sys.executable, "-m", "galfig", "simulate", "--n", "3"]
    log = subprocess.run([*command, tmp_path / "log"], capture_output=True, check=True)
    assert log.stderr == b""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    done = subprocess.run(
        [*command, tmp_path / "seen"], stdout=subprocess.PIPE, stderr=theirs, check=True
    )
    os.close(theirs)
    words = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.stdout.decode() == f"{tmp_path / 'seen' / 'catalog.csv'}\n"
    assert "\rsimulating: 100%|" in words
    assert "3/3" in words


def test_usage_errors_exit_with_2():
    """What click itself refuses has its exit status."""
    assert run("build-maps", "--split", "some", ok=False).exit_code == 2
    assert run("nosuch", ok=False).exit_code == 2
    assert run("train", "--lr", "fast", ok=False).exit_code == 2


@pytest.mark.slow
def test_real_galaxies_from_catalog_to_figure(real_data, tmp_path, monkeypatch):
    """On real SDSS galaxies with redshifts, the tutorial's own selection draws five of them."""
    monkeypatch.chdir(tmp_path)
    catalog = real_data("sdss-z-mass") / "catalog.csv"
    Path("galfig.toml").write_text(
        f'[catalog]\npath = "{catalog}"\nredshift = "z"\npixel_scale = 0.4\n'
        '[classes]\ncolumn = "logMstar"\nname = "mass"\nedges = [8.5, 10.7, 11.1, 12.1]\n'
        'labels = ["low", "medium", "high"]\nkeep = ["low", "high"]\n'
        "[training]\nepochs = 1\nlr = 2e-2\nbatch_size = 16\n"
    )
    built = run("build-maps")
    assert "153 galaxies left out" in built.stderr
    run("render", "--n", 5, "--zmin", 0.05, "--zmax", 0.08)
    words = Path("panels.txt").read_text()
    assert "5 of the 14 galaxies of the validation set" in words
    assert "simulated" not in words
    with open_store("maps.h5") as store:
        assert len(store) == 70
        assert len(store.rejected) == 153
        # Positions are exact, and so are the empty cells of the catalog.
        assert store.catalog["objID"].tolist() == store.objid.tolist()
        assert store.catalog["velDisp"].isna().any()


@pytest.mark.slow
def test_network_of_another_question_is_warned_of(galaxy_folder, tmp_path, monkeypatch):
    """A network trained for other bins is explained with a warning; another seed draws nothing."""
    monkeypatch.chdir(tmp_path)
    config = write_settings(galaxy_folder)
    run("train", "--config", config, "--out", "m.safetensors", "-q")
    same = run("build-maps", "--config", config, "--model", "m.safetensors", "--out", "same.h5")
    assert "classes by edges" not in same.stderr
    words = config.read_text()
    config.write_text(words + "\n[split]\nseed = 7\n")
    run("build-maps", "--config", config, "--model", "m.safetensors", "--out", "seed.h5")
    with open_store("same.h5") as first, open_store("seed.h5") as second:
        assert first.objid.tolist() == second.objid.tolist()
        assert set(second.split) == {"valid"}
    bins = '[classes]\nedges = [8.0, 8.8, 9.4]\nlabels = ["low", "high"]\n'
    config.write_text(f"{words}\n{bins}")
    other = run("build-maps", "--config", config, "--model", "m.safetensors", "--out", "other.h5")
    assert "classes by edges" in other.stderr


@pytest.mark.slow
def test_build_killed_by_force_is_finished_by_the_next(galaxy_folder, tmp_path, monkeypatch):
    """SIGKILL in the middle; the next run keeps the finished shards and ends as if undisturbed."""
    monkeypatch.chdir(tmp_path)
    config = write_settings(galaxy_folder)
    run("train", "--config", config, "--out", "m.safetensors", "-q")
    options = ["--config", config, "--model", "m.safetensors", "--split", "all", "--shard-size", 1]
    run("build-maps", *options, "--out", "undisturbed.h5", "-q")

    command = [sys.executable, "-m", "galfig", "build-maps", *map(str, options), "--out", "maps.h5"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not Path("maps.h5.parts/000002.h5").exists():
            time.sleep(0.002)
        process.kill()
    assert not Path("maps.h5").exists()
    kept = {part: part.stat().st_mtime_ns for part in Path("maps.h5.parts").glob("0*.h5")}
    assert 3 <= len(kept) < 24

    again = run("build-maps", *options, "--out", "maps.h5")
    assert f"resuming: {len(kept)} of 24 shards are done" in again.stderr
    assert not Path("maps.h5.parts").exists()
    with h5py.File("maps.h5") as found, h5py.File("undisturbed.h5") as expected:
        assert found.attrs["plan_digest"] == expected.attrs["plan_digest"]
        for name in ("objid", "cams", "cam_scale", "logits", "cutouts"):
            assert (found[name][:] == expected[name][:]).all(), name


def test_figure_list_and_figure(store_path, tmp_path, monkeypatch):
    """figure --list names them all; figure NAME writes NAME.pdf unless told otherwise."""
    from galfig.figures.registry import FIGURES

    monkeypatch.chdir(tmp_path)
    listed = run("figure", "--list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(FIGURES)
    drawn = run("figure", "confusion-matrix", store_path, "--zmax", 0.1)
    assert drawn.stdout.split() == [
        f"confusion-matrix.{suffix}" for suffix in ("pdf", "tex", "txt", "alt.txt")
    ]


def test_catalog_from_folders_prints_settings_that_read_it(galaxy_folder, tmp_path):
    """The catalog is written, and standard output is a file of settings as it is."""
    images = galaxy_folder / "images"
    for index, path in enumerate(sorted(images.iterdir())):
        home = tmp_path / "sorted" / ("spiral", "E")[index % 2]
        home.mkdir(parents=True, exist_ok=True)
        path.rename(home / path.name)
    out = tmp_path / "catalog.csv"
    result = run("catalog", "from-folders", tmp_path / "sorted", "--out", out)
    assert result.stderr == ""
    (tmp_path / "galfig.toml").write_text(result.stdout)
    galaxies = galfig.load_catalog(settings=tmp_path / "galfig.toml")
    assert galaxies.class_counts == {"E": 12, "spiral": 12}
    again = run("catalog", "from-folders", tmp_path / "sorted", "--out", out, ok=False)
    assert again.exit_code == 1
    assert f"{out}: already exists; use --overwrite to replace it" in again.stderr
