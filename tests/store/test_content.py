"""The content of a store: the same for the same values, and told part by part."""

import json

import h5py
import numpy as np
import pytest

from galfig.store.content import PARTS, read_content

CATALOG = {"petroR50_r": np.linspace(1, 2, 12)}


def find_changed(one, other):
    before, after = read_content(one), read_content(other)
    assert before.keys() == after.keys() == PARTS.keys()
    return {part for part in before if before[part] != after[part]}


def test_time_and_versions_are_no_content(make_store):
    """A store that was built again, later or by another version, is the same; so is its plan."""
    attrs = {
        "created": "2027-01-01T00:00:00+00:00",
        "galfig_version": "9.9",
        "torch_version": "9.9",
        "plan_digest": "other",
    }
    training = {"arch": "conv3", "n_train": {"low": 20, "high": 22}, "simulated": True}
    attrs["training"] = json.dumps({**training, "versions": {"torch": "9.9"}})
    one, other = make_store("a.h5"), make_store("b.h5", attrs=attrs)
    assert one.read_bytes() != other.read_bytes()
    assert find_changed(one, other) == set()


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"redshift": np.full(12, 0.5)}, {"catalog"}),
        ({"label": np.zeros(12, np.int16)}, {"catalog"}),
        ({"catalog": {"petroR50_r": np.linspace(1, 3, 12)}}, {"catalog"}),
        ({"attrs": {"checkpoint_sha256": "e" * 64}}, {"network"}),
        ({"attrs": {"target_layer": "conv2"}}, {"settings"}),
        ({"quantity": "mass"}, {"settings"}),
        ({"cutouts": np.zeros((12, 24, 24, 3), np.uint8)}, {"images"}),
        ({"cams": np.zeros((12, 2, 24, 24), np.float32)}, {"maps"}),
        ({"logits": np.zeros((12, 2), np.float32)}, {"maps"}),
    ],
    ids=range(9),
)
def test_what_changed_is_told(make_store, options, changed):
    """By the part of the store that holds it."""
    one = make_store("a.h5", catalog=CATALOG)
    assert find_changed(one, make_store("b.h5", **{"catalog": CATALOG, **options})) == changed


def test_one_pixel_of_one_map_changes_the_content(make_store):
    """A digest of the chunks' own checksums knows all of their bytes."""
    cams = np.random.default_rng(0).normal(size=(12, 2, 24, 24)).astype(np.float32)
    one = make_store("a.h5", cams=cams)
    cams[7, 1, 3, 4] += 0.5
    assert find_changed(one, make_store("b.h5", cams=cams)) == {"maps"}


def test_all_datasets_belong_to_a_part(store_path):
    """What a figure may draw is not forgotten: a new dataset must find its place here."""
    known = {name for _, names in PARTS.values() for name in names}
    with h5py.File(store_path) as file:
        assert set(file) <= known
        assert set(file.attrs) - {key for keys, _ in PARTS.values() for key in keys} == {
            *("created", "galfig_version", "torch_version", "plan_digest", "schema_version", "seal")
        }


def test_what_is_no_store_has_no_content(tmp_path, store_path):
    """Nor has a store that was cut off."""
    (tmp_path / "words.h5").write_text("words")
    assert read_content(tmp_path / "words.h5") is None
    assert read_content(tmp_path / "absent.h5") is None
    store_path.write_bytes(store_path.read_bytes()[:5000])
    assert read_content(store_path) is None
