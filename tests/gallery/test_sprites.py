"""Thumbnails: each where the page looks for it, drawn as figures draw maps."""

import numpy as np
import pytest
from PIL import Image

from galfig.config import StyleSettings
from galfig.figures.composing import SIGNED_LOOK, compose_galaxy, compose_map
from galfig.gallery.main import make_gallery
from galfig.gallery.sprites import N_SHEET, Sheets
from galfig.store.reader import open_store


def read_thumbnail(folder, sheets, number, slot):
    """Cut a thumbnail out of its sheet."""
    sheet, left, top = sheets.place(number)
    with Image.open(folder / "sheets" / sheets.name(sheet, slot)) as image:
        assert image.format == "WEBP"
        side = sheets.side
        return np.asarray(image.convert("RGB"))[top : top + side, left : left + side].astype(float)


def measure_distance(a, b):
    return float(np.abs(a - b.astype(float)).mean())


@pytest.mark.parametrize("seed", [0, 1])
def test_each_galaxy_is_at_its_place(make_store, tmp_path, seed):
    """In whatever order, on several sheets: a cutout is nearer to its own than to any other."""
    rng = np.random.default_rng(seed)
    cutouts = rng.integers(0, 256, (80, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    path = make_store(n=80, size=32, map_size=8, cutouts=cutouts)
    rows = rng.permutation(80)[:70]
    with open_store(path) as store:
        make_gallery(store, tmp_path / "g", rows, quality=90)
    sheets = Sheets(32, (), 90, "inferno")
    assert len(list((tmp_path / "g" / "sheets").glob("*-cutout.webp"))) == -(-70 // N_SHEET) > 1
    for number, row in enumerate(rows):
        found = read_thumbnail(tmp_path / "g", sheets, number, "cutout")
        distances = [measure_distance(found, cutout) for cutout in cutouts]
        assert int(np.argmin(distances)) == row
        assert distances[row] < 25


def test_maps_are_drawn_as_in_an_atlas(make_store, tmp_path):
    """Over the dimmed cutout, on one scale per galaxy; that of the predicted class comes first."""
    y, x = np.mgrid[:8, :8]
    centers = np.random.default_rng(0).uniform(1, 6, (20, 2, 2))
    cams = np.stack(
        [[np.exp(-((x - a) ** 2 + (y - b) ** 2) / 4) for a, b in pair] for pair in centers]
    )
    cams[:, 1] *= 0.5
    path = make_store(n=20, size=32, map_size=8, cams=cams.astype(np.float32))
    with open_store(path) as store:
        make_gallery(store, tmp_path / "g", slice(None), quality=95)
        sheets = Sheets(32, (), 95, "inferno")
        for row in range(20):
            panels = np.split(compose_galaxy(store.cutouts(row), store.cams(row), 32), 3, axis=1)
            first = int(store.predicted[row])
            for slot, expected in enumerate([panels[1 + first], panels[2 - first]]):
                found = read_thumbnail(tmp_path / "g", sheets, row, f"map-{slot}")
                assert measure_distance(found, expected) < 6
            signed = store.evidence(row)
            expected = compose_map(signed, store.cutouts(row), np.abs(signed).max(), SIGNED_LOOK)
            found = read_thumbnail(tmp_path / "g", sheets, row, "evidence")
            assert measure_distance(found, expected) < 6


def test_large_cutouts_shrink_and_small_ones_stay(make_store, tmp_path):
    """Thumbnails are no larger than asked for, and never larger than the cutout."""
    path = make_store(n=3, size=40, map_size=8)
    for asked, side in ((20, 20), (96, 40)):
        make_gallery(path, tmp_path / str(asked), thumbnail=asked)
        with Image.open(tmp_path / str(asked) / "sheets" / "00000-cutout.webp") as image:
            # Whole blocks of the compression: none is shared by two galaxies.
            assert image.size == (8 * -(-side // 16) * 16, -(-side // 16) * 16)
        with open_store(path) as store:
            row = int(store.select()[0])
            cutout = Image.fromarray(store.cutouts(row)).resize((side, side))
        found = read_thumbnail(tmp_path / str(asked), Sheets(side, (), 70, ""), 0, "cutout")
        assert measure_distance(found, np.asarray(cutout)) < 8


def test_the_colour_map_is_that_of_the_style(make_store, tmp_path):
    """And its scale stands beside the maps."""
    path = make_store(n=3, size=16, map_size=8)
    make_gallery(path, tmp_path / "a")
    make_gallery(path, tmp_path / "b", style=StyleSettings(cmap="viridis"))
    scales = [np.asarray(Image.open(tmp_path / name / "scale.png")) for name in "ab"]
    assert scales[0].shape == (16, 256, 3)
    assert not scales[0][:, 0].any()
    # The bright end of inferno is yellow and pale; that of viridis is not.
    assert scales[0][0, -1, 2] > 150 > scales[1][0, -1, 2]


def test_a_map_without_positive_values_shows_no_colour(make_store, tmp_path):
    """Only the dimmed cutout is left."""
    cams = np.full((2, 2, 8, 8), -1e-3, np.float32)
    path = make_store(n=2, size=32, map_size=8, cams=cams)
    make_gallery(path, tmp_path / "g", quality=95)
    with open_store(path) as store:
        row = int(store.select()[0])
        expected = store.cutouts(row) * 0.45
    found = read_thumbnail(tmp_path / "g", Sheets(32, (), 95, ""), 0, "map-0")
    assert measure_distance(found, expected) < 4
