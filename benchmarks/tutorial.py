"""Tutorial: training as Wu's tutorial of 2020 does it with fastai, beside galfig's.

``python -m benchmarks.tutorial`` trains the same network on the same galaxies, simulated or of
``--catalog``, from the files to the last validation. The tutorial's data block reads, crops and
augments them in each epoch; galfig trains in float32, and in bfloat16 where the processor has it.
The three take turns, so that a machine that is busy for a while slows all of them.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fastai.callback.schedule  # noqa: F401  (adds Learner.fit_one_cycle)
import numpy as np
import pandas as pd
import torch
from fastai.callback.progress import ProgressCallback
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import ColReader, ColSplitter, Normalize
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import RocAucBinary, accuracy
from fastai.optimizer import ranger
from fastai.vision.augment import CropPad, aug_transforms
from fastai.vision.data import ImageBlock

from galfig.catalog.galaxies import Galaxies, load_galaxies
from galfig.catalog.sample import simulate
from galfig.config import Settings, load_settings
from galfig.networks.architectures import build_network
from galfig.networks.precision import choose_precision
from galfig.networks.training import fit_model
from galfig.networks.training_set import read_training_set, take_used
from galfig.runtime.malloc import keep_freed_memory


def train_as_tutorial(galaxies: Galaxies, settings: Settings) -> float:
    """Train as the tutorial does; return the accuracy on the validation set.

    Parameters
    ----------
    galaxies : Galaxies
        Training and validation set.
    settings : Settings
        Number of epochs, learning rate, batch size and size of the cutouts.

    Returns
    -------
    float
    """
    training = settings.training
    table = pd.DataFrame(
        {
            "path": [str(path) for path in galaxies.paths],
            "class": [galaxies.class_names[label] for label in galaxies.label],
            "is_valid": galaxies.in_valid,
        }
    )
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_x=ColReader("path"),
        get_y=ColReader("class"),
        splitter=ColSplitter("is_valid"),
        item_tfms=[CropPad(training.cutout_size)],
        batch_tfms=[
            *aug_transforms(max_zoom=1.0, flip_vert=True, max_lighting=0.0, max_warp=0.0),
            Normalize(),
        ],
    )
    dls = block.dataloaders(table, bs=training.batch_size, num_workers=0)
    learner = Learner(
        dls,
        build_network(training.arch, len(galaxies.class_names)),
        opt_func=ranger,
        loss_func=CrossEntropyLossFlat(),
        metrics=[accuracy, RocAucBinary()],
    )
    learner.remove_cb(ProgressCallback)
    learner.logger = lambda row: None
    learner.fit_one_cycle(training.epochs, training.lr)
    return float(learner.recorder.values[-1][2])


def train_as_galfig(galaxies: Galaxies, settings: Settings) -> float:
    """Read the images and train; return the accuracy on the validation set."""
    readable, cutouts = read_training_set(galaxies, settings)
    _, fitted = fit_model(readable, cutouts, settings, is_shown=False, is_logged=False)
    return fitted["history"][-1]["accuracy"]


def time_loops(catalog: Path | None = None, *, epochs: int = 2, repeats: int = 3) -> dict[str, Any]:
    """Train in turns, and time each.

    Parameters
    ----------
    catalog : Path, optional
        The galaxies, with the classes of the default settings; by default, the built-in sample.
    epochs : int, default 2
        Passes over the training set.
    repeats : int, default 3
        How often each is timed, after a first time that does not count.

    Returns
    -------
    dict
        ``seconds`` and ``accuracy`` of each, and ``over_tutorial``, the ratio of the medians.
    """
    with TemporaryDirectory() as folder:
        found = simulate(folder) if catalog is None else catalog
        keys = {("catalog", "path"): found, ("training", "epochs"): epochs}
        return _time_loops(load_settings({}, keys), repeats)


def _time_loops(settings: Settings, repeats: int) -> dict[str, Any]:
    galaxies = take_used(load_galaxies(settings))
    loops: dict[str, Callable[[], float]] = {
        "tutorial": lambda: train_as_tutorial(galaxies, settings),
        "galfig, float32": lambda: train_as_galfig(galaxies, settings),
    }
    if choose_precision("auto") == "bfloat16":
        mixed = load_settings(settings, {("training", "precision"): "bfloat16"})
        loops["galfig, bfloat16"] = lambda: train_as_galfig(galaxies, mixed)
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    right: dict[str, list[float]] = {name: [] for name in loops}
    torch.manual_seed(0)
    for turn in range(repeats + 1):
        for name, loop in loops.items():
            start = time.perf_counter()
            found = loop()
            if turn:
                seconds[name].append(time.perf_counter() - start)
                right[name].append(found)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    return {
        "galaxies": len(galaxies),
        "epochs": settings.training.epochs,
        "seconds": seconds,
        "accuracy": right,
        "over_tutorial": {name: medians["tutorial"] / one for name, one in medians.items()},
    }


def main() -> None:
    """Time the loops, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalog", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    keep_freed_memory()
    found = time_loops(asked.catalog, epochs=asked.epochs, repeats=asked.repeats)
    for name, ratio in found["over_tutorial"].items():
        times = ", ".join(f"{one:.1f}" for one in found["seconds"][name])
        sys.stdout.write(f"{name:18} {times} s, {ratio:.2f} × the tutorial's loop\n")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
