"""Faults, for real: processes killed at random moments, full disks, two at once, flipped bits."""

import io
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import draw_galaxies, join_parts, make_attributes

from galfig.catalog.formats import read_table
from galfig.catalog.simulate import write_simulated
from galfig.config import load_settings
from galfig.errors import CheckpointError, DamagedPartError, GalfigError, LockError, StoreError
from galfig.images.cutouts import read_cutout
from galfig.info import describe_file
from galfig.manuscript.manifest import load_manifest
from galfig.networks.checkpoint import load_checkpoint
from galfig.networks.resume import load_progress
from galfig.runtime.lock import hold_lock
from galfig.store.reader import open_store, verify_store

pytestmark = [pytest.mark.faults, pytest.mark.slow]

# Two runs give the same bytes, the time of their creation among them.
ENVIRONMENT = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
BUILD = ["build-maps", "--split", "all", "--shard-size", "16", "--out", "maps.h5"]
TRAIN = ["train", "--epochs", "6", "--batch-size", "32", "--cutout-size", "32", "--out"]
TRAIN += ["maps.safetensors"]


def start(arguments, folder, **options):
    command = [sys.executable, "-m", "galfig", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, **options
    )


def run(arguments, folder, **options):
    """Run a command to its end; return its exit status and what it said on stderr."""
    with start(arguments, folder, **options) as process:
        _, words = process.communicate(timeout=300)
    return process.returncode, words


def run_well(arguments, folder):
    code, words = run(arguments, folder)
    assert code == 0, words
    return words


def error_of(arguments, folder, **options):
    """Run a command that fails; return its one line."""
    code, words = run(arguments, folder, **options)
    assert code == 1, words
    assert "Traceback" not in words
    lines = [line for line in words.splitlines() if line.startswith("galfig: error: ")]
    assert len(lines) == 1, words
    return lines[0]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Give a folder with galaxies, a checkpoint and the undisturbed store, and how long it took."""
    folder = tmp_path_factory.mktemp("work")
    write_simulated(folder / "data" / "simulated", 220)
    run_well([*TRAIN, "-q"], folder)
    (folder / "expected").mkdir()
    shutil.copy(folder / "maps.safetensors", folder / "expected")
    begin = time.monotonic()
    run_well([*BUILD, "--model", "maps.safetensors"], folder)
    seconds = time.monotonic() - begin
    (folder / "maps.h5").rename(folder / "expected" / "maps.h5")
    return folder, seconds


def copy_work(work, target):
    """Make a copy of that folder, without a store."""
    source, _ = work
    target.mkdir(exist_ok=True)
    (target / "data").symlink_to(source / "data")
    shutil.copytree(source / "expected", target / "expected")
    shutil.copy(source / "maps.safetensors", target)
    return target


@pytest.fixture
def folder(work, tmp_path):
    """Give a copy of that folder, without a store."""
    return copy_work(work, tmp_path)


def try_all(campaign, kind, n, work, tmp_path, attempt):
    """Try a fault many times, two at a time, each in a folder of its own."""
    with ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(attempt, copy_work(work, tmp_path / str(seed)), random.Random(seed))
            for seed in range(n)
        ]
        for future in futures:
            with campaign.trial(kind):
                future.result()


build_all = partial(list, [*BUILD, "--model", "maps.safetensors"])


def is_as_expected(folder, name):
    return (folder / name).read_bytes() == (folder / "expected" / name).read_bytes()


def list_parts(folder):
    return [path for path in folder.glob("maps.h5.parts/0*.h5")]


def list_leftovers(folder):
    return [path.name for path in folder.rglob(".*.tmp*")] + [p.name for p in folder.glob("*.lock")]


def kill_after(process, seconds, number=signal.SIGKILL):
    """Send a signal unless the process ends before; tell whether it was needed."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        return True
    return False


