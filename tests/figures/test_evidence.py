"""Evidence maps: signs, unit, sums, error bars and what the caption says of them."""

import json

import numpy as np
import pytest
from astropy.table import Table
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from galfig import plot
from galfig.cli import main
from galfig.errors import ConfigError, FigureError, StoreError
from galfig.figures.captions import LATEX, PLAIN
from galfig.figures.drawing import DrawOptions
from galfig.figures.evidence import LEVELS, draw, plot_evidence, plot_hatching, plot_light
from galfig.figures.meaning import describe_field, find_offsets, find_unit, read_evidence
from galfig.figures.registry import render_figure
from galfig.figures.rows import plot_signed_map
from galfig.metrics import compute_interval_factor, contrast_with_rest
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies

SCALE = 0.396


@pytest.fixture
def make_pooled(make_store):
    """Give a function that makes a store of a head that pools and weights: maps add up to logits.

    Its biases are far apart, and recorded unless told otherwise.
    """

    def make(n_classes=2, records_bias=True, attrs=None, missed=0.0, **options):
        rng = np.random.default_rng(5)
        bias = np.linspace(-0.5, 0.7, n_classes)
        cams = rng.normal(0, 0.1, (12, n_classes, 24, 24)).astype(np.float32)
        logits = (cams.sum(axis=(2, 3), dtype=np.float64) + bias).astype(np.float32)
        logits[:, -1] += np.linspace(0, missed, 12, dtype=np.float32)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
        recorded = {"head_bias": json.dumps(bias.tolist())} if records_bias else {}
        return make_store(
            f"pooled-{n_classes}.h5",
            class_names=("low", "medium", "high")[:n_classes] if n_classes > 2 else ("low", "high"),
            cams=cams,
            logits=logits,
            probs=(weights / weights.sum(axis=1, keepdims=True)).astype(np.float32),
            attrs=recorded | (attrs or {}),
            **options,
        )

    return make


def draw_it(store, n=3, **options):
    """Draw n galaxies; return the drawing, its panels row by row, and the colour bar."""
    selection = select_galaxies(store, Query(n=n))
    drawing = draw(store, selection, DrawOptions(**options))
    (fig,) = drawing.pages
    *panels, bar = fig.axes
    per_row = len(panels) // n
    rows = [panels[start : start + per_row] for start in range(0, len(panels), per_row)]
    return drawing, rows, bar, [int(index) for index in selection.indices]


def words_on(ax):
    return [text.get_text() for text in ax.texts][1::2]


def test_the_map_is_a_density_that_adds_up_to_the_log_odds(make_pooled):
    """Per arcsec²: the mean of the panel times its area, plus the biases, is the log-odds on it."""
    with open_store(make_pooled()) as store:
        _, rows, _, indices = draw_it(store)
        for (first, panel), index in zip(rows, indices, strict=True):
            assert words_on(first)[0] == store.objid[index]
            name, footing = words_on(panel)
            assert name == "high-metallicity"
            density = np.asarray(panel.images[0].get_array(), np.float64)
            log_odds = density.mean() * (24 * SCALE) ** 2 + 0.7 - -0.5
            # Maps are stored as float16.
            assert log_odds == pytest.approx(store.log_odds[index, 1], abs=5e-3)
            expected = f"{store.log_odds[index, 1]:+.2f}".replace("-", "−")
            assert footing.endswith(f"log-odds {expected}")


def test_a_coarse_map_has_its_sum_in_a_density_of_the_cutout(make_store):
    """Cells of two by two pixels share what they have among these."""
    cams = np.ones((12, 2, 12, 12), np.float32)
    with open_store(make_store("coarse.h5", cams=cams)) as store:
        assert store.cutouts(0).shape[:2] == (24, 24)
        factors, unit = find_unit(store, np.arange(3))
    assert unit == "arcsec"
    assert factors == pytest.approx(np.full(3, 1 / (2 * SCALE) ** 2))


