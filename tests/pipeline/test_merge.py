"""Many processes: parts that several of them make, and the store that is merged of these."""

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner
from samples import build_at, explain_at, load_with_settings, make_checkpoint

from galfig import build_parts, merge_maps
from galfig.catalog.galaxies import load_galaxies
from galfig.cli import main
from galfig.errors import (
    CatalogError,
    ConfigError,
    DamagedPartError,
    LockError,
    OutputError,
    StoreError,
)
from galfig.info import describe_file
from galfig.networks.checkpoint import save_checkpoint
from galfig.pipeline import build, work
from galfig.pipeline.explain import explain_galaxies
from galfig.runtime.lock import hold_lock
from galfig.store.reader import open_store

pytestmark = pytest.mark.usefixtures("at_one_time")


def list_names(path):
    return sorted(part.name for part in path.with_name(f"{path.name}.parts").iterdir())


def test_parts_of_several_processes_make_the_same_store(galaxy_folder, tmp_path, checkpoint, whole):
    """Byte for byte, in whatever order the shards are explained, and without catalog and images."""
    path = tmp_path / "maps.h5"
    assert list(explain_at(path, galaxy_folder, checkpoint, "2/2", shard_size=5)) == [2, 3, 4]
    assert not path.exists()
    assert list_names(path) == ["000002.h5", "000003.h5", "000004.h5", "outline.h5"]
    assert list(explain_at(path, galaxy_folder, checkpoint, "0-1", shard_size=5)) == [0, 1]
    galaxy_folder.rename(tmp_path / "elsewhere")
    with merge_maps(path) as store:
        assert len(store) == 24
    assert path.read_bytes() == whole.read_bytes()
    assert not path.with_name("maps.h5.parts").exists()


def test_parts_are_continued_by_a_whole_build(galaxy_folder, tmp_path, checkpoint, whole, caplog):
    """What is there is not explained again."""
    path = tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "1,3", shard_size=5)
    with caplog.at_level("INFO", "galfig"):
        build_at(path, galaxy_folder, checkpoint, shard_size=5)
    assert "2 of 5 shards are done" in caplog.text
    assert path.read_bytes() == whole.read_bytes()


def test_rejected_galaxies_are_those_of_a_whole_build(galaxy_folder, tmp_path, checkpoint):
    """Before sharding and in the shards; the catalog of the store lacks both."""
    galaxies, _ = load_with_settings(galaxy_folder)
    galaxies.paths[3].write_bytes(b"no image")
    galaxies.paths[23].write_bytes(b"")
    build_at(tmp_path / "whole.h5", galaxy_folder, checkpoint, shard_size=5)
    path = tmp_path / "maps.h5"
    for share in ("1/3", "2/3", "3/3"):
        explain_at(path, galaxy_folder, checkpoint, share, shard_size=5)
    with merge_maps(path) as store:
        assert len(store) == len(store.catalog) == 22
        assert set(store.rejected) == {galaxies.objid[3], galaxies.objid[23]}
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_no_galaxy_at_all_is_an_error(galaxy_folder, tmp_path, checkpoint):
    """As in a whole build; the images may be repaired, so the parts go."""
    for image in load_galaxies(load_with_settings(galaxy_folder)[1]).paths:
        image.write_bytes(b"no image")
    explain_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, "1/1")
    with pytest.raises(CatalogError, match="none of 24 galaxies could be explained, first"):
        merge_maps(tmp_path / "maps.h5")
    assert not (tmp_path / "maps.h5.parts").exists()


def test_missing_parts_are_named(galaxy_folder, tmp_path, checkpoint, whole):
    """As the option takes them: those that are absent, cut off, or of another network."""
    path = tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "0,2-4", shard_size=5)
    part = tmp_path / "maps.h5.parts" / "000003.h5"
    sound = part.read_bytes()
    part.write_bytes(sound[:-100])
    with pytest.raises(
        OutputError, match=r'maps\.h5: 2 of 5 parts are missing: 1,3; .*`shards="1,3"`'
    ):
        merge_maps(path)
    with h5py.File(part, "w") as file:
        file.attrs["plan_digest"] = "another"
    with pytest.raises(OutputError, match="parts are missing: 1,3"):
        merge_maps(path)
    assert not path.exists()
    explain_at(path, galaxy_folder, checkpoint, "1,3", shard_size=5)
    merge_maps(path).close()
    assert path.read_bytes() == whole.read_bytes()


