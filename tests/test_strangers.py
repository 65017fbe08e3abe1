"""Files of strangers, sealed again: whatever a store says of itself is valid, or refused in a line.

A digest does not help here, since whoever writes a file also writes its digests. Each edit gives
one attribute, one value within its JSON, one dataset or one part of the layout another type or
range. Then everything that reads a store is called. It may work or raise `GalfigError`, and
nothing else: warnings are errors in all tests.
"""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from samples import HISTORY, LOSSES, RATES, list_figures

from galfig import metrics
from galfig.cli import main
from galfig.errors import GalfigError
from galfig.figures import roc
from galfig.figures.captions import LATEX, PLAIN, describe_panels
from galfig.figures.registry import render_figure
from galfig.info import describe_file, list_rejected, summarise
from galfig.manuscript.values import describe_store
from galfig.runtime.messages import find_unprintable
from galfig.store.checksums import seal_file
from galfig.store.hdf5 import set_attributes
from galfig.store.reader import Store, open_store, verify_store
from galfig.store.selection import Query

OF_STORE = list_figures()

ESCAPE = "\x1b]0;title\x07"
DEEP = "[" * 90_000 + "]" * 90_000
# What an attribute may be instead.
ATTRIBUTES: list[Any] = [0, -1, 7, 1 << 40, 0.0, -0.5, 1e308, np.nan, np.inf, True]
ATTRIBUTES += ["", "3", "null", "[]", "{}"]
ATTRIBUTES += [ESCAPE, "a\u2028b", "a\nb", "\u202eb", r"\input{/etc/passwd}", DEEP, "9" * 5000]
ATTRIBUTES += ["x" * 100_000, np.arange(3), np.array([b"a", b"b"]), h5py.Empty("f4")]
# What a value within JSON may be instead; the last ones are no JSON for others than Python.
VALUES = [None, True, 0, -1, 2.5, 1e308, 10**400, "", "3", [], {}, [1, 2], {"a": None}]
VALUES += [ESCAPE, "\u2028", "\x9b", "\ud800", r"\input{/etc/passwd}", "x" * 100_000]
VALUES += [["low", "low"], [[[]]], float("nan"), float("inf")]
JSON = ("class_names", "class_counts", "config", "training", "image_shift")
NUMBERS = [0, -1, -5, 7, 1e30, 1e308, -1e308, np.nan, np.inf, -np.inf]
TYPES = ["i1", "i8", "u2", "f2", "f4", "f8", "c8", "?", "S3"]

Edit = Callable[[h5py.File], None]


def set_attribute(name: str, value: Any) -> Edit:
    def edit(file: h5py.File) -> None:
        file.attrs[name] = value

    return edit


def set_json(name: str, value: Any) -> Edit:
    return lambda file: set_attributes(file, {name: json.dumps(value)})


def replace(name: str, make: Callable[[np.ndarray], Any], **options: Any) -> Edit:
    """Make another dataset of the values of one."""

    def edit(file: h5py.File) -> None:
        values, attrs = file[name][()], dict(file[name].attrs)
        del file[name]
        with np.errstate(all="ignore"):
            file.create_dataset(name, data=make(values), **options)
        for key, value in attrs.items():
            file[name].attrs[key] = value

    return edit


def vary_json(value: Any) -> Iterator[Any]:
    """Yield a JSON value with each of its parts replaced by each of `VALUES`, or left out."""
    yield from VALUES
    if not isinstance(value, dict | list):
        return
    for key in list(value) if isinstance(value, dict) else range(min(len(value), 2)):
        for part in vary_json(value[key]):
            changed = copy.copy(value)
            changed[key] = part
            yield changed
        changed = copy.copy(value)
        del changed[key]
        yield changed
    if isinstance(value, dict):
        yield {**value, ESCAPE: 1}


