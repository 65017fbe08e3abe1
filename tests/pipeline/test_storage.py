"""Images and parts in a storage: the store is that of a folder; no file names an address."""

import pickle
import shutil
import socket
from concurrent.futures import Executor, Future
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from samples import CPU, build_at, make_checkpoint

from galfig import build_maps, build_parts, explain_again, load_catalog, merge_maps
from galfig.catalog.galaxies import load_galaxies
from galfig.cli import main
from galfig.config import load_settings
from galfig.errors import CatalogError, ConfigError, LostCutoutError, OutputError, StoreError
from galfig.images.sources import BandFiles
from galfig.manuscript.commands import parse_command
from galfig.pipeline import mirror, work
from galfig.pipeline.build import build_store
from galfig.pipeline.explain import explain_galaxies
from galfig.pipeline.plan import make_plan
from galfig.runtime import storage
from galfig.runtime.storage import Address, list_objects
from galfig.store.reader import open_store


@pytest.fixture(autouse=True)
def at_one_time(monkeypatch, tmp_path):
    """Have all stores be made at the same time, and no settings of the working directory."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.setattr(storage, "_WAIT", 0)
    monkeypatch.setattr(mirror, "_PERIOD", 0.02)
    monkeypatch.chdir(tmp_path)


def fill(found, bucket, folder):
    """Put the images of a folder of galaxies into a storage."""
    for image in (folder / "images").iterdir():
        found.pipe(f"{bucket}/images/{image.name}", image.read_bytes())


@pytest.fixture
def memory(galaxy_folder):
    """Put the galaxies into a storage in memory, under memory://cutouts."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    fill(found, "/cutouts", galaxy_folder)
    yield found
    found.store.clear()


def load_remote(folder, address="memory://cutouts", **catalog):
    overrides = {("catalog", "path"): folder / "catalog.csv", ("catalog", "images_dir"): address}
    overrides |= {("catalog", key): value for key, value in catalog.items()}
    settings = load_settings(None, overrides)
    return load_galaxies(settings), settings


def build_remote(path, folder, checkpoint, address="memory://cutouts", **options):
    galaxies, settings = load_remote(folder, address)
    plan = make_plan(galaxies, settings, checkpoint, "all")
    return build_store(plan, checkpoint, path, run=CPU, **options)


