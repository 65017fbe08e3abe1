"""Membership: what a network knows of galaxies, and what nobody knows of them."""

import base64
import dataclasses
import hashlib
import json

import numpy as np
import pytest
from samples import load_with_settings, make_checkpoint, make_settings, train

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import CheckpointError
from galfig.images.identity import digest_files
from galfig.networks.checkpoint import Checkpoint, save_checkpoint
from galfig.networks.membership import find_splits, record_members


def without_members(checkpoint):
    """Give the checkpoint as a galfig that recorded no members would have written it."""
    metadata = {key: value for key, value in checkpoint.metadata.items() if key != "members"}
    return Checkpoint(checkpoint.model, checkpoint.class_names, checkpoint.layer_name, metadata)


def test_the_same_name_may_be_another_galaxy(galaxy_folder, tmp_path, caplog):
    """In another catalog, a galaxy is known by its image too; the others are named in a warning."""
    galaxies, _ = load_with_settings(galaxy_folder)
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", galaxies=galaxies)
    galaxies.paths[3].write_bytes(galaxies.paths[4].read_bytes())
    galaxies.paths[5].write_bytes(b"")
    other = dataclasses.replace(galaxies, catalog_sha256="other")
    expected = galaxies.split.copy()
    expected[[3, 5]] = ""
    assert find_splits(checkpoint, other).tolist() == expected.tolist()
    assert "2 galaxies are named like some that the network was trained with" in caplog.text
    # The catalog of the training itself is known by name: new cutouts show the same galaxies.
    metadata = {**checkpoint.metadata, "catalog_sha256": galaxies.catalog_sha256}
    own = Checkpoint(checkpoint.model, ("low", "high"), "conv3", metadata)
    assert find_splits(own, galaxies).tolist() == galaxies.split.tolist()


def test_members_are_digests_of_name_and_image(galaxy_folder):
    """Eight bytes each, as anyone can compute them."""
    galaxies, _ = load_with_settings(galaxy_folder)
    row = int(np.flatnonzero(galaxies.in_valid)[0])
    data = base64.b64decode(record_members(galaxies.take(np.array([row])))["valid"])
    assert data[:8] == hashlib.sha256(galaxies.objid[row].encode()).digest()[:8]
    assert data[8:] == hashlib.sha256(galaxies.paths[row].read_bytes()).digest()[:8]


def test_a_network_knows_its_galaxies_in_any_catalog(galaxy_folder, tmp_path):
    """Another order, another seed of the split, galaxies that it never saw: by name."""
    galaxies, _ = load_with_settings(galaxy_folder)
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", galaxies=galaxies.take(np.arange(20)))
    order = np.random.default_rng(1).permutation(24)
    other = dataclasses.replace(
        galaxies.take(order), split=np.full(24, "valid", dtype=object), catalog_sha256="other"
    )
    expected = np.where(order < 20, galaxies.split[order], "")
    assert find_splits(checkpoint, other).tolist() == expected.tolist()
    assert {"train", "valid", ""} == set(expected)


