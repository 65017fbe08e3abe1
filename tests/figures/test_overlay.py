"""Overlays and scales: what is drawn over a cutout, and what the caption says of it."""

import itertools
from typing import get_args

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import galfig
from galfig.cli import main
from galfig.config import StyleSettings
from galfig.figures.layout import make_rows
from galfig.figures.rows import (
    DIMMED,
    LEVELS,
    MapLabel,
    Row,
    plot_map,
    plot_signed_map,
)
from galfig.runtime.options import Overlay, Scale

FLAT = np.full((8, 8, 3), 200, np.uint8)


def draw_pixels(cam, overlay, plot=plot_map, cutout=FLAT):
    """Return the pixels of a map of 8 × 8 cells over a cutout, from 0 to 255."""
    fig = Figure(figsize=(1, 1), dpi=80)
    plot(cam, cutout, ax=fig.add_axes((0, 0, 1, 1)), vmax=1.0, overlay=overlay)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


@pytest.mark.parametrize(
    ("overlay", "below"), [("opaque", DIMMED * 200), ("blend", 200), ("contour", 200), ("side", 0)]
)
@pytest.mark.parametrize("plot", [plot_map, plot_signed_map])
def test_where_a_map_is_zero_the_cutout_shows(overlay, below, plot):
    """Dimmed, as it is, or not at all."""
    pixels = draw_pixels(np.zeros((8, 8), np.float32), overlay, plot)
    assert np.abs(pixels - below).max() <= 1


def test_the_galaxy_shines_through_a_blend_alone():
    """The pixel of a strong map depends on the cutout only there."""
    cam = np.ones((8, 8), np.float32)
    for overlay, shines in (("opaque", False), ("blend", True), ("side", False)):
        bright = draw_pixels(cam, overlay)[40, 40]
        other = draw_pixels(cam, overlay, cutout=FLAT // 4)[40, 40]
        assert (np.abs(bright - other).max() > 20) == shines, overlay


def test_lines_are_where_the_map_has_their_value():
    """Of a ramp from 0 to 1 between the outermost centres: at a quarter, a half, three quarters."""
    ax = Figure(figsize=(1, 1)).subplots()
    cam = np.tile(np.linspace(0, 1, 8, dtype=np.float32), (8, 1))
    plot_map(cam, np.zeros((16, 16, 3), np.uint8), ax=ax, vmax=1.0, overlay="contour")
    (lines,) = [one for one in ax.collections]
    for level, path in zip(LEVELS, lines.get_paths(), strict=True):
        # A cell is two pixels of the cutout, and the centre of the first is at 0.5.
        assert np.allclose(path.vertices[:, 0], 0.5 + 14 * level)


def test_lines_below_zero_are_dashed_and_of_signed_maps_alone():
    ax = Figure(figsize=(1, 1)).subplots()
    cam = np.tile(np.linspace(-1, 1, 8, dtype=np.float32), (8, 1))
    plot_signed_map(cam, FLAT, ax=ax, vmax=1.0, overlay="contour")
    (lines,) = ax.collections
    assert list(lines.levels) == [-0.75, -0.5, -0.25, 0.25, 0.5, 0.75]
    dashed = [style[1] is not None for style in lines.get_linestyle()]
    assert dashed == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    "cam",
    [
        np.zeros((8, 8)),
        np.full((8, 8), 0.1),
        np.ones((1, 1)),
        np.linspace(0.3, 0.4, 64).reshape(8, 8),
    ],
)
def test_maps_without_lines(cam):
    """No warning, no line."""
    ax = Figure(figsize=(1, 1)).subplots()
    plot_map(cam.astype(np.float32), FLAT, ax=ax, vmax=1.0, overlay="contour")
    assert not ax.collections


def make_row_of(*peaks):
    cams = np.stack([np.full((4, 4), peak, np.float32) for peak in peaks])
    return Row("g", FLAT, cams, [MapLabel("low"), MapLabel("high")])


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("row", [2, 2, 8, 8]), ("panel", [1, 2, 4, 8]), ("figure", [8, 8, 8, 8])],
)
def test_which_maps_share_a_scale(scale, expected):
    """And each panel says how far its own runs."""
    fig = make_rows([make_row_of(1, 2), make_row_of(4, 8)], style=StyleSettings(scale=scale))
    panels = [ax for ax in fig.axes if len(ax.images) == 2 and ax.get_aspect() == 1]
    assert [ax.images[-1].get_clim()[1] for ax in panels] == expected
    words = [" ".join(text.get_text() for text in ax.texts) for ax in panels]
    assert all(
        (f"to {end}" in one) == (scale == "panel") for one, end in zip(words, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("overlay", "scale"), list(itertools.product(get_args(Overlay), get_args(Scale)))
)
def test_captions_say_what_is_drawn(store, overlay, scale):
    """Of each overlay and scale, and nothing of another."""
    style = {"overlay": overlay, "scale": scale}
    for plot in (galfig.plot.panels, galfig.plot.top_losses, galfig.plot.stacked_maps):
        caption = plot(store, style=style).caption
        assert ("Lines stand at 0.25, 0.5 and 0.75" in caption) == (overlay == "contour")
        assert ("below a tenth of it, the cutout shows through" in caption) == (overlay == "opaque")
        assert ("the cutout shines through" in caption) == (overlay == "blend")
        assert ("no cutout lies behind it" in caption) == (overlay == "side")
        assert ("largest value in the row" in caption) == (scale == "row")
        assert ("cannot be compared by brightness" in caption) == (scale == "panel")
        assert ("largest value in the figure" in caption) == (scale == "figure")
        assert ("brighter pixel" in caption or "brightest pixel" in caption) <= (scale != "panel")
    signed = galfig.plot.panels(store, style=style, map="evidence")
    assert ("dashed below zero" in signed.caption) == (overlay == "contour")
    assert ("which each panel names" in signed.caption) == (scale == "panel")
    assert ("the same cutout with" in signed.alt) == (overlay != "side")


def test_commands_take_them(store_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["render", str(store_path), "--n", "2", "--overlay", "contour", "--scale", "figure"]
    done = CliRunner().invoke(main, [*words, "--out", "panels.png"])
    assert done.exit_code == 0, done.output
    assert "Lines stand at" in (tmp_path / "panels.txt").read_text()
    done = CliRunner().invoke(main, [*words, "--overlay", "under"])
    assert done.exit_code == 2


@pytest.mark.parametrize("scale", get_args(Scale))
def test_negative_values_are_drawn_where_asked(store, scale):
    """On a scale that is symmetric about zero, in the unit of the maps; the caption says so."""
    style = {"negative": True, "scale": scale}
    plot = galfig.plot.panels(store, store.select(n=2), style=style)
    panels = [ax for ax in plot.figure.axes if len(ax.images) == 2 and ax.get_aspect() == 1]
    for ax in panels:
        low, high = ax.images[-1].get_clim()
        assert -low == high > 0
    rows = store.select(n=2)
    peaks = [float(np.abs(store.cams(int(row))).max()) for row in rows]
    if scale == "figure":
        ends = [ax.images[-1].get_clim()[1] for ax in panels]
        assert ends == pytest.approx([max(peaks)] * 4)
    assert "Negative values are shown, too." in plot.caption
    assert "in logits" in plot.caption
    assert "and so not drawn" not in plot.caption
    assert "brightest pixel" not in plot.caption
    assert "diverging colour scale" in plot.alt
    words = [text.get_text() for ax in plot.figure.axes for text in ax.texts]
    assert any("logit" in word or "of the peak" in word for word in words)
    assert "log-odds" not in " ".join(words)
