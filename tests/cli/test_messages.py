"""Messages: the library speaks of parameters, the command line of its options."""

import ast
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import galfig
from galfig.cli import main
from galfig.cli.messages import translate
from galfig.errors import GalfigError
from galfig.manuscript import commands
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies

ROOT = Path(galfig.__file__).parent
# Words of commands that the library runs or reads, and no message; and options of accelerate.
ALLOWED = {
    "networks/processes.py": {
        "accelerate started one process, since it starts several on CPUs by MPI only; for several, "
        "use 'accelerate launch --multi_gpu --num_processes N -m galfig train --device cpu'"
    },
    "manuscript/manifest.py": {"Such as 'galfig build-maps --out maps.h5'"},
    "manuscript/commands.py": {
        word
        for words in (commands.PATHS, commands.FLAGS, *commands.VALUES.values())
        for word in words
    }.union(*commands.SWITCHES.values(), *commands.REFUSED.values()),
    "manuscript/steps.py": {"--update", "--overwrite", "--quiet"},
}
# Of each kind, by command: as the library says it, and as it stands in the terminal.
MESSAGES = [
    # Stores whose maps stay in the parts.
    (
        "build-maps",
        "maps.h5: leave the maps in the parts with `virtual=True`",
        "maps.h5: leave the maps in the parts with 'galfig merge --virtual'",
    ),
    ("merge", "merge the parts with `virtual=True`", "merge the parts with --virtual"),
    # What is fetched from surveys; a command of the group has the options.
    ("fetch sdss", "`base_url` 'x': expected an", "--base-url 'x': expected an"),
    (
        "fetch sdss",
        "`base_url` 'x': is of release 17, expected 18, as in `data_release`",
        "--base-url 'x': is of release 17, expected 18, as in --data-release",
    ),
    ("fetch sdss", "`contact` 'x': expected an", "--contact 'x': expected an"),
    ("fetch sdss", "`n` -1: expected the", "--n -1: expected the"),
    ("fetch sdss", "`where` 'a;': expected one", "--where 'a;': expected one"),
    ("fetch sdss", "relax `where`, or see", "relax --where, or see"),
    ("fetch legacy", "or raise `max_failed`", "or raise --max-failed"),
    ("fetch legacy", "`layer` 'x y': expected", "--layer 'x y': expected"),
    ("fetch legacy", "`bands` 'gg': expected", "--bands 'gg': expected"),
    ("fetch legacy", "`ra` is given without `dec`,", "--ra is given without --dec,"),
    ("fetch legacy", "`catalog`: none is given,", "--catalog: none is given,"),
    ("fetch hips", "`hips` 'DSS2': expected", "--hips 'DSS2': expected"),
    ("fetch hips", "`cut` 9, 1: expected", "--cut 9, 1: expected"),
    ("fetch hips", 'expected one, or `format="fits"`', "expected one, or --format fits"),
    # Images that are elsewhere.
    ("train", "`images_dir` needs fsspec", "--images needs fsspec"),
    # Surveys that are named.
    (
        "cite",
        "is not recorded; name the survey with `surveys`",
        "is not recorded; name the survey with --survey",
    ),
    ("cite", "`surveys`: 'x' is unknown; expected one", "--survey: 'x' is unknown; expected one"),
    # Of Python alone: the command has a default.
    ("cite", "`stores`: none, expected at least one", "`stores`: none, expected at least one"),
    # Maps that are scored.
    ("score", "`of` 'x': expected one of 'true'", "--of 'x': expected one of 'true'"),
    ("score", "`cutout_size` 97: expected at most 96", "--cutout-size 97: expected at most 96"),
    ("score", "`part` 'x': expected", "--part 'x': expected"),
    # What exists already.
    (
        "render",
        'f.pdf: already exists; use `if_exists="replace"` to replace it',
        "f.pdf: already exists; use --overwrite to replace it",
    ),
    (
        "render",
        'choose another `path`, or use `if_exists="replace"` to replace both',
        "choose another --out, or use --overwrite to replace both",
    ),
    ("build-maps", 'use `if_exists="update"`', "use --update"),
    (
        "build-maps",
        'use `if_exists="replace"` to train again, or `model` m to explain that network',
        "use --overwrite to train again, or --model m to explain that network",
    ),
    ("build-maps", 'use `layer="auto"`', "use --layer auto"),
    (
        "train",
        '`precision="bfloat16"`: this machine; use `precision="auto"` or `precision="float32"`',
        "--precision bfloat16: this machine; use --precision auto or --precision float32",
    ),
    (
        "render",
        'build it with `method="evidence"`',
        "build it with 'galfig build-maps --method evidence'",
    ),
    (
        "audit",
        'build the maps with `method="hires-cam"`',
        "build the maps with 'galfig build-maps --method hires-cam'",
    ),
    ("build-maps", 'use `precision="float32"`', "use --precision float32"),
    # Flags, and what another command takes.
    ("train", "is gone, use `takeover=True` to go on", "is gone, use --takeover to go on"),
    ("train", "train without `resume` to start over", "train without --resume to start over"),
    (
        "build-maps",
        "run this again (a training continues with `resume`)",
        "run this again (a training continues with 'galfig train --resume')",
    ),
    (
        "build-maps",
        "first: 12; `rejected` lists them",
        "first: 12; 'galfig info --rejected' lists them",
    ),
    (
        "build-maps",
        "explains RGB; `grayscale` has no effect",
        "explains RGB; --grayscale has no effect",
    ),
    (
        "figure",
        'expected one from the finder; train with `lr="auto"`',
        "expected one from the finder; train with 'galfig train --lr auto'",
    ),
    (
        "render",
        'a store of another layer, with `layer="conv2"`',
        "a store of another layer, with 'galfig build-maps --layer conv2'",
    ),
    (
        "render",
        'choose fewer with `n`, or build the store with `store="full"` or `store="native"`',
        "choose fewer with --n, or build the store with 'galfig build-maps --store full' or "
        "'galfig build-maps --store native'",
    ),
    ("render", "name the folder of them with `images`", "name the folder of them with --images"),
    ("render", '`map` is "grad-cam", but its maps', '--map is "grad-cam", but its maps'),
    # Engines.
    (
        "build-maps",
        '`engine="dask"`: needs Dask, which is not installed',
        "--engine dask: needs Dask, which is not installed",
    ),
    (
        "build-maps",
        "`address` 'a=1': expected a number of jobs",
        "--address 'a=1': expected a number of jobs",
    ),
    ("build-maps", "none; choose an `engine`", "none; choose an --engine"),
    ("build-maps", 'use `engine="slurm"` for those', "use --engine slurm for those"),
    # Options with values.
    ("build-maps", 'use `split="all"`, or change [split]', "use --split all, or change [split]"),
    (
        "train",
        '`device="cuda"`: no CUDA device found; use `device="auto"` or `device="cpu"`',
        "--device cuda: no CUDA device found; use --device auto or --device cpu",
    ),
    ("train", "`device` 'gpu': expected 'auto'", "--device 'gpu': expected 'auto'"),
    ("train", "choose another `arch` or `image_size`", "choose another --arch or --image-size"),
    (
        "train",
        "choose a smaller `image_size` or `batch_size`",
        "choose a smaller --image-size or --batch-size",
    ),
    ("build-maps", "choose another `arch` or `image_size`", "choose another --arch or image_size"),
    (
        "import-model",
        "with the normalisation of ImageNet (`mean` 0.5 and `std` 0.2), `cutout_size` 96",
        "with the normalisation of ImageNet (--mean 0.5 and --std 0.2), --cutout-size 96",
    ),
    (
        "import-model",
        "try `by_order=True` only with `check`, `images` and `n_train`",
        "try --by-order only with --check, --images and --n-train",
    ),
    ("import-model", "in the order `class_names` low,high", "in the order --classes low,high"),
    (
        "import-model",
        'they fit `arch="fastai:resnet34"`',
        "they fit --arch fastai:resnet34",
    ),
    ("build-maps", "give it again as `arch`", "give it again as --arch"),
    ("build-maps", "or a `shard_size` below 512", "or a --shard-size below 512"),
    (
        "train",
        "`pretrained`: conv3 is none; choose another `arch`, or give a file by `init`",
        "--pretrained: conv3 is none; choose another --arch, or give a file by --init",
    ),
    ("train", "choose a `layer` from a, b", "choose a --layer from a, b"),
    ("figure", "build it again with an earlier `layer`", "build it again with an earlier layer"),
    ("train", "train with a lower `lr`", "train with a lower --lr"),
    ("build-maps", "another `out` to keep both", "another --out to keep both"),
    ("train", "set [catalog] images or `images_dir`", "set [catalog] images or --images"),
    # What chooses galaxies, and what figures take.
    (
        "render",
        "`zmin` 0.08 is not below `zmax` 0.05, expected a range",
        "--zmin 0.08 is not below --zmax 0.05, expected a range",
    ),
    ("figure", 'colour scale; use `scale="row"`', "colour scale; use --scale row"),
    ("render", "`style` 'tlak': unknown", "--style 'tlak': unknown"),
    ("figure", "`font` 'Arail': not installed", "--font 'Arail': not installed"),
    ("render", "expected some for `correct`", "expected some for --correct/--wrong"),
    ("render", "only `correct=True` or `correct=False`", "only --correct or --wrong"),
    ("render", 'expected some for `sort="loss"`', "expected some for --sort loss"),
    ("render", 'expected some for `sort="redshift"`', "expected some for --sort redshift"),
    (
        "render",
        "`true` 'hihg', expected one of low, high",
        "--true 'hihg', expected one of low, high",
    ),
    ("render", "`predicted` 'hihg'", "--predicted 'hihg'"),
    ("figure", "`objids` '12': not in the other store", "--objid '12': not in the other store"),
    ("build-maps", '`layer="auto"` finds a layer', "--layer auto finds a layer"),
    ("figure", "draw fewer (`n`)", "draw fewer (--n)"),
    ("figure", "`seed` -1: expected 0 or more", "--seed -1: expected 0 or more"),
    ("figure", "`width` 'x', expected column", "--width 'x', expected column"),
    ("render", "`annotate` z: none of these", "--annotate z: none of these"),
    ("render", 'wide, or in a grid (`layout="grid"`)', "wide, or in a grid (--layout grid)"),
    ("render", "`columns` 4: panels of 0.4 inches", "--columns 4: panels of 0.4 inches"),
    (
        "render",
        'draw fewer galaxies (`n`), a grid (`layout="grid"`), or several pages (`pages=True`)',
        "draw fewer galaxies (--n), a grid (--layout grid), or several pages (--pages)",
    ),
    ("figure", "`unit` 'r', expected a column", "--unit 'r', expected a column"),
    ("render", "`classes` 'x': not a class of m.h5", "--classes 'x': not a class of m.h5"),
    ("figure", "name the second with `other`", "name the second with --with"),
    ("figure", "`figure_set` 'x', expected", "--figure-set 'x', expected"),
    ("figure", "name it with `audit`", "name it with --audit"),
    ("figure", "name it with `column`", "name it with --column"),
    ("figure", "`statistic` 'x': no column", "--statistic 'x': no column"),
    # Features.
    (
        "figure",
        "build it with `features=True`, or name its network with `model`",
        "build it with 'galfig build-maps --features', or name its network with --model",
    ),
    ("figure", '`projection="umap"` needs', "--projection umap needs"),
    ("figure", "takes no `cutouts`, it is for", "takes no --cutouts, it is for"),
    ("render", "`like` with `sort` 'loss'", "--like with --sort 'loss'"),
    (
        "figure",
        'audit the store with `measures="deletion,insertion"`',
        "audit the store with 'galfig audit --measures deletion,insertion'",
    ),
    ("audit", "`measures` is empty", "--measures is empty"),
    ("audit", "`r50` 'x': no column", "--r50 'x': no column"),
    ("audit", "`model` is 12ab...", "--model is 12ab..."),
    # What comes from the user or from a file.
    ("render", "`where` '`n` > 1': no column 'n'", "--where '`n` > 1': no column 'n'"),
    ("render", "`where` \"`n` == 'a'\": no column", "--where \"`n` == 'a'\": no column"),
    ("render", r"`where` '`n` == \'a\'': no `zmin`", r"--where '`n` == \'a\'': no --zmin"),
    ("render", "the catalog's `M/L` and `zmin`", "the catalog's `M/L` and --zmin"),
    ("render", "no column called `M_L`", "no column called `M_L`"),
    # Shards of a build.
    ("build-maps", "`shards` '3/2': shares count from 1", "--shards '3/2': shares count from 1"),
    ("build-maps", "each, expected 6; use `shard_size=5`", "each, expected 6; use --shard-size 5"),
    ("build-maps", "`shards` without `model`: each", "--shards without --model: each"),
    (
        "merge",
        'make them with `shards="7,9-12"`',
        "make them with 'galfig build-maps --shards 7,9-12'",
    ),
    (
        "merge",
        'make them with `shards="1/2"` and `shards="2/2"`',
        "make them with 'galfig build-maps --shards 1/2' and 'galfig build-maps --shards 2/2'",
    ),
    ("merge", "leave maps in them with `virtual=True`", "leave maps in them with --virtual"),
    # What a gallery shows.
    ("gallery", "`thumbnail` 8: expected 16 to", "--thumbnail 8: expected 16 to"),
    ("gallery", "`quality` 0: expected 1 to", "--quality 0: expected 1 to"),
    ("gallery", "there; choose another `path`", "there; choose another --out"),
    # How many networks.
    (
        "train",
        'use `networks=5`, or `if_exists="replace"` to remove',
        "use --networks 5, or --overwrite to remove",
    ),
    ("build-maps", "train some with `networks`", "train some with --networks"),
    ("render", "train with `networks=5`, and", "train with 'galfig build-maps --networks 5', and"),
    # Words of figures.
    (
        "figure",
        "maps.h5: `class_names` 'lo': no class of it; did you mean 'low'?",
        "maps.h5: --class-name 'lo': no class of it; did you mean 'low'?",
    ),
    ("render", "maps.h5: `labels` 'oh': no column of it", "maps.h5: --label 'oh': no column of it"),
    (
        "figure",
        "draw it wider (`width`), or fewer maps (`classes`)",
        "draw it wider (--width), or fewer maps (--classes)",
    ),
    ("figure", "figure 'roc': takes no `overlay`", "figure 'roc': takes no --overlay"),
    ("render", "no parameter at all", "no parameter at all"),
    # What is looked at before.
    (
        "catalog check",
        'none was decoded; `decode="all"` finds the damaged ones',
        "none was decoded; --decode all finds the damaged ones",
    ),
    ("catalog check", "`decode` -1: expected a number", "--decode -1: expected a number"),
]


