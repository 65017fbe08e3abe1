"""Metadata of figures are read back, and those of strangers do no harm."""

import contextlib
import json
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from pypdf import PdfReader

import galfig
from galfig.errors import FigureError
from galfig.figures.metadata import read_record
from galfig.figures.save import save_figure

SUFFIXES = [".pdf", ".png", ".svg"]
TITLE = 'Maps of "a<b>" & \\(c) é 星'
CAPTION = "One: 1 < 2 & 3 > 2.\nTwo “quoted”: Σ = −1 (half\\way); U+661F 星."
PROVENANCE = {
    "figure": "panels",
    "objid": ["1237665024900858129", "<&>é星\x07"],
    "selection": {"n": 2, "where": "z < 0.1 & name == '(\\'"},
}


def write(path, provenance=PROVENANCE):
    save_figure(
        [Figure(figsize=(1, 1))],
        path,
        title=TITLE,
        description=CAPTION,
        provenance=provenance,
        if_exists="replace",
    )
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(tmp_path, suffix):
    """Title, caption, version and record, with every character that a format escapes."""
    found = read_record(write(tmp_path / f"a{suffix}"))
    assert found.format == suffix[1:].upper()
    assert (found.title, found.caption) == (TITLE, CAPTION)
    assert found.creator == f"galfig {galfig.__version__}"
    assert found.provenance == PROVENANCE


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_longest_list_of_galaxies(tmp_path, suffix):
    """Ten thousand identifiers of nineteen digits; an image behind them is not read."""
    many = {"objid": [f"{1237665024900858129 + n}" for n in range(10_000)]}
    assert read_record(write(tmp_path / f"a{suffix}", many)).provenance == many


def test_another_library_reads_the_same(tmp_path):
    """The record of a PDF, by pypdf."""
    path = write(tmp_path / "a.pdf")
    information = PdfReader(path).metadata
    found = read_record(path)
    assert (information.title, information.subject) == (found.title, found.caption)
    assert json.loads(information["/Keywords"]) == found.provenance


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_figures_of_others_have_no_record(tmp_path, suffix):
    """Those of matplotlib, also with keywords of their own."""
    path = tmp_path / f"a{suffix}"
    Figure(figsize=(1, 1)).savefig(path)
    assert read_record(path) is None
    key = "Comment" if suffix == ".png" else "Keywords"
    Figure(figsize=(1, 1)).savefig(path, metadata={key: json.dumps({"figure": "mine"})})
    assert read_record(path) is None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("record", ["{", "[1]", "[" * 1000])
def test_a_damaged_record_is_told(tmp_path, suffix, record):
    """In one line that names the file; such a file says that galfig wrote it."""
    path = tmp_path / f"a{suffix}"
    keys = ("Comment", "Software") if suffix == ".png" else ("Keywords", "Creator")
    words = dict(zip(keys, (record, "galfig 9"), strict=True))
    Figure(figsize=(1, 1)).savefig(path, metadata=words)
    with pytest.raises(FigureError, match=r"a\.\w+: a figure whose record is "):
        read_record(path)


def test_other_files_are_no_figures(tmp_path):
    """Whatever they begin with."""
    for words in (b"", b"%PDF", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4\n", b"<svg", b"objid,z\n"):
        (tmp_path / "x").write_bytes(words)
        assert read_record(tmp_path / "x") is None
    with pytest.raises(OSError, match="a device"):
        read_record("/dev/zero")


def test_entities_are_not_expanded(tmp_path):
    """A file that declares them is none of galfig's, however it is encoded."""
    lines = ['<?xml version="1.0" encoding="CODE"?>', '<!DOCTYPE svg [<!ENTITY a0 "galfig 9">']
    lines += [f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9)]
    work = "<dc:title>&a9;</dc:title><dc:creator><cc:Agent><dc:title>galfig 9</dc:title>"
    space = " ".join(f'xmlns:{name}="urn:{name}"' for name in ("dc", "cc", "rdf"))
    lines += [f"]><svg {space}><metadata><rdf:RDF><cc:Work>{work}</cc:Agent></dc:creator>"]
    text = "\n".join(lines) + "</cc:Work></rdf:RDF></metadata></svg>"
    for code in ("utf-8", "utf-16"):
        (tmp_path / "x.svg").write_bytes(b"" + text.replace("CODE", code).encode(code))
        assert read_record(tmp_path / "x.svg") is None
    plain = text.replace("CODE", "utf-8").replace("&a9;", "a")
    begin, end = plain.index("[<!ENTITY"), plain.index("]>") + 1
    (tmp_path / "x.svg").write_text(plain[:begin] + plain[end:])
    with pytest.raises(FigureError, match="not valid JSON"):
        read_record(tmp_path / "x.svg")


def test_a_text_that_unpacks_to_much_is_cut(tmp_path, monkeypatch):
    """No more is unpacked than the largest record may have."""
    from galfig.figures import metadata

    path = write(tmp_path / "a.png")
    data = path.read_bytes()
    packed = zlib.compress(b"x" * 1_000_000)

    def chunk(kind, words):
        return len(words).to_bytes(4, "big") + kind + words + zlib.crc32(kind + words).to_bytes(4)

    for kind, words in ((b"zTXt", b"Title\0\0"), (b"iTXt", b"Title\0\1\0\0\0")):
        path.write_bytes(data[:33] + chunk(kind, words + packed) + data[33:])
        assert len(read_record(path).title) == 1_000_000
        monkeypatch.setattr(metadata, "MAX_METADATA", 5000)
        assert len(read_record(path).title) == 5000
        monkeypatch.undo()


def test_many_texts_unpack_to_no_more_than_one(tmp_path, monkeypatch):
    """Those of other programs are not unpacked at all, each key of galfig once, up to a limit."""
    from galfig.figures import metadata

    made = []
    inflate = metadata._inflate

    def count(data):
        made.append(len(inflate(data)))
        return inflate(data)

    path = write(tmp_path / "a.png")
    data, packed = path.read_bytes(), zlib.compress(b"x" * 30_000)
    texts = b""
    for key in (*(f"key {number}" for number in range(100)), *["Title"] * 5, "Description"):
        words = key.encode() + b"\0\0" + packed
        crc = zlib.crc32(b"zTXt" + words).to_bytes(4)
        texts += len(words).to_bytes(4) + b"zTXt" + words + crc
    path.write_bytes(data[:33] + texts + data[33:])
    monkeypatch.setattr(metadata, "_inflate", count)
    found = read_record(path)
    assert (len(found.title), len(found.caption)) == (30_000, 30_000)
    assert made == [30_000, 30_000]


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_files_end_in_a_line(tmp_path, suffix, data):
    """Bytes changed anywhere: a record, none, or the one error."""
    path = tmp_path / f"a{suffix}"
    if not path.exists():
        write(path)
    good = path.read_bytes()
    damaged = bytearray(good[: data.draw(st.integers(8, len(good)))])
    for _ in range(data.draw(st.integers(0, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    other = tmp_path / f"b{suffix}"
    other.write_bytes(damaged)
    with contextlib.suppress(FigureError):
        read_record(other)
