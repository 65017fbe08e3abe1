"""Making a gallery: whole or absent, never in place of anybody's files, light, the same twice."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from galleries import read_core

import galfig
from galfig.cli import main
from galfig.errors import FigureError, GalfigError, OutputError, SelectionError, StoreError
from galfig.gallery import main as making
from galfig.gallery.main import make_gallery, write_gallery
from galfig.pipeline.supply import Sources
from galfig.store.reader import open_store
from galfig.store.selection import Query


def read_meta(folder):
    return read_core(folder)[0]


def read_all(folder):
    """Return the bytes of every file of a folder by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_two_runs_give_the_same_bytes(store_path, tmp_path):
    """Nothing depends on the time or the folder."""
    for name in ("a", "b"):
        make_gallery(store_path, tmp_path / name)
    first, second = read_all(tmp_path / "a"), read_all(tmp_path / "b")
    assert first == second
    assert str(tmp_path).encode() not in b"".join(first.values())
    assert {"index.html", "gallery.css", "grid.js", "data/core.js", "scale.png"} <= set(first)


def test_a_gallery_is_light(make_store, tmp_path):
    """Less than 3 kB a galaxy: cutout, two maps and evidence of 96 pixels, and the numbers."""
    y, x = np.mgrid[:12, :12]
    centers = np.random.default_rng(0).uniform(2, 9, (256, 2, 2))
    cams = [[np.exp(-((x - a) ** 2 + (y - b) ** 2) / 6) for a, b in pair] for pair in centers]
    path = make_store(n=256, size=96, map_size=12, cams=np.array(cams, np.float32) - 0.1)
    page = make_gallery(path, tmp_path / "g")
    weight = sum(map(len, read_all(page.parent).values()))
    assert 500 * 256 < weight < 3000 * 256


def test_the_face_and_the_command_make_the_same(store_path, tmp_path, monkeypatch):
    """With the galaxies of a query, in its order."""
    monkeypatch.chdir(tmp_path)
    options = ["--true", "high", "--sort", "loss", "--n", "4", "--thumbnail", "16"]
    found = CliRunner().invoke(main, ["gallery", "maps.h5", *options, "--out", "a", "-q"])
    assert (found.exit_code, found.stdout) == (0, "a/index.html\n"), found.output
    with open_store(store_path) as store:
        rows = store.select(true="high", sort="loss", n=4)
        page = galfig.make_gallery(store, "b", rows, thumbnail=16)
        assert page.read_bytes() == (tmp_path / "a" / "index.html").read_bytes()
        assert read_all(tmp_path / "a") == read_all(tmp_path / "b")
        values = read_core(tmp_path / "a")[1]
        assert values["objid"] == store.objids(rows).tolist()
    assert read_meta(tmp_path / "a")["sort"] == "loss"


def test_galaxies_that_trained_are_left_out_unless_asked_for(make_store, tmp_path):
    """As in figures, and the page says so."""
    split = np.array(["train", "valid"] * 6, dtype=object)
    path = make_store(split=split)
    make_gallery(path, tmp_path / "a")
    assert read_meta(tmp_path / "a")["n"] == 6
    legend = " ".join(read_meta(tmp_path / "a")["legend"])
    assert "6 simulated galaxies of the validation set" in legend
    assert "6 galaxies of the store that trained the network are not shown" in legend
    write_gallery(path, Query(n=None, split="all"), tmp_path / "b")
    assert read_meta(tmp_path / "b")["n"] == 12


def test_the_legend_says_what_is_shown(store_path, tmp_path):
    """Method, layer, network, scale, what colour means, and that brightness is not the answer."""
    make_gallery(store_path, tmp_path / "g")
    meta = read_meta(tmp_path / "g")
    legend = " ".join(meta["legend"])
    for words in (
        "Grad-CAM maps",
        "layer conv3",
        "one linear colour scale per galaxy, which its maps share, from zero",
        "those of two galaxies cannot",
        "brightness of a map is not",
        "the brightest pixel is not on the map of the predicted class",
        "less that of low-metallicity",
        "orange speaks for high-metallicity, blue",
        "All images and labels are simulated",
    ):
        assert words in legend, words
    assert meta["provenance"]["store"]["plan_digest"] == "digest"
    assert meta["sky"] is None
    # One name of a class wherever the page writes it.
    assert meta["classes"] == ["low-metallicity", "high-metallicity"]
    assert meta["title"].endswith("for low-metallicity and high-metallicity")
    assert "classNames" not in meta


