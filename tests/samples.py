"""Samples that tests are made of: galaxies, tiny networks, short trainings, parts of a store.

Imports what is heavy where it is used, so that a test of conditions does not wait for torch.
"""

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from galfig.config import load_settings
from galfig.runtime.options import RunOptions

if TYPE_CHECKING:
    from torch import nn

    from galfig.store.writer import Part

# An identifier of SDSS: a float64 would lose the last of its 19 digits.
OBJID = "1237665024900858129"

# All that a checkpoint must say of itself.
METADATA = {
    "arch": "conv3",
    "class_names": ["low", "high"],
    "layer": "conv3",
    "cutout_size": 32,
    "image_size": 32,
    "mean": [0.1] * 3,
    "std": [0.1] * 3,
}

# What "galfig fetch sdss" records of a folder.
FETCHED = {
    "service": "sdss",
    "release": "dr18",
    "address": "https://skyserver.sdss.org/dr18",
    "is_mirror": False,
    "catalog": "catalog.csv",
    "images": "images/{objID}.jpg",
    "query": "SELECT TOP 10 objID FROM Galaxy",
    "pixel_scale": 0.396,
    "size": 96,
    "is_north_up": True,
    "first": "2026-11-25",
    "last": "2026-11-26",
    "n": 12,
    "n_failed": 1,
    "galfig_version": "0.1.0",
}

# The history of a training, and the curve of its learning-rate finder.
HISTORY = [
    {"train_loss": 0.7, "valid_loss": 0.6, "accuracy": 0.6, "roc_auc": 0.7, "f1": 0.55},
    {"train_loss": 0.5, "valid_loss": 0.5, "accuracy": 0.8, "roc_auc": 0.9, "f1": 0.79},
]
RATES = np.geomspace(1e-7, 10, 100)
LOSSES = 0.7 - 0.3 * np.exp(-((np.log10(RATES) + 1) ** 2)) + np.maximum(0, RATES - 3)

# Where the results of a test are to have the same bits on every machine.
CPU = RunOptions(device="cpu")


def draw_galaxy(
    size: int = 48, *, center: tuple[float, float] = (0.0, 0.0), width: float = 6.0, red: float = 1
) -> np.ndarray:
    """Draw a round Gaussian galaxy, (size, size, 3) uint8; ``red`` is its red over blue flux."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    light = np.exp(-0.5 * ((x - center[0]) ** 2 + (y - center[1]) ** 2) / width**2)
    rgb = 180 * light[..., None] * np.array([red, 1.0, 1 / red]) / max(red, 1 / red)
    return np.clip(rgb + 12, 0, 255).astype(np.uint8)


def make_tiny_cnn(n_classes: int = 2) -> "nn.Sequential":
    """Return a seeded CNN in evaluation mode, with running statistics that are not trivial."""
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, n_classes),
        )
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
    return model.eval()


def make_part(
    arrays: dict, cams: np.ndarray, rejected: dict | None = None, spreads: dict | None = None
) -> "Part":
    """Make a part of plain arrays, ``cutouts`` among them, and of standard deviations of maps."""
    from galfig.store.chunks import encode_galaxy
    from galfig.store.writer import Part

    cutouts, spreads = arrays["cutouts"], spreads or {}
    return Part(
        {name: array for name, array in arrays.items() if name != "cutouts"},
        [
            encode_galaxy(*pair, {name: maps[row] for name, maps in spreads.items()})
            for row, pair in enumerate(zip(cams, cutouts, strict=True))
        ],
        cams.shape[1:],
        cutouts.shape[1:],
        rejected or {},
        spread_shapes={name: maps.shape[1:] for name, maps in spreads.items()},
    )


def draw_networks(cams: np.ndarray, logits: np.ndarray, n_networks: int) -> tuple:
    """Draw maps (K, N, C, h, w) and logits of networks that scatter about some.

    Their mean is not exactly that.
    """
    rng = np.random.default_rng(7)
    scatter = 0.5 * np.std(cams)
    maps = cams + rng.normal(0, scatter, (n_networks, *cams.shape))
    shifted = logits + rng.normal(0, 0.3, (n_networks, *logits.shape))
    return maps.astype(np.float32), shifted.astype(np.float32)


def combine_galaxies(cams: np.ndarray, logits: np.ndarray, **options) -> tuple:
    """Combine networks galaxy by galaxy: mean maps (N, C, h, w), arrays, and spreads by dataset."""
    from galfig.pipeline.spread import combine_networks

    found = [
        combine_networks(cams[:, row], logits[:, row], **options) for row in range(cams.shape[1])
    ]
    mean = np.stack([one.logits for one in found])
    arrays = {name: np.stack([one.numbers[name] for one in found]) for name in found[0].numbers}
    arrays["agreement"] = arrays["agreement"].astype(np.float32)
    shifted = np.exp(mean.astype(np.float64) - mean.max(axis=1, keepdims=True))
    arrays["logits"] = mean
    arrays["probs"] = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    spreads = {name: np.stack([one.spreads[name] for one in found]) for name in found[0].spreads}
    return np.stack([one.cams for one in found]), arrays, spreads


def describe_networks(n_networks: int) -> dict:
    """Return the root attributes of an ensemble's store that one of a single network lacks."""
    networks = [
        {
            "checkpoint_sha256": f"{number:064x}",
            "seeds": {"split": 256, "training": 256 + number},
            "lr": 0.01,
            "history": [
                {name: value + 0.01 * number for name, value in epoch.items()} for epoch in HISTORY
            ],
            "metrics": {"accuracy": 0.8 + 0.01 * number, "majority_share": 0.5},
        }
        for number in range(n_networks)
    ]
    return {"n_networks": n_networks, "networks": json.dumps(networks)}


