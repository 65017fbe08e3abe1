"""Maps over cutouts as plain pixels, without axes: for many small panels at once."""

from functools import cache

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray
from PIL import Image

from galfig.figures.rows import DIMMED, FADE, SIGNED_COLORS, list_colors

# Name of the colours of signed maps.
SIGNED = "blue-orange"


def paint_map(
    cam: NDArray[np.float32], cutout: NDArray[np.uint8], peak: float, cmap: str
) -> NDArray[np.uint8]:
    """Draw a map over its dimmed cutout, which shows through where the map is faint.

    Parameters
    ----------
    cam : (h, w) ndarray of float32
        The signed map.
    cutout : (H, W, 3) ndarray of uint8
        The cutout.
    peak : float
        End of the colour scale, in the unit of the map; a map without values above zero has none,
        and shows the dimmed cutout.
    cmap : str
        Colour map. Of `SIGNED`, the scale runs from ``-peak`` to ``peak``; of any other, from zero.

    Returns
    -------
    (H, W, 3) ndarray of uint8
        As `galfig.figures.rows.plot_map` draws it, at the resolution of the cutout.
    """
    is_signed = cmap == SIGNED
    share = (cam if is_signed else np.maximum(cam, 0.0)) / np.float32(peak if peak > 0 else 1.0)
    size = cutout.shape[1::-1]
    share = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR))
    share = np.clip(share, -1.0, 1.0)
    # The map covers the cutout, which shows through where the map is faint.
    alpha = np.minimum(np.abs(share) / np.float32(FADE), 1.0)[..., None]
    level = (share + 1) / 2 if is_signed else share
    colors = tabulate_colors(cmap)[(level * 255).astype(np.uint8)]
    dimmed = cutout * np.float32(DIMMED)
    return (dimmed + alpha * (colors - dimmed)).astype(np.uint8)


@cache
def tabulate_colors(cmap: str) -> NDArray[np.float32]:
    """Return the colours of a scale.

    Parameters
    ----------
    cmap : str
        Name of a colour map of matplotlib, or `SIGNED`.

    Returns
    -------
    (256, 3) ndarray of float32
        Numbers from 0 to 255.
    """
    if cmap == SIGNED:
        colors = LinearSegmentedColormap.from_list(SIGNED, SIGNED_COLORS, 256)
        return (255 * colors(np.arange(256))[:, :3]).astype(np.float32)
    return (255 * list_colors(cmap)(np.arange(256))[:, :3]).astype(np.float32)


def paint_scale(cmap: str, width: int = 256, height: int = 16) -> NDArray[np.uint8]:
    """Draw the colours of a scale over black sky, from its lower to its upper end.

    Parameters
    ----------
    cmap : str
        As of `paint_map`.
    width, height : int
        Size [pixels].

    Returns
    -------
    (height, width, 3) ndarray of uint8
    """
    ramp = np.linspace(-1.0 if cmap == SIGNED else 0.0, 1.0, width, dtype=np.float32)
    sky = np.zeros((height, width, 3), np.uint8)
    return paint_map(np.broadcast_to(ramp, (height, width)).copy(), sky, 1.0, cmap)
