"""Audits as files: what was written is read again, and nothing else is."""

import json
import os

import h5py
import numpy as np
import pytest
from samples import make_measured, write_small_audit

import galfig
from galfig.errors import AuditError, StoreError
from galfig.info import describe_file, find_kind
from galfig.records import Measured
from galfig.store.audits import (
    is_audit,
    name_column,
    open_audit,
    read_audit_identity,
    verify_audit,
)
from galfig.store.checksums import seal_file
from galfig.store.reader import open_store
from galfig.verify import describe_scope, verify_path


@pytest.fixture
def path(tmp_path):
    """Write a small audit with two measures and a verdict."""
    measures = {name: make_measured(name, seed=i) for i, name in enumerate(("deletion", "sanity"))}
    measures["sanity"] = make_measured("sanity", passes=True)
    path = tmp_path / "maps.audit.h5"
    write_small_audit(path, measures, verdict=["The maps are maps."])
    return path


def edit(path, change, *, seal=True):
    """Change a file as somebody would who can also seal it."""
    with h5py.File(path, "r+") as file:
        change(file)
        if seal:
            seal_file(file)


def set_root(key, value):
    def change(file):
        text = value.encode() if isinstance(value, str) else value
        del file.attrs[key]
        file.attrs[key] = np.bytes_(text) if isinstance(text, bytes) else text

    return change


def set_documents(*documents):
    def change(file):
        del file["measures"]
        texts = [word.encode() for word in documents]
        file["measures"] = np.array(texts, h5py.string_dtype("utf-8", max(map(len, texts))))

    return change


def test_what_was_written_is_read_again(path):
    """Measures, their order and columns, missing numbers, the verdict, units."""
    audit = galfig.open_audit(path)
    assert list(audit.measures) == ["deletion", "sanity"]
    expected = make_measured("deletion")
    found = audit.measures["deletion"]
    assert found.numbers == expected.numbers
    assert found.controls == expected.controls
    assert found.curves == expected.curves
    assert list(found.curves) == ["share", "map"]
    np.testing.assert_equal(found.per_galaxy["excess over light"], [np.nan] * 12)
    np.testing.assert_equal(found.per_galaxy["area"], expected.per_galaxy["area"])
    assert audit.measures["sanity"].passes is True
    assert audit.verdict == ("The maps are maps.",)
    table = audit.galaxies
    assert table.index[0] == "1237665024900858100"
    assert table.attrs["units"]["centroid_distance"] == "pix"
    assert "deletion_excess_over_light" in table
    assert "deletion" in repr(audit)
    assert "The maps are maps." in repr(audit)


@pytest.mark.parametrize(
    ("measure", "column", "name"),
    [
        ("deletion", "deletion_area", "deletion_area"),
        ("common-mode", "common mode share", "common_mode_share"),
        ("common-mode", "evidence overlap", "common_mode_evidence_overlap"),
        ("symmetry", "symmetry", "symmetry"),
    ],
)
def test_a_column_has_the_name_of_its_measure_once(measure, column, name):
    """In front, whatever the measure calls it."""
    assert name_column(measure, column) == name


def test_the_same_audit_has_the_same_bytes(path, tmp_path):
    """No time and no order of a dictionary is in it."""
    measures = dict(open_audit(path).measures)
    write_small_audit(tmp_path / "again.h5", measures, verdict=["The maps are maps."])
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_info_and_verify_know_it(path):
    """By its content, whatever its name."""
    other = path.rename(path.with_name("x.dat"))
    assert find_kind(other) == "audit"
    assert verify_path(other) == []
    assert "every number" in describe_scope(other)
    facts = describe_file(other)
    assert facts["kind"] == "audit"
    assert facts["verdict"] == ["The maps are maps."]
    assert facts["passes"] == {"sanity": True}


def test_an_audit_is_no_store_and_a_store_no_audit(path, store_path):
    """Each reader says what the other file is."""
    with pytest.raises(StoreError, match="an audit, expected a store"):
        open_store(path)
    with pytest.raises(AuditError, match="a store, expected an audit; 'galfig audit"):
        open_audit(store_path)
    assert not is_audit(store_path)
    assert read_audit_identity(store_path) is None


@pytest.mark.parametrize("kind", ["absent", "text", "empty", "folder", "pipe"])
def test_other_files_are_refused(tmp_path, kind):
    """In one line, without waiting."""
    path = tmp_path / "x.h5"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "absent":
        path.write_text({"text": "objid,z\n", "empty": ""}[kind])
    with pytest.raises(AuditError) as found:
        open_audit(path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [(PermissionError(13, "Permission denied"), "Permission denied"), (MemoryError(), "no memory")],
)
def test_a_fault_of_the_machine_is_none_of_the_audit(path, monkeypatch, error, words):
    """Auditing the store again would not help."""

    def fail(*_):
        raise error

    monkeypatch.setattr("galfig.store.audits.open_hdf5", fail)
    with pytest.raises(AuditError, match=f"cannot be read .{words}") as found:
        open_audit(path)
    assert "again" not in str(found.value)


