"""The client: few connections, a rate limit, and patience with a service that is busy.

A survey's service is shared by all who work with the survey. The client therefore never asks
faster than its rate, waits longer after each failure, and for as long as a service asks it to. What
fails for good is an error with a reason in one line.
"""

import asyncio
import email.utils
import importlib.metadata
import logging
import os
import random
import ssl
import time
import zlib
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

import galfig
from galfig.errors import ConfigError, SurveyError
from galfig.runtime.messages import one_line, quote
from galfig.runtime.options import OFFLINE
from galfig.survey.checks import describe_page
from galfig.survey.service import Answer, RefusedAnswerError, require_between

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

CONNECTIONS, RATE = 4, 5.0
"""Connections at a time, and requests per second, unless the user gives others."""
MAX_CONNECTIONS, MAX_RATE = 16, 50.0
CONTACT = "GALFIG_CONTACT"
"""Variable of the environment with the address of the user, for the User-Agent."""
MAX_REDIRECTS = 3
# What is read of a page that says why there is no answer [byte].
_MAX_PAGE = 20_000
# Waits that are told [s].
_LONG = 10.0
# Status codes after which the same request may succeed: a timeout of the server, a request that
# came too early or too often, and faults of the server itself.
_PASSING = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}


@dataclass(frozen=True)
class Patience:
    """How long the client tries.

    Attributes
    ----------
    attempts : int
        Requests for one thing, the first among them.
    base : float
        The pause after the first failure is a random time from 0 to this [s]; the bound doubles
        with each further failure.
    longest : float
        The bound grows to no more than this [s].
    retry_after : float
        The longest pause that a service may ask for [s]. If it asks for more, the run ends.
    connect : float
        Time to connect, and to send a request [s].
    total : float
        Time for a whole answer [s].
    failures : int
        Things in a row that the service fails to give before the run ends.
    """

    attempts: int = 5
    base: float = 1.0
    longest: float = 60.0
    retry_after: float = 600.0
    connect: float = 20.0
    total: float = 120.0
    failures: int = 20


PATIENT = Patience()


class FailedRequestError(Exception):
    """A request failed for good; the text says why.

    Attributes
    ----------
    is_of_service : bool
        Whether the service itself failed, so that other requests would fail, too.
    """

    def __init__(self, reason: str, *, is_of_service: bool) -> None:
        super().__init__(reason)
        self.is_of_service = is_of_service


