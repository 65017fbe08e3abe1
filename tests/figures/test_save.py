"""Saving figures: an author's own files beside them stay."""

import hashlib

import pytest

from galfig.errors import OutputError
from galfig.figures import save
from galfig.figures.registry import draw_figure, render_figure
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


def test_very_many_galaxies_are_not_listed(store_path, monkeypatch):
    """Their number and a digest say which they were; those of the whole store, a word."""

    def find_listed(**asked):
        with draw_figure("roc", store_path, Query(**asked)) as (_, provenance):
            return provenance["objid"]

    listed = find_listed(n=None, zmax=0.1)
    assert 1 < len(listed) < 12
    assert find_listed(n=None) == "all"
    monkeypatch.setattr(save, "MAX_LISTED", len(listed) - 1)
    digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
    assert find_listed(n=None, zmax=0.1) == {"n": len(listed), "sha256": digest}
    assert find_listed(n=None) == "all"
