"""An archive of odd images, whole; and images damaged at random places: used rightly or named."""

import csv
import gzip
import io
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image
from samples import CPU, make_checkpoint

from galfig.catalog.galaxies import load_galaxies
from galfig.config import load_settings
from galfig.errors import CutoutError
from galfig.images.cutouts import read_cutout
from galfig.networks.checkpoint import save_checkpoint
from galfig.pipeline.build import build_store
from galfig.pipeline.plan import make_plan
from galfig.store.reader import open_store

SIZE = 32


@pytest.fixture
def archive(real_data, tmp_path):
    """Write a catalog of the odd images, and return it with their folder."""
    # The folder has a table of its own, not a catalog.
    folder = real_data("sdss-oh").parent / "odd-images"
    if not folder.is_dir():
        pytest.skip("no odd images")
    with (folder / "files.csv").open() as file:
        rows = list(csv.DictReader(file))
    catalog = pd.DataFrame(
        {
            "objID": [f"odd{index:04d}" for index in range(len(rows))],
            "folder": [row["category"] for row in rows],
            "name": [row["file"].split("/")[-1] for row in rows],
            "oh_p50": np.tile([8.5, 9.2], len(rows))[: len(rows)],
        }
    )
    catalog.to_csv(tmp_path / "catalog.csv", index=False)
    (tmp_path / "galfig.toml").write_text(
        '[catalog]\npath = "catalog.csv"\nimages = "{folder}/{name}"\n'
        f'images_dir = "{folder}"\n[training]\ncutout_size = {SIZE}\n'
    )
    return catalog, folder


def decode_plainly(path):
    """Take the centre of a large image, with no help of galfig."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    top, left = ((length - SIZE) // 2 for length in pixels.shape[:2])
    return pixels[top : top + SIZE, left : left + SIZE]


@pytest.mark.slow
def test_every_odd_image_is_stored_or_named(archive, tmp_path):
    """Of 340 files each is in the store with its pixels, or among the rejected with the reason."""
    catalog, folder = archive
    settings = load_settings(tmp_path / "galfig.toml", {})
    checkpoint = make_checkpoint(tmp_path / "model.safetensors")
    plan = make_plan(load_galaxies(settings), settings, checkpoint, "all")
    build_store(plan, checkpoint, tmp_path / "maps.h5", run=CPU)
    paths = dict(zip(catalog.objID, folder / catalog.folder / catalog.name, strict=True))
    n_compared = 0
    with open_store(tmp_path / "maps.h5") as store:
        rejected = store.rejected
        assert sorted([*store.objid, *rejected]) == sorted(paths)
        for row, objid in enumerate(store.objid):
            with (
                Image.open(paths[objid])
                if paths[objid].suffix != ".fits"
                else io.BytesIO() as image
            ):
                is_plain = getattr(image, "mode", "") == "RGB" and min(image.size) >= SIZE
            if is_plain:
                np.testing.assert_array_equal(store.cutouts(row), decode_plainly(paths[objid]))
                n_compared += 1
    assert n_compared > 300
    reasons = {paths[objid].parent.name: reason for objid, reason in rejected.items()}
    assert len(rejected) == 13
    assert sum("all pixels are the same" in reason for reason in rejected.values()) == 10
    assert "image file is truncated" in reasons["truncated_jpeg"]
    assert "a Git LFS pointer" in reasons["git_lfs_pointer_named_png"]


@pytest.mark.slow
def test_command_goes_through_the_archive(archive, tmp_path):
    """In a real process one warning counts what was left out, and none comes from a library."""
    settings = load_settings(tmp_path / "galfig.toml", {})
    checkpoint = make_checkpoint(tmp_path / "network.safetensors")
    metadata = checkpoint.metadata | {
        "settings": settings.model_dump(mode="json"),
        "catalog_sha256": load_galaxies(settings).catalog_sha256,
    }
    save_checkpoint(tmp_path / "model.safetensors", checkpoint.model, metadata)
    command = [sys.executable, "-m", "galfig", "build-maps", "--split", "all"]
    command += ["--model", "model.safetensors"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    # Python's own warnings begin with the file and line of their origin.
    assert ".py" not in result.stderr
    warnings = re.findall(r".*warning.*", result.stderr, re.IGNORECASE)
    start = "warning: maps.h5: 13 of 340 cutouts could not be explained, first: odd"
    (warning,) = [line for line in warnings if line.startswith(start)]
    # Of the others, one says that the network is no better than a guess; all name the file.
    assert all(re.match(r"warning: (maps\.h5|model\.safetensors|.*csv): ", w) for w in warnings)
    assert warning.endswith("; 'galfig info --rejected' lists them")


def draw(*shape):
    """Draw something smooth with noise on it, as galaxies are."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    light = 160 * np.exp(-((x - 20) ** 2 + (y - 16) ** 2) / 60)
    noise = np.random.default_rng(0).normal(20, 4, shape)
    return (light.reshape(*light.shape, *[1] * (len(shape) - 2)) + noise).astype(np.uint8)


