"""Manuscripts: drawn where out of date, checked against their stores, refused where wrong."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from matplotlib.figure import Figure
from pypdf import PdfReader, PdfWriter

from galfig.errors import ManuscriptError
from galfig.figures.style import paper_style
from galfig.manuscript import latex
from galfig.manuscript.build import build_manuscript, list_states
from galfig.manuscript.check import check_manuscript
from galfig.manuscript.depfile import write_depfile
from galfig.manuscript.latex import compile_paper, find_complaints
from galfig.manuscript.manifest import Step, load_manifest
from galfig.manuscript.pixels import MAX_RMS, compare_figures, measure_rms
from galfig.manuscript.steps import run_steps
from galfig.manuscript.values import describe_store, write_macros
from galfig.store.reader import open_store

# Each builds a manuscript, with figures.
pytestmark = pytest.mark.slow

MANIFEST = """
[stores]
colour = "maps.h5"

[[figure]]
name = "confusion"
figure = "confusion-matrix"
store = "colour"

[[figure]]
name = "panels"
figure = "panels"
store = "colour"
width = "text"
selection = { n = 2, zmin = 0.03 }
"""
MADE = ["confusion", "panels"]


@pytest.fixture
def paper(make_store, tmp_path):
    """Return a manuscript's folder, its store there, nothing drawn yet."""
    folder = tmp_path / "paper"
    folder.mkdir()
    make_store().rename(folder / "maps.h5")
    (folder / "manuscript.toml").write_text(MANIFEST)
    return folder


def build(folder):
    """Build, and return why each file was made, by path."""
    return {state.path: state.reason for state in build_manuscript(folder)}


def check(folder, **options):
    """Check, and return path and reason of each difference."""
    return [(found.path, found.reason) for found in check_manuscript(folder, **options)]


def replace_in(path, old, new):
    words = path.read_text()
    assert old in words
    path.write_text(words.replace(old, new))


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_build_draws_all_then_nothing(paper):
    """The first build makes every file; the second finds all up to date and touches none."""
    assert build(paper) == {
        "figures/confusion.pdf": "new",
        "figures/panels.pdf": "new",
        "values.tex": "missing",
        "galaxies.tex": "missing",
    }
    for name in MADE:
        assert (paper / f"captions/{name}.tex").read_text().endswith("\n")
        assert (paper / f"captions/{name}.alt.txt").read_text().endswith(".\n")
    before = snapshot(paper)
    assert set(build(paper).values()) == {""}
    assert snapshot(paper) == before
    assert check(paper) == []
    assert check(paper, exact=True) == []
    assert snapshot(paper) == before
    assert {state.reason for state in list_states(paper)} == {""}


def test_only_what_changed_is_drawn_again(paper):
    """Another selection redraws its figure, and says what changed; the other stays."""
    build(paper)
    replace_in(paper / "manuscript.toml", "n = 2", "n = 3")
    reasons = build(paper)
    assert reasons["figures/panels.pdf"] == "settings changed: selection n 2 → 3"
    assert reasons["figures/confusion.pdf"] == ""
    assert reasons["galaxies.tex"] == "changed"
    assert reasons["values.tex"] == ""
    assert check(paper) == []


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
    assert "inch, expected 2.81 × 2.58" in found.what
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
    assert found["figures/confusion.pdf"] == "store changed: colour"
    assert found["captions/panels.tex"] == "store changed: colour"
    assert found["values.tex"] == "store changed: colour"
    assert set(build(paper).values()) >= {"store changed: colour", "changed"}
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


def test_build_names_the_figure_that_cannot_be_drawn(paper):
    """The reason alone would not say which of many."""
    replace_in(paper / "manuscript.toml", "zmin = 0.03", "zmin = 5")
    with pytest.raises(ManuscriptError, match=r"figure 'panels': .*no galaxy with 5 < z"):
        build_manuscript(paper)


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


