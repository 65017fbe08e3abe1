"""Building a manuscript: drawn where out of date, and nothing else touched."""

import json

import numpy as np
import pytest
from paper import MADE, STEPS, build, check, replace_in

from galfig.errors import ManuscriptError
from galfig.manuscript.build import build_manuscript, list_states

# Each builds a manuscript, with figures.
pytestmark = pytest.mark.slow


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


def test_panels_of_evidence_leave_the_others_as_they_are(paper):
    """`map` in the manifest draws signed maps; a figure without it keeps every byte."""
    build(paper)
    before = snapshot(paper)
    manifest = paper / "manuscript.toml"
    more = manifest.read_text().split("[[figure]]")[-1].replace('"panels"', '"signed"', 1)
    manifest.write_text(f'{manifest.read_text()}[[figure]]{more}map = "evidence"\n')
    assert build(paper)["figures/panels.pdf"] == ""
    after = snapshot(paper)
    for name in ("figures/panels.pdf", "captions/panels.tex", "captions/panels.alt.txt"):
        assert after[paper / name] == before[paper / name]
    assert after[paper / "figures/signed.pdf"] != after[paper / "figures/panels.pdf"]
    assert "log-odds" in (paper / "captions/signed.tex").read_text()
    assert "log-odds" not in (paper / "captions/panels.tex").read_text()
    # Drawn anew beside the other, the default is the same again.
    (paper / "figures/panels.pdf").unlink()
    build(paper)
    assert snapshot(paper)[paper / "figures/panels.pdf"] == before[paper / "figures/panels.pdf"]
    assert check(paper, exact=True) == []


def test_only_what_changed_is_drawn_again(paper):
    """Another selection redraws its figure, and says what changed; the other stays."""
    build(paper)
    replace_in(paper / "manuscript.toml", "n = 2", "n = 3")
    reasons = build(paper)
    assert reasons["figures/panels.pdf"] == "settings changed: selection n 2 → 3"
    assert reasons["figures/confusion.pdf"] == ""
    assert reasons["galaxies.tex"] == "changed"
    # It holds the alternative text, which counts the galaxies.
    assert reasons["values.tex"] == "changed"
    assert check(paper) == []


def test_build_names_the_figure_that_cannot_be_drawn(paper):
    """The reason alone would not say which of many."""
    replace_in(paper / "manuscript.toml", "zmin = 0.03", "zmin = 5")
    with pytest.raises(ManuscriptError, match=r"figure 'panels': .*no galaxy with 5 < z"):
        build_manuscript(paper)


def test_stores_alone_can_be_made(paper):
    """Nothing is drawn and nothing recorded, so that what is there can be checked against them."""
    with (paper / "manuscript.toml").open("a") as file:
        file.write(STEPS)
    states = build_manuscript(paper, only_stores=True)
    assert [(state.path, state.reason) for state in states] == [("data/catalog.csv", "absent")]
    assert (paper / "data/catalog.csv").is_file()
    assert not (paper / "figures").exists()
    assert not (paper / "manuscript.lock").exists()


def test_figures_follow_the_content_of_their_store(paper, make_store):
    """A store of the same plan with other maps is drawn; one that was only built later is not."""
    build(paper)
    later = make_store("later.h5", attrs={"created": "2027-01-01", "torch_version": "9"})
    later.replace(paper / "maps.h5")
    assert set(build(paper).values()) == {""}
    cams = np.random.default_rng(5).normal(size=(12, 2, 24, 24)).astype(np.float32)
    make_store("other.h5", cams=cams).replace(paper / "maps.h5")
    states = {state.path: state.reason for state in list_states(paper)}
    assert states["figures/panels.pdf"] == "store changed: colour (maps)"
    before = (paper / "figures/panels.pdf").read_bytes()
    assert build(paper)["figures/panels.pdf"] == "store changed: colour (maps)"
    assert (paper / "figures/panels.pdf").read_bytes() != before
    assert check(paper) == []


def test_a_figure_that_looks_the_same_keeps_its_file(paper, make_store):
    """As with maps of another processor, which differ in a digit that no reader sees."""
    build(paper)
    files = {path: path.read_bytes() for path in paper.rglob("*.pdf")}
    rng = np.random.default_rng(0)
    rng.normal(0, 3, (12, 2))
    cams = rng.normal(0, 1e-3, (12, 2, 24, 24)) * (1 + 1e-3)
    make_store("other.h5", cams=cams.astype(np.float32)).replace(paper / "maps.h5")
    reason = {s.path: s.reason for s in list_states(paper)}["figures/panels.pdf"]
    assert reason == "store changed: colour (maps)"
    assert set(build(paper).values()) == {""}
    assert {path: path.read_bytes() for path in paper.rglob("*.pdf")} == files
    assert {state.reason for state in list_states(paper)} == {""}


def test_a_record_without_content_is_completed(paper):
    """That of an older version: the figures are drawn once, and stay where they look the same."""
    build(paper)
    record = json.loads((paper / "manuscript.lock").read_text())
    for figure in record["figures"].values():
        del figure["content"]
    (paper / "manuscript.lock").write_text(json.dumps(record))
    assert check(paper) == []
    reasons = {state.reason for state in list_states(paper)}
    assert reasons == {"", "content of the store not recorded: colour"}
    assert set(build(paper).values()) == {""}
    assert {state.reason for state in list_states(paper)} == {""}


def test_a_change_of_picks_makes_the_figure_out_of_date(paper):
    """The galaxies of a list are those of the figure, and of no other figure."""
    picks, manifest = paper / "picks.txt", paper / "manuscript.toml"
    replace_in(manifest, "{ n = 2, zmin = 0.03 }", '{ objids = ["@./picks.txt"] }')
    with pytest.raises(ManuscriptError, match=r"picks.txt: no such file, expected identifiers"):
        build(paper)
    picks.write_text("# chosen by eye\n1237665024900858105\n1237665024900858101\n")
    build(paper)
    caption = (paper / "captions/panels.tex").read_text()
    assert "1237665024900858105 (" in caption
    assert caption.index("858105") < caption.index("858101")
    assert set(build(paper).values()) == {""}
    assert check(paper, exact=True) == []
    picks.write_text("1237665024900858105\n")
    states = {state.path: state.reason for state in list_states(paper)}
    assert states["figures/panels.pdf"] == "list of galaxies changed: picks.txt"
    assert states["figures/confusion.pdf"] == ""
    assert ("figures/panels.pdf", "list of galaxies changed: picks.txt") in check(paper)
    assert build(paper)["figures/panels.pdf"] == "list of galaxies changed: picks.txt"
    assert "858101" not in (paper / "captions/panels.tex").read_text()
    picks.unlink()
    states = {state.path: state.reason for state in list_states(paper)}
    assert states["figures/panels.pdf"] == "list of galaxies changed: picks.txt"
