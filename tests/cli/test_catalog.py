"""``galfig catalog check``: exit status, streams, JSON and options."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from click.testing import CliRunner

from galfig.cli import main


def run(*args):
    return CliRunner().invoke(main, ["catalog", "check", *map(str, args)])


@pytest.fixture
def catalog(galaxy_folder):
    """Give a catalog, and settings that its images suit."""
    (galaxy_folder / "galfig.toml").write_text("[training]\ncutout_size = 48\n")
    return galaxy_folder / "catalog.csv"


def test_a_good_catalog(catalog):
    """The report is on stdout, with the verdict last, and the log on stderr."""
    done = run(catalog, "--config", catalog.with_name("galfig.toml"))
    assert done.exit_code == 0, done.output
    first, *_, last = done.stdout.splitlines()
    assert first.endswith("catalog.csv: CSV, 24 rows, 3 columns")
    assert last == (
        "5 galaxies of 2 classes would be explained (the validation set, after a training with "
        "24); 0 are left out"
    )
    assert "  none was decoded; --decode all finds the damaged ones" in done.stdout
    assert done.stderr.splitlines()[0].endswith("reading the catalog, and looking for its images")
    assert run(catalog, "--quiet").stderr == ""


def test_the_catalog_may_be_that_of_the_settings(catalog, monkeypatch):
    """Without either there is nothing to check."""
    with catalog.with_name("galfig.toml").open("a") as file:
        file.write('[catalog]\npath = "catalog.csv"\n')
    assert run("--config", catalog.with_name("galfig.toml")).exit_code == 0
    monkeypatch.chdir(catalog.parent)
    assert run().stdout.startswith("catalog.csv: CSV, 24 rows")
    catalog.with_name("galfig.toml").unlink()
    done = run()
    assert (done.exit_code, done.stdout) == (1, "")
    assert "name a catalog of your own to check it" in done.stderr


def test_a_refused_catalog(catalog):
    """Exit 1, with what was understood before the refusal."""
    pd.read_csv(catalog).rename(columns={"objID": "name"}).to_csv(catalog, index=False)
    done = run(catalog)
    assert done.exit_code == 1
    assert "  oh_p50  number  " in done.stdout
    assert "no column 'objID' ([catalog] id, needed); did you mean 'name'?" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("build-maps would refuse this: ")
    assert "error" not in done.stderr


def test_wrong_settings_are_no_finding(catalog):
    """They end as in any other command."""
    catalog.with_name("galfig.toml").write_text("[catalog]\nnonsense = 1\n")
    done = run(catalog, "--config", catalog.with_name("galfig.toml"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("galfig: error: ")


def test_json_has_everything(catalog):
    """Also of a catalog that is refused."""
    found = json.loads(run(catalog, "--json", "--decode", "3").stdout)
    assert found["n_rows"] == found["n_train"] == 24
    assert found["refusal"] == ""
    assert found["images"]["n_decoded"] == 3
    assert found["columns"][0]["roles"] == ["identifier", "image path"]
    catalog.unlink()
    done = run(catalog, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["refusal"].endswith("no such file, expected a catalog")


def test_options_are_those_of_the_job(catalog):
    """Other galaxies to explain, other images, and a network that is there."""
    assert (
        "24 galaxies of 2 classes would be explained (all, "
        in run(catalog, "--split", "all").stdout
    )
    images = catalog.parent.rename(catalog.parent.with_name("elsewhere"))
    moved = images.parent / "catalog.csv"
    (images / "catalog.csv").rename(moved)
    assert "no images found" in run(moved).stdout
    assert run(moved, "--images", images).exit_code == 0
    pd.read_csv(moved).drop(columns="oh_p50").to_csv(moved, index=False)
    assert run(moved, "--images", images).exit_code == 1
    done = run(moved, "--images", images, "--trained")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "24 galaxies would be explained; 0 are left out"


@pytest.mark.parametrize("words", ["0", "-1", "some", "1.5", "٣"])
def test_how_many_images_is_a_number_or_all(catalog, words):
    """Anything else is a mistake of usage."""
    done = run(catalog, f"--decode={words}")
    assert done.exit_code == 2
    assert "is neither a whole number from 1 nor 'all'" in done.stderr


def test_a_terminal_of_ascii_gets_ascii(catalog, tmp_path):
    """And never half of a block."""
    done = subprocess.run(
        [sys.executable, "-m", "galfig", "catalog", "check", catalog],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path), "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"each # is 1 row" in done.stdout
    assert b"\\u" not in done.stdout


def test_it_needs_no_torch(catalog):
    """The answer takes a second, not ten."""
    code = (
        "import sys; from galfig.cli import main\n"
        "main(['catalog', 'check', sys.argv[1]], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, catalog], check=False).returncode == 0
