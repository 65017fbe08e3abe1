"""A stranger's manuscript: nothing that it brings is run, and nothing outside it is written."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paper import MANIFEST, STEPS, build

from galfig.errors import GalfigError
from galfig.manuscript.build import build_manuscript
from galfig.manuscript.check import check_manuscript
from galfig.manuscript.latex import compile_paper
from galfig.manuscript.manifest import Step
from galfig.manuscript.steps import run_steps

pytestmark = [pytest.mark.slow, pytest.mark.faults]

ROOT = Path(__file__).resolve().parents[2]
# What writes a file wherever Python, pytest, latexmk or a shell runs it.
PYTHON = "import pathlib; pathlib.Path({mark!r}).touch()\n"
PLANTED = {
    **dict.fromkeys(
        (
            *("galfig/__init__.py", "galfig/__main__.py", "galfig/cli/__init__.py"),
            *("click.py", "click/__init__.py", "numpy.py", "numpy/__init__.py", "matplotlib.py"),
            *("h5py.py", "pydantic.py", "tomllib.py", "json.py", "typing.py", "torch.py"),
            *("sitecustomize.py", "usercustomize.py", "conftest.py", "setup.py"),
        ),
        PYTHON,
    ),
    "planted.pth": "import pathlib; pathlib.Path({mark!r}).touch()\n",
    **dict.fromkeys((".latexmkrc", "latexmkrc"), "system('touch', '{mark}');\n"),
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-p planted'\n",
    "paper.mplstyle": "text.usetex: True\n",
    "matplotlibrc": "text.usetex: True\npgf.texsystem: {mark}\n",
    "Makefile": "all:\n\ttouch {mark}\n",
}


def plant(folder, mark):
    for name, words in PLANTED.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words.format(mark=str(mark)))


def digest_tree(folder):
    """Return names, kinds, times and content of everything in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[path] = (status.st_mode, status.st_mtime_ns, hashlib.sha256(data).digest())
    return found


def run(arguments, folder):
    """Run galfig in a manuscript's folder, as users do that are inside it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [shutil.which("galfig", path=Path(sys.executable).parent), "manuscript", *arguments]
    if command[0] is None:
        pytest.skip("galfig is not installed beside this Python")
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_planted_code_runs_where_python_finds_it(tmp_path):
    """The tests below could fail: each module here is run by whoever imports it."""
    for name in ("click", "galfig.cli", "sitecustomize"):
        plant(tmp_path, tmp_path / "mark")
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); import {name}"]
        subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True)
        (tmp_path / "mark").unlink()


def test_check_runs_nothing_and_writes_nothing(paper, tmp_path, campaign):
    """Of a pull request with code of every kind, from inside its folder; nor does list."""
    build(paper)
    plant(paper, tmp_path / "mark")
    before = digest_tree(tmp_path)
    for command in ("check", "list"):
        with campaign.trial("manuscript of a stranger: planted code"):
            done = run([command, "."], paper)
            assert done.returncode == 0, done.stderr
            assert digest_tree(tmp_path) == before
    done = subprocess.run(
        [sys.executable, "-P", "-m", "galfig", "manuscript", "check", "."],
        cwd=paper,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert digest_tree(tmp_path) == before


def test_python_m_imports_no_library_from_the_folder(paper, tmp_path):
    """A module that galfig itself uses, where Python puts the working directory first."""
    build(paper)
    (paper / "click.py").write_text(PYTHON.format(mark=str(tmp_path / "mark")))
    done = subprocess.run(
        [sys.executable, "-m", "galfig", "manuscript", "check", "."],
        cwd=paper,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "mark").exists()


def test_steps_run_galfig_and_no_code_of_the_folder(paper, tmp_path, monkeypatch):
    """Whatever stands in the folder, and however the environment names it."""
    with (paper / "manuscript.toml").open("a") as file:
        file.write(STEPS)
    plant(paper, tmp_path / "mark")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(paper), str(ROOT)]))
    monkeypatch.setenv("PYTHONSTARTUP", str(paper / "sitecustomize.py"))
    monkeypatch.setattr(sys, "path", ["", ".", str(paper), *sys.path])
    build_manuscript(paper, only_stores=True)
    assert (paper / "data/catalog.csv").is_file()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("command", "link"),
    [
        ("galfig simulate data --n 2", "data"),
        ("galfig simulate data --n 2", "data/images"),
        ("galfig simulate data --n 2", "data/catalog.csv"),
        ("galfig train --out m.safetensors", "m.safetensors.lock"),
        ("galfig train --out m.safetensors", "m.resume.safetensors"),
        ("galfig train --out m.safetensors", "data/simulated"),
        ("galfig build-maps --out x.h5", "x.h5"),
        ("galfig build-maps --out x.h5", "x.h5.lock"),
        ("galfig build-maps --out x.h5", "x.h5.parts"),
        ("galfig build-maps --out x.h5", "x.h5.parts/000000.h5"),
        ("galfig build-maps --out x.h5", "x.safetensors"),
        ("galfig build-maps --out x.h5", "data"),
        ("galfig build-maps --config sub/galfig.toml --out x.h5", "sub"),
    ],
)
def test_steps_write_through_no_link(tmp_path, campaign, command, link):
    """Their file, its lock and parts, a network on the way, and the built-in sample."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / link).parent.mkdir(parents=True)
    (outside / "images").mkdir(parents=True)
    (outside / "thesis.h5").write_text("years of work")
    (inside / link).symlink_to(outside / "thesis.h5" if "." in Path(link).name else outside)
    with campaign.trial("manuscript of a stranger: link"):
        with pytest.raises(GalfigError, match="is a symbolic link"):
            run_steps(inside, (Step(command=command, makes="absent"),), {})
        assert sorted(path.name for path in outside.rglob("*")) == ["images", "thesis.h5"]
        assert (outside / "thesis.h5").read_text() == "years of work"


