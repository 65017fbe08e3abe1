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
from pathlib import Path
from typing import Any, Literal

from galfig.errors import ConfigError
from galfig.runtime.messages import quote, require_choice
from galfig.survey.checks import accept_raster
from galfig.survey.download import MAX_FAILED, Manners
from galfig.survey.folder import Fetch
from galfig.survey.legacy import write_degrees
from galfig.survey.planes import Field, accept_fits, check_place
from galfig.survey.positions import choose_catalog, make_source, read_positions
from galfig.survey.service import (
    Answer,
    Service,
    Target,
    parse_base,
    require_between,
    trust_place,
)
from galfig.survey.settings import write_settings

ADDRESS = "https://alasky.cds.unistra.fr"
PATH = "/hips-image-services/hips2fits"
MIRROR = "https://alaskybis.cds.unistra.fr"
# Pixels of SDSS [arcsec/pixel], and some 50 arcsec of them.
PIXEL_SCALE, SIZE = 0.396, 128
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
_TYPES = {"jpg": "image/jpeg", "png": "image/png", "fits": "image/fits"}


def make_service(
    hips: str,
    *,
    format: Format = "jpg",
    size: int = SIZE,
    pixel_scale: float = PIXEL_SCALE,
    stretch: Stretch = "linear",
    cut: tuple[float, float] = (0.5, 99.5),
    suffix: str | None = None,
    bands: str | None = None,
    base_url: str | None = None,
) -> Service:
    """Describe the cutouts to ask hips2fits for.

    Parameters
    ----------
    hips : str
        Identifier of the HiPS, such as "CDS/P/SDSS9/color".
    format : {"jpg", "png", "fits"}
        Pictures, or the fluxes of one band.
    size : int, default 128
        Side of a cutout [pixels].
    pixel_scale : float, default 0.396
        [arcsec/pixel]
    stretch : {"power", "linear", "sqrt", "log", "asinh"}
        How the service makes a picture of a HiPS of one band; one of colours stays as it is.
    cut : (float, float), default (0.5, 99.5)
        Percentiles of the pixels of each picture that are black and white then.
    suffix : str, optional
        Suffix of the files; by default, that of ``format``.
    bands : str, optional
        Names of all bands, if this is one of several.
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
    require_choice("format", format, ("jpg", "png", "fits"))
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
        "format": format,
    }
    if format != "fits":
        params |= {"stretch": stretch, "min_cut": f"{low:g}%", "max_cut": f"{high:g}%"}
    field = Field(float(pixel_scale), size, (hips,), hips)
    n_bytes = 8 * size * size + 3 * 1440
    estimates = {"fits": n_bytes // 2, "png": 2 * size * size, "jpg": 400 + size * size // 4}
    return Service(
        kind="hips",
        title="hips2fits",
        own_address=ADDRESS,
        address=parse_base(base_url, ADDRESS, PATH),
        path=PATH,
        release=hips,
        size=size,
        pixel_scale=float(pixel_scale),
        suffix=f".{format}" if suffix is None else suffix,
        bands=bands,
        bytes_each=estimates[format],
        # A HiPS of colours answers with three planes, which are refused with the reason.
        max_bytes=100_000 + 4 * n_bytes,
        make_params=partial(_make_params, params),
        accept=partial(_accept, format, field),
        check_file=lambda data: _accept(format, field, Answer(_TYPES[format], data)),
        check_place=partial(check_place, size=size) if format == "fits" else trust_place,
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
    if not 1 <= len(hips) <= MAX_BANDS or len(", ".join(hips)) > 255:
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


def _accept(format: Format, field: Field, answer: Answer) -> bytes:
    """Check a picture, or a band."""
    if format != "fits":
        return accept_raster(answer, field.size, _TYPES[format])
    return accept_fits(answer, field)


def plan_hips(
    folder: Path | str,
    hips: str | Sequence[str],
    catalog: Path | str | None = None,
    settings: Any = None,
    *,
    format: Format = "jpg",
    size: int = SIZE,
    pixel_scale: float = PIXEL_SCALE,
    stretch: Stretch = "linear",
    cut: tuple[float, float] = (0.5, 99.5),
    ra: str | None = None,
    dec: str | None = None,
    base_url: str | None = None,
    manners: Manners | None = None,
) -> Fetch:
    """Check what to fetch of HiPS, and ask for nothing yet; see `fetch_hips`."""
    chosen = (hips,) if isinstance(hips, str) else tuple(hips)
    names = name_bands(chosen) if len(chosen) != 1 else ("",)
    if len(chosen) > 1 and format != "fits":
        raise ConfigError(
            f'`hips`: {len(chosen)} of them as pictures, expected one, or `format="fits"`'
        )
    suffixes = [f".{name}.fits" if name else f".{format}" for name in names]
    services = [
        make_service(
            one,
            format=format,
            size=size,
            pixel_scale=pixel_scale,
            stretch=stretch,
            cut=cut,
            suffix=suffix,
            bands=", ".join(names) or None,
            base_url=base_url,
        )
        for one, suffix in zip(chosen, suffixes, strict=True)
    ]
    settings = choose_catalog(catalog, settings)
    positions = read_positions(settings, ra, dec)
    templates = [f"images/{{{settings.catalog.id}}}{suffix}" for suffix in suffixes]
    images: dict[str, Any] = {"bands": templates} if len(chosen) > 1 else {"images": templates[0]}
    if format == "fits":
        images |= {"pixel_scale": float(pixel_scale)}
    words = write_settings(settings, settings.catalog_path.name, images)
    source, targets = make_source(positions, settings, words)
    manners = Manners() if manners is None else manners
    others = tuple(services[1:])
    return Fetch(Path(folder), services[0], source, manners, len(targets), others=others)


def fetch_hips(
    folder: Path | str,
    hips: str | Sequence[str],
    catalog: Path | str | None = None,
    settings: Any = None,
    *,
    format: Format = "jpg",
    size: int = SIZE,
    pixel_scale: float = PIXEL_SCALE,
    stretch: Stretch = "linear",
    cut: tuple[float, float] = (0.5, 99.5),
    ra: str | None = None,
    dec: str | None = None,
    connections: int = 4,
    rate: float = 5.0,
    contact: str | None = None,
    max_failed: float = MAX_FAILED,
    base_url: str | None = None,
) -> Path:
    """Fetch cutouts of your galaxies from a survey that is a HiPS at CDS, by hips2fits.

    Call it again with the same arguments to continue: it fetches what is missing.

    Parameters
    ----------
    folder : Path or str
        Folder to fill: a copy of the catalog, ``images/<id>.jpg``, ``.png`` or ``.fits``,
        ``fetch.json``, ``manifest.csv``, ``galfig.toml`` where the defaults do not read it, and,
        where cutouts failed, ``failed.csv``.
    hips : str or sequence of str
        Identifier of the HiPS, such as "CDS/P/SDSS9/color"; or several of one band each, red
        first, whose files are ``images/<id>.<band>.fits``.
    catalog : Path or str, optional
        The catalog, in any format that galfig reads; by default, that of the settings.
    settings : Path, str, mapping or Settings, optional
        Settings, of which ``[catalog]`` names the column of identifiers. By default, those of
        ``galfig.toml``, if there is one.
    format : {"jpg", "png", "fits"}, default "jpg"
        Pictures, or the fluxes of one band in the unit of the HiPS.
    size : int, default 128
        Side of a cutout [pixels].
    pixel_scale : float, default 0.396
        [arcsec/pixel]
    stretch : {"power", "linear", "sqrt", "log", "asinh"}, default "linear"
        How the service makes a picture of a HiPS of one band.
    cut : (float, float), default (0.5, 99.5)
        Percentiles of the pixels of such a picture that are black and white.
    ra, dec : str, optional
        Columns of the positions [deg]; by default, found by their names.
    connections : int, default 4
        Connections at a time.
    rate : float, default 5
        Requests per second.
    contact : str, optional
        Your address, for the service's operators; by default, that of ``GALFIG_CONTACT``.
    max_failed : float, default 0.05
        Share of the galaxies that may fail.
    base_url : str, optional
        Address of a mirror, such as `MIRROR`.

    Returns
    -------
    Path
        The catalog in the folder.

    Raises
    ------
    ConfigError
        If an argument is out of bounds.
    CatalogError
        If the catalog cannot be read, or has no positions.
    SurveyError
        If the service fails, or too many cutouts failed.
    OutputError
        If the folder was filled with other arguments, or cannot be written.
    """
    return plan_hips(
        folder,
        hips,
        catalog,
        settings,
        format=format,
        size=size,
        pixel_scale=pixel_scale,
        stretch=stretch,
        cut=cut,
        ra=ra,
        dec=dec,
        base_url=base_url,
        manners=Manners(connections, rate, contact, max_failed),
    ).run()
