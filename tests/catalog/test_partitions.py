"""Partitions: catalogs of HATS, folders of Parquet, and single files of it."""

import hashlib
import io
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image
from samples import OBJID

from galfig import load_catalog
from galfig.catalog.arrow import Wanted
from galfig.catalog.galaxies import load_galaxies
from galfig.catalog.partitions import list_partitions, read_partitions
from galfig.cli import main
from galfig.config import load_settings
from galfig.errors import CatalogError
from galfig.images.arrays import Element
from galfig.images.cutouts import read_cutout

# Norder and Npix of each partition; the last is beyond the first ten thousand of its order.
PIXELS = [(1, 4), (1, 17), (2, 3), (6, 12_345)]
N_EACH = 5


def make_tables():
    """Give the partitions of a catalog: 19-digit identifiers, numbers with gaps, texts."""
    tables = []
    for number in range(len(PIXELS)):
        rows = range(number * N_EACH, (number + 1) * N_EACH)
        frame = pd.DataFrame(
            {
                "objID": [int(OBJID) + row for row in rows],
                "oh_p50": [8.4 if row % 2 else 9.2 for row in rows],
                "n": pd.array([None if row % 7 == 3 else row for row in rows], dtype="Int64"),
                "kind": [f"k{row % 3}" for row in rows],
                "mag": [np.array([row, row + 0.5]) for row in rows],
            },
            index=pd.Index([row << 40 for row in rows], name="_healpix_29"),
        )
        tables.append(pa.Table.from_pandas(frame))
    return tables


def write_hats(folder, tables=None, *, suffix=".parquet", listing=True, index=True):
    """Write a folder as hats-import writes it, with all that lies around the partitions."""
    tables = make_tables() if tables is None else tables
    dataset = folder / "dataset"
    for (order, pixel), table in zip(PIXELS, tables, strict=True):
        name = f"Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}"
        path = dataset / f"{name}/part0.parquet" if suffix == "/" else dataset / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    schema = tables[0].schema
    pq.write_metadata(schema, dataset / "_metadata")
    pq.write_metadata(schema, dataset / "_common_metadata")
    pq.write_table(tables[0].slice(0, 1), dataset / "data_thumbnail.parquet")
    (folder / "hats.properties").write_text("obs_collection=test\nhats_order=6\n")
    if listing:
        rows = "".join(f"{order},{pixel}\n" for order, pixel in reversed(PIXELS))
        (folder / "partition_info.csv").write_text(f"Norder,Npix\n{rows}")
    return folder


def join(tables):
    frame = pa.concat_tables(tables).to_pandas().reset_index()
    mags = np.stack(frame.pop("mag"))
    frame["mag[0]"], frame["mag[1]"] = mags.T
    return frame.assign(objID=frame["objID"].astype(str))


def compare(table, expected):
    assert table.columns.tolist() == expected.columns.tolist()
    for name in expected:
        found = table[name].astype(object).where(table[name].notna(), None)
        wanted = expected[name].astype(object).where(expected[name].notna(), None)
        assert found.tolist() == wanted.tolist(), name


@pytest.mark.parametrize("suffix", [".parquet", ".pq", "/"])
@pytest.mark.parametrize("listing", [True, False])
def test_a_hats_catalog_is_its_partitions_in_order(tmp_path, suffix, listing):
    """By Norder and Npix, whatever the order of the list; the index of HEALPix is a column."""
    folder = write_hats(tmp_path / "hats", suffix=suffix, listing=listing)
    table, _ = read_partitions(folder, "objID")
    compare(table, join(make_tables()))
    assert table.columns[0] == "_healpix_29"


def test_a_catalog_of_hipscat_has_no_dataset(tmp_path):
    """Its partitions lie in the folder itself."""
    folder = write_hats(tmp_path / "hats")
    (folder / "hats.properties").rename(folder / "catalog_info.json")
    for inner in (folder / "dataset").glob("Norder=*"):
        inner.rename(folder / inner.name)
    (folder / "dataset" / "_metadata").unlink()
    for rest in (folder / "dataset").iterdir():
        rest.unlink()
    (folder / "dataset").rmdir()
    assert len(read_partitions(folder, "objID")[0]) == N_EACH * len(PIXELS)


