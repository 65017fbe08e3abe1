"""Figure sets: a file for each page of an atlas, and the macros that the AAS journals read."""

import re
import shutil
import subprocess

import numpy as np
import pypdfium2
import pytest
from astropy.table import Table

import galfig
from galfig.errors import FigureError, OutputError
from galfig.figures.metadata import read_record
from galfig.figures.registry import render_figure
from galfig.manuscript.pixels import compare_figures
from galfig.store.reader import open_store
from galfig.store.selection import Query

pytestmark = pytest.mark.slow

N = 60
# As in the sample of AASTeX 7.0.1.
ORDER = ["grpstart", "grpnum", "grptitle", "plot", "grpnote", "grpend"]


def draw(store, path, number="4", **options):
    return render_figure("atlas", store, Query(n=None), path, figure_set=number, **options)


def split_pages(pdf):
    """Give each page of a PDF as one of its own."""
    with pypdfium2.PdfDocument(pdf) as document:
        for number in range(len(document)):
            with pypdfium2.PdfDocument.new() as page:
                page.import_pages(document, [number])
                path = pdf.with_name("split.pdf")
                page.save(path)
                yield path.read_bytes()


def test_a_set_is_the_atlas_in_single_pages(make_store, tmp_path):
    """Each page looks like that of the atlas; macros name each once, in the order of the guide."""
    store = make_store(n=N)
    render_figure("atlas", store, Query(n=None), tmp_path / "whole" / "atlas.pdf")
    whole = list(split_pages(tmp_path / "whole" / "atlas.pdf"))
    assert len(whole) > 1
    data = tmp_path / "atlas.ecsv"
    written = draw(store, tmp_path / "atlas.pdf", data=data)
    pages = [path for path in written if path.suffix == ".pdf"]
    assert [path.name for path in pages] == [f"atlas-{n + 1}.pdf" for n in range(len(whole))]
    for page, expected in zip(pages, whole, strict=True):
        assert compare_figures(page.read_bytes(), expected) == ""
    macros = (tmp_path / "atlas.set.tex").read_text()
    found = re.findall(r"^\\figset(\w+)(?:\{(.*)\})?$", macros, re.MULTILINE)
    names = ["start", "num", "title", *ORDER * len(pages), "end"]
    assert [name for name, _ in found] == names
    values = dict(found[:3])
    assert (values["num"], values["title"][:8]) == ("4", "Atlas of")
    assert [value for name, value in found if name == "plot"] == [path.name for path in pages]
    numbers = [value for name, value in found if name == "grpnum"]
    assert numbers == [f"4.{n + 1}" for n in range(len(pages))]
    # The notes count every galaxy once, in the order of the table.
    ranges = re.findall(r"Galaxies (\S+) to (\S+), (\d+) to (\d+) of 60", macros)
    table = Table.read(data)
    ends = [int(end) for *_, end in ranges]
    assert [int(start) for *_, start, _ in ranges] == [1, *(end + 1 for end in ends[:-1])]
    assert ends[-1] == N
    for page, (first, last, start, end) in enumerate(ranges, 1):
        rows = table[table["page"] == page]
        assert (first, last) == (rows["objid"][0], rows["objid"][-1])
        assert len(rows) == int(end) - int(start) + 1
    for name in ("atlas.tex", "atlas.txt", "atlas.alt.txt"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_each_page_says_which_it_is(make_store, tmp_path):
    """Its metadata give its number; two runs give the same bytes; PNG is a format, too."""
    store = make_store(n=N)
    first = [path.read_bytes() for path in draw(store, tmp_path / "a.png")]
    again = draw(store, tmp_path / "a.png", if_exists="replace")
    assert first == [path.read_bytes() for path in again]
    page = again[1]
    record = read_record(page)
    assert (record.provenance["page"], record.provenance["figure"]) == (2, "atlas")
    assert record.title.startswith("Atlas of Grad-CAM maps: ")
    assert record.caption.startswith("Galaxies ")


def test_pages_of_a_set_are_numbered_in_one_width(make_store, tmp_path, monkeypatch):
    """So that a folder lists them in order."""
    from galfig.figures import atlas

    monkeypatch.setattr(atlas, "HEIGHT", 1.8)
    written = draw(make_store(n=40), tmp_path / "a.pdf", number="A1")
    assert [written[0].name, written[9].name] == ["a-01.pdf", "a-10.pdf"]
    assert "\\figsetgrpnum{A1.10}" in (tmp_path / "a.set.tex").read_text()


def test_what_is_there_is_kept(make_store, tmp_path):
    """A page, or a file of an author in the place of the macros; --overwrite replaces ours."""
    store = make_store(n=N)
    (tmp_path / "a.set.tex").write_text("years of work")
    for if_exists in ("error", "replace"):
        with pytest.raises(OutputError, match=r"a\.set\.tex: already exists"):
            draw(store, tmp_path / "a.pdf", if_exists=if_exists)
    assert not (tmp_path / "a-1.pdf").exists()
    (tmp_path / "a.set.tex").unlink()
    draw(store, tmp_path / "a.pdf")
    with pytest.raises(OutputError, match=r"a-1\.pdf: already exists"):
        draw(store, tmp_path / "a.pdf", number="5")
    draw(store, tmp_path / "a.pdf", number="5", if_exists="replace")
    assert "\\figsetnum{5}" in (tmp_path / "a.set.tex").read_text()
    draw(store, tmp_path / "a.png", if_exists="replace")
    assert "\\figsetplot{a-1.png}" in (tmp_path / "a.set.tex").read_text()


@pytest.mark.parametrize("number", ["", "0", "1.2", "4}", "\\x", "four", "12345", "a1"])
def test_numbers_that_are_none(store_path, tmp_path, number):
    """The one line says what is expected."""
    with pytest.raises(FigureError, match="expected the number of the figure in the paper"):
        draw(store_path, tmp_path / "a.pdf", number)


def test_other_figures_and_names_are_refused(store_path, tmp_path):
    """Only an atlas has pages; the journals' system takes plain names."""
    with pytest.raises(FigureError, match="figure 'roc': takes no `figure_set`, it is for atlas"):
        render_figure("roc", store_path, Query(n=None), tmp_path / "a.pdf", figure_set="4")
    with pytest.raises(OutputError, match="cannot name the files of a figure set"):
        draw(store_path, tmp_path / "my atlas.pdf")
    with open_store(store_path) as store:
        fig = galfig.plot.atlas(store)
        written = fig.save(tmp_path / "a.pdf", figure_set="4")
        assert [path.name for path in written][:2] == ["a-1.pdf", "a.set.tex"]
        with pytest.raises(FigureError, match="takes no `figure_set`"):
            galfig.plot.roc(store).save(tmp_path / "b.pdf", figure_set="4")


def has_tex(name):
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return not subprocess.run(["kpsewhich", name], capture_output=True, check=False).returncode


@pytest.mark.parametrize("name", ["aastex631", "aastex701"])
def test_aastex_takes_a_set(make_store, tmp_path, name):
    """With identifiers and classes of any characters; the article says the title of the set."""
    if not has_tex(f"{name}.cls"):
        pytest.skip(f"no {name}")
    odd = ["50%_$x{}\\#&~^ é星", "a}b", *(f"g_{n}" for n in range(40))]
    store = make_store(n=len(odd), objid=np.array(odd, object), class_names=("lo_w}", "50% {"))
    draw(store, tmp_path / "a.pdf")
    source = (
        f"\\documentclass{{{name}}}\\begin{{document}}\\title{{T}}\\author{{A}}\\affiliation{{H}}"
        "\\email{a@example.org}\\input{a.set}\\begin{figure}\\includegraphics[height=2in]{a-1}"
        "\\caption{One of the pages.}\\end{figure}\\end{document}"
    )
    (tmp_path / "p.tex").write_text(source)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "p"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:].decode("utf-8", "replace")
    with pypdfium2.PdfDocument(tmp_path / "p.pdf") as document:
        words = " ".join(page.get_textpage().get_text_bounded() for page in document)
    assert "Fig. Set 4. Atlas of Grad-CAM maps" in " ".join(words.split())
    assert "figsetgrp" not in words
    assert "down the columns" not in words
