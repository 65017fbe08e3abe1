"""Compass: arrows on cutouts point where the sky is, and captions say only what is drawn."""

import math

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from click.testing import CliRunner
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from galfig.cli import main
from galfig.config import DEFAULT_STYLE, StyleSettings, make_style
from galfig.errors import FigureError
from galfig.figures.captions import PLAIN
from galfig.figures.compass import (
    Compass,
    describe_orientation,
    find_compasses,
    place_compass,
    plot_compass,
)
from galfig.figures.registry import FIGURES, check_style, draw_figure
from galfig.figures.rows import Look, Row, plot_row
from galfig.images.celestial import read_view
from galfig.store.reader import open_store
from galfig.store.selection import Query

UP = (0.0, 90.0)
UNKNOWN = (np.nan, np.nan)
DRAWN = ("panels", "evidence", "class-examples", "top-losses")


def orient(*angles):
    """Return the datasets of a store with these directions of north and east."""
    north, east = np.array(angles, np.float32).T
    return {"north_angle": north, "east_angle": east}


def repeat(*angles, n=12):
    """Return the datasets of twelve galaxies that repeat some directions."""
    return orient(*(angles[number % len(angles)] for number in range(n)))


def find_arrows(ax):
    """Return the angles of the white arrows on axes [deg], counterclockwise from up."""
    found = []
    for patch in ax.patches:
        if isinstance(patch, Polygon) and patch.get_facecolor() == (1, 1, 1, 1):
            corners = patch.get_xy()
            x, y = corners[3] - (corners[0] + corners[6]) / 2
            found.append(math.degrees(math.atan2(-x, y)))
    return found


def list_arrows(pages):
    """Return the arrows of each axes of figures that has any."""
    found = [find_arrows(ax) for fig in pages for ax in fig.axes]
    return [arrows for arrows in found if arrows]


def differ(one, two):
    """Return the largest difference of angles [deg]."""
    return float(np.abs((np.subtract(one, two) + 180) % 360 - 180).max())


@pytest.mark.parametrize("turn", [0, 35, 160, -80])
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_arrows_point_to_places_north_and_east(make_store, turn, is_mirrored):
    """From the header to the artist: astropy finds these places on the same pixels."""
    t, s = math.radians(turn), 0.4 / 3600
    matrix = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
    matrix = np.diag([s if is_mirrored else -s, s]) @ matrix.T
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0})
    header.update({"CRVAL2": -55.0, "CRPIX1": 12.5, "CRPIX2": 12.5})
    header.update({f"CD{i + 1}_{j + 1}": matrix[i, j] for i in range(2) for j in range(2)})
    wcs, center = WCS(header), (11.5, 11.5)
    place, expected = wcs.pixel_to_world(*center), []
    for angle in (0, 90):
        x, y = wcs.world_to_pixel(place.directional_offset_by(angle * u.deg, 1 * u.arcsec))
        # Figures show the first row of FITS at the bottom.
        expected.append(math.degrees(math.atan2(-(x - center[0]), y - center[1])))
    view = read_view(header, (1, 2), center)
    path = make_store(**repeat(view[1:3]), attrs={"pixel_scale": 0.4})
    for name in DRAWN:
        with draw_figure(name, path, Query(n=2), style=make_style({"compass": True})) as (
            drawing,
            _,
        ):
            found = list_arrows(drawing.pages)
            assert len(found) >= 2
            assert all(differ(arrows, expected) < 0.1 for arrows in found)


def test_arrows_are_drawn_where_north_is_not_up(make_store):
    """Of the galaxies of the figure, and on all of known orientation."""
    path = make_store(**orient(*[UP] * 6, *[(40, 130), UP, UNKNOWN] * 2))
    with open_store(path) as store:
        names = store.objid.tolist()
    expected = {
        (0, 1): (0, "North is up and east to the left."),
        (6, 7): (2, "Arrows point to the north (N) and the east (E)."),
        (0, 8): (
            0,
            "North is up and east to the left in 1 of 2 cutouts; the orientation of the other is "
            "unknown.",
        ),
        (6, 7, 8): (
            2,
            "Arrows point to the north (N) and the east (E) in 2 of 3 cutouts; the orientation of "
            "the other is unknown.",
        ),
        (8, 11): (0, ""),
    }
    for rows, (n, words) in expected.items():
        query = Query(objids=tuple(names[row] for row in rows))
        for name in ("panels", "evidence"):
            with draw_figure(name, path, query) as (drawing, _):
                assert len(list_arrows(drawing.pages)) == n
                caption = drawing.describe(PLAIN)
                assert words in caption
                assert bool(words) == any(word in caption for word in ("North", "north"))


