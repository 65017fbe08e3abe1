"""The schema of a store: its datasets, their shapes, and the checks on a file that is opened."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from galfig.config import MAX_CHANNELS, Form
from galfig.errors import StoreError
from galfig.records import StoreRecord, Subset, describe_invalid, read_store_record
from galfig.runtime.documents import load_json
from galfig.runtime.messages import make_printable, one_line, quote
from galfig.runtime.options import SPLITS
from galfig.store.forms import BETWEEN, N_STEPS, get_map_type, list_lacking, name_divisor
from galfig.store.gate import check_contents
from galfig.store.hdf5 import GROUPS, open_hdf5, read_attribute, read_attributes
from galfig.store.spans import SEALS
from galfig.store.texts import TextColumn

SCHEMA_VERSION = 2
# Version 1 had neither splits nor digests of images.
_READABLE = (1, SCHEMA_VERSION)
DESCRIPTIONS = {
    "objid": "identifier of each galaxy, as in the catalog",
    "redshift": "redshift, NaN where unknown",
    "label": "true class as position in the attribute class_names, -1 where unknown",
    "split": "train, valid or test: how training used each galaxy; empty where unknown",
    "value": "the number that was binned into classes, NaN where the classes are text",
    "logits": "output of the network (N, C), before the softmax",
    "probs": "softmax of the logits (N, C)",
    "cams": "signed map (N, C, h, w) by the method of the attribute method, Grad-CAM without it; "
    "multiply by cam_scale (N, C) to have logits",
    "cam_scale": "power of two by which each map was divided to lie within [-1, 1]",
    "cutouts": "central cutout (N, H, W, RGB or other channels), rows from the top of the image",
    "pixel_scale": "pixel scale of each cutout [arcsec/pixel], NaN where unknown",
    "north_angle": "direction of north (J2000) at the centre of each cutout [degree], "
    "counterclockwise from up as the cutout is drawn, NaN where unknown",
    "east_angle": "the same of east: to the left of north, unless the image is mirrored",
    "image_digest": "first 8 bytes, big-endian, of the SHA-256 of each image's file",
    "kpc_per_arcsec": "proper length of an arcsec (Planck Collaboration 2020), NaN where unknown",
    "logits_sd": "standard deviation (divisor K - 1) over the K networks of the logits (N, C)",
    "log_odds_sd": "the same of the log-odds (N, E): of the second class against the first (E = 1) "
    "or, of more than two classes, of each against the rest (E = C)",
    "cams_sd": "the same of the maps (N, C, h, w); multiply by cams_sd_scale (N, C)",
    "cams_sd_scale": "power of two by which each map of cams_sd was divided",
    "evidence_sd": "the same of the evidence maps (N, E, h, w); multiply by evidence_sd_scale "
    "(N, E)",
    "evidence_sd_scale": "power of two by which each map of evidence_sd was divided",
    "agreement": "median over pairs of networks of the Spearman correlation of their evidence maps "
    "(of the predicted class, if there are more than two), NaN where not defined",
    "cam_step": "by which each map of 8 bits is to be multiplied, in place of cam_scale",
    "cams_sd_step": "the same of cams_sd",
    "evidence_sd_step": "the same of evidence_sd",
    "image": "path of each image, relative to the folder of the images; of several bands, a line "
    "each; FILE:ARRAY[ROW] for an element of an array",
    "cam_total": "sum of the map of each class (N, C) [logit]",
    "cam_peak": "largest value of the map of each class (N, C) [logit]",
    "centroid_x": "centroid of the absolute evidence for the predicted class (its map, where the "
    "method gives no evidence) from the centre of the cutout, to the right [pixel of the cutout]",
    "centroid_y": "the same, downwards",
    "concentration": "its Gini coefficient: 0 where all cells are equal, 1 where one holds all",
    "positive_share": "sum of its positive cells over that of all absolute ones",
    "features": "mean over its pixels of each feature map of the explained layer (N, K), without "
    "unit; those of several networks side by side",
    SEALS: "seal of each part of a virtual store (P,), whose maps and cutouts are in the parts",
}
# Datasets that a store may lack: then nothing is known of them.
_OPTIONAL = (
    *("split", "image_digest", "pixel_scale", "north_angle", "east_angle", "kpc_per_arcsec"),
    *("features", SEALS),
)
# Datasets of an ensemble: all but the last two must be there, and of one network none may be.
_OF_EVIDENCE = ("evidence_sd", "evidence_sd_scale")
_OF_ENSEMBLE = ("logits_sd", "log_odds_sd", "cams_sd", "cams_sd_scale", "agreement", *_OF_EVIDENCE)
# Those of a native store.
_STEPS = ("cams_sd_step", "evidence_sd_step")
# Marks an empty cell in an integer column, since HDF5 has no missing values.
MISSING_INTEGER = np.iinfo(np.int64).min
# Sum of the probabilities of a galaxy, in float32; and their difference from the softmax.
_SUM_TOLERANCE, _SOFTMAX_TOLERANCE = 1e-3, 1e-4
_SPLIT_CELLS = [word.encode() for word in SPLITS]
# The longest identifier [byte]: it names an image file.
_MAX_OBJID = 255
# The longest address of an image [characters]: a path of each of several files.
_MAX_ADDRESS = 17 * 1100


class Rule(NamedTuple):
    """What a dataset must be: checked on its declaration when a store is opened, and on its values
    whenever they are read.

    Attributes
    ----------
    dtypes : tuple of str
        Permitted types of numpy; "text" for text.
    axes : str
        A letter per axis: N galaxies, C classes, E evidence maps, h and w pixels of a map, H and
        W pixels of a cutout, B bands, K features, P parts.
    expected : str
        What the values are, for messages.
    is_right : callable
        Called with values of any number of rows and the number of classes C; returns whether each
        is as expected.
    """

    dtypes: tuple[str, ...]
    axes: str
    expected: str
    is_right: Callable[[NDArray[Any], int], NDArray[np.bool_]]


def _is_anything(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    return np.ones(np.shape(values), dtype=bool)


def _is_finite(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    return np.isfinite(values)


def _is_positive(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    return np.isnan(values) | ((values > 0) & np.isfinite(values))


def _is_angle(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    return np.isnan(values) | (np.abs(values) <= 180)


def _is_map(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    # `encode_galaxy` uses values beyond 1 only where the scale could not be larger.
    return values >= -N_STEPS if np.asarray(values).dtype == np.int8 else np.abs(values) < 2


def _is_spread_map(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    return (values >= 0) & _is_map(values, n_classes)


def _is_step(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    # The largest number of 8 bits must still be a float32.
    return (values > 0) & (N_STEPS * values.astype(np.float64) <= np.finfo(np.float32).max)


def _is_address(values: Any, n_classes: int) -> NDArray[np.bool_]:
    if isinstance(values, str):
        return np.array(_can_be_address(values))
    return np.array([_can_be_address(text) for text in values], dtype=bool)


def _can_be_address(text: str) -> bool:
    """Return whether a text names files below a folder."""
    return len(text) <= _MAX_ADDRESS and all(
        path and path.isprintable() and path[0] != "/" and ".." not in path.split("/")
        for path in text.split(BETWEEN)
    )


def _is_share(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    return np.isnan(values) | ((values >= 0) & (values <= 1))


def _is_power_of_two(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    return np.isfinite(values) & (values > 0) & (np.frexp(values)[0] == 0.5)


def _is_spread(values: NDArray[Any], n_classes: int) -> NDArray[np.bool_]:
    return (values >= 0) & np.isfinite(values)


_FLOAT = ("float64", "float32")
_MAP = ("float16", "int8")
_SCALE = "a power of two"
RULES = {
    "objid": Rule(("text",), "N", "an identifier that can be printed", _is_anything),
    "redshift": Rule(
        _FLOAT,
        "N",
        "a redshift above -1, or NaN",
        lambda z, _: np.isnan(z) | ((z > -1) & np.isfinite(z)),
    ),
    "label": Rule(
        ("int16", "int8", "int32", "int64"),
        "N",
        "the position of a class, or -1",
        lambda label, n_classes: (label >= -1) & (label < n_classes),
    ),
    "split": Rule(
        ("text",),
        "N",
        "train, valid, test or nothing",
        lambda split, _: np.isin(np.asarray(split, str), SPLITS),
    ),
    "value": Rule(_FLOAT, "N", "a number, or NaN", _is_anything),
    "logits": Rule(("float32",), "NC", "a finite number", _is_finite),
    "probs": Rule(
        ("float32",), "NC", "a probability from 0 to 1", lambda p, _: (p >= 0) & (p <= 1)
    ),
    "cams": Rule(_MAP, "NChw", "a number within its scale", _is_map),
    "cam_scale": Rule(("float32",), "NC", _SCALE, _is_power_of_two),
    "cutouts": Rule(("uint8",), "NHWB", "a pixel", _is_anything),
    "pixel_scale": Rule(_FLOAT, "N", "a positive number, or NaN", _is_positive),
    "north_angle": Rule(("float32",), "N", "an angle from -180 to 180, or NaN", _is_angle),
    "east_angle": Rule(("float32",), "N", "an angle from -180 to 180, or NaN", _is_angle),
    "image_digest": Rule(("uint64",), "N", "a digest", _is_anything),
    "kpc_per_arcsec": Rule(_FLOAT, "N", "a positive number, or NaN", _is_positive),
    "logits_sd": Rule(("float32",), "NC", "a finite number from 0", _is_spread),
    "log_odds_sd": Rule(("float32",), "NE", "a finite number from 0", _is_spread),
    "cams_sd": Rule(_MAP, "NChw", "a number from 0 within its scale", _is_spread_map),
    "cams_sd_scale": Rule(("float32",), "NC", _SCALE, _is_power_of_two),
    "evidence_sd": Rule(_MAP, "NEhw", "a number from 0 within its scale", _is_spread_map),
    "evidence_sd_scale": Rule(("float32",), "NE", _SCALE, _is_power_of_two),
    "agreement": Rule(
        ("float32",),
        "N",
        "a correlation from -1 to 1, or NaN",
        lambda r, _: np.isnan(r) | (np.abs(r) <= 1),
    ),
    "cam_step": Rule(("float32",), "NC", "a positive number", _is_step),
    "cams_sd_step": Rule(("float32",), "NC", "a positive number", _is_step),
    "evidence_sd_step": Rule(("float32",), "NE", "a positive number", _is_step),
    "image": Rule(("text",), "N", "a path below the folder of the images", _is_address),
    "cam_total": Rule(("float32",), "NC", "a finite number", _is_finite),
    "cam_peak": Rule(("float32",), "NC", "a finite number", _is_finite),
    "centroid_x": Rule(("float32",), "N", "a number, or NaN", _is_anything),
    "centroid_y": Rule(("float32",), "N", "a number, or NaN", _is_anything),
    "concentration": Rule(("float32",), "N", "a number from 0 to 1, or NaN", _is_share),
    "positive_share": Rule(("float32",), "N", "a number from 0 to 1, or NaN", _is_share),
    "features": Rule(("float32",), "NK", "a finite number", _is_finite),
    SEALS: Rule(("text",), "P", "a digest", _is_anything),
}
"""The rule of each dataset of a store, by name."""


def check_schema(file: h5py.File, path: Path) -> StoreRecord:
    """Check that a file is a store of this schema; read its attributes, and no array.

    The values of an array are checked when they are read; see `find_invalid`.

    Parameters
    ----------
    file : h5py.File
        The file, open for reading.
    path : Path
        Its name, for messages.

    Returns
    -------
    StoreRecord
        What the store says about itself.

    Raises
    ------
    StoreError
        If the file holds what no store does (see `galfig.store.gate`), has another schema version,
        has an attribute that is missing or not valid, or lacks a dataset; or if a dataset has
        another type than the schema says, or a shape that does not agree with the others.
    """
    if "audit_version" in file.attrs:
        raise StoreError(
            f"{path}: an audit, expected a store; give the store that it is of, or draw the audit "
            f"with 'galfig figure audit-summary {path}'"
        )
    check_contents(file, path, may_span=True)
    attrs = read_attributes(file)
    found = attrs.get("schema_version")
    if found is None:
        raise StoreError(
            f"{path}: an HDF5 file without schema_version, expected a store; it is another "
            "file, or damaged"
        )
    if type(found) is not int or found not in _READABLE:
        raise StoreError(
            f"{path}: schema version {quote(found)}, expected {SCHEMA_VERSION} or before; another "
            "version of galfig wrote it: use that one, or update galfig"
        )
    record = read_record(attrs, path)
    _check_members(file, path, record)
    n_galaxies = _count_galaxies(file, path)
    if not n_galaxies:
        raise StoreError(f"{path}: holds no galaxy, expected some; build it again")
    if record.subset is not None:
        _check_subset(record.subset, path, n_galaxies)
    sizes = {
        "N": n_galaxies,
        "C": len(record.class_names),
        "E": count_evidence(len(record.class_names)),
        "H": record.cutout_size,
        "W": record.cutout_size,
    }
    _check_datasets(file, path, sizes)
    check_catalog(file["catalog"], path, n_galaxies)
    check_rejected(file["rejected"], path)
    return record


def _check_subset(subset: Subset, path: Path, n_galaxies: int) -> None:
    """Raise StoreError if a store says of the one that it is a subset of what cannot be."""
    if subset.whole.n_galaxies < n_galaxies:
        raise StoreError(
            f"{path}: a subset of {n_galaxies} of {subset.whole.n_galaxies} galaxies, "
            "expected fewer than all; edited or damaged, build it again"
        )
    if subset.order and sorted(subset.order) != list(range(n_galaxies)):
        raise StoreError(
            f"{path}: the order of its {n_galaxies} galaxies does not name each of them once; "
            "edited or damaged, build it again"
        )


def _check_members(file: h5py.File, path: Path, record: StoreRecord) -> None:
    """Raise StoreError unless a store has the datasets of its form, and none of another one."""
    form, is_mean = record.form, record.n_networks > 1
    never = list_lacking(form)
    optional = [*_OPTIONAL, *_OF_EVIDENCE, "evidence_sd_step"]
    if form != "full":
        # Without these, nobody can tell which image was explained.
        optional = [name for name in optional if name != "image_digest"]
    if not is_mean:
        optional += [*_OF_ENSEMBLE, *_STEPS]
    expected = [name for name in (*DESCRIPTIONS, *GROUPS) if name not in (*never, *optional)]
    lacking = [name for name in expected if name not in file]
    if lacking:
        raise StoreError(
            f"{path}: no dataset {lacking[0]!r}, expected a complete store; edited or damaged, "
            "build it again"
        )
    if odd := [name for name in never if name in file]:
        raise StoreError(
            f"{path}: {odd[0]} in a store of the form {form!r}, expected none; edited or damaged, "
            "build it again"
        )
    if form != "full" and record.n_channels is None:
        raise StoreError(
            f"{path}: no attribute n_channels, expected one, since it holds no cutouts; edited or "
            "damaged, build it again"
        )
    if form != "statistics":
        wanted = np.dtype(get_map_type(form)).name
        for name in ("cams", "cams_sd", "evidence_sd"):
            dataset = file.get(name)
            if isinstance(dataset, h5py.Dataset) and not _is_type(dataset, (wanted,)):
                raise StoreError(
                    f"{path}: {name} is {quote(str(dataset.dtype))}, expected {wanted}; edited or "
                    "damaged, build it again"
                )
    _check_ensemble(file, path, record.n_networks, form)


def count_evidence(n_classes: int) -> int:
    """Return the number of evidence maps of a galaxy.

    Parameters
    ----------
    n_classes : int
        Number of classes, C.

    Returns
    -------
    int
        1 for two classes, whose one map is signed; C for more.
    """
    return 1 if n_classes == 2 else n_classes


def read_record(attrs: Mapping[str, Any], path: Path) -> StoreRecord:
    """Parse the root attributes of a store.

    Parameters
    ----------
    attrs : mapping
        The root attributes; see `galfig.store.hdf5.read_attributes`.
    path : Path
        The file, for messages.

    Returns
    -------
    StoreRecord
        What the store says about itself.

    Raises
    ------
    StoreError
        If an attribute is missing or not valid.
    """
    try:
        return read_store_record(attrs)
    except ValidationError as exc:
        key, reason = describe_invalid(exc)
        raise StoreError(
            f"{path}: its attribute {key}: {reason}; edited or damaged, build it again"
        ) from exc


@contextmanager
def open_part(path: Path) -> Iterator[h5py.File]:
    """Open a part of a store, and check that it is one before anything in it is read.

    Parameters
    ----------
    path : Path
        A file written by `galfig.store.writer.write_part`.

    Yields
    ------
    h5py.File
        The part, open for reading.

    Raises
    ------
    StoreError
        If it holds what no part does (see `galfig.store.gate`), lacks a dataset, or has one of
        another type, or of a shape that does not agree with the others.
    """
    with open_hdf5(path) as file:
        check_contents(file, path)
        form = read_attributes(file).get("store", "full")
        images = {"full": ("cams", "cutouts"), "native": ("cams",)}.get(form, ())
        for name in ("objid", "label", "logits", *images, "rejected"):
            if name not in file:
                raise StoreError(f"{path}: no dataset {name!r}, expected a part of a store")
        _check_datasets(file, path, {"N": _count_galaxies(file, path)})
        check_rejected(file["rejected"], path)
        yield file


def find_invalid(name: str, values: Any, n_classes: int) -> str:
    """Find a value that the schema does not permit.

    Parameters
    ----------
    name : str
        A dataset. One that is not of the schema may hold anything.
    values : array or TextColumn
        Values of all galaxies, text in a column of its own; or of one galaxy.
    n_classes : int
        Number of classes C of the store.

    Returns
    -------
    str
        What was found and what was expected; "" if all values are valid.
    """
    rule = RULES.get(name)
    if rule is None:
        is_cells = name.startswith("catalog/") and isinstance(values, TextColumn)
        return _find_invalid_text(name, values) if is_cells else ""
    if isinstance(values, TextColumn):
        if name == "objid":
            return _find_invalid_objid(values)
        if name == "split" and np.isin(values.cells, _SPLIT_CELLS).all():
            return ""
        values = values.decode()
    is_wrong = ~rule.is_right(values, n_classes)
    if is_wrong.any():
        wrong = np.asarray(values)[is_wrong].flat[0]
        return f"{name} holds {quote(wrong)}, expected {rule.expected}"
    if name == "probs":
        sums = np.sum(values, axis=-1, dtype=np.float64)
        if (np.abs(sums - 1) > _SUM_TOLERANCE).any():
            return "probs do not add up to 1 for each galaxy"
    return ""


def _find_invalid_text(name: str, column: TextColumn) -> str:
    """Find a cell of a catalog that is no text, which no table can hold."""
    for cell in column.cells.tolist():
        try:
            cell.decode()
        except UnicodeDecodeError:
            return f"{name} holds {quote(cell)}, expected text in UTF-8"
    return ""


def find_contradiction(logits: NDArray[np.floating], probs: NDArray[np.floating]) -> str:
    """Find a galaxy whose probabilities are not the softmax of its logits.

    Parameters
    ----------
    logits, probs : (N, C) ndarray of float32
        Valid values; see `find_invalid`.

    Returns
    -------
    str
        What was found; "" if all probabilities agree.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    softmax = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    is_off = (np.abs(softmax - probs) > _SOFTMAX_TOLERANCE).any(axis=1)
    if not is_off.any():
        return ""
    return f"probs of galaxy number {int(is_off.argmax()) + 1} are not the softmax of its logits"


