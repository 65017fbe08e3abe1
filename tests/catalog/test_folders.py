"""Folders as classes: the catalog that they make, and what is not in it."""

import pytest

import galfig
from galfig.catalog.folders import catalog_from_folders
from galfig.catalog.formats import read_table
from galfig.errors import CatalogError, OutputError


def touch(folder, *names):
    """Make empty files, with the folders above them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_each_folder_is_a_class(tmp_path):
    """Identifiers are the names of the files; what is no image, or hidden, is not there."""
    images = tmp_path / "images"
    touch(images, "spiral/a.jpg", "spiral/b.PNG", "E/c.fits.gz", "E/notes.txt", "E/.d.jpg")
    touch(images, ".cache/x.jpg", "empty/readme.md")
    settings = catalog_from_folders(images, tmp_path / "catalog.csv")
    table = read_table(tmp_path / "catalog.csv", "objID")
    assert table["objID"].tolist() == ["c", "a", "b"]
    assert table["class"].tolist() == ["E", "spiral", "spiral"]
    galaxies = galfig.load_catalog(settings=settings)
    assert galaxies.class_names == ("E", "spiral")
    assert [path.name for path in galaxies.paths] == ["c.fits.gz", "a.jpg", "b.PNG"]
    assert all(path.is_file() for path in galaxies.paths)


def test_splits_may_stand_above_the_classes(tmp_path):
    """They are taken as they are; the same name in two of them makes two galaxies."""
    touch(tmp_path / "data", "train/E/1.png", "train/S/2.png", "Val/E/1.png", "Val/S/4.png")
    touch(tmp_path / "data", "test/E/5.png", "test/S/6.png")
    settings = catalog_from_folders(tmp_path / "data", tmp_path / "catalog.csv")
    galaxies = galfig.load_catalog(settings=settings)
    found = dict(zip(galaxies.objid, galaxies.split, strict=True))
    assert found == {
        **{"train_E_1": "train", "train_S_2": "train", "Val_E_1": "valid", "Val_S_4": "valid"},
        **{"test_E_5": "test", "test_S_6": "test"},
    }


def test_a_class_may_be_called_test(tmp_path):
    """Only where all folders are named like splits are they splits."""
    touch(tmp_path / "data", "test/1.png", "control/2.png")
    settings = catalog_from_folders(tmp_path / "data", tmp_path / "catalog.csv")
    assert "split" not in settings
    assert galfig.load_catalog(settings=settings).class_names == ("control", "test")


def test_names_become_unique_by_as_little_as_it_takes(tmp_path):
    """The class, then the split, then the suffix."""
    touch(tmp_path / "a", "E/1.png", "S/1.png")
    catalog_from_folders(tmp_path / "a", tmp_path / "a.csv")
    assert read_table(tmp_path / "a.csv", "objID")["objID"].tolist() == ["E_1", "S_1"]
    touch(tmp_path / "b", "E/1.png", "E/1.jpg", "S/2.png")
    catalog_from_folders(tmp_path / "b", tmp_path / "b.csv")
    names = read_table(tmp_path / "b.csv", "objID")["objID"].tolist()
    assert names == ["E_1.jpg", "E_1.png", "S_2"]


def test_images_elsewhere_are_counted(tmp_path, caplog):
    """Those above or below the folders of the classes, and those of names that cannot be used."""
    touch(tmp_path / "d", "E/1.png", "S/2.png", "3.png", "E/more/4.png", "S/a..b.png")
    catalog_from_folders(tmp_path / "d", tmp_path / "catalog.csv")
    assert len(read_table(tmp_path / "catalog.csv", "objID")) == 2
    assert "3 images are not directly in a folder of a class, and left out" in caplog.text


def test_links_to_folders_are_not_followed(tmp_path):
    """They may lead out of the folder, or in a circle."""
    touch(tmp_path / "elsewhere", "9.png")
    touch(tmp_path / "d", "E/1.png", "S/2.png")
    (tmp_path / "d" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d" / "E" / "circle").symlink_to(tmp_path / "d")
    catalog_from_folders(tmp_path / "d", tmp_path / "catalog.csv")
    assert read_table(tmp_path / "catalog.csv", "objID")["class"].tolist() == ["E", "S"]


def test_folders_that_make_no_catalog(tmp_path):
    """One class, no folder at all, and a catalog that is there already."""
    touch(tmp_path / "one", "E/1.png")
    with pytest.raises(CatalogError, match=r"for the classes \['E'\], expected a folder for each"):
        catalog_from_folders(tmp_path / "one", tmp_path / "catalog.csv")
    with pytest.raises(CatalogError, match=r"nosuch: cannot be read \(No such file"):
        catalog_from_folders(tmp_path / "nosuch", tmp_path / "catalog.csv")
    touch(tmp_path / "one", "S/2.png", "../catalog.csv")
    with pytest.raises(OutputError, match=r'already exists; use `if_exists="replace"`'):
        catalog_from_folders(tmp_path / "one", tmp_path / "catalog.csv")
    catalog_from_folders(tmp_path / "one", tmp_path / "catalog.csv", if_exists="replace")
    assert len(read_table(tmp_path / "catalog.csv", "objID")) == 2
