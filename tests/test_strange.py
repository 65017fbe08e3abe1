"""Strange work: one galaxy, one class, odd names, other locales, no terminal; same bytes twice."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pypdfium2
import pytest
import torch
from astropy.table import Table
from click.testing import CliRunner
from PIL import Image
from samples import list_figures

from galfig.attribution.gradcam import grad_cam
from galfig.cli import main
from galfig.errors import FigureError
from galfig.figures.latex import escape_latex
from galfig.figures.registry import render_figure
from galfig.figures.style import spell_missing
from galfig.images.cutouts import read_cutout
from galfig.info import describe_file
from galfig.manuscript.build import build_manuscript
from galfig.networks.checkpoint import load_checkpoint, save_checkpoint
from galfig.store.reader import open_store
from galfig.store.selection import Query

OF_STORE = list_figures()

pytestmark = pytest.mark.faults

# What LaTeX, matplotlib, HDF5, templates, shells and fonts act upon, or lack.
SPECIAL = r"""_50% $x_1$ \{a}&#~^<>|"'`"""
CLASSES = (f"{SPECIAL} é", "Hα [星] 😀 łß")
QUANTITY = "EW(Hα)_%$"
OBJIDS = [rf"gal é 星😀 50%_$x$ {{a}}&#~^<'` {index}" for index in range(12)]
FOLDER = "a päper 星 %$#"

EPOCH = {"train_loss": 0.5, "valid_loss": 0.5, "accuracy": 0.8, "roc_auc": 0.9, "f1": 0.79}
TRAINING = {
    "arch": "conv3",
    "n_train": {"low": 20, "high": 22},
    "simulated": True,
    "history": [EPOCH, EPOCH],
    "lr": 0.01,
    "lr_finder": {
        "lr": np.geomspace(1e-7, 10, 50).tolist(),
        "loss": np.linspace(0.7, 0.4, 50).tolist(),
    },
}
BINS = {
    "column": "oh_p50",
    "edges": [8.1, 8.7, 9.1, 9.3],
    "labels": ["low", "medium", "high"],
    "name": "metallicity",
}


