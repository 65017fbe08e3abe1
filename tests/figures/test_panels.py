"""Panels: artists before pixels, then the files that a journal gets."""

import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pypdf import PdfReader
from scipy.integrate import trapezoid

from galfig.cosmology import kpc_per_arcsec
from galfig.errors import FigureError, OutputError
from galfig.figures.drawing import DrawOptions
from galfig.figures.panels import draw, make_panels
from galfig.figures.rows import format_total, plot_map, plot_scale_bar
from galfig.figures.save import describe_provenance, write_drawing
from galfig.figures.style import TEXT_WIDTH
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies


def render_panels(store, selection, path, *, if_exists="error"):
    drawing = draw(store, selection, DrawOptions())
    provenance = describe_provenance("panels", store, selection, DrawOptions())
    return write_drawing(drawing, provenance, path, if_exists=if_exists)


def panels_of(fig, n_columns=4):
    """Return the axes row by row: cutout, maps, colour bar."""
    axes = fig.axes
    return [axes[start : start + n_columns] for start in range(0, len(axes), n_columns)]


def words_on(ax):
    """Return the texts of a panel; each is there twice, its outline below it."""
    words = [text.get_text() for text in ax.texts]
    assert words[::2] == words[1::2]
    return words[1::2]


def test_each_row_is_a_galaxy(store_path):
    """objid on the cutout; class and p on each map; the predicted class, and only it, bold."""
    with open_store(store_path) as store:
        indices = [3, 0]
        fig = make_panels(store, indices)
        for (first, low, high, _), index in zip(panels_of(fig), indices, strict=True):
            names = ["low-metallicity", "high-metallicity"]
            true = store.label[index]
            assert words_on(first)[:2] == [store.objid[index], f"true: {names[true]}"]
            mark = "✓\xa0" if store.predicted[index] == true else "✗\xa0"
            names[store.predicted[index]] = mark + names[store.predicted[index]]
            assert [words_on(ax)[0] for ax in (low, high)] == names
            weights = [ax.texts[1].get_weight() for ax in (low, high)]
            expected = ["normal", "normal"]
            expected[store.predicted[index]] = "bold"
            assert weights == expected
            assert all(words_on(ax)[1].startswith("$p ") for ax in (low, high))
            np.testing.assert_array_equal(first.images[0].get_array(), store.cutouts(index))


def test_row_shares_one_scale_and_rows_do_not(store_path):
    """Both maps of a row run from zero to their common peak, which the colour bar names."""
    with open_store(store_path) as store:
        rows = panels_of(make_panels(store, [0, 1]))
        peaks = [store.cams(index).max() for index in (0, 1)]
    for (_, low, high, bar), peak in zip(rows, peaks, strict=True):
        for ax in (low, high):
            assert ax.images[1].get_clim() == (0.0, pytest.approx(peak))
            assert ax.images[1].get_cmap().name == "inferno"
        label = bar.get_yticklabels()[1].get_text()
        assert label.startswith(f"{peak / 10 ** np.floor(np.log10(peak)):.1f} × 10⁻")
        assert bar.texts[0].get_text() == "Grad-CAM [logit]"


@pytest.mark.parametrize("map_size", [24, 6, 48])
def test_map_covers_the_cutout_exactly(make_store, map_size):
    """Maps of any resolution lie on the cutout's own extent, whole pixels at the edges."""
    with open_store(make_store(map_size=map_size)) as store:
        first, low, high, _ = panels_of(make_panels(store, [0]))[0]
    extents = [image.get_extent() for ax in (first, low, high) for image in ax.images]
    assert extents == [[-0.5, 23.5, 23.5, -0.5]] * 5 or extents == [(-0.5, 23.5, 23.5, -0.5)] * 5


