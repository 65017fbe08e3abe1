"""Words of figures: names of classes and columns that an author chooses, and room for long ones."""

import json
import tomllib

import h5py
import numpy as np
import pytest
from astropy.table import Table
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from samples import make_measured, write_small_audit

from galfig import plot
from galfig.cli import main
from galfig.config import load_settings, make_style
from galfig.errors import ConfigError, FigureError, StoreError
from galfig.figures.captions import LATEX, PLAIN, name_axis
from galfig.figures.labels import KNOWN, check_labels, fit_label, strip_unit, write_label
from galfig.figures.registry import FIGURES, check_style, draw_figure, render_figure
from galfig.figures.style import MIN_FONT_SIZE, fit_words, measure_words, paper_style
from galfig.store.audits import open_audit
from galfig.store.reader import open_store
from galfig.store.selection import Query

OLD, NEW = ("oldpoor", "oldrich"), ("metal-poor spirals", "metal-rich spirals")
RENAMED = dict(zip(OLD, NEW, strict=True))
OF_TRAINING = ("training-curves", "learning-rate")
OF_STORE = [
    name
    for name, kind in FIGURES.items()
    if kind.source == "store" and name not in ("compare", "attribution-vs", *OF_TRAINING)
]
WORDS = "red blue green faint bright small large round flat odd"
LONG = [f"{word} galaxies with a name of more than forty letters" for word in WORDS.split(" ")]


def describe_classes(names, quantity="", column="oh_p50"):
    """Return the attributes of a store whose classes are bins of a column."""
    classes = {
        "column": column,
        "edges": np.linspace(8.1, 9.4, len(names) + 1).round(3).tolist(),
        "labels": list(names),
        "name": quantity,
    }
    training = {
        "arch": "conv3",
        "n_train": dict.fromkeys(names, 20),
        "simulated": True,
        "settings": {"classes": classes},
    }
    return {"config": json.dumps({"classes": classes}), "training": json.dumps(training)}


@pytest.fixture
def named_store(make_store):
    """Write a store whose classes have names that occur nowhere else."""
    attrs = describe_classes(OLD, "metallicity")
    return make_store(class_names=OLD, n=24, attrs=attrs, catalog={"oh_p50": np.linspace(8, 9, 24)})


