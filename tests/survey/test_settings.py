"""Settings of a folder of cutouts: TOML that says the same when it is read back."""

from pathlib import Path

from galfig.config import load_settings
from galfig.survey.settings import write_settings


def write(tables, name="cat.csv", **images):
    """Write the settings of a folder."""
    catalog = {"path": name, **tables.get("catalog", {})}
    settings = load_settings({**tables, "catalog": catalog})
    return write_settings(
        settings, name, {"images": f"images/{{{settings.catalog.id}}}.jpg", **images}
    )


def test_nothing_is_written_where_the_defaults_do():
    """The catalog alone names the folder."""
    assert write({}) == ""
    assert write({"catalog": {"id": "objID"}}) == ""


def test_what_is_written_reads_the_same():
    """Texts of any script, quotes, lists, numbers and tables, with the keys of the catalog."""
    tables = {
        "catalog": {
            "id": 'Näme "x"',
            "names": ["a", 'Näme "x"', "ra", "\\t"],
            "duplicates": "first",
        },
        "classes": {"column": "oh_p50", "edges": [], "keep": ["é", "b\\"]},
        "split": {"valid_fraction": 0.25},
    }
    Path("galfig.toml").write_text(write(tables, planes=[2, 1, 0], pixel_scale=0.262))
    found = load_settings(Path("galfig.toml"))
    expected = load_settings(tables)
    assert found.classes == expected.classes
    assert found.classes.edges is None
    assert found.split == expected.split
    for key in tables["catalog"]:
        assert getattr(found.catalog, key) == getattr(expected.catalog, key)
    assert found.catalog.planes == (2, 1, 0)
    assert found.catalog.pixel_scale == 0.262
    assert found.catalog.images == 'images/{Näme "x"}.jpg'


def test_images_and_files_of_the_users_own_settings_are_left_out():
    """They lie elsewhere, and are other pixels."""
    tables = {
        "catalog": {"id": "name", "images": "a/{name}.png", "images_dir": "/far", "scale": "whole"},
        "split": {"test": "test.csv"},
    }
    words = write(tables)
    assert words == '[catalog]\npath = "cat.csv"\nid = "name"\nimages = "images/{name}.jpg"\n'


def test_the_table_of_a_file_is_kept():
    """As the catalog names it."""
    settings = load_settings({"catalog": {"path": "far/cat.fits[OBJECTS]"}})
    words = write_settings(settings, "cat.fits", {"images": "images/{objID}.jpg"})
    assert 'path = "cat.fits[OBJECTS]"' in words
