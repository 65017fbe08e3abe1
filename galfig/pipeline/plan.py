"""The plan: what is to be explained, in which units, and what it follows from."""

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np

from galfig.catalog.galaxies import Galaxies
from galfig.config import Settings, Split
from galfig.errors import (
    CatalogError,
    CheckpointError,
)
from galfig.networks.architectures import find_layer
from galfig.networks.checkpoint import Checkpoint
from galfig.runtime.messages import shorten
from galfig.store.schema import SCHEMA_VERSION


@dataclass(frozen=True)
class Plan:
    """What is to be explained, in which units.

    Attributes
    ----------
    galaxies : Galaxies
        The galaxies to explain, in the order of the store.
    shards : tuple of slice
        Consecutive runs of them.
    layer_name : str
        The layer explained.
    split : str
        "valid", "train" or "all".
    settings : Settings
        As recorded in the store.
    digest : str
        Equal for two plans that give the same store.
    """

    galaxies: Galaxies
    shards: tuple[slice, ...]
    layer_name: str
    split: Split
    settings: Settings
    digest: str


def make_plan(
    galaxies: Galaxies, settings: Settings, checkpoint: Checkpoint, split: Split = "valid"
) -> Plan:
    """Lay out the work: pure, and the same for the same catalog, settings and checkpoint.

    Raises
    ------
    CatalogError
        No galaxy in the split.
    CheckpointError
        The network tells other classes apart than the catalog holds.
    ConfigError
        A layer that the network does not have.
    """
    galaxies = _match_classes(galaxies, checkpoint)
    in_split = {"valid": galaxies.in_valid, "train": ~galaxies.in_valid}.get(split)
    chosen = galaxies if in_split is None else galaxies.take(in_split)
    if not len(chosen):
        raise CatalogError(
            f"{settings.catalog_path}: no galaxy in split {split!r}, expected at least one; use "
            '`split="all"`, or change [split]'
        )
    layer_name = checkpoint.layer_name
    if settings.maps.layer != "auto":
        layer_name, _ = find_layer(
            checkpoint.model,
            settings.maps.layer,
            checkpoint.image_size,
            checkpoint.record.arch,
            checkpoint.n_channels,
        )
    size = settings.maps.shard_size
    shards = tuple(
        slice(start, min(start + size, len(chosen))) for start in range(0, len(chosen), size)
    )
    ingredients = {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": checkpoint.digest,
        "catalog": galaxies.catalog_sha256,
        "settings": settings.record(),
        "layer": layer_name,
        "split": split,
        "objid": list(chosen.objid),
    }
    digest = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()
    return Plan(chosen, shards, layer_name, split, settings, digest)


def digest_part(plan: Plan, shard: slice) -> str:
    """Return what a part is made from: the plan, and which of its galaxies."""
    return hashlib.sha256(f"{plan.digest} {shard.start} {shard.stop}".encode()).hexdigest()


def _match_classes(galaxies: Galaxies, checkpoint: Checkpoint) -> Galaxies:
    """Count the labels as the network does, whatever the order of the settings."""
    names = checkpoint.class_names
    is_labelled = galaxies.label >= 0
    if not is_labelled.any() or galaxies.class_names == names:
        return galaxies
    if set(galaxies.class_names) != set(names):
        raise CheckpointError(
            f"the network's classes are {shorten(names)}, expected those of the settings, "
            f"{shorten(galaxies.class_names)}; set [classes] to what 'galfig info' shows for the "
            'checkpoint, or column = "" to explain galaxies without classes'
        )
    position = np.array([names.index(name) for name in galaxies.class_names], dtype=np.int16)
    label = np.where(is_labelled, position[galaxies.label], np.int16(-1))
    return replace(galaxies, label=label, class_names=names)
