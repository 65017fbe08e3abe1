"""Verifying stores, checkpoints, audits and manuscripts against their digests, and images."""

from pathlib import Path

from galfig.config import Form
from galfig.errors import CheckpointError, GalfigError
from galfig.info import EXPECTED, Kind, find_kind
from galfig.runtime.messages import CHECKSUM_MISMATCH, shorten
from galfig.store.audits import verify_audit
from galfig.store.reader import open_store, read_image_digests, verify_store

# A digest inside a file tells damage. Whoever changes the file can also write a new digest.
_ARRAYS: dict[Form, str] = {"full": "map, cutout, ", "native": "map, ", "statistics": ""}
_SCOPES: dict[Kind, str] = {
    "store": "every {arrays}number, text and attribute has the digest that the file states, "
    "values are within the schema, and probabilities are the softmax of the logits",
    "checkpoint": "weights and metadata have the digest that the file states, and weights are "
    "finite",
    "audit": "every number, text and attribute has the digest that the file states, and is within "
    "the schema",
    "networks": "weights and metadata of each network have the digest that its file states, and "
    "the networks are of one recipe and split",
    "manuscript": "figures, captions and texts have the digests of manuscript.lock; 'galfig "
    "manuscript check' compares them with the stores",
}


def describe_scope(path: Path, *, with_images: bool = False) -> str:
    """Say what `verify_path` compares.

    Parameters
    ----------
    path : Path
        A file or folder in which it found nothing.
    with_images : bool, default False
        Whether `verify_images` found nothing either.

    Returns
    -------
    str
        A clause. No digest in a file says who wrote the file.
    """
    kind = find_kind(path)
    if kind != "store":
        return _SCOPES[kind]
    with open_store(path) as store:
        words = _SCOPES[kind].format(arrays=_ARRAYS[store.form])
    return f"{words}; the images are those that it was made from" if with_images else words


def verify_path(path: Path) -> list[str]:
    """Verify a store, a checkpoint, an audit or a manuscript's folder against its own digests.

    Parameters
    ----------
    path : Path
        A file written by ``galfig build-maps``, ``galfig train`` or ``galfig audit``, or the folder
        of a manuscript.

    Returns
    -------
    list of str
        One line for each item that differs from what was written, or for a file that is missing;
        empty if everything matches. `describe_scope` says what was compared.
    """
    if not path.exists():
        return [f"no such file, expected {EXPECTED}"]
    try:
        kind = find_kind(path)
        if kind == "manuscript":
            return _verify_manuscript(path)
        if kind == "audit":
            return verify_audit(path)
        if kind == "networks":
            return _verify_networks(path)
        return verify_store(path) if kind == "store" else _verify_checkpoint(path)
    except GalfigError as exc:
        # The advice to run this command would be circular here.
        advice = f"; 'galfig verify {path}' says what is"
        return [str(exc).removeprefix(f"{path}: ").removesuffix(advice)]


def verify_images(path: Path, catalog: Path, images_dir: Path | str | None = None) -> list[str]:
    """Compare the images that a store was made from with those that are there now.

    Parameters
    ----------
    path : Path
        A file written by ``galfig build-maps``.
    catalog : Path
        The catalog.
    images_dir : Path or str, optional
        Folder, or address, that image paths are relative to; by default, that of the settings in
        the store.

    Returns
    -------
    list of str
        One line for the galaxies whose image changed, and one for those that have none now; empty
        if all images are the same, or if the file is no store.

    Raises
    ------
    StoreError
        If the store cannot be read.
    CatalogError
        If the catalog cannot be read.
    LostCutoutError
        If an image cannot be read.
    """
    if find_kind(path) != "store":
        return []
    # pandas takes long to import, and other files need none of this.
    import numpy as np

    from galfig.catalog.galaxies import load_galaxies
    from galfig.config import load_settings
    from galfig.pipeline.changes import find_changed

    with open_store(path) as store:
        overrides = {("catalog", "path"): catalog, ("catalog", "images_dir"): images_dir}
        settings = load_settings(store.settings, overrides)
        objid = store.objid
    recorded = read_image_digests(path)
    if recorded is None:
        return ["no digests of images, expected some; it was built by an older galfig"]
    galaxies = load_galaxies(settings, labelled=False)
    galaxies = galaxies.take(np.array([name in recorded for name in galaxies.objid], dtype=bool))
    changed, here = find_changed(galaxies, recorded), set(galaxies.objid)
    lost = [name for name in objid if name not in here]
    found = []
    if len(changed):
        found.append(f"image changed of {_count(len(changed))}: {shorten(changed.tolist())}")
    if lost:
        found.append(f"no image in {catalog} of {_count(len(lost))}: {shorten(lost)}")
    return found


def _count(n: int) -> str:
    return "1 galaxy" if n == 1 else f"{n} galaxies"


def _verify_checkpoint(path: Path) -> list[str]:
    # torch takes seconds to import, and only checkpoints need it.
    from galfig.networks.checkpoint import load_checkpoint, read_metadata
    from galfig.networks.families import OWN

    record, _ = read_metadata(path)
    if not record.arch.startswith(OWN):
        # That the tensors fit the network is told only by building it.
        load_checkpoint(path)
    if record.digest is None:
        raise CheckpointError(f"{path}: no digest, expected one; it was trained by an older galfig")
    return []


def _verify_networks(folder: Path) -> list[str]:
    """Verify each network of a folder, and then whether they belong together."""
    from galfig.networks.ensemble import list_networks, load_networks

    files = list_networks(folder)
    found = [f"{file.name}: {line}" for file in files for line in verify_path(file)]
    if not found:
        load_networks(folder)
    return found


def _verify_manuscript(folder: Path) -> list[str]:
    """Compare the files of a manuscript with the record of its build; stores may be missing."""
    from galfig.manuscript.folder import digest_file
    from galfig.manuscript.record import identify, load_record

    record = load_record(folder)
    if not record.figures:
        return [f"no record of a build, expected one; run 'galfig manuscript build {folder}'"]
    recorded = dict(record.texts)
    for figure in record.figures.values():
        recorded |= figure.files
    found = []
    for name, sha256 in recorded.items():
        digest = digest_file(folder, name)
        if digest is None:
            found.append(f"{name}: missing")
        elif digest != sha256:
            found.append(f"{name}: {CHECKSUM_MISMATCH}")
    for name, made in record.made.items():
        # A file that a recipe can make again may be missing.
        if (folder / name).is_file() and identify(folder, name) != made.identity:
            found.append(f"{name}: not what its recipe made")
    return found
