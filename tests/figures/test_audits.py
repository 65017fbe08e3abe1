"""Figures of an audit: what is drawn, said and tabulated; and statistics against a column."""

import numpy as np
import pytest
from astropy.table import Table
from click.testing import CliRunner
from matplotlib.colors import to_hex
from samples import make_measured, write_small_audit
from scipy.stats import binom

from galfig import plot
from galfig.cli import main
from galfig.errors import FigureError
from galfig.figures import attribution_vs
from galfig.figures.attribution_vs import measure_trend
from galfig.figures.audit_curves import list_curves
from galfig.figures.audits import format_numbers
from galfig.figures.registry import FIGURES, render_figure
from galfig.records import Estimate
from galfig.store.selection import Query

OF_AUDIT = [name for name, kind in FIGURES.items() if kind.source == "audit"]


@pytest.fixture
def audit(tmp_path):
    """Write an audit of the small store: deletion with bands, insertion, and a sanity check."""
    share = [0.0, 0.5, 1.0]
    curves = {
        "share": share,
        "random order": [0.9, 0.8, 0.5],
        "map": [0.9, 0.6, 0.5],
        "map low": [0.85, 0.55, 0.45],
        "map high": [0.95, 0.65, 0.55],
        "map, blur": [0.9, 0.7, 0.5],
    }
    measures = {
        "deletion": make_measured("deletion", curves=curves),
        "insertion": make_measured("insertion", numbers={}),
        "sanity": make_measured("sanity", passes=False, curves={}),
    }
    return write_small_audit(tmp_path / "maps.audit.h5", measures, verdict=["It is so: 5 %."])


@pytest.mark.parametrize("name", OF_AUDIT)
def test_figures_of_an_audit_are_written(audit, tmp_path, name):
    """The same bytes twice, by command and in Python; caption, table, provenance."""
    files = []
    for folder in ("one", "two"):
        path = tmp_path / folder / f"{name}.pdf"
        data = path.with_suffix(".ecsv")
        written = render_figure(name, audit.path, Query(n=None), path, data=data)
        files.append([file.read_bytes() for file in written])
    assert files[0] == files[1]
    table = Table.read(data)
    assert len(table) > 0
    assert all(column.description for column in table.itercols())
    assert table.meta["galfig"]["audit"]["audit_digest"] == "a" * 64
    words = path.with_suffix(".txt").read_text()
    assert "12 simulated galaxies that did not train the network" in words
    assert all(line.endswith(".") for line in words.splitlines())
    drawn = getattr(plot, name.replace("-", "_"))(audit)
    assert drawn.caption == words.strip()
    assert len(drawn.data) == len(table)


def test_summary_shows_every_number_and_the_verdict(audit):
    """Numbers filled and controls hollow; a panel for each measure that has any."""
    drawn = plot.audit_summary(audit)
    assert len(drawn.figure.axes) == 2
    ax = drawn.figure.axes[0]
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in points] == [0.46, 0.39, 0.62, 0.52]
    faces = [to_hex(line.get_markerfacecolor()) for line in points]
    assert [face == "#ffffff" for face in faces] == [False, False, True, True]
    assert ax.get_yticklabels()[0].get_text() == "area  0.460"
    assert drawn.figure.axes[1].get_title("left") == "sanity (fails)"
    assert "The maps fail sanity." in drawn.caption
    assert drawn.caption.endswith("It is so: 5 %.")
    assert set(drawn.data["kind"]) == {"number", "control"}


def test_curves_have_bands_and_all_controls(audit):
    """The map first and thickest; other fills only in the table."""
    drawn = plot.audit_curves(audit)
    left, right = drawn.figure.axes[:2]
    assert (left.get_xlabel(), right.get_xlabel()) == (
        "Share of pixels removed",
        "Share of pixels inserted",
    )
    widths = [line.get_linewidth() for line in left.lines]
    assert widths == [1.8, 1.0]
    np.testing.assert_array_equal(left.lines[0].get_ydata(), [0.9, 0.6, 0.5])
    assert len(left.collections) == 1
    deletion = drawn.data[drawn.data["measure"] == "deletion"]
    assert set(deletion["order"]) == {"map", "random order", "map, blur"}
    assert list(list_curves(audit.measures["deletion"])) == ["map", "random order"]
    assert "The excess over light of the deletion is 0.390, from 0.340 to 0.430." in drawn.caption


def test_sanity_says_the_outcome(audit):
    """A failure in the caption and in the text for those who cannot see it."""
    drawn = plot.audit_sanity(audit)
    assert "The maps fail." in drawn.caption
    assert drawn.alt.endswith("The maps fail.")
    assert drawn.figure.axes[0].get_xlim()[1] > 1


