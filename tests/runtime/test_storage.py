"""Storage: objects are read and listed, faults are told apart, and nobody's secret is shown."""

import errno
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from galfig.catalog.paths import _find_fault
from galfig.config import load_settings
from galfig.errors import ConfigError
from galfig.runtime import storage
from galfig.runtime.inputs import UnusableFileError, is_fault_of_machine
from galfig.runtime.storage import (
    Address,
    find_folder,
    find_place,
    is_address,
    list_objects,
    parse_address,
    put_object,
    quote_address,
    read_object,
)


@pytest.fixture
def memory(monkeypatch):
    """Give an empty storage in memory, and no waiting between tries."""
    monkeypatch.setattr(storage, "_WAIT", 0)
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    yield found
    found.store.clear()


def test_another_process_opens_a_storage_for_itself(memory, monkeypatch):
    """Connections do not survive a fork: s3fs refuses to use them."""
    storage._open_storage.cache_clear()
    memory.pipe("/bucket/one", b"1")
    opened, url_to_fs = [], fsspec.core.url_to_fs
    monkeypatch.setattr(
        fsspec.core, "url_to_fs", lambda root: opened.append(root) or url_to_fs(root)
    )
    for pid in (1, 1, 2):
        monkeypatch.setattr(storage.os, "getpid", lambda pid=pid: pid)
        assert read_object(Address("memory://bucket", "one"), 10) == b"1"
    monkeypatch.undo()
    storage._open_storage.cache_clear()
    assert len(opened) == 2


def test_folders_are_paths_or_addresses(tmp_path):
    """Of figures and audits, too."""
    assert find_folder("cutouts", "images") == find_folder(Path("cutouts"), "images")
    assert find_folder("cutouts", "images") == Path("cutouts")
    assert find_folder(f"file://{tmp_path}", "images") == tmp_path
    assert find_folder("memory://bucket/", "images") == Address("memory://bucket")
    with pytest.raises(ConfigError, match="`images`: an address with a name, password or key"):
        find_folder("s3://me:HUNTER2@bucket", "images")


def test_paths_are_no_addresses():
    """Nor is a drive of Windows."""
    for words in ("images", "/data/images", "C://data", "s3:bucket", "", None, "a b://c"):
        assert not is_address(words)
    for words in ("s3://bucket", "memory://x", "abfs+x://c/d"):
        assert is_address(words)


def test_objects_are_listed_and_read(memory):
    """Folders are not among the names; a folder that is not there is empty."""
    memory.pipe({"/cutouts/a.jpg": b"one", "/cutouts/J08/b.jpg": b"two", "/cutouts/empty": b""})
    root = parse_address("memory://cutouts/", "images_dir")
    assert list_objects(root) == {"a.jpg": 3, "empty": 0}
    assert list_objects(root / "J08") == {"b.jpg": 3}
    assert list_objects(root / "absent") == {}
    assert read_object(root / "J08" / "b.jpg", 3) == b"two"
    assert read_object(root / "empty", 3) == b""
    with pytest.raises(UnusableFileError, match="more than 2 bytes"):
        read_object(root / "a.jpg", 2)


def test_addresses_are_told_apart_by_all_of_them():
    """As keys of tables of images; and none leads out of what was typed."""
    root = Address("s3://bucket/cutouts")
    assert str(root / "./a//b.jpg") == "s3://bucket/cutouts/a/b.jpg"
    assert (root / "a" / "b.jpg").parent == root / "a"
    assert (root / "a").name == "a"
    assert root.name == "cutouts"
    assert root.parent == root
    assert len({root / "a", root / "b", Address("s3://other/cutouts") / "a"}) == 3
    for path in ("../a", "a/../../b", ".."):
        with pytest.raises(ValueError, match=r"leads out of s3://bucket/cutouts"):
            root / path


def test_lost_objects_are_faults_of_the_machine(memory):
    """They may be back another day, so that no galaxy is left out for it."""
    with pytest.raises(FileNotFoundError) as caught:
        read_object(Address("memory://cutouts", "absent.jpg"), 10)
    assert is_fault_of_machine(caught.value)
    assert caught.value.strerror == "no such object"


