"""Templates of image paths: what they name, and what they are not led to."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from galfig.catalog.paths import fill_template, locate_images, parse_template, parse_templates
from galfig.config import CatalogSettings
from galfig.errors import CatalogError
from galfig.images.sources import BandFiles


@pytest.fixture
def folder(tmp_path):
    """A folder of empty files: nothing here is decoded."""
    for name in ("J084/J0842.png", "J085/J0853.png", "a.PNG", "b.jpg", "b.fits.gz", "c_g.fits"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "images" / "c_r.fits").touch()
    (tmp_path / "secret.png").touch()
    return tmp_path


def locate(folder, template, **columns):
    table = pd.DataFrame(columns)
    templates = [parse_template(template)]
    is_used = np.ones(len(table), dtype=bool)
    sources, reasons = locate_images(table, templates, folder, folder / "cat.csv", is_used)
    return list(sources), reasons


def test_paths_of_a_column_and_of_parts_of_it(folder):
    """A path below the folder, the first letters of a name, and a number filled up with zeros."""
    names = ["J0842", "J0853"]
    expected = [folder / "images/J084/J0842.png", folder / "images/J085/J0853.png"]
    files = ["J084/J0842.png", "./J085//J0853.png"]
    assert locate(folder, "images/{loc}", loc=files) == (expected, {})
    assert locate(folder, "{loc}", loc=[f"images/{file}" for file in files]) == (expected, {})
    assert locate(folder, "images/{n[:4]}/{n}.png", n=names) == (expected, {})
    assert locate(folder, "images/J{a:03}/{n}.png", n=names, a=[84, 85]) == (expected, {})
    absolute = [f"/disk/of/another/{file}" for file in files]
    assert locate(folder, "images/{loc[17:]}", loc=absolute) == (expected, {})


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("../secret.png", "leads out of the folder"),
        ("J084/../../secret.png", "leads out of the folder"),
        ("/etc/passwd", "is an absolute path"),
        (r"C:\data\a.png", "is an absolute path"),
        (r"J084\J0842.png", "holds '"),
        ("link/secret.png", "leads out of the folder"),
        ("J084/link.png", "leads out of the folder"),
        ("J084/", "names a folder"),
        ("", "no loc"),
        ("x" * 300, "longer than a path"),
        ("a\u200bb.png", "invisible"),
    ],
)
def test_a_cell_that_leads_elsewhere_leaves_its_row_out(folder, cell, reason):
    """Whoever wrote the table cannot name files outside the folder, by links either."""
    (folder / "images" / "link").symlink_to(folder, target_is_directory=True)
    (folder / "images" / "J084" / "link.png").symlink_to(folder / "secret.png")
    found, reasons = locate(folder, "images/{loc}", loc=[cell, "b.jpg"])
    assert list(reasons) == [0]
    assert reason in reasons[0]
    assert found[1] == folder / "images/b.jpg"


def test_slices_cannot_be_put_together_to_leave_the_folder(folder):
    """Two harmless cells make '..' together, and a slice of one does."""
    for template, columns in [
        ("images/{a}{b}/secret.png", {"a": ["."], "b": ["."]}),
        ("images/{a[:2]}/secret.png", {"a": ["..x"]}),
    ]:
        names, reasons = fill_template(
            pd.DataFrame(columns), parse_template(template), folder / "cat.csv"
        )
        assert names.to_pylist() == [""]
        assert "leads out of the folder" in reasons[0]


def test_a_folder_of_the_settings_may_be_a_link(folder):
    """Images often lie on another disk: the owner's own words are followed, and files there."""
    (folder / "elsewhere").symlink_to(folder / "images", target_is_directory=True)
    (folder / "images" / "d.png").symlink_to(folder / "secret.png")
    names = ["J084/J0842.png", "d.png"]
    assert locate(folder, "elsewhere/{loc}", loc=names)[1] == {}


def test_any_suffix(folder):
    """One file of a known suffix, in any case; two are no answer, and none says so."""
    found, reasons = locate(folder, "images/{n}.*", n=["a", "b", "nothing"])
    assert found[0] == folder / "images/a.PNG"
    assert reasons == {
        1: "2 images images/b.*, expected one: b.fits.gz, b.jpg",
        2: "no images images/nothing.*",
    }


def test_what_is_there_instead_is_named(folder):
    """A single row says it as its reason; where all rows lack the image, the template is wrong."""
    _, reasons = locate(folder, "images/{n}.jpg", n=["a", "b"])
    assert reasons == {0: "no image images/a.jpg; a.PNG is there"}
    with pytest.raises(CatalogError, match=r"a\.PNG is there; set .* images = 'images/{n}\.PNG'"):
        locate(folder, "images/{n}.jpg", n=["a"])
    with pytest.raises(CatalogError, match=r"b\.jpg is there; set .* images = 'images/{n}'"):
        locate(folder, "images/{n}.png", n=["b.jpg"])
    with pytest.raises(CatalogError, match=r"no images found, expected files such as a\.jpg"):
        locate(folder, "nowhere/{n}.jpg", n=["a"])