def run(*args, ok=True):
    """Run a command in this process, where a warning is an error; return its result."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if ok and result.exit_code:
        raise AssertionError(result.output) from result.exception
    return result


def refuse(*args):
    """Run a command that must fail as expected; return its last line."""
    result = run(*args, ok=False)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    last = result.stderr.splitlines()[-1]
    assert last.startswith("galfig: error: ")
    return last.removeprefix("galfig: error: ")


def read_words(path):
    """Return the text of a PDF without blanks, where lines were broken and words turned."""
    with pypdfium2.PdfDocument(path) as document:
        pages = [page.get_textpage().get_text_range() for page in document]
    return "".join("".join(pages).split())


def write_settings(folder, **tables):
    """Write settings in which a string may contain any character."""
    lines = []
    for table, keys in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    (folder / "galfig.toml").write_text("\n".join(lines), encoding="utf-8")


def _disturb(store):
    """Copy a store, and change a map of each galaxy, as if another network had made it."""
    copy = store.with_name(f"other {store.name}")
    shutil.copy(store, copy)
    with h5py.File(copy, "r+") as file:
        file["cam_scale"][:] *= 2
    return copy


def draw_all(store, folder, names=tuple(OF_STORE)):
    """Draw figures with captions and numbers; return the one-line refusals by name."""
    refused = {}
    for name in names:
        path = folder / f"{name}.pdf"
        other = _disturb(store) if name == "compare" else None
        data = path.with_suffix(".ecsv")
        try:
            render_figure(name, store, Query(n=None), path, other=other, data=data)
        except FigureError as exc:
            refused[name] = str(exc)
    return refused


@pytest.fixture
def odd_store(make_store):
    """Return a store in which every name contains special characters."""
    bins = {**BINS, "column": f"{SPECIAL} O/H", "labels": ["m", *CLASSES], "name": QUANTITY}
    return make_store(
        "störe 星 %.h5",
        class_names=CLASSES,
        objid=np.array(OBJIDS, dtype=object),
        catalog={f"{SPECIAL} R/50": np.full(12, 2.0)},
        attrs={
            "training": json.dumps(TRAINING),
            "config": json.dumps({"classes": {**bins, "symbol": f"Z_{SPECIAL}"}}),
            "target_layer": "_odd$layer",
        },
    )


NAMED_BY = {
    "histogram": (*CLASSES, f"EW(Hα)_%$ ({SPECIAL} O/H)"),
    "confusion-matrix": (*CLASSES, f"Predicted Z_{SPECIAL}"),
    "class-examples": (*(f"{name}-{QUANTITY}" for name in CLASSES), *OBJIDS),
    "roc": (f"{CLASSES[1]}-{QUANTITY}",),
    "radial-profile": tuple(f"{name}-{QUANTITY}" for name in CLASSES),
    "stacked-maps": tuple(f"{name}-{QUANTITY}" for name in CLASSES),
    **dict.fromkeys(
        ("panels", "compare", "top-losses", "atlas", "feature-space"),
        tuple(f"{name}-{QUANTITY}" for name in CLASSES),
    ),
    "training-curves": (),
    "learning-rate": (),
}


def test_odd_names_in_figures(campaign, odd_store, tmp_path):
    """Each figure says the names in its PDF, the plain caption verbatim, the table exactly."""
    few = ["panels", "confusion-matrix", "histogram"]
    folder = tmp_path / FOLDER
    for name in campaign.n(few, OF_STORE):
        with campaign.trial("strange: names"):
            assert draw_all(odd_store, folder, [name]) == {}
            words = read_words(folder / f"{name}.pdf")
            for expected in NAMED_BY.get(name, ()):
                assert "".join(spell_missing(expected).split()) in words, (name, expected)
            caption = (folder / f"{name}.txt").read_text(encoding="utf-8")
            tex = (folder / f"{name}.tex").read_text(encoding="utf-8")
            assert tex.isascii()
            for class_name in CLASSES:
                shown = f"{class_name}-{QUANTITY}"
                assert (shown in caption) == (escape_latex(shown) in tex)
            if name in ("panels", "atlas", "stacked-maps", "top-losses", "compare"):
                assert f"{CLASSES[0]}-{QUANTITY}" in caption
            table = Table.read(folder / f"{name}.ecsv")
            if name == "panels":
                assert set(table["objid"]) <= set(OBJIDS)
                assert f"p_{CLASSES[1]}" in table.colnames


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_odd_names_in_metadata(campaign, odd_store, tmp_path, suffix):
    """PNG and SVG carry the caption and the provenance unharmed."""
    with campaign.trial("strange: names"):
        path = tmp_path / FOLDER / f"f{suffix}"
        render_figure("panels", odd_store, Query(n=2), path)
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        if suffix == ".png":
            with Image.open(path) as image:
                found, record = image.text["Description"], image.text["Comment"]
        else:
            import xml.etree.ElementTree as ElementTree

            dublin = "{http://purl.org/dc/elements/1.1/}"
            tree = ElementTree.parse(path)
            found = next(tree.iter(f"{dublin}description")).text
            subject = next(tree.iter(f"{dublin}subject"))
            record = "".join(subject.itertext()).strip()
        assert found == caption
        assert json.loads(record)["settings"]["classes"]["name"] == QUANTITY


MANIFEST = """
[stores]
odd = "störe 星.h5"
"""
PAPER = r"""\documentclass{CLASS}
\usepackage[T1]{fontenc}
\usepackage{graphicx}
\input{values}
\begin{document}
MACROS
FIGURES
TABLE
\end{document}
"""


def test_long_names_are_wrapped(campaign, make_store, tmp_path):
    """Names that are longer than a figure is wide go into lines, and leave room for the chart."""
    names = ("a very long name of a class that somebody took from a database, " * 2, "b" * 90)
    bins = {**BINS, "labels": ["m", *names], "column": "c" * 90, "symbol": "Z " * 60}
    config = json.dumps({"classes": {**bins, "name": ""}})
    store = make_store(class_names=names, quantity="", attrs={"config": config})
    every = ["confusion-matrix", "radial-profile", "histogram", "roc", "panels"]
    for name in every[: campaign.n(2, 5)]:
        with campaign.trial("strange: long names"):
            render_figure(name, store, Query(n=None), tmp_path / f"{name}.pdf")
            words = read_words(tmp_path / f"{name}.pdf")
            # What a figure has no room for ends in an ellipsis, and its words say it in full.
            assert "b" * 90 in words or ("b" * 15 in words and "…" in words)
            assert "averylongnameofaclass" in words or name == "roc"
            said = [(tmp_path / f"{name}{end}").read_text() for end in (".txt", ".alt.txt")]
            assert names[1] in " ".join(said)


FLOAT = r"""\begin{figure}
\galfigFigure[width=2cm]{NAME}
\caption{\protect\input{captions/NAME}\label{fig:NAME}}
\end{figure}
\clearpage
"""


def has_tex(name):
    """Tell whether TeX is here, with a file of its own."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    found = subprocess.run(["kpsewhich", name], capture_output=True, check=False)
    return found.returncode == 0


