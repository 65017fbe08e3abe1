"""Building: the right numbers in the store, resumed work, shards that do not show."""

import contextlib
import errno
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from astropy.io import fits
from PIL import Image, ImageFile
from samples import CPU, FETCHED, build_at, load_with_settings, make_checkpoint, note_progress

from galfig.attribution import variants
from galfig.attribution.gradcam import CamBatch, grad_cam
from galfig.errors import (
    CatalogError,
    CheckpointError,
    DamagedPartError,
    LockError,
    LostCutoutError,
    OutputError,
)
from galfig.figures.captions import PLAIN, describe_network
from galfig.images import raster
from galfig.images.cutouts import Decoding, read_cutout, scale_cutout
from galfig.images.identity import digest_files
from galfig.images.jpeg import JpegDecoder
from galfig.info import describe_file
from galfig.networks.checkpoint import save_checkpoint
from galfig.pipeline import merge, work
from galfig.pipeline.build import build_store
from galfig.pipeline.explain import explain_galaxies
from galfig.pipeline.plan import make_plan
from galfig.pipeline.proof import read_proof_images
from galfig.records import FETCH_FILE, FetchRecord
from galfig.runtime.options import RunOptions
from galfig.store.content import read_content
from galfig.store.merging import merge_parts
from galfig.store.reader import open_store, read_image_digests


def read_datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, drawn_galaxies, untrained):
    """Build the store of all galaxies once, with nothing to disturb it."""
    path = tmp_path_factory.mktemp("undisturbed") / "maps.h5"
    # Not where pytest was started: settings of that folder would be read.
    with contextlib.chdir(path.parent):
        build_at(path, drawn_galaxies, untrained[1], shard_size=5)
    return path


def assert_same_store(one, two):
    one, two = read_datasets(one), read_datasets(two)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize("image_size", [32, 24])
def test_store_holds_the_maps_of_each_galaxy(galaxy_folder, tmp_path, image_size):
    """Every galaxy's maps are those of Grad-CAM on its own image, logits and probs with them."""
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", image_size=image_size)
    assert build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    galaxies, _ = load_with_settings(galaxy_folder)
    layer = checkpoint.model.get_submodule("conv3")
    with open_store(tmp_path / "maps.h5") as store:
        assert store.objid.tolist() == galaxies.objid.tolist()
        np.testing.assert_array_equal(store.label, galaxies.label)
        # Three kernels of 3 pixels see 7 pixels of the image as the network has it.
        assert store.record.receptive_field.side_px == pytest.approx(7 * 32 / image_size)
        np.testing.assert_array_equal(store.redshift, galaxies.redshift)
        np.testing.assert_array_equal(store.value, galaxies.value)
        np.testing.assert_allclose(store.catalog["oh_p50"].astype(float), galaxies.value)
        for index in (0, 7, 23):
            cutout = read_cutout(galaxies.paths[index], 32)
            np.testing.assert_array_equal(store.cutouts(index), cutout)
            scaled = np.array(scale_cutout(cutout, image_size))
            expected = grad_cam(checkpoint.model, checkpoint.normalise(scaled[None]), layer)
            cams = expected.cams[0].numpy()
            np.testing.assert_allclose(store.cams(index), cams, atol=6e-4 * np.abs(cams).max())
            np.testing.assert_allclose(
                store.logits[index], expected.logits[0].numpy(), rtol=1e-4, atol=1e-5
            )
            probs = torch.softmax(expected.logits[0], dim=0).numpy()
            np.testing.assert_allclose(store.probs[index], probs, rtol=1e-4)