def test_all_rows_share_one_scale_about_zero(make_pooled):
    """Zero is in the middle of the colours, and marked on the bar between the signs."""
    with open_store(make_pooled()) as store:
        _, rows, bar, _ = draw_it(store)
    limits = {panel.images[0].get_clim() for _, panel in rows}
    ((low, high),) = limits
    assert low == -high
    assert high == max(np.abs(panel.images[0].get_array()).max() for _, panel in rows)
    cmap = rows[0][1].images[0].get_cmap()
    # A reader of grey print must at least see no sign that is not there.
    assert min(cmap(0.5)[:3]) > 0.95
    ticks = [label.get_text() for label in bar.get_yticklabels()]
    assert "0" in ticks
    assert ticks == [
        tick.replace("−", "") if tick.startswith("−") else f"−{tick}" if tick != "0" else "0"
        for tick in reversed(ticks)
    ]
    assert {text.get_text() for text in bar.texts} >= {"for", "against"}


@pytest.mark.parametrize(("map_size", "pixel"), [(24, (5, 17)), (6, (1, 4)), (5, (4, 0))])
@pytest.mark.parametrize("function", [plot_evidence, plot_signed_map])
def test_a_spot_of_evidence_is_drawn_on_its_galaxy(map_size, pixel, function):
    """Rendered, one cell is centred where it belongs, to a tenth of a pixel of the cutout."""
    values = np.zeros((map_size, map_size), np.float32)
    values[pixel] = -1.0
    fig = Figure(figsize=(4.8, 4.8), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1))
    function(values, np.zeros((24, 24, 3), np.uint8), ax=ax, vmax=1.0)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    light = np.abs(pixels - pixels[240, 240]).sum(axis=2)
    y, x = np.mgrid[:480, :480] + 0.5
    center = np.array([(y * light).sum(), (x * light).sum()]) / light.sum()
    expected = (np.array(pixel) + 0.5) * 480 / map_size
    # Interpolated at a corner, the light lies within the image alone.
    tolerance = 2.0 if pixel != (4, 0) or function is plot_evidence else 12.0
    np.testing.assert_allclose(center, expected, atol=tolerance)


def test_contours_lie_on_the_light():
    """At the stated levels between median and maximum; none on a cutout of one colour."""
    y, x = np.mgrid[:48, :48]
    light = 200 * np.exp(-((x - 30) ** 2 + (y - 12) ** 2) / 72)
    cutout = np.repeat(light[..., None], 3, axis=2).astype(np.uint8)
    ax = Figure().add_subplot()
    plot_evidence(np.zeros((48, 48)), cutout, ax=ax, vmax=1.0)
    levels = plot_light(cutout, ax=ax)
    assert len(levels) == len(LEVELS)
    assert np.all(np.diff(levels) > 0)
    path = ax.collections[-1].get_paths()[1]
    np.testing.assert_allclose(path.vertices.mean(axis=0), (30, 12), atol=0.5)
    assert ax.get_ylim() == (47.5, -0.5)
    assert not len(plot_light(np.full((48, 48, 3), 90, np.uint8), ax=ax))


@pytest.mark.parametrize("shape", [(24, 24), (7, 5), (96, 96)])
def test_hatching_covers_the_cells_of_the_mask_and_no_others(shape):
    """Every piece lies in cells of the mask, and where a line crosses such a cell, it is there."""
    mask = np.random.default_rng(0).random(shape) < 0.4
    ax = Figure().add_subplot()
    cutout = np.zeros((48, 48, 3), np.uint8)
    side = 1.28

    def hatch(cells):
        lines = plot_hatching(cells, cutout, ax=ax, side=side).get_segments()
        # From pixels of the cutout to cells of the map.
        return [(line + 0.5) / 48 * (shape[1], shape[0]) for line in lines]

    def measure(lines):
        return sum(np.hypot(*(line[1] - line[0])) for line in lines)

    some, others, every = hatch(mask), hatch(~mask), hatch(np.ones(shape, bool))
    for line in some:
        for share in np.linspace(0.01, 0.99, 25):
            x, y = line[0] + share * (line[1] - line[0])
            if min(abs(x - round(x)), abs(y - round(y))) > 1e-6:
                assert mask[int(y), int(x)]
    assert measure(some) + measure(others) == pytest.approx(measure(every))
    assert hatch(np.zeros(shape, bool)) == []
    # The distance on paper follows from the length: area over distance.
    length = measure(hatch(np.ones(shape, bool))) if shape[0] == shape[1] else None
    if length is not None:
        inches = length / shape[0] * side
        assert side**2 / inches == pytest.approx(3.6 / 72, rel=0.1)


