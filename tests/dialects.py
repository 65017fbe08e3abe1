"""The dialects of two services, as their documentation and their published source have them.

The viewer of the Legacy Surveys follows ``map/views.py`` of github.com/legacysurvey/imagine, and
hips2fits its page and what astroquery 0.4.11 makes of its answers. Galaxies are Gaussians in noise:
red at northern declinations and blue at southern ones, so that their class is known.
"""

import io
import json
import math

import numpy as np
from astropy.io import fits
from PIL import Image
from surveys import Reply

# The layers of the viewer, and the bands of each.
LAYERS = {"ls-dr10": "griz", "ls-dr9": "grz", "sdss": "gri"}
# The HiPS, and whether each is of colours.
HIPS = {
    "CDS/P/SDSS9/color": True,
    "CDS/P/PanSTARRS/DR1/color-z-zg-g": True,
    "CDS/P/DESI-Legacy-Surveys/DR10/g": False,
    "CDS/P/DESI-Legacy-Surveys/DR10/r": False,
    "CDS/P/DESI-Legacy-Surveys/DR10/z": False,
}
# Wavelength of a band [micron], on which the colour of a galaxy depends.
WAVELENGTHS = {"g": 0.48, "r": 0.64, "i": 0.78, "z": 0.92}
# North of it, nothing was observed; still farther north, there are no bricks.
LAST_DEC, LAST_BRICK = 60.0, 80.0
# A degree of right ascension where the z band was not observed.
LACKING = (200.0, 201.0)
MAX_SIDE = 3000


def draw_fluxes(ra, dec, size, pixel_scale, bands):
    """Draw a galaxy in the middle of (B, size, size) float32, rows from the south [nanomaggy]."""
    rng = np.random.default_rng(int(1e6 * (ra + 360) + 1e3 * (dec + 90)))
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) * pixel_scale
    # The east side, at the left, is brighter, and so is the north.
    light = np.exp(-(x**2 + y**2) / (2 * 3.0**2)) * (1 - 0.02 * x + 0.01 * y)
    slope = 2.0 if dec >= 0 else -2.0
    fluxes = [
        2.0 * (WAVELENGTHS[band] / 0.64) ** slope * light + rng.normal(0, 0.01, light.shape)
        for band in bands
    ]
    return np.array(fluxes, dtype=np.float32)


def draw_picture(ra, dec, size, pixel_scale):
    """Draw a picture (size, size, 3) of uint8, rows from the north."""
    fluxes = draw_fluxes(ra, dec, size, pixel_scale, "zrg")
    shown = np.arcsinh(fluxes / 0.05) / math.asinh(4 / 0.05)
    return np.moveaxis(np.clip(20 + 235 * shown, 0, 255), 0, -1)[::-1].astype(np.uint8)


