"""Style sheets: what they may say, where they come from, and what follows from them."""

import io
import json
import re

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image
from pypdf import PdfReader

import galfig
from galfig.cli import main
from galfig.config import StyleSettings, load_settings, make_style
from galfig.errors import ConfigError, FigureError
from galfig.figures.sheets import SHEETS, read_sheets
from galfig.figures.style import find_ink, list_curve_colors, paper_style

SLIDE = (1920, 1080)


def read_file(tmp_path, words):
    path = tmp_path / "own.mplstyle"
    path.write_bytes(words if isinstance(words, bytes) else words.encode())
    return read_sheets(StyleSettings(sheet=str(path)))


def measure_contrast(one, other):
    """Return the ratio of luminances of WCAG 2, from 1 to 21."""

    def find_luminance(color):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    low, high = sorted((find_luminance(one), find_luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_file_goes_on_top_of_journal(tmp_path):
    found = read_file(
        tmp_path, 'axes.labelsize: 11  # large\n\nfigure.facecolor: "#eeeeee"\nlines.linewidth: 2\n'
    )
    expected = read_sheets(StyleSettings()) | {
        "axes.labelsize": 11.0,
        "figure.facecolor": "#eeeeee",
        "lines.linewidth": 2.0,
    }
    assert found == expected


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("text.usetex: True\n", "line 1: 'text.usetex' is not about how a figure looks"),
        ("font.size: 9\npgf.preamble: x\n", "line 2: 'pgf.preamble' is not about"),
        ("backend: module://evil\n", "'backend' is not about"),
        ("figure.hooks: evil:run\n", "'figure.hooks' is not about"),
        ("text.latex.preamble: \\\\input{x}\n", "is not about"),
        ("axes.lablesize: 9\n", "did you mean 'axes.labelsize'"),
        ("axes.labelsize: huge\n", "line 1: 'axes.labelsize': "),
        ("no colon\n", "expected 'key: value'"),
        ("axes.prop_cycle: cycler('color', [])\n", "expected cycler("),
        ("figure.figsize: 6, 4000\n", "expected two sides from 1 to 20 inches"),
        ("savefig.dpi: 100000\n", "expected 10 to 1200 dots per inch"),
        ("savefig.dpi: figure\nfigure.dpi: 6000\n", "line 2: 'figure.dpi': 6000.0, expected 10"),
        ("figure.dpi: 1e-9\n", "expected 10 to 1200 dots per inch"),
        ("xtick.labelsize: 1e6\n", "expected 1 to 200 points"),
        ("font.size: -1\n", "expected 1 to 200 points"),
        ("axes.labelsize: nan\n", "expected 1 to 200 points"),
        ("axes.labelpad: 1e9\n", "expected -1000 to 1000"),
        ("lines.linewidth: inf\n", "expected 0 to 1000"),
        ("grid.alpha: 5\n", "expected 0 to 1 as an opacity"),
        ("figure.subplot.left: 2\n", "expected 0 to 0.49 of the figure"),
        ("lines.dashed_pattern: 1e-9, 1e-9\n", "expected 0.1 to 1000 line widths"),
        ("font.family: No Such Font\n", "'No Such Font': not installed"),
        ("axes.prop_cycle: cycler('color', [print(1)])\n", "'axes.prop_cycle': "),
        ("axes.prop_cycle: cycler('color', __import__('os').sep)\n", "'axes.prop_cycle': "),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"#" * 200_000, "cannot be read"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, words, reason):
    """One line names the place; nothing is run, and no program is named."""
    with pytest.raises(FigureError) as caught:
        read_file(tmp_path, words)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_font_has_one_behind_it(tmp_path):
    """Of a file too: it draws the characters that the other lacks."""
    found = read_file(tmp_path, "font.family: STIXGeneral\nsavefig.dpi: figure\n")
    assert found["font.family"] == ["STIXGeneral", "DejaVu Sans"]
    found = read_file(tmp_path, "font.family: serif\n")
    assert found["font.family"] == ["serif", "DejaVu Sans"]


def test_cycles_are_read_and_not_evaluated(tmp_path):
    for words in ('cycler("color", ["0072B2", "k"])', 'cycler(color=["#0072B2", "black"])'):
        cycle = read_file(tmp_path, f"axes.prop_cycle: {words}\n")["axes.prop_cycle"]
        assert cycle.by_key() == {"color": ["#0072b2", "#000000"]}


@pytest.mark.parametrize(
    ("style", "reason"),
    [
        ({"sheet": "tlak"}, "`style` 'tlak': unknown; did you mean 'talk'"),
        ({"sheet": "none.mplstyle"}, "cannot be read (No such file or directory)"),
        ({"font": "No Such Font"}, "`font` 'No Such Font': not installed"),
    ],
)
def test_what_is_not_there(style, reason):
    with pytest.raises(FigureError, match=re.escape(reason)):
        read_sheets(make_style(style))


def test_unknown_keys_are_refused():
    with pytest.raises(ConfigError, match=r"`style`.*font_siez"):
        make_style({"font_siez": 9})


def test_sizes_of_text_follow():
    plain, large = read_sheets(StyleSettings()), read_sheets(StyleSettings(font_size=16))
    for key in ("font.size", "axes.labelsize", "xtick.labelsize", "legend.fontsize"):
        assert large[key] == 2 * plain[key]


def test_the_outer_style_holds():
    """A figure that is drawn within a style takes it, whatever its own function says."""
    with paper_style(StyleSettings(sheet="talk")):
        outer = mpl.rcParams["text.color"]
        with paper_style():
            assert mpl.rcParams["text.color"] == outer
    with paper_style():
        assert mpl.rcParams["text.color"] == "black"


@pytest.mark.parametrize("sheet", SHEETS)
def test_curves_and_text_can_be_seen(sheet):
    """Against the ground: 3 for lines and 4.5 for text, as WCAG 2 asks."""
    with paper_style(StyleSettings(sheet=sheet)):
        ground = mpl.colors.to_rgb(mpl.rcParams["axes.facecolor"])
        assert measure_contrast(find_ink(), ground) > 7
        least = [measure_contrast(mpl.colors.to_rgb(c), ground) for c in list_curve_colors()]
    # The light ones of Okabe and Ito on white are for bars and for curves with line styles.
    assert min(least) > (3 if sheet == "talk" else 2)


@pytest.mark.parametrize("figure", ["panels", "roc", "histogram", "reliability", "stacked-maps"])
def test_a_talk_is_a_dark_slide(store, tmp_path, figure):
    path = tmp_path / "slide.png"
    rows = store.select(n=4)
    getattr(galfig.plot, figure.replace("-", "_"))(store, rows, style="talk").save(path)
    with Image.open(path) as image:
        assert image.size == SLIDE
        assert max(image.convert("RGB").getpixel((2, 2))) < 40
        assert json.loads(image.info["Comment"])["options"]["style"] == {"sheet": "talk"}


def test_too_many_rows_for_a_slide_are_told(store, caplog):
    """As of a page: more than six rows would be too small to read."""
    galfig.plot.panels(store, store.select(n=6), style="talk")
    assert not caplog.messages
    galfig.plot.panels(store, store.select(n=9), style="talk")
    assert "taller than a page; draw fewer galaxies" in caplog.text


def test_a_slide_in_a_notebook_is_dark_too(store):
    image = Image.open(io.BytesIO(galfig.plot.roc(store, style="talk")._repr_png_()))
    assert max(image.convert("RGB").getpixel((2, 2))) < 40


def test_axes_of_the_caller_keep_their_style(store):
    ax = Figure().subplots()
    before = ax.get_facecolor()
    galfig.plot.roc(store, ax=ax, style="talk")
    assert ax.get_facecolor() == before
    assert "#0072B2" in [line.get_color() for line in ax.get_lines()]


def test_the_colour_map_is_that_of_unsigned_maps(store):
    """That of the argument comes first, and evidence keeps its own."""
    style = {"cmap": "viridis"}

    def find_cmap(plot):
        return plot.figure.axes[1].images[-1].get_cmap().name

    assert find_cmap(galfig.plot.panels(store, style=style)) == "viridis"
    assert find_cmap(galfig.plot.panels(store, style=style, cmap="magma")) == "magma"
    for more in ({}, {"negative": True}):
        options = {} if more else {"map": "evidence"}
        given = style | more
        assert find_cmap(galfig.plot.panels(store, style=make_style(given), **options)) == (
            "blue-orange"
        )
        diverging = galfig.plot.panels(store, style=given | {"cmap": "PuOr"}, **options)
        assert find_cmap(diverging) == "PuOr"
        # Given for this figure alone, it would change nothing.
        with pytest.raises(FigureError, match="`cmap` 'viridis': for maps of one sign"):
            galfig.plot.panels(store, style=given, **options)
    with pytest.raises(FigureError, match="`cmap` 'virdis': unknown"):
        galfig.plot.panels(store, style={"cmap": "virdis"})


def test_commands_take_settings_and_options(store_path, tmp_path, monkeypatch):
    """Options come before the settings; a sheet in the settings lies beside them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "own.mplstyle").write_text("figure.facecolor: ff0000\n")
    (folder / "galfig.toml").write_text('[style]\nsheet = "own.mplstyle"\nfont_size = 9\n')
    words = ["figure", "roc", str(store_path), "--overwrite", "--out", "roc.png"]
    for more, pixel in (
        (["--config", "settings/galfig.toml"], (255, 0, 0)),
        (["--config", "settings/galfig.toml", "--style", "talk"], (16, 16, 20)),
        (["--style", "settings/own.mplstyle"], (255, 0, 0)),
        ([], (255, 255, 255)),
    ):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 0, done.output
        with Image.open("roc.png") as image:
            assert image.convert("RGB").getpixel((1, 1)) == pixel
    done = CliRunner().invoke(main, [*words, "--style", "tlak"])
    assert done.exit_code == 1
    assert "--style 'tlak': unknown" in done.output


def test_no_result_depends_on_the_style():
    """Renaming or recolouring rebuilds nothing."""
    plain = load_settings({})
    styled = load_settings({"style": {"sheet": "talk", "cmap": "viridis", "font_size": 12}})
    assert styled.record() == plain.record()
    assert "style" not in plain.record()


def test_text_of_another_font_can_be_copied(store, tmp_path):
    """Characters that it lacks come from the font of journal."""
    galfig.plot.panels(store, style={"font": "STIXGeneral"}).save(tmp_path / "panels.pdf")
    reader = PdfReader(tmp_path / "panels.pdf")
    assert "″" in reader.pages[0].extract_text()
    fonts = reader.pages[0]["/Resources"]["/Font"].values()
    names = " ".join(str(font.get_object()["/BaseFont"]) for font in fonts)
    assert "STIX" in names
    assert "DejaVu" in names
