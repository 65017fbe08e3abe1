"""Cutouts: the same pixels as fastai sees, and damaged files named."""

import numpy as np
import pytest
from PIL import Image

from galfig.cutouts import crop_or_pad, find_unreadable, read_cutout, scale_cutout
from galfig.errors import CutoutError


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(128, 128), (127, 129), (95, 97), (51, 50), (96, 96), (40, 200)])
def test_crop_is_fastai_crop_pad(shape):
    """Even, odd, smaller and larger images are cut where fastai's CropPad cuts them."""
    from fastai.vision.core import PILImage

    from galfig import training

    image = noise(*shape, 3)
    expected = np.asarray(training.CropPad(96)(PILImage.create(image)))
    assert np.array_equal(crop_or_pad(image, 96), expected)


def test_scaling_is_fastai_resize():
    """A scaled cutout is what fastai's Resize gives."""
    from fastai.vision.core import PILImage

    from galfig import training

    cutout = noise(207, 207, 3)
    expected = np.asarray(training.Resize(69)(PILImage.create(cutout), split_idx=1))
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


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    """Grayscale, palette, alpha and CMYK files give RGB."""
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(noise(20, 20, 3)).convert(mode).save(path)
    cutout = read_cutout(path, 16)
    assert cutout.shape == (16, 16, 3)
    assert cutout.dtype == np.uint8


@pytest.mark.parametrize("damage", ["truncated", "empty", "html", "missing"])
def test_damaged_files_are_named(tmp_path, damage):
    """A file that cannot be decoded raises CutoutError with its path, nothing else."""
    path = tmp_path / "bad.jpg"
    if damage == "truncated":
        Image.fromarray(noise(64, 64, 3)).save(path)
        path.write_bytes(path.read_bytes()[:1500])
    elif damage != "missing":
        path.write_bytes(b"" if damage == "empty" else b"<html>404</html>")
    with pytest.raises(CutoutError, match=r"bad\.jpg"):
        read_cutout(path, 32)


def test_find_unreadable_gives_positions(tmp_path):
    """Only the damaged files are listed, by position, whatever the number of threads."""
    paths = [tmp_path / f"{index}.png" for index in range(6)]
    for path in paths:
        Image.fromarray(noise(8, 8, 3)).save(path)
    paths[4].write_bytes(b"no image")
    for n_workers in (1, 3):
        found = find_unreadable(paths, n_workers=n_workers)
        assert list(found) == [4]
        assert "4.png" in found[4]


def test_real_oddities_are_read_or_refused(real_data):
    """Every odd file of the archive gives a cutout or a CutoutError; the truncated ones fail."""
    # The folder has a table of its own, not a catalog.
    folder = real_data("sdss-oh").parent / "odd-images"
    if not folder.is_dir():
        pytest.skip("no odd images")
    outcomes = {}
    for path in sorted(path for path in folder.rglob("*.*") if path.is_file()):
        try:
            outcomes[path.parent.name, path.name] = read_cutout(path, 96).shape == (96, 96, 3)
        except CutoutError as exc:
            outcomes[path.parent.name, path.name] = str(path) in str(exc) and "?"
    assert len(outcomes) > 300
    assert all(outcomes.values())
    refused = {folder for (folder, _), outcome in outcomes.items() if outcome == "?"}
    assert any("truncated" in name for name in refused)