def test_damaged_part_is_named_and_can_be_made_again(galaxy_folder, tmp_path, checkpoint, whole):
    """A merge has no images, so it cannot; the part must go first."""
    path = tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "1/1", shard_size=5)
    part = tmp_path / "maps.h5.parts" / "000003.h5"
    with h5py.File(part, "r+", locking=False) as file:
        file["logits"][0, 0] += 1
    with pytest.raises(DamagedPartError, match=r"000003\.h5: .*checksum mismatch"):
        merge_maps(path)
    assert not path.exists()
    part.unlink()
    explain_at(path, galaxy_folder, checkpoint, "3", shard_size=5)
    merge_maps(path).close()
    assert path.read_bytes() == whole.read_bytes()


OUTLINES = {
    "empty": (b"", "cannot be read"),
    "no HDF5": (b"no HDF5 at all", "cannot be read"),
    "a part": (None, "not the outline of a store"),
}


@pytest.mark.parametrize("fault", OUTLINES)
def test_damaged_outline_is_named(galaxy_folder, tmp_path, checkpoint, fault):
    """And a process that explains shards writes it anew."""
    path = tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "1/1")
    folder = tmp_path / "maps.h5.parts"
    content, words = OUTLINES[fault]
    content = (folder / "000000.h5").read_bytes() if content is None else content
    (folder / "outline.h5").write_bytes(content)
    with pytest.raises(StoreError, match=rf"outline\.h5: {words}"):
        merge_maps(path)
    explain_at(path, galaxy_folder, checkpoint, "1/1")
    merge_maps(path).close()


def test_changed_outline_is_found(galaxy_folder, tmp_path, checkpoint):
    """A cell of the catalog, a reason, an attribute: each has a digest."""
    path = tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "1/1")
    outline = tmp_path / "maps.h5.parts" / "outline.h5"
    sound = outline.read_bytes()
    changes = {
        "an attribute": lambda file: file.attrs.__setitem__("split", b"valid"),
        "a column": lambda file: file["catalog/z"].__setitem__(0, 9.0),
        "the identifiers": lambda file: file["objid"].__setitem__(0, b"another"),
        "the columns": lambda file: file["catalog"].__delitem__("z"),
    }
    for name, change in changes.items():
        outline.write_bytes(sound)
        with h5py.File(outline, "r+", locking=False) as file:
            change(file)
        with pytest.raises(StoreError, match="checksum mismatch"):
            merge_maps(path)
        assert not path.exists(), name


@pytest.mark.parametrize("name", ["000001.h5", "outline.h5"])
@pytest.mark.parametrize("kind", ["a link", "a link to nowhere", "a folder", "a pipe"])
def test_parts_are_files_of_their_folder(galaxy_folder, tmp_path, checkpoint, whole, name, kind):
    """Nothing is read from, and nothing written to, where a link leads."""
    path = tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "1/1", shard_size=5)
    part, other = tmp_path / "maps.h5.parts" / name, tmp_path / "other.h5"
    part.rename(other)
    before = other.read_bytes()
    if kind == "a folder":
        part.mkdir()
    elif kind == "a pipe":
        os.mkfifo(part)
    else:
        part.symlink_to(other if kind == "a link" else tmp_path / "nowhere.h5")
    for task in (
        lambda: merge_maps(path),
        lambda: merge_maps(path, virtual=True),
        lambda: explain_at(path, galaxy_folder, checkpoint, "1", shard_size=5),
        lambda: build_at(path, galaxy_folder, checkpoint, shard_size=5),
        lambda: describe_file(path),
    ):
        with pytest.raises(OutputError, match=rf"{name}: is .*, expected a part of the store"):
            task()
    assert other.read_bytes() == before
    assert not (tmp_path / "nowhere.h5").exists()
    part.rmdir() if kind == "a folder" else part.unlink()
    other.rename(part)
    merge_maps(path).close()
    assert path.read_bytes() == whole.read_bytes()


