"""Identifying files, and describing stores, checkpoints, audits and figures."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from galfig.errors import StoreError
from galfig.figures.metadata import read_record
from galfig.metrics import describe_baseline, describe_few, rate_accuracy
from galfig.pipeline.merge import describe_parts
from galfig.records import Training
from galfig.runtime.documents import load_json, replace_nan
from galfig.runtime.inputs import open_regular
from galfig.store.audits import Audit, is_audit, open_audit
from galfig.store.reader import Store, open_store
from galfig.store.selection import count_splits
from galfig.store.summary import (
    describe_accuracy,
    describe_import,
    describe_networks,
    describe_part,
    list_warnings,
)

Kind = Literal["store", "checkpoint", "networks", "audit", "manuscript"]
EXPECTED = "a store, a checkpoint, an audit or the folder of a manuscript"
_HDF5 = b"\x89HDF\r\n\x1a\n"
# Longest header that the safetensors library reads [byte].
_MAX_HEADER = 100_000_000
_RESUME = b'{"__metadata__":{"galfig-resume"'
# Other files that a user may pass by mistake, by their first bytes.
_OTHERS = (
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"SIMPLE  =", "a FITS file"),
    (b"PAR1", "a Parquet file"),
)
# Suffixes of images that may be figures of other programs.
_IMAGES = (".pdf", ".png", ".svg")
# Kind by suffix, for a file whose first bytes are damaged.
_SUFFIXES: dict[str, Kind] = {".h5": "store", ".hdf5": "store", ".safetensors": "checkpoint"}


def find_kind(path: Path) -> Kind:
    """Identify a file by its content.

    The suffix counts only for a binary file whose first bytes are not recognised. Such a file may
    be damaged, and its reader can report the damage.

    Parameters
    ----------
    path : Path
        A file or a folder.

    Returns
    -------
    {"store", "checkpoint", "networks", "audit", "manuscript"}
        The kind of file. A "checkpoint" is any safetensors or pickle file, possibly from another
        program; "networks" is a folder of such files.

    Raises
    ------
    StoreError
        If the file is missing or is something else. The message says what it is.
    """
    try:
        with open_regular(path) as file:
            beginning = file.read(512)
    except IsADirectoryError:
        return _find_kind_of_folder(path)
    except FileNotFoundError as exc:
        raise StoreError(f"{path}: no such file, expected {EXPECTED}") from exc
    except OSError as exc:
        raise StoreError(f"{path}: cannot be read ({exc.strerror}), expected {EXPECTED}") from exc
    if beginning.startswith(_HDF5):
        return "audit" if is_audit(path) else "store"
    if beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") <= _MAX_HEADER:
        if beginning[8:].startswith(_RESUME):
            advice = "`resume` goes on with it"
            raise StoreError(f"{path}: an unfinished training, expected {EXPECTED}; {advice}")
        return "checkpoint"
    # The reader of checkpoints rejects pickles and gives the reason.
    if beginning.startswith((b"\x80", b"PK\x03\x04")):
        return "checkpoint"
    other = _name_other(beginning)
    if other is None and path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]
    raise StoreError(f"{path}: {other or f'begins with {beginning[:12]!r}'}, expected {EXPECTED}")


def _find_kind_of_folder(path: Path) -> Kind:
    # This imports matplotlib, for the names of figures in a manifest.
    from galfig.manuscript.manifest import FILE_NAME

    if (path / FILE_NAME).is_file():
        return "manuscript"
    if any(path.glob("*.safetensors")):
        return "networks"
    raise StoreError(f"{path}: a folder without {FILE_NAME}, expected {EXPECTED}")


def _name_other(beginning: bytes) -> str | None:
    """Name a file by its first bytes; None if they are not recognised."""
    if not beginning:
        return "an empty file"
    for magic, name in _OTHERS:
        if beginning.startswith(magic):
            return name
    if b"<svg" in beginning:
        return "an SVG image"
    # The part that was read may end in the middle of a character.
    text = beginning.decode("utf-8", "replace").removesuffix("\ufffd")
    is_text = all(letter.isprintable() or letter in "\t\n\r\f\ufeff" for letter in text)
    return "a text file" if is_text and "\ufffd" not in text else None


def describe_file(path: Path) -> dict[str, Any]:
    """Return the facts about a store, a checkpoint, several of one recipe, an audit or a figure.

    Parameters
    ----------
    path : Path
        A file written by ``galfig build-maps``, ``galfig train``, ``galfig audit`` or ``galfig
        figure``, or a folder of networks. Of a store that is not made yet, but has parts, the
        facts are which are there.

    Returns
    -------
    dict
        The facts as JSON can hold them, the most important first. Numbers that are not finite are
        None.

    Raises
    ------
    StoreError, CheckpointError, AuditError, FigureError
        If the file is none of these, or is damaged.
    """
    if not path.exists() and (unfinished := describe_parts(path)):
        return unfinished
    if figure := _describe_figure(path):
        return figure
    try:
        kind = find_kind(path)
    except StoreError as exc:
        if path.suffix.lower() in _IMAGES:
            raise StoreError(
                f"{exc}; of images, only figures of galfig say what made them"
            ) from exc
        raise
    if kind == "manuscript":
        raise StoreError(
            f"{path}: a manuscript, expected a store, a checkpoint or an audit; 'galfig manuscript "
            f"list {path}' lists its files, 'galfig verify {path}' compares them with their record"
        )
    if kind == "checkpoint":
        return dict(replace_nan(_describe_checkpoint(path)))
    if kind == "audit":
        return dict(replace_nan(_describe_audit(open_audit(path))))
    if kind == "networks":
        return dict(replace_nan(_describe_folder(path)))
    with open_store(path) as store:
        return dict(replace_nan(_describe_store(store)))


def _describe_figure(path: Path) -> dict[str, Any] | None:
    """Return what a figure was made from; None if a file is no figure that galfig wrote."""
    try:
        record = read_record(path)
    except OSError:
        # Whoever finds the kind of the file says what is wrong.
        return None
    if record is None:
        return None
    facts = {
        "kind": "figure",
        "format": record.format,
        "title": record.title,
        "caption": " ".join(record.caption.split()),
        "galfig_version": record.creator.partition(" ")[2],
        **{key: value for key, value in record.provenance.items() if key not in ("kind", "format")},
    }
    return dict(replace_nan(facts))


def list_rejected(path: Path) -> dict[str, str]:
    """Return why galaxies of the catalog are not in a store.

    Parameters
    ----------
    path : Path
        The store.

    Returns
    -------
    dict of str to str
        Reasons by objid.

    Raises
    ------
    StoreError
        If the file is not a store, or is damaged.
    """
    with open_store(path) as store:
        return store.rejected


def summarise(path: Path) -> str:
    """Summarise a store in one line.

    Parameters
    ----------
    path : Path
        The store.

    Returns
    -------
    str
        Number of galaxies, split, accuracy, number of galaxies left out, and size.

    Raises
    ------
    StoreError
        If the file is not a store, or is damaged.
    """
    with open_store(path) as store:
        galaxies = "galaxy" if len(store) == 1 else "galaxies"
        words = [f"{len(store)} {galaxies} of split {store.record.split!r}"]
        if part := describe_part(store):
            words.append(part)
        if networks := describe_networks(store):
            words.append(networks)
        if accuracy := describe_accuracy(store):
            words.append(accuracy)
        if store.n_rejected:
            words.append(f"{store.n_rejected} of the catalog could not be used")
        words.append(_describe_size(path.stat().st_size))
        if store.n_parts:
            words[-1] += f" beside {store.n_parts} parts, which hold its maps"
        return f"{path}: {', '.join(words)}"


def _describe_size(n_bytes: int) -> str:
    """Write a size in MB or, where that would be zero or nearly so, in kB."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.0f} kB"