def test_the_digest_is_that_of_sha256sum(tmp_path):
    """Anyone can check it; another byte, order or name of a partition makes another."""
    folder = write_hats(tmp_path / "hats")
    digest = read_partitions(folder, "objID")[1]
    names = [
        f"dataset/Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}.parquet"
        for order, pixel in PIXELS
    ]
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    assert digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert read_partitions(folder.rename(tmp_path / "moved"), "objID")[1] == digest
    moved = tmp_path / "moved"
    (moved / "partition_info.csv").unlink()
    (moved / "dataset" / "_metadata").unlink()
    assert read_partitions(moved, "objID")[1] == digest
    first, second = (moved / name for name in names[:2])
    data = first.read_bytes(), second.read_bytes()
    first.write_bytes(data[1])
    second.write_bytes(data[0])
    assert read_partitions(moved, "objID")[1] != digest


def test_a_hats_catalog_makes_galaxies(tmp_path):
    """By its path alone, with images beside the folder as beside a file."""
    folder = write_hats(tmp_path / "hats")
    (tmp_path / "images").mkdir()
    for name in join(make_tables())["objID"][1:]:
        (tmp_path / "images" / f"{name}.jpg").touch()
    galaxies = load_catalog(folder)
    assert len(galaxies) == N_EACH * len(PIXELS) - 1
    assert galaxies.rejected == {OBJID: f"no image images/{OBJID}.jpg"}
    assert galaxies.paths[0].samefile(tmp_path / "images" / f"{int(OBJID) + 1}.jpg")
    assert galaxies.table["mag[1]"].tolist()[0] == 1.5
    assert galaxies.settings.record()["catalog"]["path"] == "hats"
    again = load_catalog(os.fspath(folder) + "/")
    assert again.catalog_sha256 == galaxies.catalog_sha256


def test_columns_that_are_not_asked_for_stay_on_disk(tmp_path, monkeypatch):
    """Of Parquet, they are not even decoded; the settings' own columns are always there."""
    folder = write_hats(tmp_path / "hats")
    read, whole = [], pq.ParquetFile.read

    def note(self, columns=None, **options):
        read.append(columns)
        return whole(self, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", note)
    table, _ = read_partitions(folder, "objID", Wanted(("mag[1]",), {"objID", "z"}))
    assert table.columns.tolist() == ["objID", "mag[1]"]
    assert read == [["objID", "mag"]] * len(PIXELS)
    table, _ = read_partitions(folder, "objID", Wanted(("mag", "_healpix_29"), {"objID"}))
    assert table.columns.tolist() == ["_healpix_29", "objID", "mag[0]", "mag[1]"]
    for name in ("mags", "mag[2]"):
        with pytest.raises(CatalogError, match=r"no column 'mag.*', asked for by \[catalog\] colu"):
            read_partitions(folder, "objID", Wanted((name,), {"objID"}))


def test_a_column_that_makes_a_partition_too_large_can_be_left_on_disk(tmp_path, monkeypatch):
    """The limit is on what is read, of all partitions together."""
    tables = [
        table.append_column(
            "wide", pa.array(np.random.default_rng(0).random((N_EACH, 2000)).tolist())
        )
        for table in make_tables()
    ]
    folder = write_hats(tmp_path / "hats", tables)
    each = tables[0].nbytes
    monkeypatch.setattr("galfig.catalog.limits.find_memory", lambda: 8 * 3 * each)
    with pytest.raises(CatalogError, match=r"Npix=(3|12345)\.parquet: more than .* GB decoded"):
        read_partitions(folder, "objID")
    assert len(read_partitions(folder, "objID", Wanted(("n",), {"objID"}))[0]) == 20


def test_a_plain_folder_is_its_files_in_the_order_of_their_names(tmp_path):
    """As dask, Spark and Hugging Face write it, with what else they leave there."""
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, table in enumerate(make_tables()):
        pq.write_table(table, folder / f"part.{number:02}.parquet")
    for name in ("_metadata", "_SUCCESS", ".part.00.parquet.crc", "README.md", "_old.parquet"):
        (folder / name).write_text("no Parquet")
    table, _ = read_partitions(folder, "objID")
    compare(table, join(make_tables()))


def test_folders_that_are_no_catalog(tmp_path):
    """The message says what a folder may be."""
    with pytest.raises(CatalogError, match="no such file, expected a catalog"):
        read_partitions(tmp_path / "nosuch.parquet", "objID")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CatalogError, match=r"is a folder, expected a catalog; .* from-folders"):
        load_catalog(empty)
    deep = tmp_path / "deep"
    (deep / "year=2020").mkdir(parents=True)
    pq.write_table(make_tables()[0], deep / "year=2020" / "a.parquet")
    with pytest.raises(CatalogError, match="in the folders 'year=2020', expected a HATS catalog"):
        load_catalog(deep)
    write_hats(tmp_path / "collection" / "survey")
    (tmp_path / "collection" / "collection.properties").write_text("hats_primary_table_url=survey")
    with pytest.raises(CatalogError, match=r"a collection of HATS catalogs, .* one of 'survey'"):
        load_catalog(tmp_path / "collection")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "properties").touch()
    with pytest.raises(CatalogError, match="a HATS catalog without partitions"):
        load_catalog(tmp_path / "bare")
    with pytest.raises(CatalogError, match=r"\[catalog\] names is for text"):
        load_catalog(
            settings={"catalog": {"path": str(write_hats(tmp_path / "h")), "names": ["objID"]}}
        )


