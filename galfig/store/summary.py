"""Summaries of a store: one line in a terminal, a small table in a notebook."""

import base64
import io
import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from galfig.metrics import describe_baseline, describe_few
from galfig.records import FetchRecord, Training

if TYPE_CHECKING:
    from galfig.store.reader import Store

N_THUMBNAILS = 8
# Relative distance of Grad-CAM from HiResCAM that is worth saying.
LEAST_DISTANCE = 0.01
# Width of a thumbnail [screen pixels].
THUMBNAIL = 64
# Galaxies by how the training of the network used them, after their number.
_SPLITS = {
    "valid": "of the validation set",
    "test": "of the test set",
    "": "that may have trained the network",
    "train": "that trained the network",
}


def describe(store: "Store") -> str:
    """Summarise a store in one line.

    Parameters
    ----------
    store : Store
        An open or closed store.

    Returns
    -------
    str
        Number of galaxies, classes, maps, accuracy and warnings.
    """
    if store.is_closed:
        return f"<Store {store.path}, closed>"
    facts = [
        f"{len(store)} galaxies ({_count_classes(store)})",
        describe_part(store),
        _describe_maps(store),
        describe_networks(store),
        describe_accuracy(store),
        *list_warnings(store),
    ]
    return f"<Store {store.path}: {'; '.join(fact for fact in facts if fact)}>"


def describe_html(store: "Store") -> str:
    """Summarise a store in HTML.

    Parameters
    ----------
    store : Store
        An open or closed store.

    Returns
    -------
    str
        A table of the same facts and their provenance, above a row of cutouts.
    """
    if store.is_closed:
        return f"<p>{escape(describe(store))}</p>"
    record = store.record
    facts = {
        "galaxies": f"{len(store)} ({_count_classes(store)})",
        "part": describe_part(store),
        "accuracy": describe_accuracy(store).removeprefix("accuracy "),
        "network": record.training.arch,
        "method": "" if store.method == "grad-cam" else store.method,
        "mean over": describe_networks(store).removeprefix("means over "),
        "maps": _describe_maps(store).removeprefix(f"{_name_maps(store)} of "),
        "built by": f"galfig {record.galfig_version}, plan {store.whole_digest[:12]}",
        "cutouts": "" if record.fetched is None else describe_source(record.fetched),
        "from": f"catalog {record.catalog_sha256[:12]}, network {record.checkpoint_sha256[:12]}",
        "warnings": "; ".join(list_warnings(store)),
    }
    rows = "".join(
        f"<tr><th style='text-align:left'>{name}</th>"
        f"<td style='text-align:left'>{escape(words)}</td></tr>"
        for name, words in facts.items()
        if words
    )
    n_shown = min(N_THUMBNAILS, len(store)) if store.form == "full" else 0
    images = "".join(_show_cutout(store, row) for row in range(n_shown))
    return f"<p><b>{escape(str(store.path))}</b></p><table>{rows}</table><p>{images}</p>"


def describe_networks(store: "Store") -> str:
    """Count the networks of an ensemble, and say how far they agree.

    Parameters
    ----------
    store : Store
        An open store.

    Returns
    -------
    str
        A clause; "" for one network.
    """
    if store.agreement is None:
        return ""
    words = f"means over {store.n_networks} networks"
    agreement = store.whole.agreement
    if not np.isfinite(agreement):
        return words
    return f"{words}, whose maps have a median rank correlation of {agreement:.2f}"


def describe_source(fetched: FetchRecord) -> str:
    """Say where cutouts were fetched from.

    Parameters
    ----------
    fetched : FetchRecord
        What 'galfig fetch' recorded.

    Returns
    -------
    str
        Such as "SDSS DR18"; the address, and no survey, of another server than the service's own.
    """
    if fetched.is_mirror:
        return f"from {fetched.address}"
    release = re.fullmatch(r"(?:ls-)?(?:dr)?(\d+)", fetched.release, re.ASCII | re.IGNORECASE)
    if fetched.service == "hips":
        return f"HiPS {fetched.release} by hips2fits of CDS"
    if fetched.service == "legacy":
        layer = f"DR{release[1]}" if release else f"viewer, layer {fetched.release}"
        return f"Legacy Surveys {layer}"
    return f"SDSS {f'DR{release[1]}' if release else fetched.release}"