FIGURE = '[[figure]]\nname = "a"\nstore = "colour"\nfigure = "roc"\n'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "stores: missing"),
        ('[stores]\ncolour = "maps.h5"', "figure: missing"),
        ("[stores", "not valid TOML"),
        (MANIFEST.replace('"panels"\nstore', '"panel"\nstore'), "figure 'panels': figure 'panel'"),
        (
            MANIFEST.replace('store = "colour"', 'store = "color"'),
            "'color', expected one of",
        ),
        (
            MANIFEST + "colour = 3",
            "figure 'panels' colour: unknown key, expected one of name, figure, store",
        ),
        (MANIFEST.replace("zmin", "zmn"), "selection has 'zmn', expected n, zmin"),
        (MANIFEST.replace('"text"', '"wide"'), "`width` 'wide', expected column, text"),
        (
            MANIFEST.replace("n = 2", 'n = "two"'),
            "figure 'panels' selection n: found 'two'; input should be",
        ),
        (MANIFEST + 'file = "../a.pdf"', "'../a.pdf' leaves the folder"),
        (MANIFEST + 'file = "/tmp/a.pdf"', "'/tmp/a.pdf' leaves the folder"),
        (MANIFEST + 'file = "a.png"', "file 'a.png', expected .pdf"),
        (MANIFEST.replace('"maps.h5"', '"../maps.h5"'), "stores colour: '../maps.h5' leaves"),
        (MANIFEST.replace("colour =", "colour2 ="), "store 'colour2', expected letters"),
        (MANIFEST.replace('"confusion"', '"panels"'), "'panels' appears twice"),
        (
            MANIFEST.replace('"confusion"', '"../x"'),
            "name '../x', expected letters, digits and hyphens",
        ),
        (MANIFEST + 'unit = "R"', "'panels': takes no `unit`, it is for radial-profile"),
        (
            MANIFEST + '[[steps]]\ncommand = "rm -rf x"\nmakes = "maps.h5"',
            "steps 1 command: command 'rm -rf x', expected one of galfig simulate",
        ),
        (
            MANIFEST + '[[steps]]\ncommand = "galfig build-maps --out ../x"\nmakes = "maps.h5"',
            "steps 1 command: '../x' leaves the folder",
        ),
        (
            MANIFEST + '[[steps]]\ncommand = "galfig simulate --n 3 /tmp/x"\nmakes = "maps.h5"',
            "steps 1 command: '/tmp/x' leaves the folder",
        ),
        (
            MANIFEST + '[[steps]]\ncommand = "galfig figure roc"\nmakes = "maps.h5"',
            "expected one of galfig simulate, galfig train, galfig build-maps",
        ),
    ],
)
def test_wrong_manifest_is_one_clear_line(paper, words, message):
    """File, place, what was found and what was expected."""
    (paper / "manuscript.toml").write_text(words)
    with pytest.raises(ManuscriptError) as caught:
        load_manifest(paper)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{paper / 'manuscript.toml'}: ")
    assert "\n" not in str(caught.value)


def test_folder_without_a_manifest(tmp_path):
    """The file that is expected is named."""
    with pytest.raises(ManuscriptError, match=r"manuscript\.toml: cannot be read"):
        build_manuscript(tmp_path)


def draw_pdf(path, words="p = 0.973", x=0.5):
    with paper_style():
        fig = Figure(figsize=(3, 2))
        ax = fig.subplots()
        ax.plot([0, 1], [0, 1])
        ax.plot(x, 0.2, "o", markersize=3)
        ax.text(0.1, 0.8, words)
        fig.savefig(path)
    return path


def test_readers_see_words_and_points_but_no_bytes(tmp_path):
    """Another file of the same look is equal; another number, or a point moved, is not."""
    first = draw_pdf(tmp_path / "a.pdf")
    rewritten = tmp_path / "b.pdf"
    writer = PdfWriter(clone_from=PdfReader(first))
    writer.add_metadata({"/Title": "another"})
    writer.write(rewritten)
    assert rewritten.read_bytes() != first.read_bytes()
    assert compare_figures(rewritten, first) == ""
    number = draw_pdf(tmp_path / "c.pdf", words="p = 0.974")
    assert compare_figures(number, first) == "says '0.974', expected '0.973'"
    point = draw_pdf(tmp_path / "d.pdf", x=0.55)
    assert compare_figures(point, first).startswith("pixels differ, RMS ")


def test_rms_is_that_of_the_worst_square():
    """A change in one place is not lost in a large figure; rounding is."""
    image = np.full((200, 200, 3), 200, np.uint8)
    noisy = image + np.random.default_rng(0).integers(0, 2, image.shape, dtype=np.uint8)
    assert 0 < measure_rms(image, noisy) < 1 < MAX_RMS
    marked = image.copy()
    marked[40:44, 40:44] = 0
    assert measure_rms(image, marked) == pytest.approx(200 * 4 / 20)


