"""``galfig cite``: the words on the terminal, and files."""

import json

from click.testing import CliRunner

from galfig.cli import main


def run(*words):
    return CliRunner().invoke(main, ["cite", *map(str, words)])


def test_text_names_options(make_store):
    """Notes of the library speak of its options."""
    training = '{"arch": "conv3", "n_train": {"a": 3}, "simulated": false}'
    path = make_store(attrs={"simulated": False, "training": training})
    done = run(path)
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert "Selvaraju et al. 2017 [Selvaraju2017]" in words
    assert "because the method is grad-cam" in words
    assert "where the galaxies come from is not recorded; name the survey with --survey" in words
    named = " ".join(run(path, "--survey", "sdss-dr17").stdout.split())
    assert "To print for SDSS-IV, because the survey sdss-dr17 is named" in named
    failed = run(path, "--survey", "sdss17")
    assert failed.exit_code == 1
    assert failed.stderr.startswith("galfig: error: --survey: 'sdss17' is unknown; did you mean")


def test_files_and_json(store_path, tmp_path):
    """The format follows the suffix, and JSON is for programs."""
    out = tmp_path / "software.bib"
    done = run(store_path, "--out", out)
    assert (done.exit_code, done.stdout) == (0, f"{out}\n")
    assert "@inproceedings{Selvaraju2017," in out.read_text()
    again = run(store_path, "--out", out)
    assert again.exit_code == 1
    assert "already exists; use --overwrite" in again.stderr
    assert run(store_path, "--out", out, "--overwrite").exit_code == 0
    assert run(store_path, "--out", store_path, "--overwrite").exit_code == 1
    facts = json.loads(run(store_path, "--json").stdout)
    assert facts == json.loads(run(store_path, "--format", "json").stdout)
    assert facts["stores"] == [store_path.name]


def test_a_missing_store(tmp_path):
    """One line."""
    done = run(tmp_path / "absent.h5")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