# Parameters that functions of Python have, and no command.
OF_PYTHON = {
    "`ax`",
    "`cmap`",
    "`executor`",
    "`mean`",
    "`objid`",
    "`rows`",
    "`std`",
}


def context(*words):
    """Return the context of a command, as if it ran."""
    ctx = click.Context(main, info_name="galfig")
    for word in words:
        command = ctx.command.get_command(ctx, word)
        ctx = click.Context(command, info_name=word, parent=ctx)
    return ctx


def iter_strings():
    """Give file, and every string constant in it, of the library."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("cli/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield name, node.value


def iter_messages():
    """Give every string of the library that is no docstring."""
    for path in sorted(ROOT.rglob("*.py")):
        if path.relative_to(ROOT).parts[0] == "cli":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docs
            ):
                yield node.value


@pytest.mark.parametrize(("command", "library", "terminal"), MESSAGES)
def test_parameters_become_options(command, library, terminal):
    """Each kind of message, for the command that prints it."""
    assert translate(library, context(*command.split())) == terminal


def test_manuscripts_have_keys_and_no_options():
    """What a manifest says by key loses the backticks, and nothing else."""
    message = '`zmin` 0.08 is not below `zmax` 0.05; `other`, `sort="loss"`'
    words = translate(message, context("manuscript", "check"))
    assert words == 'zmin 0.08 is not below zmax 0.05; other, sort="loss"'


def test_the_library_names_no_option():
    """No string outside cli/ speaks of an option such as --zmin."""
    for name, words in iter_strings():
        if re.search(r"--[a-z]", words):
            assert words in ALLOWED.get(name, ()), f"{name}: {words}"


def test_every_parameter_in_a_message_is_in_the_table():
    """What the library has in backticks is a parameter, and its translation is tried above."""
    tried = " ".join(library for _, library, _ in MESSAGES)
    named = {
        token for words in iter_messages() for token in re.findall(r"`[a-z]\w*[^`\s]*`", words)
    }
    assert len(named) > 20
    assert sorted(token for token in named - OF_PYTHON if token not in tried) == []


@pytest.mark.parametrize(
    ("query", "options", "library", "terminal"),
    [
        (
            {"zmin": 0.2, "zmax": 0.1},
            ["--zmin", "0.2", "--zmax", "0.1"],
            "`zmin` 0.2 is not below `zmax` 0.1, expected a range",
            "--zmin 0.2 is not below --zmax 0.1, expected a range",
        ),
        (
            {"true": "hihg"},
            ["--true", "hihg"],
            "maps.h5: `true` 'hihg', expected one of low, high",
            "maps.h5: --true 'hihg', expected one of low, high",
        ),
        (
            {"where": "`n` > 1"},
            ["--where", "`n` > 1"],
            "`where` '`n` > 1': no column 'n', expected a column, or text in quotes; there are "
            "'objID', 'z', 'M/L', 'seed'",
            "--where '`n` > 1': no column 'n', expected a column, or text in quotes; there are "
            "'objID', 'z', 'M/L', 'seed'",
        ),
        (
            {"where": "`M/L` > 9 and `seed` > 9"},
            ["--where", "`M/L` > 9 and `seed` > 9"],
            "maps.h5: no galaxy where '`M/L` > 9 and `seed` > 9'",
            "maps.h5: no galaxy where '`M/L` > 9 and `seed` > 9'",
        ),
        (
            {"objids": ("12",)},
            ["--objid", "12"],
            "maps.h5: no galaxy '12'; it holds 12 others, of split 'valid'; a store of split 'all' "
            "holds every one",
            "maps.h5: no galaxy '12'; it holds 12 others, of split 'valid'; a store of split 'all' "
            "holds every one",
        ),
    ],
)
def test_one_error_in_both_languages(make_store, monkeypatch, query, options, library, terminal):
    """What a notebook shows, and what the terminal does; columns in backquotes survive in both."""
    path = make_store(catalog={"M/L": [1.0] * 12, "seed": [1] * 12})
    monkeypatch.chdir(path.parent)
    with open_store(Path("maps.h5")) as store, pytest.raises(GalfigError) as caught:
        select_galaxies(store, Query(**query))
    assert str(caught.value) == library
    found = CliRunner().invoke(main, ["render", "maps.h5", *options])
    assert found.exit_code == 1
    assert found.stderr == f"galfig: error: {terminal}\n"


@pytest.mark.slow
def test_warnings_are_translated_too(make_store, monkeypatch):
    """A logger speaks of parameters like an error."""
    path = make_store(n=40, size=8, map_size=4)
    monkeypatch.chdir(path.parent)
    found = CliRunner().invoke(main, ["render", "maps.h5", "--n", "30"])
    assert found.exit_code == 0, found.output
    assert found.stderr.startswith("warning: panels: ")
    assert found.stderr.endswith("draw fewer galaxies (--n) or several pages (--pages)\n")
