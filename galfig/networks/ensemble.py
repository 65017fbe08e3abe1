"""Ensembles: several networks of one recipe, in a folder, that are explained together."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from galfig.config import MAX_NETWORKS
from galfig.errors import CheckpointError
from galfig.networks.checkpoint import Checkpoint, load_checkpoint
from galfig.networks.recipe import describe_difference, is_same_recipe, restore_recipe
from galfig.networks.resume import is_progress
from galfig.runtime.messages import quote, shorten

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
# What the metadata say of each network by itself.
_OWN_KEYS = ("digest", "history", "lr", "lr_finder", "metrics")


def load_networks(path: Path | str, *, arch: str | None = None) -> Checkpoint:
    """Read a checkpoint, or all checkpoints of a folder as an ensemble.

    Parameters
    ----------
    path : Path or str
        A file that ``galfig train`` wrote, or a folder with several of one recipe. Other files of
        the folder are passed over, and the log names them.
    arch : str, optional
        The architecture, if the user's own code builds it; see `load_checkpoint`.

    Returns
    -------
    Checkpoint
        That of the file, or of the ensemble; see `join_networks`. Networks are in the order of
        their names, where network-10 follows network-9.

    Raises
    ------
    CheckpointError
        If a file cannot be used (see `load_checkpoint`), the folder holds fewer than two networks,
        or they disagree.
    """
    path = Path(path)
    if not path.is_dir():
        return load_checkpoint(path, arch=arch)
    files = list_networks(path)
    if len(files) < 2:
        found = f"one network, {quote(files[0].name)}" if files else "no network"
        advice = "give that file itself, or train more" if files else "train some with `networks`"
        raise CheckpointError(
            f"{path}: a folder with {found}, expected several {SUFFIX} files; {advice}"
        )
    networks = [load_checkpoint(file, arch=arch) for file in files]
    return join_networks(networks, [str(file) for file in files])


def list_networks(folder: Path) -> list[Path]:
    """List the checkpoints of a folder, by name, and log which other files are passed over.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    list of Path
        Its files with the suffix of checkpoints, except unfinished ones.

    Raises
    ------
    CheckpointError
        If the folder cannot be read, one of them is a link, or there are more than `MAX_NETWORKS`.
    """
    try:
        entries = sorted(folder.iterdir(), key=_natural_order)
    except OSError as exc:
        raise CheckpointError(f"{folder}: cannot be read ({exc.strerror})") from exc
    files, others = [], []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if is_progress(entry):
            logger.warning(
                "%s: of an unfinished training, whose network is not used; `resume` goes on with "
                "it",
                entry,
            )
        elif entry.suffix != SUFFIX or entry.is_dir():
            others.append(entry.name)
        elif entry.is_symlink():
            raise CheckpointError(
                f"{entry}: a symbolic link, expected a file in the folder of an ensemble; copy it"
            )
        else:
            files.append(entry)
    if len(files) > MAX_NETWORKS:
        raise CheckpointError(
            f"{folder}: a folder with {len(files)} networks, expected at most {MAX_NETWORKS}"
        )
    if others:
        logger.info("%s: passed over what is no checkpoint: %s", folder, shorten(others, 3))
    return files


def list_files(model: Path) -> list[Path]:
    """Return the file of a network, or the files of the networks in a folder."""
    return sorted(model.glob(f"*{SUFFIX}")) if model.is_dir() else [model]


def name_network(folder: Path, number: int) -> Path:
    """Return the file of a network of an ensemble that is trained, numbered from 1."""
    return folder / f"network-{number}{SUFFIX}"


def describe_accuracies(ensemble: Checkpoint) -> str:
    """Describe the accuracies of the networks of an ensemble on its validation set.

    Parameters
    ----------
    ensemble : Checkpoint
        From `join_networks`.

    Returns
    -------
    str
        Such as "5 networks, accuracies 0.934 to 0.961, mean 0.948, standard deviation 0.010;
        always 'low' would give 0.513".
    """
    count = f"{len(ensemble.networks)} networks"
    metrics = [network.record.metrics or {} for network in ensemble.networks]
    found = np.array([one.get("accuracy", np.nan) for one in metrics])
    if not np.isfinite(found).all():
        return f"{count}, whose accuracies are not known"
    words = (
        f"{count}, accuracies {found.min():.3f} to {found.max():.3f}, mean {found.mean():.3f}, "
        f"standard deviation {found.std(ddof=1):.3f}"
    )
    n_valid = ensemble.record.n_valid or {}
    if not sum(n_valid.values()):
        return words
    majority = max(n_valid, key=lambda name: n_valid[name])
    share = n_valid[majority] / sum(n_valid.values())
    return f"{words}; always {majority!r} would give {share:.3f}"


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Return a key by which network-10 follows network-9."""
    return [
        (int(part), "") if part.isdecimal() and part.isascii() else (-1, part)
        for part in re.split(r"([0-9]+)", path.name)
    ]


