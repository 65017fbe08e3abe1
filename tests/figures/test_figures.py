"""Figures of statistics: the right numbers on the axes, and errors where a store lacks them."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from click.testing import CliRunner
from matplotlib import colormaps
from pypdf import PdfReader
from sklearn.metrics import auc, confusion_matrix, roc_auc_score

from galfig.cli import main
from galfig.errors import FigureError, OutputError, SelectionError
from galfig.figures.atlas import compose_galaxy
from galfig.figures.captions import PLAIN
from galfig.figures.class_examples import draw as draw_examples
from galfig.figures.compare import draw as draw_compare
from galfig.figures.confusion_matrix import make_confusion_matrix
from galfig.figures.drawing import DrawOptions
from galfig.figures.histogram import make_histogram
from galfig.figures.learning_rate import make_learning_rate
from galfig.figures.radial_profile import bin_radii, bootstrap_mean, measure_profiles
from galfig.figures.registry import FIGURES, draw_figure, find_figure, render_figure
from galfig.figures.roc import make_roc
from galfig.figures.stacked_maps import make_stacked_maps, stack_maps
from galfig.figures.top_losses import draw as draw_top_losses
from galfig.figures.training_curves import make_training_curves
from galfig.manuscript.code import digest_code
from galfig.manuscript.manifest import FigureSpec
from galfig.metrics import compute_roc, count_confusions, count_reliability, wilson_interval
from galfig.records import Epoch
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies

HISTORY = [
    {"train_loss": 0.7, "valid_loss": 0.6, "accuracy": 0.6, "roc_auc": 0.7, "f1": 0.55},
    {"train_loss": 0.5, "valid_loss": 0.5, "accuracy": 0.8, "roc_auc": 0.9, "f1": 0.79},
]
RATES = np.geomspace(1e-7, 10, 100)
LOSSES = 0.7 - 0.3 * np.exp(-((np.log10(RATES) + 1) ** 2)) + np.maximum(0, RATES - 3)


@pytest.fixture
def trained_store(make_store):
    classes = {
        "column": "oh_p50",
        "edges": [8.1, 8.7, 9.1, 9.3],
        "labels": ["low", "medium", "high"],
        "name": "metallicity",
    }
    training = {
        "arch": "conv3",
        "n_train": {"low": 20, "high": 22},
        "simulated": True,
        "history": HISTORY,
        "lr": 0.01,
        "lr_finder": {"lr": RATES.tolist(), "loss": LOSSES.tolist()},
    }
    return make_store(
        attrs={"training": json.dumps(training), "config": json.dumps({"classes": classes})}
    )


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_written_with_its_caption(trained_store, tmp_path, name):
    """Each draws from the store alone, the same bytes twice, and beside it what it says in words
    and in numbers.
    """
    files = []
    other = trained_store if name == "compare" else None
    for folder in ("one", "two"):
        path = tmp_path / folder / f"{name}.pdf"
        data = path.with_suffix(".ecsv")
        written = render_figure(name, trained_store, Query(n=None), path, other=other, data=data)
        files.append([file.read_bytes() for file in written])
    assert files[0] == files[1]
    table = Table.read(data)
    assert len(table) > 0
    assert all(column.description for column in table.itercols())
    assert table.meta["galfig"]["figure"] == name
    (alt,) = path.with_suffix(".alt.txt").read_text().splitlines()
    assert alt.endswith(".")
    words = path.with_suffix(".txt").read_text()
    assert "simulated" in words
    assert words.endswith("\n")
    assert all(line.endswith(".") for line in words.splitlines())
    assert PdfReader(path).metadata["/Keywords"].startswith(f'{{"figure": "{name}"')


@pytest.mark.parametrize(
    ("name", "words"),
    [("rocs", r"unknown; did you mean 'roc'\?"), ("spectrum", "expected one of panels, histogram")],
)
def test_unknown_figure_is_answered_with_the_known(trained_store, tmp_path, name, words):
    """A slip with the name that was meant, another word with all names."""
    with pytest.raises(FigureError, match=words):
        render_figure(name, trained_store, Query(), tmp_path / "f.pdf")


def test_former_name_draws_the_same_figure(trained_store, tmp_path, monkeypatch):
    """The histogram of any quantity was once called that of metallicity; manifests still say so."""
    monkeypatch.chdir(tmp_path)
    captions = []
    for name in ("histogram", "metallicity-histogram"):
        found = CliRunner().invoke(main, ["figure", name, str(trained_store)])
        assert found.stdout.split()[0] == f"{name}.pdf"
        # What was asked for is recorded: papers drawn before have the same bytes.
        assert f'"figure": "{name}"' in PdfReader(f"{name}.pdf").metadata["/Keywords"]
        captions.append(Path(f"{name}.tex").read_text())
        assert FigureSpec(name="h", figure=name, store="colour").figure == name
    assert captions[0] == captions[1]
    assert find_figure("metallicity-histogram") is FIGURES["histogram"]
    assert digest_code("metallicity-histogram") == digest_code("histogram")
    assert "metallicity-histogram" not in CliRunner().invoke(main, ["figure", "--list"]).stdout


def test_training_curves_show_the_history():
    """Two losses and three metrics, an epoch a point."""
    losses, metrics = make_training_curves([Epoch(**row) for row in HISTORY]).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in [*losses.lines, *metrics.lines]}
    assert drawn == {
        "training": [0.7, 0.5],
        "validation": [0.6, 0.5],
        "accuracy": [0.6, 0.8],
        "ROC AUC": [0.7, 0.9],
        "F1": [0.55, 0.79],
    }
    assert list(losses.lines[0].get_xdata()) == [1, 2]
    assert losses.get_ylim()[0] == 0


def test_learning_rate_marks_the_rate_on_the_curve():
    """The chosen rate lies on the curve, and the explosion does not flatten it."""
    (ax,) = make_learning_rate(RATES, LOSSES, 0.01).axes
    curve, point = ax.lines
    np.testing.assert_array_equal(curve.get_ydata(), LOSSES)
    assert point.get_xdata()[0] == 0.01
    assert point.get_ydata()[0] == pytest.approx(np.interp(0.01, RATES, LOSSES), abs=2e-3)
    assert ax.get_xscale() == "log"
    assert ax.get_ylim()[1] < 2


@pytest.mark.parametrize("missing", ["history", "lr_finder"])
def test_network_without_a_history_says_so(make_store, tmp_path, missing):
    """What the checkpoint does not record cannot be drawn."""
    name = {"history": "training-curves", "lr_finder": "learning-rate"}[missing]
    with pytest.raises(FigureError, match="expected one from"):
        render_figure(name, make_store(), Query(n=None), tmp_path / "f.pdf")


def test_confusion_matrix_counts_as_scikit_learn():
    """Rows are true classes, columns predicted ones; fields give count and share of the row."""
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    counts = count_confusions(labels, predicted, 3)
    np.testing.assert_array_equal(counts, confusion_matrix(labels, predicted))
    (ax,) = make_confusion_matrix(counts, ["E", "S$0$", "Sp"], "Z").axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Predicted Z", "True Z")
    share = 100 * counts[0, 1] / counts[0].sum()
    assert ax.texts[1].get_text() == f"{counts[0, 1]}\n{share:.0f}%"
    assert ax.images[0].get_clim() == (0, 1)
    np.testing.assert_allclose(ax.images[0].get_array().sum(axis=1), 1)


def test_class_without_galaxies_has_no_shares():
    """An empty row of a confusion matrix is zeros, not a division by zero."""
    (ax,) = make_confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"]).axes
    assert [text.get_text() for text in ax.texts] == ["3\n75%", "1\n25%", "0", "0"]
    assert ax.get_xlabel() == "Predicted"


def test_roc_area_and_its_interval():
    """The area is scikit-learn's and the curve's; the interval covers a known truth."""
    rng = np.random.default_rng(1)
    is_class = np.repeat([True, False], 200)
    p = np.where(is_class, rng.normal(1, 1, 400), rng.normal(0, 1, 400))
    curve = compute_roc(is_class, p)
    assert curve.area == pytest.approx(roc_auc_score(is_class, p))
    area = auc(curve.false_positive_rate, curve.true_positive_rate)
    assert area == pytest.approx(curve.area)
    # Two unit normals a standard deviation apart: Phi(1 / sqrt 2) = 0.760.
    assert curve.low < 0.760 < curve.high
    assert 0.05 < curve.high - curve.low < 0.13
    assert compute_roc(is_class, p).low == curve.low
    (ax,) = make_roc({"high": curve}).axes
    assert ax.get_legend().get_texts()[0].get_text().startswith(f"high: {curve.area:.3f} [")


def test_roc_of_two_classes_is_one_curve_and_of_three_are_three(make_store, tmp_path):
    """Beyond two classes, each has its own curve against the rest."""
    two = make_store("two.h5")
    three = make_store("three.h5", class_names=("a", "b", "c"), quantity="")
    for store, n_areas in ((two, 1), (three, 3)):
        render_figure("roc", store, Query(n=None), tmp_path / f"{n_areas}.pdf")
        words = (tmp_path / f"{n_areas}.txt").read_text()
        assert words.count(" to 1.000)") + words.count(" to 0.") == n_areas


def test_statistics_follow_the_selection(trained_store, tmp_path):
    """A condition changes the galaxies that are counted, and the caption says which."""
    render_figure("confusion-matrix", trained_store, Query(n=None, zmin=0.05), tmp_path / "f.pdf")
    with open_store(trained_store) as store:
        n = int(np.sum(store.redshift > 0.05))
    words = (tmp_path / "f.txt").read_text()
    assert f"the {n} simulated galaxies of the validation set with 0.05 < z." in words
    with pytest.raises(FigureError, match="no galaxy of class 'high-metallicity' is selected"):
        render_figure("roc", trained_store, Query(n=None, true="low"), tmp_path / "r.pdf")


def test_unlabelled_store_has_no_statistics(make_store, tmp_path):
    """Without true classes there is nothing to count."""
    store = make_store(label=np.full(12, -1, np.int16))
    for name in ("roc", "confusion-matrix"):
        with pytest.raises(SelectionError, match="no galaxy has a true class"):
            render_figure(name, store, Query(n=None), tmp_path / "f.pdf")


def test_histogram_counts_as_pandas_cuts():
    """A value on an edge is counted below it; bins are of one width and none crosses an edge."""
    edges, labels = [8.1, 8.7, 9.1, 9.3], ["low", "medium", "high"]
    value = np.array([8.1, 8.2, 8.7, 8.7000001, 9.1, 9.2, 9.3, 9.4])
    (ax,) = make_histogram(value, edges, labels, "O/H").axes
    counts = {}
    for container in ax.containers:
        low = min(bar.get_x() for bar in container if bar.get_height())
        counts[round(low, 1)] = sum(bar.get_height() for bar in container)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "low (2)",
        "medium (2)",
        "high (2)",
    ]
    assert sorted(counts.values()) == [2, 2, 2]
    bars = ax.containers[0]
    widths = [bar.get_width() for bar in bars]
    np.testing.assert_allclose(widths, widths[0])
    starts = [bar.get_x() for bar in bars]
    for edge in edges[:-1]:
        assert np.min(np.abs(np.array(starts) - edge)) < 1e-9
    assert ax.get_xlabel() == "O/H"


def test_histogram_needs_numbers(make_store, tmp_path):
    """Classes of text have no histogram."""
    attrs = {"config": json.dumps({"classes": {"column": "morphology"}})}
    store = make_store(attrs=attrs, value=np.full(12, np.nan))
    with pytest.raises(FigureError, match="no number was binned"):
        render_figure("histogram", store, Query(n=None), tmp_path / "f.pdf")


def test_reliability_counts():
    """Bins hold the galaxies of their p, and a calibrated network lies on the diagonal."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 20000)
    is_right = rng.random(20000) < p
    mean_p, n, n_right = count_reliability(p, is_right, 2)
    assert n.sum() == 20000
    assert n_right.sum() == is_right.sum()
    np.testing.assert_allclose(n_right / n, mean_p, atol=0.03)
    edge_p = np.array([0.5, 1.0])
    assert count_reliability(edge_p, np.array([True, True]), 2)[1].tolist() == [1, 1]