def test_hatched_are_the_cells_whose_interval_holds_zero(make_store):
    """By Student's t, for five networks; and the caption says how many and how much they hold."""
    with open_store(make_store(n_networks=5)) as store:
        evidence = read_evidence(store, 3, (1,))
        factor = compute_interval_factor(5)
        expected = np.abs(store.evidence(3)) <= factor * store.evidence_sd(3)
        np.testing.assert_array_equal(evidence.is_uncertain[0], expected)
        assert evidence.margins[0] == pytest.approx(factor * store.log_odds_sd[3, 0])
        drawing, rows, _, indices = draw_it(store)
        assert all(len(panel.collections[0].get_segments()) > 20 for _, panel in rows)
        margins = factor * store.log_odds_sd[indices, 0]
        for (_, panel), margin in zip(rows, margins, strict=True):
            assert words_on(panel)[1].endswith(f"± {margin:.2f}")
        masks = np.stack([read_evidence(store, i, (1,)).is_uncertain for i in indices])
        caption = drawing.describe(PLAIN)
        assert "they are means over 5 networks" in caption
        assert f"rank correlation of {np.median(store.agreement):.2f}" in caption
        assert f"the cell is hatched: {100 * masks.mean():.0f} % of the cells" in caption
        table = drawing.tabulate()
        np.testing.assert_allclose(table["margin_high"].values, margins, rtol=1e-6)
        np.testing.assert_array_equal(table["agreement"].values, store.agreement[indices])


def test_one_network_has_no_hatching(make_pooled):
    """Nor words about it."""
    with open_store(make_pooled()) as store:
        drawing, rows, _, _ = draw_it(store)
        assert all(not hasattr(panel.collections[0], "get_segments") for _, panel in rows)
        caption = drawing.describe(PLAIN)
    assert "hatched" not in caption
    assert "±" not in caption
    assert "±" not in "".join(words_on(rows[0][1]))


