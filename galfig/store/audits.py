"""Audits: sealed files with what the measures of a store's maps found, and a table of galaxies.

An audit is a small HDF5 file beside the store, which it names by digests. All of it is read and
compared with its seal when it is opened.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from galfig.errors import AuditError, StoreError
from galfig.records import AuditRecord, Measured, describe_invalid
from galfig.runtime.documents import dump_json, load_json
from galfig.runtime.inputs import is_fault_of_machine
from galfig.runtime.messages import CHECKSUM_MISMATCH, find_unprintable, one_line, quote
from galfig.store.checksums import find_damage, seal_file
from galfig.store.gate import check_contents
from galfig.store.hdf5 import (
    READING_ERRORS,
    create_hdf5,
    encode_texts,
    open_hdf5,
    read_attribute,
    read_attributes,
    read_texts,
    set_attributes,
)
from galfig.store.renaming import check_names, rename_audit

if TYPE_CHECKING:
    # pandas is slow to import.
    import pandas as pd

AUDIT_VERSION = 1
# The root attribute that tells an audit from a store.
_VERSION = "audit_version"
_GROUP, _MEASURES = "galaxies", "measures"
# More than any audit needs: measures, and what they say in total [byte].
_MAX_MEASURES, _MAX_DOCUMENTS = 64, 1 << 24
# More numbers and controls than all measures of the deepest network have; all become a figure.
_MAX_ESTIMATES = 2000
# Columns that every table has; all others hold numbers.
TEXTS = ("objid", "split", "true", "predicted")
_ADVICE = "edited or damaged, audit the store again"


class GalaxyColumn(NamedTuple):
    """A column of the table of galaxies.

    Attributes
    ----------
    values : (n,) ndarray of object (str) or float64
        The values, NaN where unknown.
    description : str
        What they are.
    unit : str
        Unit as astropy spells it; "" for numbers without one, and for logits.
    """

    values: NDArray[Any]
    description: str
    unit: str = ""


class Audit:
    """An audit of a store: its numbers, its verdict, and a table of galaxies.

    Attributes
    ----------
    path : Path
        The file.
    record : AuditRecord
        What it was made from, and its verdict.
    measures : dict of str to Measured
        What each measure found, by name, in the order in which they are shown.
    columns : dict of str to GalaxyColumn
        The table of galaxies, with units and descriptions.
    """

    def __init__(
        self,
        path: Path,
        record: AuditRecord,
        measures: Mapping[str, Measured],
        columns: Mapping[str, GalaxyColumn],
    ) -> None:
        self.path = path
        self.record = record
        self.measures = dict(measures)
        self.columns = dict(columns)

    def __len__(self) -> int:
        return len(self.columns["objid"].values)

    def __repr__(self) -> str:
        names = ", ".join(self.measures) or "no measure"
        heading = f"<Audit {self.path.name}: {len(self)} galaxies; {names}>"
        return "\n".join([heading, *self.verdict])

    def renamed(self, class_names: Mapping[str, str]) -> "Audit":
        """Return this audit with other names for the classes of its store, for figures.

        Parameters
        ----------
        class_names : mapping of str to str
            New names of classes, by their names in the store.

        Returns
        -------
        Audit

        Raises
        ------
        FigureError
            If a class is unknown, or two classes would have the same name.
        """
        if not class_names:
            return self
        check_names(class_names, self.record.store.class_names, (), self.path)
        record = rename_audit(self.record, class_names)
        return Audit(self.path, record, self.measures, self.columns)

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the maps support and what they do not, in sentences."""
        return self.record.verdict

    @property
    def objid(self) -> NDArray[Any]:
        """Identifier of each galaxy, (n,) array of str."""
        return self.columns["objid"].values

    @cached_property
    def galaxies(self) -> "pd.DataFrame":
        """The table of galaxies, indexed by objid.

        ``attrs["units"]`` and ``attrs["descriptions"]`` hold the unit and the description of each
        column.
        """
        import pandas as pd

        table = pd.DataFrame({name: column.values for name, column in self.columns.items()})
        table.attrs["units"] = {name: column.unit for name, column in self.columns.items()}
        table.attrs["descriptions"] = {
            name: column.description for name, column in self.columns.items()
        }
        return table.set_index("objid")