def test_storage_is_asked_again(memory, monkeypatch):
    """A network may fail for a moment; after three tries, the reason is told in one line."""
    memory.pipe("/cutouts/a.jpg", b"one")
    asked = []
    cat_file = type(memory).cat_file

    def fail(self, path, **options):
        asked.append(path)
        if len(asked) < 3:
            raise ConnectionError("reset\nby peer")
        return cat_file(self, path, **options)

    monkeypatch.setattr(type(memory), "cat_file", fail)
    assert read_object(Address("memory://cutouts", "a.jpg"), 10) == b"one"
    assert len(asked) == 3
    monkeypatch.setattr(type(memory), "cat_file", lambda *_, **__: 1 / 0)
    with pytest.raises(OSError, match="the storage does not answer: division by zero") as caught:
        read_object(Address("memory://cutouts", "a.jpg"), 10)
    assert caught.value.errno == errno.EIO

    def refuse(self, path, **options):
        asked.append(path)
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(memory), "cat_file", refuse)
    asked.clear()
    with pytest.raises(PermissionError, match="Access Denied"):
        read_object(Address("memory://cutouts", "a.jpg"), 10)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("s3://user:HUNTER2@bucket/x", "an address with a name, password or key in it"),
        ("ftp://HUNTER2@host/x", "an address with a name, password or key in it"),
        ("s3://user:HUNTER2/x@bucket/x", "an address with a name, password or key in it"),
        ("s3://user:HUNTER2@bucket/\n", "an address with a name, password or key in it"),
        ("zip://a::s3://u:HUNTER2@b/x.zip", "an address with a name, password or key in it"),
        ("https://host/x?signature=HUNTER2", "an address with a name, password or key in it"),
        ("zip://a.jpg::s3://bucket/x.zip", "expected one address"),
        ("s3://", "expected one address"),
        ("s3:///", "expected one address"),
        ("s3://bucket/../other", "expected one address"),
        ("s3://bucket/\x1b[2J", "expected an address"),
        ("nonsense://x/y", "cannot be opened"),
    ],
)
def test_other_addresses_are_refused(words, reason):
    """And what may be a password is not repeated."""
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_address(words, "images_dir")
    assert str(caught.value).startswith("`images_dir`")
    assert "HUNTER2" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_passwords_do_not_enter_messages_or_stores(tmp_path):
    """Settings and cells that hold an address are refused, and a store keeps the reason."""
    assert quote_address("s3://bucket/a.jpg") == "'s3://bucket/a.jpg'"
    for words in ("s3://user:HUNTER2@bucket/a.jpg", "https://host/a.jpg?key=HUNTER2"):
        assert "HUNTER2" not in _find_fault(words)
        (tmp_path / "galfig.toml").write_text(f'[catalog]\nimages_dir = "{words}"\n')
        with pytest.raises(ConfigError, match="is an address, expected a folder") as caught:
            load_settings(tmp_path / "galfig.toml")
        assert "HUNTER2" not in str(caught.value)


@pytest.mark.parametrize("words", ["memory://a/b@c", "memory://host:9000/b@c", "memory://a:1/b"])
def test_other_signs_are_no_passwords(words):
    assert str(parse_address(words, "storage")) == words


def test_addresses_of_this_machine_are_paths(tmp_path):
    """With the rules for links that paths have."""
    assert find_place(f"file://{tmp_path}", "images_dir") == tmp_path
    assert find_place("memory://cutouts", "images_dir") == Address("memory://cutouts")
    with pytest.raises(ConfigError, match="from the root on"):
        find_place("file://images", "images_dir")


def test_library_that_is_missing_is_named(monkeypatch):
    """Of the storage, and of the protocol."""
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs fsspec; pip install 'galfig\[storage\]'"):
        parse_address("memory://cutouts", "images_dir")
    monkeypatch.undo()

    def fail(words):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(ConfigError, match=r"Install s3fs to access S3; pip install"):
        parse_address("s3://bucket-of-nobody", "images_dir")


def test_nothing_is_imported_for_paths():
    """fsspec takes a while, and most catalogs have images in a folder."""
    code = "import sys, galfig.config, galfig.catalog.paths; sys.exit('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_put_into_a_folder_appears_when_it_is_complete(tmp_path, monkeypatch):
    """A process that is killed leaves no half of a part under its name, and the old one."""
    part, folder = tmp_path / "000000.h5", tmp_path / "run"
    part.write_bytes(b"new")
    address = parse_address(f"file://{folder}", "storage") / "maps.h5.parts/000000.h5"
    put_object(part, address)
    there = folder / "maps.h5.parts" / "000000.h5"
    assert there.read_bytes() == b"new"

    class Killed(BaseException):
        pass

    def stop(self, source, target, **options):
        Path(target).write_bytes(b"ne")
        raise Killed

    part.write_bytes(b"newer")
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.put_file", stop)
    with pytest.raises(Killed):
        put_object(part, address)
    assert there.read_bytes() == b"new"
