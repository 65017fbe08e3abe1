"""RO-Crates: what belongs to a store, whole, described as the specification says."""

import hashlib
import json
import os
import re
import shutil
import zipfile
from urllib.parse import quote, unquote

import pytest
from click.testing import CliRunner
from paper import build
from rocrate.rocrate import ROCrate
from samples import write_small_audit

import galfig
from galfig.cli import main
from galfig.config import load_settings
from galfig.errors import ConfigError, ManuscriptError, OutputError, StoreError
from galfig.export.crate import write_crate
from galfig.figures.registry import render_figure
from galfig.store.reader import Store, open_store
from galfig.store.selection import Query

pytestmark = pytest.mark.slow

METADATA = "ro-crate-metadata.json"
# ORCID's own example of an identifier.
ORCID = "0000-0002-1825-0097"
PUBLICATION = {
    "title": "Maps of <twelve> galaxies",
    "license": "CC-BY-4.0",
    "doi": "10.5281/zenodo.1234567",
    "date": "2026-11-26",
    "keywords": ["galaxies", "Grad-CAM"],
    "authors": [
        {"name": "Josiah Carberry", "orcid": ORCID, "affiliation": "Brown University"},
        {"name": "Zoë Ångström", "affiliation": "Brown University"},
        {"name": "A. Nonymous"},
    ],
}
SETTINGS = {"publication": PUBLICATION}


def load(crate):
    """Give the entities of a crate by identifier."""
    document = json.loads((crate / METADATA).read_text(encoding="utf-8"))
    entities = {entity["@id"]: entity for entity in document["@graph"]}
    assert len(entities) == len(document["@graph"])
    return entities


def as_list(value):
    return value if isinstance(value, list) else [value]


def list_files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def find_references(value):
    """Give each identifier that an entity refers to."""
    if isinstance(value, dict):
        if set(value) == {"@id"}:
            yield value["@id"]
        else:
            for key, item in value.items():
                if key != "@id":
                    yield from find_references(item)
    elif isinstance(value, list):
        for item in value:
            yield from find_references(item)


def check_specification(crate):
    """Check what RO-Crate 1.1 says that a crate must have, and that all files are in it."""
    document = json.loads((crate / METADATA).read_text(encoding="utf-8"))
    assert set(document) == {"@context", "@graph"}
    assert as_list(document["@context"])[0] == "https://w3id.org/ro/crate/1.1/context"
    entities = load(crate)
    descriptor, root = entities[METADATA], entities["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", root["datePublished"])
    assert {"name", "description", "license", "author"} <= set(root)
    parts = [part["@id"] for part in as_list(root["hasPart"])]
    assert {unquote(part) for part in parts} == list_files(crate) - {METADATA}
    for part in parts:
        entity, data = entities[part], (crate / unquote(part)).read_bytes()
        assert entity["@type"] == "File"
        assert entity["sha256"] == hashlib.sha256(data).hexdigest()
        assert entity["contentSize"] == str(len(data))
        assert re.fullmatch(r"\w+/[\w.+-]+", entity["encodingFormat"])
    for entity in entities.values():
        assert entity["@id"]
        assert entity["@type"]
        # An entity refers to others of the crate, and to the specification.
        for target in find_references(entity):
            assert target in entities or target.startswith("https://w3id.org/ro/crate/")


