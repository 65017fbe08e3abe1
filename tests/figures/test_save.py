"""Saving figures: an author's own files beside them stay."""

import pytest

from galfig.errors import OutputError
from galfig.figures.registry import render_figure
from galfig.store.selection import Query

pytestmark = pytest.mark.slow


def draw(store_path, path, n=2):
    return render_figure("panels", store_path, Query(n=n), path, if_exists="replace")


@pytest.mark.parametrize("name", ["paper.tex", "paper.txt", "paper.alt.txt"])
def test_a_file_of_an_author_is_no_caption(store_path, tmp_path, name):
    """Only the figure was named, and beside it is none whose caption the file could be."""
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.5 by another program\n/Creator (TeX)\n")
    (tmp_path / name).write_text("years of work")
    with pytest.raises(OutputError, match=r"already exists; the caption of paper\.pdf goes there"):
        draw(store_path, tmp_path / "paper.pdf")
    assert (tmp_path / name).read_text() == "years of work"


@pytest.mark.parametrize("suffix", [".pdf", ".png", ".svg"])
def test_captions_of_a_figure_are_replaced_with_it(store_path, tmp_path, suffix):
    """Also where it was drawn in another format before."""
    draw(store_path, tmp_path / f"a{suffix}")
    before = (tmp_path / "a.tex").read_text()
    draw(store_path, tmp_path / f"a{suffix}", n=3)
    assert (tmp_path / "a.tex").read_text() != before
    draw(store_path, tmp_path / "a.pdf")
    assert (tmp_path / "a.tex").read_text() == before
