"""The public face: what ``import galfig`` offers, and the way from a catalog to a figure."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import galfig
from galfig.errors import CheckpointError, ConfigError, OutputError

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebooks" / "first-look.ipynb"
# As the documentation writes it; the store is made by the test.
TEN_LINES = """
import galfig
store = galfig.open_store("maps.h5")
print(store)
rows = store.select("oh_p50 > 8.3", true="high", correct=False, sort="loss", n=5)
print(store.table.iloc[rows][["split", "true", "predicted", "p", "loss"]])
assert store.cams(rows).shape[:2] == (len(rows), 2)
assert store.evidence(rows).shape[0] == len(rows)
fig = galfig.plot.panels(store, rows)
print(fig.caption)
fig.save("f.pdf")
from matplotlib.figure import Figure
galfig.plot.roc(store, ax=Figure().subplots())
"""


def run(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def catalog(galaxy_folder):
    """Load 24 galaxies, blue and red, with cutouts of 48 pixels."""
    settings = {"training": {"cutout_size": 48, "batch_size": 8, "epochs": 2, "lr": 0.02}}
    return galfig.load_catalog(galaxy_folder / "catalog.csv", settings=settings)


def make_network(n_classes=2):
    """Return a network that galfig did not make, with a forward of its own."""
    import torch
    from torch import nn

    class Foreign(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3))
            self.head = nn.Linear(8, n_classes)

        def forward(self, images):
            return self.head(torch.relu(self.body(images)).mean(dim=(2, 3)))

    torch.manual_seed(0)
    return Foreign().eval()


NORMALISATION = {"mean": [0.1, 0.1, 0.1], "std": [0.2, 0.2, 0.2], "cutout_size": 48}


def test_import_brings_nothing_heavy(tmp_path):
    """`import galfig` and dir() import no library at all; each name comes when it is asked for."""
    code = (
        "import sys; before = set(sys.modules); import galfig; names = dir(galfig)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names), set(galfig.__all__) <= set(names))\n"
        "galfig.open_store; print('torch' in sys.modules, 'fastai' in sys.modules)"
    )
    assert run(code, tmp_path) == "['galfig'] True\nFalse False\n"


def test_every_name_is_there():
    """And others are refused as by any module."""
    for name in galfig.__all__:
        assert getattr(galfig, name) is not None
        assert getattr(galfig, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'open_stroe'"):
        galfig.open_stroe  # noqa: B018


def test_no_name_is_that_of_another_module():
    """Once a module is imported, the package has it under its name, whatever else was there."""
    modules = {module.name for module in pkgutil.iter_modules(galfig.__path__)}
    for name in modules & set(galfig._PLACES):
        assert galfig._PLACES[name] == f"galfig.{name}"


def test_types_know_every_name():
    """The names for type checkers, the list and the places are the same."""
    words = Path(galfig.__file__).read_text()
    imported = {line.split()[-1] for line in words.splitlines() if line.startswith("    from ")}
    assert imported == set(galfig.__all__) == set(galfig._PLACES)


@pytest.mark.slow
def test_the_ten_lines_run_as_written(make_store, tmp_path):
    """In a plain process, on a store in the working directory."""
    make_store(catalog={"oh_p50": np.linspace(8.2, 9.3, 12)})
    printed = run(TEN_LINES, tmp_path)
    assert "Grad-CAM maps of" in printed
    for name in ("f.pdf", "f.tex", "f.txt", "f.alt.txt"):
        assert (tmp_path / name).stat().st_size


def test_from_catalog_to_figure(catalog, tmp_path):
    """Train, explain and draw, each in a line; the catalog carries its settings."""
    trained = galfig.train(catalog, tmp_path / "model.safetensors", epochs=1)
    assert trained.metadata["settings"]["training"]["epochs"] == 1
    assert trained.metadata["settings"]["training"]["cutout_size"] == 48
    store = galfig.build_maps(
        catalog, tmp_path / "maps.h5", model=tmp_path / "model.safetensors", split="all"
    )
    assert len(store) == 24
    assert store.record.checkpoint_sha256 == trained.digest
    assert len(store) == 24
    # Those that trained the network are not counted.
    assert galfig.plot.confusion_matrix(store).data["n"].sum() == 5
    every = galfig.plot.confusion_matrix(store, store.select(split="all"))
    assert every.data["n"].sum() == 24
    with pytest.raises(OutputError, match="already exists"):
        galfig.train(catalog, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        galfig.train(catalog, tmp_path / "other.safetensors", epoch=3)


def test_a_network_of_ones_own_needs_no_conversion(catalog, tmp_path):
    """Its maps are those of grad_cam, and nothing is said of a training that nobody knows."""
    import torch

    from galfig.images.cutouts import read_cutout
    from galfig.networks.checkpoint import normalise

    model = make_network()
    store = galfig.build_maps(
        catalog, tmp_path / "maps.h5", model=model, layer="body.2", **NORMALISATION
    )
    assert len(store) == 24
    cutouts = np.stack([read_cutout(path, 48) for path in catalog.paths[:3]])
    images = normalise(cutouts, NORMALISATION["mean"], NORMALISATION["std"])
    expected = galfig.grad_cam(model, images, model.body[2])
    found = torch.from_numpy(store.cams(slice(0, 3)))
    assert (found - expected.cams).abs().max() <= 2**-10 * expected.cams.abs().max()
    np.testing.assert_allclose(store.logits[:3], expected.logits, rtol=1e-4, atol=1e-6)
    caption = galfig.plot.panels(store).caption
    assert "The network, Foreign, was not trained by galfig" in caption
    assert "was not trained by galfig" in repr(store)
    assert "validation" not in caption + repr(store)


@pytest.mark.slow
def test_weights_and_normalisation_are_part_of_the_plan(catalog, tmp_path):
    """Another network, or another normalisation, is another store."""
    path = tmp_path / "maps.h5"
    galfig.build_maps(catalog, path, model=make_network(), **NORMALISATION)
    galfig.build_maps(catalog, path, model=make_network(), **NORMALISATION)
    other = {**NORMALISATION, "mean": [0.0, 0.0, 0.0]}
    with pytest.raises(OutputError, match="built from another catalog, network"):
        galfig.build_maps(catalog, path, model=make_network(), **other)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"mean": None}, TypeError, "needs `mean`"),
        ({"mean": [0.1]}, ConfigError, "`std`: 3 numbers, expected 1"),
        ({"std": [0.1, 0.0, 0.1]}, ConfigError, "`std`: input should be greater"),
        ({"class_names": ["low", "high", "more"]}, ConfigError, "expected logits"),
        ({"class_names": ["left", "right"]}, CheckpointError, "expected those of the settings"),
        ({"layer": "bodi.2"}, ConfigError, "did you mean 'body.2'"),
        ({"cutout_size": 0}, ConfigError, "`cutout_size`"),
    ],
)
def test_what_does_not_fit_a_network_is_named(catalog, tmp_path, change, error, words):
    """Before any image is read, and nothing is written."""
    options = {**NORMALISATION, **change}
    with pytest.raises(error, match=words):
        galfig.build_maps(catalog, tmp_path / "maps.h5", model=make_network(), **options)
    assert not list(tmp_path.glob("maps.h5*"))


def test_training_mode_is_refused(catalog, tmp_path):
    """Batch statistics would mix the galaxies of a batch."""
    with pytest.raises(ConfigError, match="in training mode"):
        galfig.build_maps(catalog, tmp_path / "m.h5", model=make_network().train(), **NORMALISATION)


def test_checkpoints_have_statistics_of_their_own(catalog, tmp_path):
    """Those given beside one would be ignored."""
    with pytest.raises(TypeError, match="has its own classes, statistics and sizes"):
        galfig.build_maps(catalog, tmp_path / "m.h5", model="model.safetensors", **NORMALISATION)


@pytest.mark.parametrize(
    ("option", "error", "words"),
    [
        (
            {"split": "some"},
            ConfigError,
            "`split` 'some': expected one of 'valid', 'train', 'test', 'all'",
        ),
        ({"if_exists": "overwrite"}, ConfigError, "`if_exists` 'overwrite'"),
        ({"device": "gpu"}, ConfigError, "`device` 'gpu'"),
        ({"model": print}, TypeError, "`model` is a builtin_function_or_method"),
    ],
)
def test_words_that_mean_nothing_are_refused(catalog, tmp_path, option, error, words):
    """Before anything is made."""
    with pytest.raises(error, match=words):
        galfig.build_maps(catalog, tmp_path / "maps.h5", **option)
    assert not list(tmp_path.glob("maps*"))


def test_objects_show_themselves_in_a_line(catalog, tmp_path):
    """In a notebook too."""
    assert repr(catalog).startswith("<Galaxies: 24 (12 low, 12 high)")
    trained = galfig.train(catalog, tmp_path / "m.safetensors", epochs=1)
    assert repr(trained).startswith("<Checkpoint: conv3 for low, high, explains layer conv3")


@pytest.mark.slow
def test_notebook_runs(tmp_path):
    """Every cell of the notebook, in an empty folder, by the kernel that a reader would use."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4
