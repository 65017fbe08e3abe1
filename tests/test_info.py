"""What a file is: one answer for info and verify, whatever the file is called."""

import json
import pickle
import shutil

import h5py
import pytest
import torch
from click.testing import CliRunner
from matplotlib.figure import Figure
from samples import METADATA, write_small_audit

from galfig.cli import main
from galfig.errors import StoreError
from galfig.info import describe_file, find_kind, summarise
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import save_checkpoint
from galfig.networks.resume import save_progress
from galfig.store.reader import open_store
from galfig.verify import verify_path

EXPECTED = "expected a store, a checkpoint, an audit or the folder of a manuscript"


@pytest.fixture(scope="module")
def checkpoint_path(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "m.safetensors"
    save_checkpoint(path, build_network("conv3", 2), METADATA)
    return path


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_a_file_is_what_it_holds_and_not_what_it_is_called(store_path, checkpoint_path, tmp_path):
    """A checkpoint called maps.h5 and a store called model.safetensors, described and verified."""
    store, checkpoint = tmp_path / "model.safetensors", tmp_path / "model.h5"
    shutil.copyfile(store_path, store)
    shutil.copyfile(checkpoint_path, checkpoint)
    for path, kind in ((store, "store"), (checkpoint, "checkpoint")):
        assert find_kind(path) == kind
        assert run("info", path).stdout.split()[:2] == ["kind", kind]
        found = run("verify", path)
        assert found.exit_code == 0
        assert found.stdout.startswith(f"{path}: intact: ")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.h5", b"", f"an empty file, {EXPECTED}"),
        ("empty.safetensors", b"", f"an empty file, {EXPECTED}"),
        ("catalog.csv", b"objID,z\n1,0.05\n", f"a text file, {EXPECTED}"),
        ("words.h5", "größer {als}\n".encode() * 50, f"a text file, {EXPECTED}"),
        ("roc.pdf", b"%PDF-1.4\n%\xac\xdc", f"a PDF, {EXPECTED}"),
        ("roc.h5", b"\x89PNG\r\n\x1a\n\0\0", f"a PNG image, {EXPECTED}"),
        ("roc.svg", b'<?xml version="1.0"?>\n<svg xmlns=""/>', f"an SVG image, {EXPECTED}"),
        ("galaxy.jpg", b"\xff\xd8\xff\xe0\0", f"a JPEG image, {EXPECTED}"),
        ("catalog.fits", b"SIMPLE  =                    T", f"a FITS file, {EXPECTED}"),
        ("noise.bin", b"\0\1\2\3", f"begins with b'\\x00\\x01\\x02\\x03', {EXPECTED}"),
        ("noise.h5", b"\0\1\2\3", "not an HDF5 file that can be read, expected a store ("),
        ("noise.safetensors", b"\0\1\2\3", "not a galfig checkpoint, expected one "),
        ("model.pkl", pickle.dumps({"a": 1}), "a pickled file, expected safetensors; "),
    ],
)
def test_what_is_none_of_them_is_named(tmp_path, name, content, words):
    """The same one line by both, and exit status 1."""
    path = tmp_path / name
    path.write_bytes(content)
    described, verified = run("info", path), run("verify", path)
    assert described.exit_code == verified.exit_code == 1
    assert described.stderr.startswith(f"galfig: error: {path}: {words}")
    assert verified.stdout.startswith(f"{path}: {words}")
    assert described.stderr.count("\n") == verified.stdout.count("\n") == 1


def test_other_files_of_galfig_are_named(tmp_path, store_path):
    """The state of an unfinished training, and HDF5 that is no store."""
    state = tmp_path / "m.resume.safetensors"
    save_progress(state, {}, {"epoch": 3})
    for line in (run("info", state).stderr, run("verify", state).stdout):
        assert (
            f"an unfinished training, {EXPECTED}; 'galfig train --resume' goes on with it" in line
        )
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = [1, 2]
    for line in (run("info", other).stderr, run("verify", other).stdout):
        assert f"{other}: an HDF5 file without schema_version, expected a store" in line
    cut = tmp_path / "cut.h5"
    cut.write_bytes(store_path.read_bytes()[:3000])
    for line in (run("info", cut).stderr, run("verify", cut).stdout):
        assert f"{cut}: cut off, expected a whole store; copy it again" in line


def test_folders(tmp_path):
    """That of a manuscript is verified, and info says so; another is named."""
    with pytest.raises(StoreError, match="no such file, expected a store"):
        find_kind(tmp_path / "absent.h5")
    paper = tmp_path / "paper"
    paper.mkdir()
    line = f"{paper}: a folder without manuscript.toml, {EXPECTED}\n"
    assert run("info", paper).stderr == f"galfig: error: {line}"
    assert run("verify", paper).stdout == line
    (paper / "manuscript.toml").write_text("")
    assert find_kind(paper) == "manuscript"
    found = run("info", paper)
    assert found.exit_code == 1
    assert found.stderr == (
        f"galfig: error: {paper}: a manuscript, expected a store, a checkpoint or an audit; "
        f"'galfig manuscript list {paper}' lists its files, 'galfig verify {paper}' compares them "
        "with their record\n"
    )


