"""Bad input, in a real process: exit status 1 and one line that says where, what and what to do."""

import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table


def galfig(*args, cwd):
    """Run galfig in a process of its own."""
    command = [sys.executable, "-m", "galfig", *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def refuse(*args, cwd):
    """Run a command that must fail as expected; return its one line."""
    result = galfig(*args, cwd=cwd)
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("galfig: error: ")
    return result.stderr.strip().removeprefix("galfig: error: ")


@pytest.fixture
def table(galaxy_folder):
    """Return the fixture's catalog, to be spoilt, with its ids as text."""
    return pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda table: table.rename(columns={"oh_p50": "oh_p5O"}),
            "catalog.csv: no column 'oh_p50', expected by [classes] column; did you mean 'oh_p5O'?",
        ),
        (
            lambda table: table.rename(columns={"objID": "name"}),
            "catalog.csv: no column 'objID', expected by [catalog] id; it has 'name', 'z', "
            "'oh_p50'",
        ),
        (
            lambda table: table.drop(table.index[1::2]),
            "catalog.csv: column 'oh_p50': class 'high' is empty, expected galaxies in every class "
            "kept; found 'low' (12), 'medium' (0), 'high' (0), values run from",
        ),
    ],
    ids=["no column", "no id", "empty class"],
)
def test_bad_tables(galaxy_folder, table, spoil, message):
    """Each bad table is refused with its file, its row and its column."""
    spoil(table).to_csv(galaxy_folder / "catalog.csv", index=False)
    line = refuse("train", "--catalog", "catalog.csv", cwd=galaxy_folder)
    assert line.startswith(message)
    assert not list(galaxy_folder.glob("*.safetensors"))


def test_bad_rows_cost_their_galaxies_alone(galaxy_folder, table):
    """Each is left out with its reason, and told apart from the terminal's own words."""
    spoilt = ["1237665024900858130", "../../etc/passwd", "a/b", "..", "a\0b", ""]
    table["oh_p50"] = table["oh_p50"].astype(object)
    for row, objid in enumerate(spoilt, start=2):
        table.loc[row, "objID"] = objid
    table.loc[9, "oh_p50"] = "high\x1b[2J"
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    code = (
        "import logging, galfig; logging.basicConfig()\n"
        "for item in galfig.load_catalog('catalog.csv').rejected.items(): print(*item)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=galaxy_folder, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        "row 2 objID '1237665024900858130' is also in row 3",
        "row 3 objID '1237665024900858130' is also in row 2",
        *(
            f"row {row} objID {name!r} is not a plain file name, expected one without '/', "
            "'\\', '..' or invisible characters, at most 255 bytes long"
            for row, name in ((4, spoilt[1]), (5, "a/b"))
        ),
        "row 6 no objID",
        "row 7 column 'objID': 'a\\x00b', expected text without NUL",
        "row 8 no objID",
        f"{table.objID[9]} oh_p50 = 'high\\x1b[2J', expected a number",
    ]
    assert "2 rows share their identifier with another one: '1237665" in result.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "[classes]\nedges = [8.1, 9.1, 8.7, 9.3]",
            "[classes]: edges [8.1, 9.1, 8.7, 9.3] are not",
        ),
        (
            '[classes]\nedges = [8.1, 8.7, 9.3]\nlabels = ["low", "medium", "high"]',
            "[classes]: 3 edges make 2 bins, but there are 3 labels ['low', 'medium', 'high']",
        ),
        ('[classes]\nkeep = ["low", "hihg"]', "[classes]: keep names 'hihg', which is not one of"),
        ("[training]\nepoch = 3", "[training] epoch: unknown key; did you mean 'epochs'?"),
        ("[trainin]\nepochs = 3", "[trainin]: unknown table; did you mean 'training'?"),
        ("[training]\nepochs = 0", "[training] epochs: found 0; input should be greater than"),
        ('[training]\nlr = "fast"', "[training] lr: found 'fast'; input should be a valid number"),
        ("[training", "not valid TOML"),
    ],
    ids=["edges", "labels", "keep", "key", "table", "range", "type", "TOML"],
)
def test_bad_settings(galaxy_folder, settings, message):
    """Each bad setting is refused with its file, its table and its key."""
    (galaxy_folder / "galfig.toml").write_text(settings)
    line = refuse("build-maps", "--catalog", "catalog.csv", cwd=galaxy_folder)
    assert line.startswith(f"galfig.toml: {message}")


