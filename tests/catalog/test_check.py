"""What galfig understands of a catalog, and that it refuses what a job refuses, in its words."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from click.testing import CliRunner
from PIL import Image
from samples import FETCHED

import galfig
from galfig.catalog.check import check_catalog, check_settings, classify_reason
from galfig.catalog.galaxies import load_galaxies
from galfig.cli import main
from galfig.config import load_settings
from galfig.errors import CatalogError, ConfigError
from galfig.records import FETCH_FILE

TRAINING = {"training": {"cutout_size": 48}}


class StoppedError(Exception):
    """Raised in place of a training."""


def read(folder):
    return pd.read_csv(folder / "catalog.csv", dtype={"objID": str})


def edit(change):
    """Return what changes the table of a folder."""

    def run(folder):
        table = read(folder)
        found = change(table)
        (table if found is None else found).to_csv(folder / "catalog.csv", index=False)

    return run


def put(column, values):
    """Return what sets a column of the table."""
    return edit(lambda table: table.assign(**{column: values}))


def spoil_images(step):
    """Return what cuts some images short."""

    def run(folder):
        for path in sorted((folder / "images").iterdir())[::step]:
            path.write_bytes(path.read_bytes()[:200])

    return run


def take_blue_away(folder):
    for path in (folder / "images").iterdir():
        pixels = np.array(Image.open(path))
        pixels[..., 2] = 0
        Image.fromarray(pixels).save(path.with_suffix(".png"))
        path.unlink()


def write_other(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def to_floats(folder):
    table = read(folder)
    table["objID"] = table["objID"].astype(float)
    Table.from_pandas(table).write(folder / "catalog.fits")


PNG = {"catalog": {"images": "images/{objID}.png"}}
# What is done to 24 good galaxies, the settings, and further options.
BROKEN = {
    "nothing": (lambda folder: None, {}, []),
    "no file": (lambda folder: (folder / "catalog.csv").unlink(), {}, []),
    "a suffix that means nothing": (
        write_other("catalog.doc", b"objID\n1\n"),
        {"catalog": {"path": "catalog.doc"}},
        [],
    ),
    "a damaged file": (
        write_other("bad.fits", b"SIMPLE  = nonsense"),
        {"catalog": {"path": "bad.fits"}},
        [],
    ),
    "no rows": (edit(lambda table: table[:0]), {}, []),
    "no names of columns": (
        write_other("catalog.csv", b"12,0.1,9.2\n13,0.2,8.2\n14,0.1,9.2\n"),
        {},
        [],
    ),
    "no identifier": (edit(lambda table: table.rename(columns={"objID": "name"})), {}, []),
    "no class": (edit(lambda table: table.rename(columns={"oh_p50": "oh_p5O"})), {}, []),
    "no redshift, which is asked for": (
        edit(lambda table: table.drop(columns="z")),
        {"catalog": {"redshift": "z"}},
        [],
    ),
    "no redshift": (edit(lambda table: table.drop(columns="z")), {}, []),
    "no pixel scale": (lambda folder: None, {"catalog": {"pixel_scale": "scale"}}, []),
    "identifiers of a spreadsheet": (
        put("objID", [f"12376650249{i:02}000000" for i in range(24)]),
        {},
        [],
    ),
    "identifiers that are floats": (to_floats, {"catalog": {"path": "catalog.fits"}}, []),
    "identifiers that look rounded": (put("objID", ["1.23767E+18"] * 24), {}, []),
    "one identifier": (put("objID", ["1237665024900858129"] * 24), {}, []),
    "some identifiers twice": (edit(lambda table: pd.concat([table, table.assign(z=1)])), {}, []),
    "rows twice": (edit(lambda table: pd.concat([table, table])), {}, []),
    "an empty class": (edit(lambda table: table.drop(table.index[1::2])), {}, []),
    "classes that are words": (put("oh_p50", ["low", "high"] * 12), {}, []),
    "classes that are numbers": (
        lambda folder: None,
        {"classes": {"column": "oh_p50", "edges": []}},
        [],
    ),
    "values outside": (put("oh_p50", [1.0, 2.0] * 12), {}, []),
    "one class": (put("kind", ["disc"] * 24), {"classes": {"column": "kind"}}, []),
    "a class for each galaxy": (
        write_other(
            "many.csv",
            b"objID,kind\n" + b"".join(b"%d,kind %d\n" % (row, row) for row in range(33_000)),
        ),
        {"catalog": {"path": "many.csv"}, "classes": {"column": "kind"}},
        [],
    ),
    "a class that is not there": (
        put("kind", ["disc", "bar"] * 12),
        {"classes": {"column": "kind", "keep": ["disc", "ring"]}},
        [],
    ),
    "a class with an escape": (
        put("kind", ["disc", "\x1b[2J"] * 12),
        {"classes": {"column": "kind"}},
        [],
    ),
    "one galaxy of a class": (
        put("kind", ["disc"] * 23 + ["bar"]),
        {"classes": {"column": "kind"}},
        [],
    ),
    "no split": (lambda folder: None, {"split": {"column": "part"}}, []),
    "a split in other words": (put("part", ["yes", "no"] * 12), {"split": {"column": "part"}}, []),
    "nothing to validate": (put("part", ["train"] * 24), {"split": {"column": "part"}}, []),
    "a class that is not trained": (
        put("part", ["train", "valid"] * 12),
        {"split": {"column": "part"}},
        [],
    ),
    "a class that is not validated": (
        put("part", ["train"] * 22 + ["valid", "train"]),
        {"split": {"column": "part"}},
        [],
    ),
    "the same, which may be": (
        put("part", ["train"] * 22 + ["valid", "train"]),
        {"split": {"column": "part", "allow_missing": True}},
        [],
    ),
    "nothing of the test": (lambda folder: None, {}, ["--split", "test"]),
    "no images": (lambda folder: shutil.rmtree(folder / "images"), {}, []),
    "images elsewhere": (lambda folder: None, {}, ["--images", "elsewhere"]),
    "images of another suffix": (lambda folder: None, PNG, []),
    "images of no column": (lambda folder: None, {"catalog": {"images": "images/{name}.jpg"}}, []),
    "images of no template": (lambda folder: None, {"catalog": {"images": "images/a.jpg"}}, []),
    "no image of a class": (
        lambda folder: [path.unlink() for path in sorted((folder / "images").iterdir())[1::2]],
        {},
        [],
    ),
    "damaged images": (spoil_images(1), {}, []),
    "damaged images of a class": (spoil_images(2), {}, []),
    "a few damaged images": (spoil_images(7), {}, []),
    "no blue": (take_blue_away, PNG, []),
}
SOUND = {
    "nothing",
    "no redshift",
    "rows twice",
    "the same, which may be",
    "a few damaged images",
}


def write_settings(folder, tables):
    words = ""
    for name, table in {**TRAINING, **tables}.items():
        words += f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in table.items())
    (folder / "galfig.toml").write_text(words)


@pytest.mark.parametrize("kind", BROKEN)
def test_it_refuses_what_a_job_refuses(galaxy_folder, monkeypatch, kind):
    """And in the same words, up to the training; what it does not refuse gets as far as that."""
    spoil, tables, arguments = BROKEN[kind]
    catalog = {"path": "catalog.csv", **tables.get("catalog", {})}
    write_settings(galaxy_folder, {**tables, "catalog": catalog})
    spoil(galaxy_folder)
    monkeypatch.chdir(galaxy_folder)
    from galfig.networks import training
    from galfig.pipeline import plan

    measure = training.channel_statistics

    def stop(*args):
        measure(*args)
        raise StoppedError

    monkeypatch.setattr(training, "channel_statistics", stop)
    if "--split" in arguments:
        # It is refused after the training.
        found = check_catalog(split="test")
        galaxies = load_galaxies(load_settings(None))
        with pytest.raises(CatalogError) as caught:
            plan.check_split(galaxies, "test", found_path := load_settings(None).catalog_path)
        assert found.refusal == str(caught.value)
        assert found.refusal.startswith(f"{found_path}: no galaxy in split 'test'")
        return
    built = CliRunner().invoke(main, ["build-maps", "--quiet", *arguments])
    checked = CliRunner().invoke(main, ["catalog", "check", "--decode", "all", *arguments])
    *_, last = checked.stdout.splitlines()
    is_refused = not isinstance(built.exception, StoppedError)
    assert is_refused == (kind not in SOUND), built.output
    assert checked.exit_code == int(is_refused), checked.output
    if is_refused:
        assert built.exit_code == 1
        reason = built.stderr.removeprefix("galfig: error: ").rstrip("\n")
        assert last == f"build-maps would refuse this: {reason}"
    else:
        assert re.fullmatch(r"\d+ galax(y|ies) of 2 classes would be explained \(.*\); .*", last)


def test_a_good_catalog(galaxy_folder):
    """Columns with their roles, classes with their galaxies, images with their sizes."""
    check = check_catalog(galaxy_folder / "catalog.csv", settings=TRAINING)
    assert check.refusal == ""
    assert (check.format, check.n_rows, check.files) == ("CSV", 24, {"catalog.csv": 24})
    roles = {column.name: column.roles for column in check.columns}
    assert roles == {
        "objID": ("identifier", "image path"),
        "z": ("redshift",),
        "oh_p50": ("classes (binned)",),
    }
    objid, z, _ = check.columns
    assert (objid.kind, objid.n_distinct, objid.first[0]) == ("text", 24, "1237665024900858129")
    assert (z.kind, z.low, z.high, z.n_empty) == ("number", 0.02, 0.112, 0)
    numbers = [(one.name, one.n_rows, one.is_kept, one.n_used) for one in check.classes]
    assert numbers == [("low", 12, True, 12), ("medium", 0, False, None), ("high", 12, True, 12)]
    assert sum(one.n_valid or 0 for one in check.classes) == 5 == check.n_explained
    assert check.n_train == 24
    assert (check.images.n_wanted, check.images.n_found, check.images.n_shared) == (24, 24, 0)
    with Image.open(next((galaxy_folder / "images").iterdir())) as image:
        assert check.images.sizes == {f"{image.width} × {image.height}": 24}
    assert (check.redshift.n_known, check.redshift.n_unknown) == (24, 0)
    assert check.absent == check.left_out == ()
    assert repr(check).startswith("<CatalogCheck: 5 galaxies of 2 classes would be explained")
    assert json.loads(json.dumps(check.to_dict()))["n_explained"] == 5
    assert galfig.check_catalog is check_catalog


def test_it_counts_what_a_job_counts(galaxy_folder):
    """What is left out, by identifier and reason, is what loading leaves out."""
    table = read(galaxy_folder).astype({"oh_p50": object})
    table.loc[2, "objID"] = ""
    table.loc[3, "objID"] = table.loc[5, "objID"]
    table.loc[7, "oh_p50"] = 12.5
    table.loc[8, "oh_p50"] = "none"
    table.loc[[9, 10], "oh_p50"] = ""
    table.loc[[11, 12], "oh_p50"] = 8.8
    table.to_csv(galaxy_folder / "catalog.csv", index=False)
    (galaxy_folder / "images" / f"{table.loc[14, 'objID']}.jpg").unlink()
    settings = load_settings(TRAINING, {("catalog", "path"): galaxy_folder / "catalog.csv"})
    galaxies, check = load_galaxies(settings), check_settings(settings)
    assert check.n_left_out == len(galaxies.rejected) == 8
    assert check.n_other_classes == 2
    assert check.images.n_found == len(galaxies) == 24 - 8 - 2
    assert check.images.absent == (f"no image images/{table.loc[14, 'objID']}.jpg",)
    examples = {name: why for one in check.left_out for name, why in one.examples.items()}
    assert examples == galaxies.rejected
    assert {one.reason: one.n for one in check.left_out} == {
        "no oh_p50": 2,
        "objID … is also in another row": 2,
        "no objID": 1,
        "oh_p50 outside (8.1, 9.3]": 1,
        "oh_p50 = …, expected a number": 1,
        "no image": 1,
    }
    assert check.n_unusable == 3
    assert check.histogram.n_above == 1
    assert check.histogram.largest == 12.5


def test_a_catalog_that_is_refused_is_understood_as_far_as_it_goes(galaxy_folder):
    """Without the column of the identifiers, the others are there, with what may be meant."""
    table = read(galaxy_folder).rename(columns={"objID": "TARGETID", "z": "REDSHIFT"})
    table["kind"] = ["disc", "bar"] * 12
    table.drop(columns="oh_p50").to_csv(galaxy_folder / "catalog.csv", index=False)
    check = check_catalog(galaxy_folder / "catalog.csv")
    assert "no column 'objID'" in check.refusal
    assert [column.name for column in check.columns] == ["TARGETID", "REDSHIFT", "kind"]
    near = {one.name: (one.near, one.is_needed) for one in check.absent}
    assert near == {
        "objID": ("TARGETID", True),
        "oh_p50": ("kind", True),
        "z": ("REDSHIFT", False),
    }
    assert check.images is None
    assert check.classes == ()


def test_classes_are_counted_although_one_is_empty(galaxy_folder):
    """The histogram shows where the numbers are."""
    put("oh_p50", np.linspace(8.15, 8.65, 24))(galaxy_folder)
    check = check_catalog(galaxy_folder / "catalog.csv")
    assert "class 'high' is empty" in check.refusal
    assert [(one.name, one.n_rows) for one in check.classes] == [
        ("low", 24),
        ("medium", 0),
        ("high", 0),
    ]
    assert sum(check.histogram.counts[:6]) == 24
    assert check.histogram.classes == ("low",) * 6 + ("medium",) * 4 + ("high",) * 2


@pytest.mark.parametrize(
    ("edges", "bars"),
    [
        ([8.1, 8.7, 9.1, 9.3], [8.1, 8.2, 8.3, 8.4, 8.5, 8.6, 8.7, 8.8, 8.9, 9.0, 9.1, 9.2, 9.3]),
        ([-23, -20, -17], np.linspace(-23, -17, 11)),
        ([8.1234567, 8.7, 9.3], [8.1234567, 8.7, 9.3]),
        ([8, 8.001, 100], [8, 8.001, 100]),
    ],
    ids=["of one width", "whole numbers", "of many digits", "far apart"],
)
def test_bars_end_where_classes_do(galaxy_folder, edges, bars):
    """Each count is that of numpy for (a, b], and bars are of one width where that is possible."""
    values = np.random.default_rng(2).uniform(edges[0] - 1, edges[-1] + 1, 24)
    values[:3] = edges[:3]
    put("oh_p50", values)(galaxy_folder)
    labels = [f"bin {index}" for index in range(len(edges) - 1)]
    classes = {"column": "oh_p50", "edges": edges, "labels": labels}
    found = check_catalog(galaxy_folder / "catalog.csv", settings={"classes": classes}).histogram
    np.testing.assert_allclose(found.edges, bars, rtol=1e-12)
    assert set(edges) <= set(found.edges)
    written = read(galaxy_folder)["oh_p50"].to_numpy()
    expected = [
        int(np.sum((written > a) & (written <= b)))
        for a, b in zip(found.edges, found.edges[1:], strict=False)
    ]
    assert list(found.counts) == expected
    assert found.n_below == np.sum(written <= edges[0])
    assert sum(expected) + found.n_below + found.n_above == 24


def test_names_of_one_class_are_a_question(galaxy_folder):
    """Spelling, case and blanks."""
    put("kind", ["spiral", "Spiral", "spirals", "bar"] * 6)(galaxy_folder)
    check = check_catalog(galaxy_folder / "catalog.csv", settings={"classes": {"column": "kind"}})
    asked = [words for words in check.doubts if "one class?" in words]
    assert "'Spiral' and 'spiral': are these one class?" in asked
    assert "'spiral' and 'spirals': are these one class?" in asked
    assert not any("bar" in words for words in asked)


@pytest.mark.parametrize(
    ("ra", "dec", "doubt"),
    [
        (np.linspace(0, 359, 24), np.linspace(-80, 80, 24), ""),
        (np.linspace(0, 400, 24), np.zeros(24), "no degrees of the sky"),
        (np.linspace(0, 6.2, 24), np.linspace(-1.5, 1.5, 24), "are they radians?"),
        (["12:34:56"] * 24, ["+1:2:3"] * 24, "not numbers, expected degrees"),
    ],
    ids=["degrees", "outside", "radians", "sexagesimal"],
)
def test_positions_that_are_no_degrees(galaxy_folder, ra, dec, doubt):
    """They refuse nothing, and are doubted."""
    edit(lambda table: table.assign(RA=ra, Dec=dec))(galaxy_folder)
    check = check_catalog(galaxy_folder / "catalog.csv", settings=TRAINING)
    assert check.refusal == ""
    assert (check.positions.ra, check.positions.dec) == ("RA", "Dec")
    assert doubt in check.positions.doubt
    assert (check.positions.doubt in check.doubts) == bool(doubt)
    roles = {column.name: column.roles for column in check.columns}
    assert roles["RA"] == ("right ascension",)


def test_units_and_descriptions_are_those_of_the_table(galaxy_folder):
    """Of a VOTable, they are in its header."""
    table = Table.from_pandas(read(galaxy_folder))
    table["oh_p50"].unit, table["oh_p50"].description = "mag", "12 + log(O/H)"
    table.write(galaxy_folder / "catalog.vot", format="votable")
    check = check_catalog(galaxy_folder / "catalog.vot", settings=TRAINING)
    column = next(one for one in check.columns if one.name == "oh_p50")
    assert (column.unit, column.description) == ("mag", "12 + log(O/H)")
    assert check.format == "VOTable"


def test_damaged_images_are_found_where_they_are_decoded(galaxy_folder):
    """All, or a stated number; without, the headers alone are read."""
    spoil_images(5)(galaxy_folder)
    path = galaxy_folder / "catalog.csv"
    found = {n: check_catalog(path, settings=TRAINING, decode=n) for n in (0, 12, "all")}
    assert [check.images.n_decoded for check in found.values()] == [0, 12, 24]
    assert found[0].n_left_out == found[0].images.n_damaged == 0
    # Rows 0, 10 and 20 of 0, 2, 4 ... 20 and 23.
    assert found[12].images.n_damaged == 3
    assert found["all"].images.n_damaged == found["all"].n_left_out == 5
    (reason,) = found["all"].left_out
    assert reason.n == 5
    assert "images" not in reason.reason


def test_rows_may_share_an_image(galaxy_folder):
    """They are counted, by file."""
    table = read(galaxy_folder)
    put("file", [f"{table['objID'][index // 2]}.jpg" for index in range(24)])(galaxy_folder)
    settings = {"catalog": {"images": "images/{file}"}, **TRAINING}
    check = check_catalog(galaxy_folder / "catalog.csv", settings=settings)
    assert check.images.n_shared == 12


def test_a_network_that_is_there_needs_no_classes(galaxy_folder):
    """All galaxies are explained; the column of the classes is no loss."""
    edit(lambda table: table.drop(columns="oh_p50"))(galaxy_folder)
    path = galaxy_folder / "catalog.csv"
    assert "no column 'oh_p50'" in check_catalog(path).refusal
    check = check_catalog(path, labelled=False)
    assert (check.refusal, check.n_explained, check.n_train, check.split) == ("", 24, 0, "all")
    assert [(one.name, one.is_needed) for one in check.absent] == [("oh_p50", False)]
    spoil_images(1)(galaxy_folder)
    assert (
        "none of 24 galaxies could be explained"
        in check_catalog(path, labelled=False, decode="all").refusal
    )


def test_files_of_the_splits_are_counted(galaxy_folder):
    """Each with its rows; a galaxy of the test trains nothing."""
    table = read(galaxy_folder)
    table[:18].to_csv(galaxy_folder / "train.csv", index=False)
    table[18:].to_csv(galaxy_folder / "test.csv", index=False)
    (galaxy_folder / "galfig.toml").write_text(
        '[split]\nfiles = {train = "train.csv", test = "test.csv"}\n[training]\ncutout_size = 48\n'
    )
    check = check_catalog(settings=galaxy_folder / "galfig.toml", split="test")
    assert check.files == {"train.csv": 18, "test.csv": 6}
    assert (check.refusal, check.n_train, check.n_explained) == ("", 18, 6)


@pytest.mark.parametrize("decode", [-1, "some", True, 1.5])
def test_how_many_are_decoded_is_a_number(galaxy_folder, decode):
    """Or all."""
    with pytest.raises(ConfigError, match=r"^`decode` .*: expected a number of images, or 'all'$"):
        check_catalog(galaxy_folder / "catalog.csv", decode=decode)


def test_nothing_is_simulated_to_be_checked(tmp_path):
    """The built-in sample that is not there yet is no catalog, and none is made."""
    with pytest.raises(CatalogError, match="no such file, expected a catalog; it is the built-in"):
        check_catalog()
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("no image images/a b.jpg", "no image"),
        ("no images images/a.*", "no image"),
        ("2 images images/a.*, expected one: a.jpg, a.png", "several images, expected one"),
        ("no image images/a.jpg; a.png is there", "no image, but one with another suffix"),
        ("objID 'a, b' is also in row 3 of test.csv", "objID … is also in another row"),
        (
            "the same as row 3 of test.csv in every column",
            "the same as another row in every column",
        ),
        ("mass = -1e+30 outside (8, 10]", "mass outside (8, 10]"),
        ("smooth = 0.5, below the threshold 0.6", "smooth = …, below the threshold 0.6"),
        (
            "/a/images/b.jpg: 2 × 2 pixels, expected at least 8 on each side",
            "… pixels, expected at least 8 on each side",
        ),
        (
            "part = 'x', expected 'train', 'valid' or 'test'",
            "part = …, expected 'train', 'valid' or 'test'",
        ),
        (
            "../../x.jpg leads out of the folder of the images, expected a file below it",
            "a path leads out of the folder of the images, expected a file below it",
        ),
        ("no oh_p50", "no oh_p50"),
    ],
)
def test_reasons_of_one_kind_are_one(reason, kind):
    """What differs between galaxies is left out of it."""
    assert classify_reason(reason) == kind


def test_the_pixel_scale_is_said_with_its_source(galaxy_folder):
    """That of the settings, of a column, of the fetch, or none; and where the folder is from."""
    path = galaxy_folder / "catalog.csv"
    put("scale", [0.4, *[""] * 23])(galaxy_folder)

    def describe(**catalog):
        images = check_catalog(path, settings={"catalog": catalog, **TRAINING}).images
        return images.pixel_scale, images.origin

    unknown = "unknown, so that figures have no scale bar; see [catalog] pixel_scale"
    assert describe() == (unknown, "")
    assert describe(pixel_scale=0.25) == ("0.25 arcsec/pixel, by the settings", "")
    assert describe(pixel_scale="scale") == ("in column 'scale', known for 1 of 24", "")
    record = {**FETCHED, "pixel_scale": 0.396, "first": "2026-11-01", "last": "2026-11-02"}
    (galaxy_folder / FETCH_FILE).write_text(json.dumps(record), encoding="utf-8")
    scale, origin = describe()
    assert scale == "0.396 arcsec/pixel, as fetched"
    assert origin == (
        f"{record['release']} from {record['address']}, 2026-11-01 to 2026-11-02, north up and "
        "east to the left"
    )
    assert describe(pixel_scale=0.25) == ("0.25 arcsec/pixel, by the settings", origin)
    text = str(check_catalog(path, settings=TRAINING))
    assert "pixel scale: 0.396 arcsec/pixel, as fetched" in text
    assert "fetched: " in text