def test_store_of_the_averaged_network(galaxy_folder, tmp_path):
    """With ``tta``, logits and maps are means over the turned and mirrored images."""
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", image_size=24)
    assert build_at(tmp_path / "plain.h5", galaxy_folder, checkpoint)
    assert build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, tta=True)
    galaxies, _ = load_with_settings(galaxy_folder)
    layer = checkpoint.model.get_submodule("conv3")
    scaled = np.array(scale_cutout(read_cutout(galaxies.paths[7], 32), 24))
    views = [np.rot90(one, k) for one in (scaled, scaled[:, ::-1]) for k in range(4)]
    batch = grad_cam(checkpoint.model, checkpoint.normalise(np.stack(views)), layer)
    maps = batch.cams.numpy()
    back = [np.rot90(maps[k], -k, (-2, -1)) for k in range(4)]
    back += [np.rot90(maps[4 + k], -k, (-2, -1))[..., ::-1] for k in range(4)]
    expected, logits = np.mean(back, axis=0), batch.logits.numpy().mean(axis=0)
    with open_store(tmp_path / "maps.h5") as store, open_store(tmp_path / "plain.h5") as plain:
        np.testing.assert_allclose(store.cams(7), expected, atol=6e-4 * np.abs(expected).max())
        np.testing.assert_allclose(store.logits[7], logits, rtol=1e-4, atol=1e-5)
        assert not np.allclose(plain.cams(7), expected, atol=1e-2 * np.abs(expected).max())
        assert store.settings.maps.tta
        assert "averaged here over the eight orientations" in describe_network(store, PLAIN)
        # A store that was built without it says nothing of it, as before.
        assert "tta" not in plain.settings.record()["maps"]
        assert store.record.plan_digest != plain.record.plan_digest


