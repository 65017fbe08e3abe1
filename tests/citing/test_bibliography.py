"""Bibliography: entries that BibTeX reads, each of which something cites."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from pybtex.database import parse_string

import galfig
from galfig.citing.bibliography import load_acknowledgements, load_bibliography
from galfig.citing.programs import _NETWORKS, METHODS, PROGRAMS, find_architecture
from galfig.citing.surveys import KNOWN, find_survey
from galfig.figures import methods as words

ROOT = Path(galfig.__file__).parents[1]
TEXT = (ROOT / "galfig" / "citing" / "references.bib").read_text(encoding="utf-8")
NEEDED = {"article": {"journal", "volume", "pages"}, "inproceedings": {"booktitle"}}


def list_cited():
    """List all keys that some store can lead to."""
    keys = {key for table in (METHODS, PROGRAMS) for found in table.values() for key in found}
    keys |= {key for _, key in _NETWORKS}
    keys |= {key for name in KNOWN for key in find_survey(name).keys}
    keys |= {*find_architecture("xresnet18_mish_sa").keys, *find_architecture("zoobot:x").keys}
    # Those that the code of galfig.citing.main names.
    return keys | {"Wu2019", "Wu2020", "Planck2020", "Russakovsky2015"}


def test_every_entry_is_cited_and_every_citation_has_an_entry():
    """Nothing is missing, and nothing waits for a use."""
    assert set(load_bibliography()) == list_cited()


def test_another_reader_finds_the_same_entries():
    """By pybtex, which is strict."""
    found = parse_string(TEXT, "bibtex").entries
    ours = load_bibliography()
    assert list(found) == list(ours)
    for key, entry in found.items():
        persons = set(entry.persons)
        fields = {name.lower(): value for name, value in ours[key].fields.items()}
        assert {name.lower(): value for name, value in entry.fields.items()} == {
            name: value for name, value in fields.items() if name not in persons
        }
        shown = "".join(entry.persons["author"][0].last_names).strip("{}")
        assert ours[key].label.startswith(shown[:3].replace("{", ""))
        n_authors = len(entry.persons["author"])
        assert ("et al." in ours[key].label, "&" in ours[key].label) == (
            n_authors > 2 or "and others" in ours[key].fields["author"],
            n_authors == 2 and "and others" not in ours[key].fields["author"],
        )


@pytest.mark.parametrize("key", load_bibliography())
def test_entries_are_complete(key):
    """In ASCII, with what a reference list prints, and journals in words rather than macros."""
    entry = load_bibliography()[key]
    # arXiv's and NeurIPS's proceedings have no pages.
    needed = NEEDED.get(entry.kind, set()) - ({"pages"} if key == "Paszke2019" else set())
    assert {"author", "title", "year"} | needed <= set(entry.fields)
    assert entry.bibtex.isascii()
    assert not re.search(r"\\(?:apj|aj|mnras|aap)\b", entry.bibtex)
    assert re.fullmatch(r"\d{4}", entry.fields["year"])
    assert re.fullmatch(r"10\.\d{4,5}/[!-~]+", entry.fields.get("doi", "10.1234/x"))
    eprint = entry.fields.get("eprint", "2001.00018")
    assert re.fullmatch(r"\d{4}\.\d{4,5}|astro-ph/\d{7}", eprint)
    if entry.fields.get("note", "").startswith("arXiv:"):
        assert entry.fields["note"] == f"arXiv:{eprint}"
    assert re.search(r"\d{4}$", entry.label)
    assert not re.search(r"[{}\\]", entry.label + entry.title + entry.place)


def test_labels_and_addresses():
    """As captions write them."""
    found = load_bibliography()
    assert found["Selvaraju2017"].label == "Selvaraju et al. 2017"
    assert found["Draelos2020"].label == "Draelos & Carin 2020"
    assert found["galfig"].label == "The galfig authors 2026"
    assert found["Wu2020"].address == "https://doi.org/10.3847/1538-4357/abacbb"
    assert found["Draelos2020"].address == "https://arxiv.org/abs/2011.08891"
    assert found["Dey2019"].place == "The Astronomical Journal 157, 168"
    assert found["Srinivas2021"].label == "Srinivas & Fleuret 2021"


def test_captions_cite_the_same_papers():
    """The first of a method is whom its captions name."""
    found = load_bibliography()
    assert METHODS.keys() == words.METHODS.keys()
    for name, keys in METHODS.items():
        assert found[keys[0]].label in words.METHODS[name].source


def test_the_paper_of_the_manuscript_cites_the_same():
    """What stands in both bibliographies agrees, up to macros for journals and further pages."""
    path = ROOT / "manuscripts" / "grad-cam-metallicity" / "references.bib"
    if not path.exists():
        pytest.skip("the manuscript is not here")
    theirs, ours = parse_string(path.read_text(encoding="utf-8"), "bibtex").entries, 0
    for key, entry in load_bibliography().items():
        if key in theirs:
            ours += 1
            fields = theirs[key].fields
            assert re.sub("[{}]", "", entry.fields["title"]) == re.sub("[{}]", "", fields["title"])
            for name in ("volume", "year", "doi", "eprint"):
                assert entry.fields.get(name) == fields.get(name), (key, name)
            assert (
                fields.get("pages", "").split("--")[0]
                == entry.fields.get("pages", "").split("--")[0]
            )
    assert ours > 10


def test_galfig_is_cited_as_its_file_says():
    """CITATION.cff is what GitHub shows."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    entry = load_bibliography()["galfig"]
    assert f'title: "{entry.title}"' in text
    assert f'name: "{entry.fields["author"].strip("{}")}"' in text
    titles = re.findall(r'^    title: "(.+)"$', text, re.MULTILINE)
    mine = {load_bibliography()[key].title for key in ("Wu2020", "Selvaraju2017")}
    assert set(titles) == mine


def test_acknowledgements_are_all_used_and_printable():
    """Each belongs to a survey, and its paragraphs are lines."""
    found = load_acknowledgements()
    assert set(found) == {name for key in KNOWN for name in find_survey(key).acknowledgements}
    for one in found.values():
        assert all(line.isprintable() and line.endswith(".") for line in one.text.splitlines())
        assert "  " not in one.text


def test_the_package_holds_its_data():
    """The wheel takes the package as a whole; a source distribution takes files by suffix."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {"/galfig/**/*.bib", "/galfig/**/*.toml"} <= set(included)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bibtex") is None, reason="TeX is not installed")
def test_all_entries_compile_without_a_warning(tmp_path):
    """In a bare article with natbib."""
    (tmp_path / "all.bib").write_text(TEXT, encoding="utf-8")
    (tmp_path / "a.aux").write_text(
        "\\citation{*}\n\\bibstyle{plainnat}\n\\bibdata{all}\n", encoding="utf-8"
    )
    done = subprocess.run(
        ["bibtex", "a"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "Warning" not in done.stdout
    assert (tmp_path / "a.bbl").read_text().count("\\bibitem") == len(load_bibliography())