def damage_store(path):
    """Change a bit of a map."""
    data = bytearray(path.read_bytes())
    with open_store(path) as store:
        chunk = store._file["cams"].id.get_chunk_info(0)
    data[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(data)


def list_programs(entities, action):
    programs = [entities[target["@id"]] for target in as_list(action["instrument"])]
    return {program["name"]: program["softwareVersion"] for program in programs}


@pytest.fixture
def files(make_store, tmp_path):
    """Return a store, its network (here any bytes with that digest), an audit and a figure."""
    network = tmp_path / "m.safetensors"
    network.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    training = {"arch": "conv3", "versions": {"galfig": "0.1.0", "torch": "2.9", "fastai": "2.8"}}
    attrs = {"checkpoint_sha256": digest, "training": json.dumps(training)}
    store = make_store(attrs=attrs).rename(tmp_path / "maps x.h5")
    with open_store(store) as opened:
        plan = opened.attrs["plan_digest"]
    audit = tmp_path / "worth.h5"
    write_small_audit(audit, plan_digest=plan)
    figure = tmp_path / "roc.pdf"
    render_figure("roc", store, Query(n=None), figure)
    return store, network, audit, figure


def test_a_crate_is_as_the_specification_says(files, tmp_path):
    """Also for names that need escaping in an address; the library for crates reads it."""
    store, *include = files
    odd = tmp_path / "n%ü 1#.txt"
    odd.write_text("notes")
    crate = write_crate(store, tmp_path / "crate", [*include, odd], settings=SETTINGS)
    check_specification(crate)
    assert quote("n%ü 1#.txt") in load(crate)
    read = ROCrate(crate)
    assert read.root_dataset["name"] == PUBLICATION["title"]
    assert [author["name"] for author in read.root_dataset["author"]] == [
        author["name"] for author in PUBLICATION["authors"]
    ]
    assert read.get(f"https://orcid.org/{ORCID}")["affiliation"]["name"] == "Brown University"
    assert {entity.id for entity in read.data_entities} >= {"maps%20x.h5", "roc.pdf"}
    assert read.root_dataset["license"]["name"] == "CC-BY-4.0"
    copied = crate / "maps x.h5"
    assert copied.read_bytes() == store.read_bytes()
    open_store(copied).close()


def test_settings_are_in_the_crate(files, tmp_path):
    """DOI, date and keywords; one institution of two authors is one; an author has no ORCID."""
    entities = load(write_crate(files[0], tmp_path / "crate", settings=SETTINGS))
    root = entities["./"]
    assert root["identifier"] == "https://doi.org/10.5281/zenodo.1234567"
    assert (root["datePublished"], root["keywords"]) == ("2026-11-26", "galaxies, Grad-CAM")
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    kinds = [entity["@type"] for entity in entities.values()]
    assert (kinds.count("Person"), kinds.count("Organization")) == (3, 1)
    assert "affiliation" not in entities["#author-3"]
    assert "Grad-CAM maps of 12 simulated galaxies" in root["description"]
    own = {"publication": {**PUBLICATION, "description": "Mine.", "license": "https://x.org/l"}}
    root = load(write_crate(files[0], tmp_path / "other", settings=own))["./"]
    assert (root["description"], root["license"]) == ("Mine.", {"@id": "https://x.org/l"})


def test_what_was_made_from_what(files, tmp_path, make_store):
    """Figure and audit from the store, the store from its network, where they are in the crate."""
    store, network, audit, figure = files
    other, stranger = tmp_path / "other.h5", tmp_path / "stranger.pdf"
    make_store(n=20, attrs={"plan_digest": "another"}).rename(other)
    render_figure("roc", other, Query(n=None), stranger)
    curves = tmp_path / "audit.pdf"
    render_figure("audit-summary", audit, Query(n=None), curves)
    include = [curves, figure, audit, network, stranger]
    entities = load(write_crate(store, tmp_path / "crate", include, settings=SETTINGS))
    of_store = {"@id": "maps%20x.h5"}
    assert entities["roc.pdf"]["isBasedOn"] == entities["worth.h5"]["isBasedOn"] == of_store
    assert entities["audit.pdf"]["isBasedOn"] == [of_store, {"@id": "worth.h5"}]
    assert "isBasedOn" not in entities["stranger.pdf"]
    action = entities["#build-maps"]
    assert action["result"] == of_store
    assert action["object"] == {"@id": "m.safetensors"}
    with open_store(store) as opened:
        versions = {"galfig": opened.attrs["galfig_version"]}
        versions |= {"torch": opened.attrs["torch_version"]}
        assert action["endTime"] == opened.attrs["created"]
    assert list_programs(entities, action) == versions
    cited = [entities[one["@id"]] for one in entities["./"]["citation"]]
    grad_cam = next(one for one in cited if one["@id"] == "https://doi.org/10.1109/ICCV.2017.74")
    assert grad_cam["@type"] == "ScholarlyArticle"
    assert grad_cam["description"].startswith("Selvaraju et al. 2017. 2017 IEEE International")
    trained = entities["#train"]
    assert trained["result"] == action["object"]
    assert list_programs(entities, trained) == {"galfig": "0.1.0", "torch": "2.9", "fastai": "2.8"}
    network.write_bytes(b"another network")
    entities = load(write_crate(store, tmp_path / "second", [network], settings=SETTINGS))
    assert "object" not in entities["#build-maps"]
    assert "#train" not in entities


def test_a_figure_of_a_subset_is_made_from_it(files, tmp_path):
    """It says from which whole store it is, and the crate holds what it can be drawn from."""
    small, figure = galfig.subset(files[0], tmp_path / "small.h5", slice(3)), tmp_path / "p.pdf"
    with galfig.open_store(small) as store:
        galfig.plot.panels(store).save(figure)
    entities = load(write_crate(small, tmp_path / "crate", [figure], settings=SETTINGS))
    assert entities["p.pdf"]["isBasedOn"] == {"@id": "small.h5"}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_figure_of_a_whole_store_is_not_made_from_its_subset(files, tmp_path, is_first):
    """Whichever of them is the store of the crate; the subset is made from the whole."""
    store, figure = files[0], files[3]
    small = galfig.subset(store, tmp_path / "a.h5", slice(3))
    pair = (store, small) if is_first else (small, store)
    entities = load(write_crate(pair[0], tmp_path / "c", [figure, pair[1]], settings=SETTINGS))
    whole = {"@id": "maps%20x.h5"}
    assert entities["roc.pdf"]["isBasedOn"] == entities["a.h5"]["isBasedOn"] == whole
    assert "isBasedOn" not in entities["maps%20x.h5"]
    assert entities["a.h5"]["description"].startswith("Some galaxies of a larger store of galfig")


def test_of_two_subsets_none_is_the_source(files, tmp_path):
    """A figure names their whole store, which is not in the crate."""
    small, other = (
        galfig.subset(files[0], tmp_path / f"{name}.h5", rows)
        for name, rows in (("a", slice(3)), ("b", slice(3, 6)))
    )
    entities = load(write_crate(small, tmp_path / "c", [files[3], other], settings=SETTINGS))
    assert all("isBasedOn" not in entities[name] for name in ("roc.pdf", "a.h5", "b.h5"))


def test_a_second_store(files, tmp_path, make_store):
    """Its figures are made from it; one with its maps in parts, or damaged, is refused."""
    other, figure = tmp_path / "other.h5", tmp_path / "other.pdf"
    make_store(n=20, attrs={"plan_digest": "another"}).rename(other)
    render_figure("roc", other, Query(n=None), figure)
    entities = load(write_crate(files[0], tmp_path / "c", [figure, other], settings=SETTINGS))
    assert entities["other.pdf"]["isBasedOn"] == {"@id": "other.h5"}
    assert entities["other.h5"]["name"] == "Grad-CAM maps of 20 galaxies"
    damage_store(other)
    with pytest.raises(StoreError, match=r"other\.h5.*a damaged store is not published"):
        write_crate(files[0], tmp_path / "d", [other], settings=SETTINGS)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(Store, "n_parts", 3)
    with pytest.raises(StoreError, match="its maps are in 3 parts"):
        write_crate(files[0], tmp_path / "d", settings=SETTINGS)
    monkey.undo()


def test_a_manuscript_comes_without_stores_and_links(paper, tmp_path, monkeypatch):
    """Its figures, captions, macros and record, and texts beside them."""
    build(paper)
    (paper / "paper.tex").write_text("words")
    (paper / "references.bib").write_text("@article{}")
    (paper / "notes.docx").write_text("private")
    (paper / ".hidden.tex").write_text("private")
    (tmp_path / "outside.txt").write_text("secret")
    (paper / "link.txt").symlink_to(tmp_path / "outside.txt")
    (paper / "build").mkdir()
    (paper / "build" / "paper.log").write_text("log")
    monkeypatch.chdir(paper)
    crate = write_crate("maps.h5", tmp_path / "crate", ["."], settings=SETTINGS)
    check_specification(crate)
    texts = ["paper.tex", "references.bib", "values.tex", "galaxies.tex"]
    names = [f"figures/{name}.pdf" for name in ("panels", "confusion")]
    names += [
        f"captions/{name}{end}" for name in ("panels", "confusion") for end in (".tex", ".alt.txt")
    ]
    expected = {f"paper/{name}" for name in (*texts, *names, "manuscript.toml", "manuscript.lock")}
    assert list_files(crate) == expected | {"maps.h5", METADATA}
    figure = load(crate)["paper/figures/panels.pdf"]
    assert figure["isBasedOn"] == {"@id": "maps.h5"}
    (paper / "paper.tex").unlink()
    (paper / "paper.tex").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(ManuscriptError, match=r"paper\.tex"):
        write_crate("maps.h5", tmp_path / "second", ["."], settings=SETTINGS)
    assert not (tmp_path / "second").exists()


def test_a_zip_holds_the_same(files, tmp_path):
    """As the folder, with the same bytes twice; it is replaced only when told."""
    store, *include = files
    folder = write_crate(store, tmp_path / "crate", include, settings=SETTINGS)
    archive = write_crate(store, tmp_path / "crate.zip", include, settings=SETTINGS)
    first = archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        assert set(opened.namelist()) == list_files(folder)
        opened.extractall(tmp_path / "unpacked")
    check_specification(tmp_path / "unpacked")
    with pytest.raises(OutputError, match=r"crate\.zip: already exists"):
        write_crate(store, archive, include, settings=SETTINGS)
    write_crate(store, archive, include, settings=SETTINGS, if_exists="replace")
    assert archive.read_bytes() == first


def test_no_folder_of_this_machine_is_named(files, tmp_path):
    """Neither in the description nor in a name."""
    store, *include = files
    crate = write_crate(store, tmp_path / "crate", include, settings=SETTINGS)
    assert str(tmp_path) not in (crate / METADATA).read_text()
    assert all(not os.path.isabs(name) for name in list_files(crate))  # noqa: PTH117


@pytest.mark.parametrize("lacking", ["title", "authors", "license"])
def test_what_is_published_has_title_authors_and_licence(files, tmp_path, lacking):
    """The line names what lacks; nothing is written."""
    publication = {key: value for key, value in PUBLICATION.items() if key != lacking}
    with pytest.raises(ConfigError, match=rf"\[publication\] lacks {lacking}, expected title"):
        write_crate(files[0], tmp_path / "c", settings={"publication": publication})
    assert not (tmp_path / "c").exists()


def test_folders_and_names_that_are_taken(files, tmp_path):
    """A folder with anything in it stays; two files of one name are refused."""
    store, *include = files
    taken = tmp_path / "taken"
    taken.mkdir()
    write_crate(store, taken, settings=SETTINGS)
    before = list_files(taken)
    for if_exists in ("error", "replace"):
        with pytest.raises(OutputError, match="is not empty, expected a new folder"):
            write_crate(store, taken, include, settings=SETTINGS, if_exists=if_exists)
    assert list_files(taken) == before
    (tmp_path / "sub").mkdir()
    twin = shutil.copyfile(include[0], tmp_path / "sub" / "M.safetensors")
    with pytest.raises(OutputError, match="two files of the crate have this name"):
        write_crate(store, tmp_path / "c", [*include, twin], settings=SETTINGS)
    (tmp_path / METADATA).write_text("{}")
    with pytest.raises(OutputError, match="two files of the crate have this name"):
        write_crate(store, tmp_path / "c", [tmp_path / METADATA], settings=SETTINGS)
    with pytest.raises(OutputError, match="a folder without manuscript"):
        write_crate(store, tmp_path / "c", [tmp_path / "sub"], settings=SETTINGS)
    with pytest.raises(OutputError, match=r"is in .*, which it is to hold"):
        write_crate(store, tmp_path / "sub" / "c", [tmp_path / "sub"], settings=SETTINGS)
    with pytest.raises(OutputError, match="is no folder"):
        write_crate(store, tmp_path / "roc.pdf", settings=SETTINGS)
    with pytest.raises(OutputError, match="No such file"):
        write_crate(store, tmp_path / "c", [tmp_path / "absent"], settings=SETTINGS)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="a named pipe"):
        write_crate(store, tmp_path / "c", [tmp_path / "pipe"], settings=SETTINGS)
    assert not (tmp_path / "c").exists()
    assert not list(tmp_path.glob(".c.*"))


