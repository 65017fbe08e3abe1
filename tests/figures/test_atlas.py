"""Atlas: every galaxy once, drawn as the panels draw it."""

import gc
import re
import weakref

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image
from pypdf import PdfReader

import galfig
from galfig.config import make_style
from galfig.errors import OutputError
from galfig.figures import atlas, pdf
from galfig.figures.captions import PLAIN
from galfig.figures.composing import compose_galaxy
from galfig.figures.registry import draw_figure, render_figure
from galfig.figures.rows import SHINING, Look
from galfig.store.reader import open_store
from galfig.store.selection import Query


def test_atlas_draws_maps_as_the_panels_do():
    """Dimmed where a map is zero or negative, the colour alone from a tenth of the peak on."""
    cutout = np.full((8, 8, 3), 200, np.uint8)
    cams = np.zeros((2, 8, 8), np.float32)
    cams[0, :, 4:], cams[1] = 2.0, -1.0
    cams[1, 0, 0] = 0.6
    image = compose_galaxy(cutout, cams, 16)
    assert image.shape == (16, 48, 3)
    first, low, high = np.split(image, 3, axis=1)
    assert (first == 200).all()
    assert (low[:, :8] == 90).all()
    # The scale begins at a quarter of the colour map, since darker colours look like the sky.
    peak, third = (255 * np.array(colormaps["inferno"](x)[:3]) for x in (1.0, 0.25 + 0.75 * 0.3))
    np.testing.assert_allclose(low[:, 8:], np.broadcast_to(peak, (16, 8, 3)), atol=1)
    np.testing.assert_allclose(high[0, 0], third, atol=2)
    assert (high[2:, 2:] == 90).all()
    coarse = compose_galaxy(cutout, np.ones((1, 2, 2), np.float32), 4)
    np.testing.assert_allclose(coarse[:, 4:], np.broadcast_to(peak, (4, 4, 3)), atol=1)


def test_atlas_shows_every_galaxy_once(make_store, tmp_path):
    """Pages of one size, in the order of the selection; numbered; PDF only."""
    path = make_store(n=60)
    render_figure("atlas", path, Query(n=None, sort="redshift"), tmp_path / "atlas.pdf")
    reader = PdfReader(tmp_path / "atlas.pdf")
    words = [page.extract_text() for page in reader.pages]
    assert len({tuple(page.mediabox) for page in reader.pages}) == 1
    with open_store(path) as store:
        # pypdf may join the first word of a column to the last of the one before it.
        names = re.compile("|".join(store.objid))
        assert names.findall(" ".join(words)) == list(store.objid)
    n_pages = len(reader.pages)
    assert n_pages > 1
    assert all(f"Page {i} of {n_pages}" in page for i, page in enumerate(words, 1))
    with pytest.raises(OutputError, match=rf"expected \.pdf for {n_pages} pages"):
        render_figure("atlas", path, Query(n=None), tmp_path / "atlas.png")
    assert not (tmp_path / "atlas.png").exists()


@pytest.mark.slow
def test_atlas_is_written_page_by_page(make_store, tmp_path, monkeypatch):
    """However many pages there are, one figure and the images of one page are held at a time.

    Written early, the images are still listed, and each page shows its own.
    """
    path = make_store(n=100)
    held, figures = [], []
    draw_page = atlas._draw_page

    def draw_and_watch(*args):
        page = draw_page(*args)
        figures.append(weakref.ref(page.axes[0].images[0]))
        return page

    def write_and_watch(file):
        held.append(sum(image is not None for image, _, _ in file._images.values()))
        write(file)
        gc.collect()
        held.append(sum(image is not None for image, _, _ in file._images.values()))
        held.append(sum(image() is not None for image in figures))

    write = pdf._PagewiseFile.writeImages
    monkeypatch.setattr(atlas, "_draw_page", draw_and_watch)
    monkeypatch.setattr(pdf._PagewiseFile, "writeImages", write_and_watch)
    render_figure("atlas", path, Query(n=None), tmp_path / "atlas.pdf")
    assert len(figures) > 2
    waiting, kept, alive = held[::3], held[1::3], held[2::3]
    # Two images a page: its panels, and the ramp of the colour bar. None is left at the end.
    assert max(waiting) == 2
    assert kept == [0] * len(kept)
    assert max(alive) <= 1
    pages = PdfReader(tmp_path / "atlas.pdf").pages
    # matplotlib lists the images of all pages on each page.
    large = {image.data for image in pages[0].images if len(image.data) > 2000}
    assert len(large) == len(pages) == len(figures)


