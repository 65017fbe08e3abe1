"""Citing: what a store records leads to papers, and what it does not is said."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from samples import FETCHED

import galfig
from galfig.citing.main import Citations, cite
from galfig.citing.writing import FORMATS, save_citations, write_citations
from galfig.errors import ConfigError, OutputError
from galfig.store.reader import open_store

REAL = {"arch": "conv3", "n_train": {"low": 20, "high": 22}, "simulated": False}
SOFTWARE = {"python": "3.12.1", "galfig": "0.1.0", "numpy": "2.1", "torch": "2.9", "pillow": "11"}
QUERY = "SELECT ... WHERE oh_p50 > 0 AND rChi2 < 2 AND zErr < 0.01"
SDSS = {"York2000", "Gunn1998", "Gunn2006"}
MPA_JHU = {"Brinchmann2004", "Kauffmann2003", "Tremonti2004"}


@pytest.fixture
def make_real(make_store):
    """Make stores of galaxies that are not simulated."""

    def make(name="real.h5", fetched=None, training=(), catalog=None, **attrs):
        attrs |= {"simulated": False, "training": json.dumps({**REAL, **dict(training)})}
        if fetched is not None:
            attrs["fetched"] = json.dumps({**FETCHED, **fetched})
        return make_store(name, attrs=attrs, catalog=catalog)

    return make


def list_keys(citations):
    return {one.entry.key for one in citations.references}


def explain(citations, key):
    (one,) = (one for one in citations.references if one.entry.key == key)
    return one.reasons


def test_fetched_galaxies_of_sdss(make_real):
    """Release, survey, telescope and camera, the catalog of the columns, and the cuts."""
    store = make_real(
        fetched={"query": QUERY},
        catalog={"oh_p50": np.linspace(8, 9, 12)},
        software=json.dumps(SOFTWARE),
    )
    found = cite(store)
    assert isinstance(found, Citations)
    assert list_keys(found) >= {"Almeida2023", "Kollmeier2026", "Wu2019", *SDSS, *MPA_JHU}
    assert explain(found, "Almeida2023") == ("the cutouts are from SDSS DR18",)
    assert explain(found, "Tremonti2004")[0].startswith("the column oh_p50")
    (text,) = found.acknowledgements
    assert text.words.name == "SDSS-V"
    programs = {one.name: one for one in found.software}
    assert {name: one.versions for name, one in programs.items()} == {
        **{name: (version,) for name, version in SOFTWARE.items()},
        "fastai": (),
        "matplotlib": (),
    }
    assert [*programs][:2] == ["galfig", "python"]
    # No other query, no other columns.
    plain = list_keys(cite(make_real("plain.h5", fetched={"release": "dr17"})))
    assert not {"Wu2019", "Almeida2023", *MPA_JHU} & plain
    assert {"Abdurrouf2022", "Blanton2017", *SDSS} <= plain


def test_simulated_galaxies_have_no_survey(store_path, make_store):
    """Whatever is named or recorded beside them."""
    for store in (store_path, make_store("b.h5", attrs={"fetched": json.dumps(FETCHED)})):
        found = cite(store, ["sdss-dr17"])
        assert not SDSS & list_keys(found)
        assert not found.acknowledgements
        assert f"{store.name}: the galaxies are simulated, so that" in found.notes[0]


def test_an_unknown_origin_is_said(make_real):
    """And a survey that is named is cited, with its catalog."""
    store = make_real(catalog={"oh_p50": np.linspace(8, 9, 12)})
    found = cite(store)
    assert not {*SDSS, *MPA_JHU} & list_keys(found)
    assert found.notes == (
        "real.h5: where the galaxies come from is not recorded; name the survey with `surveys`",
    )
    named = cite(store, ["sdss-dr17", "galaxy-zoo-2"])
    assert list_keys(named) - list_keys(found) == {
        *("Abdurrouf2022", "Blanton2017", "Willett2013", *SDSS, *MPA_JHU)
    }
    assert [one.words.name for one in named.acknowledgements] == ["SDSS-IV"]
    assert not any("not recorded" in note for note in named.notes)
    settings = {"publication": {"surveys": ["legacy-dr10"]}}
    assert "Dey2019" in list_keys(cite(store, settings=settings))
    with pytest.raises(ConfigError, match="'sdss-dr99x' is unknown"):
        cite(store, ["sdss-dr99x"])


def test_a_mirror_is_not_passed_off_as_a_survey(make_real):
    """Its address stands in the notes."""
    store = make_real(
        fetched={"is_mirror": True, "address": "http://127.0.0.1:8000"},
        catalog={"oh_p50": np.linspace(8, 9, 12)},
    )
    found = cite(store)
    assert not {*SDSS, *MPA_JHU, "Almeida2023"} & list_keys(found)
    assert "http://127.0.0.1:8000" in found.notes[0]


@pytest.mark.parametrize(
    ("method", "keys"),
    [("grad-cam", {"Selvaraju2017"}), ("layer-cam", {"Jiang2021"}), ("new", set())],
)
def test_the_method(make_real, method, keys):
    """One that this version does not know is said to be unknown."""
    found = cite(make_real(method=method))
    assert {"Selvaraju2017", "Jiang2021"} & list_keys(found) == keys
    assert any("the method 'new'" in note for note in found.notes) == (method == "new")
    for key in keys:
        assert explain(found, key) == (f"the method is {method}",)


def test_the_network(make_real):
    """Its paper, its library, and the weights that it started from."""
    start = {"source": "timm convnext_nano.in12k_ft_in1k", "sha256": "a" * 64}
    training = {"arch": "timm:convnext_nano", "start": start, "versions": {"torch": "2.8"}}
    found = cite(make_real(training=training, software=json.dumps(SOFTWARE)))
    assert {"Liu2022", "Wightman2019", "Russakovsky2015"} <= list_keys(found)
    assert explain(found, "Liu2022") == ("the network is timm:convnext_nano",)
    # Another version trained it.
    assert {one.name: one.versions for one in found.software}["torch"] == ("2.8", "2.9")
    start = {"source": "mass.safetensors", "sha256": "a" * 64}
    notes = cite(make_real("b.h5", training={"start": start})).notes
    assert any("'mass.safetensors', whose own source galfig does not know" in one for one in notes)
    imported = {"weights_sha256": "a" * 64}
    notes = cite(make_real("c.h5", training={"imported": imported, "network_size": 24})).notes
    assert "c.h5: the network was trained by another program: cite its source" in notes


def test_lengths_need_a_cosmology(make_store):
    """Only where a figure can show them."""
    known = make_store("a.h5", kpc_per_arcsec=np.full(12, 1.5))
    unknown = make_store("b.h5", kpc_per_arcsec=np.full(12, np.nan))
    assert "Planck2020" in list_keys(cite(known))
    assert "Planck2020" not in list_keys(cite(unknown))


def test_several_stores(make_real, store_path):
    """Each paper once, with the reasons of all."""
    one = make_real(fetched={}, method="layer-cam")
    with open_store(store_path) as opened:
        found = cite([one, opened])
        assert not opened.is_closed
    keys = [reference.entry.key for reference in found.references]
    assert len(keys) == len(set(keys))
    assert {"Selvaraju2017", "Jiang2021", "Almeida2023"} <= set(keys)
    assert found.stores == ("real.h5", store_path.name)
    with pytest.raises(ConfigError, match="`stores`: none"):
        cite([])


def test_a_subset_cites_the_same(make_real, tmp_path):
    """It keeps where its galaxies are from, and what made the maps."""
    store = make_real(fetched={"query": QUERY}, software=json.dumps(SOFTWARE))
    small = galfig.subset(store, tmp_path / "small.h5", slice(3))
    whole, part = cite(store), cite(small)
    assert part.references == whole.references
    assert part.software == whole.software
    assert part.acknowledgements == whole.acknowledgements


def test_the_face(store_path):
    """It is among the names of the package."""
    assert galfig.cite(store_path) == cite(store_path)


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_has_everything(make_real, format):
    """Keys, reasons, versions, acknowledgements and notes."""
    found = cite(make_real(fetched={}, software=json.dumps(SOFTWARE)))
    words = write_citations(found, format)
    for one in found.references:
        assert one.entry.key in words
    assert "the cutouts are from SDSS DR18" in " ".join(words.replace("%", "").split())
    assert "citing-sdss" in words
    if format == "json":
        assert json.loads(words) == found.record()
    if format != "bibtex":
        assert "Funding for the Sloan Digital Sky Survey V" in words
        assert "3.12.1" in words
    if format == "text":
        assert max(map(len, words.splitlines())) <= 80
    with pytest.raises(ConfigError, match="expected one of 'text'"):
        write_citations(found, "xml")


def test_bibtex_comments_cannot_be_entries(make_real):
    """Words of a file may hold the sign with which an entry begins."""
    evil = "CDS/P/@misc{evil, title={x}}"
    found = cite(make_real(fetched={"service": "hips", "release": evil}))
    words = write_citations(found, "bibtex")
    assert "(at)misc{evil" in words
    assert words.count("@") == len(found.references)


def test_files_are_written_by_suffix(store_path, tmp_path):
    """And not replaced unasked."""
    found = cite(store_path)
    for name, format in (("a.bib", "bibtex"), ("a.tex", "latex"), ("a.txt", "text")):
        path = save_citations(found, tmp_path / name)
        assert path.read_text(encoding="utf-8") == write_citations(found, format)
    with pytest.raises(OutputError, match="already exists"):
        save_citations(found, tmp_path / "a.bib")
    save_citations(found, tmp_path / "a.bib", "json", if_exists="replace")
    assert json.loads((tmp_path / "a.bib").read_text()) == found.record()


PAPER = r"""\documentclass{article}
\usepackage{natbib}
\providecommand{\software}[1]{\paragraph{Software} #1}
\newenvironment{acknowledgments}{\paragraph{Acknowledgments}}{}
\begin{document}
\input{acknowledge}
\bibliographystyle{plainnat}
\bibliography{software}
\end{document}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("latexmk") is None, reason="TeX is not installed")
def test_a_paper_compiles_with_both_files(make_real, tmp_path):
    """No citation is undefined, and every entry is printed."""
    stores = [
        make_real("a.h5", fetched={"release": "dr17"}, software=json.dumps(SOFTWARE)),
        make_real("b.h5", fetched={"service": "legacy", "release": "ls-dr10"}, method="evidence"),
        make_real("c.h5", fetched={"service": "hips", "release": "CDS/P/SDSS9/color"}),
    ]
    found = cite(stores)
    save_citations(found, tmp_path / "software.bib")
    save_citations(found, tmp_path / "acknowledge.tex")
    (tmp_path / "paper.tex").write_text(PAPER)
    done = subprocess.run(
        ["latexmk", "-pdf", "-interaction=nonstopmode", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert "undefined" not in log
    cited = re.findall(r"\\bibitem\[.*?\]\{(\w+)\}", (tmp_path / "paper.bbl").read_text(), re.S)
    assert set(cited) == list_keys(found)
