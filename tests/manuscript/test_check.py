"""Checking a manuscript against its stores: whatever differs is named, with the reason."""

import pytest
from paper import build, check, replace_in
from pypdf import PdfReader, PdfWriter

from galfig.errors import ManuscriptError
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
    replace_in(paper / "captions/panels.tex", "two simulated", "three simulated")
    number, caption = sorted(check_manuscript(paper), key=lambda d: d.path)[::-1]
    assert number.path == "values.tex"
    assert number.reason == "file edited by hand"
    expected = r"says '\newcommand{\colourN}{13}', expected '\newcommand{\colourN}{12}'"
    assert number.what == expected
    assert (caption.path, caption.reason) == ("captions/panels.tex", "file edited by hand")
    assert "three simulated" in caption.what


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
