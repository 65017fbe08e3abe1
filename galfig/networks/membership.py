"""Membership: which galaxies trained a network, which validated it, and which it never saw.

A checkpoint records this as a list of digests of identifiers, so that the galaxies can be told in
any catalog. A new draw from another catalog would call galaxies a validation set that never were.
"""

import base64
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from galfig.catalog.galaxies import SPLITS, Galaxies
from galfig.config import restore_settings
from galfig.networks.checkpoint import Checkpoint

_DIGEST = np.dtype(">u8")


def record_members(galaxies: Galaxies) -> dict[str, str]:
    """Record which galaxies a training uses, and how.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies, with their split.

    Returns
    -------
    dict of str to str
        For "train", "valid" and "test", the digests of the identifiers: 8 bytes each, big-endian,
        in increasing order, as base64.
    """
    digests = _digest_names(galaxies.objid).astype(_DIGEST)
    return {
        word: base64.b64encode(np.sort(digests[galaxies.split == word]).tobytes()).decode()
        for word in SPLITS
    }


def find_splits(checkpoint: Checkpoint, galaxies: Galaxies) -> NDArray[np.object_]:
    """Tell how the training of a network used each galaxy.

    A checkpoint from `galfig.train` knows its galaxies by name, in any catalog. One that is too
    old for this knows them if catalog and settings of the split are those of its training. For a
    network from elsewhere, only a column of the catalog can say it.

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
    has_column = galaxies.settings.split.column is not None
    members = checkpoint.record.members
    if members is None:
        is_known = has_column or _is_same_draw(checkpoint, galaxies)
        return galaxies.split if is_known else unknown
    # What the catalog holds out is held out from a network that never saw it, too.
    found = np.where(galaxies.split == "test", "test", "").astype(object) if has_column else unknown
    digests = _digest_names(galaxies.objid)
    for word in SPLITS:
        known = np.frombuffer(getattr(members, word), _DIGEST)
        found[np.isin(digests, known.astype(np.uint64))] = word
    return found


def _digest_names(objid: NDArray[np.object_]) -> NDArray[np.uint64]:
    """Return the first 8 bytes of the SHA-256 of each identifier, (N,)."""
    data = b"".join(sha256(name.encode()).digest()[:8] for name in objid)
    return np.frombuffer(data, _DIGEST).astype(np.uint64)


def _is_same_draw(checkpoint: Checkpoint, galaxies: Galaxies) -> bool:
    """Tell whether the split of the galaxies is the draw with which a network was trained."""
    metadata = checkpoint.metadata
    if checkpoint.record.catalog_sha256 != galaxies.catalog_sha256:
        return False
    try:
        trained = restore_settings(metadata["settings"])
    except (KeyError, AttributeError, ValidationError):
        return False
    if (trained.classes, trained.split) != (galaxies.settings.classes, galaxies.settings.split):
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
