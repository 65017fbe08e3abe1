"""The recipe of a network: what cannot be compared is warned of."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from samples import load_with_settings

from galfig.config import load_settings
from galfig.networks.recipe import (
    describe_difference,
    describe_recipe,
    is_same_recipe,
    warn_of_mismatch,
)

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


def with_fits(galaxies):
    """Return galaxies whose images are, by their names, FITS."""
    return replace(galaxies, paths=tuple(path.with_suffix(".fits") for path in galaxies.paths))


def test_only_networks_of_fits_are_told_apart_by_the_stretch(galaxy_folder):
    """The recipe of a network of JPEGs is what it was; that of FITS names the new default."""
    galaxies, settings = load_with_settings(galaxy_folder)
    plain, stretched = (describe_recipe(one, settings) for one in (galaxies, with_fits(galaxies)))
    assert "stretch" not in plain
    assert stretched == {**plain, "stretch": "sky"}
    assert describe_difference(plain, stretched) == "stretch none, now 'sky'"
    for catalog in ({"stretch": "percentiles"}, {"fits_range": (0, 1)}):
        other = load_settings(settings, {("catalog", key): catalog[key] for key in catalog})
        assert "stretch" not in describe_recipe(with_fits(galaxies), other)


def test_recipe_names_the_parameters_of_the_stretch_of_lupton(galaxy_folder):
    """A network of other parameters saw other pixels, and is trained anew."""
    galaxies, settings = load_with_settings(galaxy_folder)
    keys = {("catalog", "stretch"): "lupton", ("catalog", "lupton_stretch"): 0.5}
    one = load_settings(settings, keys)
    other = load_settings(settings, {**keys, ("catalog", "lupton_q"): 9.0})
    found = [describe_recipe(with_fits(galaxies), chosen) for chosen in (one, other)]
    assert [recipe["stretch"] for recipe in found] == ["lupton", "lupton"]
    assert found[0]["lupton"] == {"minimum": [0.0, 0.0, 0.0], "stretch": 0.5, "softening": 8.0}
    assert found[1]["lupton"]["softening"] == 9.0
    assert json.loads(json.dumps(found[0])) == found[0]
    assert "lupton" not in describe_recipe(galaxies, one)


def test_images_that_become_other_pixels_are_warned_of(galaxy_folder, checkpoint, caplog):
    """A network that was trained before the default changed, and one of other planes."""
    galaxies, settings = load_with_settings(galaxy_folder)
    galaxies = with_fits(galaxies)
    recipe = describe_recipe(galaxies, settings)
    old = {key: recipe[key] for key in recipe if key != "stretch"}
    for trained, words in (
        (old, "with stretch none, and these have 'sky' (set [catalog] stretch = "),
        ({**recipe, "planes": [2, 1, 0]}, "with planes [2, 1, 0], and these have none"),
        (recipe, ""),
        ({}, ""),
    ):
        metadata = {**checkpoint.metadata, "settings": settings.record(), "recipe": trained}
        caplog.clear()
        with caplog.at_level(logging.WARNING, "galfig"):
            known = replace(checkpoint, metadata=metadata)
            warn_of_mismatch(known, galaxies, settings, Path("m.safetensors"))
        assert words in " ".join(caplog.messages)
        assert len(caplog.messages) == bool(words)