@pytest.mark.parametrize(
    "link",
    [
        *("figures", "captions", "figures/panels.pdf", "captions/panels.tex"),
        *("captions/panels.alt.txt", "values.tex", "galaxies.tex", "manuscript.lock"),
    ],
)
def test_build_and_check_follow_no_link(paper, tmp_path, link):
    """Nothing is written outside, and nothing of a file outside is told."""
    build(paper)
    outside = tmp_path / "outside"
    if (paper / link).is_dir():
        (paper / link).rename(outside)
    else:
        (paper / link).unlink()
        outside.write_text("root:x:0:0\n" * 100)
    (paper / link).symlink_to(outside)
    before = digest_tree(tmp_path)
    try:
        found = [f"{one.path} {one.what}" for one in check_manuscript(paper)]
        assert any("is a symbolic link" in words for words in found)
    except GalfigError as exc:
        found = [str(exc)]
        assert "is a symbolic link" in found[0]
    assert not any("root:x" in words for words in found)
    with pytest.raises(GalfigError, match="is a symbolic link"):
        build_manuscript(paper)
    after = digest_tree(tmp_path)
    assert {path: after[path] for path in before if "outside" in str(path)} == {
        path: state for path, state in before.items() if "outside" in str(path)
    }


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="no latexmk")
def test_tex_runs_no_program_and_writes_nothing_outside(paper, tmp_path):
    """No shell escape, no latexmkrc, no file above the folder; and none is read there."""
    plant(paper, tmp_path / "mark")
    (tmp_path / "secret.tex").write_text("SECRET")
    lines = [
        r"\documentclass{article}\begin{document}x",
        rf"\immediate\write18{{touch {tmp_path / 'mark'}}}",
        r"\IfFileExists{../secret}{\errmessage{read above}}{}",
        rf"\IfFileExists{{{tmp_path / 'secret'}}}{{\errmessage{{read elsewhere}}}}{{}}",
        r"\end{document}",
    ]
    (paper / "paper.tex").write_text("\n".join(lines))
    pdf, _ = compile_paper(paper, "paper.tex")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert not (tmp_path / "mark").exists()
    (paper / "paper.tex").write_text(
        r"\documentclass{article}\begin{document}\newwrite\f\immediate\openout\f=../out.txt x"
        r"\end{document}"
    )
    with pytest.raises(GalfigError):
        compile_paper(paper, "paper.tex")
    assert not (tmp_path / "out.txt").exists()
    shutil.rmtree(paper / "build")
    (tmp_path / "elsewhere").mkdir()
    for link, target in (("build", "elsewhere"), ("paper.tex", "secret.tex")):
        if (paper / link).exists():
            (paper / link).unlink()
        (paper / link).symlink_to(tmp_path / target)
        with pytest.raises(GalfigError, match="is a symbolic link"):
            compile_paper(paper, "paper.tex")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_list_of_galaxies_is_no_link(paper, tmp_path):
    """What it leads to would be read, and named in an error."""
    (paper / "manuscript.toml").write_text(pick("@picks.txt"))
    (tmp_path / "secret.txt").write_text("hunter2\n")
    (paper / "picks.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(GalfigError, match="is a symbolic link") as caught:
        build_manuscript(paper)
    assert "hunter2" not in str(caught.value)


def claim(words):
    return MANIFEST.replace("[stores]", f"{words}\n[stores]")


def pick(name):
    return MANIFEST.replace("n = 2, zmin = 0.03", f'objids = "{name}"')


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (MANIFEST + 'file = "paper.pdf"', "figure 'panels': would write 'paper.pdf', .* the paper"),
        (MANIFEST + 'file = "Paper.PDF"', "expected .pdf"),
        (MANIFEST + 'file = "PAPER.pdf"', "figure 'panels': would write 'PAPER.pdf', .* the paper"),
        (MANIFEST + 'file = "values.tex/a.pdf"', "which is below that of the numbers"),
        (MANIFEST + 'file = "build/a.pdf"', "which is below that of the paper"),
        (MANIFEST + 'file = "maps.h5/a.pdf"', "which is below that of a step or store"),
        (MANIFEST + 'file = "figures/confusion.pdf"', "which is that of figure 'confusion'"),
        (MANIFEST + 'file = "figures/Confusion.pdf"', "which is that of figure 'confusion'"),
        (MANIFEST.replace('"panels"\nfig', '"Confusion"\nfig'), "which is that of figure"),
        (claim('tex = "captions/panels.tex"'), "figure 'panels': .* the paper"),
        (claim('tex = "values.tex"'), "the paper: would write 'values.tex'"),
        (MANIFEST.replace('"maps.h5"', '"galfig.toml"'), "a step or store: .* the settings"),
        (MANIFEST.replace('"maps.h5"', '"figures/panels.pdf"'), "'panels': .* a step or store"),
        (MANIFEST + STEPS.replace("data/catalog.csv", "manuscript.toml"), "the manifest"),
        (MANIFEST + STEPS.replace("simulate data", "simulate figures/panels.pdf"), "below that"),
        (MANIFEST + STEPS + STEPS, "is made twice"),
        (claim('tex = "-pdflatex=touch PWNED;"'), "begins with a letter"),
        (claim('tex = "paper$(touch x).tex"'), "begins with a letter"),
        (claim('tex = "my paper.tex"'), "expected the name of a file .tex, without blanks"),
        (claim('tex = "paper.pdf"'), "expected the name of a file .tex"),
        (MANIFEST + 'file = "a.pdf:\\nall:\\n\\ttouch x;.pdf"', "begins with a letter"),
        ("x = " + "[" * 20000 + "]" * 20000, "nested more than 64 levels deep"),
        ("x = " + "{a = " * 5000 + "1" + "}" * 5000, "nested more than 64 levels deep"),
        ("x = " + "9" * 5000, "not valid TOML"),
        ('x = "\\ud800"', "not valid TOML"),
        ("x" * (1 << 20) + " = 1", "larger than 1048576 bytes"),
        (MANIFEST + 'unit = "' + "y" * 100_000 + '"', "takes no"),
        (pick("@../picks.txt"), "leaves the folder"),
        (pick("@/etc/passwd"), "leaves the folder"),
        (pick("@galfig.toml"), "expected a text file .txt"),
        (pick("@values.tex/a.txt"), "which is below that of the numbers"),
        (pick("@captions/panels.alt.txt"), "'panels': .* that of a list of galaxies"),
    ],
    ids=range(32),
)
def test_manifests_of_strangers_are_refused(paper, campaign, words, message):
    """Where two things would write one file, and where a name or a value is no plain one."""
    (paper / "manuscript.toml").write_text(words)
    with campaign.trial("manuscript of a stranger: manifest"):
        with pytest.raises(GalfigError, match=message) as caught:
            build_manuscript(paper)
        assert str(caught.value).startswith(f"{paper / 'manuscript.toml'}: ")
        assert len(str(caught.value)) < 1000
        assert {path.name for path in paper.iterdir()} == {"maps.h5", "manuscript.toml"}
