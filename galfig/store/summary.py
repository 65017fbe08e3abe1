"""Summaries of a store: one line in a terminal, a small table in a notebook."""

import base64
import io
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from galfig.store.reader import Store

N_THUMBNAILS = 8
# Width of a thumbnail [screen pixels].
THUMBNAIL = 64
_SPLITS = {
    "valid": "the validation set",
    "train": "the training set",
    "all": "the whole catalog, which may include the training set",
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
    height, width = store.map_shape
    facts = [
        f"{len(store)} galaxies ({_count_classes(store)})",
        f"maps of {height} × {width} pixels of layer {store.record.target_layer}",
        _describe_accuracy(store),
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
    record, (height, width) = store.record, store.map_shape
    facts = {
        "galaxies": f"{len(store)} ({_count_classes(store)})",
        "accuracy": _describe_accuracy(store).removeprefix("accuracy "),
        "network": record.training.arch,
        "maps": f"{height} × {width} pixels of layer {record.target_layer}",
        "built by": f"galfig {record.galfig_version}, plan {record.plan_digest[:12]}",
        "from": f"catalog {record.catalog_sha256[:12]}, network {record.checkpoint_sha256[:12]}",
        "warnings": "; ".join(list_warnings(store)),
    }
    rows = "".join(
        f"<tr><th style='text-align:left'>{name}</th>"
        f"<td style='text-align:left'>{escape(words)}</td></tr>"
        for name, words in facts.items()
        if words
    )
    images = "".join(_show_cutout(store, row) for row in range(min(N_THUMBNAILS, len(store))))
    return f"<p><b>{escape(str(store.path))}</b></p><table>{rows}</table><p>{images}</p>"


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
    if store.rejected:
        n = len(store.rejected)
        warnings.append(f"{n} {'galaxy' if n == 1 else 'galaxies'} of the catalog left out")
    return warnings


def _count_classes(store: "Store") -> str:
    counts = [f"{np.sum(store.label == c)} {name}" for c, name in enumerate(store.class_names)]
    n_unknown = int(np.sum(store.label < 0))
    return ", ".join([*counts, f"{n_unknown} of unknown class"] if n_unknown else counts)


def _describe_accuracy(store: "Store") -> str:
    """State the accuracy and the galaxies it was measured on; "" without labels."""
    if store.accuracy is None:
        return ""
    n_labelled = int(np.sum(store.label >= 0))
    where = _SPLITS[store.record.split] if store.training.n_train else "the catalog"
    return f"accuracy {store.accuracy:.3f} on {n_labelled} galaxies of {where}"


def _show_cutout(store: "Store", row: int) -> str:
    """Return a cutout as an HTML image, with the identifier as its alternative text."""
    stream = io.BytesIO()
    Image.fromarray(store.cutouts(row)).save(stream, "PNG")
    name = escape(str(store.objid[row]), quote=True)
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f"<img src='data:image/png;base64,{data}' width='{THUMBNAIL}' title='{name}' alt='{name}'> "
    )
