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
from pathlib import Path
from typing import Any, Literal

from galfig.errors import ConfigError
from galfig.runtime.messages import quote, require_choice
from galfig.survey.checks import accept_jpeg
from galfig.survey.download import MAX_FAILED, Manners
from galfig.survey.folder import Fetch
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

ADDRESS = "https://www.legacysurvey.org"
LAYER, BANDS = "ls-dr10", "grz"
# The pixels of the survey's own images [arcsec/pixel], and some 50 arcsec of them.
PIXEL_SCALE, SIZE = 0.262, 192
# Linear stretch of FITS by Lupton et al. [nanomaggy/pixel]: 0.005 is nearly black, and 24 is white.
STRETCH = 0.25
# The viewer's source cuts at this many pixels; the description of DR10 still says 512.
MAX_SIZE = 3000
Format = Literal["jpg", "fits"]
_MEDIA = {"jpg": "jpeg", "fits": "fits"}
# Names of layers, such as 'ls-dr9-north' and 'mzls+bass-dr6'.
_LAYER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,62}")
# Bands of the survey have names of one letter.
_BANDS = re.compile(r"[A-Za-z]{1,8}")
# What FITS has beside its values: a header, and a block that is filled up half on average [byte].
_HEADERS = 3 * 1440


def make_service(
    *,
    layer: str = LAYER,
    format: Format = "jpg",
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
    format : {"jpg", "fits"}
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
    require_choice("format", format, ("jpg", "fits"))
    require_between("size", size, 8, MAX_SIZE)
    require_between("pixel_scale", pixel_scale, 0.01, 60)
    if not _LAYER.fullmatch(layer):
        raise ConfigError(f"`layer` {quote(layer)}: expected a layer such as 'ls-dr10'")
    if bands is not None and not (_BANDS.fullmatch(bands) and len(set(bands)) == len(bands)):
        raise ConfigError(f"`bands` {quote(bands)}: expected letters such as 'grz', each once")
    if format == "fits":
        bands = bands or BANDS
    params = {"layer": layer, "pixscale": f"{pixel_scale:g}", "size": str(size)}
    if bands is not None:
        params["bands"] = bands
    planes = tuple(bands or "") if format == "fits" else ()
    field = Field(float(pixel_scale), size, planes, layer)
    n_bytes = 4 * size * size * len(bands or "") + _HEADERS
    path = f"/viewer/cutout.{format}"
    return Service(
        kind="legacy",
        title="Legacy Survey viewer",
        own_address=ADDRESS,
        address=parse_base(base_url, ADDRESS, path),
        path=path,
        release=layer,
        size=size,
        pixel_scale=float(pixel_scale),
        suffix=f".{format}",
        # Planes are stored from blue to red.
        bands=None if bands is None else ", ".join(reversed(bands)),
        bytes_each=n_bytes if format == "fits" else 400 + size * size // 4,
        # The viewer may answer with more bands, or with doubles, which are refused with the reason.
        max_bytes=100_000 + (8 * n_bytes if format == "fits" else 4 * size * size),
        make_params=partial(_make_params, params),
        accept=partial(_accept, field),
        check_file=lambda data: _accept(field, Answer(f"image/{_MEDIA[format]}", data)),
        check_place=partial(check_place, size=size) if format == "fits" else trust_place,
    )


def _make_params(params: dict[str, str], target: Target) -> dict[str, str]:
    return {"ra": write_degrees(target.ra), "dec": write_degrees(target.dec), **params}


def write_degrees(value: float) -> str:
    """Write a coordinate [deg] to a hundred-millionth, and never as 1e-05."""
    return f"{value:.8f}".rstrip("0").rstrip(".")


def _accept(field: Field, answer: Answer) -> bytes:
    """Check a picture, or a cube of the bands."""
    if not field.bands:
        return accept_jpeg(answer, field.size)
    return accept_fits(answer, field, "BANDS")


def plan_legacy(
    folder: Path | str,
    catalog: Path | str | None = None,
    settings: Any = None,
    *,
    layer: str = LAYER,
    format: Format = "jpg",
    bands: str | None = None,
    size: int = SIZE,
    pixel_scale: float = PIXEL_SCALE,
    ra: str | None = None,
    dec: str | None = None,
    base_url: str | None = None,
    manners: Manners | None = None,
) -> Fetch:
    """Check what to fetch of the Legacy Surveys, and ask for nothing yet; see `fetch_legacy`."""
    service = make_service(
        layer=layer,
        format=format,
        bands=bands,
        size=size,
        pixel_scale=pixel_scale,
        base_url=base_url,
    )
    settings = choose_catalog(catalog, settings)
    positions = read_positions(settings, ra, dec)
    images: dict[str, Any] = {"images": f"images/{{{settings.catalog.id}}}{service.suffix}"}
    if format == "fits":
        images |= {"pixel_scale": service.pixel_scale, **choose_planes(bands or BANDS)}
    words = write_settings(settings, settings.catalog_path.name, images)
    source, targets = make_source(positions, settings, words)
    manners = Manners() if manners is None else manners
    return Fetch(Path(folder), service, source, manners, len(targets))


def choose_planes(bands: str) -> dict[str, Any]:
    """Return the keys of ``[catalog]`` that make channels of a cube, red first.

    Parameters
    ----------
    bands : str
        The bands of the cube, from blue to red.
    """
    if len(bands) == 1:
        return {}
    planes = {"planes": [*range(len(bands))][::-1]}
    return planes | ({"stretch": "lupton", "lupton_stretch": STRETCH} if len(bands) == 3 else {})


def fetch_legacy(
    folder: Path | str,
    catalog: Path | str | None = None,
    settings: Any = None,
    *,
    layer: str = LAYER,
    format: Format = "jpg",
    bands: str | None = None,
    size: int = SIZE,
    pixel_scale: float = PIXEL_SCALE,
    ra: str | None = None,
    dec: str | None = None,
    connections: int = 4,
    rate: float = 5.0,
    contact: str | None = None,
    max_failed: float = MAX_FAILED,
    base_url: str | None = None,
) -> Path:
    """Fetch cutouts of your galaxies from the DESI Legacy Imaging Surveys.

    Call it again with the same arguments to continue: it fetches what is missing.

    Parameters
    ----------
    folder : Path or str
        Folder to fill: a copy of the catalog, ``images/<id>.jpg`` or ``.fits``, ``fetch.json``,
        ``manifest.csv``, ``galfig.toml`` where the defaults do not read it, and, where cutouts
        failed, ``failed.csv``.
    catalog : Path or str, optional
        The catalog, in any format that galfig reads; by default, that of the settings.
    settings : Path, str, mapping or Settings, optional
        Settings, of which ``[catalog]`` names the column of identifiers. By default, those of
        ``galfig.toml``, if there is one.
    layer : str, default "ls-dr10"
        Layer of the viewer.
    format : {"jpg", "fits"}, default "jpg"
        Pictures as the viewer makes them, or fluxes in nanomaggies.
    bands : str, optional
        Bands as letters, from blue to red; by default "grz" for FITS.
    size : int, default 192
        Side of a cutout [pixels].
    pixel_scale : float, default 0.262
        [arcsec/pixel]
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
        Address of a mirror.

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
    return plan_legacy(
        folder,
        catalog,
        settings,
        layer=layer,
        format=format,
        bands=bands,
        size=size,
        pixel_scale=pixel_scale,
        ra=ra,
        dec=dec,
        base_url=base_url,
        manners=Manners(connections, rate, contact, max_failed),
    ).run()