def test_store_says_what_it_was_made_from(galaxy_folder, tmp_path, monkeypatch):
    """The root attributes are those of the schema."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    galaxies, settings = load_with_settings(galaxy_folder)
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", galaxies=galaxies)
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, split="valid")
    with open_store(tmp_path / "maps.h5") as store:
        attrs = store.attrs
        assert len(store) == galaxies.in_valid.sum()
    assert attrs["schema_version"] == 2
    assert attrs["created"] == "1970-01-01T00:00:00+00:00"
    assert attrs["checkpoint_sha256"] == checkpoint.digest
    assert attrs["catalog_sha256"] == galaxies.catalog_sha256
    assert attrs["target_layer"] == "conv3"
    assert attrs["split"] == "valid"
    assert attrs["cutout_size"] == 32
    assert attrs["simulated"] is False
    assert json.loads(attrs["class_names"]) == ["low", "high"]
    assert json.loads(attrs["config"]) == settings.record()
    assert {"galfig_version", "torch_version", "plan_digest", "training"} <= set(attrs)
    assert "fetched" not in attrs
    software = json.loads(attrs["software"])
    assert software["python"] == platform.python_version()
    assert {name: software[name] for name in ("numpy", "h5py", "torch", "fastai")} == {
        name: version(name) for name in ("numpy", "h5py", "torch", "fastai")
    }
    assert not {"timm", "captum", "torchvision"} & set(software)


def test_store_says_where_its_galaxies_were_fetched(galaxy_folder, tmp_path, checkpoint):
    """What 'galfig fetch' recorded beside the catalog stays with the store, and no folder of it."""
    images = load_with_settings(galaxy_folder)[1].catalog.images
    record = {**FETCHED, "images": images}
    (galaxy_folder / FETCH_FILE).write_text(json.dumps(record))
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    with open_store(tmp_path / "maps.h5") as store:
        assert store.record.fetched == FetchRecord.model_validate(record)
        assert str(galaxy_folder) not in store.attrs["fetched"]
        content = read_content(store.path)
    # Fetched again another day, it is the same; from elsewhere, it is not.
    (galaxy_folder / FETCH_FILE).write_text(json.dumps({**record, "last": "2027-01-01"}))
    build_at(tmp_path / "later.h5", galaxy_folder, checkpoint)
    assert read_content(tmp_path / "later.h5") == content
    (galaxy_folder / FETCH_FILE).write_text(json.dumps({**record, "release": "dr17"}))
    build_at(tmp_path / "other.h5", galaxy_folder, checkpoint)
    other = read_content(tmp_path / "other.h5")
    assert {part for part in content if other[part] != content[part]} == {"catalog"}


def test_shards_and_workers_do_not_show(galaxy_folder, tmp_path, checkpoint):
    """Any shard size and number of threads gives the same datasets, bit for bit."""
    build_at(tmp_path / "one.h5", galaxy_folder, checkpoint)
    build_at(tmp_path / "many.h5", galaxy_folder, checkpoint, shard_size=5)
    galaxies, settings = load_with_settings(galaxy_folder, shard_size=24)
    plan = make_plan(galaxies, settings, checkpoint, "all")
    threads = RunOptions(device="cpu", n_workers=3)
    build_store(plan, checkpoint, tmp_path / "threads.h5", run=threads)
    assert_same_store(tmp_path / "one.h5", tmp_path / "many.h5")
    assert_same_store(tmp_path / "one.h5", tmp_path / "threads.h5")


def test_device_that_threads_share_does_not_show(
    galaxy_folder, tmp_path, checkpoint, undisturbed, shared_device
):
    """Several parts at a time, in large batches, become the same store."""
    shared_device()
    build_at(tmp_path / "shared.h5", galaxy_folder, checkpoint, shard_size=5)
    assert_same_store(tmp_path / "shared.h5", undisturbed)


@pytest.mark.gpu
def test_store_of_a_gpu(galaxy_folder, tmp_path, checkpoint, undisturbed):
    """Twice the same bytes, in shards of any size, and the maps of a processor but for rounding."""
    for name, shard_size in (("one", 24), ("two", 24), ("many", 5)):
        galaxies, settings = load_with_settings(galaxy_folder, shard_size=shard_size)
        plan = make_plan(galaxies, settings, checkpoint, "all")
        build_store(plan, checkpoint, tmp_path / f"{name}.h5", run=RunOptions(device="cuda"))
    checkpoint.model.cpu()
    assert_same_store(tmp_path / "one.h5", tmp_path / "two.h5")
    assert_same_store(tmp_path / "one.h5", tmp_path / "many.h5")
    found, expected = read_datasets(tmp_path / "one.h5"), read_datasets(undisturbed)
    np.testing.assert_array_equal(found["cutouts"], expected["cutouts"])
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=1e-5)
    with open_store(tmp_path / "one.h5") as one, open_store(undisturbed) as other:
        cams, exact = one.cams(slice(None)), other.cams(slice(None))
    assert np.abs(cams - exact).max() <= 1e-3 * np.abs(exact).max()


def test_parts_side_by_side_end_with_the_first_error(
    galaxy_folder, tmp_path, checkpoint, shared_device, monkeypatch
):
    """The other lanes finish what they do, and begin no further part."""
    shared_device()
    begun = []

    def explain(galaxies, *args, **options):
        begun.append(galaxies.objid[0])
        if len(begun) == 2:
            raise LostCutoutError("gone")
        time.sleep(0.2)
        return explain_galaxies(galaxies, *args, **options)

    monkeypatch.setattr("galfig.pipeline.work.explain_galaxies", explain)
    with pytest.raises(LostCutoutError, match="gone"):
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, shard_size=1)
    assert 2 <= len(begun) < 12
    assert not (tmp_path / "maps.h5").exists()


@pytest.mark.slow
def test_killed_build_goes_on(
    galaxy_folder, tmp_path, checkpoint, undisturbed, monkeypatch, caplog
):
    """A build stopped in its third shard keeps the first two, and ends as if undisturbed."""
    calls = []

    def explain(galaxies, *args, **options):
        calls.append(galaxies.objid[0])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return explain_galaxies(galaxies, *args, **options)

    monkeypatch.setattr("galfig.pipeline.work.explain_galaxies", explain)
    path = tmp_path / "maps.h5"
    with pytest.raises(KeyboardInterrupt):
        build_at(path, galaxy_folder, checkpoint, shard_size=5)
    assert not path.exists()
    parts = tmp_path / "maps.h5.parts"
    made = ["000000.h5", "000001.h5", "outline.h5"]
    assert sorted(part.name for part in parts.iterdir()) == made

    noted = note_progress(monkeypatch, work)
    with caplog.at_level(logging.INFO, "galfig"):
        logging.getLogger("galfig").propagate = True
        assert build_at(path, galaxy_folder, checkpoint, shard_size=5)
    assert noted == [{"task": "explaining", "total": 24, "initial": 10, "done": 24}]
    assert len(calls) == 6
    assert calls[2] == calls[3]
    assert "2 of 5 shards are done" in caplog.text
    assert not parts.exists()
    assert_same_store(path, undisturbed)


def test_part_that_was_half_written_goes_with_the_others(galaxy_folder, tmp_path, checkpoint):
    """What a killed process left under a hidden name keeps nobody from removing the folder."""
    folder = tmp_path / "maps.h5.parts"
    folder.mkdir()
    (folder / ".000000.h5.abcd1234.tmp.h5").write_bytes(b"half")
    (folder / "000007.h5").write_bytes(b"of another plan")
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    assert not folder.exists()


@pytest.mark.slow
def test_parts_of_another_plan_are_not_used(galaxy_folder, tmp_path, checkpoint):
    """Parts that a network since replaced has left behind are made anew."""
    path = tmp_path / "maps.h5"
    folder = tmp_path / "maps.h5.parts"
    folder.mkdir()
    with h5py.File(folder / "000000.h5", "w") as file:
        file.attrs["plan_digest"] = "another"
    assert build_at(path, galaxy_folder, checkpoint)
    build_at(tmp_path / "clean.h5", galaxy_folder, checkpoint)
    assert_same_store(path, tmp_path / "clean.h5")


def test_finished_store_is_left_alone(galaxy_folder, tmp_path, checkpoint):
    """Built again, nothing is left to do; of another plan, it is not replaced unasked."""
    path = tmp_path / "maps.h5"
    assert build_at(path, galaxy_folder, checkpoint)
    before = path.read_bytes()
    (tmp_path / "maps.h5.parts").mkdir()
    assert not build_at(path, galaxy_folder, checkpoint)
    assert not (tmp_path / "maps.h5.parts").exists()
    with pytest.raises(OutputError, match='use `if_exists="replace"`'):
        build_at(path, galaxy_folder, checkpoint, layer="conv2")
    assert path.read_bytes() == before


@pytest.mark.slow
def test_store_is_updated_where_it_is_of_another_plan(galaxy_folder, tmp_path, checkpoint):
    """One of this plan stays, one of another is replaced, and what is no store is somebody's."""
    path = tmp_path / "maps.h5"
    assert build_at(path, galaxy_folder, checkpoint, if_exists="update")
    before = path.stat().st_ino
    assert not build_at(path, galaxy_folder, checkpoint, if_exists="update")
    assert path.stat().st_ino == before
    assert build_at(path, galaxy_folder, checkpoint, if_exists="update", layer="conv2")
    with open_store(path) as store:
        assert store.attrs["target_layer"] == "conv2"
    path.write_text("notes")
    with pytest.raises(OutputError, match="already exists"):
        build_at(path, galaxy_folder, checkpoint, if_exists="update")
    assert path.read_text() == "notes"