@pytest.mark.skipif(not has_tex("article.cls"), reason="no pdflatex")
def test_odd_names_compile(campaign, odd_store, tmp_path):
    """pdflatex compiles captions, macros and table of a manuscript, and prints what they say."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    # Inside a manuscript, paths have no special characters.
    odd_store.rename(folder / "störe 星.h5")
    names = ["panels", "confusion-matrix", "histogram", "stacked-maps"]
    names = campaign.n(names, [name for name in OF_STORE if name not in ("compare", "roc")])
    figures = "".join(
        f'[[figure]]\nname = "{name}"\nfigure = "{name}"\nstore = "odd"\nselection = {{ n = 3 }}\n'
        for name in names
    )
    (folder / "manuscript.toml").write_text(MANIFEST + figures, encoding="utf-8")
    build_manuscript(folder)
    macros = re.findall(r"\\(odd\w+)\}", (folder / "values.tex").read_text())
    # The table of galaxies is AASTeX's own.
    known = [name for name in ("aastex701", "aastex631") if has_tex(f"{name}.cls")]
    has_table = bool(known)
    source = PAPER.replace("CLASS", [*known, "article"][0])
    source = source.replace("MACROS", "\n\n".join(f"{name}: \\{name}" for name in macros))
    source = source.replace("FIGURES", "\n".join(FLOAT.replace("NAME", name) for name in names))
    source = source.replace("TABLE", r"\input{galaxies}" if has_table else "")
    t1 = "\\usepackage[T1]{fontenc}\n"
    for encoding in campaign.n([t1], [t1, ""]):
        with campaign.trial("strange: names in LaTeX"):
            (folder / "paper.tex").write_text(source.replace(t1, encoding))
            command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode"]
            command += ["-halt-on-error", "paper"]
            done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
            assert done.returncode == 0, done.stdout[-3000:].decode("utf-8", "replace")
            words = read_words(folder / "paper.pdf")
            assert "oddN:12" in words
            assert "U+661F" in words
            # In its old encoding TeX has other codes for braces.
            if encoding:
                assert "oddLayer:_odd$layer" in words
                assert r"50%$x_1$\{a}&#~^<>|" in words


def test_two_classes_have_two_macros(make_store):
    """Names that differ only in special characters share no macro, with each other or the total."""
    from galfig.manuscript.values import describe_store

    with open_store(make_store(class_names=("a b", "a-b", "星"), n=12)) as store:
        values = describe_store("x", store)
    counts = [values[f"xNOfClass{number}"] for number in ("One", "Two", "Three")]
    assert (values["xN"], counts) == ("12", ["4", "4", "4"])


@pytest.fixture
def odd_galaxies(galaxy_folder, tmp_path):
    """Return a folder with special characters in its name and odd names of galaxies and classes."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    images = folder / "ímages & 星"
    (galaxy_folder / "images").rename(images)
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    id_column = f"ID {SPECIAL.replace('{a}', '')}"
    table["type {odd}/$_é"] = [CLASSES[index % 2] for index in range(len(table))]
    names = [f"gal é😀 50%_$x$ {{a}}&#~^<'` {index}" for index in range(len(table))]
    for objid, name in zip(table["objID"], names, strict=True):
        (images / f"{objid}.jpg").rename(images / f"{name}.jpg")
    table["objID"] = names
    table = table.rename(columns={"objID": id_column, "z": "red/shift: z"})
    table.to_csv(folder / "cätalog 1.csv", index=False)
    write_settings(
        folder,
        catalog={
            "path": "cätalog 1.csv",
            "id": id_column,
            "images": f"ímages & 星/{{{id_column}}}.jpg",
            "redshift": "red/shift: z",
        },
        classes={"column": "type {odd}/$_é", "name": QUANTITY},
        training={"epochs": 1, "batch_size": 8, "cutout_size": 32},
    )
    return folder


