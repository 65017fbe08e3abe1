"""The folder that a fetch fills: catalog, cutouts, and the record of where they came from."""

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import galfig
from galfig.config import DEFAULT_FILE
from galfig.errors import OutputError, SurveyError
from galfig.records import FETCH_FILE, FetchRecord
from galfig.runtime.clock import now
from galfig.runtime.documents import dump_json, load_json
from galfig.runtime.files import check_home, check_output, replace_file
from galfig.runtime.inputs import read_regular
from galfig.runtime.lock import hold_lock
from galfig.runtime.messages import one_line, quote
from galfig.survey.download import IMAGES, Manners, Outcome, download, list_missing
from galfig.survey.manifest import FAILED, MANIFEST, is_manifest, write_failures
from galfig.survey.service import Service, Target

logger = logging.getLogger(__name__)

MAX_RECORD = 1_000_000
# What must be the same in a run that continues another, as messages call it.
_SAME = {
    "service": "service",
    "release": "release",
    "catalog": "catalog",
    "images": "images",
    "query": "query",
    "bands": "bands",
    "pixel_scale": "pixel scale",
    "size": "size",
}


class Source(NamedTuple):
    """Where the catalog of a folder comes from.

    Attributes
    ----------
    name : str
        Name of the catalog in the folder.
    read : callable
        Returns the bytes of the catalog. It is called if the folder has none, and for a catalog of
        the user, to see that the folder holds the same.
    find_targets : callable
        Takes the path of the catalog in the folder, and returns the galaxies: their identifiers are
        distinct, and plain names of files.
    query : str or None
        The SQL that gives the catalog; None for a catalog of the user.
    id : str
        Column of the identifiers.
    faults : mapping of str to str
        Why rows of the catalog cannot be asked for, by their identifier.
    settings : str
        TOML by which galfig reads the folder, which goes beside the catalog; "" where the defaults
        do.
    """

    name: str
    read: Callable[[], bytes]
    find_targets: Callable[[Path], Sequence[Target]]
    query: str | None = None
    id: str = "objID"
    faults: Mapping[str, str] = {}
    settings: str = ""


@dataclass(frozen=True)
class Fetch:
    """What to fetch, into which folder; nothing is asked for before `run`.

    Attributes
    ----------
    folder : Path
        The folder.
    service : Service
        What gives the cutouts.
    source : Source
        What gives the catalog.
    manners : Manners
        How to ask.
    n_galaxies : int
        Number of galaxies, as far as it is known without the catalog.
    n_queries : int
        Requests for the catalog.
    others : tuple of Service
        What gives the further bands, each as a file of its own.
    """

    folder: Path
    service: Service
    source: Source
    manners: Manners
    n_galaxies: int
    n_queries: int = 0
    others: tuple[Service, ...] = ()

    def run(self) -> Path:
        """Fetch what the folder lacks, and return the catalog; see `fill_folder`."""
        services = (self.service, *self.others)
        return fill_folder(self.folder, services, self.source, self.manners)

    @property
    def settings_path(self) -> Path | None:
        """The settings beside the catalog that read the folder; None where the defaults do."""
        return self.folder / DEFAULT_FILE if self.source.settings else None

    def estimate(self) -> str:
        """Say in one line what is asked for, and how long it takes; nothing is asked for."""
        services = (self.service, *self.others)
        # What `run` would refuse takes no requests, and is no estimate.
        if _find_former(self.folder, self.source, _make_record(services, self.source)) is not None:
            targets = self.source.find_targets(self.folder / self.source.name)
            missing = sum(
                len(list_missing(self.folder, targets, service.suffix)) for service in services
            )
            return self._describe(len(targets), missing, 0)
        n_files = self.n_galaxies * (1 + len(self.others))
        return self._describe(self.n_galaxies, n_files, self.n_queries)

    def _describe(self, n: int, n_missing: int, n_queries: int) -> str:
        n_requests = n_missing + n_queries
        n_there = n * (1 + len(self.others)) - n_missing
        rate = self.manners.rate
        return (
            f"{self.service.title}, {self.service.release}: {_count(n, 'galaxy', 'galaxies')}, "
            f"{_count(n_there, 'cutout', 'cutouts')} there; "
            f"{_count(n_requests, 'request', 'requests')}, about "
            f"{_write_size(n_missing * self.service.bytes_each)}, at least "
            f"{_write_time(n_requests / rate)} at {rate:g} requests per second"
        )


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}".replace(",", " ")


