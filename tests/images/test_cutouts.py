"""Cutouts: the same pixels as fastai sees, and damaged files named."""

import errno
import os
import re

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from galfig.errors import CutoutError, LostCutoutError, OutputError
from galfig.images import cutouts
from galfig.images.cutouts import (
    Decoding,
    choose_ahead,
    crop_or_pad,
    iter_cutouts,
    load_cutouts,
    read_cutout,
    scale_cutout,
)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(128, 128), (127, 129), (95, 97), (51, 50), (96, 96), (40, 200)])
def test_crop_is_fastai_crop_pad(shape):
    """Even, odd, smaller and larger images are cut where fastai's CropPad cuts them."""
    from fastai.vision.augment import CropPad
    from fastai.vision.core import PILImage

    image = noise(*shape, 3)
    expected = np.asarray(CropPad(96)(PILImage.create(image)))
    assert np.array_equal(crop_or_pad(image, 96), expected)


def test_scaling_is_fastai_resize():
    """A scaled cutout is what fastai's Resize gives."""
    from fastai.vision.augment import Resize
    from fastai.vision.core import PILImage

    cutout = noise(207, 207, 3)
    expected = np.asarray(Resize(69)(PILImage.create(cutout), split_idx=1))
    assert np.array_equal(scale_cutout(cutout, 69), expected)


def test_crop_keeps_the_centre():
    """The central pixel of an odd image stays central."""
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 50] = 255
    for size in (11, 151):
        cutout = crop_or_pad(image, size)
        assert cutout.shape == (size, size, 3)
        assert cutout[size // 2, size // 2].tolist() == [255, 255, 255]
        assert cutout.sum() == 3 * 255


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    """Grayscale, palette and alpha files give RGB, whatever their suffix."""
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(20, 20, 3)).convert(mode).save(path, "PNG")
    cutout = read_cutout(path, 16)
    assert cutout.shape == (16, 16, 3)
    assert cutout.dtype == np.uint8


def test_one_band_is_the_luminance(tmp_path):
    """A grey file is read as it is; of colour, Pillow's luminance is taken; both scale."""
    grey, colour = noise(20, 20), noise(20, 20, 3)
    for name, pixels in (("grey", grey), ("colour", colour)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    one_band = Decoding(n_channels=1)
    found = read_cutout(tmp_path / "grey.png", 20, one_band)
    np.testing.assert_array_equal(found[..., 0], grey)
    found = read_cutout(tmp_path / "colour.png", 20, one_band)
    luminance = colour @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(found[..., 0], luminance, atol=1)
    assert scale_cutout(found, 10).shape == (10, 10, 1)


def make_bad(path, kind):
    """Write a file that is no cutout."""
    image = Image.fromarray(noise(64, 64, 3))
    if kind == "truncated":
        image.save(path)
        path.write_bytes(path.read_bytes()[:1500])
    elif kind == "one pixel":
        image.crop((0, 0, 1, 1)).save(path)
    elif kind == "CMYK":
        image.convert("CMYK").save(path)
    elif kind == "animated":
        image.save(path, "GIF", save_all=True, append_images=[image.rotate(90)])
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "page": b"<html>404</html>", "text": b"lost"}[kind])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "cannot be decoded (image file is truncated"),
        ("empty", "empty file, expected an image"),
        ("page", "begins like HTML, expected an image"),
        ("text", "begins with b'lost', expected JPEG"),
        ("one pixel", "1 × 1 pixels, expected at least 8 on each side"),
        ("CMYK", "CMYK image, expected RGB or grey; convert it"),
        ("animated", "2 frames, expected one"),
        ("folder", "a folder, expected an image"),
    ],
)
def test_bad_files_are_named_with_the_reason(tmp_path, kind, reason):
    """A file that is no cutout raises CutoutError with its path and what is wrong with it."""
    path = tmp_path / "bad.jpg"
    make_bad(path, kind)
    with pytest.raises(CutoutError) as caught:
        read_cutout(path, 32)
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    """A video under an image's name does not fill the memory."""
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(3 << 30)
    monkeypatch.setattr("galfig.images.cutouts.decode_raster", lambda *args: pytest.fail("read"))
    with pytest.raises(CutoutError, match=r"a\.jpg: 3\.2 GB, expected at most 536\.9 MB"):
        read_cutout(tmp_path / "a.jpg", 32)


FAULTS = {
    errno.ENOENT: "lost",
    errno.EIO: "lost",
    errno.ESTALE: "lost",
    errno.ENOTCONN: "lost",
    errno.ETIMEDOUT: "lost",
    errno.EACCES: "may not be read",
    errno.EPERM: "may not be read",
    errno.EMFILE: "cannot be read now",
    errno.ENFILE: "cannot be read now",
    errno.ENOMEM: "cannot be read now",
    errno.ENOSPC: "cannot be read now",
}


@pytest.mark.parametrize("code", FAULTS)
def test_faults_of_the_machine_are_told_from_a_bad_image(tmp_path, monkeypatch, code):
    """What may be read another day is no bad image, for one file or for a stream of them."""
    assert not issubclass(LostCutoutError, CutoutError)

    def fail(path, *args, **options):
        raise OSError(code, os.strerror(code), str(path))

    path = tmp_path / "a.png"
    Image.fromarray(noise(8, 8, 3)).save(path)
    monkeypatch.setattr("os.open", fail)
    line = re.escape(
        f"{path}: {FAULTS[code]} ({os.strerror(code)}), expected the image that was listed; when"
    )
    with pytest.raises(LostCutoutError, match=line):
        read_cutout(path, 8)
    with pytest.raises(LostCutoutError, match=line):
        list(iter_cutouts([path] * 3, 8))