def test_build_killed_at_any_moment_is_finished_by_the_next(work, tmp_path, campaign):
    """SIGKILL: no store under its final name, no finished shard lost, then the same bytes."""

    def attempt(folder, rng):
        with start(build_all(), folder) as process:
            kill_after(process, rng.uniform(0.5, work[1]))
            process.communicate()
        # Killed behind the last step but one, it leaves the store, and parts to be removed.
        is_complete = (folder / "maps.h5").exists()
        if is_complete:
            assert is_as_expected(folder, "maps.h5")
        n_parts = len(list_parts(folder))
        words = run_well(build_all(), folder)
        resumed = re.search(r"resuming: (\d+) of 9 shards", words)
        if resumed is None:
            assert n_parts == 0 or is_complete
        else:
            assert int(resumed[1]) == n_parts
        assert is_as_expected(folder, "maps.h5")
        assert list_leftovers(folder) == []
        assert not (folder / "maps.h5.parts").exists()

    n = campaign.n(1, 20)
    try_all(campaign, "build-maps, SIGKILL", n, work, tmp_path, attempt)


def test_training_killed_at_any_moment_goes_on(work, tmp_path, campaign):
    """SIGKILL: no checkpoint under its final name; --resume gives the bytes of one run."""
    resumed = []
    begin = time.monotonic()
    run_well([*TRAIN, "--overwrite"], copy_work(work, tmp_path / "timed"))
    seconds = time.monotonic() - begin

    def attempt(folder, rng):
        (folder / "maps.safetensors").unlink()
        # Most of the time goes by before the first epoch.
        with start(TRAIN, folder) as process:
            kill_after(process, rng.uniform(0.5 * seconds, 1.2 * seconds))
            process.communicate()
        if (folder / "maps.safetensors").exists():
            assert is_as_expected(folder, "maps.safetensors")
            return
        is_begun = (folder / "maps.resume.safetensors").exists()
        words = run_well([*TRAIN, "--resume"], folder)
        assert ("resuming: " in words) == is_begun
        resumed.append(is_begun)
        assert is_as_expected(folder, "maps.safetensors")
        assert list_leftovers(folder) == []
        assert not (folder / "maps.resume.safetensors").exists()

    n = campaign.n(1, 20)
    try_all(campaign, "train, SIGKILL, --resume", n, work, tmp_path, attempt)
    if campaign.is_full:
        assert any(resumed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("arguments", [build_all(), TRAIN], ids=["build-maps", "train"])
def test_stopped_command_ends_soon_and_is_finished_by_the_next(
    folder, work, campaign, number, code, arguments
):
    """SIGTERM and Ctrl-C: exit 143 and 130 within two seconds, one line, nothing half-written."""
    rng = random.Random(number)
    made = Path(arguments[arguments.index("--out") + 1]).name
    for _ in range(campaign.n(1, 5)):
        (folder / made).unlink(missing_ok=True)
        with campaign.trial(f"{arguments[0]}, {signal.Signals(number).name}"):
            with start([*arguments, "--overwrite"], folder) as process:
                # From the first word on: before it Python itself is starting.
                words = process.stderr.readline()
                was_stopped = kill_after(process, rng.uniform(0, work[1]), number)
                begin = time.monotonic()
                words += process.communicate(timeout=60)[1]
                seconds = time.monotonic() - begin
            if was_stopped and not (folder / made).exists():
                assert process.returncode == code, words
                # Two seconds, on a machine that does nothing else.
                assert seconds < max(2, 0.45 * work[1])
                assert "Traceback" not in words
                assert "galfig: interrupted; run the same command again" in words
                assert ("--resume" in words) == (arguments is TRAIN)
            extra = ["--resume"] if arguments is TRAIN else []
            run_well([*arguments, *extra, "--overwrite"], folder)
            assert is_as_expected(folder, made)
            assert list_leftovers(folder) == []


def limit_files(n_bytes):
    """Have the kernel refuse files larger than this, as a full disk refuses them."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def blames_the_disk(line, n_bytes):
    # Where nothing at all can be written, Python finds no folder for its temporary files.
    return "File too large" in line or (n_bytes == 0 and "temporary directory" in line)


@pytest.mark.parametrize("n_bytes", [0, 20_000, 500_000])
def test_full_disk_is_one_line_and_keeps_what_is_finished(folder, campaign, n_bytes):
    """At the lock, a shard or the store: exit 1, no store; with room again the same bytes."""
    with campaign.trial("build-maps, disk full"):
        line = error_of(build_all(), folder, preexec_fn=partial(limit_files, n_bytes))
        assert blames_the_disk(line, n_bytes)
        assert not (folder / "maps.h5").exists()
        assert len(list_parts(folder)) == (9 if n_bytes == 500_000 else 0)
        assert list_leftovers(folder) == []
        run_well(build_all(), folder)
        assert is_as_expected(folder, "maps.h5")


@pytest.mark.parametrize("n_bytes", [0, 20_000, 500_000])
def test_full_disk_ends_training_and_drawing(folder, campaign, n_bytes):
    """No half of a checkpoint or figure stands under its name."""
    (folder / "maps.safetensors").unlink()
    refuse = partial(limit_files, n_bytes)
    with campaign.trial("train, disk full"):
        line = error_of(TRAIN, folder, preexec_fn=refuse)
        assert blames_the_disk(line, n_bytes)
        assert not (folder / "maps.safetensors").exists()
        assert list_leftovers(folder) == []
    if n_bytes == 20_000:
        with campaign.trial("render, disk full"):
            render = ["render", "expected/maps.h5", "--out", "panels.pdf"]
            assert "File too large" in error_of(render, folder, preexec_fn=refuse)
            assert not (folder / "panels.pdf").exists()


def test_disk_without_room_for_the_store_is_told_before_it_is_full(folder, campaign):
    """The store needs what its shards take: less is said at once, and the shards stay."""
    with campaign.trial("build-maps, no room for the store"):
        script = (
            "import shutil, sys; from galfig.pipeline import merge; from galfig.cli import main\n"
        )
        script += "merge.disk_usage = lambda path: type(shutil.disk_usage('/'))(10, 5, 5)\nmain()"
        done = subprocess.run(
            [sys.executable, "-c", script, *build_all()],
            cwd=folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "GB left; free some space and build it again" in done.stderr
        assert len(list_parts(folder)) == 9
        run_well(build_all(), folder)
        assert is_as_expected(folder, "maps.h5")


def test_two_at_once(folder, campaign):
    """The second build of a store is refused with who holds it; readers of others are not."""
    with campaign.trial("two builds at once"), start(build_all(), folder) as first:
        lock = folder / "maps.h5.lock"
        # An empty lock is not held yet: whoever comes then may still take it.
        while not (lock.exists() and lock.stat().st_size):
            assert first.poll() is None
            time.sleep(0.005)
        first.send_signal(signal.SIGSTOP)
        try:
            for options in ([], ["--takeover"], ["--overwrite"]):
                line = error_of([*build_all(), *options], folder)
                assert f"is being made by process {first.pid} on {socket.gethostname()}" in line
            with open_store(folder / "expected" / "maps.h5") as store:
                assert store.cams(0).shape[0] == 2
        finally:
            first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=120) == 0
        assert is_as_expected(folder, "maps.h5")


@pytest.mark.parametrize("workers", [1, 2])
def test_neither_workers_nor_shards_show(folder, campaign, workers):
    """The same bytes for any number of threads and any size of shards."""
    for size in [1, 100] if campaign.is_full else [37]:
        with campaign.trial("other workers, other shards"):
            options = ["--workers", workers, "--shard-size", size, "--overwrite"]
            run_well([*build_all(), *options], folder)
            assert is_as_expected(folder, "maps.h5")


def read_all(path):
    """Return everything that a store holds."""
    found = {}
    with h5py.File(path) as file:
        found["/"] = dict(file.attrs)

        def visit(name, item):
            found[name, "attrs"] = dict(item.attrs)
            if isinstance(item, h5py.Dataset):
                values = item[()]
                found[name] = values.tolist() if values.dtype == object else values.tobytes()

        file.visititems(visit)
    return found


def test_flipped_bit_is_found(make_store, campaign):
    """Anywhere in a store: it is found and named, or nothing that the store holds is another."""
    path = make_store(kpc_per_arcsec=np.ones(12))
    sound, expected = path.read_bytes(), read_all(path)
    rng = random.Random(2)
    n_found = 0
    for _ in range(campaign.n(40, 400)):
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with campaign.trial("store, flipped bit"):
            try:
                damage = verify_store(path)
            except StoreError as exc:
                damage = [str(exc)]
            n_found += bool(damage)
            assert damage or read_all(path) == expected
    assert n_found


def test_flipped_bit_in_a_part_does_not_enter_the_store(tmp_path, campaign):
    """Anywhere in a part: it is named and left out, or the store has the bytes that it should."""
    part, path = tmp_path / "000000.h5", tmp_path / "maps.h5"
    galaxies = draw_galaxies(0, 4, rejected={"bad": "truncated"})
    table = pd.DataFrame({"n": range(5)}, index=[*galaxies.arrays["objid"], "bad"])
    galaxies.write(part)
    join_parts(path, [part], table, make_attributes(("a", "b")))
    sound, expected = part.read_bytes(), path.read_bytes()
    rng = random.Random(4)
    n_found = 0
    for _ in range(campaign.n(40, 400)):
        position = rng.randrange(8 * len(sound))
        damaged = bytearray(sound)
        damaged[position // 8] ^= 1 << position % 8
        part.write_bytes(damaged)
        with campaign.trial("a flipped bit in a part"):
            try:
                join_parts(path, [part], table, make_attributes(("a", "b")))
            except DamagedPartError:
                n_found += 1
            else:
                assert path.read_bytes() == expected
    assert n_found > 0


def test_damaged_lock_is_one_line(tmp_path, campaign):
    """Any bytes in a lock, from this machine or another: taken over, or refused in one line."""
    path, lock = tmp_path / "maps.h5", tmp_path / "maps.h5.lock"
    with hold_lock(path):
        record = json.loads(lock.read_bytes())
    sound = [json.dumps({**record, "kernel": kernel}).encode() for kernel in ("", "other")]
    rng = random.Random(5)
    for _ in range(campaign.n(100, 1000)):
        damaged = bytearray(rng.choice([*sound, rng.randbytes(60), b"[" * 5000]))
        for _ in range(rng.randrange(4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        lock.write_bytes(damaged)
        with campaign.trial("a damaged lock"):
            words = ""
            try:
                with hold_lock(path, takeover=rng.random() < 0.5) as held:
                    held.check()
            except LockError as exc:
                words = str(exc)
            assert words.isprintable()
            assert lock.exists() == bool(words)


def test_truncated_store_is_refused(store_path, campaign):
    """Cut anywhere, it is not opened."""
    sound = store_path.read_bytes()
    rng = random.Random(3)
    for _ in range(campaign.n(10, 200)):
        store_path.write_bytes(sound[: rng.randrange(len(sound))])
        with campaign.trial("store, truncated"), pytest.raises(StoreError):
            verify_store(store_path)


def test_damaged_checkpoint_is_refused(folder, campaign):
    """Cut, or with a flipped bit anywhere but in the words that galfig does not read."""
    path = folder / "maps.safetensors"
    sound = path.read_bytes()
    rng = random.Random(4)
    for index in range(campaign.n(12, 600)):
        data = bytearray(sound)
        if index % 3:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        else:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        with campaign.trial("checkpoint, truncated or flipped bit"), pytest.raises(CheckpointError):
            load_checkpoint(path)


def _load_settings(path):
    path.rename(path.with_name("galfig.toml"))
    load_settings(path.with_name("galfig.toml"))


def _load_manifest(path):
    path.rename(path.with_name("manuscript.toml"))
    load_manifest(path.parent)


# What reads each kind of input, and the name that it has.
INPUTS = {
    "image": ("a.jpg", lambda path: read_cutout(path, 32)),
    **{
        f"catalog{suffix}": (f"a{suffix}", partial(read_table, id_column="objID"))
        for suffix in (".csv", ".csv.gz", ".parquet", ".fits", ".ecsv")
    },
    "settings": ("a", _load_settings),
    "manifest": ("a", _load_manifest),
    "checkpoint": ("a.safetensors", load_checkpoint),
    "unfinished training": ("a.safetensors.resume", lambda path: load_progress(path, {})),
    "store": ("a.h5", open_store),
    "any file": ("a", describe_file),
}


def make_no_file(kind, path):
    if kind == "named pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"endless device": "/dev/zero", "terminal": "/dev/tty"}[kind])


@pytest.mark.parametrize("kind", ["named pipe", "socket", "folder", "endless device", "terminal"])
@pytest.mark.parametrize("name", INPUTS)
def test_input_that_is_no_file_is_refused_at_once(tmp_path, campaign, name, kind):
    """Every kind of input: nothing is waited for, nothing fills the memory, one line says why."""
    with campaign.trial(f"no regular file: {kind}"):
        file, read = INPUTS[name]
        path = tmp_path / file
        make_no_file(kind, path)
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(read, path)
            try:
                caught = outcome.exception(timeout=30)
            except TimeoutError:
                # Let the reader of a pipe go, so that the test ends.
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                pytest.fail("still waiting")
        assert isinstance(caught, GalfigError), repr(caught)
        assert "\n" not in str(caught)


MEASURE = """
import resource, sys
from pathlib import Path
from galfig.catalog.formats import read_table
from galfig.errors import GalfigError
from galfig.images.cutouts import read_cutout

for path in map(Path, sys.argv[1:]):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read_table(path, "objID") if path.stem == "catalog" else read_cutout(path, 32)
        words = "read"
    except GalfigError as exc:
        words = str(exc)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(path.name, grown // 1024, words)
"""


def write_bombs():
    """Give names and bytes of small files that would take gigabytes."""
    big = b"SIMPLE  =                    T".ljust(80)
    for key, value in {"BITPIX": 8, "NAXIS": 2, "NAXIS1": 60_000, "NAXIS2": 60_000}.items():
        big += (b"%-8s= %20d" % (key.encode(), value)).ljust(80)
    big = (big + b"END".ljust(80)).ljust(2880)
    yield "header.fits", big
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    packed = packer.compress(big) + b"".join(packer.compress(bytes(1 << 24)) for _ in range(120))
    packed += packer.flush()
    yield "packed.jpg", packed
    yield "catalog.fits.gz", packed
    lines = zlib.compressobj(1, zlib.DEFLATED, 31)
    words = lines.compress(b"objID\n")
    words += b"".join(lines.compress(b"1\n" * (1 << 23)) for _ in range(120))
    yield "catalog.csv.gz", words + lines.flush()
    # One text, which all rows share.
    zeros = pa.array(np.zeros(100_000, np.int32))
    shared = pa.table({"objID": pa.DictionaryArray.from_arrays(zeros, pa.array(["x" * 100_000]))})
    for name, is_kept in (("text", False), ("category", True)):
        stream = io.BytesIO()
        pq.write_table(shared, stream, store_schema=is_kept)
        yield f"{name}/catalog.parquet", stream.getvalue()


def test_small_files_do_not_fill_the_memory(tmp_path, campaign):
    """Each would take from one to ten gigabytes, and is refused early, while it is small."""
    paths = []
    for name, data in write_bombs():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
        assert len(data) < 10_000_000
        paths.append(tmp_path / name)
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        # Four gigabytes: more than enough for those that are refused.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
    )
    lines = found.stdout.splitlines()
    assert len(lines) == len(paths)
    for line in lines:
        with campaign.trial("small file that fills the memory"):
            _, megabytes, words = line.split(" ", 2)
            assert words != "read", line
            assert int(megabytes) < 1500, line