def list_texts(fig, dpi=200):
    """Return each text that is drawn in a figure, with its box [pixels]; outlines are the same."""
    drawn, draw = [], Text.draw
    fig.set_dpi(dpi)

    def watch(text, *args, **kwargs):
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        return draw(text, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", watch)
        FigureCanvasAgg(fig).draw()
    found = {}
    for text in dict.fromkeys(drawn):
        box = text.get_window_extent()
        found[text.get_text(), round(box.x0), round(box.y0)] = box
    return [(words, box) for (words, *_), box in found.items()]


def find_faults(fig, slack=2):
    """Return each text that leaves the figure, and each two that overlap."""
    texts, faults = list_texts(fig), []
    width, height = fig.bbox.size
    for number, (words, box) in enumerate(texts):
        if min(box.x0, box.y0, width - box.x1, height - box.y1) < -slack:
            faults.append(f"{words!r} leaves the figure")
        for others, other in texts[number + 1 :]:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            tall = min(box.y1, other.y1) - max(box.y0, other.y0)
            if min(wide, tall) > slack:
                faults.append(f"{words!r} and {others!r} overlap")
    return faults


@pytest.mark.parametrize("name", OF_STORE)
def test_new_names_go_through_a_figure(named_store, name):
    """Nothing that a reader sees has an old name; what it was made from has the names of the file.

    The quantity is not put behind a name that was given.
    """
    style = make_style({"class_names": RENAMED})
    query = Query(n=4 if FIGURES[name].n else None, true=OLD[0] if name == "panels" else None)
    with draw_figure(name, named_store, query, style=style) as (drawing, provenance):
        seen = [drawing.describe(PLAIN), drawing.describe(LATEX), drawing.alt, drawing.title]
        with paper_style(drawing.style):
            seen += [words for page in drawing.pages for words, _ in list_texts(page)]
        for column, (values, description, _) in drawing.tabulate().items():
            seen += [column, description, *map(str, np.asarray(values).ravel()[:50])]
    everything = " ".join(" ".join(seen).split())
    assert not [word for word in (*OLD, "spirals-metallicity") if word in everything]
    if name != "reliability":
        assert NEW[1] in everything or NEW[0] in everything
    assert provenance["options"]["style"]["class_names"] == RENAMED
    if name == "panels":
        assert provenance["selection"]["true"] == OLD[0]
        assert f"of true class {NEW[0]}" in seen[0]


def test_an_audit_is_renamed(tmp_path):
    """Its classes, and the sentence of the verdict that names one."""
    verdict = [
        "By its answers: right for 50.0 % of 12 galaxies, and always answering low would be "
        "for 50.0 %."
    ]
    path = write_small_audit(
        tmp_path / "maps.audit.h5", {"sanity": make_measured("sanity")}, verdict=verdict
    ).path
    audit = open_audit(path)
    drawn = plot.audit_summary(audit, style={"class_names": {"low": "blue ones"}})
    assert "classes blue ones, high" in drawn.caption
    assert "always answering blue ones would be for" in drawn.caption
    assert "answering low" in " ".join(audit.verdict)
    with pytest.raises(FigureError, match="`class_names` 'lo': no class of it; did you mean 'low'"):
        plot.audit_summary(audit, style={"class_names": {"lo": "x"}})


def test_a_view_is_the_same_store(named_store):
    """Arrays, galaxies and the file are the same; classes are found by either name."""
    before = named_store.read_bytes()
    with open_store(named_store) as store:
        _ = store.table, store.probs
        view = store.renamed(RENAMED)
        assert view.class_names == NEW
        assert store.class_names == view.original_names == OLD
        assert view.probs is store.probs
        assert list(view.table["true"].cat.categories) == list(NEW)
        assert list(store.table["true"].cat.categories) == list(OLD)
        for names in (OLD, NEW):
            assert list(view.select(true=names[1])) == list(store.select(true=OLD[1]))
        assert view.find_class("nobody") is None
        np.testing.assert_array_equal(view.cams(3), store.cams(3))
        assert store.renamed({}) is store
        # Swapped names mean the classes of the file.
        swapped = store.renamed({OLD[0]: OLD[1], OLD[1]: OLD[0]})
        assert swapped.class_names == OLD[::-1]
        assert swapped.find_class(OLD[0]) == 0
    assert view.is_closed
    with pytest.raises(StoreError, match="the store is closed"):
        view.cams(4)
    assert named_store.read_bytes() == before


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"oldpor": "x"}, "`class_names` 'oldpor': no class of it; did you mean 'oldpoor'?"),
        ({"oldpoor": "oldrich"}, "would name 'oldpoor' and 'oldrich' both 'oldrich'"),
        ({"oldpoor": "same", "oldrich": "same"}, "both 'same', expected a name for each"),
        ({"oldpoor": "oldrich-metallicity"}, "would show two classes as 'oldrich-metallicity'"),
    ],
)
def test_names_that_are_refused(named_store, names, reason):
    """In one line, before anything is drawn."""
    style = make_style({"class_names": names})
    with (
        pytest.raises(FigureError) as caught,
        draw_figure("panels", named_store, Query(n=1), style=style),
    ):
        pass
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["class_names", "labels"])
@pytest.mark.parametrize("words", [" ", "a\nb", "a\x1b[2J", "x" * 201])
def test_words_that_are_no_names(key, words):
    with pytest.raises(ConfigError) as caught:
        make_style({key: {"low": words}})
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_classes_that_the_network_does_not_know_may_be_renamed(make_store):
    """The histogram shows them, too."""
    attrs = describe_classes(("low", "medium", "high"), "metallicity")
    path = make_store(attrs=attrs)
    style = make_style({"class_names": {"medium": "in between"}})
    with draw_figure("histogram", path, Query(n=None), style=style) as (drawing, _):
        assert "in between (" in drawing.describe(PLAIN)
        assert "medium" not in drawing.describe(PLAIN)


