"""Manifests: refused in one clear line where they are wrong."""

import pytest
from paper import MANIFEST

from galfig.errors import ManuscriptError
from galfig.manuscript.build import build_manuscript
from galfig.manuscript.manifest import load_manifest
from galfig.manuscript.record import describe_spec

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "stores: missing"),
        ('[stores]\ncolour = "maps.h5"', "figure: missing"),
        ("[stores", "not valid TOML"),
        (MANIFEST.replace('"panels"\nstore', '"panel"\nstore'), "figure 'panels': figure 'panel'"),
        (
            MANIFEST.replace('store = "colour"', 'store = "color"'),
            "'color', expected one of",
        ),
        (
            MANIFEST + "colour = 3",
            "figure 'panels' colour: unknown key, expected one of name, figure, store",
        ),
        (MANIFEST.replace("zmin", "zmn"), "selection has 'zmn', expected "),
        (MANIFEST.replace('"text"', '"wide"'), "`width` 'wide', expected column, text"),
        (
            MANIFEST.replace("n = 2", 'n = "two"'),
            "figure 'panels' selection n: found 'two'; input should be",
        ),
        (MANIFEST + 'file = "../a.pdf"', "'../a.pdf' leaves the folder"),
        (MANIFEST + 'file = "/tmp/a.pdf"', "'/tmp/a.pdf' leaves the folder"),
        (MANIFEST + 'file = "a.png"', "file 'a.png', expected .pdf"),
        (MANIFEST.replace('"maps.h5"', '"../maps.h5"'), "stores colour: '../maps.h5' leaves"),
        (MANIFEST.replace("colour =", "colour2 ="), "store 'colour2', expected letters"),
        (MANIFEST.replace('"confusion"', '"panels"'), "'panels' appears twice"),
        (
            MANIFEST.replace('"confusion"', '"../x"'),
            "name '../x', expected letters, digits and hyphens",
        ),
        (
            MANIFEST + 'style = { sheet = "mine.mplstyle" }',
            "style 'mine.mplstyle', expected journal, talk, poster",
        ),
        (MANIFEST + 'style = { cmap = "virdis" }', "`cmap` 'virdis': unknown"),
        (MANIFEST + 'style = { fnt = "x" }', "fnt: unknown key"),
        (
            MANIFEST.replace('-matrix"', '-matrix"\nstyle = { overlay = "blend" }'),
            "takes no `overlay`, it is for panels",
        ),
        (MANIFEST + 'style = { labels = { z = "$" } }', "`labels` 'z' '$': a '$' without another"),
        (MANIFEST + 'style = { class_names = { low = " " } }', "'low' has an empty name"),
        (MANIFEST + 'map = "cam"', "figure 'panels' map: found 'cam'"),
        (
            MANIFEST.replace('-matrix"', '-matrix"\nmap = "evidence"'),
            "takes no `map`",
        ),
        (MANIFEST + 'unit = "R"', "'panels': takes no `unit`, it is for radial-profile"),
        (
            MANIFEST + '[[steps]]\ncommand = "rm -rf x"\nmakes = "maps.h5"',
            "steps 1 command: command 'rm -rf x', expected one of galfig simulate",
        ),
        (
            MANIFEST + '[[steps]]\ncommand = "galfig build-maps --out ../x"\nmakes = "maps.h5"',
            "steps 1 command: '../x' leaves the folder",
        ),
        (
            MANIFEST + '[[steps]]\ncommand = "galfig simulate --n 3 /tmp/x"\nmakes = "maps.h5"',
            "steps 1 command: '/tmp/x' leaves the folder",
        ),
        (
            MANIFEST + '[[steps]]\ncommand = "galfig figure roc"\nmakes = "maps.h5"',
            "expected one of galfig simulate, galfig train, galfig build-maps",
        ),
    ],
)
def test_wrong_manifest_is_one_clear_line(paper, words, message):
    """File, place, what was found and what was expected."""
    (paper / "manuscript.toml").write_text(words)
    with pytest.raises(ManuscriptError) as caught:
        load_manifest(paper)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{paper / 'manuscript.toml'}: ")
    assert "\n" not in str(caught.value)


def test_style_of_a_figure(paper):
    """A default style leaves the record of a figure as it was before there were styles."""
    (paper / "manuscript.toml").write_text(MANIFEST)
    (*_, plain) = load_manifest(paper).figure
    assert "style" not in describe_spec(plain)
    (paper / "manuscript.toml").write_text(MANIFEST + 'style = { sheet = "talk", font_size = 9 }')
    (*_, styled) = load_manifest(paper).figure
    assert styled.style.sheet == "talk"
    assert describe_spec(styled)["style"] == {"sheet": "talk", "font_size": 9.0}


def test_folder_without_a_manifest(tmp_path):
    """The file that is expected is named."""
    with pytest.raises(ManuscriptError, match=r"manuscript\.toml: cannot be read"):
        build_manuscript(tmp_path)
