"""Galleries of small stores, and a Chromium without a window to open them with."""

import shutil

import numpy as np
import pytest
from galleries import do_without

from galfig.gallery.main import make_gallery
from galfig.store.reader import open_store

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
N = 150


# Not for the whole session: as long as it is there, no other test could run an event loop.
@pytest.fixture(scope="module")
def chromium():
    """Start a Chromium that asks nobody anything."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        do_without("no Chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        do_without("no playwright (extra test)")
    with sync_playwright() as driver:
        quiet = ("background-networking", "component-update", "sync", "gpu", "quic", "extensions")
        flags = ["--no-sandbox", "--no-first-run", *(f"--disable-{word}" for word in quiet)]
        browser = driver.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


def make_catalog(n=N):
    """Return columns of each kind, some of them with unknown values."""
    rng = np.random.default_rng(3)
    mass = rng.normal(10, 1, n)
    mass[::7] = np.nan
    return {
        "mass": mass,
        "kind": np.array(["Sa", "Sb", "Irr <b>&"], dtype=object)[np.arange(n) % 3],
        "specobjid": np.arange(n) + 2**62,
        "count": np.arange(n) * 3 - 7,
        "is_big": np.arange(n) % 2 == 0,
        "note": np.array([f"note {index}" for index in range(n)], dtype=object),
    }


@pytest.fixture(scope="session")
def gallery_store(_find_store):
    """Write a store of 150 galaxies, some without a true class, in all splits."""
    label = (np.arange(N) % 2).astype(np.int16)
    label[::11] = -1
    split = np.array(["valid", "train", "test"], dtype=object)[np.arange(N) % 3]
    return _find_store({"n": N, "catalog": make_catalog(), "label": label, "split": split})


@pytest.fixture(scope="session")
def gallery(gallery_store, tmp_path_factory):
    """Make the gallery of that store once."""
    out = tmp_path_factory.mktemp("gallery") / "page"
    with open_store(gallery_store) as store:
        make_gallery(store, out, store.select(split="all"))
    return out