def test_how_often_the_brightest_map_deceives_is_counted(make_store, tmp_path):
    """By hand: two of four galaxies are brightest for the class that is not predicted."""
    logits = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    cams = np.zeros((4, 2, 8, 8), np.float32)
    cams[:, :, 2, 2] = [[2, 1], [1, 2], [2, 1], [1, 2]]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    path = make_store(n=4, size=16, map_size=8, logits=logits, probs=probs, cams=cams)
    make_gallery(path, tmp_path / "g")
    assert "In 2 of 4 galaxies, the brightest pixel" in " ".join(
        read_meta(tmp_path / "g")["legend"]
    )


def test_only_maps_beside_that_of_the_prediction_are_counted(make_store, tmp_path):
    """Where the map of the predicted class is not shown, the brightest says nothing of it."""
    logits = np.eye(4, 3, dtype=np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cams = np.ones((4, 3, 8, 8), np.float32) * np.array([1, 2, 3], np.float32)[:, None, None]
    options = {"class_names": tuple("abc"), "logits": logits, "probs": probs, "cams": cams}
    path = make_store(n=4, size=16, map_size=8, quantity="", **options)
    make_gallery(path, tmp_path / "g", classes=["a", "b"])
    legend = " ".join(read_meta(tmp_path / "g")["legend"])
    # Predicted are a, b, c and, of equal logits, a; b is the brighter one of those shown.
    assert (
        "In 2 of the 3 galaxies with the map of the predicted class beside another, the "
        "brightest pixel is not on"
    ) in legend
    make_gallery(path, tmp_path / "one", classes=["a"])
    assert "brightest pixel" not in " ".join(read_meta(tmp_path / "one")["legend"])


def test_many_classes_show_two_maps(make_store, tmp_path):
    """Of the true and the predicted class, or the next; chosen classes are shown of all."""
    names = tuple("abcdefg")
    path = make_store(class_names=names, n=14)
    make_gallery(path, tmp_path / "g")
    meta, values = read_core(tmp_path / "g")
    assert meta["sheets"]["slots"] == ["cutout", "map-0", "map-1", "evidence"]
    np.testing.assert_array_equal(values["shown.0"], values["predicted"])
    make_gallery(path, tmp_path / "h", classes=["c,a,g"])
    assert read_meta(tmp_path / "h")["sheets"]["slots"][1:4] == ["map-0", "map-1", "map-2"]
    with pytest.raises(FigureError, match="not a class"):
        make_gallery(path, tmp_path / "i", classes=["x"])
    assert not (tmp_path / "i").exists()


def test_methods_without_evidence_have_no_signed_map(make_store, tmp_path):
    """The difference of two such maps is not the map of a difference."""
    make_gallery(make_store(attrs={"method": "layer-cam"}), tmp_path / "g")
    meta = read_meta(tmp_path / "g")
    assert "evidence" not in meta["sheets"]["slots"]
    assert "Evidence is" not in " ".join(meta["legend"])


def test_small_stores_are_made_whole_again(forms, tmp_path):
    """From the images and the network: of statistics, the same bytes as from a full store."""
    made = {}
    for form in ("full", "native", "statistics"):
        sources = Sources((forms / "model.safetensors",), forms / "galaxies")
        query = Query(n=None, split="all")
        write_gallery(forms / f"{form}.h5", query, tmp_path / form, opener=sources.open)
        made[form] = read_all(tmp_path / form / "sheets")
    assert made["statistics"] == made["full"]
    assert made["native"].keys() == made["full"].keys()
    cutouts = [name for name in made["full"] if "cutout" in name]
    assert cutouts
    assert all(made["native"][name] == made["full"][name] for name in cutouts)


def test_a_store_without_maps_is_refused_in_a_line(forms, tmp_path):
    """Where nothing makes them again; nothing is left behind."""
    with pytest.raises(StoreError, match="holds no cutouts") as caught:
        make_gallery(forms / "statistics.h5", tmp_path / "g")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_gallery_is_replaced_only_by_request(store_path, tmp_path):
    """The new one has nothing of the old one."""
    out = tmp_path / "g"
    make_gallery(store_path, out)
    before = read_all(out)
    with pytest.raises(OutputError, match=r'use `if_exists="replace"`'):
        make_gallery(store_path, out)
    (out / "sheets" / "00009-cutout.webp").write_bytes(b"old")
    make_gallery(store_path, out, if_exists="replace")
    assert read_all(out) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["thesis.tex", "index.html", "sheets/holiday.jpg"])
def test_no_other_folder_is_ever_replaced(store_path, tmp_path, name):
    """Whatever is asked for, and even if it has some of the names of a gallery."""
    out = tmp_path / "g"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(OutputError, match="which galfig did not write there"):
        make_gallery(store_path, out, if_exists="replace")
    assert (out / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["notes.txt", "sheets/mine.webp", "data/catalog-1.csv"])
