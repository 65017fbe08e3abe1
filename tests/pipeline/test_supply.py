"""Stores that hold no maps: what is explained again is what a full store holds, or is refused."""

import json
import logging
import shutil

import h5py
import numpy as np
import pytest
from PIL import Image
from samples import build_at, draw_galaxy, load_with_settings, make_checkpoint

import galfig
from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import CheckpointError, StoreError
from galfig.figures.meaning import choose_evidence, read_evidence
from galfig.images.arrays import Element
from galfig.images.sources import BandFiles
from galfig.networks.architectures import build_network
from galfig.networks.checkpoint import load_checkpoint, save_checkpoint
from galfig.networks.ensemble import load_networks
from galfig.pipeline import again
from galfig.pipeline.addresses import find_root, parse_address, write_address
from galfig.pipeline.build import build_store
from galfig.pipeline.plan import make_plan
from galfig.store.reader import open_store

FORMS = ("native", "statistics")


@pytest.fixture
def folder(forms, tmp_path):
    """Give a copy of the folder of a store of each form, to be changed."""
    return shutil.copytree(forms, tmp_path / "copy")


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


def explain_again(path, **options):
    return galfig.explain_again(path, device="cpu", **options)


@pytest.mark.parametrize(
    "maps",
    [
        {},
        *(
            pytest.param(maps, marks=pytest.mark.slow)
            for maps in (
                *({"method": "evidence"}, {"method": "grad-cam++"}, {"layer": "conv2"}),
                *({"tta": True}, {"method": "input-x-gradient"}, {"precision": "bfloat16"}),
            )
        ),
    ],
    ids=str,
)
def test_maps_are_those_of_a_full_store_bit_for_bit(tmp_path, galaxy_folder, checkpoint, maps):
    """Whichever galaxies are asked for, in which order, together or alone."""
    for form in ("full", "statistics"):
        build_at(tmp_path / f"{form}.h5", galaxy_folder, checkpoint, store=form, **maps)
    with (
        open_store(tmp_path / "full.h5") as full,
        explain_again(tmp_path / "statistics.h5") as store,
    ):
        assert np.array_equal(bits(store.cams(17)), bits(full.cams(17)))
        rows = np.array([5, 23, 0, 17, 8])
        assert np.array_equal(bits(store.cams(rows)), bits(full.cams(rows)))
        assert np.array_equal(store.cutouts(rows), full.cutouts(rows))
        assert np.array_equal(store.pixels(3), full.pixels(3))
        assert np.array_equal(bits(store.cams(slice(None))), bits(full.cams(slice(None))))
        if maps.get("method") != "grad-cam++":
            assert np.array_equal(bits(store.evidence(rows)), bits(full.evidence(rows)))
        np.testing.assert_allclose(store.totals(rows), full.totals(rows), rtol=1e-6)
        peaks = full.cams(slice(None)).max(axis=(2, 3))
        assert np.array_equal(store.statistics[["peak_low", "peak_high"]], peaks)


def draw_many(folder, n):
    """Write n noisy galaxies, no two alike, and their catalog."""
    rng = np.random.default_rng(5)
    (folder / "images").mkdir(parents=True)
    lines = ["objID,z,oh_p50"]
    for index in range(n):
        cutout = draw_galaxy(40, width=rng.uniform(3, 8), red=rng.uniform(0.5, 2))
        noisy = np.clip(cutout + rng.normal(0, 6, cutout.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "images" / f"g{index}.jpg", quality=90)
        lines.append(f"g{index},0.05,{9.2 if index % 2 else 8.4}")
    (folder / "catalog.csv").write_text("\n".join(lines))


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["conv3", "conv2"])
def test_a_thousand_galaxies_bit_for_bit(tmp_path, layer):
    """In the closed form and by gradients; in any order, and in groups of any size."""
    draw_many(tmp_path / "galaxies", 1000)
    checkpoint = make_checkpoint(tmp_path / "model.safetensors", image_size=32)
    for form in ("full", "statistics"):
        path = tmp_path / f"{form}.h5"
        build_at(path, tmp_path / "galaxies", checkpoint, store=form, layer=layer)
    with open_store(tmp_path / "full.h5") as full:
        assert len(full) == 1000
        assert full.record.engine.path == ("closed form" if layer == "conv3" else "cut graph")
        groups = np.split(np.random.default_rng(0).permutation(1000), [1, 2, 9, 40, 41, 300])
        with explain_again(tmp_path / "statistics.h5") as store:
            for rows in groups:
                assert np.array_equal(bits(store.cams(rows)), bits(full.cams(rows)))
                assert np.array_equal(store.cutouts(rows[:20]), full.cutouts(rows[:20]))