def test_the_style_says_always_or_never(make_store):
    """Arrows where north is up as well; without them, no caption says where it is otherwise."""
    turned, level = np.array([(40.0, 130.0), UP]), np.array([UP, UP])
    always, never = (StyleSettings(compass=choice) for choice in (True, False))
    assert find_compasses(level, always) == [Compass(*UP)] * 2
    assert find_compasses(turned, never) == [None, None]
    assert find_compasses(np.array([UP, UNKNOWN]), always) == [Compass(*UP), None]
    assert describe_orientation(level, always).startswith("Arrows point")
    assert describe_orientation(level, never) == "North is up and east to the left."
    assert describe_orientation(turned, never) == ""


@pytest.mark.parametrize(
    ("tilt", "words"),
    [
        (0.01, "North is up and east to the left."),
        (0.7, "North is up and east to the left, to within a degree."),
        (1.5, "Arrows point to the north (N) and the east (E)."),
    ],
)
def test_what_no_reader_can_see_is_no_tilt(tilt, words):
    """The caption says how exactly it is meant."""
    angles = np.array([UP, (-tilt, 90 - tilt)])
    assert describe_orientation(angles, DEFAULT_STYLE) == words
    mirrored = np.array([UP, (0, -90)])
    assert describe_orientation(mirrored, DEFAULT_STYLE).startswith("Arrows")


def test_figures_of_unknown_orientation_are_as_before(make_store, tmp_path):
    """A store without directions has no arrows, whatever is asked, and captions say nothing."""
    for number, path in enumerate((make_store("a.h5"), make_store("b.h5", **repeat(UNKNOWN)))):
        out = tmp_path / f"{number}.png"
        ran = CliRunner().invoke(
            main, ["render", str(path), "--n", "2", "--compass", "--out", str(out)]
        )
        assert ran.exit_code == 0, ran.output
        assert "orth" not in out.with_suffix(".txt").read_text()
    assert (tmp_path / "0.png").read_bytes() != b""


@pytest.mark.parametrize("angles", [UP, (40, 130), (130, 40), (-100, 170), (180, -90)])
@pytest.mark.parametrize("side", [0.8, 1.1, 2.2])
def test_a_compass_stays_in_its_corner(angles, side):
    """Within the panel, to the right, above what lies below it, and not over the middle."""
    fig = Figure(figsize=(side, side), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1))
    place = place_compass(Compass(*angles), side, 6.5, 0.2)
    plot_compass(Compass(*angles), ax=ax, side=side, size=6.5, bottom=0.2)
    fig.canvas.draw()
    boxes = [patch.get_window_extent() for patch in ax.patches]
    boxes += [text.get_window_extent() for text in ax.texts]
    inverse = ax.transAxes.inverted()
    corners = np.concatenate([inverse.transform(box.get_points()) for box in boxes])
    assert corners[:, 0].max() < 1
    assert corners[:, 0].min() > 0.4
    assert corners[:, 1].min() > 0.17
    assert corners[:, 1].max() < place.top + 0.05 < 0.75


@pytest.mark.parametrize("width", ["column", "text"])
@pytest.mark.parametrize(
    "style",
    [
        {},
        {"layout": "grid"},
        {"annotate": ["objid", "z", "value", "true", "p", "sum"]},
        {"overlay": "side", "letters": True},
        {"sheet": "talk"},
    ],
)
def test_no_word_stands_over_a_compass(make_store, width, style):
    """Neither those of the galaxy nor the scale bar, on panels of any size."""
    path = make_store(**repeat((40, 130), (-100, 170), (130, 40)), attrs={"pixel_scale": 0.396})
    for name in ("panels", "class-examples", "evidence"):
        if name != "panels" and set(style) - {"sheet"}:
            continue
        with draw_figure(name, path, Query(n=3), width=width, style=make_style(style)) as (
            drawing,
            _,
        ):
            for fig in drawing.pages:
                fig.canvas.draw()
                for ax in fig.axes:
                    if not find_arrows(ax):
                        continue
                    letters = [one for one in ax.texts if one.get_text() in ("N", "E")]
                    others = [
                        one.get_window_extent()
                        for one in ax.texts
                        if one not in letters and one.get_text().strip()
                    ]
                    others += [line.get_window_extent() for line in ax.lines]
                    ours = [one.get_window_extent() for one in (*ax.patches, *letters)]
                    for box in ours:
                        assert not any(box.overlaps(other) for other in others)