def write_audit(
    path: Path,
    attrs: Mapping[str, Any],
    measures: Mapping[str, Measured],
    columns: Mapping[str, GalaxyColumn],
) -> None:
    """Write an audit.

    Parameters
    ----------
    path : Path
        The file to write, empty or absent.
    attrs : mapping of str to str, int, float or bool
        The root attributes: the fields of `galfig.records.AuditRecord`, nested ones as JSON.
    measures : mapping of str to Measured
        What each measure found, by name.
    columns : mapping of str to GalaxyColumn
        The table of galaxies. The columns of each measure are among them, under the names of
        `name_column`.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    documents = [_dump_measure(measured) for measured in measures.values()]
    with create_hdf5(path) as file:
        set_attributes(file, {_VERSION: AUDIT_VERSION, **attrs})
        file.create_dataset(_MEASURES, data=encode_texts(documents))
        group = file.create_group(_GROUP)
        keys = {name: f"column{number:04d}" for number, name in enumerate(columns)}
        for name, column in columns.items():
            is_text = name in TEXTS
            data = (
                encode_texts([str(value) for value in column.values])
                if is_text
                else np.asarray(column.values, np.float64)
            )
            dataset = group.create_dataset(keys[name], data=data)
            described = {"description": column.description, "unit": column.unit}
            # HDF5 has no empty text.
            set_attributes(dataset, {key: words for key, words in described.items() if words})
        set_attributes(group, {"columns": json.dumps(keys)})
        seal_file(file)


def name_column(measure: str, column: str) -> str:
    """Return the name that a column of a measure has in the table: that of the measure first."""
    front, name = (words.replace("-", "_").replace(" ", "_") for words in (measure, column))
    return name if name.startswith(front) else f"{front}_{name}"


def is_audit(path: Path) -> bool:
    """Return whether a file says that it is an audit; False for one that cannot be read."""
    try:
        with open_hdf5(path) as file:
            return _VERSION in file.attrs
    except READING_ERRORS:
        return False


def open_audit(path: Path | str) -> Audit:
    """Read an audit.

    Parameters
    ----------
    path : Path or str
        A file written by ``galfig audit`` or `galfig.audit`.

    Returns
    -------
    Audit
        All that it holds; the file is closed again.

    Raises
    ------
    AuditError
        If the file is missing, is not an audit, holds anything that no audit does, or is not what
        was sealed.
    """
    path = Path(path)
    with _name_damage(path):
        if not path.exists():
            raise AuditError(
                f"{path}: no such file, expected an audit; make it with 'galfig audit'"
            )
        with open_hdf5(path) as file:
            return _read_audit(file, path)


def verify_audit(path: Path) -> list[str]:
    """Compare an audit with its own digests.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    list of str
        One line for each item that is damaged; empty if the audit is intact.

    Raises
    ------
    AuditError
        If the file is not an audit, or holds what none does.
    """
    with _name_damage(path), open_hdf5(path) as file:
        check_contents(file, path, (_GROUP,))
        found = list(find_damage(file))
    if not found:
        open_audit(path)
    return found


def read_audit_identity(path: Path) -> tuple[str, dict[str, str]] | None:
    """Identify an audit by what it was made from and by what it holds.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    digest : str
        Digest of what it was made from.
    content : dict of str to str
        SHA-256 by part: "measures" and "galaxies". None if it is no audit, or cannot be read.
    """
    try:
        audit = open_audit(path)
    except AuditError:
        return None
    documents = "\n".join(map(_dump_measure, audit.measures.values()))
    columns = {
        name: (np.asarray(column.values).tolist(), column.unit)
        for name, column in audit.columns.items()
    }
    parts = {_MEASURES: documents, _GROUP: dump_json(columns)}
    return audit.record.audit_digest, {
        part: hashlib.sha256(words.encode()).hexdigest() for part, words in parts.items()
    }


def read_audited_plan(path: Path) -> str | None:
    """Return the plan digest of the store that an audit measured; None if it cannot be read."""
    try:
        return open_audit(path).record.store.plan_digest
    except AuditError:
        return None


def _dump_measure(measured: Measured) -> str:
    """Write what a measure found as JSON; its columns are in the table of galaxies, by name."""
    document = measured.model_dump(mode="python")
    document["per_galaxy"] = list(measured.per_galaxy)
    return dump_json(document, sort_keys=False)


def _read_audit(file: h5py.File, path: Path) -> Audit:
    version = read_attribute(file, _VERSION) if _VERSION in file.attrs else None
    if version is None:
        is_store = "schema_version" in file.attrs
        found = "a store" if is_store else "an HDF5 file of something else"
        advice = f"; 'galfig audit {path}' makes one of it and of its network" if is_store else ""
        raise AuditError(f"{path}: {found}, expected an audit{advice}")
    check_contents(file, path, (_GROUP,))
    if type(version) is not int or version != AUDIT_VERSION:
        raise AuditError(
            f"{path}: audit version {quote(version)}, expected {AUDIT_VERSION}; another version of "
            "galfig wrote it: use that one, or update galfig"
        )
    if next(find_damage(file), ""):
        raise AuditError(f"{path}: {CHECKSUM_MISMATCH}; 'galfig verify {path}' says of what")
    record = _read_record(file, path)
    columns = _read_columns(file, path)
    return Audit(path, record, _read_measures(file, path, columns), columns)


def _read_record(file: h5py.File, path: Path) -> AuditRecord:
    try:
        return AuditRecord.model_validate(read_attributes(file))
    except ValidationError as exc:
        key, reason = describe_invalid(exc)
        raise AuditError(f"{path}: its attribute {key}: {reason}; {_ADVICE}") from exc


def _read_columns(file: h5py.File, path: Path) -> dict[str, GalaxyColumn]:
    """Read the table of galaxies."""
    group = file.get(_GROUP)
    if not isinstance(group, h5py.Group):
        raise AuditError(f"{path}: no group {_GROUP!r}, expected a table of galaxies; {_ADVICE}")
    keys = load_json(read_attribute(group, "columns"))
    if not isinstance(keys, dict) or sorted(map(str, keys.values())) != sorted(group):
        raise AuditError(f"{path}: {_GROUP}: its columns are not those that it names; {_ADVICE}")
    if any(find_unprintable(name) or not name for name in keys):
        raise AuditError(f"{path}: {_GROUP}: a column without a printable name; {_ADVICE}")
    columns = {name: _read_column(group[key], name, path) for name, key in keys.items()}
    lacking = [name for name in TEXTS if name not in columns]
    if lacking:
        raise AuditError(f"{path}: {_GROUP}: no column {lacking[0]!r}; {_ADVICE}")
    objid = columns["objid"].values
    if any(len(column.values) != len(objid) for column in columns.values()):
        raise AuditError(f"{path}: {_GROUP}: columns of different lengths; {_ADVICE}")
    if len(set(objid)) < len(objid) or not len(objid):
        raise AuditError(f"{path}: {_GROUP}: objid is empty or holds one twice; {_ADVICE}")
    return columns


def _read_column(dataset: h5py.Dataset, name: str, path: Path) -> GalaxyColumn:
    attrs = read_attributes(dataset)
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    description, unit = (attrs.get(key, "") for key in ("description", "unit"))
    is_right = is_text == (name in TEXTS) and (is_text or dataset.dtype == np.float64)
    if (
        dataset.ndim != 1
        or not is_right
        or not (isinstance(description, str) and isinstance(unit, str))
    ):
        raise AuditError(
            f"{path}: {_GROUP}/{name}: {quote(str(dataset.dtype))} of shape {dataset.shape}, "
            f"expected {'text' if name in TEXTS else 'numbers'} with a unit and a description; "
            f"{_ADVICE}"
        )
    values = np.asarray(read_texts(dataset), dtype=object) if is_text else dataset[:]
    found = [find_unprintable(text) for text in (description, unit, *(values if is_text else ()))]
    if any(found):
        raise AuditError(f"{path}: {_GROUP}/{name}: text that cannot be printed; {_ADVICE}")
    values.setflags(write=False)
    return GalaxyColumn(values, description, unit)


def _read_measures(
    file: h5py.File, path: Path, columns: Mapping[str, GalaxyColumn]
) -> dict[str, Measured]:
    dataset = file.get(_MEASURES)
    if (
        not isinstance(dataset, h5py.Dataset)
        or dataset.ndim != 1
        or h5py.check_string_dtype(dataset.dtype) is None
    ):
        raise AuditError(f"{path}: no {_MEASURES}, expected what each found; {_ADVICE}")
    if len(dataset) > _MAX_MEASURES or dataset.id.get_storage_size() > _MAX_DOCUMENTS:
        raise AuditError(
            f"{path}: {len(dataset)} measures of {dataset.id.get_storage_size()} bytes, expected "
            f"at most {_MAX_MEASURES} of {_MAX_DOCUMENTS}; {_ADVICE}"
        )
    measures: dict[str, Measured] = {}
    for words in read_texts(dataset):
        measured = _read_measure(words, path, columns)
        if measured.name in measures:
            raise AuditError(f"{path}: measure {measured.name!r} twice; {_ADVICE}")
        measures[measured.name] = measured
    n_estimates = sum(len(one.numbers) + len(one.controls) for one in measures.values())
    if n_estimates > _MAX_ESTIMATES:
        raise AuditError(
            f"{path}: {n_estimates} numbers, expected at most {_MAX_ESTIMATES}; {_ADVICE}"
        )
    return measures


def _read_measure(words: str, path: Path, columns: Mapping[str, GalaxyColumn]) -> Measured:
    try:
        document = load_json(words)
        names = document["per_galaxy"]
        document["per_galaxy"] = {
            name: columns[name_column(document["name"], name)].values.tolist() for name in names
        }
        return Measured.model_validate(document)
    except ValidationError as exc:
        key, reason = describe_invalid(exc)
        raise AuditError(f"{path}: {_MEASURES}: {key}: {reason}; {_ADVICE}") from exc


@contextmanager
def _name_damage(path: Path) -> Iterator[None]:
    """Turn any exception of a damaged file into a one-line AuditError."""
    try:
        yield
    except AuditError:
        raise
    except StoreError as exc:
        # The gate says that it is not as galfig writes it, whichever kind it is.
        raise AuditError(str(exc).replace("build it again", "audit the store again")) from exc
    except READING_ERRORS as exc:
        if is_fault_of_machine(exc):
            reason = one_line(exc.strerror) if isinstance(exc, OSError) else "no memory left"
            raise AuditError(f"{path}: cannot be read ({reason})") from exc
        raise AuditError(
            f"{path}: not an audit that can be read ({one_line(exc)}); audit the store again"
        ) from exc