def list_warnings(store: "Store") -> list[str]:
    """List what a user should know before relying on a store.

    Parameters
    ----------
    store : Store
        An open store.

    Returns
    -------
    list of str
        Warnings, each a clause; empty if there are none.
    """
    warnings = []
    if store.record.simulated:
        warnings.append("galaxies are simulated")
    if not store.training.n_train:
        warnings.append("the network was not trained by galfig")
    warnings += describe_import(store.training)
    warnings += list_doubts(store)
    shift = store.record.image_shift
    if shift is not None and shift.is_unlike:
        warnings.append(
            f"images unlike those that trained the network: {shift.measure} is {shift.value:.3g}, "
            f"expected at most {shift.threshold:.3g}"
        )
    check = store.record.accuracy_check
    if check is not None and check.warning:
        warnings.append(f"the network {check.warning}")
    if store.record.layer_is_bypassed:
        warnings.append(
            f"the image also reaches the logits past layer {store.record.target_layer}, so that "
            "maps show only part of the evidence"
        )
    distance = store.record.hires_distance
    if distance is not None and distance >= LEAST_DISTANCE and store.method != "hires-cam":
        warnings.append(
            "more than pooling and one linear layer follows layer "
            f"{store.record.target_layer}, so that hires-cam is the faithful method, from which "
            f"grad-cam differs by {100 * distance:.0f} %"
        )
    if n := store.n_rejected:
        warnings.append(
            f"{n} {'galaxy' if n == 1 else 'galaxies'} of the catalog could not be used"
        )
    return warnings


def describe_import(training: Training) -> list[str]:
    """Warn of a network that was imported without comparing it with the original.

    Parameters
    ----------
    training : Training
        What a store or a checkpoint says of its network.

    Returns
    -------
    list of str
        A clause; empty if there is nothing to warn of.
    """
    if training.imported is None or training.imported.n_checked:
        return []
    return ["the import of the network was not checked against the original"]


def list_doubts(store: "Store") -> list[str]:
    """List why the accuracy of a network may mean little: few galaxies, or a guess does as well.

    Parameters
    ----------
    store : Store
        An open store.

    Returns
    -------
    list of str
        Doubts, each a clause; empty if there are none.
    """
    training, score = store.training, store.score()
    doubts = describe_few(training.n_train or {}, training.n_valid or {})
    baseline = "" if score is None else describe_baseline(score, store.class_names)
    return [*doubts, baseline] if baseline else doubts


def describe_splits(counts: Mapping[str, int]) -> str:
    """Describe galaxies by how the training of the network used them.

    Parameters
    ----------
    counts : mapping of str to int
        Number of galaxies for "train", "valid", "test" and "", from
        `galfig.store.selection.count_splits`.

    Returns
    -------
    str
        Such as "104 galaxies of the validation set and 3 that may have trained the network".
    """
    parts = [f"{counts[word]} {words}" for word, words in _SPLITS.items() if counts.get(word)]
    noun = "galaxy" if parts and parts[0].startswith("1 ") else "galaxies"
    return " and ".join(parts).replace(" ", f" {noun} ", 1)


def describe_accuracy(store: "Store") -> str:
    """State the accuracy, its baselines, and the galaxies that it was measured on.

    Parameters
    ----------
    store : Store
        An open store.

    Returns
    -------
    str
        A clause; "" if no galaxy has a true class.
    """
    score = store.score()
    if score is None:
        return ""
    whole = store.whole
    words = [
        f"accuracy {score.accuracy:.3f} on {describe_splits(whole.scored)}",
        f"always {store.class_names[score.majority]!r} would give {score.majority_share:.3f}",
    ]
    if np.isfinite(score.balanced_accuracy):
        words.append(f"balanced accuracy {score.balanced_accuracy:.3f}")
    if n_left := whole.n_not_scored:
        words.append(f"{describe_splits({'train': n_left})} are not counted")
    if store.is_subset:
        words.append(f"all in the store of {whole.n_galaxies} galaxies of which this is a subset")
    return ", ".join(words)


def describe_part(store: "Store") -> str:
    """Say of how many galaxies a store is a subset; "" of a whole store."""
    if not store.is_subset:
        return ""
    return f"a subset of {len(store)} of {store.whole.n_galaxies} galaxies"


def _describe_maps(store: "Store") -> str:
    """Say which maps a store holds, if any: 'maps of 24 × 24 pixels of layer conv3'."""
    if store.form == "statistics":
        return f"{_name_maps(store)} of which only numbers are stored{_of_layer(store)}"
    height, width = store.map_shape
    bits = ", in 8 bits" if store.form == "native" else ""
    return f"{_name_maps(store)} of {height} × {width} pixels{_of_layer(store)}{bits}"


def _name_maps(store: "Store") -> str:
    return "maps" if store.method == "grad-cam" else f"{store.method} maps"


def _of_layer(store: "Store") -> str:
    """Name the layer that is explained; "" where it is the image itself."""
    return f" of layer {store.record.target_layer}" if store.record.target_layer else ""


def _count_classes(store: "Store") -> str:
    counts = [f"{np.sum(store.label == c)} {name}" for c, name in enumerate(store.class_names)]
    n_unknown = int(np.sum(store.label < 0))
    return ", ".join([*counts, f"{n_unknown} of unknown class"] if n_unknown else counts)


def _show_cutout(store: "Store", row: int) -> str:
    """Return a cutout as an HTML image, with the identifier as its alternative text."""
    stream = io.BytesIO()
    Image.fromarray(store.cutouts(row)).save(stream, "PNG")
    name = escape(str(store.objids(row)), quote=True)
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f"<img src='data:image/png;base64,{data}' width='{THUMBNAIL}' title='{name}' alt='{name}'> "
    )
