"""Raster images: every kind that an archive holds, used rightly or refused with the reason."""

import io
import struct
import zlib

import numpy as np
import PIL
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from galfig.images.raster import decode_raster
from galfig.runtime.machine import MemoryBudget


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(image, format="PNG", **options):
    """Return the bytes of an image, or of an array, in some format."""
    stream = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, format, **options)
    return stream.getvalue()


def make_png(rows, depth, color_type, chunks=()):
    """Write a PNG by hand: rows of packed bytes, and chunks before the pixels."""
    height, n_bytes = rows.shape
    n_samples = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    width = 8 * n_bytes // (depth * n_samples)
    pixels = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    body = b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in [
            (b"IHDR", head),
            *chunks,
            (b"IDAT", zlib.compress(pixels)),
            (b"IEND", b""),
        ]
    )
    return b"\x89PNG\r\n\x1a\n" + body


def big_endian(values):
    """Return the rows of 16-bit samples as PNG packs them."""
    return values.astype(">u2").reshape(len(values), -1).view(np.uint8)


def over_black(pixels, alpha):
    """Lay pixels over black, by arithmetic."""
    return np.rint(pixels * (alpha[..., None] / 255.0)).astype(int)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "WEBP"])
def test_lossless_formats_give_their_pixels(format):
    """Each format that keeps pixels gives them back, whatever the file is called."""
    pixels = noise(20, 31, 3)
    options = {"lossless": True} if format == "WEBP" else {}
    np.testing.assert_array_equal(decode_raster(save(pixels, format, **options)), pixels)


def test_gif_of_one_frame_gives_its_palette():
    """A GIF that is not animated is read through its palette."""
    image = Image.fromarray(noise(20, 31, 3)).quantize(200)
    np.testing.assert_array_equal(
        decode_raster(save(image, "GIF")), np.asarray(image.convert("RGB"))
    )


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_jpeg_of_any_kind_is_close_to_its_pixels(options):
    """Progressive and other JPEGs differ from what was saved by no more than JPEG does."""
    y, x = np.mgrid[:40, :56]
    pixels = np.stack([2 * x, 3 * y, x + y], axis=-1).astype(np.uint8)
    found = decode_raster(save(pixels, "JPEG", quality=95, **options))
    assert np.abs(found.astype(int) - pixels).mean() < 2


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF"])
def test_grey_is_grey_in_three_channels(format):
    """An image of one channel has it three times as RGB, and once as grey."""
    pixels = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (20, 1))
    found = decode_raster(save(pixels, format))
    assert np.abs(found[..., 0].astype(int) - pixels).max() <= 1
    assert (found[..., :1] == found).all()
    np.testing.assert_array_equal(decode_raster(save(pixels, format), 1), found[..., 0])


def test_deep_grey_is_scaled_to_eight_bits():
    """16 bits of grey are divided by 257 and rounded, in PNG and in TIFF of either byte order."""
    values = noise(16, 20, dtype=np.uint16)
    values[0, :6] = 0, 128, 129, 257, 65406, 65535
    expected = np.floor(values / 257 + 0.5)
    big = Image.frombytes("I;16B", (20, 16), values.astype(">u2").tobytes())
    for data in (
        save(values),
        save(values, "TIFF"),
        save(big, "TIFF"),
        make_png(big_endian(values), 16, 0),
    ):
        np.testing.assert_array_equal(decode_raster(data, 1), expected)
        np.testing.assert_array_equal(decode_raster(data)[..., 2], expected)