def test_odd_names_from_catalog_to_figure(campaign, odd_galaxies):
    """Through every command: paths, columns, classes and identifiers come out as they went in."""
    with campaign.trial("strange: names and paths"):
        folder = odd_galaxies
        config, store = folder / "galfig.toml", folder / "out 星" / "mäps 1.h5"
        model = folder / "möd el.safetensors"
        run("train", "--config", config, "--out", model)
        built = run("build-maps", "--config", config, "--model", model, "--out", store)
        assert str(store) in built.stdout
        run("render", store, "--n", 2, "--true", CLASSES[1], "--out", folder / "fïg %.pdf")
        words = read_words(folder / "fïg %.pdf")
        with open_store(store) as opened:
            assert set(opened.class_names) == set(CLASSES)
            assert all(objid.startswith("gal é😀 50%_$x$") for objid in opened.objid)
            assert "type {odd}/$_é" in opened.catalog
            chosen = [o for o in opened.objid if "".join(spell_missing(o).split()) in words]
            assert len(chosen) == 2
        where = f"`type {{odd}}/$_é` == {CLASSES[0]!r}"
        run("figure", "confusion-matrix", store, "--where", where, "--out", folder / "c.pdf")
        run("render", store, "--objid", chosen[0], "--out", folder / "one.png")
        facts = json.loads(run("info", store, "--json").stdout)
        assert set(facts["classes"]) == set(CLASSES)
        assert CLASSES[1] in run("info", store).stdout


def write_split(folder, is_valid):
    """Say of each galaxy whether it is in the validation set, and write settings for that."""
    table = pd.read_csv(folder / "catalog.csv", dtype={"objID": str})
    table["set"] = np.where(is_valid(table), "valid", "train")
    table.to_csv(folder / "catalog.csv", index=False)
    write_settings(
        folder,
        catalog={"path": "catalog.csv"},
        split={"column": "set", "allow_missing": True},
        training={"epochs": 1, "batch_size": 4096, "cutout_size": 32},
    )


@pytest.mark.parametrize("n_valid", [1, 5])
def test_one_galaxy_or_one_class_to_explain(campaign, galaxy_folder, monkeypatch, n_valid):
    """A validation set of one class: no area, said so; every other figure; a batch beyond the set.

    One class only is all that one galaxy can be.
    """
    monkeypatch.chdir(galaxy_folder)
    with campaign.trial("strange: one galaxy" if n_valid == 1 else "strange: one class"):
        write_split(Path(), lambda table: (table.index % 2 == 0) & (table.index < 2 * n_valid))
        trained = run("train", "--out", "maps.safetensors")
        assert "roc_auc nan" in trained.stdout
        built = run("build-maps", "--model", "maps.safetensors")
        stored = "1 galaxy" if n_valid == 1 else f"{n_valid} galaxies"
        assert f"maps.h5: {stored} of split 'valid'" in built.stdout
        run("render", "--n", 5)
        few = ["training-curves", "learning-rate", "confusion-matrix", "roc", "reliability"]
        refused = draw_all(Path("maps.h5"), Path("drawn"), campaign.n(few, OF_STORE))
        assert list(refused) == ["learning-rate", "roc"]
        assert "no galaxy of class 'high-metallicity' is selected" in refused["roc"]
        caption = Path("drawn/training-curves.txt").read_text()
        assert "Where the validation set lacks a class, ROC AUC is not defined." in caption
        assert "ROCAUC(notdefined)" in read_words("drawn/training-curves.pdf")
        for file in ("maps.h5", "maps.safetensors"):
            facts = run("info", file, "--json").stdout
            assert "NaN" not in facts
            assert '"roc_auc": null' in facts


