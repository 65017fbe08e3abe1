"""The data of a gallery: columns by galaxy, as scripts that a page may load from a disk.

A page that was opened from a disk may not fetch files, but it may load scripts. Each script calls
one function with JSON, in which numbers are the base64 of little-endian arrays, and so exact.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from galfig.figures.captions import name_classes
from galfig.gallery.sprites import Measured
from galfig.runtime.documents import dump_json
from galfig.runtime.messages import make_printable
from galfig.runtime.options import SPLITS
from galfig.store.reader import Store

if TYPE_CHECKING:
    import pandas as pd

# Arrays by the name that JavaScript has for them.
_TYPES = {
    "int8": "Int8Array",
    "int16": "Int16Array",
    "int32": "Int32Array",
    "float32": "Float32Array",
    "float64": "Float64Array",
}
# Text with more different values than this is listed galaxy by galaxy, and searched.
MAX_CATEGORIES = 1000
# Integers beyond this are not exact as numbers of JavaScript, and become text.
_MAX_EXACT = 2**53
# Words for how the training used a galaxy, in the order of `SPLITS`.
_SPLITS = ("unknown", *SPLITS[1:])

Kind = Literal["number", "class", "text"]


class Column(NamedTuple):
    """A column of the page.

    Attributes
    ----------
    id : str
        Its name in addresses of the page, such as "p" or "catalog.z".
    label : str
        Its name on the page.
    kind : {"number", "class", "text"}
        Numbers, with NaN where unknown; codes of categories, -1 where unknown; or text, "" where
        unknown.
    values : (n,) ndarray
        The numbers, codes or texts.
    categories : tuple of str
        The names of the codes.
    """

    id: str
    label: str
    kind: Kind
    values: NDArray[Any]
    categories: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Return what the page must know before it loads the values."""
        return {
            "id": self.id,
            "label": make_printable(self.label),
            "kind": self.kind,
            "categories": [make_printable(name) for name in self.categories],
        }

    def encode(self) -> Any:
        """Return the values as JSON can hold them."""
        if self.kind == "text":
            return [make_printable(text) for text in self.values]
        little = np.ascontiguousarray(self.values).astype(self.values.dtype.newbyteorder("<"))
        data = base64.b64encode(little.tobytes()).decode()
        return {"type": _TYPES[self.values.dtype.name], "data": data}


def make_columns(
    store: Store, rows: NDArray[np.intp], shown: NDArray[np.int16], measured: Measured
) -> list[Column]:
    """Make the columns that every page has: identifiers, predictions and numbers of maps.

    Parameters
    ----------
    store : Store
        An open store.
    rows : (n,) ndarray of int
        Positions of the galaxies.
    shown : (n, M) ndarray of int16
        The classes whose maps are shown.
    measured : Measured
        Numbers of their maps.

    Returns
    -------
    list of Column
    """
    names = name_classes(store)
    label, predicted = store.label[rows], store.predicted[rows]
    is_right = np.where(label < 0, -1, label == predicted).astype(np.int8)
    columns = [
        Column("objid", "identifier", "text", store.objids(rows)),
        Column("true", "true class", "class", label.astype(np.int16), names),
        Column("predicted", "predicted class", "class", predicted.astype(np.int16), names),
        Column("correct", "right or wrong", "class", is_right, ("wrong", "right")),
        Column("p", "p of the predicted class", "number", store.probs[rows].max(axis=1)),
        Column("loss", "loss", "number", store.losses[rows]),
        Column("split", "part in the training", "class", store.split_idx[rows], _SPLITS),
        Column("redshift", "redshift z", "number", store.redshift[rows]),
    ]
    for c, name in enumerate(names):
        columns.append(Column(f"p.{name}", f"p of {name}", "number", store.probs[rows, c]))
    for slot in range(shown.shape[1]):
        columns.append(Column(f"shown.{slot}", "", "class", shown[:, slot], names))
    columns.append(Column("peak", "peak of the maps", "number", measured.peak))
    for c, name in enumerate(names):
        columns.append(
            Column(f"total.{name}", f"Σ of {name}", "number", measured.totals[:, c].copy())
        )
    if measured.evidence_peak is not None:
        columns.append(Column("evidence", "peak of the evidence", "number", measured.evidence_peak))
    if store.agreement is not None:
        columns.append(
            Column("agreement", "agreement of the networks", "number", store.agreement[rows])
        )
    return columns


def iter_catalog(store: Store, rows: NDArray[np.intp]) -> Iterator[Column]:
    """Yield the columns of the catalog, except one that repeats the identifiers.

    Parameters
    ----------
    store : Store
        An open store.
    rows : (n,) ndarray of int
        Positions of the galaxies.

    Yields
    ------
    Column
    """
    objids = store.objids(rows)
    for name in store.columns:
        column = _convert(name, store.columns[name].iloc[rows])
        is_same = column.kind == "text" and np.array_equal(column.values, objids)
        if not is_same:
            yield column


def _convert(name: str, series: "pd.Series") -> Column:
    """Convert a column of the catalog: without loss, or to text."""
    import pandas as pd

    made = (f"catalog.{name}", name)
    if pd.api.types.is_bool_dtype(series.dtype):
        return Column(*made, "class", series.to_numpy(np.int8), ("no", "yes"))
    if pd.api.types.is_float_dtype(series.dtype):
        values = series.to_numpy()
        exact = values if values.dtype.name in _TYPES else values.astype(np.float64)
        return Column(*made, "number", exact)
    if pd.api.types.is_integer_dtype(series.dtype):
        known = series.dropna()
        if not len(known) or max(abs(int(known.min())), abs(int(known.max()))) <= _MAX_EXACT:
            return Column(*made, "number", series.to_numpy(np.float64, na_value=np.nan))
        return Column(*made, "text", _write_texts(series))
    return _sort_out(*made, _write_texts(series))


def _write_texts(series: "pd.Series") -> NDArray[np.object_]:
    """Return values as text, "" where they are unknown."""
    return series.astype("string").fillna("").to_numpy(object)


def _sort_out(id: str, label: str, texts: NDArray[Any]) -> Column:
    """Return text as categories where there are few of them."""
    different = sorted(set(texts) - {""})
    if len(different) > min(MAX_CATEGORIES, len(texts) // 2):
        return Column(id, label, "text", texts)
    codes = {text: code for code, text in enumerate(different)} | {"": -1}
    values = np.array([codes[text] for text in texts], np.int16)
    return Column(id, label, "class", values, tuple(different))


def write_script(path: Path, function: str, *arguments: Any) -> None:
    """Write a script that hands values over to the page.

    Parameters
    ----------
    path : Path
        The file.
    function : str
        What the script calls.
    *arguments : nested dict, list and tuple of str, int, float, bool and None
        Values. Whatever text they hold stays text: no character of it can end the script or begin
        a tag.
    """
    words = ", ".join(_write_safely(value) for value in arguments)
    path.write_text(f"{function}({words});\n", encoding="utf-8")


def _write_safely(value: Any) -> str:
    words = dump_json(value, sort_keys=False)
    return words.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
