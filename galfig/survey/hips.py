"""HiPS: cutouts of any survey that is one at CDS, by its service hips2fits.

The parameters are those of the service [1]_, as astroquery sends them [2]_. A HiPS of one band
gives fluxes as FITS, in the unit of that HiPS and NaN where it has none; a HiPS of colours gives
pictures.

References
----------
.. [1] https://alasky.cds.unistra.fr/hips-image-services/hips2fits
.. [2] https://astroquery.readthedocs.io/en/latest/hips2fits/hips2fits.html
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Literal

from galfig.errors import ConfigError
from galfig.runtime.messages import quote, require_choice
from galfig.survey.checks import accept_raster
from galfig.survey.legacy import write_degrees
from galfig.survey.planes import Field, accept_fits
from galfig.survey.service import Answer, Service, Target, parse_base, require_between

ADDRESS = "https://alasky.cds.unistra.fr/hips-image-services"
MIRROR = "https://alaskybis.cds.unistra.fr/hips-image-services"
PIXEL_SCALE, SIZE = 0.4, 96
# The service gives at most 50 million pixels; a square of them, with some to spare.
MAX_SIZE = 7000
# The most bands, each a HiPS of its own.
MAX_BANDS = 8
Format = Literal["jpg", "png", "fits"]
Stretch = Literal["power", "linear", "sqrt", "log", "asinh"]
# An identifier, such as 'CDS/P/PanSTARRS/DR1/color-z-zg-g'. The service also takes words that it
# looks for among all HiPS, and then chooses one of them by chance.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*){2,}")
_MAX_ID = 200
_TYPES = {"jpg": "image/jpeg", "png": "image/png"}


def make_hips(
    hips: str,
    *,
    kind: Format = "jpg",
    size: int = SIZE,
    pixel_scale: float = PIXEL_SCALE,
    stretch: Stretch = "linear",
    cut: tuple[float, float] = (0.5, 99.5),
    suffix: str | None = None,
    base_url: str | None = None,
) -> Service:
    """Describe the cutouts to ask hips2fits for.

    Parameters
    ----------
    hips : str
        Identifier of the HiPS, such as "CDS/P/SDSS9/color".
    kind : {"jpg", "png", "fits"}
        Pictures, or the fluxes of one band.
    size : int, default 96
        Side of a cutout [pixels].
    pixel_scale : float, default 0.4
        [arcsec/pixel]
    stretch : {"power", "linear", "sqrt", "log", "asinh"}
        How the service makes a picture of a HiPS of one band; one of colours stays as it is.
    cut : (float, float), default (0.5, 99.5)
        Percentiles of the pixels of each picture that are black and white then.
    suffix : str, optional
        Suffix of the files; by default, that of ``kind``.
    base_url : str, optional
        Address of a mirror, in place of that of the service.

    Returns
    -------
    Service

    Raises
    ------
    ConfigError
        If a value is none that the service knows.
    """
    require_choice("format", kind, ("jpg", "png", "fits"))
    require_choice("stretch", stretch, ("power", "linear", "sqrt", "log", "asinh"))
    require_between("size", size, 8, MAX_SIZE)
    require_between("pixel_scale", pixel_scale, 0.01, 3600)
    check_hips(hips)
    low, high = cut
    if not 0 <= low < high <= 100:
        raise ConfigError(f"`cut` {low:g}, {high:g}: expected two increasing percentiles")
    params = {
        "hips": hips,
        "width": str(size),
        "height": str(size),
        "projection": "TAN",
        "coordsys": "icrs",
        "rotation_angle": "0.0",
        # The field of view of the largest side [deg].
        "fov": write_degrees(size * pixel_scale / 3600),
        "format": kind,
    }
    if kind != "fits":
        params |= {"stretch": stretch, "min_cut": f"{low:g}%", "max_cut": f"{high:g}%"}
    field = Field(0.0, 0.0, float(pixel_scale), size, (hips,), hips)
    n_bytes = 8 * size * size + 5 * 2880
    return Service(
        kind="hips",
        title="hips2fits",
        own_address=ADDRESS,
        address=parse_base(base_url, ADDRESS),
        path="/hips2fits",
        release=hips,
        size=size,
        pixel_scale=float(pixel_scale),
        suffix=f".{kind}" if suffix is None else suffix,
        bytes_each={"fits": n_bytes // 2, "png": 2 * size * size}.get(kind, 400 + size * size // 4),
        max_bytes=100_000 + n_bytes,
        make_params=partial(_make_params, params),
        accept=partial(_accept, kind, field),
    )


def check_hips(hips: str) -> None:
    """Raise ConfigError unless a text is the identifier of one HiPS."""
    if not _ID.fullmatch(hips) or len(hips) > _MAX_ID:
        raise ConfigError(
            f"`hips` {quote(hips)}: expected the identifier of a HiPS, such as "
            "'CDS/P/PanSTARRS/DR1/color-z-zg-g'; https://aladin.cds.unistra.fr/hips/list has them"
        )


def name_bands(hips: Sequence[str]) -> tuple[str, ...]:
    """Return a short name for each of several HiPS: its last part, such as 'g'.

    Parameters
    ----------
    hips : sequence of str
        Identifiers.

    Returns
    -------
    tuple of str

    Raises
    ------
    ConfigError
        If there are too many, or two would have one name.
    """
    for one in hips:
        check_hips(one)
    if not 1 <= len(hips) <= MAX_BANDS:
        raise ConfigError(f"`hips`: {len(hips)} of them, expected 1 to {MAX_BANDS}")
    names = tuple(one.rpartition("/")[2] for one in hips)
    # On some systems, the names of files differ by more than their case.
    if len({name.lower() for name in names}) < len(names) or max(map(len, names)) > 16:
        raise ConfigError(
            f"`hips`: bands {', '.join(map(quote, names))}, expected HiPS with short names that "
            "differ at the end, such as 'CDS/P/PanSTARRS/DR1/g'"
        )
    return names


def _make_params(params: dict[str, str], target: Target) -> dict[str, str]:
    return {**params, "ra": write_degrees(target.ra), "dec": write_degrees(target.dec)}


def _accept(kind: Format, field: Field, target: Target, answer: Answer) -> bytes:
    """Check a picture, or a band at the position of the galaxy."""
    if kind != "fits":
        return accept_raster(answer, field.size, _TYPES[kind])
    return accept_fits(answer, field._replace(ra=target.ra, dec=target.dec))
