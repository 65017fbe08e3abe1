"""Feature space: galaxies where their features are, marked by class, and said what it means."""

import sys
from types import ModuleType

import matplotlib as mpl
import numpy as np
import pytest
from astropy.table import Table
from click.testing import CliRunner
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from galfig import plot
from galfig.cli import main
from galfig.errors import ConfigError, FigureError
from galfig.figures import feature_space
from galfig.figures.captions import PLAIN
from galfig.figures.feature_space import choose_cells
from galfig.figures.registry import draw_figure, render_figure
from galfig.store.reader import open_store
from galfig.store.selection import Query

EVERY = Query(n=None, split="all")


def draw(path, **options):
    """Return the figure, the caption, the drawing and its table."""
    with draw_figure("feature-space", path, EVERY, **options) as (drawing, _):
        (figure,) = drawing.pages
        return figure, drawing.describe(PLAIN), drawing, drawing.tabulate()


def list_points(axes):
    """Return the positions of all points, by whether they are open."""
    found = {True: [], False: []}
    for one in axes.collections:
        found[not len(one.get_facecolors())] += one.get_offsets().tolist()
    return found


def test_points_stand_where_the_components_are(store_path):
    """All galaxies, each once; those that are misclassified open."""
    figure, words, _, table = draw(store_path)
    (axes,) = figure.axes
    with open_store(store_path) as store:
        # The table has the order of the selection.
        rows = store.names.find(table["objid"].values.tolist())
        features = store.features(rows).astype(float)
        is_wrong = (store.predicted != store.label)[rows]
    centred = features - features.mean(axis=0)
    u, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    expected = u[:, :2] * np.sqrt(11)
    found = np.stack([table["component_1"].values, table["component_2"].values], axis=1)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-6)
    points = list_points(axes)
    assert sorted(points[True]) == sorted(found[is_wrong].tolist())
    assert sorted(points[False]) == sorted(found[~is_wrong].tolist())
    shares = 100 * sizes**2 / np.sum(sizes**2)
    assert axes.get_xlabel() == f"Component 1 ({shares[0]:.3g} % of the variance)"
    assert axes.get_ylabel() == f"Component 2 ({shares[1]:.3g} % of the variance)"
    assert (
        f"hold {shares[0]:.3g} %, {shares[1]:.3g} % and {shares[2]:.3g} % of the variance, "
        f"{shares[:3].sum():.3g} % together." in words
    )
    assert "The 6 features of a galaxy are the activations of layer conv3, averaged over" in words
    assert f"Open points are {is_wrong.sum()} galaxies that" in words


def test_area_grows_with_the_probability(store_path):
    """Of the predicted class: from that of a guess to 1."""
    figure, _, _, table = draw(store_path)
    areas = {}
    for one in figure.axes[0].collections:
        for place, area in zip(one.get_offsets().tolist(), one.get_sizes(), strict=True):
            areas[tuple(place)] = area
    places = zip(table["component_1"].values, table["component_2"].values, strict=True)
    ordered = [areas[place] for place in places]
    assert np.array_equal(np.argsort(ordered), np.argsort(table["p"].values))
    assert min(ordered) > 0


def test_classes_differ_in_marker_and_colour(make_store):
    """Not by colour alone; a class that is not known is grey."""
    label = np.array([0, 1, 2, -1] * 3, np.int16)
    path = make_store(class_names=("a", "b", "c"), label=label)
    figure, words, drawing, _ = draw(path)
    legend = figure.axes[0].get_legend()
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:4] == [
        "class unknown (3)",
        *(f"{name}-metallicity (3)" for name in "abc"),
    ]
    handles = legend.legend_handles[:4]
    assert len({handle.get_marker() for handle in handles}) == 4
    assert len({str(handle.get_color()) for handle in handles}) == 4
    assert "Of 3, the true class is not known (grey)." in words
    assert "3 of unknown class, 3 a-metallicity" in drawing.alt


def test_unlabelled_galaxies_have_their_predicted_class(make_store):
    """And the caption says so; none of them is wrong."""
    figure, words, drawing, _ = draw(make_store(label=np.full(12, -1, np.int16)))
    assert not list_points(figure.axes[0])[True]
    assert "Colour and marker are the predicted class" in words
    assert "by predicted class" in drawing.alt
    assert "Open points" not in words


def test_many_classes_are_not_told_apart(make_store):
    """No one can tell twenty colours from each other."""
    names = tuple(f"c{number}" for number in range(20))
    label = np.arange(12, dtype=np.int16)
    figure, words, *_ = draw(make_store(class_names=names, label=label))
    assert "Classes are not told apart" in words
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert not any(text.startswith("c1") for text in texts)
    assert texts[-2:] == ["p = 0.05", "p = 1"]