def make_attributes(
    class_names: tuple[str, ...] = ("low", "high"),
    n: int = 12,
    size: int = 24,
    quantity: str = "metallicity",
) -> dict:
    """Return the root attributes of a store of n galaxies with cutouts of ``size`` pixels."""
    return {
        "galfig_version": "0.1.0",
        "torch_version": "2.0",
        "created": "2026-01-01T00:00:00+00:00",
        "plan_digest": "digest",
        "catalog_sha256": "c" * 64,
        "checkpoint_sha256": "d" * 64,
        "class_names": json.dumps(class_names),
        "class_counts": json.dumps(dict.fromkeys(class_names, n // len(class_names))),
        "target_layer": "conv3",
        "split": "valid",
        "cutout_size": size,
        "pixel_scale": 0.396,
        "simulated": True,
        "config": json.dumps({"classes": {"name": quantity}}),
        "training": json.dumps(
            {"arch": "conv3", "n_train": {"low": 20, "high": 22}, "simulated": True}
        ),
    }


class Galaxies(NamedTuple):
    """The plain arrays that a part is made of."""

    arrays: dict
    cams: np.ndarray
    rejected: dict

    def write(self, path):
        from galfig.store.writer import write_part

        write_part(path, make_part(*self), "digest")


def draw_galaxies(start, stop, *, rejected=None, scale=1.0):
    """Draw the galaxies of a part at random, with maps of the order of ``scale``."""
    n = stop - start
    rng = np.random.default_rng(start)
    arrays = {
        "objid": np.array([f"g{index}" for index in range(start, stop)], dtype=object),
        "redshift": np.arange(start, stop) / 100,
        "label": np.zeros(n, np.int16),
        "split": np.full(n, "valid", dtype=object),
        "image_digest": np.arange(1, n + 1, dtype=np.uint64),
        "value": np.full(n, np.nan),
        "logits": np.zeros((n, 2), np.float32),
        "probs": np.full((n, 2), 0.5, np.float32),
        "cutouts": rng.integers(0, 256, (n, 10, 10, 3), dtype=np.uint8),
    }
    cams = (scale * rng.normal(size=(n, 2, 6, 6))).astype(np.float32)
    return Galaxies(arrays, cams, rejected or {})


def merge(tmp_path, parts, catalog=None, name="maps.h5"):
    """Write the parts and merge them into a store; return its path."""
    import pandas as pd

    paths = []
    for index, part in enumerate(parts):
        paths.append(tmp_path / f"{name}-{index}.h5")
        part.write(paths[-1])
    objid = [objid for part in parts for objid in [*part.arrays["objid"], *part.rejected]]
    table = pd.DataFrame({"objID": objid}, index=objid) if catalog is None else catalog
    attrs = make_attributes(("a", "b"), size=10)
    join_parts(tmp_path / name, paths, table, attrs, {"early": "no class"})
    return tmp_path / name


def join_parts(path, parts, table, attrs, rejected=None, **options):
    """Merge files of parts into a store with this catalog and these root attributes."""
    from galfig.store.merging import merge_parts
    from galfig.store.outline import Outline, write_outline

    outline = path.with_name(f"{path.name}.outline")
    described = Outline(attrs, len(table), 1000, "")
    write_outline(outline, described, [str(objid) for objid in table.index], table, rejected or {})
    try:
        return merge_parts(path, parts, outline, **options)
    finally:
        outline.unlink()


def note_progress(monkeypatch, module):
    """Have a module show its progress to a list: task, total, where it began and where it ended."""
    noted = []

    @contextmanager
    def show(task, total, unit, *, initial=0):
        shown = {"task": task, "total": total, "initial": initial, "done": initial}
        noted.append(shown)

        def advance(n):
            shown["done"] += n

        yield advance

    monkeypatch.setattr(module, "show_progress", show)
    return noted


def make_checkpoint(path, class_names=("low", "high"), image_size=16, n_channels=3, galaxies=None):
    """Write the checkpoint of an untrained conv3, which may say that it knows galaxies."""
    import torch

    from galfig.networks.architectures import build_network
    from galfig.networks.checkpoint import save_checkpoint
    from galfig.networks.membership import record_members

    torch.manual_seed(0)
    metadata = {
        "arch": "conv3",
        "class_names": list(class_names),
        "layer": "conv3",
        "cutout_size": 32,
        "image_size": image_size,
        "mean": [0.2] * n_channels,
        "std": [0.1] * n_channels,
        "n_train": {"low": 10, "high": 9},
        "simulated": False,
    }
    if galaxies is not None:
        metadata["members"] = record_members(galaxies)
    return save_checkpoint(path, build_network("conv3", len(class_names), n_channels), metadata)


def make_settings(folder, **training):
    """Return settings for the catalog in a folder and a short training."""
    overrides = {("catalog", "path"): folder / "catalog.csv"}
    training = {"epochs": 1, "batch_size": 8, "cutout_size": 32, **training}
    overrides |= {("training", key): value for key, value in training.items()}
    return load_settings(None, overrides)


def train(galaxies, settings, path):
    """Read the images and train."""
    from galfig.networks.training import train_network
    from galfig.networks.training_set import read_training_set

    return train_network(*read_training_set(galaxies, settings), settings, path, run=CPU)


def load_with_settings(folder, **maps):
    """Load the galaxies of a folder; return them with the settings, whose ``[maps]`` are given."""
    from galfig.catalog.galaxies import load_galaxies

    overrides = {("catalog", "path"): folder / "catalog.csv"}
    overrides |= {("maps", key): value for key, value in maps.items()}
    settings = load_settings(None, overrides)
    return load_galaxies(settings), settings


def build_at(path, folder, checkpoint, *, split="all", if_exists="error", **maps):
    """Build the store of the galaxies of a folder; return whether there was anything to do."""
    from galfig.pipeline.build import build_store
    from galfig.pipeline.plan import make_plan

    galaxies, settings = load_with_settings(folder, **maps)
    plan = make_plan(galaxies, settings, checkpoint, split)
    return build_store(plan, checkpoint, path, if_exists=if_exists, run=CPU)


def explain_at(path, folder, checkpoint, shards, *, split="all", if_exists="error", **maps):
    """Make the parts of some shards of the galaxies of a folder; return their numbers."""
    from galfig.pipeline.build import explain_chosen
    from galfig.pipeline.plan import make_plan

    galaxies, settings = load_with_settings(folder, **maps)
    plan = make_plan(galaxies, settings, checkpoint, split)
    return explain_chosen(plan, checkpoint, path, shards, if_exists=if_exists, run=CPU)


def build_with(path, folder, checkpoint, *, shard_size=5, chosen=None, lost=None, **run):
    """Build the store of a folder, or some parts, as options of `RunOptions` say.

    The file of the network is beside the folder. An image may be lost when the plan is made.
    """
    from galfig.pipeline.build import build_store, explain_chosen
    from galfig.pipeline.plan import make_plan
    from galfig.pipeline.tasks import NetworkFile

    galaxies, settings = load_with_settings(folder, shard_size=shard_size)
    plan = make_plan(galaxies, settings, checkpoint, "all")
    if lost is not None:
        plan.galaxies.paths[lost].unlink()
    options = {
        "run": RunOptions(device="cpu", **run),
        "network": NetworkFile(folder.parent / "model.safetensors"),
    }
    if chosen is not None:
        return explain_chosen(plan, checkpoint, path, chosen, **options)
    return build_store(plan, checkpoint, path, **options)


def list_figures():
    """Return the names of the figures that a store alone, or two, are enough for."""
    from galfig.figures.registry import FIGURES

    return [
        name
        for name, kind in FIGURES.items()
        if kind.source == "store" and "audit" not in kind.options
    ]


def make_measured(name="deletion", n=12, seed=0, **changed):
    """Return what a measure could have found: two numbers, two controls, curves and columns."""
    from galfig.records import Estimate, Measured

    rng = np.random.default_rng(seed)

    def estimate(value):
        return Estimate(value=value, low=value - 0.05, high=value + 0.04, n=n)

    share = np.linspace(0, 1, 11)
    given = {
        "numbers": {"area": estimate(0.46), "excess over light": estimate(0.39)},
        "controls": {"random": estimate(0.62), "brightness": estimate(0.52)},
        "curves": {"share": share.tolist(), "map": (1 - share**0.5).tolist()},
        "per_galaxy": {"area": rng.random(n).tolist(), "excess over light": [np.nan] * n},
        "notes": ("Blurred maps do about as well.",),
        "supports": "Something.",
        "not_supported": "Nothing more.",
    }
    return Measured(name=name, **{**given, **changed})


def write_small_audit(path, measures=None, *, n=12, seed=0, plan_digest="digest", verdict=()):
    """Write an audit of the small store of the fixtures, without measuring anything; return it."""
    from galfig.runtime.documents import dump_json
    from galfig.store.audits import GalaxyColumn, name_column, open_audit, write_audit

    measures = {"deletion": make_measured(n=n)} if measures is None else measures
    rng = np.random.default_rng(seed)
    objid = np.array([str(1237665024900858100 + index) for index in range(n)], dtype=object)
    columns = {
        "objid": GalaxyColumn(objid, "identifier, as in the catalog"),
        "split": GalaxyColumn(np.array(["valid"] * n, dtype=object), "split"),
        "true": GalaxyColumn(np.array(["low", ""] * (n // 2), dtype=object), "true class"),
        "predicted": GalaxyColumn(np.array(["high"] * n, dtype=object), "predicted class"),
        "centroid_distance": GalaxyColumn(rng.random(n), "distance", "pix"),
        "brightness_correlation": GalaxyColumn(rng.normal(size=n), "correlation with brightness"),
    }
    for measure, found in measures.items():
        for name, values in found.per_galaxy.items():
            columns[name_column(measure, name)] = GalaxyColumn(np.array(values), f"{name}")
    store = {
        "plan_digest": plan_digest,
        "catalog_sha256": "c" * 64,
        "checkpoint_sha256": "d" * 64,
        "content": {"maps": "m" * 64},
        "class_names": ["low", "high"],
        "target_layer": "conv3",
        "method": "grad-cam",
        "arch": "conv3",
        "simulated": True,
        "n_galaxies": n,
    }
    attrs = {
        "galfig_version": "0.1.0",
        "audit_digest": "a" * 64,
        "store": dump_json(store),
        "checkpoints": dump_json(["d" * 64]),
        "n_asked": n,
        "seed": 256,
        "n_trained": 3,
        "n_unknown": 0,
        "keys": dump_json(dict.fromkeys(measures, "k")),
        "verdict": dump_json(list(verdict)),
    }
    write_audit(path, attrs, measures, columns)
    return open_audit(path)