def test_wilson_interval_solves_its_equation():
    """One sigma of 8 out of 10, by the formula of Wilson (1927), inside [0, 1] at the ends."""
    low, high = wilson_interval(np.array([8, 0, 5]), np.array([10, 4, 5]))
    # Roots of (share - x)^2 = x (1 - x) / n.
    for share, n, a, b in zip([0.8, 0.0, 1.0], [10, 4, 5], low, high, strict=True):
        for x in (a, b):
            assert (share - x) ** 2 == pytest.approx(x * (1 - x) / n, abs=1e-12)
    assert low.min() >= 0
    assert high.max() <= 1


def test_class_examples_are_of_their_class(trained_store):
    """Each row shows galaxies of one true class, named, at most six."""
    with open_store(trained_store) as store:
        drawing = draw_examples(store, select_galaxies(store, Query(n=None)), DrawOptions())
        (fig,) = drawing.pages
        shown = [ax.texts[1].get_text().replace("\n", "") for ax in fig.axes]
        label = dict(zip(store.objid, store.label, strict=True))
    assert len(shown) == 12
    assert [label[objid] for objid in shown] == [0] * 6 + [1] * 6
    rows = [text.get_text() for text in fig.texts]
    assert rows == ["low-metallicity", "high-metallicity"]


def test_top_losses_show_the_right_class_before_the_wrong(make_store):
    """The largest losses from top to bottom: the true class's map, then the likeliest other's."""
    with open_store(make_store(class_names=("a", "b", "c"), quantity="")) as store:
        drawing = draw_top_losses(store, select_galaxies(store, Query(n=None)), DrawOptions())
        losses = store.losses
        worst = np.argsort(-losses)[:5]
        (fig,) = drawing.pages
        rows = [fig.axes[start : start + 4] for start in range(0, 20, 4)]
        for (first, right, wrong, _), index in zip(rows, worst, strict=True):
            assert first.texts[1].get_text() == store.objid[index]
            assert right.texts[1].get_text() == store.class_names[store.label[index]]
            others = store.probs[index].copy()
            others[store.label[index]] = 0
            assert wrong.texts[1].get_text() == store.class_names[others.argmax()]
            expected = np.maximum(store.cams(index)[others.argmax()], 0)
            np.testing.assert_array_equal(wrong.images[1].get_array(), expected)


