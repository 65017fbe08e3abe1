"""Galaxies of a catalog: pandas' own bins, nothing dropped in silence."""

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from galfig.catalog import text
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
    table["part"] = ["train", "valid", "train", "valid", "valid", "holdout"] * 4
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder, split={"column": "part"})
    reason = "part = 'holdout', expected 'train', 'valid' or 'test'"
    assert list(galaxies.rejected.values()) == [reason] * 4
    with pytest.raises(
        CatalogError, match=r"row 1, column 'objID': '1237.*', expected 'train', 'valid' or 'test'"
    ):
        load(galaxy_folder, split={"column": "objID"})
    with pytest.raises(CatalogError, match=r"row 1, column 'z': '0\.02', expected 'train', 'va"):
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
    real = text._find_layout

    def replace(*arguments):
        path.write_text(path.read_text().replace("12376", "99999"))
        return real(*arguments)

    monkeypatch.setattr(text, "_find_layout", replace)
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


def test_pixel_scale_by_number_and_by_column(galaxy_folder, caplog):
    """A constant holds for all galaxies, a column for each."""
    assert set(load(galaxy_folder, catalog={"pixel_scale": 0.4}).pixel_scale) == {0.4}
    galaxies = load(galaxy_folder, catalog={"pixel_scale": "z"})
    np.testing.assert_array_equal(galaxies.pixel_scale, galaxies.redshift)
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table.loc[2, "z"] = 0
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder, catalog={"pixel_scale": "z"})
    assert np.flatnonzero(np.isnan(galaxies.pixel_scale)).tolist() == [2]
    assert "1 pixel scales are not above zero [arcsec/pixel]" in caplog.text
    assert "first: 0 in row 3" in caplog.text


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
    assert tuple(few.paths) == (galaxies.paths[3], galaxies.paths[1])
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
        "column 'z': 16 redshifts are below -0.01, above 20 or not numbers, and treated as "
        "unknown, first: -9999 in row 2"
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
    scales[4] = np.nan
    found = load(galaxy_folder, catalog={"pixel_scale": "scale"}).pixel_scale
    np.testing.assert_array_equal(found, scales)


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


def read_catalog(folder):
    return pd.read_csv(folder / "catalog.csv", dtype={"objID": str})


def test_rows_without_an_identifier_are_left_out(galaxy_folder):
    """Each is listed by its row; the galaxies around it stay."""
    table = read_catalog(galaxy_folder)
    objid = table["objID"].tolist()
    table.loc[[2, 5, 7], "objID"] = ["", "--", "../x"]
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder)
    assert galaxies.objid.tolist() == [name for i, name in enumerate(objid) if i not in (2, 5, 7)]
    assert list(galaxies.rejected) == ["row 3", "row 6", "row 8"]
    assert galaxies.rejected["row 3"] == galaxies.rejected["row 6"] == "no objID"
    assert galaxies.rejected["row 8"].startswith("objID '../x' is not a plain file name")
    assert sum(galaxies.class_counts.values()) == 21
    table["objID"] = ""
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    with pytest.raises(CatalogError, match=r"no galaxy is left.*; 24 left out, first: no objID"):
        load(galaxy_folder)


def test_doubled_identifiers_are_left_out_or_kept_once(galaxy_folder, caplog):
    """All rows are counted; the setting keeps the first; equal rows count once without it."""
    table = read_catalog(galaxy_folder)
    first, second = table["objID"][:2]
    copies = pd.concat([table, table.iloc[[1, 1]], table.iloc[[0, 0]]], ignore_index=True)
    copies.loc[26, "z"] = 0.077
    copies.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder)
    assert len(galaxies) == 23
    assert first not in galaxies.objid
    assert second in galaxies.objid
    same = {f"row {row}": "the same as row 2 in every column" for row in (25, 26)}
    assert galaxies.rejected == {
        "row 1": f"objID '{first}' is also in row 27",
        **same,
        "row 27": f"objID '{first}' is also in row 1",
        "row 28": "the same as row 1 in every column",
    }
    assert "rows that repeat another one in every column count once: 3" in caplog.text
    assert (
        f"column 'objID': 2 rows share their identifier with another one: "
        f"'{first}'; all are left out; [catalog] duplicates = \"first\" keeps the first row of each"
    ) in caplog.text
    galaxies = load(galaxy_folder, catalog={"duplicates": "first"})
    assert galaxies.objid.tolist() == table["objID"].tolist()
    assert galaxies.redshift[0] == table["z"][0]
    assert galaxies.rejected["row 27"] == f"objID '{first}' is already in row 1"


