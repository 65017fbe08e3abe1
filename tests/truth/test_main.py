"""Tests of galfig.score: what is named, what is not, and what is left out."""

import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import galfig
from galfig.catalog.cues import simulate_cue, simulate_cue_catalog
from galfig.cli import main
from galfig.errors import ConfigError, ScoreError

N = 14


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write galaxies of three cues."""
    folder = tmp_path_factory.mktemp("truth")
    for cue in ("corner", "suppressor", "conjunction"):
        galfig.simulate(folder / cue, N, cue=cue)
    return folder


def read_masks(folder, component):
    catalog = simulate_cue_catalog(folder.name, N, 0)
    return np.stack(
        [
            np.asarray(Image.open(folder / "masks" / component / f"{objid}.png"))
            for objid in catalog["objID"]
        ]
    )


def blur(masks, width=4):
    """Return maps as a network might give them: wider than the component, with noise."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    return gaussian_filter(masks.astype(float), (0, width, width)) + rng.normal(
        0, 2e-4, masks.shape
    )


def test_a_planted_corner_is_named(folders):
    """Maps on the corner beat all baselines, and the verdict says what the network does."""
    found = galfig.score(blur(read_masks(folders / "corner", "corner")), folders / "corner")
    for baseline in ("centre dot", "brightness", "random"):
        assert found.excess[baseline]["mass accuracy"].low > 0.1
        assert found.excess[baseline]["rank accuracy"].low > 0.1
    assert "away from the galaxy: the network follows a shortcut" in found.verdict[1]
    assert found.n_scored == N == found.scores["pointing game"].n


def test_maps_of_light_do_not_find_a_corner(folders):
    """They name no shortcut, whatever they score by themselves."""
    cutouts = np.stack(
        [
            simulate_cue(row, (0, i, 1))[0].mean(axis=2)
            for i, row in enumerate(simulate_cue_catalog("corner", N, 0).to_dict("records"))
        ]
    )
    found = galfig.score(cutouts - np.median(cutouts), folders / "corner")
    assert found.excess["brightness"]["rank accuracy"].value == pytest.approx(0, abs=0.02)
    assert "do not clearly find what decides the class (corner) better than" in found.verdict[0]
    assert "shortcut" not in " ".join(found.verdict)


def test_a_suppressor_that_is_lit_up_is_named(folders):
    """A map of the signal alone is right; one that also shows the suppressor is not."""
    folder = folders / "suppressor"
    signal, suppressor = (read_masks(folder, name) for name in ("signal", "suppressor"))
    right = galfig.score(blur(signal), folder, part="absolute")
    wrong = galfig.score(blur(signal) - blur(suppressor), folder)
    assert right.lit_up == []
    assert "do not light up the suppressor" in right.verdict[-1]
    assert wrong.lit_up == ["suppressor"]
    assert "light up the suppressor, which says nothing of the class by itself" in wrong.verdict[-1]
    assert "A map that does so is wrong" in wrong.verdict[-1]
    assert wrong.shares["suppressor"].low > 3 * wrong.areas["suppressor"]
    # Both find the signal.
    assert all("find what decides the class (signal)" in one.verdict[0] for one in (right, wrong))


def test_random_maps_get_nothing(folders):
    """Their score minus that of chance is zero within its interval, and nothing is lit up."""
    maps = np.random.default_rng(3).normal(size=(N, 12, 12))
    found = galfig.score(maps, folders / "suppressor")
    for name, number in found.excess["random"].items():
        assert number.low <= 0 <= number.high or abs(number.value) < 0.02, name
    assert found.lit_up == []
    assert "random" in found.verdict[0]


def test_both_parts_of_a_conjunction_count(folders):
    """The truth is their union, and the share of each is told."""
    first, second = (read_masks(folders / "conjunction", name) for name in ("first", "second"))
    found = galfig.score((first | second).astype(float), folders / "conjunction")
    assert found.scores["mass accuracy"].value == 1
    half = galfig.score(first.astype(float), folders / "conjunction")
    assert half.scores["mass accuracy"].value == 1
    assert 0.3 < half.scores["rank accuracy"].value < 0.8
    assert half.shares["second"].value == 0
    assert "find what decides the class (first and second): by mass" in found.verdict[0]
    assert half.verdict[0].endswith("they do not clearly show the second.")


