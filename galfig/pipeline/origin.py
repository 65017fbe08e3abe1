"""Origin: the network that a store was built with, found by its digest."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from galfig.errors import CheckpointError
from galfig.networks.checkpoint import Checkpoint
from galfig.networks.ensemble import SUFFIX, digest_networks, list_networks, load_networks
from galfig.runtime.inputs import open_regular
from galfig.store.reader import Store

# The most files and folders beside a store that are looked at for its network.
_MAX_ENTRIES = 1000


def find_network(store: Store, models: Sequence[Path | Checkpoint], arch: str | None) -> Checkpoint:
    """Find the network of a store by its digest.

    Parameters
    ----------
    store : Store
        The store.
    models : sequence of Path or Checkpoint
        Networks to choose from, or folders of several of one recipe; if there are none, those in
        the folder of the store, and where its path is a link in that of the file to which it leads;
        no link among them.
    arch : str or None
        The architecture of a checkpoint that the user's own code builds.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        If none of them is the network of the store, or it cannot be used.
    """
    wanted = store.record.checkpoint_sha256
    for model in models:
        if isinstance(model, Checkpoint):
            if model.digest == wanted:
                return model
            continue
        if not model.exists():
            raise CheckpointError(f"{model}: no such file or folder, expected a network")
        if _digest_model(model) == wanted:
            return _load(model, wanted, arch)
    if models:
        names = ", ".join(
            "a network" if isinstance(one, Checkpoint) else str(one) for one in models
        )
        raise CheckpointError(
            f"{store.path}: was built with the network {wanted[:12]}..., and {names} is not it or "
            "changed; give the checkpoint that it was built with as `model`"
        )
    for entry in _list_beside(store.path):
        if _digest_model(entry) == wanted:
            return _load(entry, wanted, arch)
    raise CheckpointError(
        f"{store.path}: was built with the network {wanted[:12]}..., which is not in its folder or "
        "changed; name it with `model`"
    )


def _load(model: Path, wanted: str, arch: str | None) -> Checkpoint:
    checkpoint = load_networks(model, arch=arch)
    if checkpoint.digest != wanted:
        raise CheckpointError(f"{model}: changed while it was read, expected {wanted[:12]}...")
    return checkpoint


def _list_beside(store: Path) -> list[Path]:
    """List what may be the network of a store in its folder, what is called like it first."""
    # The user has named the store, and so the file to which it leads.
    places = (store.absolute(), store.resolve())
    found = [
        entry
        for folder in dict.fromkeys(place.parent for place in places)
        for entry in sorted(folder.iterdir())[:_MAX_ENTRIES]
        if not entry.is_symlink() and (entry.suffix == SUFFIX or entry.is_dir())
    ]
    stems = {place.stem for place in places}
    return sorted(found, key=lambda entry: entry.stem not in stems)


def _digest_model(model: Path) -> str:
    """Return the digest of a checkpoint, or of the networks in a folder; "" if it is neither."""
    try:
        if not model.is_dir():
            return _digest_file(model)
        if len(list(model.glob(f"*{SUFFIX}"))) < 2:
            return ""
        return digest_networks([_digest_file(file) for file in list_networks(model)])
    except (OSError, CheckpointError):
        return ""


def _digest_file(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