def test_one_galaxy_among_odd_ones(campaign, make_store, tmp_path):
    """A store of one galaxy, with nothing known of it but its maps, is drawn or says why not."""
    with campaign.trial("strange: one galaxy"):
        store = make_store(
            n=1,
            label=np.array([-1], np.int16),
            redshift=np.array([np.nan]),
            value=np.array([np.nan]),
            attrs={"training": json.dumps(TRAINING), "pixel_scale": float("nan")},
        )
        for name in OF_STORE:
            other = ("--with", _disturb(store)) if name == "compare" else ()
            out = tmp_path / f"{name}.pdf"
            result = run("figure", name, store, *other, "--out", out, ok=False)
            if result.exit_code:
                assert result.stderr.startswith("galfig: error: ")
                assert result.stderr.count("\n") == 1
            assert (result.exit_code == 0) == out.exists()
        assert {path.stem for path in tmp_path.glob("*.pdf")} == {
            *("panels", "compare", "radial-profile", "atlas", "learning-rate", "training-curves"),
            "evidence",
        }


def test_maps_that_are_zero(campaign, make_store, tmp_path):
    """No figure divides by the peak; the colour bar has one end, and no colour is drawn."""
    with campaign.trial("strange: maps of zero"):
        store = make_store(
            cams=np.zeros((12, 2, 24, 24), np.float32),
            attrs={"training": json.dumps(TRAINING), "config": json.dumps({"classes": BINS})},
        )
        few = ["stacked-maps", "radial-profile", "atlas"]
        assert draw_all(store, tmp_path, campaign.n(few, OF_STORE)) == {}
        render_figure("panels", store, Query(n=2), tmp_path / "p.png")
        render_figure("panels", store, Query(n=2), tmp_path / "p.pdf")
        with Image.open(tmp_path / "p.png") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        width = pixels.shape[1]
        middle = pixels[:, int(0.3 * width) : int(0.9 * width)]
        # Inferno is far from grey wherever it is drawn, the galaxies of this row are not.
        assert not (middle[..., 0] > middle[..., 2] + 90).any()
        assert np.isfinite(Table.read(tmp_path / "radial-profile.ecsv")["mean"]).all()


def write_scaled(source, target, factor):
    """Write a checkpoint whose logits are sums of activations times a factor, and return it."""
    checkpoint = load_checkpoint(source)
    linear = checkpoint.model.linear
    # All of one sign, so that no sum overflows before its end.
    linear.weight.data[:] = factor * torch.tensor([[1.0], [0.5]])
    linear.bias.data[:] = 0.0
    metadata = {key: value for key, value in checkpoint.metadata.items() if key != "format"}
    return save_checkpoint(target, checkpoint.model, metadata)


def test_numbers_that_are_not_finite(campaign, galaxy_folder, monkeypatch):
    """The galaxy whose logits overflow is named and left out; no store is made of none."""
    monkeypatch.chdir(galaxy_folder)
    write_settings(
        Path(),
        catalog={"path": "catalog.csv"},
        training={"epochs": 1, "batch_size": 8, "cutout_size": 32},
    )
    run("train", "--out", "model.safetensors", "-q")
    checkpoint = write_scaled(Path("model.safetensors"), Path("sum.safetensors"), 1.0)
    layer = checkpoint.model.get_submodule(checkpoint.layer_name)
    paths = sorted(Path("images").iterdir())
    images = np.stack([read_cutout(path, 32) for path in paths])
    logits = grad_cam(checkpoint.model, checkpoint.normalise(images), layer).logits
    peaks = logits.abs().amax(dim=1).double().numpy()
    second, first = np.sort(peaks)[-2:]
    with campaign.trial("strange: logits that are not finite"):
        factor = float(np.finfo(np.float32).max / np.sqrt(first * second))
        write_scaled(Path("model.safetensors"), Path("huge.safetensors"), factor)
        built = run("build-maps", "--model", "huge.safetensors", "--split", "all")
        with open_store("maps.h5") as store:
            worst = paths[int(peaks.argmax())].stem
            assert store.rejected == {worst: "the network gives numbers that are not finite"}
            assert np.isfinite(store.logits).all()
            assert len(store) == 23
        assert f"1 of 24 cutouts could not be explained, first: {worst}" in built.stderr
    with campaign.trial("strange: logits that are not finite"):
        assert peaks.min() > 1  # the largest weights overflow for every galaxy
        largest = float(np.finfo(np.float32).max)
        write_scaled(Path("model.safetensors"), Path("largest.safetensors"), largest)
        line = refuse("build-maps", "--model", "largest.safetensors", "--out", "none.h5")
        assert "none of 5 galaxies could be explained" in line
        assert "the network gives numbers that are not finite" in line
        assert not Path("none.h5").exists()
    with campaign.trial("strange: logits that are not finite"):
        with monkeypatch.context() as unguarded:
            unguarded.setattr("galfig.networks.checkpoint._find_not_finite", lambda _: "")
            write_scaled(Path("model.safetensors"), Path("nan.safetensors"), float("nan"))
        line = refuse("build-maps", "--model", "nan.safetensors", "--out", "none.h5")
        assert "linear.weight contains non-finite numbers" in line
        assert not Path("none.h5").exists()


