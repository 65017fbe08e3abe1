"""Checking a manuscript against its stores: whatever differs is named, with the reason."""

import hashlib
import re
import resource

import pytest
from paper import build, check, replace_in
from pypdf import PdfReader, PdfWriter

from galfig.errors import ManuscriptError
from galfig.manuscript import check as check_module
from galfig.manuscript.build import build_manuscript, list_states
from galfig.manuscript.check import check_manuscript

# Each builds a manuscript, with figures.
pytestmark = pytest.mark.slow


def test_check_names_a_figure_edited_by_hand(paper):
    """A figure with another word, another pixel or a byte more is named, and no other file."""
    build(paper)
    path = paper / "figures/confusion.pdf"
    good = path.read_bytes()
    path.write_bytes(good + b"\n% touched\n")
    assert check(paper) == [("figures/confusion.pdf", "file edited by hand")]
    writer = PdfWriter(clone_from=PdfReader(path))
    writer.pages[0].scale_by(1.1)
    writer.write(path)
    assert check(paper) == [("figures/confusion.pdf", "file edited by hand")]
    (found,) = check_manuscript(paper)
    assert "inch, expected 2.80 × 2.58" in found.what
    path.write_bytes(b"%PDF-")
    assert check(paper) == [("figures/confusion.pdf", "file edited by hand")]
    assert build(paper)["figures/confusion.pdf"] == "file edited by hand: figures/confusion.pdf"
    assert path.read_bytes() == good


def test_check_names_an_edited_number_and_a_caption(paper):
    """The macro is named with what it says and what it should; a caption by its line."""
    build(paper)
    replace_in(paper / "values.tex", r"\colourN}{12}", r"\colourN}{13}")
    replace_in(paper / "captions/panels.tex", "Grad-CAM maps of 2", "Grad-CAM maps of 3")
    number, caption = sorted(check_manuscript(paper), key=lambda d: d.path)[::-1]
    assert number.path == "values.tex"
    assert number.reason == "file edited by hand"
    expected = r"says '\newcommand{\colourN}{13}', expected '\newcommand{\colourN}{12}'"
    assert number.what == expected
    assert (caption.path, caption.reason) == ("captions/panels.tex", "file edited by hand")
    assert "maps of 3" in caption.what


def test_check_names_a_changed_selection(paper):
    """Figure, caption and table of galaxies differ, because the settings changed."""
    build(paper)
    replace_in(paper / "manuscript.toml", "zmin = 0.03", "zmin = 0.05")
    found = check(paper)
    reason = "settings changed: selection zmin 0.03 → 0.05"
    assert ("figures/panels.pdf", reason) in found
    assert ("captions/panels.tex", reason) in found
    assert not [path for path, _ in found if "confusion" in path]


def test_check_names_a_store_built_otherwise(paper, make_store):
    """A store of another plan: all that it changes is named, with the reason."""
    build(paper)
    make_store("other.h5", n=10, attrs={"plan_digest": "other"}).replace(paper / "maps.h5")
    found = dict(check(paper))
    reason = "store changed: colour (catalog, images, maps)"
    assert found["figures/confusion.pdf"] == reason
    assert found["captions/panels.tex"] == reason
    assert found["values.tex"] == reason
    assert set(build(paper).values()) >= {reason, "changed"}
    assert check(paper) == []


def test_check_goes_on_where_a_figure_cannot_be_drawn(paper):
    """No galaxy is left for one figure: it is named with the reason, beside the other's files."""
    build(paper)
    replace_in(paper / "manuscript.toml", "zmin = 0.03", "zmin = 5")
    replace_in(paper / "values.tex", r"\colourN}{12}", r"\colourN}{13}")
    found = check_manuscript(paper)
    assert [one.path for one in found] == ["figures/panels.pdf", "values.tex", "galaxies.tex"]
    assert found[0].what.startswith("cannot be drawn: ")
    assert "no galaxy with 5 < z; its redshifts run from" in found[0].what
    assert found[0].reason == "settings changed: selection zmin 0.03 → 5.0"