def remove_one(folder):
    (folder / "dataset/Norder=1/Dir=0/Npix=17.parquet").unlink()


def add_one(folder):
    first = folder / "dataset/Norder=1/Dir=0/Npix=4.parquet"
    (first.parent / "Npix=5.parquet").write_bytes(first.read_bytes())


def spoil_listing(folder):
    (folder / "partition_info.csv").write_text("Norder,Npix\n1,four\n")


def list_impossible(folder):
    (folder / "partition_info.csv").write_text("Norder,Npix\n1,48\n")


def truncate(folder):
    path = folder / "dataset/Norder=2/Dir=0/Npix=3.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def link_file_out(folder):
    path = folder / "dataset/Norder=2/Dir=0/Npix=3.parquet"
    path.rename(folder.parent / "elsewhere.parquet")
    path.symlink_to(folder.parent / "elsewhere.parquet")


def link_folder_out(folder):
    path = folder / "dataset/Norder=2"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere", target_is_directory=True)


def link_listing_out(folder):
    (folder / "partition_info.csv").unlink()
    (folder / "partition_info.csv").symlink_to("/etc/passwd")


def link_in_a_circle(folder):
    (folder / "dataset/Norder=2/Dir=0/Npix=3.parquet").unlink()
    (folder / "dataset/Norder=2/Dir=0/Npix=3.parquet").symlink_to("Npix=3.parquet")


def change(make):
    def spoil(folder):
        path = folder / "dataset/Norder=2/Dir=0/Npix=3.parquet"
        pq.write_table(make(pq.read_table(path)), path)

    spoil.__name__ = make.__name__
    return spoil


def drop_a_column(table):
    return table.drop_columns(["kind"])


def add_a_column(table):
    return table.append_column("more", table["n"])


