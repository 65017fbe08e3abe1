"""SDSS: a catalog by SQL, and cutouts in colour, both from SkyServer."""

import csv
import io
import logging
import math
import operator
import re
from collections.abc import Sequence
from pathlib import Path

from galfig.errors import ConfigError, SurveyError
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import quote
from galfig.survey.checks import accept_jpeg
from galfig.survey.client import Client, FailedRequestError, run_loop
from galfig.survey.download import MAX_FAILED, Manners
from galfig.survey.folder import Fetch, Source
from galfig.survey.queries import (
    Page,
    Query,
    check_where,
    find_columns,
    load_query,
    read_page,
)
from galfig.survey.service import Answer, Service, Target, parse_base, require_between

logger = logging.getLogger(__name__)

OWN_ADDRESS = "https://skyserver.sdss.org"
N, RELEASE, SIZE = 2000, 18, 128
PIXEL_SCALE = 0.396
"""Pixels of the camera of SDSS [arcsec]: a cutout with these is not scaled."""
# SkyServer gives at most 500 000 rows at a time, in at most ten minutes.
PAGE, SECONDS = 50_000, 600.0
# The server, ASP.NET, refuses longer queries in an address; 2048 characters is its default.
MAX_ADDRESS = 2000
MAX_PAGE = 200_000_000
# Galaxies that meet the cuts of the default query, roughly; Wu & Boada 2019 had 130 000.
N_ALL = 130_000
# SkyServer's JPEGs of 128 pixels take 2.0 kB on average (9071 files), and larger ones as much per
# pixel.
BYTES_PER_PIXEL = 0.123
_ID, _RA, _DEC = "objID", "ra", "dec"


def make_service(
    release: int, size: int, pixel_scale: float, base_url: str | None = None
) -> Service:
    """Return SkyServer's service of cutouts.

    Parameters
    ----------
    release : int
        Data release.
    size : int
        Side of a cutout [pixels].
    pixel_scale : float
        [arcsec/pixel]
    base_url : str, optional
        Address of a mirror.

    Returns
    -------
    Service

    Raises
    ------
    ConfigError
        If a parameter is out of bounds.
    """
    require_between("data_release", release, 8, 99)
    # What the service itself accepts, and the least that galfig reads.
    require_between("size", size, 16, 2048)
    require_between("pixel_scale", pixel_scale, 0.015, 60)

    def make_params(target: Target) -> dict[str, str]:
        position = {"ra": f"{target.ra:.7f}", "dec": f"{target.dec:.7f}"}
        return {**position, "scale": f"{pixel_scale:g}", "width": str(size), "height": str(size)}

    def accept(answer: Answer) -> bytes:
        return accept_jpeg(answer, size)

    path = f"/dr{release}/SkyServerWS/ImgCutout/getjpeg"
    return Service(
        kind="sdss",
        title="SkyServer",
        own_address=OWN_ADDRESS,
        address=_parse_address(base_url, path, release),
        path=path,
        release=f"DR{release}",
        size=size,
        pixel_scale=pixel_scale,
        bytes_each=round(BYTES_PER_PIXEL * size**2),
        max_bytes=100_000 + 6 * size**2,
        make_params=make_params,
        accept=accept,
        check_file=lambda data: accept(Answer("image/jpeg", data)),
    )


def _parse_address(base_url: str | None, path: str, release: int) -> str:
    """Check the address of a mirror, also that it is of the release if it names one."""
    address = parse_base(base_url, OWN_ADDRESS, path)
    other = re.search(r"/dr(\d{1,3})(/SkyServerWS)?$", address)
    if other is not None:
        raise ConfigError(
            f"`base_url` {quote(base_url)}: is of release {other[1]}, expected {release}, as in "
            "`data_release`"
        )
    return address


