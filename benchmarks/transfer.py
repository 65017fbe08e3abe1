"""Transfer: what it gains to start from a network that was trained on other galaxies.

``python -m benchmarks.transfer FIRST SECOND`` trains a network to tell galaxies of FIRST by their
stellar mass, and goes on from it to tell those of SECOND by their metallicity, with few of them. It
compares this with training from random weights: same galaxies, same test galaxies, same number of
steps. Both are folders with ``catalog.csv`` and ``images/{objID}.jpg``.
"""

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import galfig
from galfig.catalog.galaxies import Galaxies
from galfig.images.cutouts import load_cutouts

MASS = {"column": "logMstar", "edges": [8.5, 10.7, 11.1, 12.1], "name": "stellar mass"}
METALLICITY = {"column": "oh_p50", "edges": [8.1, 8.85, 9.0, 9.3], "name": "metallicity"}
CLASSES = {"labels": ["low", "medium", "high"], "keep": ["low", "high"]}
IMAGES = {"cutout_size": 128, "image_size": 32, "batch_size": 10, "threads": 1}
# Number of training galaxies, and of epochs: 60 steps, 60 and 80.
EPOCHS = {20: 30, 50: 12, 100: 8}
N_TEST = 150


def main() -> None:
    """Train all networks, print the table, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path, help="folder of the galaxies to learn from")
    parser.add_argument("second", type=Path, help="folder of the galaxies to go on with")
    parser.add_argument("--archs", nargs="+", default=["conv3"])
    parser.add_argument("--rates", nargs="+", type=float, default=[2e-2])
    parser.add_argument("--numbers", nargs="+", type=int, default=list(EPOCHS))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    asked = parser.parse_args()
    logging.getLogger("galfig").setLevel(logging.ERROR)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for arch in asked.archs:
            source = train_first(asked.first, arch, Path(folder))
            for n_train in asked.numbers:
                found = compare(asked.second, source, n_train, asked.rates, asked.seeds)
                results += found
                sys.stdout.write("".join(f"{write_row(row)}\n" for row in found))
                sys.stdout.flush()
                if asked.out:
                    asked.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def train_first(folder: Path, arch: str, out: Path) -> Path:
    """Train the network to start from; return its checkpoint."""
    settings = {
        "catalog": {"path": str(folder / "catalog.csv")},
        "classes": {**MASS, **CLASSES},
        "training": {**IMAGES, "arch": arch, "epochs": 12, "batch_size": 16, "lr": 2e-2},
    }
    path = out / f"{arch}.safetensors"
    checkpoint = galfig.train(galfig.load_catalog(settings=settings), path, device="cpu")
    numbers, metrics = checkpoint.metadata["n_train"], checkpoint.metadata["metrics"]
    sys.stdout.write(f"{arch}: trained first on {numbers}, {metrics}\n")
    return path


def compare(
    folder: Path, source: Path, n_train: int, rates: list[float], n_seeds: int
) -> list[dict[str, Any]]:
    """Train with and without the weights of ``source``; return a row for each way and rate."""
    n_epochs = EPOCHS[n_train]
    ways: dict[str, dict[str, Any]] = {
        "scratch": {},
        "init": {"init": source},
        "init, half frozen": {"init": source, "freeze": n_epochs // 2, "body_lr_ratio": 0.1},
        "init, last layer": {"init": source, "freeze": n_epochs},
    }
    right: dict[tuple[str, float], list[NDArray[np.bool_]]] = {}
    for seed in range(n_seeds):
        for name, way in ways.items():
            for rate in rates:
                given = {"arch": source.stem, "epochs": n_epochs, "lr": rate, "seed": seed, **way}
                found, share = score_one(folder, n_train, seed, given)
                sys.stderr.write(f"{n_train} {name}, seed {seed}: {found.mean():.3f}\n")
                right.setdefault((name, rate), []).append(found)
    rows = []
    for (name, rate), found in right.items():
        base = np.mean(right["scratch", rate], axis=0)
        mean = np.mean(found, axis=0)
        rows.append(
            {
                "arch": source.stem,
                "n_train": n_train,
                "way": name,
                "lr": rate,
                "n_seeds": n_seeds,
                "n_test": len(mean),
                "majority_share": share,
                "accuracy": [float(mean.mean()), *bound_mean(mean)],
                "gain": [float((mean - base).mean()), *bound_mean(mean - base)],
                "spread": float(np.std(np.mean(found, axis=1), ddof=1)) if n_seeds > 1 else None,
            }
        )
    return rows


def score_one(
    folder: Path, n_train: int, seed: int, training: dict[str, Any]
) -> tuple[NDArray[np.bool_], float]:
    """Train one network; return whether it is right on each test galaxy, and the majority share."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "catalog.csv"
        draw_split(pd.read_csv(folder / "catalog.csv", dtype=str), n_train, seed).to_csv(
            path, index=False
        )
        settings = {
            "catalog": {"path": str(path), "images_dir": str(folder)},
            "classes": {**METALLICITY, **CLASSES},
            "split": {"column": "split"},
            "training": IMAGES,
        }
        galaxies = galfig.load_catalog(settings=settings)
        checkpoint = galfig.train(
            galaxies, Path(scratch) / "m.safetensors", device="cpu", **training
        )
    return find_right(checkpoint, galaxies.take(~galaxies.in_train))


def draw_split(table: pd.DataFrame, n_train: int, seed: int) -> pd.DataFrame:
    """Add a column: the test galaxies are the same for every seed, and the others train."""
    value = table[METALLICITY["column"]].astype(float)
    edges = METALLICITY["edges"]
    is_low, is_high = value.between(edges[0], edges[1]), value.between(edges[2], edges[3])
    rows = np.random.default_rng(0).permutation(np.flatnonzero(is_low | is_high))
    test, rest = rows[:N_TEST], rows[N_TEST:]
    rng = np.random.default_rng(seed)
    split = np.full(len(table), "", dtype=object)
    split[test] = "test"
    # They are not used to choose anything either; each epoch classifies the validation set.
    split[test[:10]] = "valid"
    for is_class in (is_low, is_high):
        own = rest[is_class.to_numpy()[rest]]
        if len(own) < n_train // 2:
            raise SystemExit(f"{len(own)} galaxies of a class beside the test set")
        split[rng.choice(own, n_train // 2, replace=False)] = "train"
    return table.assign(split=split)


def find_right(
    checkpoint: galfig.Checkpoint, galaxies: Galaxies
) -> tuple[NDArray[np.bool_], float]:
    """Return whether a network is right on each galaxy, and the share of the majority class."""
    cutouts, _ = load_cutouts(galaxies.paths, checkpoint.cutout_size, checkpoint.image_size)
    with torch.no_grad():
        logits = checkpoint.model(checkpoint.normalise(cutouts)).numpy()
    share = float(np.bincount(galaxies.label).max() / len(galaxies))
    return logits.argmax(axis=1) == galaxies.label, share


def bound_mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over galaxies, by bootstrap."""
    rows = np.random.default_rng(0).integers(0, len(values), (4000, len(values)))
    low, high = np.percentile(values[rows].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def write_row(row: dict[str, Any]) -> str:
    """Return a row of the table as text."""
    accuracy, gain = row["accuracy"], row["gain"]
    return (
        f"{row['arch']:10} {row['n_train']:4} {row['way']:18} lr {row['lr']:.0e}  "
        f"accuracy {accuracy[0]:.3f} [{accuracy[1]:.3f}, {accuracy[2]:.3f}]  majority "
        f"{row['majority_share']:.3f}  gain {gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]"
    )


if __name__ == "__main__":
    main()
