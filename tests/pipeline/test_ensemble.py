"""Builds with several networks: one store, decoded once, exact to each network by itself."""

import json
import logging
import shutil

import h5py
import numpy as np
import pytest
import torch
from samples import CPU, build_at, load_with_settings, make_settings

from galfig.catalog.galaxies import load_galaxies
from galfig.errors import CheckpointError, OutputError
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import load_checkpoint, save_checkpoint
from galfig.networks.ensemble import join_networks, load_networks
from galfig.networks.membership import record_members
from galfig.pipeline import explain
from galfig.pipeline.build import build_store
from galfig.pipeline.plan import make_plan
from galfig.store.reader import open_store, verify_store


def write_network(path, seed, class_names=("low", "high"), **metadata):
    """Write the checkpoint of an untrained conv3 of the classes."""
    torch.manual_seed(seed)
    described = {
        "arch": "conv3",
        "class_names": list(class_names),
        "layer": "conv3",
        "cutout_size": 32,
        "image_size": 16,
        "mean": [0.2] * 3,
        "std": [0.1] * 3,
        "seeds": {"split": 1, "training": seed},
        "metrics": {"accuracy": 0.5 + 0.1 * seed},
        **metadata,
    }
    path.parent.mkdir(exist_ok=True)
    network = build_network("conv3", len(class_names), len(described["mean"]))
    return save_checkpoint(path, network, described)


@pytest.fixture
def folder(tmp_path):
    """Write three networks into a folder."""
    for seed in range(3):
        write_network(tmp_path / "networks" / f"network-{seed + 1}.safetensors", seed)
    return tmp_path / "networks"


def explain_alone(tmp_path, galaxy_folder, files):
    """Return maps and logits of each network by a store of its own."""
    found = []
    for file in files:
        path = tmp_path / f"{file.stem}.h5"
        build_at(path, galaxy_folder, load_checkpoint(file))
        with open_store(path) as store:
            found.append((store.cams(slice(None)), store.logits))
    return map(np.stack, zip(*found, strict=True))


