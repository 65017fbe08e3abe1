"""Made-up stores and catalogs of millions of galaxies, for `benchmarks.scale`.

A store holds a few dozen different galaxies over and over, under identifiers, classes and
redshifts of their own. galfig takes it for a real one: schema, checksums and digests are right.
Its maps and cutouts are nearly empty, so that a chunk of a galaxy takes 0.5 kB where a real one
takes 10 to 40; all else has the size that a store of SDSS has.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from galfig.config import Settings
from galfig.cosmology import kpc_per_arcsec
from galfig.store.checksums import digest_chunk, record_chunks, seal_file
from galfig.store.chunks import FILTERS, encode_galaxy
from galfig.store.hdf5 import create_hdf5, set_attributes
from galfig.store.schema import DESCRIPTIONS, SCHEMA_VERSION

# Different galaxies, rows that are written at once, and images that a catalog refers to.
N_DIFFERENT, N_BLOCK, N_IMAGES = 64, 100_000, 64
# Sides of cutouts and maps [pixels].
CUTOUT, MAP = 96, 24
# Share of galaxies that are left out of a store.
REJECTED = 1e-3
_FIRST = 1237645000000000000
_TYPES = ("E", "S0", "Sb", "Sc", "merger")
_FLUXES = ("petroMag_u", "petroMag_g", "petroMag_r", "petroMag_i", "petroMag_z")


def write_store(path: Path, n: int, peak: float = 2e-4) -> None:
    """Write a store of two classes, in memory that does not grow with it.

    Parameters
    ----------
    path : Path
        The file to write.
    n : int
        Number of galaxies.
    peak : float, default 2e-4
        Largest value of a map [logit]; another one makes the store of another network.
    """
    galaxies = _encode_galaxies(peak)
    with create_hdf5(path) as file:
        set_attributes(file, _make_attributes(n))
        group = file.create_group("catalog")
        columns = {name: name for name in make_columns(np.arange(1))}
        set_attributes(group, {"columns": json.dumps(columns)})
        for rows in iter_blocks(n):
            for name, values in {
                **_make_arrays(rows),
                **{f"catalog/{name}": values for name, values in make_columns(rows).items()},
                "cam_scale": np.stack([galaxy.cam_scale for galaxy in galaxies])[
                    rows % N_DIFFERENT
                ],
            }.items():
                _write_rows(file, name, rows, n, values)
        shape = (2, MAP, MAP)
        _write_chunks(file, "cams", n, [one.cams for one in galaxies], shape, np.float16)
        shape = (CUTOUT, CUTOUT, 3)
        _write_chunks(file, "cutouts", n, [one.cutout for one in galaxies], shape, np.uint8)
        _write_rejected(file, int(REJECTED * n))
        seal_file(file)


def write_catalog(path: Path, n: int) -> None:
    """Write a catalog as CSV or Parquet, by suffix, and the few images that its rows name.

    Parameters
    ----------
    path : Path
        The file to write; the images go beside it.
    n : int
        Number of galaxies.
    """
    images = path.parent / "images"
    images.mkdir(exist_ok=True)
    for number, cutout in enumerate(_draw_cutouts(N_IMAGES)):
        Image.fromarray(cutout).save(images / f"{number}.jpg")
    blocks = (pd.DataFrame(make_columns(rows)) for rows in iter_blocks(n))
    if path.suffix == ".csv":
        for number, block in enumerate(blocks):
            _decode(block).to_csv(path, mode="a" if number else "w", header=not number, index=False)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for block in blocks:
        table = pa.Table.from_pandas(_decode(block), preserve_index=False)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def iter_blocks(n: int) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of n rows, some at a time."""
    for start in range(0, n, N_BLOCK):
        yield np.arange(start, min(start + N_BLOCK, n))


