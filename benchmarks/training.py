"""Training: the overhead of an epoch on top of its forward and backward passes."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from fastai.callback.core import Callback

from galfig.catalog.galaxies import load_galaxies
from galfig.config import Settings
from galfig.networks.architectures import build_network
from galfig.networks.learner import make_learner
from galfig.networks.training_set import channel_statistics, read_training_set
from galfig.runtime.malloc import keep_freed_memory

N_GALAXIES, N_EPOCHS = 512, 3


class _Timer(Callback):
    """Sums the time from each batch to its gradients, or to its loss in validation."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def before_batch(self) -> None:
        self._start = time.perf_counter()

    def after_loss(self) -> None:
        if not self.training:
            self.seconds += time.perf_counter() - self._start

    def after_backward(self) -> None:
        self.seconds += time.perf_counter() - self._start


def time_epochs(settings: Settings) -> dict[str, float]:
    """Train conv3 for `N_EPOCHS` on `N_GALAXIES` with random classes.

    Parameters
    ----------
    settings : Settings
        Settings that name the catalog.

    Returns
    -------
    dict of str to float
        Number of galaxies, times [s], and the ratio ``epoch_over_compute``.
    """
    rng = np.random.default_rng(0)
    galaxies = dataclasses.replace(
        load_galaxies(settings, labelled=False).take(np.arange(N_GALAXIES)),
        label=rng.integers(0, 2, N_GALAXIES).astype(np.int16),
        split=np.where(rng.random(N_GALAXIES) < 0.2, "valid", "train").astype(object),
    )
    start = time.perf_counter()
    galaxies, cutouts = read_training_set(galaxies, settings)
    reading = time.perf_counter() - start
    mean, std = channel_statistics(cutouts, galaxies.in_train)
    timer = _Timer()
    model = build_network("conv3", 2)
    learner = make_learner(model, galaxies, cutouts, settings.training, mean, std)
    learner.add_cb(timer)
    start = time.perf_counter()
    learner.fit_one_cycle(N_EPOCHS, 1e-3)
    seconds = time.perf_counter() - start
    return {
        "galaxies": len(galaxies),
        "reading_seconds": reading,
        "seconds_per_epoch": seconds / N_EPOCHS,
        "compute_per_epoch": timer.seconds / N_EPOCHS,
        "epoch_over_compute": seconds / timer.seconds,
    }


def time_training(catalog: Path) -> dict[str, float]:
    """Run `time_epochs` in a separate process that keeps freed memory, as ``galfig train`` does."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.training", str(catalog)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    keep_freed_memory()
    found = time_epochs(Settings(catalog={"path": sys.argv[1]}))
    sys.stdout.write(json.dumps(found))