def test_top_losses_are_the_worst_of_all_that_could_be_shown(store_path):
    """However many are asked for: the worst, among the number that they were chosen from."""
    with (
        open_store(store_path) as store,
        draw_figure("top-losses", store_path, Query(n=2)) as (drawing, _),
    ):
        worst = np.argsort(-store.losses)[:2]
        assert drawing.galaxies == tuple(store.objid[worst])
        caption = drawing.describe(PLAIN)
    expected = (
        "The 2 galaxies with the largest cross-entropy loss among the full validation set (12"
    )
    assert expected in caption


def test_stacks_are_means_of_signed_maps(store_path):
    """Each stack averages the galaxies of its pair of classes, all galaxies in one stack."""
    with open_store(store_path) as store:
        stacks = stack_maps(store, np.arange(12))
        assert sum(stack.n for stack in stacks) == 12
        for stack in stacks:
            pair = (store.label == stack.true) & (store.predicted == stack.predicted)
            members = np.flatnonzero(pair)
            assert stack.n == len(members)
            np.testing.assert_allclose(
                stack.cams, np.mean([store.cams(i) for i in members], axis=0), atol=1e-9
            )
            np.testing.assert_allclose(
                stack.cutout, np.mean([store.cutouts(i) for i in members], axis=0), atol=1e-9
            )
    fig = make_stacked_maps(stacks, ["low", "high"], 0.4)
    first, low, high, _ = fig.axes[:4]
    assert first.texts[1].get_text() == f"low, N = {stacks[0].n}"
    assert [ax.texts[1].get_text() for ax in (low, high)] == ["low", "high"]