@pytest.mark.slow
def test_bad_files(galaxy_folder):
    """A missing catalog, an unknown suffix, a missing folder and a damaged file are named."""
    line = refuse("train", "--catalog", "absent.csv", cwd=galaxy_folder)
    assert line == "absent.csv: no such file, expected a catalog"
    (galaxy_folder / "catalog.doc").write_text("objID\n1\n")
    line = refuse("train", "--catalog", "catalog.doc", cwd=galaxy_folder)
    assert line.startswith("catalog.doc: unknown suffix '.doc', expected .csv")
    line = refuse("train", "--catalog", "catalog.csv", "--images", "absent", cwd=galaxy_folder)
    assert line.startswith(
        "absent/images: no images found, expected files such as 1237665024900858129"
    )
    (galaxy_folder / "bad.fits").write_bytes(b"SIMPLE  =")
    line = refuse("train", "--catalog", "bad.fits", cwd=galaxy_folder)
    assert line.startswith("bad.fits: cannot be read (")
    Table.read(galaxy_folder / "catalog.csv").write(galaxy_folder / "short.fits")
    short = (galaxy_folder / "short.fits").read_bytes()[:-2880]
    (galaxy_folder / "short.fits").write_bytes(short)
    line = refuse("train", "--catalog", "short.fits", cwd=galaxy_folder)
    assert line.startswith("short.fits: cannot be read (")


