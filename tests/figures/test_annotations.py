"""What stands on panels: what is asked for and known, and the true class apart from the others."""

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.font_manager import FontProperties, findfont, get_font

import galfig
from galfig.cli import main
from galfig.config import StyleSettings
from galfig.errors import StoreError
from galfig.figures.annotations import list_words
from galfig.figures.rows import RIGHT, WRONG, MapLabel
from galfig.figures.sheets import FONT
from galfig.store.reader import open_store

PLACES = {"ra": np.linspace(10, 20, 12), "dec": np.linspace(-5, 5, 12)}


@pytest.fixture
def placed_store(make_store):
    """Open the small store with positions, of which one is unknown."""
    places = {name: values.copy() for name, values in PLACES.items()}
    places["ra"][3] = np.nan
    with open_store(make_store(catalog=places)) as opened:
        yield opened


def read_words(fig):
    """Return the texts of each panel of the first row of two classes, and those above it."""
    panels = [[text.get_text() for text in ax.texts[1::2]] for ax in fig.axes[:3]]
    return panels, [text.get_text() for text in fig.texts]


def test_marks_are_in_both_weights_of_the_font():
    """No box stands in their place, whatever font is chosen: this one draws what another lacks."""
    for weight in ("normal", "bold"):
        known = get_font(findfont(FontProperties(family=FONT, weight=weight))).get_charmap()
        assert {ord(RIGHT), ord(WRONG)} <= set(known)


@pytest.mark.parametrize(
    ("is_predicted", "is_true", "words"),
    [
        (True, True, "✓\xa0high"),
        (True, False, "✗\xa0high"),
        (True, None, "high"),
        (False, True, "high"),
        (False, False, "high"),
    ],
)
def test_only_the_predicted_class_is_right_or_wrong(is_predicted, is_true, words):
    assert MapLabel("high", "", is_predicted, is_true).words == words


def test_words_come_in_the_order_asked_for(placed_store):
    """What is known: one galaxy has no position, and its identifier stands for its name."""
    words = ("name", "z", "value", "true", "p")
    style = {"annotate": words, "designation": "SDSS J"}
    plot = galfig.plot.panels(placed_store, [0], style=style)
    (first, low, high), _ = read_words(plot.figure)
    name = "SDSS J004000.00-050000.0"
    assert first[:4] == [name, "z = 0.020", "oh_p50 = 8.2", "true: low-metallicity"]
    assert all(line[1].startswith("$p ") and "Σ" not in line[1] for line in (low, high))
    assert f"The galaxy is {name} ({placed_store.objid[0]}, z = 0.020" in plot.caption
    assert "names give the position" in plot.caption.lower()
    assert "Σ" not in plot.caption
    unplaced = galfig.plot.panels(placed_store, [3], style=style)
    assert read_words(unplaced.figure)[0][0][0] == placed_store.objid[3]


def test_nothing_is_written_where_nothing_is_asked_for(store):
    """But the names of classes, without which a map means nothing; no mark tells the truth."""
    plot = galfig.plot.panels(store, [3], style={"annotate": ()})
    (first, low, high), above = read_words(plot.figure)
    assert [line for line in first if "″" not in line] == above == []
    assert (low, high) == (["low-metallicity"], ["high-metallicity"])
    assert "tick" not in plot.caption
    assert "probability p" not in plot.caption
    assert "brightness of a map is not the probability" in plot.caption


@pytest.mark.parametrize("kind", ["panels", "top_losses"])
def test_the_true_class_is_read_on_the_panels(store, kind):
    """On each cutout by name, and on the maps by marks that are no colours."""
    rows = np.arange(4)
    plot = getattr(galfig.plot, kind)(store, rows)
    shown = [tuple(store.objid).index(name) for name in plot._drawing.galaxies]
    for start, index in zip(range(0, 16, 4), shown, strict=True):
        first, *maps = plot.figure.axes[start : start + 3]
        true = store.class_names[store.label[index]]
        assert first.texts[3].get_text() == f"true: {true}-metallicity"
        is_right = store.predicted[index] == store.label[index]
        words = [ax.texts[1].get_text() for ax in maps]
        assert [word[0] for word in words if word[0] in RIGHT + WRONG] == [
            RIGHT if is_right else WRONG
        ]
        dashed = [ax for ax in maps if any(p.get_linestyle() == "--" for p in ax.patches)]
        assert len(dashed) == (0 if is_right else 1)
    assert "with a tick where it is the true class and a cross where it is not" in plot.caption
    assert "has a dashed frame" in plot.caption


