"""Known truth: a league table of methods of attribution on galaxies whose deciding part is known.

``python -m benchmarks.known_truth`` simulates two sets of galaxies of each cue, trains a network on
one, and explains the other with the methods of galfig, captum, torch-cam and pytorch-grad-cam. It
scores the map of the true class as ``galfig score`` does, prints a table, and writes numbers and a
figure. No galaxy that is scored trained or chose a network.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytorch_grad_cam
import torch
import torchcam.methods
from captum.attr import InputXGradient, IntegratedGradients, LayerGradCam
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

import galfig
from benchmarks.machine import describe_machine
from galfig.attribution.methods import METHODS
from galfig.figures.style import COLORS, TEXT_WIDTH, paper_style
from galfig.images.cutouts import load_cutouts
from galfig.networks.checkpoint import Checkpoint
from galfig.runtime.options import Cue
from galfig.truth.known import Truth, load_truth
from galfig.truth.main import Score, score
from galfig.truth.measures import BASELINES, MEASURES

N_TRAIN, TRAIN_SEED, TRUTH_SEED = 600, 0, 1
BATCH = 50
Explain = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Train, explain and score; print the table, and write the numbers and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500, help="galaxies that are scored, of each cue")
    parser.add_argument("--cues", nargs="+", default=get_args(Cue), choices=get_args(Cue))
    parser.add_argument("--archs", nargs="+", default=["conv3", "xresnet18"])
    parser.add_argument(
        "--steps",
        type=int,
        default=20,
        help="of integrated gradients; 0: only methods that explain a layer",
    )
    parser.add_argument("--quick", action="store_true", help="60 galaxies of two cues, and conv3")
    parser.add_argument("--folder", type=Path, help="keep galaxies and networks here, and use them")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "known_truth.json")
    asked = parser.parse_args()
    if asked.quick:
        asked.n, asked.cues, asked.archs, asked.steps = 60, ["disk", "corner"], ["conv3"], 0
    logging.getLogger("galfig").setLevel(logging.ERROR)
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "libraries": {name: version(name) for name in ("captum", "torchcam", "grad-cam", "torch")},
        "galaxies": f"{asked.n} a cue, seed {TRUTH_SEED}; none trained or chose a network",
        "steps_of_integrated_gradients": asked.steps,
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        for cue in asked.cues:
            truth = _prepare(folder / f"{cue}-{asked.n}", cue, asked.n, TRUTH_SEED).keep()
            for arch in asked.archs:
                checkpoint = _train(folder / cue, cue, arch)
                for row in compare(checkpoint, truth, arch, asked.steps):
                    results["rows"].append(row)
                    sys.stdout.write(write_row(row))
                    sys.stdout.flush()
                # What is measured is kept, however the next network ends.
                asked.out.write_text(write_results(results), encoding="utf-8")
    draw_league(results["rows"], asked.out.with_suffix(".png"))


def _prepare(folder: Path, cue: Cue, n: int, seed: int) -> Truth:
    """Return galaxies of a cue, simulated unless the folder has them."""
    if not (folder / "catalog.csv").is_file():
        galfig.simulate(folder, n, seed, cue=cue, if_exists="replace")
    return load_truth(folder)


def _train(folder: Path, cue: Cue, arch: str) -> Checkpoint:
    """Return a network that was trained by the settings of the cue, as ``galfig train`` does."""
    path = folder / f"{arch}.safetensors"
    if path.is_file():
        return galfig.load_checkpoint(path)
    _prepare(folder, cue, N_TRAIN, TRAIN_SEED)
    galaxies = galfig.load_catalog(settings=folder / "cue.toml")
    return galfig.train(galaxies, path, arch=arch, device="cpu")


def compare(
    checkpoint: Checkpoint, truth: Truth, arch: str, n_steps: int
) -> Iterator[dict[str, Any]]:
    """Explain galaxies by every method, and yield the score of each.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network; its explained layer is one of the modules that it consists of.
    truth : Truth
        Galaxies that did not train it.
    arch : str
        Name of the network.
    n_steps : int
        Steps of integrated gradients; 0 leaves out the methods that explain pixels.

    Yields
    ------
    dict
        ``cue``, ``arch``, ``library``, ``method``, ``accuracy`` of the network on the galaxies,
        and the `galfig.truth.main.Score`.
    """
    paths = [truth.folder / "images" / f"{objid}.png" for objid in truth.objid]
    cutouts, _ = load_cutouts(paths, checkpoint.cutout_size, checkpoint.image_size)
    names = [checkpoint.class_names.index(truth.record.class_names[one]) for one in truth.label]
    targets = torch.tensor(names)
    body, head = cut(checkpoint.model, checkpoint.layer_name)
    of_layer, of_pixels = list_methods(checkpoint.model, head, n_steps)
    maps: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    n_right = 0
    for start in range(0, len(cutouts), BATCH):
        images = checkpoint.normalise(cutouts[start : start + BATCH])
        target = targets[start : start + BATCH]
        with torch.no_grad():
            features = body(images)
            n_right += int((head(features).argmax(dim=1) == target).sum())
        for methods, given in ((of_layer, features), (of_pixels, images)):
            for key, explain in methods.items():
                found = explain(given.clone(), target).detach().double().numpy()
                maps.setdefault(key, []).append(found)
    for (library, method), batches in maps.items():
        found_score = score(np.concatenate(batches), truth)
        yield {
            "cue": truth.record.cue,
            "arch": arch,
            "library": library,
            "method": method,
            "accuracy": n_right / len(cutouts),
            "score": found_score.model_dump(),
        }


def cut(model: nn.Module, layer: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a sequence of modules behind one of them.

    A method that explains this layer sees nothing of what comes before, so that all of them share
    one pass through the first part. The second begins with a layer that passes on what it gets,
    which takes the place of the one explained.

    Parameters
    ----------
    model : torch.nn.Sequential
        The network.
    layer : str
        Name of the module.

    Returns
    -------
    body, head : torch.nn.Sequential
    """
    children = dict(model.named_children())
    position = list(children).index(layer) + 1
    parts = list(children.values())
    body, head = nn.Sequential(*parts[:position]), nn.Sequential(nn.Identity(), *parts[position:])
    return body.eval(), head.eval()


