"""Raster images: JPEG, PNG and a few other formats, decoded to eight bits per channel."""

import zlib
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

# Importing each plugin here registers its format before any thread looks for it.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from galfig.images.decoders import (
    MeteredBytes,
    UnusableError,
    decoding_memory,
    guard_decoder,
)
from galfig.images.jpeg import find_decoder

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# The chunks of a PNG that determine its pixels.
PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT")
# The formats that are opened, and their first bytes. For some others, Pillow runs programs.
FORMATS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (PNG_MAGIC,),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "WEBP": (b"RIFF",),
}
# Memory for decoding and converting a pixel [byte], in the mode with the most channels.
BYTES_PER_PIXEL = 16
# A progressive JPEG goes over its pixels once for each scan; usual are about ten.
JPEG_SCAN, MAX_SCANS, MAX_SCANNED = b"\xff\xda", 100, 1 << 31
HTML = (b"<!doctype html", b"<html", b"<head", b"<body")
GIT_LFS = b"version https://git-lfs.github.com/spec/"

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
USABLE_MODES = ("1", "L", "P", "RGB", "LA", "La", "PA", "RGBA", "RGBa", "YCbCr")
OTHER_MODES = {
    "CMYK": "CMYK image, expected RGB or grey; convert it",
    "I": "signed or 32-bit integers, expected 8 or 16 bits unsigned; convert it, or use FITS",
    "F": "floating-point image, expected 8 or 16 bits; convert it, or use FITS",
}
# Transposition for each value of the EXIF tag of orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_raster(data: bytes, n_channels: int = 3) -> NDArray[np.uint8]:
    """Decode an image that holds one picture of one or three channels.

    Parameters
    ----------
    data : bytes
        The file: JPEG, PNG, TIFF, GIF, BMP or WebP, recognised by its first bytes.
    n_channels : int, default 3
        3 for RGB; 1 for grey, which is the luminance (ITU-R 601-2) of a colour image.

    Returns
    -------
    (H, W, 3) or (H, W) ndarray of uint8
        Oriented as EXIF says; black where the image is transparent. 12- and 16-bit grey is
        scaled to 8 bits; for 16-bit colour Pillow keeps the upper 8 bits.

    Raises
    ------
    ValueError
        If the file is not an image, is damaged, holds several images, has more pixels than
        Pillow's limit, has channels other than colours or grey, or is made to be slow.
    MemoryError
        If the memory does not suffice.
    """
    with guard_decoder(), _open_image(data) as image:
        _check_image(image, data)
        with decoding_memory().take(BYTES_PER_PIXEL * image.width * image.height):
            if image.format == "JPEG" and n_channels == 3 and _find_turn(image) is None:
                # Pillow declares no type of its own for what it knows of a JPEG.
                header = cast(Any, image)
                return find_decoder().decode(header, data, partial(_load, image, n_channels))
            return _load(image, n_channels)


def measure_raster(data: bytes) -> tuple[int, int]:
    """Return the height and width [pixels] that the header of an image states.

    Raises
    ------
    ValueError
        If the file is not an image, or is damaged.
    """
    with guard_decoder(), _open_image(data) as image:
        return image.height, image.width


def _open_image(data: bytes) -> Image.Image:
    """Read the header; if the bytes are not an image, raise an error that says what they are."""
    try:
        # The pixels of a GIF come in blocks of 255 bytes.
        file = MeteredBytes(data, 64) if data.startswith(b"GIF") else MeteredBytes(data)
        return Image.open(file, formats=tuple(FORMATS))
    except UnidentifiedImageError as exc:
        raise UnusableError(_describe_bytes(data)) from exc


def _describe_bytes(data: bytes) -> str:
    """Describe a file that Pillow cannot open as an image."""
    if data[:64].lstrip(b"\xef\xbb\xbf\t\r\n ").lower().startswith(HTML):
        return "begins like HTML, expected an image; the server may have sent a page instead"
    if data.startswith(GIT_LFS):
        return "a Git LFS pointer, expected the image itself; fetch it with 'git lfs pull'"
    for name, beginnings in FORMATS.items():
        if data.startswith(beginnings):
            return f"a damaged or truncated {name} header, or an unsupported kind of {name}"
    return f"begins with {data[:12]!r}, expected {', '.join(FORMATS)} or FITS"


