"""Plan: the galaxies to explain, in shards, and a digest of all that the store depends on."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from galfig.catalog.galaxies import Galaxies
from galfig.catalog.sets import check_split, describe_splits
from galfig.config import PIXEL_METHODS, Settings
from galfig.errors import (
    CheckpointError,
    ConfigError,
)
from galfig.images.sources import find_stretch
from galfig.networks.architectures import LayerTraits, describe_layer, find_layer
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.membership import find_splits
from galfig.runtime.documents import digest_json
from galfig.runtime.messages import shorten
from galfig.runtime.options import Split
from galfig.store.outline import digest_part
from galfig.store.schema import SCHEMA_VERSION

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The galaxies to explain, in shards.

    Attributes
    ----------
    galaxies : Galaxies
        The galaxies to explain, in the order of the store.
    shards : tuple of slice
        Consecutive ranges of their positions.
    layer_name : str
        Name of the layer to explain; "" where the pixels of the image are explained.
    layer : LayerTraits
        How its maps lie in memory, and whether the image also reaches the logits past it.
    split : {"valid", "train", "test", "all"}
        The split that the galaxies were chosen from.
    settings : Settings
        The settings, recorded in the store.
    digest : str
        SHA-256 that is equal for two plans that give the same store.
    engine : str, default ""
        How maps are computed, once it is known; it belongs to the digests of parts.
    """

    galaxies: Galaxies
    shards: tuple[slice, ...]
    layer_name: str
    layer: LayerTraits
    split: Split
    settings: Settings
    digest: str
    engine: str = ""

    def take(self, number: int) -> Galaxies:
        """Return the galaxies of a shard."""
        shard = self.shards[number]
        return self.galaxies.take(np.arange(shard.start, shard.stop))

    def count(self, numbers: Iterable[int]) -> int:
        """Return the number of galaxies of some shards."""
        return sum(self.shards[number].stop - self.shards[number].start for number in numbers)

    def digest_part(self, number: int) -> str:
        """Return the digest of the inputs of a part."""
        return digest_part(self.digest, self.shards[number], self.engine)


def make_plan(
    galaxies: Galaxies, settings: Settings, checkpoint: Checkpoint, split: Split | None = None
) -> Plan:
    """Plan the work; the same catalog, settings and checkpoint always give the same plan.

    Parameters
    ----------
    galaxies : Galaxies
        The galaxies of the catalog.
    settings : Settings
        The settings; the layer and the size of a shard come from the table ``maps``.
    checkpoint : Checkpoint
        The network.
    split : {"valid", "train", "test", "all"}, optional
        Galaxies to explain, by how the training of the network used them. By default, the
        validation set if this catalog trained the network, and otherwise all.

    Returns
    -------
    Plan

    Raises
    ------
    CatalogError
        If the split holds no galaxy.
    CheckpointError
        If the classes of the network differ from those of the catalog.
    ConfigError
        If the network does not have the layer, or one is named for a method that needs none.
    """
    galaxies = _match_classes(galaxies, checkpoint)
    galaxies = replace(galaxies, split=find_splits(checkpoint, galaxies))
    split = split or _choose_split(galaxies, checkpoint)
    check_split(galaxies, split, settings.catalog_path)
    is_chosen = np.ones(len(galaxies), bool) if split == "all" else galaxies.split == split
    # A copy of the same rows would double the memory.
    chosen = galaxies if is_chosen.all() else galaxies.take(is_chosen)
    layer_name, traits = _find_layer(checkpoint, settings)
    if traits.warning:
        logger.warning("%s", traits.warning)
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
        "objid": chosen.objid,
        "splits": chosen.split,
    }
    if find_stretch(chosen.paths, settings.catalog) == "sky":
        # Images of FITS were stretched otherwise before this was recorded.
        ingredients["stretch"] = "sky"
    if galaxies.have_headers:
        # Without this, their headers said nothing.
        ingredients["headers"] = "wcs"
    # What was fetched with the images counts as far as the settings say nothing.
    scale = galaxies.pixel_scale if settings.catalog.pixel_scale is None else None
    if scale is not None or galaxies.is_north_up:
        ingredients["fetched"] = {
            "pixel_scale": None if scale is None else float(scale[0]),
            "is_north_up": galaxies.is_north_up,
        }
    digest = digest_json(ingredients)
    return Plan(chosen, shards, layer_name, traits, split, settings, digest)


def _find_layer(checkpoint: Checkpoint, settings: Settings) -> tuple[str, LayerTraits]:
    """Return the layer to explain: that of the settings, or of the checkpoint.

    Where pixels are explained, it is the network itself, whose name is "".
    """
    if settings.maps.method in PIXEL_METHODS:
        if settings.maps.layer != "auto":
            raise ConfigError(
                f"`layer` {settings.maps.layer!r}: {settings.maps.method} explains the pixels of "
                'the image, expected no layer; use `layer="auto"`'
            )
        return "", LayerTraits()
    name = settings.maps.layer if settings.maps.layer != "auto" else checkpoint.layer_name
    described = (checkpoint.image_size, checkpoint.record.arch, checkpoint.n_channels)
    name, _ = find_layer(checkpoint.model, name, *described)
    return name, describe_layer(checkpoint.model, name, *described)


def _choose_split(galaxies: Galaxies, checkpoint: Checkpoint) -> Split:
    """Return the split to explain by default."""
    is_own = checkpoint.record.catalog_sha256 == galaxies.catalog_sha256 or "" not in galaxies.split
    is_valid = is_own and bool(galaxies.in_valid.any()) and bool(np.any(galaxies.label >= 0))
    return "valid" if is_valid else "all"


def describe_plan(plan: Plan) -> str:
    """Describe the galaxies of a plan by how the training of the network used them.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    str
        Such as "518 galaxies to explain: 414 train, 104 valid".
    """
    return f"{len(plan.galaxies)} galaxies to explain: {describe_splits(plan.galaxies)}"


def _match_classes(galaxies: Galaxies, checkpoint: Checkpoint) -> Galaxies:
    """Renumber the labels in the order of the network's classes, not that of the settings."""
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
