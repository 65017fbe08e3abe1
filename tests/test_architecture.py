"""The arrows between packages point one way, and what is heavy stays where it belongs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import galfig

ROOT = Path(galfig.__file__).parent
# A room may import those of the lines before its own, and itself.
TIERS = (
    ("errors", "metrics", "cosmology", "components", "sky"),
    ("runtime",),
    ("config",),
    ("records", "images", "attribution", "tables"),
    ("catalog", "store"),
    ("networks", "figures", "survey"),
    ("pipeline", "manuscript", "plot", "gallery", "citing"),
    ("export",),
    ("auditing",),
    ("truth",),
    ("info",),
    ("verify",),
    ("cli",),
)
RANK = {room: tier for tier, rooms in enumerate(TIERS) for room in rooms}
# Where a library may be imported.
HOMES = {
    "torch": {"attribution", "networks", "pipeline", "auditing"},
    "fastai": {"networks"},
    "accelerate": {"networks"},
    "safetensors": {"networks"},
    "h5py": {"store", "catalog", "images"},
    "matplotlib": {"figures"},
    "click": {"cli"},
    "pyarrow": {"catalog", "images", "tables"},
    "fsspec": {"runtime"},
    "captum": {"attribution"},
    "distributed": {"pipeline"},
    "ray": {"pipeline"},
    "submitit": {"pipeline"},
    "umap": {"figures"},
    "httpx": {"survey"},
}
# Beside the standard library and itself, all that a room may know.
ONLY = {"attribution": {"torch", "captum"}}
# Lower rooms that these do without all the same: a reader of stores needs no network.
FORBIDDEN = {"store": {"attribution", "images"}, "figures": {"attribution", "images"}}


def find_imports(path):
    """Give the modules that a file imports when it runs, those inside functions among them."""
    found = set()

    def visit(node):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in node.orelse if is_for_types else ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def may_import(room, module):
    """Tell whether a room may import a module, of galfig or of a library."""
    library, *inside = module.split(".")
    if library != "galfig":
        is_free = library in sys.stdlib_module_names or library in ONLY.get(room, {library})
        return is_free and room in HOMES.get(library, {room})
    target = inside[0] if inside else ""
    if target == room or target not in RANK:
        return True
    return RANK[target] < RANK[room] and room not in ONLY and target not in FORBIDDEN.get(room, ())


def find_violations(root):
    """Return a line for each import against the rule."""
    found = []
    for path in sorted(root.rglob("*.py")):
        room = path.relative_to(root).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        if room not in RANK:
            found.append(f"{room}: no room of this house")
            continue
        where = path.relative_to(root)
        for module in sorted(find_imports(path)):
            if not may_import(room, module):
                found.append(f"{where} imports {module}")
    return found


def test_arrows_point_one_way():
    """No package imports what stands above or beside it, and libraries stay in their packages."""
    assert find_violations(ROOT) == []


@pytest.mark.parametrize("package", ["store", "figures"])
def test_reading_and_drawing_do_without_networks(package):
    """Nothing that a store or a figure imports, however indirectly, is torch or brings it."""
    from galfig.manuscript.code import list_modules

    modules = list_modules(
        *(
            ".".join(("galfig", *path.relative_to(ROOT).with_suffix("").parts))
            for path in (ROOT / package).glob("*.py")
        )
    )
    assert len(modules) > 5
    assert not [name for name in modules if name.split(".")[1:2] in (["networks"], ["attribution"])]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("store/reader.py", "import torch"),
        ("store/reader.py", "def f():\n    from galfig.networks.checkpoint import load_checkpoint"),
        ("figures/roc.py", "from galfig import attribution"),
        ("attribution/engine.py", "import numpy"),
        ("attribution/engine.py", "from galfig.errors import ConfigError"),
        ("images/fits.py", "import matplotlib"),
        ("cli/build_maps.py", "import ray"),
        ("metrics.py", "from galfig.config import Settings"),
        ("runtime/files.py", "import click"),
        ("helpers.py", ""),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, words):
    """The rule is one that can be broken."""
    path = tmp_path / "galfig" / file
    path.parent.mkdir(parents=True)
    path.write_text(words)
    assert len(find_violations(tmp_path / "galfig")) >= 1


def test_types_alone_are_no_arrow(tmp_path):
    """What only a type checker imports does not run."""
    (tmp_path / "galfig").mkdir()
    words = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
    (tmp_path / "galfig" / "metrics.py").write_text(words)
    assert find_violations(tmp_path / "galfig") == []


def test_a_test_of_conditions_does_not_wait_for_torch():
    """Neither conftest and its samples nor what reads and draws a store imports torch."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import conftest, samples\n"
        "import galfig.store.conditions, galfig.store.reader, galfig.plot\n"
        "sys.exit('torch' in sys.modules)"
    )
    tests = str(Path(__file__).parent)
    assert subprocess.run([sys.executable, "-c", code, tests], check=False).returncode == 0