@pytest.mark.parametrize("map_size", [24, 12])
def test_radial_profile_of_known_maps(make_store, map_size):
    """Of a map that falls with radius the profile is that fall, at any resolution of the map."""
    y, x = ((np.mgrid[:map_size, :map_size] + 0.5) / map_size - 0.5) * 24
    radius = np.hypot(y, x)
    cams = np.stack([10 - radius, np.full_like(radius, -2.0)])
    store_cams = np.repeat(cams[None], 12, axis=0).astype(np.float32)
    with open_store(make_store(map_size=map_size, cams=store_cams)) as store:
        profiles, edges = measure_profiles(store, np.arange(12))
    middle = (edges[:-1] + edges[1:]) / 2
    np.testing.assert_allclose(profiles[0, 0], 10 - middle, atol=0.6 * np.diff(edges)[0])
    np.testing.assert_allclose(profiles[:, 1], -2.0, rtol=1e-3)
    assert edges[-1] == 12


def test_annuli_hold_each_pixel_once():
    """Every pixel within half a side is in the annulus of its radius, the corners in none."""
    edges = np.linspace(0, 48, 25)
    annulus = bin_radii((96, 96), 96, edges)
    y, x = np.mgrid[:96, :96] - 47.5
    radius = np.hypot(y, x)
    for index in range(len(edges) - 1):
        inside = (radius >= edges[index]) & (radius < edges[index + 1])
        np.testing.assert_array_equal(annulus == index, inside)
    assert (annulus[0, 0], annulus[47, 47]) == (len(edges) - 1, 0)