@pytest.mark.parametrize("records_bias", [True, False], ids=["bias known", "bias not known"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_caption_says_what_the_sum_lacks(make_pooled, n_classes, records_bias):
    """The offset is that of the biases, and of more classes of the probabilities as well."""
    with open_store(make_pooled(n_classes, records_bias)) as store:
        drawing, _, _, indices = draw_it(store)
        caption, offsets = drawing.describe(PLAIN), find_offsets(store, np.array(indices))
        bias = np.linspace(-0.5, 0.7, n_classes)
        for row, index in enumerate(indices):
            p = store.probs[index].astype(np.float64)
            for c in range(n_classes):
                q = np.delete(p, c) / (1 - p[c])
                entropy = -np.sum(q * np.log(q))
                expected = bias[c] - np.sum(q * np.delete(bias, c)) - entropy
                assert offsets[row, c] == pytest.approx(expected, abs=0.01)
        table = drawing.tabulate()
        for name in ("low", "high") if n_classes == 3 else ("high",):
            np.testing.assert_allclose(
                np.add(table[f"sum_{name}"].values, table[f"offset_{name}"].values),
                table[f"log_odds_{name}"].values,
            )
    if n_classes == 2:
        what = "the difference of the biases of the classes" if records_bias else "a constant"
        assert f"the sum of a map over the cutout plus {what}, here +1.20." in caption
    else:
        what = " and the biases of the classes" if records_bias else ""
        assert f"plus an offset that depends on the probabilities{what}, here" in caption


@pytest.mark.parametrize("attrs", [{}, {"layer_is_bypassed": True}], ids=["MLP", "bypassed"])
@pytest.mark.parametrize("class_names", [("a", "b"), ("a", "b", "c")])
def test_maps_that_do_not_add_up_say_so(make_store, attrs, class_names):
    """Whatever follows the layer: nothing is claimed that is not true of the store."""
    with open_store(make_store(class_names=class_names, attrs=attrs)) as store:
        drawing, *_ = draw_it(store, n=1)
        caption, table = drawing.describe(PLAIN), drawing.tabulate()
    assert "The maps do not add up to them" in caption
    assert "the sum of a map" not in caption
    assert ("only part of the evidence" in caption) == bool(attrs)
    assert not [name for name in table if name.startswith("offset")]


def test_three_classes_have_a_map_each(make_pooled):
    """Against the rest; the predicted one is marked; the caption and the table have all."""
    with open_store(make_pooled(3)) as store:
        drawing, rows, _, indices = draw_it(store)
        for (_, *panels), index in zip(rows, indices, strict=True):
            headings = [panel.texts[1] for panel in panels]
            bold = [text.get_weight() == "bold" for text in headings]
            assert bold == [c == store.predicted[index] for c in range(3)]
        chosen, rows, _, _ = draw_it(store, classes=("high",))
        assert [words_on(panel)[0] for _, panel in rows] == ["high-metallicity"] * 3
        assert {"log_odds_low", "log_odds_medium", "log_odds_high"} <= set(drawing.tabulate())
        assert "log_odds_low" not in chosen.tabulate()
        caption = drawing.describe(LATEX)
    assert "for low-metallicity, medium-metallicity and high-metallicity" in caption
    assert "the predicted class is in bold" in caption


def test_either_of_two_classes_can_be_asked_for(make_pooled):
    """Its map is that of the other with the signs turned."""
    with open_store(make_pooled()) as store:
        one, two = read_evidence(store, 2, (0, 1)).maps
        np.testing.assert_array_equal(one, -two)
        drawing, *_ = draw_it(store, classes=("low",))
        assert "Evidence for low-metallicity against high-metallicity in" in drawing.describe(PLAIN)
        assert "here −1.20." in drawing.describe(PLAIN)


def test_without_a_pixel_scale_the_unit_is_a_pixel(make_pooled):
    """Of the cutout, whatever the grid of the map; of one galaxy without is enough."""
    scales = np.full(12, SCALE)
    scales[4] = np.nan
    for options in ({"attrs": {"pixel_scale": float("nan")}}, {"pixel_scale": scales}):
        with open_store(make_pooled(**options)) as store:
            selection = select_galaxies(store, Query(n=None, objids=tuple(store.objid[[4, 7]])))
            drawing = draw(store, selection, DrawOptions())
            (fig,) = drawing.pages
            values = np.asarray(fig.axes[1].images[0].get_array())
            np.testing.assert_allclose(values, store.evidence(4), rtol=1e-6)
            assert "in log-odds per pixel of the cutout" in drawing.describe(PLAIN)
            assert drawing.tabulate()["highest_high"].unit == "1 / pix2"


@pytest.mark.parametrize("side", [7.0, None, "unknown"])
def test_the_caption_says_what_a_cell_sees(make_pooled, side):
    """As the store records it; an older store records nothing, and the caption claims nothing."""
    attrs = {} if side == "unknown" else {"receptive_field": json.dumps({"side_px": side})}
    with open_store(make_pooled(attrs=attrs)) as store:
        indices = np.array([0, 5, 11])
        found = describe_field(store, indices)
        kpc = 7 * SCALE * store.kpc_per_arcsec[indices]
        assert describe_field(store, indices[1:2]) in plot.evidence(store, [5]).caption
    if side == "unknown":
        assert found == ""
    elif side is None:
        assert found == "Each cell depends on nearly all of the cutout, wherever it lies."
    else:
        sizes = f"(2.8 arcsec, {kpc.min():.2g} to {kpc.max():.2g} kpc)"
        assert f"a square of 7 pixels of the cutout {sizes}, and on nothing beyond" in found


def test_a_scaled_cutout_is_seen_beyond_the_field(make_pooled):
    """The pixels that the network sees are blended of more than those of the field."""
    training = json.dumps({"arch": "resnet18", "network_size": 12})
    attrs = {"receptive_field": json.dumps({"side_px": 14.0}), "training": training}
    with open_store(make_pooled(attrs=attrs)) as store:
        found = describe_field(store, np.array([0]))
    assert "and on the next ones, which scaling blends with them." in found
    assert "nothing beyond" not in found


@pytest.mark.parametrize(
    ("n_classes", "distance", "weights"),
    [
        (2, 0.3, "the gradients, depends"),
        (3, None, "the probabilities of the other classes, depends"),
        (3, 0.3, "the gradients and the probabilities of the other classes, depends"),
    ],
)
def test_weights_that_depend_on_the_whole_image_are_named(
    make_pooled, n_classes, distance, weights
):
    """A cell sees only its field, but what it is multiplied by knows of the rest."""
    attrs = {"receptive_field": json.dumps({"side_px": 7.0})}
    if distance is not None:
        attrs["hires_distance"] = distance
    with open_store(make_pooled(n_classes, distance is None, attrs)) as store:
        found = describe_field(store, np.array([0]))
    assert found.startswith("Each cell shows features of a square of 7 pixels")
    assert found.endswith(f"; what weights them, {weights} on all of the cutout.")


def test_evidence_of_three_classes_does_depend_on_what_lies_beyond_the_field(make_pooled):
    """The case against "and on nothing beyond": other probabilities, and the cell is another."""
    with open_store(make_pooled(3)) as store:
        cams, logits = store.cams(0), store.logits[0]
    before, after = (contrast_with_rest(cams, logits + np.array([0, 0, shift])) for shift in (0, 3))
    assert np.abs(after - before).max() > 0.1 * np.abs(before).max()


def test_the_caption_names_the_faithful_choice(make_pooled):
    """Where more than pooling and one linear layer follows; and it says what p is."""
    with open_store(make_pooled(records_bias=False, attrs={"hires_distance": 0.36})) as store:
        caption = plot.evidence(store, [0]).caption
    assert "HiResCAM (Draelos & Carin 2020) is the faithful choice" in caption
    assert "differs from it here by 36 % of its norm." in caption
    assert "the probability p of its class, the softmax of the network's output" in caption
    with open_store(make_pooled()) as store:
        assert "HiResCAM" not in plot.evidence(store, [0]).caption


@pytest.mark.parametrize(("error", "amount"), [(0.0, "here +1.20."), (0.1, "nearly")])
def test_what_is_not_constant_is_not_called_so(make_pooled, error, amount):
    """Integrated gradients are a sum of steps: what they miss differs between galaxies."""
    path = make_pooled(records_bias=False, missed=error, attrs={"method": "integrated-gradients"})
    with open_store(path) as store:
        caption = plot.evidence(store, [0, 11]).caption
    assert amount in caption
    assert ("plus nearly a constant, here +1.20 to +1.30." in caption) == (error > 0)
    assert "relative to an image that is everywhere the mean pixel" in caption


def test_large_fields_have_no_power_of_ten(make_pooled):
    """A field of 100 kpc and more is common where galaxies are far away."""
    attrs = {"receptive_field": json.dumps({"side_px": 1234.0})}
    with open_store(make_pooled(attrs=attrs)) as store:
        found = describe_field(store, np.array([0]))
        kpc = 1234 * SCALE * store.kpc_per_arcsec[0]
    assert f"a square of 1234 pixels of the cutout (489 arcsec, {kpc:.0f} kpc)" in found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"records_bias": False, "attrs": {"hires_distance": 0.3}}, "other layers contribute"),
        # The biases do not complete what was rounded, or is the mean of other contrasts.
        ({"attrs": {"head_bias": "[3.0, -3.0]"}}, "do not add up to them, as they are stored."),
        (
            {
                "n_classes": 3,
                "attrs": {
                    "head_bias": "[9.0, 0.0, -9.0]",
                    "method": "evidence",
                    "config": json.dumps({"maps": {"method": "evidence", "tta": True}}),
                },
            },
            "means of maps that weight the other classes by different probabilities.",
        ),
    ],
)
def test_the_reason_why_maps_do_not_add_up_is_the_true_one(make_pooled, options, words):
    """Other layers are blamed only where there are some."""
    with open_store(make_pooled(**options)) as store:
        store.cams = lambda rows, read=store.cams: read(rows) ** 2
        caption = plot.evidence(store, [0]).caption
    assert words in caption