@pytest.mark.parametrize(
    ("sheet", "width"),
    [
        *(("journal", None), ("journal", "text"), ("journal", 2.4)),
        *(("talk", None), ("poster", None), ("poster", "text")),
    ],
)
@pytest.mark.parametrize("n_classes", [2, 12])
def test_words_are_inside_the_figure(make_store, width, sheet, n_classes):
    """However many lines the legend has, and whatever the size of the type."""
    names = tuple(f"class {number}" for number in range(n_classes))
    path = make_store(class_names=names, quantity="")
    figure, *_ = draw(path, width=width, style=plot.make_style(sheet))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    texts = [axes.xaxis.label, axes.yaxis.label, *axes.get_legend().get_texts()]
    for box in [text.get_window_extent() for text in texts]:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    assert axes.get_window_extent().height > 0.3 * figure.bbox.height


def list_frames(axes):
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("width", [None, "column", 12.0])
@pytest.mark.parametrize("sheet", ["journal", "talk", "poster"])
def test_cutouts_do_not_overlap(make_store, width, sheet):
    """Each is square on the page, inside the axes, and in a frame of its own."""
    style = plot.make_style(sheet)
    features = np.random.default_rng(5).normal(size=(150, 6)).astype(np.float32)
    path = make_store(n=150, size=8, map_size=4, features=features)
    figure, words, drawing, table = draw(path, cutouts=True, width=width, style=style)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = [frame.get_window_extent() for frame in list_frames(axes)]
    assert len(boxes) == len(axes.images) == sum(table["shown"].values) == len(drawing.galaxies)
    assert f"({len(boxes)} of 150)" in words
    inside = axes.get_window_extent()
    for number, box in enumerate(boxes):
        assert box.width == pytest.approx(box.height, rel=1e-6)
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1
        assert inside.y0 <= box.y0
        assert box.y1 <= inside.y1
        for other in boxes[:number]:
            assert (
                box.x1 <= other.x0
                or other.x1 <= box.x0
                or box.y1 <= other.y0
                or (other.y1 <= box.y0)
            )
    for text in axes.get_legend().get_texts():
        extent = text.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.x1
        assert extent.y1 <= figure.bbox.y1
        assert extent.y0 >= inside.y1


def test_cutouts_are_those_of_the_galaxies(store_path):
    """Framed by their class, dashed where they are misclassified."""
    figure, words, drawing, _ = draw(store_path, cutouts=True)
    (axes,) = figure.axes
    colors = {}
    with open_store(store_path) as store:
        rows = [store.objid.tolist().index(objid) for objid in drawing.galaxies]
        shown = zip(rows, axes.images, list_frames(axes), strict=True)
        for row, image, frame in shown:
            assert np.array_equal(image.get_array(), store.cutouts(row))
            is_wrong = store.predicted[row] != store.label[row]
            assert (frame.get_linestyle() != "solid") == is_wrong
            colors.setdefault(int(store.label[row]), set()).add(frame.get_edgecolor())
    assert [len(found) for found in colors.values()] == [1, 1]
    assert colors[0] != colors[1]
    assert "Dashed frames are of" in words