def test_what_is_no_store_replaces_none(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """As where another version of galfig wrote the outline: the old store and the parts stay."""
    path = tmp_path / "maps.h5"
    build_at(path, galaxy_folder, checkpoint, tta=True)
    before = path.read_bytes()
    describe = build.describe_store
    monkeypatch.setattr(
        build, "describe_store", lambda *a, **o: describe(*a, **o) | {"schema_version": 99}
    )
    explain_at(path, galaxy_folder, checkpoint, "1/1", if_exists="replace")
    parts = list_names(path)
    with pytest.raises(StoreError, match=r"maps\.h5: schema version 99, expected 2"):
        merge_maps(path, if_exists="replace")
    assert path.read_bytes() == before
    assert list_names(path) == parts
    assert not list(tmp_path.glob(".*"))


def test_merge_without_parts_says_what_to_do(tmp_path, galaxy_folder, checkpoint):
    """Nothing there; only the store; the store and another build's parts."""
    with pytest.raises(OutputError, match=r"no .*outline\.h5 beside it, expected the parts"):
        merge_maps("maps.h5")
    build_at(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    before = (tmp_path / "maps.h5").read_bytes()
    merge_maps("maps.h5").close()
    explain_at(tmp_path / "other.h5", galaxy_folder, checkpoint, "1/1", tta=True)
    (tmp_path / "other.h5.parts").rename(tmp_path / "maps.h5.parts")
    with pytest.raises(OutputError, match='already exists; use `if_exists="replace"`'):
        merge_maps("maps.h5")
    assert (tmp_path / "maps.h5").read_bytes() == before
    with merge_maps("maps.h5", if_exists="update") as store:
        assert store.settings.maps.tta


def test_finished_store_needs_no_parts(galaxy_folder, tmp_path, checkpoint):
    """A task of an array that is run again finds nothing to do; another plan is refused."""
    path = tmp_path / "maps.h5"
    build_at(path, galaxy_folder, checkpoint)
    assert explain_at(path, galaxy_folder, checkpoint, "1/2") is None
    assert not path.with_name("maps.h5.parts").exists()
    with pytest.raises(OutputError, match="was built from another catalog, network or settings"):
        explain_at(path, galaxy_folder, checkpoint, "1/2", tta=True)
    made = explain_at(path, galaxy_folder, checkpoint, "1/1", tta=True, if_exists="update")
    assert list(made) == [0]


def test_parts_of_another_plan_are_refused_or_replaced(galaxy_folder, tmp_path, checkpoint, whole):
    """Two arrays with one --out would otherwise undo each other's work."""
    path = tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "1/1", shard_size=5, tta=True)
    with pytest.raises(OutputError, match="holds parts of another catalog, network or settings"):
        explain_at(path, galaxy_folder, checkpoint, "0", shard_size=5)
    with pytest.raises(
        OutputError, match=r"parts of 5 galaxies each, expected 6; use `shard_size="
    ):
        explain_at(path, galaxy_folder, checkpoint, "0", shard_size=6, tta=True)
    explain_at(path, galaxy_folder, checkpoint, "0", shard_size=5, if_exists="replace")
    with pytest.raises(OutputError, match="4 of 5 parts are missing: 1-4"):
        merge_maps(path)
    explain_at(path, galaxy_folder, checkpoint, "1-4", shard_size=5)
    merge_maps(path).close()
    assert path.read_bytes() == whole.read_bytes()


def test_parts_computed_in_another_way_are_refused(
    galaxy_folder, tmp_path, checkpoint, monkeypatch
):
    """Machines of two kinds would give maps that differ in the last bits."""
    path = tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "0", shard_size=5)
    monkeypatch.setattr(build, "name_way", lambda *_: "plain contiguous 0 0")
    with pytest.raises(OutputError, match=r"another way \(here: plain contiguous 0 0; there: '"):
        explain_at(path, galaxy_folder, checkpoint, "1", shard_size=5)


def test_part_is_made_by_one_process_at_a_time(galaxy_folder, tmp_path, checkpoint, whole):
    """The others are made first; then whoever holds that one is named."""
    path = tmp_path / "maps.h5"
    with (
        hold_lock(tmp_path / "maps.h5.parts" / "000002.h5"),
        pytest.raises(LockError, match=rf"000002\.h5: is being made by process {os.getpid()}"),
    ):
        explain_at(path, galaxy_folder, checkpoint, "1/1", shard_size=5)
    made = ["000000.h5", "000001.h5", "000003.h5", "000004.h5", "outline.h5"]
    assert list_names(path) == made
    with (
        hold_lock(tmp_path / "maps.h5.parts" / "000002.h5"),
        pytest.raises(LockError, match=r"000002\.h5: is being made"),
    ):
        build_at(path, galaxy_folder, checkpoint, shard_size=5)
    build_at(path, galaxy_folder, checkpoint, shard_size=5)
    assert path.read_bytes() == whole.read_bytes()


