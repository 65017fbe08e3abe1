"""Services: what galfig knows of one that gives cutouts, and how it is asked for one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from galfig.errors import ConfigError
from galfig.runtime.messages import quote

Kind = Literal["sdss", "legacy", "hips"]


class Answer(NamedTuple):
    """What a service answered, with status 200.

    Attributes
    ----------
    content_type : str
        Its media type, in small letters and without parameters, such as "image/jpeg".
    data : bytes
        The body, decoded.
    """

    content_type: str
    data: bytes


class RefusedAnswerError(Exception):
    """An answer is not what was asked for; the text says what it is.

    Attributes
    ----------
    is_final : bool
        Whether the same would come again: a picture without sky, say, but not a page of HTML from
        a server that is busy.
    """

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Target(NamedTuple):
    """A galaxy to be fetched: identifier, and position [deg, ICRS]."""

    objid: str
    ra: float
    dec: float


def trust_place(target: Target, data: bytes) -> None:
    """Take a picture, which does not say where it was taken."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service of cutouts, and the cutouts that one run asks it for.

    Attributes
    ----------
    kind : {"sdss", "legacy", "hips"}
        As in `galfig.records.FetchRecord`; also the key of its acknowledgement.
    title : str
        What messages call it, such as "SkyServer".
    own_address : str
        Address of the service itself, such as "https://skyserver.sdss.org".
    address : str
        The address that is asked: its own, or that of a mirror or a test.
    path : str
        Path of the cutouts below the address.
    release : str
        Data release, layer or HiPS.
    size : int
        Side of a cutout [pixels].
    pixel_scale : float
        [arcsec/pixel]
    suffix : str
        Suffix of the files, such as ".jpg".
    bands : str or None
        Bands in the order red, green, blue; None if the service chooses them.
    is_north_up : bool
        Whether north is up and east to the left in each cutout.
    bytes_each : int
        What a cutout takes, to estimate a download [byte].
    max_bytes : int
        The largest answer that is read [byte].
    make_params : callable
        Takes a `Target`, and returns the parameters of the request.
    accept : callable
        Takes an `Answer`, and returns the bytes of the file, which may be others; raises
        `RefusedAnswerError` for what is no such cutout. See `galfig.survey.checks`.
    check_file : callable
        Takes the bytes of a file that an earlier run may have written; raises `RefusedAnswerError`
        for what is no such cutout.
    check_place : callable
        Takes a `Target` and the bytes of its file; raises `RefusedAnswerError` if they show
        another place. Pictures do not say it.
    """

    kind: Kind
    title: str
    own_address: str
    address: str
    path: str
    release: str
    size: int
    pixel_scale: float
    suffix: str = ".jpg"
    bands: str | None = None
    is_north_up: bool = True
    bytes_each: int
    max_bytes: int
    make_params: Callable[[Target], Mapping[str, str]]
    accept: Callable[[Answer], bytes]
    check_file: Callable[[bytes], object]
    check_place: Callable[[Target, bytes], object] = trust_place

    def accept_of(self, target: Target, answer: Answer) -> bytes:
        """Return the bytes of the file of a galaxy; raise `RefusedAnswerError` for other answers.

        Parameters
        ----------
        target : Target
            The galaxy.
        answer : Answer
            What the service answered.
        """
        data = self.accept(answer)
        self.check_place(target, data)
        return data

    @property
    def is_mirror(self) -> bool:
        """Whether another address than the service's own is asked."""
        return self.address != self.own_address


def parse_base(words: str | None, own_address: str, path: str) -> str:
    """Check the address of a mirror.

    Parameters
    ----------
    words : str or None
        What the user gave; None for the service's own address.
    own_address : str
        The latter.
    path : str
        Path of what is asked for. An address may end with the folders that it begins with, as where
        one copies it from a browser.

    Returns
    -------
    str
        Scheme, host and path, without a slash at the end, and without these folders.

    Raises
    ------
    ConfigError
        If it is no address of http or https, holds a password, or has a query.
    """
    if words is None:
        return own_address
    expected = "expected an address such as 'https://skyserver.example.org'"
    try:
        parts = urlsplit(words)
        # The port is parsed only here.
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_address = is_address and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address or any(char.isspace() or not char.isprintable() for char in words):
        raise ConfigError(f"`base_url` {quote(words)}: {expected}")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"`base_url`: holds a name or a password, {expected}")
    if parts.query or parts.fragment:
        raise ConfigError(f"`base_url` {quote(words)}: has a query or a fragment, {expected}")
    address = words.rstrip("/")
    folders = path.split("/")[1:-1]
    for n_folders in range(len(folders), 0, -1):
        if parts.path.rstrip("/").endswith(end := "/" + "/".join(folders[:n_folders])):
            return address.removesuffix(end)
    return address


def require_between(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError if a number is outside bounds, or is not a number.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : float
        Its value.
    low, high : float
        Least and largest permitted value.
    """
    if not low <= value <= high:
        raise ConfigError(f"`{name}` {value:g}: expected a number from {low:g} to {high:g}")