def test_macros_are_letters_and_say_what_the_store_holds(paper):
    """TeX takes no digit or hyphen in a name; numbers are those of the store."""
    with open_store(paper / "maps.h5") as store:
        values = describe_store("colour", store)
        assert values["colourN"] == "12"
        assert values["colourNLow"] == str(np.sum(store.label == 0))
        assert values["colourNTrain"] == "42"
        assert values["colourAccuracy"] == f"{100 * store.accuracy:.1f}"
        assert float(values["colourAucLow"]) <= float(values["colourAuc"])
        assert values["colourZMin"] == "0.020"
        assert all(name.isalpha() for name in values)
        lines = write_macros({"colour": store}).splitlines()
    assert r"\newcommand{\colourN}{12}" in lines


def test_class_names_become_macros(make_store):
    """Odd names keep their letters, and digits are spelled."""
    path = make_store(class_names=("z<0.1", "S0/a_b", "é"), quantity="")
    with open_store(path) as store:
        values = describe_store("x", store)
    assert {"xNZZeroOne", "xNSZeroAB", "xN"} <= set(values)


STEPS = """
[[steps]]
command = "galfig simulate data --n 3"
makes = "data/catalog.csv"
"""


def test_steps_run_where_their_file_is_not_what_they_make(paper):
    """Absent, of another recipe, or touched since: made again; otherwise left alone."""
    with (paper / "manuscript.toml").open("a") as file:
        file.write(STEPS)
    catalog = paper / "data/catalog.csv"
    assert {s.path: s.reason for s in list_states(paper)}["data/catalog.csv"] == "absent"
    assert build(paper)["data/catalog.csv"] == "absent"
    made = catalog.read_bytes()
    assert build(paper)["data/catalog.csv"] == ""
    catalog.write_bytes(made + b"x")
    assert build(paper)["data/catalog.csv"] == "not what its recipe made"
    assert catalog.read_bytes() == made
    replace_in(paper / "manuscript.toml", "--n 3", "--n 4")
    assert build(paper)["data/catalog.csv"] == "recipe changed"
    assert len(catalog.read_text().splitlines()) == 5


def test_step_that_fails_or_makes_nothing_is_named(paper):
    """The command is in the message, and nothing is drawn."""
    text = (paper / "manuscript.toml").read_text()
    for command, words in (
        ("galfig simulate maps.h5 --n 2", "failed with exit status 2"),
        ("galfig simulate data --n 2", "did not write"),
    ):
        step = f'[[steps]]\ncommand = "{command}"\nmakes = "absent.csv"\n'
        (paper / "manuscript.toml").write_text(text + step)
        with pytest.raises(ManuscriptError, match=words) as caught:
            build_manuscript(paper)
        assert command in str(caught.value)
    assert not (paper / "figures").exists()


def test_file_that_was_there_before_is_taken_as_it_is(paper):
    """Days of work are not done again because nothing recorded them."""
    step = '[[steps]]\ncommand = "galfig build-maps --out maps.h5"\nmakes = "maps.h5"\n'
    with (paper / "manuscript.toml").open("a") as file:
        file.write(step)
    assert build(paper)["maps.h5"] == ""
    assert build(paper)["maps.h5"] == ""


def test_depfile_is_what_make_reads(paper):
    """make runs the rule when the manifest is newer than the figures, and not otherwise."""
    if shutil.which("make") is None:
        pytest.skip("no make")
    build(paper)
    odd = paper.rename(paper.with_name("my paper"))
    write_depfile(odd, Path("paper.d"))
    target = str(Path(os.path.relpath(odd / "values.tex"))).replace(" ", "\\ ")
    Path("Makefile").write_text(f"{target}:\n\t@echo built\ninclude paper.d\n")
    for path, now in ((odd / "values.tex", 2000), (odd / "manuscript.toml", 1000)):
        os.utime(path, (now, now))
    os.utime(odd / "maps.h5", (1000, 1000))
    command = ["make", os.path.relpath(odd / "values.tex")]
    assert "built" not in subprocess.run(command, capture_output=True, text=True).stdout
    os.utime(odd / "manuscript.toml", (3000, 3000))
    assert "built" in subprocess.run(command, capture_output=True, text=True).stdout
    assert "figures/panels.pdf" in Path("paper.d").read_text()