def change_a_type(table):
    at = table.schema.get_field_index("oh_p50")
    return table.set_column(at, "oh_p50", table["oh_p50"].cast(pa.string()))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_one, "1 of 4 partitions are missing, first: Norder=1/Dir=0/Npix=17; expected"),
        (add_one, "1 of 4 partitions are not listed, first: Norder=1/Dir=0/Npix=5; expected"),
        (spoil_listing, "partition_info.csv: cannot be read, expected whole numbers"),
        (list_impossible, "partition_info.csv: Norder 1, Npix 48, expected"),
        (truncate, r"Npix=3\.parquet: cannot be read \("),
        (link_file_out, "'dataset/Norder=2/Dir=0/Npix=3.parquet' leads out of the folder"),
        (link_folder_out, "'dataset/Norder=2' leads out of the folder"),
        (link_listing_out, "'partition_info.csv' leads out of the folder"),
        (link_in_a_circle, r"Npix=3\.parquet: cannot be read \("),
        (change(drop_a_column), "lacks the column 'kind', which .*Npix=4.parquet has, expected"),
        (change(add_a_column), "has a column 'more', which not even|has a column 'more', which"),
        (change(change_a_type), "column 'oh_p50' holds string, expected double as in"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hostile_and_damaged_folders(tmp_path, spoil, message):
    """One line that says where, and nothing that lies elsewhere is read."""
    folder = write_hats(tmp_path / "hats")
    spoil(folder)
    with pytest.raises(CatalogError, match=message) as caught:
        load_catalog(folder)
    assert "\n" not in str(caught.value)
    assert "root:" not in str(caught.value)


def test_a_partition_without_a_value_has_no_type(tmp_path):
    """pandas writes such a column as one of nulls; columns may also be in another order."""
    folder = write_hats(tmp_path / "hats")
    for name, is_first in (("Norder=1/Dir=0/Npix=4", True), ("Norder=2/Dir=0/Npix=3", False)):
        path = folder / "dataset" / f"{name}.parquet"
        table = pq.read_table(path)
        at = table.schema.get_field_index("kind")
        table = table.set_column(at, "kind", pa.nulls(len(table)))
        pq.write_table(table if is_first else table.select(table.schema.names[::-1]), path)
    expected = join(make_tables())
    expected.loc[np.r_[0:5, 10:15], "kind"] = None
    compare(read_partitions(folder, "objID")[0], expected)


def test_links_within_the_folder_are_followed(tmp_path):
    """And so is one to the folder itself, which the user names."""
    folder = write_hats(tmp_path / "hats")
    path = folder / "dataset/Norder=2/Dir=0/Npix=3.parquet"
    path.rename(folder / "store.bin")
    path.symlink_to(folder / "store.bin")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert len(read_partitions(tmp_path / "link", "objID")[0]) == 20


def test_commands_take_a_folder(tmp_path):
    """The option names the folder as it names a file; what is wrong is said of the folder."""
    folder = write_hats(tmp_path / "hats")
    for command in (["build-maps", "--model"], ["train", "--init"]):
        words = [*command, "nosuch.safetensors", "--catalog", str(folder)]
        result = CliRunner().invoke(main, words)
        assert "nosuch.safetensors" in result.stderr
    remove_one(folder)
    result = CliRunner().invoke(main, ["train", "--catalog", str(folder)])
    assert "partitions are missing" in result.stderr


def test_images_in_the_partitions(tmp_path):
    """A column of image files, as a single file of Parquet may hold it."""
    tables, pixels, rng = [], {}, np.random.default_rng(0)
    for table in make_tables():
        files = []
        for objid in table["objID"].to_pylist():
            stream = io.BytesIO()
            pixels[str(objid)] = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels[str(objid)]).save(stream, "PNG")
            files.append(stream.getvalue())
        tables.append(table.append_column("cutout", pa.array(files)))
    folder = write_hats(tmp_path / "hats", tables)
    settings = {"catalog": {"path": str(folder), "array": "cutout"}}
    galaxies = load_galaxies(load_settings(settings))
    assert len(galaxies) == 20
    places = [one.path for one in list_partitions(folder)]
    assert galaxies.paths[7] == Element(places[1], "cutout", 2)
    for row in (0, 7, 19):
        assert np.array_equal(read_cutout(galaxies.paths[row], 8), pixels[galaxies.objid[row]])
    # Numbers stay numbers, and neither arrays nor images are columns.
    assert galaxies.table.columns.tolist() == ["_healpix_29", "objID", "oh_p50", "n", "kind"]
    assert galaxies.table["oh_p50"].dtype.kind == "f"
    few = galaxies.take(np.array([19, 3]))
    assert [str(path) for path in few.paths] == [str(galaxies.paths[19]), str(galaxies.paths[3])]
    settings["catalog"]["array"] = "image"
    with pytest.raises(CatalogError, match=r"Npix=4\.parquet: expected array 'image'"):
        load_galaxies(load_settings(settings))


def test_rows_of_images_without_identifiers_are_numbered(tmp_path):
    """Through all partitions, from 0."""
    folder = write_hats(tmp_path / "hats")
    table, _ = read_partitions(folder, "name", has_images=True)
    assert table["name"].tolist() == [str(row) for row in range(20)]


def test_a_file_that_is_written_to_meanwhile(tmp_path, monkeypatch):
    """What was digested would not be what was read."""
    path = tmp_path / "a.parquet"
    pq.write_table(make_tables()[0], path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_partitions(path, "objID")[1] == digest

    def write_on(*args, **options):
        with path.open("ab") as file:
            file.write(b"more")
        return make_tables()[0]

    monkeypatch.setattr("galfig.catalog.partitions.read_chosen", write_on)
    with pytest.raises(CatalogError, match=r"a\.parquet: was written to while it was read"):
        read_partitions(path, "objID")