def test_one_map_proves_nothing(folders):
    """The interval over one galaxy has no width, and is not taken for certainty."""
    folder = folders / "corner"
    (first,) = simulate_cue_catalog("corner", N, 0)["objID"][:1]
    masks = read_masks(folder, "corner")[:1].astype(float)
    found = galfig.score(masks, folder, objid=[str(first)])
    assert found.verdict[-1].startswith("Only 1 map was scored, too few to trust the intervals")
    every = galfig.score(read_masks(folder, "corner").astype(float), folder)
    assert "too few" not in " ".join(every.verdict)


def test_what_is_not_clear_is_not_denied(folders):
    """A suppressor that some maps light up and others do not may be lit up or not."""
    folder = folders / "suppressor"
    signal, suppressor = (read_masks(folder, name) for name in ("signal", "suppressor"))
    maps = signal.astype(float)
    maps[0] = np.where(suppressor[0], 3.0, signal[0])
    assert (
        "do not light up the suppressor" in galfig.score(signal.astype(float), folder).verdict[-1]
    )
    assert "do not clearly light up the suppressor" in galfig.score(maps, folder).verdict[-1]


def test_one_map_per_class(folders):
    """By default that of the true class; by name another, or the contrast."""
    folder = folders / "corner"
    masks = read_masks(folder, "corner").astype(float)
    is_high = (simulate_cue_catalog("corner", N, 0)["class"] == "high").to_numpy()
    maps = np.zeros((N, 2, 96, 96))
    maps[np.arange(N), is_high.astype(int)] = masks
    assert galfig.score(maps, folder).scores["mass accuracy"].value == 1
    assert galfig.score(maps, folder, of="contrast").scores["mass accuracy"].value == 1
    shared = maps + 1
    assert galfig.score(shared, folder).scores["mass accuracy"].value < 0.1
    assert galfig.score(shared, folder, of="contrast").scores["mass accuracy"].value == 1
    named = galfig.score(maps, folder, of="high")
    assert named.n_empty == N // 2
    assert named.scores["mass accuracy"].value == pytest.approx((1 + masks.mean()) / 2, abs=0.01)
    with pytest.raises(ScoreError, match="`of` 'medium': expected one of 'true', 'contrast'"):
        galfig.score(maps, folder, of="medium")
    with pytest.raises(ScoreError, match="maps of 3 classes"):
        galfig.score(np.zeros((N, 3, 8, 8)), folder)


def test_nothing_is_left_out_in_silence(folders):
    """Maps of other galaxies, galaxies without a map, maps that are not finite, empty maps."""
    folder = folders / "corner"
    objid = simulate_cue_catalog("corner", N, 0)["objID"].tolist()
    maps = read_masks(folder, "corner").astype(float)
    maps[2, 5, 5] = np.nan
    maps[3] = 0
    found = galfig.score(maps[:10], folder, objid=[*objid[:9], "elsewhere"])
    assert found.left_out == {
        "maps of other galaxies": 1,
        "galaxies without a map": 5,
        "maps that are not finite": 1,
    }
    assert (found.n_maps, found.n_scored, found.n_empty) == (10, 8, 1)
    words = str(found)
    assert "left out: 5 galaxies without a map" in words
    assert "1 maps without a positive value count as constant maps" in words


def test_order_does_not_matter_with_identifiers(folders):
    """Maps are matched by objid."""
    folder = folders / "corner"
    objid = np.array(simulate_cue_catalog("corner", N, 0)["objID"])
    maps = blur(read_masks(folder, "corner"))
    order = np.random.default_rng(0).permutation(N)
    found = galfig.score(maps[order], folder, objid=objid[order].tolist())
    assert found.scores == galfig.score(maps, folder).scores


def test_maps_of_the_centre_are_compared_with_the_centre(folders):
    """A network that saw the central 64 pixels cannot have seen the corner."""
    maps = np.ones((N, 16, 16))
    with pytest.raises(ScoreError, match=r"no map can be scored .14 galaxies without"):
        galfig.score(maps, folders / "corner", cutout_size=40)
    with pytest.raises(ScoreError, match="`cutout_size` 97: expected at most 96"):
        galfig.score(maps, folders / "corner", cutout_size=97)