def test_bootstrap_band_is_the_standard_error():
    """Of many galaxies the band is a standard error of the mean to each side."""
    profiles = np.random.default_rng(0).normal(3, 2, (400, 1, 5))
    mean, low, high = bootstrap_mean(profiles)
    np.testing.assert_allclose(mean, profiles.mean(axis=0))
    np.testing.assert_allclose((high - low) / 2, 0.1, rtol=0.2)


def test_profile_of_a_coarse_map_is_refused(make_store, tmp_path):
    """Three pixels have no profile."""
    store = make_store(map_size=3)
    with pytest.raises(FigureError, match="maps of 3 pixels, expected at least 4"):
        render_figure("radial-profile", store, Query(n=None), tmp_path / "f.pdf")


def test_profile_in_units_of_a_radius(make_store, tmp_path):
    """Maps that fall with r / R have one profile, though the radii differ threefold."""
    y, x = np.mgrid[:96, :96] - 47.5
    arcsec = np.linspace(2.0, 6.0, 12)
    scaled = np.hypot(y, x)[None] * 0.396 / arcsec[:, None, None]
    cams = np.repeat((5 - scaled)[:, None], 2, axis=1).astype(np.float32)
    catalog = {"R50": np.append(arcsec[:-1], np.nan)}
    path = make_store(size=96, map_size=96, cams=cams, catalog=catalog)
    with open_store(path) as store:
        profiles = measure_profiles(store, np.arange(12), arcsec / 0.396)
    middle = (profiles.edges[:-1] + profiles.edges[1:]) / 2
    spread = np.nanmax(profiles.values[:, 0], axis=0) - np.nanmin(profiles.values[:, 0], axis=0)
    np.testing.assert_allclose(np.nanmean(profiles.values[:, 0], axis=0), 5 - middle, atol=0.08)
    assert spread.max() < 0.15
    # 48 pixels are 19 arcsec, and nine galaxies in ten reach out to 3.4 of their own radii.
    assert profiles.edges[-1] == pytest.approx(np.quantile(48 * 0.396 / arcsec, 0.1))
    assert np.isnan(profiles.values[-1, 0, -1])
    render_figure("radial-profile", path, Query(n=None), tmp_path / "f.pdf", unit="R50")
    words = (tmp_path / "f.txt").read_text()
    assert "in units of each galaxy's R50; the 1 without one are left out." in words


@pytest.mark.parametrize(
    ("unit", "words"), [("R90", "column of the catalog: 'objID', 'z'"), ("z", "")]
)
def test_unit_without_a_scale_or_a_column_is_refused(make_store, tmp_path, unit, words):
    """A radius needs its column, and a pixel scale to be compared with pixels."""
    store = make_store(attrs={"pixel_scale": float("nan")})
    with pytest.raises(FigureError, match=words or "expected both for `unit`"):
        render_figure("radial-profile", store, Query(n=None), tmp_path / "f.pdf", unit=unit)