def _describe_store(store: Store) -> dict[str, Any]:
    known = store.redshift[np.isfinite(store.redshift)]
    names, score = store.class_names, store.score()
    return {
        "kind": "store",
        "galaxies": len(store),
        **({"subset_of": store.whole.n_galaxies} if store.is_subset else {}),
        "classes": {name: int(np.sum(store.label == i)) for i, name in enumerate(names)},
        "splits": {word or "unknown": n for word, n in count_splits(store).items()},
        "accuracy": None if score is None else score.accuracy,
        "accuracy_on": describe_accuracy(store) or None,
        "majority_share": None if score is None else score.majority_share,
        "balanced_accuracy": None if score is None else score.balanced_accuracy,
        "warnings": list_warnings(store),
        "redshift": [float(known.min()), float(known.max())] if len(known) else None,
        "rejected": store.n_rejected,
        "arch": store.training.arch,
        **_describe_networks(store),
        "map_shape": _describe_shape(store),
        **({"features": store.n_features} if store.n_features else {}),
        **({"parts": store.n_parts} if store.n_parts else {}),
        **{
            key: value
            for key, value in store.attrs.items()
            if isinstance(value, str | int | float | bool) and not _is_json(value)
        },
        **{
            key: load_json(store.attrs[key])
            for key in (
                *("engine", "precision_check", "image_shift", "accuracy_check"),
                *("config", "training", "fetched", "software"),
            )
            if key in store.attrs
        },
    }