def _find_invalid_objid(objid: TextColumn) -> str:
    if not objid.is_unique:
        return "objid holds the same identifier twice"
    if objid.is_plain and objid.width <= _MAX_OBJID:
        return ""
    for name in objid.decode():
        if not name or not name.isprintable() or len(name) > _MAX_OBJID:
            return f"objid holds {quote(name)}, expected an identifier that can be printed"
    return ""


def _count_galaxies(file: h5py.File, path: Path) -> int:
    label = file["label"]
    if not isinstance(label, h5py.Dataset) or label.ndim != 1:
        raise StoreError(f"{path}: label is not a column; edited or damaged, build it again")
    return int(label.shape[0])


def _check_ensemble(file: h5py.File, path: Path, n_networks: int, form: Form) -> None:
    """Raise StoreError unless there are error bars of several networks, and none of one."""
    found = [name for name in (*_OF_ENSEMBLE, *_STEPS) if name in file]
    if found and n_networks == 1:
        raise StoreError(
            f"{path}: {found[0]} of one network, expected it of several only; edited or damaged, "
            "build it again"
        )
    names = ("evidence_sd", name_divisor("evidence_sd", form))
    pair = [name for name in names if name in file]
    if len(pair) == 1:
        raise StoreError(
            f"{path}: {pair[0]} without the other of {' and '.join(names)}; edited or "
            "damaged, build it again"
        )