@pytest.mark.parametrize("name", [b"bad\xff.txt", b"a\\b.txt", b"a\nb.txt", b"a\x1b[1m.txt"])
@pytest.mark.parametrize("crate", ["c", "c.zip"])
def test_names_that_archives_do_not_take(files, tmp_path, name, crate):
    """Not UTF-8, a backslash, a control character: one line, printable, and nothing written."""
    odd = tmp_path / os.fsdecode(name)
    odd.write_text("notes")
    with pytest.raises(OutputError, match="a name with a character that archives") as caught:
        write_crate(files[0], tmp_path / crate, [odd], settings=SETTINGS)
    assert str(caught.value).isprintable()
    assert not (tmp_path / crate).exists()


def test_the_working_directory_is_no_crate(files, tmp_path, monkeypatch):
    """Even if it is empty: a line, and no traceback."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(OutputError, match="is the working directory or around it"):
        write_crate(files[0], ".", settings=SETTINGS)


def test_a_damaged_store_is_not_published(files, tmp_path):
    """It would be archived for good."""
    damage_store(files[0])
    with pytest.raises(StoreError, match="a damaged store is not published"):
        write_crate(files[0], tmp_path / "c", settings=SETTINGS)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("authors", [{"name": "A", "orcid": "0000-0002-1825-0098"}], "its last digit"),
        ("authors", [{"name": "A", "orcid": "1825"}], "expected one such as 0000-0002-1825-0097"),
        ("authors", [{"name": "A", "orchid": ORCID}], "unknown key 'orchid' in an item"),
        ("authors", [{"name": "A\x1b"}], "expected printable text"),
        ("authors", "A", "list"),
        ("license", "cc by", "expected an identifier such as CC-BY-4.0"),
        ("license", "javascript:x", "expected an identifier such as CC-BY-4.0"),
        ("doi", "zenodo.1", "expected one such as 10.5281/zenodo.1234567"),
        ("date", "26/11/2026", "expected a day such as 2026-11-26"),
        ("titel", "A", "did you mean 'title'"),
    ],
)
def test_settings_that_are_wrong(key, value, words):
    """One line with the key and what is expected."""
    with pytest.raises(ConfigError, match=rf"\[publication\] {key}: ") as caught:
        load_settings({"publication": {key: value}})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_read_from_toml_and_not_recorded(tmp_path):
    """A day without quotes, a DOI as an address, an ORCID ending in X; no store records them."""
    lines = ["[publication]", "date = 2026-11-26", 'doi = "https://doi.org/10.5281/zenodo.1"']
    lines += [
        "[[publication.authors]]",
        'name = "A"',
        'orcid = "https://orcid.org/0000-0001-5109-3700"',
    ]
    lines += ["[[publication.authors]]", 'name = "B"', 'orcid = "0000-0002-9079-593X"']
    (tmp_path / "galfig.toml").write_text("\n".join(lines))
    found = load_settings(tmp_path / "galfig.toml")
    assert (found.publication.date, found.publication.doi) == ("2026-11-26", "10.5281/zenodo.1")
    assert found.publication.authors[0].orcid == "0000-0001-5109-3700"
    assert found.record() == load_settings({}).record()


def test_the_command(files, tmp_path, monkeypatch):
    """It prints the crate; without --crate there is nothing to do."""
    monkeypatch.chdir(tmp_path)
    lines = ['[publication]\ntitle = "T"\nlicense = "MIT"\n[[publication.authors]]\nname = "A"\n']
    (tmp_path / "galfig.toml").write_text("".join(lines))
    store, network, *_ = files
    arguments = ["export", str(store), "--crate", "crate", "--include", str(network)]
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (0, "crate\n"), done.output
    check_specification(tmp_path / "crate")
    done = CliRunner().invoke(main, ["export", str(store)])
    assert done.exit_code == 2
    assert "nothing to write; give --table FILE, --maps FILE or --crate" in done.stderr
