"""Stores of an ensemble: what the reader gives, what the schema permits, and what damage does."""

import json

import h5py
import numpy as np
import pytest

from galfig.errors import StoreError
from galfig.store.content import PARTS, read_content
from galfig.store.reader import open_store, verify_store

NAMES = {2: ("low", "high"), 3: ("low", "medium", "high")}


@pytest.fixture(params=[2, 3], ids=["2 classes", "3 classes"])
def path(request, make_store):
    return make_store(n_networks=5, class_names=NAMES[request.param])


def edit(path, change):
    """Change an open store, as its maker never would."""
    with h5py.File(path, "r+") as file:
        change(file)


def test_error_bars_have_the_shapes_of_what_they_belong_to(path):
    """For one galaxy and for several, whatever the number of classes."""
    with open_store(path) as store:
        assert store.n_networks == 5
        n_classes = len(store.class_names)
        for rows in (3, [1, 2], slice(None), store.objid[0]):
            assert store.cams_sd(rows).shape == store.cams(rows).shape
            assert store.evidence_sd(rows).shape == store.evidence(rows).shape
        assert store.cams_sd(0).dtype == store.evidence_sd(0).dtype == np.float32
        assert store.logits_sd.shape == (12, n_classes)
        assert store.log_odds_sd.shape == (12, 1 if n_classes == 2 else n_classes)
        assert store.agreement.shape == (12,)
        assert (store.cams_sd(0) > 0).all()
    assert verify_store(path) == []


def test_numbers_survive_the_way_into_the_store(make_store):
    """The networks of a store are drawn with half the scatter of its maps."""
    cams = np.random.default_rng(3).normal(size=(12, 2, 24, 24)).astype(np.float32)
    with open_store(make_store(n_networks=8, cams=cams)) as store:
        found = store.cams_sd(slice(None))
        assert np.sqrt(np.mean(found**2)) == pytest.approx(0.5 * cams.std(), rel=0.02)
        evidence = store.evidence_sd(slice(None))
        assert np.sqrt(np.mean(evidence**2)) == pytest.approx(cams.std() / np.sqrt(2), rel=0.02)


def test_one_network_has_no_error_bars(store):
    """And says how to have some."""
    assert store.n_networks == 1
    assert store.agreement is store.logits_sd is store.log_odds_sd is None
    for read in (store.cams_sd, store.evidence_sd):
        with pytest.raises(StoreError, match="maps of one network, expected several"):
            read(0)


def test_maps_that_are_evidence_have_one_kind_of_error_bars(make_store):
    """The second of the two mirrored maps."""
    path = make_store(n_networks=3, attrs={"method": "evidence"})
    edit(path, lambda file: [file.__delitem__(n) for n in ("evidence_sd", "evidence_sd_scale")])
    with open_store(path) as store:
        assert np.array_equal(store.evidence_sd(0), store.cams_sd(0)[1])


def test_a_method_without_evidence_has_no_error_bars_of_it(make_store):
    """Those of its maps remain."""
    path = make_store(n_networks=3, attrs={"method": "layer-cam"})
    edit(path, lambda file: [file.__delitem__(n) for n in ("evidence_sd", "evidence_sd_scale")])
    with open_store(path) as store:
        assert store.cams_sd(0).shape == (2, 24, 24)
        with pytest.raises(StoreError, match="which maps by layer-cam do not give"):
            store.evidence_sd(0)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cams_sd", -0.5, "expected a number from 0 within its scale"),
        ("cams_sd", np.nan, "expected a number from 0"),
        ("evidence_sd", np.inf, "expected a number from 0"),
        ("cams_sd_scale", 3.0, "expected a power of two"),
        ("evidence_sd_scale", np.inf, "expected a power of two"),
        ("logits_sd", -1.0, "expected a finite number from 0"),
        ("log_odds_sd", np.nan, "expected a finite number from 0"),
        ("agreement", 1.5, "expected a correlation from -1 to 1"),
    ],
)
def test_values_that_cannot_be_are_found(make_store, name, value, words):
    """Whether one reads them or verifies the file."""
    path = make_store(n_networks=3)

    def spoil(file):
        dataset = file[name]
        values = dataset[:]
        values[2] = value
        dataset[...] = values

    edit(path, spoil)
    assert any(words in line for line in verify_store(path))
    reads = {
        "cams_sd": lambda store: store.cams_sd(2),
        "cams_sd_scale": lambda store: store.cams_sd(2),
        "evidence_sd": lambda store: store.evidence_sd(2),
        "evidence_sd_scale": lambda store: store.evidence_sd(2),
    }
    with open_store(path) as store, pytest.raises(StoreError, match=words):
        reads.get(name, lambda store: getattr(store, name))(store)