@pytest.mark.parametrize("n_classes", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_error_bars_of_several_networks(tmp_path, galaxy_folder, n_classes):
    """Are those of a full store bit for bit; a native one rounds them to 8 bits."""
    import torch

    names = ["low", "high"] if n_classes == 2 else ["low", "medium", "high"]
    metadata = {
        **{"arch": "conv3", "class_names": names, "layer": "conv3", "cutout_size": 32},
        **{"image_size": 16, "mean": [0.2] * 3, "std": [0.1] * 3},
    }
    for seed in range(3):
        torch.manual_seed(seed)
        path = tmp_path / "networks" / f"network-{seed}.safetensors"
        path.parent.mkdir(exist_ok=True)
        network = build_network("conv3", n_classes, 3)
        save_checkpoint(path, network, {**metadata, "seeds": {"training": seed}})
    overrides = {("catalog", "path"): galaxy_folder / "catalog.csv", ("classes", "column"): ""}
    for form in ("full", *FORMS):
        settings = load_settings(None, {**overrides, ("maps", "store"): form})
        galaxies = load_galaxies(settings, labelled=False)
        checkpoint = load_networks(tmp_path / "networks")
        plan = make_plan(galaxies, settings, checkpoint, "all")
        build_store(plan, checkpoint, tmp_path / f"{form}.h5")
    rows = [3, 11]
    with open_store(tmp_path / "full.h5") as full:
        with explain_again(tmp_path / "statistics.h5") as store:
            for name in ("cams", "cams_sd", "evidence", "evidence_sd"):
                found, expected = (bits(getattr(one, name)(rows)) for one in (store, full))
                assert np.array_equal(found, expected), name
            assert np.array_equal(store.agreement, full.agreement)
            assert np.array_equal(store.log_odds_sd, full.log_odds_sd)
        with open_store(tmp_path / "native.h5") as store:
            for name in ("cams_sd", "evidence_sd"):
                found, expected = (getattr(one, name)(rows) for one in (store, full))
                assert np.abs(found - expected).max() <= 0.005 * expected.max()
            check_rounding(store, full, rows)


def check_rounding(store, full, rows):
    """The bound of the rounding holds, and no cell of open sign is drawn as one of known sign."""
    for row in rows:
        of_maps, of_spread = store.evidence_rounding(row)
        # Maps of a full store are rounded, too: to 11 bits.
        for name, bound in (("evidence", of_maps), ("evidence_sd", of_spread)):
            found, expected = (np.atleast_3d(getattr(s, name)(row).T).T for s in (store, full))
            largest = np.abs(full.cams(row)).max()
            assert 0 < np.abs(found - expected).max() <= bound.max() + 2.0**-9 * largest, name
        assert not np.any(full.evidence_rounding(row))
        classes = choose_evidence(store, row)
        ours, theirs = (read_evidence(s, row, classes) for s in (store, full))
        assert not (theirs.is_uncertain & ~ours.is_uncertain).any()


def test_a_native_store_reads_cutouts_again(forms):
    """And its own maps, rounded."""
    with (
        open_store(forms / "full.h5") as full,
        explain_again(forms / "native.h5") as store,
    ):
        assert np.array_equal(store.cutouts([4, 2]), full.cutouts([4, 2]))
        assert not np.array_equal(store.cams(4), full.cams(4))


def test_a_full_store_stays_as_it_is(forms):
    """Nothing is made again."""
    with explain_again(forms / "full.h5", model="none.safetensors", images="none") as store:
        assert store.cams(0).shape == (2, 16, 16)
        assert store.cutouts(0).shape == (32, 32, 3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["another", "garbage", "missing"])
def test_an_image_that_changed_is_refused_by_name(folder, form, kind):
    """Of the galaxy that is asked for, and of no other."""
    with open_store(folder / f"{form}.h5") as store:
        objid = store.objid[7]
    image = folder / "galaxies" / "images" / f"{objid}.jpg"
    image.unlink()
    if kind == "another":
        Image.fromarray(draw_galaxy(width=3)).save(image)
    elif kind == "garbage":
        image.write_bytes(b"no image")
    with explain_again(folder / f"{form}.h5") as store:
        assert store.cutouts(6).shape == (32, 32, 3)
        read = store.cutouts if form == "native" else store.cams
        with pytest.raises(StoreError, match=f"image of galaxy '{objid}'") as error:
            read([6, 7])
        words = str(error.value)
        assert ("is not the one that was explained" in words) == (kind != "missing")
        assert "`images`" in words
        assert "\n" not in words
        assert len(read([6, 8])) == 2


def test_a_network_that_changed_is_refused(folder, untrained):
    """Whether it is named or found beside the store."""
    (folder / "model.safetensors").unlink()
    make_checkpoint(folder / "model.safetensors", image_size=24)
    with explain_again(folder / "statistics.h5") as store:
        with pytest.raises(CheckpointError, match="not in its folder or changed; name it with `mo"):
            store.cams(0)
        assert store.cutouts(0).shape == (32, 32, 3)
    model = folder / "model.safetensors"
    with (
        explain_again(folder / "statistics.h5", model=model) as store,
        pytest.raises(CheckpointError, match=r"model.safetensors is not it or changed"),
    ):
        store.cams(0)
    with (
        explain_again(folder / "statistics.h5", model=folder / "none") as store,
        pytest.raises(CheckpointError, match="none: no such file or folder"),
    ):
        store.cams(0)
    for model in (untrained[0], str(untrained[0]), untrained[1]):
        with explain_again(folder / "statistics.h5", model=model) as store:
            assert store.cams(0).shape == (2, 16, 16)


def edit(path, **attrs):
    with h5py.File(path, "r+") as file:
        file.attrs.update(attrs)


def test_nothing_outside_the_folder_of_the_store_is_read_unasked(folder, tmp_path):
    """A stranger's store names no folder elsewhere, and links are not followed out of it."""
    path = folder / "native.h5"
    for named in ("..", "../elsewhere", "/etc"):
        edit(path, images_dir=named)
        with (
            explain_again(path) as store,
            pytest.raises(StoreError, match="leads out of its folder"),
        ):
            store.cutouts(0)
    edit(path, images_dir="galaxies")
    (folder / "galaxies").rename(tmp_path / "elsewhere")
    (folder / "galaxies").symlink_to(tmp_path / "elsewhere")
    with explain_again(path) as store, pytest.raises(StoreError, match="by a link"):
        store.cutouts(0)
    with explain_again(path, images=folder / "galaxies") as store:
        assert store.cutouts(0).shape == (32, 32, 3)
    network = (folder / "model.safetensors").rename(tmp_path / "network.safetensors")
    (folder / "model.safetensors").symlink_to(network)
    with (
        explain_again(folder / "statistics.h5", images=tmp_path / "elsewhere") as store,
        pytest.raises(CheckpointError, match="is not in its folder"),
    ):
        store.cams(0)


def test_a_store_says_nothing_of_folders_elsewhere(tmp_path, galaxy_folder, checkpoint):
    """Images that are not below its folder must be named; no path of the machine is in the file."""
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "maps.h5"
    build_at(path, galaxy_folder, checkpoint, store="native")
    assert str(tmp_path).encode() not in path.read_bytes()
    with open_store(path) as store:
        assert store.record.images_dir is None
        assert store.read_address(0) == f"images/{store.objid[0]}.jpg"
    with explain_again(path) as store, pytest.raises(StoreError, match="were not below its folder"):
        store.cutouts(0)
    with (
        explain_again(path, images="nowhere") as store,
        pytest.raises(StoreError, match="nowhere: no such folder"),
    ):
        store.cutouts(0)
    with explain_again(path, images=str(galaxy_folder)) as store:
        assert store.cutouts(0).shape == (32, 32, 3)


def test_addresses_survive_the_way_into_the_store(tmp_path):
    """Files, several of one galaxy, and elements of arrays."""
    sources = [
        tmp_path / "a" / "x.jpg",
        BandFiles((tmp_path / "g" / "x.fits", tmp_path / "r" / "x.fits")),
        Element(tmp_path / "all.h5", "images", 12),
        Element(tmp_path / "all.npy", "", 0),
    ]
    root = find_root(sources, tmp_path)
    assert root == tmp_path
    for source in sources:
        address = write_address(source, root)
        assert str(tmp_path) not in address
        assert parse_address(address, root) == source
    # Images elsewhere than the settings say are relative to what they share.
    assert find_root(sources[:2], tmp_path / "a") == tmp_path
    assert find_root(sources[:1], tmp_path / "elsewhere") == tmp_path / "a"


def test_logits_that_differ_are_refused(folder, monkeypatch, caplog):
    """By more than rounding; rounding is said, once."""
    with open_store(folder / "statistics.h5") as store:
        objid, peak = store.objid[2], np.abs(store.logits[2]).max()

    def shift(by):
        with h5py.File(folder / "statistics.h5", "r+") as file:
            file["logits"][2, 0] += by * max(1, peak)

    shift(1e-5)
    with explain_again(folder / "statistics.h5") as store, caplog.at_level(logging.WARNING):
        assert store.cams([1, 2, 3]).shape == (3, 2, 16, 16)
    (warning,) = caplog.messages
    assert f"galaxy '{objid}' has logits that differ by" in warning
    shift(1e-3)
    with (
        explain_again(folder / "statistics.h5") as store,
        pytest.raises(StoreError, match=f"galaxy '{objid}' has logits that differ by 0.001"),
    ):
        store.cams([1, 2, 3])


def test_another_way_of_computing_is_said(folder, caplog):
    """Its maps may differ in the last bits where the logits do not."""
    engine = {"path": "cut graph", "layout": "contiguous", "n_fused": 0, "n_packed": 0}
    edit(folder / "statistics.h5", engine=json.dumps({**engine, "copies": True}))
    with explain_again(folder / "statistics.h5") as store, caplog.at_level(logging.WARNING):
        assert store.cams([0, 1]).shape == (2, 2, 16, 16)
    (warning,) = caplog.messages
    assert "computed by cut graph, contiguous, 0 norms" in warning
    assert "not bit for bit" in warning


def test_too_many_galaxies_are_not_explained_again(forms, monkeypatch):
    """In figures of all galaxies, before the first is explained."""
    monkeypatch.setattr(again, "MAX_AGAIN", 10)
    with explain_again(forms / "statistics.h5") as store:
        with pytest.raises(StoreError, match="24 galaxies to explain again, expected at most 10"):
            store.cams(slice(None))
        assert store.cams(slice(0, 10)).shape == (10, 2, 16, 16)


def test_large_maps_fill_the_memory_sooner(forms, monkeypatch):
    """Two of 16 by 16 cells in float32 take 2048 bytes."""
    monkeypatch.setattr(again, "MAX_BYTES", 5 * 2048 + 1)
    with explain_again(forms / "statistics.h5") as store:
        with pytest.raises(StoreError, match="6 galaxies to explain again, expected at most 5"):
            store.cams(slice(0, 6))
        assert len(store.cams(slice(0, 5))) == 5


def test_each_galaxy_is_explained_once(forms, monkeypatch):
    """However often its maps are read, and with those that are announced."""
    explained = []

    def note(paths, *args, **options):
        explained.append(len(paths))
        return explain_images(paths, *args, **options)

    explain_images = again.explain_images
    monkeypatch.setattr(again, "explain_images", note)
    monkeypatch.setattr(again, "GROUP", 4)
    with explain_again(forms / "statistics.h5") as store:
        store.announce(np.arange(9))
        for _ in range(2):
            for row in range(9):
                store.cams(row)
        store.cams(20)
    assert explained == [4, 4, 1, 1]


@pytest.mark.parametrize("form", FORMS)
def test_size_of_shards_does_not_show(tmp_path, galaxy_folder, checkpoint, monkeypatch, form):
    """In the bytes of a store of any form; it is its own plan."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    for size in (5, 512):
        path = tmp_path / f"{size}.h5"
        build_at(path, galaxy_folder, checkpoint, store=form, shard_size=size)
    assert (tmp_path / "5.h5").read_bytes() == (tmp_path / "512.h5").read_bytes()
    plans = {
        make_plan(*load_with_settings(galaxy_folder, store=one), checkpoint, "all").digest
        for one in ("full", *FORMS)
    }
    assert len(plans) == 3


def test_settings_of_a_full_store_are_recorded_as_before():
    """So that what was built before this setting existed stays up to date."""
    assert "store" not in load_settings({}).record()["maps"]
    named = load_settings({}, {("maps", "store"): "native"})
    assert named.record()["maps"]["store"] == "native"


def test_a_part_of_another_form_is_not_used(tmp_path, galaxy_folder, checkpoint):
    """A folder of parts that was left by a build of a full store."""
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, shard_size=8)
    before = (tmp_path / "maps.h5").read_bytes()
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, store="native", if_exists="update")
    with open_store(tmp_path / "maps.h5") as store:
        assert store.form == "native"
    assert len(before) > (tmp_path / "maps.h5").stat().st_size


def test_build_maps_takes_the_form(tmp_path, galaxy_folder, checkpoint):
    """As an argument of the face, and the network is found by its digest whatever its name."""
    galaxies, _ = load_with_settings(galaxy_folder)
    shutil.move(tmp_path / "model.safetensors", tmp_path / "renamed.safetensors")
    store = galfig.build_maps(
        galaxies, tmp_path / "maps.h5", model=checkpoint, store="statistics", device="cpu"
    )
    assert store.form == "statistics"
    assert load_checkpoint(tmp_path / "renamed.safetensors").digest == checkpoint.digest
    assert explain_again(store) is store
    assert store.cams(0).shape == (2, 16, 16)
    store.close()