def _write_size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _write_time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{math.ceil(seconds / 60)} min"


def fill_folder(
    folder: Path, services: Sequence[Service], source: Source, manners: Manners
) -> Path:
    """Fetch what a folder lacks: first the catalog, then the cutouts.

    Parameters
    ----------
    folder : Path
        The folder, made if it does not exist.
    services : sequence of Service
        What gives the cutouts, each a file of every galaxy. Where one fails, the next are not asked
        for the galaxy.
    source : Source
        What gives the catalog.
    manners : Manners
        How to ask.

    Returns
    -------
    Path
        The catalog.

    Raises
    ------
    SurveyError
        If the folder was filled with other parameters, the service fails, or more cutouts failed
        than ``manners`` allows.
    OutputError
        If the folder cannot be written, or holds files or links of somebody else.
    LockError
        If another process fills it.
    """
    path = folder / source.name
    check_home(path)
    _refuse_links(folder, source.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be made ({exc.strerror})") from exc
    with hold_lock(path) as lock:
        record = _begin(folder, services, source)
        targets = source.find_targets(path)
        outcome = Outcome()
        for objid, reason in source.faults.items():
            outcome.failures[objid] = (Target(objid, math.nan, math.nan), reason)
        n = len(targets) + len(source.faults)
        try:
            for service in services:
                rest = [target for target in targets if target.objid not in outcome.failures]
                download(folder, rest, service, manners, outcome, check=lock.check)
        finally:
            # Also of a run that is interrupted: the next one tries them again.
            write_failures(folder, outcome.failures.values())
            _write_record(folder, _describe(record, n, outcome))
        if source.settings:
            _write_settings(folder, source.settings)
    _report(folder, n, len(services), outcome, manners, faults=source.faults)
    return path


def _refuse_links(folder: Path, catalog: str) -> None:
    """Raise OutputError if a file to be written is a link: it may lead to a file of the user."""
    for name in (catalog, FETCH_FILE, MANIFEST, FAILED, DEFAULT_FILE):
        if (folder / name).is_symlink():
            raise OutputError(
                f"{folder / name}: is a link, expected a file of the folder; remove the link"
            )


def _refuse_foreign(folder: Path) -> None:
    """Raise OutputError if a folder that no fetch has begun holds what a fetch would replace.

    Cutouts with their manifest may come from another folder, so that they are not fetched again.
    """
    images = folder / IMAGES
    has_images = images.is_dir() and any(images.iterdir())
    names = [FAILED] if (folder / FAILED).exists() else []
    if not is_manifest(folder):
        names += [MANIFEST] if (folder / MANIFEST).exists() else [IMAGES] if has_images else []
    if names:
        raise OutputError(
            f"{folder / names[0]}: is there already, and 'galfig fetch' did not write it, expected "
            "a folder of its own; choose another folder"
        )


def _write_settings(folder: Path, words: str) -> None:
    """Write the settings that read a folder, unless there are some: they may be the user's own."""
    path = folder / DEFAULT_FILE
    if not path.exists():
        check_output(path)
        with replace_file(path) as temporary:
            temporary.write_text(words, encoding="utf-8")
    elif _read_bytes(path) != words.encode():
        logger.info("%s: is there already, and stays as it is", path)


def _begin(folder: Path, services: Sequence[Service], source: Source) -> FetchRecord:
    """Compare the folder with what is asked for, and write the catalog if it has none."""
    path = folder / source.name
    record = _make_record(services, source)
    former = _find_former(folder, source, record)
    if former is not None:
        return _continue(former, record)
    if read_record(folder) is None:
        _refuse_foreign(folder)
    data = source.read()
    # The catalog comes last, so that one that is there always has its record.
    _write_record(folder, record)
    check_output(path)
    with replace_file(path) as temporary:
        temporary.write_bytes(data)
    return record


def _make_record(services: Sequence[Service], source: Source) -> FetchRecord:
    """Return the record of a folder that is begun today."""
    today = now().date().isoformat()
    service = services[0]
    return FetchRecord(
        service=service.kind,
        release=", ".join(one.release for one in services),
        address=service.address,
        is_mirror=service.is_mirror,
        catalog=source.name,
        images=f"{IMAGES}/{{{source.id}}}{service.suffix}",
        query=source.query,
        bands=service.bands,
        pixel_scale=service.pixel_scale,
        size=service.size,
        is_north_up=service.is_north_up,
        first=today,
        last=today,
        n=0,
        n_failed=0,
        galfig_version=galfig.__version__,
    )


def _continue(former: FetchRecord, record: FetchRecord) -> FetchRecord:
    """Return the record of a folder that another run goes on with, maybe from a mirror."""
    addresses = dict.fromkeys([*former.address.split(", "), record.address])
    return former.model_copy(
        update={
            "address": ", ".join(addresses),
            "is_mirror": former.is_mirror or record.is_mirror,
            "galfig_version": record.galfig_version,
        }
    )


def _find_former(folder: Path, source: Source, record: FetchRecord) -> FetchRecord | None:
    """Return the record of a folder, or None; raise OutputError if it was filled otherwise."""
    path = folder / source.name
    if not path.exists():
        return None
    former = read_record(folder)
    if former is None:
        raise OutputError(
            f"{path}: already exists, and 'galfig fetch' did not write it, expected a folder "
            "of its own; choose another folder"
        )
    _check_same(folder, former, record)
    if source.query is None and _read_bytes(path) != source.read():
        raise OutputError(
            f"{path}: is another catalog than the one given, expected the same; choose another "
            "folder"
        )
    return former


def _check_same(folder: Path, former: FetchRecord, record: FetchRecord) -> None:
    """Raise OutputError if a folder was filled with other parameters."""
    for key, name in _SAME.items():
        old, new = getattr(former, key), getattr(record, key)
        if old != new:
            if key == "query":
                old, new = _cut_common(old or "", new or "")
            raise OutputError(
                f"{folder}: was fetched with {name} {quote(old)}, not {quote(new)}, expected the "
                "same; choose another folder"
            )


def _cut_common(old: str, new: str) -> tuple[str, str]:
    """Return two queries from the word before their first difference: all of them begin alike."""
    pairs = enumerate(zip(old, new, strict=False))
    n = next((i for i, (a, b) in pairs if a != b), min(len(old), len(new)))
    start = old.rfind(" ", 0, max(old.rfind(" ", 0, n), 0)) + 1
    return old[start:], new[start:]


def read_record(folder: Path) -> FetchRecord | None:
    """Read the record of a folder that a fetch filled.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    FetchRecord or None
        None if there is none.

    Raises
    ------
    SurveyError
        If it cannot be read.
    """
    path = folder / FETCH_FILE
    try:
        return FetchRecord.model_validate(load_json(read_regular(path, MAX_RECORD)))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise SurveyError(f"{path}: cannot be read ({exc.strerror})") from exc
    except ValueError as exc:
        raise SurveyError(
            f"{path}: {one_line(exc)[:300]}, expected what 'galfig fetch' writes"
        ) from exc


def _read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path, 2_000_000_000)
    except OSError as exc:
        raise SurveyError(f"{path}: cannot be read ({exc.strerror})") from exc


