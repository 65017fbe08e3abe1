"""Galaxies of a catalog: pandas' own bins, nothing dropped in silence."""

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galfig.catalog import formats
from galfig.catalog.galaxies import assign_classes, find_alike, load_galaxies
from galfig.config import ClassSettings, load_settings
from galfig.errors import CatalogError


def load(folder, **tables):
    overrides = {("catalog", "path"): folder / "catalog.csv"}
    overrides |= {(table, k): v for table, keys in tables.items() for k, v in keys.items()}
    return load_galaxies(load_settings(None, overrides))


def test_bins_are_those_of_pandas():
    """Right-closed at each edge, and outside at the lowest."""
    classes = ClassSettings()
    values = [8.0, 8.1, np.nextafter(8.1, 9), 8.7, 8.8, 9.1, 9.2, 9.3, np.nextafter(9.3, 10)]
    names, value, rejected = assign_classes(
        pd.DataFrame({"oh_p50": [*values, np.nan, np.inf]}), classes, Path("a.csv")
    )
    expected = ["", "", "low", "low", "medium", "medium", "high", "high", "", "", ""]
    assert names.tolist() == expected
    assert [bool(reason) for reason in rejected] == [not name for name in expected]
    assert rejected[1] == "oh_p50 = 8.1 outside (8.1, 9.3]"
    assert rejected[9] == "no oh_p50"
    assert rejected[10] == "oh_p50 = inf outside (8.1, 9.3]"
    np.testing.assert_array_equal(value[:9], values)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6, unique=True),
)
def test_any_bins_are_those_of_pandas(values, edges):
    """Whatever the edges, a value's class is pandas.cut's."""
    edges = sorted(edges)
    labels = [f"bin {index}" for index in range(len(edges) - 1)]
    classes = ClassSettings(column="x", edges=edges, labels=labels)
    names, _, rejected = assign_classes(pd.DataFrame({"x": values}), classes, Path("a.csv"))
    expected = pd.cut(pd.Series(values), edges, labels=labels).astype(object).fillna("")
    assert names.tolist() == expected.tolist()
    assert [bool(reason) for reason in rejected] == [name == "" for name in names]


def test_classes_and_split_of_a_catalog(galaxy_folder):
    """Labels by position among the classes kept, a fifth for validation, images found."""
    galaxies = load(galaxy_folder)
    assert len(galaxies) == 24
    assert galaxies.class_names == ("low", "high")
    assert galaxies.class_counts == {"low": 12, "medium": 0, "high": 12}
    assert galaxies.label.tolist() == [0, 1] * 12
    assert galaxies.in_valid.sum() == 5
    assert all(path.is_file() for path in galaxies.paths)
    assert [path.stem for path in galaxies.paths] == galaxies.objid.tolist()
    assert galaxies.redshift[1] == 0.024
    assert not galaxies.simulated
    assert galaxies.pixel_scale is None


def test_split_is_by_seed(galaxy_folder):
    """One seed draws one validation set; a larger share holds more."""
    first, again, other = (load(galaxy_folder, split={"seed": seed}) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.in_valid, again.in_valid)
    assert (first.in_valid != other.in_valid).any()
    assert load(galaxy_folder, split={"valid_fraction": 0.5}).in_valid.sum() == 12


def test_split_by_a_column(galaxy_folder):
    """A column says it in any case; galaxies without an entry are left out, other words refused."""
    words = ["train", "Validation", "VAL", "test", " valid", ""]
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table["part"] = words * 4
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder, split={"column": "part"})
    assert galaxies.split.tolist() == ["train", "valid", "valid", "test", "valid"] * 4
    assert galaxies.in_train.sum() == 4
    assert galaxies.in_valid.sum() == 12
    assert "4 to train and 12 to validate and 4 to test" in repr(galaxies)
    assert set(galaxies.rejected.values()) == {"no part"}
    with pytest.raises(
        CatalogError, match=r"row 1, column 'objID': '1237.*', expected 'train', 'valid' or 'test'"
    ):
        load(galaxy_folder, split={"column": "objID"})
    with pytest.raises(CatalogError, match=r"row 1, column 'z': 0\.02, expected text or a whole"):
        load(galaxy_folder, split={"column": "z"})