def test_cells_hold_their_nearest_galaxy():
    """As a loop over all galaxies finds it; those on the border belong to the last cell."""
    places = np.random.default_rng(0).normal(size=(200, 2))
    shape = (7, 4)
    found = choose_cells(places, shape)
    low, step = places.min(axis=0), np.ptp(places, axis=0) / shape
    best = {}
    for row, place in enumerate(places):
        cell = tuple(np.minimum((place - low) // step, np.array(shape) - 1).astype(int))
        distance = np.sum(((place - low) / step - np.array(cell) - 0.5) ** 2)
        if cell not in best or distance < best[cell][0]:
            best[cell] = distance, row
    cells = zip(found.columns.tolist(), found.lines.tolist(), strict=True)
    assert dict(zip(cells, found.rows.tolist(), strict=True)) == {
        cell: row for cell, (_, row) in best.items()
    }


@pytest.mark.parametrize("cutouts", [False, True])
def test_own_axes_keep_the_callers_style(store, cutouts):
    """The figure is drawn where the caller says, with one axes beside another."""
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots(1, 2)
    before = dict(mpl.rcParams)
    drawn = plot.feature_space(store, cutouts=cutouts, ax=axes[1])
    assert dict(mpl.rcParams) == before
    assert not axes[0].has_data()
    assert axes[1].has_data()
    assert drawn.figure is figure
    assert drawn.data["component_1"].std(ddof=1) == pytest.approx(1)
    figure.draw_without_rendering()


@pytest.mark.parametrize("cutouts", [False, True])
def test_same_bytes_twice(store_path, tmp_path, cutouts):
    """In the file, in the table and in the words."""
    files = []
    for folder in ("one", "two"):
        path = tmp_path / folder / "f.pdf"
        written = render_figure(
            "feature-space",
            store_path,
            EVERY,
            path,
            cutouts=cutouts,
            data=path.with_suffix(".ecsv"),
        )
        files.append([file.read_bytes() for file in written])
    assert files[0] == files[1]
    table = Table.read(path.with_suffix(".ecsv"))
    assert len(table) == 12
    assert "of their variance" in table["component_3"].description


@pytest.mark.parametrize(
    ("features", "n_dimensions"),
    [
        (np.full((12, 6), 0.1, np.float32), 0),
        (np.arange(12, dtype=np.float32)[:, None], 1),
        (np.arange(12, dtype=np.float32)[:, None] * np.ones((1, 6), np.float32), 1),
    ],
)
def test_features_without_a_plane_are_refused(make_store, features, n_dimensions):
    """Those that are the same for all, and those that depend on each other."""
    words = f"features of 12 galaxies that span {n_dimensions} dimension"
    with pytest.raises(FigureError, match=words):
        draw(make_store(features=features))


def test_few_galaxies(store):
    """Two span a line, three a plane, and the caption counts what there is."""
    with pytest.raises(FigureError, match="features of 2 galaxies that span 1 dimension"):
        plot.feature_space(store, [0, 1])
    found = plot.feature_space(store, [0, 1, 5])
    assert "The first 2 components hold" in found.caption
    assert "3 simulated galaxies of the validation set, chosen individually" in found.caption


def test_store_without_features_says_what_to_do(make_store):
    """In Python and on the command line, which names its options."""
    path = make_store(features=None)
    with open_store(path) as store, pytest.raises(FigureError, match="holds no features"):
        plot.feature_space(store)
    printed = CliRunner().invoke(main, ["figure", "feature-space", str(path)])
    assert printed.exit_code == 1
    # The command looks for the network itself.
    words = "name it with --model; or build the store with 'galfig build-maps --features'"
    assert words in printed.stderr


def test_several_networks_and_orientations_are_said(make_store):
    """Features of each network lie side by side; none is a mean of another's."""
    path = make_store(n_networks=3, attrs={"config": '{"maps": {"tta": true, "features": true}}'})
    words = draw(path)[1]
    assert "activations of layer conv3 of each of 3 networks, side by side, averaged over" in words
    assert "over the eight orientations of its image" in words


def test_options_are_for_this_figure_alone(store_path, tmp_path):
    """And a projection must be known."""
    with pytest.raises(FigureError, match="takes no `cutouts`, it is for feature-space"):
        render_figure("roc", store_path, EVERY, tmp_path / "r.pdf", cutouts=True)
    with open_store(store_path) as store, pytest.raises(ConfigError, match="`projection` 'tsne'"):
        plot.feature_space(store, projection="tsne")


def test_umap_is_an_extra(store_path, monkeypatch):
    """Without it, one line says what to install."""
    monkeypatch.setattr(feature_space.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FigureError, match=r"needs umap-learn.*pip install 'galfig\[umap\]'"):
        draw(store_path, projection="umap")


def test_umap_is_seeded_and_described(make_store, monkeypatch):
    """What it is called with is what the caption says."""
    asked = {}

    class Stub:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, features):
            return features[:, :2]

    module = ModuleType("umap")
    module.UMAP = Stub
    monkeypatch.setitem(sys.modules, "umap", module)
    monkeypatch.setattr(feature_space.importlib.util, "find_spec", lambda name: name)
    path = make_store(n=20)
    with draw_figure("feature-space", path, Query(n=None, seed=7), projection="umap") as (
        drawing,
        provenance,
    ):
        words = drawing.describe(PLAIN)
        table = drawing.tabulate()
    assert asked["random_state"] == 7
    assert asked["n_neighbors"] == 15
    assert "UMAP (McInnes et al. 2018)" in words
    assert "15 neighbours, a least distance of 0.1 and the seed 7." in words
    assert "nor their sizes and densities mean anything" in words
    assert "whitened" not in words
    assert [name for name in table if name.startswith("umap")] == ["umap_1", "umap_2"]
    assert provenance["options"]["projection"] == "umap"
    with pytest.raises(FigureError, match="12 galaxies, expected 15 or more"):
        draw(make_store("few.h5"), projection="umap")


@pytest.mark.slow
def test_umap_gives_the_same_twice(make_store):
    """With the library itself, where it is installed."""
    pytest.importorskip("umap")
    path = make_store(n=40)
    found = [draw(path, projection="umap")[3]["umap_1"].values for _ in range(2)]
    assert np.array_equal(*found)


def test_points_of_a_pdf_are_few_bytes(make_store, tmp_path):
    """Thousands of points are pixels in a PDF, whose text stays text."""
    n = 3000
    features = np.random.default_rng(5).normal(size=(n, 6)).astype(np.float32)
    path = make_store(n=n, size=2, map_size=2, features=features)
    out = tmp_path / "f.png"
    render_figure("feature-space", path, EVERY, out)
    assert np.asarray(Image.open(out)).std() > 1
    render_figure("feature-space", path, EVERY, tmp_path / "f.pdf")
    assert (tmp_path / "f.pdf").stat().st_size < 400_000