@pytest.mark.parametrize(("map_size", "pixel"), [(24, (5, 17)), (6, (1, 4))])
def test_bright_spot_of_a_map_is_drawn_on_its_galaxy(map_size, pixel):
    """Rendered, one bright pixel of a map is centred where it belongs, to a tenth of a pixel."""
    cam = np.zeros((map_size, map_size), np.float32)
    cam[pixel] = 1.0
    fig = Figure(figsize=(4.8, 4.8), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1))
    plot_map(cam, np.zeros((24, 24, 3), np.uint8), ax=ax, vmax=1.0)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    light = np.asarray(canvas.buffer_rgba())[..., :3].sum(axis=2).astype(float)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]] + 0.5
    center = np.array([(y * light).sum(), (x * light).sum()]) / light.sum()
    expected = (np.array(pixel) + 0.5) * 480 / map_size
    np.testing.assert_allclose(center, expected, atol=2.0)


def test_relu_and_empty_map(store_path):
    """Negative values are not drawn, and a map that is zero everywhere looks empty."""
    cutout = np.full((24, 24, 3), 100, np.uint8)
    fig = Figure()
    for number, cam in enumerate((np.zeros((24, 24)), np.full((24, 24), -3.0))):
        ax = fig.add_subplot(1, 2, number + 1)
        plot_map(cam.astype(np.float32), cutout, ax=ax, vmax=1.0)
        image = ax.images[-1]
        assert not np.asarray(image.get_array()).any()
        assert not np.asarray(image.get_alpha()).any()


def test_galaxy_without_attribution_has_a_scale_of_zero(make_store):
    """Where no map of a row is positive the bar says 0, and nothing divides by it."""
    with open_store(make_store(cams=np.full((12, 2, 24, 24), -1e-3, np.float32))) as store:
        bar = panels_of(make_panels(store, [0]))[0][3]
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0"]


@pytest.mark.parametrize("n", [1, 3, 5, 8])
def test_size_on_the_page(store_path, n):
    """Always 7.1 inches wide, panels square, inside the figure; five rows fit on a page."""
    with open_store(store_path) as store:
        fig = make_panels(store, range(n))
    width, height = fig.get_size_inches()
    assert width == TEXT_WIDTH == 7.1
    assert height <= 8.3 or n > 6
    for row in panels_of(fig):
        for ax in row[:3]:
            box = ax.get_position()
            assert box.width * width == pytest.approx(box.height * height)
            assert box.x0 >= 0
            assert box.y0 >= -1e-9
            assert box.x1 <= 1
            assert box.y1 <= 1 + 1e-9


def test_nothing_is_clipped_at_the_edge(store_path):
    """The labels of the colour bars end inside the figure."""
    with open_store(store_path) as store:
        fig = make_panels(store, [0, 1])
    fig.canvas.draw()
    for ax in fig.axes:
        box = ax.get_tightbbox()
        assert box.x1 <= fig.bbox.x1
        assert box.x0 >= 0


def test_more_classes_make_more_panels(make_store):
    """Three classes: cutout and three maps, one of them bold."""
    with open_store(make_store(class_names=("E", "S0", "Sp"), quantity="")) as store:
        row = panels_of(make_panels(store, [2]), n_columns=5)[0]
    assert [words_on(ax)[0].lstrip("✓✗\xa0") for ax in row[1:4]] == ["E", "S0", "Sp"]


@pytest.mark.parametrize("name", ["$x$_{", "Ω∞ 100%", "a" * 60])
def test_names_are_not_mathematics(make_store, name):
    """Class names are drawn as they are, shrunk where they are long."""
    with open_store(make_store(class_names=(name, "b"), quantity="")) as store:
        fig = make_panels(store, [0])
    fig.canvas.draw()
    # A long one takes two lines.
    assert words_on(fig.axes[1])[0].replace("\n", "").lstrip("✓✗\xa0") == name


@pytest.mark.parametrize(
    ("width", "scale", "length"), [(96, 0.396, 5), (96, 0.4, 5), (128, 0.262, 5), (207, 1.0, 20)]
)
def test_scale_bar_is_a_round_angle(width, scale, length):
    """The bar is 1, 2 or 5 times a power of ten, and as long as it says."""
    ax = Figure().add_subplot()
    assert plot_scale_bar(width, scale, ax=ax, size=7) == length
    x = ax.lines[-1].get_xdata()
    assert (x[1] - x[0]) * width * scale == pytest.approx(length)


