"""The layout of rows of panels: all in its place, and no word over another or out of the figure."""

import itertools

import numpy as np
import pytest
from matplotlib.patheffects import Stroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from pypdf import PdfReader
from samples import list_figures

import galfig
from galfig.config import StyleSettings, make_style
from galfig.errors import FigureError, OutputError
from galfig.figures.drawing import DrawOptions
from galfig.figures.layout import arrange, fit_above, make_pages, make_rows
from galfig.figures.registry import FIGURES, check_style, draw_from
from galfig.figures.rows import SMALLEST_PANEL, MapLabel, Row
from galfig.figures.style import paper_style
from galfig.store.selection import Query

NAMES = {
    "short": ["E", "S0", "Sp"],
    "usual": ["low-metallicity", "medium-metallicity", "high-metallicity"],
    "long": [
        "interacting or merging with a companion",
        "edge-on disk without a visible bulge",
        "smooth_and_round_with_a_ring_or_lens_or_arc",
    ],
    "unbroken": ["a" * 40, "W" * 40, "ü" * 40],
}
OBJID = "1237665024900858129"


def make_row_of(names, *, objid=OBJID, facts=("z = 0.062", "true: {}"), letter=""):
    """Return a row in which all that can be written is written."""
    n_maps = len(names)
    cams = np.arange(1, n_maps + 1)[:, None, None] * np.ones((n_maps, 4, 4)) * 1.6e-3
    return Row(
        objid,
        np.full((16, 16, 3), 60, np.uint8),
        cams.astype(np.float32),
        [
            MapLabel(name, "$p > 0.999$\nΣ = −4.6 × 10⁴", is_predicted=c == 1, is_true=c == 0)
            for c, name in enumerate(names)
        ],
        pixel_scale=0.396,
        kpc_per_arcsec=12.3,
        letter=letter,
        facts=tuple(fact.format(names[0]) for fact in facts),
    )


def find_faults(fig, dpi):
    """Return each text that leaves the figure or its panel, and each pair that overlaps."""
    fig.set_dpi(dpi)
    fig.draw_without_rendering()
    boxes = []
    for text in fig.findobj(Text):
        is_outline = any(isinstance(effect, Stroke) for effect in text.get_path_effects())
        if text.get_text().strip() and text.get_visible() and not is_outline:
            boxes.append((text, text.get_window_extent()))
    shown = [(text, box) for text, box in boxes if box.width > 0]
    assert len(shown) > 3
    page, faults = fig.bbox.padded(1), []
    for text, box in shown:
        room = page
        if text.axes is not None and text.axes.get_aspect() == 1:
            room = text.axes.bbox.padded(1)
        if not (room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 <= box.y1 <= room.y1):
            faults.append((text.get_text(), "leaves its room"))
    # A pixel of two boxes that touch is none of the letters.
    for (one, first), (other, second) in itertools.combinations(shown, 2):
        common = Bbox.intersection(first, second)
        if common is not None and common.width > 1 and common.height > 1:
            faults.append((one.get_text(), other.get_text()))
    return faults