def list_methods(
    model: nn.Module, head: nn.Module, n_steps: int
) -> tuple[dict[tuple[str, str], Explain], dict[tuple[str, str], Explain]]:
    """List the methods that explain a layer, and those that explain pixels, by library and name.

    Each takes images or feature maps (N, K, h, w) and classes (N,), and returns maps (N, h, w).
    """
    layer = head[0]
    of_layer: dict[tuple[str, str], Explain] = {}

    def add_galfig(name: str) -> None:
        def explain(features: Tensor, target: Tensor) -> Tensor:
            batch = METHODS[name].finish(METHODS[name].explain(head, features, layer))
            return batch.cams[torch.arange(len(target)), target]

        of_layer["galfig", name] = explain

    for name, method in METHODS.items():
        if not method.of_pixels:
            add_galfig(name)

    def run_captum(features: Tensor, target: Tensor) -> Tensor:
        return LayerGradCam(head, layer).attribute(features, target=target)[:, 0]

    of_layer["captum", "LayerGradCam"] = run_captum

    def add_torchcam(name: str) -> None:
        def explain(features: Tensor, target: Tensor) -> Tensor:
            with getattr(torchcam.methods, name)(head, target_layer=layer) as extractor:
                scores = head(features.requires_grad_())
                return extractor(target.tolist(), scores, normalized=False)[0]

        of_layer["torch-cam", name] = explain

    for name in ("GradCAM", "GradCAMpp", "LayerCAM", "XGradCAM"):
        add_torchcam(name)

    def add_pytorch_grad_cam(name: str) -> None:
        def explain(features: Tensor, target: Tensor) -> Tensor:
            targets = [ClassifierOutputTarget(int(one)) for one in target]
            with getattr(pytorch_grad_cam, name)(model=head, target_layers=[layer]) as cam:
                return torch.from_numpy(
                    cam(input_tensor=features.requires_grad_(), targets=targets)
                )

        of_layer["pytorch-grad-cam", name] = explain

    for name in ("GradCAM", "HiResCAM", "GradCAMPlusPlus", "LayerCAM", "XGradCAM"):
        add_pytorch_grad_cam(name)

    def multiply(images: Tensor, target: Tensor) -> Tensor:
        return InputXGradient(model).attribute(images.requires_grad_(), target=target).sum(dim=1)

    def integrate(images: Tensor, target: Tensor) -> Tensor:
        found = IntegratedGradients(model).attribute(
            images, target=target, n_steps=n_steps, internal_batch_size=BATCH
        )
        return found.sum(dim=1)

    if not n_steps:
        return of_layer, {}
    return of_layer, {
        ("captum", "InputXGradient"): multiply,
        ("captum", "IntegratedGradients"): integrate,
    }