class _PassingError(Exception):
    """A request failed, and may succeed later; ``after`` is what the service asks to wait [s]."""

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Bucket:
    """A token bucket: at most ``rate`` requests per second, however many tasks ask.

    The bucket holds one token, so that no burst follows a pause.

    Parameters
    ----------
    rate : float
        Requests per second.
    """

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        # When the next request may leave, by the loop's clock.
        self._next = 0.0

    async def take(self) -> None:
        """Wait until a request may leave."""
        loop = asyncio.get_running_loop()
        while (wait := self._next - loop.time()) > 0:
            await asyncio.sleep(wait)
        self._next = loop.time() + self._interval

    def pause(self, seconds: float) -> None:
        """Let no request leave for some time."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds)


class Client:
    """Asks one service; an asynchronous context manager.

    Parameters
    ----------
    address : str
        Address of the service, without a slash at the end; see `galfig.survey.service.parse_base`.
    title : str
        What messages call the service.
    connections : int, default 4
        Connections at a time.
    rate : float, default 5
        Requests per second.
    contact : str, optional
        Address of the user, for the User-Agent; by default, that of ``GALFIG_CONTACT``.
    patience : Patience, optional
        How long to try.

    Raises
    ------
    ConfigError
        If ``GALFIG_OFFLINE`` is set, a number is out of bounds, or the proxies of the environment
        are none.

    Attributes
    ----------
    n_requests : int
        Requests that were sent.
    """

    def __init__(
        self,
        address: str,
        title: str,
        *,
        connections: int = CONNECTIONS,
        rate: float = RATE,
        contact: str | None = None,
        patience: Patience = PATIENT,
    ) -> None:
        if os.environ.get(OFFLINE):
            raise ConfigError(
                f"{title}: nothing is fetched here ({OFFLINE} is set, as in the steps of a "
                "manuscript), expected a network; fetch outside, and unset it"
            )
        require_between("connections", connections, 1, MAX_CONNECTIONS)
        require_between("rate", rate, 0.01, MAX_RATE)
        self.title = title
        self.patience = patience
        self.n_requests = 0
        self._has_failed = False
        self._base = httpx.URL(address)
        self._bucket = Bucket(rate)
        self._http = _make_http(connections, name_agent(contact), patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def fetch(
        self,
        path: str,
        params: Mapping[str, str],
        accept: Callable[[Answer], Result],
        *,
        max_bytes: int,
        seconds: float | None = None,
        post: bool = False,
    ) -> Result:
        """Ask for something until it is given, or the patience ends.

        Parameters
        ----------
        path : str
            Path below the address.
        params : mapping of str to str
            Parameters, in the address or, with ``post``, in the body.
        accept : callable
            Takes the answer, and returns what to make of it, or raises `RefusedAnswerError`.
        max_bytes : int
            The largest answer that is read [byte].
        seconds : float, optional
            Time for an answer that is known to take long [s]; one that takes longer is not asked
            for again. By default, that of the patience.
        post : bool, default False
            Whether to send the parameters in the body, of a POST.

        Returns
        -------
        object
            What ``accept`` returned.

        Raises
        ------
        FailedRequestError
            If the service does not give it.
        SurveyError
            If the service asks to come back later than the patience allows.
        """
        url = self._base.copy_with(path=self._base.path.rstrip("/") + path)
        form = dict(params) if post else None
        url = url if post else url.copy_merge_params(params)
        limit = self.patience.total if seconds is None else seconds
        for attempt in range(1, self.patience.attempts + 1):
            await self._bucket.take()
            try:
                async with asyncio.timeout(limit):
                    return accept(await self._ask(url, form, max_bytes))
            except RefusedAnswerError as exc:
                if exc.is_final or attempt == self.patience.attempts:
                    # What says the same five times is a service in need of repair.
                    raise FailedRequestError(str(exc), is_of_service=not exc.is_final) from exc
                reason, after = str(exc), None
            except (_PassingError, TimeoutError) as exc:
                late = isinstance(exc, TimeoutError)
                reason = f"no whole answer in {limit:g} s" if late else str(exc)
                after = exc.after if isinstance(exc, _PassingError) else None
                self._check_pause(after)
                # To ask again for what takes minutes would only add to the load.
                is_long = late and seconds is not None
                if is_long or attempt == self.patience.attempts:
                    tries = f"{attempt} tries" if attempt > 1 else "1 try"
                    raise FailedRequestError(f"{reason}, {tries}", is_of_service=True) from exc
            await self._wait(attempt, after, reason)
        raise AssertionError("unreachable")

    def _check_pause(self, after: float | None) -> None:
        if after is not None and after > self.patience.retry_after:
            raise SurveyError(
                f"{self.title}: asks to come back in {after / 60:.0f} min, expected at most "
                f"{self.patience.retry_after / 60:.0f}; run the same command again then"
            )

    async def _wait(self, attempt: int, after: float | None, reason: str) -> None:
        """Wait before the next attempt; where the service says for how long, all requests do."""
        bound = min(self.patience.longest, self.patience.base * 2 ** (attempt - 1))
        # Full jitter: what failed together does not come back together.
        pause = random.uniform(0, bound)
        if after is not None:
            self._bucket.pause(after)
            pause = max(pause, after)
        if after is not None and after >= _LONG:
            logger.info("%s: asks to wait for %.0f s", self.title, after)
        # The first failure is said, so that nobody wonders why nothing happens.
        level = logging.DEBUG if self._has_failed else logging.INFO
        self._has_failed = True
        logger.log(level, "%s: %s; trying again in %.1f s", self.title, reason, pause)
        await asyncio.sleep(pause)

    async def _ask(self, url: httpx.URL, form: dict[str, str] | None, max_bytes: int) -> Answer:
        """Send one request and read its answer, following redirects on the same host."""
        for _ in range(MAX_REDIRECTS + 1):
            self.n_requests += 1
            request = self._http.build_request("GET" if form is None else "POST", url, data=form)
            try:
                response = await self._http.send(request, stream=True)
                try:
                    if not response.is_redirect:
                        await _check_status(response)
                        data = await _read_body(response, max_bytes)
                        return Answer(_read_type(response), data)
                    url = self._find_next(url, response)
                finally:
                    await response.aclose()
            # httpx parses where a redirect leads, and lets pass what Python says of some addresses.
            except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, ValueError) as exc:
                raise _PassingError(_describe(exc)) from exc
        raise FailedRequestError(f"more than {MAX_REDIRECTS} redirects", is_of_service=True)

    def _find_next(self, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        """Return where a redirect leads, if that is the same service."""
        try:
            there = url.join(response.headers.get("location", ""))
        except (httpx.InvalidURL, ValueError) as exc:
            raise FailedRequestError("redirects to no address", is_of_service=True) from exc
        is_safe = there.scheme == url.scheme or (url.scheme, there.scheme) == ("http", "https")
        # Another port is another server, unless it is that of https for that of http.
        is_same_port = there.port == url.port
        if there.host != self._base.host or not is_safe or not is_same_port:
            raise FailedRequestError(
                f"redirects to {quote(f'{there.scheme}://{there.netloc.decode()}')}, expected "
                f"'{url.scheme}://{url.netloc.decode()}'",
                is_of_service=True,
            )
        return there


def _make_http(connections: int, agent: str, patience: Patience) -> httpx.AsyncClient:
    try:
        return httpx.AsyncClient(
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            timeout=httpx.Timeout(patience.connect, pool=None, read=None),
            headers={"User-Agent": agent, "Accept": "*/*", "Accept-Encoding": "gzip"},
            # A service learns nothing of one request from another.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
        )
    except (ValueError, ImportError, OSError, httpx.InvalidURL) as exc:
        # Proxies and certificates are named by variables of the environment.
        raise ConfigError(
            f"the network cannot be used ({one_line(exc)}), expected usable proxies and "
            "certificates; see HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        ) from exc


async def _check_status(response: httpx.Response) -> None:
    """Raise an error for a status other than 200, with what the page says."""
    status = response.status_code
    if status == 200:
        return
    reason = f"status {status} {one_line(response.reason_phrase)[:60]}".strip()
    words, _ = await _read_some(response, _MAX_PAGE)
    reason += f": {describe_page(words)}" if words.strip() else ""
    if status in _PASSING:
        raise _PassingError(reason, after=parse_retry_after(response.headers))
    # Some other number means that this very thing is not there, or not allowed.
    raise FailedRequestError(reason, is_of_service=status in (401, 403, 407))


async def _read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """Read an answer of bounded size."""
    stated = response.headers.get("content-length", "")
    if not stated.isdecimal() or (len(stated) < 19 and int(stated) <= max_bytes):
        data, is_whole = await _read_some(response, max_bytes)
        if is_whole:
            return data
    reason = f"an answer of more than {max_bytes} bytes, expected fewer"
    raise FailedRequestError(reason, is_of_service=False)


async def _read_some(response: httpx.Response, max_bytes: int) -> tuple[bytes, bool]:
    """Read the beginning of a body, at most some bytes, and tell whether that is all of it.

    httpx would unpack a chunk at once, and one of a few kilobytes may unpack to gigabytes.
    """
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        reason = f"an answer in the coding {quote(coding)}, expected 'gzip' or none"
        raise FailedRequestError(reason, is_of_service=True)
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if coding == "gzip" else None
    data = bytearray()
    async for chunk in response.aiter_raw():
        # One byte more than may be read shows that there is more.
        room = max_bytes + 1 - len(data)
        data += chunk[:room] if unpack is None else _unpack(unpack, chunk, room)
        if len(data) > max_bytes:
            return bytes(data[:max_bytes]), False
    if unpack is not None and not unpack.eof and data:
        raise _PassingError("the answer ends too early (in the middle of gzip)")
    return bytes(data), True


def _unpack(unpack: Any, chunk: bytes, n_bytes: int) -> bytes:
    """Unpack a chunk of gzip, to at most some bytes."""
    try:
        words: bytes = unpack.decompress(chunk, n_bytes)
    except zlib.error as exc:
        raise _PassingError(f"the answer is no gzip ({one_line(exc)})") from exc
    return words


def _read_type(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower()


def _describe(exc: Exception) -> str:
    """Say in a few words why no answer came."""
    words = one_line(exc)
    if isinstance(exc, httpx.RemoteProtocolError):
        return f"the answer ends too early ({words})"
    if isinstance(exc, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(exc, httpx.ConnectError):
        return f"cannot connect to {quote(exc.request.url.host)} ({words or type(exc).__name__})"
    return f"the connection failed ({words or type(exc).__name__})"


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return for how long a service asks to wait [s]: a number of seconds, or a date.

    Parameters
    ----------
    headers : mapping of str to str
        Those of the answer.

    Returns
    -------
    float or None
        Not negative; None if it does not say so, or not in a form that HTTP knows.
    """
    words = headers.get("retry-after", "").strip()
    if words.isascii() and words.isdecimal():
        return float(words[:12])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(words).timestamp() - time.time())
    return None