def test_deep_colour_keeps_the_upper_eight_bits():
    """16 bits of each colour lose the lower 8, with an alpha channel or without."""
    values = noise(16, 20, 3, dtype=np.uint16)
    np.testing.assert_array_equal(decode_raster(make_png(big_endian(values), 16, 2)), values >> 8)
    opaque = np.concatenate([values, np.full((16, 20, 1), 65535, np.uint16)], axis=-1)
    np.testing.assert_array_equal(decode_raster(make_png(big_endian(opaque), 16, 6)), values >> 8)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_shallow_grey_runs_from_black_to_white(depth):
    """A PNG of 1, 2 or 4 bits uses the whole range of eight."""
    packed = noise(16, 8)
    shifts = range(8 - depth, -1, -depth)
    values = np.stack([(packed >> shift) & (2**depth - 1) for shift in shifts], axis=-1)
    expected = values.reshape(16, -1) * (255 // (2**depth - 1))
    np.testing.assert_array_equal(decode_raster(make_png(packed, depth, 0), 1), expected)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_laid_over_black(format):
    """What is transparent is black, as where there is no image at all."""
    pixels, alpha = noise(20, 30, 3), np.tile(np.arange(30, dtype=np.uint8) * 8, (20, 1))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    data = save(np.dstack([pixels, alpha]), format, **options)
    assert np.abs(decode_raster(data) - over_black(pixels, alpha)).max() <= 1


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_grey_with_alpha_is_laid_over_black(format):
    """So is the transparent part of a grey image, read as RGB or as grey."""
    grey, alpha = noise(20, 30), np.tile(np.arange(30, dtype=np.uint8) * 8, (20, 1))
    data = save(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), format)
    expected = over_black(grey[..., None], alpha)
    assert np.abs(decode_raster(data) - expected).max() <= 1
    assert np.abs(decode_raster(data, 1) - expected[..., 0]).max() <= 1


# Earlier versions of Pillow refuse such a TIFF, and its galaxy is left out with that reason.
READS_LA = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 13 is the first to read it"
)


@pytest.mark.parametrize("mode", [pytest.param("LA", marks=READS_LA), "RGBA"])
def test_alpha_that_is_multiplied_already_is_not_applied_twice(mode):
    """TIFF may hold pixels as they look over black: those they are."""
    pixels = noise(20, 30, len(mode)) // 2
    pixels[..., -1] = 128
    data = bytearray(save(Image.frombytes(mode, (30, 20), pixels.tobytes()), "TIFF"))
    # The tag ExtraSamples, one short: from unassociated to associated alpha.
    entry = data.index(struct.pack("<HHI", 338, 3, 1))
    data[entry + 8] = 1
    assert np.abs(decode_raster(bytes(data)).astype(int) - pixels[..., :-1]).max() <= 1


@pytest.mark.parametrize(
    ("format", "transparency"), [("PNG", 3), ("PNG", bytes([255, 128, 0, 7])), ("GIF", 3)]
)
def test_transparent_colours_of_a_palette_are_black(format, transparency):
    """One transparent colour of a palette, or an alpha for each."""
    indices = noise(20, 30) % 16
    palette = noise(16, 3)
    image = Image.frombytes("P", (30, 20), indices.tobytes())
    image.putpalette(palette.tobytes())
    alpha = np.full(16, 255, np.uint8)
    if isinstance(transparency, int):
        alpha[transparency] = 0
    else:
        alpha[: len(transparency)] = list(transparency)
    found = decode_raster(save(image, format, transparency=transparency))
    assert np.abs(found - over_black(palette[indices], alpha[indices])).max() <= 1


def test_transparent_colour_without_a_palette_is_black():
    """The one colour that a grey or RGB image calls transparent is black, and no other."""
    grey = noise(20, 30)
    data = save(grey, transparency=int(grey[4, 5]))
    np.testing.assert_array_equal(decode_raster(data, 1), np.where(grey == grey[4, 5], 0, grey))
    pixels = noise(20, 30, 3)
    pixels[2:5] = pixels[0, 0]
    expected = pixels.copy()
    expected[(pixels == pixels[0, 0]).all(axis=-1)] = 0
    data = save(pixels, transparency=tuple(map(int, pixels[0, 0])))
    np.testing.assert_array_equal(decode_raster(data), expected)