def test_missing_files_are_named(paper):
    """What was removed is missing for check, and made again by build."""
    build(paper)
    (paper / "captions/panels.tex").unlink()
    (paper / "values.tex").unlink()
    assert dict(check(paper)) == {
        "captions/panels.tex": "file removed",
        "values.tex": "file removed",
    }
    states = {state.path: state.reason for state in list_states(paper)}
    assert states["figures/panels.pdf"] == "missing: captions/panels.tex"
    assert states["values.tex"] == "missing"
    build(paper)
    assert check(paper) == []


def test_check_without_a_build_says_so(paper):
    """There is nothing to compare with yet; nor without the store."""
    with pytest.raises(ManuscriptError, match="no record of a build"):
        check_manuscript(paper)
    build(paper)
    (paper / "maps.h5").unlink()
    with pytest.raises(ManuscriptError, match="no such file, expected the store 'colour'"):
        check_manuscript(paper)
    (paper / "maps.h5").write_text("words")
    with pytest.raises(ManuscriptError, match="cannot be read, expected the store 'colour'"):
        check_manuscript(paper)
    (paper / "manuscript.lock").write_text("{")
    with pytest.raises(ManuscriptError, match="not a galfig record"):
        build_manuscript(paper)


def test_check_reads_lines_as_tex_does(paper):
    """Behind U+2028 a comment of TeX goes on, and macros vanish; CR LF is the end of a line."""
    build(paper)
    path = paper / "values.tex"
    good = path.read_bytes()
    record = (paper / "manuscript.lock").read_text()
    for separator in "\u2028\x85\x0b\x0c\x1c":
        words = good.decode().replace("\n", separator, 2)
        path.write_text(words, encoding="utf-8")
        # As by someone who edits the record as well.
        old, new = (hashlib.sha256(data).hexdigest() for data in (good, path.read_bytes()))
        (paper / "manuscript.lock").write_text(record.replace(old, new))
        (found,) = check_manuscript(paper)
        assert found.path == "values.tex"
        assert "lines, expected" in found.what or "says" in found.what
        (paper / "manuscript.lock").write_text(record)
    path.write_bytes(good.replace(b"\n", b"\r\n"))
    (found,) = check_manuscript(paper)
    assert found.what == "reads the same, but the bytes differ"


def test_check_shows_no_control_characters(paper):
    """Of a caption that would clear the terminal of whoever checks it."""
    build(paper)
    (paper / "captions/panels.tex").write_bytes(b"\x1b[2J\xff" * 99)
    (found,) = check_manuscript(paper)
    assert found.what.isprintable()
    assert found.what.startswith("says '\\x1b[2J")


def test_check_compares_the_text_with_captions(paper, monkeypatch):
    """A caption that states another accuracy than the macro is named, though each is as drawn."""
    build(paper)
    monkeypatch.setattr(check_module, "write_texts", disagree(check_module.write_texts))
    found = {one.path: one for one in check_manuscript(paper)}
    one = found["captions/confusion.tex"]
    assert one.reason == "figure and text differ"
    assert one.what == r"\colourAccuracy says 99.9, expected that number in the caption"


def disagree(write_texts):
    def write(*args):
        texts = write_texts(*args)
        found = re.sub(r"(Accuracy\}\{)[\d.]+", r"\g<1>99.9", texts["values.tex"], count=1)
        return {**texts, "values.tex": found}

    return write


def test_check_bounds_what_it_reads(paper):
    """A file of gigabytes is not read, and pages of another size are not drawn."""
    build(paper)
    with (paper / "captions/panels.tex").open("r+b") as file:
        file.truncate(1 << 34)
    with (paper / "values.tex").open("r+b") as file:
        file.truncate(1 << 34)
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {one.path: one.what for one in check_manuscript(paper)}
    assert found.keys() == {"captions/panels.tex", "values.tex"}
    assert all("larger than" in what for what in found.values())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started < 300_000