def write_picture(pixels, kind="JPEG"):
    """Write pixels as a file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return stream.getvalue()


def write_fits(values, cards):
    """Write an image with cards of its header as a file."""
    hdu = fits.PrimaryHDU(values)
    hdu.header.update(cards)
    stream = io.BytesIO()
    hdu.writeto(stream)
    return stream.getvalue()


def answer_legacy(path, query):
    """Answer a request to the viewer as its source does."""
    is_fits = path.endswith(".fits")
    layer = query.get("layer", "decals-dr3")
    if layer not in LAYERS:
        return Reply(b"<html><body><h1>Not Found</h1></body></html>", "text/html", 404)
    ra, dec = float(query["ra"]), float(query["dec"])
    pixel_scale = float(query.get("pixscale", 0.262))
    size = min(int(query.get("size", 256)), MAX_SIDE)
    bands = query.get("bands")
    if bands is None or not set(bands) <= set(LAYERS[layer]):
        bands = LAYERS[layer]
    if dec > LAST_BRICK:
        # NoOverlapError is caught by nobody but Django.
        return Reply(b"<h1>Server Error (500)</h1>", "text/html", 500)
    if not is_fits:
        empty = np.full((size, size, 3), 32, np.uint8)
        pixels = empty if dec > LAST_DEC else draw_picture(ra, dec, size, pixel_scale)
        return Reply(write_picture(pixels), "image/jpeg", 200)
    cube = draw_fluxes(ra, dec, size, pixel_scale, bands)
    if dec > LAST_DEC:
        cube[:] = 0
    if LACKING[0] <= ra < LACKING[1] and "z" in bands:
        cube[bands.index("z")] = 0
    cards = {"SURVEY": "LegacySurvey", "VERSION": "DR10", "IMAGETYP": "image", "BANDS": bands}
    cards |= {f"BAND{index}": band for index, band in enumerate(bands)}
    cards |= {
        **{"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec},
        **{"CRPIX1": (size + 1) / 2, "CRPIX2": (size + 1) / 2},
        **{"CD1_1": -pixel_scale / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": pixel_scale / 3600},
        **{"IMAGEW": size, "IMAGEH": size},
    }
    return Reply(write_fits(cube if len(bands) > 1 else cube[0], cards), "image/fits", 200)


def serve_legacy(request):
    """Be the viewer, for `surveys.SurveyServer`."""
    is_known = request.path in ("/viewer/cutout.jpg", "/viewer/cutout.fits")
    return answer_legacy(request.path, request.params) if is_known else None


def serve_hips(request):
    """Be hips2fits, for `surveys.SurveyServer`."""
    is_known = request.path == "/hips-image-services/hips2fits"
    return answer_hips(request.params) if is_known else None


def answer_hips(query):
    """Answer a request to hips2fits; errors are JSON with a title and a description."""
    if query.get("hips") not in HIPS:
        return _fail(f"HiPS {query.get('hips')} not found")
    if query.get("format", "fits") not in ("fits", "jpg", "png"):
        return _fail("format should be one of fits, jpg, png")
    if query.get("projection") != "TAN" or query.get("coordsys", "icrs") != "icrs":
        return _fail("this server of a test knows TAN and icrs only")
    width, height = int(query["width"]), int(query["height"])
    if width * height > 50_000_000:
        return _fail("Dimension (width x height) of the cutout can not exceed 50 million pixels")
    if width != height:
        return _fail("this server of a test draws squares only")
    ra, dec, fov = (float(query[key]) for key in ("ra", "dec", "fov"))
    pixel_scale = 3600 * fov / max(width, height)
    is_colour = HIPS[query["hips"]]
    if query.get("format", "fits") != "fits":
        kind = {"jpg": "JPEG", "png": "PNG"}[query["format"]]
        pixels = draw_picture(ra, dec, width, pixel_scale)
        if not is_colour:
            pixels = np.repeat(pixels[..., :1], 3, axis=2)
        if dec > LAST_DEC:
            pixels[:] = 0
        if kind == "PNG":
            pixels = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
        return Reply(write_picture(pixels, kind), f"image/{kind.lower()}", 200)
    cards = {
        **{"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec},
        **{"CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS"},
        **{"CRPIX1": width / 2, "CRPIX2": height / 2},
        **{"CDELT1": -pixel_scale / 3600, "CDELT2": pixel_scale / 3600},
        **{"LONPOLE": 180.0, "LATPOLE": dec},
    }
    if is_colour:
        values = np.moveaxis(draw_picture(ra, dec, width, pixel_scale)[::-1], -1, 0)
    else:
        values = draw_fluxes(ra, dec, width, pixel_scale, query["hips"][-1])[0]
        if dec > LAST_DEC:
            values[:] = np.nan
    return Reply(write_fits(np.ascontiguousarray(values), cards), "image/fits", 200)


def _fail(description):
    words = {"title": "Bad request", "description": description}
    return Reply(json.dumps(words).encode(), "application/json", 400)