def encode(kind):
    """Return the bytes of a valid image of some kind."""
    stream = io.BytesIO()
    if kind.startswith("FITS"):
        values = draw(32, 40).astype(np.float32)
        hdus = {
            "FITS": [fits.PrimaryHDU(values)],
            "FITS, gzip": [fits.PrimaryHDU(values)],
            "FITS, integers": [fits.PrimaryHDU(values.astype(np.uint16))],
            "FITS, tiles": [fits.PrimaryHDU(), fits.CompImageHDU(values.astype(np.int32))],
            "FITS, cube": [fits.PrimaryHDU(np.stack([values] * 3))],
        }[kind]
        fits.HDUList(hdus).writeto(stream)
        return gzip.compress(stream.getvalue()) if kind == "FITS, gzip" else stream.getvalue()
    image = Image.fromarray(draw(32, 40, 3))
    if kind == "PNG, palette":
        image.quantize(32).save(stream, "PNG", transparency=3)
    elif kind == "PNG, 16 bits":
        Image.fromarray(draw(32, 40).astype(np.uint16) << 8).save(stream, "PNG")
    elif kind == "JPEG, progressive":
        image.save(stream, "JPEG", progressive=True)
    elif kind == "TIFF, LZW":
        image.save(stream, "TIFF", compression="tiff_lzw")
    else:
        image.save(stream, kind)
    return stream.getvalue()


KINDS = (
    *("JPEG", "JPEG, progressive", "PNG", "PNG, palette", "PNG, 16 bits", "TIFF", "TIFF, LZW"),
    *("GIF", "BMP", "WEBP", "FITS", "FITS, gzip", "FITS, integers", "FITS, tiles", "FITS, cube"),
)


def damage(data, rng):
    """Cut bytes off, flip a few, or take some out."""
    start = int(rng.integers(len(data)))
    # Headers are short, and damage to them does more.
    start = start % 200 if rng.random() < 0.4 else start
    way = rng.integers(3)
    if way == 0:
        return data[:start]
    if way == 1:
        return data[:start] + data[start + int(rng.integers(1, 40)) :]
    flipped = bytearray(data)
    for position in (start, *rng.integers(len(data), size=rng.integers(4))):
        flipped[position] ^= int(rng.integers(1, 256))
    return bytes(flipped)


def read_or_explain(path, size=24):
    """Return a cutout and no reason, or the other way round."""
    try:
        return read_cutout(path, size), ""
    except CutoutError as exc:
        return None, str(exc)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_gives_a_cutout_or_a_reason(tmp_path, campaign, capfd, kind):
    """Bytes cut off, lost or flipped: a cutout of the right shape, or one line; no third way."""
    data, path = encode(kind), tmp_path / "damaged"
    path.write_bytes(data)
    assert read_cutout(path, 24).shape == (24, 24, 3)
    for seed in range(campaign.n(60, 600)):
        with campaign.trial(f"bytes damaged: {kind}"):
            path.write_bytes(damage(data, np.random.default_rng(seed)))
            cutout, reason = read_or_explain(path)
            if cutout is None:
                assert reason.startswith(f"{path}: ")
                assert "\n" not in reason
            else:
                assert cutout.shape == (24, 24, 3)
                assert cutout.dtype == np.uint8
            printed = capfd.readouterr()
            assert printed.out == ""
            # Of damaged compression libtiff, behind Pillow, says a word of its own.
            assert printed.err == "" or kind == "TIFF, LZW"


@pytest.mark.parametrize("kind", ["PNG", "PNG, palette", "PNG, 16 bits", "FITS, gzip"])
def test_checksums_are_compared(tmp_path, campaign, kind):
    """Where the format has checksums, no damage gives other pixels."""
    data, path = encode(kind), tmp_path / "damaged"
    path.write_bytes(data)
    whole = read_cutout(path, 40)
    for seed in range(campaign.n(60, 600)):
        with campaign.trial(f"bytes damaged, with checksums: {kind}"):
            path.write_bytes(damage(data, np.random.default_rng(seed + 1000)))
            cutout, _ = read_or_explain(path, 40)
            assert cutout is None or np.array_equal(cutout, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_no_part_of_a_file_is_another_galaxy(tmp_path, campaign, kind):
    """A file cut off anywhere is refused, or lacks no pixel: none is filled up with grey."""
    data, path = encode(kind), tmp_path / "cut"
    path.write_bytes(data)
    whole = read_cutout(path, 40)
    rng = np.random.default_rng(1)
    for _ in range(campaign.n(20, 200)):
        with campaign.trial(f"file cut off: {kind}"):
            path.write_bytes(data[: rng.integers(len(data))])
            cutout, _ = read_or_explain(path, 40)
            assert cutout is None or np.array_equal(cutout, whole)