@pytest.mark.slow
@pytest.mark.parametrize("found", ["this plan", "another plan", "no store"])
def test_any_file_is_replaced_on_word(galaxy_folder, tmp_path, checkpoint, found):
    """With "replace" the store is built anew, whatever is there."""
    path = tmp_path / "maps.h5"
    if found == "no store":
        path.write_text("notes")
    else:
        layer = "conv2" if found == "another plan" else "auto"
        build_at(path, galaxy_folder, checkpoint, layer=layer)
    before = path.stat().st_ino
    assert build_at(path, galaxy_folder, checkpoint, if_exists="replace")
    assert path.stat().st_ino != before
    with open_store(path) as store:
        assert store.attrs["target_layer"] == "conv3"


def test_unreadable_image_is_rejected_by_name(galaxy_folder, tmp_path, checkpoint, caplog):
    """A truncated JPEG is counted and named in the store, and its neighbours are right."""
    galaxies, _ = load_with_settings(galaxy_folder)
    lost = galaxies.objid[4]
    build_at(tmp_path / "whole.h5", galaxy_folder, checkpoint)
    galaxies.paths[4].write_bytes(galaxies.paths[4].read_bytes()[:400])
    with caplog.at_level(logging.WARNING, "galfig"):
        logging.getLogger("galfig").propagate = True
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    assert "1 of 24 cutouts could not be explained" in caplog.text
    with open_store(tmp_path / "maps.h5") as store, open_store(tmp_path / "whole.h5") as whole:
        assert len(store) == 23
        assert lost not in store.objid
        assert f"{lost}.jpg" in store.rejected[lost]
        assert store.catalog["objID"].tolist() == store.objid.tolist()
        np.testing.assert_array_equal(store.cams(4), whole.cams(5))