def join_networks(networks: Sequence[Checkpoint], names: Sequence[str] = ()) -> Checkpoint:
    """Join networks of one recipe to an ensemble.

    Parameters
    ----------
    networks : sequence of Checkpoint
        At least two.
    names : sequence of str, optional
        Their names, for messages; by default, "network 1" and so on.

    Returns
    -------
    Checkpoint
        Its ``ensemble`` holds the networks. It has the model of the first, and its metadata
        without what is that network's own, such as the history of its training. Its digest follows
        from those of all networks.

    Raises
    ------
    CheckpointError
        If two are the same network, or differ in their classes, sizes, channels, normalisation,
        architecture or layer, in which galaxies trained them, or in anything of the recipe but the
        seed of the training.
    """
    names = names or [f"network {number}" for number in range(1, len(networks) + 1)]
    first = networks[0]
    for name, network in zip(names[1:], networks[1:], strict=True):
        if difference := _describe_disagreement(network, first):
            raise CheckpointError(
                f"{name}: {difference}, unlike {Path(names[0]).name}; an ensemble needs networks "
                "of one recipe and split, so move one of them away"
            )
    _refuse_twins(networks, names)
    metadata = {key: value for key, value in first.metadata.items() if key not in _OWN_KEYS}
    if "seeds" in metadata:
        metadata["seeds"] = {k: v for k, v in metadata["seeds"].items() if k != "training"}
    return replace(
        first,
        metadata=metadata,
        digest=digest_networks([network.digest for network in networks]),
        ensemble=tuple(networks),
    )


def digest_networks(digests: Sequence[str]) -> str:
    """Return the digest of an ensemble, from those of its networks in their order."""
    return hashlib.sha256(json.dumps(list(digests)).encode()).hexdigest()


def _describe_disagreement(network: Checkpoint, first: Checkpoint) -> str:
    """Describe how a network differs from the first; "" if both are of one recipe."""
    found, wanted = network.record, first.record
    for key, words in (
        ("class_names", "its classes are"),
        ("arch", "its architecture is"),
        ("cutout_size", "the side of its cutouts is"),
        ("image_size", "the side of its images is"),
        ("layer", "the layer that it explains is"),
        ("layer_channels_last", "that its layer has the channels last is"),
    ):
        mine, other = getattr(found, key), getattr(wanted, key)
        if mine != other:
            return f"{words} {_write(mine)} and not {_write(other)}"
    if len(found.mean) != len(wanted.mean):
        return f"it has {len(found.mean)} channels and not {len(wanted.mean)}"
    for key in ("mean", "std"):
        mine, other = getattr(found, key), getattr(wanted, key)
        if not np.allclose(mine, other, rtol=1e-6, atol=0):
            return f"it normalises with the {key} {_round(mine)} and not {_round(other)}"
    if found.catalog_sha256 != wanted.catalog_sha256:
        return "it was trained with another catalog"
    if found.members != wanted.members:
        return "it was trained with other galaxies, or another split of them"
    recipes = _strip_seed(network.metadata), _strip_seed(first.metadata)
    if not is_same_recipe(*recipes):
        return f"it was trained with another recipe ({describe_difference(*recipes[::-1])})"
    return ""


def _strip_seed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of a network without the seed of its training."""
    recipe = restore_recipe(metadata.get("recipe") or {})
    training = recipe.get("training")
    if isinstance(training, dict):
        recipe["training"] = {key: training[key] for key in training if key != "seed"}
    return recipe


def _refuse_twins(networks: Sequence[Checkpoint], names: Sequence[str]) -> None:
    """Raise CheckpointError if a network is there twice: its scatter would be too small."""
    known: dict[Any, str] = {}
    for name, network in zip(names, networks, strict=True):
        seed = (network.record.seeds or {}).get("training")
        keys = {"is the same as": network.digest, "was trained with the same seed as": seed}
        for words, key in keys.items():
            if key in known:
                raise CheckpointError(
                    f"{name}: {words} {Path(known[key]).name}, expected networks of different "
                    "seeds; move one of them away"
                )
        known |= {key: name for key in keys.values() if key not in (None, "")}


def _write(value: Any) -> str:
    return shorten(value) if isinstance(value, tuple) else quote(value)


def _round(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
