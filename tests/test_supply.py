"""What galfig is made of and may do: pinned actions, no unpickling, no shell, no network."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hatchling.builders.sdist import SdistBuilder
from packaging.requirements import Requirement
from packaging.version import Version

import galfig.cli
from galfig.networks.architectures import build_network

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MODULES = sorted((ROOT / "galfig").rglob("*.py"))

# Calls that run what a file or a text says, or that hand words to a shell.
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__"),
    *("torch.load", "torch.jit.load", "torch.package", "load_learner"),
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("read_pickle", "to_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("os.system", "os.popen", "os.exec", "os.spawn", "subprocess.getoutput"),
}
UNSAFE_OPTIONS = {"allow_pickle": True, "shell": True, "weights_only": False}


def find_unsafe(source):
    """Return line and name of each call or import that could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Call):
            names = [ast.unparse(node.func)]
            options = {word.arg: getattr(word.value, "value", ...) for word in node.keywords}
            # A value that is not written out could be anything.
            names += [
                f"{option}="
                for option, unsafe in UNSAFE_OPTIONS.items()
                if options.get(option, not unsafe) is not (not unsafe)
            ]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
        if isinstance(node, ast.Call) and names == ["torch.load"] and is_for_weights(node):
            continue
        found += [(node.lineno, name) for name in names if is_unsafe(name)]
    return found


def is_for_weights(call):
    """Tell whether torch.load is told, in so many words, to restore tensors and nothing else."""
    options = {word.arg: getattr(word.value, "value", ...) for word in call.keywords}
    return options.get("weights_only") is True


def is_unsafe(name):
    """Tell whether a dotted name is forbidden, by its beginning, or a method by its end."""
    is_known = any(name == word or name.startswith(f"{word}.") for word in FORBIDDEN)
    last = name.rpartition(".")[2]
    return is_known or name.endswith("=") or last in {"read_pickle", "to_pickle", "load_learner"}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from torch import load\nimport torch\ntorch.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=asked)",
        "torch.load(path, weights_only=False)",
        "torch.load(path)",
        "torch.load(path, weights_only=asked)",
        "torch.load(path, **options)",
        "subprocess.run(words, shell=True)",
        "eval(words)",
        "os.system(words)",
        "pd.read_pickle(path)",
        "from joblib import load",
        "from fastai.learner import load_learner",
        "yaml.load(stream)",
    ],
)
def test_unsafe_calls_are_seen(source):
    """The test below could fail: each kind of call is found where it is."""
    assert find_unsafe(source)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_or_given_to_a_shell(module):
    """No module loads a pickle, runs a text as code, or starts a shell."""
    assert find_unsafe(module.read_text()) == []
    assert find_unsafe("model.eval()\nre.compile('a')\nlayer.exec_()") == []
    assert find_unsafe("torch.load(data, weights_only=True)") == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_pinned_and_may_only_read(path):
    """Each action is named by its commit, with the version beside; no token can write anything."""
    words = path.read_text()
    uses = re.findall(r"^\s*(?:- )?uses: *(.*)$", words, flags=re.MULTILINE)
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    workflow = yaml.safe_load(words)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_install_by_hash(path):
    """Each package that a workflow installs is an exact version, checked by its hash."""
    words = path.read_text()
    for line in re.findall(r"^.*\bpip install\b.*$", words, flags=re.MULTILINE):
        assert "--require-hashes" in line
    for job in yaml.safe_load(words)["jobs"].values():
        made = {
            word
            for step in job["steps"]
            for line in step.get("run", "").splitlines()
            if line.startswith("make ")
            for word in line.split()[1:]
        }
        assert made <= {"test-lowest"} or job["env"]["LOCKED"] == "1"


def read_pins(name):
    """Return the version of each package in a file of requirements; each has its hashes."""
    pins = {}
    for entry in re.split(r"\n(?=[a-z])", (ROOT / "requirements" / name).read_text()):
        if found := re.match(r"([a-z0-9._-]+)==(\S+)", entry):
            assert "--hash=sha256:" in entry, found[1]
            pins.setdefault(found[1], []).append(found[2])
    return pins


def test_the_lowest_packages_are_those_that_pyproject_allows():
    """The bounds of pyproject.toml are what `make test-lowest` tries, to the digit."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + project["optional-dependencies"]["test"]
    lowest, newest = read_pins("lowest.txt"), read_pins("ci.txt")
    for requirement in map(Requirement, named):
        name = requirement.name.lower()
        (bound,) = requirement.specifier
        (pin,) = lowest[name]
        assert bound.operator == ">="
        # The lowest release that satisfies a bound may have more digits: 8.1 is 8.1.0.
        assert Version(pin).release[: len(Version(bound.version).release)] == (
            Version(bound.version).release
        )
        assert all(requirement.specifier.contains(version) for version in newest[name])


def test_the_source_distribution_holds_what_is_tracked_and_nothing_else(tmp_path):
    """It has the documentation and the tests, and nothing that an editor leaves beside them."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a clone")
    for name in tracked:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for stray in ("docs/index.md~", "tests/notes.txt", "maps.h5", "data/catalog.csv"):
        (tmp_path / stray).write_text("stray")
    held = {file.distribution_path for file in SdistBuilder(tmp_path).recurse_included_files()}
    kept_out = {"manuscripts", ".ci", ".gitignore", "LICENSE", "pyproject.toml"}
    expected = {name for name in tracked if name.split("/")[0] not in kept_out}
    # The builder adds the license and pyproject.toml by itself.
    assert held == expected