@pytest.mark.slow
@pytest.mark.parametrize("n_lost", [1, 14])
def test_images_that_vanish_stop_the_build_and_reject_nobody(
    galaxy_folder, tmp_path, checkpoint, undisturbed, n_lost
):
    """A folder that goes away halfway stops the build in one line; back again, it goes on."""
    galaxies, settings = load_with_settings(galaxy_folder, shard_size=5)
    plan = make_plan(galaxies, settings, checkpoint, "all")
    path, away = tmp_path / "maps.h5", tmp_path / "away"
    away.mkdir()
    lost = galaxies.paths[10 : 10 + n_lost]
    for image in lost:
        image.rename(away / image.name)
    with pytest.raises(LostCutoutError, match=r"\.jpg: lost .*when it is back, run this again"):
        build_store(plan, checkpoint, path, run=CPU)
    assert not path.exists()
    parts = sorted(part.name for part in (tmp_path / "maps.h5.parts").iterdir())
    assert parts == ["000000.h5", "000001.h5", "outline.h5"]
    for image in lost:
        (away / image.name).rename(image)
    assert build_at(path, galaxy_folder, checkpoint, shard_size=5)
    assert_same_store(path, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [MemoryError(), OSError(errno.EMFILE, "Too many open files")], ids=["memory", "files"]
)
def test_shortage_stops_the_build_and_rejects_nobody(
    galaxy_folder, tmp_path, checkpoint, undisturbed, monkeypatch, fault
):
    """A machine that runs short in the middle of an image makes no healthy galaxy a bad one."""
    galaxies, settings = load_with_settings(galaxy_folder, shard_size=5)
    plan = make_plan(galaxies, settings, checkpoint, "all")
    real, left = ImageFile.ImageFile.load, iter(range(12))

    def load(image):
        if next(left, None) is None:
            raise fault
        return real(image)

    path = tmp_path / "maps.h5"
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", load)
        # Where simplejpeg is installed, it would decode most of them.
        patch.setattr(raster, "find_decoder", lambda: JpegDecoder(None))
        with pytest.raises(LostCutoutError, match=r"\.jpg: cannot be read now .*run this again"):
            build_store(plan, checkpoint, path, run=CPU)
    assert not path.exists()
    assert build_at(path, galaxy_folder, checkpoint, shard_size=5)
    assert_same_store(path, undisturbed)


def test_no_readable_image_at_all_is_an_error(galaxy_folder, tmp_path, checkpoint):
    """A store without galaxies is not written."""
    for path in (galaxy_folder / "images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(CatalogError, match="none of 24 galaxies"):
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    assert not (tmp_path / "maps.h5").exists()


def test_shard_of_unreadable_images_is_no_error(galaxy_folder, tmp_path, checkpoint):
    """One shard without any galaxy does not stop the others."""
    galaxies, _ = load_with_settings(galaxy_folder)
    for path in galaxies.paths[:5]:
        path.write_bytes(b"no image")
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, shard_size=5)
    with open_store(tmp_path / "maps.h5") as store:
        assert len(store) == 19
        assert len(store.rejected) == 5


@pytest.mark.parametrize("kind", ["jpeg", "fits"])
def test_one_band_is_stored_as_one_and_read_as_grey(galaxy_folder, tmp_path, kind):
    """A network of one channel stores one band, of colour images and of FITS."""
    checkpoint = make_checkpoint(tmp_path / "m.safetensors", n_channels=1)
    galaxies, _ = load_with_settings(galaxy_folder)
    if kind == "fits":
        for path in galaxies.paths:
            values = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
            path.unlink()
            fits.PrimaryHDU(values[::-1]).writeto(path)
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    with h5py.File(tmp_path / "maps.h5") as file:
        assert file["cutouts"].shape == (24, 32, 32, 1)
    with open_store(tmp_path / "maps.h5") as store:
        assert store.is_gray
        cutout = store.cutouts(3)
        np.testing.assert_array_equal(cutout[..., 0], cutout[..., 2])
        expected = read_cutout(galaxies.paths[3], 32, Decoding(n_channels=1))
        np.testing.assert_array_equal(cutout[..., :1], expected)