def test_part_that_another_process_finished_meanwhile_is_left(
    galaxy_folder, tmp_path, checkpoint, monkeypatch, whole
):
    """It was locked at first, and is there when this process comes back to it."""
    path, explained = tmp_path / "maps.h5", []
    explain_at(tmp_path / "other.h5", galaxy_folder, checkpoint, "1", shard_size=5)
    other = hold_lock(tmp_path / "maps.h5.parts" / "000001.h5")
    other.__enter__()

    def explain(galaxies, *args, **options):
        explained.append(galaxies.objid[0])
        if len(explained) == 4:
            (tmp_path / "other.h5.parts" / "000001.h5").rename(
                tmp_path / "maps.h5.parts" / "000001.h5"
            )
            other.__exit__(None, None, None)
        return explain_galaxies(galaxies, *args, **options)

    monkeypatch.setattr(work, "explain_galaxies", explain)
    build_at(path, galaxy_folder, checkpoint, shard_size=5)
    assert len(explained) == 4
    assert path.read_bytes() == whole.read_bytes()


def test_process_stops_when_its_parts_are_gone(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """Another process replaced them, or merged them into the store: nothing more is written."""
    path, folder = tmp_path / "maps.h5", tmp_path / "maps.h5.parts"

    def explain(galaxies, *args, **options):
        (folder / "outline.h5").unlink(missing_ok=True)
        return explain_galaxies(galaxies, *args, **options)

    monkeypatch.setattr(work, "explain_galaxies", explain)
    with pytest.raises(LockError, match=r"maps\.h5\.parts: was merged or replaced by another"):
        explain_at(path, galaxy_folder, checkpoint, "1/1", shard_size=5)
    assert not list(folder.iterdir())


def test_shards_need_a_network_and_shards_of_the_plan(galaxy_folder, tmp_path, checkpoint):
    """Else each process would train one of its own; what no plan could have is refused first."""
    model = tmp_path / "m.safetensors"
    save_checkpoint(model, checkpoint.model, checkpoint.metadata)
    catalog = galaxy_folder / "catalog.csv"
    with pytest.raises(ConfigError, match="`shards` without `model`"):
        build_parts(catalog, shards="1/2", model=None)
    with pytest.raises(ConfigError, match="expected numbers and ranges"):
        build_parts(catalog, shards="half", model=model)
    with pytest.raises(ConfigError, match="the plan has 1: 0 to 0"):
        build_parts(catalog, shards="3", model=model, split="all")
    assert not list(tmp_path.glob("maps*"))


@pytest.mark.long
def test_commands_at_once_make_the_store_of_one(galaxy_folder, tmp_path, checkpoint):
    """Three processes start together on one folder; the fourth merges what they left."""
    save_checkpoint(tmp_path / "m.safetensors", checkpoint.model, checkpoint.metadata)
    Path("galfig.toml").write_text("[maps]\nshard_size = 5\n")
    command = [sys.executable, "-m", "galfig", "build-maps", "--model", "m.safetensors", "--split"]
    command += ["all", "--device", "cpu", "--catalog", str(galaxy_folder / "catalog.csv")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", "whole.h5"], check=True, env=environment)
    tasks = [
        subprocess.Popen(
            [*command, "--shards", f"{k}/3"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for k in (1, 2, 3)
    ]
    for k, task in enumerate(tasks, 1):
        words = task.communicate(timeout=300)[0]
        assert task.returncode == 0
        assert words.startswith(f"maps.h5: the parts of {k}/3 are made; when all are, 'galfig")
    done = CliRunner().invoke(main, ["merge", "maps.h5"])
    assert done.exit_code == 0, done.output
    assert "24 galaxies" in done.output
    assert Path("maps.h5").read_bytes() == Path("whole.h5").read_bytes()
    with open_store("maps.h5") as store:
        assert len(store) == 24


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shards", "1/2"], "--shards needs --model"),
        (["--model", "m", "--shards", "x"], "--shards 'x': expected numbers and ranges"),
        (["--model", "m", "--shards", "2/1"], "--shards '2/1': shares count from 1"),
    ],
)
def test_command_refuses_shards_before_it_reads_anything(options, words):
    """In one line, in which the option has its name."""
    done = CliRunner().invoke(main, ["build-maps", "--catalog", "absent.csv", *options])
    assert done.exit_code in (1, 2)
    assert words in done.output.splitlines()[-1]


def test_info_says_which_parts_are_there(galaxy_folder, tmp_path, checkpoint):
    """Whoever waits for an array looks how far it is; afterwards it describes the store."""
    path = tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "1-2", shard_size=5)
    facts = describe_file(path)
    assert (facts["parts"], facts["made"], facts["missing"]) == (5, 2, 3)
    assert facts["missing_shards"] == "0,3-4"
    done = CliRunner().invoke(main, ["info", "maps.h5"])
    assert "parts of a store that is not made yet" in done.output
    explain_at(path, galaxy_folder, checkpoint, "0,3-4", shard_size=5)
    facts = describe_file(path)
    assert facts["missing"] == 0
    assert "missing_shards" not in facts
    merge_maps(path).close()
    assert describe_file(path)["galaxies"] == 24


def test_empty_share_is_no_finished_store(galaxy_folder, tmp_path):
    """More tasks than shards: a task without any says so, and does not say that all is done."""
    checkpoint = tmp_path / "m.safetensors"
    make_checkpoint(checkpoint)
    words = ["build-maps", "--catalog", str(galaxy_folder / "catalog.csv"), "--split", "all"]
    words += ["--model", str(checkpoint), "--device", "cpu", "--workers", "1"]
    done = CliRunner().invoke(main, [*words, "--shards", "1/3"])
    assert done.exit_code == 0, done.output
    assert "the build has 1 shard, and this share 1/3 has none; use fewer shares" in done.stderr
    assert "a --shard-size below 512 in all of them" in done.stderr
    assert "the parts of 1/3 are made; when all are" in done.stdout
    assert describe_file(Path("maps.h5"))["made"] == 0
    assert CliRunner().invoke(main, [*words, "--shards", "3/3"]).exit_code == 0
    assert CliRunner().invoke(main, ["merge", "maps.h5"]).exit_code == 0
    done = CliRunner().invoke(main, [*words, "--shards", "1/3"])
    assert done.stdout == "maps.h5: already complete, nothing to do\n"


def test_complete_store_does_not_become_virtual_in_silence(galaxy_folder, tmp_path, caplog):
    """Without its parts it cannot; whoever asks is told so."""
    checkpoint, path = make_checkpoint(tmp_path / "m.safetensors"), tmp_path / "maps.h5"
    explain_at(path, galaxy_folder, checkpoint, "1/1", shard_size=5)
    merge_maps(path).close()
    with merge_maps(path, virtual=True) as store:
        assert store.n_parts == 0
    assert "is complete in one file, without parts, and stays so" in caplog.text


def test_command_names_missing_parts_as_it_takes_them(galaxy_folder, tmp_path):
    """The line can be copied into the next command."""
    checkpoint = make_checkpoint(tmp_path / "m.safetensors")
    explain_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, "1-2", shard_size=5)
    done = CliRunner().invoke(main, ["merge", "maps.h5"])
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == (
        "galfig: error: maps.h5: 3 of 5 parts are missing: 0,3-4; make them with "
        "'galfig build-maps --shards 0,3-4' and else the options of the others"
    )


