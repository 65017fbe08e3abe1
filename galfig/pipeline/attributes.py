"""Root attributes of a store: what it says of its galaxies, its networks and their maps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch

import galfig
from galfig.attribution.engine import Engine, EngineRecord
from galfig.attribution.head import measure_head
from galfig.attribution.methods import METHODS
from galfig.attribution.variants import set_arithmetic
from galfig.config import NONLINEAR_METHODS
from galfig.images.sources import find_stretch
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.receptive import describe_field
from galfig.pipeline.addresses import describe_root
from galfig.pipeline.plan import Plan
from galfig.pipeline.software import list_software
from galfig.runtime.clock import now
from galfig.runtime.documents import dump_json
from galfig.runtime.storage import Address

# Keys of a checkpoint's metadata that describe the training; the store keeps them.
_TRAINING_KEYS = (
    "arch",
    "history",
    "lr",
    "lr_finder",
    "metrics",
    "n_train",
    "n_valid",
    "seeds",
    "settings",
    "simulated",
    "versions",
)
# Of these, the keys that are of each network of an ensemble by itself; and its seeds.
_NETWORK_KEYS = ("history", "lr", "lr_finder", "metrics", "seeds")


def describe_store(
    plan: Plan,
    checkpoint: Checkpoint,
    engines: Sequence[Engine],
    images: torch.Tensor | None,
    *,
    image_shift: Mapping[str, Any] | None = None,
    accuracy_check: Mapping[str, Any] | None = None,
    precision_check: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the root attributes of a store.

    Parameters
    ----------
    plan : Plan
        What is explained.
    checkpoint : Checkpoint
        The network, or an ensemble of several.
    engines : sequence of Engine
        The engine of each network.
    images : (N, n_channels, H, W) Tensor of float32 or None
        The images on which the heads of the networks are measured.
    image_shift : mapping, optional
        The result of `galfig.networks.shift.compare_images`.
    accuracy_check : mapping, optional
        The result of `galfig.networks.accuracy.check_accuracy`.
    precision_check : mapping, optional
        The result of `galfig.pipeline.precision.choose_precision`.

    Returns
    -------
    dict of str to str, int, float or bool
        The attributes by name, except ``schema_version``.
    """
    galaxies = plan.galaxies
    # Of several networks, the one that had most reasons not to be explained faster.
    record = max((one.record for one in engines), key=lambda found: len(_list_reasons(found)))
    attrs: dict[str, Any] = {
        "galfig_version": galfig.__version__,
        "torch_version": str(torch.__version__),
        "created": now().isoformat(timespec="seconds"),
        "plan_digest": plan.digest,
        "catalog_sha256": galaxies.catalog_sha256,
        "checkpoint_sha256": checkpoint.digest,
        "class_names": json.dumps(checkpoint.class_names),
        "class_counts": json.dumps(galaxies.class_counts),
        "target_layer": plan.layer_name,
        "split": plan.split,
        "cutout_size": checkpoint.cutout_size,
        "simulated": galaxies.simulated,
        "config": json.dumps(plan.settings.record(), sort_keys=True),
        "training": dump_json(_describe_training(checkpoint.metadata)),
        "image_shift": dump_json(image_shift),
        "engine": dump_json(record and asdict(record)),
    }
    if checkpoint.ensemble:
        attrs |= _describe_ensemble(checkpoint)
    method = plan.settings.maps.method
    if method != "grad-cam":
        attrs["method"] = method
    # A pixel of the image sees itself.
    is_of_layer = not METHODS[method].of_pixels
    if is_of_layer and (field := describe_field(checkpoint, plan.layer_name, plan.layer)):
        attrs["receptive_field"] = json.dumps(field)
    if plan.layer.is_bypassed:
        attrs["layer_is_bypassed"] = True
    if galaxies.origin is not None:
        attrs["fetched"] = dump_json(galaxies.origin.model_dump(mode="json"))
    archs = [str(network.metadata["arch"]) for network in checkpoint.networks]
    attrs["software"] = json.dumps(list_software(plan, archs))
    if stretch := find_stretch(galaxies.paths, plan.settings.catalog):
        attrs["stretch"] = stretch
    if isinstance(plan.settings.catalog.pixel_scale, float):
        attrs["pixel_scale"] = plan.settings.catalog.pixel_scale
    heads = [_describe_head(plan, network, images) for network in checkpoint.networks]
    attrs |= _average_heads(heads)
    attrs["accuracy_check"] = dump_json(accuracy_check)
    if precision_check is not None:
        attrs["precision_check"] = dump_json(precision_check)
    return attrs


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
        The folder that the addresses of images are relative to; None for a full store.

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


def _list_reasons(record: EngineRecord | None) -> tuple[str, ...]:
    return () if record is None else record.reasons


def _describe_ensemble(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the root attributes of a store that say how the networks of an ensemble differ."""
    networks = [
        {
            "checkpoint_sha256": network.digest,
            **{key: network.metadata.get(key) for key in _NETWORK_KEYS},
        }
        for network in checkpoint.ensemble
    ]
    return {"n_networks": len(networks), "networks": dump_json(networks)}


def _describe_head(
    plan: Plan, checkpoint: Checkpoint, images: torch.Tensor | None
) -> dict[str, Any]:
    """Return the root attributes that say what maps add up to, and how far Grad-CAM is from it."""
    model, method = checkpoint.model, plan.settings.maps.method
    if images is None or METHODS[method].of_pixels:
        return {}
    layer = model.get_submodule(plan.layer_name)
    device = next(model.parameters()).device
    with set_arithmetic("float32", device):
        head = measure_head(
            model,
            images.to(device),
            layer,
            channels_last=plan.layer.channels_last,
            tokens=plan.layer.tokens,
        )
    attrs: dict[str, Any] = {}
    if head.bias is None and isfinite(head.hires_distance):
        attrs["hires_distance"] = head.hires_distance
    # The other methods do not add up to the logits.
    if head.bias is not None and method not in NONLINEAR_METHODS:
        attrs["head_bias"] = json.dumps(head.bias.tolist())
    return attrs


def _average_heads(heads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `_describe_head` says of the mean of maps, from what it says of each network."""
    if len(heads) == 1:
        return dict(heads[0])
    attrs: dict[str, Any] = {}
    if all("head_bias" in head for head in heads):
        biases = np.array([json.loads(head["head_bias"]) for head in heads])
        attrs["head_bias"] = json.dumps(biases.mean(axis=0).tolist())
    if all("hires_distance" in head for head in heads):
        attrs["hires_distance"] = float(np.mean([head["hires_distance"] for head in heads]))
    return attrs


def _describe_training(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a store says of the training of its network, or of its import."""
    training = {key: metadata.get(key) for key in _TRAINING_KEYS}
    if "start" in metadata:
        training["start"] = metadata["start"]
    if "imported" in metadata:
        training |= {"imported": metadata["imported"], "network_size": metadata["image_size"]}
    return training