def test_of_two_galaxies_nothing_is_claimed(make_store):
    """A constant cannot be told from two of them, if no bias is recorded."""
    with open_store(make_store(n=2)) as store:
        caption = plot.evidence(store, [0]).caption
    assert "Whether the maps add up to them is not known." in caption


def test_unlabelled_galaxies_in_one_band_are_drawn(make_store):
    """With foreign names of classes, which the markup escapes, and without a redshift."""
    cutouts = np.random.default_rng(0).integers(0, 255, (12, 24, 24, 1), dtype=np.uint8)
    path = make_store(
        class_names=("E/S0", "Sp_%"),
        quantity="",
        label=np.full(12, -1, np.int16),
        redshift=np.full(12, np.nan),
        cutouts=cutouts,
        attrs={"pixel_scale": float("nan")},
    )
    with open_store(path) as store:
        drawing, rows, _, _ = draw_it(store)
        assert r"Evidence for Sp\_\% against E/S0 in" in drawing.describe(LATEX)
        assert words_on(rows[0][1])[0] == "Sp_%"
        assert "correct" not in drawing.alt


def test_maps_without_any_evidence_look_empty(make_store):
    """Nothing is stretched to full scale, and the bar says 0."""
    with open_store(make_store(cams=np.zeros((12, 2, 24, 24), np.float32))) as store:
        _, rows, bar, _ = draw_it(store)
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0"]
    image = rows[0][1].images[0]
    colors = image.get_cmap()(image.norm(np.asarray(image.get_array())))
    assert np.ptp(colors, axis=(0, 1)).max() == 0