CASES = [
    # names, classes, n, width, columns, layout, style
    ("short", 2, 1, 3.3, None, "rows", "journal"),
    ("usual", 2, 5, None, None, "rows", "journal"),
    ("usual", 2, 12, None, None, "rows", "journal"),
    ("usual", 2, 3, 3.39, None, "rows", "journal"),
    ("long", 2, 3, 3.39, None, "rows", "journal"),
    ("unbroken", 2, 4, None, 2, "rows", "journal"),
    ("usual", 3, 8, None, None, "rows", "journal"),
    ("long", 3, 6, None, 1, "rows", "journal"),
    ("unbroken", 3, 2, 4.5, None, "rows", "journal"),
    ("usual", 1, 9, None, 2, "rows", "journal"),
    ("usual", 2, 12, None, None, "grid", "journal"),
    ("long", 3, 6, None, None, "grid", "journal"),
    ("unbroken", 2, 3, 3.39, 3, "grid", "journal"),
    ("usual", 3, 2, 3.39, 2, "grid", "journal"),
    ("long", 2, 14, None, 7, "grid", "journal"),
    ("usual", 2, 3, None, None, "rows", "talk"),
    ("long", 2, 4, None, None, "rows", "talk"),
    ("usual", 3, 5, None, None, "grid", "talk"),
    ("usual", 2, 5, None, None, "rows", "poster"),
    ("long", 2, 12, None, 2, "rows", "poster"),
    ("unbroken", 3, 8, None, None, "grid", "poster"),
]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, marks=pytest.mark.slow if case[2] > 6 else (), id="-".join(map(str, case))
        )
        for case in CASES
    ],
)
def test_no_word_stands_over_another(case):
    """Nor leaves its panel or the figure, on paper and on a screen."""
    names, n_classes, n, width, columns, layout, sheet = case
    rows = [make_row_of(NAMES[names][:n_classes], letter="a") for _ in range(n)]
    style = StyleSettings(
        sheet=sheet, columns=columns, layout=layout, title="A title of the figure", scale="panel"
    )
    with paper_style(style):
        fig = make_rows(rows, width, style=style)
        assert find_faults(fig, 300) == []
        assert find_faults(fig, 110) == []


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "negative"), [("row", True), ("panel", False)])
@pytest.mark.parametrize("layout", ["rows", "grid"])
@pytest.mark.parametrize(("n", "width"), [(4, 3.39), (7, 7.1)])
@pytest.mark.parametrize("objid", ["SDSS J012345.67+012345.6", "x" * 60])
def test_no_word_stands_over_another_in_any_combination(scale, negative, layout, n, width, objid):
    rows = [make_row_of(NAMES["usual"][:2], objid=objid) for _ in range(n)]
    style = StyleSettings(scale=scale, negative=negative, layout=layout)
    with paper_style(style):
        assert find_faults(make_rows(rows, width, style=style), 300) == []


def test_a_fault_is_found():
    """The check is one that can fail."""
    fig = make_rows([make_row_of(NAMES["usual"][:2])])
    fig.axes[0].texts[1].set_fontsize(40)
    assert find_faults(fig, 100)


@pytest.mark.parametrize(("width", "n", "is_above"), [(7.1, 3, False), (3.39, 3, True)])
def test_an_identifier_is_not_broken(width, n, is_above):
    """Where a cutout has no room for its 19 digits, they stand above the row, in one line."""
    fig = make_rows([make_row_of(NAMES["usual"][:2], facts=()) for _ in range(n)], width)
    on_cutouts = [text.get_text() for ax in fig.axes[::4] for text in ax.texts]
    assert (OBJID in on_cutouts) != is_above
    assert [text.get_text() for text in fig.texts] == [OBJID] * (n * is_above)


@pytest.mark.parametrize("n", [7, 8, 9, 12, 16])
def test_many_galaxies_fit_a_page(n):
    """As rows of two classes; those of twelve stand in two columns, which are filled in order."""
    words = [(str(number),) for number in range(n)]
    found = arrange(words, 3)
    assert found.content <= 8.3
    assert found.side >= SMALLEST_PANEL
    assert found.n_page >= n
    if n == 12:
        assert (found.n_abreast, found.n_down) == (2, 6)
        assert found.place(6)[1] == found.place(0)[1]
        assert found.place(6)[0] > found.place(5)[0]


def test_a_grid_is_filled_line_by_line():
    words = [(OBJID,)] * 12
    found = arrange(words, 3, style=StyleSettings(layout="grid"))
    assert (found.n_abreast, found.n_down) == (6, 2)
    assert found.content <= 8.3
    assert found.place(1)[1] == found.place(0)[1] < found.place(6)[1]
    assert found.place(6)[0] == found.place(0)[0]