def test_store_is_that_of_a_folder(memory, galaxy_folder, tmp_path, checkpoint):
    """Byte for byte: where images are is no part of a plan, and nowhere in the store."""
    build_at(tmp_path / "local.h5", galaxy_folder, checkpoint)
    build_remote(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    assert (tmp_path / "maps.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()
    assert b"memory" not in (tmp_path / "maps.h5").read_bytes()
    assert build_remote(tmp_path / "local.h5", galaxy_folder, checkpoint) is False


def test_folder_is_listed_once(memory, galaxy_folder, monkeypatch):
    """Rather than one request for each file."""
    asked = []
    ls = type(memory).ls
    monkeypatch.setattr(
        type(memory), "ls", lambda self, *args, **o: asked.append(args) or ls(self, *args, **o)
    )
    galaxies, _ = load_remote(galaxy_folder)
    assert len(galaxies) == 24
    assert len(asked) == 1
    assert galaxies.paths[0].parent == Address("memory://cutouts", "images")


def test_bad_objects_leave_out_their_galaxies(memory, galaxy_folder, tmp_path, checkpoint):
    """As files do, with the same reasons, which name no bucket."""
    galaxies, _ = load_remote(galaxy_folder)
    names = [path.name for path in galaxies.paths]
    memory.rm(f"/cutouts/images/{names[0]}")
    memory.pipe(f"/cutouts/images/{names[1]}", b"")
    memory.pipe(f"/cutouts/images/{names[2]}", b"no image")
    build_remote(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    with open_store(tmp_path / "maps.h5") as store:
        reasons = store.rejected
    assert len(reasons) == 3
    assert f"no image images/{names[0]}" in reasons[galaxies.objid[0]]
    assert reasons[galaxies.objid[1]] == f"{names[1]}: empty file, expected an image"
    assert "cutouts" not in " ".join(reasons.values())


def test_object_that_is_lost_later_ends_the_build(memory, galaxy_folder, tmp_path, checkpoint):
    """Its galaxy is not left out: the object may be back."""
    galaxies, settings = load_remote(galaxy_folder)
    plan = make_plan(galaxies, settings, checkpoint, "all")
    memory.rm(f"/cutouts/images/{galaxies.paths[20].name}")
    with pytest.raises(
        LostCutoutError, match=r"memory://cutouts/images/.* lost \(no such object\)"
    ):
        build_store(plan, checkpoint, tmp_path / "maps.h5", run=CPU)


def test_replaced_object_is_found(memory, galaxy_folder, tmp_path, checkpoint):
    """By its digest, as a file."""
    build_remote(tmp_path / "maps.h5", galaxy_folder, checkpoint)
    galaxies, _ = load_remote(galaxy_folder)
    one, other = (f"/cutouts/images/{galaxies.paths[row].name}" for row in (0, 1))
    memory.pipe(one, memory.cat_file(other))
    assert build_remote(tmp_path / "maps.h5", galaxy_folder, checkpoint, if_exists="update")


def test_small_stores_have_images_in_a_storage(memory, galaxy_folder, tmp_path, untrained):
    """They name no address; the one that the user types gives what a full store holds."""
    build_at(tmp_path / "full.h5", galaxy_folder, untrained[1])
    galaxies, settings = load_remote(galaxy_folder)
    settings = load_settings(settings, {("maps", "store"): "statistics"})
    plan = make_plan(galaxies, settings, untrained[1], "all")
    path = tmp_path / "statistics.h5"
    build_store(plan, untrained[1], path, run=CPU)
    assert b"memory" not in path.read_bytes()
    options = {"model": untrained[0], "device": "cpu"}
    rows = np.array([5, 23, 0])
    with (
        open_store(tmp_path / "full.h5") as full,
        explain_again(path, images="memory://cutouts", **options) as store,
    ):
        assert store.read_address(5) == f"images/{galaxies.paths[5].name}"
        assert np.array_equal(store.cams(rows), full.cams(rows))
        assert np.array_equal(store.cutouts(rows), full.cutouts(rows))
    with explain_again(path, **options) as store, pytest.raises(StoreError, match="with `images`"):
        store.cutouts(0)
    memory.pipe(f"/cutouts/images/{galaxies.paths[1].name}", b"another image")
    words = ["render", "statistics.h5", "--model", str(untrained[0]), "--n", "24"]
    done = CliRunner().invoke(main, [*words, "--images", "memory://cutouts"])
    assert done.exit_code == 1
    assert f"images/{galaxies.paths[1].name}' changed" in done.output


def test_bands_in_one_folder_are_listed_once(memory, galaxy_folder, monkeypatch):
    """Also where each band has a template of its own, and the catalog comes in two files."""
    for image in memory.ls("/cutouts/images", detail=False):
        for band in "gr":
            memory.pipe(image.replace(".jpg", f".{band}.fits"), b"a band")
    listed = []
    ls = type(memory).ls
    monkeypatch.setattr(
        type(memory), "ls", lambda self, *args, **o: listed.append(args) or ls(self, *args, **o)
    )
    table = pd.read_csv(galaxy_folder / "catalog.csv", dtype={"objID": str})
    files = [galaxy_folder / name for name in ("train.csv", "valid.csv")]
    for file, part in zip(files, (table[:12], table[12:]), strict=True):
        part.to_csv(file, index=False)
    bands = ["images/{objID}.g.fits", "images/{objID}.r.fits"]
    settings = load_settings(
        {
            "catalog": {"bands": bands},
            "split": {"files": {"train": str(files[0]), "valid": str(files[1])}},
        },
        {("catalog", "images_dir"): "memory://cutouts"},
    )
    galaxies = load_galaxies(settings)
    assert len(galaxies) == 24
    assert len(listed) == 1
    objid = galaxies.objid[0]
    folder = Address("memory://cutouts", "images")
    assert galaxies.paths[0] == BandFiles((folder / f"{objid}.g.fits", folder / f"{objid}.r.fits"))


def write_cells(folder, cells):
    table = pd.read_csv(folder / "catalog.csv", dtype={"objID": str})
    table["url"] = [*cells, *table["objID"][len(cells) :]]
    table.to_csv(folder / "catalog.csv", index=False)


def test_cells_may_hold_addresses_below_the_one_that_was_typed(memory, galaxy_folder):
    """And no others: a catalog may be anybody's."""
    objid = pd.read_csv(galaxy_folder / "catalog.csv", dtype=str)["objID"]
    write_cells(
        galaxy_folder,
        [
            f"memory://cutouts/images/{objid[0]}.jpg",
            f"memory://cutouts-of-others/images/{objid[1]}.jpg",
            f"s3://secret/images/{objid[2]}.jpg",
            f"memory://cutouts/../secret/{objid[3]}.jpg",
            *(f"images/{one}.jpg" for one in objid[4:]),
        ],
    )
    galaxies, _ = load_remote(galaxy_folder, images="{url}")
    assert list(galaxies.objid) == [objid[0], *objid[4:]]
    assert "is an address, expected a path below" in galaxies.rejected[objid[1]]
    assert "is an address, expected a path below" in galaxies.rejected[objid[2]]
    assert "leads out of" in galaxies.rejected[objid[3]]


@pytest.mark.parametrize("template", ["/images/{objID}.jpg", "../other/{objID}.jpg"])
def test_templates_do_not_lead_out_of_an_address(memory, galaxy_folder, template):
    """An object store has no parent folders, but other storages do. No catalog is read."""
    (galaxy_folder / "catalog.csv").unlink()
    with pytest.raises(CatalogError, match="leads out of memory://cutouts"):
        load_remote(galaxy_folder, images=template)


def test_files_of_settings_name_no_address(memory, galaxy_folder, monkeypatch):
    """Nor do stores; no connection is made."""

    def connect(*args, **options):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", connect)
    Path("galfig.toml").write_text('[catalog]\nimages_dir = "s3://bucket/cutouts"\n')
    with pytest.raises(ConfigError, match=r"images_dir: .*is an address, expected a folder"):
        load_settings()
    done = CliRunner().invoke(main, ["build-maps", "--catalog", str(galaxy_folder / "catalog.csv")])
    assert done.exit_code == 1
    assert "an address is opened only where it is typed: give it as --images" in done.output


def test_face_and_commands_take_addresses(memory, galaxy_folder, tmp_path):
    """`load_catalog`, `build-maps --images` and `verify --images`; a password is not repeated."""
    catalog = galaxy_folder / "catalog.csv"
    (galaxy_folder / "images").rename(tmp_path / "elsewhere")
    assert len(load_catalog(catalog, images_dir="memory://cutouts")) == 24
    (tmp_path / "images").mkdir()
    for image in (tmp_path / "elsewhere").iterdir():
        image.rename(tmp_path / "images" / image.name)
    assert len(load_catalog(catalog, images_dir=f"file://{tmp_path}")) == 24
    make_checkpoint(tmp_path / "m.safetensors")
    words = ["--catalog", str(catalog), "--images", "memory://cutouts"]
    command = ["build-maps", "--model", "m.safetensors", "--device", "cpu", *words]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "24 galaxies" in done.output
    done = CliRunner().invoke(main, ["verify", "maps.h5", *words])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, [*command[:-1], "s3://user:HUNTER2@bucket"])
    assert done.exit_code == 1
    assert "--images: an address with a name, password or key in it" in done.output
    assert "HUNTER2" not in done.output


@pytest.mark.slow
def test_store_from_s3(galaxy_folder, tmp_path, checkpoint, monkeypatch):
    """Against moto's server on this machine; credentials are in none of its messages."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "HUNTER1")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "HUNTER2")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        bucket = fsspec.filesystem("s3")
        bucket.mkdir("galaxies")
        fill(bucket, "galaxies/cutouts", galaxy_folder)
        bucket.pipe("galaxies/cutouts/images/empty.jpg", b"")
        address = "s3://galaxies/cutouts"
        assert storage.read_object(Address(address, "images/empty.jpg"), 10) == b""
        build_at(tmp_path / "local.h5", galaxy_folder, checkpoint)
        build_remote(tmp_path / "maps.h5", galaxy_folder, checkpoint, address)
        assert (tmp_path / "maps.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()
        galaxies, settings = load_remote(galaxy_folder, address)
        bucket.rm(f"galaxies/cutouts/images/{galaxies.paths[3].name}")
        plan = make_plan(galaxies, settings, checkpoint, "all")
        with pytest.raises(LostCutoutError, match="no such object") as caught:
            build_store(plan, checkpoint, tmp_path / "other.h5", run=CPU)
        assert "HUNTER" not in str(caught.value)
        with pytest.raises(CatalogError, match="no images found"):
            load_remote(galaxy_folder, "s3://galaxies/absent")
        for path in (tmp_path / "maps.h5", tmp_path / "local.h5"):
            path.unlink()
        make_checkpoint(tmp_path / "m.safetensors")
        for share in ("1/2", "2/2"):
            explain_remote(galaxy_folder, tmp_path / "m.safetensors", share, "s3://galaxies/run")
            lose_folder()
        merge_maps("maps.h5", storage="s3://galaxies/run").close()
        with open_store("maps.h5") as store:
            assert len(store) == 24
    finally:
        server.stop()


def explain_remote(folder, model, shards, address="memory://run"):
    """Explain some shards as a machine that shares no folder with others."""
    galaxies = load_catalog(folder / "catalog.csv", settings={"maps": {"shard_size": 5}})
    build_parts(
        galaxies,
        "maps.h5",
        shards=shards,
        model=model,
        split="all",
        device="cpu",
        storage=address,
    )


def lose_folder():
    """Begin on another machine."""
    shutil.rmtree("maps.h5.parts", ignore_errors=True)
    Path("maps.h5").unlink(missing_ok=True)


@pytest.fixture
def model(tmp_path):
    """Write an untrained network."""
    path = tmp_path / "m.safetensors"
    make_checkpoint(path)
    return path


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_parts_of_machines_without_a_common_folder(memory, galaxy_folder, model, tmp_path, kind):
    """The same bytes as in one place; what is in the storage is not explained again."""
    address = {"memory": "memory://run", "file": f"file://{tmp_path}/run"}[kind]
    galaxies = load_catalog(galaxy_folder / "catalog.csv", settings={"maps": {"shard_size": 5}})
    build_maps(galaxies, "whole.h5", model=model, split="all", device="cpu").close()
    for share in ("1/2", "2/2"):
        explain_remote(galaxy_folder, model, share, address)
        lose_folder()
    there = list_objects(Address(address, "maps.h5.parts"))
    assert sorted(there) == [*(f"{number:06d}.h5" for number in range(5)), "outline.h5"]
    merge_maps("maps.h5", storage=address).close()
    assert Path("maps.h5").read_bytes() == Path("whole.h5").read_bytes()
    lose_folder()
    merge_maps("maps.h5", storage=address, virtual=True).close()
    with open_store("maps.h5") as store:
        assert store.n_parts == 5


def test_machine_goes_on_with_the_parts_of_another(memory, galaxy_folder, model, caplog):
    """It fetches those of its own shards only; a lost one is named, and made again."""
    explain_remote(galaxy_folder, model, "1/2")
    lose_folder()
    memory.rm("/run/maps.h5.parts/000001.h5")
    with pytest.raises(OutputError, match="4 of 5 parts are missing: 1-4"):
        merge_maps("maps.h5", storage="memory://run")
    lose_folder()
    with caplog.at_level("INFO", "galfig"):
        explain_remote(galaxy_folder, model, "0-1")
    assert "1 of 2 shards are done" in caplog.text
    assert sorted(list_objects(Address("memory://run", "maps.h5.parts"))) == [
        *("000000.h5", "000001.h5", "outline.h5")
    ]


def test_damaged_object_is_made_again(memory, galaxy_folder, model):
    """An upload that was cut off is no part."""
    explain_remote(galaxy_folder, model, "0")
    lose_folder()
    name = "/run/maps.h5.parts/000000.h5"
    sound = memory.cat_file(name)
    memory.pipe(name, sound[:3000])
    explain_remote(galaxy_folder, model, "0")
    assert memory.cat_file(name) == sound


def test_storage_that_fails_is_one_line(memory, galaxy_folder, model, monkeypatch):
    """The parts stay here, and are put when the storage is back."""

    def fail(self, *args, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(type(memory), "put_file", fail)
    with pytest.raises(OutputError, match=r"memory://run/maps\.h5\.parts: cannot be written to \("):
        explain_remote(galaxy_folder, model, "0")
    monkeypatch.undo()
    monkeypatch.chdir(model.parent)
    explain_remote(galaxy_folder, model, "0")
    assert set(list_objects(Address("memory://run", "maps.h5.parts"))) == {
        *("000000.h5", "outline.h5")
    }


def test_interrupted_machine_leaves_what_it_made(memory, galaxy_folder, model, monkeypatch):
    """As a job whose time is up."""

    explained = []

    def stop(galaxies, *args, **options):
        explained.append(len(galaxies))
        if len(explained) == 3:
            raise KeyboardInterrupt
        return explain_galaxies(galaxies, *args, **options)

    monkeypatch.setattr(work, "explain_galaxies", stop)
    monkeypatch.setattr(mirror, "_PERIOD", 1000)
    with pytest.raises(KeyboardInterrupt):
        explain_remote(galaxy_folder, model, "1/1")
    assert sorted(list_objects(Address("memory://run", "maps.h5.parts"))) == [
        *("000000.h5", "000001.h5", "outline.h5")
    ]


def test_commands_take_a_storage(memory, galaxy_folder, model):
    """`build-maps` with and without --shards, and `merge`."""
    words = ["--model", str(model), "--device", "cpu", "--split", "all"]
    words += ["--catalog", str(galaxy_folder / "catalog.csv"), "--storage", "memory://run"]
    done = CliRunner().invoke(main, ["build-maps", *words, "--shards", "1/1"])
    assert done.exit_code == 0, done.output
    lose_folder()
    done = CliRunner().invoke(main, ["merge", "maps.h5", "--storage", "memory://run"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, ["build-maps", *words])
    assert done.exit_code == 0, done.output
    assert "already complete" in done.output
    done = CliRunner().invoke(main, ["build-maps", *words[:-1], "nonsense://x"])
    assert done.exit_code == 1
    assert "--storage 'nonsense://x': cannot be opened" in done.output


@pytest.mark.parametrize("option", ["--images s3://bucket/x", "--storage s3://bucket/x"])
def test_recipes_of_manuscripts_name_no_address(option):
    """A manuscript may be anybody's."""
    with pytest.raises(ValueError, match=r"'s3://bucket/x'|'--storage', expected one of"):
        parse_command(f"galfig build-maps --model m.safetensors {option}")


class Sent(Executor):
    """Runs each task at once, with what would reach another process."""

    def submit(self, fn, /, *args, **kwargs):
        fn, args, kwargs = pickle.loads(pickle.dumps((fn, args, kwargs)))
        future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("form", ["full", "statistics"])
def test_workers_read_images_in_a_storage(memory, galaxy_folder, model, form):
    """They make the parts that one process makes, and the command puts them into the storage."""
    catalog, options = galaxy_folder / "catalog.csv", {"model": model, "split": "all"}
    options |= {"device": "cpu", "store": form}
    galaxies = load_catalog(
        catalog, images_dir="memory://cutouts", settings={"maps": {"shard_size": 5}}
    )
    build_maps(galaxies, "alone.h5", **options).close()
    options |= {"shards": "1/1", "executor": Sent(), "storage": "memory://run"}
    build_parts(galaxies, "maps.h5", **options)
    lose_folder()
    merge_maps("maps.h5", storage="memory://run").close()
    assert Path("maps.h5").read_bytes() == Path("alone.h5").read_bytes()


def test_parts_may_go_while_they_are_listed(memory, tmp_path, monkeypatch):
    """The watcher goes on: the build removes parts when the store is complete."""
    folder = tmp_path / "maps.h5.parts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number:06d}.h5").write_bytes(b"part")
    (folder / "000003.h5").symlink_to(tmp_path / "elsewhere.h5")
    watched = mirror._Mirror(folder, Address("memory://run"))
    listed = sorted(folder.iterdir())
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(listed))
    listed[1].unlink()
    watched.put_new()
    assert sorted(list_objects(Address("memory://run"))) == ["000000.h5", "000002.h5"]
    monkeypatch.undo()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    watched.put_new()
