"""The figure in the README: rates of all contenders, relative to an eager forward pass."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from galfig.figures.style import COLORS, TEXT_WIDTH, paper_style


def draw_rates(results: dict[str, Any], path: Path, device: str = "CPU") -> None:
    """Draw the rate of each contender for each network, relative to an eager forward pass.

    Parameters
    ----------
    results : dict
        Results of all benchmarks.
    path : Path
        Figure to write.
    device : str, default "CPU"
        What computed, for the label.
    """
    with paper_style():
        fig = Figure(figsize=(TEXT_WIDTH, 2.4), layout="constrained")
        (axes,) = fig.subplots(1, len(results["maps"]), sharey=True, squeeze=False)
        for ax, (arch, found) in zip(axes, results["maps"].items(), strict=True):
            rates = found["galaxies_per_second"]
            eager = rates["eager forward pass alone"]
            names = list(rates)[::-1]
            values = [rates[name] / eager for name in names]
            colors = [COLORS[1] if name == "galfig" else COLORS[0] for name in names]
            bars = ax.barh(names, values, color=colors)
            ax.axvline(1, color="0.4", linewidth=0.6, linestyle="--", zorder=0)
            # A white background keeps the line from crossing the numbers.
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
            words = [f"{value:.2f}" if value >= 0.1 else f"{value:.1g}" for value in values]
            ax.bar_label(bars, words, padding=3, fontsize=7, bbox=paper)
            ax.set_title(arch)
            ax.set_xlim(0, 1.25 * max(values))
        fig.supxlabel(
            f"Galaxies per second, relative to classifying alone\n(maps of both classes, {device})",
            fontsize=8,
        )
        fig.savefig(path)