def resize(name, shape):
    def change(file):
        dtype = file[name].dtype
        del file[name]
        chunks = (1, *shape[1:]) if len(shape) == 4 else None
        file.create_dataset(name, data=np.zeros(shape, dtype), chunks=chunks)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.__delitem__("cams_sd"), "no dataset 'cams_sd'"),
        (lambda file: file.__delitem__("agreement"), "no dataset 'agreement'"),
        (lambda file: file.__delitem__("evidence_sd"), "evidence_sd_scale without the other"),
        (resize("cams_sd", (12, 2, 24, 23)), r"cams_sd of shape \(12, 2, 24, 23\)"),
        (resize("evidence_sd", (12, 2, 24, 24)), r"evidence_sd of shape \(12, 2, 24, 24\)"),
        (resize("log_odds_sd", (12, 2)), r"log_odds_sd of shape \(12, 2\)"),
        (resize("agreement", (11,)), r"agreement of shape \(11,\)"),
        (lambda file: file.attrs.create("n_networks", 1), "5 networks, expected 1"),
        (lambda file: list(map(file.attrs.pop, ("n_networks", "networks"))), "of one network"),
        (lambda file: file.attrs.create("n_networks", 4), "5 networks, expected 4"),
        (lambda file: file.attrs.create("n_networks", 0), "attribute n_networks"),
        (lambda file: file.attrs.create("n_networks", 10**6), "attribute n_networks"),
        (lambda file: file.attrs.create("n_networks", "5"), "attribute n_networks"),
        (lambda file: file.attrs.create("networks", '[{"lr": 1}]'), "attribute networks"),
        (lambda file: file.attrs.create("networks", "[" * 9999), "attribute networks"),
    ],
    ids=range(15),
)
def test_a_store_that_contradicts_itself_is_refused(make_store, change, words):
    """Before any array is read."""
    path = make_store(n_networks=5)
    edit(path, change)
    with pytest.raises(StoreError, match=words) as caught:
        open_store(path)
    assert "\n" not in str(caught.value)


def test_a_store_of_one_network_may_not_pretend(store_path):
    """Its error bars would be missing."""
    edit(store_path, lambda file: file.attrs.create("n_networks", 2))
    with pytest.raises(StoreError, match="no dataset 'logits_sd'"):
        open_store(store_path)


def test_the_content_knows_the_error_bars(make_store):
    """A figure that hatches follows from them, and from how many networks there are."""
    one, other = make_store("a.h5", n_networks=5), make_store("b.h5", n_networks=5)
    assert read_content(one) == read_content(other)
    known = {name for _, names in PARTS.values() for name in names}
    with h5py.File(one) as file:
        assert set(file) <= known
        assert {"n_networks", "networks"} <= set(PARTS["network"][0]) & set(file.attrs)
    networks = json.loads(h5py.File(one).attrs["networks"])
    networks[3]["checkpoint_sha256"] = "f" * 64
    changed = make_store("c.h5", n_networks=5, attrs={"networks": json.dumps(networks)})
    before, after = read_content(one), read_content(changed)
    assert {part for part in PARTS if before[part] != after[part]} == {"network"}


@pytest.mark.parametrize("name", ["cams_sd", "evidence_sd", "agreement", "logits_sd"])
def test_a_flipped_bit_is_found(make_store, name):
    """Where it is in a chunk, with the name of the galaxy."""
    path = make_store(n_networks=3)
    with h5py.File(path) as file:
        dataset = file[name]
        if dataset.chunks:
            start = dataset.id.get_chunk_info_by_coord((4, 0, 0, 0)).byte_offset + 40
        else:
            start = dataset.id.get_offset() + 16
    data = bytearray(path.read_bytes())
    data[start] ^= 4
    path.write_bytes(data)
    found = verify_store(path)
    assert found
    assert any(name in line for line in found)