def test_galaxies_without_classes_have_no_split(galaxy_folder):
    """They train nothing, so that a draw would only invent a validation set."""
    settings = load_settings(
        {"classes": {"column": ""}}, {("catalog", "path"): galaxy_folder / "catalog.csv"}
    )
    galaxies = load_galaxies(settings, labelled=False)
    assert set(galaxies.split) == {""}


def test_a_test_set_is_drawn_beside_the_validation_set(galaxy_folder):
    """It takes from the training set alone, and the validation set stays as it was."""
    before, after = load(galaxy_folder), load(galaxy_folder, split={"test_fraction": 0.25})
    np.testing.assert_array_equal(before.in_valid, after.in_valid)
    assert np.sum(after.split == "test") == 6
    assert after.in_train.sum() == before.in_train.sum() - 6


def test_text_classes(galaxy_folder):
    """Classes of text keep the order asked for; empty cells are left out, others not kept."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table["type"] = ["spiral", "elliptical", "merger", None] * 6
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder, classes={"column": "type", "keep": ["spiral", "elliptical"]})
    assert galaxies.class_names == ("spiral", "elliptical")
    assert galaxies.label.tolist() == [0, 1] * 6
    assert set(galaxies.rejected.values()) == {"no type"}
    assert len(galaxies.rejected) == 6
    assert galaxies.class_counts == {"elliptical": 6, "merger": 6, "spiral": 6}
    every = load(galaxy_folder, classes={"column": "type"})
    assert every.class_names == ("elliptical", "merger", "spiral")
    with pytest.raises(CatalogError, match="'bar' is empty"):
        load(galaxy_folder, classes={"column": "type", "keep": ["spiral", "bar"]})
    with pytest.raises(CatalogError, match="holds numbers, expected classes as text"):
        load(galaxy_folder, classes={"column": "z"})


def test_missing_images_are_left_out(galaxy_folder):
    """A galaxy without its image is rejected by name; without any, the folder is."""
    galaxies = load(galaxy_folder)
    galaxies.paths[0].unlink()
    fewer = load(galaxy_folder)
    assert len(fewer) == 23
    assert fewer.rejected == {galaxies.objid[0]: f"no image images/{galaxies.objid[0]}.jpg"}
    for path in galaxies.paths[1:]:
        path.unlink()
    with pytest.raises(CatalogError, match="no images found"):
        load(galaxy_folder)


def test_values_without_a_class_are_left_out(galaxy_folder):
    """Outside the edges, or empty: rejected by name with the reason, and never drawn."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table.loc[[0, 1], "oh_p50"] = [7.5, np.nan]
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder)
    reasons = ["oh_p50 = 7.5 outside (8.1, 9.3]", "no oh_p50"]
    assert galaxies.rejected == dict(zip(table.objID[:2], reasons, strict=True))
    assert galaxies.objid.tolist() == table.objID[2:].tolist()
    assert galaxies.class_counts == {"low": 11, "medium": 0, "high": 11}


