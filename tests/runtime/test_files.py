"""Files that are complete or absent, and what is done where one is there already."""

import os
import re
import stat
from pathlib import Path

import pytest

from galfig.errors import OutputError
from galfig.runtime.files import (
    check_apart,
    check_folder,
    check_output,
    check_parts,
    remove_leftovers,
    replace_file,
    replace_folder,
)


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_when_it_is_complete(tmp_path):
    """While it is written it has another name, of the same suffix; afterwards its own."""
    path = tmp_path / "new" / "maps.h5"
    with replace_file(path) as temporary:
        assert re.fullmatch(r"\.maps\.h5\.[0-9a-f]{8}\.tmp\.h5", temporary.name)
        assert list_names(path.parent) == [temporary.name]
        temporary.write_text("maps")
    assert list_names(path.parent) == ["maps.h5"]
    assert path.read_text() == "maps"


def test_failed_block_leaves_what_was_there(tmp_path):
    """A file that could not be written costs neither the old one nor room on the disk."""

    def fail_halfway(temporary):
        temporary.write_text("new")
        raise ZeroDivisionError

    path = tmp_path / "maps.h5"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_file(path, if_exists="replace") as temporary:
        fail_halfway(temporary)
    assert list_names(tmp_path) == ["maps.h5"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_file_is_as_readable_as_any_new_file(tmp_path, monkeypatch, mask):
    """The kernel applies the umask: it is the whole process's, and threads may be creating too."""
    before = os.umask(mask)
    try:
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("set for all threads"))
        with replace_file(tmp_path / "a.h5") as temporary:
            assert temporary.stat().st_mode & 0o777 == 0o666 & ~mask
        assert (tmp_path / "a.h5").stat().st_mode & 0o777 == 0o666 & ~mask
    finally:
        monkeypatch.undo()
        os.umask(before)


def test_two_writers_have_two_names(tmp_path):
    """The last to finish is the one whose file stays."""
    path = tmp_path / "a.txt"
    with replace_file(path, if_exists="replace") as first:
        with replace_file(path) as second:
            assert first != second
            second.write_text("second")
        first.write_text("first")
    assert path.read_text() == "first"


def test_name_that_is_taken_is_left_alone(tmp_path, monkeypatch):
    """What another process writes is not truncated, however unlikely its name is."""
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    other = tmp_path / ".a.txt.00000000.tmp.txt"
    other.write_text("another's")
    with (
        pytest.raises(OutputError, match=r"a\.txt: cannot be written \(File exists\)"),
        replace_file(tmp_path / "a.txt"),
    ):
        pytest.fail("opened")
    assert other.read_text() == "another's"


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    """Half-written files of this name go, those of another stay."""
    path, other = tmp_path / "a[1].h5", tmp_path / "b.h5"
    leftovers = []
    for name in (path, other):
        with replace_file(name) as temporary:
            leftovers.append(temporary)
    for leftover in leftovers:
        leftover.touch()
    remove_leftovers(path)
    assert list_names(tmp_path) == [leftovers[1].name, path.name, other.name]


@pytest.mark.parametrize("if_exists", ["error", "update", "replace"])
def test_a_file_that_is_there_is_an_error_unless_told_otherwise(tmp_path, if_exists):
    """Whether it may be updated is for others to say, who know what it was made from."""
    path = tmp_path / "a.txt"
    check_output(path, if_exists=if_exists)
    path.write_text("old")
    if if_exists == "error":
        with pytest.raises(OutputError, match=r"a\.txt: already exists; use `if_exists"):
            check_output(path, if_exists=if_exists)
        with pytest.raises(OutputError, match=r"a\.txt: already exists"), replace_file(path):
            pytest.fail("opened")
    else:
        check_output(path, if_exists=if_exists)
    with pytest.raises(OutputError, match="is a folder, expected a file name"):
        check_output(tmp_path, if_exists=if_exists)
    assert path.read_text() == "old"


@pytest.mark.parametrize("path", ["~/a.pdf", "~someone/folder/a.pdf"])
def test_tilde_makes_no_folder(path, tmp_path, monkeypatch):
    """Python takes '~' for a name; the message says what the path is, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/vera")
    expected = pytest.raises(OutputError, match=r"there is no folder '~.*write ")
    with expected as caught, replace_file(Path(path)):
        pass
    assert ("/home/vera/a.pdf" in str(caught.value)) == path.startswith("~/")
    assert list(tmp_path.iterdir()) == []


def test_folder_and_file_named_tilde_are_usable(tmp_path, monkeypatch):
    """Where there is such a folder, it is meant; so is a file's own name."""
    monkeypatch.chdir(tmp_path)
    Path("~").mkdir()
    for path in (Path("~/a.pdf"), Path("~a.pdf"), tmp_path / "~b" / "a.pdf"):
        with replace_file(path) as temporary:
            temporary.write_bytes(b"x")
        assert path.read_bytes() == b"x"


