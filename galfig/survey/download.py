"""The download: cutouts of many galaxies from a service into a folder, which can be resumed."""

import asyncio
import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from galfig.errors import OutputError, SurveyError
from galfig.runtime.clock import now
from galfig.runtime.files import replace_file
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import one_line
from galfig.runtime.progress import show_progress
from galfig.survey.client import (
    CONNECTIONS,
    PATIENT,
    RATE,
    Client,
    FailedRequestError,
    Patience,
    run_loop,
)
from galfig.survey.manifest import Entry, Manifest, open_manifest, read_manifest
from galfig.survey.service import RefusedAnswerError, Service, Target, require_between

logger = logging.getLogger(__name__)

IMAGES = "images"
_TORN = re.compile(r"\.[0-9a-f]{8}\.tmp$")
MAX_FAILED = 0.05
"""Share of the galaxies whose cutouts may fail, unless the user gives another."""


@dataclass(frozen=True)
class Manners:
    """How a service is asked; not part of what is fetched.

    Attributes
    ----------
    connections : int, default 4
        Connections at a time.
    rate : float, default 5
        Requests per second.
    contact : str, optional
        Address of the user, for the User-Agent; by default, that of ``GALFIG_CONTACT``.
    max_failed : float, default 0.05
        Share of the galaxies whose cutouts may fail.
    patience : Patience
        How long to try.
    """

    connections: int = CONNECTIONS
    rate: float = RATE
    contact: str | None = None
    max_failed: float = MAX_FAILED
    patience: Patience = PATIENT

    def __post_init__(self) -> None:
        require_between("max_failed", self.max_failed, 0, 1)

    def open_client(self, service: Service) -> Client:
        """Return a client of a service."""
        return Client(
            service.address,
            service.title,
            connections=self.connections,
            rate=self.rate,
            contact=self.contact,
            patience=self.patience,
        )


@dataclass
class Outcome:
    """What a download did.

    Attributes
    ----------
    n_there : int
        Cutouts that were there before.
    n_fetched : int
        Cutouts that it fetched.
    n_bytes : int
        What they take [byte].
    failures : dict of str to (Target, str)
        Galaxies whose cutouts it could not fetch, and why, by identifier.
    days : set of str
        Days on which the cutouts of the folder were fetched, as YYYY-MM-DD.
    """

    n_there: int = 0
    n_fetched: int = 0
    n_bytes: int = 0
    failures: dict[str, tuple[Target, str]] = field(default_factory=dict)
    days: set[str] = field(default_factory=set)