def _check_datasets(file: h5py.File, path: Path, sizes: Mapping[str, int]) -> None:
    """Raise StoreError if a dataset has the wrong type, or a shape unlike those of the others.

    The lengths of axes that are not given must be one or more, and the same everywhere.
    """
    sizes = dict(sizes)
    for name, rule in RULES.items():
        if name not in file:
            continue
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise StoreError(f"{path}: {name} is a group; edited or damaged, build it again")
        if not _is_type(dataset, rule.dtypes):
            raise StoreError(
                f"{path}: {name} is {quote(str(dataset.dtype))}, expected {rule.dtypes[0]}; edited "
                "or damaged, build it again"
            )
        expected = tuple(sizes.get(axis, axis) for axis in rule.axes)
        found = dataset.shape
        fits = len(found) == len(expected) and all(
            (size >= 1 if isinstance(wanted, str) else size == wanted)
            for size, wanted in zip(found, expected, strict=True)
        )
        if not fits or (rule.axes[-1] == "B" and found[-1] > MAX_CHANNELS):
            words = ", ".join(map(str, expected))
            raise StoreError(
                f"{path}: {name} of shape {found}, expected ({words}{',' * (len(expected) == 1)}), "
                "as labels, classes and maps say; edited or damaged, build it again"
            )
        sizes |= zip(rule.axes, found, strict=True)


