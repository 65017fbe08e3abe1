"""Legacy: cutouts of the DESI Legacy Imaging Surveys, by the service of their viewer.

The addresses are those that the description of Data Release 10 gives [1]_, and the answers those of
the published source of the viewer [2]_: FITS holds the bands that were asked for as one cube, in
their order, and their names in a card ``BANDS``. Where no brick of the survey overlaps, the viewer
fails; where one does, but was not observed, the values are zero. It answers with all of its bands
where it does not know one, and with fewer pixels where it was asked for too many.

References
----------
.. [1] https://www.legacysurvey.org/dr10/description/
.. [2] https://github.com/legacysurvey/imagine
"""

import re
from functools import partial
from typing import Literal

from galfig.errors import ConfigError
from galfig.runtime.messages import quote, require_choice
from galfig.survey.checks import accept_jpeg
from galfig.survey.planes import Field, accept_fits
from galfig.survey.service import (
    Answer,
    Service,
    Target,
    parse_base,
    require_between,
)

ADDRESS = "https://www.legacysurvey.org/viewer"
LAYER, BANDS = "ls-dr10", "grz"
# The pixels of the survey's own images [arcsec/pixel], and some 40 arcsec of them.
PIXEL_SCALE, SIZE = 0.262, 152
# The viewer's source cuts at this many pixels; the description of DR10 still says 512.
MAX_SIZE = 3000
Format = Literal["jpg", "fits"]
# Names of layers, such as 'ls-dr9-north' and 'mzls+bass-dr6'.
_LAYER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,62}")
# Bands of the survey have names of one letter.
_BANDS = re.compile(r"[A-Za-z]{1,8}")
# What FITS has beside its values: headers, and up to a block that is filled up [byte].
_HEADERS = 5 * 2880


def make_legacy(
    *,
    layer: str = LAYER,
    kind: Format = "jpg",
    bands: str | None = None,
    size: int = SIZE,
    pixel_scale: float = PIXEL_SCALE,
    base_url: str | None = None,
) -> Service:
    """Describe the cutouts to ask the viewer of the Legacy Surveys for.

    Parameters
    ----------
    layer : str, default "ls-dr10"
        Layer of the viewer.
    kind : {"jpg", "fits"}
        Pictures as the viewer makes them, or fluxes in nanomaggies.
    bands : str, optional
        Bands as letters, from blue to red, such as "grz", which is the default of FITS; the viewer
        chooses them for pictures.
    size : int, default 152
        Side of a cutout [pixels].
    pixel_scale : float, default 0.262
        [arcsec/pixel]
    base_url : str, optional
        Address of a mirror, in place of that of the viewer.

    Returns
    -------
    Service

    Raises
    ------
    ConfigError
        If a value is none that the viewer knows.
    """
    require_choice("format", kind, ("jpg", "fits"))
    require_between("size", size, 8, MAX_SIZE)
    require_between("pixel_scale", pixel_scale, 0.01, 60)
    if not _LAYER.fullmatch(layer):
        raise ConfigError(f"`layer` {quote(layer)}: expected a layer such as 'ls-dr10'")
    if bands is not None and not (_BANDS.fullmatch(bands) and len(set(bands)) == len(bands)):
        raise ConfigError(f"`bands` {quote(bands)}: expected letters such as 'grz', each once")
    if kind == "fits":
        bands = bands or BANDS
    params = {"layer": layer, "pixscale": f"{pixel_scale:g}", "size": str(size)}
    if bands is not None:
        params["bands"] = bands
    planes = tuple(bands or "") if kind == "fits" else ()
    field = Field(0.0, 0.0, float(pixel_scale), size, planes, layer)
    n_bytes = 4 * size * size * len(bands or "") + _HEADERS
    return Service(
        kind="legacy",
        title="Legacy Survey viewer",
        own_address=ADDRESS,
        address=parse_base(base_url, ADDRESS),
        path=f"/cutout.{kind}",
        release=layer,
        size=size,
        pixel_scale=float(pixel_scale),
        suffix=f".{kind}",
        # Planes are stored from blue to red.
        bands=None if bands is None else ", ".join(reversed(bands)),
        bytes_each=n_bytes if kind == "fits" else 400 + size * size // 4,
        max_bytes=2 * n_bytes if kind == "fits" else 100_000 + 4 * size * size,
        make_params=partial(_make_params, params),
        accept=partial(_accept, field),
    )


def _make_params(params: dict[str, str], target: Target) -> dict[str, str]:
    return {"ra": write_degrees(target.ra), "dec": write_degrees(target.dec), **params}


def write_degrees(value: float) -> str:
    """Write a coordinate [deg] to a hundred-millionth, and never as 1e-05."""
    return f"{value:.8f}".rstrip("0").rstrip(".")


def _accept(field: Field, target: Target, answer: Answer) -> bytes:
    """Check a picture, or a cube of the bands at the position of the galaxy."""
    if not field.bands:
        return accept_jpeg(answer, field.size)
    return accept_fits(answer, field._replace(ra=target.ra, dec=target.dec), "BANDS")