SCRIPT = """
import locale, sys
from pathlib import Path
locale.setlocale(locale.LC_ALL, sys.argv[1])
from galfig.figures.registry import render_figure
from galfig.store.selection import Query
store, out = Path(sys.argv[2]), Path(sys.argv[3])
for name in sys.argv[4:]:
    suffix = Path(name).suffix or ".pdf"
    kind = Path(name).stem
    other = store.with_name("other maps.h5") if kind == "compare" else None
    zmin = None if kind in ("training-curves", "learning-rate") else 0.025
    path = out / f"{kind}{suffix}"
    data = path.with_suffix(".ecsv") if suffix == ".pdf" else None
    render_figure(kind, store, Query(n=None, zmin=zmin), path, other=other, data=data)
print(locale.localeconv()["decimal_point"])
"""


def start_drawing(store, out, names, *, locale="C", **env):
    """Start a process that draws figures; with another locale, environment and hash seed."""
    command = [sys.executable, "-c", SCRIPT, locale, str(store), str(out), *names]
    env = {**os.environ, **env}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def known_store(make_store):
    """Return a store in which everything is known, so that every figure can be drawn."""
    store = make_store(
        attrs={"training": json.dumps(TRAINING), "config": json.dumps({"classes": BINS})}
    )
    _disturb(store)
    return store


def read_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_processes_draw_the_same_bytes(campaign, known_store, tmp_path):
    """Every figure, caption and table, as PDF, PNG and SVG, whatever the order of Python's sets."""
    every = [f"{name}{suffix}" for name in OF_STORE for suffix in (".pdf", ".png", ".svg")]
    names = campaign.n(["panels.pdf", "reliability.svg"], every)
    folders = [tmp_path / "one", tmp_path / "two"]
    processes = [
        start_drawing(known_store, folder, names, PYTHONHASHSEED=seed)
        for folder, seed in zip(folders, ("1", "4242"), strict=True)
    ]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    one, two = map(read_files, folders)
    assert one.keys() == two.keys()
    assert len(one) > len(names)
    for name in one:
        with campaign.trial("strange: two processes, same bytes"):
            assert one[name] == two[name], name


@pytest.fixture
def german(tmp_path):
    """Return an environment with a locale of decimal commas, made here where it is absent."""
    have = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout
    if re.search(r"^de_DE\.utf-?8$", have, re.MULTILINE | re.IGNORECASE):
        return {}
    if shutil.which("localedef") is None:
        pytest.skip("no locale de_DE.UTF-8, and no localedef to make it")
    folder = tmp_path / "locales"
    folder.mkdir()
    command = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
    subprocess.run(command, capture_output=True, check=False)
    if not (folder / "de_DE.UTF-8").is_dir():
        pytest.skip("localedef has no de_DE")
    return {"LOCPATH": str(folder)}


