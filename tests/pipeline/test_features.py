"""Features of the explained layer: stored as they are, or computed again from the cutouts."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from samples import build_at, explain_at, load_with_settings

import galfig
from galfig.config import load_settings
from galfig.errors import CheckpointError, ConfigError, StoreError
from galfig.images.cutouts import Decoding, read_cutout, scale_cutout
from galfig.info import describe_file
from galfig.networks.checkpoint import load_checkpoint
from galfig.networks.ensemble import load_networks
from galfig.pipeline import again
from galfig.store import reader
from galfig.store.content import read_content
from galfig.store.reader import open_store, verify_store


def pool_by_hook(folder, checkpoint, layer="conv3"):
    """Read the images of a folder, and pool what a plain hook sees of the layer in float64."""
    galaxies, _ = load_with_settings(folder)
    cutouts = [read_cutout(path, checkpoint.cutout_size, Decoding()) for path in galaxies.paths]
    images = checkpoint.normalise(
        np.stack([scale_cutout(cutout, checkpoint.image_size) for cutout in cutouts])
    )
    model, seen = checkpoint.model.double(), []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: seen.append(output.detach().clone())
    )
    with torch.no_grad():
        model(images.double())
    handle.remove()
    model.float()
    pooled = seen[0].numpy().mean(axis=(2, 3))
    return dict(zip(galaxies.objid.tolist(), pooled, strict=True))


def read_all(path):
    with open_store(path) as store:
        return dict(zip(store.objid.tolist(), store.features(slice(None)), strict=True))


@pytest.mark.parametrize("form", ["full", "native", "statistics"])
def test_stored_features_are_those_of_a_plain_hook(tmp_path, galaxy_folder, checkpoint, form):
    """In every form of a store, which HDF5 alone reads, and which `verify` finds intact."""
    expected = pool_by_hook(galaxy_folder, checkpoint)
    path = tmp_path / "maps.h5"
    build_at(path, galaxy_folder, checkpoint, store=form, features=True)
    found = read_all(path)
    assert found.keys() == expected.keys()
    for objid, values in found.items():
        np.testing.assert_allclose(values, expected[objid], rtol=2e-5, atol=2e-6)
    with h5py.File(path) as file:
        stored = file["features"]
        assert stored.dtype == np.float32
        stored_shape = stored.shape
        assert stored_shape == (24, len(next(iter(expected.values()))))
        assert b"feature map" in stored.attrs["description"]
    assert verify_store(path) == []
    assert describe_file(path)["features"] == stored_shape[1]


def test_layer_below_and_orientations(tmp_path, galaxy_folder, checkpoint):
    """The features are those of the layer that is explained, and averaged where its maps are."""
    build_at(tmp_path / "a.h5", galaxy_folder, checkpoint, layer="conv2", features=True)
    expected = pool_by_hook(galaxy_folder, checkpoint, "conv2")
    for objid, values in read_all(tmp_path / "a.h5").items():
        np.testing.assert_allclose(values, expected[objid], rtol=2e-5, atol=2e-6)
    build_at(tmp_path / "b.h5", galaxy_folder, checkpoint, tta=True, features=True)
    with open_store(tmp_path / "b.h5") as store, galfig.explain_again(store):
        stored = store.features(slice(None))
    build_at(tmp_path / "c.h5", galaxy_folder, checkpoint, tta=True)
    with galfig.explain_again(tmp_path / "c.h5", device="cpu") as store:
        assert np.array_equal(store.features(slice(None)), stored)


def test_store_without_features_has_the_bytes_that_it_had(tmp_path, galaxy_folder, checkpoint):
    """The setting is no part of a plan unless it is set; with it, the content of maps differs."""
    for name, features in (("a", False), ("b", True)):
        build_at(tmp_path / f"{name}.h5", galaxy_folder, checkpoint, features=features)
    with open_store(tmp_path / "a.h5") as a, open_store(tmp_path / "b.h5") as b:
        assert "features" not in a.attrs["config"]
        assert '"features": true' in b.attrs["config"]
        assert a.record.plan_digest != b.record.plan_digest
        assert np.array_equal(a.cams(slice(None)), b.cams(slice(None)))
        assert not a.has_features
        assert b.has_features
    contents = [read_content(tmp_path / f"{name}.h5") for name in "ab"]
    assert contents[0]["images"] == contents[1]["images"]
    assert contents[0]["maps"] != contents[1]["maps"]


@pytest.mark.parametrize("is_virtual", [False, True])
def test_parts_and_virtual_stores_have_the_same_features(
    tmp_path, galaxy_folder, checkpoint, is_virtual
):
    """However the galaxies are divided into parts, and whether maps stay in these or not."""
    whole, path = tmp_path / "whole.h5", tmp_path / "maps.h5"
    build_at(whole, galaxy_folder, checkpoint, features=True)
    for shards in ("0-1", "2-4"):
        explain_at(path, galaxy_folder, checkpoint, shards, features=True, shard_size=5)
    galfig.merge_maps(path, virtual=is_virtual)
    with open_store(path) as store:
        assert bool(store.n_parts) == is_virtual
    assert verify_store(path) == []
    expected = read_all(whole)
    for objid, values in read_all(path).items():
        assert np.array_equal(values, expected[objid])


def test_rejected_galaxies_have_no_features(tmp_path, galaxy_folder, checkpoint):
    """A part in which no galaxy can be explained does not stand in the way of the others."""
    galaxies, _ = load_with_settings(galaxy_folder)
    for path in galaxies.paths[:3]:
        path.write_bytes(b"no image")
    path = tmp_path / "maps.h5"
    build_at(path, galaxy_folder, checkpoint, features=True, shard_size=3)
    with open_store(path) as store:
        assert len(store) == 21
        assert store.features(slice(None)).shape == (21, store.features(0).size)
        assert store.n_rejected == 3


def test_some_galaxies_in_any_order(tmp_path, galaxy_folder, checkpoint, monkeypatch):
    """By position, mask or identifier, a block of the file at a time."""
    path = tmp_path / "maps.h5"
    build_at(path, galaxy_folder, checkpoint, features=True)
    with open_store(path) as store:
        every = store.features(slice(None))
        monkeypatch.setattr(reader, "N_BLOCK", 5)
        rows = np.array([20, 3, 3, 11, 0, 23])
        assert np.array_equal(store.features(rows), every[rows])
        assert np.array_equal(store.features(store.objid[7]), every[7])
        assert np.array_equal(store.features(np.arange(24) < 4), every[:4])
        assert store.features(np.array([], int)).shape == (0, every.shape[1])
        one = store.features(2)
        one[:] = 0
        assert np.array_equal(store.features(2), every[2])


def write_networks(folder, checkpoint_path, n=3):
    """Write networks of one recipe with different seeds."""
    from galfig.networks.architectures import build_network
    from galfig.networks.checkpoint import save_checkpoint

    folder.mkdir()
    metadata = load_checkpoint(checkpoint_path).metadata
    for seed in range(n):
        torch.manual_seed(seed)
        path = folder / f"network-{seed}.safetensors"
        network = build_network("conv3", 2, 3)
        save_checkpoint(path, network, {**metadata, "seeds": {"training": seed}})


def test_features_of_several_networks_are_side_by_side(tmp_path, galaxy_folder, checkpoint):
    """Channels of different networks have nothing to do with each other: none is averaged."""
    write_networks(tmp_path / "networks", tmp_path / "model.safetensors")
    networks = load_networks(tmp_path / "networks")
    build_at(tmp_path / "maps.h5", galaxy_folder, networks, features=True)
    expected = [pool_by_hook(galaxy_folder, one) for one in networks.networks]
    for objid, values in read_all(tmp_path / "maps.h5").items():
        side_by_side = np.concatenate([one[objid] for one in expected])
        np.testing.assert_allclose(values, side_by_side, rtol=2e-5, atol=2e-6)
    build_at(tmp_path / "none.h5", galaxy_folder, networks)
    with (
        galfig.explain_again(tmp_path / "none.h5", model=tmp_path / "networks") as store,
        open_store(tmp_path / "maps.h5") as stored,
    ):
        assert np.array_equal(store.features([4, 1]), stored.features([4, 1]))


@pytest.mark.parametrize("n_networks", [1, 2])
@pytest.mark.parametrize("casts", [True, False])
def test_device_that_threads_share_gives_the_same(
    tmp_path, galaxy_folder, checkpoint, shared_device, monkeypatch, n_networks, casts
):
    """The features come from the device with the maps, whichever of them rounds the maps."""
    monkeypatch.setattr("galfig.pipeline.explain.casts_exactly", lambda device: casts)
    network = checkpoint
    if n_networks > 1:
        write_networks(tmp_path / "networks", tmp_path / "model.safetensors", n_networks)
        network = load_networks(tmp_path / "networks")
    build_at(tmp_path / "a.h5", galaxy_folder, network, features=True)
    shared_device()
    build_at(tmp_path / "b.h5", galaxy_folder, network, features=True)
    with open_store(tmp_path / "a.h5") as a, open_store(tmp_path / "b.h5") as b:
        np.testing.assert_allclose(
            a.features(slice(None)), b.features(slice(None)), rtol=1e-5, atol=1e-6
        )
        assert np.array_equal(a.cutouts(slice(None)), b.cutouts(slice(None)))


@pytest.mark.parametrize("form", ["full", "native", "statistics"])
def test_features_are_computed_again_bit_for_bit(forms, tmp_path, untrained, form):
    """From the cutouts of a full store, even where the images are gone, or from the images."""
    folder = shutil.copytree(forms, tmp_path / "copy")
    build_at(folder / "kept.h5", folder / "galaxies", untrained[1], features=True)
    if form == "full":
        shutil.rmtree(folder / "galaxies")
    with (
        galfig.explain_again(folder / f"{form}.h5", device="cpu") as store,
        open_store(folder / "kept.h5") as kept,
    ):
        assert store.has_features
        rows = np.array([9, 2, 17])
        assert np.array_equal(store.features(rows), kept.features(rows))
        assert np.array_equal(store.features(slice(None)), kept.features(slice(None)))
        assert np.array_equal(store.features(5), kept.features(5))


@pytest.mark.slow
def test_workers_of_another_engine_give_the_same(tmp_path, galaxy_folder, checkpoint):
    """The setting travels with the work."""
    options = {"model": tmp_path / "model.safetensors", "split": "all", "device": "cpu"}
    options |= {"features": True, "workers": 1}
    found = []
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for name, where in (("a", {}), ("b", {"executor": pool})):
            path = tmp_path / f"{name}.h5"
            with galfig.build_maps(
                galaxy_folder / "catalog.csv", path, **options, **where
            ) as store:
                found.append(store.features(slice(None)))
    assert np.array_equal(*found)


def test_stored_features_need_no_network(tmp_path, galaxy_folder, checkpoint):
    """A store that holds them is not given others, and one that lacks nothing takes no supply."""
    path = tmp_path / "maps.h5"
    build_at(path, galaxy_folder, checkpoint, features=True)
    (tmp_path / "model.safetensors").unlink()
    with galfig.explain_again(path) as store:
        assert store._supply is None
        assert store.features(0).size


def test_store_without_features_says_what_to_do(forms, tmp_path):
    """Whether nothing supplies them, or the network is not there or another one."""
    with open_store(forms / "full.h5") as store:
        with pytest.raises(StoreError, match=r"holds no features.*conv3.*`features=True`"):
            store.features(0)
        with pytest.raises(StoreError, match="`model`"):
            store.features([])
    alone = Path(shutil.copy(forms / "full.h5", tmp_path / "maps.h5"))
    words = "name it with `model`; or build the store with `features=True`"
    with galfig.explain_again(alone) as store, pytest.raises(CheckpointError, match=words):
        store.features(0)


def test_logits_that_are_not_those_of_the_store_are_refused(forms, tmp_path, monkeypatch):
    """As those of another version of a library might be, up to more than rounding."""
    monkeypatch.setattr(again, "AGREEMENT", -1.0)
    monkeypatch.setattr(again.np, "array_equal", lambda a, b: False)
    with (
        galfig.explain_again(forms / "full.h5", device="cpu") as store,
        pytest.raises(StoreError, match="logits that differ"),
    ):
        store.features(0)


def test_features_beyond_the_memory_are_refused(forms, monkeypatch):
    """What is kept of all galaxies is bounded."""
    monkeypatch.setattr(again, "MAX_BYTES", 1000)
    with (
        galfig.explain_again(forms / "full.h5", device="cpu") as store,
        pytest.raises(StoreError, match=r"24 galaxies with \d+ features are more than"),
    ):
        store.features(slice(None))


def test_methods_of_pixels_have_none():
    """They explain no layer."""
    with pytest.raises(ConfigError, match="features with method 'integrated-gradients'"):
        load_settings(
            None, {("maps", "features"): True, ("maps", "method"): "integrated-gradients"}
        )


def test_damaged_features_are_found(tmp_path, galaxy_folder, checkpoint):
    """A changed value by its digest; one that is not finite also when it is read."""
    path = tmp_path / "maps.h5"
    build_at(path, galaxy_folder, checkpoint, features=True)
    with h5py.File(path, "r+") as file:
        file["features"][3, 0] = np.nan
    assert any("features" in line for line in verify_store(path))
    with open_store(path) as store, pytest.raises(StoreError, match=r"features.*expected a finite"):
        store.features(3)
    with h5py.File(path, "r+") as file:
        values = file["features"][:, 0]
        del file["features"]
        file["features"] = values
    with pytest.raises(StoreError, match="features of shape"):
        open_store(path)