def test_the_store_holds_mean_and_scatter_of_the_networks(tmp_path, galaxy_folder, folder):
    """Those of the stores of each network by itself, up to the rounding of their float16."""
    path = tmp_path / "maps.h5"
    assert build_at(path, galaxy_folder, load_networks(folder))
    assert verify_store(path) == []
    cams, logits = explain_alone(tmp_path, galaxy_folder, sorted(folder.iterdir()))
    with open_store(path) as store:
        everything = slice(None)
        rounding = {"rtol": 2e-3, "atol": 1e-3 * np.abs(cams).max()}
        np.testing.assert_allclose(store.cams(everything), cams.mean(axis=0), **rounding)
        np.testing.assert_allclose(store.cams_sd(everything), cams.std(axis=0, ddof=1), **rounding)
        evidence = cams[:, :, 1] - cams[:, :, 0]
        np.testing.assert_allclose(
            store.evidence_sd(everything), evidence.std(axis=0, ddof=1), **rounding
        )
        np.testing.assert_allclose(store.logits, logits.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(store.logits_sd, logits.std(axis=0, ddof=1), rtol=1e-4)
        odds = logits[..., 1] - logits[..., 0]
        np.testing.assert_allclose(store.log_odds_sd[:, 0], odds.std(axis=0, ddof=1), rtol=1e-4)
        mean = logits.mean(axis=0, dtype=np.float64)
        softmax = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(store.probs, softmax, rtol=1e-5)
        assert np.isfinite(store.agreement).all()


def test_the_store_names_its_networks(tmp_path, galaxy_folder, folder):
    """The digest of each file, its seed and its accuracy; the training is what they share."""
    path = tmp_path / "maps.h5"
    build_at(path, galaxy_folder, load_networks(folder))
    files = sorted(folder.iterdir())
    with open_store(path) as store:
        networks = store.record.networks
        assert [one.checkpoint_sha256 for one in networks] == [
            load_checkpoint(file).digest for file in files
        ]
        assert [one.seeds["training"] for one in networks] == [0, 1, 2]
        assert [one.metrics["accuracy"] for one in networks] == pytest.approx([0.5, 0.6, 0.7])
        assert store.record.checkpoint_sha256 == load_networks(folder).digest
        assert store.training.metrics is store.training.history is None
        assert store.training.seeds == {"split": 1}


def test_images_are_decoded_once(tmp_path, galaxy_folder, folder, monkeypatch):
    """However many networks there are."""
    read, count = explain.read_cutout, []

    def note(path, *args, **options):
        count.append(path)
        return read(path, *args, **options)

    monkeypatch.setattr(explain, "read_cutout", note)
    build_at(tmp_path / "maps.h5", galaxy_folder, load_networks(folder))
    assert len(count) == 24


def test_parts_do_not_change_the_store(tmp_path, galaxy_folder, folder):
    """One shard or many give the same bytes of maps; so does a build that resumes."""
    joined = load_networks(folder)
    for size, name in ((512, "one.h5"), (5, "many.h5")):
        build_at(tmp_path / name, galaxy_folder, joined, shard_size=size)
    with h5py.File(tmp_path / "one.h5") as one, h5py.File(tmp_path / "many.h5") as many:
        for name in one:
            if isinstance(one[name], h5py.Dataset):
                assert one[name].attrs["sha256"] == many[name].attrs["sha256"], name


def test_a_build_resumes(tmp_path, galaxy_folder, folder, monkeypatch):
    """After the parts that are there, with the error bars in them."""
    joined, path = load_networks(folder), tmp_path / "maps.h5"
    galaxies, settings = load_with_settings(galaxy_folder, shard_size=8)
    plan = make_plan(galaxies, settings, joined, "all")
    original, done = explain.explain_galaxies, []

    def stop_late(some, *args, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(some))
        return original(some, *args, **options)

    monkeypatch.setattr("galfig.pipeline.work.explain_galaxies", stop_late)
    with pytest.raises(KeyboardInterrupt):
        build_store(plan, joined, path, run=CPU)
    assert not path.exists()
    monkeypatch.setattr("galfig.pipeline.work.explain_galaxies", original)
    assert build_store(plan, joined, path, run=CPU)
    assert not build_store(plan, joined, path, run=CPU)
    build_at(tmp_path / "whole.h5", galaxy_folder, joined, shard_size=8)
    with open_store(path) as store, open_store(tmp_path / "whole.h5") as whole:
        assert np.array_equal(store.evidence_sd(slice(None)), whole.evidence_sd(slice(None)))


def test_another_network_is_another_plan(tmp_path, galaxy_folder, folder):
    """The digest covers each of the files, and which of them there are."""
    path = tmp_path / "maps.h5"
    build_at(path, galaxy_folder, load_networks(folder))
    write_network(folder / "network-4.safetensors", 3)
    with pytest.raises(OutputError, match="was built from another catalog, network or settings"):
        build_at(path, galaxy_folder, load_networks(folder))
    assert build_at(path, galaxy_folder, load_networks(folder), if_exists="update")
    with open_store(path) as store:
        assert store.n_networks == 4


def test_galaxies_without_an_image_are_left_out(tmp_path, galaxy_folder, folder):
    """A part without any galaxy has the datasets of the others all the same."""
    networks = [load_checkpoint(file) for file in sorted(folder.iterdir())]
    (galaxy_folder / "images" / "1237665024900858129.jpg").write_bytes(b"no image")
    path = tmp_path / "maps.h5"
    assert build_at(path, galaxy_folder, join_networks(networks), shard_size=1)
    with open_store(path) as store:
        assert list(store.rejected) == ["1237665024900858129"]
        assert store.cams_sd(slice(None)).shape[0] == len(store) == 23


def test_three_classes(tmp_path, galaxy_folder):
    """Each class has its evidence against the rest, and its error bars."""
    names, folder = ("a", "b", "c"), tmp_path / "networks"
    for seed in range(2):
        write_network(folder / f"{seed}.safetensors", seed, names)
    (galaxy_folder / "catalog.csv").write_text(
        "objID\n" + "".join(f"{1237665024900858129 + index}\n" for index in range(24))
    )
    path = tmp_path / "maps.h5"
    settings = make_settings(galaxy_folder)
    settings = settings.model_copy(
        update={"classes": settings.classes.model_copy(update={"column": ""})}
    )
    galaxies = load_galaxies(settings, labelled=False)
    joined = load_networks(folder)
    build_store(make_plan(galaxies, settings, joined, "all"), joined, path, run=CPU)
    with open_store(path) as store:
        assert store.evidence_sd(0).shape == (3, *store.map_shape)
        assert store.log_odds_sd.shape == (24, 3)
    assert verify_store(path) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"class_names": ("high", "low")}, "its classes are 'high', 'low' and not 'low', 'high'"),
        ({"cutout_size": 40}, "the side of its cutouts is 40 and not 32"),
        ({"image_size": 24}, "the side of its images is 24 and not 16"),
        ({"mean": [0.2], "std": [0.1]}, "it has 1 channels and not 3"),
        ({"mean": [0.2, 0.2, 0.3]}, "it normalises with the mean 0.2, 0.2, 0.3 and not"),
        ({"std": [0.1, 0.1, 0.3]}, "it normalises with the std 0.1, 0.1, 0.3 and not"),
        ({"layer": "conv2"}, "the layer that it explains is 'conv2' and not 'conv3'"),
        ({"catalog_sha256": "f" * 64}, "it was trained with another catalog"),
        ({"recipe": {"training": {"epochs": 3, "seed": 9}}}, r"\[training\] epochs"),
    ],
    ids=range(9),
)
def test_networks_that_disagree_are_refused(folder, changed, words):
    """In one line that names the file and what differs."""
    recipe = {"recipe": {"training": {"epochs": 2, "seed": 0}}, "catalog_sha256": "e" * 64}
    for seed in range(3):
        path = folder / f"network-{seed + 1}.safetensors"
        path.unlink()
        write_network(path, seed, **recipe)
    assert len(load_networks(folder).networks) == 3
    path = folder / "network-2.safetensors"
    path.unlink()
    write_network(path, 1, **{**recipe, **changed})
    with pytest.raises(CheckpointError, match=words) as caught:
        load_networks(folder)
    assert str(caught.value).startswith(str(path))
    assert "unlike network-1.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_split_is_refused(folder, galaxy_folder):
    """Error bars over networks that saw other galaxies would be of something else."""
    for seed in range(3):
        path = folder / f"network-{seed + 1}.safetensors"
        path.unlink()
        settings = make_settings(galaxy_folder)
        split = settings.split.model_copy(update={"seed": 1 if seed < 2 else 2})
        galaxies = load_galaxies(settings.model_copy(update={"split": split}))
        write_network(path, seed, members=record_members(galaxies))
    with pytest.raises(CheckpointError, match=r"network-3.*other galaxies, or another split"):
        load_networks(folder)