def test_the_verdict_of_an_audit_ends_its_description(tmp_path):
    """A list of sentences, in lines that fit a terminal; as JSON, it is one of the facts."""
    verdict = ("The maps point to pixels that matter beyond their brightness. " * 2, "Short.")
    write_small_audit(tmp_path / "maps.audit.h5", verdict=verdict)
    text = run("info", tmp_path / "maps.audit.h5").stdout
    assert text.endswith("\n  to pixels that matter beyond their brightness.\n- Short.\n")
    assert '"Short."' not in text
    found = json.loads(run("info", tmp_path / "maps.audit.h5", "--json").stdout)
    assert found["verdict"] == list(verdict)


def test_a_folder_of_networks(tmp_path):
    """Each by its seed and accuracy, all by what they share; a damaged one is named."""
    folder = tmp_path / "networks"
    folder.mkdir()
    for seed in (1, 2):
        torch.manual_seed(seed)
        own = {"seeds": {"training": seed}, "metrics": {"accuracy": 0.8 + 0.1 * seed}}
        path = folder / f"network-{seed}.safetensors"
        save_checkpoint(path, build_network("conv3", 2), {**METADATA, **own})
    assert find_kind(folder) == "networks"
    found = describe_file(folder)
    assert found["summary"].startswith("2 networks, accuracies 0.900 to 1.000, mean 0.950")
    assert found["networks"]["network-2.safetensors"]["seeds"] == {"training": 2}
    assert "metrics" not in found
    assert verify_path(folder) == []
    assert run("info", folder).exit_code == run("verify", folder).exit_code == 0
    path.write_bytes(path.read_bytes()[:-4])
    (line,) = verify_path(folder)
    assert line.startswith("network-2.safetensors: truncated or damaged")


def test_a_store_of_several_networks(make_store):
    """Its number of networks, how far they agree, and each by its seed; no history of hundreds."""
    path = make_store(n_networks=5)
    found = describe_file(path)
    assert found["n_networks"] == 5
    assert 0.5 < found["agreement"] < 1
    assert [one["seeds"]["training"] for one in found["networks"]] == list(range(256, 261))
    assert "history" not in found["networks"][0]
    assert "means over 5 networks, whose maps have a median rank correlation of 0." in summarise(
        path
    )
    with open_store(path) as store:
        assert "means over 5 networks" in repr(store)
        assert "5 networks" in store._repr_html_()


@pytest.mark.parametrize("suffix", [".pdf", ".png", ".svg"])
def test_a_figure_says_what_it_was_made_from(store_path, tmp_path, suffix):
    """Its galaxies, settings and store, in lines and as JSON, whatever the file is called."""
    figure = tmp_path / f"panels{suffix}"
    done = run("render", store_path, "--n", 2, "--style", "talk", "--out", figure)
    assert done.exit_code == 0, done.output
    found = run("info", figure.rename(tmp_path / "other.h5"))
    lines = dict(line.split(None, 1) for line in found.stdout.splitlines())
    assert (lines["kind"], lines["figure"], lines["format"]) == (
        "figure",
        "panels",
        suffix[1:].upper(),
    )
    facts = json.loads(run("info", tmp_path / "other.h5", "--json").stdout)
    assert len(facts["objid"]) == 2
    assert facts["options"]["style"] == {"sheet": "talk"}
    assert facts["selection"]["n"] == 2
    with open_store(store_path) as store:
        assert facts["settings"] == json.loads(store.attrs["config"])
        assert facts["store"]["plan_digest"] == store.attrs["plan_digest"]
    assert facts["caption"].startswith("Grad-CAM maps of 2 of the 12 simulated galaxies")
    assert str(tmp_path) not in found.stdout


def test_a_figure_of_an_audit_says_of_which(tmp_path):
    """It has the digest of the audit, and no settings."""
    audit, figure = tmp_path / "maps.audit.h5", tmp_path / "sanity.pdf"
    write_small_audit(audit)
    done = run("figure", "audit-summary", audit, "--out", figure)
    assert done.exit_code == 0, done.output
    facts = json.loads(run("info", figure, "--json").stdout)
    assert facts["figure"] == "audit-summary"
    assert len(facts["audit"]["audit_digest"]) == 64
    assert "settings" not in facts


@pytest.mark.parametrize("suffix", [".pdf", ".png", ".svg"])
def test_a_stranger_cannot_act_on_the_terminal(tmp_path, suffix):
    """What a figure says is printed with its control characters spelled."""
    figure, keys = tmp_path / f"x{suffix}", ("Keywords", "Creator")
    keys = ("Comment", "Software") if suffix == ".png" else keys
    record = json.dumps({"figure": "\x1b[2J", "kind": "store", "\u202e": 1, "objid": ["\x9b"]})
    words = dict(zip(keys, (record, "galfig \u202e9"), strict=True)) | {"Title": "a\u2028b"}
    Figure(figsize=(1, 1)).savefig(figure, metadata=words)
    for options in ([], ["--json"]):
        found = run("info", figure, *options)
        assert found.exit_code == 0
        assert all(letter.isprintable() or letter == "\n" for letter in found.stdout)
    assert json.loads(found.stdout)["kind"] == "figure"


def test_an_image_of_another_program_is_told_from_a_figure(tmp_path):
    """One line says why there is nothing to print."""
    Figure(figsize=(1, 1)).savefig(tmp_path / "x.pdf")
    line = run("info", tmp_path / "x.pdf").stderr
    assert "x.pdf: a PDF, expected a store" in line
    assert line.endswith("; of images, only figures of galfig say what made them\n")