def _check_image(image: Image.Image, data: bytes) -> None:
    """Reject an image whose header shows that it cannot be used, or would be misread."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise UnusableError(f"{image.width} × {image.height} pixels, expected at most {limit}")
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1:
        raise UnusableError(f"{n_frames} frames, expected one")
    if image.mode not in (*USABLE_MODES, *DEEP_MODES):
        other = f"an image of mode {image.mode}, expected RGB or grey; convert it"
        raise UnusableError(OTHER_MODES.get(image.mode, other))
    if image.format == "JPEG":
        _check_scans(image, data)
    if image.format == "PNG":
        _check_key(image, depth=data[24])
        _check_sums(data)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image)


def _check_scans(image: Image.Image, data: bytes) -> None:
    """Reject a JPEG whose scans take minutes; those of thumbnails are counted as well."""
    n_scans = data.count(JPEG_SCAN)
    if n_scans > MAX_SCANS or n_scans * image.width * image.height > MAX_SCANNED:
        raise UnusableError(
            f"JPEG of {image.width} × {image.height} pixels in {n_scans} scans, expected fewer; "
            "save it again"
        )


def _check_key(image: Image.Image, depth: int) -> None:
    """Reject a transparent colour that Pillow would compare with samples of another depth."""
    has_key = "transparency" in image.info and image.mode != "P"
    if has_key and depth not in (1, 8):
        raise UnusableError(
            f"{depth}-bit PNG with a transparent colour, expected 8 bits; convert it"
        )


def _check_sums(data: bytes) -> None:
    """Verify the checksums of the PNG chunks that determine the pixels; Pillow skips some."""
    start = len(PNG_MAGIC)
    while (head := data[start : start + 8])[4:] not in (b"", b"IEND"):
        end = start + 8 + int.from_bytes(head[:4], "big")
        is_whole = zlib.crc32(data[start + 4 : end]).to_bytes(4, "big") == data[end : end + 4]
        if head[4:] in PNG_PIXELS and not is_whole:
            raise UnusableError(f"damaged PNG, its {head[4:].decode()} does not match its checksum")
        start = end + 4


def _check_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    """Reject a TIFF whose sign, depth or polarity Pillow would ignore."""
    tags = image.tag_v2
    if set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) != {1}:
        raise UnusableError("TIFF of signed integers, expected unsigned; convert it, or use FITS")
    if image.mode in DEEP_MODES:
        depth = _read_depth(image)
        if depth not in (12, 16):
            raise UnusableError(f"{depth}-bit TIFF, expected 8, 12 or 16 bits; convert it")
        if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) != 1:
            raise UnusableError(
                f"{depth}-bit TIFF in which zero is white, expected black; convert it"
            )


def _read_depth(image: Image.Image) -> int:
    """Return the bits of a sample of grey that is deeper than 8 bits."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 16
    return int(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0])


def _load(image: Image.Image, n_channels: int) -> NDArray[np.uint8]:
    """Decode an image by Pillow."""
    image.load()
    turn = _find_turn(image)
    upright = image if turn is None else image.transpose(turn)
    is_deep = upright.mode in DEEP_MODES
    visible = _reduce_depth(upright, _read_depth(image)) if is_deep else _blacken(upright)
    mode = "RGB" if n_channels == 3 else "L"
    return np.asarray(visible if visible.mode == mode else visible.convert(mode))


def _find_turn(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn an image upright, as its EXIF says."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        # With damaged EXIF the orientation is unknown, but the pixels may be sound.
        return None
    return UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _reduce_depth(image: Image.Image, depth: int) -> Image.Image:
    """Scale grey of 12 or 16 bits to 8 bits."""
    values, white = np.asarray(image).astype(np.uint32), (1 << depth) - 1
    return Image.fromarray(((2 * 255 * values + white) // (2 * white)).astype(np.uint8))


def _blacken(image: Image.Image) -> Image.Image:
    """Put a black background behind an image that is transparent."""
    if not (image.mode.endswith(("A", "a")) or "transparency" in image.info):
        return image
    # Pillow converts La to RGBA only through LA.
    image = image.convert("LA") if image.mode == "La" else image
    image = image.convert("RGBA")
    black = Image.new("RGB", image.size)
    black.paste(image, mask=image.getchannel("A"))
    return black