def test_options_and_settings(named_store, tmp_path):
    """Options add to the table of the settings, and go the same way as Python and a manifest."""
    config = tmp_path / "galfig.toml"
    config.write_text(
        "[style.class_names]\noldpoor = 'poor'\noldrich = 'rich'\n"
        "[style.labels]\noh_p50 = '12 + log(O/H)'\n"
    )
    out = tmp_path / "roc.pdf"
    words = ["figure", "roc", str(named_store), "--config", str(config), "--out", str(out)]
    words += ["--class-name", "oldrich=very rich", "--true", "poor", "--split", "all"]
    ran = CliRunner().invoke(main, [*words, "--true", "oldpoor", "--correct"])
    assert ran.exit_code == 1
    assert "no galaxy of class 'very rich' is selected" in ran.stderr
    words = ["figure", "confusion-matrix", *words[2:7], "--class-name", "oldrich=very rich"]
    ran = CliRunner().invoke(main, [*words, "--data", str(tmp_path / "roc.ecsv")])
    assert ran.exit_code == 0, ran.output
    caption = out.with_suffix(".txt").read_text()
    assert "The classes are intervals of 12 + log(O/H): poor (8.1, 8.75] and very rich" in caption
    assert set(Table.read(tmp_path / "roc.ecsv")["true"]) == {"poor", "very rich"}
    style = load_settings(config, {("style", "class_names"): {"oldrich": "very rich"}}).style
    assert style.class_names == {"oldpoor": "poor", "oldrich": "very rich"}
    with open_store(named_store) as store:
        found = plot.confusion_matrix(
            store, style=style.model_dump(include={"class_names", "labels"})
        )
    assert found.caption == caption.strip()
    assert tomllib.loads(config.read_text())["style"]["labels"] == style.labels
    ran = CliRunner().invoke(main, ["figure", "roc", str(named_store), "--class-name", "oldpoor"])
    assert ran.exit_code == 2
    assert "'oldpoor', expected OLD=NEW." in ran.stderr


def test_broken_settings_are_one_line(named_store, tmp_path):
    """They are read before the command begins."""
    config = tmp_path / "galfig.toml"
    config.write_text("[style]\nfont_size = 'large'\n")
    ran = CliRunner().invoke(main, ["render", str(named_store), "--config", str(config)])
    assert ran.exit_code == 1
    assert ran.stderr.startswith("galfig: error: ")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("label", "plain", "latex"),
    [
        ("12 + log(O/H)", "12 + log(O/H)", "12 + log(O/H)"),
        ("a_b 50% & more", "a_b 50% & more", r"a\_b 50\% \& more"),
        ("log M★ [M☉]", "log M★ [M☉]", r"log M$\star$ [M$\odot$]"),
        (r"$\log M_\star$ [$M_\odot$]", "log M_★ [M_☉]", r"$\log M_\star$ [$M_\odot$]"),
        (r"\$ and $\alpha$", "$ and α", r"\$ and $\alpha$"),
        (r"\input{x}", r"\input{x}", r"\textbackslash{}input\{x\}"),
    ],
)
def test_labels_in_captions(label, plain, latex):
    """What is no mathematics is escaped; mathematics is spelt out where there is none."""
    check_labels({"x": label})
    assert write_label(label, is_latex=False) == plain
    assert write_label(label, is_latex=True) == latex


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("one $ alone", "a '$' without another"),
        (r"$\input{/etc/passwd}$", "is not known to both matplotlib and LaTeX"),
        (r"$\write18{x}$", "is not known to both"),
        (r"$\alhpa$", "did you mean 'alpha'?"),
        ("$a % b$", "'%' in '$...$', expected letters"),
        ("$M_☉$", "in '$...$', expected letters"),
        ("$a^{b$", "is no mathematics that matplotlib can draw"),
        ("$ $", "no mathematics between two '$'"),
        ("$" + "{" * 98 + "x" + "}" * 98 + "$", "braces in more than 8 levels"),
        ("$" + "x_{" * 48 + "x" + "}" * 48 + "$", "braces in more than 8 levels"),
        ("$x^2'$", "has two superscripts, expected one"),
        ("$x^{a_{b}}_3'$", "has two superscripts"),
        ("$x'_2^3$", "has two superscripts"),
    ],
)
def test_mathematics_that_is_refused(label, reason):
    """In one line, since a label may be anybody's and becomes LaTeX."""
    with pytest.raises(FigureError) as caught:
        check_labels({"x": label})
    assert str(caught.value).startswith("`labels` 'x' ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", ["$x'^2$", "$x''$", "$f^2(x')$", "$x^2_3$", "${x^2}'$"])