@pytest.mark.parametrize("redshift", [0.01, 0.07, 0.3])
def test_scale_bar_gives_the_proper_length(redshift):
    """Kiloparsecs by an integral of our own over Planck18's densities; none without a redshift."""
    h0, matter = 67.66, 0.30966
    radiation = 9.2e-5
    x = np.linspace(0, redshift, 2001)
    hubble = np.sqrt(matter * (1 + x) ** 3 + radiation * (1 + x) ** 4 + 1 - matter - radiation)
    comoving = 299792.458 / h0 * trapezoid(1 / hubble, x) * 1e3
    expected = comoving / (1 + redshift) * np.pi / 180 / 3600
    (found, *unknown) = kpc_per_arcsec([redshift, -0.001, float("nan")])
    assert found == pytest.approx(expected, rel=1e-3)
    for scale, words in ((found, f"5″ = {5 * expected:.2g}"), *((kpc, "5″") for kpc in unknown)):
        ax = Figure().add_subplot()
        plot_scale_bar(96, 0.396, ax=ax, size=7, kpc_per_arcsec=scale)
        assert ax.texts[0].get_text().startswith(words[:5])
        assert ("kpc" in ax.texts[0].get_text()) == (scale > 0)


def test_narrow_panels_have_words_above_them_and_tiny_ones_are_refused(store_path):
    """In one column an identifier stands above its row; below that nothing could be read."""
    with open_store(store_path) as store:
        fig = make_panels(store, [0], width=3.39)
        assert [words.get_text() for words in fig.texts] == [
            f"{store.objid[0]}  ·  true: low-metallicity"
        ]
        assert words_on(fig.axes[0])[0].startswith("1″")
        with pytest.raises(FigureError, match=r"panels of 0\.\d+ inches, expected at least 0\.8"):
            make_panels(store, [0], width=2.5)


def test_no_scale_bar_without_a_scale(make_store):
    """Where the pixel scale is unknown no angle is claimed."""
    path = make_store(attrs={"pixel_scale": float("nan")})
    with open_store(path) as store:
        assert not make_panels(store, [0]).axes[0].lines


@pytest.mark.parametrize(
    "suffix",
    [".svg", *(pytest.param(suffix, marks=pytest.mark.slow) for suffix in (".pdf", ".png"))],
)
def test_two_runs_give_the_same_bytes(store_path, tmp_path, suffix):
    """A figure and its captions are the same files each time, with their provenance inside."""
    files = []
    with open_store(store_path) as store:
        selection = select_galaxies(store, Query(n=2))
        for folder in ("one", "two"):
            written = render_panels(store, selection, tmp_path / folder / f"f{suffix}")
            assert [path.suffix for path in written] == [suffix, ".tex", ".txt", ".txt"]
            files.append([path.read_bytes() for path in written])
    assert files[0] == files[1]


def test_pdf_can_be_searched_and_says_its_origin(store_path, tmp_path):
    """Identifiers are text; the metadata hold the caption and what the figure was made from."""
    path = tmp_path / "panels.pdf"
    with open_store(store_path) as store:
        render_panels(store, select_galaxies(store, Query(n=2)), path)
        objid = store.objid[select_galaxies(store, Query(n=2)).indices[0]]
    reader = PdfReader(path)
    page = reader.pages[0]
    assert objid in page.extract_text()
    assert '"zmin": null' in reader.metadata["/Keywords"]
    assert '"plan_digest": "digest"' in reader.metadata["/Keywords"]
    assert "simulated" in reader.metadata["/Subject"]
    assert "/CreationDate" not in reader.metadata


def test_png_and_svg_carry_provenance(store_path, tmp_path):
    """PNG at 300 dpi with text chunks; SVG well-formed with keywords."""
    with open_store(store_path) as store:
        selection = select_galaxies(store, Query(n=1))
        render_panels(store, selection, tmp_path / "a.png")
        render_panels(store, selection, tmp_path / "b.svg")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] == 2130
        assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)
        assert '"plan_digest": "digest"' in image.info["Comment"]
    svg = (tmp_path / "b.svg").read_text()
    ET.fromstring(svg)
    assert "plan_digest" in svg