def compose(overlay="opaque", *, is_signed=False, side=90, **options):
    """Compose a grey cutout and one map, which falls from its peak to the negative of it."""
    cutout = np.full((side, side, 3), 100, np.uint8)
    cam = np.linspace(1, -1, side, dtype=np.float32)[None] * np.ones((side, 1), np.float32)
    image = compose_galaxy(
        cutout, cam[None], side, Look(None, is_signed, overlay, "row"), **options
    )
    return image[:, side:].astype(int)


def test_overlays_of_an_atlas_are_those_of_the_panels():
    """The cutout behind a map is dimmed, shines through, is left alone, or is not there."""
    grey = {}
    for overlay in ("opaque", "blend", "side", "contour"):
        grey[overlay] = compose(overlay)[5, -5:]
    assert (grey["opaque"] == 45).all()
    assert (grey["blend"] == 100).all()
    assert (grey["side"] == 0).all()
    assert (grey["contour"] == 100).all()
    peak = 255 * np.array(colormaps["inferno"](1.0)[:3])
    np.testing.assert_allclose(compose("opaque")[5, 0], peak, atol=2)
    np.testing.assert_allclose(compose("blend")[5, 0], 100 + SHINING * (peak - 100), atol=2)


def test_lines_of_an_atlas_stand_at_their_levels():
    """At a quarter, a half and three quarters of the peak; those below zero are dashed."""
    for is_signed in (False, True):
        row = compose("contour", is_signed=is_signed)
        is_line = (np.abs(row - 100).max(axis=2) > 20).mean(axis=0)
        centres = [(1 - level) * 45 for level in (0.75, 0.5, 0.25)]
        for x in centres:
            assert is_line[round(x) - 1 : round(x) + 1].min() > 0.95
        dashed = is_line[45:].max()
        assert (0.2 < dashed < 0.95) if is_signed else dashed == 0


def test_negative_values_have_the_other_end_of_the_scale():
    """Blue and orange, as in rows; zero shows the cutout."""
    row = compose(is_signed=True)[5]
    assert row[0, 0] > row[0, 2]
    assert row[-1, 2] > row[-1, 0]
    assert np.abs(row[44] - 45).max() < 12


def test_scales_of_panels_have_their_own_ends():
    """A map is as bright as its share of the end that it is given."""
    cutout, cams = np.zeros((8, 8, 3), np.uint8), np.ones((2, 8, 8), np.float32)
    cams[1] *= 0.5
    shared = compose_galaxy(cutout, cams, 8)
    own = compose_galaxy(cutout, cams, 8, peaks=[1.0, 0.5])
    assert (own[:, 8:16] == own[:, 16:]).all()
    assert not (shared[:, 8:16] == shared[:, 16:]).all()
    assert (compose_galaxy(cutout, 0 * cams, 8, peaks=[0.0, 0.0]) == 0).all()


def test_the_truth_is_marked_not_by_colour_alone():
    """A tick or a cross in the map of the predicted class, and dashes around the true one."""
    cutout, cams = np.zeros((120, 120, 3), np.uint8), np.zeros((2, 4, 4), np.float32)
    found = {}
    for words, true in (("right", 0), ("wrong", 1), ("elsewhere", -1), ("unknown", None)):
        image = compose_galaxy(cutout, cams, 120, predicted=0, true=true)
        first, second = image[:, 120:240, 0] > 128, image[:, 240:, 0] > 128
        found[words] = first[9:60, 60:111]
        assert first[3:6, 10:110].all()
        assert (0.3 < second[3:6, 10:110].mean() < 0.7) == (words == "wrong")
    assert not found["unknown"].any()
    assert (found["wrong"] == found["elsewhere"]).all()
    assert found["right"].any()
    # A cross is its own mirror image, and a tick is not.
    cross, tick = (np.argwhere(found[one]) for one in ("wrong", "right"))
    ratio = [np.ptp(mark, axis=0) for mark in (cross, tick)]
    assert abs(int(ratio[0][0]) - int(ratio[0][1])) <= 2
    assert (found["wrong"] != found["right"]).any()