def test_parts_that_stay_fail_no_build(galaxy_folder, tmp_path, checkpoint, caplog):
    """A file of somebody else's in their folder, as NFS makes them: the store is complete."""
    folder = tmp_path / "maps.h5.parts"
    folder.mkdir()
    (folder / ".nfs000001").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "galfig"):
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    assert f"{tmp_path / 'maps.h5'}: is complete, but {folder}: cannot be removed" in caplog.text
    with open_store(tmp_path / "maps.h5") as store:
        assert len(store) == 24


def spoil_before_merging(monkeypatch, spoil, times=1):
    """Call ``spoil`` with the first part before each of the first merges."""
    merges = []

    def spoil_and_merge(path, parts, *args, **options):
        merges.append(parts)
        if len(merges) <= times:
            spoil(parts[0])
        return merge_parts(path, parts, *args, **options)

    monkeypatch.setattr(merge, "merge_parts", spoil_and_merge)


def damage(part):
    with h5py.File(part, "r+", locking=False) as file:
        file["logits"][0, 0] += 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["damaged", "removed", "of another network"])
def test_part_that_changed_is_made_again(
    galaxy_folder, tmp_path, checkpoint, undisturbed, monkeypatch, caplog, fault
):
    """Another process, or the disk, changed a part after it was written: no trace in the store."""
    kept = tmp_path / "kept.h5"
    if fault == "of another network":
        other = make_checkpoint(tmp_path / "other.safetensors")
        with torch.no_grad():
            next(other.model.parameters()).mul_(-1)
        other = save_checkpoint(tmp_path / "other2.safetensors", other.model, other.metadata)
        with monkeypatch.context() as patch:
            spoil_before_merging(patch, lambda part: shutil.copy(part, kept))
            build_at(tmp_path / "other.h5", galaxy_folder, other, shard_size=5)
    faults = {
        "damaged": damage,
        "removed": Path.unlink,
        "of another network": lambda part: shutil.copy(kept, part),
    }
    spoil_before_merging(monkeypatch, faults[fault])
    with caplog.at_level(logging.WARNING, "galfig"):
        logging.getLogger("galfig").propagate = True
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, shard_size=5)
    assert "000000.h5: " in caplog.text
    assert "explaining its galaxies again" in caplog.text
    assert_same_store(tmp_path / "maps.h5", undisturbed)


def test_part_that_changes_again_and_again_ends_the_build(
    galaxy_folder, tmp_path, checkpoint, monkeypatch
):
    """A disk that returns other bytes than were written is not tried for ever."""
    spoil_before_merging(monkeypatch, damage, times=9)
    with pytest.raises(DamagedPartError, match=r"000000.h5: .*checksum mismatch"):
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    assert not (tmp_path / "maps.h5").exists()


def test_store_says_how_its_maps_were_computed(galaxy_folder, tmp_path, checkpoint, caplog):
    """Which path was taken is in the store and in the log."""
    caplog.set_level("INFO")
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    with open_store(tmp_path / "maps.h5") as store:
        engine = store.record.engine
    assert (engine.path, engine.n_fused, engine.copies, engine.reasons) == (
        "closed form",
        3,
        True,
        (),
    )
    assert any(message.startswith("engine: closed form") for message in caplog.messages)


def test_engine_is_compared_on_the_first_galaxies(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """Where only galaxies show that it is wrong, a slower path explains them."""
    original = variants._explain_linear_head

    def err_on_galaxies(*arguments):
        batch = original(*arguments)
        # Galaxies have 256 values in each channel; noise has as many as pixels.
        return CamBatch(batch.cams * (1 + (arguments[-1].unique().numel() < 1000)), batch.logits)

    galaxies, settings = load_with_settings(galaxy_folder)
    images = read_proof_images(galaxies, checkpoint, settings)
    assert images.shape == (6, 3, 16, 16)
    monkeypatch.setattr(variants, "_explain_linear_head", err_on_galaxies)
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    with open_store(tmp_path / "maps.h5") as store:
        assert store.record.engine.path == "cut graph"
        assert "maps differ" in store.record.engine.reasons[0]
        assert describe_file(tmp_path / "maps.h5")["engine"]["path"] == "cut graph"
        expected = grad_cam(checkpoint.model, images, checkpoint.model.get_submodule("conv3")).cams
        for index in range(6):
            atol = 6e-4 * float(expected[index].abs().max())
            np.testing.assert_allclose(store.cams(index), expected[index].numpy(), atol=atol)


@pytest.mark.slow
def test_parts_of_another_path_are_not_mixed_in(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """A build that resumes on a slower path explains the first shards again."""
    explained = []

    def explain(galaxies, *arguments, **options):
        explained.append(galaxies.objid[0])
        if len(explained) == 3:
            raise KeyboardInterrupt
        return explain_galaxies(galaxies, *arguments, **options)

    monkeypatch.setattr(work, "explain_galaxies", explain)
    with pytest.raises(KeyboardInterrupt):
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, shard_size=8)
    with monkeypatch.context() as patched:
        # As on a processor that cannot pack convolutions.
        patched.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, shard_size=8)
    assert len(explained) == 3 + 3