def test_a_network_counts_once(folder):
    """A copy would make the scatter too small, and so does a second training with its seed."""
    shutil.copyfile(folder / "network-1.safetensors", folder / "copy.safetensors")
    with pytest.raises(CheckpointError, match=r"network-1.* is the same as copy"):
        load_networks(folder)
    (folder / "copy.safetensors").unlink()
    write_network(folder / "network-4.safetensors", 2, versions={"torch": "9"})
    with pytest.raises(CheckpointError, match=r"network-4.*the same seed as network-3"):
        load_networks(folder)


def test_only_checkpoints_count(folder, caplog):
    """Other files are passed over, and named; an unfinished training is warned of."""
    caplog.set_level(logging.INFO, logger="galfig")
    (folder / "notes.txt").write_text("words")
    (folder / "old").mkdir()
    (folder / ".DS_Store").write_text("")
    (folder / "network-9.resume.safetensors").write_text("")
    write_network(folder / "network-10.safetensors", 10)
    found = load_networks(folder)
    assert [one.record.seeds["training"] for one in found.networks] == [0, 1, 2, 10]
    assert "passed over what is no checkpoint: 'notes.txt', 'old'" in caplog.text
    assert "network-9.resume.safetensors: of an unfinished training" in caplog.text
    assert "DS_Store" not in caplog.text


@pytest.mark.parametrize("kind", ["none", "one", "damaged", "link", "pickle"])
def test_folders_that_cannot_be_used(tmp_path, folder, kind):
    """End in one line; a damaged file is never passed over, since nobody would miss it."""
    first, *others = sorted(folder.iterdir())
    if kind in ("none", "one"):
        for file in others if kind == "one" else (first, *others):
            file.unlink()
        expected = "a folder with (no network|one network, 'network-1.safetensors'), expected sev"
    elif kind == "damaged":
        first.write_bytes(first.read_bytes()[:-8])
        expected = "network-1.safetensors: truncated or damaged"
    elif kind == "pickle":
        first.write_bytes(b"\x80\x02}q\x00.")
        expected = "network-1.safetensors: a pickled file"
    else:
        target = shutil.move(first, tmp_path / "elsewhere.safetensors")
        first.symlink_to(target)
        expected = "network-1.safetensors: a symbolic link"
    with pytest.raises(CheckpointError, match=expected) as caught:
        load_networks(folder)
    assert "\n" not in str(caught.value)


def test_the_metadata_are_what_the_networks_share(folder):
    """No caption may take the history of the first network for that of all."""
    found = load_networks(folder)
    assert "metrics" not in found.metadata
    assert found.metadata["seeds"] == {"split": 1}
    assert json.dumps(found.metadata)
    assert repr(found).startswith("<Checkpoint: 3 networks, conv3 for low, high")
