"""Tests of galfig.catalog.simulate."""

import os
import re

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from galfig.catalog.simulate import (
    CUTOUT_SIZE,
    METALLICITY_EDGES,
    component_fluxes,
    convolve_moffat,
    draw_galaxy,
    draw_metallicity,
    draw_redshift,
    simulate_catalog,
    simulate_cutout,
    write_simulated,
)
from galfig.errors import CatalogError, OutputError

N = 600


@pytest.fixture(scope="module")
def catalog() -> pd.DataFrame:
    return simulate_catalog(N, seed=0)


@pytest.fixture(scope="module")
def cutouts(catalog) -> NDArray[np.uint8]:
    rows = catalog.head(120).to_dict("records")
    return np.stack([simulate_cutout(row, (0, i, 1)) for i, row in enumerate(rows)])


def _read_files(folder) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _class_fractions(metallicity: pd.Series) -> NDArray[np.float64]:
    counts, _ = np.histogram(metallicity, [0, 8.1, 8.7, 9.1, 9.3, 99])
    return counts / len(metallicity)


def test_two_runs_write_the_same_bytes(tmp_path):
    """Everything written depends on the seed alone."""
    write_simulated(tmp_path / "a", 6, seed=3)
    write_simulated(tmp_path / "b", 6, seed=3)
    assert len(_read_files(tmp_path / "a")) == 7
    assert _read_files(tmp_path / "a") == _read_files(tmp_path / "b")


def test_few_galaxies_are_the_first_of_many(tmp_path, catalog):
    """Galaxy i depends on (seed, i), not on how many there are."""
    pd.testing.assert_frame_equal(simulate_catalog(10, seed=0), catalog.head(10))
    write_simulated(tmp_path / "few", 3, seed=1)
    write_simulated(tmp_path / "many", 5, seed=1)
    few, many = _read_files(tmp_path / "few"), _read_files(tmp_path / "many")
    images = [name for name in few if name.endswith(".jpg")]
    assert len(images) == 3
    assert all(few[name] == many[name] for name in images)


def test_seeds_differ(catalog):
    """Another seed is another set of galaxies."""
    other = simulate_catalog(N, seed=1)
    assert not set(other["objID"]) & set(catalog["objID"])
    assert np.mean(other["oh_p50"] == catalog["oh_p50"]) < 0.01