def test_network_that_is_no_function_of_one_image_is_refused(galaxy_folder, tmp_path, checkpoint):
    """In one line, before any galaxy is explained."""
    torch.nn.Sequential.append(checkpoint.model, Centred())
    with pytest.raises(CheckpointError, match="cannot be explained; model: gives other logits"):
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    assert not (tmp_path / "maps.h5").exists()


@pytest.mark.parametrize("moment", ["write_part", "merge_parts"])
def test_build_whose_lock_was_taken_over_publishes_nothing(
    galaxy_folder, tmp_path, checkpoint, monkeypatch, moment
):
    """Another process took it for dead: neither a part nor the store of this one appears."""
    path, lock = tmp_path / "maps.h5", tmp_path / "maps.h5.lock"
    module = work if moment == "write_part" else merge
    function = getattr(module, moment)

    def overtake(*args, **options):
        found = function(*args, **options)
        lock.write_text(json.dumps({"host": "elsewhere", "pid": 17, "token": "another"}))
        return found

    monkeypatch.setattr(module, moment, overtake)
    with pytest.raises(LockError, match="process 17 on elsewhere has taken over"):
        build_at(path, galaxy_folder, checkpoint)
    assert not path.exists()
    parts = [part.name for part in (tmp_path / "maps.h5.parts").iterdir()]
    made = {"000000.h5"} if moment == "merge_parts" else set()
    assert set(parts) == made | {"outline.h5"}
    assert lock.exists()


BUILD = """
import errno, fcntl, sys, time
def refuse(*args): raise OSError(errno.ENOSYS, "not implemented")
fcntl.flock = refuse
from pathlib import Path
from galfig.networks.checkpoint import load_checkpoint
from galfig.pipeline import work
from samples import build_at
write_part = work.write_part
def slow(*args):
    time.sleep(float(sys.argv[4]))
    write_part(*args)
work.write_part = slow
out, folder, model = map(Path, sys.argv[1:4])
build_at(out, folder, load_checkpoint(model), shard_size=5)
"""