@pytest.mark.parametrize("layout", ["rows", "grid"])
@pytest.mark.parametrize("n", [1, 4, 6, 11])
def test_panels_keep_their_distance(n, layout):
    """Square, inside the figure, and none over another, bars among them."""
    rows = [make_row_of(NAMES["usual"][:2]) for _ in range(n)]
    fig = make_rows(rows, style=StyleSettings(layout=layout))
    width, height = fig.get_size_inches()
    boxes = [ax.get_position() for ax in fig.axes]
    assert len(boxes) == 4 * n
    for ax, box in zip(fig.axes, boxes, strict=True):
        assert 0 <= box.x0 < box.x1 <= 1
        assert -1e-9 <= box.y0 < box.y1 <= 1 + 1e-9
        if ax.get_aspect() == 1:
            assert box.width * width == pytest.approx(box.height * height)
    for one, other in itertools.combinations(boxes, 2):
        common = Bbox.intersection(one, other)
        assert common is None or common.width * common.height < 1e-12


def test_pairs_stay_together():
    """The rows of one galaxy in two stores are below each other, or beside each other in a grid."""
    words = [("a",)] * 14
    rows = arrange(words, 3, group=2)
    assert rows.n_abreast == 2
    assert rows.n_down % 2 == 0
    grid = arrange(words, 3, style=StyleSettings(layout="grid"), group=2)
    assert grid.n_abreast % 2 == 0


def test_columns_are_as_many_as_are_asked_for():
    words = [("a",)] * 6
    assert arrange(words, 2, style=StyleSettings(columns=2)).n_abreast == 2
    assert arrange(words, 2, style=StyleSettings(columns=9, layout="grid")).n_abreast == 6
    with pytest.raises(FigureError, match=r"`columns` 4: panels of 0\.3\d inches.* for 2 abreast"):
        arrange(words, 3, style=StyleSettings(columns=4))
    with pytest.raises(FigureError, match=r"`width`: panels of 0\.6\d inches.* is too small"):
        arrange(words, 3, 1.5, style=StyleSettings(layout="grid"), group=2)


def test_a_narrow_figure_has_room_for_a_grid():
    """What rows have no width for, which the message says."""
    words = [("a",)]
    with pytest.raises(FigureError, match=r'4\.2 inches wide, or in a grid \(`layout="grid"`\)'):
        arrange(words, 4, 3.39)
    assert arrange(words, 4, 3.39, style=StyleSettings(layout="grid")).side > 1


def test_many_galaxies_go_on_over_pages(store, tmp_path):
    """Each of them once, on panels of one size; a picture has one page."""
    plot = galfig.plot.panels(store, slice(None), style={"pages": True, "columns": 1})
    plot.save(tmp_path / "p.pdf")
    words = [page.extract_text() for page in PdfReader(tmp_path / "p.pdf").pages]
    assert len(words) == 2
    for number, objid in enumerate(store.objid):
        assert [objid in page for page in words] == [number < 6, number >= 6]
    assert "Page 2 of 2" in words[1]
    assert "From top to bottom, page by page" in plot.caption
    with pytest.raises(OutputError, match=r"expected \.pdf for 2 pages"):
        plot.save(tmp_path / "p.png")


def test_one_page_is_not_numbered(store):
    plot = galfig.plot.panels(store, slice(0, 3), style={"pages": True})
    assert not plot.figure.texts
    assert "page by page" not in plot.caption


def test_pages_share_one_scale_where_the_figure_does(store):
    style = make_style({"pages": True, "columns": 1, "scale": "figure"})
    rows = [make_row_of(NAMES["short"][:2]) for _ in range(11)]
    rows.append(make_row_of(NAMES["short"]))
    rows[-1] = Row("b", rows[0].cutout, 7 * rows[0].cams, rows[0].labels)
    pages = list(make_pages(rows, style=style))
    assert len(pages) == 2
    ends = {ax.images[1].get_clim()[1] for page in pages for ax in page.axes[1::4]}
    assert ends == {float(7 * rows[0].cams.max())}


def test_a_figure_has_a_title_and_letters(store):
    """The title in bold above all; a letter on each cutout, and in the caption."""
    style = {"title": "Galaxies of $x_{", "letters": True}
    plot = galfig.plot.panels(store, slice(0, 3), style=style)
    (title,) = plot.figure.texts
    assert title.get_text() == "Galaxies of $x_{"
    assert all(title.get_window_extent().y0 > ax.bbox.y1 for ax in plot.figure.axes)
    heads = [ax.texts[1].get_text() for ax in plot.figure.axes[::4]]
    assert heads == [
        f"({letter}) {objid}" for letter, objid in zip("abc", store.objid, strict=False)
    ]
    assert f"From top to bottom: (a) {store.objid[0]} (" in plot.caption


