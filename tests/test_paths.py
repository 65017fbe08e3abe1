"""No output names a folder of the machine that made it."""

import json
import os
import zlib

import pytest
from click.testing import CliRunner
from samples import make_measured, write_small_audit

from galfig.cli import main
from galfig.config import CatalogSettings, load_settings, record_folder
from galfig.figures.registry import FIGURES

SECRET = "home-of-anna"


def run(*args):
    found = CliRunner().invoke(main, [str(arg) for arg in args])
    assert found.exit_code == 0, found.output
    return found


def read_all(path):
    """Give the bytes of a file, with whatever is deflated in a PDF or a PNG."""
    data = path.read_bytes()
    parts = [data]
    for mark in (b"stream\n", b"stream\r\n", b"IDAT"):
        for piece in data.split(mark)[1:]:
            try:
                parts.append(zlib.decompressobj().decompress(piece))
            except zlib.error:
                continue
    return b"".join(parts)


@pytest.fixture
def hidden_folder(galaxy_folder, tmp_path):
    """Move the galaxies to a folder with a telling name; one image is lost, one is damaged."""
    folder = tmp_path / SECRET
    galaxy_folder.rename(folder)
    (folder / "images").rename(folder / "cutouts")
    images = sorted((folder / "cutouts").iterdir())
    images[2].unlink()
    images[5].write_bytes(images[5].read_bytes()[:200])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("way", ["settings", "options", "template", "root"])
def test_outputs_name_no_folder(hidden_folder, tmp_path, monkeypatch, way):
    """Checkpoint, store, figures, captions and tables, however the images are named."""
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir("/" if way == "root" else out)
    config = out / "galfig.toml"
    small = "[training]\nepochs = 1\nbatch_size = 8\ncutout_size = 32\n"
    catalog = hidden_folder / "catalog.csv"
    options = []
    if way in ("options", "root"):
        images = 'images = "cutouts/{objID}.jpg"'
        config.write_text(f"[catalog]\n{images}\n{small}")
        options = ["--catalog", catalog, "--images", hidden_folder]
    elif way == "settings":
        images = 'images = "{objID}.jpg"'
        folder = hidden_folder / "cutouts"
        config.write_text(f"[catalog]\npath='{catalog}'\n{images}\nimages_dir='{folder}'\n{small}")
    else:
        template = f"{hidden_folder}/cutouts/{{objID}}.jpg"
        relative = os.path.relpath(catalog, out)
        config.write_text(f"[catalog]\npath='{relative}'\nimages='{template}'\n{small}")
    model, store = out / "m.safetensors", out / "maps.h5"
    run("train", "--config", config, *options, "--out", model)
    built = ["build-maps", "--config", config, *options, "--model", model, "--split", "all"]
    run(*built, "--out", store)
    for name in ("panels", "confusion-matrix"):
        for suffix in (".pdf", ".png", ".svg"):
            figure = out / f"{name}{suffix}"
            drawn = ["figure", name, store, "--out", figure, "--data", out / f"{name}.ecsv"]
            run(*drawn, "--overwrite")
    files = [path for path in out.iterdir() if path != config]
    assert len(files) >= 12
    for path in files:
        assert SECRET.encode() not in read_all(path), path.name
        assert str(tmp_path).encode() not in read_all(path), path.name
    rejected = run("info", store, "--rejected").stdout
    assert "no image" in rejected
    assert len(rejected.splitlines()) == 2
    assert SECRET not in rejected + run("info", store).stdout + run("info", model).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_names_a_folder(trained_store, other_store, tmp_path, monkeypatch, name):
    """Of any kind and format, nor its captions and table; with a style and settings elsewhere."""
    folder = tmp_path / SECRET
    folder.mkdir()
    (folder / "mine.mplstyle").write_text("axes.grid: True\n")
    store, other = (path.rename(folder / path.name) for path in (trained_store, other_store))
    audit = folder / "worth.audit.h5"
    share = [0.0, 0.5, 1.0]
    curves = {"share": share, "random order": [0.9, 0.8, 0.5], "map": [0.9, 0.6, 0.5]}
    measures = {
        "deletion": make_measured("deletion", curves=curves),
        "sanity": make_measured("sanity", passes=False, curves={}),
    }
    write_small_audit(audit, measures)
    monkeypatch.chdir(tmp_path)
    kind = FIGURES[name]
    source = audit if kind.source == "audit" else store
    options = ["--with", other] if name == "compare" else []
    if name == "attribution-vs":
        options = ["--audit", audit, "--column", "z"]
    if name == "atlas":
        # Its macros name the files, and so differ from format to format.
        options = ["--figure-set", "4", "--overwrite"]
    out = tmp_path / "out"
    for suffix in (".pdf", ".png", ".svg"):
        figure = ["figure", name, source, *options, "--style", folder / "mine.mplstyle"]
        run(*figure, "--out", out / f"f{suffix}", "--data", out / f"f{suffix[1:]}.ecsv")
    files = list(out.iterdir())
    assert {path.suffix for path in files} == {".pdf", ".png", ".svg", ".ecsv", ".tex", ".txt"}
    for path in files:
        assert SECRET.encode() not in read_all(path), path.name
        assert str(tmp_path).encode() not in read_all(path), path.name
    pictures = [path for path in files if path.suffix in (".pdf", ".png", ".svg")]
    for path in pictures:
        facts = json.loads(run("info", path, "--json").stdout)
        assert (facts["kind"], facts["figure"]) == ("figure", name)
        assert facts["options"]["style"]["sheet"] == "mine.mplstyle"
    assert len(pictures) == 3


def test_folders_are_told_apart_by_a_digest():
    """A plain name stays; any other path becomes eight digits."""
    assert record_folder("images") == "images"
    first, second = record_folder("/data/a/images"), record_folder("../a/images")
    assert len(first) == len(second) == 9
    assert first != second
    assert record_folder(first) == first
    inside = CatalogSettings(images="images/{folder}/{objID}.jpg")
    assert inside.record_images()["images"] == "images/{folder}/{objID}.jpg"
    outside = CatalogSettings(images="../x/g{objID}.jpg").record_images()["images"]
    assert outside == f"{record_folder('../x')}/g{{objID}}.jpg"
    assert load_settings({}).record()["catalog"]["path"] == "catalog.csv"