def write_results(results: dict[str, Any]) -> str:
    """Return the results as JSON with each row of the table on a line."""
    words = json.dumps({**results, "rows": []}, indent=1)
    rows = ",\n".join(f"  {json.dumps(row)}" for row in results["rows"])
    return words.replace('"rows": []', f'"rows": [\n{rows}\n ]') + "\n"


def write_row(row: dict[str, Any]) -> str:
    """Return a row of the table as text."""
    found = Score.model_validate(row["score"])
    numbers = "  ".join(
        f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found.scores.values()
    )
    least = min(found.excess[baseline][name].low for baseline in BASELINES for name in MEASURES[:2])
    lit = f"  lights {', '.join(found.lit_up)}" if found.lit_up else ""
    return (
        f"{row['cue']:11} {row['arch']:9} {row['accuracy']:.3f}  {row['library']:16} "
        f"{row['method']:19} {numbers}  {'+' if least > 0 else '-'}{lit}\n"
    )


def draw_league(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the rank accuracy of each method, cue and network, beside that of the baselines.

    Parameters
    ----------
    rows : sequence of dict
        Rows of the results.
    path : Path
        Figure to write.
    """
    cues = list(dict.fromkeys(row["cue"] for row in rows))
    archs = list(dict.fromkeys(row["arch"] for row in rows))
    methods = list(dict.fromkeys((row["library"], row["method"]) for row in rows))[::-1]
    with paper_style():
        fig = Figure(figsize=(TEXT_WIDTH, 1.2 + 0.135 * len(methods) * 2), layout="constrained")
        axes = np.atleast_1d(fig.subplots((len(cues) + 2) // 3, min(3, len(cues)), sharey=True))
        for ax, cue in zip(axes.flat, cues, strict=False):
            own = [row for row in rows if row["cue"] == cue]
            for a, arch in enumerate(archs):
                _draw_scores(ax, [row for row in own if row["arch"] == arch], methods, a, archs)
            baselines = own[0]["score"]["baselines"]
            for baseline, style in zip(BASELINES, ("--", "-.", ":"), strict=True):
                level = baselines[baseline]["rank accuracy"]["value"]
                ax.axvline(level, color="0.4", linewidth=0.8, linestyle=style, label=baseline)
            accuracies = {row["arch"]: row["accuracy"] for row in own}
            words = ", ".join(f"{arch} {value:.2f}" for arch, value in accuracies.items())
            ax.set_title(f"{cue}\n({words})", fontsize=7)
            ax.set_xlim(-0.03, 1.03)
            ax.set_yticks(range(len(methods)))
            ax.set_yticklabels([f"{library}: {method}" for library, method in methods], fontsize=6)
        for ax in axes.flat[len(cues) :]:
            ax.set_visible(False)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        words = "Rank accuracy. Open: not better than every baseline. In brackets: accuracy"
        where = {"loc": "outside lower center", "ncols": len(labels)}
        fig.legend(handles, labels, title=words, fontsize=7, title_fontsize=8, **where)
        fig.savefig(path, dpi=200)


def _draw_scores(
    ax: Any, rows: list[dict[str, Any]], methods: list[Any], position: int, archs: list[str]
) -> None:
    """Draw the scores of one network: filled where all baselines are beaten."""
    for i, row in enumerate(rows):
        found = row["score"]["scores"]["rank accuracy"]
        excess = row["score"]["excess"]
        is_better = all(
            excess[baseline][name]["low"] > 0 for baseline in BASELINES for name in MEASURES[:2]
        )
        y = methods.index((row["library"], row["method"])) + 0.3 * (position - 0.5)
        color = COLORS[position]
        ax.errorbar(
            found["value"],
            y,
            xerr=[[found["value"] - found["low"]], [found["high"] - found["value"]]],
            fmt="o",
            markersize=3,
            color=color,
            markerfacecolor=color if is_better else "white",
            linewidth=0.8,
            label=archs[position] if i == 0 else None,
        )


if __name__ == "__main__":
    main()
