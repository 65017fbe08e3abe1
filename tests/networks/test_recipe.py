"""The recipe of a network: what cannot be compared is warned of."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from samples import load_with_settings

from galfig.networks.recipe import describe_difference, is_same_recipe, warn_of_mismatch

RECIPE = {"image_digest": "a", "catalog_sha256": "b", "training": {"epochs": 5, "threads": 4}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"image_digest": "c"}, False),
        ({"training": {"epochs": 5, "threads": 2}}, False),
        ({"training": {"epochs": 5}}, True),
        ({"training": {"epochs": 6}}, False),
        ({"training": {}}, False),
        ({"training": None}, False),
        ({"catalog_sha256": "c"}, False),
        ({"more": 1}, False),
    ],
)
def test_recipes_are_compared_as_far_as_the_file_says(change, expected):
    """An older galfig recorded no threads."""
    assert is_same_recipe({**RECIPE, **change}, RECIPE) == expected


def test_recipe_without_images_is_compared_without_them():
    """An older galfig recorded none, and without reading the images nobody can compare them."""
    without = {key: RECIPE[key] for key in RECIPE if key != "image_digest"}
    assert is_same_recipe(without, RECIPE)
    assert is_same_recipe(RECIPE, without)
    assert not is_same_recipe({}, RECIPE)
    assert describe_difference({**RECIPE, "image_digest": "c"}, RECIPE).startswith("images were")
    two = {**RECIPE, "training": {"epochs": 5, "threads": 2}}
    assert describe_difference(two, RECIPE) == "[training] threads 2, now 4"


def test_settings_of_another_version_are_warned_of(galaxy_folder, checkpoint, caplog):
    """They cannot be compared, which is said; the network is used all the same."""
    galaxies, settings = load_with_settings(galaxy_folder)
    strange = replace(checkpoint, metadata={**checkpoint.metadata, "settings": {"nosuch": {}}})
    with caplog.at_level(logging.WARNING, "galfig"):
        warn_of_mismatch(strange, galaxies, settings, Path("m.safetensors"))
    (message,) = caplog.messages
    assert message.startswith("m.safetensors: was trained by another version of galfig")