def write_classes(path, objid, kinds):
    """Write identifiers and classes in any format."""
    table = pd.DataFrame({"objID": objid, "kind": kinds})
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".tsv":
        table.to_csv(path, index=False, sep="\t")
    else:
        form = {".dat": "ascii.basic", ".vot": "votable", ".mrt": "ascii.mrt"}.get(path.suffix)
        Table.from_pandas(table).write(path, **({"format": form} if form else {}))


@pytest.mark.parametrize(
    "suffix", [".csv", ".tsv", ".dat", ".mrt", ".parquet", ".fits", ".ecsv", ".vot"]
)
def test_classes_are_text_in_every_format(galaxy_folder, suffix):
    """'None' is a class, '01' keeps its zero, and 'true' its case."""
    objid = load(galaxy_folder).objid.tolist()
    path = galaxy_folder / f"kinds{suffix}"
    write_classes(path, objid, ["None", "01", "true", "1e5"] * 6)
    settings = load_settings({"classes": {"column": "kind"}}, {("catalog", "path"): path})
    galaxies = load_galaxies(settings)
    assert galaxies.class_counts == {"01": 6, "1e5": 6, "None": 6, "true": 6}
    assert [galaxies.class_names[label] for label in galaxies.label[:4]] == [
        *("None", "01", "true", "1e5")
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits", ".ecsv", ".vot"])
def test_whole_numbers_are_classes_with_or_without_a_point(galaxy_folder, suffix):
    """pandas writes 0.0 and 1.0 where a cell is empty; 0.5 is no class."""
    objid = load(galaxy_folder).objid.tolist()
    path = galaxy_folder / f"kinds{suffix}"
    settings = load_settings({"classes": {"column": "kind"}}, {("catalog", "path"): path})
    write_classes(path, objid, [0.0, 1.0, np.nan, 1.0] * 6)
    galaxies = load_galaxies(settings)
    assert galaxies.class_counts == {"0": 6, "1": 12}
    assert set(galaxies.rejected.values()) == {"no kind"}
    path.unlink()
    write_classes(path, objid, [0.0, 1.0, 0.5, np.nan] * 6)
    with pytest.raises(CatalogError, match="column 'kind' holds numbers, expected classes as text"):
        load_galaxies(settings)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits", ".ecsv", ".vot"])
def test_whole_numbers_are_identifiers_below_2_to_the_53(galaxy_folder, suffix):
    """No digit of 7839.0 is lost; at 2^53, one may be."""
    for index, path in enumerate(load(galaxy_folder).paths):
        path.rename(path.with_name(f"{7839 + index}.jpg"))
    numbers = 7839.0 + np.arange(24)
    path = galaxy_folder / f"kinds{suffix}"
    settings = load_settings({"classes": {"column": "kind"}}, {("catalog", "path"): path})
    write_classes(path, numbers, ["E", "S"] * 12)
    assert load_galaxies(settings).objid.tolist() == [str(7839 + index) for index in range(24)]
    path.unlink()
    write_classes(path, numbers + 2.0**53, ["E", "S"] * 12)
    with pytest.raises(CatalogError, match=r"floating-point numbers|looks rounded by a spreadsh"):
        load_galaxies(settings)


def test_the_largest_of_several_columns_gives_the_class(galaxy_folder):
    """Ties, votes below the threshold and rows without any are left out with their reason."""
    table = read_catalog(galaxy_folder)
    table["smooth"] = [0.9, 0.2, 0.5, np.nan, 0.55, np.nan] * 4
    table["disc"] = [0.1, 0.8, 0.5, np.nan, 0.45, 0.9] * 4
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    classes = {"columns": ["smooth", "disc"]}
    galaxies = load(galaxy_folder, classes=classes)
    assert galaxies.class_names == ("smooth", "disc")
    assert galaxies.label.tolist() == [0, 1, 0, 1] * 4
    assert set(galaxies.rejected.values()) == {
        "no single largest value, 0.5 is there more than once",
        "no smooth, disc",
    }
    galaxies = load(galaxy_folder, classes={**classes, "threshold": 0.6})
    assert galaxies.label.tolist() == [0, 1, 1] * 4
    assert "smooth = 0.55, below the threshold 0.6" in galaxies.rejected.values()
    labels = {**classes, "labels": ["round", "flat"], "keep": ["flat", "round"]}
    assert load(galaxy_folder, classes=labels).label.tolist() == [1, 0, 1, 0] * 4
    with pytest.raises(CatalogError, match=r"no column 'bar', expected by \[classes\] columns"):
        load(galaxy_folder, classes={"columns": ["smooth", "bar"]})


def test_a_cell_that_is_no_number_costs_its_galaxy(galaxy_folder, caplog):
    """In the column of the classes; in that of the redshift, it is unknown and counted."""
    table = read_catalog(galaxy_folder).astype({"oh_p50": object, "z": object})
    table.loc[3, "oh_p50"] = "8.9?"
    table.loc[4, "z"] = "high"
    table.loc[5:8, "z"] = [99, 9999, -0.05, -0.484]
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    galaxies = load(galaxy_folder)
    assert galaxies.rejected == {table["objID"][3]: "oh_p50 = '8.9?', expected a number"}
    assert np.flatnonzero(np.isnan(galaxies.redshift)).tolist() == [3, 4, 5, 6, 7]
    assert "5 redshifts are below -0.01, above 20 or not numbers" in caplog.text
    assert "first: 'high' in row 5" in caplog.text
    table["z"] = "high"
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    with pytest.raises(CatalogError, match="row 1, column 'z': 'high', expected a number"):
        load(galaxy_folder)


def part(folder, **rows):
    """Write parts of the catalog of a folder, by name of the file."""
    table = read_catalog(folder)
    for name, chosen in rows.items():
        table.iloc[chosen].to_csv(folder / f"{name}.csv", index=False)


def test_a_test_set_may_have_a_catalog_of_its_own(galaxy_folder):
    """The others are split as before; no galaxy of the test trains the network."""
    part(galaxy_folder, rest=slice(0, 18), held=slice(18, 24))
    catalog = {"path": str(galaxy_folder / "rest.csv")}
    settings = load_settings(
        {"catalog": catalog, "split": {"test": str(galaxy_folder / "held.csv")}}
    )
    galaxies = load_galaxies(settings)
    assert galaxies.split[18:].tolist() == ["test"] * 6
    alone = load_galaxies(load_settings({"catalog": catalog}))
    assert galaxies.split[:18].tolist() == alone.split.tolist()
    assert galaxies.objid.tolist() == load(galaxy_folder).objid.tolist()
    assert galaxies.catalog_sha256 != alone.catalog_sha256
    # A galaxy that is in both catalogs, with other words beside it, is in neither set.
    table = pd.read_csv(galaxy_folder / "held.csv", dtype={"objID": str})
    table.loc[0, "objID"] = galaxies.objid[0]
    table.to_csv(galaxy_folder / "held.csv", index=False)
    found = load_galaxies(settings)
    assert galaxies.objid[0] not in found.objid
    assert f"objID '{galaxies.objid[0]}' is also in row 1 of held.csv" in found.rejected.values()
    assert list(found.rejected) == ["row 1 of rest.csv", "row 1 of held.csv"]


def test_files_of_one_name_are_told_apart(galaxy_folder):
    """By the split that they say: no row that is left out hides another."""
    part(galaxy_folder, a=slice(0, 18), b=slice(18, 24))
    files = {}
    for split, name in (("train", "a"), ("test", "b")):
        table = pd.read_csv(galaxy_folder / f"{name}.csv", dtype={"objID": str})
        table.loc[0, "objID"] = ""
        table["note"] = 7 if split == "train" else "seven"
        (galaxy_folder / split).mkdir()
        files[split] = str(galaxy_folder / split / "catalog.csv")
        table.to_csv(files[split], index=False)
    catalog = {"images_dir": str(galaxy_folder)}
    galaxies = load_galaxies(load_settings({"catalog": catalog, "split": {"files": files}}))
    assert list(galaxies.rejected) == [
        "row 1 of train: catalog.csv",
        "row 1 of test: catalog.csv",
    ]
    assert len(galaxies) == 22
    assert set(galaxies.table["note"].astype(str)) == {"7", "seven"}


def test_numbers_that_one_file_lacks_keep_their_digits(galaxy_folder):
    """A column of 64-bit integers in one file only is not rounded by the gap in the other."""
    part(galaxy_folder, a=slice(0, 18), b=slice(18, 24))
    files = {}
    for split, name in (("train", "a"), ("test", "b")):
        table = pd.read_csv(galaxy_folder / f"{name}.csv", dtype={"objID": str})
        if split == "train":
            table["specObjID"] = np.int64(1237665024900858129)
        files[split] = str(galaxy_folder / f"{name}.fits")
        Table.from_pandas(table).write(files[split])
    galaxies = load_galaxies(load_settings({"split": {"files": files}}))
    assert galaxies.table["specObjID"].tolist()[:18] == [1237665024900858129] * 18
    assert galaxies.table["specObjID"].isna().tolist() == [False] * 18 + [True] * 6


def test_each_split_may_have_a_file(galaxy_folder):
    """Without one for the validation, that is drawn from the file of the training."""
    part(galaxy_folder, a=slice(0, 12), b=slice(12, 18), c=slice(18, 24))
    files = {word: str(galaxy_folder / f"{name}.csv") for word, name in
             (("train", "a"), ("valid", "b"), ("test", "c"))}  # fmt: skip
    galaxies = load_galaxies(load_settings({"split": {"files": files}}))
    assert galaxies.split.tolist() == ["train"] * 12 + ["valid"] * 6 + ["test"] * 6
    del files["valid"]
    galaxies = load_galaxies(load_settings({"split": {"files": files}}))
    assert sorted(galaxies.split[:12]) == ["train"] * 10 + ["valid"] * 2
    assert galaxies.split[12:].tolist() == ["test"] * 6


def test_a_table_of_a_file_is_another_catalog(galaxy_folder):
    """Its name is part of the path; the digest tells it from another table of the file."""
    objid = load(galaxy_folder).objid.tolist()
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(Table({"header": [1]}), name="HEAD")]
    for name, kinds in (("ONE", ["E", "S"]), ("TWO", ["S", "E"])):
        table = Table({"objID": [int(name) for name in objid], "kind": kinds * 12})
        hdus.append(fits.BinTableHDU(table, name=name))
    fits.HDUList(hdus).writeto(galaxy_folder / "cat.fits")
    found = []
    for chosen in ("ONE", "3"):
        path = galaxy_folder / f"cat.fits[{chosen}]"
        overrides = {("catalog", "path"): path, ("classes", "column"): "kind"}
        found.append(load_galaxies(load_settings(None, overrides)))
    assert found[0].label.tolist() == [0, 1] * 12
    assert found[1].label.tolist() == [1, 0] * 12
    assert found[0].catalog_sha256 != found[1].catalog_sha256
    assert found[0].settings.record()["catalog"]["path"] == "cat.fits[ONE]"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_of_the_settings_are_read_unasked(galaxy_folder, suffix):
    """What classes, split, images and redshifts need, and nothing else but what is asked for."""
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    table = table.assign(name=table["objID"], use="train", simulated=True, mag=1.5, ra=2.5)
    table = table.assign(scale=0.4)
    table.loc[:3, "use"] = "valid"
    path = galaxy_folder / f"catalog{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    catalog = {"path": str(path), "images": "images/{name}.jpg", "pixel_scale": "scale"}
    split = {"column": "use"}
    whole = load_galaxies(load_settings({"catalog": catalog, "split": split}))
    needed = {"objID", "z", "oh_p50", "name", "use", "simulated", "scale"}
    for asked in ([], ["ra"]):
        settings = {"catalog": {**catalog, "columns": asked}, "split": split}
        few = load_galaxies(load_settings(settings))
        assert set(few.table) == needed | set(asked)
        assert few.simulated
        for name in ("objid", "redshift", "value", "label", "split", "pixel_scale"):
            np.testing.assert_array_equal(getattr(few, name), getattr(whole, name))
        assert tuple(few.paths) == tuple(whole.paths)
        assert few.catalog_sha256 == whole.catalog_sha256
        pd.testing.assert_frame_equal(few.table, whole.table[list(few.table)])