def test_one_superscript_is_no_fault(label):
    check_labels({"x": label})


def test_labels_are_broken_between_words():
    """Mathematics stays whole."""
    assert fit_label("a b", 3, 8) == "a b"
    lines = fit_label(r"log of the mass $\log M_\star / M_\odot$ in the sky", 0.9, 8).split("\n")
    assert len(lines) > 2
    assert [line for line in lines if "$" in line] == [r"$\log M_\star / M_\odot$"]
    assert fit_label("cost [$]", 3, 8) == r"cost [\$]"
    assert fit_label("x" * 60, 0.9, 8).count("\n") >= 4
    assert strip_unit("log M [M☉]") == "log M"
    assert strip_unit("[M☉]") == "[M☉]"


def test_a_label_names_a_column_everywhere(named_store, make_store):
    """On axes and in captions; symbols and units stand where they mean something."""
    style = make_style({"labels": {"oh_p50": "metals [dex]"}})
    with draw_figure("histogram", named_store, Query(n=None), style=style) as (drawing, _):
        (fig,) = drawing.pages
        assert fig.axes[0].get_xlabel() == "metals [dex]"
        assert drawing.describe(PLAIN).startswith("Distribution of metals [dex] for ")
        assert "Histogram of metals [dex]" in drawing.alt
    with draw_figure("confusion-matrix", named_store, Query(n=None), style=style) as (drawing, _):
        (fig,) = drawing.pages
        assert fig.axes[0].get_xlabel() == "Predicted metals"
    for name in ("panels", "roc", "atlas"):
        with draw_figure(name, named_store, Query(n=3 if name != "roc" else None), style=style) as (
            drawing,
            _,
        ):
            assert "intervals of metals [dex]: " in drawing.describe(PLAIN)
            assert "oh_p50" not in drawing.describe(PLAIN)
    with draw_figure("histogram", named_store, Query(n=None)) as (drawing, _):
        (fig,) = drawing.pages
        assert fig.axes[0].get_xlabel() == KNOWN["oh_p50"] == "12 + log(O/H)"
        assert drawing.describe(PLAIN).startswith("Distribution of 12 + log(O/H) (oh_p50) for ")
    other = make_store("other.h5", attrs=describe_classes(("low", "high"), "EW(Hα)", "ew"))
    with draw_figure("histogram", other, Query(n=None)) as (drawing, _):
        (fig,) = drawing.pages
        assert fig.axes[0].get_xlabel() == "EW(Hα) (ew)"
    style = make_style({"labels": {"oh_p5": "x"}})
    with (
        pytest.raises(
            FigureError, match="`labels` 'oh_p5': no column of it; did you mean 'oh_p50'"
        ),
        draw_figure("roc", named_store, Query(n=None), style=style),
    ):
        pass


