"""Panels as plain pixels have the colours of figures."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from galfig.figures.composing import PLAIN_LOOK, SIGNED_LOOK, compose_map, compose_scale
from galfig.figures.rows import DIMMED, SIGNED_COLORS, plot_map, plot_signed_map

CUTOUT = np.full((16, 16, 3), 100, np.uint8)


def render(draw, cam):
    """Draw on axes as figures do, and return the pixel of the middle of each cell."""
    fig = Figure(figsize=(1, 1), dpi=160)
    ax = fig.add_axes((0, 0, 1, 1))
    draw(cam, CUTOUT, ax=ax, vmax=1.0)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    return pixels[5::10, 5::10]


def test_unsigned_maps_look_as_in_figures():
    """Nothing below zero, the dimmed cutout where it is faint, the colour map above."""
    cam = np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16)
    painted = compose_map(cam, CUTOUT, 1.0, PLAIN_LOOK).astype(float)
    assert np.all(painted[:8] == int(100 * DIMMED))
    assert np.abs(painted - render(plot_map, cam)).max() < 10


def test_signed_maps_look_as_in_figures():
    """Blue below zero, orange above, and the dimmed cutout between."""
    cam = np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16)
    painted = compose_map(cam, CUTOUT, 1.0, SIGNED_LOOK).astype(float)
    assert np.abs(painted - render(plot_signed_map, cam)).max() < 10
    ends = compose_scale(SIGNED_LOOK)[0, [0, -1]]
    expected = [
        [int(color[k : k + 2], 16) for k in (1, 3, 5)]
        for color in (SIGNED_COLORS[0], SIGNED_COLORS[-1])
    ]
    assert np.abs(ends.astype(int) - expected).max() <= 1


def test_a_map_without_a_scale_shows_the_cutout():
    """Where no value is above zero, there is nothing to divide by."""
    painted = compose_map(np.zeros((4, 4), np.float32), CUTOUT, 0.0, PLAIN_LOOK)
    assert np.all(painted == int(100 * DIMMED))
