"""Distribution shift: images of another kind are noticed, and others of the same kind are not."""

import copy
import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from samples import CPU, METADATA, draw_galaxy

import galfig.networks.shift as shift
from galfig.catalog.galaxies import load_galaxies
from galfig.cli import main
from galfig.config import load_settings
from galfig.errors import CheckpointError
from galfig.figures.captions import PLAIN, describe_training
from galfig.images.cutouts import RGB
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import Checkpoint, save_checkpoint
from galfig.networks.main import train_checkpoint
from galfig.networks.shift import (
    compare_images,
    describe_images,
    offset_threshold,
    superiority,
    superiority_threshold,
)
from galfig.pipeline.main import run_main_job
from galfig.store.reader import open_store

# What may happen to images on their way from one survey to another.
CHANGES = {
    "another scale": {"zoom": 0.6},
    "another exposure": {"gain": 0.6},
    "channels in another order": {"order": (2, 1, 0)},
    "black on white": {"is_negative": True},
}


def write_galaxies(
    folder, n=120, seed=0, *, zoom=1.0, gain=1.0, order=(0, 1, 2), is_negative=False
):
    """Draw galaxies that are blue (low) or red (high), of many widths; return them loaded."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(n):
        red = (1.9 if index % 2 else 0.9) * rng.uniform(0.9, 1.1)
        image = gain * draw_galaxy(width=zoom * rng.uniform(4, 8), red=red)[..., list(order)]
        image = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(255 - image if is_negative else image).save(
            folder / "images" / f"{index}.png"
        )
    table = {"objID": range(n), "oh_p50": np.where(np.arange(n) % 2, 9.2, 8.4)}
    pd.DataFrame(table).to_csv(folder / "catalog.csv", index=False)
    return load_galaxies(settings_of(folder))


def settings_of(folder, **training):
    overrides = {
        ("catalog", "path"): folder / "catalog.csv",
        ("catalog", "images"): "images/{objID}.png",
        ("split", "valid_fraction"): 0.3,
    }
    training = {"epochs": 1, "batch_size": 8, "cutout_size": 32, **training}
    overrides |= {("training", key): value for key, value in training.items()}
    return load_settings(None, overrides)


def make_checkpoint(galaxies, seed=0):
    """Make a network that knows what its training images were like, without any training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_network("conv3", 2).eval()
    metadata = {**METADATA, "mean": [0.3] * 3, "std": [0.2] * 3}
    checkpoint = Checkpoint(model, ("low", "high"), "conv3", metadata)
    metadata["images"] = describe_images(checkpoint, galaxies, RGB)
    return checkpoint


def test_superiority_is_the_share_of_pairs():
    """The measure counts pairs, ties as half, as written down."""
    rng = np.random.default_rng(0)
    new, held_out = rng.integers(0, 9, 40).astype(float), rng.integers(0, 12, 23).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in new for b in held_out]
    assert superiority(new, held_out) == pytest.approx(np.mean(pairs))
    assert superiority(new, new) == 0.5
    assert superiority(np.full(3, np.inf), held_out) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("n_new", "n_held_out"), [(8, 21), (21, 21), (256, 21), (256, 120)])
def test_threshold_allows_for_small_samples(n_new, n_held_out):
    """Two samples of one distribution reach the threshold less than once in 200 times."""
    rng = np.random.default_rng(0)
    threshold = superiority_threshold(n_new, n_held_out)
    values = [superiority(rng.random(n_new), rng.random(n_held_out)) for _ in range(2000)]
    assert np.mean(np.array(values) > threshold) < 0.005
    assert 0.75 <= threshold < 1


@pytest.mark.parametrize(("n_new", "n_class"), [(8, 20), (21, 40), (256, 120)])
def test_offset_allows_for_small_samples(n_new, n_class):
    """The largest of eight offsets of like samples reaches the threshold once in 200 times."""
    rng = np.random.default_rng(0)
    new, trained = (rng.normal(size=(2000, n, 8)).mean(axis=1) for n in (n_new, n_class))
    largest = np.abs(new - trained).max(axis=1)
    assert np.mean(largest > offset_threshold(n_new, n_class)) < 0.005
    assert offset_threshold(256, 120) == 0.8


def test_a_single_image_proves_nothing():
    """One galaxy may well be the oddest of all: no threshold that it could pass."""
    assert superiority_threshold(1, 1000) == 1.0
    assert offset_threshold(1, 1000) > 4


