"""Tests of galfig.catalog.cues: what decides the class, and that nothing else does."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from galfig.catalog.cues import (
    COMPONENTS,
    CUE_SIZE,
    TINT,
    digest_galaxy,
    simulate_cue,
    simulate_cue_catalog,
    write_cue,
)
from galfig.catalog.galaxies import load_galaxies
from galfig.catalog.simulate import PIXEL_SCALE, simulate_catalog, simulate_cutout
from galfig.config import load_settings
from galfig.errors import CatalogError, ConfigError, OutputError
from galfig.records import TruthRecord

CUES = tuple(COMPONENTS)
# Of the first six galaxies of seed 0. They were the same with and without AVX2 and AVX-512, for
# numpy 2.4 and astropy 7.2 on x86-64. See docs/known-truth.md for how far that holds.
DIGESTS = {
    "core": "ac92d55ddc9f729b",
    "disk": "074c21536e85f596",
    "knots": "78324ea9cbf86f6f",
    "corner": "f43074d446e5ecd1",
    "conjunction": "9ca8374308829fbd",
    "suppressor": "255d49bff7b7c3f8",
}


def draw(cue, n, seed=0):
    rows = simulate_cue_catalog(cue, n, seed).to_dict("records")
    return rows, [simulate_cue(row, (seed, i, 1)) for i, row in enumerate(rows)]


def flip(row):
    """Return a galaxy of the other class: every tint that depends on the class, reversed."""
    other = dict(row)
    if row["cue"] == "conjunction":
        other["tint_second"] *= -1
    elif row["cue"] == "suppressor":
        other["tint_signal"] = 2 * row["tint_suppressor"] - row["tint_signal"]
    else:
        other[f"tint_{row['cue']}"] *= -1
    return other


def is_high(rows):
    return np.array([row["oh_p50"] > 9 for row in rows])


@pytest.mark.parametrize("cue", CUES)
def test_outside_the_masks_no_pixel_depends_on_the_class(cue):
    """Bit for bit; inside, it does, and in most pixels."""
    rows, drawn = draw(cue, 4)
    for i, (row, (cutout, masks)) in enumerate(zip(rows, drawn, strict=True)):
        other, other_masks = simulate_cue(flip(row), (0, i, 1))
        differs = np.any(cutout != other, axis=2)
        assert list(masks) == list(COMPONENTS[cue])
        union = np.any(list(masks.values()), axis=0)
        assert not np.any(differs & ~union)
        # The one whose tint was reversed.
        name = {"conjunction": "second", "suppressor": "signal"}.get(cue, cue)
        assert np.mean(differs[masks[name]]) > 0.5
        for name, mask in masks.items():
            np.testing.assert_array_equal(mask, other_masks[name])
        assert 0.001 < union.mean() < 0.15


@pytest.mark.parametrize("cue", CUES)
def test_the_component_is_no_brighter_for_a_class(cue):
    """The tint changes the colour at one intensity, so that brightness tells no class."""
    rows, drawn = draw(cue, 6)
    for i, (row, (cutout, masks)) in enumerate(zip(rows, drawn, strict=True)):
        other, _ = simulate_cue(flip(row), (0, i, 1))
        union = np.any(list(masks.values()), axis=0)
        gray, other_gray = (image.mean(axis=2)[union].mean() for image in (cutout, other))
        green, other_green = (image[union, 1].mean() for image in (cutout, other))
        assert abs(gray - other_gray) < 0.03 * gray + 0.3
        assert abs(gray - other_gray) < 0.2 * abs(green - other_green) + 0.3


@pytest.mark.parametrize("cue", CUES)
def test_no_other_column_tells_the_class(cue):
    """A regression on all that the catalog says of the galaxies is at chance; on tints it is not.

    The standard error of the area is 0.013; the tints of a conjunction need their product.
    """
    catalog = simulate_cue_catalog(cue, 2000, 1)
    assert len(catalog) == catalog["objID"].nunique()
    label = (catalog["oh_p50"] > 9).to_numpy()
    assert label.sum() == 1000
    assert catalog["oh_p50"].between(8.1, 8.7).sum() == catalog["oh_p50"].between(9.1, 9.3).sum()
    own = ["oh_p50", *(name for name in catalog if name.startswith("tint_"))]
    rest = catalog.drop(columns=own).select_dtypes("number")
    assert rest.shape[1] > 15
    assert abs(measure_auc(rest.to_numpy(), label) - 0.5) < 0.045
    tints = catalog[own[1:]].to_numpy()
    if cue == "conjunction":
        assert abs(measure_auc(tints, label) - 0.5) < 0.045
        tints = tints.prod(axis=1, keepdims=True)
    assert measure_auc(tints, label) > 0.999


def measure_auc(features, label):
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    found = cross_val_predict(
        LogisticRegression(C=0.01, max_iter=500), scaled, label, cv=5, method="decision_function"
    )
    return roc_auc_score(label, found)


@pytest.mark.slow
@pytest.mark.parametrize("cue", CUES)
def test_without_the_component_a_regression_is_at_chance(cue):
    """On all other pixels, and on the shape of the masks; with the component's it is not.

    The standard error of the area is 0.033 for 300 galaxies. For a conjunction the regression is
    given the product of the colours of the two halves.
    """
    rows, drawn = draw(cue, 300, seed=5)
    label = is_high(rows)
    cutouts = np.stack([cutout for cutout, _ in drawn]).astype(float)
    masks = {name: np.stack([own[name] for _, own in drawn]) for name in COMPONENTS[cue]}
    union = np.any(list(masks.values()), axis=0)
    without = np.where(union[..., None], 0, cutouts)
    blocks = without.reshape(300, 12, 8, 12, 8, 3).mean(axis=(2, 4)).reshape(300, -1)
    colours = np.stack([without.mean(axis=(1, 2)), without.std(axis=(1, 2))], axis=1)
    shapes = union.reshape(300, 12, 8, 12, 8).mean(axis=(2, 4)).reshape(300, -1)
    for features in (blocks, colours.reshape(300, -1), shapes):
        assert abs(measure_auc(features, label) - 0.5) < 0.12
    green = cutouts[..., 1] - cutouts[..., ::2].mean(axis=3)
    inside = np.stack([(green * mask).sum(axis=(1, 2)) for mask in masks.values()], axis=1)
    if cue == "conjunction":
        inside -= inside.mean(axis=0)
        inside = inside.prod(axis=1, keepdims=True)
    assert measure_auc(inside, label) > 0.97


def test_a_corner_is_away_from_the_galaxy():
    """No pixel of it is within twice the half-light radius of the largest galaxy."""
    axis = np.arange(CUE_SIZE) - (CUE_SIZE - 1) / 2
    distance = np.hypot(axis[:, None], axis)
    rows, drawn = draw("corner", 12)
    quadrants = set()
    for row, (_, masks) in zip(rows, drawn, strict=True):
        nearest = distance[masks["corner"]].min()
        assert nearest > 2 * row["petroR50_r"] / PIXEL_SCALE
        assert nearest > 40
        y, x = np.argwhere(masks["corner"]).mean(axis=0)
        quadrants.add((y > 48, x > 48))
    assert len(quadrants) == 4


def test_each_half_of_a_conjunction_is_at_chance():
    """Only together do they tell the class, and then always."""
    catalog = simulate_cue_catalog("conjunction", 4000, 2)
    label = catalog["oh_p50"] > 9
    for name in ("tint_first", "tint_second"):
        assert set(catalog[name].abs()) == {TINT}
        share = label[catalog[name] > 0].mean()
        assert abs(share - 0.5) < 0.035
    np.testing.assert_array_equal(label, catalog["tint_first"] * catalog["tint_second"] > 0)


def test_a_suppressor_is_informative_only_with_the_signal():
    """By itself it is at chance, the signal alone gets three of four, and both get all."""
    catalog = simulate_cue_catalog("suppressor", 4000, 2)
    label = (catalog["oh_p50"] > 9).to_numpy()
    signal, suppressor = catalog["tint_signal"], catalog["tint_suppressor"]
    assert abs(roc_auc_score(label, suppressor) - 0.5) < 0.03
    assert abs(roc_auc_score(label, suppressor.abs()) - 0.5) < 0.03
    best = max(np.mean((signal > cut) == label) for cut in np.linspace(-0.75, 0.75, 61))
    assert 0.72 < best < 0.78
    np.testing.assert_array_equal(label, signal - suppressor > 0)


def test_galaxies_are_those_of_the_simulator():
    """Without a tint, and away from the masks, the image is the centre of the plain cutout."""
    rows, drawn = draw("core", 2)
    plain = simulate_catalog(2, 0).to_dict("records")
    for i, (row, (cutout, masks)) in enumerate(zip(rows, drawn, strict=True)):
        assert {**row, "objID": 0, "oh_p50": 0}.items() >= {
            **plain[i],
            "objID": 0,
            "oh_p50": 0,
        }.items()
        expected = simulate_cutout(plain[i], (0, i, 1))[32:-32, 32:-32]
        np.testing.assert_array_equal(cutout[~masks["core"]], expected[~masks["core"]])


@pytest.mark.parametrize("cue", CUES)
def test_draws_are_frozen(cue):
    """Maps that anyone scored today can be scored again."""
    digest = hashlib.sha256()
    for row, (cutout, masks) in zip(*draw(cue, 6), strict=True):
        digest.update(digest_galaxy(row["objID"], row["class"], cutout, masks))
    assert digest.hexdigest()[:16] == DIGESTS[cue]


def test_files_are_what_was_drawn(tmp_path):
    """Images and masks without loss, a digest that is theirs, and settings that read them."""
    path = write_cue(tmp_path, "suppressor", 4, seed=3)
    rows, drawn = draw("suppressor", 4, seed=3)
    record = TruthRecord.model_validate(json.loads((tmp_path / "truth.json").read_text()))
    assert record.components == {"signal": True, "suppressor": False}
    assert (record.cue, record.seed, record.n, record.size) == ("suppressor", 3, 4, 96)
    digest = hashlib.sha256()
    for row, (cutout, masks) in zip(rows, drawn, strict=True):
        name = f"{row['objID']}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "images" / name)), cutout)
        for component, mask in masks.items():
            with Image.open(tmp_path / "masks" / component / name) as image:
                np.testing.assert_array_equal(np.asarray(image), mask)
        digest.update(digest_galaxy(row["objID"], row["class"], cutout, masks))
    assert record.digest == digest.hexdigest()
    galaxies = load_galaxies(load_settings(tmp_path / "cue.toml"))
    assert galaxies.objid.tolist() == pd.read_csv(path)["objID"].tolist()
    np.testing.assert_array_equal(galaxies.label == 1, is_high(rows))
    assert [galaxies.class_names[label] for label in galaxies.label] == [
        row["class"] for row in rows
    ]
    assert galaxies.rejected == {}


def test_few_galaxies_are_the_first_of_many(tmp_path):
    """Galaxy i depends on cue, seed and i alone, and two runs write the same bytes."""
    write_cue(tmp_path / "few", "corner", 3)
    write_cue(tmp_path / "many", "corner", 5)
    write_cue(tmp_path / "again", "corner", 5)
    few = {path.relative_to(tmp_path / "few") for path in (tmp_path / "few").rglob("*.png")}
    assert len(few) == 6
    for name in few:
        assert (tmp_path / "few" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    for path in (tmp_path / "many").rglob("*.*"):
        again = tmp_path / "again" / path.relative_to(tmp_path / "many")
        assert path.read_bytes() == again.read_bytes()


def test_a_set_that_is_there_is_left_alone(tmp_path):
    """Unless told to replace it; an interrupted run leaves no catalog."""
    path = write_cue(tmp_path, "core", 1)
    with pytest.raises(CatalogError, match='use `if_exists="replace"`'):
        write_cue(tmp_path, "disk", 2)
    write_cue(tmp_path, "disk", 2, if_exists="replace")
    assert pd.read_csv(path)["cue"].tolist() == ["disk"] * 2


@pytest.mark.parametrize(
    ("cue", "n", "seed", "error", "words"),
    [
        ("hole", 1, 0, ConfigError, "`cue` 'hole': expected one of 'core'"),
        ("core", 0, 0, ValueError, "^n: 0"),
        ("core", 1, -1, ValueError, "^seed: -1"),
    ],
)
def test_arguments_out_of_range(tmp_path, cue, n, seed, error, words):
    """The error names the argument, and nothing is written."""
    with pytest.raises(error, match=words):
        write_cue(tmp_path / "new", cue, n, seed)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    """A file in the way is an error of galfig's own."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_cue(tmp_path / "file" / "below", "core", 1)
