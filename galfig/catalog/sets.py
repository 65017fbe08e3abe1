"""Sets: what a training asks of the galaxies that train and validate a network."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galfig.catalog.galaxies import SPLITS, Galaxies, describe_rejected
from galfig.config import SplitSettings
from galfig.errors import CatalogError
from galfig.metrics import describe_few

logger = logging.getLogger(__name__)


def check_sets(galaxies: Galaxies, split: SplitSettings) -> None:
    """Check that each class has galaxies to train on and to validate; warn where they are few.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies whose image is readable.
    split : SplitSettings
        ``allow_missing`` permits a validation set without a class.

    Raises
    ------
    CatalogError
        If a class has no galaxy to train on, the validation set has none at all, or it lacks a
        class and must not.
    """
    advice = "change the split or its seed"
    if galaxies.rejected:
        advice = f"{describe_rejected(galaxies.rejected)}: fix these, or {advice}"
    for label, name in enumerate(galaxies.class_names):
        if not np.any((galaxies.label == label) & galaxies.in_train):
            raise CatalogError(
                f"training set: no galaxy of class {name!r}, expected at least one; {advice}"
            )
    if not galaxies.in_valid.any():
        raise CatalogError(f"validation set: no galaxy, expected at least one; {advice}")
    n_valid = count_classes(galaxies, galaxies.in_valid)
    lacking = [name for name, n in n_valid.items() if not n]
    if lacking and not split.allow_missing:
        raise CatalogError(
            f"validation set: no galaxy of class {lacking[0]!r}, expected some in each class, "
            f"without which its metrics are not defined; {advice}, or set [split] allow_missing = "
            "true"
        )
    for shortage in describe_few(count_classes(galaxies, galaxies.in_train), n_valid):
        logger.warning("few galaxies: %s; the metrics mean little", shortage)


def count_classes(galaxies: Galaxies, mask: NDArray[np.bool_]) -> dict[str, int]:
    """Count some of the galaxies by class.

    Parameters
    ----------
    galaxies : Galaxies
        N galaxies.
    mask : (N,) array of bool
        Which of them to count.

    Returns
    -------
    dict of str to int
        Their number, for each class that is kept.
    """
    labels = galaxies.label[mask]
    return {name: int(np.sum(labels == i)) for i, name in enumerate(galaxies.class_names)}


def check_channels(is_constant: Sequence[bool] | NDArray[np.bool_]) -> None:
    """Check that the images of the training set hold something in each channel.

    Parameters
    ----------
    is_constant : (n_channels,) sequence of bool
        Whether a channel is the same in every pixel of every image.

    Raises
    ------
    CatalogError
        If one is.
    """
    if any(is_constant):
        name = _name_channel([*is_constant].index(True), len(is_constant))
        raise CatalogError(
            f"training set: {name} is the same in every pixel of every image, expected images of "
            "galaxies; check an image, and [catalog] images and fits_range"
        )


def _name_channel(channel: int, n_channels: int) -> str:
    if n_channels == 3:
        return ("red", "green", "blue")[channel]
    return "the band" if n_channels == 1 else f"channel {channel}"


def check_split(galaxies: Galaxies, split: str, path: Path) -> None:
    """Check that there is a galaxy to explain.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies, with the split by which the network was trained.
    split : {"valid", "train", "test", "all"}
        Those to explain.
    path : Path
        Path of the catalog, for messages.

    Raises
    ------
    CatalogError
        If there is none.
    """
    if len(galaxies) and (split == "all" or np.any(galaxies.split == split)):
        return
    raise CatalogError(
        f"{path}: no galaxy in split {split!r}, expected at least one; for this network they are "
        f'{describe_splits(galaxies)}; use `split="all"`, or say it in [split] column'
    )


def describe_splits(galaxies: Galaxies) -> str:
    """Count galaxies by how the training of the network used them, such as "80 train, 20 valid"."""
    counts = {word or "unknown": int(np.sum(galaxies.split == word)) for word in (*SPLITS, "")}
    return ", ".join(f"{n} {word}" for word, n in counts.items() if n)