@pytest.mark.parametrize("depth", [2, 4, 16])
def test_transparent_colour_of_another_depth_is_refused(depth):
    """Pillow would compare it with samples of eight bits and hide the wrong pixels, or none."""
    data = make_png(noise(16, 16), depth, 0, [(b"tRNS", struct.pack(">H", 3))])
    with pytest.raises(ValueError, match=f"^{depth}-bit PNG with a transparent colour"):
        decode_raster(data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_exif_turns_the_image(format, orientation):
    """Each of the eight orientations of EXIF is undone, once."""
    upright = np.zeros((24, 32, 3), np.uint8)
    upright[:8, :16], upright[16:, 24:] = (250, 0, 0), (0, 0, 250)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(
        format, {}
    )
    found = decode_raster(save(np.ascontiguousarray(stored), format, exif=exif, **options))
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() < 20


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\xff", b"Exif\0\0", b"nonsense" * 20])
def test_damaged_exif_does_not_cost_the_image(exif):
    """Nobody looks at a galaxy's EXIF: where it makes no sense, the pixels still do."""
    pixels = noise(20, 31, 3)
    np.testing.assert_array_equal(decode_raster(save(pixels, exif=exif)), pixels)
    assert decode_raster(save(pixels, "JPEG", exif=exif)).shape == pixels.shape


def test_much_metadata_does_not_change_the_image():
    """64 kB of EXIF, a profile and long comments are passed over."""
    pixels = noise(20, 31, 3)
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 60_000
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "y" * 900_000)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = save(pixels, exif=exif, pnginfo=text, icc_profile=profile)
    np.testing.assert_array_equal(decode_raster(data), pixels)
    plain, full = save(pixels, "JPEG"), save(pixels, "JPEG", exif=exif, icc_profile=profile)
    np.testing.assert_array_equal(decode_raster(full), decode_raster(plain))


def test_text_that_swells_is_refused():
    """A PNG whose comment unpacks to 64 MB is not unpacked."""
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "y" * (64 << 20), zip=True)
    with pytest.raises(ValueError, match=r"(?i)too large"):
        decode_raster(save(noise(16, 16, 3), pnginfo=text))


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_several_frames_are_refused(format):
    """An animation or a file of many pages does not say which frame is the galaxy."""
    frames = [Image.fromarray(noise(20, 20, 3) // (i + 1)) for i in range(3)]
    data = save(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"^3 frames, expected one$"):
        decode_raster(data)


@pytest.mark.parametrize(
    ("image", "format", "reason"),
    [
        (Image.new("CMYK", (20, 20)), "JPEG", "CMYK image, expected RGB or grey; convert it"),
        (Image.new("CMYK", (20, 20)), "TIFF", "CMYK image, expected RGB or grey; convert it"),
        (Image.new("I", (20, 20)), "TIFF", "signed or 32-bit integers, expected 8 or 16"),
        (Image.new("F", (20, 20)), "TIFF", "floating-point image, expected 8 or 16 bits"),
        (Image.new("LAB", (20, 20)), "TIFF", "an image of mode LAB, expected RGB or grey"),
    ],
)
def test_other_channels_are_refused(image, format, reason):
    """What is not colours or grey has no right pixels here."""
    with pytest.raises(ValueError, match=f"^{reason}"):
        decode_raster(save(image, format))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({339: 2}, "TIFF of signed integers, expected unsigned"),
        ({262: 0}, "16-bit TIFF in which zero is white, expected black"),
    ],
)
def test_tiff_that_would_be_misread_is_refused(tags, reason):
    """Pillow reads numbers with a sign, and white that is zero, as if they were not."""
    values = np.zeros((16, 16), np.uint16 if 262 in tags else np.uint8)
    with pytest.raises(ValueError, match=f"^{reason}"):
        decode_raster(save(values, "TIFF", tiffinfo=tags))


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_bombs_are_refused_before_they_are_decoded(side, monkeypatch):
    """More pixels than Pillow's limit, or than twice that, are not decoded."""
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = make_png(noise(16, 48), 8, 2)
    data = data[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + data[33:]
    with pytest.raises(ValueError, match="pixels"):
        decode_raster(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\r\n <!DOCTYPE HTML><p>404", "begins like HTML, expected an image"),
        (b"<html><body>504", "begins like HTML, expected an image"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer, expected the"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"begins with b'%!PS-Adobe-3'"),
        (b"%PDF-1.7\n", r"begins with b'%PDF-1.7\\n', expected JPEG, PNG, TIFF, GIF, BMP, WEBP or"),
        (b"P6 2 2 255\n" + bytes(12), "begins with b'P6 2 2 255"),
        (b"\0" * 100, r"begins with b'\\x00"),
        (b"\xff\xd8\xff\xe0\0", "a damaged or truncated JPEG header"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a damaged or truncated PNG header"),
    ],
)
def test_what_is_no_image_is_said(data, reason):
    """A web page, a pointer, a program for Ghostscript: named for what they are."""
    with pytest.raises(ValueError, match=f"^{reason}"):
        decode_raster(data)


def chunk(kind, data=b""):
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def make_slow(kind):
    """Return a small image that takes decoders very many steps."""
    plain = save(Image.fromarray(noise(20, 20, 3)), "PNG")
    if kind == "text":
        return plain[:33] + chunk(b"tEXt", b"k\0v") * 100_000 + plain[33:]
    if kind == "empty":
        at = plain.find(b"IDAT") - 4
        return plain[:at] + chunk(b"IDAT") * 100_000 + plain[at:]
    if kind == "comments":
        jpeg = save(Image.fromarray(noise(20, 20, 3)), "JPEG")
        return jpeg[:2] + b"\xff\xfe\0\2" * 100_000 + jpeg[2:]
    directories = bytearray(b"II*\0\x08\0\0\0")
    tags = [(256, 20), (257, 20), (258, 8), (259, 1), (262, 1), (273, 8), (278, 20), (279, 400)]
    for index in range(20_000):
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        after = len(directories) + 2 + len(entries) + 4
        directories += struct.pack("<H", len(tags)) + entries
        directories += struct.pack("<I", after if index < 19_999 else 0)
    return bytes(directories) + bytes(400)


@pytest.mark.parametrize("kind", ["text", "empty", "comments", "directories"])
def test_image_of_very_many_parts_is_refused(kind):
    """A few megabytes would take a decoder from seconds to hours."""
    with pytest.raises(ValueError, match="too many parts for its size, expected one image"):
        decode_raster(make_slow(kind))


def test_jpeg_of_very_many_scans_is_refused():
    """Each scan of a progressive JPEG, of a few bytes, goes over all its pixels."""
    data = save(Image.fromarray(noise(64, 64, 3)), "JPEG", progressive=True)
    assert decode_raster(data).shape == (64, 64, 3)
    scan = data[data.rfind(b"\xff\xda") : -2]
    with pytest.raises(ValueError, match=r"JPEG of 64 × 64 pixels in \d+ scans, expected fewer"):
        decode_raster(data[:-2] + scan * 100 + data[-2:])


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "TIFF", pytest.param("GIF", marks=pytest.mark.slow), "BMP", "WEBP"]
)
def test_large_honest_images_are_read(format):
    """The bounds leave room: a large image of noise, which compresses worst."""
    image = Image.fromarray(noise(1200, 1300, 3))
    assert decode_raster(save(image, format)).shape == (1200, 1300, 3)