def test_compare_pairs_the_same_galaxies(make_store, tmp_path):
    """By name, not by position; only galaxies of both stores; letters from top to bottom."""
    first = make_store("first.h5")
    with open_store(first) as store:
        objid, cutouts = store.objid, np.stack([store.cutouts(i) for i in range(12)])
    shifted = np.roll(objid, 4)
    shifted[:2] = ["1", "2"]
    second = make_store("second.h5", objid=shifted, cutouts=cutouts[..., :1])
    with open_store(first) as store, open_store(second) as other:
        selection = select_galaxies(store, Query(n=3), among=set(other.objid))
        assert selection.n_candidates == 10
        (fig,) = draw_compare(store, selection, DrawOptions(other=other)).pages
        titles = [ax.texts[1].get_text() for ax in fig.axes[::4]]
        chosen = [store.objid[index] for index in selection.indices]
        pairs = [objid for objid in chosen for _ in range(2)]
        expected = [f"({letter}) {o}" for letter, o in zip("abcdef", pairs, strict=True)]
        assert titles == expected
        for row, objid in zip(fig.axes[4::8], chosen, strict=True):
            (index,) = np.flatnonzero(other.objid == objid)
            np.testing.assert_array_equal(row.images[0].get_array(), other.cutouts(index))
    render_figure("compare", first, Query(n=3), tmp_path / "f.pdf", other=second)
    words = (tmp_path / "f.txt").read_text()
    assert "3 of the 10 simulated galaxies of the validation set that both explain" in words
    assert (
        "The network of rows (b), (d), (f), conv3, was trained on 42 simulated galaxies in" in words
    )


def test_compare_needs_two_stores_of_the_same_classes(make_store, tmp_path):
    """One store, other classes, a galaxy of one store alone, and a needless store are refused."""
    first = make_store("first.h5")
    other = make_store("other.h5", class_names=("spiral", "elliptical"))
    far = make_store("far.h5", objid=np.array([f"x{i}" for i in range(12)], dtype=object))
    path = tmp_path / "f.pdf"
    for options, query, words in (
        ({}, Query(), "one store, expected two; name the second with `other`"),
        ({"other": other}, Query(), "expected the classes of"),
        ({"other": far}, Query(), "no galaxy that both stores hold"),
        ({"other": far}, Query(objids=("1237665024900858100",)), "not in the other store"),
    ):
        with pytest.raises((FigureError, SelectionError), match=words):
            render_figure("compare", first, query, path, **options)
    with pytest.raises(FigureError, match="takes no `other`, it is for compare"):
        render_figure("roc", first, Query(), path, other=first)
    with pytest.raises(FigureError, match="takes no `unit`, it is for radial-profile"):
        render_figure("roc", first, Query(), path, unit="z")


def test_atlas_draws_maps_as_the_panels_do():
    """Dimmed where a map is zero or negative, the colour alone from a quarter of the peak on."""
    cutout = np.full((8, 8, 3), 200, np.uint8)
    cams = np.zeros((2, 8, 8), np.float32)
    cams[0, :, 4:], cams[1] = 2.0, -1.0
    cams[1, 0, 0] = 0.6
    image = compose_galaxy(cutout, cams, 16)
    assert image.shape == (16, 48, 3)
    first, low, high = np.split(image, 3, axis=1)
    assert (first == 200).all()
    assert (low[:, :8] == 90).all()
    peak = 255 * np.array(colormaps["inferno"](255)[:3])
    np.testing.assert_allclose(low[:, 8:], np.broadcast_to(peak, (16, 8, 3)), atol=1)
    np.testing.assert_allclose(high[0, 0], 255 * np.array(colormaps["inferno"](76)[:3]), atol=1)
    assert (high[2:, 2:] == 90).all()
    coarse = compose_galaxy(cutout, np.ones((1, 2, 2), np.float32), 4)
    np.testing.assert_allclose(coarse[:, 4:], np.broadcast_to(peak, (4, 4, 3)), atol=1)


def test_atlas_shows_every_galaxy_once(make_store, tmp_path):
    """Pages of one size, in the order of the selection; numbered; PDF only."""
    path = make_store(n=60)
    render_figure("atlas", path, Query(n=None, sort="redshift"), tmp_path / "atlas.pdf")
    reader = PdfReader(tmp_path / "atlas.pdf")
    words = [page.extract_text() for page in reader.pages]
    assert len({tuple(page.mediabox) for page in reader.pages}) == 1
    with open_store(path) as store:
        found = [word.strip(",") for page in words for word in page.split()]
        assert [word for word in found if word in store.objid] == list(store.objid)
    n_pages = len(reader.pages)
    assert n_pages > 1
    assert all(f"Page {i} of {n_pages}" in page for i, page in enumerate(words, 1))
    with pytest.raises(OutputError, match=rf"expected \.pdf for {n_pages} pages"):
        render_figure("atlas", path, Query(n=None), tmp_path / "atlas.png")
    assert not (tmp_path / "atlas.png").exists()