def test_folder_that_cannot_be_listed_is_named(galaxy_folder):
    """What the system says of a folder of images is one line, not a traceback."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table["field"] = "x" * 200
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    with pytest.raises(CatalogError, match="xxx: cannot be read "):
        load(galaxy_folder, catalog={"images": "{field}{field}/{objID}.jpg"})


def test_link_that_leads_nowhere_is_a_missing_image(galaxy_folder):
    """An image that git-annex has not fetched is left out when the build is planned."""
    galaxies = load(galaxy_folder)
    real, broken = galaxies.paths[:2]
    broken.unlink()
    broken.symlink_to("../.git/annex/objects/absent")
    real.rename(galaxy_folder / "elsewhere.jpg")
    real.symlink_to(galaxy_folder / "elsewhere.jpg")
    assert load(galaxy_folder).rejected == {galaxies.objid[1]: f"no image images/{broken.name}"}


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOMEM])
def test_link_that_cannot_be_followed_stops(galaxy_folder, monkeypatch, code):
    """A disk that fails for a moment leaves no galaxy out."""
    path = load(galaxy_folder).paths[0]
    path.rename(galaxy_folder / "elsewhere.jpg")
    path.symlink_to(galaxy_folder / "elsewhere.jpg")

    class Entry:
        name = path.name

        def is_symlink(self):
            return True

        def stat(self):
            raise OSError(code, os.strerror(code))

    class Entries(list):
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

    monkeypatch.setattr("os.scandir", lambda folder: Entries([Entry()]))
    with pytest.raises(CatalogError, match=rf"images: cannot be read \({os.strerror(code)}\)"):
        load(galaxy_folder)


def test_catalog_replaced_while_it_is_read_is_not_recorded(galaxy_folder, monkeypatch):
    """The digest is that of the bytes that became the galaxies."""
    path = galaxy_folder / "catalog.csv"
    first = hashlib.sha256(path.read_bytes()).hexdigest()
    real = formats._read_header

    def replace(*arguments):
        path.write_text(path.read_text().replace("12376", "99999"))
        return real(*arguments)

    monkeypatch.setattr(formats, "_read_header", replace)
    galaxies = load(galaxy_folder)
    assert galaxies.catalog_sha256 == first
    assert all(objid.startswith("12376") for objid in galaxies.objid)
    assert hashlib.sha256(path.read_bytes()).hexdigest() != first


def test_class_without_images_is_named_with_its_own_reason(galaxy_folder):
    """The first reason in the catalog is another galaxy's, and no help."""
    galaxies = load(galaxy_folder)
    (galaxy_folder / "images" / f"{galaxies.objid[galaxies.label == 0][0]}.jpg").unlink()
    lost = galaxies.objid[galaxies.label == 1]
    for objid in lost:
        (galaxy_folder / "images" / f"{objid}.jpg").unlink()
    expected = (
        f"class 'high' has no galaxy left.*; {len(lost)} left out, first: no image .*{lost[0]}"
    )
    with pytest.raises(CatalogError, match=expected):
        load(galaxy_folder)


def test_images_named_by_other_columns(galaxy_folder):
    """The template may name any column; a cell that leads out of the folder leaves its row out."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table["field"] = "images"
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    assert len(load(galaxy_folder, catalog={"images": "{field}/{objID}.jpg"}))
    for template, message in [
        ("images/{nosuch}.jpg", "no column 'nosuch'"),
        ("images/{objID.__class__}.jpg", "no column"),
        ("images/{objID!r}.jpg", "expected columns in braces"),
        ("images/{objID", "is not a valid template"),
        ("images/a.jpg", "expected a template such as"),
    ]:
        with pytest.raises(CatalogError, match=message):
            load(galaxy_folder, catalog={"images": template})
    table["field"] = "../images"
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    with pytest.raises(CatalogError, match=r"first: field '\.\./images' leads out of the folder"):
        load(galaxy_folder, catalog={"images": "{field}/{objID}.jpg"})


def test_redshift_is_optional_unless_named(galaxy_folder):
    """The default column may be absent; one that the settings name must be there."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table.drop(columns="z").to_csv(galaxy_folder / "catalog.csv", index=False)
    assert np.isnan(load(galaxy_folder).redshift).all()
    with pytest.raises(CatalogError, match="no column 'zspec'"):
        load(galaxy_folder, catalog={"redshift": "zspec"})


def test_pixel_scale_by_number_and_by_column(galaxy_folder):
    """A constant holds for all galaxies, a column for each."""
    assert set(load(galaxy_folder, catalog={"pixel_scale": 0.4}).pixel_scale) == {0.4}
    galaxies = load(galaxy_folder, catalog={"pixel_scale": "z"})
    np.testing.assert_array_equal(galaxies.pixel_scale, galaxies.redshift)
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table.loc[2, "z"] = 0
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    with pytest.raises(CatalogError, match="row 3, column 'z': 0, expected a pixel scale above"):
        load(galaxy_folder, catalog={"pixel_scale": "z"})


def test_unlabelled_catalog_is_taken_whole(galaxy_folder):
    """Where no labels are needed a catalog of identifiers is enough."""
    galaxies = load(galaxy_folder)
    pd.DataFrame({"objID": galaxies.objid}).to_csv(galaxy_folder / "bare.csv", index=False)
    settings = load_settings(None, {("catalog", "path"): galaxy_folder / "bare.csv"})
    bare = load_galaxies(settings, labelled=False)
    assert set(bare.label) == {-1}
    assert len(bare) == 24
    with pytest.raises(CatalogError, match="no column 'oh_p50'"):
        load_galaxies(settings)


