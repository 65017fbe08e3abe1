"""The style of figures: letters and their outlines stay together."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pypdf import PdfReader

from galfig.figures.style import paper_style, plot_outlined_text

WORDS = "J094235.76+241231.3 illllllllllllllli"


def write_text():
    with paper_style():
        fig = Figure(figsize=(3, 0.5), facecolor="0.5")
        ax = fig.add_axes((0, 0, 1, 1))
        ax.set_facecolor("0.5")
        ax.set_axis_off()
        plot_outlined_text(0.5, 0.5, WORDS, ax=ax, size=7, va="center")
    return fig


def test_outlines_do_not_drift_from_letters():
    """The margin of black is the same left of the first letter and right of the last."""
    fig = write_text()
    fig.set_dpi(300)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    grey = np.asarray(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("L")).astype(int)
    white, black = np.flatnonzero((grey > 220).any(axis=0)), np.flatnonzero((grey < 60).any(axis=0))
    left, right = white[0] - black[0], black[-1] - white[-1]
    assert left > 0
    assert abs(left - right) <= 1


def test_letters_can_be_copied_from_a_pdf():
    """They are text there, and not the curves that they are in pixels."""
    stream = io.BytesIO()
    with paper_style():
        write_text().savefig(stream, format="pdf")
    assert WORDS in PdfReader(stream).pages[0].extract_text()