def test_members_of_a_trained_network(galaxy_folder, tmp_path):
    """Training records them; those of the test set are neither trained on nor forgotten."""
    settings = make_settings(galaxy_folder)
    settings = load_settings(settings, {("split", "test_fraction"): 0.25})
    galaxies = load_galaxies(settings)
    assert np.sum(galaxies.split == "test") == 6
    from galfig.networks.main import train_checkpoint

    checkpoint = train_checkpoint(galaxies, settings, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(find_splits(checkpoint, galaxies), galaxies.split)
    metadata = checkpoint.metadata
    assert sum(metadata["n_train"].values()) == galaxies.in_train.sum()
    assert sum(metadata["n_valid"].values()) == galaxies.in_valid.sum()


def test_a_galaxy_whose_image_failed_did_not_train(galaxy_folder, tmp_path):
    """It is no member, so that its split is unknown once the image is mended."""
    settings = make_settings(galaxy_folder)
    galaxies = load_galaxies(settings)
    row = int(np.flatnonzero(galaxies.in_train)[0])
    whole = galaxies.paths[row].read_bytes()
    galaxies.paths[row].write_bytes(whole[:100])
    from galfig.networks.main import train_checkpoint

    checkpoint = train_checkpoint(galaxies, settings, tmp_path / "m.safetensors")
    found = find_splits(checkpoint, galaxies)
    assert found[row] == ""
    assert np.array_equal(np.delete(found, row), np.delete(galaxies.split, row))


def test_a_network_from_elsewhere_knows_nothing(galaxy_folder, tmp_path):
    """Unless the catalog says it in a column."""
    galaxies, _ = load_with_settings(galaxy_folder)
    stranger = make_checkpoint(tmp_path / "m.safetensors")
    assert set(find_splits(stranger, galaxies)) == {""}
    settings = load_settings(galaxies.settings, {("split", "column"): "part"})
    stated = dataclasses.replace(galaxies, settings=settings)
    assert find_splits(stranger, stated).tolist() == galaxies.split.tolist()


def test_an_old_checkpoint_knows_its_own_catalog_alone(galaxy_folder, tmp_path):
    """The draw is made again from the same catalog, classes and seed, and from no other."""
    settings = make_settings(galaxy_folder)
    galaxies = load_galaxies(settings)
    old = without_members(train(galaxies, settings, tmp_path / "m.safetensors"))
    assert find_splits(old, galaxies).tolist() == galaxies.split.tolist()
    seed = load_galaxies(load_settings(settings, {("split", "seed"): 1}))
    lost = galaxies.drop({galaxies.objid[0]})
    edited = dataclasses.replace(galaxies, catalog_sha256="edited")
    for others in (seed, lost, edited):
        assert set(find_splits(old, others)) == {""}


def test_another_catalog_holds_out_its_own_test_set(galaxy_folder, tmp_path):
    """A network that never saw these galaxies was not validated on any of them."""
    galaxies, _ = load_with_settings(galaxy_folder)
    nobody = record_members(galaxies.take(np.arange(0)))
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", galaxies=galaxies.take(np.arange(0)))
    assert nobody == {"train": "", "valid": "", "test": ""}
    settings = load_settings(galaxies.settings, {("split", "column"): "part"})
    split = np.array(["train", "valid", "test"] * 8, dtype=object)
    stated = dataclasses.replace(galaxies, settings=settings, split=split)
    assert find_splits(checkpoint, stated).tolist() == ["", "", "test"] * 8
    drawn = dataclasses.replace(galaxies, split=split)
    assert set(find_splits(checkpoint, drawn)) == {""}


@pytest.mark.parametrize("data", ["not base64!", base64.b64encode(b"seven b").decode(), 3])
def test_damaged_members_are_refused(tmp_path, data):
    """In one line, before such a checkpoint is written."""
    checkpoint = make_checkpoint(tmp_path / "m.safetensors")
    metadata = {**checkpoint.metadata, "members": {"train": data, "valid": ""}}
    metadata = json.loads(json.dumps(metadata))
    with pytest.raises(CheckpointError, match=r"its metadata members\.train"):
        save_checkpoint(tmp_path / "bad.safetensors", checkpoint.model, metadata)


def test_one_member_is_found(galaxy_folder, tmp_path):
    """A validation set of one galaxy, whatever its digest is."""
    galaxies, _ = load_with_settings(galaxy_folder)
    for index in range(6):
        split = np.where(np.arange(24) == index, "valid", "train").astype(object)
        one = dataclasses.replace(galaxies, split=split)
        checkpoint = make_checkpoint(tmp_path / f"{index}.safetensors", galaxies=one)
        assert find_splits(checkpoint, one).tolist() == split.tolist()


def test_images_that_were_read_are_not_read_again(galaxy_folder, monkeypatch):
    galaxies = load_galaxies(make_settings(galaxy_folder))
    known = dict(zip(galaxies.paths, digest_files(galaxies.paths).tolist(), strict=True))
    read = []

    def note(paths):
        read.extend(paths)
        return digest_files(paths)

    monkeypatch.setattr("galfig.networks.membership.digest_files", note)
    last = galaxies.paths[-1]
    partly = {path: digest for path, digest in known.items() if path != last}
    assert record_members(galaxies, known=partly) == record_members(galaxies)
    assert read == [last, *galaxies.paths]