def test_what_an_audit_lacks_is_named(tmp_path, store_path):
    """A measure that was not made, a selection, and a store in its place."""
    audit = write_small_audit(tmp_path / "a.h5", {"deletion": make_measured(numbers={})})
    with pytest.raises(FigureError, match="holds deletion, expected sanity"):
        plot.audit_sanity(audit)
    with pytest.raises(FigureError, match="holds no number"):
        plot.audit_summary(audit)
    with pytest.raises(FigureError, match="has several axes"):
        plot.audit_curves(audit, ax=object())
    arguments = ["figure", "audit-summary", "--out", str(tmp_path / "f.pdf")]
    printed = CliRunner().invoke(main, [*arguments, str(store_path)])
    assert "a store, expected an audit" in printed.stderr
    printed = CliRunner().invoke(main, [*arguments, str(audit.path), "--zmin", "0.1"])
    assert "shows an audit, expected no selection of galaxies; leave out --zmin" in printed.stderr


def test_curves_of_fewer_galaxies_say_so(tmp_path):
    """A control that was tried on some galaxies is not compared in silence with all."""
    some = Estimate(value=0.6, low=0.5, high=0.7, n=5)
    share = [0.0, 0.5, 1.0]
    names = ("random order", "order by edges", "order by blurred map", "map")
    curves = {"share": share, **{name: [0.9, 0.6, 0.5] for name in names}}
    everywhere = some.model_copy(update={"n": 12})
    controls = {"random order": everywhere, "order by edges": some, "order by blurred map": some}
    captions = []
    for given in (controls, dict.fromkeys(controls, everywhere)):
        one = make_measured("deletion", curves=curves, controls=given)
        path = tmp_path / f"{len(captions)}.audit.h5"
        captions.append(plot.audit_curves(write_small_audit(path, {"deletion": one})).caption)
    words = "The curves order by edges and order by blurred map are of 5 of the galaxies"
    assert words in captions[0]
    assert "of the galaxies, spread" not in captions[1]


def test_attribution_against_a_column(audit, store, tmp_path):
    """Galaxies of both files, the medians, and Spearman's correlation."""
    drawn = plot.attribution_vs(store, audit=audit, column="z", statistic="centroid_distance")
    data = drawn.data
    redshift = dict(zip(store.objid, store.redshift, strict=True))
    np.testing.assert_allclose(data["x_z"], [redshift[name] for name in data["objid"]])
    assert len(data) == 12
    np.testing.assert_allclose(
        data["y_centroid_distance"], audit.galaxies["centroid_distance"][data["objid"]]
    )
    assert drawn.figure.axes[0].get_ylabel() == "centroid distance [pix]"
    n_absent = len(store.select()) - len(data)
    absent = f"Of these, 12 are shown; left out are {n_absent} galaxies that the audit did not"
    assert (absent in drawn.caption) == (n_absent > 0)
    assert "the point is the median of all, with a 95 % interval" in drawn.caption
    written = CliRunner().invoke(
        main,
        [
            *("figure", "attribution-vs", str(store.path), "--audit", str(audit.path)),
            *("--column", "z", "--out", str(tmp_path / "f.pdf")),
        ],
    )
    assert written.exit_code == 0, written.stderr
    assert "brightness_correlation" in (tmp_path / "f.txt").read_text()


def test_a_constant_column_has_no_correlation(audit, store, monkeypatch):
    """Which the alternative text and the caption say in words."""
    constant = np.full(len(store), 0.5)
    monkeypatch.setattr(attribution_vs, "_read_column", lambda store, column: constant)
    drawn = plot.attribution_vs(store, audit=audit, column="z", statistic="centroid_distance")
    assert "one of the two is constant" in drawn.alt
    assert "nan" not in drawn.alt + drawn.caption
    assert "no correlation is defined" in drawn.caption


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"column": "zz"}, "`column` 'zz': no column of the catalog; did you mean 'z'"),
        ({"column": "true"}, "`column` 'true' holds no number"),
        ({"statistic": "objid"}, "`statistic` 'objid': no column of numbers"),
        ({"statistic": "centroid_distanc"}, "did you mean 'centroid_distance'"),
        ({"statistic": "deletion_excess_over_light"}, "0 galaxies with both"),
    ],
)
def test_columns_that_cannot_be_plotted_are_named(audit, store, options, words):
    """Of the catalog, and of the table."""
    with pytest.raises(FigureError, match=words):
        plot.attribution_vs(store, **{"audit": audit, "column": "z", **options})


def test_an_audit_of_another_store_is_refused(store, tmp_path):
    """Its identifiers may be the same."""
    other = write_small_audit(tmp_path / "o.h5", plan_digest="other")
    with pytest.raises(FigureError, match="an audit of another store"):
        plot.attribution_vs(store, audit=other, column="z")


