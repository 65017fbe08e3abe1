"""Fixtures: networks, analytic galaxies, small stores, a paper; and where real galaxies may be."""

import copy
import json
import logging
import os
import pickle
import shutil
import signal
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from campaign import Campaign
from paper import MANIFEST
from PIL import Image
from samples import (
    HISTORY,
    LOSSES,
    RATES,
    build_at,
    combine_galaxies,
    describe_networks,
    draw_galaxy,
    draw_networks,
    join_parts,
    make_attributes,
    make_checkpoint,
    make_part,
    make_tiny_cnn,
)

# Real SDSS galaxies do not ship with galfig; tests that use them skip where they are absent.
REAL_DATA = Path(
    os.environ.get("GALFIG_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


_CAMPAIGN = pytest.StashKey[Campaign]()


def pytest_addoption(parser):
    parser.addoption(
        "--campaign",
        choices=["short", "full"],
        default="short",
        help="how often each kind of fault is tried",
    )
    parser.addoption(
        "--minutes",
        type=float,
        default=0.2,
        help="for how long random networks are compared; see tests/differential.py",
    )


def pytest_configure(config):
    # A shell has its background jobs ignore Ctrl-C, and so would the commands that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_CAMPAIGN] = Campaign(is_full=config.getoption("--campaign") == "full")


def pytest_itemcollected(item):
    """Have every test that counts trials be part of the campaign."""
    if "campaign" in item.fixturenames:
        item.add_marker(pytest.mark.faults)


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


def pytest_terminal_summary(terminalreporter, config):
    """Print what was tried and what survived, where any fault was."""
    campaign = config.stash[_CAMPAIGN]
    if campaign.tried:
        terminalreporter.section("faults")
        terminalreporter.write("\n".join(campaign.write_table()) + "\n")


@pytest.fixture(autouse=True)
def library_logger():
    """Have a test find the logger as the library leaves it, whatever a command did before."""
    logger = logging.getLogger("galfig")
    logger.propagate, logger.handlers = True, []
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def campaign(request):
    """Count trials by kind of fault; see `campaign.Campaign`."""
    return request.config.stash[_CAMPAIGN]


@pytest.fixture(autouse=True)
def _work_in_an_empty_folder(tmp_path_factory, monkeypatch):
    """Keep the repository's galfig.toml out of the tests, and their files out of the repository."""
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))


@pytest.fixture(autouse=True)
def _reset_rcparams():
    """Leave matplotlib's settings as each test found them."""
    with mpl.rc_context():
        yield


@pytest.fixture
def real_data():
    """Give the folder of a set of real galaxies, or skip."""

    def folder(name: str) -> Path:
        if not (REAL_DATA / name / "catalog.csv").is_file():
            pytest.skip(f"no real galaxies in {REAL_DATA / name}")
        return REAL_DATA / name

    return folder


@pytest.fixture(scope="session")
def drawn_galaxies(tmp_path_factory):
    """Write the galaxies of `galaxy_folder` once."""
    folder = tmp_path_factory.mktemp("drawn") / "galaxies"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(1)
    rows = []
    for index in range(24):
        objid = str(1237665024900858129 + index)
        is_high = index % 2 == 1
        cutout = draw_galaxy(width=rng.uniform(4, 8), red=1.6 if is_high else 0.6)
        Image.fromarray(cutout).save(folder / "images" / f"{objid}.jpg", quality=95)
        oh = (9.2 if is_high else 8.4) + rng.uniform(-0.05, 0.05)
        rows.append({"objID": objid, "z": round(0.02 + 0.004 * index, 4), "oh_p50": round(oh, 4)})
    pd.DataFrame(rows).to_csv(folder / "catalog.csv", index=False)
    return folder


@pytest.fixture
def galaxy_folder(tmp_path, drawn_galaxies):
    """Give 24 galaxies, blue of low and red of high metallicity, and their catalog."""
    return Path(shutil.copytree(drawn_galaxies, tmp_path / "galaxies"))


@pytest.fixture
def tiny_cnn():
    """Return a seeded CNN in evaluation mode, with running statistics that are not trivial."""
    return make_tiny_cnn()


