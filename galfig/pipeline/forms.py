"""Forms: what a build records where a store does not hold all maps and cutouts."""

import json
from pathlib import Path
from typing import Any

import torch

from galfig.attribution.engine import Engine
from galfig.networks.checkpoint import Checkpoint
from galfig.pipeline.addresses import describe_root, find_root
from galfig.pipeline.plan import Plan
from galfig.runtime.storage import Address


def choose_root(plan: Plan) -> Path | Address | None:
    """Return the folder that the addresses of images are relative to; None for a full store."""
    if plan.settings.maps.store == "full":
        return None
    return find_root(plan.galaxies.paths, plan.settings.images_dir)


def describe_form(
    plan: Plan,
    checkpoint: Checkpoint,
    engine: Engine,
    images: torch.Tensor | None,
    path: Path,
    root: Path | Address | None,
) -> dict[str, Any]:
    """Return the root attributes that a store has where it is not full.

    Parameters
    ----------
    plan : Plan
        What is explained.
    checkpoint : Checkpoint
        The network.
    engine : Engine
        Its engine; any of an ensemble.
    images : (N, n_channels, H, W) Tensor or None
        Some normalised images.
    path : Path
        The store.
    root : Path, Address or None
        The folder from `choose_root`.

    Returns
    -------
    dict
        Empty for a full store.
    """
    form = plan.settings.maps.store
    if root is None:
        return {}
    attrs: dict[str, Any] = {"store": form, "n_channels": checkpoint.n_channels}
    if (folder := describe_root(root, path)) is not None:
        attrs["images_dir"] = folder
    if form == "statistics" and images is not None:
        attrs["map_shape"] = json.dumps([*engine(images[:1]).cams.shape[2:]])
    return attrs