LOG = r"""
LaTeX Warning: Reference `fig:x' on page 1 undefined on input line 9.
Package natbib Warning: Citation `Wu2020' on page 1 undefined on input line 8.
Overfull \hbox (0.5pt too wide) in paragraph at lines 1--2
Overfull \hbox (12.3pt too wide) in paragraph at lines 3--4
LaTeX Warning: There were undefined references.
"""


def test_complaints_are_what_a_reader_would_see():
    """Undefined references and citations, and what sticks out by more than a hair."""
    found = find_complaints(LOG)
    assert len(found) == 4
    assert found[-1].startswith("Overfull hbox, 12 pt")
    assert find_complaints("LaTeX Font Warning: nothing") == []


def test_paper_without_latex_names_the_packages(paper, monkeypatch):
    """One line with what to install."""
    monkeypatch.setattr(latex.shutil, "which", lambda name: None)
    with pytest.raises(ManuscriptError, match="latexmk texlive-publishers"):
        compile_paper(paper, "paper.tex")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("latexmk") is None, reason="no latexmk")
def test_paper_compiles_with_figures_captions_and_macros(paper):
    """All that build writes is LaTeX; an error is told in one line."""
    build(paper)
    source = (
        "\\documentclass{article}\\usepackage{graphicx}\\input{values}\\begin{document}\n"
        "\\colourN{} galaxies\\begin{figure}\\includegraphics[width=1in]{figures/panels}\n"
        "\\caption{\\protect\\input{captions/panels}\\label{fig:panels}}\\end{figure}\\ref{fig:nowhere}\n"
        "\\end{document}\n"
    )
    (paper / "paper.tex").write_text(source)
    pdf, complaints = compile_paper(paper, "paper.tex")
    with pypdfium2.PdfDocument(pdf) as document:
        words = document[0].get_textpage().get_text_bounded()
    assert "12 galaxies" in words
    assert any("fig:nowhere" in complaint for complaint in complaints)
    (paper / "paper.tex").write_text(source.replace("\\ref", "\\undefinedmacro"))
    with pytest.raises(ManuscriptError, match="Undefined control sequence"):
        compile_paper(paper, "paper.tex")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("galfig build-maps --out a.h5", ["--update"]),
        ("galfig build-maps --out a.h5 --overwrite", ["--overwrite"]),
        ("galfig build-maps --update --out a.h5", ["--update"]),
        ("galfig train --out a.h5", ["--overwrite"]),
    ],
)
@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_a_step_says_once_what_to_do_with_its_file(
    tmp_path, monkeypatch, caplog, command, expected, level
):
    """A store of this recipe stays, unless the step itself says otherwise; -q is passed on."""
    commands = []

    def note(command, **options):
        commands.append(command)
        (tmp_path / "made.csv").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", note)
    with caplog.at_level(level, "galfig"):
        run_steps(tmp_path, (Step(command=command, makes="made.csv"),), {})
    assert ("--quiet" in commands[0]) == (level == logging.ERROR)
    assert [word for word in commands[0] if word in ("--update", "--overwrite")] == expected


def test_command_line(paper, tmp_path):
    """build, list and check print tables; check exits with 1 and names the file."""

    def run(*arguments):
        command = [sys.executable, "-m", "galfig", "manuscript", *map(str, arguments), "-q"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first = run("build", paper, "--depfile", tmp_path / "paper.d")
    assert first.returncode == 0, first.stderr
    assert "figures/panels.pdf     new" in first.stdout
    assert (tmp_path / "paper.d").is_file()
    assert "up to date" in run("list", paper).stdout
    assert run("check", paper).returncode == 0
    replace_in(paper / "values.tex", "{12}", "{13}")
    failed = run("check", paper)
    assert failed.returncode == 1
    assert failed.stdout.startswith("values.tex  file edited by hand")
    assert failed.stderr.startswith("galfig: error: ")


def test_stores_alone_can_be_made(paper):
    """Nothing is drawn and nothing recorded, so that what is there can be checked against them."""
    with (paper / "manuscript.toml").open("a") as file:
        file.write(STEPS)
    states = build_manuscript(paper, only_stores=True)
    assert [(state.path, state.reason) for state in states] == [("data/catalog.csv", "absent")]
    assert (paper / "data/catalog.csv").is_file()
    assert not (paper / "figures").exists()
    assert not (paper / "manuscript.lock").exists()