def plan_sdss(
    folder: Path | str,
    n: int = N,
    *,
    data_release: int = RELEASE,
    where: str | None = None,
    sql: Path | str | None = None,
    size: int = SIZE,
    pixel_scale: float = PIXEL_SCALE,
    base_url: str | None = None,
    manners: Manners | None = None,
) -> Fetch:
    """Check what to fetch from SDSS, and ask for nothing yet; see `fetch_sdss`."""
    if n < 0:
        raise ConfigError(f"`n` {n}: expected the number of galaxies, or 0 for all")
    service = make_service(data_release, size, pixel_scale, base_url)
    manners = Manners() if manners is None else manners
    query = Query(load_query(None if sql is None else Path(sql)), check_where(where), n)

    def read() -> bytes:
        return run_loop(_fetch_catalog(query, service, manners))

    # Beside the pages, one that is empty shows that there are no more.
    n_galaxies = n or N_ALL
    n_queries = math.ceil(n_galaxies / PAGE) + (n == 0)
    source = Source("catalog.csv", read, find_targets, query.describe())
    return Fetch(Path(folder), service, source, manners, n_galaxies, n_queries)


def fetch_sdss(
    folder: Path | str,
    n: int = N,
    *,
    data_release: int = RELEASE,
    where: str | None = None,
    sql: Path | str | None = None,
    size: int = SIZE,
    pixel_scale: float = PIXEL_SCALE,
    connections: int = 4,
    rate: float = 5.0,
    contact: str | None = None,
    max_failed: float = MAX_FAILED,
    base_url: str | None = None,
) -> Path:
    """Fetch a catalog and cutouts of galaxies from SDSS.

    Call it again with the same arguments to continue: it fetches what is missing.

    Parameters
    ----------
    folder : Path or str
        Folder to fill: ``catalog.csv``, ``images/<objID>.jpg``, ``fetch.json``, ``manifest.csv``
        and, where cutouts failed, ``failed.csv``.
    n : int, default 2000
        Number of galaxies, spread evenly over those that the query gives; 0 for all.
    data_release : int, default 18
        Data release of SDSS.
    where : str, optional
        A further condition in SQL on columns of the catalog, such as ``"z < 0.1"``.
    sql : Path or str, optional
        File with another query, which gives the columns objID, ra and dec.
    size : int, default 128
        Side of a cutout [pixels].
    pixel_scale : float, default 0.396
        [arcsec/pixel]
    connections : int, default 4
        Connections at a time.
    rate : float, default 5
        Requests per second.
    contact : str, optional
        Your address, for the service's operators; by default, that of ``GALFIG_CONTACT``.
    max_failed : float, default 0.05
        Share of the cutouts that may fail.
    base_url : str, optional
        Address of a mirror.

    Returns
    -------
    Path
        The catalog.

    Raises
    ------
    ConfigError
        If an argument is out of bounds, or the query is none.
    SurveyError
        If the service refuses the query or fails, or too many cutouts failed.
    OutputError
        If the folder was filled with other arguments, or cannot be written.
    """
    return plan_sdss(
        folder,
        n,
        data_release=data_release,
        where=where,
        sql=sql,
        size=size,
        pixel_scale=pixel_scale,
        base_url=base_url,
        manners=Manners(connections, rate, contact, max_failed),
    ).run()


async def _fetch_catalog(query: Query, service: Service, manners: Manners) -> bytes:
    """Fetch all pages of a catalog, and write them as one table."""
    names: list[str] = []
    rows: dict[int, list[str]] = {}
    last: int | None = None
    n_doubled = 0
    is_sorted = True
    async with manners.open_client(service) as client:
        while not query.n or len(rows) < query.n:
            n_rows = min(PAGE, query.n - len(rows)) if query.n else PAGE
            page = await _fetch_page(client, service, query.write_page(n_rows, last))
            # The service may give fewer rows than asked for: only an empty page is the end.
            if not page.rows:
                break
            names = names or page.names
            objids = _read_objids(page, names, service.title)
            fresh: dict[int, list[str]] = {}
            for objid, row in zip(objids, page.rows, strict=True):
                if objid not in rows:
                    fresh.setdefault(objid, row)
            n_doubled += len(objids) - len(fresh)
            is_sorted = is_sorted and _are_sorted([*fresh], query, last)
            if not is_sorted and not query.n:
                raise SurveyError(
                    f"{service.title}: objIDs are not in the order that was asked for, so that "
                    "some may be missing; ask for a number of galaxies"
                )
            # A service that does not go on after the last galaxy would give these again and again.
            if not fresh:
                break
            rows |= fresh
            last = [*fresh][-1]
            logger.info("catalog: %d galaxies so far", len(rows))
    if not rows:
        raise SurveyError(
            f"{service.title}: gives no galaxy, expected at least one; relax `where`, or see the "
            "query"
        )
    if n_doubled:
        logger.warning("catalog: %d rows of galaxies that were there already, left out", n_doubled)
    if not is_sorted:
        logger.warning(
            "catalog: the galaxies are not in the order that was asked for, and may not be spread "
            "evenly over the survey"
        )
    if len(rows) < query.n:
        logger.warning("catalog: %d galaxies meet the query, not %d", len(rows), query.n)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    wanted = {name.lower(): name for name in (_ID, _RA, _DEC)}
    writer.writerow([wanted.get(name.lower(), name) for name in names])
    writer.writerows(list(rows.values())[: query.n or None])
    return table.getvalue().encode()