def test_a_file_of_ones_own_in_a_gallery_is_kept(store_path, tmp_path, name):
    """It would be lost with the folder."""
    make_gallery(store_path, tmp_path / "g")
    (tmp_path / "g" / name).write_text("mine")
    with pytest.raises(OutputError, match=f"holds {name!r}"):
        make_gallery(store_path, tmp_path / "g", if_exists="replace")
    assert (tmp_path / "g" / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["picks.js", "sheets/00000-cutout.webp"])
def test_a_folder_by_the_name_of_a_file_is_kept(store_path, tmp_path, name):
    """It may hold anything."""
    make_gallery(store_path, tmp_path / "g")
    path = tmp_path / "g" / name
    path.unlink()
    path.mkdir()
    (path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match=f"holds {name!r}"):
        make_gallery(store_path, tmp_path / "g", if_exists="replace")
    assert (path / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("is_link", [False, True])
def test_a_file_or_link_by_the_name_of_a_folder_is_kept(store_path, tmp_path, is_link):
    """A gallery has folders there."""
    make_gallery(store_path, tmp_path / "g")
    path = tmp_path / "g" / "sheets"
    if is_link:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to("../elsewhere")
    else:
        shutil.rmtree(path)
        path.write_text("mine")
    with pytest.raises(OutputError, match="holds 'sheets'"):
        make_gallery(store_path, tmp_path / "g", if_exists="replace")
    assert path.is_symlink() if is_link else path.read_text() == "mine"


def test_a_site_with_the_names_of_a_gallery_is_kept(store_path, tmp_path):
    """What says that a folder is a gallery stands in its data."""
    site = tmp_path / "site"
    (site / "data").mkdir(parents=True)
    for name in ("index.html", "main.js", "data/core.js"):
        (site / name).write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'data/core\.js', which galfig did not write"):
        make_gallery(store_path, site, if_exists="replace")
    assert {name: len(data) for name, data in read_all(site).items()} == {
        "index.html": 4,
        "main.js": 4,
        "data/core.js": 4,
    }


def test_a_failure_leaves_the_old_gallery(store_path, tmp_path, monkeypatch):
    """And nothing half-written beside it."""
    out = tmp_path / "g"
    make_gallery(store_path, out)
    before = read_all(out)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making, "write_script", fail)
    with pytest.raises(OutputError, match="No space left"):
        make_gallery(store_path, out, if_exists="replace")
    assert read_all(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g", "maps.h5"]


def test_an_empty_folder_and_a_link_to_one_are_taken(store_path, tmp_path):
    """A link stays one: it may lead to a larger disk."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    page = make_gallery(store_path, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert page.is_file()
    assert (tmp_path / "real" / "index.html").is_file()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"thumbnail": 8}, FigureError, "`thumbnail` 8: expected 16 to 512"),
        ({"quality": 0}, FigureError, "`quality` 0: expected 1 to 100"),
        ({"style": {"cmap": "infreno"}}, FigureError, "did you mean 'inferno'"),
        ({"rows": []}, FigureError, "hold no galaxy"),
        ({"rows": ["nobody"]}, SelectionError, "no galaxy 'nobody'"),
    ],
)
def test_what_cannot_be_made_is_named(store_path, tmp_path, options, error, words):
    """Before anything is written."""
    with pytest.raises(error, match=words):
        make_gallery(store_path, tmp_path / "g", **options)
    assert not (tmp_path / "g").exists()


def test_more_galaxies_than_a_page_can_scroll_are_refused(store_path, tmp_path, monkeypatch):
    """In one line that says what to do."""
    monkeypatch.setattr(making, "MAX_GALAXIES", 11)
    with pytest.raises(FigureError, match="12 galaxies, expected at most 11 on one page; choose"):
        make_gallery(store_path, tmp_path / "g")


def test_a_file_in_the_way_is_named(store_path, tmp_path):
    """The store itself, for example."""
    with pytest.raises(GalfigError, match="is no folder"):
        make_gallery(store_path, store_path, if_exists="replace")
    assert open_store(store_path).class_names == ("low", "high")


def test_the_page_is_the_same_for_all_stores(store_path, tmp_path):
    """All that is of a store lies in data, as JSON that other programs read, too."""
    make_gallery(store_path, tmp_path / "g")
    page = (tmp_path / "g" / "index.html").read_text()
    assert "maps.h5" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert json.dumps(read_meta(tmp_path / "g"))