def test_images_beyond_the_memory_blame_the_machine(monkeypatch):
    """What the process may not use is not taken, and says nothing of the image."""
    data = save(Image.fromarray(noise(300, 300, 3)), "PNG")
    monkeypatch.setattr("galfig.images.raster.decoding_memory", lambda: MemoryBudget(1000))
    monkeypatch.setattr("galfig.runtime.machine.find_memory", lambda: 1_000_000)
    with pytest.raises(MemoryError, match=r"0\.0 GB needed, 0\.0 GB allowed"):
        decode_raster(data)


def write_12_bits(values):
    """Write a TIFF of 12-bit grey, two samples in three bytes, as Pillow reads but never writes."""
    pairs = values.reshape(-1, 2).astype(int)
    first, second = pairs[:, 0], pairs[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1)
    data = packed.astype(np.uint8).tobytes()
    height, width = values.shape
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 134, 277: 1, 278: height}
    tags[279] = len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return header.ljust(134, b"\0") + data


def test_tiff_of_12_bits_is_scaled():
    """Cameras and microscopes write 12 bits: 4095 is white."""
    values = np.arange(24 * 20).reshape(20, 24) * 8
    values[-1, -1] = 4095
    pixels = decode_raster(write_12_bits(values), 1)
    np.testing.assert_array_equal(pixels, np.floor(values * 255 / 4095 + 0.5))
