"""Atlas: every galaxy once, drawn as the panels draw it."""

import gc
import re
import weakref

import numpy as np
import pytest
from matplotlib import colormaps
from pypdf import PdfReader

from galfig.errors import OutputError
from galfig.figures import atlas, pdf
from galfig.figures.atlas import compose_galaxy
from galfig.figures.registry import render_figure
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