def test_packages_are_audited_each_week():
    """A job runs pip-audit at each change and on a schedule."""
    (workflow,) = [path.read_text() for path in WORKFLOWS if "pip-audit" in path.read_text()]
    assert re.search(r"schedule:\s+- cron: \"\d+ \d+ \* \* \d\"", workflow)


def test_pyarrow_that_unpickles_is_refused():
    """Before 14.0.1 pyarrow unpickled what a Parquet file's schema holds (CVE-2023-47248)."""
    words = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'"pyarrow>=(14\.0\.1|1[5-9]|[2-9]\d)', words)


OFFLINE = """
import socket, sys
def refuse(*args, **options):
    open(sys.argv[1], "a").write(f"{args}\\n")
    raise OSError("no network here")
# Not bind: at its import urllib3 binds one to see whether there is IPv6, and sends nothing.
for name in ("connect", "connect_ex", "sendto", "sendmsg"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
from galfig.cli import main
for line in sys.stdin.read().splitlines():
    print(line, file=sys.stderr)
    main(line.split(), standalone_mode=False)
"""
COMMANDS = """fetch sdss sky --dry-run
simulate data/simulated --n 100
fetch legacy sky --catalog galaxies.csv --dry-run
fetch hips sky --catalog galaxies.csv --hips CDS/P/SDSS9/color --dry-run
catalog from-folders folders --out folders.csv
catalog check data/simulated/catalog.csv --decode all
train --config galfig.toml --out model.safetensors
build-maps --config galfig.toml --model model.safetensors
build-maps --config galfig.toml --model model.safetensors --shards 1/1 --out merged.h5
merge merged.h5
import-model fastai.pth --arch fastai:squeezenet1_1 IMAGES --out a.safetensors
import-model timm.pth --arch timm:resnet18 IMAGES --out b.safetensors
layers a.safetensors
render --n 2
gallery maps.h5 --out gallery
figure --list
figure roc
figure reliability --data p.ecsv
cite maps.h5 --out software.bib
subset --n 2 --out s.h5
export --table t.fits --maps m.fits --objid @s.h5
manuscript list paper
manuscript build paper
info maps.h5
info roc.pdf
export maps.h5 --crate crate --include model.safetensors --config publication.toml
info model.safetensors --json
verify maps.h5 model.safetensors
audit maps.h5 --model model.safetensors --measures common-mode
simulate cue --n 8 --cue core
score cue.npy --truth cue
"""
MANIFEST = """
[stores]
a = "maps.h5"
[[figure]]
name = "c"
figure = "confusion-matrix"
store = "a"
"""
IMAGES = "--classes low,high --mean 0.1,0.1,0.1 --std 0.2,0.2,0.2 --cutout-size 64"


@pytest.mark.slow
def test_no_command_uses_the_network(tmp_path, store_path):
    """Every command works where a socket that connects, and a name that is looked up, fail."""
    (tmp_path / "galfig.toml").write_text(
        "[training]\nepochs = 1\nbatch_size = 8\ncutout_size = 32\n"
    )
    (tmp_path / "galaxies.csv").write_text("objID,ra,dec\na,1,2\n")
    (tmp_path / "publication.toml").write_text(
        '[publication]\ntitle = "T"\nlicense = "MIT"\nauthors = [{ name = "A" }]\n'
    )
    for word in ("disc", "smooth"):
        (tmp_path / "folders" / word).mkdir(parents=True)
        (tmp_path / "folders" / word / f"{word}.jpg").write_bytes(b"an image")
    np.save(tmp_path / "cue.npy", np.random.default_rng(0).normal(size=(8, 48, 48)))
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "manuscript.toml").write_text(MANIFEST)
    store_path.rename(tmp_path / "paper" / "maps.h5")
    for name, arch in {"fastai": "fastai:squeezenet1_1", "timm": "timm:resnet18"}.items():
        torch.save(build_network(arch, 2).state_dict(), tmp_path / f"{name}.pth")
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "asked"],
        input=COMMANDS.replace("IMAGES", IMAGES),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "asked").exists()
    commands = {line.split()[0] for line in COMMANDS.splitlines()}
    assert commands == set(galfig.cli.COMMANDS)
    assert (tmp_path / "p.ecsv").is_file()


@pytest.mark.slow
def test_fetch_alone_asks_for_a_name(tmp_path):
    """The test above could fail: what galfig is asked to fetch, it looks up, and says so."""
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "asked"],
        input="fetch sdss sky --n 1 --base-url http://galaxies.invalid",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "no_proxy": "*"},
    )
    assert done.returncode == 1
    assert "galaxies.invalid" in (tmp_path / "asked").read_text()
    assert "SkyServer: no catalog, cannot connect to 'galaxies.invalid' (no network" in done.stderr