def test_a_chart_has_a_title_too(store):
    """Inside the figure and above the axes, in lines that fit."""
    title = "How well a network tells galaxies of low metallicity from those of high metallicity"
    fig = galfig.plot.roc(store, style={"title": title}).figure
    fig.draw_without_rendering()
    box = fig._suptitle.get_window_extent()
    assert fig._suptitle.get_text().replace("\n", " ") == title
    assert box.y0 >= fig.axes[0].bbox.y1
    assert fig.bbox.x0 <= box.x0 < box.x1 <= fig.bbox.x1
    assert box.y1 <= fig.bbox.y1


@pytest.mark.parametrize("name", list_figures())
def test_a_title_is_drawn_or_refused(trained_store, other_store, name):
    """No figure takes it and leaves it out."""
    look = make_style({"title": "What we saw"})
    with galfig.open_store(trained_store) as store, galfig.open_store(other_store) as other:
        options = DrawOptions(style=look, other=other if name == "compare" else None)
        if "title" not in FIGURES[name].styled:
            with pytest.raises(FigureError, match="takes no `title`"):
                check_style(name, look, ["title"])
            return
        check_style(name, look, ["title"])
        drawing, _ = draw_from(store, name, Query(n=None), options)
        texts = [text.get_text() for text in next(iter(drawing.pages)).findobj(Text)]
    assert "What we saw" in texts


@pytest.mark.parametrize("kind", ["panels", "top_losses", "stacked_maps", "compare"])
def test_captions_say_where_panels_stand(store, other_store, kind):
    """Of columns nothing about rows, and in which order galaxies are named."""
    with galfig.open_store(other_store) as other:
        draw = getattr(galfig.plot, kind)
        extra = {"other": other} if kind == "compare" else {}
        grid = draw(store, style={"layout": "grid"}, **extra)
        rows = draw(store, **extra)
    assert "Each row" in rows.caption
    assert "rom top to bottom" in rows.caption
    assert "Each column of panels" in grid.caption
    assert "rom left to right" in grid.caption
    assert " row" not in grid.caption
    assert " row" not in grid.alt.lower()


WORDS_OF_THREE = [(OBJID, "true: medium-metallicity")] * 12


def test_rows_that_fit_no_page_become_a_grid():
    """Unless a layout or columns were named; then a grid is advised, where there is one."""
    with paper_style():
        found = arrange(WORDS_OF_THREE, 4)
        assert found.is_grid
        assert not found.is_tall
        for named in ({"layout": "rows"}, {"columns": 1}):
            rows = arrange(WORDS_OF_THREE, 4, style=StyleSettings(**named))
            assert not rows.is_grid
            assert rows.is_tall
        assert arrange(WORDS_OF_THREE, 4, style=StyleSettings(layout="rows")).has_grid
        narrow = arrange(WORDS_OF_THREE, 4, 3.39, style=StyleSettings(layout="grid"))
        assert narrow.is_tall
        assert not narrow.has_grid


def test_words_of_a_grid_take_the_width_of_the_page():
    """An identifier is not cut where a page has room for all of it."""
    with paper_style():
        found = arrange(WORDS_OF_THREE, 4)
        assert fit_above(WORDS_OF_THREE[0], found)[0].split("\n")[0] == OBJID
    last = found.place(found.n_abreast - 1)[0] + found.side
    assert found.place(0)[0] == pytest.approx(found.width - last)


def test_words_stand_beside_panels_of_a_slide():
    style = StyleSettings(sheet="talk")
    with paper_style(style):
        found = arrange(WORDS_OF_THREE[:4], 4, style=style)
    assert found.n_lines == 0
    assert found.beside > 1
    assert found.place(0)[0] >= found.beside
    assert found.place(0)[0] + found.breadth <= found.width
