"""Subsets: a figure of named galaxies has the same bytes, and everything else stays true."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from samples import draw_galaxies, join_parts, list_figures, make_attributes, write_small_audit

import galfig
from galfig.cli import main
from galfig.errors import FigureError, OutputError, SelectionError, StoreError
from galfig.figures.registry import FIGURES, render_figure
from galfig.info import describe_file, summarise
from galfig.store.content import read_content
from galfig.store.reader import open_store
from galfig.store.selection import Query
from galfig.verify import verify_path

ROWS = [7, 2, 9, 4, 1]
SORTED = sorted(ROWS)
CATALOG = {"objID": [str(1237665024900858100 + i) for i in range(12)], "n": np.arange(12)}
SPLIT = np.array(["train", "valid", "test", ""] * 3, dtype=object)


def cut(path, name="subset.h5", rows=ROWS):
    return galfig.subset(path, path.with_name(name), rows)


@pytest.fixture
def known(trained_store):
    """Give the small store of which most is known, and a subset of five of its galaxies."""
    return trained_store, cut(trained_store)


def test_all_of_a_galaxy_is_the_same(make_store):
    """Each dataset, cell of the catalog and map, in the order asked for, and a seal of its own."""
    angles = np.linspace(-180, 180, 12, dtype=np.float32)
    sky = {"north_angle": angles, "east_angle": angles[::-1]}
    path = make_store(catalog=CATALOG, split=SPLIT, n_networks=3, **sky)
    small = cut(path)
    assert verify_path(small) == []
    with open_store(path) as store, open_store(small) as part:
        assert part.objid.tolist() == store.objid[SORTED].tolist()
        assert part.chosen.tolist() == store.objid[ROWS].tolist()
        names = ("redshift", "label", "value", "logits", "probs", "losses", "log_odds_sd")
        for name in (*names, "north_angle", "east_angle"):
            np.testing.assert_array_equal(getattr(part, name), getattr(store, name)[SORTED])
        assert part.split.tolist() == store.split[SORTED].tolist()
        for name in ("cams", "cams_sd", "evidence", "evidence_sd", "pixels"):
            np.testing.assert_array_equal(
                getattr(part, name)(range(5)), getattr(store, name)(SORTED)
            )
        assert part.catalog.equals(store.catalog.iloc[SORTED].reset_index(drop=True))
        assert part.rejected == store.rejected
        assert part.score() == store.score()
        assert part.whole == store.whole
        assert (len(part), part.is_subset, store.is_subset) == (5, True, False)
    with h5py.File(path) as whole, h5py.File(small) as file:
        assert set(file) == set(whole)
        assert {key for key in file.attrs} - {key for key in whole.attrs} == {"subset"}
        for name in ("cams", "cutouts", "label"):
            assert file[name].attrs["description"] == whole[name].attrs["description"]


@pytest.mark.parametrize("rows", [[0, 2], [1, 4, 2]])
def test_a_compass_is_that_of_the_galaxies_that_are_drawn(make_store, tmp_path, rows):
    """Whether there are arrows does not follow from others, so that a subset has the same."""
    north = np.array([0, 40, 0, 0, np.nan, 130] * 2, np.float32)
    east = np.where(north == 130, north - 270, north + 90).astype(np.float32)
    path = make_store(north_angle=north, east_angle=east)
    with open_store(path) as store:
        query = Query(objids=tuple(store.objid[rows].tolist()))
    written = []
    for source in (path, cut(path, rows=rows)):
        out = tmp_path / source.stem / "panels.pdf"
        out.parent.mkdir()
        render_figure("panels", source, query, out)
        written.append([out.read_bytes(), out.with_suffix(".tex").read_bytes()])
    assert written[0] == written[1]
    assert (b"Arrows" in written[0][1]) == (1 in rows)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pdf", ".png"])
@pytest.mark.parametrize("name", [name for name in list_figures() if FIGURES[name].shows_galaxies])
def test_figures_of_named_galaxies_have_the_same_bytes(known, other_store, tmp_path, name, suffix):
    """With caption, alternative text and numbers, also where captions speak of all galaxies."""
    drawn = []
    with open_store(known[0]) as store:
        names = tuple(store.objids(ROWS[:4]))
    options = {"other": other_store} if name == "compare" else {}
    if name == "atlas" and suffix == ".png":
        names = names[:1]
    for number, path in enumerate(known):
        out = tmp_path / str(number) / f"f{suffix}"
        query = Query(n=None, objids=names)
        files = render_figure(name, path, query, out, data=out.with_suffix(".ecsv"), **options)
        drawn.append([file.read_bytes() for file in files])
    for one, other in zip(*drawn, strict=True):
        assert one.split(b"\n") == other.split(b"\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["training-curves", "learning-rate"])
def test_figures_of_the_training_have_the_same_bytes(known, tmp_path, name):
    """They show no galaxies."""
    out = [tmp_path / str(number) / "f.pdf" for number in range(2)]
    for path, file in zip(known, out, strict=True):
        render_figure(name, path, Query(n=None), file)
    assert out[0].read_bytes() == out[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"n_networks": 3},
        {"class_names": ("Sa", "Sb", "Irr")},
        {"class_names": ("Sa", "Sb", "Irr"), "n_networks": 3},
        {"n": 3},
        {"attrs": {"method": "evidence"}},
        {"attrs": {"head_bias": "[0.1, 0.2]"}},
        {"attrs": {"method": "layer-cam", "pixel_scale": float("nan")}},
    ],
    ids=str,
)
def test_captions_of_maps_agree_for_all_kinds_of_stores(make_store, tmp_path, options):
    """Sums, agreement and scales of other galaxies enter them."""
    path = make_store(**options)
    small = cut(path, rows=[1])
    method = options.get("attrs", {}).get("method")
    for name in ("panels", *(["evidence"] if method != "layer-cam" else [])):
        with open_store(path) as store:
            query = Query(n=None, objids=(store.objids(1),))
        files = [
            render_figure(name, one, query, tmp_path / f"{name}{number}" / "f.png")
            for number, one in enumerate((path, small))
        ]
        for one, other in zip(*files, strict=True):
            assert one.read_bytes() == other.read_bytes()


def test_captions_of_other_selections_say_what_they_chose_from(known, tmp_path):
    """A count of galaxies is that of the subset, and the accuracy that of the whole store."""
    for query, words in (
        (
            Query(n=2),
            "2 of the 5 simulated galaxies of the validation set in a subset of 5 of 12 galaxies, "
            "drawn at random (seed 256)",
        ),
        (
            Query(n=None, zmin=0.05),
            "the 3 simulated galaxies of the validation set with 0.05 < z in a subset of 5 of 12 "
            "galaxies",
        ),
    ):
        out = tmp_path / "f.png"
        render_figure("panels", known[1], query, out, if_exists="replace")
        caption = out.with_suffix(".txt").read_text()
        assert words in caption
        with open_store(known[0]) as store:
            score = store.score()
        assert f"{score.n_right} of {score.n} correctly" in caption
    with open_store(known[1]) as part:
        plot = galfig.plot.panels(part, part.select(n=2))
    assert plot._provenance["subset"] == {"n": 5, "of": 12}


def test_summaries_say_that_it_is_a_part(known):
    """In a line, in a notebook and in 'galfig info'."""
    with open_store(known[1]) as part:
        assert "a subset of 5 of 12 galaxies" in repr(part)
        assert "a subset of 5 of 12 galaxies" in part._repr_html_()
        assert "all in the store of 12 galaxies of which this is a subset" in repr(part)
    assert "a subset of 5 of 12 galaxies" in summarise(known[1])
    found = describe_file(known[1])
    assert (found["galaxies"], found["subset_of"]) == (5, 12)
    assert "subset_of" not in describe_file(known[0])


def test_a_subset_of_a_subset_is_one_of_the_whole(known):
    """The same bytes as if it had been cut out at once."""
    twice = cut(known[1], "twice.h5", [4, 2, 4])
    once = cut(known[0], "once.h5", [9, 4])
    assert once.read_bytes() == twice.read_bytes()
    assert read_content(once) == read_content(twice)
    assert read_content(once)["catalog"] != read_content(known[0])["catalog"]


def test_positions_of_one_do_not_name_galaxies_of_the_other(known):
    """They would be other galaxies; identifiers are the same in both."""
    with open_store(known[0]) as store, open_store(known[1]) as part:
        rows = store.select(n=2)
        with pytest.raises(SelectionError, match="selected from another store"):
            part.cams(rows)
        with pytest.raises(FigureError, match="selected from another store"):
            galfig.plot.panels(part, rows)
        with pytest.raises(
            SelectionError, match=r"no galaxy '.*100'; it holds 5 others, a subset of 12"
        ):
            part.cams(store.objid[0])


def test_audits_of_the_whole_store_are_of_its_galaxies(known, tmp_path):
    """The same maps are in both."""
    write_small_audit(tmp_path / "a.h5")
    options = {"audit": tmp_path / "a.h5", "column": "z"}
    known = known[0], cut(known[0], "more.h5", range(11))
    with open_store(known[1]) as part:
        query = Query(n=None, objids=tuple(part.objid))
    files = [
        render_figure("attribution-vs", path, query, tmp_path / str(number) / "f.pdf", **options)
        for number, path in enumerate(known)
    ]
    assert files[0][0].read_bytes() == files[1][0].read_bytes()


def test_the_command(store_path, tmp_path):
    """The galaxies that the same options draw, and then those of the file itself."""
    small = tmp_path / "fig3.h5"
    run = CliRunner().invoke
    found = run(main, ["subset", str(store_path), "--n", "3", "--out", str(small)])
    assert (found.exit_code, found.stdout) == (0, f"{small}\n"), found.output
    assert small.stat().st_size < store_path.stat().st_size
    for path, words in ((store_path, ["--n", "3"]), (small, ["--objid", f"@{small}"])):
        out = tmp_path / path.stem / "f.png"
        assert run(main, ["render", str(path), *words, "--out", str(out)]).exit_code == 0
    shown = [(tmp_path / stem / "f.txt").read_text() for stem in ("maps", "fig3")]
    lists = [caption.split("From top to bottom: ")[1] for caption in shown]
    assert lists[0] == lists[1]
    again = run(main, ["subset", str(store_path), "--out", str(small)])
    assert (again.exit_code, "already exists; use --overwrite" in again.stderr) == (1, True)


def test_what_cannot_be_written_is_told(store_path, tmp_path):
    """The store itself, another suffix, no galaxy; nothing is left."""
    for path, words in ((store_path, "one of the inputs"), (tmp_path / "a.fits", "expected .h5")):
        with pytest.raises(OutputError, match=words):
            galfig.subset(store_path, path, [0], if_exists="replace")
    with pytest.raises(SelectionError, match="hold no galaxy"):
        galfig.subset(store_path, tmp_path / "a.h5", [])
    assert [file.name for file in tmp_path.iterdir()] == ["maps.h5"]


def test_a_damaged_store_gives_no_subset(store_path, tmp_path):
    """Neither attributes nor numbers nor maps that are not what was written."""
    for number, damage in enumerate(("attribute", "array", "map")):
        path = shutil.copyfile(store_path, tmp_path / f"{number}.h5")
        with h5py.File(path, "r+") as file:
            if damage == "attribute":
                file.attrs["target_layer"] = "conv9"
            elif damage == "array":
                file["redshift"][3] = 0.5
            else:
                offset = file["cams"].id.get_chunk_info_by_coord((7, 0, 0, 0)).byte_offset
        if damage == "map":
            with path.open("r+b") as raw:
                raw.seek(offset + 20)
                raw.write(b"\xff\x00\xff\x00")
        with pytest.raises(StoreError, match=r"verify|checksum mismatch|damaged"):
            galfig.subset(path, tmp_path / "part.h5", [7])
        assert not (tmp_path / "part.h5").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {
                **{"n_galaxies": 4, "n_in_class": [2, 2], "n_scored": [2, 2], "n_not_scored": 0},
                **{"splits": {"valid": 4}, "scored": {"valid": 4}, "n_right": 1},
            },
            "a subset of 5 of 4 galaxies",
        ),
        ({"n_galaxies": 0}, "labels of 0 galaxies"),
        ({"n_right": 99}, "99 right of"),
        ({"n_in_class": [1]}, "numbers of other classes"),
        ({"scored": {"\\write18{id}": 3}}, r"scored.*should be '', 'train', 'valid' or 'test'"),
        ({"splits": {"x": 12}}, r"splits.*should be '', 'train', 'valid' or 'test'"),
        ({"splits": {"valid": -12}}, "splits.valid.*greater than or equal to 0"),
        ({"n_galaxies": (1 << 53) - 1}, "splits of 12 of 9007199254740991 galaxies"),
        ({"scored": {"valid": 13}}, "more galaxies scored than their split holds"),
        ({"scored": {}}, "scored 0 galaxies"),
        ({"n_not_scored": 99}, "and 99 not of"),
        ({"balanced_accuracy": 1e308}, "expected one from 0 to 1"),
        ({"agreement": 1e300}, "expected a correlation"),
        ({"pixel_scale": -5.0}, "pixel scale -5, expected a positive number"),
        ({"order": [0, 1, 2, 3, 3]}, "does not name each of them once"),
    ],
)
def test_what_a_subset_says_is_checked(known, change, words):
    """A stranger's file may say anything."""
    with h5py.File(known[1], "r+") as file:
        said = json.loads(file.attrs["subset"])
        (said if "order" in change else said["whole"]).update(change)
        del file.attrs["subset"]
        file.attrs["subset"] = json.dumps(said)
    with pytest.raises(StoreError, match=words):
        open_store(known[1])
    assert len(verify_path(known[1])) == 1