@pytest.mark.parametrize(
    "exc",
    [
        MemoryError(),
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("can't start new thread"),
        ImportError("cannot open shared object file: Too many open files"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["PNG", "FITS"])
def test_decoder_that_lacks_memory_blames_no_image(tmp_path, monkeypatch, exc, kind):
    """The decoder runs out of something in the middle of a healthy image."""

    def fail(*args, **options):
        raise exc

    path = tmp_path / "a.png"
    if kind == "PNG":
        Image.fromarray(noise(8, 8, 3)).save(path)
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    else:
        fits.PrimaryHDU(noise(8, 8)).writeto(path)
        monkeypatch.setattr("numpy.isfinite", fail)
    with pytest.raises(LostCutoutError, match=r"a\.png: cannot be read now \(.+\), expected"):
        read_cutout(path, 8)


def test_forbidden_file_stops(tmp_path):
    """A mode that was set by mistake is mended, and the galaxy is as good as any other."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / "a.png"
    Image.fromarray(noise(8, 8, 3)).save(path)
    path.chmod(0)
    with pytest.raises(LostCutoutError, match="may not be read"):
        read_cutout(path, 8)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_rejected_at_once(tmp_path, kind):
    """A named pipe would be waited for, and an endless device read until the memory is full."""
    path = tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(CutoutError, match=r"a\.jpg: a .*, expected a regular file$"):
        read_cutout(path, 8)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_cutouts_come_in_order(tmp_path, n_workers):
    """Whatever the number of threads, each file has its place, and damaged ones their error."""
    paths = [tmp_path / f"{index}.png" for index in range(40)]
    for index, path in enumerate(paths):
        image = Image.new("RGB", (8, 8), (index, 0, 0))
        image.putpixel((7, 7), (255, 255, 255))
        image.save(path)
    paths[4].write_bytes(b"no image")
    found = list(iter_cutouts(paths, 8, n_workers=n_workers))
    assert isinstance(found[4], CutoutError)
    assert "4.png" in str(found.pop(4))
    assert [int(cutout[0, 0, 0]) for cutout in found] == [*range(4), *range(5, 40)]


def test_stopping_early_decodes_no_more(tmp_path, monkeypatch):
    """Only a few files ahead are decoded: memory does not grow, and Ctrl-C need not wait."""
    read = []

    def count(path, size, decoding, **options):
        read.append(path)
        return read_cutout(path, size)

    path = tmp_path / "a.png"
    Image.fromarray(noise(8, 8, 3)).save(path)
    monkeypatch.setattr(cutouts, "read_cutout", count)
    stream = iter_cutouts([path] * 1000, 8, n_workers=2)
    next(stream)
    stream.close()
    assert len(read) <= 17


def test_cutouts_beyond_the_memory_lie_in_a_file(tmp_path, monkeypatch):
    """The same numbers, mapped from a file that has no name and is gone with the process."""
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, pixels in zip(paths, noise(4, 20, 20, 3), strict=True):
        Image.fromarray(pixels).save(path)
    paths[2].write_bytes(b"no image")
    kept, reasons = load_cutouts(paths, 16, 12)
    assert kept.shape == (4, 12, 12, 3)
    assert list(reasons) == [2]
    assert np.array_equal(kept[1], scale_cutout(read_cutout(paths[1], 16), 12))
    assert not kept[2].any()
    monkeypatch.setattr("galfig.images.cutouts.MEMORY_SHARE", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    mapped, again = load_cutouts(paths, 16, 12)
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, kept)
    assert again == reasons
    assert set(tmp_path.iterdir()) == before


def test_no_room_for_cutouts_is_said_before_any_is_decoded(tmp_path, monkeypatch):
    """A disk that is full ends in one line, and not in a write to a hole in a file."""

    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("galfig.images.cutouts.MEMORY_SHARE", 0)
    monkeypatch.setattr("os.posix_fallocate", refuse)
    with pytest.raises(OutputError, match=r"no room for 0\.0 GB .*set TMPDIR"):
        load_cutouts([tmp_path / "1.png"], 96, 96)


def test_fewer_images_are_held_ahead_where_memory_is_short(monkeypatch):
    """As many as fit in a quarter of it, and one for each thread in any case."""
    monkeypatch.setattr(cutouts, "find_memory", lambda: 40_000)
    assert choose_ahead(16, 100, 2) == 16
    assert choose_ahead(16, 1000, 2) == 10
    assert choose_ahead(16, 100_000, 2) == 2


def test_images_that_go_to_a_file_are_said_before_they_are_read(tmp_path, monkeypatch, caplog):
    """Training then reads from the disk, and its user may want to know why it is slow."""
    path = tmp_path / "1.png"
    Image.fromarray(noise(20, 20, 3)).save(path)
    monkeypatch.setattr(cutouts, "find_memory", lambda: 4000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with caplog.at_level("INFO"):
        load_cutouts([path], 20, 20)
    (line,) = caplog.messages
    assert line.startswith("0.0 GB of decoded images, more than a quarter of the memory (0.0 GB)")
    assert line.endswith(f"they go to a temporary file in {tmp_path}")