def make_columns(rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the columns of a catalog like one of SDSS, for rows of some numbers."""
    draw = partial(_draw, rows)
    return {
        "objID": _name(rows),
        "ra": 360 * draw(0),
        "dec": 90 * draw(1) - 20,
        "z": 0.02 + 0.2 * draw(2) ** 2,
        "oh_p50": np.where(draw(3) < 0.5, 8.1 + 0.6 * draw(4), 9.1 + 0.2 * draw(4)),
        "lgm_tot_p50": 9 + 2 * draw(5),
        "petroRad_r": 2 + 20 * draw(6) ** 3,
        "type": np.array(_TYPES, "S6")[(len(_TYPES) * draw(7)).astype(int)],
        "plate": (266 + 2000 * draw(8)).astype(np.int64),
        "mjd": (51600 + 3000 * draw(9)).astype(np.int64),
        "fiberID": (1 + 640 * draw(10)).astype(np.int64),
        **{name: 22 - 6 * draw(11 + number) for number, name in enumerate(_FLUXES)},
        "image": (rows % N_IMAGES).astype("S3"),
    }


def _draw(rows: NDArray[np.int64], stream: int) -> NDArray[np.float64]:
    """Return numbers from 0 to 1 that follow from the number of a row alone (splitmix64)."""
    with np.errstate(over="ignore"):
        state = rows.astype(np.uint64) + np.uint64(stream << 48)
        state = (state + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


def _name(rows: NDArray[np.int64]) -> NDArray[np.bytes_]:
    """Return identifiers as in SDSS, in another order than that of the rows."""
    steps = (_draw(rows, 20) * 2**20).astype(np.int64)
    return (_FIRST + (steps << 24) + rows).astype("S19")


def _decode(table: pd.DataFrame) -> pd.DataFrame:
    texts = [name for name in table if table[name].dtype == object]
    return table.assign(**{name: table[name].str.decode("ascii") for name in texts})


def _make_arrays(rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a store, other than maps and cutouts; text as bytes."""
    columns = make_columns(rows)
    label = (columns["oh_p50"] > 8.7).astype(np.int16)
    score = 3 * (label - 0.5) + 4 * (_draw(rows, 21) - 0.5)
    logits = np.stack([-score, score], axis=1).astype(np.float32)
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return {
        "objid": columns["objID"],
        "image_digest": rows.astype(np.uint64) + np.uint64(1),
        "redshift": columns["z"],
        "label": label,
        "split": np.array(["valid", "train"], "S5")[(_draw(rows, 22) < 0.7).astype(int)],
        "value": columns["oh_p50"],
        "logits": logits,
        "probs": (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32),
        "kpc_per_arcsec": kpc_per_arcsec(columns["z"]),
    }


def _make_attributes(n: int) -> dict[str, Any]:
    training = {
        "arch": "conv3",
        "n_train": {"low": n // 3, "high": n // 3},
        "n_valid": {"low": n // 8, "high": n // 8},
        "simulated": True,
        "lr": 0.08,
        "lr_finder": {"lr": [1e-4, 1e-3, 1e-2, 1e-1], "loss": [0.7, 0.6, 0.4, 0.9]},
        "history": [
            {"train_loss": loss, "valid_loss": loss, "accuracy": 0.8, "roc_auc": 0.9, "f1": 0.8}
            for loss in (0.7, 0.5)
        ],
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "galfig_version": "0",
        "plan_digest": f"synthetic-{n}",
        "catalog_sha256": "0" * 64,
        "checkpoint_sha256": "0" * 64,
        "class_names": '["low", "high"]',
        "class_counts": json.dumps({"low": n // 2, "high": n - n // 2}),
        "target_layer": "conv3",
        "split": "all",
        "cutout_size": CUTOUT,
        "pixel_scale": 0.396,
        "simulated": True,
        "config": json.dumps(Settings().record()),
        "training": json.dumps(training),
    }


def _draw_cutouts(n: int) -> NDArray[np.uint8]:
    """Draw round galaxies on a black sky, (n, H, W, 3)."""
    y, x = np.mgrid[:CUTOUT, :CUTOUT] - (CUTOUT - 1) / 2
    width = np.linspace(2, 5, n)[:, None, None]
    light = 200 * np.exp(-0.5 * (x**2 + y**2) / width**2)
    return np.repeat(light.astype(np.uint8)[..., None], 3, axis=3)


def _encode_galaxies(peak: float) -> list[Any]:
    """Compress the different galaxies; where their cutouts are black, the maps are zero."""
    cutouts = _draw_cutouts(N_DIFFERENT)
    step = CUTOUT // MAP
    light = cutouts[:, step // 2 :: step, step // 2 :: step, 0] * np.float32(peak / 255)
    return [
        encode_galaxy(np.stack([one, -one]).astype(np.float32), cutout)
        for one, cutout in zip(light, cutouts, strict=True)
    ]


def _write_rows(
    file: h5py.File, name: str, rows: NDArray[np.int64], n: int, values: NDArray[Any]
) -> None:
    """Write some rows of a dataset in one piece, and create it before the first."""
    if values.dtype.kind == "S":
        values = values.astype(h5py.string_dtype("utf-8", values.dtype.itemsize))
    if name not in file:
        dataset = file.create_dataset(name, (n, *values.shape[1:]), values.dtype)
        if name in DESCRIPTIONS:
            set_attributes(dataset, {"description": DESCRIPTIONS[name]})
    file[name][rows[0] : rows[-1] + 1] = values


def _write_chunks(
    file: h5py.File,
    name: str,
    n: int,
    chunks: list[bytes],
    shape: tuple[int, ...],
    dtype: type,
) -> None:
    """Write a dataset that repeats a few compressed chunks."""
    dataset = file.create_dataset(name, (n, *shape), dtype, chunks=(1, *shape), **FILTERS)
    origin = (0,) * len(shape)
    for row in range(n):
        dataset.id.write_direct_chunk((row, *origin), chunks[row % len(chunks)])
    set_attributes(dataset, {"description": DESCRIPTIONS[name]})
    digests = [digest_chunk(0, chunk) for chunk in chunks]
    record_chunks(dataset, b"".join(digests[row % len(chunks)] for row in range(n)))


def _write_rejected(file: h5py.File, n: int) -> None:
    group = file.create_group("rejected")
    objid = np.char.add(b"bad", np.arange(n).astype("S10")) if n else np.empty(0, "S1")
    text = h5py.string_dtype("utf-8", objid.dtype.itemsize)
    group.create_dataset("objid", data=objid.astype(text))
    reason = np.full(n, b"image cannot be read")
    group.create_dataset("reason", data=reason.astype(h5py.string_dtype("utf-8", 20)))
    group.create_dataset("image_digest", data=np.zeros(n, np.uint64))


if __name__ == "__main__":
    target, size = Path(sys.argv[1]), int(sys.argv[2])
    if target.suffix == ".h5":
        write_store(target, size, *map(float, sys.argv[3:]))
    else:
        write_catalog(target, size)