def test_atlas_tells_the_true_class_and_shows_chosen_maps(make_store):
    """In words below each galaxy; a class without a map has neither frame nor heading."""
    path = make_store(n=7, label=np.array([0, 1, -1, 0, 1, 0, 1], np.int16))
    with draw_figure("atlas", path, Query(n=None), classes=["high"]) as (drawing, _):
        page = next(iter(drawing.pages))
        words = [text.get_text() for text in page.axes[0].texts]
        caption = drawing.describe(PLAIN)
    assert sum("true: high-metallicity" in one for one in words) == 3
    assert sum("true: low-metallicity" in one for one in words) == 3
    assert not [one for one in words if one.startswith("low-metal")]
    assert "Grad-CAM maps for high-metallicity (" not in caption
    assert " for high-metallicity, which explain" in caption
    assert "the true class where it is known" in caption


def test_columns_of_the_last_page_are_equally_long(make_store):
    """No column is headed without a galaxy, and a single page ends below its galaxies."""
    heads = {}
    for n in (1, 2, 4, 5, 9):
        with draw_figure("atlas", make_store(n=n), Query(n=None)) as (drawing, _):
            page = next(iter(drawing.pages))
        texts = page.axes[0].texts
        heads[n] = sum(text.get_text() == "cutout" for text in texts)
        lefts = [text.get_position()[0] for text in texts if text.get_text().startswith("12376650")]
        counts = np.unique(lefts, return_counts=True)[1]
        assert len(counts) == heads[n]
        assert counts[:-1].tolist() == [counts[0]] * (len(counts) - 1)
        assert counts[-1] <= counts[0]
        assert page.get_figheight() < 4
    assert heads == {1: 1, 2: 2, 4: 4, 5: 3, 9: 3}


def test_one_scale_for_an_atlas_is_named_by_its_bar(make_store):
    """The largest value of all galaxies; there is no peak of a galaxy then."""
    cams = np.full((3, 2, 8, 8), 0.25, np.float32)
    cams[1] = 2.0
    path = make_store(n=3, map_size=8, cams=cams)
    for style, words in (
        ({"scale": "figure"}, ["0", "2 [logit]"]),
        ({"scale": "figure", "negative": True}, ["−2", "0", "2 [logit]"]),
        ({"scale": "panel"}, ["0", "peak [logit]"]),
    ):
        with draw_figure("atlas", path, Query(n=None), style=make_style(style)) as (drawing, _):
            page = next(iter(drawing.pages))
            caption = drawing.describe(PLAIN)
        assert [label.get_text() for label in page.axes[1].get_xticklabels()] == words
        assert ("Two panels cannot be compared" in caption) == (style["scale"] == "panel")
        assert ("Negative values are shown" in caption) == ("negative" in style)


def test_ends_of_scales_stay_below_their_panels(store):
    """In two lines where a panel is too narrow for one."""
    plot = galfig.plot.atlas(store, style={"scale": "panel"})
    ax = plot.figure.axes[0]
    found = [text for text in ax.texts if text.get_text().startswith("p ")]
    assert found
    for text in found:
        box = text.get_window_extent().transformed(ax.transData.inverted())
        assert box.width < atlas.DPI * 0.575


def test_a_page_alone_is_not_empty(store, tmp_path):
    galfig.plot.atlas(store).save(tmp_path / "atlas.png")
    with Image.open(tmp_path / "atlas.png") as image:
        assert min(image.convert("L").getextrema()) < 50
