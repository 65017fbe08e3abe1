"""The manifest: what it says after each way of ending."""

import pytest

from galfig.errors import OutputError
from galfig.survey.manifest import Entry, open_manifest, read_manifest, write_failures
from galfig.survey.service import Target

ENTRIES = [Entry(str(number), f"images/{number}.jpg", 2000, "ab", "2026-11-26") for number in "123"]


def write(folder, entries=ENTRIES):
    """Write entries."""
    with open_manifest(folder) as manifest:
        for entry in entries:
            manifest.add(entry)
    return folder / "manifest.csv"


def test_entries_come_back(tmp_path):
    """The last of a file counts."""
    write(tmp_path)
    later = ENTRIES[0]._replace(n_bytes=7)
    write(tmp_path, [later])
    assert list(read_manifest(tmp_path).values()) == [later, *ENTRIES[1:]]
    assert read_manifest(tmp_path / "none") == {}


def test_a_torn_line_is_cut_off_at_every_byte(tmp_path):
    """Whatever is left of it, the lines before it count, and the next begins a new one."""
    path = write(tmp_path)
    whole = path.read_bytes()
    end = whole.rstrip(b"\n").rfind(b"\n") + 1
    for length in range(end, len(whole)):
        path.write_bytes(whole[:length])
        assert list(read_manifest(tmp_path).values()) == ENTRIES[:2]
        write(tmp_path, ENTRIES[2:])
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "words", [b"", b"\0\0\n", b"a,b\n", b"1,x.jpg,big,ab,now\n", b"\xff" * 70_000]
)
def test_nonsense_is_no_entry(tmp_path, words):
    """Nor does it stop the run."""
    (tmp_path / "manifest.csv").write_bytes(words)
    assert read_manifest(tmp_path) == {}
    write(tmp_path)
    assert list(read_manifest(tmp_path).values()) == ENTRIES


def test_a_folder_in_its_place_is_refused(tmp_path):
    """One line says so."""
    (tmp_path / "manifest.csv").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write(tmp_path)


def test_failures_are_listed_or_absent(tmp_path):
    """Reasons with commas stay one cell."""
    write_failures(tmp_path, [(Target("1", 2.5, -3.0), "a, b")])
    assert (tmp_path / "failed.csv").read_text() == 'objID,ra,dec,reason\n1,2.5,-3.0,"a, b"\n'
    write_failures(tmp_path, [])
    assert not (tmp_path / "failed.csv").exists()


def test_lines_of_others_are_left_out(tmp_path):
    """A cell that CSV refuses, a quote that does not end, and a day that is none."""
    good = "1,images/1.jpg,5,ab,2026-01-02\n"
    lines = f'{"x" * 200_000}\n2,"images/2.jpg,5\n3,images/3.jpg,5,ab,\x1b[31m\n'
    (tmp_path / "manifest.csv").write_text(lines + good, encoding="utf-8")
    assert [*read_manifest(tmp_path)] == ["images/1.jpg"]
