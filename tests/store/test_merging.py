"""Merging: what must not enter a store though each file is sound, and outlines of anybody's."""

import h5py
import numpy as np
import pandas as pd
import pytest
from samples import draw_galaxies, join_parts, make_attributes

from galfig.errors import DamagedPartError, StoreError
from galfig.store.checksums import digest_chunk, read_chunk, record_chunks, seal_file
from galfig.store.hdf5 import set_attributes
from galfig.store.outline import Outline, open_outline, write_outline

OBJID = [f"g{index}" for index in range(6)]


def seal_again(path, change):
    """Change a file as somebody would who knows how galfig seals it."""
    with h5py.File(path, "r+", libver=("v110", "v110"), locking=False) as file:
        change(file)
        del file.attrs["seal"]
        groups = [file, *(item for item in file.values() if isinstance(item, h5py.Group))]
        for dataset in [one for group in groups for one in group.values() if hasattr(one, "ndim")]:
            if not dataset.chunks:
                dataset.attrs.pop("sha256", None)
        seal_file(file)


def replace(name, values, **options):
    """Return a function that puts another dataset in the place of one."""

    def change(file):
        if name in file:
            del file[name]
        dataset = file.create_dataset(name, data=values, **options)
        if dataset.chunks:
            chunks = (digest_chunk(*read_chunk(dataset, row)) for row in range(len(dataset)))
            record_chunks(dataset, b"".join(chunks))

    return change


def pack(values, **options):
    return {"values": values, "chunks": (1, *values.shape[1:]), **options}


FILTERS = {"compression": "gzip", "shuffle": True, "fletcher32": True}
MAPS = np.zeros((3, 2, 6, 6), np.float16)
ODD_PARTS = {
    "larger maps": {"name": "cams", **pack(np.zeros((3, 2, 7, 7), np.float16), **FILTERS)},
    "maps of 8 bits": {"name": "cams", **pack(MAPS.astype(np.int8), **FILTERS)},
    "maps of the other byte order": {"name": "cams", **pack(MAPS.astype(">f2"), **FILTERS)},
    "maps in one piece": {"name": "cams", "values": MAPS},
    "maps that are not shuffled": {"name": "cams", **pack(MAPS, fletcher32=True)},
    "logits of the other byte order": {"name": "logits", "values": np.zeros((3, 2), ">f4")},
    "a dataset more": {"name": "agreement", "values": np.zeros(3, np.float32)},
    "an unknown dataset": {"name": "\x1b[31m", "values": np.zeros(3)},
}


@pytest.mark.parametrize("is_virtual", [False, True])
@pytest.mark.parametrize("kind", ODD_PARTS)
def test_a_part_unlike_the_others_is_refused(tmp_path, kind, is_virtual):
    """Chunks are copied as they are, and would become other numbers in another dataset."""
    folder = tmp_path / "maps.h5.parts"
    folder.mkdir()
    parts = [folder / "000000.h5", folder / "000001.h5"]
    for part, start in zip(parts, (0, 3), strict=True):
        draw_galaxies(start, start + 3).write(part)
    seal_again(parts[1], replace(**ODD_PARTS[kind]))
    table = pd.DataFrame({"objID": OBJID}, index=OBJID)
    attrs = make_attributes(("a", "b"), size=10)
    with pytest.raises(DamagedPartError, match=r"000001\.h5: ") as caught:
        join_parts(tmp_path / "maps.h5", parts, table, attrs, is_virtual=is_virtual)
    assert str(caught.value).isprintable()
    assert any(words in str(caught.value) for words in ("than in other parts", "not as galfig"))


@pytest.mark.parametrize(
    ("rows", "rejected"),
    [
        ([(0, 3), (0, 3)], {}),
        ([(3, 6), (0, 3)], {}),
        ([(0, 3)], {}),
        ([(0, 3), (3, 5)], {}),
        ([(0, 3), (3, 6)], {"g9": "truncated"}),
        ([(0, 3), (3, 6)], {"g3": "truncated"}),
    ],
    ids=["double", "in another order", "too few", "one short", "one more", "stored and rejected"],
)
def test_parts_of_other_galaxies_are_refused(tmp_path, rows, rejected):
    """The catalog is that of the outline, and each of its rows is of one galaxy."""
    parts = []
    for number, (start, stop) in enumerate(rows):
        parts.append(tmp_path / f"{number:06d}.h5")
        draw_galaxies(start, stop, rejected=rejected if number else {}).write(parts[-1])
    table = pd.DataFrame({"objID": OBJID}, index=OBJID)
    attrs = make_attributes(("a", "b"), size=10)
    with pytest.raises(DamagedPartError, match=r"other galaxies than|of 6 galaxies"):
        join_parts(tmp_path / "maps.h5", parts, table, attrs)


def name_columns(words):
    return lambda file: set_attributes(file["catalog"], {"columns": words})


ODD_OUTLINES = {
    "no galaxy": replace("objid", np.zeros(0, "S3")),
    "no list of galaxies": replace("objid", np.int64(3)),
    "galaxies as numbers": replace("objid", np.arange(6)),
    "a galaxy without a row": replace("objid", np.array([f"g{n}" for n in range(7)], "S2")),
    "no plan": lambda file: file.attrs.__delitem__("plan_digest"),
    "a number for a plan": lambda file: file.attrs.__setitem__("plan_digest", 5),
    "no catalog": lambda file: file.__delitem__("catalog"),
    "no table": replace("catalog", np.zeros(6)),
    "no columns": lambda file: file["catalog"].attrs.__delitem__("columns"),
    "a list of columns": name_columns("[1]"),
    "an unknown column": name_columns('{"a": "b"}'),
    "a column elsewhere": name_columns('{"a": "../objid"}'),
    "a deep list of columns": name_columns("[" * 100_000),
    "nothing on rejected galaxies": lambda file: file.__delitem__("rejected"),
    "a reason too few": replace("rejected/reason", np.zeros(0, "S1")),
    "one reason for all": replace("rejected/objid", np.int64(3)),
}


@pytest.mark.parametrize("kind", ODD_OUTLINES)
def test_other_outlines_are_refused(tmp_path, kind):
    """In one line that names the file, before anything is made of it."""
    path = tmp_path / "outline.h5"
    described = Outline(make_attributes(("a", "b"), size=10), 6, 5, "way")
    table = pd.DataFrame({"objID": OBJID}, index=OBJID)
    write_outline(path, described, OBJID, table, {"early": "no class"})
    with open_outline(path) as (_, found):
        assert (found.n_galaxies, found.shard_size, found.engine) == (6, 5, "way")
    seal_again(path, ODD_OUTLINES[kind])
    with pytest.raises(StoreError, match=r"outline\.h5: ") as caught, open_outline(path):
        pass
    assert str(caught.value).isprintable()
    assert str(caught.value).count("outline.h5") == 1