def download(
    folder: Path,
    targets: Sequence[Target],
    service: Service,
    manners: Manners,
    outcome: Outcome,
    *,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Fetch the cutouts that a folder lacks.

    Parameters
    ----------
    folder : Path
        The folder, which exists; the cutouts are ``images/<objID>.jpg`` below it.
    targets : sequence of Target
        The galaxies. Their identifiers are plain names of files, and distinct.
    service : Service
        What is asked.
    manners : Manners
        How it is asked.
    outcome : Outcome
        Filled with what is done, also if the download is interrupted.
    check : callable, optional
        Called before each file appears; raises an error if another process has taken over.

    Raises
    ------
    SurveyError
        If the service as a whole fails: the cutouts that came are there, and a further call goes
        on. A cutout that cannot be fetched is noted in ``outcome``.
    OutputError
        If a file cannot be written.
    """
    images = folder / IMAGES
    try:
        images.mkdir(exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{images}: cannot be made ({exc.strerror})") from exc
    _remove_torn(images, service.suffix)
    with open_manifest(folder) as manifest:
        job = _Download(folder, service, manners, manifest, outcome, check)
        missing = job.find_missing(targets)
        if missing:
            run_loop(job.run(missing, len(targets)))


def _remove_torn(images: Path, suffix: str) -> None:
    """Remove what a process that was killed had begun to write; see `replace_file`."""
    for path in images.glob(f".*.tmp{suffix}"):
        if _TORN.search(path.name.removesuffix(suffix)) and not path.is_dir():
            path.unlink(missing_ok=True)


def list_missing(folder: Path, targets: Sequence[Target], suffix: str) -> list[Target]:
    """Return the galaxies for which a folder holds no file that its manifest knows.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist.
    targets : sequence of Target
        The galaxies.
    suffix : str
        Suffix of their files.
    """
    known = read_manifest(folder)
    return [target for target in targets if _find_known(folder, target, suffix, known) is None]


def _find_known(folder: Path, target: Target, suffix: str, known: dict[str, Entry]) -> Entry | None:
    """Return the entry of a file if it is there with the size that the manifest states."""
    entry = known.get(f"{IMAGES}/{target.objid}{suffix}")
    if entry is None:
        return None
    try:
        is_there = (folder / entry.file).stat().st_size == entry.n_bytes
    except OSError:
        is_there = False
    return entry if is_there else None


class _Download:
    """One run of `download`, and the cutouts it has seen."""

    def __init__(
        self,
        folder: Path,
        service: Service,
        manners: Manners,
        manifest: Manifest,
        outcome: Outcome,
        check: Callable[[], object],
    ) -> None:
        self._folder = folder
        self._service = service
        self._manners = manners
        self._manifest = manifest
        self._outcome = outcome
        self._check = check
        # The first galaxy with each digest, to find stamps that many galaxies share.
        self._seen: dict[str, Target] = {}
        self._n_in_a_row = 0

    def find_missing(self, targets: Sequence[Target]) -> list[Target]:
        """Return the galaxies without a cutout; check files that the manifest does not know."""
        known = read_manifest(self._folder)
        missing = []
        for target in targets:
            entry = _find_known(self._folder, target, self._service.suffix, known)
            if entry is None:
                entry = self._check_again(target)
            if entry is None:
                missing.append(target)
                continue
            self._seen.setdefault(entry.sha256, target)
            self._outcome.n_there += 1
            self._outcome.days.add(entry.fetched)
        return missing

    def _check_again(self, target: Target) -> Entry | None:
        """Check a file that an earlier run may have left without a line; None if it is no good."""
        path = self._find_path(target)
        try:
            data = read_regular(path, self._service.max_bytes)
            self._service.check_file(data)
            self._service.check_place(target, data)
        except (OSError, RefusedAnswerError):
            return None
        return self._note(target, data)

    async def run(self, missing: Sequence[Target], n_total: int) -> None:
        """Fetch cutouts, as many at a time as there are connections."""
        todo = iter(missing)
        n_there = n_total - len(missing)
        with show_progress("fetching", n_total, "cutouts", initial=n_there) as advance:
            async with self._manners.open_client(self._service) as client:
                try:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(min(self._manners.connections, len(missing))):
                            group.create_task(self._work(client, todo, advance))
                except BaseExceptionGroup as errors:
                    # One reason is enough, and callers know no groups.
                    raise _find_first(errors) from None

    async def _work(
        self, client: Client, todo: Iterator[Target], advance: Callable[[int], object]
    ) -> None:
        # All tasks take from one iterator, so that no list of tasks is ever held.
        for target in todo:
            await self._fetch(client, target)
            advance(1)

    async def _fetch(self, client: Client, target: Target) -> None:
        service = self._service
        try:
            data = await client.fetch(
                service.path,
                service.make_params(target),
                partial(service.accept_of, target),
                max_bytes=service.max_bytes,
            )
        except FailedRequestError as exc:
            self._fail(target, one_line(exc), is_of_service=exc.is_of_service)
            return
        self._n_in_a_row = 0
        digest = hashlib.sha256(data).hexdigest()
        twin = self._seen.get(digest)
        if twin is not None and self._is_elsewhere(target, twin):
            self._refuse_both(target, twin)
            return
        self._seen.setdefault(digest, target)
        self._check()
        path = self._find_path(target)
        if path.is_symlink():
            # It may lead to any file of the user.
            path.unlink()
        with replace_file(path, if_exists="replace") as temporary:
            temporary.write_bytes(data)
        self._outcome.days.add(self._note(target, data).fetched)
        self._outcome.n_fetched += 1
        self._outcome.n_bytes += len(data)

    def _fail(self, target: Target, reason: str, *, is_of_service: bool) -> None:
        logger.debug("%s: %s", target.objid, reason)
        self._outcome.failures[target.objid] = (target, reason)
        self._n_in_a_row = self._n_in_a_row + 1 if is_of_service else 0
        if self._n_in_a_row >= self._manners.patience.failures:
            raise SurveyError(
                f"{self._service.title}: {self._n_in_a_row} cutouts in a row failed, the last with "
                f"{reason}; run the same command again later to continue"
            )

    def _is_elsewhere(self, target: Target, twin: Target) -> bool:
        """Return whether two galaxies are more than a pixel apart, so that their cutouts differ."""
        east = (target.ra - twin.ra + 180) % 360 - 180
        east *= math.cos(math.radians(target.dec))
        return math.hypot(east, target.dec - twin.dec) > self._service.pixel_scale / 3600

    def _refuse_both(self, target: Target, twin: Target) -> None:
        """Note that two places have the very same picture, which can only be one without sky."""
        for one, other in ((target, twin), (twin, target)):
            reason = f"the same picture as of {other.objid}, so that it shows neither"
            self._outcome.failures.setdefault(one.objid, (one, reason))
        path = self._find_path(twin)
        if path.exists():
            self._check()
            path.unlink()
            self._outcome.n_fetched -= 1

    def _find_path(self, target: Target) -> Path:
        return self._folder / IMAGES / f"{target.objid}{self._service.suffix}"

    def _note(self, target: Target, data: bytes) -> Entry:
        file = f"{IMAGES}/{target.objid}{self._service.suffix}"
        digest = hashlib.sha256(data).hexdigest()
        entry = Entry(target.objid, file, len(data), digest, now().date().isoformat())
        self._manifest.add(entry)
        return entry


def _find_first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _find_first(first) if isinstance(first, BaseExceptionGroup) else first