def _write_store(
    path: Path,
    *,
    n: int = 12,
    size: int = 24,
    map_size: int = 24,
    class_names: tuple[str, ...] = ("low", "high"),
    quantity: str = "metallicity",
    attrs: dict | None = None,
    catalog: dict | None = None,
    seed: int = 0,
    n_networks: int = 1,
    **replaced: np.ndarray | None,
) -> Path:
    """Write a small store; of several networks, by what is computed of their maps."""
    from galfig.store.writer import write_part

    rng = np.random.default_rng(seed)
    n_classes = len(class_names)
    logits = rng.normal(0, 3, (n, n_classes)).astype(np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    objid = np.array([str(1237665024900858100 + index) for index in range(n)], dtype=object)
    arrays = {
        "objid": objid,
        "redshift": np.linspace(0.02, 0.13, n),
        "label": (np.arange(n) % n_classes).astype(np.int16),
        "split": np.full(n, "valid", dtype=object),
        "image_digest": np.arange(1, n + 1, dtype=np.uint64),
        "value": np.linspace(8.2, 9.3, n),
        "logits": logits,
        "probs": probs,
        "cutouts": np.stack([draw_galaxy(size, red=0.8 + 0.05 * i) for i in range(n)]),
    }
    cams = replaced.pop("cams", None)
    if cams is None:
        cams = rng.normal(0, 1e-3, (n, n_classes, map_size, map_size)).astype(np.float32)
    spreads: dict = {}
    if n_networks > 1:
        cams, combined, spreads = combine_galaxies(*draw_networks(cams, logits, n_networks))
        arrays |= combined
    # What is drawn before keeps its values.
    arrays["features"] = np.random.default_rng(seed + 100).gamma(2, 1, (n, 6)).astype(np.float32)
    arrays |= replaced
    if arrays["features"] is None:
        del arrays["features"]
    part = path.with_name(f"{path.name}.part")
    write_part(part, make_part(arrays, cams, spreads=spreads), "digest")
    columns = {"objID": arrays["objid"], "z": arrays["redshift"], **(catalog or {})}
    join_parts(
        path,
        [part],
        pd.DataFrame(columns, index=arrays["objid"]),
        make_attributes(class_names, n, size, quantity)
        | (describe_networks(n_networks) if n_networks > 1 else {})
        | (attrs or {}),
    )
    part.unlink()
    return path


@pytest.fixture(scope="session")
def _find_store(tmp_path_factory):
    """Give a function that writes a store once for each set of options."""
    folder, written = tmp_path_factory.mktemp("stores"), {}

    def find(options: dict) -> Path:
        key = pickle.dumps(options)
        if key not in written:
            written[key] = _write_store(folder / f"{len(written)}.h5", **options)
        return written[key]

    return find


@pytest.fixture
def make_store(tmp_path, _find_store):
    """Give a function that makes a small store; its keywords replace the defaults."""

    def make(name: str = "maps.h5", **options) -> Path:
        return Path(shutil.copyfile(_find_store(options), tmp_path / name))

    return make


@pytest.fixture
def store_path(make_store):
    """Write the small store with its defaults."""
    return make_store()


@pytest.fixture
def store(store_path):
    """Open the small store of twelve galaxies."""
    from galfig.store.reader import open_store

    with open_store(store_path) as opened:
        yield opened


@pytest.fixture
def trained_store(make_store):
    """Write a small store that knows its classes and how its network was trained."""
    classes = {
        "column": "oh_p50",
        "edges": [8.1, 8.7, 9.1, 9.3],
        "labels": ["low", "medium", "high"],
        "name": "metallicity",
    }
    training = {
        "arch": "conv3",
        "n_train": {"low": 20, "high": 22},
        "simulated": True,
        "history": HISTORY,
        "lr": 0.01,
        "lr_finder": {"lr": RATES.tolist(), "loss": LOSSES.tolist()},
    }
    return make_store(
        attrs={"training": json.dumps(training), "config": json.dumps({"classes": classes})}
    )


@pytest.fixture
def other_store(make_store):
    """Write a store of the same galaxies and classes, explained by another network."""
    return make_store("other.h5", seed=1, attrs={"checkpoint_sha256": "e" * 64})


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """Write the checkpoint of an untrained conv3 once."""
    path = tmp_path_factory.mktemp("network") / "model.safetensors"
    return path, make_checkpoint(path)


@pytest.fixture(scope="session")
def forms(tmp_path_factory, drawn_galaxies, untrained):
    """Build a store of each form once, beside its network and the folder of its galaxies."""
    folder = tmp_path_factory.mktemp("forms")
    shutil.copytree(drawn_galaxies, folder / "galaxies")
    shutil.copyfile(untrained[0], folder / "model.safetensors")
    for form in ("full", "native", "statistics"):
        build_at(folder / f"{form}.h5", folder / "galaxies", untrained[1], store=form)
    return folder


@pytest.fixture
def checkpoint(tmp_path, untrained):
    """Write and return the checkpoint of an untrained conv3."""
    path, made = untrained
    shutil.copyfile(path, tmp_path / path.name)
    return copy.deepcopy(made)


@pytest.fixture
def paper(make_store, tmp_path):
    """Return a manuscript's folder, its store there, nothing drawn yet."""
    folder = tmp_path / "paper"
    folder.mkdir()
    make_store().rename(folder / "maps.h5")
    (folder / "manuscript.toml").write_text(MANIFEST)
    return folder


@pytest.fixture
def shared_device(monkeypatch):
    """Return a function that has threads take turns at the processor, as they do at a GPU."""
    from galfig.attribution import engine

    prepare = engine.Engine.__init__
    monkeypatch.setattr(engine, "CUDA_BATCH", 8)

    def share(is_shared: bool = True) -> None:
        def prepare_shared(self, *args, **options):
            prepare(self, *args, **options)
            self.takes_turns = is_shared

        monkeypatch.setattr(engine.Engine, "__init__", prepare_shared)

    return share