def test_take_and_reject(galaxy_folder):
    """Every array follows, and reasons add up."""
    galaxies = load(galaxy_folder, catalog={"pixel_scale": 0.4})
    few = galaxies.take(np.array([3, 1]))
    assert few.objid.tolist() == [galaxies.objid[3], galaxies.objid[1]]
    assert few.table["objID"].tolist() == few.objid.tolist()
    assert few.paths == (galaxies.paths[3], galaxies.paths[1])
    assert len(few.pixel_scale) == len(few.label) == len(few) == 2
    rest = galaxies.reject({0: "dim"}).reject({0: "blurred"})
    assert rest.rejected == {galaxies.objid[0]: "dim", galaxies.objid[1]: "blurred"}
    assert len(rest) == 22


def test_simulated_galaxies_are_known_as_such(galaxy_folder):
    """One galaxy that the catalog calls simulated is enough."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table["simulated"] = [True] + [False] * 23
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    assert load(galaxy_folder).simulated


def test_digits_of_other_columns_are_kept_for_images(galaxy_folder):
    """A plate called 0266 names a file with its zero."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    for index, path in enumerate(load(galaxy_folder).paths):
        path.rename(path.with_name(f"0266-{index:03}.jpg"))
    table["plate"] = "0266"
    table["fiber"] = [f"{index:03}" for index in range(24)]
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder, catalog={"images": "images/{plate}-{fiber}.jpg"})
    assert len(galaxies) == 24
    assert galaxies.paths[7].name == "0266-007.jpg"


def test_redshifts_that_no_galaxy_has_are_unknown(galaxy_folder, caplog):
    """Andromeda comes nearer; -9999 and inf say 'unknown', which one warning counts."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table["z"] = [-0.001, -9999, np.inf, -np.inf, -1, 12.1] * 4
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder)
    expected = [-0.001, np.nan, np.nan, np.nan, np.nan, 12.1] * 4
    np.testing.assert_array_equal(galaxies.redshift, expected)
    assert galaxies.table["z"].tolist() == table["z"].tolist()
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "column 'z': 16 redshifts are -1 or less, or infinite, and treated as unknown, "
        "first: -9999 in row 2"
    ]


def test_pixel_scale_is_finite(galaxy_folder):
    """No scale bar follows from an infinite pixel; an empty cell is unknown."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table["scale"] = [0.4, None] * 12
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    scales = load(galaxy_folder, catalog={"pixel_scale": "scale"}).pixel_scale
    np.testing.assert_array_equal(scales, [0.4, np.nan] * 12)
    table.loc[4, "scale"] = np.inf
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    with pytest.raises(CatalogError, match="row 5, column 'scale': inf, expected a pixel scale"):
        load(galaxy_folder, catalog={"pixel_scale": "scale"})


def test_number_of_classes_does_not_fill_the_line(galaxy_folder):
    """A column that is no class has one for each galaxy; the line names the first of them."""
    with pytest.raises(
        CatalogError, match=r"found '.* \(1\) and 16 more; change \[classes\] column or keep$"
    ) as caught:
        load(galaxy_folder, classes={"column": "objID", "keep": ["spiral", "elliptical"]})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["spiral", "Spiral", "elliptical"], [("spiral", "Spiral")]),
        (["spiral", "Sprial"], [("spiral", "Sprial")]),
        (["edge-on", "edge on", "Edge_On"], [0, 1, 2]),
        (["barred spiral", "unbarred spiral"], []),
        (["Sa", "Sb", "Sab", "E0", "E1"], []),
        (["class 1", "class 2"], []),
        (["north", "south", "left", "right", "accepted", "rejected"], []),
        (["low", "medium", "high"], []),
    ],
)
def test_classes_of_nearly_one_name_are_found(names, expected):
    """Case, spaces and a misspelt word; types that differ in a letter are other types."""
    if expected == [0, 1, 2]:
        expected = [(names[0], names[1]), (names[0], names[2]), (names[1], names[2])]
    assert find_alike(names) == expected


def test_a_misspelt_class_is_named(galaxy_folder, caplog):
    """In a warning, before it is trained on as a class of its own."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table["type"] = ["spiral", "elliptical", "Sprial"] * 8
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    load(galaxy_folder, classes={"column": "type"})
    assert "classes with nearly the same name: 'Sprial' and 'spiral'" in caplog.text
