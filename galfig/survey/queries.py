"""Queries: SQL for SkyServer, asked for page by page, and its answers."""

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

from galfig.errors import ConfigError, SurveyError
from galfig.runtime.inputs import read_regular
from galfig.runtime.messages import UNPRINTABLE, one_line, quote
from galfig.survey.checks import describe_page
from galfig.survey.service import Answer, RefusedAnswerError

DEFAULT = "wu-boada-2019.sql"
MAX_QUERY, MAX_WHERE = 50_000, 20_000
# A stride through the identifiers that is as even as can be: they are taken modulo a prime, and
# multiplied by the golden ratio of it. SQL Server and Python compute it exactly, in 64 bits.
PRIME, GOLDEN = 2_147_483_647, 1_327_217_885
# Texts and names in quotes, in which nothing is a comment, and what separates words.
_PARTS = re.compile(
    r"""'(?:[^']|'')*' | \[[^\]]*\] | "[^"]*" | (?: --[^\n]* | /\*.*?\*/ | \s )+""",
    re.DOTALL | re.VERBOSE,
)
_ERROR = re.compile(r"skyserver error|error_message|\"?errormessage", re.IGNORECASE)
_BREAKS = re.compile(r"[\t\r\n]")
_NOTHING = re.compile(rb"\s*no (objects|rows|entries) have been found", re.IGNORECASE)
_WRAPPED = (
    "it becomes a table of 'SELECT TOP k * FROM (...) AS sample', so that it needs columns objID, "
    "ra and dec, a name for each column, and no WITH, INTO, ORDER BY or second statement"
)


class Query(NamedTuple):
    """A query of which pages are asked for.

    Attributes
    ----------
    inner : str
        SQL that gives a table with columns objID, ra and dec, in one line and without comments.
    where : str
        A condition on the columns of this table; "" for none.
    n : int
        Number of galaxies; 0 for all.
    """

    inner: str
    where: str = ""
    n: int = 0

    def write_page(self, n_rows: int, after: int | None) -> str:
        """Write the SQL for a page.

        Parameters
        ----------
        n_rows : int
            The largest number of rows.
        after : int or None
            Identifier of the last galaxy of the page before; None for the first page.

        Returns
        -------
        str
            One line.
        """
        key = self._key
        conditions = [f"({self.where})"] if self.where else []
        if after is not None and key == "objID":
            conditions.append(f"objID > {after}")
        elif after is not None:
            last = spread(after)
            conditions.append(f"({key} > {last} OR {key} = {last} AND objID > {after})")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "objID" if key == "objID" else f"{key}, objID"
        return f"SELECT TOP {n_rows} * FROM ({self.inner}) AS sample{where} ORDER BY {order}"

    def place(self, objid: int) -> tuple[int, int]:
        """Return where a galaxy stands in the order of the pages."""
        return (0, objid) if self._key == "objID" else (spread(objid), objid)

    def describe(self) -> str:
        """Return the SQL for all that is asked for, as the record of the folder keeps it."""
        where = f" WHERE ({self.where})" if self.where else ""
        top = f"TOP {self.n} " if self.n else ""
        order = "objID" if self._key == "objID" else f"{self._key}, objID"
        return f"SELECT {top}* FROM ({self.inner}) AS sample{where} ORDER BY {order}"

    @property
    def _key(self) -> str:
        # All galaxies need no sample, and servers have an index of objID.
        return f"(objID % {PRIME}) * {GOLDEN} % {PRIME}" if self.n else "objID"


def spread(objid: int) -> int:
    """Return the place of a galaxy in a sample; see ``PRIME``.

    objIDs of SDSS count runs, fields and objects, so that the first of them by number are one
    stripe of the sky. The first of them in this order are spread over all of it, they are always
    the same ones, and fewer of them are a part of more.
    """
    return objid % PRIME * GOLDEN % PRIME


def load_query(path: Path | None) -> str:
    """Read a query.

    Parameters
    ----------
    path : Path or None
        A file of the user; None for that of `DEFAULT`.

    Returns
    -------
    str
        The query in one line, without comments.

    Raises
    ------
    ConfigError
        If it cannot be read, or is no single query.
    """
    path = _find_default() if path is None else path
    try:
        text = read_regular(path, MAX_QUERY).decode()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: is no text in UTF-8, expected SQL") from exc
    return flatten(text, str(path))