@pytest.mark.parametrize("side", [0.8, 1.3])
def test_words_that_crowd_a_cutout_end_above_the_compass(side):
    """Where they have no other place, fewer of them are drawn."""
    counts = []
    for compass in (None, Compass(40, 130)):
        fig = Figure(figsize=(side, side))
        ax = fig.add_axes((0, 0, 1, 1))
        row = Row(
            *("title", np.zeros((24, 24, 3), np.uint8), np.zeros((0, 8, 8), np.float32), ()),
            pixel_scale=0.4,
            facts=[f"fact {number}" for number in range(12)],
            compass=compass,
        )
        look = Look(None, is_signed=False, overlay="opaque", scale="row")
        plot_row(row, axes=[ax], bar=None, side=side, look=look, shared=1.0)
        words = [one for one in ax.texts if one.get_text().startswith(("title", "fact"))]
        counts.append(len(words))
        fig.canvas.draw()
        ends = [one.get_window_extent().y0 for one in words]
        letters = [one.get_window_extent().y1 for one in ax.texts if one.get_text() in ("N", "E")]
        assert not letters or min(ends) > max(letters)
    assert counts[0] > counts[1] > 2


def test_only_figures_of_cutouts_take_it(make_store):
    """Means of galaxies have no north."""
    takers = {name for name, kind in FIGURES.items() if "compass" in kind.styled}
    assert takers == {"panels", "evidence", "class-examples", "top-losses", "compare"}
    with pytest.raises(FigureError, match="`compass`"):
        check_style("stacked-maps", StyleSettings(compass=False), ["compass"])
    path = make_store(**repeat((40, 130)))
    ran = CliRunner().invoke(main, ["figure", "roc", str(path), "--no-compass"])
    assert (ran.exit_code, len(ran.stderr.splitlines())) == (1, 1)
    assert "--compass" in ran.stderr


def test_the_setting_is_true_or_false():
    """As other switches; a number is none."""
    assert make_style({"compass": False}).compass is False
    with pytest.raises(Exception, match="compass"):
        make_style({"compass": 2})


def test_two_networks_that_know_unlike_things_are_compared(make_store):
    """A caption speaks of the cutouts of both stores."""
    path, other = make_store(**repeat((40, 130))), make_store("other.h5", seed=1)
    with draw_figure("compare", path, Query(n=2), other=other) as (drawing, _):
        assert len(list_arrows(drawing.pages)) == 2
        assert "(E) in 2 of 4 cutouts" in drawing.describe(PLAIN)


def test_means_over_cutouts_say_that_these_lie_unlike_each_other(make_store):
    """A bright north side of a stack would mean nothing, and a pixel is no angle."""
    scales = np.linspace(0.2, 0.8, 12)
    scales[3] = np.nan
    unlike = make_store("unlike.h5", pixel_scale=scales, **repeat(UP, (40, 130), UNKNOWN))
    alike = make_store(
        "alike.h5", pixel_scale=np.full(12, 0.4), **repeat((179.8, -90), (-179.9, -90))
    )
    captions = {}
    for name in ("stacked-maps", "radial-profile"):
        for path in (unlike, alike):
            with draw_figure(name, path, Query(n=12)) as (drawing, _):
                captions[name, path.stem] = drawing.describe(PLAIN)
    for name in ("stacked-maps", "radial-profile"):
        assert "of 0.2 to 0.8 arcsec" in captions[name, "unlike"]
        assert "of 1 of them is unknown" in captions[name, "unlike"]
        assert "arcsec," not in captions[name, "alike"]
        assert "directions" not in captions[name, "alike"]
    assert "North and east are in different directions" in captions["stacked-maps", "unlike"]
    assert "directions" not in captions["radial-profile", "unlike"]