async def _fetch_page(client: Client, service: Service, sql: str) -> Page:
    release = service.release.lower()
    path = f"/{release}/SkyServerWS/SearchTools/SqlSearch"
    params = {"cmd": sql, "format": "csv"}
    try:
        return await client.fetch(
            path,
            params,
            read_page,
            max_bytes=MAX_PAGE,
            seconds=SECONDS,
            post=_measure(params) > MAX_ADDRESS,
        )
    except FailedRequestError as exc:
        again = "; run the same command again later" if exc.is_of_service else ""
        raise SurveyError(f"{service.title}: no catalog, {exc}{again}") from exc


def _measure(params: dict[str, str]) -> int:
    """Return the length of parameters in an address."""
    from urllib.parse import urlencode

    return len(urlencode(params))


def _read_objids(page: Page, names: list[str], title: str) -> list[int]:
    """Return the identifiers of a page, whose columns must be those of the pages before."""
    if page.names != names:
        raise SurveyError(f"{title}: the columns differ from page to page, expected the same")
    columns = find_columns(names, (_ID, _RA, _DEC), title)
    # A catalog that is written is not asked for again: what no later run could read is refused now.
    return [
        int(_make_target(title, *(row[column] for column in columns)).objid) for row in page.rows
    ]


def _are_sorted(objids: list[int], query: Query, last: int | None) -> bool:
    """Return whether the new galaxies of a page, if any, follow the last one as asked for."""
    places = [query.place(objid) for objid in (objids if last is None else [last, *objids])]
    return bool(objids) and all(map(operator.lt, places, places[1:]))


def find_targets(path: Path) -> Sequence[Target]:
    """Return the galaxies of a catalog that `fetch_sdss` wrote.

    Parameters
    ----------
    path : Path
        The catalog.

    Returns
    -------
    list of Target

    Raises
    ------
    SurveyError
        If it cannot be read, or has been changed since.
    """
    try:
        text = read_regular(path, 2_000_000_000).decode()
        names, *rows = csv.reader(text.splitlines())
        columns = find_columns(names, (_ID, _RA, _DEC), str(path))
        found = {row[columns[0]]: row for row in rows}
        targets = [
            _make_target(str(path), *(row[column] for column in columns)) for row in found.values()
        ]
    except SurveyError:
        raise
    except OSError as exc:
        raise SurveyError(f"{path}: cannot be read ({exc.strerror})") from exc
    except (ValueError, IndexError, csv.Error) as exc:
        raise SurveyError(f"{path}: is no table of CSV, expected that of 'galfig fetch'") from exc
    return targets


def _make_target(where: str, objid: str, ra: str, dec: str) -> Target:
    """Return a galaxy; raise SurveyError where a cell of it is not what its name says."""
    # An identifier is text; a float of it has lost digits.
    if not (objid.isascii() and objid.isdecimal() and len(objid) <= 19):
        raise SurveyError(f"{where}: objID {quote(objid)}, expected at most 19 digits")
    try:
        target = Target(objid, float(ra), float(dec))
    except ValueError:
        target = Target(objid, math.nan, math.nan)
    if not (0 <= target.ra <= 360 and -90 <= target.dec <= 90):
        raise SurveyError(
            f"{where}: galaxy {objid} at ra {quote(ra)}, dec {quote(dec)}, expected a position in "
            "degrees"
        )
    return target