def _describe(record: FetchRecord, n: int, outcome: Outcome) -> FetchRecord:
    days = sorted(outcome.days) or [record.first, record.last]
    n_failed = len(outcome.failures)
    update = {"first": days[0], "last": days[-1], "n": n, "n_failed": n_failed}
    return record.model_copy(update=update)


def _write_record(folder: Path, record: FetchRecord) -> None:
    with replace_file(folder / FETCH_FILE, if_exists="replace") as temporary:
        temporary.write_text(dump_json(record.model_dump(), indent=2) + "\n", encoding="utf-8")


def _report(
    folder: Path,
    n: int,
    n_services: int,
    outcome: Outcome,
    manners: Manners,
    *,
    faults: Collection[str],
) -> None:
    n_failed = len(outcome.failures)
    if n_failed > manners.max_failed * n:
        example = next(iter(outcome.failures.values()))
        what, advice = "cutouts failed", "run the same command again to try them again"
        if len(faults) == n_failed:
            # The same command would say the same, and another catalog needs another folder.
            what = "galaxies cannot be asked for"
            advice = "correct the catalog and choose another folder, or raise `max_failed`"
        raise SurveyError(
            f"{folder}: {n_failed} of {n} {what}, expected at most "
            f"{100 * manners.max_failed:g} %, first {example[0].objid}: {example[1]}; see "
            f"{folder / FAILED}, and {advice}"
        )
    failed = f", {n_failed} failed, see {folder / FAILED}" if n_failed else ""
    logger.info(
        "%s: %d of %d cutouts are there, %d of them fetched now (%.1f MB)%s",
        folder,
        outcome.n_there + outcome.n_fetched,
        n * n_services,
        outcome.n_fetched,
        outcome.n_bytes / 1e6,
        failed,
    )
