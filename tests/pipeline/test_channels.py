"""Any number of channels, from files to figures."""

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image

import galfig
from galfig.config import load_settings
from galfig.errors import ConfigError
from galfig.images.cutouts import choose_decoding, decode_image
from galfig.networks.checkpoint import load_checkpoint
from galfig.store.reader import open_store


@pytest.fixture
def bands(tmp_path):
    """Sixteen galaxies of two kinds, brighter in the last bands or in the first, in five files."""
    (tmp_path / "images").mkdir()
    y, x = np.mgrid[:24, :24] - 11.5
    source = 30 * np.exp(-(x**2 + y**2) / 18)
    for row in range(16):
        rng = np.random.default_rng(row)
        for number in range(5):
            share = (number + 1) / 5 if row % 2 else (5 - number) / 5
            values = (share * source + rng.normal(0, 1, (24, 24))).astype(np.float32)
            fits.PrimaryHDU(values).writeto(
                tmp_path / "images" / f"g{row:02}_{'ugriz'[number]}.fits"
            )
    table = pd.DataFrame({"name": [f"g{row:02}" for row in range(16)], "kind": ["blue", "red"] * 8})
    table.to_csv(tmp_path / "cat.csv", index=False)
    return tmp_path


def make_settings(folder, letters, **catalog):
    templates = tuple(f"images/{{name}}_{letter}.fits" for letter in letters)
    return load_settings(
        {
            "catalog": {
                "path": str(folder / "cat.csv"),
                "id": "name",
                "bands": templates,
                **catalog,
            },
            "classes": {"column": "kind"},
            "split": {"valid_fraction": 0.4},
            "training": {"epochs": 1, "batch_size": 4, "cutout_size": 24, "lr": 1e-2},
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("letters", "rgb", "words"),
    [
        ("zr", None, "Cutouts show band z, one of 2 that the network sees, in grey."),
        ("zri", (2, 1, 0), "Red, green and blue are band i, band r and band z."),
        ("zirg", None, "band z, band i and band r, of 4 that the network sees."),
        ("zirgu", (4, 3, 0), "band u, band g and band z, of 5 that the network sees."),
    ],
)
def test_bands_from_files_to_figures(bands, letters, rgb, words):
    """Network, store and maps have all channels; figures show some, and say which."""
    settings = make_settings(bands, letters, **({"rgb": rgb} if rgb else {}))
    path = bands / "maps.h5"
    with galfig.build_maps(galfig.load_catalog(settings=settings), out=path, split="all") as store:
        caption = galfig.plot.panels(store, [0, 1]).caption
        pixels, shown = store.cutouts(0), store.shown_channels
    checkpoint = load_checkpoint(path.with_suffix(".safetensors"))
    assert checkpoint.n_channels == len(letters)
    with h5py.File(path) as file:
        stored = file["cutouts"][0]
    assert stored.shape == (24, 24, len(letters))
    np.testing.assert_array_equal(pixels, stored[..., list(shown)])
    assert shown == (rgb or ((0, 0, 0) if len(letters) == 2 else (0, 1, 2)))
    assert words in caption
    with open_store(path) as store:
        assert store.record.stretch == "sky"


def test_settings_and_network_must_agree(bands):
    """A network of other channels is refused in a line, before any image is read."""
    with pytest.raises(ConfigError, match="the network sees 3 channels, but the settings name 4"):
        choose_decoding(make_settings(bands, "grzi").catalog, 3)
    with pytest.raises(ConfigError, match="of which there is no luminance"):
        load_settings(make_settings(bands, "grzi"), {("training", "grayscale"): True})


def test_bands_of_other_formats_are_grey_each(tmp_path):
    """A grey PNG per band; formats are not mixed."""
    settings = make_settings(tmp_path, "ab")
    values = np.random.default_rng(0).integers(0, 255, (2, 12, 12), dtype=np.uint8)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, pixels in zip(paths, values, strict=True):
        Image.fromarray(pixels).save(path)
    source = galfig.images.sources.BandFiles(tuple(paths))
    pixels = decode_image(source, choose_decoding(settings.catalog, 2))
    np.testing.assert_array_equal(pixels, np.moveaxis(values, 0, -1))
