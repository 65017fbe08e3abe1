"""Forms: what a store holds of each galaxy.

A full store holds maps in float16 and cutouts. A native one holds maps of 8 bits, of the same size,
and reads cutouts again from the images. One of statistics holds numbers only: who wants to see a
galaxy explains it again. The last two therefore hold the address and the digest of each image.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from galfig.config import Form

# Text of the address of an image that is an element of an array: file, array and position. Between
# the files of an image of several bands stands a line break, which no name of a file holds.
BETWEEN = "\n"
# Numbers that a store of statistics holds of the maps of each galaxy.
STATISTICS = (
    *("cam_total", "cam_peak", "centroid_x", "centroid_y"),
    *("concentration", "positive_share"),
)
# Maps, with the divisor by which a full and a native store divide them.
_DIVISORS = {
    "cams": ("cam_scale", "cam_step"),
    "cams_sd": ("cams_sd_scale", "cams_sd_step"),
    "evidence_sd": ("evidence_sd_scale", "evidence_sd_step"),
}
_SCALES, _STEPS = (tuple(pair[i] for pair in _DIVISORS.values()) for i in range(2))
# What the other forms lack of a full store, and what it lacks of theirs.
_LACKING: dict[Form, tuple[str, ...]] = {
    "full": (*_STEPS, *STATISTICS, "image"),
    "native": (*_SCALES, *STATISTICS, "cutouts"),
    # The probabilities follow from the logits, and the scale of lengths from the redshift.
    "statistics": (
        *(*_DIVISORS, *_SCALES, *_STEPS, "cutouts"),
        *("probs", "kpc_per_arcsec"),
    ),
}
# Values of a map of 8 bits, on either side of zero.
N_STEPS = 127


def list_lacking(form: Form) -> Collection[str]:
    """Return the datasets that a store of a form never holds."""
    return _LACKING[form]


def name_divisor(name: str, form: Form) -> str:
    """Return the dataset that a dataset of maps is to be multiplied by.

    Parameters
    ----------
    name : {"cams", "cams_sd", "evidence_sd"}
        The maps.
    form : {"full", "native"}
        What the store holds.

    Returns
    -------
    str
    """
    return _DIVISORS[name][0 if form == "full" else 1]


def get_map_type(form: Form) -> type[np.float16] | type[np.int8]:
    """Return the type of the elements of maps: float16, or int8 in a native store."""
    return np.float16 if form == "full" else np.int8


def quantise(maps: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round maps to 8 bits, with one step for each map.

    The step is the largest absolute value of the map over 127. Zero stays zero, signs are kept, and
    no value changes by more than half a step, 0.4 % of the largest.

    Parameters
    ----------
    maps : (n, h, w) ndarray of float32
        Signed maps.

    Returns
    -------
    values : (n, h, w) ndarray of int8
        From -127 to 127.
    step : (n,) ndarray of float32
        What they are to be multiplied by; 1 for a map of zeros.
    """
    peak = np.abs(maps).max(axis=(1, 2), initial=0.0).astype(np.float64)
    limits = np.finfo(np.float32)
    # The largest step whose 127-fold is a float32, and the smallest that is not rounded itself.
    step = np.clip(peak / N_STEPS, limits.tiny, float(limits.max) / N_STEPS).astype(np.float32)
    is_over = N_STEPS * step.astype(np.float64) > limits.max
    step = np.where(is_over, np.nextafter(step, np.float32(0)), step)
    step = np.where(peak > 0, step, np.float32(1))
    values = np.rint(maps / step.astype(np.float64)[:, None, None])
    return np.clip(values, -N_STEPS, N_STEPS).astype(np.int8), step