@pytest.mark.parametrize(
    ("maps", "given", "error", "words"),
    [
        (np.ones((3, 8, 8)), {}, ScoreError, "3 maps without identifiers, expected 14"),
        (np.ones((2, 8, 8)), {"objid": ["x", "y"]}, ScoreError, "no map has an objid of"),
        (np.ones((2, 8, 8)), {"objid": ["x", "x"]}, ScoreError, "objid 'x' twice"),
        (np.full((N, 8, 8), np.nan), {}, ScoreError, "no map can be scored .14 maps that are not"),
        (np.ones((N, 8, 8)), {"part": "negative"}, ConfigError, "`part` 'negative'"),
    ],
)
def test_what_cannot_be_scored_is_one_line(folders, maps, given, error, words):
    """What was found, and what was expected."""
    with pytest.raises(error, match=words):
        galfig.score(maps, folders / "corner", **given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "truth.json").unlink(), "truth.json: cannot be read"),
        (lambda folder: (folder / "truth.json").write_text("{}"), "truth.json: cue"),
        (lambda folder: (folder / "truth.json").write_text("{"), "not valid JSON"),
        (
            lambda folder: edit(folder / "truth.json", '"n": 14', '"n": 15'),
            "the catalog is not that of truth.json",
        ),
        (lambda folder: edit(folder / "catalog.csv", ",corner,", ",core,"), "the catalog is not"),
        (
            lambda folder: edit(folder / "truth.json", '"corner": true', '"corner": false'),
            "components: none tells the class",
        ),
        (
            lambda folder: edit(folder / "truth.json", '"low",', ""),
            "truth.json: class_names: ",
        ),
        (
            lambda folder: edit(folder / "truth.json", '"corner": true', '"../x": true'),
            "expected a plain file name",
        ),
        (
            lambda folder: edit(folder / "catalog.csv", "corner0-00003,", "../../x,"),
            "expected a plain file name",
        ),
        (lambda folder: swap_classes(folder / "catalog.csv"), "not those that were simulated"),
        (lambda folder: swap_masks(folder), "not those that were simulated"),
        (
            lambda folder: (folder / "masks/corner/corner0-00002.png").unlink(),
            "corner0-00002.png: cannot be read .No such file",
        ),
        (
            lambda folder: (folder / "images/corner0-00001.png").write_text("x"),
            "corner0-00001.png: cannot be read",
        ),
    ],
)
def test_truth_that_was_changed_is_refused(folders, tmp_path, change, words):
    """A score on other galaxies would be no score."""
    folder = shutil.copytree(folders / "corner", tmp_path / "corner")
    change(folder)
    with pytest.raises(ScoreError, match=words) as found:
        galfig.score(np.ones((N, 8, 8)), folder)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("scale", [1e-320, 1e308])
@pytest.mark.parametrize("of", ["true", "contrast"])
def test_the_scale_of_maps_does_not_matter(folders, scale, of):
    """Sums and differences of the largest floats would overflow."""
    maps = np.sign(blur(read_masks(folders / "corner", "corner")) - 0.5)
    maps = np.stack([maps, -maps], axis=1)
    found = galfig.score(scale * maps, folders / "corner", of=of)
    assert found.scores == galfig.score(maps, folders / "corner", of=of).scores


def test_doubled_identifiers_of_many_maps_are_found_at_once(folders):
    """Counting each by itself would take minutes."""
    objid = [str(number // 2) for number in range(100_000)]
    with pytest.raises(ScoreError, match="'0', '1', '10' and 49997 more twice"):
        galfig.score(np.ones((100_000, 1, 1)), folders / "corner", objid=objid)


def edit(path, old, new):
    words = path.read_text()
    assert old in words
    path.write_text(words.replace(old, new))


def swap_classes(path):
    words = path.read_text()
    path.write_text(re.sub("low|high", lambda found: "high" if found[0] == "low" else "low", words))


def swap_masks(folder):
    first, second = (folder / f"masks/corner/corner0-0000{i}.png" for i in (0, 1))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def test_the_command_prints_a_table_or_json(folders, tmp_path):
    """Both hold the numbers of the library, and errors are one line."""
    maps = blur(read_masks(folders / "suppressor", "suppressor"))
    np.save(tmp_path / "maps.npy", maps)
    arguments = ["score", str(tmp_path / "maps.npy"), "--truth", str(folders / "suppressor")]
    found = CliRunner().invoke(main, [*arguments, "-q"])
    assert found.exit_code == 0, found.stderr
    assert "mass accuracy" in found.stdout
    assert "light up the suppressor" in found.stdout
    assert max(map(len, found.stdout.splitlines()[:-2])) <= 102
    as_json = CliRunner().invoke(main, [*arguments, "-q", "--json"])
    numbers = json.loads(as_json.stdout)
    expected = galfig.score(maps, folders / "suppressor")
    assert numbers == json.loads(expected.model_dump_json())
    assert numbers["lit_up"] == ["suppressor"]
    arguments[-1] = str(tmp_path)
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert "expected a folder of galaxies that were simulated with a cue" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