def test_checkpoint_is_not_replaced_unasked(galaxy_folder):
    """A file in the place of the checkpoint is left as it was."""
    (galaxy_folder / "model.safetensors").write_text("mine")
    line = refuse("train", "--catalog", "catalog.csv", cwd=galaxy_folder)
    assert line == "model.safetensors: already exists; use --overwrite to replace it"
    assert (galaxy_folder / "model.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("train", "--schedule", "cosine"), "'cosine' is not one of 'one-cycle', 'flat-cos'."),
        (("train", "--epochs", "many"), "'many' is not a valid integer"),
        (("render", "--n", 0), "0 is not in the range x>=1."),
        (("render", "--zmn", 0.1), "--zmn"),
        (("paint",), "No such command 'paint'."),
    ],
)
def test_bad_usage(tmp_path, options, message):
    """What the command line itself cannot mean: exit status 2, nothing on stdout."""
    result = galfig(*options, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_bad_choices(galaxy_folder):
    """An unknown architecture, layer or model is refused, with the right names."""
    options = ("train", "--catalog", "catalog.csv", "--cutout-size", 32, "-q")
    line = refuse(*options, "--arch", "conv4", cwd=galaxy_folder)
    assert line.startswith("arch 'conv4': unknown; did you mean 'conv3'?")
    line = refuse(*options, "--layer", "conv9", cwd=galaxy_folder)
    assert line.startswith("layer 'conv9': not a layer of conv3 with feature maps; did you mean")
    assert line.endswith("conv3.0, conv3.1, conv3.2, conv3")

    (galaxy_folder / "model.pkl").write_bytes(pickle.dumps({"weights": [1, 2]}))
    options = ("build-maps", "--catalog", "catalog.csv", "--model", "model.pkl", "-q")
    assert refuse(*options, cwd=galaxy_folder).startswith("model.pkl: a pickled file, expected")


@pytest.mark.slow
def test_bad_renders(make_store, tmp_path):
    """What a figure cannot show is refused, with what there is."""
    make_store()
    store = make_store("bare.h5", redshift=np.full(12, np.nan))
    line = refuse("render", "--zmin", 0.5, "--zmax", 0.8, cwd=tmp_path)
    assert line == "maps.h5: no galaxy with 0.5 < z < 0.8; its redshifts run from 0.02 to 0.13"
    line = refuse("render", store, "--zmin", 0.05, cwd=tmp_path)
    assert line.startswith(
        f"{store}: no galaxy has a redshift, expected some for --zmin and --zmax"
    )
    line = refuse("render", "--objid", "42", cwd=tmp_path)
    assert line.startswith("maps.h5: no galaxy '42'")
    line = refuse("render", "--out", "figure.gif", cwd=tmp_path)
    assert line == "figure.gif: suffix '.gif', expected .pdf, .png, .svg"
    line = refuse("render", "absent.h5", cwd=tmp_path)
    assert line == "absent.h5: no such file, expected a store; make it with 'galfig build-maps'"
    (tmp_path / "words.h5").write_text("objID,z\n")
    line = refuse("render", "words.h5", cwd=tmp_path)
    assert line.startswith("words.h5: not an HDF5 file that can be read, expected a store (")
    (tmp_path / "paper.tex").write_text("mine")
    line = refuse("render", store, "--out", "paper.pdf", cwd=tmp_path)
    assert line.startswith("paper.tex: already exists; the caption of paper.pdf goes there;")
    assert (tmp_path / "paper.tex").read_text() == "mine"
    assert not (tmp_path / "paper.pdf").exists()
    with h5py.File(store, "r+") as file:
        file.attrs["schema_version"] = 99
    line = refuse("render", store, cwd=tmp_path)
    assert line == (
        f"{store}: schema version 99, expected 2 or before; another version of galfig wrote "
        "it: use that one, or update galfig"
    )
    (tmp_path / "panels.pdf").write_text("mine")
    line = refuse("render", cwd=tmp_path)
    assert line == "panels.pdf: already exists; use --overwrite to replace it"
    assert (tmp_path / "panels.pdf").read_text() == "mine"


@pytest.mark.slow
def test_what_cannot_be_used_is_left_out_and_counted(galaxy_folder, table):
    """Values outside the edges, empty cells, lost and truncated images: counted, and named."""
    table.loc[0, "oh_p50"] = 7.5
    table.loc[1, "oh_p50"] = float("nan")
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    images = galaxy_folder / "images"
    (images / f"{table.objID[2]}.jpg").unlink()
    truncated = images / f"{table.objID[3]}.jpg"
    truncated.write_bytes(truncated.read_bytes()[:300])
    (galaxy_folder / "galfig.toml").write_text(
        '[catalog]\npath = "catalog.csv"\n'
        "[training]\nepochs = 1\nbatch_size = 8\ncutout_size = 32\n"
    )
    result = galfig("build-maps", "--split", "all", cwd=galaxy_folder)
    assert result.returncode == 0, result.stderr
    assert "warning: catalog.csv: 3 galaxies left out" in result.stderr
    assert "warning: catalog.csv: 4 galaxies left out" in result.stderr
    assert ", 3 of them reported before" in result.stderr
    # A line a stage (catalog, images, maps), not a line a galaxy; others say that 20 are few.
    told = re.findall("^warning: .*(?:left out|could not be explained)", result.stderr, re.M)
    assert len(told) == 3
    with h5py.File(galaxy_folder / "maps.h5") as file:
        rejected = dict(
            zip(file["rejected/objid"].asstr()[:], file["rejected/reason"].asstr()[:], strict=True)
        )
        assert len(file["objid"]) == 20
    reasons = [rejected[objid] for objid in table.objID[:4]]
    assert reasons[0] == "oh_p50 = 7.5 outside (8.1, 9.3]"
    assert reasons[1] == "no oh_p50"
    assert reasons[2].startswith("no image ")
    assert "cannot be decoded" in reasons[3]


@pytest.mark.slow
def test_interrupt_ends_with_130_and_leaves_nothing_half_written(galaxy_folder):
    """Ctrl-C in the middle of training: exit 130, one line, and where it stood for --resume."""
    before = sorted(path.name for path in galaxy_folder.iterdir())
    command = [sys.executable, "-m", "galfig", "train", "--catalog", "catalog.csv"]
    command += ["--epochs", "5000", "--batch-size", "8", "--cutout-size", "32"]
    log = galaxy_folder.parent / "log"
    with (
        log.open("w") as stream,
        subprocess.Popen(command, cwd=galaxy_folder, stderr=stream, stdout=stream) as process,
    ):
        deadline = time.monotonic() + 120
        while "epoch 2" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()
    words = log.read_text()
    assert "galfig: interrupted" in words
    assert "Traceback" not in words
    left = sorted(path.name for path in galaxy_folder.iterdir())
    assert left == sorted([*before, "model.resume.safetensors"])


def test_read_only_folder_is_one_line(galaxy_folder):
    """A folder that cannot be written to is named; as root, a file in its place stands for it."""
    (galaxy_folder / "blocked").write_text("a file")
    options = ("simulate", Path("blocked") / "sim", "--n", 1)
    line = refuse(*options, cwd=galaxy_folder)
    assert "blocked" in line
    assert "cannot be written" in line


@pytest.mark.slow
@pytest.mark.parametrize("command", [["info"], ["render"], ["build-maps", "-q", "--out"]])
def test_name_that_no_file_can_have_is_one_line(galaxy_folder, command):
    """Of 300 letters: the system's own words, and no traceback."""
    line = refuse(*command, "a" * 300 + ".h5", cwd=galaxy_folder)
    assert "File name too long" in line