def test_a_file_per_band(folder):
    """All files of a galaxy make one image, and each must be there."""
    catalog = CatalogSettings(bands=("images/{n}_r.fits", "images/{n}_g.fits"))
    table = pd.DataFrame({"n": ["c", "d"]})
    found, reasons = locate_images(
        table, parse_templates(catalog), folder, folder / "cat.csv", np.ones(2, dtype=bool)
    )
    assert found[0] == BandFiles((folder / "images/c_r.fits", folder / "images/c_g.fits"))
    assert reasons == {1: "no image images/d_r.fits"}


@pytest.mark.parametrize("words", ["{a:x}.png", "{a!r}", "{}", "{a", "a.png", "{a:0}"])
def test_what_is_no_template(words):
    """The message says what a template may hold."""
    with pytest.raises(CatalogError, match="template"):
        parse_template(words)


_CELLS = [
    *("J0842", "a", "a.b", "a..b", "..", ".", "", "a/b", "a//b", "/a", "a/", "./a", "a/../b"),
    *(" a ", "-7", "+7", "7", "12.0", "a b", "é", "\u200b", "C:\\x", "C:/x", "*", "a.*"),
    *("x" * 254, "x" * 300, "NA", ".hidden", "\t", "a\n", "1e5", "ABCDEFGHIJ/KLM.png"),
]


@pytest.mark.parametrize(
    "words",
    [
        *(
            "images/{n}.jpg",
            "{n}",
            "{n}.*",
            "../{n}.png",
            "/data/x/{n}.png",
            "//x/{n}",
            "./{n}.png",
        ),
        *("a/{n[:2]}/{n}.png", "{n[-3:]}.png", "{n[1:]}", "{n[2:-1]}.png", "{n:06}.png"),
        *("{n:06}/{m}.png", "a/{n}/../{m}", "{n}{m}.jpg", "x/{n[0:0]}.png", "a/./b/{n}"),
    ],
)
def test_paths_at_once_are_those_of_row_by_row(words, tmp_path):
    """Whatever a cell holds, filling all rows at once says what each row by itself says."""
    cells = [(n, m) for n in _CELLS for m in ("b", "..", "c/d")]
    table = pd.DataFrame(cells, columns=["n", "m"], dtype="string")
    template = parse_template(words)
    names, reasons = fill_template(table, template, tmp_path / "cat.csv")
    # Objects are read row by row.
    expected = fill_template(table.astype(object), template, tmp_path / "cat.csv")
    assert (names.to_pylist(), reasons) == (expected[0].to_pylist(), expected[1])
    for n_rows in (1, 7):
        # What a column holds elsewhere may decide what a cell means.
        few = table.iloc[20 : 20 + n_rows]
        names, reasons = fill_template(few, template, tmp_path / "cat.csv")
        expected = fill_template(few.astype(object), template, tmp_path / "cat.csv")
        assert (names.to_pylist(), reasons) == (expected[0].to_pylist(), expected[1])


def test_floats_as_texts_name_images_without_their_point():
    """A spreadsheet wrote 17 as 17.0; beside a name it would be a name."""
    for others, expected in ((["", "NA"], "17.jpg"), (["a.b", ""], "17.0.jpg")):
        table = pd.DataFrame({"n": ["17.0", *others]}, dtype="string")
        names, _ = fill_template(table, parse_template("{n}.jpg"), Path("cat.csv"))
        assert names[0].as_py() == expected


def test_many_names_of_a_folder_are_found_as_few_are(folder):
    """A folder is asked for thousands of names at once; links in it are followed or not as ever."""
    (folder / "images" / "J084" / "out.png").symlink_to(folder / "secret.png")
    (folder / "images" / "J084" / "in.png").symlink_to(folder / "images" / "a.PNG")
    names = ["J0842", "out", "in", "lost", "J0842"]
    few = locate(folder, "images/{loc}", loc=[f"J084/{name}.png" for name in names])
    many = locate(folder, "images/{loc}", loc=[f"J084/{name}.png" for name in names] * 1000)
    assert few[1] == {
        1: "images/J084/out.png leads out of the folder of the images, expected a file below it",
        3: "no image images/J084/lost.png",
    }
    assert many[0] == few[0] * 1000
    assert many[1] == {5 * k + row: why for k in range(1000) for row, why in few[1].items()}
