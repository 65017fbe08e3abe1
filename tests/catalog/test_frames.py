"""What is said of the sizes of images before a network sees them."""

import logging

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image

from galfig.catalog.frames import report_frames
from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings


@pytest.fixture
def report(tmp_path, caplog):
    """Give a function that writes images of some sizes and returns what is logged of them."""

    def run(sides, size, *, is_chosen=False, **catalog):
        rng = np.random.default_rng(0)
        (tmp_path / "images").mkdir()
        names = [f"g{row:02}" for row in range(len(sides))]
        for name, side in zip(names, sides, strict=True):
            pixels = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        kinds = ["disc"] * (len(sides) // 2) + ["smooth"] * (len(sides) - len(sides) // 2)
        table = pd.DataFrame({"name": names, "kind": kinds})
        table.to_csv(tmp_path / "cat.csv", index=False)
        settings = load_settings(
            {
                "catalog": {
                    "path": str(tmp_path / "cat.csv"),
                    "id": "name",
                    "images": "images/{name}.png",
                    **catalog,
                },
                "classes": {"column": "kind"},
            }
        )
        galaxies = load_galaxies(settings)
        with caplog.at_level(logging.INFO, "galfig.catalog.frames"):
            report_frames(
                galaxies, settings.catalog, size, settings.catalog_path, is_chosen=is_chosen
            )
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return run


def test_images_of_the_size_of_the_cutout(report):
    """There is nothing to say."""
    assert report([32] * 6, 32) == []


def test_a_crop_of_large_images_is_a_warning_unless_chosen(report):
    """Left at its default, the cutout may be a small part of each image."""
    ((level, words),) = report([300] * 6, 96)
    assert level == "WARNING"
    assert words.endswith(
        "images are 300 × 300 pixels; the central 96 × 96 of each is used (10 %); "
        'set [training] cutout_size, or [catalog] scale = "whole"'
    )


def test_a_crop_that_was_chosen_is_told_only(report):
    """The share is of use to who meant it, too."""
    assert report([300] * 6, 96, is_chosen=True)[0][0] == "INFO"


def test_padding_is_a_warning(report):
    """Whatever the size, and with the number of images if they differ."""
    ((level, words),) = report([40, 40, 40, 120, 40, 40, 40, 120], 80, is_chosen=True)
    assert level == "WARNING"
    assert "images are 40 × 40 to 120 × 120 pixels; 6 of 8 padded with black to 80 × 80" in words
    assert "(25 % of a cutout is image), the central 80 × 80 of 2 of 8 is used (44 %)" in words


def test_a_frame_that_tells_classes_apart(report):
    """A network would learn the black around the small images of one class."""
    words = [words for _, words in report([30] * 6 + [60] * 6, 64)]
    assert len(words) == 2
    assert "differs between classes ('disc' 78 %, 'smooth' 12 % of the cutout)" in words[1]


def test_whole_images_are_neither_cropped_nor_padded(report):
    """They are scaled."""
    assert report([30] * 6 + [60] * 6, 64, scale="whole") == []


def test_files_that_hold_more(tmp_path, caplog):
    """Once for the catalog, with the names of what is left aside."""
    (tmp_path / "images").mkdir()
    for row in range(4):
        values = np.random.default_rng(row).normal(0, 1, (16, 16))
        hdus = [fits.ImageHDU(values, name=name) for name in ("G", "R", "WHT")]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "images" / f"g{row}.fits")
    table = pd.DataFrame({"name": [f"g{row}" for row in range(4)], "kind": ["a", "b"] * 2})
    table.to_csv(tmp_path / "cat.csv", index=False)
    catalog = {"path": str(tmp_path / "cat.csv"), "id": "name", "images": "images/{name}.fits"}
    settings = load_settings({"catalog": catalog, "classes": {"column": "kind"}})
    report_frames(load_galaxies(settings), settings.catalog, 16, settings.catalog_path)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "4 of 4 files hold further images that are not used ('R', 'WHT')" in record.getMessage()