def test_training_images_are_described(tmp_path):
    """Sizes, pixel scale, means and spreads are those of the training images, in little room."""
    galaxies = write_galaxies(tmp_path / "a")
    record = make_checkpoint(galaxies).metadata["images"]
    train = galaxies.take(galaxies.in_train)
    cutouts = np.stack([np.asarray(Image.open(path))[8:40, 8:40] for path in train.paths]) / 255
    assert record["n_train"] == len(train) == 84
    assert record["height"] == record["width"] == {"median": 48, "range": [48, 48]}
    assert record["pixel_scale"] is None
    means = cutouts.mean(axis=(1, 2))
    np.testing.assert_allclose(record["mean"]["mean"], means.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(record["mean"]["std"], means.std(axis=0), rtol=1e-6)
    stds = cutouts.std(axis=(1, 2))
    np.testing.assert_allclose(record["std"]["mean"], stds.mean(axis=0), rtol=1e-6)
    assert len(json.dumps(record, allow_nan=False)) < 10_000
    assert record == make_checkpoint(galaxies).metadata["images"]


def test_pixel_scale_is_described_where_known(tmp_path):
    """A column of pixel scales gives its median and range, empty cells aside."""
    galaxies = write_galaxies(tmp_path / "a", 20)
    scale = np.linspace(0.2, 0.4, len(galaxies))
    scale[0] = np.nan
    object.__setattr__(galaxies, "pixel_scale", scale)
    found = make_checkpoint(galaxies).metadata["images"]["pixel_scale"]
    known = scale[galaxies.in_train & np.isfinite(scale)]
    assert found["median"] == pytest.approx(np.median(known))
    assert found["range"] == pytest.approx([known.min(), known.max()])


def test_nothing_is_left_behind(tmp_path):
    """Neither a hook on the network nor a draw from torch's random numbers."""
    galaxies = write_galaxies(tmp_path / "a", 20)
    before = torch.get_rng_state()
    checkpoint = make_checkpoint(galaxies)
    compare_images(checkpoint, galaxies, RGB)
    assert not any(module._forward_hooks for module in checkpoint.model.modules())
    assert torch.equal(torch.get_rng_state(), before)


def test_images_of_another_kind_are_noticed(tmp_path, campaign):
    """Whatever a survey does otherwise is unlike; other galaxies, or one class alone, are not."""
    for seed in range(campaign.n(1, 8)):
        checkpoint = make_checkpoint(write_galaxies(tmp_path / f"train-{seed}", seed=seed), seed)
        others = write_galaxies(tmp_path / f"other-{seed}", seed=100 + seed)
        with campaign.trial("images: of the same kind, not blamed"):
            assert not compare_images(checkpoint, others, RGB)["is_unlike"]
        for label in range(2):
            with campaign.trial("images: one class alone, not blamed"):
                alone = others.take(others.label == label)
                assert not compare_images(checkpoint, alone, RGB)["is_unlike"]
        for kind, change in CHANGES.items():
            folder = tmp_path / f"{kind}-{seed}"
            changed = write_galaxies(folder, seed=100 + seed, **change)
            with campaign.trial(f"images: {kind}"):
                found = compare_images(checkpoint, changed, RGB)
                assert found["is_unlike"]
                assert found["value"] > found["threshold"]


def test_sample_is_no_period_of_the_catalog(tmp_path, monkeypatch):
    """Of a catalog whose classes alternate, a small sample still has both."""
    monkeypatch.setattr(shift, "N_SAMPLED", 12)
    checkpoint = make_checkpoint(write_galaxies(tmp_path / "a"))
    record = checkpoint.metadata["images"]
    assert record["n_train"] == record["n_valid"] == 12
    assert len(record["reference"]["pixel_centers"]) == 2


def test_unreadable_images_are_passed_over(tmp_path):
    """Images that cannot be decoded are not counted; without any other nothing is said."""
    galaxies = write_galaxies(tmp_path / "a", 20)
    checkpoint = make_checkpoint(galaxies)
    galaxies.paths[0].write_bytes(b"not an image")
    assert compare_images(checkpoint, galaxies, RGB)["n_images"] == 19
    nothing = galaxies.take(np.array([0]))
    assert compare_images(checkpoint, nothing, RGB) is None


def test_overflowing_network_is_as_unlike_as_can_be(tmp_path):
    """Where features are not finite the images are far, not in the middle."""
    galaxies = write_galaxies(tmp_path / "a", 20)
    checkpoint = make_checkpoint(galaxies)
    with torch.no_grad():
        next(checkpoint.model.parameters()).fill_(torch.inf)
    assert compare_images(checkpoint, galaxies, RGB)["value"] == 1.0


def test_validation_set_is_as_far_as_itself(tmp_path):
    """The galaxies that were held out at training are compared with themselves, tie by tie."""
    galaxies = write_galaxies(tmp_path / "a", 40)
    valid = galaxies.take(galaxies.in_valid)
    found = compare_images(make_checkpoint(galaxies), valid, RGB)
    assert found["measures"][1]["value"] == 0.5
    assert not found["is_unlike"]


def test_old_checkpoint_is_not_compared(tmp_path):
    """A checkpoint from before the record gives no comparison."""
    galaxies = write_galaxies(tmp_path / "a", 20)
    checkpoint = make_checkpoint(galaxies)
    del checkpoint.metadata["images"]
    assert compare_images(checkpoint, galaxies, RGB) is None


def test_damaged_record_is_refused_in_one_line(tmp_path, campaign):
    """Whatever of the record is absent, of another shape or no number is refused by name."""
    galaxies = write_galaxies(tmp_path / "a", 20)
    checkpoint = make_checkpoint(galaxies)
    galaxies = galaxies.take(np.arange(2))
    record = checkpoint.metadata["images"]
    damages = [None, "", 7, [], [[1.0]], [[1.0], [2.0, 3.0]], ["a"], [float("nan")], {}]
    for name in record["reference"]:
        for damage in damages:
            changed = copy.deepcopy(record)
            changed["reference"][name] = damage
            with campaign.trial("checkpoint: damaged record of the images"):
                refuse(checkpoint, changed, galaxies)
        changed = copy.deepcopy(record)
        del changed["reference"][name]
        with campaign.trial("checkpoint: damaged record of the images"):
            refuse(checkpoint, changed, galaxies)
    for changed in ({}, [], "text", 3):
        with campaign.trial("checkpoint: damaged record of the images"):
            refuse(checkpoint, changed, galaxies)


def refuse(checkpoint, record, galaxies):
    checkpoint.metadata["images"] = record
    with pytest.raises(CheckpointError, match=r"^m\.st: its record of the training images") as err:
        compare_images(checkpoint, galaxies, RGB, "m.st")
    assert "\n" not in str(err.value)


@pytest.mark.slow
def test_main_job_warns_and_records(tmp_path, caplog):
    """A trained network says in one line that images are unlike its own; the store says it too."""
    train = write_galaxies(tmp_path / "train")
    model = tmp_path / "m.safetensors"
    trained = settings_of(tmp_path / "train")
    train_checkpoint(train, trained, model, run=CPU)
    for name, change in {"like": {}, "unlike": CHANGES["another scale"]}.items():
        galaxies = write_galaxies(tmp_path / name, seed=1, **change)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            settings = settings_of(tmp_path / name)
            out = tmp_path / f"{name}.h5"
            run_main_job(galaxies, settings, out, model=model, split="all")
        lines = [line for line in caplog.messages if "unlike" in line]
        with open_store(out) as store:
            found, recorded = store.record.image_shift, json.loads(store.attrs["image_shift"])
            caption = describe_training(store, PLAIN)
        assert found.is_unlike == (name == "unlike")
        assert len(lines) == (name == "unlike")
        assert ("The images are unlike" in caption) == (name == "unlike")
    assert f"is {found.value:.2f}, expected at most {found.threshold:.2f}" in lines[0]
    assert found.measure in lines[0]
    assert "\n" not in lines[0]
    for path in (out, model):
        printed = CliRunner().invoke(main, ["info", str(path), "--json"])
        facts = json.loads(printed.stdout)
        assert facts["image_shift"] == recorded if path == out else "mean" in facts["images"]
    assert "reference" not in facts["images"]


def test_store_of_an_old_checkpoint_says_null(tmp_path, galaxy_folder):
    """Without the record there is no comparison, and the store says so."""
    settings = load_settings(None, {("catalog", "path"): galaxy_folder / "catalog.csv"})
    galaxies = load_galaxies(settings)
    metadata = {
        **METADATA,
        "mean": [0.2] * 3,
        "n_train": {"low": 10, "high": 9},
        "simulated": False,
        "catalog_sha256": "",
        "settings": settings.model_dump(mode="json"),
    }
    save_checkpoint(tmp_path / "old.safetensors", build_network("conv3", 2), metadata)
    out = tmp_path / "maps.h5"
    run_main_job(galaxies, settings, out, model=tmp_path / "old.safetensors")
    with open_store(out) as store:
        assert store.attrs["image_shift"] == "null"
        assert store.record.image_shift is None
        assert "unlike" not in describe_training(store, PLAIN)


@pytest.mark.slow
def test_real_galaxies_at_another_scale_are_unlike(real_data, tmp_path):
    """Cutouts of a fixed scale are unlike those scaled to the galaxy; galaxies held out are not."""
    catalog = real_data("sdss-oh") / "catalog.csv"
    table = pd.read_csv(catalog, dtype={"objID": str})
    is_held_out = np.arange(len(table)) % 4 == 0
    samples = {"train": table[~is_held_out], "held out": table[is_held_out]}
    loaded = {}
    for name, rows in samples.items():
        path = tmp_path / f"{name}.csv"
        rows.to_csv(path, index=False)
        settings = load_settings(
            None,
            {
                ("catalog", "path"): path,
                ("catalog", "images_dir"): catalog.parent,
                ("training", "batch_size"): 16,
                ("training", "epochs"): 1,
                ("training", "cutout_size"): 96,
                ("training", "image_size"): 48,
                ("split", "valid_fraction"): 0.3,
            },
        )
        loaded[name] = load_galaxies(settings), settings
    checkpoint = train_checkpoint(*loaded["train"], tmp_path / "m.safetensors", run=CPU)
    fixed_scale = load_galaxies(
        load_settings(
            None,
            {
                ("catalog", "path"): real_data("sdss-z-mass") / "catalog.csv",
                ("classes", "column"): "gz_class",
            },
        )
    )
    assert compare_images(checkpoint, fixed_scale, RGB)["is_unlike"]
    assert not compare_images(checkpoint, loaded["held out"][0], RGB)["is_unlike"]