def _describe_shape(store: Store) -> list[int] | None:
    """Return the shape of the maps; None where a store of statistics does not know it."""
    if store.form == "statistics":
        return None if store.record.map_shape is None else list(store.record.map_shape)
    return list(store.map_shape)


def _describe_networks(store: Store) -> dict[str, Any]:
    """Return the facts about the networks of an ensemble, without the histories of trainings."""
    if store.agreement is None:
        return {}
    agreement = store.whole.agreement
    return {
        "n_networks": store.n_networks,
        "agreement": agreement if np.isfinite(agreement) else None,
        "networks": [
            {
                "checkpoint_sha256": network.checkpoint_sha256,
                "seeds": network.seeds,
                "lr": network.lr,
                "metrics": network.metrics,
            }
            for network in store.record.networks
        ],
    }


def _describe_checkpoint(path: Path) -> dict[str, Any]:
    from galfig.networks.checkpoint import load_checkpoint, read_metadata
    from galfig.networks.families import OWN

    record, metadata = read_metadata(path)
    if record.arch.startswith(OWN):
        # Its network is not built, since that would run somebody's code.
        return {"kind": "checkpoint", **metadata, "warnings": _list_doubts(metadata)}
    checkpoint = load_checkpoint(path)
    n_parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    return {
        "kind": "checkpoint",
        "parameters": n_parameters,
        "checkpoint_sha256": checkpoint.digest,
        **checkpoint.metadata,
        "images": _describe_images(checkpoint.metadata.get("images")),
        "members": checkpoint.record.members and checkpoint.record.members.count(),
        "warnings": _list_doubts(checkpoint.metadata),
    }


def _describe_audit(audit: Audit) -> dict[str, Any]:
    record = audit.record.model_dump(mode="python", exclude={"verdict", "keys"})
    return {
        "kind": "audit",
        "galaxies": len(audit),
        "measures": list(audit.measures),
        "passes": {
            name: measured.passes
            for name, measured in audit.measures.items()
            if measured.passes is not None
        },
        "verdict": list(audit.verdict),
        "columns": list(audit.columns),
        **record,
    }


def _describe_folder(folder: Path) -> dict[str, Any]:
    """Describe networks of one recipe by what they share, and each by what is its own."""
    from galfig.networks.ensemble import describe_accuracies, list_networks, load_networks

    ensemble = load_networks(folder)
    own = zip(list_networks(folder), ensemble.networks, strict=True)
    keys = ("seeds", "lr", "metrics")
    return {
        "kind": "networks",
        "summary": describe_accuracies(ensemble),
        "checkpoint_sha256": ensemble.digest,
        "networks": {
            file.name: {
                "checkpoint_sha256": network.digest,
                **{key: network.metadata.get(key) for key in keys},
            }
            for file, network in own
        },
        **ensemble.metadata,
        "images": _describe_images(ensemble.metadata.get("images")),
        "members": ensemble.record.members and ensemble.record.members.count(),
    }


def _list_doubts(metadata: dict[str, Any]) -> list[str]:
    """List why the metrics of a checkpoint may mean little; empty if it does not record them."""
    try:
        training = Training.model_validate(metadata)
    except ValidationError:
        return []
    n_valid, accuracy = training.n_valid or {}, (training.metrics or {}).get("accuracy", -1)
    doubts = describe_few(training.n_train or {}, n_valid)
    if 0 <= accuracy <= 1 and sum(n_valid.values()) > 0:
        rated = rate_accuracy(round(accuracy * sum(n_valid.values())), [*n_valid.values()])
        doubts.append(describe_baseline(rated, [*n_valid]))
    return [*describe_import(training), *(doubt for doubt in doubts if doubt)]


def _describe_images(record: Any) -> Any:
    """Describe the training images without their reference distribution of hundreds of numbers."""
    if not isinstance(record, dict):
        return record
    return {key: value for key, value in record.items() if key != "reference"}


def _is_json(value: Any) -> bool:
    """Return whether an attribute is JSON, which the description includes in parsed form."""
    return isinstance(value, str) and (value.startswith(("{", "[")) or value == "null")
