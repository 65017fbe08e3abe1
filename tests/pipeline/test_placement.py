"""Placement: scale and orientation by the settings, the headers, and what was fetched."""

import json
import math
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy.io import fits
from PIL import Image
from samples import CPU, load_with_settings

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.images.celestial import UNKNOWN, View
from galfig.pipeline.build import build_store, explain_chosen
from galfig.pipeline.merge import merge_maps
from galfig.pipeline.placement import place_cutouts
from galfig.pipeline.plan import make_plan
from galfig.records import FETCH_FILE
from galfig.store.reader import open_store

FETCHED = {
    "service": "legacy",
    "release": "ls-dr10",
    "address": "https://www.legacysurvey.org",
    "is_mirror": False,
    "catalog": "catalog.csv",
    "images": "images/{objID}.jpg",
    "pixel_scale": 0.262,
    "size": 48,
    "is_north_up": True,
    "first": "2026-11-25",
    "last": "2026-11-26",
    "n": 24,
    "n_failed": 0,
    "galfig_version": "0.1.0",
}


def write_settings(folder, **catalog):
    """Write settings beside a folder of galaxies, which pytest's folder is not."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in catalog.items()]
    path = folder.parent / "galfig.toml"
    path.write_text("\n".join(["[catalog]", f'path = "{folder.name}/catalog.csv"', *lines]))
    return load_settings(path)


def fetch(folder, **changes):
    """Have a folder look like one that was fetched."""
    (folder / FETCH_FILE).write_text(json.dumps({**FETCHED, **changes}))


def turn(number):
    """Return by how much the image of a galaxy is turned [deg], and whether it is mirrored."""
    return 15.0 * number - 170, number % 2 == 1


@pytest.fixture
def fits_folder(galaxy_folder):
    """Make the images FITS, each of which lies on the sky in its own way, on an equator."""
    for number, path in enumerate(sorted((galaxy_folder / "images").iterdir())):
        angle, is_mirrored = turn(number)
        t, s = math.radians(angle), 0.3 / 3600
        matrix = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
        matrix = np.diag([s if is_mirrored else -s, s]) @ matrix.T
        header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0 * number})
        header.update({"CRVAL2": 0.0, "CRPIX1": 24.5, "CRPIX2": 24.5})
        header.update({f"CD{i + 1}_{j + 1}": matrix[i, j] for i in range(2) for j in range(2)})
        pixels = np.moveaxis(np.asarray(Image.open(path)), -1, 0)[::-1, ::-1]
        fits.writeto(path.with_suffix(".fits"), pixels, header)
        path.unlink()
    return galaxy_folder


def edit(folder, number, **cards):
    """Change cards of the header of an image."""
    path = sorted((folder / "images").iterdir())[number]
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update(cards)


def build(folder, path, checkpoint, settings, *, shard_size=5, **maps):
    """Build a store of all galaxies."""
    maps = {"shard_size": shard_size, **maps}
    settings = settings.model_copy(update={"maps": settings.maps.model_copy(update=maps)})
    plan = make_plan(load_galaxies(settings), settings, checkpoint, "all")
    build_store(plan, checkpoint, path, run=CPU)
    return plan


FITS_IMAGES = {"images": "images/{objID}.fits"}


@pytest.mark.parametrize("form", ["full", "native", "statistics"])
def test_a_store_knows_how_each_cutout_lies_on_the_sky(fits_folder, tmp_path, checkpoint, form):
    """In every form of it, by the header of each image; and whatever the shards are."""
    settings = write_settings(fits_folder, **FITS_IMAGES)
    for name, size in (("a.h5", 5), ("b.h5", 24)):
        build(fits_folder, tmp_path / name, checkpoint, settings, shard_size=size, store=form)
    with open_store(tmp_path / "a.h5") as store, open_store(tmp_path / "b.h5") as other:
        for number in range(len(store)):
            angle, is_mirrored = turn(number)
            expected = (angle, angle - 90 if is_mirrored else angle + 90)
            found = (store.north_angle[number], store.east_angle[number])
            assert np.abs((np.subtract(found, expected) + 180) % 360 - 180).max() < 0.01
        np.testing.assert_allclose(store.pixel_scale, 0.3, rtol=1e-6)
        for key in ("north_angle", "east_angle", "pixel_scale"):
            assert getattr(store, key).tobytes() == getattr(other, key).tobytes()


def test_the_same_where_threads_share_a_device(fits_folder, tmp_path, checkpoint, shared_device):
    """Stages decode there, and the maps are those of one engine."""
    settings = write_settings(fits_folder, **FITS_IMAGES)
    build(fits_folder, tmp_path / "a.h5", checkpoint, settings)
    shared_device()
    build(fits_folder, tmp_path / "b.h5", checkpoint, settings)
    with h5py.File(tmp_path / "a.h5") as one, h5py.File(tmp_path / "b.h5") as two:
        for key in ("north_angle", "east_angle", "pixel_scale"):
            np.testing.assert_array_equal(one[key][()], two[key][()])


def test_the_scale_of_the_settings_counts_and_a_difference_is_said_once(
    fits_folder, tmp_path, checkpoint, caplog
):
    """With a count over all parts; the orientation is that of the header."""
    settings = write_settings(fits_folder, **FITS_IMAGES, pixel_scale=0.301)
    build(fits_folder, tmp_path / "a.h5", checkpoint, settings)
    assert not caplog.records
    edit(fits_folder, 7, CD1_1=0.4 / 3600, CD1_2=0.0, CD2_1=0.0, CD2_2=0.4 / 3600)
    edit(fits_folder, 21, CD1_1=0.4 / 3600, CD1_2=0.0, CD2_1=0.0, CD2_2=0.4 / 3600)
    build(fits_folder, tmp_path / "b.h5", checkpoint, settings)
    (record,) = caplog.records
    with open_store(tmp_path / "b.h5") as store:
        assert (store.pixel_scale == 0.301).all()
        assert (store.north_angle[7], store.east_angle[7]) == (0, -90)
        assert record.getMessage() == (
            f"{tmp_path / 'b.h5'}: the FITS headers of 2 of 24 images give another pixel scale "
            f"than [catalog] pixel_scale, by more than 1 %, first: '{store.objid[7]}'; that of the "
            "settings is used"
        )


def test_broken_headers_reject_no_galaxy_and_are_said_once(
    fits_folder, tmp_path, checkpoint, caplog
):
    """A line for those that make no sense, and one for pixels that are not square."""
    settings = write_settings(fits_folder, **FITS_IMAGES)
    edit(fits_folder, 3, CD1_1=0.0, CD1_2=0.0)
    edit(fits_folder, 4, CD1_1=-0.4 / 3600, CD1_2=0.0, CD2_1=0.0, CD2_2=0.3 / 3600)
    build(fits_folder, tmp_path / "a.h5", checkpoint, settings)
    broken, oblong = (record.getMessage() for record in caplog.records)
    assert "the sky coordinates in the FITS headers of 1 of 24 images cannot be used" in broken
    assert "1 of 24 images have pixels that are not square" in oblong
    with open_store(tmp_path / "a.h5") as store:
        assert len(store) == 24
        assert np.flatnonzero(np.isnan(store.pixel_scale)).tolist() == [3, 4]
        assert np.flatnonzero(np.isnan(store.north_angle)).tolist() == [3]
        assert (store.north_angle[4], store.east_angle[4]) == (0, 90)
    caplog.clear()
    # Who gives the scale knows that of pixels that are not square.
    settings = write_settings(fits_folder, **FITS_IMAGES, pixel_scale=0.3)
    build(fits_folder, tmp_path / "b.h5", checkpoint, settings)
    assert ["cannot be used" in record.getMessage() for record in caplog.records] == [True]


def test_parts_that_are_merged_later_say_it_then(fits_folder, tmp_path, checkpoint, caplog):
    """Whoever merges need not have made them."""
    settings = write_settings(fits_folder, **FITS_IMAGES)
    edit(fits_folder, 3, CD1_1=0.0, CD1_2=0.0)
    maps = settings.maps.model_copy(update={"shard_size": 12})
    settings = settings.model_copy(update={"maps": maps})
    plan = make_plan(load_galaxies(settings), settings, checkpoint, "all")
    for shards in ("1/2", "2/2"):
        explain_chosen(plan, checkpoint, tmp_path / "a.h5", shards)
    assert not caplog.records
    with merge_maps(tmp_path / "a.h5") as store:
        assert np.isnan(store.north_angle).sum() == 1
    assert "1 of 24" in caplog.text


def test_what_was_fetched_is_known_of_jpeg(galaxy_folder, tmp_path, checkpoint):
    """Scale and orientation; the settings' scale is better, and another size of pixel follows."""
    fetch(galaxy_folder)
    settings = write_settings(galaxy_folder)
    build(galaxy_folder, tmp_path / "a.h5", checkpoint, settings)
    with open_store(tmp_path / "a.h5") as store:
        assert (store.pixel_scale == 0.262).all()
        assert (store.north_angle == 0).all()
        assert (store.east_angle == 90).all()
    settings = write_settings(galaxy_folder, pixel_scale=0.5)
    build(galaxy_folder, tmp_path / "b.h5", checkpoint, settings)
    with open_store(tmp_path / "b.h5") as store:
        assert (store.pixel_scale == 0.5).all()
        assert (store.north_angle == 0).all()
    settings = write_settings(galaxy_folder, scale="whole")
    build(galaxy_folder, tmp_path / "c.h5", checkpoint, settings)
    with open_store(tmp_path / "c.h5") as store:
        # Of 48 pixels, 32 are made.
        np.testing.assert_allclose(store.pixel_scale, 0.262 * 48 / 32)