@pytest.mark.parametrize("is_there", [True, False], ids=["there", "dangling"])
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path, is_there):
    """As on clusters, where the home is small and the link leads to a large disk."""
    disk, link = tmp_path / "disk", tmp_path / "maps.h5"
    disk.mkdir()
    if is_there:
        (disk / "maps.h5").write_text("old")
    link.symlink_to("disk/maps.h5")
    with replace_file(link, if_exists="replace") as temporary:
        assert temporary.parent == disk
        temporary.write_text("new")
    assert link.is_symlink()
    assert (disk / "maps.h5").read_text() == "new"
    assert [path.name for path in disk.iterdir()] == ["maps.h5"]


def test_a_pipe_is_no_output(tmp_path):
    """Nor is a device, such as /dev/null: it would be replaced by a file."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with (
            pytest.raises(OutputError, match="is a device, pipe or socket, expected a file name"),
            replace_file(path, if_exists="replace"),
        ):
            pass
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("name", ["a.h5", "folder/../a.h5", "link.h5"])
def test_an_output_is_no_input(tmp_path, name):
    """By whatever name; files that are not there yet are told apart by their names."""
    (tmp_path / "a.h5").write_text("a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.h5").symlink_to("a.h5")
    check_apart(tmp_path / "b.h5", [tmp_path / "a.h5", tmp_path / "absent"])
    with pytest.raises(OutputError, match="one of the inputs"):
        check_apart(tmp_path / name, [tmp_path / "absent", tmp_path / "a.h5"])
    with pytest.raises(OutputError, match="one of the inputs"):
        check_apart(tmp_path / "new", [tmp_path / "new"])


def test_parts_go_into_a_folder(tmp_path):
    """One that is there or not, but no link and no file."""
    (tmp_path / "folder").mkdir()
    check_parts(tmp_path / "folder")
    check_parts(tmp_path / "absent")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "file").write_text("mine")
    for name, kind in (("link", "a symbolic link"), ("file", "a file")):
        with pytest.raises(OutputError, match=f"is {kind}, expected a folder for parts"):
            check_parts(tmp_path / name)


def test_a_folder_that_cannot_be_written_is_said_before_work(tmp_path, monkeypatch):
    """Not when the file appears, hours later; folders that are missing are made then."""
    (tmp_path / "notes.txt").write_text("notes")
    check_output(tmp_path / "new" / "folder" / "a.h5")
    with pytest.raises(OutputError, match=r"cannot be written \(.*notes.txt is no folder\)"):
        check_output(tmp_path / "notes.txt" / "more" / "a.h5")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(OutputError, match="no permission to write in"):
        check_output(tmp_path / "new" / "a.h5", if_exists="replace")


def find_nothing(folder):
    return ""


def test_a_folder_is_complete_or_absent(tmp_path):
    """A block that fails leaves what was there, and nothing beside it."""
    out = tmp_path / "deep" / "out"
    with replace_folder(out, find_foreign=find_nothing) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("1")
        assert not out.exists()
    assert (out / "inner" / "a").read_text() == "1"

    def fail_halfway():
        with replace_folder(out, find_foreign=find_nothing, if_exists="replace") as folder:
            (folder / "b").write_text("2")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    with replace_folder(out, find_foreign=find_nothing, if_exists="replace") as folder:
        (folder / "b").write_text("2")
    assert [path.name for path in out.iterdir()] == ["b"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_folder_of_others_is_never_replaced(tmp_path):
    """Not even by request; nor is a file, a folder that may not be written, or a '~'."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis").write_text("mine")

    def find_thesis(folder):
        return "thesis" if (folder / "thesis").exists() else ""

    for if_exists in ("error", "replace"):
        with pytest.raises(OutputError, match="holds 'thesis', which galfig did not write"):
            check_folder(out, find_foreign=find_thesis, if_exists=if_exists)
    with pytest.raises(OutputError, match="already exists"):
        check_folder(out, find_foreign=find_nothing)
    with pytest.raises(OutputError, match="is no folder"):
        check_folder(out / "thesis", find_foreign=find_nothing, if_exists="replace")
    with pytest.raises(OutputError, match=r"thesis is no folder"):
        check_folder(out / "thesis" / "deeper", find_foreign=find_nothing)
    with pytest.raises(OutputError, match="only a shell takes '~'"):
        check_folder(Path("~/out"), find_foreign=find_nothing)


def test_a_folder_that_cannot_be_renamed_stays(tmp_path, monkeypatch):
    """The former one comes back under its name."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_text("1")
    rename, calls = Path.rename, []

    def fail_second(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_second)
    with (
        pytest.raises(OutputError, match="Input/output error"),
        replace_folder(out, find_foreign=find_nothing, if_exists="replace"),
    ):
        pass
    assert (out / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", [".", "..", "../here", "link"])
def test_the_working_directory_is_not_replaced(tmp_path, monkeypatch, name):
    """Nor one around it: it has no name to be renamed to, or would be gone below one's feet."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if name == "link":
        name = str(tmp_path / "link")
        (tmp_path / "link").symlink_to("here")
    expected = pytest.raises(OutputError, match="is the working directory or around it")
    with expected, replace_folder(Path(name), find_foreign=find_nothing):
        pytest.fail("opened")
    assert list(here.iterdir()) == []
