"""Atlas: every galaxy once, drawn as the panels draw it."""

import numpy as np
import pytest
from matplotlib import colormaps
from pypdf import PdfReader

from galfig.errors import OutputError
from galfig.figures.atlas import compose_galaxy
from galfig.figures.registry import render_figure
from galfig.store.reader import open_store
from galfig.store.selection import Query


def test_atlas_draws_maps_as_the_panels_do():
    """Dimmed where a map is zero or negative, the colour alone from a quarter of the peak on."""
    cutout = np.full((8, 8, 3), 200, np.uint8)
    cams = np.zeros((2, 8, 8), np.float32)
    cams[0, :, 4:], cams[1] = 2.0, -1.0
    cams[1, 0, 0] = 0.6
    image = compose_galaxy(cutout, cams, 16)
    assert image.shape == (16, 48, 3)
    first, low, high = np.split(image, 3, axis=1)
    assert (first == 200).all()
    assert (low[:, :8] == 90).all()
    peak = 255 * np.array(colormaps["inferno"](255)[:3])
    np.testing.assert_allclose(low[:, 8:], np.broadcast_to(peak, (16, 8, 3)), atol=1)
    np.testing.assert_allclose(high[0, 0], 255 * np.array(colormaps["inferno"](76)[:3]), atol=1)
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
        found = [word.strip(",") for page in words for word in page.split()]
        assert [word for word in found if word in store.objid] == list(store.objid)
    n_pages = len(reader.pages)
    assert n_pages > 1
    assert all(f"Page {i} of {n_pages}" in page for i, page in enumerate(words, 1))
    with pytest.raises(OutputError, match=rf"expected \.pdf for {n_pages} pages"):
        render_figure("atlas", path, Query(n=None), tmp_path / "atlas.png")
    assert not (tmp_path / "atlas.png").exists()
