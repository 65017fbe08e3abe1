"""Precision: what training in bfloat16 costs in accuracy, over several seeds.

``python -m benchmarks.precision`` trains the network of the settings with each seed in float32 and
in bfloat16, on the built-in sample or the catalog of ``--config``, and prints mean and standard
deviation of the metrics of the validation set, and of the difference from seed to seed.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from galfig.catalog.sample import load_sample
from galfig.config import Settings, load_settings
from galfig.networks.main import derive_seed
from galfig.networks.training import fit_model
from galfig.networks.training_set import read_training_set
from galfig.runtime.malloc import keep_freed_memory

PRECISIONS = ("float32", "bfloat16")
METRICS = ("accuracy", "roc_auc", "valid_loss")


def compare_precisions(settings: Settings, n_seeds: int) -> dict[str, Any]:
    """Train with each seed in each precision.

    Parameters
    ----------
    settings : Settings
        The catalog, the network and its training.
    n_seeds : int
        Number of seeds; the first is that of the settings.

    Returns
    -------
    dict
        For each precision, a list for each metric, and ``seconds``, with a value for each seed.
    """
    galaxies, cutouts = read_training_set(load_sample(settings), settings)
    found: dict[str, Any] = {
        name: {key: [] for key in (*METRICS, "seconds")} for name in PRECISIONS
    }
    for number in range(1, n_seeds + 1):
        seed = derive_seed(settings.training.seed, number)
        # Neither is always the first, so that what changes with time favours none.
        for precision in PRECISIONS[:: 1 if number % 2 else -1]:
            asked = {("training", "seed"): seed, ("training", "precision"): precision}
            one = load_settings(settings, asked)
            start = time.perf_counter()
            _, fitted = fit_model(galaxies, cutouts, one, is_shown=False, is_logged=False)
            found[precision]["seconds"].append(time.perf_counter() - start)
            for key in METRICS:
                found[precision][key].append(fitted["history"][-1][key])
            last = ", ".join(f"{key} {found[precision][key][-1]:.4f}" for key in METRICS)
            sys.stderr.write(f"seed {seed}, {precision}: {last}\n")
    return {"galaxies": len(galaxies), "validation": int(galaxies.in_valid.sum()), **found}


def write_table(found: dict[str, Any]) -> str:
    """Return the results as a plain-text table."""
    lines = [f"{found['galaxies']} galaxies, {found['validation']} of them validate"]
    for key in METRICS:
        columns = [np.array(found[name][key]) for name in PRECISIONS]
        cells = [f"{name} {describe(one)}" for name, one in zip(PRECISIONS, columns, strict=True)]
        lines.append(
            f"{key:10}  {'   '.join(cells)}   difference {describe(np.diff(columns, axis=0))}"
        )
    slow, fast = (np.median(found[name]["seconds"]) for name in PRECISIONS)
    lines.append(f"seconds     float32 {slow:.1f}   bfloat16 {fast:.1f}   ratio {slow / fast:.2f}")
    return "\n".join(lines)


def describe(values: np.ndarray) -> str:
    """Write a mean and a standard deviation."""
    return f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"


def main() -> None:
    """Compare the precisions, print the table, and write the numbers where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, help="settings file; default the built-in sample")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="default: that of the settings")
    parser.add_argument("--image-size", type=int, help="default: that of the settings")
    parser.add_argument("--batch-size", type=int, help="default: that of the settings")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    asked = parser.parse_args()
    keys = {
        ("training", key): getattr(asked, key) for key in ("epochs", "image_size", "batch_size")
    }
    keep_freed_memory()
    found = compare_precisions(load_settings(asked.config, keys), asked.seeds)
    sys.stdout.write(f"{write_table(found)}\n")
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
