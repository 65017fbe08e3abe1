"""Membership: which galaxies trained a network, which validated it, and which it never saw.

A checkpoint records this as digests of the galaxies, so that they can be told in any catalog. A new
draw from another catalog would call galaxies a validation set that never were one.
"""

import base64
import logging
from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from galfig.catalog.galaxies import SPLITS, Galaxies
from galfig.config import restore_settings
from galfig.images.identity import digest_files
from galfig.images.sources import Source, take_sources
from galfig.networks.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

# What identifies a galaxy: digests of its identifier and of its image.
_GALAXY = np.dtype([("name", ">u8"), ("image", ">u8")])


def record_members(
    galaxies: Galaxies, *, known: Mapping[Source, int] = MappingProxyType({})
) -> dict[str, str]:
    """Record which galaxies a training uses, and how.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies, with their split.
    known : mapping of Path (or other source) to int, optional
        Digests of images, from `galfig.networks.training_set.read_training_set`; the other image
        files are read.

    Returns
    -------
    dict of str to str
        For "train", "valid" and "test", 16 bytes for each galaxy as base64: the first 8 bytes of
        the SHA-256 of the identifier, and of the image file (zero if it is empty or no image). They
        are in increasing order.

    Raises
    ------
    LostCutoutError
        If an image file is missing, or cannot be read for a reason that is not its own.
    """
    found = np.empty(len(galaxies), _GALAXY)
    found["name"] = _digest_names(galaxies.objid)
    unread = [path for path in galaxies.paths if path not in known]
    digests = {**known, **dict(zip(unread, digest_files(unread).tolist(), strict=True))}
    found["image"] = [digests[path] for path in galaxies.paths]
    return {
        word: base64.b64encode(np.sort(found[galaxies.split == word]).tobytes()).decode()
        for word in SPLITS
    }


def find_splits(checkpoint: Checkpoint, galaxies: Galaxies) -> NDArray[np.object_]:
    """Tell how the training of a network used each galaxy.

    A checkpoint from `galfig.train` knows the galaxies of its own catalog by name. In another
    catalog, where a name such as "17" may be that of another galaxy, the image must be the same as
    well. A checkpoint that is too old for this knows its galaxies if catalog and settings of the
    split are those of its training. For a network from elsewhere, only a column of the catalog can
    say it.

    Parameters
    ----------
    checkpoint : Checkpoint
        The network.
    galaxies : Galaxies
        N galaxies of any catalog.

    Returns
    -------
    (N,) array of str
        "train", "valid" or "test"; "" where it is unknown.
    """
    unknown = np.full(len(galaxies), "", dtype=object)
    asked = galaxies.settings.split
    has_column = asked.column is not None or bool(asked.catalogs)
    members = checkpoint.record.members
    if members is None:
        is_known = has_column or _is_same_draw(checkpoint, galaxies)
        return galaxies.split if is_known else unknown
    # What the catalog holds out is held out from a network that never saw it, too.
    found = np.where(galaxies.split == "test", "test", "").astype(object) if has_column else unknown
    names = _digest_names(galaxies.objid)
    is_own = checkpoint.record.catalog_sha256 == galaxies.catalog_sha256
    n_strangers = 0
    for word in SPLITS:
        # numpy looks for few numbers in its own order of bytes only.
        known = np.frombuffer(getattr(members, word), _GALAXY).astype(_GALAXY.newbyteorder("="))
        rows = np.flatnonzero(np.isin(names, known["name"]))
        if not is_own:
            images = digest_files(take_sources(galaxies.paths, rows)).tolist()
            pairs = set(known.tolist())
            is_same = [pair in pairs for pair in zip(names[rows].tolist(), images, strict=True)]
            n_strangers += len(rows) - sum(is_same)
            rows = rows[is_same]
        found[rows] = word
    if n_strangers:
        logger.warning(
            "%s: %d galaxies are named like some that the network was trained with, and have other "
            "images; whether they are the same galaxies is unknown",
            galaxies.settings.catalog_path,
            n_strangers,
        )
    return found


def _digest_names(objid: NDArray[np.object_]) -> NDArray[np.uint64]:
    """Return the first 8 bytes of the SHA-256 of each identifier, (N,)."""
    digests = (_shorten(sha256(name.encode()).digest()) for name in objid)
    return np.fromiter(digests, np.uint64, len(objid))


def _shorten(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big")


def _is_same_draw(checkpoint: Checkpoint, galaxies: Galaxies) -> bool:
    """Tell whether the split of the galaxies is the draw with which a network was trained."""
    metadata = checkpoint.metadata
    if checkpoint.record.catalog_sha256 != galaxies.catalog_sha256:
        return False
    try:
        trained = restore_settings(metadata["settings"])
    except (KeyError, AttributeError, ValidationError):
        return False
    asked = restore_settings(galaxies.settings.record())
    if (trained.classes, trained.split) != (asked.classes, asked.split):
        return False
    # The draw depends on which images are there, and so do the numbers in each class.
    counts: dict[str, Any] = {
        f"n_{word}": {
            name: int(np.sum((galaxies.split == word) & (galaxies.label == index)))
            for index, name in enumerate(galaxies.class_names)
        }
        for word in ("train", "valid")
    }
    return all(metadata.get(key) == count for key, count in counts.items())