def test_decimal_commas_stay_out(campaign, known_store, german, tmp_path):
    """In a German locale, with a matplotlibrc that asks for it, files are those of the C locale."""
    rc = tmp_path / "matplotlibrc"
    rc.write_text(
        "axes.formatter.use_locale: True\nfont.family: serif\ntext.usetex: True\n"
        "savefig.dpi: 30\nimage.cmap: jet\naxes.prop_cycle: cycler('color', ['r'])\n"
    )
    names = campaign.n(["reliability"], OF_STORE)
    plain = start_drawing(known_store, tmp_path / "plain", names)
    odd = start_drawing(
        known_store,
        tmp_path / "odd",
        names,
        locale="de_DE.UTF-8",
        **{**german, "MATPLOTLIBRC": str(rc), "LC_ALL": "de_DE.UTF-8"},
    )
    assert plain.communicate()[0].strip() == "."
    assert odd.communicate()[0].strip() == ","
    one, two = read_files(tmp_path / "plain"), read_files(tmp_path / "odd")
    assert one.keys() == two.keys()
    for name in one:
        with campaign.trial("strange: decimal commas"):
            assert one[name] == two[name], name


TERMINALS = {
    "dumb and narrow": {"TERM": "dumb", "COLUMNS": "1", "LINES": "1"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "no columns": {"TERM": "", "COLUMNS": "none"},
}


def test_terminals_that_lack_characters(campaign, odd_store, tmp_path):
    """Names that a terminal cannot show end no command, on stdout or in an error."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    folder = tmp_path / FOLDER
    commands = [
        (("info", odd_store), 0),
        (("render", odd_store, "--true", "星", "--out", folder / "f.pdf"), 1),
        (("render", odd_store, "--n", 30, "--overwrite", "--out", folder / "f.png"), 0),
    ]
    for kind in campaign.n(["ASCII", "C locale"], list(TERMINALS)):
        for args, expected in commands[: campaign.n(2, 3)]:
            with campaign.trial("strange: terminal"):
                done = subprocess.run(
                    [sys.executable, "-m", "galfig", *map(str, args)],
                    env=clean | TERMINALS[kind],
                    cwd=tmp_path,
                    capture_output=True,
                    stdin=subprocess.DEVNULL,
                    check=False,
                )
                assert done.returncode == expected, done.stderr.decode("utf-8", "replace")
                assert b"Traceback" not in done.stderr
                assert bool(done.stdout) == (expected == 0)


CLOSED = ["2>&-", "2>/dev/full", ">/dev/full", "<&-", ">&-", "<&- >&- 2>&-"]


def test_streams_that_are_closed(campaign, odd_galaxies):
    """Without stdin, stdout or stderr the work is done all the same; a full one is no traceback."""
    for number, closed in enumerate(CLOSED[: campaign.n(2, 6)]):
        with campaign.trial("strange: closed stream"):
            command = f'"$0" -m galfig simulate sim{number} --n 2 {closed}'
            done = subprocess.run(
                ["sh", "-c", command, sys.executable],
                cwd=odd_galaxies,
                capture_output=True,
                check=False,
            )
            assert b"Traceback" not in done.stderr
            assert (odd_galaxies / f"sim{number}" / "catalog.csv").is_file()
            if closed == ">/dev/full":
                assert done.returncode == 1
                line = b"galfig: error: stdout: cannot be written (No space left on device)\n"
                assert done.stderr.endswith(line)
            else:
                assert done.returncode == 0, done.stderr


def test_path_of_bytes_that_are_no_text(campaign, make_store, tmp_path):
    """A folder whose name is no UTF-8 is worked in, and printed as it can be."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    with campaign.trial("strange: path that is no text"):
        settings = {"classes": BINS, "catalog": {"path": str(folder / "catalog.csv")}}
        store = make_store(attrs={"config": json.dumps(settings)})
        store = store.rename(folder / "maps.h5")
        for suffix in campaign.n([".pdf"], [".pdf", ".png", ".svg"]):
            out = folder / f"f{suffix}"
            done = subprocess.run(
                [sys.executable, "-m", "galfig", "render", store, "--n", "2", "--out", out],
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert out.is_file()
        assert describe_file(store)["config"]["catalog"]["path"].startswith("/")