def flatten(text: str, where: str) -> str:
    """Write SQL in one line, without comments and the semicolon at its end.

    Parameters
    ----------
    text : str
        The query.
    where : str
        Where it is from, for messages.

    Returns
    -------
    str
        The same for the server; texts in quotes are kept.

    Raises
    ------
    ConfigError
        If it is no single query that begins with SELECT.
    """

    def shorten(part: re.Match[str]) -> str:
        return part[0] if part[0][0] in "'[\"" else " "

    line = _PARTS.sub(shorten, text).strip().rstrip("; ")
    bare = re.sub(r"'(?:[^']|'')*'", "''", line)
    if not re.match(r"select\b", bare, re.IGNORECASE) or ";" in bare:
        raise ConfigError(f"{where}: {quote(line)}, expected one query with SELECT; {_WRAPPED}")
    if re.search(r"\binto\b|\border by\b(?!.*\))", bare, re.IGNORECASE):
        raise ConfigError(f"{where}: has INTO or ORDER BY, expected neither; {_WRAPPED}")
    return line


def check_where(condition: str | None) -> str:
    """Check a condition of the user, and write it in one line.

    Raises
    ------
    ConfigError
        If it holds a semicolon, a comment, or brackets that do not match.
    """
    if condition is None:
        return ""
    bare = re.sub(r"'(?:[^']|'')*'", "''", condition)
    depth = 0
    for char in bare:
        depth += (char == "(") - (char == ")")
        if depth < 0:
            break
    if (
        not bare.strip()
        or ";" in bare
        or "--" in bare
        or "/*" in bare
        or depth
        or len(condition) > MAX_WHERE
        or UNPRINTABLE.search(_BREAKS.sub("", condition))
        or "'" in (bare.replace("''", ""))
    ):
        raise ConfigError(
            f"`where` {quote(condition)}: expected one condition in SQL on columns of the catalog, "
            "such as 'z < 0.1 AND petroMag_r < 17'"
        )
    return " ".join(condition.split()) if "'" not in condition else condition.strip()


def _find_default() -> Path:
    """Return the query that galfig brings: beside this module where it is installed."""
    here = Path(__file__).with_name(DEFAULT)
    return here if here.is_file() else Path(__file__).parents[2] / "data" / DEFAULT


class Page(NamedTuple):
    """A page of a catalog: names of the columns, and rows of text. Both are empty for no answer."""

    names: list[str]
    rows: list[list[str]]


def read_page(answer: Answer) -> Page:
    """Read the answer of SqlSearch in CSV, whose first line is ``#Table1``.

    Parameters
    ----------
    answer : Answer
        What the service answered, with status 200.

    Returns
    -------
    Page
        If the answer does not end with a line break, its last row may be torn. It is then left out
        if there are others, so that the next page begins with it.

    Raises
    ------
    RefusedAnswerError
        If it is an error of the service, or no table.
    """
    text = answer.data.decode("utf-8-sig", errors="replace")
    if _NOTHING.match(answer.data):
        return Page([], [])
    if text.lstrip()[:1] in ("<", "{") or _ERROR.search(text[:300]):
        is_final = _ERROR.search(text[:2000]) is not None
        raise RefusedAnswerError(f"answers {describe_page(answer.data, 300)}", is_final=is_final)
    if text.startswith("#"):
        text = text[len(text.splitlines()[0]) :]
    # Terminals and other programs show the catalog: it holds numbers and words, and no escapes.
    if strange := UNPRINTABLE.search(_BREAKS.sub("", text)):
        raise RefusedAnswerError(f"a table with the character {strange[0]!r}, expected plain text")
    try:
        found = [
            [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), strict=True)
        ]
    except csv.Error as exc:
        raise RefusedAnswerError(f"no table of CSV ({one_line(exc)})") from exc
    found = [row for row in found if any(row)]
    if not found:
        return Page([], [])
    names, *rows = found
    if rows and not text.endswith("\n"):
        rows = rows[:-1] if len(rows) > 1 else rows
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise RefusedAnswerError(
                f"row {number} of its table has {len(row)} cells, expected {len(names)}: "
                f"{quote(','.join(row))}"
            )
    if not rows and len(names) == 1:
        # One cell is no table: a message, such as one of a proxy.
        raise RefusedAnswerError(f"answers {describe_page(answer.data, 300)}")
    return Page(names, rows)


def find_columns(names: list[str], wanted: tuple[str, ...], title: str) -> list[int]:
    """Return the positions of columns, in any case of their letters.

    Raises
    ------
    SurveyError
        If one is missing or there twice.
    """
    lower = [name.lower() for name in names]
    for name in wanted:
        if (n_found := lower.count(name.lower())) != 1:
            found = ", ".join(map(quote, names[:12]))
            raise SurveyError(
                f"{title}: {n_found} columns {name!r} among {found}, expected one; {_WRAPPED}"
            )
    return [lower.index(name.lower()) for name in wanted]