def name_agent(contact: str | None = None) -> str:
    """Return the User-Agent: galfig, its version, its address where it has one, and the user's.

    Parameters
    ----------
    contact : str, optional
        Address of the user; by default, that of ``GALFIG_CONTACT``.

    Raises
    ------
    ConfigError
        If that is no address of one line in ASCII.
    """
    told = os.environ.get(CONTACT, "") if contact is None else contact
    is_plain = told.isascii() and told.isprintable() and len(told) <= 200
    if not is_plain or any(char in '()<>;"\\' for char in told):
        raise ConfigError(
            f"`contact` {quote(told)}: expected an address of mail or of a page, in ASCII"
        )
    ways = [f"+{address}" for address in _list_addresses()] + [f"contact: {told}"] * bool(told)
    about = "; ".join(["Grad-CAM figures of galaxies", *ways])
    return f"galfig/{galfig.__version__} ({about}) python-httpx/{httpx.__version__}"


def _list_addresses() -> list[str]:
    """Return the address of the project, as the package that is installed states it."""
    try:
        stated = importlib.metadata.metadata("galfig").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    addresses = [words.partition(",")[2].strip() for words in stated]
    return [address for address in addresses if address.startswith("https://")][:1]


def run_loop(job: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end in an event loop of its own.

    A signal cancels it, so that it ends in order; then the handler that the signal had is called.
    Where a loop runs already, as in a notebook, the coroutine runs in another thread.

    Parameters
    ----------
    job : coroutine
        What to run.

    Returns
    -------
    object
        What it returns.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_here(job)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, job).result()


def _run_here(job: Coroutine[Any, Any, Result]) -> Result:
    import signal
    import threading

    # A signal that is ignored stays so, and SIGTERM by default ends the process at once.
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if callable(handler)}
    caught: list[signal.Signals] = []

    async def run() -> Result:
        task = asyncio.current_task()

        def stop(number: signal.Signals) -> None:
            caught.append(number)
            if task is not None:
                task.cancel()

        for number in before:
            # Windows has no such handlers.
            with suppress(NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(number, stop, number)
        return await job

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        if not caught:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    handler = before[caught[0]]
    if callable(handler):
        handler(caught[0], None)
    raise KeyboardInterrupt