# Calls that open a path for reading, whoever owns it. What is read goes through runtime.inputs.
OPENERS = {
    "open",
    "read_text",
    "read_bytes",
    "fdopen",
    "fromfile",
    "memmap",
    "loadtxt",
    "genfromtxt",
}
OPENERS |= {"read_csv", "read_parquet", "read_table", "read_json", "safe_open", "load_file", "File"}
OPENERS |= {"ParquetFile"}
# Where a file is opened otherwise, and why.
OPENED = {
    "runtime/inputs.py": "the opener",
    "runtime/machine.py": "files of the kernel",
    "runtime/process.py": "files of the kernel",
    "runtime/lock.py": "the lock itself, which is locked by its descriptor",
    "runtime/files.py": "files that are being written",
    "images/cutouts.py": "the temporary file of decoded images",
    "images/fits.py": "bytes in memory",
    "images/arrays.py": "HDF5 opens by name; a file that is no regular one is refused before",
    "images/raster.py": "bytes in memory",
    "catalog/arrow.py": "bytes in memory, or a file that is open",
    "images/parquet.py": "a file that is open",
    "catalog/formats.py": "`read_table` of HDF5, which is given the open file",
    "catalog/hdf5.py": "bytes in memory",
    "catalog/tables.py": "bytes in memory",
    "catalog/text.py": "bytes in memory",
    "catalog/galaxies.py": "`read_table` of formats, which is given the bytes",
    "catalog/picks.py": "the same `read_table`, which reads by runtime.inputs",
    "networks/importing.py": "the same `read_table`, which reads by runtime.inputs",
    "store/hdf5.py": "HDF5 opens by name; a file that is no regular one is refused before",
    "store/content.py": "the same file again, for the bytes of its chunks",
    "store/gate.py": "objects within a file that is open",
    "store/spans.py": "the same",
    "export/crate.py": "files that are being written",
    "pipeline/parts.py": "the folder of the parts, by its descriptor",
    "survey/planes.py": "bytes in memory",
    "survey/positions.py": "`read_table` of formats, which is given the bytes",
    "manuscript/folder.py": "below the folder's descriptor, regular files only",
    "store/reader.py": "the same, and the first bytes of a file that HDF5 refused",
    **{f"tables/{name}.py": "files that are being written" for name in ("mrt", "parquet", "text")},
    "tables/fits.py": "bytes in memory, and the file that is being written",
    "figures/save.py": "captions, beside the figure, that are about to be written",
    "citing/bibliography.py": "the files of galfig itself",
    "survey/manifest.py": "a file that is being written",
    "gallery/main.py": "the files of the page, which are of galfig itself",
    "manuscript/build.py": "texts that are about to be written",
    "manuscript/check.py": "files of the manuscript, where they are regular ones",
    "manuscript/code.py": "the source of galfig itself",
    "truth/known.py": "`read_table` of formats, which reads by runtime.inputs",
    "truth/maps.py": "members of an archive that is open",
    "cli/__init__.py": "the null device",
}


def find_openings(root):
    """Return the files that open or read a path by themselves, with the first such call."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name in OPENERS:
                found.setdefault(path.relative_to(root).as_posix(), f"{name} in line {node.lineno}")
    return found


def test_every_input_goes_through_the_opener():
    """A named pipe under any name would otherwise be waited for, and a device read for ever."""
    found = find_openings(ROOT)
    assert {file: call for file, call in found.items() if file not in OPENED} == {}
    assert sorted(set(OPENED) - set(found)) == []


@pytest.mark.parametrize(
    "words",
    ["open('x')", "path.read_bytes()", "Path('x').read_text()", "pd.read_csv(path)", "os.open(p)"],
)
def test_a_planted_opening_is_found(tmp_path, words):
    """The rule is one that can be broken."""
    (tmp_path / "new.py").write_text(words)
    assert list(find_openings(tmp_path)) == ["new.py"]