def test_a_header_is_better_than_what_was_fetched(fits_folder, tmp_path, checkpoint):
    """Where it says nothing, the record of the folder counts."""
    fetch(fits_folder, images="images/{objID}.fits")
    edit(fits_folder, 2, CTYPE1="", CTYPE2="")
    build(fits_folder, tmp_path / "a.h5", checkpoint, write_settings(fits_folder, **FITS_IMAGES))
    with open_store(tmp_path / "a.h5") as store:
        np.testing.assert_allclose(np.delete(store.pixel_scale, 2), 0.3, rtol=1e-6)
        assert store.pixel_scale[2] == 0.262
        assert (store.north_angle[2], store.east_angle[2]) == (0, 90)
        assert store.north_angle[0] == pytest.approx(turn(0)[0], abs=0.01)


def test_an_image_that_is_not_north_up_is_of_unknown_orientation(galaxy_folder, checkpoint):
    """Of a HiPS that was turned; its scale is known all the same."""
    fetch(galaxy_folder, is_north_up=False)
    galaxies, _ = load_with_settings(galaxy_folder)
    arrays, _ = place_cutouts(galaxies, [UNKNOWN] * 24)
    assert {*arrays} == {"pixel_scale"}


def test_what_is_new_is_in_the_plan_and_nothing_else(galaxy_folder, checkpoint, tmp_path):
    """Plans without it keep their digests, so that stores of older versions stay up to date."""

    def digest(**catalog):
        galaxies, settings = load_with_settings(galaxy_folder)
        if catalog:
            settings = write_settings(galaxy_folder, **catalog)
            galaxies = load_galaxies(settings)
        return make_plan(galaxies, settings, checkpoint, "all").digest

    plain, scaled = digest(), digest(pixel_scale=0.4)
    fetch(galaxy_folder, is_north_up=False)
    assert digest() != plain
    # Nothing of the record is used.
    assert digest(pixel_scale=0.4) == scaled
    fetch(galaxy_folder, images="elsewhere/{objID}.jpg")
    assert digest() == plain
    fetch(galaxy_folder)
    assert digest(pixel_scale=0.4) != scaled


def test_a_column_of_scales_is_filled_by_headers(galaxy_folder):
    """Where a cell is empty, the header is asked."""
    catalog = (galaxy_folder / "catalog.csv").read_text().splitlines()
    cells = ["scale", "0.5", "", *["0.5"] * 22]
    (galaxy_folder / "catalog.csv").write_text(
        "\n".join(f"{line},{cell}" for line, cell in zip(catalog, cells, strict=True))
    )
    galaxies = load_galaxies(write_settings(galaxy_folder, pixel_scale="scale"))
    views = [View(0.3, 10, 100), View(0.3, 10, 100), *[UNKNOWN] * 22]
    arrays, remarks = place_cutouts(replace(galaxies, have_headers=True), views)
    assert arrays["pixel_scale"][:3].tolist() == [0.5, 0.3, 0.5]
    assert {key: len(found) for key, found in remarks.items()} == {"differing": 1}
    assert arrays["north_angle"].dtype == np.float32