def test_a_galaxy_is_drawn_again_from_the_catalog_file(tmp_path):
    """The row of the file is all the structure there is."""
    path = write_simulated(tmp_path, 2, seed=4)
    rows = pd.read_csv(path).to_dict("records")
    truth = simulate_catalog(2, seed=4).to_dict("records")
    np.testing.assert_array_equal(
        simulate_cutout(rows[1], (4, 1, 1)), simulate_cutout(truth[1], (4, 1, 1))
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_class_fractions(seed):
    """About a third of the galaxies are in each class, and a few are in none."""
    below, low, medium, high, above = _class_fractions(simulate_catalog(N, seed)["oh_p50"])
    assert 0.30 < low < 0.34
    assert 0.32 < medium < 0.36
    assert 0.29 < high < 0.33
    assert 0.02 < below + above < 0.03


def test_metallicities_stay_within_their_range():
    """The extremes of the variates are the ends of the intervals."""
    assert draw_metallicity([0.0], [0.0]) == pytest.approx(METALLICITY_EDGES[0])
    assert draw_metallicity([1.0], [1.0]) == pytest.approx(METALLICITY_EDGES[-1])
    assert np.all(np.diff(draw_metallicity(np.full(50, 0.2), np.linspace(0, 1, 50))) > 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_redshifts_are_those_of_a_survey(seed):
    """The median is near 0.08, and a quarter is where --zmin 0.05 --zmax 0.08 looks."""
    redshift = simulate_catalog(N, seed)["z"]
    assert redshift.between(0.01, 0.25).all()
    assert 0.07 < redshift.median() < 0.09
    assert 0.22 < redshift.between(0.05, 0.08, inclusive="neither").mean() < 0.30


def test_redshift_limits():
    """The extremes of the variate are the limits of the survey."""
    assert draw_redshift([0.0, 1.0]) == pytest.approx([0.01, 0.25])


def test_far_galaxies_look_smaller(catalog):
    """Apparent size falls with redshift, and the kiloparsecs are those of the distance."""
    far, near = catalog["z"] > 0.12, catalog["z"] < 0.05
    assert catalog["petroR50_r"][far].median() < 0.7 * catalog["petroR50_r"][near].median()
    # Ned Wright's calculator for this cosmology: 1.56 kpc per arcsec at a redshift of 0.08.
    scale = (catalog["r50_kpc"] / catalog["petroR50_r"])[catalog["z"].between(0.079, 0.081)]
    assert scale.between(1.51, 1.60).all()
    assert len(scale) > 0


def test_columns(catalog):
    """The survey's columns come first, the flag that nothing is real last."""
    assert list(catalog.columns[:5]) == ["objID", "ra", "dec", "z", "oh_p50"]
    assert catalog.columns[-1] == "simulated"
    assert catalog["simulated"].dtype == bool
    assert catalog["simulated"].all()
    assert not catalog.isna().any(axis=None)
    assert catalog["ra"].between(0, 360).all()
    assert catalog["dec"].between(-90, 90).all()


def test_ids_are_text_and_say_what_they_are(catalog):
    """An objID is unique, safe in a path and never read as a number."""
    assert all(re.fullmatch(r"sim0-\d{5}", objid) for objid in catalog["objID"])
    assert catalog["objID"].is_unique
    assert catalog["objID"].iloc[17] == "sim0-00017"


def test_fluxes_are_those_of_the_catalog(catalog):
    """The components add up to r_mag in r, and what is drawn has about that flux."""
    for row in catalog.head(12).to_dict("records"):
        total = 10 ** (0.4 * (22.5 - row["r_mag"]))
        assert sum(flux[1] for flux in component_fluxes(row)) == pytest.approx(total)
        bulge, disk, _ = component_fluxes(row)
        transparent = {**row, "dust": 0.0, "lopsidedness": 0.0}
        drawn = draw_galaxy(transparent)[1].sum()
        assert drawn == pytest.approx(bulge[1] + disk[1], rel=0.08)


def test_the_bulge_is_integrated_over_pixels(catalog):
    """A steep bulge, smaller than a pixel, keeps its flux."""
    row = {**catalog.iloc[0].to_dict(), "bulge_fraction": 1.0, "dust": 0.0, "inclination": 0.0}
    row |= {"bulge_r50": 0.4, "sersic_index": 3.0}
    bulge, _, _ = component_fluxes(row)
    assert draw_galaxy(row)[1].sum() == pytest.approx(bulge[1], rel=0.05)


def test_convolution_keeps_flux_and_place():
    """Seeing spreads a point evenly over its surroundings, and no further than the margin."""
    image = np.zeros((3, 64, 64))
    image[:, 20, 30] = [1.0, 2.0, 3.0]
    blurred = convolve_moffat(image, np.array([3.0, 3.2, 3.4]))
    np.testing.assert_allclose(blurred.sum(axis=(1, 2)), [1, 2, 3])
    for band in blurred:
        assert np.unravel_index(band.argmax(), band.shape) == (20, 30)
    np.testing.assert_allclose(blurred[:, 20, 27], blurred[:, 23, 30], atol=1e-12)
    assert abs(blurred[:, 20, 50]).max() < 1e-12
    # Half of the maximum lies half of the full width away.
    half = np.interp(1.5, [1, 2], blurred[0, 20, 31:33])
    assert half / blurred[0, 20, 30] == pytest.approx(0.5, abs=0.04)


def test_cutouts_are_rgb(cutouts):
    """A cutout is what an SDSS cutout is once decoded."""
    assert cutouts.shape[1:] == (CUTOUT_SIZE, CUTOUT_SIZE, 3)
    assert cutouts.dtype == np.uint8


def test_galaxies_are_centred(cutouts):
    """The centroid of the central region is on (79.5, 79.5) to a pixel or so, unbiased."""
    window = cutouts[:, 60:100, 60:100].mean(axis=3)
    weight = np.maximum(window - 10, 0) ** 2
    axis = np.arange(60, 100)
    total = weight.sum(axis=(1, 2))
    y = (weight.sum(axis=2) * axis).sum(axis=1) / total
    x = (weight.sum(axis=1) * axis).sum(axis=1) / total
    assert abs(np.median(y) - 79.5) < 0.25
    assert abs(np.median(x) - 79.5) < 0.25
    assert np.mean(np.hypot(y - 79.5, x - 79.5) < 2) > 0.8


def test_position_angle_and_inclination(catalog):
    """An edge-on galaxy at 90 degrees lies along the rows, one at 0 along the columns."""
    row = {**catalog.iloc[0].to_dict(), "inclination": 80.0, "dust": 0.0, "lopsidedness": 0.0}
    axis = np.arange(192) - 95.5
    for angle, wide in ((0.0, 0), (90.0, 1)):
        image = draw_galaxy({**row, "position_angle": angle})[1]
        spread = [(image * axis[:, None] ** 2).sum(), (image * axis**2).sum()]
        assert spread[wide] > 3 * spread[1 - wide]


def test_the_sky_is_dark_and_noisy(tmp_path):
    """In the files, the sky between sources is nearly black, with the scatter that SDSS has."""
    path = write_simulated(tmp_path, 20)
    cutouts = np.stack([np.asarray(Image.open(p)) for p in path.parent.glob("images/*.jpg")])
    corners = np.concatenate([cutouts[:, :24, :24], cutouts[:, -24:, -24:]]).astype(float)
    assert 1 <= np.median(corners) <= 5
    # SDSS cutouts of the same scale have 2.7, 2.4, 2.4; a source in a corner has far more.
    noise = np.median(corners.std(axis=(1, 2)), axis=0)
    assert np.all((noise > 1.8) & (noise < 3.6))
    assert corners.mean(axis=(1, 2)).min() > 0.5


def test_galaxies_are_bright_but_rarely_saturated(cutouts):
    """The centre of a galaxy is neither lost in the sky nor white."""
    center = cutouts[:, 78:82, 78:82].mean(axis=(1, 2, 3))
    assert np.percentile(center, 10) > 50
    assert np.percentile(center, 90) < 230


def test_metal_rich_galaxies_are_redder_but_colour_is_not_all(catalog, cutouts):
    """Colour tells the classes apart on average and not always; medium is in between."""
    window = cutouts[:, 60:100, 60:100].astype(float)
    flux = np.where(window.mean(axis=3, keepdims=True) > 15, window, 0).sum(axis=(1, 2))
    color = np.log(flux[:, 0] / flux[:, 2])
    metallicity = catalog["oh_p50"].head(len(cutouts)).to_numpy()
    low = color[(metallicity > 8.1) & (metallicity <= 8.7)]
    medium = color[(metallicity > 8.7) & (metallicity <= 9.1)]
    high = color[(metallicity > 9.1) & (metallicity <= 9.3)]
    assert low.mean() < medium.mean() < high.mean()
    auc = np.mean(low[:, None] < high)
    assert 0.85 < auc < 1


def test_structure_follows_metallicity(catalog):
    """Metal-rich galaxies have larger bulges; metal-poor ones more and brighter knots."""
    poor, rich = catalog[catalog["oh_p50"] <= 8.7], catalog[catalog["oh_p50"] > 9.1]
    assert rich["bulge_fraction"].median() > 2 * poor["bulge_fraction"].median()
    assert poor["n_knots"].median() > rich["n_knots"].median()
    assert poor["knot_fraction"].median() > rich["knot_fraction"].median()
    assert (poor["bulge_fraction"].max()) > rich["bulge_fraction"].min()


def test_a_set_that_is_there_is_left_alone(tmp_path):
    """Unless told to replace it nothing is touched, and the error says what to do."""
    path = write_simulated(tmp_path, 1)
    before = _read_files(tmp_path)
    with pytest.raises(
        CatalogError, match=r'catalog\.csv: already exists; use `if_exists="replace"`'
    ):
        write_simulated(tmp_path, 2)
    assert _read_files(tmp_path) == before
    write_simulated(tmp_path, 2, if_exists="replace")
    assert len(pd.read_csv(path)) == 2


@pytest.mark.parametrize("if_exists", ["error", "replace"])
def test_an_interrupted_run_leaves_no_catalog(tmp_path, monkeypatch, if_exists):
    """A catalog that exists belongs to a complete set, also when an older one is replaced."""
    if if_exists == "replace":
        write_simulated(tmp_path, 2)

    def stop_after_one(galaxy, seed):
        if (tmp_path / "images" / "sim1-00000.jpg").exists():
            assert not (tmp_path / "catalog.csv").exists()
            raise KeyboardInterrupt
        return simulate_cutout(galaxy, seed)

    monkeypatch.setattr("galfig.catalog.simulate.simulate_cutout", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        write_simulated(tmp_path, 3, seed=1, if_exists=if_exists)
    assert (tmp_path / "images" / "sim1-00000.jpg").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_the_catalog_is_renamed_into_place(tmp_path, monkeypatch):
    """Every image is there by the time the catalog gets its name."""
    replaced = []
    rename = os.replace

    def replace(source, target):
        replaced.append(len(list((tmp_path / "images").iterdir())))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    path = write_simulated(tmp_path, 3)
    assert path == tmp_path / "catalog.csv"
    assert replaced == [3]
    assert len(pd.read_csv(path)) == 3


def test_images_match_the_catalog(tmp_path):
    """Each row has its JPEG, close to the cutout that was drawn."""
    path = write_simulated(tmp_path / "new" / "folder", 2, seed=5)
    catalog = pd.read_csv(path)
    assert catalog["simulated"].tolist() == [True, True]
    for i, objid in enumerate(catalog["objID"]):
        with Image.open(path.parent / "images" / f"{objid}.jpg") as image:
            assert image.format == "JPEG"
            decoded = np.asarray(image).astype(float)
        drawn = simulate_cutout(simulate_catalog(2, 5).iloc[i], (5, i, 1))
        assert abs(decoded - drawn).mean() < 3


def test_progress_follows_the_galaxies(tmp_path, monkeypatch):
    """One item a galaxy, of as many as were asked for."""
    seen = []

    def track(galaxies, task, total, unit):
        for galaxy in galaxies:
            seen.append((galaxy["objID"], task, total, unit))
            yield galaxy

    monkeypatch.setattr("galfig.catalog.simulate.track", track)
    write_simulated(tmp_path, 3, seed=2)
    assert seen == [(f"sim2-0000{index}", "simulating", 3, "galaxies") for index in range(3)]


@pytest.mark.parametrize(("n", "seed", "name"), [(0, 0, "n"), (3, -1, "seed")])
def test_arguments_out_of_range(tmp_path, n, seed, name):
    """The error names the argument, and nothing is written."""
    with pytest.raises(ValueError, match=f"^{name}: "):
        write_simulated(tmp_path / "new", n, seed)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    """A file in the way is an error of galfig's own."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_simulated(tmp_path / "file" / "below", 1)
