"""The main job: what is refused before work begins, and where its options go."""

import contextlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from samples import make_checkpoint

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import ConfigError, GalfigError, OutputError
from galfig.images import cutouts
from galfig.networks import main as training
from galfig.networks.main import train
from galfig.pipeline import build, work
from galfig.pipeline.main import build_maps, build_parts, run_main_job
from galfig.runtime.options import RunOptions


@pytest.fixture
def job(galaxy_folder):
    settings = load_settings(None, {("catalog", "path"): galaxy_folder / "catalog.csv"})
    return load_galaxies(settings), settings


@pytest.fixture
def inputs(galaxy_folder, tmp_path):
    """Give a catalog, a network, and a folder of two."""
    model, folder = tmp_path / "model.safetensors", tmp_path / "networks"
    make_checkpoint(model)
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.safetensors").write_bytes(model.read_bytes())
    return galaxy_folder / "catalog.csv", model, folder


def test_device_that_is_absent_is_said_first(job, tmp_path, monkeypatch):
    """Not after hours of training, and not after a network was found that is there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    missing = tmp_path / "nosuch.safetensors"
    with pytest.raises(ConfigError, match="no CUDA device found"):
        run_main_job(*job, tmp_path / "a.h5", model=missing, run=RunOptions("cuda"))
    assert list(tmp_path.glob("a.*")) == []


def test_store_in_the_way_is_said_before_training(job, tmp_path, store_path, monkeypatch):
    """A file that may not be replaced costs no hours; a store that may be updated is kept."""
    (tmp_path / "a.h5").write_text("notes")
    monkeypatch.setattr("galfig.pipeline.main.load_or_train", lambda *args, **options: 1 / 0)
    for if_exists in ("error", "update"):
        with pytest.raises(OutputError, match="already exists"):
            run_main_job(*job, tmp_path / "a.h5", if_exists=if_exists)
    shutil.copy(store_path, tmp_path / "a.h5")
    for if_exists in ("update", "replace"):
        with pytest.raises(ZeroDivisionError):
            run_main_job(*job, tmp_path / "a.h5", if_exists=if_exists)


def refuse_to_read(monkeypatch):
    """Have any reading of a catalog or an image fail otherwise than with galfig's own errors."""
    monkeypatch.setattr("galfig.catalog.sample.load_galaxies", lambda *args, **options: 1 / 0)


TOML = """
[training]
{key} = "nosuch"
"""


@pytest.mark.parametrize(
    ("call", "options", "error"),
    [
        *(
            (call, {"device": "cuda:9"}, "no CUDA device")
            for call in (build_maps, build_parts, train)
        ),
        *(
            (call, {"device": "gpu"}, "expected 'auto'")
            for call in (build_maps, build_parts, train)
        ),
        *((call, {"model": "notes.txt"}, "notes.txt") for call in (build_maps, build_parts)),
        *((call, {"method": "x"}, "method") for call in (build_maps, build_parts)),
        *((call, {"split": "half"}, "`split`") for call in (build_maps, build_parts)),
        *(
            (call, {"out": "notes.txt"}, "already exists")
            for call in (build_maps, build_parts, train)
        ),
        *(
            (call, {"out": "notes.txt/a.h5"}, "is no folder")
            for call in (build_maps, build_parts, train)
        ),
        (build_maps, {"out": "notes.txt", "if_exists": "update"}, "already exists"),
        (build_maps, {"arch": "python:a:b"}, "`arch`"),
        (build_parts, {"shards": "x"}, "`shards`"),
        *(
            (call, {"key": key}, "nosuch")
            for call in (build_maps, train)
            for key in ("arch", "init")
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_can_be_refused_is_refused_before_the_catalog_is_read(
    call, options, error, galaxy_folder, monkeypatch
):
    """A catalog of ten million rows takes a minute; a wrong name should not."""
    options = dict(options)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("notes.txt").write_text("notes")
    if key := options.pop("key", None):
        Path("galfig.toml").write_text(TOML.format(key=key))
    if call is build_parts:
        make_checkpoint(Path("m.safetensors"))
        options = {"shards": "0", "model": "m.safetensors", **options}
    refuse_to_read(monkeypatch)
    with pytest.raises(GalfigError, match=error):
        call(galaxy_folder / "catalog.csv", **options)


@pytest.mark.parametrize("call", [build_maps, build_parts, train])
def test_the_catalog_is_read_when_nothing_is_refused(call, galaxy_folder, monkeypatch):
    """What says above that nothing was read can fail."""
    make_checkpoint(Path("m.safetensors"))
    options = {build_maps: {}, build_parts: {"shards": "0", "model": "m.safetensors"}, train: {}}
    refuse_to_read(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        call(galaxy_folder / "catalog.csv", "out.h5", **options[call])


def test_no_input_is_replaced(job, tmp_path, inputs):
    """Neither the catalog nor the network, whatever is asked."""
    catalog, model, folder = inputs
    for out, given in ((catalog, model), (model, model), (folder / "a.safetensors", folder)):
        before = out.read_bytes()
        with pytest.raises(OutputError, match="one of the inputs"):
            run_main_job(*job, out, model=given, if_exists="replace")
        assert out.read_bytes() == before
    with pytest.raises(OutputError, match="one of the inputs"):
        run_main_job(*job, tmp_path / "maps.safetensors")
    settings = job[1]
    with pytest.raises(OutputError, match="one of the inputs"):
        training.check_trained(settings, catalog, if_exists="replace")


def test_options_reach_who_needs_them(job, tmp_path, monkeypatch):
    """Threads and takeover are those that were asked for, in training and in explaining."""
    taken, opened = [], []

    def note_lock(path, *, takeover=False):
        taken.append((path.name, takeover))
        return contextlib.nullcontext(SimpleNamespace(check=lambda: None))

    def note_workers(n_workers=None):
        opened.append(n_workers)
        return open_workers(n_workers)

    def note_reading(*args, n_workers=None, **options):
        opened.append(n_workers)
        return iter_cutouts(*args, n_workers=n_workers, **options)

    def train(*args, run, **options):
        assert run == asked
        return make_checkpoint(tmp_path / "a.safetensors")

    iter_cutouts, open_workers = cutouts.iter_cutouts, work.open_workers
    for module in (training, build, work):
        monkeypatch.setattr(module, "hold_lock", note_lock)
    monkeypatch.setattr(work, "open_workers", note_workers)
    monkeypatch.setattr(cutouts, "iter_cutouts", note_reading)
    monkeypatch.setattr(training, "train_network", train)
    asked = RunOptions("cpu", n_workers=3, takeover=True)
    run_main_job(*job, tmp_path / "a.h5", run=asked)
    assert taken == [("a.safetensors", True), ("a.h5", True), ("000000.h5", True)]
    assert opened == [3, 3]