@pytest.mark.slow
def test_two_builds_without_flock_do_not_mix(galaxy_folder, tmp_path, checkpoint, undisturbed):
    """As on Lustre: the second is refused, and the store is the first one's."""
    save_checkpoint(tmp_path / "m.safetensors", checkpoint.model, checkpoint.metadata)
    command = [sys.executable, "-c", BUILD, tmp_path / "maps.h5", galaxy_folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(seconds):
        return subprocess.Popen(
            [*command, tmp_path / "m.safetensors", str(seconds)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    with start(600) as first:
        while not (tmp_path / "maps.h5.parts").exists():
            time.sleep(0.05)
        with start(0) as second:
            assert "is being made by process" in second.communicate(timeout=120)[1]
            assert second.returncode == 1
        first.kill()
    with start(0) as third:
        assert third.communicate(timeout=120)[1] == ""
        assert third.returncode == 0
    assert_same_store(tmp_path / "maps.h5", undisturbed)


def test_folder_of_parts_is_no_link(galaxy_folder, tmp_path, checkpoint):
    """Behind a link, parts would be written and removed in somebody else's folder."""
    away = tmp_path / "away"
    away.mkdir()
    (away / "000000.h5").write_text("mine")
    (tmp_path / "maps.h5.parts").symlink_to(away)
    with pytest.raises(
        OutputError, match=r"maps\.h5\.parts: is a symbolic link, expected a folder"
    ):
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    assert (away / "000000.h5").read_text() == "mine"


def test_only_parts_are_removed(galaxy_folder, tmp_path, checkpoint, caplog):
    """A store that somebody keeps in the folder of the parts stays there."""
    folder = tmp_path / "maps.h5.parts"
    folder.mkdir()
    (folder / "mine.h5").write_text("mine")
    with caplog.at_level(logging.WARNING, "galfig"):
        build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    assert "is complete, but" in caplog.text
    assert [path.name for path in folder.iterdir()] == ["mine.h5"]


def replace_image(galaxies, row, source):
    """Put another galaxy's image in the place of one, with the time that this one had."""
    before = galaxies.paths[row].stat()
    galaxies.paths[row].write_bytes(galaxies.paths[source].read_bytes())
    os.utime(galaxies.paths[row], ns=(before.st_atime_ns, before.st_mtime_ns))


def test_store_knows_its_images(galaxy_folder, tmp_path, checkpoint):
    """Each digest is that of the file, and those of unreadable images are kept as well."""
    galaxies, _ = load_with_settings(galaxy_folder)
    galaxies.paths[4].write_bytes(b"no image")
    digests = digest_files(galaxies.paths)
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, shard_size=5)
    with open_store(tmp_path / "maps.h5") as store:
        assert store.image_digest.dtype == np.uint64
        assert store.image_digest.tolist() == np.delete(digests, 4).tolist()
    found = read_image_digests(tmp_path / "maps.h5")
    assert found == dict(zip(galaxies.objid, digests.tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("was_readable", [True, False])
def test_store_of_images_that_were_replaced_is_not_kept(
    galaxy_folder, tmp_path, checkpoint, was_readable
):
    """Refused by name, or built again where that is asked for; a repaired image counts too."""
    path, (galaxies, _) = tmp_path / "maps.h5", load_with_settings(galaxy_folder)
    if not was_readable:
        image = galaxies.paths[4].read_bytes()
        galaxies.paths[4].write_bytes(b"no image")
    build_at(path, galaxy_folder, checkpoint)
    assert not build_at(path, galaxy_folder, checkpoint)
    if was_readable:
        replace_image(galaxies, 4, 9)
    else:
        galaxies.paths[4].write_bytes(image)
    words = f"the image of 1 galaxy changed since it was made, first: '{galaxies.objid[4]}'"
    with pytest.raises(OutputError, match=f'{words}; use `if_exists="update"`'):
        build_at(path, galaxy_folder, checkpoint)
    assert build_at(path, galaxy_folder, checkpoint, if_exists="update")
    assert not build_at(path, galaxy_folder, checkpoint, if_exists="update")
    with open_store(path) as store:
        cutout = read_cutout(galaxies.paths[4], 32)
        np.testing.assert_array_equal(store.cutouts(galaxies.objid[4]), cutout)
        assert store.image_digest.tolist() == digest_files(galaxies.paths).tolist()


@pytest.mark.slow
def test_parts_of_images_that_were_replaced_are_made_again(
    galaxy_folder, tmp_path, checkpoint, monkeypatch, caplog
):
    """A build that was stopped goes on with the images that are there now."""
    path, (galaxies, _) = tmp_path / "maps.h5", load_with_settings(galaxy_folder)
    with monkeypatch.context() as patch:
        patch.setattr(merge, "merge_parts", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_at(path, galaxy_folder, checkpoint, shard_size=5)
    replace_image(galaxies, 7, 9)
    noted = note_progress(monkeypatch, work)
    with caplog.at_level(logging.INFO, "galfig"):
        logging.getLogger("galfig").propagate = True
        build_at(path, galaxy_folder, checkpoint, shard_size=5)
    assert noted == [{"task": "explaining", "total": 24, "initial": 19, "done": 24}]
    assert "000001.h5: the image of 1 galaxy changed since it was made" in caplog.text
    build_at(tmp_path / "undisturbed.h5", galaxy_folder, checkpoint)
    assert_same_store(path, tmp_path / "undisturbed.h5")


class Centred(torch.nn.Module):
    """Subtracts the mean over the batch."""

    def __init__(self):
        super().__init__()
        self.eval()

    def forward(self, logits):
        return logits - 0.5 * logits.mean(0)