@pytest.mark.parametrize("method", ["grad-cam++", "layer-cam"])
def test_methods_that_give_no_evidence_say_so(make_store, method):
    """The difference of two of their maps is not the map of a difference."""
    with (
        open_store(make_store(attrs={"method": method})) as store,
        pytest.raises(StoreError, match="whose differences are not evidence"),
    ):
        plot.evidence(store)


@pytest.mark.parametrize("class_names", [("a", "b"), ("a", "b", "c")])
def test_maps_that_are_evidence_are_shown_as_they_are(make_store, class_names):
    """A store of that method holds the contrasts already."""
    with open_store(make_store(class_names=class_names, attrs={"method": "evidence"})) as store:
        cams = store.cams(3)
        expected = cams[1] if len(class_names) == 2 else cams
        np.testing.assert_array_equal(store.evidence(3), expected)


def test_panels_show_evidence_where_asked(make_pooled, tmp_path):
    """One signed map of two classes; and no word of it in those that are not asked."""
    path = make_pooled()
    with open_store(path) as store:
        found = plot.panels(store, [2, 5], map="evidence")
        first, panel, bar = found.figure.axes[:3]
        image = panel.images[1]
        peak = np.abs(store.evidence(2)).max()
        assert image.get_clim() == (pytest.approx(-peak), pytest.approx(peak))
        np.testing.assert_array_equal(image.get_array(), store.evidence(2))
        # What is near zero is not drawn, on either side of it.
        alpha = np.asarray(image.get_alpha())
        np.testing.assert_array_equal(alpha == 1, np.abs(store.evidence(2)) >= 0.1 * peak)
        assert words_on(first)[0] == store.objid[2]
        assert "0" in [label.get_text() for label in bar.get_yticklabels()]
        assert "Evidence for high-metallicity against low-metallicity in" in found.caption
        assert "hatched" not in found.caption
        assert "Evidence" not in plot.panels(store, [2, 5]).caption
        with pytest.raises(ConfigError, match="map"):
            plot.panels(store, [2, 5], map="evidense")
    result = CliRunner().invoke(
        main, ["render", str(path), "--n", "2", "--map", "evidence", "--out", "p.pdf"]
    )
    assert result.exit_code == 0, result.stderr
    data = tmp_path / "e.ecsv"
    with pytest.raises(FigureError, match="takes no `map`, it is for panels"):
        render_figure("roc", path, Query(n=None), tmp_path / "r.pdf", map="evidence")
    render_figure("panels", path, Query(n=2), tmp_path / "e.pdf", map="evidence", data=data)
    table = Table.read(data)
    assert {"log_odds_high", "sum_high", "offset_high"} <= set(table.colnames)
    assert table.meta["galfig"]["options"]["map"] == "evidence"


def test_ends_of_the_signed_colours_are_equally_bright():
    """So that neither sign looks stronger than the other."""
    from galfig.figures.rows import SIGNED_COLORS

    light = [np.dot(to_rgb(color), (0.2126, 0.7152, 0.0722)) for color in SIGNED_COLORS]
    np.testing.assert_allclose(light, light[::-1], atol=0.12)


def test_no_contours_are_claimed_where_there_are_none(make_store):
    """A cutout of one grey level has no light to draw."""
    cutouts = np.random.default_rng(0).integers(0, 255, (12, 24, 24, 3), dtype=np.uint8)
    cutouts[3] = 7
    with open_store(make_store(cutouts=cutouts)) as store:
        captions = [plot.evidence(store, rows).caption for rows in ([0], [3], [0, 3])]
    assert "median to its maximum.\n" in captions[0]
    assert "; the cutout shows no light above its median, and has none.\n" in captions[1]
    assert "; 1 of 2 shows no light above its median, and has none.\n" in captions[2]