@pytest.mark.parametrize("name", ["labels", "class_names"])
def test_words_of_figures_are_in_no_store(name):
    """The record of the settings has no style at all."""
    settings = load_settings({"style": {name: {"low": "x"}}})
    assert "style" not in settings.record()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("roc", "overlay", "blend"),
        ("evidence", "scale", "panel"),
        ("class-examples", "negative", True),
        ("atlas", "layout", "grid"),
        ("histogram", "cmap", "viridis"),
        ("evidence", "cmap", "viridis"),
        ("confusion-matrix", "annotate", ("p",)),
    ],
)
def test_what_a_figure_does_not_take_is_refused(named_store, tmp_path, name, key, value):
    """Where it was given for this figure; a settings file is for all figures."""
    style = make_style({key: value})
    with pytest.raises(FigureError, match=rf"`{key}`"):
        check_style(name, style, [key])
    with open_store(named_store) as store, pytest.raises(FigureError, match=rf"`{key}`"):
        getattr(plot, name.replace("-", "_"))(store, style={key: value})
    out = tmp_path / "figure.pdf"
    render_figure(name, named_store, Query(n=2 if name != "roc" else None), out, style=style)
    assert out.is_file()
    words = (
        [f"--{key}"] if value is True else [f"--{key}", value if isinstance(value, str) else "p"]
    )
    ran = CliRunner().invoke(main, ["figure", name, str(named_store), *words])
    assert ran.exit_code == 1
    assert f"--{key}" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_evidence_takes_a_diverging_colour_map(named_store):
    """It is that of the style; of rows of signed maps, too."""
    with open_store(named_store) as store:
        found = plot.evidence(store, [0, 1], style={"cmap": "PuOr"})
        assert {
            image.cmap.name
            for ax in found.figure.axes
            for image in ax.images
            if image.get_array().ndim == 2
        } == {"PuOr"}
        assert "(red)" not in found.caption


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 10])
@pytest.mark.parametrize("sheet", ["journal", "talk"])
@pytest.mark.parametrize("name", OF_STORE)
def test_long_names_have_room(make_store, name, sheet, n_classes):
    """No word lies over another or leaves the figure, at the width of a column too."""
    names = tuple(LONG[:n_classes])
    attrs = {"pixel_scale": 0.4} | describe_classes(names)
    path = make_store(n=60, class_names=names, quantity="", attrs=attrs)
    if n_classes == 10 and (name == "stacked-maps" or (name, sheet) == ("class-examples", "talk")):
        with (
            pytest.raises(FigureError),
            draw_figure(name, path, Query(n=None), style=make_style(sheet)),
        ):
            pass
        return
    widths = (None, "column") if sheet == "journal" else (None,)
    for width in widths:
        if width == "column" and n_classes == 10 and name == "atlas":
            continue
        n = 3 if FIGURES[name].n else None
        with (
            draw_figure(name, path, Query(n=n), width=width, style=make_style(sheet)) as (
                drawing,
                _,
            ),
            paper_style(drawing.style),
        ):
            page = next(iter(drawing.pages))
            assert find_faults(page) == []
            # Mean maps have more rows than a slide holds.
            if sheet == "talk" and name != "stacked-maps":
                assert page.get_figwidth() / page.get_figheight() == pytest.approx(16 / 9, rel=0.01)


def test_what_does_not_fit_is_cut_off():
    """Words are broken at blanks, and the last line says that there were more."""
    words, size = fit_words(LONG[0], 0.9, 8, n_lines=3)
    assert words.split("\n")[0].split() == LONG[0].split()[: len(words.split("\n")[0].split())]
    assert size >= MIN_FONT_SIZE
    assert all(measure_words(line, size) <= 0.9 + 1e-9 for line in words.split("\n"))
    words, size = fit_words(LONG[0], 0.5, 8, n_lines=2)
    assert words.endswith("…")
    assert words.count("\n") == 1


@pytest.mark.parametrize(
    ("unit", "label"),
    [("solMass", "mass [solMass]"), ("a$b", r"mass [a\$b]"), ("", "mass"), ("x" * 31, "mass")],
)
def test_columns_have_the_units_of_their_catalog(make_store, unit, label):
    """Unless the unit is nothing that fits behind a name."""
    path = make_store(catalog={"mass": np.arange(12.0)})
    with h5py.File(path, "r+") as file:
        file["catalog/mass"].attrs["unit"] = unit
    with open_store(path) as store:
        assert name_axis(store, "mass") == label
        named = store.renamed({}, {"mass": "log M [kg]"})
        assert name_axis(named, "mass") == "log M [kg]"