def test_marks_are_explained_only_where_they_are(make_store, store):
    """Of unlabelled galaxies nothing is marked, and of right ones nothing is dashed."""
    unlabelled = make_store("u.h5", label=np.full(12, -1, np.int16))
    with open_store(unlabelled) as other:
        plot = galfig.plot.panels(other, slice(0, 3))
    assert "tick" not in plot.caption
    assert not any("true" in text.get_text() for ax in plot.figure.axes for text in ax.texts)
    right = np.flatnonzero(store.predicted == store.label)[:2]
    assert "dashed" not in galfig.plot.panels(store, right).caption


def test_the_brightest_of_three_maps_is_not_marked(make_store):
    """Frame and mark are those of the prediction, however bright another map is."""
    cams = np.full((12, 3, 24, 24), 1e-3, np.float32)
    cams[:, 2] = 1.0
    logits = np.tile(np.array([0, 5, 1], np.float32), (12, 1))
    probs = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    names = ("E", "S0", "Sp")
    path = make_store(class_names=names, quantity="", cams=cams, logits=logits, probs=probs)
    with open_store(path) as store:
        plot = galfig.plot.panels(store, [0], classes=names)
    frames = [[p.get_linestyle() for p in ax.patches] for ax in plot.figure.axes[1:4]]
    # Of the true class, the predicted one, and the brightest.
    assert frames == [["-", "--"], ["-", "-"], []]
    assert "The brightest pixel is not on the map of the predicted class." in plot.caption


def test_what_is_said_of_maps_that_are_not_shown(make_store):
    """Neither the brightest pixel nor a frame is spoken of in a row without the predicted map."""
    cams = np.full((12, 3, 24, 24), 1e-3, np.float32)
    cams[:, 2] = 1.0
    logits = np.tile(np.array([0, 5, 1], np.float32), (12, 1))
    logits[3] = (0, 1, 5)
    probs = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    names = ("E", "S0", "Sp")
    path = make_store(class_names=names, quantity="", cams=cams, logits=logits, probs=probs)
    with open_store(path) as store:
        some = galfig.plot.panels(store, [0, 1, 3], classes=("E", "Sp")).caption
        none = galfig.plot.panels(store, [0, 1], classes=("E", "Sp")).caption
        single = galfig.plot.panels(store, [0, 1], classes=("S0",)).caption
    assert (
        "In the row that shows the map of the predicted class, no other map has a brighter pixel"
    ) in some
    assert "the predicted class, where its map is shown, is in bold" in some
    assert "brighte" not in none.replace("the brightness of a map", "")
    assert "brighte" not in single.replace("the brightness of a map", "")
    assert "the predicted class is in bold" in single


def test_a_store_without_positions_says_so(store):
    with pytest.raises(StoreError, match="expected the columns 'ra' and 'dec'"):
        galfig.plot.panels(store, [0], style={"annotate": ["name"]})


def test_evidence_says_what_is_asked_for(store):
    """Of evidence, the log-odds are in place of the sum."""
    plot = galfig.plot.panels(store, [0], map="evidence", style={"annotate": ["objid", "p"]})
    words = [text.get_text() for ax in plot.figure.axes for text in ax.texts]
    assert any(word.startswith("$p ") for word in words)
    assert not any("log-odds " in word for word in words)
    assert "and its log-odds." not in plot.caption


def test_commands_take_words(store_path, tmp_path, monkeypatch):
    """Some, or none; another is a mistake in usage that names those that are known."""
    monkeypatch.chdir(tmp_path)
    words = ["render", str(store_path), "--n", "2", "--out", "p.png", "--overwrite"]
    for value in ("objid,z", "none"):
        done = CliRunner().invoke(main, [*words, "--annotate", value, "--letters", "--title", "T"])
        assert done.exit_code == 0, done.output
        assert "(a) 12376650249008581" in (tmp_path / "p.txt").read_text()
    done = CliRunner().invoke(main, [*words, "--annotate", "objid,redshift"])
    assert done.exit_code == 2
    assert "'redshift' is not one of objid, name, z, value, true, p, sum, none" in done.output
    assert StyleSettings().annotate == ("objid", "true", "p", "sum")


def test_values_have_as_many_decimals(make_store, caplog):
    """Zeros are kept; what none of the galaxies has is said once."""
    value = np.full(12, 11.22)
    value[0] = 11.3
    with open_store(make_store(value=value, redshift=np.full(12, np.nan))) as store:
        words = list_words(store, [0, 1], StyleSettings(annotate=("value", "z")))
    assert [one.title.rpartition(" ")[2] for one in words] == ["11.30", "11.22"]
    assert caplog.messages == ["`annotate` z: none of these galaxies has a redshift"]