def _is_type(dataset: h5py.Dataset, dtypes: tuple[str, ...]) -> bool:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return "text" in dtypes
    # An enumeration, such as truth values, is not a number.
    is_enum = h5py.check_enum_dtype(dataset.dtype) is not None
    return dataset.dtype.newbyteorder("=").name in dtypes and not is_enum


def check_catalog(group: h5py.Group, path: Path, n_galaxies: int) -> None:
    """Raise StoreError if the catalog of a store or an outline is not a column of each galaxy."""
    if not isinstance(group, h5py.Group):
        raise StoreError(f"{path}: catalog is not a group; edited or damaged, build it again")
    read_columns(group, path)
    for key, column in group.items():
        if column.shape != (n_galaxies,):
            raise StoreError(
                f"{path}: catalog/{make_printable(key)} of shape {column.shape}, expected "
                f"({n_galaxies},), one cell per galaxy; edited or damaged, build it again"
            )


def read_columns(group: h5py.Group, path: Path) -> dict[str, str]:
    """Read which dataset holds each column of the catalog.

    Parameters
    ----------
    group : h5py.Group
        The group ``catalog``.
    path : Path
        The store, for messages.

    Returns
    -------
    dict of str to str
        Names of members of the group, by column.

    Raises
    ------
    StoreError
        If the attribute ``columns`` is missing, or does not name members of the group.
    """
    try:
        columns = load_json(read_attribute(group, "columns"))
        members = set(group)
        if not isinstance(columns, dict) or not members.issuperset(columns.values()):
            raise ValueError("not the names of its members, by column")
    except (KeyError, TypeError, ValueError) as exc:
        raise StoreError(
            f"{path}: the attribute columns of its catalog: {one_line(exc)}; edited or damaged, "
            "build it again"
        ) from exc
    return columns


def check_rejected(group: h5py.Group, path: Path) -> None:
    """Raise StoreError unless the galaxies that were left out have a reason each."""
    lists = []
    if isinstance(group, h5py.Group):
        lists = [group[name] for name in ("objid", "reason") if name in group]
    digests = group["image_digest"] if lists and "image_digest" in group else None
    if digests is not None and (
        digests.shape != lists[0].shape or not _is_type(digests, ("uint64",))
    ):
        raise StoreError(
            f"{path}: rejected does not hold a digest of each image; edited or damaged, build it "
            "again"
        )
    if (
        len(lists) < 2
        or lists[0].shape != lists[1].shape
        or any(one.ndim != 1 or not _is_type(one, ("text",)) for one in lists)
    ):
        raise StoreError(
            f"{path}: rejected does not hold identifiers with a reason each; edited or damaged, "
            "build it again"
        )