def cast(dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: values.astype(dtype) if values.dtype.kind != "S" else np.zeros(12, dtype)


def fill(number: float) -> Callable[[np.ndarray], np.ndarray]:
    def make(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed.flat[-1] = number if np.isfinite(number) or values.dtype.kind == "f" else 0
        return changed

    return make


def list_edits(path: Path) -> dict[str, Edit]:
    """Return every edit of a store, by name."""
    edits: dict[str, Edit] = {}
    with h5py.File(path) as file:
        for name, value in file.attrs.items():
            edits[f"no {name}"] = lambda file, name=name: file.attrs.__delitem__(name)
            for index, other in enumerate(ATTRIBUTES):
                edits[f"{name} {index}"] = set_attribute(name, other)
            if name in JSON:
                for index, other in enumerate(vary_json(json.loads(value))):
                    edits[f"{name} JSON {index}"] = set_json(name, other)
        arrays = [name for name, item in file.items() if isinstance(item, h5py.Dataset)]
        for name in [*arrays, "catalog/z", "catalog/objID", "rejected/objid"]:
            edits |= list_edits_of_array(name, file[name])
    return edits | STRUCTURES


def list_edits_of_array(name: str, dataset: h5py.Dataset) -> dict[str, Edit]:
    edits: dict[str, Edit] = {
        f"no {name}": lambda file: file.__delitem__(name),
        f"{name} a group": lambda file: (file.__delitem__(name), file.create_group(name)),
        f"{name} a scalar": replace(name, lambda values: 1),
        f"{name} empty": replace(name, lambda values: h5py.Empty("f4")),
        f"{name} short": replace(name, lambda values: values[1:]),
        f"{name} of no galaxy": replace(name, lambda values: values[:0]),
        f"{name} with an axis more": replace(name, lambda values: values[..., None]),
        f"{name} compound": replace(name, lambda values: np.zeros(12, [("a", "i2")])),
        f"{name} the same": replace(name, lambda values: np.repeat(values[:1], 12, axis=0)),
        f"{name} in chunks": replace(name, lambda values: values, chunks=True),
        f"{name} with lzf": replace(name, lambda values: values, compression="lzf"),
    }
    edits |= {f"{name} {dtype}": replace(name, cast(dtype)) for dtype in TYPES}
    if dataset.dtype.kind == "S":
        texts = [b"", b"\x01\x1b[2J", b"\xff", "\u202e".encode(), b"x" * 5000]
        for index, text in enumerate(texts):
            edits[f"{name} text {index}"] = replace(
                name, lambda values, text=text: np.array([text, *values[1:].astype("S5000")])
            )
        return edits
    edits |= {f"{name} {number}": replace(name, fill(number)) for number in NUMBERS}
    for axis in range(1, dataset.ndim):
        edits[f"{name} axis {axis} of 0"] = replace(
            name, lambda values, axis=axis: values.take([], axis=axis)
        )
        edits[f"{name} axis {axis} of 1"] = replace(
            name, lambda values, axis=axis: values.take([0], axis=axis)
        )
    return edits


def set_columns(value: str) -> Edit:
    return lambda file: file["catalog"].attrs.__setitem__("columns", value)


STRUCTURES: dict[str, Edit] = {
    "no catalog": lambda file: file.__delitem__("catalog"),
    "no rejected": lambda file: file.__delitem__("rejected"),
    "catalog a dataset": lambda file: (
        file.__delitem__("catalog"),
        file.create_dataset("catalog", data=1),
    ),
    "columns a list": set_columns("[]"),
    "columns deep": set_columns(DEEP),
    "columns of nothing": set_columns('{"z": "nothing"}'),
    "columns outside": set_columns('{"z": "/cams"}'),
    "columns upwards": set_columns('{"z": "../redshift"}'),
    "columns of lists": set_columns('{"z": ["z"]}'),
    "columns with escapes": set_columns(json.dumps({ESCAPE: "z", "objID": "objID"})),
    "group in the root": lambda file: file.create_group("more"),
    "group in a group": lambda file: file["catalog"].create_group("more"),
    "circle of groups": lambda file: file["catalog"].__setitem__("loop", file["/"]),
    "circle of links": lambda file: (
        file.__delitem__("value"),
        file.__setitem__("value", h5py.SoftLink("/value")),
    ),
    "soft link": lambda file: (
        file.__delitem__("value"),
        file.__setitem__("value", h5py.SoftLink("/redshift")),
    ),
    "type with a name": lambda file: file.__setitem__("more", np.dtype("f8")),
    "references": lambda file: (
        file.__delitem__("objid"),
        file.create_dataset("objid", (12,), h5py.ref_dtype),
    ),
    "lists": lambda file: (
        file.__delitem__("objid"),
        file.create_dataset("objid", (12,), h5py.vlen_dtype("i4")),
    ),
    "missing value a text": lambda file: file["catalog/z"].attrs.__setitem__("missing_value", "x"),
    "many attributes": lambda file: [
        file.attrs.__setitem__(f"more{index}", 1) for index in range(100)
    ],
    "attribute a list of text": lambda file: file.attrs.__setitem__("more", ["a", "b"]),
    "attribute with escapes": lambda file: file.attrs.__setitem__("more", ESCAPE),
    "name with escapes": lambda file: file.create_dataset(ESCAPE, data=np.arange(3)),
}


@pytest.fixture
def base(make_store):
    """Write a store that has everything a store may have."""
    training = {
        "arch": "conv3",
        "n_train": {"low": 20, "high": 22},
        "n_valid": {"low": 5, "high": 5},
        "simulated": True,
        "history": HISTORY,
        "lr": 0.01,
        "lr_finder": {"lr": RATES[::10].tolist(), "loss": LOSSES[::10].tolist()},
        "metrics": {"accuracy": 0.8},
        "seeds": {"split": 256},
        "settings": {"training": {"epochs": 2, "batch_size": 16}},
        "versions": {"torch": "2.0"},
    }
    shift = {"is_unlike": True, "measure": "colour", "value": 3.0, "threshold": 2.0}
    classes = {"edges": [8.1, 8.7, 9.1, 9.3], "labels": ["low", "medium", "high"]}
    attrs = {
        "training": json.dumps(training),
        "image_shift": json.dumps(shift),
        "config": json.dumps({"classes": classes, "training": {"epochs": 2}}),
    }
    numbers = {"pixel_scale": np.full(12, 0.4), "kpc_per_arcsec": np.ones(12)}
    return make_store(attrs=attrs, size=8, map_size=3, **numbers)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    """Keep the bootstrap of the ROC curve short: it is not what is tried here."""
    for module in (metrics, roc):
        monkeypatch.setattr(module, "N_RESAMPLES", 20, raising=False)


def edit_store(base: Path, edit: Edit) -> Path | None:
    """Edit a copy of a store and seal it; return None if HDF5 cannot make such a file."""
    path = base.with_name("edited.h5")
    shutil.copyfile(base, path)
    with h5py.File(path, "r+", locking=False) as file:
        try:
            edit(file)
        except (OSError, TypeError, ValueError, RuntimeError, OverflowError):
            return None
        try:
            seal_file(file)
        except Exception:
            # galfig itself cannot seal it. A store without a seal is a file of a stranger too.
            file.attrs.pop("seal", None)
    return path


def read_all(store: Store) -> None:
    for name in ("objid", "redshift", "label", "split", "value", "logits", "probs", "rejected"):
        getattr(store, name)
    for array in (store.pixel_scale, store.kpc_per_arcsec):
        assert not np.any(array <= 0)
    assert np.isfinite(store.cams(slice(None))).all()
    assert np.isfinite(store.evidence(0)).all()
    assert store.cutouts([0, 1]).shape[3] == 3
    assert len(store.table) == len(store)
    assert find_unprintable(repr(store)) == find_unprintable(store._repr_html_()) == ""
    rows = store.select(n=3, split="all")
    for markup in (PLAIN, LATEX):
        for line in describe_panels(store, rows.selection, markup).splitlines():
            assert find_unprintable(line) == ""
    for value in describe_store("a", store).values():
        assert find_unprintable(value) == ""
        assert "\\input" not in value


def must_work_or_refuse(use: Callable[[], object], name: str) -> None:
    """Fail unless a function works or raises an error of galfig's, in one line."""
    try:
        use()
    except Exception as exc:
        if not isinstance(exc, GalfigError) or len(str(exc).splitlines()) > 1:
            raise AssertionError(f"{name}: {exc!r}") from exc


def use_parts(path: Path) -> Iterator[Callable[[], object]]:
    """Yield all that reads a store, but for figures."""
    yield lambda: describe_file(path)
    yield lambda: summarise(path)
    yield lambda: list_rejected(path)
    yield lambda: verify_store(path)

    def read() -> None:
        with open_store(path) as store:
            read_all(store)

    yield read


def try_edit(base: Path, name: str, edit: Edit) -> None:
    path = edit_store(base, edit)
    for use in [] if path is None else use_parts(path):
        must_work_or_refuse(use, name)


def test_base_has_everything(base):
    """The store that is edited is itself without fault: else the edits would prove nothing."""
    assert verify_store(base) == []
    for use in use_parts(base):
        use()


@pytest.mark.slow
def test_edited_store_is_valid_or_refused(base):
    """A draw of the edits, and all that concern the structure."""
    edits = list_edits(base)
    drawn = random.Random(0).sample(sorted(set(edits) - set(STRUCTURES)), 60)
    for name in [*STRUCTURES, *drawn]:
        try_edit(base, name, edits[name])


@pytest.mark.slow
def test_every_edit_of_a_store_is_valid_or_refused(base, campaign):
    """All of them in the campaign."""
    edits = list_edits(base)
    for name in random.Random(2).sample(sorted(edits), campaign.n(100, len(edits))):
        with campaign.trial("store, edited and sealed again"):
            try_edit(base, name, edits[name])


@pytest.mark.slow
def test_edited_store_in_every_figure_and_command(base, campaign, tmp_path):
    """What is not refused is drawn, or the figure is refused."""
    edits = list_edits(base)
    names = sorted(edits)
    random.Random(1).shuffle(names)
    n_drawn, n_most = 0, campaign.n(2, 20)
    while names and n_drawn < n_most:
        name = names.pop()
        path = edit_store(base, edits[name])
        if path is None:
            continue
        try:
            open_store(path).close()
        except GalfigError:
            continue
        n_drawn += 1
        with campaign.trial("edited store, in every figure"):
            for figure in [figure for figure in OF_STORE if figure != "compare"]:
                for suffix in (".pdf", ".svg"):
                    draw = partial(
                        render_figure,
                        figure,
                        path,
                        Query(n=3),
                        tmp_path / f"figure{suffix}",
                        data=tmp_path / "data.ecsv",
                        if_exists="replace",
                    )
                    must_work_or_refuse(draw, f"{name}, {figure}")
            for command in (["info"], ["info", "--json"], ["info", "--rejected"], ["verify"]):
                done = CliRunner().invoke(main, [command[0], str(path), *command[1:]])
                assert done.exception is None or isinstance(done.exception, SystemExit), name
                assert find_unprintable(done.output.replace("\n", "")) == "", name