def test_every_byte_counts(path):
    """A file with any byte changed is refused, or reads as before: HDF5 leaves gaps."""
    data, before = path.read_bytes(), read_audit_identity(path)
    rng = np.random.default_rng(0)
    n_refused = 0
    for place in rng.integers(0, len(data), size=150):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        found = read_audit_identity(path)
        n_refused += found is None
        assert found in (None, before)
    assert n_refused > 50


def test_a_file_that_is_cut_off_is_refused(path):
    """Wherever it ends."""
    data = path.read_bytes()
    for length in (0, 8, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(AuditError):
            open_audit(path)


def test_a_number_that_was_edited_is_found(path):
    """Without the seal it is a mismatch, which verify places."""
    edit(path, lambda file: file["galaxies/column0004"].write_direct(np.ones(12)), seal=False)
    with pytest.raises(AuditError, match="checksum mismatch"):
        open_audit(path)
    assert verify_path(path) == ["galaxies/column0004: checksum mismatch"]
    assert verify_audit(path)


def document(**changed):
    found = json.loads(json.dumps(make_measured().model_dump(mode="json", exclude={"per_galaxy"})))
    return json.dumps({**found, "per_galaxy": [], **changed})


MANY = {f"x{i}": {"value": 1.0, "low": 1.0, "high": 1.0, "n": 1} for i in range(900)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_root("audit_version", 99), "audit version 99, expected 1"),
        (set_root("audit_version", "1"), "audit version '1', expected 1"),
        (set_root("store", "{}"), "its attribute store.plan_digest: field required"),
        (set_root("store", "[" * 2000), "nested more than"),
        (set_root("seed", -1), "its attribute seed"),
        (set_root("verdict", '["a\\u001b[2J"]'), "expected printable text"),
        (set_root("keys", "[]"), "its attribute keys"),
        (lambda file: file.__delitem__("measures"), "no measures"),
        (lambda file: file.__delitem__("galaxies"), "no group 'galaxies'"),
        (lambda file: file.create_group("other"), "group 'other', expected datasets"),
        (lambda file: file.__setitem__("link", h5py.SoftLink("/measures")), "is a link"),
        (lambda file: file["galaxies"].__delitem__("column0000"), "not those that it names"),
        (set_documents("{}"), "not an audit that can be read"),
        (set_documents(document(numbers={"x": 3})), "measures: numbers.x"),
        (set_documents(document(numbers={"x": {"value": "1"}})), "measures: numbers.x.value"),
        (set_documents(document(passes="yes")), "measures: passes"),
        (set_documents(document(per_galaxy=["nothing"])), "not an audit that can be read"),
        (set_documents(document(per_galaxy={"a": 1})), "not an audit that can be read"),
        (set_documents(document(curves={"share": [0], "map": [0, 1]})), "points, expected as many"),
        (set_documents(document(curves={"map": [0, 1]})), "curves without 'share'"),
        (set_documents(document(), document()), "measure 'deletion' twice"),
        (set_documents(*[document(name=f"m{i}") for i in range(80)]), "80 measures of"),
        (
            set_documents(*[document(name=f"m{i}", controls=MANY) for i in range(3)]),
            "2706 numbers, expected at most 2000",
        ),
        (
            lambda file: file["galaxies"].attrs.modify(
                "columns", np.bytes_(b'{"a": "column0000"}')
            ),
            "not those that it names",
        ),
    ],
)
def test_what_no_audit_holds_is_refused(path, change, words):
    """Even where somebody sealed it again."""
    edit(path, change)
    with pytest.raises(AuditError, match=words) as found:
        open_audit(path)
    assert "\n" not in str(found.value)
    assert read_audit_identity(path) is None
    assert verify_path(path)


def test_absurd_sizes_are_refused_before_they_are_read(path):
    """A column of ten million numbers that nobody wrote, and a text of a gigabyte."""

    def declare(file):
        del file["galaxies/column0004"]
        file.create_dataset("galaxies/column0004", (10**7,), "f8")

    edit(path, declare, seal=False)
    with pytest.raises(AuditError, match="and holds fewer"):
        open_audit(path)


@pytest.mark.parametrize("kind", ["two", "short", "text", "bare"])
def test_a_table_that_is_none_is_refused(path, kind):
    """Identifiers twice, columns of other lengths or types."""

    def change(file):
        group, name = file["galaxies"], "column0000" if kind == "two" else "column0005"
        attrs = dict(group[name].attrs)
        del group[name]
        texts = np.array([b"x"] * 12, h5py.string_dtype("utf-8", 1))
        group[name] = {"short": np.ones(3), "bare": np.ones((12, 1))}.get(kind, texts)
        for key, value in attrs.items():
            group[name].attrs[key] = value

    edit(path, change)
    with pytest.raises(AuditError, match=r"twice|different lengths|expected numbers"):
        open_audit(path)


def test_records_are_strict():
    """A number is no text, and curves have one length."""
    with pytest.raises(ValueError, match="valid number"):
        Measured(name="x", numbers={"a": {"value": "1", "low": 0.0, "high": 1.0, "n": 3}})
    with pytest.raises(ValueError, match=r"valid number|finite"):
        Measured(name="x", numbers={"a": {"value": np.nan, "low": 0.0, "high": 1.0, "n": 3}})
