"""The folder of a manuscript: nothing in it leads out."""

import os

import pytest

from galfig.errors import ManuscriptError, OutputError
from galfig.manuscript.folder import digest_file, has_file, read_file, replace_file, require_own

NAMES = ("a.txt", "sub/a.txt", "sub/deep/a.txt")


def write(folder, name, data=b"new"):
    with replace_file(folder, name) as file:
        file.write(data)


@pytest.fixture
def pair(tmp_path):
    """Give a manuscript's folder, and a folder outside with a file of a user."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside / "deep"):
        folder.mkdir(parents=True)
    (outside / "a.txt").write_text("mine")
    (outside / "deep/a.txt").write_text("mine")
    return inside, outside


@pytest.mark.parametrize("name", NAMES)
def test_files_are_written_and_read(pair, name):
    """Folders on the way are made; nothing is left beside."""
    inside, _ = pair
    assert read_file(inside, name, 10) is digest_file(inside, name) is None
    assert not has_file(inside, name)
    write(inside, name, b"old")
    write(inside, name)
    assert read_file(inside, name, 3) == b"new"
    assert has_file(inside, name)
    assert [path.name for path in (inside / name).parent.iterdir()] == ["a.txt"]
    with pytest.raises(ManuscriptError, match="larger than 2 bytes"):
        read_file(inside, name, 2)
    require_own(inside, name)
    require_own(inside, "sub", recursive=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_dangling", [False, True])
def test_no_link_is_followed(pair, name, is_dangling):
    """Wherever on the way it is, and whether or not it leads anywhere."""
    inside, outside = pair
    target = outside / "absent" if is_dangling else outside
    if name == "a.txt":
        (inside / name).symlink_to(target / "a.txt")
    elif name == "sub/a.txt":
        (inside / "sub").symlink_to(target)
    else:
        (inside / "sub").mkdir()
        (inside / "sub/deep").symlink_to(target)
    for read in (lambda: read_file(inside, name, 10), lambda: digest_file(inside, name)):
        with pytest.raises(ManuscriptError, match="is a symbolic link"):
            read()
    for recursive in (False, True):
        with pytest.raises(ManuscriptError, match="is a symbolic link"):
            require_own(inside, name, recursive=recursive)
    with pytest.raises(OutputError, match="is a symbolic link"):
        write(inside, name)
    assert (outside / "a.txt").read_text() == "mine"
    assert sorted(path.name for path in outside.rglob("*")) == ["a.txt", "a.txt", "deep"]


def test_links_below_a_folder_are_found(pair):
    """As among the parts of a store, which are removed and written one by one."""
    inside, outside = pair
    (inside / "maps.h5.parts/deep").mkdir(parents=True)
    require_own(inside, "maps.h5.parts", recursive=True)
    (inside / "maps.h5.parts/deep/000000.h5").symlink_to(outside / "a.txt")
    require_own(inside, "maps.h5.parts")
    with pytest.raises(ManuscriptError, match=r"deep/000000\.h5: is a symbolic link"):
        require_own(inside, "maps.h5.parts", recursive=True)


def test_only_files_are_read_and_replaced(pair):
    """A named pipe would make readers wait for ever; a folder is no file."""
    inside, _ = pair
    os.mkfifo(inside / "pipe")
    (inside / "sub").mkdir()
    for name, words in (("pipe", "device, pipe or socket"), ("sub", "a folder")):
        with pytest.raises(ManuscriptError, match=words):
            read_file(inside, name, 10)
    with pytest.raises(OutputError, match="device, pipe or socket"):
        write(inside, "pipe")
    with pytest.raises(ManuscriptError, match="device, pipe or socket"):
        require_own(inside, "pipe")
    (inside / "file").write_text("")
    with pytest.raises(ManuscriptError, match="file: is a file, expected a folder"):
        read_file(inside, "file/a.txt", 10)
    with pytest.raises(OutputError):
        write(inside, "sub")


def test_a_write_that_fails_leaves_the_old_file(pair):
    """Complete or absent, as everything that galfig writes."""
    inside, _ = pair
    write(inside, "a.txt", b"old")

    def fail():
        with replace_file(inside, "a.txt") as file:
            file.write(b"half")
            raise ValueError("the disk fell out")

    with pytest.raises(ValueError, match="the disk fell out"):
        fail()
    assert (inside / "a.txt").read_bytes() == b"old"
    assert len(list(inside.iterdir())) == 1


def test_the_folder_itself_may_be_a_link(pair, tmp_path):
    """The user named it."""
    inside, _ = pair
    (tmp_path / "link").symlink_to(inside)
    write(tmp_path / "link", "sub/a.txt")
    assert (inside / "sub/a.txt").read_bytes() == b"new"