def test_a_virtual_store_gives_one_of_its_own(tmp_path):
    """Maps are taken from the parts, and the subset needs none."""
    parts, home = [], tmp_path / "maps.h5.parts"
    home.mkdir()
    for start, stop in ((0, 4), (4, 9)):
        parts.append(home / f"{start:06d}.h5")
        draw_galaxies(start, stop).write(parts[-1])
    objids = [f"g{index}" for index in range(9)]
    table = pd.DataFrame({"objID": objids}, index=objids)
    attrs = make_attributes(("a", "b"), size=10)
    join_parts(tmp_path / "copied.h5", parts, table, attrs)
    join_parts(tmp_path / "maps.h5", parts, table, attrs, is_virtual=True)
    made = [cut(tmp_path / name, f"of-{name}", [5, 1]) for name in ("maps.h5", "copied.h5")]
    assert made[0].read_bytes() == made[1].read_bytes()
    shutil.rmtree(home)
    assert verify_path(made[0]) == []
    with open_store(made[0]) as part, open_store(tmp_path / "copied.h5") as store:
        assert part.n_parts == 0
        np.testing.assert_array_equal(part.cams(["g1", "g5"]), store.cams([1, 5]))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["native", "statistics"])
def test_stores_without_cutouts_give_subsets_without(forms, tmp_path, form):
    """Their figures are drawn again from the images, which are where they were."""
    folder = shutil.copytree(forms, tmp_path / "data")
    run, path = CliRunner().invoke, folder / f"{form}.h5"
    found = run(main, ["subset", str(path), "--n", "2", "--out", str(folder / "s.h5")])
    assert found.exit_code == 0, found.output
    far = galfig.subset(folder / "s.h5", tmp_path / "elsewhere" / "t.h5")
    assert verify_path(folder / "s.h5") == verify_path(far) == []
    drawn = []
    for source in (path, folder / "s.h5"):
        out = tmp_path / source.stem / "f.png"
        words = ["render", str(source), "--objid", f"@{folder / 's.h5'}", "--out", str(out)]
        assert run(main, words).exit_code == 0
        drawn.append(out.read_bytes())
    assert drawn[0] == drawn[1]
    with open_store(path) as store, open_store(far) as part:
        assert store.record.images_dir is not None
        # A store names no folder that is not below its own.
        assert part.record.images_dir is None


@pytest.mark.parametrize("name", ["confusion-matrix", "roc", "reliability"])
def test_numbers_of_a_subset_are_not_those_of_the_network(known, name):
    """Somebody chose its galaxies; the accuracy that captions give is that of the whole."""
    _, small = known
    plot = name.replace("-", "_")
    with open_store(small) as part:
        caption = getattr(galfig.plot, plot)(part).caption
        named = getattr(galfig.plot, plot)(part, part.objid).caption
    assert "chosen for a subset of a store, so that the numbers do not measure" in caption
    assert "subset" not in named