def read_scripts():
    """Return the scripts of the page on many machines, by the words that they begin with."""
    page = Path(__file__).resolve().parents[2] / "docs" / "clusters.md"
    return re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_job_array_of_the_documentation(galaxy_folder, tmp_path, checkpoint):
    """Its tasks in a loop, one after the other, as a scheduler with one machine would run them."""
    (tmp_path / "galfig.toml").write_text("[maps]\nshard_size = 5\n")
    for name in ("catalog.csv", "images"):
        (tmp_path / name).symlink_to(galaxy_folder / name)
    (tmp_path / "catalog.csv").rename(tmp_path / "galaxies.csv")
    script = next(words for words in read_scripts() if "SLURM_ARRAY_TASK_ID" in words)
    loop = next(words for words in read_scripts() if words.startswith("for k"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "galfig").write_text(f'#!/bin/sh\nexec {sys.executable} -m galfig "$@"\n')
    (tmp_path / "bin" / "galfig").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_ARRAY_TASK_COUNT": "3",
    }
    for k in ("1", "2", "3"):
        subprocess.run(
            ["bash", "-ec", script], check=True, env={**environment, "SLURM_ARRAY_TASK_ID": k}
        )
    subprocess.run(["galfig", "merge", "maps.h5"], check=True, env=environment)
    array = Path("maps.h5").read_bytes()
    Path("maps.h5").unlink()
    subprocess.run(["bash", "-ec", loop], check=True, env=environment)
    assert Path("maps.h5").read_bytes() == array