@pytest.mark.slow
def test_files_that_are_there_are_kept(store_path, tmp_path):
    """Neither figure nor caption is replaced unasked, and an unknown format is refused."""
    (tmp_path / "f.tex").write_text("mine")
    with open_store(store_path) as store:
        selection = select_galaxies(store, Query(n=1))
        with pytest.raises(OutputError, match="choose another `path`"):
            render_panels(store, selection, tmp_path / "f.pdf")
        assert not (tmp_path / "f.pdf").exists()
        with pytest.raises(OutputError, match=r"'\.gif', expected \.pdf, \.png, \.svg"):
            render_panels(store, selection, tmp_path / "f.gif")
        (tmp_path / "f.tex").unlink()
        render_panels(store, selection, tmp_path / "f.pdf")
        # The same caption beside another format is no conflict; another one is, unless asked.
        render_panels(store, selection, tmp_path / "f.png")
        (tmp_path / "f.tex").write_text("edited")
        with pytest.raises(OutputError, match='or use `if_exists="replace"` to replace both'):
            render_panels(store, selection, tmp_path / "f.svg")
        render_panels(store, selection, tmp_path / "f.svg", if_exists="replace")
    assert (tmp_path / "f.tex").read_text() != "edited"


def test_drawing_needs_no_torch_and_no_pyplot(make_store, tmp_path):
    """To draw rows imports no library that takes longer than that, nor pyplot's global state."""
    code = (
        "import sys, galfig.cli.render\n"
        "from galfig.figures.registry import render_figure\n"
        "from galfig.store.selection import Query\n"
        "from pathlib import Path\n"
        "render_figure('panels', Path(sys.argv[1]), Query(n=2), Path(sys.argv[2]))\n"
        "heavy = {'torch', 'fastai', 'sklearn', 'scipy', 'pandas', 'astropy', 'pyarrow'}\n"
        "heavy = (heavy | {'matplotlib.pyplot'}) & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    # astropy computes these lengths where a store lacks them.
    path = make_store(kpc_per_arcsec=np.linspace(0.4, 2.3, 12))
    files = [str(path), str(tmp_path / "rows.pdf")]
    subprocess.run([sys.executable, "-c", code, *files], check=True)


@pytest.mark.parametrize(
    ("total", "words"),
    [
        (0.4249, "Σ = +0.42"),
        (-0.2551, "Σ = −0.26"),
        (-0.001, "Σ = 0.00"),
        (0.0, "Σ = 0.00"),
        (-12.345, "Σ = −12.35"),
        (123.4, "Σ = +123"),
        (-45678.0, "Σ = −4.6 × 10⁴"),
    ],
)
def test_total_of_a_map_has_a_sign(total, words):
    """Two decimals of a logit, with a sign that cannot be overlooked."""
    assert format_total(total) == words


def test_each_map_gives_its_total(store_path):
    """Below p, the sum over all pixels, negative ones included; the predicted class is framed."""
    with open_store(store_path) as store:
        _, low, high, _ = panels_of(make_panels(store, [3]))[0]
        totals = store.cams(3).astype(float).sum(axis=(1, 2))
        predicted, true = store.predicted[3], store.label[3]
    assert predicted != true
    for c, ax in enumerate((low, high)):
        assert words_on(ax)[1].split("\n")[1] == format_total(totals[c])
        # That of the true class, where it is another, is dashed.
        assert [frame.get_linestyle() for frame in ax.patches] == ["-", "-" if c != true else "--"]


def test_faint_values_differ_from_the_sky():
    """A twentieth of the scale is seen over black sky, and zero is not drawn."""
    fig = Figure(figsize=(1, 1), dpi=60)
    ax = fig.add_axes((0, 0, 1, 1))
    cam = np.zeros((6, 6), np.float32)
    cam[:, 3:] = 0.05
    plot_map(cam, np.full((6, 6, 3), 5, np.uint8), ax=ax, vmax=1.0)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    light = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    assert light[30, 5].max() <= 5
    assert light[30, 55].max() > 25
