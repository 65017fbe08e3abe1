"""Commands on stores that hold no maps or cutouts: drawn again, audited, or refused in one line."""

import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner
from paper import MANIFEST

from galfig.auditing.main import audit
from galfig.cli import main
from galfig.figures.registry import FIGURES

FORMS = ("native", "statistics")
# Figures of a store alone, and how many galaxies they are asked for.
ONE_STORE = [
    *("panels", "evidence", "class-examples", "confusion-matrix", "roc", "top-losses"),
    *("stacked-maps", "radial-profile", "atlas", "feature-space"),
]


@pytest.fixture
def folder(forms):
    """Give the folder of a store of each form, which no test changes."""
    return forms


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.mark.parametrize(
    "name", [ONE_STORE[0], *(pytest.param(one, marks=pytest.mark.slow) for one in ONE_STORE[1:])]
)
def test_figures_of_a_store_of_statistics_say_the_same(folder, tmp_path, name):
    """Caption, alternative text and numbers are those of the full store."""
    for form in ("full", "statistics"):
        out = tmp_path / f"{form}.pdf"
        table = () if name == "class-examples" else ("--data", tmp_path / f"{form}.ecsv")
        drawn = run("figure", name, folder / f"{form}.h5", "--n", 8, "--out", out, *table)
        assert drawn.exit_code == 0, drawn.stderr
    for suffix in (".tex", ".txt", ".alt.txt"):
        words = [(tmp_path / f"{form}{suffix}").read_text() for form in ("full", "statistics")]
        assert words[0] == words[1]
    if table:
        rows = [
            [
                line
                for line in (tmp_path / f"{form}.ecsv").read_text().split("\n")
                if "#" not in line
            ]
            for form in ("full", "statistics")
        ]
        assert rows[0] == rows[1]


def test_all_figures_of_one_store_are_tried():
    """Or are of the training, of an audit, or of two stores."""
    others = {"histogram", "training-curves", "learning-rate", "reliability", "compare"}
    of_audits = {name for name in FIGURES if name.startswith("audit-")} | {"attribution-vs"}
    assert {*ONE_STORE, *others, *of_audits} == set(FIGURES)


def test_captions_of_a_native_store_say_how_coarse_it_is(folder, tmp_path):
    """Of its maps only."""
    for name in ("panels", "evidence", "atlas", "radial-profile", "roc"):
        drawn = run("figure", name, folder / "native.h5", "--n", 3, "--out", tmp_path / "f.pdf")
        assert drawn.exit_code == 0, drawn.stderr
        words = (tmp_path / "f.txt").read_text()
        is_said = "Each map is stored in steps of 1/127 of its largest absolute value." in words
        assert is_said == (name != "roc")
        for path in tmp_path.iterdir():
            path.unlink()


def test_a_store_that_was_moved_needs_its_images_and_network(folder, tmp_path):
    """And says so, in one line, by the options that name them."""
    store, out = tmp_path / "moved.h5", tmp_path / "f.pdf"
    shutil.copyfile(folder / "statistics.h5", store)
    images = ("--images", folder / "galaxies")
    model = ("--model", folder / "model.safetensors")
    for given, words in (
        ((), "is not in its folder or changed; name it with --model"),
        (
            model,
            "; name the folder that this path starts from with --images, or build the store again",
        ),
        ((*images, "--model", store), "is not it or changed; give the checkpoint that it was"),
    ):
        refused = run("render", store, "--n", 2, "--out", out, *given)
        assert refused.exit_code == 1
        assert words in refused.stderr
        assert refused.stderr.count("galfig: error: ") == 1
        assert not out.exists()
    drawn = run("render", store, "--n", 2, "--out", out, *images, *model)
    assert drawn.exit_code == 0, drawn.stderr


@pytest.mark.parametrize("form", FORMS)
def test_other_commands_work_on_each_form(folder, form):
    """Or say why not."""
    store = folder / f"{form}.h5"
    assert run("verify", store).exit_code == 0
    catalog = folder / "galaxies" / "catalog.csv"
    checked = run("verify", store, "--catalog", catalog)
    assert "the images are those that it was made from" in checked.stdout
    facts = json.loads(run("info", store, "--json").stdout)
    assert (facts["store"], facts["map_shape"], facts["galaxies"]) == (form, [16, 16], 24)


def test_the_option_of_the_build(folder, tmp_path):
    """Writes what the setting says."""
    out = tmp_path / "native.h5"
    built = run(
        *("build-maps", "--catalog", folder / "galaxies" / "catalog.csv", "--split", "all"),
        *("--model", folder / "model.safetensors", "--store", "native", "--out", out, "-q"),
    )
    assert built.exit_code == 0, built.stderr
    assert json.loads(run("info", out, "--json").stdout)["store"] == "native"


def test_audits_measure_what_is_explained_again(folder, tmp_path):
    """Their numbers are those of the full store, without the rounding of 8 bits."""
    found = []
    for form in ("full", *FORMS):
        made = audit(
            folder / f"{form}.h5",
            model=folder / "model.safetensors",
            images=folder / "galaxies",
            measures=["completeness", "common-mode"],
            out=tmp_path / f"{form}.audit.h5",
            device="cpu",
        )
        found.append({name: one.model_dump() for name, one in made.measures.items()})
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_manuscripts_draw_from_a_store_of_statistics(folder, tmp_path):
    """If its network and its images are in the folder of the paper; and check agrees."""
    paper = shutil.copytree(folder, tmp_path / "paper")
    (paper / "statistics.h5").rename(paper / "maps.h5")
    (paper / "manuscript.toml").write_text(MANIFEST)
    built = run("manuscript", "build", paper, "-q")
    assert built.exit_code == 0, built.stderr
    checked = run("manuscript", "check", paper, "-q")
    assert checked.exit_code == 0, checked.stdout
    shutil.rmtree(paper / "galaxies")
    refused = run("manuscript", "check", paper, "-q")
    assert refused.exit_code == 1
    assert "no such folder" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "figure"),
    [("statistics", "roc"), ("statistics", "class-examples"), ("native", "panels")],
)
def test_what_needs_no_network_does_not_wait_for_torch(folder, tmp_path, form, figure):
    """Numbers and cutouts are drawn without it."""
    code = (
        "import sys; from galfig.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as exc:\n"
        "    sys.exit(exc.code or 'torch' in sys.modules)"
    )
    command = ["figure", figure, folder / f"{form}.h5", "--n", "4", "--out", tmp_path / "f.pdf"]
    process = subprocess.run([sys.executable, "-c", code, *map(str, command)], check=False)
    assert process.returncode == 0