@pytest.mark.parametrize(
    ("missing", "words"),
    [("--audit", "name it with --audit"), ("--column", "name it with --column")],
)
def test_what_the_figure_needs_is_asked_for(store_path, audit, missing, words):
    """In the command's own words."""
    given = {"--audit": str(audit.path), "--column": "z"}
    given.pop(missing)
    arguments = [word for pair in given.items() for word in pair]
    printed = CliRunner().invoke(main, ["figure", "attribution-vs", str(store_path), *arguments])
    assert words in printed.stderr


def test_only_one_figure_takes_these_options(store_path, audit):
    """As with the options of others."""
    printed = CliRunner().invoke(
        main, ["figure", "roc", str(store_path), "--audit", str(audit.path)]
    )
    assert "takes no --audit, it is for attribution-vs" in printed.stderr


def test_medians_have_the_interval_of_order_statistics():
    """It covers the true median at least as often as it says, and not much more often."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        y = rng.exponential(size=41)
        trend = measure_trend(np.zeros(41) + rng.random(41), y)
        inside.append((trend.low <= np.log(2)) & (np.log(2) <= trend.high))
    # Two bins of 21 and 20.
    assert np.shape(inside) == (2000, 2)
    assert 0.945 <= np.mean(inside) <= 0.985
    ordered = np.sort(rng.random(20))
    trend = measure_trend(np.arange(20.0), ordered)
    rank = int(np.flatnonzero(ordered == trend.low[0])[0])
    assert binom.cdf(rank, 20, 0.5) <= 0.025 < binom.cdf(rank + 1, 20, 0.5)


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_correlation_has_an_interval(rho):
    """It covers the truth: two normal numbers with a correlation (Spearman 0.483 and 0.891)."""
    rng = np.random.default_rng(1)
    truth, covered = 6 / np.pi * np.arcsin(rho / 2), []
    for _ in range(300):
        x, noise = rng.normal(size=(2, 60))
        trend = measure_trend(x, rho * x + np.sqrt(1 - rho**2) * noise)
        covered.append(trend.correlation_low <= truth <= trend.correlation_high)
    assert 0.91 <= np.mean(covered) <= 0.985


def test_correlations_of_constants_and_of_order():
    """One is not defined, and the other is 1."""
    assert np.isnan(measure_trend(np.arange(10.0), np.ones(10)).correlation)
    assert measure_trend(np.arange(10.0), np.arange(10.0)).correlation_low > 0.999999


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0.4612, 0.447, 0.4749), ("0.461", "0.447", "0.475")),
        ((-0.0001, -0.2, 0.1), ("0.000", "-0.200", "0.100")),
        ((2.13e-7, 0.0, 5e-7), ("2.1e-07", "0.0e+00", "5.0e-07")),
        ((12.34, 11.0, 13.0), ("12.3", "11.0", "13.0")),
        ((0.0, 0.0, 0.0), ("0.000", "0.000", "0.000")),
    ],
)
def test_numbers_have_as_many_decimals(numbers, words):
    """By the largest of the three."""
    value, low, high = numbers
    assert format_numbers(Estimate(value=value, low=low, high=high, n=3)) == words


def test_captions_count_the_galaxies_behind_their_numbers(tmp_path):
    """A sample is called one only if it is; fewer galaxies behind a number are not hidden."""
    few = Estimate(value=0.5, low=0.4, high=0.6, n=7)
    reason = "They stay much the same when all weights are random."
    measures = {
        "deletion": make_measured("deletion"),
        "sanity": make_measured(
            "sanity", passes=False, numbers={"all": few}, controls={}, not_supported=reason
        ),
    }
    audit = write_small_audit(tmp_path / "maps.audit.h5", measures)
    caption = plot.audit_summary(audit).caption
    assert "The audit measured 12 simulated galaxies that did not train the network. " in caption
    assert "Some of its numbers are of fewer, of 7 at least." in caption
    sanity = plot.audit_sanity(audit)
    assert "of the maps of 7 galaxies" in sanity.alt
    assert f"The maps fail.\n{reason}" in sanity.caption
    store = audit.record.store.model_copy(update={"n_galaxies": 53})
    audit.record = audit.record.model_copy(update={"store": store, "n_trained": 3})
    caption = plot.audit_summary(audit).caption
    words = "measured 12 of the 50 simulated galaxies that did not train the network, drawn at"
    assert words in caption


def test_what_a_statistic_is_of_is_said(audit, store):
    """The map M in its description, and how many galaxies are shown."""
    column = audit.columns["brightness_correlation"]
    audit.columns["brightness_correlation"] = column._replace(description="correlation of M")
    caption = plot.attribution_vs(store, audit=audit, column="z").caption
    assert "M is the evidence map of the predicted class." in caption
